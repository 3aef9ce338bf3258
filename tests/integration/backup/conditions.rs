//! What a backup must still find at its commit, whom it meets on the way, and clocks.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tenure::{
    keyring::Keyring,
    operation::{
        backup::{Backup, BackupReport, Which},
        list,
    },
    postgres::{
        LibpqEnvironment, Target,
        lock::{self, TenantLock},
    },
    signature::AllowedSigners,
    store::{
        Store,
        directory::DirectoryStore,
        fault::{FaultStore, Operation},
        s3::{S3Settings, S3Store},
    },
    vault::Vault,
};

use super::*;
use crate::harness::{
    http::{Action, Proxy},
    postgres::{Cluster, Options, unique},
    s3::{self, S3Server as _},
};

/// The kind of the only tenant's failure.
fn kind(report: &BackupReport) -> &str {
    let [result] = &report.results[..] else { panic!("{report:?}") };
    &result.error.as_ref().unwrap_or_else(|| panic!("{report:?}")).kind
}

fn stored(site: &Site, end: &str) -> usize {
    walk(site.folder())
        .iter()
        .filter(|path| path.to_string_lossy().ends_with(end) && path.to_string_lossy().contains("/b/"))
        .count()
}

/// The site with its vault behind a store that tells `act` of the manifest before it writes it.
async fn at_the_manifest(site: &Site, act: impl Fn() + Send + 'static) -> Backup {
    let vault = DirectoryStore::open(&site.folder().join("vault")).await.unwrap();
    let store = Arc::new(FaultStore::new(Arc::new(vault)));
    let is_manifest = |operation, name: &str| operation == Operation::Put && name.contains("/b/") && name.ends_with(".json");
    store.fail_where(
        move |operation, name| {
            if is_manifest(operation, name) {
                act();
            }
            false
        },
        1,
        tenure::store::fault::Fault::Overwritten,
    );
    let vault = Vault::open(store, &AllowedSigners::parse(&site.signers).unwrap()).await.unwrap();
    let keyring = DirectoryStore::open(&site.folder().join("keyring")).await.unwrap();
    let keyring = Keyring::open(Arc::new(keyring), Vec::new(), vault.root(), vault.signers().clone()).await.unwrap();
    Backup { vault, keyring, ..site.backup.clone() }
}

async fn backups(site: &Site) -> usize {
    let Backup { vault, keyring, .. } = &site.backup;
    list::list(vault, keyring, &"acme".parse().unwrap(), None, None, Utc::now()).await.unwrap().backups.len()
}

/// Nobody but a thief of its key declares a backup void after its run.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_declared_void_long_afterwards_is_built_upon() {
    let site = Site::new().await;
    site.cluster.sql(&site.database("acme"), TABLES);
    assert_eq!(site.all().await.class, None);
    let locker = site.backup.vault.lockers().await.unwrap()[0];
    let history = site.backup.vault.history(locker, Utc::now()).await.unwrap();
    let (installation, backup) = (history.backups[0].manifest.installation, history.backups[0].manifest.backup);
    let void = tenure::format::record::Void { format: 1, installation, locker, backup, reason: "theft".to_owned() };
    site.backup.vault.put_void(&void, &site.backup.signer).await.unwrap();
    let path = site.folder().join("vault").join(tenure::object_name::Document::Void(locker, backup).to_string());
    let late = std::time::SystemTime::now() + Duration::from_secs(2 * 86_400);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(late).unwrap();
    let report = site.all().await;
    assert!(report.results.iter().all(|result| result.error.is_none()), "{report:?}");
    let history = site.backup.vault.history(locker, Utc::now()).await.unwrap();
    assert_eq!((history.backups.len(), history.problems.len()), (2, 1), "{history:?}");
    assert_eq!(history.backups[1].manifest.previous.as_ref().unwrap().backup, backup);
}

