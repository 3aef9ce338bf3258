//! Telling somebody what is wrong: by webhook and e-mail; and by a ping, whose absence tells it when nothing else can.
//!
//! Each channel is a task of its own, with its own [`book`](book::Book) of what it was told. One that fails is tried again later and is
//! an alarm on the others; it holds up neither them nor the work.

pub mod book;
mod mail;
pub mod message;
mod secret;
mod web;

use std::{sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use tokio::{sync::watch, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use self::{
    book::Book,
    mail::Mailer,
    message::{Event, Message, Told},
    web::Target,
};
use super::board::Board;
use crate::{
    config::{Config, notify::SecretAt},
    operation::{
        alarm::{Alarm, AlarmKind, Severity},
        failure::Failure,
    },
};

/// For one try.
const TRY_WITHIN: Duration = Duration::from_secs(30);

/// How often a message is tried at once; a test is tried once. A channel that is away for longer is tried again by [`Tries`].
const TRIES: u32 = 3;

/// How often a channel looks what is to be told when nobody says that anything changed: what is told again, and what is over, comes with time.
const TURN: Duration = Duration::from_secs(30);

/// The longest that a channel which fails is left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);

/// Why a message did not get through. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
struct SendError {
    text: String,
    /// Whether the same may succeed a little later.
    passing: bool,
}

impl SendError {
    fn passing(text: String) -> Self {
        Self { text, passing: true }
    }

    fn lasting(text: String) -> Self {
        Self { text, passing: false }
    }
}

/// What is configured, with its secrets.
pub struct Channels {
    messages: Vec<Channel>,
    ping: Option<Target>,
    repeat: TimeDelta,
}

enum Channel {
    Webhook(Target),
    Email(Box<Mailer>),
}

/// The name of the ping among the channels.
const PING: &str = "ping";

impl Channel {
    fn name(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Email(_) => "email",
        }
    }

    fn shown(&self) -> &str {
        match self {
            Self::Webhook(target) => &target.shown,
            Self::Email(mailer) => &mailer.shown,
        }
    }

    async fn send(&self, message: &Message) -> Result<(), SendError> {
        match self {
            Self::Webhook(target) => {
                let json = serde_json::to_vec(message).map_err(|error| SendError::lasting(error.to_string()))?;
                target.post(json).await
            }
            Self::Email(mailer) => mailer.send(message).await,
        }
    }
}

impl Channels {
    /// Reads secrets; asks nobody.
    ///
    /// # Errors
    /// One that cannot be read, or is none that can be used.
    pub fn open(config: &Config) -> Result<Self, Failure> {
        let notify = &config.notify;
        let target = |channel, file: &Option<_>, variable: &Option<_>, ca_file: &Option<std::path::PathBuf>| {
            let at = SecretAt::of(file.as_ref(), variable.as_ref());
            at.map(|at| Target::open(channel, at, ca_file.as_deref(), &config.folder)).transpose()
        };
        let mut messages = Vec::new();
        if let Some(webhook) = &notify.webhook {
            messages.extend(target("webhook", &webhook.url_file, &webhook.url_env, &webhook.ca_file)?.map(Channel::Webhook));
        }
        if let Some(email) = &notify.email {
            messages.push(Channel::Email(Box::new(Mailer::open(email, &config.folder)?)));
        }
        let ping = match &notify.ping {
            Some(ping) => target(PING, &ping.url_file, &ping.url_env, &ping.ca_file)?,
            None => None,
        };
        Ok(Self { messages, ping, repeat: TimeDelta::from_std(notify.repeat.get()).unwrap_or(TimeDelta::MAX) })
    }

    /// Each channel with where it leads, without secrets.
    #[must_use]
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        let messages = self.messages.iter().map(|channel| (channel.name(), channel.shown().to_owned()));
        messages.chain(self.ping.iter().map(|ping| (PING, ping.shown.clone()))).collect()
    }

    /// Sends a test through each channel for messages, all at once. A ping would say that a night was good: it is not sent.
    ///
    /// # Errors
    /// For each channel, why nothing got through.
    pub async fn test(&self, installation: Option<&str>) -> Vec<(&'static str, Result<(), String>)> {
        let message = Message::new(installation, Event::Test, &[], Utc::now());
        let tests = self.messages.iter().map(async |channel| (channel.name(), deliver(1, || channel.send(&message)).await));
        futures_util::future::join_all(tests).await
    }

    /// For a worker that ends after its run and remembers nothing: tells what is wrong now, and pings after a good night.
    ///
    /// # Errors
    /// For each channel that had something to say, why it did not get through.
    pub async fn tell_once(
        &self,
        installation: Option<&str>,
        alarms: &[Alarm],
        all_is_well: bool,
    ) -> Vec<(&'static str, Result<(), String>)> {
        let now = Utc::now();
        let events = Book::new(self.repeat).turn(alarms, now);
        let mut told = Vec::new();
        for (event, alarms) in events {
            let message = Message::new(installation, event, &alarms, now);
            let sent =
                self.messages.iter().map(async |channel| (channel.name(), deliver(TRIES, || channel.send(&message)).await));
            told.extend(futures_util::future::join_all(sent).await);
        }
        let failing = told.iter().any(|(_, sent)| sent.is_err());
        if let Some(ping) = self.ping.as_ref().filter(|_| was_good(all_is_well, alarms, failing)) {
            told.push((PING, deliver(TRIES, || ping.get()).await));
        }
        told
    }
}

