//! Which backup is restored.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use crate::{
    backup_id::BackupId,
    id::Locker,
    operation::failure::{Failure, FailureClass},
    tenant::TenantName,
    vault::history::{Backup, History, LetGo},
};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The newest good one.
    Latest,
    /// An id, or the beginning of one.
    Backup(String),
    /// The newest good one taken at or before this moment.
    At(DateTime<Utc>),
}

/// Chooses among all lockers of a tenant. `held` are those on hold: what is over is still restored from them, when it is named.
/// `accept_gap` lets "newest" pass over a hole in the history.
///
/// # Errors
/// No such backup (1), an expired or a purged one (4), one that is not to be trusted or a hole that hides a newer one (5).
pub fn choose<'a>(
    tenant: &TenantName,
    (histories, held): (&'a [(Locker, History)], &[Locker]),
    which: &Which,
    now: DateTime<Utc>,
    accept_gap: bool,
) -> Result<(Locker, &'a Backup), Failure> {
    let mut backups: Vec<(Locker, &Backup)> =
        histories.iter().flat_map(|(locker, history)| history.backups.iter().map(|backup| (*locker, backup))).collect();
    backups.sort_by_key(|(_, backup)| (backup.manifest.taken_at, backup.manifest.sequence, backup.manifest.backup));
    match which {
        Which::Backup(text) if text != "latest" => by_id(tenant, (histories, held), &backups, text, now),
        Which::Latest | Which::Backup(_) => newest(tenant, (histories, held), &backups, None, now, accept_gap),
        Which::At(time) => newest(tenant, (histories, held), &backups, Some(*time), now, accept_gap),
    }
}

/// What should be known of backups that were begun after the chosen one and never became any: a crash looks so, and so does a manifest
/// that was taken away while nothing later names it.
#[must_use]
pub fn begun_later(histories: &[(Locker, History)], chosen: &Backup, which: &Which, now: DateTime<Utc>) -> Vec<String> {
    let chosen = &chosen.manifest;
    // Of an id the time is known to the second.
    let next = histories.iter().flat_map(|(_, history)| history.live(now)).map(|backup| &backup.manifest);
    let next = next.filter(|other| other.taken_at > chosen.taken_at).map(|other| other.backup.time()).min();
    let until = if let Which::At(time) = which { Some(*time) } else { None };
    let mut begun: Vec<BackupId> = histories
        .iter()
        .flat_map(|(_, history)| history.unfinished())
        .filter(|id| id.time() >= chosen.backup.time())
        .filter(|id| next.is_none_or(|next| id.time() < next) && until.is_none_or(|until| id.time() <= until))
        .collect();
    begun.sort_by_key(BackupId::time);
    let note = |id| format!("backup {id} was begun later and has no manifest: it did not end, or its manifest was removed");
    begun.into_iter().map(note).collect()
}

