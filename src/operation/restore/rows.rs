//! Rows from the vault into their tables, over several connections, counted and digested on the way.

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio_postgres::Client;

use super::{
    content::{ChunkReader, Content, ContentError, Piece},
    routes::Routes,
};
use crate::{
    chunk::{
        RowHasher,
        reorder::ReorderedSums,
        sums::{RowSums, RowTotals},
    },
    format::description::{Description, Table},
    id::{ChunkName, SourceTag},
    postgres::{
        large_objects_in,
        load::{self, LoadError},
    },
};

/// Chunks that a connection fetches and opens ahead of the server: with plaintext of at most 4 MiB each this stays small.
const AHEAD: usize = 2;
/// A table is loaded in parts of about so many bytes, by several connections at once. Smaller parts balance better; larger ones keep
/// the rows' order on disk.
const PART_BYTES: std::ops::RangeInclusive<u64> = 8 * 1024 * 1024..=64 * 1024 * 1024;
/// Small tables share a unit, and so the chunks that they share, up to this many bytes.
const GROUP_BYTES: u64 = 4 * 1024 * 1024;

/// One COPY: consecutive sources of one table.
#[derive(Debug)]
struct Load {
    table: usize,
    sources: Vec<SourceTag>,
    expected: RowTotals,
}

/// What one connection loads in one go.
#[derive(Debug, Default)]
pub struct Unit {
    loads: Vec<Load>,
    bytes: u64,
    memory: u64,
}

/// Rows that could not be loaded, or are not the recorded ones.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// They cannot be read.
    #[error("cannot read the rows of table {table}")]
    Content {
        /// `schema.name`.
        table: String,
        /// The chunk that they were to come from.
        chunk: Option<ChunkName>,
        /// Why.
        #[source]
        source: ContentError,
    },
    /// The server did not take them.
    #[error("cannot load table {table}")]
    Load {
        /// `schema.name`.
        table: String,
        /// Why.
        #[source]
        source: crate::postgres::statement::StatementError,
    },
    /// They are not the ones that were captured.
    #[error("table {table}: {what}")]
    Differ {
        /// `schema.name`.
        table: String,
        /// How.
        what: String,
    },
}

/// `schema.name`, for messages.
#[must_use]
pub fn shown(table: &Table) -> String {
    crate::printable::Printable(&format!("{}.{}", table.schema, table.name)).to_string()
}

/// Divides the work. Tables come one after the other, so that each is complete early: the heaviest first, by `weight` times its bytes,
/// and small ones last, together.
///
/// # Errors
/// [`ContentError::Index`] when a source is missing.
pub fn units(
    description: &Description,
    content: &Content,
    connections: usize,
    weight: impl Fn(usize) -> u64,
) -> Result<Vec<Unit>, ContentError> {
    let mut loads = Vec::new();
    let mut total = 0;
    for (at, table) in description.tables.iter().enumerate() {
        let mut load = Load { table: at, sources: Vec::new(), expected: RowTotals::default() };
        for range in &table.ranges {
            load.expected += content.recorded(range.source)?;
            load.sources.push(range.source);
        }
        total += load.expected.bytes;
        // An empty table needs no COPY; the proof reads it all the same.
        if load.expected != RowTotals::default() {
            loads.push(load);
        }
    }
    let part = (total / (4 * connections.max(1) as u64)).clamp(*PART_BYTES.start(), *PART_BYTES.end());
    let (mut large, mut small): (Vec<Load>, Vec<Load>) =
        loads.into_iter().partition(|load| load.expected.bytes > GROUP_BYTES / 4);
    large.sort_by_key(|load| std::cmp::Reverse(load.expected.bytes.saturating_mul(weight(load.table))));
    let mut units = Vec::new();
    for load in large {
        for load in split(load, part, content)? {
            units.push(Unit { bytes: load.expected.bytes, loads: vec![load], memory: 0 });
        }
    }
    // In the order in which they were cut, neighbours lie in the same chunk, which is then fetched once.
    let first = |load: &Load| load.sources.first().and_then(|tag| content.source(*tag).ok()?.first().map(|piece| piece.entry));
    small.sort_by_key(first);
    let mut group = Unit::default();
    for load in small {
        if group.bytes + load.expected.bytes > GROUP_BYTES {
            units.push(std::mem::take(&mut group));
        }
        group.bytes += load.expected.bytes;
        group.loads.push(load);
    }
    units.push(group);
    units.retain(|unit| !unit.loads.is_empty());
    for unit in &mut units {
        unit.memory = memory(unit.loads.iter().flat_map(|load| &load.sources), content)?;
    }
    Ok(units)
}

