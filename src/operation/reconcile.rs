//! `reconcile`: what was erased and is there again, on every configured server; and what was said of it, in every store.
//!
//! A database is known again by the system identifier of its server and its OID, and by a name that leads to the erased tenant: it is closed
//! at once, and a plan to drop it is prepared, which nobody but a person carries out. A name alone may be a new customer's, and a number
//! alone may have been given away again: that is named, and nothing else. Each run finds what an earlier one planned.

mod answering;
mod returned;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    drop::Server,
    erased::{
        Erasures,
        lacking::{self, Survey},
        lost::{self, Lost},
    },
    failure::{Failure, FailureClass},
    fleet::{Cluster, Fleet, Known},
    purge::OpenItem,
};
use crate::{
    format::{
        act::{Act, ActCommand, ActOutcome},
        erasure_note::{ErasureNote, ErasureSays},
        plan::{PlannedAct, Step},
    },
    id::{NameTag, RecordId},
    keyring::Keyring,
    postgres::{
        Target,
        discover::{Discovery, discover},
    },
    signature::{Namespace, SigningKey},
    tenant::TenantName,
    vault::{Vault, plans::Planned},
};

/// What it works with.
pub struct Reconcile<'a> {
    /// Where tombstones and plans are.
    pub vault: &'a Vault,
    /// And tombstones once more.
    pub keyring: &'a Keyring,
    /// The fleet, for discovery.
    pub clusters: &'a [Cluster],
    /// The same, for closing: by its `admin`, with its replicas.
    pub servers: &'a [Server],
    /// Signs the plan of a drop; `None` where this host has no such key, or one that cannot be used: why.
    pub operator: Result<&'a SigningKey, Failure>,
    /// Signs the record of the run.
    pub eraser: &'a SigningKey,
    /// How many operators must sign the plan of a drop; 0 where nobody is asked.
    pub approvals: u32,
    /// Whether it only looks.
    pub dry_run: bool,
    /// The host's clock.
    pub clock: &'a (dyn Fn() -> DateTime<Utc> + Sync),
}

/// What `reconcile` says.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct ReconcileReport {
    /// Whether this only says what would be done.
    pub dry_run: bool,
    /// Tombstones that were looked at, withdrawn ones among them.
    pub tombstones: u64,
    /// Databases that should not be there, or may not be.
    pub found: Vec<FoundDatabase>,
    /// What is wrong with tombstones.
    pub problems: Vec<TombstoneProblem>,
    /// What could not be done, or looked at.
    pub open: Vec<OpenItem>,
    /// Decides the exit code.
    #[serde(skip)]
    pub class: Option<FailureClass>,
}

/// A database that should not be there, or may not be.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct FoundDatabase {
    /// Why.
    pub why: Why,
    /// Whose it was, where its own name tells that; null where it is called otherwise now.
    pub tenant: Option<String>,
    /// The tag of that name: a pseudonym.
    pub name_tag: String,
    /// Its cluster.
    pub cluster: String,
    /// Which server of it: `eu-1 primary`, `eu-1 replica 1`.
    pub node: String,
    /// What it is called now.
    pub database: String,
    /// Its OID; null where it cannot be asked for.
    pub database_oid: Option<u32>,
    /// Whether it lets anybody in, now.
    pub is_open: bool,
    /// Whether this run closed it.
    pub closed_now: bool,
    /// The plan of a drop of it; null where there is none.
    pub plan: Option<String>,
    /// What is to be done.
    pub what: String,
}

/// Why a database is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It is the very database that was erased, by system identifier, OID and name.
    Returned,
    /// It has the number of one that was erased, and not its tenant's name: that one renamed, or another one on a server that was put back,
    /// which gives numbers away again.
    Number,
    /// It waits for its erasure to go on, and somebody had opened it again.
    Reopened,
    /// A replica has it, and the primary does not.
    OnReplica,
    /// It has an erased tenant's name and another number: it may be a new customer's.
    Name,
    /// A restore made it of an erased tenant's backups.
    Copy,
}

/// What is wrong with a tombstone.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct TombstoneProblem {
    /// Where.
    pub object: String,
    /// What.
    pub problem: String,
    /// Whether this run put it back from another store.
    pub put_back: bool,
}

