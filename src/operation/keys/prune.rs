//! `keys prune`: destroys keys that were superseded and that no backup is sealed with any more.
//!
//! A record that it is begun and the purge note first, in the locker; then every copy, in the keyring and the mirrors; then a look that they are gone. From the note on
//! nothing uses the keys, and nothing brings them back. A run that is killed is finished by the next one, from the note.

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::change::{self, Change, KeysFailure, Outcome, Which};
use crate::{
    format::{
        act::{ActCommand, ActOn},
        key_record::KeyRecord,
        plan::{KeysChange, Plan},
        purge_note::{PurgeNote, Purged},
    },
    id::{KeyId, Locker, RecordId},
    keyring::{
        TenantKeys,
        destroy::{DestroyError, copies, destroy},
    },
    operation::{
        failure::{Failure, FailureClass},
        held::Locks,
        living,
    },
    printable::Word,
    signature::Namespace,
    signed::FORMAT,
    store::Store,
    tenant::TenantName,
    vault::history::History,
};

/// What `keys prune` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PruneReport {
    /// Id of the record under `runs/`; `null` where nothing was done.
    pub run: Option<String>,
    /// Whether it only looked.
    pub dry_run: bool,
    /// Each tenant's outcome.
    pub results: Vec<Pruned>,
    /// What concerns no single tenant that was looked at.
    pub errors: Vec<KeysFailure>,
    /// The gravest class among them, which decides the exit code.
    #[serde(skip)]
    pub class: Option<FailureClass>,
}

/// One tenant's outcome.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Pruned {
    /// The tenant.
    pub tenant: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Keys that were destroyed, or with `dry_run` would be.
    pub keys: Vec<String>,
    /// Superseded keys that stay, and why.
    pub kept: Vec<Kept>,
    /// Each store, and when its listing had nothing of those keys any more.
    pub key_copies: Vec<KeyCopy>,
    /// Stores that may still have some of them: another run destroys those.
    pub open: Vec<String>,
    /// Why nothing was destroyed.
    pub error: Option<KeysFailure>,
    #[serde(skip)]
    acts: Vec<ActOn>,
}

/// A superseded key that stays.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Kept {
    /// The key.
    pub key: String,
    /// Why.
    pub because: String,
}

/// One store from which keys were destroyed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeyCopy {
    /// Its address.
    pub store: String,
    /// When a listing was read that had nothing of them.
    pub destroyed_at: DateTime<Utc>,
}

/// What it works with. The signing key and the credentials are an eraser's.
pub struct Prune<'a> {
    /// What every change of keys works with.
    pub change: Change<'a>,
    /// Where tenants' locks are taken.
    pub locks: &'a dyn Locks,
}

