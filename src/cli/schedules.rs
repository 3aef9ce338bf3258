//! `tenure schedules`.

use std::path::{Path, PathBuf};

use chrono::{DateTime, FixedOffset, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::edge::{Edge, Ended};
use crate::{
    config::schedule::{
        Schedule,
        folder::{beside, files, write_shipped},
    },
    operation::failure::{Failure, FailureClass},
    printable::{Printable, Word},
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// First write the schedules that tenure comes with, but for those that are there
    #[arg(long)]
    write: bool,
}

/// `tenure schedules`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SchedulesReport {
    /// The folder.
    pub folder: String,
    /// Files that `--write` wrote.
    pub written: Vec<String>,
    /// The schedules that can be read, by name.
    pub schedules: Vec<ScheduleLine>,
    /// Files that cannot.
    pub problems: Vec<ScheduleProblem>,
    /// What else is to be known.
    pub notes: Vec<String>,
}

/// One schedule.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ScheduleLine {
    /// Its file.
    pub file: String,
    /// What it says, with defaults.
    #[serde(flatten)]
    pub schedule: Schedule,
    /// Whether this version can do what it is for.
    pub is_built: bool,
    /// The next five times, on or off, before jitter; fewer where the calendar ends in 2100.
    pub next: Vec<DateTime<FixedOffset>>,
    /// The line of a crontab that does it without a worker that stays; `null` where it is off or not built.
    pub crontab: Option<String>,
    /// Why there is none.
    pub why_no_crontab: Option<String>,
}

/// A file that is no schedule.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ScheduleProblem {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub hint: String,
}

/// How many times are shown.
const SHOWN: usize = 5;

const WHO_RUNS_THEM: &str =
    "`tenure worker` runs those that are on; without it cron does, or a systemd timer, by the commands above";
const CRON_KNOWS_LESS: &str =
    "cron goes by the host's time zone, which must be the schedule's: a run that comes after the window begins nobody, and fails";

pub(super) fn run(args: &Args, edge: &Edge) -> Result<Ended, Failure> {
    let config = edge.global.config_file();
    let folder = beside(&config);
    let written = if args.write { write_shipped(&folder)? } else { Vec::new() };
    let now = edge.now();
    let (mut schedules, mut problems, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for file in files(&folder)? {
        match Schedule::read(&file) {
            Ok(schedule) => schedules.push(line(schedule, &file, &config, now)),
            Err(error) => {
                let failure = Failure::from(error);
                let (problem, hint) = (failure.one_line(), failure.hint.clone());
                problems.push(ScheduleProblem { file: shown(&file), problem, hint });
                failures.push(failure);
            }
        }
    }
    let report = SchedulesReport {
        folder: shown(&folder),
        written: written.iter().map(|path| shown(path)).collect(),
        schedules,
        problems,
        notes: [WHO_RUNS_THEM, CRON_KNOWS_LESS].map(str::to_owned).to_vec(),
    };
    edge.output.report("schedules", &report, text)?;
    failures.iter().for_each(|failure| edge.output.remark(failure));
    Ok(Ended { worst: (!failures.is_empty()).then_some(FailureClass::Usage) })
}

fn line(schedule: Schedule, file: &Path, config: &Path, now: DateTime<Utc>) -> ScheduleLine {
    let next = |after: &DateTime<_>| schedule.cron.next(after.to_utc(), schedule.time_zone.0);
    let times = std::iter::successors(schedule.cron.next(now, schedule.time_zone.0), next);
    let (crontab, why_no_crontab) = match crontab(&schedule, config) {
        Ok(line) => (Some(line), None),
        Err(why) => (None, Some(why.to_owned())),
    };
    let next = times.take(SHOWN).map(|time| time.fixed_offset()).collect();
    ScheduleLine { file: shown(file), is_built: schedule.action.is_built(), next, crontab, why_no_crontab, schedule }
}

/// What does it without a worker.
fn crontab(schedule: &Schedule, config: &Path) -> Result<String, &'static str> {
    if !schedule.action.is_built() {
        return Err("not built yet");
    }
    if !schedule.enabled {
        return Err("off");
    }
    // cron's PATH is short, and its folder the home of whoever it runs as.
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("tenure"));
    let config = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    let (program, config) = (program.display().to_string(), config.display().to_string());
    let name = Word(&schedule.name);
    let command = format!("{} --config {} --no-progress -q worker --once {name}", Word(&program), Word(&config));
    // In a crontab a percent sign ends the command.
    Ok(format!("{}  {}", schedule.cron, command.replace('%', r"\%")))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn text(report: &SchedulesReport) -> String {
    let mut text = String::new();
    for file in &report.written {
        text.push_str(&format!("written: {file}\n"));
    }
    for ScheduleLine { file, schedule, next, crontab, why_no_crontab, is_built } in &report.schedules {
        let state = if schedule.enabled { "on" } else { "off" };
        let not_built = if *is_built { "" } else { ", which is not built yet" };
        text.push_str(&format!("{}: {state}, {}{not_built}{}\n", schedule.name, schedule.action.name(), whom(schedule)));
        text.push_str(&format!("  file     {file}\n  when     {} in {}\n", schedule.cron, schedule.time_zone));
        for (n, time) in next.iter().enumerate() {
            let what = if n == 0 { "next" } else { "" };
            text.push_str(&format!("  {what:7}  {}\n", time.format("%a %Y-%m-%d %H:%M %:z")));
        }
        match (crontab, why_no_crontab) {
            (Some(line), _) => text.push_str(&format!("  crontab  {line}\n")),
            (None, why) => text.push_str(&format!("  crontab  none: {}\n", why.as_deref().unwrap_or_default())),
        }
    }
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}

fn whom(schedule: &Schedule) -> String {
    if schedule.is_for_everybody() {
        return String::new();
    }
    let tenants: Vec<String> = schedule.tenants.iter().map(|glob| Printable(&glob.0).to_string()).collect();
    format!(" of {}", tenants.join(", "))
}
