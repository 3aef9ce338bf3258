//! `tenure purge`.

use chrono::{DateTime, SecondsFormat, Utc};

use super::{
    clusters, confirm,
    edge::{Edge, Ended},
    installation::{Installation, read_signing_key},
    leaving,
    table::{count, size, time},
    zoned_time::exact_time,
};
use crate::{
    config::store::Role,
    format::{act::ActCommand, plan::PlannedAct},
    operation::{
        erased,
        failure::{Failure, FailureClass},
        held::FleetLocks,
        purge::{Intent, Purge, PurgeReport, PurgeStatus, What},
        refused,
    },
    printable::Printable,
    tenant::TenantName,
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose backups
    tenant: TenantName,

    /// Only those taken before this time, with its zone; the tenant's keys stay
    #[arg(long, value_name = "TIME", value_parser = exact_time)]
    before: Option<DateTime<Utc>>,

    /// Purge what was backed up since an earlier purge that is still open, instead of going on with that one
    #[arg(long, conflicts_with = "before")]
    anew: bool,

    /// Only what earlier purges let go of and somebody put back; what was backed up since stays
    #[arg(long, conflicts_with_all = ["before", "anew"])]
    returned: bool,

    /// Destroy keys too whose records cannot be trusted, by their names
    #[arg(long, conflicts_with_all = ["before", "anew", "returned"])]
    untrusted_keys: bool,

    /// The tenant's name once more; without it a person at a terminal is asked
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    let installation = Installation::open(edge, Role::Eraser).await?;
    let Installation { config, vault, keyring } = &installation;
    let (tenant, progress) = (&args.tenant, edge.progress());
    let purge = Purge {
        vault,
        keyring,
        locks: &FleetLocks { clusters: &clusters::fleet(config)?, installation: vault.root().installation },
        operator: &read_signing_key(config, "operator")?,
        eraser: &read_signing_key(config, "eraser")?,
        approvals: config.approvals.needed("purge"),
        clock: &chrono::Utc::now,
        progress: &*progress,
        cancel: &edge.stop,
    };
    let what = match args.before {
        Some(before) => What::Before(before),
        None if args.anew => What::Anew,
        None if args.returned => What::Returned,
        None if args.untrusted_keys => What::AllUntrusted,
        None => What::All,
    };
    let (about, now) = ([keyring.tag(tenant)], edge.now());
    let outcome = go(&args, edge, &purge, what).await;
    let report =
        refused::noted(vault, ActCommand::Purge, &about, Some(purge.eraser).filter(|_| !args.dry_run), now, outcome).await?;
    end(&installation, edge, report).await
}

async fn go(args: &Args, edge: &Edge, purge: &Purge<'_>, what: What) -> Result<PurgeReport, Failure> {
    let tenant = &args.tenant;
    erased::refuse_in_grace(purge.vault, purge.keyring, tenant, edge.now()).await?;
    // Adding up bytes takes as long as there are objects: for whoever looks, and not for whoever has decided.
    let intent = purge.look(tenant, what, args.dry_run || args.confirm.is_none()).await?;
    edge.output.announce(&format!("{}\n", first_line(tenant, &intent)));
    Purge::warnings(&intent).iter().for_each(|warning| edge.output.announce(&format!("{warning}\n")));
    if args.dry_run || intent.is_empty() {
        let report = PurgeReport { dry_run: args.dry_run, ..purge.describe(tenant, &intent) };
        return Ok(report);
    }
    let mut options = String::new();
    if let Some(before) = args.before {
        options.push_str(&format!(" --before {}", before.to_rfc3339_opts(SecondsFormat::AutoSi, true)));
    }
    // Without its flag it would let go of more.
    for (is_set, flag) in [(args.anew, " --anew"), (args.returned, " --returned"), (args.untrusted_keys, " --untrusted-keys")] {
        options.push_str(if is_set { flag } else { "" });
    }
    confirm::tenant(edge, tenant, args.confirm.as_deref(), ("purge", &options))?;
    purge.carry_out(tenant, &intent).await
}

