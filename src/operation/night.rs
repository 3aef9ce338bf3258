//! A scheduled backup: everybody who is due, as often as it may be tried, and the signed record of how everybody stood at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    backup::{Backup, BackupFailure, BackupReport, BackupResult, Due, Which},
    failure::{Failure, FailureClass},
};
use crate::{
    format::act::{Act, ActCommand, ActOutcome, Night, NightOf, NightOutcome},
    id::RecordId,
    signature::SigningKey,
    signed::DocumentError,
    tenant::TenantName,
    vault::Vault,
};

/// One time of a schedule, and who works on it.
#[derive(Debug, Clone)]
pub struct Turn {
    /// The schedule.
    pub schedule: String,
    /// Its time, before jitter.
    pub due_at: DateTime<Utc>,
    /// Nothing is begun from this time on.
    pub until: DateTime<Utc>,
    /// Which worker: see [`Night::worker`].
    pub worker: RecordId,
    /// Id of this run, and of its record.
    pub run: RecordId,
}

impl Turn {
    /// A record of what was done in it.
    fn act(&self, vault: &Vault, command: ActCommand, times: (DateTime<Utc>, DateTime<Utc>), outcome: ActOutcome) -> Act {
        let night =
            Night { schedule: self.schedule.clone(), due_at: self.due_at, worker: self.worker, waiting: 0, tenants: Vec::new() };
        Act { id: self.run, night: Some(night), ..Act::new(vault.root().installation, command, times, outcome) }
    }

    /// Writes down what was done at this time of the schedule, where nothing is to be said of single tenants.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn record(
        &self,
        vault: &Vault,
        command: ActCommand,
        times: (DateTime<Utc>, DateTime<Utc>),
        outcome: ActOutcome,
        signer: &SigningKey,
    ) -> Result<(), DocumentError> {
        vault.put_act(&self.act(vault, command, times, outcome), signer).await
    }

    /// The records of this time of the schedule, whoever wrote them.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn records(&self, vault: &Vault) -> Result<Vec<Act>, DocumentError> {
        let mut acts = vault.acts_since(self.due_at).await?;
        let is_ours = |night: &Night| night.schedule == self.schedule && night.due_at == self.due_at;
        acts.retain(|act| act.night.as_ref().is_some_and(is_ours));
        Ok(acts)
    }
}

/// A scheduled backup at one of its times.
pub struct NightShift {
    /// With what.
    pub backup: Backup,
    /// When, and for which schedule.
    pub turn: Turn,
    /// Whom the schedule is for.
    pub covers: Arc<dyn Fn(&TenantName) -> bool + Send + Sync>,
    /// How often those are tried again whose backup failed, after all others.
    pub retries: u32,
    /// How long is waited before the first of these; twice as long before the second, and so on.
    pub pause: Duration,
    /// How long one that another run is at is left alone before it is looked at again.
    pub look_again: Duration,
}

/// How it went.
#[derive(Debug, Default)]
pub struct NightReport {
    /// How everybody of the schedule stood at the end.
    pub stood: BTreeMap<TenantName, NightOf>,
    /// The last result of everybody who was tried.
    pub results: BTreeMap<String, BackupResult>,
    /// What concerns the fleet and stops nothing.
    pub findings: Vec<String>,
    /// What kept tenants from being looked at, in the last round.
    pub errors: Vec<BackupFailure>,
    /// The gravest class, which decides the exit code.
    pub class: Option<FailureClass>,
}

impl NightReport {
    /// How many stood like this.
    #[must_use]
    pub fn count(&self, outcome: NightOutcome) -> u64 {
        self.stood.values().filter(|stood| stood.outcome == outcome).count() as u64
    }

    /// Those whom another round would not look at.
    fn settled(&self) -> BTreeSet<TenantName> {
        let is_open = |outcome| matches!(outcome, NightOutcome::Failed | NightOutcome::Busy);
        self.stood.iter().filter(|(_, stood)| !is_open(stood.outcome)).map(|(tenant, _)| tenant.clone()).collect()
    }

    /// Whether something failed that may go better later.
    fn may_go_better(&self) -> bool {
        self.count(NightOutcome::Failed) > 0 || self.errors.iter().any(|error| error.class == FailureClass::Failed)
    }

