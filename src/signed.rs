//! Signed documents in a store: written signature first, read only when the signature counts.

mod error;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};

pub use self::error::DocumentError;
use crate::{
    id::Sha256Digest,
    object_name::{Document, ObjectName},
    signature::{AllowedSigners, Namespace, SigningKey, allowed_signers::Signer},
    store::{PutMode, PutOutcome, Store, StoreError, StoreErrorKind, Stored},
};

/// The format that this version writes. Older ones it would read; there are none yet.
pub const FORMAT: u32 = 1;

/// No document is longer than this. A description lies in chunks, so nothing here grows with a tenant but a manifest's page list.
const MAX_DOCUMENT: u64 = 64 * 1024 * 1024;
const MAX_SIGNATURE: u64 = 64 * 1024;

/// A document whose signature counts.
#[derive(Debug, Clone)]
pub struct Signed<T> {
    /// What it says.
    pub value: T,
    /// SHA-256 of its bytes.
    pub sha256: Sha256Digest,
    /// Who signed it.
    pub signer: Signer,
    /// When the store says that it was created.
    pub stored_at: DateTime<Utc>,
}

/// Address and name, for messages.
#[must_use]
pub fn locate(store: &dyn Store, name: &dyn std::fmt::Display) -> String {
    format!("{}/{name}", store.address())
}

/// A store's error as a document's: a definite "not there" is [`DocumentError::Missing`].
pub(crate) fn store_error(store: &dyn Store, name: &dyn std::fmt::Display, source: StoreError) -> DocumentError {
    let object = locate(store, name);
    if source.kind == StoreErrorKind::NotFound {
        DocumentError::Missing { object }
    } else {
        DocumentError::Store { object, source: Box::new(source) }
    }
}

/// Reads a document and checks its signature before anything in it is used. `stored_at` is the store's creation time where a listing
/// has said it; otherwise it is asked for.
///
/// # Errors
/// Every variant but [`DocumentError::Exists`] and [`DocumentError::Sign`].
pub async fn read<T: DeserializeOwned>(
    store: &dyn Store,
    document: &Document,
    namespace: Namespace,
    signers: &AllowedSigners,
    stored_at: Option<DateTime<Utc>>,
) -> Result<Signed<T>, DocumentError> {
    let Whole { bytes, signer, stored_at, .. } = read_whole(store, document, namespace, signers, stored_at).await?;
    let value = parse(&bytes, &locate(store, document))?;
    Ok(Signed { value, sha256: Sha256Digest::of(&bytes), signer, stored_at })
}

/// A document with the signature that counts for it, as they lie in a store.
#[derive(Debug, Clone)]
pub struct Whole {
    /// The document.
    pub bytes: Bytes,
    /// Its signature.
    pub signature: Bytes,
    /// Who signed it.
    pub signer: Signer,
    /// When the store says that the document was created.
    pub stored_at: DateTime<Utc>,
}

/// Like [`read`], as bytes: for a document that is not JSON, or that is to be copied with its signature.
///
/// # Errors
/// As [`read`], but for [`DocumentError::Malformed`] and [`DocumentError::NewerFormat`].
pub async fn read_whole(
    store: &dyn Store,
    document: &Document,
    namespace: Namespace,
    signers: &AllowedSigners,
    stored_at: Option<DateTime<Utc>>,
) -> Result<Whole, DocumentError> {
    match read_current(store, document, namespace, signers, stored_at).await {
        Err(error) if error.is_integrity() => match read_earlier(store, document, namespace, signers).await? {
            Some(found) => Ok(found),
            None => Err(error),
        },
        outcome => outcome,
    }
}

