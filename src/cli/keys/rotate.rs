//! `tenure keys rotate`.

use super::{complain, refuse_lost_keys, which};
use crate::{
    cli::{
        clusters,
        edge::{Edge, Ended},
        installation::{Installation, open_removers, read_recipients, read_signing_key},
        table::table,
    },
    config::store::Role,
    operation::{
        failure::Failure,
        held::FleetLocks,
        keys::{
            change::Change,
            rotate::{Rotate, RotateReport},
        },
    },
    printable::Printable,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Tenants that get a new key
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    tenants: Vec<TenantName>,

    /// Every tenant that has a key
    #[arg(long)]
    all: bool,

    /// Go on with what is there although the keyring lost keys
    #[arg(long)]
    accept_lost_keys: bool,

    /// Say what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let Installation { config, vault, keyring } = Installation::open(edge, Role::Operator).await?;
    refuse_lost_keys(args.accept_lost_keys, &vault, &keyring).await?;
    let rotate = Rotate {
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
        locks: &FleetLocks { clusters: &clusters::fleet(&config)?, installation: vault.root().installation },
        recipients: &read_recipients(&config)?,
    };
    let report = rotate.run(&which(args.tenants, args.all)).await?;
    edge.output.report("keys rotate", &report, text)?;
    complain(edge, report.results.iter().filter_map(|result| result.error.as_ref()).chain(&report.errors));
    Ok(Ended { worst: report.class })
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
