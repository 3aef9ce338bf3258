//! What a vault and a keyring say of themselves.

use serde::{Deserialize, Serialize};

use crate::{
    id::{InstallationId, RecordId, Sha256Digest},
    name_key::NameKey,
    retention::Keep,
};

/// `vault.json`, signed by an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultRoot {
    /// 1. A higher number is a newer vault, which this version refuses whole.
    pub format: u32,
    /// This store, as opposed to a copy of another one.
    pub store_id: RecordId,
    /// The installation.
    pub installation: InstallationId,
    /// SHA-256 of the name key, which binds vault and keyring.
    pub name_key_sha256: Sha256Digest,
    /// A run longer than this never commits. Seconds; 86,400 by default.
    pub max_run_seconds: u64,
    /// No object younger than this is swept. Seconds; 172,800 by default, at least twice `max_run_seconds`.
    pub settle_seconds: u64,
    /// A manifest that outlives this is not acted upon.
    pub max_keep: Keep,
}

/// `keyring.json`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyringRoot {
    /// 1.
    pub format: u32,
    /// The installation.
    pub installation: InstallationId,
    /// Key of the HMAC that makes name tags.
    pub name_key: NameKey,
}