/// The lock is lost, or a tombstone comes, while the manifest is written: it is declared void, and nobody uses it.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_something_came_in_between_is_void() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    server.sql(&site.database("acme"), TABLES);
    assert_eq!(site.all().await.class, None);
    let end_lock = || {
        let sql = "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE application_name = 'tenure lock'";
        assert_eq!(server.sql("postgres", sql).trim(), "t");
    };
    let report = at_the_manifest(&site, end_lock).await.run(&Which::All { accept_missing: false }).await.unwrap();
    assert_eq!(kind(&report), "lock-lost", "{report:?}");
    assert_eq!((stored(&site, ".json"), stored(&site, ".void"), backups(&site).await), (2, 1, 1));

    let tag = site.backup.keyring.tag(&"acme".parse().unwrap());
    let erased = site.folder().join(format!("vault/erased/{tag}"));
    let tombstone = erased.clone();
    let entomb = move || {
        std::fs::create_dir_all(&tombstone).unwrap();
        std::fs::write(tombstone.join(format!("{}.json", RecordId::random())), b"anything").unwrap();
    };
    let report = at_the_manifest(&site, entomb).await.run(&Which::All { accept_missing: false }).await.unwrap();
    assert_eq!(kind(&report), "tenant-erased", "{report:?}");
    assert_eq!((stored(&site, ".json"), stored(&site, ".void")), (3, 2));
    std::fs::remove_dir_all(erased).unwrap();

    assert_eq!(site.all().await.class, None);
    assert_eq!(backups(&site).await, 2);
    assert!(site.verify(true).await.problems.is_empty());
}

/// Waits, when the commit begins, until the run is older than it may be.
struct WaitsToCommit(Instant, Duration);

impl Progress for WaitsToCommit {
    fn tenant_started(&self, _: &TenantName, _: u64) {}
    fn advanced(&self, _: &TenantName, _: u64) {}
    fn tenant_finished(&self, _: &TenantName, _: &str) {}

