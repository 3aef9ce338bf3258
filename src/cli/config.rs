//! `tenure config`.

use schemars::JsonSchema;
use serde::Serialize;

use super::edge::{Edge, Ended};
use crate::{
    config::Config,
    operation::failure::{Failure, FailureClass},
};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print the whole configuration as it is understood, with defaults filled in
    Show,
}

/// `tenure config show`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ConfigReport {
    /// The file that was read.
    pub file: String,
    /// What it says, with defaults.
    pub config: Config,
}

pub(super) fn run(args: &Args, edge: &Edge) -> Result<Ended, Failure> {
    let Action::Show = args.action;
    let mut config = edge.config()?;
    config.show_default_policy();
    let report = ConfigReport { file: edge.global.config_file().display().to_string(), config };
    let text = toml::to_string(&report.config).map_err(|error| {
        Failure::new(FailureClass::Failed, "output", &report.file, "the configuration cannot be printed").because(error)
    })?;
    edge.output.report("config show", &report, |report| format!("# {} with defaults filled in\n{text}", report.file))?;
    Ok(Ended::default())
}
