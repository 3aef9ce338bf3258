//! `backup`: every tenant's rows, sealed and stored, and a signed manifest that says so.

mod commit;
mod due;
mod findings;
mod key;
mod locks;
mod pages;
pub mod protocol;
mod queue;
mod read;
mod report;
mod reuse;
mod room;
mod schema;
pub mod sink;
mod tenant;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

pub use due::Due;
use queue::Job;
pub use report::{BackupFailure, BackupReport, BackupResult, Done, Outcome};
pub use reuse::Reuse;
pub use room::Room;

use super::{
    budget::Budget,
    erased,
    failure::{Failure, FailureClass},
    fleet::{Cluster, Fleet, Known, Resident},
    lost, mirrors,
    progress::Progress,
};
use crate::{
    id::RecordId,
    keyring::Keyring,
    postgres::tools::Tools,
    printable::Printable,
    retention::Keep,
    seal::RecoveryRecipients,
    signature::{Namespace, SigningKey},
    tenant::TenantName,
    vault::Vault,
};

/// Plaintext, packed and sealed bytes in flight, over all tenants of a process, measured as plaintext. Packed and sealed copies
/// come on top, at about a third of it.
pub const BYTES_IN_FLIGHT: u32 = 48 * 1024 * 1024;

/// Connections that one tenant needs at least: its lock, the snapshot's leader, `pg_dump`, one reader.
pub const CONNECTIONS_PER_TENANT: u32 = 4;

/// How often a tenant is tried whose tables somebody else wants to change at the same time.
const ATTEMPTS: u32 = 3;

/// What was promised for a tenant.
#[derive(Debug, Clone)]
pub struct Promise {
    /// How long its backups are kept.
    pub keep: Keep,
    /// Tables whose rows are left out.
    pub exclude_data: Vec<String>,
}

/// Which tenants to back up.
#[derive(Debug, Clone)]
pub enum Which {
    /// Every tenant that discovery finds.
    All {
        /// Go on although tenants are missing, or there is none.
        accept_missing: bool,
    },
    /// These. One that somebody else is backing up is a failure.
    Named(Vec<TenantName>),
    /// Those of a schedule that are due.
    Due(Due),
}

/// What a backup works with. Cheap to clone.
#[derive(Clone)]
pub struct Backup {
    /// Where backups go.
    pub vault: Vault,
    /// Where keys are.
    pub keyring: Keyring,
    /// To whom new tenant keys are wrapped.
    pub recipients: Arc<RecoveryRecipients>,
    /// The worker's signing key.
    pub signer: Arc<SigningKey>,
    /// The fleet.
    pub clusters: Vec<Cluster>,
    /// PostgreSQL's own programs.
    pub tools: Arc<Tools>,
    /// Tenants at once, and readers at once over all of them.
    pub jobs: usize,
    /// How long one table lock is waited for.
    pub lock_timeout: Duration,
    /// How long another session may wait behind a backup's snapshot before the backup gives way and is tried again after all others.
    /// `None`: until the backup is done.
    pub yield_after: Option<Duration>,
    /// How long a snapshot may be held: as long, its server cannot clean up dead rows.
    pub max_snapshot_age: Duration,
    /// What was promised for a tenant.
    pub promise: Arc<dyn Fn(&TenantName) -> Promise + Send + Sync>,
    /// Plaintext in flight over all tenants, where there is no [`Backup::room`].
    pub budget: Budget,
    /// What it shares with other runs of this process; `None`: nothing.
    pub room: Option<Room>,
    /// The host's clock.
    pub clock: fn() -> DateTime<Utc>,
    /// Goes on with the tenants whose keys are there, although the keyring lost others'.
    pub accept_lost_keys: bool,
    /// Is told how far it is.
    pub progress: Arc<dyn Progress>,
    /// Stops it cleanly.
    pub cancel: CancellationToken,
    /// Version of tenure, for people.
    pub version: String,
}

