-- Extensions, one with configuration tables (the tests bring it along).
CREATE SCHEMA ext;
CREATE EXTENSION hstore SCHEMA ext;
CREATE EXTENSION citext SCHEMA ext CASCADE;
CREATE EXTENSION ltree SCHEMA ext;
CREATE EXTENSION file_fdw SCHEMA ext;
CREATE EXTENSION intarray SCHEMA ext;
COMMENT ON EXTENSION hstore IS 'with another comment';
SET search_path TO ext, pg_catalog;
CREATE TABLE extended (a hstore, b citext UNIQUE, c ltree, d hstore[], e integer[]);
INSERT INTO extended VALUES ('"a b"=>NULL, "c\"d"=>"e,f"', 'CaSe', 'Top.Science', ARRAY['x=>1'::hstore, NULL], '{1,2}'), ('', '', '', '{}', '{}');
CREATE INDEX ON extended USING gist (c); CREATE INDEX ON extended USING gin (a); CREATE INDEX ON extended USING gin (e gin__int_ops);
GRANT EXECUTE ON FUNCTION ext.hstore_to_json(hstore) TO fid_reader; REVOKE EXECUTE ON FUNCTION ext.hstore_to_json(hstore) FROM PUBLIC;
SELECT count(*) > 0 AS has_conf FROM pg_available_extensions WHERE name = 'fidelity_conf' \gset
\if :has_conf
CREATE EXTENSION fidelity_conf SCHEMA ext;
INSERT INTO conf VALUES (100, 'mine'), (101, 'mine too'); INSERT INTO conf_whole VALUES ('added'); INSERT INTO inner_table VALUES ('not mine to keep');
SELECT nextval('conf_seq'), nextval('conf_seq'); GRANT SELECT ON conf TO fid_reader; REVOKE ALL ON inner_table FROM PUBLIC;
CREATE TABLE points_at_conf (id integer REFERENCES conf); INSERT INTO points_at_conf VALUES (100);
\endif
