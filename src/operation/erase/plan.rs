//! What is to be erased: the plan that is open, or a new one.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::Erase;
use crate::{
    format::{
        erasure_note::{ErasedDatabase, ErasureNote, ErasureSays},
        plan::{Bound, Plan, PlannedAct, PlannedDatabase, Step},
    },
    id::{NameTag, RecordId},
    operation::{
        certificate, drop, erased,
        failure::{Failure, FailureClass},
        purge::What,
        whose,
    },
    printable::{Printable, Word},
    signed::FORMAT,
    tenant::TenantName,
    vault::plans::Planned,
};

/// What will be done.
pub struct Intent {
    /// The plan.
    pub plan: Plan,
    /// The steps that it has come past; `None` while it is not written.
    pub(super) steps: Option<BTreeSet<Step>>,
    /// The live database.
    pub live: Live,
    /// Backups, as far as they are listed.
    pub backups: u64,
    /// When the oldest and the newest were taken, by their names.
    pub taken: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// What is known of a tenant's live database.
pub enum Live {
    /// What a drop would do; `None` where tenure dropped it before.
    Known(Option<Box<drop::Intent>>),
    /// Why that cannot be said now.
    Unknown(Failure),
}

impl Intent {
    /// Whether an earlier run wrote the plan.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.steps.is_some()
    }

    /// Whether it has begun to destroy.
    #[must_use]
    pub fn is_destroying(&self) -> bool {
        self.is_past(Step::Destroying)
    }

    /// Nothing is destroyed before this time.
    #[must_use]
    pub fn grace_until(&self) -> DateTime<Utc> {
        match self.plan.act {
            PlannedAct::Erase { grace_until } => grace_until,
            _ => self.plan.created_at,
        }
    }

    pub(super) fn is_past(&self, step: Step) -> bool {
        self.steps.as_ref().is_some_and(|steps| steps.contains(&step))
    }

    /// What keeps the tenant from coming back. A second run writes the same bytes.
    pub(super) fn tombstone(&self) -> ErasureNote {
        let plan = &self.plan;
        let database = |planned: &PlannedDatabase| ErasedDatabase {
            system_identifier: planned.system_identifier.clone(),
            database_oid: planned.database_oid,
        };
        ErasureNote {
            format: FORMAT,
            installation: plan.installation,
            id: plan.id,
            name_tag: plan.name_tag,
            says: ErasureSays::Erased {
                lockers: plan.lockers.iter().map(|planned| planned.locker).collect(),
                keys: plan.keys().collect(),
                databases: plan.databases.iter().map(database).collect(),
                grace_until: self.grace_until(),
            },
            created_at: plan.created_at,
        }
    }
}

