//! How long a backup is kept: calendar arithmetic, and nothing else.

use chrono::{DateTime, Days, Months, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

/// A span of calendar time: `6 months`, `40 days`, `2 weeks`, `1 year`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Keep {
    count: u32,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Day,
    Week,
    Month,
    Year,
}

/// Text that is not a retention.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a retention: expected a number from 1 to 9999 and days, weeks, months or years, like `6 months`")]
pub struct KeepError {
    text: String,
}

impl Keep {
    /// The first moment at which a backup taken at `taken_at` is no longer kept. All in UTC.
    ///
    /// Months and years keep the day of the month, or the month's last day where it has no such day:
    /// `2026-08-31` plus six months is `2027-02-28`.
    ///
    /// Past the last moment that a calendar here can name, in the year 262,142, it is that moment.
    #[must_use]
    pub fn expiry(self, taken_at: DateTime<Utc>) -> DateTime<Utc> {
        let end = match self.unit {
            Unit::Day => taken_at.checked_add_days(Days::new(self.count.into())),
            Unit::Week => taken_at.checked_add_days(Days::new(u64::from(self.count) * 7)),
            Unit::Month => taken_at.checked_add_months(Months::new(self.count)),
            Unit::Year => taken_at.checked_add_months(Months::new(self.count * 12)),
        };
        end.unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

impl Keep {
    /// The shortest that it ever lasts: `1 month` is 28 days in some Februaries.
    #[must_use]
    pub fn shortest(self) -> TimeDelta {
        // Four years have every sequence of months, but for the day that 2100 lacks. From the first of a month on it is as long as from
        // the last day of the one before.
        let begin = DateTime::UNIX_EPOCH;
        let starts = (0..48).map(|months| begin + Months::new(months));
        starts.map(|start| self.expiry(start) - start).min().unwrap_or_default()
    }
}

impl std::str::FromStr for Keep {
    type Err = KeepError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || KeepError { text: text.to_owned() };
        let (count, unit) = text.split_once(' ').ok_or_else(wrong)?;
        if count.is_empty() || count.starts_with('0') || count.len() > 4 || !count.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let unit = match unit {
            "day" | "days" => Unit::Day,
            "week" | "weeks" => Unit::Week,
            "month" | "months" => Unit::Month,
            "year" | "years" => Unit::Year,
            _ => return Err(wrong()),
        };
        Ok(Self { count: count.parse().map_err(|_| wrong())?, unit })
    }
}

impl std::fmt::Display for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = match self.unit {
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
            Unit::Year => "year",
        };
        write!(f, "{} {unit}{}", self.count, if self.count == 1 { "" } else { "s" })
    }
}

