//! `tenure expire`.

use chrono::{DateTime, Utc};

use super::{
    edge::{Edge, Ended},
    installation::{Installation, read_signing_key},
    table::{count, size, time},
    zoned_time::zoned_time,
};
use crate::{
    config::store::Role,
    id::RecordId,
    operation::{
        expire::{
            Expire,
            report::{Brake, ExpireReport, ExpiredBackup, WaitingBackup},
        },
        failure::Failure,
    },
    printable::Printable,
    worker::job::Complaint,
};

pub use crate::operation::expire::Request;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is over by this time, like 2026-11-21T03:00:00Z; a time that lies ahead is only looked at [default: now]
    #[arg(long, value_name = "TIME", value_parser = zoned_time)]
    as_of: Option<DateTime<Utc>>,

    /// Say what would go, and remove nothing
    #[arg(long)]
    dry_run: bool,

    /// Let go of what this run said that it waits for
    #[arg(long, value_name = "RUN", value_parser = record_id)]
    confirm: Option<RecordId>,
}

/// Of a whole fleet's backups that wait, a screen.
const SHOWN: usize = 20;

fn record_id(text: &str) -> Result<RecordId, String> {
    text.parse().map_err(|_| "expected the id of a run, 32 digits, as `tenure expire` says it".to_owned())
}

/// Expires, with the janitor's credentials.
///
/// # Errors
/// No key to sign with; stores out of reach. The rest is in the report.
pub async fn perform(installation: &Installation, edge: &Edge, request: Request) -> Result<ExpireReport, Failure> {
    let Installation { config, vault, keyring } = installation;
    let now = edge.now();
    let looks_only = request.dry_run || request.as_of.is_some_and(|as_of| as_of > now);
    let signer = if looks_only { None } else { Some(read_signing_key(config, "janitor")?) };
    let expire = Expire { vault, keyring, signer: signer.as_ref(), at_once: config.limits.jobs as usize, cancel: &edge.stop };
    expire.run(request, now).await
}

/// Each thing that is wrong, and what waits for a person.
#[must_use]
pub fn complaints(report: &ExpireReport) -> Vec<Complaint> {
    let problems = report.problems.iter().map(|problem| {
        let object = problem.tenant.as_ref().unwrap_or(&problem.object);
        Complaint::new(object, &problem.problem, &problem.hint)
    });
    let waiting = report.waiting.as_ref().filter(|_| !report.dry_run).map(|waiting| {
        let waits =
            format!("{} for somebody to look and to confirm", count_of(waiting.backups.len(), "backup waits", "backups wait"));
        let hint = match &waiting.run {
            Some(run) => format!("If all of them should go: `tenure expire --confirm {run}`."),
            None => {
                "What waits could not be written down, so nobody can confirm it: see what is said of runs/, and run it again."
                    .to_owned()
            }
        };
        Complaint::new("expire", waits, hint)
    });
    problems.chain(waiting).collect()
}

/// What was done, in a line.
#[must_use]
pub fn summary(report: &ExpireReport) -> String {
    let removed = if report.dry_run { "would remove" } else { "removed" };
    format!(
        "{removed} {} whose time was over at {}: {}, {}",
        count(report.removed.len() as u64, "backup"),
        time(report.as_of),
        count(report.objects_removed, "object"),
        size(report.bytes_removed),
    )
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let installation = Installation::open(edge, Role::Janitor).await?;
    let request = Request { as_of: args.as_of, dry_run: args.dry_run, confirm: args.confirm };
    let report = perform(&installation, edge, request).await?;
    let class = report.class();
    edge.output.outcome("expire", &report, class.is_none(), text)?;
    for Complaint { object, message, hint } in complaints(&report) {
        edge.output.complain(&Printable(&object).to_string(), &message, &hint);
    }
    Ok(Ended { worst: class })
}

fn count_of(n: usize, one: &str, many: &str) -> String {
    let words = if n == 1 { one } else { many };
    format!("{n} {words}")
}

fn text(report: &ExpireReport) -> String {
    let name =
        |tenant: &Option<String>| tenant.as_deref().map_or("unknown tenant".to_owned(), |tenant| Printable(tenant).to_string());
    let mut text = String::new();
    let mut list = |word: &str, backups: &[ExpiredBackup]| {
        for backup in backups {
            text.push_str(&format!("{word}: {} {}\n", name(&backup.tenant), backup.backup));
        }
    };
    list(if report.dry_run { "would go" } else { "removed" }, &report.removed);
    list("on hold", &report.kept_by_hold);
    let waiting: Vec<&WaitingBackup> = report.waiting.iter().flat_map(|waiting| &waiting.backups).collect();
    for brake in [Brake::HalfOfTheFleet, Brake::Newest] {
        let why = match brake {
            Brake::HalfOfTheFleet => "over half of all backups would go at once",
            Brake::Newest => "it is the newest that is left of a tenant",
        };
        let held: Vec<_> = waiting.iter().filter(|backup| backup.brake == brake).collect();
        for WaitingBackup { tenant, backup, .. } in held.iter().take(SHOWN) {
            text.push_str(&format!("waits: {} {backup}: {why}\n", name(tenant)));
        }
        if held.len() > SHOWN {
            text.push_str(&format!("waits: {} more: {why}; --json lists all of them\n", held.len() - SHOWN));
        }
    }
    if report.kept_by_lock.objects > 0 {
        let until = report.kept_by_lock.until.map(time).unwrap_or_default();
        text.push_str(&format!("locked: {}, the last until {until}\n", count(report.kept_by_lock.objects, "object")));
    }
    text.push_str(&format!("{}\n", summary(report)));
    text
}
