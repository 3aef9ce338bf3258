-- Every built-in type, with its odd values.
CREATE SCHEMA types;
SET search_path TO types, pg_catalog;

CREATE TABLE numbers (a smallint, b integer, c bigint, d numeric, e numeric(20, 5), f real, g double precision, h money, i oid, j boolean);
INSERT INTO numbers VALUES
  (-32768, -2147483648, -9223372036854775808, 'NaN', 'NaN', 'NaN', 'NaN', '-92233720368547758.08', 0, true),
  (32767, 2147483647, 9223372036854775807, 'Infinity', 12345.67891, 'Infinity', 'Infinity', '92233720368547758.07', 4294967295, false),
  (0, 0, 0, '-Infinity', -0.00001, '-Infinity', '-Infinity', 0, 1, NULL),
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (1, 1, 1, 0.000, 1, '-0', '-0', 0.01, 10, true),
  (2, 2, 2, repeat('1234567890', 100)::numeric, 2, 1e-45, 5e-324, 1, 11, true),
  (3, 3, 3, ('0.' || repeat('0', 999) || '7')::numeric, 3, 3.4028235e38, 1.7976931348623157e308, 1, 11, true),
  (4, 4, 4, ('-' || repeat('9', 131072))::numeric, 4, 0.1, 0.1, 1, 11, true),
  (5, 5, 5, 1e-16383, 5, 1.1754944e-38, 2.2250738585072014e-308, 1, 11, true);
CREATE TABLE scales (a numeric(5, 2), b numeric(3));
INSERT INTO scales VALUES (999.99, 999), (-0.00, -0);

