//! The steps of a purge, in their order.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::{Done, Intent, OpenItem, Purge, command, shown};
use crate::{
    format::plan::{Found, KeyCopy, Plan, PlannedAct, Step},
    id::{KeyId, Locker},
    operation::{
        failure::{Failure, FailureClass},
        held::Held,
        hold::cure,
        living, plans, whose,
    },
    printable::Word,
    signed::DocumentError,
    store::require_deletion,
    tenant::TenantName,
};

/// A clock that is further from the store's is wrong: ahead of it, things look older than they are; behind it, what is promised from now on
/// ends too early.
const CLOCK_OFF_SECONDS: i64 = 300;

impl Purge<'_> {
    pub(super) async fn steps(&self, tenant: &TenantName, intent: &Intent, done: &mut Done) -> Result<(), Failure> {
        self.begin(tenant, intent).await?;
        match intent.plan.act {
            PlannedAct::PurgeBefore { before } => self.before_steps(tenant, intent, before, done).await,
            _ => self.all_steps(tenant, intent, done).await,
        }
    }

    /// Notes of earlier purges that somebody removed.
    async fn write_lost_notes(&self, plan: &Plan) -> Result<(), Failure> {
        for planned in &plan.lockers {
            for lost in self.vault.gone(planned.locker).await?.lost {
                if matches!(lost.error, DocumentError::Missing { .. }) {
                    self.vault.put_purge_note(&lost.note, self.eraser).await?;
                }
            }
        }
        Ok(())
    }

    /// Plan, notes, and who has a say against it. Nothing is destroyed.
    async fn begin(&self, tenant: &TenantName, intent: &Intent) -> Result<(), Failure> {
        let plan = &intent.plan;
        whose::refuse_others_at_once(self.vault, self.keyring, plan, &intent.listed).await?;
        if intent.is_past(Step::Destroying) {
            return self.go_on(tenant, plan).await;
        }
        require_deletion(self.vault.store()).await?;
        require_deletion(self.keyring.store()).await?;
        if let Some(other) = self.not_in_plan(tenant, plan).await? {
            if intent.is_resumed() {
                let void = Some(format!("{other} is not in the plan"));
                self.mark(intent, Step::Closed, Found { void, ..Found::default() }).await?;
            }
            let message = format!("{other} of tenant {tenant} is not in the plan {}", plan.id);
            return Err(Failure::new(FailureClass::Refused, "plan-void", plan.id, message).hint(format!(
                "Nothing was destroyed, and the plan is given up: {} makes a new one.",
                command(Some(tenant), plan.act)
            )));
        }
        if !intent.is_resumed() {
            self.vault.put_plan(plan, self.operator).await?;
        }
        plans::require(self.vault, plan, Some(tenant), self.approvals, (self.clock)()).await?;
        self.stop_if_asked(tenant)?;
        self.refuse_if_held(tenant, plan, false).await?;
        for planned in &plan.lockers {
            if let Some(note) = plan.note(planned) {
                self.vault.put_purge_note(&note, self.eraser).await?;
            }
        }
        self.mark(intent, Step::Noted, Found::default()).await?;
        self.stop_if_asked(tenant)?;
        // Whoever placed a hold after this look finds the note, and gives way.
        self.refuse_if_held(tenant, plan, true).await?;
        self.record_begun(plan).await?;
        self.mark(intent, Step::Destroying, Found::default()).await
    }

    /// What must hold before a plan is gone on with whose listing says that it destroys already: that the eraser signed for it, and that every
    /// note is there. Of backups before a time nothing is lost yet that a hold could not keep.
    async fn go_on(&self, tenant: &TenantName, plan: &Plan) -> Result<(), Failure> {
        if self.vault.mark(plan.id, Step::Destroying).await?.is_none() {
            let message = format!("what plan {} had come past is not there any more", plan.id);
            return Err(Failure::new(FailureClass::Integrity, "plan-changed", plan.id, message)
                .hint("Somebody removes objects from the vault. Look there, and run it again."));
        }
        if matches!(plan.act, PlannedAct::PurgeBefore { .. }) {
            self.refuse_if_held(tenant, plan, true).await?;
        }
        for note in plan.lockers.iter().filter_map(|planned| plan.note(planned)) {
            self.vault.put_purge_note(&note, self.eraser).await?;
        }
        self.record_begun(plan).await
    }

    /// Stops while somebody holds any of the plan's lockers.
    pub(in crate::operation) async fn refuse_if_held(
        &self,
        tenant: &TenantName,
        plan: &Plan,
        noted: bool,
    ) -> Result<(), Failure> {
        // Of what an earlier purge has begun to destroy, a hold keeps nothing: it came too late, whatever became of its record.
        let begun: BTreeSet<Locker> = self.begun_before(tenant).await?.into_iter().map(|planned| planned.locker).collect();
        let kept = plan.lockers.iter().map(|planned| planned.locker).filter(|locker| !begun.contains(locker));
        let holds = self.vault.holds_of(kept).await?;
        if !holds.is_held() {
            return Ok(());
        }
        let message = format!("tenant {tenant} is on hold: {}", holds.by());
        let unreadable: String = holds.unreadable.iter().map(|error| format!(" {}", cure(tenant, error))).collect();
        let name = Word(tenant.as_str());
        let but = match (noted, plan.act) {
            (false, _) => "",
            (true, PlannedAct::PurgeBefore { .. }) => {
                " Its purge note is written all the same, and the backups that it names are listed and restored no more."
            }
            (true, _) => {
                " Its purge note is written all the same, and no backup of it is made or restored until the purge is through."
            }
        };
        Err(Failure::new(FailureClass::Refused, "on-hold", tenant, message).hint(format!(
            "Nothing was destroyed.{but} After `tenure release {name}` run {} again.{unreadable}",
            command(Some(tenant), plan.act)
        )))
    }

    async fn all_steps(&self, tenant: &TenantName, intent: &Intent, done: &mut Done) -> Result<(), Failure> {
        let plan = &intent.plan;
        self.progress.stage(tenant, "destroying keys");
        self.destroy_keys(tenant, plan, done).await?;
        if done.keys_destroyed {
            self.mark(intent, Step::KeysDestroyed, found(done)).await?;
        }
        self.stop_if_asked(tenant)?;
        self.write_lost_notes(plan).await?;
        let sealed_with = self.say_what_goes(plan, done).await?;
        if !self.destroy_unrecorded(plan, &sealed_with, done).await? {
            // Nothing but the manifests names those keys, so they stay; and nobody may say that no key is left.
            done.keys_destroyed = false;
            return Ok(());
        }
        self.progress.stage(tenant, "removing");
        self.empty_all(tenant, plan, done).await?;
        if done.open.iter().any(|item| item.kind == "not-removed") {
            return Ok(());
        }
        self.mark(intent, Step::Emptied, found(done)).await?;
        self.progress.stage(tenant, "looking again");
        if !self.last_look(tenant, intent, done).await? {
            return Ok(());
        }
        if done.locked.objects > 0 {
            let until = done.locked.until;
            let what = format!(
                "{} objects ({} bytes) are locked, the last until {}: they cannot be read any more; `tenure expire` removes them then",
                done.locked.objects,
                done.locked.bytes,
                until.map(shown).unwrap_or_default()
            );
            done.open.push(OpenItem { kind: "locked", object: self.vault.store().address().to_owned(), what, until });
        }
        if done.open.is_empty() {
            self.close(tenant, intent, done).await?;
        }
        self.newer_history(tenant, intent, done).await
    }

    /// What nobody can say once it is removed: which backups could not be read any more, and which databases restores made of it, which a
    /// purge leaves alone. Asked when the keys are gone, because it takes as long as there are backups. Gives the keys that backups name.
    async fn say_what_goes(&self, plan: &Plan, done: &mut Done) -> Result<BTreeMap<Locker, BTreeSet<KeyId>>, Failure> {
        let mut sealed_with = BTreeMap::new();
        for planned in &plan.lockers {
            let history = self.vault.history(planned.locker, (self.clock)()).await?;
            sealed_with.insert(planned.locker, history.backups.iter().map(|backup| backup.manifest.key_id).collect());
            let unread = history.problems.iter().filter(|problem| !problem.is_hole && !problem.counts);
            done.notes.extend(unread.map(|problem| format!("{}: {}; it goes all the same", problem.object, problem.what)));
            let (copies, unreadable) = self.vault.made_copies(planned.locker).await?;
            done.notes.extend(copies.into_iter().map(|(copy, oid)| {
                let oid = oid.map(|oid| format!(", with OID {oid}")).unwrap_or_default();
                let (backup, cluster) = (copy.backup, crate::printable::Printable(&copy.cluster));
                format!("a restore made a database of backup {backup} on cluster {cluster}{oid}: if it is still there, it stays")
            }));
            done.notes.extend(unreadable.iter().map(|error| format!("{error}: which database a restore made is not known")));
        }
        Ok(sealed_with)
    }

    /// What was backed up since the keys were destroyed is no part of the plan, and must not pass for purged.
    async fn newer_history(&self, tenant: &TenantName, intent: &Intent, done: &mut Done) -> Result<(), Failure> {
        let planned = |locker| intent.plan.lockers.iter().any(|planned| planned.locker == locker);
        let keys = living::keys(self.vault, self.keyring, tenant).await?;
        let lockers = keys.map(|keys| keys.lockers()).unwrap_or_default();
        let Some(locker) = lockers.into_iter().find(|locker| !planned(*locker)) else { return Ok(()) };
        done.has_newer = true;
        if intent.plan.act == PlannedAct::PurgeAll {
            let anew = if done.closed { "" } else { " --anew" };
            let what = format!(
                "tenant {tenant} was backed up since this purge destroyed its keys, and that stays; `tenure purge {}{anew}` purges it too",
                Word(tenant.as_str())
            );
            done.open.push(OpenItem { kind: "new-history", object: format!("locker {locker}"), what, until: None });
        }
        Ok(())
    }

    pub(super) async fn close(&self, tenant: &TenantName, intent: &Intent, done: &mut Done) -> Result<(), Failure> {
        for other in self.overtaken(intent.plan.name_tag, intent.plan.id).await? {
            if intent.plan.act == PlannedAct::PurgeAll && other.plan.act != PlannedAct::PurgeAll {
                let void = Some(format!("plan {} let go of everything", intent.plan.id));
                let overtaken = Intent {
                    plan: other.plan,
                    steps: Some(other.steps),
                    summary: Default::default(),
                    listed: Default::default(),
                };
                self.mark(&overtaken, Step::Closed, Found { void, ..Found::default() }).await?;
            } else {
                done.notes.push(format!(
                    "plan {} is open as well: {} goes on with it",
                    other.plan.id,
                    command(Some(tenant), other.plan.act)
                ));
            }
        }
        self.mark(intent, Step::Closed, found(done)).await?;
        done.closed = true;
        Ok(())
    }

    async fn empty_all(&self, tenant: &TenantName, plan: &Plan, done: &mut Done) -> Result<(), Failure> {
        done.locked = super::empty::Locked::default();
        for nth in 0..plan.lockers.len() {
            self.empty(tenant, nth, done).await?;
        }
        Ok(())
    }

    /// The last listing, when nobody who began before the note can still write: under the tenant's lock, or after `settle`. False when
    /// neither can be had now.
    async fn last_look(&self, tenant: &TenantName, intent: &Intent, done: &mut Done) -> Result<bool, Failure> {
        let held = self.locks_of(tenant, &intent.plan).await;
        if let Err(why) = &held
            && let Some(until) = self.settles_at(intent).await?
        {
            let what = format!(
                "a backup that had begun before may still write, and {}; after {} the next run of the same purge needs no lock",
                why.one_line(),
                shown(until)
            );
            let object = tenant.as_str().to_owned();
            done.open.push(OpenItem { kind: "last-look", object, what, until: Some(until) });
            return Ok(false);
        }
        self.empty_all(tenant, &intent.plan, done).await?;
        if done.open.iter().any(|item| item.kind == "not-removed") {
            return Ok(false);
        }
        if done.keys_destroyed {
            let copies = std::mem::take(&mut done.key_copies);
            self.destroy_keys(tenant, &intent.plan, done).await?;
            for (copy, before) in done.key_copies.iter_mut().zip(&copies) {
                copy.objects += before.objects;
                copy.destroyed_at = copy.destroyed_at.and(before.destroyed_at);
            }
        }
        for held in held.iter().flatten() {
            held.still_held().await?;
        }
        Ok(true)
    }

    /// The lock of the tenant on each cluster that its lockers name.
    pub(super) async fn locks_of(&self, tenant: &TenantName, plan: &Plan) -> Result<Vec<Box<dyn Held>>, Failure> {
        let clusters: BTreeSet<Option<&str>> = plan.lockers.iter().map(|planned| planned.cluster.as_deref()).collect();
        let mut held = Vec::new();
        for cluster in clusters {
            let Some(cluster) = cluster else {
                let message = format!("the vault does not say where tenant {tenant} lived");
                return Err(Failure::new(FailureClass::Failed, "source-missing", tenant, message));
            };
            held.push(self.locks.take(tenant, cluster).await?);
        }
        Ok(held)
    }

    /// When everything that had begun before the notes has ended for certain; `None` when that is past.
    async fn settles_at(&self, intent: &Intent) -> Result<Option<DateTime<Utc>>, Failure> {
        let noted = match self.vault.mark(intent.plan.id, Step::Noted).await? {
            Some(mark) => mark.at,
            None => (self.clock)(),
        };
        let settle = i64::try_from(self.vault.root().settle_seconds).unwrap_or(i64::MAX / 1_000);
        let until = noted + TimeDelta::seconds(settle);
        if until > (self.clock)() {
            return Ok(Some(until));
        }
        self.refuse_clock_ahead().await?;
        Ok(None)
    }

    /// Stops where this host's clock is ahead of the store's: what it takes for old may not be.
    pub(in crate::operation) async fn refuse_clock_ahead(&self) -> Result<(), Failure> {
        let store = self.vault.store();
        match store.clock_ahead_seconds().await?.map(|theirs| -theirs) {
            Some(ahead) if ahead > CLOCK_OFF_SECONDS => {
                let message = format!("this host's clock is {ahead} s ahead of {}'s", store.address());
                Err(Failure::new(FailureClass::Refused, "clock-ahead", store.address(), message)
                    .hint("Set the clock, and run the same command again: by a wrong one what is young looks old."))
            }
            _ => Ok(()),
        }
    }

    /// Stops where it is behind: a time that is promised from now on would be over too early.
    pub(in crate::operation) async fn refuse_clock_behind(&self) -> Result<(), Failure> {
        let store = self.vault.store();
        match store.clock_ahead_seconds().await? {
            Some(behind) if behind > CLOCK_OFF_SECONDS => {
                let message = format!("this host's clock is {behind} s behind {}'s", store.address());
                Err(Failure::new(FailureClass::Refused, "clock-behind", store.address(), message).hint(
                    "Nothing was done. Set the clock, and run the same command again: by a wrong one a grace is too short.",
                ))
            }
            _ => Ok(()),
        }
    }
}

fn found(done: &Done) -> Found {
    let copies = done
        .key_copies
        .iter()
        .filter_map(|copy| Some(KeyCopy { store: copy.store.clone(), absent_at: copy.destroyed_at?, objects: copy.objects }));
    Found {
        key_copies: copies.collect(),
        objects: done.objects(),
        bytes: done.bytes(),
        locked: done.locked.objects,
        locked_until: done.locked.until,
        ..Found::default()
    }
}
