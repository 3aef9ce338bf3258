//! Foreign keys and forced row security: none of them keeps the loader from checking the others.

use super::*;
use crate::harness::postgres::{shared, unique};

#[tokio::test(flavor = "multi_thread")]
async fn many_foreign_keys_to_tables_with_forced_row_security_are_checked() {
    let site = Site::new().await;
    let (server, owner) = (shared(), unique("owner"));
    let database = site.database("acme");
    let mut schema = format!("CREATE ROLE {owner}; GRANT CREATE ON SCHEMA public TO {owner}; SET SESSION AUTHORIZATION {owner};");
    let forced = |table: &str| {
        format!(
            "INSERT INTO {table} SELECT n, n FROM generate_series(1, 20) n; ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
             CREATE POLICY p ON {table} USING (id > 10);"
        )
    };
    let parents: Vec<String> = (0..12).map(|number| format!("parent{number}")).collect();
    for parent in &parents {
        schema += &format!("CREATE TABLE {parent} (id int PRIMARY KEY, n int);");
    }
    // While one foreign key of a table is checked, the others wait, and row security of what they refer to could go on.
    let references: String = parents.iter().map(|parent| format!(", FOREIGN KEY (n) REFERENCES {parent}")).collect();
    schema += &format!("CREATE TABLE child (id int PRIMARY KEY, n int{references});");
    for table in parents.iter().map(String::as_str).chain(["child"]) {
        schema += &forced(table);
    }
    server.sql(&database, &schema);
    assert_eq!(site.all().await.class, None);
    let into = unique("keys");
    let report = restore(&site, &copy("acme", &into)).await.unwrap();
    assert_eq!((report.proven, report.rows), (true, 260));
    assert_eq!(server.sql(&into, "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated").trim(), "12");
    let secured = "SELECT count(*) FROM pg_class WHERE relrowsecurity AND relforcerowsecurity";
    assert_eq!(server.sql(&into, secured).trim(), "13");
}
