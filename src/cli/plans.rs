//! `tenure plans`.

use super::{
    edge::{Edge, Ended},
    installation::{Installation, read_signing_key},
    table::{table, time},
};
use crate::{
    config::store::Role,
    operation::{
        failure::{Failure, FailureClass},
        plans::{
            cancel::{CancelReport, cancel},
            list::{PlanReport, PlanState, Plans, PlansReport},
        },
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
    /// List every plan, how many operators signed it, and how far it has come
    List,
    /// Show what a plan would do, who signed it, and how far it has come
    Show {
        /// Its id, or a unique beginning of it
        plan: String,

        /// Print the very bytes that are signed, for `ssh-keygen -Y sign -n tenure-plan`
        #[arg(long)]
        raw: bool,
    },
    /// Give up a plan that has not begun
    Cancel {
        /// Its id, or a unique beginning of it
        plan: String,
    },
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let Installation { config, vault, keyring } = &Installation::open(edge, Role::Operator).await?;
    let plans = Plans { vault, keyring: Some(keyring), needed: &|verb| config.approvals.needed(verb), now: edge.now() };
    let problems = match args.action {
        Action::List => {
            let report = plans.list().await?;
            edge.output.report("plans list", &report, list_text)?;
            report.problems
        }
        Action::Show { plan, raw: true } => {
            edge.output.raw(&plans.raw(&plan).await?)?;
            Vec::new()
        }
        Action::Show { plan, raw: false } => {
            let report = plans.show(&plan).await?;
            edge.output.report("plans show", &report, show_text)?;
            report.problems
        }
        Action::Cancel { plan } => {
            let report = cancel(vault, &plan, &read_signing_key(config, "operator")?, edge.now()).await?;
            edge.output.report("plans cancel", &report, cancel_text)?;
            Vec::new()
        }
    };
    Ok(Ended { worst: (!problems.is_empty()).then_some(FailureClass::Integrity) })
}

fn list_text(report: &PlansReport) -> String {
    let mut text = String::new();
    if report.plans.is_empty() {
        text.push_str("no plans\n");
    } else {
        let rows = report.plans.iter().map(|plan| {
            let whose = match (&plan.tenant, &plan.name_tag) {
                (Some(tenant), _) => Printable(tenant).to_string(),
                (None, Some(tag)) => tag.clone(),
                (None, None) => "every tenant".to_owned(),
            };
            let signatures = format!("{}/{}", plan.signatures, plan.needed);
            [plan.plan.clone(), plan.act.clone(), time(plan.created_at), signatures, plan.state.as_str().to_owned(), whose]
        });
        text.push_str(&table(["PLAN", "ACT", "MADE", "SIGNED", "STATE", "TENANT"], &[], rows));
    }
    text.push_str(&problems_text(&report.problems));
    text
}

fn show_text(report: &PlanReport) -> String {
    let plan = &report.plan;
    let mut text = format!("plan {}: {}\nmade {}", plan.plan, plan.what, time(plan.created_at));
    if matches!(plan.state, PlanState::Waiting | PlanState::Ready) && plan.needed > 0 {
        text.push_str(&format!(", to begin before {}", time(plan.begins_before)));
    }
    text.push_str(&format!("\nstate {}: signed by {} of {}\n", plan.state.as_str(), plan.signatures, plan.needed));
    for line in &report.details {
        text.push_str(&format!("  {line}\n"));
    }
    for signature in &report.signed {
        text.push_str(&format!(
            "signed: {} ({}) at {}\n",
            Printable(&signature.principal),
            signature.fingerprint,
            time(signature.at)
        ));
    }
    for why in &report.not_counted {
        text.push_str(&format!("not counted: {why}\n"));
    }
    for step in &report.steps {
        text.push_str(&format!("step: {} at {}\n", step.step, time(step.at)));
    }
    text.push_str(&format!("SHA-256 of what is signed: {}\n", report.sha256));
    text.push_str(&problems_text(&report.problems));
    text
}

fn cancel_text(report: &CancelReport) -> String {
    format!("plan {} is given up: nothing can be done by it\n", report.plan)
}

fn problems_text(problems: &[String]) -> String {
    problems.iter().map(|problem| format!("bad: {problem}\n")).collect()
}
