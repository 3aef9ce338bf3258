//! Which entries share an index page.
//!
//! Borders follow the source, never the count: entries of a large relation are cut at fixed range numbers, and small relations share
//! pages by bucket of their tag. So one insertion changes one page, and the others are found stored under their digest.

use std::collections::BTreeMap;

use super::{
    reuse::StoredPage,
    sink::{Sink, SinkError},
};
use crate::{
    format::{
        description::Description,
        index_page::{Entry, IndexPage, MAX_ENTRIES},
        manifest::Page,
    },
    id::{Locker, SourceTag},
    signed::FORMAT,
    vault::Vault,
};

/// A relation with at least this many ranges (128 MiB of heap) has pages of its own.
const LARGE: usize = 256;
/// Ranges to a page of a large relation.
const RANGES: usize = 512;
/// A bucket of small relations is split in two when there would be more entries than this to each.
const BUCKET: usize = 256;

/// Where an entry belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Border {
    Small { bucket: usize },
    Large { relation: SourceTag, block: usize },
}

/// Order within a page: number of the range, source, position of the part.
type Order = (usize, SourceTag, u32);

/// Groups entries into pages; the result depends on the entries alone, not on the order in which they come.
#[must_use]
pub fn group(description: &Description, entries: Vec<Entry>) -> Vec<IndexPage> {
    let mut place = std::collections::HashMap::new();
    for table in description.tables.iter().filter(|table| table.ranges.len() >= LARGE) {
        let relation = table.ranges[0].source;
        for (number, range) in table.ranges.iter().enumerate() {
            place.insert(range.source, (Border::Large { relation, block: number / RANGES }, number));
        }
    }
    let first = |entry: &Entry| entry.parts.first().map_or(SourceTag([0; 16]), |part| part.source);
    let small = entries.iter().filter(|entry| !place.contains_key(&first(entry))).count();
    let buckets = (small / BUCKET).next_power_of_two();

    let mut pages: BTreeMap<Border, Vec<(Order, Entry)>> = BTreeMap::new();
    for entry in entries {
        let source = first(&entry);
        let position = entry.parts.first().map_or(0, |part| part.position);
        let (border, number) = place.get(&source).copied().unwrap_or_else(|| {
            let bucket = usize::from(u16::from_be_bytes([source.0[0], source.0[1]])) % buckets;
            (Border::Small { bucket }, 0)
        });
        pages.entry(border).or_default().push(((number, source, position), entry));
    }
    let mut grouped = Vec::new();
    for (_, mut entries) in pages {
        entries.sort_by_key(|(order, _)| *order);
        let mut entries = entries.into_iter().map(|(_, entry)| entry).peekable();
        while entries.peek().is_some() {
            grouped.push(IndexPage { format: FORMAT, entries: entries.by_ref().take(MAX_ENTRIES).collect() });
        }
    }
    grouped
}

/// Stores the pages that are not stored yet, and returns what the manifest says of all of them, in the same order. `locked_until` is of
/// the page alone here.
///
/// # Errors
/// As [`Sink::store`].
pub async fn store(vault: &Vault, locker: Locker, sink: &Sink, pages: &[IndexPage]) -> Result<Vec<Page>, SinkError> {
    let mut listed: Vec<Page> = Vec::new();
    for page in pages {
        let bytes = bytes::Bytes::from(serde_json::to_vec(page).expect("an index page has no map with other keys than text"));
        let sha256 = crate::id::Sha256Digest::of(&bytes);
        let size = bytes.len() as u64;
        let StoredPage { birth, locked_until } = match sink.reuse().page(sha256) {
            Some(stored) => stored,
            None => {
                let locked_until = sink.fresh_until();
                vault.put_page(locker, sink.backup(), bytes).await?;
                sink.page_stored(size);
                StoredPage { birth: sink.backup(), locked_until }
            }
        };
        let entries = u32::try_from(page.entries.len()).expect("at most a thousand");
        listed.push(Page { sha256, birth, size, entries, locked_until });
    }
    Ok(listed)
}
