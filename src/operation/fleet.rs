//! The fleet: the clusters of the configuration, what lives on them now, and what vault and keyring know of it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    erased::{self, Erasures},
    failure::{Failure, FailureClass},
    living, lost,
};
use crate::{
    format::record::{CopyOid, Source},
    id::{KeyId, Locker, NameTag},
    keyring::{Census, Keyring, TenantKeys},
    postgres::{
        discover::{Discovery, Found, Rules, discover},
        target::Target,
    },
    printable::Printable,
    signed::DocumentError,
    tenant::TenantName,
    vault::{Vault, gone::Gone, records::Sources},
};

/// Tenants whose records are read at once.
const READERS: usize = 16;

/// One PostgreSQL server of the configuration.
#[derive(Clone)]
pub struct Cluster {
    /// Its name in the configuration.
    pub name: String,
    /// How to reach its primary.
    pub target: Target,
    /// Which of its databases are tenants.
    pub rules: Rules,
    /// Roles that run tenure besides the connecting one.
    pub roles: Vec<String>,
    /// How many connections tenure may hold on it at once.
    pub connections: u32,
}

/// What vault and keyring know of the tenants.
#[derive(Default)]
pub struct Known {
    /// Every tenant's keys.
    pub census: Census,
    /// Where each lives, as far as it was recorded.
    pub sources: BTreeMap<TenantName, Source>,
    /// Databases that tenure made and that are nobody's place, by system identifier and OID, each with the tenant that it was made from.
    copies: BTreeMap<(String, u32), TenantName>,
    /// Keys that are there, and that purge notes name; and purge notes that cannot be read.
    pub returned: Vec<Returned>,
    /// Those keys.
    pub dead: BTreeSet<KeyId>,
    /// Tenants whose record of their source is missing or cannot be trusted.
    pub untrusted_sources: Vec<(TenantName, DocumentError)>,
    /// Tenants whose database tenure dropped, and that have no other place since: by when that was planned. Nobody misses them.
    pub dropped: BTreeMap<TenantName, DateTime<Utc>>,
    /// Tenants with a record of a copy that cannot be trusted.
    pub untrusted_copies: Vec<(TenantName, DocumentError)>,
    /// What is said of erased tenants.
    pub erased: BTreeMap<NameTag, Erasures>,
}

impl Known {
    /// Reads the key records, and each tenant's sources and copies.
    ///
    /// # Errors
    /// A store that cannot be reached. Records that cannot be trusted are in [`Known::untrusted_sources`] and [`Known::untrusted_copies`].
    pub async fn read(vault: &Vault, keyring: &Keyring) -> Result<Self, Failure> {
        let census = keyring.census().await?;
        let mut known = Self { erased: erased::everybody(vault, keyring).await?, ..Self::default() };
        let erased = &known.erased;
        let read: Vec<OfOne> = stream::iter(census.tenants.into_values())
            .map(async |keys| OfOne::read(vault, erased.get(&keys.tag), keys).await)
            .buffered(READERS)
            .try_collect()
            .await?;
        known.census.problems = census.problems;
        read.into_iter().for_each(|of_one| known.add(of_one));
        // A purged tenant is nobody that is known: nobody misses it, and if it lives, it is new.
        known.census.tenants.retain(|_, keys| !keys.lockers().is_empty());
        // A copy that took its tenant's place is the tenant now.
        for source in known.sources.values() {
            known.copies.remove(&(source.system_identifier.clone(), source.database_oid));
        }
        Ok(known)
    }

