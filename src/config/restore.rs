//! `[restore]`: what restores may do without being told each time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{error::ConfigError, place::Places};

/// `[restore]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The default of `restore --allow`: things in a backup that run with the server's rights. See [`is_allowance`].
    #[serde(default)]
    pub allow: Vec<String>,
}

/// What an allowance may be, for messages.
pub const ALLOWANCES: &str = "c-functions, extension:NAME, event-triggers, powerful-owners, subscriptions, superuser-code, all";

/// Whether `text` is one of [`ALLOWANCES`].
#[must_use]
pub fn is_allowance(text: &str) -> bool {
    matches!(text, "c-functions" | "event-triggers" | "powerful-owners" | "subscriptions" | "superuser-code" | "all")
        || text.strip_prefix("extension:").is_some_and(|name| !name.is_empty())
}

pub(super) fn check(restore: &Restore, places: &Places<'_>) -> Result<(), ConfigError> {
    match restore.allow.iter().find(|text| !is_allowance(text)) {
        Some(text) => Err(places.refuse(
            &["restore".into(), "allow".into()],
            format!("`{text}` in restore.allow is nothing that could be allowed"),
            format!("use any of {ALLOWANCES}"),
        )),
        None => Ok(()),
    }
}
