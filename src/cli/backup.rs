//! `tenure backup`.

use std::sync::Arc;

use super::{
    clusters,
    edge::{Edge, Ended},
    installation::{Installation, read_recipients, read_signing_key},
    table::{count, duration, size, table, tally},
};
use crate::{
    config::store::Role,
    operation::{
        backup::{BYTES_IN_FLIGHT, Backup, BackupReport, BackupResult, Outcome, Promise, Which},
        budget::Budget,
        failure::Failure,
    },
    printable::Printable,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tenants to back up
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    tenants: Vec<TenantName>,

    /// Every tenant that is found
    #[arg(long)]
    all: bool,

    /// Go on although tenants are missing, or none is found
    #[arg(long, requires = "all")]
    accept_missing: bool,

    /// Go on with those whose keys are there, although others' are lost
    #[arg(long)]
    accept_lost_keys: bool,

    /// Tenants, and readers, at once [default: limits.jobs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: Option<u32>,
}

/// A backup with the writer's credentials, ready to run. `jobs` instead of the configuration's, where it is said.
///
/// # Errors
/// A configuration that is wrong; vault or keyring out of reach.
pub async fn assemble(edge: &Edge, jobs: Option<u32>, accept_lost_keys: bool) -> Result<Backup, Failure> {
    let Installation { config, vault, keyring } = Installation::open(edge, Role::Writer).await?;
    let recipients = read_recipients(&config)?;
    Ok(Backup {
        signer: Arc::new(read_signing_key(&config, "worker")?),
        clusters: clusters::fleet(&config)?,
        tools: Arc::new(clusters::tools(&config)),
        jobs: jobs.unwrap_or(config.limits.jobs) as usize,
        lock_timeout: config.limits.lock_timeout.get(),
        yield_after: config.limits.yield_after.map(crate::config::duration::Span::get),
        max_snapshot_age: config.limits.max_snapshot_age.get(),
        promise: Arc::new(move |tenant| {
            let policy = config.policy(tenant);
            Promise { keep: policy.keep, exclude_data: policy.exclude_data }
        }),
        vault,
        keyring,
        recipients: Arc::new(recipients),
        budget: Budget::new(BYTES_IN_FLIGHT),
        room: edge.room(),
        clock: chrono::Utc::now,
        accept_lost_keys,
        progress: edge.progress(),
        cancel: edge.stop.clone(),
        version: concat!("tenure ", env!("CARGO_PKG_VERSION")).to_owned(),
    })
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let which = if args.all { Which::All { accept_missing: args.accept_missing } } else { Which::Named(args.tenants) };
    let backup = assemble(edge, args.jobs, args.accept_lost_keys).await?;
    let report = backup.run(&which).await?;
    let noted = !report.findings.is_empty() || report.results.iter().any(|result| !result.findings.is_empty());
    edge.output.outcome("backup", &report, report.class.is_none() && !noted, text)?;
    for result in &report.results {
        if let Some(error) = &result.error {
            edge.output.complain(&Printable(&result.tenant).to_string(), &error.message, &error.hint);
        }
    }
    for error in &report.errors {
        edge.output.complain(&Printable(&error.object).to_string(), &error.message, &error.hint);
    }
    Ok(Ended { worst: report.class })
}

fn text(report: &BackupReport) -> String {
    let rows = report.results.iter().map(|result| {
        let done = result.outcome == Outcome::Done;
        let when_done = |text: String| if done { text } else { String::new() };
        [
            Printable(&result.tenant).to_string(),
            result.word().to_owned(),
            result.backup.clone().unwrap_or_default(),
            when_done(size(result.bytes_read)),
            when_done(size(result.bytes_stored)),
            when_done(result.chunks_stored.to_string()),
            when_done(result.chunks_reused.to_string()),
            duration(result.duration_ms),
        ]
    });
    let mut text = String::new();
    if !report.results.is_empty() {
        let header = ["TENANT", "OUTCOME", "BACKUP", "READ", "STORED", "NEW", "RE-USED", "TIME"];
        text.push_str(&table(header, &[3, 4, 5, 6, 7], rows));
    }
    let outcomes = tally(report.results.iter().map(BackupResult::word));
    let (read, stored) = report.results.iter().fold((0, 0), |(r, s), one| (r + one.bytes_read, s + one.bytes_stored));
    text.push_str(&match &outcomes[..] {
        [] => "no tenant was backed up\n".to_owned(),
        outcomes => format!(
            "{}: {}; read {}, stored {}\n",
            count(report.results.len() as u64, "tenant"),
            outcomes.join(", "),
            size(read),
            size(stored)
        ),
    });
    for result in &report.results {
        for finding in &result.findings {
            text.push_str(&format!("note: {}: {finding}\n", Printable(&result.tenant)));
        }
    }
    for finding in &report.findings {
        text.push_str(&format!("note: {finding}\n"));
    }
    text
}
