//! What was let go of before its time, by a locker's purge notes.

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Vault, plans::ExpectedNote, records::Record};
use crate::{
    backup_id::BackupId,
    format::{
        act::ActCommand,
        plan::PlannedAct,
        purge_note::{PurgeNote, Purged, PurgedBackup},
    },
    id::{KeyId, Locker, RecordId, Sha256Digest},
    object_name::Document,
    signature::{Namespace, SigningKey},
    signed::{self, DocumentError},
};

/// Lockers asked at once.
const READERS: usize = 16;

/// Everything that a locker's `gone/` says.
#[derive(Debug, Default)]
pub struct Gone {
    /// Notes that count.
    pub notes: Vec<PurgeNote>,
    /// Notes that cannot be read or trusted. Any of them may say that everything is purged, and so it does.
    pub unreadable: Vec<DocumentError>,
    /// Notes that are not there, or say less than they did, by the plans that wrote them. They count as they were: each is in `notes` as well.
    pub lost: Vec<LostNote>,
    /// When the store got the last note about single backups.
    pub backups_noted_at: Option<DateTime<Utc>>,
}

/// A note that somebody removed or changed.
#[derive(Debug)]
pub struct LostNote {
    /// What it said.
    pub note: PurgeNote,
    /// What is wrong.
    pub error: DocumentError,
}

impl LostNote {
    /// What is wrong and what to do, for a list that shows the object already.
    #[must_use]
    pub fn what(&self) -> String {
        let what = self.error.what();
        format!(
            "{what}, though its plan has come past writing it: nobody may remove or change a purge note, and it counts as it was. Find out who did; \
             put it back from a copy of the vault, or let the same purge write it again"
        )
    }
}

/// Of a note only the signature is there: what it said.
enum Alone {
    /// Nothing yet: it is being written, or its writer died, and destroyed nothing.
    Nothing,
    /// This.
    Note(PurgeNote),
    /// Nobody knows.
    Unknown,
}

impl Gone {
    fn take(&mut self, note: PurgeNote, stored_at: DateTime<Utc>) {
        if matches!(note.purged, Purged::Backups { .. }) {
            self.backups_noted_at = self.backups_noted_at.max(Some(stored_at));
        }
        self.notes.push(note);
    }

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
                Purged::Backups { .. } | Purged::Database { .. } => false,
            })
    }

    /// Backups that were let go of by their names, each with the note that says so.
    pub fn backups(&self) -> impl Iterator<Item = (&PurgeNote, &PurgedBackup)> {
        self.notes.iter().flat_map(|note| match &note.purged {
            Purged::Backups { backups, .. } => backups.iter().map(|purged| (note, purged)).collect(),
            Purged::All { .. } | Purged::Keys { .. } | Purged::Database { .. } => Vec::new(),
        })
    }

    /// Whether the backup with this manifest was removed before its time, or is about to be.
    #[must_use]
    pub fn names_backup(&self, backup: BackupId, sha256: Sha256Digest) -> bool {
        self.notes.iter().any(|note| match &note.purged {
            Purged::All { .. } => true,
            Purged::Backups { backups, .. } => backups.iter().any(|purged| (purged.backup, purged.sha256) == (backup, sha256)),
            Purged::Keys { .. } | Purged::Database { .. } => false,
        })
    }

    /// When a database was dropped by tenure, by when that was planned; `None` when no note says so.
    #[must_use]
    pub fn dropped_at(&self, system: &str, oid: u32) -> Option<DateTime<Utc>> {
        let said = self.notes.iter().filter(|note| match &note.purged {
            Purged::Database { system_identifier, database_oid } => (system_identifier.as_str(), *database_oid) == (system, oid),
            _ => false,
        });
        said.map(|note| note.created_at).max()
    }
}

