//! What is refused, and in which words.

use super::*;
use crate::harness::postgres::{Cluster, Options, shared, unique};

fn code(result: Result<Report, Failure>) -> (u8, &'static str, String) {
    let failure = result.unwrap_err();
    (failure.class.code(), failure.kind, format!("{} | {}", failure.one_line(), failure.hint))
}

/// Nothing of a restore's own is left on a server that no other test uses.
fn is_clean(server: &Cluster) {
    let left = server.sql(
        "postgres",
        "SELECT datname FROM pg_database WHERE datname LIKE 'tenure%' UNION ALL SELECT rolname FROM pg_roles WHERE rolname LIKE 'tenure%'",
    );
    assert_eq!(left.trim(), "");
}

fn own_server() -> &'static Cluster {
    static SERVER: std::sync::OnceLock<Cluster> = std::sync::OnceLock::new();
    SERVER.get_or_init(|| Cluster::start(&Options::default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_name_is_refused_and_replace_puts_the_live_one_aside() {
    let site = Site::new().await;
    let database = site.database("acme");
    shared().sql(&database, "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)");
    assert_eq!(site.all().await.class, None);
    shared().sql(&database, "DELETE FROM t; CREATE TABLE later ()");

    let (exit, kind, text) = code(restore(&site, &latest("acme")).await);
    assert_eq!((exit, kind), (1, "name-taken"), "{text}");
    assert!(text.contains(&database) && text.contains("--into") && text.contains("--replace"), "{text}");

    // A session that sits in the live database is ended.
    let sitting = shared().client(&database).await;
    let report = restore(&site, &Request { replace: true, ..latest("acme") }).await.unwrap();
    assert_eq!(report.database, database);
    let aside = report.replaced_as.unwrap();
    assert!(aside.starts_with("tenure_replaced_"), "{aside}");
    assert!(sitting.simple_query("SELECT 1").await.is_err());
    assert_eq!(shared().sql(&database, "SELECT count(*) FROM t").trim(), "2");
    assert_eq!(shared().sql(&aside, "SELECT count(*) FROM later").trim(), "0");
    // The restored one is the tenant now: the next backup takes it without a question, and the one aside is nobody.
    let next = site.all().await;
    assert_eq!(next.class, None, "{next:?}");
    assert_eq!(next.results.len(), 1);
    assert!(next.results[0].bytes_read > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_is_missing_is_listed_at_once() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    let database = site.database("acme");
    server.sql("postgres", "CREATE ROLE gone; CREATE ROLE weak LOGIN CREATEDB; ALTER ROLE weak PASSWORD 'x'");
    server.sql(
        &database,
        "CREATE EXTENSION hstore; CREATE EXTENSION pageinspect; CREATE TABLE t (a int); ALTER TABLE t OWNER TO gone;
         CREATE FUNCTION c() RETURNS int LANGUAGE internal AS 'pg_backend_pid';
         CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
         CREATE EVENT TRIGGER et ON ddl_command_start EXECUTE FUNCTION e();",
    );
    assert_eq!(site.all().await.class, None);
    let (exit, kind, text) = code(restore(&site, &latest("acme")).await);
    assert_eq!((exit, kind), (4, "preflight"), "{text}");
    for part in [
        &database,
        "extension pageinspect",
        "--allow 'extension:pageinspect'",
        "event triggers: et",
        "--allow event-triggers",
        "c-functions",
        "c()",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("hstore"), "a trusted extension needs nothing: {text}");
    is_clean(server);

    server.sql("postgres", &format!("ALTER DATABASE \"{database}\" RENAME TO elsewhere"));
    server.sql("elsewhere", "DROP TABLE t");
    server.sql("postgres", "DROP ROLE gone");
    let weak = format!("host=127.0.0.1 port={} user=weak password=x", server.port());
    let environment = tenure::postgres::LibpqEnvironment { home: None, user: "nobody".into(), variables: BTreeMap::new() };
    let weak = Destination { admin: Target::parse(&weak, &environment).unwrap(), ..here(&site) };
    let (_, _, text) = code(restore_to(&site, weak, &latest("acme")).await);
    assert!(text.contains("roles are missing") && text.contains("CREATE ROLE \"gone\""), "{text}");
    assert!(text.contains("CREATEROLE"), "{text}");
    is_clean(server);

    let allow = vec!["all".to_owned()];
    let report = restore(&site, &Request { allow, ..latest("acme") }).await.unwrap();
    assert_eq!(report.created_roles, ["gone"]);
    assert_eq!(server.sql(&database, "SELECT evtname, evtenabled FROM pg_event_trigger").trim(), "et|O");
    assert_eq!(server.sql("postgres", "SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = 'gone'").trim(), "f|f");
    is_clean(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_code_never_runs_as_superuser() {
    let server = own_server();
    let site = Site::on(server).await;
    let database = site.database("acme");
    let (owner, boss) = (unique("owner"), unique("boss"));
    server.sql("postgres", &format!("CREATE ROLE {owner}; CREATE ROLE {boss} SUPERUSER"));
    // Wherever a restore may run it: as rows come, as an index is built, as a view is filled. It tries to get its superuser back.
    server.sql(
        &database,
        &format!(
            "CREATE FUNCTION look(what text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN true; END';
             CREATE DOMAIN watched AS int CHECK (look('domain'));
             CREATE TABLE a (id int CHECK (look('check')), d watched, g boolean GENERATED ALWAYS AS (look('generated' || id)) STORED);
             INSERT INTO a SELECT n, n FROM generate_series(1, 500) n;
             CREATE INDEX i ON a ((look('index' || id)));
             CREATE STATISTICS s ON (look('statistics' || id)), id FROM a;
             CREATE TABLE b (id int CHECK (look('check of a superuser')));
             INSERT INTO b VALUES (1);
             CREATE FUNCTION number(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT public.look(''constant'')::int + n';
             CREATE TABLE c (id watched, f int GENERATED ALWAYS AS (id + number(1)) STORED) PARTITION BY RANGE (id);
             CREATE TABLE c1 PARTITION OF c FOR VALUES FROM (1) TO (10);
             CREATE TABLE e (id int) PARTITION BY RANGE ((id + number(2)));
             CREATE FUNCTION plus(watched, int) RETURNS watched LANGUAGE sql IMMUTABLE AS 'SELECT $1';
             CREATE AGGREGATE g (int) (SFUNC = plus, STYPE = watched, INITCOND = '0');
             ALTER TABLE c OWNER TO {owner}; ALTER TABLE c1 OWNER TO {owner}; ALTER TABLE e OWNER TO {owner}; ALTER AGGREGATE g (int) OWNER TO {owner};
             CREATE MATERIALIZED VIEW m AS SELECT id FROM a WHERE look('view' || id);
             ALTER TABLE a OWNER TO {owner}; ALTER TABLE b OWNER TO {boss};
             ALTER MATERIALIZED VIEW m OWNER TO {owner}; ALTER DOMAIN watched OWNER TO {owner};
             CREATE OR REPLACE FUNCTION look(what text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
               BEGIN RESET SESSION AUTHORIZATION; EXCEPTION WHEN OTHERS THEN NULL; END;
               BEGIN RESET ROLE; EXCEPTION WHEN OTHERS THEN NULL; END;
               IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR current_setting('is_superuser') = 'on' THEN
                 RAISE EXCEPTION '% runs as superuser', what;
               END IF;
               RETURN true; END $$;"
        ),
    );
    let plain = server.client(&database).await.simple_query("INSERT INTO a VALUES (0, 0)").await.unwrap_err();
    assert!(plain.as_db_error().unwrap().message().contains("runs as superuser"), "{plain:?}");
    assert_eq!(site.all().await.class, None);
    let into = unique("proof");
    let report = restore(&site, &copy("acme", &into)).await.unwrap();
    assert_eq!(report.rows, 501);
    assert_eq!(server.sql(&into, "SELECT count(*) FROM pg_constraint WHERE pg_get_constraintdef(oid) LIKE '%look%'").trim(), "3");
    assert_eq!(server.sql(&into, "SELECT relowner::regrole FROM pg_class WHERE relname = 'b'").trim(), boss);
    assert_eq!(
        server.sql(&into, "SELECT count(*) FROM pg_class WHERE relname = 'b' AND relacl::text LIKE '%tenure%'").trim(),
        "0"
    );
}
