//! The tenant's lock, as operations see it that let go of something or change keys.

use async_trait::async_trait;

use super::{
    failure::{Failure, FailureClass},
    fleet::Cluster,
};
use crate::{
    id::InstallationId,
    postgres::lock::{self, TenantLock},
    tenant::TenantName,
};

/// Where a tenant's lock is taken.
#[async_trait]
pub trait Locks: Send + Sync {
    /// Takes the lock of a tenant that lives, or lived, on `cluster`.
    ///
    /// # Errors
    /// [`FailureClass::Busy`] while somebody else has it; [`FailureClass::Failed`] when its server cannot be asked.
    async fn take(&self, tenant: &TenantName, cluster: &str) -> Result<Box<dyn Held>, Failure>;
}

/// A lock that was taken. Dropping it gives it back.
#[async_trait]
pub trait Held: Send + Sync {
    /// Asks whether it is still ours.
    ///
    /// # Errors
    /// It is not, or that cannot be asked.
    async fn still_held(&self) -> Result<(), Failure>;
}

/// The locks of a fleet: on each tenant's primary.
pub struct FleetLocks<'a> {
    /// The fleet.
    pub clusters: &'a [Cluster],
    /// Which installation's tenants.
    pub installation: InstallationId,
}

#[async_trait]
impl Locks for FleetLocks<'_> {
    async fn take(&self, tenant: &TenantName, cluster: &str) -> Result<Box<dyn Held>, Failure> {
        let Some(cluster) = self.clusters.iter().find(|known| known.name == cluster) else {
            let message = format!("tenant {tenant} lives on cluster {cluster}, which the configuration does not have");
            return Err(Failure::new(FailureClass::Failed, "no-such-cluster", cluster, message)
                .hint("Add it under [cluster.NAME] again: its server holds the tenant's lock."));
        };
        let lock = TenantLock::acquire(&cluster.target, &self.installation, tenant, &cluster.roles, lock::WAIT).await?;
        Ok(Box::new(lock))
    }
}

#[async_trait]
impl Held for TenantLock {
    async fn still_held(&self) -> Result<(), Failure> {
        Ok(Self::still_held(self).await?)
    }
}
