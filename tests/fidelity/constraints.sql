-- Constraints that a load in the wrong order would break.
CREATE SCHEMA rules;
SET search_path TO rules, pg_catalog;
CREATE TABLE hen (id integer PRIMARY KEY, egg integer NOT NULL);
CREATE TABLE egg (id integer PRIMARY KEY, hen integer NOT NULL);
INSERT INTO hen SELECT n, n FROM generate_series(1, 100) AS n; INSERT INTO egg SELECT n, n FROM generate_series(1, 100) AS n;
ALTER TABLE hen ADD CONSTRAINT "hen's egg" FOREIGN KEY (egg) REFERENCES egg DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE egg ADD FOREIGN KEY (hen) REFERENCES hen ON DELETE SET NULL ON UPDATE CASCADE;
CREATE TABLE tree (id integer PRIMARY KEY, up integer REFERENCES tree (id) MATCH FULL);
INSERT INTO tree SELECT n, 1 + n % 100 FROM generate_series(1, 100) AS n;
CREATE TABLE old (a integer, b integer, CONSTRAINT pair UNIQUE (a, b) DEFERRABLE);
INSERT INTO old VALUES (-5, 1), (NULL, NULL), (NULL, NULL);
ALTER TABLE old ADD CONSTRAINT positive CHECK (a > 0) NOT VALID, ADD CONSTRAINT lost FOREIGN KEY (b) REFERENCES hen NOT VALID;
INSERT INTO old VALUES (5, 1);
DO $$ BEGIN SET LOCAL session_replication_role TO replica; INSERT INTO rules.old VALUES (6, 77777); END $$;
CREATE EXTENSION btree_gist SCHEMA rules;
CREATE TABLE booked (room integer, during tsrange, note text, CONSTRAINT once EXCLUDE USING gist (room WITH =, during WITH &&) INCLUDE (note) WHERE (note <> 'any') DEFERRABLE INITIALLY DEFERRED,
  EXCLUDE USING btree (room WITH =) WHERE (room < 0));
INSERT INTO booked VALUES (1, '[2000-01-01,2000-01-02)', 'x'), (1, '[2000-01-02,2000-01-03)', 'y'), (1, '[2000-01-01,2000-01-03)', 'any'), (-1, 'empty', NULL);
CREATE TABLE covered (a integer, b integer, c text, PRIMARY KEY (a) INCLUDE (c), CONSTRAINT b_too UNIQUE (b) INCLUDE (a, c));
INSERT INTO covered VALUES (1, 2, 'x'), (2, NULL, NULL), (3, NULL, NULL);
CREATE UNIQUE INDEX promoted ON covered (c, a); ALTER TABLE covered REPLICA IDENTITY USING INDEX covered_pkey;
ALTER TABLE covered ADD CONSTRAINT promoted_too UNIQUE USING INDEX promoted;
-- A check that a later change of its function made untrue for what is there already.
CREATE FUNCTION allowed(integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 < 100';
CREATE TABLE checked (a integer CHECK (rules.allowed(a)), CHECK (a > 0 OR a IS NULL));
INSERT INTO checked VALUES (50), (NULL);
COMMENT ON CONSTRAINT "hen's egg" ON hen IS 'a constraint'; COMMENT ON CONSTRAINT once ON booked IS 'excluded';
CREATE DOMAIN percent AS integer; CREATE TABLE of_domain (p percent); INSERT INTO of_domain VALUES (500);
ALTER DOMAIN percent ADD CONSTRAINT "0 to 100" CHECK (VALUE BETWEEN 0 AND 100) NOT VALID; COMMENT ON CONSTRAINT "0 to 100" ON DOMAIN percent IS 'of a domain';
ALTER TABLE rules.hen REPLICA IDENTITY FULL; ALTER TABLE rules.egg REPLICA IDENTITY NOTHING;
SELECT current_setting('server_version_num')::int >= 150000 AS v15 \gset
CREATE TABLE covered_pairs (a integer, b integer, PRIMARY KEY (a, b)); INSERT INTO covered_pairs VALUES (1, 1);
\if :v15
CREATE TABLE halves (a integer, b integer, FOREIGN KEY (a, b) REFERENCES covered_pairs (a, b) ON DELETE SET NULL (b) ON UPDATE SET DEFAULT); INSERT INTO halves VALUES (1, 1), (1, NULL);
CREATE TABLE one_null (a integer, UNIQUE NULLS NOT DISTINCT (a)); INSERT INTO one_null VALUES (NULL), (1);
\endif
