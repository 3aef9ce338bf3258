//! The oracle: what tenure brings back is what `pg_dump | pg_restore` brings back, of a database that has everything in it
//! (`tests/fidelity/*.sql`), on the installed PostgreSQL, on 18, and from the one to the other.

pub mod oracle;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use chrono::Utc;
use tenure::{
    operation::{
        failure::Failure,
        progress::Silent,
        restore::{Destination, Request, Restorer, Which},
    },
    postgres::{LibpqEnvironment, Target, tools::Tools},
};

use self::oracle::{Picture, plain_copy, properties};
use crate::harness::{
    installation,
    postgres::{Cluster, Options, quoted, run, unique},
    site::Site,
};

/// In the order of loading. The settings come last: one of them makes the database read-only.
const THEMES: [&str; 15] = [
    "roles",
    "types",
    "xml",
    "tables",
    "partitions",
    "sequences",
    "large_objects",
    "views",
    "code",
    "collations",
    "constraints",
    "names",
    "extensions",
    "publications",
    "security",
];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fidelity").join(name)
}

fn options() -> Options {
    Options {
        // A restore's first transaction holds a lock on each of a thousand objects.
        settings: vec!["max_locks_per_transaction = 256".to_owned()],
        extension: Some(file("extension")),
        ..Options::default()
    }
}

/// The installed PostgreSQL.
fn installed() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::start(&options()))
}

/// PostgreSQL 18, built without XML.
fn newest() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::start(&Options { programs: Some(installation::postgres_18()), ..options() }))
}

fn load(server: &Cluster, database: &str, theme: &str, variables: &[&str]) {
    let mut command = server.program("psql", database);
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null"]).env("PGOPTIONS", "-c client_min_messages=error");
    for variable in variables {
        command.args(["-v", variable]);
    }
    run(command.arg("-f").arg(file(&format!("{theme}.sql"))));
}

/// Whether both servers are built with something, by the words of `configure`.
fn both(one: &Cluster, other: &Cluster, word: &str) -> bool {
    [one, other].iter().all(|server| {
        let said = run(std::process::Command::new(server.programs().join("pg_config")).arg("--configure")).stdout;
        String::from_utf8(said).unwrap().contains(word)
    })
}

/// Whether both servers are built with ICU.
fn both_icu(one: &Cluster, other: &Cluster) -> bool {
    // A server without has one collation of it, which does nothing.
    let has = |server: &&Cluster| {
        server.sql("postgres", "SELECT count(*) > 10 FROM pg_collation WHERE collprovider = 'i'").trim() == "t"
    };
    [one, other].iter().all(has)
}

/// A tenant's database with everything in it that `there`, too, can have.
fn everything(site: &Site, there: &Cluster) -> String {
    let database = site.database("acme");
    let (xml, icu) = (both(site.cluster, there, "--with-libxml"), both_icu(site.cluster, there));
    for theme in THEMES.into_iter().filter(|theme| (xml || *theme != "xml") && (icu || *theme != "collations")) {
        load(site.cluster, &database, theme, &[]);
    }
    load(site.cluster, &database, "settings", &[]);
    database
}

async fn back_up(site: &Site) {
    let report = site.all().await;
    assert_eq!(report.class, None, "{report:?}");
}

async fn restore(site: &Site, server: &Cluster, tenant: &str) -> String {
    let tools = Tools::new(Some(server.programs().display().to_string()), None);
    try_restore(site, server, tenant, &tools).await.unwrap()
}

async fn try_restore(site: &Site, server: &Cluster, tenant: &str, tools: &Tools) -> Result<String, Failure> {
    let into = unique("fidelity_copy");
    let environment = LibpqEnvironment { home: None, user: "nobody".into(), variables: BTreeMap::new() };
    let configured = &site.backup.clusters[0];
    let destination = Destination {
        name: configured.name.clone(),
        admin: Target::parse(&server.description(), &environment).unwrap(),
        loader: None,
        rules: configured.rules.clone(),
        roles: Vec::new(),
        connections: 8,
    };
    let restorer = Restorer {
        vault: &site.backup.vault,
        keyring: &site.backup.keyring,
        clusters: &BTreeMap::from([(destination.name.clone(), destination)]),
        tools,
        signer: &site.backup.signer,
        jobs: 4,
        budget: &tenure::operation::budget::Budget::new(6 * 1024 * 1024),
        progress: &Silent,
        cancel: &site.backup.cancel,
    };
    let request = Request {
        tenant: tenant.parse().unwrap(),
        which: Which::Latest,
        into: Some(into.clone()),
        cluster: None,
        replace: false,
        allow: vec!["all".to_owned()],
        accept_gap: false,
        accept_lost_keys: false,
        keep_failed: false,
        salvage: false,
        tables: Vec::new(),
    };
    let report = restorer.restore(&request, site.identity(), Utc::now()).await?;
    assert!(report.proven);
    Ok(into)
}

