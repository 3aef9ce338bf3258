//! Objects by name: what a vault and a keyring are kept in.
//!
//! A store knows nothing of backups. It promises what is written at each method of [`Store`], on every kind of store;
//! one conformance suite in `tests/` holds all of them to it.

pub mod directory;
pub mod fault;
pub mod https;
pub mod locked;
mod open;
mod probe;
mod retry;
pub mod s3;
pub mod unreachable;

pub use open::{Location, create, open};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::BoxStream;

use crate::object_lock::{Lock, Window};

/// Whether a PUT may meet an object that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Refuse, and change nothing, when the name is taken.
    CreateOnly,
    /// Replace what is there.
    Replace,
}

/// What became of a PUT that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is stored and durable. Also said when [`PutMode::CreateOnly`] met exactly the bytes that were to be written: they may
    /// be our own, from a try whose answer was lost.
    Stored,
    /// [`PutMode::CreateOnly`], and the name was taken by other bytes, or by bytes that we may not read. Nothing was changed.
    Exists,
}

/// One object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The full name, without a leading `/`.
    pub name: String,
    /// Length in bytes.
    pub size: u64,
    /// When the store says that it was created.
    pub modified: DateTime<Utc>,
    /// What somebody did to it, on a store that keeps versions.
    pub tampering: Option<Tampering>,
    /// Which version it is, on a store that keeps versions: the one that was first written.
    pub version: Option<String>,
}

/// What was done to an object that is written once. Only a store that keeps versions can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Tampering {
    /// It was deleted; a delete marker hides it, until a lifecycle rule removes what is hidden.
    #[error("hidden by a delete marker")]
    Hidden,
    /// Something else was written under its name later.
    #[error("written over")]
    Overwritten,
}

/// One version of an object.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its content.
    pub bytes: Bytes,
    /// When the store says that it was created.
    pub modified: DateTime<Utc>,
}

/// What a store says of itself, for `tenure check`. `None` means that it would not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreFacts {
    /// Whether old versions are kept: `on`, `suspended`, `off`.
    pub versioning: Option<Versioning>,
    /// Whether object lock is enabled on the bucket. Always `Some(false)` for a directory.
    pub object_lock: Option<bool>,
    /// How long the bucket locks what is stored without a lock of its own, in words.
    pub default_retention: Option<String>,
    /// Lifecycle rules that expire current objects, one line of text each.
    pub expiring_rules: Option<Vec<String>>,
    /// Whether [`PutMode::CreateOnly`] is decided by the store itself, as a probe in this bucket showed.
    pub create_only: Option<bool>,
    /// The store's clock minus ours, in seconds, where the store has a clock of its own.
    pub clock_ahead_seconds: Option<i64>,
}

/// What a trial of locks showed, for `tenure check`. Nothing of it should be so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LockTrial {
    /// A lock was made shorter.
    pub shortened: bool,
    /// What was locked was removed as if it were not.
    pub removed: bool,
    /// What was locked was removed by asking to bypass governance.
    pub bypassed: bool,
    /// Requests to lock for as long as the window asks that were refused.
    pub refused: Vec<String>,
    /// Requests to lock for ten years that were not refused. `None` where that cannot be asked without locking something.
    pub ten_years: Option<Vec<String>>,
}

/// Versioning of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versioning {
    /// Every version is kept.
    On,
    /// It was on; old versions may still be there.
    Suspended,
    /// Never turned on.
    Off,
}

