//! The proof: every table is read back, counted and digested, and equals what was recorded when it was captured.

use std::{collections::BTreeMap, sync::Mutex};

use tokio_postgres::Client;

use super::{
    content::{Content, ContentError},
    routes::Routes,
    rows::shown,
};
use crate::{
    chunk::{RowHasher, sums::RowTotals},
    format::description::{Description, Table},
    operation::budget::Budget,
    postgres::{
        read_back::{self, Pages},
        statement::StatementError,
    },
};

/// The connection collects a message, which is a row, in a buffer that it doubles.
const COPIES: u64 = 3;

/// The largest row that a table may have, where that is larger than a chunk: all that the index tells. 0 where all are smaller.
fn largest_row(table: &Table, content: &Content) -> u64 {
    let mut largest = 0;
    for pieces in table.ranges.iter().filter_map(|range| content.source(range.source).ok()) {
        let mut open = 0;
        for part in pieces.iter().map(|piece| &piece.part) {
            largest = largest.max(if open > 0 { open + part.length } else { 0 });
            open = if part.rows == 0 { open + part.length } else { 0 };
        }
    }
    largest
}

/// A table is read by several connections at once from so many heap pages on (64 MiB).
const SPLIT_PAGES: u32 = 8_192;

/// One scan of the proof.
#[derive(Debug, Clone, Copy)]
struct Scan {
    table: usize,
    pages: Pages,
    weight: u32,
    /// Bytes that its rows hold in memory on their way, where they are large.
    memory: u64,
}

/// The scans that are left, and what those before found.
pub struct Proof<'a> {
    description: &'a Description,
    routes: &'a Routes<'a>,
    hasher: RowHasher,
    scans: Mutex<std::vec::IntoIter<Scan>>,
    found: Mutex<Vec<RowTotals>>,
}

/// The rows that a table must have.
///
/// # Errors
/// [`ContentError::Index`].
pub fn expected(description: &Description, content: &Content) -> Result<Vec<RowTotals>, ContentError> {
    let totals = |table: &Table| {
        let mut totals = RowTotals::default();
        for range in &table.ranges {
            totals += content.recorded(range.source)?;
        }
        Ok(totals)
    };
    description.tables.iter().map(totals).collect()
}

impl<'a> Proof<'a> {
    /// Plans the scans for so many connections, the largest first. `admin` is connected to the database.
    ///
    /// # Errors
    /// What the server says.
    pub async fn plan(
        admin: &Client,
        description: &'a Description,
        content: &Content,
        routes: &'a Routes<'a>,
        hasher: RowHasher,
        connections: usize,
    ) -> Result<Self, StatementError> {
        let tables: Vec<_> = description.tables.iter().collect();
        let sizes = read_back::heap_pages(admin, &tables).await?;
        let mut scans = Vec::new();
        for (table, size) in sizes.into_iter().enumerate() {
            let memory = routes.led_by(routes.leader(table)).map(|table| largest_row(&description.tables[table], content)).max();
            let memory = memory.unwrap_or(0) * COPIES;
            let whole = description.tables[table].filter.is_some() || description.tables[table].columns.is_empty();
            if whole || size < SPLIT_PAGES || connections < 2 {
                scans.push(Scan { table, pages: Pages::All, weight: size, memory });
                continue;
            }
            let step = (size / u32::try_from(connections).unwrap_or(1)).max(SPLIT_PAGES / 2) + 1;
            let mut from = 0;
            while from + step < size {
                scans.push(Scan { table, pages: Pages::Range(from, Some(from + step)), weight: step, memory });
                from += step;
            }
            scans.push(Scan { table, pages: Pages::Range(from, None), weight: size - from, memory });
        }
        scans.sort_by_key(|scan| std::cmp::Reverse(scan.weight));
        let found = vec![RowTotals::default(); description.tables.len()];
        Ok(Self { description, routes, hasher, scans: Mutex::new(scans.into_iter()), found: Mutex::new(found) })
    }

    /// Reads by one connection until nothing is left. `advanced` is told how many bytes were read.
    ///
    /// # Errors
    /// What the server says, with the table named.
    pub async fn run(
        &self,
        session: &Client,
        budget: &Budget,
        advanced: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), StatementError> {
        loop {
            let next = lock(&self.scans).next();
            let Some(scan) = next else { return Ok(()) };
            let table = &self.description.tables[scan.table];
            let statement =
                read_back::statement(table, self.routes.columns(scan.table), &self.description.database.encoding, scan.pages);
            let _held = budget.take(scan.memory).await;
            let totals = read_back::sums(session, &statement, &shown(table), self.hasher).await?;
            lock(&self.found)[scan.table] += totals;
            advanced(totals.bytes);
        }
    }

    /// The tables that do not hold what they must, each with how it differs; those that share their rows count together. `before` are
    /// rows that an extension had put there itself, by index of the table.
    #[must_use]
    pub fn differing(&self, expected: &[RowTotals], before: &BTreeMap<usize, RowTotals>) -> Vec<String> {
        let found = lock(&self.found);
        let mut differing = Vec::new();
        for leader in (0..self.description.tables.len()).filter(|at| self.routes.leader(*at) == *at) {
            let must = self.routes.must(leader, expected, before);
            let mut is = RowTotals::default();
            for table in self.routes.led_by(leader) {
                is += found[table];
            }
            if (is.rows, is.digest) == (must.rows, must.digest) {
                continue;
            }
            let how = if is.rows == must.rows {
                format!("{} rows, but not the ones that were captured", is.rows)
            } else {
                format!("{} rows instead of {}", is.rows, must.rows)
            };
            differing.push(format!("table {}: {how}", self.routes.shown(leader)));
        }
        differing
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
