//! A connection on which nothing comes, and finding out whether anything still will.
//!
//! A statement may say nothing for hours and be at work: an index is built, a constraint is checked. So silence alone ends nothing. After
//! [`Patience::silence`] without a byte another connection asks the same server what became of the first one. That is given up, and what
//! waits for it fails, when
//!
//! - the server does not answer the other connection either, three times in a row: its host or its disk hangs, or the network swallows;
//! - its process waits for our next statement, and we for its answer: one of the two was lost on the way;
//! - its process waits to send or to get what does not pass between us;
//! - its process was there, and is gone;
//! - it has been at one statement for [`Patience::longest`].
//!
//! A server that answers and may not, or would not, tell is believed to be at work.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio_postgres::Client;

use super::{
    ConnectCause, ConnectError, Session, Target,
    pooler::process_id,
    session_settings::{NO_TIME_LIMITS, statements},
};

/// How long is waited for a server that says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// After so long without a byte it is looked into. Statements that have nothing to do but look are given up then. Shorter finds a dead
    /// connection earlier, and connects more often while indexes are built. 2 minutes: twice what keepalives take to begin.
    pub silence: Duration,
    /// No statement takes longer, whatever the server says of it: a process that hangs in the kernel is at work as well. 24 hours, as the
    /// longest run.
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { silence: Duration::from_secs(120), longest: Duration::from_secs(86_400) }
    }
}

/// A server that is connected and did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the server is connected and has not answered for {} s", .0.as_secs_f32())]
pub struct Silent(pub Duration);

/// So often in a row a doubt must be seen: one lost packet ends no index build.
const STRIKES: u32 = 3;

/// A server may wait so many times [`Patience::silence`] for rows that we fetch from a store: longer than a store is tried.
const FETCHING: u32 = 8;

/// What passed over a connection, by when.
#[derive(Clone)]
pub(super) struct Traffic(Arc<Marks>);

struct Marks {
    begin: Instant,
    /// Microseconds since `begin` at which the last byte came, and at which the last one went.
    heard: AtomicU64,
    said: AtomicU64,
    /// There was nothing to read when last looked.
    listening: AtomicBool,
    /// What was to be sent last did not pass.
    stuck: AtomicBool,
}

