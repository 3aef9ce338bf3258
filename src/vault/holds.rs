//! A locker's holds.

use std::collections::BTreeSet;

use super::{Vault, records::Record};
use crate::{
    format::hold::{Hold, HoldAct},
    id::{Locker, RecordId},
    object_name::Document,
    signature::{Namespace, SigningKey},
    signed::DocumentError,
};

/// Everything that a locker's `h/` says.
#[derive(Debug, Default)]
pub struct Holds {
    /// Holds that nobody released, the oldest first.
    pub active: Vec<Hold>,
    /// Records that cannot be read or trusted. Any of them may be a hold, and so it is one.
    pub unreadable: Vec<DocumentError>,
}

impl Holds {
    /// Whether nothing of the locker may go.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.active.is_empty() || !self.unreadable.is_empty()
    }
}

impl Vault {
    /// A locker's holds. A signature without its document is a crashed write, and means nothing.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn holds(&self, locker: Locker) -> Result<Holds, DocumentError> {
        let (mut placed, mut released, mut unreadable) = (Vec::new(), BTreeSet::<RecordId>::new(), Vec::new());
        for (_, read) in self.records::<Hold>(locker, "h").await? {
            match read.map(|signed| signed.value) {
                Ok(Hold { act: HoldAct::Released { hold }, .. }) => {
                    released.insert(hold);
                }
                Ok(hold) => placed.push(hold),
                Err(error) => unreadable.push(error),
            }
        }
        placed.retain(|hold| !released.contains(&hold.id));
        placed.sort_by_key(|hold| (hold.created_at, hold.id));
        Ok(Holds { active: placed, unreadable })
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
