//! A locker's manifests: which backups exist, and what is wrong with those that do not count.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Vault, gone::Gone, list_named};
use crate::{
    backup_id::BackupId,
    format::{manifest::Manifest, purge_note::PurgedBackup, record::Void},
    id::{Locker, RecordId, Sha256Digest},
    object_name::{Document, ObjectName, prefix},
    signature::{Namespace, SigningKey},
    signed::{self, DocumentError, Signed},
};

/// Manifests read at once.
const READERS: usize = 16;

/// All that a locker's `b/` holds.
#[derive(Debug, Default)]
pub struct History {
    /// Every backup whose manifest counts, oldest first: by sequence, then time, then id.
    pub backups: Vec<Backup>,
    /// What does not count, and holes.
    pub problems: Vec<Problem>,
    /// Backups that were declared void: never listed, restored or built upon.
    pub voids: Vec<BackupId>,
    /// Those of them whose manifest is still there.
    pub voided: Vec<BackupId>,
    /// Backups that a purge note names: never listed, restored or built upon, whatever is there of them.
    pub let_go: Vec<LetGo>,
    /// When the store got the last note about single backups: a run that began before may still build upon one of them.
    pub noted_at: Option<DateTime<Utc>>,
    /// Objects that a crashed run left: signatures without a manifest. Harmless.
    pub leftovers: Vec<String>,
    /// Backups whose manifest is listed and was not read: see [`Vault::recent`].
    pub unread: Vec<BackupId>,
}

/// A backup that a purge note names.
#[derive(Debug, Clone)]
pub struct LetGo {
    /// What the note says of it.
    pub backup: PurgedBackup,
    /// Every note that names it, the oldest first. Each has the id of its plan.
    pub notes: Vec<RecordId>,
    /// When the store got its manifest, where that is still, or again, there.
    pub stored_at: Option<DateTime<Utc>>,
}

/// A backup whose manifest counts.
#[derive(Debug, Clone)]
pub struct Backup {
    /// Its manifest.
    pub manifest: Manifest,
    /// SHA-256 of its manifest.
    pub sha256: Sha256Digest,
}

impl Backup {
    /// Whether its time is over. An expired backup is refused by every reader, swept or not.
    #[must_use]
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.manifest.expires_at <= now
    }
}

/// Something wrong with a locker's manifests: an integrity failure.
#[derive(Debug)]
pub struct Problem {
    /// The backup, where the name still says it.
    pub backup: Option<BackupId>,
    /// Address and name.
    pub object: String,
    /// What is wrong, in words.
    pub what: String,
    /// Whether later backups go on where an earlier one should be.
    pub is_hole: bool,
    /// Whether the backup counts all the same.
    pub counts: bool,
}

impl History {
    /// The newest backup that counts: what the next one builds upon.
    #[must_use]
    pub fn newest(&self) -> Option<&Backup> {
        self.backups.last()
    }

    /// Backups of which only the signature is there: begun and not ended, or their manifest was removed, and by no purge.
    pub fn unfinished(&self) -> impl Iterator<Item = BackupId> {
        let signed = self.leftovers.iter().filter_map(|name| match name.parse() {
            Ok(ObjectName::Signature(Document::Manifest(_, backup))) => Some(backup),
            _ => None,
        });
        signed.filter(|id| !self.let_go.iter().any(|let_go| let_go.backup.backup == *id))
    }

    /// Backups that a purge note names and whose manifest is there all the same.
    pub fn still_there(&self) -> impl Iterator<Item = &LetGo> {
        self.let_go.iter().filter(|let_go| let_go.stored_at.is_some())
    }

    /// Those of [`History::unfinished`] that no successor could name: nothing that is left was begun later. A run crashed, or somebody
    /// took the newest manifest away.
    pub fn perhaps_hidden(&self, at: DateTime<Utc>) -> impl Iterator<Item = BackupId> {
        let newest = self.live(at).next().map(|backup| backup.manifest.backup.time());
        let begun = self.unfinished().filter(|id| !self.voids.contains(id));
        begun.filter(move |id| newest.is_none_or(|newest| id.time() >= newest))
    }

