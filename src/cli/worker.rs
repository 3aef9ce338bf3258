//! `tenure worker`.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use tracing::Instrument as _;

use super::edge::{Edge, Ended};
use crate::{
    id::RecordId,
    operation::{
        alarm::{Alarm, AlarmKind},
        failure::{Failure, FailureClass},
    },
    printable::Printable,
    worker::{
        self, Ending, Job, Orders,
        job::{Complaint, JobEnd, Run, Tally, shown},
    },
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Schedules to run [default: all that are on]
    #[arg(value_name = "SCHEDULE")]
    schedules: Vec<String>,

    /// Do what is due now, and end: for cron and systemd timers
    #[arg(long)]
    once: bool,
}

/// `tenure worker --once`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkerReport {
    /// What was due, the longest first.
    pub runs: Vec<RunReport>,
    /// Schedules of which nothing was due.
    pub not_due: Vec<String>,
    /// Files that cannot be read.
    pub broken: Vec<Complaint>,
    /// Channels of notification through which it could not be told what is wrong, or that all is well.
    pub not_told: Vec<Complaint>,
}

/// One schedule's run.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RunReport {
    /// The schedule.
    pub schedule: String,
    /// What it does.
    pub action: String,
    /// The time that it was due at.
    pub due_at: DateTime<Utc>,
    /// Whether all is well.
    pub ended_well: bool,
    /// What came of it, in a line.
    pub summary: String,
    /// How the tenants of a backup stood at the end; null for what is not done by tenant.
    pub tenants: Option<Tally>,
    /// Each thing that is wrong.
    pub problems: Vec<Complaint>,
}

pub(super) async fn run(args: Args, edge: &Edge) -> Result<Ended, Failure> {
    if args.once { once(&args.schedules, edge).await } else { worker::run(edge, &args.schedules).await }
}

async fn once(names: &[String], edge: &Edge) -> Result<Ended, Failure> {
    let orders = Orders::read(&edge.global.config_file(), names)?;
    let now = edge.now();
    let mut report = WorkerReport {
        runs: Vec::new(),
        not_due: Vec::new(),
        broken: orders.broken.values().map(Complaint::from).collect(),
        not_told: Vec::new(),
    };
    let mut classes: Vec<FailureClass> = orders.broken.values().map(|failure| failure.class).collect();
    let (mut jobs, mut endings) = (Vec::new(), Vec::new());
    for schedule in orders.schedules().filter(|schedule| schedule.enabled) {
        match schedule.slot(now) {
            Some(slot) => jobs.push(Job { schedule: schedule.clone(), slot }),
            None => report.not_due.push(schedule.name.clone()),
        }
    }
    jobs.sort_by(|a, b| a.slot.due_at.cmp(&b.slot.due_at).then_with(|| a.schedule.name.cmp(&b.schedule.name)));
    let worker = RecordId::random();
    for job in jobs {
        let (schedule, slot) = (job.schedule.clone(), job.slot.clone());
        let run = Run { job, edge: edge.for_run(orders.config.clone(), edge.stop.child_token()), worker, id: RecordId::random() };
        let span = tracing::info_span!("run", run.id = %run.id, schedule.name = schedule.name);
        let end = async {
            // Some time may have passed since the one before began.
            if edge.now() >= slot.until { over(&run).await } else { within_deadline(&run).await }
        };
        let end = end.instrument(span).await;
        let Some(end) = end else {
            report.not_due.push(schedule.name);
            continue;
        };
        classes.extend(end.class);
        endings.push(Ending::of(&schedule.name, schedule.action, &end));
        report.runs.push(RunReport {
            schedule: schedule.name,
            action: schedule.action.name().to_owned(),
            due_at: slot.due_at,
            ended_well: end.class.is_none(),
            summary: end.summary,
            tenants: end.tenants,
            problems: end.complaints,
        });
    }
    let broken = |(file, failure): (&std::path::PathBuf, &Failure)| Alarm::of(AlarmKind::ScheduleBroken, file.display(), failure);
    report.not_told = worker::tell_once(edge, &orders.config, endings, orders.broken.iter().map(broken).collect()).await;
    classes.extend(report.not_told.iter().map(|_| FailureClass::Failed));
    let worst = FailureClass::worst(classes);
    edge.output.outcome("worker", &report, worst.is_none(), text)?;
    for problem in report.runs.iter().flat_map(|run| &run.problems).chain(&report.broken).chain(&report.not_told) {
        edge.output.complain(&Printable(&problem.object).to_string(), &problem.message, &problem.hint);
    }
    Ok(Ended { worst })
}

/// The run; at its deadline it is stopped.
async fn within_deadline(run: &Run) -> Option<JobEnd> {
    let running = run.run();
    tokio::pin!(running);
    let Some(deadline) = run.job.slot.deadline else { return Some(running.await) };
    let left = (deadline - run.edge.now()).to_std().unwrap_or_default();
    tokio::select! {
        end = &mut running => Some(end),
        () = tokio::time::sleep(left) => {
            run.edge.stop.cancel();
            let within = run.edge.config().map(|config| config.worker.stop_within.get()).unwrap_or_default();
            let mut end = tokio::time::timeout(within, running).await.unwrap_or_else(|_| {
                let message = format!("the run of schedule {} does not stop, and is given up", run.job.schedule.name);
                Failure::new(FailureClass::Failed, "hangs", &run.job.schedule.name, message).into()
            });
            end.class = FailureClass::worst(end.class.filter(|class| *class != FailureClass::Interrupted).into_iter().chain([FailureClass::Failed]));
            end.complaints.push(Complaint::new(&run.job.schedule.name, "its deadline came before it was through", ""));
            Some(end)
        }
    }
}

/// The time to begin is over: whoever is due waits for the next one. That is no success of a timer that came too late.
async fn over(run: &Run) -> Option<JobEnd> {
    let slot = &run.job.slot;
    let due = match run.job.schedule.action {
        crate::config::schedule::Action::Backup => match run.count_due().await {
            Ok(0) => return None,
            Ok(due) => format!("{due} tenants are due"),
            Err(failure) => return Some(failure.into()),
        },
        _ => return None,
    };
    let message =
        format!("the time to begin what was due at {} was over at {}, and {due}", shown(slot.due_at), shown(slot.until));
    let hint = "`tenure backup --all` does it now. If a timer called this: does it go by another time zone than the schedule?";
    Some(Failure::new(FailureClass::Failed, "too-late", &run.job.schedule.name, message).hint(hint).into())
}

fn text(report: &WorkerReport) -> String {
    let mut text = String::new();
    for run in &report.runs {
        let how = if run.ended_well { "" } else { "did not end well: " };
        text.push_str(&format!("{}: {} of {}: {how}{}\n", run.schedule, run.action, shown(run.due_at), run.summary));
    }
    for name in &report.not_due {
        text.push_str(&format!("{name}: nothing is due\n"));
    }
    text
}
