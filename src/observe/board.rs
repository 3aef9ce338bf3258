//! What the worker is doing and how it went, kept for `/metrics`, `/healthz` and `/readyz`.
//!
//! The worker writes, others read. Counters begin anew with the process, as Prometheus expects; what must outlive it is in the vault.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};

use crate::{
    config::schedule::Action,
    operation::{backup::Outcome, failure::FailureClass, status::StatusReport},
};

/// How old the loop's last beat may be before the worker counts as hanging. The loop turns at least every minute.
pub const LONGEST_SILENCE: Duration = Duration::from_secs(300);

/// Cheap to clone; all clones are the same board.
#[derive(Clone)]
pub struct Board(Arc<Mutex<State>>);

/// What stands on it.
pub(super) struct State {
    pub(super) started: DateTime<Utc>,
    /// By both clocks: the steady one tells how long ago, the other when.
    pub(super) beat: (Instant, DateTime<Utc>),
    /// Why the worker is not ready; `None` when it is.
    pub(super) unready: Option<String>,
    pub(super) schedules: BTreeMap<String, OfSchedule>,
    pub(super) backups: Backups,
    /// Tenants whose last try here failed: on which cluster is the status's to say.
    pub(super) failing: BTreeMap<String, u64>,
    pub(super) channels: BTreeMap<&'static str, OfChannel>,
    pub(super) status: Option<Arc<StatusReport>>,
}

/// One schedule.
pub(super) struct OfSchedule {
    pub(super) action: Action,
    pub(super) next: Option<DateTime<Utc>>,
    pub(super) running_since: Option<Instant>,
    pub(super) last: Option<Run>,
    /// When a run last ended well.
    pub(super) last_good: Option<DateTime<Utc>>,
    pub(super) runs: BTreeMap<&'static str, u64>,
}

/// A run that ended.
pub(super) struct Run {
    pub(super) ended: DateTime<Utc>,
    pub(super) took: Duration,
    pub(super) outcome: &'static str,
}

/// Backups of this process.
#[derive(Default)]
pub(super) struct Backups {
    pub(super) by_outcome: BTreeMap<&'static str, u64>,
    pub(super) bytes_read: u64,
    pub(super) bytes_stored: u64,
    /// Seconds of all that are done.
    pub(super) seconds: f64,
    /// How many took at most [`BOUNDS`] of the same place, and more than the one before; the last one: more than all.
    pub(super) took: [u64; BOUNDS.len() + 1],
}

/// Upper bounds of the durations that are told apart, in seconds: from a tenant without changes to one of terabytes.
pub(super) const BOUNDS: [f64; 10] = [0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0];

/// One channel of notification.
#[derive(Default)]
pub(super) struct OfChannel {
    pub(super) sent: u64,
    pub(super) failed: u64,
    pub(super) last_sent: Option<DateTime<Utc>>,
    /// Why it fails, while it does.
    pub(super) failing: Option<String>,
}

