//! Databases that were erased and are there again, by their numbers, and under their tenants' names.

use std::collections::BTreeSet;

use super::{FoundDatabase, Reconcile, ReconcileReport, Seen, Why};
use crate::{
    format::{
        erasure_note::{ErasureNote, ErasureSays},
        plan::{Bound, Plan, PlannedAct, PlannedDatabase},
    },
    id::RecordId,
    operation::{
        drop::{self, Server},
        erased,
        failure::Failure,
        plans,
        purge::OpenItem,
    },
    postgres::{
        Session, Target,
        discover::Discovery,
        drop_database::{self, Present},
        server_facts,
    },
    printable::{Printable, Word, confirmed},
    signature::Namespace,
    signed::FORMAT,
    tenant::TenantName,
};

/// A server that answered.
struct Asked {
    session: Session,
    /// Its system identifier.
    system: String,
    in_recovery: bool,
    /// Erased databases that it has, each with the tombstones that name its number: the last one last, of an erasure that is not through
    /// where there is one.
    there: Vec<(Present, Vec<ErasureNote>)>,
}

impl Reconcile<'_> {
    /// Asks every primary and every replica.
    pub(super) async fn servers(&self, seen: &Seen, report: &mut ReconcileReport) -> Result<(), Failure> {
        for server in self.servers {
            let primary = format!("{} primary", server.name);
            let mut on_primary = BTreeSet::new();
            match ask(&server.admin, seen).await {
                Ok(asked) if asked.in_recovery => {
                    let what = "it is a standby: nothing can be closed there; correct `primary` and `admin`".to_owned();
                    report.open.push(OpenItem { kind: "standby", object: primary.clone(), what, until: None });
                }
                Ok(asked) => {
                    for found in &asked.there {
                        on_primary.insert(found.0.oid);
                        self.primary_has(seen, (server, &asked), found, report).await?;
                    }
                }
                Err(failure) => report.open.push(unasked(primary, &failure)),
            }
            for (number, target) in server.replicas.iter().enumerate() {
                let node = format!("{} replica {}", server.name, number + 1);
                match ask(target, seen).await {
                    Ok(asked) => {
                        let there = asked.there.iter().filter(|(present, _)| !on_primary.contains(&present.oid));
                        let there: Vec<_> = there.collect();
                        if there.is_empty() {
                            continue;
                        }
                        // Its primary may not have the name any more.
                        let names = seen.names_on(&server.name, target).await;
                        for found in there {
                            self.replica_has((server, &node, &asked), found, &names, report).await;
                        }
                    }
                    Err(failure) => report.open.push(unasked(node, &failure)),
                }
            }
        }
        Ok(())
    }

    async fn primary_has(
        &self,
        seen: &Seen,
        (server, asked): (&Server, &Asked),
        (present, notes): &(Present, Vec<ErasureNote>),
        report: &mut ReconcileReport,
    ) -> Result<(), Failure> {
        let cluster = &server.name;
        let names = seen.names(cluster);
        let through = erased::not_given_up(self.vault, notes).await?;
        let Some(note) = self.which(if through.is_empty() { notes } else { &through }, names, present) else { return Ok(()) };
        let mut found = self.describe((cluster, &format!("{cluster} primary")), (present, note), names.ok());
        if through.is_empty() {
            found.why = Why::Reopened;
            found.what = format!(
                "its erasure was given up before anything was destroyed, and its tombstone counts all the same: nothing is done to it; `tenure erase {} --undo` \
                 gives it back",
                Word(found.tenant.as_deref().unwrap_or("NAME"))
            );
            report.found.push(found);
            return Ok(());
        }
        let recorded = seen.known.sources.iter().find(|(tenant, source)| {
            (&source.system_identifier, source.database_oid) == (&asked.system, present.oid)
                && self.keyring.tag(tenant) != note.name_tag
        });
        if let Some((tenant, _)) = recorded {
            found.what = format!(
                "the vault has it as the place of tenant {tenant} as well: nothing is done to it. Find out whose it is; `tenure admit --source` records another \
                 place"
            );
            report.found.push(found);
            return Ok(());
        }
        let is_erasing = seen.is_erasing(note);
        let was_open = present.allows_connections && !present.is_invalid;
        if is_erasing && !was_open {
            // As it should be: its erasure drops it.
            return Ok(());
        }
        if let Some(why_not) = self.is_another(names, present, note) {
            (found.why, found.what) = (Why::Number, why_not);
            report.found.push(found);
            return Ok(());
        }
        let database = PlannedDatabase {
            cluster: cluster.clone(),
            system_identifier: asked.system.clone(),
            database_oid: present.oid,
            // Whatever becomes of the drop, nobody is let in again.
            allowed_connections: false,
        };
        if !self.dry_run {
            let closed = close((server, asked), present, &database).await;
            if erased::read_both(self.vault, self.keyring, note.name_tag).await?.is_withdrawn(note.id) {
                // Whoever withdrew it meanwhile may have found it open, with nothing to give back.
                if was_open && !drop_database::allow_connections(&asked.session, present.oid, &present.name, true).await? {
                    let object = format!("database {} on {cluster}", Printable(&present.name));
                    let what = "it was closed while its erasure was withdrawn, and could not be opened again: ALTER DATABASE … ALLOW_CONNECTIONS true";
                    report.open.push(OpenItem { kind: "not-opened", object, what: what.to_owned(), until: None });
                }
                return Ok(());
            }
            match closed {
                Ok(may_go_on) => {
                    (found.is_open, found.closed_now) = (false, was_open);
                    let object = format!("database {} on {cluster}", Printable(&present.name));
                    report.open.extend(may_go_on.into_iter().map(|what| OpenItem {
                        kind: "sessions",
                        object: object.clone(),
                        what,
                        until: None,
                    }));
                }
                Err(failure) => {
                    let what = format!("it could not be closed: {} {}", failure.one_line(), failure.hint);
                    let object = format!("database {} on {cluster}", Printable(&present.name));
                    report.open.push(OpenItem { kind: "not-closed", object, what: what.trim().to_owned(), until: None });
                }
            }
        }
        // By its name: that was asked above.
        let name = found.tenant.clone().unwrap_or_default();
        if is_erasing {
            found.why = Why::Reopened;
            found.what = format!(
                "it waits for its erasure, which is not through, and let sessions in: `tenure erase {}` goes on with it",
                Word(&name)
            );
            report.found.push(found);
            return Ok(());
        }
        let planned = match self.dry_run {
            true => Ok(self.open_drop(seen, note, &database).map(|plan| plan.id)),
            false => self.plan(seen, note, &database).await.map(Some),
        };
        found.plan = planned.as_ref().ok().copied().flatten().map(|id| id.to_string());
        found.what = match planned {
            Ok(Some(id)) => self.how_to_drop(seen, note, id, &name),
            Ok(None) => "`tenure reconcile` closes it, and prepares a plan to drop it".to_owned(),
            Err(failure) => format!("no plan of a drop could be written: {} {}", failure.one_line(), failure.hint),
        };
        report.found.push(found);
        Ok(())
    }

    /// What somebody types.
    fn how_to_drop(&self, seen: &Seen, note: &ErasureNote, id: RecordId, name: &str) -> String {
        let is_begun = seen.plans_of(note.name_tag).iter().any(|planned| planned.plan.id == id && planned.is_begun());
        let plan = seen.plans_of(note.name_tag).iter().find(|planned| planned.plan.id == id).map(|planned| &planned.plan);
        if self.approvals > 0 && !is_begun && plan.is_some_and(|plan| plans::is_stale(plan, (self.clock)())) {
            return format!(
                "plan {id} of a drop is too old to begin: `tenure plans cancel {id}`, and the next `tenure reconcile` makes a new one"
            );
        }
        let drop = format!("`{}` drops it, on its primary and every replica", confirmed("drop", name, &format!(" --plan {id}")));
        match self.approvals {
            0 => drop,
            needed if is_begun => format!("{drop}; {needed} operators signed that"),
            needed => {
                let s = if needed == 1 { "" } else { "s" };
                format!(
                    "{needed} operator{s} must sign plan {id}, which they do by `tenure approve {id} --tenant {}`; then {drop}",
                    Word(name)
                )
            }
        }
    }

    /// The plan of an earlier run.
    fn open_drop<'s>(&self, seen: &'s Seen, note: &ErasureNote, database: &PlannedDatabase) -> Option<&'s Plan> {
        let is_it = |planned: &PlannedDatabase| {
            (&planned.cluster, &planned.system_identifier, planned.database_oid)
                == (&database.cluster, &database.system_identifier, database.database_oid)
        };
        let plans = seen.plans_of(note.name_tag).iter().map(|planned| &planned.plan);
        plans.into_iter().find(|plan| plan.act == PlannedAct::Drop && plan.databases.iter().any(is_it))
    }

    async fn plan(&self, seen: &Seen, note: &ErasureNote, database: &PlannedDatabase) -> Result<RecordId, Failure> {
        if let Some(open) = self.open_drop(seen, note, database) {
            return Ok(open.id);
        }
        let now = (self.clock)();
        let operator = self.operator.as_ref().map_err(|failure| {
            Failure::new(failure.class, failure.kind, &failure.object, failure.message.clone())
                .hint(format!("{} Or run `tenure reconcile` where that key is.", failure.hint))
        })?;
        self.vault.check_signer(operator, Namespace::Plan, now).map_err(|error| Failure::key_not_allowed("operator", error))?;
        let plan = Plan {
            format: FORMAT,
            installation: self.vault.root().installation,
            id: RecordId::random(),
            name_tag: note.name_tag,
            act: PlannedAct::Drop,
            lockers: Vec::new(),
            databases: vec![database.clone()],
            created_at: now,
            bound: Bound::default(),
        };
        self.vault.put_plan(&plan, operator).await?;
        Ok(plan.id)
    }

    /// A server that is listed as a replica, and has what its primary does not.
    async fn replica_has(
        &self,
        (server, node, asked): (&Server, &str, &Asked),
        (present, notes): &(Present, Vec<ErasureNote>),
        names: &Result<Discovery, Failure>,
        report: &mut ReconcileReport,
    ) {
        let Some(note) = self.which(notes, names.as_ref(), present) else { return };
        let mut found = self.describe((&server.name, node), (present, note), names.as_ref().ok());
        found.why = Why::OnReplica;
        if let Some(why_not) = self.is_another(names.as_ref(), present, note).filter(|_| !asked.in_recovery) {
            (found.why, found.what) = (Why::Number, why_not);
            report.found.push(found);
            return;
        }
        let database = PlannedDatabase {
            cluster: server.name.clone(),
            system_identifier: asked.system.clone(),
            database_oid: present.oid,
            allowed_connections: false,
        };
        found.what = if asked.in_recovery {
            "the primary does not have it, or cannot be asked: see that it replays (`pg_wal_replay_resume()`), or end that server"
                .to_owned()
        } else {
            "that server takes writes, so that no drop comes to it any more: drop the database there, and remove it from `replicas`".to_owned()
        };
        if !self.dry_run && !asked.in_recovery && found.is_open {
            let alone = Server { replicas: Vec::new(), ..server.clone() };
            match close((&alone, asked), present, &database).await {
                Ok(_) => (found.is_open, found.closed_now) = (false, true),
                Err(failure) => found.what = format!("{}; it could not be closed: {}", found.what, failure.one_line()),
            }
        }
        report.found.push(found);
    }

    /// The tombstone that a database answers to by its name as well; the last one where it answers to none of them.
    fn which<'n>(
        &self,
        notes: &'n [ErasureNote],
        names: Result<&Discovery, &Failure>,
        present: &Present,
    ) -> Option<&'n ErasureNote> {
        let tags: Vec<_> = names.map(|names| names.answers_to(&present.name)).unwrap_or_default();
        let tags: Vec<_> = tags.iter().map(|name| self.keyring.tag(name)).collect();
        notes.iter().rfind(|note| tags.contains(&note.name_tag)).or(notes.last())
    }

    /// Why a database with an erased one's number may be another one, and what is to be done; `None` where its name leads to the erased tenant,
    /// and to nobody else. A server that is put back to an older state gives the numbers that it gave since away again.
    fn is_another(&self, names: Result<&Discovery, &Failure>, present: &Present, note: &ErasureNote) -> Option<String> {
        let names = match names {
            Ok(discovery) => discovery.answers_to(&present.name),
            Err(failure) => {
                let why = failure.one_line();
                return Some(format!(
                    "whose it is by its name cannot be asked, so that nothing is done to it: {why}; run this again"
                ));
            }
        };
        let is_its = |name: &TenantName| self.keyring.tag(name) == note.name_tag;
        let by_name = match names.iter().find(|name| !is_its(name)) {
            Some(other) => format!("it answers to tenant {other}"),
            None if names.is_empty() => "its name is nobody's".to_owned(),
            None => return None,
        };
        Some(format!(
            "{by_name}, so that it is neither closed nor dropped; and it is not backed up. Look at what is in it. If it is the erased one (its tenant's \
             tag is {}), give it its old name back, and run this again. If it is another one, which got that number when the server was put back to \
             an older state: dump it, restore the dump into a new database, and drop this one",
            note.name_tag
        ))
    }

    fn describe(
        &self,
        (cluster, node): (&str, &str),
        (present, note): (&Present, &ErasureNote),
        names: Option<&Discovery>,
    ) -> FoundDatabase {
        let names = names.map(|names| names.answers_to(&present.name)).unwrap_or_default();
        let tenant = names.into_iter().find(|name| self.keyring.tag(name) == note.name_tag);
        FoundDatabase {
            why: Why::Returned,
            tenant: tenant.map(|tenant| tenant.as_str().to_owned()),
            name_tag: note.name_tag.to_string(),
            cluster: cluster.to_owned(),
            node: node.to_owned(),
            database: present.name.clone(),
            database_oid: Some(present.oid),
            is_open: present.allows_connections && !present.is_invalid,
            closed_now: false,
            plan: None,
            what: String::new(),
        }
    }
}

