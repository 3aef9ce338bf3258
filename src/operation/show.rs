//! `show`: one backup, closely; with an identity also what it holds by name.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    failure::{Failure, FailureClass},
    hold::{HeldBy, held_by},
    list::{Histories, Inventory, Listed},
};
use crate::{
    chunk::cutter,
    format::{description::Description, manifest::Manifest},
    id::Locker,
    keyring::{Keyring, TenantKeys},
    seal::{RecoveryIdentity, open},
    tenant::TenantName,
    vault::{Vault, history::Backup},
};

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
    /// Until when nothing that it needs can be removed, as far as was known when it was taken. `null` where the vault was not locked.
    pub locked_until: Option<DateTime<Utc>>,
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
    /// What is in it by name. Only with an identity: names are sealed.
    pub description: Option<Described>,
    /// Version that wrote it.
    pub written_by: String,
    /// The holds that its tenant is under.
    pub holds: Vec<HeldBy>,
    /// What the keyring lost of other tenants, and records that count as holds because they cannot be read.
    pub problems: Vec<String>,
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
    let listed = Inventory::read(vault, locker).await?.listed(backup, &histories.keys, database, now).await?;
    let description = match identity {
        Some(identity) => Some(read_description(vault, keyring, &histories.keys, locker, manifest, identity).await?.into()),
        None => None,
    };
    let (holds, problems) = held_by(vault, keyring, &histories.keys, identity).await?;
    Ok(ShowReport {
        tenant: tenant.as_str().to_owned(),
        backup: listed,
        sequence: manifest.sequence,
        previous: manifest.previous.as_ref().map(|previous| previous.backup.to_string()),
        keep: manifest.keep.to_string(),
        locked_until: manifest.locked_until(),
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
        description,
        written_by: manifest.written_by.clone(),
        holds,
        problems,
    })
}

/// Finds a backup by id, unique prefix or `latest`.
///
/// # Errors
/// None or several fit; one that fits and does not count is an integrity failure.
fn choose<'a>(histories: &'a Histories, tenant: &TenantName, which: &str) -> Result<(Locker, &'a Backup), Failure> {
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
            let message = format!("tenant {tenant} has no backup {}", crate::printable::Printable(which));
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
async fn read_description(
    vault: &Vault,
    keyring: &Keyring,
    keys: &TenantKeys,
    locker: Locker,
    manifest: &Manifest,
    identity: &RecoveryIdentity,
) -> Result<Description, Failure> {
    let record = keys.get(manifest.key_id).ok_or_else(|| Failure::key_missing(&keys.tenant, manifest.backup, manifest.key_id))?;
    let wrapped = keyring.secret_half(record).await?;
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
