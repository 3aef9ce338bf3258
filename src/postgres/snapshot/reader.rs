//! Readers: connections that share the snapshot and copy sources out.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures_util::StreamExt as _;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use tokio_postgres::{CopyOutStream, Statement, error::SqlState, types::ToSql};

use super::{Snapshot, SnapshotError, Turn};
use crate::{
    postgres::{
        Session, planned_code,
        session_settings::{NO_TIME_LIMITS, READING, ROW_TEXT, statements},
        source::{Read, Source, TableRead},
        statement::is_row_security,
    },
    printable::Printable,
};

/// Rows that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The server or the connection failed.
    #[error("cannot read {source_label} of database {database:?} as role {role:?}")]
    Copy {
        /// What was read.
        source_label: String,
        /// The database.
        database: String,
        /// The connected role.
        role: String,
        /// What the server or the connection said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A schema was renamed while the table was read, so the name stood for something else.
    #[error("{source_label} of database {database:?} was replaced while it was read")]
    Replaced {
        /// What was read.
        source_label: String,
        /// The database.
        database: String,
    },
    /// An index or a statistics object was made meanwhile whose functions would run while the table is read.
    #[error(
        "{source_label} of database {database:?} got an index or statistics with functions of a role that is no superuser while it was read"
    )]
    ForeignCode {
        /// What was to be read.
        source_label: String,
        /// The database.
        database: String,
    },
    /// An earlier read on this connection was given up.
    #[error("the connection that reads database {database:?} was given up in the middle of {source_label}")]
    GivenUp {
        /// What was read then.
        source_label: String,
        /// The database.
        database: String,
    },
}

impl ReadError {
    fn copy(source_label: String, snapshot: &Snapshot, source: tokio_postgres::Error) -> Self {
        let (database, role) = (snapshot.0.facts.database.clone(), snapshot.target().user().to_owned());
        Self::Copy { source_label, database, role, source }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let Self::Copy { source_label, role, source, .. } = self else { return "Run it again".to_owned() };
        let role = Printable(&escape_identifier(role)).to_string();
        if is_row_security(source) {
            format!("ALTER ROLE {role} BYPASSRLS (a superuser may): a policy hides rows of it from that role")
        } else if source.code() != Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
            "Run it again".to_owned()
        } else if source_label.starts_with("large objects") {
            format!(
                "GRANT their owners TO {role}, or GRANT SELECT ON LARGE OBJECT … TO {role}; pg_read_all_data does not cover them"
            )
        } else {
            format!("GRANT pg_read_all_data TO {role}; `tenure check` names everything that it may not read")
        }
    }
}

/// A connection that sees the snapshot. Reads one source at a time.
pub struct Reader {
    snapshot: Snapshot,
    connection: Connection,
    given_up: Option<String>,
}

enum Connection {
    /// One of its own.
    Own(Box<Own>),
    /// The leader's, for servers with no connection to spare.
    Leader,
}

struct Own {
    session: Session,
    /// [`NAME_NOW`], prepared: it is asked once per source.
    name_now: Statement,
}

/// What stands under a table's name now, whatever the snapshot sees: names are looked up in the present.
const NAME_NOW: &str = "SELECT COALESCE(pg_catalog.to_regclass($1)::oid, 0::oid)";

/// How often a reader waits `lock_timeout` for an index that is being rebuilt. Whoever rebuilds it does not wait for us, so waiting
/// is safe; a rebuild that takes longer than this fails the backup.
const WAITS_FOR_AN_INDEX: u32 = 30;

