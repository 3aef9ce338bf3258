//! `tenure backup`.

use std::sync::Arc;

use chrono::Utc;

use super::{
    clusters,
    edge::{Edge, Ended},
    installation::{Installation, read_signing_key},
    table::{count, duration, size, table},
};
use crate::{
    config::store::Role,
    operation::{
        backup::{Backup, BackupReport, BackupResult, Budget, Promise, Which},
        failure::{Failure, FailureClass},
    },
    printable::Printable,
    seal::RecoveryRecipients,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tenants to back up
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    tenants: Vec<TenantName>,

    /// Every tenant that discovery finds
    #[arg(long)]
    all: bool,

    /// Go on although tenants are missing that were there before, or there is none at all
    #[arg(long, requires = "all")]
    accept_missing: bool,

    /// Tenants, and readers over all of them, at once [default: limits.jobs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: Option<u32>,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let installation = Installation::open(edge, Role::Writer).await?;
    let config = &installation.config;
    let recipients = RecoveryRecipients::parse(&config.keyring.recipients).map_err(|error| {
        Failure::new(FailureClass::Usage, "configuration", "keyring.recipients", "keyring.recipients cannot be used")
            .hint("List age recipients (`age1…`); the plugin of each must be installed.")
            .because(error)
    })?;
    let policies = config.clone();
    let backup = Backup {
        vault: installation.vault.clone(),
        keyring: installation.keyring.clone(),
        recipients: Arc::new(recipients),
        signer: Arc::new(read_signing_key(config, "worker")?),
        clusters: clusters::clusters(config)?,
        tools: Arc::new(clusters::tools(config)),
        jobs: args.jobs.unwrap_or(config.limits.jobs) as usize,
        lock_timeout: config.limits.lock_timeout.get(),
        promise: Arc::new(move |tenant| {
            let policy = policies.policy(tenant);
            Promise { keep: policy.keep, exclude_data: policy.exclude_data }
        }),
        budget: Budget::default(),
        clock: Utc::now,
        progress: edge.progress(),
        cancel: edge.stop.clone(),
        version: concat!("tenure ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let which = if args.all { Which::All { accept_missing: args.accept_missing } } else { Which::Named(args.tenants) };
    let report = backup.run(&which).await?;
    edge.output.report("backup", &report, text)?;
    Ok(Ended { worst: report.class })
}

fn text(report: &BackupReport) -> String {
    let rows = report.results.iter().map(|result| {
        [
            Printable(&result.tenant).to_string(),
            result.outcome.as_str().to_owned(),
            result.backup.clone().unwrap_or_else(|| "-".to_owned()),
            size(result.bytes_read),
            size(result.bytes_stored),
            format!("{}/{}", result.chunks_reused, result.chunks_reused + result.chunks_stored),
            duration(result.duration_ms),
        ]
    });
    let mut text = table(["TENANT", "OUTCOME", "BACKUP", "READ", "STORED", "RE-USED", "TIME"], &[3, 4, 5, 6], rows);
    for result in &report.results {
        text.push_str(&remarks(result));
    }
    for finding in &report.findings {
        text.push_str(&format!("note: {finding}\n"));
    }
    let done = report.results.iter().filter(|result| result.backup.is_some()).count() as u64;
    let others = report.results.len() as u64 - done;
    text.push_str(&count(done, "tenant"));
    text.push_str(" backed up");
    if others > 0 {
        text.push_str(&format!(", {others} not; what is listed stays restorable"));
    }
    text.push('\n');
    text
}

fn remarks(result: &BackupResult) -> String {
    let tenant = Printable(&result.tenant);
    let mut text = String::new();
    if let Some(error) = &result.error {
        text.push_str(&format!("{}: {tenant}: {}\n", result.outcome.as_str(), error.message));
        if !error.hint.is_empty() {
            text.push_str(&format!("  hint: {}\n", error.hint));
        }
    }
    for finding in &result.findings {
        text.push_str(&format!("note: {tenant}: {finding}\n"));
    }
    text
}
