//! What was let go of before its time: `gone/<id>.json`, signed by the eraser.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    backup_id::BackupId,
    id::{InstallationId, KeyId, Locker, NameTag, RecordId, Sha256Digest},
};

/// A purge or drop note. One about backups or keys is written before anything that it names is removed, one about a database when it is
/// gone. None is ever removed: what it names never comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgeNote {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// Must equal the locker in the object's name.
    pub locker: Locker,
    /// Must equal the id in the object's name. Where a plan is carried out it is the plan's, so that a second run writes the same bytes.
    pub id: RecordId,
    /// Whose it was: a pseudonym.
    pub name_tag: NameTag,
    /// What is let go of.
    pub purged: Purged,
    /// When; a plan's own time where one is carried out.
    pub created_at: DateTime<Utc>,
}

/// What a purge note lets go of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Purged {
    /// Everything in the locker. It never counts again, and neither do its keys.
    All {
        /// Every key whose copies are destroyed.
        keys: Vec<KeyId>,
    },
    /// These backups. The locker and its keys stay: what is removed is not shredded.
    Backups {
        /// Those taken before this time.
        before: DateTime<Utc>,
        /// Each of them.
        backups: Vec<PurgedBackup>,
    },
    /// Keys that sealed nothing which is still there. The locker stays.
    Keys {
        /// Every key whose copies are destroyed.
        keys: Vec<KeyId>,
    },
    /// The live database, which is not there any more. The locker and its keys stay: nobody misses the tenant, and it can be restored.
    Database {
        /// System identifier of its server, as text.
        system_identifier: String,
        /// Its OID.
        database_oid: u32,
    },
}

/// A backup that was removed before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgedBackup {
    /// Its id.
    pub backup: BackupId,
    /// SHA-256 of its manifest.
    pub sha256: Sha256Digest,
    /// When it would have expired.
    pub expires_at: DateTime<Utc>,
}
