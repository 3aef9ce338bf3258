//! `restore --all`: every tenant onto an empty server.

use tenure::{
    operation::restore_all::{FleetReport, FleetRequest, Outcome},
    signature::SigningKey,
};

use super::*;
use crate::harness::postgres::{Cluster, Options, shared};

pub(super) async fn restore_all(site: &Site, destination: Destination) -> FleetReport {
    restore_all_by(site, destination, &site.backup.signer).await.unwrap()
}

async fn restore_all_by(site: &Site, destination: Destination, signer: &SigningKey) -> Result<FleetReport, Failure> {
    let clusters = BTreeMap::from([(destination.name.clone(), destination)]);
    let restorer = Restorer {
        vault: &site.backup.vault,
        keyring: &site.backup.keyring,
        clusters: &clusters,
        tools: &site.backup.tools,
        signer,
        jobs: 4,
        budget: &Budget::new(1),
        progress: &Silent,
        cancel: &site.backup.cancel,
    };
    let request =
        FleetRequest { which: Which::Latest, cluster: None, allow: Vec::new(), accept_gap: false, accept_lost_keys: false };
    restorer.restore_all(&request, 4, site.identity(), Utc::now()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failing_tenant_stops_no_other_and_a_second_run_goes_on() {
    let site = Site::new().await;
    for (tenant, rows) in [("small", 10), ("large", 20_000), ("middle", 2_000), ("code", 1), ("gone", 1), ("taken", 1)] {
        let database = site.database(tenant);
        shared().sql(&database, &format!("CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, {rows}) n"));
    }
    shared().sql(&site.name("code"), "CREATE FUNCTION c() RETURNS int LANGUAGE internal AS 'pg_backend_pid'");
    assert_eq!(site.all().await.class, None);
    let tag = site.backup.keyring.tag(&"gone".parse().unwrap());
    let erased = site.folder().join(format!("keyring/erased/{tag}"));
    std::fs::create_dir_all(&erased).unwrap();
    std::fs::write(erased.join(format!("{}.json", tenure::id::RecordId::random())), b"{}").unwrap();

    let server = Cluster::start(&Options::default());
    server.create_database(&site.name("taken"));
    // A host whose key does not count yet is told once, before anything.
    let failure = restore_all_by(&site, there(&site, &server), &SigningKey::generate("restorer")).await.unwrap_err();
    assert_eq!((failure.class.code(), failure.kind), (1, "key-not-allowed"), "{failure:?}");
    let report = restore_all(&site, there(&site, &server)).await;
    let outcomes: Vec<(&str, Outcome)> = report.results.iter().map(|result| (result.tenant.as_str(), result.outcome)).collect();
    let expected = [
        ("code", Outcome::Refused),
        ("gone", Outcome::Refused),
        ("large", Outcome::Done),
        ("middle", Outcome::Done),
        ("small", Outcome::Done),
        ("taken", Outcome::Failed),
    ];
    assert_eq!(outcomes, expected, "{report:?}");
    assert_eq!(report.class.map(tenure::operation::failure::FailureClass::code), Some(4));
    assert_eq!(server.sql(&site.name("large"), "SELECT count(*) FROM t").trim(), "20000");
    // What it says to type is there to be typed.
    let hint = &report.results[5].error.as_ref().unwrap().hint;
    assert!(hint.starts_with("For this tenant alone, by `tenure restore taken`: restore beside it with --into NAME"), "{hint}");
    assert!(!format!("{report:?}").contains("did not end"), "{report:?}");

    // What is there is left as it is, what is missing is done.
    server.sql(&site.name("large"), "CREATE TABLE new_work ()");
    server.sql("postgres", &format!("DROP DATABASE \"{}\"", site.name("small")));
    let report = restore_all(&site, there(&site, &server)).await;
    let outcome = |tenant: &str| report.results.iter().find(|result| result.tenant == tenant).unwrap().outcome;
    assert_eq!((outcome("large"), outcome("middle"), outcome("small")), (Outcome::Already, Outcome::Already, Outcome::Done));
    assert_eq!(server.sql(&site.name("large"), "SELECT count(*) FROM new_work").trim(), "0");
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'tenure%'").trim(), "0");
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenure%'").trim(), "0");
}
