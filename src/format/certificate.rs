//! What an erasure did, for whoever has to answer for it: `certificates/<plan>/<n>.json`, signed by the eraser.
//!
//! Each document says all that was known when it was written, and none is ever changed: the one with the highest number counts, and names the one
//! before it by its SHA-256. A number has one name, so that two runs never write beside each other. None holds a name of a tenant, a database
//! or a role.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inventory::Inventory;
use crate::{
    backup_id::BackupId,
    id::{InstallationId, KeyId, Locker, NameTag, RecordId, Sha256Digest},
};

/// One document of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// The plan that was carried out; must equal the id in the object's name. The tombstone has it as well.
    pub id: RecordId,
    /// From 1; must equal the number in the object's name. A number may be missing: a run was killed while it wrote.
    pub sequence: u32,
    /// SHA-256 of the newest document that was there when this one was written; null for the first.
    pub previous: Option<Sha256Digest>,
    /// When.
    pub written_at: DateTime<Utc>,
    /// Who is erased: a pseudonym.
    pub name_tag: NameTag,
    /// The last stage with nothing open before it.
    pub stage: Stage,
    /// Who asked for it and who agreed.
    pub request: Request,
    /// When each stage came about, whatever else was still open then.
    pub reached: Vec<Reached>,
    /// For how long tenure was at work, by a clock that nobody sets: all runs that wrote one of these documents, and no waiting between them.
    pub working_seconds: u64,
    /// The live database.
    pub live: Live,
    /// The backups.
    pub backups: Backups,
    /// The keys without which no backup can be read.
    pub keys: Keys,
    /// Databases that restores made of the backups.
    pub copies: Vec<MadeCopy>,
    /// What remains where tenure does not reach.
    pub remains: Remains,
    /// What is left to be done; empty once it is closed.
    pub open: Vec<Open>,
}

/// How far an erasure has come: the last stage with nothing open before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Planned, or begun.
    Requested,
    /// Every command refuses the tenant, and nothing is destroyed yet.
    Suspended,
    /// The database is gone from the primary and every replica.
    LiveErased,
    /// And no copy of any key is left: nothing that remains can be read.
    KeysDestroyed,
    /// And nothing is left in the vault.
    Closed,
    /// It was withdrawn: nothing was destroyed.
    Withdrawn,
}

impl Stage {
    /// All of them, in their order.
    pub const ALL: [Self; 6] =
        [Self::Requested, Self::Suspended, Self::LiveErased, Self::KeysDestroyed, Self::Closed, Self::Withdrawn];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Suspended => "suspended",
            Self::LiveErased => "live-erased",
            Self::KeysDestroyed => "keys-destroyed",
            Self::Closed => "closed",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// Who asked for it and who agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Where the request is filed, in another system; null where that was not said.
    pub reference: Option<String>,
    /// SHA-256 of the plan that was signed.
    pub plan_sha256: Sha256Digest,
    /// When it was planned.
    pub planned_at: DateTime<Utc>,
    /// The operator who planned it.
    pub planned_by: Signatory,
    /// Operators who signed the plan besides.
    pub approved_by: Vec<Signatory>,
    /// How many operators had to sign, who planned it among them; 0 where nobody was asked.
    pub approvals_needed: u32,
    /// Nothing is destroyed before this time.
    pub grace_until: DateTime<Utc>,
}

/// Somebody who signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signatory {
    /// As the list of signers has him.
    pub principal: String,
    /// SHA-256 fingerprint of the key.
    pub fingerprint: String,
    /// When the store got the signature.
    pub at: DateTime<Utc>,
}

/// A stage, and when it came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reached {
    /// Which.
    pub stage: Stage,
    /// When.
    pub at: DateTime<Utc>,
}

/// The live database, on its primary and every replica.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// The databases that were to go.
    pub databases: Vec<Database>,
    /// The servers that were asked.
    pub nodes: Vec<Node>,
}

