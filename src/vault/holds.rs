//! A locker's holds.

use std::collections::BTreeSet;

use super::{Vault, list_named, records::Record};
use crate::{
    format::hold::{Hold, HoldAct},
    id::{Locker, RecordId},
    object_name::{Document, ObjectName, prefix},
    signature::{Namespace, SigningKey},
    signed::{self, DocumentError},
};

/// Everything that a locker's `h/` says.
#[derive(Debug, Default)]
pub struct Holds {
    /// Holds that nobody released, the oldest first.
    pub active: Vec<Hold>,
    /// Records that cannot be read or trusted. Any of them may be a hold, and so it is one.
    pub unreadable: Vec<DocumentError>,
    /// Records of which only the signature is there, and that nobody released: what was written may have been a hold, and so it is one.
    pub lost: Vec<RecordId>,
}

impl Holds {
    /// Whether nothing of the locker may go.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !self.active.is_empty() || !self.unreadable.is_empty() || !self.lost.is_empty()
    }
}

impl Vault {
    /// A locker's holds. A signature without its record may be a crashed write, or a hold that somebody removed: it counts as one until it is
    /// released by its id.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn holds(&self, locker: Locker) -> Result<Holds, DocumentError> {
        let (mut placed, mut released, mut unreadable) = (Vec::new(), BTreeSet::<RecordId>::new(), Vec::new());
        for (_, _, read) in self.records::<Hold>(locker, "h").await? {
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
        let mut lost = self.lost_holds(locker).await?;
        lost.retain(|id| !released.contains(id));
        Ok(Holds { active: placed, unreadable, lost })
    }

    async fn lost_holds(&self, locker: Locker) -> Result<Vec<RecordId>, DocumentError> {
        let folder = prefix::in_locker(locker, "h");
        let (named, _) =
            list_named(self.store(), &folder).await.map_err(|error| signed::store_error(self.store(), &folder, error))?;
        let (mut signed, mut there) = (BTreeSet::new(), BTreeSet::new());
        for (name, _) in named {
            match name {
                ObjectName::Signature(Document::Hold(_, id)) => signed.insert(id),
                ObjectName::Document(Document::Hold(_, id)) => there.insert(id),
                _ => continue,
            };
        }
        Ok(signed.difference(&there).copied().collect())
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