/// Limits that all tenants of a run share.
#[derive(Clone)]
struct Limits {
    room: Room,
    /// Why no tenant may be taken for a new one, when there is a reason.
    nobody_new: Option<Arc<str>>,
    /// Names that are new, each with the tenant whose database answers to it now.
    renamed: Arc<BTreeMap<TenantName, TenantName>>,
    /// Names that an erased tenant's database answers to.
    erased: Arc<BTreeSet<TenantName>>,
    /// Nobody else is backed up than who is due.
    due: Option<Arc<Due>>,
}

impl Backup {
    /// Backs up the tenants of `which`, `jobs` at once, the largest first or as they are due. A tenant that fails stops no other.
    ///
    /// # Errors
    /// What stops all of them: a fleet that cannot be right, a store that cannot be reached. The outcome of each tenant is in the report.
    pub async fn run(self, which: &Which) -> Result<BackupReport, Failure> {
        // A manifest that nobody believes is no backup: better none is written.
        self.vault
            .check_signer(&self.signer, Namespace::Manifest, (self.clock)())
            .map_err(|error| Failure::key_not_allowed("worker", error))?;
        locks::prepare(&self).await?;
        let mut report = BackupReport::new(RecordId::random());
        report.findings.extend(findings::of_clock("vault", self.vault.store().clock_ahead_seconds().await?.unwrap_or(0)));
        let known = Known::read(&self.vault, &self.keyring).await?;
        let whole = lost::refuse_incomplete(&self.vault, &self.keyring, &known.census, ": nothing was backed up").await;
        if let Err(failure) = whole {
            if !self.accept_lost_keys {
                let hint = format!("{} Until then `--accept-lost-keys` backs up the tenants whose keys are there.", failure.hint);
                return Err(failure.hint(hint));
            }
            report.failed(failure);
        }
        // Beside the backups: a mirror that does not answer keeps nobody waiting whose key is there.
        let (vault, keyring, dead) = (self.vault.clone(), self.keyring.clone(), known.dead.clone());
        let mirrors = tokio::spawn(async move { mirrors::look(&vault, &keyring, &dead).await }.in_current_span());
        let fleet = Fleet::discover(&self.clusters, &known).await;
        let jobs = match which {
            Which::All { accept_missing } => {
                if !accept_missing {
                    fleet.check_plausible(&known)?;
                }
                report.note_fleet(&fleet, &known);
                largest_first(fleet.residents().into_values().collect())
            }
            Which::Due(due) => {
                if let Err(failure) = fleet.check_plausible(&known) {
                    report.failed(failure.hint(
                        "Whoever is there is backed up all the same. Bring back what is missing; `tenure purge` lets go of who has left for good.",
                    ));
                }
                report.note_fleet(&fleet, &known);
                let (jobs, others) = self.survey(due, &fleet, &known).await?;
                report.stood.extend(others);
                jobs
            }
            Which::Named(names) => {
                let residents = fleet.residents();
                for name in names.iter().filter(|name| !residents.contains_key(name)) {
                    erased::refuse(&self.vault, &self.keyring, name).await?;
                }
                largest_first(named(names, &fleet, &known)?)
            }
        };
        let queue = || jobs.iter().map(|job| &job.resident);
        self.progress.planned(jobs.len(), queue().filter_map(|resident| resident.found.bytes).sum());
        let new = queue().filter(|resident| !known.census.tenants.contains_key(&resident.tenant));
        let renamed = new.filter_map(|resident| Some((resident.tenant.clone(), known.owner_of(resident)?.clone()))).collect();
        let is_erased = |resident: &&Resident| known.is_erased(&resident.system_identifier, resident.found.oid);
        let erased = queue().filter(is_erased).map(|resident| resident.tenant.clone()).collect();
        // What cannot be read there may name any database.
        let doubtful = known.erased.values().find_map(|erasures| erasures.doubtful().next());
        let doubtful = doubtful.map(|(object, why)| format!("{object}: {why}"));
        let room = self.room.clone().unwrap_or_else(|| Room::with_budget(self.jobs, &self.clusters, self.budget.clone()));
        let limits = Limits {
            room,
            nobody_new: known
                .untrusted()
                .next()
                .map(|(tenant, error)| format!("tenant {tenant}: {error}"))
                .or(doubtful)
                .map(Into::into),
            renamed: Arc::new(renamed),
            erased: Arc::new(erased),
            due: if let Which::Due(due) = which { Some(Arc::new(due.clone())) } else { None },
        };
        let named = matches!(which, Which::Named(_));
        self.work(jobs, &limits, &mut report).await;
        match mirrors.await {
            Ok(Ok(wrong)) => report.findings.extend(
                wrong.iter().map(|(mirror, failure)| format!("mirror {mirror}: {} ({})", failure.one_line(), failure.hint)),
            ),
            Ok(Err(failure)) => report.failed(failure),
            Err(error) => report.panicked(&error),
        }
        report.finish(named, self.cancel.is_cancelled());
        Ok(report)
    }
}

