//! Why an operation stopped, in the shape that a person at a terminal, a script and a monitor can all use.

mod from_postgres;
mod from_store;

pub(in crate::operation) use from_store::settle_plan;

use std::error::Error;

/// What kind of failure it is, which decides the exit code.
///
/// [`FailureClass::code`] is the one table of exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// It did not work.
    Failed,
    /// The command line or the configuration is wrong. Nothing was tried.
    Usage,
    /// Some tenants failed, or their backups lack what the role may not read; the others are done.
    SomeTenants,
    /// A guard refused: a hold, a tombstone, a missing approval or confirmation.
    Refused,
    /// A signature or digest is wrong, or an object is missing or hidden.
    Integrity,
    /// Somebody else is working on the tenant that was named.
    Busy,
    /// Stopped by SIGINT, cleanly.
    Interrupted,
    /// Stopped by SIGTERM, cleanly.
    Terminated,
}

impl FailureClass {
    /// The exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::SomeTenants => 3,
            Self::Refused => 4,
            Self::Integrity => 5,
            Self::Busy => 6,
            Self::Interrupted => 130,
            Self::Terminated => 143,
        }
    }

    /// When several apply, the one that the exit code tells: 130 or 143, then 2, 5, 4, 3, 6, 1.
    #[must_use]
    pub fn worst(classes: impl IntoIterator<Item = Self>) -> Option<Self> {
        classes.into_iter().min_by_key(|class| match class {
            Self::Interrupted | Self::Terminated => 0,
            Self::Usage => 1,
            Self::Integrity => 2,
            Self::Refused => 3,
            Self::SomeTenants => 4,
            Self::Busy => 5,
            Self::Failed => 6,
        })
    }

    /// The same for many tenants: where some are done, that others failed is 3 and not 1.
    #[must_use]
    pub fn worst_of_many(classes: impl IntoIterator<Item = Self>, some_are_done: bool) -> Option<Self> {
        Self::worst(
            classes.into_iter().map(|class| if some_are_done && class == Self::Failed { Self::SomeTenants } else { class }),
        )
    }
}

/// The kind of a failure to lock a table that somebody else holds, or waits for: later it may go better.
pub const TABLE_LOCKED: &str = "table-locked";

/// The kind of a failure to read a schema as of one moment, because it was being changed: later it may go better.
pub const SCHEMA_CHANGED: &str = "schema-changed";

/// Why an operation stopped.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Decides the exit code.
    pub class: FailureClass,
    /// One word or a few joined by `-`, for scripts: `no-such-backup`, `name-taken`, `bad-signature`. Never changes once released.
    pub kind: &'static str,
    /// What it is about: a tenant, a backup, an object of the vault, a file.
    pub object: String,
    /// What happened, naming the object: one sentence that begins in lower case and has no full stop.
    pub message: String,
    /// What to do now: one or more sentences, ready to be printed after `hint: `. May be empty when there is nothing to add.
    pub hint: String,
    /// The cause, printed after the message.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure without a hint and without a cause; see [`Failure::hint`] and [`Failure::because`].
    #[must_use]
    pub fn new(class: FailureClass, kind: &'static str, object: impl ToString, message: impl Into<String>) -> Self {
        Self { class, kind, object: object.to_string(), message: message.into(), hint: String::new(), source: None }
    }

    /// The same failure with this hint, as a sentence: with a capital at its beginning and a full stop at its end.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: to_sentence(hint.into()), ..self }
    }

    /// The same failure with this cause.
    #[must_use]
    pub fn because(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// The message and all its causes on one line, joined by `: `, for reports that have one field for an error.
    #[must_use]
    pub fn one_line(&self) -> String {
        let mut line = self.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }
}

fn to_sentence(mut text: String) -> String {
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    if !text.is_empty() && !text.ends_with(['.', '?', '!', ':', '…']) {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Failure, FailureClass as Class};

    #[test]
    fn the_gravest_class_decides() {
        assert_eq!(Class::worst([]), None);
        assert_eq!(Class::worst([Class::Failed, Class::SomeTenants]), Some(Class::SomeTenants));
        assert_eq!(Class::worst([Class::Refused, Class::Integrity, Class::SomeTenants]), Some(Class::Integrity));
        assert_eq!(Class::worst([Class::Integrity, Class::Usage]), Some(Class::Usage));
        assert_eq!(Class::worst([Class::Usage, Class::Terminated]), Some(Class::Terminated));
        assert_eq!(Class::worst_of_many([Class::Failed], false), Some(Class::Failed));
        assert_eq!(Class::worst_of_many([Class::Failed], true), Some(Class::SomeTenants));
        assert_eq!(Class::worst_of_many([Class::Failed, Class::Refused], true), Some(Class::Refused));
        assert_eq!(Class::worst_of_many([], true), None);
    }

    #[test]
    fn causes_follow_the_message() {
        let cause = Failure::new(Class::Failed, "inner", "b", "b is away").because(std::io::Error::other("no route"));
        let failure = Failure::new(Class::Failed, "outer", "a", "a failed").because(cause).hint("try c");
        assert_eq!(failure.one_line(), "a failed: b is away: no route");
        assert_eq!(failure.to_string(), "a failed");
        assert_eq!(failure.hint, "Try c.");
    }
}
