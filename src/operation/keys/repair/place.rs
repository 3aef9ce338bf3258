//! One copy of the keyring: what is listed there, and how an object is put into it.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use crate::{
    id::KeyId,
    object_name::{Document, ObjectName, prefix},
    operation::failure::Failure,
    signed::{self, DocumentError},
    store::{Store, StoreErrorKind},
};

/// Nothing in a keyring is larger.
const MAX_OBJECT: u64 = 1 << 20;

/// Whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    /// It is only said what would be.
    Never,
    /// Where the name is free.
    WhereFree,
}

/// What lies under a name, beside what should.
pub(super) enum Look {
    /// The same bytes.
    Same,
    /// Nothing.
    Free,
    /// Something else.
    Other,
}

/// The keyring or a mirror.
pub(super) struct Place {
    pub(super) store: Arc<dyn Store>,
    /// Whether it has `keyring.json`.
    pub(super) has_root: bool,
    /// Every name that is listed.
    pub(super) names: BTreeSet<String>,
    /// Names of key records, rewrappings and tombstones, also of those of which only the signature is there.
    pub(super) documents: BTreeSet<String>,
    /// Secret halves: key and wrapping.
    pub(super) halves: BTreeSet<(KeyId, u32)>,
    /// The first name that no keyring has.
    pub(super) foreign: Option<String>,
}

impl Place {
    pub(super) async fn read(store: Arc<dyn Store>, has_root: bool) -> Result<Self, Failure> {
        let (mut names, mut documents, mut halves, mut foreign) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), None);
        let mut listing = store.list("");
        while let Some(listed) = listing.try_next().await? {
            match listed.name.parse() {
                Ok(ObjectName::Document(document) | ObjectName::Signature(document)) if is_of_keyring(&document) => {
                    documents.insert(document.to_string());
                }
                Ok(ObjectName::SecretKey { key_id, wrapping }) => drop(halves.insert((key_id, wrapping))),
                Ok(ObjectName::Document(Document::KeyringRoot) | ObjectName::Signature(Document::KeyringRoot)) => {}
                _ if listed.name.starts_with(prefix::PROBE) => {}
                _ => drop(foreign.get_or_insert(listed.name.clone())),
            }
            names.insert(listed.name);
        }
        drop(listing);
        Ok(Self { store, has_root, names, documents, halves, foreign })
    }

    pub(super) fn locate(&self, name: &ObjectName) -> String {
        signed::locate(&*self.store, name)
    }

    /// What is there now, whatever a bucket that keeps versions still has of it.
    pub(super) async fn look(&self, name: &ObjectName, bytes: &Bytes) -> Result<Look, Failure> {
        match self.store.get(&name.to_string(), MAX_OBJECT).await {
            Ok(found) if found == *bytes => Ok(Look::Same),
            Ok(_) => Ok(Look::Other),
            Err(error) if error.kind == StoreErrorKind::TooLarge => Ok(Look::Other),
            Err(error) if error.kind == StoreErrorKind::NotFound => Ok(Look::Free),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates an object and reads it back; `false` when somebody else's is there by now.
    pub(super) async fn write(&self, write: Write, name: &ObjectName, bytes: &Bytes) -> Result<bool, Failure> {
        if write == Write::Never {
            return Ok(true);
        }
        match signed::create_object(&*self.store, name, bytes.clone()).await {
            Ok(()) => Ok(matches!(self.look(name, bytes).await?, Look::Same)),
            Err(DocumentError::Exists { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_of_keyring(document: &Document) -> bool {
    matches!(document, Document::KeyRecord(..) | Document::Rewrapping(..) | Document::Tombstone(..))
}
