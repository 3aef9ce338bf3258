//! `tenure keys rotate`.

use super::change::{Opened, Whose};
use crate::{
    cli::{
        edge::{Edge, Ended},
        installation::{Installation, read_recipients},
        table::table,
    },
    config::store::Role,
    format::act::ActCommand,
    operation::{
        failure::Failure,
        held::FleetLocks,
        keys::rotate::{Rotate, RotateReport},
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
    let opened = Opened::open(args.whose, (Role::Operator, "operator"), edge).await?;
    let Installation { config, vault, .. } = &opened.installation;
    let locks = FleetLocks { clusters: &opened.clusters()?, installation: vault.root().installation };
    let rotate = Rotate { change: opened.change(), locks: &locks, recipients: &read_recipients(config)? };
    let outcome = rotate.run(&opened.which).await;
    let report = opened.noted(ActCommand::KeysRotate, outcome).await?;
    let failures = report.results.iter().filter_map(|result| result.error.as_ref()).chain(&report.errors);
    opened.told("keys rotate", &report, text, failures, report.class)
}

fn text(report: &RotateReport) -> String {
    if report.results.is_empty() {
        return "no tenant has a key\n".to_owned();
    }
    let rows = report.results.iter().map(|result| {
        [
            Printable(&result.tenant).to_string(),
            result.outcome.as_str().to_owned(),
            result.key.clone().unwrap_or_default(),
            result.replaces.clone().unwrap_or_default(),
        ]
    });
    let mut text = table(["TENANT", "OUTCOME", "NEW KEY", "REPLACES"], &[], rows);
    if report.results.iter().any(|result| result.key.is_some()) {
        text.push_str(
            "the next backup of each is a full one; older backups stay readable until they expire, and `tenure keys prune` then removes their keys\n",
        );
    }
    text
}
