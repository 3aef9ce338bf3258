//! The signed records of what commands did, under `runs/`.

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Vault, list_named, records::Record};
use crate::{
    format::act::{Act, ActCommand, ActOutcome},
    id::RecordId,
    object_name::{Document, ObjectName, prefix},
    signature::{Namespace, SigningKey},
    signed::{self, DocumentError, Signed},
    store::StoreErrorKind,
};

/// Records read at once.
const READERS: usize = 16;

impl Vault {
    /// Records an act.
    ///
    /// # Errors
    /// As [`signed::create`].
    pub async fn put_act(&self, act: &Act, key: &SigningKey) -> Result<(), DocumentError> {
        self.create(&act.document(), act, key).await
    }

    /// The record of an act, by its id alone.
    ///
    /// # Errors
    /// As [`Vault::signed_act`].
    pub async fn act(&self, id: RecordId) -> Result<Act, DocumentError> {
        Ok(self.signed_act(id).await?.value)
    }

    /// The record of an act that began at about this time, if there is one that counts.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub(super) async fn act_about(&self, id: RecordId, about: DateTime<Utc>) -> Result<Option<Act>, DocumentError> {
        // Where the clocks of this host and the store agree no listing is needed.
        for days in [0, -1, 1] {
            let document = Document::Run((about + TimeDelta::days(days)).date_naive(), id);
            match self.record::<Act>(&document, None).await {
                Ok(signed) => return Ok(Some(signed.value)),
                Err(error @ DocumentError::Store { .. }) => return Err(error),
                Err(_) => {}
            }
        }
        match self.act(id).await {
            Ok(act) => Ok(Some(act)),
            Err(error @ DocumentError::Store { .. }) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// What the eraser wrote down before a purge destroyed anything; `None` where there is no such record, or somebody else signed it.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub(super) async fn begun_purge(&self, plan: RecordId) -> Result<Option<Act>, DocumentError> {
        let signed = match self.signed_act(plan).await {
            Ok(signed) => signed,
            Err(error @ DocumentError::Store { .. }) if !error.is_denied() => return Err(error),
            Err(_) => return Ok(None),
        };
        let erasers = self.signers().who_may(Namespace::Erasure, signed.stored_at);
        let is_erasers = erasers.iter().any(|eraser| eraser.key == signed.signer.key);
        let act = signed.value;
        let is_it = (act.command, act.outcome, act.plan) == (ActCommand::Purge, ActOutcome::Begun, Some(plan));
        Ok((is_it && is_erasers).then_some(act))
    }

    /// The records that count of acts that began on the day of `since` or later, or on the day before it: clocks differ.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn acts_since(&self, since: DateTime<Utc>) -> Result<Vec<Act>, DocumentError> {
        let first = (since - TimeDelta::days(1)).date_naive();
        let (named, _) = list_named(self.store(), prefix::RUNS)
            .await
            .map_err(|error| signed::store_error(self.store(), &prefix::RUNS, error))?;
        let recent = named.into_iter().filter_map(|(name, listed)| match name {
            ObjectName::Document(document @ Document::Run(day, _)) if day >= first => Some((document, listed.modified)),
            _ => None,
        });
        let read = stream::iter(recent)
            .map(|(document, stored_at)| async move { self.record::<Act>(&document, Some(stored_at)).await })
            .buffer_unordered(READERS)
            .filter_map(async |read| match read {
                Ok(signed) => Some(Ok(signed.value)),
                Err(error @ DocumentError::Store { .. }) => Some(Err(error)),
                // What cannot be trusted says nothing; `audit` names it.
                Err(_) => None,
            });
        read.try_collect().await
    }

    /// The ids of all records, by their names.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub(super) async fn act_ids(&self) -> Result<HashSet<RecordId>, DocumentError> {
        let named = match list_named(self.store(), prefix::RUNS).await {
            Ok((named, _)) => named,
            Err(error) if error.kind == StoreErrorKind::Denied => return Ok(HashSet::new()),
            Err(error) => return Err(signed::store_error(self.store(), &prefix::RUNS, error)),
        };
        let ids = named.into_iter().filter_map(|(name, _)| match name {
            ObjectName::Document(Document::Run(_, id)) => Some(id),
            _ => None,
        });
        Ok(ids.collect())
    }

    /// Records of acts that began on these days, by their names: each with when the store got it. [`Vault::record`] reads one.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn acts_of(
        &self,
        days: impl IntoIterator<Item = NaiveDate>,
    ) -> Result<Vec<(Document, DateTime<Utc>)>, DocumentError> {
        let mut acts = Vec::new();
        for day in days {
            let prefix = prefix::runs_of(day);
            let (named, _) =
                list_named(self.store(), &prefix).await.map_err(|error| signed::store_error(self.store(), &prefix, error))?;
            acts.extend(named.into_iter().filter_map(|(name, listed)| match name {
                ObjectName::Document(document @ Document::Run(..)) => Some((document, listed.modified)),
                _ => None,
            }));
        }
        Ok(acts)
    }

    /// Days that have folders of records, the newest first. Some stores go on naming one whose last record is gone.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn act_days(&self) -> Result<Vec<NaiveDate>, DocumentError> {
        let mut folders = vec![prefix::RUNS.to_owned()];
        // Years, months, days.
        for _ in 0..3 {
            let mut below = Vec::new();
            for folder in folders {
                let names = self.store().list_folders(&folder).await;
                let names = names.map_err(|error| signed::store_error(self.store(), &folder, error))?;
                below.extend(names.into_iter().map(|name| format!("{folder}{name}/")));
            }
            folders = below;
        }
        let day = |folder: &String| NaiveDate::parse_from_str(folder, &format!("{}%Y/%m/%d/", prefix::RUNS)).ok();
        let mut days: Vec<NaiveDate> = folders.iter().filter_map(day).collect();
        days.sort_by_key(|day| std::cmp::Reverse(*day));
        Ok(days)
    }

    /// The record of an act and who signed it.
    ///
    /// # Errors
    /// [`DocumentError::Missing`] when there is none; as [`signed::read`].
    pub async fn signed_act(&self, id: RecordId) -> Result<Signed<Act>, DocumentError> {
        let (named, _) = list_named(self.store(), prefix::RUNS)
            .await
            .map_err(|error| signed::store_error(self.store(), &prefix::RUNS, error))?;
        let found = named.into_iter().find_map(|(name, listed)| match name {
            ObjectName::Document(document @ Document::Run(_, found)) if found == id => Some((document, listed.modified)),
            _ => None,
        });
        let Some((document, stored_at)) = found else {
            return Err(DocumentError::Missing { object: format!("{}/{}…/{id}.json", self.store().address(), prefix::RUNS) });
        };
        self.record(&document, Some(stored_at)).await
    }
}

impl Record for Act {
    fn is(document: &Document) -> bool {
        matches!(document, Document::Run(..))
    }
    fn document(&self) -> Document {
        Document::Run(self.started_at.date_naive(), self.id)
    }
    fn belongs(&self, vault: &Vault) -> bool {
        self.installation == vault.root().installation
    }
}
