//! What cannot be undone is done only when its object was named.

use std::io::{BufRead as _, IsTerminal as _};

use super::edge::Edge;
use crate::{
    operation::failure::{Failure, FailureClass},
    printable::{Word, confirmed},
    tenant::TenantName,
};

/// Whether the tenant that a destructive command is about was named once more: by `--confirm`, or by a person at a terminal.
///
/// # Errors
/// Another name, or nobody who could be asked (4): then everything is as it was.
pub(super) fn tenant(
    edge: &Edge,
    tenant: &TenantName,
    given: Option<&str>,
    (verb, options): (&str, &str),
) -> Result<(), Failure> {
    let name = Word(tenant.as_str());
    let refuse = |message: String| {
        Err(Failure::new(FailureClass::Refused, "not-confirmed", tenant, message)
            .hint(format!("Nothing was done. To do it: `{}`.", confirmed(verb, tenant.as_str(), options))))
    };
    if let Some(given) = given {
        return match given == tenant.as_str() {
            true => Ok(()),
            false => refuse(format!("--confirm names {}, and the tenant is {name}", Word(given))),
        };
    }
    // A pipe is no person, whatever it says.
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return refuse(format!("nobody has confirmed that tenant {name} is meant"));
    }
    edge.output.announce(&format!("type the name of the tenant to go on ({name}): "));
    let mut typed = String::new();
    // What cannot be read was not typed.
    std::io::stdin().lock().read_line(&mut typed).ok();
    if typed.trim_end_matches(['\r', '\n']) == tenant.as_str() { Ok(()) } else { refuse("another name was typed".to_owned()) }
}
