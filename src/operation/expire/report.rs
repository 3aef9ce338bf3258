//! What `expire` says at its end.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::sweep::Tally;
use crate::{
    backup_id::BackupId,
    id::Locker,
    operation::failure::{Failure, FailureClass},
};

/// What `expire` says.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ExpireReport {
    /// Id of the signed record of this run under `runs/`. `null` when nothing was written.
    pub run: Option<String>,
    /// What was over by this time went.
    pub as_of: DateTime<Utc>,
    /// Whether nothing was removed, and this says what would be.
    pub dry_run: bool,
    /// Backups that went.
    pub removed: Vec<ExpiredBackup>,
    /// Objects that went, manifests and signatures included, each with all its versions.
    pub objects_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// Backups whose time is over, and that a hold keeps.
    pub kept_by_hold: Vec<ExpiredBackup>,
    /// Objects whose time is over, and that the store keeps.
    pub kept_by_lock: KeptByLock,
    /// Objects that nothing refers to and that are too young to be told from those of a run at work.
    pub settling: u64,
    /// Backups whose time is over, and that a brake keeps until somebody confirms. `null` when there are none.
    pub waiting: Option<Waiting>,
    /// What is wrong. The other tenants are done.
    pub problems: Vec<ExpireProblem>,
    /// What decides the exit code.
    #[serde(skip)]
    pub(super) classes: Vec<FailureClass>,
}

/// A backup whose time is over.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct ExpiredBackup {
    /// The tenant; `null` where the keyring does not know it.
    pub tenant: Option<String>,
    /// Its locker.
    pub locker: String,
    /// The backup.
    pub backup: String,
}

/// What object lock keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KeptByLock {
    /// How many objects.
    pub objects: u64,
    /// Until when the last of them is locked.
    pub until: Option<DateTime<Utc>>,
}

/// What waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Waiting {
    /// What to give to `expire --confirm`; `null` in a dry run.
    pub run: Option<String>,
    /// Each backup that waits.
    pub backups: Vec<WaitingBackup>,
}

/// One that waits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct WaitingBackup {
    /// The tenant; `null` where the keyring does not know it.
    pub tenant: Option<String>,
    /// Its locker.
    pub locker: String,
    /// The backup.
    pub backup: String,
    /// Why.
    pub brake: Brake,
}

/// Why a backup waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Brake {
    /// The run would have removed over half of all backups.
    HalfOfTheFleet,
    /// It is the newest good one of a tenant that was neither purged nor erased.
    Newest,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct ExpireProblem {
    /// The tenant, where it is one tenant's and the keyring knows it.
    pub tenant: Option<String>,
    /// Address and name, or what else it is about.
    pub object: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub hint: String,
}

impl ExpireReport {
    pub(super) fn new(as_of: DateTime<Utc>, dry_run: bool) -> Self {
        Self {
            run: None,
            as_of,
            dry_run,
            removed: Vec::new(),
            objects_removed: 0,
            bytes_removed: 0,
            kept_by_hold: Vec::new(),
            kept_by_lock: KeptByLock::default(),
            settling: 0,
            waiting: None,
            problems: Vec::new(),
            classes: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, tally: Tally) {
        self.objects_removed += tally.objects;
        self.bytes_removed += tally.bytes;
        self.kept_by_lock.objects += tally.locked;
        self.kept_by_lock.until = self.kept_by_lock.until.max(tally.locked_until);
        self.settling += tally.settling;
    }

    pub(super) fn fail(&mut self, tenant: Option<&str>, failure: &Failure) {
        self.classes.push(failure.class);
        if failure.class == FailureClass::Interrupted {
            return;
        }
        self.problems.push(ExpireProblem {
            tenant: tenant.map(str::to_owned),
            object: failure.object.clone(),
            problem: failure.one_line(),
            hint: failure.hint.clone(),
        });
    }

    pub(super) fn sort(&mut self) {
        self.removed.sort();
        self.kept_by_hold.sort();
        self.problems.sort();
        self.problems.dedup();
        self.waiting.iter_mut().for_each(|waiting| waiting.backups.sort());
    }

    /// The gravest class, which decides the exit code. `None` when all is well.
    #[must_use]
    pub fn class(&self) -> Option<FailureClass> {
        FailureClass::worst_of_many(self.classes.iter().copied(), true)
    }
}

impl ExpiredBackup {
    pub(super) fn new(tenant: Option<&str>, locker: Locker, backup: BackupId) -> Self {
        Self { tenant: tenant.map(str::to_owned), locker: locker.to_string(), backup: backup.to_string() }
    }
}
