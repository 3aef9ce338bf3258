//! `keys list` and `keys check`: which keys there are, and whether every backup still has one.

pub mod repair;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use schemars::JsonSchema;
use serde::Serialize;

use super::{failure::Failure, lost, progress::Progress};
use crate::{
    id::{KeyId, Locker, NameTag},
    keyring::{Keyring, SecretHalves, TenantKeys, read_root, secret_halves},
    object_name::{Document, ObjectName, prefix},
    seal::RecoveryIdentity,
    signed,
    store::{Listed, Store, StoreErrorKind},
    tenant::TenantName,
    vault::Vault,
};

/// What `keys list` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeysReport {
    /// Every key, by tenant and sequence.
    pub keys: Vec<Key>,
    /// What the keyring lost, so that keys may be missing here.
    pub problems: Vec<String>,
}

/// One tenant key.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Key {
    /// The tenant.
    pub tenant: String,
    /// The key's id.
    pub key_id: String,
    /// The highest seals.
    pub sequence: u64,
    /// Where what it seals lies.
    pub locker: String,
    /// Its age recipient.
    pub recipient: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Whether new backups are sealed with it.
    pub seals: bool,
    /// Whether its secret half is listed in the keyring.
    pub secret_half: bool,
}

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
    /// What these credentials may not read: neither good nor bad.
    pub not_looked_at: Vec<String>,
}

/// A key record or its signature is far smaller.
const MAX_RECORD: u64 = 1 << 20;

/// Where a secret half comes back from: each copy of it has the same bytes.
pub(super) const FROM_ANOTHER: &str = "move it away where it is there, and `tenure keys repair` puts it back from a mirror";

/// One thing that is wrong with a key.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct KeyProblem {
    /// The tenant, where it is known.
    pub tenant: Option<String>,
    /// The key, record or locker.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Lists every key.
///
/// # Errors
/// A store that cannot be reached. Records that cannot be trusted or are lost are in the report.
pub async fn list(vault: &Vault, keyring: &Keyring) -> Result<KeysReport, Failure> {
    let census = keyring.census().await?;
    let mut keys = Vec::new();
    for tenant in census.tenants.values() {
        let sealing = tenant.sealing().map(|record| record.key_id);
        keys.extend(tenant.records.iter().map(|record| Key {
            tenant: tenant.tenant.as_str().to_owned(),
            key_id: record.key_id.to_string(),
            sequence: record.sequence,
            locker: record.locker.to_string(),
            recipient: record.recipient.clone(),
            created_at: record.created_at,
            seals: sealing == Some(record.key_id),
            secret_half: true,
        }));
        keys.extend(tenant.without_secret.iter().map(|record| Key {
            tenant: tenant.tenant.as_str().to_owned(),
            key_id: record.key_id.to_string(),
            sequence: record.sequence,
            locker: record.locker.to_string(),
            recipient: record.recipient.clone(),
            created_at: record.created_at,
            seals: false,
            secret_half: false,
        }));
    }
    Ok(KeysReport { keys, problems: lost::problems(vault, &census).await? })
}

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
    let census = keyring.census().await?;
    let mut problems: Vec<KeyProblem> = census
        .problems
        .iter()
        .map(|error| KeyProblem { tenant: None, object: error.object().to_owned(), problem: error.what() })
        .collect();
    let halves = every_store(keyring).await?;
    let mut not_looked_at = BTreeSet::new();
    let mut named = HashSet::new();
    for tenant in census.tenants.values() {
        progress.tenant_started(&tenant.tenant, 0);
        let before = problems.len();
        check_tenant(keyring, tenant, &halves, identity, &mut problems, &mut not_looked_at).await?;
        named.extend(tenant.records.iter().chain(&tenant.without_secret).map(|record| record.key_id));
        progress.tenant_finished(&tenant.tenant, if problems.len() == before { "good" } else { "damaged" });
    }
    let keys = named.len() as u64;
    // The half of a lost record may be the last that opens its backups: no leftover.
    named.extend(check_lockers(vault, &census.tenants, now, &mut problems).await?);
    let of_nobody = |(object, problem)| KeyProblem { tenant: None, object, problem };
    let mut leftovers = Vec::new();
    for (store, halves) in &halves {
        let unnamed: BTreeSet<&KeyId> = halves.keys().filter(|key_id| !named.contains(*key_id)).collect();
        leftovers.extend(unnamed.into_iter().map(|key_id| format!("{}/k/{key_id}.*.age", store.address())));
        let Some(listing) = Listing::read(*store).await? else {
            not_looked_at.insert(format!("{}/", store.address()));
            continue;
        };
        problems.extend(listing.tampered.into_iter().map(of_nobody));
        leftovers.extend(listing.unfinished);
    }
    for mirror in keyring.mirrors() {
        let (different, more) = differences(vault, keyring.store(), &**mirror).await?;
        problems.extend(different.into_iter().map(of_nobody));
        leftovers.extend(more);
    }
    problems.sort();
    Ok(KeysCheckReport {
        keys,
        stores: halves.into_iter().map(|(store, _)| store.address().to_owned()).collect(),
        opened: identity.is_some(),
        problems,
        leftovers,
        not_looked_at: not_looked_at.into_iter().collect(),
    })
}

