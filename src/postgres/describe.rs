//! From catalogs to the description and the jobs for readers.

use std::{collections::BTreeSet, sync::Arc};

use tokio_postgres::error::SqlState;

use super::{
    catalog::{
        CatalogError,
        large_objects::{Block, LargeObjectFile},
        relations::Relation,
    },
    large_objects::LargeObjectRead,
    snapshot::{Facts, Snapshot},
    source::{Job, Read, Source, TINY_PAGES, TableRead, group, ranges},
    source_tag::{RelationFile, SourceTagger},
};
use crate::{
    format::description::{Description, LargeObjectBlock, NotCaptured, Range, Table},
    tenant::TenantName,
};

/// What is to be described.
pub struct Describing<'a> {
    /// The tenant.
    pub tenant: &'a TenantName,
    /// The name of its cluster in the configuration.
    pub cluster: &'a str,
    /// Version line of the `pg_dump` that writes the schema archive.
    pub pg_dump: &'a str,
    /// Tables whose rows are left out: `schema.name`, where `*` stands for any text. Partitions follow their parent.
    pub exclude_data: &'a [String],
    /// Tags the sources, under the tenant's key.
    pub tagger: &'a SourceTagger,
}

/// What there is to read.
#[derive(Debug, Clone)]
pub struct Described {
    /// The description, without warnings of `pg_dump`.
    pub description: Description,
    /// Everything that is to be read besides the schema archive, the largest tables first.
    pub jobs: Vec<Job>,
}

/// A database that could not be described.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    /// A catalog could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A sequence was replaced.
    #[error("sequence {sequence} of database {database:?} was replaced while it was read")]
    SequenceReplaced {
        /// The sequence, qualified and quoted.
        sequence: String,
        /// The database.
        database: String,
    },
}

impl DescribeError {
    /// Whether somebody else held a sequence for too long.
    #[must_use]
    pub fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Catalog(error) if error.source.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }
}

impl Describing<'_> {
    /// Describes the snapshot's database.
    ///
    /// # Errors
    /// If a catalog cannot be read, or a sequence was replaced meanwhile.
    pub async fn describe(&self, snapshot: &Snapshot) -> Result<Described, DescribeError> {
        let facts = snapshot.facts();
        let leader = snapshot.leader().await;
        let catalog = snapshot.catalog(&leader);
        let relations = catalog.relations().await?;
        let sequences = catalog
            .sequences()
            .await?
            .map_err(|sequence| DescribeError::SequenceReplaced { sequence, database: facts.database.clone() })?;
        let blocks = catalog.large_object_blocks().await?;
        let large_object_file = catalog.large_object_file().await?;
        let database = catalog.database().await?;
        let subscriptions = catalog.subscriptions().await?;

        let mut not_captured = not_captured_tables(&relations, self.exclude_data);
        not_captured.extend(database.tablespace.as_deref().map(tablespace));
        not_captured.extend(subscriptions.iter().map(|name| {
            entry("subscription", name.clone(), "its state on the publisher is not in a dump; it comes back disabled, if allowed")
        }));
        not_captured.extend(
            catalog
                .tables_in_system_schemas()
                .await?
                .into_iter()
                .map(|table| entry("table in a system schema", table, "pg_dump leaves schemas of the system out")),
        );
        not_captured.extend(catalog.unreadable_large_objects().await?.into_iter().map(|unreadable| {
            entry(
                NotCaptured::UNREADABLE,
                format!("{} of role {}", unreadable.count, unreadable.owner),
                "the backup role may not read them: make it a member of that role, or grant it SELECT ON LARGE OBJECT",
            )
        }));
        if catalog.labelled_large_objects().await? > 0 {
            not_captured.push(entry("security labels", "of large objects".to_owned(), "they are not carried over"));
        }
        not_captured.sort_unstable();
        not_captured.dedup();

        let (tables, mut jobs) = self.tables(facts, &relations);
        let (large_objects, blocks) = self.large_objects(facts, blocks, large_object_file);
        jobs.extend(blocks);
        // Largest first, so that no reader is left with the largest one at the end; the sort is stable.
        jobs.sort_by_key(|job| std::cmp::Reverse(job.disk_bytes()));

        let description = Description {
            format: 1,
            tenant: self.tenant.clone(),
            cluster: self.cluster.to_owned(),
            server_version_num: facts.version_num,
            pg_dump: self.pg_dump.to_owned(),
            roles: catalog.roles().await?,
            extensions: catalog.extensions().await?,
            untrusted_functions: catalog.untrusted_functions().await?,
            event_triggers: catalog.event_triggers().await?,
            database,
            subscriptions,
            schema_archive: self.tagger.schema(facts.files),
            tables,
            sequences,
            large_objects,
            not_captured,
            warnings: Vec::new(),
        };
        Ok(Described { description, jobs })
    }

    /// `relations` are in order of OID, and so are tiny tables in their groups.
    fn tables(&self, facts: &Facts, relations: &[Relation]) -> (Vec<Table>, Vec<Job>) {
        let mut tables = Vec::new();
        let mut jobs = Vec::new();
        let mut tiny = Vec::new();
        for relation in relations.iter().filter(|relation| has_rows_here(relation) && !excluded(relation, self.exclude_data)) {
            let filter = relation.extension_condition.clone().filter(|condition| !condition.trim().is_empty());
            let read = Arc::new(TableRead {
                oid: relation.oid,
                schema: relation.schema.clone(),
                name: relation.name.clone(),
                columns: relation.columns.clone(),
                filter: filter.clone(),
                encoding: facts.encoding.clone(),
            });
            let file = RelationFile {
                database: facts.files,
                tablespace_oid: relation.tablespace_oid,
                relfilenode: relation.relfilenode,
                columns: &relation.columns,
                filter: filter.as_deref(),
            };
            let by_page = relation.heap && filter.is_none() && !relation.runs_code;
            let borders = ranges(if by_page { relation.pages } else { 0 }).collect::<Vec<_>>();
            let pages = u64::from(relation.pages) + relation.toast_pages;
            let disk_bytes = pages * relation.page_bytes / borders.len() as u64;
            let sources = borders.into_iter().map(|(from, to)| Source {
                tag: self.tagger.rows(&file, from, to),
                read: Read::Rows { table: Arc::clone(&read), from, to },
                disk_bytes,
            });
            let sources = sources.collect::<Vec<_>>();
            tables.push(Table {
                schema: relation.schema.clone(),
                name: relation.name.clone(),
                owner: relation.owner.clone(),
                columns: relation.columns.iter().map(|column| column.name.clone()).collect(),
                extension_member: relation.extension_member,
                filter,
                ranges: sources.iter().filter_map(range).collect(),
            });
            if pages <= TINY_PAGES {
                tiny.extend(sources.into_iter().map(|source| (source, pages)));
            } else {
                jobs.extend(sources.into_iter().map(Job::Single));
            }
        }
        jobs.extend(group(tiny));
        tables.sort_unstable_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        (tables, jobs)
    }

    fn large_objects(&self, facts: &Facts, blocks: Vec<Block>, file: LargeObjectFile) -> (Vec<LargeObjectBlock>, Vec<Job>) {
        let disk_bytes = file.bytes / (blocks.len() as u64).max(1);
        blocks
            .into_iter()
            .map(|block| {
                let tag = self.tagger.large_objects(facts.files, file.tablespace_oid, file.relfilenode, block.first_oid);
                let read = Read::LargeObjects(LargeObjectRead { first_oid: block.first_oid, left_out: block.unreadable });
                let described =
                    LargeObjectBlock { source: tag, first_oid: block.first_oid, count: block.count, groups: block.groups };
                (described, Job::Single(Source { tag, read, disk_bytes }))
            })
            .unzip()
    }
}

