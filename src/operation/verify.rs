//! `verify`: that what is stored is what was written, whole, and still opens.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use schemars::JsonSchema;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    failure::{Failure, FailureClass},
    progress::Progress,
};
use crate::{
    backup_id::BackupId,
    chunk::{ChunkNameKey, RowDigest, sums::RowSums},
    format::{
        index_page::{Entry, Part},
        manifest::Page,
    },
    id::{ChunkName, KeyId, Locker, SourceTag},
    keyring::{Keyring, TenantKeys},
    object_name::ObjectName,
    seal::{RecoveryIdentity, TenantIdentity, open},
    signed::{self, DocumentError},
    tenant::TenantName,
    vault::{Vault, history::History, locker::ObjectError},
};

/// Chunks read at once.
const READERS: usize = 4;

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct VerifyReport {
    /// What was looked at.
    pub checked: Checked,
    /// What is wrong, by tenant and backup. Empty means that every backup looked at can be restored, as far as was asked.
    pub problems: Vec<VerifyProblem>,
    /// Objects that a crashed run left. Harmless.
    pub leftovers: Vec<String>,
    /// Whether the chunks were opened with the recovery identity, or only compared with their digests.
    pub opened: bool,
}

/// What was looked at, each object once however many backups share it.
#[derive(Debug, Clone, Copy, Default, Serialize, JsonSchema)]
pub struct Checked {
    /// Manifests.
    pub manifests: u64,
    /// Chunks.
    pub chunks: u64,
    /// Their stored bytes.
    pub bytes: u64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct VerifyProblem {
    /// The tenant, where the keyring knows whose it is.
    pub tenant: Option<String>,
    /// The backup that is hurt; an object shared by several is listed once for each.
    pub backup: Option<String>,
    /// Address and name of the object.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
}

/// Which tenants to look at.
#[derive(Debug, Clone)]
pub enum Which {
    /// Every locker of the vault, whether or not the keyring knows it.
    All,
    /// These.
    Tenants(Vec<TenantName>),
}

/// What `verify` works with.
pub struct Verify<'a> {
    /// Where the backups are.
    pub vault: &'a Vault,
    /// Where the keys are.
    pub keyring: &'a Keyring,
    /// Opens every chunk when given.
    pub identity: Option<&'a RecoveryIdentity>,
    /// Is told how far it is.
    pub progress: &'a dyn Progress,
    /// Stops it.
    pub cancel: &'a CancellationToken,
}

