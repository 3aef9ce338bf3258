//! What was said of an erased tenant: `erased/<name-tag>/<id>.json`, in the vault and the keyring, signed by the eraser.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::id::{InstallationId, KeyId, Locker, NameTag, RecordId};

/// A tombstone, or what was said of tombstones since. Never changed, and never removed: it is what keeps the tenant from coming back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasureNote {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// Must equal the id in the object's name. A tombstone has its plan's, so that a second run writes the same bytes.
    pub id: RecordId,
    /// Must equal the tag in the object's name: a pseudonym.
    pub name_tag: NameTag,
    /// What it says.
    pub says: ErasureSays,
    /// When; a plan's own time where one is carried out.
    pub created_at: DateTime<Utc>,
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ErasureSays {
    /// The tenant is erased, or will be when its grace is over. From now on every command refuses it.
    Erased {
        /// Where its backups lay.
        lockers: Vec<Locker>,
        /// Its keys.
        keys: Vec<KeyId>,
        /// Its live databases.
        databases: Vec<ErasedDatabase>,
        /// Until then nothing is destroyed, and the erasure may be withdrawn. Equals `created_at` where there is no grace.
        grace_until: DateTime<Utc>,
    },
    /// An erasure was given up before anything was destroyed.
    Withdrawn {
        /// Its tombstone.
        tombstone: RecordId,
    },
    /// The name may be a new customer's. What the tombstones name stays erased.
    Admitted {
        /// Every tombstone that there was.
        tombstones: Vec<RecordId>,
    },
}

/// A database, by what does not change with its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErasedDatabase {
    /// System identifier of its server, as text.
    pub system_identifier: String,
    /// OID.
    pub database_oid: u32,
}

impl ErasureNote {
    /// Whether it is a tombstone of this database.
    #[must_use]
    pub fn names(&self, system_identifier: &str, oid: u32) -> bool {
        let is_it = |of: &ErasedDatabase| (of.system_identifier.as_str(), of.database_oid) == (system_identifier, oid);
        matches!(&self.says, ErasureSays::Erased { databases, .. } if databases.iter().any(is_it))
    }

    /// The lockers that a tombstone names.
    #[must_use]
    pub fn lockers(&self) -> &[Locker] {
        match &self.says {
            ErasureSays::Erased { lockers, .. } => lockers,
            _ => &[],
        }
    }
}
