//! The sweep: what in a locker no manifest refers to any more goes, by one rule and no other.
//!
//! A chunk or page goes only if (a) no manifest of the locker refers to it, by a listing made after the last manifest was removed;
//! (b) its birth's time and its store time are both older than `settle`; (c) every listed manifest, and every page that it names, could
//! be read and verified; (d) no predecessor named by a listed manifest is missing while its signed expiry lies ahead, without a purge note
//! or void; (e) no backup was purged by name within `settle`, or no run can be at work that began before and builds upon it; (f) its birth is not that of a manifest that may be hidden, because only its signature is there and nothing was begun later.
//! For the rest, that a birth has no manifest means nothing: unchanged chunks live on under expired births.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    backup_id::BackupId,
    format::{manifest::Page, record::StoredObject},
    id::{ChunkName, Locker, Sha256Digest},
    object_name::{Document, ObjectName, prefix},
    operation::failure::{Failure, FailureClass},
    store::{Listed, StoreError},
    vault::{
        Vault,
        history::{Backup, History},
        list_named,
        locker::ObjectError,
        removal::Removal,
    },
};

/// Index pages read at once.
const READERS: usize = 8;
/// Objects removed at once.
const REMOVERS: usize = 16;

/// A sweep of one locker.
pub struct Sweep<'a> {
    /// Where it lies.
    pub vault: &'a Vault,
    /// Which.
    pub locker: Locker,
    /// Now. What is younger than `settle` stays.
    pub now: DateTime<Utc>,
    /// Instead of removing, tell what would go if it were this time, and these backups were removed.
    pub dry_run: Option<(DateTime<Utc>, &'a BTreeSet<BackupId>)>,
    /// Whether no run can be at work that began before the last purge note came: somebody has had the tenant's lock since.
    pub is_alone: bool,
    /// Stops it between two objects.
    pub cancel: &'a CancellationToken,
}

/// What went, or would go, and what stays though nothing needs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Objects that went, with every version of each.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that the store keeps.
    pub locked: u64,
    /// Until when the last of them is locked.
    pub locked_until: Option<DateTime<Utc>>,
    /// Objects that are younger than `settle`: a run may be about to refer to them.
    pub settling: u64,
}

/// Why a locker was not swept: an integrity failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Address and name.
    pub object: String,
    /// What is wrong, in words.
    pub what: String,
}

impl Tally {
    /// Notes what became of an object.
    pub fn note(&mut self, object: &Listed, removal: Removal) {
        match removal {
            Removal::Gone => {
                self.objects += 1;
                self.bytes += object.size;
            }
            Removal::Locked(until) => {
                self.locked += 1;
                self.locked_until = self.locked_until.max(Some(until));
            }
        }
    }
}

/// What the listed manifests refer to: 128 bits for each object. Two objects with the same bits would both stay.
#[derive(Default)]
struct Referred(HashSet<u128>);

impl Referred {
    fn chunk(birth: BackupId, name: ChunkName) -> u128 {
        xxh3_128(format!("c/{birth}/{name}").as_bytes())
    }

    fn page(birth: BackupId, sha256: Sha256Digest) -> u128 {
        xxh3_128(format!("p/{birth}/{sha256}").as_bytes())
    }
}

