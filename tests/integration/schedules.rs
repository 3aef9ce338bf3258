//! Schedules: what their expressions mean, what a file may say, and what `tenure schedules` shows.

mod clocks;
mod files;
mod meaning;
mod program;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use tenure::config::schedule::cron::Cron;

fn cron(text: &str) -> Cron {
    Cron::try_from(text.to_owned()).unwrap_or_else(|error| panic!("{error}"))
}

fn utc(time: &str) -> DateTime<Utc> {
    time.parse().unwrap()
}

/// The next times after a moment, as that zone's clocks show them.
fn times(cron: &Cron, after: DateTime<Utc>, zone: Tz) -> impl Iterator<Item = DateTime<Tz>> + '_ {
    std::iter::successors(cron.next(after, zone), move |time| cron.next(time.to_utc(), zone))
}

/// The next times after a moment, `2027-03-28 02:30 +01:00` each.
fn shown(text: &str, after: &str, zone: Tz, count: usize) -> Vec<String> {
    let cron = cron(text);
    times(&cron, utc(after), zone).take(count).map(|time| time.format("%Y-%m-%d %H:%M %:z").to_string()).collect()
}
