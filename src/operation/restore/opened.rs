//! A backup, opened: its description, its index and its schema, as far as they are asked for and can be had.

use super::{
    Request, Restorer,
    content::{ChunkReader, Content},
    failures, rows,
    salvage::{Salvage, Salvager},
    tables::{self, Selected},
};
use crate::{
    chunk::RowHasher,
    format::{description::Description, manifest::Manifest},
    operation::failure::Failure,
    postgres::restore_archive::SchemaArchive,
};

/// What is restored.
pub(super) struct Opened {
    pub description: Description,
    pub content: Content,
    pub archive: SchemaArchive,
    /// What is absent, where that is no reason to stop.
    pub salvage: Option<Salvage>,
    /// The tables, where only some are asked for.
    pub tables: Vec<Selected>,
    pub notes: Vec<String>,
}

impl Restorer<'_> {
    /// Reads a backup. `others` may have stored lost chunks anew.
    pub(super) async fn open_backup(
        &self,
        request: &Request,
        manifest: &Manifest,
        reader: &ChunkReader,
        hasher: RowHasher,
        others: Vec<&Manifest>,
    ) -> Result<Opened, Failure> {
        let tenant = &request.tenant;
        let failed = |error| failures::content(tenant, error);
        let salvager = Salvager { vault: self.vault, reader, hasher, jobs: self.jobs, budget: self.budget, others };
        let mut description = reader.description(manifest).await.map_err(failed)?;
        let (mut content, lost_pages) = match request.salvage {
            true => salvager.index(manifest, description.schema_archive).await.map_err(failed)?,
            false => (reader.content(manifest).await.map_err(failed)?, Default::default()),
        };
        let archive = rows::bytes(reader, &content, description.schema_archive).await.map_err(|error| {
            let mut failure = failed(error);
            failure.message.push_str("; it holds the schema");
            failure
        })?;
        let mut archive = SchemaArchive::new(&archive).map_err(|error| failures::archive(tenant, error))?;
        let (mut tables, mut notes) = (Vec::new(), Vec::new());
        if !request.tables.is_empty() {
            let selection = tables::select(&request.tables, &description, archive.toc())?;
            description = selection.describe(&description, archive.toc());
            archive.keep(&selection.entries);
            (tables, notes) = (selection.tables, selection.notes);
        }
        let mut salvage = None;
        if request.salvage {
            let (left, lacks) = salvager.look(content, &lost_pages, &mut description).await.map_err(failed)?;
            (content, salvage) = (left, Some(lacks));
        }
        content.check(&description).map_err(failed)?;
        Ok(Opened { description, content, archive, salvage, tables, notes })
    }
}
