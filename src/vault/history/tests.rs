use std::sync::Arc;

use crate::{
    format::{
        manifest::{Previous, Server, Totals},
        root::VaultRoot,
    },
    id::{InstallationId, KeyId, RecordId},
    signature::AllowedSigners,
    store::{
        PutMode, Store as _, StoreErrorKind,
        directory::DirectoryStore,
        fault::{Fault, FaultStore, Operation},
    },
};

use super::*;

fn at(text: &str) -> DateTime<Utc> {
    format!("{text}T03:00:00Z").parse().unwrap()
}

/// A locker in a vault of its own.
struct Place {
    _folder: tempfile::TempDir,
    store: Arc<FaultStore>,
    vault: Vault,
    key: SigningKey,
    locker: Locker,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(FaultStore::new(Arc::new(DirectoryStore::create(&folder.path().join("vault")).await.unwrap())));
        let key = SigningKey::generate("worker");
        let line = format!("worker@a namespaces=\"tenure-manifest\" {}\n", key.public_openssh().unwrap());
        let signers = AllowedSigners::parse(&line).unwrap();
        let root = VaultRoot {
            format: 1,
            store_id: RecordId::random(),
            installation: InstallationId::random(),
            name_key_sha256: Sha256Digest([0; 32]),
            max_run_seconds: 86_400,
            settle_seconds: 172_800,
            max_keep: "10 years".parse().unwrap(),
        };
        let vault = Vault { store: store.clone(), root, trust: signers.clone(), signers, expected_notes: Arc::default() };
        Self { _folder: folder, store, vault, key, locker: Locker::random() }
    }

    fn manifest(&self, sequence: u64, day: &str, previous: Option<&Backup>) -> Manifest {
        let (taken_at, keep) = (at(day), "6 months".parse::<crate::retention::Keep>().unwrap());
        Manifest {
            format: 1,
            installation: self.vault.root().installation,
            locker: self.locker,
            backup: BackupId::new(taken_at),
            sequence,
            previous: previous.map(|backup| Previous {
                backup: backup.manifest.backup,
                sha256: backup.sha256,
                expires_at: backup.manifest.expires_at,
            }),
            taken_at,
            server_time: taken_at,
            keep,
            expires_at: keep.expiry(taken_at),
            key_id: KeyId::random(),
            server: Server {
                system_identifier: "7".to_owned(),
                database_oid: 5,
                timeline: 1,
                lsn: "0/1".to_owned(),
                version_num: 150_000,
            },
            description: Vec::new(),
            pages: Vec::new(),
            description_locked_until: None,
            not_captured: 0,
            totals: Totals::default(),
            written_by: "x".to_owned(),
        }
    }

    async fn put(&self, manifest: Manifest) -> Backup {
        let sha256 = self.vault.put_manifest(&manifest, &self.key).await.unwrap();
        Backup { manifest, sha256 }
    }

    async fn put_void(&self, backup: BackupId) {
        let (installation, locker) = (self.vault.root().installation, self.locker);
        let void = Void { format: 1, installation, locker, backup, reason: "x".to_owned() };
        self.vault.put_void(&void, &self.key).await.unwrap();
    }

    async fn history(&self, now: &str) -> History {
        self.vault.history(self.locker, at(now)).await.unwrap()
    }

    /// Removes a manifest and leaves its signature.
    async fn remove(&self, backup: &Backup) {
        self.store.delete(&Document::Manifest(self.locker, backup.manifest.backup).to_string()).await.unwrap();
    }
}

fn ids(history: &History) -> Vec<BackupId> {
    history.backups.iter().map(|backup| backup.manifest.backup).collect()
}

fn holes(history: &History) -> Vec<(Option<BackupId>, bool, &str)> {
    history.problems.iter().map(|problem| (problem.backup, problem.is_hole, problem.what.as_str())).collect()
}

const GONE: &str = "a later backup names it, and it is not to be found or not to be trusted";

