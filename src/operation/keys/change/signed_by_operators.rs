//! The plan of a change of keys, where operators must sign one.

use super::{Change, Chosen, Which};
use crate::{
    format::plan::{Bound, KeysChange, Plan, PlannedAct},
    operation::{
        failure::{Failure, FailureClass},
        plans::by_operator::{self, Planning, Wanted},
    },
};

impl Change<'_> {
    /// The plan of this change, where operators must sign one and did. Who came after the plan, or has other keys since, is left out.
    ///
    /// # Errors
    /// As [`Planning::signed`]; several tenants named.
    pub(in crate::operation::keys) async fn plan(
        &self,
        which: &Which,
        (change, recipients): (KeysChange, Vec<String>),
        chosen: &mut Chosen,
    ) -> Result<Option<Plan>, Failure> {
        let Some(planning) = self.planning() else { return Ok(None) };
        let tenant = match which {
            Which::All => None,
            Which::Named(names) => Some(by_operator::only(names)?),
        };
        let lockers = chosen.tenants.iter().flat_map(by_operator::lockers).collect();
        let bound = Bound { recipients, ..Bound::default() };
        let plan = planning.signed(&Wanted { tenant, act: PlannedAct::Keys { change }, lockers, bound }).await?;
        if let Some(plan) = &plan {
            chosen.tenants.retain(|keys| by_operator::lockers(keys).iter().all(|left| by_operator::names(plan, left)));
        }
        Ok(plan)
    }

    /// Says that the plan begins, when no guard stands against the first change that it is for.
    ///
    /// # Errors
    /// It cannot be written.
    pub(in crate::operation::keys) async fn start_plan(&self, plan: Option<&Plan>) -> Result<(), Failure> {
        match self.planning() {
            Some(planning) => planning.start(plan).await,
            None => Ok(()),
        }
    }

    /// Closes the plan where nothing is left to do by it.
    pub(in crate::operation::keys) async fn end_plan(
        &self,
        plan: Option<&Plan>,
        class: Option<FailureClass>,
    ) -> Result<(), Failure> {
        match self.planning().filter(|_| class.is_none()) {
            Some(planning) => planning.end(plan).await,
            None => Ok(()),
        }
    }

    fn planning(&self) -> Option<Planning<'_>> {
        let (needed, operator) = self.approvals.filter(|_| !self.dry_run)?;
        Some(Planning { vault: self.vault, keyring: Some(self.keyring), operator, needed, now: (self.clock)() })
    }
}
