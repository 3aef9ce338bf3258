-- Who may do what.
CREATE SCHEMA locked AUTHORIZATION "fid ""Owner""";
CREATE SCHEMA shared;
SET search_path TO shared, pg_catalog;
GRANT USAGE ON SCHEMA locked TO fid_reader WITH GRANT OPTION; GRANT ALL ON SCHEMA locked TO "fid_группа";
GRANT USAGE ON SCHEMA shared TO PUBLIC;
REVOKE CREATE ON SCHEMA public FROM PUBLIC; GRANT USAGE, CREATE ON SCHEMA public TO "fid writer"; COMMENT ON SCHEMA public IS E'not\nthe standard';
CREATE TABLE locked.rows (id integer, who text); ALTER TABLE locked.rows OWNER TO "fid ""Owner""";
INSERT INTO locked.rows SELECT n, 'w' || n % 3 FROM generate_series(1, 50) AS n;
ALTER TABLE locked.rows ENABLE ROW LEVEL SECURITY; ALTER TABLE locked.rows FORCE ROW LEVEL SECURITY;
CREATE POLICY nobody ON locked.rows AS RESTRICTIVE USING (false);
CREATE POLICY "some ""rows" ON locked.rows FOR SELECT TO fid_reader, "fid_группа" USING (who = current_user);
CREATE POLICY inserting ON locked.rows FOR INSERT TO PUBLIC WITH CHECK (id > 0 AND who <> 'x''y'); COMMENT ON POLICY nobody ON locked.rows IS 'a policy';
CREATE TABLE enabled_only (a integer); ALTER TABLE enabled_only ENABLE ROW LEVEL SECURITY; INSERT INTO enabled_only VALUES (1), (2);
CREATE TABLE forced_only (a integer); ALTER TABLE forced_only FORCE ROW LEVEL SECURITY; INSERT INTO forced_only VALUES (1);

CREATE TABLE granted (a integer, b text, c text); ALTER TABLE granted OWNER TO "fid ""Owner""";
INSERT INTO granted VALUES (1, 'b', 'c');
GRANT USAGE ON SCHEMA shared TO "fid ""Owner""";
SET SESSION AUTHORIZATION "fid ""Owner""";
GRANT SELECT, INSERT ON granted TO fid_reader WITH GRANT OPTION; GRANT UPDATE (b), REFERENCES (a, c) ON granted TO "fid writer" WITH GRANT OPTION; GRANT TRIGGER ON granted TO PUBLIC;
SET SESSION AUTHORIZATION fid_reader; GRANT SELECT ON shared.granted TO "fid_группа" WITH GRANT OPTION;
SET SESSION AUTHORIZATION "fid_группа"; GRANT SELECT ON shared.granted TO PUBLIC;
SET SESSION AUTHORIZATION "fid writer"; GRANT UPDATE (b) ON shared.granted TO fid_reader;
RESET SESSION AUTHORIZATION;
REVOKE DELETE, TRUNCATE ON granted FROM "fid ""Owner""";
CREATE TABLE by_boss (a integer); ALTER TABLE by_boss OWNER TO fid_boss; INSERT INTO by_boss VALUES (1); REVOKE ALL ON by_boss FROM fid_boss; GRANT SELECT ON by_boss TO PUBLIC;
CREATE TABLE without_rights (a integer); INSERT INTO without_rights VALUES (1); ALTER TABLE without_rights OWNER TO "fid writer"; REVOKE ALL ON without_rights FROM "fid writer";
REVOKE ALL ON LANGUAGE plpgsql FROM PUBLIC; GRANT USAGE ON LANGUAGE plpgsql TO "fid ""Owner""", "fid writer";
CREATE TYPE kept AS ENUM ('x'); REVOKE USAGE ON TYPE kept FROM PUBLIC; GRANT USAGE ON TYPE kept TO fid_reader;
CREATE DOMAIN kept_too AS integer; REVOKE USAGE ON DOMAIN kept_too FROM PUBLIC;

ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO fid_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE "fid ""Owner""" IN SCHEMA locked GRANT ALL ON TABLES TO "fid writer" WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE "fid ""Owner""" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE "fid writer" REVOKE ALL ON TABLES FROM "fid writer";
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SEQUENCES TO PUBLIC; ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM PUBLIC; ALTER DEFAULT PRIVILEGES GRANT CREATE ON SCHEMAS TO "fid_группа";

-- Made after the defaults, and then changed back.
CREATE TABLE after_defaults (a serial); INSERT INTO after_defaults VALUES (1); CREATE TABLE after_defaults_revoked (a integer); REVOKE ALL ON after_defaults_revoked FROM fid_reader;
CREATE FUNCTION whoami() RETURNS text LANGUAGE sql SECURITY DEFINER SET search_path TO '' AS 'SELECT current_user::text'; ALTER FUNCTION whoami OWNER TO "fid ""Owner"""; REVOKE ALL ON FUNCTION whoami FROM PUBLIC;
GRANT SELECT ON pg_catalog.pg_authid TO fid_reader;
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(double precision) FROM PUBLIC; GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) TO "fid writer";
CREATE FOREIGN DATA WRAPPER nowhere; GRANT USAGE ON FOREIGN DATA WRAPPER nowhere TO "fid writer";
CREATE SERVER "far ""away" TYPE 'x' VERSION '1' FOREIGN DATA WRAPPER nowhere OPTIONS (host 'h''h', "Odd Option" ''); GRANT USAGE ON FOREIGN SERVER "far ""away" TO fid_reader WITH GRANT OPTION;
CREATE USER MAPPING FOR PUBLIC SERVER "far ""away"; CREATE USER MAPPING FOR fid_reader SERVER "far ""away" OPTIONS (password 's''ecret');
CREATE FOREIGN TABLE far_rows (a integer OPTIONS (x 'y'), b text NOT NULL DEFAULT 'b') SERVER "far ""away" OPTIONS (t 'u'); GRANT SELECT (a) ON far_rows TO PUBLIC; COMMENT ON SERVER "far ""away" IS 'a server';
CREATE TABLE far_parts (a integer, b text) PARTITION BY LIST (a); CREATE TABLE near_part PARTITION OF far_parts FOR VALUES IN (2); INSERT INTO far_parts VALUES (2, 'near');
CREATE FOREIGN TABLE far_part PARTITION OF far_parts FOR VALUES IN (1) SERVER "far ""away"; CREATE TABLE near_parent (a integer); INSERT INTO near_parent VALUES (1); CREATE FOREIGN TABLE far_child (c integer) INHERITS (near_parent) SERVER "far ""away";
CREATE VIEW seen AS SELECT a, b FROM granted; GRANT SELECT (a), UPDATE (b) ON seen TO fid_reader WITH GRANT OPTION; GRANT SELECT ON seen TO pg_monitor;
SELECT current_setting('server_version_num')::int >= 180000 AS v18 \gset
\if :v18
ALTER DEFAULT PRIVILEGES FOR ROLE "fid writer" GRANT SELECT ON LARGE OBJECTS TO fid_reader WITH GRANT OPTION;
\endif
