-- Names with quotes, spaces, capitals, newlines, non-Latin letters, and words of SQL.
CREATE SCHEMA "Sche ma's ""名前""
of two lines";
CREATE SCHEMA "pg";
CREATE SCHEMA "*.?[a]";
SET search_path TO "Sche ma's ""名前""
of two lines", pg_catalog;
CREATE TABLE "Ta""ble'
\ ; DROP TABLE x; --" ("co""l'
\ " text, "ctid " text, "SELECT" integer, "%s{}" integer, "столбец" text, "	tab" text, "tableoid_" text);
INSERT INTO "Ta""ble'
\ ; DROP TABLE x; --" VALUES (E'\\.', E'\n\\.\n', 1, 2, 'строка', E'\t', '"');
CREATE TABLE "*.?[a]"."*" ("*" text); INSERT INTO "*.?[a]"."*" VALUES ('*');
CREATE TABLE "pg"."user" ("user" text, "order" text, "table" text); INSERT INTO "pg"."user" VALUES ('user', 'order', 'table');
CREATE TABLE "pg"."select" (); CREATE TABLE "pg"."Table" (a integer); CREATE TABLE "pg"."table" (a integer); INSERT INTO "pg"."Table" VALUES (1); INSERT INTO "pg"."table" VALUES (2);
CREATE TABLE "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn" ("mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm" serial PRIMARY KEY);
INSERT INTO "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn" DEFAULT VALUES;
CREATE INDEX "in""dex'
x" ON "Ta""ble'
\ ; DROP TABLE x; --" ("co""l'
\ "); COMMENT ON INDEX "in""dex'
x" IS E'comment\n-- \\ '' " \u0001 $$ \\restrict'; ALTER TABLE "Ta""ble'
\ ; DROP TABLE x; --" OWNER TO "fid_группа";
CREATE TYPE "Ty pe" AS ENUM ('a,b', '"', E'\n', 'ü'); CREATE TABLE "of Ty pe" ("a""" "Ty pe", b "Ty pe"[]); INSERT INTO "of Ty pe" VALUES (E'\n', ARRAY['a,b', '"']::"Ty pe"[]);
CREATE SEQUENCE "se""q'
"; SELECT nextval(E'"se""q\'\n"');
CREATE FUNCTION "fu""nc'
"("a b" integer DEFAULT 1) RETURNS integer LANGUAGE sql AS 'SELECT "a b"'; CREATE VIEW "vi""ew" AS SELECT * FROM "of Ty pe"; CREATE MATERIALIZED VIEW "mat view'
" AS SELECT * FROM "of Ty pe"; COMMENT ON SCHEMA "pg" IS 'looks like the system''s'; COMMENT ON COLUMN "of Ty pe"."a""" IS '';
GRANT SELECT ("co""l'
\ ") ON "Ta""ble'
\ ; DROP TABLE x; --" TO fid_reader;
CREATE SCHEMA "🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀\'""";
CREATE TABLE "🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀\'"""."../../k/x" ("postgresql://u:p@h/d" text, "host=x -f" text DEFAULT '-- "', "$1" text, "éé" text GENERATED ALWAYS AS ("$1" || '') STORED);
INSERT INTO "🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀🦀\'"""."../../k/x" VALUES ('a', 'b', 'c');
