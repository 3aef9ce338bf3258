//! The schema's part of a run: `pg_dump`, watched.

use super::{
    read::{Shared, Writer},
    tenant::Run,
};
use crate::{
    chunk::cutter::Cutter,
    format::index_page::Entry,
    id::SourceTag,
    operation::failure::{Failure, FailureClass, TABLE_LOCKED},
    postgres::{
        ChildEnvironment,
        archive::Archive,
        lock::TenantLock,
        snapshot::{Snapshot, SnapshotError},
        tools::Tool,
    },
};

impl Run<'_> {
    /// Streams `pg_dump`'s archive into chunks. Gives them, and `pg_dump`'s warnings.
    ///
    /// # Errors
    /// If `pg_dump` fails or waits for a lock too long, if the schema changed meanwhile, or if a chunk cannot be stored.
    pub(super) async fn schema(
        &self,
        lock: &TenantLock,
        shared: &Shared,
        pg_dump: &Tool,
        source: SourceTag,
    ) -> Result<(Vec<Entry>, Vec<String>), Failure> {
        // Its session has no time limit for most of the locks that it takes, so it is watched from another one.
        let environment = shared.snapshot.target().child_environment(&self.resident.found.database).await?;
        tokio::select! {
            archive = archive(shared, pg_dump, &environment, source) => archive,
            failure = self.is_kept_waiting(lock, &environment) => Err(failure),
        }
    }

    /// Resolves when `pg_dump` has waited for a lock for longer than `lock_timeout`.
    async fn is_kept_waiting(&self, lock: &TenantLock, environment: &ChildEnvironment) -> Failure {
        let limit = self.backup.lock_timeout;
        let blockers = match lock.waits_for(environment.application(), limit).await {
            Ok(blockers) => blockers,
            Err(error) => return error.into(),
        };
        let names = blockers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (tenant, database) = (&self.resident.tenant, crate::printable::Printable(&self.resident.found.database));
        let message =
            format!("pg_dump waited {} ms for something in database {database} that {names} has locked", limit.as_millis());
        Failure::new(FailureClass::Failed, TABLE_LOCKED, tenant, message)
            .hint("No backup was made. Run it again when that session is done, or raise limits.lock_timeout.")
    }
}

async fn archive(
    shared: &Shared,
    pg_dump: &Tool,
    environment: &ChildEnvironment,
    source: SourceTag,
) -> Result<(Vec<Entry>, Vec<String>), Failure> {
    let mut archive = Archive::start(pg_dump, environment, &shared.snapshot)?;
    let mut cutter = Cutter::new(shared.hasher);
    let mut writer = Writer::new(shared);
    cutter.begin(source);
    while let Some(bytes) = archive.next().await? {
        cutter.raw(&bytes);
        for cut in cutter.ready() {
            writer.push(cut).await?;
        }
    }
    // Only a dump that ended well is complete, and only one that was left in peace is of one moment.
    let warnings = archive.finish().await?;
    shared.snapshot.compare_schema().await?;
    cutter.end();
    cutter.flush();
    for cut in cutter.ready() {
        writer.push(cut).await?;
    }
    Ok((writer.finish().await?, warnings))
}

/// What a failed statement stumbled over, where that is a schema that was being changed: it is tried again then.
pub(super) async fn or_changed(snapshot: &Snapshot, failure: Failure) -> Failure {
    if !["pg-dump-failed", "cannot-describe", "cannot-read"].contains(&failure.kind) {
        return failure;
    }
    match snapshot.compare_schema().await {
        Err(changed @ SnapshotError::Changed { .. }) => Failure::from(changed).because(failure),
        _ => failure,
    }
}
