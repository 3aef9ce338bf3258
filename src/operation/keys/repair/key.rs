//! One tenant key in every copy of the keyring.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Place, RepairReport, Round, Write};
use crate::{
    format::key_record::KeyRecord,
    id::{KeyId, Locker, NameTag, Sha256Digest},
    keyring::read_wrapping,
    object_name::{Document, ObjectName},
    operation::{erased, failure::Failure, keys::KeyProblem},
    signature::Namespace,
    signed::{DocumentError, Whole},
    tenant::TenantName,
};

/// What was found of one key.
pub(super) struct Found {
    tag: NameTag,
    key_id: KeyId,
    /// The record, its bytes, and where it is whole; `None` when it is whole nowhere.
    record: Option<(KeyRecord, Whole, String)>,
    /// Whether the keyring itself has it whole.
    in_keyring: bool,
    /// Why no store's copy of it can be used, or that two are whole and differ.
    problems: Vec<(String, String)>,
}

/// What was made of it.
pub(super) struct Mended {
    pub(super) report: RepairReport,
    /// Where what it seals lies.
    pub(super) locker: Option<Locker>,
}

/// Tenants that the keyring itself knows, and their lockers.
pub(super) struct Known(BTreeMap<NameTag, BTreeSet<Locker>>);

impl Known {
    pub(super) fn of(found: &[Found]) -> Self {
        let mut known: BTreeMap<NameTag, BTreeSet<Locker>> = BTreeMap::new();
        for found in found.iter().filter(|found| found.in_keyring) {
            if let Some((record, ..)) = &found.record {
                known.entry(found.tag).or_default().insert(record.locker);
            }
        }
        Self(known)
    }
}

/// A whole wrapping of a secret half.
struct Half {
    wrapping: u32,
    bytes: Bytes,
    from: String,
}

