//! Small signed records of a tenant: where it lives, and the databases that tenure made from it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    backup_id::BackupId,
    id::{ChunkName, InstallationId, Locker, RecordId, Sha256Digest},
};

/// A tenant's source: the database that its backups are read from. The highest sequence counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// Must equal the locker in the object's name.
    pub locker: Locker,
    /// Must equal the id in the object's name.
    pub id: RecordId,
    /// 1, 2, 3, … within the locker; ties go to the lowest id.
    pub sequence: u64,
    /// The cluster's name in the configuration: no name of a tenant.
    pub cluster: String,
    /// System identifier, as text.
    pub system_identifier: String,
    /// OID of the database.
    pub database_oid: u32,
    /// Why it was written.
    pub reason: SourceReason,
    /// Records that could not be read or trusted when this one was written. They never count again, readable or not.
    pub passes_over: Vec<RecordId>,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// Why a source record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceReason {
    /// With the tenant's first key.
    First,
    /// A proven restore into the tenant's own place.
    Restored,
    /// An operator said so.
    Admitted,
}

/// A database that tenure is about to make: `copies/<id>.json`, written before `CREATE DATABASE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// Must equal the locker in the object's name.
    pub locker: Locker,
    /// Must equal the id in the object's name.
    pub id: RecordId,
    /// The backup it is made from.
    pub backup: BackupId,
    /// The cluster's name in the configuration.
    pub cluster: String,
    /// System identifier, as text.
    pub system_identifier: String,
    /// The name it is built under: `tenure_` and random digits.
    pub built_as: String,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// The same database's OID: `copies/<id>.oid.json`, written before its first row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyOid {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// Must equal the locker in the object's name.
    pub locker: Locker,
    /// Must equal the id in the object's name.
    pub id: RecordId,
    /// System identifier, as text.
    pub system_identifier: String,
    /// OID of the database.
    pub database_oid: u32,
}

/// `b/<backup>.void`: that backup never counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Void {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// Must equal the locker in the object's name.
    pub locker: Locker,
    /// Must equal the backup in the object's name.
    pub backup: BackupId,
    /// Why.
    pub reason: String,
}

/// `v/<id>.json`: what a verify found. Written only when something changed: an object is bad that no finding says so of, or good that one
/// called bad; its lock likewise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// Must equal the locker in the object's name.
    pub locker: Locker,
    /// Must equal the id in the object's name.
    pub id: RecordId,
    /// When, by the host's clock; for people.
    pub found_at: DateTime<Utc>,
    /// Whether chunks were opened, or only compared with their digests.
    pub opened: bool,
    /// Objects that are missing or not what was written. No backup refers to them anew, ever.
    pub damaged: Vec<StoredObject>,
    /// Earlier findings that were read before the look.
    pub answers: Vec<RecordId>,
    /// Objects that those call damaged, and that were found good: put back from a copy, for instance.
    pub sound: Vec<StoredObject>,
    /// Objects that are locked for less than a manifest says. No backup believes a recorded date of theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub short_locks: Vec<StoredObject>,
    /// Objects of which the findings in `answers` say that, and that were found locked for as long as the manifests say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub whole_locks: Vec<StoredObject>,
}

/// A chunk or an index page, by what its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum StoredObject {
    /// A chunk.
    Chunk {
        /// The backup that wrote it.
        birth: BackupId,
        /// HMAC of its plaintext.
        name: ChunkName,
    },
    /// An index page.
    Page {
        /// The backup that wrote it.
        birth: BackupId,
        /// SHA-256 of its bytes.
        sha256: Sha256Digest,
    },
}
