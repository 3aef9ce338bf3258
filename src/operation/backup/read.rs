//! Several readers over one snapshot: rows in, index entries out.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use super::sink::Sink;
use crate::{
    chunk::{
        RowHasher,
        cutter::{Cut, Cutter},
    },
    format::index_page::Entry,
    operation::{budget::Budget, failure::Failure, progress::Progress},
    postgres::{
        snapshot::{Reader, Snapshot},
        source::Job,
    },
    tenant::TenantName,
};

/// Chunks of one reader that may be on their way to the vault while it reads on.
const AHEAD: usize = 4;

/// What all readers of one tenant share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) tenant: TenantName,
    pub(super) snapshot: Snapshot,
    pub(super) sink: Sink,
    pub(super) hasher: RowHasher,
    pub(super) budget: Budget,
    pub(super) progress: Arc<dyn Progress>,
    /// Readers at once over all tenants.
    pub(super) readers: Arc<Semaphore>,
}

/// Reads all jobs with up to `readers` readers, and returns the entries of their chunks in no particular order.
pub(super) async fn read(
    shared: &Shared,
    jobs: Vec<Job>,
    readers: Vec<Option<OwnedSemaphorePermit>>,
) -> Result<Vec<Entry>, Failure> {
    let queue = Arc::new(Mutex::new(VecDeque::from(jobs)));
    let mut running = JoinSet::new();
    for connection in readers {
        let (shared, queue) = (shared.clone(), queue.clone());
        running.spawn(async move {
            let _connection = connection;
            one_reader(&shared, &queue).await
        });
    }
    let mut entries = Vec::new();
    // The first failure ends all: dropping the set stops the other readers.
    while let Some(result) = running.join_next().await {
        entries.extend(result.map_err(|error| Failure::panicked(&shared.tenant, error))??);
    }
    Ok(entries)
}

async fn one_reader(shared: &Shared, queue: &Mutex<VecDeque<Job>>) -> Result<Vec<Entry>, Failure> {
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let mut writer = Writer::new(shared);
    let Some(mut job) = next() else { return Ok(Vec::new()) };
    let mut reader = shared.snapshot.reader().await?;
    loop {
        let turn = shared.readers.clone().acquire_owned().await.ok();
        read_job(shared, &mut reader, &job, &mut writer).await?;
        drop(turn);
        match next() {
            Some(another) => job = another,
            None => return writer.finish().await,
        }
    }
}

async fn read_job(shared: &Shared, reader: &mut Reader, job: &Job, writer: &mut Writer<'_>) -> Result<(), Failure> {
    let mut cutter = Cutter::new(shared.hasher);
    for source in job.sources() {
        cutter.begin(source.tag);
        let mut rows = reader.rows(source).await?;
        while let Some(row) = rows.next().await? {
            cutter.row(&row);
            for cut in cutter.ready() {
                writer.push(cut).await?;
            }
        }
        drop(rows);
        cutter.end();
        shared.progress.advanced(&shared.tenant, source.disk_bytes);
    }
    cutter.flush();
    for cut in cutter.ready() {
        writer.push(cut).await?;
    }
    Ok(())
}

type Storing = futures_util::future::BoxFuture<'static, Result<Entry, Failure>>;

/// Sends chunks to the vault while its owner reads on, a few at a time and within the byte budget.
pub(super) struct Writer<'a> {
    shared: &'a Shared,
    storing: FuturesUnordered<Storing>,
    entries: Vec<Entry>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self { shared, storing: FuturesUnordered::new(), entries: Vec::new() }
    }

    pub(super) async fn push(&mut self, cut: Cut) -> Result<(), Failure> {
        while self.storing.len() >= AHEAD {
            self.take_one().await?;
        }
        // Whoever waits for the budget must go on giving it back, or two readers could wait for each other for ever.
        let length = cut.bytes.len() as u64;
        let permit = loop {
            tokio::select! {
                permit = self.shared.budget.take(length) => break permit,
                Some(entry) = self.storing.next() => self.entries.push(entry?),
            }
        };
        let (sink, tenant) = (self.shared.sink.clone(), self.shared.tenant.clone());
        let task = tokio::spawn(async move {
            let _permit = permit;
            sink.store(cut).await
        });
        self.storing
            .push(async move { Ok(Abort(task).join().await.map_err(|error| Failure::panicked(&tenant, error))??) }.boxed());
        Ok(())
    }

    async fn take_one(&mut self) -> Result<(), Failure> {
        if let Some(entry) = self.storing.next().await {
            self.entries.push(entry?);
        }
        Ok(())
    }

    pub(super) async fn finish(mut self) -> Result<Vec<Entry>, Failure> {
        while !self.storing.is_empty() {
            self.take_one().await?;
        }
        Ok(self.entries)
    }
}

/// A task that ends when nobody waits for it any more.
struct Abort<T>(tokio::task::JoinHandle<T>);

impl<T> Abort<T> {
    async fn join(mut self) -> Result<T, tokio::task::JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for Abort<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
