//! `pg_dump` and `pg_restore`: finding ones that suit a server, and running them.

mod run;
mod version;

pub use run::{ToolOutput, ToolRun};
pub use version::{KnownHoles, ToolVersion};

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Where Debian and its kin keep one folder per major version.
const DEBIAN: &str = "/usr/lib/postgresql";

/// The programs that we run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `pg_dump`.
    Dump,
    /// `pg_restore`.
    Restore,
}

impl Program {
    /// Its file name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Dump => "pg_dump",
            Self::Restore => "pg_restore",
        }
    }
}

/// Where to look. With a configured folder only there; otherwise in `/usr/lib/postgresql/*/bin`, then on the search path.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    bin: Option<String>,
    search_path: Option<OsString>,
}

/// A program that was found and said its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Which one.
    pub program: Program,
    /// Its file.
    pub path: PathBuf,
    /// What it said of itself.
    pub version: ToolVersion,
}

/// A program that is missing, too old, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// Nowhere to be found.
    #[error("{program} was not found in {}", searched.join(", "))]
    Missing {
        /// Its name.
        program: &'static str,
        /// Where it was looked for.
        searched: Vec<String>,
    },
    /// Found, but none is new enough.
    #[error("{program} {needed} or newer is needed here, and only {} was found", found.join(", "))]
    TooOld {
        /// Its name.
        program: &'static str,
        /// The major version that is needed.
        needed: u32,
        /// What was found, as `15.20 (/usr/lib/postgresql/15/bin)`.
        found: Vec<String>,
    },
    /// It could not be started.
    #[error("{} does not start", path.display())]
    Start {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its input or output broke.
    #[error("{program}: reading its output failed")]
    Io {
        /// Its name.
        program: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It printed more than was expected of it.
    #[error("{program} printed more than {limit} bytes")]
    TooMuchOutput {
        /// Its name.
        program: &'static str,
        /// The limit.
        limit: u64,
    },
    /// It ended with an error.
    #[error("{program} failed ({status}): {stderr}")]
    Failed {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said, shortened, control characters escaped.
        stderr: String,
    },
}

impl ToolError {
    /// What to do about it. For the `hint:` line.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Missing { .. } => {
                "Install PostgreSQL's client programs (Debian: postgresql-client-<major>), or set [postgres] bin.".to_owned()
            }
            Self::TooOld { needed, .. } => {
                format!(
                    "Install the client programs of PostgreSQL {needed} (Debian: postgresql-client-{needed}), or set [postgres] bin."
                )
            }
            Self::Start { .. } => "Check the file and [postgres] bin.".to_owned(),
            Self::Io { .. } | Self::TooMuchOutput { .. } | Self::Failed { .. } => "See what it said.".to_owned(),
        }
    }
}

impl Tools {
    /// `bin` is `[postgres] bin`, where `{major}` stands for a version; `search_path` is `PATH`.
    #[must_use]
    pub fn new(bin: Option<String>, search_path: Option<OsString>) -> Self {
        Self { bin, search_path }
    }

    /// The program whose major version is the lowest that is not below `major`, and of that the newest minor: the nearest to the
    /// server knows it best, and `pg_restore` 17 sends older servers settings that they do not know.
    ///
    /// # Errors
    /// If there is none, or none new enough.
    pub async fn find(&self, program: Program, major: u32) -> Result<Tool, ToolError> {
        let found = self.all(program).await;
        let best = found
            .iter()
            .filter(|tool| tool.version.major >= major)
            .min_by_key(|tool| (tool.version.major, std::cmp::Reverse(tool.version.minor)));
        match best {
            Some(tool) => Ok(tool.clone()),
            None if found.is_empty() => Err(ToolError::Missing { program: program.name(), searched: self.places() }),
            None => Err(ToolError::TooOld {
                program: program.name(),
                needed: major,
                found: found.iter().map(|tool| format!("{} ({})", tool.version, tool.path.display())).collect(),
            }),
        }
    }

