//! Who was erased: what vault and keyring together say under `erased/`. Only a definite empty listing in both means nobody.

pub mod lacking;
pub mod lost;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};

use super::{
    failure::{Failure, FailureClass},
    purge::OpenItem,
};
use crate::{
    format::{
        erasure_note::{ErasedDatabase, ErasureNote, ErasureSays},
        plan::Step,
    },
    id::{InstallationId, KeyId, Locker, NameTag, RecordId},
    keyring::Keyring,
    object_name::{Document, ObjectName, prefix},
    printable::Word,
    signature::{AllowedSigners, Namespace, SigningKey},
    signed::{self, DocumentError, Signed},
    store::Store,
    tenant::TenantName,
    vault::{Vault, list_named},
};

/// What is said under one name tag, in all stores that were asked.
#[derive(Debug, Default)]
pub struct Erasures {
    /// Notes that count, each once.
    notes: BTreeMap<RecordId, ErasureNote>,
    /// What is not to be trusted, or is no note at all. Any of it may be a tombstone, and so it is one: by id where it has one.
    doubtful: BTreeMap<String, (Option<RecordId>, String)>,
    /// The stores, by address, in which each note lies, good or not.
    places: BTreeMap<RecordId, BTreeSet<String>>,
    /// Tombstones whose withdrawal no store has, though it was or may have been written: only `reconcile` asks for that, and everybody else refuses.
    unsaid: BTreeSet<RecordId>,
}

impl Erasures {
    /// Adds what one store has.
    async fn add(
        &mut self,
        store: &dyn Store,
        (signers, installation): (&AllowedSigners, InstallationId),
        tag: NameTag,
    ) -> Result<(), DocumentError> {
        let folder = prefix::erased(tag);
        let (named, foreign) = list_named(store, &folder).await.map_err(|error| signed::store_error(store, &folder, error))?;
        for name in foreign {
            self.doubtful.insert(signed::locate(store, &name), (None, "it is no object of ours".to_owned()));
        }
        let documents: BTreeSet<String> = named.iter().map(|(name, _)| name.to_string()).collect();
        for (name, _) in named {
            let object = signed::locate(store, &name);
            match name {
                ObjectName::Document(document @ Document::Tombstone(_, id)) => {
                    self.places.entry(id).or_default().insert(store.address().to_owned());
                    match read(store, (signers, installation), &document).await {
                        Ok(note) => _ = self.notes.insert(id, note),
                        Err(error @ DocumentError::Store { .. }) => return Err(error),
                        Err(error) => _ = self.doubtful.insert(object, (Some(id), error.what())),
                    }
                }
                ObjectName::Signature(Document::Tombstone(_, id)) => {
                    if !documents.contains(&Document::Tombstone(tag, id).to_string()) {
                        self.doubtful.insert(object, (Some(id), "of it only the signature is there".to_owned()));
                    }
                }
                _ => _ = self.doubtful.insert(object, (None, "it does not belong there".to_owned())),
            }
        }
        Ok(())
    }

    /// Ids that a withdrawal or an admission names.
    fn settled(&self) -> BTreeSet<RecordId> {
        let settled = self.notes.values().flat_map(|note| match &note.says {
            ErasureSays::Erased { .. } => Vec::new(),
            ErasureSays::Withdrawn { tombstone } => vec![*tombstone],
            ErasureSays::Admitted { tombstones } => tombstones.clone(),
        });
        settled.chain(self.unsaid.iter().copied()).collect()
    }

    /// Tombstones that count.
    pub fn counting(&self) -> impl Iterator<Item = &ErasureNote> {
        let settled = self.settled();
        self.tombstones().filter(move |note| !settled.contains(&note.id))
    }

    /// What cannot be trusted and stands for a tombstone: the object, and why.
    pub fn doubtful(&self) -> impl Iterator<Item = (&str, &str)> {
        let settled = self.settled();
        // What is whole in one of the stores is known.
        let is_known = move |id: &Option<RecordId>| id.is_some_and(|id| settled.contains(&id) || self.notes.contains_key(&id));
        self.doubtful.iter().filter(move |(_, (id, _))| !is_known(id)).map(|(object, (_, why))| (object.as_str(), why.as_str()))
    }

