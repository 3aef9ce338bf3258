//! `purge`: a tenant's backups, before their time. All of them, by destroying every copy of every key first; or those before a time.
//!
//! Look (a plan, nothing written), then carry out: plan, purge notes, keys, manifests, everything else, a last look. Each step marks
//! itself, and each may be repeated: a run that was killed is gone on with by the next one, by the same plan.

mod before;
mod empty;
mod keys;
mod plan;
mod steps;
mod untrusted;

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub use plan::{Intent, Summary};

use super::{
    failure::{Failure, FailureClass},
    held::Locks,
    progress::Progress,
};
use crate::{
    format::{
        act::{Act, ActCommand, ActOn, ActOutcome},
        plan::{Found, Plan, PlannedAct, PlannedLocker, Step},
    },
    keyring::Keyring,
    printable::Word,
    signature::SigningKey,
    signed::DocumentError,
    tenant::TenantName,
    vault::Vault,
};

/// What it works with.
pub struct Purge<'a> {
    /// Where the backups are.
    pub vault: &'a Vault,
    /// Where the keys are.
    pub keyring: &'a Keyring,
    /// The tenants' locks, for the last look.
    pub locks: &'a dyn Locks,
    /// Signs the plan.
    pub operator: &'a SigningKey,
    /// Signs notes, steps, and the record of the act.
    pub eraser: &'a SigningKey,
    /// How many operators must sign the plan; 0 where nobody is asked.
    pub approvals: u32,
    /// The host's clock.
    pub clock: &'a (dyn Fn() -> DateTime<Utc> + Sync),
    /// Told how it goes.
    pub progress: &'a dyn Progress,
    /// Stops it between two steps.
    pub cancel: &'a CancellationToken,
}

/// What of a tenant is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// All backups, and the keys; or what an open plan for that has left to do.
    All,
    /// The same, and keys of which only a record is there that cannot be trusted: by their names.
    AllUntrusted,
    /// What earlier purges let go of, and what somebody put back; what was backed up since stays.
    Returned,
    /// All backups, and the keys, that are there since an earlier purge destroyed its keys, although that one is still open.
    Anew,
    /// Backups taken before a time. The keys stay.
    Before(DateTime<Utc>),
}

/// What a purge says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PurgeReport {
    /// The plan's id; null for a dry run that found none.
    pub plan: Option<String>,
    /// The tenant.
    pub tenant: String,
    /// Whether this only says what would be done.
    pub dry_run: bool,
    /// How far it has come.
    pub status: PurgeStatus,
    /// Backups taken before this time go; null where all do.
    pub before: Option<DateTime<Utc>>,
    /// Backups that the plan found, or that it would remove.
    pub backups: u64,
    /// Objects that this run removed from the vault.
    pub objects_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// Servers on which something was dropped: none, a purge drops nothing.
    pub nodes: Vec<PurgedNode>,
    /// Every store that holds copies of the keys.
    pub key_copies: Vec<PurgedKeyCopy>,
    /// Whether the tenant has backups that the plan does not name, made since its keys were destroyed. They stay.
    pub newer_history: bool,
    /// What is left to be done.
    pub open: Vec<OpenItem>,
    /// Anything else that somebody should know.
    pub notes: Vec<String>,
    /// What the keyring lost: the tenant may have had more than what was purged.
    pub problems: Vec<String>,
    /// The certificate; null while there is none.
    pub certificate: Option<String>,
}

/// How far a purge has come: the last stage with nothing open before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PurgeStatus {
    /// Planned, or begun.
    Requested,
    /// No copy of any key is left: nothing that remains can be read.
    KeysDestroyed,
    /// Nothing is left.
    Closed,
}

impl PurgeStatus {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::KeysDestroyed => "keys-destroyed",
            Self::Closed => "closed",
        }
    }
}

/// A server.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PurgedNode {
    /// Which.
    pub node: String,
    /// What became of it there.
    pub state: String,
    /// How far a replica has replayed.
    pub replay_lsn: Option<String>,
}

/// A store that holds copies of the keys.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PurgedKeyCopy {
    /// Its address.
    pub store: String,
    /// When its listing had nothing of the keys any more; null while that is not so.
    pub destroyed_at: Option<DateTime<Utc>>,
    /// Objects that this run removed there.
    pub objects: u64,
}

