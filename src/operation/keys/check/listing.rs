//! A keyring or a mirror, by its names alone.

use std::collections::HashSet;

use futures_util::TryStreamExt as _;

use crate::{
    object_name::{ObjectName, prefix},
    operation::failure::Failure,
    signed,
    store::{Listed, Store, StoreErrorKind},
};

/// What a listing of a whole keyring says by itself.
pub(in crate::operation) struct Listing {
    /// What somebody hid or wrote over, where versions are kept: address and name, and what was done.
    pub(in crate::operation) tampered: Vec<(String, String)>,
    /// Signatures without their documents, which runs that did not end left: address and name.
    pub(in crate::operation) unfinished: Vec<String>,
    /// Every name.
    pub(super) names: Vec<String>,
}

impl Listing {
    /// Lists a store; `None` where these credentials may not list everything.
    pub(in crate::operation) async fn read(store: &dyn Store) -> Result<Option<Self>, Failure> {
        let (mut tampered, mut signatures, mut documents, mut names) = (Vec::new(), Vec::new(), HashSet::new(), Vec::new());
        let mut listing = store.list("");
        loop {
            match listing.try_next().await {
                // What stores are tried out with is written over by trying.
                Ok(Some(Listed { name, .. })) if name.starts_with(prefix::PROBE) => {}
                Ok(Some(Listed { name, tampering, .. })) => {
                    tampered.extend(tampering.map(|tampering| (signed::locate(store, &name), tampering.to_string())));
                    match name.parse() {
                        Ok(ObjectName::Document(document)) => drop(documents.insert(document)),
                        Ok(ObjectName::Signature(document)) => signatures.push(document),
                        _ => {}
                    }
                    names.push(name);
                }
                Ok(None) => break,
                Err(error) if error.kind == StoreErrorKind::Denied => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        signatures.retain(|document| !documents.contains(document));
        let unfinished = signatures.into_iter().map(|document| signed::locate(store, &ObjectName::Signature(document))).collect();
        Ok(Some(Self { tampered, unfinished, names }))
    }
}