/// What the keyring lost may be this tenant's too. Looking for it takes as long as there are tenants: keys are not kept for that.
async fn end(installation: &Installation, edge: &Edge, mut report: PurgeReport) -> Result<Ended, Failure> {
    let lost = installation.lost_keys(edge, &mut report.problems).await;
    edge.output.report("purge", &report, text)?;
    let lost = lost?;
    lost.iter().for_each(|lost| edge.output.remark(lost));
    let open = (!report.open.is_empty()).then_some(FailureClass::SomeTenants);
    Ok(Ended { worst: lost.map(|lost| lost.class).or(open) })
}

fn first_line(tenant: &TenantName, intent: &Intent) -> String {
    let summary = &intent.summary;
    let mut days: Vec<String> =
        [summary.oldest, summary.newest].into_iter().flatten().map(|taken| taken.format("%Y-%m-%d").to_string()).collect();
    days.dedup();
    let mut about = if days.is_empty() { days } else { vec![days.join(" – ")] };
    let is_part = matches!(intent.plan.act, PlannedAct::PurgeBefore { .. });
    about.extend(summary.bytes.filter(|_| !is_part).map(size));
    let about = if about.is_empty() { String::new() } else { format!(" ({})", about.join(", ")) };
    let backups = count(summary.backups, "backup");
    let what = match intent.plan.act {
        PlannedAct::PurgeReturned => {
            format!("what was put back of what was purged of {tenant}: {backups}{about} and keys; what was backed up since stays")
        }
        PlannedAct::Drop => "the live database, which is no backup".to_owned(),
        PlannedAct::PurgeBefore { before } => format!(
            "{backups} of {tenant} taken before {}{about}; later ones, if there are any, and its keys stay: what goes is removed, not shredded",
            time(before)
        ),
        _ => {
            let all = match summary.backups {
                0 => format!("what is left of {tenant}, no backup among it,"),
                1 => format!("the only backup of {tenant}{about}"),
                _ => format!("all {backups} of {tenant}{about}"),
            };
            format!("{all} and its keys; the live database stays")
        }
    };
    match intent.is_resumed() {
        true if intent.is_begun() => format!("purge: going on with what was begun at {}: {what}", time(intent.plan.created_at)),
        true => format!("purge: as planned at {}: {what}", time(intent.plan.created_at)),
        false => format!("purge: {what}"),
    }
}

fn text(report: &PurgeReport) -> String {
    let tenant = Printable(&report.tenant);
    if report.dry_run {
        let notes: String = report.notes.iter().map(|note| format!("{note}\n")).collect();
        return format!("{notes}nothing was done\n");
    }
    if report.plan.is_none() {
        return "there is nothing to do\n".to_owned();
    }
    let mut text = String::new();
    text.push_str(&leaving::key_copies(&report.key_copies));
    text.push_str(&format!("removed {}, {}\n", count(report.objects_removed, "object"), size(report.bytes_removed)));
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text.push_str(&leaving::open(&report.open));
    text.push_str(&match (report.status, report.before) {
        (PurgeStatus::Closed, None) if report.newer_history => {
            format!("{tenant}: no backup and no key is left of what was purged; what was backed up since stays\n")
        }
        (PurgeStatus::KeysDestroyed, _) if report.newer_history => {
            format!("{tenant}: what was purged cannot be read any more; what was backed up since stays; not closed yet\n")
        }
        (PurgeStatus::Closed, None) => format!("{tenant}: purged; no backup and no key is left\n"),
        (PurgeStatus::Closed, Some(before)) => format!("{tenant}: no backup taken before {} is left\n", time(before)),
        (PurgeStatus::KeysDestroyed, _) => {
            format!("{tenant}: no key is left, so nothing that is still stored can be read; not closed yet\n")
        }
        (PurgeStatus::Requested, _) => format!("{tenant}: not closed yet\n"),
    });
    text
}
