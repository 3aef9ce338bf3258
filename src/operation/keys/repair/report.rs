//! What a repair says.

use schemars::JsonSchema;
use serde::Serialize;

use crate::operation::{failure::FailureClass, keys::KeyProblem};

/// What `keys repair` says.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct RepairReport {
    /// Whether it only looked.
    pub dry_run: bool,
    /// Stores that were compared: the keyring first.
    pub stores: Vec<String>,
    /// What was put back, or with `dry_run` would be.
    pub put_back: Vec<PutBack>,
    /// What is wrong and was not mended: copies that differ, keys that no store has whole.
    pub problems: Vec<KeyProblem>,
    /// Objects of tenants that were erased or purged: never put back.
    pub left_alone: Vec<String>,
    /// Wrappings that are still there though a newer one counts: who is no recipient any more may open them. `keys rewrap` removes them.
    pub superseded: Vec<String>,
    /// Records in mirrors that a first run left which did not end: nothing was ever sealed with their keys.
    pub leftovers: Vec<String>,
    /// Mirrors that could not be reached, each with the reason.
    pub not_reached: Vec<String>,
}

impl RepairReport {
    /// The gravest thing in it, which decides the exit code.
    #[must_use]
    pub fn class(&self) -> Option<FailureClass> {
        let integrity = (!self.problems.is_empty()).then_some(FailureClass::Integrity);
        integrity.or((!self.not_reached.is_empty()).then_some(FailureClass::Failed))
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.put_back.extend(other.put_back);
        self.problems.extend(other.problems);
        self.left_alone.extend(other.left_alone);
        self.superseded.extend(other.superseded);
        self.leftovers.extend(other.leftovers);
    }

    pub(super) fn problem(&mut self, object: String, problem: impl Into<String>) {
        self.problems.push(KeyProblem { tenant: None, object, problem: problem.into() });
    }
}

/// One object that was put back.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct PutBack {
    /// The tenant, where it is known.
    pub tenant: Option<String>,
    /// Address and name of the object.
    pub object: String,
    /// The store that had it whole.
    pub from: String,
}
