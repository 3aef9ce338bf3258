//! Making a tenant's key: secret half first, to the keyring and every mirror; public half last.

use chrono::{DateTime, Utc};

use super::Keyring;
use crate::{
    chunk::ChunkNameKey,
    format::key_record::KeyRecord,
    id::{KeyId, Locker, Sha256Digest},
    object_name::{Document, ObjectName},
    seal::{RecoveryRecipients, SealError, TenantIdentity},
    signature::{Namespace, SigningKey},
    signed::{self, DocumentError, FORMAT},
    tenant::TenantName,
};

/// How often another random key is tried when the store does not say whether it took the last one.
const TRIES: u32 = 3;

/// A key that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateKeyError {
    /// The secret half could not be wrapped.
    #[error("cannot wrap a new tenant key to the recovery recipients")]
    Wrap(#[source] SealError),
    /// A store did not take a half.
    #[error(transparent)]
    Document(DocumentError),
}

impl Keyring {
    /// Makes a tenant's key. Only under the tenant's lock, and only when the caller has seen that there is none and may be one.
    ///
    /// A secret half whose PUT ended without a definite answer is thrown away, and another key made: it may lie in one store and
    /// not in another. The returned key's halves are in the keyring and in every mirror.
    ///
    /// # Errors
    /// [`CreateKeyError`]; then no public half was written, so that nothing uses the key.
    pub async fn create_key(
        &self,
        tenant: &TenantName,
        locker: Locker,
        sequence: u64,
        recipients: &RecoveryRecipients,
        signer: &SigningKey,
        now: DateTime<Utc>,
    ) -> Result<KeyRecord, CreateKeyError> {
        let (key_id, identity, wrapped_sha256) = self.store_new_identity(recipients).await?;
        let record = KeyRecord {
            format: FORMAT,
            installation: self.root.installation,
            key_id,
            name_tag: self.tag(tenant),
            sequence,
            tenant: tenant.clone(),
            locker,
            recipient: identity.recipient().to_string(),
            wrapped_sha256,
            chunk_name_key: ChunkNameKey::random(),
            created_at: now,
        };
        let document = Document::KeyRecord(record.name_tag, key_id);
        for store in self.mirrors.iter().chain(std::iter::once(&self.store)) {
            signed::create(&**store, &document, &record, Namespace::Key, signer).await.map_err(CreateKeyError::Document)?;
        }
        Ok(record)
    }

    async fn store_new_identity(
        &self,
        recipients: &RecoveryRecipients,
    ) -> Result<(KeyId, TenantIdentity, Sha256Digest), CreateKeyError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (key_id, identity) = (KeyId::random(), TenantIdentity::generate());
            let wrapped = recipients.wrap(&identity).map_err(CreateKeyError::Wrap)?;
            match self.put_everywhere(key_id, &wrapped).await {
                Ok(()) => return Ok((key_id, identity, Sha256Digest::of(&wrapped))),
                Err(_) if tries < TRIES => {}
                Err(error) => return Err(CreateKeyError::Document(error)),
            }
        }
    }

    async fn put_everywhere(&self, key_id: KeyId, wrapped: &bytes::Bytes) -> Result<(), DocumentError> {
        let name = ObjectName::SecretKey { key_id, wrapping: 1 };
        for store in std::iter::once(&self.store).chain(&self.mirrors) {
            signed::create_object(&**store, &name, wrapped.clone()).await?;
        }
        Ok(())
    }
}
