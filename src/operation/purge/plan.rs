//! What is to be purged: the plan that is open, or a new one.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::{Purge, What, command, shown};
use crate::{
    format::{
        plan::{Bound, Plan, PlannedAct, PlannedLocker, Step},
        purge_note::{Purged, PurgedBackup},
    },
    id::{KeyId, Locker, NameTag, RecordId},
    operation::{
        failure::{Failure, FailureClass},
        living, lost, whose,
    },
    printable::Word,
    signature::Namespace,
    signed::{DocumentError, FORMAT},
    tenant::TenantName,
    vault::{manifests::Manifests, plans::Planned, records::Sources},
};

/// What will be done.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The plan.
    pub plan: Plan,
    /// The steps that it has come past; `None` while it is not written.
    pub(super) steps: Option<BTreeSet<Step>>,
    /// What it is about, for people.
    pub summary: Summary,
    /// What its lockers listed.
    pub(super) listed: Listed,
}

/// What a plan is about.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Backups that go, as far as they are still listed.
    pub backups: u64,
    /// When the oldest was taken, by its name.
    pub oldest: Option<DateTime<Utc>>,
    /// When the newest was taken.
    pub newest: Option<DateTime<Utc>>,
    /// All bytes of its lockers; `None` where that was not asked for.
    pub bytes: Option<u64>,
    /// Keys that go by their names alone, because their records cannot be trusted; each with the locker that goes because of it.
    pub untrusted: Vec<(KeyId, Option<Locker>)>,
}

impl Intent {
    /// Whether an earlier run wrote the plan.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.steps.is_some()
    }

    /// Whether an earlier run came further than to write the plan.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.steps.as_ref().is_some_and(|steps| !steps.is_empty())
    }

    /// Whether there is anything to do: a plan for backups before a time may name none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.is_resumed()
            && matches!(self.plan.act, PlannedAct::PurgeBefore { .. })
            && self.plan.lockers.iter().all(|locker| locker.backups.is_empty())
    }

    pub(super) fn is_past(&self, step: Step) -> bool {
        self.steps.as_ref().is_some_and(|steps| steps.contains(&step))
    }
}

/// The manifests that each locker lists.
pub(super) type Listed = BTreeMap<Locker, Manifests>;

