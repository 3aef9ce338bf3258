//! The process itself: what it must not leak, and how it stops.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::edge::Ended;
use crate::operation::failure::{Failure, FailureClass};

/// Files that this process makes are its user's alone, and its memory, which holds keys, is never written to a core dump.
pub fn harden() {
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    // Both only ever lower what is allowed; `check` looks at the result, so a kernel that refuses is seen there.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).ok();
    set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
}

/// The runtime, or a part of it, could not be started.
#[must_use]
pub fn no_runtime(error: std::io::Error) -> Failure {
    Failure::new(FailureClass::Failed, "no-runtime", "tenure", "cannot start")
        .hint("the system has run out of threads or file descriptors")
        .because(error)
}

/// SIGINT and SIGTERM. The first asks for a clean stop, the second ends the process at once.
pub struct Signals {
    stop: CancellationToken,
    /// Exit code that the first signal asks for; 0 until it comes.
    code: Arc<AtomicU8>,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn listen() -> std::io::Result<Self> {
        let signals = Self { stop: CancellationToken::new(), code: Arc::default() };
        for (kind, class) in
            [(SignalKind::interrupt(), FailureClass::Interrupted), (SignalKind::terminate(), FailureClass::Terminated)]
        {
            let mut incoming = signal(kind)?;
            let (stop, code) = (signals.stop.clone(), Arc::clone(&signals.code));
            tokio::spawn(async move {
                while incoming.recv().await.is_some() {
                    if code.swap(class.code(), Ordering::SeqCst) != 0 {
                        std::process::exit(class.code().into());
                    }
                    tracing::warn!("stopping cleanly; a second signal ends at once");
                    stop.cancel();
                }
            });
        }
        Ok(signals)
    }

    /// Cancelled by the first signal.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Whatever failed after a signal failed because of it.
    ///
    /// # Errors
    /// The failure given, under the signal's class.
    pub fn judge(&self, ended: Result<Ended, Failure>) -> Result<Ended, Failure> {
        let class = match self.code.load(Ordering::SeqCst) {
            0 => return ended,
            130 => FailureClass::Interrupted,
            _ => FailureClass::Terminated,
        };
        match ended {
            Ok(Ended { worst: None }) => Ok(Ended { worst: None }),
            Ok(Ended { worst: Some(_) }) => Ok(Ended { worst: Some(class) }),
            Err(failure) => Err(Failure { class, ..failure }),
        }
    }
}
