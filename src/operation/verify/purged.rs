//! What lies where a purge was: nothing reads it, and it must not be there for longer than a lock keeps it.

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;

use super::{Verify, VerifyProblem, VerifyReport, look::Look};
use crate::{
    format::{plan::Step, purge_note::Purged},
    id::Locker,
    keyring::TenantKeys,
    object_name::{Document, prefix},
    operation::{
        again::{Purges, There},
        failure::{Failure, settle_plan},
        plans::tally::Tally,
    },
    signed::{self, DocumentError},
    vault::{gone::Gone, history::History},
};

impl Verify<'_> {
    /// A locker that was purged as a whole: only notes may lie in it, and what a lock keeps.
    pub(super) async fn purged(
        &self,
        locker: Locker,
        gone: &Gone,
        keys: Option<&TenantKeys>,
        now: DateTime<Utc>,
        report: &mut VerifyReport,
    ) -> Result<(), Failure> {
        let (all, notes) = (prefix::locker(locker), prefix::in_locker(locker, "gone"));
        let mut left = Vec::new();
        let mut listing = self.vault.store().list(&all);
        while let Some(listed) = listing.try_next().await? {
            if !listed.name.starts_with(&notes) {
                left.push((signed::locate(self.vault.store(), &listed.name), listed.modified));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        let tenant = keys.map(|keys| keys.tenant.as_str().to_owned());
        let mut problem =
            |object, problem| report.problems.push(VerifyProblem { tenant: tenant.clone(), backup: None, object, problem });
        let whole = gone.notes.iter().filter(|note| matches!(note.purged, Purged::All { .. })).map(|note| note.id);
        let purges = match Purges::of(self.vault, whole, now).await {
            Err(error) if error.is_integrity() => {
                problem(error.object().to_owned(), error.what());
                return Ok(());
            }
            purges => purges?,
        };
        let again: Vec<&String> =
            left.iter().filter(|(_, stored_at)| purges.why(*stored_at) == There::Again).map(|(object, _)| object).collect();
        match again.first() {
            Some(first) => problem(
                (*first).clone(),
                format!(
                    "its locker was purged, and is not empty any more: {} objects were put there since; nothing reads them, and \
                     `tenure expire` or `tenure purge TENANT --returned` removes them",
                    again.len()
                ),
            ),
            None => {
                report
                    .notes
                    .push(format!("{all}: {} objects are left of a purge that is not through, or are locked", left.len()));
            }
        }
        Ok(())
    }

    /// Plans of purges, and their steps, that are not to be trusted: while one is there, no tenant is purged.
    pub(super) async fn plans(&self, now: DateTime<Utc>, report: &mut VerifyReport) -> Result<(), Failure> {
        let plans = match self.vault.listed_plans(|_| true).await {
            Err(error) if error.is_denied() => {
                report.not_looked_at.push(signed::locate(self.vault.store(), &prefix::PLANS));
                return Ok(());
            }
            plans => plans?,
        };
        let (mut wrong, mut approvals) = (Vec::new(), Vec::new());
        for listed in plans {
            // Of one that has begun, or is over, nobody asks any more who signed it.
            if listed.plan.is_ok() && !listed.is_begun() && !listed.steps.contains(&Step::Closed) {
                approvals.extend(Tally::of(self.vault, listed.id, now).await?.bad);
            }
            wrong.extend(listed.plan.err());
            wrong.extend(listed.wrong);
        }
        let lost = self.vault.lost_notes().await?;
        report.problems.extend(lost.iter().map(|lost| VerifyProblem {
            tenant: None,
            backup: None,
            object: lost.error.object().to_owned(),
            problem: lost.what(),
        }));
        report.problems.extend(approvals.into_iter().map(|(object, what)| VerifyProblem {
            tenant: None,
            backup: None,
            object,
            problem: format!("no approval that counts: {what}; while it is there its plan does not begin"),
        }));
        report.problems.extend(wrong.into_iter().map(|error| VerifyProblem {
            tenant: None,
            backup: None,
            object: error.object().to_owned(),
            problem: format!("{}: while it is there no tenant is purged. {}", error.what(), settle_plan(error.object())),
        }));
        Ok(())
    }

    /// Backups that were purged by name, and whose manifest is there.
    pub(super) async fn let_go(
        &self,
        locker: Locker,
        history: &History,
        now: DateTime<Utc>,
        look: &mut Look<'_>,
    ) -> Result<(), Failure> {
        for let_go in history.still_there() {
            let (id, store) = (let_go.backup.backup, self.vault.store());
            let object = signed::locate(store, &Document::Manifest(locker, id));
            let there = match Purges::of(self.vault, let_go.notes.iter().copied(), now).await {
                Ok(purges) => let_go.stored_at.map(|stored_at| purges.why(stored_at)),
                Err(error @ DocumentError::Store { .. }) => return Err(error.into()),
                Err(error) => {
                    look.problem(Some(id), error.object().to_owned(), error.what());
                    continue;
                }
            };
            match there {
                Some(There::Again) => {
                    let what = "it was purged, and was put back since: nothing reads it, and `tenure expire` removes it";
                    look.problem(Some(id), object, what.to_owned());
                }
                _ => look.notes.push(format!("{object} was purged, and is still there: locked, or its purge is not through")),
            }
        }
        Ok(())
    }
}
