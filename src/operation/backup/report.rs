//! What `backup` says at its end.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;

use super::ambiguous_tenant;
use crate::{
    format::act::{Newest, NightOf, NightOutcome},
    id::RecordId,
    operation::{
        erased::Erasures,
        failure::{Failure, FailureClass, SCHEMA_CHANGED, TABLE_LOCKED},
        fleet::{Cluster, Fleet, Known},
    },
    postgres::discover::Closed,
    tenant::TenantName,
};

const KEYS_CHECK: &str = "`tenure keys check` says what is wrong with it. Tenants whose records are whole are still backed up.";

/// Another session waited behind the backup for too long.
pub(super) const GAVE_WAY: &str = "gave-way";

/// The outcome of a run.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BackupReport {
    /// Id of the run, which is in every line that it logged.
    pub run: String,
    /// Each tenant's outcome, by name.
    pub results: Vec<BackupResult>,
    /// What concerns the fleet and not one tenant, and stops nothing: unassigned databases, tenants missing.
    pub findings: Vec<String>,
    /// What kept tenants from being looked at at all: clusters out of reach, names in two places, records that cannot be trusted.
    pub errors: Vec<BackupFailure>,
    /// The gravest class among them, which decides the exit code.
    #[serde(skip)]
    pub class: Option<FailureClass>,
    /// Under [`Which::Due`](super::Which::Due): every tenant of the schedule, as it stands now.
    #[serde(skip)]
    pub stood: BTreeMap<TenantName, NightOf>,
}

/// One tenant's outcome.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BackupResult {
    /// The tenant.
    pub tenant: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Id of the new backup.
    pub backup: Option<String>,
    /// Plaintext read, in bytes.
    pub bytes_read: u64,
    /// Sealed bytes written.
    pub bytes_stored: u64,
    /// Chunks written.
    pub chunks_stored: u64,
    /// Chunks that were already there.
    pub chunks_reused: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// What the operator should know, though the backup is good.
    pub findings: Vec<String>,
    /// Why it failed; or, where it is done, what the backup lacks that it should have.
    pub error: Option<BackupFailure>,
    /// The new backup.
    #[serde(skip)]
    pub newest: Option<Newest>,
}

/// Why one tenant, or more than one, failed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct BackupFailure {
    /// For scripts.
    pub kind: String,
    /// What it is about: a tenant, a cluster, an object.
    pub object: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// What kind of failure it is.
    #[serde(skip)]
    pub class: FailureClass,
}

/// What became of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A new backup exists.
    Done,
    /// None does.
    Failed,
    /// Another run is at it.
    Busy,
    /// A guard stopped it: erased, purged, or its source changed.
    Refused,
}

impl Outcome {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Busy => "busy",
            Self::Refused => "refused",
        }
    }
}

/// What a good backup says of itself.
pub struct Done {
    /// What it is.
    pub newest: Newest,
    /// What it read, stored and re-used.
    pub totals: crate::format::manifest::Totals,
    /// What the operator should know.
    pub findings: Vec<String>,
    /// The backup counts, and a grant is missing.
    pub incomplete: Option<Failure>,
}

impl BackupResult {
    pub(super) fn new(tenant: &TenantName, result: Result<Done, Failure>, duration: Duration) -> Self {
        let mut this = Self {
            tenant: tenant.as_str().to_owned(),
            outcome: Outcome::Done,
            backup: None,
            bytes_read: 0,
            bytes_stored: 0,
            chunks_stored: 0,
            chunks_reused: 0,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            findings: Vec::new(),
            error: None,
            newest: None,
        };
        match result {
            Ok(done) => {
                this.backup = Some(done.newest.backup.to_string());
                this.newest = Some(done.newest);
                this.bytes_read = done.totals.bytes_read;
                this.bytes_stored = done.totals.bytes_stored;
                this.chunks_stored = done.totals.chunks_stored;
                this.chunks_reused = done.totals.chunks_reused;
                this.findings = done.findings;
                this.error = done.incomplete.map(Into::into);
            }
            Err(failure) => {
                this.outcome = match failure.class {
                    FailureClass::Busy => Outcome::Busy,
                    FailureClass::Refused => Outcome::Refused,
                    _ => Outcome::Failed,
                };
                this.error = Some(failure.into());
            }
        }
        this
    }

    /// The outcome in a word, for people: who was stopped did not fail.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match &self.error {
            Some(error) if error.class == FailureClass::Interrupted => "interrupted",
            _ => self.outcome.as_str(),
        }
    }

    /// Whether it failed because another session wanted the same tables or changed the schema, so that it may go better later.
    pub(super) fn was_in_the_way(&self) -> bool {
        self.error.as_ref().is_some_and(|error| [GAVE_WAY, TABLE_LOCKED, SCHEMA_CHANGED].contains(&error.kind.as_str()))
    }

    /// A bug in one tenant's run is that tenant's failure.
    pub(super) fn panicked(tenant: &TenantName, error: &tokio::task::JoinError, duration: Duration) -> Self {
        let message = format!("the backup of tenant {tenant} ended unexpectedly: {error}");
        let failure = Failure::new(FailureClass::Failed, "panicked", tenant, message);
        Self::new(tenant, Err(failure.hint("No backup was made. The log says where. This is a bug.")), duration)
    }

    /// Whether another run has the tenant.
    pub(super) fn is_busy(&self) -> bool {
        self.outcome == Outcome::Busy
    }

    pub(super) fn interrupted(tenant: &TenantName) -> Self {
        let failure = Failure::new(FailureClass::Interrupted, "interrupted", tenant, "stopped before its turn");
        Self::new(tenant, Err(failure), Duration::ZERO)
    }
}

