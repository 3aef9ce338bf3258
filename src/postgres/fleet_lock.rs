//! A lock that the workers of one installation share: who has it does what only one of them should do at a time.
//!
//! It saves work, as a tenant's lock does; nothing's safety rests on it.

use std::{error::Error, time::Duration};

use sha2::{Digest as _, Sha256};

use super::{
    Session, Target,
    session_settings::{NO_TIME_LIMITS, statements},
};
use crate::id::InstallationId;

/// A held lock. Dropping it ends its session, and the lock with it.
pub struct FleetLock {
    session: Session,
}

/// No server could be asked for it.
#[derive(Debug, thiserror::Error)]
#[error("no cluster answers for the lock of {what}")]
pub struct NoLock {
    what: String,
    /// Why the last one did not.
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The first 64 bits of SHA-256(installation id, 0, what). No tenant's name has a zero byte, so that no tenant's lock is met.
fn key(installation: &InstallationId, what: &str) -> i64 {
    let digest: [u8; 32] = Sha256::new().chain_update(installation.0).chain_update([0]).chain_update(what).finalize().into();
    i64::from_be_bytes(digest[..8].try_into().expect("eight of 32 bytes"))
}

impl FleetLock {
    /// Takes the lock for `what` on the first of the clusters that answers, without waiting; `None` when somebody else has it.
    ///
    /// # Errors
    /// No cluster answers.
    pub async fn take<'a>(
        clusters: impl IntoIterator<Item = &'a Target>,
        installation: &InstallationId,
        what: &str,
    ) -> Result<Option<Self>, NoLock> {
        let mut source = None;
        for target in clusters {
            match Self::on(target, key(installation, what)).await {
                Ok(taken) => return Ok(taken),
                Err(error) => source = Some(error),
            }
        }
        Err(NoLock { what: what.to_owned(), source })
    }

    async fn on(target: &Target, key: i64) -> Result<Option<Self>, Box<dyn Error + Send + Sync>> {
        let session = target.connect(target.maintenance_database(), "tenure worker").await?;
        let asked = async {
            session.batch_execute(&statements(&[&NO_TIME_LIMITS])).await?;
            session.query_one("SELECT pg_catalog.pg_try_advisory_lock($1)", &[&key]).await?.try_get(0)
        };
        let taken = session.promptly(Duration::ZERO, asked).await??;
        Ok(if taken { Some(Self { session }) } else { None })
    }

    /// Resolves when the session that holds it has ended: somebody else may have it by now.
    pub async fn lost(&self) {
        self.session.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::key;
    use crate::id::InstallationId;

    #[test]
    fn the_key_depends_on_installation_and_matter() {
        let one = InstallationId([1; 16]);
        assert_eq!(key(&one, "schedule retention"), key(&one, "schedule retention"));
        assert_ne!(key(&one, "schedule retention"), key(&one, "schedule integrity"));
        assert_ne!(key(&one, "schedule retention"), key(&InstallationId([2; 16]), "schedule retention"));
    }
}
