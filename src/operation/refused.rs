//! The signed record of what a guard refused: somebody tried.

use chrono::{DateTime, Utc};

use super::failure::{Failure, FailureClass};
use crate::{
    format::act::{Act, ActCommand, ActOutcome},
    id::NameTag,
    signature::SigningKey,
    vault::Vault,
};

/// The same outcome, after a refusal among it was written down. Where that cannot be done it is said: nothing was done that would need it.
///
/// # Errors
/// The outcome's own.
pub async fn noted<T>(
    vault: &Vault,
    command: ActCommand,
    about: &[NameTag],
    signer: Option<&SigningKey>,
    now: DateTime<Utc>,
    outcome: Result<T, Failure>,
) -> Result<T, Failure> {
    if let (Err(failure), Some(signer)) = (&outcome, signer)
        && failure.class == FailureClass::Refused
        && let Err(error) = vault.put_act(&act(vault, command, about, now, failure), signer).await
    {
        tracing::warn!("that it was refused could not be recorded under runs/ in the vault: {error}");
    }
    outcome
}

fn act(vault: &Vault, command: ActCommand, about: &[NameTag], now: DateTime<Utc>, failure: &Failure) -> Act {
    // Only refusals of this kind are about a plan; the object of others may look like the id of one.
    let is_of_plan = failure.kind.starts_with("plan-") || failure.kind == "approvals-wanting";
    Act {
        plan: failure.object.parse().ok().filter(|_| is_of_plan),
        about: about.to_vec(),
        reason: Some(failure.kind.to_owned()),
        ..Act::new(vault.root().installation, command, (now, now), ActOutcome::Refused)
    }
}
