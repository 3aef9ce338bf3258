//! `restore --all`: the whole fleet, onto servers that have nothing of it yet.
//!
//! Largest first, several at once. A tenant that fails stops no other, and a second run goes on where the first ended: what it had
//! restored and proven is recorded as the tenant's source, and is left as it is.

mod report;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use tokio::{sync::Semaphore, time::Instant};

pub use report::{FleetReport, Outcome, TenantFailure, TenantResult};

use super::{
    failure::{Failure, FailureClass},
    lost,
    restore::{Destination, Report, Request, Restorer, Which},
};
use crate::{
    backup_id::BackupId,
    format::record::SourceReason,
    id::Locker,
    postgres::server_facts,
    seal::{RecoveryIdentity, TenantIdentity},
    signature::Namespace,
    tenant::TenantName,
};

/// Connections that one tenant's restore needs: the administrator's two, the lock's, one loader's.
const CONNECTIONS_PER_TENANT: u32 = 4;
/// Tenants whose histories are read at once.
const READERS: usize = 8;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetRequest {
    /// The newest backup, or the newest before a time.
    pub which: Which,
    /// Only onto this cluster; `None` for each tenant's own.
    pub cluster: Option<String>,
    /// As [`Request::allow`].
    pub allow: Vec<String>,
    /// As [`Request::accept_gap`].
    pub accept_gap: bool,
    /// As [`Request::accept_lost_keys`].
    pub accept_lost_keys: bool,
}

/// A tenant whose backup is chosen and whose key is open. The history is not kept: a fleet has thousands of tenants.
struct Ready {
    tenant: TenantName,
    backup: BackupId,
    locker: Locker,
    bytes: u64,
    key: TenantIdentity,
}

impl Restorer<'_> {
    /// Restores every tenant that the keyring knows, `tenants` at once within the connections of each cluster.
    ///
    /// # Errors
    /// What stops all of them: a keyring that cannot be listed. The outcome of each tenant is in the report.
    pub async fn restore_all(
        &self,
        request: &FleetRequest,
        tenants: usize,
        identity: RecoveryIdentity,
        now: DateTime<Utc>,
    ) -> Result<FleetReport, Failure> {
        let started = Instant::now();
        // What no tenant's restore could do without is said once.
        self.vault.check_signer(self.signer, Namespace::Run, now).map_err(|error| Failure::key_not_allowed("restorer", error))?;
        if !request.accept_lost_keys {
            lost::refuse_restore(self.vault, self.keyring).await?;
        }
        let census = self.keyring.census().await?;
        let mut report = FleetReport { results: Vec::new(), findings: Vec::new(), duration_ms: 0, class: None };
        let mut classes = Vec::new();
        for problem in &census.problems {
            report.findings.push(format!("{problem}; run `tenure keys check`"));
            classes.push(FailureClass::Integrity);
        }
        if let Some(locker) = lost::locker_without_key(self.vault, self.keyring, &census).await? {
            let lost = lost::keyring_incomplete(locker, "; its tenant is not restored");
            report.findings.push(format!("{}: {}", lost.message, lost.hint));
            classes.push(FailureClass::Integrity);
        }
        if census.tenants.is_empty() {
            report.findings.push("the keyring knows no tenant".to_owned());
            classes.push(FailureClass::Failed);
        }

        let identity_ref = &identity;
        let opened: Vec<(TenantName, Result<Ready, Failure>)> = stream::iter(census.tenants.into_keys())
            .map(|tenant| async move {
                let ready = self.ready(request, &tenant, identity_ref, now).await;
                (tenant, ready)
            })
            .buffer_unordered(READERS)
            .collect()
            .await;
        // From here on there is no recovery identity in this process.
        drop(identity);
        let mut ready = Vec::new();
        for (tenant, result) in opened {
            match result {
                Ok(tenant) => ready.push(tenant),
                Err(failure) => report.results.push(TenantResult::failed(&tenant, failure, Duration::ZERO)),
            }
        }
        ready.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.tenant.cmp(&b.tenant)));
        self.progress.planned(ready.len(), ready.iter().map(|ready| ready.bytes).sum());

        let connections = Connections::new(self.clusters);
        let connections = &connections;
        let mut results: Vec<TenantResult> = stream::iter(ready)
            .map(|ready| self.one(request, ready, connections, now))
            .buffer_unordered(tenants.max(1))
            .collect()
            .await;
        report.results.append(&mut results);
        report.results.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        classes.extend(report.results.iter().filter_map(|result| result.class).filter(|class| *class != FailureClass::Busy));
        let some = report.results.iter().any(|result| matches!(result.outcome, Outcome::Done | Outcome::Already));
        report.class = FailureClass::worst_of_many(classes, some);
        report.gather_notes();
        report.duration_ms = report::millis(started.elapsed());
        Ok(report)
    }

    async fn ready(
        &self,
        request: &FleetRequest,
        tenant: &TenantName,
        identity: &RecoveryIdentity,
        now: DateTime<Utc>,
    ) -> Result<Ready, Failure> {
        self.going_on(tenant)?;
        let chosen = self.choose_or_note(&request.of(tenant.clone(), request.which.clone()), now).await?;
        let key = self.open_key(&chosen, identity).await?;
        Ok(Ready { tenant: tenant.clone(), backup: chosen.backup(), locker: chosen.locker(), bytes: chosen.bytes(), key })
    }

    fn going_on(&self, tenant: &TenantName) -> Result<(), Failure> {
        if self.cancel.is_cancelled() {
            return Err(Failure::new(FailureClass::Interrupted, "interrupted", tenant, "stopped before its turn"));
        }
        Ok(())
    }

    async fn one(&self, request: &FleetRequest, ready: Ready, connections: &Connections, now: DateTime<Utc>) -> TenantResult {
        let started = Instant::now();
        let tenant = ready.tenant.clone();
        match self.one_tenant(request, ready, connections, now).await {
            Ok(Some(report)) => TenantResult::done(report),
            Ok(None) => TenantResult::empty(&tenant, Outcome::Already, started.elapsed()),
            // Said once, at the edge.
            Err(failure) => TenantResult::failed(&tenant, for_one(&tenant, failure), started.elapsed()),
        }
    }

    /// `None`: it was there already.
    async fn one_tenant(
        &self,
        request: &FleetRequest,
        ready: Ready,
        connections: &Connections,
        now: DateTime<Utc>,
    ) -> Result<Option<Report>, Failure> {
        let tenant = &ready.tenant;
        self.going_on(tenant)?;
        // Missing or unreadable ones were refused, unless a cluster is named.
        let source = self.vault.sources(ready.locker).await?.current;
        let home = request.cluster.clone().or_else(|| source.as_ref().map(|source| source.cluster.clone()));
        let destination = home.as_ref().and_then(|name| self.clusters.get(name)).or_else(|| self.clusters.values().next());
        let Some(destination) = destination else {
            return Err(Failure::new(FailureClass::Usage, "unknown-cluster", tenant, "no cluster is configured"));
        };
        let permits = connections.take(destination).await;
        if let Some(source) = source.filter(|source| source.reason == SourceReason::Restored)
            && is_there(destination, &source.system_identifier, source.database_oid).await?
        {
            return Ok(None);
        }
        let one = request.of(tenant.clone(), Which::Backup(ready.backup.to_string()));
        let chosen = self.choose_or_note(&one, now).await?;
        let restorer = Restorer { jobs: permits.loaders, ..*self };
        restorer.restore_chosen(&one, chosen, ready.key, now).await.map(Some)
    }
}

