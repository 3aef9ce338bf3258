//! Large objects' bytes, written through a temporary table. Their owners, comments and rights come with the schema archive.

use tokio_postgres::Client;

use super::{
    large_objects::{LargeObjectRead, PIECE_BYTES},
    statement::{Failed, StatementError},
};

/// Makes the table that pieces are copied into. It ends with the session.
///
/// # Errors
/// What the server says.
pub async fn prepare(admin: &Client) -> Result<(), StatementError> {
    admin
        .batch_execute(
            "CREATE TEMPORARY TABLE IF NOT EXISTS tenure_pieces (object pg_catalog.oid, piece pg_catalog.int8, data pg_catalog.bytea)",
        )
        .await
        .failed("CREATE TEMPORARY TABLE", "tenure_pieces")
}

/// Copies pieces in.
pub const COPY: &str = "COPY pg_temp.tenure_pieces FROM STDIN WITH (FORMAT text)";

/// The statement that reads a block back as it was captured.
#[must_use]
pub fn read_statement(first_oid: u32) -> String {
    LargeObjectRead { first_oid }.copy()
}

/// Writes the pieces that were copied in where they belong, and empties the table. No code of a tenant's runs in this.
///
/// # Errors
/// What the server says.
pub async fn write(admin: &Client) -> Result<(), StatementError> {
    admin
        .batch_execute(&format!(
            "SELECT pg_catalog.count(*) FROM (
               SELECT pg_catalog.lo_put(object, piece OPERATOR(pg_catalog.*) {PIECE_BYTES}, data) FROM pg_temp.tenure_pieces OFFSET 0) AS written;
             TRUNCATE pg_temp.tenure_pieces"
        ))
        .await
        .failed("writing", "large objects")
}

/// How many large objects there are in a block of 1,024 OIDs.
///
/// # Errors
/// What the server says.
pub async fn count(admin: &Client, first_oid: u32) -> Result<i64, StatementError> {
    let what = "counting";
    let row = admin
        .query_one(
            "SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata WHERE oid::bigint BETWEEN $1 AND $1 + 1023",
            &[&i64::from(first_oid)],
        )
        .await
        .failed(what, "large objects")?;
    row.try_get(0).failed(what, "large objects")
}
