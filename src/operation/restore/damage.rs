//! What a damaged object hurts: which tables of this backup, which other backups, and which is the newest without it.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use super::{Restorer, content::Content, rows};
use crate::{
    backup_id::BackupId,
    format::{description::Description, index_page::Entry, manifest::Manifest},
    id::{ChunkName, Locker, Sha256Digest},
    object_name::ObjectName,
    operation::failure::Failure,
    vault::history::History,
};

/// So many tables and backups are named; the rest is counted.
const NAMED: usize = 10;

/// Where damage is looked for.
pub(super) struct Damage<'a> {
    pub restorer: &'a Restorer<'a>,
    pub histories: &'a [(Locker, History)],
    pub chosen: BackupId,
    pub now: DateTime<Utc>,
    /// Whether the restore goes on past what it can.
    pub salvage: bool,
}

/// A damaged object. The same content may be stored again under another birth, and then that copy is not hurt.
enum Hurt {
    Chunk(ChunkName, Option<BackupId>),
    Page(Sha256Digest, BackupId),
}

impl Hurt {
    fn is(&self, entry: &Entry) -> bool {
        matches!(self, Self::Chunk(name, birth) if *name == entry.name && birth.is_none_or(|birth| birth == entry.birth))
    }
}

impl Damage<'_> {
    /// The same failure, saying what is hurt, when it is about a damaged object; unchanged otherwise.
    pub(super) async fn explain(&self, failure: Failure, content: Option<(&Content, &Description)>) -> Failure {
        if !matches!(failure.kind, "damaged-object" | "untrusted-object") {
            return failure;
        }
        let Some(hurt) = self.parse(&failure.object) else { return failure };
        let mut failure = failure;
        if let (Hurt::Chunk(..), Some((content, description))) = (&hurt, content) {
            let tables = tables_in(&hurt, content, description);
            if !tables.is_empty() {
                failure.message.push_str(&format!("; it holds {}", some(&tables)));
            }
        }
        if self.salvage {
            failure.message.push_str("; without it nothing can be built");
        }
        let (mut backups, mut whole) = (Vec::new(), None);
        let mut pages = HashMap::new();
        for (locker, history) in self.histories {
            for backup in history.live(self.now) {
                match self.needs(*locker, &backup.manifest, &hurt, &mut pages).await {
                    Some(true) => backups.push(backup.manifest.backup.to_string()),
                    Some(false) => {
                        let newer = whole.is_none_or(|(taken_at, _)| taken_at < backup.manifest.taken_at);
                        if newer {
                            whole = Some((backup.manifest.taken_at, backup.manifest.backup));
                        }
                    }
                    None => {}
                }
            }
        }
        if !backups.is_empty() {
            failure.message.push_str(&format!("; backups hurt: {}", some(&backups)));
        }
        failure.hint = match whole {
            Some((_, backup)) if backup != self.chosen => {
                format!(
                    "The target is as it was. The newest backup that does not need it is {backup}: restore that with --backup {backup}."
                )
            }
            _ => "The target is as it was. Every backup needs it: look for a copy of the vault that still has it.".to_owned(),
        };
        // What is read before the content is known, and is no page of it, is the description or the schema: nothing comes back without.
        failure.hint.push_str(match (&hurt, content) {
            _ if self.salvage => "",
            (Hurt::Chunk(..), Some(_)) => " What is left of this one comes back with --salvage --into NAME.",
            (Hurt::Chunk(..), None) => "",
            (Hurt::Page(..), _) => {
                " What is left of this one comes back with --salvage --into NAME, unless it is the schema that the page leads to."
            }
        });
        failure
    }

    fn parse(&self, object: &str) -> Option<Hurt> {
        if let Ok(chunk) = object.parse::<ChunkName>() {
            return Some(Hurt::Chunk(chunk, None));
        }
        let name = object.strip_prefix(self.restorer.vault.store().address())?.trim_start_matches('/');
        match name.parse::<ObjectName>().ok()? {
            ObjectName::Chunk { name, birth, .. } => Some(Hurt::Chunk(name, Some(birth))),
            ObjectName::Page { sha256, birth, .. } => Some(Hurt::Page(sha256, birth)),
            _ => None,
        }
    }

    /// Whether a backup needs the object; `None` when its own index cannot be read.
    async fn needs(
        &self,
        locker: Locker,
        manifest: &Manifest,
        hurt: &Hurt,
        pages: &mut HashMap<(Sha256Digest, BackupId), Option<bool>>,
    ) -> Option<bool> {
        if let Hurt::Page(sha256, birth) = hurt {
            return Some(manifest.pages.iter().any(|page| (page.sha256, page.birth) == (*sha256, *birth)));
        }
        if manifest.description.iter().any(|entry| hurt.is(entry)) {
            return Some(true);
        }
        let mut needs = Some(false);
        for page in &manifest.pages {
            let key = (page.sha256, page.birth);
            let known = match pages.get(&key) {
                Some(known) => *known,
                None => {
                    let read = self.restorer.vault.page(locker, page).await.ok();
                    let has = read.map(|read| read.entries.iter().any(|entry| hurt.is(entry)));
                    pages.insert(key, has);
                    has
                }
            };
            match known {
                Some(true) => return Some(true),
                Some(false) => {}
                None => needs = None,
            }
        }
        needs
    }
}

fn tables_in(hurt: &Hurt, content: &Content, description: &Description) -> Vec<String> {
    let sources: BTreeSet<_> = content
        .entries()
        .iter()
        .filter(|entry| hurt.is(entry))
        .flat_map(|entry| entry.parts.iter().map(|part| part.source))
        .collect();
    let tables = description.tables.iter().filter(|table| table.ranges.iter().any(|range| sources.contains(&range.source)));
    let schema = sources.contains(&description.schema_archive).then(|| "the schema".to_owned());
    let blocks = description.large_objects.iter().filter(|block| sources.contains(&block.source));
    schema
        .into_iter()
        .chain(tables.map(|table| format!("rows of table {}", rows::shown(table))))
        .chain(blocks.map(|block| format!("large objects from OID {}", block.first_oid)))
        .collect()
}

fn some(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > NAMED { format!("{shown} and {} more", names.len() - NAMED) } else { shown }
}
