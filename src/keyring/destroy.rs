//! Destroying keys: every copy of them in one store, every version, and a look that they are gone.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    id::{KeyId, NameTag},
    object_name::{Document, ObjectName, prefix},
    signed,
    store::{Listed, Store, StoreError, require_deletion},
};

/// Objects removed at once.
const AT_ONCE: usize = 16;
/// How often what is still listed is removed again, before somebody else is taken to be putting it back.
const ROUNDS: usize = 3;

/// Copies of keys that could not be destroyed: some, or all, may still be there.
#[derive(Debug, thiserror::Error)]
pub enum DestroyError {
    /// The store failed.
    #[error("cannot destroy what {store} has of the keys")]
    Store {
        /// Address of the store.
        store: String,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// It was removed, and is listed again.
    #[error("{object} is still there after it was removed")]
    StillThere {
        /// Address and name.
        object: String,
    },
}

/// What was destroyed in one store. Its listings afterwards had nothing of the keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Destroyed {
    /// Objects that were removed.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Everything that one store (the keyring or a mirror) has of some keys of a tenant, in the order in which it may be removed: secret
/// halves, records, signatures. So a key is useless before anything else of it goes, and no record ever lacks its signature.
///
/// # Errors
/// The store's.
pub async fn copies(store: &dyn Store, tag: NameTag, keys: &BTreeSet<KeyId>) -> Result<[Vec<Listed>; 3], StoreError> {
    let records = prefix::key_records(tag);
    let mut copies = [Vec::new(), Vec::new(), Vec::new()];
    for prefix in [prefix::SECRET_KEYS, &records] {
        let mut listing = store.list(prefix);
        while let Some(listed) = listing.try_next().await? {
            let place = match listed.name.parse() {
                Ok(ObjectName::SecretKey { key_id, .. }) if keys.contains(&key_id) => 0,
                Ok(ObjectName::Document(document)) if key_of(&document).is_some_and(|key| keys.contains(&key)) => 1,
                Ok(ObjectName::Signature(document)) if key_of(&document).is_some_and(|key| keys.contains(&key)) => 2,
                _ => continue,
            };
            copies[place].push(listed);
        }
    }
    Ok(copies)
}

/// Removes everything that one store has of some keys of a tenant, with every version, and lists again until nothing is left.
///
/// # Errors
/// [`DestroyError`]; then it is to be done again.
pub async fn destroy(store: &dyn Store, tag: NameTag, keys: &BTreeSet<KeyId>) -> Result<Destroyed, DestroyError> {
    let failed = |source: StoreError| DestroyError::Store { store: store.address().to_owned(), source: source.into() };
    require_deletion(store).await.map_err(failed)?;
    let mut destroyed = Destroyed::default();
    for _ in 0..ROUNDS {
        let copies = copies(store, tag, keys).await.map_err(failed)?;
        if copies.iter().all(Vec::is_empty) {
            return Ok(destroyed);
        }
        for kind in &copies {
            let removed = stream::iter(kind)
                .map(async |listed| store.delete(&listed.name).await)
                .buffer_unordered(AT_ONCE)
                .try_for_each(|()| std::future::ready(Ok(())));
            removed.await.map_err(failed)?;
            destroyed.objects += kind.len() as u64;
            destroyed.bytes += kind.iter().map(|listed| listed.size).sum::<u64>();
        }
    }
    match copies(store, tag, keys).await.map_err(failed)?.into_iter().flatten().next() {
        Some(listed) => Err(DestroyError::StillThere { object: signed::locate(store, &listed.name) }),
        None => Ok(destroyed),
    }
}

/// The key that a record in the keyring is of.
fn key_of(document: &Document) -> Option<KeyId> {
    match document {
        Document::KeyRecord(_, key) | Document::Rewrapping(_, key, _) => Some(*key),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::{
        PutMode, StoreErrorKind,
        directory::DirectoryStore,
        fault::{Fault, FaultStore, Operation},
    };

    async fn keyring() -> (tempfile::TempDir, FaultStore, NameTag, BTreeSet<KeyId>) {
        let scratch = tempfile::tempdir().unwrap();
        let store = FaultStore::new(Arc::new(DirectoryStore::open(scratch.path()).await.unwrap()));
        let (tag, mine, other) = (NameTag::random(), KeyId::random(), KeyId::random());
        for key in [mine, other] {
            let record = Document::KeyRecord(tag, key);
            let again = Document::Rewrapping(tag, key, 2);
            for name in [
                ObjectName::SecretKey { key_id: key, wrapping: 1 },
                ObjectName::SecretKey { key_id: key, wrapping: 2 },
                ObjectName::Document(record.clone()),
                ObjectName::Signature(record),
                ObjectName::Document(again.clone()),
                ObjectName::Signature(again),
            ] {
                store.put(&name.to_string(), "x".into(), PutMode::CreateOnly).await.unwrap();
            }
        }
        (scratch, store, tag, BTreeSet::from([mine]))
    }

    #[tokio::test]
    async fn every_copy_goes_and_no_other_key() {
        let (_scratch, store, tag, keys) = keyring().await;
        assert_eq!(destroy(&store, tag, &keys).await.unwrap(), Destroyed { objects: 6, bytes: 6 });
        let left: Vec<Listed> = store.list("").try_collect().await.unwrap();
        assert_eq!(left.len(), 6);
        assert!(left.iter().all(|listed| !listed.name.contains(&keys.first().unwrap().to_string())), "{left:?}");
        assert_eq!(destroy(&store, tag, &keys).await.unwrap(), Destroyed::default(), "a second time there is nothing to do");
        let log = store.log();
        let first =
            |part: &str| log.iter().position(|(called, name)| *called == Operation::Delete && name.ends_with(part)).unwrap();
        assert!(first(".age") < first(".json") && first(".json") < first(".sig"), "{log:?}");
        assert_eq!(log.last().unwrap().0, Operation::List, "what was removed is looked for again");
    }

    #[tokio::test]
    async fn no_failure_passes_for_destroyed() {
        for (operation, part) in
            [(Operation::Delete, ".age"), (Operation::Delete, ".sig"), (Operation::List, "k/"), (Operation::List, "t/")]
        {
            for nth in 1..=2 {
                let (_scratch, store, tag, keys) = keyring().await;
                store.fail(operation, part, nth, Fault::Refused(StoreErrorKind::Denied));
                assert!(
                    matches!(destroy(&store, tag, &keys).await, Err(DestroyError::Store { .. })),
                    "{operation:?} {part} {nth}"
                );
                destroy(&store, tag, &keys).await.unwrap();
                assert!(copies(&store, tag, &keys).await.unwrap().iter().all(Vec::is_empty));
            }
        }
    }
}
