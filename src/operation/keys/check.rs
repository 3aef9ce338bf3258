//! `keys check`: whether every backup still has its key, in the keyring and every mirror.

pub(in crate::operation) mod dead;
mod differences;
mod listing;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

pub(in crate::operation) use self::listing::Listing;
use self::{
    dead::{Dead, Refusals},
    differences::differences,
};
use super::{KeyProblem, from_another, prune, rewrap::wrapping_of};
use crate::{
    format::key_record::KeyRecord,
    id::{KeyId, Locker, NameTag},
    keyring::{Keyring, SecretHalves, TenantKeys, read_root, secret_halves},
    object_name::{Document, ObjectName},
    operation::{
        erased,
        failure::{Failure, FailureClass},
        progress::Progress,
    },
    seal::RecoveryIdentity,
    signed::{self, DocumentError},
    store::Store,
    tenant::TenantName,
    vault::Vault,
};

/// What `keys check` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeysCheckReport {
    /// Keys looked at.
    pub keys: u64,
    /// Stores that hold them: the keyring and its mirrors.
    pub stores: Vec<String>,
    /// Whether each key was opened with an identity.
    pub opened: bool,
    /// What is wrong.
    pub problems: Vec<KeyProblem>,
    /// What is left over and harms nobody: secret halves that no record names, signatures without their records.
    pub leftovers: Vec<String>,
    /// Wrappings that are still there though a newer one counts: who is no recipient any more may open them. `keys rewrap` removes them.
    pub superseded: Vec<String>,
    /// Keys that no backup needs any more: `keys prune` destroys them.
    pub prunable: Vec<String>,
    /// What these credentials may not read: neither good nor bad.
    pub not_looked_at: Vec<String>,
    /// Mirrors that could not be reached, each with the reason.
    pub not_reached: Vec<String>,
}

impl KeysCheckReport {
    /// The gravest thing in it, which decides the exit code.
    #[must_use]
    pub fn class(&self) -> Option<FailureClass> {
        let integrity = (!self.problems.is_empty()).then_some(FailureClass::Integrity);
        integrity.or((!self.not_reached.is_empty()).then_some(FailureClass::Failed))
    }
}

/// What is wrong where the keyring was put back from a copy that is older than `keys rewrap`.
const REPLACED: &str = "it was wrapped anew since, and the newer wrapping is missing: `tenure keys repair` puts it back from another store \
                        that has it; where none has, `tenure keys rewrap --all --identity FILE --accept-lost-keys` wraps it anew";

/// Checks that every key is whole in the keyring and every mirror, that every locker with backups has its key, and, with an identity,
/// that each key opens.
///
/// # Errors
/// A store that cannot be reached. What is wrong is in the report; it is for the caller to turn it into exit code 5.
pub async fn check(
    vault: &Vault,
    keyring: &Keyring,
    identity: Option<&RecoveryIdentity>,
    now: DateTime<Utc>,
    progress: &dyn Progress,
) -> Result<KeysCheckReport, Failure> {
    let first = look(vault, keyring, identity, now, progress).await;
    let seen = match &first {
        Ok(report) if report.problems.is_empty() => return first,
        Ok(report) => &report.problems[..],
        Err(failure) if failure.kind == "object-missing" => &[],
        Err(_) => return first,
    };
    // What another run is just changing is another way a moment later.
    let mut again = look(vault, keyring, identity, now, progress).await?;
    if first.is_ok() {
        again.problems.retain(|problem| seen.contains(problem));
    }
    Ok(again)
}

