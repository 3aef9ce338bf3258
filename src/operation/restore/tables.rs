//! A few tables of a backup: which entries of its schema archive make them, what these need, and what is left out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::shown;
use crate::{
    format::description::{Description, Sequence, Table},
    operation::failure::{Failure, FailureClass},
    postgres::archive_toc::TocEntry,
    printable::Word,
};

/// What belongs to a table and comes back with it, if all that it needs does.
const PARTS: [&str; 10] = [
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "DEFAULT",
    "TABLE ATTACH",
    "CHECK CONSTRAINT",
    "CONSTRAINT",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "STATISTICS",
];

/// What belongs to a table and is left out: it acts on, or is acted on by, what is not restored.
const LEFT_OUT: [(&str, &str); 8] = [
    ("TRIGGER", "trigger"),
    ("RULE", "rule"),
    ("POLICY", "policy"),
    ("ROW SECURITY", "row security of"),
    ("FK CONSTRAINT", "foreign key"),
    ("PUBLICATION TABLE", "publication"),
    ("STATISTICS", "statistics"),
    ("DEFAULT", "default"),
];

/// Names are near from here on; between 0 and 1.
const NEAR: f64 = 0.8;

/// The name of a table as it is asked for: SQL identifiers, quoted where they have to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// `None`: any.
    schema: Option<String>,
    name: String,
}

impl std::str::FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected TABLE or SCHEMA.TABLE, names with capitals, dots or spaces in double quotes".to_owned();
        let (first, rest) = identifier(text).ok_or_else(expected)?;
        match rest.strip_prefix('.') {
            None if rest.is_empty() => Ok(Self { schema: None, name: first }),
            Some(rest) => match identifier(rest) {
                Some((name, "")) => Ok(Self { schema: Some(first), name }),
                _ => Err(expected()),
            },
            None => Err(expected()),
        }
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => f.write_str(&quoted(schema, &self.name)),
            None => f.write_str(&word(&self.name)),
        }
    }
}

/// One identifier at the beginning, as PostgreSQL reads it, and the rest.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find(['.', '"']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        return (!name.is_empty()).then(|| (name.to_ascii_lowercase(), rest));
    };
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return (!name.is_empty()).then_some((name, after)),
        }
    }
}

/// A name as it has to be typed.
fn word(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c == '_';
    if name.starts_with(plain) && name.chars().all(|c| plain(c) || c.is_ascii_digit()) {
        return name.to_owned();
    }
    shown(&format!("\"{}\"", name.replace('"', "\"\"")))
}

fn quoted(schema: &str, name: &str) -> String {
    format!("{}.{}", word(schema), word(name))
}

/// A table that is restored.
#[derive(Debug, Clone)]
pub(super) struct Selected {
    pub schema: String,
    pub name: String,
    pub owner: String,
}

/// What is restored of a backup.
#[derive(Debug)]
pub(super) struct Selection {
    /// Entries of the archive.
    pub entries: HashSet<u32>,
    /// The tables, partitioned ones among them.
    pub tables: Vec<Selected>,
    /// What is not restored and belongs to them, and what else should be known.
    pub notes: Vec<String>,
}