    fn add(&mut self, OfOne { keys, gone, lockers }: OfOne) {
        let tenant = &keys.tenant;
        let unreadable: Vec<&DocumentError> = gone.values().flat_map(|gone| &gone.unreadable).collect();
        let said = unreadable.iter().map(|error| format!("{error}: nothing of tenant {tenant} counts until that is settled"));
        self.returned.extend(said.map(|said| Returned { tenant: tenant.clone(), what: ReturnedWhat::Note, said }));
        if unreadable.is_empty() {
            self.returned.extend(living::returned(&keys));
            self.dead.extend(keys.dead.iter().map(|record| record.key_id));
        }
        for OfLocker { locker, copies, sources, lost } in lockers {
            match copies {
                Ok(copies) => self
                    .copies
                    .extend(copies.into_iter().map(|copy| ((copy.system_identifier, copy.database_oid), tenant.clone()))),
                Err(error) => self.untrusted_copies.push((tenant.clone(), error)),
            }
            let unreadable = sources.unreadable.into_iter().map(|(_, error)| error).chain(lost);
            let before = self.untrusted_sources.len();
            self.untrusted_sources.extend(unreadable.map(|error| (tenant.clone(), error)));
            if let Some(source) = sources.current.filter(|_| self.untrusted_sources.len() == before) {
                match gone.get(&locker).and_then(|gone| gone.dropped_at(&source.system_identifier, source.database_oid)) {
                    Some(at) => self.dropped.insert(tenant.clone(), at),
                    None => self.dropped.remove(tenant),
                };
                self.sources.insert(tenant.clone(), source);
            }
        }
        self.census.tenants.insert(tenant.clone(), keys);
    }

    /// Tenants with records that cannot be trusted. While there are any, a database that tenure made, or somebody's place, may go
    /// unrecognised, so that nobody new is let in.
    pub fn untrusted(&self) -> impl Iterator<Item = &(TenantName, DocumentError)> {
        self.untrusted_sources.iter().chain(&self.untrusted_copies)
    }

    /// Whether a database was an erased tenant's, whatever it is called now.
    #[must_use]
    pub fn is_erased(&self, system_identifier: &str, oid: u32) -> bool {
        let mut databases = self.erased.values().flat_map(Erasures::databases);
        databases.any(|erased| erased.system_identifier == system_identifier && erased.database_oid == oid)
    }

    /// Another tenant whose recorded place this database is: a renamed database is no new tenant.
    #[must_use]
    pub fn owner_of(&self, resident: &Resident) -> Option<&TenantName> {
        let here = |source: &&Source| {
            source.system_identifier == resident.system_identifier && source.database_oid == resident.found.oid
        };
        self.sources.iter().find(|(tenant, source)| **tenant != resident.tenant && here(source)).map(|(tenant, _)| tenant)
    }

    /// OIDs of databases on one server that tenure made and that are nobody's place, each with the tenant that it was made from.
    #[must_use]
    pub fn copies_on(&self, system_identifier: u64) -> BTreeMap<u32, TenantName> {
        let server = system_identifier.to_string();
        let on_it = self.copies.iter().filter(|((system, _), _)| *system == server);
        on_it.map(|((_, oid), tenant)| (*oid, tenant.clone())).collect()
    }
}

/// What is recorded of one tenant.
struct OfOne {
    keys: TenantKeys,
    gone: BTreeMap<Locker, Gone>,
    lockers: Vec<OfLocker>,
}

/// What is recorded in one of his lockers.
struct OfLocker {
    locker: Locker,
    copies: Result<Vec<CopyOid>, DocumentError>,
    sources: Sources,
    /// That these are lost.
    lost: Option<DocumentError>,
}

impl OfOne {
    async fn read(vault: &Vault, erasures: Option<&Erasures>, mut keys: TenantKeys) -> Result<Self, Failure> {
        let gone = living::set_aside(vault, &mut keys).await?;
        if let Some(erasures) = erasures {
            living::set_aside_erased(erasures, &mut keys);
        }
        let mut lockers = Vec::new();
        for locker in keys.lockers() {
            let copies = match vault.copies(locker).await {
                Ok(copies) => Ok(copies),
                Err(error) => Err(only_if_integrity(error)?),
            };
            let sources = vault.sources(locker).await?;
            let lost = lost::lost_source(vault, locker, &sources).await?;
            lockers.push(OfLocker { locker, copies, sources, lost });
        }
        Ok(Self { keys, gone, lockers })
    }
}

