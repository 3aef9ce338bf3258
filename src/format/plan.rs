//! Plans of destructive commands, and how far each has come: `plans/<id>/`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::purge_note::{PurgeNote, Purged, PurgedBackup};
use crate::id::{InstallationId, KeyId, Locker, NameTag, RecordId, Sha256Digest};

/// `plans/<id>/plan.json`, signed by an operator. Written before anything is destroyed; what is carried out is what it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// Must equal the id in the object's name.
    pub id: RecordId,
    /// Whose: a pseudonym.
    pub name_tag: NameTag,
    /// What is to be done.
    pub act: PlannedAct,
    /// Where its backups lie, each locker once.
    pub lockers: Vec<PlannedLocker>,
    /// The databases that are dropped; none where backups alone go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<PlannedDatabase>,
    /// When.
    pub created_at: DateTime<Utc>,
    /// What else it is bound to.
    #[serde(default, skip_serializing_if = "Bound::is_nothing")]
    pub bound: Bound,
}

/// The name tag of a plan that is about every tenant: no HMAC is all zeros.
pub const EVERYBODY: NameTag = NameTag([0; 32]);

/// What an act is bound to besides lockers and keys, as it was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// Holds that are released.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<RecordId>,
    /// Databases that become tenants' sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<PlannedSource>,
    /// To whom keys are wrapped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// Objects that are put back, with their stores' addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<String>,
    /// Where the request is filed, in another system: letters, digits and signs, and nobody's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

impl Bound {
    /// Whether it names nothing.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// A database that is to be a tenant's source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedSource {
    /// The tenant's locker.
    pub locker: Locker,
    /// The cluster's name in the configuration.
    pub cluster: String,
    /// System identifier of the server.
    pub system_identifier: String,
    /// OID of the database.
    pub database_oid: u32,
}

impl Plan {
    /// Every key that is destroyed or changed.
    pub fn keys(&self) -> impl Iterator<Item = KeyId> {
        self.lockers.iter().flat_map(|planned| planned.keys.iter().copied())
    }

    /// The note that is written in one of its lockers: before anything there is destroyed, and of a database when it is gone. `None` where
    /// nothing is. Whoever writes it, it has the same bytes.
    #[must_use]
    pub fn note(&self, planned: &PlannedLocker) -> Option<PurgeNote> {
        let purged = match self.act {
            PlannedAct::PurgeAll | PlannedAct::PurgeReturned => Purged::All { keys: planned.keys.clone() },
            PlannedAct::PurgeBefore { .. } if planned.backups.is_empty() => return None,
            PlannedAct::PurgeBefore { before } => Purged::Backups { before, backups: planned.backups.clone() },
            PlannedAct::Erase { .. } | PlannedAct::Release | PlannedAct::Admit | PlannedAct::Keys { .. } => return None,
            PlannedAct::Drop => {
                let PlannedDatabase { system_identifier, database_oid, .. } = self.databases.first()?.clone();
                Purged::Database { system_identifier, database_oid }
            }
        };
        Some(PurgeNote {
            format: self.format,
            installation: self.installation,
            locker: planned.locker,
            id: self.id,
            name_tag: self.name_tag,
            purged,
            created_at: self.created_at,
        })
    }
}

/// A destructive act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PlannedAct {
    /// All backups of a tenant, and its keys.
    PurgeAll,
    /// What earlier purges of everything named, and what was put back of it. What was backed up since stays.
    PurgeReturned,
    /// Backups taken before a time. The keys stay.
    PurgeBefore {
        /// That time.
        before: DateTime<Utc>,
    },
    /// The live database, on its primary and every replica. Backups and keys stay.
    Drop,
    /// The live database, all backups and the keys, by a drop and a purge with plans of their own; and a tombstone that lasts.
    Erase {
        /// Nothing is destroyed before this time, and it can be withdrawn.
        grace_until: DateTime<Utc>,
    },
    /// Holds end.
    Release,
    /// Other databases become tenants' sources.
    Admit,
    /// Keys are changed.
    Keys {
        /// How.
        change: KeysChange,
    },
}

/// A change of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeysChange {
    /// New keys are made.
    Rotate,
    /// Keys are wrapped to other recipients.
    Rewrap,
    /// Keys that no backup needs are destroyed.
    Prune,
    /// Lost copies are put back.
    Repair,
}

impl PlannedAct {
    /// The verb that `[approvals]` knows it by.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::PurgeAll | Self::PurgeReturned | Self::PurgeBefore { .. } => "purge",
            Self::Drop => "drop",
            Self::Erase { .. } => "erase",
            Self::Release => "release",
            Self::Admit => "admit",
            Self::Keys { .. } => "keys",
        }
    }

    /// Whether an operator carries it out, and marks its beginning and end; an eraser marks the steps of every other act.
    #[must_use]
    pub fn is_operators(self) -> bool {
        matches!(self, Self::Release | Self::Admit | Self::Keys { .. })
    }

    /// The step that a plan has come past when its notes are there.
    #[must_use]
    pub fn noted(self) -> Step {
        if self == Self::Drop { Step::Dropped } else { Step::Noted }
    }
}

