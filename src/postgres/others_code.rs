//! Code of other roles that restoring an administrator's objects would run.
//!
//! Filling a materialized view, building an index and analysing run what these are computed by, as their owner. What belongs to a
//! superuser, or to another role with power, is made in the administrator's session. So a function in it that a lesser role may rewrite
//! would get that power at the restore.

use std::collections::{HashMap, HashSet};

use super::archive_toc::TocEntry;

/// An object, and what it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunsOthers {
    /// The object that would be made.
    pub object: String,
    /// The function, operator, view or domain that somebody else may change.
    pub code: String,
    /// Who that is.
    pub owner: String,
}

/// Finds them in the archive's order. `powerful` are the roles whose objects the administrator makes, the `superusers` among them.
///
/// A table's own defaults and constraints don't count for what is made of it later; they run in a login without power.
#[must_use]
pub fn find(toc: &[TocEntry], powerful: &HashSet<String>, superusers: &HashSet<String>) -> Vec<RunsOthers> {
    let by_id: HashMap<u32, &TocEntry> = toc.iter().map(|entry| (entry.dump_id, entry)).collect();
    let mut found = Vec::new();
    for entry in toc {
        let tables = || entry.needs.iter().filter_map(|id| by_id.get(id)).filter(|needed| needed.kind == "TABLE");
        let of_powerful = |owner: &String| !owner.is_empty() && powerful.contains(owner);
        let at_tables = tables().any(|table| of_powerful(&table.owner));
        // Whose code may run there: what PostgreSQL runs as the owner may be the owner's, what the session itself runs may not.
        let (made_by_admin, as_owner) = match entry.kind.as_str() {
            "MATERIALIZED VIEW DATA" | "INDEX" | "CONSTRAINT" => (of_powerful(&entry.owner), Some(&entry.owner)),
            "STATISTICS" => (at_tables, tables().next().map(|table| &table.owner)),
            "FK CONSTRAINT" => (of_powerful(&entry.owner), None),
            _ if entry.runs_code => (of_powerful(&entry.owner) || at_tables, None),
            _ => continue,
        };
        if !made_by_admin {
            continue;
        }
        let trusted = |owner: &String| owner.is_empty() || superusers.contains(owner) || as_owner == Some(owner);
        if let Some(code) = reached(entry, &by_id, toc).into_iter().find(|code| !trusted(&code.owner)) {
            found.push(RunsOthers { object: name(entry), code: name(code), owner: code.owner.clone() });
        }
    }
    found
}

fn name(entry: &TocEntry) -> String {
    entry.namespace.iter().chain([&entry.tag]).map(String::as_str).collect::<Vec<_>>().join(".")
}

/// All code that making `start` may run, as far as the archive tells.
fn reached<'a>(start: &'a TocEntry, by_id: &HashMap<u32, &'a TocEntry>, toc: &'a [TocEntry]) -> Vec<&'a TocEntry> {
    let in_session = start.kind == "FK CONSTRAINT" || start.runs_code;
    let mut seen = HashSet::from([start.dump_id]);
    let mut next: Vec<u32> = start.needs.clone();
    if start.kind == "CONSTRAINT" && start.runs_code {
        // The archive does not tell which functions are in an exclusion constraint: any of them may be.
        next.extend(toc.iter().filter(|entry| entry.kind == "FUNCTION").map(|entry| entry.dump_id));
    }
    let mut found = Vec::new();
    while let Some(id) = next.pop() {
        if !seen.insert(id) {
            continue;
        }
        let Some(entry) = by_id.get(&id).copied() else { continue };
        let needs = entry.needs.iter().filter_map(|id| by_id.get(id));
        match entry.kind.as_str() {
            "FUNCTION" | "PROCEDURE" | "AGGREGATE" | "OPERATOR" | "VIEW" | "DOMAIN" => {
                found.push(entry);
                next.extend(&entry.needs);
            }
            "TYPE" | "SHELL TYPE" | "OPERATOR CLASS" | "OPERATOR FAMILY" | "CAST" | "COLLATION" => next.extend(&entry.needs),
            // Its query runs only when it is itself filled.
            "MATERIALIZED VIEW" if (&entry.namespace, &entry.tag) == (&start.namespace, &start.tag) => next.extend(&entry.needs),
            // A partition's bounds are checked by what its parent is partitioned by.
            "TABLE" if start.kind == "TABLE ATTACH" => {
                next.extend(needs.filter(|needed| needed.kind != "TABLE").map(|needed| needed.dump_id));
            }
            // Types bring functions of their own along; keys of different types are compared by casts between them.
            "TABLE" => {
                let types: Vec<u32> = needs
                    .filter(|needed| needed.kind == "TYPE" || (in_session && needed.kind == "DOMAIN"))
                    .map(|needed| needed.dump_id)
                    .collect();
                if start.kind == "FK CONSTRAINT" {
                    let of_types = |cast: &&TocEntry| cast.kind == "CAST" && cast.needs.iter().any(|id| types.contains(id));
                    next.extend(toc.iter().filter(of_types).map(|cast| cast.dump_id));
                }
                next.extend(types);
            }
            _ => {}
        }
    }
    found.sort_unstable_by_key(|entry| entry.dump_id);
    found
}