fn only_if_integrity(error: DocumentError) -> Result<DocumentError, Failure> {
    if error.is_integrity() { Ok(error) } else { Err(error.into()) }
}

/// Something that a purge took, or may have taken, and that is there.
#[derive(Debug, Clone)]
pub struct Returned {
    /// Whose.
    pub tenant: TenantName,
    /// What it is.
    pub what: ReturnedWhat,
    /// In words.
    pub said: String,
}

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnedWhat {
    /// A key that a purge destroyed.
    Purged,
    /// A key that was destroyed because newer ones took its place.
    Pruned,
    /// A note that cannot be read: it may name anything.
    Note,
}

/// What lives on the clusters now.
pub struct Fleet {
    /// Each cluster, and what was found on it or why it could not be asked.
    pub clusters: Vec<(Cluster, Result<Discovery, Failure>)>,
}

/// A tenant found on exactly one cluster.
#[derive(Clone)]
pub struct Resident {
    /// The tenant.
    pub tenant: TenantName,
    /// Its cluster.
    pub cluster: Cluster,
    /// System identifier of the server, as text.
    pub system_identifier: String,
    /// Its database.
    pub found: Found,
}

impl Fleet {
    /// Asks every cluster.
    pub async fn discover(clusters: &[Cluster], known: &Known) -> Self {
        let ask = clusters.iter().map(|cluster| async move {
            let discovery = discover(&cluster.target, &cluster.rules, |server| known.copies_on(server)).await;
            (cluster.clone(), discovery.map_err(Failure::from))
        });
        Self { clusters: futures_util::future::join_all(ask).await }
    }

    /// Tenants that one database answers to, by name.
    #[must_use]
    pub fn residents(&self) -> BTreeMap<TenantName, Resident> {
        let ambiguous = self.ambiguous();
        let mut residents = BTreeMap::new();
        for (cluster, discovery) in &self.clusters {
            let Ok(discovery) = discovery else { continue };
            for found in discovery.found.iter().filter(|found| !ambiguous.contains_key(&found.tenant)) {
                let resident = Resident {
                    tenant: found.tenant.clone(),
                    cluster: cluster.clone(),
                    system_identifier: discovery.system_identifier.to_string(),
                    found: found.clone(),
                };
                residents.insert(found.tenant.clone(), resident);
            }
        }
        residents
    }

    /// Names that several databases answer to, with `cluster/database` of each.
    #[must_use]
    pub fn ambiguous(&self) -> BTreeMap<TenantName, Vec<String>> {
        let mut places: BTreeMap<TenantName, Vec<String>> = BTreeMap::new();
        for (cluster, discovery) in &self.clusters {
            let Ok(discovery) = discovery else { continue };
            let place = |database: &str| format!("{}/{}", cluster.name, Printable(database));
            for found in &discovery.found {
                places.entry(found.tenant.clone()).or_default().push(place(&found.database));
            }
            for (tenant, databases) in &discovery.ambiguous {
                places.entry(tenant.clone()).or_default().extend(databases.iter().map(|database| place(database)));
            }
        }
        let twice: BTreeSet<TenantName> = self
            .clusters
            .iter()
            .filter_map(|(_, discovery)| discovery.as_ref().ok())
            .flat_map(|discovery| discovery.ambiguous.iter().map(|(tenant, _)| tenant.clone()))
            .collect();
        places.retain(|tenant, places| places.len() > 1 || twice.contains(tenant));
        places
    }

    /// Databases that answer to a tenant, closed or not: cluster, system identifier, OID, name.
    pub fn numbered(&self, tenant: &TenantName) -> impl Iterator<Item = (&str, u64, u32, &str)> {
        let answered = self.clusters.iter().filter_map(|(cluster, discovery)| Some((cluster, discovery.as_ref().ok()?)));
        answered.flat_map(move |(cluster, discovery)| {
            let found = discovery.found.iter().filter(move |found| found.tenant == *tenant);
            let closed = discovery.closed.iter().filter(move |closed| closed.tenant == *tenant);
            let closed = closed.filter_map(|closed| Some((closed.oid?, closed.database.as_str())));
            let all = found.map(|found| (found.oid, found.database.as_str())).chain(closed);
            all.map(move |(oid, database)| (cluster.name.as_str(), discovery.system_identifier, oid, database))
        })
    }

