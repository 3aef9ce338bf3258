//! The public half of a tenant key, which workers read; and what its secret half looks like.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    chunk::ChunkNameKey,
    id::{InstallationId, KeyId, Locker, NameTag},
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
    /// Key of the HMAC that names chunks.
    pub chunk_name_key: ChunkNameKey,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}