    /// Backups that one of these names as the one before it, and whose time lies ahead.
    pub fn named_by<'a>(backups: impl Iterator<Item = &'a Backup>, now: DateTime<Utc>) -> HashSet<BackupId> {
        let named = backups.filter_map(|backup| backup.manifest.previous.as_ref());
        named.filter(|previous| previous.expires_at > now).map(|previous| previous.backup).collect()
    }

    /// Those not yet expired, newest first.
    pub fn live(&self, now: DateTime<Utc>) -> impl Iterator<Item = &Backup> {
        self.backups.iter().rev().filter(move |backup| !backup.is_expired(now))
    }
}

impl Vault {
    /// Reads and verifies every manifest of a locker. A manifest that does not count is a [`Problem`], not an error.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only: what cannot be reached is not known to be wrong.
    pub async fn history(&self, locker: Locker, now: DateTime<Utc>) -> Result<History, DocumentError> {
        self.recent(locker, now, usize::MAX).await
    }

    /// As [`Vault::history`], of the newest so many backups by their names and the store's times, for who asks about every tenant often. Of the
    /// others, [`History::unread`], nothing is known but that something bears their names: neither that they verify nor when they expire; and
    /// a hole before the oldest that is read is not looked for. Nothing may be removed, restored or refused by it.
    ///
    /// # Errors
    /// As [`Vault::history`].
    pub async fn recent(&self, locker: Locker, now: DateTime<Utc>, newest: usize) -> Result<History, DocumentError> {
        let prefix = prefix::in_locker(locker, "b");
        // What bears no name of ours is no backup; `verify` names it.
        let (named, _) = list_named(self.store(), &prefix)
            .await
            .map_err(|source| DocumentError::Store { object: signed::locate(self.store(), &prefix), source: source.into() })?;
        let mut history = History::default();
        let listed: HashMap<ObjectName, DateTime<Utc>> =
            named.into_iter().map(|(name, listed)| (name, listed.modified)).collect();

        // Listed after the manifests: a note is there before what it names is removed. What one names counts no more, whoever puts it back.
        let gone = self.gone(locker).await?;
        let named: HashSet<BackupId> = gone.backups().map(|(_, purged)| purged.backup).collect();
        history.noted_at = gone.backups_noted_at;

        let mut voids = HashSet::new();
        for (name, stored_at) in &listed {
            if let ObjectName::Document(document @ Document::Void(_, backup)) = name {
                let manifest = Document::Manifest(locker, *backup);
                let made = listed.get(&ObjectName::Document(manifest.clone()));
                let begun = made.or_else(|| listed.get(&ObjectName::Signature(manifest)));
                if begun.is_some_and(|begun| !self.is_void(*begun, *stored_at)) {
                    if made.is_some() {
                        history.problems.push(Problem {
                            backup: Some(*backup),
                            object: signed::locate(self.store(), document),
                            what: "declared void long after it was made: nobody but a thief of a worker's key does that; the backup counts"
                                .to_owned(),
                            is_hole: false,
                            counts: true,
                        });
                    }
                    continue;
                }
                voids.insert(*backup);
                if made.is_some() {
                    history.voided.push(*backup);
                }
                // A void that is not to be trusted still stops its backup from counting; it is said as well.
                if let Err(error) = self.void(locker, *backup, *stored_at).await?
                    && !self.went_meanwhile(document, &error).await?
                {
                    history.problems.push(self.problem(Some(*backup), document, &error));
                }
            }
        }

        let mut manifests: Vec<_> = listed
            .iter()
            .filter_map(|(name, stored_at)| match name {
                ObjectName::Document(Document::Manifest(_, backup)) if !voids.contains(backup) && !named.contains(backup) => {
                    Some((*backup, *stored_at))
                }
                _ => None,
            })
            .collect();
        // Ids tell their time to the second: the store's time parts those of one second.
        manifests.sort_by_key(|(backup, stored_at)| std::cmp::Reverse((backup.time(), *stored_at)));
        history.unread = manifests.split_off(newest.min(manifests.len())).into_iter().map(|(backup, _)| backup).collect();
        let there = |id: BackupId| listed.get(&ObjectName::Document(Document::Manifest(locker, id))).copied();
        let mut let_go: BTreeMap<BackupId, LetGo> = BTreeMap::new();
        let mut notes: Vec<_> = gone.backups().collect();
        notes.sort_by_key(|(note, _)| (note.created_at, note.id));
        for (note, purged) in notes {
            let stored_at = there(purged.backup).filter(|_| !voids.contains(&purged.backup));
            let new = || LetGo { backup: *purged, notes: Vec::new(), stored_at };
            let_go.entry(purged.backup).or_insert_with(new).notes.push(note.id);
        }
        history.let_go = let_go.into_values().collect();
        let read: Vec<(BackupId, Result<Backup, DocumentError>)> = stream::iter(manifests)
            .map(|(backup, stored_at)| async move { (backup, self.manifest(locker, backup, stored_at).await) })
            .buffer_unordered(READERS)
            .collect()
            .await;
        for (id, backup) in read {
            match backup {
                Ok(backup) => history.backups.push(backup),
                Err(error @ DocumentError::Store { .. }) => return Err(error),
                Err(error) => {
                    let document = Document::Manifest(locker, id);
                    if !self.went_meanwhile(&document, &error).await? {
                        history.problems.push(self.problem(Some(id), &document, &error));
                    }
                }
            }
        }
        history.backups.sort_by_key(|backup| (backup.manifest.sequence, backup.manifest.taken_at, backup.manifest.backup));

        for name in listed.keys() {
            if let ObjectName::Signature(document @ (Document::Manifest(..) | Document::Void(..))) = name
                && !listed.contains_key(&ObjectName::Document(document.clone()))
            {
                history.leftovers.push(name.to_string());
            }
        }
        history.leftovers.sort();
        self.find_holes(locker, (&voids, &gone), now, &mut history);
        history.problems.sort_by(|a, b| a.object.cmp(&b.object).then(a.what.cmp(&b.what)));
        history.voids = voids.into_iter().collect();
        history.voids.sort();
        Ok(history)
    }

