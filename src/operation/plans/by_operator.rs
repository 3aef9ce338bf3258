//! Acts that an operator carries out at once where nobody else must sign, and by a plan where others must.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::{require, was_begun_by};
use crate::{
    format::plan::{Bound, EVERYBODY, Milestone, Plan, PlannedAct, PlannedLocker, Reached, Step},
    id::{KeyId, Locker, RecordId},
    keyring::{Keyring, TenantKeys},
    operation::failure::{Failure, FailureClass},
    signature::{Namespace, SigningKey},
    signed::FORMAT,
    tenant::TenantName,
    vault::Vault,
};

/// What plans of operators' acts are made with.
pub struct Planning<'a> {
    /// Where plans are.
    pub vault: &'a Vault,
    /// It knows the tenant's tag; not needed where everybody is meant.
    pub keyring: Option<&'a Keyring>,
    /// Signs the plan, its beginning and its end.
    pub operator: &'a SigningKey,
    /// How many operators must sign; 0 where none is asked.
    pub needed: u32,
    /// The time.
    pub now: DateTime<Utc>,
}

/// What is to be done, with the ids as they are now.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Whose; `None` for everybody's.
    pub tenant: Option<TenantName>,
    /// What.
    pub act: PlannedAct,
    /// Lockers and keys.
    pub lockers: Vec<PlannedLocker>,
    /// What else.
    pub bound: Bound,
}

impl Planning<'_> {
    /// Finds the plan for this, or writes one, and begins it when enough operators signed. `None` where none must. For who has asked every
    /// guard already.
    ///
    /// # Errors
    /// As [`Planning::signed`]; that it begins cannot be written.
    pub async fn begin(&self, wanted: &Wanted) -> Result<Option<Plan>, Failure> {
        let plan = self.signed(wanted).await?;
        self.start(plan.as_ref()).await?;
        Ok(plan)
    }

    /// Says that a plan begins: before the first write, and when no guard stands against it.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn start(&self, plan: Option<&Plan>) -> Result<(), Failure> {
        match plan {
            Some(plan) => self.reached(plan.id, Reached::Begun).await,
            None => Ok(()),
        }
    }

    /// Finds the plan for this, or writes one, and gives it when enough operators signed. `None` where none must. Where everybody's keys are
    /// meant, tenants that came after the plan, or have other keys since, are no part of it.
    ///
    /// # Errors
    /// As [`require`]; a plan that cannot be read or trusted.
    pub async fn signed(&self, wanted: &Wanted) -> Result<Option<Plan>, Failure> {
        if self.needed == 0 {
            return Ok(None);
        }
        let checked = self.vault.check_signer(self.operator, Namespace::Plan, self.now);
        checked.map_err(|error| Failure::key_not_allowed("operator", error))?;
        let plan = match self.open(wanted).await? {
            Some(plan) => plan,
            None => self.write(wanted).await?,
        };
        require(self.vault, &plan, wanted.tenant.as_ref(), self.needed, self.now).await?;
        Ok(Some(plan))
    }

    /// Says that a plan is through.
    ///
    /// # Errors
    /// It cannot be written.
    pub async fn end(&self, plan: Option<&Plan>) -> Result<(), Failure> {
        match plan {
            Some(plan) => self.reached(plan.id, Reached::Ended).await,
            None => Ok(()),
        }
    }

    async fn open(&self, wanted: &Wanted) -> Result<Option<Plan>, Failure> {
        let tag = self.tag(wanted)?;
        let mut waiting = None;
        for planned in self.vault.plans(tag, |steps| !steps.contains(&Step::Closed)).await? {
            if planned.plan.act != wanted.act {
                continue;
            }
            if was_begun_by(self.vault, &planned.plan, self.needed, self.now).await? {
                if goes_on(&planned.plan, wanted) {
                    return Ok(Some(planned.plan));
                }
            } else if !planned.reached.contains(&Reached::Cancelled) && fits(&planned.plan, wanted) {
                // The newest of several: the older ones are the first to be too old.
                waiting = Some(planned.plan);
            }
        }
        Ok(waiting)
    }

    async fn write(&self, wanted: &Wanted) -> Result<Plan, Failure> {
        let plan = Plan {
            format: FORMAT,
            installation: self.vault.root().installation,
            id: RecordId::random(),
            name_tag: self.tag(wanted)?,
            act: wanted.act,
            lockers: wanted.lockers.clone(),
            databases: Vec::new(),
            created_at: self.now,
            bound: wanted.bound.clone(),
        };
        self.vault.put_plan(&plan, self.operator).await?;
        Ok(plan)
    }

    fn tag(&self, wanted: &Wanted) -> Result<crate::id::NameTag, Failure> {
        match (&wanted.tenant, self.keyring) {
            (None, _) => Ok(EVERYBODY),
            (Some(tenant), Some(keyring)) => Ok(keyring.tag(tenant)),
            (Some(tenant), None) => {
                Err(Failure::new(FailureClass::Failed, "no-keyring", tenant, "without the keyring no tenant has a tag"))
            }
        }
    }

    async fn reached(&self, plan: RecordId, what: Reached) -> Result<(), Failure> {
        let installation = self.vault.root().installation;
        let milestone = Milestone { format: FORMAT, installation, plan, what, at: self.now };
        Ok(self.vault.put_milestone(&milestone, self.operator).await?)
    }
}

