//! Opening a snapshot: connect, lock, look, and start over when the database did not hold still.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio_postgres::error::SqlState;

use super::{Facts, Inner, Snapshot, SnapshotError, locks, versions::Versions};
use crate::postgres::{
    Session, Target,
    session_settings::{NO_TIME_LIMITS, READING, ROW_TEXT, statements},
    source_tag::DatabaseFiles,
    spelling,
};

/// How often a database that does not hold still is tried.
const ATTEMPTS: u32 = 3;

/// The moments between the steps of opening a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Connected, nothing listed yet.
    Connected,
    /// Tables are listed, none is locked.
    Listed,
    /// All listed tables are locked, the snapshot is not taken.
    Locked,
    /// The snapshot is taken; tables that came since the listing are not locked yet.
    Taken,
}

/// Is told of each step and may take its time. Tests change the database at exactly these moments.
#[async_trait]
pub trait Steps: Send + Sync {
    /// `step` was reached in attempt `attempt`, counted from 1.
    async fn reached(&self, step: Step, attempt: u32);
}

/// Watches nothing.
struct Unwatched;

#[async_trait]
impl Steps for Unwatched {
    async fn reached(&self, _step: Step, _attempt: u32) {}
}

/// What is to be opened.
pub struct Opening<'a> {
    /// The primary.
    pub target: &'a Target,
    /// The database's name.
    pub database: &'a str,
    /// The OID that it had when it was discovered.
    pub expected_oid: u32,
    /// How long one lock is waited for. Longer makes others wait behind us; shorter fails more often.
    pub lock_timeout: Duration,
}

/// What an attempt found changed under it.
struct Changed(String);

