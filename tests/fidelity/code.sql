-- Functions, procedures, aggregates, operators, casts, triggers, text search, event triggers.
CREATE SCHEMA code;
SET search_path TO code, pg_catalog;
CREATE FUNCTION plus_one(a integer DEFAULT 1, VARIADIC more integer[] DEFAULT '{}') RETURNS integer LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE LEAKPROOF COST 7 AS 'SELECT a + 1';
CREATE FUNCTION "odd ""name"(INOUT a text, OUT b text) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path TO code, pg_temp SET work_mem TO '7MB'
  AS $body$ BEGIN b := $inner$'quoted' "and" \$inner$ || a; END $body$;
CREATE FUNCTION standard(a integer) RETURNS integer LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT code.plus_one(a) + 1; END;
CREATE FUNCTION table_of(n integer) RETURNS TABLE (x integer, y text) LANGUAGE sql ROWS 3 AS 'SELECT g, g::text FROM generate_series(1, n) AS g';
CREATE PROCEDURE proceed(INOUT a integer) LANGUAGE plpgsql AS 'BEGIN COMMIT; a := a + 1; END';
CREATE FUNCTION plus_one(a text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT a || 1';
ALTER FUNCTION "odd ""name"(text) OWNER TO "fid ""Owner""";
ALTER PROCEDURE proceed OWNER TO "fid writer";
REVOKE ALL ON FUNCTION plus_one(integer, integer[]) FROM PUBLIC; GRANT EXECUTE ON FUNCTION plus_one(integer, integer[]) TO fid_reader WITH GRANT OPTION;
COMMENT ON FUNCTION plus_one(text) IS 'overloaded'; COMMENT ON PROCEDURE proceed IS 'a procedure';
CREATE AGGREGATE joined(text) (SFUNC = textcat, STYPE = text, INITCOND = '', PARALLEL = SAFE);
CREATE FUNCTION add_up(state integer, VARIADIC a integer[]) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT state + coalesce(a[1], 0)';
CREATE AGGREGATE total(VARIADIC integer[]) (SFUNC = add_up, STYPE = integer, INITCOND = '0');
COMMENT ON AGGREGATE joined(text) IS 'an aggregate'; GRANT EXECUTE ON FUNCTION joined(text) TO fid_reader; ALTER AGGREGATE joined(text) OWNER TO "fid writer";

CREATE FUNCTION row_n() RETURNS bigint LANGUAGE internal WINDOW IMMUTABLE AS 'window_row_number';
CREATE FUNCTION series(integer, integer) RETURNS SETOF integer LANGUAGE internal IMMUTABLE STRICT ROWS 77 SUPPORT generate_series_int4_support AS 'generate_series_int4';
CREATE AGGREGATE moving(integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0', COMBINEFUNC = int4pl, MSFUNC = int4pl, MINVFUNC = int4mi, MSTYPE = integer, MINITCOND = '0', PARALLEL = SAFE);
CREATE AGGREGATE ordered(float8 ORDER BY anyelement) (SFUNC = ordered_set_transition, STYPE = internal, FINALFUNC = percentile_disc_final, FINALFUNC_EXTRA);
CREATE AGGREGATE hypothetical(VARIADIC "any" ORDER BY VARIADIC "any") (SFUNC = ordered_set_transition_multi, STYPE = internal, FINALFUNC = rank_final, FINALFUNC_EXTRA, HYPOTHETICAL);

-- A base type, one that was never finished, a language, a transform.
CREATE TYPE based; CREATE FUNCTION based_in(cstring) RETURNS based LANGUAGE internal IMMUTABLE STRICT AS 'textin'; CREATE FUNCTION based_out(based) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE based (INPUT = based_in, OUTPUT = based_out, LIKE = text, CATEGORY = 'S', DEFAULT = 'un,"set'); CREATE TYPE never_finished;
CREATE TABLE of_based (b based, c based[]); INSERT INTO of_based VALUES (E'\t\\N', '{"a,b",NULL}'), ('', '{}'), (NULL, NULL);
COMMENT ON TYPE based IS 'a base type'; COMMENT ON TYPE never_finished IS 'a shell';
CREATE FUNCTION handling() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE FUNCTION handling_inline(internal) RETURNS void LANGUAGE c STRICT AS '$libdir/plpgsql', 'plpgsql_inline_handler'; CREATE FUNCTION validating(oid) RETURNS void LANGUAGE c STRICT AS '$libdir/plpgsql', 'plpgsql_validator';
CREATE TRUSTED LANGUAGE "pl ""too" HANDLER handling INLINE handling_inline VALIDATOR validating; COMMENT ON LANGUAGE "pl ""too" IS 'a language'; GRANT USAGE ON LANGUAGE "pl ""too" TO fid_reader WITH GRANT OPTION;
CREATE FUNCTION in_it(a integer) RETURNS integer LANGUAGE "pl ""too" IMMUTABLE AS 'BEGIN RETURN a * 2; END';
CREATE TABLE by_it (a integer CHECK (code.in_it(a) > 0)); INSERT INTO by_it VALUES (1), (2); CREATE INDEX ON by_it (in_it(a));
CREATE TRANSFORM FOR integer LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal)); COMMENT ON TRANSFORM FOR integer LANGUAGE sql IS 'a transform';

