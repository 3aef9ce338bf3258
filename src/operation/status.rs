//! `status`: how the whole fleet is, on one screen: who is late, what is wrong, what to do.

mod acts;
mod fleet;
mod small;
mod tenant;

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use self::{
    acts::Acts,
    tenant::{Around, failed, of_returned},
};
use super::{
    alarm::{Alarm, AlarmKind, sorted},
    failure::{Failure, FailureClass},
    fleet::Cluster,
    list::Inventory,
    lost,
    tenants::{
        TenantState, Tenants,
        look::{Depth, Look, Looked, age},
    },
    unfinished,
};
use crate::{id::NameTag, keyring::Keyring, retention::Keep, tenant::TenantName, vault::Vault};

/// Manifests that are read of each locker: the newest, and the seven before it that say what is usual.
const NEWEST: usize = 8;
/// How far back records are read at least.
const RECORDS: TimeDelta = TimeDelta::days(3);
/// And at most.
const RECORDS_AT_MOST: TimeDelta = TimeDelta::days(35);

/// What it works with.
pub struct Status<'a> {
    /// Where backups are.
    pub vault: &'a Vault,
    /// Where keys are.
    pub keyring: &'a Keyring,
    /// The fleet.
    pub clusters: &'a [Cluster],
    /// From which age of its newest backup on a tenant is late.
    pub late_after: &'a (dyn Fn(&TenantName) -> Duration + Sync),
    /// How long a tenant's backups are to be kept.
    pub keep: &'a (dyn Fn(&TenantName) -> Keep + Sync),
    /// How long after its grace an erasure that is not through is an alarm.
    pub overdue_after: TimeDelta,
}

/// What `status` says.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct StatusReport {
    /// When it was asked.
    pub at: DateTime<Utc>,
    /// How many tenants are how.
    pub counts: Counts,
    /// Every tenant that a cluster or the keyring knows, the worst first.
    pub tenants: Vec<TenantStatus>,
    /// How far first backups are, while tenants wait for theirs; null when none does.
    pub first_backups: Option<Onboarding>,
    /// Erasures that were begun and are not through, their grace included.
    pub erasures_open: u64,
    /// Backups whose time is over, and that still lie in the vault.
    pub retention_backlog: u64,
    /// Tenants on hold.
    pub holds: u64,
    /// What somebody must be told, the gravest first.
    pub alarms: Vec<Alarm>,
    /// Decides the exit code.
    #[serde(skip)]
    pub class: Option<FailureClass>,
}

/// How many tenants are how. Every tenant is in one of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// All.
    pub tenants: u64,
    /// With a backup that is young enough.
    pub good: u64,
    /// With a backup that is too old.
    pub late: u64,
    /// Without a backup yet.
    pub new: u64,
    /// With backups, and without a database.
    pub missing: u64,
    /// Dropped by tenure; their backups stay.
    pub dropped: u64,
    /// Whose database is another one than recorded.
    pub moved: u64,
    /// To whom several databases answer.
    pub ambiguous: u64,
    /// Whose database lets nobody in.
    pub closed: u64,
    /// Being erased.
    pub suspended: u64,
    /// Erased, and not gone from everywhere yet.
    pub erased: u64,
    /// On a cluster that could not be asked.
    pub unknown: u64,
}

/// One tenant.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct TenantStatus {
    /// Its name.
    pub tenant: String,
    /// Its cluster: where it is found now, else where it was recorded.
    pub cluster: Option<String>,
    /// How it is.
    pub state: TenantState,
    /// Id of its newest backup that is not expired.
    pub newest_backup: Option<String>,
    /// When that was taken.
    pub newest_taken_at: Option<DateTime<Utc>>,
    /// How old it is.
    pub age_seconds: Option<u64>,
    /// Backups that the vault lists, by their names alone: none that was declared void or let go of, and those whose time is over left out as
    /// far as their names tell it.
    pub backups: u64,
    /// How long its newest backup took; null where no night record says it.
    pub duration_ms: Option<u64>,
    /// Sealed bytes that its newest backup added.
    pub bytes_stored: Option<u64>,
    /// Plaintext bytes of its newest backup: what a restore would bring back.
    pub bytes_read: Option<u64>,
    /// Backups whose time is over, and that still lie in the vault.
    pub expired: u64,
    /// Whether it is on hold.
    pub on_hold: bool,
    /// From which age of its newest backup on it is late.
    pub late_after_seconds: u64,
    /// The kind of the failure of its last scheduled try, where nothing was made of it since.
    pub failed: Option<String>,
}