/// What a listing of a whole keyring says by itself.
pub(super) struct Listing {
    /// What somebody hid or wrote over, where versions are kept: address and name, and what was done.
    pub(super) tampered: Vec<(String, String)>,
    /// Signatures without their documents, which runs that did not end left: address and name.
    pub(super) unfinished: Vec<String>,
}

impl Listing {
    /// Lists a store; `None` where these credentials may not list everything.
    pub(super) async fn read(store: &dyn Store) -> Result<Option<Self>, Failure> {
        let (mut tampered, mut signatures, mut documents) = (Vec::new(), Vec::new(), HashSet::new());
        let mut listing = store.list("");
        loop {
            match listing.try_next().await {
                // What stores are tried out with is written over by trying.
                Ok(Some(Listed { name, .. })) if name.starts_with(prefix::PROBE) => {}
                Ok(Some(Listed { name, tampering, .. })) => {
                    tampered.extend(tampering.map(|tampering| (signed::locate(store, &name), tampering.to_string())));
                    match name.parse() {
                        Ok(ObjectName::Document(document)) => drop(documents.insert(document)),
                        Ok(ObjectName::Signature(document)) => signatures.push(document),
                        _ => {}
                    }
                }
                Ok(None) => break,
                Err(error) if error.kind == StoreErrorKind::Denied => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        signatures.retain(|document| !documents.contains(document));
        let unfinished = signatures.into_iter().map(|document| signed::locate(store, &ObjectName::Signature(document))).collect();
        Ok(Some(Self { tampered, unfinished }))
    }
}

/// In what a mirror is not the keyring's copy, but for the secret halves, which are looked at one by one; and records beyond it of tenants
/// that the keyring knows, which a first run left that did not end.
async fn differences(
    vault: &Vault,
    keyring: &dyn Store,
    mirror: &dyn Store,
) -> Result<(Vec<(String, String)>, Vec<String>), Failure> {
    let (mut differences, mut more) = (Vec::new(), Vec::new());
    match read_root(mirror, vault.root()).await {
        Ok(_) => {}
        Err(error) if error.is_integrity() => {
            differences.push((
                error.object().to_owned(),
                format!("{}: `tenure keys repair` puts it back from the keyring", error.what()),
            ));
        }
        Err(error) => return Err(error.into()),
    }
    let names = async |store: &dyn Store| -> Result<BTreeSet<String>, Failure> {
        Ok(store.list(prefix::TENANTS).map_ok(|listed| listed.name).try_collect().await?)
    };
    let (here, there) = (names(keyring).await?, names(mirror).await?);
    for name in here.difference(&there) {
        differences
            .push((signed::locate(mirror, name), "missing: `tenure keys repair` puts it back from the keyring".to_owned()));
    }
    let known: BTreeSet<NameTag> = here.iter().filter_map(|name| tag_of(name)).collect();
    for name in there.difference(&here) {
        if tag_of(name).is_some_and(|tag| known.contains(&tag)) {
            more.push(signed::locate(mirror, name));
        } else {
            differences.push((
                signed::locate(keyring, name),
                format!("missing: {} has it, and `tenure keys repair` puts it back", mirror.address()),
            ));
        }
    }
    for name in here.intersection(&there) {
        if keyring.get(name, MAX_RECORD).await? != mirror.get(name, MAX_RECORD).await? {
            differences.push((signed::locate(mirror, name), "not the same as in the keyring".to_owned()));
        }
    }
    Ok((differences, more))
}

fn tag_of(name: &str) -> Option<NameTag> {
    match name.parse().ok()? {
        ObjectName::Document(Document::KeyRecord(tag, _)) | ObjectName::Signature(Document::KeyRecord(tag, _)) => Some(tag),
        _ => None,
    }
}

async fn every_store(keyring: &Keyring) -> Result<Vec<(&dyn Store, SecretHalves)>, Failure> {
    let mut halves = vec![(keyring.store(), keyring.secret_halves().await?)];
    for mirror in keyring.mirrors() {
        halves.push((&**mirror, secret_halves(&**mirror).await?));
    }
    Ok(halves)
}

async fn check_tenant(
    keyring: &Keyring,
    tenant: &TenantKeys,
    halves: &[(&dyn Store, SecretHalves)],
    identity: Option<&RecoveryIdentity>,
    problems: &mut Vec<KeyProblem>,
    not_looked_at: &mut BTreeSet<String>,
) -> Result<(), Failure> {
    let mut problem = |object: String, problem: String| {
        problems.push(KeyProblem { tenant: Some(tenant.tenant.as_str().to_owned()), object, problem });
    };
    for record in tenant.records.iter().chain(&tenant.without_secret) {
        for (store, halves) in halves {
            let listed = halves.get(&record.key_id).cloned().unwrap_or_default();
            let wrapped = match keyring.secret_half_of(*store, record, &listed).await {
                Ok(wrapped) => wrapped,
                Err(error) if error.is_denied() => {
                    not_looked_at.insert(format!("{}/k/", store.address()));
                    continue;
                }
                Err(error) if error.is_integrity() => {
                    problem(error.object().to_owned(), format!("{}: {FROM_ANOTHER}", error.what()));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match identity.map(|identity| identity.unwrap(&wrapped)) {
                None => {}
                Some(Ok(key)) if key.recipient().to_string() == record.recipient => {}
                Some(Ok(_)) => {
                    problem(format!("key {}", record.key_id), "its secret half belongs to another public half".to_owned());
                }
                Some(Err(error)) => problem(format!("key {}", record.key_id), format!("the identity does not open it: {error}")),
            }
        }
    }
    Ok(())
}

/// Every live manifest must have been sealed with a key that the keyring still has.
async fn check_lockers(
    vault: &Vault,
    tenants: &BTreeMap<TenantName, TenantKeys>,
    now: DateTime<Utc>,
    problems: &mut Vec<KeyProblem>,
) -> Result<HashSet<KeyId>, Failure> {
    let mut named = HashSet::new();
    let mut known: BTreeMap<Locker, &TenantKeys> = BTreeMap::new();
    for keys in tenants.values() {
        known.extend(keys.lockers().into_iter().map(|locker| (locker, keys)));
    }
    for locker in vault.lockers().await? {
        if vault.is_purged(locker).await? {
            continue;
        }
        let keys = known.get(&locker);
        let history = vault.history(locker, now).await?;
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
