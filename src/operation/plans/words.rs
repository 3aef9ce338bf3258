//! What a plan would do, in words that its signer cannot misread.

use super::shown;
use crate::{
    format::plan::{KeysChange, Plan, PlannedAct},
    printable::Printable,
    tenant::TenantName,
};

/// One clause: `purge all backups of tenant acme`.
#[must_use]
pub fn what(plan: &Plan, tenant: Option<&TenantName>) -> String {
    let of = match tenant {
        Some(tenant) => format!("of tenant {}", Printable(tenant.as_str())),
        None if plan.name_tag == crate::format::plan::EVERYBODY => "of every tenant that is there now".to_owned(),
        None => format!("of the tenant with tag {}", plan.name_tag),
    };
    match plan.act {
        PlannedAct::PurgeAll => format!("purge all backups {of}"),
        PlannedAct::PurgeReturned => format!("purge what was put back of what was purged {of}"),
        PlannedAct::PurgeBefore { before } => format!("purge the backups {of} taken before {}", shown(before)),
        PlannedAct::Drop => format!("drop the LIVE database {of}"),
        PlannedAct::Erase { grace_until } if grace_until <= plan.created_at => format!("erase everything {of} AT ONCE"),
        PlannedAct::Erase { grace_until } => format!("erase everything {of}, and nothing before {}", shown(grace_until)),
        PlannedAct::Release => format!("release holds {of}"),
        PlannedAct::Admit => format!("admit other databases as sources {of}"),
        PlannedAct::Keys { change: KeysChange::Rotate } => format!("make new keys {of}"),
        PlannedAct::Keys { change: KeysChange::Rewrap } => format!("wrap the keys {of} anew"),
        PlannedAct::Keys { change: KeysChange::Prune } => format!("destroy keys {of} that no backup needs"),
        PlannedAct::Keys { change: KeysChange::Repair } => "put lost copies of keys back".to_owned(),
    }
}

/// What follows from it, and all that it is bound to, line by line.
#[must_use]
pub fn details(plan: &Plan) -> Vec<String> {
    let (lockers, keys) = (plan.lockers.len(), plan.keys().count());
    let manifests: u64 = plan.lockers.iter().map(|planned| planned.manifests).sum();
    let named: usize = plan.lockers.iter().map(|planned| planned.backups.len()).sum();
    let mut lines = vec![match plan.act {
        PlannedAct::PurgeAll => format!(
            "every copy of {keys} keys is destroyed, in the keyring and its mirrors; {manifests} backups were there, and none can ever be read again; \
             the live database stays"
        ),
        PlannedAct::PurgeReturned => {
            format!("whatever there is again of {keys} keys and {lockers} lockers is destroyed; later backups stay")
        }
        PlannedAct::PurgeBefore { .. } => format!("{named} of {manifests} backups are removed; later ones and the keys stay"),
        PlannedAct::Drop => "the live database goes, on its primary and every replica; backups and keys stay".to_owned(),
        PlannedAct::Erase { .. } => format!(
            "the live database goes, on its primary and every replica; every copy of {keys} keys is destroyed, in the keyring and its mirrors; \
             {manifests} backups were there, and none can ever be read again; the tenant never comes back"
        ),
        PlannedAct::Release => format!("{} holds end: from then on backups may expire and be purged", plan.bound.holds.len()),
        PlannedAct::Admit => {
            format!("backups of {} tenants are taken from the databases below from then on", plan.bound.sources.len())
        }
        PlannedAct::Keys { change: KeysChange::Rotate } => {
            format!("new keys take the place of the newest of these {keys}; backups stay readable with theirs")
        }
        PlannedAct::Keys { change: KeysChange::Rewrap } => {
            format!("{keys} keys can be opened by the recipients below from then on, and by nobody else")
        }
        PlannedAct::Keys { change: KeysChange::Prune } => {
            format!("of these {keys} keys those are destroyed that were superseded and that no backup is sealed with")
        }
        PlannedAct::Keys { change: KeysChange::Repair } => {
            format!("{} objects are written, none is replaced", plan.bound.objects.len())
        }
    }];
    lines.extend(plan.lockers.iter().flat_map(|planned| {
        let cluster = planned.cluster.as_deref().map(|cluster| format!(" on cluster {}", Printable(cluster))).unwrap_or_default();
        let keys = planned.keys.iter().map(move |key| format!("key {key} of locker {}", planned.locker));
        let backups = planned.backups.iter().map(|purged| format!("backup {}", purged.backup));
        std::iter::once(format!("locker {}{cluster}", planned.locker)).chain(keys).chain(backups).collect::<Vec<_>>()
    }));
    let bound = &plan.bound;
    lines.extend(bound.holds.iter().map(|hold| format!("hold {hold}")));
    lines.extend(bound.sources.iter().map(|source| {
        format!(
            "database with OID {} on the server with system identifier {} (cluster {}) for locker {}",
            source.database_oid,
            Printable(&source.system_identifier),
            Printable(&source.cluster),
            source.locker
        )
    }));
    lines.extend(plan.databases.iter().map(|database| {
        format!(
            "database with OID {} on the server with system identifier {} (cluster {}) is dropped",
            database.database_oid,
            Printable(&database.system_identifier),
            Printable(&database.cluster)
        )
    }));
    lines.extend(bound.recipients.iter().map(|recipient| format!("recipient {}", Printable(recipient))));
    lines.extend(bound.objects.iter().map(|object| format!("object {}", Printable(object))));
    lines.extend(bound.reference.iter().map(|reference| format!("reference {}", Printable(reference))));
    lines
}

/// `1 signature`, `2 signatures`.
pub(super) fn signatures(n: impl Into<u64>) -> String {
    let n = n.into();
    format!("{n} signature{}", if n == 1 { "" } else { "s" })
}
