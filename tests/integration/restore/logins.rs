//! The two logins: how the loader gets in, and what is said when it does not.

use super::*;
use crate::harness::postgres::{Cluster, Options, unique};

fn target(description: &str) -> Target {
    let environment = tenure::postgres::LibpqEnvironment { home: None, user: "nobody".into(), variables: BTreeMap::new() };
    Target::parse(description, &environment).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_everywhere_is_a_finding_and_a_configured_login_cures_it() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options {
        hba: [
            "local all postgres trust",
            "host all loader 127.0.0.1/32 scram-sha-256",
            "host all postgres 127.0.0.1/32 scram-sha-256",
            "local all all reject",
            "host all all 127.0.0.1/32 reject",
        ]
        .map(str::to_owned)
        .to_vec(),
        settings: vec!["log_statement = 'all'".into()],
        ..Options::default()
    })));
    let site = Site::on(server).await;
    let database = site.database("acme");
    server
        .sql("postgres", "CREATE ROLE app; CREATE ROLE loader LOGIN PASSWORD 'p'; CREATE ROLE boss LOGIN SUPERUSER PASSWORD 'p'");
    server.sql(
        &database,
        "CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1); ALTER TABLE t OWNER TO app;
         CREATE TABLE s (a int REFERENCES t); INSERT INTO s VALUES (1);",
    );
    assert_eq!(site.all().await.class, None);

    let into = unique("logins");
    let failure = restore(&site, &copy("acme", &into)).await.unwrap_err();
    assert_eq!((failure.class.code(), failure.kind), (1, "loader-refused"), "{failure:?}");
    let text = format!("{failure} {}", failure.hint);
    assert!(text.contains("pg_hba.conf") && text.contains("loader =") && text.contains("127.0.0.1"), "{text}");
    let left = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenure%'";
    assert_eq!(server.sql("postgres", left).trim(), "0");

    let by = |user: &str| Destination {
        loader: Some(target(&format!("host=127.0.0.1 port={} user={user} password=p dbname=postgres", server.port()))),
        ..here(&site)
    };
    let failure = restore_to(&site, by("boss"), &copy("acme", &into)).await.unwrap_err();
    assert_eq!(failure.kind, "loader-refused", "{failure:?}");
    let report = restore_to(&site, by("loader"), &copy("acme", &into)).await.unwrap();
    assert_eq!(report.rows, 2);
    let rights = "SELECT count(*) FROM pg_class c, aclexplode(relacl) a WHERE a.grantee = 'loader'::regrole";
    assert_eq!(server.sql(&into, rights).trim(), "0");
    let on_database = format!(
        "SELECT count(*) FROM pg_database, aclexplode(datacl) a WHERE datname = '{into}' AND a.grantee = 'loader'::regrole"
    );
    assert_eq!(server.sql("postgres", &on_database).trim(), "0");
    // Again, into another database: what the first run granted does not stand in the way.
    restore_to(&site, by("loader"), &copy("acme", &unique("logins"))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_temporary_password_reaches_no_log() {
    let server: &'static Cluster =
        Box::leak(Box::new(Cluster::start(&Options { settings: vec!["log_statement = 'all'".into()], ..Options::default() })));
    let site = Site::on(server).await;
    server.sql(&site.database("acme"), "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    assert_eq!(site.all().await.class, None);
    restore(&site, &copy("acme", &unique("log"))).await.unwrap();
    let log = server.log();
    let created: Vec<&str> = log.lines().filter(|line| line.contains("CREATE ROLE \"tenure_loader_")).collect();
    assert!(!created.is_empty());
    assert!(created.iter().all(|line| line.contains("PASSWORD 'SCRAM-SHA-256$") && line.contains("VALID UNTIL")), "{created:?}");
}
