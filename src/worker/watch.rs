//! What a worker sees of the whole fleet, between the runs and after each: what is wrong goes to the board, and to whoever is to be told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::{
    runtime::Handle,
    sync::watch,
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::job::{Complaint, JobEnd};
use crate::{
    cli::{clusters, edge::Edge, installation::Installation, status},
    config::{Config, schedule::Action, store::Role},
    id::InstallationId,
    observe::{
        board::Board,
        notify::{Channels, Look, Notifier},
    },
    operation::{
        alarm::{self, Alarm, AlarmKind},
        failure::{Failure, FailureClass},
        status::StatusReport,
    },
    postgres::fleet_lock::FleetLock,
};

/// How old what is known of the fleet may become. A look reads the newest manifests of every tenant.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// When a look that failed is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// For one look: one that hangs is an alarm too.
const LOOK_WITHIN: Duration = Duration::from_secs(1800);

/// How often it is seen to that some worker speaks.
const TURN: Duration = Duration::from_secs(60);

/// The watch, as the worker's loop sees it: nothing here waits.
pub(super) struct Watch {
    wishes: watch::Sender<Wishes>,
    channels: [u8; 32],
    /// What the loop itself knows is wrong.
    own: BTreeMap<(AlarmKind, String), Alarm>,
    /// The schedules that back up, and whether each one's last run was good as a whole.
    nights: BTreeMap<String, bool>,
}

/// What the loop wants of the watch.
#[derive(Clone)]
struct Wishes {
    edge: Edge,
    config: Arc<Config>,
    /// Channels to begin anew with; taken by who begins them.
    channels: Option<Arc<Mutex<Option<Channels>>>>,
    own: Vec<Alarm>,
    /// Counts the wishes for a look.
    looks: u64,
    /// Whether the last night was good, and which one in a count that was.
    night: (u64, bool),
}

impl Watch {
    /// Begins to watch, until the process stops.
    pub(super) fn start(edge: &Edge, config: &Arc<Config>, board: Board) -> Self {
        let channels = open(config);
        if channels.is_empty() {
            tracing::warn!("nobody is told when something is wrong: [notify] is empty");
        }
        let fingerprint = channels.fingerprint();
        let edge = edge.for_run(Arc::clone(config), edge.stop.clone());
        let wishes = watch::Sender::new(Wishes {
            edge,
            config: Arc::clone(config),
            channels: Some(Arc::new(Mutex::new(Some(channels)))),
            own: Vec::new(),
            looks: 1,
            night: (0, false),
        });
        tokio::spawn(watch_over(wishes.subscribe(), board));
        Self { wishes, channels: fingerprint, own: BTreeMap::new(), nights: BTreeMap::new() }
    }

    /// The configuration and the schedules were read anew. What cannot be read goes on as it was, and is an alarm.
    pub(super) fn follow<'a>(
        &mut self,
        edge: &Edge,
        config: &Arc<Config>,
        broken: impl Iterator<Item = (String, &'a Failure)>,
        schedules: impl Fn(&str) -> bool,
    ) {
        self.own.retain(|(kind, object), _| match kind {
            AlarmKind::ScheduleBroken => false,
            _ => schedules(object),
        });
        self.nights.retain(|name, _| schedules(name));
        for (file, failure) in broken {
            self.raise(Alarm::of(AlarmKind::ScheduleBroken, file, failure));
        }
        let channels = open(config);
        let is_new = channels.fingerprint() != self.channels;
        self.channels = channels.fingerprint();
        let edge = edge.for_run(Arc::clone(config), edge.stop.clone());
        self.wishes.send_modify(|wishes| {
            (wishes.edge, wishes.config) = (edge, Arc::clone(config));
            if is_new {
                wishes.channels = Some(Arc::new(Mutex::new(Some(channels))));
            }
            wishes.own = self.own.values().cloned().collect();
        });
    }

    /// A schedule's run ended.
    pub(super) fn ended(&mut self, name: &str, action: Action, end: &JobEnd) {
        self.own.remove(&(AlarmKind::ScheduleFailed, name.to_owned()));
        self.own.extend(failed(name, end).map(|alarm| ((alarm.kind, alarm.object.clone()), alarm)));
        if action == Action::Backup {
            self.nights.insert(name.to_owned(), is_good_night(end));
        }
        let all_are_good = self.nights.values().all(|good| *good);
        self.wishes.send_modify(|wishes| {
            wishes.own = self.own.values().cloned().collect();
            wishes.looks += 1;
            if action == Action::Backup {
                wishes.night = (wishes.night.0 + 1, all_are_good);
            }
        });
    }

