//! One key, wrapped anew in every store.

use bytes::Bytes;
use futures_util::TryStreamExt as _;

use super::{Done, Numbers, Place, Rewrap, wrapping_of};
use crate::{
    format::{
        key_record::{KeyRecord, Rewrapped, Rewrapping},
        plan::Plan,
    },
    id::{RecordId, Sha256Digest},
    keyring::{read_wrapping, secret_halves},
    object_name::{Document, ObjectName, prefix},
    operation::failure::{Failure, FailureClass},
    signature::Namespace,
    signed::{self, DocumentError, FORMAT},
    store::StoreErrorKind,
    vault::rewrapped::FURTHEST,
};

/// How often a key is looked at again because another run changed it meanwhile.
const TRIES: u32 = 4;

/// A wrapping that is whole somewhere, or is about to be.
#[derive(Clone, PartialEq, Eq)]
struct Wrapping {
    number: u32,
    half: Bytes,
    /// Its record and the record's signature; the first one stands in the key record itself.
    record: Option<(Bytes, Bytes)>,
    /// To whom; empty where nobody recorded it.
    recipients: Vec<String>,
}

impl Wrapping {
    /// The names of its parts, the secret one first.
    fn names(record: &KeyRecord, number: u32) -> Vec<ObjectName> {
        let mut names = vec![ObjectName::SecretKey { key_id: record.key_id, wrapping: number }];
        if number > 1 {
            let document = Document::Rewrapping(record.name_tag, record.key_id, number);
            // Never a record without its signature.
            names.extend([ObjectName::Document(document.clone()), ObjectName::Signature(document)]);
        }
        names
    }
}

/// What another run did meanwhile: the key is looked at again.
struct Changed;