/// That an operator's plan was begun, that it ended, or that any plan was cancelled: `plans/<id>/<what>.json`, signed by an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Milestone {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// Must equal the plan in the object's name.
    pub plan: RecordId,
    /// Must equal what the object's name says.
    pub what: Reached,
    /// When.
    pub at: DateTime<Utc>,
}

/// What became of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reached {
    /// From now on it may be finished, whatever becomes of its signatures.
    Begun,
    /// Nothing is left to do.
    Ended,
    /// It was given up before it began. Of a plan that has begun it says nothing.
    Cancelled,
}

impl Reached {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Begun, Self::Ended, Self::Cancelled];

    /// The object's name below the plan.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Begun => "begun.json",
            Self::Ended => "ended.json",
            Self::Cancelled => "cancelled.json",
        }
    }
}

/// A database, as it was found. It is known by these numbers: a name that was given to another one since stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedDatabase {
    /// Its cluster, by its name in the configuration.
    pub cluster: String,
    /// System identifier of the server, as text.
    pub system_identifier: String,
    /// OID of the database.
    pub database_oid: u32,
    /// Whether it let anybody in: what a drop that is given up gives back.
    pub allowed_connections: bool,
}

impl PlannedDatabase {
    /// Whether both are the same database, whatever the configuration calls its cluster.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        (&self.system_identifier, self.database_oid) == (&other.system_identifier, other.database_oid)
    }
}

/// A locker, as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedLocker {
    /// Which.
    pub locker: Locker,
    /// The cluster that its tenant was recorded on, by its name in the configuration: its server holds the tenant's lock.
    pub cluster: Option<String>,
    /// Its keys, all of which are destroyed or changed; none where backups alone go.
    pub keys: Vec<KeyId>,
    /// How many manifests it held; 0 where the act is not about backups.
    pub manifests: u64,
    /// The backups that are to go; empty where all of them are.
    pub backups: Vec<PurgedBackup>,
}

/// A step that a plan has come past: `plans/<id>/<step>.json`, signed by the eraser. Each is written once, and never taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// Must equal the plan in the object's name.
    pub plan: RecordId,
    /// Which; must equal the step in the object's name.
    pub step: Step,
    /// When.
    pub at: DateTime<Utc>,
    /// What was found then.
    pub found: Found,
    /// SHA-256 of the plan as it was when this was written: another one that has its name since has come past nothing. `None` in marks of before
    /// that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_sha256: Option<Sha256Digest>,
}

/// The steps of a plan, in their order. A purge drops nothing, and a drop destroys no keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Every locker has its purge note; of an erasure, the tombstone is there.
    Noted,
    /// Nobody is let into the database any more: from now on it is dropped, or opened again.
    Closing,
    /// Nobody held it after the notes were there: from now on things are destroyed.
    Destroying,
    /// The databases are gone from the primary.
    Dropped,
    /// Every copy of every key is destroyed, and its absence was read back, in the keyring and each mirror.
    KeysDestroyed,
    /// What may be removed of the lockers is removed.
    Emptied,
    /// Nothing is left to do.
    Closed,
}

impl Step {
    /// All of them, in their order.
    pub const ALL: [Self; 7] =
        [Self::Noted, Self::Closing, Self::Destroying, Self::Dropped, Self::KeysDestroyed, Self::Emptied, Self::Closed];

    /// The object's name below the plan.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Noted => "1-noted.json",
            Self::Destroying => "2-destroying.json",
            Self::Closing => "closing.json",
            Self::Dropped => "dropped.json",
            Self::KeysDestroyed => "3-keys-destroyed.json",
            Self::Emptied => "4-emptied.json",
            Self::Closed => "closed.json",
        }
    }
}

/// What was found at a step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Where copies of the keys were destroyed, and when each store had none any more.
    pub key_copies: Vec<KeyCopy>,
    /// Objects removed by the run that came past this step.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that a lock still keeps.
    pub locked: u64,
    /// Until when, at the latest.
    pub locked_until: Option<DateTime<Utc>>,
    /// Whether the plan was given up before anything was destroyed, and why: lockers or keys that it does not name.
    pub void: Option<String>,
    /// Servers on which a database was dropped, or that have replayed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeFound>,
}

/// A server, after a drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFound {
    /// Which: `eu-1 primary`, `eu-1 replica 2`.
    pub node: String,
    /// OID of the database that is not there any more.
    pub database_oid: u32,
    /// On the primary how far the log was flushed after the drop; on a replica how far it had replayed when it was asked.
    pub lsn: String,
    /// When it was asked.
    pub at: DateTime<Utc>,
}

/// A store that holds no copy of the keys any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyCopy {
    /// Its address.
    pub store: String,
    /// When its listing had nothing of them.
    pub absent_at: DateTime<Utc>,
    /// Objects that this run removed there.
    pub objects: u64,
}
