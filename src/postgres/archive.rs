//! The schema archive: what `pg_dump` says about everything but rows.
//!
//! `--section=pre-data --section=post-data` and not `--schema-only`, which leaves out that materialized views are to be refreshed.

mod header;

use std::{ffi::OsString, process::Stdio};

use bytes::{Bytes, BytesMut};
use tokio::{io::AsyncReadExt as _, process::ChildStdout};

pub use header::HeaderError;

use super::{
    ChildEnvironment,
    archive_toc::{Counter, TocError},
    snapshot::Snapshot,
    tools::{Tool, ToolError, ToolRun},
};

/// Bytes asked for at a time.
const BLOCK: usize = 256 * 1024;

/// An archive that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// `pg_dump` did not start, or said no.
    #[error("cannot dump the schema of database {database:?}")]
    Tool {
        /// The database.
        database: String,
        /// Why.
        #[source]
        source: ToolError,
    },
    /// Its output broke off.
    #[error("cannot read what pg_dump writes about database {database:?}")]
    Read {
        /// The database.
        database: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It wrote something that is not known.
    #[error("cannot use what pg_dump wrote about database {database:?}")]
    Header {
        /// The database.
        database: String,
        /// Why not.
        #[source]
        source: HeaderError,
    },
    /// It wrote something that a restore would not know.
    #[error("cannot use what pg_dump wrote about database {database:?}")]
    Toc {
        /// The database.
        database: String,
        /// Why not.
        #[source]
        source: TocError,
    },
    /// It said that all went well, and did not write all of it.
    #[error("what pg_dump wrote about database {database:?} is cut off{}, though it reports success", Missing(*.missing))]
    Cut {
        /// The database.
        database: String,
        /// How many entries of its table of contents are missing; `None` when it did not get so far.
        missing: Option<i64>,
    },
    /// It is there and nothing comes of it.
    #[error("pg_dump of database {database:?} is given up: {why}")]
    Stalled {
        /// The database.
        database: String,
        /// What the server says of it.
        why: String,
    },
}

struct Missing(Option<i64>);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |entries| write!(f, ": {entries} entries of its table of contents are missing"))
    }
}

impl ArchiveError {
    /// Whether `pg_dump` gave up waiting for a lock: somebody waits for the leader, and `pg_dump` behind them.
    #[must_use]
    pub fn is_lock_timeout(&self) -> bool {
        // `--lock-wait-timeout` is a time limit of the statement that locks. The server's words: on one that speaks another language
        // this is a failure like others, and not tried again.
        matches!(self, Self::Tool { source: ToolError::Failed { stderr, .. }, .. } if stderr.contains("statement timeout") && stderr.contains("LOCK TABLE"))
    }
}

/// A running `pg_dump`. Dropped before the end, it is killed.
pub struct Archive {
    run: ToolRun,
    stdout: Option<ChildStdout>,
    database: String,
    environment: ChildEnvironment,
    begun: bool,
    toc: Counter,
}

/// The options, besides the connection, which is in the environment: names of databases never stand on a command line.
fn arguments(snapshot: &Snapshot, major: u32) -> Vec<OsString> {
    let facts = snapshot.facts();
    let mut arguments = vec![
        "--format=custom".to_owned(),
        // Chunks are compressed, by one algorithm, after they are named.
        "--compress=0".to_owned(),
        "--section=pre-data".to_owned(),
        "--section=post-data".to_owned(),
        // Up to version 16 they would be in it, from 17 on not: the description holds them. (The long option changed its name.)
        "-B".to_owned(),
        "--no-password".to_owned(),
        format!("--snapshot={}", facts.snapshot),
        format!("--lock-wait-timeout={}", snapshot.lock_timeout().as_millis().max(1)),
        // A database may have a role of its own for every session.
        format!("--role={}", facts.role),
        // A role may have a client_encoding of its own.
        format!("--encoding={}", facts.encoding),
    ];
    if major >= 18 {
        // They change every night, and a restore makes its own.
        arguments.push("--no-statistics".to_owned());
    }
    arguments.into_iter().map(OsString::from).collect()
}

impl Archive {
    /// Starts `tool`, a `pg_dump`, on the snapshot's database; `environment` says how to reach it.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(tool: &Tool, environment: &ChildEnvironment, snapshot: &Snapshot) -> Result<Self, ArchiveError> {
        let database = snapshot.facts().database.clone();
        let mut run = tool
            .start(&arguments(snapshot, tool.version.major), environment, Stdio::null())
            .map_err(|source| ArchiveError::Tool { database: database.clone(), source })?;
        let stdout = run.stdout.take();
        Ok(Self { run, stdout, database, environment: environment.clone(), begun: false, toc: Counter::default() })
    }

    /// The next bytes, with the creation time in the header overwritten; `None` at the end, which is not success: ask [`Archive::finish`].
    ///
    /// # Errors
    /// If the output cannot be read, does not begin as a known archive does, or does not come while the server sees nobody at work.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ArchiveError> {
        let Some(stdout) = &mut self.stdout else { return Ok(None) };
        let mut block = BytesMut::with_capacity(BLOCK);
        // The header is never cut, and a pipe gives little at a time.
        let at_least = if self.begun { BLOCK / 4 } else { header::HEADER_BYTES };
        let mut stalled = std::pin::pin!(self.environment.stalled());
        while block.len() < at_least {
            let read = tokio::select! {
                read = stdout.read_buf(&mut block) => read,
                why = &mut stalled => return Err(ArchiveError::Stalled { database: self.database.clone(), why }),
            };
            if read.map_err(|source| ArchiveError::Read { database: self.database.clone(), source })? == 0 {
                self.stdout = None;
                break;
            }
        }
        if block.is_empty() {
            return Ok(None);
        }
        if !self.begun {
            header::normalise(&mut block).map_err(|source| ArchiveError::Header { database: self.database.clone(), source })?;
            self.begun = true;
        }
        self.toc.push(&block).map_err(|source| ArchiveError::Toc { database: self.database.clone(), source })?;
        Ok(Some(block.freeze()))
    }

    /// Waits for the end and gives the lines that `pg_dump` wrote to standard error: warnings, because it succeeded.
    ///
    /// # Errors
    /// If it did not succeed, or did not write all that it says it has.
    pub async fn finish(self) -> Result<Vec<String>, ArchiveError> {
        let Self { run, database, environment, begun, toc, .. } = self;
        let finished = tokio::select! {
            finished = run.finish() => finished,
            why = environment.stalled() => return Err(ArchiveError::Stalled { database, why }),
        };
        let warnings = finished.map_err(|source| ArchiveError::Tool { database: database.clone(), source })?;
        if !begun {
            return Err(ArchiveError::Header { database, source: HeaderError::NotCustom });
        }
        match toc.missing() {
            Some(0) => Ok(warnings),
            missing => Err(ArchiveError::Cut { database, missing }),
        }
    }
}
