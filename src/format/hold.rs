//! Holds: `h/<id>.json`, signed by an operator.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::id::{InstallationId, Locker, RecordId};

/// A hold, or the release of one. While a hold is not released, nothing of its locker expires, is purged, or loses its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// 1.
    pub format: u32,
    /// Installation.
    pub installation: InstallationId,
    /// Must equal the locker in the object's name.
    pub locker: Locker,
    /// Must equal the id in the object's name.
    pub id: RecordId,
    /// Which of the two.
    pub act: HoldAct,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// A hold, or a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case", deny_unknown_fields)]
pub enum HoldAct {
    /// A hold.
    Placed {
        /// The reason, sealed to the tenant's key, as an age file in ASCII armour: no free text stands in clear in the vault.
        reason: String,
    },
    /// The end of one.
    Released {
        /// Which.
        hold: RecordId,
    },
}