fn range(source: &Source) -> Option<Range> {
    match source.read {
        Read::Rows { from, to, .. } => Some(Range { source: source.tag, from, to }),
        Read::LargeObjects(_) => None,
    }
}

/// The rows of an extension's own table come with the extension, unless it asks for them to be dumped.
fn has_rows_here(relation: &Relation) -> bool {
    !relation.foreign && (!relation.extension_member || relation.extension_condition.is_some())
}

fn excluded(relation: &Relation, patterns: &[String]) -> bool {
    let name = format!("{}.{}", relation.schema, relation.name);
    std::iter::once(&name).chain(&relation.ancestors).any(|name| patterns.iter().any(|pattern| matches(pattern, name)))
}

/// Whether `pattern`, in which `*` stands for any text, is all of `name`.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(head) else { return false };
    rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| matches(tail, &rest[at..]))
}

fn not_captured_tables(relations: &[Relation], exclude_data: &[String]) -> Vec<NotCaptured> {
    let tables = relations.iter().filter(|relation| relation.foreign || has_rows_here(relation)).filter_map(|relation| {
        let name = format!("{}.{}", relation.schema, relation.name);
        if relation.foreign {
            Some(entry("rows of a foreign table", name, "they live on another server"))
        } else if excluded(relation, exclude_data) {
            Some(entry("rows of a table", name, "exclude_data says so"))
        } else {
            None
        }
    });
    let tablespaces: BTreeSet<&str> = relations.iter().filter_map(|relation| relation.tablespace.as_deref()).collect();
    tables.chain(tablespaces.into_iter().map(tablespace)).collect()
}

fn tablespace(name: &str) -> NotCaptured {
    entry("tablespace", name.to_owned(), "what lies in it is restored into the default tablespace")
}

fn entry(kind: &str, object: String, reason: &str) -> NotCaptured {
    NotCaptured { kind: kind.to_owned(), object, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_are_anchored() {
        for (pattern, name, expected) in [
            ("public.sessions", "public.sessions", true),
            ("public.sessions", "public.sessions2", false),
            ("public.sessions", "Xpublic.sessions", false),
            ("public.*", "public.a", true),
            ("*.log", "a.b.log", true),
            ("*_log_*", "public.x_log_2", true),
            ("*_log_*", "public.xlog_2", false),
            ("*", "", true),
            ("a*é", "aé", true),
            ("a*é*", "aéé", true),
            ("public.sess%", "public.sessions", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
