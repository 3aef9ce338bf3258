//! Removing objects for good.

use chrono::{DateTime, Utc};

use super::Vault;
use crate::store::{Listed, StoreError, StoreErrorKind};

/// What became of an object that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone, with every version of it.
    Gone,
    /// The store keeps it until then.
    Locked(DateTime<Utc>),
}

impl Vault {
    /// Removes an object as it was listed, with every version of it. What is locked stays.
    ///
    /// # Errors
    /// The store's; [`StoreErrorKind::Denied`] also where a lock may be the reason and the store does not tell.
    pub async fn remove(&self, object: &Listed, now: DateTime<Utc>) -> Result<Removal, StoreError> {
        let refusal = match self.store().delete(&object.name).await {
            Ok(()) => return Ok(Removal::Gone),
            Err(error) if matches!(error.kind, StoreErrorKind::Denied | StoreErrorKind::Refused) => error,
            Err(error) => return Err(error),
        };
        if self.store().can_lock().await? != Some(true) {
            return Err(refusal);
        }
        match self.store().lock_of(object).await? {
            Some(lock) if lock.until > now => Ok(Removal::Locked(lock.until)),
            _ => Err(refusal),
        }
    }

    /// What would become of an object if it were removed then. Removes nothing.
    ///
    /// # Errors
    /// The store's.
    pub async fn would_remove(&self, object: &Listed, at: DateTime<Utc>) -> Result<Removal, StoreError> {
        if self.store().can_lock().await? != Some(true) {
            return Ok(Removal::Gone);
        }
        let lock = self.store().lock_of(object).await?;
        Ok(lock.filter(|lock| lock.until > at).map_or(Removal::Gone, |lock| Removal::Locked(lock.until)))
    }
}
