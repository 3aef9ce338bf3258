//! What purges left: those that are not through, plans that are not to be trusted, and keys that are there though they were destroyed.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::{Report, installation::Installation};
use crate::{
    id::{KeyId, Locker, NameTag},
    keyring::{Keyring, TenantKeys},
    operation::{
        failure::Failure,
        fleet::Fleet,
        keys::check::dead::{Dead, Destroyed},
        lost, unfinished,
    },
    tenant::TenantName,
    vault::Vault,
};

pub(super) async fn check(installation: &Installation, fleet: &Fleet, now: DateTime<Utc>) -> Report {
    let mut report = Report::default();
    // That they cannot be read was said already.
    let (Some(vault), Some(keyring)) = (&installation.vault, &installation.keyring) else { return report };
    // Purged tenants live on: their databases tell their names when no key record does.
    let answered = fleet.clusters.iter().filter_map(|(_, discovery)| discovery.as_ref().ok());
    let living = answered.flat_map(|discovery| discovery.by_name().map(|(tenant, _)| tenant.clone()));
    let known = living.chain(installation.known.census.tenants.keys().cloned());
    let mut names: BTreeMap<NameTag, TenantName> = known.map(|tenant| (keyring.tag(&tenant), tenant)).collect();
    if let Err(failure) = returned(vault, keyring, installation, &mut names, &mut report).await {
        report.failure(&format!("keyring {}", keyring.store().address()), &failure);
    }
    if let Err(failure) = erased(vault, keyring, installation, &mut report).await {
        report.failure(&format!("vault {}", vault.store().address()), &failure);
    }
    match unfinished::purges(vault, keyring, &names, now).await {
        Ok(open) => open.iter().for_each(|(_, failure)| report.failure(&failure.object, failure)),
        Err(failure) => report.failure(&format!("vault {}", vault.store().address()), &failure),
    }
    report
}

/// Backups of erased tenants without a note of their purge: an older vault was put back.
async fn erased(vault: &Vault, keyring: &Keyring, installation: &Installation, report: &mut Report) -> Result<(), Failure> {
    let known: BTreeSet<Locker> = installation.known.census.tenants.values().flat_map(TenantKeys::lockers).collect();
    for locker in lost::erased_lockers(vault, keyring).await?.difference(&known) {
        if vault.has_manifests(*locker).await? && !vault.is_purged(*locker).await? {
            report.warning(
                format!("vault {}", vault.store().address()),
                format!("locker {locker} holds backups of an erased tenant: the keyring has no key that opens them"),
                "Somebody put an old copy of the vault back. Nothing reads them; each goes with `tenure expire` when its time is over.",
            );
        }
    }
    Ok(())
}

/// Copies of keys that purge notes name, store by store.
async fn returned(
    vault: &Vault,
    keyring: &Keyring,
    installation: &Installation,
    names: &mut BTreeMap<NameTag, TenantName>,
    report: &mut Report,
) -> Result<(), Failure> {
    let dead = Dead::read(vault).await?;
    for lost in &dead.lost {
        report.error(lost.error.object(), lost.what(), "What it let go of stays let go of: nothing reads it.");
    }
    for error in &dead.unreadable {
        report.error(
            error.object(),
            format!("{}: it may say that everything in its locker is purged, and so it does", error.what()),
            "Find out who changed it, and put it back from a copy of the vault: nothing of its tenant is read until then.",
        );
    }
    let mut there = dead.there(keyring, keyring.store(), names).await?;
    // Those that the keyring has a record of are named with it.
    there.retain(|key_id| !installation.known.dead.contains(key_id));
    let mut found = vec![(format!("keyring {}", keyring.store().address()), there)];
    for mirror in keyring.mirrors() {
        // That one cannot be reached is said with the store.
        if let Ok(there) = dead.there(keyring, &**mirror, names).await {
            found.push((format!("mirror {}", mirror.address()), there));
        }
    }
    for (store, keys) in &found {
        let mut by_tenant: BTreeMap<NameTag, Vec<(&KeyId, &Destroyed)>> = BTreeMap::new();
        for (key_id, destroyed) in keys.iter().filter_map(|key_id| Some((key_id, dead.keys.get(key_id)?))) {
            by_tenant.entry(destroyed.tag).or_default().push((key_id, destroyed));
        }
        for (tag, keys) in by_tenant {
            let tenant = names.get(&tag);
            let whose = tenant.map_or("a tenant whose name is not known here".to_owned(), |tenant| format!("tenant {tenant}"));
            for (key_id, destroyed) in keys {
                report.error(
                    store,
                    format!("key {key_id} of {whose} is there, and was to be destroyed: nothing uses it; {}", destroyed.hint(tenant)),
                    "A purge is not through, or somebody put an old copy back: find out who. What was backed up since is not touched by that command.",
                );
            }
        }
    }
    Ok(())
}
