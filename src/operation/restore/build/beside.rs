//! A few tables beside the live ones, in a schema of their own.
//!
//! The archive says where its tables are, and nothing can put them elsewhere but a server. So their definitions are made in an empty
//! database, moved to another schema there, and dumped again; that is what is made in the live database, and filled. One login without
//! power makes and owns it all until it is proven: whatever of the tenant's code runs meanwhile can do nothing else in there.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ffi::OsString,
    process::Stdio,
    sync::{Mutex, PoisonError},
};

use futures_util::future::try_join_all;
use postgres_protocol::escape::escape_identifier;
use tokio::time::Instant;

use super::{Build, made::Made, millis};
use crate::{
    format::{
        description::{Description, Role, Sequence, Table},
        manifest::Manifest,
    },
    operation::{
        failure::{Failure, FailureClass},
        restore::{
            Report, failures,
            preflight::{Preflight, guards::one_powerless_owner},
            proof,
            routes::Routes,
            rows,
            salvage::{Salvage, Weakened},
            shown,
            tables::Selected,
        },
    },
    postgres::{
        Session,
        archive_toc::TocEntry,
        beside, leftovers,
        loader::Loader,
        place,
        restore_archive::SchemaArchive,
        restore_plan::{self, Step},
        roles::{self, Member},
        sequences, server_facts,
        tools::{Program, Tool},
    },
};

/// More than any schema needs, less than what memory cannot hold.
const SCHEMA_BYTES: u64 = 1024 * 1024 * 1024;
/// What the one login makes has no owner and no grants of its own.
const BARE: [&str; 2] = ["--no-owner", "--no-acl"];

/// Definitions that can be made in the live database.
struct Moved {
    archive: SchemaArchive,
    /// Sequences that belong to the tables: schema and name.
    sequences: HashSet<(String, String)>,
}