impl Verify<'_> {
    /// Looks at every backup that is not expired. Problems are in the report; it is for the caller to turn them into exit code 5.
    ///
    /// # Errors
    /// A tenant that is not known; a store that cannot be reached; an identity that does not open a tenant's key.
    pub async fn run(&self, which: &Which, now: DateTime<Utc>) -> Result<VerifyReport, Failure> {
        let mut report = VerifyReport { opened: self.identity.is_some(), ..VerifyReport::default() };
        for (locker, keys) in self.lockers(which, &mut report).await? {
            if self.cancel.is_cancelled() {
                return Err(Failure::new(FailureClass::Interrupted, "interrupted", "verify", "stopped before it was through"));
            }
            self.locker(locker, keys.as_ref(), now, &mut report).await?;
        }
        report.problems.sort();
        report.problems.dedup();
        Ok(report)
    }

    /// Lockers to look at, each with its tenant's keys where they are known.
    async fn lockers(&self, which: &Which, report: &mut VerifyReport) -> Result<Vec<(Locker, Option<TenantKeys>)>, Failure> {
        let mut lockers = Vec::new();
        match which {
            Which::Tenants(tenants) => {
                for tenant in tenants {
                    let keys = self.keyring.keys(tenant).await.map_err(Failure::from)?;
                    let keys = keys.ok_or_else(|| Failure::unknown_tenant(tenant))?;
                    lockers.extend(keys.lockers().into_iter().map(|locker| (locker, Some(keys.clone()))));
                }
            }
            Which::All => {
                let census = self.keyring.census().await.map_err(Failure::from)?;
                report.problems.extend(census.problems.iter().map(|error| VerifyProblem {
                    tenant: None,
                    backup: None,
                    object: error.object().to_owned(),
                    problem: describe(error),
                }));
                let known: HashMap<Locker, &TenantKeys> = census
                    .tenants
                    .values()
                    .flat_map(|keys| keys.lockers().into_iter().map(move |locker| (locker, keys)))
                    .collect();
                for locker in self.vault.lockers().await.map_err(Failure::from)? {
                    lockers.push((locker, known.get(&locker).map(|keys| (*keys).clone())));
                }
                // A tenant whose whole locker is missing from the vault is looked at as well: its history is a hole.
                for (locker, keys) in known {
                    if !lockers.iter().any(|(listed, _)| *listed == locker) {
                        lockers.push((locker, Some(keys.clone())));
                    }
                }
            }
        }
        Ok(lockers)
    }

    async fn locker(
        &self,
        locker: Locker,
        keys: Option<&TenantKeys>,
        now: DateTime<Utc>,
        report: &mut VerifyReport,
    ) -> Result<(), Failure> {
        let history = self.vault.history(locker, now).await.map_err(Failure::from)?;
        let tenant = keys.map(|keys| keys.tenant.clone());
        let name = tenant.as_ref().map(|tenant| tenant.as_str().to_owned());
        let mut look = Look { verify: self, locker, problems: Vec::new(), checked: Checked::default(), seen: HashSet::new() };
        look.note_history(&history);
        report.leftovers.extend(history.leftovers.iter().cloned());
        let backups: Vec<_> = history.live(now).collect();
        if !backups.is_empty() && keys.is_none() && !self.vault.has_gone(locker).await.map_err(Failure::from)? {
            let what = "no key record in the keyring belongs to this locker: its backups cannot be opened";
            look.problem(None, crate::object_name::prefix::locker(locker), what.to_owned());
        }
        let opener = self.openers(keys, backups.iter().map(|backup| backup.manifest.key_id), &mut look).await?;
        let shown = tenant.clone().filter(|_| !backups.is_empty());
        if let Some(tenant) = &shown {
            let expected = backups.first().map_or(0, |b| b.manifest.totals.bytes_stored + b.manifest.totals.bytes_reused);
            self.progress.tenant_started(tenant, expected);
        }

        for backup in &backups {
            look.checked.manifests += 1;
            let manifest = &backup.manifest;
            let opener = opener.get(&manifest.key_id).cloned();
            let mut entries = vec![manifest.description.clone()];
            for page in &manifest.pages {
                entries.push(look.page(manifest.backup, page).await?);
            }
            look.entries(manifest.backup, entries.concat(), opener, shown.as_ref()).await?;
        }
        if let Some(tenant) = &shown {
            self.progress.tenant_finished(tenant, if look.problems.is_empty() { "good" } else { "damaged" });
        }
        report.checked.manifests += look.checked.manifests;
        report.checked.chunks += look.checked.chunks;
        report.checked.bytes += look.checked.bytes;
        report.problems.extend(look.problems.into_iter().map(|(backup, object, problem)| VerifyProblem {
            tenant: name.clone(),
            backup: backup.map(|backup| backup.to_string()),
            object,
            problem,
        }));
        Ok(())
    }

    /// The tenant keys that the backups need, opened; none without an identity.
    async fn openers(
        &self,
        keys: Option<&TenantKeys>,
        needed: impl Iterator<Item = KeyId>,
        look: &mut Look<'_>,
    ) -> Result<BTreeMap<KeyId, Arc<Opener>>, Failure> {
        let mut openers = BTreeMap::new();
        let needed: HashSet<KeyId> = needed.collect();
        for key_id in needed {
            let Some(record) = keys.and_then(|keys| keys.get(key_id)) else {
                look.problem(None, format!("key {key_id}"), "the keyring has no usable record of this key".to_owned());
                continue;
            };
            let Some(identity) = self.identity else { continue };
            let wrapped = self.keyring.secret_half(key_id).await.map_err(Failure::from)?;
            match identity.unwrap(&wrapped) {
                Ok(opened) if opened.recipient().to_string() == record.recipient => {
                    openers.insert(key_id, Arc::new(Opener { identity: opened, key: record.chunk_name_key.clone() }));
                }
                Ok(_) => look.problem(None, format!("key {key_id}"), "its secret half belongs to another public half".to_owned()),
                Err(error) => return Err(Failure::wrong_identity(&record.tenant, error)),
            }
        }
        Ok(openers)
    }
}

