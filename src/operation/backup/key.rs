//! The tenant's key and its source, as a backup needs them: found, or made for a tenant that is really new.

use chrono::{DateTime, Utc};

use super::Backup;
use crate::{
    format::{
        key_record::KeyRecord,
        record::{Source, SourceReason},
    },
    id::{Locker, RecordId},
    keyring::TenantKeys,
    operation::{
        erased,
        failure::{Failure, FailureClass},
        fleet::Resident,
        living, lost,
    },
    printable::Word,
    signed::{DocumentError, FORMAT},
    tenant::TenantName,
    vault::history::History,
};

/// Stops when the tenant was erased or one of its lockers was purged. Anything there refuses, understood or not.
///
/// # Errors
/// [`FailureClass::Refused`], or a store that cannot be asked: unknown means no.
pub(super) async fn refuse_if_gone(backup: &Backup, tenant: &TenantName, lockers: &[Locker]) -> Result<(), Failure> {
    erased::refuse(&backup.vault, &backup.keyring, tenant).await?;
    for locker in lockers {
        if backup.vault.is_purged(*locker).await? {
            let message = format!("backups of tenant {tenant} were purged");
            return Err(Failure::new(FailureClass::Refused, "tenant-purged", tenant, message)
                .hint("There is no backup of this run. Once the purge is through, the next one begins a new history."));
        }
    }
    Ok(())
}

/// What a failure is beside a purge: whatever is missing of a tenant that is being purged is no damage.
pub(super) async fn or_purged(backup: &Backup, tenant: &TenantName, locker: Option<Locker>, failure: Failure) -> Failure {
    if failure.class != FailureClass::Integrity {
        return failure;
    }
    let looked = async {
        refuse_if_gone(backup, tenant, locker.as_slice()).await?;
        match living::keys(&backup.vault, &backup.keyring, tenant).await? {
            Some(keys) => living::unfinished(&backup.vault, &keys.dead, tenant).await?.map_or(Ok(()), Err),
            None => Ok(()),
        }
    };
    match looked.await {
        Err(gone) if gone.class == FailureClass::Refused => gone,
        _ => failure,
    }
}

/// The key that seals tonight. For a tenant without any, and only when nothing speaks against its being new, one is made.
///
/// Only under the tenant's lock.
///
/// # Errors
/// An integrity failure when a key record is missing that must be there: a lost key record never becomes a new tenant.
pub(super) async fn sealing_key(
    backup: &Backup,
    resident: &Resident,
    nobody_new: Option<&str>,
) -> Result<(TenantKeys, KeyRecord), Failure> {
    let tenant = &resident.tenant;
    let keys = living::keys(&backup.vault, &backup.keyring, tenant).await?;
    if let Some(keys) = &keys
        && let Some(failure) = living::unfinished(&backup.vault, &keys.dead, tenant).await?
    {
        return Err(failure);
    }
    if let Some(keys) = keys.filter(|keys| !keys.lockers().is_empty()) {
        refuse_if_gone(backup, tenant, &keys.lockers()).await?;
        let Some(sealing) = keys.sealing().cloned() else {
            let message =
                format!("the key of tenant {tenant} has no secret half in the keyring: what it seals could never be opened");
            return Err(Failure::new(FailureClass::Integrity, "key-without-secret", tenant, message).hint(
                "Nothing was written. `tenure keys repair` puts it back from a mirror; if there never was a backup, remove the record under t/.",
            ));
        };
        return Ok((keys, sealing));
    }
    refuse_if_gone(backup, tenant, &[]).await?;
    if let Some(reason) = nobody_new {
        let message = format!("tenant {tenant} would be new, and nobody new is taken in: {reason}");
        return Err(Failure::new(FailureClass::Integrity, "untrusted-record", tenant, message).hint(
            "Its database may be one that tenure made. Look at the object that is named; known tenants are still backed up.",
        ));
    }
    refuse_if_keys_were_lost(backup, tenant).await?;
    refuse_if_a_mirror_knows(backup, tenant).await?;
    let record = make_key(backup, resident).await?;
    // Said after the write: a tombstone that came in between wins, and the record is used by nothing.
    refuse_if_gone(backup, tenant, &[record.locker]).await?;
    let keys = living::keys(&backup.vault, &backup.keyring, tenant).await?.ok_or_else(|| {
        Failure::new(
            FailureClass::Integrity,
            "key-vanished",
            tenant,
            format!("the new key of tenant {tenant} is not to be found again"),
        )
        .hint("Something removes objects from the keyring. Look there before anything else.")
    })?;
    let record = keys.sealing().cloned().unwrap_or(record);
    Ok((keys, record))
}

