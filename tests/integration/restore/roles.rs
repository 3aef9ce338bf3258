//! Roles on a server that lacks them: who belongs to whom, and who never gets more than before.

use tenure::postgres::leftovers;

use super::{fleet::restore_all, *};
use crate::harness::postgres::{Cluster, Options, eventually, shared, unique};

/// Memberships on a server, as `member in role`.
fn memberships(server: &Cluster, of: &str) -> Vec<String> {
    let sql = format!(
        "SELECT member::regrole || ' in ' || roleid::regrole FROM pg_auth_members WHERE pg_get_userbyid(member) LIKE '{of}%' ORDER BY 1"
    );
    server.sql("postgres", &sql).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_gets_every_membership_in_a_shared_role_back() {
    let site = Site::new().await;
    let (shared_role, own) = (unique("app_rw"), unique("own"));
    shared().sql("postgres", &format!("CREATE ROLE {shared_role}"));
    let tenants = ["a", "b", "c", "d", "e", "f"];
    for tenant in tenants {
        let database = site.database(tenant);
        shared().sql(
            &database,
            &format!(
                "CREATE ROLE {own}_{tenant} LOGIN IN ROLE {shared_role}; CREATE TABLE t AS SELECT 1 AS a; ALTER TABLE t OWNER TO {own}_{tenant};
                 GRANT SELECT ON t TO {shared_role}"
            ),
        );
    }
    assert_eq!(site.all().await.class, None);
    let server = Cluster::start(&Options::default());
    let report = restore_all(&site, there(&site, &server)).await;
    assert_eq!(report.class, None, "{report:?}");
    let expected: Vec<String> = tenants.iter().map(|tenant| format!("{own}_{tenant} in {shared_role}")).collect();
    assert_eq!(memberships(&server, &own), expected);
    assert!(!format!("{report:?}").contains("did not end"), "{report:?}");
    // What is to be typed for a login stands in the note.
    let login = format!("`ALTER ROLE \"{own}_a\" LOGIN; \\password \"{own}_a\"`");
    assert!(report.results[0].notes.iter().any(|note| note.contains(&login)), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tenant_gets_into_a_powerful_role_by_its_name() {
    let site = Site::new().await;
    let own = unique("own");
    let roles = ["plain", "boss", "maker", "login", "owner", "nested", "old_plain"].map(|name| format!("{own}_in_{name}"));
    let [plain, boss, maker, login, owner, nested, old_plain] = roles.clone();
    let database = site.database("acme");
    shared().sql("postgres", &roles.iter().map(|role| format!("CREATE ROLE {role};")).collect::<String>());
    let all = format!("{}, pg_read_all_data", roles.join(", "));
    shared().sql(
        &database,
        &format!(
            "CREATE ROLE {own} IN ROLE {all}; CREATE ROLE {own}_old IN ROLE {plain}, {old_plain}; CREATE TABLE t (a int); ALTER TABLE t OWNER TO {own};
             GRANT SELECT ON t TO {all}, {own}_old"
        ),
    );
    assert_eq!(site.all().await.class, None);

    let server = Cluster::start(&Options::default());
    server.sql(
        "postgres",
        &format!(
            "CREATE ROLE {plain}; CREATE ROLE {boss} SUPERUSER; CREATE ROLE {maker} CREATEROLE; CREATE ROLE {login} LOGIN; CREATE ROLE {owner};
             CREATE TABLE treasure (); ALTER TABLE treasure OWNER TO {owner}; CREATE ROLE {nested} IN ROLE pg_write_all_data;
             CREATE ROLE {own}_old; CREATE ROLE {old_plain}; GRANT {old_plain} TO {own}_old"
        ),
    );
    let report = restore_to(&site, there(&site, &server), &latest("acme")).await.unwrap();
    assert_eq!(report.created_roles, std::slice::from_ref(&own));
    let given = [
        format!("{own} in {old_plain}"),
        format!("{own} in {plain}"),
        format!("{nested} in pg_write_all_data"),
        format!("{own}_old in {old_plain}"),
    ];
    assert_eq!(memberships(&server, &own), given);
    for (role, why) in [
        (boss.as_str(), "is a superuser"),
        (&maker, "may create roles"),
        (&login, "can log in"),
        (&owner, "owns something"),
        (&nested, "is a member of pg_write_all_data, which is one of PostgreSQL's own"),
        ("pg_read_all_data", "is one of PostgreSQL's own"),
    ] {
        let note = format!(
            "role {own} is no member of {role}, as it was when it was backed up: {role} was there before and {why}; if it shall be one, \
             GRANT \"{role}\" TO \"{own}\""
        );
        assert!(report.notes.contains(&note), "{note} in {:#?}", report.notes);
    }
    let note = format!("role {own}_old is no member of {plain}");
    assert!(report.notes.iter().any(|given| given.starts_with(&note) && given.contains("it was there before")), "{report:#?}");
    let not_given = report.notes.iter().filter(|note| note.contains("is no member of")).count();
    assert_eq!(not_given, 7, "{:#?}", report.notes);
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_in_postgresqls_own_roles_are_no_news_at_home() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    let database = site.database("acme");
    server.sql(
        "postgres",
        &format!(
            "CREATE ROLE staff IN ROLE pg_signal_backend; CREATE ROLE app IN ROLE pg_monitor, pg_read_all_data, staff;
             ALTER DATABASE {database} OWNER TO app"
        ),
    );
    server.sql(
        &database,
        "SET SESSION AUTHORIZATION app; CREATE SCHEMA s; CREATE TABLE s.t (i int PRIMARY KEY); INSERT INTO s.t VALUES (1)",
    );
    assert_eq!(site.all().await.class, None);
    let report = restore(&site, &copy("acme", "home")).await.unwrap();
    assert!(!report.notes.iter().any(|note| note.contains("member")), "{report:?}");
    // Elsewhere they are not given, and said.
    let target = Cluster::start(&Options::default());
    let report = restore_to(&site, there(&site, &target), &copy("acme", "away")).await.unwrap();
    assert_eq!(report.created_roles, ["app", "staff"]);
    assert_eq!(memberships(&target, "app"), ["app in staff"]);
    for role in ["pg_monitor", "pg_read_all_data"] {
        assert!(report.notes.iter().any(|note| note.ends_with(&format!("GRANT \"{role}\" TO \"app\""))), "{role}: {report:?}");
    }
    // What was not recorded is refused as before.
    server.sql("postgres", "GRANT pg_write_server_files TO staff");
    let failure = restore(&site, &copy("acme", "again")).await.unwrap_err();
    assert!(
        failure.kind == "needs-allow" && failure.message.contains("role app is a member of pg_write_server_files"),
        "{failure:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn memberships_come_back_as_they_were_and_members_that_a_backup_only_names_are_told() {
    let own_18 =
        || Cluster::start(&Options { programs: Some(crate::harness::installation::postgres_18()), ..Options::default() });
    let installed = || Cluster::start(&Options::default());
    for (server, bare, used, is_18) in
        [(installed(), installed(), installed(), postgres::major() >= 16), (own_18(), own_18(), own_18(), true)]
    {
        let server: &'static Cluster = Box::leak(Box::new(server));
        let site = Site::on(server).await;
        let database = site.database("acme");
        server.sql(
            "postgres",
            &format!(
                "CREATE ROLE grp; CREATE ROLE other; CREATE ROLE own; GRANT grp TO own WITH ADMIN OPTION; CREATE ROLE nightly IN ROLE own;
                 CREATE ROLE gone IN ROLE own; CREATE ROLE super SUPERUSER IN ROLE own; ALTER DATABASE {database} OWNER TO own"
            ),
        );
        server.sql("postgres", if is_18 { "GRANT other TO own WITH INHERIT FALSE, SET FALSE" } else { "GRANT other TO own" });
        server.sql(&database, "SET SESSION AUTHORIZATION own; CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 1 AS i");
        assert_eq!(site.all().await.class, None);
        assert!(restore(&site, &copy("acme", "home")).await.unwrap().notes.iter().all(|note| !note.contains("member")));
        let options = "SELECT roleid::regrole, admin_option, to_jsonb(m) ->> 'inherit_option', to_jsonb(m) ->> 'set_option' FROM pg_auth_members m
                        WHERE member = 'own'::regrole ORDER BY 1";
        let recorded = server.sql("postgres", options);
        bare.sql("postgres", "CREATE ROLE nightly");
        let report = restore_to(&site, there(&site, &bare), &copy("acme", "one")).await.unwrap();
        assert_eq!(bare.sql("postgres", options), recorded, "{report:?}");
        let told = |note: &str| report.notes.iter().filter(|given| given.contains(note)).count();
        assert_eq!(
            told(
                "role nightly is no member of own, as it was when it was backed up: the backup has nothing else of it; if it shall be one, GRANT \"own\" TO \"nightly\""
            ),
            1,
            "{report:?}"
        );
        assert_eq!(
            told("role gone is no member of own, as it was when it was backed up: this server has no role gone"),
            1,
            "{report:?}"
        );
        assert_eq!(told("is no member of"), 2, "{report:?}");
        // Who may make others members of a role that others use has power over them.
        used.sql("postgres", "CREATE ROLE grp");
        let report = restore_to(&site, there(&site, &used), &copy("acme", "one")).await.unwrap();
        assert_eq!(
            used.sql(
                "postgres",
                "SELECT admin_option FROM pg_auth_members WHERE roleid = 'grp'::regrole AND member = 'own'::regrole"
            )
            .trim(),
            "f"
        );
        assert!(
            report.notes.iter().any(|note| note.starts_with("role own may not make others members of grp")
                && note.contains("GRANT \"grp\" TO \"own\" WITH ADMIN")),
            "{report:?}"
        );
    }
}

/// From PostgreSQL 16 on CREATEROLE alone gives no membership in a role that somebody else made.
#[tokio::test(flavor = "multi_thread")]
async fn a_membership_that_the_server_refuses_is_named() {
    let site = Site::new().await;
    let (own, group) = (unique("own"), unique("group"));
    let database = site.database("acme");
    shared().sql(
        "postgres",
        &format!("CREATE ROLE {group}; CREATE ROLE {own} IN ROLE {group}; ALTER DATABASE {database} OWNER TO {own}"),
    );
    shared().sql(
        &database,
        &format!(
            "SET SESSION AUTHORIZATION {own}; CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 1 AS a; GRANT SELECT ON s.t TO {group}"
        ),
    );
    assert_eq!(site.all().await.class, None);
    let server = Cluster::start(&Options::default());
    server.sql("postgres", &format!("CREATE ROLE {group}; CREATE ROLE adm LOGIN CREATEDB CREATEROLE"));
    let mut destination = there(&site, &server);
    let environment = tenure::postgres::LibpqEnvironment { home: None, user: "nobody".into(), variables: BTreeMap::new() };
    let description = server.description().replace(" user=postgres", " user=adm dbname=postgres");
    destination.admin = Target::parse(&description, &environment).unwrap();
    let report = restore_to(&site, destination, &latest("acme")).await.unwrap();
    let refused = report.notes.iter().any(|note| {
        note.starts_with(&format!("role {own} is no member of {group}"))
            && note.contains("the server refused (")
            && note.contains("GRANT")
    });
    let given = memberships(&server, &own) == [format!("{own} in {group}")];
    let may_refuse = postgres::major() >= 16;
    assert_eq!((refused, given), (may_refuse, !may_refuse), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_restore_is_at_work_on_is_no_leftover_and_its_roles_stay() {
    let site = Site::new().await;
    let own = unique("own");
    let database = site.database("acme");
    shared().sql(
        &database,
        &format!(
            "CREATE ROLE {own}; CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'; CREATE MATERIALIZED VIEW m AS SELECT f();
             ALTER MATERIALIZED VIEW m OWNER TO {own}; CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1/0; END'"
        ),
    );
    assert_eq!(site.all().await.class, None);
    let server = Cluster::start(&Options::default());
    let (working, ended) = (tenure::id::RecordId::random(), tenure::id::RecordId::random());
    for id in [working, ended] {
        server.create_database(&leftovers::database_name(id));
        server.sql("postgres", &format!("CREATE ROLE {}", leftovers::login_name(id, 0)));
    }
    let sibling = server.client("postgres").await;
    sibling.batch_execute(&format!("SET application_name = '{}'", leftovers::session_name(working))).await.unwrap();
    let left = leftovers::Leftovers::read(&sibling).await.unwrap();
    let removal = format!("DROP DATABASE {}; DROP ROLE {};", leftovers::database_name(ended), leftovers::login_name(ended, 0));
    assert_eq!(left.removal(), removal);

    let failure = restore_to(&site, there(&site, &server), &latest("acme")).await.unwrap_err();
    assert_eq!(failure.kind, "schema", "{failure:?}");
    assert!(failure.hint.contains(&format!("Left behind: role {own}, which another restore may need.")), "{}", failure.hint);
    drop(sibling);
    let busy = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{}'", leftovers::session_name(working));
    eventually("the other restore's session ends", || server.sql("postgres", &busy).trim() == "0");
    for statement in removal.split_inclusive(';') {
        server.sql("postgres", statement);
    }
    server.sql("postgres", &format!("DROP ROLE {own}"));
    let failure = restore_to(&site, there(&site, &server), &latest("acme")).await.unwrap_err();
    assert!(!failure.hint.contains("Left behind"), "{}", failure.hint);
    let left = leftovers::Leftovers::read(&server.client("postgres").await).await.unwrap();
    assert_eq!((left.databases.len(), left.logins.len()), (1, 1));
}
