//! What `restore --all` says at its end.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    operation::{
        failure::{Failure, FailureClass},
        restore::Report,
    },
    tenant::TenantName,
};

/// What became of the fleet. Serialised as the document of `--json`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct FleetReport {
    /// Each tenant's outcome, by name.
    pub results: Vec<TenantResult>,
    /// What concerns no single tenant.
    pub findings: Vec<String>,
    /// How long it all took.
    pub duration_ms: u64,
    /// The gravest class among them, which decides the exit code.
    #[serde(skip)]
    pub class: Option<FailureClass>,
}

/// One tenant's outcome.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TenantResult {
    /// The tenant.
    pub tenant: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Which backup.
    pub backup: Option<String>,
    /// Where it is now.
    pub cluster: Option<String>,
    /// What its database is called.
    pub database: Option<String>,
    /// Tables with their rows.
    pub tables: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes of COPY text.
    pub bytes: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// What somebody should know though it is restored.
    pub notes: Vec<String>,
    /// Why it failed.
    pub error: Option<TenantFailure>,
    #[serde(skip)]
    pub(super) class: Option<FailureClass>,
}

/// Why one tenant failed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TenantFailure {
    /// For scripts.
    pub kind: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// What became of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Restored and proven.
    Done,
    /// An earlier run had restored and proven it.
    Already,
    /// It is not there.
    Failed,
    /// A guard stopped it: erased, purged, expired, or it needs `--allow`.
    Refused,
    /// Another run is at it.
    Busy,
}

impl Outcome {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Already => "already",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Busy => "busy",
        }
    }
}

impl FleetReport {
    /// What several tenants' notes say alike concerns the fleet, and is said once.
    pub(super) fn gather_notes(&mut self) {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for note in self.results.iter().flat_map(|result| &result.notes) {
            *counts.entry(note.clone()).or_default() += 1;
        }
        counts.retain(|_, count| *count > 1);
        for result in &mut self.results {
            result.notes.retain(|note| !counts.contains_key(note));
        }
        self.findings.extend(counts.into_keys());
    }
}

impl TenantResult {
    /// The outcome in words, for people: who was stopped did not fail.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match (self.class, self.outcome) {
            (Some(FailureClass::Interrupted), _) => "interrupted",
            (_, Outcome::Already) => "done before",
            (_, outcome) => outcome.as_str(),
        }
    }

    pub(super) fn empty(tenant: &TenantName, outcome: Outcome, duration: Duration) -> Self {
        Self {
            tenant: tenant.as_str().to_owned(),
            outcome,
            backup: None,
            cluster: None,
            database: None,
            tables: 0,
            rows: 0,
            bytes: 0,
            duration_ms: millis(duration),
            notes: Vec::new(),
            error: None,
            class: None,
        }
    }

    pub(super) fn done(report: Report) -> Self {
        Self {
            backup: Some(report.backup.to_string()),
            cluster: Some(report.cluster),
            database: Some(report.database),
            tables: report.tables,
            rows: report.rows,
            bytes: report.bytes,
            duration_ms: report.duration_ms,
            notes: report.notes,
            ..Self::empty(&report.tenant, Outcome::Done, Duration::ZERO)
        }
    }

    pub(super) fn failed(tenant: &TenantName, failure: Failure, duration: Duration) -> Self {
        let outcome = match failure.class {
            FailureClass::Busy => Outcome::Busy,
            FailureClass::Refused => Outcome::Refused,
            _ => Outcome::Failed,
        };
        let error = TenantFailure { kind: failure.kind.to_owned(), message: failure.one_line(), hint: failure.hint };
        Self { error: Some(error), class: Some(failure.class), ..Self::empty(tenant, outcome, duration) }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
