//! What begins when. It looks at nothing but the time that it is told, so that a clock may jump as it likes.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::schedule::{Schedule, Slot};

/// Further ahead no clock was right that said so: what it had begun is forgotten. Who is due is asked of the vault anyway.
const FAR_AHEAD: TimeDelta = TimeDelta::days(1);

/// One time of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What is to be done.
    pub schedule: Schedule,
    /// When.
    pub slot: Slot,
}

/// What a moment brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Do it now.
    Begin(Job),
    /// Its window ended before anybody could begin it.
    Missed(Job),
}

/// The schedules that one worker runs.
pub struct Shift {
    entries: BTreeMap<String, Entry>,
    /// Schedules at work: a second time of the same waits.
    running: BTreeSet<String>,
    /// A random number, for jitter.
    random: fn() -> u64,
}

struct Entry {
    schedule: Schedule,
    /// The time that comes next, and when it begins, jitter included.
    planned: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// The last time that was begun or missed.
    settled: Option<DateTime<Utc>>,
}

impl Shift {
    /// Without schedules.
    #[must_use]
    pub fn new(random: fn() -> u64) -> Self {
        Self { entries: BTreeMap::new(), running: BTreeSet::new(), random }
    }

    /// These are the schedules now. Of one that was there before, it is remembered what was begun.
    pub fn take(&mut self, schedules: impl IntoIterator<Item = Schedule>) {
        let mut before = std::mem::take(&mut self.entries);
        for schedule in schedules.into_iter().filter(|schedule| schedule.enabled) {
            let settled = before.remove(&schedule.name).and_then(|entry| entry.settled);
            self.entries.insert(schedule.name.clone(), Entry { schedule, planned: None, settled });
        }
    }

    /// The schedules that are on, each with its next time.
    pub fn schedules(&self, now: DateTime<Utc>) -> impl Iterator<Item = (&Schedule, Option<DateTime<Utc>>)> {
        self.entries.values().map(move |entry| (&entry.schedule, entry.schedule.next(now)))
    }

