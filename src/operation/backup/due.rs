//! Which tenants of a schedule are due, and in which order. Nothing is remembered: the vault says it.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Backup, Limits, queue::Job, report::BackupResult};
use crate::{
    format::act::{Newest, NightOf, NightOutcome},
    operation::{
        failure::{Failure, FailureClass},
        fleet::{Fleet, Known, Resident},
    },
    postgres::lock,
    tenant::TenantName,
    vault::history::History,
};

/// Tenants looked up at once.
const READERS: usize = 16;

/// The tenants of a schedule that are due at one of its times.
#[derive(Clone)]
pub struct Due {
    /// Who has a good backup that was taken at or after this time is not due.
    pub due_at: DateTime<Utc>,
    /// Nobody is begun from this time on.
    pub until: DateTime<Utc>,
    /// Whom the schedule is for.
    pub covers: Arc<dyn Fn(&TenantName) -> bool + Send + Sync>,
    /// Who is settled for this time, though due: refused, for instance.
    pub settled: BTreeSet<TenantName>,
    /// How long one that another run is at is left alone before it is looked at again.
    pub look_again: Duration,
}

impl fmt::Debug for Due {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Due").field("due_at", &self.due_at).field("until", &self.until).finish_non_exhaustive()
    }
}

impl Due {
    fn is_for(&self, tenant: &TenantName) -> bool {
        (self.covers)(tenant) && !self.settled.contains(tenant)
    }
}

impl Limits {
    /// How long a tenant's lock is waited for. Who is only one of many that are due can be looked at again later.
    pub(super) fn lock_wait(&self) -> Duration {
        if self.due.is_some() { Duration::ZERO } else { lock::WAIT }
    }

    /// The backup that makes a tenant not due, as its history is now.
    pub(super) fn current(&self, backup: &Backup, history: &History) -> Option<Newest> {
        let (due, now) = (self.due.as_ref()?, (backup.clock)());
        let counts = history.live(now).filter(|backup_| backup.vault.is_of_its_time(backup_, now));
        counts.map(newest_of).filter(|newest| newest.taken_at >= due.due_at).max_by_key(|newest| newest.taken_at)
    }
}

impl Backup {
    /// Who is due, in the order of their turns: who was never backed up, then who was not for the longest. How everybody else of the schedule
    /// stands is there as well.
    ///
    /// # Errors
    /// A store that cannot be reached.
    pub(super) async fn survey(
        &self,
        due: &Due,
        fleet: &Fleet,
        known: &Known,
    ) -> Result<(Vec<Job>, Vec<(TenantName, NightOf)>), Failure> {
        let residents = fleet.residents();
        let absent = known.sources.keys().filter(|tenant| !residents.contains_key(tenant));
        let absent = absent.filter_map(|tenant| Some((tenant.clone(), None, Some(why_absent(tenant, fleet, known)?.to_owned()))));
        let here = residents.values().map(|resident| (resident.tenant.clone(), Some(resident.clone()), None));
        let everybody: Vec<_> = here.chain(absent).filter(|(tenant, ..)| due.is_for(tenant)).collect();
        let looked_up: Vec<_> = stream::iter(everybody)
            .map(async |(tenant, resident, why)| {
                let newest = self.newest(&tenant, known).await?;
                Ok::<_, Failure>((tenant, resident, why, newest))
            })
            .buffer_unordered(READERS)
            .try_collect()
            .await?;
        let (mut jobs, mut others) = (Vec::new(), Vec::new());
        for (tenant, resident, why, newest) in looked_up {
            let is_current = newest.as_ref().is_some_and(|newest| newest.taken_at >= due.due_at);
            match resident {
                Some(resident) if !is_current => jobs.push(Job::new(resident, newest)),
                _ => {
                    let outcome = if is_current { NightOutcome::Current } else { NightOutcome::Failed };
                    let reason = why.filter(|_| !is_current);
                    let night = NightOf { reason, ..self.stands(&tenant, outcome, newest) };
                    others.push((tenant, night));
                }
            }
        }
        jobs.sort_by(|a, b| {
            let taken_at = |job: &Job| job.newest.as_ref().map(|newest| newest.taken_at);
            let size = b.resident.found.bytes.cmp(&a.resident.found.bytes);
            taken_at(a).cmp(&taken_at(b)).then(size).then_with(|| a.resident.tenant.cmp(&b.resident.tenant))
        });
        Ok((jobs, others))
    }

