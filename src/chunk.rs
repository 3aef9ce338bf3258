//! Chunks: how rows are cut, named and digested before they are compressed and sealed.

pub mod cutter;
pub mod reorder;
pub mod sums;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::{id::ChunkName, secret::secret_bytes};

secret_bytes! {
    /// Names a tenant's chunks and tags its sources. In the public half of the key: a worker needs it, the vault never sees it.
    ChunkNameKey, 32
}

impl ChunkNameKey {
    /// HMAC-SHA-256(chunk-name key, plaintext).
    #[must_use]
    pub fn name(&self, plaintext: &[u8]) -> ChunkName {
        ChunkName(self.mac(plaintext))
    }

    /// The hasher of rows under this key.
    #[must_use]
    pub fn row_hasher(&self) -> RowHasher {
        let seed = self.mac(b"tenure v1 row");
        RowHasher { seed: u64::from_le_bytes(seed[..8].try_into().expect("eight of 32 bytes")) }
    }

    /// HMAC(key, "tenure v1 source"): the key under which sources are tagged.
    #[must_use]
    pub fn source_tag_key(&self) -> [u8; 32] {
        self.mac(b"tenure v1 source")
    }

    fn mac(&self, message: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(message);
        mac.finalize().into_bytes().into()
    }
}

/// Hashes rows: XXH3-128 of one row's COPY text, its newline included, seeded with the first eight bytes (little-endian) of
/// HMAC(chunk-name key, "tenure v1 row"). It detects errors; SHA-256 and the signature authenticate.
#[derive(Clone, Copy)]
pub struct RowHasher {
    seed: u64,
}

impl RowHasher {
    /// The digest of one row.
    #[must_use]
    pub fn row(&self, text: &[u8]) -> RowDigest {
        RowDigest(xxhash_rust::xxh3::xxh3_128_with_seed(text, self.seed))
    }
}

/// Sum modulo 2^128 of row digests: says that two multisets of rows are equal, in whatever order.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct RowDigest(pub u128);

impl std::ops::AddAssign for RowDigest {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.wrapping_add(other.0);
    }
}

impl std::fmt::Display for RowDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl serde::Serialize for RowDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for RowDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        let value = u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)?;
        let digest = Self(value);
        if digest.to_string() == *text {
            Ok(digest)
        } else {
            Err(serde::de::Error::custom("a row digest has 32 lower-case hexadecimal digits"))
        }
    }
}

/// A chunk's plaintext and its name.
pub struct PlainChunk {
    pub(crate) name: ChunkName,
    pub(crate) bytes: Vec<u8>,
}

impl PlainChunk {
    /// HMAC of the plaintext.
    #[must_use]
    pub fn name(&self) -> ChunkName {
        self.name
    }

    /// Length of the plaintext in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl ChunkNameKey {
    /// Names a plaintext.
    #[must_use]
    pub fn plain_chunk(&self, bytes: Vec<u8>) -> PlainChunk {
        PlainChunk { name: self.name(&bytes), bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Python's `hmac`: another implementation than the one that is tested.
    #[test]
    fn names_and_keys_are_those_of_the_format() {
        let key: ChunkNameKey = serde_json::from_value("07".repeat(32).into()).unwrap();
        assert_eq!(key.name(b"rows\n").to_string(), "9b8aae2b059a9b8c5c391b10d90218aca047e573366adfdf144f2211142ce261");
        assert_eq!(hex::encode(key.source_tag_key()), "1dfeef4d1fa88093af8c80cb4417825395ef0f16efc9acf7712dcf9039cda446");
        let seed = u64::from_le_bytes(hex::decode("62b57951deea886f").unwrap().try_into().unwrap());
        assert_eq!(key.row_hasher().row(b"rows\n").0, xxhash_rust::xxh3::xxh3_128_with_seed(b"rows\n", seed));
        let chunk = key.plain_chunk(b"rows\n".to_vec());
        assert_eq!((chunk.name(), chunk.length()), (key.name(b"rows\n"), 5));
    }

    #[test]
    fn digests_add_up_and_have_one_spelling() {
        let mut sum = RowDigest(u128::MAX);
        sum += RowDigest(3);
        assert_eq!(sum, RowDigest(2));
        let text = serde_json::to_string(&RowDigest(0xab)).unwrap();
        assert_eq!(text, format!("\"{}ab\"", "0".repeat(30)));
        assert_eq!(serde_json::from_str::<RowDigest>(&text).unwrap(), RowDigest(0xab));
        for other in [text.to_uppercase(), text.replacen('0', "", 1), text.replacen('0', "+", 1), text.replacen('0', "00", 1)] {
            assert!(serde_json::from_str::<RowDigest>(&other).is_err(), "{other}");
        }
    }
}
