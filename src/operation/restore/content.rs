//! What a backup holds: its description, and for each source the stored pieces in order.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};

use crate::{
    chunk::sums::RowTotals,
    format::{
        description::Description,
        index_page::{Entry, IndexPage, Part},
        manifest::{Manifest, Page},
    },
    id::{ChunkName, Locker, SourceTag},
    seal::{SealError, TenantIdentity, open},
    signed::{self, DocumentError},
    vault::{Vault, locker::ObjectError},
};

/// Index pages fetched at once.
const READERS: usize = 8;

/// A piece of a source: which entry of [`Content::entries`], and where in it.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    /// Index into the entries.
    pub entry: usize,
    /// Where in its plaintext, and what it must hold.
    pub part: Part,
}

/// Opens one backup's chunks.
#[derive(Clone)]
pub struct ChunkReader {
    vault: Vault,
    locker: Locker,
    identity: Arc<TenantIdentity>,
}

/// A backup's index, all pages read.
pub struct Content {
    entries: Vec<Entry>,
    sources: HashMap<SourceTag, Vec<Piece>>,
}

/// What cannot be read of a backup.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// A stored object is missing, damaged or out of reach.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A chunk of the right digest that does not open: sealed with another key.
    #[error("chunk {chunk} does not open with the tenant's key")]
    Open {
        /// Its name.
        chunk: ChunkName,
        /// Why.
        #[source]
        source: SealError,
    },
    /// The description is not understood.
    #[error(transparent)]
    Description(DocumentError),
    /// The index contradicts itself or the description.
    #[error("the index of the backup is incomplete: {0}")]
    Index(String),
    /// The decompressing task ended.
    #[error("opening a chunk was interrupted")]
    Interrupted,
}

impl ContentError {
    /// Whether something is missing or changed, rather than out of reach.
    #[must_use]
    pub fn is_integrity(&self) -> bool {
        match self {
            Self::Object(error) => error.is_integrity(),
            Self::Open { .. } | Self::Description(_) | Self::Index(_) => true,
            Self::Interrupted => false,
        }
    }
}

impl ChunkReader {
    /// A reader of `locker`'s chunks.
    #[must_use]
    pub fn new(vault: Vault, locker: Locker, identity: TenantIdentity) -> Self {
        Self { vault, locker, identity: Arc::new(identity) }
    }

    /// Whose chunks it opens.
    #[must_use]
    pub fn locker(&self) -> Locker {
        self.locker
    }

    /// Fetches a chunk, checks its digest, opens and decompresses it.
    ///
    /// # Errors
    /// [`ContentError`].
    pub async fn plain(&self, entry: &Entry) -> Result<Bytes, ContentError> {
        let sealed = self.vault.chunk(self.locker, entry).await?;
        let identity = self.identity.clone();
        let (length, chunk) = (entry.length, entry.name);
        tokio::task::spawn_blocking(move || open(&identity, &sealed, length))
            .await
            .map_err(|_| ContentError::Interrupted)?
            .map(Bytes::from)
            .map_err(|source| ContentError::Open { chunk, source })
    }

    /// Reads a backup's description.
    ///
    /// # Errors
    /// [`ContentError`].
    pub async fn description(&self, manifest: &Manifest) -> Result<Description, ContentError> {
        let mut text = Vec::new();
        for entry in &manifest.description {
            text.extend_from_slice(&self.plain(entry).await?);
        }
        let object = format!("the description of backup {}", manifest.backup);
        signed::parse(&text, &object).map_err(ContentError::Description)
    }

    /// Reads a backup's index.
    ///
    /// # Errors
    /// [`ContentError`].
    pub async fn content(&self, manifest: &Manifest) -> Result<Content, ContentError> {
        let pages: Vec<_> = self.pages(manifest).map(|(_, read)| read).try_collect().await?;
        Content::new(pages.into_iter().flat_map(|page| page.entries).collect())
    }

    /// Reads the pages of a backup's index, in order, each with what it is called in the manifest.
    pub fn pages<'a>(&'a self, manifest: &'a Manifest) -> impl Stream<Item = (&'a Page, Result<IndexPage, ObjectError>)> + 'a {
        stream::iter(&manifest.pages)
            .map(move |page| async move { (page, self.vault.page(self.locker, page).await) })
            .buffered(READERS)
    }
}

