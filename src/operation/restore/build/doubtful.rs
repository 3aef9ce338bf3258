//! What may fail because rows of a salvaged backup are absent: foreign keys, and queries of materialized views. Each is tried by itself,
//! and what fails is weakened or left out, and named.

use std::collections::HashSet;

use super::{Build, schema::Schema};
use crate::{
    operation::{
        failure::Failure,
        restore::{salvage::Weakened, shown},
    },
    postgres::{
        Session,
        archive_toc::TocEntry,
        restore_plan::{Login, RestorePlan, Step},
    },
};

/// Foreign keys, and what is said about them.
#[derive(Default)]
pub(super) struct Doubtful {
    keys: Vec<(Login, u32)>,
    comments: Vec<u32>,
}

impl Doubtful {
    /// Takes them out of the plan.
    pub(super) fn take(plan: &mut RestorePlan, toc: &[TocEntry]) -> Self {
        let keys: HashSet<u32> = toc.iter().filter(|entry| entry.kind == "FK CONSTRAINT").map(|entry| entry.dump_id).collect();
        let of_keys = |entry: &&TocEntry| entry.needs.iter().any(|needed| keys.contains(needed));
        let comments: HashSet<u32> = toc.iter().filter(of_keys).map(|entry| entry.dump_id).collect();
        let mut doubtful = Self::default();
        for step in &mut plan.post_data {
            let taken = step.entries.extract_if(.., |id| keys.contains(id) || comments.contains(id));
            for id in taken {
                if keys.contains(&id) { doubtful.keys.push((step.by.clone(), id)) } else { doubtful.comments.push(id) }
            }
        }
        plan.post_data.retain(|step| !step.entries.is_empty());
        doubtful
    }
}

impl Build<'_> {
    /// Makes the foreign keys: as recorded where the rows allow it, else so that they hold for new rows only, else not at all.
    pub(super) async fn doubtful_keys(
        &self,
        schema: &Schema<'_>,
        database: &Session,
        doubtful: &Doubtful,
    ) -> Result<Vec<Weakened>, Failure> {
        let mut weakened = Vec::new();
        let mut left_out = HashSet::new();
        for (by, id) in &doubtful.keys {
            match schema.run("foreign keys", by, &[*id]).await {
                Ok(()) => continue,
                Err(failure) if failure.kind == "schema" => {}
                Err(failure) => return Err(failure),
            }
            let state = if self.without_check(schema, database, by, *id).await? {
                "not-valid"
            } else {
                left_out.insert(*id);
                "left-out"
            };
            weakened.push(Weakened { kind: "foreign key".to_owned(), object: self.name_of(*id), state: state.to_owned() });
        }
        let is_left_out = |comment: &&TocEntry| comment.needs.iter().any(|needed| left_out.contains(needed));
        let lost: HashSet<u32> = self.archive.toc().iter().filter(is_left_out).map(|entry| entry.dump_id).collect();
        let comments: Vec<u32> = doubtful.comments.iter().copied().filter(|id| !lost.contains(id)).collect();
        schema.run("comments", &Login::Admin, &comments).await?;
        Ok(weakened)
    }

    /// Makes a foreign key that does not look at the rows that are there. Gives whether the server took it: at a partitioned table older
    /// ones do not.
    async fn without_check(&self, schema: &Schema<'_>, database: &Session, by: &Login, id: u32) -> Result<bool, Failure> {
        // Names that are not UTF-8 cannot be sent from here.
        let Some(definition) = self.archive.foreign_key(id).filter(|text| !text.contains('\u{fffd}')) else { return Ok(false) };
        let statement = format!("{} NOT VALID", definition.trim_end().trim_end_matches(';'));
        match by {
            Login::Admin => Ok(database.batch_execute(&statement).await.is_ok()),
            Login::Owners(owners) => {
                let make = async {
                    let session = self.loader_session(schema.builders.of(owners), schema.name).await?;
                    Ok(session.batch_execute(&statement).await.is_ok())
                };
                schema.builders.as_owners(self, schema.admin, owners, make).await
            }
        }
    }

    /// Fills materialized views, each by itself.
    pub(super) async fn doubtful_views(&self, schema: &Schema<'_>, steps: &[Step]) -> Result<Vec<Weakened>, Failure> {
        let mut weakened = Vec::new();
        for (by, id) in steps.iter().flat_map(|step| step.entries.iter().map(|id| (&step.by, *id))) {
            match schema.run("materialized views", by, &[id]).await {
                Ok(()) => {}
                Err(failure) if failure.kind == "schema" => weakened.push(Weakened {
                    kind: "materialized view".to_owned(),
                    object: self.name_of(id),
                    state: "not-filled".to_owned(),
                }),
                Err(failure) => return Err(failure),
            }
        }
        Ok(weakened)
    }

    fn name_of(&self, id: u32) -> String {
        let entry = self.archive.toc().iter().find(|entry| entry.dump_id == id);
        let words = entry.into_iter().flat_map(|entry| entry.namespace.iter().chain([&entry.tag]));
        shown(&words.map(String::as_str).collect::<Vec<_>>().join("."))
    }
}
