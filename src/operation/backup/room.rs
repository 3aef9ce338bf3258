//! What all runs of one process share, so that several schedules at once hold no more than one would.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::Semaphore;

use super::{BYTES_IN_FLIGHT, CONNECTIONS_PER_TENANT};
use crate::operation::{budget::Budget, fleet::Cluster};

/// Bytes in flight, readers, and connections to each cluster. Cheap to clone; all clones are the same room.
#[derive(Clone)]
pub struct Room {
    pub(super) budget: Budget,
    pub(super) readers: Arc<Semaphore>,
    pub(super) connections: Arc<BTreeMap<String, Arc<Semaphore>>>,
}

impl Room {
    /// For so many readers, and as many connections as each cluster allows.
    #[must_use]
    pub fn new(jobs: usize, clusters: &[Cluster]) -> Self {
        Self::with_budget(jobs, clusters, Budget::new(BYTES_IN_FLIGHT))
    }

    pub(super) fn with_budget(jobs: usize, clusters: &[Cluster], budget: Budget) -> Self {
        let connections = |cluster: &Cluster| Semaphore::new(cluster.connections.max(CONNECTIONS_PER_TENANT) as usize);
        let connections = clusters.iter().map(|cluster| (cluster.name.clone(), Arc::new(connections(cluster))));
        Self { budget, readers: Arc::new(Semaphore::new(jobs)), connections: Arc::new(connections.collect()) }
    }

    /// Connections to a cluster that are free now.
    #[must_use]
    pub fn free_connections(&self, cluster: &str) -> Option<usize> {
        self.connections.get(cluster).map(|semaphore| semaphore.available_permits())
    }
}
