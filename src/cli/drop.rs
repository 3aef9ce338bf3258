//! `tenure drop`.

use clap::ValueEnum;

use super::{
    clusters, confirm,
    edge::{Edge, Ended},
    installation::{Installation, read_signing_key},
    leaving,
    table::{count, size, time},
};
use crate::{
    config::store::Role,
    format::act::ActCommand,
    id::RecordId,
    operation::{
        drop::{DropReport, DropStatus, DropTenant, Intent},
        failure::{Failure, FailureClass},
        held::FleetLocks,
        refused,
    },
    postgres::drop_database::Kind,
    printable::{Printable, Word},
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose live database
    tenant: TenantName,

    /// Carry out this plan, which `reconcile` made for an erased database that has come back
    #[arg(long, value_name = "ID")]
    plan: Option<RecordId>,

    /// Clear away what is in the way, instead of stopping there
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    clear: Vec<Obstacles>,

    /// What may stay: a receiver of the server's log that keeps no database, like pg_receivewal, by its application name or its slot; a copy
    /// that a restore made, by its database
    #[arg(long, value_name = "NAME")]
    accept: Vec<String>,

    /// The tenant's name once more; without it a person at a terminal is asked
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// What may be in the way of a drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Obstacles {
    /// Roll back prepared transactions
    Prepared,
    /// End who reads logical slots
    Slots,
    /// End subscriptions; the slot on the other side stays, and is named
    Subscriptions,
    /// Take the mark of a template off
    Template,
}

impl Obstacles {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Prepared => Kind::Prepared,
            Self::Slots => Kind::Slots,
            Self::Subscriptions => Kind::Subscriptions,
            Self::Template => Kind::Template,
        }
    }
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let installation = Installation::open(edge, Role::Eraser).await?;
    let Installation { config, vault, keyring } = &installation;
    let (tenant, progress) = (&args.tenant, edge.progress());
    let clusters = clusters::fleet(config)?;
    let drop = DropTenant {
        vault,
        keyring,
        clusters: &clusters,
        servers: &clusters::servers(config)?,
        locks: &FleetLocks { clusters: &clusters, installation: vault.root().installation },
        operator: &read_signing_key(config, "operator")?,
        eraser: &read_signing_key(config, "eraser")?,
        approvals: config.approvals.needed("drop"),
        within_erasure: false,
        clear: args.clear.iter().map(|obstacles| obstacles.kind()).collect(),
        accept: args.accept.clone(),
        clock: &chrono::Utc::now,
        progress: &*progress,
        cancel: &edge.stop,
        known: Default::default(),
    };
    let (about, now) = ([keyring.tag(tenant)], edge.now());
    let outcome = go(&args, edge, &drop).await;
    let signer = Some(drop.eraser).filter(|_| !args.dry_run);
    let report = refused::noted(vault, ActCommand::Drop, &about, signer, now, outcome).await?;
    edge.output.report("drop", &report, text)?;
    Ok(Ended { worst: (!report.open.is_empty()).then_some(FailureClass::SomeTenants) })
}

async fn go(args: &Args, edge: &Edge, drop: &DropTenant<'_>) -> Result<DropReport, Failure> {
    let tenant = &args.tenant;
    let found = match args.plan {
        Some(plan) => drop.look_at_plan(tenant, plan).await?,
        None => drop.look(tenant).await?,
    };
    let Some(intent) = found else { return Ok(DropTenant::nothing(tenant)) };
    edge.output.announce(&format!("{}\n", first_line(&intent)));
    if args.dry_run {
        return drop.describe(tenant, &intent).await;
    }
    for note in intent.notes(&drop.clear) {
        edge.output.announce(&format!("note: {note}\n"));
    }
    let mut options = args.plan.map_or_else(String::new, |plan| format!(" --plan {plan}"));
    options.push_str(&clear_words(&args.clear, &args.accept));
    confirm::tenant(edge, tenant, args.confirm.as_deref(), ("drop", &options))?;
    drop.carry_out(tenant, &intent).await
}

/// What of the command line is about things in the way, as it is typed.
pub(super) fn clear_words(clear: &[Obstacles], accept: &[String]) -> String {
    let kinds: Vec<String> = clear.iter().filter_map(|kind| Some(kind.to_possible_value()?.get_name().to_owned())).collect();
    let mut words = if kinds.is_empty() { String::new() } else { format!(" --clear {}", kinds.join(",")) };
    accept.iter().for_each(|name| words.push_str(&format!(" --accept {}", Word(name))));
    words
}

fn first_line(intent: &Intent) -> String {
    let cluster = intent.plan.databases.first().map_or("", |database| database.cluster.as_str());
    let what = match &intent.doomed {
        Some(doomed) => {
            let about: Vec<String> = doomed.bytes.map(size).into_iter().chain([count(doomed.sessions, "session")]).collect();
            let why = if intent.came_back() { "it was erased, and is there again" } else { "backups stay" };
            format!("the LIVE database {} on {cluster} ({}); {why}", Printable(&doomed.name), about.join(", "))
        }
        None => format!("the database is gone from the primary of {cluster}; its replicas are asked"),
    };
    match intent.is_resumed() {
        true => format!("drop: going on with what was begun at {}: {what}", time(intent.planned_at())),
        false => format!("drop: {what}"),
    }
}

fn text(report: &DropReport) -> String {
    let tenant = Printable(&report.tenant);
    if report.plan.is_none() && !report.dry_run {
        return format!("{tenant}: its database was dropped before; there is nothing to do\n");
    }
    let mut text = String::new();
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    if report.dry_run {
        text.push_str("nothing was done\n");
        return text;
    }
    text.push_str(&leaving::nodes(&report.nodes));
    text.push_str(&leaving::open(&report.open));
    let at = report.drop_lsn.as_deref().unwrap_or_default();
    text.push_str(&match report.status {
        DropStatus::Closed if report.came_back => {
            format!("{tenant}: what had come back is dropped, on the primary and every replica ({at})\n")
        }
        DropStatus::Closed => format!("{tenant}: dropped, on the primary and every replica ({at}); its backups stay\n"),
        DropStatus::Dropped => {
            format!("{tenant}: gone from the primary ({at}); NOT known to be gone everywhere: not closed yet\n")
        }
        DropStatus::Requested => format!("{tenant}: not dropped\n"),
    });
    text
}
