//! `tenure keys`.

mod change;
mod prune;
mod rewrap;
mod rotate;

use std::path::PathBuf;

use super::{
    edge::{Edge, Ended},
    installation::{Installation, open_vault, read_identity, read_signing_key},
    table::{count, table, time},
};
use crate::{
    config::store::Role,
    format::act::ActCommand,
    operation::{
        failure::{Failure, FailureClass},
        keys::{
            KeyProblem, KeysCheckReport, KeysReport, check, list,
            repair::{Repair, RepairReport},
        },
        refused,
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
    /// Make new keys: the next backup is a full one, sealed with it; older ones stay readable with theirs
    Rotate(rotate::Args),
    /// Wrap keys to the recovery recipients of now, and remove what they were wrapped to before
    Rewrap(rewrap::Args),
    /// Destroy keys that were superseded and that no backup is sealed with any more
    Prune(prune::Args),
    /// Put back what the keyring or a mirror lost, from whichever has it whole
    Repair {
        /// Say what would be put back, and write nothing
        #[arg(long)]
        dry_run: bool,
    },
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    match args.action {
        Action::Rotate(args) => rotate::run(args, edge).await,
        Action::Rewrap(args) => rewrap::run(args, edge).await,
        Action::Prune(args) => prune::run(args, edge).await,
        look => edge.until_stopped(look_or_repair(look, edge)).await,
    }
}

async fn look_or_repair(action: Action, edge: &Edge) -> Result<Ended, Failure> {
    match action {
        Action::List => {
            let Installation { vault, keyring, .. } = Installation::open(edge, Role::Restorer).await?;
            let report = list(&vault, &keyring).await?;
            edge.output.report("keys list", &report, list_text)?;
            Ok(Ended { worst: (!report.problems.is_empty()).then_some(FailureClass::Integrity) })
        }
        Action::Check { identity } => {
            let identity = identity.as_deref().map(read_identity).transpose()?;
            let Installation { vault, keyring, .. } = Installation::open(edge, Role::Restorer).await?;
            let report = check(&vault, &keyring, identity.as_ref(), edge.now(), &*edge.progress()).await?;
            edge.output.report("keys check", &report, check_text)?;
            Ok(Ended { worst: report.class() })
        }
        Action::Repair { dry_run } => {
            let (config, vault, keyring, mirrors) = open_vault(edge, Role::Operator).await?;
            // A disaster is no time to look for a key that nobody must sign with.
            let operator = read_signing_key(&config, "operator").ok();
            let approvals = config.approvals.needed("keys");
            let repair = Repair { vault: &vault, keyring, mirrors, dry_run, approvals, operator: operator.as_ref() };
            let outcome = repair.run(edge.now()).await;
            let report = refused::noted(&vault, ActCommand::KeysRepair, &[], operator.as_ref(), edge.now(), outcome).await?;
            edge.output.report("keys repair", &report, repair_text)?;
            Ok(Ended { worst: report.class() })
        }
        Action::Rotate(args) => rotate::run(args, edge).await,
        Action::Rewrap(args) => rewrap::run(args, edge).await,
        Action::Prune(args) => prune::run(args, edge).await,
    }
}

fn list_text(report: &KeysReport) -> String {
    if report.keys.is_empty() && report.problems.is_empty() {
        return "no keys yet: a tenant's first backup makes its key\n".to_owned();
    }
    let rows = report.keys.iter().map(|key| {
        let state = match (key.seals, key.secret_half) {
            _ if key.purged => "was to be destroyed",
            (true, _) => "seals",
            (false, true) => "opens older backups",
            (false, false) => "its secret half is missing",
        };
        [
            Printable(&key.tenant).to_string(),
            key.key_id.clone(),
            key.sequence.to_string(),
            key.wrapping.map(|wrapping| wrapping.to_string()).unwrap_or_default(),
            time(key.created_at),
            state.to_owned(),
        ]
    });
    let problems = report.problems.iter().map(|problem| format!("problem: {problem}\n"));
    table(["TENANT", "KEY", "SEQUENCE", "WRAPPING", "MADE", "STATE"], &[2, 3], rows) + &problems.collect::<String>()
}

fn check_text(report: &KeysCheckReport) -> String {
    let mut text = String::new();
    problems_text(&report.problems, &mut text);
    for leftover in &report.leftovers {
        text.push_str(&format!("leftover, harmless: {leftover}\n"));
    }
    superseded_text(&report.superseded, &mut text);
    for key in &report.prunable {
        text.push_str(&format!("not needed: {}: no backup is sealed with it; `tenure keys prune` destroys it\n", Printable(key)));
    }
    for place in &report.not_looked_at {
        text.push_str(&format!("not looked at: {place}: these credentials may not read it\n"));
    }
    for mirror in &report.not_reached {
        text.push_str(&format!("not reached: {mirror}\n"));
    }
    let opened = if report.opened { "each opened with the identity" } else { "none opened: give --identity for that" };
    text.push_str(&format!("checked {} in {} ({opened})\n", count(report.keys, "key"), report.stores.join(", ")));
    text.push_str(&match report.problems.len() {
        0 if !report.not_reached.is_empty() => "all good as far as was looked\n".to_owned(),
        0 => "all good\n".to_owned(),
        n => format!("{}\n", count(n as u64, "problem")),
    });
    text
}

fn repair_text(report: &RepairReport) -> String {
    let mut text = String::new();
    for put in &report.put_back {
        let did = if report.dry_run { "would put back" } else { "put back" };
        text.push_str(&format!("{did}: {} from {}\n", put.object, put.from));
    }
    problems_text(&report.problems, &mut text);
    for object in &report.left_alone {
        text.push_str(&format!("left alone: {object}: its tenant was erased or purged, or the key destroyed\n"));
    }
    superseded_text(&report.superseded, &mut text);
    for leftover in &report.leftovers {
        text.push_str(&format!("leftover, harmless: {leftover}\n"));
    }
    for mirror in &report.not_reached {
        text.push_str(&format!("not reached: {mirror}\n"));
    }
    text.push_str(&format!("compared {}\n", report.stores.join(", ")));
    let put_back = count(report.put_back.len() as u64, "object");
    text.push_str(&match (report.put_back.len(), report.dry_run, report.problems.len()) {
        (0, _, 0) if !report.not_reached.is_empty() => "all good as far as was looked\n".to_owned(),
        (0, _, 0) => "all good\n".to_owned(),
        (_, true, 0) => format!("{put_back} would be put back\n"),
        (_, false, 0) => format!("{put_back} put back\n"),
        (_, true, n) => format!("{put_back} would be put back, {}\n", count(n as u64, "problem")),
        (_, false, n) => format!("{put_back} put back, {}\n", count(n as u64, "problem")),
    });
    text
}

fn superseded_text(superseded: &[String], text: &mut String) {
    for object in superseded {
        text.push_str(&format!("superseded: {object}: a newer wrapping counts; `tenure keys rewrap` removes this one\n"));
    }
}

fn problems_text(problems: &[KeyProblem], text: &mut String) {
    for problem in problems {
        let tenant = problem.tenant.as_deref().map_or("unknown tenant".to_owned(), |tenant| Printable(tenant).to_string());
        text.push_str(&format!("bad: {tenant}: {}: {}\n", problem.object, problem.problem));
    }
}
