//! What lies under `erased/` in the vault and in the keyring: tombstones, and what was said of them since.

use std::collections::BTreeSet;

use super::{Audit, Draft, blank};
use crate::{
    format::erasure_note::{ErasureNote, ErasureSays},
    object_name::{Document, ObjectName, prefix},
    operation::{erased, failure::Failure},
    signed::{self, DocumentError},
    store::Store,
    vault::list_named,
};

impl Audit<'_> {
    /// Each is listed once, where it is whole; and what is not to be trusted wherever it lies.
    pub(super) async fn erasures(&self, drafts: &mut Vec<Draft>, leftovers: &mut Vec<String>) -> Result<(), Failure> {
        let mut listed = BTreeSet::new();
        for store in [self.vault.store(), self.keyring.store()] {
            for draft in self.erasures_in(store, leftovers).await? {
                let is_bad = draft.entry.problem.is_some();
                let name = draft.entry.object.strip_prefix(store.address()).unwrap_or_default().to_owned();
                if is_bad || listed.insert(name) {
                    drafts.push(draft);
                }
            }
        }
        Ok(())
    }

    async fn erasures_in(&self, store: &dyn Store, leftovers: &mut Vec<String>) -> Result<Vec<Draft>, Failure> {
        let failed = |error| signed::store_error(store, &prefix::ERASED, error);
        let (named, foreign) = list_named(store, prefix::ERASED).await.map_err(failed)?;
        let documents: BTreeSet<String> = named.iter().map(|(name, _)| name.to_string()).collect();
        let trust = (self.vault.signers(), self.vault.root().installation);
        let mut drafts = Vec::new();
        for (name, object) in named {
            match name {
                ObjectName::Document(document @ Document::Tombstone(tag, _)) => {
                    let read = erased::read_signed(store, trust, &document, Some(object.modified)).await;
                    if let Err(error @ DocumentError::Store { .. }) = read {
                        return Err(error.into());
                    }
                    let mut draft = Self::draft_in(store, (document, object.modified, read), fill);
                    draft.tags.insert(tag);
                    drafts.push(draft);
                }
                ObjectName::Signature(document) if documents.contains(&document.to_string()) => {}
                name @ ObjectName::Signature(_) => leftovers.push(signed::locate(store, &name)),
                name => {
                    let mut draft = blank(signed::locate(store, &name), object.modified, "unknown", "");
                    draft.entry.problem = Some("it does not belong there".to_owned());
                    drafts.push(draft);
                }
            }
        }
        drafts.extend(foreign.into_iter().map(|name| {
            let mut draft = blank(signed::locate(store, &name), chrono::DateTime::<chrono::Utc>::MAX_UTC, "unknown", "");
            draft.entry.problem = Some("it is no object of ours".to_owned());
            draft
        }));
        Ok(drafts)
    }
}

fn fill(note: &ErasureNote, draft: &mut Draft) {
    draft.entry.at = note.created_at;
    "tombstone".clone_into(&mut draft.entry.kind);
    let (what, plan) = match &note.says {
        ErasureSays::Erased { .. } => ("erased", Some(note.id)),
        ErasureSays::Withdrawn { tombstone } => ("withdrawn", Some(*tombstone)),
        ErasureSays::Admitted { .. } => ("admitted", None),
    };
    what.clone_into(&mut draft.entry.what);
    draft.entry.plan = plan.map(|plan| plan.to_string());
}
