//! Keys whose records cannot be trusted: what is to be destroyed is known by their names alone.

use std::collections::{BTreeMap, BTreeSet};

use super::Purge;
use crate::{
    id::{KeyId, Locker},
    keyring::TenantKeys,
    object_name::prefix,
    operation::{
        failure::{Failure, FailureClass},
        lost,
    },
    printable::Word,
    signed::DocumentError,
    tenant::TenantName,
};

impl Purge<'_> {
    /// Adds keys to the lockers that are to be purged: to those whose newest backup is sealed with one and that no record claims; otherwise to
    /// the tenant's others.
    ///
    /// # Errors
    /// One that another tenant has a record of (5): whoever wrote ours wants it destroyed. No locker that they could belong to (5). Anything of
    /// others that the keyring lost, or that is not to be trusted (5).
    pub(super) async fn add_untrusted(
        &self,
        tenant: &TenantName,
        mut untrusted: BTreeSet<KeyId>,
        lockers: &mut BTreeMap<Locker, BTreeSet<KeyId>>,
    ) -> Result<Vec<(KeyId, Option<Locker>)>, Failure> {
        let tag = self.keyring.tag(tenant);
        for key in &untrusted {
            if self.keyring.tags_of(*key).await?.iter().any(|other| *other != tag) {
                let message = format!("key {key} has a record of another tenant: that of tenant {tenant} was forged");
                return Err(Failure::new(FailureClass::Integrity, "anothers-key", key, message).hint(format!(
                    "Nothing was done. Move t/{tag}/{key}.json and its .sig out of the keyring, with its owner's rights, and run it again."
                )));
            }
        }
        let mut census = self.keyring.census().await?;
        let its = prefix::key_records(tag);
        // What is wrong with others' records may be that they do not claim what is theirs.
        if let Some(error) = census.problems.drain(..).find(|error| !error.object().contains(&its)) {
            return Err(others_first(Failure::from(error)));
        }
        let known: BTreeSet<Locker> = census.tenants.values().flat_map(TenantKeys::lockers).collect();
        let mut placed = Vec::new();
        for locker in self.vault.lockers().await?.into_iter().filter(|locker| !known.contains(locker)) {
            if let Some(key) = self.vault.newest_key(locker).await?.filter(|key| untrusted.contains(key)) {
                lockers.entry(locker).or_default().insert(key);
                placed.push((key, Some(locker)));
            } else if self.vault.has_manifests(locker).await? && !self.vault.is_purged(locker).await? {
                return Err(others_first(lost::keyring_incomplete(locker, "")));
            }
        }
        census.tenants.remove(tenant);
        if let Some(lost) = lost::key_without_record(self.vault, &census).await? {
            return Err(others_first(lost));
        }
        untrusted.retain(|key| !placed.iter().any(|(placed, _)| placed == key));
        let Some(mut first) = lockers.first_entry() else {
            let message = format!("which locker is tenant {tenant}'s is not known: none of its key records can be trusted");
            return Err(Failure::new(FailureClass::Integrity, "locker-unknown", tenant, message)
                .hint("Nothing was done. Put the key records back from a copy of the keyring."));
        };
        first.get_mut().extend(&untrusted);
        placed.extend(untrusted.into_iter().map(|key| (key, None)));
        Ok(placed)
    }
}

/// Whose a key or a locker is can be told by names alone only where everybody else's records are whole.
fn others_first(failure: Failure) -> Failure {
    let hint = format!("Nothing was done: what goes by its name may be another tenant's as long as that is so. {}", failure.hint);
    failure.hint(hint)
}

/// Why a purge stops at such a record, and what gets past it.
pub(super) fn stops(tenant: &TenantName, error: DocumentError) -> Failure {
    let failure = Failure::from(error);
    let hint = format!(
        "Nothing was destroyed. Where a mirror has it whole, move it away with its .sig and run `tenure keys repair`. Otherwise `tenure purge {} \
         --untrusted-keys` destroys the key by its name, record and secret half.",
        Word(tenant.as_str())
    );
    failure.hint(hint)
}

/// What is said of such keys.
pub(super) fn notes(keys: &[(KeyId, Option<Locker>)]) -> impl Iterator<Item = String> {
    keys.iter().map(|(key, locker)| {
        let locker = locker.map(|locker| {
            format!("; locker {locker}, which no record claims and whose newest backup is sealed with it, goes too")
        });
        format!(
            "the record of key {key} cannot be trusted: the key goes by its name, record and secret half{}",
            locker.unwrap_or_default()
        )
    })
}
