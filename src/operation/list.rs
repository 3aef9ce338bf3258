//! `list` and `show`: what there is of a tenant.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::failure::{Failure, FailureClass};
use crate::{
    backup_id::BackupId,
    chunk::cutter,
    format::{description::Description, index_page::Entry, manifest::Manifest},
    id::{Locker, Sha256Digest},
    keyring::{Keyring, TenantKeys},
    seal::{RecoveryIdentity, open},
    tenant::TenantName,
    vault::{
        Vault,
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
    /// What is wrong with its history as a whole.
    pub problems: Vec<String>,
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
    /// Its manifest does not count.
    Unreadable,
    /// Its time is over.
    Expired,
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
        }
    }
}

/// A tenant's histories: one for each of its lockers.
pub struct Histories {
    /// Its keys.
    pub keys: TenantKeys,
    /// Lockers and what is in them, the sealing key's last.
    pub lockers: Vec<(Locker, History)>,
}

impl Histories {
    /// Reads them.
    ///
    /// # Errors
    /// A tenant that the keyring does not know, or a store that cannot be reached.
    pub async fn read(vault: &Vault, keyring: &Keyring, tenant: &TenantName, now: DateTime<Utc>) -> Result<Self, Failure> {
        let keys = keyring.keys(tenant).await?.ok_or_else(|| Failure::unknown_tenant(tenant))?;
        let mut lockers = Vec::new();
        for locker in keys.lockers() {
            lockers.push((locker, vault.history(locker, now).await?));
        }
        Ok(Self { keys, lockers })
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
    /// Pages already looked at: whether every chunk of theirs is listed.
    pages: HashMap<(Sha256Digest, BackupId), bool>,
}

impl<'a> Inventory<'a> {
    /// Lists a locker's chunks.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(vault: &'a Vault, locker: Locker) -> Result<Self, Failure> {
        Ok(Self { vault, locker, chunks: vault.stored_chunks(locker).await?, pages: HashMap::new() })
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
                        Ok(read) => read.entries.iter().all(|entry| self.has(entry)),
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