    /// Takes tombstones for withdrawn though no store has that.
    pub fn take_for_withdrawn(&mut self, tombstones: impl Iterator<Item = RecordId>) {
        self.unsaid.extend(tombstones);
    }

    /// Every tombstone, whatever was said of it since.
    pub fn tombstones(&self) -> impl Iterator<Item = &ErasureNote> {
        self.notes.values().filter(|note| matches!(note.says, ErasureSays::Erased { .. }))
    }

    /// Until when nothing is destroyed, by the tombstones that count.
    #[must_use]
    pub fn grace_until(&self) -> Option<DateTime<Utc>> {
        let until = self.counting().filter_map(|note| match note.says {
            ErasureSays::Erased { grace_until, .. } => Some(grace_until),
            _ => None,
        });
        until.max()
    }

    /// Whether somebody withdrew an erasure, by its tombstone.
    #[must_use]
    pub fn is_withdrawn(&self, tombstone: RecordId) -> bool {
        self.withdrawal(tombstone).is_some()
    }

    /// Whether the name is refused: a tombstone counts, or what may be one.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.counting().next().is_some() || self.doubtful().next().is_some()
    }

    /// Whether a key is used by nothing: the name is refused, or the key is an erased tenant's whose name is a new customer's by now.
    #[must_use]
    pub fn refuses_key(&self, key_id: KeyId) -> bool {
        self.is_refused() || self.not_withdrawn().any(|(_, keys, _)| keys.contains(&key_id))
    }

    /// Whether an erased tenant had this key or this locker, also where the name is a new customer's by now.
    #[must_use]
    pub fn had(&self, key_id: KeyId, locker: Locker) -> bool {
        self.not_withdrawn().any(|(lockers, keys, _)| keys.contains(&key_id) || lockers.contains(&locker))
    }

    /// The databases of what was erased, also where the name is a new customer's by now.
    pub fn databases(&self) -> impl Iterator<Item = &ErasedDatabase> {
        self.not_withdrawn().flat_map(|(_, _, databases)| databases)
    }

    /// The lockers of what was erased, also where the name is a new customer's by now.
    pub fn lockers(&self) -> impl Iterator<Item = Locker> {
        self.not_withdrawn().flat_map(|(lockers, _, _)| lockers).copied()
    }

    fn not_withdrawn(&self) -> impl Iterator<Item = (&[Locker], &[KeyId], &[ErasedDatabase])> {
        self.lasting().filter_map(|note| match &note.says {
            ErasureSays::Erased { lockers, keys, databases, .. } => Some((&lockers[..], &keys[..], &databases[..])),
            _ => None,
        })
    }

    /// Tombstones that nobody withdrew, also where the name is a new customer's by now.
    pub fn lasting(&self) -> impl Iterator<Item = &ErasureNote> {
        let withdrawn: BTreeSet<RecordId> = self
            .notes
            .values()
            .filter_map(|note| match note.says {
                ErasureSays::Withdrawn { tombstone } => Some(tombstone),
                _ => None,
            })
            .chain(self.unsaid.iter().copied())
            .collect();
        self.tombstones().filter(move |note| !withdrawn.contains(&note.id))
    }

    /// The withdrawal of a tombstone.
    #[must_use]
    pub fn withdrawal(&self, tombstone: RecordId) -> Option<&ErasureNote> {
        self.notes.values().find(|note| note.says == ErasureSays::Withdrawn { tombstone })
    }

    /// Good notes that one of the stores does not have, though another one does.
    fn lacking_in(&self, address: &str) -> impl Iterator<Item = &ErasureNote> {
        self.notes.values().filter(move |note| !self.places.get(&note.id).is_some_and(|places| places.contains(address)))
    }

    /// Whether anything at all is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.notes.is_empty() && self.doubtful.is_empty()
    }

    /// Why a tenant is refused; `None` where it is not. Whether its grace is over plays no part.
    #[must_use]
    pub fn refusal(&self, tenant: &TenantName) -> Option<Failure> {
        let name = Word(tenant.as_str());
        if let Some((object, why)) = self.doubtful().next() {
            let message = format!("tenant {tenant} may have been erased: {object} cannot be trusted: {why}");
            return Some(Failure::new(FailureClass::Refused, "tenant-erased", tenant, message).hint(
                "Nothing was done. A tombstone that is not understood counts as one: find out who changed it, and put it back from the other \
                 store.",
            ));
        }
        let note = self.counting().max_by_key(|note| note.created_at)?;
        let at = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let failure = |message| Failure::new(FailureClass::Refused, "tenant-erased", tenant, message);
        Some(match note.says {
            ErasureSays::Erased { grace_until, .. } if grace_until > note.created_at => failure(format!(
                "tenant {tenant} is erased since {}; nothing of it is destroyed before {}",
                at(note.created_at),
                at(grace_until)
            ))
            .hint(format!("Nothing was done. Before that time `tenure erase {name} --undo` gives it back.")),
            _ => failure(format!("tenant {tenant} was erased, as planned at {}", at(note.created_at)))
                .hint(format!("Nothing was done. If this is a new customer with an old name: `tenure admit --new {name}`.")),
        })
    }
}