/// Secret half, source, public half, in this order: a key record means that its locker has a source. Whatever a killed run leaves before
/// the last is used by nothing.
async fn make_key(backup: &Backup, resident: &Resident) -> Result<KeyRecord, Failure> {
    let tenant = &resident.tenant;
    let cannot = |error: Box<dyn std::error::Error + Send + Sync>| no_key(tenant, error);
    let key = backup
        .keyring
        .begin_key(tenant, Locker::random(), 1, &backup.recipients, (backup.clock)())
        .await
        .map_err(|error| cannot(error.into()))?;
    let source = Source {
        format: FORMAT,
        installation: backup.vault.root().installation,
        locker: key.locker(),
        id: RecordId::random(),
        sequence: 1,
        cluster: resident.cluster.name.clone(),
        system_identifier: resident.system_identifier.clone(),
        database_oid: resident.found.oid,
        reason: SourceReason::First,
        passes_over: Vec::new(),
        created_at: (backup.clock)(),
    };
    backup.vault.put_source(&source, &backup.signer).await.map_err(|error| cannot(error.into()))?;
    backup.keyring.publish_key(key, &backup.signer).await.map_err(|error| cannot(error.into()))
}

fn no_key(tenant: &TenantName, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::new(FailureClass::Failed, "cannot-create-key", tenant, format!("cannot make a key for tenant {tenant}"))
        .hint("No backup was begun: a key lies in the keyring and in every mirror, or is not made. `tenure check` shows what is wrong with them.")
        .because(error)
}

/// A mirror that has a key record which the keyring has not: a first run that was killed between the two, and then the vault has that
/// locker's source and no backup, or a keyring that lost it.
async fn refuse_if_a_mirror_knows(backup: &Backup, tenant: &TenantName) -> Result<(), Failure> {
    let known = match backup.keyring.records_in_mirrors(tenant).await {
        Err(error @ DocumentError::Store { .. }) => return Err(no_key(tenant, error)),
        known => known?,
    };
    for (mirror, record) in known {
        if backup.vault.is_purged(record.locker).await? {
            match living::unfinished(&backup.vault, std::slice::from_ref(&record), tenant).await? {
                Some(failure) => return Err(failure),
                // Put back since, and named by a purge note: nothing uses it.
                None => continue,
            }
        }
        let has_backups = backup.vault.has_manifests(record.locker).await?;
        if has_backups || backup.vault.sources(record.locker).await?.is_empty() {
            let message = format!(
                "the keyring has no key of tenant {tenant}, and its mirror {} has key {}: no new one is made",
                mirror.address(),
                record.key_id
            );
            return Err(Failure::new(FailureClass::Integrity, "keyring-incomplete", tenant, message)
                .hint("The keyring lost records. `tenure keys repair` puts them back from the mirror; nothing was read."));
        }
    }
    Ok(())
}

/// Every locker with a manifest must have its key record or a purge note. Otherwise the keyring lost something, and who looks new may
/// be somebody whose key is gone.
async fn refuse_if_keys_were_lost(backup: &Backup, tenant: &TenantName) -> Result<(), Failure> {
    let census = backup.keyring.census().await?;
    lost::refuse_incomplete(&backup.vault, &backup.keyring, &census, &format!("; no key is made for tenant {tenant}")).await?;
    census.problems.into_iter().next().map_or(Ok(()), |problem| Err(problem.into()))
}

/// A backup that is sealed with a key which the keyring does not know: it lost a rotation, and what it would seal with was replaced.
///
/// # Errors
/// [`Failure::key_missing`].
pub(super) fn refuse_if_a_key_was_lost(
    tenant: &TenantName,
    keys: &TenantKeys,
    history: &History,
    now: DateTime<Utc>,
) -> Result<(), Failure> {
    let known = |key_id| keys.get(key_id).is_some() || keys.without_secret.iter().any(|record| record.key_id == key_id);
    match history.live(now).find(|backup| !known(backup.manifest.key_id)) {
        Some(backup) => Err(Failure::key_missing(tenant, backup.manifest.backup, backup.manifest.key_id)),
        None => Ok(()),
    }
}

/// Checks that the tenant's database is the one that its backups are from.
///
/// # Errors
/// [`FailureClass::Refused`] when the source changed, until an operator admits it; an integrity failure when no source is recorded.
pub(super) async fn check_source(backup: &Backup, resident: &Resident, locker: Locker, history: &History) -> Result<(), Failure> {
    let tenant = &resident.tenant;
    match backup.vault.source(locker).await? {
        Some(source) if source.system_identifier == resident.system_identifier && source.database_oid == resident.found.oid => {
            Ok(())
        }
        Some(source) => {
            let message = format!(
                "tenant {tenant} is now database OID {} on server {}, its backups are of OID {} on server {}",
                resident.found.oid, resident.system_identifier, source.database_oid, source.system_identifier
            );
            Err(Failure::new(FailureClass::Refused, "source-changed", tenant, message).hint(format!(
                "Nothing was read. If the new database is meant to be this tenant, run `tenure admit --source {}`.",
                Word(tenant.as_str())
            )))
        }
        None => {
            // A purge that came meanwhile removes this too.
            refuse_if_gone(backup, tenant, &[locker]).await?;
            Err(lost::source_missing(&backup.vault, tenant, locker, history))
        }
    }
}
