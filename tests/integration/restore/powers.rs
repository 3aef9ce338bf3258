//! What a tenant's own code gains while it is restored: nothing.

use super::*;
use crate::harness::postgres::{Cluster, Options};

fn own_server() -> Cluster {
    Cluster::start(&Options::default())
}

/// A function that takes on `role` and proves that it could by leaving a table and a role behind.
fn takes_on(role: &str) -> String {
    format!(
        "CREATE FUNCTION s.f(i int) RETURNS int LANGUAGE plpgsql AS $f$ BEGIN
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
