//! `tenure completions`.

use clap::CommandFactory as _;

use super::{
    Cli,
    edge::{Edge, Ended},
};
use crate::operation::failure::Failure;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// For which shell
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &Args, edge: &Edge) -> Result<Ended, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tenure", &mut script);
    edge.output.raw(&script)?;
    Ok(Ended::default())
}
