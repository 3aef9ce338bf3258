//! The tenants of a cluster, and what the connecting role may not read of them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::{StreamExt as _, stream};

use super::{
    Report,
    installation::Installation,
    server::{asking, quoted},
};
use crate::{
    operation::{
        failure::Failure,
        fleet::{Cluster, Fleet},
    },
    postgres::{
        discover::{Discovery, Found},
        readiness::{self, DatabaseReadiness, Several},
    },
    printable::{Printable, Word},
};

/// How many tenants or databases are named in one finding.
const NAMED: usize = 5;

/// A tenant's share of connections: see the limit of a database.
const CONNECTIONS_PER_TENANT: u32 = 4;

/// Looks into every tenant's database of one cluster.
pub(super) async fn check(
    cluster: &Cluster,
    discovery: &Result<Discovery, Failure>,
    (installation, now): (&Installation, DateTime<Utc>),
    jobs: u32,
) -> Report {
    let mut report = Report::default();
    let object = format!("cluster {}", cluster.name);
    let discovery = match discovery {
        Ok(discovery) => discovery,
        // That it cannot be reached was said already.
        Err(failure) if failure.kind == "cannot-connect" => return report,
        Err(failure) => {
            report.failure(&object, failure);
            return report;
        }
    };
    names(&object, discovery, (installation, now), &mut report);

    let ask = discovery.found.iter().map(|found| async move { (found, readiness(cluster, found).await) });
    let answers: Vec<_> = stream::iter(ask).buffer_unordered(cluster.connections.clamp(1, 8) as usize).collect().await;
    let mut ready: Vec<(&Found, DatabaseReadiness)> = Vec::new();
    for (found, answer) in answers {
        match answer {
            Ok(answer) => ready.push((found, answer)),
            Err(failure) => report.failure(&format!("tenant {}", found.tenant), &failure),
        }
    }
    ready.sort_by(|a, b| a.0.tenant.cmp(&b.0.tenant));
    rights(&object, cluster.target.user(), &ready, &mut report);
    if let Some(capacity) = lock_capacity(cluster).await {
        locks(&object, capacity, &ready, jobs, &mut report);
    }
    report
}

fn names(object: &str, discovery: &Discovery, (installation, now): (&Installation, DateTime<Utc>), report: &mut Report) {
    let count = discovery.found.len();
    if count == 0 {
        report.error(
            object,
            "no tenant was found",
            "Check `databases` (or `query`), and the server that `primary` leads to. Nothing would be backed up.",
        );
    } else {
        let bytes: u64 = discovery.found.iter().filter_map(|found| found.bytes).sum();
        report.ok(object, format!("{count} {} found, {} MB", if count == 1 { "tenant" } else { "tenants" }, bytes / 1_000_000));
    }
    if !discovery.unassigned.is_empty() {
        report.warning(
            object,
            format!("databases that no rule makes a tenant, and that are not backed up: {}", list(&discovery.unassigned)),
            "Correct `databases`, or name them under `ignore`.",
        );
    }
    for (tenant, databases) in &discovery.ambiguous {
        report.error(
            format!("tenant {tenant}"),
            format!("several databases answer to this name: {}", list(databases)),
            "Rename or ignore all but one: an ambiguous tenant is not backed up.",
        );
    }
    for closed in &discovery.closed {
        let (object, database) = (format!("tenant {}", closed.tenant), Printable(&closed.database));
        if let Some(until) = installation.grace_until(&closed.tenant).filter(|until| *until > now) {
            let until = until.to_rfc3339_opts(SecondsFormat::Secs, true);
            let name = Word(closed.tenant.as_str());
            report.ok(
                object,
                format!("database {database} is closed: it is being erased, and nothing of it is destroyed before {until} (`tenure erase {name} --undo`)"),
            );
            continue;
        }
        if installation.is_erased(&closed.tenant) {
            report.error(
                object,
                format!("database {database} answers to a tombstone, and is closed"),
                "`tenure reconcile` says what it is, and how it is dropped.",
            );
            continue;
        }
        report.error(
            format!("tenant {}", closed.tenant),
            format!("database {} cannot be read: {}", Printable(&closed.database), closed.because),
            "Open or drop it, or name it under `ignore`.",
        );
    }
}