/// Whether a plan that has not begun is of what there is now: the same ids. Of everybody's keys, all that it names must be as it was.
fn fits(plan: &Plan, wanted: &Wanted) -> bool {
    let there: BTreeSet<(Locker, BTreeSet<KeyId>)> = ids(&wanted.lockers);
    let planned = ids(&plan.lockers);
    let lockers = if wanted.tenant.is_none() { planned.is_subset(&there) && !planned.is_empty() } else { planned == there };
    plan.bound == wanted.bound && (lockers || planned == there)
}

/// Whether a plan that has begun goes on by this command: what it has done already is not there to be named any more, and nothing else is. Of
/// everybody's keys something must be left that it names.
fn goes_on(plan: &Plan, wanted: &Wanted) -> bool {
    let (planned, left) = (&plan.bound, &wanted.bound);
    let mut lockers = wanted.lockers.iter();
    let are_named = match wanted.tenant {
        Some(_) => lockers.all(|left| names(plan, left)),
        None => wanted.lockers.is_empty() || lockers.any(|left| names(plan, left)),
    };
    are_named
        && left.holds.iter().all(|hold| planned.holds.contains(hold))
        && left.sources.iter().all(|source| planned.sources.contains(source))
        && left.objects.iter().all(|object| planned.objects.contains(object))
        && left.recipients == planned.recipients
}

/// Whether a plan names a locker and every key of it.
#[must_use]
pub fn names(plan: &Plan, left: &PlannedLocker) -> bool {
    let mut planned = plan.lockers.iter().filter(|planned| planned.locker == left.locker);
    planned.any(|planned| left.keys.iter().all(|key| planned.keys.contains(key)))
}

fn ids(lockers: &[PlannedLocker]) -> BTreeSet<(Locker, BTreeSet<KeyId>)> {
    lockers.iter().map(|planned| (planned.locker, planned.keys.iter().copied().collect())).collect()
}

/// A tenant's lockers with all of their keys, as a plan names them.
#[must_use]
pub fn lockers(keys: &TenantKeys) -> Vec<PlannedLocker> {
    let records = || keys.records.iter().chain(&keys.without_secret).chain(&keys.dead);
    let mut lockers: Vec<Locker> = records().map(|record| record.locker).collect();
    lockers.sort_unstable();
    lockers.dedup();
    let planned = lockers.into_iter().map(|locker| {
        let mut keys: Vec<KeyId> = records().filter(|record| record.locker == locker).map(|record| record.key_id).collect();
        keys.sort_unstable();
        PlannedLocker { locker, cluster: None, keys, manifests: 0, backups: Vec::new() }
    });
    planned.collect()
}

/// The only tenant that a command names: a plan is about one, or about everybody.
///
/// # Errors
/// Several.
pub fn only(names: &[TenantName]) -> Result<TenantName, Failure> {
    match names {
        [one, others @ ..] if others.iter().all(|other| other == one) => Ok(one.clone()),
        _ => Err(Failure::new(
            FailureClass::Usage,
            "usage",
            "approvals",
            "operators must sign this, and a plan is about one tenant or about all",
        )
        .hint("Name one tenant at a time, or every one by --all.")),
    }
}
