//! `pg_restore` on a schema archive that never touches a disk.
//!
//! The archive lies in a memfd that the child gets as its standard input and opens again by name (`/dev/stdin`), because
//! `pg_restore --jobs` needs a file that it can seek in. The list of entries comes the same way by `/dev/stdout`: `pg_restore`
//! connected to a database writes nothing there.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{Seek as _, Write as _},
    path::Path,
    process::Stdio,
};

use rustix::fs::{MemfdFlags, memfd_create};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{
    archive_toc::{self, TocEntry, TocError},
    child::ChildEnvironment,
};

/// So much of standard error is kept.
const STDERR_BYTES: usize = 64 * 1024;

/// A schema archive in memory.
pub struct SchemaArchive {
    file: File,
    toc: Vec<TocEntry>,
    foreign_keys: HashMap<u32, String>,
}

/// A schema that could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreArchiveError {
    /// The archive is not one.
    #[error(transparent)]
    Toc(TocError),
    /// No memory for the archive, or the kernel gives no memfd.
    #[error("cannot hold the schema archive in memory")]
    Memory(#[source] std::io::Error),
    /// The program did not start.
    #[error("cannot run {program}")]
    Start {
        /// Its path.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is there and nothing comes of it.
    #[error("{program} is given up while restoring {what}: {why}")]
    Stalled {
        /// Its path.
        program: String,
        /// Which part of the schema.
        what: &'static str,
        /// What the server says of it.
        why: String,
    },
    /// It ended with an error.
    #[error("{program} failed while restoring {what}: {stderr}")]
    Failed {
        /// Its path.
        program: String,
        /// Which part of the schema.
        what: &'static str,
        /// What it wrote, shortened.
        stderr: String,
        /// The function in which a name was not found, when that is what went wrong: archives are restored without a search path.
        function: Option<String>,
    },
}

impl SchemaArchive {
    /// Takes an archive of `pg_dump --format=custom`.
    ///
    /// # Errors
    /// [`RestoreArchiveError::Toc`], [`RestoreArchiveError::Memory`].
    pub fn new(archive: &[u8]) -> Result<Self, RestoreArchiveError> {
        let (mut toc, mut foreign_keys) = (Vec::new(), HashMap::new());
        for (entry, definition) in archive_toc::read_defined(archive).map_err(RestoreArchiveError::Toc)? {
            if entry.kind == "FK CONSTRAINT" {
                foreign_keys.insert(entry.dump_id, definition);
            }
            toc.push(entry);
        }
        Ok(Self { file: memory_file("tenure-schema", archive)?, toc, foreign_keys })
    }

    /// Forgets all entries but these.
    pub fn keep(&mut self, entries: &HashSet<u32>) {
        self.toc.retain(|entry| entries.contains(&entry.dump_id));
    }

    /// The statement that makes a foreign key, by the number of its entry.
    #[must_use]
    pub fn foreign_key(&self, dump_id: u32) -> Option<&str> {
        self.foreign_keys.get(&dump_id).map(String::as_str)
    }

    /// What is in it.
    #[must_use]
    pub fn toc(&self) -> &[TocEntry] {
        &self.toc
    }

    /// Restores `entries` into `database` with `jobs` connections and further `options`, stopping at the first error. Returns what was
    /// warned of.
    ///
    /// The child dies with the returned future.
    ///
    /// # Errors
    /// [`RestoreArchiveError`].
    #[allow(clippy::too_many_arguments, reason = "each is another thing that a command line says")]
    pub async fn restore(
        &self,
        pg_restore: &Path,
        environment: &ChildEnvironment,
        database: &str,
        what: &'static str,
        entries: &[u32],
        jobs: usize,
        options: &[&str],
    ) -> Result<Vec<String>, RestoreArchiveError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let list: String = entries.iter().map(|id| format!("{id};\n")).collect();
        let list = memory_file("tenure-list", list.as_bytes())?;
        let archive = self.file.try_clone().map_err(RestoreArchiveError::Memory)?;
        let program = pg_restore.display().to_string();
        let mut command = tokio::process::Command::new(pg_restore);
        environment.apply(&mut command);
        if what == "materialized views" {
            // Each is filled by its owner, who sees what policies let it see, as on the source.
            command.arg("--enable-row-security");
        }
        // Only names made by us reach the arguments: the database is called `tenure_` and random digits.
        command
            .arg(format!("--dbname={database}"))
            .args(["--exit-on-error", "--no-password", "--no-tablespaces", "--use-list=/dev/stdout"])
            .args(options)
            .arg(format!("--jobs={}", jobs.max(1)))
            .arg("/dev/stdin")
            .stdin(Stdio::from(archive))
            .stdout(Stdio::from(list))
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let start = |source| RestoreArchiveError::Start { program: program.clone(), source };
        let mut child = command.spawn().map_err(start)?;
        let ended = async {
            let stderr = match child.stderr.take() {
                Some(pipe) => keep_beginning(pipe).await?,
                None => String::new(),
            };
            Ok((stderr, child.wait().await?))
        };
        let (stderr, status) = tokio::select! {
            ended = ended => ended.map_err(start)?,
            why = environment.stalled() => return Err(RestoreArchiveError::Stalled { program, what, why }),
        };
        if status.success() {
            return Ok(stderr.lines().map(str::to_owned).collect());
        }
        let context = stderr.find("CONTEXT:").map(|at| &stderr[at..]).filter(|_| stderr.contains(" does not exist"));
        let function = context.and_then(super::context::function);
        let mut stderr = without_values(&stderr);
        if stderr.is_empty() {
            stderr = status.to_string();
        }
        Err(RestoreArchiveError::Failed { program, what, stderr, function })
    }
}

