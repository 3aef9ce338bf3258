//! `admit --source`: an operator says that a tenant now lives in another database.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    erased,
    failure::{Failure, FailureClass},
    fleet::{Cluster, Fleet, Known, Resident},
    lost,
    newcomer::AdmittedNew,
    plans::by_operator::{self, Planning, Wanted},
};
use crate::{
    format::{
        act::{Act, ActCommand, ActOn, ActOutcome},
        plan::{Bound, PlannedAct, PlannedSource},
        record::{Source, SourceReason},
    },
    id::{Locker, RecordId},
    keyring::Keyring,
    printable::Printable,
    signature::{Namespace, SigningKey},
    signed::FORMAT,
    tenant::TenantName,
    vault::{Vault, records::Sources},
};

/// What `admit` says.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct AdmitReport {
    /// Tenants whose source changed, and those where it was right already.
    pub admitted: Vec<Admitted>,
    /// Names of erased tenants that are new customers' now.
    pub new: Vec<AdmittedNew>,
}

/// One tenant's new source.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Admitted {
    /// The tenant.
    pub tenant: String,
    /// Its cluster.
    pub cluster: String,
    /// Its database.
    pub database: String,
    /// OID of the database.
    pub database_oid: u32,
    /// System identifier of the server.
    pub system_identifier: String,
    /// Whether a record was written; `false` where it was right already.
    pub changed: bool,
    /// Records that could not be read and that the new one passes over, and what else was missing.
    pub notes: Vec<String>,
}

/// Whose source to admit.
#[derive(Debug, Clone)]
pub enum Which {
    /// These tenants.
    Named(Vec<TenantName>),
    /// Every known tenant that is found on one cluster, after a failover or a move.
    Cluster(String),
}

/// What it works with.
pub struct Admit<'a> {
    /// Where the records go.
    pub vault: &'a Vault,
    /// Where the keys are.
    pub keyring: &'a Keyring,
    /// The fleet.
    pub clusters: &'a [Cluster],
    /// The operator's signing key.
    pub signer: &'a SigningKey,
    /// How many operators must sign the plan; 0 where nobody is asked.
    pub approvals: u32,
}

