//! `expire`: backups go when their time is over, and then what nothing refers to any more.
//!
//! Two passes. The first reads every manifest and decides: brakes need to know the whole fleet before anything goes. The second removes,
//! locker by locker, lists anew, and sweeps. Tenants are reached by their lockers, never by what lives now.

mod brakes;
mod look;
mod purged;
mod record;
pub mod report;
pub mod sweep;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use self::{
    brakes::{ByLocker, decide},
    look::{Backups, Look},
    purged::Purged,
    report::{ExpireReport, ExpiredBackup},
    sweep::{Obstacle, Sweep, Tally, go_on},
};
use super::failure::{Failure, FailureClass};
use crate::{
    backup_id::BackupId,
    format::act::ActOn,
    id::{KeyId, Locker, NameTag, RecordId},
    keyring::Keyring,
    object_name::{Document, ObjectName, prefix},
    signature::{Namespace, SigningKey},
    store::Listed,
    vault::{Vault, list_named, removal::Removal},
};

/// A clock further ahead of the store's than this would let go of what still counts.
const AHEAD: TimeDelta = TimeDelta::minutes(5);

/// What `expire` works with.
pub struct Expire<'a> {
    /// Where the backups are.
    pub vault: &'a Vault,
    /// Where the keys are: it tells whose locker is whose.
    pub keyring: &'a Keyring,
    /// Signs the record of what was done. A dry run needs none.
    pub signer: Option<&'a SigningKey>,
    /// Lockers worked on at once.
    pub at_once: usize,
    /// Stops it between two steps.
    pub cancel: &'a CancellationToken,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Request {
    /// What is over by then goes; now, if nothing is said. What lies ahead is only looked at.
    pub as_of: Option<DateTime<Utc>>,
    /// Remove nothing.
    pub dry_run: bool,
    /// A run whose record says what it waits for: that goes now.
    pub confirm: Option<RecordId>,
}

/// Whose a locker is.
#[derive(Clone)]
struct Owner {
    tenant: String,
    tag: NameTag,
}

/// What was done to one locker.
#[derive(Default)]
struct Done {
    removed: Vec<BackupId>,
    tally: Tally,
    obstacles: Vec<Obstacle>,
    failure: Option<Failure>,
}

/// One run.
struct Run<'a> {
    expire: &'a Expire<'a>,
    id: RecordId,
    now: DateTime<Utc>,
    as_of: DateTime<Utc>,
    /// The time that is looked at, where nothing is removed.
    dry_run: Option<DateTime<Utc>>,
    owners: HashMap<Locker, Owner>,
    /// Every key that the keyring has a record of.
    keys: HashSet<KeyId>,
    report: ExpireReport,
    acts: Vec<ActOn>,
}

impl Expire<'_> {
    /// Removes what is over.
    ///
    /// # Errors
    /// What concerns the run as a whole: a vault or keyring that cannot be listed, a clock that is ahead, a run that cannot be confirmed.
    /// What concerns one tenant is in the report.
    pub async fn run(&self, request: Request, now: DateTime<Utc>) -> Result<ExpireReport, Failure> {
        let as_of = request.as_of.unwrap_or(now);
        let dry_run = (request.dry_run || as_of > now).then_some(as_of.max(now));
        if dry_run.is_none() {
            self.refuse_clock_ahead().await?;
            self.refuse_without_signer(now)?;
        }
        let started = tokio::time::Instant::now();
        let confirmed = match request.confirm {
            Some(run) => brakes::confirmed(self.vault, run, self.signer).await?,
            None => ByLocker::new(),
        };
        let mut run = Run {
            expire: self,
            id: RecordId::random(),
            now,
            as_of,
            dry_run,
            owners: HashMap::new(),
            keys: HashSet::new(),
            report: ExpireReport::new(as_of, dry_run.is_some()),
            acts: Vec::new(),
        };
        if let Err(failure) = run.all(&confirmed).await {
            if failure.class != FailureClass::Interrupted {
                return Err(failure);
            }
            run.report.fail(None, &failure);
        }
        let elapsed = TimeDelta::from_std(started.elapsed()).unwrap_or_default();
        run.record(now + elapsed).await;
        run.say_open_purges().await;
        run.say_lost_keys().await;
        run.report.sort();
        Ok(run.report)
    }

    async fn refuse_clock_ahead(&self) -> Result<(), Failure> {
        let store = self.vault.store();
        let Some(behind) = store.clock_ahead_seconds().await?.map(|ahead| -ahead) else { return Ok(()) };
        if behind <= AHEAD.num_seconds() {
            return Ok(());
        }
        let message = format!("this host's clock is {behind} s ahead of that of {}", store.address());
        Err(Failure::new(FailureClass::Refused, "clock-ahead", store.address(), message)
            .hint("Nothing was removed: what counts by the store's clock could seem to be over. Set this host's clock right (`timedatectl`, `chronyc tracking`)."))
    }

    fn refuse_without_signer(&self, now: DateTime<Utc>) -> Result<(), Failure> {
        let refused = |why: &str| {
            Failure::new(FailureClass::Failed, "cannot-sign", "signing.janitor", format!("the record of what is removed cannot be signed: {why}"))
                .hint("Nothing was removed. The key that signing.janitor names must stand in the vault's newest signers/ with namespace tenure-run.")
        };
        let signer = self.signer.ok_or_else(|| refused("there is no key"))?;
        self.vault.check_signer(signer, Namespace::Run, now).map_err(|error| refused(&error.to_string()).because(error))
    }
}

