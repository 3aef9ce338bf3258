//! The vault: sealed backups, and the signed documents that say what they are.

pub mod acts;
pub mod approvals;
pub mod certificates;
pub mod findings;
pub mod gone;
pub mod history;
pub mod holds;
pub mod locker;
pub mod locks;
pub mod manifests;
mod newest;
pub mod plans;
pub mod records;
pub mod removal;
pub mod rewrapped;

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use tokio::sync::Mutex;

use crate::{
    format::root::VaultRoot,
    id::Locker,
    object_name::{Document, ObjectName, prefix},
    signature::{AllowedSigners, Namespace, SignatureError, SigningKey},
    signed::{self, DocumentError},
    store::{Listed, Store, StoreError, StoreErrorKind},
};

/// A vault whose root and signers have been verified.
#[derive(Clone)]
pub struct Vault {
    store: Arc<dyn Store>,
    root: VaultRoot,
    trust: AllowedSigners,
    signers: AllowedSigners,
    /// See [`Vault::expected_notes`].
    expected_notes: Arc<Mutex<Option<Arc<plans::ExpectedNotes>>>>,
}

impl Vault {
    /// Opens a vault. `trust` is the `allowed_signers` file of this host: its operator keys must have signed `vault.json` and the
    /// newest `signers/<n>`, which then says who may sign everything else.
    ///
    /// # Errors
    /// [`DocumentError::Missing`] for `vault.json` where no vault is; [`DocumentError::NewerFormat`] for a newer one; otherwise what is
    /// wrong with the object named.
    pub async fn open(store: Arc<dyn Store>, trust: &AllowedSigners) -> Result<Self, DocumentError> {
        let root = signed::read::<VaultRoot>(&*store, &Document::VaultRoot, Namespace::Root, trust, None).await?.value;
        let (object, text) = newest_list(&*store, trust).await?;
        let contradiction = |what: String| DocumentError::Contradiction { object: signed::locate(&*store, &object), what };
        let text = std::str::from_utf8(&text).map_err(|_| contradiction("not text".to_owned()))?;
        let signers = AllowedSigners::parse(text).map_err(|error| contradiction(error.to_string()))?;
        Ok(Self { store, root, trust: trust.clone(), signers, expected_notes: Arc::default() })
    }

    /// Forgets what is asked once for a command: another one begins.
    pub async fn ask_anew(&self) {
        *self.expected_notes.lock().await = None;
    }

    /// What `vault.json` says.
    #[must_use]
    pub fn root(&self) -> &VaultRoot {
        &self.root
    }

    /// Who may sign what, by the newest `signers/<n>`.
    #[must_use]
    pub fn signers(&self) -> &AllowedSigners {
        &self.signers
    }

    /// The newest `signers/<n>` as it was signed: a file for `ssh-keygen -Y verify -f`.
    ///
    /// # Errors
    /// As [`signed::read_whole`].
    pub async fn signers_text(&self) -> Result<Bytes, DocumentError> {
        newest_list(self.store(), &self.trust).await.map(|(_, text)| text)
    }

    /// Whether an object under `signers/` is signed by an operator, of this host's file or of the newest list.
    ///
    /// # Errors
    /// As [`signed::read_whole`].
    pub async fn check_signers(&self, n: u32, stored_at: DateTime<Utc>) -> Result<(), DocumentError> {
        let document = Document::Signers(n);
        let by = |signers| signed::read_whole(self.store(), &document, Namespace::Root, signers, Some(stored_at));
        match by(&self.trust).await {
            Err(DocumentError::Signature { .. }) => by(&self.signers).await.map(drop),
            read => read.map(drop),
        }
    }

    /// Whether what `key` signs now counts in this vault, by trying it.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check_signer(&self, key: &SigningKey, namespace: Namespace, now: DateTime<Utc>) -> Result<(), SignatureError> {
        self.signers.check(key, namespace, now)
    }

    /// The store underneath.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Every locker, by listing.
    ///
    /// # Errors
    /// The store's.
    pub async fn lockers(&self) -> Result<Vec<Locker>, StoreError> {
        // A folder that is no locker is not ours: `verify` names it; nothing else may stumble over it.
        Ok(self.store.list_folders(prefix::TENANTS).await?.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

/// Whether there is any object under `prefix`.
///
/// # Errors
/// The store's.
pub async fn any(store: &dyn Store, prefix: &str) -> Result<bool, StoreError> {
    Ok(store.list(prefix).try_next().await?.is_some())
}

/// Every object under `prefix` with its parsed name; foreign ones come as text.
pub(crate) async fn list_named(store: &dyn Store, prefix: &str) -> Result<(Vec<(ObjectName, Listed)>, Vec<String>), StoreError> {
    let (mut named, mut foreign) = (Vec::new(), Vec::new());
    let mut listing = store.list(prefix);
    while let Some(listed) = listing.try_next().await? {
        match listed.name.parse() {
            Ok(name) => named.push((name, listed)),
            Err(_) => foreign.push(listed.name),
        }
    }
    Ok((named, foreign))
}

async fn newest_list(store: &dyn Store, trust: &AllowedSigners) -> Result<(Document, Bytes), DocumentError> {
    let object = Document::Signers(newest_signers(store).await?);
    let text = signed::read_whole(store, &object, Namespace::Root, trust, None).await?.bytes;
    Ok((object, text))
}

async fn newest_signers(store: &dyn Store) -> Result<u32, DocumentError> {
    let object = signed::locate(store, &prefix::SIGNERS);
    let (named, _) = list_named(store, prefix::SIGNERS).await.map_err(|source| {
        if source.kind == StoreErrorKind::NotFound {
            DocumentError::Missing { object: object.clone() }
        } else {
            DocumentError::Store { object: object.clone(), source: Box::new(source) }
        }
    })?;
    let numbers = named.iter().filter_map(|(name, _)| match name {
        ObjectName::Document(Document::Signers(n)) => Some(*n),
        _ => None,
    });
    numbers.max().ok_or(DocumentError::Missing { object })
}
