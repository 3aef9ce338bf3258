//! Compression, before encryption: one zstd frame per chunk.

use crate::{
    chunk::{PlainChunk, cutter},
    id::ChunkName,
};

/// zstd level. On COPY text level 1 compresses about as well as 3 and at twice the speed: the nightly run is bound by its cores.
const LEVEL: i32 = 1;

/// A chunk's plaintext, compressed. Still readable: only [`crate::seal::seal`] takes it further.
pub struct PackedChunk {
    pub(crate) name: ChunkName,
    pub(crate) length: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The compressor refused, or the frame is not what was recorded.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// zstd failed to compress: out of memory.
    #[error("cannot compress chunk {name}")]
    Compress {
        /// Which chunk.
        name: ChunkName,
        /// zstd's own words.
        #[source]
        source: std::io::Error,
    },
    /// Not a zstd frame, or longer than recorded.
    #[error("not a zstd frame of at most {length} bytes")]
    Decompress {
        /// The length that the index records.
        length: u64,
        /// zstd's own words.
        #[source]
        source: std::io::Error,
    },
    /// The index records more than a chunk can hold.
    #[error("should decompress to {length} bytes, and no chunk holds more than {}", cutter::MAX)]
    TooLong {
        /// The length that the index records.
        length: u64,
    },
    /// Shorter than recorded.
    #[error("decompresses to {found} bytes instead of {length}")]
    Length {
        /// The length that the index records.
        length: u64,
        /// What came out.
        found: u64,
    },
}

/// Compresses one chunk.
///
/// # Errors
/// [`CompressError::Compress`] when zstd fails.
pub fn pack(chunk: PlainChunk) -> Result<PackedChunk, CompressError> {
    let bytes =
        zstd::bulk::compress(&chunk.bytes, LEVEL).map_err(|source| CompressError::Compress { name: chunk.name, source })?;
    Ok(PackedChunk { name: chunk.name, length: chunk.bytes.len() as u64, bytes })
}

/// Decompresses one chunk whose plaintext has exactly `length` bytes; never allocates more than that, nor more than a chunk can hold.
///
/// # Errors
/// [`CompressError::Decompress`] for bytes that are no frame or a longer one, [`CompressError::Length`] for a shorter one,
/// [`CompressError::TooLong`] before anything is allocated.
pub fn unpack(packed: &[u8], length: u64) -> Result<Vec<u8>, CompressError> {
    let capacity =
        usize::try_from(length).ok().filter(|length| *length <= cutter::MAX).ok_or(CompressError::TooLong { length })?;
    let plain = zstd::bulk::decompress(packed, capacity).map_err(|source| CompressError::Decompress { length, source })?;
    if plain.len() == capacity { Ok(plain) } else { Err(CompressError::Length { length, found: plain.len() as u64 }) }
}