/// Tenants asked for by name, each found on exactly one cluster.
fn named(names: &[TenantName], fleet: &Fleet, known: &Known) -> Result<Vec<Resident>, Failure> {
    let mut residents = fleet.residents();
    let mut ambiguous = fleet.ambiguous();
    let mut wanted = Vec::new();
    for name in names {
        if let Some(resident) = residents.remove(name) {
            wanted.push(resident);
        } else if wanted.iter().any(|resident| resident.tenant == *name) {
            // Named twice on the command line.
        } else if let Some(places) = ambiguous.remove(name) {
            return Err(ambiguous_tenant(name, &places));
        } else {
            return Err(absent_tenant(name, fleet, known));
        }
    }
    Ok(wanted)
}

pub(super) fn ambiguous_tenant(name: &TenantName, places: &[String]) -> Failure {
    let message = format!("tenant {name} is ambiguous: {} answer to it", places.join(" and "));
    Failure::new(FailureClass::Failed, "ambiguous-tenant", name, message)
        .hint("Only one database may be the tenant: rename the other one, or list it under `ignore`.")
}

pub(super) fn absent_tenant(name: &TenantName, fleet: &Fleet, known: &Known) -> Failure {
    let unreachable = fleet.clusters.iter().find_map(|(cluster, discovery)| Some((cluster, discovery.as_ref().err()?)));
    if let Some((cluster, failure)) = unreachable {
        let message =
            format!("tenant {name} was not found, and cluster {} could not be asked: {}", cluster.name, failure.one_line());
        return Failure::new(FailureClass::Failed, "cluster-unreachable", &cluster.name, message).hint(failure.hint.clone());
    }
    let closed = fleet.clusters.iter().find_map(|(cluster, discovery)| {
        let closed = discovery.as_ref().ok()?.closed.iter().find(|closed| closed.tenant == *name)?;
        Some((cluster, closed))
    });
    if let Some((cluster, closed)) = closed {
        let message = format!(
            "database {} of tenant {name} on {} cannot be read: {}",
            Printable(&closed.database),
            cluster.name,
            closed.because
        );
        return Failure::new(FailureClass::Failed, "tenant-closed", name, message)
            .hint("Open the database to connections again, or restore the tenant if it is lost. Earlier backups stay.");
    }
    if let Some(at) = known.dropped.get(name) {
        let message = format!(
            "the database of tenant {name} was dropped by tenure: that was planned at {}",
            at.format("%Y-%m-%d %H:%M:%S UTC")
        );
        return Failure::new(FailureClass::Failed, "tenant-dropped", name, message)
            .hint("Its backups stay: `tenure restore` brings one back.");
    }
    if known.census.tenants.contains_key(name) {
        let message = format!("the database of tenant {name} is not there any more");
        return Failure::new(FailureClass::Failed, "tenant-missing", name, message).hint(format!(
            "Its backups stay: `tenure list {}` shows them, `tenure restore` brings one back.",
            Printable(name.as_str())
        ));
    }
    Failure::new(FailureClass::Failed, "unknown-tenant", name, format!("no database answers to tenant {name}"))
        .hint("`tenure tenants` lists what discovery finds. The name is the tenant's, not its database's.")
}

/// The largest first, so that none is left alone at the end; then by name.
fn largest_first(mut residents: Vec<Resident>) -> Vec<Job> {
    residents.sort_by(|a, b| b.found.bytes.cmp(&a.found.bytes).then_with(|| a.tenant.cmp(&b.tenant)));
    residents.into_iter().map(|resident| Job::new(resident, None)).collect()
}