async fn read_current(
    store: &dyn Store,
    document: &Document,
    namespace: Namespace,
    signers: &AllowedSigners,
    stored_at: Option<DateTime<Utc>>,
) -> Result<Whole, DocumentError> {
    let object = locate(store, document);
    let name = document.to_string();
    let bytes = store.get(&name, MAX_DOCUMENT).await.map_err(|source| store_error(store, document, source))?;
    let stored_at = match stored_at {
        Some(at) => at,
        None => match store.head(&name).await.map_err(|source| store_error(store, document, source))? {
            Some(listed) => listed.modified,
            None => return Err(DocumentError::Missing { object }),
        },
    };
    let signature_name = ObjectName::Signature(document.clone()).to_string();
    let signature = match store.get(&signature_name, MAX_SIGNATURE).await {
        Ok(signature) => signature,
        Err(error) if error.kind == StoreErrorKind::NotFound => return Err(DocumentError::Unsigned { object }),
        Err(source) => return Err(store_error(store, &signature_name, source)),
    };
    let signer =
        signers.verify(namespace, &bytes, &signature, stored_at).map_err(|source| DocumentError::Signature { object, source })?;
    Ok(Whole { bytes, signature, signer, stored_at })
}

/// The earliest version that verifies, where the store keeps versions: the document or its signature was hidden or written over.
async fn read_earlier(
    store: &dyn Store,
    document: &Document,
    namespace: Namespace,
    signers: &AllowedSigners,
) -> Result<Option<Whole>, DocumentError> {
    let name = document.to_string();
    let documents = store.versions(&name, MAX_DOCUMENT).await.map_err(|source| store_error(store, document, source))?;
    if documents.is_empty() {
        return Ok(None);
    }
    let signature_name = ObjectName::Signature(document.clone()).to_string();
    let signatures =
        store.versions(&signature_name, MAX_SIGNATURE).await.map_err(|source| store_error(store, &signature_name, source))?;
    for Stored { bytes, modified } in documents {
        for signature in &signatures {
            if let Ok(signer) = signers.verify(namespace, &bytes, &signature.bytes, modified) {
                warn_of_earlier(&locate(store, document));
                let signature = signature.bytes.clone();
                return Ok(Some(Whole { bytes, signature, signer, stored_at: modified }));
            }
        }
    }
    Ok(None)
}

/// An object by its digest, where the store keeps versions and what it gives now is not it.
///
/// # Errors
/// The store's.
pub(crate) async fn earlier_by_digest(
    store: &dyn Store,
    name: &ObjectName,
    limit: u64,
    sha256: Sha256Digest,
) -> Result<Option<Bytes>, StoreError> {
    earlier(store, name, limit, |bytes| (Sha256Digest::of(bytes) == sha256).then(|| bytes.clone())).await
}

/// What `verify` makes of the earliest version that it takes.
///
/// # Errors
/// The store's.
pub(crate) async fn earlier<T>(
    store: &dyn Store,
    name: &ObjectName,
    limit: u64,
    verify: impl Fn(&Bytes) -> Option<T>,
) -> Result<Option<T>, StoreError> {
    let versions = store.versions(&name.to_string(), limit).await?;
    let found = versions.iter().find_map(|version| verify(&version.bytes));
    if found.is_some() {
        warn_of_earlier(&locate(store, name));
    }
    Ok(found)
}

fn warn_of_earlier(object: &str) {
    tracing::warn!(
        object,
        "{object} was hidden or written over: an earlier version of it is used; `tenure verify` names all of them"
    );
}

/// Parses a document whose signature, or digest, has been checked; a newer format is said before anything else of it is looked at.
///
/// # Errors
/// [`DocumentError::NewerFormat`] and [`DocumentError::Malformed`].
pub fn parse<T: DeserializeOwned>(bytes: &[u8], object: &str) -> Result<T, DocumentError> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        format: u64,
    }
    let malformed = |source| DocumentError::Malformed { object: object.to_owned(), source };
    let Versioned { format } = serde_json::from_slice(bytes).map_err(malformed)?;
    if format != u64::from(FORMAT) {
        return Err(DocumentError::NewerFormat { object: object.to_owned(), found: format });
    }
    serde_json::from_slice(bytes).map_err(malformed)
}

