//! The look at one locker: each object once, however many backups share it.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::{
    Checked, Verify,
    units::{Opener, check_unit, incomplete_sources, units},
};
use crate::{
    backup_id::BackupId,
    format::{index_page::Entry, manifest::Page, record::StoredObject},
    id::Locker,
    object_name::ObjectName,
    operation::failure::{Failure, FailureClass},
    signed,
    tenant::TenantName,
    vault::{findings::Found, history::History, locker::ObjectError},
};

/// Chunks read at once.
const READERS: usize = 4;

/// The look at one locker.
pub(super) struct Look<'a> {
    verify: &'a Verify<'a>,
    locker: Locker,
    pub(super) problems: Vec<(Option<BackupId>, String, String)>,
    pub(super) checked: Checked,
    pub(super) not_looked_at: Vec<String>,
    pub(super) notes: Vec<String>,
    /// For the next backup.
    pub(super) found: Found,
}

impl<'a> Look<'a> {
    pub(super) fn new(verify: &'a Verify<'a>, locker: Locker) -> Self {
        Self {
            verify,
            locker,
            problems: Vec::new(),
            checked: Checked::default(),
            not_looked_at: Vec::new(),
            notes: Vec::new(),
            found: Found::default(),
        }
    }

    pub(super) fn problem(&mut self, backup: Option<BackupId>, object: String, problem: String) {
        self.problems.push((backup, object, problem));
    }

    pub(super) fn note_history(&mut self, history: &History) {
        for problem in &history.problems {
            self.problem(problem.backup, problem.object.clone(), problem.what.clone());
        }
    }

    pub(super) async fn page(&mut self, backup: BackupId, page: &Page) -> Result<Vec<Entry>, Failure> {
        match self.verify.vault.page(self.locker, page).await {
            Ok(read) => {
                self.found.good.insert(StoredObject::Page { birth: page.birth, sha256: page.sha256 });
                Ok(read.entries)
            }
            Err(error @ ObjectError::Store { .. }) => Err(Failure::from(error)),
            Err(error) => {
                let name = ObjectName::Page { locker: self.locker, birth: page.birth, sha256: page.sha256 };
                self.found.damaged.insert(StoredObject::Page { birth: page.birth, sha256: page.sha256 });
                self.problem(Some(backup), signed::locate(self.verify.vault.store(), &name), damage(&error));
                Ok(Vec::new())
            }
        }
    }

    pub(super) async fn entries(
        &mut self,
        backup: BackupId,
        entries: Vec<Entry>,
        opener: Option<Arc<Opener>>,
        tenant: Option<&TenantName>,
    ) -> Result<(), Failure> {
        for (object, problem) in incomplete_sources(&entries) {
            self.problem(Some(backup), object, problem);
        }
        let units: Vec<Vec<Entry>> =
            units(entries).into_iter().filter(|unit| unit.iter().any(|entry| !self.found.good.contains(&chunk(entry)))).collect();
        let (vault, locker) = (self.verify.vault, self.locker);
        let mut results = stream::iter(units)
            .map(|unit| {
                let (vault, opener) = (vault.clone(), opener.clone());
                // A task of its own, so that chunks are opened on every core.
                tokio::spawn(async move {
                    let found = check_unit(&vault, locker, &unit, opener.as_deref()).await;
                    (unit, found)
                })
            })
            .buffer_unordered(READERS);
        let mut found = Vec::new();
        while let Some(joined) = results.next().await {
            let (unit, result) = joined.map_err(|error| {
                Failure::new(FailureClass::Failed, "panicked", "verify", "checking a chunk panicked").because(error)
            })?;
            if self.verify.cancel.is_cancelled() {
                return Err(Failure::new(FailureClass::Interrupted, "interrupted", "verify", "stopped before it was through"));
            }
            let bytes = unit.iter().map(|entry| entry.size).sum();
            if let Some(tenant) = tenant {
                self.verify.progress.advanced(tenant, bytes);
            }
            found.push((unit, result?));
        }
        drop(results);
        for (unit, problems) in found {
            for entry in &unit {
                let name = ObjectName::Chunk { locker: self.locker, birth: entry.birth, name: entry.name };
                let object = signed::locate(self.verify.vault.store(), &name);
                match problems.iter().find(|(bad, _)| *bad == entry.name) {
                    Some((_, what)) => {
                        self.found.damaged.insert(chunk(entry));
                        self.problem(Some(backup), object, what.clone());
                    }
                    None => {
                        if self.found.good.insert(chunk(entry)) {
                            self.checked.chunks += 1;
                            self.checked.bytes += entry.size;
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

pub(super) fn damage(error: &ObjectError) -> String {
    match error {
        ObjectError::Missing { .. } => "missing".to_owned(),
        ObjectError::Damaged { what, .. } => format!("damaged: {what}"),
        other => other.to_string(),
    }
}

fn chunk(entry: &Entry) -> StoredObject {
    StoredObject::Chunk { birth: entry.birth, name: entry.name }
}