impl Rewrap<'_> {
    /// Wraps one key to the recipients, if it is not yet; completes that in every store; removes what is older.
    pub(super) async fn key(
        &self,
        record: &KeyRecord,
        plan: Option<&Plan>,
        places: &mut [Place<'_>],
        open: &mut Vec<String>,
    ) -> Result<Done, Failure> {
        let change = &self.change;
        change.go_on(&record.tenant)?;
        change.refuse_if_named(&record.tenant, record.name_tag, record.locker, Some(record.key_id)).await?;
        change.start_plan(plan).await?;
        let mut total = Done { wrapping: 0, wrapped: false, removed: 0 };
        let mut changed = 0;
        for nth in 1..=TRIES {
            // What cannot be completed the second time either is in somebody's way: then under a number of its own.
            match self.once(record, places, open, changed > 1).await? {
                Ok((done, newer)) => {
                    total.wrapping = done.wrapping;
                    total.wrapped |= done.wrapped;
                    total.removed += done.removed;
                    // Another run is at it, with a higher number: it may be whole by now, and then ours is the older one.
                    if !newer || nth == TRIES {
                        return Ok(total);
                    }
                }
                Err(Changed) => {
                    changed += 1;
                    for place in places.iter_mut().filter(|place| !place.away) {
                        match secret_halves(place.store).await {
                            Ok(halves) => place.halves = halves,
                            Err(error) => place.give_up(error.into(), open)?,
                        }
                    }
                }
            }
        }
        let message = format!("key {} of tenant {} is being changed by another run", record.key_id, record.tenant);
        Err(Failure::new(FailureClass::Busy, "key-busy", record.key_id, message)
            .hint("Run it again when the other one has ended."))
    }

    /// The second of what it gives is whether something with a higher number is there.
    async fn once(
        &self,
        record: &KeyRecord,
        places: &mut [Place<'_>],
        open: &mut Vec<String>,
        anew: bool,
    ) -> Result<Result<(Done, bool), Changed>, Failure> {
        let (change, wanted) = (&self.change, self.recipients.sorted());
        let mut numbers = Numbers::new();
        for place in places.iter_mut().filter(|place| !place.away) {
            match numbers_in(place, record).await {
                Ok(here) => numbers.extend(here),
                Err(failure) => place.give_up(failure, open)?,
            }
        }
        // Numbers that a lost copy had are not used again.
        let furthest = numbers.last().copied().unwrap_or(1).saturating_add(FURTHEST);
        numbers.extend(change.vault.wrappings(record.locker).await?.of(record.key_id).range(..=furthest));
        let highest = numbers.last().copied().unwrap_or(1);
        let Some((newest, differ)) = self.newest(record, places, &numbers, open).await? else {
            return match self.whole_nowhere(record, places).await {
                None => Ok(Err(Changed)),
                Some(failure) => Err(failure),
            };
        };
        let to_be_made = newest.recipients != wanted || differ || anew;
        if change.dry_run {
            let older = if to_be_made { &numbers } else { &numbers.iter().copied().filter(|n| *n < newest.number).collect() };
            let wrapping = if to_be_made { highest.saturating_add(1) } else { newest.number };
            return Ok(Ok((Done { wrapping, wrapped: to_be_made, removed: older.len() as u64 }, false)));
        }
        let wrapping = if to_be_made { self.wrap(record, &newest, highest.saturating_add(1), wanted)? } else { newest };
        let written = self.write(record, &wrapping, places, open).await;
        // Right after the writes, whatever became of them: a purge that noted the key before this lists what there is of it after this, and one
        // that came first is seen here.
        if !matches!(written, Ok(Ok(0))) {
            let named = change.refuse_if_named(&record.tenant, record.name_tag, record.locker, Some(record.key_id)).await;
            match named {
                Err(why) if why.class == FailureClass::Refused => {
                    return Err(change.take_back(&Wrapping::names(record, wrapping.number), why).await);
                }
                Err(unknown) if written.is_ok() => return Err(unknown),
                _ => {}
            }
        }
        let written = match written? {
            Ok(written) => written,
            Err(Changed) => return Ok(Err(Changed)),
        };
        // Whole in every store that is there, and openable where that can be told: only then anything goes.
        for place in places.iter_mut().filter(|place| !place.away) {
            match self.whole(record, place, wrapping.number).await {
                Ok(Some(read)) if read == wrapping => {
                    place.halves.entry(record.key_id).or_default().insert(wrapping.number);
                }
                Ok(_) => return Ok(Err(Changed)),
                Err(failure) => place.give_up(failure, open)?,
            }
        }
        if self.identity.is_among(&wrapping.recipients) {
            self.unwrap(record, &wrapping)?;
        }
        self.remember(record, wrapping.number).await?;
        let (removed, newer) = self.remove_older(record, wrapping.number, places, open).await?;
        Ok(Ok((Done { wrapping: wrapping.number, wrapped: written > 0, removed }, newer)))
    }

    /// Records in the vault that the wrapping is there, before an older one goes: a keyring without it was put back from an old copy.
    async fn remember(&self, record: &KeyRecord, number: u32) -> Result<(), Failure> {
        let change = &self.change;
        if number == 1 || change.vault.wrappings(record.locker).await?.has_record(record.key_id, number) {
            return Ok(());
        }
        let rewrapped = Rewrapped {
            format: FORMAT,
            installation: record.installation,
            locker: record.locker,
            key_id: record.key_id,
            wrapping: number,
            id: RecordId::random(),
            created_at: (change.clock)(),
        };
        Ok(change.vault.put_rewrapped(&rewrapped, change.signer).await?)
    }

    /// The highest wrapping that is whole in any store; and whether two stores have different ones under its number.
    async fn newest(
        &self,
        record: &KeyRecord,
        places: &mut [Place<'_>],
        numbers: &Numbers,
        open: &mut Vec<String>,
    ) -> Result<Option<(Wrapping, bool)>, Failure> {
        for number in numbers.iter().rev() {
            let mut found: Option<Wrapping> = None;
            let mut differ = false;
            for place in places.iter_mut().filter(|place| !place.away) {
                match self.whole(record, place, *number).await {
                    Ok(None) => {}
                    Ok(Some(wrapping)) => {
                        differ |= found.as_ref().is_some_and(|found| *found != wrapping);
                        found = found.or(Some(wrapping));
                    }
                    Err(failure) => place.give_up(failure, open)?,
                }
            }
            if let Some(found) = found {
                return Ok(Some((found, differ)));
            }
        }
        Ok(None)
    }

    /// One wrapping in one store, where its record counts and its half is what the record says.
    async fn whole(&self, record: &KeyRecord, place: &Place<'_>, number: u32) -> Result<Option<Wrapping>, Failure> {
        let (sha256, signed, recipients) = if number == 1 {
            (record.wrapped_sha256, None, Vec::new())
        } else {
            match self.change.keyring.whole_rewrapping(place.store, record.name_tag, record.key_id, number).await {
                Ok((whole, Rewrapping { sha256, recipients, .. })) => (sha256, Some((whole.bytes, whole.signature)), recipients),
                Err(error) if error.is_integrity() => return Ok(None),
                Err(error) => return Err(reads(error)),
            }
        };
        match read_wrapping(place.store, record.key_id, number, sha256).await {
            Ok(half) => Ok(Some(Wrapping { number, half, record: signed, recipients })),
            Err(error) if error.is_integrity() => Ok(None),
            Err(error) => Err(reads(error)),
        }
    }

    /// No store has its half whole: that is so, or another run is just changing it.
    async fn whole_nowhere(&self, record: &KeyRecord, places: &[Place<'_>]) -> Option<Failure> {
        for place in places.iter().filter(|place| !place.away) {
            match secret_halves(place.store).await {
                Ok(now) if now.get(&record.key_id) != place.halves.get(&record.key_id) => return None,
                Ok(_) => {}
                Err(error) => return Some(error.into()),
            }
        }
        let message = format!("no store has the secret half of key {} of tenant {} whole", record.key_id, record.tenant);
        Some(
            Failure::new(FailureClass::Integrity, "damaged-secret-half", record.key_id, message)
                .hint("Nothing of it was changed. `tenure keys check` says what is wrong with each copy."),
        )
    }

    /// Opens the key in memory, and wraps it to the recipients.
    fn wrap(&self, record: &KeyRecord, newest: &Wrapping, number: u32, recipients: Vec<String>) -> Result<Wrapping, Failure> {
        let cannot = |error: Box<dyn std::error::Error + Send + Sync>| {
            let message = format!("cannot wrap key {} of tenant {} anew", record.key_id, record.tenant);
            Failure::new(FailureClass::Failed, "cannot-wrap", record.key_id, message)
                .hint("Nothing of it was changed. Are the plugins of all recovery recipients installed?")
                .because(error)
        };
        let identity = self.unwrap(record, newest)?;
        let half = self.recipients.wrap(&identity).map_err(|error| cannot(error.into()))?;
        let rewrapping = Rewrapping {
            format: FORMAT,
            installation: record.installation,
            key_id: record.key_id,
            name_tag: record.name_tag,
            wrapping: number,
            sha256: Sha256Digest::of(&half),
            recipients: recipients.clone(),
            created_at: (self.change.clock)(),
        };
        let bytes = serde_json::to_vec(&rewrapping).map_err(|error| cannot(error.into()))?;
        let signature = self.change.signer.sign(Namespace::Key, &bytes).map_err(|error| cannot(error.into()))?;
        Ok(Wrapping { number, half, record: Some((bytes.into(), signature.into())), recipients })
    }

    fn unwrap(&self, record: &KeyRecord, wrapping: &Wrapping) -> Result<crate::seal::TenantIdentity, Failure> {
        let identity = self.identity.unwrap(&wrapping.half).map_err(|error| Failure::wrong_identity(&record.tenant, error))?;
        if identity.recipient().to_string() != record.recipient {
            let message =
                format!("the secret half of key {} of tenant {} belongs to another public half", record.key_id, record.tenant);
            return Err(Failure::new(FailureClass::Integrity, "foreign-secret-half", record.key_id, message)
                .hint("Nothing of it was changed. `tenure keys check --identity FILE` says which keys are right."));
        }
        Ok(identity)
    }

    /// Puts a wrapping wherever it is missing: its record in the mirrors and then the keyring, then its half. Gives how many objects.
    async fn write(
        &self,
        record: &KeyRecord,
        wrapping: &Wrapping,
        places: &mut [Place<'_>],
        open: &mut Vec<String>,
    ) -> Result<Result<u64, Changed>, Failure> {
        let mut written = 0;
        let document = Document::Rewrapping(record.name_tag, record.key_id, wrapping.number);
        let half = ObjectName::SecretKey { key_id: record.key_id, wrapping: wrapping.number };
        let mut parts = vec![vec![(half, wrapping.half.clone())]];
        if let Some((bytes, signature)) = &wrapping.record {
            let signature = (ObjectName::Signature(document.clone()), signature.clone());
            parts.insert(0, vec![signature, (ObjectName::Document(document), bytes.clone())]);
        }
        for part in parts {
            // The keyring is the first of them, and its turn comes last.
            for place in places.iter_mut().rev().filter(|place| !place.away) {
                for (name, bytes) in &part {
                    match put(place, name, bytes).await {
                        Ok(Put::There) => {}
                        Ok(Put::Written) => written += 1,
                        Ok(Put::Taken) => return Ok(Err(Changed)),
                        Err(failure) => {
                            place.give_up(failure, open)?;
                            break;
                        }
                    }
                }
            }
        }
        Ok(Ok(written))
    }

    /// Removes every older wrapping wherever the new one is. Gives how many, and whether a higher one is there.
    async fn remove_older(
        &self,
        record: &KeyRecord,
        number: u32,
        places: &mut [Place<'_>],
        open: &mut Vec<String>,
    ) -> Result<(u64, bool), Failure> {
        let (mut removed, mut newer) = (0, false);
        for place in places.iter_mut().filter(|place| !place.away) {
            let numbers = match numbers_in(place, record).await {
                Ok(numbers) => numbers,
                Err(failure) => {
                    place.give_up(failure, open)?;
                    continue;
                }
            };
            newer |= numbers.last().is_some_and(|last| *last > number);
            for older in numbers.into_iter().filter(|n| *n < number) {
                let mut all_gone = true;
                for name in Wrapping::names(record, older) {
                    let removed = match &place.keeps {
                        Some(why) => Err(why.clone()),
                        None => place.remover.delete(&name.to_string()).await.map_err(|error| Failure::from(error).one_line()),
                    };
                    if let Err(why) = removed {
                        open.push(format!("{}: an older wrapping, still there: {why}", signed::locate(place.store, &name)));
                        all_gone = false;
                        break;
                    }
                }
                if all_gone {
                    removed += 1;
                    place.halves.entry(record.key_id).or_default().remove(&older);
                }
            }
        }
        Ok((removed, newer))
    }
}

/// The numbers of a key's wrappings of which anything is in a store.
async fn numbers_in(place: &Place<'_>, record: &KeyRecord) -> Result<Numbers, Failure> {
    let mut numbers: Numbers = place.halves.get(&record.key_id).cloned().unwrap_or_default();
    let prefix = prefix::key_records(record.name_tag);
    let mut listing = place.store.list(&prefix);
    while let Some(listed) = listing.try_next().await? {
        numbers.extend(wrapping_of(&listed.name).filter(|(key_id, _)| *key_id == record.key_id).map(|(_, number)| number));
    }
    Ok(numbers)
}

enum Put {
    There,
    Written,
    /// Somebody else's is there.
    Taken,
}

async fn put(place: &Place<'_>, name: &ObjectName, bytes: &Bytes) -> Result<Put, Failure> {
    match place.store.get(&name.to_string(), bytes.len() as u64).await {
        Ok(found) if found == *bytes => return Ok(Put::There),
        Ok(_) => return Ok(Put::Taken),
        Err(error) if error.kind == StoreErrorKind::TooLarge => return Ok(Put::Taken),
        Err(error) if error.kind == StoreErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    match signed::create_object(place.store, name, bytes.clone()).await {
        Ok(()) => Ok(Put::Written),
        Err(DocumentError::Exists { .. }) => Ok(Put::Taken),
        Err(error) => Err(error.into()),
    }
}

/// Whoever wraps keys anew reads them.
fn reads(error: DocumentError) -> Failure {
    let denied = error.is_denied();
    let failure = Failure::from(error);
    if denied {
        failure.hint(
            "Wrapping a key anew reads k/ and creates there: run it with an operator's credentials, by `profiles = { operator = … }` below \
             [keyring] and in each mirror. Older wrappings are removed with the eraser's.",
        )
    } else {
        failure
    }
}
