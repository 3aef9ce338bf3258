//! What is written down of a repair.

use chrono::{DateTime, Utc};

use super::{Repair, RepairReport};
use crate::format::{
    act::{Act, ActCommand, ActOutcome},
    plan::Plan,
};

impl Repair<'_> {
    /// Writes down what was put back. That it cannot be is said, and undoes nothing.
    pub(super) async fn record(&self, plan: Option<&Plan>, report: &mut RepairReport, now: DateTime<Utc>) {
        let objects = report.put_back.len() as u64;
        if report.dry_run || objects == 0 {
            return;
        }
        let Some(operator) = self.operator else {
            tracing::warn!(objects, "what was put back is not recorded: there is no signing.operator that can be read");
            return;
        };
        let act = Act {
            plan: plan.map(|plan| plan.id),
            ..Act::new(
                self.vault.root().installation,
                ActCommand::KeysRepair,
                (now, now),
                if report.class().is_none() { ActOutcome::Done } else { ActOutcome::Open },
            )
        };
        if let Err(error) = self.vault.put_act(&act, operator).await {
            tracing::warn!(objects, "what was put back could not be recorded under runs/ in the vault: {error}");
        }
    }
}
