//! A certificate of erasure, for whoever files it.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::{code, facts, page, rows};
use crate::{
    cli::table::{count, size, time},
    format::certificate::{Certificate, Opened, Signatory, Stage, Trace},
    operation::certificate::CertificateReport,
    printable::{Printable, Word},
    tenant::TenantName,
};

/// The page. The tenant's name is on it only where somebody gave it, whose tag was compared.
pub(in crate::cli) fn certificate(report: &CertificateReport, tenant: Option<&TenantName>) -> String {
    let certificate = &report.certificate;
    let is_over = certificate.open.is_empty() && matches!(certificate.stage, Stage::Closed | Stage::Withdrawn);
    let body = html! {
        header {
            p.kind { "tenure · " (if certificate.stage == Stage::Withdrawn { "record of an erasure that was withdrawn" } else { "certificate of erasure" }) }
            h1 { @match tenant { Some(name) => { (name.as_str()) }, None => { "Tenant " (code(certificate.name_tag)) } } }
        }
        div class=(if is_over { "stage closed" } else { "stage unfinished" }) {
            strong { (certificate.stage.as_str()) }
            (meaning(certificate.stage))
            @if !is_over { " " b { "This erasure is not complete: see what is open." } }
        }
        (open(certificate))
        (request(report))
        (live(certificate))
        (backups(certificate))
        (keys(certificate))
        (remains(certificate))
        (check(report))
    };
    let who = tenant.map_or_else(|| certificate.name_tag.to_string(), |name| name.as_str().to_owned());
    page(&format!("Certificate of erasure of {who}: {}", certificate.stage.as_str()), &body)
}

/// What a stage says, in words for somebody who has never seen another certificate.
fn meaning(stage: Stage) -> &'static str {
    match stage {
        Stage::Requested => "The erasure was planned. Nothing is destroyed yet.",
        Stage::Suspended => {
            "The database is closed and every command refuses the tenant. Nothing is destroyed yet, and the erasure may be withdrawn."
        }
        Stage::LiveErased => {
            "The live database is gone from the primary and from every replica. Keys or backups are still there."
        }
        Stage::KeysDestroyed => {
            "The live database is gone from the primary and from every replica, and no copy of any key is left in the keyring and its mirrors: what \
             remains of the backups cannot be read with them."
        }
        Stage::Closed => {
            "The live database is gone from the primary and from every replica, no copy of any key is left in the keyring and its mirrors, and the \
             vault holds nothing of the backups."
        }
        Stage::Withdrawn => "The erasure was withdrawn before anything was destroyed.",
    }
}

fn open(certificate: &Certificate) -> Markup {
    html! {
        @if !certificate.open.is_empty() {
            div.open {
                h2 { "Open" }
                (rows(["what", "where", "until"], certificate.open.iter().map(|open| [
                    html! { (Printable(&open.kind).to_string()) },
                    html! { @if let Some(object) = &open.object { (Printable(object).to_string()) } },
                    html! { (open.until.map_or_else(|| "unknown".to_owned(), time)) },
                ])))
            }
        }
    }
}

fn request(report: &CertificateReport) -> Markup {
    let certificate = &report.certificate;
    let request = &certificate.request;
    let mut lines = vec![
        ("Certificate", code(certificate.id)),
        ("Name tag", code(certificate.name_tag)),
        ("Installation", code(certificate.installation)),
        (
            "Reference",
            html! { @match &request.reference { Some(reference) => { (Printable(reference).to_string()) }, None => { "none was given" } } },
        ),
        ("Planned by", signatory(&request.planned_by)),
    ];
    lines.extend(request.approved_by.iter().map(|by| ("Approved by", signatory(by))));
    lines.push((
        "Signatures needed",
        html! { (match request.approvals_needed { 0 => "none but the planner's".to_owned(), n => n.to_string() }) },
    ));
    lines.push(("Plan, SHA-256", code(request.plan_sha256)));
    let has_grace = request.grace_until > request.planned_at;
    lines.push(("Grace", html! { @if has_grace { "until " (time(request.grace_until)) } @else { "none" } }));
    lines.push((
        "Tombstone",
        html! { (code(certificate.id)) " in the vault and the keyring: every command refuses the tenant by it" },
    ));
    html! {
        h2 { "Request and course" }
        (facts(lines))
        (rows(["stage", "reached"], certificate.reached.iter().map(|reached| [html! { (reached.stage.as_str()) }, html! { (time(reached.at)) }])))
        p { "Time at work, without waiting: " (count(certificate.working_seconds, "second")) "." }
    }
}

fn signatory(by: &Signatory) -> Markup {
    html! { (Printable(&by.principal).to_string()) ", " (time(by.at)) br; (code(Printable(&by.fingerprint))) }
}

fn live(certificate: &Certificate) -> Markup {
    let live = &certificate.live;
    html! {
        h2 { "Live database" }
        @if live.databases.is_empty() { p { "No live database belonged to the tenant when the erasure was planned." } }
        @else {
            (rows(["cluster", "system identifier", "OID"], live.databases.iter().map(|database| [
                html! { (Printable(&database.cluster).to_string()) }, code(Printable(&database.system_identifier)), code(database.database_oid),
            ])))
        }
        @if !live.nodes.is_empty() {
            (rows(["server", "state", "position in the log", "asked at"], live.nodes.iter().map(|node| [
                html! { (Printable(&node.node).to_string()) },
                html! { (Printable(&node.state).to_string()) },
                html! {
                    @if let Some(lsn) = &node.drop_lsn { "dropped at " (code(Printable(lsn))) br; }
                    @if let Some(lsn) = &node.replay_lsn { "replayed to " (code(Printable(lsn))) }
                },
                html! { (node.at.map_or_else(|| "no answer".to_owned(), time)) },
            ])))
        }
        @if !certificate.copies.is_empty() {
            p { "Databases that restores made of the backups, and those that were the tenant's before:" }
            (rows(["cluster", "system identifier", "OID", "of backup", "since", "state"], certificate.copies.iter().map(|copy| [
                html! { (Printable(&copy.cluster).to_string()) },
                code(Printable(&copy.system_identifier)),
                html! { @match copy.database_oid { Some(oid) => { (code(oid)) }, None => { "unknown" } } },
                html! { @match copy.backup { Some(backup) => { (code(backup)) }, None => { "none" } } },
                html! { (time(copy.made_at)) },
                html! { (copy.state.as_str()) },
            ])))
        }
    }
}

