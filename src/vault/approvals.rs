//! The signatures of a plan besides its own: `plans/<id>/approvals/<key>.sig`, an SSHSIG of the plan's very bytes each.

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{Vault, list_named};
use crate::{
    id::{RecordId, Sha256Digest},
    object_name::{ObjectName, prefix},
    signature::{Namespace, SignatureError, allowed_signers::Signer},
    signed::{self, DocumentError},
    store::StoreErrorKind,
};

/// No signature is longer.
const MAX_SIGNATURE: u64 = 64 * 1024;

/// A stored approval.
#[derive(Debug)]
pub struct Approval {
    /// The key that its name says.
    pub key: Sha256Digest,
    /// Address and name.
    pub object: String,
    /// When the store got it.
    pub stored_at: DateTime<Utc>,
    /// Who signed; or why it does not count.
    pub signer: Result<Signer, SignatureError>,
}

impl Vault {
    /// Every stored approval of a plan with these bytes, as each counts at `at`, or when the store got it; by the names of the objects.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn approvals(
        &self,
        plan: RecordId,
        document: &[u8],
        at: Option<DateTime<Utc>>,
    ) -> Result<Vec<Approval>, DocumentError> {
        let (store, folder) = (self.store(), prefix::approvals(plan));
        let failed = |name: &dyn std::fmt::Display, error| signed::store_error(store, name, error);
        let (named, _) = list_named(store, &folder).await.map_err(|error| failed(&folder, error))?;
        let mut approvals = Vec::new();
        for (name, listed) in named {
            let ObjectName::Approval { key, .. } = name else { continue };
            let verify = |bytes: &[u8]| {
                let signer = self.signers().verify(Namespace::Plan, document, bytes, at.unwrap_or(listed.modified))?;
                if signer.key == key { Ok(signer) } else { Err(SignatureError::AnotherKey) }
            };
            let mut signer = match store.get(&listed.name, MAX_SIGNATURE).await {
                Ok(bytes) => verify(&bytes),
                Err(error) if error.kind == StoreErrorKind::TooLarge => Err(SignatureError::NotCanonical),
                Err(error) if error.kind == StoreErrorKind::NotFound => Err(SignatureError::Gone),
                Err(error) => return Err(failed(&name, error)),
            };
            if signer.is_err() {
                // Hidden or written over, where the store keeps versions.
                let earlier = signed::earlier(store, &name, MAX_SIGNATURE, |bytes| verify(bytes).ok()).await;
                signer = earlier.map_err(|error| failed(&name, error))?.map_or(signer, Ok);
            }
            approvals.push(Approval { key, object: signed::locate(store, &name), stored_at: listed.modified, signer });
        }
        Ok(approvals)
    }

    /// Stores an approval, create-only.
    ///
    /// # Errors
    /// [`DocumentError::Exists`] where that key has approved already, or somebody put other bytes there; [`DocumentError::Store`].
    pub async fn put_approval(&self, plan: RecordId, key: Sha256Digest, signature: Bytes) -> Result<(), DocumentError> {
        let name = ObjectName::Approval { plan, key };
        signed::create_object(self.store(), &name, signature.clone()).await?;
        signed::confirm(self.store(), &name, &signature).await
    }
}
