//! A store that fails when told to, for tests of what stands above it.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use chrono::{DateTime, Utc};

use super::{Listed, LockTrial, PutMode, PutOutcome, Store, StoreError, StoreErrorKind, StoreFacts, Stored};
use crate::object_lock::{Lock, Window};

/// A method of [`Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`Store::put`] and [`Store::create_locked`].
    Put,
    /// [`Store::get`].
    Get,
    /// [`Store::versions`].
    Versions,
    /// [`Store::head`].
    Head,
    /// [`Store::list`].
    List,
    /// [`Store::list_folders`].
    ListFolders,
    /// [`Store::delete`].
    Delete,
    /// [`Store::clock_ahead_seconds`].
    Clock,
    /// [`Store::facts`], [`Store::can_lock`], [`Store::deletes_for_good`] and [`Store::try_locks`].
    Facts,
    /// [`Store::lock_of`].
    LockOf,
    /// [`Store::extend_lock`].
    ExtendLock,
}

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does not take place.
    Refused(StoreErrorKind),
    /// It takes place, and then the answer is lost: [`StoreErrorKind::Unavailable`]. A listing breaks off after its first object.
    Lost,
    /// A put takes place, and right after it another writer's, as on a server that cannot refuse the second. Other calls don't know it.
    Overwritten,
}

/// Another store, the calls that were made, and those that are to fail.
pub struct FaultStore {
    inner: Arc<dyn Store>,
    calls: Mutex<Vec<(Operation, String)>>,
    planned: Mutex<Vec<Planned>>,
    countdown: Option<Arc<Countdown>>,
}

/// Calls of several stores, counted together from [`Countdown::begin`] on: one of them fails, whatever it is.
#[derive(Debug)]
pub struct Countdown {
    begun: AtomicBool,
    left: AtomicUsize,
    fault: Fault,
    for_good: bool,
}

impl Countdown {
    /// The `nth` call fails.
    #[must_use]
    pub fn once(nth: usize, fault: Fault) -> Arc<Self> {
        Arc::new(Self { begun: AtomicBool::new(false), left: AtomicUsize::new(nth), fault, for_good: false })
    }

    /// From the `nth` call on none takes place any more, as if the caller had been killed.
    #[must_use]
    pub fn dead(nth: usize) -> Arc<Self> {
        let fault = Fault::Refused(StoreErrorKind::Unavailable);
        Arc::new(Self { begun: AtomicBool::new(false), left: AtomicUsize::new(nth), fault, for_good: true })
    }

    /// Calls count from now on.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
    }

    /// How many calls are left until that one.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }

    /// Whether so many calls were made.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    fn next(&self) -> Option<Fault> {
        if !self.begun.load(Ordering::SeqCst) {
            return None;
        }
        let before = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        match before {
            Ok(1) => Some(self.fault),
            Err(_) if self.for_good => Some(self.fault),
            _ => None,
        }
    }
}

type Matches = Box<dyn Fn(Operation, &str) -> bool + Send>;

struct Planned {
    matches: Matches,
    /// Calls that match, this one included, until the fault.
    countdown: usize,
    fault: Fault,
}

impl FaultStore {
    /// Passes everything on to `inner` until told otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, calls: Mutex::default(), planned: Mutex::default(), countdown: None }
    }

    /// The same, counted together with others.
    #[must_use]
    pub fn counted(inner: Arc<dyn Store>, countdown: &Arc<Countdown>) -> Self {
        Self { countdown: Some(Arc::clone(countdown)), ..Self::new(inner) }
    }

    /// Makes the `nth` call from now (1 is the next) of `operation` on a name or prefix that contains `part` fail, once.
    pub fn fail(&self, operation: Operation, part: &str, nth: usize, fault: Fault) {
        let part = part.to_owned();
        self.fail_where(move |called, name| called == operation && name.contains(&part), nth, fault);
    }

    /// Makes the `nth` call from now that `matches` fail, once.
    pub fn fail_where(&self, matches: impl Fn(Operation, &str) -> bool + Send + 'static, nth: usize, fault: Fault) {
        lock(&self.planned).push(Planned { matches: Box::new(matches), countdown: nth, fault });
    }

    /// Every call so far, with its name or prefix.
    pub fn log(&self) -> Vec<(Operation, String)> {
        lock(&self.calls).clone()
    }

    /// How often `operation` was called on a name or prefix that contains `part`.
    pub fn calls(&self, operation: Operation, part: &str) -> usize {
        lock(&self.calls).iter().filter(|(called, name)| *called == operation && name.contains(part)).count()
    }

    fn next_fault(&self, operation: Operation, name: &str) -> Option<Fault> {
        lock(&self.calls).push((operation, name.to_owned()));
        if let Some(fault) = self.countdown.as_ref().and_then(|countdown| countdown.next()) {
            return Some(fault);
        }
        let mut planned = lock(&self.planned);
        for plan in planned.iter_mut().filter(|plan| (plan.matches)(operation, name)) {
            plan.countdown = plan.countdown.saturating_sub(1);
        }
        let due = planned.iter().position(|plan| plan.countdown == 0)?;
        Some(planned.remove(due).fault)
    }

    fn error(&self, name: &str, kind: StoreErrorKind) -> StoreError {
        StoreError::at_once("injected fault in", self.inner.address(), name, kind)
    }

    async fn call<T>(
        &self,
        operation: Operation,
        name: &str,
        inner: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        self.suffer(self.next_fault(operation, name), name, inner).await
    }

    async fn suffer<T>(
        &self,
        fault: Option<Fault>,
        name: &str,
        inner: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        match fault {
            None | Some(Fault::Overwritten) => inner.await,
            Some(Fault::Refused(kind)) => Err(self.error(name, kind)),
            Some(Fault::Lost) => {
                inner.await?;
                Err(self.error(name, StoreErrorKind::Unavailable))
            }
        }
    }
}

