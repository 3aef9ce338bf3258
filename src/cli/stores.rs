//! Opens the stores that the configuration names.

use std::{path::Path, sync::Arc};

use crate::{
    config::store::{Opening, StoreUrl},
    operation::failure::{Failure, FailureClass},
    store::{Store, StoreError, StoreErrorKind, directory::DirectoryStore},
};

/// Opens a store. `folder` is what relative paths are relative to.
///
/// # Errors
/// It is not there, or not to be used.
pub async fn open(opening: &Opening<'_>, folder: &Path) -> Result<Arc<dyn Store>, Failure> {
    let _ = folder;
    match opening.url {
        StoreUrl::Directory(path) => {
            let store = DirectoryStore::open(path).await.map_err(|error| cannot_open(opening.url, error))?;
            Ok(Arc::new(store))
        }
        StoreUrl::S3 { .. } => Err(Failure::new(FailureClass::Usage, "not-built", opening.url, "S3 is not built yet")),
    }
}

/// Like [`open`]; a directory that is missing is made.
///
/// # Errors
/// As [`open`].
pub async fn open_or_create(opening: &Opening<'_>, folder: &Path) -> Result<Arc<dyn Store>, Failure> {
    if let StoreUrl::Directory(path) = opening.url {
        let store = DirectoryStore::create(path).await.map_err(|error| cannot_open(opening.url, error))?;
        return Ok(Arc::new(store));
    }
    open(opening, folder).await
}

fn cannot_open(url: &StoreUrl, error: StoreError) -> Failure {
    let hint = match error.kind {
        StoreErrorKind::NoSuchStore => "is the disk mounted, and the address right? `tenure init` makes a new one",
        StoreErrorKind::Denied => "it belongs to another user, or its permissions keep this one out",
        _ => "see the cause above",
    };
    Failure::new(FailureClass::Failed, "store", url, format!("cannot open {url}")).hint(hint).because(error)
}