    /// Every one that is there and tells its version.
    pub async fn all(&self, program: Program) -> Vec<Tool> {
        let mut found = Vec::new();
        for folder in self.folders() {
            let path = folder.join(program.name());
            if !path.is_file() {
                continue;
            }
            match run::version(&path).await {
                Ok(version) => found.push(Tool { program, path, version }),
                Err(why) => tracing::warn!(file.path = %path.display(), "{} is not usable: {why}", path.display()),
            }
        }
        found
    }

    fn places(&self) -> Vec<String> {
        match &self.bin {
            Some(bin) => vec![bin.clone()],
            None => vec![format!("{DEBIAN}/*/bin"), "PATH".to_owned()],
        }
    }

    fn folders(&self) -> Vec<PathBuf> {
        match &self.bin {
            Some(bin) => match bin.split_once("{major}") {
                None => vec![PathBuf::from(bin)],
                // Versions up to 99 are tried by name: a template's folders may not be listable.
                Some((before, after)) => (14..100)
                    .map(|major: u32| PathBuf::from(format!("{before}{major}{after}")))
                    .filter(|folder| folder.is_dir())
                    .collect(),
            },
            None => {
                let mut folders = debian_folders(Path::new(DEBIAN));
                if let Some(path) = &self.search_path {
                    folders.extend(std::env::split_paths(path).filter(|folder| folder.is_absolute()));
                }
                let mut seen = BTreeSet::new();
                folders.into_iter().filter(|folder| seen.insert(folder.clone())).collect()
            }
        }
    }
}

fn debian_folders(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).into_iter().flatten().filter_map(Result::ok);
    let mut majors: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    majors.sort_unstable();
    majors.into_iter().map(|major| root.join(major.to_string()).join("bin")).collect()
}

impl Tool {
    /// Starts it in this environment and no other, with nothing but these arguments. It is killed when the run is dropped.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(
        &self,
        arguments: &[OsString],
        environment: &super::ChildEnvironment,
        stdin: Stdio,
    ) -> Result<ToolRun, ToolError> {
        ToolRun::start(self, arguments, environment, stdin)
    }

    /// Runs it to its end and gives what it printed, at most `limit` bytes.
    ///
    /// # Errors
    /// If it does not start, prints more than that, or ends with an error.
    pub async fn run(
        &self,
        arguments: &[OsString],
        environment: &super::ChildEnvironment,
        stdin: Stdio,
        limit: u64,
    ) -> Result<ToolOutput, ToolError> {
        self.start(arguments, environment, stdin)?.output(limit).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn install(root: &Path, folder: &str, version: &str) {
        let bin = root.join(folder);
        std::fs::create_dir_all(&bin).unwrap();
        let path = bin.join("pg_dump");
        std::fs::write(&path, format!("#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn the_nearest_that_is_new_enough_is_taken() {
        let root = tempfile::tempdir().unwrap();
        for (folder, version) in [("15/bin", "15.20"), ("16/bin", "16.9 (Debian 16.9-1)"), ("18/bin", "18beta1")] {
            install(root.path(), folder, version);
        }
        let tools = Tools::new(Some(format!("{}/{{major}}/bin", root.path().display())), None);
        for (major, expected) in [(14, 15), (15, 15), (16, 16), (17, 18)] {
            assert_eq!(tools.find(Program::Dump, major).await.unwrap().version.major, expected);
        }
        let error = tools.find(Program::Dump, 19).await.unwrap_err();
        assert!(error.to_string().starts_with("pg_dump 19 or newer is needed here, and only 15.20 ("), "{error}");
        assert!(matches!(tools.find(Program::Restore, 15).await, Err(ToolError::Missing { .. })));
    }

    #[tokio::test]
    async fn the_search_path_is_searched_too() {
        let root = tempfile::tempdir().unwrap();
        install(root.path(), "opt", "97.1");
        let tools = Tools::new(None, Some(root.path().join("opt").into_os_string()));
        assert_eq!(tools.find(Program::Dump, 97).await.unwrap().version.minor, 1);
    }
}
