//! `tenure list`.

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    edge::{Edge, Ended},
    installation::Installation,
    table::{count, size, table, time},
};
use crate::{
    config::store::Role,
    operation::{
        failure::Failure,
        list::{ListReport, Listed, list},
    },
    printable::Printable,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The tenant; without one, every tenant that the keyring knows
    tenant: Option<TenantName>,
}

/// `tenure list` without a tenant.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ListAllReport {
    /// Every tenant that the keyring knows, by name.
    pub tenants: Vec<ListReport>,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let installation = Installation::open(edge, Role::Restorer).await?;
    let now = edge.now();
    let one = async |tenant: &TenantName| {
        let database = installation.database_of(tenant).await?;
        list(&installation.vault, &installation.keyring, tenant, database.as_deref(), now).await
    };
    if let Some(tenant) = &args.tenant {
        edge.output.report("list", &one(tenant).await?, text)?;
        return Ok(Ended::default());
    }
    let mut report = ListAllReport { tenants: Vec::new() };
    for tenant in installation.keyring.census().await?.tenants.keys() {
        report.tenants.push(one(tenant).await?);
    }
    edge.output.report("list", &report, |report| match &report.tenants[..] {
        [] => "no tenant is known yet: `tenure backup --all` makes a first backup\n".to_owned(),
        tenants => tenants.iter().map(text).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(Ended::default())
}

fn text(report: &ListReport) -> String {
    let tenant = Printable(&report.tenant);
    let mut text = format!("{tenant}: {}\n", count(report.backups.len() as u64, "backup"));
    if !report.backups.is_empty() {
        let header = ["BACKUP", "TAKEN", "EXPIRES", "SERVER", "READ", "STORED", "STATE"];
        text.push_str(&table(header, &[4, 5], report.backups.iter().map(row)));
    }
    for problem in &report.problems {
        text.push_str(&format!("problem: {problem}\n"));
    }
    text
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
