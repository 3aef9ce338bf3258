//! `hold` and `release`: nothing of a tenant expires, is purged, or loses its key while somebody holds it.

mod held_by;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use schemars::JsonSchema;
use serde::Serialize;

pub use held_by::{HeldBy, held_by};

use super::{
    failure::{Failure, FailureClass},
    living, lost,
    plans::by_operator::{self, Planning, Wanted},
    purge::command,
};
use crate::{
    backup_id::BackupId,
    format::{
        act::{Act, ActCommand, ActOn, ActOutcome},
        hold::{Hold, HoldAct},
        plan::{Bound, PlannedAct, Step},
        purge_note::{Purged, PurgedBackup},
    },
    id::{Locker, NameTag, RecordId},
    keyring::{Keyring, TenantKeys},
    object_name::{Document, ObjectName, prefix},
    printable::Word,
    seal::{TenantRecipient, seal_text},
    signature::{Namespace, SigningKey},
    signed::{DocumentError, FORMAT},
    tenant::TenantName,
    vault::Vault,
};

/// What both work with.
pub struct Holding<'a> {
    /// Where holds are kept, beside the backups.
    pub vault: &'a Vault,
    /// Where keys are.
    pub keyring: &'a Keyring,
    /// Signs holds, releases, and the record of the act.
    pub operator: &'a SigningKey,
    /// How many operators must sign the plan of a release; 0 where nobody is asked.
    pub approvals: u32,
}

/// What `hold` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HoldReport {
    /// The tenant.
    pub tenant: String,
    /// The hold's id: what `release --hold` takes.
    pub hold: String,
    /// Since when.
    pub placed_at: DateTime<Utc>,
    /// Other holds that the tenant is under.
    pub others: Vec<String>,
    /// Purges of older backups that are open: what they let go of this hold brings back no more, and the rest of their work it stops.
    pub notes: Vec<String>,
    /// What the keyring lost: the tenant may have more than what is held.
    pub problems: Vec<String>,
}

/// What `release` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReleaseReport {
    /// The tenant.
    pub tenant: String,
    /// Holds that were released.
    pub released: Vec<String>,
    /// Holds that the tenant is still under.
    pub remaining: Vec<String>,
    /// Records that cannot be read or trusted: each may be a hold, and counts as one.
    pub unreadable: Vec<String>,
    /// What should be known besides.
    pub notes: Vec<String>,
    /// What the keyring lost: the tenant may have more than what was looked at.
    pub problems: Vec<String>,
}

/// Which holds are released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The only one.
    Only,
    /// One of several.
    One(RecordId),
    /// Every one.
    All,
}

/// What a hold on an erased tenant comes too late for.
const ERASING: &str = "its erasure has begun to destroy";

