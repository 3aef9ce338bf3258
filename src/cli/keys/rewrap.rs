//! `tenure keys rewrap`.

use std::path::PathBuf;

use super::change::{Opened, Whose};
use crate::{
    cli::{
        edge::{Edge, Ended},
        installation::{read_identity, read_recipients},
        table::{count, table},
    },
    config::store::Role,
    format::act::ActCommand,
    operation::{
        failure::Failure,
        keys::rewrap::{Rewrap, RewrapReport},
    },
    printable::Printable,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Recovery kit or age identity file that opens the keys as they are now
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,

    #[command(flatten)]
    whose: Whose,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let identity = read_identity(&args.identity)?;
    let opened = Opened::open(args.whose, (Role::Operator, "operator"), edge).await?;
    let recipients = read_recipients(&opened.installation.config)?;
    let rewrap = Rewrap { change: opened.change(), recipients: &recipients, identity: &identity };
    let outcome = rewrap.run(&opened.which).await;
    let report = opened.noted(ActCommand::KeysRewrap, outcome).await?;
    let failures = report.results.iter().filter_map(|result| result.error.as_ref()).chain(&report.errors);
    opened.told("keys rewrap", &report, text, failures, report.class)
}

fn text(report: &RewrapReport) -> String {
    if report.results.is_empty() {
        return "no tenant has a key\n".to_owned();
    }
    let rows = report.results.iter().map(|result| {
        [
            Printable(&result.tenant).to_string(),
            result.key.clone(),
            result.outcome.as_str().to_owned(),
            result.wrapping.map(|wrapping| wrapping.to_string()).unwrap_or_default(),
            result.removed.to_string(),
        ]
    });
    let mut text = table(["TENANT", "KEY", "OUTCOME", "WRAPPING", "REMOVED"], &[3, 4], rows);
    for open in &report.open {
        text.push_str(&format!("open: {open}\n"));
    }
    let to = if report.dry_run { "would be wrapped to" } else { "wrapped to" };
    text.push_str(&format!("{to} {}\n", report.recipients.join(", ")));
    if !report.open.is_empty() {
        let left = count(report.open.len() as u64, "thing");
        text.push_str(&format!("{left} left: run it again when that is mended, until it says nothing of the kind\n"));
    }
    text.push_str(
        "who copied a wrapped key earlier and has an identity of that time can still open it: `tenure keys rotate` makes new keys for what comes\n",
    );
    text
}
