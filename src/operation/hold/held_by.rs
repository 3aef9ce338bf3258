//! The holds that a tenant is under, for who looks.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    format::hold::HoldAct,
    keyring::{Keyring, TenantKeys},
    operation::failure::Failure,
    seal::{RecoveryIdentity, open_text},
    vault::{Vault, holds::ActiveHold},
};

/// A hold that a tenant is under.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct HeldBy {
    /// Its id.
    pub hold: String,
    /// Since when.
    pub placed_at: DateTime<Utc>,
    /// Who: the principal whose key signed it.
    pub placed_by: String,
    /// Why; null without an identity that opens the tenant's key.
    pub reason: Option<String>,
}

/// The holds that a tenant is under, each once, and records that cannot be read and count as holds. With an identity also why.
///
/// # Errors
/// A store that cannot be reached; a key that cannot be opened.
pub async fn held_by(
    vault: &Vault,
    keyring: &Keyring,
    keys: &TenantKeys,
    identity: Option<&RecoveryIdentity>,
) -> Result<(Vec<HeldBy>, Vec<String>), Failure> {
    let (mut active, mut unreadable) = (BTreeMap::new(), Vec::new());
    for locker in keys.lockers() {
        let holds = vault.holds(locker).await?;
        active.extend(holds.active.into_iter().map(|held| ((held.hold.created_at, held.hold.id), held)));
        unreadable.extend(holds.unreadable.iter().map(|error| format!("{error}; it may be a hold, and counts as one")));
        unreadable.extend(holds.lost.iter().map(|id| {
            format!("of record {id} in h/ only the signature is there; it may be a hold, and counts as one until `tenure release --hold {id}`")
        }));
    }
    let mut opened = Vec::new();
    if let Some(identity) = identity.filter(|_| !active.is_empty()) {
        for record in keys.records.iter().rev() {
            let wrapped = keyring.secret_half(record).await?;
            opened.push(identity.unwrap(&wrapped).map_err(|error| Failure::wrong_identity(&keys.tenant, error))?);
        }
    }
    let held = active.into_values().map(|ActiveHold { hold, placed_by }| {
        let reason = match &hold.act {
            HoldAct::Placed { reason } => opened.iter().find_map(|key| open_text(key, reason).ok()),
            HoldAct::Released { .. } => None,
        };
        HeldBy { hold: hold.id.to_string(), placed_at: hold.created_at, placed_by, reason }
    });
    Ok((held.collect(), unreadable))
}
