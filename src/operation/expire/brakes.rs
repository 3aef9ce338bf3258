//! What does not go by itself though its time is over: over half of everything, and the last that is left of a tenant.

use std::collections::{BTreeMap, BTreeSet};

use super::{look::Backups, report::Brake};
use crate::{
    backup_id::BackupId,
    format::act::{Act, ActCommand, ActOutcome},
    id::{Locker, RecordId},
    operation::failure::{Failure, FailureClass},
    signature::SigningKey,
    signed::Signed,
    vault::Vault,
};

/// Backups by locker.
pub(super) type ByLocker = BTreeMap<Locker, BTreeSet<BackupId>>;

/// What goes and what waits.
#[derive(Default)]
pub(super) struct Decided {
    /// To be removed now.
    pub(super) going: ByLocker,
    /// To be confirmed first.
    pub(super) waiting: BTreeMap<(Locker, BackupId), Brake>,
    /// Where nothing is swept, because voided backups wait.
    pub(super) unswept: BTreeSet<Locker>,
    /// Whose time is over, and that a hold keeps.
    pub(super) held: ByLocker,
}

/// Decides for all lockers together. `groups` are the lockers of one tenant each; a tenant of which not every locker could be looked at has
/// no group. `confirmed` is what a person has let go of.
pub(super) fn decide(groups: &[Vec<Locker>], looks: &BTreeMap<Locker, Backups>, confirmed: &ByLocker) -> Decided {
    let is_confirmed = |locker: &Locker, backup: &BackupId| confirmed.get(locker).is_some_and(|all| all.contains(backup));
    let mut decided = Decided::default();
    let mut going: BTreeSet<(Locker, BackupId)> = BTreeSet::new();
    for group in groups {
        let looks: Vec<(Locker, &Backups)> = group.iter().filter_map(|locker| Some((*locker, looks.get(locker)?))).collect();
        let newest = looks.iter().filter_map(|(_, backups)| backups.newest).max().map(|(_, _, backup)| backup);
        for (locker, backups) in looks {
            if backups.is_held {
                if !backups.expired.is_empty() {
                    decided.held.insert(locker, backups.expired.clone());
                }
                continue;
            }
            for backup in &backups.expired {
                if Some(*backup) == newest && !is_confirmed(&locker, backup) {
                    decided.waiting.insert((locker, *backup), Brake::Newest);
                } else {
                    going.insert((locker, *backup));
                }
            }
        }
    }
    let all: usize = looks.values().map(|backups| backups.all + backups.voided.len()).sum();
    // The sweep removes these. Who declares everything void removes it as surely as who lets it end.
    let voided = looks.iter().filter(|(_, backups)| !backups.is_held);
    let voided = voided.flat_map(|(locker, backups)| backups.voided.iter().map(|backup| (*locker, *backup)));
    let voided: BTreeSet<(Locker, BackupId)> = voided.filter(|(locker, backup)| !is_confirmed(locker, backup)).collect();
    let unasked = going.iter().filter(|(locker, backup)| !is_confirmed(locker, backup)).count() + voided.len();
    if unasked * 2 > all {
        decided.unswept.extend(voided.iter().map(|(locker, _)| *locker));
        decided.waiting.extend(voided.into_iter().map(|waiting| (waiting, Brake::HalfOfTheFleet)));
    }
    for (locker, backup) in going {
        if unasked * 2 > all && !is_confirmed(&locker, &backup) {
            decided.waiting.insert((locker, backup), Brake::HalfOfTheFleet);
        } else {
            decided.going.entry(locker).or_default().insert(backup);
        }
    }
    decided
}

