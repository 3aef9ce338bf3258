//! `keys`: looking at the tenants' keys, mending them, and changing them.

pub mod change;
pub mod check;
pub mod list;
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

/// Where a secret half comes back from: each copy of it has the same bytes.
pub(super) const FROM_ANOTHER: &str = "move it away where it is there, and `tenure keys repair` puts it back from a mirror";

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
