//! Whose a key or a locker is, by every copy of the keyring.

use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all, stream};

use super::{Keyring, READERS, went_meanwhile};
use crate::{
    id::{KeyId, Locker, NameTag},
    object_name::{Document, ObjectName, prefix},
    signed::{self, DocumentError},
    store::Store,
    vault::list_named,
};

/// What one key record in one copy of the keyring says.
#[derive(Debug)]
pub struct Claim {
    /// Whose, by its name.
    pub tag: NameTag,
    /// Which key, by its name.
    pub key_id: KeyId,
    /// Where it says that its tenant's backups lie; `None` where it was not read, or cannot be trusted.
    pub locker: Option<Locker>,
    /// Address and name.
    pub object: String,
}

impl Keyring {
    /// Every tenant's key records, in the keyring and in each mirror that answers. Of a record that is not `read`, or whose signature alone is
    /// left, its name.
    ///
    /// # Errors
    /// [`DocumentError::Store`], of the keyring itself.
    pub async fn claims(&self, read: impl Fn(NameTag, KeyId) -> bool) -> Result<Vec<Claim>, DocumentError> {
        let asked = join_all(self.stores().map(|store| self.claims_in(&**store, &read))).await;
        let mut claims = Vec::new();
        for (nth, found) in asked.into_iter().enumerate() {
            match found {
                // A mirror that is away has no say.
                Err(_) if nth > 0 => {}
                found => claims.extend(found?),
            }
        }
        Ok(claims)
    }

    async fn claims_in(&self, store: &dyn Store, wanted: &impl Fn(NameTag, KeyId) -> bool) -> Result<Vec<Claim>, DocumentError> {
        let (named, _) =
            list_named(store, prefix::TENANTS).await.map_err(|error| signed::store_error(store, &prefix::TENANTS, error))?;
        let read = stream::iter(named).map(async |(name, listed)| {
            let object = signed::locate(store, &name);
            match name {
                ObjectName::Document(Document::KeyRecord(tag, key_id)) if wanted(tag, key_id) => {
                    let locker = match self.record(store, tag, key_id, listed.modified).await {
                        Ok(record) => Some(record.locker),
                        Err(error @ DocumentError::Store { .. }) => return Err(error),
                        Err(error) if went_meanwhile(store, tag, key_id, &error).await? => return Ok(None),
                        Err(_) => None,
                    };
                    Ok(Some(Claim { tag, key_id, locker, object }))
                }
                ObjectName::Document(Document::KeyRecord(tag, key_id))
                | ObjectName::Signature(Document::KeyRecord(tag, key_id)) => {
                    Ok(Some(Claim { tag, key_id, locker: None, object }))
                }
                _ => Ok(None),
            }
        });
        let read: Vec<Option<Claim>> = read.buffer_unordered(READERS).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }
}