/// Reads what vault and keyring say under a tag.
///
/// # Errors
/// A store that cannot be asked: unknown means no.
pub async fn read_both(vault: &Vault, keyring: &Keyring, tag: NameTag) -> Result<Erasures, DocumentError> {
    read_in(vault, [vault.store(), keyring.store()], tag).await
}

/// Reads what these stores say under a tag.
///
/// # Errors
/// As [`read_both`].
pub async fn read_in<'s>(
    vault: &Vault,
    stores: impl IntoIterator<Item = &'s dyn Store>,
    tag: NameTag,
) -> Result<Erasures, DocumentError> {
    let mut erasures = Erasures::default();
    for store in stores {
        erasures.add(store, (vault.signers(), vault.root().installation), tag).await?;
    }
    Ok(erasures)
}

/// Everything that vault and keyring say of erased tenants.
///
/// # Errors
/// As [`read_both`].
pub async fn everybody(vault: &Vault, keyring: &Keyring) -> Result<BTreeMap<NameTag, Erasures>, DocumentError> {
    let mut tags = BTreeSet::<NameTag>::new();
    for store in [vault.store(), keyring.store()] {
        let failed = |error| signed::store_error(store, &prefix::ERASED, error);
        let folders = store.list_folders(prefix::ERASED).await.map_err(failed)?;
        tags.extend(folders.iter().filter_map(|tag| tag.parse::<NameTag>().ok()));
    }
    let mut everybody = BTreeMap::new();
    for tag in tags {
        everybody.insert(tag, read_both(vault, keyring, tag).await?);
    }
    Ok(everybody)
}

/// Stops when a tenant was erased, or is to be.
///
/// # Errors
/// [`FailureClass::Refused`], or a store that cannot be asked.
pub async fn refuse(vault: &Vault, keyring: &Keyring, tenant: &TenantName) -> Result<(), Failure> {
    let erasures = read_both(vault, keyring, keyring.tag(tenant)).await?;
    match erasures.refusal(tenant) {
        Some(failure) if lost::look(vault, std::iter::once(&erasures)).await?.withdrawn.is_empty() => Err(failure),
        Some(failure) => Err(failure.hint(format!("Nothing was done. {}", lost::hint(tenant.as_str())))),
        None => Ok(()),
    }
}

/// Whether the plan of a tombstone was given up before it destroyed anything: the tombstone counts on, until somebody withdraws it; but nothing
/// that it names has come back.
///
/// # Errors
/// A store that cannot be asked.
pub async fn is_given_up(vault: &Vault, tombstone: RecordId) -> Result<bool, Failure> {
    let listed = vault.listed_plan(tombstone).await?;
    let over = |steps: &BTreeSet<Step>| steps.contains(&Step::Closed) && !steps.contains(&Step::Destroying);
    Ok(listed.is_some_and(|listed| over(&listed.steps)))
}

/// Those of these tombstones whose plans were not given up.
///
/// # Errors
/// As [`is_given_up`].
pub async fn not_given_up(vault: &Vault, tombstones: &[ErasureNote]) -> Result<Vec<ErasureNote>, Failure> {
    let mut standing = Vec::new();
    for tombstone in tombstones {
        if !is_given_up(vault, tombstone.id).await? {
            standing.push(tombstone.clone());
        }
    }
    Ok(standing)
}