impl Snapshot {
    /// A new connection that sees this snapshot.
    ///
    /// # Errors
    /// If the server refuses the connection or the snapshot.
    pub async fn reader(&self) -> Result<Reader, SnapshotError> {
        let database = &self.0.facts.database;
        let session = self
            .target()
            .connect(database, "tenure backup")
            .await
            .map_err(|source| SnapshotError::Connect { database: database.clone(), source: Box::new(source) })?;
        let query = |step| move |source| SnapshotError::Query { database: database.clone(), step, source };
        let milliseconds = self.0.lock_timeout.as_millis().to_string();
        let settings = statements(&[&ROW_TEXT, &NO_TIME_LIMITS, &READING, &BY_PAGE, &[("lock_timeout", &milliseconds)]]);
        session.batch_execute(&settings).await.map_err(query("apply a reader's settings"))?;
        let name_now = session.prepare(NAME_NOW).await.map_err(query("prepare a reader"))?;
        session.batch_execute(&self.import()).await.map_err(query("import the snapshot"))?;
        Ok(Reader { snapshot: self.clone(), connection: Connection::Own(Box::new(Own { session, name_now })), given_up: None })
    }

    /// A reader on the leader's own connection, for servers with no connection to spare. All such readers take turns.
    #[must_use]
    pub fn reader_on_leader(&self) -> Reader {
        Reader { snapshot: self.clone(), connection: Connection::Leader, given_up: None }
    }

    /// Importing must be a transaction's first act.
    fn import(&self) -> String {
        format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            escape_literal(&self.0.facts.snapshot)
        )
    }
}

/// A range of pages is never read by scanning the whole file.
const BY_PAGE: [(&str, &str); 1] = [("enable_seqscan", "off")];

impl Reader {
    /// The rows of `source`, one COPY line each.
    ///
    /// Every source is read in a transaction of its own: planning a read of pages locks the table's indexes, and a REINDEX, behind
    /// which the application's writes wait, shall wait for one source and not for the whole backup. The leader keeps the table.
    ///
    /// # Errors
    /// If the COPY cannot begin; errors in its middle come with the rows.
    pub async fn rows(&mut self, source: &Source) -> Result<Rows<'_>, ReadError> {
        let Self { snapshot, connection, given_up } = self;
        let database = &snapshot.0.facts.database;
        if let Some(label) = given_up {
            return Err(ReadError::GivenUp { source_label: label.clone(), database: database.clone() });
        }
        let failed = |error| ReadError::copy(source.label(), snapshot, error);
        let table = match &source.read {
            Read::Rows { table, .. } => Some(Arc::clone(table)),
            Read::LargeObjects(_) => None,
        };
        let Connection::Own(own) = connection else { return on_leader(snapshot, given_up, source, table).await };

