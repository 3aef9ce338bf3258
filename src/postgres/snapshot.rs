//! The snapshot: one moment of a database that every reader sees, with every table locked against being emptied, rewritten or replaced.
//!
//! The *leader* holds it open: a REPEATABLE READ, READ ONLY transaction that first locks every table (ACCESS SHARE), then takes its
//! snapshot, exports it, and looks whether everything that the snapshot sees is locked and still is the same file. A TRUNCATE or a
//! rewrite between snapshot and lock would otherwise be read as an empty table, and a view put in a table's place would run its
//! functions. The leader's transaction must stay open as long as anything reads.

pub mod error;
mod locks;
mod open;
mod reader;
mod versions;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::{Mutex, MutexGuard};

pub use error::{Blocker, SnapshotError};
pub use open::{Opening, Step, Steps};
pub use reader::{ReadError, Reader, Rows};

use self::versions::{Scope, Versions};
use super::{
    Session, Target,
    catalog::Catalog,
    session_settings::{NO_TIME_LIMITS, statements},
    source_tag::DatabaseFiles,
};

/// What a snapshot is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The server and the database.
    pub files: DatabaseFiles,
    /// Name of the database.
    pub database: String,
    /// The exported snapshot, for `SET TRANSACTION SNAPSHOT` and `pg_dump --snapshot`.
    pub snapshot: String,
    /// Insert position of the write-ahead log just after the snapshot, as `pg_lsn` text.
    pub lsn: String,
    /// Timeline.
    pub timeline: u32,
    /// The server's clock.
    pub server_time: DateTime<Utc>,
    /// `server_version_num`.
    pub version_num: u32,
    /// The database's encoding.
    pub encoding: String,
    /// The role that the leader acts as, as `SET ROLE` takes it: `none` for the connecting one.
    pub role: String,
    /// The process of the leader on the server.
    pub leader_pid: i32,
}

/// An open snapshot. Cheap to clone; it ends when the last clone and the last reader are gone.
#[derive(Clone)]
pub struct Snapshot(Arc<Inner>);

struct Inner {
    facts: Facts,
    versions: Versions,
    lock_timeout: std::time::Duration,
    leader: Session,
    /// Who uses the leader's connection holds this.
    turn: Mutex<()>,
}

/// The leader's connection, for as long as it is one's turn.
pub(super) struct Turn<'a> {
    session: &'a Session,
    _turn: MutexGuard<'a, ()>,
}

impl std::ops::Deref for Turn<'_> {
    type Target = Session;
    fn deref(&self) -> &Session {
        self.session
    }
}

impl Snapshot {
    /// What it is of.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// The very server that the leader reached, whatever other hosts its description lists.
    #[must_use]
    pub fn target(&self) -> &Target {
        self.0.leader.target()
    }

    /// How long a lock is waited for.
    #[must_use]
    pub fn lock_timeout(&self) -> std::time::Duration {
        self.0.lock_timeout
    }

    /// The leader's connection, one user at a time.
    pub(super) async fn leader(&self) -> Turn<'_> {
        Turn { session: &self.0.leader, _turn: self.0.turn.lock().await }
    }

    /// The catalogs as the snapshot sees them, on a leader that the caller holds.
    pub(super) fn catalog<'a>(&'a self, leader: &'a Session) -> Catalog<'a> {
        Catalog::new(leader, &self.0.facts.database)
    }

    /// Looks, on a connection of its own, whether everything that a schema is written by is still what the snapshot saw. To be asked when
    /// the schema has been written; later changes do it no harm.
    ///
    /// # Errors
    /// [`SnapshotError::Changed`]: what was written may be of two moments. [`SnapshotError::Connect`], [`SnapshotError::Query`].
    pub async fn compare_schema(&self) -> Result<(), SnapshotError> {
        let database = &self.0.facts.database;
        let session = self
            .target()
            .connect(database, "tenure backup")
            .await
            .map_err(|source| SnapshotError::Connect { database: database.clone(), source: Box::new(source) })?;
        session.batch_execute(&statements(&[&NO_TIME_LIMITS])).await.map_err(|source| self.cannot_compare(source))?;
        self.compare(&session, Scope::Schema).await
    }

    /// Ends the snapshot after everything was read, and looks whether what rows were written by is still what it saw.
    ///
    /// # Errors
    /// [`SnapshotError::Changed`]: what was read may be of two moments. [`SnapshotError::Query`].
    pub async fn finish(&self) -> Result<(), SnapshotError> {
        let leader = self.leader().await;
        leader.batch_execute("COMMIT").await.map_err(|source| self.cannot_compare(source))?;
        self.compare(&leader, Scope::Rows).await
    }

    async fn compare(&self, session: &Session, scope: Scope) -> Result<(), SnapshotError> {
        match self.0.versions.first_changed(session, scope).await.map_err(|source| self.cannot_compare(source))? {
            None => Ok(()),
            Some(what) => Err(SnapshotError::Changed { database: self.0.facts.database.clone(), what }),
        }
    }

    fn cannot_compare(&self, source: tokio_postgres::Error) -> SnapshotError {
        SnapshotError::Query { database: self.0.facts.database.clone(), step: "compare with what there is now", source }
    }

    /// Resolves, with why, when the leader's connection has ended, and the snapshot with it: nothing read after that can be trusted to be
    /// complete.
    pub async fn lost(&self) -> String {
        self.0.leader.closed().await;
        self.0.leader.end_reason().unwrap_or_default()
    }
}
