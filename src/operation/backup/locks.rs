//! Object lock: before a backup exists, everything that it needs is locked for the vault's window.
//!
//! Until when something is locked is known from the manifest before, so that nothing is asked about most objects in most nights; not of what
//! a verify found locked for less.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::{Backup, sink::Sink};
use crate::{
    format::{
        index_page::{Entry, IndexPage},
        manifest::Page,
        record::StoredObject,
    },
    id::{Locker, Sha256Digest},
    object_lock::Window,
    operation::failure::Failure,
    store::locked,
};

/// Before anything is written: that the store can lock objects, and that what every backup of this vault needs is locked.
///
/// # Errors
/// A store that cannot, or a lock that it does not take.
pub(super) async fn prepare(backup: &Backup) -> Result<(), Failure> {
    let Some(window) = backup.vault.store().window() else { return Ok(()) };
    locked::require(backup.vault.store()).await?;
    backup.vault.renew_roots(window, (backup.clock)()).await?;
    Ok(())
}

/// What a backup needs, and until when it is locked.
pub(super) struct Needed<'a> {
    pub(super) locker: Locker,
    pub(super) sink: &'a Sink,
    pub(super) description: &'a [Entry],
    /// As the manifest will list them; `locked_until` is set to that of the page and its chunks.
    pub(super) pages: &'a mut [Page],
    /// The same, each with its entries.
    pub(super) indexes: &'a [IndexPage],
}

impl Needed<'_> {
    /// Renews the locks that are due, and reads them back. Gives until when the description is locked; `None` where the vault is not.
    ///
    /// # Errors
    /// An object that is gone or was tampered with, a lock that the store does not take or does not tell: then there is no backup.
    pub(super) async fn hold(self, backup: &Backup, findings: &mut Vec<String>) -> Result<Option<DateTime<Utc>>, Failure> {
        let Some(window) = backup.vault.store().window() else {
            self.pages.iter_mut().for_each(|page| page.locked_until = None);
            return Ok(None);
        };
        let mut due = Due { window, now: (backup.clock)(), sink: self.sink, objects: HashSet::new() };
        for (page, index) in self.pages.iter_mut().zip(self.indexes) {
            let object = StoredObject::Page { birth: page.birth, sha256: page.sha256 };
            page.locked_until = due.add(page.sha256, Some((object, page.locked_until)), &index.entries);
        }
        let name = self.description.first().map_or(Sha256Digest([0; 32]), |entry| entry.sha256);
        let description = due.add(name, None, self.description);
        let lock = window.fresh(due.now);
        let weaker = backup.vault.extend_locks(self.locker, due.objects, lock).await?;
        if weaker > 0 {
            findings.push(format!(
                "{weaker} objects that earlier backups stored, and this one renewed, stay locked in governance mode: stores refuse to \
                 change it; `tenure verify` counts all of them"
            ));
        }
        backup.vault.renew_sources(self.locker, window, due.now).await?;
        Ok(description)
    }
}

/// What is to be renewed.
struct Due<'a> {
    window: Window,
    now: DateTime<Utc>,
    sink: &'a Sink,
    objects: HashSet<StoredObject>,
}

impl Due<'_> {
    /// Adds what is due of a page and the chunks that it names, and gives until when all of them are locked at least when it is done.
    fn add(
        &mut self,
        name: Sha256Digest,
        page: Option<(StoredObject, Option<DateTime<Utc>>)>,
        entries: &[Entry],
    ) -> Option<DateTime<Utc>> {
        let chunks = entries.iter().map(|entry| {
            let chunk = StoredObject::Chunk { birth: entry.birth, name: entry.name };
            (chunk, self.sink.locked_until(entry.name))
        });
        let objects: Vec<_> = page.into_iter().chain(chunks).collect();
        let held = objects.iter().map(|(_, held)| *held).min().flatten();
        if !self.window.is_due(name, held, self.now) {
            return held;
        }
        let fresh = self.window.fresh(self.now).until;
        let renewed = objects.into_iter().map(|(object, held)| match held.filter(|held| self.window.is_fresh(*held, self.now)) {
            // Of this night.
            Some(held) => held,
            None => {
                self.objects.insert(object);
                fresh
            }
        });
        renewed.min()
    }
}
