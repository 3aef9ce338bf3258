-- Rows that hold names.
CREATE DOMAIN relation AS regclass;
CREATE TABLE names (c relation, p regprocedure, many regtype[], r regrole, n regnamespace, o regoperator, a aclitem);
INSERT INTO names SELECT 'v', 'f(int)', '{mood,dom}', 'changes_owner', 'app', '===(int,int)', 'changes_reader=r/changes_owner';
