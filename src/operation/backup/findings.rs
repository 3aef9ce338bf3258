//! What a backup that was made has to say besides.

use chrono::TimeDelta;

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

/// A server's clock may be this far from the host's before the report says so.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(5);

/// What is wrong with the history, and what had to be stored again.
pub(super) fn of_history(history: &History, reuse: &Reuse, findings: &mut Vec<String>) {
    findings.extend(history.problems.iter().map(|problem| format!("{}: {}; run `tenure verify`", problem.object, problem.what)));
    findings.extend(reuse.unreadable_findings.iter().cloned());
    if !reuse.lost.is_empty() {
        findings.push(format!(
            "{} objects of the last backup are missing or damaged and were stored again: {}",
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
    let ahead = manifest.server_time - manifest.taken_at;
    if ahead.abs() > CLOCK_TOLERANCE {
        findings.push(format!(
            "the server's clock is {} s {} this host's",
            ahead.num_seconds().abs(),
            if ahead > TimeDelta::zero() { "ahead of" } else { "behind" }
        ));
    }
    findings.extend(
        description
            .not_captured
            .iter()
            .map(|entry| format!("not captured: {} {}: {}", entry.kind, Printable(&entry.object), entry.reason)),
    );
    if let Some(newer) = ToolVersion::parse(&description.pg_dump).and_then(|tool| tool.is_behind(description.server_version_num))
    {
        findings.push(format!(
            "{} is older than its server: the schema has pg_attver, which older servers refuse; update it to {newer}",
            description.pg_dump
        ));
    }
    findings.extend(description.warnings.iter().map(|line| format!("pg_dump: {}", Printable(line))));
}
