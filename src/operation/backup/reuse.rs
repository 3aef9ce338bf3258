//! What is stored already, and may be referred to instead of being stored again.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};

use crate::{
    backup_id::BackupId,
    format::{index_page::Entry, record::StoredObject},
    id::{ChunkName, KeyId, Locker, Sha256Digest},
    object_name::Document,
    signed::DocumentError,
    store::StoreError,
    vault::{
        Vault,
        history::{Backup, History},
        locker::ObjectError,
    },
};

/// Index pages read at once.
const READERS: usize = 8;

/// A chunk as the newest backup refers to it.
#[derive(Debug, Clone, Copy)]
pub struct StoredChunk {
    /// Who wrote it.
    pub birth: BackupId,
    /// Length of the stored object in bytes.
    pub size: u64,
    /// SHA-256 of the stored object.
    pub sha256: Sha256Digest,
    /// Until when it is locked at least, where that is known.
    pub locked_until: Option<DateTime<Utc>>,
}

/// A page as the newest backup refers to it.
#[derive(Debug, Clone, Copy)]
pub struct StoredPage {
    /// Who wrote it.
    pub birth: BackupId,
    /// Until when it is locked at least, where that is known.
    pub locked_until: Option<DateTime<Utc>>,
}

/// The newest live backup under the same key, and what of it the store still lists.
#[derive(Default)]
pub struct Reuse {
    /// That backup: it must still be there when the new one is committed.
    pub base: Option<BackupId>,
    chunks: HashMap<ChunkName, StoredChunk>,
    pages: HashMap<Sha256Digest, StoredPage>,
    /// What of it could not be used, for the report: it is stored again.
    pub lost: Vec<String>,
    /// Findings that could not be read, for the report: they stop nothing.
    pub unreadable_findings: Vec<String>,
}

impl Reuse {
    /// Reads the index of the newest backup that lives beyond `until` and was sealed with `key_id`, and keeps those of its chunks and
    /// pages that the store lists with their length and that no verify ever called damaged. Damage is no error here: what cannot be used
    /// is stored again, which heals it.
    ///
    /// # Errors
    /// Only when the store cannot be reached.
    pub async fn load(
        vault: &Vault,
        locker: Locker,
        key_id: KeyId,
        history: &History,
        until: DateTime<Utc>,
    ) -> Result<Self, DocumentError> {
        let usable = |backup: &&Backup| backup.manifest.key_id == key_id && backup.manifest.expires_at > until;
        let Some(base) = history.backups.iter().rev().find(usable) else { return Ok(Self::default()) };
        let failed = |source: StoreError| DocumentError::Store { object: source.name.clone(), source: source.into() };
        let listed = vault.stored_chunks(locker).await.map_err(failed)?;
        let listed_pages = vault.stored_pages(locker).await.map_err(failed)?;

        let findings = vault.findings(locker).await?;
        let unreadable_findings = findings.unreadable.iter().map(|error| format!("{error}; run `tenure verify`")).collect();
        let mut reuse = Self { base: Some(base.manifest.backup), unreadable_findings, ..Self::default() };
        // What a verify found locked for less than a manifest says is in doubt, whatever later manifests say, until a verify finds it whole:
        // each backup locks it anew until then.
        let believed = |object, until: Option<DateTime<Utc>>| until.filter(|_| !findings.is_lock_short(object));
        let take = |reuse: &mut Self, entry: &Entry, locked_until: Option<DateTime<Utc>>| {
            let object = StoredObject::Chunk { birth: entry.birth, name: entry.name };
            let locked_until = believed(object, locked_until);
            if findings.ever_damaged(object) {
                reuse.lost.push(format!("chunk {} was found damaged", entry.name));
            } else if listed.get(&(entry.name, entry.birth)) == Some(&entry.size) {
                // Pages may share a chunk: it is locked for as long as the page that says most.
                let locked_until = locked_until.max(reuse.chunks.get(&entry.name).and_then(|other| other.locked_until));
                let stored = StoredChunk { birth: entry.birth, size: entry.size, sha256: entry.sha256, locked_until };
                reuse.chunks.insert(entry.name, stored);
            } else {
                reuse.lost.push(format!("chunk {} is missing or has another length", entry.name));
            }
        };
        let held = base.manifest.description_locked_until;
        base.manifest.description.iter().for_each(|entry| take(&mut reuse, entry, held));
        let mut pages = stream::iter(base.manifest.pages.clone())
            .map(|page| async move {
                let read = vault.page(locker, &page).await;
                (page, read)
            })
            .buffer_unordered(READERS);
        while let Some((page, read)) = pages.next().await {
            match read {
                Ok(read) => {
                    let object = StoredObject::Page { birth: page.birth, sha256: page.sha256 };
                    if !findings.ever_damaged(object) && listed_pages.get(&(page.sha256, page.birth)) == Some(&page.size) {
                        let stored = StoredPage { birth: page.birth, locked_until: believed(object, page.locked_until) };
                        reuse.pages.insert(page.sha256, stored);
                    }
                    read.entries.iter().for_each(|entry| take(&mut reuse, entry, page.locked_until));
                }
                Err(ObjectError::Store { object, source }) => return Err(DocumentError::Store { object, source }),
                Err(damage) => reuse.lost.push(damage.to_string()),
            }
        }
        Ok(reuse)
    }

    /// The chunk of this name, if it may be referred to.
    #[must_use]
    pub fn chunk(&self, name: ChunkName) -> Option<StoredChunk> {
        self.chunks.get(&name).copied()
    }

    /// The page of this digest, if it may be referred to.
    #[must_use]
    pub fn page(&self, sha256: Sha256Digest) -> Option<StoredPage> {
        self.pages.get(&sha256).copied()
    }
}

/// Whether the backup that chunks were re-used from is still listed.
///
/// # Errors
/// The store's.
pub async fn base_is_there(vault: &Vault, locker: Locker, base: BackupId) -> Result<bool, StoreError> {
    let manifest = vault.store().head(&Document::Manifest(locker, base).to_string()).await?;
    let void = vault.store().head(&Document::Void(locker, base).to_string()).await?;
    Ok(manifest.is_some_and(|manifest| void.is_none_or(|void| !vault.is_void(manifest.modified, void.modified))))
}