/// Restores the newest backup of `tenant` to `server` and compares it with a plain copy there.
async fn compare(site: &Site, server: &Cluster, tenant: &str) -> (String, Picture) {
    let database = site.name(tenant);
    let restored = restore(site, server, tenant).await;
    let plain = unique("fidelity_plain");
    plain_copy(site.cluster, &database, server, &plain);
    let (ours, theirs) = (Picture::take(server, &restored), Picture::take(server, &plain));
    assert_eq!(ours.differences(&theirs), [""; 0], "{tenant}");
    assert_eq!(properties(server, &restored), properties(site.cluster, &database), "{tenant}");
    (restored, theirs)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_and_the_comparison_would_see_if_not() {
    let site = Site::on(installed()).await;
    let database = everything(&site, installed());
    has_every_built_in_type(installed(), &database);
    let report = site.all().await;
    assert_eq!(report.class, None, "{report:?}");
    for lost in ["rows of a foreign table shared.far_rows", "subscription from \"afar"] {
        assert!(report.results[0].findings.iter().any(|finding| finding.contains(lost)), "{lost}: {report:?}");
    }
    let (copy, plain) = compare(&site, installed(), "acme").await;

    // A restore asks no other server: what is above a foreign table is not analysed, its other partitions are.
    let analysed = "SELECT string_agg(DISTINCT tablename, ' ') FROM pg_stats WHERE schemaname = 'shared' AND tablename IN ('near_part', 'near_parent', 'far_parts')";
    assert_eq!(installed().sql(&copy, analysed).trim(), "near_part");

    // Each of these alone is seen, on top of the ones before.
    let mut seen = 0;
    for (change, difference) in CHANGES {
        installed().sql(&copy, &format!("BEGIN READ WRITE; {change}; COMMIT"));
        let differences = Picture::take(installed(), &copy).differences(&plain);
        assert!(
            differences.len() > seen && differences.iter().any(|line| line.contains(difference)),
            "{change}: {differences:#?}"
        );
        seen = differences.len();
    }
    let before = Picture::take(installed(), &copy);
    let changes: Vec<&str> = MORE_CHANGES.iter().map(|(change, _)| *change).collect();
    installed().sql(&copy, &format!("BEGIN READ WRITE; {}; COMMIT", changes.join("; ")));
    let differences = Picture::take(installed(), &copy).differences(&before);
    for (change, difference) in MORE_CHANGES {
        assert!(differences.iter().any(|line| line.contains(difference)), "{change}: {differences:#?}");
    }
    let mut before = properties(installed(), &copy);
    for change in [
        "ALTER ROLE fid_reader IN DATABASE # RESET search_path",
        "ALTER DATABASE # RESET work_mem",
        "ALTER DATABASE # SET \"my.setting\" TO 'other'",
        "COMMENT ON DATABASE # IS 'other'",
        "REVOKE CREATE ON DATABASE # FROM \"fid writer\"",
        "ALTER DATABASE # OWNER TO fid_reader",
        "ALTER DATABASE # CONNECTION LIMIT 51",
    ] {
        installed().sql("postgres", &change.replace('#', &quoted(&copy)));
        let after = properties(installed(), &copy);
        assert_ne!(after, before, "{change}");
        before = after;
    }
}

/// What would be lost if a restore were not faithful, and a line of the comparison that says so.
const CHANGES: [(&str, &str); 8] = [
    ("UPDATE looks.base SET name = 'changed' WHERE id = 5", "COPY looks.base "),
    (
        "DELETE FROM shapes.duplicates WHERE ctid = (SELECT min(ctid) FROM shapes.duplicates WHERE b = 'same')",
        "COPY shapes.duplicates ",
    ),
    ("DELETE FROM shapes.nothing WHERE ctid = (SELECT min(ctid) FROM shapes.nothing)", "COPY shapes.nothing "),
    ("REVOKE SELECT (name) ON looks.base FROM fid_reader", "+GRANT SELECT(name) ON TABLE looks.base "),
    ("REVOKE SELECT ON LARGE OBJECT 70003 FROM PUBLIC", "LARGE OBJECT 70003 TO PUBLIC"),
    ("COMMENT ON TABLE told.a IS NULL", "COMMENT ON TABLE told.a IS"),
    ("SELECT nextval('seqs.used')", "setval('seqs.used', "),
    ("SELECT lo_put(70001, 5, decode('00', 'hex'))", "lowrite(0, "),
];

/// The same, all at once: a dump takes its time.
const MORE_CHANGES: [(&str, &str); 14] = [
    ("INSERT INTO shapes.duplicates VALUES (1, NULL)", "COPY shapes.duplicates "),
    ("INSERT INTO parts.by_range_2000 (id, at) VALUES (78, '2000-07-01 00:00+00')", "COPY parts.by_range_2000 "),
    (
        "WITH moved AS (DELETE FROM ONLY shapes.child RETURNING b, c, late) INSERT INTO shapes.ancestor SELECT 1, * FROM moved",
        "COPY shapes.child ",
    ),
    ("ALTER LARGE OBJECT 70002 OWNER TO fid_reader", "ALTER LARGE OBJECT 70002 OWNER TO "),
    ("COMMENT ON LARGE OBJECT 70003 IS NULL", "COMMENT ON LARGE OBJECT 70003 IS"),
    ("SELECT lo_unlink(70004)", "lo_create('70004')"),
    ("REVOKE SELECT ON looks.filled FROM fid_reader", "+GRANT SELECT ON TABLE looks.filled "),
    ("REVOKE GRANT OPTION FOR USAGE ON SCHEMA locked FROM fid_reader", "+GRANT USAGE ON SCHEMA locked TO fid_reader WITH GRANT"),
    ("ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM fid_reader", "+ALTER DEFAULT PRIVILEGES FOR ROLE "),
    ("ALTER TABLE looks.base OWNER TO fid_reader", "+ALTER TABLE looks.base OWNER TO "),
    ("ALTER TABLE code.watched ENABLE TRIGGER off", "DISABLE TRIGGER off"),
    ("DROP POLICY nobody ON locked.rows", "+CREATE POLICY nobody ON locked.rows "),
    ("REFRESH MATERIALIZED VIEW looks.not_filled", "-REFRESH MATERIALIZED VIEW looks.not_filled"),
    ("SELECT setval('seqs.not_called', 5, true)", "setval('seqs.not_called', 5, "),
];

/// A type that a newer PostgreSQL brings shows up here.
fn has_every_built_in_type(server: &Cluster, database: &str) {
    let missing = server.sql(
        database,
        "SELECT t.typname FROM pg_type t
          WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype IN ('b', 'r', 'm') AND t.typcategory <> 'A' AND t.typname <> 'xml'
            AND NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                             WHERE a.atttypid = t.oid AND a.attnum > 0 AND c.relkind = 'r' AND c.relnamespace = 'types'::regnamespace)
          ORDER BY t.typname",
    );
    let missing: Vec<&str> = missing.lines().collect();
    // These take no value from outside, so that no table can be filled with them.
    let closed = [
        "gtsvector",
        "pg_brin_bloom_summary",
        "pg_brin_minmax_multi_summary",
        "pg_dependencies",
        "pg_mcv_list",
        "pg_ndistinct",
        "pg_node_tree",
    ];
    assert_eq!(missing, closed, "a table in tests/fidelity/types.sql for each");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_on_18() {
    let site = Site::on(newest()).await;
    let database = everything(&site, newest());
    has_every_built_in_type(newest(), &database);
    back_up(&site).await;
    compare(&site, newest(), "acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_from_the_installed_version_to_18() {
    let site = Site::on(installed()).await;
    everything(&site, newest());
    back_up(&site).await;
    // What a role without superuser may own is the target's matter.
    load(newest(), "postgres", "roles", &[]);
    compare(&site, newest(), "acme").await;
}

/// Databases in other encodings and locales, each with every byte that its encoding has.
async fn encodings(here: &'static Cluster, there: &Cluster) {
    let site = Site::on(here).await;
    let version = |server: &Cluster| server.sql("postgres", "SHOW server_version_num").trim().parse::<u32>().unwrap();
    let older = version(here).min(version(there));
    let icu = both_icu(here, there);
    let databases = [
        ("latin1", true, "ENCODING 'LATIN1' LOCALE 'C'"),
        ("bytes", true, "ENCODING 'SQL_ASCII' LOCALE 'C'"),
        ("japanese", true, "ENCODING 'EUC_JP' LOCALE 'POSIX'"),
        ("plain", true, "ENCODING 'UTF8' LOCALE 'C'"),
        // A server older than 15 has ICU for collations only.
        ("icu", icu && older >= 150_000, "ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk'"),
        ("ruled", icu && older >= 160_000, "ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'und' ICU_RULES '&a < g'"),
        ("builtin", older >= 170_000, "ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"),
        ("unicode", older >= 180_000, "ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST'"),
    ];
    let databases: Vec<_> = databases.into_iter().filter(|(_, possible, _)| *possible).collect();
    for (tenant, _, how) in &databases {
        let name = site.name(tenant);
        here.sql("postgres", &format!("CREATE DATABASE {} TEMPLATE template0 {how}", quoted(&name)));
        load(here, &name, "encodings", &[]);
    }
    back_up(&site).await;
    for (tenant, ..) in databases {
        compare(&site, there, tenant).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encodings_and_locales_come_back() {
    encodings(installed(), installed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encodings_and_locales_come_back_on_18() {
    encodings(newest(), newest()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encodings_and_locales_go_from_the_installed_version_to_18() {
    encodings(installed(), newest()).await;
}

/// A `pg_dump` that does not know what a newer minor version keeps with each column takes it for the user's.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_pg_dump_of_a_new_server_is_told() {
    let mut site = Site::on(installed()).await;
    let database = site.database("acme");
    site.cluster.sql(&database, "CREATE TABLE t (id int)");
    site.backup.tools = Arc::new(Tools::new(Some(newest().programs().display().to_string()), None));
    let report = site.all().await;
    assert_eq!(report.class, None, "{report:?}");
    let dumped = run(newest()
        .program("pg_dump", &database)
        .env("PGHOST", site.cluster.socket_folder())
        .env("PGPORT", site.cluster.port().to_string()));
    let carries = String::from_utf8(dumped.stdout).unwrap().contains("pg_attver");
    let told = report.results[0].findings.iter().any(|finding| finding.contains("pg_attver"));
    assert_eq!(told, carries, "{report:?}");
}

/// `pg_restore` 17 and newer set what an older server does not know; what `pg_dump` of those versions wrote no older one reads.
#[tokio::test(flavor = "multi_thread")]
async fn programs_that_are_too_new_for_a_server_are_told_at_backup_and_at_restore() {
    let mut site = Site::on(installed()).await;
    let database = site.database("acme");
    site.cluster.sql(&database, "CREATE TABLE t (id int)");
    let newest = Arc::new(Tools::new(Some(newest().programs().display().to_string()), None));
    let own = std::mem::replace(&mut site.backup.tools, newest.clone());
    let major: u32 =
        site.cluster.sql("postgres", "SELECT current_setting('server_version_num')::int / 10000").trim().parse().unwrap();
    let is_old = major < 17;
    let report = site.all().await;
    let told = report.results[0].findings.iter().any(|finding| finding.contains("17 or newer"));
    assert_eq!(told, is_old, "{report:?}");
    for (dumped_with, hint) in [(&newest, "--cluster"), (&own, "postgresql-client-")] {
        site.backup.tools = dumped_with.clone();
        back_up(&site).await;
        let restored = try_restore(&site, site.cluster, "acme", &newest).await.err();
        assert_eq!(restored.is_some(), is_old, "{restored:?}");
        // In the second case `pg_restore` of 18 is all that is found, for an archive of the server's own version.
        if let Some(failure) = restored {
            let text = failure.one_line();
            assert!(text.contains("transaction_timeout") && failure.hint.contains(hint), "{failure:?}");
        }
    }
}

/// Values that are many chunks long. `scripts/matrix` makes them 60 and 200 MB.
#[tokio::test(flavor = "multi_thread")]
async fn large_values_come_back() {
    let full = std::env::var_os("TENURE_TEST_LARGE").is_some();
    let [text, bytea] = if full { [60, 200] } else { [6, 10] };
    let mut site = Site::on(installed()).await;
    if !full {
        // So that either is more than may be in flight, as at full size.
        site.backup.budget = tenure::operation::budget::Budget::new(6 * 1024 * 1024);
    }
    let database = site.database("acme");
    load(site.cluster, &database, "large_values", &[&format!("text_mb={text}"), &format!("bytea_mb={bytea}")]);
    back_up(&site).await;
    let copy = restore(&site, installed(), "acme").await;
    let sums = "SELECT id, md5(t), length(t) FROM large.large_text UNION ALL SELECT id, md5(b), length(b) FROM large.large_bytea ORDER BY 1, 2";
    assert_eq!(installed().sql(&copy, sums), installed().sql(&database, sums));
}
