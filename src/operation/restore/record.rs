//! The signed record of a restore. One that cannot be written stops nobody who needs the data back.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Chosen, Report, Restorer};
use crate::{
    format::act::{Act, ActCommand, ActOn, ActOutcome},
    operation::failure::{Failure, FailureClass},
};

/// What is restored, as a record names it.
pub(super) fn on(chosen: &Chosen) -> ActOn {
    ActOn {
        locker: chosen.locker,
        name_tag: Some(chosen.key.name_tag),
        backups: vec![chosen.backup()],
        keys: Vec::new(),
        holds: Vec::new(),
        objects: 0,
        bytes: 0,
    }
}

impl Restorer<'_> {
    /// Writes how a restore ended; that it could not be written is a note of it.
    pub(super) async fn record(&self, on: ActOn, (now, took): (DateTime<Utc>, Duration), result: &mut Result<Report, Failure>) {
        let (outcome, reason) = match result {
            Ok(report) if report.proven => (ActOutcome::Done, None),
            Ok(_) => (ActOutcome::Open, None),
            Err(failure) if failure.class == FailureClass::Refused => (ActOutcome::Refused, Some(failure.kind.to_owned())),
            Err(failure) => (ActOutcome::Failed, Some(failure.kind.to_owned())),
        };
        let act = Act {
            lockers: vec![on],
            reason,
            ..Act::new(
                self.vault.root().installation,
                ActCommand::Restore,
                (now, now + TimeDelta::from_std(took).unwrap_or_default()),
                outcome,
            )
        };
        if let Err(error) = self.vault.put_act(&act, self.signer).await {
            let what =
                format!("this restore could not be recorded under runs/ in the vault: {}", Failure::from(error).one_line());
            match result {
                Ok(report) => report.notes.push(what),
                Err(_) => tracing::warn!("{what}"),
            }
        }
    }
}
