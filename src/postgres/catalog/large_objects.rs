//! Where large objects are.

use futures_util::TryStreamExt as _;

use super::{Catalog, CatalogError};
use crate::{
    format::description::LargeObjectGroup,
    postgres::large_objects::{BLOCK_OIDS, READABLE},
};

/// A block that holds large objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// A multiple of 1,024.
    pub first_oid: u32,
    /// Large objects in it.
    pub count: u32,
    /// What they are, besides their bytes.
    pub groups: Vec<LargeObjectGroup>,
    /// Those of them that this role may not read.
    pub unreadable: Vec<u32>,
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

impl Block {
    /// Adds an object that follows all others.
    fn add(&mut self, oid: u32, like: LargeObjectGroup) {
        self.count += 1;
        let same =
            |group: &&mut LargeObjectGroup| (&group.owner, &group.acl, &group.comment) == (&like.owner, &like.acl, &like.comment);
        match self.groups.iter_mut().find(same) {
            None => self.groups.push(LargeObjectGroup { oids: vec![(oid, oid)], ..like }),
            Some(group) => match group.oids.last_mut() {
                Some((_, last)) if last.checked_add(1) == Some(oid) => *last = oid,
                _ => group.oids.push((oid, oid)),
            },
        }
    }
}

impl Catalog<'_> {
    /// Blocks in order of OID.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn large_object_blocks(&self) -> Result<Vec<Block>, CatalogError> {
        let sql = format!(
            "SELECT m.oid, pg_catalog.pg_get_userbyid(m.lomowner)::text, m.lomacl::text[], c.description, {READABLE} \
             FROM pg_catalog.pg_largeobject_metadata m \
             LEFT JOIN pg_catalog.pg_description c ON c.classoid = 'pg_catalog.pg_largeobject'::regclass AND c.objoid = m.oid \
             ORDER BY m.oid"
        );
        let failed = |source| CatalogError { what: "large objects", database: self.database.to_owned(), source };
        let rows = self.client.query_raw(&sql, std::iter::empty::<&str>()).await.map_err(failed)?;
        let mut rows = std::pin::pin!(rows);
        let mut blocks: Vec<Block> = Vec::new();
        // Row by row: there may be millions.
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let oid: u32 = row.try_get(0).map_err(failed)?;
            let owner: String = row.try_get(1).map_err(failed)?;
            let acl: Option<Vec<String>> = row.try_get(2).map_err(failed)?;
            let comment: Option<String> = row.try_get(3).map_err(failed)?;
            let is_readable: bool = row.try_get(4).map_err(failed)?;
            let first_oid = oid - oid % BLOCK_OIDS;
            if blocks.last().is_none_or(|block| block.first_oid != first_oid) {
                blocks.push(Block { first_oid, count: 0, groups: Vec::new(), unreadable: Vec::new() });
            }
            if let Some(block) = blocks.last_mut() {
                block.add(oid, LargeObjectGroup { owner, acl, comment, oids: Vec::new() });
                block.unreadable.extend((!is_readable).then_some(oid));
            }
        }
        Ok(blocks)
    }

    /// How many large objects have a security label.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn labelled_large_objects(&self) -> Result<i64, CatalogError> {
        let sql = "SELECT pg_catalog.count(DISTINCT l.objoid) FROM pg_catalog.pg_seclabel l \
             WHERE l.classoid = 'pg_catalog.pg_largeobject'::regclass";
        self.row("labels of large objects", sql, &[], |row| row.try_get(0)).await
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
