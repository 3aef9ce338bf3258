//! What one tenant's run does in vault and keyring, wherever its rows come from: what it looks at before they are read, and how what was
//! read becomes a backup.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Backup, findings, key, locks::Needed, pages, report::Done, reuse::Reuse, sink::Sink};
use crate::{
    backup_id::BackupId,
    format::{
        act::Newest,
        description::Description,
        index_page::Entry,
        key_record::KeyRecord,
        manifest::{Manifest, Previous, Server},
    },
    keyring::TenantKeys,
    operation::{
        failure::{Failure, FailureClass},
        fleet::Resident,
        held::Held,
    },
    seal::TenantRecipient,
    signed::FORMAT,
    vault::history::History,
};

/// One tenant's run, as vault and keyring see it. Its steps are called in the order in which they are written here, all but the first under
/// the tenant's lock.
#[derive(Clone, Copy)]
pub struct Protocol<'a> {
    /// With what.
    pub backup: &'a Backup,
    /// Who, and where.
    pub resident: &'a Resident,
    /// When the run began: one that takes longer than `max_run` never commits.
    pub started: tokio::time::Instant,
}

/// What a run has to know before it reads rows.
pub struct Prepared {
    /// The key that seals tonight.
    pub record: KeyRecord,
    history: History,
    findings: Vec<String>,
}

impl Prepared {
    /// The tenant's backups as they were looked at.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }
}

/// What a run has read, and stored, before it is a backup.
pub struct Captured {
    /// The run.
    pub id: BackupId,
    /// The host's clock at the snapshot.
    pub taken_at: DateTime<Utc>,
    /// The server's.
    pub server_time: DateTime<Utc>,
    /// What it was read from.
    pub server: Server,
    /// What it is.
    pub description: Description,
    /// The chunks of the description itself.
    pub description_entries: Vec<Entry>,
    /// All other chunks.
    pub entries: Vec<Entry>,
    /// Through which they were stored.
    pub sink: Sink,
}

/// A backup that lacks only its manifest.
pub struct Ready {
    pub(super) manifest: Manifest,
    pub(super) record: KeyRecord,
    /// Whose chunks it refers to, and when that expires: it must still be there when this one is committed.
    pub(super) base: Option<(BackupId, DateTime<Utc>)>,
    findings: Vec<String>,
    incomplete: Option<Failure>,
}

