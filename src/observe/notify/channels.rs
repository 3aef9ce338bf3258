//! The channels that are configured, and one message through one of them.

use std::{path::PathBuf, time::Duration};

use chrono::{TimeDelta, Utc};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::{
    book::Book,
    mail::Mailer,
    message::{Event, Message},
    secret, was_good,
    web::Target,
};
use crate::{
    config::{Config, notify::SecretAt},
    operation::{alarm::Alarm, failure::Failure},
};

/// For one try.
const TRY_WITHIN: Duration = Duration::from_secs(30);

/// How often a message is tried at once; a test is tried once. A channel that is away for longer is tried again by [`Tries`](super::Tries).
pub(super) const TRIES: u32 = 3;

/// Why a message did not get through. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(super) struct SendError {
    text: String,
    /// Whether the same may succeed a little later.
    passing: bool,
}

impl SendError {
    pub(super) fn passing(text: String) -> Self {
        Self { text, passing: true }
    }

    pub(super) fn lasting(text: String) -> Self {
        Self { text, passing: false }
    }
}

/// What is configured, with its secrets.
pub struct Channels {
    pub(super) messages: Vec<Channel>,
    pub(super) ping: Option<Channel>,
    pub(super) repeat: TimeDelta,
    /// Of everything that was configured and read.
    fingerprint: [u8; 32],
}

pub(super) enum Channel {
    /// The webhook, or the ping.
    Web(&'static str, Target),
    Email(Box<Mailer>),
    /// Which one, and why it cannot be used.
    Broken(&'static str, String),
}

/// The name of the ping among the channels.
pub(super) const PING: &str = "ping";

impl Channel {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Web(name, _) | Self::Broken(name, _) => name,
            Self::Email(_) => "email",
        }
    }

    fn secret(&self) -> &[u8] {
        match self {
            Self::Web(_, target) => target.secret(),
            Self::Email(mailer) => mailer.secret(),
            Self::Broken(_, why) => why.as_bytes(),
        }
    }

    fn shown(&self) -> &str {
        match self {
            Self::Web(_, target) => &target.shown,
            Self::Email(mailer) => &mailer.shown,
            Self::Broken(..) => "nowhere",
        }
    }

    pub(super) async fn send(&self, message: &Message) -> Result<(), SendError> {
        match self {
            Self::Web(_, target) => {
                let json = serde_json::to_vec(message).map_err(|error| SendError::lasting(error.to_string()))?;
                target.post(json).await
            }
            Self::Email(mailer) => mailer.send(message).await,
            Self::Broken(_, why) => Err(SendError::lasting(why.clone())),
        }
    }

    /// Asks for the URL, and says nothing.
    pub(super) async fn ping(&self) -> Result<(), SendError> {
        match self {
            Self::Web(_, target) => target.get().await,
            Self::Broken(_, why) => Err(SendError::lasting(why.clone())),
            Self::Email(_) => Err(SendError::lasting("mail is no ping".to_owned())),
        }
    }

    /// Why it cannot be used, where it cannot.
    pub(super) fn broken(&self) -> Option<&str> {
        match self {
            Self::Broken(_, why) => Some(why),
            _ => None,
        }
    }
}

impl Channels {
    /// Reads secrets; asks nobody. A channel that cannot be used fails whenever it is used, so that it is noticed and stops nothing else; why
    /// is given, too.
    #[must_use]
    pub fn open(config: &Config) -> (Self, Vec<Failure>) {
        let notify = &config.notify;
        let mut failures = Vec::new();
        let mut usable = |name, opened: Result<Channel, Failure>| {
            opened.unwrap_or_else(|failure| {
                let why = failure.one_line();
                failures.push(failure);
                Channel::Broken(name, why)
            })
        };
        let target = |channel, file: &Option<PathBuf>, variable: &Option<String>, ca_file: &Option<PathBuf>| {
            let missing = || secret::refused(channel, format!("[notify.{channel}] has no URL"));
            let at = SecretAt::of(file.as_ref(), variable.as_ref()).ok_or_else(missing)?;
            Ok(Channel::Web(channel, Target::open(channel, at, ca_file.as_deref(), &config.folder)?))
        };
        let webhook = notify.webhook.as_ref().map(|at| target("webhook", &at.url_file, &at.url_env, &at.ca_file));
        let email = notify.email.as_ref().map(|email| Ok(Channel::Email(Box::new(Mailer::open(email, &config.folder)?))));
        let ping = notify.ping.as_ref().map(|at| target(PING, &at.url_file, &at.url_env, &at.ca_file));
        let messages: Vec<Channel> = webhook
            .map(|opened| usable("webhook", opened))
            .into_iter()
            .chain(email.map(|opened| usable("email", opened)))
            .collect();
        let ping = ping.map(|opened| usable(PING, opened));
        let mut digest = Sha256::new();
        digest.update(serde_json::to_vec(notify).unwrap_or_default());
        for secret in messages.iter().map(Channel::secret).chain(ping.iter().map(Channel::secret)) {
            digest.update((secret.len() as u64).to_le_bytes());
            digest.update(secret);
        }
        let repeat = TimeDelta::from_std(notify.repeat.get()).unwrap_or(TimeDelta::MAX);
        (Self { messages, ping, repeat, fingerprint: digest.finalize().into() }, failures)
    }

    /// Of everything that was configured and read: with another one, begin anew.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.ping.is_none()
    }

    /// Each channel with where it leads, without secrets.
    #[must_use]
    pub fn shown(&self) -> Vec<(&'static str, String)> {
        self.messages.iter().chain(&self.ping).map(|channel| (channel.name(), channel.shown().to_owned())).collect()
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
            told.push((PING, deliver(TRIES, || ping.ping()).await));
        }
        told
    }
}

/// Tries as often, apart by chance.
pub(super) async fn deliver<F: Future<Output = Result<(), SendError>>>(tries: u32, send: impl Fn() -> F) -> Result<(), String> {
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
pub(super) fn by_chance(limit: Duration) -> Duration {
    let mut random = [0; 4];
    // Without randomness the limit itself serves as well.
    let part = getrandom::fill(&mut random).map_or(1.0, |()| f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX));
    limit.mul_f64(part.midpoint(1.0))
}
