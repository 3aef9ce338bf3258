//! A store in which everything that is created is locked.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;
use tokio::sync::OnceCell;

use super::{Listed, LockTrial, PutMode, PutOutcome, Store, StoreError, StoreErrorKind, StoreFacts, Stored};
use crate::object_lock::{Lock, Window};
use crate::object_name::prefix;

/// Another store, with a lock on every object that is created in it, but for trials under `probe/`.
pub struct LockedStore {
    inner: Arc<dyn Store>,
    window: Window,
    clock: fn() -> DateTime<Utc>,
    has_locks: OnceCell<()>,
}

impl LockedStore {
    /// Locks for `window`, counted from what `clock` says when an object is created. Nothing is asked yet.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, window: Window, clock: fn() -> DateTime<Utc>) -> Self {
        Self { inner, window, clock, has_locks: OnceCell::new() }
    }
}

/// Refuses a store that cannot lock objects, or does not tell.
///
/// # Errors
/// [`StoreErrorKind::NoLocks`]; the store's.
pub async fn require(store: &dyn Store) -> Result<(), StoreError> {
    let source = match store.can_lock().await? {
        Some(true) => return Ok(()),
        Some(false) => "object lock is not on",
        None => "it does not tell whether object lock is on",
    };
    let error = StoreError::at_once("lock objects in", store.address(), "", StoreErrorKind::NoLocks);
    Err(StoreError { source: Some(source.into()), ..error })
}

#[async_trait::async_trait]
impl Store for LockedStore {
    fn address(&self) -> &str {
        self.inner.address()
    }

    async fn put(&self, name: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        if mode == PutMode::Replace || name.starts_with(prefix::PROBE) {
            return self.inner.put(name, body, mode).await;
        }
        // Before the first object, and not after it.
        self.has_locks.get_or_try_init(|| require(&*self.inner)).await?;
        self.inner.create_locked(name, body, self.window.fresh((self.clock)())).await
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.inner.get(name, limit).await
    }

    async fn versions(&self, name: &str, limit: u64) -> Result<Vec<Stored>, StoreError> {
        self.inner.versions(name, limit).await
    }

    async fn head(&self, name: &str) -> Result<Option<Listed>, StoreError> {
        self.inner.head(name).await
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
        self.inner.list(prefix)
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.inner.list_folders(prefix).await
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.inner.delete(name).await
    }

    async fn deletes_for_good(&self) -> Result<bool, StoreError> {
        self.inner.deletes_for_good().await
    }

    async fn facts(&self) -> Result<StoreFacts, StoreError> {
        self.inner.facts().await
    }

    async fn clock_ahead_seconds(&self) -> Result<Option<i64>, StoreError> {
        self.inner.clock_ahead_seconds().await
    }

    fn window(&self) -> Option<Window> {
        Some(self.window)
    }

    async fn can_lock(&self) -> Result<Option<bool>, StoreError> {
        self.inner.can_lock().await
    }

    async fn create_locked(&self, name: &str, body: Bytes, lock: Lock) -> Result<PutOutcome, StoreError> {
        self.inner.create_locked(name, body, lock).await
    }

    async fn lock_of(&self, object: &Listed) -> Result<Option<Lock>, StoreError> {
        self.inner.lock_of(object).await
    }

    async fn extend_lock(&self, object: &Listed, lock: Lock) -> Result<Lock, StoreError> {
        self.inner.extend_lock(object, lock).await
    }

    async fn try_locks(&self, window: Window, now: DateTime<Utc>) -> Result<LockTrial, StoreError> {
        self.inner.try_locks(window, now).await
    }
}
