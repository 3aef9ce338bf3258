//! Which entries of a schema archive are restored when, and by whose login.
//!
//! PostgreSQL runs a tenant's own functions while rows are loaded, indexes are built and constraints are checked. So everything that
//! may do that, and belongs to a role that is no superuser, is left to the loader's login. That holds before the rows, too: see
//! [`TocEntry::runs_code`].

use std::collections::{BTreeSet, HashMap, HashSet};

use super::archive_toc::{Section, TocEntry};

/// Whose login restores an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// The administrator.
    Admin,
    /// The temporary or configured login without superuser.
    Loader,
}

/// Entries that one `pg_restore` restores, in the archive's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Whose login.
    pub by: Login,
    /// Their numbers.
    pub entries: Vec<u32>,
}

/// Indexes of one table that can be built as soon as its rows are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Early {
    /// Schema and name of the table.
    pub table: (String, String),
    /// Whose login.
    pub by: Login,
    /// Constraints: they lock the table, so one after the other, and first.
    pub exclusive: Vec<u32>,
    /// Indexes: all at once, as far as there are connections.
    pub shared: Vec<u32>,
    /// Whether one of them takes long.
    pub slow: bool,
}

/// The whole order. An entry is in at most one list; rows are in none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestorePlan {
    /// Schemas that extensions live in: before extensions are created at their recorded versions.
    pub extension_schemas: Vec<u32>,
    /// Everything else that comes before the rows.
    pub pre_data: Vec<Step>,
    /// Indexes of large tables, which need not wait for other tables' rows.
    pub early: Vec<Early>,
    /// Indexes, constraints, triggers, rules, policies, publications.
    pub post_data: Vec<Step>,
    /// Row security goes on when every foreign key has been checked: that is done by the loader, whom it would keep from rows of a table
    /// on which it is forced.
    pub row_security: Vec<Step>,
    /// Grants and default privileges: after everything that they might forbid us.
    pub grants: Vec<u32>,
    /// Materialized views are filled after the grants that their queries need.
    pub refresh: Vec<Step>,
    /// Event triggers and subscriptions, and what is said about them: last.
    pub last: Vec<u32>,
}

/// Makes the plan. `superusers` are the roles that the loader must not be a member of where it will be restored, superusers and others
/// with power beyond the database, `large` the tables (schema and name) whose
/// indexes do not wait for the others.
#[must_use]
pub fn plan(toc: &[TocEntry], superusers: &HashSet<String>, large: &HashSet<(String, String)>) -> RestorePlan {
    let by_id: HashMap<u32, &TocEntry> = toc.iter().map(|entry| (entry.dump_id, entry)).collect();
    let schemas_needed: HashSet<u32> = toc
        .iter()
        .filter(|entry| entry.kind == "EXTENSION")
        .flat_map(|entry| entry.needs.iter().copied())
        .filter(|id| by_id.get(id).is_some_and(|entry| entry.kind == "SCHEMA"))
        .collect();
    let mut plan = RestorePlan::default();
    let (mut pre_data, mut post_data) = (Vec::new(), Vec::new());
    let (mut row_security, mut refresh) = (Vec::new(), Vec::new());
    let mut section = Section::PreData;
    for entry in toc {
        // As pg_restore does: an entry without a section follows the one before it.
        if entry.section != Section::None {
            section = entry.section;
        }
        let id = entry.dump_id;
        match entry.kind.as_str() {
            // pg_restore takes these from the archive's header, list or no list.
            "ENCODING" | "STDSTRINGS" | "SEARCHPATH" | "DATABASE" | "DATABASE PROPERTIES" => {}
            "ACL" | "DEFAULT ACL" => plan.grants.push(id),
            "ROW SECURITY" => row_security.push((id, login(entry, superusers))),
            "MATERIALIZED VIEW DATA" => refresh.push((id, login(entry, superusers))),
            "EVENT TRIGGER" | "SUBSCRIPTION" | "SUBSCRIPTION TABLE" => plan.last.push(id),
            _ if follows_last(entry, &by_id) => plan.last.push(id),
            _ if schemas_needed.contains(&id) => plan.extension_schemas.push(id),
            _ if section == Section::PreData => pre_data.push((id, login_before_rows(entry, &by_id, superusers))),
            "INDEX" | "CONSTRAINT" if let Some(table) = alone(entry, &by_id).filter(|table| large.contains(table)) => {
                let by = login(entry, superusers);
                let at = plan.early.iter().position(|early| early.table == table && early.by == by).unwrap_or_else(|| {
                    plan.early.push(Early { table, by, exclusive: Vec::new(), shared: Vec::new(), slow: false });
                    plan.early.len() - 1
                });
                let early = &mut plan.early[at];
                early.slow |= entry.slow;
                if entry.kind == "INDEX" { early.shared.push(id) } else { early.exclusive.push(id) }
            }
            _ if section == Section::PostData => post_data.push((id, login(entry, superusers))),
            _ => {}
        }
    }
    plan.pre_data = steps(&pre_data, &by_id, Login::Admin);
    plan.post_data = steps(&post_data, &by_id, Login::Loader);
    plan.row_security = steps(&row_security, &by_id, Login::Loader);
    plan.refresh = steps(&refresh, &by_id, Login::Loader);
    plan
}