async fn look(
    vault: &Vault,
    keyring: &Keyring,
    identity: Option<&RecoveryIdentity>,
    now: DateTime<Utc>,
    progress: &dyn Progress,
) -> Result<KeysCheckReport, Failure> {
    let census = keyring.census().await?;
    let mut problems: Vec<KeyProblem> = census
        .problems
        .iter()
        .map(|error| KeyProblem { tenant: None, object: error.object().to_owned(), problem: error.what() })
        .collect();
    let dead = Dead::read(vault).await?;
    let mut not_reached = Vec::new();
    let copies = copies(vault, keyring, &mut problems, &mut not_reached).await?;
    let refusals = Refusals { vault, dead: &dead, copies: &copies };
    let mut not_looked_at = BTreeSet::new();
    let (mut named, mut newest) = (HashSet::new(), HashMap::new());
    for tenant in census.tenants.values() {
        progress.tenant_started(&tenant.tenant, 0);
        let before = problems.len();
        for record in tenant.records.iter().chain(&tenant.without_secret) {
            named.insert(record.key_id);
            if dead.has(record.key_id, record.locker) {
                let object = signed::locate(keyring.store(), &Document::KeyRecord(record.name_tag, record.key_id));
                problems.push(dead::problem(dead.keys.get(&record.key_id), Some(&tenant.tenant), object));
            } else {
                let number = check_key(keyring, record, &refusals, identity, &mut problems, &mut not_looked_at).await?;
                newest.insert(record.key_id, number);
                replaced(vault, &copies, (&tenant.tenant, record), &mut problems).await?;
            }
        }
        progress.tenant_finished(&tenant.tenant, if problems.len() == before { "good" } else { "damaged" });
    }
    let keys = named.len() as u64;
    // The half of a lost record may be the last that opens its backups: no leftover.
    let mut prunable = Vec::new();
    named.extend(check_lockers(vault, &census.tenants, &dead, now, &mut problems, &mut prunable).await?);
    let of_nobody = |(object, problem)| KeyProblem { tenant: None, object, problem };
    let (mut leftovers, mut superseded) = (Vec::new(), Vec::new());
    let passed_over = |name: &str| {
        key_of(name).is_some_and(|key_id| dead.keys.contains_key(&key_id))
            || wrapping_of(name).is_some_and(|(key_id, n)| newest.get(&key_id).is_some_and(|newest| n < *newest))
    };
    let names = dead.names(keyring, &census, &copies).await?;
    for (store, halves) in &copies {
        let unnamed: BTreeSet<&KeyId> =
            halves.keys().filter(|key_id| !named.contains(*key_id) && !dead.keys.contains_key(*key_id)).collect();
        leftovers.extend(unnamed.into_iter().map(|key_id| format!("{}/k/{key_id}.*.age", store.address())));
        let Some(listing) = Listing::read(*store).await? else {
            not_looked_at.insert(format!("{}/", store.address()));
            continue;
        };
        problems.extend(listing.tampered.into_iter().map(of_nobody));
        leftovers.extend(listing.unfinished);
        for name in listing.names {
            let object = signed::locate(*store, &name);
            if let Some(destroyed) = key_of(&name).and_then(|key_id| dead.keys.get(&key_id)) {
                problems.push(dead::problem(Some(destroyed), names.get(&destroyed.tag), object));
                continue;
            }
            match name.parse() {
                _ if passed_over(&name) => superseded.push(object),
                Ok(ObjectName::Document(Document::Rewrapping(tag, key_id, n))) => {
                    match keyring.whole_rewrapping(*store, tag, key_id, n).await {
                        Ok(_) => {}
                        Err(error) if error.is_integrity() => problems.push(of_nobody((object, error.what()))),
                        Err(error) => return Err(error.into()),
                    }
                }
                _ => {}
            }
        }
    }
    for (mirror, _) in copies.iter().skip(1) {
        let (different, more) = differences(keyring, *mirror, &refusals, &passed_over).await?;
        problems.extend(different.into_iter().map(of_nobody));
        leftovers.extend(more);
    }
    for lacking in erased::lacking::survey(vault, keyring).await?.lacking {
        problems
            .push(of_nobody((lacking.object(), format!("{}; `tenure reconcile` puts it back from there", lacking.problem()))));
    }
    // The same said twice stays where it is said whose it is.
    problems.sort_by(|a, b| (&a.object, &a.problem, &b.tenant).cmp(&(&b.object, &b.problem, &a.tenant)));
    problems.dedup_by(|a, b| (&a.object, &a.problem) == (&b.object, &b.problem));
    problems.sort();
    superseded.sort();
    Ok(KeysCheckReport {
        keys,
        stores: copies.iter().map(|(store, _)| store.address().to_owned()).collect(),
        opened: identity.is_some(),
        problems,
        leftovers,
        superseded,
        prunable,
        not_looked_at: not_looked_at.into_iter().collect(),
        not_reached,
    })
}

