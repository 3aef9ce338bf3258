//! Databases that were erased and are there again, by their numbers.

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
        failure::Failure,
        plans,
        purge::OpenItem,
    },
    postgres::{
        Session,
        drop_database::{self, Present},
        server_facts,
    },
    printable::{Printable, Word, confirmed},
    signature::Namespace,
    signed::FORMAT,
};

/// A server that answered.
struct Asked {
    session: Session,
    /// Its system identifier.
    system: String,
    in_recovery: bool,
    /// Erased databases that it has, each with its tombstone.
    there: Vec<(Present, ErasureNote)>,
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
                    for (present, note) in &asked.there {
                        on_primary.insert(present.oid);
                        self.primary_has(seen, (server, &asked), (present, note), report).await?;
                    }
                }
                Err(failure) => report.open.push(unasked(primary, &failure)),
            }
            for (number, target) in server.replicas.iter().enumerate() {
                let node = format!("{} replica {}", server.name, number + 1);
                match ask(target, seen).await {
                    Ok(asked) => {
                        for (present, note) in asked.there.iter().filter(|(present, _)| !on_primary.contains(&present.oid)) {
                            self.replica_has(seen, (server, &node, &asked), (present, note), report).await;
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
        (present, note): (&Present, &ErasureNote),
        report: &mut ReconcileReport,
    ) -> Result<(), Failure> {
        let cluster = &server.name;
        let mut found = describe(seen, self, cluster, &format!("{cluster} primary"), present, note);
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
        let is_erasing = seen.is_erasing(note.name_tag, note.id);
        let was_open = present.allows_connections && !present.is_invalid;
        if is_erasing && !was_open {
            // As it should be: its erasure drops it.
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
            match close((server, asked), present, &database).await {
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
        let name = found.tenant.clone().unwrap_or_else(|| "NAME".to_owned());
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
        let of =
            if name == "NAME" { format!(", NAME being the tenant's, whose tag is {}", note.name_tag) } else { String::new() };
        if self.approvals > 0 && !is_begun && plan.is_some_and(|plan| plans::is_stale(plan, (self.clock)())) {
            return format!(
                "plan {id} of a drop is too old to begin: `tenure plans cancel {id}`, and the next `tenure reconcile` makes a new one"
            );
        }
        let drop = format!("`{}` drops it, on its primary and every replica", confirmed("drop", name, &format!(" --plan {id}")));
        match self.approvals {
            0 => format!("{drop}{of}"),
            needed if is_begun => format!("{drop}; {needed} operators signed that{of}"),
            needed => {
                let s = if needed == 1 { "" } else { "s" };
                format!(
                    "{needed} operator{s} must sign plan {id}, which they do by `tenure approve {id} --tenant {}`; then {drop}{of}",
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
        seen: &Seen,
        (server, node, asked): (&Server, &str, &Asked),
        (present, note): (&Present, &ErasureNote),
        report: &mut ReconcileReport,
    ) {
        let mut found = describe(seen, self, &server.name, node, present, note);
        found.why = Why::OnReplica;
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

async fn ask(target: &crate::postgres::Target, seen: &Seen) -> Result<Asked, Failure> {
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
        // The last one that was written of it: an erasure that is not through, where there is one.
        let note = of.iter().filter(|(oid, _)| *oid == present.oid).max_by_key(|(_, note)| note.created_at);
        there.extend(note.map(|(_, note)| (present, (*note).clone())));
    }
    Ok(Asked { session, system: facts.system_identifier, in_recovery: facts.in_recovery, there })
}

fn unasked(node: String, failure: &Failure) -> OpenItem {
    let what = format!("what it has cannot be asked: {}", failure.one_line());
    OpenItem { kind: "unreachable", object: node, what, until: None }
}

fn describe(seen: &Seen, run: &Reconcile<'_>, cluster: &str, node: &str, present: &Present, note: &ErasureNote) -> FoundDatabase {
    let names = seen.names(cluster, &present.name);
    let tenant = names.into_iter().find(|name| run.keyring.tag(name) == note.name_tag);
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