/// Selects tables, all partitions of partitioned ones, and what they need.
///
/// # Errors
/// A table that the backup does not have (1); near names are told.
pub(super) fn select(wanted: &[TableName], description: &Description, toc: &[TocEntry]) -> Result<Selection, Failure> {
    let by_id: HashMap<u32, &TocEntry> = toc.iter().map(|entry| (entry.dump_id, entry)).collect();
    let tables: BTreeMap<(&str, &str), u32> =
        toc.iter().filter(|entry| entry.kind == "TABLE").map(|entry| (name_of(entry), entry.dump_id)).collect();
    let mut selected = BTreeSet::new();
    for name in wanted {
        selected.insert(find(name, &tables, description)?);
    }
    // A partition is attached by an entry of its own name, which needs both tables.
    let attached = || toc.iter().filter(|entry| entry.kind == "TABLE ATTACH");
    let parents = |entry: &TocEntry| {
        let child = name_of(entry);
        let needs = entry.needs.iter().filter_map(|id| by_id.get(id)).filter(|needed| needed.kind == "TABLE");
        let parent = needs.clone().find(|needed| name_of(needed) != child).map(|needed| needed.dump_id);
        Some((parent?, *tables.get(&child)?))
    };
    let pairs: Vec<(u32, u32)> = attached().filter_map(parents).collect();
    loop {
        let before = selected.len();
        let partitions: Vec<u32> =
            pairs.iter().filter(|(parent, _)| selected.contains(parent)).map(|(_, partition)| *partition).collect();
        selected.extend(partitions);
        if selected.len() == before {
            break;
        }
    }

    let closure = Closure { by_id: &by_id, pairs: &pairs, selected: &selected };
    let mut entries = HashSet::new();
    for id in &selected {
        closure.add(*id, &mut entries);
    }
    // Parts, and parts of parts, until there are no more.
    let mut notes = BTreeSet::new();
    loop {
        let before = entries.len();
        for entry in toc.iter().filter(|entry| PARTS.contains(&entry.kind.as_str())) {
            if !entries.contains(&entry.dump_id) && closure.is_part(entry, &entries) {
                closure.add(entry.dump_id, &mut entries);
            }
        }
        if entries.len() == before {
            break;
        }
    }
    let comments: Vec<u32> = toc
        .iter()
        .filter(|entry| entry.kind == "COMMENT" && !entry.needs.is_empty())
        .filter(|entry| entry.needs.iter().all(|id| entries.contains(id)))
        .map(|entry| entry.dump_id)
        .collect();
    entries.extend(comments);
    for entry in toc.iter().filter(|entry| !entries.contains(&entry.dump_id)) {
        let Some((_, what)) = LEFT_OUT.iter().find(|(kind, _)| *kind == entry.kind) else { continue };
        let mut of = selected.iter().filter_map(|id| by_id.get(id));
        if of.any(|table| {
            entry.namespace == table.namespace && (entry.tag == table.tag || entry.tag.starts_with(&format!("{} ", table.tag)))
        }) {
            notes.insert(format!(
                "left out: {what} {}",
                shown(&[entry.namespace.as_deref().unwrap_or_default(), &entry.tag].join("."))
            ));
        }
    }
    if toc.iter().any(|entry| entry.kind == "ACL" && entry.needs.iter().any(|id| selected.contains(id))) {
        notes.insert("left out: grants: only the owners may use the tables".to_owned());
    }
    if !description.large_objects.is_empty() {
        notes.insert("left out: large objects: columns may hold numbers of some that are not there".to_owned());
    }
    let empty = |entry: &&TocEntry| {
        matches!(entry.kind.as_str(), "TABLE" | "VIEW" | "MATERIALIZED VIEW" | "FOREIGN TABLE")
            && entries.contains(&entry.dump_id)
            && !selected.contains(&entry.dump_id)
    };
    for entry in toc.iter().filter(empty) {
        let (schema, name) = name_of(entry);
        notes.insert(format!(
            "{} {} is there without rows: a table needs its definition",
            entry.kind.to_lowercase(),
            quoted(schema, name)
        ));
    }
    let tables = selected.iter().filter_map(|id| by_id.get(id)).map(|entry| Selected {
        schema: entry.namespace.clone().unwrap_or_default(),
        name: entry.tag.clone(),
        owner: entry.owner.clone(),
    });
    Ok(Selection { tables: tables.collect(), entries, notes: notes.into_iter().collect() })
}