/// A database, by what does not change with its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Its cluster, by its name in the configuration.
    pub cluster: String,
    /// System identifier of the server, as text.
    pub system_identifier: String,
    /// OID.
    pub database_oid: u32,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Which: `eu-1 primary`, `eu-1 replica 2`.
    pub node: String,
    /// `gone`: it was asked, and does not have the database. `given-up`: an operator said that it is not asked any more. Otherwise why that cannot be
    /// said.
    pub state: String,
    /// On the primary: how far the log was flushed after the drop.
    pub drop_lsn: Option<String>,
    /// On a replica: how far it had replayed when it was asked.
    pub replay_lsn: Option<String>,
    /// When it was asked; null where it did not answer.
    pub at: Option<DateTime<Utc>>,
}

/// The backups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Backups {
    /// Where they lay.
    pub lockers: Vec<Locker>,
    /// How many.
    pub count: u64,
    /// When the oldest was taken.
    pub first: Option<DateTime<Utc>>,
    /// When the newest was taken.
    pub last: Option<DateTime<Utc>>,
    /// Every object, as it was found before the first was removed; null until then.
    pub inventory: Option<Inventory>,
    /// What a listing showed after the last removal; null until then.
    pub left: Option<Left>,
}

/// What is left of the backups, all of it unreadable once the keys are destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Left {
    /// When it was listed.
    pub at: DateTime<Utc>,
    /// Objects. Notes that say what was let go of are not counted: they stay.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When the last lock on them ends; null where nothing is locked.
    pub locked_until: Option<DateTime<Utc>>,
}

/// The keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Every key.
    pub keys: Vec<KeyId>,
    /// Whether something was opened with one before they were destroyed.
    pub opened: Opened,
    /// Every store that had copies of them.
    pub copies: Vec<KeyCopy>,
}

/// Whether the keys that were destroyed were those of the backups, by a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Opened {
    /// Nobody gave an identity.
    NotTested,
    /// A chunk opened while the keys were there.
    Opened {
        /// The backup that it is a part of.
        #[schemars(with = "String")]
        backup: BackupId,
        /// The key.
        key: KeyId,
        /// SHA-256 of the chunk as it was stored.
        chunk_sha256: Sha256Digest,
        /// When.
        at: DateTime<Utc>,
    },
}

/// A store that had copies of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyCopy {
    /// Its address.
    pub store: String,
    /// When its listing had nothing of the keys any more; null while that is not so.
    pub destroyed_at: Option<DateTime<Utc>>,
    /// Objects of the keys in the last listing; null where the store did not answer. Once the keys are destroyed there are none.
    pub left: Option<Vec<String>>,
}

/// A database that a restore made, or that was the tenant's before one took its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MadeCopy {
    /// Of this backup; null of one that was the tenant's before.
    #[schemars(with = "Option<String>")]
    pub backup: Option<BackupId>,
    /// Where, by the cluster's name in the configuration then.
    pub cluster: String,
    /// System identifier of the server, as text.
    pub system_identifier: String,
    /// OID; null where the restore did not come to writing it down.
    pub database_oid: Option<u32>,
    /// When; of one that was the tenant's before, when that was recorded.
    pub made_at: DateTime<Utc>,
    /// What became of it.
    pub state: CopyState,
}

/// What became of a database that a restore made, by its OID, when its record was about to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CopyState {
    /// It is not there.
    Gone,
    /// It is there: the erasure is not through.
    There,
    /// An operator said that it stays, or that nobody asks for it any more.
    Stays,
    /// Its server, or its OID, is not known any more, or could not be asked.
    Unknown,
}

impl MadeCopy {
    /// What it is, in a few words.
    #[must_use]
    pub fn what(&self) -> String {
        match self.backup {
            Some(backup) => format!("copy of backup {backup}"),
            None => "database that was the tenant's before".to_owned(),
        }
    }
}

impl CopyState {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::There => "there",
            Self::Stays => "stays",
            Self::Unknown => "unknown",
        }
    }
}

/// What remains where tenure does not reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remains {
    /// Copies that somebody else keeps, by the configuration; null where it names none: whether there are any is unknown.
    pub elsewhere: Option<Vec<Trace>>,
    /// Traces, by the configuration: `wal`, `backups` (of other tools), `logs` and whatever else it names.
    pub traces: Vec<Trace>,
    /// What holds for every erasure.
    pub always: Vec<String>,
}

