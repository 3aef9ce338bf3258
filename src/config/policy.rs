//! `[[policy]]`: what was promised to whom.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    duration::Span,
    error::ConfigError,
    glob::Glob,
    place::{Places, Step},
};
use crate::{object_lock::Window, retention::Keep, tenant::TenantName};

/// One `[[policy]]`. The first that covers a tenant counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a table: [[policy]]")]
pub struct Policy {
    /// Tenants that it covers; every one by default.
    pub tenants: Vec<Glob>,
    /// How long a backup is kept after its backup time.
    #[schemars(with = "String")]
    pub keep: Keep,
    /// From which age of its newest backup on a tenant counts as late.
    pub late_after: Span,
    /// Tables (`schema.table`) whose rows are not backed up; their definition is.
    pub exclude_data: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            tenants: vec![Glob("*".into())],
            keep: "6 months".parse().expect("six months is a retention"),
            late_after: Span::from_secs(26 * 3600),
            exclude_data: Vec::new(),
        }
    }
}

impl Policy {
    /// Whether it covers every tenant.
    #[must_use]
    pub fn covers_all(&self) -> bool {
        self.tenants.iter().any(Glob::is_everything)
    }

    /// Whether it covers this tenant.
    #[must_use]
    pub fn covers(&self, tenant: &TenantName) -> bool {
        self.tenants.iter().any(|glob| glob.matches(tenant.as_str()))
    }
}

/// Backups must be kept longer than anything is locked, or they would expire and could not be removed.
pub(super) fn check_lock(policies: &[Policy], window: Window, places: &Places<'_>) -> Result<(), ConfigError> {
    let too_short = |policy: &Policy| policy.keep.shortest() <= window.longest();
    let refuse = |path: &[Step<'_>], keep: Keep, whose: &str| {
        let message = format!(
            "`keep` is {keep}{whose}, and `vault.lock`, \"{window}\", locks for up to {}: backups would expire before they could be removed",
            days(window)
        );
        places.refuse(path, message, "keep backups longer than one and a half times the days of the lock, or lock for fewer days")
    };
    if let Some((n, policy)) = policies.iter().enumerate().find(|(_, policy)| too_short(policy)) {
        return Err(refuse(&["policy".into(), n.into(), "keep".into()], policy.keep, ""));
    }
    let default = Policy::default();
    if !policies.iter().any(Policy::covers_all) && too_short(&default) {
        return Err(refuse(&["vault".into(), "lock".into()], default.keep, " by default"));
    }
    Ok(())
}

/// How long a window locks, in days.
fn days(window: Window) -> String {
    let hours = window.longest().num_hours();
    format!("{}{} days", hours / 24, if hours % 24 == 0 { "" } else { ".5" })
}

pub(super) fn check(policies: &[Policy], places: &Places<'_>) -> Result<(), ConfigError> {
    let mut covers_all = None;
    for (n, policy) in policies.iter().enumerate() {
        let refuse =
            |key: &str, message: String, hint: &str| places.refuse(&["policy".into(), n.into(), key.into()], message, hint);
        if let Some(earlier) = covers_all {
            let message = format!("policy {} is never reached: policy {} covers every tenant", n + 1, earlier + 1usize);
            return Err(refuse("tenants", message, "the first policy that matches counts: put the one for everybody last"));
        }
        if policy.tenants.is_empty() {
            return Err(refuse(
                "tenants",
                format!("policy {} covers nobody: `tenants` is empty", n + 1),
                "leave `tenants` out to cover every tenant",
            ));
        }
        if let Some(table) =
            policy.exclude_data.iter().find(|table| table.split_once('.').is_none_or(|(a, b)| a.is_empty() || b.is_empty()))
        {
            let message = format!("`{table}` in exclude_data is not a table with its schema");
            return Err(refuse("exclude_data", message, "write schema.table, like \"public.sessions\""));
        }
        if policy.covers_all() {
            covers_all = Some(n);
        }
    }
    Ok(())
}
