//! What of the alarms is to be told now, given what was told before: when one begins, again while it goes on, when it is over. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::message::{Event, Told};
use crate::operation::alarm::{Alarm, AlarmKind, Severity};

/// For so long an alarm must be off before it counts as over: what goes off and on is one alarm.
const SETTLE: TimeDelta = TimeDelta::minutes(10);

/// The longest that [`SETTLE`] grows to, as it doubles with each time that the alarm came back within [`MEMORY`].
const LONGEST_SETTLE: TimeDelta = TimeDelta::hours(6);

/// For so long it is remembered that an alarm was there.
const MEMORY: TimeDelta = TimeDelta::hours(24);

/// What one channel was told. Each has its own: a message that did not get through is still to be told there, and only there.
pub struct Book {
    repeat: TimeDelta,
    known: BTreeMap<(AlarmKind, String), Known>,
}

struct Known {
    alarm: Alarm,
    since: DateTime<Utc>,
    told: Option<(DateTime<Utc>, Severity)>,
    off_since: Option<DateTime<Utc>>,
    /// Whether it was told that it is over.
    over: bool,
    /// How often it came back.
    returns: u32,
}

impl Known {
    fn settle(&self) -> TimeDelta {
        // 2^6 times ten minutes is more than the longest.
        LONGEST_SETTLE.min(SETTLE * (1 << self.returns.min(6)))
    }
}

impl Book {
    /// Empty. `repeat`: after how long what goes on is told again.
    #[must_use]
    pub fn new(repeat: TimeDelta) -> Self {
        Self { repeat, known: BTreeMap::new() }
    }

    /// What is to be told now, when these alarms are on; each event that has any, with its alarms. The same is given again until it is
    /// [`told`](Self::told).
    pub fn turn(&mut self, alarms: &[Alarm], now: DateTime<Utc>) -> Vec<(Event, Vec<Told>)> {
        for known in self.known.values_mut() {
            // A clock that was set back must not make tomorrow of an hour ago.
            known.told = known.told.map(|(when, severity)| (when.min(now), severity));
            known.off_since = known.off_since.map_or(Some(now), |when| Some(when.min(now)));
        }
        for alarm in alarms {
            let fresh = || Known { alarm: alarm.clone(), since: now, told: None, off_since: None, over: false, returns: 0 };
            let known = self.known.entry((alarm.kind, alarm.object.clone())).or_insert_with(fresh);
            // `off_since` was set a moment ago to now, unless it was off before.
            if known.off_since.take().is_some_and(|since| since < now) {
                known.returns = known.returns.saturating_add(1);
            }
            if known.over {
                (known.since, known.told, known.over) = (now, None, false);
            }
            known.alarm = alarm.clone();
        }
        self.known.retain(|_, known| match known.off_since {
            Some(since) if known.over => now - since < MEMORY,
            // Nobody knows of it: nobody needs to know that it is over.
            Some(_) => known.told.is_some(),
            None => true,
        });
        let (mut firing, mut repeated, mut resolved) = (Vec::new(), Vec::new(), Vec::new());
        for known in self.known.values().filter(|known| !known.over) {
            let list = match (known.off_since, known.told) {
                (Some(since), _) if now - since >= known.settle() => &mut resolved,
                (None, None) => &mut firing,
                (None, Some((_, severity))) if severity < known.alarm.severity => &mut firing,
                (None, Some((when, _))) if now - when >= self.repeat => &mut repeated,
                _ => continue,
            };
            list.push(Told { alarm: known.alarm.clone(), since: known.since });
        }
        let mut events = vec![(Event::Firing, firing), (Event::Repeat, repeated), (Event::Resolved, resolved)];
        events.retain(|(_, alarms)| !alarms.is_empty());
        for (_, alarms) in &mut events {
            alarms.sort_by_key(|told| std::cmp::Reverse(told.alarm.severity));
        }
        events
    }

