//! What a locker lists of manifests, with which key the newest backup is sealed, and whether one is still the one that somebody named.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures_util::{TryStreamExt as _, future};

use super::{Vault, history::Backup};
use crate::{
    backup_id::BackupId,
    id::{KeyId, Locker, Sha256Digest},
    object_name::{Document, ObjectName, prefix},
    signed::{self, DocumentError},
};

/// Listed manifests, each with when the store took it.
pub type Manifests = BTreeMap<BackupId, DateTime<Utc>>;

impl Vault {
    /// The manifests that a locker lists, whatever they are worth.
    ///
    /// # Errors
    /// The store's.
    pub async fn manifests(&self, locker: Locker) -> Result<Manifests, DocumentError> {
        let prefix = prefix::in_locker(locker, "b");
        let manifests = self.store().list(&prefix).try_filter_map(|listed| {
            future::ok(match listed.name.parse() {
                Ok(ObjectName::Document(Document::Manifest(_, backup))) => Some((backup, listed.modified)),
                _ => None,
            })
        });
        manifests.try_collect().await.map_err(|source| signed::store_error(self.store(), &prefix, source))
    }

    /// The key that the newest manifest of a locker names, by one listing and one document. `None` where there is none, or none that can be
    /// trusted: that is for those to say who read them all.
    ///
    /// # Errors
    /// The store's.
    pub async fn newest_key(&self, locker: Locker) -> Result<Option<KeyId>, DocumentError> {
        self.newest_key_of(locker, &self.manifests(locker).await?).await
    }

    /// The same of a locker that was listed already.
    ///
    /// # Errors
    /// The store's.
    pub async fn newest_key_of(&self, locker: Locker, manifests: &Manifests) -> Result<Option<KeyId>, DocumentError> {
        // Ids tell their time to the second: the store's time parts those of one second.
        let newest = manifests.iter().max_by_key(|(backup, stored_at)| (backup.time(), **stored_at));
        let Some((backup, stored_at)) = newest else { return Ok(None) };
        match self.manifest(locker, *backup, *stored_at).await {
            Ok(backup) => Ok(Some(backup.manifest.key_id)),
            Err(error @ DocumentError::Store { .. }) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The manifest of one backup, verified as [`Vault::history`] verifies it; `None` where there is none. Whether it was declared void or let go
    /// of is not asked: see [`Vault::is_let_go`].
    ///
    /// # Errors
    /// As [`signed::read`]; [`DocumentError::Contradiction`] for one that says another thing than its name.
    pub async fn one_backup(&self, locker: Locker, backup: BackupId) -> Result<Option<Backup>, DocumentError> {
        let document = Document::Manifest(locker, backup);
        let found = self.store().head(&document.to_string()).await;
        match found.map_err(|error| signed::store_error(self.store(), &document, error))? {
            Some(listed) => self.manifest(locker, backup, listed.modified).await.map(Some),
            None => Ok(None),
        }
    }

    /// Whether a backup was purged or declared void, by a note or a void that is there.
    ///
    /// # Errors
    /// The store's.
    pub async fn is_let_go(&self, locker: Locker, backup: BackupId, sha256: Sha256Digest) -> Result<bool, DocumentError> {
        let void = Document::Void(locker, backup);
        let found = self.store().head(&void.to_string()).await;
        let is_void = found.map_err(|error| signed::store_error(self.store(), &void, error))?.is_some();
        Ok(is_void || self.gone(locker).await?.names_backup(backup, sha256))
    }
}
