//! What a command did that lets go of something or changes keys, and what a worker did in a night: `runs/<yyyy>/<mm>/<dd>/<id>.json`.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    backup_id::BackupId,
    id::{InstallationId, KeyId, Locker, NameTag, RecordId, Sha256Digest},
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
    /// Whom it was about, where no locker says so: pseudonyms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub about: Vec<NameTag>,
    /// Why it was refused, or a restore failed: the kind of the failure, like `on-hold`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What a scheduled backup did for each tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub night: Option<Night>,
}

/// What one worker's run did for a schedule at one of its times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Night {
    /// The schedule's name.
    pub schedule: String,
    /// The time that it was due at, before jitter. Runs of several workers that say the same belong together.
    pub due_at: DateTime<Utc>,
    /// Which worker: random, new each time one starts. No host's name.
    pub worker: RecordId,
    /// Tenants that were due and not begun when the window ended.
    pub waiting: u64,
    /// Every tenant that the run looked at, as it stood at the end.
    pub tenants: Vec<NightOf>,
}

/// How one tenant stood at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NightOf {
    /// Which: a pseudonym.
    pub name_tag: NameTag,
    /// What became of it.
    pub outcome: NightOutcome,
    /// Its newest good backup; `null` while it has none.
    pub newest: Option<Newest>,
    /// How long its last try took; `null` where this run made none.
    pub duration_ms: Option<u64>,
    /// Plaintext that its last try read.
    pub bytes_read: u64,
    /// Sealed bytes that its last try stored.
    pub bytes_stored: u64,
    /// How often this run tried.
    pub attempts: u32,
    /// Why there is no new backup: the kind of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A backup, and what says that it is still the same one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Newest {
    /// Its locker.
    pub locker: Locker,
    /// Its id.
    pub backup: BackupId,
    /// SHA-256 of its manifest.
    pub sha256: Sha256Digest,
    /// The time of its snapshot.
    pub taken_at: DateTime<Utc>,
}

/// What became of a tenant in a night.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NightOutcome {
    /// This run backed it up.
    Done,
    /// It was not due: another run had backed it up since.
    Current,
    /// Every try failed.
    Failed,
    /// A guard refused it.
    Refused,
    /// The window ended before it was begun.
    Waiting,
    /// Another run was at it until the end.
    Busy,
    /// The worker was stopped, or its deadline came.
    Interrupted,
}

impl NightOutcome {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Current => "current",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Waiting => "waiting",
            Self::Busy => "busy",
            Self::Interrupted => "interrupted",
        }
    }
}

impl Act {
    /// An act under an id of its own, about nobody yet. Its times are beginning and end.
    #[must_use]
    pub fn new(
        installation: InstallationId,
        command: ActCommand,
        (started_at, ended_at): (DateTime<Utc>, DateTime<Utc>),
        outcome: ActOutcome,
    ) -> Self {
        Self {
            format: 1,
            installation,
            id: RecordId::random(),
            command,
            plan: None,
            started_at,
            ended_at,
            outcome,
            lockers: Vec::new(),
            certificate: None,
            about: Vec::new(),
            reason: None,
            night: None,
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActCommand {
    /// A schedule's tenants were backed up.
    Backup,
    /// What is stored was looked through, as scheduled.
    Verify,
    /// Backups past their age, and what nothing refers to any more, were removed.
    Expire,
    /// Backups were removed before their time.
    Purge,
    /// A live database was dropped.
    Drop,
    /// A tenant was erased, or its erasure was begun or withdrawn.
    Erase,
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
    /// Lost copies of keys were put back.
    KeysRepair,
    /// Other databases became tenants' sources.
    Admit,
    /// A backup was restored.
    Restore,
    /// The fleet was looked through for what was erased; databases that came back were closed.
    Reconcile,
}

/// How an act ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ActOutcome {
    /// It is about to destroy something. Another record says how that ended; where there is none, it was interrupted.
    Begun,
    /// Nothing is left to do.
    Done,
    /// Something is left, and another run goes on with it.
    Open,
    /// A brake stopped it before anything was removed: it waits for a person.
    Waiting,
    /// It failed.
    Failed,
    /// A guard refused it: nothing was done.
    Refused,
}

impl ActCommand {
    /// As it is typed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Verify => "verify",
            Self::Expire => "expire",
            Self::Purge => "purge",
            Self::Drop => "drop",
            Self::Erase => "erase",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::KeysRotate => "keys rotate",
            Self::KeysRewrap => "keys rewrap",
            Self::KeysPrune => "keys prune",
            Self::KeysRepair => "keys repair",
            Self::Admit => "admit",
            Self::Restore => "restore",
            Self::Reconcile => "reconcile",
        }
    }
}

impl ActOutcome {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Done => "done",
            Self::Open => "open",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
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
