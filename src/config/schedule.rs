//! `schedules/*.toml`: what runs when. One file each, beside `tenure.toml`.

pub mod cron;
pub mod folder;
pub mod zone;

use std::path::Path;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{cron::Cron, zone::Zone};
use super::{
    duration::Span,
    error::ConfigError,
    glob::Glob,
    place::{Places, Top},
    store::Role,
};
use crate::{printable::Printable, tenant::TenantName};

/// One schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// What its file is called, without `.toml`.
    pub name: String,
    /// Whether it counts. True by default.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// When: a crontab(5) expression.
    pub cron: Cron,
    /// Whose clock that is.
    pub time_zone: Zone,
    /// What is done.
    pub action: Action,
    /// Whose credentials it is done with: those that the action needs, and no others. They are the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// For whom; everybody by default.
    #[serde(default = "everybody")]
    pub tenants: Vec<Glob>,
    /// It begins up to so much later, by chance, so that many hosts do not begin at once. None by default.
    #[serde(default = "no_time")]
    pub jitter: Span,
    /// For how long tenants are begun; who was not is first the next time. No end by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Span>,
    /// After how long what still runs is stopped. Not at all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Span>,
    /// How often a tenant that failed is tried again. 0 by default.
    #[serde(default)]
    pub retries: u32,
}

/// One time of a schedule. All of it counts from the schedule's own time, so that a restart prolongs nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// When it is due, before jitter. Who has a backup that was taken then or later is not due.
    pub due_at: DateTime<Utc>,
    /// From when on nothing is begun: the window's end, the deadline, or the next time, whichever comes first.
    pub until: DateTime<Utc>,
    /// When what still runs is stopped.
    pub deadline: Option<DateTime<Utc>>,
}

/// What a schedule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// `tenure backup`.
    Backup,
    /// `tenure expire`.
    Expire,
    /// `tenure verify`.
    Verify,
    /// Look for tenants that should be gone. Not built yet.
    Reconcile,
    /// Render a night. Not built yet.
    Report,
    /// Practise a restore. Not built yet.
    Drill,
}

impl Action {
    /// Its name, which is the command's too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Expire => "expire",
            Self::Verify => "verify",
            Self::Reconcile => "reconcile",
            Self::Report => "report",
            Self::Drill => "drill",
        }
    }

    /// Whether this version can do it.
    #[must_use]
    pub fn is_built(self) -> bool {
        matches!(self, Self::Backup | Self::Expire | Self::Verify | Self::Reconcile)
    }

    /// Whose credentials it works with.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::Backup => Role::Writer,
            Self::Expire => Role::Janitor,
            Self::Verify | Self::Report | Self::Drill => Role::Restorer,
            Self::Reconcile => Role::Eraser,
        }
    }

    /// Whether it can be done for some tenants and not for others.
    fn is_by_tenant(self) -> bool {
        matches!(self, Self::Backup | Self::Verify | Self::Drill)
    }
}

fn enabled() -> bool {
    true
}

fn everybody() -> Vec<Glob> {
    vec![Glob("*".into())]
}

fn no_time() -> Span {
    Span::from_secs(0)
}

/// More is no second chance but a loop.
const MOST_RETRIES: u32 = 10;

