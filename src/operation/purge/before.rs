//! Backups before a time: their manifests go, and then what nothing refers to any more. The keys stay.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt as _;

use super::{AGAIN, Done, Intent, OpenItem, Purge, shown};
use crate::{
    backup_id::BackupId,
    format::plan::{Found, PlannedLocker, Step},
    id::Locker,
    object_name::{Document, ObjectName, prefix},
    operation::{
        expire::sweep::{Sweep, Tally},
        failure::{Failure, FailureClass},
        list::Inventory,
    },
    printable::Word,
    signed,
    store::Listed,
    tenant::TenantName,
    vault::{manifests::Manifests, removal::Removal},
};

impl Purge<'_> {
    pub(super) async fn before_steps(
        &self,
        tenant: &TenantName,
        intent: &Intent,
        before: DateTime<Utc>,
        done: &mut Done,
    ) -> Result<(), Failure> {
        self.progress.stage(tenant, "removing");
        for (nth, planned) in intent.plan.lockers.iter().enumerate() {
            self.remove_manifests(tenant, planned, nth, done).await?;
        }
        // A hold that came when the manifests were gone keeps what is left.
        self.refuse_if_held(tenant, &intent.plan, true).await?;
        // A run that began before the notes may build upon what they name: until it is over, what it needs is not known. Those that begin
        // later see the notes.
        let held = self.locks_of(tenant, &intent.plan).await;
        for (nth, planned) in intent.plan.lockers.iter().enumerate() {
            let known = self.vault.manifests(planned.locker).await?;
            let mut tally = Tally::default();
            let sweep = Sweep {
                vault: self.vault,
                locker: planned.locker,
                now: (self.clock)(),
                dry_run: None,
                is_alone: held.is_ok(),
                cancel: self.cancel,
            };
            let swept = sweep.run(&mut tally).await;
            if let Some(on) = done.removed.get_mut(nth) {
                on.objects += tally.objects;
                on.bytes += tally.bytes;
            }
            let swept = swept?;
            self.refuse_if_torn(tenant, planned.locker, &known).await?;
            for obstacle in swept {
                let what = format!("{}: nothing more is removed until that is settled; {}", obstacle.what, AGAIN);
                done.open.push(OpenItem { kind: "not-swept", object: obstacle.object, what, until: None });
            }
            let object = signed::locate(self.vault.store(), &prefix::locker(planned.locker));
            if tally.settling > 0 {
                let settle = i64::try_from(self.vault.root().settle_seconds).unwrap_or(i64::MAX / 1_000);
                let until = (self.clock)() + TimeDelta::seconds(settle);
                let why = held.as_ref().err().map(|why| format!(", and {}", why.one_line())).unwrap_or_default();
                let what = format!(
                    "{} objects of what was removed stay: a backup that is at work may refer to them{why}; after {} at the latest `tenure expire` \
                     removes them, or the same purge",
                    tally.settling,
                    shown(until)
                );
                done.open.push(OpenItem { kind: "too-young", object: object.clone(), what, until: Some(until) });
            }
            if tally.locked > 0 {
                let until = tally.locked_until;
                let what = format!(
                    "{} objects are locked, the last until {}: `tenure expire` removes them then",
                    tally.locked,
                    until.map(shown).unwrap_or_default()
                );
                done.open.push(OpenItem { kind: "locked", object, what, until });
            }
        }
        self.mark(intent, Step::Emptied, Found { objects: done.objects(), bytes: done.bytes(), ..Found::default() }).await?;
        if done.open.is_empty() {
            self.close(tenant, intent, done).await?;
        } else {
            done.notes.push(format!("the purge of what was taken before {} stays open", shown(before)));
        }
        Ok(())
    }

    /// A backup that came while what earlier ones needed was removed, whose run had lost its lock and ended before it could look again.
    async fn refuse_if_torn(&self, tenant: &TenantName, locker: Locker, known: &Manifests) -> Result<(), Failure> {
        if self.vault.manifests(locker).await?.keys().all(|id| known.contains_key(id)) {
            return Ok(());
        }
        let history = self.vault.history(locker, (self.clock)()).await?;
        let mut inventory = Inventory::read(self.vault, locker).await?;
        for backup in history.backups.iter().filter(|backup| !known.contains_key(&backup.manifest.backup)) {
            if inventory.is_whole(&backup.manifest).await? {
                continue;
            }
            let id = backup.manifest.backup;
            let message = format!("backup {id} of tenant {tenant} came while the purge removed what it needs, and is not whole");
            return Err(Failure::new(FailureClass::Integrity, "backup-torn", id, message).hint(format!(
                "Its run lost its lock and ended before it could take it back. The next backup stores anew what it lacks; `tenure verify {}` \
                 names that.",
                Word(tenant.as_str())
            )));
        }
        Ok(())
    }

    /// The manifests that the plan names, and then their signatures: a signature alone is a harmless leftover.
    async fn remove_manifests(
        &self,
        tenant: &TenantName,
        planned: &PlannedLocker,
        nth: usize,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let named: BTreeSet<BackupId> = planned.backups.iter().map(|purged| purged.backup).collect();
        let folder = prefix::in_locker(planned.locker, "b");
        let listed: Vec<Listed> = self.vault.store().list(&folder).try_collect().await?;
        let (mut manifests, mut signatures) = (Vec::new(), Vec::new());
        for listed in listed {
            match listed.name.parse() {
                Ok(ObjectName::Document(Document::Manifest(_, id))) if named.contains(&id) => manifests.push((id, listed)),
                Ok(ObjectName::Signature(Document::Manifest(_, id))) if named.contains(&id) => signatures.push((id, listed)),
                _ => {}
            }
        }
        let Some(on) = done.removed.get_mut(nth) else { return Ok(()) };
        let mut kept = BTreeSet::new();
        for (id, listed) in manifests {
            self.stop_if_asked(tenant)?;
            match self.vault.remove(&listed, (self.clock)()).await? {
                Removal::Gone => {
                    on.backups.push(id);
                    on.objects += 1;
                    on.bytes += listed.size;
                }
                Removal::Locked(until) => {
                    kept.insert(id);
                    let what =
                        format!("it is locked until {}, and nobody lists or restores it any more; {}", shown(until), AGAIN);
                    let object = signed::locate(self.vault.store(), &listed.name);
                    done.open.push(OpenItem { kind: "locked", object, what, until: Some(until) });
                }
            }
        }
        for (_, listed) in signatures.into_iter().filter(|(id, _)| !kept.contains(id)) {
            self.stop_if_asked(tenant)?;
            if self.vault.remove(&listed, (self.clock)()).await? == Removal::Gone {
                on.objects += 1;
                on.bytes += listed.size;
            }
        }
        Ok(())
    }
}
