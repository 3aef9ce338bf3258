//! `[limits]` and `[postgres]`: how much at once, how long, and with which programs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{duration::Span, error::ConfigError, place::Places};

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Tenants worked on at once. 4 by default; more needs more memory and connections, and helps until the server's disks or this
    /// machine's cores are busy.
    pub jobs: u32,
    /// A backup that blocks another session longer than this gives way and is tried again after all others. By default it does not:
    /// whoever alters a table waits until the backup is done, as with `pg_dump`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yield_after: Option<Span>,
    /// How long a lock on a table is waited for.
    pub lock_timeout: Span,
    /// How long one tenant's snapshot may be held: as long, its server cannot clean up dead rows.
    pub max_snapshot_age: Span,
    /// How long a server may say nothing before another connection asks it whether it is still at work. What has nothing to do but look is
    /// given up then.
    pub silence: Span,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            jobs: 4,
            yield_after: None,
            lock_timeout: Span::from_secs(10),
            max_snapshot_age: Span::from_secs(12 * 3600),
            silence: Span::from_secs(120),
        }
    }
}

/// `[postgres]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// Folder of `pg_dump` and `pg_restore`; `{major}` stands for a server's major version. Default: Debian's folders, then the PATH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bin: Option<String>,
}

/// More is a slip of the finger: each job has several connections.
const MOST_JOBS: u32 = 256;

pub(super) fn check(limits: &Limits, places: &Places<'_>) -> Result<(), ConfigError> {
    if limits.jobs == 0 || limits.jobs > MOST_JOBS {
        let message = format!("`limits.jobs` is {}: nothing could be done like that", limits.jobs);
        return Err(places.refuse(&["limits".into(), "jobs".into()], message, format!("use 1 to {MOST_JOBS}; 4 is the default")));
    }
    let spans = [
        ("lock_timeout", Some(limits.lock_timeout)),
        ("max_snapshot_age", Some(limits.max_snapshot_age)),
        ("yield_after", limits.yield_after),
        ("silence", Some(limits.silence)),
    ];
    for (key, span) in spans.into_iter().filter_map(|(key, span)| Some((key, span?))) {
        if span.get().is_zero() {
            let message = format!("`limits.{key}` is zero: every backup would give up at once");
            return Err(places.refuse(
                &["limits".into(), key.into()],
                message,
                "use at least 1s, or remove the line for the default",
            ));
        }
    }
    Ok(())
}
