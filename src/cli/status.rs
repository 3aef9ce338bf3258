//! `tenure status`: one screen for whoever comes in in the morning, and an exit code for whatever watches.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::{
    clusters,
    edge::{Edge, Ended},
    installation::Installation,
    table::{age, count, duration, size, table, time},
};
use crate::{
    config::store::Role,
    operation::{
        alarm::{Alarm, AlarmKind, Severity},
        failure::{Failure, FailureClass},
        status::{Counts, Status, StatusReport, TenantStatus},
        tenants::TenantState,
    },
    printable::Printable,
};

/// How many tenants are shown: the worst.
const SHOWN: usize = 20;
/// How many hints are shown.
const HINTS: usize = 5;

pub(super) async fn run(edge: &Edge) -> Result<Ended, Failure> {
    let report = look(edge).await.map_err(cannot_tell)?;
    edge.output.outcome("status", &report, report.class.is_none(), text)?;
    Ok(Ended { worst: report.class })
}

async fn look(edge: &Edge) -> Result<StatusReport, Failure> {
    let installation = Installation::open(edge, Role::Restorer).await?;
    of(&installation, edge.now()).await
}

/// How the fleet of an installation is.
///
/// # Errors
/// What keeps it from being told.
pub(crate) async fn of(installation: &Installation, now: DateTime<Utc>) -> Result<StatusReport, Failure> {
    let Installation { config, vault, keyring } = installation;
    let clusters = clusters::fleet(config)?;
    let late_after = |tenant: &_| config.policy(tenant).late_after.get();
    let keep = |tenant: &_| config.policy(tenant).keep;
    let overdue_after = config.erasure.overdue_after();
    let status = Status { vault, keyring, clusters: &clusters, late_after: &late_after, keep: &keep, overdue_after };
    status.run(now).await
}

/// Who watches knows three answers: all is well, something is not, nobody knows. What is wrong is in the message.
fn cannot_tell(failure: Failure) -> Failure {
    match failure.class {
        FailureClass::Usage | FailureClass::Interrupted | FailureClass::Terminated => failure,
        _ => Failure { class: FailureClass::Failed, ..failure },
    }
}

fn text(report: &StatusReport) -> String {
    let mut text = format!("{}: {}\n", count(report.counts.tenants, "tenant"), counts(&report.counts));
    if let Some(first) = &report.first_backups {
        text.push_str(&format!("{}\n", first.in_words()));
    }
    let others = [
        (report.holds, "tenant on hold", "tenants on hold"),
        (report.erasures_open, "erasure open", "erasures open"),
        (report.retention_backlog, "expired backup still stored", "expired backups still stored"),
    ];
    let others: Vec<String> = others
        .into_iter()
        .filter(|(n, ..)| *n > 0)
        .map(|(n, one, several)| format!("{n} {}", if n == 1 { one } else { several }))
        .collect();
    if !others.is_empty() {
        text.push_str(&format!("{}\n", others.join(", ")));
    }
    let is_bad = |tenant: &&TenantStatus| tenant.state != TenantState::Good || tenant.failed.is_some();
    let bad = report.tenants.iter().filter(is_bad).count();
    if bad > 0 {
        text.push('\n');
        let rows = report.tenants.iter().filter(is_bad).take(SHOWN).map(|tenant| {
            let failed = tenant.failed.as_ref().map(|reason| format!(" (failed: {})", Printable(reason)));
            [
                Printable(&tenant.tenant).to_string(),
                tenant.cluster.as_ref().map(|name| Printable(name).to_string()).unwrap_or_default(),
                format!("{}{}", tenant.state.as_str(), failed.unwrap_or_default()),
                tenant.age_seconds.map(age).unwrap_or_default(),
                tenant.backups.to_string(),
                tenant.bytes_read.map(size).unwrap_or_default(),
                tenant.duration_ms.map(duration).unwrap_or_default(),
            ]
        });
        text.push_str(&table(["TENANT", "CLUSTER", "STATE", "NEWEST", "BACKUPS", "SIZE", "TOOK"], &[4, 5], rows));
        if bad > SHOWN {
            text.push_str(&format!("and {} more; `tenure tenants` lists everybody\n", bad - SHOWN));
        }
    } else if let Some(oldest) = report.tenants.iter().find(|tenant| tenant.age_seconds.is_some()) {
        let at = oldest.newest_taken_at.map(time).unwrap_or_default();
        text.push_str(&format!("every newest backup is of {at} or later ({})\n", Printable(&oldest.tenant)));
    }
    text.push_str(&alarms(&report.alarms));
    text
}

/// One line for each kind of alarm, and then what to type, each once.
fn alarms(alarms: &[Alarm]) -> String {
    let mut kinds: BTreeMap<(std::cmp::Reverse<Severity>, AlarmKind), Vec<&Alarm>> = BTreeMap::new();
    for alarm in alarms {
        kinds.entry((std::cmp::Reverse(alarm.severity), alarm.kind)).or_default().push(alarm);
    }
    let mut text = String::new();
    let mut hints: Vec<&str> = Vec::new();
    for ((severity, kind), alarms) in &kinds {
        let first = alarms[0];
        let more = match alarms.len() - 1 {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let line = format!("{}: {}: {}{more}\n", severity.0.as_str(), kind.as_str(), first.message);
        text.push_str(if text.is_empty() { "\n" } else { "" });
        text.push_str(&line);
        if !first.hint.is_empty() && !hints.contains(&first.hint.as_str()) {
            hints.push(&first.hint);
        }
    }
    for hint in hints.iter().take(HINTS) {
        text.push_str(if std::ptr::eq(*hint, hints[0]) { "\n" } else { "" });
        text.push_str(&format!("next: {hint}\n"));
    }
    text
}

fn counts(counts: &Counts) -> String {
    let words = [
        (counts.good, "good"),
        (counts.late, "late"),
        (counts.new, "new"),
        (counts.missing, "missing"),
        (counts.ambiguous, "ambiguous"),
        (counts.moved, "moved"),
        (counts.closed, "closed"),
        (counts.unknown, "unknown"),
        (counts.suspended, "suspended"),
        (counts.erased, "erased"),
        (counts.dropped, "dropped"),
    ];
    let words: Vec<String> =
        words.into_iter().filter(|(n, word)| *n > 0 || *word == "good").map(|(n, word)| format!("{n} {word}")).collect();
    words.join(", ")
}
