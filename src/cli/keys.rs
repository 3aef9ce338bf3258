//! `tenure keys`.

use std::path::PathBuf;

use super::{
    edge::{Edge, Ended},
    installation::{Installation, read_identity},
    table::{count, table, time},
};
use crate::{
    config::store::Role,
    operation::{
        failure::{Failure, FailureClass},
        keys::{KeysCheckReport, KeysReport, check, list},
    },
    printable::Printable,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List every tenant's keys
    List,
    /// Look whether every backup still has its key, in the keyring and in every mirror
    Check {
        /// Recovery kit or age identity file; also opens every key
        #[arg(long, value_name = "FILE")]
        identity: Option<PathBuf>,
    },
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let identity = match &args.action {
        Action::Check { identity: Some(path) } => Some(read_identity(path)?),
        _ => None,
    };
    let Installation { vault, keyring, .. } = Installation::open(edge, Role::Restorer).await?;
    match args.action {
        Action::List => {
            edge.output.report("keys list", &list(&keyring).await?, list_text)?;
            Ok(Ended::default())
        }
        Action::Check { .. } => {
            let report = check(&vault, &keyring, identity.as_ref(), edge.now(), &*edge.progress()).await?;
            edge.output.report("keys check", &report, check_text)?;
            Ok(Ended { worst: (!report.problems.is_empty()).then_some(FailureClass::Integrity) })
        }
    }
}

fn list_text(report: &KeysReport) -> String {
    if report.keys.is_empty() {
        return "no keys yet: a tenant's first backup makes its key\n".to_owned();
    }
    let rows = report.keys.iter().map(|key| {
        let state = match (key.seals, key.secret_half) {
            (true, _) => "seals",
            (false, true) => "opens older backups",
            (false, false) => "its secret half is missing",
        };
        [Printable(&key.tenant).to_string(), key.key_id.clone(), key.sequence.to_string(), time(key.created_at), state.to_owned()]
    });
    table(["TENANT", "KEY", "SEQUENCE", "MADE", "STATE"], &[2], rows)
}

fn check_text(report: &KeysCheckReport) -> String {
    let mut text = String::new();
    for problem in &report.problems {
        let tenant = problem.tenant.as_deref().map_or("unknown tenant".to_owned(), |tenant| Printable(tenant).to_string());
        text.push_str(&format!("bad: {tenant}: {}: {}\n", problem.object, problem.problem));
    }
    for leftover in &report.leftovers {
        text.push_str(&format!("leftover, harmless: {leftover}\n"));
    }
    for place in &report.not_looked_at {
        text.push_str(&format!("not looked at: {place}: these credentials may not read it\n"));
    }
    let opened = if report.opened { "each opened with the identity" } else { "none opened: give --identity for that" };
    text.push_str(&format!("checked {} in {} ({opened})\n", count(report.keys, "key"), report.stores.join(", ")));
    text.push_str(&match report.problems.len() {
        0 => "all good\n".to_owned(),
        n => format!("{}\n", count(n as u64, "problem")),
    });
    text
}