/// How many bytes the loading of sources holds at most: the chunks that are opened ahead, and the one before, each sealed and open.
///
/// # Errors
/// [`ContentError::Index`] when a source is missing.
pub fn memory<'a>(sources: impl Iterator<Item = &'a SourceTag>, content: &Content) -> Result<u64, ContentError> {
    let mut entries = Vec::new();
    for source in sources {
        entries.extend(content.source(*source)?.iter().map(|piece| piece.entry));
        entries.dedup();
    }
    let bytes: Vec<u64> = entries.iter().map(|at| content.entry(*at)).map(|entry| entry.length + entry.size).collect();
    let most = bytes.windows((AHEAD + 1).min(bytes.len()).max(1)).map(|window| window.iter().sum()).max();
    Ok(most.unwrap_or(0))
}

impl Unit {
    /// The tables that it fills or helps to fill, by index.
    pub fn tables(&self) -> impl Iterator<Item = usize> {
        self.loads.iter().map(|load| load.table)
    }

    /// How many bytes of chunks its loading holds at most.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Rows and bytes.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        (self.loads.iter().map(|load| load.expected.rows).sum(), self.bytes)
    }
}

fn split(load: Load, share: u64, content: &Content) -> Result<Vec<Load>, ContentError> {
    let mut parts = Vec::new();
    let mut part = Load { table: load.table, sources: Vec::new(), expected: RowTotals::default() };
    for source in load.sources {
        if part.expected.bytes >= share {
            let next = Load { table: load.table, sources: Vec::new(), expected: RowTotals::default() };
            parts.push(std::mem::replace(&mut part, next));
        }
        part.expected += content.recorded(source)?;
        part.sources.push(source);
    }
    parts.push(part);
    Ok(parts)
}

/// What loading needs, shared by all connections.
pub struct Loading<'a> {
    /// Opens chunks.
    pub reader: &'a ChunkReader,
    /// The index.
    pub content: &'a Content,
    /// The tables.
    pub description: &'a Description,
    /// Where rows go.
    pub routes: &'a Routes<'a>,
    /// Digests rows as at capture.
    pub hasher: RowHasher,
    /// Told how many bytes were loaded.
    pub advanced: &'a (dyn Fn(u64) + Send + Sync),
}

impl Loading<'_> {
    /// Loads one unit by one connection.
    ///
    /// # Errors
    /// [`RowsError`], with the table named.
    pub async fn unit(&self, loader: &Client, unit: &Unit) -> Result<(), RowsError> {
        let mut last = None;
        for load in &unit.loads {
            self.load(loader, load, &mut last).await?;
        }
        Ok(())
    }

    /// One block of large objects into the session's temporary table.
    ///
    /// # Errors
    /// [`RowsError`].
    pub async fn large_objects(&self, admin: &Client, source: SourceTag) -> Result<(), RowsError> {
        let name = "large objects";
        let found = self.content.source(source).map_err(|source| content_error(name, None, source))?;
        let mut last = None;
        let rows = self.rows(name, found.to_vec(), &mut last, None);
        load::copy_in(admin, large_objects_in::COPY, name, rows).await.map(drop).map_err(|error| match error {
            LoadError::Statement(source) => RowsError::Load { table: name.to_owned(), source },
            LoadError::Rows(error) => error,
        })
    }

    /// One COPY. `last` is the chunk that was opened last: the next table may begin in it.
    async fn load(&self, loader: &Client, load: &Load, last: &mut Option<(usize, Bytes)>) -> Result<(), RowsError> {
        let table = &self.description.tables[load.table];
        let name = shown(table);
        let statement = load::statement(table, self.routes.target(load.table), &self.description.database.encoding);
        let mut pieces = Vec::new();
        for source in &load.sources {
            let found = self.content.source(*source).map_err(|source| content_error(&name, None, source))?;
            pieces.extend(found.iter().copied());
        }
        let mut reordered = self.routes.reorder(load.table, self.hasher);
        let rows = self.rows(&name, pieces, last, reordered.as_mut());
        let counted = load::copy_in(loader, &statement, &name, rows).await.map_err(|error| match error {
            LoadError::Statement(source) => RowsError::Load { table: name.clone(), source },
            LoadError::Rows(error) => error,
        })?;
        if counted != load.expected.rows {
            let what = format!("the server counted {counted} rows, {} were captured", load.expected.rows);
            return Err(RowsError::Differ { table: name, what });
        }
        if let Some(sums) = reordered {
            self.routes.reordered(load.table, sums.totals());
        }
        Ok(())
    }

    /// The rows of `pieces` in order. Each piece is summed and compared before the one after it is handed over; then `reordered` gets it.
    fn rows<'b>(
        &'b self,
        table: &'b str,
        pieces: Vec<Piece>,
        last: &'b mut Option<(usize, Bytes)>,
        mut reordered: Option<&'b mut ReorderedSums>,
    ) -> impl futures_util::Stream<Item = Result<Bytes, RowsError>> + 'b {
        let kept = last.take();
        // Consecutive pieces of one chunk fetch it once.
        let mut chunks: Vec<(usize, Vec<Piece>)> = Vec::new();
        for piece in pieces {
            match chunks.last_mut() {
                Some((entry, pieces)) if *entry == piece.entry => pieces.push(piece),
                _ => chunks.push((piece.entry, vec![piece])),
            }
        }
        let mut sums = RowSums::new(self.hasher);
        stream::iter(chunks)
            .map(move |(at, pieces)| {
                let kept = kept.as_ref().filter(|(entry, _)| *entry == at).map(|(_, bytes)| bytes.clone());
                async move {
                    let entry = self.content.entry(at);
                    let bytes = match kept {
                        Some(bytes) => bytes,
                        None => {
                            let opened = self.reader.plain(entry).await;
                            opened.map_err(|source| content_error(table, Some(entry.name), source))?
                        }
                    };
                    Ok((at, bytes, pieces))
                }
            })
            .buffered(AHEAD)
            .map_ok(move |(at, bytes, pieces)| {
                *last = Some((at, bytes.clone()));
                let mut slice = |piece: &Piece| {
                    let slice = self.slice(table, &bytes, *piece, &mut sums)?;
                    if let Some(reordered) = &mut reordered {
                        reordered.push(&slice);
                    }
                    Ok(slice)
                };
                let slices: Vec<Result<Bytes, RowsError>> = pieces.iter().map(&mut slice).collect();
                stream::iter(slices)
            })
            .try_flatten()
    }

    fn slice(&self, table: &str, bytes: &Bytes, piece: Piece, sums: &mut RowSums) -> Result<Bytes, RowsError> {
        let part = piece.part;
        let bounds = usize::try_from(part.offset).ok().zip(usize::try_from(part.offset + part.length).ok());
        let Some(slice) = bounds.and_then(|(from, to)| bytes.get(from..to).map(|_| bytes.slice(from..to))) else {
            let source = ContentError::Index(format!("a part lies outside of chunk {}", self.content.entry(piece.entry).name));
            return Err(content_error(table, None, source));
        };
        sums.push(&slice);
        let found = sums.take();
        if found.rows != part.rows || found.digest != part.digest || (part.last && sums.inside_a_row()) {
            let chunk = self.content.entry(piece.entry).name;
            let what = format!("the rows in chunk {chunk} are not the {} that were recorded when it was captured", part.rows);
            return Err(RowsError::Differ { table: table.to_owned(), what });
        }
        (self.advanced)(part.length);
        Ok(slice)
    }
}

