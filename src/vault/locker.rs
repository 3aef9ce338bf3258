//! What lies in one tenant's locker, but for its manifests.

use std::collections::HashMap;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use serde::{Serialize, de::DeserializeOwned};

use super::{Vault, list_named};
use crate::{
    backup_id::BackupId,
    format::{
        index_page::{Entry, IndexPage},
        manifest::Page,
        record::{Copy, CopyOid, Source},
    },
    id::{ChunkName, Locker, Sha256Digest},
    object_name::{Document, ObjectName, prefix},
    seal::SealedChunk,
    signature::{Namespace, SigningKey},
    signed::{self, DocumentError, Signed},
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

    async fn checked(&self, name: &ObjectName, size: u64, sha256: Sha256Digest) -> Result<Bytes, ObjectError> {
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

    /// Every chunk that the store lists for a locker.
    ///
    /// # Errors
    /// The store's.
    pub async fn stored_chunks(&self, locker: Locker) -> Result<StoredChunks, StoreError> {
        let prefix = prefix::in_locker(locker, "c");
        let mut chunks = StoredChunks::new();
        let mut listing = self.store().list(&prefix);
        while let Some(listed) = listing.try_next().await? {
            if let Ok(ObjectName::Chunk { birth, name, .. }) = listed.name.parse() {
                chunks.insert((name, birth), listed.size);
            }
        }
        Ok(chunks)
    }

    /// Every index page that the store lists for a locker: digest and birth to length in bytes.
    ///
    /// # Errors
    /// The store's.
    pub async fn stored_pages(&self, locker: Locker) -> Result<HashMap<(Sha256Digest, BackupId), u64>, StoreError> {
        let (named, _) = list_named(self.store(), &prefix::in_locker(locker, "p")).await?;
        let pages = named.into_iter().filter_map(|(name, listed)| match name {
            ObjectName::Page { birth, sha256, .. } => Some(((sha256, birth), listed.size)),
            _ => None,
        });
        Ok(pages.collect())
    }

    /// The locker's source: the record with the highest sequence, ties to the lowest id. `None` when there is none.
    ///
    /// # Errors
    /// Any record that cannot be read or trusted: a source that is not known must not be guessed.
    pub async fn source(&self, locker: Locker) -> Result<Option<Source>, DocumentError> {
        let sources = self.records::<Source>(locker, "s").await?;
        let newest =
            sources.into_iter().map(|signed| signed.value).max_by(|a, b| a.sequence.cmp(&b.sequence).then(b.id.cmp(&a.id)));
        Ok(newest)
    }

    /// Records a tenant's source.
    ///
    /// # Errors
    /// As [`signed::create`].
    pub async fn put_source(&self, source: &Source, key: &SigningKey) -> Result<(), DocumentError> {
        self.create(&Document::Source(source.locker, source.id), source, Namespace::Run, key).await
    }

    /// Records a database that is about to be made from a locker's backup.
    ///
    /// # Errors
    /// As [`signed::create`].
    pub async fn put_copy(&self, copy: &Copy, key: &SigningKey) -> Result<(), DocumentError> {
        self.create(&Document::Copy(copy.locker, copy.id), copy, Namespace::Run, key).await
    }

    /// Records such a database's OID.
    ///
    /// # Errors
    /// As [`signed::create`].
    pub async fn put_copy_oid(&self, copy: &CopyOid, key: &SigningKey) -> Result<(), DocumentError> {
        self.create(&Document::CopyOid(copy.locker, copy.id), copy, Namespace::Run, key).await
    }

    /// The OIDs of all databases that tenure made from a locker's backups.
    ///
    /// # Errors
    /// Any record that cannot be read or trusted.
    pub async fn copies(&self, locker: Locker) -> Result<Vec<CopyOid>, DocumentError> {
        Ok(self.records::<CopyOid>(locker, "copies").await?.into_iter().map(|signed| signed.value).collect())
    }

    async fn create<T: Serialize>(
        &self,
        document: &Document,
        value: &T,
        namespace: Namespace,
        key: &SigningKey,
    ) -> Result<(), DocumentError> {
        signed::create(self.store(), document, value, namespace, key).await.map(drop)
    }

    /// All signed records of one type in one folder of a locker, each checked against its name.
    async fn records<T: Record>(&self, locker: Locker, folder: &str) -> Result<Vec<Signed<T>>, DocumentError> {
        let prefix = prefix::in_locker(locker, folder);
        let (named, _) = list_named(self.store(), &prefix)
            .await
            .map_err(|source| DocumentError::Store { object: signed::locate(self.store(), &prefix), source: source.into() })?;
        let mut records = Vec::new();
        for (name, listed) in named {
            let ObjectName::Document(document) = name else { continue };
            if !T::is(&document) {
                continue;
            }
            let record: Signed<T> =
                signed::read(self.store(), &document, Namespace::Run, self.signers(), Some(listed.modified)).await?;
            if record.value.document() != document || !record.value.belongs(self) {
                let object = signed::locate(self.store(), &document);
                return Err(DocumentError::Contradiction {
                    object,
                    what: "it belongs elsewhere: moved or copied from another place".to_owned(),
                });
            }
            records.push(record);
        }
        Ok(records)
    }
}

/// A signed record that says where it belongs.
trait Record: DeserializeOwned {
    fn is(document: &Document) -> bool;
    fn document(&self) -> Document;
    fn belongs(&self, vault: &Vault) -> bool;
}

impl Record for Source {
    fn is(document: &Document) -> bool {
        matches!(document, Document::Source(..))
    }
    fn document(&self) -> Document {
        Document::Source(self.locker, self.id)
    }
    fn belongs(&self, vault: &Vault) -> bool {
        self.installation == vault.root().installation
    }
}

impl Record for CopyOid {
    fn is(document: &Document) -> bool {
        matches!(document, Document::CopyOid(..))
    }
    fn document(&self) -> Document {
        Document::CopyOid(self.locker, self.id)
    }
    fn belongs(&self, vault: &Vault) -> bool {
        self.installation == vault.root().installation
    }
}