impl From<Failure> for BackupFailure {
    fn from(failure: Failure) -> Self {
        Self {
            kind: failure.kind.to_owned(),
            message: failure.one_line(),
            class: failure.class,
            object: failure.object,
            hint: failure.hint,
        }
    }
}

impl BackupReport {
    pub(super) fn new(run: RecordId) -> Self {
        Self {
            run: run.to_string(),
            results: Vec::new(),
            findings: Vec::new(),
            errors: Vec::new(),
            class: None,
            stood: BTreeMap::new(),
        }
    }

    pub(super) fn note_fleet(&mut self, fleet: &Fleet, known: &Known) {
        for (cluster, discovery) in &fleet.clusters {
            match discovery {
                Ok(discovery) => self.note_closed(cluster, &discovery.closed, known),
                Err(failure) => {
                    let message = format!(
                        "cluster {} could not be asked, and none of its tenants is backed up: {}",
                        cluster.name,
                        failure.one_line()
                    );
                    self.failed(Failure::new(failure.class, failure.kind, &cluster.name, message).hint(failure.hint.clone()));
                }
            }
        }
        for (tenant, places) in fleet.ambiguous() {
            self.failed(ambiguous_tenant(&tenant, &places));
        }
        for (cluster, tenant) in fleet.missing(known) {
            self.findings.push(format!("tenant {tenant} is missing on cluster {cluster}; its backups stay"));
        }
        let unassigned = fleet.unassigned();
        if !unassigned.is_empty() {
            self.findings
                .push(format!("no rule covers {}: list them under `ignore`, or they are nobody's", unassigned.join(", ")));
        }
        self.findings.extend(known.returned.iter().map(|returned| returned.said.clone()));
        for (tenant, error) in known.untrusted() {
            let message = format!("tenant {tenant}: {error}; no new tenant is taken in until that is settled");
            self.failed(
                Failure::new(FailureClass::Integrity, "untrusted-record", tenant, message)
                    .hint("`tenure verify --all` says what is wrong with it."),
            );
        }
        for problem in &known.census.problems {
            self.failed(
                Failure::new(FailureClass::Integrity, "untrusted-record", problem.object(), problem.to_string()).hint(KEYS_CHECK),
            );
        }
    }

    /// Databases that let nobody in. Whoever has a history and is not read is a failure, whatever the reason.
    fn note_closed(&mut self, cluster: &Cluster, closed: &[Closed], known: &Known) {
        for Closed { tenant, because, .. } in closed {
            let tag = known.census.tenants.get(tenant).map(|keys| keys.tag);
            if tag.and_then(|tag| known.erased.get(&tag)).is_some_and(Erasures::is_refused) {
                self.findings.push(format!("tenant {tenant} on {} is being erased, and is not backed up", cluster.name));
                continue;
            }
            let message = format!("tenant {tenant} on {} is not backed up: {because}", cluster.name);
            if known.sources.contains_key(tenant) {
                let hint = "It has backups from before; they stay. Open the database again, or say that it is gone.";
                self.failed(Failure::new(FailureClass::Failed, "tenant-closed", tenant, message).hint(hint));
            } else {
                self.findings.push(message);
            }
        }
    }

    pub(super) fn failed(&mut self, failure: Failure) {
        self.errors.push(failure.into());
    }

    /// A bug in a part of the run that is no tenant's.
    pub(super) fn panicked(&mut self, error: &tokio::task::JoinError) {
        let message = format!("a part of the run ended unexpectedly: {error}");
        self.failed(Failure::new(FailureClass::Failed, "panicked", "backup", message).hint("The log says where. This is a bug."));
    }

    /// Decides the exit code. Under `--all`, a tenant that another worker has is fine.
    pub(super) fn finish(&mut self, named: bool, cancelled: bool) {
        self.results.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        let stands = |stood: &NightOf| matches!(stood.outcome, NightOutcome::Done | NightOutcome::Current);
        let done = self.results.iter().any(|result| result.outcome == Outcome::Done) || self.stood.values().any(stands);
        let failures = self.results.iter().filter_map(|result| result.error.as_ref()).chain(&self.errors);
        let mut classes: Vec<FailureClass> =
            failures.map(|failure| failure.class).filter(|class| named || *class != FailureClass::Busy).collect();
        if cancelled {
            classes.push(FailureClass::Interrupted);
        }
        self.class = FailureClass::worst_of_many(classes, done);
    }
}