CREATE TYPE whole AS (n integer);
CREATE FUNCTION whole_less(whole, whole) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1.n < $2.n';
CREATE FUNCTION whole_equal(whole, whole) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1.n = $2.n';
CREATE FUNCTION whole_compare(whole, whole) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT sign($1.n - $2.n)::int';
CREATE OPERATOR <# (LEFTARG = whole, RIGHTARG = whole, FUNCTION = whole_less, COMMUTATOR = >#, RESTRICT = scalarltsel, JOIN = scalarltjoinsel);
CREATE OPERATOR ># (LEFTARG = whole, RIGHTARG = whole, FUNCTION = whole_less, COMMUTATOR = <#);
CREATE OPERATOR =# (LEFTARG = whole, RIGHTARG = whole, FUNCTION = whole_equal, COMMUTATOR = =#, MERGES);
CREATE OPERATOR !# (RIGHTARG = integer, FUNCTION = standard);
COMMENT ON OPERATOR =# (whole, whole) IS 'an operator'; ALTER OPERATOR =# (whole, whole) OWNER TO "fid writer";
CREATE OPERATOR FAMILY wholes USING btree;
CREATE OPERATOR CLASS whole_ops DEFAULT FOR TYPE whole USING btree FAMILY wholes AS OPERATOR 1 <#, OPERATOR 3 =#, OPERATOR 5 >#, FUNCTION 1 whole_compare(whole, whole);
ALTER OPERATOR FAMILY wholes USING btree ADD OPERATOR 1 < (integer, smallint), OPERATOR 3 = (integer, smallint), FUNCTION 1 (integer, smallint) btint42cmp(integer, smallint);
CREATE OPERATOR FAMILY "nothing ""in it" USING hash; COMMENT ON OPERATOR FAMILY wholes USING btree IS 'a family'; COMMENT ON OPERATOR CLASS whole_ops USING btree IS 'a class'; ALTER OPERATOR CLASS whole_ops USING btree OWNER TO "fid writer";
CREATE TABLE wholes_table (w whole);
INSERT INTO wholes_table SELECT ROW(n)::whole FROM generate_series(1, 20) AS n;
CREATE INDEX ON wholes_table (w whole_ops);
CREATE INDEX ON wholes_table (plus_one((w).n), standard((w).n));
CREATE FUNCTION to_whole(text) RETURNS whole LANGUAGE sql IMMUTABLE AS 'SELECT ROW($1::integer)::code.whole';
CREATE CAST (text AS whole) WITH FUNCTION to_whole(text) AS ASSIGNMENT;
CREATE CAST (whole AS json) WITH INOUT;
COMMENT ON CAST (text AS whole) IS 'a cast';
CREATE COLLATION "my C" (LOCALE = 'C'); COMMENT ON COLLATION "my C" IS 'a collation'; ALTER COLLATION "my C" OWNER TO "fid writer";
CREATE TABLE collated (a text COLLATE "my C"); INSERT INTO collated VALUES ('ä'), ('a');
CREATE CONVERSION latin FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8; COMMENT ON CONVERSION latin IS 'a conversion';
CREATE TEXT SEARCH DICTIONARY plain (TEMPLATE = simple, STOPWORDS = english, ACCEPT = false);
CREATE TEXT SEARCH CONFIGURATION searching (COPY = english); ALTER TEXT SEARCH CONFIGURATION searching ALTER MAPPING FOR word, asciiword WITH plain, english_stem;
ALTER TEXT SEARCH CONFIGURATION searching DROP MAPPING FOR url;
CREATE TEXT SEARCH TEMPLATE lexing (LEXIZE = dsimple_lexize, INIT = dsimple_init); CREATE TEXT SEARCH PARSER parsing (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end, LEXTYPES = prsd_lextype);
COMMENT ON TEXT SEARCH CONFIGURATION searching IS 'a configuration'; ALTER TEXT SEARCH CONFIGURATION searching OWNER TO "fid writer";
CREATE TABLE searched (t text, v tsvector GENERATED ALWAYS AS (to_tsvector('code.searching', t)) STORED);
INSERT INTO searched VALUES ('The quick foxes'), ('http://example.com/x'); CREATE INDEX ON searched USING gin (v);
CREATE ACCESS METHOD heap_too TYPE TABLE HANDLER heap_tableam_handler; COMMENT ON ACCESS METHOD heap_too IS 'an access method';
CREATE TABLE in_heap_too (a integer) USING heap_too; INSERT INTO in_heap_too SELECT * FROM generate_series(1, 5000);

