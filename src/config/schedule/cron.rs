//! Five-field crontab(5) expressions: what they mean, and when they come next in a time zone.
//!
//! The fields are read here, because the `cron` crate's expressions have others: seconds, Sunday as 1, and a day that must fit both day fields.
//! What was read is handed to it as plain lists of numbers, and it searches the calendar.

use std::{collections::BTreeSet, str::FromStr as _};

use chrono::{DateTime, Datelike as _, MappedLocalTime, NaiveDateTime, Offset as _, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A crontab(5) expression: five fields, or `@hourly`, `@daily` and their like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Cron {
    text: String,
    /// Comes when any of them does: with both day fields restricted there is one for each of the two.
    any: Vec<cron::Schedule>,
    /// Whether the minute or the hour is a star. Such a job follows the clock, also through the nights when the clock is changed; any other
    /// runs once for each time that it names.
    follows_clock: bool,
}

/// Text that is not such an expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {why}: expected {expected}")]
pub struct CronError {
    text: String,
    why: String,
    expected: String,
}

/// What is wrong, and what was expected instead.
type Wrong = (String, String);

struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    /// Names of its numbers, from `first` on.
    names: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", first: 0, last: 59, names: &[] };
const HOUR: Field = Field { name: "hour", first: 0, last: 23, names: &[] };
const DAY: Field = Field { name: "day of the month", first: 1, last: 31, names: &[] };
const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const MONTH: Field = Field { name: "month", first: 1, last: 12, names: MONTHS };
const WEEKDAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// 0 and 7 are Sunday.
const WEEKDAY: Field = Field { name: "day of the week", first: 0, last: 7, names: WEEKDAYS };

const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

const FIVE_FIELDS: &str = "minute, hour, day of the month, month and day of the week, like `30 2 * * *`, or @daily";

impl Field {
    /// Every number that the field names. Lists of numbers, names and ranges; `/` and a step after a range or a star.
    fn read(&self, text: &str) -> Result<BTreeSet<u32>, Wrong> {
        let mut numbers = BTreeSet::new();
        for item in text.split(',') {
            let (range, step) = item.split_once('/').map_or((item, None), |(range, step)| (range, Some(step)));
            let (from, to) = match range.split_once('-') {
                _ if range == "*" => (self.first, self.last),
                Some((from, to)) => (self.number(from)?, self.number(to)?),
                None if step.is_some() => {
                    let why = format!("a step needs a range to go through, and `{item}` has none");
                    return Err((why, format!("`{range}-{}/{}` or `*/{}`", self.last, step.unwrap_or("2"), step.unwrap_or("2"))));
                }
                None => (self.number(range)?, self.number(range)?),
            };
            if from > to {
                let why = format!("`{range}` of the {} ends before it begins", self.name);
                let rest = if to == self.first { to.to_string() } else { format!("{}-{to}", self.first) };
                return Err((why, format!("two ranges, like `{from}-{},{rest}`", self.last)));
            }
            let step = match step.map(|step| (step, number(step))) {
                None => 1,
                Some((_, Some(step))) if (1..=self.last).contains(&step) => step,
                Some((step, _)) => {
                    let why = format!("`{step}` is not a step for the {}", self.name);
                    return Err((why, format!("a number from 1 to {}", self.last)));
                }
            };
            numbers.extend((from..=to).step_by(step as usize));
        }
        Ok(numbers)
    }

    fn number(&self, text: &str) -> Result<u32, Wrong> {
        let named = || self.names.iter().position(|name| name.eq_ignore_ascii_case(text)).and_then(|at| u32::try_from(at).ok());
        let found = number(text).or_else(|| named().map(|at| at + self.first));
        found.filter(|number| (self.first..=self.last).contains(number)).ok_or_else(|| {
            let names = match self.names {
                [first, .., last] => format!(" or a name from {first} to {last}"),
                _ => String::new(),
            };
            let article = if self.name.starts_with('h') { "an" } else { "a" };
            (format!("`{text}` is not {article} {}", self.name), format!("a number from {} to {}{names}", self.first, self.last))
        })
    }
}

/// Digits alone: no sign, no spaces.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// As the crate writes a set of numbers.
fn list(numbers: &BTreeSet<u32>, all: usize) -> String {
    if numbers.len() == all {
        return "*".to_owned();
    }
    numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn read(text: &str) -> Result<(Vec<cron::Schedule>, bool), Wrong> {
    let fields = match NICKNAMES.iter().find(|(name, _)| *name == text) {
        Some((_, fields)) => fields,
        None if text == "@reboot" => {
            return Err(("a schedule is a time, and the start of a host is none".to_owned(), FIVE_FIELDS.to_owned()));
        }
        None if text.starts_with('@') => {
            let known = NICKNAMES.map(|(name, _)| name).join(", ");
            return Err(("there is no such name for a schedule".to_owned(), format!("one of {known}")));
        }
        None => text,
    };
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let [minute, hour, day, month, weekday] = fields[..] else {
        let why = format!("it has {} field{}, and crontab(5) has five", fields.len(), if fields.len() == 1 { "" } else { "s" });
        return Err((why, FIVE_FIELDS.to_owned()));
    };
    let is_star = |field: &str| field.starts_with('*');
    let minutes = list(&MINUTE.read(minute)?, 60);
    let hours = list(&HOUR.read(hour)?, 24);
    let days = list(&DAY.read(day)?, 31);
    let months = list(&MONTH.read(month)?, 12);
    // The crate's week begins with Sunday as 1.
    let weekdays = list(&WEEKDAY.read(weekday)?.into_iter().map(|day| day % 7 + 1).collect(), 7);
    let expression = |days: &str, weekdays: &str| {
        let text = format!("0 {minutes} {hours} {days} {months} {weekdays}");
        cron::Schedule::from_str(&text).expect("numbers within their ranges are an expression of the crate")
    };
    // crontab(5): restricted both, a day that fits either will do; with a star at the beginning of one, `*/2` too, it must fit both.
    let any = if is_star(day) || is_star(weekday) {
        vec![expression(&days, &weekdays)]
    } else {
        vec![expression(&days, "*"), expression("*", &weekdays)]
    };
    if any.iter().all(|schedule| schedule.after(&DateTime::UNIX_EPOCH).next().is_none()) {
        return Err(("that day never comes".to_owned(), "a day that the month has".to_owned()));
    }
    Ok((any, is_star(minute) || is_star(hour)))
}

impl TryFrom<String> for Cron {
    type Error = CronError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        match read(text.trim()) {
            Ok((any, follows_clock)) => {
                Ok(Self { text: text.split_ascii_whitespace().collect::<Vec<_>>().join(" "), any, follows_clock })
            }
            Err((why, expected)) => Err(CronError { text, why, expected }),
        }
    }
}

impl From<Cron> for String {
    fn from(cron: Cron) -> Self {
        cron.text
    }
}

impl std::fmt::Display for Cron {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.text)
    }
}

