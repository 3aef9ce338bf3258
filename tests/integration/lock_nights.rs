//! Backups into a bucket with object lock, night after night. The nights are the clock's: nothing waits for anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_sdk_s3::types::{ObjectLockRetention, ObjectLockRetentionMode};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use tenure::{
    backup_id::BackupId,
    format::manifest::Manifest,
    object_lock::{Lock, Mode, Window},
    object_name::{Document, ObjectName},
    operation::{
        backup::{Backup, BackupReport, Which},
        failure::FailureClass,
        progress::Silent,
        verify::{self, Verify, VerifyReport},
    },
    signature::AllowedSigners,
    store::{
        PutMode, Store, StoreErrorKind,
        fault::{Fault, FaultStore, Operation},
        locked::LockedStore,
        s3::{Credentials, S3Settings, S3Store},
    },
    vault::Vault,
};

use crate::harness::{
    postgres::shared,
    radosgw,
    s3::{self, S3Server, WRITER},
    site::Site,
};

const ROWS: &str =
    "CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 20000) n";

/// W is 10 days: what is stored is locked for 15.
const WINDOW: &str = "10 days";

fn first_night() -> DateTime<Utc> {
    Utc::now()
}

/// Nine days of each lock are left.
fn six_days_later() -> DateTime<Utc> {
    Utc::now() + TimeDelta::days(6)
}

fn twelve_days_later() -> DateTime<Utc> {
    Utc::now() + TimeDelta::days(12)
}

struct Nights {
    site: Site,
    plain: Arc<dyn Store>,
    window: Window,
}

impl Nights {
    /// A tenant on a vault whose root was stored without a lock, as `init` does.
    async fn new(settings: S3Settings, mode: &str) -> Self {
        let plain: Arc<dyn Store> = Arc::new(S3Store::connect(settings).await.unwrap());
        let site = Site::in_vault(plain.clone()).await;
        shared().sql(&site.database("acme"), ROWS);
        Self { site, plain, window: format!("{mode} {WINDOW}").parse().unwrap() }
    }

    /// The vault at a time, and what is asked of it.
    async fn at(&self, clock: fn() -> DateTime<Utc>) -> (Backup, Arc<FaultStore>) {
        let store = Arc::new(FaultStore::new(Arc::new(LockedStore::new(self.plain.clone(), self.window, clock))));
        let vault = Vault::open(store.clone(), &AllowedSigners::parse(&self.site.signers).unwrap()).await.unwrap();
        (Backup { vault, clock, ..self.site.backup.clone() }, store)
    }

    async fn back_up(&self, clock: fn() -> DateTime<Utc>) -> (BackupId, Arc<FaultStore>) {
        let (backup, store) = self.at(clock).await;
        let report = run(backup).await;
        assert_eq!(report.class, None, "{report:?}");
        (report.results[0].backup.as_ref().unwrap().parse().unwrap(), store)
    }

    /// A `verify` that leaves what it finds to the next backup.
    async fn verify(&self, clock: fn() -> DateTime<Utc>) -> VerifyReport {
        let (backup, _) = self.at(clock).await;
        let verify = Verify {
            vault: &backup.vault,
            keyring: &backup.keyring,
            identity: None,
            signer: Ok(&backup.signer),
            progress: &Silent,
            cancel: &backup.cancel,
        };
        verify.run(&verify::Which::All, clock()).await.unwrap()
    }

