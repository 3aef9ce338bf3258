//! One run of a schedule: the operation that it is for, with its role's credentials and no others.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::shift::Job;
use crate::{
    cli::{
        self, clusters,
        edge::Edge,
        installation::{Installation, read_signing_key},
    },
    config::{glob::Glob, schedule::Action},
    format::act::{ActCommand, ActOutcome, NightOutcome},
    id::RecordId,
    operation::{
        backup::{BackupResult, Which},
        failure::{Failure, FailureClass},
        night::{NightReport, NightShift, Turn},
        verify,
    },
    postgres::fleet_lock::FleetLock,
    tenant::TenantName,
};

/// Before what failed is tried again; twice as long before the second time, and so on. A server that restarts takes less.
const PAUSE: Duration = Duration::from_secs(20);

/// How long one that another worker is at is left alone before it is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How a run ended.
#[derive(Debug, Default)]
pub struct JobEnd {
    /// The gravest class; `None` when all is well.
    pub class: Option<FailureClass>,
    /// In a line, for people.
    pub summary: String,
    /// Each thing that is wrong.
    pub complaints: Vec<Complaint>,
    /// How the tenants of a backup stood at the end.
    pub tenants: Option<Tally>,
    /// Everybody whose backup was tried.
    pub results: Vec<BackupResult>,
}

/// Something that is wrong, and what to do.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Complaint {
    /// What it is about.
    pub object: String,
    /// What is wrong.
    pub message: String,
    /// What to do. May be empty.
    pub hint: String,
}

/// How the tenants of a scheduled backup stood at its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tally {
    /// Backed up by this run.
    pub done: u64,
    /// Not due, or backed up by another run.
    pub current: u64,
    /// Every try failed.
    pub failed: u64,
    /// A guard refused them.
    pub refused: u64,
    /// The window ended before they were begun.
    pub waiting: u64,
    /// Another run was at them until the end.
    pub busy: u64,
    /// The run was stopped.
    pub interrupted: u64,
}

impl Complaint {
    /// From its parts.
    #[must_use]
    pub fn new(object: impl ToString, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { object: object.to_string(), message: message.into(), hint: hint.into() }
    }
}

impl From<&Failure> for Complaint {
    fn from(failure: &Failure) -> Self {
        Self::new(&failure.object, failure.one_line(), &failure.hint)
    }
}

impl From<Failure> for JobEnd {
    fn from(failure: Failure) -> Self {
        Self { class: Some(failure.class), summary: failure.one_line(), complaints: vec![(&failure).into()], ..Self::default() }
    }
}

impl Tally {
    fn of(report: &NightReport) -> Self {
        Self {
            done: report.count(NightOutcome::Done),
            current: report.count(NightOutcome::Current),
            failed: report.count(NightOutcome::Failed),
            refused: report.count(NightOutcome::Refused),
            waiting: report.count(NightOutcome::Waiting),
            busy: report.count(NightOutcome::Busy),
            interrupted: report.count(NightOutcome::Interrupted),
        }
    }

    fn text(&self) -> String {
        let parts = [
            (self.done, "done"),
            (self.current, "not due"),
            (self.failed, "failed"),
            (self.refused, "refused"),
            (self.waiting, "waiting"),
            (self.busy, "busy elsewhere"),
            (self.interrupted, "interrupted"),
        ];
        let parts: Vec<String> =
            parts.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        if parts.is_empty() { "no tenants".to_owned() } else { format!("tenants: {}", parts.join(", ")) }
    }
}

/// One run at work.
pub struct Run {
    /// What is to be done, and when.
    pub job: Job,
    /// The outside: with the configuration that counts, and cancelled when the run is to stop.
    pub edge: Edge,
    /// Which worker.
    pub worker: RecordId,
    /// Id of the run.
    pub id: RecordId,
}

impl Run {
    fn turn(&self) -> Turn {
        Turn {
            schedule: self.job.schedule.name.clone(),
            due_at: self.job.slot.due_at,
            until: self.job.slot.until,
            worker: self.worker,
            run: self.id,
        }
    }

    fn covers(&self) -> Arc<dyn Fn(&TenantName) -> bool + Send + Sync> {
        let globs: Vec<Glob> = self.job.schedule.tenants.clone();
        Arc::new(move |tenant| globs.iter().any(|glob| glob.matches(tenant.as_str())))
    }

