//! Object lock: for how long what is stored cannot be removed, and when that is renewed. Dates, and nothing else.
//!
//! With a window of W days, every object is stored under a lock of 1.5 W, and every backup leaves all that it needs locked for W at least.
//! The half in between is what renewals are spread over: each index page has its night in a cycle of W / 2 days.

use std::fmt;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

use crate::id::Sha256Digest;

/// Locks of one night are no further apart.
const TONIGHT: TimeDelta = TimeDelta::hours(12);

/// How firm a lock is. What is greater is firmer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Who has the right to bypass it may remove the object, or shorten the lock.
    Governance,
    /// Nobody may, not even the account's owner.
    Compliance,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Governance => "governance",
            Self::Compliance => "compliance",
        })
    }
}

/// The lock of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// How firm.
    pub mode: Mode,
    /// Until when, in whole seconds: stores know no less.
    pub until: DateTime<Utc>,
}

impl Lock {
    /// Until the next whole second at or after `until`, so that no store rounds it down to less.
    #[must_use]
    pub fn new(mode: Mode, until: DateTime<Utc>) -> Self {
        let whole = until.trunc_subsecs(0);
        Self { mode, until: if whole < until { whole + TimeDelta::seconds(1) } else { whole } }
    }

    /// Whether it is as firm and as long as `asked`.
    #[must_use]
    pub fn covers(&self, asked: &Self) -> bool {
        self.mode >= asked.mode && self.until >= asked.until
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} until {}", self.mode, self.until.format("%Y-%m-%d %H:%M:%S UTC"))
    }
}

/// What a vault promises: that what its newest backups need cannot be removed for so many days. `governance 35 days`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How firm.
    pub mode: Mode,
    /// W. From 1 to 3,650.
    days: u32,
}

/// Text that is not a window.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an object lock: expected `none`, or governance or compliance and 1 to 3650 days, like `governance 35 days`"
)]
pub struct WindowError(pub String);

impl Window {
    /// The lock of what is stored now: 1.5 W.
    #[must_use]
    pub fn fresh(&self, now: DateTime<Utc>) -> Lock {
        Lock::new(self.mode, now + self.longest())
    }

    /// Until when everything must be locked that a backup of now needs: W.
    #[must_use]
    pub fn least(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + TimeDelta::days(self.days.into())
    }

    /// The longest that a lock of this window lasts: 1.5 W. Backups must be kept longer.
    #[must_use]
    pub fn longest(&self) -> TimeDelta {
        TimeDelta::hours(i64::from(self.days) * 36)
    }

    /// Whether the page of this digest, and the chunks that it names, are to be renewed now. `held` is until when all of them are locked
    /// at least, where that is known.
    ///
    /// They are when less than W is left, and in the page's own night, which its digest chooses: so what was stored in one night is not
    /// renewed in one night. A date beyond every lock that is given now is no knowledge.
    #[must_use]
    pub fn is_due(&self, page: Sha256Digest, held: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
        let believable = |held: &DateTime<Utc>| *held >= self.least(now) && *held <= self.fresh(now).until + TONIGHT;
        let Some(held) = held.filter(believable) else { return true };
        let cycle = i64::from(self.days / 2).max(1);
        let slot = page.0.first_chunk::<4>().map_or(0, |bytes| i64::from(u32::from_be_bytes(*bytes))) % cycle;
        let today = now.timestamp().div_euclid(86_400);
        today % cycle == slot && !self.is_fresh(held, now)
    }

    /// Whether what is locked so long was locked in this night, by this host's clock or another's.
    #[must_use]
    pub fn is_fresh(&self, held: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        (held - self.fresh(now).until).abs() <= TONIGHT
    }
}

