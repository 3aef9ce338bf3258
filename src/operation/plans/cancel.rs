//! `plans cancel`: a plan that has not begun is given up.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::find;
use crate::{
    format::plan::{Milestone, Plan, PlannedAct, Reached, Step},
    operation::{
        erased,
        failure::{Failure, FailureClass},
    },
    signature::{Namespace, SigningKey},
    signed::FORMAT,
    vault::{Vault, plans::ListedPlan},
};

/// What `plans cancel` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CancelReport {
    /// The plan.
    pub plan: String,
    /// When it was cancelled.
    pub cancelled_at: DateTime<Utc>,
}

/// Gives a plan up, for everybody and for good.
///
/// # Errors
/// One that has begun, or is over (4); a signing key that does not count.
pub async fn cancel(vault: &Vault, text: &str, operator: &SigningKey, now: DateTime<Utc>) -> Result<CancelReport, Failure> {
    vault.check_signer(operator, Namespace::Plan, now).map_err(|error| Failure::key_not_allowed("operator", error))?;
    let id = find(vault, text).await?;
    let refuse = |kind, message: String, hint: &str| Err(Failure::new(FailureClass::Refused, kind, id, message).hint(hint));
    // Of what lies there in the place of a step nobody knows whether it was one.
    let listed = async || -> Result<_, Failure> {
        match vault.listed_plan(id).await? {
            Some(mut listed) if !listed.wrong.is_empty() => Err(listed.wrong.swap_remove(0).into()),
            listed => Ok(listed),
        }
    };
    let begun = "It is finished by the command that made it; what it has destroyed, nothing brings back.";
    match listed().await? {
        Some(listed) if listed.is_begun() => return refuse("plan-begun", format!("plan {id} has begun"), begun),
        Some(listed) if listed.steps.contains(&Step::Closed) => {
            return refuse("plan-closed", format!("plan {id} is closed"), "Nothing is left to give up.");
        }
        // Its run may have been killed between the tombstone and the mark. The vault gets it first.
        Some(ListedPlan { plan: Ok(Plan { name_tag, act: PlannedAct::Erase { .. }, .. }), .. }) => {
            let erasures = erased::read_in(vault, [vault.store()], name_tag).await?;
            if erasures.lasting().any(|tombstone| tombstone.id == id) {
                let hint =
                    "Nothing was destroyed. `tenure erase TENANT --undo` gives everything back, `tenure erase TENANT` goes on.";
                return refuse("plan-begun", format!("plan {id} has begun: its tombstone is written"), hint);
            }
        }
        _ => {}
    }
    let milestone =
        Milestone { format: FORMAT, installation: vault.root().installation, plan: id, what: Reached::Cancelled, at: now };
    vault.put_milestone(&milestone, operator).await?;
    // Whoever began it before this was written goes on.
    match listed().await? {
        Some(listed) if listed.is_begun() => refuse("plan-begun", format!("plan {id} began at this moment"), begun),
        _ => Ok(CancelReport { plan: id.to_string(), cancelled_at: now }),
    }
}
