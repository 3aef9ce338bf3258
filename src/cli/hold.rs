//! `tenure hold`.

use super::{
    edge::{Edge, Ended},
    installation::{Installation, read_signing_key},
};
use crate::{
    config::store::Role,
    format::act::ActCommand,
    operation::{
        failure::Failure,
        hold::{HoldReport, Holding},
        refused,
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
    let installation = Installation::open(edge, Role::Operator).await?;
    let Installation { config, vault, keyring } = &installation;
    let holding = Holding {
        vault,
        keyring,
        operator: &read_signing_key(config, "operator")?,
        approvals: config.approvals.needed("release"),
    };
    let outcome = holding.hold(&args.tenant, &args.reason, edge.now()).await;
    let (about, signer) = ([keyring.tag(&args.tenant)], Some(holding.operator));
    let mut report = refused::noted(vault, ActCommand::Hold, &about, signer, edge.now(), outcome).await?;
    // It concerns what the keyring knows; the tenant may have more.
    let lost = installation.lost_keys(edge, &mut report.problems).await?;
    edge.output.report("hold", &report, text)?;
    lost.iter().for_each(|lost| edge.output.remark(lost));
    Ok(Ended { worst: lost.map(|lost| lost.class) })
}

fn text(report: &HoldReport) -> String {
    let mut text =
        format!("{}: on hold {}: nothing of it expires, is purged or loses its key\n", Printable(&report.tenant), report.hold);
    if !report.others.is_empty() {
        text.push_str(&format!("it was on hold before: {}\n", report.others.join(", ")));
    }
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}
