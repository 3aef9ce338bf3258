//! `status`: how the whole fleet is, on one screen: who is late, what is wrong, what to do.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{alarm::Alarm, failure::FailureClass, tenants::TenantState};

/// What `status` says.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct StatusReport {
    /// When it was asked.
    pub at: DateTime<Utc>,
    /// How many tenants are how.
    pub counts: Counts,
    /// Every tenant that a cluster or the keyring knows, the worst first.
    pub tenants: Vec<TenantStatus>,
    /// How far first backups are, while tenants wait for theirs; null when none does.
    pub first_backups: Option<Onboarding>,
    /// Erasures that were begun and are not through, their grace included.
    pub erasures_open: u64,
    /// Backups whose time is over, and that still lie in the vault.
    pub retention_backlog: u64,
    /// Tenants on hold.
    pub holds: u64,
    /// What somebody must be told, the gravest first.
    pub alarms: Vec<Alarm>,
    /// Decides the exit code.
    #[serde(skip)]
    pub class: Option<FailureClass>,
}

/// How many tenants are how. Every tenant is in one of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// All.
    pub tenants: u64,
    /// With a backup that is young enough.
    pub good: u64,
    /// With a backup that is too old.
    pub late: u64,
    /// Without a backup yet.
    pub new: u64,
    /// With backups, and without a database.
    pub missing: u64,
    /// Dropped by tenure; their backups stay.
    pub dropped: u64,
    /// Whose database is another one than recorded.
    pub moved: u64,
    /// To whom several databases answer.
    pub ambiguous: u64,
    /// Whose database lets nobody in.
    pub closed: u64,
    /// Being erased.
    pub suspended: u64,
    /// Erased, and not gone from everywhere yet.
    pub erased: u64,
    /// On a cluster that could not be asked.
    pub unknown: u64,
}

/// One tenant.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct TenantStatus {
    /// Its name.
    pub tenant: String,
    /// Its cluster: where it is found now, else where it was recorded.
    pub cluster: Option<String>,
    /// How it is.
    pub state: TenantState,
    /// Id of its newest backup that is not expired.
    pub newest_backup: Option<String>,
    /// When that was taken.
    pub newest_taken_at: Option<DateTime<Utc>>,
    /// How old it is.
    pub age_seconds: Option<u64>,
    /// Backups that the vault lists, by their names alone: none that was declared void or let go of, and those whose time is over left out as
    /// far as their names tell it.
    pub backups: u64,
    /// How long its newest backup took; null where no night record says it.
    pub duration_ms: Option<u64>,
    /// Sealed bytes that its newest backup added.
    pub bytes_stored: Option<u64>,
    /// Plaintext bytes of its newest backup: what a restore would bring back.
    pub bytes_read: Option<u64>,
    /// Backups whose time is over, and that still lie in the vault.
    pub expired: u64,
    /// Whether it is on hold.
    pub on_hold: bool,
    /// From which age of its newest backup on it is late.
    pub late_after_seconds: u64,
}

/// First backups, while tenants wait for theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Onboarding {
    /// Tenants that live and have a backup.
    pub done: u64,
    /// Tenants that live and have none.
    pub waiting: u64,
    /// About how many more nights, by how many first backups the newest nights made; null while none was made.
    pub nights: Option<u64>,
}

impl Counts {
    /// Counts states.
    #[must_use]
    pub fn of(states: impl IntoIterator<Item = TenantState>) -> Self {
        let mut counts = Self::default();
        for state in states {
            counts.tenants += 1;
            *match state {
                TenantState::Good => &mut counts.good,
                TenantState::Late => &mut counts.late,
                TenantState::New => &mut counts.new,
                TenantState::Missing => &mut counts.missing,
                TenantState::Dropped => &mut counts.dropped,
                TenantState::Moved => &mut counts.moved,
                TenantState::Ambiguous => &mut counts.ambiguous,
                TenantState::Closed => &mut counts.closed,
                TenantState::Suspended => &mut counts.suspended,
                TenantState::Erased => &mut counts.erased,
                TenantState::Unknown => &mut counts.unknown,
            } += 1;
        }
        counts
    }
}

impl Onboarding {
    /// As it is told: `first backup done 80, waiting 220, about 3 more nights`.
    #[must_use]
    pub fn in_words(&self) -> String {
        let nights = match self.nights {
            None => String::new(),
            Some(1) => ", about 1 more night".to_owned(),
            Some(nights) => format!(", about {nights} more nights"),
        };
        format!("first backup done {}, waiting {}{nights}", self.done, self.waiting)
    }
}
