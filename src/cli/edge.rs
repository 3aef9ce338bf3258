//! What every command gets from the outside: options, clock, stop signal, configuration.

use std::{process::ExitCode, sync::Arc};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::{global::Global, output::Output};
use crate::{
    config::Config,
    observe::{progress, screen::Screen},
    operation::{
        backup::Room,
        failure::{Failure, FailureClass},
        progress::Progress,
    },
};

/// The outside, as a command sees it. Cheap to clone.
#[derive(Clone)]
pub struct Edge {
    /// Options.
    pub global: Global,
    /// Standard output.
    pub output: Output,
    /// Cancelled when the process was asked to stop.
    pub stop: CancellationToken,
    screen: Screen,
    /// The configuration, where it was read before.
    config: Option<Arc<Config>>,
    /// What this process's backups share.
    room: Option<Room>,
}

/// How a command that printed its report ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// The gravest thing in the report; `None` when all is well.
    pub worst: Option<FailureClass>,
}

impl Edge {
    /// Puts it together.
    #[must_use]
    pub fn new(global: Global, output: Output, screen: Screen, stop: CancellationToken) -> Self {
        Self { global, output, stop, screen, config: None, room: None }
    }

    /// The outside of one run of the worker: it goes by this configuration, whatever the file says meanwhile, and has a stop signal of its own.
    #[must_use]
    pub fn for_run(&self, config: Arc<Config>, stop: CancellationToken) -> Self {
        Self { config: Some(config), stop, ..self.clone() }
    }

    /// The same, in a room that other backups of this process share.
    #[must_use]
    pub fn in_room(self, room: Option<Room>) -> Self {
        Self { room, ..self }
    }

    /// What this process's backups share; `None`: nothing.
    #[must_use]
    pub fn room(&self) -> Option<Room> {
        self.room.clone()
    }

    /// Now. Read once by each command, so that a run has one time.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    /// Reads the configuration.
    ///
    /// # Errors
    /// Whatever is wrong with it.
    pub fn config(&self) -> Result<Config, Failure> {
        match &self.config {
            Some(config) => Ok(Config::clone(config)),
            None => Ok(Config::read(&self.global.config_file())?),
        }
    }

    /// Bars or lines.
    #[must_use]
    pub fn progress(&self) -> Arc<dyn Progress> {
        progress::for_screen(&self.screen).into()
    }

    /// Runs a command that only looks: it may be left at any moment, so a signal ends it at once.
    ///
    /// # Errors
    /// The command's own, or that it was stopped.
    pub async fn until_stopped(&self, command: impl Future<Output = Result<Ended, Failure>>) -> Result<Ended, Failure> {
        tokio::select! {
            ended = command => ended,
            () = self.stop.cancelled() => {
                Err(Failure::new(FailureClass::Interrupted, "interrupted", "tenure", "stopped before it was through"))
            }
        }
    }

    /// Prints a failure, and gives the exit code.
    #[must_use]
    pub fn finish(&self, ended: Result<Ended, Failure>) -> ExitCode {
        match ended {
            Ok(Ended { worst }) => ExitCode::from(worst.map_or(0, FailureClass::code)),
            Err(failure) => self.output.fail(&failure),
        }
    }
}
