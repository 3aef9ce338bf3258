//! Up to which number the keys of a locker were wrapped anew: what the vault remembers of the keyring.

use std::collections::BTreeSet;

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
pub struct Wrappings(Vec<(KeyId, u32, Document)>);

impl Wrappings {
    /// The numbers that are recorded for one key.
    #[must_use]
    pub fn of(&self, key_id: KeyId) -> BTreeSet<u32> {
        self.0.iter().filter(|(key, ..)| *key == key_id).map(|(_, number, _)| *number).collect()
    }
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
        let records = named.into_iter().filter_map(|(name, _)| match name {
            ObjectName::Document(document @ Document::Rewrapped(_, key_id, number, _)) => Some((key_id, number, document)),
            _ => None,
        });
        Ok(Wrappings(records.collect()))
    }

    /// Whether an operator signed that a key was wrapped anew since it was wrapped as `number`. Reads records only where their names say so;
    /// those that cannot be trusted say nothing here: `verify` names them.
    ///
    /// # Errors
    /// [`DocumentError::Store`].
    pub async fn is_replaced(&self, wrappings: &Wrappings, key_id: KeyId, number: u32) -> Result<bool, DocumentError> {
        for (_, _, document) in wrappings.0.iter().filter(|(key, recorded, _)| *key == key_id && *recorded > number) {
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
