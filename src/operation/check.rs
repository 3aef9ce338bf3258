//! `check`: everything that the coming night needs, looked at before the night. All findings at once, each with a hint.
//!
//! It changes nothing, but for a canary under `probe/` in each store, which it tries to replace and to remove as the writer could.

mod canary;
mod host;
mod installation;
mod locks;
mod places;
mod programs;
mod purges;
mod report;
mod server;
mod stores;
mod tenants;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Instant};

use chrono::{DateTime, Utc};

pub use self::report::{Finding, Level, Report};
use super::{
    failure::Failure,
    fleet::{Cluster, Fleet},
};
use crate::{
    postgres::{ConnInfoError, Target, discover::Rules, tools::Tools},
    retention::Keep,
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
    /// The configured signing keys: role and file.
    pub signing_keys: Vec<(&'static str, PathBuf)>,
    /// Files in which an identity may lie, or folders of such files: the configuration's own, and whatever the environment names.
    pub identity_places: Vec<PathBuf>,
    /// How long policies keep backups.
    pub keeps: Vec<Keep>,
    /// `limits.jobs`.
    pub jobs: u32,
    /// `[approvals]`: by verb, how many operators must sign.
    pub approvals: BTreeMap<String, u32>,
    /// This host's clock.
    pub now: DateTime<Utc>,
}

/// One cluster.
pub struct ClusterToCheck {
    /// Its name in the configuration.
    pub name: String,
    /// The primary.
    pub primary: Result<Target, ConnInfoError>,
    /// Which of its databases are tenants.
    pub rules: Result<Rules, Failure>,
    /// The replicas.
    pub replicas: Vec<Result<Target, ConnInfoError>>,
    /// `admin`, where it is configured.
    pub admin: Option<Result<Target, ConnInfoError>>,
    /// `loader`, where it is configured.
    pub loader: Option<Result<Target, ConnInfoError>>,
    /// `connections`.
    pub connections: u32,
}

impl ClusterToCheck {
    /// What discovery works with, if its parts are right.
    fn cluster(&self) -> Option<Cluster> {
        let (Ok(target), Ok(rules)) = (&self.primary, &self.rules) else { return None };
        Some(Cluster {
            name: self.name.clone(),
            target: target.clone(),
            rules: rules.clone(),
            roles: Vec::new(),
            connections: self.connections,
        })
    }
}

/// One store.
pub struct StoreToCheck {
    /// Its address as configured.
    pub url: String,
    /// Where that is.
    pub location: Location,
    /// Opened with the credentials of the role that writes there.
    pub store: Result<Arc<dyn Store>, Failure>,
}

/// This host's clock, without asking it again: the time that the command began, and what has passed since.
#[derive(Clone, Copy)]
struct Clock(DateTime<Utc>, Instant);

impl Clock {
    fn now(self) -> DateTime<Utc> {
        self.0 + self.1.elapsed()
    }
}

/// Looks at everything.
pub async fn check(request: &Request) -> Report {
    let clock = Clock(request.now, Instant::now());
    let (installation, mut stores) = installation::check(request).await;
    let clusters: Vec<Cluster> = request.clusters.iter().filter_map(ClusterToCheck::cluster).collect();
    let fleet = Fleet::discover(&clusters, &installation.known).await;

    let mut report = Report::default();
    let mut versions = Vec::new();
    for cluster in &request.clusters {
        let discovery = fleet.clusters.iter().find(|(discovered, _)| discovered.name == cluster.name);
        let tenants =
            discovery.and_then(|(_, discovery)| discovery.as_ref().ok()).into_iter().flat_map(|discovery| &discovery.found);
        let tenants: Vec<u32> = tenants.map(|found| found.oid).collect();
        let (found, version) = server::check(cluster, &tenants, clock, request.jobs).await;
        report.append(found);
        versions.extend(version);
        if let Some((cluster, discovery)) = discovery {
            report.append(tenants::check(cluster, discovery, (&installation, request.now), request.jobs).await);
        }
    }
    report.append(tenants::check_fleet(&fleet, &installation));
    report.append(purges::check(&installation, &fleet, request.now).await);
    report.append(programs::check(&request.tools, &versions).await);
    report.append(places::check(request));
    stores.append(stores::check(request).await);
    report.append(stores);
    report.append(host::check(request));
    report
}
