//! Keys that are destroyed, or are to be: what purge notes and tombstones name.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::Copy;
use crate::{
    format::purge_note::Purged,
    id::{KeyId, Locker, NameTag},
    keyring::{Census, Keyring, secret_halves},
    object_name::{Document, ObjectName, prefix},
    operation::{erased, failure::Failure, keys::KeyProblem},
    printable::Word,
    signed::{self, DocumentError},
    store::Store,
    tenant::TenantName,
    vault::{Vault, gone::LostNote, list_named},
};

/// Lockers asked at once.
const READERS: usize = 16;

/// What is said of a key that a tombstone or a purge note names and that not every copy has any more.
pub(super) const STILL_THERE: &str = "a tombstone or a purge note names it, and other copies of the keyring have it no more: what is left of it here \
                           is to be destroyed";

/// What a purge note says of a key.
pub(in crate::operation) struct Destroyed {
    /// Whose it was: a pseudonym.
    pub(in crate::operation) tag: NameTag,
    locker: Locker,
    noted_at: DateTime<Utc>,
    /// Whether everything of the locker was let go of, or the key alone.
    is_whole: bool,
}

impl Destroyed {
    /// What destroys it where it is still, or again, there; also where nobody knows its tenant's name.
    pub(in crate::operation) fn hint(&self, tenant: Option<&TenantName>) -> String {
        match (self.is_whole, tenant.map(|tenant| Word(tenant.as_str()))) {
            (true, Some(name)) => format!("`tenure purge {name} --returned` destroys it"),
            (false, Some(name)) => format!("`tenure keys prune {name}` destroys it"),
            (true, None) => format!(
                "`tenure purge TENANT --returned` destroys it: TENANT is the name that was purged at {} (locker {}), which no store says \
                 in clear any more",
                self.noted_at.to_rfc3339_opts(SecondsFormat::Secs, true),
                self.locker
            ),
            (false, None) => "`tenure keys prune --all` destroys it".to_owned(),
        }
    }
}

/// What `keys check` says of a key that is there though it was to be destroyed. Without a note of its own its whole locker was purged.
pub(super) fn problem(destroyed: Option<&Destroyed>, tenant: Option<&TenantName>, object: String) -> KeyProblem {
    let hint = match (destroyed, tenant) {
        (Some(destroyed), tenant) => destroyed.hint(tenant),
        (None, tenant) => {
            format!(
                "`tenure purge {} --returned` destroys it",
                tenant.map_or("TENANT".into(), |name| Word(name.as_str()).to_string())
            )
        }
    };
    let problem =
        format!("a purge note says that this key is destroyed, and it is still or again there: nothing uses it; {hint}");
    KeyProblem { tenant: tenant.map(|tenant| tenant.as_str().to_owned()), object, problem }
}

/// What purge notes say is destroyed.
pub(in crate::operation) struct Dead {
    pub(in crate::operation) keys: HashMap<KeyId, Destroyed>,
    pub(super) lockers: HashSet<Locker>,
    /// Every locker that is not purged as a whole.
    pub(super) living: Vec<Locker>,
    /// Notes that somebody removed or changed.
    pub(in crate::operation) lost: Vec<LostNote>,
    /// Notes that cannot be read or trusted.
    pub(in crate::operation) unreadable: Vec<DocumentError>,
}

impl Dead {
    /// Asks every locker.
    pub(in crate::operation) async fn read(vault: &Vault) -> Result<Self, Failure> {
        let mut dead =
            Self { keys: HashMap::new(), lockers: HashSet::new(), living: Vec::new(), lost: Vec::new(), unreadable: Vec::new() };
        // Those too of which the vault has nothing any more.
        let mut lockers: BTreeSet<Locker> = vault.lockers().await?.into_iter().collect();
        lockers.extend(vault.planned_lockers().await?);
        let mut read = stream::iter(lockers)
            .map(|locker| async move { vault.gone(locker).await.map(|gone| (locker, gone)) })
            .buffered(READERS);
        while let Some((locker, gone)) = read.try_next().await? {
            if gone.is_purged() {
                dead.lockers.insert(locker);
            } else {
                dead.living.push(locker);
            }
            dead.lost.extend(gone.lost);
            dead.unreadable.extend(gone.unreadable);
            for note in gone.notes {
                let (is_whole, keys) = match note.purged {
                    Purged::All { keys } => (true, keys),
                    Purged::Keys { keys } => (false, keys),
                    Purged::Backups { .. } | Purged::Database { .. } => continue,
                };
                for key in keys {
                    if is_whole || !dead.keys.contains_key(&key) {
                        dead.keys.insert(key, Destroyed { tag: note.name_tag, locker, noted_at: note.created_at, is_whole });
                    }
                }
            }
        }
        Ok(dead)
    }

    pub(super) fn has(&self, key_id: KeyId, locker: Locker) -> bool {
        self.keys.contains_key(&key_id) || self.lockers.contains(&locker)
    }

    /// The tenants' names, by their tags, as far as any copy of the keyring has a record that says them.
    pub(super) async fn names(
        &self,
        keyring: &Keyring,
        census: &Census,
        copies: &[Copy<'_>],
    ) -> Result<BTreeMap<NameTag, TenantName>, DocumentError> {
        let mut names = census.tenants.values().map(|keys| (keys.tag, keys.tenant.clone())).collect();
        for (store, _) in copies {
            self.there(keyring, *store, &mut names).await?;
        }
        Ok(names)
    }

    /// What one store lists of keys that purge notes name, under `k/` and `t/`. Nothing under `k/` is read. The name of each tenant that a
    /// record still says is added to `names`.
    ///
    /// # Errors
    /// The store's.
    pub(in crate::operation) async fn there(
        &self,
        keyring: &Keyring,
        store: &dyn Store,
        names: &mut BTreeMap<NameTag, TenantName>,
    ) -> Result<BTreeSet<KeyId>, DocumentError> {
        let halves = secret_halves(store).await?;
        let mut there: BTreeSet<KeyId> = halves.into_keys().filter(|key_id| self.keys.contains_key(key_id)).collect();
        let failed = |source| signed::store_error(store, &prefix::TENANTS, source);
        for (name, listed) in list_named(store, prefix::TENANTS).await.map_err(failed)?.0 {
            let ObjectName::Document(Document::KeyRecord(tag, key_id)) = name else { continue };
            if !self.keys.contains_key(&key_id) {
                continue;
            }
            there.insert(key_id);
            if let std::collections::btree_map::Entry::Vacant(unknown) = names.entry(tag) {
                match keyring.whole_record(store, tag, key_id, Some(listed.modified)).await {
                    Ok((_, record)) => _ = unknown.insert(record.tenant),
                    Err(error @ DocumentError::Store { .. }) => return Err(error),
                    Err(_) => {}
                }
            }
        }
        Ok(there)
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
        if self.dead.keys.contains_key(&key_id) || locker.is_some_and(|locker| self.dead.lockers.contains(&locker)) {
            return Ok(true);
        }
        let stores = std::iter::once(self.vault.store()).chain(self.copies.iter().map(|(store, _)| *store));
        Ok(erased::read_in(self.vault, stores, tag).await?.refuses_key(key_id))
    }
}
