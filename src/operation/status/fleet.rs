//! What is wrong with the fleet as a whole: discovery, clocks, retention, who restored how much.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Acts, Status, tenant::shown};
use crate::{
    operation::{
        alarm::{Alarm, AlarmKind},
        failure::Failure,
        fleet::Fleet,
        tenants::{
            TenantState,
            look::{Brief, Look},
        },
    },
    printable::Printable,
    store::Store,
    tenant::TenantName,
};

/// How far clocks may be apart.
const CLOCKS: TimeDelta = TimeDelta::minutes(5);
/// How many tenants one key may restore in a day before somebody is told.
const RESTORED: usize = 3;
/// How many are named in one message.
const NAMED: usize = 5;

impl Status<'_> {
    /// What discovery found, and what it did not. Gives the clusters that lost so many that nobody is named by himself.
    pub(super) fn of_discovery(look: &Look, alarms: &mut Vec<Alarm>) -> Vec<String> {
        for (cluster, discovery) in &look.fleet.clusters {
            let Err(failure) = discovery else { continue };
            alarms.push(Alarm::of(AlarmKind::ClusterUnreachable, &cluster.name, failure));
        }
        let mut implausible = Vec::new();
        if let Err(failure) = look.fleet.check_plausible(&look.known) {
            let hint = "Check the server that `primary` leads to, and `databases` (or `query`): no run backs anybody up until then. If they were dropped or \
                        moved on purpose: `tenure backup --all --accept-missing`.";
            alarms.push(Alarm::new(AlarmKind::DiscoveryLoss, &failure.object, failure.one_line()).hint(hint));
            implausible.push(failure.object);
        }
        for database in look.fleet.unassigned() {
            let message = format!("no rule covers database {database}: it is not backed up");
            let hint = "Correct `databases` (or `query`), or name it under `ignore`.";
            alarms.push(Alarm::new(AlarmKind::Unassigned, database, message).hint(hint));
        }
        for (tenant, places) in look.fleet.ambiguous() {
            let message = format!("several databases answer to tenant {tenant}, and none is backed up: {}", places.join(", "));
            let hint = "Rename all but one of them, or name them under `ignore`.";
            alarms.push(Alarm::new(AlarmKind::Ambiguous, tenant, message).hint(hint));
        }
        for (tenant, resident) in look.fleet.residents() {
            if look.known.is_erased(&resident.system_identifier, resident.found.oid) {
                let database = Printable(&resident.found.database);
                let message =
                    format!("database {database} on cluster {} has the number of one that was erased", resident.cluster.name);
                alarms.push(
                    Alarm::new(AlarmKind::ErasedReturned, tenant, message)
                        .hint("An old copy of the server was put back, or somebody renamed it: `tenure reconcile` says what it is, and what to do."),
                );
            }
        }
        implausible
    }

    /// Backups that are kept for another time than those before them, or than is promised now: once for each change.
    pub(super) fn of_retention(&self, look: &Look, alarms: &mut Vec<Alarm>) {
        let mut changes: BTreeMap<(String, String), (Vec<&TenantName>, bool)> = BTreeMap::new();
        for (name, looked) in &look.tenants {
            if !matches!(looked.state, TenantState::Good | TenantState::Late) {
                continue;
            }
            let [newest, before @ ..] = &looked.holding.read[..] else { continue };
            let promised = (self.keep)(name);
            let (from, to, is_done) = match before.first() {
                _ if newest.keep != promised => (newest.keep, promised, false),
                Some(before) if before.keep != newest.keep => (before.keep, newest.keep, true),
                _ => continue,
            };
            let (names, all_done) = changes.entry((from.to_string(), to.to_string())).or_insert((Vec::new(), true));
            names.push(name);
            *all_done &= is_done;
        }
        for ((from, to), (names, is_done)) in changes {
            let from_when = if is_done { "since their newest backups" } else { "from their next backups on" };
            let message = format!("backups of {} are kept for {to} {from_when}, and were kept for {from}", listed(&names));
            alarms.push(Alarm::new(AlarmKind::RetentionChanged, format!("{from} to {to}"), message).hint(
                "If nobody changed [[policy]] on purpose, put it back: what was taken meanwhile keeps the time that it was given. This ends by itself \
                 two backups after the change.",
            ));
        }
    }

    /// Clocks of stores and servers, against this host's and those of the hosts that made the newest backups.
    ///
    /// # Errors
    /// A store that cannot be reached.
    pub(super) async fn of_clocks(&self, look: &Look, now: DateTime<Utc>, alarms: &mut Vec<Alarm>) -> Result<(), Failure> {
        let hint = "Let every host, server and store take its time from NTP: ages, retention and graces are counted by clocks.";
        let stores: [(&str, &dyn Store); 2] = [("vault", self.vault.store()), ("keyring", self.keyring.store())];
        for (what, store) in stores {
            let Some(ahead) = store.clock_ahead_seconds().await?.filter(|ahead| ahead.abs() > CLOCKS.num_seconds()) else {
                continue;
            };
            let message = format!("the clock of the {what} {} is {}", store.address(), of_host(ahead));
            alarms.push(Alarm::new(AlarmKind::ClockSkew, store.address(), message).hint(hint));
        }
        let mut newest: BTreeMap<&str, &Brief> = BTreeMap::new();
        for looked in look.tenants.values() {
            let (Some(brief), Some(cluster)) = (looked.holding.read.first(), &looked.cluster) else { continue };
            let known = newest.entry(cluster).or_insert(brief);
            if known.taken_at < brief.taken_at {
                *known = brief;
            }
        }
        for (cluster, brief) in newest {
            let ahead = brief.server_time - brief.taken_at;
            if ahead.abs() > CLOCKS {
                let message = format!(
                    "the clock of cluster {} was {} when backup {} was made",
                    Printable(cluster),
                    of_host(ahead.num_seconds()),
                    brief.backup
                );
                alarms.push(Alarm::new(AlarmKind::ClockSkew, format!("cluster {cluster}"), message).hint(hint));
            }
            if brief.taken_at > now + CLOCKS {
                let message =
                    format!("backup {} says that it is of {}, and that is yet to come", brief.backup, shown(brief.taken_at));
                alarms.push(Alarm::new(AlarmKind::ClockSkew, "this host", message).hint(hint));
            }
        }
        Ok(())
    }

    /// Who restored more tenants in a day than is usual: a thief of a restorer's key reads everybody.
    pub(super) fn of_restores(acts: &Acts, alarms: &mut Vec<Alarm>) {
        for (fingerprint, (principal, lockers)) in &acts.restored {
            if lockers.len() > RESTORED {
                let principal = Printable(principal);
                let message = format!("{principal} ({fingerprint}) restored {} tenants within a day", lockers.len());
                alarms.push(Alarm::new(AlarmKind::UnusualVolume, principal, message).hint(
                    "`tenure audit` says which. If that was no exercise and no disaster, somebody has that key and a recovery identity.",
                ));
            }
        }
    }
}

/// Whether no cluster answered, so that nothing is known of who lives.
pub(super) fn nobody_answered(fleet: &Fleet) -> bool {
    !fleet.clusters.is_empty() && fleet.clusters.iter().all(|(_, discovery)| discovery.is_err())
}

fn of_host(ahead: i64) -> String {
    let seconds = ahead.unsigned_abs();
    format!("{seconds} s {} this host's", if ahead > 0 { "ahead of" } else { "behind" })
}

fn listed(names: &[&TenantName]) -> String {
    let shown: Vec<String> = names.iter().take(NAMED).map(ToString::to_string).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