/// First backups, while tenants wait for theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Onboarding {
    /// Tenants that live and have a backup.
    pub done: u64,
    /// Tenants that live and have none.
    pub waiting: u64,
    /// About how many more nights, by how many first backups the newest nights made; null while none was made.
    pub nights: Option<u64>,
}

impl Status<'_> {
    /// Looks at the clusters, the keyring, and of each locker at the newest backups, the holds and the findings: no chunk is listed, and older
    /// manifests are not read.
    ///
    /// # Errors
    /// Vault or keyring out of reach: then nothing can be told. A cluster out of reach is an alarm.
    pub async fn run(&self, now: DateTime<Utc>) -> Result<StatusReport, Failure> {
        let Self { vault, keyring, clusters, late_after, .. } = *self;
        let look = Tenants { vault, keyring, clusters, late_after }.look(Depth::Newest(NEWEST), now).await?;
        let new = look.tenants.iter().filter(|(_, looked)| looked.state == TenantState::New);
        let longest = new.filter_map(|(name, _)| TimeDelta::from_std(late_after(name)).ok()).max().unwrap_or_default();
        let acts = Acts::read(vault, (longest + RECORDS).clamp(RECORDS, RECORDS_AT_MOST), now).await?;
        let mut alarms = Vec::new();
        let first_backups = onboarding(&look);
        let implausible = Self::of_discovery(&look, &mut alarms);
        let queue_moves = newest_first_backup(&look).is_some_and(|at| now - at < RECORDS);
        let around = Around { acts: &acts, queue_moves, implausible: &implausible, now };
        for (name, looked) in &look.tenants {
            self.of_tenant(name, looked, &around, &mut alarms);
            alarms.extend(self.of_damage(name, looked, now).await?);
        }
        self.of_retention(&look, &mut alarms);
        self.of_clocks(&look, now, &mut alarms).await?;
        Self::of_restores(&acts, &mut alarms);
        let erasures_open = self.of_plans(&look, now, &mut alarms).await?;
        self.of_keys(&look, &mut alarms).await?;
        let untrusted = acts.untrusted.iter();
        alarms.extend(untrusted.map(|error| {
            Alarm::new(AlarmKind::Integrity, error.object(), error.to_string())
                .hint("Nobody but a role of tenure writes there: find out who did. `tenure audit` checks every record.")
        }));

        let mut tenants: Vec<TenantStatus> = look.tenants.iter().map(|(name, looked)| self.line(name, looked, &around)).collect();
        let has_failed = tenants.iter().any(|tenant| tenant.failed.is_some());
        tenants.sort_by(|a, b| (badness(a), &a.tenant).cmp(&(badness(b), &b.tenant)));
        let class = match (fleet::nobody_answered(&look.fleet), alarms.is_empty() && !has_failed) {
            (true, _) => Some(FailureClass::Failed),
            (false, false) => Some(FailureClass::SomeTenants),
            (false, true) => None,
        };
        Ok(StatusReport {
            at: now,
            counts: Counts::of(tenants.iter().map(|tenant| tenant.state)),
            first_backups,
            erasures_open,
            retention_backlog: tenants.iter().filter(|tenant| !tenant.on_hold).map(|tenant| tenant.expired).sum(),
            holds: tenants.iter().filter(|tenant| tenant.on_hold).count() as u64,
            tenants,
            alarms: sorted(alarms),
            class,
        })
    }

    fn line(&self, name: &TenantName, looked: &Looked, around: &Around<'_>) -> TenantStatus {
        let holding = &looked.holding;
        let newest = holding.newest(around.now);
        TenantStatus {
            tenant: name.as_str().to_owned(),
            cluster: looked.cluster.clone(),
            state: looked.state,
            newest_backup: newest.map(|newest| newest.backup.to_string()),
            newest_taken_at: newest.map(|newest| newest.taken_at),
            age_seconds: newest.map(|newest| age(newest.taken_at, around.now)),
            backups: holding.live,
            duration_ms: newest.and_then(|newest| around.acts.durations.get(&newest.backup).copied()),
            bytes_stored: newest.map(|newest| newest.bytes_stored),
            bytes_read: newest.map(|newest| newest.bytes_read),
            expired: holding.expired,
            on_hold: holding.held,
            late_after_seconds: (self.late_after)(name).as_secs(),
            failed: failed(looked, around),
        }
    }

    /// Backups that need what a verify found damaged, where it found anything: only then is more of a locker looked at.
    async fn of_damage(&self, name: &TenantName, looked: &Looked, now: DateTime<Utc>) -> Result<Option<Alarm>, Failure> {
        let (mut damaged, mut of) = (0, 0);
        for (locker, _) in looked.holding.findings.iter().filter(|(_, findings)| findings.any_damaged()) {
            let mut inventory = Inventory::read(self.vault, *locker).await?;
            for backup in self.vault.history(*locker, now).await?.live(now) {
                of += 1;
                damaged += u64::from(!inventory.is_whole(&backup.manifest).await?);
            }
        }
        let word = crate::printable::Word(name.as_str());
        Ok((damaged > 0).then(|| {
            Alarm::new(AlarmKind::Integrity, name, format!("{damaged} of {of} backups of tenant {name} are damaged")).hint(format!(
                "`tenure list {word}` says which. The next backup stores again what it needs; `tenure restore {word} --salvage` takes what is left of                  an older one."
            ))
        }))
    }

    /// Erasures, purges and drops that take too long, and plans that are not to be trusted. Gives how many erasures are open.
    async fn of_plans(&self, look: &Look, now: DateTime<Utc>, alarms: &mut Vec<Alarm>) -> Result<u64, Failure> {
        let answered = look.fleet.clusters.iter().filter_map(|(_, discovery)| discovery.as_ref().ok());
        let living = answered.flat_map(|discovery| discovery.by_name().map(|(tenant, _)| tenant));
        let known = living.chain(look.tenants.keys());
        let names: BTreeMap<NameTag, TenantName> = known.map(|tenant| (self.keyring.tag(tenant), tenant.clone())).collect();
        let mut erasures = 0;
        for open in unfinished::begun(self.vault, self.keyring, &names, now).await? {
            erasures += u64::from(open.is_erasure);
            let object = open.tenant.as_ref().map_or_else(|| open.failure.object.clone(), ToString::to_string);
            if open.failure.class == FailureClass::Integrity {
                alarms.push(Alarm::of(AlarmKind::Integrity, &open.failure.object, &open.failure));
            } else if !open.rests && now - open.since > self.overdue_after {
                alarms.push(Alarm::of(AlarmKind::ErasureOpen, object, &open.failure));
            }
        }
        Ok(erasures)
    }

    /// Keys that are lost, that should not be there, or that nobody trusted wrote; and records of tenants that cannot be trusted.
    async fn of_keys(&self, look: &Look, alarms: &mut Vec<Alarm>) -> Result<(), Failure> {
        let known = &look.known;
        for error in &known.census.problems {
            alarms.push(Alarm::new(AlarmKind::KeyForeign, error.object(), error.to_string()).hint(
                "Nothing is sealed with it. `tenure keys check` says what is whole; find out who wrote it, and move it out of the keyring.",
            ));
        }
        for keys in known.census.tenants.values() {
            let lost = lost::without_secret(keys);
            alarms.extend(lost.map(|said| {
                Alarm::new(AlarmKind::KeyLost, &keys.tenant, said)
                    .hint("Without it nothing that it sealed opens. `tenure keys check` says which stores have it whole.")
            }));
        }
        if let Some(lost) = lost::lost(self.vault, self.keyring, &known.census, "").await? {
            alarms.push(Alarm::of(AlarmKind::KeyLost, &lost.object, &lost));
        }
        alarms.extend(known.returned.iter().map(of_returned));
        alarms.extend(known.untrusted().map(|(tenant, error)| {
            let message = format!("tenant {tenant}: {error}; no new tenant is taken in until that is settled");
            Alarm::new(AlarmKind::Integrity, error.object(), message).hint("`tenure verify --all` says what is wrong with it.")
        }));
        let doubtful = known.erased.values().flat_map(super::erased::Erasures::doubtful);
        alarms.extend(doubtful.map(|(object, why)| {
            Alarm::new(AlarmKind::Integrity, object, format!("what may be a tombstone cannot be trusted: {why}"))
                .hint("Its tenant is refused by every command. Find out who changed it; put it back from the other store.")
        }));
        Ok(())
    }
}

