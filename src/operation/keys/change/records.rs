//! What is written down of a change of keys.

use chrono::{DateTime, Utc};

use super::{Change, KeysFailure};
use crate::{
    format::{
        act::{Act, ActCommand, ActOn, ActOutcome},
        plan::Plan,
    },
    id::{NameTag, RecordId},
    operation::failure::{Failure, FailureClass},
    tenant::TenantName,
};

impl Change<'_> {
    /// Records whom a guard kept from being changed.
    ///
    /// # Errors
    /// It cannot be written.
    pub(in crate::operation::keys) async fn record_refused<'r>(
        &self,
        command: ActCommand,
        started_at: DateTime<Utc>,
        results: impl Iterator<Item = (&'r str, Option<&'r KeysFailure>)>,
    ) -> Result<(), Failure> {
        let refused = results.filter_map(|(tenant, error)| Some((tenant, error.filter(|e| e.class == FailureClass::Refused)?)));
        let (names, reasons): (Vec<&str>, Vec<&str>) = refused.map(|(tenant, error)| (tenant, error.kind.as_str())).unzip();
        let Some(reason) = reasons.first().filter(|_| !self.dry_run) else { return Ok(()) };
        let mut about: Vec<NameTag> =
            names.iter().filter_map(|name| Some(self.keyring.tag(&name.parse::<TenantName>().ok()?))).collect();
        about.dedup();
        let act =
            Act { about, reason: Some((*reason).to_owned()), ..self.act(command, started_at, ActOutcome::Refused, Vec::new()) };
        Ok(self.vault.put_act(&act, self.signer).await?)
    }

    /// Writes the signed record of what was done.
    ///
    /// # Errors
    /// It cannot be written.
    pub(in crate::operation::keys) async fn record(
        &self,
        (command, plan): (ActCommand, Option<&Plan>),
        started_at: DateTime<Utc>,
        outcome: ActOutcome,
        lockers: Vec<ActOn>,
    ) -> Result<RecordId, Failure> {
        let plan = plan.map(|plan| plan.id);
        self.record_act(Act { plan, ..self.act(command, started_at, outcome, lockers) }).await
    }

    /// Writes that keys are about to be destroyed, under an id that other objects have as well.
    ///
    /// # Errors
    /// It cannot be written.
    pub(in crate::operation::keys) async fn record_begun(
        &self,
        id: RecordId,
        command: ActCommand,
        started_at: DateTime<Utc>,
        lockers: Vec<ActOn>,
    ) -> Result<RecordId, Failure> {
        self.record_act(Act { id, ..self.act(command, started_at, ActOutcome::Begun, lockers) }).await
    }

    async fn record_act(&self, act: Act) -> Result<RecordId, Failure> {
        self.vault.put_act(&act, self.signer).await.map_err(|error| {
            Failure::new(
                FailureClass::Failed,
                "no-record",
                act.id,
                "what was done could not be recorded under runs/ in the vault",
            )
            .hint("The keys are as this report says. `tenure check` shows what is wrong with the vault.")
            .because(error)
        })?;
        Ok(act.id)
    }

    fn act(&self, command: ActCommand, started_at: DateTime<Utc>, outcome: ActOutcome, lockers: Vec<ActOn>) -> Act {
        Act { lockers, ..Act::new(self.vault.root().installation, command, (started_at, (self.clock)()), outcome) }
    }
}