impl Content {
    /// Puts the parts of each source in order, and checks that none is missing or there twice.
    ///
    /// # Errors
    /// [`ContentError::Index`].
    pub fn new(entries: Vec<Entry>) -> Result<Self, ContentError> {
        let mut sources: HashMap<SourceTag, Vec<Piece>> = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            entry.check().map_err(ContentError::Index)?;
            for part in &entry.parts {
                sources.entry(part.source).or_default().push(Piece { entry: at, part: *part });
            }
        }
        for (source, pieces) in &mut sources {
            pieces.sort_by_key(|piece| piece.part.position);
            let last = pieces.len().saturating_sub(1);
            let whole = pieces
                .iter()
                .enumerate()
                .all(|(at, piece)| piece.part.position as usize == at && piece.part.last == (at == last));
            if !whole {
                return Err(ContentError::Index(format!("source {source} is not there from its first part to its last")));
            }
        }
        Ok(Self { entries, sources })
    }

    /// As [`Content::new`] of an index of which pages may be missing. Sources may have holes: see [`Content::keep`].
    #[must_use]
    pub fn with_holes(mut entries: Vec<Entry>) -> Self {
        entries.retain(|entry| entry.check().is_ok());
        let mut sources: HashMap<SourceTag, Vec<Piece>> = HashMap::new();
        for (at, entry) in entries.iter().enumerate() {
            for part in &entry.parts {
                sources.entry(part.source).or_default().push(Piece { entry: at, part: *part });
            }
        }
        for pieces in sources.values_mut() {
            pieces.sort_by_key(|piece| piece.part.position);
            pieces.dedup_by_key(|piece| piece.part.position);
        }
        Self { entries, sources }
    }

    /// Takes an entry from another place where the same chunk is stored.
    pub fn replace(&mut self, at: usize, entry: Entry) {
        self.entries[at] = entry;
    }

    /// Leaves of a source only `pieces`: from here on it holds nothing else, and may hold nothing at all.
    pub fn keep(&mut self, tag: SourceTag, pieces: Vec<Piece>) {
        self.sources.insert(tag, pieces);
    }

    /// An entry by its index.
    #[must_use]
    pub fn entry(&self, at: usize) -> &Entry {
        &self.entries[at]
    }

    /// Every entry.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The pieces of a source, in order.
    ///
    /// # Errors
    /// [`ContentError::Index`] when the backup does not hold it.
    pub fn source(&self, tag: SourceTag) -> Result<&[Piece], ContentError> {
        self.sources.get(&tag).map(Vec::as_slice).ok_or_else(|| ContentError::Index(format!("source {tag} is not there")))
    }

    /// What a source holds by the index.
    ///
    /// # Errors
    /// As [`Content::source`].
    pub fn recorded(&self, tag: SourceTag) -> Result<RowTotals, ContentError> {
        let mut totals = RowTotals::default();
        for Piece { part, .. } in self.source(tag)? {
            totals += RowTotals { rows: part.rows, digest: part.digest, bytes: part.length };
        }
        Ok(totals)
    }

    /// Checks that each table's ranges begin at page 0, follow each other and end open, and that every source is there, once.
    ///
    /// # Errors
    /// [`ContentError::Index`], with the table named.
    pub fn check(&self, description: &Description) -> Result<(), ContentError> {
        let mut seen = std::collections::HashSet::new();
        let mut once = |tag: SourceTag, whose: &str| {
            self.source(tag)?;
            if seen.insert(tag) { Ok(()) } else { Err(ContentError::Index(format!("{whose} shares a source with another"))) }
        };
        once(description.schema_archive, "the schema archive")?;
        for table in &description.tables {
            let name = format!("table {}.{}", table.schema, table.name);
            let mut next = Some(0);
            for range in &table.ranges {
                if next != Some(range.from) || range.to.is_some_and(|to| to <= range.from) {
                    return Err(ContentError::Index(format!("{name} has a gap or an overlap before page {}", range.from)));
                }
                once(range.source, &name)?;
                next = range.to;
            }
            if next.is_some() {
                return Err(ContentError::Index(format!("{name} has no open end")));
            }
        }
        for block in &description.large_objects {
            once(block.source, &format!("the large objects from {}", block.first_oid))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Content;
    use crate::{
        chunk::RowDigest,
        format::index_page::{Entry, Part},
        id::{ChunkName, Sha256Digest, SourceTag},
    };

    fn part(source: u8, position: u32, last: bool, offset: u64) -> Part {
        Part { source: SourceTag([source; 16]), position, last, offset, length: 10, rows: 1, digest: RowDigest(1) }
    }

    fn entry(name: u8, parts: Vec<Part>) -> Entry {
        Entry {
            name: ChunkName([name; 32]),
            birth: "20261121T030000Z-3f9a51c07be2d418".parse().unwrap(),
            size: 100,
            sha256: Sha256Digest([0; 32]),
            length: 10 * parts.len() as u64,
            parts,
        }
    }

    #[test]
    fn every_part_once_and_in_order() {
        let good = vec![entry(1, vec![part(1, 0, false, 0), part(2, 0, true, 10)]), entry(2, vec![part(1, 1, true, 0)])];
        let content = Content::new(good.clone()).unwrap();
        assert_eq!(content.source(SourceTag([1; 16])).unwrap().len(), 2);
        assert_eq!(content.recorded(SourceTag([1; 16])).unwrap().rows, 2);
        assert!(content.source(SourceTag([9; 16])).is_err());

        let without_last = vec![good[0].clone()];
        let without_first = vec![good[1].clone()];
        let twice = vec![good[0].clone(), good[1].clone(), good[1].clone()];
        let mut hole = good.clone();
        hole[0].parts[1].offset = 11;
        let mut short = good;
        short[1].length = 11;
        for (what, entries) in
            [("last", without_last), ("first", without_first), ("twice", twice), ("hole", hole), ("short", short)]
        {
            assert!(Content::new(entries).is_err(), "{what}");
        }
    }
}
