//! Running a client program: an environment of its own, an end that is looked at, standard error kept.

use super::{Tool, ToolError, ToolVersion};
use crate::postgres::ChildEnvironment;
use crate::printable::Printable;
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

/// How much of standard error is kept. pg_dump says a line per warning; a broken fleet must not fill the memory.
const STDERR_LIMIT: usize = 64 * 1024;

/// How much of it goes into an error's message.
const MESSAGE_LIMIT: usize = 2000;

/// A line of standard error longer than this is cut: a query may stand in it.
const LINE_LIMIT: u64 = 4096;

/// A program at work. Dropping it kills it.
pub struct ToolRun {
    /// Its standard output, until taken.
    pub stdout: Option<ChildStdout>,
    /// Its standard input, where it was asked for as a pipe, until taken.
    pub stdin: Option<ChildStdin>,
    child: Child,
    stderr: JoinHandle<Vec<String>>,
    program: &'static str,
}

/// What a program printed.
#[derive(Debug)]
pub struct ToolOutput {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// The lines of its standard error.
    pub stderr: Vec<String>,
}

impl ToolRun {
    pub(super) fn start(
        tool: &Tool,
        arguments: &[OsString],
        environment: &ChildEnvironment,
        stdin: Stdio,
    ) -> Result<Self, ToolError> {
        let mut command = Command::new(&tool.path);
        environment.apply(&mut command);
        command.args(arguments).current_dir("/").stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|source| ToolError::Start { path: tool.path.clone(), source })?;
        let program = tool.program.name();
        let stderr = tokio::spawn(collect(child.stderr.take(), program));
        Ok(Self { stdout: child.stdout.take(), stdin: child.stdin.take(), child, stderr, program })
    }

    /// Waits for its end. Standard output must have been read or taken, or it may wait for ever.
    ///
    /// Gives the lines of standard error: warnings, if it succeeded.
    ///
    /// # Errors
    /// If it ended with anything but success.
    pub async fn finish(mut self) -> Result<Vec<String>, ToolError> {
        drop(self.stdin.take());
        drop(self.stdout.take());
        let status = self.child.wait().await.map_err(|source| ToolError::Io { program: self.program, source })?;
        let stderr = self.stderr.await.unwrap_or_default();
        if status.success() {
            return Ok(stderr);
        }
        Err(ToolError::Failed { program: self.program, status, stderr: message(&stderr) })
    }

    /// Reads standard output to its end, then waits for the program's.
    ///
    /// # Errors
    /// As [`ToolRun::finish`], and if more than `limit` bytes come.
    pub async fn output(mut self, limit: u64) -> Result<ToolOutput, ToolError> {
        let mut printed = Vec::new();
        if let Some(stdout) = self.stdout.take() {
            let program = self.program;
            let failed = |source| ToolError::Io { program, source };
            let length = stdout.take(limit.saturating_add(1)).read_to_end(&mut printed).await.map_err(failed)?;
            if length as u64 > limit {
                return Err(ToolError::TooMuchOutput { program, limit });
            }
        }
        let stderr = self.finish().await?;
        Ok(ToolOutput { stdout: printed, stderr })
    }
}

/// Reads lines to the end, keeping the first ones within the limit; the rest is read and dropped, so that the child never waits.
async fn collect(stderr: Option<ChildStderr>, program: &'static str) -> Vec<String> {
    let Some(stderr) = stderr else { return Vec::new() };
    let mut reader = BufReader::new(stderr);
    let mut lines = Vec::new();
    let mut kept = 0;
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(LINE_LIMIT).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return lines,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = Printable(text.trim_end()).to_string();
        tracing::debug!(tool.name = program, "{program}: {text}");
        if !text.is_empty() && kept < STDERR_LIMIT {
            kept += text.len();
            lines.push(text);
        }
    }
}

fn message(lines: &[String]) -> String {
    let mut text = lines.join("; ");
    if text.is_empty() {
        return "it said nothing".to_owned();
    }
    if text.len() > MESSAGE_LIMIT {
        let end = (0..=MESSAGE_LIMIT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Asks a program for its version.
pub(super) async fn version(path: &Path) -> Result<ToolVersion, String> {
    let mut command = Command::new(path);
    command.arg("--version").env_clear().stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(10), command.output()).await;
    let output = output.map_err(|_| "no answer to --version within 10 s".to_owned())?.map_err(|error| error.to_string())?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ToolVersion::parse(&printed).ok_or_else(|| format!("not a PostgreSQL version: {}", Printable(printed.trim())))
}
