//! `keys repair`: puts back what the keyring or a mirror of it lost, from whichever has it whole.
//!
//! It only ever adds: each object is created where its name is free, and read back. What lies there with other bytes is named and left
//! for a person to move away. In this order, so that a repair that is killed leaves nothing that is used and is not whole: tombstones;
//! for each key its secret half, then its public half; `keyring.json` last, without which no command works with a keyring.

mod key;
mod place;
mod record;
mod report;

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use self::place::{Place, Write};
pub use self::report::{PutBack, RepairReport};
use super::not_reached;
use crate::{
    format::{
        plan::{Bound, KeysChange, PlannedAct},
        root::KeyringRoot,
    },
    id::{KeyId, Locker, NameTag},
    keyring::{Keyring, read_root},
    object_name::{Document, ObjectName},
    operation::{
        failure::{Failure, FailureClass},
        lost,
        plans::by_operator::{Planning, Wanted},
    },
    signature::{Namespace, SigningKey},
    signed::{self},
    store::Store,
    vault::Vault,
};

/// Keys looked at at once.
const AT_ONCE: usize = 16;

/// What a repair works with. The credentials are an operator's: they read everything in the keyring and its mirrors, and create there.
pub struct Repair<'a> {
    /// The vault: it says which keyring is its own, whose signatures count, and who was erased or purged.
    pub vault: &'a Vault,
    /// The keyring.
    pub keyring: Arc<dyn Store>,
    /// Its mirrors.
    pub mirrors: Vec<Arc<dyn Store>>,
    /// Looks, and writes nothing.
    pub dry_run: bool,
    /// How many operators must sign what is put back; 0 where nobody is asked.
    pub approvals: u32,
    /// Signs the plan and the record of the act; without one nothing is recorded, and where operators must sign, nothing is put back.
    pub operator: Option<&'a SigningKey>,
}

/// The keyring and its mirrors as they are now; those that are somebody else's, or cannot be reached, are not among them.
struct Round<'a> {
    vault: &'a Vault,
    keys: Keyring,
    /// The keyring first.
    places: Vec<Place>,
    write: Write,
    now: DateTime<Utc>,
}

impl Repair<'_> {
    /// Compares the keyring and its mirrors, and puts back what is missing in any of them.
    ///
    /// # Errors
    /// No whole `keyring.json` anywhere; a keyring of another installation; credentials that may not read or create; a store that fails
    /// half way: then what was put back is whole, and the next repair goes on.
    pub async fn run(&self, now: DateTime<Utc>) -> Result<RepairReport, Failure> {
        if self.dry_run || self.approvals == 0 {
            let mut report = self.look_or_mend(self.dry_run, now).await?;
            self.record(None, &mut report, now).await;
            return Ok(report);
        }
        // What would be put back is what operators sign.
        let looked = self.look_or_mend(true, now).await?;
        let Some(operator) = self.operator else {
            return Err(Failure::new(
                FailureClass::Usage,
                "configuration",
                "signing.operator",
                "operators must sign a repair, and the configuration has no `signing.operator`",
            )
            .hint("Run it where an operator's key is, or with one below [signing]."));
        };
        let mut objects: Vec<String> = looked.put_back.iter().map(|put| put.object.clone()).collect();
        objects.sort();
        let planning = Planning { vault: self.vault, keyring: None, operator, needed: self.approvals, now };
        if objects.is_empty() {
            return Ok(RepairReport { dry_run: false, ..looked });
        }
        let bound = Bound { objects, ..Bound::default() };
        let act = PlannedAct::Keys { change: KeysChange::Repair };
        let plan = planning.begin(&Wanted { tenant: None, act, lockers: Vec::new(), bound }).await?;
        let mut report = self.look_or_mend(false, now).await?;
        self.record(plan.as_ref(), &mut report, now).await;
        planning.end(plan.as_ref()).await?;
        Ok(report)
    }

    async fn look_or_mend(&self, dry_run: bool, now: DateTime<Utc>) -> Result<RepairReport, Failure> {
        let mut report = RepairReport { dry_run, ..RepairReport::default() };
        let (root, places) = self.places(&mut report).await?;
        let keys = Keyring::of(Arc::clone(&self.keyring), self.mirrors.clone(), root, self.vault.signers().clone());
        let write = if dry_run { Write::Never } else { Write::WhereFree };
        report.stores = places.iter().map(|place| place.store.address().to_owned()).collect();
        let round = Round { vault: self.vault, keys, places, write, now };
        let outcome = round.run(&mut report).await;
        report.put_back.sort();
        report.problems.sort();
        report.problems.dedup();
        for list in [&mut report.left_alone, &mut report.superseded, &mut report.leftovers] {
            list.sort();
            list.dedup();
        }
        outcome.map(|()| report).map_err(operators)
    }

    /// The copies that are this installation's, or empty; and the root, from the first that has it.
    async fn places(&self, report: &mut RepairReport) -> Result<(KeyringRoot, Vec<Place>), Failure> {
        let (mut places, mut root) = (Vec::new(), None);
        for (number, store) in std::iter::once(&self.keyring).chain(&self.mirrors).enumerate() {
            let of_keyring = number == 0;
            let has_root = match read_root(&**store, self.vault.root()).await {
                Ok(read) => {
                    root.get_or_insert(read);
                    true
                }
                Err(signed::DocumentError::Missing { .. }) => false,
                Err(error) if of_keyring && error.is_integrity() => {
                    let failure = Failure::from(error);
                    let hint = "Nothing was changed. If the url is right, move keyring.json away and run this again: a mirror's copy is put back";
                    return Err(failure.hint(hint));
                }
                Err(error) if error.is_integrity() => {
                    let problem = format!("{}: nothing was read from this mirror or written to it", error.what());
                    report.problem(error.object().to_owned(), problem);
                    continue;
                }
                Err(error) if of_keyring || error.is_denied() => return Err(operators(error.into())),
                Err(error) => {
                    report.not_reached.push(not_reached(&**store, error));
                    continue;
                }
            };
            let place = Place::read(Arc::clone(store), has_root).await.map_err(operators)?;
            if !has_root && let Some(foreign) = &place.foreign {
                let what = "it has no keyring.json and holds something else: nothing was read from it or written to it";
                if of_keyring {
                    let message = format!("{} is no keyring: {foreign} lies there, and no keyring.json", store.address());
                    return Err(Failure::new(FailureClass::Integrity, "no-keyring", store.address(), message)
                        .hint("Check [keyring] url. Nothing was changed."));
                }
                report.problem(signed::locate(&**store, foreign), what);
                continue;
            }
            places.push(place);
        }
        let root = root.ok_or_else(|| {
            let message = format!("{} has no keyring.json, and no mirror has one that is whole", self.keyring.address());
            Failure::new(FailureClass::Integrity, "no-keyring", self.keyring.address(), message).hint(
                "Check [keyring] url and mirrors. Put keyring.json back from any copy of the keyring: without its name key no tenant is \
                 known by name again, and erased ones would be new.",
            )
        })?;
        Ok((root, places))
    }
}

