//! What is to be dropped: the plan that is open, or a new one.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{DropTenant, command};
use crate::{
    format::{
        erasure_note::ErasedDatabase,
        plan::{Bound, Plan, PlannedAct, PlannedDatabase, PlannedLocker, Step},
    },
    id::RecordId,
    operation::{
        backup::{absent_tenant, ambiguous_tenant},
        erased,
        failure::{Failure, FailureClass},
        fleet::{Fleet, Known},
        living, lost, whose,
    },
    postgres::{
        Session,
        discover::ClosedBecause,
        drop_database::{self, Doomed, Kind, Obstacle},
        replication,
    },
    printable::{Printable, Word},
    signature::Namespace,
    signed::{DocumentError, FORMAT},
    tenant::TenantName,
    vault::{holds::Holds, plans::Planned},
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
        for (name, key, namespace) in [
            ("operator", self.operator, Namespace::Plan),
            ("eraser", self.eraser, Namespace::Erasure),
            ("eraser", self.eraser, Namespace::Run),
        ] {
            self.vault.check_signer(key, namespace, now).map_err(|error| Failure::key_not_allowed(name, error))?;
        }
        let open = self.vault.plans(self.keyring.tag(tenant), |steps| !steps.contains(&Step::Closed)).await?;
        if let Some(Planned { plan, steps, .. }) = open.into_iter().find(|planned| planned.plan.act == PlannedAct::Drop) {
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
            return Ok(Some(intent));
        }
        self.anew(tenant, now).await
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
    async fn place(
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

    /// Stops when the planned OID belongs to a database that does not answer to the tenant: somebody renamed it, or a server was put back to
    /// an earlier state and gave the number away again.
    pub(super) async fn refuse_another(&self, tenant: &TenantName, session: &Session, doomed: &Doomed) -> Result<(), Failure> {
        let known = self.known().await?;
        let fleet = Fleet::discover(self.clusters, known).await;
        let is_its = match self.place(tenant, &fleet, known).await? {
            Some((.., oid, name)) => (oid, name.as_str()) == (doomed.oid, doomed.name.as_str()),
            None => false,
        };
        if is_its && !fleet.ambiguous().contains_key(tenant) {
            return Ok(());
        }
        let endpoint = session.target().endpoint();
        let message = format!(
            "the database with OID {} on {endpoint}, which was to be dropped, is called {} now and does not answer to tenant {tenant}",
            doomed.oid,
            Printable(&doomed.name)
        );
        Err(Failure::new(FailureClass::Refused, "another-database", tenant, message)
            .hint("Nothing was dropped. Find out who renamed it, and give it its name back."))
    }

    /// Stops at a plan that names no locker, where no tombstone names its database: an operator alone wrote that.
    async fn refuse_unerased(&self, plan: &Plan, database: &PlannedDatabase) -> Result<(), Failure> {
        let erasures = erased::read_both(self.vault, self.keyring, plan.name_tag).await?;
        let is_it = |erased: &ErasedDatabase| {
            (&erased.system_identifier, erased.database_oid) == (&database.system_identifier, database.database_oid)
        };
        if erasures.databases().any(is_it) {
            return Ok(());
        }
        let (oid, cluster) = (database.database_oid, Printable(&database.cluster));
        let message =
            format!("plan {} names the database with OID {oid} on {cluster}, and no tombstone says that it was erased", plan.id);
        Err(Failure::new(FailureClass::Integrity, "plan-contradicted", plan.id, message).hint(format!(
            "Nothing was dropped. Find out who signed that plan; `tenure plans cancel {}` gives it up, and `tenure reconcile` names what has come back.",
            plan.id
        )))
    }

    /// Stops when a database that was erased, and is there again, answers to somebody else's name now.
    async fn refuse_anothers_name(
        &self,
        tenant: &TenantName,
        database: &PlannedDatabase,
        doomed: &Doomed,
    ) -> Result<(), Failure> {
        let known = self.known().await?;
        let fleet = Fleet::discover(self.clusters, known).await;
        let discovery = fleet.clusters.into_iter().find(|(cluster, _)| cluster.name == database.cluster);
        let Some((_, discovery)) = discovery else { return self.server(&database.cluster).map(drop) };
        let Some(other) = discovery?.answers_to(&doomed.name).into_iter().find(|name| name != tenant) else { return Ok(()) };
        let name = Printable(&doomed.name);
        let message = format!(
            "database {name} on {} was erased as tenant {tenant}'s, by its number, and answers to tenant {other} by its name",
            database.cluster
        );
        Err(Failure::new(FailureClass::Refused, "another-database", tenant, message).hint(
            "Nothing was dropped. Find out whose it is. If it is the erased one, rename it so that it is nobody's; if it is a new customer's that got \
             the old number, dump it and restore it into a new database.",
        ))
    }

    /// Stops before anything is done: what is missing, or in the way, and is not cleared away.
    ///
    /// # Errors
    /// A right that is missing (1), something in the way (4), each with what to type.
    pub async fn refuse(&self, tenant: &TenantName, session: &Session, doomed: &Doomed) -> Result<(), Failure> {
        let name = Printable(&doomed.name);
        let role = Printable(session.target().user()).to_string();
        if doomed.name == session.database() {
            let message = format!("database {name} is the one that tenure is connected to for dropping");
            return Err(Failure::new(FailureClass::Refused, "maintenance-database", tenant, message)
                .hint("Nothing was dropped. Name another one, like dbname=postgres, in `admin` or `primary` of the cluster."));
        }
        let lacks = |what: String, cure: String| {
            Err(Failure::new(FailureClass::Failed, "no-right", tenant, format!("role {role} {what}"))
                .hint(format!("Nothing was dropped. {cure}")))
        };
        if !doomed.may_drop {
            let owner = Printable(&doomed.owner);
            return lacks(
                format!("may not drop database {name}, which belongs to {owner}"),
                format!("GRANT {} TO {};", quoted(&doomed.owner), quoted(session.target().user())),
            );
        }
        if let Some((other, is_superuser)) = doomed.not_to_end.first() {
            let cure = match is_superuser {
                true => "Only a superuser may end it: end it by hand, or name one in `admin` of the cluster.".to_owned(),
                false => format!("GRANT pg_signal_backend TO {};", quoted(session.target().user())),
            };
            return lacks(format!("may not end the sessions of {} in database {name}", Printable(other)), cure);
        }
        if !replication::may_see(session).await? {
            return lacks(
                "may not see who receives the server's log, so that nobody could say which replicas there are".to_owned(),
                format!("GRANT pg_read_all_stats TO {};", quoted(session.target().user())),
            );
        }
        self.refuse_blocked(tenant, doomed)
    }

    /// Stops when something is in the way that is not to be cleared away. Of a database whose drop was interrupted nothing is.
    pub(super) fn refuse_blocked(&self, tenant: &TenantName, doomed: &Doomed) -> Result<(), Failure> {
        let in_the_way: Vec<&Obstacle> =
            doomed.obstacles.iter().filter(|obstacle| !doomed.is_invalid && !self.clear.contains(&obstacle.kind())).collect();
        if in_the_way.is_empty() {
            return Ok(());
        }
        let words: Vec<String> = in_the_way.iter().map(ToString::to_string).collect();
        let kinds: BTreeSet<Kind> =
            in_the_way.iter().chain(&doomed.obstacles.iter().collect::<Vec<_>>()).map(|o| o.kind()).collect();
        let cures: Vec<&str> = kinds.iter().map(|kind| cure(*kind)).collect();
        let flags: Vec<&str> = kinds.iter().map(|kind| flag(*kind)).collect();
        let message = format!("database {} cannot be dropped: {}", Printable(&doomed.name), words.join(", "));
        Err(Failure::new(FailureClass::Refused, "blocked", tenant, message).hint(format!(
            "Nothing was dropped. {} `tenure drop {} --clear {}` does that.",
            cures.join(" "),
            Word(tenant.as_str()),
            flags.join(",")
        )))
    }

    /// Stops while somebody holds any of the plan's lockers.
    pub(super) async fn refuse_if_held(&self, tenant: &TenantName, plan: &Plan) -> Result<(), Failure> {
        let mut holds = Holds::default();
        for planned in &plan.lockers {
            let found = self.vault.holds(planned.locker).await?;
            holds.active.extend(found.active);
            holds.unreadable.extend(found.unreadable);
            holds.lost.extend(found.lost);
        }
        if !holds.is_held() {
            return Ok(());
        }
        let by: BTreeSet<String> = holds
            .active
            .iter()
            .map(|held| held.hold.id.to_string())
            .chain(holds.lost.iter().map(|id| format!("{id}, of which only the signature is there")))
            .chain(holds.unreadable.iter().map(|error: &DocumentError| format!("{error}, which may be a hold")))
            .collect();
        let message = format!("tenant {tenant} is on hold: {}", by.into_iter().collect::<Vec<_>>().join(", "));
        Err(Failure::new(FailureClass::Refused, "on-hold", tenant, message).hint(format!(
            "Nothing was dropped. After `tenure release {}` run {} again.",
            Word(tenant.as_str()),
            command(tenant)
        )))
    }
}

fn cure(kind: Kind) -> &'static str {
    match kind {
        Kind::Prepared => "Commit or roll back the prepared transactions there.",
        Kind::Slots => "Stop who reads the slots.",
        Kind::Subscriptions => "End the subscriptions there: DROP SUBSCRIPTION removes the slot of the publisher too.",
        Kind::Template => "Take the mark off: ALTER DATABASE … IS_TEMPLATE false.",
    }
}

/// The word for it on the command line.
#[must_use]
pub fn flag(kind: Kind) -> &'static str {
    match kind {
        Kind::Prepared => "prepared",
        Kind::Slots => "slots",
        Kind::Subscriptions => "subscriptions",
        Kind::Template => "template",
    }
}

/// A name as SQL wants it, printable.
fn quoted(name: &str) -> String {
    Printable(&postgres_protocol::escape::escape_identifier(name)).to_string()
}
