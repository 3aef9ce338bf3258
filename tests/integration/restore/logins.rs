//! The two logins: how the loader gets in, and what is said when it does not.

use super::*;
use crate::harness::postgres::{Cluster, Options, eventually, unique};

/// Notes, but for the one on programs of this machine that should be newer.
fn notes(report: &Report) -> Vec<String> {
    report.notes.iter().filter(|note| !note.contains("has known holes")).cloned().collect()
}

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

    // It is a member of the owners for moments, also when two restores need it at once.
    let members =
        || server.sql("postgres", "SELECT count(*) FROM pg_auth_members WHERE member = 'loader'::regrole").trim().to_owned();
    assert_eq!(members(), "0");
    let both = by("loader");
    let (one, two) = (copy("acme", &unique("logins")), copy("acme", &unique("logins")));
    let (one, two) = tokio::join!(restore_to(&site, both.clone(), &one), restore_to(&site, both, &two));
    assert_eq!(notes(&one.unwrap()), Vec::<String>::new());
    assert_eq!(notes(&two.unwrap()), Vec::<String>::new());
    assert_eq!(members(), "0");
    // Another process's restore loads rows by it: until that is through it is a member of nobody.
    let other = server.client("postgres").await;
    other.batch_execute("SELECT pg_advisory_lock_shared(hashtextextended('tenure loader loader', 0))").await.unwrap();
    let waiting = copy("acme", &unique("logins"));
    let release = async {
        let blocked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        let waits = move || eventually("the restore waits for the other one", || server.sql("postgres", blocked).trim() == "1");
        tokio::task::spawn_blocking(waits).await.unwrap();
        assert_eq!(members(), "0");
        other.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    };
    let (report, ()) = tokio::join!(restore_to(&site, by("loader"), &waiting), release);
    assert!(report.unwrap().proven);
    assert_eq!(members(), "0");
    server.sql("postgres", "CREATE ROLE bystander; GRANT app, bystander TO loader");
    // What was there before stays.
    let report = restore_to(&site, by("loader"), &copy("acme", &unique("logins"))).await.unwrap();
    assert!(notes(&report)[0].starts_with("the configured loader loader is always a member of app, bystander:"), "{report:?}");
    assert_eq!(members(), "2");
    server.sql("postgres", "REVOKE app, bystander FROM loader");
    // Of nobody with power.
    server.sql("postgres", "GRANT pg_execute_server_program TO bystander; GRANT bystander TO loader");
    let failure = restore_to(&site, by("loader"), &copy("acme", &unique("logins"))).await.unwrap_err();
    assert_eq!((failure.class.code(), failure.kind), (1, "loader-refused"), "{failure:?}");
    assert!(failure.message.contains("role loader is a member of pg_execute_server_program"), "{failure:?}");
    server.sql("postgres", "REVOKE bystander FROM loader");
    // It ends with a restore that fails, too.
    server.sql(
        &database,
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; CREATE MATERIALIZED VIEW m AS SELECT f();
         ALTER MATERIALIZED VIEW m OWNER TO app; CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1/0; END'",
    );
    assert_eq!(site.all().await.class, None);
    let failure = restore_to(&site, by("loader"), &copy("acme", &unique("logins"))).await.unwrap_err();
    assert_eq!(failure.kind, "schema", "{failure:?}");
    assert!(!failure.hint.contains("Left behind"), "{failure:?}");
    assert_eq!(members(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_who_may_not_create_roles_is_told_before_anything_is_tried() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    server.sql("postgres", "CREATE ROLE app; CREATE ROLE adm LOGIN CREATEDB IN ROLE app; CREATE ROLE loader LOGIN");
    let database = site.database("acme");
    server.sql("postgres", &format!("ALTER DATABASE {database} OWNER TO app"));
    server.sql(
        &database,
        "SET SESSION AUTHORIZATION app; CREATE SCHEMA s; CREATE TABLE s.t (a int PRIMARY KEY); INSERT INTO s.t VALUES (1)",
    );
    assert_eq!(site.all().await.class, None);
    let as_role =
        |user: &str| target(&format!("{} user={user} dbname=postgres", server.description().replace(" user=postgres", "")));
    let weak = Destination { admin: as_role("adm"), ..here(&site) };
    let failure = restore_to(&site, weak.clone(), &copy("acme", &unique("weak"))).await.unwrap_err();
    assert_eq!((failure.class.code(), failure.kind), (1, "no-createrole"), "{failure:?}");
    assert!(
        failure.hint.contains("LTER ROLE \"adm\" CREATEROLE") && failure.hint.ends_with("Nothing was made."),
        "{}",
        failure.hint
    );

    // With a loader it goes further, and what the server refuses then is said in its words.
    let weak = Destination { loader: Some(as_role("loader")), ..weak };
    let failure = restore_to(&site, weak.clone(), &copy("acme", &unique("weak"))).await.unwrap_err();
    assert_eq!((failure.class.code(), failure.kind), (1, "server-refused"), "{failure:?}");
    assert!(failure.message.ends_with("(SQLSTATE 42501)") && failure.message.contains("role \"app\""), "{}", failure.message);
    assert!(!failure.hint.contains("Left behind"), "{}", failure.hint);
    server.sql("postgres", "GRANT app TO loader");
    assert!(restore_to(&site, weak, &copy("acme", &unique("weak"))).await.unwrap().proven);
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

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_without_superuser_does_what_it_can() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    server.sql("postgres", "CREATE ROLE app; CREATE ROLE other; CREATE ROLE adm LOGIN CREATEDB CREATEROLE");
    if crate::harness::postgres::major() >= 16 {
        server.sql("postgres", "GRANT app, other TO adm WITH ADMIN OPTION, INHERIT FALSE, SET FALSE");
    }
    let database = site.database("acme");
    server
        .sql("postgres", &format!("ALTER DATABASE {database} OWNER TO app; REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC"));
    server.sql(
        &database,
        "SET SESSION AUTHORIZATION app; CREATE SCHEMA s; CREATE EXTENSION hstore SCHEMA s; CREATE TABLE s.t (id serial PRIMARY KEY, x s.hstore);
         INSERT INTO s.t (x) VALUES ('a=>1'); GRANT SELECT ON s.t TO other; CREATE MATERIALIZED VIEW public.m AS SELECT id FROM s.t;
         RESET SESSION AUTHORIZATION",
    );
    let by = |into: &str| {
        let admin = target(&format!("{} user=adm dbname=postgres", server.description().replace(" user=postgres", "")));
        (Destination { admin, ..here(&site) }, copy("acme", into))
    };
    assert_eq!(site.all().await.class, None);
    let into = unique("weak");
    let (destination, request) = by(&into);
    let report = restore_to(&site, destination, &request).await.unwrap();
    assert!(report.proven && notes(&report).is_empty(), "{report:?}");
    let rights = "SELECT pg_get_userbyid(datdba), (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(datacl) x) FROM pg_database WHERE datname";
    let of = |name: &str| server.sql("postgres", &format!("{rights} = '{name}'"));
    assert_eq!(of(&into), of(&database));
    assert_eq!(
        server.sql(&into, "SELECT relname, relowner::regrole FROM pg_class WHERE relname IN ('t', 'm') ORDER BY 1").trim(),
        "m|app\nt|app"
    );
    let members =
        "SELECT count(*) FROM pg_auth_members WHERE member = 'adm'::regrole AND roleid IN ('app'::regrole, 'other'::regrole)";
    assert_eq!(server.sql("postgres", members).trim(), if crate::harness::postgres::major() >= 16 { "2" } else { "0" });
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenure%'").trim(), "0");

    server.sql(&database, "CREATE TABLE of_superuser (a int)");
    assert_eq!(site.all().await.class, None);
    let (destination, request) = by(&unique("weak"));
    let failure = restore_to(&site, destination, &request).await.unwrap_err();
    assert_eq!(failure.kind, "needs-superuser", "{failure:?}");
}
