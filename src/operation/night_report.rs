//! `report`: what became of everybody in a night, by the signed records of the workers that were at it; and whether the backups that they name are
//! still the same ones.

mod merge;

use std::collections::BTreeMap;

use chrono::{DateTime, Days, NaiveDate, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use schemars::JsonSchema;
use serde::Serialize;

use self::merge::{Run, Slot};
use super::failure::{Failure, FailureClass};
use crate::{
    format::act::{Act, NightOf, NightOutcome},
    id::NameTag,
    keyring::Keyring,
    retention::Keep,
    signed::DocumentError,
    tenant::TenantName,
    vault::Vault,
};

/// Records read at once: one of a large fleet's night is some hundred kilobytes.
const RECORDS: usize = 4;
/// Manifests read at once.
const MANIFESTS: usize = 16;
/// A run that was due on a day began on it, or within the longest run after it: so many days of records are looked at.
const DAYS_AFTER: u64 = 2;

/// What `report` says.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct NightReport {
    /// The day, in UTC, that the night's schedules were due on.
    pub night: NaiveDate,
    /// What was due, the earliest first.
    pub slots: Vec<SlotReport>,
    /// Records that are not to be trusted: what they say is not in here.
    pub problems: Vec<String>,
    /// Decides the exit code.
    #[serde(skip)]
    pub class: Option<FailureClass>,
}

/// One time of a schedule, with what all workers did for it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SlotReport {
    /// The schedule.
    pub schedule: String,
    /// The time that it was due at.
    pub due_at: DateTime<Utc>,
    /// When the first worker began.
    pub began_at: DateTime<Utc>,
    /// When the last one ended.
    pub ended_at: DateTime<Utc>,
    /// The signed records that this is made of.
    pub records: Vec<RecordLine>,
    /// How many tenants ended how, by the word for it.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Plaintext that was read, in bytes.
    pub bytes_read: u64,
    /// Sealed bytes that were stored.
    pub bytes_stored: u64,
    /// Every tenant, those that nothing became of first.
    pub tenants: Vec<NightTenant>,
}

/// A signed record of a run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RecordLine {
    /// Its object's name in the vault.
    pub object: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Who signed it.
    pub principal: String,
    /// Which worker wrote it.
    pub worker: String,
}

/// One tenant in a night.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct NightTenant {
    /// Its name; null where the keyring does not know it any more.
    pub tenant: Option<String>,
    /// Its pseudonym.
    pub name_tag: String,
    /// What became of it.
    pub outcome: NightOutcome,
    /// Why there is no new backup: the kind of the failure.
    pub reason: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// How long the last try took.
    pub duration_ms: Option<u64>,
    /// Plaintext that it read, in bytes.
    pub bytes_read: u64,
    /// Sealed bytes that it stored.
    pub bytes_stored: u64,
    /// Its newest good backup at the end of the night.
    pub newest_backup: Option<String>,
    /// When that was taken.
    pub newest_taken_at: Option<DateTime<Utc>>,
    /// SHA-256 of its manifest, as the record names it.
    pub manifest_sha256: Option<String>,
    /// Whether that manifest is there now.
    pub manifest: Option<ManifestNow>,
}

/// What became of a manifest that a record names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ManifestNow {
    /// It is there, byte for byte.
    Same,
    /// Another one is there under its name, or one that is not to be trusted.
    Changed,
    /// It is not there.
    Missing,
    /// It is not there, and its time is over as the policy is now.
    Expired,
    /// It is not there, or counts no more: it was purged, or declared void.
    LetGo,
}

impl ManifestNow {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::Expired => "expired",
            Self::LetGo => "let go",
        }
    }

    fn is_wrong(self) -> bool {
        matches!(self, Self::Changed | Self::Missing)
    }
}

impl NightTenant {
    /// Whether the manifest that is named of it is not there as it was.
    #[must_use]
    pub fn manifest_is_wrong(&self) -> bool {
        self.manifest.is_some_and(ManifestNow::is_wrong)
    }

    /// Whether somebody has to look at it.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        !merge::is_well(self.outcome) || self.manifest_is_wrong()
    }
}

/// What it works with.
pub struct Nights<'a> {
    /// Where the records and the manifests are.
    pub vault: &'a Vault,
    /// Translates tags.
    pub keyring: &'a Keyring,
    /// How long a tenant's backups are kept, as it is configured now.
    pub keep: &'a (dyn Fn(&TenantName) -> Keep + Sync),
}