fn memory_file(name: &str, content: &[u8]) -> Result<File, RestoreArchiveError> {
    let descriptor = memfd_create(name, MemfdFlags::CLOEXEC).map_err(|error| RestoreArchiveError::Memory(error.into()))?;
    let mut file = File::from(descriptor);
    file.write_all(content).and_then(|()| file.rewind()).map_err(RestoreArchiveError::Memory)?;
    Ok(file)
}

/// Reads to the end, keeps the beginning: the first error is the one that matters.
async fn keep_beginning(mut pipe: impl AsyncRead + Unpin) -> Result<String, std::io::Error> {
    let mut kept = Vec::new();
    let mut buffer = vec![0; 8192];
    loop {
        let length = pipe.read(&mut buffer).await?;
        if length == 0 {
            return Ok(String::from_utf8_lossy(&kept).into_owned());
        }
        let room = STDERR_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..length.min(room)]);
    }
}

/// The messages on one line, without what quotes a tenant's values or source text.
fn without_values(stderr: &str) -> String {
    let mut lines = Vec::new();
    let mut quotes = false;
    for line in stderr.lines() {
        let line = line.trim();
        if line.starts_with("Command was:") {
            break;
        }
        if ["DETAIL:", "CONTEXT:", "QUERY:", "LINE "].iter().any(|label| line.starts_with(label)) {
            quotes = true;
        } else if line.starts_with("pg_restore:") || line.starts_with("HINT:") {
            quotes = false;
        }
        if !line.is_empty() && !quotes {
            lines.push(crate::printable::Printable(line).to_string());
        }
    }
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::without_values;

    #[test]
    fn values_stay_out_of_messages() {
        let stderr = "pg_restore: while PROCESSING TOC:\npg_restore: error: could not execute query: ERROR:  could not create unique \
                      index \"t_pkey\"\nDETAIL:  Key (a)=(secret) is duplicated.\nLINE 1: secret\n        ^\nHINT:  No function.\nQUERY:  secret\n\
                      secret\nCONTEXT:  PL/pgSQL\n\tsecret\nCommand was: ALTER TABLE\nsecret\n";
        let line = without_values(stderr);
        assert!(line.ends_with("index \"t_pkey\"; HINT:  No function.") && !line.contains("secret"), "{line}");
    }
}
