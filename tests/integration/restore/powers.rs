//! What a tenant's own code gains while it is restored: nothing.

use super::*;
use crate::harness::postgres::{Cluster, Options};

fn own_server() -> Cluster {
    Cluster::start(&Options::default())
}

/// A function that takes on `role` and proves that it could by leaving a table and a role behind.
fn takes_on(role: &str) -> String {
    format!(
        "CREATE OR REPLACE FUNCTION s.f(i int) RETURNS int LANGUAGE plpgsql AS $f$ BEGIN
           BEGIN PERFORM set_config('role', '{role}', false); EXECUTE 'CREATE TABLE s.gained ()'; EXCEPTION WHEN OTHERS THEN NULL; END;
           BEGIN EXECUTE 'CREATE ROLE gained'; EXCEPTION WHEN OTHERS THEN NULL; END;
           RETURN i; END $f$"
    )
}

fn assert_nothing_gained(server: &Cluster, database: &str) {
    assert_eq!(server.sql(database, "SELECT count(*) FROM pg_class WHERE relname = 'gained'").trim(), "0");
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'gained'").trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_loaded_by_a_member_of_nobody() {
    let server: &'static Cluster = Box::leak(Box::new(own_server()));
    let site = Site::on(server).await;
    let database = site.database("acme");
    server.sql("postgres", &format!("CREATE ROLE boss CREATEROLE; CREATE ROLE low; ALTER DATABASE {database} OWNER TO boss"));
    server.sql(
        &database,
        &format!(
            "CREATE SCHEMA s AUTHORIZATION boss; GRANT USAGE, CREATE ON SCHEMA s TO low; CREATE TABLE s.of_boss (i int); INSERT INTO s.of_boss VALUES (1);
             ALTER TABLE s.of_boss OWNER TO boss; SET SESSION AUTHORIZATION low; {};
             CREATE TABLE s.t (i int CHECK (s.f(i) > 0)); INSERT INTO s.t VALUES (1)",
            takes_on("boss")
        ),
    );
    assert_eq!(site.all().await.class, None);
    for to in ["one", "two"] {
        let report = restore(&site, &copy("acme", to)).await.unwrap();
        assert!(report.proven && report.rows == 2, "{report:?}");
        assert_nothing_gained(server, to);
        let rights = "SELECT count(*) FROM pg_class, aclexplode(relacl) a WHERE a.grantee >= 16384 AND a.grantee <> relowner";
        assert_eq!(server.sql(to, rights).trim(), "0");
    }
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenure%'").trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_with_unrecorded_power_is_refused_and_never_acted_as() {
    let (source, target): (&'static Cluster, Cluster) = (Box::leak(Box::new(own_server())), own_server());
    let site = Site::on(source).await;
    let database = site.database("acme");
    source.sql("postgres", &format!("CREATE ROLE app; ALTER DATABASE {database} OWNER TO app"));
    source.sql(
        &database,
        &format!(
            "SET SESSION AUTHORIZATION app; CREATE SCHEMA s; {}; CREATE TABLE s.t (i int PRIMARY KEY CHECK (s.f(i) > 0)); INSERT INTO s.t VALUES (1); DROP TABLE s.gained",
            takes_on("app")
        ),
    );
    assert_eq!(site.all().await.class, None);
    target.sql("postgres", "CREATE ROLE app; CREATE ROLE boss SUPERUSER; CREATE ROLE group_of_boss IN ROLE boss");
    for (at, (give, take, said)) in [
        ("ALTER ROLE app SUPERUSER", "ALTER ROLE app NOSUPERUSER", "role app is a superuser"),
        ("ALTER ROLE app CREATEROLE", "ALTER ROLE app NOCREATEROLE", "role app may create roles"),
        ("ALTER ROLE app REPLICATION", "ALTER ROLE app NOREPLICATION", "role app may replicate"),
        ("ALTER ROLE app BYPASSRLS", "ALTER ROLE app NOBYPASSRLS", "role app bypasses row security"),
        ("GRANT group_of_boss TO app", "REVOKE group_of_boss FROM app", "role app is a member of boss, which is a superuser"),
        (
            "GRANT pg_execute_server_program TO app",
            "REVOKE pg_execute_server_program FROM app",
            "role app is a member of pg_execute_server_program, which is one of PostgreSQL's own",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        target.sql("postgres", give);
        let into = format!("powerful_{at}");
        let failure = restore_to(&site, there(&site, &target), &copy("acme", &into)).await.unwrap_err();
        assert_eq!((failure.class.code(), failure.kind), (4, "needs-allow"), "{failure:?}");
        assert!(failure.message.contains(said) && failure.hint.contains("--allow powerful-owners"), "{failure:?}");
        let made = "SELECT (SELECT count(*) FROM pg_database WHERE NOT datistemplate) || ' ' || (SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenure%')";
        assert_eq!(target.sql("postgres", made).trim(), format!("{} 0", 1 + at));
        let allowed = Request { allow: vec!["powerful-owners".into()], ..copy("acme", &into) };
        assert!(restore_to(&site, there(&site, &target), &allowed).await.unwrap().proven, "{give}");
        assert_nothing_gained(&target, &into);
        assert_eq!(target.sql(&into, "SELECT count(*) FROM pg_index WHERE indrelid = 's.t'::regclass").trim(), "1");
        target.sql("postgres", take);
    }
    let report = restore_to(&site, there(&site, &target), &copy("acme", "harmless")).await.unwrap();
    assert!(report.proven);
}
