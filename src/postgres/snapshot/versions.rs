//! What the server looks up in the present, whatever the snapshot sees.
//!
//! A table's lock keeps the table as it is, and nothing else. `pg_dump` reads the snapshot, and the server's functions that spell out
//! views, defaults, arguments and rights for it look names up in the catalogs as they are now. So do the text of enums and composite
//! values, and that of `regclass` and its like. No lock can be taken on those, so the versions of the rows in the catalogs that the
//! snapshot sees are compared with what there is when they have been used. What came later harms nobody: nothing that the snapshot sees
//! refers to it.

use std::collections::HashMap;

use tokio_postgres::{Client, Error};

/// What something was written by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// What `pg_dump` writes the schema by, and we the description.
    Schema,
    /// What rows are written by.
    Rows,
}

/// Versions of what the snapshot sees.
#[derive(Debug)]
pub struct Versions {
    /// By catalog and object.
    seen: HashMap<(u32, u32), Version>,
    /// Whether rows hold names of anything: `regclass`, `regrole`, `aclitem` and the like.
    rows_hold_names: bool,
}

#[derive(Debug)]
struct Version {
    /// A changed row is a new row with another `xmin`, even when it was changed back.
    text: String,
    /// Whether rows are written by it.
    in_rows: bool,
}

/// The types that are written as the name of something, by OID: `aclitem`, `regproc`, `regprocedure`, `regoper`, `regoperator`,
/// `regclass`, `regtype`, `regconfig`, `regdictionary`, `regnamespace`, `regrole`, `regcollation`.
const NAMING_TYPES: &str = "{1033,24,2202,2203,2204,2205,2206,3734,3769,4089,4096,4191}";

impl Versions {
    /// As the transaction's snapshot sees them.
    pub async fn seen(client: &Client) -> Result<Self, Error> {
        // Arrays, domains, ranges of them; composite types have columns too.
        let sql = format!(
            "WITH RECURSIVE made(oid, of) AS ( \
               SELECT t.oid, t.typelem FROM pg_catalog.pg_type t WHERE t.typelem <> 0 \
               UNION ALL SELECT t.oid, t.typbasetype FROM pg_catalog.pg_type t WHERE t.typbasetype <> 0 \
               UNION ALL SELECT r.rngtypid, r.rngsubtype FROM pg_catalog.pg_range r \
               UNION ALL SELECT r.rngmultitypid, r.rngtypid FROM pg_catalog.pg_range r), \
             naming(oid) AS (SELECT pg_catalog.unnest('{NAMING_TYPES}'::oid[]) UNION SELECT m.oid FROM made m JOIN naming n ON n.oid = m.of) \
             SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
               JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace AND s.nspname !~ '^pg_(temp|toast)' \
               WHERE a.atttypid IN (SELECT n.oid FROM naming n) AND a.attnum > 0 AND NOT a.attisdropped \
                 AND c.relkind IN ('r', 'c') AND c.oid >= 16384)"
        );
        let rows_hold_names = client.query_one(&sql, &[]).await?.try_get(0)?;
        Ok(Self { seen: read(client, rows_hold_names).await?, rows_hold_names })
    }

    /// Something of `scope` that is not the same to a session outside the snapshot's transaction, in words.
    pub async fn first_changed(&self, client: &Client, scope: Scope) -> Result<Option<String>, Error> {
        let counts = |version: &Version| scope == Scope::Schema || self.rows_hold_names || version.in_rows;
        if !self.seen.values().any(counts) {
            return Ok(None);
        }
        let now = read(client, self.rows_hold_names).await?;
        let mut changed = self
            .seen
            .iter()
            .filter(|(object, version)| counts(version) && now.get(object).is_none_or(|found| found.text != version.text));
        let Some(((catalog, oid), _)) = changed.next() else { return Ok(None) };
        let sql = "SELECT CASE $1::oid WHEN 'pg_catalog.pg_enum'::regclass::oid \
               THEN (SELECT 'type ' || pg_catalog.format_type(e.enumtypid, NULL) FROM pg_catalog.pg_enum e WHERE e.oid = $2) \
               WHEN 'pg_catalog.pg_attribute'::regclass::oid THEN pg_catalog.pg_describe_object('pg_catalog.pg_class'::regclass, $2, 0) \
               WHEN 'pg_catalog.pg_sequence'::regclass::oid THEN pg_catalog.pg_describe_object('pg_catalog.pg_class'::regclass, $2, 0) \
               ELSE pg_catalog.pg_describe_object($1, $2, 0) END";
        // It may be gone, or have a name that is not UTF-8.
        let name = client.query_one(sql, &[catalog, oid]).await.and_then(|row| row.try_get::<_, Option<String>>(0));
        Ok(Some(name.ok().flatten().unwrap_or_else(|| "something in the schema".to_owned())))
    }
}

