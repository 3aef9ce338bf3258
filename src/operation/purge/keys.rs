//! Destroying the keys: in the keyring and every mirror, at once.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;

use super::{AGAIN, Done, OpenItem, Purge, PurgedKeyCopy};
use crate::{
    format::plan::Plan,
    id::{KeyId, Locker},
    keyring::destroy::destroy,
    object_name::{Document, ObjectName, prefix},
    operation::failure::{Failure, FailureClass},
    signed::{self, DocumentError},
    store::Store,
    tenant::TenantName,
    vault::list_named,
};

impl Purge<'_> {
    /// Destroys every copy of the plan's keys, and of any other key whose locker is purged, and reads back that they are absent. A mirror
    /// that fails is an open item.
    ///
    /// # Errors
    /// The keyring's own: then the keys may still be there.
    pub(super) async fn destroy_keys(&self, tenant: &TenantName, plan: &Plan, done: &mut Done) -> Result<(), Failure> {
        let stores: Vec<&dyn Store> =
            std::iter::once(self.keyring.store()).chain(self.keyring.mirrors().iter().map(|mirror| &**mirror)).collect();
        let known: BTreeSet<KeyId> = plan.keys().collect();
        // A copy may know a key that the keyring lost, or that was being made: its locker is purged, and so it goes from everywhere.
        let more = join_all(stores.iter().map(|store| self.more_keys(*store, plan, &known))).await;
        let mut keys = known;
        for (found, notes) in more.iter().flatten() {
            keys.extend(found);
            done.notes.extend(notes.iter().cloned());
        }
        let destroyed = join_all(stores.iter().zip(&more).map(async |(store, more)| {
            // One that did not answer is not asked again: each time takes as long.
            match more {
                Err(error) => Err(one_line(error)),
                Ok(_) => destroy(*store, plan.name_tag, &keys)
                    .await
                    .map(|destroyed| (destroyed, (self.clock)()))
                    .map_err(|error| one_line(&error)),
            }
        }))
        .await;
        let mut copies = Vec::new();
        let mut failed = None;
        for (nth, (store, outcome)) in stores.iter().zip(destroyed).enumerate() {
            let address = store.address().to_owned();
            let (destroyed_at, objects) = match outcome {
                Ok((destroyed, at)) => (Some(at), destroyed.objects),
                Err(what) if nth == 0 => {
                    failed = Some(what);
                    (None, 0)
                }
                Err(what) => {
                    done.open.push(copies_may_be_left(*store, &what));
                    (None, 0)
                }
            };
            copies.push(PurgedKeyCopy { store: address, destroyed_at, objects });
        }
        done.keys_destroyed = copies.iter().all(|copy| copy.destroyed_at.is_some());
        done.key_copies = copies;
        // Destroyed where backups are sealed with them; a mirror's copies are items of their own.
        if failed.is_none() {
            for (on, planned) in done.removed.iter_mut().zip(&plan.lockers) {
                on.keys.clone_from(&planned.keys);
            }
        }
        match failed {
            Some(what) => {
                let message =
                    format!("the keys of tenant {tenant} in {} could not be destroyed: {what}", self.keyring.store().address());
                Err(Failure::new(FailureClass::Failed, "keys-not-destroyed", tenant, message).hint(format!(
                    "The eraser must be allowed to list and to delete below t/ and k/ of the keyring, all versions; {}.",
                    AGAIN
                )))
            }
            None => Ok(()),
        }
    }

    /// Destroys what stores have of keys that no record names any more and backups were sealed with: whoever has old ciphertext could open
    /// it. A key that has a record of another tenant is left alone: a worker's key is enough to sign a manifest that names it. Gives
    /// whether nothing of them is left.
    ///
    /// # Errors
    /// The keyring's own.
    pub(super) async fn destroy_unrecorded(
        &self,
        plan: &Plan,
        sealed_with: &BTreeMap<Locker, BTreeSet<KeyId>>,
        done: &mut Done,
    ) -> Result<bool, Failure> {
        let planned: BTreeSet<KeyId> = plan.keys().collect();
        let mut keys: BTreeSet<KeyId> = sealed_with.values().flatten().copied().filter(|key| !planned.contains(key)).collect();
        if keys.is_empty() {
            return Ok(true);
        }
        let stores: Vec<&dyn Store> =
            std::iter::once(self.keyring.store()).chain(self.keyring.mirrors().iter().map(|mirror| &**mirror)).collect();
        let mut is_gone = true;
        for store in &stores {
            let listed = list_named(*store, prefix::TENANTS).await;
            let (named, _) = match listed {
                Ok(listed) => listed,
                Err(error) => {
                    is_gone = false;
                    done.open.push(copies_may_be_left(*store, &one_line(&error)));
                    continue;
                }
            };
            for (name, _) in named {
                let ObjectName::Document(Document::KeyRecord(tag, key)) = name else { continue };
                if tag != plan.name_tag && keys.remove(&key) {
                    done.notes
                        .push(format!("a backup names key {key}, which is another tenant's, and was left alone: it was forged"));
                }
            }
        }
        // Whose they are is known when every store was asked.
        if !is_gone {
            return Ok(false);
        }
        for store in stores {
            if let Err(error) = destroy(store, plan.name_tag, &keys).await {
                is_gone = false;
                done.open.push(copies_may_be_left(store, &one_line(&error)));
            }
        }
        if is_gone {
            for on in &mut done.removed {
                let more = sealed_with.get(&on.locker).into_iter().flatten().filter(|key| keys.contains(key));
                on.keys.extend(more);
            }
        }
        Ok(is_gone)
    }

    /// Keys under the tenant's tag in one store that the plan does not name and whose locker it names; and what cannot be told.
    async fn more_keys(
        &self,
        store: &dyn Store,
        plan: &Plan,
        known: &BTreeSet<KeyId>,
    ) -> Result<(BTreeSet<KeyId>, Vec<String>), DocumentError> {
        let prefix = prefix::key_records(plan.name_tag);
        let (named, _) = list_named(store, &prefix).await.map_err(|source| signed::store_error(store, &prefix, source))?;
        let (mut keys, mut notes) = (BTreeSet::new(), Vec::new());
        for (name, listed) in named {
            let ObjectName::Document(Document::KeyRecord(tag, key_id)) = name else { continue };
            if known.contains(&key_id) {
                continue;
            }
            match self.keyring.whole_record(store, tag, key_id, Some(listed.modified)).await {
                Ok((_, record)) if plan.lockers.iter().any(|planned| planned.locker == record.locker) => {
                    keys.insert(key_id);
                }
                Ok(_) => {}
                Err(error @ DocumentError::Store { .. }) => return Err(error),
                Err(error) => notes.push(format!("{error}, and was left alone: nobody can say whose key it is")),
            }
        }
        Ok((keys, notes))
    }
}

fn copies_may_be_left(store: &dyn Store, why: &str) -> OpenItem {
    let what = format!("its copies of the keys may still be there: {why}; the next run of the same purge destroys them");
    OpenItem { kind: "key-copy", object: store.address().to_owned(), what, until: None }
}

/// An error and all its causes.
pub(super) fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
