//! `tenure keys rewrap`.

use std::path::PathBuf;

use super::{complain, refuse_lost_keys, which};
use crate::{
    cli::{
        edge::{Edge, Ended},
        installation::{Installation, open_removers, read_identity, read_recipients, read_signing_key},
        table::{count, table},
    },
    config::store::Role,
    operation::{
        failure::Failure,
        keys::{
            change::Change,
            rewrap::{Rewrap, RewrapReport},
        },
    },
    printable::Printable,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Tenants whose keys to wrap anew
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    tenants: Vec<TenantName>,

    /// Every tenant's
    #[arg(long)]
    all: bool,

    /// Recovery kit or age identity file that opens the keys as they are now
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,

    /// Go on with what is there although the keyring lost keys
    #[arg(long)]
    accept_lost_keys: bool,

    /// Say what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let identity = read_identity(&args.identity)?;
    let Installation { config, vault, keyring } = Installation::open(edge, Role::Operator).await?;
    refuse_lost_keys(args.accept_lost_keys, &vault, &keyring).await?;
    let rewrap = Rewrap {
        change: Change {
            vault: &vault,
            keyring: &keyring,
            removers: &open_removers(&config).await,
            signer: &read_signing_key(&config, "operator")?,
            role: "operator",
            clock: &chrono::Utc::now,
            progress: &*edge.progress(),
            cancel: &edge.stop,
            dry_run: args.dry_run,
        },
        recipients: &read_recipients(&config)?,
        identity: &identity,
    };
    let report = rewrap.run(&which(args.tenants, args.all)).await?;
    edge.output.report("keys rewrap", &report, text)?;
    complain(edge, report.results.iter().filter_map(|result| result.error.as_ref()).chain(&report.errors));
    Ok(Ended { worst: report.class })
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
