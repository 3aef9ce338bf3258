//! The commit: what must still be true, then the manifest, then another look.

use chrono::TimeDelta;

use super::{
    key,
    protocol::{Protocol, Ready},
    reuse,
};
use crate::{
    format::{manifest::Manifest, record::Void},
    id::Sha256Digest,
    object_name::Document,
    operation::{
        failure::{Failure, FailureClass},
        held::Held,
        living,
    },
    signed::{DocumentError, FORMAT},
};

impl Protocol<'_> {
    /// Stores the manifest, if everything that it rests on still holds; looks again afterwards, and declares it void if not. Gives the
    /// manifest's digest.
    ///
    /// # Errors
    /// When a condition does not hold; then no backup exists, or a void one that nobody uses.
    pub(super) async fn commit(&self, lock: &dyn Held, ready: &Ready) -> Result<Sha256Digest, Failure> {
        let manifest = &ready.manifest;
        self.holds(lock, ready).await?;
        let sha256 = match self.backup.vault.put_manifest(manifest, &self.backup.signer).await {
            Ok(sha256) => sha256,
            Err(error) => return Err(self.not_committed(manifest, error).await?),
        };
        if let Err(failure) = self.holds(lock, ready).await {
            self.declare_void(manifest, failure.kind).await?;
            return Err(failure);
        }
        Ok(sha256)
    }

    /// What failed, after whatever may be there of the manifest was seen to.
    async fn not_committed(&self, manifest: &Manifest, error: DocumentError) -> Result<Failure, Failure> {
        // It may be there; but anybody who may delete could remove it.
        let manifest_name = Document::Manifest(manifest.locker, manifest.backup).to_string();
        let not_locked = error.is_not_locked() && error.object().ends_with(&manifest_name);
        let failure = Failure::from(error);
        // A purge that came in between removes it, as it should: that is no damage.
        if let Err(gone) = key::refuse_if_gone(self.backup, &self.resident.tenant, &[manifest.locker]).await
            && gone.class == FailureClass::Refused
        {
            self.declare_void(manifest, gone.kind).await?;
            return Ok(gone);
        }
        if not_locked {
            self.declare_void(manifest, failure.kind).await?;
        }
        Ok(failure)
    }

    async fn declare_void(&self, manifest: &Manifest, reason: &str) -> Result<(), Failure> {
        let void = Void {
            format: FORMAT,
            installation: manifest.installation,
            locker: manifest.locker,
            backup: manifest.backup,
            reason: reason.to_owned(),
        };
        Ok(self.backup.vault.put_void(&void, &self.backup.signer).await?)
    }

    async fn holds(&self, lock: &dyn Held, ready: &Ready) -> Result<(), Failure> {
        let (backup, tenant) = (self.backup, &self.resident.tenant);
        lock.still_held().await?;
        let root = backup.vault.root();
        if self.started.elapsed().as_secs() >= root.max_run_seconds {
            let message = format!("the run took longer than max_run ({} s) and must not commit", root.max_run_seconds);
            return Err(Failure::new(FailureClass::Failed, "run-too-long", tenant, message)
                .hint("No backup was made. More `jobs` or a faster store make runs shorter."));
        }
        key::refuse_if_gone(backup, tenant, &[ready.record.locker]).await?;
        let keys = living::keys(&backup.vault, &backup.keyring, tenant).await?;
        let unchanged = keys.as_ref().and_then(|keys| keys.sealing()).is_some_and(|sealing| *sealing == ready.record);
        if !unchanged {
            return Err(Failure::new(
                FailureClass::Failed,
                "key-changed",
                tenant,
                format!("the key of tenant {tenant} changed meanwhile"),
            )
            .hint("No backup was made. Run it again: the next one uses the new key."));
        }
        if let Some((base, expires_at)) = ready.base {
            let settled = (backup.clock)() + TimeDelta::seconds(i64::try_from(root.settle_seconds).unwrap_or(i64::MAX / 1_000));
            if expires_at <= settled || !reuse::base_is_there(&backup.vault, ready.record.locker, base).await? {
                let message = format!("backup {base}, whose chunks were to be re-used, is gone or about to expire");
                return Err(Failure::new(FailureClass::Failed, "base-gone", tenant, message)
                    .hint("No backup was made. Run it again: the next one re-uses what is there."));
            }
        }
        Ok(())
    }
}