impl Schedule {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// The file cannot be read, or says something that [`Schedule::parse`] refuses.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = folder::read(file)?;
        Self::parse(&text, file)
    }

    /// Checks `text`; `file` is its name, which must be the schedule's.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line, its key and a hint.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let places = Places::new(text, file, Top::Settings)?;
        let schedule: Self = toml::from_str(text).map_err(|error| places.explain(&error))?;
        schedule.check(file, &places)?;
        Ok(schedule)
    }

    /// Its first time after `after`, before jitter.
    #[must_use]
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.cron.next(after, self.time_zone.0).map(|time| time.to_utc())
    }

    /// Its last time up to `now`; `None` where there was none in ten years.
    #[must_use]
    pub fn slot(&self, now: DateTime<Utc>) -> Option<Slot> {
        let due_at = self.cron.last(now, self.time_zone.0)?.to_utc();
        let later = |span: Span| due_at + span.get();
        let deadline = self.deadline.map(later);
        let ends = [self.next(due_at), self.window.map(later), deadline];
        let until = ends.into_iter().flatten().min().unwrap_or(DateTime::<Utc>::MAX_UTC);
        Some(Slot { due_at, until, deadline })
    }

    /// Whether it is for every tenant.
    #[must_use]
    pub fn is_for_everybody(&self) -> bool {
        self.tenants.iter().any(Glob::is_everything)
    }

    fn check(&self, file: &Path, places: &Places<'_>) -> Result<(), ConfigError> {
        let (action, role) = (self.action.name(), self.action.role());
        let refuse = |key: &'static str, message: String, hint: &str| Err(places.refuse(&[key.into()], message, hint));
        if file.file_stem().is_none_or(|stem| stem != self.name.as_str()) {
            let message = format!("the schedule is named `{}`, and its file is not", Printable(&self.name));
            return refuse("name", message, "a schedule has the name of its file, without `.toml`: change one of the two");
        }
        if self.name.len() > 63 || !self.name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            let message = format!("`{}` is not a name for a schedule", Printable(&self.name));
            return refuse("name", message, "use up to 63 letters, digits, `-`, `_` and `.`");
        }
        if self.enabled && !self.action.is_built() {
            let hint = "write `enabled = false`: then it is parsed, and nothing more";
            return Err(places.not_built(&["action".into()], &format!("the action \"{action}\""), hint));
        }
        if self.role.is_some_and(|given| given != role) {
            let message = format!("`role`: \"{action}\" works with the credentials of the {role:?}").to_lowercase();
            return refuse(
                "role",
                message,
                "remove the line, or name that role: a schedule has no other rights than its command",
            );
        }
        self.check_tenants(places)?;
        for (key, span) in [("window", self.window), ("deadline", self.deadline)] {
            if span.is_some_and(|span| span.get().is_zero()) {
                return refuse(key, format!("`{key}` is zero: nothing could be done"), "remove the line for none");
            }
        }
        if self.window.is_some_and(|window| self.jitter >= window) {
            let message = format!("`jitter` is {}, which may use up the whole `window`", self.jitter);
            return refuse("jitter", message, "use less than `window`");
        }
        if self.window > self.deadline && self.deadline.is_some() {
            let message = "`window` is longer than `deadline`: tenants would be begun after everything was stopped".to_owned();
            return refuse("window", message, "use at most `deadline`");
        }
        if self.retries > MOST_RETRIES {
            let message = format!("`retries` is {}: whoever fails so often does not need another try", self.retries);
            return refuse("retries", message, &format!("use 0 to {MOST_RETRIES}"));
        }
        Ok(())
    }

    fn check_tenants(&self, places: &Places<'_>) -> Result<(), ConfigError> {
        let refuse = |message: String, hint: &str| Err(places.refuse(&["tenants".into()], message, hint));
        if self.tenants.is_empty() {
            return refuse("`tenants` is empty: nothing could be done".to_owned(), "leave `tenants` out for every tenant");
        }
        if !self.action.is_by_tenant() && !self.is_for_everybody() {
            let message = format!("\"{}\" is done for all tenants, and not for some", self.action.name());
            return refuse(message, "remove `tenants`");
        }
        for Glob(glob) in &self.tenants {
            if is_name(glob) && TenantName::try_from(glob.clone()).is_err() {
                return refuse(
                    format!("`{}` cannot be a tenant", Printable(glob)),
                    "write names of tenants, or patterns like \"bank_*\"",
                );
            }
        }
        Ok(())
    }
}

/// Whether a pattern stands for one name alone.
#[must_use]
pub fn is_name(glob: &str) -> bool {
    !glob.contains(['*', '?'])
}
