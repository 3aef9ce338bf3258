CREATE TABLE @extschema@.conf (id integer PRIMARY KEY, value text);
INSERT INTO @extschema@.conf VALUES (1, 'the extension''s');
CREATE TABLE @extschema@.conf_whole (value text);
CREATE TABLE @extschema@.inner_table (value text);
CREATE SEQUENCE @extschema@.conf_seq;
CREATE SEQUENCE @extschema@.inner_seq;
SELECT pg_catalog.pg_extension_config_dump('@extschema@.conf', 'WHERE id >= 100');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.conf_whole', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.conf_seq', '');
