//! The nights in which clocks are changed.

use chrono::{DateTime, Datelike as _, NaiveDateTime, TimeDelta, Timelike as _, Utc};
use chrono_tz::{America::New_York, Asia::Kolkata, Australia::Lord_Howe, Europe::Berlin, Tz, UTC};
use proptest::prelude::*;

use super::{cron, shown, times, utc};

/// A zone, the noons before its clock is set forward and back, what it shows before and after, and its two offsets.
struct Nights {
    zone: Tz,
    forward: &'static str,
    back: &'static str,
    winter: &'static str,
    summer: &'static str,
}

const BERLIN: Nights =
    Nights { zone: Berlin, forward: "2027-03-27T12:00:00Z", back: "2027-10-30T12:00:00Z", winter: "+01:00", summer: "+02:00" };
const NEW_YORK: Nights =
    Nights { zone: New_York, forward: "2027-03-13T17:00:00Z", back: "2027-11-06T17:00:00Z", winter: "-05:00", summer: "-04:00" };
const LORD_HOWE: Nights =
    Nights { zone: Lord_Howe, forward: "2027-10-02T02:00:00Z", back: "2027-04-03T02:00:00Z", winter: "+10:30", summer: "+11:00" };

impl Nights {
    /// What follows the noon before; `w` and `s` at the end of an expected time are winter's and summer's offset.
    fn follow(&self, noon: &str, text: &str, expected: &[&str]) {
        let expected: Vec<String> = expected
            .iter()
            .map(|time| time.replace(" w", &format!(" {}", self.winter)).replace(" s", &format!(" {}", self.summer)))
            .collect();
        let found: Vec<String> =
            shown(text, noon, self.zone, expected.len()).iter().map(|time| time["2027-".len()..].to_owned()).collect();
        assert_eq!(found, expected, "{text} in {} after {noon}", self.zone);
    }
}

#[test]
fn what_the_clock_leaves_out_runs_once_right_after_it() {
    // 02:00 becomes 03:00.
    let forward = |text, expected| BERLIN.follow(BERLIN.forward, text, expected);
    forward("30 2 * * *", &["03-28 03:00 s", "03-29 02:30 s"]);
    forward("30 1 * * *", &["03-28 01:30 w", "03-29 01:30 s"]);
    forward("0 3 * * *", &["03-28 03:00 s", "03-29 03:00 s"]);
    // Several of them, and one that is due then anyhow: once.
    forward("0,15,30 2,3 * * *", &["03-28 03:00 s", "03-28 03:15 s", "03-28 03:30 s", "03-29 02:00 s"]);
    forward("59 2 28 3 *", &["03-28 03:00 s"]);
    NEW_YORK.follow(NEW_YORK.forward, "30 2 * * *", &["03-14 03:00 s", "03-15 02:30 s"]);
    // 02:00 becomes 02:30.
    LORD_HOWE.follow(LORD_HOWE.forward, "15 2 * * *", &["10-03 02:30 s", "10-04 02:15 s"]);
    LORD_HOWE.follow(LORD_HOWE.forward, "45 2 * * *", &["10-03 02:45 s", "10-04 02:45 s"]);
}

#[test]
fn what_comes_twice_runs_the_first_time_alone() {
    // 03:00 becomes 02:00.
    let back = |text, expected| BERLIN.follow(BERLIN.back, text, expected);
    back("30 2 * * *", &["10-31 02:30 s", "11-01 02:30 w"]);
    back("0 2,3 * * *", &["10-31 02:00 s", "10-31 03:00 w", "11-01 02:00 w"]);
    back(
        "0,30 1-3 * * *",
        &["10-31 01:00 s", "10-31 01:30 s", "10-31 02:00 s", "10-31 02:30 s", "10-31 03:00 w", "10-31 03:30 w"],
    );
    // 02:00 becomes 01:00.
    NEW_YORK.follow(NEW_YORK.back, "30 1 * * *", &["11-07 01:30 s", "11-08 01:30 w"]);
    // 02:00 becomes 01:30.
    LORD_HOWE.follow(LORD_HOWE.back, "45 1 * * *", &["04-04 01:45 s", "04-05 01:45 w"]);
    LORD_HOWE.follow(LORD_HOWE.back, "15 1 * * *", &["04-04 01:15 s", "04-05 01:15 w"]);
    // Asked between the two.
    assert_eq!(shown("30 2 * * *", "2027-10-31T00:45:00Z", Berlin, 1), ["2027-11-01 02:30 +01:00"]);
    assert_eq!(shown("30 2 * * *", "2027-10-31T01:15:00Z", Berlin, 1), ["2027-11-01 02:30 +01:00"]);
}

