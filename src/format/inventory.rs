//! Every object that an erasure removed: lines of JSON in files beside its certificate.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::Sha256Digest;

/// A list of objects, in files beside the certificate: lines of [`InventoryLine`], in no order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Inventory {
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The files.
    pub files: Vec<InventoryFile>,
}

/// One file of an inventory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InventoryFile {
    /// Its name below `certificates/<id>/`.
    pub name: String,
    /// SHA-256 of its bytes.
    pub sha256: Sha256Digest,
    /// Its lines.
    pub objects: u64,
    /// Its length.
    pub size: u64,
}

/// One line of an inventory: an object of the vault that goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InventoryLine {
    /// Its name.
    pub name: String,
    /// The version that was first written; null where the store keeps none.
    pub version: Option<String>,
    /// SHA-256 of its bytes. Of chunks as the index says; null where nothing says it.
    pub sha256: Option<Sha256Digest>,
    /// Its length.
    pub size: u64,
    /// Until when it was locked; null where it was not, or nobody may know.
    pub locked_until: Option<DateTime<Utc>>,
}
