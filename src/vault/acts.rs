//! The signed records of what commands did, under `runs/`.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Vault, list_named, records::Record};
use crate::{
    format::act::Act,
    id::RecordId,
    object_name::{Document, ObjectName, prefix},
    signature::SigningKey,
    signed::{self, DocumentError, Signed},
};

impl Vault {
    /// Records an act.
    ///
    /// # Errors
    /// As [`signed::create`].
    pub async fn put_act(&self, act: &Act, key: &SigningKey) -> Result<(), DocumentError> {
        self.create(&act.document(), act, key).await
    }

    /// The record of an act, by its id alone.
    ///
    /// # Errors
    /// As [`Vault::signed_act`].
    pub async fn act(&self, id: RecordId) -> Result<Act, DocumentError> {
        Ok(self.signed_act(id).await?.value)
    }

    /// The record of an act that began at about this time, if there is one that counts.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub(super) async fn act_about(&self, id: RecordId, about: DateTime<Utc>) -> Result<Option<Act>, DocumentError> {
        // Where the clocks of this host and the store agree no listing is needed.
        for days in [0, -1, 1] {
            let document = Document::Run((about + TimeDelta::days(days)).date_naive(), id);
            match self.record::<Act>(&document, None).await {
                Ok(signed) => return Ok(Some(signed.value)),
                Err(error @ DocumentError::Store { .. }) => return Err(error),
                Err(_) => {}
            }
        }
        match self.act(id).await {
            Ok(act) => Ok(Some(act)),
            Err(error @ DocumentError::Store { .. }) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// The record of an act and who signed it.
    ///
    /// # Errors
    /// [`DocumentError::Missing`] when there is none; as [`signed::read`].
    pub async fn signed_act(&self, id: RecordId) -> Result<Signed<Act>, DocumentError> {
        let (named, _) = list_named(self.store(), prefix::RUNS)
            .await
            .map_err(|error| signed::store_error(self.store(), &prefix::RUNS, error))?;
        let found = named.into_iter().find_map(|(name, listed)| match name {
            ObjectName::Document(document @ Document::Run(_, found)) if found == id => Some((document, listed.modified)),
            _ => None,
        });
        let Some((document, stored_at)) = found else {
            return Err(DocumentError::Missing { object: format!("{}/{}…/{id}.json", self.store().address(), prefix::RUNS) });
        };
        self.record(&document, Some(stored_at)).await
    }
}

impl Record for Act {
    fn is(document: &Document) -> bool {
        matches!(document, Document::Run(..))
    }
    fn document(&self) -> Document {
        Document::Run(self.started_at.date_naive(), self.id)
    }
    fn belongs(&self, vault: &Vault) -> bool {
        self.installation == vault.root().installation
    }
}