#[test]
fn a_star_for_minute_or_hour_follows_the_clock() {
    let forward = |text, expected| BERLIN.follow("2027-03-28T00:15:00Z", text, expected);
    forward("*/30 * * * *", &["03-28 01:30 w", "03-28 03:00 s", "03-28 03:30 s"]);
    forward("30 * * * *", &["03-28 01:30 w", "03-28 03:30 s"]);
    forward("30 */2 * * *", &["03-28 04:30 s", "03-28 06:30 s"]);
    forward("*/30 2 * * *", &["03-29 02:00 s", "03-29 02:30 s"]);
    let back = |text, expected| BERLIN.follow("2027-10-30T23:45:00Z", text, expected);
    back("*/30 * * * *", &["10-31 02:00 s", "10-31 02:30 s", "10-31 02:00 w", "10-31 02:30 w", "10-31 03:00 w"]);
    back("@hourly", &["10-31 02:00 s", "10-31 02:00 w", "10-31 03:00 w"]);
    NEW_YORK.follow("2027-11-07T05:15:00Z", "30 * * * *", &["11-07 01:30 s", "11-07 01:30 w", "11-07 02:30 w"]);
    LORD_HOWE.follow(
        "2027-04-03T14:20:00Z",
        "*/15 * * * *",
        &["04-04 01:30 s", "04-04 01:45 s", "04-04 01:30 w", "04-04 01:45 w", "04-04 02:00 w"],
    );
    LORD_HOWE.follow("2027-10-02T15:10:00Z", "*/15 * * * *", &["10-03 01:45 w", "10-03 02:30 s", "10-03 02:45 s"]);
}

/// One item of a field: from, to, step, and whether it is written as a star.
type Item = (u32, u32, u32, bool);

fn item(first: u32, last: u32) -> impl Strategy<Value = Item> {
    prop_oneof![
        3 => Just((first, last, 1, true)),
        1 => (1..=last).prop_map(move |step| (first, last, step, true)),
        3 => (first..=last).prop_map(|n| (n, n, 1, false)),
        2 => (first..=last, first..=last, 1..=last).prop_map(|(a, b, step)| (a.min(b), a.max(b), step, false)),
    ]
}

fn field(first: u32, last: u32) -> impl Strategy<Value = Vec<Item>> {
    prop::collection::vec(item(first, last), 1..3)
}

/// Often one of the hours in which clocks are changed.
fn hours() -> impl Strategy<Value = Vec<Item>> {
    prop_oneof![1 => field(0, 23), 1 => (1..=3_u32).prop_map(|n| vec![(n, n, 1, false)])]
}

/// Days that are seldom left out, so that there is something to compare.
fn days(first: u32, last: u32) -> impl Strategy<Value = Vec<Item>> {
    prop_oneof![2 => Just(vec![(first, last, 1, true)]), 1 => field(first, last)]
}

fn written(items: &[Item]) -> String {
    let one = |&(from, to, step, star): &Item| match (star, step) {
        (true, 1) => "*".to_owned(),
        (true, step) => format!("*/{step}"),
        _ if from == to => from.to_string(),
        _ => format!("{from}-{to}/{step}"),
    };
    items.iter().map(one).collect::<Vec<_>>().join(",")
}

fn fits(items: &[Item], n: u32) -> bool {
    items.iter().any(|(from, to, step, _)| (*from..=*to).contains(&n) && (n - from).is_multiple_of(*step))
}

