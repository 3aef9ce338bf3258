//! `tenants`: who there is, on the clusters and in the vault, and how safe each is.

pub(in crate::operation) mod look;

use std::time::Duration;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use self::look::{Depth, Look, Looked, age};
use super::{
    failure::{Failure, FailureClass},
    fleet::Cluster,
    lost,
};
use crate::{keyring::Keyring, tenant::TenantName, vault::Vault};

/// What `tenants` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TenantsReport {
    /// Every tenant that a cluster or the keyring knows, by name.
    pub tenants: Vec<Tenant>,
    /// Databases that match no rule, as `cluster/database`.
    pub unassigned: Vec<String>,
    /// What could not be looked at.
    pub problems: Vec<String>,
    /// The gravest class among the problems, which decides the exit code.
    #[serde(skip)]
    pub class: Option<FailureClass>,
}

/// One tenant.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Tenant {
    /// Its name.
    pub tenant: String,
    /// Its cluster: where it is found now, else where it was recorded.
    pub cluster: Option<String>,
    /// Its database, where it is found now.
    pub database: Option<String>,
    /// Its schema, where schemas are tenants.
    pub schema: Option<String>,
    /// How it is.
    pub state: TenantState,
    /// Of a suspended one: nothing of it is destroyed before this time.
    pub suspended_until: Option<DateTime<Utc>>,
    /// Id of its newest backup that is not expired.
    pub newest_backup: Option<String>,
    /// When that was taken.
    pub newest_taken_at: Option<DateTime<Utc>>,
    /// How old it is.
    pub age_seconds: Option<u64>,
    /// Backups that are not expired.
    pub backups: u64,
    /// Whether it is on hold: nothing of it expires or is purged.
    pub on_hold: bool,
    /// Sealed bytes that the vault holds for it.
    pub bytes_stored: u64,
}

/// How a tenant is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TenantState {
    /// It has a backup that is young enough.
    Good,
    /// Its newest backup is older than its policy says, or all that it had are over.
    Late,
    /// It has no backup yet.
    New,
    /// It has backups, and no database answers to it.
    Missing,
    /// Tenure dropped its database; its backups stay.
    Dropped,
    /// Its database is another one than recorded: `admit --source` or a restore must say that it is right.
    Moved,
    /// Several databases answer to it.
    Ambiguous,
    /// Its database takes no connections.
    Closed,
    /// It is being erased: it is refused, and nothing of it is destroyed yet.
    Suspended,
    /// It was erased or purged.
    Erased,
    /// Its cluster could not be asked.
    Unknown,
}

impl TenantState {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Late => "late",
            Self::New => "new",
            Self::Missing => "missing",
            Self::Dropped => "dropped",
            Self::Moved => "moved",
            Self::Ambiguous => "ambiguous",
            Self::Closed => "closed",
            Self::Suspended => "suspended",
            Self::Erased => "erased",
            Self::Unknown => "unknown",
        }
    }
}

/// What it works with.
pub struct Tenants<'a> {
    /// Where backups are.
    pub vault: &'a Vault,
    /// Where keys are.
    pub keyring: &'a Keyring,
    /// The fleet.
    pub clusters: &'a [Cluster],
    /// From which age of its newest backup on a tenant is late.
    pub late_after: &'a (dyn Fn(&TenantName) -> Duration + Sync),
}

impl Tenants<'_> {
    /// Looks at the clusters and the vault.
    ///
    /// # Errors
    /// Vault or keyring out of reach. A cluster out of reach is in the report.
    pub async fn run(&self, now: DateTime<Utc>) -> Result<TenantsReport, Failure> {
        let Look { known, fleet, tenants } = self.look(Depth::Sizes, now).await?;
        let tenants = tenants.into_iter().map(|(name, Looked { cluster, resident, state, holding, .. })| {
            let newest = holding.newest(now);
            Tenant {
                tenant: name.as_str().to_owned(),
                cluster,
                database: resident.map(|resident| resident.found.database),
                schema: None,
                state,
                suspended_until: holding.suspended_until,
                newest_taken_at: newest.map(|newest| newest.taken_at),
                newest_backup: newest.map(|newest| newest.backup.to_string()),
                age_seconds: newest.map(|newest| age(newest.taken_at, now)),
                backups: holding.live,
                on_hold: holding.held,
                bytes_stored: holding.bytes,
            }
        });
        let tenants = tenants.collect();
        let failed = fleet.clusters.iter().filter_map(|(cluster, discovery)| Some((cluster, discovery.as_ref().err()?)));
        let mut problems: Vec<String> = failed
            .map(|(cluster, failure)| format!("cluster {} could not be asked: {}", cluster.name, failure.one_line()))
            .collect();
        let unreachable = (!problems.is_empty()).then_some(FailureClass::Failed);
        let of_clusters = problems.len();
        problems.extend(known.untrusted().map(|(tenant, error)| format!("tenant {tenant}: {error}; run `tenure verify`")));
        problems.extend(known.returned.iter().map(|returned| returned.said.clone()));
        problems.extend(known.census.tenants.values().flat_map(lost::without_secret));
        problems.extend(lost::problems(self.vault, self.keyring, &known.census).await?);
        let lost = (problems.len() > of_clusters).then_some(FailureClass::Integrity);
        let class = FailureClass::worst(unreachable.into_iter().chain(lost));
        Ok(TenantsReport { tenants, unassigned: fleet.unassigned(), problems, class })
    }
}
