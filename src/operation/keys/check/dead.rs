//! Keys that are destroyed, or are to be: what purge notes and tombstones name.

use std::collections::HashSet;

use super::Copy;
use crate::{
    format::purge_note::Purged,
    id::{KeyId, Locker, NameTag},
    object_name::prefix,
    operation::failure::Failure,
    vault::{Vault, any},
};

/// Said of what a purge note names.
pub(super) const DESTROYED: &str = "a purge note says that this key is destroyed, and it is still or again there: nothing uses it; \
     `tenure purge TENANT --returned`, or `tenure keys prune` where only the key was let go of, destroys it";

/// What is said of a key that a tombstone or a purge note names and that not every copy has any more.
pub(super) const STILL_THERE: &str = "a tombstone or a purge note names it, and other copies of the keyring have it no more: what is left of it here \
                           is to be destroyed";

/// What purge notes say is destroyed.
pub(super) struct Dead {
    pub(super) keys: HashSet<KeyId>,
    pub(super) lockers: HashSet<Locker>,
    /// Every locker that is not purged as a whole.
    pub(super) living: Vec<Locker>,
}

impl Dead {
    pub(super) async fn read(vault: &Vault) -> Result<Self, Failure> {
        let mut dead = Self { keys: HashSet::new(), lockers: HashSet::new(), living: Vec::new() };
        for locker in vault.lockers().await? {
            let gone = vault.gone(locker).await?;
            if gone.is_purged() {
                dead.lockers.insert(locker);
            } else {
                dead.living.push(locker);
            }
            for note in gone.notes {
                if let Purged::All { keys } | Purged::Keys { keys } = note.purged {
                    dead.keys.extend(keys);
                }
            }
        }
        Ok(dead)
    }

    pub(super) fn has(&self, key_id: KeyId, locker: Locker) -> bool {
        self.keys.contains(&key_id) || self.lockers.contains(&locker)
    }
}

/// What keeps keys from being put back.
pub(super) struct Refusals<'a> {
    pub(super) vault: &'a Vault,
    pub(super) dead: &'a Dead,
    pub(super) copies: &'a [Copy<'a>],
}

impl Refusals<'_> {
    /// Whether a purge note or a tombstone, in the vault or in any copy of the keyring, names the key.
    pub(super) async fn cover(&self, tag: NameTag, key_id: KeyId, locker: Option<Locker>) -> Result<bool, Failure> {
        if self.dead.keys.contains(&key_id) || locker.is_some_and(|locker| self.dead.lockers.contains(&locker)) {
            return Ok(true);
        }
        if self.vault.is_erased(tag).await? {
            return Ok(true);
        }
        for (store, _) in self.copies {
            if any(*store, &prefix::erased(tag)).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