async fn readiness(cluster: &Cluster, found: &Found) -> Result<DatabaseReadiness, Failure> {
    let session = cluster.target.connect(&found.database, "tenure check").await?;
    readiness::database(&session, &found.database).await.map_err(asking)
}

/// What keeps the role from reading everything, one finding per kind, with the statement that cures it.
fn rights(object: &str, role: &str, ready: &[(&Found, DatabaseReadiness)], report: &mut Report) {
    let role = quoted(role);
    let several = |pick: fn(&DatabaseReadiness) -> &Several| {
        let hit = ready.iter().filter(|(_, answer)| pick(answer).count > 0);
        hit.map(|(found, answer)| format!("{}: {}", found.tenant, examples(pick(answer)))).collect::<Vec<_>>()
    };
    let unreadable = several(|answer| &answer.unreadable);
    if !unreadable.is_empty() {
        report.error(
            object,
            format!("tables or sequences that role {role} may not read: {}", list(&unreadable)),
            format!("GRANT pg_read_all_data TO {role}."),
        );
    }
    let guarded = several(|answer| &answer.guarded);
    if !guarded.is_empty() {
        report.error(
            object,
            format!("row security hides rows from role {role}: {}", list(&guarded)),
            format!("ALTER ROLE {role} BYPASSRLS (a superuser may)."),
        );
    }
    let objects: Vec<String> = ready
        .iter()
        .filter(|(_, answer)| answer.unreadable_large_objects > 0)
        .map(|(found, answer)| format!("{}: {}", found.tenant, answer.unreadable_large_objects))
        .collect();
    if !objects.is_empty() {
        report.error(
            object,
            format!("large objects that role {role} may not read: {}", list(&objects)),
            format!(
                "GRANT their owners TO {role}, or GRANT SELECT ON LARGE OBJECT … TO {role}; pg_read_all_data does not cover them."
            ),
        );
    }
    for (found, answer) in ready {
        if let Some(first) = answer.misspelt.first() {
            report.error(
                format!("tenant {}", found.tenant),
                format!("{} names are not UTF-8 and stop every backup, one of them: {first}", answer.misspelt.len()),
                format!("Rename what has them: {}", first.rename),
            );
        }
    }
    let subscriptions = several(|answer| &answer.skipped_subscriptions);
    if !subscriptions.is_empty() {
        report.warning(
            object,
            format!("subscriptions that only a superuser can dump, and that are left out: {}", list(&subscriptions)),
            "Back up as a superuser, or note how they are made again.",
        );
    }
    let narrow: Vec<String> = ready
        .iter()
        .filter_map(|(found, answer)| {
            let limit = answer.connection_limit.filter(|limit| *limit < CONNECTIONS_PER_TENANT)?;
            Some(format!("{}: {limit}", found.tenant))
        })
        .collect();
    if !narrow.is_empty() {
        report.warning(
            object,
            format!("databases that allow fewer connections than a backup uses ({CONNECTIONS_PER_TENANT}): {}", list(&narrow)),
            "ALTER DATABASE … CONNECTION LIMIT.",
        );
    }
    if !ready.is_empty() && unreadable.is_empty() && guarded.is_empty() && objects.is_empty() {
        report.ok(object, format!("role {role} may read everything in {} of {} databases", ready.len(), ready.len()));
    }
}

async fn lock_capacity(cluster: &Cluster) -> Option<u64> {
    let session = cluster.target.connect(cluster.target.maintenance_database(), "tenure check").await.ok()?;
    Some(readiness::server(&session).await.ok()?.lock_capacity)
}

