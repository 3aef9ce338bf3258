//! Making a tenant's key: secret half first, to the keyring and every mirror; then the tenant's source, in the vault; public half last.

use chrono::{DateTime, Utc};

use super::{Keyring, MAX_ROOT};
use crate::{
    chunk::ChunkNameKey,
    format::{key_record::KeyRecord, root::KeyringRoot},
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

/// A key whose secret half is stored and whose public half is not: nothing uses it.
pub struct NewKey(KeyRecord);

impl NewKey {
    /// Where its tenant's backups will lie. Its source is recorded there before the key is published.
    #[must_use]
    pub fn locker(&self) -> Locker {
        self.0.locker
    }

    /// Its public half, as it would be published.
    #[must_use]
    pub fn record(&self) -> &KeyRecord {
        &self.0
    }
}

impl Keyring {
    /// Makes a tenant's key, and stores its secret half. Only under the tenant's lock, and only when the caller has seen that there is none and may be one.
    ///
    /// A secret half whose PUT ended without a definite answer is thrown away, and another key made: it may lie in one store and
    /// not in another.
    ///
    /// # Errors
    /// [`CreateKeyError`]; then nothing uses the key.
    pub async fn begin_key(
        &self,
        tenant: &TenantName,
        locker: Locker,
        sequence: u64,
        recipients: &RecoveryRecipients,
        now: DateTime<Utc>,
    ) -> Result<NewKey, CreateKeyError> {
        self.confirm_mirrors().await.map_err(CreateKeyError::Document)?;
        let (key_id, identity, wrapped_sha256) = self.store_new_identity(recipients).await?;
        Ok(NewKey(KeyRecord {
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
        }))
    }

    /// Stores the public half, in every mirror and last in the keyring. From then on the key is used.
    ///
    /// # Errors
    /// [`DocumentError`]; then the key may or may not be in use.
    pub async fn publish_key(&self, key: NewKey, signer: &SigningKey) -> Result<KeyRecord, DocumentError> {
        let NewKey(record) = key;
        let document = Document::KeyRecord(record.name_tag, record.key_id);
        for store in self.mirrors.iter().chain(std::iter::once(&self.store)) {
            signed::create(&**store, &document, &record, Namespace::Key, signer).await?;
        }
        Ok(record)
    }

    /// No key is given to a mirror that is another keyring's, or was emptied and may be any place.
    async fn confirm_mirrors(&self) -> Result<(), DocumentError> {
        let name = ObjectName::Document(Document::KeyringRoot);
        for mirror in &self.mirrors {
            let object = signed::locate(&**mirror, &name);
            let found =
                mirror.get(&name.to_string(), MAX_ROOT).await.map_err(|source| signed::store_error(&**mirror, &name, source))?;
            let root: KeyringRoot = signed::parse(&found, &object)?;
            if root != self.root {
                return Err(DocumentError::Contradiction { object, what: "it is another keyring's".to_owned() });
            }
        }
        Ok(())
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
