//! Every object that an erasure removes from the vault, as it was before the first was removed.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use xxhash_rust::xxh3::xxh3_128;

use super::Erase;
use crate::{
    backup_id::BackupId,
    format::{
        certificate::Opened,
        inventory::{Inventory, InventoryFile, InventoryLine},
        plan::Plan,
    },
    id::{ChunkName, Locker, Sha256Digest},
    object_name::{ObjectName, prefix},
    operation::failure::{Failure, FailureClass},
    seal::{RecoveryIdentity, open},
    signed,
    store::{Listed, StoreError, StoreErrorKind},
};

/// Objects asked about at once.
const AT_ONCE: usize = 32;
/// Pages read at once.
const PAGES: usize = 8;
/// Lines of one file: about 8 MB.
const LINES: u64 = 30_000;
/// What is no chunk and no page is read to be summed up to this length: no document is longer.
const MAX_DOCUMENT: u64 = 64 * 1024 * 1024;

/// Which chunk, and the SHA-256 of its stored bytes.
type Digests = HashMap<u128, Sha256Digest>;

/// Lines that are to become a file.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    objects: u64,
}

impl Erase<'_> {
    /// Lists every object of the plan's lockers, writes the lists beside the certificate, and says what they are. Of what is written, one file
    /// is kept in memory, and 48 bytes for each chunk of a locker.
    pub(super) async fn inventory(&self, plan: &Plan) -> Result<Inventory, Failure> {
        let vault = self.purge.vault;
        let locks = vault.store().can_lock().await? == Some(true);
        let mut inventory = Inventory { made_at: self.now(), objects: 0, bytes: 0, files: Vec::new() };
        let mut lines = Lines::default();
        for planned in &plan.lockers {
            let digests = &self.digests(planned.locker).await?;
            let (all, gone) = (prefix::locker(planned.locker), prefix::in_locker(planned.locker, "gone"));
            let listed = vault.store().list(&all).try_filter(|listed| future::ready(!listed.name.starts_with(&gone)));
            let mut described = listed.map_ok(|listed| self.line(listed, digests, locks)).try_buffer_unordered(AT_ONCE);
            while let Some(line) = described.try_next().await? {
                inventory.objects += 1;
                inventory.bytes += line.size;
                serde_json::to_writer(&mut lines.text, &line).map_err(|error| {
                    Failure::new(FailureClass::Failed, "inventory", &line.name, "its line cannot be written").because(error)
                })?;
                lines.text.push(b'\n');
                lines.objects += 1;
                if lines.objects == LINES {
                    inventory.files.push(self.put(plan, std::mem::take(&mut lines)).await?);
                }
            }
        }
        // An empty list is a list as well.
        if lines.objects > 0 || inventory.files.is_empty() {
            inventory.files.push(self.put(plan, lines).await?);
        }
        Ok(inventory)
    }

    async fn put(&self, plan: &Plan, lines: Lines) -> Result<InventoryFile, Failure> {
        Ok(self.purge.vault.put_inventory(plan.id, lines.text, lines.objects).await?)
    }

    async fn line(&self, listed: Listed, digests: &Digests, locks: bool) -> Result<InventoryLine, StoreError> {
        let store = self.purge.vault.store();
        let sha256 = match listed.name.parse() {
            Ok(ObjectName::Chunk { birth, name, .. }) => digests.get(&bits(birth, name)).copied(),
            Ok(ObjectName::Page { sha256, .. }) => Some(sha256),
            _ => match store.get(&listed.name, MAX_DOCUMENT).await {
                Ok(bytes) => Some(Sha256Digest::of(&bytes)),
                // Hidden, or not for these credentials: it goes all the same.
                Err(error) if is_no_answer(error.kind) => None,
                Err(error) => return Err(error),
            },
        };
        let locked_until = match locks {
            true => match store.lock_of(&listed).await {
                Ok(lock) => lock.map(|lock| lock.until),
                Err(error) if is_no_answer(error.kind) => None,
                Err(error) => return Err(error),
            },
            false => None,
        };
        Ok(InventoryLine { name: listed.name, version: listed.version, sha256, size: listed.size, locked_until })
    }

    /// What the index of every backup says of the chunks. A page that cannot be read says nothing: its chunks go all the same.
    async fn digests(&self, locker: Locker) -> Result<Digests, Failure> {
        let vault = self.purge.vault;
        let (mut digests, mut seen) = (Digests::new(), HashSet::new());
        for backup in vault.history(locker, self.now()).await?.backups {
            let manifest = backup.manifest;
            digests.extend(manifest.description.iter().map(|entry| (bits(entry.birth, entry.name), entry.sha256)));
            let pages = manifest.pages.into_iter().filter(|page| seen.insert((page.birth, page.sha256))).collect::<Vec<_>>();
            let mut read = stream::iter(pages).map(async |page| vault.page(locker, &page).await).buffer_unordered(PAGES);
            while let Some(page) = read.next().await {
                match page {
                    Ok(page) => digests.extend(page.entries.iter().map(|entry| (bits(entry.birth, entry.name), entry.sha256))),
                    Err(error) if error.is_integrity() => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(digests)
    }

    /// Opens one chunk of the newest backup: that the keys which are about to go are those of the backups.
    ///
    /// # Errors
    /// An identity that does not open the key, a chunk that does not open: somebody believes that these are the keys.
    pub(super) async fn open_one(&self, plan: &Plan, identity: &RecoveryIdentity) -> Result<Opened, Failure> {
        let (vault, keyring) = (self.purge.vault, self.purge.keyring);
        let records = keyring.census().await?.tenants.into_values().find(|keys| keys.tag == plan.name_tag);
        for planned in plan.lockers.iter().rev() {
            let history = vault.history(planned.locker, self.now()).await?;
            let Some(backup) = history.newest() else { continue };
            let Some(record) = records.as_ref().and_then(|keys| keys.get(backup.manifest.key_id)) else { continue };
            let wrapped = match keyring.secret_half(record).await {
                Ok(wrapped) => wrapped,
                // Where each role has credentials of its own, the eraser's may destroy a key and not read it.
                Err(error) if error.is_denied() => return Ok(Opened::NotTested),
                Err(error) => return Err(error.into()),
            };
            let secret = identity.unwrap(&wrapped).map_err(|error| Failure::wrong_identity(&record.tenant, error))?;
            // Its description is there in every backup.
            let Some(entry) = backup.manifest.description.first() else { continue };
            let sealed = vault.chunk(planned.locker, entry).await?;
            tokio::task::block_in_place(|| open(&secret, &sealed, entry.length)).map_err(|error| {
                let object = signed::locate(
                    vault.store(),
                    &ObjectName::Chunk { locker: planned.locker, birth: entry.birth, name: entry.name },
                );
                Failure::new(FailureClass::Integrity, "not-opened", object, "a chunk of the newest backup does not open")
                    .hint("Nothing of the keys was destroyed. Without --identity the certificate says that this was not tested.")
                    .because(error)
            })?;
            return Ok(Opened::Opened {
                backup: backup.manifest.backup,
                key: record.key_id,
                chunk_sha256: entry.sha256,
                at: self.now(),
            });
        }
        Ok(Opened::NotTested)
    }
}

fn is_no_answer(kind: StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::NotFound | StoreErrorKind::Denied | StoreErrorKind::TooLarge | StoreErrorKind::NoLocks)
}

/// 128 bits of a chunk's name and birth: nothing is removed by them, and what has the same ones would be given another's digest.
fn bits(birth: BackupId, name: ChunkName) -> u128 {
    xxh3_128(format!("{birth}/{name}").as_bytes())
}
