//! Whether what is stored is locked for as long as the manifests say.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::look::Look;
use crate::{
    backup_id::BackupId,
    format::{
        index_page::Entry,
        manifest::{Manifest, Page},
        record::StoredObject,
    },
    id::Locker,
    object_lock::Lock,
    operation::failure::Failure,
    signed,
    store::{StoreError, StoreErrorKind},
    vault::{Vault, locks::name_of},
};

/// Until when each object is locked at least, and the backup that says so.
#[derive(Default)]
pub(super) struct Promised {
    until: HashMap<StoredObject, DateTime<Utc>>,
    by: HashMap<StoredObject, BackupId>,
    /// Of each manifest and its signature.
    manifests: HashMap<BackupId, DateTime<Utc>>,
}

impl Promised {
    /// What a manifest says of a page, or of its description where there is none, and of the chunks in it.
    pub(super) fn add(&mut self, manifest: &Manifest, page: Option<&Page>, entries: &[Entry], now: DateTime<Utc>) {
        // A manifest is locked when it is stored, for longer than what it names.
        if let Some(until) = manifest.locked_until().filter(|until| *until > now) {
            self.manifests.insert(manifest.backup, until);
        }
        let until = page.map_or(manifest.description_locked_until, |page| page.locked_until);
        // What is over is over.
        let Some(until) = until.filter(|until| *until > now) else { return };
        let page = page.map(|page| StoredObject::Page { birth: page.birth, sha256: page.sha256 });
        let chunks = entries.iter().map(|entry| StoredObject::Chunk { birth: entry.birth, name: entry.name });
        for object in page.into_iter().chain(chunks) {
            if self.until.get(&object).is_none_or(|known| *known < until) {
                self.until.insert(object, until);
                self.by.insert(object, manifest.backup);
            }
        }
    }

    /// Asks the store about each of them. Where it may not be asked, or the vault was copied to a store without locks, that is said.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn check(self, vault: &Vault, locker: Locker, look: &mut Look<'_>) -> Result<(), Failure> {
        if self.until.is_empty() && self.manifests.is_empty() {
            return Ok(());
        }
        let held = if vault.store().can_lock().await? == Some(true) {
            let asked = async {
                let held = vault.locks(locker, |object| self.until.contains_key(&object)).await?;
                Ok((held, vault.manifest_locks(locker, |backup| self.manifests.contains_key(&backup)).await?))
            };
            match asked.await {
                Err(StoreError { kind: StoreErrorKind::Denied, .. }) => None,
                asked => Some(asked?),
            }
        } else {
            None
        };
        let Some((held, of_manifests)) = held else {
            look.not_looked_at.push(format!("{}: object locks", vault.store().address()));
            return Ok(());
        };
        let mut governed = 0_u64;
        for (object, held) in held {
            let until = self.until[&object];
            governed += u64::from(is_weaker(vault, held));
            if held.is_some_and(|held| held.until >= until) {
                look.found.whole_locks.insert(object);
                continue;
            }
            look.found.short_locks.insert(object);
            let what = format!("{}; the next backup locks again what it needs", shortened(held, until));
            look.problem(self.by.get(&object).copied(), signed::locate(vault.store(), &name_of(locker, object)), what);
        }
        for (backup, name, held) in of_manifests {
            let until = self.manifests[&backup];
            governed += u64::from(is_weaker(vault, held));
            if held.is_none_or(|held| held.until < until) {
                let what = format!("{}; lock it again with PutObjectRetention", shortened(held, until));
                look.problem(Some(backup), signed::locate(vault.store(), &name), what);
            }
        }
        if governed > 0 {
            look.notes.push(format!(
                "locker {locker}: {governed} objects that backups need are locked in governance mode, though vault.lock says \
                 compliance: they were stored before, and stores refuse to change it"
            ));
        }
        Ok(())
    }
}

fn shortened(held: Option<Lock>, until: DateTime<Utc>) -> String {
    let held = held.map_or_else(|| "not locked".to_owned(), |held| format!("locked in {held}"));
    format!("{held}, though it was until {} at least: somebody may bypass locks", until.format("%Y-%m-%d %H:%M:%S UTC"))
}

/// Whether a lock is less firm than what is stored today gets.
fn is_weaker(vault: &Vault, held: Option<Lock>) -> bool {
    matches!((vault.store().window(), held), (Some(window), Some(held)) if held.mode < window.mode)
}
