//! What is wrong with one tenant: its age, its size, where it is.

use chrono::{DateTime, SecondsFormat, Utc};

use super::{Acts, Status, small};
use crate::{
    operation::{
        alarm::{Alarm, AlarmKind},
        fleet::Returned,
        tenants::{
            TenantState,
            look::{Looked, age},
        },
    },
    printable::{Printable, Word},
    tenant::TenantName,
};

/// What alarms of tenants rest on besides the tenant.
pub(super) struct Around<'a> {
    pub(super) acts: &'a Acts,
    /// Whether first backups were made lately: then who waits for his is in a queue that moves.
    pub(super) queue_moves: bool,
    /// Clusters of which discovery is not believed: nobody is missing there by himself.
    pub(super) implausible: &'a [String],
    pub(super) now: DateTime<Utc>,
}

impl Status<'_> {
    /// What must be said of a tenant by how it is, and by its last backups.
    pub(super) fn of_tenant(&self, name: &TenantName, looked: &Looked, around: &Around<'_>, alarms: &mut Vec<Alarm>) {
        let (word, now) = (Word(name.as_str()), around.now);
        let late_after = (self.late_after)(name).as_secs();
        let newest = looked.holding.newest(now);
        let place = looked.cluster.as_ref().map(|cluster| format!(" on cluster {}", Printable(cluster))).unwrap_or_default();
        let age = newest.map(|newest| age(newest.taken_at, now));
        let mut raise = |kind, message: String, hint: String| alarms.push(Alarm::new(kind, name, message).hint(hint));
        match looked.state {
            TenantState::Unknown if age.is_none_or(|age| age <= late_after) => {}
            TenantState::Late | TenantState::Unknown => {
                let last = match newest {
                    Some(newest) => format!("the newest backup of tenant {name}{place} is of {}", shown(newest.taken_at)),
                    None => format!("every backup of tenant {name}{place} is over"),
                };
                let failed = failed(looked, around).map(|reason| format!("; its last try failed: {reason}")).unwrap_or_default();
                raise(
                    AlarmKind::TenantLate,
                    format!("{last}{failed}"),
                    format!(
                        "`tenure backup {word}` backs it up now, or says why not; `tenure check` looks at everything that it needs."
                    ),
                );
            }
            TenantState::New if self.is_overdue(looked, late_after, around) => raise(
                AlarmKind::TenantNever,
                format!("tenant {name}{place} has no backup, though it is known for long"),
                format!("`tenure backup {word}` backs it up now, or says why not."),
            ),
            TenantState::Missing
                if looked.holding.live > 0 && !looked.cluster.as_ref().is_some_and(|at| around.implausible.contains(at)) =>
            {
                raise(
                    AlarmKind::TenantMissing,
                    format!("tenant {name} has backups, and no database{place} answers to it any more"),
                    format!(
                        "If nobody dropped it on purpose: `tenure restore {word}` brings it back. If it was dropped for good, its backups stay until \
                         they expire, and so does this alarm; `tenure purge {word}` lets go of them now."
                    ),
                );
            }
            TenantState::Moved => raise(
                AlarmKind::TenantMoved,
                format!("the database of tenant {name}{place} is another one than was recorded, and is not backed up"),
                format!("If it is meant to be this tenant's (a failover, a restore by hand): `tenure admit --source {word}`."),
            ),
            TenantState::Closed => raise(
                AlarmKind::TenantClosed,
                format!("the database of tenant {name}{place} lets nobody in, and is not backed up"),
                "Open or drop it, or name it under `ignore`; `tenure check` says why it cannot be read.".to_owned(),
            ),
            TenantState::Suspended | TenantState::Erased if looked.resident.is_some() => raise(
                AlarmKind::ErasedReturned,
                format!("a database{place} lets people in, and answers to tenant {name}, which was erased or is being erased"),
                format!(
                    "`tenure reconcile` says what it is, and closes it if it is the erased one; a new customer with an old name: `tenure admit --new {word}`."
                ),
            ),
            _ => {}
        }
        let lives = matches!(looked.state, TenantState::Good | TenantState::Late);
        let read = &looked.holding.read;
        if let (true, Some(newest), Some((now, usual))) =
            (lives, newest, small::below_half(read.iter().map(|brief| brief.bytes_read)))
        {
            raise(
                AlarmKind::BackupSmall,
                format!(
                    "backup {} of tenant {name} would bring back {now} bytes, less than half of the {usual} that are usual",
                    newest.backup
                ),
                format!(
                    "Look what is gone: `tenure show {word} {}`. If it is lost by mistake, `tenure restore {word} --at TIME` has an older state; \
                     `tenure hold {word} --reason …` keeps that from expiring.",
                    newest.backup
                ),
            );
        }
        for problem in &looked.holding.problems {
            let whose = format!("tenant {name}: ");
            alarms.push(
                Alarm::new(AlarmKind::Integrity, &problem.object, format!("{whose}{}", problem.what))
                    .hint(format!("`tenure verify {word}` says more; put it back from a copy of the vault if there is one.")),
            );
        }
        for (locker, findings) in &looked.holding.findings {
            for error in &findings.unreadable {
                alarms.push(Alarm::new(AlarmKind::Integrity, error.object(), format!("tenant {name}: {}", error.what())).hint(
                    format!("Nobody but a role of tenure writes there: find out who did. `tenure verify {word}` looks again."),
                ));
            }
            if findings.short_locks() > 0 {
                let message = format!(
                    "{} objects of tenant {name} are locked for less than manifests say (locker {locker})",
                    findings.short_locks()
                );
                alarms.push(
                    Alarm::new(AlarmKind::Integrity, name, message)
                        .hint(format!("The next backup locks anew what it needs; `tenure verify {word}` looks again.")),
                );
            }
        }
    }

    /// Whether a tenant without a backup waits for too long. Nobody is told of one in a queue that moves.
    fn is_overdue(&self, looked: &Looked, late_after: u64, around: &Around<'_>) -> bool {
        let Some(tag) = looked.holding.tag else { return false };
        let since = [looked.key_since, around.acts.without.get(&tag).copied()].into_iter().flatten().min();
        let is_queued = || {
            let failed = around.acts.failed.get(&tag).map(|failed| failed.due_at);
            around.queue_moves && around.acts.waiting.get(&tag).copied() > failed
        };
        since.is_some_and(|since| age(since, around.now) > late_after) && !is_queued()
    }
}

/// Why a tenant's last scheduled try failed, where nothing was made of it since.
pub(super) fn failed(looked: &Looked, around: &Around<'_>) -> Option<String> {
    let failed = around.acts.failed.get(&looked.holding.tag?)?;
    let newest = looked.holding.newest(around.now);
    newest.is_none_or(|newest| newest.taken_at < failed.due_at).then(|| failed.reason.clone())
}

/// Something of a tenant that was let go of, and is there.
pub(super) fn of_returned(returned: &Returned) -> Alarm {
    use crate::operation::fleet::ReturnedWhat;
    let kind = match returned.what {
        ReturnedWhat::Purged => AlarmKind::ErasedReturned,
        ReturnedWhat::Pruned => AlarmKind::KeyForeign,
        ReturnedWhat::Note => AlarmKind::Integrity,
    };
    Alarm::new(kind, &returned.tenant, &returned.said)
        .hint("A purge was stopped, or somebody put an old copy back: find out who. `tenure check` names everything that is there again.")
}

pub(super) fn shown(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