    /// Does what the schedule says.
    pub async fn run(&self) -> JobEnd {
        let ended = match self.job.schedule.action {
            Action::Backup => self.backup().await,
            action => self.again(async || self.as_one_of_many(action).await).await,
        };
        ended.unwrap_or_else(JobEnd::from)
    }

    /// How many tenants are due, and nothing else: of a time whose window is over.
    ///
    /// # Errors
    /// Stores out of reach.
    pub async fn count_due(&self) -> Result<u64, Failure> {
        let backup = cli::backup::assemble(&self.edge, None, false).await?;
        let turn = self.turn();
        let due = crate::operation::backup::Due {
            due_at: turn.due_at,
            until: turn.due_at,
            covers: self.covers(),
            settled: Default::default(),
            look_again: LOOK_AGAIN,
        };
        let report = backup.run(&Which::Due(due)).await?;
        Ok(report.stood.values().filter(|stood| stood.outcome == NightOutcome::Waiting).count() as u64)
    }

    async fn backup(&self) -> Result<JobEnd, Failure> {
        let backup = self.again(async || cli::backup::assemble(&self.edge, None, false).await).await?;
        let shift = NightShift {
            backup,
            turn: self.turn(),
            covers: self.covers(),
            retries: self.job.schedule.retries,
            pause: PAUSE,
            look_again: LOOK_AGAIN,
        };
        let report = shift.run().await;
        let tally = Tally::of(&report);
        let failed = report.results.values().filter_map(|result| Some((&result.tenant, result.error.as_ref()?)));
        let failed = failed.map(|(tenant, error)| Complaint::new(tenant, &error.message, &error.hint));
        let errors = report.errors.iter().map(|error| Complaint::new(&error.object, &error.message, &error.hint));
        for finding in &report.findings {
            tracing::info!("{finding}");
        }
        Ok(JobEnd {
            class: report.class,
            summary: tally.text(),
            complaints: failed.chain(errors).collect(),
            tenants: Some(tally),
            results: report.results.into_values().collect(),
        })
    }

    /// Tries again what failed, as often as the schedule allows.
    async fn again<T>(&self, mut attempt: impl AsyncFnMut() -> Result<T, Failure>) -> Result<T, Failure> {
        let mut pause = PAUSE;
        for _ in 0..self.job.schedule.retries {
            match attempt().await {
                Err(failure) if failure.class == FailureClass::Failed && !self.edge.stop.is_cancelled() => {
                    tracing::warn!(error.object = failure.object, "tried again in {} s: {}", pause.as_secs(), failure.one_line());
                    if !self.wait(pause).await {
                        return Err(failure);
                    }
                    pause *= 2;
                }
                ended => return ended,
            }
        }
        attempt().await
    }

    /// Whether there is still time when it has passed.
    async fn wait(&self, pause: Duration) -> bool {
        if self.edge.now() + pause >= self.job.slot.until {
            return false;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => true,
            () = self.edge.stop.cancelled() => false,
        }
    }

    /// What one worker does for all of them: under a lock that they share, and not if it is done.
    async fn as_one_of_many(&self, action: Action) -> Result<JobEnd, Failure> {
        let (command, role, signer) = match action {
            Action::Expire => (ActCommand::Expire, action.role(), "janitor"),
            Action::Verify => (ActCommand::Verify, action.role(), "restorer"),
            Action::Reconcile => (ActCommand::Reconcile, action.role(), "eraser"),
            Action::Backup | Action::Report | Action::Drill => {
                let message = format!("the worker cannot do the action \"{}\"", action.name());
                return Err(Failure::new(FailureClass::Usage, "not-built", &self.job.schedule.name, message));
            }
        };
        let installation = Installation::open(&self.edge, role).await?;
        let turn = self.turn();
        let Some(lock) = self.lock(&installation, &turn, command).await? else {
            return Ok(JobEnd { summary: "another worker did it".to_owned(), ..JobEnd::default() });
        };
        let started_at = self.edge.now();
        let end = self.perform(action, &installation).await?;
        let outcome = match end.class {
            None => ActOutcome::Done,
            // It was done, and found what a person must see to: nobody has to do it once more.
            Some(FailureClass::Refused | FailureClass::Integrity) => ActOutcome::Open,
            Some(_) => ActOutcome::Failed,
        };
        let times = (started_at, self.edge.now());
        let signer = read_signing_key(&installation.config, signer)?;
        turn.record(&installation.vault, command, times, outcome, &signer).await?;
        // Whoever has the lock next finds the record.
        drop(lock);
        match end.class {
            Some(class @ FailureClass::Failed) => {
                let first = end.complaints.into_iter().next().unwrap_or(Complaint::new("", end.summary, ""));
                Err(Failure::new(class, "schedule-failed", first.object, first.message).hint(first.hint))
            }
            _ => Ok(end),
        }
    }

