//! Whether a connection pooler is in between, and of what kind.
//!
//! A pool in transaction mode hands each transaction to whatever server session is free: advisory locks, exported snapshots and
//! session settings silently end up elsewhere. So it is looked for, and refused.

pub(super) mod process_id;

use std::time::Duration;

use tokio_postgres::SimpleQueryMessage;

use super::{
    connect_error::{ConnectCause, ConnectError, cause_of},
    session::Session,
};

/// How long a pooler may keep a statement waiting before that counts as an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// Nothing that changes sessions.
    Direct,
    /// A pooler that keeps one server session for each of ours: fine.
    Session,
    /// A pooler that does not.
    Transaction,
}

impl Session {
    /// Looks for a pooler. A direct connection costs one statement: the process that the server named when we logged in is the one
    /// that answers. Otherwise a second connection is made, and the two look whether they ever share a server session.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn pooling(&self) -> Result<Pooling, ConnectError> {
        let first = match self.backend().await {
            Ok(first) => first,
            Err(error) => return self.judge(error),
        };
        if process_id::at_login(&self.cancel_token()).await == Some(first) {
            return Ok(Pooling::Direct);
        }
        match self.backend().await {
            Ok(second) if second != first => return Ok(Pooling::Transaction),
            Ok(_) => {}
            Err(error) => return self.judge(error),
        }
        let other = self.target().connect(self.database(), "tenure").await?;
        // In a transaction, so that a pool in transaction mode must give it a server session to keep for a while.
        let theirs = tokio::time::timeout(PATIENCE, async {
            other.batch_execute("BEGIN").await?;
            other.backend().await
        });
        let theirs = match theirs.await {
            Ok(Ok(theirs)) => theirs,
            Ok(Err(error)) => return self.judge(error),
            // The only server session is kept for us, although we are idle.
            Err(_) => return Ok(Pooling::Session),
        };
        if theirs == first {
            return Ok(Pooling::Transaction);
        }
        match tokio::time::timeout(PATIENCE, self.backend()).await {
            Ok(Ok(third)) if third == first => Ok(Pooling::Session),
            Ok(Ok(_)) | Err(_) => Ok(Pooling::Transaction),
            Ok(Err(error)) => self.judge(error),
        }
    }

    /// Refuses a pooler in transaction or statement mode.
    ///
    /// # Errors
    /// [`ConnectCause::Pooler`] for one, or if the server does not answer.
    pub async fn refuse_pooler(&self) -> Result<(), ConnectError> {
        match self.pooling().await? {
            Pooling::Direct | Pooling::Session => Ok(()),
            Pooling::Transaction => Err(self.failure(ConnectCause::Pooler, None)),
        }
    }

    /// The server process that answers now. By the simple protocol: a pooler may lose prepared statements.
    async fn backend(&self) -> Result<i32, tokio_postgres::Error> {
        let messages = self.simple_query("SELECT pg_catalog.pg_backend_pid()").await?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        Ok(row.and_then(|text| text.parse().ok()).unwrap_or_default())
    }

    /// PgBouncer refuses transactions in statement mode; everything else is a failure.
    fn judge(&self, error: tokio_postgres::Error) -> Result<Pooling, ConnectError> {
        let cause = error.as_db_error().map_or(ConnectCause::BrokenOff, cause_of);
        match cause {
            ConnectCause::Pooler => Ok(Pooling::Transaction),
            cause => Err(self.failure(cause, Some(error.into()))),
        }
    }

    fn failure(&self, cause: ConnectCause, source: Option<Box<dyn std::error::Error + Send + Sync>>) -> ConnectError {
        ConnectError {
            endpoint: self.target().endpoint(),
            database: self.database().into(),
            user: self.target().user().into(),
            cause,
            others: Box::default(),
            source,
        }
    }
}