/// What this run knows.
struct Seen {
    now: DateTime<Utc>,
    survey: Survey,
    known: Known,
    fleet: Fleet,
    /// Tombstones that were withdrawn, by their plans, without any store having that.
    lost: Lost,
    /// Plans that are open, of the tenants that something was found of.
    plans: BTreeMap<NameTag, Vec<Planned>>,
    /// Those that cannot be trusted: an erasure among them may not be through.
    doubtful: BTreeSet<RecordId>,
}

impl Seen {
    /// What the databases of a cluster's primary are called, and whose they are by that; or why it cannot be asked.
    fn names(&self, cluster: &str) -> Result<&Discovery, &Failure> {
        let (_, discovery) =
            self.fleet.clusters.iter().find(|(found, _)| found.name == cluster).expect("every cluster was asked");
        discovery.as_ref()
    }

    /// The same of another server of the cluster.
    async fn names_on(&self, cluster: &str, target: &Target) -> Result<Discovery, Failure> {
        let (cluster, _) = self.fleet.clusters.iter().find(|(found, _)| found.name == cluster).expect("every cluster was asked");
        Ok(discover(target, &cluster.rules, |server| self.known.copies_on(server)).await?)
    }

    /// Whose a name tag is, as far as the keyring or the name of a database tells.
    fn tenant_of(&self, keyring: &Keyring, tag: NameTag) -> Option<TenantName> {
        let known = self.known.census.tenants.values().find(|keys| keys.tag == tag).map(|keys| keys.tenant.clone());
        let discovered = || self.fleet.clusters.iter().filter_map(|(_, discovery)| discovery.as_ref().ok());
        known.or_else(|| {
            discovered().flat_map(Discovery::by_name).map(|(name, _)| name.clone()).find(|name| keyring.tag(name) == tag)
        })
    }

    fn plans_of(&self, tag: NameTag) -> &[Planned] {
        self.plans.get(&tag).map_or(&[], Vec::as_slice)
    }

    /// Whether an erasure has not dropped its databases yet: then what is there is what it still has to drop, and not what has come back.
    /// In its grace it has not, whatever became of its plan.
    fn is_erasing(&self, note: &ErasureNote) -> bool {
        if matches!(note.says, ErasureSays::Erased { grace_until, .. } if grace_until > self.now) {
            return true;
        }
        if self.doubtful.contains(&note.id) {
            return true;
        }
        let is_its = |planned: &Planned| {
            planned.plan.id == note.id
                && matches!(planned.plan.act, PlannedAct::Erase { .. })
                && !planned.steps.contains(&Step::Dropped)
        };
        self.plans_of(note.name_tag).iter().any(is_its)
    }
}

