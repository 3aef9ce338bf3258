//! Which entries of a schema archive are restored when, and by whose login.
//!
//! PostgreSQL runs a tenant's own functions while rows are loaded, indexes are built and constraints are checked. So everything that
//! may do that, and belongs to a role without power, is left to a login that is a member of that role and of no other: what runs there
//! can take on its own owner and nobody else. That holds before the rows, too: see [`TocEntry::runs_code`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::archive_toc::{Section, TocEntry};

/// Whose login restores an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// The administrator.
    Admin,
    /// A login that is a member of these and of no other.
    Owners(Owners),
}

/// Roles that one entry needs together: nearly always its owner alone; with a partition or an heir of somebody else, that one as well.
pub type Owners = BTreeSet<String>;

/// A schema and a table in it.
type TableName = (String, String);

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
    pub table: TableName,
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
    /// Row security goes on when every foreign key has been checked: that is done by the owners, whom it would keep from rows of a table
    /// on which it is forced.
    pub row_security: Vec<Step>,
    /// Grants and default privileges: after everything that they might forbid us.
    pub grants: Vec<u32>,
    /// Materialized views are filled after the grants that their queries need.
    pub refresh: Vec<Step>,
    /// Event triggers and subscriptions, and what is said about them: last.
    pub last: Vec<u32>,
    /// All owners that there must be a login for, with what it must be able to do beyond what they may.
    pub owners: BTreeMap<Owners, Needs>,
}

/// What a login needs besides being a member of owners.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// Schemas in which it makes something.
    pub schemas: BTreeSet<String>,
    /// Tables of others that its foreign keys and constraint triggers refer to: whether the owners may is known only from the recorded
    /// grants, which come later.
    pub tables: BTreeSet<TableName>,
}

/// Makes the plan. `powerful` are the roles that no login for a tenant's code may be a member of where it will be restored: superusers and
/// others with power beyond the database. `large` are the tables (schema and name) whose indexes do not wait for the others.
#[must_use]
pub fn plan(toc: &[TocEntry], powerful: &HashSet<String>, large: &HashSet<TableName>) -> RestorePlan {
    let by_id: HashMap<u32, &TocEntry> = toc.iter().map(|entry| (entry.dump_id, entry)).collect();
    let who = Who { powerful, below: Below::read(toc, &by_id), by_id: &by_id };
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
            "ROW SECURITY" => row_security.push((id, who.makes(entry))),
            "MATERIALIZED VIEW DATA" => refresh.push((id, who.makes(entry))),
            "EVENT TRIGGER" | "SUBSCRIPTION" | "SUBSCRIPTION TABLE" => plan.last.push(id),
            _ if follows_last(entry, &by_id) => plan.last.push(id),
            _ if schemas_needed.contains(&id) => plan.extension_schemas.push(id),
            _ if section == Section::PreData => pre_data.push((id, who.makes_before_rows(entry))),
            "INDEX" | "CONSTRAINT" if let Some(table) = alone(entry, &by_id).filter(|table| large.contains(table)) => {
                let by = who.makes(entry);
                let at = plan.early.iter().position(|early| early.table == table && early.by == by).unwrap_or_else(|| {
                    plan.early.push(Early { table, by, exclusive: Vec::new(), shared: Vec::new(), slow: false });
                    plan.early.len() - 1
                });
                let early = &mut plan.early[at];
                early.slow |= entry.slow;
                if entry.kind == "INDEX" { early.shared.push(id) } else { early.exclusive.push(id) }
            }
            _ if section == Section::PostData => post_data.push((id, who.makes(entry))),
            _ => {}
        }
    }
    plan.pre_data = steps(&pre_data, &by_id, Turn::First);
    plan.post_data = steps(&post_data, &by_id, Turn::Last);
    plan.row_security = steps(&row_security, &by_id, Turn::Last);
    plan.refresh = steps(&refresh, &by_id, Turn::Last);
    plan.owners = needs(&plan, &by_id);
    plan
}

