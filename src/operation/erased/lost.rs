//! Withdrawals that no store has any more: somebody removed them, or put all stores back to an older state.
//!
//! By its tombstone alone such a tenant is erased, and every command refuses it. But the last mark of its plan says that it was given back,
//! signed by the eraser. That is enough to close and to drop nothing, and for `tenure erase --undo` to write the withdrawal once more.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, stream};

use super::Erasures;
use crate::{
    format::plan::{PlannedAct, Step},
    id::RecordId,
    operation::failure::{Failure, FailureClass},
    printable::Word,
    signed::DocumentError,
    tenant::TenantName,
    vault::{Vault, plans::Planned},
};

/// What the last mark of a plan says whose erasure was withdrawn.
pub const WITHDRAWN: &str = "withdrawn";
/// Marks read at once.
const READERS: usize = 16;

/// Tombstones that nobody withdrew by what the stores have.
#[derive(Debug, Default)]
pub struct Lost {
    /// That were withdrawn by what the last mark of their plan says.
    pub withdrawn: BTreeSet<RecordId>,
    /// Of which that mark is not to be trusted, and why: whether the tenant lives is not known.
    pub doubtful: BTreeMap<RecordId, String>,
}

/// Looks at the plans of tombstones that nobody withdrew.
///
/// # Errors
/// [`DocumentError::Store`] only.
pub async fn look<'e>(vault: &Vault, erasures: impl Iterator<Item = &'e Erasures>) -> Result<Lost, DocumentError> {
    // A tombstone has its plan's id.
    let ids: Vec<RecordId> = erasures.flat_map(Erasures::lasting).map(|note| note.id).collect();
    let mut marks = stream::iter(ids).map(async |id| (id, vault.mark(id, Step::Closed).await)).buffered(READERS);
    let mut lost = Lost::default();
    while let Some((id, mark)) = marks.next().await {
        match mark {
            Ok(Some(mark)) if mark.found.void.as_deref() == Some(WITHDRAWN) => _ = lost.withdrawn.insert(id),
            Ok(_) => {}
            Err(error @ DocumentError::Store { .. }) => return Err(error),
            Err(error) => _ = lost.doubtful.insert(id, error.to_string()),
        }
    }
    Ok(lost)
}

/// The plans of those that were withdrawn.
///
/// # Errors
/// As [`look`]; a plan that cannot be trusted (5), or one that had begun to destroy (4).
pub async fn plans(vault: &Vault, erasures: &Erasures, tenant: &TenantName) -> Result<Vec<Planned>, Failure> {
    let mut plans = Vec::new();
    for id in look(vault, std::iter::once(erasures)).await?.withdrawn {
        let Some(listed) = vault.listed_plan(id).await? else { continue };
        let plan = listed.plan?;
        if let Some(wrong) = listed.wrong.into_iter().next() {
            return Err(wrong.into());
        }
        let planned = Planned { plan, steps: listed.steps, reached: listed.reached };
        if planned.steps.contains(&Step::Destroying) || planned.steps.contains(&Step::Dropped) {
            let message = format!(
                "the erasure of tenant {tenant} was withdrawn when it was about to destroy, and no store has that any more"
            );
            return Err(Failure::new(FailureClass::Refused, "too-late", tenant, message)
                .hint("Nothing was done. Put the withdrawal below erased/ back from a copy of any store."));
        }
        if matches!(planned.plan.act, PlannedAct::Erase { .. }) {
            plans.push(planned);
        }
    }
    Ok(plans)
}

/// The hint of a refusal by such a tombstone.
#[must_use]
pub fn hint(name: &str) -> String {
    let name = Word(name);
    format!(
        "By its plan this erasure was withdrawn, and no store has the withdrawal any more: find out who removed it. `tenure erase {name} --undo` \
         writes it again."
    )
}