/// Objects by name.
///
/// Names are `/`-separated, of ASCII letters, digits, `.`, `-` and `_`; no segment is empty, `.` or `..`, or longer than 255 bytes, no
/// name longer than 512. No name may continue another after a `/`: a folder is no object. Prefixes are empty or end in `/`. A name outside of that is [`StoreErrorKind::BadName`] and never reaches the back end.
///
/// Every method may be called by many tasks and processes at once. Retries happen inside, and nowhere above.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// Where this is, for messages: `s3://bucket` or `file:///srv/vault`. Never holds a credential.
    fn address(&self) -> &str;

    /// Stores an object whole. When this returns `Ok(Stored)` it is durable and any reader sees it; when it returns an error the
    /// object may or may not appear, even later, but never in part.
    async fn put(&self, name: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError>;

    /// Reads an object whole. More than `limit` bytes is [`StoreErrorKind::TooLarge`], decided before they are read.
    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError>;

    /// The object's versions, oldest first, whatever hides them; empty where the store keeps none, and at most the first sixteen. What
    /// [`Store::get`] gave and does not verify may still be there as it was.
    async fn versions(&self, name: &str, limit: u64) -> Result<Vec<Stored>, StoreError>;

    /// Looks at one object without reading it. `Ok(None)` is a definite "not there". As [`Store::list`] where versions are kept.
    async fn head(&self, name: &str) -> Result<Option<Listed>, StoreError>;

    /// Every object whose name starts with `prefix`, at any depth, in no particular order. Where versions are kept, an object is what was
    /// first written under its name: also when it was hidden or written over since, which [`Listed::tampering`] says.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>>;

    /// The next name segments below `prefix` that are folders, sorted; `list_folders("t/")` gives `["0a…", "f3…"]`.
    /// Some S3 servers go on naming a folder for a while whose last object was removed.
    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError>;

    /// Removes an object, with every version of it. One that is not there is no error. Where the store does not tell whether it keeps
    /// versions, so that this could be a pretence, it is [`StoreErrorKind::VersionsUnknown`].
    async fn delete(&self, name: &str) -> Result<(), StoreError>;

    /// Whether what [`Store::delete`] removes is gone for good: false where the store would not tell whether it keeps old versions, so that
    /// a delete may do no more than hide the object.
    async fn deletes_for_good(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// The store's clock minus ours, in seconds; `None` where it has none of its own, or does not say.
    async fn clock_ahead_seconds(&self) -> Result<Option<i64>, StoreError> {
        Ok(None)
    }

    /// What the store says of itself. Probing writes objects under `probe/`, and may leave one there.
    async fn facts(&self) -> Result<StoreFacts, StoreError>;

    /// For how long what is put here is locked, where it is: see [`locked::LockedStore`].
    fn window(&self) -> Option<Window> {
        None
    }

    /// Whether objects can be locked here; `None` when the store would not tell.
    async fn can_lock(&self) -> Result<Option<bool>, StoreError> {
        Ok(Some(false))
    }

    /// [`Store::put`] with [`PutMode::CreateOnly`], under a lock from the first moment on. After `Ok(Stored)` the store has been asked,
    /// and says that the version that holds these bytes is locked as asked for; [`StoreErrorKind::NotLocked`] if it is less.
    async fn create_locked(&self, name: &str, _: Bytes, _: Lock) -> Result<PutOutcome, StoreError> {
        Err(StoreError::at_once("put and lock", self.address(), name, StoreErrorKind::NoLocks))
    }

    /// The lock of an object as it was listed; `None` where it has none.
    async fn lock_of(&self, object: &Listed) -> Result<Option<Lock>, StoreError> {
        Err(StoreError::at_once("read the lock of", self.address(), &object.name, StoreErrorKind::NoLocks))
    }

    /// Locks an object as it was listed for at least as long, never shorter than it was, and gives the lock that the store then says
    /// it has. Its mode stays what it was. [`StoreErrorKind::NotLocked`] if it is not as long as asked for.
    async fn extend_lock(&self, object: &Listed, _: Lock) -> Result<Lock, StoreError> {
        Err(StoreError::at_once("lock", self.address(), &object.name, StoreErrorKind::NoLocks))
    }

    /// Tries locks out, on an object under `probe/` that stays there and is locked for a few minutes.
    async fn try_locks(&self, _: Window, _: DateTime<Utc>) -> Result<LockTrial, StoreError> {
        Err(StoreError::at_once("try locks in", self.address(), "", StoreErrorKind::NoLocks))
    }
}

/// A store call that failed: what it was, on what, how often it was tried, and why.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {address}/{name}: {kind}{}", Tries(*.attempts, *.elapsed))]
pub struct StoreError {
    /// `get`, `put`, `list`, …
    pub operation: &'static str,
    /// [`Store::address`].
    pub address: String,
    /// Object or prefix.
    pub name: String,
    /// What to do about it.
    pub kind: StoreErrorKind,
    /// How often it was tried.
    pub attempts: u32,
    /// Over how long.
    pub elapsed: std::time::Duration,
    /// The back end's own error.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// A failure that was met at the first try, in no time.
    fn at_once(operation: &'static str, address: &str, name: &str, kind: StoreErrorKind) -> Self {
        let (address, name) = (address.to_owned(), name.to_owned());
        Self { operation, address, name, kind, attempts: 1, elapsed: std::time::Duration::ZERO, source: None }
    }
}

struct Tries(u32, std::time::Duration);

impl std::fmt::Display for Tries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 > 1 { write!(f, " (tried {} times in {:.1} s)", self.0, self.1.as_secs_f64()) } else { Ok(()) }
    }
}

