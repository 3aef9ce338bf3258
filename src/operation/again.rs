//! What lies where a purge was: still, because it is locked or the purge is not through; or again, because somebody put it back.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{format::plan::Step, id::RecordId, signed::DocumentError, vault::Vault};

/// Why something is there that a purge let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum There {
    /// The purge is not through.
    Unfinished,
    /// A lock kept it, or keeps it still.
    Locked,
    /// Somebody put it there after the purge.
    Again,
}

/// How far the purges have come that some notes belong to.
#[derive(Debug)]
pub struct Purges {
    /// Until when they removed what can be removed, where a lock may have kept the rest.
    locked_before: Option<DateTime<Utc>>,
    /// Whether no run that began before can write any more.
    is_through: bool,
}

impl Purges {
    /// Reads the marks of the plans that these notes belong to.
    ///
    /// # Errors
    /// A mark that cannot be read or trusted; a store that cannot be reached.
    pub async fn of(vault: &Vault, notes: impl IntoIterator<Item = RecordId>, now: DateTime<Utc>) -> Result<Self, DocumentError> {
        let settle = TimeDelta::seconds(i64::try_from(vault.root().settle_seconds).unwrap_or(i64::MAX / 1_000));
        let (mut emptied, mut is_through) = (None, false);
        for note in notes {
            if let Some(mark) = vault.mark(note, Step::Emptied).await? {
                emptied = emptied.max(Some(mark.at));
                is_through |= mark.at + settle <= now;
            }
            is_through |= vault.mark(note, Step::Closed).await?.is_some_and(|mark| mark.found.void.is_none());
        }
        let failed = |source| crate::signed::store_error(vault.store(), &"", source);
        let can_lock = vault.store().can_lock().await.map_err(failed)? != Some(false);
        Ok(Self { locked_before: emptied.filter(|_| can_lock), is_through })
    }

    /// Why an object is there that the store got then.
    #[must_use]
    pub fn why(&self, stored_at: DateTime<Utc>) -> There {
        if !self.is_through {
            There::Unfinished
        } else if self.locked_before.is_some_and(|emptied| stored_at <= emptied) {
            There::Locked
        } else {
            There::Again
        }
    }
}