impl Holding<'_> {
    /// Places a hold on every locker of a tenant. Where a purge has come first, the purge wins: the hold is taken back.
    ///
    /// # Errors
    /// A tenant that is unknown (1) or purged (4); a purge that has begun (4).
    pub async fn hold(&self, tenant: &TenantName, reason: &str, now: DateTime<Utc>) -> Result<HoldReport, Failure> {
        self.check_signer(now)?;
        let keys = living::known(self.vault, self.keyring, tenant).await?;
        let held = self.place(tenant, &keys, reason, now).await;
        match held {
            // Whatever is missing of a tenant that is being purged is no damage.
            Err(failure) if failure.class == FailureClass::Integrity => {
                for locker in keys.lockers() {
                    if let Ok(Some(what)) = self.begun(locker).await {
                        return Err(too_late(tenant, what).hint("What a purge has destroyed, no hold brings back."));
                    }
                }
                Err(failure)
            }
            held => held,
        }
    }

    async fn place(
        &self,
        tenant: &TenantName,
        keys: &TenantKeys,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<HoldReport, Failure> {
        let lockers = keys.lockers();
        for locker in &lockers {
            if let Some(what) = self.begun(*locker).await? {
                return Err(too_late(tenant, what).hint("Nothing was written."));
            }
        }
        if self.is_being_erased(keys.tag).await? {
            return Err(too_late(tenant, ERASING).hint("Nothing was written."));
        }
        let others = self.active(&lockers).await?.0.into_keys().map(|id| id.to_string()).collect();
        let id = RecordId::random();
        for locker in &lockers {
            let sealing = keys.records.iter().rev().find(|record| record.locker == *locker).or(keys.sealing());
            let Some(sealing) = sealing else {
                let message = format!("tenant {tenant} has no whole key to seal the reason with");
                return Err(Failure::new(FailureClass::Integrity, "key-without-secret", tenant, message)
                    .hint("`tenure keys repair` puts it back from a mirror."));
            };
            let seal = || seal_text(reason, &TenantRecipient::parse(&sealing.recipient)?);
            let reason = seal().map_err(|error| {
                Failure::new(FailureClass::Failed, "cannot-seal", tenant, "cannot seal the reason").because(error)
            })?;
            self.put(*locker, id, HoldAct::Placed { reason }, now).await?;
        }
        // Whoever notes a purge after this finds the hold, and stops; a note that is there already wins.
        for locker in &lockers {
            let erasing = self.is_being_erased(keys.tag).await?.then_some(ERASING);
            if let Some(what) = self.begun(*locker).await?.or(erasing) {
                for locker in &lockers {
                    self.put(*locker, RecordId::random(), HoldAct::Released { hold: id }, now).await?;
                }
                return Err(
                    too_late(tenant, what).hint("The hold was taken back. What a purge has destroyed, no hold brings back.")
                );
            }
        }
        self.record((ActCommand::Hold, None), tenant, lockers.iter().map(|locker| (*locker, vec![id])), now).await?;
        Ok(HoldReport {
            tenant: tenant.as_str().to_owned(),
            hold: id.to_string(),
            placed_at: now,
            others,
            notes: self.open_purges(tenant).await?,
            problems: Vec::new(),
        })
    }

    /// Purges of backups before a time that have let go of something and are not closed, in words.
    async fn open_purges(&self, tenant: &TenantName) -> Result<Vec<String>, Failure> {
        let is_open = |steps: &BTreeSet<Step>| steps.contains(&Step::Noted) && !steps.contains(&Step::Closed);
        let tag = self.keyring.tag(tenant);
        // What is not to be trusted no purge goes on with.
        let plans = self.vault.listed_plans(is_open).await?.into_iter().filter_map(|listed| listed.plan.ok());
        let before = plans.filter(|plan| plan.name_tag == tag && matches!(plan.act, PlannedAct::PurgeBefore { .. }));
        let said = before.map(|plan| {
            format!(
                "a purge is open: the {} backups that it names are let go of, and no hold brings them back; the hold keeps everything else, and stops what \
                 that purge has left to do: {} goes on with it after the release",
                plan.lockers.iter().map(|planned| planned.backups.len()).sum::<usize>(),
                command(Some(tenant), plan.act)
            )
        });
        Ok(said.collect())
    }

    /// Releases holds of a tenant, in every locker, purged ones too.
    ///
    /// # Errors
    /// No such hold (1), several and none named (2), nothing but records that cannot be read (5).
    pub async fn release(&self, tenant: &TenantName, which: Which, now: DateTime<Utc>) -> Result<ReleaseReport, Failure> {
        self.check_signer(now)?;
        let Some(keys) = self.keyring.keys(tenant).await? else {
            return Err(lost::unknown_tenant(self.vault, self.keyring, tenant).await);
        };
        // Of a purge that a hold stopped the notes are there already.
        let lockers = keys.lockers();
        let (mut active, unreadable) = self.active(&lockers).await?;
        let ids: Vec<RecordId> = match which {
            Which::One(id) if active.contains_key(&id) => vec![id],
            Which::One(id) => return Err(not_held(tenant, &format!("is not under hold {id}"), &unreadable)),
            Which::Only | Which::All if active.is_empty() => return Err(not_held(tenant, "is not on hold", &unreadable)),
            Which::Only if active.len() > 1 => {
                let all = active.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return Err(Failure::new(
                    FailureClass::Usage,
                    "several-holds",
                    tenant,
                    format!("tenant {tenant} is under several holds: {all}"),
                )
                .hint("name one with --hold ID, or release every one with --all"));
            }
            Which::Only | Which::All => active.keys().copied().collect(),
        };
        let planning =
            Planning { vault: self.vault, keyring: Some(self.keyring), operator: self.operator, needed: self.approvals, now };
        let bound = Bound { holds: ids.clone(), ..Bound::default() };
        let (act, planned) = (PlannedAct::Release, by_operator::lockers(&keys));
        let plan = planning.begin(&Wanted { tenant: Some(tenant.clone()), act, lockers: planned, bound }).await?;
        let mut released: BTreeMap<Locker, Vec<RecordId>> = BTreeMap::new();
        for id in &ids {
            for locker in active.remove(id).unwrap_or_default() {
                self.put(locker, RecordId::random(), HoldAct::Released { hold: *id }, now).await?;
                released.entry(locker).or_default().push(*id);
            }
        }
        self.record((ActCommand::Release, plan.as_ref().map(|plan| plan.id)), tenant, released, now).await?;
        planning.end(plan.as_ref()).await?;
        let mut notes = Vec::new();
        for locker in lockers {
            if active.is_empty() && unreadable.is_empty() && self.begun(locker).await?.is_some() {
                notes.push(format!("a purge that the hold had stopped goes on with `tenure purge {}`", Word(tenant.as_str())));
            }
        }
        notes.dedup();
        notes.extend(unreadable.iter().map(|error| cure(tenant, error)));
        let text = |ids: Vec<RecordId>| ids.iter().map(ToString::to_string).collect();
        Ok(ReleaseReport {
            problems: Vec::new(),
            tenant: tenant.as_str().to_owned(),
            released: text(ids),
            remaining: text(active.into_keys().collect()),
            unreadable: unreadable.iter().map(ToString::to_string).collect(),
            notes,
        })
    }

    fn check_signer(&self, now: DateTime<Utc>) -> Result<(), Failure> {
        for namespace in [Namespace::Hold, Namespace::Run] {
            let checked = self.vault.check_signer(self.operator, namespace, now);
            checked.map_err(|error| Failure::key_not_allowed("operator", error))?;
        }
        Ok(())
    }

    async fn put(&self, locker: Locker, id: RecordId, act: HoldAct, now: DateTime<Utc>) -> Result<(), Failure> {
        let hold = Hold { format: FORMAT, installation: self.vault.root().installation, locker, id, act, created_at: now };
        match self.vault.put_hold(&hold, self.operator).await {
            // A purge that empties the locker at this moment: there is nothing left to hold.
            Err(error) if error.is_integrity() && self.vault.is_purged(locker).await? => Ok(()),
            written => Ok(written?),
        }
    }

    /// Active holds, each with the lockers that it is in; and what cannot be read.
    async fn active(&self, lockers: &[Locker]) -> Result<(BTreeMap<RecordId, Vec<Locker>>, Vec<DocumentError>), Failure> {
        let (mut active, mut unreadable) = (BTreeMap::<RecordId, Vec<Locker>>::new(), Vec::new());
        for locker in lockers {
            let holds = self.vault.holds(*locker).await?;
            for id in holds.active.iter().map(|held| held.hold.id).chain(holds.lost) {
                active.entry(id).or_default().push(*locker);
            }
            unreadable.extend(holds.unreadable);
        }
        Ok((active, unreadable))
    }

    /// The purge that has begun in a locker, in words: a hold that comes after its note comes too late.
    async fn begun(&self, locker: Locker) -> Result<Option<&'static str>, Failure> {
        let gone = self.vault.gone(locker).await?;
        if gone.is_purged() {
            return Ok(Some("its backups are being purged"));
        }
        for note in &gone.notes {
            let Purged::Backups { backups, .. } = &note.purged else { continue };
            // One that is through says nothing about what is there now: that was put back.
            if self.is_any_there(locker, backups).await? && self.vault.mark(note.id, Step::Emptied).await?.is_none() {
                return Ok(Some("some of its backups are being purged"));
            }
        }
        Ok(None)
    }

    /// Whether an erasure of the tenant has begun to destroy: then nobody can withdraw it, and a hold would keep what nobody gets back.
    async fn is_being_erased(&self, tag: NameTag) -> Result<bool, Failure> {
        let destroys = |steps: &BTreeSet<Step>| steps.contains(&Step::Destroying) && !steps.contains(&Step::Closed);
        // What is not to be trusted nobody goes on with.
        let mut plans = self.vault.listed_plans(destroys).await?.into_iter().filter_map(|listed| listed.plan.ok());
        Ok(plans.any(|plan| plan.name_tag == tag && matches!(plan.act, PlannedAct::Erase { .. })))
    }

    async fn is_any_there(&self, locker: Locker, backups: &[PurgedBackup]) -> Result<bool, Failure> {
        let named: BTreeSet<BackupId> = backups.iter().map(|purged| purged.backup).collect();
        let folder = prefix::in_locker(locker, "b");
        let mut listing = self.vault.store().list(&folder);
        while let Some(listed) = listing.try_next().await? {
            if let Ok(ObjectName::Document(Document::Manifest(_, backup))) = listed.name.parse()
                && named.contains(&backup)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn record(
        &self,
        (command, plan): (ActCommand, Option<RecordId>),
        tenant: &TenantName,
        lockers: impl IntoIterator<Item = (Locker, Vec<RecordId>)>,
        now: DateTime<Utc>,
    ) -> Result<(), Failure> {
        let tag = self.keyring.tag(tenant);
        let on = lockers.into_iter().map(|(locker, holds)| ActOn {
            locker,
            name_tag: Some(tag),
            backups: Vec::new(),
            keys: Vec::new(),
            holds,
            objects: 0,
            bytes: 0,
        });
        let act = Act {
            plan,
            lockers: on.collect(),
            ..Act::new(self.vault.root().installation, command, (now, now), ActOutcome::Done)
        };
        Ok(self.vault.put_act(&act, self.operator).await?)
    }
}

fn too_late(tenant: &TenantName, what: &str) -> Failure {
    Failure::new(FailureClass::Refused, "too-late", tenant, format!("the hold on tenant {tenant} comes too late: {what}"))
}

fn not_held(tenant: &TenantName, how: &str, unreadable: &[DocumentError]) -> Failure {
    match unreadable.first() {
        Some(error) => {
            let message = format!("tenant {tenant} is held by a record that cannot be read: {error}");
            Failure::new(FailureClass::Integrity, "unreadable-hold", error.object(), message).hint(cure(tenant, error))
        }
        None => Failure::new(FailureClass::Failed, "not-held", tenant, format!("tenant {tenant} {how}"))
            .hint(format!("`tenure list {}` shows its holds", Word(tenant.as_str()))),
    }
}

/// What ends a hold that cannot be read: no role may remove or change one, and nobody releases what nobody can read.
pub(super) fn cure(tenant: &TenantName, error: &DocumentError) -> String {
    let object = error.object();
    let id = object.rsplit('/').next().and_then(|name| name.strip_suffix(".json")).unwrap_or("ID");
    format!(
        "Find out who changed {object}, and put it back from a copy of the vault. If there is none, let the vault's owner remove it and leave or \
         put its .sig there: what only a signature is left of, `tenure release {} --hold {id}` ends.",
        Word(tenant.as_str())
    )
}
