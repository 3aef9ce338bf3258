//! `audit`: who did what, and who was refused, by the signed records of the vault.

mod erasures;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use schemars::JsonSchema;
use serde::Serialize;

use super::{certificate, failure::Failure, plans::words};
use crate::{
    format::{
        act::Act,
        certificate::Certificate,
        hold::{Hold, HoldAct},
        plan::{EVERYBODY, Mark, Milestone, Plan},
        purge_note::{PurgeNote, Purged},
    },
    id::{Locker, NameTag, RecordId},
    keyring::Keyring,
    object_name::{Document, ObjectName, Part, prefix},
    signature::allowed_signers::Signer,
    signed::{self, DocumentError, Signed},
    store::Store,
    tenant::TenantName,
    vault::{
        Vault, list_named,
        records::{Read, Record},
    },
};

/// Records read at once.
const READERS: usize = 16;

/// What `audit` says.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct AuditReport {
    /// From this time on; null for all.
    pub since: Option<DateTime<Utc>>,
    /// What was done, refused, planned and approved; the oldest first.
    pub entries: Vec<AuditEntry>,
    /// Signatures whose record is not there: crashed writes, or records that somebody removed.
    pub leftovers: Vec<String>,
    /// How many records are not to be trusted.
    pub bad: u64,
}

/// One record.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditEntry {
    /// When, by the record; of a bad one, when the store got it.
    pub at: DateTime<Utc>,
    /// `act`, `plan`, `approval`, `step`, `hold`, `release`, `note`, `certificate`, `tombstone` (also what was said of one since); `unknown` of a bad one.
    pub kind: String,
    /// What: the command that was run, the act that was planned, the step.
    pub what: String,
    /// How it ended: `begun`, `done`, `open`, `waiting`, `failed`, `refused`; null where the record does not say.
    pub outcome: Option<String>,
    /// Why it was refused, or what was wrong.
    pub reason: Option<String>,
    /// Whose, as far as the keyring still translates it.
    pub tenants: Vec<String>,
    /// Whose: pseudonyms.
    pub name_tags: Vec<String>,
    /// The plan that it belongs to.
    pub plan: Option<String>,
    /// Who signed, as the vault's list has it.
    pub principal: Option<String>,
    /// SHA-256 fingerprint of the key.
    pub fingerprint: Option<String>,
    /// Address and name of the record.
    pub object: String,
    /// Why it is not to be trusted; null when its signature counts.
    pub problem: Option<String>,
}

/// What it reads.
pub struct Audit<'a> {
    /// The records.
    pub vault: &'a Vault,
    /// Tombstones once more; and it translates tags, as far as it can.
    pub keyring: &'a Keyring,
    /// Only from this time on.
    pub since: Option<DateTime<Utc>>,
    /// Only about this tenant; what cannot be read may be about it.
    pub tenant: Option<&'a TenantName>,
}

/// An entry that is being made, with whom it is about.
struct Draft {
    entry: AuditEntry,
    tags: BTreeSet<NameTag>,
    lockers: Vec<Locker>,
}

