-- Values of :text_mb and :bytea_mb megabytes.
CREATE SCHEMA large;
SET search_path TO large, pg_catalog;
CREATE TABLE large_text (id integer, t text); ALTER TABLE large_text ALTER t SET STORAGE EXTERNAL;
CREATE TABLE large_bytea (id integer, b bytea, c bytea); ALTER TABLE large_bytea ALTER b SET STORAGE EXTERNAL;
INSERT INTO large_text VALUES (1, 'before'), (2, repeat(E'a long line with \\ and \t and é\n', :text_mb * 32768)), (3, NULL), (4, 'after');
INSERT INTO large_bytea SELECT 1, string_agg(sha512(n::text::bytea), ''), '' FROM generate_series(1, :bytea_mb * 16384) AS n;
INSERT INTO large_bytea VALUES (2, NULL, '\x00'), (3, '\x', NULL);
