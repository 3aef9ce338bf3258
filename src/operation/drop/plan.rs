//! What is to be dropped: the plan that is open, or a new one.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{DropTenant, by_id};
use crate::{
    format::plan::{Bound, Plan, PlannedAct, PlannedDatabase, PlannedLocker, Step},
    id::RecordId,
    operation::{
        backup::{absent_tenant, ambiguous_tenant},
        erased,
        failure::{Failure, FailureClass},
        fleet::{Fleet, Known},
        living, lost, whose,
    },
    postgres::{
        discover::ClosedBecause,
        drop_database::{self, Doomed, Kind},
    },
    printable::{Printable, Word},
    signature::Namespace,
    signed::FORMAT,
    tenant::TenantName,
    vault::plans::Planned,
};

/// What will be done.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The plan.
    pub plan: Plan,
    /// The steps that it has come past; `None` while it is not written.
    steps: Option<BTreeSet<Step>>,
    /// The database as it is now; `None` when it is gone from the primary.
    pub doomed: Option<Doomed>,
}

impl Intent {
    /// Whether an earlier run wrote the plan.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.steps.is_some()
    }

    /// Whether an earlier run has touched the server.
    pub(super) fn is_begun(&self) -> bool {
        self.steps.as_ref().is_some_and(|steps| !steps.is_empty())
    }

    /// When it was planned.
    #[must_use]
    pub fn planned_at(&self) -> DateTime<Utc> {
        self.plan.created_at
    }

    pub(super) fn is_past(&self, step: Step) -> bool {
        self.steps.as_ref().is_some_and(|steps| steps.contains(&step))
    }

    /// The live database that the plan names.
    pub(super) fn database(&self) -> Result<&PlannedDatabase, Failure> {
        self.plan.databases.first().ok_or_else(|| {
            let message = format!("plan {} names no database", self.plan.id);
            Failure::new(FailureClass::Integrity, "plan-changed", self.plan.id, message).hint("Nothing was dropped.")
        })
    }

    /// Whether it is a database that was erased and is there again: `reconcile` planned this, and the tombstone is all that says whose it was.
    #[must_use]
    pub fn came_back(&self) -> bool {
        self.is_resumed() && self.plan.lockers.is_empty()
    }

    /// What should be known before it is decided.
    #[must_use]
    pub fn notes(&self, clear: &BTreeSet<Kind>) -> Vec<String> {
        let Some(doomed) = &self.doomed else { return Vec::new() };
        let mut notes = Vec::new();
        if doomed.is_invalid {
            notes.push(
                "an earlier DROP DATABASE of it was interrupted: nobody can use it any more, and this finishes it".to_owned(),
            );
        }
        for obstacle in &doomed.obstacles {
            let what = if clear.contains(&obstacle.kind()) { "is cleared away" } else { "is in the way" };
            notes.push(format!("{obstacle}: {what}"));
        }
        notes.extend(
            doomed.idle_slots.iter().map(|slot| format!("logical slot {}, which nobody reads, goes with it", Printable(slot))),
        );
        notes
    }
}