/// What opens the chunks of one key.
struct Opener {
    identity: TenantIdentity,
    key: ChunkNameKey,
}

/// The look at one locker.
struct Look<'a> {
    verify: &'a Verify<'a>,
    locker: Locker,
    problems: Vec<(Option<BackupId>, String, String)>,
    checked: Checked,
    /// Chunks already found good.
    seen: HashSet<(ChunkName, BackupId)>,
}

impl Look<'_> {
    fn problem(&mut self, backup: Option<BackupId>, object: String, problem: String) {
        self.problems.push((backup, object, problem));
    }

    fn note_history(&mut self, history: &History) {
        for problem in &history.problems {
            self.problem(problem.backup, problem.object.clone(), problem.what.clone());
        }
    }

    async fn page(&mut self, backup: BackupId, page: &Page) -> Result<Vec<Entry>, Failure> {
        match self.verify.vault.page(self.locker, page).await {
            Ok(read) => Ok(read.entries),
            Err(error @ ObjectError::Store { .. }) => Err(Failure::from(error)),
            Err(error) => {
                let name = ObjectName::Page { locker: self.locker, birth: page.birth, sha256: page.sha256 };
                self.problem(Some(backup), signed::locate(self.verify.vault.store(), &name), damage(&error));
                Ok(Vec::new())
            }
        }
    }

    async fn entries(
        &mut self,
        backup: BackupId,
        entries: Vec<Entry>,
        opener: Option<Arc<Opener>>,
        tenant: Option<&TenantName>,
    ) -> Result<(), Failure> {
        for (object, problem) in incomplete_sources(&entries) {
            self.problem(Some(backup), object, problem);
        }
        let units: Vec<Vec<Entry>> = units(entries)
            .into_iter()
            .filter(|unit| unit.iter().any(|entry| !self.seen.contains(&(entry.name, entry.birth))))
            .collect();
        let (vault, locker) = (self.verify.vault, self.locker);
        let mut results = stream::iter(units)
            .map(|unit| {
                let (vault, opener) = (vault.clone(), opener.clone());
                // A task of its own, so that chunks are opened on every core.
                tokio::spawn(async move {
                    let found = check_unit(&vault, locker, &unit, opener.as_deref()).await;
                    (unit, found)
                })
            })
            .buffer_unordered(READERS);
        let mut found = Vec::new();
        while let Some(joined) = results.next().await {
            let (unit, result) = joined.map_err(|error| {
                Failure::new(FailureClass::Failed, "panicked", "verify", "checking a chunk panicked").because(error)
            })?;
            if self.verify.cancel.is_cancelled() {
                return Err(Failure::new(FailureClass::Interrupted, "interrupted", "verify", "stopped before it was through"));
            }
            let bytes = unit.iter().map(|entry| entry.size).sum();
            if let Some(tenant) = tenant {
                self.verify.progress.advanced(tenant, bytes);
            }
            found.push((unit, result?));
        }
        drop(results);
        for (unit, problems) in found {
            for entry in &unit {
                let name = ObjectName::Chunk { locker: self.locker, birth: entry.birth, name: entry.name };
                let object = signed::locate(self.verify.vault.store(), &name);
                match problems.iter().find(|(bad, _)| *bad == entry.name) {
                    Some((_, what)) => {
                        self.problem(Some(backup), object, what.clone());
                    }
                    None => {
                        if self.seen.insert((entry.name, entry.birth)) {
                            self.checked.chunks += 1;
                            self.checked.bytes += entry.size;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Consecutive entries through which one source runs: rows may be cut between them.
fn units(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut units: Vec<Vec<Entry>> = Vec::new();
    for entry in entries {
        let goes_on = units.last().and_then(|unit| unit.last()).and_then(|last| last.parts.last()).is_some_and(|part| {
            !part.last
                && entry.parts.first().is_some_and(|first| first.source == part.source && first.position == part.position + 1)
        });
        match units.last_mut() {
            Some(unit) if goes_on => unit.push(entry),
            _ => units.push(vec![entry]),
        }
    }
    units
}

/// Sources whose parts are not 0, 1, 2, … up to exactly one last, by the index alone.
fn incomplete_sources(entries: &[Entry]) -> Vec<(String, String)> {
    let mut parts: BTreeMap<SourceTag, Vec<(u32, bool)>> = BTreeMap::new();
    for part in entries.iter().flat_map(|entry| &entry.parts) {
        parts.entry(part.source).or_default().push((part.position, part.last));
    }
    let mut incomplete = Vec::new();
    for (source, mut positions) in parts {
        positions.sort_unstable();
        let complete = positions
            .iter()
            .enumerate()
            .all(|(n, (position, last))| *position as usize == n && *last == (n + 1 == positions.len()));
        if !complete {
            incomplete.push((format!("source {source}"), "its parts are not complete in the index".to_owned()));
        }
    }
    incomplete
}

/// Reads the chunks of a unit; with the key also opens them and sums their rows. Gives those that are bad.
async fn check_unit(
    vault: &Vault,
    locker: Locker,
    unit: &[Entry],
    opener: Option<&Opener>,
) -> Result<Vec<(ChunkName, String)>, Failure> {
    let mut problems = Vec::new();
    let mut sums: Option<RowSums> = None;
    for entry in unit {
        let sealed = match vault.chunk(locker, entry).await {
            Ok(sealed) => sealed,
            Err(error @ ObjectError::Store { .. }) => return Err(Failure::from(error)),
            Err(error) => {
                problems.push((entry.name, damage(&error)));
                sums = None;
                continue;
            }
        };
        let Some(Opener { identity, key }) = opener else { continue };
        // Opening takes a core for milliseconds; other tasks go on meanwhile.
        let opened = tokio::task::block_in_place(|| open(identity, &sealed, entry.length));
        match opened {
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                problems.push((entry.name, format!("{error}{cause}")));
                sums = None;
            }
            Ok(plain) if key.name(&plain) != entry.name => {
                problems.push((entry.name, "it opens to something else than its name says".to_owned()));
                sums = None;
            }
            Ok(plain) => {
                if let Some(what) = check_parts(entry, &plain, key, &mut sums) {
                    problems.push((entry.name, what));
                }
            }
        }
    }
    Ok(problems)
}

/// Compares the rows of each part with what was recorded at capture. A source that began in a bad chunk is not judged further.
fn check_parts(entry: &Entry, plain: &[u8], key: &ChunkNameKey, sums: &mut Option<RowSums>) -> Option<String> {
    let mut at = 0;
    for part in &entry.parts {
        let text = bounds(part, plain.len()).filter(|range| range.start == at).map(|range| &plain[range]);
        let Some(text) = text else { return Some("its parts do not cover it".to_owned()) };
        at += text.len();
        if part.position == 0 {
            *sums = Some(RowSums::new(key.row_hasher()));
        }
        // A source without rows (the schema archive, the description) records none.
        if part.rows == 0 && part.digest == RowDigest::default() && part.last && part.position == 0 {
            continue;
        }
        let Some(running) = sums else { continue };
        running.push(text);
        let totals = running.take();
        if (totals.rows, totals.digest) != (part.rows, part.digest) && !is_raw(part) {
            return Some(format!("its rows are not those that were read: {} instead of {}", totals.rows, part.rows));
        }
    }
    (at != plain.len()).then(|| "its parts do not cover it".to_owned())
}

fn is_raw(part: &Part) -> bool {
    part.rows == 0 && part.digest == RowDigest::default()
}

fn bounds(part: &Part, length: usize) -> Option<std::ops::Range<usize>> {
    let (start, end) = (usize::try_from(part.offset).ok()?, usize::try_from(part.offset.checked_add(part.length)?).ok()?);
    (end <= length).then_some(start..end)
}

fn damage(error: &ObjectError) -> String {
    match error {
        ObjectError::Missing { .. } => "missing".to_owned(),
        ObjectError::Damaged { what, .. } => format!("damaged: {what}"),
        other => other.to_string(),
    }
}

fn describe(error: &DocumentError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
