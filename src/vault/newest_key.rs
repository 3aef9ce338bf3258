//! With which key the newest backup of a locker is sealed.

use futures_util::{TryStreamExt as _, future};

use super::Vault;
use crate::{
    id::{KeyId, Locker},
    object_name::{Document, ObjectName, prefix},
    signed::{self, DocumentError},
};

impl Vault {
    /// The key that the newest manifest of a locker names, by one listing and one document. `None` where there is none, or none that can be
    /// trusted: that is for those to say who read them all.
    ///
    /// # Errors
    /// The store's.
    pub async fn newest_key(&self, locker: Locker) -> Result<Option<KeyId>, DocumentError> {
        let prefix = prefix::in_locker(locker, "b");
        let manifests = self.store().list(&prefix).try_filter_map(|listed| {
            future::ok(match listed.name.parse() {
                Ok(ObjectName::Document(Document::Manifest(_, backup))) => Some((backup, listed.modified)),
                _ => None,
            })
        });
        let manifests: Vec<_> =
            manifests.try_collect().await.map_err(|source| signed::store_error(self.store(), &prefix, source))?;
        // Ids tell their time to the second: the store's time parts those of one second.
        let newest = manifests.into_iter().max_by_key(|(backup, stored_at)| (backup.time(), *stored_at));
        let Some((backup, stored_at)) = newest else { return Ok(None) };
        match self.manifest(locker, backup, stored_at).await {
            Ok(backup) => Ok(Some(backup.manifest.key_id)),
            Err(error @ DocumentError::Store { .. }) => Err(error),
            Err(_) => Ok(None),
        }
    }
}