#[async_trait::async_trait]
impl Store for FaultStore {
    fn address(&self) -> &str {
        self.inner.address()
    }

    async fn put(&self, name: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        let fault = self.next_fault(Operation::Put, name);
        let outcome = self.suffer(fault, name, self.inner.put(name, body, mode)).await?;
        if fault == Some(Fault::Overwritten) {
            self.inner.put(name, Bytes::from_static(b"another writer's"), PutMode::Replace).await?;
        }
        Ok(outcome)
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.call(Operation::Get, name, self.inner.get(name, limit)).await
    }

    async fn versions(&self, name: &str, limit: u64) -> Result<Vec<Stored>, StoreError> {
        self.call(Operation::Versions, name, self.inner.versions(name, limit)).await
    }

    async fn head(&self, name: &str) -> Result<Option<Listed>, StoreError> {
        self.call(Operation::Head, name, self.inner.head(name)).await
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
        let failed = |kind| stream::iter([Err(self.error(prefix, kind))]);
        match self.next_fault(Operation::List, prefix) {
            None | Some(Fault::Overwritten) => self.inner.list(prefix),
            Some(Fault::Refused(kind)) => failed(kind).boxed(),
            Some(Fault::Lost) => self.inner.list(prefix).take(1).chain(failed(StoreErrorKind::Unavailable)).boxed(),
        }
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.call(Operation::ListFolders, prefix, self.inner.list_folders(prefix)).await
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.call(Operation::Delete, name, self.inner.delete(name)).await
    }

    async fn deletes_for_good(&self) -> Result<bool, StoreError> {
        self.call(Operation::Facts, "", self.inner.deletes_for_good()).await
    }

    async fn clock_ahead_seconds(&self) -> Result<Option<i64>, StoreError> {
        self.call(Operation::Clock, "", self.inner.clock_ahead_seconds()).await
    }

    async fn facts(&self) -> Result<StoreFacts, StoreError> {
        self.call(Operation::Facts, "", self.inner.facts()).await
    }

    fn window(&self) -> Option<Window> {
        self.inner.window()
    }

    async fn can_lock(&self) -> Result<Option<bool>, StoreError> {
        self.call(Operation::Facts, "", self.inner.can_lock()).await
    }

    async fn create_locked(&self, name: &str, body: Bytes, lock: Lock) -> Result<PutOutcome, StoreError> {
        self.call(Operation::Put, name, self.inner.create_locked(name, body, lock)).await
    }

    async fn lock_of(&self, object: &Listed) -> Result<Option<Lock>, StoreError> {
        self.call(Operation::LockOf, &object.name, self.inner.lock_of(object)).await
    }

    async fn extend_lock(&self, object: &Listed, lock: Lock) -> Result<Lock, StoreError> {
        self.call(Operation::ExtendLock, &object.name, self.inner.extend_lock(object, lock)).await
    }

    async fn try_locks(&self, window: Window, now: DateTime<Utc>) -> Result<LockTrial, StoreError> {
        self.call(Operation::Facts, "", self.inner.try_locks(window, now)).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::*;
    use crate::store::directory::DirectoryStore;

    #[tokio::test]
    async fn the_nth_matching_call_fails_and_no_other() {
        let scratch = tempfile::tempdir().unwrap();
        let store = FaultStore::new(Arc::new(DirectoryStore::open(scratch.path()).await.unwrap()));
        let put = async |name: &str| store.put(name, "x".into(), PutMode::CreateOnly).await.map_err(|error| error.kind);
        store.fail(Operation::Put, "b/", 2, Fault::Refused(StoreErrorKind::Full));
        store.fail(Operation::Put, "c/", 1, Fault::Lost);
        for (name, outcome) in [
            ("b/1", Ok(PutOutcome::Stored)),
            ("a/1", Ok(PutOutcome::Stored)),
            ("b/2", Err(StoreErrorKind::Full)),
            ("b/3", Ok(PutOutcome::Stored)),
            ("c/1", Err(StoreErrorKind::Unavailable)),
        ] {
            assert_eq!(put(name).await, outcome, "{name}");
        }
        assert_eq!(store.calls(Operation::Put, "b/"), 3);
        assert_eq!(store.head("b/2").await.unwrap(), None, "a refused call does not take place");
        assert!(store.head("c/1").await.unwrap().is_some(), "a lost one does");

        store.fail(Operation::List, "b/", 1, Fault::Lost);
        let mut listing = store.list("b/");
        assert!(listing.try_next().await.unwrap().is_some());
        assert_eq!(listing.try_next().await.unwrap_err().kind, StoreErrorKind::Unavailable);
    }
}