impl Opening<'_> {
    /// Opens the snapshot.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub async fn open(&self) -> Result<Snapshot, SnapshotError> {
        self.open_watched(&Unwatched).await
    }

    /// Opens the snapshot, telling `steps` of each step.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub async fn open_watched(&self, steps: &dyn Steps) -> Result<Snapshot, SnapshotError> {
        let leader = self.connect().await?;
        self.admit(&leader).await?;
        let mut changed = Changed(String::new());
        for attempt in 1..=ATTEMPTS {
            steps.reached(Step::Connected, attempt).await;
            match self.attempt(&leader, steps, attempt).await? {
                Ok((facts, versions)) => {
                    return Ok(Snapshot(Arc::new(Inner {
                        facts,
                        versions,
                        lock_timeout: self.lock_timeout,
                        leader,
                        turn: Mutex::new(()),
                    })));
                }
                Err(what) => {
                    tracing::warn!(database.name = self.database, attempt, change = %what.0, "the database changed under the snapshot; starting over");
                    changed = what;
                    leader.batch_execute("ROLLBACK").await.map_err(self.query("start over"))?;
                }
            }
        }
        Err(SnapshotError::Unsettled { database: self.database.to_owned(), attempts: ATTEMPTS, what: changed.0 })
    }

    async fn connect(&self) -> Result<Session, SnapshotError> {
        let session = self
            .target
            .connect(self.database, "tenure backup")
            .await
            .map_err(|source| SnapshotError::Connect { database: self.database.to_owned(), source: Box::new(source) })?;
        let milliseconds = self.lock_timeout.as_millis().to_string();
        let settings = statements(&[&ROW_TEXT, &NO_TIME_LIMITS, &READING, &[("lock_timeout", &milliseconds)]]);
        session.batch_execute(&settings).await.map_err(self.query("apply the session's settings"))?;
        Ok(session)
    }

    /// Refuses servers and databases that must not be read. From here on the database can be neither dropped nor renamed:
    /// PostgreSQL refuses both while somebody is connected.
    async fn admit(&self, leader: &Session) -> Result<(), SnapshotError> {
        let sql = "SELECT pg_catalog.current_setting('server_version_num')::int4, pg_catalog.current_setting('server_version'), \
             pg_catalog.pg_is_in_recovery(), d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";
        let failed = self.query("identify the database");
        let row = leader.query_one(sql, &[]).await.map_err(&failed)?;
        let version_num: i32 = row.try_get(0).map_err(&failed)?;
        if version_num < 140_000 {
            let version = row.try_get(1).map_err(&failed)?;
            return Err(SnapshotError::TooOld { endpoint: self.target.endpoint(), version });
        }
        if row.try_get(2).map_err(&failed)? {
            return Err(SnapshotError::Standby { endpoint: self.target.endpoint() });
        }
        let found: u32 = row.try_get(3).map_err(&failed)?;
        if found != self.expected_oid {
            return Err(SnapshotError::OtherDatabase { database: self.database.to_owned(), expected: self.expected_oid, found });
        }
        let misspelt = spelling::misspelt(leader).await.map_err(&failed)?;
        if !misspelt.is_empty() {
            return Err(SnapshotError::Misspelt { database: self.database.to_owned(), misspelt });
        }
        Ok(())
    }

    async fn attempt(
        &self,
        leader: &Session,
        steps: &dyn Steps,
        attempt: u32,
    ) -> Result<Result<(Facts, Versions), Changed>, SnapshotError> {
        // Listed outside the transaction: any query in it would take its snapshot before the locks.
        let listed = locks::list(leader).await.map_err(self.query("list tables"))?;
        steps.reached(Step::Listed, attempt).await;
        leader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(self.query("begin"))?;
        self.lock(leader, &listed, listed.len()).await?;
        steps.reached(Step::Locked, attempt).await;
        let facts = self.take(leader).await?;
        steps.reached(Step::Taken, attempt).await;

        let failed = self.query("compare locks with the snapshot");
        let seen = locks::seen(leader).await.map_err(&failed)?;
        let held: HashSet<u32> = locks::held(leader).await.map_err(&failed)?;
        let late: Vec<_> = seen.iter().filter(|table| !held.contains(&table.oid)).cloned().collect();
        if !late.is_empty() {
            self.lock(leader, &late, seen.len()).await?;
        }
        let held: HashSet<u32> = locks::held(leader).await.map_err(&failed)?;
        if let Some(table) = seen.iter().find(|table| !held.contains(&table.oid)) {
            return Ok(Err(Changed(format!("{} was dropped or replaced", table.qualified()))));
        }
        if let Some(table) = locks::rewritten(leader).await.map_err(&failed)? {
            return Ok(Err(Changed(format!("{table} was emptied, rewritten or turned into something else"))));
        }
        let versions = Versions::seen(leader).await.map_err(self.query("read versions"))?;
        Ok(Ok((facts, versions)))
    }

    async fn lock(&self, leader: &Session, tables: &[locks::Named], all: usize) -> Result<(), SnapshotError> {
        let Err(failure) = locks::lock(leader, tables).await else { return Ok(()) };
        let database = self.database.to_owned();
        let Some(code) = failure.source.code() else {
            return Err(SnapshotError::Query { database, step: "lock tables", source: failure.source });
        };
        if *code == SqlState::LOCK_NOT_AVAILABLE {
            // The transaction is over for us; outside it the lock table tells who was in the way.
            leader.batch_execute("ROLLBACK").await.map_err(self.query("roll back"))?;
            let blockers = locks::blockers(leader, &failure.oids).await.map_err(self.query("find who holds the lock"))?;
            return Err(SnapshotError::LockTimeout { database, tables: failure.tables, waited: self.lock_timeout, blockers });
        }
        if *code == SqlState::INSUFFICIENT_PRIVILEGE {
            let role = self.target.user().to_owned();
            return Err(SnapshotError::Denied { database, table: failure.tables.join(", "), role, source: failure.source });
        }
        if *code == SqlState::OUT_OF_MEMORY {
            let endpoint = self.target.endpoint();
            return Err(SnapshotError::LockTableFull { endpoint, database, tables: all, source: failure.source });
        }
        Err(SnapshotError::Query { database, step: "lock tables", source: failure.source })
    }

    /// The transaction's first query: takes the snapshot and exports it.
    async fn take(&self, leader: &Session) -> Result<Facts, SnapshotError> {
        // The name of the write-ahead log's current file begins with the timeline, in hexadecimal.
        let sql = "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.pg_current_wal_insert_lsn()::text, \
               pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8), \
               (SELECT s.system_identifier FROM pg_catalog.pg_control_system() s), pg_catalog.clock_timestamp(), \
               pg_catalog.current_setting('server_version_num')::int4, pg_catalog.pg_encoding_to_char(d.encoding)::text, d.oid, \
               pg_catalog.pg_backend_pid(), pg_catalog.current_setting('role') \
             FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";
        let failed = self.query("take and export the snapshot");
        let row = leader.query_one(sql, &[]).await.map_err(&failed)?;
        let timeline: String = row.try_get(2).map_err(&failed)?;
        let system_identifier: i64 = row.try_get(3).map_err(&failed)?;
        let version_num: i32 = row.try_get(5).map_err(&failed)?;
        Ok(Facts {
            // Stored as a signed number, meant as an unsigned one.
            files: DatabaseFiles {
                system_identifier: system_identifier.cast_unsigned(),
                database_oid: row.try_get(7).map_err(&failed)?,
            },
            database: self.database.to_owned(),
            snapshot: row.try_get(0).map_err(&failed)?,
            lsn: row.try_get(1).map_err(&failed)?,
            timeline: u32::from_str_radix(&timeline, 16).unwrap_or(0),
            server_time: row.try_get(4).map_err(&failed)?,
            version_num: version_num.unsigned_abs(),
            encoding: row.try_get(6).map_err(&failed)?,
            leader_pid: row.try_get(8).map_err(&failed)?,
            role: row.try_get(9).map_err(&failed)?,
        })
    }

    fn query(&self, step: &'static str) -> impl Fn(tokio_postgres::Error) -> SnapshotError {
        let database = self.database.to_owned();
        move |source| SnapshotError::Query { database: database.clone(), step, source }
    }
}
