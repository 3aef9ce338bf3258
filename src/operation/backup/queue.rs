//! Tenants that wait for their turn, and those at work: so many at once, whoever fails stops no other.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};
use tracing::Instrument as _;

use super::{
    ATTEMPTS, Backup, Limits,
    report::{BackupReport, BackupResult},
    tenant::{self, Ended},
};
use crate::{
    format::act::{Newest, NightOf, NightOutcome},
    operation::fleet::Resident,
};

/// One tenant's turn.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) resident: Resident,
    /// Its newest good backup, as far as it was looked up.
    pub(super) newest: Option<Newest>,
    /// How often it was tried.
    pub(super) attempt: u32,
    /// Another run was at it.
    busy: bool,
    not_before: Option<Instant>,
}

impl Job {
    pub(super) fn new(resident: Resident, newest: Option<Newest>) -> Self {
        Self { resident, newest, attempt: 0, busy: false, not_before: None }
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|time| time <= now)
    }
}

/// What became of a turn.
enum Tried {
    Ended(Box<BackupResult>),
    /// Another run had backed it up.
    Current(Newest),
}

impl Backup {
    /// Gives everybody a turn, `jobs` at once, and says in the report what came of it.
    pub(super) async fn work(&self, jobs: Vec<Job>, limits: &Limits, report: &mut BackupReport) {
        let mut queue = VecDeque::from(jobs);
        let mut running = JoinSet::new();
        let mut turns = HashMap::new();
        loop {
            while running.len() < self.jobs && self.may_begin(limits) {
                let now = Instant::now();
                let Some(mut job) = queue.iter().position(|job| job.is_ready(now)).and_then(|at| queue.remove(at)) else { break };
                let (backup, limits, resident) = (self.clone(), limits.clone(), job.resident.clone());
                let turn = async move { backup.one(&resident, &limits).await };
                let task = running.spawn(turn.in_current_span());
                job.attempt += 1;
                turns.insert(task.id(), (job, now));
            }
            if running.is_empty() && (queue.is_empty() || !self.may_begin(limits)) {
                break;
            }
            let ended = tokio::select! {
                Some(ended) = running.join_next_with_id() => ended,
                () = next_look(&queue), if running.len() < self.jobs && self.may_begin(limits) => continue,
                () = self.cancel.cancelled(), if running.is_empty() => continue,
            };
            let id = match &ended {
                Ok((id, _)) => *id,
                Err(error) => error.id(),
            };
            let Some((job, begun)) = turns.remove(&id) else { continue };
            let tried = match ended {
                Ok((_, tried)) => tried,
                Err(error) => {
                    self.progress.tenant_finished(&job.resident.tenant, "failed");
                    Tried::Ended(Box::new(BackupResult::panicked(&job.resident.tenant, &error, begun.elapsed())))
                }
            };
            queue.extend(self.settle(job, tried, limits, report));
        }
        for job in queue {
            self.leave(job, limits, report);
        }
    }

    /// Whether somebody's turn may begin now.
    fn may_begin(&self, limits: &Limits) -> bool {
        !self.cancel.is_cancelled() && limits.due.as_ref().is_none_or(|due| (self.clock)() < due.until)
    }

    /// Whatever happens, in the shape of a result.
    async fn one(&self, resident: &Resident, limits: &Limits) -> Tried {
        let tenant = &resident.tenant;
        let started = Instant::now();
        self.progress.tenant_started(tenant, resident.found.bytes.unwrap_or(0));
        let result = self.attempt(resident, limits, started).await;
        let tried = match result {
            Ok(Ended::Current(newest)) => Tried::Current(newest),
            Ok(Ended::Done(done)) => Tried::Ended(Box::new(BackupResult::new(tenant, Ok(done), started.elapsed()))),
            Err(failure) => Tried::Ended(Box::new(BackupResult::new(tenant, Err(failure), started.elapsed()))),
        };
        match &tried {
            Tried::Ended(result) if limits.due.is_some() && result.is_busy() => self.progress.tenant_put_off(tenant),
            Tried::Ended(result) => self.progress.tenant_finished(tenant, result.word()),
            Tried::Current(_) => self.progress.tenant_finished(tenant, NightOutcome::Current.as_str()),
        }
        tried
    }

    async fn attempt(
        &self,
        resident: &Resident,
        limits: &Limits,
        started: Instant,
    ) -> Result<Ended, crate::operation::failure::Failure> {
        // Of many that are due somebody else may have done this one since: seen before the server is asked for a lock.
        if let Some(due) = &limits.due
            && let Some(newest) = self.came_in(due, resident).await?
        {
            return Ok(Ended::Current(newest));
        }
        tenant::Run::new(self, resident, limits, started).run().await
    }

    /// Takes down how a turn ended, or gives it back for another one.
    fn settle(&self, mut job: Job, tried: Tried, limits: &Limits, report: &mut BackupReport) -> Option<Job> {
        let tenant = job.resident.tenant.clone();
        match tried {
            Tried::Current(newest) => {
                let night = NightOf { attempts: job.attempt - 1, ..self.stands(&tenant, NightOutcome::Current, Some(newest)) };
                report.stood.insert(tenant, night);
                None
            }
            Tried::Ended(result) if result.was_in_the_way() && job.attempt < ATTEMPTS => {
                tracing::info!(tenant.name = %tenant, attempt = job.attempt, "tenant {tenant} is tried again after the others");
                Some(job)
            }
            Tried::Ended(result) => {
                if let Some(due) = limits.due.as_ref().filter(|_| result.is_busy()) {
                    job.attempt -= 1;
                    job.busy = true;
                    job.not_before = Some(Instant::now() + due.look_again);
                    return Some(job);
                }
                if limits.due.is_some() {
                    report.stood.insert(tenant, self.stands_after(job, &result));
                }
                report.results.push(*result);
                None
            }
        }
    }

    /// Whoever has had no turn when the run ends.
    fn leave(&self, job: Job, limits: &Limits, report: &mut BackupReport) {
        let tenant = job.resident.tenant;
        if limits.due.is_none() {
            report.results.push(BackupResult::interrupted(&tenant));
            return;
        }
        let outcome = match (self.cancel.is_cancelled(), job.busy) {
            (true, _) => NightOutcome::Interrupted,
            (false, true) => NightOutcome::Busy,
            (false, false) => NightOutcome::Waiting,
        };
        let night = NightOf { attempts: job.attempt, ..self.stands(&tenant, outcome, job.newest) };
        report.stood.insert(tenant, night);
    }
}

/// Until somebody who was put off is to be looked at again; at the latest after a second, because the window's end goes by another clock.
async fn next_look(queue: &VecDeque<Job>) {
    let second = Instant::now() + Duration::from_secs(1);
    match queue.iter().filter_map(|job| job.not_before).min() {
        Some(next) => tokio::time::sleep_until(next.min(second)).await,
        None => std::future::pending().await,
    }
}
