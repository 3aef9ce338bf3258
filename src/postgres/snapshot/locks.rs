//! Locking every table, and looking whether what is locked is what the snapshot sees.

use std::collections::HashSet;

use tokio_postgres::{Client, Error, error::SqlState};

use super::Blocker;
use crate::postgres::quote::qualified;

/// Tables of one LOCK statement.
const BATCH: usize = 200;

/// What is locked: tables and partitioned tables that `pg_dump` carries. Other kinds cannot be locked by name.
const LOCKED: &str = "c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// A table by name, and the OID that it had under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub oid: u32,
    schema: String,
    name: String,
}

impl Named {
    pub fn qualified(&self) -> String {
        qualified(&self.schema, &self.name)
    }
}

/// Locks that could not be had.
pub struct LockFailure {
    /// The tables asked for in the statement that failed.
    pub tables: Vec<String>,
    pub oids: Vec<u32>,
    pub source: Error,
}

/// The tables now, in order of OID, so that two of us ask in the same order.
pub async fn list(client: &Client) -> Result<Vec<Named>, Error> {
    seen(client).await
}

/// The tables as the session's transaction sees them, in order of OID.
pub async fn seen(client: &Client) -> Result<Vec<Named>, Error> {
    let sql = format!(
        "SELECT c.oid, n.nspname::text, c.relname::text FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {LOCKED} ORDER BY c.oid"
    );
    let rows = client.query(&sql, &[]).await?;
    rows.iter().map(|row| Ok(Named { oid: row.try_get(0)?, schema: row.try_get(1)?, name: row.try_get(2)? })).collect()
}

/// Locks `tables` in ACCESS SHARE mode. One that is gone by now is passed over: the snapshot, taken later, does not see it, or the
/// comparison after it finds it missing.
///
/// LOCK takes no snapshot, nor does SAVEPOINT: the transaction's snapshot is taken by the first query after the locks.
pub async fn lock(client: &Client, tables: &[Named]) -> Result<(), LockFailure> {
    for batch in tables.chunks(BATCH) {
        match lock_together(client, batch).await {
            Ok(()) => {}
            Err(failure) if is_gone(&failure.source) || failure.source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                // One by one, to pass over what is gone and to name what is denied.
                for table in batch.chunks(1) {
                    match lock_together(client, table).await {
                        Err(failure) if !is_gone(&failure.source) => return Err(failure),
                        _ => {}
                    }
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

async fn lock_together(client: &Client, tables: &[Named]) -> Result<(), LockFailure> {
    let names = tables.iter().map(|table| format!("ONLY {}", table.qualified())).collect::<Vec<_>>().join(", ");
    let failed = |source| LockFailure {
        tables: tables.iter().map(Named::qualified).collect(),
        oids: tables.iter().map(|table| table.oid).collect(),
        source,
    };
    let sql = format!("SAVEPOINT locks; LOCK TABLE {names} IN ACCESS SHARE MODE; RELEASE SAVEPOINT locks");
    if let Err(error) = client.batch_execute(&sql).await {
        if error.code().is_some() {
            // Released too: a snapshot cannot be exported from inside a savepoint.
            client.batch_execute("ROLLBACK TO SAVEPOINT locks; RELEASE SAVEPOINT locks").await.map_err(&failed)?;
        }
        return Err(failed(error));
    }
    Ok(())
}

/// The name stands for nothing, or for something that cannot be locked as a table.
fn is_gone(error: &Error) -> bool {
    error.code().is_some_and(|code| {
        [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME, SqlState::UNDEFINED_OBJECT, SqlState::WRONG_OBJECT_TYPE]
            .contains(code)
    })
}

/// OIDs of the tables that this session has locked.
pub async fn held(client: &Client) -> Result<HashSet<u32>, Error> {
    let sql = "SELECT l.relation FROM pg_catalog.pg_locks l \
         JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database() \
         WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() AND l.mode = 'AccessShareLock' AND l.granted";
    let rows = client.query(sql, &[]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// A table whose file or kind, as it is now, is not what the snapshot sees. `pg_relation_filenode` and `pg_identify_object` look at the
/// present, the rows of `pg_class` are the snapshot's.
pub async fn rewritten(client: &Client) -> Result<Option<String>, Error> {
    let sql = format!(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE {LOCKED} AND (pg_catalog.pg_relation_filenode(c.oid) IS DISTINCT FROM NULLIF(c.relfilenode, 0::oid) \
            OR (pg_catalog.pg_identify_object('pg_catalog.pg_class'::regclass, c.oid, 0)).type IS DISTINCT FROM 'table') \
         ORDER BY c.oid LIMIT 1"
    );
    client.query_opt(&sql, &[]).await?.map(|row| row.try_get(0)).transpose()
}

/// Who holds, or waits for, a lock that conflicts with ours on one of `oids`.
pub async fn blockers(client: &Client, oids: &[u32]) -> Result<Vec<Blocker>, Error> {
    let sql = "SELECT DISTINCT COALESCE(l.pid, 0), a.usename::text, \
            CASE WHEN l.pid IS NULL THEN 'a prepared transaction, see pg_prepared_xacts' ELSE a.application_name END FROM pg_catalog.pg_locks l \
         JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database() \
         LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
         WHERE l.locktype = 'relation' AND l.relation = ANY ($1) AND l.mode = 'AccessExclusiveLock' ORDER BY 1";
    let rows = client.query(sql, &[&oids]).await?;
    rows.iter().map(|row| Ok(Blocker { pid: row.try_get(0)?, role: row.try_get(1)?, application: row.try_get(2)? })).collect()
}
