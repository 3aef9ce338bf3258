//! What a backup that was made has to say besides.

use super::reuse::Reuse;
use crate::{
    format::{
        description::{Description, NotCaptured},
        manifest::Manifest,
    },
    operation::failure::{Failure, FailureClass},
    postgres::tools::ToolVersion,
    printable::Printable,
    tenant::TenantName,
    vault::history::History,
};

/// Another clock may be so many seconds from the host's before the report says so.
const CLOCK_TOLERANCE: i64 = 300;

/// Another clock that is not as this host's. Never a stop: a backup with a wrong date is better than none.
pub(super) fn of_clock(whose: &str, ahead_seconds: i64) -> Option<String> {
    let side = if ahead_seconds > 0 { "ahead of" } else { "behind" };
    (ahead_seconds.abs() > CLOCK_TOLERANCE).then(|| {
        format!("the {whose}'s clock is {} s {side} this host's, by which backups are dated and expire", ahead_seconds.abs())
    })
}

/// What is wrong with the history, and what had to be stored again.
pub(super) fn of_history(history: &History, reuse: &Reuse, findings: &mut Vec<String>) {
    findings.extend(history.problems.iter().map(|problem| format!("{}: {}; run `tenure verify`", problem.object, problem.what)));
    findings.extend(history.still_there().next().map(|let_go| {
        format!(
            "{} that a purge let go of still or again stored, the first: {}; nothing uses them, and `tenure expire` removes them",
            history.still_there().count(),
            let_go.backup.backup
        )
    }));
    findings.extend(reuse.unreadable_findings.iter().cloned());
    if !reuse.lost.is_empty() {
        findings.push(format!(
            "{} of the last backup's objects missing or damaged, and stored again; the first: {}",
            reuse.lost.len(),
            reuse.lost[0]
        ));
    }
}

/// A backup that lacks what its role may not read is there, and is not what was promised: the night is not a good one.
pub(super) fn incomplete(tenant: &TenantName, description: &Description) -> Option<Failure> {
    let unreadable = description.not_captured.iter().filter(|entry| entry.kind == NotCaptured::UNREADABLE);
    let unreadable: Vec<String> = unreadable.map(|entry| Printable(&entry.object).to_string()).collect();
    (!unreadable.is_empty()).then(|| {
        let message = format!(
            "the backup of tenant {tenant} is made, without the large objects that its role may not read: {}",
            unreadable.join(", ")
        );
        Failure::new(FailureClass::SomeTenants, "incomplete", tenant, message)
            .hint("`tenure check` says which GRANT lets the backup read them. Everything else can be restored.")
    })
}

/// What the backup does not hold, and what else is odd about it.
pub(super) fn of_captured(manifest: &Manifest, description: &Description, findings: &mut Vec<String>) {
    findings.extend(of_clock("server", (manifest.server_time - manifest.taken_at).num_seconds()));
    findings.extend(
        description
            .not_captured
            .iter()
            .map(|entry| format!("not captured: {} {}: {}", entry.kind, Printable(&entry.object), entry.reason)),
    );
    let pg_dump = ToolVersion::parse(&description.pg_dump);
    let server_major = description.server_version_num / 10_000;
    if pg_dump.is_some_and(|tool| tool.is_too_new_for(server_major)) {
        findings.push(format!(
            "{} wrote an archive that PostgreSQL {server_major} cannot be given back, only 17 or newer; install postgresql-client-{server_major}",
            description.pg_dump
        ));
    }
    if let Some(newer) = pg_dump.and_then(|tool| tool.is_behind(description.server_version_num)) {
        findings.push(format!(
            "{} is older than its server: the schema has pg_attver, which older servers refuse; update it to {newer}",
            description.pg_dump
        ));
    }
    findings.extend(description.warnings.iter().map(|line| format!("pg_dump: {}", Printable(line))));
}
