//! What is wrong with a configuration, and where.

use std::path::{Path, PathBuf};

use crate::operation::failure::{Failure, FailureClass};

/// A configuration that was refused. Exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {message}", file.display(), AtLine(*.line))]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, where there is one.
    pub line: Option<usize>,
    /// The key with its table, like `cluster.eu-1.primary`; empty when the file as a whole is meant.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: String,
    /// Why the file cannot be read.
    #[source]
    pub source: Option<std::io::Error>,
}

struct AtLine(Option<usize>);

impl std::fmt::Display for AtLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, " line {line}"))
    }
}

impl ConfigError {
    pub(super) fn unreadable(file: &Path, error: std::io::Error) -> Self {
        let hint = if error.kind() == std::io::ErrorKind::NotFound {
            "write one with `tenure init`, or name it with --config FILE or TENURE_CONFIG".to_owned()
        } else {
            "the configuration must be a readable text file in UTF-8".to_owned()
        };
        Self {
            file: file.to_owned(),
            line: None,
            key: String::new(),
            message: "cannot read the configuration".to_owned(),
            hint,
            source: Some(error),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let object = if error.key.is_empty() { error.file.display().to_string() } else { error.key.clone() };
        let failure = Self::new(FailureClass::Usage, "configuration", object, error.to_string()).hint(error.hint);
        match error.source {
            Some(source) => failure.because(source),
            None => failure,
        }
    }
}