impl Board {
    /// Empty; the worker is not ready yet.
    #[must_use]
    pub fn new(now: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new(State {
            started: now,
            beat: (Instant::now(), now),
            unready: Some("the worker is starting".to_owned()),
            schedules: BTreeMap::new(),
            backups: Backups::default(),
            failing: BTreeMap::new(),
            channels: BTreeMap::new(),
            status: None,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked over it left at worst a figure behind that is one too low.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop turned.
    pub fn beat(&self, now: DateTime<Utc>) {
        self.lock().beat = (Instant::now(), now);
    }

    /// The worker is ready to run what is due; or it is not, and why.
    pub fn ready(&self, ready: Result<(), String>) {
        self.lock().unready = ready.err();
    }

    /// The schedules that are on, each with its next time. Others are forgotten.
    pub fn schedules<'a>(&self, schedules: impl IntoIterator<Item = (&'a str, Action, Option<DateTime<Utc>>)>) {
        let state = &mut *self.lock();
        let mut before = std::mem::take(&mut state.schedules);
        for (name, action, next) in schedules {
            let mut kept = before.remove(name).filter(|kept| kept.action == action).unwrap_or(OfSchedule {
                action,
                next: None,
                running_since: None,
                last: None,
                last_good: None,
                runs: BTreeMap::new(),
            });
            kept.next = next;
            state.schedules.insert(name.to_owned(), kept);
        }
    }

    /// A run of a schedule begins.
    pub fn run_began(&self, schedule: &str) {
        if let Some(schedule) = self.lock().schedules.get_mut(schedule) {
            schedule.running_since = Some(Instant::now());
        }
    }

    /// It ended, with this as the gravest thing in it.
    pub fn run_ended(&self, schedule: &str, worst: Option<FailureClass>, now: DateTime<Utc>) {
        let mut state = self.lock();
        let Some(schedule) = state.schedules.get_mut(schedule) else { return };
        let took = schedule.running_since.take().map(|since| since.elapsed()).unwrap_or_default();
        let outcome = outcome(worst);
        *schedule.runs.entry(outcome).or_default() += 1;
        if worst.is_none() {
            schedule.last_good = Some(now);
        }
        schedule.last = Some(Run { ended: now, took, outcome });
    }

    /// One tenant's backup ended.
    pub fn backup_ended(&self, tenant: &str, outcome: Outcome, took: Duration, bytes_read: u64, bytes_stored: u64) {
        let state = &mut *self.lock();
        let backups = &mut state.backups;
        *backups.by_outcome.entry(outcome.as_str()).or_default() += 1;
        backups.bytes_read += bytes_read;
        backups.bytes_stored += bytes_stored;
        match outcome {
            Outcome::Done => {
                let seconds = took.as_secs_f64();
                backups.seconds += seconds;
                backups.took[BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len())] += 1;
                state.failing.remove(tenant);
            }
            Outcome::Failed | Outcome::Refused => *state.failing.entry(tenant.to_owned()).or_default() += 1,
            Outcome::Busy => {}
        }
    }

    /// How the fleet is.
    pub fn status(&self, status: StatusReport) {
        let mut state = self.lock();
        let known: std::collections::BTreeSet<&str> = status.tenants.iter().map(|tenant| tenant.tenant.as_str()).collect();
        state.failing.retain(|tenant, _| known.contains(tenant.as_str()));
        state.status = Some(Arc::new(status));
    }

    /// Something was sent through a channel, or could not be, and why.
    pub fn channel(&self, channel: &'static str, sent: Result<(), String>, now: DateTime<Utc>) {
        let mut state = self.lock();
        let channel = state.channels.entry(channel).or_default();
        match sent {
            Ok(()) => {
                channel.sent += 1;
                channel.last_sent = Some(now);
                channel.failing = None;
            }
            Err(why) => {
                channel.failed += 1;
                channel.failing = Some(why);
            }
        }
    }

    /// A channel that is configured, so that its series begin at zero.
    pub fn has_channel(&self, channel: &'static str) {
        self.lock().channels.entry(channel).or_default();
    }

    /// Channels whose last message was not taken, and why.
    #[must_use]
    pub fn failing_channels(&self) -> Vec<(&'static str, String)> {
        let state = self.lock();
        state.channels.iter().filter_map(|(name, channel)| Some((*name, channel.failing.clone()?))).collect()
    }

    /// Whether the loop turns; or since when it does not.
    ///
    /// # Errors
    /// How long it was silent.
    pub fn health(&self) -> Result<(), Duration> {
        let silence = self.lock().beat.0.elapsed();
        if silence > LONGEST_SILENCE { Err(silence) } else { Ok(()) }
    }

    /// Whether the worker is ready.
    ///
    /// # Errors
    /// Why it is not.
    pub fn readiness(&self) -> Result<(), String> {
        self.lock().unready.clone().map_or(Ok(()), Err)
    }
}

impl std::fmt::Debug for Board {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Board")
    }
}

/// How a run ended, in one word that never changes once released.
fn outcome(worst: Option<FailureClass>) -> &'static str {
    match worst {
        None => "done",
        Some(FailureClass::SomeTenants) => "partial",
        Some(FailureClass::Refused) => "refused",
        Some(FailureClass::Integrity) => "integrity",
        Some(FailureClass::Busy) => "busy",
        Some(FailureClass::Interrupted | FailureClass::Terminated) => "interrupted",
        Some(FailureClass::Failed | FailureClass::Usage) => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_noticed() {
        let board = Board::new(Utc::now());
        assert_eq!(board.health(), Ok(()));
        let long_ago = Instant::now().checked_sub(LONGEST_SILENCE + Duration::from_secs(1)).unwrap();
        board.lock().beat.0 = long_ago;
        assert!(board.health().is_err_and(|silence| silence > LONGEST_SILENCE));
        board.beat(Utc::now());
        assert_eq!(board.health(), Ok(()));
    }
}