    /// Shortens a lock to a day, as who may bypass governance can.
    async fn shorten(&self, client: &aws_sdk_s3::Client, bucket: &str, name: &str) {
        let version = self.plain.head(name).await.unwrap().unwrap().version;
        let shorter = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::Governance)
            .retain_until_date(aws_sdk_s3::primitives::DateTime::from_secs((Utc::now() + TimeDelta::days(1)).timestamp()))
            .build();
        let put = client.put_object_retention().bucket(bucket).key(name).set_version_id(version).retention(shorter);
        put.bypass_governance_retention(true).send().await.unwrap();
    }

    async fn locks(&self) -> BTreeMap<String, Option<Lock>> {
        let mut locks = BTreeMap::new();
        let listed: Vec<_> = self.plain.list("").try_collect().await.unwrap();
        for object in listed.iter().filter(|object| !object.name.starts_with("probe/")) {
            locks.insert(object.name.clone(), self.plain.lock_of(object).await.unwrap());
        }
        locks
    }

    async fn manifests(&self) -> Vec<Manifest> {
        let vault = &self.site.backup.vault;
        let locker = vault.lockers().await.unwrap()[0];
        let history = vault.history(locker, Utc::now()).await.unwrap();
        assert!(history.problems.is_empty(), "{:?}", history.problems);
        history.backups.into_iter().map(|backup| backup.manifest).collect()
    }

    /// Everything that a backup needs, by name.
    async fn needed(&self, manifest: &Manifest) -> BTreeSet<String> {
        let locker = manifest.locker;
        let document = Document::Manifest(locker, manifest.backup);
        let mut names = BTreeSet::from([document.to_string(), format!("{document}.sig")]);
        let mut entries = manifest.description.clone();
        for page in &manifest.pages {
            names.insert(ObjectName::Page { locker, birth: page.birth, sha256: page.sha256 }.to_string());
            entries.extend(self.site.backup.vault.page(locker, page).await.unwrap().entries);
        }
        let chunk =
            |entry: &tenure::format::index_page::Entry| ObjectName::Chunk { locker, birth: entry.birth, name: entry.name };
        names.extend(entries.iter().map(|entry| chunk(entry).to_string()));
        names
    }
}

