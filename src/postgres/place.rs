//! A finished database into its place: renamed, or swapped with the live one. Nothing with a tenant's data is dropped here, except a
//! database that this restore made itself.

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::Client;

use super::statement::{Failed, StatementError};

/// Renames a database. Sessions in it are ended.
///
/// # Errors
/// What the server says; the name may have been taken meanwhile.
pub async fn rename(admin: &Client, from: &str, to: &str) -> Result<(), StatementError> {
    end_sessions(admin, from).await?;
    let statement = format!("ALTER DATABASE {} RENAME TO {}", escape_identifier(from), escape_identifier(to));
    admin.batch_execute(&statement).await.failed("ALTER DATABASE … RENAME", to)
}

/// Renames the live database aside and the new one into its place, in one transaction. The live one is closed and its sessions ended
/// first; when the swap fails it is opened again. Afterwards the old one is open again, under its new name.
///
/// # Errors
/// What the server says; then the live database is as it was, but for its sessions.
pub async fn swap(admin: &Client, new: &str, live: &str, aside: &str) -> Result<(), StatementError> {
    let (new_name, live_name, aside_name) = (escape_identifier(new), escape_identifier(live), escape_identifier(aside));
    let what = "ALTER DATABASE … ALLOW_CONNECTIONS";
    admin.batch_execute(&format!("ALTER DATABASE {live_name} ALLOW_CONNECTIONS false")).await.failed(what, live)?;
    let swapped = async {
        end_sessions(admin, live).await?;
        end_sessions(admin, new).await?;
        let renames = format!(
            "BEGIN; ALTER DATABASE {live_name} RENAME TO {aside_name}; ALTER DATABASE {new_name} RENAME TO {live_name}; COMMIT"
        );
        let done = admin.batch_execute(&renames).await.failed("swapping the databases called", live);
        if done.is_err() {
            admin.batch_execute("ROLLBACK").await.failed("ROLLBACK", live)?;
        }
        done
    }
    .await;
    let old = if swapped.is_ok() { &aside_name } else { &live_name };
    let reopened = admin.batch_execute(&format!("ALTER DATABASE {old} ALLOW_CONNECTIONS true")).await.failed(what, live);
    swapped.and(reopened)
}

/// Opens a database to connections. Gives whether it is there.
///
/// # Errors
/// What the server says.
pub async fn open(admin: &Client, name: &str) -> Result<bool, StatementError> {
    if super::server_facts::database_oid(admin, name).await?.is_none() {
        return Ok(false);
    }
    let statement = format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", escape_identifier(name));
    admin.batch_execute(&statement).await.failed("ALTER DATABASE … ALLOW_CONNECTIONS", name)?;
    Ok(true)
}

/// Drops a database that this restore made.
///
/// # Errors
/// What the server says.
pub async fn drop_own(admin: &Client, name: &str) -> Result<(), StatementError> {
    // Marked as a template already, when it fails late.
    if super::server_facts::database_oid(admin, name).await?.is_none() {
        return Ok(());
    }
    let name_quoted = escape_identifier(name);
    admin.batch_execute(&format!("ALTER DATABASE {name_quoted} IS_TEMPLATE false")).await.failed("ALTER DATABASE", name)?;
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name_quoted} WITH (FORCE)")).await.failed("DROP DATABASE", name)
}

/// Ends one session and waits until it is gone.
///
/// # Errors
/// What the server says.
pub async fn end_session(admin: &Client, backend: i32) -> Result<(), StatementError> {
    admin
        .execute(
            "SELECT pg_catalog.pg_terminate_backend(pid, 10000) FROM pg_catalog.pg_stat_activity WHERE pid = $1",
            &[&backend],
        )
        .await
        .failed("ending a session", &backend.to_string())?;
    Ok(())
}

async fn end_sessions(admin: &Client, database: &str) -> Result<(), StatementError> {
    // Five seconds each to go; a rename waits another five by itself.
    admin
        .execute(
            "SELECT pg_catalog.pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity
              WHERE datname = $1 AND pid <> pg_catalog.pg_backend_pid() AND backend_type <> 'autovacuum worker'",
            &[&database],
        )
        .await
        .failed("ending the sessions of", database)?;
    Ok(())
}

/// A name for the live database when it is put aside: `tenure_replaced_<UTC time>_<name>`, cut to PostgreSQL's 63 bytes. It begins with
/// `tenure_` so that no discovery takes it for a tenant.
#[must_use]
pub fn name_aside(live: &str, now: chrono::DateTime<chrono::Utc>) -> String {
    let mut name = format!("tenure_replaced_{}_{live}", now.format("%Y%m%dT%H%M%S%3fZ"));
    let end = (0..=63.min(name.len())).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    name.truncate(end);
    name
}

#[cfg(test)]
mod tests {
    #[test]
    fn aside_names_fit() {
        let now = "2026-11-21T03:00:00Z".parse().unwrap();
        assert_eq!(super::name_aside("tenant_acme", now), "tenure_replaced_20261121T030000000Z_tenant_acme");
        let long = super::name_aside(&"ü".repeat(31), now);
        assert!(long.len() <= 63 && long.starts_with("tenure_replaced_20261121T030000000Z_ü"), "{long}");
    }
}