    fn raise(&mut self, alarm: Alarm) {
        self.own.insert((alarm.kind, alarm.object.clone()), alarm);
    }
}

/// The channels; one that cannot be used is named here, and fails when it is used.
fn open(config: &Config) -> Channels {
    let (channels, failures) = Channels::open(config);
    for failure in failures {
        tracing::error!(error.object = failure.object, "{} ({})", failure.one_line(), failure.hint);
    }
    channels
}

/// What a run that did not end well is to whoever is told.
fn failed(name: &str, end: &JobEnd) -> Option<Alarm> {
    // Stopped with the whole worker: nobody's failure.
    end.class.filter(|class| !matches!(class, FailureClass::Interrupted | FailureClass::Terminated))?;
    let hint = end.complaints.iter().find(|complaint| !complaint.hint.is_empty());
    let hint = hint.map_or("`tenure status` and the worker's log say more.", |complaint| &complaint.hint);
    Some(Alarm::new(AlarmKind::ScheduleFailed, name, end.summary.clone()).hint(hint))
}

/// Whether everybody whom a backup was for is backed up.
fn is_good_night(end: &JobEnd) -> bool {
    let left = end.tenants.map(|tally| tally.failed + tally.refused + tally.waiting + tally.busy + tally.interrupted);
    end.class.is_none() && left == Some(0)
}

/// The fleet as it was seen last.
#[derive(Default)]
struct Seen {
    installation: Option<InstallationId>,
    alarms: Vec<Alarm>,
    /// Why it could not be seen since.
    blind: Option<Alarm>,
}

async fn watch_over(mut wishes: watch::Receiver<Wishes>, board: Board) {
    let (mut seen, mut speaker) = (Seen::default(), Speaker::default());
    let mut notifier: Option<(Notifier, CancellationToken)> = None;
    let mut looking = JoinSet::new();
    let (mut looks, mut next_look, mut nights) = (0, Instant::now(), 0);
    loop {
        let wish = wishes.borrow_and_update().clone();
        if let Some(channels) = wish.channels.as_ref().and_then(|channels| channels.lock().ok()?.take()) {
            if let Some((_, end)) = notifier.take() {
                end.cancel();
            }
            let end = wish.edge.stop.child_token();
            notifier = (!channels.is_empty()).then(|| (Notifier::start(channels, board.clone(), end.clone()), end));
        }
        if looking.is_empty() && (wish.looks != looks || Instant::now() >= next_look) {
            looks = wish.looks;
            let (edge, runtime, night) = (wish.edge.clone(), Handle::current(), wish.night);
            // A thread of its own, as each run has one.
            looking.spawn_blocking(move || (runtime.block_on(look(edge)), night));
        }
        if let Some((notifier, _)) = &notifier {
            notifier.look(seen.with(&wish.own, speaker.speaks(&wish.config, seen.installation).await));
        }
        tokio::select! {
            changed = wishes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(TURN) => {}
            Some(looked) = looking.join_next() => {
                let night = looked.as_ref().map_or(wish.night, |(_, night)| *night);
                next_look = Instant::now() + seen.take(looked.map(|(looked, _)| looked), &board);
                if night.0 != nights && let Some((notifier, _)) = &notifier {
                    nights = night.0;
                    notifier.look(seen.with(&wish.own, speaker.speaks(&wish.config, seen.installation).await));
                    notifier.night(night.1);
                }
            }
            () = wish.edge.stop.cancelled() => return,
        }
    }
}

type Looked = Result<(InstallationId, StatusReport), Failure>;

/// Looks at the whole fleet.
async fn look(edge: Edge) -> Looked {
    let look = async {
        let installation = Installation::open(&edge, Role::Restorer).await?;
        Ok((installation.vault.root().installation, status::of(&installation, edge.now()).await?))
    };
    tokio::select! {
        looked = tokio::time::timeout(LOOK_WITHIN, look) => looked.unwrap_or_else(|_| {
            let message = format!("the fleet could not be looked at within {} minutes", LOOK_WITHIN.as_secs() / 60);
            Err(Failure::new(FailureClass::Failed, "hangs", "fleet", message))
        }),
        () = edge.stop.cancelled() => {
            Err(Failure::new(FailureClass::Interrupted, "interrupted", "fleet", "stopped before it was through"))
        }
    }
}

