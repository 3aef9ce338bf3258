//! Sequences' states, set and compared.

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::Client;

use super::statement::{Failed, StatementError};
use crate::format::description::Sequence;

/// Sequences of one statement.
const BATCH: usize = 200;

/// Sets every sequence to its recorded state. No code of a tenant's runs in this: the administrator may do it.
///
/// # Errors
/// What the server says.
pub async fn set(admin: &Client, sequences: &[Sequence]) -> Result<(), StatementError> {
    for batch in sequences.chunks(BATCH) {
        let schemas: Vec<&str> = batch.iter().map(|sequence| sequence.schema.as_str()).collect();
        let names: Vec<&str> = batch.iter().map(|sequence| sequence.name.as_str()).collect();
        let values: Vec<i64> = batch.iter().map(|sequence| sequence.last_value).collect();
        let called: Vec<bool> = batch.iter().map(|sequence| sequence.is_called).collect();
        admin
            .query(
                "SELECT pg_catalog.setval(pg_catalog.format('%I.%I', nsp, rel)::pg_catalog.regclass, value, called)
                   FROM unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[]) AS s(nsp, rel, value, called)",
                &[&schemas, &names, &values, &called],
            )
            .await
            .failed("setting sequences, first of them", names[0])?;
    }
    Ok(())
}

/// The sequences whose state is not the recorded one: name, and what it is now.
///
/// # Errors
/// What the server says.
pub async fn differing(admin: &Client, sequences: &[Sequence]) -> Result<Vec<String>, StatementError> {
    let what = "reading back sequences, first of them";
    let mut differing = Vec::new();
    for batch in sequences.chunks(BATCH) {
        let selects = batch.iter().enumerate().map(|(at, sequence)| {
            let name = format!("{}.{}", escape_identifier(&sequence.schema), escape_identifier(&sequence.name));
            format!("SELECT {at}::int AS at, last_value, is_called FROM {name}")
        });
        let statement = format!("{} ORDER BY at", selects.collect::<Vec<_>>().join(" UNION ALL "));
        let rows = admin.query(&statement, &[]).await.failed(what, &batch[0].name)?;
        for (sequence, row) in batch.iter().zip(rows) {
            let now: (i64, bool) = (row.try_get(1).failed(what, &sequence.name)?, row.try_get(2).failed(what, &sequence.name)?);
            if now != (sequence.last_value, sequence.is_called) {
                differing
                    .push(format!("{}.{} stands at {}, not at {}", sequence.schema, sequence.name, now.0, sequence.last_value));
            }
        }
    }
    Ok(differing)
}