impl DropTenant<'_> {
    /// Finds the open plan for this tenant, or makes a new one, and writes nothing. `None` where tenure dropped its database before and
    /// nothing is left to do.
    ///
    /// # Errors
    /// A tenant that is unknown, ambiguous or without a database (1), or on hold (4); a database that is not the recorded one (4); a server
    /// or a store that cannot be asked; records or plans that cannot be read or trusted (5).
    pub async fn look(&self, tenant: &TenantName) -> Result<Option<Intent>, Failure> {
        let now = (self.clock)();
        self.check_signers(now)?;
        // What came back after an erasure is dropped by its plan's id alone: the name may be a new customer's by now.
        let (returned, own): (Vec<Planned>, Vec<Planned>) =
            self.open(tenant).await?.into_iter().partition(|planned| planned.plan.lockers.is_empty());
        if let Some(planned) = own.into_iter().next() {
            return self.go_on(tenant, planned).await.map(Some);
        }
        match self.anew(tenant, now).await {
            Err(failure) if failure.kind == "tenant-erased" && !returned.is_empty() => {
                let plan = returned[0].plan.id;
                let hint = format!("Nothing was done. What came back of it `{}` drops.", by_id(tenant, plan));
                Err(failure.hint(hint))
            }
            found => found,
        }
    }

    /// What would be dropped now, whatever plans are open: the recorded place, if the tenant lives there.
    ///
    /// # Errors
    /// As [`DropTenant::look`].
    pub async fn look_anew(&self, tenant: &TenantName) -> Result<Option<Intent>, Failure> {
        let now = (self.clock)();
        self.check_signers(now)?;
        self.anew(tenant, now).await
    }

    /// Finds a plan by its id. `None` where it was carried out before.
    ///
    /// # Errors
    /// As [`DropTenant::look`]; a plan that is not there, is of something or somebody else, or was given up (4).
    pub async fn look_at_plan(&self, tenant: &TenantName, id: RecordId) -> Result<Option<Intent>, Failure> {
        self.check_signers((self.clock)())?;
        let plans = self.vault.plans(self.keyring.tag(tenant), |_| true).await?;
        let is_it = |planned: &Planned| planned.plan.id == id && planned.plan.act == PlannedAct::Drop;
        let Some(planned) = plans.into_iter().find(is_it) else {
            let message = format!("there is no plan {id} to drop a database of tenant {tenant}");
            return Err(Failure::new(FailureClass::Refused, "no-such-plan", id, message)
                .hint("Nothing was dropped. `tenure plans list` shows the plans that wait, `tenure reconcile` makes one for what has come back."));
        };
        if !planned.steps.contains(&Step::Closed) {
            // It may have been made for an earlier erasure, that was withdrawn.
            erased::refuse_in_grace(self.vault, self.keyring, tenant, (self.clock)()).await?;
            return self.go_on(tenant, planned).await.map(Some);
        }
        let Some(closed) = self.vault.mark(id, Step::Closed).await? else {
            return Err(Failure::new(FailureClass::Refused, "plan-cancelled", id, format!("plan {id} was cancelled"))
                .hint("Nothing was dropped. `tenure reconcile` makes a new one where there is something to drop."));
        };
        match closed.found.void {
            None => Ok(None),
            Some(void) => Err(Failure::new(FailureClass::Refused, "plan-void", id, format!("plan {id} was given up: {void}"))
                .hint("Nothing was dropped. `tenure reconcile` makes a new one where there is something to drop.")),
        }
    }

    /// What is left to be dropped of a database that the plan of an erasure names, by its number: its name leads to nobody for sure.
    ///
    /// # Errors
    /// As [`DropTenant::look`].
    pub async fn look_by_number(
        &self,
        tenant: &TenantName,
        erasure: &Plan,
        database: &PlannedDatabase,
    ) -> Result<Intent, Failure> {
        let now = (self.clock)();
        self.check_signers(now)?;
        let is_it =
            |planned: &Planned| !planned.plan.lockers.is_empty() && planned.plan.databases.iter().any(|of| of.is(database));
        if let Some(planned) = self.open(tenant).await?.into_iter().find(is_it) {
            return self.go_on(tenant, planned).await;
        }
        let session = self.connect(database).await?;
        let doomed = drop_database::look(&session, database.database_oid).await?;
        if let Some(doomed) = &doomed {
            self.refuse_another(tenant, &session, doomed).await?;
        }
        // Whatever becomes of the drop, nobody is let in again.
        let databases = vec![PlannedDatabase { allowed_connections: false, ..database.clone() }];
        let lockers = erasure.lockers.iter().map(|locker| PlannedLocker { keys: Vec::new(), ..locker.clone() }).collect();
        let plan = Plan {
            id: RecordId::random(),
            act: PlannedAct::Drop,
            lockers,
            databases,
            created_at: now,
            bound: Bound::default(),
            ..erasure.clone()
        };
        Ok(Intent { plan, steps: None, doomed })
    }

    fn check_signers(&self, now: DateTime<Utc>) -> Result<(), Failure> {
        for (name, key, namespace) in [
            ("operator", self.operator, Namespace::Plan),
            ("eraser", self.eraser, Namespace::Erasure),
            ("eraser", self.eraser, Namespace::Run),
        ] {
            self.vault.check_signer(key, namespace, now).map_err(|error| Failure::key_not_allowed(name, error))?;
        }
        Ok(())
    }

    /// Plans of drops that are not carried out, the oldest first.
    async fn open(&self, tenant: &TenantName) -> Result<Vec<Planned>, Failure> {
        let open = self.vault.plans(self.keyring.tag(tenant), |steps| !steps.contains(&Step::Closed)).await?;
        Ok(open.into_iter().filter(|planned| planned.plan.act == PlannedAct::Drop).collect())
    }

    /// A plan that an earlier run wrote, and what its database is now.
    async fn go_on(&self, tenant: &TenantName, planned: Planned) -> Result<Intent, Failure> {
        let Planned { plan, steps, .. } = planned;
        whose::refuse_others(self.vault, self.keyring, &plan).await?;
        let mut intent = Intent { plan, steps: Some(steps), doomed: None };
        let database = &intent.database()?.clone();
        if intent.came_back() {
            self.refuse_unerased(&intent.plan, database).await?;
        }
        let session = self.connect(database).await?;
        intent.doomed = drop_database::look(&session, database.database_oid).await?;
        match &intent.doomed {
            Some(doomed) if intent.came_back() => self.refuse_anothers_name(tenant, database, doomed).await?,
            Some(doomed) => self.refuse_another(tenant, &session, doomed).await?,
            None => {}
        }
        Ok(intent)
    }

    async fn anew(&self, tenant: &TenantName, now: DateTime<Utc>) -> Result<Option<Intent>, Failure> {
        if !self.within_erasure {
            erased::refuse(self.vault, self.keyring, tenant).await?;
        }
        let keys = living::known(self.vault, self.keyring, tenant).await?;
        let tag = self.keyring.tag(tenant);
        let known = self.known().await?;
        // An untrusted record of a copy may hide that a database is one, and whose.
        if known.untrusted_sources.iter().any(|(of, _)| of == tenant) || !known.untrusted_copies.is_empty() {
            return Err(self.untrusted(tenant).await?);
        }
        let fleet = Fleet::discover(self.clusters, known).await;
        if let Some(places) = fleet.ambiguous().get(tenant) {
            return Err(ambiguous_tenant(tenant, places));
        }
        let Some((cluster, system, oid, name)) = self.place(tenant, &fleet, known).await? else {
            let is_dropped = known.dropped.contains_key(tenant);
            return if is_dropped { Ok(None) } else { Err(absent_tenant(tenant, &fleet, known)) };
        };
        let Some(source) = known.sources.get(tenant) else {
            let locker = keys.lockers().first().copied();
            let history = match locker {
                Some(locker) => Some((locker, self.vault.history(locker, now).await?)),
                None => None,
            };
            return Err(match history {
                Some((locker, history)) => lost::source_missing(self.vault, tenant, locker, &history),
                None => Failure::unknown_tenant(tenant),
            });
        };
        if (&source.system_identifier, source.database_oid) != (&system, oid) {
            let message = format!(
                "database {} on {cluster} answers to tenant {tenant}, and is not the one that was backed up: it has OID {oid} on system {system}, \
                 recorded is OID {} on system {}",
                Printable(&name),
                source.database_oid,
                source.system_identifier
            );
            return Err(Failure::new(FailureClass::Refused, "another-database", tenant, message).hint(format!(
                "Nothing was dropped. If it is this tenant's (a failover, a restore by hand), `tenure admit --source {}` says so first.",
                Word(tenant.as_str())
            )));
        }
        let same = |other: &crate::format::record::Source| (&other.system_identifier, other.database_oid) == (&system, oid);
        if let Some((other, _)) = known.sources.iter().find(|(other, source)| *other != tenant && same(source)) {
            let message = format!("database {} on {cluster} is the recorded place of tenant {other} as well", Printable(&name));
            return Err(Failure::new(FailureClass::Refused, "another-database", tenant, message)
                .hint("Nothing was dropped. Find out whose it is; `tenure admit --source` records another place."));
        }
        let mut database =
            PlannedDatabase { cluster: cluster.clone(), system_identifier: system, database_oid: oid, allowed_connections: true };
        let session = self.connect(&database).await?;
        let Some(doomed) = drop_database::look(&session, oid).await?.filter(|doomed| doomed.name == name) else {
            let message = format!("database {} on {cluster} changed while it was looked at", Printable(&name));
            return Err(Failure::new(FailureClass::Failed, "changed-meanwhile", tenant, message)
                .hint("Nothing was dropped. Run it again."));
        };
        database.allowed_connections = doomed.allows_connections;
        let planned = keys.lockers().into_iter().map(|locker| PlannedLocker {
            locker,
            cluster: Some(cluster.clone()),
            keys: Vec::new(),
            manifests: 0,
            backups: Vec::new(),
        });
        let plan = Plan {
            format: FORMAT,
            installation: self.vault.root().installation,
            id: RecordId::random(),
            name_tag: tag,
            act: PlannedAct::Drop,
            lockers: planned.collect(),
            databases: vec![database],
            created_at: now,
            bound: Bound::default(),
        };
        self.refuse_if_held(tenant, &plan).await?;
        Ok(Some(Intent { plan, steps: None, doomed: Some(doomed) }))
    }

    /// The first record that keeps a tenant from being found, as it is now.
    async fn untrusted(&self, tenant: &TenantName) -> Result<Failure, Failure> {
        let Known { untrusted_sources, untrusted_copies, .. } = Known::read(self.vault, self.keyring).await?;
        let of_it = untrusted_sources.into_iter().filter(|(of, _)| of == tenant);
        let first = of_it.chain(untrusted_copies).next();
        Ok(first.map_or_else(
            || {
                Failure::new(FailureClass::Failed, "changed-meanwhile", tenant, "a record was put back meanwhile")
                    .hint("Run it again.")
            },
            |(_, error)| error.into(),
        ))
    }

    /// The one database that answers to a tenant: cluster, system identifier, OID, name. Closed ones too, of which discovery tells the name
    /// only.
    pub(super) async fn place(
        &self,
        tenant: &TenantName,
        fleet: &Fleet,
        known: &Known,
    ) -> Result<Option<(String, String, u32, String)>, Failure> {
        if let Some(resident) = fleet.residents().remove(tenant) {
            let (cluster, system) = (resident.cluster.name, resident.system_identifier);
            return Ok(Some((cluster, system, resident.found.oid, resident.found.database)));
        }
        for (cluster, discovery) in &fleet.clusters {
            let Ok(discovery) = discovery else { continue };
            let is_its = |closed: &&crate::postgres::discover::Closed| {
                closed.tenant == *tenant && closed.because != ClosedBecause::Missing
            };
            let Some(closed) = discovery.closed.iter().find(is_its) else { continue };
            let system = discovery.system_identifier.to_string();
            let recorded = known.sources.get(tenant).map_or(0, |source| source.database_oid);
            return Ok(Some((cluster.name.clone(), system, closed.oid.unwrap_or(recorded), closed.database.clone())));
        }
        Ok(None)
    }
}
