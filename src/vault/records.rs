//! The small signed records of a locker: where its tenant lives, which databases were made from it.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};

use super::{Vault, list_named};
use crate::{
    format::record::{Copy, CopyOid, Finding, Source},
    id::{Locker, RecordId},
    object_name::{Document, ObjectName, prefix},
    signature::{Namespace, SigningKey},
    signed::{self, DocumentError, Signed},
};

/// What a locker's `s/` says of where its tenant lives.
#[derive(Debug, Default)]
pub struct Sources {
    /// The record that counts: the highest sequence, ties to the lowest id.
    pub current: Option<Source>,
    /// Records that cannot be read or trusted, but for those that a later record passed over by name.
    pub unreadable: Vec<(RecordId, DocumentError)>,
}

impl Sources {
    /// Whether there is no record at all, good or bad. A key record is written after its locker's first source: where there is a key and
    /// no source, the vault lost something.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.unreadable.is_empty()
    }

    /// The sequence of the next record.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.current.as_ref().map_or(1, |source| source.sequence.saturating_add(1))
    }

    /// What the next record passes over.
    #[must_use]
    pub fn passed_over(&self) -> Vec<RecordId> {
        let mut ids: Vec<RecordId> = self.unreadable.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }
}

impl Vault {
    /// The locker's source; `None` when there is no record of one.
    ///
    /// # Errors
    /// Any record that cannot be read or trusted, and that none passed over: a source that is not known must not be guessed.
    pub async fn source(&self, locker: Locker) -> Result<Option<Source>, DocumentError> {
        let mut sources = self.sources(locker).await?;
        match sources.unreadable.pop() {
            Some((_, error)) => Err(error),
            None => Ok(sources.current),
        }
    }

    /// The locker's source, and what of its records is not to be trusted.
    ///
    /// # Errors
    /// [`DocumentError::Store`] and [`DocumentError::NewerFormat`] only.
    pub async fn sources(&self, locker: Locker) -> Result<Sources, DocumentError> {
        let (mut good, mut unreadable) = (Vec::new(), Vec::new());
        for (document, _, read) in self.records::<Source>(locker, "s").await? {
            match (read, document) {
                (Ok(signed), _) => good.push(signed.value),
                // Good for a newer version: nobody may pass it over.
                (Err(error @ DocumentError::NewerFormat { .. }), _) => return Err(error),
                (Err(error), Document::Source(_, id)) => unreadable.push((id, error)),
                (Err(_), _) => {}
            }
        }
        // Passed over by name: whoever hides or spoils a record, and brings it back later, changes nothing.
        let passed_over: HashSet<RecordId> = good.iter().flat_map(|source| source.passes_over.iter().copied()).collect();
        good.retain(|source| !passed_over.contains(&source.id));
        unreadable.retain(|(id, _)| !passed_over.contains(id));
        unreadable.sort_by_key(|(id, _)| *id);
        let current = good.into_iter().max_by(|a, b| a.sequence.cmp(&b.sequence).then(b.id.cmp(&a.id)));
        Ok(Sources { current, unreadable })
    }