fn content_error(table: &str, chunk: Option<ChunkName>, source: ContentError) -> RowsError {
    RowsError::Content { table: table.to_owned(), chunk, source }
}

/// The bytes of a source that is no rows, whole.
///
/// # Errors
/// [`ContentError`].
pub async fn bytes(reader: &ChunkReader, content: &Content, source: SourceTag) -> Result<Vec<u8>, ContentError> {
    let mut whole = Vec::new();
    for piece in content.source(source)? {
        let entry = content.entry(piece.entry);
        let plain = reader.plain(entry).await?;
        let from = usize::try_from(piece.part.offset).unwrap_or(usize::MAX);
        let to = usize::try_from(piece.part.offset.saturating_add(piece.part.length)).unwrap_or(usize::MAX);
        let slice =
            plain.get(from..to).ok_or_else(|| ContentError::Index(format!("a part lies outside of chunk {}", entry.name)))?;
        whole.extend_from_slice(slice);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::{Content, memory};
    use crate::{
        chunk::RowDigest,
        format::index_page::{Entry, Part},
        id::{ChunkName, Sha256Digest, SourceTag},
    };

    #[test]
    fn what_is_held_at_once() {
        let entry = |number: u8, source: u8, position: u32, last: bool, length: u64| Entry {
            name: ChunkName([number; 32]),
            birth: "20261121T030000Z-3f9a51c07be2d418".parse().unwrap(),
            size: length / 10,
            sha256: Sha256Digest([0; 32]),
            length,
            parts: vec![Part {
                source: SourceTag([source; 16]),
                position,
                last,
                offset: 0,
                length,
                rows: 1,
                digest: RowDigest(1),
            }],
        };
        let entries = vec![
            entry(1, 1, 0, false, 1000),
            entry(2, 1, 1, false, 100),
            entry(3, 1, 2, true, 100),
            entry(4, 2, 0, true, 2000),
            entry(5, 3, 0, true, 10),
        ];
        let content = Content::new(entries).unwrap();
        let of = |sources: &[u8]| {
            let tags: Vec<SourceTag> = sources.iter().map(|source| SourceTag([*source; 16])).collect();
            memory(tags.iter(), &content).unwrap()
        };
        assert_eq!((of(&[]), of(&[3]), of(&[3, 3]), of(&[1])), (0, 11, 11, 1320));
        // Three chunks at once, whatever source they are of.
        assert_eq!((of(&[1, 2]), of(&[1, 2, 3])), (2420, 2420));
    }
}