    /// The lock that says that this worker does it; `None` when another one has done it. Where no cluster answers nobody has to wait for
    /// anybody: twice is as safe as once.
    async fn lock(
        &self,
        installation: &Installation,
        turn: &Turn,
        command: ActCommand,
    ) -> Result<Option<Option<FleetLock>>, Failure> {
        let fleet = clusters::fleet(&installation.config).unwrap_or_default();
        let what = format!("schedule {}", turn.schedule);
        loop {
            let targets = fleet.iter().map(|cluster| &cluster.target);
            let lock = match FleetLock::take(targets, &installation.vault.root().installation, &what).await {
                Ok(Some(lock)) => Some(lock),
                Err(error) => {
                    tracing::warn!(
                        "{}",
                        Failure::new(FailureClass::Failed, "", "", "done without the lock").because(error).one_line()
                    );
                    None
                }
                Ok(None) => {
                    if self.is_done(installation, turn, command).await? {
                        return Ok(None);
                    }
                    if !self.wait(LOOK_AGAIN).await {
                        let message =
                            format!("another session had the lock of schedule {} until its time was over", turn.schedule);
                        return Err(Failure::new(FailureClass::Busy, "schedule-busy", &turn.schedule, message)
                            .hint("Another worker was at it all the time, or somebody else holds that advisory lock in the maintenance database of the first cluster."));
                    }
                    continue;
                }
            };
            return Ok(if self.is_done(installation, turn, command).await? { None } else { Some(lock) });
        }
    }

    async fn is_done(&self, installation: &Installation, turn: &Turn, command: ActCommand) -> Result<bool, Failure> {
        let records = turn.records(&installation.vault).await?;
        let settles = |outcome| matches!(outcome, ActOutcome::Done | ActOutcome::Open);
        Ok(records.iter().any(|act| act.command == command && settles(act.outcome)))
    }

    async fn perform(&self, action: Action, installation: &Installation) -> Result<JobEnd, Failure> {
        let edge = &self.edge;
        match action {
            Action::Expire => {
                let report = cli::expire::perform(installation, edge, cli::expire::Request::default()).await?;
                Ok(JobEnd {
                    class: report.class(),
                    summary: cli::expire::summary(&report),
                    complaints: cli::expire::complaints(&report),
                    ..JobEnd::default()
                })
            }
            Action::Verify => {
                let report = cli::verify::perform(installation, edge, &self.whom(installation).await?, None).await?;
                let problem = |problem: &verify::VerifyProblem| {
                    Complaint::new(
                        problem.tenant.as_deref().unwrap_or(&problem.object),
                        format!("{}: {}", problem.object, problem.problem),
                        "",
                    )
                };
                Ok(JobEnd {
                    class: (!report.problems.is_empty()).then_some(FailureClass::Integrity),
                    summary: cli::verify::summary(&report),
                    complaints: report.problems.iter().map(problem).collect(),
                    ..JobEnd::default()
                })
            }
            _ => {
                let report = cli::reconcile::perform(installation, edge, false).await?;
                Ok(JobEnd {
                    class: report.class,
                    summary: cli::reconcile::summary(&report),
                    complaints: cli::reconcile::complaints(&report),
                    ..JobEnd::default()
                })
            }
        }
    }

    /// Whom a verification is of.
    async fn whom(&self, installation: &Installation) -> Result<verify::Which, Failure> {
        if self.job.schedule.is_for_everybody() {
            return Ok(verify::Which::All);
        }
        let covers = self.covers();
        let census = installation.keyring.census().await?;
        Ok(verify::Which::Tenants(census.tenants.into_keys().filter(|tenant| covers(tenant)).collect()))
    }
}

/// In the words of a person's clock.
#[must_use]
pub fn shown(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M UTC").to_string()
}
