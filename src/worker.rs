//! The worker: a process that runs schedules for years. Each run is a task of its own, with its role's credentials; what happens to it is
//! that run's outcome and nothing else's.

pub mod job;
mod orders;
mod shift;
mod system;
mod watch;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    task::{Id, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use self::{
    job::{JobEnd, Run, shown},
    shift::{Shift, Task},
    system::System,
    watch::Watch,
};
pub use self::{
    orders::Orders,
    shift::Job,
    watch::{Ending, tell_once},
};
use crate::{
    cli::{
        clusters,
        edge::{Edge, Ended},
    },
    config::{Config, schedule::Action},
    id::RecordId,
    observe::{board::Board, http::Server},
    operation::{
        backup::Room,
        failure::{Failure, FailureClass},
    },
};

/// The loop turns at least so often: the clock may have jumped.
const TURN: Duration = Duration::from_secs(30);

/// A run at work.
struct Running {
    name: String,
    action: Action,
    began: Instant,
    stop: CancellationToken,
    /// When it is stopped, and by when it is given up.
    deadline: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// One worker.
struct Worker<'a> {
    edge: &'a Edge,
    orders: Orders,
    shift: Shift,
    board: Board,
    system: System,
    watch: Watch,
    /// What backups at the same time share, by the configuration that counts.
    room: Option<(Arc<Config>, Room)>,
    id: RecordId,
    tasks: JoinSet<JobEnd>,
    running: HashMap<Id, Running>,
}

/// A random number.
fn random() -> u64 {
    let bytes = RecordId::random().0;
    u64::from_be_bytes(bytes[..8].try_into().expect("eight of sixteen bytes"))
}

/// Runs the schedules with these names, or all, until the process is asked to stop.
///
/// # Errors
/// What keeps it from beginning: the configuration, no schedule, an address that cannot be listened on.
pub async fn run(edge: &Edge, names: &[String]) -> Result<Ended, Failure> {
    let orders = Orders::read(&edge.global.config_file(), names)?;
    let mut reload = signal(SignalKind::hangup()).map_err(cli_process_error)?;
    let board = Board::new(edge.now());
    let configured = &orders.config.worker;
    if let Some(server) = Server::bind(configured.listen).await? {
        tokio::spawn(server.serve(board.clone(), configured.tenant_metrics, edge.stop.clone()));
    }
    let watch = Watch::start(edge, &orders.config, board.clone());
    let mut worker = Worker {
        edge,
        orders,
        shift: Shift::new(random),
        board,
        system: System::new(),
        watch,
        room: None,
        id: RecordId::random(),
        tasks: JoinSet::new(),
        running: HashMap::new(),
    };
    worker.follow_orders();
    worker.board.ready(Ok(()));
    worker.system.ready();
    tracing::info!(worker.id = %worker.id, "ready");
    while !edge.stop.is_cancelled() {
        worker.turn();
        tokio::select! {
            () = tokio::time::sleep(worker.until_next_turn()) => {}
            Some(ended) = worker.tasks.join_next_with_id() => worker.ended(ended),
            Some(()) = reload.recv() => worker.reload(),
            () = edge.stop.cancelled() => {}
        }
    }
    worker.stop().await;
    Ok(Ended { worst: None })
}

fn cli_process_error(error: std::io::Error) -> Failure {
    crate::cli::process::no_runtime(error)
}

impl Worker<'_> {
    /// Looks at the clock, and does what it asks for.
    fn turn(&mut self) {
        let now = self.edge.now();
        self.board.beat(now);
        self.system.beat();
        let tasks = self.shift.tick(now);
        // What is begun now goes by what the files say now.
        let tasks = if !tasks.is_empty() && self.orders.have_changed() {
            self.reload();
            let is_on = |task: &Task| {
                let (Task::Begin(job) | Task::Missed(job)) = task;
                self.orders.schedules().find(|schedule| schedule.name == job.schedule.name && schedule.enabled).cloned()
            };
            let anew = |task: Task| {
                let schedule = is_on(&task)?;
                Some(match task {
                    Task::Begin(job) => Task::Begin(Job { schedule, ..job }),
                    Task::Missed(job) => Task::Missed(Job { schedule, ..job }),
                })
            };
            let (kept, gone): (Vec<Task>, Vec<Task>) = tasks.into_iter().partition(|task| is_on(task).is_some());
            for task in gone {
                let (Task::Begin(job) | Task::Missed(job)) = task;
                self.shift.ended(&job.schedule.name);
            }
            kept.into_iter().filter_map(anew).collect()
        } else {
            tasks
        };
        for task in tasks {
            match task {
                Task::Begin(job) => self.begin(job),
                Task::Missed(job) => self.missed(job),
            }
        }
        self.board.schedules(self.shift.schedules(now).map(|(schedule, next)| (schedule.name.as_str(), schedule.action, next)));
        self.see_to_deadlines(now);
    }

