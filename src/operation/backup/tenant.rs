//! One tenant's backup, from the lock to the manifest.

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Backup, CONNECTIONS_PER_TENANT, Limits,
    commit::Conditions,
    findings, key,
    locks::Needed,
    pages,
    read::{self, Shared, Writer},
    report::{Done, GAVE_WAY},
    reuse::Reuse,
    schema,
    sink::Sink,
};
use crate::{
    backup_id::BackupId,
    chunk::cutter::Cutter,
    format::{
        description::Description,
        index_page::Entry,
        key_record::KeyRecord,
        manifest::{Manifest, Previous, Server},
    },
    id::SourceTag,
    operation::{
        failure::{Failure, FailureClass},
        fleet::Resident,
    },
    postgres::{
        describe::{Described, Describing},
        lock::{self, TenantLock},
        snapshot::{Opening, Snapshot},
        source_tag::SourceTagger,
        tools::Program,
    },
    seal::TenantRecipient,
    signed::FORMAT,
    tenant::TenantName,
    vault::history::History,
};

/// The description is a source of its own, with a tag that no HMAC gives: sixteen zero bytes.
pub(super) const DESCRIPTION: SourceTag = SourceTag([0; 16]);

/// One tenant's run.
pub(super) struct Run<'a> {
    pub(super) backup: &'a Backup,
    pub(super) resident: &'a Resident,
    limits: &'a Limits,
    pub(super) started: tokio::time::Instant,
}

/// A backup that lacks only its manifest.
struct Ready {
    manifest: Manifest,
    record: KeyRecord,
    base: Option<BackupId>,
    base_expires_at: Option<DateTime<Utc>>,
    findings: Vec<String>,
    incomplete: Option<Failure>,
}

/// What a run has read and stored before it is a backup.
struct Stored {
    id: BackupId,
    taken_at: DateTime<Utc>,
    snapshot: Snapshot,
    description: Description,
    description_entries: Vec<Entry>,
    entries: Vec<Entry>,
    sink: Sink,
}

impl<'a> Run<'a> {
    pub(super) fn new(backup: &'a Backup, resident: &'a Resident, limits: &'a Limits, started: tokio::time::Instant) -> Self {
        Self { backup, resident, limits, started }
    }

    fn stage(&self, stage: &'static str) {
        self.backup.progress.stage(&self.resident.tenant, stage);
    }

    /// Backs the tenant up. A run never deletes, not even its own chunks: a PUT that seemed to fail may still land.
    ///
    /// # Errors
    /// Why there is no new backup.
    pub(super) async fn run(self) -> Result<Done, Failure> {
        let tenant = &self.resident.tenant;
        key::refuse_if_gone(self.backup, tenant, &[]).await?;
        let mut connections = self.connections(CONNECTIONS_PER_TENANT).await?;
        let reader = connections.split(1);
        self.stage("locking");
        let cluster = &self.resident.cluster;
        let installation = self.backup.vault.root().installation;
        let lock = TenantLock::acquire(&cluster.target, &installation, tenant, &cluster.roles, lock::WAIT).await?;
        let max_run = std::time::Duration::from_secs(self.backup.vault.root().max_run_seconds);
        // The commit is not interrupted: once a manifest may exist, the run finds out whether it does and whether it counts.
        let ready = tokio::select! {
            ready = self.locked(&lock, reader) => ready?,
            why = lock.lost() => return Err(self.lock_lost(&why)),
            () = self.backup.cancel.cancelled() => return Err(self.interrupted()),
            () = tokio::time::sleep_until(self.started + max_run) => {
                return Err(Failure::new(FailureClass::Failed, "run-too-long", tenant, format!("the run took longer than {} s", max_run.as_secs()))
                    .hint("No backup was made."));
            }
        };
        let done = self.finish(&lock, ready).await?;
        if let Err(error) = lock.release().await {
            // The backup is committed and was checked after the commit: that it could not be given back harms nobody.
            tracing::warn!(tenant.name = %tenant, error = %error, "the lock of tenant {tenant} was gone at the end");
        }
        Ok(done)
    }

