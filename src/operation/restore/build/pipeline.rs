//! Rows and indexes through the same few connections: a large table's indexes begin when its own rows are there, while other tables
//! are still being loaded.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures_util::future::try_join_all;
use tokio::sync::Notify;

use super::{Build, schema::Schema};
use crate::{
    format::description::Table,
    operation::{
        failure::Failure,
        restore::{
            content::{Content, ContentError},
            failures,
            routes::Routes,
            rows::{self, Unit},
        },
    },
    postgres::{
        loader::Loader,
        restore_plan::{Early, Login},
    },
};

/// Only tables of at least so many bytes of COPY text have indexes that are worth a `pg_restore` of their own.
const LARGE_BYTES: u64 = 16 * 1024 * 1024;
/// A table with an index that takes long is loaded before one that is so many times as large.
const SLOW_WEIGHT: u64 = 8;

/// The large tables of a backup: schema and name.
///
/// # Errors
/// [`ContentError::Index`].
pub(super) fn large(tables: &[Table], content: &Content) -> Result<HashSet<(String, String)>, ContentError> {
    let mut large = HashSet::new();
    for table in tables {
        let mut bytes = 0;
        for range in &table.ranges {
            bytes += content.recorded(range.source)?.bytes;
        }
        if bytes >= LARGE_BYTES {
            large.insert((table.schema.clone(), table.name.clone()));
        }
    }
    Ok(large)
}

enum Task {
    Load(Unit),
    /// Entries of the archive, and those that come after them.
    Indexes {
        by: Login,
        entries: Vec<u32>,
        then: Vec<u32>,
    },
}

/// What is left to do, and what waits for what.
struct Pool<'a> {
    routes: &'a Routes<'a>,
    state: Mutex<State<'a>>,
    changed: Notify,
}

struct State<'a> {
    loads: VecDeque<Unit>,
    indexes: VecDeque<Task>,
    /// Units left of each table with early indexes, and of those that share their rows with it, by leader.
    units_left: HashMap<usize, usize>,
    early: HashMap<usize, Vec<&'a Early>>,
    running: usize,
    rows: u64,
    bytes: u64,
}

impl<'a> Pool<'a> {
    /// `early` is by leader.
    fn new(routes: &'a Routes<'a>, units: Vec<Unit>, early: HashMap<usize, Vec<&'a Early>>) -> Self {
        let mut units_left: HashMap<usize, usize> = early.keys().map(|table| (*table, 0)).collect();
        for table in units.iter().flat_map(Unit::tables) {
            units_left.entry(routes.leader(table)).and_modify(|left| *left += 1);
        }
        let state = State { loads: units.into(), indexes: VecDeque::new(), units_left, early, running: 0, rows: 0, bytes: 0 };
        Self { routes, state: Mutex::new(state), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next task; waits while others run that may bring more. `None` when all is done.
    async fn next(&self) -> Option<Task> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut state = self.lock();
                // Indexes first: they are the long tail.
                if let Some(task) = state.indexes.pop_front() {
                    state.running += 1;
                    return Some(task);
                }
                if let Some(unit) = state.loads.pop_front() {
                    state.running += 1;
                    return Some(Task::Load(unit));
                }
                if state.running == 0 {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// Notes that a unit is loaded; gives the leaders of tables with early indexes that are complete now.
    fn loaded(&self, unit: &Unit) -> Vec<usize> {
        let mut state = self.lock();
        let (rows, bytes) = unit.totals();
        state.rows += rows;
        state.bytes += bytes;
        let mut complete = Vec::new();
        for table in unit.tables() {
            let leader = self.routes.leader(table);
            if let Some(left) = state.units_left.get_mut(&leader) {
                *left -= 1;
                if *left == 0 {
                    complete.push(leader);
                }
            }
        }
        complete
    }

    /// The task has ended; `complete` are tables whose indexes may begin.
    fn end(&self, complete: &[usize], more: Option<(Login, Vec<u32>)>) {
        let mut state = self.lock();
        state.running -= 1;
        for table in complete {
            for early in state.early.remove(table).unwrap_or_default() {
                if early.exclusive.is_empty() {
                    state.each(&early.by, &early.shared);
                } else {
                    let task =
                        Task::Indexes { by: early.by.clone(), entries: early.exclusive.clone(), then: early.shared.clone() };
                    state.indexes.push_back(task);
                }
            }
        }
        if let Some((by, entries)) = more {
            state.each(&by, &entries);
        }
        drop(state);
        self.changed.notify_waiters();
    }
}

impl State<'_> {
    fn each(&mut self, by: &Login, entries: &[u32]) {
        let task = |entry: &u32| Task::Indexes { by: by.clone(), entries: vec![*entry], then: Vec::new() };
        self.indexes.extend(entries.iter().map(task));
    }
}

impl Build<'_> {
    /// Loads all rows, and builds what need not wait for all of them. Returns rows and bytes.
    pub(super) async fn load(&self, schema: &Schema<'_>, loader: &Loader, routes: &Routes<'_>) -> Result<(u64, u64), Failure> {
        let tenant = &self.request.tenant;
        let tables = &self.description.tables;
        let mut early: HashMap<usize, Vec<&Early>> = HashMap::new();
        for of_table in &schema.plan.early {
            let (wanted_schema, name) = &of_table.table;
            if let Some(at) = tables.iter().position(|table| table.schema == *wanted_schema && table.name == *name) {
                early.entry(routes.leader(at)).or_default().push(of_table);
            }
        }
        let slow: HashSet<usize> =
            early.iter().filter(|(_, early)| early.iter().any(|early| early.slow)).map(|(table, _)| *table).collect();
        let weight = |table: usize| if slow.contains(&routes.leader(table)) { SLOW_WEIGHT } else { 1 };
        let units = rows::units(self.description, self.content, self.connections, weight)
            .map_err(|error| failures::content(tenant, error))?;
        let workers = if early.is_empty() { self.connections.min(units.len()) } else { self.connections };
        let pool = Pool::new(routes, units, early);
        let advanced = |bytes| self.restorer.progress.advanced(tenant, bytes);
        let loading = self.loading(routes, &advanced);
        let (loading, pool) = (&loading, &pool);
        try_join_all((0..workers).map(|_| async move {
            let mut session = None;
            while let Some(task) = pool.next().await {
                match task {
                    Task::Load(unit) => {
                        let open = match session.take() {
                            Some(open) => open,
                            None => self.loader_session(loader, schema.name).await?,
                        };
                        let _held = self.restorer.budget.take(unit.memory()).await;
                        loading.unit(&open, &unit).await.map_err(|error| failures::rows(tenant, error))?;
                        session = Some(open);
                        let complete = pool.loaded(&unit);
                        pool.end(&complete, None);
                    }
                    Task::Indexes { by, entries, then } => {
                        // The connection is lent to pg_restore: together they are no more than allowed.
                        session = None;
                        schema.run("indexes", &by, &entries).await?;
                        pool.end(&[], Some((by, then)));
                    }
                }
            }
            Ok::<(), Failure>(())
        }))
        .await?;
        let state = pool.lock();
        Ok((state.rows, state.bytes))
    }
}
