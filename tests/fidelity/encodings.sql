-- For databases in other encodings: every byte that the encoding has.
SELECT pg_encoding_to_char(encoding) = 'SQL_ASCII' AS no_encoding, pg_encoding_to_char(encoding) = 'LATIN1' AS is_latin1 FROM pg_database WHERE datname = current_database() \gset
SET client_encoding TO SQL_ASCII;
CREATE TABLE bytes (id integer, t text COLLATE "C", v varchar(3));
\if :no_encoding
INSERT INTO bytes SELECT n, convert_from(set_byte('\x00', 0, n), 'SQL_ASCII'), NULL FROM generate_series(1, 255) AS n;
INSERT INTO bytes VALUES (1000, convert_from('\xfffec3', 'SQL_ASCII'), 'x'), (1001, convert_from('\xc3a9c328', 'SQL_ASCII'), E'\\');
DO $$ BEGIN EXECUTE convert_from(convert_to('CREATE TABLE with_default (c text DEFAULT ''', 'SQL_ASCII') || '\xfe' || convert_to(''')', 'SQL_ASCII'), 'SQL_ASCII'); END $$;
\endif
\if :is_latin1
INSERT INTO bytes SELECT n, chr(n), chr(n) FROM generate_series(1, 255) AS n;
DO $$ BEGIN EXECUTE 'CREATE TABLE "t' || chr(233) || '" ("c' || chr(255) || '" text DEFAULT ''' || chr(252) || ''')'; EXECUTE 'INSERT INTO "t' || chr(233) || '" DEFAULT VALUES'; EXECUTE 'COMMENT ON TABLE bytes IS ''' || chr(223) || ''''; END $$;
\endif
INSERT INTO bytes VALUES (5000, 'z', 'Z'), (5001, 'a', 'A');
CREATE INDEX ON bytes (t text_pattern_ops);