impl Purge<'_> {
    /// Finds the open plan for this tenant and act, or makes a new one, and writes nothing. With `measure` it also adds up the bytes.
    ///
    /// # Errors
    /// A tenant that is unknown (1) or on hold (4), another purge of it that is open (4), keys, plans or, for backups before a time,
    /// manifests that cannot be read or trusted (5).
    pub async fn look(&self, tenant: &TenantName, what: What, measure: bool) -> Result<Intent, Failure> {
        let now = (self.clock)();
        for (name, key, namespace) in [
            ("operator", self.operator, Namespace::Plan),
            ("eraser", self.eraser, Namespace::Erasure),
            ("eraser", self.eraser, Namespace::Run),
        ] {
            self.vault.check_signer(key, namespace, now).map_err(|error| Failure::key_not_allowed(name, error))?;
        }
        if matches!(what, What::Before(_)) {
            // What is young by a clock that is ahead may look old, and then a run that is at work loses what it re-uses.
            self.refuse_clock_ahead().await?;
        }
        let tag = self.keyring.tag(tenant);
        let mut open = self.vault.plans(tag, |steps| !steps.contains(&Step::Closed)).await?;
        open.retain(|planned| planned.plan.act.verb() == "purge");
        let mut untrusted = Vec::new();
        let (mut plan, steps) = match open_for(tenant, what, open)? {
            Some(Planned { plan, steps, .. }) => (plan, Some(steps)),
            None => {
                let (lockers, act) = match what {
                    What::Anew if self.keyring.keys(tenant).await?.is_none() => return Err(nothing_new(tenant)),
                    What::All | What::Anew | What::AllUntrusted => {
                        let (lockers, by_name) = self.all(tenant, what == What::AllUntrusted).await?;
                        untrusted = by_name;
                        (lockers, PlannedAct::PurgeAll)
                    }
                    What::Returned => (self.returned(tenant).await?, PlannedAct::PurgeReturned),
                    What::Before(before) => (self.before(tenant, before, now).await?, PlannedAct::PurgeBefore { before }),
                };
                let (installation, id) = (self.vault.root().installation, RecordId::random());
                (
                    Plan {
                        format: FORMAT,
                        installation,
                        id,
                        name_tag: tag,
                        act,
                        lockers,
                        databases: Vec::new(),
                        created_at: now,
                        bound: Bound::default(),
                    },
                    None,
                )
            }
        };
        // Listed once: of many nights this is what takes the time while the keys are still there.
        let mut listed = Listed::new();
        let counts = steps.is_none() && !matches!(plan.act, PlannedAct::PurgeBefore { .. });
        for planned in &mut plan.lockers {
            let manifests = self.vault.manifests(planned.locker).await?;
            if counts {
                planned.manifests = manifests.len() as u64;
            }
            listed.insert(planned.locker, manifests);
        }
        // What a plan says that lies in the vault, and what is taken by names alone, may be anybody's.
        if steps.is_some() || !untrusted.is_empty() {
            whose::refuse_others(self.vault, self.keyring, &plan).await?;
        }
        let summary = Summary { untrusted, ..self.summary(&plan, &listed, measure).await? };
        let intent = Intent { plan, steps, summary, listed };
        if !intent.is_past(Step::Destroying) {
            self.refuse_if_held(tenant, &intent.plan, false).await?;
        }
        Ok(intent)
    }

    /// Every locker and key that the keyring knows of a tenant, and those keys among them that it knows by their names alone. Nothing in the
    /// lockers is read: how many backups there are costs nothing.
    async fn all(
        &self,
        tenant: &TenantName,
        takes_untrusted: bool,
    ) -> Result<(Vec<PlannedLocker>, Vec<(KeyId, Option<Locker>)>), Failure> {
        let mut lockers: BTreeMap<Locker, BTreeSet<KeyId>> = BTreeMap::new();
        let (keys, untrusted) = self.keyring.keys_and_untrusted(tenant).await?;
        let has_none = keys.is_none() && untrusted.is_empty();
        // Those that a purge note names as well: a purge that was not finished, or copies that were put back.
        if let Some(keys) = keys {
            for record in keys.records.iter().chain(&keys.without_secret) {
                lockers.entry(record.locker).or_default().insert(record.key_id);
            }
        }
        let named: BTreeSet<KeyId> = untrusted.keys().copied().collect();
        let mut by_name = Vec::new();
        if has_none {
            lockers = self.purged_before(tenant).await?;
        } else if let Some(error) = untrusted.into_values().next() {
            if !takes_untrusted {
                return Err(super::untrusted::stops(tenant, error));
            }
            by_name = self.add_untrusted(tenant, named, &mut lockers).await?;
        }
        Ok((self.planned(tenant, lockers).await?, by_name))
    }

    /// What is there again, or still, of keys that purge notes name, and what earlier purges named.
    async fn returned(&self, tenant: &TenantName) -> Result<Vec<PlannedLocker>, Failure> {
        let mut lockers = match self.purged_before(tenant).await {
            Err(failure) if failure.kind == "unknown-tenant" => BTreeMap::new(),
            purged => purged?,
        };
        for record in living::keys(self.vault, self.keyring, tenant).await?.into_iter().flat_map(|keys| keys.dead) {
            // Of a locker that lives on the key alone was to be destroyed: `keys prune` does that.
            if self.vault.is_purged(record.locker).await? {
                lockers.entry(record.locker).or_default().insert(record.key_id);
            }
        }
        if lockers.is_empty() {
            let message = format!("nothing of tenant {tenant} was ever purged as a whole");
            return Err(Failure::new(FailureClass::Failed, "not-purged", tenant, message).hint(format!(
                "Nothing was destroyed. Where a single key was put back, `tenure keys prune {}` destroys it again.",
                Word(tenant.as_str())
            )));
        }
        self.planned(tenant, lockers).await
    }

    async fn planned(
        &self,
        tenant: &TenantName,
        lockers: BTreeMap<Locker, BTreeSet<KeyId>>,
    ) -> Result<Vec<PlannedLocker>, Failure> {
        let mut planned = Vec::new();
        for (locker, keys) in lockers {
            let cluster = match self.vault.sources(locker).await {
                Ok(Sources { current: Some(source), .. }) => Some(source.cluster),
                Err(error @ DocumentError::Store { .. }) => return Err(error.into()),
                // What an earlier purge removed, its plan still says, also where it was given up.
                _ => {
                    let plans = self.vault.plans(self.keyring.tag(tenant), |_| true).await?;
                    let mut was = plans.into_iter().flat_map(|planned| planned.plan.lockers).filter(|was| was.locker == locker);
                    was.find_map(|was| was.cluster)
                }
            };
            planned.push(PlannedLocker { locker, cluster, keys: keys.into_iter().collect(), manifests: 0, backups: Vec::new() });
        }
        Ok(planned)
    }

    /// What earlier purges of a tenant named of which the keyring knows nothing: whatever of it was put back goes again.
    async fn purged_before(&self, tenant: &TenantName) -> Result<BTreeMap<Locker, BTreeSet<KeyId>>, Failure> {
        let mut lockers: BTreeMap<Locker, BTreeSet<KeyId>> = BTreeMap::new();
        for planned in self.begun_before(tenant).await? {
            lockers.entry(planned.locker).or_default().extend(planned.keys);
        }
        if lockers.is_empty() {
            // Its plan is lost; what the notes name is enough to go on.
            for note in lost::noted(self.vault, self.keyring, tenant).await? {
                if let Purged::All { keys } = note.purged {
                    lockers.entry(note.locker).or_default().extend(keys);
                }
            }
        }
        if lockers.is_empty() {
            return Err(lost::unknown_tenant(self.vault, self.keyring, tenant).await);
        }
        Ok(lockers)
    }

    /// The lockers of every purge of everything that has destroyed something.
    pub(super) async fn begun_before(&self, tenant: &TenantName) -> Result<Vec<PlannedLocker>, Failure> {
        let begun = |steps: &BTreeSet<Step>| steps.contains(&Step::Destroying);
        let plans = self.vault.plans(self.keyring.tag(tenant), begun).await?;
        let all = plans.into_iter().filter(|planned| planned.plan.act == PlannedAct::PurgeAll);
        Ok(all.flat_map(|planned| planned.plan.lockers).collect())
    }

    /// The backups of a tenant that were taken before a time, by its living lockers.
    async fn before(
        &self,
        tenant: &TenantName,
        before: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Vec<PlannedLocker>, Failure> {
        let keys = living::known(self.vault, self.keyring, tenant).await?;
        let mut planned = Vec::new();
        for locker in keys.lockers() {
            let history = self.vault.history(locker, now).await?;
            if let Some(problem) = history.problems.first() {
                let message = format!(
                    "{}: {}: which backups were taken before {} is not known",
                    problem.object,
                    problem.what,
                    shown(before)
                );
                return Err(Failure::new(FailureClass::Integrity, "bad-manifest", &problem.object, message).hint(format!(
                    "Nothing was removed. `tenure verify {0}` says what is wrong; `tenure purge {0}` lets go of all backups, readable or not.",
                    Word(tenant.as_str())
                )));
            }
            let cluster = self.vault.sources(locker).await?.current.map(|source| source.cluster);
            let manifests = (history.backups.len() + history.still_there().count()) as u64;
            // What an earlier purge let go of, and is there again.
            let again = history.still_there().map(|let_go| let_go.backup).filter(|purged| purged.backup.time() < before);
            let backups = history.backups.iter().filter(|backup| backup.manifest.taken_at < before).map(|backup| PurgedBackup {
                backup: backup.manifest.backup,
                sha256: backup.sha256,
                expires_at: backup.manifest.expires_at,
            });
            planned.push(PlannedLocker { locker, cluster, keys: Vec::new(), manifests, backups: backups.chain(again).collect() });
        }
        Ok(planned)
    }

    async fn summary(&self, plan: &Plan, listed: &Listed, measure: bool) -> Result<Summary, Failure> {
        let mut times = Vec::new();
        let mut bytes = 0;
        for planned in &plan.lockers {
            let manifests = &listed[&planned.locker];
            match plan.act {
                PlannedAct::PurgeBefore { .. } => {
                    let listed = planned.backups.iter().filter(|purged| manifests.contains_key(&purged.backup));
                    times.extend(listed.map(|purged| purged.backup.time()));
                }
                _ => times.extend(manifests.keys().map(crate::backup_id::BackupId::time)),
            }
            if measure {
                bytes += self.vault.stored_chunks(planned.locker).await?.values().sum::<u64>();
                bytes += self.vault.stored_pages(planned.locker).await?.values().sum::<u64>();
            }
        }
        Ok(Summary {
            backups: times.len() as u64,
            oldest: times.iter().min().copied(),
            newest: times.iter().max().copied(),
            bytes: measure.then_some(bytes),
            untrusted: Vec::new(),
        })
    }

    /// Lockers or keys of the tenant that a plan does not name: then it is not what the tenant is any more.
    pub(in crate::operation) async fn not_in_plan(&self, tenant: &TenantName, plan: &Plan) -> Result<Option<String>, Failure> {
        let (keys, untrusted) = self.keyring.keys_and_untrusted(tenant).await?;
        if let Some((_, error)) = untrusted.into_iter().find(|(key, _)| !plan.keys().any(|planned| planned == *key)) {
            return Err(error.into());
        }
        let Some(keys) = keys else { return Ok(None) };
        let planned = |locker| plan.lockers.iter().find(|planned| planned.locker == locker);
        let mut records = keys.records.iter().chain(&keys.without_secret);
        Ok(match plan.act {
            PlannedAct::PurgeAll => records
                .find(|record| planned(record.locker).is_none_or(|planned| !planned.keys.contains(&record.key_id)))
                .map(|record| format!("key {} of locker {}", record.key_id, record.locker)),
            PlannedAct::PurgeBefore { .. } => {
                records.find(|record| planned(record.locker).is_none()).map(|record| format!("locker {}", record.locker))
            }
            _ => None,
        })
    }

    /// Other open plans of the tenant for backups that are all gone now.
    pub(super) async fn overtaken(&self, tag: NameTag, plan: RecordId) -> Result<Vec<Planned>, Failure> {
        let open = self.vault.plans(tag, |steps| !steps.contains(&Step::Closed)).await?;
        Ok(open.into_iter().filter(|planned| planned.plan.id != plan && planned.plan.act.verb() == "purge").collect())
    }
}