    /// These got through.
    pub fn told(&mut self, event: Event, alarms: &[Told], now: DateTime<Utc>) {
        for Told { alarm, .. } in alarms {
            let Some(known) = self.known.get_mut(&(alarm.kind, alarm.object.clone())) else { continue };
            match event {
                Event::Resolved => known.over = true,
                _ => known.told = Some((now, alarm.severity)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A channel that takes everything, and a clock in minutes.
    struct Channel(Book);

    fn channel() -> Channel {
        Channel(Book::new(TimeDelta::hours(24)))
    }

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::minutes(minutes)
    }

    fn late(tenant: &str) -> Alarm {
        Alarm::new(AlarmKind::TenantLate, tenant, "it is late")
    }

    impl Channel {
        /// What is told, like `firing acme`.
        fn told(&mut self, minutes: i64, alarms: &[Alarm]) -> Vec<String> {
            let mut said = Vec::new();
            for (event, alarms) in self.0.turn(alarms, at(minutes)) {
                self.0.told(event, &alarms, at(minutes));
                said.extend(alarms.iter().map(|told| format!("{} {}", event.as_str(), told.alarm.object)));
            }
            said
        }
    }

    #[test]
    fn an_alarm_is_told_when_it_begins_again_each_day_and_when_it_is_over() {
        let mut channel = channel();
        assert_eq!(channel.told(0, &[]), [""; 0]);
        assert_eq!(channel.told(1, &[late("acme")]), ["firing acme"]);
        for minute in 2..(24 * 60) {
            assert_eq!(channel.told(minute, &[late("acme")]), [""; 0], "{minute}");
        }
        assert_eq!(channel.told(24 * 60 + 1, &[late("acme"), late("b")]), ["firing b", "repeat acme"]);
        assert_eq!(channel.told(24 * 60 + 2, &[late("b")]), [""; 0], "not yet: it may come back");
        assert_eq!(channel.told(24 * 60 + 11, &[late("b")]), [""; 0]);
        assert_eq!(channel.told(24 * 60 + 12, &[late("b")]), ["resolved acme"]);
        assert_eq!(channel.told(24 * 60 + 13, &[late("b")]), [""; 0]);
        assert_eq!(channel.told(48 * 60 + 1, &[late("b")]), ["repeat b"]);
    }

    #[test]
    fn what_goes_off_and_on_is_one_alarm() {
        let mut channel = channel();
        assert_eq!(channel.told(0, &[late("acme")]), ["firing acme"]);
        for minute in 1..600 {
            let on = if minute % 8 < 4 { vec![late("acme")] } else { Vec::new() };
            assert_eq!(channel.told(minute, &on), [""; 0], "{minute}");
        }
    }

    #[test]
    fn one_that_comes_back_every_half_hour_is_told_less_and_less() {
        let mut channel = channel();
        let mut said = 0;
        for minute in 0..(24 * 60) {
            let on = if minute % 30 < 15 { vec![late("acme")] } else { Vec::new() };
            said += channel.told(minute, &on).len();
        }
        assert!((3..12).contains(&said), "{said}");
    }

    #[test]
    fn who_was_not_told_is_told_later_and_nobody_is_told_the_end_of_what_he_never_heard_of() {
        let mut channel = channel();
        let lost = channel.0.turn(&[late("acme")], at(0));
        assert_eq!(lost.len(), 1, "and it does not get through");
        assert_eq!(channel.told(5, &[late("acme"), late("b")]), ["firing acme", "firing b"]);
        channel.0.turn(&[late("acme"), late("b"), late("c")], at(6));
        assert_eq!(channel.told(30, &[late("acme"), late("b")]), [""; 0], "c came and went");
        channel.0.turn(&[], at(31));
        assert_eq!(channel.0.turn(&[], at(41)).len(), 1, "that it is over does not get through either");
        assert_eq!(channel.told(42, &[]), ["resolved acme", "resolved b"]);
    }

    #[test]
    fn what_gets_worse_is_told_at_once() {
        let mut channel = channel();
        let skew = Alarm::new(AlarmKind::ClockSkew, "store", "five minutes");
        assert_eq!(channel.told(0, std::slice::from_ref(&skew)), ["firing store"]);
        assert_eq!(channel.told(1, &[Alarm { severity: Severity::Critical, ..skew.clone() }]), ["firing store"]);
        assert_eq!(channel.told(2, &[skew]), [""; 0]);
    }

    #[test]
    fn a_clock_that_is_set_back_silences_nobody_for_long() {
        let mut channel = channel();
        assert_eq!(channel.told(10_000, &[late("acme")]), ["firing acme"]);
        assert_eq!(channel.told(0, &[late("acme")]), [""; 0]);
        assert_eq!(channel.told(24 * 60, &[late("acme")]), ["repeat acme"]);
        assert_eq!(channel.told(10_000, &[]), [""; 0]);
        assert_eq!(channel.told(30, &[]), [""; 0]);
        assert_eq!(channel.told(40, &[]), ["resolved acme"]);
    }

    #[test]
    fn what_is_long_over_is_forgotten() {
        let mut channel = channel();
        channel.told(0, &[late("acme")]);
        channel.told(1, &[]);
        assert_eq!(channel.told(11, &[]), ["resolved acme"]);
        channel.told(24 * 60 + 2, &[]);
        assert!(channel.0.known.is_empty());
    }
}
