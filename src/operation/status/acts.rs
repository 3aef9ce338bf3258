//! What the records of the last days say: how tenants' last tries ended, and who restored how many of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, stream};

use crate::{
    backup_id::BackupId,
    format::act::{Act, ActCommand, ActOutcome, Night, NightOutcome},
    id::{Locker, NameTag},
    operation::failure::Failure,
    signed::{DocumentError, Signed},
    vault::Vault,
};

/// Records read at once: one of a large fleet's night is some hundred kilobytes.
const READERS: usize = 4;
/// How far back restores are counted.
const DAY: TimeDelta = TimeDelta::days(1);

/// What the records say.
#[derive(Default)]
pub(super) struct Acts {
    /// How each tenant's last scheduled try ended that was no success.
    pub(super) failed: HashMap<NameTag, Failed>,
    /// Since when a tenant is known to have no backup.
    pub(super) without: HashMap<NameTag, DateTime<Utc>>,
    /// Tenants that a run of the newest slot left waiting, though it went as it should.
    pub(super) waiting: HashMap<NameTag, DateTime<Utc>>,
    /// How long backups took, in milliseconds.
    pub(super) durations: HashMap<BackupId, u64>,
    /// Lockers restored within a day, by the fingerprint of the key that signed it, with its principal.
    pub(super) restored: BTreeMap<String, (String, BTreeSet<Locker>)>,
    /// Records that are not to be trusted.
    pub(super) untrusted: Vec<DocumentError>,
}

/// A try that did not end well.
pub(super) struct Failed {
    /// The slot that it was for.
    pub(super) due_at: DateTime<Utc>,
    /// The kind of the failure.
    pub(super) reason: String,
}

impl Acts {
    /// Reads the records of acts that began in this span before now, a few at a time.
    ///
    /// # Errors
    /// A store that cannot be reached.
    pub(super) async fn read(vault: &Vault, span: TimeDelta, now: DateTime<Utc>) -> Result<Self, Failure> {
        // A host ahead of this one may have written tomorrow's.
        let days = (now - span).date_naive().iter_days().take_while(|day| *day <= (now + DAY).date_naive());
        let listed = vault.acts_of(days).await?;
        let mut acts = Self::default();
        let mut read = stream::iter(listed)
            .map(async |(document, stored_at)| vault.record::<Act>(&document, Some(stored_at)).await)
            .buffer_unordered(READERS);
        while let Some(read) = read.next().await {
            match read {
                Ok(signed) => acts.add(signed, now),
                Err(error @ DocumentError::Store { .. }) => return Err(error.into()),
                Err(error) => acts.untrusted.push(error),
            }
        }
        Ok(acts)
    }

    fn add(&mut self, Signed { value: act, signer, .. }: Signed<Act>, now: DateTime<Utc>) {
        if let Some(night) = &act.night {
            self.add_night(night);
        }
        // What was refused read nothing.
        let did_read = !matches!(act.outcome, ActOutcome::Refused | ActOutcome::Begun);
        if act.command == ActCommand::Restore && did_read && act.ended_at > now - DAY {
            let (_, lockers) = self.restored.entry(signer.fingerprint).or_insert_with(|| (signer.principal, BTreeSet::new()));
            lockers.extend(act.lockers.iter().map(|on| on.locker));
        }
    }

    fn add_night(&mut self, night: &Night) {
        let due_at = night.due_at;
        for of in &night.tenants {
            match (of.outcome, &of.newest, of.duration_ms) {
                (NightOutcome::Done, Some(newest), Some(took)) => _ = self.durations.insert(newest.backup, took),
                (NightOutcome::Failed | NightOutcome::Refused, ..) => {
                    let reason = of.reason.clone().unwrap_or_else(|| of.outcome.as_str().to_owned());
                    let last = self.failed.entry(of.name_tag).or_insert_with(|| Failed { due_at, reason: reason.clone() });
                    if last.due_at < due_at {
                        *last = Failed { due_at, reason };
                    }
                }
                (NightOutcome::Waiting, ..) => {
                    let last = self.waiting.entry(of.name_tag).or_insert(due_at);
                    *last = due_at.max(*last);
                }
                _ => {}
            }
            if of.newest.is_none() {
                let since = self.without.entry(of.name_tag).or_insert(due_at);
                *since = due_at.min(*since);
            }
        }
    }
}
