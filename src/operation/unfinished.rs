//! Purges and drops that were begun and are not closed, and plans that are not to be trusted, for who looks at everybody.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};

use super::{
    failure::{Failure, FailureClass},
    purge::command,
};
use crate::{
    format::plan::{Plan, PlannedAct, Step},
    id::NameTag,
    keyring::Keyring,
    object_name::{Document, ObjectName, prefix},
    signed::{self, DocumentError},
    tenant::TenantName,
    vault::{Vault, list_named},
};

/// A purge, a drop or an erasure that was begun and is not through, or a plan that is not to be trusted.
pub(super) struct Unfinished {
    /// Whose, where that is known.
    pub(super) tenant: Option<TenantName>,
    /// Since when it could be through: the end of an erasure's grace, else when it was planned.
    pub(super) since: DateTime<Utc>,
    /// Whether it is an erasure's plan.
    pub(super) is_erasure: bool,
    /// Whether it waits for nobody: its grace lasts, or locks alone keep something.
    pub(super) rests: bool,
    /// What is said of it.
    pub(super) failure: Failure,
}

/// Every purge and drop that waits for another run of it, and every open plan that is not to be trusted, each with its tenant where `names` has it.
/// One whose keys are all destroyed, and of which only locks keep something, waits for nobody until they end.
///
/// # Errors
/// A store that cannot be reached.
pub(super) async fn purges(
    vault: &Vault,
    keyring: &Keyring,
    names: &BTreeMap<NameTag, TenantName>,
    now: DateTime<Utc>,
) -> Result<Vec<(Option<TenantName>, Failure)>, Failure> {
    let all = begun(vault, keyring, names, now).await?.into_iter();
    Ok(all.filter(|one| !one.rests).map(|one| (one.tenant, one.failure)).collect())
}

/// As [`purges`], and those that wait for nobody yet.
///
/// # Errors
/// As [`purges`].
pub(super) async fn begun(
    vault: &Vault,
    keyring: &Keyring,
    names: &BTreeMap<NameTag, TenantName>,
    now: DateTime<Utc>,
) -> Result<Vec<Unfinished>, Failure> {
    let mut found = Vec::new();
    let open = vault.listed_plans(|steps| !steps.contains(&Step::Closed)).await?;
    let is_erasure = |plan: &&Plan| matches!(plan.act, PlannedAct::Erase { .. });
    let of_erasures: BTreeSet<NameTag> =
        open.iter().filter_map(|listed| listed.plan.as_ref().ok()).filter(is_erasure).map(|plan| plan.name_tag).collect();
    for listed in open {
        let (begun, stored_at) = (listed.is_begun(), listed.stored_at);
        let doubtful = |error: DocumentError| Unfinished {
            tenant: None,
            since: stored_at,
            is_erasure: false,
            rests: false,
            failure: error.into(),
        };
        // A step that the eraser did not sign says nothing, and nobody goes on with the plan while it is there.
        found.extend(listed.wrong.into_iter().map(doubtful));
        let plan = match listed.plan {
            Ok(plan) => plan,
            Err(error) => {
                found.push(doubtful(error));
                continue;
            }
        };
        // What waits for signatures, or is an operator's, was not begun by anybody whom it could wait for.
        if !["purge", "drop", "erase"].contains(&plan.act.verb()) || !begun {
            continue;
        }
        // What an erasure consists of is gone on with by it.
        if !matches!(plan.act, PlannedAct::Erase { .. }) && of_erasures.contains(&plan.name_tag) {
            continue;
        }
        let tenant = match names.get(&plan.name_tag) {
            Some(tenant) => Some(tenant.clone()),
            None => name_in_mirrors(keyring, plan.name_tag).await,
        };
        let (is_erasure, grace_until) = match plan.act {
            PlannedAct::Erase { grace_until } => (true, Some(grace_until)),
            _ => (false, None),
        };
        // Before its grace is over it waits for nobody.
        let in_grace = grace_until.is_some_and(|until| until > now);
        let (rests, failure) = match is_locked(vault, &plan, &listed.steps, now).await {
            Ok(is_locked) => (in_grace || is_locked, still_open(vault, &plan, &listed.steps, tenant.as_ref())),
            Err(error @ DocumentError::Store { .. }) => return Err(error.into()),
            Err(error) => (in_grace, error.into()),
        };
        let since = grace_until.unwrap_or(plan.created_at).max(plan.created_at);
        found.push(Unfinished { tenant, since, is_erasure, rests, failure });
    }
    Ok(found)
}