impl Audit<'_> {
    /// Reads all records that may be meant, and checks their signatures.
    ///
    /// # Errors
    /// A store that cannot be reached. What is not to be trusted is in the report.
    pub async fn run(&self) -> Result<AuditReport, Failure> {
        let mut report = AuditReport { since: self.since, ..AuditReport::default() };
        let mut drafts = self.acts(&mut report.leftovers).await?;
        let census = self.keyring.census().await?;
        let mut owners: BTreeMap<Locker, NameTag> = BTreeMap::new();
        for keys in census.tenants.values() {
            owners.extend(keys.records.iter().chain(&keys.without_secret).chain(&keys.dead).map(|key| (key.locker, keys.tag)));
        }
        self.plans(&mut drafts, &mut owners).await?;
        for locker in self.vault.lockers().await? {
            for read in self.vault.records::<Hold>(locker, "h").await? {
                drafts.push(self.hold(locker, read));
            }
            for read in self.vault.records::<PurgeNote>(locker, "gone").await? {
                drafts.push(self.note(locker, read));
            }
        }
        self.certificates(&mut drafts).await?;
        self.erasures(&mut drafts, &mut report.leftovers).await?;
        let mut names: BTreeMap<NameTag, &TenantName> = census.tenants.values().map(|keys| (keys.tag, &keys.tenant)).collect();
        let wanted = self.tenant.map(|tenant| (self.keyring.tag(tenant), tenant));
        names.extend(wanted);
        for Draft { mut entry, mut tags, lockers } in drafts {
            tags.extend(lockers.iter().filter_map(|locker| owners.get(locker)));
            tags.remove(&EVERYBODY);
            let is_meant = wanted.is_none_or(|(tag, _)| tags.contains(&tag) || entry.problem.is_some());
            if !is_meant || self.since.is_some_and(|since| entry.at < since) {
                continue;
            }
            report.bad += u64::from(entry.problem.is_some());
            entry.tenants = tags.iter().filter_map(|tag| Some(names.get(tag)?.as_str().to_owned())).collect();
            entry.tenants.sort();
            entry.name_tags = tags.iter().map(ToString::to_string).collect();
            report.entries.push(entry);
        }
        report.entries.sort_by(|a, b| (a.at, &a.object).cmp(&(b.at, &b.object)));
        report.leftovers.sort();
        Ok(report)
    }

    async fn acts(&self, leftovers: &mut Vec<String>) -> Result<Vec<Draft>, Failure> {
        let (named, _) = list_named(self.vault.store(), prefix::RUNS).await?;
        // The day in a name is that of the act's beginning.
        let from = self.since.map(|since| since - max_run(self.vault));
        let is_meant = |day: NaiveDate| from.is_none_or(|from| day >= from.date_naive());
        let (mut documents, mut signatures) = (BTreeMap::new(), Vec::new());
        for (name, listed) in named {
            match name {
                ObjectName::Document(document @ Document::Run(day, _)) if is_meant(day) => {
                    documents.insert(document.to_string(), (document, listed.modified));
                }
                ObjectName::Signature(document @ Document::Run(day, _)) if is_meant(day) => signatures.push(document),
                _ => {}
            }
        }
        let lost = signatures.iter().filter(|document| !documents.contains_key(&document.to_string()));
        leftovers.extend(lost.map(|document| format!("{}.sig", signed::locate(self.vault.store(), document))));
        stream::iter(documents.into_values())
            .map(async |(document, stored_at)| {
                let read = self.vault.record::<Act>(&document, Some(stored_at)).await;
                if let Err(error @ DocumentError::Store { .. }) = read {
                    return Err(Failure::from(error));
                }
                Ok(self.draft((document, stored_at, read), |act, draft| {
                    draft.entry.at = act.ended_at;
                    "act".clone_into(&mut draft.entry.kind);
                    act.command.as_str().clone_into(&mut draft.entry.what);
                    draft.entry.outcome = Some(act.outcome.as_str().to_owned());
                    draft.entry.reason.clone_from(&act.reason);
                    draft.entry.plan = act.plan.map(|plan| plan.to_string());
                    draft.tags.extend(act.about.iter().copied().chain(act.lockers.iter().filter_map(|on| on.name_tag)));
                    draft.lockers.extend(act.lockers.iter().map(|on| on.locker));
                }))
            })
            .buffered(READERS)
            .try_collect()
            .await
    }

    async fn plans(&self, drafts: &mut Vec<Draft>, owners: &mut BTreeMap<Locker, NameTag>) -> Result<(), Failure> {
        for listed in self.vault.listed_plans(|_| true).await? {
            let id = listed.id;
            let read = self.record::<Plan>(id, "plan.json", listed.stored_at).await?;
            let Some(read) = read else { continue };
            let plan = read.2.as_ref().ok().map(|signed| signed.value.clone());
            let (tags, lockers) = plan.as_ref().map_or((BTreeSet::new(), Vec::new()), |plan| {
                (BTreeSet::from([plan.name_tag]), plan.lockers.iter().map(|planned| planned.locker).collect())
            });
            if let Some(plan) = plan.as_ref().filter(|plan| plan.name_tag != EVERYBODY) {
                owners.extend(plan.lockers.iter().map(|planned| (planned.locker, plan.name_tag)));
            }
            let about = |draft: &mut Draft| {
                draft.tags.clone_from(&tags);
                draft.lockers.clone_from(&lockers);
                draft.entry.plan = Some(id.to_string());
            };
            let mut planned = self.draft(read, |plan, draft| {
                draft.entry.at = plan.created_at;
                "plan".clone_into(&mut draft.entry.kind);
                draft.entry.what = plan.act.verb().to_owned();
                draft.entry.reason = Some(words::what(plan, None));
            });
            about(&mut planned);
            drafts.push(planned);
            drafts.extend(listed.wrong.iter().map(|error| {
                let mut draft = blank(error.object().to_owned(), listed.stored_at, "unknown", "");
                draft.entry.problem = Some(error.what());
                about(&mut draft);
                draft
            }));
            for step in &listed.steps {
                let Some(read) = self.record::<Mark>(id, step.file(), listed.stored_at).await? else { continue };
                let mut draft = self.draft(read, |mark, draft| {
                    draft.entry.at = mark.at;
                    "step".clone_into(&mut draft.entry.kind);
                    draft.entry.what = word(&mark.step);
                    draft.entry.reason.clone_from(&mark.found.void);
                });
                about(&mut draft);
                drafts.push(draft);
            }
            for what in &listed.reached {
                let Some(read) = self.record::<Milestone>(id, what.file(), listed.stored_at).await? else { continue };
                let mut draft = self.draft(read, |milestone, draft| {
                    draft.entry.at = milestone.at;
                    "step".clone_into(&mut draft.entry.kind);
                    draft.entry.what = word(&milestone.what);
                });
                about(&mut draft);
                drafts.push(draft);
            }
            if plan.is_some() {
                let bytes = self.vault.signed_plan(id).await?.bytes;
                for approval in self.vault.approvals(id, &bytes, None).await? {
                    let (signer, problem) = match approval.signer {
                        Ok(signer) => (Some(signer), None),
                        Err(error) => (None, Some(error.to_string())),
                    };
                    let mut draft = blank(approval.object, approval.stored_at, "approval", "approve");
                    sign(&mut draft.entry, signer.as_ref());
                    draft.entry.problem = problem;
                    about(&mut draft);
                    drafts.push(draft);
                }
            }
        }
        Ok(())
    }

    async fn certificates(&self, drafts: &mut Vec<Draft>) -> Result<(), Failure> {
        for id in self.vault.certificate_ids().await? {
            let certified = self.vault.certified(id).await?;
            let newest = certified.newest().map(|newest| (newest.value.name_tag, newest.stored_at));
            for signed in certified.documents {
                let document = signed.value.document();
                let mut draft = self.draft((document, signed.stored_at, Ok(signed)), |certificate: &Certificate, draft| {
                    draft.entry.at = certificate.written_at;
                    "certificate".clone_into(&mut draft.entry.kind);
                    certificate.stage.as_str().clone_into(&mut draft.entry.what);
                    draft.tags.insert(certificate.name_tag);
                });
                draft.entry.plan = Some(id.to_string());
                drafts.push(draft);
            }
            drafts.extend(certified.problems.into_iter().map(|problem| {
                let at = newest.map_or(DateTime::<Utc>::MAX_UTC, |(_, at)| at);
                let mut draft = blank(problem.object().to_owned(), at, "unknown", "");
                draft.entry.problem = Some(problem.what());
                draft.entry.plan = Some(id.to_string());
                draft.tags.extend(newest.map(|(tag, _)| tag));
                draft
            }));
        }
        drafts.extend(certificate::missing(self.vault, None).await?.into_iter().map(|missing| {
            let mut draft = blank(missing.object, DateTime::<Utc>::MAX_UTC, "unknown", "");
            draft.entry.problem = Some(missing.what.to_owned());
            draft.entry.plan = Some(missing.id.to_string());
            draft.tags.insert(missing.name_tag);
            draft
        }));
        Ok(())
    }

    /// One document of a plan; `None` where it is not there.
    async fn record<T: Record>(&self, plan: RecordId, file: &str, listed_at: DateTime<Utc>) -> Result<Option<Read<T>>, Failure> {
        let Some(part) = Part::new(file) else { return Ok(None) };
        let document = Document::Plan(plan, part);
        match self.vault.record::<T>(&document, None).await {
            Err(error @ DocumentError::Store { .. }) => Err(error.into()),
            // By the name alone it was closed otherwise.
            Err(DocumentError::Missing { .. }) => Ok(None),
            read => Ok(Some((document, read.as_ref().map_or(listed_at, |signed| signed.stored_at), read))),
        }
    }

    fn hold(&self, locker: Locker, read: Read<Hold>) -> Draft {
        let mut draft = self.draft(read, |hold, draft| {
            draft.entry.at = hold.created_at;
            let (kind, id) = match &hold.act {
                HoldAct::Placed { .. } => ("hold", hold.id),
                HoldAct::Released { hold } => ("release", *hold),
            };
            kind.clone_into(&mut draft.entry.kind);
            draft.entry.what = format!("hold {id}");
        });
        draft.lockers.push(locker);
        draft
    }

    fn note(&self, locker: Locker, read: Read<PurgeNote>) -> Draft {
        let mut draft = self.draft(read, |note, draft| {
            draft.entry.at = note.created_at;
            "note".clone_into(&mut draft.entry.kind);
            draft.entry.what = match &note.purged {
                Purged::All { keys } => format!("all of locker {locker} with {} keys was let go of", keys.len()),
                Purged::Keys { keys } => format!("{} keys of locker {locker} were let go of", keys.len()),
                Purged::Backups { backups, .. } => format!("{} backups of locker {locker} were let go of", backups.len()),
                Purged::Database { system_identifier, database_oid } => format!(
                    "the live database of locker {locker} was dropped: OID {database_oid} on the server with system identifier {}",
                    crate::printable::Printable(system_identifier)
                ),
            };
            draft.tags.insert(note.name_tag);
        });
        draft.lockers.push(locker);
        draft
    }

    fn draft<T>(&self, read: Read<T>, fill: impl FnOnce(&T, &mut Draft)) -> Draft {
        Self::draft_in(self.vault.store(), read, fill)
    }

    fn draft_in<T>(store: &dyn Store, (document, stored_at, read): Read<T>, fill: impl FnOnce(&T, &mut Draft)) -> Draft {
        let mut draft = blank(signed::locate(store, &document), stored_at, "unknown", "");
        match read {
            Ok(Signed { value, signer, .. }) => {
                sign(&mut draft.entry, Some(&signer));
                fill(&value, &mut draft);
            }
            Err(error) => draft.entry.problem = Some(error.what()),
        }
        draft
    }
}

fn sign(entry: &mut AuditEntry, signer: Option<&Signer>) {
    entry.principal = signer.map(|signer| signer.principal.clone());
    entry.fingerprint = signer.map(|signer| signer.fingerprint.clone());
}

fn blank(object: String, at: DateTime<Utc>, kind: &str, what: &str) -> Draft {
    let entry = AuditEntry {
        at,
        kind: kind.to_owned(),
        what: what.to_owned(),
        outcome: None,
        reason: None,
        tenants: Vec::new(),
        name_tags: Vec::new(),
        plan: None,
        principal: None,
        fingerprint: None,
        object,
        problem: None,
    };
    Draft { entry, tags: BTreeSet::new(), lockers: Vec::new() }
}

/// No run is longer.
fn max_run(vault: &Vault) -> TimeDelta {
    TimeDelta::seconds(i64::try_from(vault.root().max_run_seconds).unwrap_or(i64::MAX / 1_000))
}

/// A step as its document spells it.
fn word(step: &impl Serialize) -> String {
    serde_json::to_value(step).ok().and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
}