impl Protocol<'_> {
    fn stage(&self, stage: &'static str) {
        self.backup.progress.stage(&self.resident.tenant, stage);
    }

    /// Whether the tenant may be touched at all.
    ///
    /// # Errors
    /// It was erased.
    pub async fn refuse_if_gone(&self) -> Result<(), Failure> {
        key::refuse_if_gone(self.backup, &self.resident.tenant, &[]).await
    }

    /// Finds the tenant's key or makes one, checks its history and its source, and finds what is stored already. `nobody_new` says why no
    /// tenant may be taken for a new one, when there is a reason.
    ///
    /// # Errors
    /// Why it must not be backed up.
    pub async fn prepare(&self, nobody_new: Option<&str>) -> Result<(Prepared, Reuse), Failure> {
        self.stage("preparing");
        let (keys, record) = match key::sealing_key(self.backup, self.resident, nobody_new).await {
            Ok(known) => known,
            Err(failure) => return Err(key::or_purged(self.backup, &self.resident.tenant, None, failure).await),
        };
        let locker = record.locker;
        match self.look(keys, record).await {
            Ok(prepared) => Ok(prepared),
            Err(failure) => Err(key::or_purged(self.backup, &self.resident.tenant, Some(locker), failure).await),
        }
    }

    async fn look(&self, keys: TenantKeys, record: KeyRecord) -> Result<(Prepared, Reuse), Failure> {
        let now = (self.backup.clock)();
        let history = self.backup.vault.history(record.locker, now).await?;
        key::refuse_if_a_key_was_lost(&self.resident.tenant, &keys, &history, now)?;
        key::check_source(self.backup, self.resident, record.locker, &history).await?;
        let settle = TimeDelta::seconds(i64::try_from(self.backup.vault.root().settle_seconds).unwrap_or(i64::MAX / 1_000));
        let reuse = Reuse::load(&self.backup.vault, record.locker, record.key_id, &history, now + settle).await?;
        let mut findings = Vec::new();
        findings::of_history(&history, &reuse, &mut findings);
        Ok((Prepared { record, history, findings }, reuse))
    }

    /// Where the chunks of run `id` go.
    ///
    /// # Errors
    /// An integrity failure when the key record has no usable recipient.
    pub fn sink(&self, record: &KeyRecord, id: BackupId, reuse: Reuse) -> Result<Sink, Failure> {
        let recipient = TenantRecipient::parse(&record.recipient).map_err(|error| {
            let message = format!("key {} has no usable recipient", record.key_id);
            Failure::new(FailureClass::Integrity, "bad-key-record", record.key_id, message).because(error)
        })?;
        let (vault, key) = (self.backup.vault.clone(), record.chunk_name_key.clone());
        Ok(Sink::new(vault, record.locker, id, recipient, key, reuse, self.backup.clock))
    }

    /// Stores the index, and locks what the backup needs.
    ///
    /// # Errors
    /// A store that fails.
    pub async fn ready(&self, prepared: Prepared, captured: Captured) -> Result<Ready, Failure> {
        let locker = prepared.record.locker;
        match self.index(prepared, captured).await {
            Ok(ready) => Ok(ready),
            Err(failure) => Err(key::or_purged(self.backup, &self.resident.tenant, Some(locker), failure).await),
        }
    }

    async fn index(&self, prepared: Prepared, captured: Captured) -> Result<Ready, Failure> {
        let backup = self.backup;
        let Prepared { record, history, mut findings } = prepared;
        let Captured { id, taken_at, server_time, server, description, description_entries, entries, sink } = captured;
        let base = sink.reuse().base.and_then(|id| {
            let base = history.backups.iter().find(|backup| backup.manifest.backup == id)?;
            Some((id, base.manifest.expires_at))
        });
        let rows = entries.iter().flat_map(|entry| &entry.parts).map(|part| part.rows).sum();
        let grouped = pages::group(&description, entries);
        let mut pages = pages::store(&backup.vault, record.locker, &sink, &grouped).await?;
        self.stage("locking what it needs");
        let needed = Needed {
            locker: record.locker,
            sink: &sink,
            description: &description_entries,
            pages: &mut pages,
            indexes: &grouped,
        };
        let description_locked_until = needed.hold(backup, &mut findings).await?;
        let previous = history.newest();
        let keep = (backup.promise)(&self.resident.tenant).keep;
        let mut totals = sink.totals();
        totals.tables = description.tables.len() as u64;
        totals.rows = rows;
        let manifest = Manifest {
            format: FORMAT,
            installation: backup.vault.root().installation,
            locker: record.locker,
            backup: id,
            sequence: previous.map_or(1, |previous| previous.manifest.sequence.saturating_add(1)),
            previous: previous.map(|previous| Previous {
                backup: previous.manifest.backup,
                sha256: previous.sha256,
                expires_at: previous.manifest.expires_at,
            }),
            taken_at,
            server_time,
            keep,
            expires_at: keep.expiry(taken_at),
            key_id: record.key_id,
            server,
            description: description_entries,
            pages,
            description_locked_until,
            not_captured: description.not_captured.len() as u64,
            totals,
            written_by: backup.version.clone(),
        };
        findings::of_captured(&manifest, &description, &mut findings);
        let incomplete = findings::incomplete(&self.resident.tenant, &description);
        Ok(Ready { manifest, record, base, findings, incomplete })
    }

    /// Makes it a backup.
    ///
    /// # Errors
    /// When something that it rests on does not hold any more; then no backup exists, or a void one that nobody uses.
    pub async fn finish(&self, lock: &dyn Held, ready: Ready) -> Result<Done, Failure> {
        self.stage("committing");
        let sha256 = match self.commit(lock, &ready).await {
            Ok(sha256) => sha256,
            Err(failure) => {
                return Err(key::or_purged(self.backup, &self.resident.tenant, Some(ready.manifest.locker), failure).await);
            }
        };
        let Ready { manifest, findings, incomplete, .. } = ready;
        let newest = Newest { locker: manifest.locker, backup: manifest.backup, sha256, taken_at: manifest.taken_at };
        Ok(Done { newest, totals: manifest.totals, findings, incomplete })
    }
}
