//! Telling somebody what is wrong: by webhook and e-mail; and by a ping, whose absence tells it when nothing else can.
//!
//! Each channel is a task of its own, with its own [`book`](book::Book) of what it was told. One that fails is tried again later and is
//! an alarm on the others; it holds up neither them nor the work.

pub mod book;
mod channels;
mod mail;
pub mod message;
mod secret;
mod web;

use std::{sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

pub use self::channels::Channels;
use self::{
    book::Book,
    channels::{Channel, PING, TRIES, by_chance, deliver},
    message::{Event, Message, Told},
};
use super::board::Board;
use crate::operation::alarm::{Alarm, AlarmKind, Severity};

/// How often a channel looks what is to be told when nobody says that anything changed: what is told again, and what is over, comes with time.
const TURN: Duration = Duration::from_secs(30);

/// The longest that a channel which fails is left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

/// Whether a night was good as a whole: everybody is backed up, nothing critical is wrong, and whoever should be told things can be.
fn was_good(all_is_well: bool, alarms: &[Alarm], is_a_channel_failing: bool) -> bool {
    all_is_well && !is_a_channel_failing && alarms.iter().all(|alarm| alarm.severity < Severity::Critical)
}

/// How a channel that failed is tried again: later and later.
#[derive(Default)]
struct Tries {
    failed: u32,
    not_before: Option<tokio::time::Instant>,
}

impl Tries {
    fn may(&self) -> bool {
        self.not_before.is_none_or(|when| when <= tokio::time::Instant::now())
    }

    fn note(&mut self, sent: &Result<(), String>) {
        if sent.is_ok() {
            *self = Self::default();
        } else {
            self.failed = self.failed.saturating_add(1);
            let pause = by_chance(LONGEST_PAUSE.min(TURN * (1 << self.failed.min(10))));
            self.not_before = Some(tokio::time::Instant::now() + pause);
        }
    }
}

/// What is wrong, as the worker saw it last.
#[derive(Clone, Default)]
pub struct Look {
    /// Id of the installation, where it is known.
    pub installation: Option<String>,
    /// All alarms that are on.
    pub alarms: Vec<Alarm>,
    /// Whether it is this worker that tells them; another one only notes that they were told.
    pub speaks: bool,
}

/// The channels at work. Dropped, they are at work no more.
pub struct Notifier {
    looks: watch::Sender<Option<Arc<Look>>>,
    nights: watch::Sender<Option<bool>>,
    board: Board,
    tasks: JoinSet<()>,
}

/// What all channels share.
#[derive(Clone)]
struct Shared {
    board: Board,
    repeat: TimeDelta,
    stop: CancellationToken,
}

impl Notifier {
    /// Starts a task for each channel, until `stop`.
    #[must_use]
    pub fn start(channels: Channels, board: Board, stop: CancellationToken) -> Self {
        let (looks, nights) = (watch::Sender::new(None), watch::Sender::new(None));
        let shared = Shared { board: board.clone(), repeat: channels.repeat, stop };
        let mut tasks = JoinSet::new();
        for channel in channels.messages.iter().chain(&channels.ping) {
            if let Some(why) = channel.broken() {
                board.channel(channel.name(), Err(why.to_owned()), Utc::now());
            }
        }
        for channel in channels.messages {
            let (name, channel, looks, shared) = (channel.name(), Arc::new(channel), looks.subscribe(), shared.clone());
            let run = move || tell(Arc::clone(&channel), looks.clone(), shared.clone());
            tasks.spawn(keep_alive(name, run, board.clone()));
        }
        if let Some(ping) = channels.ping {
            let (ping, nights, shared) = (Arc::new(ping), nights.subscribe(), shared.clone());
            tasks.spawn(keep_alive(
                PING,
                move || ping_after_nights(Arc::clone(&ping), nights.clone(), shared.clone()),
                board.clone(),
            ));
        }
        Self { looks, nights, board, tasks }
    }

    /// What is wrong now.
    pub fn look(&self, look: Look) {
        self.looks.send_replace(Some(Arc::new(look)));
    }

    /// A night ended, and whether every tenant is backed up; to be said after the [`look`](Self::look) that followed it. A ping goes out
    /// when nothing critical is wrong either, and whoever should be told things can be.
    pub fn night(&self, all_is_well: bool) {
        let failing = self.board.failing_channels().iter().any(|(name, _)| *name != PING);
        let is_good =
            self.looks.borrow().as_ref().is_some_and(|look| look.speaks && was_good(all_is_well, &look.alarms, failing));
        self.nights.send_replace(Some(is_good));
    }

    /// Channels at work.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.tasks.len()
    }
}

