//! Chunks that belong together, read and, with the key, opened and counted.

use std::collections::BTreeMap;

use super::look::damage;
use crate::{
    chunk::{ChunkNameKey, RowDigest, sums::RowSums},
    format::index_page::{Entry, Part},
    id::{ChunkName, Locker, SourceTag},
    operation::failure::Failure,
    seal::{TenantIdentity, open},
    vault::{Vault, locker::ObjectError},
};

/// What opens the chunks of one key.
pub(super) struct Opener {
    pub(super) identity: TenantIdentity,
    pub(super) key: ChunkNameKey,
}

/// Consecutive entries through which one source runs: rows may be cut between them.
pub(super) fn units(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut units: Vec<Vec<Entry>> = Vec::new();
    for entry in entries {
        let goes_on = units.last().and_then(|unit| unit.last()).and_then(|last| last.parts.last()).is_some_and(|part| {
            !part.last
                && entry.parts.first().is_some_and(|first| first.source == part.source && first.position == part.position + 1)
        });
        match units.last_mut() {
            Some(unit) if goes_on => unit.push(entry),
            _ => units.push(vec![entry]),
        }
    }
    units
}

/// Sources whose parts are not 0, 1, 2, … up to exactly one last, by the index alone.
pub(super) fn incomplete_sources(entries: &[Entry]) -> Vec<(String, String)> {
    let mut parts: BTreeMap<SourceTag, Vec<(u32, bool)>> = BTreeMap::new();
    for part in entries.iter().flat_map(|entry| &entry.parts) {
        parts.entry(part.source).or_default().push((part.position, part.last));
    }
    let mut incomplete = Vec::new();
    for (source, mut positions) in parts {
        positions.sort_unstable();
        let complete = positions
            .iter()
            .enumerate()
            .all(|(n, (position, last))| *position as usize == n && *last == (n + 1 == positions.len()));
        if !complete {
            incomplete.push((format!("source {source}"), "its parts are not complete in the index".to_owned()));
        }
    }
    incomplete
}

/// Reads the chunks of a unit; with the key also opens them and sums their rows. Gives those that are bad.
pub(super) async fn check_unit(
    vault: &Vault,
    locker: Locker,
    unit: &[Entry],
    opener: Option<&Opener>,
) -> Result<Vec<(ChunkName, String)>, Failure> {
    let mut problems = Vec::new();
    let mut sums: Option<RowSums> = None;
    for entry in unit {
        let sealed = match vault.chunk(locker, entry).await {
            Ok(sealed) => sealed,
            Err(error @ ObjectError::Store { .. }) => return Err(Failure::from(error)),
            Err(error) => {
                problems.push((entry.name, damage(&error)));
                sums = None;
                continue;
            }
        };
        let Some(Opener { identity, key }) = opener else { continue };
        // Opening takes a core for milliseconds; other tasks go on meanwhile.
        let opened = tokio::task::block_in_place(|| open(identity, &sealed, entry.length));
        match opened {
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                problems.push((entry.name, format!("{error}{cause}")));
                sums = None;
            }
            Ok(plain) if key.name(&plain) != entry.name => {
                problems.push((entry.name, "it opens to something else than its name says".to_owned()));
                sums = None;
            }
            Ok(plain) => {
                if let Some(what) = check_parts(entry, &plain, key, &mut sums) {
                    problems.push((entry.name, what));
                }
            }
        }
    }
    Ok(problems)
}

/// Compares the rows of each part with what was recorded at capture. A source that began in a bad chunk is not judged further.
fn check_parts(entry: &Entry, plain: &[u8], key: &ChunkNameKey, sums: &mut Option<RowSums>) -> Option<String> {
    let mut at = 0;
    for part in &entry.parts {
        let text = bounds(part, plain.len()).filter(|range| range.start == at).map(|range| &plain[range]);
        let Some(text) = text else { return Some("its parts do not cover it".to_owned()) };
        at += text.len();
        if part.position == 0 {
            *sums = Some(RowSums::new(key.row_hasher()));
        }
        // A source without rows (the schema archive, the description) records none.
        if part.rows == 0 && part.digest == RowDigest::default() && part.last && part.position == 0 {
            continue;
        }
        let Some(running) = sums else { continue };
        running.push(text);
        let totals = running.take();
        if (totals.rows, totals.digest) != (part.rows, part.digest) && !is_raw(part) {
            return Some(format!("its rows are not those that were read: {} instead of {}", totals.rows, part.rows));
        }
    }
    (at != plain.len()).then(|| "its parts do not cover it".to_owned())
}

fn is_raw(part: &Part) -> bool {
    part.rows == 0 && part.digest == RowDigest::default()
}

fn bounds(part: &Part, length: usize) -> Option<std::ops::Range<usize>> {
    let (start, end) = (usize::try_from(part.offset).ok()?, usize::try_from(part.offset.checked_add(part.length)?).ok()?);
    (end <= length).then_some(start..end)
}
