//! One restore, from preflight to proof.

mod beside;
mod data;
mod doubtful;
mod finish;
mod logins;
mod made;
mod pipeline;
mod recorded_roles;
mod schema;

use std::collections::{BTreeSet, HashSet};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use self::{doubtful::Doubtful, logins::Builders, made::Made, schema::Schema};
use super::{
    Chosen, Report, Request, Restorer,
    content::{ChunkReader, Content},
    damage,
    destination::Place,
    failures,
    opened::Opened,
    proof,
    routes::Routes,
    salvage::{Salvage, Weakened},
};
use crate::{
    chunk::RowHasher,
    format::{
        description::Description,
        manifest::Manifest,
        record::{Copy, CopyOid},
    },
    id::RecordId,
    operation::failure::{Failure, FailureClass},
    postgres::{
        Session, create_database, leftovers,
        loader::Loader,
        lock::TenantLock,
        restore_archive::SchemaArchive,
        restore_plan::{self, Login},
        roles::{self, Member},
        row_security, sequences,
        server_facts::{self, Availability, ServerFacts},
        session_settings::{NO_TIME_LIMITS, statements},
        statement::{Failed as _, StatementError},
    },
    seal::TenantIdentity,
    signed::FORMAT,
};

/// What of it the loader's connections leave to others: the administrator in the maintenance database and in the new one, and the lock.
const OTHER_CONNECTIONS: u32 = 3;

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
    /// What is absent, when that is no reason to stop.
    salvage: Option<&'a Salvage>,
    now: DateTime<Utc>,
    /// Names what it makes and the session that makes it.
    id: RecordId,
}

/// A database that is built and proven, still under its own name.
struct Built {
    name: String,
    oid: u32,
    facts: ServerFacts,
    builders: Builders,
    rows: u64,
    bytes: u64,
    proof_ms: u64,
    weakened: Vec<Weakened>,
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
    let Chosen { locker, backup, histories, key: record, notes } = chosen;
    let manifest = &backup.manifest;
    let reader = ChunkReader::new(restorer.vault.clone(), locker, key);
    let damage = damage::Damage { restorer, histories: &histories, chosen: manifest.backup, now, salvage: request.salvage };
    let hasher = record.chunk_name_key.row_hasher();

    restorer.progress.stage(tenant, "reading");
    let live = histories.iter().flat_map(|(_, history)| history.live(now)).map(|other| &other.manifest);
    let others = live.filter(|other| other.key_id == manifest.key_id && other.backup != manifest.backup).collect();
    let reading = restorer.open_backup(request, manifest, &reader, hasher, others);
    let read = tokio::select! {
        read = reading => read,
        () = restorer.cancel.cancelled() => Err(restorer.interrupted(tenant)),
    };
    let Opened { description, content, archive, salvage, tables, notes: selected } = match read {
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
        hasher,
        salvage: salvage.as_ref(),
        connections: restorer.jobs.min(limit).max(1),
        now,
        id: RecordId::random(),
    };

    let target = &place.server.admin;
    let admin = target
        .connect(target.maintenance_database(), &leftovers::session_name(build.id))
        .await
        .map_err(|error| failures::connect(tenant, error))?;
    admin.refuse_pooler().await.map_err(|error| failures::connect(tenant, error))?;
    admin
        .batch_execute(&statements(&[&NO_TIME_LIMITS]))
        .await
        .failed("setting up a session on", &place.server.name)
        .map_err(|error| failures::statement(tenant, error))?;
    let backend = admin
        .query_one("SELECT pg_catalog.pg_backend_pid()", &[])
        .await
        .and_then(|row| row.try_get(0))
        .failed("setting up a session on", &place.server.name)
        .map_err(|error| failures::statement(tenant, error))?;
    let mut made = Made { backend: Some(backend), ..Made::default() };
    let result = if tables.is_empty() || !build.is_beside(&admin).await? {
        let built = tokio::select! {
            // On the heap: these are large, and a fleet has several.
            built = Box::pin(build.build(&admin, &mut made, manifest)) => built,
            () = restorer.cancel.cancelled() => Err(restorer.interrupted(tenant)),
        };
        match built {
            // From here on it cannot be stopped any more: it takes moments, and half of it would be worse than all.
            Ok((built, lock)) => build.finish(&admin, &mut made, built, lock, locker, manifest.backup, started).await,
            Err(failure) => Err(failure),
        }
    } else {
        tokio::select! {
            report = Box::pin(build.beside(&admin, &mut made, manifest, &tables, started)) => report,
            () = restorer.cancel.cancelled() => Err(restorer.interrupted(tenant)),
        }
    };
    match result {
        Ok(mut report) => {
            report.notes.extend(selected);
            report.created_roles = std::mem::take(&mut made.roles);
            report.taken_at = manifest.taken_at;
            report.notes.extend(notes);
            // What is wrong with the history is said even where it hides nothing newer.
            report.notes.extend(
                histories
                    .iter()
                    .flat_map(|(_, history)| &history.problems)
                    .map(|problem| format!("{}: {}", problem.object, problem.what)),
            );
            Ok(report)
        }
        Err(failure) => {
            let failure = damage.explain(failure, Some((&content, &description))).await;
            Err(made.clear_up(&build, failure).await)
        }
    }
}

