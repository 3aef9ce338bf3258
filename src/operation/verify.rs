//! `verify`: that what is stored is what was written, whole, and still opens.

mod locks;
mod look;
mod purged;
mod record;
mod survey;
mod units;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use locks::Promised;
use look::Look;
use survey::{Documents, Survey};
use units::Opener;

use super::{
    erased::{self, Erasures},
    failure::{Failure, FailureClass},
    keys::{Listing, from_another},
    living, lost,
    progress::Progress,
};
use crate::{
    id::{KeyId, Locker},
    keyring::{Keyring, SecretHalves, TenantKeys},
    object_name::prefix,
    seal::RecoveryIdentity,
    signature::SigningKey,
    tenant::TenantName,
    vault::Vault,
};

/// What was looked at, and what is wrong.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct VerifyReport {
    /// What was looked at.
    pub checked: Checked,
    /// What is wrong, by tenant and backup. Empty means that every backup looked at can be restored, as far as was asked.
    pub problems: Vec<VerifyProblem>,
    /// Objects that a crashed run left. Harmless.
    pub leftovers: Vec<String>,
    /// Objects whose names are not of the format: not ours, or a later version's. They were not looked at, and harm nothing.
    pub unknown: Vec<String>,
    /// Whether the chunks were opened with the recovery identity, or only compared with their digests.
    pub opened: bool,
    /// What these credentials may not read: neither good nor bad.
    pub not_looked_at: Vec<String>,
    /// Findings that were written: the next backup stores anew what they call damaged, and locks anew what they call locked for too short.
    pub findings: Vec<String>,
    /// Anything else that somebody should know.
    pub notes: Vec<String>,
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
    /// Signs what is found, so that the next backup does not refer to it; or why there is no key for that.
    pub signer: Result<&'a SigningKey, String>,
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
        let secrets = self.keyring.secret_halves().await?;
        let lockers = self.lockers(which, &mut report).await?;
        let mut survey = self.survey(which, &lockers, now, &mut report).await?;
        for (locker, keys) in lockers {
            if self.cancel.is_cancelled() {
                return Err(Failure::new(FailureClass::Interrupted, "interrupted", "verify", "stopped before it was through"));
            }
            let (documents, tampered) = (survey.take(locker), survey.tampered_in(Some(locker)).collect());
            self.locker(locker, keys.as_ref(), (&documents, tampered), &secrets, now, &mut report).await?;
        }
        report.problems.sort();
        report.problems.dedup();
        report.not_looked_at.sort();
        report.not_looked_at.dedup();
        report.notes.sort();
        report.notes.dedup();
        Ok(report)
    }

    /// Lockers to look at, each with its tenant's keys where they are known.
    async fn lockers(&self, which: &Which, report: &mut VerifyReport) -> Result<Vec<(Locker, Option<TenantKeys>)>, Failure> {
        let mut lockers = Vec::new();
        match which {
            Which::Tenants(tenants) => {
                for tenant in tenants {
                    let Some(keys) = self.keyring.keys(tenant).await? else {
                        return Err(lost::unknown_tenant(self.vault, self.keyring, tenant).await);
                    };
                    let mut living = keys.clone();
                    if living::set_aside_dead(self.vault, &mut living).await?.is_empty() && living.lockers().is_empty() {
                        return Err(lost::purged(tenant, None));
                    }
                    lockers.extend(keys.lockers().into_iter().map(|locker| (locker, Some(keys.clone()))));
                }
                if let Some(lost) = lost::old_copy(self.vault, self.keyring).await? {
                    report.problems.push(not_whole(lost));
                }
            }
            Which::All => {
                let census = self.keyring.census().await.map_err(Failure::from)?;
                report.problems.extend(census.problems.iter().map(|error| VerifyProblem {
                    tenant: None,
                    backup: None,
                    object: error.object().to_owned(),
                    problem: error.what(),
                }));
                // Lost records are seen with the lockers and backups that miss them.
                if let Some(lost) = lost::replaced_wrapping(self.vault, self.keyring, &census).await? {
                    report.problems.push(not_whole(lost));
                }
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

    /// Lists what lies in the vault, and verifies what belongs to no locker.
    async fn survey(
        &self,
        which: &Which,
        lockers: &[(Locker, Option<TenantKeys>)],
        now: DateTime<Utc>,
        report: &mut VerifyReport,
    ) -> Result<Survey, Failure> {
        let store = self.vault.store();
        let survey = match which {
            Which::All => Survey::whole(store).await?,
            Which::Tenants(_) => {
                let mut survey = Survey::default();
                for (locker, _) in lockers {
                    let prefix = prefix::locker(*locker);
                    if !survey.add(store, &prefix).await? {
                        survey.denied.push(format!("{}/{prefix}", store.address()));
                    }
                }
                survey
            }
        };
        report.unknown.extend(survey.unknown.iter().cloned());
        report.unknown.sort();
        report.not_looked_at.extend(survey.denied.iter().cloned());
        let problems = survey.check_signers(self.vault).await?;
        let mut outside: Vec<_> = problems.into_iter().chain(survey.tampered_in(None)).collect();
        if matches!(which, Which::All) {
            self.plans(now, report).await?;
            let erased = erased::everybody(self.vault, self.keyring).await?;
            let doubtful = erased.values().flat_map(Erasures::doubtful);
            outside.extend(doubtful.map(|(object, why)| (object.to_owned(), why.to_owned())));
            let keyring = self.keyring.store();
            match Listing::read(keyring).await? {
                Some(listing) => {
                    outside.extend(listing.tampered);
                    report.leftovers.extend(listing.unfinished);
                }
                None => report.not_looked_at.push(format!("{}/", keyring.address())),
            }
        }
        report.problems.extend(outside.into_iter().map(|(object, problem)| VerifyProblem {
            tenant: None,
            backup: None,
            object,
            problem,
        }));
        Ok(survey)
    }

    async fn locker(
        &self,
        locker: Locker,
        keys: Option<&TenantKeys>,
        (documents, tampered): (&Documents, Vec<(String, String)>),
        secrets: &SecretHalves,
        now: DateTime<Utc>,
        report: &mut VerifyReport,
    ) -> Result<(), Failure> {
        let gone = self.vault.gone(locker).await?;
        if gone.is_purged() && gone.unreadable.is_empty() {
            // Nothing in it counts, whatever is left of it or was put back.
            return self.purged(locker, &gone, keys, now, report).await;
        }
        let history = self.vault.history(locker, now).await.map_err(Failure::from)?;
        let tenant = keys.map(|keys| keys.tenant.clone());
        let name = tenant.as_ref().map(|tenant| tenant.as_str().to_owned());
        let findings = self.vault.findings(locker).await?;
        let mut look = Look::new(self, locker);
        look.note_history(&history);
        self.let_go(locker, &history, now, &mut look).await?;
        for (object, what) in tampered {
            look.problem(None, object, what);
        }
        report.leftovers.extend(history.leftovers.iter().cloned());
        let backups: Vec<_> = history.live(now).collect();
        report.leftovers.extend(documents.check(self.vault, &mut look).await?);
        for error in &gone.unreadable {
            if !look.problems.iter().any(|(_, object, _)| object == error.object()) {
                look.problem(None, error.object().to_owned(), error.what());
            }
        }
        let sources = self.vault.sources(locker).await?;
        if keys.is_some()
            && let Some(error) = lost::lost_source(self.vault, locker, &sources).await?
        {
            let what = "the keyring has a key for this locker, and the vault lost its record of where the tenant lives: \
                        put it back from a copy of the vault; `tenure admit --source` if there is none";
            look.problem(None, error.object().to_owned(), what.to_owned());
        }
        for (_, error) in &sources.unreadable {
            look.problem(None, error.object().to_owned(), error.what());
        }
        if !backups.is_empty() && keys.is_none() && !gone.is_purged() {
            let what = "no key record in the keyring belongs to this locker: its backups cannot be opened; `tenure keys repair` may have it back";
            look.problem(None, prefix::locker(locker), what.to_owned());
        }
        if keys.is_none() && !sources.is_empty() && history.backups.is_empty() && history.problems.is_empty() {
            // A first run that was killed before it published its key.
            report.leftovers.push(prefix::locker(locker));
        }
        let needed = backups.iter().map(|backup| backup.manifest.key_id);
        let opener = self.openers(keys, secrets, needed, &mut look).await?;
        let shown = tenant.clone().filter(|_| !backups.is_empty());
        if let Some(tenant) = &shown {
            let expected = backups.first().map_or(0, |b| b.manifest.totals.bytes_stored + b.manifest.totals.bytes_reused);
            self.progress.tenant_started(tenant, expected);
        }

        let mut promised = Promised::default();
        for backup in &backups {
            look.checked.manifests += 1;
            let manifest = &backup.manifest;
            let opener = opener.get(&manifest.key_id).cloned();
            let mut entries = vec![manifest.description.clone()];
            promised.add(manifest, None, &manifest.description, now);
            for page in &manifest.pages {
                let listed = look.page(manifest.backup, page).await?;
                promised.add(manifest, Some(page), &listed, now);
                entries.push(listed);
            }
            look.entries(manifest.backup, entries.concat(), opener, shown.as_ref()).await?;
        }
        promised.check(self.vault, locker, &mut look).await?;
        if let Some(tenant) = &shown {
            self.progress.tenant_finished(tenant, if look.problems.is_empty() { "good" } else { "damaged" });
        }
        self.record(locker, &findings, &look, now, report).await?;
        report.checked.manifests += look.checked.manifests;
        report.checked.chunks += look.checked.chunks;
        report.checked.bytes += look.checked.bytes;
        report.not_looked_at.extend(look.not_looked_at);
        report.notes.extend(look.notes);
        report.problems.extend(look.problems.into_iter().map(|(backup, object, problem)| VerifyProblem {
            tenant: name.clone(),
            backup: backup.map(|backup| backup.to_string()),
            object,
            problem,
        }));
        Ok(())
    }

    /// The tenant keys that the backups need: their secret halves compared with what was signed, and opened; none without an identity.
    async fn openers(
        &self,
        keys: Option<&TenantKeys>,
        secrets: &SecretHalves,
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
            let wrappings = secrets.get(&key_id).cloned().unwrap_or_default();
            let wrapped = match self.keyring.secret_half_of(self.keyring.store(), record, &wrappings).await {
                Ok((_, wrapped)) => wrapped,
                Err(error) if error.is_denied() && self.identity.is_none() => {
                    look.not_looked_at.push(format!("{}/k/", self.keyring.store().address()));
                    continue;
                }
                Err(error) if error.is_integrity() => {
                    look.problem(None, error.object().to_owned(), from_another(&error));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let Some(identity) = self.identity else { continue };
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

fn not_whole(lost: Failure) -> VerifyProblem {
    VerifyProblem { tenant: None, backup: None, object: lost.object, problem: format!("{} ({})", lost.message, lost.hint) }
}