impl std::str::FromStr for Window {
    type Err = WindowError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || WindowError(text.to_owned());
        let [mode, count, unit] = text.split(' ').collect::<Vec<_>>()[..] else { return Err(wrong()) };
        let mode = match mode {
            "governance" => Mode::Governance,
            "compliance" => Mode::Compliance,
            _ => return Err(wrong()),
        };
        let unit = match unit {
            "day" | "days" => 1,
            "week" | "weeks" => 7,
            _ => return Err(wrong()),
        };
        if !count.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let days = count.parse::<u32>().ok().and_then(|count| count.checked_mul(unit)).filter(|days| (1..=3650).contains(days));
        Ok(Self { mode, days: days.ok_or_else(wrong)? })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} day{}", self.mode, self.days, if self.days == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_mode_and_days() {
        assert_eq!("governance 35 days".parse(), Ok(Window { mode: Mode::Governance, days: 35 }));
        assert_eq!("compliance 5 weeks".parse::<Window>().unwrap().to_string(), "compliance 35 days");
        assert_eq!("compliance 1 day".parse::<Window>().unwrap().to_string(), "compliance 1 day");
        for bad in [
            "",
            "governance",
            "governance 35",
            "35 days",
            "governance 0 days",
            "governance 3651 days",
            "governance 1 month",
            "Governance 35 days",
            "governance  35 days",
            "governance +35 days",
            "governance 35 days ",
            "legal 35 days",
        ] {
            assert_eq!(bad.parse::<Window>(), Err(WindowError(bad.to_owned())));
        }
    }

    #[test]
    fn a_fresh_lock_lasts_one_and_a_half_windows_and_never_less() {
        let window: Window = "governance 35 days".parse().unwrap();
        let now = at("2026-11-22T03:00:00.25Z");
        assert_eq!(window.fresh(now).until, at("2027-01-13T15:00:01Z"));
        assert_eq!(window.least(now), at("2026-12-27T03:00:00.25Z"));
        assert!(window.fresh(now).until - now >= window.longest());
    }

    #[test]
    fn a_firmer_or_longer_lock_covers_another() {
        let lock = |mode, until| Lock { mode, until: at(until) };
        let asked = lock(Mode::Governance, "2027-01-13T15:00:00Z");
        assert!(asked.covers(&asked));
        assert!(lock(Mode::Compliance, "2027-01-14T15:00:00Z").covers(&asked));
        assert!(!asked.covers(&lock(Mode::Compliance, "2027-01-13T15:00:00Z")));
        assert!(!lock(Mode::Compliance, "2027-01-13T14:59:59Z").covers(&asked));
        assert_eq!(asked.to_string(), "governance until 2027-01-13 15:00:00 UTC");
    }

    /// Two hundred nights, with pages that were all stored in the first.
    #[test]
    fn no_night_renews_everything_and_none_leaves_less_than_the_window() {
        for (text, most) in [("governance 35 days", 160), ("compliance 14 days", 330), ("governance 2 days", 1000)] {
            let window: Window = text.parse().unwrap();
            let start = at("2026-11-22T02:30:00Z");
            let mut held = vec![window.fresh(start).until; 1000];
            for night in 1..200 {
                // Cron is not exact, and one night in forty is missed.
                let now = start + TimeDelta::days(night) + TimeDelta::minutes((night * 37) % 11);
                if night % 40 == 0 {
                    continue;
                }
                let mut renewed = 0;
                for (page, held) in held.iter_mut().enumerate() {
                    if window.is_due(Sha256Digest::of(&page.to_be_bytes()), Some(*held), now) {
                        *held = window.fresh(now).until;
                        renewed += 1;
                    }
                    assert!(*held >= window.least(now), "{text}, night {night}");
                }
                assert!(renewed <= most, "{text}: {renewed} pages in night {night}");
            }
        }
    }

    #[test]
    fn what_nobody_knows_to_be_locked_is_due() {
        let window: Window = "governance 35 days".parse().unwrap();
        let now = at("2026-11-22T02:30:00Z");
        let page = Sha256Digest::of(b"page");
        assert!(window.is_due(page, None, now));
        assert!(window.is_due(page, Some(window.least(now) - TimeDelta::seconds(1)), now));
        assert!(!window.is_due(page, Some(window.fresh(now).until + TimeDelta::hours(1)), now), "another host's clock");
        let never_given = window.fresh(now).until + TimeDelta::days(1);
        assert!(window.is_due(page, Some(never_given), now) && !window.is_fresh(never_given, now));
        let nights = (0..17).filter(|night| {
            let now = now + TimeDelta::days(*night);
            window.is_due(page, Some(window.least(now)), now)
        });
        assert_eq!(nights.count(), 1, "its own, in a cycle of 17");
        assert!((0..17).all(|night| {
            let now = now + TimeDelta::days(night);
            !window.is_due(page, Some(window.fresh(now).until), now)
        }));
    }
}