fn newest<'a>(
    tenant: &TenantName,
    (histories, held): (&[(Locker, History)], &[Locker]),
    backups: &[(Locker, &'a Backup)],
    before: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    accept_gap: bool,
) -> Result<(Locker, &'a Backup), Failure> {
    let in_time = |taken_at: DateTime<Utc>| before.is_none_or(|time| taken_at <= time);
    let live = || backups.iter().filter(|(_, backup)| !backup.is_expired(now));
    let found = live().rev().find(|(_, backup)| in_time(backup.manifest.taken_at)).copied();

    // Anything wrong that may be newer than what was found stops: somebody may have hidden the newest one.
    let mut problems = histories.iter().flat_map(|(_, history)| &history.problems).filter(|problem| !problem.counts);
    let wrong = problems.find(|problem| {
        problem.backup.is_none_or(|id| {
            // An id tells its time to the second: what may be newer counts as newer.
            let newer = found.is_none_or(|(_, found)| id.time() + TimeDelta::seconds(1) > found.manifest.taken_at);
            newer && in_time(id.time())
        })
    });
    if let Some(problem) = wrong
        && !accept_gap
        && problem.backup.is_some()
    {
        let instead = match found {
            Some((_, backup)) => format!(
                "the newest good backup before it is {}: name it with --backup, or add --accept-gap to take it as the newest",
                backup.manifest.backup
            ),
            None => "no good backup is older; `tenure verify` lists everything that is wrong".to_owned(),
        };
        let message = format!("a newer backup of tenant {tenant} is not to be trusted: {}: {}", problem.object, problem.what);
        return Err(Failure::new(FailureClass::Integrity, "gap", &problem.object, message).hint(instead));
    }
    if let Some(found) = found {
        return Ok(found);
    }
    let Some((_, oldest)) = live().next() else {
        return Err(none_at_all(tenant, backups, held));
    };
    let manifest = &oldest.manifest;
    let time = before.map(shown).unwrap_or_default();
    Err(Failure::new(
        FailureClass::Failed,
        "before-first-backup",
        tenant,
        format!(
            "tenant {tenant} has no backup taken at or before {time}: the oldest is {} of {}",
            manifest.backup,
            shown(manifest.taken_at)
        ),
    )
    .hint("choose a later time, or name a backup with --backup"))
}

fn none_at_all(tenant: &TenantName, backups: &[(Locker, &Backup)], held: &[Locker]) -> Failure {
    if backups.is_empty() {
        return Failure::new(FailureClass::Failed, "no-backup", tenant, format!("tenant {tenant} has no backup"))
            .hint("`tenure tenants` shows what is backed up");
    }
    let kept = backups.iter().rev().find(|(locker, _)| held.contains(locker));
    let hint = match kept {
        Some((_, backup)) => format!(
            "the tenant is on hold: until that is released one is restored when it is named; the newest is --backup {}",
            backup.manifest.backup
        ),
        None => "an expired backup is never restored, whether it is still stored or not".to_owned(),
    };
    Failure::new(FailureClass::Refused, "expired", tenant, format!("every backup of tenant {tenant} has expired")).hint(hint)
}

fn by_id<'a>(
    tenant: &TenantName,
    (histories, held): (&[(Locker, History)], &[Locker]),
    backups: &[(Locker, &'a Backup)],
    text: &str,
    now: DateTime<Utc>,
) -> Result<(Locker, &'a Backup), Failure> {
    let named = |id: &BackupId| id.to_string().starts_with(text);
    let found: Vec<(Locker, &Backup)> = backups.iter().filter(|(_, backup)| named(&backup.manifest.backup)).copied().collect();
    match found[..] {
        [(locker, backup)] if backup.is_expired(now) && !held.contains(&locker) => Err(Failure::new(
            FailureClass::Refused,
            "expired",
            backup.manifest.backup,
            format!("backup {} of tenant {tenant} expired at {}", backup.manifest.backup, shown(backup.manifest.expires_at)),
        )
        .hint("an expired backup is never restored, whether it is still stored or not")),
        [found] => Ok(found),
        [(_, first), (_, second), ..] => Err(Failure::new(
            FailureClass::Failed,
            "ambiguous-backup",
            text,
            format!(
                "several backups of tenant {tenant} begin with {}: {}, {}, …",
                shown_text(text),
                first.manifest.backup,
                second.manifest.backup
            ),
        )
        .hint("give more of the id")),
        [] => {
            let problem =
                histories.iter().flat_map(|(_, history)| &history.problems).find(|p| p.backup.as_ref().is_some_and(named));
            if let Some(problem) = problem {
                let message = format!(
                    "backup {} of tenant {tenant} is not to be trusted: {}: {}",
                    shown_text(text),
                    problem.object,
                    problem.what
                );
                let good = backups.iter().rev().find(|(_, backup)| !backup.is_expired(now));
                let hint =
                    good.map(|(_, good)| format!("the newest good backup is {}", good.manifest.backup)).unwrap_or_default();
                return Err(Failure::new(FailureClass::Integrity, "bad-manifest", &problem.object, message).hint(hint));
            }
            let mut let_go = histories.iter().flat_map(|(_, history)| &history.let_go);
            if let Some(let_go) = let_go.find(|let_go| named(&let_go.backup.backup)) {
                return Err(purged(tenant, let_go));
            }
            let void = histories.iter().flat_map(|(_, history)| &history.voids).any(named);
            let message = if void {
                format!("backup {} of tenant {tenant} was declared void by the run that made it", shown_text(text))
            } else {
                format!("tenant {tenant} has no backup {}", shown_text(text))
            };
            Err(Failure::new(FailureClass::Failed, "no-such-backup", text, message)
                .hint(format!("`tenure list {tenant}` shows its backups")))
        }
    }
}

/// Why a backup that a purge note names is not restored, whether it is there or not.
fn purged(tenant: &TenantName, let_go: &LetGo) -> Failure {
    let (backup, plan) = (let_go.backup.backup, let_go.notes.first().map(ToString::to_string).unwrap_or_default());
    let message = format!("backup {backup} of tenant {tenant} was purged by order of plan {plan}");
    Failure::new(FailureClass::Refused, "backup-purged", backup, message)
        .hint("a purged backup is never restored, whether it is still stored, put back, or not there")
}

fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn shown_text(text: &str) -> String {
    crate::printable::Printable(text).to_string()
}
