//! `tenure report`.

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use chrono::NaiveDate;

use super::{
    edge::{Edge, Ended},
    installation::Installation,
    page,
    table::{count, duration, size, table, time},
};
use crate::{
    config::store::Role,
    format::act::NightOutcome,
    id::RecordId,
    operation::{
        failure::{Failure, FailureClass},
        night_report::{NightReport, NightTenant, Nights, SlotReport},
    },
    printable::Printable,
};

/// How many tenants are named in one slot: those that nothing became of. The page has all of them.
const SHOWN: usize = 40;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The night: the day, in UTC, that its schedules were due on, like 2026-11-21, or `latest`
    #[arg(long, value_name = "DATE", default_value = "latest", value_parser = night)]
    night: NightArg,

    /// Write one page with charts, that fetches nothing, into this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Which night.
#[derive(Debug, Clone, Copy)]
struct NightArg(Option<NaiveDate>);

fn night(text: &str) -> Result<NightArg, String> {
    match text {
        "latest" => Ok(NightArg(None)),
        _ => match text.parse() {
            Ok(day) => Ok(NightArg(Some(day))),
            Err(_) => Err("expected a day, like 2026-11-21, or `latest`".to_owned()),
        },
    }
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let Installation { config, vault, keyring } = &Installation::open(edge, Role::Restorer).await?;
    let keep = |tenant: &_| config.policy(tenant).keep;
    let report = Nights { vault, keyring, keep: &keep }.run(args.night.0, edge.now()).await?;
    if let Some(path) = &args.html {
        write(path, &page::night::night(&report)).map_err(|error| {
            let message = format!("cannot write {}", path.display());
            Failure::new(FailureClass::Failed, "output", path.display(), message).because(error)
        })?;
    }
    edge.output.outcome("report", &report, report.class.is_none(), text)?;
    Ok(Ended { worst: report.class })
}

/// Beside it first, so that a page that is there stays whole. It names tenants: nobody but its owner reads it.
fn write(path: &Path, page: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", RecordId::random()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file.write_all(page.as_bytes()).and_then(|()| std::fs::rename(&beside, path));
    if written.is_err() {
        std::fs::remove_file(&beside).ok();
    }
    written
}

fn text(report: &NightReport) -> String {
    let mut text = format!("night of {}\n", report.night);
    for slot in &report.slots {
        text.push_str(&slot_text(slot));
    }
    for problem in &report.problems {
        text.push_str(&format!("not to be trusted: {problem}\n"));
    }
    text
}

fn slot_text(slot: &SlotReport) -> String {
    let took = u64::try_from((slot.ended_at - slot.began_at).num_milliseconds()).unwrap_or(0);
    let mut text = format!(
        "\n{}, due {}: {} by {}, in {}; read {}, stored {}\n",
        Printable(&slot.schedule),
        time(slot.due_at),
        outcomes(slot),
        count(slot.records.len() as u64, "run"),
        duration(took),
        size(slot.bytes_read),
        size(slot.bytes_stored)
    );
    let is_told = |tenant: &&NightTenant| {
        !matches!(tenant.outcome, NightOutcome::Done | NightOutcome::Current) || tenant.manifest_is_wrong()
    };
    let told: Vec<&NightTenant> = slot.tenants.iter().filter(is_told).collect();
    if told.is_empty() {
        return text;
    }
    let rows = told.iter().take(SHOWN).map(|tenant| {
        [
            name(tenant),
            tenant.outcome.as_str().to_owned(),
            tenant.reason.as_ref().map(|reason| Printable(reason).to_string()).unwrap_or_default(),
            tenant.attempts.to_string(),
            tenant.newest_taken_at.map_or_else(|| "none".to_owned(), time),
            tenant.manifest.map(|manifest| manifest.as_str().to_owned()).unwrap_or_default(),
        ]
    });
    text.push_str(&table(["TENANT", "OUTCOME", "WHY", "TRIES", "NEWEST", "MANIFEST"], &[3], rows));
    if told.len() > SHOWN {
        text.push_str(&format!("and {} more; --html FILE or --json has all of them\n", told.len() - SHOWN));
    }
    text
}

/// What a tenant is called here: one that the keyring forgot has its pseudonym.
pub(super) fn name(tenant: &NightTenant) -> String {
    tenant.tenant.as_ref().map_or_else(|| tenant.name_tag.clone(), |name| Printable(name).to_string())
}

/// `280 done, 20 failed`, the most frequent first.
pub(super) fn outcomes(slot: &SlotReport) -> String {
    let mut counts: Vec<(&str, u64)> = slot.outcomes.iter().map(|(word, n)| (*word, *n)).collect();
    counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let words: Vec<String> = counts.iter().map(|(word, n)| format!("{n} {word}")).collect();
    if words.is_empty() { "nobody was due".to_owned() } else { words.join(", ") }
}