    fn run_of(&self, job: Job, stop: CancellationToken) -> Run {
        let room = self.room.as_ref().map(|(_, room)| room.clone());
        let edge = self.edge.for_run(Arc::clone(&self.orders.config), stop).in_room(room);
        Run { job, edge, worker: self.id, id: RecordId::random() }
    }

    fn begin(&mut self, job: Job) {
        let (name, action) = (job.schedule.name.clone(), job.schedule.action);
        let stop = self.edge.stop.child_token();
        let abandon_after = self.orders.config.worker.stop_within.get();
        let deadline = job.slot.deadline.map(|deadline| (deadline, deadline + abandon_after));
        let due_at = job.slot.due_at;
        let run = self.run_of(job, stop.clone());
        let span = tracing::info_span!("run", run.id = %run.id, schedule.name = name);
        span.in_scope(|| tracing::info!(due_at = %shown(due_at), "{name}: begins the {} of {}", action.name(), shown(due_at)));
        self.board.run_began(&name);
        // A thread of its own: whatever a run does, the loop turns.
        let runtime = Handle::current();
        let task = self.tasks.spawn_blocking(move || runtime.block_on(run.run().instrument(span)));
        self.running.insert(task.id(), Running { name, action, began: Instant::now(), stop, deadline });
    }