/// Who lives on a cluster that answered.
fn lives(looked: &Looked) -> bool {
    matches!(looked.state, TenantState::Good | TenantState::Late | TenantState::New | TenantState::Moved)
}

/// When tenants got their first backup, as far as the newest ones tell.
fn first_backups(look: &Look) -> impl Iterator<Item = DateTime<Utc>> {
    let first = |looked: &Looked| looked.holding.read.iter().find(|brief| brief.sequence == 1).map(|brief| brief.taken_at);
    look.tenants.values().filter_map(first)
}

fn newest_first_backup(look: &Look) -> Option<DateTime<Utc>> {
    first_backups(look).max()
}

/// How far first backups are: `None` when nobody waits for his. How many a night makes is what the newest nights made, three of them at most,
/// each the 24 hours up to where the one after it began.
fn onboarding(look: &Look) -> Option<Onboarding> {
    let living: Vec<&Looked> = look.tenants.values().filter(|looked| lives(looked)).collect();
    let waiting = living.iter().filter(|looked| looked.state == TenantState::New).count() as u64;
    let done = living.len() as u64 - waiting;
    let newest = newest_first_backup(look);
    let mut nights = [0u64; 3];
    for at in first_backups(look) {
        let ago = newest.map_or(0, |newest| (newest - at).num_days());
        if let Some(night) = usize::try_from(ago).ok().and_then(|ago| nights.get_mut(ago)) {
            *night += 1;
        }
    }
    let made: Vec<u64> = nights.into_iter().filter(|made| *made > 0).collect();
    let a_night = made.iter().sum::<u64>() / (made.len() as u64).max(1);
    (waiting > 0).then(|| Onboarding { done, waiting, nights: (a_night > 0).then(|| waiting.div_ceil(a_night)) })
}

