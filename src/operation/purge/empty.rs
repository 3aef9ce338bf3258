//! Emptying a locker: everything but its purge notes.

use chrono::{DateTime, Utc};
use futures_util::{TryStreamExt as _, stream};

use super::{AGAIN, Done, OpenItem, Purge, keys::one_line};
use crate::{
    format::act::ActOn,
    object_name::{Document, ObjectName, prefix},
    operation::failure::Failure,
    signed,
    store::{Listed, StoreError},
    tenant::TenantName,
    vault::removal::Removal,
};

/// Objects removed at once.
const AT_ONCE: usize = 32;
/// So many objects that cannot be removed end a pass: the others will not go either.
const FAILURES: usize = 20;
/// How often a locker is listed anew before somebody is taken to be writing to it.
const PASSES: usize = 5;

/// How the name of every signature ends.
const SIGNATURE: &str = ".sig";

/// What a lock keeps.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Locked {
    pub objects: u64,
    pub bytes: u64,
    pub until: Option<DateTime<Utc>>,
}

/// One pass over a locker.
#[derive(Default)]
struct Pass {
    has_removed: bool,
    locked: Locked,
    failed: Vec<(String, StoreError)>,
}

impl Purge<'_> {
    /// Removes everything in the plan's `nth` locker but its purge notes, the manifests first, until a listing has nothing more than what
    /// is locked.
    ///
    /// # Errors
    /// A store that cannot be listed; a stop that was asked for. What cannot be removed is an open item.
    pub(super) async fn empty(&self, tenant: &TenantName, nth: usize, done: &mut Done) -> Result<(), Failure> {
        let Some(on) = done.removed.get_mut(nth) else { return Ok(()) };
        let locker = on.locker;
        let mut pass = Pass::default();
        for _ in 0..PASSES {
            pass = self.pass(tenant, on).await?;
            // The listing that counts is one that shows nothing.
            if !pass.failed.is_empty() || !pass.has_removed {
                break;
            }
        }
        if pass.locked.objects > 0 {
            done.locked.objects += pass.locked.objects;
            done.locked.bytes += pass.locked.bytes;
            done.locked.until = done.locked.until.max(pass.locked.until);
        }
        if let Some((object, error)) = pass.failed.first() {
            let more = match pass.failed.len() {
                1 => String::new(),
                n => format!(", and {} more", n - 1),
            };
            let what = format!("it cannot be removed{more}: {}; {}", one_line(error), AGAIN);
            done.open.push(OpenItem { kind: "not-removed", object: object.clone(), what, until: None });
        } else if pass.has_removed {
            let what = format!("somebody goes on writing to it; {}", AGAIN);
            let object = signed::locate(self.vault.store(), &prefix::locker(locker));
            done.open.push(OpenItem { kind: "not-removed", object, what, until: None });
        }
        Ok(())
    }

    /// Manifests, then their signatures, then voids, then everything else, signatures last: each kind is gone before the next begins, so that
    /// whoever reads meanwhile never meets a record without its signature.
    async fn pass(&self, tenant: &TenantName, on: &mut ActOn) -> Result<Pass, Failure> {
        let locker = on.locker;
        let mut pass = Pass::default();
        let backups: Vec<Listed> = self.vault.store().list(&prefix::in_locker(locker, "b")).try_collect().await?;
        let mut kinds: [Vec<Listed>; 3] = Default::default();
        for listed in backups {
            let kind = match listed.name.parse() {
                Ok(ObjectName::Document(Document::Manifest(..))) => 0,
                Ok(ObjectName::Signature(Document::Manifest(..))) => 1,
                _ => 2,
            };
            kinds[kind].push(listed);
        }
        for kind in kinds {
            self.remove(tenant, stream::iter(kind.into_iter().map(Ok)), &mut pass, on).await?;
        }
        // What could not be removed or is locked is met again here, and counted here alone.
        let (failed, locked) = (std::mem::take(&mut pass.failed), std::mem::take(&mut pass.locked));
        if failed.len() >= FAILURES {
            (pass.failed, pass.locked) = (failed, locked);
        } else {
            let (all, gone) = (prefix::locker(locker), prefix::in_locker(locker, "gone"));
            let rest = || self.vault.store().list(&all).try_filter(|listed| std::future::ready(!listed.name.starts_with(&gone)));
            let records = rest().try_filter(|listed| std::future::ready(!listed.name.ends_with(SIGNATURE)));
            self.remove(tenant, records, &mut pass, on).await?;
            let (failed, locked) = (std::mem::take(&mut pass.failed), std::mem::take(&mut pass.locked));
            if failed.len() >= FAILURES {
                (pass.failed, pass.locked) = (failed, locked);
            } else {
                self.remove(tenant, rest(), &mut pass, on).await?;
            }
        }
        Ok(pass)
    }

    async fn remove(
        &self,
        tenant: &TenantName,
        objects: impl futures_util::Stream<Item = Result<Listed, StoreError>>,
        pass: &mut Pass,
        on: &mut ActOn,
    ) -> Result<(), Failure> {
        let now = (self.clock)();
        let removed = objects
            .map_ok(async |listed: Listed| {
                let removal = self.vault.remove(&listed, now).await;
                Ok::<_, StoreError>((listed, removal))
            })
            .try_buffer_unordered(AT_ONCE);
        let mut removed = std::pin::pin!(removed);
        while let Some((listed, removal)) = removed.try_next().await? {
            match removal {
                Ok(Removal::Gone) => {
                    pass.has_removed = true;
                    on.objects += 1;
                    on.bytes += listed.size;
                    self.progress.advanced(tenant, listed.size);
                    if let Ok(ObjectName::Document(Document::Manifest(_, backup))) = listed.name.parse() {
                        on.backups.push(backup);
                    }
                }
                Ok(Removal::Locked(until)) => {
                    pass.locked.objects += 1;
                    pass.locked.bytes += listed.size;
                    pass.locked.until = pass.locked.until.max(Some(until));
                }
                Err(error) => pass.failed.push((signed::locate(self.vault.store(), &listed.name), error)),
            }
            self.stop_if_asked(tenant)?;
            if pass.failed.len() >= FAILURES {
                return Ok(());
            }
        }
        Ok(())
    }
}
