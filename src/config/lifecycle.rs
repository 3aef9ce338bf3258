//! `[approvals]`, `[erasure]`, `[[elsewhere]]` and `[remains]`: how a tenant leaves.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{duration::Span, error::ConfigError, place::Places};
use crate::retention::Keep;

/// `[approvals]`: by verb, how many operators must sign its plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Approvals(pub BTreeMap<String, u32>);

impl Approvals {
    /// How many operators must sign the plans of a verb; 0 where nobody is asked.
    #[must_use]
    pub fn needed(&self, verb: &str) -> u32 {
        self.0.get(verb).copied().unwrap_or(0)
    }
}

/// `[erasure]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Erasure {
    /// How long an erasure can still be undone.
    pub grace: Span,
    /// How many may begin within a day: a guard against accidents.
    pub per_day: u32,
    /// How long after its grace an erasure that is not through, or a purge or a drop after it was begun, is an alarm.
    pub overdue_after: Span,
}

impl Erasure {
    /// The grace, as what is added to a time.
    #[must_use]
    pub fn grace(&self) -> TimeDelta {
        TimeDelta::from_std(self.grace.get()).unwrap_or(TimeDelta::MAX)
    }

    /// From when on an erasure takes too long.
    #[must_use]
    pub fn overdue_after(&self) -> TimeDelta {
        TimeDelta::from_std(self.overdue_after.get()).unwrap_or(TimeDelta::MAX)
    }
}

impl Default for Erasure {
    fn default() -> Self {
        Self { grace: Span::from_secs(7 * 86_400), per_day: 10, overdue_after: Span::from_secs(2 * 86_400) }
    }
}

/// One `[[elsewhere]]`: copies that tenure does not manage, named on every certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Elsewhere {
    /// What they are.
    pub name: String,
    /// When the last of them is gone, counted from an erasure.
    #[schemars(with = "String")]
    pub gone_after: Keep,
}

/// `[remains]`: by kind (`logs`), how long traces of a tenant stay outside of databases and backups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(with = "BTreeMap<String, String>")]
pub struct Remains(pub BTreeMap<String, Keep>);

/// The verbs that approvals are for.
const VERBS: [&str; 6] = ["drop", "purge", "erase", "release", "admit", "keys"];

pub(super) fn check(approvals: &Approvals, places: &Places<'_>) -> Result<(), ConfigError> {
    for (verb, needed) in &approvals.0 {
        let path = ["approvals".into(), verb.as_str().into()];
        if !VERBS.contains(&verb.as_str()) {
            let message = format!("unknown key `{verb}` in [approvals]");
            return Err(places.refuse(&path, message, format!("approvals are for {}", VERBS.join(", "))));
        }
        // Whoever writes the line believes that plans are signed.
        if *needed == 0 {
            let message = format!("`approvals.{verb}` is 0: nobody would have to sign");
            return Err(places.refuse(&path, message, "write how many operators must sign, or leave the line out".to_owned()));
        }
    }
    Ok(())
}