impl Selection {
    /// The description of this part of a backup.
    pub(super) fn describe(&self, whole: &Description, toc: &[TocEntry]) -> Description {
        let kept = |kind: &str| -> HashSet<(&str, &str)> {
            toc.iter().filter(|entry| entry.kind == kind && self.entries.contains(&entry.dump_id)).map(name_of).collect()
        };
        let (sequences, extensions, functions) = (kept("SEQUENCE"), kept("EXTENSION"), !kept("FUNCTION").is_empty());
        let tables: HashSet<(&str, &str)> =
            self.tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).collect();
        let is_kept = |table: &Table| tables.contains(&(table.schema.as_str(), table.name.as_str()));
        let mut part = Description {
            tables: Vec::new(),
            sequences: Vec::new(),
            extensions: Vec::new(),
            large_objects: Vec::new(),
            event_triggers: Vec::new(),
            subscriptions: Vec::new(),
            not_captured: Vec::new(),
            ..whole.clone()
        };
        part.tables.extend(whole.tables.iter().filter(|table| is_kept(table)).cloned());
        let is_of = |sequence: &&Sequence| sequences.contains(&(sequence.schema.as_str(), sequence.name.as_str()));
        part.sequences.extend(whole.sequences.iter().filter(is_of).cloned());
        part.extensions.extend(whole.extensions.iter().filter(|it| extensions.iter().any(|(_, name)| *name == it.name)).cloned());
        let names: HashSet<String> = tables.iter().map(|(schema, name)| format!("{schema}.{name}")).collect();
        part.not_captured.extend(whole.not_captured.iter().filter(|not| names.contains(&not.object)).cloned());
        // Which of them is meant cannot be told by name: where any function is needed, all of them are asked about.
        if !functions {
            part.untrusted_functions.clear();
        }
        part
    }
}

/// What entries need.
struct Closure<'a> {
    by_id: &'a HashMap<u32, &'a TocEntry>,
    /// Partitioned tables and their partitions.
    pairs: &'a [(u32, u32)],
    selected: &'a BTreeSet<u32>,
}

impl Closure<'_> {
    /// What an entry needs; a partition that is restored alone does without the table that it was attached to.
    fn needs<'b>(&'b self, entry: &'b TocEntry) -> impl Iterator<Item = u32> + 'b {
        entry.needs.iter().copied().filter(move |id| entry.kind == "TABLE ATTACH" || !self.pairs.contains(&(*id, entry.dump_id)))
    }

    /// Adds an entry and all that it needs.
    fn add(&self, id: u32, entries: &mut HashSet<u32>) {
        let mut next = vec![id];
        while let Some(id) = next.pop() {
            let Some(entry) = self.by_id.get(&id) else { continue };
            if entries.insert(id) {
                next.extend(self.needs(entry));
            }
        }
    }

    /// Whether an entry belongs to what is there already, and needs no relation that is not.
    fn is_part(&self, entry: &TocEntry, entries: &HashSet<u32>) -> bool {
        let of_selected = |id: &u32| {
            self.selected.contains(id)
                || (entries.contains(id) && self.by_id.get(id).is_some_and(|entry| PARTS.contains(&entry.kind.as_str())))
        };
        if !entry.needs.iter().any(of_selected) {
            return false;
        }
        let mut all = HashSet::new();
        self.add(entry.dump_id, &mut all);
        all.difference(entries).filter_map(|id| self.by_id.get(id)).all(|needed| {
            let is_relation = matches!(needed.kind.as_str(), "TABLE" | "VIEW" | "MATERIALIZED VIEW" | "FOREIGN TABLE");
            !is_relation
        }) && (entry.kind != "FK CONSTRAINT" || self.tables_of(&all).all(|id| self.selected.contains(&id)))
    }

    fn tables_of<'b>(&'b self, entries: &'b HashSet<u32>) -> impl Iterator<Item = u32> + 'b {
        entries.iter().copied().filter(|id| self.by_id.get(id).is_some_and(|entry| entry.kind == "TABLE"))
    }
}