/// Runs a channel; one that panics is begun anew, and is a channel that failed.
async fn keep_alive<F: Future<Output = ()> + Send + 'static>(name: &'static str, run: impl Fn() -> F, board: Board) {
    board.has_channel(name);
    loop {
        let mut alone = JoinSet::new();
        alone.spawn(run());
        match alone.join_next().await {
            Some(Err(error)) if error.is_panic() => {
                tracing::error!(channel = name, "{name}: the channel's task panicked; it is begun anew");
                board.channel(name, Err("its task panicked".to_owned()), Utc::now());
                tokio::time::sleep(TURN).await;
            }
            _ => return,
        }
    }
}

async fn tell(channel: Arc<Channel>, mut looks: watch::Receiver<Option<Arc<Look>>>, shared: Shared) {
    let name = channel.name();
    let mut book = Book::new(shared.repeat);
    let mut tries = Tries::default();
    loop {
        tokio::select! {
            changed = looks.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(TURN) => {}
            () = shared.stop.cancelled() => return,
        }
        let Some(look) = looks.borrow_and_update().clone() else { continue };
        let mut alarms = look.alarms.clone();
        alarms.extend(failed_channels(&shared.board, name));
        let mut events = book.turn(&alarms, Utc::now());
        if !look.speaks {
            events.iter().for_each(|(event, told)| book.told(*event, told, Utc::now()));
            continue;
        }
        if !tries.may() {
            continue;
        }
        if events.is_empty() && tries.failed > 0 {
            // Nothing is left to say: what it missed was over soon. That it works again is worth a message, which shows that it does.
            let missed = failed(name, "messages did not get through for a while");
            events.push((Event::Resolved, vec![Told { alarm: missed, since: Utc::now() }]));
        }
        for (event, told) in events {
            let message = Message::new(look.installation.as_deref(), event, &told, Utc::now());
            let sent = tokio::select! {
                sent = deliver(TRIES, || channel.send(&message)) => sent,
                () = shared.stop.cancelled() => return,
            };
            note(name, &sent, &shared.board);
            tries.note(&sent);
            if sent.is_err() {
                break;
            }
            book.told(event, &told, Utc::now());
        }
    }
}

async fn ping_after_nights(ping: Arc<Channel>, mut nights: watch::Receiver<Option<bool>>, shared: Shared) {
    let mut tries = Tries::default();
    let mut is_due = false;
    loop {
        tokio::select! {
            changed = nights.changed() => {
                if changed.is_err() { return }
                is_due = nights.borrow_and_update().unwrap_or_default();
                tries = Tries::default();
            }
            () = tokio::time::sleep(TURN) => {}
            () = shared.stop.cancelled() => return,
        }
        if is_due && tries.may() {
            let sent = tokio::select! {
                sent = deliver(TRIES, || ping.ping()) => sent,
                () = shared.stop.cancelled() => return,
            };
            note(PING, &sent, &shared.board);
            tries.note(&sent);
            is_due = sent.is_err();
        }
    }
}

fn note(channel: &'static str, sent: &Result<(), String>, board: &Board) {
    match sent {
        Ok(()) => tracing::info!(channel, "{channel}: a message was taken"),
        Err(why) => tracing::warn!(channel, "{channel}: a message did not get through, and is tried again: {why}"),
    }
    board.channel(channel, sent.clone(), Utc::now());
}

/// The other channels that fail.
fn failed_channels(board: &Board, but: &str) -> Vec<Alarm> {
    let failing = board.failing_channels().into_iter().filter(|(name, _)| *name != but);
    failing.map(|(name, why)| failed(name, &why)).collect()
}

fn failed(channel: &str, why: &str) -> Alarm {
    Alarm::new(AlarmKind::ChannelFailed, channel, format!("{channel} does not take messages: {why}"))
        .hint("`tenure notify` tries each channel and says what is wrong with it.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_night_is_good_only_as_a_whole() {
        let warning = Alarm::new(AlarmKind::ClockSkew, "store", "it is late");
        let critical = Alarm::new(AlarmKind::TenantLate, "acme", "it is late");
        assert!(was_good(true, &[], false));
        assert!(was_good(true, std::slice::from_ref(&warning), false));
        assert!(!was_good(false, &[], false), "a tenant waits, or failed");
        assert!(!was_good(true, &[warning, critical], false));
        assert!(!was_good(true, &[], true), "nobody would hear of an alarm");
    }

    #[test]
    fn a_channel_that_fails_is_left_alone_longer_and_longer() {
        let mut tries = Tries::default();
        assert!(tries.may());
        for _ in 0..50 {
            tries.note(&Err("it is away".into()));
            assert!(!tries.may());
            assert!(tries.not_before.is_some_and(|when| when <= tokio::time::Instant::now() + LONGEST_PAUSE));
        }
        tries.note(&Ok(()));
        assert!(tries.may());
    }
}
