//! Row security that binds a table's owner, out of the way of an administrator who reads as one of the owners.

use tokio_postgres::Client;

use super::statement::{Failed, StatementError};

/// Takes FORCE ROW LEVEL SECURITY off every table of the database. Returns the statements that put it back.
///
/// # Errors
/// What the server says.
pub async fn lift_force(database: &Client) -> Result<Vec<String>, StatementError> {
    let (what, whom) = ("listing the tables with forced row security of", "the database");
    let rows = database
        .query(
            "SELECT pg_catalog.format('ALTER TABLE ONLY %I.%I NO FORCE ROW LEVEL SECURITY', n.nspname, c.relname),
                    pg_catalog.format('ALTER TABLE ONLY %I.%I FORCE ROW LEVEL SECURITY', n.nspname, c.relname)
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relforcerowsecurity AND c.relpersistence <> 't' ORDER BY c.oid",
            &[],
        )
        .await
        .failed(what, whom)?;
    let mut back = Vec::new();
    for row in rows {
        let statement: String = row.try_get(0).failed(what, whom)?;
        database.batch_execute(&statement).await.failed("ALTER TABLE … NO FORCE ROW LEVEL SECURITY in", whom)?;
        back.push(row.try_get(1).failed(what, whom)?);
    }
    Ok(back)
}

/// Puts it back.
///
/// # Errors
/// What the server says.
pub async fn force_again(database: &Client, back: &[String]) -> Result<(), StatementError> {
    for statement in back {
        database.batch_execute(statement).await.failed("ALTER TABLE … FORCE ROW LEVEL SECURITY in", "the database")?;
    }
    Ok(())
}
