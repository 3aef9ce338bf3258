-- Views on views, materialized views, rules.
CREATE SCHEMA looks;
SET search_path TO looks, pg_catalog;
CREATE TABLE base (id integer PRIMARY KEY, name text, amount numeric);
INSERT INTO base SELECT n, 'n' || n % 5, n * 1.5 FROM generate_series(1, 50) AS n;
CREATE VIEW first_view AS SELECT *, amount * 2 AS "Twice" FROM base WHERE id > 3 WITH LOCAL CHECK OPTION;
CREATE VIEW second_view WITH (security_barrier) AS SELECT name, sum("Twice") AS total FROM first_view GROUP BY name;
CREATE VIEW grouped AS SELECT id, name, amount FROM base GROUP BY id;
CREATE RECURSIVE VIEW counting (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM counting WHERE n < 10;
CREATE VIEW odd AS SELECT NULL AS "null", '' AS " ", ARRAY[1, 2] AS a, base AS whole FROM base;
CREATE MATERIALIZED VIEW filled AS SELECT * FROM second_view;
CREATE UNIQUE INDEX filled_name ON filled (name);
CREATE MATERIALIZED VIEW filled_from_filled AS SELECT max(total) AS m FROM filled;
CREATE MATERIALIZED VIEW a_filled_earlier_by_name AS SELECT m FROM filled_from_filled;
CREATE MATERIALIZED VIEW not_filled AS SELECT * FROM filled WITH NO DATA;
CREATE MATERIALIZED VIEW stale AS SELECT count(*) AS n FROM base;
INSERT INTO base VALUES (1000, 'after', 1);
ALTER VIEW first_view ALTER COLUMN name SET DEFAULT 'from the view';
ALTER MATERIALIZED VIEW filled OWNER TO "fid ""Owner""";
ALTER MATERIALIZED VIEW filled_from_filled OWNER TO "fid ""Owner""";
ALTER VIEW second_view OWNER TO "fid ""Owner""";
GRANT USAGE ON SCHEMA looks TO "fid ""Owner""", fid_reader;
GRANT SELECT ON first_view TO "fid ""Owner""";
GRANT SELECT (name) ON base TO fid_reader WITH GRANT OPTION;
GRANT SELECT ON filled TO fid_reader;
CREATE VIEW changeable AS SELECT id, name FROM base;
CREATE RULE insertable AS ON INSERT TO changeable DO INSTEAD INSERT INTO base (id, name) VALUES (new.id, new.name) RETURNING id, name;
CREATE RULE "no ""delete" AS ON DELETE TO base WHERE old.id = 1 DO INSTEAD NOTHING;
CREATE RULE off AS ON UPDATE TO base DO ALSO NOTIFY changed;
ALTER TABLE base DISABLE RULE off;
COMMENT ON RULE off ON base IS 'a rule'; COMMENT ON VIEW first_view IS 'a view'; COMMENT ON COLUMN first_view."Twice" IS 'a column'; COMMENT ON MATERIALIZED VIEW filled IS 'filled';
-- A view and a function that need each other.
CREATE VIEW circle AS SELECT 1 AS x;
CREATE FUNCTION of_circle() RETURNS SETOF circle LANGUAGE sql STABLE AS 'SELECT 1';
CREATE OR REPLACE VIEW circle AS SELECT x FROM of_circle();
CREATE TABLE of_a_view (v first_view, w base[]);
INSERT INTO of_a_view VALUES (ROW(1, 'x', 2, 4), ARRAY[ROW(1, 'y', NULL)::base]);
SELECT current_setting('server_version_num')::int >= 150000 AS v15 \gset
\if :v15
CREATE VIEW invoked WITH (security_invoker) AS SELECT * FROM base;
\endif
