//! The proof: what stands in a table now, counted and digested as it was when it was captured.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use postgres_protocol::escape::{escape_identifier, escape_literal};
use tokio_postgres::Client;

use super::{
    planned_code,
    statement::{Failed, StatementError},
};
use crate::{
    chunk::{
        RowHasher,
        sums::{RowSums, RowTotals},
    },
    format::description::Table,
};

/// Which part of a table is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// All of it, in one scan.
    All,
    /// From the first page up to, and without, the second; `None` is the open end.
    Range(u32, Option<u32>),
}

/// The statement that reads a table's stored columns, in the order given.
#[must_use]
pub fn statement(table: &Table, columns: &[String], encoding: &str, pages: Pages) -> String {
    let name = format!("{}.{}", escape_identifier(&table.schema), escape_identifier(&table.name));
    let columns = columns.iter().map(|column| escape_identifier(column)).collect::<Vec<_>>().join(", ");
    let options = format!("TO STDOUT WITH (FORMAT text, ENCODING {})", escape_literal(encoding));
    if let Some(filter) = &table.filter {
        return format!("COPY (SELECT {columns} FROM ONLY {name} {}\n) {options}", where_clause(filter));
    }
    match pages {
        // By name: the server refuses whatever is not a plain table.
        Pages::All if columns.is_empty() => format!("COPY {name} {options}"),
        Pages::All => format!("COPY {name} ({columns}) {options}"),
        Pages::Range(from, None) => format!("COPY (SELECT {columns} FROM ONLY {name} WHERE ctid >= '({from},0)'::tid) {options}"),
        Pages::Range(from, Some(to)) => {
            format!(
                "COPY (SELECT {columns} FROM ONLY {name} WHERE ctid >= '({from},0)'::tid AND ctid < '({to},0)'::tid) {options}"
            )
        }
    }
}

/// An extension's condition begins with `WHERE`, as its author wrote it, or is taken to be bare.
fn where_clause(filter: &str) -> String {
    let filter = filter.trim_start();
    let begins = filter.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("where"));
    if begins || filter.is_empty() { filter.to_owned() } else { format!("WHERE {filter}") }
}

/// Reads rows by a COPY statement and sums them.
///
/// # Errors
/// What the server says, with the table named.
pub async fn sums(session: &Client, statement: &str, name: &str, hasher: RowHasher) -> Result<RowTotals, StatementError> {
    let rows = session.copy_out(statement).await.failed("reading back", name)?;
    let mut rows = pin!(rows);
    let mut sums = RowSums::new(hasher);
    while let Some(piece) = rows.try_next().await.failed("reading back", name)? {
        sums.push(&piece);
    }
    Ok(sums.take())
}

/// Heap pages of each table, in the order given; 0 for one that is not there. Only plain heaps count, and not those on which planning a
/// query would run the tenant's code: others are not read by page.
///
/// # Errors
/// What the server says.
pub async fn heap_pages(session: &Client, tables: &[&Table]) -> Result<Vec<u32>, StatementError> {
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let what = "measuring";
    let rows = session
        .query(
            &format!("SELECT COALESCE(pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint, 0)::bigint
               FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t(nsp, rel, at)
               LEFT JOIN (pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
                          JOIN pg_catalog.pg_am AS m ON m.oid = c.relam AND m.amname = 'heap')
                 ON n.nspname = t.nsp AND c.relname = t.rel AND NOT {}
              ORDER BY t.at", planned_code::may_run("c.oid")),
            &[&schemas, &names],
        )
        .await
        .failed(what, "the tables")?;
    rows.iter()
        .map(|row| row.try_get::<_, i64>(0).map(|pages| u32::try_from(pages).unwrap_or(u32::MAX)).failed(what, "the tables"))
        .collect()
}

/// Tables and materialized views to be analysed, the largest first: quoted name and owner. A partitioned table stands for its partitions.
/// One above a foreign table is left out, and its partitions stand for themselves: ANALYZE would ask the server that the foreign table
/// names.
///
/// # Errors
/// What the server says.
pub async fn to_analyze(admin: &Client) -> Result<Vec<(String, String)>, StatementError> {
    let (what, whom) = ("listing the tables of", "the database");
    let rows = admin
        .query(
            "WITH RECURSIVE far(oid) AS (
               SELECT oid FROM pg_catalog.pg_class WHERE relkind = 'f'
               UNION SELECT i.inhparent FROM pg_catalog.pg_inherits i JOIN far ON far.oid = i.inhrelid)
             SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), pg_catalog.pg_get_userbyid(c.relowner)::text
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND c.oid NOT IN (SELECT oid FROM far)
                AND NOT (c.relispartition AND EXISTS (
                      SELECT FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND i.inhparent NOT IN (SELECT oid FROM far)))
                AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
              ORDER BY pg_catalog.pg_table_size(c.oid) DESC, c.oid",
            &[],
        )
        .await
        .failed(what, whom)?;
    rows.iter().map(|row| Ok((row.try_get(0).failed(what, whom)?, row.try_get(1).failed(what, whom)?))).collect()
}

/// Gathers statistics of a table given as its quoted name.
///
/// # Errors
/// What the server says.
pub async fn analyze(session: &Client, table: &str) -> Result<(), StatementError> {
    session.batch_execute(&format!("ANALYZE {table}")).await.failed("ANALYZE", table)
}
