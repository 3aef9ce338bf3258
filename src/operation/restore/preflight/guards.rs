//! What is refused unless `--allow` lifts it.

use std::collections::BTreeSet;

use super::Preflight;
use crate::{
    format::description::Description,
    operation::restore::{Request, shown},
    postgres::{archive_toc::TocEntry, others_code},
};

/// Whether `allow` lists `what`, or everything.
pub(super) fn allowed(allow: &[String], what: &str) -> bool {
    allow.iter().any(|allowed| allowed == what || allowed == "all")
}

/// A role of that name may stand for somebody else here, and the tenant's code would come to act as it.
pub(super) fn powerful_owners(found: &mut Preflight, request: &Request) {
    if found.powers.unrecorded.is_empty() || allowed(&request.allow, "powerful-owners") {
        return;
    }
    let what = format!("owners have power there that the backup does not record: {}", found.powers.unrecorded.join(", "));
    found.guard("needs-allow", what, "take that power from them, or make them owners all the same with --allow powerful-owners");
}

/// What the administrator makes runs as its owner, or as the administrator.
pub(super) fn superuser_code(found: &mut Preflight, request: &Request, toc: &[TocEntry]) {
    if allowed(&request.allow, "superuser-code") {
        return;
    }
    let superusers = found.known_roles.superusers();
    let powerful = superusers.union(&found.powers.owners).cloned().collect();
    let runs = others_code::find(toc, &powerful, &superusers);
    if runs.is_empty() {
        return;
    }
    let runs: Vec<String> =
        runs.iter().map(|runs| format!("{} ({} of {})", shown(&runs.object), shown(&runs.code), shown(&runs.owner))).collect();
    let what = format!(
        "things of superusers, or of other roles with power, would run what a lesser role may change: {}",
        runs.join(", ")
    );
    found.guard("needs-allow", what, "look at that code, then add --allow superuser-code");
}

/// Settings that make a session load libraries, or say where a function's library lies.
const LIBRARIES: [&str; 3] = ["session_preload_libraries", "local_preload_libraries", "dynamic_library_path"];

/// What runs with the server's rights, or reaches out of the database.
pub(super) fn guards(found: &mut Preflight, request: &Request, description: &Description, toc: &[TocEntry]) {
    let of_kind = |kinds: &[&str]| -> BTreeSet<String> {
        toc.iter().filter(|entry| kinds.contains(&entry.kind.as_str())).map(|entry| entry.tag.clone()).collect()
    };
    let mut functions: BTreeSet<String> = description.untrusted_functions.iter().cloned().collect();
    functions.extend(of_kind(&[
        "PROCEDURAL LANGUAGE",
        "ACCESS METHOD",
        "TRANSFORM",
        "TEXT SEARCH TEMPLATE",
        "TEXT SEARCH PARSER",
    ]));
    // Only an administrator may make these, and the server would run what they are computed by.
    functions.extend(toc.iter().filter(|entry| entry.kind == "FOREIGN TABLE" && entry.runs_code).map(|entry| entry.tag.clone()));
    let settings =
        description.database.settings.iter().filter(|setting| LIBRARIES.contains(&setting.name.to_ascii_lowercase().as_str()));
    functions.extend(settings.map(|setting| format!("what the setting {} loads", setting.name)));
    let mut triggers: BTreeSet<String> = description.event_triggers.iter().cloned().collect();
    triggers.extend(of_kind(&["EVENT TRIGGER"]));
    let mut subscriptions: BTreeSet<String> = description.subscriptions.iter().cloned().collect();
    subscriptions.extend(of_kind(&["SUBSCRIPTION"]));
    for (allowance, what, names) in [
        ("c-functions", "functions that run with the server's rights", functions),
        ("event-triggers", "event triggers", triggers),
        ("subscriptions", "subscriptions", subscriptions),
    ] {
        if !names.is_empty() && !allowed(&request.allow, allowance) {
            let names: Vec<String> = names.iter().map(|name| shown(name)).collect();
            found.guard("needs-allow", format!("it has {what}: {}", names.join(", ")), format!("add --allow {allowance}"));
        }
    }
}