impl FleetRequest {
    fn of(&self, tenant: TenantName, which: Which) -> Request {
        Request {
            tenant,
            which,
            into: None,
            cluster: self.cluster.clone(),
            replace: false,
            allow: self.allow.clone(),
            // Of all of them it was asked at once.
            accept_lost_keys: true,
            accept_gap: self.accept_gap,
            keep_failed: false,
            salvage: false,
            tables: Vec::new(),
        }
    }
}

/// The hint of one tenant's restore, where it names options that the restore of a fleet does not have.
fn for_one(tenant: &TenantName, mut failure: Failure) -> Failure {
    if ["--into", "--replace", "--keep-failed"].iter().any(|option| failure.hint.contains(option)) {
        let mut hint = std::mem::take(&mut failure.hint);
        if let Some(first) = hint.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        failure.hint = format!(
            "For this tenant alone, by `tenure restore {tenant}`: {hint} Then run `tenure restore --all` again for the others."
        );
    }
    failure
}

/// Whether a database with this OID is on this very server.
async fn is_there(destination: &Destination, system_identifier: &str, oid: u32) -> Result<bool, Failure> {
    let target = &destination.admin;
    let failed = |error| Failure { object: destination.name.clone(), ..Failure::from(error) };
    let admin = target.connect(target.maintenance_database(), "tenure restore").await?;
    let facts = server_facts::read(&admin).await.map_err(failed)?;
    Ok(facts.system_identifier == system_identifier && server_facts::has_database(&admin, oid).await.map_err(failed)?)
}

/// How many connections are left on each cluster.
struct Connections(BTreeMap<String, (Arc<Semaphore>, u32)>);

/// A tenant's share.
struct Share {
    loaders: usize,
    _permits: Option<tokio::sync::OwnedSemaphorePermit>,
}

impl Connections {
    fn new(clusters: &BTreeMap<String, Destination>) -> Self {
        let of = |cluster: &Destination| {
            let all = cluster.connections.max(CONNECTIONS_PER_TENANT);
            (Arc::new(Semaphore::new(all as usize)), all)
        };
        Self(clusters.iter().map(|(name, cluster)| (name.clone(), of(cluster))).collect())
    }

    /// Waits until a tenant's worth of connections is free; takes what is over for it, when nobody else could use it.
    async fn take(&self, destination: &Destination) -> Share {
        let Some((semaphore, all)) = self.0.get(&destination.name) else { return Share { loaders: 1, _permits: None } };
        let over = all % CONNECTIONS_PER_TENANT;
        let wanted = CONNECTIONS_PER_TENANT + if *all < 2 * CONNECTIONS_PER_TENANT { over } else { 0 };
        // The semaphore is never closed.
        let permits = semaphore.clone().acquire_many_owned(wanted).await.ok();
        Share { loaders: (wanted - CONNECTIONS_PER_TENANT + 1) as usize, _permits: permits }
    }
}