impl Sweep<'_> {
    /// Removes what may go. `tally` has what was done, also after a failure. Gives what kept it from removing any chunk or page.
    ///
    /// # Errors
    /// A store that cannot be reached or refuses; [`FailureClass::Interrupted`].
    pub async fn run(&self, tally: &mut Tally) -> Result<Vec<Obstacle>, Failure> {
        let history = self.vault.history(self.locker, self.now).await?;
        if !history.problems.is_empty() {
            let obstacles = history.problems.into_iter();
            return Ok(obstacles.map(|problem| Obstacle { object: problem.object, what: problem.what }).collect());
        }
        let referred = match self.referred(&history).await? {
            Ok(referred) => referred,
            Err(obstacle) => return Ok(vec![obstacle]),
        };
        let max_keep = self.vault.root().max_keep;
        let hidden = history.perhaps_hidden(self.at()).filter(|id| max_keep.expiry(id.time()) > self.at());
        let hidden: HashSet<BackupId> = hidden.collect();
        self.collect_ends(&history, &hidden, tally).await?;
        // A run that began before the note may still refer to what the purged backups needed, however old that is.
        let noted = history.noted_at.filter(|noted| !self.is_alone && *noted >= self.settled());
        let settled = if noted.is_some() { DateTime::<Utc>::MIN_UTC } else { self.settled() };
        drop(history);
        for kind in ["p", "c"] {
            self.collect(kind, (&referred, &hidden), settled, tally).await?;
        }
        self.collect_findings(&referred, settled, tally).await?;
        Ok(Vec::new())
    }

    fn at(&self) -> DateTime<Utc> {
        self.dry_run.map_or(self.now, |(at, _)| at.max(self.now))
    }

    /// What was born and stored before this may go.
    fn settled(&self) -> DateTime<Utc> {
        let at = self.at();
        let settle = i64::try_from(self.vault.root().settle_seconds).unwrap_or(i64::MAX / 1_000);
        at.checked_sub_signed(TimeDelta::seconds(settle)).unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    fn stays(&self, backup: &Backup) -> bool {
        self.dry_run.is_none_or(|(_, without)| !without.contains(&backup.manifest.backup))
    }

    /// Reads each page once. The inner error is a page that cannot be read: nobody knows what it refers to.
    async fn referred(&self, history: &History) -> Result<Result<Referred, Obstacle>, Failure> {
        let mut referred = Referred::default();
        let mut pages: Vec<Page> = Vec::new();
        for manifest in history.backups.iter().filter(|backup| self.stays(backup)).map(|backup| &backup.manifest) {
            referred.0.extend(manifest.description.iter().map(|entry| Referred::chunk(entry.birth, entry.name)));
            let new = manifest.pages.iter().filter(|page| referred.0.insert(Referred::page(page.birth, page.sha256)));
            pages.extend(new.cloned());
        }
        let mut read = stream::iter(pages)
            .map(|page| async move {
                let read = self.vault.page(self.locker, &page).await;
                (page, read)
            })
            .buffer_unordered(READERS);
        while let Some((page, read)) = read.next().await {
            self.go_on()?;
            match read {
                Ok(read) => referred.0.extend(read.entries.iter().map(|entry| Referred::chunk(entry.birth, entry.name))),
                Err(error @ ObjectError::Store { .. }) => return Err(error.into()),
                // Another run may remove a manifest, and then its pages, while this one reads.
                Err(_) if !self.is_needed(history, &page).await? => {}
                Err(error) => {
                    let name = ObjectName::Page { locker: self.locker, birth: page.birth, sha256: page.sha256 };
                    let object = crate::signed::locate(self.vault.store(), &name);
                    let what = format!("{error}: what it refers to is not known, so that nothing of the locker was swept");
                    return Ok(Err(Obstacle { object, what }));
                }
            }
        }
        drop(read);
        Ok(Ok(referred))
    }

    /// Whether a manifest that names this page is still there.
    async fn is_needed(&self, history: &History, page: &Page) -> Result<bool, StoreError> {
        let names = |backup: &&Backup| {
            let mut pages = backup.manifest.pages.iter();
            pages.any(|other| (other.sha256, other.birth) == (page.sha256, page.birth))
        };
        for backup in history.backups.iter().filter(|backup| self.stays(backup)).filter(names) {
            let manifest = Document::Manifest(self.locker, backup.manifest.backup).to_string();
            if self.vault.store().head(&manifest).await?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Chunks or pages.
    async fn collect(
        &self,
        kind: &str,
        (referred, hidden): (&Referred, &HashSet<BackupId>),
        settled: DateTime<Utc>,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let prefix = prefix::in_locker(self.locker, kind);
        let mut settling = 0;
        let garbage = self.vault.store().list(&prefix).try_filter(|listed| {
            let (bits, birth) = match listed.name.parse() {
                Ok(ObjectName::Chunk { birth, name, .. }) => (Referred::chunk(birth, name), birth),
                Ok(ObjectName::Page { birth, sha256, .. }) => (Referred::page(birth, sha256), birth),
                // Not ours; `verify` names it.
                _ => return future::ready(false),
            };
            let is_garbage = !referred.0.contains(&bits) && !hidden.contains(&birth);
            let is_old = birth.time() < settled && listed.modified < settled;
            settling += u64::from(is_garbage && !is_old);
            future::ready(is_garbage && is_old)
        });
        let mut removed = garbage
            .map_ok(|listed| async move {
                let removal = self.remove(&listed).await?;
                Ok((listed, removal))
            })
            .try_buffer_unordered(REMOVERS);
        let mut stopped = Ok(());
        while let Some((listed, removal)) = removed.try_next().await? {
            tally.note(&listed, removal);
            stopped = self.go_on();
            if stopped.is_err() {
                break;
            }
        }
        drop(removed);
        tally.settling += settling;
        stopped
    }

    /// Findings that speak of nothing any more that a manifest refers to: no backup can refer to it again, so that nobody goes by them.
    async fn collect_findings(&self, referred: &Referred, settled: DateTime<Utc>, tally: &mut Tally) -> Result<(), Failure> {
        let prefix = prefix::in_locker(self.locker, "v");
        let (listed, _) = list_named(self.vault.store(), &prefix).await?;
        if listed.is_empty() {
            return Ok(());
        }
        let listed: HashMap<ObjectName, Listed> = listed.into_iter().collect();
        let mut going: Vec<Document> = Vec::new();
        for (stored_at, finding) in self.vault.dated_findings(self.locker).await? {
            let mut about = [&finding.damaged, &finding.sound, &finding.short_locks, &finding.whole_locks].into_iter().flatten();
            let is_referred = about.any(|object| {
                referred.0.contains(&match *object {
                    StoredObject::Chunk { birth, name } => Referred::chunk(birth, name),
                    StoredObject::Page { birth, sha256 } => Referred::page(birth, sha256),
                })
            });
            match (is_referred, stored_at < settled) {
                (true, _) => {}
                (false, true) => going.push(Document::Finding(self.locker, finding.id)),
                (false, false) => tally.settling += 1,
            }
        }
        // What a verify left that was killed.
        going.extend(listed.iter().filter_map(|(name, object)| match name {
            ObjectName::Signature(document) if !listed.contains_key(&ObjectName::Document(document.clone())) => {
                (object.modified < settled).then(|| document.clone())
            }
            _ => None,
        }));
        for document in going {
            let names = [ObjectName::Document(document.clone()), ObjectName::Signature(document)];
            self.remove_in_order(names.iter().filter_map(|name| listed.get(name)), tally).await?;
        }
        Ok(())
    }

    /// Voided backups, and signatures that a crash left without their document.
    async fn collect_ends(&self, history: &History, hidden: &HashSet<BackupId>, tally: &mut Tally) -> Result<(), Failure> {
        let (listed, _) = list_named(self.vault.store(), &prefix::in_locker(self.locker, "b")).await?;
        let listed: HashMap<ObjectName, Listed> = listed.into_iter().collect();
        let settled = self.settled();
        let is_old = |backup: BackupId, listed: &Listed| backup.time() < settled && listed.modified < settled;
        // While a manifest names a voided backup as the one before it, the void is what says that it is not missing.
        let named = History::named_by(history.backups.iter().filter(|backup| self.stays(backup)), self.now);
        for id in history.voids.iter().filter(|id| !named.contains(id)) {
            let documents = [Document::Manifest(self.locker, *id), Document::Void(self.locker, *id)];
            // The manifest before the void: it must never count again.
            let names = documents.map(|document| [ObjectName::Document(document.clone()), ObjectName::Signature(document)]);
            let objects: Vec<&Listed> = names.as_flattened().iter().filter_map(|name| listed.get(name)).collect();
            if objects.iter().all(|object| is_old(*id, object)) {
                self.remove_in_order(objects, tally).await?;
            } else {
                tally.settling += objects.len() as u64;
            }
        }
        for (name, object) in &listed {
            let ObjectName::Signature(document @ (Document::Manifest(_, id) | Document::Void(_, id))) = name else { continue };
            let is_alone = !listed.contains_key(&ObjectName::Document(document.clone()));
            if !is_alone || history.voids.contains(id) || hidden.contains(id) {
                continue;
            }
            if is_old(*id, object) {
                self.remove_in_order([object], tally).await?;
            } else {
                tally.settling += 1;
            }
        }
        Ok(())
    }

    /// Removes one after the other, and none after one that is locked.
    async fn remove_in_order(&self, objects: impl IntoIterator<Item = &Listed>, tally: &mut Tally) -> Result<(), Failure> {
        for object in objects {
            self.go_on()?;
            let removal = self.remove(object).await?;
            tally.note(object, removal);
            if matches!(removal, Removal::Locked(_)) {
                break;
            }
        }
        Ok(())
    }

    async fn remove(&self, object: &Listed) -> Result<Removal, StoreError> {
        match self.dry_run {
            Some((at, _)) => self.vault.would_remove(object, at).await,
            None => self.vault.remove(object, self.now).await,
        }
    }

    fn go_on(&self) -> Result<(), Failure> {
        go_on(self.cancel)
    }
}

/// Stops between two steps when it was asked to.
///
/// # Errors
/// [`FailureClass::Interrupted`].
pub fn go_on(cancel: &CancellationToken) -> Result<(), Failure> {
    if cancel.is_cancelled() {
        return Err(Failure::new(FailureClass::Interrupted, "interrupted", "expire", "stopped before it was through")
            .hint("Nothing is half done: run it again, and it goes on."));
    }
    Ok(())
}
