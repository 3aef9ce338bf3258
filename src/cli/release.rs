//! `tenure release`.

use super::{
    edge::{Edge, Ended},
    installation::{Installation, read_signing_key},
};
use crate::{
    config::store::Role,
    format::act::ActCommand,
    id::RecordId,
    operation::{
        failure::{Failure, FailureClass},
        hold::{Holding, ReleaseReport, Which},
        refused,
    },
    printable::Printable,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose hold
    tenant: TenantName,

    /// Which, where there are several
    #[arg(long, value_name = "ID", conflicts_with = "all")]
    hold: Option<RecordId>,

    /// Every one
    #[arg(long)]
    all: bool,
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
    let which = match args.hold {
        Some(id) => Which::One(id),
        None if args.all => Which::All,
        None => Which::Only,
    };
    let outcome = holding.release(&args.tenant, which, edge.now()).await;
    let (about, signer) = ([keyring.tag(&args.tenant)], Some(holding.operator));
    let mut report = refused::noted(vault, ActCommand::Release, &about, signer, edge.now(), outcome).await?;
    // It concerns what the keyring knows; the tenant may have more.
    let lost = installation.lost_keys(edge, &mut report.problems).await?;
    edge.output.report("release", &report, text)?;
    lost.iter().for_each(|lost| edge.output.remark(lost));
    Ok(Ended { worst: (lost.is_some() || !report.unreadable.is_empty()).then_some(FailureClass::Integrity) })
}

fn text(report: &ReleaseReport) -> String {
    let tenant = Printable(&report.tenant);
    let mut text: String = report.released.iter().map(|hold| format!("{tenant}: released {hold}\n")).collect();
    for hold in &report.remaining {
        text.push_str(&format!("{tenant}: still on hold {hold}\n"));
    }
    for record in &report.unreadable {
        text.push_str(&format!("bad: {tenant}: {record}; it may be a hold, and counts as one\n"));
    }
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}
