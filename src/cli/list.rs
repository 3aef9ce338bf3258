//! `tenure list`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    edge::{Edge, Ended},
    installation::{Installation, read_identity},
    table::{count, size, table, time},
};
use crate::{
    config::store::Role,
    operation::{
        failure::{Failure, FailureClass},
        hold::HeldBy,
        list::{ListReport, Listed, list},
        lost::problems,
    },
    printable::Printable,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tenant; without one, every tenant that the keyring knows
    tenant: Option<TenantName>,

    /// Recovery kit or age identity file; shows why the tenant is on hold
    #[arg(long, value_name = "FILE", requires = "tenant")]
    identity: Option<PathBuf>,
}

/// `tenure list` without a tenant.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ListAllReport {
    /// Every tenant that the keyring knows, by name.
    pub tenants: Vec<ListReport>,
    /// What vault or keyring lost, so that tenants may be missing here.
    pub problems: Vec<String>,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let identity = args.identity.as_deref().map(read_identity).transpose()?;
    let installation = Installation::open(edge, Role::Restorer).await?;
    let now = edge.now();
    let one = async |tenant: &TenantName| {
        let database = installation.database_of(tenant).await?;
        list(&installation.vault, &installation.keyring, tenant, database.as_deref(), identity.as_ref(), now).await
    };
    if let Some(tenant) = &args.tenant {
        let mut report = one(tenant).await?;
        let lost = installation.lost_keys(edge, &mut report.problems).await?;
        edge.output.report("list", &report, text)?;
        lost.iter().for_each(|lost| edge.output.remark(lost));
        return Ok(Ended { worst: report.class.or(lost.map(|lost| lost.class)) });
    }
    let census = installation.keyring.census().await?;
    let mut report =
        ListAllReport { tenants: Vec::new(), problems: problems(&installation.vault, &installation.keyring, &census).await? };
    let mut worst = (!report.problems.is_empty()).then_some(FailureClass::Integrity);
    for tenant in census.tenants.keys() {
        match one(tenant).await {
            Ok(listed) => {
                worst = worst.or(listed.class);
                report.tenants.push(listed);
            }
            Err(failure) if failure.class == FailureClass::Integrity => {
                worst = Some(FailureClass::Integrity);
                report.problems.push(format!("{} ({})", failure.one_line(), failure.hint));
            }
            // Purged while this runs, or not to the end.
            Err(failure) if failure.class == FailureClass::Refused => {
                worst = worst.or(Some(FailureClass::Refused));
                report.problems.push(format!("{} ({})", failure.one_line(), failure.hint));
            }
            Err(failure) => return Err(failure),
        }
    }
    edge.output.report("list", &report, |report| match &report.tenants[..] {
        [] if report.problems.is_empty() => "no tenant is known yet: `tenure backup --all` makes a first backup\n".to_owned(),
        tenants => {
            let problems = report.problems.iter().map(|problem| format!("problem: {problem}\n"));
            tenants.iter().map(text).chain(problems).collect::<Vec<_>>().join("\n")
        }
    })?;
    Ok(Ended { worst })
}

fn text(report: &ListReport) -> String {
    let tenant = Printable(&report.tenant);
    let mut text = format!("{tenant}: {}\n", count(report.backups.len() as u64, "backup"));
    if !report.backups.is_empty() {
        let header = ["BACKUP", "TAKEN", "EXPIRES", "SERVER", "READ", "STORED", "STATE"];
        text.push_str(&table(header, &[4, 5], report.backups.iter().map(row)));
    }
    for backup in report.backups.iter().filter(|backup| backup.not_captured > 0) {
        text.push_str(&format!(
            "not complete: {} could not be captured in {}; `tenure show {tenant} {} --identity FILE` names what and why\n",
            count(backup.not_captured, "thing"),
            backup.id,
            backup.id
        ));
    }
    for held in &report.holds {
        text.push_str(&format!("on hold {}\n", on_hold(held)));
    }
    for purged in &report.purged {
        text.push_str(&format!("purged, and still or again stored: {purged}; `tenure expire` removes it\n"));
    }
    for problem in &report.problems {
        text.push_str(&format!("problem: {problem}\n"));
    }
    text
}

/// A hold in words: since when, which, by whom and why.
pub(super) fn on_hold(held: &HeldBy) -> String {
    let reason = held
        .reason
        .as_deref()
        .map_or("its reason is sealed, `--identity FILE` shows it".to_owned(), |reason| Printable(reason).to_string());
    format!("since {}, {}, by {}: {reason}", time(held.placed_at), held.hold, Printable(&held.placed_by))
}

fn row(backup: &Listed) -> [String; 7] {
    [
        backup.id.clone(),
        backup.taken_at.map(time).unwrap_or_default(),
        backup.expires_at.map(|at| at.format("%Y-%m-%d").to_string()).unwrap_or_default(),
        backup.server_version.clone().unwrap_or_default(),
        size(backup.bytes_read),
        size(backup.bytes_stored),
        backup.state.as_str().to_owned(),
    ]
}