/// Kinds of failure, as far as a caller may act on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreErrorKind {
    /// A definite "no such object".
    #[error("not found")]
    NotFound,
    /// A definite "no such bucket or directory".
    #[error("the bucket or directory does not exist")]
    NoSuchStore,
    /// The credentials do not allow it, or there are none.
    #[error("access denied")]
    Denied,
    /// Longer than the caller's limit.
    #[error("larger than allowed here")]
    TooLarge,
    /// No space, or a quota.
    #[error("no space left")]
    Full,
    /// The store answered with another place. Never followed.
    #[error("the store redirects elsewhere: check region and endpoint")]
    Redirected,
    /// Not reachable, too slow, or failing; a write may have happened.
    #[error("the store does not answer")]
    Unavailable,
    /// A symbolic link, a directory in an object's place, or another thing that we did not put there.
    #[error("not a plain object")]
    Foreign,
    /// It has no object lock, or does not tell.
    #[error("it has no object lock, or does not tell")]
    NoLocks,
    /// The lock that the store says is less than was asked for.
    #[error("the store does not lock it as it was asked to")]
    NotLocked,
    /// It does not tell whether it keeps versions: what is deleted may still be there.
    #[error("it does not tell whether it keeps old versions")]
    VersionsUnknown,
    /// The request is dated too far from the store's own time.
    #[error("this host's clock is too far from the store's")]
    ClockSkewed,
    /// The name breaks the rules of [`Store`].
    #[error("not a valid object name")]
    BadName,
    /// Anything else that the back end refuses.
    #[error("the store refused")]
    Refused,
}

/// Refuses a store in which nothing is known to be removed for good: see [`Store::deletes_for_good`].
///
/// # Errors
/// [`StoreErrorKind::Denied`]; the store's.
pub async fn require_deletion(store: &dyn Store) -> Result<(), StoreError> {
    if store.deletes_for_good().await? {
        return Ok(());
    }
    let what = "it does not tell whether it keeps old versions, and a delete may only hide an object: \
                allow s3:GetBucketVersioning and s3:ListBucketVersions";
    let error = StoreError::at_once("delete for good in", store.address(), "", StoreErrorKind::Denied);
    Err(StoreError { source: Some(what.into()), ..error })
}

/// Whether `name` may be an object's name: see [`Store`].
#[must_use]
pub fn is_valid_name(name: &str) -> bool {
    name.len() <= 512
        && name.split('/').all(|segment| {
            !segment.is_empty()
                && segment.len() <= 255
                && segment != "."
                && segment != ".."
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        })
}

/// Whether `prefix` may be listed: empty, or a valid name and `/`.
#[must_use]
pub fn is_valid_prefix(prefix: &str) -> bool {
    prefix.is_empty() || prefix.strip_suffix('/').is_some_and(is_valid_name)
}
