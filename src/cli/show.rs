//! `tenure show`.

use std::path::PathBuf;

use super::{
    edge::{Edge, Ended},
    installation::{Installation, read_identity},
    list::on_hold,
    table::{count, size, time},
};
use crate::{
    config::store::Role,
    operation::{
        failure::Failure,
        show::{Described, ShowReport, show},
    },
    printable::Printable,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tenant
    tenant: TenantName,

    /// The backup: its id, a unique beginning of it, or `latest`
    backup: String,

    /// Recovery kit or age identity file; shows what the backup holds by name
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let identity = args.identity.as_deref().map(read_identity).transpose()?;
    let installation = Installation::open(edge, Role::Restorer).await?;
    let Installation { vault, keyring, .. } = &installation;
    let database = installation.database_of(&args.tenant).await?;
    let mut report = show(vault, keyring, &args.tenant, &args.backup, database.as_deref(), identity.as_ref(), edge.now()).await?;
    let lost = installation.lost_keys(edge, &mut report.problems).await?;
    edge.output.report("show", &report, text)?;
    lost.iter().for_each(|lost| edge.output.remark(lost));
    Ok(Ended { worst: lost.map(|lost| lost.class) })
}

fn text(report: &ShowReport) -> String {
    let backup = &report.backup;
    let mut lines = vec![
        ("tenant", Printable(&report.tenant).to_string()),
        ("backup", backup.id.clone()),
        ("state", backup.state.as_str().to_owned()),
        ("taken", backup.taken_at.map(time).unwrap_or_default()),
        ("expires", format!("{} (kept {})", backup.expires_at.map(time).unwrap_or_default(), report.keep)),
        (
            "locked",
            report
                .locked_until
                .map_or_else(|| "no".to_owned(), |until| format!("until {} at least, when it was taken", time(until))),
        ),
        ("sequence", report.sequence.to_string()),
        ("previous", report.previous.clone().unwrap_or_else(|| "none: it is the first".to_owned())),
        (
            "server",
            format!(
                "PostgreSQL {}, system {}, database OID {}, at {}",
                backup.server_version.as_deref().unwrap_or("?"),
                report.system_identifier,
                report.database_oid,
                report.lsn
            ),
        ),
        ("read", format!("{} from {}, {}", size(backup.bytes_read), count(report.tables, "table"), count(report.rows, "row"))),
        ("stored", format!("{} in {}", size(backup.bytes_stored), count(report.chunks_stored, "new chunk"))),
        ("re-used", format!("{} in {}", size(report.bytes_reused), count(report.chunks_reused, "earlier chunk"))),
        ("not captured", backup.not_captured.to_string()),
        ("key", report.key_id.clone()),
        ("locker", report.locker.clone()),
        ("written by", report.written_by.clone()),
    ];
    for held in &report.holds {
        lines.push(("on hold", on_hold(held)));
    }
    match &report.description {
        Some(described) => lines.extend(describe(described)),
        None => lines.push(("names", "sealed; --identity FILE shows tables, roles and what was not captured".to_owned())),
    }
    lines.iter().map(|(what, value)| format!("{what:<14}{value}\n")).collect()
}

fn describe(described: &Described) -> Vec<(&'static str, String)> {
    let print = |text: &str| Printable(text).to_string();
    let mut lines = vec![(
        "database",
        format!(
            "{} on {}, owner {}, {}",
            print(&described.database),
            print(&described.cluster),
            print(&described.owner),
            described.encoding
        ),
    )];
    for (what, items) in [
        ("tables", &described.tables),
        ("sequences", &described.sequences),
        ("extensions", &described.extensions),
        ("roles", &described.roles),
        ("not captured", &described.not_captured),
        ("pg_dump said", &described.warnings),
    ] {
        for (n, item) in items.iter().enumerate() {
            lines.push((if n == 0 { what } else { "" }, print(item)));
        }
    }
    lines.push(("large objects", described.large_objects.to_string()));
    lines
}
