//! What lies in the vault besides chunks and pages: every signed document, by locker, and what no version of the format would write.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;

use super::look::Look;
use crate::{
    format::{
        hold::Hold,
        purge_note::PurgeNote,
        record::{Copy, CopyOid, Finding},
    },
    id::Locker,
    object_name::{Document, ObjectName, prefix},
    operation::failure::Failure,
    signed::{self, DocumentError},
    store::{Store, StoreErrorKind, Tampering},
    vault::Vault,
};

/// The documents of one locker that are not manifests or voids, and signatures without a document.
#[derive(Default)]
pub(super) struct Documents {
    listed: HashMap<Document, DateTime<Utc>>,
    signatures: BTreeSet<String>,
}

/// What a listing found.
#[derive(Default)]
pub(super) struct Survey {
    lockers: HashMap<Locker, Documents>,
    signers: Vec<(u32, DateTime<Utc>)>,
    /// Names that are not of the format.
    pub(super) unknown: Vec<String>,
    /// What may not be listed.
    pub(super) denied: Vec<String>,
    /// What somebody hid or wrote over: its locker, its address and name, what was done.
    tampered: Vec<(Option<Locker>, String, Tampering)>,
}

impl Survey {
    /// Lists the whole vault.
    pub(super) async fn whole(store: &dyn Store) -> Result<Self, Failure> {
        let mut survey = Self::default();
        if survey.add(store, "").await? {
            return Ok(survey);
        }
        let mut survey = Self { denied: vec![format!("{}/", store.address())], ..Self::default() };
        for prefix in [prefix::TENANTS, prefix::SIGNERS] {
            if !survey.add(store, prefix).await? {
                survey.denied.push(format!("{}/{prefix}", store.address()));
            }
        }
        Ok(survey)
    }

    /// Lists one prefix; false when these credentials may not.
    pub(super) async fn add(&mut self, store: &dyn Store, prefix: &str) -> Result<bool, Failure> {
        let mut listing = store.list(prefix);
        loop {
            match listing.try_next().await {
                Ok(Some(listed)) => {
                    if let Some(tampering) = listed.tampering.filter(|_| !listed.name.starts_with(prefix::PROBE)) {
                        let locker = listed.name.parse().ok().and_then(|name| locker_in(&name));
                        self.tampered.push((locker, signed::locate(store, &listed.name), tampering));
                    }
                    self.note(&listed.name, listed.modified);
                }
                Ok(None) => return Ok(true),
                Err(error) if error.kind == StoreErrorKind::Denied => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn note(&mut self, name: &str, modified: DateTime<Utc>) {
        // What stores are tried out with has names of their own.
        if name.starts_with(prefix::PROBE) {
            return;
        }
        match name.parse() {
            Ok(ObjectName::Document(Document::Signers(n))) => self.signers.push((n, modified)),
            Ok(ObjectName::Document(document)) if !is_of_keyring(&document) => {
                if let Some(locker) = locker_of(&document) {
                    self.lockers.entry(locker).or_default().listed.insert(document, modified);
                }
            }
            Ok(ObjectName::Signature(document)) if !is_of_keyring(&document) => {
                if let Some(locker) = locker_of(&document) {
                    self.lockers.entry(locker).or_default().signatures.insert(document.to_string());
                }
            }
            Ok(ObjectName::Chunk { .. } | ObjectName::Page { .. } | ObjectName::Approval { .. }) => {}
            _ => self.unknown.push(name.to_owned()),
        }
    }

    /// Verifies every list of signers; only the newest is used, and that was verified before anything else.
    pub(super) async fn check_signers(&self, vault: &Vault) -> Result<Vec<(String, String)>, Failure> {
        let mut problems = Vec::new();
        for (n, stored_at) in &self.signers {
            match vault.check_signers(*n, *stored_at).await {
                Err(error @ DocumentError::Store { .. }) => return Err(error.into()),
                Err(error) => problems.push((error.object().to_owned(), error.what())),
                Ok(()) => {}
            }
        }
        Ok(problems)
    }

    /// What somebody hid or wrote over in one locker, or outside of all: address and name, and what was done.
    pub(super) fn tampered_in(&self, locker: Option<Locker>) -> impl Iterator<Item = (String, String)> {
        let here = self.tampered.iter().filter(move |(place, ..)| *place == locker);
        here.map(|(_, object, tampering)| (object.clone(), tampering.to_string()))
    }

    /// The documents of one locker.
    pub(super) fn take(&mut self, locker: Locker) -> Documents {
        self.lockers.remove(&locker).unwrap_or_default()
    }
}

impl Documents {
    /// Verifies each but the sources, which are looked at together; gives the signatures that have no document.
    pub(super) async fn check(&self, vault: &Vault, look: &mut Look<'_>) -> Result<Vec<String>, Failure> {
        for (document, stored_at) in &self.listed {
            let at = Some(*stored_at);
            let checked = match document {
                Document::Copy(..) => vault.record::<Copy>(document, at).await.map(drop),
                Document::CopyOid(..) => vault.record::<CopyOid>(document, at).await.map(drop),
                Document::Finding(..) => vault.record::<Finding>(document, at).await.map(drop),
                Document::Hold(..) => vault.record::<Hold>(document, at).await.map(drop),
                Document::Rewrapped(..) => vault.rewrapped(document).await.map(drop),
                Document::Gone(..) => vault.record::<PurgeNote>(document, at).await.map(drop),
                _ => Ok(()),
            };
            match checked {
                Err(error @ DocumentError::Store { .. }) => return Err(error.into()),
                Err(error) => look.problem(None, error.object().to_owned(), error.what()),
                Ok(()) => {}
            }
        }
        let listed: BTreeSet<String> = self.listed.keys().map(ToString::to_string).collect();
        Ok(self.signatures.difference(&listed).map(|document| format!("{document}.sig")).collect())
    }
}

/// The locker of a document that is no manifest or void: those are the history's.
/// The locker in which an object lies.
fn locker_in(name: &ObjectName) -> Option<Locker> {
    match name {
        ObjectName::Chunk { locker, .. } | ObjectName::Page { locker, .. } => Some(*locker),
        ObjectName::Document(Document::Manifest(locker, _) | Document::Void(locker, _))
        | ObjectName::Signature(Document::Manifest(locker, _) | Document::Void(locker, _)) => Some(*locker),
        ObjectName::Document(document) | ObjectName::Signature(document) => locker_of(document),
        _ => None,
    }
}

fn locker_of(document: &Document) -> Option<Locker> {
    match document {
        Document::Source(locker, _)
        | Document::Hold(locker, _)
        | Document::Finding(locker, _)
        | Document::Rewrapped(locker, ..)
        | Document::Gone(locker, _)
        | Document::Copy(locker, _)
        | Document::CopyOid(locker, _) => Some(*locker),
        _ => None,
    }
}

/// Names that have no place in a vault.
fn is_of_keyring(document: &Document) -> bool {
    matches!(document, Document::KeyringRoot | Document::KeyRecord(..) | Document::Rewrapping(..))
}
