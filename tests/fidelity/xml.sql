-- Not every server is built with XML.
CREATE SCHEMA markup;
SET search_path TO markup, pg_catalog;
CREATE TABLE markup (a xml, b xml[]);
INSERT INTO markup VALUES (xmlparse(DOCUMENT '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e "x">]><a b="&lt;">&amp;<![CDATA[ ]]></a>'), '{<a/>,text,NULL}'),
  (xmlparse(CONTENT 'no<b/>root'), '{}'), ('', NULL);
CREATE VIEW as_xml AS SELECT xmlelement(NAME x, xmlattributes(1 AS "a b"), a) AS x FROM markup;
