//! A tenant's code that finds things by a search path.

use super::*;
use crate::harness::postgres::{shared, unique};

/// What runs while rows are loaded, in schema `SCHEMA`, by names without a schema.
const CODE: &str = "
CREATE FUNCTION twice(a int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT a * 2';
CREATE FUNCTION by_name(a int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN twice(a); END';
CREATE FUNCTION lower(t varchar) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT 'mine: ' || t $$;
CREATE FUNCTION shadowed(t varchar) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN lower(t); END';
CREATE DOMAIN even AS int CHECK (by_name(VALUE) % 4 = 0);
CREATE TABLE made (a int, b int GENERATED ALWAYS AS (by_name(a)) STORED, s varchar, l text GENERATED ALWAYS AS (shadowed(s)) STORED);
CREATE TABLE checked (a int CHECK (by_name(a) > 0), e even);
INSERT INTO made (a, s) SELECT n, 'T' || n FROM generate_series(1, 50) n;
INSERT INTO checked SELECT n, n * 2 FROM generate_series(1, 50) n;
ALTER TABLE made OWNER TO OWNER_ROLE;
";

#[tokio::test(flavor = "multi_thread")]
async fn code_that_runs_while_rows_are_loaded_finds_what_it_found() {
    let server = shared();
    let (owner, other) = (unique("owner"), unique("other"));
    server.sql("postgres", &format!("CREATE ROLE {owner}; CREATE ROLE {other}"));
    for (schema, path) in [("public", None), ("\"A pp\"", Some("\"$user\", \"A pp\"")), ("app", Some("nowhere, app, pg_catalog"))]
    {
        let site = Site::new().await;
        let database = site.database("acme");
        if let Some(path) = path {
            server.sql("postgres", &format!("ALTER DATABASE {database} SET search_path TO {path}"));
            // Of one role alone: not what everybody wrote rows under.
            server.sql("postgres", &format!("ALTER ROLE {other} IN DATABASE {database} SET search_path TO public"));
            server.sql(&database, &format!("CREATE SCHEMA {schema}"));
        }
        server.sql(&database, &CODE.replace("OWNER_ROLE", &owner));
        assert_eq!(site.all().await.class, None);
        let into = unique("path");
        let report = restore(&site, &copy("acme", &into)).await.unwrap();
        assert_eq!((report.proven, report.rows), (true, 100), "{schema}");
        let rows = format!("SELECT md5(string_agg(t::text, ',' ORDER BY a)) FROM {schema}.made t");
        assert_eq!(server.sql(&into, &rows), server.sql(&database, &rows), "{schema}");
        let computed = format!("SELECT b, l FROM {schema}.made WHERE a = 7");
        assert_eq!(server.sql(&into, &computed).trim(), "14|mine: T7", "{schema}");

        let into = unique("path");
        super::fidelity::without_tenure(&site, server, "acme", &into);
        assert_eq!(server.sql(&into, &rows), server.sql(&database, &rows), "{schema}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_another_path_is_named_with_the_cure() {
    let server = shared();
    let owner = unique("owner");
    server.sql("postgres", &format!("CREATE ROLE {owner}"));
    let code = "CREATE SCHEMA s; SET search_path TO s; CREATE FUNCTION s.twice(a int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN a * 2; END';
         CREATE FUNCTION s.f(a int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN twice(a); END';
         CREATE FUNCTION s.g(a int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT twice(a)';
         CREATE TABLE s.t (a int); INSERT INTO s.t VALUES (1), (2);";
    for (what, kind, function, cure) in [
        ("CREATE INDEX ON s.t (s.f(a))", "schema", "s.f(integer)", "ALTER FUNCTION s.f(integer) SET search_path"),
        ("CREATE INDEX ON s.t (s.g(a))", "schema", "Function g ", "ALTER FUNCTION g SET search_path"),
        ("CREATE MATERIALIZED VIEW s.m AS SELECT s.f(a) FROM s.t", "schema", "s.f(integer)", "ALTER FUNCTION s.f(integer)"),
        ("ALTER TABLE s.t ADD CHECK (s.f(a) > 0)", "server-refused", "s.f(integer)", "ALTER DATABASE … SET search_path"),
    ] {
        let site = Site::new().await;
        let database = site.database("acme");
        server.sql(&database, &format!("{code} {what}; ALTER TABLE s.t OWNER TO {owner}"));
        assert_eq!(site.all().await.class, None);
        let failure = restore(&site, &copy("acme", &unique("path"))).await.unwrap_err();
        assert_eq!((failure.class.code(), failure.kind), (1, kind), "{what}: {failure:?}");
        assert!(failure.hint.contains(function) && failure.hint.contains(cure), "{what}: {}", failure.hint);
        assert!(failure.hint.ends_with("The target is as it was."), "{}", failure.hint);
    }
}
