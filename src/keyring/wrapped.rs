//! Secret halves: which are listed, and whether one is what a signed record says.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::Keyring;
use crate::{
    format::key_record::{KeyRecord, Rewrapping},
    id::{KeyId, NameTag, Sha256Digest},
    object_name::{Document, ObjectName, prefix},
    seal::MAX_WRAPPED_KEY,
    signature::Namespace,
    signed::{self, DocumentError, Whole},
    store::{Store, StoreError, StoreErrorKind},
};

/// Wrapped secret halves as listed: key id to its wrappings.
pub type SecretHalves = HashMap<KeyId, BTreeSet<u32>>;

/// Which keys have a secret half in one store, by listing `k/`; nothing in it is read.
///
/// # Errors
/// [`DocumentError::Store`].
pub async fn secret_halves(store: &dyn Store) -> Result<SecretHalves, DocumentError> {
    let failed =
        |source: StoreError| DocumentError::Store { object: signed::locate(store, &prefix::SECRET_KEYS), source: source.into() };
    let mut halves = SecretHalves::new();
    let mut listing = store.list(prefix::SECRET_KEYS);
    while let Some(listed) = listing.try_next().await.map_err(failed)? {
        if let Ok(ObjectName::SecretKey { key_id, wrapping }) = listed.name.parse() {
            halves.entry(key_id).or_default().insert(wrapping);
        }
    }
    Ok(halves)
}

impl Keyring {
    /// Which keys have a secret half in the keyring itself; workers may ask this.
    ///
    /// # Errors
    /// [`DocumentError::Store`].
    pub async fn secret_halves(&self) -> Result<SecretHalves, DocumentError> {
        secret_halves(self.store()).await
    }

    /// Reads the newest whole wrapping of a key's secret half. Workers cannot.
    ///
    /// # Errors
    /// [`DocumentError::Missing`] when there is none, [`DocumentError::Contradiction`] when what is there is not what was written.
    pub async fn secret_half(&self, record: &KeyRecord) -> Result<Bytes, DocumentError> {
        let listed = self.secret_halves().await?.remove(&record.key_id).unwrap_or_default();
        self.secret_half_of(self.store(), record, &listed).await.map(|(_, wrapped)| wrapped)
    }

    /// The same in one store (the keyring or a mirror), whose wrappings of this key were listed; with its number.
    ///
    /// # Errors
    /// As [`Keyring::secret_half`]; of several that are wrong the newest is named.
    pub async fn secret_half_of(
        &self,
        store: &dyn Store,
        record: &KeyRecord,
        listed: &BTreeSet<u32>,
    ) -> Result<(u32, Bytes), DocumentError> {
        let mut wrong = None;
        for wrapping in listed.iter().rev() {
            let sha256 = match self.wrapped_sha256(store, record, *wrapping).await {
                Ok(Some(sha256)) => sha256,
                Ok(None) => continue,
                Err(error @ DocumentError::Store { .. }) => return Err(error),
                // What nobody may sign cannot keep anybody from what was signed before.
                Err(error) => {
                    wrong = wrong.or(Some(error));
                    continue;
                }
            };
            match read_wrapping(store, record.key_id, *wrapping, sha256).await {
                Ok(wrapped) => return Ok((*wrapping, wrapped)),
                Err(error @ DocumentError::Store { .. }) => return Err(error),
                Err(error) => wrong = wrong.or(Some(error)),
            }
        }
        let object = || signed::locate(store, &ObjectName::SecretKey { key_id: record.key_id, wrapping: 1 });
        Err(wrong.unwrap_or_else(|| DocumentError::Missing { object: object() }))
    }

    /// What a wrapping's SHA-256 must be; `None` when nobody signed for it: then it means nothing. A store that was away while a key was
    /// wrapped anew has records of its own.
    async fn wrapped_sha256(
        &self,
        store: &dyn Store,
        record: &KeyRecord,
        wrapping: u32,
    ) -> Result<Option<Sha256Digest>, DocumentError> {
        if wrapping == 1 {
            return Ok(Some(record.wrapped_sha256));
        }
        for store in [self.store(), store] {
            match self.whole_rewrapping(store, record.name_tag, record.key_id, wrapping).await {
                Ok((_, rewrapping)) => return Ok(Some(rewrapping.sha256)),
                Err(DocumentError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The record of a wrapping in one store (the keyring or a mirror), with its bytes and signature as they lie there.
    ///
    /// # Errors
    /// As [`signed::read`]; [`DocumentError::Contradiction`] for one that was moved here.
    pub async fn whole_rewrapping(
        &self,
        store: &dyn Store,
        tag: NameTag,
        key_id: KeyId,
        wrapping: u32,
    ) -> Result<(Whole, Rewrapping), DocumentError> {
        let document = Document::Rewrapping(tag, key_id, wrapping);
        let whole = signed::read_whole(store, &document, Namespace::Key, &self.signers, None).await?;
        let rewrapping: Rewrapping = signed::parse(&whole.bytes, &signed::locate(store, &document))?;
        let belongs = rewrapping.installation == self.root.installation
            && Document::Rewrapping(rewrapping.name_tag, rewrapping.key_id, rewrapping.wrapping) == document;
        let wrong = if !belongs {
            "it belongs to another key"
        } else if !self.signers.may(&whole.signer, Namespace::Root) {
            // A worker makes keys, and could put one that nobody can open in a good one's place.
            "it wraps a key anew, and who signed it is no operator"
        } else {
            return Ok((whole, rewrapping));
        };
        Err(DocumentError::Contradiction { object: signed::locate(store, &document), what: wrong.to_owned() })
    }
}

/// One wrapping of a secret half in one store, held against the digest that was signed for it.
///
/// # Errors
/// [`DocumentError::Missing`]; [`DocumentError::Contradiction`] when it is not what was written; [`DocumentError::Store`].
pub async fn read_wrapping(
    store: &dyn Store,
    key_id: KeyId,
    wrapping: u32,
    sha256: Sha256Digest,
) -> Result<Bytes, DocumentError> {
    let name = ObjectName::SecretKey { key_id, wrapping };
    let changed = || DocumentError::Contradiction {
        object: signed::locate(store, &name),
        what: "it is not what was written: its SHA-256 differs from the one in the signed key record".to_owned(),
    };
    let current = store.get(&name.to_string(), MAX_WRAPPED_KEY).await;
    let is_it = current.as_ref().is_ok_and(|wrapped| Sha256Digest::of(wrapped) == sha256);
    let is_told = current.as_ref().is_ok() || current.as_ref().is_err_and(|error| error.kind == StoreErrorKind::NotFound);
    if !is_it
        && is_told
        && let Some(wrapped) = signed::earlier_by_digest(store, &name, MAX_WRAPPED_KEY, sha256)
            .await
            .map_err(|source| signed::store_error(store, &name, source))?
    {
        return Ok(wrapped);
    }
    match current {
        Ok(wrapped) if is_it => Ok(wrapped),
        Ok(_) => Err(changed()),
        Err(error) if error.kind == StoreErrorKind::TooLarge => Err(changed()),
        Err(source) => Err(signed::store_error(store, &name, source)),
    }
}
