//! Policies: what they hide must not be missed, and is nobody's fault without a cure.

use super::*;
use crate::harness::postgres::{Cluster, Options, shared, unique};

fn as_role(site: &Site, role: &str) -> Target {
    let environment = tenure::postgres::LibpqEnvironment { home: None, user: "nobody".into(), variables: BTreeMap::new() };
    let description = site.cluster.description().replace(" user=postgres", "");
    Target::parse(&format!("{description} user={role} dbname=postgres"), &environment).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_materialized_view_is_filled_as_its_owner_sees() {
    let site = Site::new().await;
    let (server, owner) = (shared(), unique("owner"));
    let database = site.database("acme");
    server.sql(
        &database,
        &format!(
            "CREATE ROLE {owner}; GRANT CREATE ON SCHEMA public TO {owner}; SET SESSION AUTHORIZATION {owner};
             CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2), (3); ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
             CREATE POLICY p ON t USING (a > 1); CREATE MATERIALIZED VIEW m AS SELECT a FROM t"
        ),
    );
    assert_eq!(site.all().await.class, None);
    let into = unique("policies");
    let report = restore(&site, &copy("acme", &into)).await.unwrap();
    assert_eq!((report.proven, report.rows), (true, 3));
    assert_eq!(server.sql(&into, "SELECT string_agg(a::text, ',' ORDER BY a) FROM m").trim(), "2,3");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_who_obeys_policies_proves_what_they_hide() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    server.sql("postgres", "CREATE ROLE app; CREATE ROLE \"a dm\" LOGIN CREATEDB CREATEROLE");
    if postgres::major() >= 16 {
        server.sql("postgres", "GRANT app TO \"a dm\" WITH ADMIN OPTION");
    }
    let database = site.database("acme");
    server.sql("postgres", &format!("ALTER DATABASE {database} OWNER TO app"));
    server.sql(
        &database,
        "SET SESSION AUTHORIZATION app; CREATE SCHEMA s; CREATE TABLE s.forced (a int); INSERT INTO s.forced VALUES (1), (2);
         ALTER TABLE s.forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
         CREATE POLICY p ON s.forced USING (a > 1); CREATE MATERIALIZED VIEW s.seen AS SELECT a FROM s.forced;
         CREATE TABLE s.enabled (a int); INSERT INTO s.enabled VALUES (1); ALTER TABLE s.enabled ENABLE ROW LEVEL SECURITY;
         CREATE TABLE s.without (a int); ALTER TABLE s.without FORCE ROW LEVEL SECURITY",
    );
    assert_eq!(site.all().await.class, None);
    let destination = Destination { admin: as_role(&site, "'a dm'"), ..here(&site) };
    for attribute in ["NOBYPASSRLS", "BYPASSRLS"] {
        server.sql("postgres", &format!("ALTER ROLE \"a dm\" {attribute}"));
        let into = unique("policies");
        let report = restore_to(&site, destination.clone(), &copy("acme", &into)).await.unwrap();
        assert_eq!((report.proven, report.rows), (true, 3), "{attribute}");
        let forced = "SELECT string_agg(relname || relrowsecurity, ',' ORDER BY relname) FROM pg_class WHERE relforcerowsecurity";
        assert_eq!(server.sql(&into, forced), server.sql(&database, forced), "{attribute}");
        assert_eq!(server.sql(&into, "SELECT string_agg(a::text, ',') FROM s.seen").trim(), "2", "{attribute}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_a_policy_stops_names_table_and_cure() {
    let mut site = Site::new().await;
    let (server, role) = (shared(), unique("reader"));
    let database = site.database("acme");
    server.sql(&database, &format!("CREATE ROLE {role} LOGIN; CREATE TABLE t (a int); INSERT INTO t VALUES (1)"));
    site.backup.clusters[0].target = as_role(&site, &role);
    let failed = |report: tenure::operation::backup::BackupReport| {
        let error = report.results.into_iter().next().unwrap().error.unwrap();
        (error.message, error.hint)
    };
    let (message, hint) = failed(site.all().await);
    assert!(message.contains("\"public\".\"t\""), "{message}");
    assert!(hint.contains(&format!("GRANT pg_read_all_data TO \"{role}\"")), "{hint}");
    server.sql(&database, &format!("GRANT pg_read_all_data TO {role}; ALTER TABLE t ENABLE ROW LEVEL SECURITY"));
    let (message, hint) = failed(site.all().await);
    assert!(message.contains("\"public\".\"t\"") && message.contains(&role), "{message}");
    assert!(hint.starts_with(&format!("ALTER ROLE \"{role}\" BYPASSRLS")) && hint.ends_with("No backup was made."), "{hint}");
    server.sql(&database, &format!("ALTER ROLE {role} BYPASSRLS"));
    assert_eq!(site.all().await.class, None);
}