async fn run(backup: Backup) -> BackupReport {
    backup.run(&Which::All { accept_missing: false }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_is_locked_and_renewed() {
    let server = s3::shared();
    let bucket = server.bucket_with_locks("nights").await;
    nights(server.settings(&bucket), "compliance").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_needed_is_locked_and_renewed_on_another_server() {
    let server = radosgw::shared();
    let bucket = server.bucket_with_locks("nights").await;
    nights(server.settings(&bucket), "governance").await;
}

async fn nights(settings: S3Settings, mode: &str) {
    let nights = Nights::new(settings, mode).await;
    let window = nights.window;
    let before = first_night();
    let (first, _) = nights.back_up(first_night).await;
    for (name, lock) in nights.locks().await {
        assert!(lock.is_some_and(|lock| lock.covers(&window.fresh(before))), "{name}: {lock:?}");
    }
    let manifest = nights.manifests().await.remove(0);
    let until = manifest.locked_until().unwrap();
    assert!(until >= window.fresh(before).until && until <= window.fresh(Utc::now()).until);

    // Too little is left of every page. One row changed, which leaves a chunk that only the first backup needs.
    let database = nights.site.name("acme");
    shared().sql(&database, "UPDATE t SET s = 'x' WHERE id = 7");
    let before = six_days_later();
    let (second, store) = nights.back_up(six_days_later).await;
    let manifests = nights.manifests().await;
    let (old, new) = (nights.needed(&manifests[0]).await, nights.needed(&manifests[1]).await);
    assert!(old.intersection(&new).count() > 1 && old.difference(&new).count() > 2 && new.difference(&old).count() > 2);
    let locks = nights.locks().await;
    for (name, lock) in &locks {
        let lock = lock.unwrap();
        let still_needed = new.contains(name) || !old.contains(name);
        assert_eq!(lock.covers(&window.fresh(before)), still_needed, "{name}: {lock}");
    }
    let renewed: BTreeSet<String> = extended(&store).into_iter().filter(|name| old.contains(name)).collect();
    assert_eq!(renewed, old.intersection(&new).cloned().collect(), "what was stored in this night needs nothing");
    let until = manifests[1].locked_until().unwrap();
    assert!(until >= window.fresh(before).until && until <= window.fresh(six_days_later()).until);
    assert!(manifests[1].pages.iter().all(|page| page.locked_until.unwrap() >= until));

    // Again in the same night: nothing is due, and nobody asks for the lock of a chunk or a page.
    let (third, store) = nights.back_up(six_days_later).await;
    assert_eq!(extended(&store), BTreeSet::new());
    assert_eq!((store.calls(Operation::LockOf, "/c/"), store.calls(Operation::LockOf, "/p/")), (0, 0));
    assert_eq!(nights.manifests().await[2].locked_until(), Some(until));

    // Six days more, and its pages are due as well.
    let before = twelve_days_later();
    let (_, store) = nights.back_up(twelve_days_later).await;
    let manifest = nights.manifests().await.pop().unwrap();
    assert!(extended(&store).iter().any(|name| name.contains("/p/")));
    assert!(manifest.locked_until().unwrap() >= window.fresh(before).until);
    let locks = nights.locks().await;
    for name in nights.needed(&manifest).await {
        assert!(locks[&name].unwrap().covers(&window.fresh(before)), "{name}");
    }

    // All of it verifies and comes back.
    let verified = nights.site.verify(true).await;
    assert!(verified.problems.is_empty() && verified.checked.manifests == 4, "{verified:?}");
    let copy = crate::harness::postgres::unique("lock_copy");
    crate::restore::restore(&nights.site, &crate::restore::copy("acme", &copy)).await.unwrap();
    let sum = "SELECT count(*), md5(string_agg(t::text, '' ORDER BY id)) FROM t";
    assert_eq!(shared().sql(&copy, sum), shared().sql(&database, sum));

    // Nobody removes it, in either mode, but who may bypass governance.
    for name in nights.needed(&manifest).await {
        assert!(nights.plain.delete(&name).await.is_err(), "{name}");
    }
    assert_eq!(nights.manifests().await.len(), 4, "{first} {second} {third}");
}

fn extended(store: &FaultStore) -> BTreeSet<String> {
    store.log().into_iter().filter(|(operation, _)| *operation == Operation::ExtendLock).map(|(_, name)| name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_not_taken_stops_the_backup() {
    let server = s3::shared();
    let bucket = server.bucket_with_locks("untaken").await;
    let nights = Nights::new(server.settings(&bucket), "governance").await;
    nights.back_up(first_night).await;
    let refused = Fault::Refused(StoreErrorKind::Denied);
    let not_kept = Fault::Refused(StoreErrorKind::NotLocked);
    // What holds for every tenant stops all of them, before anything is read.
    let (backup, store) = nights.at(six_days_later).await;
    store.fail(Operation::ExtendLock, "vault.json", 1, refused);
    let failure = backup.run(&Which::All { accept_missing: false }).await.unwrap_err();
    assert_eq!((failure.kind, failure.class), ("store-denied", FailureClass::Failed));
    for (operation, part, fault, kind) in [
        (Operation::ExtendLock, "/c/", refused, "store-denied"),
        (Operation::ExtendLock, "/c/", not_kept, "not-locked"),
        (Operation::ExtendLock, "/p/", Fault::Lost, "store-unavailable"),
        (Operation::ExtendLock, "/s/", refused, "store-denied"),
        (Operation::LockOf, "/s/", refused, "store-denied"),
        (Operation::Put, ".json.sig", not_kept, "not-locked"),
        (Operation::Put, "/b/", refused, "store-denied"),
    ] {
        let (backup, store) = nights.at(six_days_later).await;
        store.fail(operation, part, 1, fault);
        let report = run(backup).await;
        let failure = report.results[0].error.as_ref().unwrap_or_else(|| panic!("{operation:?} {part}: {report:?}"));
        assert_eq!(
            (failure.kind.as_str(), report.class),
            (kind, Some(FailureClass::Failed)),
            "{operation:?} {part}: {failure:?}"
        );
        assert_eq!(nights.manifests().await.len(), 1, "{operation:?} {part} {fault:?}");
    }
    // A manifest that is there and not locked is declared void.
    let (backup, store) = nights.at(six_days_later).await;
    let is_manifest =
        |operation: Operation, name: &str| operation == Operation::Put && name.contains("/b/") && name.ends_with(".json");
    store.fail_where(is_manifest, 1, Fault::Refused(StoreErrorKind::NotLocked));
    let report = run(backup).await;
    assert_eq!(report.results[0].error.as_ref().unwrap().kind, "not-locked");
    let voids = nights.site.backup.vault.history(nights.manifests().await[0].locker, Utc::now()).await.unwrap().voids;
    assert_eq!(voids.len(), 1);

    nights.back_up(six_days_later).await;
    assert_eq!(nights.manifests().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_need_a_right_that_is_named() {
    let server = s3::shared();
    let bucket = server.bucket_with_locks("rights").await;
    let nights = Nights::new(server.settings(&bucket), "governance").await;
    nights.back_up(first_night).await;
    let rights = [
        "s3:PutObject",
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:ListBucket",
        "s3:ListBucketVersions",
        "s3:GetBucketVersioning",
        "s3:GetBucketObjectLockConfiguration",
        "s3:GetObjectRetention",
    ];
    s3::grant(&server.client(), &bucket, WRITER, &rights).await;
    let writer = S3Settings { credentials: Credentials::Given(s3::credentials(WRITER)), ..server.settings(&bucket) };
    let mut nights = nights;
    nights.plain = Arc::new(S3Store::connect(writer).await.unwrap());
    let (backup, _) = nights.at(six_days_later).await;
    let failure = backup.run(&Which::All { accept_missing: false }).await.unwrap_err();
    assert!(failure.one_line().contains("access denied") && failure.hint.contains("s3:PutObjectRetention"), "{failure:?}");
    assert_eq!(nights.manifests().await.len(), 1);

    s3::grant(&server.client(), &bucket, WRITER, &[&rights[..], &["s3:PutObjectRetention"]].concat()).await;
    nights.back_up(six_days_later).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_object_lock_is_refused_before_anything_is_written() {
    let server = s3::shared();
    let bucket = server.bucket("nolocks").await;
    let nights = Nights::new(server.settings(&bucket), "compliance").await;
    let names = async || {
        let listed: Vec<_> = nights.plain.list("").map_ok(|listed| listed.name).try_collect().await.unwrap();
        BTreeSet::from_iter(listed)
    };
    let before = names().await;
    let (backup, _) = nights.at(first_night).await;
    let failure = backup.run(&Which::All { accept_missing: false }).await.unwrap_err();
    assert_eq!((failure.class, failure.kind), (FailureClass::Failed, "no-object-lock"));
    assert_eq!(names().await, before);
    let keyring: Vec<_> = nights.site.backup.keyring.store().list("").map_ok(|listed| listed.name).try_collect().await.unwrap();
    assert_eq!(keyring, ["keyring.json"]);
}

/// Turned on later, and another mode later still.
#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_was_not_locked_is_locked_by_its_next_backup() {
    let server = s3::shared();
    let bucket = server.bucket_with_locks("later").await;
    let mut nights = Nights::new(server.settings(&bucket), "governance").await;
    let report = run(nights.site.backup.clone()).await;
    assert_eq!(report.class, None, "{report:?}");
    assert!(nights.locks().await.values().all(Option::is_none));
    assert_eq!(nights.manifests().await[0].locked_until(), None);

    let before = Utc::now();
    nights.back_up(first_night).await;
    let manifest = nights.manifests().await.remove(1);
    let (locks, needed) = (nights.locks().await, nights.needed(&manifest).await);
    for name in &needed {
        assert!(locks[name].is_some_and(|lock| lock.covers(&nights.window.fresh(before))), "{name}: {:?}", locks[name]);
    }
    assert!(manifest.locked_until().unwrap() >= nights.window.fresh(before).until);

    nights.window = format!("compliance {WINDOW}").parse().unwrap();
    let (backup, _) = nights.at(six_days_later).await;
    let report = run(backup).await;
    let note = report.results[0].findings.iter().find(|finding| finding.contains("stay locked in governance mode"));
    assert!(note.is_some(), "{report:?}");
    let locks = nights.locks().await;
    let manifest = nights.manifests().await.remove(2);
    let modes: BTreeSet<Mode> = nights.needed(&manifest).await.iter().map(|name| locks[name].unwrap().mode).collect();
    assert_eq!(modes, BTreeSet::from([Mode::Governance, Mode::Compliance]), "what is new has the new one");
    // `verify` says it of everything that backups need, whether or not its turn was tonight.
    let mut needed = BTreeSet::new();
    for manifest in nights.manifests().await {
        needed.extend(
            nights
                .needed(&manifest)
                .await
                .into_iter()
                .filter(|name| ["/b/", "/c/", "/p/"].iter().any(|kind| name.contains(kind))),
        );
    }
    let governed = needed.iter().filter(|name| locks[*name].is_some_and(|lock| lock.mode == Mode::Governance)).count();
    let verified = nights.verify(six_days_later).await;
    let note = format!("{governed} objects that backups need are locked in governance mode, though vault.lock says compliance");
    assert!(governed > 0 && verified.notes.iter().any(|said| said.contains(&note)), "{note}: {verified:?}");
    assert_eq!(verified.problems, [], "it is no problem");

    // Turned off again: what is locked stays so, and nothing is promised.
    let report = run(nights.site.backup.clone()).await;
    assert_eq!(report.class, None, "{report:?}");
    assert_eq!(nights.manifests().await[3].locked_until(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_or_written_over_is_found_used_and_stored_anew() {
    let server = s3::shared();
    let (bucket, client) = (server.bucket_with_locks("tampered").await, server.client());
    let nights = Nights::new(server.settings(&bucket), "governance").await;
    nights.back_up(first_night).await;
    let manifest = nights.manifests().await.remove(0);
    let needed = nights.needed(&manifest).await;
    let of = |part: &str| needed.iter().find(|name| name.contains(part)).unwrap().clone();
    let (chunk, page, signature) = (of("/c/"), of("/p/"), of(".json.sig"));
    client.delete_object().bucket(&bucket).key(&chunk).send().await.unwrap();
    client.put_object().bucket(&bucket).key(&page).body(b"{}".to_vec().into()).send().await.unwrap();
    client.delete_object().bucket(&bucket).key(&signature).send().await.unwrap();

    let verified = nights.site.verify(true).await;
    for name in [&chunk, &page, &signature] {
        assert!(verified.problems.iter().any(|problem| problem.object.ends_with(name.as_str())), "{name}: {verified:?}");
    }
    // Who may bypass governance shortens a lock.
    let objects: Vec<_> = nights.plain.list("t/").try_collect().await.unwrap();
    let is_other = |name: &String| name.contains("/c/") && *name != chunk;
    let other = objects.into_iter().map(|object| object.name).find(is_other).unwrap();
    nights.shorten(&client, &bucket, &other).await;
    let verified = nights.site.verify(false).await;
    let found: Vec<_> = verified.problems.iter().filter(|problem| problem.problem.contains("though it was until")).collect();
    assert!(found.len() == 1 && found[0].object.ends_with(&other), "{verified:?}");
    assert!(found[0].problem.starts_with("locked in governance until "), "{found:?}");

    let copy = crate::harness::postgres::unique("lock_tampered");
    crate::restore::restore(&nights.site, &crate::restore::copy("acme", &copy)).await.unwrap();
    assert_eq!(shared().sql(&copy, "SELECT count(*) FROM t").trim(), "20000");

    let (_, store) = nights.back_up(six_days_later).await;
    let manifest = nights.manifests().await.pop().unwrap();
    let anew = nights.needed(&manifest).await;
    assert!(!anew.contains(&chunk) && !anew.contains(&page));
    assert!(!extended(&store).contains(&chunk), "what is hidden is not worth a lock");
}

/// Without its manifest a backup is none: who may bypass locks begins with those.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifests_lock_that_somebody_shortened_is_found() {
    let server = s3::shared();
    let (bucket, client) = (server.bucket_with_locks("manifests").await, server.client());
    let nights = Nights::new(server.settings(&bucket), "governance").await;
    nights.back_up(first_night).await;
    let verified = nights.verify(first_night).await;
    assert!(verified.problems.is_empty(), "{verified:?}");
    let manifest = nights.manifests().await.remove(0);
    let document = Document::Manifest(manifest.locker, manifest.backup);
    let shortened = [document.to_string(), ObjectName::Signature(document).to_string()];
    for name in &shortened {
        nights.shorten(&client, &bucket, name).await;
    }
    let verified = nights.verify(first_night).await;
    let named: BTreeSet<&str> = verified.problems.iter().map(|problem| problem.object.as_str()).collect();
    assert!(named.len() == 2 && shortened.iter().all(|name| named.iter().any(|named| named.ends_with(name))), "{verified:?}");
    assert!(verified.problems.iter().all(|problem| problem.problem.contains("PutObjectRetention")), "{verified:?}");
}

/// All in one night, so that no page's turn comes.
#[tokio::test(flavor = "multi_thread")]
async fn what_verify_finds_locked_for_too_short_the_very_next_backup_locks_again() {
    let server = s3::shared();
    let (bucket, client) = (server.bucket_with_locks("shortened").await, server.client());
    let nights = Nights::new(server.settings(&bucket), "governance").await;
    nights.back_up(first_night).await;
    let manifest = nights.manifests().await.remove(0);
    let locker = manifest.locker;
    let page = &manifest.pages[0];
    let of = |entry: &tenure::format::index_page::Entry| {
        ObjectName::Chunk { locker, birth: entry.birth, name: entry.name }.to_string()
    };
    let entries = nights.site.backup.vault.page(locker, page).await.unwrap().entries;
    let shortened = BTreeSet::from([
        ObjectName::Page { locker, birth: page.birth, sha256: page.sha256 }.to_string(),
        of(&entries[0]),
        of(&manifest.description[0]),
    ]);
    for name in &shortened {
        nights.shorten(&client, &bucket, name).await;
    }
    // Nobody has looked yet: the manifests are believed.
    let (_, store) = nights.back_up(first_night).await;
    assert!(shortened.is_disjoint(&extended(&store)), "{:?}", extended(&store));

    let verified = nights.verify(first_night).await;
    let named: BTreeSet<&str> = verified.problems.iter().map(|problem| problem.object.as_str()).collect();
    assert!(shortened.iter().all(|name| named.iter().any(|named| named.ends_with(name.as_str()))), "{verified:?}");
    assert_eq!((named.len(), verified.findings.len()), (3, 1), "{verified:?}");
    assert!(nights.verify(first_night).await.findings.is_empty(), "it is said already");

    let whole = nights.window.fresh(Utc::now());
    let (_, store) = nights.back_up(first_night).await;
    assert!(shortened.is_subset(&extended(&store)), "{:?}", extended(&store));
    let locks = nights.locks().await;
    for name in &shortened {
        assert!(locks[name].is_some_and(|lock| lock.covers(&whole)), "{name}: {:?}", locks[name]);
    }
    // Read back, or there is no backup.
    let (backup, store) = nights.at(first_night).await;
    store.fail(Operation::ExtendLock, shortened.first().unwrap(), 1, Fault::Refused(StoreErrorKind::NotLocked));
    assert_eq!(run(backup).await.results[0].error.as_ref().unwrap().kind, "not-locked");

    // Found whole, they are believed again.
    let verified = nights.verify(first_night).await;
    assert!(verified.problems.is_empty() && verified.findings.len() == 1, "{verified:?}");
    let (_, store) = nights.back_up(first_night).await;
    assert!(shortened.is_disjoint(&extended(&store)), "{:?}", extended(&store));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_is_never_locked_by_a_backup() {
    let server = s3::shared();
    let bucket = server.bucket_with_locks("probes").await;
    let nights = Nights::new(server.settings(&bucket), "compliance").await;
    nights.back_up(first_night).await;
    let probes: Vec<_> = nights.plain.list("probe/").try_collect().await.unwrap();
    assert!(!probes.is_empty());
    for probe in probes {
        assert_eq!(nights.plain.lock_of(&probe).await.unwrap(), None, "{}", probe.name);
    }
    nights.plain.put("probe/x", "x".into(), PutMode::CreateOnly).await.unwrap();
}
