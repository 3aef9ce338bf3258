//! `tenure man`.

use clap::CommandFactory as _;

use super::{
    Cli,
    edge::{Edge, Ended},
};
use crate::operation::failure::{Failure, FailureClass};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The page of one command, like `backup` or `keys list`; without it, the page of tenure itself
    command: Vec<String>,
}

pub(super) fn run(args: &Args, edge: &Edge) -> Result<Ended, Failure> {
    let mut command = Cli::command();
    command.build();
    for verb in &args.command {
        let Some(found) = command.find_subcommand(verb) else {
            return Err(Failure::new(
                FailureClass::Usage,
                "usage",
                verb,
                format!("there is no command `{}`", args.command.join(" ")),
            )
            .hint("see `tenure --help`"));
        };
        command = found.clone();
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(|error| {
        Failure::new(FailureClass::Failed, "output", "manual page", "cannot write the manual page").because(error)
    })?;
    edge.output.raw(&page)?;
    Ok(Ended::default())
}