/// What each login must be able to do.
fn needs(plan: &RestorePlan, by_id: &HashMap<u32, &TocEntry>) -> BTreeMap<Owners, Needs> {
    let steps = plan.pre_data.iter().chain(&plan.post_data).chain(&plan.row_security).chain(&plan.refresh);
    let steps = steps.map(|step| (&step.by, step.entries.iter()));
    let early = plan.early.iter().flat_map(|early| [(&early.by, early.exclusive.iter()), (&early.by, early.shared.iter())]);
    let mut all: BTreeMap<Owners, Needs> = BTreeMap::new();
    for (by, entries) in steps.chain(early) {
        let Login::Owners(owners) = by else { continue };
        let needs = all.entry(owners.clone()).or_default();
        for entry in entries.filter_map(|id| by_id.get(id)) {
            needs.schemas.extend(entry.namespace.clone());
            if matches!(entry.kind.as_str(), "FK CONSTRAINT" | "TRIGGER") {
                let tables = tables(entry, by_id).filter(|table| !owners.contains(&table.owner));
                needs.tables.extend(tables.filter_map(|table| Some((table.namespace.clone()?, table.tag.clone()))));
            }
        }
    }
    all
}

/// The tables that an entry needs.
fn tables<'a>(entry: &'a TocEntry, by_id: &'a HashMap<u32, &'a TocEntry>) -> impl Iterator<Item = &'a TocEntry> {
    entry.needs.iter().filter_map(|id| by_id.get(id).copied()).filter(|needed| needed.kind == "TABLE")
}

/// What is below each table, one step down.
#[derive(Default)]
struct Below {
    partitions: HashMap<u32, Vec<u32>>,
    /// Tables that inherit. What they have as the type of a column counts too: the archive does not tell the one from the other.
    heirs: HashMap<u32, Vec<u32>>,
}

impl Below {
    fn read(toc: &[TocEntry], by_id: &HashMap<u32, &TocEntry>) -> Self {
        let mut below = Self::default();
        for entry in toc {
            let is_itself = |table: &TocEntry| (&table.namespace, &table.tag) == (&entry.namespace, &entry.tag);
            let (itself, others): (Vec<_>, Vec<_>) = tables(entry, by_id).partition(|table| is_itself(table));
            let (list, id) = match (entry.kind.as_str(), itself.first()) {
                ("TABLE", _) if entry.inherits => (&mut below.heirs, entry.dump_id),
                ("TABLE ATTACH", Some(partition)) => (&mut below.partitions, partition.dump_id),
                _ => continue,
            };
            for parent in others {
                list.entry(parent.dump_id).or_default().push(id);
            }
        }
        below
    }
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

/// Who makes what.
struct Who<'a> {
    powerful: &'a HashSet<String>,
    below: Below,
    by_id: &'a HashMap<u32, &'a TocEntry>,
}

impl Who<'_> {
    fn is_powerful(&self, owner: &String) -> bool {
        owner.is_empty() || self.powerful.contains(owner)
    }

    /// After the rows.
    fn makes(&self, entry: &TocEntry) -> Login {
        let owner = &entry.owner;
        if self.is_powerful(owner) {
            return Login::Admin;
        }
        let others: Owners = match entry.kind.as_str() {
            // None of these runs a tenant's code, and some take rights on the database that the others do not get.
            "COMMENT"
            | "SECURITY LABEL"
            | "STATISTICS"
            | "PUBLICATION"
            | "PUBLICATION TABLE"
            | "PUBLICATION TABLES IN SCHEMA" => {
                return Login::Admin;
            }
            "INDEX" | "MATERIALIZED VIEW DATA" => Owners::new(),
            "INDEX ATTACH" => tables(entry, self.by_id).map(|table| table.owner.clone()).collect(),
            // A change of a table reaches its partitions; a constraint of its own also those that inherit from it.
            kind => {
                let constrains = matches!(kind, "CHECK CONSTRAINT" | "CONSTRAINT");
                self.owners_below(tables(entry, self.by_id).filter(|table| table.owner == *owner), constrains)
            }
        };
        // Adding these runs no code.
        let harmless = matches!(entry.kind.as_str(), "INDEX ATTACH" | "TRIGGER");
        if harmless && others.iter().any(|other| self.is_powerful(other)) {
            return Login::Admin;
        }
        let others = others.into_iter().filter(|other| !self.is_powerful(other));
        Login::Owners(others.chain([owner.clone()]).collect())
    }

    /// Before the rows the administrator makes all but what may run code. What is part of a powerful role's table only he can make.
    fn makes_before_rows(&self, entry: &TocEntry) -> Login {
        let owners: Owners = tables(entry, self.by_id).map(|parent| &parent.owner).chain([&entry.owner]).cloned().collect();
        if !entry.runs_code || entry.kind == "FOREIGN TABLE" || owners.iter().any(|owner| self.is_powerful(owner)) {
            return Login::Admin;
        }
        // A table of others may stand there as the type of a column, which takes no right: only its own owner makes it.
        Login::Owners(if entry.kind == "TABLE ATTACH" { owners } else { [entry.owner.clone()].into() })
    }

    /// The owners of everything below these tables.
    fn owners_below<'b>(&self, tables: impl Iterator<Item = &'b TocEntry>, heirs_too: bool) -> Owners {
        let mut next: Vec<u32> = tables.map(|table| table.dump_id).collect();
        let (mut seen, mut owners) = (HashSet::new(), Owners::new());
        while let Some(id) = next.pop() {
            let heirs = self.below.heirs.get(&id).filter(|_| heirs_too);
            let below = self.below.partitions.get(&id).into_iter().chain(heirs).flatten();
            for table in below.copied().filter(|table| seen.insert(*table)) {
                owners.extend(self.by_id.get(&table).map(|table| table.owner.clone()));
                next.push(table);
            }
        }
        owners
    }
}