/// Whether a night was good as a whole: everybody is backed up, nothing critical is wrong, and whoever should be told things can be.
fn was_good(all_is_well: bool, alarms: &[Alarm], is_a_channel_failing: bool) -> bool {
    all_is_well && !is_a_channel_failing && alarms.iter().all(|alarm| alarm.severity < Severity::Critical)
}

/// Tries as often, apart by chance.
async fn deliver<F: Future<Output = Result<(), SendError>>>(tries: u32, send: impl Fn() -> F) -> Result<(), String> {
    let mut tried = 1;
    loop {
        let sent = timeout(TRY_WITHIN, send()).await;
        let error = match sent {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => SendError::passing(format!("no answer within {} s", TRY_WITHIN.as_secs())),
        };
        if !error.passing || tried == tries {
            let times = if tried > 1 { format!(" (tried {tried} times)") } else { String::new() };
            return Err(format!("{error}{times}"));
        }
        tokio::time::sleep(by_chance(Duration::from_secs(1 << tried))).await;
        tried += 1;
    }
}

/// Between half of it and all: many workers that failed together do not come back together.
fn by_chance(limit: Duration) -> Duration {
    let mut random = [0; 4];
    // Without randomness the limit itself serves as well.
    let part = getrandom::fill(&mut random).map_or(1.0, |()| f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX));
    limit.mul_f64(part.midpoint(1.0))
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
struct Look {
    alarms: Arc<Vec<Alarm>>,
    speaks: bool,
}

/// The channels at work. Dropped, they are at work no more.
pub struct Notifier {
    looks: watch::Sender<Option<Look>>,
    nights: watch::Sender<Option<bool>>,
    board: Board,
    tasks: JoinSet<()>,
}

/// What all channels share.
#[derive(Clone)]
struct Shared {
    installation: Option<Arc<str>>,
    board: Board,
    repeat: TimeDelta,
    stop: CancellationToken,
}

impl Notifier {
    /// Starts a task for each channel, until `stop`.
    #[must_use]
    pub fn start(channels: Channels, installation: Option<&str>, board: Board, stop: CancellationToken) -> Self {
        let (looks, nights) = (watch::Sender::new(None), watch::Sender::new(None));
        let shared = Shared { installation: installation.map(Arc::from), board: board.clone(), repeat: channels.repeat, stop };
        let mut tasks = JoinSet::new();
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

    /// What is wrong now. `speaks`: whether it is this worker that tells it; another one only notes that it was told.
    pub fn look(&self, alarms: Vec<Alarm>, speaks: bool) {
        self.looks.send_replace(Some(Look { alarms: Arc::new(alarms), speaks }));
    }

    /// A night ended, and whether every tenant is backed up; to be said after the [`look`](Self::look) that followed it. A ping goes out
    /// when nothing critical is wrong either, and whoever should be told things can be.
    pub fn night(&self, all_is_well: bool) {
        let alarms = self.looks.borrow().as_ref().map(|look| Arc::clone(&look.alarms)).unwrap_or_default();
        let failing = self.board.failing_channels().iter().any(|(name, _)| *name != PING);
        self.nights.send_replace(Some(was_good(all_is_well, &alarms, failing)));
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

async fn tell(channel: Arc<Channel>, mut looks: watch::Receiver<Option<Look>>, shared: Shared) {
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
        let mut alarms = look.alarms.to_vec();
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
            let message = Message::new(shared.installation.as_deref(), event, &told, Utc::now());
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

async fn ping_after_nights(ping: Arc<Target>, mut nights: watch::Receiver<Option<bool>>, shared: Shared) {
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
                sent = deliver(TRIES, || ping.get()) => sent,
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
