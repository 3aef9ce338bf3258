//! Which of a tenant's keys count. What a purge note names is used by nothing, wherever and whenever it turns up.

use std::collections::BTreeMap;

use super::{
    erased::{self, Erasures},
    failure::{Failure, FailureClass},
    fleet::{Returned, ReturnedWhat},
    lost,
};
use crate::{
    format::{key_record::KeyRecord, purge_note::Purged},
    id::Locker,
    keyring::{Keyring, TenantKeys},
    printable::Word,
    signed::DocumentError,
    tenant::TenantName,
    vault::{Vault, gone::Gone},
};

/// The keys of one tenant, without those that a purge note names; `None` when there is no record at all.
///
/// # Errors
/// A record or a purge note that cannot be read or trusted: nothing goes on by guessing what it says.
pub async fn keys(vault: &Vault, keyring: &Keyring, tenant: &TenantName) -> Result<Option<TenantKeys>, DocumentError> {
    let Some(mut keys) = keyring.keys(tenant).await? else { return Ok(None) };
    match set_aside_dead(vault, &mut keys).await?.pop() {
        Some(error) => Err(error),
        None => {
            let erasures = erased::read_both(vault, keyring, keys.tag).await?;
            set_aside_erased(&erasures, &mut keys);
            Ok(Some(keys))
        }
    }
}

/// Moves the keys of an erased tenant to [`TenantKeys::dead`] where its name is a new customer's: old copies brought them back.
pub fn set_aside_erased(erasures: &Erasures, keys: &mut TenantKeys) {
    // While the name itself is refused, the erasure still needs them.
    if erasures.is_refused() {
        return;
    }
    let was = |record: &mut KeyRecord| erasures.had(record.key_id, record.locker);
    keys.dead.extend(keys.records.extract_if(.., was));
    keys.dead.extend(keys.without_secret.extract_if(.., was));
}

/// As [`keys`], of a tenant that must have some.
///
/// # Errors
/// As [`keys`]; a tenant that is unknown, or was purged.
pub async fn known(vault: &Vault, keyring: &Keyring, tenant: &TenantName) -> Result<TenantKeys, Failure> {
    match keys(vault, keyring, tenant).await? {
        Some(keys) if !keys.lockers().is_empty() => Ok(keys),
        Some(keys) => Err(match unfinished(vault, &keys.dead, tenant).await? {
            Some(failure) => failure,
            // Single keys are destroyed when newer ones took their place: then the keyring lost those.
            None => lost::incomplete(vault, keyring).await?.unwrap_or_else(|| lost::purged(tenant, None)),
        }),
        None => Err(lost::unknown_tenant(vault, keyring, tenant).await),
    }
}

/// Moves the keys that purge notes name to [`TenantKeys::dead`]. Gives the notes that cannot be read: each stands for all that it might say.
///
/// # Errors
/// [`DocumentError::Store`] only.
pub async fn set_aside_dead(vault: &Vault, keys: &mut TenantKeys) -> Result<Vec<DocumentError>, DocumentError> {
    Ok(set_aside(vault, keys).await?.into_values().flat_map(|gone| gone.unreadable).collect())
}

/// As [`set_aside_dead`]; gives all notes, by locker.
///
/// # Errors
/// [`DocumentError::Store`] only.
pub async fn set_aside(vault: &Vault, keys: &mut TenantKeys) -> Result<BTreeMap<Locker, Gone>, DocumentError> {
    let mut gone: BTreeMap<Locker, Gone> = BTreeMap::new();
    for locker in keys.lockers() {
        gone.insert(locker, vault.gone(locker).await?);
    }
    let is_dead = |record: &mut KeyRecord| gone.get(&record.locker).is_some_and(|gone| gone.names_key(record.key_id));
    keys.dead.extend(keys.records.extract_if(.., is_dead));
    keys.dead.extend(keys.without_secret.extract_if(.., is_dead));
    let is_alone = |record: &&KeyRecord| gone.get(&record.locker).is_some_and(|gone| !gone.is_purged());
    keys.pruned.extend(keys.dead.iter().filter(is_alone).map(|record| record.key_id));
    Ok(gone)
}

/// Why nothing new may begin for a tenant while keys of it are there that should not be: the purge that destroys them has not come past
/// that. `None` where it has, and somebody put them back.
///
/// # Errors
/// A note or a mark that cannot be read or trusted.
pub async fn unfinished(vault: &Vault, dead: &[KeyRecord], tenant: &TenantName) -> Result<Option<Failure>, DocumentError> {
    for record in dead {
        let gone = vault.gone(record.locker).await?;
        let (mut purged, mut destroyed) = (false, false);
        for note in gone.notes.iter().filter(|note| matches!(note.purged, Purged::All { .. })) {
            purged = true;
            destroyed |= vault.keys_are_destroyed(note.id).await?;
        }
        if purged && !destroyed {
            let message = format!("backups of tenant {tenant} are being purged, and not all of its keys are destroyed yet");
            return Ok(Some(
                Failure::new(FailureClass::Refused, "tenant-purged", tenant, message)
                    .hint(format!("Nothing was read or written. `tenure purge {}` finishes it.", Word(tenant.as_str()))),
            ));
        }
    }
    Ok(None)
}

/// What should be said of keys that are there, though a purge note names them.
pub fn returned(keys: &TenantKeys) -> impl Iterator<Item = Returned> {
    let tenant = &keys.tenant;
    keys.dead.iter().map(move |record| {
        let key = record.key_id;
        let name = Word(tenant.as_str());
        let (what, again) = match keys.pruned.contains(&key) {
            true => (ReturnedWhat::Pruned, format!("`tenure keys prune {name}` destroys it again")),
            false => (ReturnedWhat::Purged, format!("`tenure purge {name} --returned` destroys it")),
        };
        let said = format!("key {key} of tenant {tenant} is there, and was to be destroyed: nothing uses it; {again}");
        Returned { tenant: tenant.clone(), what, said }
    })
}