impl Prune<'_> {
    /// Destroys what each tenant needs no more. One that fails stops no other.
    ///
    /// # Errors
    /// Before anything is written: as [`Change::choose`].
    pub async fn run(&self, which: &Which) -> Result<PruneReport, Failure> {
        let change = &self.change;
        let started_at = (change.clock)();
        let mut chosen = change.choose(which, &[Namespace::Erasure, Namespace::Run]).await?;
        let plan = change.plan(which, (KeysChange::Prune, Vec::new()), &mut chosen).await?;
        let mut report =
            PruneReport { run: None, dry_run: change.dry_run, results: Vec::new(), errors: chosen.errors, class: None };
        change.progress.planned(chosen.tenants.len(), 0);
        for keys in &chosen.tenants {
            change.progress.tenant_started(&keys.tenant, 0);
            let mut result = Pruned {
                tenant: keys.tenant.as_str().to_owned(),
                outcome: Outcome::Unchanged,
                keys: Vec::new(),
                kept: Vec::new(),
                key_copies: Vec::new(),
                open: Vec::new(),
                error: None,
                acts: Vec::new(),
            };
            match self.tenant(keys, plan.as_ref(), &mut result).await {
                Ok(()) if !result.open.is_empty() => result.outcome = Outcome::Open,
                Ok(()) if result.keys.is_empty() => {}
                Ok(()) if change.dry_run => result.outcome = Outcome::Planned,
                Ok(()) => result.outcome = Outcome::Done,
                Err(failure) => {
                    let error = KeysFailure::from(change.or_purged(keys, failure).await);
                    result.outcome = error.outcome();
                    result.error = Some(error);
                }
            }
            change.progress.tenant_finished(&keys.tenant, result.outcome.as_str());
            report.results.push(result);
        }
        let gravest = |report: &PruneReport| {
            let results = report.results.iter().map(|result| (result.outcome, result.error.as_ref()));
            change::gravest(which, results, &report.errors)
        };
        let acts: Vec<ActOn> = report.results.iter_mut().flat_map(|result| std::mem::take(&mut result.acts)).collect();
        if !acts.is_empty() {
            match change
                .record((ActCommand::KeysPrune, plan.as_ref()), started_at, change::act_outcome(gravest(&report)), acts)
                .await
            {
                Ok(id) => report.run = Some(id.to_string()),
                Err(failure) => report.errors.push(failure.into()),
            }
        }
        let refused = report.results.iter().map(|result| (result.tenant.as_str(), result.error.as_ref()));
        if let Err(failure) = change.record_refused(ActCommand::KeysPrune, started_at, refused).await {
            report.errors.push(failure.into());
        }
        report.class = gravest(&report);
        change.end_plan(plan.as_ref(), report.class).await?;
        Ok(report)
    }

    async fn tenant(&self, known: &TenantKeys, plan: Option<&Plan>, result: &mut Pruned) -> Result<(), Failure> {
        let (change, tenant) = (&self.change, &known.tenant);
        change.go_on(tenant)?;
        let Some(sealing) = known.sealing() else { return Ok(()) };
        change.refuse_if_named(tenant, known.tag, sealing.locker, None).await?;
        let noted = self.noted(known).await?;
        let left_of_noted = self.is_anything_left(known, &noted).await?;
        if known.records.len() + known.without_secret.len() < 2 && !left_of_noted {
            return Ok(());
        }
        let lock = if change.dry_run { None } else { Some(change.lock(self.locks, tenant, sealing.locker).await?) };
        // Again, now that no run of ours makes a key or a backup.
        let Some(keys) = living::keys(change.vault, change.keyring, tenant).await? else { return Ok(()) };
        let (free, held) = self.free(&keys, plan, result).await?;
        let mut destroyed: BTreeSet<KeyId> = free.iter().map(|record| record.key_id).collect();
        if left_of_noted {
            destroyed.extend(&noted);
        }
        if destroyed.is_empty() {
            return held.map_or(Ok(()), Err);
        }
        result.keys = destroyed.iter().map(ToString::to_string).collect();
        let Some(lock) = lock else { return Ok(()) };
        lock.still_held().await?;
        change.start_plan(plan).await?;
        let lockers: BTreeSet<Locker> = free.iter().map(|record| record.locker).collect();
        if !lockers.is_empty() {
            let (id, created_at) = (RecordId::random(), (change.clock)());
            let on = |locker: &Locker| {
                let keys = free.iter().filter(|record| record.locker == *locker).map(|record| record.key_id).collect();
                ActOn { locker: *locker, keys, ..change::act_on(sealing) }
            };
            let acts: Vec<ActOn> = lockers.iter().map(on).collect();
            // First of all: by it a note of which only the signature is there says what it said, whoever died or removed it.
            change.record_begun(id, ActCommand::KeysPrune, created_at, acts.clone()).await?;
            for on in acts {
                let note = PurgeNote {
                    format: FORMAT,
                    installation: change.vault.root().installation,
                    locker: on.locker,
                    id,
                    name_tag: keys.tag,
                    purged: Purged::Keys { keys: on.keys },
                    created_at,
                };
                change.vault.put_purge_note(&note, change.signer).await?;
            }
        }
        // A hold that was placed before the notes were there is seen now. Those stay, and nothing needs what they name.
        for locker in lockers.iter().copied().chain([sealing.locker]) {
            if change.vault.holds(locker).await?.is_held() {
                result.keys.clear();
                return Err(on_hold(tenant));
            }
        }
        let (mut objects, mut bytes) = (0, 0);
        for store in change.removers {
            match destroy(&**store, keys.tag, &destroyed).await {
                Ok(done) => {
                    (objects, bytes) = (objects + done.objects, bytes + done.bytes);
                    result.key_copies.push(KeyCopy { store: store.address().to_owned(), destroyed_at: (change.clock)() });
                }
                Err(error) => result.open.push(left_in(&**store, &error)),
            }
        }
        let keys = destroyed.into_iter().collect();
        result.acts.push(ActOn { keys, objects, bytes, ..change::act_on(sealing) });
        Ok(())
    }

    /// Keys that an earlier prune wrote a note for.
    async fn noted(&self, keys: &TenantKeys) -> Result<BTreeSet<KeyId>, Failure> {
        let mut noted = BTreeSet::new();
        for locker in keys.lockers() {
            for note in self.change.vault.gone(locker).await?.notes {
                if let Purged::Keys { keys } = note.purged {
                    noted.extend(keys);
                }
            }
        }
        Ok(noted)
    }

    /// Whether any store still has, or has again, something of them. One that cannot be asked may.
    async fn is_anything_left(&self, keys: &TenantKeys, noted: &BTreeSet<KeyId>) -> Result<bool, Failure> {
        if noted.is_empty() {
            return Ok(false);
        }
        for store in self.change.removers {
            match copies(&**store, keys.tag, noted).await {
                Ok(copies) if copies.iter().all(Vec::is_empty) => {}
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    /// The keys that may go; why others stay is written down. Where a hold alone keeps some, that is given as well.
    async fn free(
        &self,
        keys: &TenantKeys,
        plan: Option<&Plan>,
        result: &mut Pruned,
    ) -> Result<(Vec<KeyRecord>, Option<Failure>), Failure> {
        let (change, now) = (&self.change, (self.change.clock)());
        let (mut free, mut held) = (Vec::new(), None);
        for (record, successor) in superseded(keys) {
            let history = change.vault.history(record.locker, now).await?;
            if let Some(problem) = history.problems.first() {
                let message =
                    format!("which keys tenant {} needs is not known: {}: {}", keys.tenant, problem.object, problem.what);
                return Err(Failure::new(FailureClass::Integrity, "unreadable-manifest", &problem.object, message)
                    .hint("None of its keys was destroyed. `tenure verify` names all that is wrong there."));
            }
            let settle = change.vault.root().settle_seconds;
            let mut because = needed(record, successor, &history, now, settle);
            if because.is_none() && plan.is_some_and(|plan| !plan.keys().any(|key| key == record.key_id)) {
                because = Some("the plan that was signed does not name it".to_owned());
            }
            if because.is_none() && change.vault.holds(record.locker).await?.is_held() {
                held = Some(on_hold(&keys.tenant));
                because = Some("it is on hold".to_owned());
            }
            match because {
                None => free.push(record.clone()),
                Some(because) => result.kept.push(Kept { key: record.key_id.to_string(), because }),
            }
        }
        Ok((free, held))
    }
}

/// Every key that another one seals instead of, with the next one after it.
pub(super) fn superseded(keys: &TenantKeys) -> Vec<(&KeyRecord, &KeyRecord)> {
    let rank = |record: &KeyRecord| (record.sequence, std::cmp::Reverse(record.key_id));
    // A record whose secret half is lost seals nothing; but it is superseded only by one that does.
    let next = |record: &KeyRecord| keys.records.iter().find(|other| rank(other) > rank(record));
    keys.records.iter().chain(&keys.without_secret).filter_map(|record| Some((record, next(record)?))).collect()
}

/// Why a superseded key is still needed; `None` when nothing needs it. Expired backups count until they are removed.
pub(super) fn needed(
    record: &KeyRecord,
    successor: &KeyRecord,
    history: &History,
    now: DateTime<Utc>,
    settle_seconds: u64,
) -> Option<String> {
    let backups = history.backups.iter().filter(|backup| backup.manifest.key_id == record.key_id).count();
    if backups > 0 {
        return Some(format!("{backups} {} with it", if backups == 1 { "backup is sealed" } else { "backups are sealed" }));
    }
    // No run that began with it may still commit: none is longer than half of that.
    let settle = TimeDelta::seconds(i64::try_from(settle_seconds).unwrap_or(i64::MAX / 1_000));
    (successor.created_at + settle > now)
        .then(|| format!("the key after it was made {}", successor.created_at.to_rfc3339_opts(SecondsFormat::Secs, true)))
}

fn on_hold(tenant: &TenantName) -> Failure {
    Failure::new(FailureClass::Refused, "on-hold", tenant, format!("tenant {tenant} is on hold: none of its keys is destroyed"))
        .hint(format!("`tenure release {}` ends the hold; then run it again.", Word(tenant.as_str())))
}

fn left_in(store: &dyn Store, error: &DestroyError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    let why: Vec<String> = std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect();
    format!("{}: what it has of the keys stays there until the next run: {}", store.address(), why.join(": "))
}