/// The only table that an index needs, when it needs nothing else that comes after the rows.
fn alone(entry: &TocEntry, by_id: &HashMap<u32, &TocEntry>) -> Option<(String, String)> {
    let mut tables = entry.needs.iter().filter_map(|id| by_id.get(id)).filter(|needed| needed.kind == "TABLE");
    let table = tables.next()?;
    let others = entry.needs.iter().filter_map(|id| by_id.get(id)).any(|needed| needed.section == Section::PostData);
    if tables.next().is_some() || others {
        return None;
    }
    Some((table.namespace.clone()?, table.tag.clone()))
}

/// Whether it comments on, or labels, something that is restored last.
fn follows_last(entry: &TocEntry, by_id: &HashMap<u32, &TocEntry>) -> bool {
    matches!(entry.kind.as_str(), "COMMENT" | "SECURITY LABEL")
        && entry
            .needs
            .iter()
            .filter_map(|id| by_id.get(id))
            .any(|needed| matches!(needed.kind.as_str(), "EVENT TRIGGER" | "SUBSCRIPTION"))
}

fn login(entry: &TocEntry, superusers: &HashSet<String>) -> Login {
    match entry.kind.as_str() {
        // None of these runs a tenant's code, and some take rights on the database that the loader does not get.
        "COMMENT" | "SECURITY LABEL" | "STATISTICS" | "PUBLICATION" | "PUBLICATION TABLE" | "PUBLICATION TABLES IN SCHEMA" => {
            Login::Admin
        }
        _ if entry.owner.is_empty() || superusers.contains(&entry.owner) => Login::Admin,
        _ => Login::Loader,
    }
}

/// Before the rows the loader makes only what may run code, and only what it may: a partition or heir of a superuser's table it may not.
fn login_before_rows(entry: &TocEntry, by_id: &HashMap<u32, &TocEntry>, superusers: &HashSet<String>) -> Login {
    let of_superuser = |owner: &String| owner.is_empty() || superusers.contains(owner);
    let parents = || entry.needs.iter().filter_map(|id| by_id.get(id)).filter(|needed| needed.kind == "TABLE");
    let may =
        !of_superuser(&entry.owner) && entry.kind != "FOREIGN TABLE" && !parents().any(|parent| of_superuser(&parent.owner));
    if entry.runs_code && may { Login::Loader } else { Login::Admin }
}

/// As few steps as dependencies allow, each in the archive's order, beginning with one by `first` if it has anything to do.
fn steps(entries: &[(u32, Login)], by_id: &HashMap<u32, &TocEntry>, first: Login) -> Vec<Step> {
    let mut waiting: BTreeSet<usize> = (0..entries.len()).collect();
    let position: HashMap<u32, usize> = entries.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
    // What an entry needs among these, also by way of entries that are restored elsewhere.
    let needs: Vec<Vec<usize>> = entries.iter().map(|(id, _)| reach(*id, &position, by_id)).collect();
    let mut steps = Vec::new();
    let mut by = first;
    let mut idle = false;
    while !waiting.is_empty() {
        let mut taken = BTreeSet::new();
        loop {
            let ready: Vec<usize> = waiting
                .iter()
                .copied()
                .filter(|at| entries[*at].1 == by && needs[*at].iter().all(|needed| !waiting.contains(needed)))
                .collect();
            if ready.is_empty() {
                break;
            }
            for at in ready {
                waiting.remove(&at);
                taken.insert(at);
            }
        }
        if taken.is_empty() && idle {
            // Needs in a circle: the archive's own order is the best that is left.
            let all = waiting.iter().map(|at| entries[*at].0).collect();
            steps.push(Step { by: Login::Admin, entries: all });
            break;
        }
        idle = taken.is_empty();
        if !taken.is_empty() {
            steps.push(Step { by, entries: taken.iter().map(|at| entries[*at].0).collect() });
        }
        by = if by == Login::Loader { Login::Admin } else { Login::Loader };
    }
    steps
}