impl Vault {
    /// Everything that was let go of in a locker. What somebody removed or changed counts as it was, where the plan that wrote it or the record
    /// of the act says how; a signature whose note nobody knows stands for all that it might have said.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn gone(&self, locker: Locker) -> Result<Gone, DocumentError> {
        // Before the notes are listed: a plan that has come past writing them has them all.
        let expected = self.expected_notes().await?;
        let mut gone = Gone::default();
        let (records, signatures) = self.records_and_signatures::<PurgeNote>(locker, "gone").await?;
        for (_, stored_at, read) in records {
            match read {
                Ok(signed) => gone.take(signed.value, stored_at),
                Err(error) => gone.unreadable.push(error),
            }
        }
        for ExpectedNote { note, act, noted_at } in expected.notes.get(&locker).into_iter().flatten() {
            if gone.notes.contains(note) || !self.was_noted(note.id, *act).await? {
                continue;
            }
            let object = signed::locate(self.store(), &note.document());
            if gone.notes.iter().any(|other| other.id == note.id) {
                let what = "it does not say what its plan says".to_owned();
                gone.lost.push(LostNote { note: note.clone(), error: DocumentError::Contradiction { object, what } });
            } else if !gone.unreadable.iter().any(|error| error.object() == object) {
                gone.lost.push(LostNote { note: note.clone(), error: DocumentError::Missing { object } });
            }
            gone.take(note.clone(), *noted_at);
        }
        for plan in expected.without_plan.get(&locker).into_iter().flatten() {
            if !gone.notes.iter().any(|note| note.id == *plan) {
                gone.unreadable
                    .push(DocumentError::Missing { object: signed::locate(self.store(), &Document::Gone(locker, *plan)) });
            }
        }
        for (document, stored_at) in signatures {
            let Document::Gone(_, id) = document else { continue };
            if gone.notes.iter().any(|note| note.id == id) {
                continue;
            }
            match self.alone(locker, id, stored_at).await? {
                Alone::Nothing => {}
                Alone::Note(note) => gone.take(note, stored_at),
                Alone::Unknown => gone.unreadable.push(DocumentError::Contradiction {
                    object: signed::locate(self.store(), &document),
                    what: "only its signature is there, and nothing says what it said".to_owned(),
                }),
            }
        }
        Ok(gone)
    }

    /// Whether a plan has come past writing its notes, where one is missed: a name that the eraser did not sign says nothing.
    async fn was_noted(&self, plan: RecordId, act: PlannedAct) -> Result<bool, DocumentError> {
        match self.has_noted(plan, act).await {
            Err(error @ DocumentError::Store { .. }) => Err(error),
            Ok(true) => Ok(true),
            // Its marks may be gone as well: what the eraser wrote down of the act says the same.
            _ => Ok(self.begun_purge(plan).await?.is_some()),
        }
    }

    /// What a note said of which only the signature is there: its plan knows, or the record of the act that began to write it.
    async fn alone(&self, locker: Locker, id: RecordId, stored_at: DateTime<Utc>) -> Result<Alone, DocumentError> {
        match self.plan(id).await {
            Ok(plan) => {
                let note = plan.lockers.iter().find(|planned| planned.locker == locker).and_then(|planned| plan.note(planned));
                let is_noted = match self.has_noted(id, plan.act).await {
                    Err(error @ DocumentError::Store { .. }) => return Err(error),
                    is_noted => is_noted.ok(),
                };
                return Ok(match (note, is_noted) {
                    (Some(note), Some(true)) => Alone::Note(note),
                    (Some(_), Some(false)) => Alone::Nothing,
                    // Nothing is removed because of a mark that the eraser did not sign, and nothing is read in spite of it.
                    _ => Alone::Unknown,
                });
            }
            Err(DocumentError::Missing { .. }) => {}
            Err(error @ DocumentError::Store { .. }) => return Err(error),
            Err(_) => return Ok(Alone::Unknown),
        }
        let Some(act) = self.act_about(id, stored_at).await? else { return Ok(Alone::Unknown) };
        let pruned = act.lockers.iter().find(|on| act.command == ActCommand::KeysPrune && on.locker == locker);
        Ok(pruned.and_then(|on| Some((on.name_tag?, on.keys.clone()))).map_or(Alone::Unknown, |(name_tag, keys)| {
            Alone::Note(PurgeNote {
                format: act.format,
                installation: act.installation,
                locker,
                id,
                name_tag,
                purged: Purged::Keys { keys },
                created_at: act.started_at,
            })
        }))
    }

    /// Every locker that a plan has come past writing a note in.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn planned_lockers(&self) -> Result<Vec<Locker>, DocumentError> {
        Ok(self.expected_notes().await?.notes.keys().copied().collect())
    }

    /// Every note that somebody removed or changed.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn lost_notes(&self) -> Result<Vec<LostNote>, DocumentError> {
        let mut lost = Vec::new();
        let mut read = stream::iter(self.planned_lockers().await?).map(|locker| self.gone(locker)).buffer_unordered(READERS);
        while let Some(gone) = read.try_next().await? {
            lost.extend(gone.lost);
        }
        lost.sort_by(|a, b| a.error.object().cmp(b.error.object()));
        Ok(lost)
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
