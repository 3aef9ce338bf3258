//! Which table each table's rows are copied into, and which tables have to be proven together because of that.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use tokio_postgres::Client;

use super::rows::shown;
use crate::{
    chunk::{RowHasher, reorder::ReorderedSums, sums::RowTotals},
    format::description::Table,
    postgres::{
        partition_roots::{self, Root},
        statement::StatementError,
    },
};

/// Where the rows of each table go. Almost all go where they were; see [`partition_roots`].
pub struct Routes<'a> {
    tables: &'a [Table],
    roots: Vec<Option<Root>>,
    /// For each table the first one of those that it shares its rows with: itself, mostly.
    leaders: Vec<usize>,
    /// Rows whose columns stand in another order than the leader's, summed in the leader's order while they were loaded.
    reordered: Mutex<BTreeMap<usize, RowTotals>>,
}

impl<'a> Routes<'a> {
    /// Asks the database, in which the tables are.
    ///
    /// # Errors
    /// What the server says.
    pub async fn read(admin: &Client, tables: &'a [Table]) -> Result<Self, StatementError> {
        let mut roots = partition_roots::read(admin, tables).await?;
        let mut first: HashMap<Root, usize> = HashMap::new();
        let mut leaders = Vec::new();
        for (at, route) in roots.iter_mut().enumerate() {
            let leader = match route {
                Some(root) => *first.entry(root.clone()).or_insert(at),
                None => at,
            };
            let columns = |table: usize| tables[table].columns.iter().collect::<BTreeSet<_>>();
            // What is stored in one of them and computed in another can be compared in neither: PostgreSQL may still put each row back
            // where it was.
            if columns(at) == columns(leader) {
                leaders.push(leader);
            } else {
                *route = None;
                leaders.push(at);
            }
        }
        Ok(Self { tables, roots, leaders, reordered: Mutex::default() })
    }

    /// Schema and name of the table that a table's rows are copied into.
    #[must_use]
    pub fn target(&self, table: usize) -> (&str, &str) {
        match &self.roots[table] {
            Some(root) => (&root.schema, &root.name),
            None => (&self.tables[table].schema, &self.tables[table].name),
        }
    }

    /// The table that stands for all those that a table shares its rows with.
    #[must_use]
    pub fn leader(&self, table: usize) -> usize {
        self.leaders[table]
    }

    /// Every table that is a leader's, itself included.
    pub fn led_by(&self, leader: usize) -> impl Iterator<Item = usize> {
        self.leaders.iter().enumerate().filter(move |(_, of)| **of == leader).map(|(table, _)| table)
    }

    /// The columns in whose order a table is read back.
    #[must_use]
    pub fn columns(&self, table: usize) -> &[String] {
        &self.tables[self.leaders[table]].columns
    }

    /// The partitioned tables that rows go through, each once.
    pub fn roots(&self) -> impl Iterator<Item = &Root> {
        let leads = |(at, root): (usize, &'_ Option<Root>)| root.is_some() && self.leaders[at] == at;
        let roots = self.roots.iter().enumerate().filter(move |entry| leads(*entry));
        roots.filter_map(|(_, root)| root.as_ref())
    }

    /// What sums a table's rows in the order of [`Routes::columns`], where its own is another.
    #[must_use]
    pub fn reorder(&self, table: usize, hasher: RowHasher) -> Option<ReorderedSums> {
        let (from, to) = (&self.tables[table].columns, self.columns(table));
        if from == to { None } else { ReorderedSums::new(hasher, from, to) }
    }

    /// Notes what such sums came to.
    pub fn reordered(&self, table: usize, totals: RowTotals) {
        *self.reordered.lock().unwrap_or_else(PoisonError::into_inner).entry(table).or_default() += totals;
    }

    /// What must be found in a leader's tables together, given what was recorded of each.
    #[must_use]
    pub fn must(&self, leader: usize, recorded: &[RowTotals], before: &BTreeMap<usize, RowTotals>) -> RowTotals {
        let reordered = self.reordered.lock().unwrap_or_else(PoisonError::into_inner);
        let mut totals = RowTotals::default();
        for table in self.led_by(leader) {
            totals += reordered.get(&table).copied().unwrap_or(recorded[table]);
            totals += before.get(&table).copied().unwrap_or_default();
        }
        totals
    }

    /// A leader's tables, for messages.
    #[must_use]
    pub fn shown(&self, leader: usize) -> String {
        match &self.roots[leader] {
            Some(root) => {
                let name = crate::printable::Printable(&format!("{}.{}", root.schema, root.name)).to_string();
                format!("{name} ({} partitions)", self.led_by(leader).count())
            }
            None => shown(&self.tables[leader]),
        }
    }
}
