//! The way back: one tenant's database, as it was, with proof.
//!
//! choose -> open the key -> preflight -> build under another name -> prove -> rename. Until the rename nothing has the target's name,
//! so whatever fails before leaves the target as it was.

mod build;
pub mod choose;
pub mod content;
mod damage;
mod destination;
mod failures;
mod opened;
mod preflight;
pub mod proof;
mod record;
pub mod routes;
pub mod rows;
pub mod salvage;
pub mod tables;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use choose::Which;
pub use preflight::Finding;
use salvage::Salvage;
use tables::TableName;

use super::{
    budget::Budget,
    erased,
    failure::{Failure, FailureClass},
    living, lost,
    progress::Progress,
    refused,
};
use crate::{
    backup_id::BackupId,
    format::{act::ActCommand, key_record::KeyRecord},
    id::Locker,
    keyring::Keyring,
    postgres::{Target, discover::Rules, tools::Tools},
    printable::Printable,
    seal::{RecoveryIdentity, TenantIdentity},
    signature::{Namespace, SigningKey},
    tenant::TenantName,
    vault::{
        Vault,
        history::{Backup, History},
    },
};

/// Chunks on their way to the servers, sealed and opened, and rows on their way back.
pub const BYTES_IN_FLIGHT: u32 = 64 * 1024 * 1024;

/// A server that can be restored to.
#[derive(Clone)]
pub struct Destination {
    /// Its name in the configuration.
    pub name: String,
    /// Who makes databases and roles there: `admin`, else `primary`.
    pub admin: Target,
    /// Who loads rows there; `None` for a temporary role.
    pub loader: Option<Target>,
    /// Which databases are tenants there.
    pub rules: Rules,
    /// Roles that run tenure besides the connecting one.
    pub roles: Vec<String>,
    /// How many connections tenure may hold on it at once. At least 4 are used.
    pub connections: u32,
}

/// Everything that restores share.
pub struct Restorer<'a> {
    /// Where backups are.
    pub vault: &'a Vault,
    /// Where keys are.
    pub keyring: &'a Keyring,
    /// The servers of the configuration, by name.
    pub clusters: &'a BTreeMap<String, Destination>,
    /// Finds `pg_restore`.
    pub tools: &'a Tools,
    /// The restorer's key: signs copies and sources.
    pub signer: &'a SigningKey,
    /// Connections that load and prove one tenant at once.
    pub jobs: usize,
    /// What all of them hold in memory, over all tenants: of [`BYTES_IN_FLIGHT`].
    pub budget: &'a Budget,
    /// Told how it goes.
    pub progress: &'a dyn Progress,
    /// Stops it, cleanly.
    pub cancel: &'a CancellationToken,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Request {
    /// Whose backup.
    pub tenant: TenantName,
    /// Which one.
    pub which: Which,
    /// Name of the database; `None` for the tenant's own.
    pub into: Option<String>,
    /// Name of the cluster; `None` for the tenant's own.
    pub cluster: Option<String>,
    /// Put the live database aside and the restored one into its place.
    pub replace: bool,
    /// What may be restored though it runs with the server's rights: `c-functions`, `extension:NAME`, `event-triggers`,
    /// `powerful-owners`, `subscriptions`, `superuser-code`, `all`.
    pub allow: Vec<String>,
    /// Take the newest good backup though a newer one is missing or not to be trusted.
    pub accept_gap: bool,
    /// Go on although the keyring lost the keys of others.
    pub accept_lost_keys: bool,
    /// Leave a copy that could not be proven where it was built, instead of dropping it.
    pub keep_failed: bool,
    /// Go on past what is missing or damaged. Never into the tenant's own place.
    pub salvage: bool,
    /// Only these tables: beside what is there, where the database exists. Empty for everything.
    pub tables: Vec<TableName>,
}

/// What was restored. Serialised as the document of `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Report {
    /// Whose.
    pub tenant: TenantName,
    /// Which backup.
    #[schemars(with = "String")]
    pub backup: BackupId,
    /// When it was taken.
    pub taken_at: DateTime<Utc>,
    /// Where it is now.
    pub cluster: String,
    /// What it is called now.
    pub database: String,
    /// The schema that the tables are in, where they were restored beside others.
    pub schema: Option<String>,
    /// Tables with their rows.
    pub tables: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes of COPY text.
    pub bytes: u64,
    /// Whether it is all that was backed up, and equal to it. False only with `--salvage`, where something is absent; what is there is
    /// proven all the same. Otherwise what is not proven is a failure and no report.
    pub proven: bool,
    /// What is absent; null without `--salvage`.
    pub salvage: Option<Salvage>,
    /// What the live database was renamed to.
    pub replaced_as: Option<String>,
    /// Roles that were missing and were made, without login.
    pub created_roles: Vec<String>,
    /// Anything else that somebody should know.
    pub notes: Vec<String>,
    /// How long it took, the proof included.
    pub duration_ms: u64,
    /// How much of that the proof took.
    pub proof_ms: u64,
}

/// A backup that was chosen. Nothing of it has been opened.
pub struct Chosen {
    locker: Locker,
    backup: Backup,
    histories: Vec<(Locker, History)>,
    key: KeyRecord,
    notes: Vec<String>,
}

