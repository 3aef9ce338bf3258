//! What several workers say of the same time of a schedule, as one.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::RecordLine;
use crate::{
    format::act::{Act, Night, NightOf, NightOutcome},
    id::NameTag,
    signed::Signed,
};

/// One worker's run.
pub(super) struct Run {
    record: RecordLine,
    began_at: DateTime<Utc>,
    ended_at: DateTime<Utc>,
    pub(super) night: Night,
}

/// One time of a schedule.
pub(super) struct Slot {
    pub(super) schedule: String,
    pub(super) due_at: DateTime<Utc>,
    pub(super) began_at: DateTime<Utc>,
    pub(super) ended_at: DateTime<Utc>,
    pub(super) records: Vec<RecordLine>,
    pub(super) tenants: Vec<NightOf>,
}

impl Run {
    /// The run that an act records, if it is one.
    pub(super) fn of(object: String, signed: Signed<Act>) -> Option<Self> {
        let Signed { value: Act { night, started_at, ended_at, .. }, sha256, signer, .. } = signed;
        let night = night?;
        let record =
            RecordLine { object, sha256: sha256.to_string(), principal: signer.principal, worker: night.worker.to_string() };
        Some(Self { record, began_at: started_at, ended_at, night })
    }
}

/// Runs by what they were for, the earliest first.
pub(super) fn slots(runs: Vec<Run>) -> Vec<Slot> {
    let mut by_slot: BTreeMap<(DateTime<Utc>, String), Vec<Run>> = BTreeMap::new();
    for run in runs {
        by_slot.entry((run.night.due_at, run.night.schedule.clone())).or_default().push(run);
    }
    by_slot.into_iter().map(|((due_at, schedule), runs)| slot(schedule, due_at, runs)).collect()
}

fn slot(schedule: String, due_at: DateTime<Utc>, mut runs: Vec<Run>) -> Slot {
    runs.sort_by(|a, b| a.record.object.cmp(&b.record.object));
    let began_at = runs.iter().map(|run| run.began_at).min().unwrap_or(due_at);
    let ended_at = runs.iter().map(|run| run.ended_at).max().unwrap_or(due_at);
    let (mut tenants, mut records) = (BTreeMap::<NameTag, NightOf>::new(), Vec::new());
    for run in runs {
        records.push(run.record);
        for of in run.night.tenants {
            match tenants.remove(&of.name_tag) {
                None => _ = tenants.insert(of.name_tag, of),
                Some(other) => _ = tenants.insert(of.name_tag, both(other, of)),
            }
        }
    }
    Slot { schedule, due_at, began_at, ended_at, records, tenants: tenants.into_values().collect() }
}

/// What two workers say of one tenant: a success is one whoever had it, else what went wrong says more than that somebody waited; its newest backup the newer, and every try counts.
fn both(a: NightOf, b: NightOf) -> NightOf {
    let attempts = a.attempts.saturating_add(b.attempts);
    let (better, other) = if telling(a.outcome) <= telling(b.outcome) { (a, b) } else { (b, a) };
    let newest = match (better.newest, other.newest) {
        (Some(one), Some(another)) if one.taken_at < another.taken_at => Some(another),
        (one, another) => one.or(another),
    };
    NightOf { newest, attempts, ..better }
}

/// Which of two outcomes is told: the lower.
fn telling(outcome: NightOutcome) -> u8 {
    match outcome {
        NightOutcome::Done => 0,
        NightOutcome::Current => 1,
        NightOutcome::Failed => 2,
        NightOutcome::Refused => 3,
        NightOutcome::Interrupted => 4,
        NightOutcome::Waiting => 5,
        NightOutcome::Busy => 6,
    }
}

/// The better, the lower.
pub(super) fn rank(outcome: NightOutcome) -> u8 {
    match outcome {
        NightOutcome::Done => 0,
        NightOutcome::Current => 1,
        NightOutcome::Busy => 2,
        NightOutcome::Waiting => 3,
        NightOutcome::Interrupted => 4,
        NightOutcome::Refused => 5,
        NightOutcome::Failed => 6,
    }
}

/// Whether nobody has to look: who waits had no turn, which is no failure.
pub(super) fn is_well(outcome: NightOutcome) -> bool {
    matches!(outcome, NightOutcome::Done | NightOutcome::Current | NightOutcome::Waiting)
}
