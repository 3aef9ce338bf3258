//! `tenure restore`.

use std::path::PathBuf;

use chrono::{DateTime, Utc};

use super::{
    clusters,
    edge::{Edge, Ended},
    installation::{Installation, read_identity, read_signing_key},
    table::{count, duration, size, table, tally, time},
    zoned_time::zoned_time,
};
use crate::{
    config::{restore::is_allowance, store::Role},
    operation::{
        budget::Budget,
        failure::{Failure, FailureClass},
        restore::{BYTES_IN_FLIGHT, Report, Request, Restorer, Which, salvage::Salvage, tables::TableName},
        restore_all::{FleetReport, FleetRequest, Outcome},
    },
    printable::Printable,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("aside").args(["into", "table"]).multiple(true))]
pub struct Args {
    /// The tenant
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    tenant: Option<TenantName>,

    /// Every tenant that the keyring knows, onto servers that have nothing of it; what an earlier run restored is left as it is
    #[arg(long, conflicts_with_all = ["backup", "into", "replace", "keep_failed", "salvage", "table"])]
    all: bool,

    /// Recovery kit or age identity file
    #[arg(long, value_name = "FILE")]
    identity: PathBuf,

    /// The newest backup taken at or before this time, like 2026-11-21T03:00:00Z
    #[arg(long, value_name = "TIME", value_parser = zoned_time, conflicts_with = "backup")]
    at: Option<DateTime<Utc>>,

    /// This backup: its id, a unique beginning of it, or `latest`
    #[arg(long, value_name = "BACKUP")]
    backup: Option<String>,

    /// Name of the new database [default: the tenant's own]
    #[arg(long, value_name = "DATABASE")]
    into: Option<String>,

    /// Cluster to restore to [default: the tenant's own]
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,

    /// Put the live database aside under another name, and the restored one into its place
    #[arg(long)]
    replace: bool,

    /// Restore what runs with the server's rights: c-functions, extension:NAME, event-triggers, powerful-owners, subscriptions, superuser-code, all; may be given again
    #[arg(long, value_name = "WHAT", value_parser = allowance)]
    allow: Vec<String>,

    /// Take the newest good backup although a newer one is missing or not to be trusted
    #[arg(long)]
    accept_gap: bool,

    /// Go on although the keyring lost the keys of other tenants
    #[arg(long)]
    accept_lost_keys: bool,

    /// Leave a copy that could not be proven where it was built, instead of dropping it
    #[arg(long)]
    keep_failed: bool,

    /// Go on past what is missing or damaged in the backup, and say exactly which rows are absent; ends with exit code 5 where any are
    #[arg(long, requires = "aside", conflicts_with = "replace")]
    salvage: bool,

    /// Only this table, as an SQL identifier like public.orders or public."Odd.Name"; may be given again. Into a database that is there, by default the tenant's own, it comes as schema restored_<backup> beside what is in it; what is there is not touched
    #[arg(long, value_name = "TABLE", conflicts_with_all = ["replace", "keep_failed"])]
    table: Vec<TableName>,

    /// Connections that load at once; with --all, tenants at once [default: limits.jobs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: Option<u32>,
}

fn allowance(text: &str) -> Result<String, String> {
    match is_allowance(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected one of {}", crate::config::restore::ALLOWANCES)),
    }
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let identity = read_identity(&args.identity)?;
    let installation = Installation::open(edge, Role::Restorer).await?;
    let Installation { config, vault, keyring } = &installation;
    let mut allow = config.restore.allow.clone();
    allow.extend(args.allow);
    let which = match (args.at, args.backup) {
        (Some(time), _) => Which::At(time),
        (None, Some(backup)) => Which::Backup(backup),
        (None, None) => Which::Latest,
    };
    let cluster = args.cluster.map(|cluster| clusters::named(config, cluster)).transpose()?;
    let jobs = args.jobs.unwrap_or(config.limits.jobs) as usize;
    let restorer = Restorer {
        vault,
        keyring,
        clusters: &clusters::destinations(config)?,
        tools: &clusters::tools(config),
        signer: &read_signing_key(config, "restorer")?,
        jobs,
        budget: &Budget::new(BYTES_IN_FLIGHT),
        progress: &*edge.progress(),
        cancel: &edge.stop,
    };
    let Some(tenant) = args.tenant else {
        let request =
            FleetRequest { which, cluster, allow, accept_gap: args.accept_gap, accept_lost_keys: args.accept_lost_keys };
        let report = restorer.restore_all(&request, jobs, identity, edge.now()).await?;
        edge.output.report("restore", &report, fleet_text)?;
        for result in &report.results {
            if let Some(error) = &result.error {
                edge.output.complain(&Printable(&result.tenant).to_string(), &error.message, &error.hint);
            }
        }
        return Ok(Ended { worst: report.class });
    };
    let request = Request {
        tenant,
        which,
        into: args.into,
        cluster,
        replace: args.replace,
        allow,
        accept_gap: args.accept_gap,
        accept_lost_keys: args.accept_lost_keys,
        keep_failed: args.keep_failed,
        salvage: args.salvage,
        tables: args.table,
    };
    let report = restorer.restore(&request, identity, edge.now()).await?;
    edge.output.report("restore", &report, text)?;
    Ok(Ended { worst: (!report.proven).then_some(FailureClass::Integrity) })
}