CREATE TABLE strings (a text, b varchar(10), c char(5), d "char", e name, f bytea, g text COLLATE "C", h bpchar);
INSERT INTO strings VALUES
  ('', '', '', '', '', '', '', ''),
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (E'\\.', E'\\N', E'\t', E'\\', E'\n', '\x00ff5c2e0a0d09', E'\r\n', '   '),
  (E'\\N', E'a\\b', E'\b\f', 'x', 'NULL', decode(repeat('00', 3000), 'hex'), E'\v', 'x  '),
  (E'null', '日本語', 'é', E'\\', repeat('n', 63), '\x', 'ﷺ', '😀'),
  (repeat(E'\n', 5000), E'\u0001', E'e\u0301', '"', '''', '\xdeadbeef', '$$', '--');
INSERT INTO strings (a, f)
  SELECT string_agg(chr(code), '' ORDER BY code), string_agg(set_byte('\x00', 0, code % 256), '' ORDER BY code)
    FROM generate_series(1, 2000) AS codes(code);

CREATE TABLE times (a date, b time, c timetz, d timestamp, e timestamptz, f interval, g timestamp(0), h interval day to second(2), i time(3));
INSERT INTO times VALUES
  ('infinity', '00:00', '00:00+15:59', 'infinity', 'infinity', '0', '2000-01-01', '1 day 00:00:01.23', '23:59:59.999'),
  ('-infinity', '24:00', '24:00-15:59', '-infinity', '-infinity', '-178000000 years', '0001-01-01 BC', '-1 day', '24:00'),
  ('4713-01-01 BC', '23:59:59.999999', '12:00:00.000001+00', '4713-01-01 00:00 BC', '4713-01-01 00:00 UTC BC', '178000000 years', '1999-12-31 23:59:60', NULL, NULL),
  ('5874897-12-31', NULL, NULL, '294276-12-31 23:59:59.999999', '294276-12-31 23:59:59.999999 UTC', '-1 mons +1 day -00:00:00.000001', NULL, NULL, NULL),
  ('2024-02-29', '12:00', '12:00+05:30', '1582-10-10', '1900-01-01 00:00 Europe/Amsterdam', '1 year -11 mons', NULL, NULL, NULL);

CREATE TABLE nets (a inet, b cidr, c macaddr, d macaddr8);
INSERT INTO nets VALUES ('::ffff:1.2.3.4/128', '10/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05'), ('0.0.0.0/0', '::/0', NULL, NULL),
  ('192.168.0.1/24', '2001:db8::/32', 'ffffffffffff', 'ffffffffffffffff');

CREATE TABLE shapes (a point, b line, c lseg, d box, e path, f polygon, g circle);
INSERT INTO shapes VALUES ('(1e300,-1e-300)', '{1,-1,0}', '[(0,0),(1,1)]', '(2,2),(0,0)', '[(0,0),(1,1)]', '((0,0),(1,1),(2,0))', '<(0,0),0>'),
  ('(NaN,Infinity)', '{0,1,-5}', '[(0,0),(0,0)]', '(0,0),(0,0)', '((0,0),(1,1))', '((0,0))', '<(1,1),Infinity>'), (NULL, NULL, NULL, NULL, NULL, NULL, NULL);

CREATE TABLE bits (a bit(1), b bit(70), c varbit, d varbit(5));
INSERT INTO bits VALUES (B'1', repeat('10', 35)::bit(70), B'', B'101'), (B'0', X'0'::bit(70), repeat('1', 10001)::varbit, B'');

CREATE TABLE documents (a json, b jsonb, d tsvector, e tsquery, f jsonpath, g uuid);
INSERT INTO documents VALUES
  ('{"a": 1, "a":  2, "é": "\u00e9"}', '{"a": 1e1000, "b": [null, true, "\\\\\"\n"], "": {}}', $$'a':1A,2B 'it''s':3 '\\':4C ' ':5$$,
   '''fat'':AB & !(''rat'':* <-> ''c\\at'')', 'strict $.a[*] ? (@.b > 1 && exists (@.c))', '00000000-0000-0000-0000-000000000000'),
  ('  null', 'null', '', '', '$', 'ffffffff-ffff-ffff-ffff-ffffffffffff'), ('""', '""', NULL, NULL, NULL, NULL),
  ('[1.10,1.1e5,"\u0001"]', (repeat('[', 1000) || repeat(']', 1000))::jsonb, NULL, NULL, NULL, NULL);

CREATE TABLE systems (a pg_lsn, b txid_snapshot, c pg_snapshot, d xid, e xid8, f cid, g tid, h refcursor, i int2vector, j oidvector, k aclitem, l xid8[]);
INSERT INTO systems VALUES ('FFFFFFFF/FFFFFFFF', '1:3:2', '10:20:10,14,15', '4294967295', '18446744073709551615', '7', '(4294967295,65535)', 'c', '1 2 3', '',
   'fid_reader=r*w/"fid ""Owner"""', '{1,NULL}'), ('0/0', NULL, NULL, NULL, NULL, NULL, '(0,0)', '', '', '1 2', '=r/fid_reader', '{}');

-- Names of things travel as names, and need what they name.
CREATE SEQUENCE named;
CREATE TABLE registered (a regclass, b regtype, c regproc, d regprocedure, e regoper, f regoperator, g regrole, h regnamespace, i regconfig, j regdictionary, k regcollation);
INSERT INTO registered VALUES ('pg_class', 'integer[]', 'now', 'sum(integer)', '||/', '+(integer,integer)', 'fid_reader', 'types', 'english', 'simple', '"C"'),
  (NULL, 'types.numbers', NULL, NULL, NULL, NULL, '"fid ""Owner"""', NULL, NULL, NULL, NULL), (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

CREATE TYPE mood AS ENUM ('sad', 'so so', 'it''s', '', 'glad');
ALTER TYPE mood ADD VALUE 'between' BEFORE 'glad';
ALTER TYPE mood RENAME VALUE 'so so' TO 'So, "so"';
CREATE DOMAIN positive AS integer DEFAULT 1 NOT NULL CONSTRAINT "is > 0" CHECK (VALUE > 0);
CREATE DOMAIN small_positive AS positive CHECK (VALUE < 100);
CREATE DOMAIN positives AS positive[] CHECK (cardinality(VALUE) < 5);
CREATE TYPE inner_pair AS (a integer, b text);
CREATE TYPE outer_pair AS ("x y" inner_pair, z inner_pair[], m mood, n positive);
ALTER TYPE outer_pair ADD ATTRIBUTE late text COLLATE "C";
ALTER TYPE inner_pair DROP ATTRIBUTE a;
ALTER TYPE inner_pair ADD ATTRIBUTE c numeric;
CREATE DOMAIN checked_pair AS inner_pair CHECK (VALUE IS NULL OR (VALUE).b IS NOT NULL);
CREATE TYPE floats AS RANGE (subtype = float8, subtype_diff = float8mi, multirange_type_name = "multi floats");
CREATE TABLE made (a mood, b small_positive, c positives, d outer_pair, e outer_pair[], f checked_pair, g mood[], h floats, i "multi floats", j numbers);
INSERT INTO made VALUES
  ('', 99, '{1,2}', ROW(ROW('a"b,\c', 1), ARRAY[ROW(NULL, NULL)::inner_pair, NULL], 'it''s', 5, E'\t'), NULL, ROW('x', NULL),
   '{"",sad,"So, \"so\""}', '[NaN,NaN]', '{[1,2),[3,Infinity]}', NULL),
  (NULL, 1, '{}', ROW(NULL, NULL, NULL, 1, NULL), ARRAY[ROW(NULL, NULL, NULL, 1, NULL)::outer_pair], ROW('', 1), '{}', 'empty', '{}',
   ROW(1, 2, 3, 'NaN', 5, '-0', 7, 8, 9, true)),
  ('between', 2, NULL, NULL, '{}', NULL, '{NULL}', '(,)', NULL, NULL);

-- Types made of types.
CREATE DOMAIN some_range AS int4range CHECK (NOT isempty(VALUE));
CREATE DOMAIN moods AS mood[] CHECK (array_position(VALUE, NULL) IS NULL);
CREATE TYPE words AS RANGE (subtype = text, collation = "C", multirange_type_name = word_sets);
CREATE TYPE pairs AS RANGE (subtype = inner_pair);
CREATE TABLE made_too (a some_range, b moods, c words, d word_sets, e pairs, f checked_pair[], g some_range[], h words[], i moods[]);
INSERT INTO made_too VALUES
  ('[1,5)', '{sad,""}', '["a,b","c""d\\")', '{["",a],(b,)}', '["(x,1)","(y,)"]', ARRAY[ROW('x', 1)::checked_pair, NULL], '{"[1,2)",NULL}', ARRAY['[a,b]'::words, 'empty'], '{"{sad}",NULL}'),
  (NULL, '{}', 'empty', '{}', '(,)', '{}', '{}', '{NULL}', NULL), ('(,)', NULL, '[," ")', NULL, NULL, NULL, NULL, NULL, '{}');

CREATE TABLE arrays (a integer[], b text[][], c integer[], d jsonb[], e numeric[], f date[], g bytea[], h int4range[], i bit(3)[], j text[]);
INSERT INTO arrays VALUES ('{}', '{}', '[-2:-1][5:6]={{1,2},{3,NULL}}', '{"{\"a\": 1}",NULL}', '{NaN,0.10,NULL}', '{infinity,"0044-03-15 BC"}', '{"\\x","\\x00"}',
   '{empty,"[1,5)"}', '{101,000}', '{"","NULL",NULL,"a,b","{}","\"","\\"," ",nUlL}'),
  (NULL, '{{a,b},{"c d",NULL}}', '{{{{{{1}}}}}}', NULL, NULL, NULL, NULL, NULL, NULL, '[3:3]={x}');

CREATE TABLE ranges (a int4range, b int8range, c numrange, d tsrange, e tstzrange, f daterange, g int4multirange, h nummultirange, i datemultirange, j tstzmultirange);
INSERT INTO ranges VALUES ('empty', '(,)', '[0.10,0.10]', '[-infinity,infinity]', '(2000-01-01 00:00+00,)', '[,2000-01-01)', '{}', '{(,1),(1,)}', '{[-infinity,infinity)}', '{(,)}'),
  ('[1,2147483647)', '[-9223372036854775808,)', '(-Infinity,NaN)', NULL, NULL, '[4713-01-01 BC,5874897-12-31)', '{[1,2),[5,6)}', NULL, '{}', NULL);
CREATE TABLE multiranges (a int8multirange, b tsmultirange, c nummultirange[], d numrange[]);
INSERT INTO multiranges VALUES ('{[-9223372036854775808,9223372036854775807)}', '{(-infinity,"0044-03-15 12:00 BC"],[infinity,infinity]}', ARRAY['{[NaN,NaN]}'::nummultirange, '{}', NULL], '{"[0.10,0.100]",empty,"(,)"}'), ('{}', '{}', '{}', '{}'), (NULL, NULL, NULL, NULL);
