-- Sequences in odd states.
CREATE SCHEMA seqs;
SET search_path TO seqs, pg_catalog;
CREATE SEQUENCE never_used;
CREATE SEQUENCE used; SELECT nextval('used'), nextval('used');
CREATE SEQUENCE not_called; SELECT setval('not_called', 5, false);
CREATE SEQUENCE down AS smallint INCREMENT -3 MINVALUE -100 MAXVALUE 100 START 100 CYCLE CACHE 20; SELECT nextval('down');
CREATE SEQUENCE at_its_end MAXVALUE 2; SELECT nextval('at_its_end'), nextval('at_its_end');
CREATE SEQUENCE at_the_top; SELECT setval('at_the_top', 9223372036854775807);
CREATE SEQUENCE at_the_bottom INCREMENT -1; SELECT setval('at_the_bottom', -9223372036854775808);
CREATE SEQUENCE "odd ""name' \"; SELECT nextval('"odd ""name'' \"');
CREATE SEQUENCE restarted START 7; SELECT nextval('restarted'); ALTER SEQUENCE restarted RESTART WITH 50 INCREMENT 5;
CREATE TABLE owner (a integer DEFAULT nextval('seqs.used'), b integer);
CREATE SEQUENCE owned OWNED BY owner.b; SELECT setval('owned', 1000);
CREATE TABLE elsewhere (c integer);
CREATE SEQUENCE shared AS integer OWNED BY elsewhere.c; ALTER TABLE owner ALTER b SET DEFAULT nextval('shared') + 1;
INSERT INTO owner DEFAULT VALUES;
CREATE UNLOGGED TABLE lost (a serial);
COMMENT ON SEQUENCE used IS 'a sequence';
GRANT USAGE ON SEQUENCE used TO fid_reader; GRANT SELECT, UPDATE ON SEQUENCE owned TO PUBLIC;
SELECT current_setting('server_version_num')::int >= 150000 AS v15 \gset
\if :v15
CREATE UNLOGGED SEQUENCE not_logged; SELECT nextval('not_logged');
\endif