impl Admit<'_> {
    /// Writes a new source for each tenant whose database is another one than recorded.
    ///
    /// # Errors
    /// Before anything is written: a tenant without backups, one that no database or several answer to, one that was erased or purged.
    pub async fn run(&self, which: &Which, now: DateTime<Utc>) -> Result<AdmitReport, Failure> {
        self.vault.check_signer(self.signer, Namespace::Run, now).map_err(|error| Failure::key_not_allowed("operator", error))?;
        let mut known = Known::read(self.vault, self.keyring).await?;
        // A record of a source that cannot be read is what an admission gets past; one of a copy may hide that a database is a copy.
        if let Some((_, error)) = known.untrusted_copies.pop() {
            return Err(error.into());
        }
        lost::refuse_incomplete(self.vault, self.keyring, &known.census, ": nobody is admitted").await?;
        let fleet = Fleet::discover(self.clusters, &known).await;
        let residents = fleet.residents();
        let wanted = match which {
            Which::Named(names) => names.clone(),
            Which::Cluster(cluster) => {
                let here = |resident: &&Resident| {
                    resident.cluster.name == *cluster && known.census.tenants.contains_key(&resident.tenant)
                };
                residents.values().filter(here).map(|resident| resident.tenant.clone()).collect()
            }
        };
        let mut plan = Vec::new();
        for tenant in wanted {
            plan.push(self.plan(&tenant, &fleet, &residents, &known).await?);
        }
        let mut changes = Vec::new();
        for (resident, locker) in plan {
            let sources = self.vault.sources(locker).await?;
            let same = |source: &Source| {
                source.system_identifier == resident.system_identifier
                    && source.database_oid == resident.found.oid
                    && source.cluster == resident.cluster.name
            };
            let changed = !sources.unreadable.is_empty() || !sources.current.as_ref().is_some_and(same);
            changes.push((resident, locker, sources, changed));
        }
        let planning = Planning {
            vault: self.vault,
            keyring: Some(self.keyring),
            operator: self.signer,
            needed: if changes.iter().any(|(.., changed)| *changed) { self.approvals } else { 0 },
            now,
        };
        let planned = planning.begin(&self.wanted(which, &known, &changes)?).await?;
        let (mut report, mut acts) = (AdmitReport::default(), Vec::new());
        for (resident, locker, sources, changed) in changes {
            let mut notes: Vec<String> =
                sources.unreadable.iter().map(|(_, error)| format!("{error}, and never counts again")).collect();
            if sources.is_empty() {
                notes.push(
                    "the vault had no record of where it lives; if it had backups, look whether they are still there".to_owned(),
                );
            }
            if changed {
                let source = Source {
                    format: FORMAT,
                    installation: self.vault.root().installation,
                    locker,
                    id: RecordId::random(),
                    sequence: sources.next_sequence(),
                    cluster: resident.cluster.name.clone(),
                    system_identifier: resident.system_identifier.clone(),
                    database_oid: resident.found.oid,
                    reason: SourceReason::Admitted,
                    passes_over: sources.passed_over(),
                    created_at: now,
                };
                self.vault.put_source(&source, self.signer).await?;
                acts.push(ActOn {
                    locker,
                    name_tag: Some(self.keyring.tag(&resident.tenant)),
                    backups: Vec::new(),
                    keys: Vec::new(),
                    holds: Vec::new(),
                    objects: 0,
                    bytes: 0,
                });
            }
            report.admitted.push(Admitted {
                tenant: resident.tenant.as_str().to_owned(),
                cluster: resident.cluster.name.clone(),
                database: resident.found.database.clone(),
                database_oid: resident.found.oid,
                system_identifier: resident.system_identifier.clone(),
                changed,
                notes,
            });
        }
        if !acts.is_empty() {
            self.record(planned.as_ref().map(|plan| plan.id), acts, now).await?;
        }
        planning.end(planned.as_ref()).await?;
        Ok(report)
    }

    /// What operators sign, where they must: the databases that are changed to, and the keys of whom it is about.
    fn wanted(&self, which: &Which, known: &Known, changes: &[(Resident, Locker, Sources, bool)]) -> Result<Wanted, Failure> {
        let tenant = match which {
            Which::Cluster(_) => None,
            Which::Named(names) if self.approvals == 0 => names.first().cloned(),
            Which::Named(names) => Some(by_operator::only(names)?),
        };
        let changed = || changes.iter().filter(|(.., changed)| *changed);
        let keys = changed().filter_map(|(resident, ..)| known.census.tenants.get(&resident.tenant));
        let mut sources: Vec<PlannedSource> = changed()
            .map(|(resident, locker, ..)| PlannedSource {
                locker: *locker,
                cluster: resident.cluster.name.clone(),
                system_identifier: resident.system_identifier.clone(),
                database_oid: resident.found.oid,
            })
            .collect();
        sources.sort();
        let bound = Bound { sources, ..Bound::default() };
        Ok(Wanted { tenant, act: PlannedAct::Admit, lockers: keys.flat_map(by_operator::lockers).collect(), bound })
    }

    async fn record(&self, plan: Option<RecordId>, lockers: Vec<ActOn>, now: DateTime<Utc>) -> Result<(), Failure> {
        let act =
            Act { plan, lockers, ..Act::new(self.vault.root().installation, ActCommand::Admit, (now, now), ActOutcome::Done) };
        Ok(self.vault.put_act(&act, self.signer).await?)
    }

    async fn plan(
        &self,
        tenant: &TenantName,
        fleet: &Fleet,
        residents: &std::collections::BTreeMap<TenantName, Resident>,
        known: &Known,
    ) -> Result<(Resident, Locker), Failure> {
        let Some(keys) = known.census.tenants.get(tenant) else {
            return Err(lost::unknown_tenant(self.vault, self.keyring, tenant).await);
        };
        erased::refuse(self.vault, self.keyring, tenant).await?;
        if let Some(places) = fleet.ambiguous().get(tenant) {
            return Err(super::backup::ambiguous_tenant(tenant, places));
        }
        let resident = residents.get(tenant).cloned().ok_or_else(|| {
            Failure::new(FailureClass::Failed, "tenant-missing", tenant, format!("no database answers to tenant {tenant}"))
                .hint("`tenure tenants` lists what discovery finds.")
        })?;
        if known.is_erased(&resident.system_identifier, resident.found.oid) {
            let (database, cluster) = (Printable(&resident.found.database), &resident.cluster.name);
            let message = format!("database {database} on {cluster} has the number of one that was erased");
            return Err(Failure::new(FailureClass::Refused, "database-erased", tenant, message).hint(
                "Nobody was admitted. Where an old copy of the server was put back, it is the erased one: `tenure reconcile` says more. If it is another \
                 one that got the old number, dump it and restore it into a new database.",
            ));
        }
        let locker = keys.sealing().map(|record| record.locker).ok_or_else(|| {
            Failure::new(FailureClass::Integrity, "key-without-secret", tenant, format!("tenant {tenant} has no whole key"))
                .hint("`tenure keys check` says what is missing.")
        })?;
        Ok((resident, locker))
    }
}
