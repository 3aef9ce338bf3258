//! What vault or keyring lost, told from what never was: a key record without its locker's source, backups without a key record.

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    erased,
    failure::{Failure, FailureClass},
    living,
};
use crate::{
    format::{
        plan::{PlannedAct, Step},
        purge_note::{PurgeNote, Purged},
    },
    id::{KeyId, Locker},
    keyring::{Census, Keyring, TenantKeys},
    object_name::prefix,
    printable::Word,
    signed::{self, DocumentError},
    tenant::TenantName,
    vault::{Vault, history::History, records::Sources},
};

/// The kind of a failure that says that the keyring lost something.
pub(super) const INCOMPLETE: &str = "keyring-incomplete";
/// Lockers that are asked about at once.
const READERS: usize = 16;

/// A locker that holds manifests and has neither key record nor purge note: its keyring lost something, and whoever looks unknown or new
/// may be its tenant. What a tombstone names is no loss: its purge note is gone with what the vault was put back from.
///
/// # Errors
/// A store that cannot be reached: unknown means no.
pub(super) async fn locker_without_key(vault: &Vault, keyring: &Keyring, census: &Census) -> Result<Option<Locker>, Failure> {
    let known: BTreeSet<Locker> = census.tenants.values().flat_map(TenantKeys::lockers).collect();
    let mut erased = None;
    for locker in vault.lockers().await?.into_iter().filter(|locker| !known.contains(locker)) {
        if vault.has_manifests(locker).await? && !vault.is_purged(locker).await? {
            let erased = match &erased {
                Some(erased) => erased,
                None => erased.insert(erased_lockers(vault, keyring).await?),
            };
            if !erased.contains(&locker) {
                return Ok(Some(locker));
            }
        }
    }
    Ok(None)
}

/// Lockers of tenants that were erased.
///
/// # Errors
/// As [`locker_without_key`].
pub(super) async fn erased_lockers(vault: &Vault, keyring: &Keyring) -> Result<BTreeSet<Locker>, Failure> {
    let everybody = erased::everybody(vault, keyring).await?;
    Ok(everybody.values().flat_map(|erasures| erasures.lockers().collect::<Vec<_>>()).collect())
}

/// Says that a locker has backups and no key record, and how that is mended.
pub(super) fn keyring_incomplete(locker: Locker, so: &str) -> Failure {
    let message = format!("locker {locker} holds backups, and the keyring has no key record for it{so}");
    Failure::new(FailureClass::Integrity, INCOMPLETE, locker, message).hint(
        "The keyring was emptied or put back from an old copy. `tenure keys repair` puts what is missing back from a mirror of it; \
         without one, put back t/ and k/ from its newest copy. `tenure keys check` shows what is whole.",
    )
}

/// Stops a command that would go by what the keyring knows, when it has lost some of it.
///
/// # Errors
/// [`keyring_incomplete`], [`replaced_wrapping`]; a store that cannot be reached.
pub(super) async fn refuse_incomplete(vault: &Vault, keyring: &Keyring, census: &Census, so: &str) -> Result<(), Failure> {
    if let Some(locker) = locker_without_key(vault, keyring, census).await? {
        return Err(keyring_incomplete(locker, so));
    }
    match replaced_wrapping(vault, keyring, census).await? {
        Some(lost) => Err(Failure::new(lost.class, lost.kind, &lost.object, format!("{}{so}", lost.message)).hint(lost.hint)),
        None => Ok(()),
    }
}

