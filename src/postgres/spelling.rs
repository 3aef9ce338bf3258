//! Names that are not UTF-8.
//!
//! A SQL_ASCII database takes any bytes for a name. The server hands them over as they are, and what is not UTF-8 can neither be named in
//! a statement of ours nor written into a description.

use std::fmt;

use tokio_postgres::{Client, Error};

/// Something whose name is not UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misspelt {
    /// `table`, `column`, `schema`, `sequence` or `role`.
    kind: String,
    /// The name's bytes, spelled out where they are not ASCII: `public.t\xe9`.
    name: String,
    /// A statement that gives it another name, whatever the client's encoding; `…` stands for the new one.
    pub rename: String,
}

impl fmt::Display for Misspelt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What a backup names and cannot: schemas, tables, their columns and owners, sequences. Empty in databases of any other encoding.
///
/// # Errors
/// What the server says.
pub async fn misspelt(client: &Client) -> Result<Vec<Misspelt>, Error> {
    // The name in parts, and a rename in which the present name is found by OID.
    let sql = "WITH relation AS (SELECT c.oid, c.relname, c.relkind, c.relowner, n.nspname FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind IN ('r', 'p', 'f', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema') \
         SELECT 'schema', ARRAY[pg_catalog.convert_to(n.nspname::text, 'SQL_ASCII')], \
             pg_catalog.format('ALTER SCHEMA %%s RENAME TO …'', %s::regnamespace', n.oid) \
           FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_' \
         UNION ALL SELECT CASE r.relkind WHEN 'S' THEN 'sequence' ELSE 'table' END, \
             ARRAY[pg_catalog.convert_to(r.nspname::text, 'SQL_ASCII'), pg_catalog.convert_to(r.relname::text, 'SQL_ASCII')], \
             pg_catalog.format('ALTER %s %%s RENAME TO …'', %s::regclass', CASE r.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, r.oid) FROM relation r \
         UNION ALL SELECT 'column', \
             ARRAY[pg_catalog.convert_to(r.nspname::text, 'SQL_ASCII'), pg_catalog.convert_to(r.relname::text, 'SQL_ASCII'), pg_catalog.convert_to(a.attname::text, 'SQL_ASCII')], \
             pg_catalog.format('ALTER TABLE %%s RENAME COLUMN %%I TO …'', %1$s::regclass, (SELECT attname FROM pg_attribute WHERE attrelid = %1$s AND attnum = %2$s)', r.oid, a.attnum) \
           FROM relation r JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE r.relkind <> 'S' \
         UNION ALL SELECT 'role', ARRAY[pg_catalog.convert_to(o.rolname::text, 'SQL_ASCII')], \
             pg_catalog.format('ALTER ROLE %%s RENAME TO …'', %s::regrole', o.oid) \
           FROM pg_catalog.pg_roles o WHERE o.oid IN (SELECT r.relowner FROM relation r)";
    let encoding: String = client.query_one("SELECT pg_catalog.getdatabaseencoding()::text", &[]).await?.try_get(0)?;
    if encoding != "SQL_ASCII" {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for row in client.query(sql, &[]).await? {
        let parts: Vec<Vec<u8>> = row.try_get(1)?;
        // What stands above it is named for itself.
        if parts.last().is_some_and(|last| std::str::from_utf8(last).is_err()) {
            let name = parts.iter().map(|part| part.escape_ascii().to_string()).collect::<Vec<_>>().join(".");
            let rename = format!("DO $$ BEGIN EXECUTE format('{}); END $$", row.try_get::<_, String>(2)?);
            found.push(Misspelt { kind: row.try_get(0)?, name, rename });
        }
    }
    Ok(found)
}