    fn has(&self, entry: &Entry) -> bool {
        self.chunks.get(&(entry.name, entry.birth)) == Some(&entry.size)
    }
}

/// Lists a tenant's backups. `database` is its database's name by the configured rule.
///
/// # Errors
/// A tenant that the keyring does not know, or a store that cannot be reached.
pub async fn list(
    vault: &Vault,
    keyring: &Keyring,
    tenant: &TenantName,
    database: Option<&str>,
    now: DateTime<Utc>,
) -> Result<ListReport, Failure> {
    let histories = Histories::read(vault, keyring, tenant, now).await?;
    let mut report = ListReport { tenant: tenant.as_str().to_owned(), backups: Vec::new(), problems: Vec::new() };
    for (locker, history) in &histories.lockers {
        let mut inventory = Inventory::read(vault, *locker).await?;
        let mut unreadable = HashSet::new();
        for problem in &history.problems {
            report.problems.push(format!("{}: {}", problem.object, problem.what));
            if let Some(id) = problem.backup.filter(|id| !problem.is_hole && unreadable.insert(*id)) {
                report.backups.push(Listed {
                    id: id.to_string(),
                    taken_at: None,
                    expires_at: None,
                    database: None,
                    server_version: None,
                    bytes_read: 0,
                    bytes_stored: 0,
                    state: State::Unreadable,
                });
            }
        }
        for backup in &history.backups {
            let manifest = &backup.manifest;
            let state = if backup.is_expired(now) {
                State::Expired
            } else if inventory.is_whole(manifest).await? {
                State::Good
            } else {
                State::Damaged
            };
            report.backups.push(Listed {
                id: manifest.backup.to_string(),
                taken_at: Some(manifest.taken_at),
                expires_at: Some(manifest.expires_at),
                database: database.map(str::to_owned),
                server_version: Some(server_version(manifest.server.version_num)),
                bytes_read: manifest.totals.bytes_read,
                bytes_stored: manifest.totals.bytes_stored,
                state,
            });
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

/// What `show TENANT BACKUP` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ShowReport {
    /// The tenant.
    pub tenant: String,
    /// Its line in `list`.
    pub backup: Listed,
    /// 1, 2, 3, … within its locker.
    pub sequence: u64,
    /// The backup before it.
    pub previous: Option<String>,
    /// Retention in force when it was taken.
    pub keep: String,
    /// The tenant key that its chunks are sealed with.
    pub key_id: String,
    /// Its home in the vault.
    pub locker: String,
    /// System identifier of the server.
    pub system_identifier: String,
    /// OID of the database.
    pub database_oid: u32,
    /// Position in the write-ahead log.
    pub lsn: String,
    /// Tables whose rows are in it.
    pub tables: u64,
    /// Rows.
    pub rows: u64,
    /// Chunks written by this run.
    pub chunks_stored: u64,
    /// Chunks that were already there.
    pub chunks_reused: u64,
    /// Their stored length in bytes.
    pub bytes_reused: u64,
    /// How many things could not be captured.
    pub not_captured: u64,
    /// What is in it by name. Only with an identity: names are sealed.
    pub description: Option<Described>,
    /// Version that wrote it.
    pub written_by: String,
}

/// The sealed part of `show`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Described {
    /// Name of the database.
    pub database: String,
    /// Its cluster in the configuration of the host that took the backup.
    pub cluster: String,
    /// Its owner.
    pub owner: String,
    /// Its encoding.
    pub encoding: String,
    /// `schema.table` of every table whose rows are stored.
    pub tables: Vec<String>,
    /// `schema.sequence`.
    pub sequences: Vec<String>,
    /// Number of large objects.
    pub large_objects: u64,
    /// Installed extensions with their versions.
    pub extensions: Vec<String>,
    /// Roles that its objects refer to.
    pub roles: Vec<String>,
    /// What could not be captured, and why.
    pub not_captured: Vec<String>,
    /// What `pg_dump` said on its standard error.
    pub warnings: Vec<String>,
}

/// Shows one backup: an id, a unique prefix of one, or `latest`.
///
/// # Errors
/// No such tenant or backup; an identity that does not open it.
pub async fn show(
    vault: &Vault,
    keyring: &Keyring,
    tenant: &TenantName,
    which: &str,
    database: Option<&str>,
    identity: Option<&RecoveryIdentity>,
    now: DateTime<Utc>,
) -> Result<ShowReport, Failure> {
    let histories = Histories::read(vault, keyring, tenant, now).await?;
    let (locker, backup) = choose(&histories, tenant, which)?;
    let manifest = &backup.manifest;
    let state = if backup.is_expired(now) {
        State::Expired
    } else if Inventory::read(vault, locker).await?.is_whole(manifest).await? {
        State::Good
    } else {
        State::Damaged
    };
    let description = match identity {
        Some(identity) => Some(read_description(vault, keyring, &histories.keys, locker, manifest, identity).await?.into()),
        None => None,
    };
    Ok(ShowReport {
        tenant: tenant.as_str().to_owned(),
        backup: Listed {
            id: manifest.backup.to_string(),
            taken_at: Some(manifest.taken_at),
            expires_at: Some(manifest.expires_at),
            database: database.map(str::to_owned),
            server_version: Some(server_version(manifest.server.version_num)),
            bytes_read: manifest.totals.bytes_read,
            bytes_stored: manifest.totals.bytes_stored,
            state,
        },
        sequence: manifest.sequence,
        previous: manifest.previous.as_ref().map(|previous| previous.backup.to_string()),
        keep: manifest.keep.to_string(),
        key_id: manifest.key_id.to_string(),
        locker: locker.to_string(),
        system_identifier: manifest.server.system_identifier.clone(),
        database_oid: manifest.server.database_oid,
        lsn: manifest.server.lsn.clone(),
        tables: manifest.totals.tables,
        rows: manifest.totals.rows,
        chunks_stored: manifest.totals.chunks_stored,
        chunks_reused: manifest.totals.chunks_reused,
        bytes_reused: manifest.totals.bytes_reused,
        not_captured: manifest.not_captured,
        description,
        written_by: manifest.written_by.clone(),
    })
}

/// Finds a backup by id, unique prefix or `latest`.
///
/// # Errors
/// None or several fit; one that fits and does not count is an integrity failure.
pub fn choose<'a>(histories: &'a Histories, tenant: &TenantName, which: &str) -> Result<(Locker, &'a Backup), Failure> {
    let all = histories.newest_first();
    let listing = "`tenure list` shows this tenant's backups; an id, a unique prefix of one, or `latest` will do.";
    let fitting: Vec<_> = match which {
        "latest" => all.into_iter().take(1).collect(),
        prefix => all.into_iter().filter(|(_, backup)| backup.manifest.backup.to_string().starts_with(prefix)).collect(),
    };
    match fitting[..] {
        [one] => Ok(one),
        [] => {
            let hurt = histories
                .lockers
                .iter()
                .flat_map(|(_, history)| &history.problems)
                .find(|problem| which == "latest" || problem.backup.is_some_and(|id| id.to_string().starts_with(which)));
            if let Some(problem) = hurt {
                let message = format!("backup {which} of tenant {tenant} cannot be used: {}: {}", problem.object, problem.what);
                return Err(Failure::new(FailureClass::Integrity, "unreadable-backup", &problem.object, message).hint(listing));
            }
            let message = format!("tenant {tenant} has no backup {which}");
            Err(Failure::new(FailureClass::Failed, "no-such-backup", which, message).hint(listing))
        }
        _ => {
            let message = format!("{} backups of tenant {tenant} begin with {which}", fitting.len());
            Err(Failure::new(FailureClass::Failed, "ambiguous-backup", which, message).hint("Give more digits of the id."))
        }
    }
}

/// Opens a backup's description.
///
/// # Errors
/// A missing or damaged chunk, an identity that does not open the tenant's key, or a description that is not understood.
pub async fn read_description(
    vault: &Vault,
    keyring: &Keyring,
    keys: &TenantKeys,
    locker: Locker,
    manifest: &Manifest,
    identity: &RecoveryIdentity,
) -> Result<Description, Failure> {
    let wrapped = keyring.secret_half(manifest.key_id).await?;
    let key = identity.unwrap(&wrapped).map_err(|error| Failure::wrong_identity(&keys.tenant, error))?;
    let damaged = |what: String| {
        let message = format!("the description of backup {} is damaged: {what}", manifest.backup);
        Failure::new(FailureClass::Integrity, "damaged-description", manifest.backup, message)
            .hint("`tenure verify` names every backup that is hurt; older and newer ones may be whole.")
    };
    let mut text = Vec::new();
    for entry in &manifest.description {
        if entry.length > cutter::MAX as u64 {
            return Err(damaged(format!("chunk {} says that it has {} bytes", entry.name, entry.length)));
        }
        let sealed = vault.chunk(locker, entry).await?;
        text.extend(open(&key, &sealed, entry.length).map_err(|error| damaged(error.to_string()))?);
    }
    let description: Description = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if description.tenant != keys.tenant {
        return Err(damaged("it describes another tenant".to_owned()));
    }
    Ok(description)
}

impl From<Description> for Described {
    fn from(description: Description) -> Self {
        Self {
            database: description.database.name,
            cluster: description.cluster,
            owner: description.database.owner,
            encoding: description.database.encoding,
            tables: description.tables.iter().map(|table| format!("{}.{}", table.schema, table.name)).collect(),
            sequences: description.sequences.iter().map(|sequence| format!("{}.{}", sequence.schema, sequence.name)).collect(),
            large_objects: description.large_objects.iter().map(|block| u64::from(block.count)).sum(),
            extensions: description
                .extensions
                .iter()
                .map(|extension| format!("{} {}", extension.name, extension.version))
                .collect(),
            roles: description.roles.into_iter().map(|role| role.name).collect(),
            not_captured: description
                .not_captured
                .iter()
                .map(|entry| format!("{} {}: {}", entry.kind, entry.object, entry.reason))
                .collect(),
            warnings: description.warnings,
        }
    }
}
