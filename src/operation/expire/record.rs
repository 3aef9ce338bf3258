//! What a run writes down of itself: that it begins and what goes, what waits for a person, and in the end what was done.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{
    Run,
    brakes::ByLocker,
    report::{Brake, ExpiredBackup, Waiting, WaitingBackup},
};
use crate::{
    backup_id::BackupId,
    format::act::{Act, ActCommand, ActOn, ActOutcome},
    id::{Locker, RecordId},
    operation::failure::{Failure, FailureClass},
};

impl Run<'_> {
    /// Writes down that this run begins to remove, and which backups: nothing goes that nobody could say afterwards.
    ///
    /// # Errors
    /// It cannot be written: then nothing may be removed.
    pub(super) async fn intend(&self, going: &ByLocker) -> Result<(), Failure> {
        let (None, Some(signer)) = (self.dry_run, self.expire.signer) else { return Ok(()) };
        let lockers = going.iter().map(|(locker, backups)| self.on(*locker, backups.iter().copied().collect()));
        let act = self.act(RecordId::random(), self.now, ActOutcome::Begun, lockers.collect());
        self.expire.vault.put_act(&act, signer).await.map_err(|error| {
            let failure = Failure::from(error);
            let message = format!("what is to be removed cannot be recorded: {}", failure.one_line());
            Failure::new(failure.class, failure.kind, &failure.object, message)
                .hint(format!("Nothing was removed. {}", failure.hint))
                .because(failure)
        })
    }

    /// Writes down what waits, so that it can be confirmed.
    pub(super) async fn wait(&mut self, waiting: &BTreeMap<(Locker, BackupId), Brake>) {
        if waiting.is_empty() {
            return;
        }
        let mut by_locker = ByLocker::new();
        waiting.keys().for_each(|(locker, backup)| {
            by_locker.entry(*locker).or_default().insert(*backup);
        });
        let lockers = by_locker.into_iter().map(|(locker, backups)| self.on(locker, backups.into_iter().collect()));
        let act = self.act(RecordId::random(), self.now, ActOutcome::Waiting, lockers.collect());
        let run = self.put(&act).await.then(|| act.id.to_string());
        let backups = waiting.iter().map(|((locker, backup), brake)| {
            let ExpiredBackup { tenant, locker, backup } = ExpiredBackup::new(self.tenant(*locker).as_deref(), *locker, *backup);
            WaitingBackup { tenant, locker, backup, brake: *brake }
        });
        let backups = backups.collect();
        self.report.waiting = Some(Waiting { run, backups });
        self.report.classes.push(FailureClass::Refused);
    }

    /// Writes down what was done.
    pub(super) async fn record(&mut self, ended_at: DateTime<Utc>) {
        let outcome = match self.report.class() {
            Some(FailureClass::Interrupted) => ActOutcome::Open,
            _ if !self.report.problems.is_empty() => ActOutcome::Failed,
            _ if self.report.kept_by_lock.objects > 0 => ActOutcome::Open,
            _ => ActOutcome::Done,
        };
        let acts = std::mem::take(&mut self.acts);
        let act = self.act(self.id, ended_at, outcome, acts);
        if self.put(&act).await {
            self.report.run = Some(self.id.to_string());
        }
    }

    fn act(&self, id: RecordId, ended_at: DateTime<Utc>, outcome: ActOutcome, lockers: Vec<ActOn>) -> Act {
        Act { id, lockers, ..Act::new(self.expire.vault.root().installation, ActCommand::Expire, (self.now, ended_at), outcome) }
    }

    /// Whether it was written. In a dry run nothing is.
    async fn put(&mut self, act: &Act) -> bool {
        let (None, Some(signer)) = (self.dry_run, self.expire.signer) else { return false };
        match self.expire.vault.put_act(act, signer).await {
            Ok(()) => true,
            Err(error) => {
                self.report.fail(None, &error.into());
                false
            }
        }
    }

    /// One locker's part of a record.
    pub(super) fn on(&self, locker: Locker, backups: Vec<BackupId>) -> ActOn {
        let name_tag = self.owners.get(&locker).map(|owner| owner.tag);
        ActOn { locker, name_tag, backups, keys: Vec::new(), holds: Vec::new(), objects: 0, bytes: 0 }
    }
}