    /// Whether a void counts: the run that makes a backup declares it void at once or never. Both times are the store's: when it got the
    /// manifest, and when the void.
    #[must_use]
    pub fn is_void(&self, made: DateTime<Utc>, declared: DateTime<Utc>) -> bool {
        let max_run = i64::try_from(self.root().max_run_seconds).ok().and_then(TimeDelta::try_seconds);
        max_run.and_then(|max_run| made.checked_add_signed(max_run)).is_none_or(|end| declared <= end)
    }

    /// Whether a document that was listed, and was not there or had no signature when it was read, is not listed any more: somebody who
    /// may do so removed it meanwhile. If he may not, whoever names it says that it is missing.
    pub(super) async fn went_meanwhile(&self, document: &Document, error: &DocumentError) -> Result<bool, DocumentError> {
        if !matches!(error, DocumentError::Missing { .. } | DocumentError::Unsigned { .. }) {
            return Ok(false);
        }
        let found = self.store().head(&document.to_string()).await;
        found.map(|found| found.is_none()).map_err(|error| signed::store_error(self.store(), document, error))
    }

    fn problem(&self, backup: Option<BackupId>, document: &Document, error: &DocumentError) -> Problem {
        Problem { backup, object: signed::locate(self.store(), document), what: error.what(), is_hole: false, counts: false }
    }

    pub(super) async fn manifest(
        &self,
        locker: Locker,
        backup: BackupId,
        stored_at: DateTime<Utc>,
    ) -> Result<Backup, DocumentError> {
        let document = Document::Manifest(locker, backup);
        let signed: Signed<Manifest> =
            signed::read(self.store(), &document, Namespace::Manifest, self.signers(), Some(stored_at)).await?;
        let manifest = signed.value;
        let root = self.root();
        let wrong = if manifest.installation != root.installation {
            Some("it belongs to another installation".to_owned())
        } else if manifest.locker != locker {
            Some(format!("it belongs to another locker, {}", manifest.locker))
        } else if manifest.backup != backup {
            Some(format!("it is the manifest of another backup, {}", manifest.backup))
        } else if manifest.keep.expiry(manifest.taken_at) != manifest.expires_at {
            Some("its time, retention and expiry disagree".to_owned())
        } else if manifest.expires_at > root.max_keep.expiry(manifest.taken_at) {
            Some(format!("it would be kept longer than {}, the most that this vault allows", root.max_keep))
        } else {
            manifest.description.iter().find_map(|entry| entry.check().err())
        };
        match wrong {
            Some(what) => Err(DocumentError::Contradiction { object: signed::locate(self.store(), &document), what }),
            None => Ok(Backup { manifest, sha256: signed.sha256 }),
        }
    }

