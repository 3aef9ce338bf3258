//! What can be had of a damaged backup: every part of every source is opened and compared with what was recorded, before anything is
//! made. What is left out then is known exactly, and the rest is restored and proven as ever.

mod report;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::{OnceCell, OwnedSemaphorePermit};

pub use report::{AbsentLargeObjects, AbsentRange, DamagedObject, Salvage, Weakened};

use super::{
    content::{ChunkReader, Content, ContentError, Piece},
    rows,
};
use crate::{
    backup_id::BackupId,
    chunk::{RowHasher, sums::RowSums},
    format::{
        description::{Description, LargeObjectBlock},
        index_page::Entry,
        manifest::Manifest,
    },
    id::{ChunkName, SourceTag},
    object_name::ObjectName,
    operation::budget::Budget,
    signed,
    vault::{Vault, locker::ObjectError},
};

/// Pages of the index that are lost, and why.
pub(super) type LostPages = BTreeMap<String, String>;

/// What is needed to look through a backup.
pub(super) struct Salvager<'a> {
    pub vault: &'a Vault,
    pub reader: &'a ChunkReader,
    pub hasher: RowHasher,
    pub jobs: usize,
    pub budget: &'a Budget,
    /// Other backups under the same key: they may have stored a lost chunk anew.
    pub others: Vec<&'a Manifest>,
}

/// What looking through it found.
#[derive(Default)]
struct Found {
    damaged: BTreeMap<String, String>,
    /// Chunks that are stored anew elsewhere, by their place in the index.
    replaced: HashMap<usize, Entry>,
    /// What is left of a source, and which damaged objects the rest needs; of damaged ones only.
    sources: HashMap<SourceTag, (Vec<Piece>, BTreeSet<String>)>,
}

/// The chunk that was opened last, and the right to hold it.
type Opened = Option<(usize, Option<Bytes>, OwnedSemaphorePermit)>;

/// One look through a backup.
struct Look<'a> {
    salvager: &'a Salvager<'a>,
    content: &'a Content,
    anew: OnceCell<HashMap<ChunkName, Vec<Entry>>>,
    found: Mutex<Found>,
}

impl Salvager<'_> {
    /// Reads the index, as far as it is there. `schema` is the source of the schema archive, which has to be.
    ///
    /// # Errors
    /// [`ContentError`] when something is out of reach, rather than missing or damaged.
    pub(super) async fn index(&self, manifest: &Manifest, schema: SourceTag) -> Result<(Content, LostPages), ContentError> {
        let mut lost_pages = LostPages::new();
        let mut entries = Vec::new();
        let mut first_error = None;
        let mut pages = std::pin::pin!(self.reader.pages(manifest));
        while let Some((page, read)) = pages.next().await {
            match read {
                Ok(read) => entries.extend(read.entries),
                Err(error) if error.is_integrity() => {
                    let name = ObjectName::Page { locker: manifest.locker, birth: page.birth, sha256: page.sha256 };
                    lost_pages.insert(signed::locate(self.vault.store(), &name), problem(&error));
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error.into()),
            }
        }
        let content = Content::with_holes(entries);
        // Without the schema there is nothing to put rows into.
        if !is_complete(content.source(schema).unwrap_or_default()) {
            return Err(first_error.map_or_else(
                || ContentError::Index("the schema archive is not there from its first part to its last".to_owned()),
                ContentError::Object,
            ));
        }
        Ok((content, lost_pages))
    }

    /// Looks through everything that the description names, and takes out of it, and out of the index, what cannot be had.
    ///
    /// # Errors
    /// [`ContentError`] when something is out of reach, rather than missing or damaged.
    pub(super) async fn look(
        &self,
        content: Content,
        lost_pages: &LostPages,
        description: &mut Description,
    ) -> Result<(Content, Salvage), ContentError> {
        let mut tags: Vec<SourceTag> =
            description.tables.iter().flat_map(|table| table.ranges.iter().map(|range| range.source)).collect();
        tags.extend(description.large_objects.iter().map(|block| block.source));
        // Neighbours lie in the same chunk, which is then opened once.
        tags.sort_by_key(|tag| content.source(*tag).unwrap_or_default().first().map(|piece| piece.entry));
        let look = Look { salvager: self, content: &content, anew: OnceCell::new(), found: Mutex::default() };
        let share = tags.len().div_ceil(4 * self.jobs.max(1)).max(1);
        let look_through = |tags| look.sources(tags);
        stream::iter(tags.chunks(share).map(look_through)).buffer_unordered(self.jobs.max(1)).try_collect::<()>().await?;
        let mut found = look.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.damaged.extend(lost_pages.clone());
        let lost_pages: BTreeSet<String> = lost_pages.keys().cloned().collect();
        Ok(found.take_out(content, description, &lost_pages))
    }

    /// Where a chunk of this name is stored again.
    async fn stored_anew(&self, content: &Content) -> HashMap<ChunkName, Vec<Entry>> {
        let mut needed: HashMap<ChunkName, HashSet<BackupId>> = HashMap::new();
        for entry in content.entries() {
            needed.entry(entry.name).or_default().insert(entry.birth);
        }
        let mut anew: HashMap<ChunkName, Vec<Entry>> = HashMap::new();
        let mut seen = HashSet::new();
        for other in &self.others {
            let mut pages = std::pin::pin!(self.reader.pages(other));
            while let Some((page, read)) = pages.next().await {
                let Ok(read) = read else { continue };
                if !seen.insert((page.sha256, page.birth)) {
                    continue;
                }
                for entry in read.entries {
                    if needed.get_mut(&entry.name).is_some_and(|births| births.insert(entry.birth)) {
                        anew.entry(entry.name).or_default().push(entry);
                    }
                }
            }
        }
        anew
    }
}

