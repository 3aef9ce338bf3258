//! `tenants`: who there is, on the clusters and in the vault, and how safe each is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    erased,
    failure::{Failure, FailureClass},
    fleet::{Cluster, Fleet, Known, Resident},
    lost,
};
use crate::{id::Locker, keyring::Keyring, tenant::TenantName, vault::Vault};

/// Tenants looked at at once.
const READERS: usize = 16;

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

/// What the vault holds of one tenant.
#[derive(Default)]
struct Holding {
    newest: Option<(String, DateTime<Utc>)>,
    backups: u64,
    /// It has backups whose time is over.
    has_expired: bool,
    bytes: u64,
    erased: bool,
    suspended_until: Option<DateTime<Utc>>,
    held: bool,
}

impl Tenants<'_> {
    /// Looks at the clusters and the vault.
    ///
    /// # Errors
    /// Vault or keyring out of reach. A cluster out of reach is in the report.
    pub async fn run(&self, now: DateTime<Utc>) -> Result<TenantsReport, Failure> {
        let known = Known::read(self.vault, self.keyring).await?;
        let fleet = Fleet::discover(self.clusters, &known).await;
        let residents = fleet.residents();
        let ambiguous = fleet.ambiguous();
        let closed: BTreeMap<&TenantName, &str> = fleet
            .clusters
            .iter()
            .filter_map(|(cluster, discovery)| Some((cluster, discovery.as_ref().ok()?)))
            .flat_map(|(cluster, discovery)| discovery.closed.iter().map(|closed| (&closed.tenant, cluster.name.as_str())))
            .collect();
        let unreachable: BTreeSet<&str> =
            fleet.clusters.iter().filter(|(_, d)| d.is_err()).map(|(cluster, _)| cluster.name.as_str()).collect();

        let mut names: BTreeSet<&TenantName> = known.census.tenants.keys().collect();
        names.extend(residents.keys().chain(ambiguous.keys()).chain(closed.keys().copied()));
        let holdings: BTreeMap<&TenantName, Holding> = stream::iter(names)
            .map(async |name| {
                let lockers = known.census.tenants.get(name).map(crate::keyring::TenantKeys::lockers).unwrap_or_default();
                Ok::<_, Failure>((name, self.holding(name, &lockers, now).await?))
            })
            .buffer_unordered(READERS)
            .try_collect()
            .await?;

        let tenants = holdings.into_iter().map(|(name, holding)| {
            let resident = residents.get(name);
            let recorded = known.sources.get(name).map(|source| source.cluster.as_str());
            let cluster = resident.map(|resident| resident.cluster.name.as_str()).or(closed.get(name).copied()).or(recorded);
            let age = holding.newest.as_ref().map(|(_, at)| u64::try_from((now - at).num_seconds()).unwrap_or(0));
            let state = if holding.suspended_until.is_some() {
                TenantState::Suspended
            } else if holding.erased {
                TenantState::Erased
            } else if ambiguous.contains_key(name) {
                TenantState::Ambiguous
            } else if closed.contains_key(name) {
                TenantState::Closed
            } else if let Some(resident) = resident {
                self.state_of(resident, &known, age, holding.has_expired)
            } else if known.dropped.contains_key(name) {
                TenantState::Dropped
            } else if recorded.is_some_and(|cluster| unreachable.contains(cluster)) {
                TenantState::Unknown
            } else {
                TenantState::Missing
            };
            Tenant {
                tenant: name.as_str().to_owned(),
                cluster: cluster.map(str::to_owned),
                database: resident.map(|resident| resident.found.database.clone()),
                schema: None,
                state,
                suspended_until: holding.suspended_until,
                newest_taken_at: holding.newest.as_ref().map(|(_, at)| *at),
                newest_backup: holding.newest.map(|(id, _)| id),
                age_seconds: age,
                backups: holding.backups,
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
        problems.extend(known.returned.iter().cloned());
        problems.extend(known.census.tenants.values().flat_map(lost::without_secret));
        problems.extend(lost::problems(self.vault, self.keyring, &known.census).await?);
        let lost = (problems.len() > of_clusters).then_some(FailureClass::Integrity);
        let class = FailureClass::worst(unreachable.into_iter().chain(lost));
        Ok(TenantsReport { tenants, unassigned: fleet.unassigned(), problems, class })
    }

    fn state_of(&self, resident: &Resident, known: &Known, age: Option<u64>, has_expired: bool) -> TenantState {
        let moved = known.sources.get(&resident.tenant).is_some_and(|source| {
            source.system_identifier != resident.system_identifier || source.database_oid != resident.found.oid
        });
        match age {
            _ if moved => TenantState::Moved,
            None if has_expired => TenantState::Late,
            None => TenantState::New,
            Some(age) if Duration::from_secs(age) > (self.late_after)(&resident.tenant) => TenantState::Late,
            Some(_) => TenantState::Good,
        }
    }

    async fn holding(&self, name: &TenantName, lockers: &[Locker], now: DateTime<Utc>) -> Result<Holding, Failure> {
        let tag = self.keyring.tag(name);
        let erasures = erased::read_both(self.vault, self.keyring, tag).await?;
        let suspended_until = erasures.grace_until().filter(|until| *until > now);
        let mut holding = Holding { erased: erasures.is_refused(), suspended_until, ..Holding::default() };
        for locker in lockers {
            holding.held |= self.vault.holds(*locker).await?.is_held();
            let history = self.vault.history(*locker, now).await?;
            holding.has_expired |= history.backups.iter().any(|backup| backup.is_expired(now));
            for backup in history.live(now) {
                let manifest = &backup.manifest;
                holding.backups += 1;
                if holding.newest.as_ref().is_none_or(|(_, at)| manifest.taken_at > *at) {
                    holding.newest = Some((manifest.backup.to_string(), manifest.taken_at));
                }
            }
            holding.bytes += self.vault.stored_chunks(*locker).await?.values().sum::<u64>();
            holding.bytes += self.vault.stored_pages(*locker).await?.values().sum::<u64>();
        }
        Ok(holding)
    }
}
