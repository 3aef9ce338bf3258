//! Lockers that were purged: what was locked then goes when its lock has ended.

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};

use super::{
    Expire, Run,
    sweep::{Tally, go_on},
};
use crate::{
    format::plan::Step,
    id::{Locker, RecordId},
    object_name::{Document, ObjectName, prefix},
    operation::{
        failure::{Failure, FailureClass},
        lost, unfinished,
    },
    store::{Listed, StoreError, StoreErrorKind},
    tenant::TenantName,
    vault::removal::Removal,
};

/// Objects removed at once.
const REMOVERS: usize = 16;

/// What is known of a locker that was purged.
pub(super) struct Purged {
    /// Whether the keyring still has a key of it.
    pub(super) has_key: bool,
    /// The plans that say so.
    pub(super) plans: Vec<RecordId>,
}

impl Expire<'_> {
    /// Removes everything of a purged locker but the notes that say so. Only when the keyring has no key of it any more: before, a hold may
    /// still win.
    pub(super) async fn finish_purge(
        &self,
        locker: Locker,
        Purged { has_key, plans }: &Purged,
        now: DateTime<Utc>,
        dry_run: Option<DateTime<Utc>>,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        if self.vault.holds(locker).await?.is_held() {
            // A hold that was there before the purge began to destroy keeps everything; one that came later, nothing.
            let mut has_begun = false;
            for plan in plans {
                has_begun |= self.vault.mark(*plan, Step::Destroying).await?.is_some();
            }
            if !has_begun {
                return Ok(());
            }
        }
        if *has_key {
            let message = format!("locker {locker} was purged, and the keyring still has a key of it");
            return Err(Failure::new(FailureClass::SomeTenants, "purge-open", locker, message)
                .hint("The purge was interrupted, or an old copy of the keyring was put back. `tenure purge TENANT --returned` goes on with it; what was backed up since stays."));
        }
        let mut left = 0;
        // Manifests first, and what is small last.
        for kind in ["b", "p", "c", "v", "copies", "s", "h"] {
            let prefix = prefix::in_locker(locker, kind);
            if kind == "b" {
                // No manifest is ever left without the document that it belongs to.
                let mut listed: Vec<Listed> = self.vault.store().list(&prefix).try_collect().await?;
                listed.sort_by_key(rank);
                for object in listed {
                    go_on(self.cancel)?;
                    tally.note(&object, self.remove_or_look(&object, now, dry_run).await?);
                }
                continue;
            }
            // Signatures last, so that whoever reads meanwhile meets no record without one.
            for signatures in [false, true] {
                let listed = self.vault.store().list(&prefix);
                let mut removed = listed
                    .try_filter(|object| future::ready(object.name.ends_with(".sig") == signatures))
                    .map_ok(|object| async move {
                        let removal = self.remove_or_look(&object, now, dry_run).await;
                        Ok((object, removal))
                    })
                    .try_buffer_unordered(REMOVERS);
                while let Some((object, removal)) = removed.try_next().await? {
                    match removal {
                        Ok(removal) => tally.note(&object, removal),
                        // The janitor may not remove holds and sources of the living; a purge may.
                        Err(error) if error.kind == StoreErrorKind::Denied && !["p", "c"].contains(&kind) => left += 1,
                        Err(error) => return Err(error.into()),
                    }
                    go_on(self.cancel)?;
                }
            }
        }
        if left > 0 {
            let message = format!("{left} records of the purged locker {locker} may not be removed by these credentials");
            return Err(Failure::new(FailureClass::SomeTenants, "purge-open", locker, message)
                .hint("No backup is left of it. `tenure purge TENANT --returned` removes them: the eraser may."));
        }
        Ok(())
    }

    /// Removes what runs and checks left under `probe/`.
    pub(super) async fn collect_probes(
        &self,
        now: DateTime<Utc>,
        dry_run: Option<DateTime<Utc>>,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let settle = i64::try_from(self.vault.root().settle_seconds).unwrap_or(i64::MAX / 1_000);
        let before = dry_run.unwrap_or(now) - chrono::TimeDelta::seconds(settle);
        let probes: Vec<Listed> = self.vault.store().list(prefix::PROBE).try_collect().await?;
        let old =
            probes.into_iter().filter(|probe| probe.modified < before && matches!(probe.name.parse(), Ok(ObjectName::Probe(_))));
        let mut removed = stream::iter(old)
            .map(|probe| async move { self.remove_or_look(&probe, now, dry_run).await.map(|removal| (probe, removal)) })
            .buffer_unordered(REMOVERS);
        while let Some((probe, removal)) = removed.try_next().await? {
            tally.note(&probe, removal);
        }
        Ok(())
    }

    /// Removes an object, or tells in a dry run whether that would be possible then.
    pub(super) async fn remove_or_look(
        &self,
        object: &Listed,
        now: DateTime<Utc>,
        dry_run: Option<DateTime<Utc>>,
    ) -> Result<Removal, StoreError> {
        match dry_run {
            Some(at) => self.vault.would_remove(object, at).await,
            None => self.vault.remove(object, now).await,
        }
    }
}

impl Run<'_> {
    /// Says which purges wait for another run of theirs, and which plans are not to be trusted: an eraser goes on with them, and no janitor.
    pub(super) async fn say_open_purges(&mut self) {
        if self.expire.cancel.is_cancelled() {
            return;
        }
        let names = self.owners.values().filter_map(|owner| Some((owner.tag, owner.tenant.parse().ok()?))).collect();
        match unfinished::purges(self.expire.vault, self.expire.keyring, &names, self.now).await {
            Ok(open) => {
                open.iter().for_each(|(tenant, failure)| self.report.fail(tenant.as_ref().map(TenantName::as_str), failure));
            }
            Err(failure) => self.report.fail(None, &failure),
        }
    }

    /// Says that the keyring was put back from an old copy, where the lockers alone did not tell: no key is needed to remove what is over.
    pub(super) async fn say_lost_keys(&mut self) {
        if self.expire.cancel.is_cancelled() {
            return;
        }
        match lost::old_copy(self.expire.vault, self.expire.keyring).await {
            Ok(Some(lost)) if !self.report.problems.iter().any(|problem| problem.object == lost.object) => {
                self.report.fail(None, &lost);
            }
            Ok(_) => {}
            Err(failure) => self.report.fail(None, &failure),
        }
    }
}

/// Manifests, their signatures, then voids.
fn rank(object: &Listed) -> u8 {
    match object.name.parse() {
        Ok(ObjectName::Document(Document::Manifest(..))) => 0,
        Ok(ObjectName::Signature(Document::Manifest(..))) => 1,
        Ok(ObjectName::Document(Document::Void(..))) => 2,
        _ => 3,
    }
}
