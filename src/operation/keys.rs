//! `keys`: looking at the tenants' keys, mending them, and changing them.

pub mod change;
pub mod check;
pub mod list;
pub mod prune;
pub mod repair;
pub mod rewrap;
pub mod rotate;

use schemars::JsonSchema;
use serde::Serialize;

pub use self::{
    change::{KeysFailure, Outcome, Which},
    check::{KeysCheckReport, check},
    list::{KeysReport, list},
};
pub(super) use check::Listing;

use super::failure::Failure;
use crate::{signed::DocumentError, store::Store};

/// What is wrong with a secret half, and where it comes back from: each copy of it has the same bytes.
pub(super) fn from_another(error: &DocumentError) -> String {
    let first = if matches!(error, DocumentError::Missing { .. }) { "" } else { "move it away, and " };
    format!("{}: {first}`tenure keys repair` puts it back from a mirror", error.what())
}

/// A mirror that could not be reached, why, and what to do when it is lost.
fn not_reached(mirror: &dyn Store, error: DocumentError) -> String {
    let failure = Failure::from(error);
    let lost = match mirror.address().strip_prefix("file://") {
        Some(path) if failure.kind == "no-such-store" => {
            format!("; if it is lost and not merely unmounted: `mkdir {path}`, and `tenure keys repair` fills it")
        }
        None if failure.kind == "no-such-store" => {
            "; if it is lost: make the bucket, and `tenure keys repair` fills it".to_owned()
        }
        _ => String::new(),
    };
    format!("{}: {}{lost}", mirror.address(), failure.one_line())
}

/// One thing that is wrong with a key.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct KeyProblem {
    /// The tenant, where it is known.
    pub tenant: Option<String>,
    /// The key, record or locker.
    pub object: String,
    /// What is wrong with it.
    pub problem: String,
}
