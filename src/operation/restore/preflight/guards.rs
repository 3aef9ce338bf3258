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

/// Beside live tables one login fills and owns all of them until they are proven, and the tenant's code runs as it meanwhile. What that
/// hangs onto a table, an index for instance, goes to the table's owner, who runs it. So the owner is one, and without power.
pub(in crate::operation::restore) fn one_powerless_owner(found: &mut Preflight, request: &Request, owners: &BTreeSet<String>) {
    if owners.len() > 1 {
        let names: Vec<String> = owners.iter().map(|owner| shown(owner).to_string()).collect();
        let what = format!("the tables belong to several roles, and one's code could reach the others': {}", names.join(", "));
        found.guard("several-owners", what, "name the tables of one owner, or restore them into a new database with --into NAME");
    }
    let superusers = found.known_roles.superusers();
    let powerful = owners.iter().find(|owner| superusers.contains(*owner) || found.powers.owners.contains(*owner));
    if let Some(owner) = powerful
        && !allowed(&request.allow, "superuser-code")
    {
        let what = format!(
            "the tables belong to role {}, which has power, and the tenant's code may run while they are filled",
            shown(owner)
        );
        let hint = "restore them into a new database with --into NAME; or, where no lesser role's code is in the live one, add --allow superuser-code";
        found.guard("needs-allow", what, hint);
    }
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