fn fleet_text(report: &FleetReport) -> String {
    let rows = report.results.iter().map(|result| {
        let when_done = |text: String| if result.outcome == Outcome::Done { text } else { String::new() };
        [
            Printable(&result.tenant).to_string(),
            result.word().to_owned(),
            result.cluster.clone().unwrap_or_default(),
            result.database.as_deref().map(|name| Printable(name).to_string()).unwrap_or_default(),
            result.backup.clone().unwrap_or_default(),
            when_done(result.tables.to_string()),
            when_done(result.rows.to_string()),
            when_done(size(result.bytes)),
            duration(result.duration_ms),
        ]
    });
    let mut text = String::new();
    if !report.results.is_empty() {
        let header = ["TENANT", "OUTCOME", "CLUSTER", "DATABASE", "BACKUP", "TABLES", "ROWS", "READ", "TIME"];
        text.push_str(&table(header, &[5, 6, 7, 8], rows));
    }
    let outcomes = tally(report.results.iter().map(|result| match result.outcome {
        Outcome::Done => "restored and proven",
        Outcome::Already => "restored before",
        _ => result.word(),
    }));
    text.push_str(&format!(
        "{}: {}; {} in {}\n",
        count(report.results.len() as u64, "tenant"),
        if outcomes.is_empty() { "nothing to do".to_owned() } else { outcomes.join(", ") },
        size(report.results.iter().map(|result| result.bytes).sum()),
        duration(report.duration_ms)
    ));
    for result in &report.results {
        for note in &result.notes {
            text.push_str(&format!("note: {}: {note}\n", Printable(&result.tenant)));
        }
    }
    for finding in &report.findings {
        text.push_str(&format!("note: {finding}\n"));
    }
    text
}

fn text(report: &Report) -> String {
    let place = match &report.schema {
        Some(schema) => format!("schema {} in database {}", Printable(schema), Printable(&report.database)),
        None => format!("database {}", Printable(&report.database)),
    };
    let mut text = format!(
        "{} is {}restored as {place} on {}, from backup {} of {}\n",
        report.tenant,
        if report.proven { "" } else { "PARTLY " },
        report.cluster,
        report.backup,
        time(report.taken_at)
    );
    if let Some(salvage) = &report.salvage {
        text.push_str(&salvage_text(salvage, report.tables));
    }
    text.push_str(&format!(
        "{}: {} with {} ({}) read back, each equal to what was recorded when it was backed up\n",
        if report.proven { "proven" } else { "what is there is proven" },
        count(report.tables, "table"),
        count(report.rows, "row"),
        size(report.bytes)
    ));
    text.push_str(&format!("took {}, {} of it for the proof\n", duration(report.duration_ms), duration(report.proof_ms)));
    if let Some(aside) = &report.replaced_as {
        text.push_str(&format!("the database that was there is now {}: drop it when you are sure\n", Printable(aside)));
    }
    if !report.created_roles.is_empty() {
        let roles: Vec<String> = report.created_roles.iter().map(|role| Printable(role).to_string()).collect();
        text.push_str(&format!("roles made, without login: {}\n", roles.join(", ")));
    }
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}

/// What is absent, each on a line that can be searched for.
fn salvage_text(salvage: &Salvage, tables: u64) -> String {
    let mut text = String::new();
    for damaged in &salvage.damaged {
        text.push_str(&format!("damaged: {}: {}\n", Printable(&damaged.object), damaged.problem));
    }
    for absent in &salvage.absent {
        let to = absent.to_page.map_or_else(|| "the end".to_owned(), |to| (to - 1).to_string());
        let lost = absent.rows_lost.map_or_else(|| "an unknown number of rows".to_owned(), |rows| count(rows, "row"));
        let there = if absent.rows_restored > 0 {
            format!(", {} of it are there", count(absent.rows_restored, "row"))
        } else {
            String::new()
        };
        text.push_str(&format!("absent: table {}, pages {} to {to}: {lost}{there}\n", absent.table, absent.from_page));
    }
    for absent in &salvage.absent_large_objects {
        let run = |(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first} to {last}") };
        let oids: Vec<String> = absent.oids.iter().map(run).collect();
        text.push_str(&format!("absent: {}: {}\n", count(absent.count.into(), "large object"), oids.join(", ")));
    }
    for weakened in &salvage.weakened {
        let how = match weakened.state.as_str() {
            "not-valid" => "is there as NOT VALID: it holds for new rows only",
            "left-out" => "is left out: rows that it needs are absent",
            _ => "is not filled: rows that it needs are absent",
        };
        text.push_str(&format!("{} {} {how}\n", weakened.kind, weakened.object));
    }
    text.push_str(&match salvage.is_whole() {
        true => "nothing is absent\n".to_owned(),
        false => format!("{} of {} are whole\n", salvage.whole_tables, count(tables, "table")),
    });
    text
}