/// When it is the administrator's turn.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    First,
    Last,
}

/// As few steps as dependencies allow, each in the archive's order. Logins take turns.
fn steps(entries: &[(u32, Login)], by_id: &HashMap<u32, &TocEntry>, admin: Turn) -> Vec<Step> {
    let mut waiting: BTreeSet<usize> = (0..entries.len()).collect();
    let position: HashMap<u32, usize> = entries.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
    // What an entry needs among these, also by way of entries that are restored elsewhere.
    let needs: Vec<Vec<usize>> = entries.iter().map(|(id, _)| reach(*id, &position, by_id)).collect();
    let mut turns: Vec<&Login> = Vec::new();
    for (_, login) in entries {
        if *login != Login::Admin && !turns.contains(&login) {
            turns.push(login);
        }
    }
    turns.insert(if admin == Turn::First { 0 } else { turns.len() }, &Login::Admin);
    let mut steps: Vec<Step> = Vec::new();
    let mut idle = 0;
    for by in turns.iter().copied().cycle() {
        if waiting.is_empty() {
            break;
        }
        let mut taken = BTreeSet::new();
        loop {
            let ready: Vec<usize> = waiting
                .iter()
                .copied()
                .filter(|at| entries[*at].1 == *by && needs[*at].iter().all(|needed| !waiting.contains(needed)))
                .collect();
            if ready.is_empty() {
                break;
            }
            for at in ready {
                waiting.remove(&at);
                taken.insert(at);
            }
        }
        if !taken.is_empty() {
            steps.push(Step { by: by.clone(), entries: taken.iter().map(|at| entries[*at].0).collect() });
            idle = 0;
            continue;
        }
        idle += 1;
        if idle == turns.len() {
            // Needs in a circle: the archive's own order is the best that is left, and each by whom it belongs to.
            if let Some(at) = waiting.pop_first() {
                steps.push(Step { by: entries[at].1.clone(), entries: vec![entries[at].0] });
            }
            idle = 0;
        }
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

    use super::{Login, Needs, Owners, Step, plan};
    use crate::postgres::archive_toc::{Section, TocEntry};

    fn entry(dump_id: u32, kind: &str, owner: &str, section: Section, needs: &[u32]) -> TocEntry {
        TocEntry {
            dump_id,
            kind: kind.into(),
            namespace: Some(String::new()),
            tag: format!("of {owner}"),
            owner: owner.into(),
            section,
            runs_code: kind == "TABLE ATTACH",
            inherits: false,
            slow: false,
            needs: needs.to_vec(),
        }
    }

    fn of(owners: &[&str]) -> Login {
        Login::Owners(owners.iter().map(|owner| (*owner).to_owned()).collect())
    }

    fn told(steps: &[Step]) -> Vec<(Login, &[u32])> {
        steps.iter().map(|step| (step.by.clone(), step.entries.as_slice())).collect()
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
            entry(21, "FK CONSTRAINT", "app", PostData, &[20, 13, 10]),
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
        assert_eq!(told(&plan.post_data), [(of(&["app"]), &[22][..]), (Login::Admin, &[20, 23]), (of(&["app"]), &[21])]);
        assert_eq!(told(&plan.row_security), [(of(&["app"]), &[28][..]), (Login::Admin, &[29])]);
        assert_eq!(told(&plan.refresh), [(of(&["app"]), &[27][..])]);
        let refers_to = [("".to_owned(), "of postgres".to_owned())].into();
        assert_eq!(
            plan.owners,
            [(Owners::from(["app".to_owned()]), Needs { schemas: ["".to_owned()].into(), tables: refers_to })].into()
        );
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
        assert_eq!(told(&plan.pre_data), [(Login::Admin, &[1, 2, 3, 6, 7, 8][..]), (of(&["app"]), &[4]), (Login::Admin, &[5])]);
    }

    #[test]
    fn one_owner_at_a_time_and_more_only_where_an_entry_needs_them_together() {
        use Section::{PostData, PreData};
        let named = |tag: &str, entry: TocEntry| TocEntry { tag: tag.into(), ..entry };
        let toc = [
            named("a", entry(1, "TABLE", "a", PreData, &[])),
            named("b", entry(2, "TABLE", "b", PreData, &[])),
            named("part", entry(3, "TABLE", "c", PreData, &[])),
            named("part", entry(4, "TABLE ATTACH", "c", PreData, &[3, 1])),
            TocEntry { inherits: true, ..named("heir", entry(5, "TABLE", "d", PreData, &[2])) },
            entry(10, "INDEX", "a", PostData, &[1]),
            entry(11, "INDEX", "b", PostData, &[2]),
            entry(12, "INDEX", "c", PostData, &[3]),
            entry(13, "INDEX ATTACH", "a", PostData, &[10, 12, 1, 3]),
            entry(14, "FK CONSTRAINT", "b", PostData, &[1, 2, 10]),
            entry(15, "FK CONSTRAINT", "a", PostData, &[1, 2, 11]),
            entry(16, "TRIGGER", "b", PostData, &[2]),
            entry(17, "CHECK CONSTRAINT", "b", PostData, &[2]),
            entry(18, "TRIGGER", "a", PostData, &[1]),
        ];
        let plain = plan(&toc, &HashSet::new(), &HashSet::new());
        assert_eq!(told(&plain.pre_data), [(Login::Admin, &[1, 2, 3, 5][..]), (of(&["a", "c"]), &[4])]);
        assert_eq!(
            told(&plain.post_data),
            [
                (of(&["a"]), &[10][..]),
                (of(&["b"]), &[11, 14, 16]),
                (of(&["c"]), &[12]),
                (of(&["a", "c"]), &[13, 15, 18]),
                (of(&["b", "d"]), &[17]),
            ]
        );
        let tables = |owners: &[&str]| -> Vec<String> {
            let owners = owners.iter().map(|owner| (*owner).to_owned()).collect::<Owners>();
            plain.owners[&owners].tables.iter().map(|(_, table)| table.clone()).collect()
        };
        assert_eq!((tables(&["b"]), tables(&["a", "c"])), (vec!["a".to_owned()], vec!["b".to_owned()]));
        assert!(tables(&["a"]).is_empty());
        // Nobody's login is a member of a powerful one, and what runs code stays with the others.
        let with_power = plan(&toc, &HashSet::from(["c".to_owned()]), &HashSet::new());
        assert_eq!(told(&with_power.pre_data), [(Login::Admin, &[1, 2, 3, 4, 5][..])]);
        assert_eq!(
            told(&with_power.post_data),
            [
                (of(&["a"]), &[10][..]),
                (of(&["b"]), &[11, 14, 16]),
                (of(&["b", "d"]), &[17]),
                (Login::Admin, &[12, 13, 18]),
                (of(&["a"]), &[15]),
            ]
        );
    }

    /// pg_dump writes no such archive. The administrator does not get what is another's because of it.
    #[test]
    fn needs_in_a_circle_make_nobody_more_powerful() {
        use Section::PostData;
        let toc = [entry(1, "CHECK CONSTRAINT", "a", PostData, &[2]), entry(2, "FK CONSTRAINT", "b", PostData, &[1])];
        let plan = plan(&toc, &HashSet::new(), &HashSet::new());
        assert_eq!(told(&plan.post_data), [(of(&["a"]), &[1][..]), (of(&["b"]), &[2])]);
    }
}
