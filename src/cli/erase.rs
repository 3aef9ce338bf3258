//! `tenure erase`.

use std::{path::PathBuf, time::Instant};

use chrono::{TimeDelta, Utc};

use super::{
    clusters, confirm,
    drop::{Obstacles, clear_words},
    edge::{Edge, Ended},
    installation::{Installation, read_identity, read_signing_key},
    leaving,
    table::{count, size, time},
};
use crate::{
    config::store::Role,
    format::{act::ActCommand, certificate::GIVEN_UP},
    operation::{
        drop::DropTenant,
        erase::{Erase, EraseReport, EraseStatus, Intent, Live, Told},
        failure::{Failure, FailureClass},
        held::FleetLocks,
        purge::Purge,
        refused,
    },
    printable::{Printable, Word},
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Who is erased
    tenant: TenantName,

    /// Destroy at once instead of waiting for the grace to end
    #[arg(long, conflicts_with = "undo")]
    skip_grace: bool,

    /// Withdraw an erasure whose grace lasts
    #[arg(long)]
    undo: bool,

    /// Clear away what is in the way of dropping the database, instead of leaving it open
    #[arg(long, value_name = "KIND", value_delimiter = ',', conflicts_with = "undo")]
    clear: Vec<Obstacles>,

    /// A receiver of the server's log that keeps no database, like pg_receivewal: its application name or its slot
    #[arg(long, value_name = "NAME", conflicts_with = "undo")]
    accept: Vec<String>,

    /// The tenant's name once more; without it a person at a terminal is asked
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,

    /// Where the request is filed, in another system, like GDPR-2026/117: it stands in the certificate, so nobody's name and nothing personal
    #[arg(long, value_name = "TEXT", value_parser = reference, conflicts_with = "undo")]
    reference: Option<String>,

    /// Opens one chunk before the keys are destroyed, and the certificate says so: the recovery kit, or an age identity file
    #[arg(long, value_name = "FILE", conflicts_with = "undo")]
    identity: Option<PathBuf>,

    /// Say what would be done, and do nothing
    #[arg(long, conflicts_with = "undo")]
    dry_run: bool,
}

/// A number or a place in some register. Who fills in a sentence or an address would sign personal data for ever.
fn reference(text: &str) -> Result<String, String> {
    let known = |b: u8| b.is_ascii_alphanumeric() || b"-_./:#".contains(&b);
    match (1..=64).contains(&text.len()) && text.bytes().all(known) {
        true => Ok(text.to_owned()),
        false => Err("write 1 to 64 letters, digits and -_./:#, like GDPR-2026/117, and nothing personal: it is signed and kept"
            .to_owned()),
    }
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let Installation { config, vault, keyring } = &Installation::open(edge, Role::Eraser).await?;
    let started = Instant::now();
    let identity = args.identity.as_deref().map(read_identity).transpose()?;
    let (clusters, servers) = (clusters::fleet(config)?, clusters::servers(config)?);
    let (operator, eraser) = (read_signing_key(config, "operator")?, read_signing_key(config, "eraser")?);
    let locks = FleetLocks { clusters: &clusters, installation: vault.root().installation };
    let (progress, clock) = (edge.progress(), &Utc::now);
    // The plan of the erasure is what operators sign: what it consists of asks for nothing more.
    let approvals = 0;
    let (operator, eraser, cancel) = (&operator, &eraser, &edge.stop);
    let clear = args.clear.iter().map(|obstacles| obstacles.kind()).collect();
    let grace = if args.skip_grace { TimeDelta::zero() } else { config.erasure.grace() };
    let erase = Erase {
        drop: DropTenant {
            vault,
            keyring,
            clusters: &clusters,
            servers: &servers,
            locks: &locks,
            operator,
            eraser,
            approvals,
            within_erasure: true,
            clear,
            accept: args.accept.clone(),
            clock,
            progress: &*progress,
            cancel,
            known: Default::default(),
        },
        purge: Purge { vault, keyring, locks: &locks, operator, eraser, approvals, clock, progress: &*progress, cancel },
        approvals: config.approvals.needed("erase"),
        grace,
        per_day: config.erasure.per_day,
        told: Told {
            reference: args.reference.clone(),
            identity: identity.as_ref(),
            elsewhere: config.elsewhere.iter().map(|copies| (copies.name.clone(), copies.gone_after)).collect(),
            remains: config.remains.0.clone(),
            working: &|| started.elapsed(),
        },
    };
    let about = [keyring.tag(&args.tenant)];
    let outcome = go(&args, edge, &erase).await;
    let signer = Some(eraser).filter(|_| !args.dry_run);
    let report = refused::noted(vault, ActCommand::Erase, &about, signer, edge.now(), outcome).await?;
    edge.output.report("erase", &report, text)?;
    let is_open = !report.open.is_empty() && !report.dry_run;
    Ok(Ended { worst: is_open.then_some(FailureClass::SomeTenants) })
}