#[tokio::test]
async fn backups_are_in_the_order_of_their_sequence_and_end_with_their_time() {
    let place = Place::new().await;
    let empty = place.history("2026-11-21").await;
    assert!(empty.newest().is_none() && empty.problems.is_empty() && empty.leftovers.is_empty());
    assert!(!place.vault.has_manifests(place.locker).await.unwrap());

    // The host's clock went back between the first and the second.
    let first = place.put(place.manifest(1, "2026-11-21", None)).await;
    let second = place.put(place.manifest(2, "2026-11-20", Some(&first))).await;
    let third = place.put(place.manifest(3, "2026-11-22", Some(&second))).await;
    let history = place.history("2026-11-23").await;
    assert_eq!(ids(&history), [&first, &second, &third].map(|backup| backup.manifest.backup));
    assert_eq!(history.newest().unwrap().sha256, third.sha256);
    assert_eq!(holes(&history), []);
    assert_eq!((history.voids.len(), history.leftovers.len()), (0, 0));
    assert!(place.vault.has_manifests(place.locker).await.unwrap());
    assert!(!place.vault.has_manifests(Locker::random()).await.unwrap());

    // Six months are over at the very moment, and not a moment before.
    let end = first.manifest.expires_at;
    assert_eq!(end, at("2027-05-21"));
    assert!(first.is_expired(end) && !first.is_expired(end - chrono::TimeDelta::microseconds(1)));
    let live: Vec<_> = history.live(end).map(|backup| backup.manifest.backup).collect();
    assert_eq!(live, [third.manifest.backup], "the newest first, without those whose time is over");
    let live: Vec<_> = history.live(at("2026-11-23")).map(|backup| backup.manifest.backup).collect();
    assert_eq!(live, [&third, &second, &first].map(|backup| backup.manifest.backup));
}

#[tokio::test]
async fn a_backup_may_be_kept_as_long_as_the_vault_allows_and_no_longer() {
    let place = Place::new().await;
    for (sequence, keep, counted) in [(1, "10 years", 1), (2, "121 months", 1)] {
        let mut manifest = place.manifest(sequence, "2026-11-20", None);
        manifest.keep = keep.parse().unwrap();
        manifest.expires_at = manifest.keep.expiry(manifest.taken_at);
        place.put(manifest).await;
        assert_eq!(place.history("2026-11-21").await.backups.len(), counted, "{keep}");
    }
}

#[tokio::test]
async fn a_predecessor_that_is_gone_before_its_time_is_a_hole() {
    let place = Place::new().await;
    let first = place.put(place.manifest(1, "2026-11-20", None)).await;
    let second = place.put(place.manifest(2, "2026-11-21", Some(&first))).await;
    place.put(place.manifest(3, "2026-11-22", Some(&second))).await;
    place.remove(&second).await;
    let history = place.history("2026-11-23").await;
    assert_eq!(holes(&history), [(Some(second.manifest.backup), true, GONE)]);
    assert!(history.problems[0].object.ends_with(&format!("{}.json", second.manifest.backup)), "{history:?}");
    // Its signature is what is left of it.
    assert_eq!(history.unfinished().collect::<Vec<_>>(), [second.manifest.backup]);
    assert_eq!(history.leftovers, [format!("{}.sig", Document::Manifest(place.locker, second.manifest.backup))]);
    // From the moment that its own time is over it may be gone.
    let before = second.manifest.expires_at - chrono::TimeDelta::microseconds(1);
    assert_eq!(holes(&place.vault.history(place.locker, before).await.unwrap()).len(), 1);
    assert_eq!(holes(&place.vault.history(place.locker, second.manifest.expires_at).await.unwrap()), []);
}

#[tokio::test]
async fn a_predecessor_that_is_another_one_is_a_hole() {
    let place = Place::new().await;
    let mut first = place.put(place.manifest(1, "2026-11-20", None)).await;
    first.sha256 = Sha256Digest([7; 32]);
    place.put(place.manifest(2, "2026-11-21", Some(&first))).await;
    let history = place.history("2026-11-22").await;
    assert_eq!(
        holes(&history),
        [(Some(first.manifest.backup), true, "it is not the manifest that its successor was built upon")]
    );
    assert_eq!(history.backups.len(), 2);
}

