//! One tenant's backup, from the lock to the manifest.

use tokio::sync::OwnedSemaphorePermit;

use super::{
    Backup, CONNECTIONS_PER_TENANT, Limits,
    protocol::{Captured, Protocol, Ready},
    read::{self, Shared, Writer},
    report::{Done, GAVE_WAY},
    reuse::Reuse,
    schema,
};
use crate::{
    backup_id::BackupId,
    chunk::cutter::Cutter,
    format::{act::Newest, description::Description, index_page::Entry, key_record::KeyRecord, manifest::Server},
    id::SourceTag,
    operation::{
        failure::{Failure, FailureClass},
        fleet::Resident,
    },
    postgres::{
        describe::{Described, Describing},
        lock::TenantLock,
        snapshot::{Opening, Snapshot},
        source_tag::SourceTagger,
        tools::Program,
    },
    tenant::TenantName,
};

/// The description is a source of its own, with a tag that no HMAC gives: sixteen zero bytes.
pub(super) const DESCRIPTION: SourceTag = SourceTag([0; 16]);

/// One tenant's run.
pub(super) struct Run<'a> {
    pub(super) backup: &'a Backup,
    pub(super) resident: &'a Resident,
    limits: &'a Limits,
    protocol: Protocol<'a>,
}

/// How a tenant's run ended well.
pub(super) enum Ended {
    /// A new backup exists.
    Done(Done),
    /// It was not due: this backup came in between.
    Current(Newest),
}

/// What the look under the lock came to.
enum Locked {
    Ready(Box<Ready>),
    Current(Newest),
}

impl<'a> Run<'a> {
    pub(super) fn new(backup: &'a Backup, resident: &'a Resident, limits: &'a Limits, started: tokio::time::Instant) -> Self {
        Self { backup, resident, limits, protocol: Protocol { backup, resident, started } }
    }

    fn stage(&self, stage: &'static str) {
        self.backup.progress.stage(&self.resident.tenant, stage);
    }

    /// Backs the tenant up. A run never deletes, not even its own chunks: a PUT that seemed to fail may still land.
    ///
    /// # Errors
    /// Why there is no new backup.
    pub(super) async fn run(self) -> Result<Ended, Failure> {
        let tenant = &self.resident.tenant;
        self.protocol.refuse_if_gone().await?;
        let mut connections = self.connections(CONNECTIONS_PER_TENANT).await?;
        let reader = connections.split(1);
        self.stage("locking");
        let cluster = &self.resident.cluster;
        let installation = self.backup.vault.root().installation;
        let lock = TenantLock::acquire(&cluster.target, &installation, tenant, &cluster.roles, self.limits.lock_wait()).await?;
        let max_run = std::time::Duration::from_secs(self.backup.vault.root().max_run_seconds);
        // The commit is not interrupted: once a manifest may exist, the run finds out whether it does and whether it counts.
        let ready = tokio::select! {
            locked = self.locked(&lock, reader) => match locked? {
                Locked::Ready(ready) => *ready,
                Locked::Current(newest) => return Ok(Ended::Current(newest)),
            },
            why = lock.lost() => return Err(self.lock_lost(&why)),
            () = self.backup.cancel.cancelled() => return Err(self.interrupted()),
            () = tokio::time::sleep_until(self.protocol.started + max_run) => {
                return Err(Failure::new(FailureClass::Failed, "run-too-long", tenant, format!("the run took longer than {} s", max_run.as_secs()))
                    .hint("No backup was made."));
            }
        };
        let done = self.protocol.finish(&lock, ready).await?;
        if let Err(error) = lock.release().await {
            // The backup is committed and was checked after the commit: that it could not be given back harms nobody.
            tracing::warn!(tenant.name = %tenant, error = %error, "the lock of tenant {tenant} was gone at the end");
        }
        Ok(Ended::Done(done))
    }