impl Round<'_> {
    /// Looks for a whole copy of a key's record.
    pub(super) async fn find(&self, tag: NameTag, key_id: KeyId) -> Result<Found, Failure> {
        let mut found = Found { tag, key_id, record: None, in_keyring: false, problems: Vec::new() };
        let mut bad = Vec::new();
        for (number, place) in self.places.iter().enumerate() {
            match self.keys.whole_record(&*place.store, tag, key_id, None).await {
                Ok((whole, record)) => {
                    found.in_keyring |= number == 0;
                    match &found.record {
                        Some((_, other, from)) if other.bytes != whole.bytes => {
                            let object = place.locate(&ObjectName::Document(Document::KeyRecord(tag, key_id)));
                            found.problems.push((object, format!("well signed, and not the same as in {from}: neither is used")));
                        }
                        Some(_) => {}
                        None => found.record = Some((record, whole, place.store.address().to_owned())),
                    }
                }
                Err(error) if error.is_integrity() => bad.push((error.object().to_owned(), error.what())),
                Err(error) => return Err(error.into()),
            }
        }
        if found.record.is_none() {
            found.problems = bad;
        }
        Ok(found)
    }

    /// Puts a key's secret half and record back wherever they are missing.
    pub(super) async fn mend(&self, found: &Found, known: &Known) -> Result<Mended, Failure> {
        let mut mended = Mended { report: RepairReport::default(), locker: None };
        let report = &mut mended.report;
        for (object, problem) in &found.problems {
            report.problem(object.clone(), problem.clone());
        }
        let Some((record, whole, from)) = found.record.as_ref().filter(|_| found.problems.is_empty()) else { return Ok(mended) };
        let document = Document::KeyRecord(found.tag, found.key_id);
        if !found.in_keyring && self.is_leftover(record, known).await? {
            report.leftovers.push(document.to_string());
            return Ok(mended);
        }
        mended.locker = Some(record.locker);
        // Only what is missing somewhere is looked into that deeply, and only it could be put back.
        if self.is_refused(found.tag, record).await? {
            if !self.is_everywhere(found) {
                report.left_alone.push(document.to_string());
            }
            return Ok(mended);
        }
        self.half(found, record, report).await?;
        if self.write == Write::WhereFree && !report.put_back.is_empty() && self.is_refused(found.tag, record).await? {
            return self.take_back(&document, mended).await;
        }
        for place in self.places.iter().rev() {
            self.put_document(place, &document, Namespace::Key, whole, from, report).await?;
        }
        name(report, &record.tenant);
        Ok(mended)
    }

    /// What a first run left in a mirror that did not end: its tenant has another key, and nothing was ever sealed with this one.
    async fn is_leftover(&self, record: &KeyRecord, known: &Known) -> Result<bool, Failure> {
        let Some(lockers) = known.0.get(&record.name_tag) else { return Ok(false) };
        Ok(!lockers.contains(&record.locker) && !self.vault.has_manifests(record.locker).await?)
    }

    /// Whether a tombstone or a purge note names it: anything there, in the vault or in any copy of the keyring.
    async fn is_refused(&self, tag: NameTag, record: &KeyRecord) -> Result<bool, Failure> {
        if self.vault.gone(record.locker).await?.names_key(record.key_id) {
            return Ok(true);
        }
        let stores = std::iter::once(self.vault.store()).chain(self.places.iter().map(|place| &*place.store));
        Ok(erased::read_in(self.vault, stores, tag).await?.refuses_key(record.key_id))
    }

    fn is_everywhere(&self, found: &Found) -> bool {
        let record = Document::KeyRecord(found.tag, found.key_id);
        let parts = [record.to_string(), ObjectName::Signature(record).to_string()];
        let has_half = |place: &Place| place.halves.iter().any(|(key_id, _)| *key_id == found.key_id);
        self.places.iter().all(|place| parts.iter().all(|part| place.names.contains(part)) && has_half(place))
    }

    /// Puts the newest wrapping that is whole anywhere wherever it is missing, after the record of its digest. Older ones stay where they
    /// are: a recipient may have been taken away since.
    async fn half(&self, found: &Found, record: &KeyRecord, report: &mut RepairReport) -> Result<(), Failure> {
        let listed = self.places.iter().flat_map(|place| &place.halves).filter(|(key_id, _)| *key_id == found.key_id);
        let wrappings: BTreeSet<u32> = listed.map(|(_, wrapping)| *wrapping).chain([1]).collect();
        for wrapping in wrappings.into_iter().rev() {
            let (digest, signed) = match self.digest(found, record, wrapping, report).await? {
                Some(digest) => digest,
                None => continue,
            };
            let Some(half) = self.whole_half(found.key_id, wrapping, digest).await? else { continue };
            if let Some((document, whole, from)) = &signed {
                for place in self.places.iter().rev() {
                    self.put_document(place, document, Namespace::Key, whole, from, report).await?;
                }
            }
            let name = ObjectName::SecretKey { key_id: found.key_id, wrapping: half.wrapping };
            for place in &self.places {
                self.put(place, &name, &half.bytes, &half.from, report).await?;
                let older = place.halves.iter().filter(|(key_id, older)| *key_id == found.key_id && *older < wrapping);
                let names = older.map(|(key_id, older)| ObjectName::SecretKey { key_id: *key_id, wrapping: *older });
                report.superseded.extend(names.map(|name| place.locate(&name)));
            }
            return Ok(());
        }
        report.problems.push(KeyProblem {
            tenant: Some(record.tenant.as_str().to_owned()),
            object: ObjectName::SecretKey { key_id: found.key_id, wrapping: 1 }.to_string(),
            problem: "no store that was read has its secret half whole: what it sealed cannot be opened".to_owned(),
        });
        Ok(())
    }

    /// What a wrapping's SHA-256 must be, with the record that says so where it is one of its own; `None` when nobody signed for it.
    #[allow(clippy::type_complexity, reason = "two halves of one answer, used once")]
    async fn digest(
        &self,
        found: &Found,
        record: &KeyRecord,
        wrapping: u32,
        report: &mut RepairReport,
    ) -> Result<Option<(Sha256Digest, Option<(Document, Whole, String)>)>, Failure> {
        if wrapping == 1 {
            return Ok(Some((record.wrapped_sha256, None)));
        }
        for place in &self.places {
            match self.keys.whole_rewrapping(&*place.store, found.tag, found.key_id, wrapping).await {
                Ok((whole, rewrapping)) => {
                    let document = Document::Rewrapping(found.tag, found.key_id, wrapping);
                    return Ok(Some((rewrapping.sha256, Some((document, whole, place.store.address().to_owned())))));
                }
                Err(DocumentError::Missing { .. }) => {}
                Err(error) if error.is_integrity() => report.problem(error.object().to_owned(), error.what()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    async fn whole_half(&self, key_id: KeyId, wrapping: u32, sha256: Sha256Digest) -> Result<Option<Half>, Failure> {
        for place in self.places.iter().filter(|place| place.halves.contains(&(key_id, wrapping))) {
            match read_wrapping(&*place.store, key_id, wrapping, sha256).await {
                Ok(bytes) => return Ok(Some(Half { wrapping, bytes, from: place.store.address().to_owned() })),
                Err(error) if error.is_integrity() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// A tombstone or a purge note came in between: what was just written is removed again.
    async fn take_back(&self, document: &Document, mut mended: Mended) -> Result<Mended, Failure> {
        for put in std::mem::take(&mut mended.report.put_back) {
            for place in &self.places {
                let below = put.object.strip_prefix(place.store.address()).and_then(|name| name.strip_prefix('/'));
                let Some(name) = below.filter(|name| name.parse::<ObjectName>().is_ok()) else { continue };
                if let Err(error) = place.store.delete(name).await {
                    let problem = format!("its tenant was erased or purged meanwhile, and it cannot be removed again: {error}");
                    mended.report.problem(put.object.clone(), problem);
                }
            }
        }
        mended.report.left_alone.push(document.to_string());
        Ok(mended)
    }
}

/// Says whose key it is.
fn name(report: &mut RepairReport, tenant: &TenantName) {
    let tenant = || Some(tenant.as_str().to_owned());
    report.put_back.iter_mut().for_each(|put| put.tenant = tenant());
    report.problems.iter_mut().for_each(|problem| problem.tenant = tenant());
}
