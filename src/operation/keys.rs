//! `keys list` and `keys check`: which keys there are, and whether every backup still has one.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{failure::Failure, progress::Progress};
use crate::{
    id::{KeyId, Locker},
    keyring::{Keyring, SecretHalves, TenantKeys, secret_halves},
    seal::RecoveryIdentity,
    tenant::TenantName,
    vault::Vault,
};

/// What `keys list` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeysReport {
    /// Every key, by tenant and sequence.
    pub keys: Vec<Key>,
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
    /// What is left over and harms nobody: secret halves that no record names.
    pub leftovers: Vec<String>,
}

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
/// A store that cannot be reached, or a record that cannot be trusted.
pub async fn list(keyring: &Keyring) -> Result<KeysReport, Failure> {
    let census = keyring.census().await?;
    if let Some(problem) = census.problems.into_iter().next() {
        return Err(problem.into());
    }
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
    Ok(KeysReport { keys })
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
        .map(|error| KeyProblem {
            tenant: None,
            object: error.object().to_owned(),
            problem: std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string),
        })
        .collect();
    let halves = every_store(keyring).await?;
    let mut named = HashSet::new();
    for tenant in census.tenants.values() {
        progress.tenant_started(&tenant.tenant, 0);
        let before = problems.len();
        check_tenant(keyring, tenant, &halves, identity, &mut problems).await?;
        named.extend(tenant.records.iter().chain(&tenant.without_secret).map(|record| record.key_id));
        progress.tenant_finished(&tenant.tenant, if problems.len() == before { "good" } else { "damaged" });
    }
    check_lockers(vault, &census.tenants, now, &mut problems).await?;
    let leftovers = halves
        .iter()
        .flat_map(|(address, halves)| {
            let unnamed: BTreeSet<&KeyId> = halves.keys().filter(|key_id| !named.contains(*key_id)).collect();
            unnamed.into_iter().map(move |key_id| format!("{address}/k/{key_id}.*.age"))
        })
        .collect();
    problems.sort();
    Ok(KeysCheckReport {
        keys: named.len() as u64,
        stores: halves.into_iter().map(|(address, _)| address).collect(),
        opened: identity.is_some(),
        problems,
        leftovers,
    })
}

async fn every_store(keyring: &Keyring) -> Result<Vec<(String, SecretHalves)>, Failure> {
    let mut halves = vec![(keyring.store().address().to_owned(), keyring.secret_halves().await?)];
    for mirror in keyring.mirrors() {
        halves.push((mirror.address().to_owned(), secret_halves(&**mirror).await?));
    }
    Ok(halves)
}

async fn check_tenant(
    keyring: &Keyring,
    tenant: &TenantKeys,
    halves: &[(String, SecretHalves)],
    identity: Option<&RecoveryIdentity>,
    problems: &mut Vec<KeyProblem>,
) -> Result<(), Failure> {
    let mut problem = |object: String, problem: String| {
        problems.push(KeyProblem { tenant: Some(tenant.tenant.as_str().to_owned()), object, problem });
    };
    for record in tenant.records.iter().chain(&tenant.without_secret) {
        for (address, _) in halves.iter().filter(|(_, halves)| !halves.contains_key(&record.key_id)) {
            problem(format!("{address}/k/{}.*.age", record.key_id), "the secret half is missing".to_owned());
        }
    }
    let Some(identity) = identity else { return Ok(()) };
    for record in &tenant.records {
        let wrapped = keyring.secret_half(record.key_id).await?;
        match identity.unwrap(&wrapped) {
            Ok(key) if key.recipient().to_string() == record.recipient => {}
            Ok(_) => problem(format!("key {}", record.key_id), "its secret half belongs to another public half".to_owned()),
            Err(error) => problem(format!("key {}", record.key_id), format!("the identity does not open it: {error}")),
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
) -> Result<(), Failure> {
    let mut known: BTreeMap<Locker, &TenantKeys> = BTreeMap::new();
    for keys in tenants.values() {
        known.extend(keys.lockers().into_iter().map(|locker| (locker, keys)));
    }
    for locker in vault.lockers().await? {
        if vault.has_gone(locker).await? {
            continue;
        }
        let keys = known.get(&locker);
        let history = vault.history(locker, now).await?;
        let needed: BTreeSet<KeyId> = history.live(now).map(|backup| backup.manifest.key_id).collect();
        for key_id in needed.into_iter().filter(|key_id| keys.is_none_or(|keys| keys.get(*key_id).is_none())) {
            problems.push(KeyProblem {
                tenant: keys.map(|keys| keys.tenant.as_str().to_owned()),
                object: format!("locker {locker}"),
                problem: format!("it holds backups sealed with key {key_id}, of which the keyring has no whole record"),
            });
        }
    }
    Ok(())
}