fn reach(id: u32, position: &HashMap<u32, usize>, by_id: &HashMap<u32, &TocEntry>) -> Vec<usize> {
    let mut seen = HashSet::from([id]);
    let mut found = Vec::new();
    let mut next = vec![id];
    while let Some(id) = next.pop() {
        for needed in by_id.get(&id).into_iter().flat_map(|entry| entry.needs.iter().copied()) {
            if !seen.insert(needed) {
                continue;
            }
            if let Some(at) = position.get(&needed) {
                found.push(*at);
            } else {
                next.push(needed);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{Login, Step, plan};
    use crate::postgres::archive_toc::{Section, TocEntry};

    fn entry(dump_id: u32, kind: &str, owner: &str, section: Section, needs: &[u32]) -> TocEntry {
        TocEntry {
            dump_id,
            kind: kind.into(),
            namespace: None,
            tag: String::new(),
            owner: owner.into(),
            section,
            runs_code: kind == "TABLE ATTACH",
            slow: false,
            needs: needs.to_vec(),
        }
    }

    #[test]
    fn each_entry_by_whom_it_belongs_to() {
        use Section::{None, PostData, PreData};
        let toc = [
            entry(1, "SCHEMA", "app", PreData, &[]),
            entry(2, "SCHEMA", "app", PreData, &[]),
            entry(3, "EXTENSION", "", PreData, &[2]),
            entry(10, "TABLE", "app", PreData, &[1]),
            entry(11, "COMMENT", "app", None, &[10]),
            entry(12, "ACL", "app", None, &[10]),
            entry(13, "TABLE", "postgres", PreData, &[1]),
            entry(20, "CONSTRAINT", "postgres", PostData, &[13]),
            entry(21, "FK CONSTRAINT", "app", PostData, &[20, 10]),
            entry(22, "INDEX", "app", PostData, &[10]),
            entry(23, "COMMENT", "app", None, &[22]),
            entry(24, "DEFAULT ACL", "app", PostData, &[]),
            entry(25, "EVENT TRIGGER", "postgres", PostData, &[]),
            entry(26, "COMMENT", "postgres", None, &[25]),
            entry(27, "MATERIALIZED VIEW DATA", "app", PostData, &[]),
            entry(28, "ROW SECURITY", "app", PostData, &[10]),
            entry(29, "ROW SECURITY", "postgres", PostData, &[13]),
        ];
        let plan = plan(&toc, &HashSet::from(["postgres".to_owned()]), &HashSet::new());
        assert_eq!(plan.extension_schemas, [2]);
        assert_eq!(plan.pre_data, [Step { by: Login::Admin, entries: vec![1, 3, 10, 11, 13] }]);
        assert_eq!(plan.grants, [12, 24]);
        assert_eq!(plan.last, [25, 26]);
        let steps: Vec<(Login, &[u32])> = plan.post_data.iter().map(|step| (step.by, step.entries.as_slice())).collect();
        assert_eq!(steps, [(Login::Loader, &[22][..]), (Login::Admin, &[20, 23]), (Login::Loader, &[21])]);
        let steps: Vec<(Login, &[u32])> = plan.row_security.iter().map(|step| (step.by, step.entries.as_slice())).collect();
        assert_eq!(steps, [(Login::Loader, &[28][..]), (Login::Admin, &[29])]);
        assert_eq!(plan.refresh.len(), 1);
        assert_eq!(plan.refresh[0].by, Login::Loader);
    }
    #[test]
    fn what_runs_code_before_the_rows_is_the_loaders() {
        use Section::PreData;
        let toc = [
            entry(1, "SCHEMA", "app", PreData, &[]),
            entry(2, "TABLE", "app", PreData, &[1]),
            entry(3, "TABLE", "app", PreData, &[1]),
            entry(4, "TABLE ATTACH", "app", PreData, &[2, 3]),
            entry(5, "VIEW", "app", PreData, &[2, 4]),
            entry(6, "TABLE", "postgres", PreData, &[1]),
            entry(7, "TABLE", "app", PreData, &[1]),
            entry(8, "TABLE ATTACH", "app", PreData, &[6, 7]),
        ];
        let plan = plan(&toc, &HashSet::from(["postgres".to_owned()]), &HashSet::new());
        let steps: Vec<(Login, &[u32])> = plan.pre_data.iter().map(|step| (step.by, step.entries.as_slice())).collect();
        assert_eq!(steps, [(Login::Admin, &[1, 2, 3, 6, 7, 8][..]), (Login::Loader, &[4]), (Login::Admin, &[5])]);
    }
}