/// Names each store that has a key only as it was wrapped before `keys rewrap`.
async fn replaced(
    vault: &Vault,
    copies: &[Copy<'_>],
    (tenant, record): (&TenantName, &KeyRecord),
    problems: &mut Vec<KeyProblem>,
) -> Result<(), Failure> {
    let (wrappings, key_id) = (vault.wrappings(record.locker).await?, record.key_id);
    for (store, halves) in copies {
        let Some(wrapping) = halves.get(&key_id).and_then(|numbers| numbers.last().copied()) else { continue };
        if vault.is_replaced(&wrappings, key_id, wrapping).await? {
            let object = signed::locate(*store, &ObjectName::SecretKey { key_id, wrapping });
            problems.push(KeyProblem { tenant: Some(tenant.as_str().to_owned()), object, problem: REPLACED.to_owned() });
        }
    }
    Ok(())
}

fn tag_of(name: &str) -> Option<NameTag> {
    match name.parse().ok()? {
        ObjectName::Document(document) | ObjectName::Signature(document) => match document {
            Document::KeyRecord(tag, _) | Document::Rewrapping(tag, ..) => Some(tag),
            _ => None,
        },
        _ => None,
    }
}

/// The key that an object is a part of.
fn key_of(name: &str) -> Option<KeyId> {
    match name.parse().ok()? {
        ObjectName::Document(Document::KeyRecord(_, key_id)) | ObjectName::Signature(Document::KeyRecord(_, key_id)) => {
            Some(key_id)
        }
        _ => wrapping_of(name).map(|(key_id, _)| key_id),
    }
}

/// A copy of the keyring, and the secret halves that it lists.
type Copy<'a> = (&'a dyn Store, SecretHalves);

/// The keyring, then those of its mirrors that can be reached and are its own.
async fn copies<'a>(
    vault: &Vault,
    keyring: &'a Keyring,
    problems: &mut Vec<KeyProblem>,
    not_reached: &mut Vec<String>,
) -> Result<Vec<Copy<'a>>, Failure> {
    let mut copies = vec![(keyring.store(), keyring.secret_halves().await?)];
    for mirror in keyring.mirrors() {
        let problem = |object: &str, problem: String| KeyProblem { tenant: None, object: object.to_owned(), problem };
        match read_root(&**mirror, vault.root()).await {
            Ok(_) => {}
            Err(error @ DocumentError::Missing { .. }) => {
                let what = "missing: `tenure keys repair` puts it back from the keyring".to_owned();
                problems.push(problem(error.object(), what));
            }
            Err(error) if error.is_integrity() => {
                let what = "nothing else was looked at in this mirror, and `tenure keys repair` leaves it alone. Check its url under \
                            [keyring] mirrors; if it is right, move keyring.json away from there first";
                problems.push(problem(error.object(), format!("{}: {what}", error.what())));
                continue;
            }
            Err(error) => {
                not_reached.push(super::not_reached(&**mirror, error));
                continue;
            }
        }
        match secret_halves(&**mirror).await {
            Ok(halves) => copies.push((&**mirror, halves)),
            Err(error) => not_reached.push(super::not_reached(&**mirror, error)),
        }
    }
    Ok(copies)
}