fn nothing_new(tenant: &TenantName) -> Failure {
    let message = format!("tenant {tenant} has no key that was made since an earlier purge: there is nothing to purge anew");
    Failure::new(FailureClass::Failed, "nothing-new", tenant, message)
        .hint(format!("{} goes on with the earlier purge.", command(Some(tenant), PlannedAct::PurgeReturned)))
}

/// Among the open plans of a tenant the one that is to be gone on with.
fn open_for(tenant: &TenantName, what: What, open: Vec<Planned>) -> Result<Option<Planned>, Failure> {
    let refuse = |planned: &Planned, hint: String| {
        let message = match planned.plan.act {
            PlannedAct::PurgeBefore { before } => {
                format!("a purge of the backups of tenant {tenant} taken before {} is not finished", shown(before))
            }
            _ => format!("a purge of everything of tenant {tenant} is not finished"),
        };
        Err(Failure::new(FailureClass::Refused, "plan-open", planned.plan.id, message).hint(hint))
    };
    for planned in open {
        match (what, planned.plan.act) {
            (What::All | What::AllUntrusted | What::Returned, PlannedAct::PurgeAll)
            | (What::Returned, PlannedAct::PurgeReturned) => {
                return Ok(Some(planned));
            }
            // Nothing new can have begun before its keys were destroyed.
            (What::Anew, PlannedAct::PurgeAll) if !planned.steps.contains(&Step::KeysDestroyed) => return Ok(Some(planned)),
            (What::Anew, PlannedAct::PurgeAll) => {}
            (What::Before(asked), PlannedAct::PurgeBefore { before }) if asked == before => return Ok(Some(planned)),
            (What::Before(_), PlannedAct::PurgeAll) => {
                return refuse(&planned, format!("{} finishes it.", command(Some(tenant), PlannedAct::PurgeAll)));
            }
            // What was put back is nothing of what is there now; a live database is no backup.
            (_, PlannedAct::PurgeReturned | PlannedAct::Drop | PlannedAct::Erase { .. }) => {}
            (What::Before(_), PlannedAct::PurgeBefore { .. }) => {
                return refuse(&planned, format!("{} finishes it.", command(Some(tenant), planned.plan.act)));
            }
            // All of it is more than a part; and what is no purge is not gone on with by one.
            _ => {}
        }
    }
    Ok(None)
}
