//! A locker's holds.

use std::collections::BTreeSet;

use super::{Vault, records::Record};
use crate::{
    format::hold::{Hold, HoldAct},
    id::{Locker, RecordId},
    object_name::Document,
    signature::{Namespace, SigningKey},
    signed::{DocumentError, Signed},
};

/// Everything that a locker's `h/` says.
#[derive(Debug, Default)]
pub struct Holds {
    /// Holds that nobody released, the oldest first.
    pub active: Vec<ActiveHold>,
    /// Records that cannot be read or trusted. Any of them may be a hold, and so it is one.
    pub unreadable: Vec<DocumentError>,
    /// Records of which only the signature is there, and that nobody released: what was written may have been a hold, and so it is one.
    pub lost: Vec<RecordId>,
}

/// A hold that nobody released.
#[derive(Debug, Clone)]
pub struct ActiveHold {
    /// The hold.
    pub hold: Hold,
    /// Who signed it: the principal in `signers/`.
    pub placed_by: String,
}

impl Holds {
    /// Whether nothing of the locker may go.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.active.is_empty() || !self.unreadable.is_empty() || !self.lost.is_empty()
    }

    /// What holds, in words: each hold once, though it may lie in several lockers.
    #[must_use]
    pub fn by(&self) -> String {
        let ids: BTreeSet<String> = self.active.iter().map(|held| held.hold.id.to_string()).collect();
        let lost = self.lost.iter().map(|id| format!("{id}, of which only the signature is there"));
        let unreadable = self.unreadable.iter().map(|error| format!("{error}, which may be a hold"));
        ids.into_iter().chain(lost).chain(unreadable).collect::<Vec<_>>().join(", ")
    }
}

impl Vault {
    /// The holds of several lockers.
    ///
    /// # Errors
    /// As [`Vault::holds`].
    pub async fn holds_of(&self, lockers: impl IntoIterator<Item = Locker>) -> Result<Holds, DocumentError> {
        let mut holds = Holds::default();
        for locker in lockers {
            let found = self.holds(locker).await?;
            holds.active.extend(found.active);
            holds.unreadable.extend(found.unreadable);
            holds.lost.extend(found.lost);
        }
        Ok(holds)
    }

    /// A locker's holds. A signature without its record may be a crashed write, or a hold that somebody removed: it counts as one until it is
    /// released by its id.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn holds(&self, locker: Locker) -> Result<Holds, DocumentError> {
        let (mut placed, mut released, mut unreadable) = (Vec::new(), BTreeSet::<RecordId>::new(), Vec::new());
        let (records, signatures) = self.records_and_signatures::<Hold>(locker, "h").await?;
        for (_, _, read) in records {
            match read {
                Ok(Signed { value: Hold { act: HoldAct::Released { hold }, .. }, .. }) => {
                    released.insert(hold);
                }
                Ok(Signed { value, signer, .. }) => placed.push(ActiveHold { hold: value, placed_by: signer.principal }),
                Err(error) => unreadable.push(error),
            }
        }
        placed.retain(|held| !released.contains(&held.hold.id));
        placed.sort_by_key(|held| (held.hold.created_at, held.hold.id));
        let lost = signatures.into_iter().filter_map(|(document, _)| match document {
            Document::Hold(_, id) if !released.contains(&id) => Some(id),
            _ => None,
        });
        let lost = lost.collect();
        Ok(Holds { active: placed, unreadable, lost })
    }

    /// Writes a hold or a release.
    ///
    /// # Errors
    /// As [`signed::create`](crate::signed::create).
    pub async fn put_hold(&self, hold: &Hold, operator: &SigningKey) -> Result<(), DocumentError> {
        self.create(&hold.document(), hold, operator).await
    }
}

impl Record for Hold {
    const NAMESPACE: Namespace = Namespace::Hold;
    fn is(document: &Document) -> bool {
        matches!(document, Document::Hold(..))
    }
    fn document(&self) -> Document {
        Document::Hold(self.locker, self.id)
    }
    fn belongs(&self, vault: &Vault) -> bool {
        self.installation == vault.root().installation
    }
}
