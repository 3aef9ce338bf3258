//! Tables: their files, columns and sizes.

use super::{Catalog, CatalogError, DUMPED_SCHEMA};
use crate::postgres::{planned_code, source_tag::Column};

/// A table, foreign table or the like, as the snapshot sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// OID.
    pub oid: u32,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Owner.
    pub owner: String,
    /// Whether its rows live on another server.
    pub foreign: bool,
    /// `relfilenode`.
    pub relfilenode: u32,
    /// OID of its tablespace; the database's own is spelled out.
    pub tablespace_oid: u32,
    /// Name of its tablespace, when it is not the database's own.
    pub tablespace: Option<String>,
    /// Whether rows can be read by page.
    pub heap: bool,
    /// Whether reading it by page would run code of a role that is no superuser. See [`planned_code`].
    pub runs_code: bool,
    /// Pages of the heap now.
    pub pages: u32,
    /// Pages of its TOAST table now.
    pub toast_pages: u64,
    /// Bytes of one page.
    pub page_bytes: u64,
    /// Whether it belongs to an extension.
    pub extension_member: bool,
    /// Set for an extension's configuration table: the condition on its rows, possibly empty.
    pub extension_condition: Option<String>,
    /// Columns of its rows' text, in order.
    pub columns: Vec<Column>,
    /// `schema.name` of the partitioned tables above it, nearest first.
    pub ancestors: Vec<String>,
}

impl Catalog<'_> {
    /// Plain tables, leaf partitions and foreign tables that `pg_dump` carries, in order of OID.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn relations(&self) -> Result<Vec<Relation>, CatalogError> {
        let sql = format!(
            "SELECT c.oid, n.nspname::text, c.relname::text, pg_catalog.pg_get_userbyid(c.relowner)::text, c.relkind = 'f', c.relfilenode, \
                COALESCE(NULLIF(c.reltablespace, 0::oid), d.dattablespace), s.spcname::text, \
                COALESCE(am.amhandler = 'pg_catalog.heap_tableam_handler'::regproc, false), \
                COALESCE(pg_catalog.pg_relation_size(c.oid), 0), \
                CASE WHEN c.reltoastrelid = 0 THEN 0 ELSE COALESCE(pg_catalog.pg_relation_size(c.reltoastrelid), 0) END, \
                pg_catalog.current_setting('block_size')::int8, \
                m.objid IS NOT NULL, x.condition, \
                COALESCE(a.names, '{{}}'), COALESCE(a.types, '{{}}'), COALESCE(a.modifiers, '{{}}'), COALESCE(p.names, '{{}}'), {} \
             FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database() \
             LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace \
             LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam \
             LEFT JOIN pg_catalog.pg_depend m ON m.classid = 'pg_catalog.pg_class'::regclass AND m.objid = c.oid AND m.objsubid = 0 \
                AND m.refclassid = 'pg_catalog.pg_extension'::regclass AND m.deptype = 'e' \
             LEFT JOIN (SELECT u.relation, pg_catalog.min(u.condition) AS condition FROM pg_catalog.pg_extension e \
                CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(e.extconfig), pg_catalog.unnest(e.extcondition)) AS u(relation, condition) GROUP BY u.relation) x \
                ON x.relation = c.oid AND m.objid IS NOT NULL \
             LEFT JOIN LATERAL (SELECT pg_catalog.array_agg(t.attname::text ORDER BY t.attnum) AS names, \
                  pg_catalog.array_agg(t.atttypid ORDER BY t.attnum) AS types, pg_catalog.array_agg(t.atttypmod ORDER BY t.attnum) AS modifiers \
                FROM pg_catalog.pg_attribute t \
                WHERE t.attrelid = c.oid AND t.attnum > 0 AND NOT t.attisdropped AND t.attgenerated = '') a ON true \
             LEFT JOIN LATERAL (SELECT pg_catalog.array_agg(pn.nspname || '.' || pc.relname) AS names \
                FROM pg_catalog.pg_partition_ancestors(c.oid) g(relid) \
                JOIN pg_catalog.pg_class pc ON pc.oid = g.relid AND pc.oid <> c.oid \
                JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace) p ON c.relispartition \
             WHERE c.relkind IN ('r', 'f') AND {DUMPED_SCHEMA} \
             ORDER BY c.oid",
            planned_code::may_run("c.oid")
        );
        self.rows("tables", &sql, &[], |row| {
            let page_bytes = u64::try_from(row.try_get::<_, i64>(11)?).unwrap_or(8192).max(1);
            let pages = |bytes: i64| u64::try_from(bytes).unwrap_or(0) / page_bytes;
            let names: Vec<String> = row.try_get(14)?;
            let types: Vec<u32> = row.try_get(15)?;
            let modifiers: Vec<i32> = row.try_get(16)?;
            Ok(Relation {
                oid: row.try_get(0)?,
                schema: row.try_get(1)?,
                name: row.try_get(2)?,
                owner: row.try_get(3)?,
                foreign: row.try_get(4)?,
                relfilenode: row.try_get(5)?,
                tablespace_oid: row.try_get(6)?,
                tablespace: row.try_get(7)?,
                heap: row.try_get(8)?,
                pages: u32::try_from(pages(row.try_get(9)?)).unwrap_or(u32::MAX),
                toast_pages: pages(row.try_get(10)?),
                page_bytes,
                extension_member: row.try_get(12)?,
                extension_condition: row.try_get(13)?,
                columns: names
                    .into_iter()
                    .zip(types)
                    .zip(modifiers)
                    .map(|((name, type_oid), type_modifier)| Column { name, type_oid, type_modifier })
                    .collect(),
                ancestors: row.try_get(17)?,
                runs_code: row.try_get(18)?,
            })
        })
        .await
    }
}