impl Build<'_> {
    /// Whether the database is there already: then a few tables come to stand beside what is in it.
    pub(super) async fn is_beside(&self, admin: &Session) -> Result<bool, Failure> {
        let oid = server_facts::database_oid(admin, &self.place.database).await.map_err(self.failed())?;
        Ok(oid.is_some())
    }

    /// From preflight to proof, and to the schema's name. Of the recorded roles only the owners matter.
    pub(super) async fn beside(
        &self,
        admin: &Session,
        made: &mut Made,
        manifest: &Manifest,
        tables: &[Selected],
        started: Instant,
    ) -> Result<Report, Failure> {
        let mut description = self.description.clone();
        let owner = &self.description.database.owner;
        description.roles.retain(|role| role.name == *owner || tables.iter().any(|table| table.owner == role.name));
        let recorded = &self.description.roles;
        Build { description: &description, ..*self }.beside_live(admin, made, manifest, tables, recorded, started).await
    }

    async fn beside_live(
        &self,
        admin: &Session,
        made: &mut Made,
        manifest: &Manifest,
        tables: &[Selected],
        recorded: &[Role],
        started: Instant,
    ) -> Result<Report, Failure> {
        let (request, live) = (self.request, &self.place.database);
        let tenant = &request.tenant;
        self.stage("checking");
        let expected = proof::expected(self.description, self.content).map_err(|error| failures::content(tenant, error))?;
        let bytes = expected.iter().map(|totals| totals.bytes).sum();
        let mut found =
            self.restorer.preflight(request, self.place, self.description, recorded, self.archive.toc(), bytes, admin).await?;
        let database = self.session(admin, live).await?;
        let name = beside::schema_name(manifest.backup);
        let read_only = self.room(&database, &name, tables, &mut found).await?;
        let owners: BTreeSet<String> = tables.iter().map(|table| table.owner.clone()).collect();
        one_powerless_owner(&mut found, request, &owners);
        let loader = self.filler(admin, made, &mut found).await?;
        found.verdict(request)?;
        let (Some(loader), Some(tool)) = (loader, found.pg_restore.take()) else {
            return Err(Failure::new(FailureClass::Failed, "preflight", tenant, "the restore cannot begin"));
        };
        self.make_roles(admin, made, &mut found).await?;
        if !found.facts.superuser {
            let own = made.logins.clone();
            roles::join(admin, Member::Current, owners.iter().chain(&own), &mut made.joined).await.map_err(self.failed())?;
        }

        self.stage("schema");
        let schema = leftovers::database_name(self.id);
        let moved = self.moved(admin, made, manifest, &found, &loader, &tool, &schema, tables).await?;
        let description = self.renamed(&schema, &moved.sequences);
        let build = Build { description: &description, archive: &moved.archive, ..*self };
        made.schema = Some((live.clone(), schema.clone()));
        beside::create(&database, &schema, loader.role()).await.map_err(self.failed())?;
        let plan = restore_plan::plan(build.archive.toc(), &HashSet::new(), &HashSet::new());
        let is_schema = |id: &u32| build.archive.toc().iter().any(|entry| entry.dump_id == *id && entry.kind == "SCHEMA");
        let mut pre_data = entries(&plan.pre_data);
        pre_data.retain(|id| !is_schema(id));
        build.by_one(&tool, &loader, live, "pre-data", &pre_data, read_only).await?;

        self.stage("loading");
        let routes = Routes::read(&database, &description.tables).await.map_err(self.failed())?;
        let (rows, bytes) = build.load_beside(&loader, &routes).await?;
        let session = self.loader_session(&loader, live).await?;
        sequences::set(&session, &description.sequences).await.map_err(self.failed())?;
        drop(session);

        self.stage("indexes");
        let (post_data, weakened) = build.without_doubtful(entries(&plan.post_data));
        build.by_one(&tool, &loader, live, "post-data", &post_data, read_only).await?;

        self.stage("proving");
        let proving = Instant::now();
        build.prove(admin, &database, live, &routes, &expected, &BTreeMap::new()).await?;
        let proof_ms = millis(proving);

        let all = tables.iter().map(|table| (table.name.as_str(), table.owner.as_str()));
        beside::hand_over(&database, &schema, all).await.map_err(self.failed())?;
        loader.leave_database(&database).await.map_err(self.failed())?;
        beside::rename(&database, &schema, &name).await.map_err(self.failed())?;
        made.schema = None;
        made.in_place = true;
        let mut notes = std::mem::take(&mut found.notes);
        notes.push(format!(
            "schema {} is part of the database now, and of its next backup: DROP SCHEMA {} CASCADE when you have taken what you need",
            shown(&name),
            shown(&escape_identifier(&name))
        ));
        let statistics = self.archive.toc().iter().filter(|entry| entry.kind == "STATISTICS");
        notes.extend(statistics.map(|entry| format!("left out: statistics {}", shown(&entry.tag))));
        self.go(admin, made, &loader, &mut notes).await;
        let salvage = self.salvage.map(|salvage| Salvage { weakened, ..salvage.clone() });
        Ok(Report {
            tenant: tenant.clone(),
            backup: manifest.backup,
            taken_at: self.now,
            cluster: self.place.server.name.clone(),
            database: live.clone(),
            schema: Some(name),
            tables: description.tables.len() as u64,
            rows,
            bytes,
            proven: salvage.as_ref().is_none_or(Salvage::is_whole),
            salvage,
            replaced_as: None,
            created_roles: Vec::new(),
            notes,
            duration_ms: millis(started),
            proof_ms,
        })
    }

    /// What stands in the way in the live database; and whether its sessions write nothing unless they say so, as ours do.
    async fn room(&self, database: &Session, name: &str, tables: &[Selected], found: &mut Preflight) -> Result<bool, Failure> {
        let live = shown(&self.place.database);
        let seen = beside::look(database, name).await.map_err(self.failed())?;
        if seen.taken {
            let what = format!("there is a schema {} in database {live}", shown(name));
            let hint = format!("rename it, or DROP SCHEMA {} CASCADE when you are done with it", shown(&escape_identifier(name)));
            found.add("schema-taken", what, hint);
        }
        if !seen.event_triggers.is_empty() {
            let names: Vec<String> = seen.event_triggers.iter().map(|name| shown(name)).collect();
            let what = format!("event triggers of database {live} would run for what is made in it: {}", names.join(", "));
            found.add("event-triggers", what, "restore into a new database, with --into NAME");
        }
        // Before what it left elsewhere: its logins have rights here.
        let left = seen.left.iter().map(|(schema, removal)| {
            format!("a restore that did not end left schema {schema} in database {live}; remove it there: {removal}")
        });
        found.notes.splice(0..0, left);
        let mut names = BTreeSet::new();
        for table in tables.iter().filter(|table| !names.insert(&table.name)) {
            let what = format!("two of the tables are called {}, and they would share a schema", shown(&table.name));
            found.add("same-name", what, "restore one after the other, or into a new database with --into NAME");
        }
        Ok(seen.read_only)
    }

    /// The definitions, in the schema that they will have. The database in which they were moved is gone again.
    #[allow(clippy::too_many_arguments, reason = "each is used once, and none belongs together")]
    async fn moved(
        &self,
        admin: &Session,
        made: &mut Made,
        manifest: &Manifest,
        found: &Preflight,
        loader: &Loader,
        tool: &Tool,
        schema: &str,
        tables: &[Selected],
    ) -> Result<Moved, Failure> {
        let tenant = &self.request.tenant;
        let guests = found.facts.guests(std::iter::once(loader.role()));
        let (name, _, record) = self.create(admin, made, &guests, manifest, &found.facts).await?;
        self.restorer.vault.put_copy_oid(&record, self.restorer.signer).await?;
        let database = self.session(admin, &name).await?;
        beside::open_public(&database, loader.role()).await.map_err(self.failed())?;
        let plan = restore_plan::plan(self.archive.toc(), &HashSet::new(), &HashSet::new());
        self.by_one(tool, loader, &name, "schemas", &plan.extension_schemas, false).await?;
        self.create_extensions(&database, &found.facts).await?;
        drop(database);
        let of_extensions = |id: &u32| of_extension(self.archive.toc(), *id);
        let mut all = entries(&plan.pre_data);
        all.extend(entries(&plan.post_data));
        all.retain(|id| !of_extensions(id));
        self.by_one(tool, loader, &name, "definitions", &all, false).await?;

        let session = self.loader_session(loader, &name).await?;
        let names: Vec<(&str, &str)> = tables.iter().map(|table| (table.schema.as_str(), table.name.as_str())).collect();
        let sequences = beside::owned_sequences(&session, &names).await.map_err(self.failed())?;
        beside::move_to(&session, schema, &names).await.map_err(self.failed())?;
        drop(session);
        let major = found.facts.version_num / 10_000;
        let dump = self.restorer.tools.find(Program::Dump, major).await.map_err(|error| {
            let hint = error.hint();
            Failure::new(FailureClass::Failed, "pg-dump", tenant, "the definitions cannot be moved").hint(hint).because(error)
        })?;
        let mut arguments = vec!["--format=custom", "--compress=0", "--section=pre-data", "--section=post-data", "--no-password"];
        arguments.extend(BARE);
        if dump.version.major >= 18 {
            arguments.push("--no-statistics");
        }
        let mut arguments: Vec<OsString> = arguments.into_iter().map(OsString::from).collect();
        // Only names made by us reach the arguments.
        arguments.push(format!("--schema={schema}").into());
        arguments.push(format!("--encoding={}", self.description.database.encoding).into());
        let environment = loader.target().child_environment(&name).await.map_err(|error| failures::connect(tenant, error))?;
        let output = dump.run(&arguments, &environment, Stdio::null(), SCHEMA_BYTES).await.map_err(|error| {
            Failure::new(FailureClass::Failed, "pg-dump", tenant, "the definitions cannot be moved").because(error)
        })?;
        let archive = SchemaArchive::new(&output.stdout).map_err(|error| failures::archive(tenant, error))?;
        place::drop_own(admin, &name).await.map_err(self.failed())?;
        made.database = None;
        Ok(Moved { archive, sequences })
    }

    /// Restores entries by the one login, which then owns what they make.
    #[allow(clippy::too_many_arguments, reason = "each is used once, and none belongs together")]
    async fn by_one(
        &self,
        tool: &Tool,
        loader: &Loader,
        database: &str,
        what: &'static str,
        entries: &[u32],
        read_only: bool,
    ) -> Result<(), Failure> {
        let tenant = &self.request.tenant;
        let mut environment =
            loader.target().child_environment(database).await.map_err(|error| failures::connect(tenant, error))?;
        // Only where it is needed: not every pooler lets options pass.
        if read_only {
            environment = environment.writable();
        }
        let jobs = if what == "post-data" { self.connections } else { 1 };
        let warnings = self.archive.restore(&tool.path, &environment, database, what, entries, jobs, &BARE).await;
        let warnings = warnings.map_err(|error| {
            let mut failure = failures::archive(tenant, error);
            failure.hint.push_str(" What the tables need may be missing there: --into NAME restores them into a new database, and without --table everything.");
            failure
        })?;
        for warning in warnings {
            tracing::warn!(tenant.name = %tenant, "pg_restore: {}", shown(&warning));
        }
        Ok(())
    }

    /// The description with the tables, and the sequences that belong to them, in another schema.
    fn renamed(&self, schema: &str, sequences: &HashSet<(String, String)>) -> Description {
        let table = |table: &Table| Table { schema: schema.to_owned(), ..table.clone() };
        let belongs = |sequence: &&Sequence| sequences.contains(&(sequence.schema.clone(), sequence.name.clone()));
        let sequence = |sequence: &Sequence| Sequence { schema: schema.to_owned(), ..sequence.clone() };
        Description {
            tables: self.description.tables.iter().map(table).collect(),
            sequences: self.description.sequences.iter().filter(belongs).map(sequence).collect(),
            ..self.description.clone()
        }
    }

    async fn load_beside(&self, loader: &Loader, routes: &Routes<'_>) -> Result<(u64, u64), Failure> {
        let tenant = &self.request.tenant;
        let units = rows::units(self.description, self.content, self.connections, |_| 1)
            .map_err(|error| failures::content(tenant, error))?;
        let totals = units.iter().map(rows::Unit::totals).fold((0, 0), |sum, unit| (sum.0 + unit.0, sum.1 + unit.1));
        let advanced = |bytes| self.restorer.progress.advanced(tenant, bytes);
        let loading = self.loading(routes, &advanced);
        let left = Mutex::new(units.iter());
        let (loading, left) = (&loading, &left);
        try_join_all((0..self.connections.min(units.len())).map(|_| async move {
            let session = self.loader_session(loader, &self.place.database).await?;
            loop {
                let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(unit) = next else { return Ok::<(), Failure>(()) };
                let _held = self.restorer.budget.take(unit.memory()).await;
                loading.unit(&session, unit).await.map_err(|error| failures::rows(tenant, error))?;
            }
        }))
        .await?;
        Ok(totals)
    }

    /// Without foreign keys, where rows are absent that they may need.
    fn without_doubtful(&self, mut entries: Vec<u32>) -> (Vec<u32>, Vec<Weakened>) {
        if self.salvage.is_none_or(Salvage::is_whole) {
            return (entries, Vec::new());
        }
        let keys: Vec<&TocEntry> = self.archive.toc().iter().filter(|entry| entry.kind == "FK CONSTRAINT").collect();
        let is_key = |id: &u32| keys.iter().any(|key| key.dump_id == *id);
        let of_key = |id: &u32| self.archive.toc().iter().any(|entry| entry.dump_id == *id && entry.needs.iter().any(is_key));
        entries.retain(|id| !is_key(id) && !of_key(id));
        let weakened = keys.iter().map(|key| Weakened {
            kind: "foreign key".to_owned(),
            object: shown(&key.tag),
            state: "left-out".to_owned(),
        });
        (entries, weakened.collect())
    }

    /// The login and what was lent to it goes; what stays is noted.
    async fn go(&self, admin: &Session, made: &mut Made, loader: &Loader, notes: &mut Vec<String>) {
        made.logins.clear();
        if let Err(error) = loader.remove(admin).await {
            let said = failures::statement(&self.request.tenant, error).message;
            notes.push(format!("role {} could not be dropped ({said}): drop it", loader.role()));
        }
        made.joined.retain(|joined| joined.role != loader.role());
        for joined in roles::leave(admin, std::mem::take(&mut made.joined)).await {
            notes.push(format!("a membership in {} stays: end it by `{}`", shown(&joined.role), shown(&joined.undo)));
        }
    }
}

fn entries(steps: &[Step]) -> Vec<u32> {
    steps.iter().flat_map(|step| step.entries.iter().copied()).collect()
}

/// Whether an entry is an extension, or says something about one.
fn of_extension(toc: &[TocEntry], id: u32) -> bool {
    let is = |id: u32| toc.iter().any(|entry| entry.dump_id == id && entry.kind == "EXTENSION");
    let says = |entry: &TocEntry| entry.kind == "COMMENT" && entry.needs.iter().any(|needed| is(*needed));
    is(id) || toc.iter().any(|entry| entry.dump_id == id && says(entry))
}
