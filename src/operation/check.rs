//! `check`: everything that the coming night needs, looked at before the night. All findings at once, each with a hint.

mod host;
mod report;

use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};

pub use self::report::{Finding, Level, Report};
use super::failure::Failure;
use crate::{
    postgres::{ConnInfoError, Target, tools::Tools},
    store::{Location, Store},
};

/// What to look at. Parts that could not even be opened are given as the failure, which becomes a finding.
pub struct Request {
    /// Every configured cluster.
    pub clusters: Vec<ClusterToCheck>,
    /// Where `pg_dump` and `pg_restore` are looked for.
    pub tools: Tools,
    /// The vault, with the writer's credentials.
    pub vault: StoreToCheck,
    /// The keyring, with the writer's credentials.
    pub keyring: StoreToCheck,
    /// Its mirrors.
    pub mirrors: Vec<StoreToCheck>,
    /// `keyring.accept_single_keyring`.
    pub accept_single_keyring: bool,
    /// The recovery recipients.
    pub recipients: Vec<String>,
    /// `allowed_signers` of this host.
    pub allowed_signers: PathBuf,
    /// The configured signing keys: role and file. A key that several roles share stands here several times.
    pub signing_keys: Vec<(&'static str, PathBuf)>,
    /// Files in which an identity may lie, or folders of such files: the configuration's own, and whatever the environment names.
    pub identity_places: Vec<PathBuf>,
    /// `limits.jobs`.
    pub jobs: u32,
    /// This host's clock.
    pub now: DateTime<Utc>,
}

/// One cluster.
pub struct ClusterToCheck {
    /// Its name in the configuration.
    pub name: String,
    /// The primary.
    pub primary: Result<Target, ConnInfoError>,
    /// The replicas.
    pub replicas: Vec<Result<Target, ConnInfoError>>,
    /// `admin`, where it is configured.
    pub admin: Option<Result<Target, ConnInfoError>>,
    /// `loader`, where it is configured.
    pub loader: Option<Result<Target, ConnInfoError>>,
    /// `connections`.
    pub connections: u32,
}

/// One store.
pub struct StoreToCheck {
    /// Its address as configured.
    pub url: String,
    /// Where it is.
    pub location: Location,
    /// Opened with the credentials of the role that writes there.
    pub store: Result<Arc<dyn Store>, Failure>,
}

/// Looks at everything.
pub async fn check(request: &Request) -> Report {
    let mut report = Report::default();
    report.append(host::check(request));
    report
}