/// Something that is left to be done.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct OpenItem {
    /// `key-copy`, `locked`, `new-history`, `not-removed`, `not-swept`, `too-young`, `last-look`, `not-asked`, `returned-backups`.
    pub kind: &'static str,
    /// The store, the locker, the object.
    pub object: String,
    /// Why, and who closes it.
    pub what: String,
    /// When it can be closed, where that is known.
    pub until: Option<DateTime<Utc>>,
}

/// What a run has done so far.
#[derive(Default)]
struct Done {
    key_copies: Vec<PurgedKeyCopy>,
    /// One for each locker of the plan, in its order.
    removed: Vec<ActOn>,
    open: Vec<OpenItem>,
    notes: Vec<String>,
    locked: empty::Locked,
    keys_destroyed: bool,
    closed: bool,
    has_newer: bool,
}

impl Done {
    fn objects(&self) -> u64 {
        self.removed.iter().map(|on| on.objects).sum()
    }

    fn bytes(&self) -> u64 {
        self.removed.iter().map(|on| on.bytes).sum()
    }
}

impl Purge<'_> {
    /// Carries out what [`Purge::look`] found.
    ///
    /// # Errors
    /// Before anything was destroyed: a hold, a plan that does not fit any more (4). Later: a store that fails; what was begun is gone on
    /// with by the next run. What is left open is in the report.
    pub async fn carry_out(&self, tenant: &TenantName, intent: &Intent) -> Result<PurgeReport, Failure> {
        let started_at = (self.clock)();
        self.progress.tenant_started(tenant, intent.summary.bytes.unwrap_or(0));
        let mut done =
            Done { removed: intent.plan.lockers.iter().map(|on| nothing_done(on, &intent.plan)).collect(), ..Done::default() };
        done.notes.extend(Self::warnings(intent));
        let outcome = self.steps(tenant, intent, &mut done).await;
        self.progress.tenant_finished(tenant, if outcome.is_ok() { "done" } else { "failed" });
        // What was removed is recorded, however it ended; why it ended is said first.
        let recorded = self.record(intent, &done, outcome.is_err(), started_at).await;
        outcome?;
        recorded?;
        Ok(self.report(tenant, intent, done))
    }

    async fn record(&self, intent: &Intent, done: &Done, failed: bool, started_at: DateTime<Utc>) -> Result<(), Failure> {
        let destroyed = |on: &ActOn| on.objects > 0 || !on.keys.is_empty();
        if failed && !done.removed.iter().any(destroyed) {
            return Ok(());
        }
        let outcome = match (failed, done.open.is_empty()) {
            (true, _) => ActOutcome::Failed,
            (false, true) => ActOutcome::Done,
            (false, false) => ActOutcome::Open,
        };
        let lockers = done.removed.iter().filter(|on| destroyed(on)).cloned().collect();
        let act = self.act(&intent.plan, started_at, outcome);
        Ok(self.vault.put_act(&Act { lockers, ..act }, self.eraser).await?)
    }

    /// Writes that something is about to be destroyed: where nobody could be told that, nothing is.
    async fn record_begun(&self, plan: &Plan) -> Result<(), Failure> {
        let on = plan.lockers.iter().map(|planned| ActOn {
            locker: planned.locker,
            name_tag: Some(plan.name_tag),
            backups: planned.backups.iter().map(|purged| purged.backup).collect(),
            keys: planned.keys.clone(),
            holds: Vec::new(),
            objects: 0,
            bytes: 0,
        });
        let act = Act { lockers: on.collect(), ..self.act(plan, (self.clock)(), ActOutcome::Begun) };
        // Under the plan's id, so that who misses the plan or its marks finds it; every other run under one of its own.
        match self.vault.put_act(&Act { id: plan.id, ..act.clone() }, self.eraser).await {
            Err(DocumentError::Exists { .. }) => Ok(self.vault.put_act(&act, self.eraser).await?),
            written => Ok(written?),
        }
    }

    fn act(&self, plan: &Plan, started_at: DateTime<Utc>, outcome: ActOutcome) -> Act {
        Act {
            plan: Some(plan.id),
            about: vec![plan.name_tag],
            ..Act::new(self.vault.root().installation, ActCommand::Purge, (started_at, (self.clock)()), outcome)
        }
    }

    /// What somebody should know before it is carried out.
    #[must_use]
    pub fn warnings(intent: &Intent) -> Vec<String> {
        untrusted::notes(&intent.summary.untrusted).collect()
    }

    /// What a dry run says.
    #[must_use]
    pub fn describe(&self, tenant: &TenantName, intent: &Intent) -> PurgeReport {
        let mut report = self.report(tenant, intent, Done::default());
        report.dry_run = true;
        report.notes.extend(Self::warnings(intent));
        report.plan = intent.is_resumed().then(|| intent.plan.id.to_string());
        let (keys, lockers) = (intent.plan.keys().count(), intent.plan.lockers.len());
        if keys > 0 {
            let stores = std::iter::once(self.keyring.store()).chain(self.keyring.mirrors().iter().map(|mirror| &**mirror));
            let stores: Vec<&str> = stores.map(crate::store::Store::address).collect();
            report.notes.push(format!("keys to destroy: {keys}, in {}", stores.join(" and ")));
            report.notes.push(format!("lockers to empty: {lockers}, in {}", self.vault.store().address()));
        }
        report
    }

    fn report(&self, tenant: &TenantName, intent: &Intent, done: Done) -> PurgeReport {
        let status = match (done.closed, done.keys_destroyed) {
            (true, _) => PurgeStatus::Closed,
            (false, true) => PurgeStatus::KeysDestroyed,
            (false, false) => PurgeStatus::Requested,
        };
        PurgeReport {
            plan: Some(intent.plan.id.to_string()),
            tenant: tenant.as_str().to_owned(),
            dry_run: false,
            status,
            before: match intent.plan.act {
                PlannedAct::PurgeBefore { before } => Some(before),
                _ => None,
            },
            backups: intent.summary.backups,
            objects_removed: done.objects(),
            bytes_removed: done.bytes(),
            nodes: Vec::new(),
            key_copies: done.key_copies,
            newer_history: done.has_newer,
            open: done.open,
            notes: done.notes,
            problems: Vec::new(),
            certificate: None,
        }
    }

    /// Writes that the plan has come past a step.
    async fn mark(&self, intent: &Intent, step: Step, found: Found) -> Result<(), Failure> {
        Ok(self.vault.put_mark(intent.plan.id, step, ((self.clock)(), found), self.eraser).await?)
    }

    fn stop_if_asked(&self, tenant: &TenantName) -> Result<(), Failure> {
        if !self.cancel.is_cancelled() {
            return Ok(());
        }
        Err(Failure::new(FailureClass::Interrupted, "interrupted", tenant, format!("the purge of tenant {tenant} was stopped"))
            .hint(AGAIN))
    }
}