    /// Says what is left undone by a time whose window is over.
    fn missed(&mut self, job: Job) {
        let (name, now) = (job.schedule.name.clone(), self.edge.now());
        let (slot, next) = (job.slot.clone(), job.schedule.next(now));
        let next = next.map_or_else(|| "never".to_owned(), shown);
        let over = format!("{name}: the time to begin what was due at {} was over at {}", shown(slot.due_at), shown(slot.until));
        if job.schedule.action != Action::Backup {
            tracing::warn!("{over}; it comes next at {next}");
            return;
        }
        let run = self.run_of(job, self.edge.stop.child_token());
        // Told apart from runs: nothing is begun, and nobody waits for it.
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || match runtime.block_on(run.count_due()) {
            Ok(0) => tracing::info!("{over}, and every tenant has been backed up since"),
            Ok(due) => tracing::warn!(
                tenants = due,
                "{over}, and {due} tenants are due; their turn comes at {next}; `tenure backup --all` does it now"
            ),
            Err(failure) => tracing::error!("{over}; how many tenants are due cannot be said: {}", failure.one_line()),
        });
    }

    fn see_to_deadlines(&mut self, now: DateTime<Utc>) {
        let mut given_up = Vec::new();
        for (id, running) in &self.running {
            let Some((deadline, give_up)) = running.deadline else { continue };
            if now >= deadline && !running.stop.is_cancelled() {
                tracing::error!(
                    schedule.name = running.name,
                    "{}: its deadline has come: what still runs is stopped",
                    running.name
                );
                running.stop.cancel();
            }
            if now >= give_up {
                given_up.push(*id);
            }
        }
        for id in given_up {
            let Some(running) = self.running.remove(&id) else { continue };
            // The task is left behind: it may hang where nothing ends it. Its tenants' locks keep others out of its way.
            tracing::error!(schedule.name = running.name, "{}: does not stop, and is given up", running.name);
            let message = format!("its deadline came, and it did not stop: the run of schedule {} was given up", running.name);
            let end = Failure::new(FailureClass::Failed, "hangs", &running.name, message).into();
            self.watch.ended(&running.name, running.action, &end);
            self.board.run_ended(&running.name, end.class, now);
            self.shift.ended(&running.name);
        }
    }

    fn ended(&mut self, ended: Result<(Id, JobEnd), tokio::task::JoinError>) {
        let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
        let Some(running) = self.running.remove(&id) else { return };
        let name = running.name;
        let mut end = match ended {
            Ok((_, end)) => end,
            Err(error) => {
                let message = format!("the run of schedule {name} ended unexpectedly: {error}");
                Failure::new(FailureClass::Failed, "panicked", &name, message).hint("The log says where. This is a bug.").into()
            }
        };
        if end.class == Some(FailureClass::Interrupted) && !self.edge.stop.is_cancelled() {
            // It was its deadline that stopped it: that is a failure, and no wish of anybody.
            end.class = Some(FailureClass::Failed);
        }
        say(&name, &end, running.began.elapsed());
        for result in &end.results {
            let took = Duration::from_millis(result.duration_ms);
            self.board.backup_ended(&result.tenant, result.outcome, took, result.bytes_read, result.bytes_stored);
        }
        self.board.run_ended(&name, end.class, self.edge.now());
        self.watch.ended(&name, running.action, &end);
        self.shift.ended(&name);
        if let Some(waiting) = end.tenants.map(|tally| tally.waiting).filter(|waiting| *waiting > 0) {
            let next =
                self.shift.schedules(self.edge.now()).find(|(schedule, _)| schedule.name == name).and_then(|(_, next)| next);
            let next = next.map_or_else(|| "the next time".to_owned(), shown);
            tracing::warn!(
                tenants = waiting,
                "{name}: the window ended before {waiting} tenants were begun; they are first at {next}"
            );
        }
    }

    /// Reads the configuration and the schedules anew. What is broken stays as it was.
    fn reload(&mut self) {
        self.system.reloading();
        self.orders.read_again();
        if self.orders.broken.is_empty() {
            tracing::info!("the configuration and the schedules were read anew");
        }
        self.follow_orders();
        self.system.ready();
    }

    fn follow_orders(&mut self) {
        for (file, failure) in &self.orders.broken {
            tracing::error!(
                error.hint = failure.hint,
                "{}: what was read before goes on: {}{}",
                file.display(),
                failure.one_line(),
                in_brackets(&failure.hint)
            );
        }
        self.shift.take(self.orders.schedules().cloned());
        let broken = self.orders.broken.iter().map(|(file, failure)| (file.display().to_string(), failure));
        let is_on = |name: &str| self.orders.schedules().any(|schedule| schedule.enabled && schedule.name == name);
        self.watch.follow(self.edge, &self.orders.config, broken, is_on);
        let config = &self.orders.config;
        if self.room.as_ref().is_none_or(|(of, _)| of != config) {
            // Where the configuration cannot be used a run says it, and needs no room.
            let clusters = clusters::fleet(config).ok();
            let room = clusters.map(|clusters| Room::new(config.limits.jobs as usize, &clusters));
            self.room = room.map(|room| (Arc::clone(config), room));
        }
        let (now, mut any) = (self.edge.now(), false);
        for (schedule, next) in self.shift.schedules(now) {
            any = true;
            let next = next.map_or_else(|| "never".to_owned(), shown);
            tracing::info!(schedule.name = schedule.name, "{}: {} next at {next}", schedule.name, schedule.action.name());
        }
        if !any {
            tracing::warn!("no schedule is on: nothing will be done");
        }
    }

    fn until_next_turn(&self) -> Duration {
        let now = self.edge.now();
        let next = self.shift.next(now).and_then(|next| (next - now).to_std().ok()).unwrap_or(TURN);
        next.min(TURN).min(self.system.beats_within().unwrap_or(TURN)).max(Duration::from_millis(10))
    }

    /// Everything at hand is stopped, for so long as it may take.
    async fn stop(&mut self) {
        self.board.ready(Err("the worker is stopping".to_owned()));
        self.system.stopping();
        let within = self.orders.config.worker.stop_within.get();
        let all = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
                if let Some(running) = self.running.remove(&id)
                    && let Ok((_, end)) = ended
                {
                    tracing::info!("{}: stopped: {}", running.name, end.summary);
                }
            }
        };
        if tokio::time::timeout(within, all).await.is_err() {
            for running in self.running.values() {
                let seconds = within.as_secs();
                tracing::error!(schedule.name = running.name, "{}: not stopped within {seconds} s, and abandoned", running.name);
            }
        }
        tracing::info!("stopped");
    }
}

/// A hint behind what it is about, where there is one.
fn in_brackets(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!(" ({hint})") }
}

/// What came of a run, in the log.
fn say(name: &str, end: &JobEnd, took: Duration) {
    let seconds = took.as_secs();
    for complaint in &end.complaints {
        let message = &complaint.message;
        tracing::error!(
            schedule.name = name,
            error.object = complaint.object,
            error.hint = complaint.hint,
            "{name}: {}: {message}{}",
            complaint.object,
            in_brackets(&complaint.hint)
        );
    }
    match end.class {
        None => tracing::info!(schedule.name = name, duration_s = seconds, "{name}: ended well in {seconds} s: {}", end.summary),
        Some(_) => tracing::error!(
            schedule.name = name,
            duration_s = seconds,
            "{name}: did not end well, in {seconds} s: {}",
            end.summary
        ),
    }
}
