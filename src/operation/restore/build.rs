//! One restore from preflight to rename, and the clearing up after it, however it ends.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::{
    Chosen, Report, Request, Restorer,
    content::{ChunkReader, Content},
    damage,
    destination::Place,
    failures, preflight,
    proof::{self, Proof},
    rows::{self, Loading, Queue},
    shown,
};
use crate::{
    chunk::{RowHasher, sums::RowTotals},
    format::{
        description::Description,
        record::{Copy, CopyOid, Source, SourceReason},
    },
    id::RecordId,
    operation::failure::{Failure, FailureClass},
    postgres::{
        Session, create_database, large_objects_in,
        loader::Loader,
        lock::{self, TenantLock},
        place, read_back,
        restore_archive::SchemaArchive,
        restore_plan::{self, Login, RestorePlan, Step},
        roles, sequences,
        session_settings::{NO_TIME_LIMITS, READING, ROW_TEXT, statements},
        statement::Failed as _,
        tools::Tool,
    },
    seal::TenantIdentity,
    signed::FORMAT,
};

/// What of it the loader's connections leave to others: the administrator in the maintenance database and in the new one, and the lock.
const OTHER_CONNECTIONS: u32 = 3;

/// What was made so far, and must go again when the restore does not end well.
#[derive(Default)]
struct Made {
    loader: Option<Loader>,
    database: Option<String>,
    roles: Vec<String>,
    /// Whether the database has its final name: then it is nobody's to drop.
    in_place: bool,
}

/// One restore at work.
struct Build<'a> {
    restorer: &'a Restorer<'a>,
    request: &'a Request,
    description: &'a Description,
    content: &'a Content,
    reader: &'a ChunkReader,
    archive: &'a SchemaArchive,
    place: &'a Place<'a>,
    hasher: RowHasher,
    connections: usize,
    now: DateTime<Utc>,
}

/// A database that is built and proven, still under its own name.
struct Built {
    name: String,
    oid: u32,
    rows: u64,
    bytes: u64,
    proof_ms: u64,
    notes: Vec<String>,
}

/// Restores an opened backup.
pub(super) async fn run(
    restorer: &Restorer<'_>,
    request: &Request,
    chosen: Chosen,
    key: TenantIdentity,
    now: DateTime<Utc>,
) -> Result<Report, Failure> {
    let started = Instant::now();
    let tenant = &request.tenant;
    let Chosen { locker, backup, histories, key: record } = chosen;
    let manifest = &backup.manifest;
    let reader = ChunkReader::new(restorer.vault.clone(), locker, key);
    let damage = damage::Damage { restorer, histories: &histories, chosen: manifest.backup, now };

    restorer.progress.stage(tenant, "reading");
    let reading = async {
        let description = reader.description(manifest).await.map_err(|error| failures::content(tenant, error))?;
        let content = reader.content(manifest).await.map_err(|error| failures::content(tenant, error))?;
        content.check(&description).map_err(|error| failures::content(tenant, error))?;
        let archive =
            rows::bytes(&reader, &content, description.schema_archive).await.map_err(|error| failures::content(tenant, error))?;
        let archive = SchemaArchive::new(&archive).map_err(|error| failures::archive(tenant, error))?;
        Ok((description, content, archive))
    };
    let read = tokio::select! {
        read = reading => read,
        () = restorer.cancel.cancelled() => Err(restorer.interrupted(tenant)),
    };
    let (description, content, archive) = match read {
        Ok(read) => read,
        Err(failure) => return Err(damage.explain(failure, None).await),
    };
    if description.tenant != *tenant {
        let message = format!("backup {} says that it is tenant {}'s, not {tenant}'s", manifest.backup, description.tenant);
        return Err(Failure::new(FailureClass::Integrity, "foreign-backup", manifest.backup, message)
            .hint("It was not restored. `tenure verify` shows what else is wrong."));
    }
    let place = restorer.place(request, locker, &description).await?;
    let limit = usize::try_from(place.server.connections.saturating_sub(OTHER_CONNECTIONS)).unwrap_or(1);
    let build = Build {
        restorer,
        request,
        description: &description,
        content: &content,
        reader: &reader,
        archive: &archive,
        place: &place,
        hasher: record.chunk_name_key.row_hasher(),
        connections: restorer.jobs.min(limit).max(1),
        now,
    };

    let target = &place.server.admin;
    let admin = target
        .connect(target.maintenance_database(), "tenure restore")
        .await
        .map_err(|error| failures::connect(tenant, error))?;
    admin
        .batch_execute(&statements(&[&NO_TIME_LIMITS]))
        .await
        .failed("setting up a session on", &place.server.name)
        .map_err(|error| failures::statement(tenant, error))?;
    let mut made = Made::default();
    let built = tokio::select! {
        built = build.build(&admin, &mut made, manifest) => built,
        () = restorer.cancel.cancelled() => Err(restorer.interrupted(tenant)),
    };
    let result = match built {
        // From here on it cannot be stopped any more: it takes moments, and half of it would be worse than all.
        Ok((built, lock)) => build.finish(&admin, &mut made, built, lock, locker, manifest.backup, started).await,
        Err(failure) => Err(failure),
    };
    match result {
        Ok(mut report) => {
            report.created_roles = std::mem::take(&mut made.roles);
            report.taken_at = manifest.taken_at;
            Ok(report)
        }
        Err(failure) => {
            let failure = damage.explain(failure, Some((&content, &description))).await;
            Err(made.clear_up(&build, failure).await)
        }
    }
}