    /// Everything up to the commit.
    async fn locked(&self, lock: &TenantLock, reader: Option<OwnedSemaphorePermit>) -> Result<Locked, Failure> {
        if self.limits.erased.contains(&self.resident.tenant) {
            return Err(self.is_erased());
        }
        if let Some(owner) = self.limits.renamed.get(&self.resident.tenant) {
            return Err(self.is_renamed(owner));
        }
        let (prepared, reuse) = self.protocol.prepare(self.limits.nobody_new.as_deref()).await?;
        // Somebody else may have had the lock before.
        if let Some(newest) = self.limits.current(self.backup, prepared.history()) {
            return Ok(Locked::Current(newest));
        }
        let age = self.backup.max_snapshot_age;
        let captured = tokio::time::timeout(age, self.capture(lock, &prepared.record, reuse, reader));
        let captured = captured.await.map_err(|_| self.too_old(age))??;
        self.protocol.ready(prepared, captured).await.map(|ready| Locked::Ready(Box::new(ready)))
    }

    fn too_old(&self, age: std::time::Duration) -> Failure {
        let tenant = &self.resident.tenant;
        let message = format!("the snapshot of tenant {tenant} was held for max_snapshot_age, {} s, and given up", age.as_secs());
        Failure::new(FailureClass::Failed, "snapshot-too-old", tenant, message)
            .hint("No backup was made. More `jobs` read faster; a longer limits.max_snapshot_age keeps dead rows longer.")
    }

    /// Reads the database as of one moment, and stores every chunk that is not stored yet.
    async fn capture(
        &self,
        lock: &TenantLock,
        record: &KeyRecord,
        reuse: Reuse,
        reader: Option<OwnedSemaphorePermit>,
    ) -> Result<Captured, Failure> {
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
        let sink = self.protocol.sink(record, id, reuse)?;
        let tagger = SourceTagger::new(&record.chunk_name_key);
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
            sink,
            hasher: record.chunk_name_key.row_hasher(),
            budget: self.limits.room.budget.clone(),
            progress: backup.progress.clone(),
            readers: self.limits.room.readers.clone(),
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
        let facts = snapshot.facts();
        let server = Server {
            system_identifier: facts.files.system_identifier.to_string(),
            database_oid: facts.files.database_oid,
            timeline: facts.timeline,
            lsn: facts.lsn.clone(),
            version_num: facts.version_num,
        };
        let (server_time, sink) = (facts.server_time, shared.sink);
        Ok(Captured { id, taken_at, server_time, server, description, description_entries, entries, sink })
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

    /// Waits for `count` connections to the tenant's cluster, all at once: two tenants that each hold some can't wait for each other.
    async fn connections(&self, count: u32) -> Result<OwnedSemaphorePermit, Failure> {
        let cluster = &self.resident.cluster.name;
        let closed =
            || Failure::new(FailureClass::Failed, "no-such-cluster", cluster, format!("cluster {cluster} is not configured"));
        let semaphore = self.limits.room.connections.get(cluster).ok_or_else(closed)?.clone();
        tokio::select! {
            permit = semaphore.acquire_many_owned(count) => permit.map_err(|_| closed()),
            () = self.backup.cancel.cancelled() => Err(self.interrupted()),
        }
    }

    /// The first reader's connection was waited for; more readers take what is free now, as far as there is work for them.
    fn readers(&self, first: Option<OwnedSemaphorePermit>, jobs: usize) -> Vec<Option<OwnedSemaphorePermit>> {
        let mut readers = vec![first];
        if let Some(semaphore) = self.limits.room.connections.get(&self.resident.cluster.name) {
            while readers.len() < self.backup.jobs.min(jobs) {
                let Ok(permit) = semaphore.clone().try_acquire_owned() else { break };
                readers.push(Some(permit));
            }
        }
        readers
    }

    fn is_erased(&self) -> Failure {
        let (tenant, database) = (&self.resident.tenant, crate::printable::Printable(&self.resident.found.database));
        let oid = self.resident.found.oid;
        let message =
            format!("database {database} answers to {tenant} now, and has the number of one that was erased: OID {oid}");
        Failure::new(FailureClass::Refused, "database-erased", tenant, message)
            .hint(
                "Nothing was read. Somebody put an old copy of the server back, or renamed it: `tenure reconcile` shows what has come back. If it is another \
                 database, which got that number after the server was put back: dump it, and restore the dump into a new database, which gets a \
                 number of its own.",
            )
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
