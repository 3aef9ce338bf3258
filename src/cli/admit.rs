//! `tenure admit`.

use super::{
    clusters,
    edge::{Edge, Ended},
    installation::{Installation, read_signing_key},
    leaving,
    table::table,
};
use crate::{
    config::store::Role,
    format::act::ActCommand,
    id::NameTag,
    operation::{
        admit::{Admit, AdmitReport, Which},
        failure::{Failure, FailureClass},
        newcomer::{AdmitNew, AdmittedNew},
        refused,
    },
    printable::Printable,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Tenants whose database is another one now, and rightly so
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    tenants: Vec<TenantName>,

    /// Admit the database that each tenant is found in now as its source
    #[arg(long, required_unless_present = "new")]
    source: bool,

    /// The names answer to tombstones, and are new customers' now; what was erased stays erased
    #[arg(long, conflicts_with_all = ["source", "all"])]
    new: bool,

    /// Every known tenant that is found on --cluster
    #[arg(long, requires = "cluster")]
    all: bool,

    /// The cluster, with --all
    #[arg(long, value_name = "NAME", requires = "all")]
    cluster: Option<String>,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    if args.new {
        return new(&args.tenants, edge).await;
    }
    // A plan is an operator's to write.
    let role = if edge.config()?.approvals.needed("admit") > 0 { Role::Operator } else { Role::Writer };
    let installation = Installation::open(edge, role).await?;
    let Installation { config, vault, keyring } = &installation;
    let admit = Admit {
        vault,
        keyring,
        clusters: &clusters::fleet(config)?,
        signer: &read_signing_key(config, "operator")?,
        approvals: config.approvals.needed("admit"),
    };
    let which = match args.cluster {
        Some(cluster) => Which::Cluster(clusters::named(config, cluster)?),
        None => Which::Named(args.tenants.clone()),
    };
    let about: Vec<NameTag> = args.tenants.iter().map(|tenant| keyring.tag(tenant)).collect();
    let outcome = admit.run(&which, edge.now()).await;
    let report = refused::noted(vault, ActCommand::Admit, &about, Some(admit.signer), edge.now(), outcome).await?;
    edge.output.report("admit", &report, text)?;
    Ok(Ended::default())
}

async fn new(tenants: &[TenantName], edge: &Edge) -> Result<Ended, Failure> {
    let Installation { config, vault, keyring } = &Installation::open(edge, Role::Eraser).await?;
    let admit = AdmitNew {
        vault,
        keyring,
        clusters: &clusters::fleet(config)?,
        operator: &read_signing_key(config, "operator")?,
        eraser: &read_signing_key(config, "eraser")?,
        approvals: config.approvals.needed("admit"),
    };
    let mut report = AdmitReport::default();
    for tenant in tenants {
        let outcome = admit.run(tenant, edge.now()).await;
        let about = [keyring.tag(tenant)];
        report.new.push(refused::noted(vault, ActCommand::Admit, &about, Some(admit.eraser), edge.now(), outcome).await?);
    }
    edge.output.report("admit", &report, |report| {
        let line = |new: &AdmittedNew| {
            let where_it_is = new
                .database
                .as_ref()
                .map_or_else(|| "no database answers to it yet".to_owned(), |database| format!("database {database}"));
            format!(
                "{}: a new customer's now ({where_it_is}): the next `tenure backup` takes it in\n{}",
                Printable(&new.tenant),
                leaving::open(&new.open)
            )
        };
        report.new.iter().map(line).collect()
    })?;
    let is_open = report.new.iter().any(|new| !new.open.is_empty());
    Ok(Ended { worst: is_open.then_some(FailureClass::SomeTenants) })
}

fn text(report: &AdmitReport) -> String {
    if report.admitted.is_empty() {
        return "no known tenant was found there\n".to_owned();
    }
    let rows = report.admitted.iter().map(|admitted| {
        [
            Printable(&admitted.tenant).to_string(),
            admitted.cluster.clone(),
            Printable(&admitted.database).to_string(),
            admitted.database_oid.to_string(),
            if admitted.changed { "admitted" } else { "was right already" }.to_owned(),
        ]
    });
    let mut text = table(["TENANT", "CLUSTER", "DATABASE", "OID", "SOURCE"], &[3], rows);
    for admitted in &report.admitted {
        for note in &admitted.notes {
            text.push_str(&format!("note: {}: {note}\n", Printable(&admitted.tenant)));
        }
    }
    text
}
