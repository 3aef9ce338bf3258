//! `drop`: a tenant's live database, on its primary and every replica. Its backups and its keys stay.
//!
//! Look (a plan, nothing written), then carry out: plan, close, end sessions, a last look at the holds, drop, note, and then every replica is
//! asked. Each step marks itself, and each may be repeated: a run that was killed is gone on with by the next one, by the same plan.
//! Until the last look nothing is lost, and a run that is refused or stopped opens the database again.

mod closing;
mod copies;
mod nodes;
mod plan;
mod refusals;
mod sessions;
mod steps;

use std::{collections::BTreeSet, time::Duration};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

pub use plan::Intent;
pub(super) use sessions::end_on_replicas;

use super::{
    failure::{Failure, FailureClass},
    fleet::{Cluster, Known},
    held::Locks,
    progress::Progress,
    purge::{OpenItem, PurgedKeyCopy, PurgedNode},
};
use crate::{
    format::{
        act::{Act, ActCommand, ActOn, ActOutcome},
        plan::{Found, NodeFound, Plan, PlannedDatabase, Step},
    },
    id::RecordId,
    keyring::Keyring,
    postgres::{
        Session, Target,
        drop_database::{self, Kind},
        replication::OWN_DISK,
        session_settings,
    },
    printable::{Word, confirmed},
    signature::SigningKey,
    tenant::TenantName,
    vault::Vault,
};

/// One cluster of the configuration, as a drop needs it.
#[derive(Clone)]
pub struct Server {
    /// Its name in the configuration.
    pub name: String,
    /// The login that drops: `admin`, or `primary`.
    pub admin: Target,
    /// The replicas, in the order of the configuration.
    pub replicas: Vec<Target>,
    /// How long each replica may take to replay a drop.
    pub replica_wait: Duration,
}

/// What it works with.
pub struct DropTenant<'a> {
    /// Where the backups are.
    pub vault: &'a Vault,
    /// Where the keys are.
    pub keyring: &'a Keyring,
    /// The fleet, for discovery.
    pub clusters: &'a [Cluster],
    /// The same, for dropping.
    pub servers: &'a [Server],
    /// The tenants' locks.
    pub locks: &'a dyn Locks,
    /// Signs the plan.
    pub operator: &'a SigningKey,
    /// Signs the note, steps, and the record of the act.
    pub eraser: &'a SigningKey,
    /// How many operators must have signed a plan before it begins; 0 where that is not asked for.
    pub approvals: u32,
    /// Whether it is a part of an erasure: then a tombstone does not stop it.
    pub within_erasure: bool,
    /// What of the things in the way is cleared away; all others stop it.
    pub clear: BTreeSet<Kind>,
    /// What may stay, by its name: receivers of the log, by application name or slot, that a person says keep no database; and copies.
    pub accept: Vec<String>,
    /// The host's clock.
    pub clock: &'a (dyn Fn() -> DateTime<Utc> + Sync),
    /// Told how it goes.
    pub progress: &'a dyn Progress,
    /// Stops it between two steps.
    pub cancel: &'a CancellationToken,
    /// What vault and keyring know of the fleet, asked once: that takes as long as there are tenants. Who lives where is asked each time.
    pub known: OnceCell<Known>,
}

/// What a drop says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DropReport {
    /// The plan's id; null where there is none.
    pub plan: Option<String>,
    /// The tenant.
    pub tenant: String,
    /// Whether this only says what would be done.
    pub dry_run: bool,
    /// Whether it is a database that was erased and was there again.
    pub came_back: bool,
    /// How far it has come.
    pub status: DropStatus,
    /// Its cluster; null when nothing is there to be dropped.
    pub cluster: Option<String>,
    /// The database; null when it is not there any more.
    pub database: Option<String>,
    /// Position in the primary's log that every replica has to replay; null before the drop.
    pub drop_lsn: Option<String>,
    /// Objects removed from the vault: none, a drop removes no backups.
    pub objects_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// The primary and every replica.
    pub nodes: Vec<PurgedNode>,
    /// Stores with copies of the keys: none, they stay.
    pub key_copies: Vec<PurgedKeyCopy>,
    /// What is left to be done.
    pub open: Vec<OpenItem>,
    /// Anything else that somebody should know.
    pub notes: Vec<String>,
    /// The certificate; null while there is none.
    pub certificate: Option<String>,
}

/// How far a drop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DropStatus {
    /// Planned, or begun.
    Requested,
    /// The database is gone from the primary.
    Dropped,
    /// It is gone from every replica as well.
    Closed,
}