/// Stops while the grace of an erasure lasts: until then nothing of the tenant is destroyed, by whatever command.
///
/// # Errors
/// [`FailureClass::Refused`], or a store that cannot be asked.
pub async fn refuse_in_grace(vault: &Vault, keyring: &Keyring, tenant: &TenantName, now: DateTime<Utc>) -> Result<(), Failure> {
    let erasures = read_both(vault, keyring, keyring.tag(tenant)).await?;
    match erasures.grace_until().filter(|until| *until > now).and_then(|_| erasures.refusal(tenant)) {
        Some(failure) => Err(failure),
        None => Ok(()),
    }
}

/// Writes a note into the vault, the keyring and every mirror. One that is there already is the same note, whichever eraser signed it. Gives
/// the mirrors that do not have it now: it counts without them, and a later run writes it there.
///
/// # Errors
/// As [`signed::create`] for the vault or the keyring: then it may be in some of them, and it counts.
pub async fn put(
    vault: &Vault,
    keyring: &Keyring,
    note: &ErasureNote,
    eraser: &SigningKey,
) -> Result<Vec<OpenItem>, DocumentError> {
    put_in(vault, vault.store(), note, eraser).await?;
    put_in(vault, keyring.store(), note, eraser).await?;
    let mut open = Vec::new();
    for mirror in keyring.mirrors() {
        if let Err(error) = put_in(vault, &**mirror, note, eraser).await {
            open.push(not_in_mirror(&**mirror, &error.into()));
        }
    }
    Ok(open)
}

/// A mirror that lacks a tombstone.
fn not_in_mirror(mirror: &dyn Store, why: &Failure) -> OpenItem {
    OpenItem {
        kind: "tombstone",
        object: format!("mirror {}", mirror.address()),
        what: format!(
            "it does not have what the vault and the keyring say of an erasure: {}; `tenure reconcile` puts it there",
            why.one_line()
        ),
        until: None,
    }
}

async fn put_in(vault: &Vault, store: &dyn Store, note: &ErasureNote, eraser: &SigningKey) -> Result<(), DocumentError> {
    let document = Document::Tombstone(note.name_tag, note.id);
    let trust = (vault.signers(), vault.root().installation);
    let taken = match signed::create(store, &document, note, Namespace::Erasure, eraser).await {
        Err(error @ DocumentError::Exists { .. }) => error,
        written => return written.map(drop),
    };
    match read(store, trust, &document).await {
        Ok(there) if there == *note => return Ok(()),
        // Of an earlier run, with another key, only the signature came there: it is one of the same bytes.
        Err(DocumentError::Missing { .. }) => {}
        // Somebody changed it: no run ever comes past that.
        Err(error) if error.is_integrity() => return Err(error),
        _ => return Err(taken),
    }
    let bytes = serde_json::to_vec(note)
        .map_err(|source| DocumentError::Malformed { object: signed::locate(store, &document), source })?;
    if !signed::has_signature_of(store, &document, &bytes, Namespace::Erasure, vault.signers()).await? {
        return Err(taken);
    }
    signed::create_object(store, &ObjectName::Document(document.clone()), bytes.into()).await?;
    match read(store, trust, &document).await? == *note {
        true => Ok(()),
        false => Err(taken),
    }
}

/// One note in one store, checked against its name. `stored_at` as in [`signed::read`].
///
/// # Errors
/// As [`signed::read`].
pub async fn read_signed(
    store: &dyn Store,
    (signers, installation): (&AllowedSigners, InstallationId),
    document: &Document,
    stored_at: Option<DateTime<Utc>>,
) -> Result<Signed<ErasureNote>, DocumentError> {
    let read = signed::read::<ErasureNote>(store, document, Namespace::Erasure, signers, stored_at).await?;
    let note = &read.value;
    if Document::Tombstone(note.name_tag, note.id) == *document && note.installation == installation {
        return Ok(read);
    }
    Err(DocumentError::Contradiction {
        object: signed::locate(store, document),
        what: "it belongs elsewhere: moved or copied from another place".to_owned(),
    })
}

async fn read(
    store: &dyn Store,
    trust: (&AllowedSigners, InstallationId),
    document: &Document,
) -> Result<ErasureNote, DocumentError> {
    Ok(read_signed(store, trust, document, None).await?.value)
}
