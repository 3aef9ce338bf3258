//! The public half of a tenant key, which workers read; and what its secret half must look like.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    chunk::ChunkNameKey,
    id::{InstallationId, KeyId, Locker, NameTag, RecordId, Sha256Digest},
    tenant::TenantName,
};

/// The public half, `t/<name-tag>/<key-id>.json` in the keyring. Created once, never modified.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// Must equal the key id in the object's name.
    pub key_id: KeyId,
    /// Must equal the tag in the object's name.
    pub name_tag: NameTag,
    /// The highest sequence seals; ties go to the lowest key id.
    pub sequence: u64,
    /// The tenant. The keyring is the one place that says it.
    pub tenant: TenantName,
    /// Where its backups lie.
    pub locker: Locker,
    /// The age recipient that chunks are sealed to: `age1…`.
    pub recipient: String,
    /// SHA-256 of the secret half as it was first wrapped, `k/<key-id>.1.age`: so that whoever cannot open it still sees whether it is
    /// what was written.
    pub wrapped_sha256: Sha256Digest,
    /// Key of the HMAC that names chunks.
    pub chunk_name_key: ChunkNameKey,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// `t/<name-tag>/<key-id>.<n>.json` in the keyring, for n from 2: the secret half was wrapped anew, to other recovery recipients. A
/// `k/<key-id>.<n>.age` that none of these names means nothing. Signed by an operator; created once, never modified, and written before
/// what it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrapping {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// Must equal the key id in the object's name.
    pub key_id: KeyId,
    /// Must equal the tag in the object's name.
    pub name_tag: NameTag,
    /// Must equal the number in the object's name.
    pub wrapping: u32,
    /// SHA-256 of `k/<key-id>.<n>.age`.
    pub sha256: Sha256Digest,
    /// The recovery recipients that it was wrapped to, sorted: `age1…`. They are public; the wrapped key itself does not tell them. Empty
    /// where nobody recorded them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// `t/<locker>/w/<key-id>.<n>.<id>.json` in the vault, for n from 2, signed by an operator: the key's secret half was wrapped anew as `n`, and
/// every wrapping before that counts no more. So a keyring that was put back from an older copy is known for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewrapped {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// Must equal the locker in the object's name.
    pub locker: Locker,
    /// Must equal the key id in the object's name.
    pub key_id: KeyId,
    /// Must equal the number in the object's name.
    pub wrapping: u32,
    /// Must equal the id in the object's name.
    pub id: RecordId,
    /// When it was written.
    pub created_at: DateTime<Utc>,
}
