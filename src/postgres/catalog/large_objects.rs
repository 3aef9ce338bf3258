//! Where large objects are.

use super::{Catalog, CatalogError};
use crate::postgres::large_objects::{BLOCK_OIDS, READABLE};

/// A block that holds large objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// A multiple of 1,024.
    pub first_oid: u32,
    /// Large objects in it.
    pub count: u32,
}

/// The file that large objects are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LargeObjectFile {
    /// `pg_relation_filenode` of `pg_largeobject`.
    pub relfilenode: u32,
    /// OID of its tablespace.
    pub tablespace_oid: u32,
    /// Bytes of it, all blocks together.
    pub bytes: u64,
}

/// Large objects that this role may not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Their owner.
    pub owner: String,
    /// How many.
    pub count: i64,
}

impl Catalog<'_> {
    /// Blocks in order of OID.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn large_object_blocks(&self) -> Result<Vec<Block>, CatalogError> {
        let sql = format!(
            "SELECT (m.oid::int8 / {BLOCK_OIDS} * {BLOCK_OIDS})::oid AS first_oid, pg_catalog.count(*) \
             FROM pg_catalog.pg_largeobject_metadata m GROUP BY 1 ORDER BY 1"
        );
        self.rows("large objects", &sql, &[], |row| {
            // At most 1,024 by construction.
            Ok(Block { first_oid: row.try_get(0)?, count: u32::try_from(row.try_get::<_, i64>(1)?).unwrap_or(BLOCK_OIDS) })
        })
        .await
    }

    /// Large objects that this role may not read, by owner, sorted.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn unreadable_large_objects(&self) -> Result<Vec<Unreadable>, CatalogError> {
        let sql = format!(
            "SELECT pg_catalog.pg_get_userbyid(m.lomowner)::text, pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata m \
             WHERE NOT {READABLE} GROUP BY m.lomowner"
        );
        let mut unreadable = self
            .rows("large objects", &sql, &[], |row| Ok(Unreadable { owner: row.try_get(0)?, count: row.try_get(1)? }))
            .await?;
        unreadable.sort_unstable_by(|a, b| a.owner.cmp(&b.owner));
        Ok(unreadable)
    }

    /// The file of `pg_largeobject`.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn large_object_file(&self) -> Result<LargeObjectFile, CatalogError> {
        let sql = "SELECT pg_catalog.pg_relation_filenode(c.oid), COALESCE(NULLIF(c.reltablespace, 0::oid), d.dattablespace), \
               pg_catalog.pg_relation_size(c.oid) \
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database() \
             WHERE c.oid = 'pg_catalog.pg_largeobject'::regclass";
        self.row("file of large objects", sql, &[], |row| {
            Ok(LargeObjectFile {
                relfilenode: row.try_get(0)?,
                tablespace_oid: row.try_get(1)?,
                bytes: u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or(0),
            })
        })
        .await
    }
}
