//! `keys list`: which keys there are.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    format::key_record::KeyRecord,
    keyring::Keyring,
    operation::{failure::Failure, living, lost},
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
    /// Whether a purge note names it: nothing uses it, and it should not be there.
    pub purged: bool,
    /// Number of the wrapping of it that counts; `null` without a secret half.
    pub wrapping: Option<u32>,
    /// The recovery recipients that it is wrapped to, where that was recorded: from the second wrapping on.
    pub wrapped_to: Option<Vec<String>>,
}

/// Records of wrappings read at once.
const READERS: usize = 16;

/// Lists every key.
///
/// # Errors
/// A store that cannot be reached. Records that cannot be trusted or are lost are in the report.
pub async fn list(vault: &Vault, keyring: &Keyring) -> Result<KeysReport, Failure> {
    let mut census = keyring.census().await?;
    let mut problems = lost::problems(vault, keyring, &census).await?;
    for tenant in census.tenants.values_mut() {
        problems.extend(living::set_aside_dead(vault, tenant).await?.iter().map(|error| format!("{error}; run `tenure verify`")));
        problems.extend(living::returned(tenant).map(|returned| returned.said));
    }
    let halves = keyring.secret_halves().await?;
    let mut keys = Vec::new();
    for tenant in census.tenants.values() {
        let sealing = tenant.sealing().map(|record| record.key_id);
        let dead = tenant.dead.iter().map(|record| (record, true));
        let living = tenant.records.iter().chain(&tenant.without_secret).map(|record| (record, false));
        keys.extend(living.chain(dead).map(|(record, purged)| (record, purged, sealing == Some(record.key_id))));
    }
    let keys = stream::iter(keys).map(async |(record, purged, seals)| {
        let secret_half = halves.contains_key(&record.key_id);
        let (wrapping, wrapped_to) = wrapped_to(keyring, record, halves.get(&record.key_id)).await?;
        Ok::<_, Failure>(Key {
            tenant: record.tenant.as_str().to_owned(),
            key_id: record.key_id.to_string(),
            sequence: record.sequence,
            locker: record.locker.to_string(),
            recipient: record.recipient.clone(),
            created_at: record.created_at,
            seals,
            secret_half,
            purged,
            wrapping,
            wrapped_to,
        })
    });
    Ok(KeysReport { keys: keys.buffered(READERS).try_collect().await?, problems })
}

/// The newest wrapping with a record that counts, and to whom. Its half is not read.
async fn wrapped_to(
    keyring: &Keyring,
    record: &KeyRecord,
    listed: Option<&BTreeSet<u32>>,
) -> Result<(Option<u32>, Option<Vec<String>>), Failure> {
    for number in listed.into_iter().flatten().rev().copied() {
        if number == 1 {
            return Ok((Some(1), None));
        }
        match keyring.whole_rewrapping(keyring.store(), record.name_tag, record.key_id, number).await {
            Ok((_, rewrapping)) => {
                let known = (!rewrapping.recipients.is_empty()).then_some(rewrapping.recipients);
                return Ok((Some(number), known));
            }
            // `keys check` says what is wrong with it.
            Err(error) if error.is_integrity() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((None, None))
}
