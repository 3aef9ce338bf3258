//! `[approvals]`, `[erasure]`, `[[elsewhere]]` and `[remains]`: how a tenant leaves.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{duration::Span, error::ConfigError, place::Places};
use crate::retention::Keep;

/// `[approvals]`: by verb, how many operators must sign its plan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Approvals(pub BTreeMap<String, u32>);

/// `[erasure]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Erasure {
    /// How long an erasure can still be undone.
    pub grace: Span,
}

impl Default for Erasure {
    fn default() -> Self {
        Self { grace: Span::from_secs(7 * 86_400) }
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
    if let Some(verb) = approvals.0.keys().next() {
        let path = ["approvals".into(), verb.as_str().into()];
        if !VERBS.contains(&verb.as_str()) {
            let message = format!("unknown key `{verb}` in [approvals]");
            return Err(places.refuse(&path, message, format!("approvals are for {}", VERBS.join(", "))));
        }
        // Even 0 is refused: whoever writes the line believes that plans are signed.
        return Err(places.not_built(
            &path,
            "signing of plans",
            "remove [approvals]; this version has no command that needs one",
        ));
    }
    Ok(())
}
