//! From where a store is to the store.

use std::path::PathBuf;
use std::sync::Arc;

use super::directory::DirectoryStore;
use super::s3::{S3Settings, S3Store};
use super::{Store, StoreError};

/// Where a store is, with all that reaching it takes.
#[derive(Debug, Clone)]
pub enum Location {
    /// A directory, by its absolute path.
    Directory(PathBuf),
    /// A bucket.
    S3(Box<S3Settings>),
}

/// Opens a store that is there, and changes nothing.
///
/// # Errors
/// [`DirectoryStore::open`], [`S3Store::connect`].
pub async fn open(location: &Location) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match location {
        Location::Directory(path) => Arc::new(DirectoryStore::open(path).await?),
        Location::S3(settings) => Arc::new(S3Store::connect((**settings).clone()).await?),
    })
}

/// Opens a store, and makes a directory that is missing. Buckets are not made.
///
/// # Errors
/// [`DirectoryStore::create`], [`S3Store::connect`].
pub async fn create(location: &Location) -> Result<Arc<dyn Store>, StoreError> {
    match location {
        Location::Directory(path) => Ok(Arc::new(DirectoryStore::create(path).await?)),
        Location::S3(_) => open(location).await,
    }
}
