//! `erase`: a tenant is gone, live and in every backup, and does not come back.
//!
//! Plan, tombstone, grace, drop, purge. The tombstone comes first: from then on every command refuses the tenant. While its grace lasts the
//! database is closed and nothing is destroyed, and the erasure can be withdrawn. Dropping and purging are those of `drop` and `purge`, each
//! with a plan of its own, so that each is gone on with where it was killed; this plan binds them to the databases, lockers and keys that
//! were found when it was signed.

mod certify;
mod evidence;
mod inventory;
mod last_look;
mod plan;
mod steps;
mod undo;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

pub use certify::Told;
pub use plan::{Intent, Live};

pub use crate::format::certificate::Stage as EraseStatus;

use super::{
    drop::DropTenant,
    failure::Failure,
    purge::{OpenItem, Purge, PurgeReport, PurgeStatus, PurgedKeyCopy, PurgedNode},
};
use crate::{
    format::{
        act::{Act, ActCommand, ActOutcome},
        certificate::{KeyCopy, Left, MadeCopy},
        plan::{Found, Plan, Step},
    },
    tenant::TenantName,
};

/// What it works with: what a drop and a purge work with, which ask for no approvals of their own.
pub struct Erase<'a> {
    /// Drops the live database.
    pub drop: DropTenant<'a>,
    /// Purges the backups.
    pub purge: Purge<'a>,
    /// How many operators must sign the plan; 0 where nobody is asked.
    pub approvals: u32,
    /// How long it waits between tombstone and destruction.
    pub grace: chrono::TimeDelta,
    /// How many erasures may begin within a day: a guard against accidents.
    pub per_day: u32,
    /// What the certificate says besides.
    pub told: Told<'a>,
}

/// What an erasure says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct EraseReport {
    /// The plan's id; null for a dry run that found none.
    pub plan: Option<String>,
    /// The tenant.
    pub tenant: String,
    /// Whether this only says what would be done.
    pub dry_run: bool,
    /// How far it has come.
    pub status: EraseStatus,
    /// Nothing is destroyed before this time.
    pub grace_until: DateTime<Utc>,
    /// Backups that the purge found, or would remove.
    pub backups: u64,
    /// Objects that this run removed from the vault.
    pub objects_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// The primary and every replica.
    pub nodes: Vec<PurgedNode>,
    /// Every store that holds copies of the keys.
    pub key_copies: Vec<PurgedKeyCopy>,
    /// What is left to be done.
    pub open: Vec<OpenItem>,
    /// Anything else that somebody should know.
    pub notes: Vec<String>,
    /// The certificate's id, which is the plan's; null while there is none.
    pub certificate: Option<String>,
}

/// What a run has done so far.
#[derive(Default)]
struct Done {
    is_suspended: bool,
    live_is_erased: bool,
    nodes: Vec<PurgedNode>,
    purged: Option<PurgeReport>,
    open: Vec<OpenItem>,
    notes: Vec<String>,
    is_closed: bool,
    /// Whether backups were purged, by this run or an earlier one.
    was_purged: bool,
    is_certified: bool,
    /// What stores list of keys and backups after everything else was done.
    last_look: Option<(Vec<KeyCopy>, Left)>,
    /// What became of the copies that were certified.
    copies: Option<Vec<MadeCopy>>,
}

impl Erase<'_> {
    /// Carries out what [`Erase::look`] found.
    ///
    /// # Errors
    /// Before anything was destroyed: a hold, wanting approvals, a plan that does not fit any more (4). Later: a store that fails; what was
    /// begun is gone on with by the next run. What is left open is in the report, also where the live database cannot be reached.
    pub async fn carry_out(&self, tenant: &TenantName, intent: &Intent) -> Result<EraseReport, Failure> {
        let started_at = self.now();
        let mut done = Done::default();
        let outcome = self.steps(tenant, intent, &mut done).await;
        let recorded = match (&outcome, done.live_is_erased || done.purged.is_some() || done.is_suspended) {
            (Err(_), false) => Ok(()),
            (outcome, _) => self.record(intent, &done, outcome.is_err(), started_at).await,
        };
        outcome?;
        recorded?;
        Ok(report(tenant, intent, done))
    }

    /// What a dry run says.
    #[must_use]
    pub fn describe(&self, tenant: &TenantName, intent: &Intent) -> EraseReport {
        let notes = match &intent.live {
            Live::Known(Some(drop)) => drop.notes(&self.drop.clear),
            Live::Known(None) => vec!["its live database was dropped before".to_owned()],
            Live::Unknown(why) => vec![format!("the live database: {}", why.one_line())],
        };
        let mut report = report(tenant, intent, Done { notes, ..Done::default() });
        report.dry_run = true;
        report.plan = intent.is_resumed().then(|| intent.plan.id.to_string());
        report
    }

    fn now(&self) -> DateTime<Utc> {
        (self.purge.clock)()
    }

    async fn mark(&self, plan: &Plan, step: Step, found: Found) -> Result<(), Failure> {
        Ok(self.purge.vault.put_mark(plan.id, step, (self.now(), found), self.purge.eraser).await?)
    }

    async fn record(&self, intent: &Intent, done: &Done, failed: bool, started_at: DateTime<Utc>) -> Result<(), Failure> {
        let outcome = match (failed, done.is_closed) {
            (true, _) => ActOutcome::Failed,
            (false, true) => ActOutcome::Done,
            (false, false) => ActOutcome::Open,
        };
        let act = Act {
            plan: Some(intent.plan.id),
            about: vec![intent.plan.name_tag],
            certificate: done.is_certified.then_some(intent.plan.id),
            ..Act::new(self.purge.vault.root().installation, ActCommand::Erase, (started_at, self.now()), outcome)
        };
        Ok(self.purge.vault.put_act(&act, self.purge.eraser).await?)
    }
}

/// How far it has come.
fn status(done: &Done) -> EraseStatus {
    let is_left = done.open.iter().any(|item| item.kind == "key-copy");
    let keys_are_destroyed =
        !is_left && done.purged.as_ref().map_or(done.was_purged, |purged| purged.status != PurgeStatus::Requested);
    match (done.is_closed, done.live_is_erased, keys_are_destroyed) {
        (true, ..) => EraseStatus::Closed,
        (false, true, true) => EraseStatus::KeysDestroyed,
        (false, true, false) => EraseStatus::LiveErased,
        _ if done.is_suspended => EraseStatus::Suspended,
        _ => EraseStatus::Requested,
    }
}

fn report(tenant: &TenantName, intent: &Intent, done: Done) -> EraseReport {
    let status = status(&done);
    let mut report = EraseReport {
        plan: Some(intent.plan.id.to_string()),
        tenant: tenant.as_str().to_owned(),
        dry_run: false,
        status,
        grace_until: intent.grace_until(),
        backups: intent.backups,
        objects_removed: 0,
        bytes_removed: 0,
        nodes: done.nodes,
        key_copies: Vec::new(),
        open: done.open,
        notes: done.notes,
        certificate: done.is_certified.then(|| intent.plan.id.to_string()),
    };
    if let Some(purged) = done.purged {
        report.backups = purged.backups;
        report.objects_removed = purged.objects_removed;
        report.bytes_removed = purged.bytes_removed;
        report.key_copies = purged.key_copies;
        report.open.extend(purged.open);
        report.notes.extend(purged.notes);
    }
    report
}