/// What a run of before said that it waits for.
///
/// # Errors
/// No such record, one that is not to be trusted or that another key than `signer` signed, or one of a run that did not wait.
pub(super) async fn confirmed(vault: &Vault, run: RecordId, signer: Option<&SigningKey>) -> Result<ByLocker, Failure> {
    let signed: Signed<Act> = match vault.signed_act(run).await {
        Err(crate::signed::DocumentError::Missing { object }) => {
            return Err(Failure::new(
                FailureClass::Failed,
                "no-such-run",
                run,
                format!("there is no record of a run {run}: {object}"),
            )
            .hint("Nothing was removed. `tenure expire` says what waits, and the id to confirm it with."));
        }
        read => read?,
    };
    // Others may sign records of what they do; what waits here is what this command said, and nobody else.
    if signer.is_some_and(|signer| signer.fingerprint() != signed.signer.fingerprint) {
        let message =
            format!("the record of run {run} was signed by {}, not by the key of signing.janitor", signed.signer.principal);
        return Err(Failure::new(FailureClass::Refused, "anothers-run", run, message).hint(
            "Nothing was removed. `tenure expire` says what waits, and the id to confirm it with. If the janitor's key is the same as ever, \
             somebody made that record: `tenure verify` says more.",
        ));
    }
    let act = signed.value;
    if (act.command, act.outcome) != (ActCommand::Expire, ActOutcome::Waiting) {
        return Err(Failure::new(FailureClass::Refused, "not-waiting", run, format!("run {run} did not wait for anybody"))
            .hint("Nothing was removed. `tenure expire` says what waits, and the id to confirm it with."));
    }
    Ok(act.lockers.into_iter().map(|on| (on.locker, on.backups.into_iter().collect())).collect())
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Days, Utc};

    use super::*;

    /// Ten backups, the first `expired` of which are over.
    fn locker(all: usize, expired: usize) -> Backups {
        let day = |n: usize| DateTime::<Utc>::UNIX_EPOCH + Days::new(n as u64);
        let ids: Vec<BackupId> = (0..all).map(|n| BackupId::new(day(n))).collect();
        let newest = ids.last().map(|id| (id.time(), all as u64, *id));
        Backups { all, expired: ids[..expired].iter().copied().collect(), newest, ..Backups::default() }
    }

    fn counts(decided: &Decided) -> (usize, usize, usize) {
        let count = |by: &ByLocker| by.values().map(BTreeSet::len).sum();
        (count(&decided.going), decided.waiting.len(), count(&decided.held))
    }

    fn one_each(looks: Vec<Backups>) -> (Vec<Vec<Locker>>, BTreeMap<Locker, Backups>) {
        let looks: BTreeMap<Locker, Backups> = looks.into_iter().map(|backups| (Locker::random(), backups)).collect();
        (looks.keys().map(|locker| vec![*locker]).collect(), looks)
    }

    #[test]
    fn half_of_the_fleet_goes_and_one_more_waits() {
        for (of_first, expected) in [(5, (10, 0, 0)), (6, (0, 11, 0))] {
            let (groups, looks) = one_each(vec![locker(10, of_first), locker(10, 5)]);
            assert_eq!(counts(&decide(&groups, &looks, &ByLocker::new())), expected);
        }
    }

    #[test]
    fn the_newest_of_a_tenant_waits_alone_whatever_its_name_says() {
        let (groups, looks) = one_each(vec![locker(3, 3), locker(10, 0)]);
        let decided = decide(&groups, &looks, &ByLocker::new());
        assert_eq!(counts(&decided), (2, 1, 0));
        assert_eq!(decided.waiting.values().collect::<Vec<_>>(), [&Brake::Newest]);
        // By the time that the manifest records: the host's clock named it otherwise.
        let mut odd = locker(3, 3);
        let first = *odd.expired.first().unwrap();
        odd.newest = Some((DateTime::<Utc>::MAX_UTC, 3, first));
        let (groups, looks) = one_each(vec![odd, locker(10, 0)]);
        assert_eq!(decide(&groups, &looks, &ByLocker::new()).waiting.keys().next().unwrap().1, first);
    }

    #[test]
    fn a_tenant_with_a_newer_locker_keeps_nothing_of_the_older() {
        let (groups, looks) = one_each(vec![locker(2, 2), locker(10, 0)]);
        let together = vec![groups.concat()];
        assert_eq!(counts(&decide(&together, &looks, &ByLocker::new())), (2, 0, 0));
    }

    #[test]
    fn what_is_confirmed_goes_and_nothing_else() {
        let (groups, looks) = one_each(vec![locker(10, 10), locker(10, 9)]);
        let waits = decide(&groups, &looks, &ByLocker::new());
        assert_eq!(counts(&waits), (0, 19, 0));
        let mut confirmed = ByLocker::new();
        for (locker, backup) in waits.waiting.keys().take(18) {
            confirmed.entry(*locker).or_default().insert(*backup);
        }
        // The last one is not over half any more; or it is the newest, which still waits.
        let (going, waiting, _) = counts(&decide(&groups, &looks, &confirmed));
        assert_eq!(going + waiting, 19);
        assert!(going >= 18);
    }

    #[test]
    fn what_is_held_stays_and_counts() {
        let mut held = locker(10, 10);
        held.is_held = true;
        let (groups, looks) = one_each(vec![held, locker(10, 9)]);
        assert_eq!(counts(&decide(&groups, &looks, &ByLocker::new())), (9, 0, 10));
    }
}
