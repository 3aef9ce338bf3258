//! `tenure keys prune`.

use super::{complain, refuse_lost_keys, which};
use crate::{
    cli::{
        clusters,
        edge::{Edge, Ended},
        installation::{Installation, open_removers, read_signing_key},
        table::count,
    },
    config::store::Role,
    operation::{
        failure::Failure,
        held::FleetLocks,
        keys::{
            change::Change,
            prune::{Prune, PruneReport},
        },
    },
    printable::Printable,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Tenants whose keys to look at
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    tenants: Vec<TenantName>,

    /// Every tenant's
    #[arg(long)]
    all: bool,

    /// Go on with what is there although the keyring lost keys
    #[arg(long)]
    accept_lost_keys: bool,

    /// Say what would be destroyed, and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let Installation { config, vault, keyring } = Installation::open(edge, Role::Eraser).await?;
    refuse_lost_keys(args.accept_lost_keys, &vault, &keyring).await?;
    let prune = Prune {
        change: Change {
            vault: &vault,
            keyring: &keyring,
            removers: &open_removers(&config).await,
            signer: &read_signing_key(&config, "eraser")?,
            role: "eraser",
            clock: &chrono::Utc::now,
            progress: &*edge.progress(),
            cancel: &edge.stop,
            dry_run: args.dry_run,
        },
        locks: &FleetLocks { clusters: &clusters::fleet(&config)?, installation: vault.root().installation },
    };
    let report = prune.run(&which(args.tenants, args.all)).await?;
    edge.output.report("keys prune", &report, text)?;
    complain(edge, report.results.iter().filter_map(|result| result.error.as_ref()).chain(&report.errors));
    Ok(Ended { worst: report.class })
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