    /// What this moment brings. It counts as begun.
    pub fn tick(&mut self, now: DateTime<Utc>) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (name, entry) in &mut self.entries {
            if entry.settled.is_some_and(|settled| settled.signed_duration_since(now) > FAR_AHEAD) {
                entry.settled = None;
            }
            if self.running.contains(name) {
                continue;
            }
            let Some(slot) = entry.schedule.slot(now).filter(|slot| entry.settled < Some(slot.due_at)) else { continue };
            let job = || Job { schedule: entry.schedule.clone(), slot: slot.clone() };
            if now >= slot.until {
                tasks.push(Task::Missed(job()));
                entry.settled = Some(slot.due_at);
                continue;
            }
            let jitter = entry.schedule.jitter.get().as_secs();
            let begins = match entry.planned {
                Some((due_at, begins)) if due_at == slot.due_at => begins,
                _ => slot.due_at + TimeDelta::seconds(((self.random)() % (jitter + 1)).cast_signed()),
            };
            entry.planned = Some((slot.due_at, begins));
            if now >= begins {
                tasks.push(Task::Begin(job()));
                entry.settled = Some(slot.due_at);
                self.running.insert(name.clone());
            }
        }
        tasks
    }

    /// A schedule's run has ended.
    pub fn ended(&mut self, name: &str) {
        self.running.remove(name);
    }

    /// When something may begin next; later than `now`.
    #[must_use]
    pub fn next(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let planned = |entry: &Entry| entry.planned.map(|(_, begins)| begins).filter(|begins| *begins > now);
        self.entries.values().filter_map(|entry| planned(entry).into_iter().chain(entry.schedule.next(now)).min()).min()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn at(time: &str) -> DateTime<Utc> {
        format!("2027-03-01T{time}Z").parse().unwrap()
    }

    fn schedule(name: &str, more: &str) -> Schedule {
        let text = format!("name = \"{name}\"\ncron = \"30 2 * * *\"\ntime_zone = \"UTC\"\naction = \"backup\"\n{more}");
        Schedule::parse(&text, Path::new(&format!("{name}.toml"))).unwrap()
    }

    fn shift(more: &str) -> Shift {
        let mut shift = Shift::new(|| 90);
        shift.take([schedule("nightly", more)]);
        shift
    }

    /// What the moments bring: a letter each, `b`egin, `m`issed, `.` nothing.
    fn seen(shift: &mut Shift, times: &[&str]) -> String {
        let word = |time: &&str| match &shift.tick(at(time))[..] {
            [] => '.',
            [Task::Begin(_)] => 'b',
            [Task::Missed(_)] => 'm',
            more => panic!("{more:?}"),
        };
        times.iter().map(word).collect()
    }

    #[test]
    fn a_time_comes_once_after_its_jitter() {
        let mut shift = shift("jitter = \"10min\"\nwindow = \"4h\"");
        shift.entries.values_mut().for_each(|entry| entry.settled = Some("2027-02-28T02:30:00Z".parse().unwrap()));
        assert_eq!(shift.next(at("02:29:00")), Some(at("02:30:00")));
        assert_eq!(seen(&mut shift, &["02:29:59", "02:30:00", "02:31:29"]), "...");
        assert_eq!(shift.next(at("02:31:29")), Some(at("02:31:30")));
        assert_eq!(seen(&mut shift, &["02:31:30", "02:31:31"]), "b.");
        shift.ended("nightly");
        assert_eq!(seen(&mut shift, &["02:40:00", "23:59:00"]), "..");
    }

    #[test]
    fn a_clock_that_is_set_back_brings_nothing_twice_and_one_far_ahead_is_forgotten() {
        let mut shift = shift("window = \"4h\"");
        assert_eq!(seen(&mut shift, &["03:00:00"]), "b");
        shift.ended("nightly");
        assert_eq!(seen(&mut shift, &["02:10:00", "02:30:00", "03:00:00"]), "...");
        let far: DateTime<Utc> = "2031-01-01T03:00:00Z".parse().unwrap();
        assert!(matches!(shift.tick(far)[..], [Task::Begin(_)]));
        shift.ended("nightly");
        assert_eq!(seen(&mut shift, &["03:10:00", "03:11:00"]), "b.");
    }

    #[test]
    fn a_worker_that_comes_late_begins_within_the_window_and_misses_after_it() {
        assert_eq!(seen(&mut shift("window = \"4h\""), &["06:29:59", "06:30:00"]), "b.");
        assert_eq!(seen(&mut shift("window = \"4h\""), &["06:30:00", "06:31:00"]), "m.");
        // Without a window: until the next time, or until it would be stopped at once.
        assert_eq!(seen(&mut shift(""), &["23:00:00"]), "b");
        assert_eq!(seen(&mut shift("deadline = \"12h\""), &["14:29:59"]), "b");
        assert_eq!(seen(&mut shift("deadline = \"12h\""), &["14:30:00"]), "m");
    }

    #[test]
    fn a_run_that_takes_longer_than_a_day_is_not_joined_by_a_second() {
        let mut shift = shift("");
        assert_eq!(seen(&mut shift, &["02:30:00"]), "b");
        let next_day = at("02:30:00") + TimeDelta::days(1);
        assert_eq!(shift.tick(next_day), []);
        shift.ended("nightly");
        assert!(matches!(&shift.tick(next_day)[..], [Task::Begin(job)] if job.slot.due_at == next_day));
    }

    #[test]
    fn what_is_read_anew_begins_nothing_twice_and_what_is_off_nothing() {
        let mut shift = shift("window = \"4h\"");
        assert_eq!(seen(&mut shift, &["02:30:00"]), "b");
        shift.take([schedule("nightly", "window = \"5h\"")]);
        assert_eq!(seen(&mut shift, &["02:31:00"]), ".");
        shift.ended("nightly");
        assert_eq!(seen(&mut shift, &["02:32:00"]), ".");
        shift.take([schedule("nightly", "enabled = false"), schedule("other", "enabled = false")]);
        assert_eq!(shift.tick(at("02:33:00") + TimeDelta::days(1)), []);
        assert_eq!(shift.next(at("02:33:00")), None);
    }
}