    fn stage(&self, _: &TenantName, stage: &'static str) {
        if stage == "committing" {
            while self.0.elapsed() <= self.1 {
                std::thread::yield_now();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_past_max_run_never_commits() {
    // Longer than so small a backup takes, so that it gets to the commit; on a machine that is too busy for that it ends earlier, likewise.
    let limit = Duration::from_secs(4);
    let mut site = Site::limited(shared(), limit.as_secs()).await;
    shared().sql(&site.database("acme"), "CREATE TABLE t AS SELECT 1 AS a");
    site.backup.progress = Arc::new(WaitsToCommit(Instant::now(), limit + Duration::from_secs(1)));
    let report = site.all().await;
    assert_eq!((kind(&report), report.class), ("run-too-long", Some(FailureClass::Failed)), "{report:?}");
    assert_eq!((stored(&site, ".json"), stored(&site, ".sig")), (0, 0));

    // The one that is at it when the time comes is stopped, and its manifest never begun.
    let site = Site::limited(shared(), 0).await;
    shared().sql(&site.database("acme"), "CREATE TABLE t AS SELECT 1 AS a");
    assert_eq!(kind(&site.all().await), "run-too-long");
    assert_eq!(stored(&site, ".sig"), 0);
}

/// Whoever has the lock: another run of ours, which is busy and under `--all` no failure; or somebody who is not one of us.
#[tokio::test(flavor = "multi_thread")]
async fn who_holds_a_tenants_lock_is_waited_for_and_told() {
    let site = Site::new().await;
    for tenant in ["acme", "bolt", "crow"] {
        shared().sql(&site.database(tenant), "CREATE TABLE t AS SELECT 1 AS a");
    }
    let role = unique("squatter");
    shared().sql("postgres", &format!("CREATE ROLE {role} LOGIN PASSWORD 'x'"));
    let environment = LibpqEnvironment { home: None, user: "nobody".to_owned(), variables: BTreeMap::new() };
    let over_tcp =
        Target::parse(&format!("host=127.0.0.1 port={} user={role} password=x", shared().port()), &environment).unwrap();
    let installation = site.backup.vault.root().installation;
    let hold = async |target: &Target, tenant: &str| {
        TenantLock::acquire(target, &installation, &tenant.parse().unwrap(), &[], lock::WAIT).await.unwrap()
    };
    let (ours, theirs) = (hold(&site.backup.clusters[0].target, "acme").await, hold(&over_tcp, "bolt").await);
    let (acme, bolt) = (Which::Named(vec!["acme".parse().unwrap()]), Which::Named(vec!["bolt".parse().unwrap()]));
    let (busy, foreign, all) = tokio::join!(
        site.backup.clone().run(&acme),
        site.backup.clone().run(&bolt),
        site.backup.clone().run(&Which::All { accept_missing: false })
    );
    let (busy, foreign, all) = (busy.unwrap(), foreign.unwrap(), all.unwrap());
    assert_eq!((kind(&busy), busy.class, busy.results[0].outcome), ("busy", Some(FailureClass::Busy), Outcome::Busy));
    assert_eq!(FailureClass::Busy.code(), 6);
    assert_eq!((kind(&foreign), foreign.class), ("lock-held-by-foreign", Some(FailureClass::Failed)));
    let message = &foreign.results[0].error.as_ref().unwrap().message;
    assert!(message.contains(&format!(" of role {role} from 127.0.0.1")) && message.contains("pid "), "{message}");
    let outcomes: Vec<Outcome> = all.results.iter().map(|result| result.outcome).collect();
    assert_eq!((outcomes, all.class), (vec![Outcome::Busy, Outcome::Failed, Outcome::Done], Some(FailureClass::SomeTenants)));

    theirs.release().await.unwrap();
    drop(ours);
    // Two at once, and time to wait: one after the other.
    let (one, other) = tokio::join!(site.backup.clone().run(&acme), site.backup.clone().run(&acme));
    assert_eq!((one.unwrap().class, other.unwrap().class), (None, None));
    assert_eq!(backups(&site).await, 2);
    assert!(site.verify(true).await.problems.is_empty());
}

/// A clock that is wrong is told, and stops nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_a_finding() {
    fn ahead() -> DateTime<Utc> {
        Utc::now() + TimeDelta::hours(1)
    }
    let mut site = Site::new().await;
    shared().sql(&site.database("acme"), "CREATE TABLE t AS SELECT 1 AS a");
    let quiet = site.all().await;
    let told = |report: &BackupReport| format!("{:?} {:?}", report.findings, report.results[0].findings).contains("clock");
    assert!(quiet.class.is_none() && !told(&quiet), "{quiet:?}");
    site.backup.clock = ahead;
    let told = site.all().await;
    assert_eq!(told.class, None, "{told:?}");
    let finding = &told.results[0].findings[0];
    assert!(finding.starts_with("the server's clock is 3") && finding.contains(" s behind this host's"), "{finding}");

    // A store's, by the date of its answers.
    let server = s3::shared();
    let (vault, keyring) = (server.bucket("clock").await, server.bucket("clock").await);
    // Not so much that its server would refuse what is signed by that date.
    let date = (Utc::now() - TimeDelta::minutes(10)).format("Date: %a, %d %b %Y %H:%M:%S GMT\r\n").to_string().leak();
    let proxy = Proxy::start(Some(&server.endpoint), |request, _| match request.path.contains("max-keys=1") {
        true => Action::Answer(403, date, Vec::new()),
        false => Action::Forward,
    })
    .await;
    let site = Site::new().await;
    shared().sql(&site.database("acme"), "CREATE TABLE t AS SELECT 1 AS a");
    let store = async |bucket: &str, folder: &str| {
        let store =
            S3Store::connect(S3Settings { endpoint: Some(proxy.endpoint.clone()), ..server.settings(bucket) }).await.unwrap();
        for path in walk(&site.folder().join(folder)) {
            let name = path.strip_prefix(site.folder().join(folder)).unwrap().to_string_lossy().into_owned();
            store.put(&name, std::fs::read(&path).unwrap().into(), tenure::store::PutMode::Replace).await.unwrap();
        }
        Arc::new(store) as Arc<dyn Store>
    };
    let vault = Vault::open(store(&vault, "vault").await, &AllowedSigners::parse(&site.signers).unwrap()).await.unwrap();
    let keyring =
        Keyring::open(store(&keyring, "keyring").await, Vec::new(), vault.root(), vault.signers().clone()).await.unwrap();
    let told = Backup { vault, keyring, ..site.backup.clone() }.run(&Which::All { accept_missing: false }).await.unwrap();
    assert_eq!((told.class, told.results[0].outcome), (None, Outcome::Done), "{told:?}");
    assert!(
        told.findings.iter().any(|finding| finding.starts_with("the vault's clock is ") && finding.contains(" s behind")),
        "{told:?}"
    );
}
