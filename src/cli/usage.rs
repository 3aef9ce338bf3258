//! A wrong command line, said as every other error is: what is wrong, then a hint.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::output::Output;
use crate::operation::failure::{Failure, FailureClass};

/// Prints help and versions, or says what is wrong; gives the exit code.
pub(super) fn explain(error: &clap::Error, output: Output) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that went away has seen enough.
        error.print().ok();
        return ExitCode::SUCCESS;
    }
    output.fail(&to_failure(error))
}

fn to_failure(error: &clap::Error) -> Failure {
    let wrong =
        |object: &str, message: String, hint: String| Failure::new(FailureClass::Usage, "usage", object, message).hint(hint);
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(verb)) = error.get(ContextKind::InvalidSubcommand)
    {
        if verb == "delete" {
            let hint =
                "say what is to go: `drop` removes the live database, `purge` its backups, `erase` both, with a certificate";
            return wrong("delete", "`delete` is not a command".into(), hint.into());
        }
        if NOT_BUILT.contains(&verb.as_str()) {
            return wrong(verb, format!("`{verb}` is not built yet"), "see `tenure --help` for what this version can do".into());
        }
        let hint = match error.get(ContextKind::SuggestedSubcommand) {
            Some(ContextValue::Strings(nearest)) if !nearest.is_empty() => format!("did you mean `{}`?", nearest.join("` or `")),
            _ => "see `tenure --help`".to_owned(),
        };
        return wrong(verb, format!("there is no command `{verb}`"), hint);
    }
    let help = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => {
            let usage = usage.to_string();
            usage.trim().strip_prefix("Usage: ").unwrap_or(&usage).to_owned()
        }
        _ => String::new(),
    };
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand || error.kind() == ErrorKind::MissingSubcommand {
        return wrong(
            "command line",
            "no command".into(),
            "see `tenure --help`; a first try begins with `tenure init --help`".into(),
        );
    }
    if error.kind() == ErrorKind::MissingRequiredArgument
        && let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg)
        && missing.iter().any(|argument| argument == "<TENANTS>..." || argument == "<TENANT>")
        && OF_MANY.iter().any(|verb| help.starts_with(verb))
    {
        return wrong("command line", "no tenant is named".into(), "name one or more tenants, or all of them with --all".into());
    }
    let rendered = error.render().to_string();
    let (mut message, tips) = split(&rendered);
    let mut hints = tips;
    if error.kind() == ErrorKind::ValueValidation && hints.is_empty() {
        // What our parsers say is what is wrong, and then what to type.
        let typed = ["expected ", "write "].iter().find_map(|word| message.find(&format!(": {word}")));
        match typed {
            Some(at) => {
                hints.push(message[at + 2..].to_owned());
                message.truncate(at);
            }
            None => hints.push("see the command's --help".to_owned()),
        }
    } else if error.kind() == ErrorKind::ArgumentConflict {
        // clap's usage line would name what it has just refused.
        let is_word = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
        hints.push(format!("see `{} --help`", help.split_whitespace().take_while(is_word).collect::<Vec<_>>().join(" ")));
    } else if !help.is_empty() {
        hints.push(format!("usage: `{}`", help.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    wrong("command line", message, hints.join(". "))
}

/// Commands that take `--all` instead of tenants.
const OF_MANY: [&str; 7] = [
    "tenure backup",
    "tenure verify",
    "tenure restore",
    "tenure admit",
    "tenure keys rotate",
    "tenure keys rewrap",
    "tenure keys prune",
];

/// Commands of later versions.
const NOT_BUILT: [&str; 14] = [
    "status", "export", "drill", "expire", "purge", "plans", "approve", "hold", "release", "audit", "worker", "report", "unlock",
    "rotate",
];

/// clap writes paragraphs: the error, tips, the usage, where to find help.
fn split(rendered: &str) -> (String, Vec<String>) {
    let mut message = String::new();
    let mut tips = Vec::new();
    for paragraph in rendered.split("\n\n") {
        let one_line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(error) = one_line.strip_prefix("error: ") {
            error.clone_into(&mut message);
        } else if one_line.starts_with("tip: ") {
            tips.extend(one_line.split("tip: ").map(str::trim).filter(|tip| !tip.is_empty()).map(str::to_owned));
        }
    }
    (message, tips)
}