        let mut begin = "ROLLBACK; ".to_owned();
        if let (Some(table), true) = (&table, source.is_planned()) {
            // As of now and not of the snapshot: the planner looks at the present. Somebody may have made an index meanwhile.
            begin.push_str(&format!(
                "BEGIN READ ONLY; SELECT 1 / (NOT {})::int4; COMMIT; ",
                planned_code::may_run(&table.oid.to_string())
            ));
        }
        begin.push_str(&snapshot.import());
        if let Some(table) = &table {
            // Behind somebody who waits for the leader we would wait for ever, and PostgreSQL would not see it.
            begin.push_str(&format!("; LOCK TABLE ONLY {} IN ACCESS SHARE MODE NOWAIT", table.qualified()));
        }
        let mut waits = 0;
        loop {
            match own.session.batch_execute(&begin).await {
                Ok(()) => {}
                Err(error) if is_locked(&error) => {
                    tracing::info!("somebody waits for {}: read by the connection that holds it", source.label());
                    return on_leader(snapshot, given_up, source, table).await;
                }
                Err(error) if error.code() == Some(&SqlState::DIVISION_BY_ZERO) => {
                    return Err(ReadError::ForeignCode { source_label: source.label(), database: database.clone() });
                }
                Err(error) => return Err(failed(error)),
            }
            match own.session.copy_out(&source.statement()).await {
                Ok(stream) => {
                    return Ok(Rows {
                        stream: Box::pin(stream),
                        on: On::Own(own),
                        table,
                        label: source.label(),
                        snapshot,
                        given_up,
                        finished: false,
                    });
                }
                Err(error) if is_locked(&error) && waits < WAITS_FOR_AN_INDEX => {
                    waits += 1;
                    tracing::info!("an index is being rebuilt; {} is read when it is done", source.label());
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

fn is_locked(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

/// Reads on the connection that already holds every lock.
async fn on_leader<'a>(
    snapshot: &'a Snapshot,
    given_up: &'a mut Option<String>,
    source: &Source,
    table: Option<Arc<TableRead>>,
) -> Result<Rows<'a>, ReadError> {
    let leader = snapshot.leader().await;
    let failed = |error| ReadError::copy(source.label(), snapshot, error);
    leader.batch_execute("SET LOCAL enable_seqscan = off").await.map_err(failed)?;
    let stream = leader.copy_out(&source.statement()).await.map_err(failed)?;
    let on = On::Leader(leader);
    Ok(Rows { stream: Box::pin(stream), on, table, label: source.label(), snapshot, given_up, finished: false })
}

enum On<'a> {
    Own(&'a Own),
    Leader(Turn<'a>),
}

impl On<'_> {
    fn session(&self) -> &Session {
        match self {
            Self::Own(own) => &own.session,
            Self::Leader(session) => session,
        }
    }

    /// Ends the source's transaction and with it its locks, where it has one of its own, and looks a table's name up again.
    async fn end(&self, table: Option<&TableRead>) -> Result<Option<u32>, tokio_postgres::Error> {
        let name = table.map(TableRead::qualified);
        let row = match (self, name) {
            (Self::Own(own), None) => {
                own.session.batch_execute("ROLLBACK").await?;
                None
            }
            (Self::Own(own), Some(name)) => {
                // Sent together: one round trip.
                let parameters: [&(dyn ToSql + Sync); 1] = [&name];
                let both = tokio::join!(own.session.batch_execute("ROLLBACK"), own.session.query_one(&own.name_now, &parameters));
                both.0?;
                Some(both.1?)
            }
            (Self::Leader(_), None) => None,
            (Self::Leader(session), Some(name)) => Some(session.query_one(NAME_NOW, &[&name]).await?),
        };
        row.map(|row| row.try_get(0)).transpose()
    }
}

/// The rows of one source. Dropped before the end, it ends the query on the server, and its reader reads no more.
pub struct Rows<'a> {
    stream: Pin<Box<CopyOutStream>>,
    on: On<'a>,
    table: Option<Arc<TableRead>>,
    label: String,
    snapshot: &'a Snapshot,
    given_up: &'a mut Option<String>,
    finished: bool,
}

impl Rows<'_> {
    /// The next row, its newline included; `None` at the end, and only if what was read was the table that it should have been.
    ///
    /// # Errors
    /// If the server or the connection fails, or another table took the name.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let failed = |error| ReadError::copy(self.label.clone(), self.snapshot, error);
        if self.finished {
            return Ok(None);
        }
        match self.stream.next().await {
            Some(row) => row.map(Some).map_err(failed),
            None => {
                // Renaming a schema needs no lock on its tables: what was read is the table only if the name still stands for it.
                let found = self.on.end(self.table.as_deref()).await.map_err(failed)?;
                if found != self.table.as_ref().map(|table| table.oid) {
                    let database = self.snapshot.0.facts.database.clone();
                    return Err(ReadError::Replaced { source_label: self.label.clone(), database });
                }
                self.finished = true;
                Ok(None)
            }
        }
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        if !self.finished {
            *self.given_up = Some(self.label.clone());
            let cancelled = self.on.session().cancelled();
            let label = self.label.clone();
            // Outside a runtime the connection is gone anyway, and the query with it.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move {
                    if let Err(error) = cancelled.await {
                        tracing::debug!("the query that reads {label} was not cancelled: {error}");
                    }
                });
            }
        }
    }
}
