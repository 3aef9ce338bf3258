//! `tenure reconcile`.

use super::{
    clusters,
    edge::{Edge, Ended},
    installation::{Installation, read_signing_key},
    leaving,
    table::count,
};
use crate::{
    config::store::Role,
    operation::{
        failure::Failure,
        reconcile::{FoundDatabase, Reconcile, ReconcileReport, Why},
    },
    printable::Printable,
    worker::job::Complaint,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say what has come back, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// Looks for what was erased, with the eraser's credentials.
///
/// # Errors
/// As [`Reconcile::run`].
pub async fn perform(installation: &Installation, edge: &Edge, dry_run: bool) -> Result<ReconcileReport, Failure> {
    let Installation { config, vault, keyring } = installation;
    let operator = read_signing_key(config, "operator");
    let reconcile = Reconcile {
        vault,
        keyring,
        clusters: &clusters::fleet(config)?,
        servers: &clusters::servers(config)?,
        operator: operator.as_ref().map_err(|failure| {
            Failure::new(failure.class, failure.kind, &failure.object, failure.message.clone()).hint(failure.hint.clone())
        }),
        eraser: &read_signing_key(config, "eraser")?,
        approvals: config.approvals.needed("drop"),
        dry_run,
        clock: &|| edge.now(),
    };
    reconcile.run().await
}

/// What came of it, in a line.
#[must_use]
pub fn summary(report: &ReconcileReport) -> String {
    match report.class {
        None => format!("no database that was erased is there again ({})", count(report.tombstones, "tombstone")),
        Some(_) => {
            format!("{}, {}", count(report.found.len() as u64, "database"), count(report.problems.len() as u64, "problem"))
        }
    }
}

/// Each thing that is wrong.
#[must_use]
pub fn complaints(report: &ReconcileReport) -> Vec<Complaint> {
    let found = report.found.iter().map(|found| Complaint::new(&found.node, line(found).trim_end(), ""));
    let problems = report.problems.iter().map(|problem| Complaint::new(&problem.object, &problem.problem, ""));
    let open = report.open.iter().map(|open| Complaint::new(&open.object, &open.what, ""));
    found.chain(problems).chain(open).collect()
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let installation = Installation::open(edge, Role::Eraser).await?;
    let report = perform(&installation, edge, args.dry_run).await?;
    edge.output.outcome("reconcile", &report, report.class.is_none(), text)?;
    Ok(Ended { worst: report.class })
}

fn text(report: &ReconcileReport) -> String {
    let mut text: String = report.found.iter().map(line).collect();
    for problem in &report.problems {
        let put_back = if problem.put_back { "; it was put back" } else { "" };
        text.push_str(&format!("ALARM: {}: {}{put_back}\n", problem.object, problem.problem));
    }
    text.push_str(&leaving::open(&report.open));
    if report.class.is_none() {
        text.push_str(&format!("{}\n", summary(report)));
    }
    if report.dry_run {
        text.push_str("nothing was done\n");
    }
    text
}

fn line(found: &FoundDatabase) -> String {
    let what = match found.why {
        Why::Returned => "was erased, and is there again",
        Why::Number => "has the number of a database that was erased",
        Why::Reopened => "is being erased",
        Why::OnReplica => "was erased, and this server still has it",
        Why::Name => "has an erased tenant's name",
        Why::Copy => "is a copy of what was erased",
    };
    let state = match (found.closed_now, found.is_open) {
        (true, _) => "closed now",
        (false, true) => "OPEN",
        (false, false) => "closed",
    };
    format!("ALARM: database {} on {} {what} ({state}): {}\n", Printable(&found.database), found.node, found.what)
}
