//! What a tenant's backups are made of: chunks and index pages.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::{Vault, list_named};
use crate::{
    backup_id::BackupId,
    format::{
        index_page::{Entry, IndexPage},
        manifest::Page,
    },
    id::{ChunkName, Locker, Sha256Digest},
    object_name::{ObjectName, prefix},
    seal::SealedChunk,
    signed::{self, DocumentError},
    store::{StoreError, StoreErrorKind},
};

/// A stored object that is missing or is not what the index says.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// A definite "not there".
    #[error("{object} is missing")]
    Missing {
        /// Address and name.
        object: String,
    },
    /// It is there with another length or digest.
    #[error("{object} is damaged: {what}")]
    Damaged {
        /// Address and name.
        object: String,
        /// How it differs.
        what: String,
    },
    /// A page whose bytes are right and whose content is not understood.
    #[error(transparent)]
    Page(DocumentError),
    /// The store failed.
    #[error("cannot reach {object}")]
    Store {
        /// Address and name.
        object: String,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
}

impl ObjectError {
    /// Whether this says that something is missing or changed, rather than out of reach.
    #[must_use]
    pub fn is_integrity(&self) -> bool {
        !matches!(self, Self::Store { .. })
    }
}

/// The chunks that the store lists: name and birth to length in bytes.
pub type StoredChunks = HashMap<(ChunkName, BackupId), u64>;

impl Vault {
    /// Reads an index page and checks it against its digest.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn page(&self, locker: Locker, page: &Page) -> Result<IndexPage, ObjectError> {
        let name = ObjectName::Page { locker, birth: page.birth, sha256: page.sha256 };
        let bytes = self.checked(&name, page.size, page.sha256).await?;
        let object = signed::locate(self.store(), &name);
        let parsed: IndexPage = signed::parse(&bytes, &object).map_err(ObjectError::Page)?;
        if parsed.entries.len() != page.entries as usize {
            return Err(ObjectError::Damaged {
                object,
                what: format!("{} entries instead of {}", parsed.entries.len(), page.entries),
            });
        }
        parsed.check().map_err(|what| ObjectError::Page(DocumentError::Contradiction { object, what }))?;
        Ok(parsed)
    }

    /// Reads a chunk, still sealed, and checks it against its length and digest.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub async fn chunk(&self, locker: Locker, entry: &Entry) -> Result<Bytes, ObjectError> {
        let name = ObjectName::Chunk { locker, birth: entry.birth, name: entry.name };
        self.checked(&name, entry.size, entry.sha256).await
    }

    pub(super) async fn checked(&self, name: &ObjectName, size: u64, sha256: Sha256Digest) -> Result<Bytes, ObjectError> {
        let damage = match self.current(name, size, sha256).await {
            Err(error @ (ObjectError::Missing { .. } | ObjectError::Damaged { .. })) => error,
            outcome => return outcome,
        };
        match signed::earlier_by_digest(self.store(), name, size, sha256).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(damage),
            Err(source) => Err(ObjectError::Store { object: signed::locate(self.store(), name), source: Box::new(source) }),
        }
    }

    async fn current(&self, name: &ObjectName, size: u64, sha256: Sha256Digest) -> Result<Bytes, ObjectError> {
        let object = || signed::locate(self.store(), name);
        let bytes = match self.store().get(&name.to_string(), size).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind == StoreErrorKind::NotFound => return Err(ObjectError::Missing { object: object() }),
            Err(error) if error.kind == StoreErrorKind::TooLarge => {
                return Err(ObjectError::Damaged { object: object(), what: format!("longer than its {size} bytes") });
            }
            Err(source) => return Err(ObjectError::Store { object: object(), source: Box::new(source) }),
        };
        if bytes.len() as u64 != size {
            return Err(ObjectError::Damaged { object: object(), what: format!("{} bytes instead of {size}", bytes.len()) });
        }
        if Sha256Digest::of(&bytes) != sha256 {
            return Err(ObjectError::Damaged { object: object(), what: "its SHA-256 differs".to_owned() });
        }
        Ok(bytes)
    }

    /// Stores a new chunk.
    ///
    /// # Errors
    /// [`DocumentError::Store`]; [`DocumentError::Exists`] when another object has its name, which no run of ours can cause.
    pub async fn put_chunk(&self, locker: Locker, birth: BackupId, chunk: &SealedChunk) -> Result<(), DocumentError> {
        let name = ObjectName::Chunk { locker, birth, name: chunk.name() };
        signed::create_object(self.store(), &name, chunk.bytes().clone()).await
    }

    /// Stores a new index page under the SHA-256 of its bytes, and returns that and its length.
    ///
    /// # Errors
    /// [`DocumentError::Store`], [`DocumentError::Exists`].
    pub async fn put_page(&self, locker: Locker, birth: BackupId, bytes: Bytes) -> Result<Sha256Digest, DocumentError> {
        let sha256 = Sha256Digest::of(&bytes);
        let name = ObjectName::Page { locker, birth, sha256 };
        signed::create_object(self.store(), &name, bytes).await?;
        Ok(sha256)
    }

    /// Every chunk that the store lists for a locker, but for those that somebody hid or wrote over: what is hidden may go any day.
    ///
    /// # Errors
    /// The store's.
    pub async fn stored_chunks(&self, locker: Locker) -> Result<StoredChunks, StoreError> {
        let prefix = prefix::in_locker(locker, "c");
        let mut chunks = StoredChunks::new();
        let mut listing = self.store().list(&prefix);
        while let Some(listed) = listing.try_next().await? {
            if let Ok(ObjectName::Chunk { birth, name, .. }) = listed.name.parse()
                && listed.tampering.is_none()
            {
                chunks.insert((name, birth), listed.size);
            }
        }
        Ok(chunks)
    }

    /// Every index page that the store lists for a locker: digest and birth to length in bytes. As [`Vault::stored_chunks`].
    ///
    /// # Errors
    /// The store's.
    pub async fn stored_pages(&self, locker: Locker) -> Result<HashMap<(Sha256Digest, BackupId), u64>, StoreError> {
        let (named, _) = list_named(self.store(), &prefix::in_locker(locker, "p")).await?;
        let pages = named.into_iter().filter_map(|(name, listed)| match name {
            ObjectName::Page { birth, sha256, .. } if listed.tampering.is_none() => Some(((sha256, birth), listed.size)),
            _ => None,
        });
        Ok(pages.collect())
    }
}