    /// Everything up to the commit.
    async fn locked(&self, lock: &TenantLock, reader: Option<OwnedSemaphorePermit>) -> Result<Ready, Failure> {
        self.stage("preparing");
        if let Some(owner) = self.limits.renamed.get(&self.resident.tenant) {
            return Err(self.is_renamed(owner));
        }
        let (keys, record) = key::sealing_key(self.backup, self.resident, self.limits.nobody_new.as_deref()).await?;
        let now = (self.backup.clock)();
        let history = self.backup.vault.history(record.locker, now).await?;
        key::refuse_if_a_key_was_lost(&self.resident.tenant, &keys, &history, now)?;
        key::check_source(self.backup, self.resident, record.locker, &history).await?;
        let settle = TimeDelta::seconds(i64::try_from(self.backup.vault.root().settle_seconds).unwrap_or(i64::MAX / 1_000));
        let reuse = Reuse::load(&self.backup.vault, record.locker, record.key_id, &history, now + settle).await?;
        let base = reuse.base;
        let mut findings = Vec::new();
        findings::of_history(&history, &reuse, &mut findings);

        let age = self.backup.max_snapshot_age;
        let stored =
            tokio::time::timeout(age, self.store(lock, &record, reuse, reader)).await.map_err(|_| self.too_old(age))??;
        let manifest = self.manifest(&record, &history, &stored, &mut findings).await?;
        findings::of_captured(&manifest, &stored.description, &mut findings);
        let base_expires_at =
            history.backups.iter().find(|backup| Some(backup.manifest.backup) == base).map(|backup| backup.manifest.expires_at);
        let incomplete = findings::incomplete(&self.resident.tenant, &stored.description);
        Ok(Ready { manifest, record, base, base_expires_at, findings, incomplete })
    }

    async fn finish(&self, lock: &TenantLock, ready: Ready) -> Result<Done, Failure> {
        self.stage("committing");
        let Ready { manifest, record, base, base_expires_at, findings, incomplete } = ready;
        self.commit(&manifest, &Conditions { lock, record: &record, base, base_expires_at }).await?;
        Ok(Done { backup: manifest.backup, totals: manifest.totals, findings, incomplete })
    }

    fn too_old(&self, age: std::time::Duration) -> Failure {
        let tenant = &self.resident.tenant;
        let message = format!("the snapshot of tenant {tenant} was held for max_snapshot_age, {} s, and given up", age.as_secs());
        Failure::new(FailureClass::Failed, "snapshot-too-old", tenant, message)
            .hint("No backup was made. More `jobs` read faster; a longer limits.max_snapshot_age keeps dead rows longer.")
    }

