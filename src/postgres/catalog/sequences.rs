//! Sequences and their state.

use super::{Catalog, CatalogError, DUMPED_SCHEMA};
use crate::{format::description::Sequence, postgres::quote::qualified};

/// Sequences of one statement.
const BATCH: usize = 200;

impl Catalog<'_> {
    /// Every sequence that `pg_dump` carries, with its state, sorted by schema and name. `Err` inside names the first sequence that is not
    /// the one that the snapshot sees under its name.
    ///
    /// Sequences are outside transactions: the state read now is at or after the snapshot's, so no value of a row in it is handed out again.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn sequences(&self) -> Result<Result<Vec<Sequence>, String>, CatalogError> {
        let sql = format!(
            "SELECT c.oid, n.nspname::text, c.relname::text, pg_catalog.pg_get_userbyid(c.relowner)::text \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'S' AND {DUMPED_SCHEMA} \
               AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend m WHERE m.classid = 'pg_catalog.pg_class'::regclass AND m.objid = c.oid \
                      AND m.refclassid = 'pg_catalog.pg_extension'::regclass AND m.deptype = 'e') \
                    OR EXISTS (SELECT FROM pg_catalog.pg_extension e WHERE c.oid = ANY (e.extconfig))) \
             ORDER BY n.nspname COLLATE \"C\", c.relname COLLATE \"C\""
        );
        let found: Vec<(u32, Sequence)> = self
            .rows("sequences", &sql, &[], |row| {
                let sequence = Sequence {
                    schema: row.try_get(1)?,
                    name: row.try_get(2)?,
                    owner: row.try_get(3)?,
                    last_value: 0,
                    is_called: false,
                };
                Ok((row.try_get(0)?, sequence))
            })
            .await?;

        let mut sequences = Vec::with_capacity(found.len());
        for batch in found.chunks(BATCH) {
            let selects = batch.iter().enumerate().map(|(i, (_, sequence))| {
                format!("SELECT {i}, tableoid, last_value, is_called FROM {}", qualified(&sequence.schema, &sequence.name))
            });
            let sql = selects.collect::<Vec<_>>().join(" UNION ALL ");
            let mut states: Vec<(i32, u32, i64, bool)> = self
                .rows("states of sequences", &sql, &[], |row| {
                    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?))
                })
                .await?;
            states.sort_unstable_by_key(|state| state.0);
            for ((oid, sequence), (_, found_oid, last_value, is_called)) in batch.iter().zip(states) {
                if *oid != found_oid {
                    return Ok(Err(qualified(&sequence.schema, &sequence.name)));
                }
                sequences.push(Sequence { last_value, is_called, ..sequence.clone() });
            }
        }
        Ok(Ok(sequences))
    }
}
