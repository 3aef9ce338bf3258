//! Identifiers and digests. All are random or keyed, so none of them says anything about a tenant.

use crate::hex_id::hex_id;

hex_id! {
    /// A tenant's home in the vault: 128 random bits.
    Locker, 16
}
hex_id! {
    /// A tenant key: 128 random bits.
    KeyId, 16
}
hex_id! {
    /// HMAC-SHA-256(name key, tenant name): how a tenant is named where its name must not stand.
    NameTag, 32
}
hex_id! {
    /// One installation of tenure: a vault and its keyring.
    InstallationId, 16
}
hex_id! {
    /// HMAC-SHA-256(chunk-name key, plaintext): the name of a chunk.
    ChunkName, 32
}
hex_id! {
    /// "Same file, same range, same shape", without naming any of them: 128 bits of an HMAC.
    SourceTag, 16
}
hex_id! {
    /// SHA-256.
    Sha256Digest, 32
}
hex_id! {
    /// A signed record that is not a backup: a run, a source, a copy, a hold, a note.
    RecordId, 16
}

impl Sha256Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}