/// Something that remains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// What.
    pub what: String,
    /// After how long it is gone, like `35 days`; null where nobody configured that: unknown.
    pub gone_after: Option<String>,
    /// Until when, counted from when the live database was gone everywhere; null until then, or where it is unknown.
    pub until: Option<DateTime<Utc>>,
}

/// Something that is left to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// As the report of the erasure names it: `live`, `grace`, `copy`, `key-copy`, `locked`, `last-look`, `unreachable`, ….
    pub kind: String,
    /// The server or the store that it is about; null where only the tenant's or a database's name would tell.
    pub object: Option<String>,
    /// When it can be closed, where that is known.
    pub until: Option<DateTime<Utc>>,
}

impl Certificate {
    /// The name of this document below `certificates/<id>/`.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{}.json", self.sequence)
    }

    /// The number that a document's name says.
    #[must_use]
    pub fn parse_file(name: &str) -> Option<u32> {
        let number = name.strip_suffix(".json")?;
        number.parse().ok().filter(|sequence: &u32| *sequence > 0 && sequence.to_string() == number)
    }

    /// What is to be said after all, where another run wrote `newest` since this one looked: nothing that was certified is lost, and no lower stage
    /// is put over a higher one.
    #[must_use]
    pub fn after(self, newest: &Self) -> Self {
        let mine = self.clone();
        let (mut said, other) = if newest.stage > self.stage { (newest.clone(), &mine) } else { (self, newest) };
        // The first inventory was made before the first object was removed.
        let listed = [newest, &mine].into_iter().find(|one| one.backups.inventory.is_some());
        if let Some(listed) = listed {
            (said.backups.inventory, said.copies) = (listed.backups.inventory.clone(), listed.copies.clone());
        }
        if said.keys.opened == Opened::NotTested {
            said.keys.opened = other.keys.opened.clone();
        }
        said.backups.left = said.backups.left.or(other.backups.left);
        for reached in &other.reached {
            if !said.reached.iter().any(|has| has.stage == reached.stage) {
                said.reached.push(*reached);
            }
        }
        said.reached.sort_by_key(|reached| reached.at);
        for node in &other.live.nodes {
            match said.live.nodes.iter_mut().find(|has| has.node == node.node) {
                Some(has) if has.state != GONE && node.state == GONE => *has = node.clone(),
                Some(_) => {}
                None => said.live.nodes.push(node.clone()),
            }
        }
        for copy in &other.keys.copies {
            match said.keys.copies.iter_mut().find(|has| has.store == copy.store) {
                Some(has) if has.destroyed_at.is_none() && copy.destroyed_at.is_some() => *has = copy.clone(),
                Some(_) => {}
                None => said.keys.copies.push(copy.clone()),
            }
        }
        said
    }

    /// Whether both say the same of the erasure, whenever they were written.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let said = |certificate: &Self| {
            let mut said = certificate.clone();
            (said.sequence, said.previous, said.working_seconds) = (0, None, 0);
            said.written_at = DateTime::UNIX_EPOCH;
            if let Some(left) = &mut said.backups.left {
                left.at = DateTime::UNIX_EPOCH;
            }
            said
        };
        said(self) == said(other)
    }
}

/// What is said of a server that does not have the database any more.
pub const GONE: &str = "gone";

/// What is said of a server that is not asked any more, because an operator said so.
pub const GIVEN_UP: &str = "given-up";

/// What every certificate says of what nobody can know.
pub const ALWAYS: [&str; 3] = [
    "A copy of a wrapped key that somebody made earlier, together with a recovery identity of that time, could still open what ciphertext remains, or \
     was copied elsewhere.",
    "PostgreSQL's log keeps the rows until its segments are recycled, and so do archives of it, physical backups, dumps and snapshots that others made.",
    "The name tag is a pseudonym: whoever holds the name key can test whether a name is this one.",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_the_number() {
        assert_eq!(Certificate::parse_file("12.json"), Some(12));
        for other in ["0.json", "01.json", "+1.json", "1-closed.json", "1", "inventory-1.jsonl", "closed.json"] {
            assert_eq!(Certificate::parse_file(other), None, "{other}");
        }
    }
}
