//! What was let go of before its time, by a locker's purge notes.

use chrono::{DateTime, Utc};

use super::{Vault, records::Record};
use crate::{
    backup_id::BackupId,
    format::purge_note::{PurgeNote, Purged, PurgedBackup},
    id::{KeyId, Locker, Sha256Digest},
    object_name::Document,
    signature::{Namespace, SigningKey},
    signed::DocumentError,
};

/// Everything that a locker's `gone/` says.
#[derive(Debug, Default)]
pub struct Gone {
    /// Notes that count.
    pub notes: Vec<PurgeNote>,
    /// Notes that cannot be read or trusted. Any of them may say that everything is purged, and so it does.
    pub unreadable: Vec<DocumentError>,
    /// When the store got the last note about single backups.
    pub backups_noted_at: Option<DateTime<Utc>>,
}

impl Gone {
    /// Whether the whole locker was purged. A note that is not understood says so too: nothing may be sealed, opened or repaired on the
    /// strength of not understanding it.
    #[must_use]
    pub fn is_purged(&self) -> bool {
        !self.unreadable.is_empty() || self.notes.iter().any(|note| matches!(note.purged, Purged::All { .. }))
    }

    /// Whether a key was destroyed, or is about to be.
    #[must_use]
    pub fn names_key(&self, key_id: KeyId) -> bool {
        self.is_purged()
            || self.notes.iter().any(|note| match &note.purged {
                Purged::All { keys } | Purged::Keys { keys } => keys.contains(&key_id),
                Purged::Backups { .. } => false,
            })
    }

    /// Backups that were let go of by their names, each with the note that says so.
    pub fn backups(&self) -> impl Iterator<Item = (&PurgeNote, &PurgedBackup)> {
        self.notes.iter().flat_map(|note| match &note.purged {
            Purged::Backups { backups, .. } => backups.iter().map(|purged| (note, purged)).collect(),
            Purged::All { .. } | Purged::Keys { .. } => Vec::new(),
        })
    }

    /// Whether the backup with this manifest was removed before its time, or is about to be.
    #[must_use]
    pub fn names_backup(&self, backup: BackupId, sha256: Sha256Digest) -> bool {
        self.notes.iter().any(|note| match &note.purged {
            Purged::All { .. } => true,
            Purged::Backups { backups, .. } => backups.iter().any(|purged| (purged.backup, purged.sha256) == (backup, sha256)),
            Purged::Keys { .. } => false,
        })
    }
}

impl Vault {
    /// Everything that was let go of in a locker. A signature without its note is a crashed write, and means nothing.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn gone(&self, locker: Locker) -> Result<Gone, DocumentError> {
        let mut gone = Gone::default();
        for (_, stored_at, read) in self.records::<PurgeNote>(locker, "gone").await? {
            match read {
                Ok(signed) => {
                    if matches!(signed.value.purged, Purged::Backups { .. }) {
                        gone.backups_noted_at = gone.backups_noted_at.max(Some(stored_at));
                    }
                    gone.notes.push(signed.value);
                }
                Err(error) => gone.unreadable.push(error),
            }
        }
        Ok(gone)
    }

    /// Whether a locker was purged as a whole: see [`Gone::is_purged`].
    ///
    /// # Errors
    /// As [`Vault::gone`].
    pub async fn is_purged(&self, locker: Locker) -> Result<bool, DocumentError> {
        self.gone(locker).await.map(|gone| gone.is_purged())
    }

    /// Writes a purge note. One that is there already with the same bytes is the same note.
    ///
    /// # Errors
    /// As [`signed::create`](crate::signed::create).
    pub async fn put_purge_note(&self, note: &PurgeNote, eraser: &SigningKey) -> Result<(), DocumentError> {
        self.create(&note.document(), note, eraser).await
    }
}

impl Record for PurgeNote {
    const NAMESPACE: Namespace = Namespace::Erasure;
    fn is(document: &Document) -> bool {
        matches!(document, Document::Gone(..))
    }
    fn document(&self) -> Document {
        Document::Gone(self.locker, self.id)
    }
    fn belongs(&self, vault: &Vault) -> bool {
        self.installation == vault.root().installation
    }
}