    fn take(&mut self, round: BackupReport) {
        (self.findings, self.errors) = (round.findings, round.errors);
        for (tenant, mut stood) in round.stood {
            if let Some(before) = self.stood.get(&tenant) {
                stood.attempts += before.attempts;
                if stood.outcome == NightOutcome::Waiting {
                    // It was begun before the window ended, and failed.
                    (stood.outcome, stood.reason) = (before.outcome, before.reason.clone());
                }
            }
            if stood.outcome == NightOutcome::Current {
                self.results.remove(tenant.as_str());
            }
            self.stood.insert(tenant, stood);
        }
        self.results.extend(round.results.into_iter().map(|result| (result.tenant.clone(), result)));
    }

    fn judge(&mut self, cancelled: bool) {
        let stands = |stood: &NightOf| matches!(stood.outcome, NightOutcome::Done | NightOutcome::Current);
        let some = self.stood.values().any(stands);
        let failures = self.results.values().filter_map(|result| result.error.as_ref()).chain(&self.errors);
        let classes = failures.map(|failure| failure.class).filter(|class| *class != FailureClass::Busy);
        let stopped = cancelled.then_some(FailureClass::Interrupted);
        self.class = FailureClass::worst_of_many(classes.chain(stopped), some);
    }
}

impl NightShift {
    /// Backs up everybody who is due. What failed is tried again; what stops everybody at once is in the report as well.
    pub async fn run(&self) -> NightReport {
        let started_at = (self.backup.clock)();
        let mut report = NightReport::default();
        for round in 0..=self.retries {
            if round > 0 {
                let pause = self.pause.saturating_mul(1 << (round - 1).min(6));
                tracing::warn!(round, "{}: what failed is tried again in {} s", self.turn.schedule, pause.as_secs());
                if !self.wait(pause).await {
                    break;
                }
            }
            let due = Due {
                due_at: self.turn.due_at,
                until: self.turn.until,
                covers: self.covers.clone(),
                settled: report.settled(),
                look_again: self.look_again,
            };
            match self.backup.clone().run(&Which::Due(due)).await {
                Ok(round) => report.take(round),
                Err(failure) => report.errors = vec![failure.into()],
            }
            if self.backup.cancel.is_cancelled() || !report.may_go_better() {
                break;
            }
        }
        report.judge(self.backup.cancel.is_cancelled());
        if let Err(error) = self.record(&report, started_at).await {
            let failure = Failure::from(error);
            let message = format!("what this run did could not be recorded under runs/ in the vault: {}", failure.one_line());
            let unrecorded = Failure::new(failure.class, failure.kind, &failure.object, message).hint(failure.hint);
            report.errors.push(unrecorded.into());
            report.judge(self.backup.cancel.is_cancelled());
        }
        report
    }

    /// Whether there is still time when it has passed.
    async fn wait(&self, pause: Duration) -> bool {
        let end = (self.backup.clock)() + TimeDelta::from_std(pause).unwrap_or(TimeDelta::MAX);
        if end >= self.turn.until {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.backup.cancel.cancelled() => false,
        }
    }

    /// The record of this run. Where it had no share and another one wrote of the same time, there is nothing to add.
    async fn record(&self, report: &NightReport, started_at: DateTime<Utc>) -> Result<(), DocumentError> {
        let (turn, vault) = (&self.turn, &self.backup.vault);
        let had_share = report.stood.values().any(|stood| stood.attempts > 0) || report.class.is_some();
        if !had_share && !turn.records(vault).await?.is_empty() {
            return Ok(());
        }
        let open = [NightOutcome::Waiting, NightOutcome::Busy, NightOutcome::Interrupted];
        let outcome = match report.class {
            None if open.iter().all(|outcome| report.count(*outcome) == 0) => ActOutcome::Done,
            None | Some(FailureClass::Interrupted) => ActOutcome::Open,
            Some(_) => ActOutcome::Failed,
        };
        let mut act = turn.act(vault, ActCommand::Backup, (started_at, (self.backup.clock)()), outcome);
        if let Some(night) = &mut act.night {
            night.waiting = report.count(NightOutcome::Waiting);
            night.tenants = report.stood.values().cloned().collect();
        }
        vault.put_act(&act, &self.backup.signer).await
    }
}
