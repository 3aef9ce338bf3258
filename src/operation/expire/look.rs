//! The first look at a locker: what is over, what is held, what is left. It changes nothing.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Expire, sweep::Obstacle};
use crate::{
    backup_id::BackupId,
    format::purge_note::Purged,
    id::{KeyId, Locker, RecordId},
    operation::failure::{Failure, FailureClass},
    vault::history::History,
};

/// What there is in a locker.
pub(super) enum Look {
    /// Its tenant was purged by these plans, and with it these keys.
    Purged(Vec<RecordId>, Vec<KeyId>),
    /// Backups.
    Backups(Backups),
}

/// The backups of a locker.
#[derive(Default)]
pub(super) struct Backups {
    /// How many count, live and expired.
    pub(super) all: usize,
    /// Those whose time is over.
    pub(super) expired: BTreeSet<BackupId>,
    /// Those that were declared void and that the sweep is about to remove.
    pub(super) voided: BTreeSet<BackupId>,
    /// Those that a purge note names and that are still, or again, there.
    pub(super) let_go: BTreeSet<BackupId>,
    /// The newest of those that count, by the time that it records.
    pub(super) newest: Option<(DateTime<Utc>, u64, BackupId)>,
    /// Whether nothing may go.
    pub(super) is_held: bool,
    /// What is wrong with it.
    pub(super) obstacles: Vec<Obstacle>,
}

impl Expire<'_> {
    /// Reads every manifest of a locker. Whoever acts on it looks at the holds again.
    pub(super) async fn look(&self, locker: Locker, now: DateTime<Utc>, as_of: DateTime<Utc>) -> Result<Look, Failure> {
        let gone = self.vault.gone(locker).await?;
        if let Some(error) = gone.unreadable.into_iter().next() {
            return Err(Failure::new(FailureClass::Integrity, "bad-purge-note", error.object(), error.to_string())
                .hint("Nothing of the locker was removed: whatever the note said, it cannot be gone by. Nobody but the eraser writes such notes.")
                .because(error));
        }
        let all = gone.notes.into_iter().filter_map(|note| match note.purged {
            Purged::All { keys } => Some((note.id, keys)),
            _ => None,
        });
        let (plans, keys): (Vec<RecordId>, Vec<Vec<KeyId>>) = all.unzip();
        if !plans.is_empty() {
            return Ok(Look::Purged(plans, keys.concat()));
        }
        let holds = self.vault.holds(locker).await?;
        let history = self.vault.history(locker, now).await?;
        let mut backups = Backups { all: history.backups.len(), is_held: holds.is_held(), ..Backups::default() };
        backups.let_go = history.still_there().map(|let_go| let_go.backup.backup).collect();
        let named = History::named_by(history.backups.iter().filter(|backup| !backup.is_expired(as_of)), now);
        let settle = i64::try_from(self.vault.root().settle_seconds).unwrap_or(i64::MAX / 1_000);
        let has_settled = |id: &BackupId| as_of.max(now) - id.time() > TimeDelta::seconds(settle);
        backups.voided = history.voided.into_iter().filter(|id| has_settled(id) && !named.contains(id)).collect();
        for error in &holds.unreadable {
            let what = format!("{}: it may be a hold, and so nothing of the locker goes", error.what());
            backups.obstacles.push(Obstacle { object: error.object().to_owned(), what });
        }
        let problems = history.problems.iter();
        backups.obstacles.extend(problems.map(|problem| Obstacle { object: problem.object.clone(), what: problem.what.clone() }));
        for backup in &history.backups {
            let manifest = &backup.manifest;
            if backup.is_expired(as_of) {
                backups.expired.insert(manifest.backup);
            }
            backups.newest = backups.newest.max(Some((manifest.taken_at, manifest.sequence, manifest.backup)));
        }
        Ok(Look::Backups(backups))
    }
}
