//! A purge of a tenant that lives, on a real server: under its lock, beside its backups, and what begins afterwards.

use tenure::{
    operation::{
        backup::{Backup, Outcome},
        held::FleetLocks,
        list::list,
    },
    store::{
        Store,
        directory::DirectoryStore,
        fault::{Fault, FaultStore, Operation},
    },
};

use super::*;
use crate::harness::{postgres::shared, site::Site};

const ROWS: &str =
    "CREATE TABLE t (n int, s text); INSERT INTO t SELECT n, repeat(md5(n::text), 5) FROM generate_series(1, 3000) n";

async fn backed_up() -> Site {
    let site = Site::new().await;
    for tenant in ["acme", "other"] {
        shared().sql(&site.database(tenant), ROWS);
    }
    assert_eq!(site.all().await.class, None);
    site
}

async fn purge_site(backup: &Backup, what: What) -> Result<PurgeReport, Failure> {
    let tenant = "acme".parse().unwrap();
    let purge = Purge {
        vault: &backup.vault,
        keyring: &backup.keyring,
        locks: &FleetLocks { clusters: &backup.clusters, installation: backup.vault.root().installation },
        operator: &backup.signer,
        eraser: &backup.signer,
        approvals: 0,
        clock: &Utc::now,
        progress: &Silent,
        cancel: &CancellationToken::new(),
    };
    let intent = purge.look(&tenant, what, false).await?;
    purge.carry_out(&tenant, &intent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_lives_on_begins_a_new_history() {
    let site = backed_up().await;
    let acme: TenantName = "acme".parse().unwrap();
    let keyring = &site.backup.keyring;
    let old = keyring.keys(&acme).await.unwrap().unwrap().records[0].clone();
    let before: BTreeMap<_, _> =
        files(&site.folder().join("keyring")).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    let report = purge_site(&site.backup, What::All).await.unwrap();
    assert_eq!((report.status, report.open.len()), (PurgeStatus::Closed, 0), "the lock is real: {report:?}");
    let listed = list(&site.backup.vault, keyring, &acme, None, None, Utc::now()).await;
    assert_eq!(listed.unwrap_err().kind, "tenant-purged");

    let night = site.all().await;
    assert_eq!((night.class, night.results.len()), (None, 2), "{night:?}");
    let new = keyring.keys(&acme).await.unwrap().unwrap();
    assert_eq!((new.records.len(), new.records[0].sequence), (1, 1));
    assert!(new.records[0].locker != old.locker && new.records[0].key_id != old.key_id);
    assert_eq!(list(&site.backup.vault, keyring, &acme, None, None, Utc::now()).await.unwrap().backups.len(), 1);
    assert!(site.verify(true).await.problems.is_empty());

    // An old copy of the keyring comes back beside the new key: it is said, and used by nothing.
    for (path, bytes) in &before {
        if !path.exists() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
    assert_eq!(keyring.keys(&acme).await.unwrap().unwrap().records.len(), 2);
    let night = site.all().await;
    assert_eq!(night.class, None, "{night:?}");
    assert!(night.findings.iter().any(|finding| finding.contains(&old.key_id.to_string())), "{night:?}");
    let listed = list(&site.backup.vault, keyring, &acme, None, None, Utc::now()).await.unwrap();
    assert_eq!((listed.backups.len(), listed.problems.len()), (2, 0), "{listed:?}");
    let key_id = site.backup.vault.history(new.records[0].locker, Utc::now()).await.unwrap().backups[1].manifest.key_id;
    assert_eq!(key_id, new.records[0].key_id);

    // What came back goes alone, and then all of it.
    let report = purge_site(&site.backup, What::Returned).await.unwrap();
    assert_eq!((report.status, report.backups), (PurgeStatus::Closed, 0), "{report:?}");
    assert!(keyring.keys(&acme).await.unwrap().unwrap().records == new.records);
    assert_eq!(list(&site.backup.vault, keyring, &acme, None, None, Utc::now()).await.unwrap().backups.len(), 2);
    let night = site.all().await;
    assert!(night.class.is_none() && !night.findings.iter().any(|finding| finding.contains("destroy")), "{night:?}");
    let report = purge_site(&site.backup, What::All).await.unwrap();
    assert_eq!((report.status, report.backups), (PurgeStatus::Closed, 3), "{report:?}");
    assert!(keyring.keys(&acme).await.unwrap().is_none());
    let other = list(&site.backup.vault, keyring, &"other".parse().unwrap(), None, None, Utc::now()).await.unwrap();
    assert_eq!(other.backups.len(), 4, "the other one was backed up each night");
}

/// A purge of everything, from its plan to its last look but one, while a backup is about to make one of its calls.
async fn purged_before_a_call(operation: Operation, part: &'static str) {
    let site = backed_up().await;
    let vault: Arc<dyn Store> = Arc::new(DirectoryStore::open(&site.folder().join("vault")).await.unwrap());
    let vault = Arc::new(FaultStore::new(vault));
    let trust = tenure::signature::AllowedSigners::parse(&site.signers).unwrap();
    let slow = Backup { vault: Vault::open(vault.clone(), &trust).await.unwrap(), ..site.backup.clone() };
    shared().sql(&site.name("acme"), "INSERT INTO t SELECT n, 'more' FROM generate_series(1, 5000) n");
    let locker = site.backup.keyring.keys(&"acme".parse().unwrap()).await.unwrap().unwrap().lockers()[0];
    let (other, purged) = (site.backup.clone(), Arc::new(std::sync::Mutex::new(None)));
    let report = purged.clone();
    let begun = std::sync::atomic::AtomicBool::new(operation == Operation::Put);
    let due = move |called: Operation, name: &str| {
        let mut report = report.lock().unwrap();
        let here = name.contains(&format!("t/{locker}/{part}"));
        // The history was read from there long before.
        begun.fetch_or(here && called == Operation::Put, std::sync::atomic::Ordering::SeqCst);
        let begun = begun.load(std::sync::atomic::Ordering::SeqCst);
        if called == operation && here && begun && report.is_none() {
            let runtime = tokio::runtime::Handle::current();
            *report = Some(tokio::task::block_in_place(|| runtime.block_on(purge_site(&other, What::All))));
        }
        false
    };
    vault.fail_where(due, 1, Fault::Lost);
    let night = slow.run(&tenure::operation::backup::Which::Named(vec!["acme".parse().unwrap()])).await.unwrap();
    let place = format!("{operation:?} {part}");
    assert_eq!(night.results[0].outcome, Outcome::Refused, "{place}: {night:?}");
    let report = purged.lock().unwrap().take().expect("the call was made").unwrap();
    // The backup has the tenant's lock, so that somebody has to look once more.
    assert_eq!((report.status, report.open[0].kind), (PurgeStatus::KeysDestroyed, "last-look"), "{place}: {report:?}");
    let acme: TenantName = "acme".parse().unwrap();
    let listed = list(&site.backup.vault, &site.backup.keyring, &acme, None, None, Utc::now()).await;
    assert_eq!(listed.unwrap_err().class, FailureClass::Refused, "{place}");
    let report = purge_site(&site.backup, What::All).await.unwrap();
    assert_eq!(report.status, PurgeStatus::Closed, "{place}: {report:?}");
    let left: Vec<_> = files(&site.folder().join(format!("vault/t/{locker}"))).into_iter().collect();
    assert!(left.iter().all(|path| path.to_string_lossy().contains("/gone/")), "{place}: {left:?}");
    assert!(site.verify(true).await.problems.is_empty(), "{place}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_in_flight_never_reappears() {
    for (operation, part) in [
        (Operation::Put, "c/"),
        (Operation::Put, "p/"),
        (Operation::Put, "b/"),
        // The manifest is there, and looked at once more.
        (Operation::Get, "b/"),
    ] {
        purged_before_a_call(operation, part).await;
    }
}
