//! Partitions whose rows another server would put elsewhere.
//!
//! The hash of an enum's value is that of the OID of its label, which is another one wherever the type is made again. So are the hashes of
//! arrays, composites and ranges, as far as they may hold an enum. The rows of tables that are partitioned by such a hash, directly or
//! further up, have to go through the partitioned table at the top, as `pg_dump` has them go.

use tokio_postgres::Client;

use super::statement::{Failed, StatementError};
use crate::format::description::Table;

/// A partitioned table at the top.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Root {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Owner.
    pub owner: String,
}

/// For each table, in the order given, the root that its rows have to go through; `None` where they go where they were. `admin` is
/// connected to the database, in which the tables are.
///
/// # Errors
/// What the server says.
pub async fn read(admin: &Client, tables: &[Table]) -> Result<Vec<Option<Root>>, StatementError> {
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let (what, whom) = ("looking for the partition keys of", "the tables");
    let rows = admin
        .query(
            "SELECT t.at, rn.nspname::text, r.relname::text, pg_catalog.pg_get_userbyid(r.relowner)::text
               FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t(nsp, rel, at)
               JOIN pg_catalog.pg_namespace AS n ON n.nspname = t.nsp
               JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = t.rel AND c.relispartition
               JOIN pg_catalog.pg_class AS r ON r.oid = pg_catalog.pg_partition_root(c.oid)
               JOIN pg_catalog.pg_namespace AS rn ON rn.oid = r.relnamespace
              WHERE EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) AS a(relid)
                              JOIN pg_catalog.pg_partitioned_table AS p ON p.partrelid = a.relid AND p.partstrat = 'h'
                             CROSS JOIN LATERAL unnest(p.partclass::pg_catalog.oid[]) AS k(opclass)
                              JOIN pg_catalog.pg_opclass AS o ON o.oid = k.opclass
                              JOIN pg_catalog.pg_type AS y ON y.oid = o.opcintype
                             WHERE y.typtype IN ('e', 'c', 'r', 'm', 'p') OR y.typcategory = 'A')",
            &[&schemas, &names],
        )
        .await
        .failed(what, whom)?;
    let mut roots = vec![None; tables.len()];
    for row in rows {
        let at: i64 = row.try_get(0).failed(what, whom)?;
        let root = Root {
            schema: row.try_get(1).failed(what, whom)?,
            name: row.try_get(2).failed(what, whom)?,
            owner: row.try_get(3).failed(what, whom)?,
        };
        if let Some(found) = usize::try_from(at - 1).ok().and_then(|at| roots.get_mut(at)) {
            *found = Some(root);
        }
    }
    Ok(roots)
}