    /// Databases that match no rule, as `cluster/database`.
    #[must_use]
    pub fn unassigned(&self) -> Vec<String> {
        let all = self.clusters.iter().filter_map(|(cluster, discovery)| Some((cluster, discovery.as_ref().ok()?)));
        all.flat_map(|(cluster, discovery)| {
            discovery.unassigned.iter().map(|database| format!("{}/{}", cluster.name, Printable(database)))
        })
        .collect()
    }

    /// Known tenants whose recorded cluster answered and does not have them any more, but for those that tenure dropped.
    #[must_use]
    pub fn missing(&self, known: &Known) -> Vec<(String, TenantName)> {
        let residents = self.residents();
        let ambiguous = self.ambiguous();
        let mut missing = Vec::new();
        for (cluster, discovery) in &self.clusters {
            let Ok(discovery) = discovery else { continue };
            let ignored = |source: &Source| discovery.ignored.contains(&source.database_oid);
            let closed = |tenant: &TenantName| discovery.closed.iter().any(|closed| closed.tenant == *tenant);
            for (tenant, source) in &known.sources {
                let here = source.cluster == cluster.name && !known.dropped.contains_key(tenant);
                let elsewhere = residents.contains_key(tenant) || ambiguous.contains_key(tenant) || closed(tenant);
                if here && !elsewhere && !ignored(source) {
                    missing.push((cluster.name.clone(), tenant.clone()));
                }
            }
        }
        missing
    }

    /// Refuses a fleet that cannot be right: no tenant at all, or a cluster that lost more than 2 % of its tenants (at least 3).
    ///
    /// # Errors
    /// [`FailureClass::Failed`], naming the tenants.
    pub fn check_plausible(&self, known: &Known) -> Result<(), Failure> {
        // One that lets nobody in was found: that it is not backed up is said by itself.
        let answered = self.clusters.iter().filter_map(|(_, discovery)| discovery.as_ref().ok());
        let found: usize = answered.map(|discovery| discovery.found.len() + discovery.closed.len()).sum();
        let all_answered = self.clusters.iter().all(|(_, discovery)| discovery.is_ok());
        if found == 0 && all_answered {
            let names: Vec<&str> = self.clusters.iter().map(|(cluster, _)| cluster.name.as_str()).collect();
            let message = format!("no tenant was found on {}", names.join(", "));
            return Err(Failure::new(FailureClass::Failed, "no-tenants", names.join(","), message).hint(
                "Check `databases` (or `query`) and the server that `primary` leads to. If there really is none, pass --accept-missing.",
            ));
        }
        let missing = self.missing(known);
        for (cluster, _) in &self.clusters {
            let lost: Vec<String> =
                missing.iter().filter(|(name, _)| *name == cluster.name).map(|(_, tenant)| tenant.to_string()).collect();
            let is_expected = |(tenant, source): &(&TenantName, &Source)| {
                source.cluster == cluster.name && !known.dropped.contains_key(*tenant)
            };
            let expected = known.sources.iter().filter(is_expected).count();
            if lost.len() >= 3 && lost.len() * 50 > expected {
                let mut shown = lost.iter().take(10).cloned().collect::<Vec<_>>().join(", ");
                if lost.len() > 10 {
                    shown.push_str(&format!(" and {} more", lost.len() - 10));
                }
                let message = format!("{} of {expected} tenants are missing on cluster {}: {shown}", lost.len(), cluster.name);
                return Err(Failure::new(FailureClass::Failed, "tenants-missing", &cluster.name, message).hint(
                    "Nothing was backed up. If they were dropped or moved on purpose, pass --accept-missing; their backups stay.",
                ));
            }
        }
        Ok(())
    }
}