/// Writes a new document, signature first: a signature without its document is a crashed write and means nothing. Both are read back:
/// where a store cannot refuse the second of two writers by itself, the one that was overwritten finds it here.
///
/// # Errors
/// [`DocumentError::Exists`], [`DocumentError::Sign`], [`DocumentError::Store`]; after the last the document may or may not be there.
pub async fn create<T: Serialize>(
    store: &dyn Store,
    document: &Document,
    value: &T,
    namespace: Namespace,
    key: &SigningKey,
) -> Result<Sha256Digest, DocumentError> {
    let bytes =
        serde_json::to_vec(value).map_err(|source| DocumentError::Malformed { object: locate(store, document), source })?;
    create_bytes(store, document, bytes.into(), namespace, key).await
}

/// Like [`create`], for a document that is not JSON.
///
/// # Errors
/// As [`create`].
pub async fn create_bytes(
    store: &dyn Store,
    document: &Document,
    bytes: Bytes,
    namespace: Namespace,
    key: &SigningKey,
) -> Result<Sha256Digest, DocumentError> {
    let signature =
        key.sign(namespace, &bytes).map_err(|source| DocumentError::Sign { object: locate(store, document), source })?;
    let sha256 = Sha256Digest::of(&bytes);
    let signature_name = ObjectName::Signature(document.clone());
    let (name, signature) = (ObjectName::Document(document.clone()), Bytes::from(signature));
    create_object(store, &signature_name, signature.clone()).await?;
    create_object(store, &name, bytes.clone()).await?;
    confirm(store, &signature_name, &signature).await?;
    confirm(store, &name, &bytes).await?;
    Ok(sha256)
}

/// Whether a signature lies there, without its document, that counts for these bytes.
///
/// # Errors
/// [`DocumentError::Store`].
pub async fn has_signature_of(
    store: &dyn Store,
    document: &Document,
    bytes: &[u8],
    namespace: Namespace,
    signers: &AllowedSigners,
) -> Result<bool, DocumentError> {
    let name = ObjectName::Signature(document.clone());
    let failed = |source| store_error(store, &name, source);
    let Some(listed) = store.head(&name.to_string()).await.map_err(failed)? else { return Ok(false) };
    let signature = store.get(&name.to_string(), MAX_SIGNATURE).await.map_err(failed)?;
    Ok(signers.verify(namespace, bytes, &signature, listed.modified).is_ok())
}

/// Copies a signed document that was read elsewhere, signature first.
///
/// # Errors
/// As [`create`], but for [`DocumentError::Sign`].
pub async fn create_whole(store: &dyn Store, document: &Document, whole: &Whole) -> Result<(), DocumentError> {
    let parts =
        [(ObjectName::Signature(document.clone()), &whole.signature), (ObjectName::Document(document.clone()), &whole.bytes)];
    for (name, bytes) in &parts {
        create_object(store, name, (*bytes).clone()).await?;
    }
    for (name, bytes) in &parts {
        confirm(store, name, bytes).await?;
    }
    Ok(())
}

/// Looks whether an object is still what was just written. Credentials that may not read it say nothing about it.
///
/// # Errors
/// [`DocumentError::Exists`] when somebody else's bytes are there, [`DocumentError::Missing`] and [`DocumentError::Store`].
pub async fn confirm(store: &dyn Store, name: &ObjectName, written: &Bytes) -> Result<(), DocumentError> {
    match store.get(&name.to_string(), MAX_DOCUMENT).await {
        Ok(found) if found == *written => Ok(()),
        Ok(_) => Err(DocumentError::Exists { object: locate(store, name) }),
        Err(error) if error.kind == StoreErrorKind::TooLarge => Err(DocumentError::Exists { object: locate(store, name) }),
        Err(error) if error.kind == StoreErrorKind::Denied => Ok(()),
        Err(source) => Err(store_error(store, name, source)),
    }
}

/// Writes one object, create-only.
///
/// # Errors
/// [`DocumentError::Exists`] and [`DocumentError::Store`].
pub async fn create_object(store: &dyn Store, name: &ObjectName, bytes: Bytes) -> Result<(), DocumentError> {
    match store.put(&name.to_string(), bytes, PutMode::CreateOnly).await {
        Ok(PutOutcome::Stored) => Ok(()),
        Ok(PutOutcome::Exists) => Err(DocumentError::Exists { object: locate(store, name) }),
        Err(source) => Err(store_error(store, name, source)),
    }
}