/// Goes through every minute and looks, as cron itself does.
struct Naive([Vec<Item>; 5]);

impl Naive {
    fn fits(&self, shown: NaiveDateTime) -> bool {
        let Self([minute, hour, day, month, weekday]) = self;
        let sunday_is = |n| fits(weekday, n);
        let on_weekday = match shown.weekday().num_days_from_sunday() {
            0 => sunday_is(0) || sunday_is(7),
            n => sunday_is(n),
        };
        let on_day = fits(day, shown.day());
        let either = if day[0].3 || weekday[0].3 { on_day && on_weekday } else { on_day || on_weekday };
        fits(minute, shown.minute()) && fits(hour, shown.hour()) && fits(month, shown.month()) && either
    }

    /// Every time after `from` and up to `to`.
    fn times(&self, from: DateTime<Utc>, to: DateTime<Utc>, zone: Tz) -> Vec<DateTime<Utc>> {
        let follows_clock = self.0[0][0].3 || self.0[1][0].3;
        let shows = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local();
        let minute = TimeDelta::minutes(1);
        // The latest time that the clock ever showed, from long enough before.
        let mut at = from - TimeDelta::hours(30);
        let mut latest = shows(at);
        let mut found = Vec::new();
        while at < to {
            at += minute;
            let now = shows(at);
            let is_due = if follows_clock {
                self.fits(now)
            } else {
                let mut passed =
                    std::iter::successors(Some(latest + minute), |shown| Some(*shown + minute)).take_while(|shown| *shown <= now);
                passed.any(|shown| self.fits(shown))
            };
            latest = latest.max(now);
            if is_due && at > from {
                found.push(at);
            }
        }
        found
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn next_times_are_those_that_a_look_at_every_minute_finds(
        fields in (field(0, 59), hours(), days(1, 31), days(1, 12), days(0, 7)),
        zone in prop::sample::select(vec![
            (Berlin, BERLIN.forward), (Berlin, BERLIN.back), (New_York, NEW_YORK.forward), (New_York, NEW_YORK.back),
            (Lord_Howe, LORD_HOWE.forward), (Lord_Howe, LORD_HOWE.back), (UTC, "2028-02-28T12:00:00Z"), (Kolkata, "2026-12-30T12:00:00Z"),
        ]),
        before in 0..2_000_i64,
    ) {
        let (zone, noon) = zone;
        let fields = [fields.0, fields.1, fields.2, fields.3, fields.4];
        let text = fields.iter().map(|items| written(items)).collect::<Vec<_>>().join(" ");
        // Some days never come.
        let Ok(cron) = tenure::config::schedule::cron::Cron::try_from(text.clone()) else { return Ok(()) };
        let from = utc(noon) + TimeDelta::minutes(1_000 - before);
        let to = from + TimeDelta::hours(40);
        let expected = Naive(fields).times(from, to, zone);
        let found: Vec<DateTime<Utc>> = times(&cron, from, zone).map(|time| time.to_utc()).take_while(|time| *time <= to).collect();
        prop_assert_eq!(found, expected, "{} in {} after {}", text, zone, from);
    }
}

#[test]
fn the_look_at_every_minute_sees_the_changed_nights() {
    let at = |n| vec![(n, n, 1, false)];
    let every = || vec![(0, 31, 1, true)];
    let fixed = Naive([at(30), at(2), every(), every(), every()]);
    for (noon, expected) in [(BERLIN.forward, "2027-03-28T01:00:00Z"), (BERLIN.back, "2027-10-31T00:30:00Z")] {
        let (from, found) = (utc(noon), utc(expected));
        assert_eq!(fixed.times(from, from + TimeDelta::hours(24), Berlin), [found]);
    }
    assert_eq!(
        times(&cron("30 2 * * *"), utc(BERLIN.forward), Berlin).next(),
        Some(utc("2027-03-28T01:00:00Z").with_timezone(&Berlin))
    );
}
