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
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Say what has come back, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let Installation { config, vault, keyring } = &Installation::open(edge, Role::Eraser).await?;
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
        dry_run: args.dry_run,
        clock: &chrono::Utc::now,
    };
    let report = reconcile.run().await?;
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
        text.push_str(&format!("no database that was erased is there again ({})\n", count(report.tombstones, "tombstone")));
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
