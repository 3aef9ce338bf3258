//! `tenure audit`.

use chrono::{DateTime, Utc};

use super::{
    edge::{Edge, Ended},
    installation::Installation,
    table::{count, time},
    zoned_time::exact_time,
};
use crate::{
    config::store::Role,
    operation::{
        audit::{Audit, AuditReport},
        failure::{Failure, FailureClass},
    },
    printable::Printable,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only from this time on, with its zone
    #[arg(long, value_name = "TIME", value_parser = exact_time)]
    since: Option<DateTime<Utc>>,

    /// Only what is about this tenant, whether it is still known or not
    #[arg(long, value_name = "NAME")]
    tenant: Option<TenantName>,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let Installation { vault, keyring, .. } = &Installation::open(edge, Role::Restorer).await?;
    let report = Audit { vault, keyring, since: args.since, tenant: args.tenant.as_ref() }.run().await?;
    edge.output.report("audit", &report, text)?;
    Ok(Ended { worst: (report.bad > 0).then_some(FailureClass::Integrity) })
}

fn text(report: &AuditReport) -> String {
    let mut text = String::new();
    for entry in &report.entries {
        if let Some(problem) = &entry.problem {
            text.push_str(&format!("bad: {} {}: {problem}\n", time(entry.at), entry.object));
            continue;
        }
        let whose: Vec<String> = match entry.tenants.is_empty() {
            false => entry.tenants.iter().map(|tenant| Printable(tenant).to_string()).collect(),
            true => entry.name_tags.clone(),
        };
        let mut line = format!("{} {} {}", time(entry.at), entry.kind, entry.what);
        line.push_str(&entry.outcome.as_ref().map(|outcome| format!(" {outcome}")).unwrap_or_default());
        line.push_str(&entry.reason.as_ref().map(|reason| format!(" ({})", Printable(reason))).unwrap_or_default());
        if !whose.is_empty() {
            line.push_str(&format!(" of {}", whose.join(", ")));
        }
        line.push_str(&entry.plan.as_ref().map(|plan| format!(" by plan {plan}")).unwrap_or_default());
        let principal = Printable(entry.principal.as_deref().unwrap_or_default()).to_string();
        text.push_str(&format!("{line}, signed by {principal} ({})\n", entry.fingerprint.as_deref().unwrap_or_default()));
    }
    for leftover in &report.leftovers {
        text.push_str(&format!("only a signature: {leftover}\n"));
    }
    let entries = count(report.entries.len() as u64, "record");
    text.push_str(&match report.bad {
        0 => format!("{entries}, every signature is good\n"),
        bad => format!("{entries}, {bad} of them not to be trusted\n"),
    });
    text
}