impl Build<'_> {
    fn failed(&self) -> impl Fn(crate::postgres::statement::StatementError) -> Failure + '_ {
        |error| failures::statement(&self.request.tenant, error)
    }

    fn stage(&self, stage: &'static str) {
        self.restorer.progress.stage(&self.request.tenant, stage);
    }

    /// From preflight to proof.
    async fn build(
        &self,
        admin: &Session,
        made: &mut Made,
        manifest: &crate::format::manifest::Manifest,
    ) -> Result<(Built, Option<TenantLock>), Failure> {
        let (request, description) = (self.request, self.description);
        self.stage("checking");
        let expected = proof::expected(description, self.content).map_err(|error| failures::content(&request.tenant, error))?;
        let bytes = expected.iter().map(|totals| totals.bytes).sum();
        let mut found = self.restorer.preflight(request, self.place, description, self.archive.toc(), bytes, admin).await?;
        let loader = self.loader(admin, &mut found).await;
        made.loader.clone_from(&loader);
        found.verdict(request)?;
        let (Some(loader), Some(tool)) = (loader, found.pg_restore.take()) else {
            return Err(Failure::new(FailureClass::Failed, "preflight", &request.tenant, "the restore cannot begin"));
        };
        let lock = self.lock().await?;

        let missing = roles::missing(&description.roles, &found.known_roles);
        made.roles = roles::create_missing(admin, &missing, &found.known_roles).await.map_err(self.failed())?;
        let superusers = found.known_roles.superusers();

        self.stage("schema");
        let (name, oid, record) = self.create(admin, made, &loader, manifest, &found.facts).await?;
        let database = self.session(admin, &name).await?;
        let admin_environment =
            admin.child_environment(&name).await.map_err(|error| failures::connect(&request.tenant, error))?;
        let loader_environment =
            loader.target().child_environment(&name).await.map_err(|error| failures::connect(&request.tenant, error))?;
        let schema = Schema {
            build: self,
            tool: &tool,
            name: &name,
            environments: [&admin_environment, &loader_environment],
            plan: restore_plan::plan(self.archive.toc(), &superusers),
        };
        schema.run("schemas", Login::Admin, &schema.plan.extension_schemas).await?;
        self.create_extensions(&database, &found.facts).await?;
        loader.join(admin, &self.owners(&superusers)).await.map_err(self.failed())?;
        self.before_rows(&schema, &database, &loader).await?;
        loader.open_schemas(&database).await.map_err(self.failed())?;
        let of_superusers = || {
            description
                .tables
                .iter()
                .filter(|table| superusers.contains(&table.owner))
                .map(|table| (table.schema.as_str(), table.name.as_str()))
        };
        loader.open_tables(&database, of_superusers()).await.map_err(self.failed())?;
        let before = self.rows_before(&database).await?;
        // The OID is on record before the first row is in it.
        self.restorer.vault.put_copy_oid(&record, self.restorer.signer).await?;

        self.stage("loading");
        let (rows, bytes) = self.load(&loader, &name).await?;
        self.load_large_objects(&database).await?;
        sequences::set(&database, &description.sequences).await.map_err(self.failed())?;
        loader.close_tables(&database, of_superusers()).await.map_err(self.failed())?;

        self.stage("indexes");
        schema.steps("post-data", &schema.plan.post_data).await?;
        schema.run("grants", Login::Admin, &schema.plan.grants).await?;
        schema.steps("materialized views", &schema.plan.refresh).await?;
        self.analyze(&database, &loader, &name).await?;

        self.stage("proving");
        let proving = Instant::now();
        self.prove(admin, &database, &name, &expected, &before).await?;
        let proof_ms = millis(proving);
        // Before event triggers are there, which would run for each of these statements.
        loader.leave_database(&database).await.map_err(self.failed())?;
        schema.run("event triggers and subscriptions", Login::Admin, &schema.plan.last).await?;
        drop(database);
        Ok((Built { name, oid, rows, bytes, proof_ms, notes: found.notes }, lock))
    }

    /// The second login; what keeps it out is a finding.
    async fn loader(&self, admin: &Session, found: &mut preflight::Preflight) -> Option<Loader> {
        let made = match &self.place.server.loader {
            Some(target) => Loader::configured(target).await,
            None => Loader::temporary(admin, admin.target()).await,
        };
        match made {
            Ok(loader) => Some(loader),
            Err(error) => {
                let (kind, what, hint) = failures::loader(&error, found.facts.version_num);
                found.add(kind, what, hint);
                None
            }
        }
    }

    /// The tenant's lock, when its own place is filled: no backup may read it while it is swapped.
    async fn lock(&self) -> Result<Option<TenantLock>, Failure> {
        if !self.place.own {
            return Ok(None);
        }
        let server = self.place.server;
        let installation = self.restorer.vault.root().installation;
        let lock = TenantLock::acquire(&server.admin, &installation, &self.request.tenant, &server.roles, lock::WAIT).await;
        lock.map(Some).map_err(failures::lock)
    }

    /// The empty database under its random name, recorded before it is made.
    async fn create(
        &self,
        admin: &Session,
        made: &mut Made,
        loader: &Loader,
        manifest: &crate::format::manifest::Manifest,
        facts: &crate::postgres::server_facts::ServerFacts,
    ) -> Result<(String, u32, CopyOid), Failure> {
        let id = RecordId::random();
        let name = format!("{}{}", crate::postgres::discover::OWN_PREFIX, RecordId::random());
        let (installation, locker) = (manifest.installation, manifest.locker);
        let copy = Copy {
            format: FORMAT,
            installation,
            locker,
            id,
            backup: manifest.backup,
            cluster: self.place.server.name.clone(),
            system_identifier: facts.system_identifier.clone(),
            built_as: name.clone(),
            created_at: self.now,
        };
        self.restorer.vault.put_copy(&copy, self.restorer.signer).await?;
        made.database = Some(name.clone());
        let recorded = &self.description.database;
        let oid = create_database::create_database(admin, &name, recorded, loader.role(), facts.version_num)
            .await
            .map_err(self.failed())?;
        let system_identifier = facts.system_identifier.clone();
        Ok((name, oid, CopyOid { format: FORMAT, installation, locker, id, system_identifier, database_oid: oid }))
    }

    /// An administrator's session in the new database, on the server that `admin` reached.
    async fn session(&self, admin: &Session, name: &str) -> Result<Session, Failure> {
        let session = admin
            .target()
            .connect(name, "tenure restore (admin)")
            .await
            .map_err(|error| failures::connect(&self.request.tenant, error))?;
        let writable: &[(&str, &str)] = &[("default_transaction_read_only", "off")];
        session
            .batch_execute(&statements(&[&ROW_TEXT, &NO_TIME_LIMITS, &READING, writable]))
            .await
            .failed("setting up a session in", name)
            .map_err(self.failed())?;
        Ok(session)
    }

    async fn loader_session(&self, loader: &Loader, name: &str) -> Result<Session, Failure> {
        let session = loader.connect(name).await.map_err(|error| failures::connect(&self.request.tenant, error))?;
        // What is not on disk at a crash belongs to a database that nobody has seen yet; the rename at the end waits for all of it.
        let loading: &[(&str, &str)] = &[("synchronous_commit", "off"), ("default_transaction_read_only", "off")];
        session
            .batch_execute(&statements(&[&ROW_TEXT, &NO_TIME_LIMITS, loading]))
            .await
            .failed("setting up a session in", name)
            .map_err(self.failed())?;
        Ok(session)
    }

    /// Extensions at their recorded versions, in the archive's order, which knows which needs which.
    async fn create_extensions(
        &self,
        database: &Session,
        facts: &crate::postgres::server_facts::ServerFacts,
    ) -> Result<(), Failure> {
        let available =
            crate::postgres::server_facts::extensions(database, &self.description.extensions).await.map_err(self.failed())?;
        for entry in self.archive.toc().iter().filter(|entry| entry.kind == "EXTENSION") {
            let Some(recorded) = self.description.extensions.iter().find(|extension| extension.name == entry.tag) else {
                continue;
            };
            let exact =
                !matches!(available.get(&recorded.name), Some(crate::postgres::server_facts::Availability::OtherVersion(_)));
            create_database::create_extension(database, recorded, exact).await.map_err(self.failed())?;
        }
        tracing::debug!(postgres.version_num = facts.version_num, "extensions are there");
        Ok(())
    }

    /// Every owner that is no superuser.
    fn owners(&self, superusers: &HashSet<String>) -> BTreeSet<String> {
        let of_entries = self.archive.toc().iter().map(|entry| &entry.owner);
        let of_tables = self.description.tables.iter().map(|table| &table.owner);
        of_entries
            .chain(of_tables)
            .chain(std::iter::once(&self.description.database.owner))
            .filter(|owner| !owner.is_empty() && !owner.starts_with("pg_") && !superusers.contains(*owner))
            .cloned()
            .collect()
    }

    /// Tables, types, functions. Little of it is the loader's, and then in schemas that are there by its turn.
    async fn before_rows(&self, schema: &Schema<'_>, database: &Session, loader: &Loader) -> Result<(), Failure> {
        let mut back = Vec::new();
        for step in &schema.plan.pre_data {
            if step.by == Login::Loader {
                let entries: HashSet<u32> = step.entries.iter().copied().collect();
                let toc = self.archive.toc().iter().filter(|entry| entries.contains(&entry.dump_id));
                let places = toc.filter_map(|entry| Some((entry.namespace.clone()?, entry.owner.clone()))).collect();
                loader.open_schemas(database).await.map_err(self.failed())?;
                back.extend(loader.open_schemas_for(database, &places).await.map_err(self.failed())?);
            }
            schema.run("pre-data", step.by, &step.entries).await?;
        }
        for statement in back {
            database.batch_execute(&statement).await.failed("REVOKE ON SCHEMA", &self.place.database).map_err(self.failed())?;
        }
        Ok(())
    }

    /// What extensions have put into their own tables: the stored rows come on top.
    async fn rows_before(&self, database: &Session) -> Result<BTreeMap<usize, RowTotals>, Failure> {
        let mut before = BTreeMap::new();
        for (at, table) in self.description.tables.iter().enumerate().filter(|(_, table)| table.extension_member) {
            let statement = read_back::statement(table, &self.description.database.encoding, read_back::Pages::All);
            let totals = read_back::sums(database, &statement, &rows::shown(table), self.hasher).await.map_err(self.failed())?;
            before.insert(at, totals);
        }
        Ok(before)
    }

    async fn load(&self, loader: &Loader, name: &str) -> Result<(u64, u64), Failure> {
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

    async fn load_large_objects(&self, database: &Session) -> Result<(), Failure> {
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

    async fn analyze(&self, database: &Session, loader: &Loader, name: &str) -> Result<(), Failure> {
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

    async fn prove(
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

    /// Properties, name, source record. Not stopped by a signal.
    #[allow(clippy::too_many_arguments)] // each is used once, and none belongs together
    async fn finish(
        &self,
        admin: &Session,
        made: &mut Made,
        built: Built,
        lock: Option<TenantLock>,
        locker: crate::id::Locker,
        backup: crate::backup_id::BackupId,
        started: Instant,
    ) -> Result<Report, Failure> {
        self.stage("renaming");
        let tenant = &self.request.tenant;
        let database = &self.place.database;
        let role = made.loader.as_ref().map(|loader| loader.role().to_owned()).unwrap_or_default();
        create_database::apply_properties(admin, &built.name, &self.description.database, &role).await.map_err(self.failed())?;
        if let Some(lock) = &lock {
            lock.still_held().await.map_err(failures::lock)?;
        }
        let live = crate::postgres::server_facts::database_oid(admin, database).await.map_err(self.failed())?;
        let replaced_as = if live.is_some() && self.request.replace {
            let aside = place::name_aside(database, self.now);
            place::swap(admin, &built.name, database, &aside).await.map_err(self.failed())?;
            Some(aside)
        } else {
            place::rename(admin, &built.name, database).await.map_err(self.failed())?;
            None
        };
        made.in_place = true;
        let mut notes = built.notes;
        if let Some(loader) = made.loader.take()
            && let Err(error) = loader.remove(admin).await
        {
            notes.push(format!(
                "role {} could not be dropped ({}): drop it",
                loader.role(),
                failures::statement(tenant, error).message
            ));
        }
        if self.place.own {
            self.record_source(locker, admin, built.oid).await?;
        }
        Ok(Report {
            tenant: tenant.clone(),
            backup,
            taken_at: self.now,
            cluster: self.place.server.name.clone(),
            database: database.clone(),
            tables: self.description.tables.len() as u64,
            rows: built.rows,
            bytes: built.bytes,
            proven: true,
            replaced_as,
            created_roles: Vec::new(),
            notes,
            duration_ms: millis(started),
            proof_ms: built.proof_ms,
        })
    }

    /// The tenant lives here now: the next backup reads from here without asking.
    async fn record_source(&self, locker: crate::id::Locker, admin: &Session, oid: u32) -> Result<(), Failure> {
        let facts = crate::postgres::server_facts::read(admin).await.map_err(self.failed())?;
        let vault = self.restorer.vault;
        let write = async {
            let sequence = vault.source(locker).await?.map_or(1, |source| source.sequence + 1);
            let source = Source {
                format: FORMAT,
                installation: vault.root().installation,
                locker,
                id: RecordId::random(),
                sequence,
                cluster: self.place.server.name.clone(),
                system_identifier: facts.system_identifier,
                database_oid: oid,
                reason: SourceReason::Restored,
                created_at: self.now,
            };
            vault.put_source(&source, self.restorer.signer).await
        };
        write.await.map_err(|error| {
            let tenant = &self.request.tenant;
            let message = format!(
                "tenant {tenant} is restored, proven and in its place, but the vault would not record that it lives there now"
            );
            Failure::new(FailureClass::Failed, "source-not-recorded", tenant, message)
                .hint(format!("Run `tenure admit --source {tenant}` before the next backup."))
                .because(error)
        })
    }
}

/// The schema archive's way into one database.
struct Schema<'a> {
    build: &'a Build<'a>,
    tool: &'a Tool,
    name: &'a str,
    /// The administrator's and the loader's.
    environments: [&'a crate::postgres::ChildEnvironment; 2],
    plan: RestorePlan,
}

impl Schema<'_> {
    async fn run(&self, what: &'static str, by: Login, entries: &[u32]) -> Result<(), Failure> {
        let environment = match by {
            Login::Admin => self.environments[0],
            Login::Loader => self.environments[1],
        };
        // What comes before the rows depends on itself too much to be worth several connections.
        let jobs = if what == "post-data" { self.build.connections } else { 1 };
        let warnings = self
            .build
            .archive
            .restore(&self.tool.path, environment, self.name, what, entries, jobs)
            .await
            .map_err(|error| failures::archive(&self.build.request.tenant, error))?;
        for warning in warnings {
            tracing::warn!(tenant.name = %self.build.request.tenant, "pg_restore: {}", shown(&warning));
        }
        Ok(())
    }

    async fn steps(&self, what: &'static str, steps: &[Step]) -> Result<(), Failure> {
        for step in steps {
            self.run(what, step.by, &step.entries).await?;
        }
        Ok(())
    }
}

impl Made {
    /// Removes what was made, in the order in which it may go. What stays is named in the hint.
    async fn clear_up(self, build: &Build<'_>, mut failure: Failure) -> Failure {
        let tenant = &build.request.tenant;
        let target = &build.place.server.admin;
        let mut left = Vec::new();
        // A session of its own: the other one may be what failed.
        let admin = match target.connect(target.maintenance_database(), "tenure restore (clearing up)").await {
            Ok(admin) => admin,
            Err(error) => {
                tracing::warn!(tenant.name = %tenant, error = %error, "cannot clear up after the restore of tenant {tenant}");
                left.extend(self.database.iter().map(|name| format!("database {name}")));
                left.extend(self.loader.iter().map(|loader| format!("role {}", loader.role())));
                return say_left(failure, &left);
            }
        };
        let keep = build.request.keep_failed && failure.kind == "not-proven";
        if let Some(name) = self.database.as_ref().filter(|_| !self.in_place) {
            if keep {
                failure.hint.push_str(&format!(" The copy was kept as database {name}; drop it when you have seen it."));
                if let (Some(loader), Ok(database)) = (&self.loader, build.session(&admin, name).await)
                    && let Err(error) = loader.leave_database(&database).await
                {
                    tracing::warn!(error = %error, "role {} keeps rights in database {name}", loader.role());
                }
            } else if let Err(error) = place::drop_own(&admin, name).await {
                tracing::warn!(error = %error, "database {name} could not be dropped");
                left.push(format!("database {name}"));
            }
        }
        if let Some(loader) = &self.loader
            && let Err(error) = loader.remove(&admin).await
        {
            tracing::warn!(error = %error, "role {} could not be dropped", loader.role());
            left.push(format!("role {}", loader.role()));
        }
        if !self.in_place && !keep {
            for role in roles::drop_made(&admin, &self.roles).await {
                left.push(format!("role {}", shown(&role)));
            }
        }
        say_left(failure, &left)
    }
}

fn say_left(mut failure: Failure, left: &[String]) -> Failure {
    if !left.is_empty() {
        failure.hint.push_str(&format!(" Left behind: {}; drop them.", left.join(", ")));
    }
    failure
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