impl Nights<'_> {
    /// What became of everybody in the night of `day`, or in the latest of which there is a record.
    ///
    /// # Errors
    /// No record of such a night; a store that cannot be reached.
    pub async fn run(&self, day: Option<NaiveDate>, now: DateTime<Utc>) -> Result<NightReport, Failure> {
        let mut problems = Vec::new();
        let (day, slots) = match day {
            Some(day) => (day, self.slots(day, &mut problems).await?),
            None => self.latest(&mut problems).await?,
        };
        if slots.is_empty() && problems.is_empty() {
            return Err(no_night(&format!("no worker left a record of the night of {day}")));
        }
        let names = self.names().await?;
        let mut reports = Vec::new();
        for slot in slots {
            reports.push(self.slot(slot, &names, now).await?);
        }
        let all = || reports.iter().flat_map(|slot: &SlotReport| &slot.tenants);
        let is_doubtful = !problems.is_empty() || all().any(NightTenant::manifest_is_wrong);
        let has_failed = all().any(|tenant| !merge::is_well(tenant.outcome));
        let class = match (is_doubtful, has_failed) {
            (true, _) => Some(FailureClass::Integrity),
            (false, true) => Some(FailureClass::SomeTenants),
            (false, false) => None,
        };
        Ok(NightReport { night: day, slots: reports, problems, class })
    }

    /// The last day that a record says something was due on.
    async fn latest(&self, problems: &mut Vec<String>) -> Result<(NaiveDate, Vec<Slot>), Failure> {
        for day in self.vault.act_days().await? {
            let due = self.runs([day], problems).await?.into_iter().map(|run| run.night.due_at).max();
            if let Some(due_at) = due {
                problems.clear();
                let day = due_at.date_naive();
                return Ok((day, self.slots(day, problems).await?));
            }
        }
        problems.clear();
        Err(no_night("no worker left a record of a night"))
    }

    async fn slots(&self, day: NaiveDate, problems: &mut Vec<String>) -> Result<Vec<Slot>, Failure> {
        let days = (0..=DAYS_AFTER).filter_map(|after| day.checked_add_days(Days::new(after)));
        let mut runs = self.runs(days, problems).await?;
        runs.retain(|run| run.night.due_at.date_naive() == day);
        Ok(merge::slots(runs))
    }

    /// The runs of workers that began on these days, and what is wrong with records of any kind there.
    async fn runs(&self, days: impl IntoIterator<Item = NaiveDate>, problems: &mut Vec<String>) -> Result<Vec<Run>, Failure> {
        let mut runs = Vec::new();
        let mut read = stream::iter(self.vault.acts_of(days).await?)
            .map(async |(document, at)| (document.to_string(), self.vault.record::<Act>(&document, Some(at)).await))
            .buffer_unordered(RECORDS);
        while let Some((object, read)) = read.next().await {
            match read {
                Ok(signed) => runs.extend(Run::of(object, signed)),
                Err(error @ DocumentError::Store { .. }) => return Err(error.into()),
                Err(error) => problems.push(error.to_string()),
            }
        }
        problems.sort();
        Ok(runs)
    }

    async fn names(&self) -> Result<BTreeMap<NameTag, TenantName>, Failure> {
        Ok(self.keyring.census().await?.tenants.into_values().map(|keys| (keys.tag, keys.tenant)).collect())
    }

    async fn slot(&self, slot: Slot, names: &BTreeMap<NameTag, TenantName>, now: DateTime<Utc>) -> Result<SlotReport, Failure> {
        let mut tenants: Vec<NightTenant> = stream::iter(slot.tenants)
            .map(async |of| self.tenant(of, names, now).await)
            .buffer_unordered(MANIFESTS)
            .try_collect()
            .await?;
        tenants.sort_by(|a, b| {
            let name = |one: &NightTenant| one.tenant.clone().unwrap_or_else(|| one.name_tag.clone());
            merge::rank(b.outcome).cmp(&merge::rank(a.outcome)).then_with(|| name(a).cmp(&name(b)))
        });
        let mut outcomes = BTreeMap::new();
        for tenant in &tenants {
            *outcomes.entry(tenant.outcome.as_str()).or_insert(0) += 1;
        }
        Ok(SlotReport {
            schedule: slot.schedule,
            due_at: slot.due_at,
            began_at: slot.began_at,
            ended_at: slot.ended_at,
            records: slot.records,
            outcomes,
            bytes_read: tenants.iter().map(|tenant| tenant.bytes_read).sum(),
            bytes_stored: tenants.iter().map(|tenant| tenant.bytes_stored).sum(),
            tenants,
        })
    }

    async fn tenant(
        &self,
        of: NightOf,
        names: &BTreeMap<NameTag, TenantName>,
        now: DateTime<Utc>,
    ) -> Result<NightTenant, Failure> {
        let name = names.get(&of.name_tag);
        let manifest = match &of.newest {
            Some(newest) => Some(self.manifest(newest, name, now).await?),
            None => None,
        };
        Ok(NightTenant {
            tenant: name.map(|name| name.as_str().to_owned()),
            name_tag: of.name_tag.to_string(),
            outcome: of.outcome,
            reason: of.reason,
            attempts: of.attempts,
            duration_ms: of.duration_ms,
            bytes_read: of.bytes_read,
            bytes_stored: of.bytes_stored,
            newest_backup: of.newest.as_ref().map(|newest| newest.backup.to_string()),
            newest_taken_at: of.newest.as_ref().map(|newest| newest.taken_at),
            manifest_sha256: of.newest.as_ref().map(|newest| newest.sha256.to_string()),
            manifest,
        })
    }

    async fn manifest(
        &self,
        newest: &crate::format::act::Newest,
        name: Option<&TenantName>,
        now: DateTime<Utc>,
    ) -> Result<ManifestNow, Failure> {
        let (found, is_let_go) = match self.vault.one_backup(newest.locker, newest.backup).await {
            Ok(Some(there)) if there.sha256 == newest.sha256 => (Some(ManifestNow::Same), false),
            Ok(None) => (None, self.vault.is_let_go(newest.locker, newest.backup, newest.sha256).await?),
            Err(error @ DocumentError::Store { .. }) => return Err(error.into()),
            Ok(Some(_)) | Err(_) => (Some(ManifestNow::Changed), false),
        };
        let is_over = || name.is_some_and(|name| (self.keep)(name).expiry(newest.taken_at) <= now);
        Ok(match found {
            Some(found) => found,
            None if is_let_go => ManifestNow::LetGo,
            None if is_over() => ManifestNow::Expired,
            // Nothing is known of whoever the keyring has forgotten, but that somebody let go of him.
            None => ManifestNow::Missing,
        })
    }
}

fn no_night(message: &str) -> Failure {
    Failure::new(FailureClass::Failed, "no-such-night", "runs/", message)
        .hint("Scheduled workers write one when a run ends: `tenure schedules` shows when they are due, `tenure audit` what is recorded.")
}
