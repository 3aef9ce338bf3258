//! Opens the stores that the configuration names.

use std::{path::Path, sync::Arc};

use crate::{
    config::{
        Config,
        store::{Opening, Role, StoreUrl},
    },
    operation::failure::{Failure, FailureClass},
    printable::Printable,
    store::{
        self, Location, Store, StoreError, StoreErrorKind,
        locked::LockedStore,
        s3::{Credentials, S3Settings},
        unreachable::Unreachable,
    },
};

/// Opens a store. `folder` is what relative paths are relative to.
///
/// # Errors
/// It is not there, or not to be used.
pub(super) async fn open(opening: &Opening<'_>, folder: &Path) -> Result<Arc<dyn Store>, Failure> {
    store::open(&location(opening, folder)).await.map_err(|error| cannot_open(opening.url, error))
}

/// Like [`open`], for the keyring: a directory that is lost can be filled again.
///
/// # Errors
/// As [`open`].
pub(super) async fn open_keyring(opening: &Opening<'_>, folder: &Path) -> Result<Arc<dyn Store>, Failure> {
    open(opening, folder).await.map_err(|failure| match opening.url {
        StoreUrl::Directory(path) if !path.exists() => {
            let hint = format!(
                "is the disk mounted, and the address right? If the keyring is lost: `mkdir {}`, and `tenure keys repair` fills it from a \
                 mirror. Only for an installation that never was: `tenure init` makes a new one",
                Printable(&path.display().to_string())
            );
            failure.hint(hint)
        }
        _ => failure,
    })
}

/// Like [`open`]; one that cannot be opened fails when something is asked of it, so that who asks nothing can do without.
pub(super) async fn open_if_there(opening: &Opening<'_>, folder: &Path) -> Arc<dyn Store> {
    let opened = store::open(&location(opening, folder)).await;
    opened.unwrap_or_else(|error| Arc::new(Unreachable::new(opening.url.to_string(), &error)))
}

/// Like [`open`]; a directory that is missing is made.
///
/// # Errors
/// As [`open`].
pub(super) async fn open_or_create(opening: &Opening<'_>, folder: &Path) -> Result<Arc<dyn Store>, Failure> {
    store::create(&location(opening, folder)).await.map_err(|error| cannot_open(opening.url, error))
}

/// Opens the vault. What is created in it is locked, where the configuration says so.
///
/// # Errors
/// As [`open`].
pub(super) async fn open_vault(config: &Config, role: Role) -> Result<Arc<dyn Store>, Failure> {
    let store = open(&config.vault.opening(role), &config.folder).await?;
    Ok(match config.vault.lock.0 {
        Some(window) => Arc::new(LockedStore::new(store, window, chrono::Utc::now)),
        None => store,
    })
}

/// Where a configured store is.
pub(super) fn location(opening: &Opening<'_>, folder: &Path) -> Location {
    let text = |text: Option<&str>| text.map(str::to_owned);
    match opening.url {
        StoreUrl::Directory(path) => Location::Directory(path.clone()),
        StoreUrl::S3 { bucket, prefix } => Location::S3(Box::new(S3Settings {
            prefix: prefix.clone(),
            region: text(opening.region),
            endpoint: text(opening.endpoint),
            path_style: opening.path_style,
            ca_file: opening.ca_file.map(|path| folder.join(path)),
            sse: text(opening.sse),
            storage_class: text(opening.storage_class),
            credentials: opening.profile.map_or(Credentials::Usual, |profile| Credentials::Profile(profile.to_owned())),
            ..S3Settings::new(bucket)
        })),
    }
}

fn cannot_open(url: &StoreUrl, error: StoreError) -> Failure {
    let hint = match (url, error.kind) {
        (StoreUrl::Directory(_), StoreErrorKind::NoSuchStore) => {
            "is the disk mounted, and the address right? Only for an installation that never was: `tenure init` makes a new one"
        }
        (StoreUrl::Directory(_), StoreErrorKind::Denied) => "it belongs to another user, or its permissions keep this one out",
        (StoreUrl::S3 { .. }, StoreErrorKind::Denied) => {
            "set credentials as for any S3 program: AWS_PROFILE, AWS_ACCESS_KEY_ID, ~/.aws, or `profiles` in the configuration"
        }
        (StoreUrl::S3 { .. }, StoreErrorKind::Refused) => "set `region`, and `endpoint` where the server is not Amazon's",
        _ => "",
    };
    Failure::new(FailureClass::Failed, "store", url, format!("cannot open {url}")).hint(hint).because(error)
}
