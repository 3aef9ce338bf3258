//! Where the password comes from.

use super::connect_error::ConnectCause;
use super::conninfo::{LibpqEnvironment, Settings};
use super::passfile::{self, Wanted};
use super::target::{Host, Resolved};
use secrecy::SecretString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// How long `password_command` may take. Token services answer within a few seconds.
const COMMAND_TIME_LIMIT: Duration = Duration::from_secs(30);

/// The longest password taken from a command, in bytes. RDS tokens have about 2,000.
const COMMAND_OUTPUT_LIMIT: u64 = 64 * 1024;

/// The source of a password. No `Debug`.
#[derive(Clone)]
pub(super) enum Password {
    /// Written in the description, its service, `PGPASSWORD`, or made for a temporary login.
    Given(SecretString),
    /// A program that prints it.
    Command(Arc<[String]>),
    /// A file of passwords, read at each connect.
    File(PathBuf),
    /// None: peer, certificate or trust authentication.
    None,
}

impl Password {
    pub fn read(settings: &Settings, environment: &LibpqEnvironment) -> Self {
        if let Some(password) = settings.get("password") {
            return Self::Given(SecretString::from(password.to_owned()));
        }
        let named = settings.get("passfile").map(PathBuf::from);
        match named.or_else(|| environment.home.as_ref().map(|home| home.join(".pgpass"))) {
            Some(path) => Self::File(path),
            None => Self::None,
        }
    }
}

impl Resolved {
    /// What a command prints, asked once for a whole list of hosts; the other sources need no asking.
    pub async fn asked_password(&self) -> Result<Option<SecretString>, ConnectCause> {
        match &self.password {
            Password::Command(argv) => run(argv).await.map(Some),
            _ => Ok(None),
        }
    }

    /// The password for one host, where `asked` is what [`Resolved::asked_password`] gave.
    pub fn password_for(&self, host: &Host, database: &str, asked: Option<&SecretString>) -> Option<SecretString> {
        match &self.password {
            Password::Given(password) => Some(password.clone()),
            Password::Command(_) => asked.cloned(),
            Password::File(path) => {
                let name = host.place.passfile_name();
                passfile::look_up(path, &Wanted { host: &name, port: host.port, database, user: &self.user })
            }
            Password::None => None,
        }
    }
}

/// Runs the program. It inherits our environment, because token services are configured there (`AWS_PROFILE`, `HOME`, …).
async fn run(argv: &[String]) -> Result<SecretString, ConnectCause> {
    let failed = |what: String| ConnectCause::PasswordCommand(what);
    let Some((program, arguments)) = argv.split_first() else { return Err(failed("it is empty".to_owned())) };
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("{program}: {error}")))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(failed("its output cannot be read".to_owned()));
    };
    let mut printed = zeroize::Zeroizing::new(Vec::new());
    let mut complaints = Vec::new();
    let finished = tokio::time::timeout(COMMAND_TIME_LIMIT, async {
        let (mut stdout, mut stderr) = (stdout.take(COMMAND_OUTPUT_LIMIT), stderr.take(COMMAND_OUTPUT_LIMIT));
        tokio::try_join!(stdout.read_to_end(&mut printed), stderr.read_to_end(&mut complaints))?;
        child.wait().await
    });
    let status = match finished.await {
        Err(_) => return Err(failed(format!("{program} did not end within {} s", COMMAND_TIME_LIMIT.as_secs()))),
        Ok(Err(error)) => return Err(failed(format!("{program}: {error}"))),
        Ok(Ok(status)) => status,
    };
    if !status.success() {
        return Err(failed(format!("{program} failed ({status}){}", last_line(&complaints))));
    }
    let first = printed.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = first.strip_suffix(b"\r").unwrap_or(first);
    match std::str::from_utf8(first) {
        Ok("") => Err(failed(format!("{program} printed no password"))),
        Ok(password) => Ok(SecretString::from(password.to_owned())),
        Err(_) => Err(failed(format!("{program} printed something that is not UTF-8"))),
    }
}

/// The last thing that a program said on standard error: `: no such profile`.
fn last_line(complaints: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaints);
    let Some(line) = text.lines().rev().find(|line| !line.trim().is_empty()) else { return String::new() };
    let short: String = line.trim().chars().take(200).collect();
    format!(": {}", crate::printable::Printable(&short))
}
