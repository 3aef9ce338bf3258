//! `list`: what there is of a tenant, by what the stores list.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    failure::{Failure, FailureClass},
    hold::{HeldBy, held_by},
    living, lost,
};
use crate::{
    backup_id::BackupId,
    format::{index_page::Entry, manifest::Manifest, record::StoredObject},
    id::{Locker, Sha256Digest},
    keyring::{Keyring, TenantKeys},
    seal::RecoveryIdentity,
    signed::DocumentError,
    tenant::TenantName,
    vault::{
        Vault,
        findings::Findings,
        history::{Backup, History},
        locker::{ObjectError, StoredChunks},
    },
};

/// What `list TENANT` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ListReport {
    /// The tenant.
    pub tenant: String,
    /// Its backups, newest first.
    pub backups: Vec<Listed>,
    /// The holds that it is under: nothing of it expires or is purged.
    pub holds: Vec<HeldBy>,
    /// Backups that a purge let go of and that are still, or again, stored: they are none any more.
    pub purged: Vec<String>,
    /// What is wrong with its history as a whole.
    pub problems: Vec<String>,
    /// Set when the tenant's source is missing or not to be trusted: that stops its backups.
    #[serde(skip)]
    pub class: Option<FailureClass>,
}

/// One backup in a list.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// When its snapshot was taken.
    pub taken_at: Option<DateTime<Utc>>,
    /// From when on it is refused and removed.
    pub expires_at: Option<DateTime<Utc>>,
    /// The tenant's database by the configured rule; `null` where a query assigns databases.
    pub database: Option<String>,
    /// Version of the server it was read from, like `15.18`.
    pub server_version: Option<String>,
    /// Plaintext, in bytes.
    pub bytes_read: u64,
    /// Sealed bytes that this run added.
    pub bytes_stored: u64,
    /// How many things could not be captured; `show` names them.
    pub not_captured: u64,
    /// Whether it can be relied upon, by what the store lists. `verify` looks at every byte.
    pub state: State,
}

/// Whether a backup can be relied upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its manifest counts, and every object that it needs is listed with its length.
    Good,
    /// Its manifest counts, and something that it needs is missing or has another length.
    Damaged,
    /// Its manifest does not count, or the keyring has no whole key that opens it.
    Unreadable,
    /// Its time is over.
    Expired,
    /// Its time is over, and it is on hold: it stays, and is restored when it is named.
    Held,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Damaged => "damaged",
            Self::Unreadable => "unreadable",
            Self::Expired => "expired",
            Self::Held => "held",
        }
    }
}

/// A tenant's histories: one for each of its lockers.
pub struct Histories {
    /// Its keys.
    pub keys: TenantKeys,
    /// Lockers and what is in them, the sealing key's last.
    pub lockers: Vec<(Locker, History)>,
    /// Records of the tenant's source that are missing or not to be trusted.
    pub sources: Vec<DocumentError>,
}

impl Histories {
    /// Reads them.
    ///
    /// # Errors
    /// A tenant that the keyring does not know, or a store that cannot be reached.
    pub async fn read(vault: &Vault, keyring: &Keyring, tenant: &TenantName, now: DateTime<Utc>) -> Result<Self, Failure> {
        let keys = living::known(vault, keyring, tenant).await?;
        let (mut lockers, mut sources) = (Vec::new(), Vec::new());
        for locker in keys.lockers() {
            let history = vault.history(locker, now).await?;
            let found = vault.sources(locker).await?;
            if let Some(error) = lost::lost_source(vault, locker, &found).await? {
                if history.backups.is_empty() && history.problems.is_empty() {
                    return Err(lost::source_missing(vault, tenant, locker, &history));
                }
                sources.push(error);
            }
            sources.extend(found.unreadable.into_iter().map(|(_, error)| error));
            lockers.push((locker, history));
        }
        Ok(Self { keys, lockers, sources })
    }

    /// Every backup that counts, newest first by the time that its manifest records.
    #[must_use]
    pub fn newest_first(&self) -> Vec<(Locker, &Backup)> {
        let mut all: Vec<(Locker, &Backup)> =
            self.lockers.iter().flat_map(|(locker, history)| history.backups.iter().map(|backup| (*locker, backup))).collect();
        all.sort_by_key(|(_, backup)| {
            std::cmp::Reverse((backup.manifest.taken_at, backup.manifest.sequence, backup.manifest.backup))
        });
        all
    }
}

/// What the store lists of one locker, to judge its backups by.
pub struct Inventory<'a> {
    vault: &'a Vault,
    locker: Locker,
    chunks: StoredChunks,
    findings: Findings,
    is_held: bool,
    /// Pages already looked at: whether every chunk of theirs is listed.
    pages: HashMap<(Sha256Digest, BackupId), bool>,
}

