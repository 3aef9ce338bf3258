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

#[tokio::test(flavor = "multi_thread")]
async fn a_superusers_objects_do_not_run_the_code_of_others_unasked() {
    let server: &'static Cluster = Box::leak(Box::new(own_server()));
    let site = Site::on(server).await;
    let database = site.database("acme");
    server.sql("postgres", "CREATE ROLE low");
    server.sql(
        &database,
        &format!(
            "CREATE SCHEMA s; GRANT USAGE, CREATE ON SCHEMA s TO low; SET SESSION AUTHORIZATION low;
             CREATE FUNCTION s.f(i int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN i; END';
             CREATE FUNCTION s.g(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN i; END';
             CREATE FUNCTION s.eq(i int, j int) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN i = j; END';
             CREATE OPERATOR s.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = s.eq); CREATE DOMAIN s.d AS int CHECK (s.g(VALUE) > 0);
             RESET SESSION AUTHORIZATION;
             CREATE FUNCTION s.own(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN i; END';
             CREATE TABLE s.t (i int DEFAULT s.g(1) CHECK (s.g(i) > 0)); INSERT INTO s.t VALUES (1); CREATE VIEW s.v AS SELECT s.f(i) AS i FROM s.t;
             CREATE MATERIALIZED VIEW s.by_view AS SELECT i FROM s.v; CREATE MATERIALIZED VIEW s.unfilled AS SELECT s.f(1) WITH NO DATA;
             CREATE MATERIALIZED VIEW s.by_operator AS SELECT i OPERATOR(s.===) 1 AS x FROM s.t;
             CREATE MATERIALIZED VIEW s.by_domain AS SELECT i::s.d AS x FROM s.t; CREATE MATERIALIZED VIEW s.harmless AS SELECT s.own(i) FROM s.t;
             CREATE INDEX by_expression ON s.t (s.g(i)); CREATE INDEX by_predicate ON s.t (i) WHERE s.g(i) > 0; CREATE INDEX fine ON s.t (s.own(i));
             ALTER TABLE s.t ADD CONSTRAINT by_exclusion EXCLUDE USING btree (s.g(i) WITH =);
             CREATE STATISTICS s.by_statistics ON s.g(i), i FROM s.t; SET SESSION AUTHORIZATION low; {}",
            takes_on("postgres")
        ),
    );
    assert_eq!(site.all().await.class, None);
    let failure = restore(&site, &copy("acme", "one")).await.unwrap_err();
    assert_eq!((failure.class.code(), failure.kind), (4, "needs-allow"), "{failure:?}");
    for object in
        ["s.by_view", "s.by_operator", "s.by_domain", "s.by_expression", "s.by_predicate", "s.t by_exclusion", "s.by_statistics"]
    {
        assert!(failure.message.contains(object), "{object} in {}", failure.message);
    }
    assert!(
        !failure.message.contains("harmless") && !failure.message.contains("fine") && !failure.message.contains("unfilled"),
        "{}",
        failure.message
    );
    assert!(failure.hint.contains("--allow superuser-code") && failure.hint.ends_with("Nothing was made."), "{}", failure.hint);
    assert_nothing_gained(server, "postgres");

    let allowed = Request { allow: vec!["superuser-code".into()], ..copy("acme", "one") };
    assert!(restore(&site, &allowed).await.unwrap().proven);
    server.sql("postgres", "DROP ROLE gained");
    server.sql(&database, "DROP SCHEMA s CASCADE; CREATE TABLE t (i int); ALTER TABLE t OWNER TO low; CREATE MATERIALIZED VIEW m AS SELECT i FROM t");
    assert_eq!(site.all().await.class, None);
    assert!(restore(&site, &copy("acme", "two")).await.unwrap().proven);
}

/// The cast of a foreign key is called by whoever checks it, in the session itself.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_the_rows_is_made_by_one_owner_at_a_time() {
    let server: &'static Cluster = Box::leak(Box::new(own_server()));
    let site = Site::on(server).await;
    let database = site.database("acme");
    server.sql(
        "postgres",
        &format!(
            "CREATE ROLE low; CREATE ROLE other; CREATE ROLE of_both IN ROLE low, other; ALTER DATABASE {database} OWNER TO other"
        ),
    );
    let code = "CREATE FUNCTION s.f(i int) RETURNS int LANGUAGE plpgsql AS $f$ BEGIN
                  BEGIN PERFORM set_config('role', 'other', false); EXECUTE 'ALTER ROLE other SET work_mem = 1024'; PERFORM set_config('role', 'none', false);
                  EXCEPTION WHEN OTHERS THEN NULL; END; RETURN i; END $f$";
    let key = "ALTER TABLE s.t ADD CONSTRAINT refers FOREIGN KEY (x) REFERENCES s.pk (i)";
    server.sql(
        &database,
        &format!(
            "CREATE SCHEMA s; GRANT USAGE, CREATE ON SCHEMA s TO low, other, of_both; CREATE TABLE s.of_other (i int PRIMARY KEY);
             INSERT INTO s.of_other VALUES (1); ALTER TABLE s.of_other OWNER TO other; SET SESSION AUTHORIZATION low; {code};
             CREATE TYPE s.own AS (v int); CREATE FUNCTION s.to_int(s.own) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN s.f(($1).v); END';
             CREATE CAST (s.own AS int) WITH FUNCTION s.to_int(s.own) AS IMPLICIT; CREATE TABLE s.pk (i int PRIMARY KEY); CREATE TABLE s.t (x s.own);
             INSERT INTO s.pk VALUES (1); INSERT INTO s.t VALUES (ROW(1)); {key}"
        ),
    );
    let set =
        || server.sql("postgres", "SELECT count(*) FROM pg_db_role_setting WHERE setrole = 'other'::regrole").trim().to_owned();
    assert_eq!(set(), "0");
    // Made by a member of both, it does what it is here for.
    server.sql(&database, &format!("ALTER TABLE s.t DROP CONSTRAINT refers; SET SESSION AUTHORIZATION of_both; {key}"));
    assert_eq!(set(), "1");
    server.sql("postgres", "ALTER ROLE other RESET ALL");
    assert_eq!(site.all().await.class, None);
    let report = restore(&site, &copy("acme", "one")).await.unwrap();
    assert!(report.proven && report.rows == 3, "{report:?}");
    assert_eq!(set(), "0");
    assert_eq!(server.sql("one", "SELECT convalidated FROM pg_constraint WHERE conname = 'refers'").trim(), "t");

    // By a configured login, too; it is shared with other restores.
    server.sql("postgres", "CREATE ROLE loader LOGIN");
    let environment = tenure::postgres::LibpqEnvironment { home: None, user: "nobody".into(), variables: BTreeMap::new() };
    let description = server.description().replace(" user=postgres", " user=loader dbname=postgres");
    let configured = Destination { loader: Some(Target::parse(&description, &environment).unwrap()), ..here(&site) };
    assert!(restore_to(&site, configured, &copy("acme", "two")).await.unwrap().proven);
    assert_eq!(set(), "0");
    let rights = "SELECT count(*) FROM pg_class, aclexplode(relacl) a WHERE a.grantee = 'loader'::regrole";
    assert_eq!(server.sql("two", rights).trim(), "0");
}

/// Tables of several owners that need each other: partitions and heirs of somebody else, references to tables that nobody may read any more.
#[tokio::test(flavor = "multi_thread")]
async fn owners_that_need_each_other_come_back() {
    let server: &'static Cluster = Box::leak(Box::new(own_server()));
    let site = Site::on(server).await;
    let database = site.database("acme");
    server.sql("postgres", "CREATE ROLE a; CREATE ROLE b; CREATE ROLE c; CREATE ROLE d SUPERUSER");
    server.sql(
        &database,
        "CREATE SCHEMA s; CREATE SCHEMA other;
         CREATE FUNCTION s.tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; ALTER FUNCTION s.tf() OWNER TO b;
         CREATE FUNCTION other.twice(i int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT i * 2';
         CREATE TABLE s.of_b (i int PRIMARY KEY, a int); CREATE TABLE other.of_a (i int PRIMARY KEY, b int REFERENCES s.of_b);
         ALTER TABLE s.of_b ADD FOREIGN KEY (a) REFERENCES other.of_a; INSERT INTO s.of_b VALUES (1, NULL); INSERT INTO other.of_a VALUES (2, 1);
         UPDATE s.of_b SET a = 2; CREATE TABLE s.of_d (i int PRIMARY KEY); INSERT INTO s.of_d VALUES (3);
         CREATE TABLE s.part (i int PRIMARY KEY, j int REFERENCES s.of_d, k int REFERENCES other.of_a, g int GENERATED ALWAYS AS (other.twice(i)) STORED)
           PARTITION BY RANGE (i);
         CREATE TABLE s.part_b PARTITION OF s.part FOR VALUES FROM (1) TO (10); CREATE TABLE s.part_c PARTITION OF s.part FOR VALUES FROM (10) TO (20);
         CREATE TABLE s.part_d PARTITION OF s.part FOR VALUES FROM (20) TO (30);
         INSERT INTO s.part VALUES (1, 3, 2), (11, 3, NULL), (21, 3, 2); CREATE INDEX ON s.part ((other.twice(j)));
         CREATE TRIGGER on_all AFTER INSERT ON s.part FOR EACH ROW EXECUTE FUNCTION s.tf();
         CREATE CONSTRAINT TRIGGER from_b AFTER INSERT ON other.of_a FROM s.of_b DEFERRABLE FOR EACH ROW EXECUTE FUNCTION s.tf();
         CREATE TABLE s.parent (i int); CREATE TABLE s.heir (x s.of_b) INHERITS (s.parent); INSERT INTO s.heir VALUES (5, NULL);
         ALTER TABLE s.parent ADD CONSTRAINT later CHECK (i > 0) NOT VALID; CREATE STATISTICS s.stats ON i, j FROM s.part;
         CREATE MATERIALIZED VIEW s.m AS SELECT i FROM s.parent; CREATE RULE r AS ON INSERT TO s.parent DO ALSO UPDATE other.of_a SET b = b;
         ALTER TABLE s.of_b ENABLE ROW LEVEL SECURITY; ALTER TABLE s.of_b FORCE ROW LEVEL SECURITY; CREATE POLICY p ON s.of_b USING (a = 2);
         ALTER TABLE s.of_b OWNER TO b; ALTER TABLE other.of_a OWNER TO a; ALTER TABLE s.of_d OWNER TO d; ALTER TABLE s.part OWNER TO a;
         ALTER TABLE s.part_b OWNER TO b; ALTER TABLE s.part_c OWNER TO c; ALTER TABLE s.part_d OWNER TO a; ALTER TABLE s.parent OWNER TO a;
         ALTER TABLE s.heir OWNER TO c; GRANT USAGE ON SCHEMA s, other TO a, b, c, d; GRANT SELECT ON s.of_b TO c; GRANT SELECT ON s.parent TO b; ALTER MATERIALIZED VIEW s.m OWNER TO b",
    );
    assert_eq!(site.all().await.class, None);
    let plain = "plain";
    crate::fidelity::oracle::plain_copy(server, &database, server, plain);
    server.sql("postgres", "CREATE ROLE loader LOGIN");
    let environment = tenure::postgres::LibpqEnvironment { home: None, user: "nobody".into(), variables: BTreeMap::new() };
    let description = server.description().replace(" user=postgres", " user=loader dbname=postgres");
    let configured = Destination { loader: Some(Target::parse(&description, &environment).unwrap()), ..here(&site) };
    for (into, destination) in [("one", here(&site)), ("two", configured)] {
        let report = restore_to(&site, destination, &copy("acme", into)).await.unwrap();
        assert!(report.proven, "{report:?}");
        let [ours, theirs] = [into, plain].map(|database| crate::fidelity::oracle::Picture::take(server, database));
        assert_eq!(ours.differences(&theirs), [""; 0]);
    }
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenure%'").trim(), "0");
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_auth_members WHERE member = 'loader'::regrole").trim(), "0");
}