    /// Every database that was ever recorded as the tenant's, as far as the records can be trusted.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn every_source(&self, locker: Locker) -> Result<Vec<Source>, DocumentError> {
        let records = self.records::<Source>(locker, "s").await?;
        Ok(records.into_iter().filter_map(|(_, _, read)| Some(read.ok()?.value)).collect())
    }

    /// Records a tenant's source.
    ///
    /// # Errors
    /// As [`signed::create`].
    pub async fn put_source(&self, source: &Source, key: &SigningKey) -> Result<(), DocumentError> {
        self.create(&Document::Source(source.locker, source.id), source, key).await
    }

    /// Records a database that is about to be made from a locker's backup.
    ///
    /// # Errors
    /// As [`signed::create`].
    pub async fn put_copy(&self, copy: &Copy, key: &SigningKey) -> Result<(), DocumentError> {
        self.create(&Document::Copy(copy.locker, copy.id), copy, key).await
    }

    /// Records such a database's OID.
    ///
    /// # Errors
    /// As [`signed::create`].
    pub async fn put_copy_oid(&self, copy: &CopyOid, key: &SigningKey) -> Result<(), DocumentError> {
        self.create(&Document::CopyOid(copy.locker, copy.id), copy, key).await
    }

    /// The OIDs of all databases that tenure made from a locker's backups.
    ///
    /// # Errors
    /// Any record that cannot be read or trusted.
    pub async fn copies(&self, locker: Locker) -> Result<Vec<CopyOid>, DocumentError> {
        let records = self.records::<CopyOid>(locker, "copies").await?;
        records.into_iter().map(|(_, _, read)| read.map(|signed| signed.value)).collect()
    }

    /// The databases that tenure made from a locker's backups, each with its OID where that was written down; and what cannot be read or
    /// trusted of them.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn made_copies(&self, locker: Locker) -> Result<(Vec<(Copy, Option<u32>)>, Vec<DocumentError>), DocumentError> {
        let (mut oids, mut copies, mut unreadable) = (HashMap::new(), Vec::new(), Vec::new());
        for (_, _, read) in self.records::<CopyOid>(locker, "copies").await? {
            match read {
                Ok(signed) => _ = oids.insert(signed.value.id, signed.value.database_oid),
                Err(error) => unreadable.push(error),
            }
        }
        for (_, _, read) in self.records::<Copy>(locker, "copies").await? {
            match read {
                Ok(Signed { value, .. }) => copies.push((oids.get(&value.id).copied(), value)),
                Err(error) => unreadable.push(error),
            }
        }
        Ok((copies.into_iter().map(|(oid, copy)| (copy, oid)).collect(), unreadable))
    }

    pub(super) async fn create<T: Record + Serialize>(
        &self,
        document: &Document,
        value: &T,
        key: &SigningKey,
    ) -> Result<(), DocumentError> {
        signed::create(self.store(), document, value, T::NAMESPACE, key).await.map(drop)
    }

    /// All records of one type in one folder of a locker, each good or with what is wrong with it.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub(crate) async fn records<T: Record>(&self, locker: Locker, folder: &str) -> Result<Vec<Read<T>>, DocumentError> {
        Ok(self.records_and_signatures(locker, folder).await?.0)
    }

    /// The same, and those records of which only the signature is there, with when the store got it: a crashed write, or somebody removed the
    /// record.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub(super) async fn records_and_signatures<T: Record>(
        &self,
        locker: Locker,
        folder: &str,
    ) -> Result<(Vec<Read<T>>, Vec<(Document, DateTime<Utc>)>), DocumentError> {
        let prefix = prefix::in_locker(locker, folder);
        let (named, _) = list_named(self.store(), &prefix)
            .await
            .map_err(|source| DocumentError::Store { object: signed::locate(self.store(), &prefix), source: source.into() })?;
        let (mut records, mut alone) = (Vec::new(), HashMap::new());
        for (name, listed) in &named {
            if let ObjectName::Signature(document) = name
                && T::is(document)
            {
                alone.insert(document.clone(), listed.modified);
            }
        }
        for (name, listed) in named {
            let ObjectName::Document(document) = name else { continue };
            if !T::is(&document) {
                continue;
            }
            alone.remove(&document);
            let read = self.record(&document, Some(listed.modified)).await;
            match read {
                Err(error @ DocumentError::Store { .. }) => return Err(error),
                Err(error) if self.went_meanwhile(&document, &error).await? => continue,
                _ => {}
            }
            records.push((document, listed.modified, read));
        }
        let mut alone: Vec<(Document, DateTime<Utc>)> = alone.into_iter().collect();
        alone.sort_by_cached_key(|(document, _)| document.to_string());
        Ok((records, alone))
    }

    /// One record, checked against its name.
    ///
    /// # Errors
    /// As [`signed::read`]; [`DocumentError::Contradiction`] for one that was moved here.
    pub async fn record<T: Record>(
        &self,
        document: &Document,
        stored_at: Option<DateTime<Utc>>,
    ) -> Result<Signed<T>, DocumentError> {
        let record: Signed<T> = signed::read(self.store(), document, T::NAMESPACE, self.signers(), stored_at).await?;
        if record.value.document() != *document || !record.value.belongs(self) {
            return Err(DocumentError::Contradiction {
                object: signed::locate(self.store(), document),
                what: "it belongs elsewhere: moved or copied from another place".to_owned(),
            });
        }
        Ok(record)
    }
}

/// A record's name, when the store got it, and the record or what is wrong with it.
pub(crate) type Read<T> = (Document, DateTime<Utc>, Result<Signed<T>, DocumentError>);

/// A signed record that says where it belongs.
pub trait Record: DeserializeOwned {
    /// What its signature must be for.
    const NAMESPACE: Namespace = Namespace::Run;
    /// Whether such a name is one of its kind's.
    fn is(document: &Document) -> bool;
    /// The name that it must have.
    fn document(&self) -> Document;
    /// Whether it was made for this vault.
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

impl Record for Copy {
    fn is(document: &Document) -> bool {
        matches!(document, Document::Copy(..))
    }
    fn document(&self) -> Document {
        Document::Copy(self.locker, self.id)
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

impl Record for Finding {
    fn is(document: &Document) -> bool {
        matches!(document, Document::Finding(..))
    }
    fn document(&self) -> Document {
        Document::Finding(self.locker, self.id)
    }
    fn belongs(&self, vault: &Vault) -> bool {
        self.installation == vault.root().installation
    }
}