impl Reconcile<'_> {
    /// Looks, and closes, plans and puts back what it can.
    ///
    /// # Errors
    /// The vault or the keyring cannot be asked or trusted; the record of the run cannot be written. A server that cannot be asked is in the
    /// report.
    pub async fn run(&self) -> Result<ReconcileReport, Failure> {
        let started_at = (self.clock)();
        self.vault
            .check_signer(self.eraser, Namespace::Run, started_at)
            .map_err(|error| Failure::key_not_allowed("eraser", error))?;
        let mut report = ReconcileReport { dry_run: self.dry_run, ..ReconcileReport::default() };
        let mut survey = lacking::survey(self.vault, self.keyring).await?;
        report.tombstones = survey.erasures.values().map(|erasures| erasures.tombstones().count() as u64).sum();
        let lost = lost::look(self.vault, survey.erasures.values()).await?;
        // Nothing is done because of a tombstone of which nobody knows that it counts.
        let unsaid = || lost.withdrawn.iter().chain(lost.doubtful.keys()).copied();
        survey.erasures.values_mut().for_each(|erasures| erasures.take_for_withdrawn(unsaid()));
        let known = Known::read(self.vault, self.keyring).await?;
        let fleet = Fleet::discover(self.clusters, &known).await;
        let mut seen = Seen { now: started_at, survey, known, fleet, lost, plans: BTreeMap::new(), doubtful: BTreeSet::new() };
        let tags: Vec<NameTag> = seen.survey.erasures.keys().copied().collect();
        for planned in self.vault.listed_plans(|steps| !steps.contains(&crate::format::plan::Step::Closed)).await? {
            match planned.plan {
                Ok(plan) if tags.contains(&plan.name_tag) => {
                    let open = Planned { plan, steps: planned.steps, reached: planned.reached };
                    seen.plans.entry(open.plan.name_tag).or_default().push(open);
                }
                Ok(_) => {}
                Err(error) => {
                    let object = error.object().to_owned();
                    let problem =
                        format!("{}: nothing is done because of what it may say; find out who changed it", error.what());
                    report.problems.push(TombstoneProblem { object, problem, put_back: false });
                    seen.doubtful.insert(planned.id);
                }
            }
        }
        let is_removed = self.stores(&seen, &mut report).await;
        self.servers(&seen, &mut report).await?;
        self.names(&seen, &mut report);
        self.copies(&seen, &mut report).await?;
        let class = match (is_removed || report.problems.iter().any(|problem| !problem.put_back), report.is_quiet()) {
            (true, _) => Some(FailureClass::Integrity),
            (false, false) => Some(FailureClass::SomeTenants),
            (false, true) => None,
        };
        report.class = class;
        if !self.dry_run {
            self.record(&report, started_at).await?;
        }
        Ok(report)
    }

    /// What is wrong in the stores. Gives whether somebody removed something: a mirror may have been away.
    async fn stores(&self, seen: &Seen, report: &mut ReconcileReport) -> bool {
        for (mirror, failure) in &seen.survey.away {
            let what =
                format!("what it says of erasures cannot be looked at: {}; run this again when it can", failure.one_line());
            report.open.push(OpenItem { kind: "tombstone", object: format!("mirror {mirror}"), what, until: None });
        }
        for (object, why) in &seen.survey.doubtful {
            let problem = format!("{why}: nothing is done because of it; find out who changed it");
            report.problems.push(TombstoneProblem { object: object.clone(), problem, put_back: false });
        }
        for note in seen.survey.erasures.values().flat_map(Erasures::tombstones) {
            let object = format!("tombstone {}", note.id);
            let problem = match seen.lost.doubtful.get(&note.id) {
                Some(why) => format!("whether it was withdrawn is not known: {why}: nothing is done because of it"),
                None if seen.lost.withdrawn.contains(&note.id) => {
                    let tenant = seen.tenant_of(self.keyring, note.name_tag);
                    let name = tenant.as_ref().map_or("NAME", TenantName::as_str);
                    let whose = match tenant {
                        Some(_) => String::new(),
                        None => format!(" NAME is the tenant's, whose tag is {}.", note.name_tag),
                    };
                    format!(
                        "its withdrawal is missing, and every command refuses a tenant that lives. {}{whose}",
                        lost::hint(name)
                    )
                }
                None => continue,
            };
            report.problems.push(TombstoneProblem { object, problem, put_back: false });
        }
        let mut is_removed = false;
        for lacking in &seen.survey.lacking {
            let note = &lacking.note;
            // One that is just being written, or whose writing was killed, is no alarm.
            is_removed |= !lacking.is_mirror && !seen.is_erasing(note);
            let mut problem = TombstoneProblem { object: lacking.object(), problem: lacking.problem(), put_back: false };
            if !self.dry_run {
                match lacking::put_back(self.vault, self.keyring, lacking).await {
                    Ok(()) => problem.put_back = true,
                    Err(error) => {
                        let why = Failure::from(error).one_line();
                        problem.problem = format!("{}; it cannot be put back: {why}", problem.problem);
                    }
                }
            }
            report.problems.push(problem);
        }
        is_removed
    }

    async fn record(&self, report: &ReconcileReport, started_at: DateTime<Utc>) -> Result<(), Failure> {
        let about: BTreeSet<NameTag> = report.found.iter().filter_map(|found| found.name_tag.parse().ok()).collect();
        let plans: Vec<RecordId> = report.found.iter().filter_map(|found| found.plan.as_ref()?.parse().ok()).collect();
        let outcome = if report.class.is_some() { ActOutcome::Open } else { ActOutcome::Done };
        let act = Act {
            plan: plans.first().copied(),
            about: about.into_iter().collect(),
            ..Act::new(self.vault.root().installation, ActCommand::Reconcile, (started_at, (self.clock)()), outcome)
        };
        Ok(self.vault.put_act(&act, self.eraser).await?)
    }
}

impl ReconcileReport {
    fn is_quiet(&self) -> bool {
        self.found.is_empty() && self.open.is_empty() && self.problems.iter().all(|problem| problem.put_back)
    }
}
