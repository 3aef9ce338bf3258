//! The command line: one file per verb, each of which turns arguments into a request, runs one operation, and prints its report.

mod admit;
mod approve;
mod audit;
pub mod backup;
mod certificate;
mod check;
pub mod clusters;
mod completions;
mod config;
mod confirm;
mod drop;
pub mod edge;
mod erase;
pub mod expire;
pub mod global;
mod hold;
mod init;
pub mod installation;
mod keys;
mod leaving;
mod list;
mod man;
mod notify;
pub mod output;
mod page;
mod plans;
pub mod process;
mod purge;
pub mod reconcile;
mod release;
mod report;
mod restore;
mod schedules;
pub mod schema;
mod show;
pub(crate) mod status;
mod stores;
pub mod table;
mod tenants;
mod usage;
pub mod verify;
mod worker;
mod zoned_time;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::{
    edge::{Edge, Ended},
    global::Global,
    output::Output,
};
use crate::operation::failure::Failure;

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 failed; 2 usage or configuration; 3 some tenants failed, the others are done; 4 refused by a guard; \
5 integrity; 6 busy; 130 or 143 interrupted, after a clean stop.";

/// One encrypted, restorable, erasable history per tenant, for companies that keep each customer in a PostgreSQL database of its own.
#[derive(Debug, Parser)]
#[command(name = "tenure", version, about, after_help = AFTER_HELP, max_term_width = 110, disable_help_subcommand = true)]
pub struct Cli {
    /// Options for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Set up a vault, a keyring, and the configuration
    Init(Box<init::Args>),
    /// Look at everything that the coming night needs
    Check,
    /// Show on one screen how the fleet is: who is late, what is wrong, what to type next
    #[command(after_help = "Exit codes: 0 all is well; 3 somebody is late, or something is wrong; 1 it cannot be told.")]
    Status,
    /// List every tenant, with its place and its newest backup
    Tenants,
    /// Back up tenants
    Backup(backup::Args),
    /// List a tenant's backups
    List(list::Args),
    /// Show one backup
    Show(show::Args),
    /// Check that backups are whole
    Verify(verify::Args),
    /// Remove backups whose time is over
    Expire(expire::Args),
    /// Restore a tenant, or all of them, with proof
    Restore(Box<restore::Args>),
    /// Say that a tenant's database is rightly another one now
    Admit(admit::Args),
    /// Drop a tenant's live database, on its primary and every replica; its backups stay
    Drop(drop::Args),
    /// Erase a tenant: its live database, every backup and its keys; it never comes back
    Erase(erase::Args),
    /// Find, close and name what was erased and is there again
    Reconcile(reconcile::Args),
    /// Let go of a tenant's backups before their time: of all and its keys, or of the older ones
    Purge(purge::Args),
    /// Keep a tenant's backups and keys from expiring and from being purged
    Hold(hold::Args),
    /// End a hold
    Release(release::Args),
    /// Look at plans that operators sign, or give one up
    Plans(plans::Args),
    /// Sign somebody else's plan, as one of the operators who must
    Approve(approve::Args),
    /// Look at what is certified of erasures, check it, or write it out for somebody else
    Certificate(certificate::Args),
    /// Show what became of everybody in a night, from its signed records
    Report(report::Args),
    /// Show who did what, and who was refused, and check every signature
    Audit(audit::Args),
    /// Look at the tenants' keys, change them, and put back what is lost of them
    Keys(keys::Args),
    /// Show the schedules, when each is due, and the crontab line that it stands for
    Schedules(schedules::Args),
    /// Send a test message through every channel of notification
    Notify,
    /// Run the schedules, for years; or what is due now
    Worker(worker::Args),
    /// Look at the configuration
    Config(config::Args),
    /// Print a shell's completions
    Completions(completions::Args),
    /// Print the manual page
    Man(man::Args),
}

impl Cli {
    /// Parses the command line.
    ///
    /// # Errors
    /// The exit code, after help was printed or what is wrong was said.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, ExitCode> {
        let args: Vec<OsString> = args.into_iter().collect();
        let parsed = Self::command().try_get_matches_from(&args).and_then(|matches| Self::from_arg_matches(&matches));
        // What asks for JSON gets its error as JSON too, whatever else is wrong with the line.
        parsed.map_err(|error| usage::explain(&error, Output::for_usage(args.iter().any(|arg| arg == "--json"))))
    }
}

/// Runs a command.
///
/// # Errors
/// Why it stopped, when there is no report.
pub async fn run(command: Command, edge: &Edge) -> Result<Ended, Failure> {
    match command {
        Command::Init(args) => init::run(*args, edge).await,
        Command::Check => edge.until_stopped(check::run(edge)).await,
        Command::Status => edge.until_stopped(status::run(edge)).await,
        Command::Tenants => edge.until_stopped(tenants::run(edge)).await,
        Command::Backup(args) => backup::run(args, edge).await,
        Command::Expire(args) => expire::run(args, edge).await,
        Command::Restore(args) => restore::run(*args, edge).await,
        Command::Admit(args) => admit::run(args, edge).await,
        Command::Drop(args) => drop::run(args, edge).await,
        Command::Erase(args) => erase::run(args, edge).await,
        Command::Reconcile(args) => reconcile::run(args, edge).await,
        Command::Purge(args) => purge::run(args, edge).await,
        Command::Hold(args) => hold::run(args, edge).await,
        Command::Release(args) => release::run(args, edge).await,
        Command::Plans(args) => plans::run(args, edge).await,
        Command::Approve(args) => approve::run(args, edge).await,
        Command::Certificate(args) => edge.until_stopped(certificate::run(args, edge)).await,
        Command::Report(args) => edge.until_stopped(report::run(args, edge)).await,
        Command::Audit(args) => edge.until_stopped(audit::run(args, edge)).await,
        Command::List(args) => edge.until_stopped(list::run(args, edge)).await,
        Command::Show(args) => edge.until_stopped(show::run(args, edge)).await,
        Command::Verify(args) => verify::run(args, edge).await,
        Command::Keys(args) => keys::run(args, edge).await,
        Command::Schedules(args) => schedules::run(&args, edge),
        Command::Notify => edge.until_stopped(notify::run(edge)).await,
        Command::Worker(args) => worker::run(args, edge).await,
        Command::Config(args) => config::run(&args, edge),
        Command::Completions(args) => completions::run(&args, edge),
        Command::Man(args) => man::run(&args, edge),
    }
}
