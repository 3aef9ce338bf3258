//! The manifest: its existence is what makes a backup exist.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    backup_id::BackupId,
    format::index_page::Entry,
    id::{InstallationId, KeyId, Locker, Sha256Digest},
    retention::Keep,
};

/// The manifest of one backup. Nothing in it names the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// 1.
    pub format: u32,
    /// The installation that the vault belongs to.
    pub installation: InstallationId,
    /// Must equal the locker in the object's name.
    pub locker: Locker,
    /// Must equal the id in the object's name.
    pub backup: BackupId,
    /// 1, 2, 3, … within the locker.
    pub sequence: u64,
    /// The backup before this one, when there was one.
    pub previous: Option<Previous>,
    /// The host's clock when the snapshot was taken.
    pub taken_at: DateTime<Utc>,
    /// The server's clock at that moment.
    pub server_time: DateTime<Utc>,
    /// Retention in force when it was taken.
    pub keep: Keep,
    /// `taken_at` plus `keep`. From then on it is refused, swept or not.
    pub expires_at: DateTime<Utc>,
    /// The tenant key that its chunks are sealed with.
    pub key_id: KeyId,
    /// Where and what it was read from.
    pub server: Server,
    /// The description's chunks, in order.
    pub description: Vec<Entry>,
    /// Every index page, in order.
    pub pages: Vec<Page>,
    /// Until when the description's chunks are locked at least, when the vault is locked. Left out otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description_locked_until: Option<DateTime<Utc>>,
    /// How many things could not be captured; the description says which.
    pub not_captured: u64,
    /// What it took.
    pub totals: Totals,
    /// Version of tenure that wrote it, for people.
    pub written_by: String,
}

/// The backup before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// Its id.
    pub backup: BackupId,
    /// SHA-256 of its manifest.
    pub sha256: Sha256Digest,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
}

/// The server and its state at the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// `pg_control_system()`'s identifier, as text: it does not fit a JSON number.
    pub system_identifier: String,
    /// OID of the database.
    pub database_oid: u32,
    /// Timeline.
    pub timeline: u32,
    /// Snapshot LSN, as `pg_lsn` text.
    pub lsn: String,
    /// `server_version_num`.
    pub version_num: u32,
}

/// One index page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// SHA-256 of the page's bytes: its name.
    pub sha256: Sha256Digest,
    /// The backup that first wrote it; part of its object name.
    pub birth: BackupId,
    /// Length in bytes.
    pub size: u64,
    /// Number of entries.
    pub entries: u32,
    /// Until when the page and all chunks that it names are locked at least, when the vault is locked.
    pub locked_until: Option<DateTime<Utc>>,
}

impl Manifest {
    /// Until when everything that the backup needs is locked at least, as far as was known when it was made. Its manifest is locked for
    /// longer. Later backups may have extended what they share with it. `None` where the vault was not locked.
    #[must_use]
    pub fn locked_until(&self) -> Option<DateTime<Utc>> {
        self.pages.iter().map(|page| page.locked_until).fold(self.description_locked_until, Option::min)
    }
}

/// What the run read and stored. Bytes are of plaintext for `read`, of sealed objects for `stored` and `reused`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Tables whose rows are in it.
    pub tables: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes of COPY text, schema archive and description that were read.
    pub bytes_read: u64,
    /// Chunks written by this run.
    pub chunks_stored: u64,
    /// Their length, and that of new index pages.
    pub bytes_stored: u64,
    /// Chunks that were already there.
    pub chunks_reused: u64,
    /// Their length.
    pub bytes_reused: u64,
}
