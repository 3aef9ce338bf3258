-- Publications, statistics objects, comments on what has none yet.
CREATE SCHEMA told;
SET search_path TO told, pg_catalog;
CREATE TABLE a (id integer PRIMARY KEY, b text, c integer); INSERT INTO a SELECT n, n % 3, n % 5 FROM generate_series(1, 1000) AS n;
CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert');
CREATE PUBLICATION "one ""table" FOR TABLE a; ALTER PUBLICATION "one ""table" OWNER TO fid_boss; COMMENT ON PUBLICATION everything IS 'a publication';
CREATE PUBLICATION "none" WITH (publish_via_partition_root);
CREATE STATISTICS of_columns (dependencies, ndistinct, mcv) ON b, c FROM a; ALTER STATISTICS of_columns SET STATISTICS 300; COMMENT ON STATISTICS of_columns IS 'statistics';
CREATE STATISTICS "of ""expr" ON (c % 2), (lower(b)) FROM a; ALTER STATISTICS of_columns OWNER TO "fid writer"; CREATE STATISTICS shared_stats ON id, b FROM a;
COMMENT ON TABLE a IS E'a\n''table'' \\ "'; COMMENT ON COLUMN a.b IS 'a column'; COMMENT ON CONSTRAINT a_pkey ON a IS 'a key'; COMMENT ON INDEX a_pkey IS 'an index'; COMMENT ON SCHEMA told IS 'a schema';
CREATE TYPE t AS ENUM ('x'); COMMENT ON TYPE t IS 'a type'; COMMENT ON LANGUAGE plpgsql IS 'another comment';
SELECT current_setting('server_version_num')::int >= 150000 AS v15, current_setting('server_version_num')::int >= 170000 AS v17, current_setting('server_version_num')::int >= 180000 AS v18 \gset
\if :v15
CREATE PUBLICATION filtered FOR TABLE a (id, b) WHERE (id > 5 AND b <> 'it''s'); CREATE PUBLICATION of_schema FOR TABLES IN SCHEMA told;
\endif
-- It never connects: it was made without a slot and is disabled.
CREATE SUBSCRIPTION "from ""afar" CONNECTION 'host=nowhere.invalid dbname=x' PUBLICATION p, "q ""r" WITH (connect = false, slot_name = NONE, enabled = false);
\if :v17
CREATE TABLE identity_parts (id bigint GENERATED ALWAYS AS IDENTITY, k integer) PARTITION BY LIST (k); CREATE TABLE identity_part PARTITION OF identity_parts FOR VALUES IN (1); INSERT INTO identity_parts (k) VALUES (1), (1);
CREATE TABLE set_compression (a text STORAGE EXTERNAL COMPRESSION pglz); GRANT MAINTAIN ON set_compression TO fid_reader;
\endif
\if :v18
CREATE TABLE virtual (a integer, b integer GENERATED ALWAYS AS (a * 2) VIRTUAL, c integer GENERATED ALWAYS AS (a * 3) STORED); INSERT INTO virtual (a) SELECT * FROM generate_series(1, 10);
CREATE TABLE loose (a integer, b integer, CONSTRAINT "never ""checked" CHECK (a > 0) NOT ENFORCED, FOREIGN KEY (b) REFERENCES a NOT ENFORCED); INSERT INTO loose VALUES (-1, -1);
CREATE TABLE nulls (a integer, b integer CONSTRAINT "b is ""there" NOT NULL NO INHERIT); INSERT INTO nulls VALUES (NULL, 1); ALTER TABLE nulls ADD CONSTRAINT "a is ""there" NOT NULL a NOT VALID; COMMENT ON CONSTRAINT "a is ""there" ON nulls IS 'a not-null constraint';
CREATE EXTENSION IF NOT EXISTS btree_gist SCHEMA told;
CREATE TABLE periods (id integer, during daterange, PRIMARY KEY (id, during WITHOUT OVERLAPS)); INSERT INTO periods VALUES (1, '[2000-01-01,2001-01-01)'), (1, '[2001-01-01,)');
CREATE TABLE within (id integer, during daterange, FOREIGN KEY (id, PERIOD during) REFERENCES periods (id, PERIOD during)); INSERT INTO within VALUES (1, '[2000-06-01,2002-01-01)');
CREATE COLLATION built_in (PROVIDER = builtin, LOCALE = 'C.UTF-8'); CREATE TABLE uuids (u uuid DEFAULT uuidv7()); INSERT INTO uuids DEFAULT VALUES;
\endif
