//! `tenure hold`.

use super::{
    edge::{Edge, Ended},
    installation::{Installation, read_signing_key},
};
use crate::{
    config::store::Role,
    operation::{
        failure::Failure,
        hold::{HoldReport, Holding},
    },
    printable::Printable,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose backups and keys
    tenant: TenantName,

    /// Why; stored sealed with the tenant's key
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let Installation { config, vault, keyring } = Installation::open(edge, Role::Operator).await?;
    let holding = Holding { vault: &vault, keyring: &keyring, operator: &read_signing_key(&config, "operator")? };
    let report = holding.hold(&args.tenant, &args.reason, edge.now()).await?;
    edge.output.report("hold", &report, text)?;
    Ok(Ended::default())
}

fn text(report: &HoldReport) -> String {
    let mut text =
        format!("{}: on hold {}: nothing of it expires, is purged or loses its key\n", Printable(&report.tenant), report.hold);
    if !report.others.is_empty() {
        text.push_str(&format!("it was on hold before: {}\n", report.others.join(", ")));
    }
    text
}