CREATE TABLE watched (id serial PRIMARY KEY, a integer, b text);
CREATE TABLE journal (what text, old_row watched, new_row watched);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path TO code AS $$
BEGIN IF tg_level = 'ROW' THEN INSERT INTO code.journal VALUES (tg_op, old, new); END IF; RETURN coalesce(new, old); END $$;
CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a trigger was fired'; END $$;
CREATE TRIGGER watching AFTER INSERT OR UPDATE OF a, b OR DELETE ON watched FOR EACH ROW EXECUTE FUNCTION watch();
CREATE TRIGGER "stated ""x" AFTER UPDATE ON watched REFERENCING OLD TABLE AS before NEW TABLE AS after FOR EACH STATEMENT EXECUTE FUNCTION watch('an', 'argument''s', E'\\');
INSERT INTO watched (a, b) VALUES (1, 'x'), (2, NULL); UPDATE watched SET b = 'y' WHERE a = 1; DELETE FROM watched WHERE a = 2;
CREATE TRIGGER off BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION never(); ALTER TABLE watched DISABLE TRIGGER off;
CREATE TRIGGER on_replica BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION never(); ALTER TABLE watched ENABLE REPLICA TRIGGER on_replica;
CREATE TRIGGER always BEFORE INSERT OR TRUNCATE ON watched EXECUTE FUNCTION never(); ALTER TABLE watched ENABLE ALWAYS TRIGGER always;
CREATE TRIGGER conditional BEFORE UPDATE ON watched FOR EACH ROW WHEN (old.a IS DISTINCT FROM new.a AND new.b <> 'x;''') EXECUTE FUNCTION never();
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON watched DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION never();
CREATE VIEW watched_view AS SELECT * FROM watched; CREATE TRIGGER instead INSTEAD OF INSERT ON watched_view FOR EACH ROW EXECUTE FUNCTION never();
CREATE TABLE watched_parts (a integer) PARTITION BY LIST (a); CREATE TABLE watched_part PARTITION OF watched_parts FOR VALUES IN (1); CREATE TABLE watched_part2 PARTITION OF watched_parts FOR VALUES IN (2);
INSERT INTO watched_parts VALUES (1), (1), (2); CREATE TRIGGER cloned BEFORE INSERT ON watched_parts FOR EACH ROW EXECUTE FUNCTION never();
ALTER TABLE watched_part DISABLE TRIGGER cloned; ALTER TABLE watched_part2 ENABLE ALWAYS TRIGGER cloned;
COMMENT ON TRIGGER off ON watched IS 'off';
-- Would stop every statement of a restore that came too late.
CREATE FUNCTION forbid() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN IF current_setting('fidelity.forbid', true) = 'on' THEN RAISE EXCEPTION 'an event trigger was fired'; END IF; END $$;
CREATE EVENT TRIGGER forbidding ON ddl_command_start EXECUTE FUNCTION forbid();
CREATE EVENT TRIGGER "off ""too" ON sql_drop WHEN TAG IN ('DROP TABLE', 'DROP VIEW') EXECUTE FUNCTION forbid(); ALTER EVENT TRIGGER "off ""too" DISABLE;
CREATE EVENT TRIGGER rewriting ON table_rewrite EXECUTE FUNCTION forbid(); ALTER EVENT TRIGGER rewriting ENABLE REPLICA; COMMENT ON EVENT TRIGGER rewriting IS 'an event trigger';