fn name_of(entry: &TocEntry) -> (&str, &str) {
    (entry.namespace.as_deref().unwrap_or_default(), &entry.tag)
}

fn find(wanted: &TableName, tables: &BTreeMap<(&str, &str), u32>, description: &Description) -> Result<u32, Failure> {
    let is_named =
        |schema: &str, name: &str| wanted.name == name && wanted.schema.as_deref().is_none_or(|wanted| wanted == schema);
    let found: Vec<_> = tables.iter().filter(|((schema, name), _)| is_named(schema, name)).collect();
    let refuse = |kind, message: String, hint: String| Err(Failure::new(FailureClass::Failed, kind, wanted, message).hint(hint));
    match found[..] {
        [(_, id)] => return Ok(*id),
        [] => {}
        _ => {
            let names: Vec<String> = found.iter().map(|((schema, name), _)| quoted(schema, name)).collect();
            let message = format!("the backup has several tables {wanted}");
            return refuse("ambiguous-table", message, format!("Name one with its schema: {}.", names.join(", ")));
        }
    }
    if description.tables.iter().any(|table| table.extension_member && is_named(&table.schema, &table.name)) {
        let message = format!("table {wanted} belongs to an extension, and comes back only with it");
        return refuse("extension-table", message, "Restore the whole database under another name with --into.".to_owned());
    }
    let full = |schema: &str, name: &str| format!("{schema}.{name}").to_lowercase();
    let target = wanted.schema.as_ref().map_or_else(|| wanted.name.to_lowercase(), |schema| full(schema, &wanted.name));
    let mut near: Vec<(f64, String)> = tables
        .keys()
        .map(|(schema, name)| {
            let whole = strsim::jaro_winkler(&full(schema, name), &target);
            let alone = strsim::jaro_winkler(&name.to_lowercase(), &wanted.name.to_lowercase());
            // Somebody may have left out the quotes around a name with a dot.
            let dotted = strsim::jaro_winkler(&name.to_lowercase(), &target);
            (whole.max(alone).max(dotted), quoted(schema, name))
        })
        .filter(|(score, _)| *score >= NEAR)
        .collect();
    near.sort_by(|(one, a), (other, b)| other.total_cmp(one).then_with(|| a.cmp(b)));
    let near: Vec<String> = near.into_iter().take(5).map(|(_, name)| name).collect();
    let hint = match near.is_empty() {
        true => format!("`tenure show {} BACKUP --identity FILE` lists its tables.", Word(description.tenant.as_str())),
        false => format!("It has {}.", near.join(", ")),
    };
    refuse("no-such-table", format!("the backup has no table {wanted}"), hint)
}

#[cfg(test)]
mod tests {
    use super::{TableName, quoted};

    #[test]
    fn names_are_read_as_postgresql_reads_them() {
        let name = |text: &str| text.parse::<TableName>().map(|name| (name.schema, name.name));
        let is = |schema: Option<&str>, name: &str| Ok((schema.map(str::to_owned), name.to_owned()));
        assert_eq!(name("t"), is(None, "t"));
        assert_eq!(name("Public.T"), is(Some("public"), "t"));
        assert_eq!(name("public.\"Odd.Name\""), is(Some("public"), "Odd.Name"));
        assert_eq!(name("\"a\"\"b\".c"), is(Some("a\"b"), "c"));
        assert_eq!(name("\"with space\""), is(None, "with space"));
        for wrong in ["", ".", "a.", ".a", "a.b.c", "\"a", "a\"b\"", "\"\"", "\"a\"b", "a.\"\""] {
            assert!(name(wrong).is_err(), "{wrong}");
        }
        for (schema, table) in [("public", "t"), ("A", "b.c"), ("x\"y", "1"), ("ä", "\u{20}")] {
            assert_eq!(name(&quoted(schema, table)), is(Some(schema), table), "{schema} {table}");
        }
    }
}