impl TryFrom<String> for Keep {
    type Error = KeepError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Keep> for String {
    fn from(keep: Keep) -> Self {
        keep.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Keep;
    use chrono::{DateTime, Utc};

    fn after(start: &str, keep: &str) -> String {
        let start: DateTime<Utc> = start.parse().unwrap();
        keep.parse::<Keep>().unwrap().expiry(start).to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    }

    #[test]
    fn months_end_where_months_end() {
        assert_eq!(after("2026-08-31T03:00:00Z", "6 months"), "2027-02-28T03:00:00Z");
        assert_eq!(after("2027-08-31T03:00:00Z", "6 months"), "2028-02-29T03:00:00Z");
        assert_eq!(after("2026-11-21T23:59:59Z", "6 months"), "2027-05-21T23:59:59Z");
        assert_eq!(after("2028-02-29T00:00:00Z", "1 year"), "2029-02-28T00:00:00Z");
        assert_eq!(after("2026-03-28T02:30:00Z", "2 days"), "2026-03-30T02:30:00Z");
        assert_eq!(after("2026-12-30T00:00:00Z", "1 week"), "2027-01-06T00:00:00Z");
    }

    #[test]
    fn the_shortest_month_is_february() {
        let shortest = |keep: &str| keep.parse::<Keep>().unwrap().shortest().num_days();
        assert_eq!((shortest("40 days"), shortest("2 weeks")), (40, 14));
        assert_eq!((shortest("1 month"), shortest("2 months"), shortest("6 months")), (28, 59, 181));
        assert_eq!((shortest("1 year"), shortest("4 years")), (365, 1461));
    }

    #[test]
    fn the_end_of_the_calendar_is_an_end() {
        for keep in ["9999 days", "9999 weeks", "9999 months", "9999 years"] {
            let keep: Keep = keep.parse().unwrap();
            assert_eq!(keep.expiry(DateTime::<Utc>::MAX_UTC), DateTime::<Utc>::MAX_UTC);
            assert!(keep.expiry(DateTime::<Utc>::MIN_UTC) > DateTime::<Utc>::MIN_UTC);
        }
    }

    #[test]
    fn only_a_number_and_a_unit() {
        for bad in [
            "",
            "6",
            "months",
            "0 months",
            "-1 days",
            "6  months",
            "6 Months",
            "06 months",
            "10000 days",
            "6 months ",
            "1.5 years",
        ] {
            assert!(bad.parse::<Keep>().is_err(), "{bad}");
        }
        assert_eq!("1 months".parse::<Keep>().unwrap().to_string(), "1 month");
        assert_eq!(serde_json::to_string(&"6 months".parse::<Keep>().unwrap()).unwrap(), "\"6 months\"");
    }

    /// The calendar once more, by counting days one year and one month after the other.
    mod calendar {
        fn month_length(year: i64, month: i64) -> i64 {
            let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            match month {
                2 if is_leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            }
        }

        /// Year, month and day of a day since 1970.
        fn date(mut days: i64) -> (i64, i64, i64) {
            let (mut year, mut month) = (1970, 1);
            while days >= month_length(year, month) {
                days -= month_length(year, month);
                (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            }
            (year, month, days + 1)
        }

        fn days_to(year: i64, month: i64, day: i64) -> i64 {
            let months = (1970..year).flat_map(|year| (1..=12).map(move |month| (year, month)));
            let before: i64 =
                months.chain((1..month).map(|month| (year, month))).map(|(year, month)| month_length(year, month)).sum();
            before + day - 1
        }

        /// Seconds since 1970 of the end.
        pub(super) fn end(start: i64, count: i64, unit: &str) -> i64 {
            let (days, time) = (start / 86_400, start % 86_400);
            let months = match unit {
                "days" => return start + count * 86_400,
                "weeks" => return start + count * 7 * 86_400,
                "months" => count,
                _ => 12 * count,
            };
            let (year, month, day) = date(days);
            let months = month - 1 + months;
            let (year, month) = (year + months / 12, 1 + months % 12);
            days_to(year, month, day.min(month_length(year, month))) * 86_400 + time
        }
    }

    proptest::proptest! {
        #[test]
        fn it_ends_where_the_calendar_ends_it(start in 0..16_725_225_600_i64, count in 1..=400_i64, unit in proptest::sample::select(&["days", "weeks", "months", "years"])) {
            let keep: Keep = format!("{count} {unit}").parse().unwrap();
            let taken_at = DateTime::from_timestamp(start, 123_456_789).unwrap();
            let expiry = keep.expiry(taken_at);
            proptest::prop_assert_eq!((expiry.timestamp(), expiry.timestamp_subsec_nanos()), (calendar::end(start, count, unit), 123_456_789));
        }

        /// Who was backed up later is kept as long or longer: no night's backup ever goes before that of the night before.
        #[test]
        fn what_was_taken_later_ends_later_or_at_the_same_time(start in 0..16_725_225_600_i64, later in 0..400_000_000_i64, count in 1..=100_i64, unit in proptest::sample::select(&["days", "weeks", "months", "years"])) {
            let keep: Keep = format!("{count} {unit}").parse().unwrap();
            let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
            let (first, second) = (keep.expiry(at(start)), keep.expiry(at(start + later)));
            // The last days of a long month end on the same day: by the time of day then.
            proptest::prop_assert!(first.date_naive() <= second.date_naive());
        }

        /// The zone in which somebody reads the clock changes nothing.
        #[test]
        fn only_the_moment_counts(start in 0..16_725_225_600_i64, offset in -14 * 3600..=14 * 3600_i32) {
            let keep: Keep = "6 months".parse().unwrap();
            let moment = DateTime::from_timestamp(start, 0).unwrap();
            let there = moment.with_timezone(&chrono::FixedOffset::east_opt(offset / 60 * 60).unwrap());
            let read: DateTime<Utc> = there.to_rfc3339().parse().unwrap();
            proptest::prop_assert_eq!(keep.expiry(read), keep.expiry(moment));
        }
    }

    #[test]
    fn the_calendar_is_that_of_utc() {
        // It is the first of March in Berlin, and still February here.
        assert_eq!(after("2027-03-01T00:30:00+01:00", "6 months"), "2027-08-28T23:30:00Z");
        assert_eq!(after("2026-08-31T23:30:00-02:00", "6 months"), "2027-03-01T01:30:00Z");
    }
}