/// Tables and partitioned tables are not among them, nor are their columns: they are locked. Temporary things are nobody's.
async fn read(client: &Client, all_roles: bool) -> Result<HashMap<(u32, u32), Version>, Error> {
    // Of other databases' roles it is theirs to care.
    let roles = if all_roles {
        "true"
    } else {
        "r.oid = 10 OR r.oid IN (SELECT d.refobjid FROM pg_catalog.pg_shdepend d \
           JOIN pg_catalog.pg_database b ON b.datname = pg_catalog.current_database() \
             AND (d.dbid = b.oid OR d.dbid = 0 AND d.classid = 'pg_catalog.pg_database'::regclass AND d.objid = b.oid) \
           WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass)"
    };
    let plain: String = [
        "pg_proc", "pg_type", "pg_operator", "pg_opclass", "pg_opfamily", "pg_collation", "pg_ts_config", "pg_ts_dict", "pg_ts_parser",
        "pg_statistic_ext",
    ]
    .iter()
    .map(|catalog| {
        format!(
            " UNION ALL SELECT 'pg_catalog.{catalog}'::regclass::oid, o.oid, o.xmin::text, false FROM pg_catalog.{catalog} o WHERE o.oid >= 16384{}",
            // A temporary table has types.
            if *catalog == "pg_type" { " AND o.typnamespace IN (SELECT s.oid FROM space s)" } else { "" }
        )
    })
    .collect();
    // Materialized views and indexes are written anew every night, which gives their rows in pg_class another version.
    let sql = format!(
        "WITH space AS MATERIALIZED (SELECT n.oid, n.xmin FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_(temp|toast)'), \
         relation AS MATERIALIZED (SELECT c.oid, c.xmin, c.relkind, c.relnamespace, c.relname, c.reltype FROM pg_catalog.pg_class c \
           JOIN space s ON s.oid = c.relnamespace WHERE c.oid >= 16384) \
         SELECT 'pg_catalog.pg_namespace'::regclass::oid, s.oid, s.xmin::text, false FROM space s \
         UNION ALL SELECT 'pg_catalog.pg_class'::regclass::oid, r.oid, CASE WHEN r.relkind IN ('m', 'i', 'I') \
             THEN r.relnamespace::text || ' ' || pg_catalog.md5(r.relname::text) ELSE r.xmin::text END, false \
           FROM relation r WHERE r.relkind NOT IN ('r', 'p') \
         UNION ALL SELECT 'pg_catalog.pg_attribute'::regclass::oid, r.oid, \
             COALESCE(pg_catalog.md5(pg_catalog.string_agg(a.attnum::text || ' ' || a.xmin::text, ',' ORDER BY a.attnum)), ''), \
             r.relkind = 'c' OR EXISTS (SELECT FROM pg_catalog.pg_type t JOIN pg_catalog.pg_depend d \
                 ON d.refclassid = 'pg_catalog.pg_type'::regclass AND d.refobjid IN (t.oid, t.typarray) \
                 AND d.classid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_type'::regclass) AND d.deptype = 'n' WHERE t.oid = r.reltype) \
           FROM relation r LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 \
           WHERE r.relkind IN ('c', 'v', 'm', 'f') GROUP BY r.oid, r.relkind, r.reltype \
         UNION ALL SELECT 'pg_catalog.pg_rewrite'::regclass::oid, o.oid, o.xmin::text, false FROM pg_catalog.pg_rewrite o \
           JOIN relation r ON r.oid = o.ev_class \
         UNION ALL SELECT 'pg_catalog.pg_trigger'::regclass::oid, o.oid, o.xmin::text, false FROM pg_catalog.pg_trigger o \
           JOIN relation r ON r.oid = o.tgrelid WHERE NOT o.tgisinternal \
         UNION ALL SELECT 'pg_catalog.pg_sequence'::regclass::oid, o.seqrelid, o.xmin::text, false FROM pg_catalog.pg_sequence o \
           JOIN relation r ON r.oid = o.seqrelid \
         UNION ALL SELECT 'pg_catalog.pg_enum'::regclass::oid, o.oid, o.xmin::text, true FROM pg_catalog.pg_enum o \
         UNION ALL SELECT 'pg_catalog.pg_authid'::regclass::oid, r.oid, pg_catalog.md5(r.rolname::text), false FROM pg_catalog.pg_roles r WHERE {roles}{plain}"
    );
    let rows = client.query(&sql, &[]).await?;
    rows.iter()
        .map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), Version { text: row.try_get(2)?, in_rows: row.try_get(3)? })))
        .collect()
}