impl Traffic {
    pub fn new() -> Self {
        Self(Arc::new(Marks {
            begin: Instant::now(),
            heard: AtomicU64::new(0),
            said: AtomicU64::new(0),
            listening: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
        }))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.begin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Bytes came, or none were there.
    pub fn read(&self, came: bool) {
        if came {
            self.0.heard.store(self.now(), Ordering::Relaxed);
        }
        self.0.listening.store(!came, Ordering::Relaxed);
    }

    /// Bytes went, or did not pass.
    pub fn wrote(&self, went: bool) {
        if went {
            self.0.said.store(self.now(), Ordering::Relaxed);
        }
        self.0.stuck.store(!went, Ordering::Relaxed);
    }

    fn marks(&self) -> (u64, u64) {
        (self.0.heard.load(Ordering::Relaxed), self.0.said.load(Ordering::Relaxed))
    }

    fn since(&self, mark: u64) -> Duration {
        Duration::from_micros(self.now().saturating_sub(mark))
    }
}

/// What the server says of a connection's process.
struct Process {
    state: Option<String>,
    waits_for: Option<String>,
    /// For how long it has been in this state, and at its statement.
    since: Duration,
    statement: Duration,
}

/// What a look found.
enum Look {
    /// It may still answer.
    Working,
    /// Nothing seems to be owed.
    Idle,
    /// If it stays so, it is over.
    Doubtful(String),
    Over(&'static str),
}

/// Resolves, with why, when nothing will come over a session any more. `client` is the session's, and not kept.
pub(super) async fn watch(traffic: Traffic, target: Target, client: Weak<Client>) -> String {
    let Some(patience) = target.patience() else { return std::future::pending().await };
    let mut watcher = Watcher { traffic, target, patience, process: None, seen: false };
    let (mut strikes, mut idle) = (0, None);
    loop {
        let (heard, said) = watcher.traffic.marks();
        let quiet = watcher.traffic.since(heard.max(said));
        let listening = watcher.traffic.0.listening.load(Ordering::Relaxed);
        if quiet < patience.silence || !listening || idle == Some((heard, said)) {
            strikes = 0;
            tokio::time::sleep(patience.silence.saturating_sub(quiet).max(patience.silence / 8)).await;
            continue;
        }
        if watcher.process.is_none() {
            let Some(token) = client.upgrade().map(|client| client.cancel_token()) else { return std::future::pending().await };
            watcher.process = process_id::at_login(&token).await;
        }
        let look = watcher.look().await;
        if watcher.traffic.marks() != (heard, said) {
            continue;
        }
        let pause = match look {
            Look::Over(why) => return why.to_owned(),
            Look::Doubtful(why) => {
                strikes += 1;
                if strikes == STRIKES {
                    return why;
                }
                patience.silence / 4
            }
            Look::Working => {
                strikes = 0;
                patience.silence
            }
            Look::Idle => {
                // Something may be owed all the same: an answer to what was asked before may have come since. Whoever is idle answers at once,
                // in any transaction, and takes no snapshot for it.
                let Some(client) = client.upgrade() else { return std::future::pending().await };
                if tokio::time::timeout(patience.silence / 2, client.simple_query("")).await.is_ok() {
                    idle = Some(watcher.traffic.marks());
                }
                continue;
            }
        };
        tokio::time::sleep(pause).await;
    }
}

struct Watcher {
    traffic: Traffic,
    target: Target,
    patience: Patience,
    process: Option<i32>,
    seen: bool,
}

impl Watcher {
    async fn look(&mut self) -> Look {
        let found = match process(self.target.clone(), self.patience, self.process).await {
            Ok(found) => found,
            Err(why) => return Look::Doubtful(why),
        };
        let (heard, said) = self.traffic.marks();
        let (heard_ago, said_ago, asked) = (self.traffic.since(heard), self.traffic.since(said), said > heard);
        let Some(Process { state: Some(state), waits_for, since, statement }) = found else {
            return match found {
                None if self.seen => Look::Over("its process on the server is gone"),
                // Behind a pooler, or not to be seen by this role.
                _ if asked && said_ago > self.patience.longest => Look::Over("it has been at one statement for too long"),
                _ if asked => Look::Working,
                _ => Look::Idle,
            };
        };
        self.seen = true;
        let slack = (self.patience.silence / 2).min(Duration::from_secs(5));
        let is = |what: &str| waits_for.as_deref() == Some(what);
        if state.starts_with("idle") {
            return match since > slack && (asked || heard_ago > since + slack) {
                true => Look::Over("it waits for the next statement, and the answer to the last one did not come"),
                false if asked => Look::Working,
                false => Look::Idle,
            };
        }
        let stuck = self.traffic.0.stuck.load(Ordering::Relaxed);
        if is("ClientWrite") {
            Look::Doubtful("what it sends does not come through".to_owned())
        } else if is("ClientRead") && (stuck || said_ago > self.patience.silence * FETCHING) {
            Look::Doubtful("what was sent to it did not come through".to_owned())
        } else if state == "active" && statement > self.patience.longest {
            Look::Over("it has been at one statement for too long")
        } else {
            Look::Working
        }
    }
}

/// Asks over a connection of its own; no process where there is none, or none that may be seen.
///
/// # Errors
/// Why the server did not answer.
async fn process(target: Target, patience: Patience, pid: Option<i32>) -> Result<Option<Process>, String> {
    let sql = "SELECT a.state, a.wait_event, \
           pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.state_change), \
           pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - a.query_start) \
         FROM pg_catalog.pg_stat_activity a WHERE a.pid = $1 AND a.usename = SESSION_USER";
    let rows = ask(target, patience, async move |session: Session| session.query(sql, &[&pid.unwrap_or_default()]).await).await?;
    Ok(rows.unwrap_or_default().first().map(|row| {
        let seconds = |at| Duration::from_secs_f64(row.try_get::<_, Option<f64>>(at).ok().flatten().unwrap_or(0.0).max(0.0));
        let text = |at| row.try_get::<_, Option<String>>(at).ok().flatten();
        Process { state: text(0), waits_for: text(1), since: seconds(2), statement: seconds(3) }
    }))
}

/// Resolves, with why, when no connection of a program that bears this name has been at work for a while. For who waits for the
/// program: what it does besides is not seen.
pub(super) async fn child_stalls(target: Target, application: String) -> String {
    let Some(patience) = target.patience() else { return std::future::pending().await };
    let sql = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a \
         WHERE a.application_name = $1 AND (a.state IS NULL OR a.state = 'disabled' \
           OR a.state_change > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $2) \
           OR a.state = 'active' AND a.wait_event IS DISTINCT FROM 'ClientWrite' \
             AND a.query_start > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $3))";
    let (silence, longest) = (patience.silence.as_secs_f64(), patience.longest.as_secs_f64());
    loop {
        tokio::time::sleep(patience.silence).await;
        for strike in 1.. {
            let application = application.clone();
            let at_work = ask(target.clone(), patience, async move |session: Session| {
                let row = session.query_one(sql, &[&application, &silence, &longest]).await?;
                row.try_get::<_, i64>(0)
            });
            let why = match at_work.await {
                Ok(Some(0)) => "none of its connections is at work on the server".to_owned(),
                Ok(_) => break,
                Err(why) => why,
            };
            if strike == STRIKES {
                return why;
            }
            tokio::time::sleep(patience.silence / 4).await;
        }
    }
}

/// What a server says over a new connection to the maintenance database, where it disturbs nobody; `None` when it answers and refuses.
///
/// Boxed, because what it connects by is watched by this.
///
/// # Errors
/// Why it did not answer.
fn ask<T: Send + 'static, F>(
    target: Target,
    patience: Patience,
    question: impl FnOnce(Session) -> F + Send + 'static,
) -> BoxFuture<'static, Result<Option<T>, String>>
where
    F: Future<Output = Result<T, tokio_postgres::Error>> + Send,
{
    async move {
        let target = target.unwatched();
        let asked = async {
            let session = target.connect(target.maintenance_database(), "tenure look").await.map_err(Asked::Connect)?;
            session.batch_execute(&statements(&[&NO_TIME_LIMITS])).await.map_err(Asked::Query)?;
            question(session).await.map_err(Asked::Query)
        };
        match tokio::time::timeout(patience.silence.max(Duration::from_secs(1)), asked).await {
            Ok(Ok(answer)) => Ok(Some(answer)),
            Ok(Err(Asked::Connect(error))) if is_no_answer(&error.cause) => {
                Err(format!("the server does not answer another connection either ({})", error.cause))
            }
            Ok(Err(Asked::Query(error))) if error.as_db_error().is_none() => {
                Err("the server ends another connection without an answer".to_owned())
            }
            Ok(Err(_)) => Ok(None),
            Err(_) => Err("the server does not answer another connection either".to_owned()),
        }
    }
    .boxed()
}

enum Asked {
    Connect(ConnectError),
    Query(tokio_postgres::Error),
}

fn is_no_answer(cause: &ConnectCause) -> bool {
    matches!(cause, ConnectCause::Unreachable | ConnectCause::TimedOut { .. } | ConnectCause::BrokenOff)
}
