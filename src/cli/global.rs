//! Options that every command takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options for every command")]
pub struct Global {
    /// Configuration [default: $TENURE_CONFIG, or tenure.toml in this folder]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// More on standard error; twice or three times for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Form of the log on standard error [default: text]
    #[arg(
        long,
        global = true,
        value_name = "text|json",
        default_value = "text",
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub log_format: LogFormat,

    /// When to use colours [default: auto]
    #[arg(
        long,
        global = true,
        value_name = "auto|always|never",
        default_value = "auto",
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub color: ColorWhen,

    /// No progress bars
    #[arg(long, global = true)]
    pub no_progress: bool,

    /// One JSON document on standard output
    #[arg(long, global = true)]
    pub json: bool,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One object a line
    Json,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Global {
    /// Whether logs are JSON.
    #[must_use]
    pub fn has_json_logs(&self) -> bool {
        self.log_format == LogFormat::Json
    }

    /// Whether a stream that is a terminal, or is not, gets colours.
    #[must_use]
    pub fn is_colored(&self, is_terminal: bool) -> bool {
        match self.color {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }

    /// The configuration's path.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        // A variable that is set to nothing is as good as unset.
        let named = std::env::var_os("TENURE_CONFIG").filter(|name| !name.is_empty()).map(PathBuf::from);
        self.config.clone().or(named).unwrap_or_else(|| PathBuf::from("tenure.toml"))
    }
}
