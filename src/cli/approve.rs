//! `tenure approve`.

mod sign;

use std::path::PathBuf;

use super::{
    edge::{Edge, Ended},
    installation::{Installation, open_vault},
};
use crate::{
    config::store::Role,
    operation::{
        failure::{Failure, FailureClass},
        plans::approve::{ApproveReport, Whom, look, put},
    },
    printable::Printable,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("whom").args(["tenant", "all"]).required(true))]
pub struct Args {
    /// The plan: its id, or a unique beginning of it
    plan: String,

    /// Whom the plan is about, as you know it otherwise than from the plan
    #[arg(long, value_name = "NAME")]
    tenant: Option<TenantName>,

    /// The plan is about every tenant
    #[arg(long)]
    all: bool,

    /// Your private key; or its public half, where an SSH agent has the private one [default: the agent's only key that may sign plans]
    #[arg(long, value_name = "FILE", conflicts_with = "signature")]
    key: Option<PathBuf>,

    /// A signature that was made elsewhere with `ssh-keygen -Y sign -n tenure-plan`
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let (config, vault, whom) = match args.tenant {
        Some(tenant) => {
            let Installation { config, vault, keyring } = Installation::open(edge, Role::Operator).await?;
            (config, vault, Whom::Tenant(tenant, Box::new(keyring)))
        }
        None => {
            // What everybody's plan is about may be a keyring that is lost.
            let (config, vault, ..) = open_vault(edge, Role::Operator).await?;
            (config, vault, Whom::All)
        }
    };
    let now = edge.now();
    let to = look(&vault, &args.plan, whom, now).await?;
    edge.output.announce(&format!("{}\n", to.lines.join("\n  ")));
    let signature = match args.signature {
        Some(file) => std::fs::read(&file).map_err(|error| {
            let message = format!("cannot read {}", file.display());
            Failure::new(FailureClass::Usage, "unreadable-file", "--signature", message)
                .hint("It is what `ssh-keygen -Y sign` writes beside the plan: plan.json.sig.")
                .because(error)
        })?,
        None => sign::sign(args.key.as_deref(), &vault, &to.bytes, now).await?,
    };
    let report = put(&vault, &to, signature, config.approvals.needed(to.plan.act.verb()), now).await?;
    edge.output.report("approve", &report, text)?;
    Ok(Ended::default())
}

fn text(report: &ApproveReport) -> String {
    let did = if report.already { "had approved" } else { "approved" };
    let mut text = format!("{} {did} plan {}\n", Printable(&report.principal), report.plan);
    text.push_str(&match report.signatures >= report.needed {
        true => "it has all the signatures that it needs: the command that made it goes on with it\n".to_owned(),
        false => format!("it has {} of {} signatures\n", report.signatures, report.needed),
    });
    text
}