    /// Reads the database as of one moment, and stores every chunk that is not stored yet.
    async fn store(
        &self,
        lock: &TenantLock,
        record: &KeyRecord,
        reuse: Reuse,
        reader: Option<OwnedSemaphorePermit>,
    ) -> Result<Stored, Failure> {
        let (backup, resident) = (self.backup, self.resident);
        let target = &resident.cluster.target;
        self.stage("opening the snapshot");
        let opening = Opening {
            target,
            database: &resident.found.database,
            expected_oid: resident.found.oid,
            lock_timeout: backup.lock_timeout,
        };
        let snapshot = opening.open().await?;
        let taken_at = (backup.clock)();
        let id = BackupId::new(taken_at);
        let recipient = TenantRecipient::parse(&record.recipient).map_err(|error| {
            let message = format!("key {} has no usable recipient", record.key_id);
            Failure::new(FailureClass::Integrity, "bad-key-record", record.key_id, message).because(error)
        })?;
        let key = record.chunk_name_key.clone();
        let tagger = SourceTagger::new(&key);
        let pg_dump = backup.tools.find(Program::Dump, snapshot.facts().version_num / 10_000).await?;
        let version_line = format!("pg_dump (PostgreSQL) {}", pg_dump.version);
        let promise = (backup.promise)(&resident.tenant);
        let describing = Describing {
            tenant: &resident.tenant,
            cluster: &resident.cluster.name,
            pg_dump: &version_line,
            exclude_data: &promise.exclude_data,
            tagger: &tagger,
        };
        let Described { mut description, jobs } = match describing.describe(&snapshot).await {
            Ok(described) => described,
            Err(error) => return Err(schema::or_changed(&snapshot, error.into()).await),
        };
        let shared = Shared {
            tenant: resident.tenant.clone(),
            snapshot: snapshot.clone(),
            sink: Sink::new(backup.vault.clone(), record.locker, id, recipient, key.clone(), reuse, backup.clock),
            hasher: key.row_hasher(),
            budget: backup.budget.clone(),
            progress: backup.progress.clone(),
            readers: self.limits.readers.clone(),
        };
        self.stage("copying");
        let readers = self.readers(reader, jobs.len());
        let archive = self.schema(lock, &shared, &pg_dump, description.schema_archive);
        let ((archive_entries, warnings), mut entries) = tokio::select! {
            both = async { tokio::try_join!(archive, read::read(&shared, jobs, readers)) } => match both {
                Ok(both) => both,
                Err(failure) => return Err(schema::or_changed(&snapshot, failure).await),
            },
            why = snapshot.lost() => return Err(self.snapshot_lost(&why)),
            failure = self.in_the_way(lock, &snapshot) => return Err(failure),
        };
        snapshot.finish().await?;
        entries.extend(archive_entries);
        description.warnings = warnings;
        let description_entries = describe(&shared, &description).await?;
        Ok(Stored { id, taken_at, snapshot, description, description_entries, entries, sink: shared.sink })
    }

    /// Resolves when somebody has waited behind the snapshot for longer than `yield_after`.
    async fn in_the_way(&self, lock: &TenantLock, snapshot: &Snapshot) -> Failure {
        let Some(longer_than) = self.backup.yield_after else { return std::future::pending().await };
        let tenant = &self.resident.tenant;
        match lock.somebody_waits(snapshot.facts().leader_pid, longer_than).await {
            Err(error) => error.into(),
            Ok(waiting) => {
                let message =
                    format!("the backup of tenant {tenant} gave way to {waiting}, which waited for {} s", longer_than.as_secs());
                Failure::new(FailureClass::Failed, GAVE_WAY, tenant, message)
                    .hint("Change the schema when no backup runs, or raise limits.yield_after.")
            }
        }
    }

    async fn manifest(
        &self,
        record: &KeyRecord,
        history: &History,
        stored: &Stored,
        findings: &mut Vec<String>,
    ) -> Result<Manifest, Failure> {
        let (backup, facts) = (self.backup, stored.snapshot.facts());
        let rows = stored.entries.iter().flat_map(|entry| &entry.parts).map(|part| part.rows).sum();
        let grouped = pages::group(&stored.description, stored.entries.clone());
        let mut pages = pages::store(&backup.vault, record.locker, &stored.sink, &grouped).await?;
        self.stage("locking what it needs");
        let (description, sink) = (&stored.description_entries, &stored.sink);
        let needed = Needed { locker: record.locker, sink, description, pages: &mut pages, indexes: &grouped };
        let description_locked_until = needed.hold(backup, findings).await?;
        let previous = history.newest();
        let keep = (backup.promise)(&self.resident.tenant).keep;
        let mut totals = stored.sink.totals();
        totals.tables = stored.description.tables.len() as u64;
        totals.rows = rows;
        Ok(Manifest {
            format: FORMAT,
            installation: backup.vault.root().installation,
            locker: record.locker,
            backup: stored.id,
            sequence: previous.map_or(1, |previous| previous.manifest.sequence.saturating_add(1)),
            previous: previous.map(|previous| Previous {
                backup: previous.manifest.backup,
                sha256: previous.sha256,
                expires_at: previous.manifest.expires_at,
            }),
            taken_at: stored.taken_at,
            server_time: facts.server_time,
            keep,
            expires_at: keep.expiry(stored.taken_at),
            key_id: record.key_id,
            server: Server {
                system_identifier: facts.files.system_identifier.to_string(),
                database_oid: facts.files.database_oid,
                timeline: facts.timeline,
                lsn: facts.lsn.clone(),
                version_num: facts.version_num,
            },
            description: stored.description_entries.clone(),
            pages,
            description_locked_until,
            not_captured: stored.description.not_captured.len() as u64,
            totals,
            written_by: backup.version.clone(),
        })
    }

