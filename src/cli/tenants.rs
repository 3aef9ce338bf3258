//! `tenure tenants`.

use super::{
    clusters,
    edge::{Edge, Ended},
    installation::Installation,
    table::{age, count, size, table, time},
};
use crate::{
    config::store::Role,
    operation::{
        failure::Failure,
        tenants::{Tenant, Tenants, TenantsReport},
    },
    printable::Printable,
};

pub(super) async fn run(edge: &Edge) -> Result<Ended, Failure> {
    let installation = Installation::open(edge, Role::Restorer).await?;
    let Installation { config, vault, keyring } = &installation;
    let clusters = clusters::fleet(config)?;
    let late_after = |tenant: &_| config.policy(tenant).late_after.get();
    let tenants = Tenants { vault, keyring, clusters: &clusters, late_after: &late_after };
    let report = tenants.run(edge.now()).await?;
    edge.output.report("tenants", &report, text)?;
    Ok(Ended { worst: report.class })
}

fn until(tenant: &Tenant) -> String {
    tenant.suspended_until.map(|until| format!(" until {}", time(until))).unwrap_or_default()
}

fn text(report: &TenantsReport) -> String {
    let mut text = String::new();
    if report.tenants.is_empty() {
        text.push_str("no tenant was found\n");
    } else {
        let print = |name: &Option<String>| name.as_deref().map(|name| Printable(name).to_string()).unwrap_or_default();
        let rows = report.tenants.iter().map(|tenant| {
            [
                Printable(&tenant.tenant).to_string(),
                print(&tenant.cluster),
                print(&tenant.database),
                format!("{}{}{}", tenant.state.as_str(), until(tenant), if tenant.on_hold { ", on hold" } else { "" }),
                tenant.age_seconds.map(age).unwrap_or_default(),
                tenant.backups.to_string(),
                size(tenant.bytes_stored),
            ]
        });
        let header = ["TENANT", "CLUSTER", "DATABASE", "STATE", "NEWEST", "BACKUPS", "STORED"];
        text.push_str(&table(header, &[5, 6], rows));
    }
    text.push_str(&count(report.tenants.len() as u64, "tenant"));
    text.push('\n');
    if !report.unassigned.is_empty() {
        text.push_str(&format!("no rule covers: {}\n", report.unassigned.join(", ")));
    }
    for problem in &report.problems {
        text.push_str(&format!("problem: {problem}\n"));
    }
    text
}