impl Seen {
    /// What is to be told, with what the loop itself knows.
    fn with(&self, own: &[Alarm], speaks: bool) -> Look {
        let alarms = self.alarms.iter().chain(&self.blind).chain(own).cloned();
        Look { installation: self.installation.map(|id| id.to_string()), alarms: alarm::sorted(alarms), speaks }
    }

    /// Takes in what was seen; gives when to look again.
    fn take(&mut self, looked: Result<Looked, JoinError>, board: &Board) -> Duration {
        let failure = match looked {
            Ok(Ok((installation, status))) => {
                (self.installation, self.blind) = (Some(installation), None);
                self.alarms.clone_from(&status.alarms);
                board.status(status);
                return LOOK_EVERY;
            }
            Ok(Err(failure)) => failure,
            Err(error) => Failure::new(
                FailureClass::Failed,
                "panicked",
                "fleet",
                format!("the look at the fleet ended unexpectedly: {error}"),
            ),
        };
        // What was wrong before is not known to be over.
        if failure.class != FailureClass::Interrupted {
            tracing::error!(
                error.object = failure.object,
                "the fleet cannot be looked at: {} ({})",
                failure.one_line(),
                failure.hint
            );
            let message = format!("the fleet cannot be looked at: {}", failure.one_line());
            self.blind = Some(Alarm::new(AlarmKind::StoreUnreachable, &failure.object, message).hint(&failure.hint));
        }
        LOOK_AGAIN
    }
}

/// Of all workers the one that tells what is wrong: who has a lock that they share.
#[derive(Default)]
struct Speaker(Option<FleetLock>);

impl Speaker {
    /// Whether it is this one. Where no cluster answers each one speaks: better twice than never.
    async fn speaks(&mut self, config: &Config, installation: Option<InstallationId>) -> bool {
        let Some(installation) = installation else { return true };
        if self.0.as_ref().is_some_and(|lock| lock.lost().now_or_never().is_none()) {
            return true;
        }
        self.0 = None;
        let clusters = clusters::fleet(config).unwrap_or_default();
        let targets: Vec<_> = clusters.into_iter().map(|cluster| cluster.target).collect();
        let taken = FleetLock::take(&targets, &installation, "speaker").await;
        match taken {
            Ok(Some(lock)) => {
                self.0 = Some(lock);
                true
            }
            Ok(None) => false,
            Err(_) => true,
        }
    }
}

/// How a run ended, as far as somebody is told.
pub struct Ending {
    failed: Option<Alarm>,
    /// Of a backup: whether everybody is backed up.
    night: Option<bool>,
}

impl Ending {
    /// Of a run of this schedule.
    #[must_use]
    pub fn of(name: &str, action: Action, end: &JobEnd) -> Self {
        Self { failed: failed(name, end), night: (action == Action::Backup).then(|| is_good_night(end)) }
    }
}

/// For a worker that ends after its runs: tells what is wrong, and pings when all is well. Gives what did not get through.
pub async fn tell_once(edge: &Edge, config: &Arc<Config>, endings: Vec<Ending>, broken: Vec<Alarm>) -> Vec<Complaint> {
    let channels = open(config);
    if channels.is_empty() || (endings.is_empty() && broken.is_empty()) {
        return Vec::new();
    }
    let nights: Vec<bool> = endings.iter().filter_map(|ending| ending.night).collect();
    let mut seen = Seen::default();
    let looked = look(edge.for_run(Arc::clone(config), edge.stop.clone())).await;
    seen.take(Ok(looked), &Board::new(edge.now()));
    let own = endings.into_iter().filter_map(|ending| ending.failed).chain(broken);
    let alarms = alarm::sorted(seen.alarms.into_iter().chain(seen.blind).chain(own));
    let installation = seen.installation.map(|installation| installation.to_string());
    let is_good = !nights.is_empty() && nights.into_iter().all(|good| good);
    let told = channels.tell_once(installation.as_deref(), &alarms, is_good).await;
    let hint = "`tenure notify` tries each channel, and says what is wrong with it.";
    told.into_iter().filter_map(|(channel, told)| Some(Complaint::new(channel, told.err()?, hint))).collect()
}
