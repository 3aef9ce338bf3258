//! Index pages: which chunks a backup consists of. In clear, so that a worker without a private key can re-use and verify.

use serde::{Deserialize, Serialize};

use crate::{
    backup_id::BackupId,
    chunk::RowDigest,
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
