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
}
