//! `tenure.toml`: what an operator says about stores, clusters, limits and promises; and the schedules beside it.
//!
//! One file per concern. Every type refuses keys that it does not know, and [`Config::parse`] refuses settings that contradict each
//! other or whose feature is not built yet. Nothing here is secret: secrets come from files, commands and the environment.

pub mod cluster;
pub mod duration;
pub mod error;
pub mod glob;
pub mod lifecycle;
pub mod limits;
pub mod notify;
mod place;
pub mod policy;
pub mod restore;
pub mod schedule;
pub mod signing;
pub mod store;
pub mod worker;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{
    cluster::Cluster,
    error::ConfigError,
    lifecycle::{Approvals, Elsewhere, Erasure, Remains},
    limits::{Limits, Postgres},
    notify::Notify,
    place::{Places, Top},
    policy::Policy,
    restore::Restore,
    signing::Signing,
    store::{Keyring, Vault},
    worker::Worker,
};
use crate::tenant::TenantName;

/// The whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where sealed backups go.
    pub vault: Vault,
    /// Where keys go.
    pub keyring: Keyring,
    /// Who signs, and whose signatures count.
    #[serde(default)]
    pub signing: Signing,
    /// PostgreSQL servers by name.
    #[serde(default)]
    pub cluster: BTreeMap<String, Cluster>,
    /// How much at once, and how long.
    #[serde(default)]
    pub limits: Limits,
    /// The process that runs schedules.
    #[serde(default)]
    pub worker: Worker,
    /// Who is told what is wrong.
    #[serde(default)]
    pub notify: Notify,
    /// PostgreSQL's own programs.
    #[serde(default)]
    pub postgres: Postgres,
    /// What restores may do.
    #[serde(default)]
    pub restore: Restore,
    /// Retention by tenant; the first that matches counts.
    #[serde(default)]
    pub policy: Vec<Policy>,
    /// How many operators must sign plans.
    #[serde(default)]
    pub approvals: Approvals,
    /// How erasures run.
    #[serde(default)]
    pub erasure: Erasure,
    /// Copies that tenure does not manage.
    #[serde(default)]
    pub elsewhere: Vec<Elsewhere>,
    /// What remains of a tenant outside of databases and backups, and how long.
    #[serde(default)]
    pub remains: Remains,
    /// The folder that relative paths are relative to: the file's own.
    #[serde(skip)]
    pub folder: PathBuf,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file cannot be read, or says something that [`Config::parse`] refuses.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError::unreadable(file, error))?;
        Self::parse(&text, file)
    }

    /// Checks `text`; `file` is its name, for messages and for relative paths.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line, its key and a hint.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let places = Places::new(text, file, Top::Tables)?;
        let mut config: Self = toml::from_str(text).map_err(|error| places.explain(&error))?;
        config.folder = file.parent().map(Path::to_owned).unwrap_or_default();
        config.check(&places)?;
        Ok(config)
    }

    fn check(&self, places: &Places<'_>) -> Result<(), ConfigError> {
        store::check(&self.vault, &self.keyring, places)?;
        cluster::check(&self.cluster, places)?;
        limits::check(&self.limits, places)?;
        worker::check(&self.worker, places)?;
        notify::check(&self.notify, places)?;
        policy::check(&self.policy, places)?;
        if let Some(window) = self.vault.lock.0 {
            policy::check_lock(&self.policy, window, places)?;
        }
        restore::check(&self.restore, places)?;
        lifecycle::check(&self.approvals, places)
    }

    /// A path of the configuration, relative to its file.
    #[must_use]
    pub fn path(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// Adds the policy of tenants that no other covers, which otherwise is not said.
    pub fn show_default_policy(&mut self) {
        if !self.policy.iter().any(Policy::covers_all) {
            self.policy.push(Policy::default());
        }
    }

    /// What was promised for this tenant: the first policy that matches, or the default one.
    #[must_use]
    pub fn policy(&self, tenant: &TenantName) -> Policy {
        self.policy.iter().find(|policy| policy.covers(tenant)).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
