//! What `check` found.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{operation::failure::Failure, postgres::ConnInfoError};

/// Everything that the coming night needs, each found to be so or not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Report {
    /// How many findings are errors. With any, the exit code is 1.
    pub errors: u32,
    /// How many are warnings.
    pub warnings: u32,
    /// All of them: clusters first, then programs, stores, and this host.
    pub findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// How it is.
    pub level: Level,
    /// What was looked at: `cluster eu-1`, `vault s3://acme`, `pg_dump`.
    pub object: String,
    /// What was found.
    pub message: String,
    /// What to do about it. `null` where there is nothing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// The night will run; somebody should look.
    Warning,
    /// The night will fail, or its backups would not be what was promised.
    Error,
}

impl Report {
    pub(super) fn ok(&mut self, object: impl Into<String>, message: impl Into<String>) {
        self.add(Level::Ok, object.into(), message.into(), None);
    }

    pub(super) fn warning(&mut self, object: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Level::Warning, object.into(), message.into(), Some(hint.into()));
    }

    pub(super) fn error(&mut self, object: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.add(Level::Error, object.into(), message.into(), Some(hint.into()));
    }

    /// An error that stopped a part of the check.
    pub(super) fn failure(&mut self, object: &str, failure: &Failure) {
        let hint = if failure.hint.is_empty() { "See the cause.".to_owned() } else { failure.hint.clone() };
        self.error(object, failure.one_line(), hint);
    }

    /// A connection description that cannot be used.
    pub(super) fn description(&mut self, object: &str, error: &ConnInfoError) {
        self.error(
            object,
            format!("its connection description cannot be used: {error}"),
            "It is a description as `psql` takes it: key=value words, or a postgresql:// address.",
        );
    }

    fn add(&mut self, level: Level, object: String, message: String, hint: Option<String>) {
        match level {
            Level::Ok => {}
            Level::Warning => self.warnings += 1,
            Level::Error => self.errors += 1,
        }
        self.findings.push(Finding { level, object, message, hint });
    }

    pub(super) fn append(&mut self, other: Self) {
        self.errors += other.errors;
        self.warnings += other.warnings;
        self.findings.extend(other.findings);
    }
}