impl Cron {
    /// The first time after `after` in a zone; `None` when there is none before the year 2101, as far as the crate looks.
    ///
    /// Where the clock is set forward, what would come in the time left out comes right after it, once; where it is set back, what would
    /// come twice comes the first time alone. An expression with a star for minute or hour goes by the clock instead, as Debian's cron has it:
    /// what is left out does not come, and what is there twice comes twice.
    #[must_use]
    pub fn next(&self, after: DateTime<Utc>, zone: Tz) -> Option<DateTime<Tz>> {
        // The crate looks from 1970 to 2100, and at the ends of time no zone has a clock.
        if after.year() > 2100 {
            return None;
        }
        let after = after.max(DateTime::UNIX_EPOCH);
        let clock = after.with_timezone(&zone);
        let shown = clock.naive_local();
        if !self.follows_clock {
            return self.ticks(shown).map_while(|tick| reached(tick, zone)).find(|time| *time > after);
        }
        let first = self.ticks(shown).filter_map(|tick| zone.from_local_datetime(&tick).earliest()).find(|time| *time > after);
        // Set back soon, the clock will show again what it showed before now.
        let later = clock + TimeDelta::days(1);
        let back = i64::from(clock.offset().fix().local_minus_utc()) - i64::from(later.offset().fix().local_minus_utc());
        let again = self.ticks(shown - TimeDelta::seconds(back.max(0)));
        let second = again.filter_map(|tick| zone.from_local_datetime(&tick).latest()).find(|time| *time > after);
        first.into_iter().chain(second).min()
    }

    /// The last time up to `now` in a zone; `None` when there was none in the ten years before.
    #[must_use]
    pub fn last(&self, now: DateTime<Utc>, zone: Tz) -> Option<DateTime<Tz>> {
        // The search goes forward only: from ever further back, so that what comes each minute is not searched for years.
        [1, 24, 8 * 24, 32 * 24, 366 * 24, 3660 * 24].into_iter().find_map(|hours| {
            let from = now - TimeDelta::hours(hours);
            let times = std::iter::successors(self.next(from, zone), |time| self.next(time.to_utc(), zone));
            times.take_while(|time| *time <= now).last()
        })
    }

    /// What a clock shows when it comes, after it showed `after`; a clock that is never changed.
    fn ticks(&self, after: NaiveDateTime) -> impl Iterator<Item = NaiveDateTime> + '_ {
        let next = |after: &NaiveDateTime| {
            let after = after.and_utc();
            self.any.iter().filter_map(|schedule| schedule.after(&after).next()).min().map(|time| time.naive_utc())
        };
        std::iter::successors(next(&after), next)
    }
}

/// When the clock of a zone first shows a time, or, where that is left out, goes past it.
fn reached(shown: NaiveDateTime, zone: Tz) -> Option<DateTime<Tz>> {
    // No clock was ever set forward by more than a day.
    (0..=24 * 60).find_map(|minutes| match zone.from_local_datetime(&(shown + TimeDelta::minutes(minutes))) {
        MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => Some(time),
        MappedLocalTime::None => None,
    })
}
