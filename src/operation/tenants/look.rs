//! Who there is, and what the vault holds of each: what `tenants` and `status` both go by.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{TenantState, Tenants};
use crate::{
    backup_id::BackupId,
    format::manifest::Manifest,
    id::{Locker, NameTag},
    keyring::TenantKeys,
    operation::{
        erased::Erasures,
        failure::Failure,
        fleet::{Fleet, Known, Resident},
    },
    retention::Keep,
    tenant::TenantName,
    vault::{findings::Findings, history::Problem},
};

/// Tenants looked at at once.
const READERS: usize = 16;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::operation) enum Depth {
    /// Every manifest, and what is stored besides, to add it up.
    Sizes,
    /// So many manifests of each locker, the newest by their names; and what verifies found.
    Newest(usize),
}

/// What was seen.
pub(in crate::operation) struct Look {
    pub(in crate::operation) known: Known,
    pub(in crate::operation) fleet: Fleet,
    /// By name.
    pub(in crate::operation) tenants: BTreeMap<TenantName, Looked>,
}

/// One tenant.
pub(in crate::operation) struct Looked {
    /// Where it is found now, else where it was recorded.
    pub(in crate::operation) cluster: Option<String>,
    /// Its database, where one answers to it and to it alone.
    pub(in crate::operation) resident: Option<Resident>,
    pub(in crate::operation) state: TenantState,
    /// When its first key was made: a tenant is known at least since then.
    pub(in crate::operation) key_since: Option<DateTime<Utc>>,
    pub(in crate::operation) holding: Holding,
}

/// What the vault holds of one tenant.
#[derive(Default)]
pub(in crate::operation) struct Holding {
    pub(in crate::operation) tag: Option<NameTag>,
    pub(in crate::operation) lockers: Vec<Locker>,
    /// Backups that were read and count, expired ones among them: the newest first.
    pub(in crate::operation) read: Vec<Brief>,
    /// Backups that are not over. Of those that were not read their names tell.
    pub(in crate::operation) live: u64,
    /// Backups that are over, likewise.
    pub(in crate::operation) expired: u64,
    pub(in crate::operation) bytes: u64,
    pub(in crate::operation) erased: bool,
    pub(in crate::operation) suspended_until: Option<DateTime<Utc>>,
    pub(in crate::operation) held: bool,
    pub(in crate::operation) problems: Vec<Problem>,
    /// What verifies found, where that was asked for.
    pub(in crate::operation) findings: Vec<(Locker, Findings)>,
}

/// What is kept of a manifest: a fleet's pages would be much.
#[derive(Clone, Copy)]
pub(in crate::operation) struct Brief {
    pub(in crate::operation) backup: BackupId,
    pub(in crate::operation) sequence: u64,
    pub(in crate::operation) taken_at: DateTime<Utc>,
    pub(in crate::operation) server_time: DateTime<Utc>,
    pub(in crate::operation) keep: Keep,
    pub(in crate::operation) expires_at: DateTime<Utc>,
    pub(in crate::operation) bytes_read: u64,
    pub(in crate::operation) bytes_stored: u64,
}

impl From<&Manifest> for Brief {
    fn from(manifest: &Manifest) -> Self {
        Self {
            backup: manifest.backup,
            sequence: manifest.sequence,
            taken_at: manifest.taken_at,
            server_time: manifest.server_time,
            keep: manifest.keep,
            expires_at: manifest.expires_at,
            bytes_read: manifest.totals.bytes_read,
            bytes_stored: manifest.totals.bytes_stored,
        }
    }
}

impl Holding {
    /// The newest backup that is not over.
    pub(in crate::operation) fn newest(&self, now: DateTime<Utc>) -> Option<&Brief> {
        self.read.iter().find(|brief| brief.expires_at > now)
    }
}

