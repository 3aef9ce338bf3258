//! Keys that change: made anew, wrapped anew, destroyed when nothing needs them; and killed anywhere on the way.

mod program;
mod prune;
mod rewrap;
mod rotate;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use secrecy::ExposeSecret as _;
use tenure::{
    format::{
        key_record::KeyRecord,
        purge_note::{PurgeNote, Purged},
    },
    id::{KeyId, RecordId},
    keyring::{Keyring, TenantKeys},
    object_name::{Document, ObjectName},
    operation::{
        failure::{Failure, FailureClass},
        held::{Held, Locks},
        keys::{
            self, KeysCheckReport, Which,
            change::Change,
            rewrap::{Rewrap, RewrapReport},
            rotate::{Rotate, RotateReport},
        },
        progress::Silent,
    },
    seal::{RecoveryIdentity, RecoveryRecipients},
    signature::SigningKey,
    store::{
        Store, StoreErrorKind,
        directory::DirectoryStore,
        fault::{Countdown, Fault, FaultStore},
        unreachable::Unreachable,
    },
    tenant::TenantName,
    vault::Vault,
};
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{
        locker::{Lockers, at},
        site::walk as files,
    },
    walk::walked_through,
};

/// The stores of an installation with one mirror.
const STORES: [&str; 3] = ["vault", "keyring", "mirror"];

/// Locks that are always free, or never.
enum TestLocks {
    Free,
    Taken,
}

struct Free;

#[async_trait::async_trait]
impl Locks for TestLocks {
    async fn take(&self, tenant: &TenantName, _: &str) -> Result<Box<dyn Held>, Failure> {
        match self {
            Self::Free => Ok(Box::new(Free)),
            Self::Taken => Err(Failure::new(FailureClass::Busy, "tenant-busy", tenant, "somebody else is at it")),
        }
    }
}

#[async_trait::async_trait]
impl Held for Free {
    async fn still_held(&self) -> Result<(), Failure> {
        Ok(())
    }
}

/// Somebody who can open keys: the identity file's text, and the recipient.
struct Person(String, String);

impl Person {
    fn new() -> Self {
        let (secret, recipient) = RecoveryIdentity::generate();
        Self(secret.expose_secret().to_owned(), recipient)
    }

    fn identity(&self) -> RecoveryIdentity {
        RecoveryIdentity::parse(self.0.as_bytes(), age::NoCallbacks).unwrap()
    }
}

fn recipients(people: &[&Person]) -> RecoveryRecipients {
    RecoveryRecipients::parse(&people.iter().map(|person| person.1.clone()).collect::<Vec<_>>()).unwrap()
}

fn class(report: Option<FailureClass>) -> u8 {
    report.map_or(0, FailureClass::code)
}

/// An installation, its stores perhaps through others that fail.
struct Ring<'a> {
    lockers: &'a Lockers,
    vault: Vault,
    keyring: Keyring,
    removers: Vec<Arc<dyn Store>>,
    operator: SigningKey,
    locks: TestLocks,
    now: DateTime<Utc>,
}

impl<'a> Ring<'a> {
    async fn new(lockers: &'a Lockers) -> Self {
        Self::through(lockers, |store| store).await
    }

    /// Every call of any store counts.
    async fn counted(lockers: &'a Lockers, countdown: &Arc<Countdown>) -> Self {
        let ring = Self::through(lockers, |store| Arc::new(FaultStore::counted(store, countdown))).await;
        // Opening them is no part of what is walked.
        countdown.begin();
        ring
    }

    async fn through(lockers: &'a Lockers, wrap: impl Fn(Arc<dyn Store>) -> Arc<dyn Store>) -> Self {
        let [vault, keyring, mirror] = open(lockers.folder()).await.map(wrap);
        let removers = vec![keyring.clone(), mirror.clone()];
        let (vault, keyring) = lockers.through(vault, keyring, vec![mirror]).await;
        let operator = lockers.key("operator");
        Self { lockers, vault, keyring, removers, operator, locks: TestLocks::Free, now: at("2026-06-01") }
    }

    /// The same while the mirror does not answer.
    async fn without_mirror(lockers: &'a Lockers) -> Self {
        let ring = Self::new(lockers).await;
        let why = ring.vault.store().get("t/nothing", 1).await.unwrap_err();
        let away: Arc<dyn Store> = Arc::new(Unreachable::new("file:///mirror", &why));
        let keyring = ring.keyring.stores().next().unwrap().clone();
        let removers = vec![keyring.clone(), away.clone()];
        let keyring = Keyring::of(keyring, vec![away], ring.keyring.root().clone(), ring.keyring.signers().clone());
        Self { keyring, removers, ..ring }
    }

