//! `tenure keys prune`.

use super::change::{Opened, Whose};
use crate::{
    cli::{
        edge::{Edge, Ended},
        table::count,
    },
    config::store::Role,
    format::act::ActCommand,
    operation::{
        failure::Failure,
        held::FleetLocks,
        keys::prune::{Prune, PruneReport},
    },
    printable::Printable,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    whose: Whose,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let opened = Opened::open(args.whose, (Role::Eraser, "eraser"), edge).await?;
    let installation = opened.installation.vault.root().installation;
    let locks = FleetLocks { clusters: &opened.clusters()?, installation };
    let outcome = Prune { change: opened.change(), locks: &locks }.run(&opened.which).await;
    let report = opened.noted(ActCommand::KeysPrune, outcome).await?;
    let failures = report.results.iter().filter_map(|result| result.error.as_ref()).chain(&report.errors);
    opened.told("keys prune", &report, text, failures, report.class)
}

fn text(report: &PruneReport) -> String {
    let mut text = String::new();
    let mut destroyed = 0;
    for result in &report.results {
        let tenant = Printable(&result.tenant);
        for key in &result.keys {
            let did = if report.dry_run { "would be destroyed" } else { "destroyed" };
            text.push_str(&format!("{did}: key {key} of {tenant}\n"));
            destroyed += 1;
        }
        for copy in &result.key_copies {
            text.push_str(&format!("absent: {} at {}\n", copy.store, copy.destroyed_at.format("%Y-%m-%d %H:%M:%S UTC")));
        }
        for kept in &result.kept {
            text.push_str(&format!("kept: key {} of {tenant}: {}\n", kept.key, kept.because));
        }
        for open in &result.open {
            text.push_str(&format!("open: {tenant}: {open}\n"));
        }
    }
    text.push_str(&match (destroyed, report.dry_run) {
        (0, _) => "no key was destroyed\n".to_owned(),
        (n, true) => format!("{} would be destroyed\n", count(n, "key")),
        (n, false) => format!("{} destroyed; no backup needs any of them\n", count(n, "key")),
    });
    text
}