    /// A tenant's newest good backup.
    async fn newest(&self, tenant: &TenantName, known: &Known) -> Result<Option<Newest>, Failure> {
        let Some(keys) = known.census.tenants.get(tenant) else { return Ok(None) };
        let mut newest: Option<Newest> = None;
        for locker in keys.lockers() {
            let found = self.vault.newest(locker, (self.clock)()).await?;
            newest = found.as_ref().map(newest_of).into_iter().chain(newest).max_by_key(|newest| newest.taken_at);
        }
        Ok(newest)
    }

    /// The backup that came in since a tenant was found to be due.
    pub(super) async fn came_in(&self, due: &Due, resident: &Resident) -> Result<Option<Newest>, Failure> {
        let keys = self.keyring.keys(&resident.tenant).await?;
        let mut newest = None;
        for locker in keys.iter().flat_map(crate::keyring::TenantKeys::lockers) {
            let found = self.vault.newest(locker, (self.clock)()).await?;
            newest = found.as_ref().map(newest_of).filter(|newest| newest.taken_at >= due.due_at).or(newest);
        }
        Ok(newest)
    }

    /// How a tenant stands whom this run did not try.
    pub(super) fn stands(&self, tenant: &TenantName, outcome: NightOutcome, newest: Option<Newest>) -> NightOf {
        NightOf {
            name_tag: self.keyring.tag(tenant),
            outcome,
            newest,
            duration_ms: None,
            bytes_read: 0,
            bytes_stored: 0,
            attempts: 0,
            reason: None,
        }
    }

    /// How a tenant stands whom this run tried so often.
    pub(super) fn stands_after(&self, job: Job, result: &BackupResult) -> NightOf {
        let outcome = match result.error.as_ref().filter(|_| result.newest.is_none()).map(|error| error.class) {
            None => NightOutcome::Done,
            Some(FailureClass::Refused) => NightOutcome::Refused,
            Some(FailureClass::Busy) => NightOutcome::Busy,
            Some(FailureClass::Interrupted | FailureClass::Terminated) => NightOutcome::Interrupted,
            Some(_) => NightOutcome::Failed,
        };
        let newest = result.newest.clone().or(job.newest);
        NightOf {
            duration_ms: Some(result.duration_ms),
            bytes_read: result.bytes_read,
            bytes_stored: result.bytes_stored,
            attempts: job.attempt,
            reason: result.error.as_ref().map(|error| error.kind.clone()),
            ..self.stands(&job.resident.tenant, outcome, newest)
        }
    }
}

fn newest_of(backup: &crate::vault::history::Backup) -> Newest {
    let manifest = &backup.manifest;
    Newest { locker: manifest.locker, backup: manifest.backup, sha256: backup.sha256, taken_at: manifest.taken_at }
}

/// Why a tenant that should be there cannot be backed up; `None` where nobody expects it to be.
fn why_absent(tenant: &TenantName, fleet: &Fleet, known: &Known) -> Option<&'static str> {
    let source = known.sources.get(tenant).filter(|_| !known.dropped.contains_key(tenant))?;
    if fleet.ambiguous().contains_key(tenant) {
        return Some("ambiguous-tenant");
    }
    for (cluster, discovery) in &fleet.clusters {
        match discovery {
            Ok(discovery) if discovery.closed.iter().any(|closed| closed.tenant == *tenant) => return Some("tenant-closed"),
            Err(failure) if cluster.name == source.cluster => return Some(failure.kind),
            _ => {}
        }
    }
    None
}
