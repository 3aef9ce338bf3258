//! `erase --undo`: while nothing is destroyed the tenant gets everything back.

use std::collections::BTreeSet;

use super::{Done, Erase, EraseReport, EraseStatus, Intent, Live, report};
use crate::{
    format::{
        erasure_note::{ErasureNote, ErasureSays},
        plan::{Bound, Found, Plan, PlannedAct, PlannedDatabase, PlannedLocker, Step},
    },
    id::{KeyId, Locker, NameTag, RecordId},
    keyring::secret_halves,
    operation::{
        erased::{self, Erasures},
        failure::{Failure, FailureClass},
        purge::OpenItem,
    },
    printable::Word,
    signed::FORMAT,
    tenant::TenantName,
    vault::plans::Planned,
};

impl Erase<'_> {
    /// Withdraws an erasure, and opens the database again. Where one was withdrawn and no store has that any more, the same once more.
    ///
    /// # Errors
    /// There is none (1), or it destroys already (4).
    pub async fn undo(&self, tenant: &TenantName) -> Result<EraseReport, Failure> {
        let (vault, keyring) = (self.purge.vault, self.purge.keyring);
        let mut open = self.open(keyring.tag(tenant)).await?;
        let (mut was_withdrawn, mut has_plan) = (false, true);
        if open.is_empty() {
            let erasures = erased::read_both(vault, keyring, keyring.tag(tenant)).await?;
            open = erased::lost::plans(vault, &erasures, tenant).await?;
            was_withdrawn = !open.is_empty();
            if open.is_empty() {
                open = self.given_up(keyring.tag(tenant), &erasures).await?;
            }
            if open.is_empty() {
                has_plan = false;
                open = self.without_plan(&erasures).await?;
            }
        }
        if open.is_empty()
            && let Some(report) = self.open_withdrawn(tenant).await?
        {
            return Ok(report);
        }
        if open.is_empty() {
            let message = format!("no erasure of tenant {tenant} is open");
            return Err(Failure::new(FailureClass::Failed, "nothing-to-undo", tenant, message).hint(
                "What is erased cannot be given back. If it was withdrawn and its database lets nobody in: ALTER DATABASE … ALLOW_CONNECTIONS true.",
            ));
        }
        // Two that began in one moment each have a tombstone.
        for Planned { plan, .. } in &open {
            if vault.mark(plan.id, Step::Destroying).await?.is_some() {
                return Err(too_late(tenant));
            }
        }
        // One that ended withdrawn is from no older vault; its keys may have been pruned since.
        for Planned { plan, .. } in open.iter().filter(|_| !was_withdrawn) {
            self.refuse_destroyed(tenant, plan).await?;
        }
        let mut done = Done::default();
        for Planned { plan, .. } in open.iter().filter(|_| has_plan && !was_withdrawn) {
            self.forestall(tenant, plan).await?;
        }
        for Planned { plan, .. } in &open {
            done.open.extend(self.withdraw(plan).await?);
        }
        // What one of them found closed the other one had closed.
        let mut databases: Vec<&PlannedDatabase> = Vec::new();
        for database in open.iter().flat_map(|planned| &planned.plan.databases).filter(|database| database.allowed_connections) {
            if !databases.contains(&database) {
                databases.push(database);
            }
        }
        for database in databases {
            if let Err(failure) = self.drop.resume(database).await
                && failure.kind != "database-gone"
            {
                done.open.push(OpenItem {
                    kind: "live",
                    object: format!("the live database on {}", database.cluster),
                    what: format!("it may let nobody in: {}; run this again", failure.one_line()),
                    until: None,
                });
            }
        }
        let of =
            |Planned { plan, steps, .. }| Intent { plan, steps: Some(steps), live: Live::Known(None), backups: 0, taken: None };
        let intents: Vec<Intent> = open.into_iter().map(of).collect();
        // Of one whose plan is lost nothing is certified that could be followed.
        for intent in intents.iter().filter(|_| has_plan) {
            self.certify_withdrawn(intent, &done).await?;
        }
        done.is_certified = has_plan;
        if done.open.is_empty() && has_plan {
            for intent in &intents {
                let void = Some(erased::lost::WITHDRAWN.to_owned());
                self.mark(&intent.plan, Step::Closed, Found { void, ..Found::default() }).await?;
            }
        }
        let intent = &intents[0];
        self.record(intent, &done, false, self.now()).await?;
        let mut said = report(tenant, intent, done);
        said.status = EraseStatus::Withdrawn;
        Ok(said)
    }

    /// Where a run was ended between a withdrawal and what it gives back, or closed the database beside one: opens what the last withdrawn
    /// plan names. `None` where nothing of that is closed.
    async fn open_withdrawn(&self, tenant: &TenantName) -> Result<Option<EraseReport>, Failure> {
        let tag = self.purge.keyring.tag(tenant);
        let erasures = erased::read_both(self.purge.vault, self.purge.keyring, tag).await?;
        if erasures.is_refused() {
            return Ok(None);
        }
        let mut plans = self.given_up_ever(tag).await?;
        plans.retain(|planned| erasures.is_withdrawn(planned.plan.id));
        // A later plan may have found closed what an earlier one had closed.
        let mut databases: Vec<PlannedDatabase> = plans.iter().flat_map(|planned| planned.plan.databases.clone()).collect();
        // What a later erasure named is erased, whoever has the name by now.
        let is_erased = |database: &PlannedDatabase| {
            erasures.lasting().any(|note| note.names(&database.system_identifier, database.database_oid))
        };
        databases.retain(|database| database.allowed_connections && !is_erased(database));
        databases.dedup();
        let Some(Planned { plan, steps, .. }) = plans.pop() else { return Ok(None) };
        let mut done = Done::default();
        for database in &databases {
            if self.drop.is_closed(database).await? {
                self.drop.resume(database).await?;
                done.notes.push(format!("the database on {} let nobody in, and does again", database.cluster));
            }
        }
        if done.notes.is_empty() {
            return Ok(None);
        }
        let intent = Intent { plan, steps: Some(steps), live: Live::Known(None), backups: 0, taken: None };
        self.record(&intent, &done, false, self.now()).await?;
        let mut said = report(tenant, &intent, done);
        said.status = EraseStatus::Withdrawn;
        Ok(Some(said))
    }

    async fn given_up_ever(&self, tag: NameTag) -> Result<Vec<Planned>, Failure> {
        let mut plans = self.purge.vault.plans(tag, |steps| steps.contains(&Step::Closed)).await?;
        plans
            .retain(|planned| matches!(planned.plan.act, PlannedAct::Erase { .. }) && !planned.steps.contains(&Step::Destroying));
        Ok(plans)
    }

    /// Plans that were given up before they destroyed anything, and whose tombstones count.
    async fn given_up(&self, tag: NameTag, erasures: &Erasures) -> Result<Vec<Planned>, Failure> {
        let counts: Vec<RecordId> = erasures.lasting().map(|note| note.id).collect();
        let mut plans = self.given_up_ever(tag).await?;
        plans.retain(|planned| counts.contains(&planned.plan.id));
        Ok(plans)
    }

    /// What tombstones say of which the vault has no plan, as plans, while their grace lasts: the vault was put back to an older state, and
    /// nobody may have destroyed anything yet.
    async fn without_plan(&self, erasures: &Erasures) -> Result<Vec<Planned>, Failure> {
        let now = self.now();
        let mut plans = Vec::new();
        for note in erasures.lasting() {
            let ErasureSays::Erased { lockers, keys, grace_until, .. } = &note.says else { continue };
            if *grace_until <= now || self.purge.vault.listed_plan(note.id).await?.is_some() {
                continue;
            }
            let planned = |(nth, locker): (usize, &Locker)| PlannedLocker {
                locker: *locker,
                cluster: None,
                // Whichever locker they are of: all of them must be there.
                keys: if nth == 0 { keys.clone() } else { Vec::new() },
                manifests: 0,
                backups: Vec::new(),
            };
            let mut plan = Plan {
                format: FORMAT,
                installation: note.installation,
                id: note.id,
                name_tag: note.name_tag,
                act: PlannedAct::Erase { grace_until: *grace_until },
                lockers: lockers.iter().enumerate().map(planned).collect(),
                databases: Vec::new(),
                created_at: note.created_at,
                bound: Bound::default(),
            };
            plan.databases = self.recorded(&plan).await?;
            plan.databases.retain(|database| note.names(&database.system_identifier, database.database_oid));
            plans.push(Planned { plan, steps: BTreeSet::new(), reached: BTreeSet::new() });
        }
        Ok(plans)
    }

    /// Stops where keys that the plan names are gone: what was destroyed is not given back by an older vault that does not say so.
    async fn refuse_destroyed(&self, tenant: &TenantName, plan: &Plan) -> Result<(), Failure> {
        let keyring = self.purge.keyring;
        let mut lost: BTreeSet<KeyId> = plan.keys().collect();
        // What one copy lost and another one has is nothing that was destroyed.
        for store in keyring.stores() {
            match secret_halves(&**store).await {
                Ok(halves) => lost.retain(|key| !halves.contains_key(key)),
                Err(error) if store.address() == keyring.store().address() => return Err(error.into()),
                Err(_) => {}
            }
        }
        let Some(key) = lost.first() else { return Ok(()) };
        let message = format!(
            "key {key} of tenant {tenant}, which the erasure names, is not in the keyring, nor in a mirror that answers: it may have destroyed already"
        );
        Err(Failure::new(FailureClass::Refused, "too-late", tenant, message).hint(
            "Nothing was done. If the vault was put back from an older copy, put the newest one back: it says how far the erasure came. If a mirror is \
             away, or lost the key too, put that right first.",
        ))
    }

    /// Signs that an erasure is given up. Gives the mirrors that do not have it.
    pub(super) async fn withdraw(&self, plan: &Plan) -> Result<Vec<OpenItem>, Failure> {
        let (vault, keyring, eraser) = (self.purge.vault, self.purge.keyring, self.purge.eraser);
        let erasures = erased::read_both(vault, keyring, plan.name_tag).await?;
        let note = erasures.withdrawal(plan.id).cloned().unwrap_or_else(|| ErasureNote {
            format: FORMAT,
            installation: plan.installation,
            id: RecordId::random(),
            name_tag: plan.name_tag,
            says: ErasureSays::Withdrawn { tombstone: plan.id },
            created_at: self.now(),
        });
        // A second run writes it where it is missing.
        Ok(erased::put(vault, keyring, &note, eraser).await?)
    }

    /// Takes the place of the mark that says that it destroys: of an undo and an erasure at one moment one finds it taken.
    async fn forestall(&self, tenant: &TenantName, plan: &Plan) -> Result<(), Failure> {
        let void = Some(erased::lost::WITHDRAWN.to_owned());
        self.mark(plan, Step::Destroying, Found { void, ..Found::default() }).await?;
        match self.purge.vault.mark(plan.id, Step::Destroying).await? {
            None => Ok(()),
            Some(_) => Err(too_late(tenant)),
        }
    }
}

fn too_late(tenant: &TenantName) -> Failure {
    let message = format!("the erasure of tenant {tenant} has begun to destroy");
    Failure::new(FailureClass::Refused, "too-late", tenant, message)
        .hint(format!("It cannot be withdrawn any more: `tenure erase {}` finishes it.", Word(tenant.as_str())))
}