impl Round<'_> {
    async fn run(&self, report: &mut RepairReport) -> Result<(), Failure> {
        let documents: BTreeSet<String> = self.places.iter().flat_map(|place| place.documents.iter().cloned()).collect();
        let documents: Vec<Document> = documents.iter().filter_map(|name| document(name)).collect();
        for tombstone in documents.iter().filter(|document| matches!(document, Document::Tombstone(..))) {
            self.tombstone(tombstone, report).await?;
        }
        let keys: BTreeSet<(NameTag, KeyId)> = documents
            .iter()
            .filter_map(|document| match document {
                Document::KeyRecord(tag, key_id) | Document::Rewrapping(tag, key_id, _) => Some((*tag, *key_id)),
                _ => None,
            })
            .collect();
        let found: Vec<key::Found> =
            stream::iter(keys).map(|(tag, key_id)| self.find(tag, key_id)).buffered(AT_ONCE).try_collect().await?;
        // Whom the keyring itself knows, and where: a mirror may have more, which no run ever used.
        let known = key::Known::of(&found);
        let mut mended: Vec<key::Mended> =
            stream::iter(&found).map(|found| self.mend(found, &known)).buffered(AT_ONCE).try_collect().await?;
        let lockers: BTreeSet<Locker> = mended.iter().filter_map(|mended| mended.locker).collect();
        mended.drain(..).for_each(|mended| report.merge(mended.report));
        // What was erased has no key on purpose.
        let erased = lost::erased_lockers(self.vault, &self.keys).await?;
        for locker in
            self.vault.lockers().await?.into_iter().filter(|locker| !lockers.contains(locker) && !erased.contains(locker))
        {
            if self.vault.has_manifests(locker).await? && !self.vault.is_purged(locker).await? {
                report.problem(
                    format!("locker {locker}"),
                    "it holds backups, and neither the keyring nor a mirror that was read has a key record for it",
                );
            }
        }
        let census = self.keys.census().await?;
        if self.write == Write::WhereFree
            && let Some(lost) = lost::replaced_wrapping(self.vault, &self.keys, &census).await?
        {
            report
                .problem(lost.object, format!("{}, and no store that was read has the newer one ({})", lost.message, lost.hint));
        }
        self.roots(report).await
    }

    /// Notes that a tenant was erased go wherever one is missing: anything there refuses the tenant.
    async fn tombstone(&self, document: &Document, report: &mut RepairReport) -> Result<(), Failure> {
        let mut good = None;
        for place in &self.places {
            match signed::read_whole(&*place.store, document, Namespace::Erasure, self.keys.signers(), None).await {
                Ok(whole) => {
                    good = Some((whole, place.store.address()));
                    break;
                }
                Err(error) if error.is_integrity() => {}
                Err(error) => return Err(error.into()),
            }
        }
        let Some((whole, from)) = good else {
            report.problem(
                document.to_string(),
                "no store has it with a signature that counts; it refuses its tenant all the same",
            );
            return Ok(());
        };
        for place in self.places.iter().rev() {
            self.put_document(place, document, Namespace::Erasure, &whole, from, report).await?;
        }
        Ok(())
    }

    async fn roots(&self, report: &mut RepairReport) -> Result<(), Failure> {
        let name = ObjectName::Document(Document::KeyringRoot);
        let Some(from) = self.places.iter().find(|place| place.has_root).map(|place| place.store.address()) else {
            return Ok(());
        };
        let bytes = serde_json::to_vec(self.keys.root()).map(bytes::Bytes::from).map_err(|error| {
            Failure::new(FailureClass::Failed, "internal", "keyring.json", "keyring.json cannot be encoded").because(error)
        })?;
        for place in self.places.iter().rev() {
            self.put(place, &name, &bytes, from, report).await?;
        }
        Ok(())
    }

    /// Puts a document and its signature back, signature first; nothing where either of them is there with other bytes.
    async fn put_document(
        &self,
        place: &Place,
        document: &Document,
        namespace: Namespace,
        whole: &signed::Whole,
        from: &str,
        report: &mut RepairReport,
    ) -> Result<(), Failure> {
        let (signature, name) = (ObjectName::Signature(document.clone()), ObjectName::Document(document.clone()));
        let parts = [(&signature, &whole.signature), (&name, &whole.bytes)];
        let mut missing = Vec::new();
        for (name, bytes) in parts {
            match place.look(name, bytes).await? {
                place::Look::Same => {}
                place::Look::Free => missing.push((name, bytes)),
                place::Look::Other => {
                    report.problem(place.locate(name), differs(from));
                    return Ok(());
                }
            }
        }
        // The store will say that it was created now.
        if !missing.is_empty()
            && let Err(error) = self.keys.signers().verify(namespace, &whole.bytes, &whole.signature, self.now)
        {
            report.problem(place.locate(&name), format!("missing, and put back now its signature would not count: {error}"));
            return Ok(());
        }
        for (name, bytes) in missing {
            self.write(place, name, bytes, from, report).await?;
        }
        Ok(())
    }

    /// Puts one object back.
    async fn put(
        &self,
        place: &Place,
        name: &ObjectName,
        bytes: &bytes::Bytes,
        from: &str,
        report: &mut RepairReport,
    ) -> Result<bool, Failure> {
        match place.look(name, bytes).await? {
            place::Look::Same => Ok(false),
            place::Look::Free => self.write(place, name, bytes, from, report).await,
            place::Look::Other => {
                report.problem(place.locate(name), differs(from));
                Ok(false)
            }
        }
    }

    async fn write(
        &self,
        place: &Place,
        name: &ObjectName,
        bytes: &bytes::Bytes,
        from: &str,
        report: &mut RepairReport,
    ) -> Result<bool, Failure> {
        if !place.write(self.write, name, bytes).await? {
            report.problem(place.locate(name), differs(from));
            return Ok(false);
        }
        report.put_back.push(PutBack { tenant: None, object: place.locate(name), from: from.to_owned() });
        Ok(true)
    }
}

fn document(name: &str) -> Option<Document> {
    match name.parse().ok()? {
        ObjectName::Document(document) => Some(document),
        _ => None,
    }
}

fn differs(from: &str) -> String {
    format!(
        "not the same as in {from}, which has it whole: nothing is overwritten; move it away with its .sig, and run this again"
    )
}

/// The same failure, with what credentials a repair needs where it is for want of them.
fn operators(failure: Failure) -> Failure {
    if failure.kind == "store-denied" {
        failure.hint(
            "A repair reads everything in the keyring and its mirrors, k/ too, and creates there: run it with an operator's credentials, \
             by `profiles = { operator = … }` below [keyring] and in each mirror. What was put back is whole; nothing else was changed.",
        )
    } else {
        failure
    }
}
