//! Rows, large objects, statistics, and the proof of the first two.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use futures_util::future::try_join_all;

use super::{Build, logins::Builders};
use crate::{
    chunk::sums::RowTotals,
    operation::{
        failure::{Failure, FailureClass},
        restore::{
            failures,
            proof::Proof,
            routes::Routes,
            rows::{self, Loading},
        },
    },
    postgres::{Session, large_objects_in, read_back, restore_plan::Owners, sequences, statement::StatementError},
};

impl Build<'_> {
    /// What extensions have put into their own tables: the stored rows come on top.
    pub(super) async fn rows_before(&self, database: &Session) -> Result<BTreeMap<usize, RowTotals>, Failure> {
        let mut before = BTreeMap::new();
        for (at, table) in self.description.tables.iter().enumerate().filter(|(_, table)| table.extension_member) {
            let statement =
                read_back::statement(table, &table.columns, &self.description.database.encoding, read_back::Pages::All);
            let totals = read_back::sums(database, &statement, &rows::shown(table), self.hasher).await.map_err(self.failed())?;
            before.insert(at, totals);
        }
        Ok(before)
    }

    pub(super) fn loading<'b>(&'b self, routes: &'b Routes<'b>, advanced: &'b (dyn Fn(u64) + Send + Sync)) -> Loading<'b> {
        let Self { reader, content, description, hasher, .. } = *self;
        Loading { reader, content, description, routes, hasher, advanced }
    }

    pub(super) async fn load_large_objects(&self, database: &Session, routes: &Routes<'_>) -> Result<(), Failure> {
        if self.description.large_objects.is_empty() {
            return Ok(());
        }
        let tenant = &self.request.tenant;
        let advanced = |bytes| self.restorer.progress.advanced(tenant, bytes);
        let loading = self.loading(routes, &advanced);
        large_objects_in::prepare(database).await.map_err(self.failed())?;
        for block in &self.description.large_objects {
            large_objects_in::create(database, block).await.map_err(self.failed())?;
            let memory = rows::memory(std::iter::once(&block.source), self.content);
            let memory = memory.map_err(|error| failures::content(tenant, error))?;
            let _held = self.restorer.budget.take(memory).await;
            loading.large_objects(database, block.source).await.map_err(|error| failures::rows(tenant, error))?;
            large_objects_in::write(database).await.map_err(self.failed())?;
            large_objects_in::apply_properties(database, block).await.map_err(self.failed())?;
        }
        Ok(())
    }

    /// Statistics on expressions run the tenant's functions: each owner's own login gathers them, wherever there is one.
    pub(super) async fn analyze(
        &self,
        admin: &Session,
        database: &Session,
        builders: &Builders,
        name: &str,
    ) -> Result<(), Failure> {
        let mut by_owners: BTreeMap<Option<&Owners>, Vec<String>> = BTreeMap::new();
        for (table, owner) in read_back::to_analyze(database).await.map_err(self.failed())? {
            by_owners.entry(builders.acting_as(&owner)).or_default().push(table);
        }
        for (owners, tables) in by_owners {
            let connections = self.connections.min(tables.len());
            let left = Mutex::new(tables.iter());
            let left = &left;
            let one = || async move {
                let session = match owners {
                    Some(owners) => self.loader_session(builders.of(owners), name).await?,
                    None => self.session(admin, name).await?,
                };
                analyze_each(&session, left).await.map_err(self.failed())
            };
            let all = async { try_join_all((0..connections).map(|_| one())).await.map(drop) };
            match owners {
                Some(owners) => builders.as_owners(self, admin, owners, all).await?,
                None => all.await?,
            }
        }
        Ok(())
    }

    pub(super) async fn prove(
        &self,
        admin: &Session,
        database: &Session,
        name: &str,
        routes: &Routes<'_>,
        expected: &[RowTotals],
        before: &BTreeMap<usize, RowTotals>,
    ) -> Result<(), Failure> {
        let tenant = &self.request.tenant;
        let proof = Proof::plan(database, self.description, self.content, routes, self.hasher, self.connections).await;
        let proof = proof.map_err(self.failed())?;
        let quiet = |_: u64| {};
        let (proof, quiet) = (&proof, &quiet);
        let one_more = || async move {
            let session = self.session(admin, name).await?;
            proof.run(&session, self.restorer.budget, quiet).await.map_err(self.failed())
        };
        let first = async { proof.run(database, self.restorer.budget, quiet).await.map_err(self.failed()) };
        let others = try_join_all((1..self.connections).map(|_| one_more()));
        tokio::try_join!(first, others)?;
        let mut differing = proof.differing(expected, before);
        differing.extend(sequences::differing(database, &self.description.sequences).await.map_err(self.failed())?);
        for block in &self.description.large_objects {
            let must = self.content.recorded(block.source).map_err(|error| failures::content(tenant, error))?;
            let statement = large_objects_in::read_statement(block.first_oid);
            let is = read_back::sums(database, &statement, "large objects", self.hasher).await.map_err(self.failed())?;
            let count = large_objects_in::count(database, block.first_oid).await.map_err(self.failed())?;
            if (is.rows, is.digest) != (must.rows, must.digest) || count != i64::from(block.count) {
                differing.push(format!("large objects from OID {}", block.first_oid));
            }
        }
        if differing.is_empty() {
            return Ok(());
        }
        let message = format!("the restore of tenant {tenant} is not proven: {}", differing.join("; "));
        Err(Failure::new(FailureClass::Integrity, "not-proven", tenant, message).hint("The target is as it was."))
    }
}

async fn analyze_each(session: &Session, left: &Mutex<std::slice::Iter<'_, String>>) -> Result<(), StatementError> {
    loop {
        let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let Some(table) = next else { return Ok(()) };
        read_back::analyze(session, table).await?;
    }
}
