//! What systemd is told, where it started the worker: that it is ready, reloads, stops, and that its loop turns.

use std::time::Duration;

use sd_notify::NotifyState;

/// systemd, or nobody.
pub struct System {
    /// How long it waits for a beat.
    watchdog: Option<Duration>,
}

impl System {
    /// As the environment says.
    #[must_use]
    pub fn new() -> Self {
        let mut microseconds = 0;
        let watchdog = sd_notify::watchdog_enabled(false, &mut microseconds).then(|| Duration::from_micros(microseconds));
        Self { watchdog }
    }

    /// How often it must be told that the loop turns.
    #[must_use]
    pub fn beats_within(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / 3)
    }

    /// The loop turned.
    pub fn beat(&self) {
        if self.watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// Ready to run what is due.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// Reads its configuration anew.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// Stops.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell; with it, the watchdog notices that nothing comes.
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::debug!("systemd cannot be told: {error}");
    }
}
