//! Alarms: what somebody must be told, also at night, and what to do about it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::failure::Failure;

/// Something that somebody must be told. The same kind about the same object is the same alarm: it goes on until it is not raised any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Alarm {
    /// What kind.
    pub kind: AlarmKind,
    /// What it is about: a tenant, a cluster, a store, a schedule, an object of the vault. With `kind` it says which alarm this is.
    pub object: String,
    /// How grave it is.
    pub severity: Severity,
    /// What is wrong: one sentence that begins in lower case and has no full stop.
    pub message: String,
    /// What to do now, as sentences. May be empty.
    pub hint: String,
}

/// How grave an alarm is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Somebody should look in working hours.
    Warning,
    /// Data, its secrecy or a promise is at stake: somebody should look now.
    Critical,
}

/// Kinds of alarms. A word never changes once released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AlarmKind {
    /// A tenant's newest backup is older than its policy's `late_after`.
    TenantLate,
    /// A tenant with backups is not found on its cluster any more.
    TenantMissing,
    /// A tenant has no backup, for longer than `late_after`.
    TenantNever,
    /// A tenant's database is another one than recorded, so that it is not backed up.
    TenantMoved,
    /// A tenant's database lets nobody in, so that it is not backed up.
    TenantClosed,
    /// A backup would bring back less than half of what those before it bring back.
    BackupSmall,
    /// Discovery finds nobody, or a cluster lost many of its tenants.
    DiscoveryLoss,
    /// Databases that no rule makes a tenant, and that are not backed up.
    Unassigned,
    /// Several databases answer to one tenant's name.
    Ambiguous,
    /// Something in vault or keyring is damaged, missing or not to be trusted.
    Integrity,
    /// One key restored more tenants in a day than is usual.
    UnusualVolume,
    /// Something of an erased tenant is there again.
    ErasedReturned,
    /// Backups are kept for another time than before, or than the policy says now.
    RetentionChanged,
    /// The clocks of this host, a store and a cluster do not agree.
    ClockSkew,
    /// An erasure, a purge or a drop was begun, and is not through long after.
    ErasureOpen,
    /// The keyring lost a key, or a part of one.
    KeyLost,
    /// The keyring has a key record that is not to be trusted.
    KeyForeign,
    /// A cluster could not be asked.
    ClusterUnreachable,
    /// A store could not be asked.
    StoreUnreachable,
    /// A schedule's run did not end well.
    ScheduleFailed,
    /// A schedule's file is broken: what was read before goes on.
    ScheduleBroken,
    /// A channel of notification does not work.
    ChannelFailed,
}

impl AlarmKind {
    /// The word for it, as `--json` has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TenantLate => "tenant-late",
            Self::TenantMissing => "tenant-missing",
            Self::TenantNever => "tenant-never",
            Self::TenantMoved => "tenant-moved",
            Self::TenantClosed => "tenant-closed",
            Self::BackupSmall => "backup-small",
            Self::DiscoveryLoss => "discovery-loss",
            Self::Unassigned => "unassigned",
            Self::Ambiguous => "ambiguous",
            Self::Integrity => "integrity",
            Self::UnusualVolume => "unusual-volume",
            Self::ErasedReturned => "erased-returned",
            Self::RetentionChanged => "retention-changed",
            Self::ClockSkew => "clock-skew",
            Self::ErasureOpen => "erasure-open",
            Self::KeyLost => "key-lost",
            Self::KeyForeign => "key-foreign",
            Self::ClusterUnreachable => "cluster-unreachable",
            Self::StoreUnreachable => "store-unreachable",
            Self::ScheduleFailed => "schedule-failed",
            Self::ScheduleBroken => "schedule-broken",
            Self::ChannelFailed => "channel-failed",
        }
    }

    /// How grave such an alarm is.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::BackupSmall
            | Self::Unassigned
            | Self::RetentionChanged
            | Self::ClockSkew
            | Self::ErasureOpen
            | Self::ChannelFailed => Severity::Warning,
            _ => Severity::Critical,
        }
    }
}

impl Severity {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Alarm {
    /// An alarm as grave as its kind, without a hint.
    #[must_use]
    pub fn new(kind: AlarmKind, object: impl ToString, message: impl Into<String>) -> Self {
        Self { kind, object: object.to_string(), severity: kind.severity(), message: message.into(), hint: String::new() }
    }

    /// The same alarm with this hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }

    /// What a failure says, as an alarm.
    #[must_use]
    pub fn of(kind: AlarmKind, object: impl ToString, failure: &Failure) -> Self {
        Self::new(kind, object, failure.one_line()).hint(&failure.hint)
    }

    /// Which alarm it is.
    #[must_use]
    pub fn identity(&self) -> (AlarmKind, &str) {
        (self.kind, &self.object)
    }
}

/// Each alarm once, the gravest first, then by kind and object. What is said twice of one object becomes one message.
#[must_use]
pub fn sorted(alarms: impl IntoIterator<Item = Alarm>) -> Vec<Alarm> {
    let mut by_identity: BTreeMap<(AlarmKind, String), Alarm> = BTreeMap::new();
    for alarm in alarms {
        match by_identity.entry((alarm.kind, alarm.object.clone())) {
            std::collections::btree_map::Entry::Vacant(entry) => _ = entry.insert(alarm),
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let there = entry.get_mut();
                if !there.message.contains(&alarm.message) {
                    there.message = format!("{}; {}", there.message, alarm.message);
                }
                there.severity = there.severity.max(alarm.severity);
            }
        }
    }
    let mut sorted: Vec<Alarm> = by_identity.into_values().collect();
    sorted.sort_by_key(|alarm| std::cmp::Reverse(alarm.severity));
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_has_one_alarm_of_a_kind_and_the_gravest_come_first() {
        let alarms = sorted([
            Alarm::new(AlarmKind::ClockSkew, "b", "it is late"),
            Alarm::new(AlarmKind::KeyLost, "a", "one"),
            Alarm::new(AlarmKind::KeyLost, "a", "two"),
            Alarm::new(AlarmKind::KeyLost, "a", "one"),
        ]);
        let said: Vec<_> = alarms.iter().map(|alarm| (alarm.identity(), alarm.message.as_str())).collect();
        assert_eq!(said, [((AlarmKind::KeyLost, "a"), "one; two"), ((AlarmKind::ClockSkew, "b"), "it is late")]);
    }

    #[test]
    fn a_kind_is_spelled_as_json_spells_it() {
        for kind in [AlarmKind::TenantLate, AlarmKind::KeyForeign, AlarmKind::ClusterUnreachable, AlarmKind::ErasedReturned] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
