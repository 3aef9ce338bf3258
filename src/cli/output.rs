//! Standard output, and errors on standard error: the one place that prints.

use std::{
    io::{ErrorKind, IsTerminal as _, Write as _},
    process::ExitCode,
};

use schemars::JsonSchema;
use serde::Serialize;

use super::global::Global;
use crate::{
    operation::failure::{Failure, FailureClass},
    printable,
};

/// Number of the form of all documents on standard output.
pub const FORMAT: u32 = 1;

/// How to print.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    json_logs: bool,
    color: bool,
    quiet: bool,
}

/// A command's report as `--json` prints it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Document<R> {
    /// 1.
    pub format: u32,
    /// The command, like `backup` or `keys list`.
    pub command: String,
    /// What the command reports.
    #[serde(flatten)]
    pub report: R,
}

/// A failure as `--json` prints it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorDocument {
    /// 1.
    pub format: u32,
    /// The failure.
    pub error: ErrorReport,
}

/// A failure.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErrorReport {
    /// The exit code.
    pub code: u8,
    /// What kind of failure, for scripts.
    pub kind: String,
    /// What it is about.
    pub object: String,
    /// What happened, with its causes.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Output {
    /// As the options say.
    #[must_use]
    pub fn new(global: &Global) -> Self {
        Self {
            json: global.json,
            json_logs: global.has_json_logs(),
            color: global.is_colored(std::io::stderr().is_terminal()),
            quiet: global.quiet,
        }
    }

    /// Before the options are known.
    #[must_use]
    pub(super) fn for_usage(json: bool) -> Self {
        Self {
            json,
            json_logs: false,
            color: std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            quiet: false,
        }
    }

    /// Whether standard output is for a program.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a report: as a document, or as `text` makes it for people.
    ///
    /// # Errors
    /// When standard output cannot be written to. A reader that went away is no error.
    pub fn report<R: Serialize>(&self, command: &str, report: &R, text: impl FnOnce(&R) -> String) -> Result<(), Failure> {
        if !self.json {
            return print(printable::lines(&text(report)).as_bytes());
        }
        print(&to_json(&Document { format: FORMAT, command: command.to_owned(), report })?)
    }

    /// As [`Output::report`], for what runs unattended: with `-q`, what went well says nothing to people, so that cron sends no mail.
    ///
    /// # Errors
    /// As [`Output::report`].
    pub fn outcome<R: Serialize>(
        &self,
        command: &str,
        report: &R,
        went_well: bool,
        text: impl FnOnce(&R) -> String,
    ) -> Result<(), Failure> {
        if self.quiet && !self.json && went_well {
            return Ok(());
        }
        self.report(command, report, text)
    }

    /// Prints bytes as they are.
    ///
    /// # Errors
    /// As [`Output::report`].
    pub fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        print(bytes)
    }

    /// Prints a failure and gives its exit code.
    #[must_use]
    pub fn fail(&self, failure: &Failure) -> ExitCode {
        let code = failure.class.code();
        if self.json {
            let error = ErrorReport {
                code,
                kind: failure.kind.to_owned(),
                object: failure.object.clone(),
                message: failure.one_line(),
                hint: failure.hint.clone(),
            };
            // Nothing is left to be said when even this cannot be printed; the exit code still is.
            to_json(&ErrorDocument { format: FORMAT, error }).and_then(|json| print(&json)).ok();
        }
        self.say(failure);
        ExitCode::from(code)
    }

    /// Says on standard error what is wrong with one of many, for people only: a document has it already.
    pub fn complain(&self, object: &str, message: &str, hint: &str) {
        self.remark(&Failure::new(FailureClass::Failed, "", object, format!("{object}: {message}")).hint(hint));
    }

    /// Says on standard error, beside a report, what concerns others than it; for people only, as [`Output::complain`].
    pub fn remark(&self, failure: &Failure) {
        if !self.json {
            self.say(failure);
        }
    }

    /// Says on standard error what is about to be done, or what is asked of the person there.
    pub fn announce(&self, text: &str) {
        // Who cannot be told cannot confirm either.
        std::io::stderr().lock().write_all(printable::lines(text).as_bytes()).ok();
    }

    /// To standard error: as text, or as an event where that is a log of events.
    fn say(&self, failure: &Failure) {
        if self.json_logs {
            tracing::error!(error.object = failure.object, error.hint = failure.hint, "{}", failure.one_line());
        } else {
            // Nobody is left to be told that standard error is gone.
            std::io::stderr().lock().write_all(self.describe(failure).as_bytes()).ok();
        }
    }

    /// `error: …`, then each cause, then `hint: …`.
    #[must_use]
    pub fn describe(&self, failure: &Failure) -> String {
        let (red, cyan, plain) = if self.color { ("\u{1b}[1;31m", "\u{1b}[1;36m", "\u{1b}[0m") } else { ("", "", "") };
        let safe = printable::lines;
        let mut text = format!("{red}error:{plain} {}\n", safe(&failure.to_string()));
        let mut cause = std::error::Error::source(failure);
        while let Some(error) = cause {
            text.push_str(&format!("  cause: {}\n", safe(&error.to_string())));
            cause = error.source();
        }
        if !failure.hint.is_empty() {
            text.push_str(&format!("{cyan}hint:{plain} {}\n", safe(&failure.hint)));
        }
        text
    }
}

fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    let json = serde_json::to_string_pretty(value).map_err(|error| {
        Failure::new(FailureClass::Failed, "output", "standard output", "the report cannot be written as JSON").because(error)
    })?;
    Ok((printable::json(&json) + "\n").into_bytes())
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(FailureClass::Failed, "output", "standard output", "cannot write to standard output").because(error))
        }
        _ => Ok(()),
    }
}