async fn go(args: &Args, edge: &Edge, erase: &Erase<'_>) -> Result<EraseReport, Failure> {
    let tenant = &args.tenant;
    if args.undo {
        confirm::tenant(edge, tenant, args.confirm.as_deref(), ("erase", " --undo"))?;
        return erase.undo(tenant).await;
    }
    let intent = erase.look(tenant).await?;
    edge.output.announce(&format!("{}\n", first_line(tenant, &intent)));
    if args.dry_run {
        return Ok(erase.describe(tenant, &intent));
    }
    if args.skip_grace && intent.is_resumed() && !intent.is_destroying() && intent.grace_until() > edge.now() {
        return Err(grace_is_planned(tenant, &intent));
    }
    let mut options = (if args.skip_grace { " --skip-grace" } else { "" }).to_owned();
    options.push_str(&clear_words(&args.clear, &args.accept));
    confirm::tenant(edge, tenant, args.confirm.as_deref(), ("erase", &options))?;
    erase.carry_out(tenant, &intent).await
}

/// The grace is a part of what was signed.
fn grace_is_planned(tenant: &TenantName, intent: &Intent) -> Failure {
    let (name, until) = (Word(tenant.as_str()), time(intent.grace_until()));
    let message =
        format!("tenant {tenant} is being erased by a plan that was signed with a grace until {until}: it is not skipped now");
    Failure::new(FailureClass::Refused, "grace-planned", tenant, message).hint(format!(
        "Nothing was done, and the tenant stays refused. Wait for that time; or `tenure erase {name} --undo` withdraws this erasure, and \
         `tenure erase {name} --skip-grace` then begins another one."
    ))
}

fn first_line(tenant: &TenantName, intent: &Intent) -> String {
    let cluster = intent.plan.databases.first().map_or("", |database| database.cluster.as_str());
    let live = match &intent.live {
        Live::Known(Some(drop)) => match &drop.doomed {
            Some(doomed) => {
                let about: Vec<String> = doomed.bytes.map(size).into_iter().chain([count(doomed.sessions, "session")]).collect();
                format!("the LIVE database {} on {cluster} ({})", Printable(&doomed.name), about.join(", "))
            }
            None => format!("what replicas of {cluster} may still have of its dropped database"),
        },
        Live::Known(None) => "no live database any more".to_owned(),
        Live::Unknown(why) => format!("NOT now its live database ({})", why.one_line()),
    };
    let days = intent.taken.map(|(oldest, newest)| format!(" ({} – {})", oldest.format("%Y-%m-%d"), newest.format("%Y-%m-%d")));
    let backups = format!("all {} of {tenant}{}", count(intent.backups, "backup"), days.unwrap_or_default());
    let when = match intent.is_destroying() || intent.grace_until() <= intent.plan.created_at {
        true => "at once".to_owned(),
        false => format!("after {}", time(intent.grace_until())),
    };
    let what = format!("{live}, {backups} and its keys, {when}; it never comes back");
    match intent.is_resumed() {
        true => format!("erase: going on with what was begun at {}: {what}", time(intent.plan.created_at)),
        false => format!("erase: {what}"),
    }
}

fn text(report: &EraseReport) -> String {
    let tenant = Printable(&report.tenant);
    let mut text: String = report.notes.iter().map(|note| format!("note: {note}\n")).collect();
    if report.dry_run {
        text.push_str("nothing was done\n");
        return text;
    }
    text.push_str(&leaving::nodes(&report.nodes));
    text.push_str(&leaving::key_copies(&report.key_copies));
    if report.objects_removed > 0 {
        text.push_str(&format!("removed {}, {}\n", count(report.objects_removed, "object"), size(report.bytes_removed)));
    }
    text.push_str(&leaving::open(&report.open));
    text.push_str(&match report.status {
        EraseStatus::Requested => format!("{tenant}: refused by every command from now on; NOT erased yet\n"),
        EraseStatus::Suspended => {
            format!("{tenant}: closed, and refused by every command; nothing is destroyed before {}\n", time(report.grace_until))
        }
        EraseStatus::LiveErased => format!("{tenant}: its live database is gone everywhere; its backups are NOT yet\n"),
        EraseStatus::KeysDestroyed => {
            format!(
                "{tenant}: its live database is gone everywhere, and nothing that is still stored can be read; not closed yet\n"
            )
        }
        EraseStatus::Closed => {
            let given_up = report.nodes.iter().filter(|node| node.state == GIVEN_UP).map(|node| node.node.as_str());
            match given_up.collect::<Vec<_>>().join(" and ") {
                none if none.is_empty() => format!("{tenant}: erased: no database, no backup and no key is left\n"),
                nodes => format!("{tenant}: erased: no database, no backup and no key is left, but for what {nodes} may have\n"),
            }
        }
        EraseStatus::Withdrawn => format!("{tenant}: the erasure is withdrawn; nothing was destroyed\n"),
    });
    if let Some(id) = &report.certificate {
        text.push_str(&format!("certificate {id}: `tenure certificate show {id}`\n"));
    }
    text
}
