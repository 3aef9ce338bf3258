//! The page of a night: who was backed up and who was not, how much and how long, at one look.

use maud::{Markup, html};

use super::{
    chart::{self, Bar},
    code, facts, page, rows,
};
use crate::{
    cli::{
        report::{name, outcomes},
        table::{count, duration, size, time},
    },
    format::act::NightOutcome,
    operation::night_report::{NightReport, NightTenant, SlotReport},
    printable::Printable,
};

/// How many tenants have a bar of their own in a chart.
const BARS: usize = 20;

/// The page.
pub(in crate::cli) fn night(report: &NightReport) -> String {
    let body = html! {
        header {
            p.kind { "tenure · report of a night" }
            h1 { "Night of " (report.night) }
        }
        @for problem in &report.problems {
            div.open { h2 { "Not to be trusted" } p { (Printable(problem).to_string()) } }
        }
        @for slot in &report.slots { (of_slot(slot)) }
        p { "All times are UTC. A night is the day that its schedules were due on. Each line rests on signed records in the vault; "
            (code(format!("tenure report --night {}", report.night))) " checks them again." }
    };
    page(&format!("Night of {}", report.night), &body)
}

fn of_slot(slot: &SlotReport) -> Markup {
    let is_well = |tenant: &&NightTenant| !tenant.is_wrong();
    let wrong = slot.tenants.iter().filter(|tenant| !is_well(tenant)).count();
    let took = u64::try_from((slot.ended_at - slot.began_at).num_milliseconds()).unwrap_or(0);
    let sum = [
        ("Due", html! { (time(slot.due_at)) }),
        ("At work", html! { (time(slot.began_at)) " to " (time(slot.ended_at)) ", " (duration(took)) }),
        ("Tenants", html! { (count(slot.tenants.len() as u64, "tenant")) ": " (outcomes(slot)) }),
        ("Read, stored", html! { (size(slot.bytes_read)) ", " (size(slot.bytes_stored)) }),
    ];
    html! {
        div class=(if wrong == 0 { "stage closed" } else { "stage unfinished" }) {
            strong { (Printable(&slot.schedule).to_string()) }
            @if wrong == 0 { "Nobody has to look." } @else { b { "Somebody has to look at " (count(wrong as u64, "tenant")) "." } }
        }
        (facts(sum))
        h2 { "Outcomes" }
        (chart::shares(&shares(slot)))
        (charts(slot))
        h2 { "Tenants" }
        (rows(["tenant", "outcome", "took", "read", "stored", "newest backup", "its manifest, SHA-256"], slot.tenants.iter().map(line)))
        h2 { "Records" }
        (rows(["object", "signed by", "SHA-256"], slot.records.iter().map(|record| [
            code(Printable(&record.object)), html! { (Printable(&record.principal).to_string()) }, html! { div.digest { (code(&record.sha256)) } },
        ])))
    }
}

/// How many ended how, the worst last.
fn shares(slot: &SlotReport) -> Vec<(&'static str, &'static str, u64)> {
    let all = [
        (NightOutcome::Done, "done"),
        (NightOutcome::Current, "current"),
        (NightOutcome::Waiting, "waiting"),
        (NightOutcome::Busy, "busy"),
        (NightOutcome::Interrupted, "interrupted"),
        (NightOutcome::Refused, "refused"),
        (NightOutcome::Failed, "failed"),
    ];
    let n = |outcome: NightOutcome| slot.outcomes.get(outcome.as_str()).copied().unwrap_or(0);
    all.into_iter().map(|(outcome, class)| (outcome.as_str(), class, n(outcome))).filter(|(.., n)| *n > 0).collect()
}

fn charts(slot: &SlotReport) -> Markup {
    let tried: Vec<&NightTenant> = slot.tenants.iter().filter(|tenant| tenant.attempts > 0).collect();
    let bars = |value: fn(&NightTenant) -> Option<u64>| -> Vec<Bar> {
        let one = |tenant: &&NightTenant| Some(Bar { label: name(tenant), value: value(tenant)?, is_bad: tenant.is_wrong() });
        let mut bars: Vec<Bar> = tried.iter().filter_map(one).collect();
        bars.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.label.cmp(&b.label)));
        bars
    };
    html! {
        @for (what, bars, show) in [
            ("Sizes: what a restore brings back", bars(|tenant| Some(tenant.bytes_read).filter(|bytes| *bytes > 0)), size as fn(u64) -> String),
            ("Stored: what the night added", bars(|tenant| Some(tenant.bytes_stored).filter(|_| tenant.bytes_read > 0)), size),
            ("Durations", bars(|tenant| tenant.duration_ms), duration),
        ] {
            @if !bars.is_empty() {
                h2 { (what) }
                @if bars.len() > BARS {
                    p { "All " (count(bars.len() as u64, "tenant")) ", and the " (BARS) " largest:" }
                    (chart::spread(&bars, show))
                }
                (chart::bars(&bars[..bars.len().min(BARS)], show))
            }
        }
    }
}

fn line(tenant: &NightTenant) -> [Markup; 7] {
    let manifest = tenant.manifest.filter(|manifest| manifest.as_str() != "same");
    [
        html! { (name(tenant)) },
        html! {
            @if tenant.is_wrong() { b.unknown { (tenant.outcome.as_str()) } } @else { (tenant.outcome.as_str()) }
            @if let Some(reason) = &tenant.reason { br; (Printable(reason).to_string()) }
            @if tenant.attempts > 1 { br; (tenant.attempts) " tries" }
        },
        html! { @if let Some(took) = tenant.duration_ms { (duration(took)) } },
        html! { @if tenant.attempts > 0 { (size(tenant.bytes_read)) } },
        html! { @if tenant.attempts > 0 { (size(tenant.bytes_stored)) } },
        html! { @match tenant.newest_taken_at { Some(at) => (time(at)), None => span.unknown { "none" } } },
        html! {
            @if let Some(sha256) = &tenant.manifest_sha256 { div.digest { (code(sha256)) } }
            @if let Some(manifest) = manifest { " " b.unknown { (manifest.as_str()) } }
        },
    ]
}
