//! Plans that wait for operators' signatures: whose count, what a plan would do, and the plans themselves.

pub mod approve;
pub mod by_operator;
pub mod cancel;
pub mod list;
pub mod tally;
pub mod words;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use self::tally::Tally;
use super::failure::{Failure, FailureClass};
use crate::{
    format::plan::{EVERYBODY, Plan, Reached, Step},
    id::RecordId,
    printable::Word,
    signed::{self, DocumentError},
    tenant::TenantName,
    vault::Vault,
};

/// How long after it was made a plan may still begin. What it found, and what its signers saw, is old after that.
pub const PLAN_AGE: TimeDelta = TimeDelta::days(7);

/// A plan may be dated this much after now: hosts' clocks differ.
const CLOCKS_DIFFER: TimeDelta = TimeDelta::minutes(5);

/// Whether a plan is too old to begin, or from a time to come, by which it would never get old.
#[must_use]
pub fn is_stale(plan: &Plan, now: DateTime<Utc>) -> bool {
    now - plan.created_at > PLAN_AGE || plan.created_at - now > CLOCKS_DIFFER
}

/// Whether the eraser began a plan, by what it signed and not by names alone. What operators carry out: see [`was_begun_by`].
///
/// # Errors
/// A step that cannot be read or trusted.
pub async fn is_begun(vault: &Vault, plan: &Plan) -> Result<bool, DocumentError> {
    if plan.act.is_operators() {
        return Ok(false);
    }
    for step in Step::ALL.into_iter().filter(|step| *step != Step::Closed) {
        if vault.mark(plan.id, step).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether an operator's plan was begun by enough operators: their signatures were there and counted when one of them wrote that it begins,
/// and it was not too old then. What was begun long ago is not gone on with: who signed it would not know any more what it does.
///
/// # Errors
/// A plan, or that it was begun, that cannot be read or trusted.
pub async fn was_begun_by(vault: &Vault, plan: &Plan, needed: u32, now: DateTime<Utc>) -> Result<bool, Failure> {
    let Some(begun) = vault.milestone(plan.id, Reached::Begun).await? else { return Ok(false) };
    let then = begun.stored_at;
    if is_stale(plan, then) || now - then > PLAN_AGE {
        return Ok(false);
    }
    Ok(Tally::as_of(vault, plan.id, then).await?.have() >= needed)
}

/// Stops where fewer operators signed a plan than must. One that was begun may always be finished; without a number nothing is asked.
///
/// # Errors
/// [`FailureClass::Refused`]: signatures are wanting, the plan is too old, or it was cancelled; [`FailureClass::Integrity`]: a signature
/// beside it that is none of its operators'.
pub async fn require(
    vault: &Vault,
    plan: &Plan,
    tenant: Option<&TenantName>,
    needed: u32,
    now: DateTime<Utc>,
) -> Result<(), Failure> {
    if needed == 0 {
        return Ok(());
    }
    let has_begun = match plan.act.is_operators() {
        true => was_begun_by(vault, plan, needed, now).await?,
        false => is_begun(vault, plan).await?,
    };
    if has_begun {
        return Ok(());
    }
    refuse_over(vault, plan, now).await?;
    let tally = Tally::of(vault, plan.id, now).await?;
    tally.refuse_bad()?;
    if tally.have() >= needed {
        return Ok(());
    }
    let message =
        format!("the plan to {} needs {}, and has {}", words::what(plan, tenant), words::signatures(needed), tally.in_words(),);
    let whom = match tenant {
        _ if plan.name_tag == EVERYBODY => "--all".to_owned(),
        Some(tenant) => format!("--tenant {}", Word(tenant.as_str())),
        None => "--tenant NAME".to_owned(),
    };
    let others = tally.who_else(vault, now);
    let others = if others.is_empty() {
        "nobody else may sign plans in this vault".to_owned()
    } else {
        format!("these may sign: {}", others.join(", "))
    };
    Err(Failure::new(FailureClass::Refused, "approvals-wanting", plan.id, message).hint(format!(
        "Nothing was changed or destroyed. To approve it: `tenure approve {} {whom}`; {others}. Then the same command goes on with this plan, until {}.",
        plan.id,
        shown(plan.created_at + PLAN_AGE)
    )))
}

/// Stops where a plan that has not begun must not begin any more.
async fn refuse_over(vault: &Vault, plan: &Plan, now: DateTime<Utc>) -> Result<(), Failure> {
    let refuse =
        |kind, message: String, hint: String| Err(Failure::new(FailureClass::Refused, kind, plan.id, message).hint(hint));
    if vault.milestone(plan.id, Reached::Cancelled).await?.is_some() {
        let hint = "Nothing was changed or destroyed. The command that made it makes a new one.".to_owned();
        return refuse("plan-cancelled", format!("plan {} was cancelled", plan.id), hint);
    }
    if is_stale(plan, now) {
        let message =
            format!("plan {} is of {}, and must begin within {} days", plan.id, shown(plan.created_at), PLAN_AGE.num_days());
        let hint = format!(
            "Nothing was changed or destroyed. `tenure plans cancel {}`, and the same command makes a new one to be signed.",
            plan.id
        );
        return refuse("plan-stale", message, hint);
    }
    Ok(())
}

/// The plan that somebody means: its id, or a beginning of it that no other has.
///
/// # Errors
/// None, or several (2); a store that cannot be reached.
pub async fn find(vault: &Vault, text: &str) -> Result<RecordId, Failure> {
    let wrong = |class, kind, message: String| {
        Failure::new(class, kind, text, message).hint("`tenure plans list` shows every plan with its id.")
    };
    let mut found = vault.plan_ids().await?;
    found.retain(|id| id.to_string().starts_with(text));
    match found[..] {
        [id] if !text.is_empty() => Ok(id),
        [] => Err(wrong(
            FailureClass::Failed,
            "no-such-plan",
            format!("{} has no plan {text}", signed::locate(vault.store(), &"plans/")),
        )),
        _ => Err(wrong(FailureClass::Usage, "several-plans", format!("{} plans begin with {text}", found.len()))),
    }
}

fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}