    fn change<'b>(&'b self, clock: &'b (dyn Fn() -> DateTime<Utc> + Send + Sync), cancel: &'b CancellationToken) -> Change<'b> {
        Change {
            vault: &self.vault,
            keyring: &self.keyring,
            removers: &self.removers,
            signer: &self.operator,
            role: "operator",
            clock,
            progress: &Silent,
            cancel,
            dry_run: false,
            approvals: None,
        }
    }

    async fn rotate(&self, which: &Which) -> Result<RotateReport, Failure> {
        let (clock, cancel) = (|| self.now, CancellationToken::new());
        let change = self.change(&clock, &cancel);
        Rotate { change, locks: &self.locks, recipients: &self.lockers.recipients }.run(which).await
    }

    async fn rewrap(&self, identity: &Person, recipients: &RecoveryRecipients) -> Result<RewrapReport, Failure> {
        let (clock, cancel) = (|| self.now, CancellationToken::new());
        Rewrap { change: self.change(&clock, &cancel), recipients, identity: &identity.identity() }.run(&Which::All).await
    }

    async fn check(&self) -> KeysCheckReport {
        keys::check(&self.vault, &self.keyring, None, self.now, &Silent).await.unwrap()
    }

    async fn keys(&self, tenant: &str) -> TenantKeys {
        self.keyring.keys(&tenant.parse().unwrap()).await.unwrap().unwrap()
    }

    /// A note that everything of this key's locker is purged, as an eraser writes it.
    async fn purge(&self, record: &KeyRecord, purged: Purged) -> Document {
        let note = PurgeNote {
            format: 1,
            installation: self.lockers.installation(),
            locker: record.locker,
            id: RecordId::random(),
            name_tag: record.name_tag,
            purged,
            created_at: self.now,
        };
        self.vault.put_purge_note(&note, &self.lockers.key("eraser")).await.unwrap();
        Document::Gone(record.locker, note.id)
    }
}

async fn open(folder: &Path) -> [Arc<dyn Store>; 3] {
    let open = async |name| Arc::new(DirectoryStore::open(&folder.join(name)).await.unwrap()) as Arc<dyn Store>;
    [open(STORES[0]).await, open(STORES[1]).await, open(STORES[2]).await]
}

type Content = BTreeMap<String, Vec<u8>>;

/// What the stores hold: store, name and content.
fn content(folder: &Path) -> Content {
    let all = STORES.iter().flat_map(|store| files(&folder.join(store)));
    all.map(|path| (path.strip_prefix(folder).unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())).collect()
}

/// The same without what was written down of who tried what.
fn but_for_records(content: &Content) -> Content {
    let kept = content.iter().filter(|(name, _)| !name.starts_with("vault/runs/"));
    kept.map(|(name, bytes)| (name.clone(), bytes.clone())).collect()
}

/// Makes them hold exactly this.
fn set(folder: &Path, wanted: &Content) {
    let now = content(folder);
    for name in now.keys().filter(|name| !wanted.contains_key(*name)) {
        std::fs::remove_file(folder.join(name)).unwrap();
    }
    for (name, bytes) in wanted.iter().filter(|(name, bytes)| now.get(*name) != Some(bytes)) {
        std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

/// Every way in which the `nth` call of a run fails.
fn ways(nth: usize) -> [(&'static str, Arc<Countdown>); 4] {
    [
        ("fails", Countdown::once(nth, Fault::Refused(StoreErrorKind::Unavailable))),
        ("is denied", Countdown::once(nth, Fault::Refused(StoreErrorKind::Denied))),
        ("loses its answer", Countdown::once(nth, Fault::Lost)),
        ("is the last of a killed run", Countdown::dead(nth)),
    ]
}

/// Each copy of the keyring alone in the keyring's place: every key that it has opens for somebody of these. Gives the sealing key of each.
async fn opens_in_each(ring: &Ring<'_>, tenant: &str, people: &[&Person], case: &str) -> Vec<KeyId> {
    let mut sealing = Vec::new();
    for store in ring.keyring.stores() {
        let alone = Keyring::of(store.clone(), Vec::new(), ring.keyring.root().clone(), ring.keyring.signers().clone());
        let keys = alone.keys(&tenant.parse().unwrap()).await.unwrap().unwrap_or_else(|| panic!("{case}: no key"));
        assert!(keys.without_secret.is_empty(), "{case}: {} has a public half alone", store.address());
        for record in &keys.records {
            let half = alone.secret_half(record).await.unwrap_or_else(|error| panic!("{case}: {error}"));
            let opened = people.iter().any(|person| {
                person.identity().unwrap(&half).is_ok_and(|identity| identity.recipient().to_string() == record.recipient)
            });
            assert!(opened, "{case}: key {} in {} opens for nobody", record.key_id, store.address());
        }
        sealing.push(keys.sealing().unwrap().key_id);
    }
    sealing
}

/// An installation whose keys are wrapped to these two.
async fn wrapped_to(people: &[&Person]) -> Lockers {
    let mut lockers = Lockers::new().await;
    lockers.recipients = recipients(people);
    lockers
}