fn nothing_done(planned: &PlannedLocker, plan: &Plan) -> ActOn {
    ActOn {
        locker: planned.locker,
        name_tag: Some(plan.name_tag),
        backups: Vec::new(),
        keys: Vec::new(),
        holds: Vec::new(),
        objects: 0,
        bytes: 0,
    }
}

/// How a run goes on after one that did not come to its end.
const AGAIN: &str = "what is done stays done: the same command goes on from there";

/// The command that a plan belongs to, in full: without its flags it would let go of more. `TENANT` stands for a name that nobody knows.
pub(super) fn command(tenant: Option<&TenantName>, act: PlannedAct) -> String {
    let name = Word(tenant.map_or("TENANT", TenantName::as_str));
    match act {
        PlannedAct::PurgeAll => format!("`tenure purge {name}`"),
        PlannedAct::PurgeReturned => format!("`tenure purge {name} --returned`"),
        PlannedAct::Drop => format!("`tenure drop {name}`"),
        PlannedAct::Erase { .. } => format!("`tenure erase {name}`"),
        PlannedAct::PurgeBefore { before } => {
            format!("`tenure purge {name} --before {}`", before.to_rfc3339_opts(SecondsFormat::AutoSi, true))
        }
        other => format!("`tenure {}`", other.verb()),
    }
}

fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