fn backups(certificate: &Certificate) -> Markup {
    let backups = &certificate.backups;
    let mut lines = vec![(
        "Backups",
        html! {
            (count(backups.count, "backup"))
            @if let Some((first, last)) = backups.first.zip(backups.last) { ", from " (time(first)) " to " (time(last)) }
        },
    )];
    if let Some(inventory) = &backups.inventory {
        lines.push((
            "Found before the first was removed",
            html! {
                (count(inventory.objects, "object")) ", " (size(inventory.bytes)) ", " (time(inventory.made_at))
            },
        ));
        lines.extend(
            inventory
                .files
                .iter()
                .map(|file| ("Inventory file, SHA-256", html! { (code(Printable(&file.name))) br; (code(file.sha256)) })),
        );
    }
    lines.push((
        "Left in the vault",
        html! {
            @match backups.left {
                None => span.unknown { "not listed yet" },
                Some(left) => {
                    (count(left.objects, "object")) ", " (size(left.bytes)) ", listed " (time(left.at))
                    @if let Some(until) = left.locked_until { "; under a lock until " (time(until)) }
                },
            }
        },
    ));
    html! { h2 { "Backups" } (facts(lines)) }
}

fn keys(certificate: &Certificate) -> Markup {
    let keys = &certificate.keys;
    html! {
        h2 { "Keys" }
        (facts([
            ("Keys", html! { @for key in &keys.keys { (code(key)) br; } }),
            ("Were they the backups'", html! {
                @match &keys.opened {
                    Opened::NotTested => "not tested: nobody gave a recovery identity",
                    Opened::Opened { backup, key, chunk_sha256, at } => {
                        "a chunk of backup " (code(backup)) " opened with key " (code(key)) " at " (time(*at)) "; its SHA-256 as stored: " (code(chunk_sha256))
                    },
                }
            }),
        ]))
        (rows(["store", "destroyed", "left in its last listing"], keys.copies.iter().map(|copy| [
            code(Printable(&copy.store)),
            html! { @match copy.destroyed_at { Some(at) => (time(at)), None => span.unknown { "not destroyed" } } },
            html! { @match &copy.left {
                None => span.unknown { "it did not answer" },
                Some(left) if left.is_empty() => "nothing",
                Some(left) => { @for name in left { (code(Printable(name))) br; } },
            } },
        ])))
    }
}

fn remains(certificate: &Certificate) -> Markup {
    let remains = &certificate.remains;
    let trace = |place: &str, trace: &Trace| [html! { (place) }, html! { (in_words(&trace.what)) }, html! { (until(trace)) }];
    let elsewhere = match &remains.elsewhere {
        Some(copies) => copies.iter().map(|copy| trace("copies of others", copy)).collect(),
        None => vec![[
            html! { "copies of others" },
            html! { span.unknown { "unknown" } },
            html! { "whether there are any was not configured" },
        ]],
    };
    let traces = remains.traces.iter().map(|remaining| trace("traces", remaining));
    html! {
        h2 { "What remains, where, until when" }
        (rows(["", "what", "until"], elsewhere.into_iter().chain(traces)))
        ul { @for always in &remains.always { li { (Printable(always).to_string()) } } }
    }
}

/// What a key below `[remains]` stands for.
fn in_words(what: &str) -> String {
    match what {
        "wal" => "PostgreSQL's log (WAL) and its archive".to_owned(),
        "backups" => "physical backups, dumps and snapshots by other tools".to_owned(),
        "logs" => "logs of servers and applications".to_owned(),
        other => Printable(other).to_string(),
    }
}

fn until(trace: &Trace) -> Markup {
    let after = |after: &String| format!("for {} after the live database is gone", Printable(after));
    let when = |at: DateTime<Utc>| html! { (time(at)) };
    match (&trace.gone_after, trace.until) {
        (None, _) => html! { span.unknown { "unknown" } },
        (Some(_), Some(at)) => when(at),
        (Some(text), None) => html! { (after(text)) },
    }
}

fn check(report: &CertificateReport) -> Markup {
    let (id, signed) = (report.certificate.id, &report.signed);
    html! {
        h2 { "How to check this" }
        p { "This page is a rendering. What is signed is a document in the vault, and whoever has it can check it with OpenSSH alone:" }
        (facts([
            ("Document", code(Printable(&signed.file))),
            ("SHA-256", code(Printable(&signed.sha256))),
            ("Signed by", html! { (Printable(&signed.principal).to_string()) br; (code(Printable(&signed.fingerprint))) }),
        ]))
        pre { code {
            "tenure certificate verify " (id) "\n"
            "tenure certificate export " (id) " FOLDER && cd FOLDER\n"
            "ssh-keygen -Y verify -f allowed_signers -I " (Word(&signed.principal).to_string()) " -n tenure-erasure -s " (signed.file) ".sig < " (signed.file)
        } }
    }
}
