//! The oracle: what tenure brings back is what `pg_dump | pg_restore` brings back, of a database that has everything in it
//! (`tests/fidelity/*.sql`), on the installed PostgreSQL, on 18, and from the one to the other.

mod oracle;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use chrono::Utc;
use tenure::{
    operation::{
        progress::Silent,
        restore::{Destination, Request, Restorer, Which},
    },
    postgres::{LibpqEnvironment, Target, memberships::Memberships, tools::Tools},
};

use self::oracle::{Picture, plain_copy, properties};
use crate::harness::{
    installation,
    postgres::{Cluster, Options, quoted, run, unique},
    site::Site,
};

/// In the order of loading. The settings come last: one of them makes the database read-only.
const THEMES: [&str; 14] = [
    "roles",
    "types",
    "xml",
    "tables",
    "partitions",
    "sequences",
    "large_objects",
    "views",
    "code",
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

/// A tenant's database with everything in it that `there`, too, can have.
fn everything(site: &Site, there: &Cluster) -> String {
    let database = site.database("acme");
    let xml = both(site.cluster, there, "--with-libxml");
    for theme in THEMES.into_iter().filter(|theme| xml || *theme != "xml") {
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
        memberships: Memberships::default(),
    };
    let restorer = Restorer {
        vault: &site.backup.vault,
        keyring: &site.backup.keyring,
        clusters: &BTreeMap::from([(destination.name.clone(), destination)]),
        tools: &Tools::new(Some(server.programs().display().to_string()), None),
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
        keep_failed: false,
        salvage: false,
    };
    let report = restorer.restore(&request, site.identity(), Utc::now()).await.unwrap();
    assert!(report.proven);
    into
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
    everything(&site, installed());
    let report = site.all().await;
    assert_eq!(report.class, None, "{report:?}");
    for lost in ["rows of a foreign table shared.far_rows", "subscription from \"afar"] {
        assert!(report.results[0].findings.iter().any(|finding| finding.contains(lost)), "{lost}: {report:?}");
    }
    let (copy, plain) = compare(&site, installed(), "acme").await;

    // One change after the other, each seen, and nothing else.
    let mut seen = 0;
    for (change, difference) in [
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
    ] {
        installed().sql(&copy, &format!("BEGIN READ WRITE; {change}; COMMIT"));
        let differences = Picture::take(installed(), &copy).differences(&plain);
        assert!(
            differences.len() > seen && differences.iter().any(|line| line.contains(difference)),
            "{change}: {differences:#?}"
        );
        seen = differences.len();
    }
    let before = properties(installed(), &copy);
    installed().sql("postgres", &format!("ALTER ROLE fid_reader IN DATABASE {} RESET search_path", quoted(&copy)));
    assert_ne!(properties(installed(), &copy), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_on_18() {
    let site = Site::on(newest()).await;
    everything(&site, newest());
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

#[tokio::test(flavor = "multi_thread")]
async fn encodings_and_locales_come_back() {
    let site = Site::on(installed()).await;
    let icu = both(installed(), installed(), "--with-icu");
    let databases = [
        ("latin1", "ENCODING 'LATIN1' LOCALE 'C'"),
        ("bytes", "ENCODING 'SQL_ASCII' LOCALE 'C'"),
        ("japanese", "ENCODING 'EUC_JP' LOCALE 'POSIX'"),
        ("plain", "ENCODING 'UTF8' LOCALE 'C'"),
        ("icu", "ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk'"),
    ];
    let databases = databases.into_iter().filter(|(tenant, _)| icu || *tenant != "icu");
    for (tenant, how) in databases.clone() {
        let name = site.name(tenant);
        site.cluster.sql("postgres", &format!("CREATE DATABASE {} TEMPLATE template0 {how}", quoted(&name)));
        load(site.cluster, &name, "encodings", &[]);
    }
    back_up(&site).await;
    for (tenant, _) in databases {
        compare(&site, installed(), tenant).await;
    }
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

/// Values that are many chunks long. `scripts/matrix` makes them 60 and 200 MB.
#[tokio::test(flavor = "multi_thread")]
async fn large_values_come_back() {
    let [text, bytea] = if std::env::var_os("TENURE_TEST_LARGE").is_some() { [60, 200] } else { [6, 10] };
    let site = Site::on(installed()).await;
    let database = site.database("acme");
    load(site.cluster, &database, "large_values", &[&format!("text_mb={text}"), &format!("bytea_mb={bytea}")]);
    back_up(&site).await;
    let copy = restore(&site, installed(), "acme").await;
    let sums = "SELECT id, md5(t), length(t) FROM large.large_text UNION ALL SELECT id, md5(b), length(b) FROM large.large_bytea ORDER BY 1, 2";
    assert_eq!(installed().sql(&copy, sums), installed().sql(&database, sums));
}
