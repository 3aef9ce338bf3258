//! Locks on what is in the vault, renewed.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, future};

use super::Vault;
use crate::{
    backup_id::BackupId,
    format::record::StoredObject,
    id::{Locker, Sha256Digest},
    object_lock::{Lock, Window},
    object_name::{Document, ObjectName, prefix},
    signed::{self, DocumentError},
    store::{Listed, StoreError},
};

/// Locks that are extended at once.
const AT_ONCE: usize = 16;

impl Vault {
    /// Extends the locks of these chunks and pages, and reads each back. Gives how many of them have a weaker mode than `lock` asks for,
    /// which no store changes.
    ///
    /// # Errors
    /// [`DocumentError::Missing`] for one that is not there, [`DocumentError::Contradiction`] for one that somebody hid or wrote over,
    /// [`DocumentError::Store`].
    pub async fn extend_locks(&self, locker: Locker, mut due: HashSet<StoredObject>, lock: Lock) -> Result<u64, DocumentError> {
        let mut weaker = 0;
        for kind in ["p", "c"] {
            if !due.iter().any(|object| matches!(object, StoredObject::Page { .. }) == (kind == "p")) {
                continue;
            }
            let prefix = prefix::in_locker(locker, kind);
            // One listing tells which version each of them is, and whether anything was done to it.
            let listed = self.objects(&prefix).try_filter(|(object, _)| future::ready(due.contains(object)));
            let prefix = &prefix;
            let mut extended = listed
                .map(|listed| async move {
                    let (object, listed) = listed.map_err(|error| signed::store_error(self.store(), prefix, error))?;
                    Ok::<_, DocumentError>((object, self.extend(&listed, lock).await?))
                })
                .buffer_unordered(AT_ONCE);
            let mut done = Vec::new();
            while let Some((object, held)) = extended.try_next().await? {
                weaker += u64::from(held.mode < lock.mode);
                done.push(object);
            }
            drop(extended);
            done.iter().for_each(|object| {
                due.remove(object);
            });
        }
        match due.into_iter().next() {
            None => Ok(weaker),
            Some(object) => Err(DocumentError::Missing { object: signed::locate(self.store(), &name_of(locker, object)) }),
        }
    }

    /// The lock of each chunk and page that is listed and asked about.
    ///
    /// # Errors
    /// The store's.
    pub async fn locks(
        &self,
        locker: Locker,
        asked: impl Fn(StoredObject) -> bool,
    ) -> Result<Vec<(StoredObject, Option<Lock>)>, StoreError> {
        let mut locks = Vec::new();
        for kind in ["p", "c"] {
            let prefix = prefix::in_locker(locker, kind);
            let listed = self.objects(&prefix).try_filter(|(object, _)| future::ready(asked(*object)));
            let mut held = listed
                .map_ok(|(object, listed)| async move { Ok((object, self.store().lock_of(&listed).await?)) })
                .try_buffer_unordered(AT_ONCE);
            while let Some(one) = held.try_next().await? {
                locks.push(one);
            }
        }
        Ok(locks)
    }

    /// The lock of each manifest that is listed and asked about, and of its signature, with its name.
    ///
    /// # Errors
    /// The store's.
    pub async fn manifest_locks(
        &self,
        locker: Locker,
        asked: impl Fn(BackupId) -> bool,
    ) -> Result<Vec<(BackupId, String, Option<Lock>)>, StoreError> {
        let prefix = prefix::in_locker(locker, "b");
        let listed = self.store().list(&prefix).try_filter_map(|listed| {
            let backup = match listed.name.parse() {
                Ok(
                    ObjectName::Document(Document::Manifest(_, backup)) | ObjectName::Signature(Document::Manifest(_, backup)),
                ) => Some(backup),
                _ => None,
            };
            future::ok(backup.filter(|backup| asked(*backup)).map(|backup| (backup, listed)))
        });
        let held = listed.map_ok(|(backup, listed)| async move {
            let lock = self.store().lock_of(&listed).await?;
            Ok((backup, listed.name, lock))
        });
        held.try_buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Chunks or pages as they are listed.
    fn objects<'a>(&'a self, prefix: &'a str) -> impl Stream<Item = Result<(StoredObject, Listed), StoreError>> + 'a {
        self.store().list(prefix).try_filter_map(|listed| future::ok(stored_object(&listed).map(|object| (object, listed))))
    }

    async fn extend(&self, listed: &Listed, lock: Lock) -> Result<Lock, DocumentError> {
        if let Some(tampering) = listed.tampering {
            let object = signed::locate(self.store(), &listed.name);
            return Err(DocumentError::Contradiction { object, what: format!("it was {tampering} while the backup ran") });
        }
        self.store().extend_lock(listed, lock).await.map_err(|error| signed::store_error(self.store(), &listed.name, error))
    }

    /// Renews the locks of what says whose vault it is and who may sign: `init` stored it, perhaps without any.
    ///
    /// # Errors
    /// A lock that the store does not take or does not tell.
    pub async fn renew_roots(&self, window: Window, now: DateTime<Utc>) -> Result<(), StoreError> {
        let root = [ObjectName::Document(Document::VaultRoot), ObjectName::Signature(Document::VaultRoot)];
        let mut objects: Vec<Listed> = self.store().list(prefix::SIGNERS).try_collect().await?;
        for name in root {
            objects.extend(self.store().head(&name.to_string()).await?);
        }
        self.renew(&objects, window, now).await
    }

    /// Renews the locks of the records of where a tenant lives: without them its backups stop.
    ///
    /// # Errors
    /// As [`Vault::renew_roots`].
    pub async fn renew_sources(&self, locker: Locker, window: Window, now: DateTime<Utc>) -> Result<(), StoreError> {
        let objects: Vec<Listed> = self.store().list(&prefix::in_locker(locker, "s")).try_collect().await?;
        self.renew(&objects, window, now).await
    }

    async fn renew(&self, objects: &[Listed], window: Window, now: DateTime<Utc>) -> Result<(), StoreError> {
        for object in objects {
            let held = self.store().lock_of(object).await?;
            if window.is_due(Sha256Digest::of(object.name.as_bytes()), held.map(|held| held.until), now) {
                self.store().extend_lock(object, window.fresh(now)).await?;
            }
        }
        Ok(())
    }
}

/// The name of a chunk or page.
#[must_use]
pub fn name_of(locker: Locker, object: StoredObject) -> ObjectName {
    match object {
        StoredObject::Chunk { birth, name } => ObjectName::Chunk { locker, birth, name },
        StoredObject::Page { birth, sha256 } => ObjectName::Page { locker, birth, sha256 },
    }
}

fn stored_object(listed: &Listed) -> Option<StoredObject> {
    match listed.name.parse() {
        Ok(ObjectName::Chunk { birth, name, .. }) => Some(StoredObject::Chunk { birth, name }),
        Ok(ObjectName::Page { birth, sha256, .. }) => Some(StoredObject::Page { birth, sha256 }),
        _ => None,
    }
}
