//! The steps of a drop, in their order.

use std::collections::BTreeMap;

use super::{AGAIN, Done, DropTenant, Intent};
use crate::{
    format::{
        act::ActOutcome,
        plan::{Found, NodeFound, Plan, PlannedDatabase, Step},
    },
    operation::{
        failure::{Failure, FailureClass},
        held::Held,
        plans,
        purge::{OpenItem, PurgedNode},
        whose,
    },
    postgres::{
        Session,
        drop_database::{self, Doomed, DropError, Obstacle},
        replication,
    },
    printable::Printable,
    tenant::TenantName,
};

impl DropTenant<'_> {
    /// Under the tenant's lock.
    pub(super) async fn steps(
        &self,
        tenant: &TenantName,
        intent: &Intent,
        lock: &dyn Held,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let (plan, database) = (&intent.plan, intent.database()?);
        whose::refuse_others_at_once(self.vault, self.keyring, plan, &BTreeMap::new()).await?;
        let session = self.connect(database).await?;
        // As it is now, under the lock.
        let mut state = "dropped";
        match drop_database::look(&session, database.database_oid).await? {
            Some(doomed) => {
                if intent.doomed.as_ref().is_none_or(|seen| seen.name != doomed.name) {
                    return Err(renamed(tenant, &doomed));
                }
                self.end_of_it(tenant, intent, &doomed, (&session, lock), done).await?;
            }
            None if intent.is_past(Step::Destroying) => {
                if self.vault.mark(plan.id, Step::Destroying).await?.is_none() {
                    let message = format!("what plan {} had come past is not there any more", plan.id);
                    return Err(Failure::new(FailureClass::Integrity, "plan-changed", plan.id, message)
                        .hint("Somebody removes objects from the vault. Look there, and run it again."));
                }
            }
            // An erasure wants it gone, whoever dropped it: its replicas are asked.
            None if self.within_erasure => {
                if !intent.is_resumed() {
                    self.vault.put_plan(plan, self.operator).await?;
                }
                done.is_planned = true;
                state = "absent";
            }
            None => return self.gone_by_itself(tenant, intent).await,
        }
        // Before the replicas are asked: whoever lists or backs up the fleet is told at once that nobody is missing.
        let lsn = self.dropped(&session, plan, (database, state), done).await?;
        self.progress.stage(tenant, "asking replicas");
        self.ask_replicas(&session, database, &lsn, done).await?;
        self.name_copies(plan, database, done).await?;
        if done.open.is_empty() {
            self.mark(plan, Step::Closed, Found { nodes: done.found.clone(), ..Found::default() }).await?;
            done.is_closed = true;
        }
        Ok(())
    }

    /// From a database that lives to one that does not.
    async fn end_of_it(
        &self,
        tenant: &TenantName,
        intent: &Intent,
        doomed: &Doomed,
        (session, lock): (&Session, &dyn Held),
        done: &mut Done,
    ) -> Result<(), Failure> {
        let plan = &intent.plan;
        self.refuse(tenant, session, doomed).await?;
        self.refuse_if_held(tenant, plan).await?;
        if !intent.is_resumed() {
            self.vault.put_plan(plan, self.operator).await?;
        }
        plans::require(self.vault, plan, Some(tenant), self.approvals, (self.clock)()).await?;
        self.stop_if_asked(tenant)?;
        self.progress.stage(tenant, "closing");
        self.mark(plan, Step::Closing, Found::default()).await?;
        done.is_planned = true;
        if !doomed.is_invalid {
            self.clear_away(session, doomed, done).await?;
            if !drop_database::allow_connections(session, doomed.oid, &doomed.name, false).await? {
                return Err(renamed(tenant, doomed));
            }
            drop_database::end_sessions(session, doomed.oid).await?;
            // What came since the first look, when there were sessions that could bring it.
            let Some(now) = drop_database::look(session, doomed.oid).await? else {
                return self.gone_by_itself(tenant, intent).await;
            };
            let left = Doomed {
                obstacles: now.obstacles.into_iter().filter(|obstacle| *obstacle != Obstacle::Template).collect(),
                ..now
            };
            if let Some(obstacle) = left.obstacles.first() {
                let message = format!("database {} cannot be dropped: {obstacle}", Printable(&left.name));
                return Err(Failure::new(FailureClass::Refused, "blocked", tenant, message)
                    .hint(format!("It came in the last moment. Run {} again.", self.command(tenant, plan))));
            }
        }
        // The last word: whoever placed a hold by now keeps it.
        self.refuse_if_held(tenant, plan).await?;
        lock.still_held().await?;
        self.stop_if_asked(tenant)?;
        self.record(intent, (self.clock)(), ActOutcome::Begun).await?;
        self.mark(plan, Step::Destroying, Found::default()).await?;
        done.is_destroying = true;
        self.progress.stage(tenant, "dropping");
        if doomed.obstacles.contains(&Obstacle::Template) && !doomed.is_invalid {
            drop_database::no_template(session, &doomed.name).await?;
        }
        // Afterwards nobody knows any more whose they were.
        let roles = drop_database::own_roles(session, doomed.oid).await?;
        match drop_database::drop_database(session, doomed.oid, &doomed.name).await {
            Ok(()) => {
                done.notes.extend(roles.iter().map(|role| {
                    let quoted = postgres_protocol::escape::escape_identifier(role);
                    format!(
                        "role {} had this database and nothing else, and stays: DROP ROLE {};",
                        Printable(role),
                        Printable(&quoted)
                    )
                }));
                Ok(())
            }
            Err(DropError::Statement(error)) => Err(Failure::from(error)),
            Err(error) => Err(Failure::new(FailureClass::Refused, "another-database", tenant, error.to_string())
                .hint("Find out who renamed it.")),
        }
    }

    /// Clears away what was asked to be. What needs a session inside is done while the database lets one in.
    async fn clear_away(&self, session: &Session, doomed: &Doomed, done: &mut Done) -> Result<(), Failure> {
        let inside: Vec<&Obstacle> = doomed
            .obstacles
            .iter()
            .filter(|obstacle| matches!(obstacle, Obstacle::Prepared(_) | Obstacle::Subscription { .. }))
            .collect();
        if inside.is_empty() {
            return Ok(());
        }
        if !doomed.allows_connections {
            drop_database::allow_connections(session, doomed.oid, &doomed.name, true).await?;
        }
        // The very server, and not another one of a list.
        let within = session.target().connect(&doomed.name, "tenure drop").await?;
        for obstacle in inside {
            match obstacle {
                Obstacle::Prepared(gid) => {
                    drop_database::roll_back(&within, gid).await?;
                    done.notes.push(format!("prepared transaction {} was rolled back", Printable(gid)));
                }
                Obstacle::Subscription { name, slot } => {
                    drop_database::unsubscribe(&within, name).await?;
                    done.notes.push(format!("subscription {} was ended", Printable(name)));
                    if let Some(slot) = slot {
                        let what = format!(
                            "it was read by subscription {}, and its publisher was not told: there \
                             SELECT pg_drop_replication_slot('{}'), or it keeps the log for ever",
                            Printable(name),
                            Printable(slot)
                        );
                        let object = format!("slot {} of the publisher", Printable(slot));
                        done.open.push(OpenItem { kind: "remote-slot", object, what, until: None });
                    }
                }
                Obstacle::Slot(_) | Obstacle::Template => {}
            }
        }
        Ok(())
    }

    /// The database is gone from the primary: that is written down, with the position in the log that every replica must get to. It is asked
    /// for each time: a primary that took over since has another log.
    async fn dropped(
        &self,
        session: &Session,
        plan: &Plan,
        (database, state): (&PlannedDatabase, &str),
        done: &mut Done,
    ) -> Result<String, Failure> {
        let lsn = replication::flushed(session).await?;
        let node = format!("{} primary", database.cluster);
        for note in plan.lockers.iter().filter_map(|planned| plan.note(planned)) {
            self.vault.put_purge_note(&note, self.eraser).await?;
        }
        done.nodes.push(PurgedNode { node: node.clone(), state: state.to_owned(), replay_lsn: None });
        done.found.push(NodeFound { node, database_oid: database.database_oid, lsn: lsn.clone(), at: (self.clock)() });
        self.mark(plan, Step::Dropped, Found { nodes: done.found.clone(), ..Found::default() }).await?;
        done.drop_lsn = Some(lsn.clone());
        Ok(lsn)
    }

    /// A database that went away before this plan dropped it: nobody can say what became of it.
    async fn gone_by_itself(&self, tenant: &TenantName, intent: &Intent) -> Result<(), Failure> {
        let plan = &intent.plan;
        if intent.is_resumed() {
            let void = Some("the database went away before it was dropped by this plan".to_owned());
            self.mark(plan, Step::Closed, Found { void, ..Found::default() }).await?;
        }
        let message = format!("the database of tenant {tenant} went away before plan {} dropped it: somebody else did", plan.id);
        Err(Failure::new(FailureClass::Refused, "plan-void", plan.id, message)
            .hint("Nothing was dropped, and the plan is given up. Its replicas were not asked."))
    }

    /// After a run that ended before anything was lost: the database lets everybody in again who was let in before. Where a guard refused it,
    /// or a person stopped it, the plan is given up as well.
    pub(super) async fn give_back(&self, tenant: &TenantName, intent: &Intent, done: &Done, failure: Failure) -> Failure {
        if !done.is_planned || failure.kind == "plan-void" || failure.class == FailureClass::Busy {
            return failure;
        }
        let opened = match intent.database() {
            // Whatever keeps an erased tenant's database from being dropped, nobody gets into it any more.
            Ok(_) if self.within_erasure => Ok(true),
            Ok(database) => self.open_again(database).await,
            Err(failure) => Err(failure),
        };
        let is_given_up = matches!(failure.class, FailureClass::Refused | FailureClass::Interrupted) && !done.is_destroying;
        match opened {
            // Gone, or what an interrupted drop left: only the next run helps.
            Ok(false) => Failure {
                hint: format!("{} {} goes on with it.", failure.hint, self.command(tenant, &intent.plan)).trim().to_owned(),
                ..failure
            },
            Ok(true) => {
                let is_open = intent.database().is_ok_and(|database| database.allowed_connections);
                let state = match is_open {
                    _ if self.within_erasure => "closed",
                    true => "open as it was",
                    false => "as it was",
                };
                let mut hint = format!("{} The database is {state}.", failure.hint);
                if is_given_up {
                    let void = Some(format!("given up: {}", failure.kind));
                    let found = Found { void, ..Found::default() };
                    match self.mark(&intent.plan, Step::Closed, found).await {
                        Ok(()) => hint.push_str(" The plan is given up."),
                        Err(error) => hint.push_str(&format!(" The plan is open: {}.", error.one_line())),
                    }
                } else {
                    hint.push_str(&format!(" {} goes on with the plan.", self.command(tenant, &intent.plan)));
                }
                Failure { hint: hint.trim().to_owned(), ..failure }
            }
            Err(why) => {
                let name = intent.doomed.as_ref().map_or("…", |doomed| doomed.name.as_str());
                let hint = format!(
                    "{} The database may let nobody in: {}. {} goes on with the drop; ALTER DATABASE {} ALLOW_CONNECTIONS true opens it.",
                    failure.hint,
                    why.one_line(),
                    self.command(tenant, &intent.plan),
                    Printable(&postgres_protocol::escape::escape_identifier(name))
                );
                Failure { hint: hint.trim().to_owned(), ..failure }
            }
        }
    }
}

fn renamed(tenant: &TenantName, doomed: &Doomed) -> Failure {
    let message = format!("the database of tenant {tenant} is called {} now, and was not a moment ago", Printable(&doomed.name));
    Failure::new(FailureClass::Refused, "another-database", tenant, message).hint(format!("Nothing was dropped. {AGAIN}."))
}