#[tokio::test]
async fn a_void_backup_never_counts_and_is_no_hole() {
    let place = Place::new().await;
    let first = place.put(place.manifest(1, "2026-11-20", None)).await;
    let second = place.put(place.manifest(2, "2026-11-21", Some(&first))).await;
    place.put_void(first.manifest.backup).await;
    let history = place.history("2026-11-22").await;
    assert_eq!((ids(&history), &history.voids), (vec![second.manifest.backup], &vec![first.manifest.backup]));
    assert_eq!((holes(&history), history.leftovers.len()), (vec![], 0));
}

#[tokio::test]
async fn a_void_that_is_not_to_be_trusted_is_said_and_still_counts() {
    for wrong in ["another backup", "another locker", "another installation"] {
        let place = Place::new().await;
        let first = place.put(place.manifest(1, "2026-11-20", None)).await;
        let mut void = Void {
            format: 1,
            installation: place.vault.root().installation,
            locker: place.locker,
            backup: first.manifest.backup,
            reason: "x".to_owned(),
        };
        match wrong {
            "another backup" => void.backup = BackupId::new(at("2026-11-19")),
            "another locker" => void.locker = Locker::random(),
            _ => void.installation = InstallationId::random(),
        }
        let document = Document::Void(place.locker, first.manifest.backup);
        signed::create(&*place.store, &document, &void, Namespace::Manifest, &place.key).await.unwrap();
        let history = place.history("2026-11-22").await;
        assert_eq!(holes(&history), [(Some(first.manifest.backup), false, "it voids another backup")], "{wrong}");
        assert_eq!((history.backups.len(), history.voids.len()), (0, 1), "{wrong}");
    }
}

/// What cannot be reached is not known: neither wrong nor absent.
#[tokio::test]
async fn what_cannot_be_reached_is_an_error() {
    let place = Place::new().await;
    let first = place.put(place.manifest(1, "2026-11-20", None)).await;
    place.put(place.manifest(2, "2026-11-21", Some(&first))).await;
    place.put_void(first.manifest.backup).await;
    let out_of_reach = Fault::Refused(StoreErrorKind::Unavailable);
    for (operation, part) in [
        (Operation::List, "/b/"),
        (Operation::Get, ".json"),
        (Operation::Get, ".json.sig"),
        (Operation::Get, ".void"),
        (Operation::Get, ".void.sig"),
    ] {
        place.store.fail(operation, part, 1, out_of_reach);
        let read = place.vault.history(place.locker, at("2026-11-22")).await;
        assert!(matches!(read, Err(DocumentError::Store { .. })), "{part}: {read:?}");
    }
    place.store.fail(Operation::List, "/b/", 1, out_of_reach);
    assert!(matches!(place.vault.has_manifests(place.locker).await, Err(DocumentError::Store { .. })));
    assert_eq!(place.history("2026-11-22").await.backups.len(), 1);
}

#[tokio::test]
async fn other_names_are_no_backups() {
    let place = Place::new().await;
    let stray = format!("{}stray", prefix::in_locker(place.locker, "b"));
    place.store.put(&stray, bytes::Bytes::new(), PutMode::CreateOnly).await.unwrap();
    place.put_void(BackupId::new(at("2026-11-20"))).await;
    assert!(!place.vault.has_manifests(place.locker).await.unwrap());
    let history = place.history("2026-11-22").await;
    assert_eq!((history.backups.len(), history.problems.len(), history.leftovers.len()), (0, 0, 0));
    // A name that is taken stays as it is.
    let first = place.put(place.manifest(1, "2026-11-21", None)).await;
    let mut other = first.manifest.clone();
    other.sequence = 9;
    assert!(place.vault.put_manifest(&other, &place.key).await.is_err());
    assert_eq!(place.history("2026-11-22").await.newest().unwrap().manifest, first.manifest);
}
