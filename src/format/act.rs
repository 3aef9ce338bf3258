//! What a command did that lets go of something or changes keys: `runs/<yyyy>/<mm>/<dd>/<id>.json`.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    backup_id::BackupId,
    id::{InstallationId, KeyId, Locker, NameTag, RecordId},
};

/// The record of one act, signed by whoever did it. It names no tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// Must equal the id in the object's name.
    pub id: RecordId,
    /// What was done.
    pub command: ActCommand,
    /// The plan that it carried out, where there is one.
    pub plan: Option<RecordId>,
    /// Its beginning; the object's name has its date.
    pub started_at: DateTime<Utc>,
    /// Its end.
    pub ended_at: DateTime<Utc>,
    /// How it ended.
    pub outcome: ActOutcome,
    /// What it did, by locker. Lockers to which nothing was done are left out.
    pub lockers: Vec<ActOn>,
    /// The certificate that says the same to a regulator; `null` while there is none.
    pub certificate: Option<RecordId>,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActCommand {
    /// Backups past their age, and what nothing refers to any more, were removed.
    Expire,
    /// Backups were removed before their time.
    Purge,
    /// A hold was placed.
    Hold,
    /// Holds were released.
    Release,
    /// New tenant keys were made.
    KeysRotate,
    /// Tenant keys were wrapped anew.
    KeysRewrap,
    /// Keys that nothing is sealed with any more were destroyed.
    KeysPrune,
}

/// How an act ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ActOutcome {
    /// Nothing is left to do.
    Done,
    /// Something is left, and another run goes on with it.
    Open,
    /// A brake stopped it before anything was removed: it waits for a person.
    Waiting,
    /// It failed.
    Failed,
}

/// What was done to one locker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActOn {
    /// The locker.
    pub locker: Locker,
    /// Whose it is, where the keyring still says so: a pseudonym.
    pub name_tag: Option<NameTag>,
    /// Backups that were removed, or that wait to be.
    pub backups: Vec<BackupId>,
    /// Keys that were made, wrapped or destroyed.
    pub keys: Vec<KeyId>,
    /// Holds that were placed or released.
    pub holds: Vec<RecordId>,
    /// Objects that were removed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}
