//! From plaintext to stored chunks: name, look up, compress, seal, store.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use chrono::{DateTime, Utc};
use tokio::sync::OnceCell;

use super::reuse::{Reuse, StoredChunk};
use crate::{
    backup_id::BackupId,
    chunk::{ChunkNameKey, cutter::Cut},
    compress::{CompressError, pack},
    format::{index_page::Entry, manifest::Totals},
    id::{ChunkName, Locker},
    seal::{SealError, TenantRecipient, seal},
    signed::DocumentError,
    vault::Vault,
};

/// A chunk that could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// zstd failed.
    #[error(transparent)]
    Compress(#[from] CompressError),
    /// age failed.
    #[error("cannot seal a chunk")]
    Seal(#[from] SealError),
    /// The vault did not take it.
    #[error(transparent)]
    Store(#[from] DocumentError),
    /// The thread that sealed it panicked.
    #[error("sealing a chunk panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Where one run's chunks go. Cheap to clone.
#[derive(Clone)]
pub struct Sink(Arc<Inner>);

struct Inner {
    vault: Vault,
    locker: Locker,
    backup: BackupId,
    recipient: TenantRecipient,
    key: ChunkNameKey,
    reuse: Reuse,
    clock: fn() -> DateTime<Utc>,
    /// What this run met: each plaintext is stored once, however often it occurs.
    met: Mutex<HashMap<ChunkName, Arc<OnceCell<StoredChunk>>>>,
    totals: Counters,
}

#[derive(Default)]
struct Counters {
    bytes_read: AtomicU64,
    chunks_stored: AtomicU64,
    bytes_stored: AtomicU64,
    chunks_reused: AtomicU64,
    bytes_reused: AtomicU64,
}

impl Inner {
    fn fresh_until(&self) -> Option<DateTime<Utc>> {
        let window = self.vault.store().window()?;
        Some(window.fresh((self.clock)()).until)
    }
}

impl Sink {
    /// A sink for one run.
    #[must_use]
    pub fn new(
        vault: Vault,
        locker: Locker,
        backup: BackupId,
        recipient: TenantRecipient,
        key: ChunkNameKey,
        reuse: Reuse,
        clock: fn() -> DateTime<Utc>,
    ) -> Self {
        let (met, totals) = (Mutex::default(), Counters::default());
        Self(Arc::new(Inner { vault, locker, backup, recipient, key, reuse, clock, met, totals }))
    }

    /// What may be re-used.
    #[must_use]
    pub fn reuse(&self) -> &Reuse {
        &self.0.reuse
    }

    /// The run that writes.
    #[must_use]
    pub fn backup(&self) -> BackupId {
        self.0.backup
    }

    /// Stores a chunk, or finds it stored, and returns its index entry. When this returns the chunk is durable.
    ///
    /// # Errors
    /// [`SinkError`]; then the run fails.
    pub async fn store(&self, cut: Cut) -> Result<Entry, SinkError> {
        let Cut { bytes, parts } = cut;
        let length = bytes.len() as u64;
        let inner = &self.0;
        inner.totals.bytes_read.fetch_add(length, Ordering::Relaxed);
        let key = inner.key.clone();
        let chunk = tokio::task::spawn_blocking(move || key.plain_chunk(bytes)).await.map_err(SinkError::Panicked)?;
        let name = chunk.name();
        let cell = inner.met.lock().unwrap_or_else(std::sync::PoisonError::into_inner).entry(name).or_default().clone();
        let mut stored_now = false;
        let stored = cell
            .get_or_try_init(|| async {
                if let Some(stored) = inner.reuse.chunk(name) {
                    return Ok(stored);
                }
                let locked_until = inner.fresh_until();
                let recipient = inner.recipient.clone();
                let sealed = tokio::task::spawn_blocking(move || Ok::<_, SinkError>(seal(pack(chunk)?, &recipient)?))
                    .await
                    .map_err(SinkError::Panicked)??;
                inner.vault.put_chunk(inner.locker, inner.backup, &sealed).await?;
                stored_now = true;
                Ok::<_, SinkError>(StoredChunk {
                    birth: inner.backup,
                    size: sealed.bytes().len() as u64,
                    sha256: sealed.sha256(),
                    locked_until,
                })
            })
            .await?;
        let (chunks, bytes) = if stored_now {
            (&inner.totals.chunks_stored, &inner.totals.bytes_stored)
        } else {
            (&inner.totals.chunks_reused, &inner.totals.bytes_reused)
        };
        chunks.fetch_add(1, Ordering::Relaxed);
        bytes.fetch_add(stored.size, Ordering::Relaxed);
        Ok(Entry { name, birth: stored.birth, size: stored.size, sha256: stored.sha256, length, parts })
    }

    /// Counts an index page that was written.
    pub fn page_stored(&self, size: u64) {
        self.0.totals.bytes_stored.fetch_add(size, Ordering::Relaxed);
    }

    /// Until when at least what is stored from now on is locked; `None` where nothing is.
    #[must_use]
    pub fn fresh_until(&self) -> Option<DateTime<Utc>> {
        self.0.fresh_until()
    }

    /// Until when a chunk that this run met is locked at least, where that is known.
    #[must_use]
    pub fn locked_until(&self, chunk: ChunkName) -> Option<DateTime<Utc>> {
        let met = self.0.met.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        met.get(&chunk)?.get()?.locked_until
    }

    /// What the run has read, stored and re-used so far; tables and rows are left at 0.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let totals = &self.0.totals;
        Totals {
            tables: 0,
            rows: 0,
            bytes_read: get(&totals.bytes_read),
            chunks_stored: get(&totals.chunks_stored),
            bytes_stored: get(&totals.bytes_stored),
            chunks_reused: get(&totals.chunks_reused),
            bytes_reused: get(&totals.bytes_reused),
        }
    }
}
