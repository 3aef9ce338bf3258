-- Not every server is built with ICU.
CREATE SCHEMA sorted;
SET search_path TO sorted, pg_catalog;
CREATE COLLATION "of the ""phone book" (PROVIDER = icu, LOCALE = 'de-u-co-phonebk');
CREATE COLLATION careless (PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false);
COMMENT ON COLLATION careless IS 'case does not matter'; ALTER COLLATION careless OWNER TO "fid writer";
CREATE DOMAIN word AS text COLLATE careless CHECK (VALUE <> 'FORBIDDEN');
CREATE TABLE words (a text COLLATE careless UNIQUE, b text COLLATE "of the ""phone book", c word);
INSERT INTO words VALUES ('Ab', 'Ä', 'x'), ('ac', 'ae', 'X'), (NULL, 'z', NULL);
CREATE INDEX ON words (b, (upper(a) COLLATE "C"));
CREATE TABLE by_word (a text COLLATE careless) PARTITION BY LIST (a);
CREATE TABLE by_word_a PARTITION OF by_word FOR VALUES IN ('a'); CREATE TABLE by_word_rest PARTITION OF by_word DEFAULT;
INSERT INTO by_word VALUES ('a'), ('A'), ('b');
CREATE MATERIALIZED VIEW told_apart AS SELECT a, count(*) AS n FROM by_word GROUP BY a ORDER BY a;
SELECT current_setting('server_version_num')::int >= 160000 AS v16 \gset
\if :v16
CREATE COLLATION ruled (PROVIDER = icu, LOCALE = 'und', RULES = '&a < g'); CREATE TABLE by_rule (a text COLLATE ruled PRIMARY KEY); INSERT INTO by_rule VALUES ('g'), ('b'), ('a');
\endif