/// A key of which the keyring has only wrappings that were replaced: it was put back from a copy that is older than `keys rewrap`, and who
/// was let go then may open it again. Asks for one listing of each locker.
///
/// # Errors
/// As [`locker_without_key`].
pub(super) async fn replaced_wrapping(vault: &Vault, keyring: &Keyring, census: &Census) -> Result<Option<Failure>, Failure> {
    let listed = |keys: &TenantKeys, key| keys.wrappings.get(&key).copied().unwrap_or(0);
    let of_one = |keys: &TenantKeys| -> Vec<_> {
        let records = keys.records.iter();
        records.map(|record| (keys.tenant.clone(), record.locker, record.key_id, listed(keys, record.key_id))).collect()
    };
    let keys: Vec<_> = census.tenants.values().flat_map(of_one).collect();
    let mut replaced = stream::iter(keys)
        .map(async |(tenant, locker, key, listed)| {
            let wrappings = vault.wrappings(locker).await?;
            if !vault.is_replaced(&wrappings, key, listed).await? || vault.gone(locker).await?.names_key(key) {
                return Ok::<_, Failure>(None);
            }
            // It may have been wrapped anew between the two listings.
            match keyring.secret_halves().await?.get(&key).and_then(|halves| halves.last()) {
                Some(now) if !vault.is_replaced(&wrappings, key, *now).await? => Ok(None),
                _ => Ok(Some(wrapped_for_others(&tenant, key))),
            }
        })
        .buffer_unordered(READERS);
    while let Some(found) = replaced.try_next().await? {
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn wrapped_for_others(tenant: &TenantName, key: KeyId) -> Failure {
    let message = format!("the keyring has only an old wrapping of key {key} of tenant {tenant}: it was wrapped anew since");
    Failure::new(FailureClass::Integrity, INCOMPLETE, key, message).hint(
        "The keyring was put back from an old copy: who has left since may open it again. `tenure keys repair` puts what is missing back from \
         a mirror of it; without one, `tenure keys rewrap --all --identity FILE --accept-lost-keys` wraps every key anew.",
    )
}

/// A locker whose newest backup is sealed with a key of which the keyring has no record: it was put back from a copy that is older than
/// that key. Asks for one listing and one document of each locker.
///
/// # Errors
/// As [`locker_without_key`].
pub(super) async fn key_without_record(vault: &Vault, census: &Census) -> Result<Option<Failure>, Failure> {
    // Of a key that was destroyed because a newer one took its place, an old copy may have the record alone.
    let lockers = census.tenants.values().flat_map(|keys| {
        let lockers: BTreeSet<Locker> = keys.dead.iter().map(|record| record.locker).chain(keys.lockers()).collect();
        lockers.into_iter().map(move |locker| (keys, locker))
    });
    let mut unknown = stream::iter(lockers)
        .map(async |(keys, locker)| {
            let Some(key) = vault.newest_key(locker).await? else { return Ok::<_, Failure>(None) };
            let is_known = keys.records.iter().chain(&keys.without_secret).any(|record| record.key_id == key);
            // What is let go of is no loss.
            Ok((!is_known && !vault.is_purged(locker).await?).then_some((locker, key)))
        })
        .buffer_unordered(READERS);
    while let Some(found) = unknown.try_next().await? {
        if let Some((locker, key)) = found {
            return Ok(Some(without_record(locker, key)));
        }
    }
    Ok(None)
}

fn without_record(locker: Locker, key: KeyId) -> Failure {
    let failure = keyring_incomplete(locker, "");
    let message = format!("locker {locker} holds backups sealed with key {key}, and the keyring has no key record for it");
    Failure::new(failure.class, failure.kind, locker, message).hint(failure.hint)
}

/// What a command about one tenant says besides, when the keyring lost the record of another: then it is not to be relied on.
///
/// # Errors
/// A store that cannot be reached: unknown means no.
pub async fn incomplete(vault: &Vault, keyring: &Keyring) -> Result<Option<Failure>, Failure> {
    if lost(vault, keyring, &keyring.census().await?, "").await?.is_none() {
        return Ok(None);
    }
    // A first backup, or one with a new key, may have ended between the two listings.
    lost(vault, keyring, &keyring.census().await?, "").await
}

/// As [`incomplete`]; and a keyring that lost nothing, and has a key again that `keys prune` destroyed: that is an old copy, too. Nothing uses such a
/// key, so nobody has to stop for it.
///
/// # Errors
/// As [`incomplete`].
pub async fn old_copy(vault: &Vault, keyring: &Keyring) -> Result<Option<Failure>, Failure> {
    if let Some(lost) = incomplete(vault, keyring).await? {
        return Ok(Some(lost));
    }
    for mut keys in keyring.census().await?.tenants.into_values() {
        living::set_aside_dead(vault, &mut keys).await?;
        if let Some(key) = keys.pruned.first() {
            let (tenant, name) = (&keys.tenant, Word(keys.tenant.as_str()));
            let message = format!("the keyring has key {key} of tenant {tenant} again, which was destroyed");
            return Ok(Some(Failure::new(FailureClass::Integrity, INCOMPLETE, key, message).hint(format!(
                "The keyring was put back from an old copy, or a run of `keys prune` is at it. Nothing uses that key; `tenure keys prune {name}` destroys it \
                 again."
            ))));
        }
    }
    Ok(None)
}

/// What the keyring, as it was listed, lost.
///
/// # Errors
/// As [`incomplete`].
pub(super) async fn lost(vault: &Vault, keyring: &Keyring, census: &Census, so: &str) -> Result<Option<Failure>, Failure> {
    if let Some(locker) = locker_without_key(vault, keyring, census).await? {
        return Ok(Some(keyring_incomplete(locker, so)));
    }
    match key_without_record(vault, census).await? {
        None => replaced_wrapping(vault, keyring, census).await,
        found => Ok(found),
    }
}

/// Stops a restore when [`incomplete`] says so, and says how to go on without.
pub(super) async fn refuse_restore(vault: &Vault, keyring: &Keyring) -> Result<(), Failure> {
    refuse(vault, keyring, "nothing was restored", "restores the tenants whose keys are there").await
}

/// Stops a command when [`incomplete`] says so: `outcome` is what did not come of it, `instead` what `--accept-lost-keys` does all the same.
///
/// # Errors
/// That; a store that cannot be reached.
pub async fn refuse(vault: &Vault, keyring: &Keyring, outcome: &str, instead: &str) -> Result<(), Failure> {
    let Some(failure) = incomplete(vault, keyring).await? else { return Ok(()) };
    let hint = format!("{} Until then `--accept-lost-keys` {instead}.", failure.hint);
    let message = format!("{}: {outcome}", failure.message);
    Err(Failure::new(failure.class, failure.kind, &failure.object, message).hint(hint))
}

/// Says that a tenant was purged.
#[must_use]
pub fn purged(tenant: &TenantName, at: Option<DateTime<Utc>>) -> Failure {
    let at = at.map(|at| format!(" at {}", at.to_rfc3339_opts(SecondsFormat::Secs, true))).unwrap_or_default();
    Failure::new(FailureClass::Refused, "tenant-purged", tenant, format!("backups of tenant {tenant} were purged{at}"))
        .hint("There is no key any more that would open one. If the tenant still lives, its next backup begins a new history.")
}

/// When the last purge of all of a tenant's backups was planned that was not given up.
async fn purged_at(vault: &Vault, keyring: &Keyring, tenant: &TenantName) -> Result<Option<DateTime<Utc>>, DocumentError> {
    let begun = |steps: &BTreeSet<Step>| steps.contains(&Step::Destroying);
    let plans = vault.plans(keyring.tag(tenant), begun).await?;
    let all = plans.iter().filter(|planned| planned.plan.act == PlannedAct::PurgeAll);
    Ok(all.map(|planned| planned.plan.created_at).max())
}

/// The notes that a tenant was purged as a whole, in lockers of which the keyring knows nothing any more.
///
/// # Errors
/// A store that cannot be reached.
pub(super) async fn noted(vault: &Vault, keyring: &Keyring, tenant: &TenantName) -> Result<Vec<PurgeNote>, Failure> {
    let (tag, census) = (keyring.tag(tenant), keyring.census().await?);
    let known: BTreeSet<Locker> = census.tenants.values().flat_map(TenantKeys::lockers).collect();
    let mut notes = Vec::new();
    for locker in vault.lockers().await?.into_iter().filter(|locker| !known.contains(locker)) {
        let gone = vault.gone(locker).await?.notes.into_iter();
        notes.extend(gone.filter(|note| note.name_tag == tag && matches!(note.purged, Purged::All { .. })));
    }
    Ok(notes)
}

/// Why a tenant has no key record: purged, unknown, or the keyring lost records and it may be one of them.
pub async fn unknown_tenant(vault: &Vault, keyring: &Keyring, tenant: &TenantName) -> Failure {
    match purged_at(vault, keyring, tenant).await {
        Ok(Some(at)) => return purged(tenant, Some(at)),
        // Where the plan is lost, the notes still say so.
        Ok(None) => match noted(vault, keyring, tenant).await {
            Ok(notes) if notes.is_empty() => {}
            Ok(notes) => return purged(tenant, notes.iter().map(|note| note.created_at).max()),
            Err(failure) => return failure,
        },
        // Who may not look there learns nothing of purges.
        Err(error) if error.is_denied() => {}
        Err(error) => return error.into(),
    }
    let lost = async {
        let census = keyring.census().await?;
        locker_without_key(vault, keyring, &census).await
    };
    match lost.await {
        Ok(None) => Failure::unknown_tenant(tenant),
        Ok(Some(locker)) => {
            let name = crate::printable::Printable(tenant.as_str());
            keyring_incomplete(locker, &format!("; no tenant {name} is known, and it may be the one that is missing"))
        }
        Err(failure) => failure,
    }
}

/// What is wrong with a key record whose locker has no record of its tenant's source, good or bad. The source is written before the
/// key record, so this is never a crashed first run. A locker with a purge note may be empty.
///
/// # Errors
/// The store's.
pub async fn lost_source(vault: &Vault, locker: Locker, sources: &Sources) -> Result<Option<DocumentError>, DocumentError> {
    if !sources.is_empty() || vault.is_purged(locker).await? {
        return Ok(None);
    }
    Ok(Some(DocumentError::Missing { object: signed::locate(vault.store(), &prefix::in_locker(locker, "s")) }))
}

/// The failure that [`lost_source`] is, for a tenant that somebody asks for.
pub(super) fn source_missing(vault: &Vault, tenant: &TenantName, locker: Locker, history: &History) -> Failure {
    let object = signed::locate(vault.store(), &prefix::locker(locker));
    if history.backups.is_empty() && history.problems.is_empty() {
        let message = format!("the vault lost what it held of tenant {tenant}: {object} has no record and no backup");
        return Failure::new(FailureClass::Integrity, "locker-lost", object, message).hint(format!(
            "Check [vault] url; put the locker back from a copy of the vault. If there is none, its backups are lost: \
             `tenure admit --source {}` lets new ones begin.",
            Word(tenant.as_str())
        ));
    }
    let message = format!("the record of where tenant {tenant} lives is missing from the vault: {object}s/");
    Failure::new(FailureClass::Integrity, "source-missing", object, message).hint(format!(
        "Put it back from a copy of the vault. If there is none: `tenure admit --source {}` records the live database, \
         and `tenure restore` works with --cluster NAME.",
        Word(tenant.as_str())
    ))
}

/// Stops a restore that would have to guess where its tenant lives. With a cluster named nothing is guessed.
pub(super) async fn refuse_without_source(
    vault: &Vault,
    tenant: &TenantName,
    locker: Locker,
    history: &History,
    cluster: Option<&str>,
) -> Result<(), Failure> {
    let mut sources = vault.sources(locker).await?;
    let nothing = history.backups.is_empty() && history.problems.is_empty();
    if sources.is_empty() && (nothing || cluster.is_none()) {
        return Err(source_missing(vault, tenant, locker, history));
    }
    match sources.unreadable.pop() {
        Some((_, error)) if cluster.is_none() => Err(error.into()),
        _ => Ok(()),
    }
}

/// The keys of a tenant that lost their secret half, in words: what they sealed opens for nobody until it is put back.
pub fn without_secret(keys: &TenantKeys) -> impl Iterator<Item = String> {
    keys.without_secret.iter().map(|record| {
        let (key, tenant) = (record.key_id, &keys.tenant);
        format!("key {key} of tenant {tenant} has no secret half in the keyring; `tenure keys repair` puts it back from a mirror")
    })
}

/// What a listing of everybody should say: key records that cannot be trusted, backups without a key record.
///
/// # Errors
/// A store that cannot be reached.
pub async fn problems(vault: &Vault, keyring: &Keyring, census: &Census) -> Result<Vec<String>, Failure> {
    let mut problems: Vec<String> = census.problems.iter().map(|error| format!("{error}; run `tenure keys check`")).collect();
    let lost = lost(vault, keyring, census, "; its tenant is missing here").await?;
    problems.extend(lost.map(|lost| format!("{} ({})", lost.message, lost.hint)));
    Ok(problems)
}