impl Look<'_> {
    /// Looks through some sources, one after the other.
    async fn sources(&self, tags: &[SourceTag]) -> Result<(), ContentError> {
        let mut opened = None;
        for tag in tags {
            let pieces = self.content.source(*tag).unwrap_or_default();
            let (kept, needs) = self.source(pieces, &mut opened).await?;
            if kept.len() < pieces.len() || !is_complete(pieces) {
                self.lock().sources.insert(*tag, (kept, needs));
            }
        }
        Ok(())
    }

    /// The pieces of a source that hold what they should, in whole rows, and the damaged objects that the others need.
    async fn source(&self, pieces: &[Piece], opened: &mut Opened) -> Result<(Vec<Piece>, BTreeSet<String>), ContentError> {
        let (mut kept, mut needs) = (Vec::new(), BTreeSet::new());
        // Pieces since a row ended with its piece.
        let mut open = Vec::new();
        let mut sums = RowSums::new(self.salvager.hasher);
        let (mut next, mut after_hole) = (0, false);
        for piece in pieces {
            let part = piece.part;
            if part.position != next {
                open.clear();
                sums = RowSums::new(self.salvager.hasher);
                after_hole = true;
            }
            next = part.position + 1;
            let slice = if part.length == 0 { Some(Bytes::new()) } else { self.slice(*piece, opened).await? };
            if let Some(slice) = &slice {
                sums.push(slice);
            }
            let is = sums.take();
            let is_good = slice.is_some() && (is.rows, is.digest) == (part.rows, part.digest);
            if !is_good || (part.last && sums.inside_a_row()) {
                // The end of a row whose beginning is lost differs, too, and is not to blame.
                if slice.is_none() || !after_hole {
                    let object = self.object(self.content.entry(piece.entry));
                    let what = format!("it does not hold the {} rows that were recorded", part.rows);
                    self.lock().damaged.entry(object.clone()).or_insert(what);
                    needs.insert(object);
                }
                open.clear();
                sums = RowSums::new(self.salvager.hasher);
                after_hole = true;
                continue;
            }
            open.push(*piece);
            if !sums.inside_a_row() {
                kept.append(&mut open);
                after_hole = false;
            }
        }
        Ok((kept, needs))
    }

    /// The bytes of a piece; `None` when its chunk is missing or damaged and stored nowhere else.
    async fn slice(&self, piece: Piece, opened: &mut Opened) -> Result<Option<Bytes>, ContentError> {
        if opened.as_ref().is_none_or(|(at, ..)| *at != piece.entry) {
            // Given back first: who holds some and waits for more may wait for ever.
            drop(opened.take());
            let entry = self.content.entry(piece.entry);
            let held = self.salvager.budget.take(entry.size + entry.length).await;
            *opened = Some((piece.entry, self.chunk(piece.entry).await?, held));
        }
        let Some((_, Some(bytes), _)) = opened else { return Ok(None) };
        let bounds = usize::try_from(piece.part.offset).ok().zip(usize::try_from(piece.part.offset + piece.part.length).ok());
        Ok(bounds.and_then(|(from, to)| bytes.get(from..to).map(|_| bytes.slice(from..to))))
    }

    async fn chunk(&self, at: usize) -> Result<Option<Bytes>, ContentError> {
        let entry = self.content.entry(at);
        let error = match self.salvager.reader.plain(entry).await {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(error) if error.is_integrity() => error,
            Err(error) => return Err(error),
        };
        let anew = self.anew.get_or_init(|| self.salvager.stored_anew(self.content)).await;
        for other in anew.get(&entry.name).into_iter().flatten().filter(|other| other.length == entry.length) {
            if let Ok(bytes) = self.salvager.reader.plain(other).await {
                let stored = Entry { parts: entry.parts.clone(), ..other.clone() };
                self.lock().replaced.insert(at, stored);
                return Ok(Some(bytes));
            }
        }
        let what = match &error {
            ContentError::Object(error) => problem(error),
            error => error.to_string(),
        };
        self.lock().damaged.insert(self.object(entry), what);
        Ok(None)
    }

    fn object(&self, entry: &Entry) -> String {
        let name = ObjectName::Chunk { locker: self.salvager.reader.locker(), birth: entry.birth, name: entry.name };
        signed::locate(self.salvager.vault.store(), &name)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Found {
    /// Takes what is lost out of the index, and large objects out of the description.
    fn take_out(
        mut self,
        mut content: Content,
        description: &mut Description,
        lost_pages: &BTreeSet<String>,
    ) -> (Content, Salvage) {
        for (at, entry) in self.replaced.drain() {
            content.replace(at, entry);
        }
        let mut salvage = Salvage::default();
        for table in &description.tables {
            let before = salvage.absent.len();
            for range in &table.ranges {
                let Some((kept, needs)) = self.sources.get(&range.source) else { continue };
                let pieces = content.source(range.source).unwrap_or_default();
                let rows = |pieces: &[Piece]| pieces.iter().map(|piece| piece.part.rows).sum::<u64>();
                let restored = rows(kept);
                let absent = AbsentRange {
                    table: rows::shown(table),
                    from_page: range.from,
                    to_page: range.to,
                    rows_restored: restored,
                    rows_lost: is_complete(pieces).then(|| rows(pieces) - restored),
                    needs: or_pages(needs, pieces, lost_pages),
                };
                match salvage.absent[before..].last_mut() {
                    Some(last) if last.continues_as(&absent) => {
                        last.to_page = absent.to_page;
                        last.rows_lost = last.rows_lost.zip(absent.rows_lost).map(|(one, other)| one + other);
                        let needs: BTreeSet<String> = last.needs.drain(..).chain(absent.needs).collect();
                        last.needs = needs.into_iter().collect();
                    }
                    _ => salvage.absent.push(absent),
                }
            }
            salvage.whole_tables += u64::from(salvage.absent.len() == before);
        }
        description.large_objects.retain(|block| {
            let Some((_, needs)) = self.sources.get(&block.source) else { return true };
            let needs = or_pages(needs, content.source(block.source).unwrap_or_default(), lost_pages);
            salvage.absent_large_objects.push(AbsentLargeObjects { count: block.count, oids: oids(block), needs });
            false
        });
        for (tag, (kept, _)) in self.sources {
            content.keep(tag, kept);
        }
        let damaged = self.damaged.into_iter();
        salvage.damaged = damaged.map(|(object, problem)| DamagedObject { object, problem }).collect();
        (content, salvage)
    }
}

/// Whether the pieces are there from the first to the last.
fn is_complete(pieces: &[Piece]) -> bool {
    pieces.iter().enumerate().all(|(at, piece)| piece.part.position as usize == at)
        && pieces.last().is_some_and(|piece| piece.part.last)
}

/// What a source needs. Which page of the index a lost piece stood in, nothing tells.
fn or_pages(needs: &BTreeSet<String>, pieces: &[Piece], lost_pages: &BTreeSet<String>) -> Vec<String> {
    let pages = lost_pages.iter().filter(|_| !is_complete(pieces));
    needs.iter().chain(pages).cloned().collect()
}

fn oids(block: &LargeObjectBlock) -> Vec<(u32, u32)> {
    let mut oids: Vec<(u32, u32)> = block.groups.iter().flat_map(|group| group.oids.iter().copied()).collect();
    oids.sort_unstable();
    oids
}

/// What is wrong with an object, without its name.
fn problem(error: &ObjectError) -> String {
    match error {
        ObjectError::Missing { .. } => "it is missing".to_owned(),
        ObjectError::Damaged { what, .. } => what.clone(),
        other => other.to_string(),
    }
}