/// Looks at a key in every store, and gives the number of its newest wrapping that is whole anywhere.
async fn check_key(
    keyring: &Keyring,
    record: &KeyRecord,
    refusals: &Refusals<'_>,
    identity: Option<&RecoveryIdentity>,
    problems: &mut Vec<KeyProblem>,
    not_looked_at: &mut BTreeSet<String>,
) -> Result<u32, Failure> {
    let mut problem = |object: String, problem: String| {
        problems.push(KeyProblem { tenant: Some(record.tenant.as_str().to_owned()), object, problem });
    };
    let mut whole = Vec::new();
    for (store, halves) in refusals.copies {
        let listed = halves.get(&record.key_id).cloned().unwrap_or_default();
        match keyring.secret_half_of(*store, record, &listed).await {
            Ok(found) => whole.push(found),
            Err(error) if error.is_denied() => drop(not_looked_at.insert(format!("{}/k/", store.address()))),
            Err(error) if error.is_integrity() => {
                let is_refused = refusals.cover(record.name_tag, record.key_id, Some(record.locker)).await?;
                let never = || format!("{}: a tombstone or a purge note names it, and it is never put back", error.what());
                problem(error.object().to_owned(), if is_refused { never() } else { from_another(&error) });
            }
            Err(error) => return Err(error.into()),
        }
    }
    let newest = whole.iter().map(|(number, _)| *number).max().unwrap_or(1);
    // Older ones are for recipients of before.
    for (_, wrapped) in whole.iter().filter(|(number, _)| *number == newest) {
        match identity.map(|identity| identity.unwrap(wrapped)) {
            None => {}
            Some(Ok(key)) if key.recipient().to_string() == record.recipient => {}
            Some(Ok(_)) => {
                problem(format!("key {}", record.key_id), "its secret half belongs to another public half".to_owned());
            }
            Some(Err(error)) => problem(format!("key {}", record.key_id), format!("the identity does not open it: {error}")),
        }
    }
    Ok(newest)
}

/// Every live manifest must have been sealed with a key that the keyring still has.
async fn check_lockers(
    vault: &Vault,
    tenants: &BTreeMap<TenantName, TenantKeys>,
    dead: &Dead,
    now: DateTime<Utc>,
    problems: &mut Vec<KeyProblem>,
    prunable: &mut Vec<String>,
) -> Result<HashSet<KeyId>, Failure> {
    let mut named = HashSet::new();
    let mut known: BTreeMap<Locker, &TenantKeys> = BTreeMap::new();
    for keys in tenants.values() {
        known.extend(keys.lockers().into_iter().map(|locker| (locker, keys)));
    }
    for locker in dead.living.iter().copied() {
        let keys = known.get(&locker);
        let history = vault.history(locker, now).await?;
        for (record, successor) in keys.map(|keys| prune::superseded(keys)).unwrap_or_default() {
            let settle = vault.root().settle_seconds;
            let is_free = record.locker == locker
                && !dead.has(record.key_id, locker)
                && history.problems.is_empty()
                && prune::needed(record, successor, &history, now, settle).is_none();
            if is_free && !vault.holds(locker).await?.is_held() {
                prunable.push(format!("key {} of tenant {}", record.key_id, record.tenant));
            }
        }
        let needed: BTreeSet<KeyId> = history.live(now).map(|backup| backup.manifest.key_id).collect();
        named.extend(&needed);
        for key_id in needed.into_iter().filter(|key_id| keys.is_none_or(|keys| keys.get(*key_id).is_none())) {
            problems.push(KeyProblem {
                tenant: keys.map(|keys| keys.tenant.as_str().to_owned()),
                object: format!("locker {locker}"),
                problem: format!("it holds backups sealed with key {key_id}, of which the keyring has no whole record; `tenure keys repair` may have it back"),
            });
        }
    }
    Ok(named)
}
