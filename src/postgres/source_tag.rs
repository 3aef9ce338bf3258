//! Source tags: "same file, same range, same shape", without naming any of them.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::{chunk::ChunkNameKey, id::SourceTag};

/// One column as far as it shapes COPY text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// OID of its type.
    pub type_oid: u32,
    /// Type modifier, `-1` for none.
    pub type_modifier: i32,
}

/// Where a database's files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseFiles {
    /// `pg_control_system()`'s identifier.
    pub system_identifier: u64,
    /// OID of the database.
    pub database_oid: u32,
}

/// A relation's file, and the shape of the text made from it.
#[derive(Debug, Clone, Copy)]
pub struct RelationFile<'a> {
    /// The database it belongs to.
    pub database: DatabaseFiles,
    /// OID of its tablespace; the database's own is spelled out.
    pub tablespace_oid: u32,
    /// `pg_class.relfilenode`.
    pub relfilenode: u32,
    /// Columns of the text, in order.
    pub columns: &'a [Column],
    /// Condition on the rows, when there is one.
    pub filter: Option<&'a str>,
}

/// Makes source tags under one tenant's key: 128 bits of an HMAC-SHA-256 over length-prefixed fields, the first of which names the kind.
pub struct SourceTagger {
    key: [u8; 32],
}

impl SourceTagger {
    /// The tagger of the tenant with this chunk-name key.
    #[must_use]
    pub fn new(key: &ChunkNameKey) -> Self {
        Self { key: key.source_tag_key() }
    }

    /// A range of a table's pages; `to` is `None` for the open end.
    #[must_use]
    pub fn rows(&self, file: &RelationFile<'_>, from: u32, to: Option<u32>) -> SourceTag {
        let mut fields = self.fields("rows", file.database);
        fields.integer(file.tablespace_oid);
        fields.integer(file.relfilenode);
        fields.integer(from);
        fields.optional(to.map(u32::to_be_bytes).as_ref().map(<[u8; 4]>::as_slice));
        fields.optional(file.filter.map(str::as_bytes));
        for column in file.columns {
            fields.bytes(column.name.as_bytes());
            fields.integer(column.type_oid);
            fields.bytes(&column.type_modifier.to_be_bytes());
        }
        fields.tag()
    }

    /// A block of large objects. `relfilenode` and `tablespace_oid` are those of `pg_largeobject`.
    #[must_use]
    pub fn large_objects(&self, database: DatabaseFiles, tablespace_oid: u32, relfilenode: u32, first_oid: u32) -> SourceTag {
        let mut fields = self.fields("large objects", database);
        fields.integer(tablespace_oid);
        fields.integer(relfilenode);
        fields.integer(first_oid);
        fields.tag()
    }

    /// The schema archive.
    #[must_use]
    pub fn schema(&self, database: DatabaseFiles) -> SourceTag {
        self.fields("schema", database).tag()
    }

    fn fields(&self, kind: &str, database: DatabaseFiles) -> Fields {
        let mut fields = Fields(Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length"));
        fields.bytes(kind.as_bytes());
        fields.bytes(&database.system_identifier.to_be_bytes());
        fields.integer(database.database_oid);
        fields
    }
}

/// Fields, each preceded by its length, so that no two lists of fields give the same bytes.
struct Fields(Hmac<Sha256>);

impl Fields {
    fn bytes(&mut self, field: &[u8]) {
        self.0.update(&(field.len() as u64).to_be_bytes());
        self.0.update(field);
    }

    fn integer(&mut self, field: u32) {
        self.bytes(&field.to_be_bytes());
    }

    fn optional(&mut self, field: Option<&[u8]>) {
        self.bytes(&[u8::from(field.is_some())]);
        self.bytes(field.unwrap_or_default());
    }

    fn tag(self) -> SourceTag {
        let mac: [u8; 32] = self.0.finalize().into_bytes().into();
        SourceTag(mac[..16].try_into().expect("sixteen of 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, type_oid: u32) -> Column {
        Column { name: name.to_owned(), type_oid, type_modifier: -1 }
    }

    #[test]
    fn every_difference_gives_another_tag() {
        let tagger = SourceTagger { key: [7; 32] };
        let database = DatabaseFiles { system_identifier: 1, database_oid: 2 };
        let columns = [column("a", 23), column("b", 25)];
        let file = RelationFile { database, tablespace_oid: 3, relfilenode: 4, columns: &columns, filter: None };
        let renamed = [column("a", 23), column("c", 25)];
        let typed = [column("a", 20), column("b", 25)];
        let mut modified = columns.clone();
        modified[1].type_modifier = 14;
        let other = DatabaseFiles { database_oid: 5, ..database };
        let tags = [
            tagger.rows(&file, 0, Some(64)),
            tagger.rows(&file, 0, None),
            tagger.rows(&file, 0, Some(0)),
            tagger.rows(&file, 64, Some(64)),
            tagger.rows(&RelationFile { database: other, ..file }, 0, Some(64)),
            tagger.rows(&RelationFile { database: DatabaseFiles { system_identifier: 9, ..database }, ..file }, 0, Some(64)),
            tagger.rows(&RelationFile { tablespace_oid: 4, ..file }, 0, Some(64)),
            tagger.rows(&RelationFile { relfilenode: 5, ..file }, 0, Some(64)),
            tagger.rows(&RelationFile { filter: Some(""), ..file }, 0, Some(64)),
            tagger.rows(&RelationFile { columns: &renamed, ..file }, 0, Some(64)),
            tagger.rows(&RelationFile { columns: &typed, ..file }, 0, Some(64)),
            tagger.rows(&RelationFile { columns: &modified, ..file }, 0, Some(64)),
            tagger.rows(&RelationFile { columns: &columns[..1], ..file }, 0, Some(64)),
            tagger.large_objects(database, 3, 4, 0),
            tagger.schema(database),
            tagger.schema(other),
            SourceTagger { key: [8; 32] }.rows(&file, 0, Some(64)),
        ];
        for (i, tag) in tags.iter().enumerate() {
            assert!(!tags[..i].contains(tag), "tag {i} equals an earlier one");
        }
        assert_eq!(tagger.rows(&file, 0, Some(64)), tags[0]);
    }
}