impl Tenants<'_> {
    /// Looks at the clusters, and at what the vault holds of everybody.
    ///
    /// # Errors
    /// Vault or keyring out of reach. A cluster out of reach is in [`Look::fleet`].
    pub(in crate::operation) async fn look(&self, depth: Depth, now: DateTime<Utc>) -> Result<Look, Failure> {
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
                let lockers = known.census.tenants.get(name).map(TenantKeys::lockers).unwrap_or_default();
                let tag = self.keyring.tag(name);
                Ok::<_, Failure>((name, self.holding((tag, known.erased.get(&tag)), lockers, depth, now).await?))
            })
            .buffer_unordered(READERS)
            .try_collect()
            .await?;

        let tenants = holdings.into_iter().map(|(name, holding)| {
            let resident = residents.get(name);
            let recorded = known.sources.get(name).map(|source| source.cluster.as_str());
            let cluster = resident.map(|resident| resident.cluster.name.as_str()).or(closed.get(name).copied()).or(recorded);
            let age = holding.newest(now).map(|newest| age(newest.taken_at, now));
            let state = if holding.suspended_until.is_some() {
                TenantState::Suspended
            } else if holding.erased {
                TenantState::Erased
            } else if ambiguous.contains_key(name) {
                TenantState::Ambiguous
            } else if closed.contains_key(name) {
                TenantState::Closed
            } else if let Some(resident) = resident {
                self.state_of(resident, &known, age, holding.expired > 0)
            } else if known.dropped.contains_key(name) {
                TenantState::Dropped
            } else if recorded.is_some_and(|cluster| unreachable.contains(cluster)) {
                TenantState::Unknown
            } else {
                TenantState::Missing
            };
            let cluster = cluster.map(str::to_owned);
            let keys = known.census.tenants.get(name);
            let key_since = keys.and_then(|keys| keys.records.iter().map(|record| record.created_at).min());
            (name.clone(), Looked { cluster, resident: resident.cloned(), state, key_since, holding })
        });
        let tenants = tenants.collect();
        Ok(Look { known, fleet, tenants })
    }

    fn state_of(&self, resident: &Resident, known: &Known, age: Option<u64>, has_expired: bool) -> TenantState {
        let moved = known.sources.get(&resident.tenant).is_some_and(|source| {
            source.system_identifier != resident.system_identifier || source.database_oid != resident.found.oid
        });
        match age {
            _ if moved => TenantState::Moved,
            None if has_expired => TenantState::Late,
            None => TenantState::New,
            Some(age) if age > (self.late_after)(&resident.tenant).as_secs() => TenantState::Late,
            Some(_) => TenantState::Good,
        }
    }

    async fn holding(
        &self,
        (tag, erasures): (NameTag, Option<&Erasures>),
        lockers: Vec<Locker>,
        depth: Depth,
        now: DateTime<Utc>,
    ) -> Result<Holding, Failure> {
        let suspended_until = erasures.and_then(Erasures::grace_until).filter(|until| *until > now);
        let erased = erasures.is_some_and(Erasures::is_refused);
        let mut holding = Holding { tag: Some(tag), erased, suspended_until, ..Holding::default() };
        let newest = match depth {
            Depth::Sizes => usize::MAX,
            Depth::Newest(newest) => newest,
        };
        for locker in &lockers {
            holding.held |= self.vault.holds(*locker).await?.is_held();
            let history = self.vault.recent(*locker, now, newest).await?;
            let keep = history.newest().map(|backup| backup.manifest.keep);
            for backup in &history.backups {
                *if backup.is_expired(now) { &mut holding.expired } else { &mut holding.live } += 1;
                holding.read.push(Brief::from(&backup.manifest));
            }
            for unread in &history.unread {
                let is_over = keep.is_some_and(|keep| keep.expiry(unread.time()) <= now);
                *if is_over { &mut holding.expired } else { &mut holding.live } += 1;
            }
            match depth {
                Depth::Sizes => {
                    holding.bytes += self.vault.stored_chunks(*locker).await?.values().sum::<u64>();
                    holding.bytes += self.vault.stored_pages(*locker).await?.values().sum::<u64>();
                }
                Depth::Newest(_) => {
                    holding.problems.extend(history.problems);
                    holding.findings.push((*locker, self.vault.findings(*locker).await?));
                }
            }
        }
        holding.read.sort_by_key(|brief| std::cmp::Reverse((brief.taken_at, brief.sequence, brief.backup)));
        holding.lockers = lockers;
        Ok(holding)
    }
}

/// How old a backup of `taken_at` is, in seconds; one from the future is new.
pub(in crate::operation) fn age(taken_at: DateTime<Utc>, now: DateTime<Utc>) -> u64 {
    u64::try_from((now - taken_at).num_seconds()).unwrap_or(0)
}