/// A backup locks each table twice: by the snapshot's session and by `pg_dump`. The largest tenants may be in work together.
fn locks(object: &str, capacity: u64, ready: &[(&Found, DatabaseReadiness)], jobs: u32, report: &mut Report) {
    let mut tables: Vec<u64> = ready.iter().map(|(_, answer)| answer.tables).collect();
    tables.sort_unstable_by(|a, b| b.cmp(a));
    let largest = tables.first().copied().unwrap_or(0);
    let together: u64 = tables.iter().take(jobs as usize).map(|tables| tables * 2).sum();
    let hint = format!(
        "Raise max_locks_per_transaction (and restart the server): it holds {capacity} locks (times max_connections and \
         max_prepared_transactions), for everybody."
    );
    if largest * 2 > capacity {
        report.error(
            object,
            format!("the largest tenant has {largest} tables, and a backup locks each twice: more than the server can hold"),
            hint,
        );
    } else if together * 2 > capacity {
        report.warning(
            object,
            format!("the {jobs} largest tenants together take {together} locks, more than half of what the server can hold"),
            hint,
        );
    } else {
        report.ok(object, format!("room for {capacity} locks; the largest tenant has {largest} tables"));
    }
}

/// What only the whole fleet shows: names on several clusters, missing tenants, erased ones, moved ones.
pub(super) fn check_fleet(fleet: &Fleet, installation: &Installation) -> Report {
    let known = &installation.known;
    let mut report = Report::default();
    let residents = fleet.residents();
    for (tenant, places) in fleet.ambiguous() {
        let clusters: BTreeSet<&str> = places.iter().filter_map(|place| place.split('/').next()).collect();
        if clusters.len() > 1 {
            report.error(
                format!("tenant {tenant}"),
                format!("several clusters have it: {}", list(&places)),
                "Rename or ignore all but one: an ambiguous tenant is not backed up.",
            );
        }
    }
    for tenant in residents.keys().filter(|tenant| installation.is_erased(tenant)) {
        report.error(
            format!("tenant {tenant}"),
            "its name answers to a tombstone: it was erased, and is not backed up",
            "If it is a new customer with an old name, an operator admits it; otherwise find out who brought it back.",
        );
    }
    for (tenant, resident) in residents.iter().filter(|(_, at)| known.is_erased(&at.system_identifier, at.found.oid)) {
        report.error(
            format!("tenant {tenant}"),
            format!("database {} has the number of one that was erased", Printable(&resident.found.database)),
            "An old copy of the server was put back, or somebody renamed it: `tenure reconcile` says what it is, and what to do.",
        );
    }
    for (tenant, resident) in &residents {
        let Some(source) = known.sources.get(tenant) else { continue };
        if source.system_identifier != resident.system_identifier || source.database_oid != resident.found.oid {
            report.error(
                format!("tenant {tenant}"),
                format!("database {} is not the one that was backed up before", Printable(&resident.found.database)),
                "If it is meant to be this tenant's (a failover, a restore by hand), run `tenure admit --source` for it.",
            );
        }
    }
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (cluster, tenant) in fleet.missing(known) {
        missing.entry(cluster).or_default().push(tenant.to_string());
    }
    for (cluster, tenants) in missing {
        report.warning(
            format!("cluster {cluster}"),
            format!("tenants that have backups and are not there any more: {}", list(&tenants)),
            "If they were dropped or moved on purpose all is well: their backups stay until they expire.",
        );
    }
    report
}

fn examples(several: &Several) -> String {
    let shown: Vec<String> = several.examples.iter().map(|name| Printable(name).to_string()).collect();
    let more = several.count.saturating_sub(shown.len() as u64);
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

fn list(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(NAMED).map(|name| Printable(name).to_string()).collect();
    match names.len().saturating_sub(NAMED) {
        0 => shown.join("; "),
        more => format!("{}; and {more} more", shown.join("; ")),
    }
}
