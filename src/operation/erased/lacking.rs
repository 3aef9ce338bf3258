//! Tombstones that one of the stores lacks, though another one has them: somebody removed them there, or a mirror was away.
//!
//! What is put back are the very bytes under the very signature, after they were verified. What lies there and cannot be trusted is never
//! written over, and is no reason to do anything.

use std::collections::{BTreeMap, BTreeSet};

use super::{Erasures, read};
use crate::{
    format::erasure_note::ErasureNote,
    id::NameTag,
    keyring::Keyring,
    object_name::{Document, prefix},
    operation::failure::Failure,
    signature::Namespace,
    signed::{self, DocumentError},
    store::Store,
    vault::Vault,
};

/// What the vault, the keyring and every mirror say of erased tenants.
#[derive(Default)]
pub struct Survey {
    /// By whom it is about, all stores together.
    pub erasures: BTreeMap<NameTag, Erasures>,
    /// Notes that a store lacks.
    pub lacking: Vec<Lacking>,
    /// What lies there and cannot be trusted, also where another store has the same whole: the object, and why.
    pub doubtful: Vec<(String, String)>,
    /// Mirrors that cannot be asked, by address.
    pub away: Vec<(String, Failure)>,
}

/// A note that a store lacks.
#[derive(Debug, Clone)]
pub struct Lacking {
    /// The note.
    pub note: ErasureNote,
    /// The store's address.
    pub store: String,
    /// Whether the store is a mirror of the keyring.
    pub is_mirror: bool,
}

impl Lacking {
    /// Where it should be.
    #[must_use]
    pub fn object(&self) -> String {
        format!("{}/{}", self.store, self.document())
    }

    fn document(&self) -> Document {
        Document::Tombstone(self.note.name_tag, self.note.id)
    }

    /// What is said of it.
    #[must_use]
    pub fn problem(&self) -> String {
        "a tombstone, or what was said of one, is not there, and another store has it: somebody removed it, or this store was away when it was written"
            .to_owned()
    }
}

/// Looks through every store.
///
/// # Errors
/// The vault or the keyring cannot be asked.
pub async fn survey(vault: &Vault, keyring: &Keyring) -> Result<Survey, DocumentError> {
    let trust = (vault.signers(), vault.root().installation);
    let mut survey = Survey::default();
    let mut asked: Vec<(&dyn Store, bool)> = Vec::new();
    let mut tags = BTreeSet::<NameTag>::new();
    for (store, is_mirror) in stores(vault, keyring) {
        match folders(store).await {
            Ok(found) => {
                tags.extend(found);
                asked.push((store, is_mirror));
            }
            Err(error) if is_mirror => survey.away.push((store.address().to_owned(), error.into())),
            Err(error) => return Err(error),
        }
    }
    for tag in tags {
        let mut erasures = Erasures::default();
        let mut heard = Vec::new();
        for (store, is_mirror) in &asked {
            match erasures.add(*store, trust, tag).await {
                Ok(()) => heard.push((store.address(), *is_mirror)),
                Err(error) if *is_mirror => survey.away.push((store.address().to_owned(), error.into())),
                Err(error) => return Err(error),
            }
        }
        for (address, is_mirror) in heard {
            let lacking = erasures.lacking_in(address);
            survey.lacking.extend(lacking.map(|note| Lacking { note: note.clone(), store: address.to_owned(), is_mirror }));
        }
        // The signature of what is lacking is said with it.
        let is_said = |object: &str| survey.lacking.iter().any(|lacking| object.strip_suffix(".sig") == Some(&lacking.object()));
        let doubtful = erasures.doubtful.iter().filter(|(object, _)| !is_said(object));
        survey.doubtful.extend(doubtful.map(|(object, (_, why))| (object.clone(), why.clone())));
        survey.erasures.insert(tag, erasures);
    }
    survey.away.dedup_by(|one, other| one.0 == other.0);
    Ok(survey)
}

/// Puts a note back into the store that lacks it, from any other one that has it.
///
/// # Errors
/// No store has it any more, or it cannot be written there: other bytes have its name.
pub async fn put_back(vault: &Vault, keyring: &Keyring, lacking: &Lacking) -> Result<(), DocumentError> {
    let document = lacking.document();
    let trust = (vault.signers(), vault.root().installation);
    let Some((to, _)) = stores(vault, keyring).find(|(store, _)| store.address() == lacking.store) else { return Ok(()) };
    for (from, _) in stores(vault, keyring).filter(|(store, _)| store.address() != lacking.store) {
        match read(from, trust, &document).await {
            Ok(note) if note == lacking.note => {}
            _ => continue,
        }
        let whole = signed::read_whole(from, &document, Namespace::Erasure, vault.signers(), None).await?;
        return match signed::create_whole(to, &document, &whole).await {
            // Another signature lies there alone: that it is one of these bytes is enough.
            Err(DocumentError::Exists { .. })
                if signed::has_signature_of(to, &document, &whole.bytes, Namespace::Erasure, vault.signers()).await? =>
            {
                signed::create_object(to, &crate::object_name::ObjectName::Document(document), whole.bytes).await
            }
            written => written,
        };
    }
    Err(DocumentError::Missing { object: lacking.object() })
}

/// Every store that has them, and whether it is a mirror.
fn stores<'s>(vault: &'s Vault, keyring: &'s Keyring) -> impl Iterator<Item = (&'s dyn Store, bool)> {
    let mirrors = keyring.mirrors().iter().map(|mirror| (&**mirror, true));
    [(vault.store(), false), (keyring.store(), false)].into_iter().chain(mirrors)
}

async fn folders(store: &dyn Store) -> Result<Vec<NameTag>, DocumentError> {
    let failed = |error| signed::store_error(store, &prefix::ERASED, error);
    let folders = store.list_folders(prefix::ERASED).await.map_err(failed)?;
    Ok(folders.iter().filter_map(|tag| tag.parse::<NameTag>().ok()).collect())
}
