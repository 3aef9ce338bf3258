//! What goes wrong in a restore, in words that say what is safe and what to do.

use super::{content::ContentError, rows::RowsError, shown};
use crate::{
    operation::failure::{Failure, FailureClass},
    postgres::{
        ConnectError, discover::DiscoverError, loader::LoaderError, lock::LockError, restore_archive::RestoreArchiveError,
        statement::StatementError,
    },
    tenant::TenantName,
};

const AS_IT_WAS: &str = "The target is as it was.";

/// A statement that the server refused.
pub(super) fn statement(tenant: &TenantName, error: StatementError) -> Failure {
    // The server's own words first: they name the constraint, the type, the missing right.
    let (kind, message) = match error.source.as_db_error() {
        None => ("connection-lost", format!("restore of tenant {tenant}: {error}: the connection failed")),
        Some(_) => ("server-refused", format!("restore of tenant {tenant}: {error}: {}", error.source)),
    };
    let hint = match (error.function_without_path(), error.source.as_db_error().and_then(|said| said.hint())) {
        (Some(function), _) => format!(
            "Function {0} needs a search path that the database does not set for everybody. In the source: ALTER DATABASE … SET \
             search_path, or ALTER FUNCTION {0} SET search_path, to the schemas that it uses; then back up again. ",
            shown(&function)
        ),
        _ if error.is_row_security() => "ALTER ROLE … BYPASSRLS for the role that reads it (a superuser may). ".to_owned(),
        (None, Some(hint)) => format!("{} ", shown(hint)),
        (None, None) => String::new(),
    };
    Failure::new(FailureClass::Failed, kind, tenant, message).hint(format!("{hint}{AS_IT_WAS}"))
}

/// A server that lets nobody in.
pub(super) fn connect(tenant: &TenantName, error: ConnectError) -> Failure {
    let hint = error.hint();
    let message = format!("restore of tenant {tenant}: cannot connect");
    Failure::new(FailureClass::Failed, "cannot-connect", &error.endpoint, message).hint(hint).because(error)
}

/// A schema that does not come back.
pub(super) fn archive(tenant: &TenantName, error: RestoreArchiveError) -> Failure {
    let class = if matches!(error, RestoreArchiveError::Toc(_)) { FailureClass::Integrity } else { FailureClass::Failed };
    let message = format!("restore of tenant {tenant}: the schema cannot be restored");
    let hint = match &error {
        RestoreArchiveError::Failed { function: Some(function), .. } => format!(
            "Function {0} needs a search path, and PostgreSQL restores indexes, constraints and views without one. In the source: ALTER \
             FUNCTION {0} SET search_path = … with the schemas that it uses; then back up again. {AS_IT_WAS}",
            shown(function)
        ),
        _ => AS_IT_WAS.to_owned(),
    };
    Failure::new(class, "schema", tenant, message).hint(hint).because(error)
}

/// Rows that do not come back.
pub(super) fn rows(tenant: &TenantName, error: RowsError) -> Failure {
    match error {
        RowsError::Content { source, table, .. } => {
            let mut failure = content(tenant, source);
            // Of a damaged chunk all that it holds is named later.
            if failure.kind != "damaged-object" {
                failure.message = format!("{} (table {table})", failure.message);
            }
            failure
        }
        RowsError::Load { source, .. } => statement(tenant, source),
        RowsError::Differ { table, what } => {
            let message = format!("restore of tenant {tenant}: table {table}: {what}");
            Failure::new(FailureClass::Integrity, "not-proven", tenant, message).hint(AS_IT_WAS)
        }
    }
}

/// A backup that cannot be read.
pub(super) fn content(tenant: &TenantName, error: ContentError) -> Failure {
    match error {
        ContentError::Object(error) => Failure::from(error),
        ContentError::Description(error) => Failure::from(error),
        ContentError::Interrupted => {
            Failure::new(FailureClass::Interrupted, "interrupted", tenant, format!("the restore of tenant {tenant} was stopped"))
        }
        ContentError::Open { chunk, .. } => {
            let message = format!("restore of tenant {tenant}: chunk {chunk} does not open");
            Failure::new(FailureClass::Integrity, "damaged-object", chunk, message).because(error)
        }
        ContentError::Index(what) => {
            let message = format!("restore of tenant {tenant}: the index of the backup is wrong: {what}");
            Failure::new(FailureClass::Integrity, "bad-index", tenant, message).hint(AS_IT_WAS)
        }
    }
}

/// A loader that does not come in, as a finding: what, and what to do.
pub(super) fn loader(error: &LoaderError, version_num: u32) -> (&'static str, String, String) {
    let what = match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    let hint = match error {
        LoaderError::Refused { .. } => {
            // Names by pattern came with PostgreSQL 16.
            let who = if version_num >= 160_000 { "\"/^tenure_loader_\"" } else { "all" };
            format!(
                "add a line to pg_hba.conf before the one that refuses it: `host all {who} 127.0.0.1/32 scram-sha-256` \
                 (with this host's address, where it is another machine), or set `loader =` of the cluster to a login without superuser"
            )
        }
        LoaderError::Connect(error) => error.hint(),
        LoaderError::Powerful(_) => {
            "take that power from it, set `loader =` to a role without any, or leave it out for temporary ones".to_owned()
        }
        LoaderError::Statement(_) => {
            "grant the administrator CREATEROLE, or set `loader =` of the cluster to a login without superuser".to_owned()
        }
    };
    ("loader-refused", what, hint)
}

/// The tenant's lock.
pub(super) fn lock(error: LockError) -> Failure {
    let (class, kind, hint) = match &error {
        LockError::Busy { .. } => (FailureClass::Busy, "busy", "Wait for the other run to end, then run it again."),
        LockError::HeldByForeign { .. } => (
            FailureClass::Failed,
            "lock-held-by-foreign",
            "End that session, or name its role under `roles` of the cluster if it runs tenure.",
        ),
        _ => (FailureClass::Failed, "lock-lost", "The target is as it was; run it again."),
    };
    Failure { class, kind, object: "lock".to_owned(), ..Failure::from(error) }.hint(hint)
}

/// A rule that cannot be asked.
pub(super) fn discover(error: DiscoverError) -> Failure {
    Failure { kind: "cannot-discover", ..Failure::from(error) }.hint(AS_IT_WAS)
}