    /// The inner error says that the void is not to be trusted, the outer that it could not be reached.
    async fn void(
        &self,
        locker: Locker,
        backup: BackupId,
        at: DateTime<Utc>,
    ) -> Result<Result<(), DocumentError>, DocumentError> {
        let document = Document::Void(locker, backup);
        match signed::read::<Void>(self.store(), &document, Namespace::Manifest, self.signers(), Some(at)).await {
            Ok(Signed { value: Void { installation, locker: of, backup: what, .. }, .. })
                if (installation, of, what) == (self.root().installation, locker, backup) =>
            {
                Ok(Ok(()))
            }
            Ok(_) => {
                let object = signed::locate(self.store(), &document);
                Ok(Err(DocumentError::Contradiction { object, what: "it voids another backup".to_owned() }))
            }
            Err(error @ DocumentError::Store { .. }) => Err(error),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Declares a backup void, which no reader then uses.
    ///
    /// # Errors
    /// As [`signed::create`].
    pub async fn put_void(&self, void: &Void, key: &SigningKey) -> Result<(), DocumentError> {
        let document = Document::Void(void.locker, void.backup);
        signed::create(self.store(), &document, void, Namespace::Manifest, key).await.map(drop)
    }

    /// Stores a manifest, signature first. From the moment that this succeeds the backup exists.
    ///
    /// # Errors
    /// As [`signed::create`].
    pub async fn put_manifest(&self, manifest: &Manifest, key: &SigningKey) -> Result<Sha256Digest, DocumentError> {
        let document = Document::Manifest(manifest.locker, manifest.backup);
        signed::create(self.store(), &document, manifest, Namespace::Manifest, key).await
    }

    /// A predecessor that a manifest names, that is not listed though its time lies ahead and no purge note names it, or is not the one
    /// that was named.
    fn find_holes(&self, locker: Locker, (voids, gone): (&HashSet<BackupId>, &Gone), now: DateTime<Utc>, history: &mut History) {
        let known: BTreeMap<BackupId, Sha256Digest> =
            history.backups.iter().map(|backup| (backup.manifest.backup, backup.sha256)).collect();
        let mut holes = BTreeMap::new();
        for backup in &history.backups {
            let Some(previous) = &backup.manifest.previous else { continue };
            let what = match known.get(&previous.backup) {
                Some(sha256) if *sha256 == previous.sha256 => continue,
                Some(_) => "it is not the manifest that its successor was built upon",
                None if previous.expires_at <= now || voids.contains(&previous.backup) => continue,
                None if history.unread.contains(&previous.backup) => continue,
                None => "a later backup names it, and it is not to be found or not to be trusted",
            };
            holes.entry(previous.backup).or_insert((what, previous.sha256));
        }
        holes.retain(|backup, (_, sha256)| known.contains_key(backup) || !gone.names_backup(*backup, *sha256));
        history.problems.extend(holes.into_iter().map(|(backup, (what, _))| Problem {
            backup: Some(backup),
            object: signed::locate(self.store(), &Document::Manifest(locker, backup)),
            what: what.to_owned(),
            is_hole: true,
            counts: false,
        }));
    }

    /// Ids of all manifests in a locker, by listing alone.
    ///
    /// # Errors
    /// [`DocumentError::Store`].
    pub async fn has_manifests(&self, locker: Locker) -> Result<bool, DocumentError> {
        let prefix = prefix::in_locker(locker, "b");
        let mut listing = self.store().list(&prefix);
        let failed = |source: crate::store::StoreError| DocumentError::Store {
            object: signed::locate(self.store(), &prefix),
            source: source.into(),
        };
        while let Some(listed) = listing.try_next().await.map_err(failed)? {
            if matches!(listed.name.parse(), Ok(ObjectName::Document(Document::Manifest(..)))) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
