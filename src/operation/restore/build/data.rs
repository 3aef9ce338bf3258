//! Rows, large objects, statistics, and the proof of the first two.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;

use super::Build;
use crate::{
    chunk::sums::RowTotals,
    operation::{
        failure::{Failure, FailureClass},
        restore::{
            failures,
            proof::Proof,
            rows::{self, Loading, Queue},
        },
    },
    postgres::{Session, large_objects_in, loader::Loader, read_back, sequences},
};

impl Build<'_> {
    /// What extensions have put into their own tables: the stored rows come on top.
    pub(super) async fn rows_before(&self, database: &Session) -> Result<BTreeMap<usize, RowTotals>, Failure> {
        let mut before = BTreeMap::new();
        for (at, table) in self.description.tables.iter().enumerate().filter(|(_, table)| table.extension_member) {
            let statement = read_back::statement(table, &self.description.database.encoding, read_back::Pages::All);
            let totals = read_back::sums(database, &statement, &rows::shown(table), self.hasher).await.map_err(self.failed())?;
            before.insert(at, totals);
        }
        Ok(before)
    }

    pub(super) async fn load(&self, loader: &Loader, name: &str) -> Result<(u64, u64), Failure> {
        let tenant = &self.request.tenant;
        let units =
            rows::units(self.description, self.content, self.connections).map_err(|error| failures::content(tenant, error))?;
        let connections = self.connections.min(units.len());
        let queue = Queue::new(units);
        let advanced = |bytes| self.restorer.progress.advanced(tenant, bytes);
        let loading = self.loading(&advanced);
        let (loading, queue) = (&loading, &queue);
        try_join_all((0..connections).map(|_| async move {
            let session = self.loader_session(loader, name).await?;
            loading.run(&session, queue).await.map_err(|error| failures::rows(tenant, error))
        }))
        .await?;
        Ok(queue.loaded())
    }

    fn loading<'b>(&'b self, advanced: &'b (dyn Fn(u64) + Send + Sync)) -> Loading<'b> {
        Loading { reader: self.reader, content: self.content, description: self.description, hasher: self.hasher, advanced }
    }

    pub(super) async fn load_large_objects(&self, database: &Session) -> Result<(), Failure> {
        if self.description.large_objects.is_empty() {
            return Ok(());
        }
        let tenant = &self.request.tenant;
        let advanced = |bytes| self.restorer.progress.advanced(tenant, bytes);
        let loading = self.loading(&advanced);
        large_objects_in::prepare(database).await.map_err(self.failed())?;
        for block in &self.description.large_objects {
            large_objects_in::create(database, block).await.map_err(self.failed())?;
            loading.large_objects(database, block.source).await.map_err(|error| failures::rows(tenant, error))?;
            large_objects_in::write(database).await.map_err(self.failed())?;
            large_objects_in::apply_properties(database, block).await.map_err(self.failed())?;
        }
        Ok(())
    }

    pub(super) async fn analyze(&self, database: &Session, loader: &Loader, name: &str) -> Result<(), Failure> {
        let (of_loader, of_admin) = read_back::to_analyze(database, loader.role()).await.map_err(self.failed())?;
        // Statistics on expressions run the tenant's functions: the loader, wherever it may.
        let share = of_loader.len().div_ceil(self.connections).max(1);
        try_join_all(of_loader.chunks(share).map(|tables| async move {
            let session = self.loader_session(loader, name).await?;
            read_back::analyze(&session, tables).await.map_err(self.failed())
        }))
        .await?;
        read_back::analyze(database, &of_admin).await.map_err(self.failed())
    }

    pub(super) async fn prove(
        &self,
        admin: &Session,
        database: &Session,
        name: &str,
        expected: &[RowTotals],
        before: &BTreeMap<usize, RowTotals>,
    ) -> Result<(), Failure> {
        let tenant = &self.request.tenant;
        let proof = Proof::plan(database, self.description, self.hasher, self.connections).await.map_err(self.failed())?;
        let quiet = |_: u64| {};
        let (proof, quiet) = (&proof, &quiet);
        let one_more = || async move {
            let session = self.session(admin, name).await?;
            proof.run(&session, quiet).await.map_err(self.failed())
        };
        let first = async { proof.run(database, quiet).await.map_err(self.failed()) };
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