impl Build<'_> {
    fn failed(&self) -> impl Fn(StatementError) -> Failure + '_ {
        |error| failures::statement(&self.request.tenant, error)
    }

    fn stage(&self, stage: &'static str) {
        self.restorer.progress.stage(&self.request.tenant, stage);
    }

    /// From preflight to proof.
    async fn build(&self, admin: &Session, made: &mut Made, manifest: &Manifest) -> Result<(Built, Option<TenantLock>), Failure> {
        let (request, description) = (self.request, self.description);
        self.stage("checking");
        let expected = proof::expected(description, self.content).map_err(|error| failures::content(&request.tenant, error))?;
        let bytes = expected.iter().map(|totals| totals.bytes).sum();
        let mut found = self
            .restorer
            .preflight(request, self.place, description, &description.roles, self.archive.toc(), bytes, admin)
            .await?;
        let filler = self.filler(admin, made, &mut found).await?;
        found.verdict(request)?;
        let (Some(filler), Some(tool)) = (filler, found.pg_restore.take()) else {
            return Err(Failure::new(FailureClass::Failed, "preflight", &request.tenant, "the restore cannot begin"));
        };
        let lock = self.lock().await?;

        self.make_roles(admin, made, &mut found).await?;
        let superusers = found.known_roles.superusers();
        // Tenant code may take on what its session is a member of: never a role with power over more than this database.
        let powerful: HashSet<String> = superusers.union(&found.powers.owners).cloned().collect();
        let large =
            pipeline::large(&description.tables, self.content).map_err(|error| failures::content(&request.tenant, error))?;
        // A configured login is a member of nobody while rows are loaded: then nothing is made beside them.
        let large = if filler.is_temporary() { large } else { HashSet::new() };
        let mut plan = restore_plan::plan(self.archive.toc(), &powerful, &large);
        let lacks = self.salvage.is_some_and(|salvage| !salvage.is_whole());
        let doubtful = if lacks { Doubtful::take(&mut plan, self.archive.toc()) } else { Doubtful::default() };
        let builders = self.builders(admin, made, &filler, &plan).await?;

        self.stage("schema");
        if !found.facts.superuser {
            let own = made.logins.clone();
            roles::join(admin, Member::Current, self.owners(&superusers).iter().chain(&own), &mut made.joined)
                .await
                .map_err(self.failed())?;
        }
        let guests = found.facts.guests(builders.all().chain([&filler]).map(Loader::role));
        let (name, oid, record) = self.create(admin, made, &guests, manifest, &found.facts).await?;
        let database = self.session(admin, &name).await?;
        let environment = admin.child_environment(&name).await.map_err(|error| failures::connect(&request.tenant, error))?;
        let schema =
            Schema { build: self, tool: &tool, name: &name, admin, environment: &environment, builders: &builders, plan: &plan };
        schema.run("schemas", &Login::Admin, &plan.extension_schemas).await?;
        self.create_extensions(&database, &found.facts).await?;
        builders.join(self, admin).await?;
        self.before_rows(&schema, &database).await?;
        for (owners, needs) in &plan.owners {
            builders.of(owners).open_schemas(&database, &needs.schemas).await.map_err(self.failed())?;
        }
        let routes = Routes::read(&database, &description.tables).await.map_err(self.failed())?;
        filler.open_rows(&database).await.map_err(self.failed())?;
        let before = self.rows_before(&database).await?;
        // The OID is on record before the first row is in it.
        self.restorer.vault.put_copy_oid(&record, self.restorer.signer).await?;

        self.stage("loading");
        if !filler.is_temporary() {
            made.lent.rows(admin, &filler).await.map_err(self.failed())?;
        }
        let (rows, bytes) = self.load(&schema, &filler, &routes).await?;
        if !filler.is_temporary() {
            made.lent.rows_done(admin, &filler).await.map_err(self.failed())?;
        }
        self.load_large_objects(&database, &routes).await?;
        sequences::set(&database, &description.sequences).await.map_err(self.failed())?;
        self.dismiss(admin, &database, made, filler).await?;

        self.stage("indexes");
        for (owners, needs) in &plan.owners {
            let loader = builders.of(owners);
            // What a configured login had was taken back with the right to fill tables.
            loader.open_schemas(&database, &needs.schemas).await.map_err(self.failed())?;
            loader.open_tables(&database, &needs.tables).await.map_err(self.failed())?;
        }
        schema.steps("post-data", &plan.post_data).await?;
        let mut weakened = self.doubtful_keys(&schema, &database, &doubtful).await?;
        schema.steps("row security", &plan.row_security).await?;
        schema.run("grants", &Login::Admin, &plan.grants).await?;
        match lacks {
            true => weakened.extend(self.doubtful_views(&schema, &plan.refresh).await?),
            false => schema.steps("materialized views", &plan.refresh).await?,
        }
        self.analyze(admin, &database, &builders, &name).await?;

        self.stage("proving");
        let proving = Instant::now();
        // An administrator without BYPASSRLS reads as one of the owners. Only now, when nothing of the tenant's runs any more: a materialized
        // view shows what its owner saw.
        let lifted = match found.facts.bypass_rls {
            true => Vec::new(),
            false => row_security::lift_force(&database).await.map_err(self.failed())?,
        };
        let proven = self.prove(admin, &database, &name, &routes, &expected, &before).await;
        row_security::force_again(&database, &lifted).await.map_err(self.failed())?;
        proven?;
        let proof_ms = millis(proving);
        // Before event triggers are there, which would run for each of these statements.
        for loader in builders.all() {
            loader.leave_database(&database).await.map_err(self.failed())?;
        }
        schema.run("event triggers and subscriptions", &Login::Admin, &plan.last).await?;
        drop(database);
        Ok((Built { name, oid, facts: found.facts, builders, rows, bytes, proof_ms, weakened, notes: found.notes }, lock))
    }

    /// The empty database under its random name, recorded before it is made.
    async fn create(
        &self,
        admin: &Session,
        made: &mut Made,
        guests: &BTreeSet<&str>,
        manifest: &Manifest,
        facts: &ServerFacts,
    ) -> Result<(String, u32, CopyOid), Failure> {
        let id = RecordId::random();
        let name = leftovers::database_name(self.id);
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
        let oid =
            create_database::create_database(admin, &name, recorded, guests, facts.version_num).await.map_err(self.failed())?;
        let system_identifier = facts.system_identifier.clone();
        Ok((name, oid, CopyOid { format: FORMAT, installation, locker, id, system_identifier, database_oid: oid }))
    }

    /// Extensions at their recorded versions, in the archive's order, which knows which needs which.
    async fn create_extensions(&self, database: &Session, facts: &ServerFacts) -> Result<(), Failure> {
        let available = server_facts::extensions(database, &self.description.extensions).await.map_err(self.failed())?;
        for entry in self.archive.toc().iter().filter(|entry| entry.kind == "EXTENSION") {
            let Some(recorded) = self.description.extensions.iter().find(|extension| extension.name == entry.tag) else {
                continue;
            };
            let exact = !matches!(available.get(&recorded.name), Some(Availability::OtherVersion(_)));
            create_database::create_extension(database, recorded, exact).await.map_err(self.failed())?;
        }
        tracing::debug!(postgres.version_num = facts.version_num, "extensions are there");
        Ok(())
    }

    /// Tables, types, functions. Little of it is the owners' logins', and then in schemas that are there by their turn.
    async fn before_rows(&self, schema: &Schema<'_>, database: &Session) -> Result<(), Failure> {
        let mut back = Vec::new();
        for step in &schema.plan.pre_data {
            if let Login::Owners(owners) = &step.by {
                let entries: HashSet<u32> = step.entries.iter().copied().collect();
                let toc = self.archive.toc().iter().filter(|entry| entries.contains(&entry.dump_id));
                let places = toc.filter_map(|entry| Some((entry.namespace.clone()?, entry.owner.clone()))).collect();
                let loader = schema.builders.of(owners);
                loader.open_schemas(database, &schema.plan.owners[owners].schemas).await.map_err(self.failed())?;
                back.extend(loader.open_schemas_for(database, &places).await.map_err(self.failed())?);
            }
            schema.run("pre-data", &step.by, &step.entries).await?;
        }
        for statement in back {
            database.batch_execute(&statement).await.failed("REVOKE ON SCHEMA", &self.place.database).map_err(self.failed())?;
        }
        Ok(())
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
