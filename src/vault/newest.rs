//! The newest backup of a locker, by two listings and one document.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Vault, history::Backup, list_named};
use crate::{
    backup_id::BackupId,
    id::Locker,
    object_name::{Document, ObjectName, prefix},
    signed::{self, DocumentError},
};

impl Vault {
    /// The newest backup of a locker that counts at `now` and is not expired; `None` where there is none. One that cannot be trusted is passed
    /// over: an older one may count. What is wrong with it is for those to say who read them all.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn newest(&self, locker: Locker, now: DateTime<Utc>) -> Result<Option<Backup>, DocumentError> {
        let prefix = prefix::in_locker(locker, "b");
        let (listed, _) =
            list_named(self.store(), &prefix).await.map_err(|source| signed::store_error(self.store(), &prefix, source))?;
        let (mut manifests, mut voids) = (Vec::new(), HashMap::new());
        for (name, listed) in listed {
            match name {
                ObjectName::Document(Document::Manifest(_, backup)) => manifests.push((backup, listed.modified)),
                ObjectName::Document(Document::Void(_, backup)) => _ = voids.insert(backup, listed.modified),
                _ => {}
            }
        }
        // Listed after the manifests, as a history is.
        let gone = self.gone(locker).await?;
        if gone.is_purged() {
            return Ok(None);
        }
        let let_go: HashSet<BackupId> = gone.backups().map(|(_, purged)| purged.backup).collect();
        let is_void = |backup, stored_at| voids.get(&backup).is_some_and(|declared| self.is_void(stored_at, *declared));
        manifests.retain(|(backup, stored_at)| !let_go.contains(backup) && !is_void(*backup, *stored_at));
        // Ids tell their time to the second: the store's time parts those of one second.
        manifests.sort_by_key(|(backup, stored_at)| std::cmp::Reverse((backup.time(), *stored_at)));
        for (id, stored_at) in manifests {
            match self.manifest(locker, id, stored_at).await {
                Ok(backup) if !backup.is_expired(now) && self.is_of_its_time(&backup, now) => return Ok(Some(backup)),
                Err(error @ DocumentError::Store { .. }) => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Whether a backup says that it was taken by now. A clock may be set back by an hour or by a day, and what was taken before is as good;
    /// further ahead it was a wrong clock or a thief, and whoever believed it would take no other until that day.
    #[must_use]
    pub fn is_of_its_time(&self, backup: &Backup, now: DateTime<Utc>) -> bool {
        let max_run = i64::try_from(self.root().max_run_seconds).ok().and_then(TimeDelta::try_seconds).unwrap_or(TimeDelta::MAX);
        backup.manifest.taken_at.signed_duration_since(now) <= max_run
    }
}
