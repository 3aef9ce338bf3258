//! What is wrong with the keyring's mirrors, by what they list: nothing under `k/` is read.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;

use super::failure::{Failure, FailureClass};
use crate::{
    id::KeyId,
    keyring::{Keyring, SecretHalves, read_root, secret_halves},
    object_name::{Document, ObjectName, prefix},
    signed::DocumentError,
    store::Store,
    vault::Vault,
};

/// Looks at every mirror: whether it is there, this keyring's, and has what the keyring has. Gives each that is not, with why.
///
/// Known tenants are backed up all the same: their keys are in the keyring. A new one's key lies in every mirror, or is not made.
///
/// What is `dead`, and lies in the keyring all the same, no mirror has to have.
///
/// # Errors
/// The keyring itself cannot be listed.
pub async fn look(vault: &Vault, keyring: &Keyring, dead: &BTreeSet<KeyId>) -> Result<Vec<(String, Failure)>, Failure> {
    let mut wrong = Vec::new();
    if keyring.mirrors().is_empty() {
        return Ok(wrong);
    }
    // A key's record is written to the mirrors first: what the keyring lists was in all of them.
    let mut records = records(keyring.store()).await?;
    records.retain(|(_, key_id)| !dead.contains(key_id));
    let newest = keyring.secret_halves().await?;
    for mirror in keyring.mirrors() {
        match lacks(vault, &**mirror, (&records, &newest)).await {
            Ok(0) => {}
            Ok(lost) => {
                let message = format!(
                    "it lacks {lost} of the {} keys that the keyring has: it was put back from an old copy",
                    records.len()
                );
                wrong.push((mirror.address().to_owned(), not_whole(&**mirror, "mirror-incomplete", message)));
            }
            Err(DocumentError::Missing { .. }) => {
                let message = "it has no keyring.json: it was emptied, or its url is another place's".to_owned();
                wrong.push((mirror.address().to_owned(), not_whole(&**mirror, "mirror-incomplete", message)));
            }
            Err(error) if error.is_integrity() => {
                let message = format!("it is not this keyring's: {}", error.what());
                let failure = Failure::new(FailureClass::Integrity, "foreign-mirror", mirror.address(), message)
                    .hint("Check its url under [keyring] mirrors. No tenant that is new is taken in until then.");
                wrong.push((mirror.address().to_owned(), failure));
            }
            Err(error) => wrong.push((mirror.address().to_owned(), error.into())),
        }
    }
    Ok(wrong)
}

fn not_whole(mirror: &dyn Store, kind: &'static str, message: String) -> Failure {
    Failure::new(FailureClass::Integrity, kind, mirror.address(), message)
        .hint("`tenure keys repair` puts back what is missing from the keyring.")
}

/// How many of the keyring's keys a mirror does not have, or has only as they were wrapped before.
async fn lacks(
    vault: &Vault,
    mirror: &dyn Store,
    (records, newest): (&BTreeSet<(String, KeyId)>, &SecretHalves),
) -> Result<usize, DocumentError> {
    read_root(mirror, vault.root()).await?;
    let there = self::records(mirror).await?;
    let halves = secret_halves(mirror).await?;
    // Wrapped anew there first, and what is older goes there last.
    let is_older =
        |key_id: &KeyId| match (newest.get(key_id).and_then(BTreeSet::last), halves.get(key_id).and_then(BTreeSet::last)) {
            (_, None) => true,
            (Some(here), Some(there)) => here > there,
            (None, Some(_)) => false,
        };
    Ok(records.iter().filter(|record| !there.contains(record) || is_older(&record.1)).count())
}

/// The key records that are listed: name and key.
async fn records(store: &dyn Store) -> Result<BTreeSet<(String, KeyId)>, DocumentError> {
    let failed = |source| crate::signed::store_error(store, &prefix::TENANTS, source);
    let mut records = BTreeSet::new();
    let mut listing = store.list(prefix::TENANTS);
    while let Some(listed) = listing.try_next().await.map_err(failed)? {
        if let Ok(ObjectName::Document(Document::KeyRecord(_, key_id))) = listed.name.parse() {
            records.insert((listed.name, key_id));
        }
    }
    Ok(records)
}