/// The name of a tenant whose record is in a mirror alone. Nothing is decided by it: a mirror that does not answer tells none.
async fn name_in_mirrors(keyring: &Keyring, tag: NameTag) -> Option<TenantName> {
    for mirror in keyring.mirrors() {
        let (named, _) = list_named(&**mirror, &prefix::key_records(tag)).await.unwrap_or_default();
        for (name, listed) in named {
            if let ObjectName::Document(Document::KeyRecord(tag, key_id)) = name
                && let Ok((_, record)) = keyring.whole_record(&**mirror, tag, key_id, Some(listed.modified)).await
            {
                return Some(record.tenant);
            }
        }
    }
    None
}

/// Whether locks alone keep a purge from its end.
async fn is_locked(vault: &Vault, plan: &Plan, steps: &BTreeSet<Step>, now: DateTime<Utc>) -> Result<bool, DocumentError> {
    let is_through = steps.contains(&Step::KeysDestroyed) && steps.contains(&Step::Emptied);
    if !is_through || matches!(plan.act, PlannedAct::PurgeBefore { .. } | PlannedAct::Drop | PlannedAct::Erase { .. }) {
        return Ok(false);
    }
    // By what the eraser signed, not by the names alone.
    let are_destroyed = vault.keys_are_destroyed(plan.id).await?;
    let emptied = vault.mark(plan.id, Step::Emptied).await?;
    let until = emptied.and_then(|mark| mark.found.locked_until.filter(|_| mark.found.locked > 0));
    Ok(are_destroyed && until.is_some_and(|until| until > now))
}

fn still_open(vault: &Vault, plan: &Plan, steps: &BTreeSet<Step>, tenant: Option<&TenantName>) -> Failure {
    let shown = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let planned = shown(plan.created_at);
    let of_what = match plan.act {
        PlannedAct::PurgeReturned => "of what was put back".to_owned(),
        PlannedAct::PurgeBefore { before } => format!("of the backups taken before {}", shown(before)),
        PlannedAct::Drop => "of the live database".to_owned(),
        PlannedAct::Erase { grace_until } => format!("that nothing kept from going on since {}", shown(grace_until)),
        _ => "of everything".to_owned(),
    };
    let command = command(tenant, plan.act);
    let destroys_keys = !matches!(plan.act, PlannedAct::PurgeBefore { .. } | PlannedAct::Drop | PlannedAct::Erase { .. });
    let is_drop = plan.act == PlannedAct::Drop;
    let (verb, kind) = match plan.act.verb() {
        "drop" => ("drop", "drop-open"),
        "erase" => ("erasure", "erasure-open"),
        _ => ("purge", "purge-open"),
    };
    let is_erasure = matches!(plan.act, PlannedAct::Erase { .. });
    let so_far = if is_erasure && steps.contains(&Step::Destroying) {
        "its live database or its backups are not all gone"
    } else if is_drop && steps.contains(&Step::Dropped) {
        "it is gone from the primary, and may live on on a replica"
    } else if is_drop {
        "it may be there, and may let nobody in"
    } else if !steps.contains(&Step::Destroying) {
        "nothing is destroyed yet"
    } else if destroys_keys && !steps.contains(&Step::KeysDestroyed) {
        "a copy of its keys may still be there, in the keyring or a mirror"
    } else {
        "what it lets go of is not all removed, or nobody has looked again that it is"
    };
    let lockers: Vec<String> = plan.lockers.iter().map(|planned| planned.locker.to_string()).collect();
    let (whose, hint) = match tenant {
        Some(tenant) => (format!("tenant {tenant}"), format!("{command} goes on with it.")),
        None => (
            format!("a tenant that the keyring does not know any more (locker {})", lockers.join(", ")),
            format!("{command} goes on with it: TENANT is the name that was typed at {planned}; no store says it in clear."),
        ),
    };
    let object = signed::locate(vault.store(), &format!("{}{}/", prefix::PLANS, plan.id));
    let message = format!("the {verb} {of_what} of {whose}, planned at {planned}, is still open: {so_far}");
    Failure::new(FailureClass::SomeTenants, kind, object, message).hint(hint)
}