/// What a run has done so far.
#[derive(Default)]
struct Done {
    /// Whether the plan has come to where the server is touched.
    is_planned: bool,
    /// Whether the last look at the holds is past.
    is_destroying: bool,
    drop_lsn: Option<String>,
    nodes: Vec<PurgedNode>,
    found: Vec<NodeFound>,
    open: Vec<OpenItem>,
    notes: Vec<String>,
    is_closed: bool,
}

/// How a run goes on after one that did not come to its end.
const AGAIN: &str = "what is done stays done: the same command goes on from there";

impl DropTenant<'_> {
    /// Carries out what [`DropTenant::look`] found.
    ///
    /// # Errors
    /// Before anything was destroyed: a hold, something in the way, a database that is not the planned one (4), a missing right; then the
    /// database is as it was, but for its sessions. Later: a server or a store that fails; the next run goes on. What is left open is in
    /// the report.
    pub async fn carry_out(&self, tenant: &TenantName, intent: &Intent) -> Result<DropReport, Failure> {
        let started_at = (self.clock)();
        self.progress.tenant_started(tenant, 0);
        let mut done = Done { is_planned: intent.is_begun(), is_destroying: intent.is_past(Step::Destroying), ..Done::default() };
        let outcome = match self.locks.take(tenant, &intent.database()?.cluster).await {
            Ok(lock) => self.steps(tenant, intent, &*lock, &mut done).await,
            Err(failure) => Err(failure),
        };
        let outcome = match outcome {
            Err(failure) => Err(self.give_back(tenant, intent, &done, failure).await),
            done => done,
        };
        self.progress.tenant_finished(tenant, if outcome.is_ok() { "done" } else { "failed" });
        // What was done is recorded, however it ended; why it ended is said first. A refusal is recorded by whoever asked for the drop.
        let is_refused = outcome.as_ref().is_err_and(|failure| failure.class == FailureClass::Refused);
        let recorded = match (done.is_planned && !is_refused, outcome.is_err(), done.open.is_empty()) {
            (false, ..) => Ok(()),
            (true, true, _) => self.record(intent, started_at, ActOutcome::Failed).await,
            (true, false, true) => self.record(intent, started_at, ActOutcome::Done).await,
            (true, false, false) => self.record(intent, started_at, ActOutcome::Open).await,
        };
        outcome?;
        recorded?;
        Ok(self.report(tenant, intent, done))
    }

    /// What a dry run says.
    ///
    /// # Errors
    /// A server that cannot be asked.
    pub async fn describe(&self, tenant: &TenantName, intent: &Intent) -> Result<DropReport, Failure> {
        let mut done = Done { notes: intent.notes(&self.clear), ..Done::default() };
        self.look_at_receivers(intent, &mut done).await?;
        let mut report = self.report(tenant, intent, done);
        report.dry_run = true;
        report.plan = intent.is_resumed().then(|| intent.plan.id.to_string());
        Ok(report)
    }

    /// What is said of a tenant whose database tenure dropped before, so that nothing is left to do.
    #[must_use]
    pub fn nothing(tenant: &TenantName) -> DropReport {
        DropReport {
            plan: None,
            tenant: tenant.as_str().to_owned(),
            dry_run: false,
            came_back: false,
            status: DropStatus::Closed,
            cluster: None,
            database: None,
            drop_lsn: None,
            objects_removed: 0,
            bytes_removed: 0,
            nodes: Vec::new(),
            key_copies: Vec::new(),
            open: Vec::new(),
            notes: Vec::new(),
            certificate: None,
        }
    }

    fn report(&self, tenant: &TenantName, intent: &Intent, done: Done) -> DropReport {
        DropReport {
            plan: Some(intent.plan.id.to_string()),
            came_back: intent.came_back(),
            status: match (done.is_closed, &done.drop_lsn) {
                (true, _) => DropStatus::Closed,
                (false, Some(_)) => DropStatus::Dropped,
                (false, None) => DropStatus::Requested,
            },
            cluster: intent.plan.databases.first().map(|database| database.cluster.clone()),
            database: intent.doomed.as_ref().map(|doomed| doomed.name.clone()),
            drop_lsn: done.drop_lsn,
            nodes: done.nodes,
            open: done.open,
            notes: done.notes,
            ..Self::nothing(tenant)
        }
    }

    async fn record(&self, intent: &Intent, started_at: DateTime<Utc>, outcome: ActOutcome) -> Result<(), Failure> {
        let plan = &intent.plan;
        let on = plan.lockers.iter().map(|planned| ActOn {
            locker: planned.locker,
            name_tag: Some(plan.name_tag),
            backups: Vec::new(),
            keys: Vec::new(),
            holds: Vec::new(),
            objects: 0,
            bytes: 0,
        });
        let act = Act {
            plan: Some(plan.id),
            lockers: on.collect(),
            about: vec![plan.name_tag],
            ..Act::new(self.vault.root().installation, ActCommand::Drop, (started_at, (self.clock)()), outcome)
        };
        Ok(self.vault.put_act(&act, self.eraser).await?)
    }

    /// Writes that the plan has come past a step.
    async fn mark(&self, plan: &Plan, step: Step, found: Found) -> Result<(), Failure> {
        Ok(self.vault.put_mark(plan.id, step, ((self.clock)(), found), self.eraser).await?)
    }

    fn server(&self, cluster: &str) -> Result<&Server, Failure> {
        self.servers.iter().find(|server| server.name == cluster).ok_or_else(|| {
            let message = format!("the configuration does not have cluster {cluster}, on which the database is");
            Failure::new(FailureClass::Failed, "no-such-cluster", cluster, message).hint("Add it under [cluster.NAME] again.")
        })
    }

    /// The configured servers of a cluster by which its databases are dropped: the primary, and every replica. None where it is not configured.
    pub(super) fn nodes<'s>(&'s self, cluster: &'s str) -> impl Iterator<Item = (String, &'s Target)> {
        self.servers.iter().filter(move |server| server.name == cluster).flat_map(move |server| {
            let replicas =
                server.replicas.iter().enumerate().map(move |(n, target)| (format!("{cluster} replica {}", n + 1), target));
            std::iter::once((format!("{cluster} primary"), &server.admin)).chain(replicas)
        })
    }

    /// A session by which a database can be dropped, on the very server that the plan names.
    async fn connect(&self, database: &PlannedDatabase) -> Result<Session, Failure> {
        let server = self.server(&database.cluster)?;
        let session = open(&server.admin).await?;
        let facts = crate::postgres::server_facts::read(&session).await?;
        let endpoint = session.target().endpoint();
        if facts.system_identifier != database.system_identifier {
            let message = format!(
                "{endpoint} is another server than the one that the database was on: its system identifier is {}, not {}",
                facts.system_identifier, database.system_identifier
            );
            return Err(Failure::new(FailureClass::Refused, "another-server", endpoint, message)
                .hint("Nothing was dropped. Correct `primary` and `admin` of the cluster; after a move `tenure admit --source` says where the tenant is now."));
        }
        if facts.in_recovery {
            let message = format!("{endpoint} is a standby: nothing can be dropped there");
            return Err(Failure::new(FailureClass::Failed, "standby", endpoint, message)
                .hint("Nothing was dropped. Correct `primary` and `admin`, or add target_session_attrs=primary."));
        }
        Ok(session)
    }

    pub(super) async fn known(&self) -> Result<&Known, Failure> {
        self.known.get_or_try_init(|| Known::read(self.vault, self.keyring)).await
    }

    /// The command that goes on with a plan.
    fn command(&self, tenant: &TenantName, plan: &Plan) -> String {
        match (self.within_erasure, plan.lockers.is_empty()) {
            (true, _) => format!("`tenure erase {}`", Word(tenant.as_str())),
            (false, true) => format!("`{}`", by_id(tenant, plan.id)),
            (false, false) => format!("`tenure drop {}`", Word(tenant.as_str())),
        }
    }

    fn stop_if_asked(&self, tenant: &TenantName) -> Result<(), Failure> {
        if !self.cancel.is_cancelled() {
            return Ok(());
        }
        Err(Failure::new(FailureClass::Interrupted, "interrupted", tenant, format!("the drop of tenant {tenant} was stopped"))
            .hint(AGAIN))
    }
}

/// A session in the maintenance database, with settings of its own.
pub(super) async fn open(target: &Target) -> Result<Session, Failure> {
    let session = target.connect(target.maintenance_database(), "tenure drop").await?;
    session.refuse_pooler().await?;
    let settings = session_settings::statements(&[&session_settings::NO_TIME_LIMITS, &OWN_DISK]);
    crate::postgres::statement::Failed::failed(
        session.batch_execute(&settings).await,
        "preparing a session on",
        &target.endpoint(),
    )?;
    Ok(session)
}

/// The name of the database with this OID on the server with this system identifier: `Some(None)` where it is not there, `None` where the server
/// is another one.
pub(super) async fn database_name(target: &Target, system_identifier: &str, oid: u32) -> Result<Option<Option<String>>, Failure> {
    let session = open(target).await?;
    if crate::postgres::server_facts::read(&session).await?.system_identifier != system_identifier {
        return Ok(None);
    }
    Ok(Some(drop_database::name_of(&session, oid).await?))
}

/// The command that goes on with a plan of what has come back.
#[must_use]
pub fn by_id(tenant: &TenantName, plan: RecordId) -> String {
    confirmed("drop", tenant.as_str(), &format!(" --plan {plan}"))
}