impl<'a> Inventory<'a> {
    /// Lists a locker's chunks.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(vault: &'a Vault, locker: Locker) -> Result<Self, Failure> {
        let (chunks, findings) = (vault.stored_chunks(locker).await?, vault.findings(locker).await?);
        // One that cannot be read keeps what is over, and is no reason to open it.
        let is_held = !vault.holds(locker).await?.active.is_empty();
        Ok(Self { vault, locker, chunks, findings, is_held, pages: HashMap::new() })
    }

    /// Whether everything that a manifest needs is listed with its length.
    ///
    /// # Errors
    /// The store's.
    pub async fn is_whole(&mut self, manifest: &Manifest) -> Result<bool, Failure> {
        let mut whole = manifest.description.iter().all(|entry| self.has(entry));
        for page in &manifest.pages {
            let key = (page.sha256, page.birth);
            let good = match self.pages.get(&key) {
                Some(good) => *good,
                None => {
                    let good = match self.vault.page(self.locker, page).await {
                        Ok(read) => {
                            let object = StoredObject::Page { birth: page.birth, sha256: page.sha256 };
                            !self.findings.is_damaged(object) && read.entries.iter().all(|entry| self.has(entry))
                        }
                        Err(error @ ObjectError::Store { .. }) => return Err(error.into()),
                        Err(_) => false,
                    };
                    self.pages.insert(key, good);
                    good
                }
            };
            whole &= good;
        }
        Ok(whole)
    }

    /// A backup's line in a list. `database` is its database's name by the configured rule.
    ///
    /// # Errors
    /// The store's.
    pub async fn listed(
        &mut self,
        backup: &Backup,
        keys: &TenantKeys,
        database: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Listed, Failure> {
        let manifest = &backup.manifest;
        let state = if backup.is_expired(now) && !self.is_held {
            State::Expired
        } else if keys.get(manifest.key_id).is_none() {
            State::Unreadable
        } else if self.is_whole(manifest).await? {
            if backup.is_expired(now) { State::Held } else { State::Good }
        } else {
            State::Damaged
        };
        Ok(Listed {
            id: manifest.backup.to_string(),
            taken_at: Some(manifest.taken_at),
            expires_at: Some(manifest.expires_at),
            database: database.map(str::to_owned),
            server_version: Some(server_version(manifest.server.version_num)),
            bytes_read: manifest.totals.bytes_read,
            bytes_stored: manifest.totals.bytes_stored,
            not_captured: manifest.not_captured,
            state,
        })
    }

    fn has(&self, entry: &Entry) -> bool {
        let object = StoredObject::Chunk { birth: entry.birth, name: entry.name };
        self.chunks.get(&(entry.name, entry.birth)) == Some(&entry.size) && !self.findings.is_damaged(object)
    }
}

/// Lists a tenant's backups. `database` is its database's name by the configured rule; with an identity the reasons of its holds are opened.
///
/// # Errors
/// A tenant that the keyring does not know, or a store that cannot be reached.
pub async fn list(
    vault: &Vault,
    keyring: &Keyring,
    tenant: &TenantName,
    database: Option<&str>,
    identity: Option<&RecoveryIdentity>,
    now: DateTime<Utc>,
) -> Result<ListReport, Failure> {
    let histories = Histories::read(vault, keyring, tenant, now).await?;
    let (holds, unreadable) = held_by(vault, keyring, &histories.keys, identity).await?;
    let class = (!unreadable.is_empty()).then_some(FailureClass::Integrity);
    let still_there = histories.lockers.iter().flat_map(|(_, history)| history.still_there());
    let mut report = ListReport {
        tenant: tenant.as_str().to_owned(),
        backups: Vec::new(),
        holds,
        purged: still_there.map(|let_go| let_go.backup.backup.to_string()).collect(),
        problems: unreadable,
        class,
    };
    for error in &histories.sources {
        report.problems.push(format!("{error}; `tenure verify` says more"));
        report.class = Some(FailureClass::Integrity);
    }
    for lost in lost::without_secret(&histories.keys) {
        report.problems.push(lost);
        report.class = Some(FailureClass::Integrity);
    }
    for (locker, history) in &histories.lockers {
        let mut inventory = Inventory::read(vault, *locker).await?;
        let mut unreadable = HashSet::new();
        for problem in &history.problems {
            report.problems.push(format!("{}: {}", problem.object, problem.what));
            report.class = Some(FailureClass::Integrity);
            if let Some(id) = problem.backup.filter(|id| !problem.is_hole && !problem.counts && unreadable.insert(*id)) {
                report.backups.push(Listed {
                    id: id.to_string(),
                    taken_at: None,
                    expires_at: None,
                    database: None,
                    server_version: None,
                    bytes_read: 0,
                    bytes_stored: 0,
                    not_captured: 0,
                    state: State::Unreadable,
                });
            }
        }
        for backup in &history.backups {
            report.backups.push(inventory.listed(backup, &histories.keys, database, now).await?);
        }
    }
    // Those without a time of their own are put where their name says.
    report.backups.sort_by_key(|backup| {
        let named = backup.id.parse::<BackupId>().ok().map(|id| id.time());
        std::cmp::Reverse((backup.taken_at.or(named), backup.id.clone()))
    });
    Ok(report)
}

/// `150018` is `15.18`.
#[must_use]
pub fn server_version(version_num: u32) -> String {
    format!("{}.{}", version_num / 10_000, version_num % 10_000)
}
