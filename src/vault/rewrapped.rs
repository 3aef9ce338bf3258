//! Up to which number the keys of a locker were wrapped anew: what the vault remembers of the keyring.

use std::collections::{BTreeMap, BTreeSet};

use super::{Vault, list_named, records::Record};
use crate::{
    format::key_record::Rewrapped,
    id::{KeyId, Locker},
    object_name::{Document, ObjectName, prefix},
    signature::{Namespace, SigningKey},
    signed::{self, DocumentError},
};

/// The records of a locker's wrappings, by their names alone.
#[derive(Debug, Default)]
pub struct Wrappings {
    listed: Vec<(KeyId, u32, Document)>,
    /// Of which only the signature is there: somebody removed the record, which is written right after it and never removed.
    lost: Vec<(KeyId, u32)>,
}

impl Wrappings {
    /// Whether a record of this one is there, and not its signature alone.
    #[must_use]
    pub fn has_record(&self, key_id: KeyId, number: u32) -> bool {
        self.listed.iter().any(|(key, recorded, _)| (*key, *recorded) == (key_id, number))
    }

    /// The numbers that are recorded for one key.
    #[must_use]
    pub fn of(&self, key_id: KeyId) -> BTreeSet<u32> {
        let listed = self.listed.iter().map(|(key, number, _)| (*key, *number));
        listed.chain(self.lost.iter().copied()).filter(|(key, _)| *key == key_id).map(|(_, number)| number).collect()
    }
}

/// Nobody wraps a key anew as often as that: a number that is further from what the keyring has was made up, and would say for good that the
/// keyring is old.
pub const FURTHEST: u32 = 1_000;

/// Whether a recorded number says that the keyring, which has `number`, is old.
fn is_newer(recorded: u32, number: u32) -> bool {
    recorded > number && recorded - number <= FURTHEST
}

impl Vault {
    /// What a locker's `w/` lists.
    ///
    /// # Errors
    /// [`DocumentError::Store`].
    pub async fn wrappings(&self, locker: Locker) -> Result<Wrappings, DocumentError> {
        let folder = prefix::in_locker(locker, "w");
        let (named, _) =
            list_named(self.store(), &folder).await.map_err(|error| signed::store_error(self.store(), &folder, error))?;
        let (mut wrappings, mut signed) = (Wrappings::default(), BTreeMap::new());
        for (name, _) in named {
            match name {
                ObjectName::Document(document @ Document::Rewrapped(_, key_id, number, _)) => {
                    wrappings.listed.push((key_id, number, document));
                }
                ObjectName::Signature(Document::Rewrapped(_, key_id, number, id)) => _ = signed.insert(id, (key_id, number)),
                _ => {}
            }
        }
        for (_, _, document) in &wrappings.listed {
            if let Document::Rewrapped(.., id) = document {
                signed.remove(id);
            }
        }
        wrappings.lost.extend(signed.into_values());
        Ok(wrappings)
    }

    /// Whether an operator signed that a key was wrapped anew since it was wrapped as `number`. Reads records only where their names say so;
    /// those that cannot be trusted say nothing here: `verify` names them. One of which only the signature is left says it: where its write was
    /// cut short, the keyring has what it speaks of.
    ///
    /// # Errors
    /// [`DocumentError::Store`].
    pub async fn is_replaced(&self, wrappings: &Wrappings, key_id: KeyId, number: u32) -> Result<bool, DocumentError> {
        if wrappings.lost.iter().any(|(key, recorded)| *key == key_id && is_newer(*recorded, number)) {
            return Ok(true);
        }
        for (_, _, document) in wrappings.listed.iter().filter(|(key, recorded, _)| *key == key_id && is_newer(*recorded, number))
        {
            match self.rewrapped(document).await {
                Ok(_) => return Ok(true),
                Err(error @ DocumentError::Store { .. }) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(false)
    }

    /// One such record.
    ///
    /// # Errors
    /// As [`Vault::record`]; [`DocumentError::Contradiction`] when somebody else than an operator signed it.
    pub async fn rewrapped(&self, document: &Document) -> Result<Rewrapped, DocumentError> {
        let record = self.record::<Rewrapped>(document, None).await?;
        if !self.signers().may(&record.signer, Namespace::Root) {
            // A worker makes keys: by this it could stop everybody.
            let what = "it says that a key was wrapped anew, and who signed it is no operator".to_owned();
            return Err(DocumentError::Contradiction { object: signed::locate(self.store(), document), what });
        }
        Ok(record.value)
    }

    /// Records that a key was wrapped anew.
    ///
    /// # Errors
    /// As [`signed::create`].
    pub async fn put_rewrapped(&self, record: &Rewrapped, operator: &SigningKey) -> Result<(), DocumentError> {
        self.create(&record.document(), record, operator).await
    }
}

impl Record for Rewrapped {
    const NAMESPACE: Namespace = Namespace::Key;
    fn is(document: &Document) -> bool {
        matches!(document, Document::Rewrapped(..))
    }
    fn document(&self) -> Document {
        Document::Rewrapped(self.locker, self.key_id, self.wrapping, self.id)
    }
    fn belongs(&self, vault: &Vault) -> bool {
        self.installation == vault.root().installation
    }
}