impl Erase<'_> {
    /// Finds the open plan for this tenant, or makes a new one, and writes nothing.
    ///
    /// # Errors
    /// A tenant that is unknown (1), on hold, or was erased before (4); keys, plans or tombstones that cannot be read or trusted (5).
    pub async fn look(&self, tenant: &TenantName) -> Result<Intent, Failure> {
        let purge = &self.purge;
        if let Some(Planned { plan, steps, .. }) = self.open(purge.keyring.tag(tenant)).await?.into_iter().next() {
            whose::refuse_others(purge.vault, purge.keyring, &plan).await?;
            self.refuse_other_grace(tenant, &plan, &steps)?;
            self.refuse_other_reference(tenant, &plan)?;
            let live = self.live_of(tenant, &plan, &steps).await?;
            let backups = plan.lockers.iter().map(|planned| planned.manifests).sum();
            return Ok(Intent { plan, steps: Some(steps), live, backups, taken: None });
        }
        if let Err(refusal) = erased::refuse(purge.vault, purge.keyring, tenant).await {
            // What is erased is over; that its certificate says so may be lost.
            let Some(Planned { plan, steps, .. }) = self.lost_its_end(purge.keyring.tag(tenant)).await? else {
                return Err(refusal);
            };
            let live = self.live_of(tenant, &plan, &steps).await?;
            let backups = plan.lockers.iter().map(|planned| planned.manifests).sum();
            return Ok(Intent { plan, steps: Some(steps), live, backups, taken: None });
        }
        let now = self.now();
        self.refuse_too_many(now).await?;
        let found = purge.look(tenant, What::All, false).await.map_err(|failure| of_erasure(tenant, failure))?;
        let live = self.live_now(tenant).await.map_err(|failure| of_erasure(tenant, failure))?;
        // What is recorded of it is enough to know it again. What a drop that waits names may be a place that it has left since.
        let mut databases = self.recorded(&found.plan).await?;
        if let Live::Known(Some(drop)) = &live {
            let seen = &drop.plan.databases;
            databases.retain(|recorded| !seen.iter().any(|seen| seen.is(recorded)));
            databases.extend(seen.iter().cloned());
        }
        let act = PlannedAct::Erase { grace_until: now + self.grace };
        let bound = Bound { reference: self.told.reference.clone(), ..Bound::default() };
        self.refuse_telling_reference(tenant)?;
        let plan = Plan { id: RecordId::random(), act, databases, created_at: now, bound, ..found.plan };
        let taken = found.summary.oldest.zip(found.summary.newest);
        Ok(Intent { plan, steps: None, live, backups: found.summary.backups, taken })
    }

    /// Stops where somebody would destroy sooner than he typed, by a plan that waits and that was made without, or with less, grace.
    fn refuse_other_grace(&self, tenant: &TenantName, plan: &Plan, steps: &BTreeSet<Step>) -> Result<(), Failure> {
        let PlannedAct::Erase { grace_until } = plan.act else { return Ok(()) };
        if steps.contains(&Step::Noted) || grace_until - plan.created_at >= self.grace {
            return Ok(());
        }
        let name = Word(tenant.as_str());
        let message = format!("a plan to erase tenant {tenant} waits whose grace is shorter than the one that is asked for now");
        Err(Failure::new(FailureClass::Refused, "another-grace", plan.id, message).hint(format!(
            "Nothing was done. `tenure erase {name} --skip-grace` goes on with that plan; `tenure plans cancel {}` gives it up.",
            plan.id
        )))
    }

    /// Stops where a request is filed under another number than the one that operators signed.
    fn refuse_other_reference(&self, tenant: &TenantName, plan: &Plan) -> Result<(), Failure> {
        let Some(asked) = self.told.reference.as_ref().filter(|asked| plan.bound.reference.as_ref() != Some(asked)) else {
            return Ok(());
        };
        let message = format!("the plan to erase tenant {tenant} does not have the reference {asked}");
        Err(Failure::new(FailureClass::Refused, "another-reference", plan.id, message).hint(format!(
            "Nothing was done. `tenure plans show {}` says which it has; without --reference the same command goes on with it.",
            plan.id
        )))
    }

    /// Stops at words for the certificate that tell who it is about: nobody's name is signed for ever.
    fn refuse_telling_reference(&self, tenant: &TenantName) -> Result<(), Failure> {
        let refused = |what: &str, hint: &str| {
            let message = format!("{what} has the name of tenant {tenant} in it");
            let hint = format!("Nothing was done. It stands in the certificate, which names nobody: {hint}");
            Err(Failure::new(FailureClass::Refused, "telling-reference", tenant, message).hint(hint))
        };
        if self.told.reference.as_ref().is_some_and(|text| tells(text, tenant)) {
            return refused("the reference", "give the number of the request alone.");
        }
        let traces = self.told.elsewhere.iter().map(|(name, _)| name);
        match traces.chain(self.told.remains.keys()).find(|name| tells(name, tenant)) {
            Some(name) => refused(&format!("`{}` below [[elsewhere]] or [remains]", Printable(name)), "call it something else."),
            None => Ok(()),
        }
    }

    /// The open plans to erase a tenant, the oldest first: two that began in one moment each have their own.
    pub(super) async fn open(&self, tag: NameTag) -> Result<Vec<Planned>, Failure> {
        let mut open = self.purge.vault.plans(tag, |steps| !steps.contains(&Step::Closed)).await?;
        open.retain(|planned| matches!(planned.plan.act, PlannedAct::Erase { .. }));
        Ok(open)
    }

    /// The plan of an erasure that is closed, and whose certificate lacks its last document.
    async fn lost_its_end(&self, tag: NameTag) -> Result<Option<Planned>, Failure> {
        let vault = self.purge.vault;
        let closed = |steps: &BTreeSet<Step>| steps.contains(&Step::Destroying) && steps.contains(&Step::Closed);
        for planned in vault.plans(tag, closed).await? {
            let Plan { id, act, .. } = planned.plan;
            if !matches!(act, PlannedAct::Erase { .. }) {
                continue;
            }
            let newest = vault.certified(id).await?.newest().map(|newest| newest.value.stage);
            if certificate::lacks_its_end(vault, id, newest).await? {
                return Ok(Some(planned));
            }
        }
        Ok(None)
    }

    /// What a drop would do now, for a new plan. A server that cannot be asked stops no erasure of backups: it is said.
    async fn live_now(&self, tenant: &TenantName) -> Result<Live, Failure> {
        match self.drop.look_anew(tenant).await {
            Ok(drop) => Ok(Live::Known(drop.map(Box::new))),
            Err(failure) if failure.class == FailureClass::Failed => Ok(Live::Unknown(failure)),
            Err(failure) => Err(failure),
        }
    }

    /// What is left of the databases that a plan names. A server that cannot be asked, or that has another database there now, stops no erasure
    /// of backups: it is said, and nothing is dropped.
    async fn live_of(&self, tenant: &TenantName, plan: &Plan, steps: &BTreeSet<Step>) -> Result<Live, Failure> {
        if steps.contains(&Step::Dropped) {
            return Ok(Live::Known(None));
        }
        let mut live = Live::Known(None);
        for database in &plan.databases {
            match self.drop.look_by_number(tenant, plan, database).await {
                Ok(drop) if drop.doomed.is_some() => return Ok(Live::Known(Some(Box::new(drop)))),
                Ok(_) => {}
                Err(failure) if matches!(failure.class, FailureClass::Failed | FailureClass::Refused) => {
                    live = Live::Unknown(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(live)
    }

    /// Where the vault says that a tenant lives.
    pub(super) async fn recorded(&self, plan: &Plan) -> Result<Vec<PlannedDatabase>, Failure> {
        let mut databases: Vec<PlannedDatabase> = Vec::new();
        for planned in &plan.lockers {
            let Some(source) = self.purge.vault.source(planned.locker).await? else { continue };
            let database = PlannedDatabase {
                cluster: source.cluster,
                system_identifier: source.system_identifier,
                database_oid: source.database_oid,
                allowed_connections: true,
            };
            if !databases.contains(&database) {
                databases.push(database);
            }
        }
        Ok(databases)
    }

    /// Stops when more were begun within a day than somebody would do on purpose.
    async fn refuse_too_many(&self, now: DateTime<Utc>) -> Result<(), Failure> {
        let mut begun = 0;
        for listed in self.purge.vault.listed_plans(|steps| steps.contains(&Step::Noted)).await? {
            let plan = listed.plan?;
            if !matches!(plan.act, PlannedAct::Erase { .. }) || plan.created_at <= now - TimeDelta::days(1) {
                continue;
            }
            // One that was given back destroys nothing.
            let erasures = erased::read_both(self.purge.vault, self.purge.keyring, plan.name_tag).await?;
            begun += u32::from(!erasures.is_withdrawn(plan.id));
        }
        if begun < self.per_day {
            return Ok(());
        }
        let message = format!("{begun} erasures were begun within the last day, and no more than {} may be", self.per_day);
        Err(Failure::new(FailureClass::Refused, "too-many-erasures", "erase", message).hint(
            "Nothing was done. This guards against accidents: wait, or, if all of them are meant, set `per_day` below [erasure].",
        ))
    }
}

/// A refusal of what it consists of, with the command that was meant.
fn of_erasure(tenant: &TenantName, failure: Failure) -> Failure {
    if failure.kind != "on-hold" {
        return failure;
    }
    let name = Word(tenant.as_str());
    failure.hint(format!("Nothing was done. After `tenure release {name}` run `tenure erase {name}` again."))
}

/// Whether a text has a tenant's name in it, as a word or words.
fn tells(text: &str, tenant: &TenantName) -> bool {
    let (text, name) = (text.to_lowercase(), tenant.as_str().to_lowercase());
    let is_border = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
    text.match_indices(&name)
        .any(|(at, name)| is_border(text[..at].chars().next_back()) && is_border(text[at + name.len()..].chars().next()))
}

/// Whether everything that a drop's plan would drop is in the plan of the erasure.
pub(super) fn binds(plan: &Plan, drop: &Plan) -> bool {
    drop.databases.iter().all(|live| plan.databases.iter().any(|planned| planned.is(live)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_where_it_is_a_word() {
        for (text, name, is_told) in [
            ("for-ACME-1", "acme", true),
            ("acme", "acme", true),
            ("dumps of acme corp", "acme corp", true),
            ("GDPR-2027/1", "7", false),
            ("GDPR-7/1", "7", true),
            ("acmeology", "acme", false),
            ("x.acme", "acme", true),
        ] {
            assert_eq!(tells(text, &name.parse().unwrap()), is_told, "{text} {name}");
        }
    }
}