/// Lets nobody in any more, and ends sessions. Gives where sessions may go on.
async fn close(
    (server, asked): (&Server, &Asked),
    present: &Present,
    database: &PlannedDatabase,
) -> Result<Vec<String>, Failure> {
    let session = &asked.session;
    if present.is_invalid {
        return Ok(Vec::new());
    }
    if present.name == session.database() {
        let message = format!("database {} is the one that tenure is connected to", Printable(&present.name));
        return Err(Failure::new(
            crate::operation::failure::FailureClass::Refused,
            "maintenance-database",
            &present.name,
            message,
        )
        .hint("Name another one, like dbname=postgres, in `admin` or `primary` of the cluster."));
    }
    if present.allows_connections && !drop_database::allow_connections(session, present.oid, &present.name, false).await? {
        let message = format!("database {} changed while it was looked at", Printable(&present.name));
        return Err(Failure::new(crate::operation::failure::FailureClass::Failed, "changed-meanwhile", &present.name, message)
            .hint("Run it again."));
    }
    drop_database::end_sessions(session, present.oid).await?;
    Ok(drop::end_on_replicas(session, server, database).await)
}

async fn ask(target: &Target, seen: &Seen) -> Result<Asked, Failure> {
    let session = drop::open(target).await?;
    let facts = server_facts::read(&session).await?;
    let mut of: Vec<(u32, &ErasureNote)> = Vec::new();
    for note in seen.survey.erasures.values().flat_map(crate::operation::erased::Erasures::lasting) {
        let ErasureSays::Erased { databases, .. } = &note.says else { continue };
        let here = databases.iter().filter(|database| database.system_identifier == facts.system_identifier);
        of.extend(here.map(|database| (database.database_oid, note)));
    }
    let oids: Vec<u32> = of.iter().map(|(oid, _)| *oid).collect();
    let mut there = Vec::new();
    for present in drop_database::present(&session, &oids).await? {
        let notes = of.iter().filter(|(oid, _)| *oid == present.oid);
        let mut notes: Vec<ErasureNote> = notes.map(|(_, note)| (*note).clone()).collect();
        notes.sort_by_key(|note| note.created_at);
        there.push((present, notes));
    }
    Ok(Asked { session, system: facts.system_identifier, in_recovery: facts.in_recovery, there })
}

fn unasked(node: String, failure: &Failure) -> OpenItem {
    let what = format!("what it has cannot be asked: {}", failure.one_line());
    OpenItem { kind: "unreachable", object: node, what, until: None }
}