impl Chosen {
    /// Which backup.
    #[must_use]
    pub fn backup(&self) -> BackupId {
        self.backup.manifest.backup
    }

    /// Where it lies.
    #[must_use]
    pub fn locker(&self) -> Locker {
        self.locker
    }

    /// Bytes of plaintext that it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.backup.manifest.totals.bytes_read
    }
}

impl Restorer<'_> {
    /// Restores one tenant.
    ///
    /// # Errors
    /// [`Failure`], with the class that decides the exit code. The target is then as it was.
    pub async fn restore(&self, request: &Request, identity: RecoveryIdentity, now: DateTime<Utc>) -> Result<Report, Failure> {
        let chosen = self.choose_or_note(request, now).await?;
        let key = self.open_key(&chosen, &identity).await?;
        // From here on there is no recovery identity in this process.
        drop(identity);
        self.restore_chosen(request, chosen, key, now).await
    }

    /// Chooses a backup. Speaks with vault and keyring only, and opens nothing.
    ///
    /// # Errors
    /// Unknown tenant or backup (1), erased or expired (4), a history that is not to be trusted (5).
    pub async fn choose(&self, request: &Request, now: DateTime<Utc>) -> Result<Chosen, Failure> {
        let tenant = &request.tenant;
        self.vault.check_signer(self.signer, Namespace::Run, now).map_err(|error| Failure::key_not_allowed("restorer", error))?;
        erased::refuse(self.vault, self.keyring, tenant).await?;
        let keys = living::known(self.vault, self.keyring, tenant).await?;
        if !request.accept_lost_keys {
            lost::refuse_restore(self.vault, self.keyring).await?;
        }
        let (mut histories, mut held) = (Vec::new(), Vec::new());
        for locker in keys.lockers() {
            let history = self.vault.history(locker, now).await?;
            lost::refuse_without_source(self.vault, tenant, locker, &history, request.cluster.as_deref()).await?;
            histories.push((locker, history));
            if matches!(request.which, Which::Backup(_)) && !self.vault.holds(locker).await?.active.is_empty() {
                held.push(locker);
            }
        }
        let (locker, backup) = choose::choose(tenant, (&histories, &held), &request.which, now, request.accept_gap)?;
        let notes = choose::begun_later(&histories, backup, &request.which, now);
        let backup = backup.clone();
        let key_id = backup.manifest.key_id;
        let Some(key) = keys.get(key_id).filter(|record| record.locker == locker).cloned() else {
            return Err(Failure::key_missing(tenant, backup.manifest.backup, key_id));
        };
        Ok(Chosen { locker, backup, histories, key, notes })
    }

    /// As [`Restorer::choose`], and a refusal is written down.
    ///
    /// # Errors
    /// As [`Restorer::choose`].
    pub(super) async fn choose_or_note(&self, request: &Request, now: DateTime<Utc>) -> Result<Chosen, Failure> {
        let about = [self.keyring.tag(&request.tenant)];
        let chosen = self.choose(request, now).await;
        refused::noted(self.vault, ActCommand::Restore, &about, Some(self.signer), now, chosen).await
    }

    /// Opens the tenant key that a backup is sealed with: the only step that uses the recovery identity.
    ///
    /// # Errors
    /// A key that is missing or another one (5), an identity that does not open it (1).
    pub async fn open_key(&self, chosen: &Chosen, identity: &RecoveryIdentity) -> Result<TenantIdentity, Failure> {
        let (tenant, key_id) = (&chosen.key.tenant, chosen.key.key_id);
        let wrapped = self.keyring.secret_half(&chosen.key).await?;
        let secret = identity.unwrap(&wrapped).map_err(|error| Failure::wrong_identity(tenant, error))?;
        if secret.recipient().to_string() != chosen.key.recipient {
            let message = format!("the secret half of key {key_id} of tenant {tenant} belongs to another key");
            return Err(Failure::new(FailureClass::Integrity, "key-swapped", key_id, message)
                .hint("`tenure keys check` shows what else is wrong; a mirror may still have the right one."));
        }
        Ok(secret)
    }

    /// Restores a chosen backup. Speaks with PostgreSQL, and holds one tenant's key only.
    ///
    /// # Errors
    /// As [`Restorer::restore`].
    pub async fn restore_chosen(
        &self,
        request: &Request,
        chosen: Chosen,
        key: TenantIdentity,
        now: DateTime<Utc>,
    ) -> Result<Report, Failure> {
        let tenant = &request.tenant;
        self.progress.tenant_started(tenant, chosen.bytes());
        let (started, on) = (Instant::now(), record::on(&chosen));
        let mut result = Box::pin(build::run(self, request, chosen, key, now)).await;
        self.progress.tenant_finished(tenant, if result.is_ok() { "done" } else { "failed" });
        self.record(on, (now, started.elapsed()), &mut result).await;
        result
    }

    fn interrupted(&self, tenant: &TenantName) -> Failure {
        let message = format!("the restore of tenant {tenant} was stopped");
        Failure::new(FailureClass::Interrupted, "interrupted", tenant, message)
            .hint("What it had made was removed; the target is as it was.")
    }
}

/// A name for messages.
fn shown(name: &str) -> String {
    Printable(name).to_string()
}