/// The worst first: what is broken, then what is late, the oldest first, then what is as it should be.
fn badness(tenant: &TenantStatus) -> (u8, std::cmp::Reverse<u64>) {
    let rank = match tenant.state {
        TenantState::Late | TenantState::Missing => 0,
        TenantState::Ambiguous | TenantState::Moved | TenantState::Closed => 1,
        TenantState::Unknown => 2,
        _ if tenant.failed.is_some() => 3,
        TenantState::New => 4,
        TenantState::Suspended | TenantState::Erased => 5,
        TenantState::Dropped => 6,
        TenantState::Good => 7,
    };
    (rank, std::cmp::Reverse(tenant.age_seconds.unwrap_or(u64::MAX)))
}

impl Counts {
    /// Counts states.
    #[must_use]
    pub fn of(states: impl IntoIterator<Item = TenantState>) -> Self {
        let mut counts = Self::default();
        for state in states {
            counts.tenants += 1;
            *match state {
                TenantState::Good => &mut counts.good,
                TenantState::Late => &mut counts.late,
                TenantState::New => &mut counts.new,
                TenantState::Missing => &mut counts.missing,
                TenantState::Dropped => &mut counts.dropped,
                TenantState::Moved => &mut counts.moved,
                TenantState::Ambiguous => &mut counts.ambiguous,
                TenantState::Closed => &mut counts.closed,
                TenantState::Suspended => &mut counts.suspended,
                TenantState::Erased => &mut counts.erased,
                TenantState::Unknown => &mut counts.unknown,
            } += 1;
        }
        counts
    }
}

impl Onboarding {
    /// As it is told: `first backup done 80, waiting 220, about 3 more nights`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let nights = match self.nights {
            None => String::new(),
            Some(1) => ", about 1 more night".to_owned(),
            Some(nights) => format!(", about {nights} more nights"),
        };
        format!("first backup done {}, waiting {}{nights}", self.done, self.waiting)
    }
}
