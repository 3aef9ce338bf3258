//! Index pages: which chunks a backup consists of. In clear, so that a worker without a private key can re-use and verify.

use serde::{Deserialize, Serialize};

use crate::{
    backup_id::BackupId,
    chunk::{RowDigest, cutter},
    id::{ChunkName, Sha256Digest, SourceTag},
};

/// At most this many entries share a page.
pub const MAX_ENTRIES: usize = 1_000;

/// Up to [`MAX_ENTRIES`] entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexPage {
    /// 1.
    pub format: u32,
    /// In the order in which they were cut.
    pub entries: Vec<Entry>,
}

/// One chunk and what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// HMAC of its plaintext.
    pub name: ChunkName,
    /// The backup that first wrote it; part of its object name.
    pub birth: BackupId,
    /// Length of the stored object in bytes.
    pub size: u64,
    /// SHA-256 of the stored object.
    pub sha256: Sha256Digest,
    /// Length of the plaintext in bytes: the bound when decompressing.
    pub length: u64,
    /// What is in it, in order, from the first byte to the last.
    pub parts: Vec<Part>,
}

/// A piece of one source in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Which source.
    pub source: SourceTag,
    /// 0, 1, 2, … within the source.
    pub position: u32,
    /// Whether it is the source's last part.
    pub last: bool,
    /// Where it starts in the plaintext, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// How many rows end in it; 0 for sources that are no rows.
    pub rows: u64,
    /// Sum of the digests of the rows that end in it.
    pub digest: RowDigest,
}

impl IndexPage {
    /// Checks that there are no more entries than a page may have, and each of them.
    ///
    /// # Errors
    /// What contradicts itself, in words.
    pub fn check(&self) -> Result<(), String> {
        if self.entries.len() > MAX_ENTRIES {
            return Err(format!("it has {} entries, and at most {MAX_ENTRIES} share a page", self.entries.len()));
        }
        self.entries.iter().try_for_each(Entry::check)
    }
}

impl Entry {
    /// Checks that the parts fill the chunk from its first byte to its last, and that nothing is larger than it can be. Whoever trusts
    /// these numbers allocates by them, and adds them up.
    ///
    /// # Errors
    /// What contradicts itself, in words.
    pub fn check(&self) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{what} (chunk {})", self.name));
        if self.length > cutter::MAX as u64 {
            return wrong("an entry is longer than a chunk can be");
        }
        if self.parts.is_empty() {
            return wrong("an entry has no parts");
        }
        let mut end = 0;
        for part in &self.parts {
            if part.offset != end {
                return wrong("the parts of an entry do not follow each other");
            }
            // A row has one byte at least, its newline.
            if part.rows > part.length {
                return wrong("a part has more rows than bytes");
            }
            end = part.offset.saturating_add(part.length);
        }
        if end == self.length { Ok(()) } else { wrong("the parts of an entry do not fill it") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(entries: usize, length: u64, rows: u64) -> IndexPage {
        let part = Part { source: SourceTag([1; 16]), position: 0, last: true, offset: 0, length, rows, digest: RowDigest(1) };
        let birth = "20261121T030000Z-3f9a51c07be2d418".parse().unwrap();
        let sha256 = Sha256Digest([0; 32]);
        let entry = Entry { name: ChunkName([1; 32]), birth, size: 100, sha256, length, parts: vec![part] };
        IndexPage { format: 1, entries: vec![entry; entries] }
    }

    #[test]
    fn no_number_is_larger_than_it_can_be() {
        let max = cutter::MAX as u64;
        for (page, is_good) in [
            (page(MAX_ENTRIES, max, max), true),
            (page(1, 0, 0), true),
            (page(MAX_ENTRIES + 1, max, max), false),
            (page(1, max + 1, 1), false),
            (page(1, max, max + 1), false),
            (page(1, u64::MAX, u64::MAX), false),
        ] {
            assert_eq!(page.check().is_ok(), is_good, "{} entries: {:?}", page.entries.len(), page.entries[0]);
        }
    }
}
