//! Failures of PostgreSQL and its programs, in words that say what is safe and what to type.

use super::{Failure, FailureClass, SCHEMA_CHANGED, TABLE_LOCKED};
use crate::{
    operation::backup::sink::SinkError,
    postgres::{
        archive::ArchiveError,
        connect_error::ConnectError,
        describe::DescribeError,
        discover::DiscoverError,
        lock::LockError,
        snapshot::{ReadError, SnapshotError},
        statement::StatementError,
        tools::ToolError,
    },
    tenant::TenantName,
};

/// About a server that is connected and does not answer.
const SILENT: &str = "Look at the server, and at what is between; limits.silence says how long this is borne.";

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let hint = error.hint();
        let endpoint = error.endpoint.clone();
        wrap(FailureClass::Failed, "cannot-connect", endpoint, error, hint)
    }
}

impl From<DiscoverError> for Failure {
    fn from(error: DiscoverError) -> Self {
        let (DiscoverError::Connect { endpoint, .. }
        | DiscoverError::List { endpoint, .. }
        | DiscoverError::Silent { endpoint, .. }
        | DiscoverError::Query { endpoint, .. }
        | DiscoverError::Columns { endpoint, .. }
        | DiscoverError::Name { endpoint, .. }) = &error;
        let (kind, hint) = match &error {
            DiscoverError::Connect { source, .. } => ("cannot-connect", source.hint()),
            DiscoverError::Silent { .. } => ("server-silent", format!("{SILENT} Nothing was read; run it again.")),
            DiscoverError::List { .. } => {
                ("cannot-discover", "Run it again; `tenure check` says what is wrong with the server.".to_owned())
            }
            DiscoverError::Query { .. } | DiscoverError::Columns { .. } | DiscoverError::Name { .. } => (
                "bad-query",
                "The query runs in the maintenance database and returns two columns: database, tenant. Try it with psql."
                    .to_owned(),
            ),
        };
        let endpoint = endpoint.clone();
        wrap(FailureClass::Failed, kind, endpoint, error, hint)
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let (class, kind, hint) = match &error {
            LockError::Busy { .. } => {
                (FailureClass::Busy, "busy", "Wait for the other run to end, then run it again.".to_owned())
            }
            LockError::HeldByForeign { .. } => (
                FailureClass::Failed,
                "lock-held-by-foreign",
                "End that session, or name its role under `roles` of the cluster if it runs tenure. Nothing was read.".to_owned(),
            ),
            LockError::Connect { source, .. } => (FailureClass::Failed, "cannot-connect", source.hint()),
            LockError::Lost { .. } => (FailureClass::Failed, "lock-lost", "No backup was made; run it again.".to_owned()),
            LockError::Silent { .. } => {
                (FailureClass::Failed, "server-silent", format!("{SILENT} No backup was made; run it again."))
            }
            LockError::Query { .. } => (FailureClass::Failed, "lock-failed", "Nothing was read; run it again.".to_owned()),
        };
        let (LockError::Busy { tenant, .. }
        | LockError::HeldByForeign { tenant, .. }
        | LockError::Connect { tenant, .. }
        | LockError::Lost { tenant, .. }
        | LockError::Silent { tenant, .. }
        | LockError::Query { tenant, .. }) = &error;
        let object = tenant.to_string();
        wrap(class, kind, object, error, hint)
    }
}

impl From<StatementError> for Failure {
    fn from(error: StatementError) -> Self {
        let object = error.object.clone();
        wrap(FailureClass::Failed, "server-refused", object, error, String::new())
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        let hint = error.hint();
        let kind = match error {
            SnapshotError::LockTimeout { .. } => TABLE_LOCKED,
            SnapshotError::Changed { .. } => SCHEMA_CHANGED,
            _ => "no-snapshot",
        };
        wrap(FailureClass::Failed, kind, "snapshot", error, hint)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let hint = format!("{}. No backup was made.", error.hint());
        wrap(FailureClass::Failed, "cannot-read", "rows", error, hint)
    }
}

impl From<DescribeError> for Failure {
    fn from(error: DescribeError) -> Self {
        let kind = if error.is_lock_timeout() { TABLE_LOCKED } else { "cannot-describe" };
        wrap(FailureClass::Failed, kind, "database", error, "No backup was made; run it again.".to_owned())
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        let (kind, hint) = if error.is_lock_timeout() {
            let hint = "No backup was made. Another session truncates or alters that table, or waits to: run it again when that is done, \
                        or raise limits.lock_timeout.";
            (TABLE_LOCKED, hint)
        } else {
            ("pg-dump-failed", "No backup was made. `tenure check` looks at pg_dump and at the role's rights.")
        };
        wrap(FailureClass::Failed, kind, "pg_dump", error, hint.to_owned())
    }
}

impl From<ToolError> for Failure {
    fn from(error: ToolError) -> Self {
        let hint = error.hint();
        wrap(FailureClass::Failed, "no-tool", "pg_dump", error, hint)
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        match error {
            SinkError::Store(error) => error.into(),
            error => wrap(FailureClass::Failed, "cannot-seal", "chunk", error, "No backup was made; run it again.".to_owned()),
        }
    }
}

impl Failure {
    /// A task of a tenant's run that panicked: a bug, and this tenant's failure alone.
    #[must_use]
    pub fn panicked(tenant: &TenantName, error: tokio::task::JoinError) -> Self {
        Self::new(FailureClass::Failed, "panicked", tenant, format!("the run of tenant {tenant} ended unexpectedly"))
            .hint("Nothing half done is listed. Please report this with the log.")
            .because(error)
    }
}

/// The error's own words, its cause below, and a hint.
fn wrap(
    class: FailureClass,
    kind: &'static str,
    object: impl ToString,
    error: impl std::error::Error + Send + Sync + 'static,
    hint: String,
) -> Failure {
    let failure = Failure::new(class, kind, object, error.to_string()).hint(hint);
    match error.source() {
        Some(_) => failure.because(Below(Box::new(error))),
        None => failure,
    }
}

/// An error whose own words stand in the message already: shows those of its cause.
#[derive(Debug)]
struct Below(Box<dyn std::error::Error + Send + Sync>);

impl std::fmt::Display for Below {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.source() {
            Some(cause) => std::fmt::Display::fmt(cause, f),
            None => std::fmt::Display::fmt(&self.0, f),
        }
    }
}

impl std::error::Error for Below {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source().and_then(std::error::Error::source)
    }
}