impl Run<'_> {
    async fn all(&mut self, confirmed: &ByLocker) -> Result<(), Failure> {
        let (vault, at_once) = (self.expire.vault, self.expire.at_once.max(1));
        self.read_owners().await?;
        let lockers = vault.lockers().await?;
        let (now, as_of, expire) = (self.now, self.as_of, self.expire);
        let mut looking = stream::iter(lockers.iter().copied())
            .map(|locker| async move {
                go_on(expire.cancel)?;
                Ok::<_, Failure>((locker, expire.look(locker, now, as_of).await))
            })
            .buffer_unordered(at_once);
        let (mut looks, mut purged) = (BTreeMap::<Locker, Backups>::new(), BTreeMap::<Locker, Purged>::new());
        let mut unknown = BTreeSet::new();
        while let Some(looked) = looking.next().await {
            match looked? {
                (locker, Ok(Look::Purged(plans, keys))) => {
                    let has_key = self.owners.contains_key(&locker) || keys.iter().any(|key| self.keys.contains(key));
                    purged.insert(locker, Purged { has_key, plans });
                }
                (locker, Ok(Look::Backups(backups))) => {
                    looks.insert(locker, backups);
                }
                (locker, Err(failure)) => {
                    unknown.insert(locker);
                    self.fail(locker, &failure);
                }
            }
        }
        drop(looking);
        for (locker, backups) in &mut looks {
            if backups.all > 0 && !self.owners.contains_key(locker) {
                let failure = super::lost::keyring_incomplete(*locker, "; what is over goes all the same, unless it waits");
                self.report.fail(None, &failure);
            }
            for obstacle in std::mem::take(&mut backups.obstacles) {
                self.report.fail(self.owners.get(locker).map(|owner| owner.tenant.as_str()), &obstacle.into());
            }
        }
        let mut decided = decide(&self.groups(&lockers, &unknown), &looks, confirmed);
        // Purged by name: nobody has to let go of these once more.
        for (locker, backups) in looks.iter().filter(|(_, backups)| !backups.is_held && !backups.let_go.is_empty()) {
            decided.going.entry(*locker).or_default().extend(&backups.let_go);
        }
        for (locker, backups) in &decided.held {
            let tenant = self.tenant(*locker);
            let kept = backups.iter().map(|backup| ExpiredBackup::new(tenant.as_deref(), *locker, *backup));
            self.report.kept_by_hold.extend(kept.collect::<Vec<_>>());
        }
        self.wait(&decided.waiting).await;

        self.intend(&decided.going).await?;
        let held: BTreeSet<Locker> = looks.iter().filter(|(_, backups)| backups.is_held).map(|(locker, _)| *locker).collect();
        drop(looks);
        let nothing = BTreeSet::new();
        let lockers = lockers.into_iter().filter(|locker| !unknown.contains(locker) && !held.contains(locker));
        let this: &Self = self;
        let working: Vec<_> = lockers.collect();
        let mut working = stream::iter(working)
            .map(|locker| {
                let going = decided.going.get(&locker).unwrap_or(&nothing);
                let (purged, sweeps) = (purged.get(&locker), !decided.unswept.contains(&locker));
                async move { (locker, this.locker(locker, going, purged, sweeps).await) }
            })
            .buffer_unordered(at_once);
        let mut all = Vec::new();
        while let Some((locker, done)) = working.next().await {
            if done.removed.is_empty() && done.tally == Tally::default() && done.obstacles.is_empty() && done.failure.is_none() {
                continue;
            }
            all.push((locker, done));
        }
        drop(working);
        all.into_iter().for_each(|(locker, done)| self.note(locker, done));
        let mut tally = Tally::default();
        let probes = self.expire.collect_probes(self.now, self.dry_run, &mut tally).await;
        self.report.add(tally);
        if let Err(failure) = probes {
            self.report.fail(None, &failure);
        }
        Ok(())
    }

    async fn read_owners(&mut self) -> Result<(), Failure> {
        let census = self.expire.keyring.census().await?;
        for error in census.problems {
            self.report.fail(None, &error.into());
        }
        for (tenant, keys) in census.tenants {
            self.keys.extend(keys.records.iter().chain(&keys.without_secret).map(|record| record.key_id));
            for locker in keys.lockers() {
                self.owners.insert(locker, Owner { tenant: tenant.as_str().to_owned(), tag: keys.tag });
            }
        }
        Ok(())
    }

    /// The lockers of each tenant. One of whose lockers nothing is known is left out: which of its backups is the newest is not known.
    fn groups(&self, lockers: &[Locker], unknown: &BTreeSet<Locker>) -> Vec<Vec<Locker>> {
        let (mut groups, mut alone) = (BTreeMap::<NameTag, Vec<Locker>>::new(), Vec::new());
        for locker in lockers {
            match self.owners.get(locker) {
                Some(owner) => groups.entry(owner.tag).or_default().push(*locker),
                None => alone.push(vec![*locker]),
            }
        }
        groups.into_values().chain(alone).filter(|group| !group.iter().any(|locker| unknown.contains(locker))).collect()
    }

    /// One locker; of one that was purged, what is known of that. What was done stands in the answer, however it ended.
    async fn locker(&self, locker: Locker, going: &BTreeSet<BackupId>, purged: Option<&Purged>, sweeps: bool) -> Done {
        let mut done = Done::default();
        let worked = async {
            go_on(self.expire.cancel)?;
            if let Some(purged) = purged {
                return self.expire.finish_purge(locker, purged, self.now, self.dry_run, &mut done.tally).await;
            }
            if !self.remove_manifests(locker, going, &mut done).await? || !sweeps {
                return Ok(());
            }
            let (vault, now, cancel) = (self.expire.vault, self.now, self.expire.cancel);
            let dry_run = self.dry_run.map(|at| (at, going));
            done.obstacles = Sweep { vault, locker, now, dry_run, is_alone: false, cancel }.run(&mut done.tally).await?;
            Ok(())
        };
        done.failure = worked.await.err();
        done
    }

    /// Removes manifests, each before its signature: a signature alone means nothing. False when a hold came.
    async fn remove_manifests(&self, locker: Locker, going: &BTreeSet<BackupId>, done: &mut Done) -> Result<bool, Failure> {
        if going.is_empty() {
            return Ok(!self.expire.vault.holds(locker).await?.is_held());
        }
        let (listed, _) = list_named(self.expire.vault.store(), &prefix::in_locker(locker, "b")).await?;
        let listed: HashMap<ObjectName, Listed> = listed.into_iter().collect();
        for backup in going {
            go_on(self.expire.cancel)?;
            if self.expire.vault.holds(locker).await?.is_held() {
                return Ok(false);
            }
            let document = Document::Manifest(locker, *backup);
            for name in [ObjectName::Document(document.clone()), ObjectName::Signature(document)] {
                let Some(object) = listed.get(&name) else { continue };
                let removal = self.expire.remove_or_look(object, self.now, self.dry_run).await?;
                done.tally.note(object, removal);
                if matches!(removal, Removal::Locked(_)) {
                    break;
                }
                if matches!(name, ObjectName::Document(_)) {
                    done.removed.push(*backup);
                }
            }
        }
        Ok(!self.expire.vault.holds(locker).await?.is_held())
    }

    fn tenant(&self, locker: Locker) -> Option<String> {
        self.owners.get(&locker).map(|owner| owner.tenant.clone())
    }

    fn fail(&mut self, locker: Locker, failure: &Failure) {
        let tenant = self.tenant(locker);
        self.report.fail(tenant.as_deref(), failure);
    }

    fn note(&mut self, locker: Locker, done: Done) {
        let tenant = self.tenant(locker);
        let removed = done.removed.iter().map(|backup| ExpiredBackup::new(tenant.as_deref(), locker, *backup));
        self.report.removed.extend(removed);
        self.report.add(done.tally);
        for obstacle in done.obstacles {
            self.fail(locker, &obstacle.into());
        }
        if let Some(failure) = &done.failure {
            self.fail(locker, failure);
        }
        if done.tally.objects > 0 {
            let (objects, bytes) = (done.tally.objects, done.tally.bytes);
            self.acts.push(ActOn { objects, bytes, ..self.on(locker, done.removed) });
        }
    }
}

impl From<Obstacle> for Failure {
    fn from(obstacle: Obstacle) -> Self {
        let message = format!("{}: {}", obstacle.object, obstacle.what);
        Self::new(FailureClass::Integrity, "not-swept", obstacle.object, message)
            .hint("Nothing was swept there; what is over goes all the same, unless it waits. `tenure verify` says everything that is wrong; put back what is missing, and run it again.")
    }
}
