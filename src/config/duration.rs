//! Lengths of time that do not depend on a calendar.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `20s`, `5 min`, `26h`, `7 days`: a whole number and a unit from seconds to weeks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Span(Duration);

/// Text that is not a length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a length of time: expected a whole number and s, min, h, days or weeks, like `20s` or `7 days`")]
pub struct SpanError(String);

const UNITS: [(&str, u64, &[&str]); 5] = [
    ("weeks", 604_800, &["w", "week"]),
    ("days", 86_400, &["d", "day"]),
    ("h", 3_600, &["hour", "hours"]),
    ("min", 60, &["m", "minute", "minutes"]),
    ("s", 1, &["sec", "second", "seconds"]),
];

impl Span {
    /// So many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As the standard library's type.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (count, unit) = text.split_at(digits);
        let unit = unit.strip_prefix(' ').unwrap_or(unit);
        let seconds =
            UNITS.iter().find(|(name, _, others)| *name == unit || others.contains(&unit)).map(|(_, seconds, _)| *seconds);
        match (count.parse::<u64>().ok(), seconds) {
            // Ten years: whoever writes more has slipped.
            (Some(count), Some(seconds)) if count <= 315_360_000 / seconds => Ok(Self::from_secs(count * seconds)),
            _ => Err(SpanError(text)),
        }
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.0.as_secs();
        let (name, unit, others) =
            // Weeks are understood, and said in days.
            UNITS[1..].iter().find(|(_, unit, _)| seconds > 0 && seconds.is_multiple_of(*unit)).unwrap_or(&UNITS[UNITS.len() - 1]);
        let count = seconds / unit;
        match *name {
            // Only words are set apart, and have a singular.
            "days" => write!(f, "{count} {}", if count == 1 { others[1] } else { name }),
            _ => write!(f, "{count}{name}"),
        }
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Span;

    fn seconds(text: &str) -> Option<u64> {
        Span::try_from(text.to_owned()).ok().map(|span| span.get().as_secs())
    }

    #[test]
    fn a_number_and_a_unit() {
        assert_eq!(seconds("20s"), Some(20));
        assert_eq!(seconds("26h"), Some(93_600));
        assert_eq!(seconds("7 days"), Some(604_800));
        assert_eq!(seconds("5 minutes"), Some(300));
        for bad in ["", "20", "s", "-1s", "1.5h", "20  s", "1 month", "99999999999999999999s", "20S"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn it_reads_what_it_writes() {
        for (seconds, text) in
            [(0, "0s"), (20, "20s"), (90, "90s"), (300, "5min"), (86_400, "1 day"), (93_600, "26h"), (604_800, "7 days")]
        {
            let span = Span::from_secs(seconds);
            assert_eq!(span.to_string(), text);
            assert_eq!(Span::try_from(text.to_owned()), Ok(span));
        }
    }
}