    /// Waits for `count` connections to the tenant's cluster, all at once: two tenants that each hold some can't wait for each other.
    async fn connections(&self, count: u32) -> Result<OwnedSemaphorePermit, Failure> {
        let cluster = &self.resident.cluster.name;
        let closed =
            || Failure::new(FailureClass::Failed, "no-such-cluster", cluster, format!("cluster {cluster} is not configured"));
        let semaphore = self.limits.connections.get(cluster).ok_or_else(closed)?.clone();
        tokio::select! {
            permit = semaphore.acquire_many_owned(count) => permit.map_err(|_| closed()),
            () = self.backup.cancel.cancelled() => Err(self.interrupted()),
        }
    }

    /// The first reader's connection was waited for; more readers take what is free now, as far as there is work for them.
    fn readers(&self, first: Option<OwnedSemaphorePermit>, jobs: usize) -> Vec<Option<OwnedSemaphorePermit>> {
        let mut readers = vec![first];
        if let Some(semaphore) = self.limits.connections.get(&self.resident.cluster.name) {
            while readers.len() < self.backup.jobs.min(jobs) {
                let Ok(permit) = semaphore.clone().try_acquire_owned() else { break };
                readers.push(Some(permit));
            }
        }
        readers
    }

    fn is_renamed(&self, owner: &TenantName) -> Failure {
        let (tenant, database) = (&self.resident.tenant, crate::printable::Printable(&self.resident.found.database));
        let message =
            format!("database {database} answers to {tenant} now, and is the one that backups of tenant {owner} are from");
        Failure::new(FailureClass::Refused, "tenant-renamed", tenant, message).hint(format!(
            "Nothing was read: a history of its own for {tenant} would part one customer's backups in two. Rename the database back, or give it a new one."
        ))
    }

    fn lock_lost(&self, why: &str) -> Failure {
        let tenant = &self.resident.tenant;
        let message = format!("the lock of tenant {tenant} was lost in the middle of the run: its connection ended: {why}");
        Failure::new(FailureClass::Failed, "lock-lost", tenant, message)
            .hint("No backup was made. The server restarted or the network dropped; run it again.")
    }

    fn snapshot_lost(&self, why: &str) -> Failure {
        let tenant = &self.resident.tenant;
        let message = format!("the snapshot of tenant {tenant} was lost: its connection ended: {why}");
        Failure::new(FailureClass::Failed, "snapshot-lost", tenant, message)
            .hint("No backup was made. The server restarted or the network dropped; run it again.")
    }

    fn interrupted(&self) -> Failure {
        let tenant = &self.resident.tenant;
        Failure::new(FailureClass::Interrupted, "interrupted", tenant, format!("the backup of tenant {tenant} was stopped"))
            .hint("No backup was made; what was stored already is re-used or collected later.")
    }
}

/// Stores the description as chunks of its own.
async fn describe(shared: &Shared, description: &Description) -> Result<Vec<Entry>, Failure> {
    let text = serde_json::to_vec(description).map_err(|error| {
        Failure::new(FailureClass::Failed, "description", &shared.tenant, "the description cannot be written as JSON")
            .because(error)
    })?;
    let mut cutter = Cutter::new(shared.hasher);
    let mut writer = Writer::new(shared);
    cutter.begin(DESCRIPTION);
    cutter.raw(&text);
    cutter.end();
    cutter.flush();
    for cut in cutter.ready() {
        writer.push(cut).await?;
    }
    let mut entries = writer.finish().await?;
    entries.sort_by_key(|entry| entry.parts.first().map_or(0, |part| part.position));
    Ok(entries)
}
