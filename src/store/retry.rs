//! Trying again: the only place that does.
//!
//! Every call of a store may be repeated: reads and deletes as they are, a replacing PUT because it writes the same bytes, and a
//! create-only PUT because it compares what it finds. So whether a failure may pass is all that decides.

use std::time::{Duration, Instant};

use super::{StoreError, StoreErrorKind};

/// How long and how often a store is tried. The defaults suit a busy line; tests use shorter ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// For a connection, TLS included. Default 10 s.
    pub connect: Duration,
    /// For one try without its bytes. Default 30 s.
    pub answer: Duration,
    /// Bytes of a body a second that one try is granted beyond `answer`. Default 32 KiB: eight uploads on a line of 2 Mbit/s.
    pub slowest: u32,
    /// How often. Default 8; 1 never tries again.
    pub tries: u32,
    /// After which no further try is begun. Default 5 minutes.
    pub total: Duration,
    /// Longest wait before the second try; it doubles from try to try up to [`Limits::longest_wait`]. Default 200 ms.
    pub first_wait: Duration,
    /// Default 15 s.
    pub longest_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            slowest: 32 << 10,
            tries: 8,
            total: Duration::from_secs(300),
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(15),
        }
    }
}

impl Limits {
    /// For one try that carries `bytes`.
    pub(super) fn for_body(&self, bytes: u64) -> Duration {
        self.answer + Duration::from_secs(bytes / u64::from(self.slowest.max(1)))
    }

    /// At random up to a limit that doubles, so that those who failed together do not come back together.
    fn wait(&self, failed_tries: u32) -> Duration {
        let limit = self.longest_wait.min(self.first_wait.saturating_mul(1 << failed_tries.saturating_sub(1).min(20)));
        let mut random = [0; 4];
        // Without randomness the limit itself serves as well.
        match getrandom::fill(&mut random) {
            Ok(()) => limit.mul_f64(f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX)),
            Err(_) => limit,
        }
    }
}

/// One failed try.
#[derive(Debug)]
pub(super) struct Failure {
    pub kind: StoreErrorKind,
    /// Whether the same call may succeed a little later.
    pub passing: bool,
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    pub fn lasting(kind: StoreErrorKind, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind, passing: false, source: Some(source.into()) }
    }

    pub fn passing(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind: StoreErrorKind::Unavailable, passing: true, source: Some(source.into()) }
    }
}

impl From<StoreErrorKind> for Failure {
    fn from(kind: StoreErrorKind) -> Self {
        Self { kind, passing: false, source: None }
    }
}

/// What is called, for messages.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub operation: &'static str,
    pub address: &'a str,
    pub name: &'a str,
}

impl Call<'_> {
    pub fn failed(&self, failure: Failure) -> StoreError {
        let source = failure.source;
        StoreError { source, ..StoreError::at_once(self.operation, self.address, self.name, failure.kind) }
    }

    fn log_again(&self, failure: &Failure, attempts: u32, wait: Duration) {
        let Self { operation, address, name } = self;
        let error = failure.source.as_deref().map(|error| error as &dyn std::error::Error);
        tracing::debug!(
            store.attempts = attempts,
            wait_ms = wait.as_millis(),
            error,
            "{operation} {address}/{name} is tried again"
        );
    }
}

/// Calls `once` with 1, 2, … until it succeeds, fails for good, or the limits are reached.
pub(super) async fn retry<T, F>(limits: &Limits, call: Call<'_>, mut once: impl FnMut(u32) -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, Failure>>,
{
    let begin = Instant::now();
    let mut attempts = 1;
    loop {
        let failure = match once(attempts).await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        let wait = limits.wait(attempts);
        let elapsed = begin.elapsed();
        if !failure.passing || attempts >= limits.tries || elapsed + wait >= limits.total {
            return Err(StoreError { attempts, elapsed, ..call.failed(failure) });
        }
        call.log_again(&failure, attempts, wait);
        tokio::time::sleep(wait).await;
        attempts += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: Call<'_> = Call { operation: "get", address: "s3://bucket", name: "a" };

    fn limits() -> Limits {
        Limits { first_wait: Duration::from_micros(10), tries: 4, ..Limits::default() }
    }

    #[tokio::test]
    async fn what_passes_is_tried_until_it_succeeds_or_the_tries_are_used_up() {
        let done = retry(&limits(), CALL, |n| async move { if n < 4 { Err(Failure::passing("busy")) } else { Ok(n) } }).await;
        assert_eq!(done.unwrap(), 4);
        let failed = retry(&limits(), CALL, |_| async { Err::<(), _>(Failure::passing("busy")) }).await;
        assert_eq!(failed.unwrap_err().attempts, 4);
    }

    #[tokio::test]
    async fn what_lasts_is_tried_once() {
        let failed = retry(&limits(), CALL, |_| async { Err::<(), _>(StoreErrorKind::Denied.into()) }).await.unwrap_err();
        assert_eq!((failed.attempts, failed.kind), (1, StoreErrorKind::Denied));
    }

    #[tokio::test]
    async fn no_try_begins_after_the_total_time() {
        let limits = Limits { total: Duration::ZERO, ..limits() };
        assert_eq!(retry(&limits, CALL, |_| async { Err::<(), _>(Failure::passing("busy")) }).await.unwrap_err().attempts, 1);
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let limits = Limits::default();
        for tries in 1..100 {
            let longest = Duration::from_millis(200 << (tries - 1).min(20)).min(limits.longest_wait);
            assert!(limits.wait(tries) <= longest);
        }
    }

    #[test]
    fn a_body_gets_time_by_its_length() {
        assert_eq!(Limits::default().for_body(0), Duration::from_secs(30));
        assert_eq!(Limits::default().for_body(20 << 20), Duration::from_secs(30 + 640));
    }
}
