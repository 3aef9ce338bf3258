//! Large objects: made empty, their bytes written through a temporary table, then given their owners, rights and comments. The schema
//! archive knows nothing of them.

use postgres_protocol::escape::{escape_identifier, escape_literal};
use tokio_postgres::Client;

use super::{
    large_objects::{self, PIECE_BYTES, READABLE},
    rights,
    statement::{Failed, StatementError},
};
use crate::format::description::LargeObjectBlock;

/// Objects whose properties are set by one round trip.
const BATCH: usize = 200;

/// Makes the large objects of a block, empty, owned by the administrator.
///
/// # Errors
/// What the server says.
pub async fn create(admin: &Client, block: &LargeObjectBlock) -> Result<(), StatementError> {
    let object = format!("large objects from OID {}", block.first_oid);
    for (first, last) in block.groups.iter().flat_map(|group| group.oids.iter().copied()) {
        admin
            .query(
                "SELECT pg_catalog.count(pg_catalog.lo_create(oids.oid::pg_catalog.oid)) FROM pg_catalog.generate_series($1::pg_catalog.int8, $2::pg_catalog.int8) AS oids(oid)",
                &[&i64::from(first), &i64::from(last)],
            )
            .await
            .failed("creating", &object)?;
    }
    Ok(())
}

/// Gives the large objects of a block their comments, owners and rights.
///
/// # Errors
/// What the server says.
pub async fn apply_properties(admin: &Client, block: &LargeObjectBlock) -> Result<(), StatementError> {
    let object = format!("large objects from OID {}", block.first_oid);
    for group in &block.groups {
        // What stands before and after the OID.
        let mut templates = Vec::new();
        if let Some(comment) = &group.comment {
            templates.push((String::from("COMMENT ON LARGE OBJECT "), format!(" IS {}", escape_literal(comment))));
        }
        // Owner first: what follows is then granted by the owner, as recorded.
        let owner = escape_identifier(&group.owner);
        templates.push((String::from("ALTER LARGE OBJECT "), format!(" OWNER TO {owner}")));
        if let Some(items) = &group.acl {
            templates.push((String::from("REVOKE ALL ON LARGE OBJECT "), format!(" FROM {owner}")));
            for grant in rights::explode(admin, items, &object).await? {
                let option = if grant.grantable { " WITH GRANT OPTION" } else { "" };
                let before = format!("GRANT {} ON LARGE OBJECT ", grant.privilege);
                let after = format!(" TO {}{option}", grant.to);
                // A right that was passed on is taken away with the right to do so: it must be known who did it. No code of the
                // tenant's runs in this: event triggers come later.
                templates.push(if grant.grantor == group.owner {
                    (before, after)
                } else {
                    (format!("SET ROLE {}; {before}", escape_identifier(&grant.grantor)), format!("{after}; RESET ROLE"))
                });
            }
        }
        let oids = group.oids.iter().flat_map(|(first, last)| *first..=*last).collect::<Vec<_>>();
        for batch in oids.chunks(BATCH) {
            let statements =
                batch.iter().flat_map(|oid| templates.iter().map(move |(before, after)| format!("{before}{oid}{after};")));
            admin.batch_execute(&statements.collect::<String>()).await.failed("setting owner, rights and comment of", &object)?;
        }
    }
    Ok(())
}

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
    large_objects::copy(first_oid, READABLE)
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
