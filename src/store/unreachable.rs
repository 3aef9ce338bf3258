//! A store that could not be opened, for who can do without it: every call fails with the reason.

use bytes::Bytes;
use futures_util::{StreamExt as _, stream, stream::BoxStream};

use super::{Listed, PutMode, PutOutcome, Store, StoreError, StoreErrorKind, StoreFacts, Stored};

/// A store that is not there.
pub struct Unreachable {
    address: String,
    kind: StoreErrorKind,
    why: String,
}

impl Unreachable {
    /// Stands for the store at `address`, which `error` kept from being opened.
    #[must_use]
    pub fn new(address: impl Into<String>, error: &StoreError) -> Self {
        // Nothing in it is known to be missing.
        let is_changed = error.kind == StoreErrorKind::NotFound;
        let kind = if is_changed { StoreErrorKind::Unavailable } else { error.kind };
        let why = std::iter::successors(std::error::Error::source(error), |cause| cause.source()).map(ToString::to_string);
        let why: Vec<String> = is_changed.then(|| error.kind.to_string()).into_iter().chain(why).collect();
        Self { address: address.into(), kind, why: why.join(": ") }
    }

    fn fail(&self, operation: &'static str, name: &str) -> StoreError {
        let error = StoreError::at_once(operation, &self.address, name, self.kind);
        let why = if self.why.is_empty() { String::new() } else { format!(": {}", self.why) };
        StoreError { source: Some(format!("it could not be opened{why}").into()), ..error }
    }
}

#[async_trait::async_trait]
impl Store for Unreachable {
    fn address(&self) -> &str {
        &self.address
    }

    async fn put(&self, name: &str, _: Bytes, _: PutMode) -> Result<PutOutcome, StoreError> {
        Err(self.fail("put", name))
    }

    async fn get(&self, name: &str, _: u64) -> Result<Bytes, StoreError> {
        Err(self.fail("get", name))
    }

    async fn versions(&self, name: &str, _: u64) -> Result<Vec<Stored>, StoreError> {
        Err(self.fail("get", name))
    }

    async fn head(&self, name: &str) -> Result<Option<Listed>, StoreError> {
        Err(self.fail("head", name))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
        stream::iter([Err(self.fail("list", prefix))]).boxed()
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        Err(self.fail("list", prefix))
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        Err(self.fail("delete", name))
    }

    async fn facts(&self) -> Result<StoreFacts, StoreError> {
        Err(self.fail("look at", ""))
    }
}
