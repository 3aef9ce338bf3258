//! What can go wrong between asking for a snapshot and holding it.

use std::{fmt, time::Duration};

use tokio_postgres::error::SqlState;

use crate::{
    postgres::{ConnectError, spelling::Misspelt},
    printable::Printable,
};

/// A session in a queue for a lock with us: before us, or behind us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// Its process on the server.
    pub pid: i32,
    /// Its role, where we may see it.
    pub role: Option<String>,
    /// What it calls itself.
    pub application: Option<String>,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {}", self.pid)?;
        if let Some(role) = &self.role {
            write!(f, " of role {}", Printable(role))?;
        }
        match &self.application {
            Some(application) if !application.is_empty() => write!(f, " ({})", Printable(application)),
            _ => Ok(()),
        }
    }
}

/// A snapshot that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The server could not be reached, or it has no such database (any more).
    #[error("cannot open database {database:?}")]
    Connect {
        /// The database.
        database: String,
        /// Why, and where.
        #[source]
        source: Box<ConnectError>,
    },
    /// The name now stands for another database.
    #[error("database {database:?} is now another one: it has OID {found}, and OID {expected} was expected")]
    OtherDatabase {
        /// The name.
        database: String,
        /// OID when it was discovered.
        expected: u32,
        /// OID now.
        found: u32,
    },
    /// A standby.
    #[error("{endpoint} is a standby: an exported snapshot there can give wrong data and damage the standby")]
    Standby {
        /// The server.
        endpoint: String,
    },
    /// Older than PostgreSQL 14, which cannot read a table by pages.
    #[error("{endpoint} runs PostgreSQL {version}: 14 or newer is needed")]
    TooOld {
        /// The server.
        endpoint: String,
        /// Its `server_version`.
        version: String,
    },
    /// Somebody holds, or waits for, a conflicting lock.
    #[error("cannot lock {} of database {database:?} within {} ms{}", tables_of(.tables), .waited.as_millis(), held_by(.blockers))]
    LockTimeout {
        /// The database.
        database: String,
        /// The tables that were to be locked, qualified and quoted; the one that could not be when it is known.
        tables: Vec<String>,
        /// How long one lock was waited for.
        waited: Duration,
        /// Who has, or waits for, a conflicting lock.
        blockers: Vec<Blocker>,
    },
    /// The role may not lock a table, which it may not read either.
    #[error("role {role:?} may not read {table} of database {database:?}")]
    Denied {
        /// The database.
        database: String,
        /// The table, qualified and quoted.
        table: String,
        /// The connected role.
        role: String,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server's lock table is too small for this many tables.
    #[error("the lock table of {endpoint} is full: database {database:?} has {tables} tables to lock")]
    LockTableFull {
        /// The server.
        endpoint: String,
        /// The database.
        database: String,
        /// Tables to be locked.
        tables: usize,
        /// What the server said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// Tables kept being replaced.
    #[error("database {database:?} did not hold still in {attempts} attempts: {what}")]
    Unsettled {
        /// The database.
        database: String,
        /// How often it was tried.
        attempts: u32,
        /// What was found changed the last time.
        what: String,
    },
    /// Something that the schema or rows are written by was changed meanwhile.
    #[error("{} of database {database:?} was changed while it was being backed up", Printable(.what))]
    Changed {
        /// The database.
        database: String,
        /// What was changed, by the name that it has now.
        what: String,
    },
    /// Names that cannot be written down.
    #[error("database {database:?} has names that are not UTF-8: {}", some_of(.misspelt))]
    Misspelt {
        /// The database.
        database: String,
        /// What has them; not empty.
        misspelt: Vec<Misspelt>,
    },
    /// Anything else that the server or the connection said.
    #[error("cannot open a snapshot of database {database:?}: {step}")]
    Query {
        /// The database.
        database: String,
        /// What was being done.
        step: &'static str,
        /// What the server or the connection said.
        #[source]
        source: tokio_postgres::Error,
    },
}

fn tables_of(tables: &[String]) -> String {
    match tables {
        [] => "a table".to_owned(),
        [one] => Printable(one).to_string(),
        [first, rest @ ..] => format!("{} or one of {} more tables", Printable(first), rest.len()),
    }
}

fn some_of(misspelt: &[Misspelt]) -> String {
    let shown = misspelt.iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let more = misspelt.len().saturating_sub(3);
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

fn held_by(blockers: &[Blocker]) -> String {
    if blockers.is_empty() {
        return String::new();
    }
    let names = blockers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!(": {names}")
}

impl SnapshotError {
    /// What to do about it, in one line.
    #[must_use]
    pub fn hint(&self) -> String {
        let hint = match self {
            Self::Connect { source, .. } => return source.hint(),
            Self::OtherDatabase { .. } => "if this is meant, run `tenure admit --source` for the tenant",
            Self::Standby { .. } => "back up from the primary",
            Self::TooOld { .. } => "upgrade the server",
            Self::LockTimeout { .. } => "run the backup again when that session is done, or raise limits.lock_timeout",
            Self::Denied { role, .. } => {
                let role = Printable(&postgres_protocol::escape::escape_identifier(role)).to_string();
                return format!("GRANT pg_read_all_data TO {role}, and ALTER ROLE {role} BYPASSRLS");
            }
            Self::LockTableFull { .. } => "raise max_locks_per_transaction and restart the server",
            Self::Unsettled { .. } | Self::Changed { .. } => "run the backup when the schema is not being changed",
            Self::Misspelt { misspelt, .. } => {
                let rename = misspelt.first().map(|first| first.rename.clone()).unwrap_or_default();
                return format!("rename what has them, whatever the client's encoding by its OID: {rename}");
            }
            Self::Query { source, .. } if source.code() == Some(&SqlState::CHARACTER_NOT_IN_REPERTOIRE) => {
                "the database has names that are not UTF-8: rename what has them"
            }
            Self::Query { .. } => "see the server's log",
        };
        hint.to_owned()
    }
}
