//! The steps of an erasure, in their order.

use std::collections::BTreeMap;

use chrono::SecondsFormat;

use super::{
    Done, Erase, Intent,
    certify::Paper,
    last_look::{Missing, missed},
    status,
};
use crate::{
    format::plan::{Found, Plan, PlannedAct, PlannedDatabase, Step},
    operation::{
        drop::{self, DropStatus},
        erased,
        failure::{Failure, FailureClass},
        plans,
        purge::{OpenItem, PurgeStatus, What},
        whose,
    },
    printable::Word,
    tenant::TenantName,
};

impl Erase<'_> {
    /// All steps, and what is certified of them at the end. Between the certificate and the mark that nothing is left to do a run may be killed:
    /// the next one finds nothing to add.
    pub(super) async fn steps(&self, tenant: &TenantName, intent: &Intent, done: &mut Done) -> Result<(), Failure> {
        let plan = &intent.plan;
        let mut paper = Paper::default();
        self.acts(tenant, intent, &mut paper, done).await?;
        self.certify(&mut paper, intent, done, status(done)).await?;
        done.is_certified = true;
        if !done.is_closed {
            return Ok(());
        }
        for other in self.purge.vault.plans(plan.name_tag, |steps| !steps.contains(&Step::Closed)).await? {
            if other.plan.id != plan.id && matches!(other.plan.act, PlannedAct::Erase { .. } | PlannedAct::Drop) {
                let void = Some(format!("plan {} erased everything", plan.id));
                self.mark(&other.plan, Step::Closed, Found { void, ..Found::default() }).await?;
            }
        }
        self.mark(plan, Step::Closed, Found::default()).await
    }

    async fn acts(&self, tenant: &TenantName, intent: &Intent, paper: &mut Paper, done: &mut Done) -> Result<(), Failure> {
        let (plan, purge) = (&intent.plan, &self.purge);
        whose::refuse_others_at_once(purge.vault, purge.keyring, plan, &BTreeMap::new()).await?;
        if !intent.is_destroying() {
            self.prepare(tenant, intent).await?;
        }
        if intent.is_past(Step::Closed) {
            done.notes.push("it was erased, and the last document of its certificate was lost: it is written again".to_owned());
        }
        *paper = self.paper(plan).await?;
        self.certify_request(paper, intent, done).await?;
        // Every run writes it where it is missing.
        done.open.extend(erased::put(purge.vault, purge.keyring, &intent.tombstone(), purge.eraser).await?);
        if !intent.is_destroying() {
            self.mark(plan, Step::Noted, Found::default()).await?;
            self.give_way(tenant, intent).await?;
            if self.now() < intent.grace_until() {
                return self.suspend(tenant, intent, done).await;
            }
            // By a clock that is ahead its grace is over too early.
            purge.refuse_clock_ahead().await?;
            purge.refuse_if_held(tenant, plan, false).await?;
            self.mark(plan, Step::Destroying, Found::default()).await?;
            if purge.vault.mark(plan.id, Step::Destroying).await?.is_none() {
                self.refuse_withdrawn(tenant, intent).await?;
                let message = format!("the erasure of tenant {tenant} is being withdrawn");
                return Err(Failure::new(FailureClass::Refused, "plan-void", plan.id, message).hint(format!(
                    "Nothing was destroyed. `tenure erase {} --undo` ends what another run began.",
                    Word(tenant.as_str())
                )));
            }
        }
        // Whoever withdrew it before this look finds the mark, and whoever comes later finds that it destroys.
        self.refuse_withdrawn(tenant, intent).await?;
        self.close_live(tenant, plan).await?;
        self.drop_live(tenant, intent, done).await?;
        self.ask_who_was_named(plan, paper, done).await;
        if done.open.iter().any(|item| item.kind == "copy") {
            // The purge takes the records that say which databases were made of the tenant's backups.
            done.notes.push("backups and keys stay until its copies are gone, or are accepted".to_owned());
            return Ok(());
        }
        self.purge_all(tenant, intent, paper, done).await?;
        done.was_purged = true;
        self.look_last(tenant, plan, paper, done).await?;
        self.ask_for_copies(paper, done).await;
        let is_purged = done.purged.as_ref().is_none_or(|purged| purged.status == PurgeStatus::Closed);
        let is_open = !done.open.is_empty() || done.purged.as_ref().is_some_and(|purged| !purged.open.is_empty());
        done.is_closed = done.live_is_erased && is_purged && !is_open;
        Ok(())
    }

    /// What must hold before the tombstone is written. Nothing is destroyed.
    async fn prepare(&self, tenant: &TenantName, intent: &Intent) -> Result<(), Failure> {
        let (plan, purge) = (&intent.plan, &self.purge);
        // As a purge of everything would look at it.
        let whole = Plan { act: PlannedAct::PurgeAll, ..plan.clone() };
        if let Some(other) = purge.not_in_plan(tenant, &whole).await? {
            if intent.is_past(Step::Noted) {
                // A plan that is given up withdraws no tombstone.
                return Err(not_planned(tenant, plan, &other));
            }
            if intent.is_resumed() {
                let void = Some(format!("{other} is not in the plan"));
                self.mark(plan, Step::Closed, Found { void, ..Found::default() }).await?;
            }
            let message = format!("{other} of tenant {tenant} is not in the plan {}", plan.id);
            return Err(Failure::new(FailureClass::Refused, "plan-void", plan.id, message).hint(format!(
                "Nothing was destroyed, and the plan is given up: `tenure erase {}` makes a new one.",
                Word(tenant.as_str())
            )));
        }
        if !intent.is_resumed() {
            purge.refuse_clock_behind().await?;
            // Somebody may have begun since this was planned.
            erased::refuse(purge.vault, purge.keyring, tenant).await?;
            purge.vault.put_plan(plan, purge.operator).await?;
        }
        plans::require(purge.vault, plan, Some(tenant), self.approvals, self.now()).await?;
        self.refuse_withdrawn(tenant, intent).await?;
        purge.refuse_if_held(tenant, plan, false).await
    }

    /// While its grace lasts: the database lets nobody in.
    async fn suspend(&self, tenant: &TenantName, intent: &Intent, done: &mut Done) -> Result<(), Failure> {
        self.refuse_withdrawn(tenant, intent).await?;
        let until = intent.grace_until();
        done.is_suspended = true;
        for database in &intent.plan.databases {
            match self.drop.suspend(tenant, database).await {
                Ok(may_go_on) => done.notes.extend(may_go_on),
                Err(failure) => {
                    done.is_suspended = false;
                    done.open.push(OpenItem {
                        kind: "live",
                        object: format!("the live database on {}", database.cluster),
                        what: format!("it may still let sessions in: {}", failure.one_line()),
                        until: None,
                    });
                }
            }
        }
        self.refuse_withdrawn(tenant, intent).await?;
        done.open.push(OpenItem {
            kind: "grace",
            object: format!("the grace of {tenant}"),
            what: format!(
                "nothing is destroyed before {}: after that the same command goes on; until then `tenure erase {} --undo` gives everything back",
                until.to_rfc3339_opts(SecondsFormat::Secs, true),
                Word(tenant.as_str())
            ),
            until: Some(until),
        });
        Ok(())
    }

    /// Of two that began in one moment the older one goes on: what it removes the other one could not list any more.
    async fn give_way(&self, tenant: &TenantName, intent: &Intent) -> Result<(), Failure> {
        let plan = &intent.plan;
        let age = |plan: &Plan| (plan.created_at, plan.id);
        let open = self.open(plan.name_tag).await?;
        let Some(older) = open.iter().map(|planned| &planned.plan).find(|other| age(other) < age(plan)) else { return Ok(()) };
        self.withdraw(plan).await?;
        self.certify_withdrawn(intent, &Done::default()).await?;
        let void = Some(erased::lost::WITHDRAWN.to_owned());
        self.mark(plan, Step::Closed, Found { void, ..Found::default() }).await?;
        let message = format!("another run began to erase tenant {tenant} in the same moment");
        Err(Failure::new(FailureClass::Busy, "erasure-begun", older.id, message).hint(format!(
            "It goes on, by plan {}, and this one is given up. `tenure erase {}` goes on with that one where it does not come to its end.",
            older.id,
            Word(tenant.as_str())
        )))
    }

    /// Whatever keeps a database from being dropped, nobody gets into it any more. What cannot be closed cannot be dropped either, and that
    /// is said then.
    async fn close_live(&self, tenant: &TenantName, plan: &Plan) -> Result<(), Failure> {
        if self.purge.vault.mark(plan.id, Step::Dropped).await?.is_some() {
            return Ok(());
        }
        for database in &plan.databases {
            if let Err(failure) = self.drop.suspend(tenant, database).await {
                tracing::debug!(error = %failure.one_line(), "the database of tenant {tenant} is not closed before it is dropped");
            }
        }
        Ok(())
    }

    /// What a withdrawn erasure has closed lets everybody in again, whoever closed it: whoever withdrew it may have found it open, or have
    /// come no further.
    async fn give_back(&self, tenant: &TenantName, databases: &[PlannedDatabase]) -> Result<(), Failure> {
        for database in databases.iter().filter(|database| database.allowed_connections) {
            match self.drop.resume(database).await {
                Ok(()) => {}
                // Somebody dropped it by hand: nobody waits for it.
                Err(failure) if failure.kind == "database-gone" => {}
                Err(failure) => {
                    let hint = format!(
                        "The erasure of tenant {tenant} was withdrawn, and its database lets nobody in: `tenure erase {} --undo` opens it. {}",
                        Word(tenant.as_str()),
                        failure.hint
                    );
                    return Err(failure.hint(hint.trim().to_owned()));
                }
            }
        }
        Ok(())
    }

    async fn is_withdrawn(&self, plan: &Plan) -> Result<bool, Failure> {
        let erasures = erased::read_both(self.purge.vault, self.purge.keyring, plan.name_tag).await?;
        Ok(erasures.is_withdrawn(plan.id))
    }

    async fn refuse_withdrawn(&self, tenant: &TenantName, intent: &Intent) -> Result<(), Failure> {
        let plan = &intent.plan;
        if !self.is_withdrawn(plan).await? {
            return Ok(());
        }
        self.give_back(tenant, &plan.databases).await?;
        self.certify_withdrawn(intent, &Done::default()).await?;
        let void = Some(erased::lost::WITHDRAWN.to_owned());
        self.mark(plan, Step::Closed, Found { void, ..Found::default() }).await?;
        let message = format!("the erasure of tenant {tenant} was withdrawn");
        Err(Failure::new(FailureClass::Refused, "plan-void", plan.id, message)
            .hint("Nothing was destroyed, and the plan is given up."))
    }

    /// The live part, by the numbers in the plan. What keeps a database from being dropped is left open, and keeps no backup from going: the
    /// tombstone stands.
    async fn drop_live(&self, tenant: &TenantName, intent: &Intent, done: &mut Done) -> Result<(), Failure> {
        let plan = &intent.plan;
        done.live_is_erased = true;
        if self.purge.vault.mark(plan.id, Step::Dropped).await?.is_some() {
            return self.look_again(tenant, plan, done).await;
        }
        for database in &plan.databases {
            let report = match self.drop.look_by_number(tenant, plan, database).await {
                Ok(live) => self.drop.carry_out(tenant, &live).await,
                Err(failure) => Err(failure),
            };
            let primary = format!("{} primary", database.cluster);
            match report {
                Err(failure) if is_elsewhere(&failure) && self.drop.accept.contains(&primary) => {
                    missed(&primary, Missing::GivenUp, done);
                    done.open.extend(self.drop.copies_of(plan, database).await?);
                    // The very server may be there, under another name.
                    self.look_again(tenant, plan, done).await?;
                }
                Ok(report) => {
                    done.live_is_erased &= report.status == DropStatus::Closed;
                    done.nodes.extend(report.nodes);
                    done.open.extend(report.open);
                    done.notes.extend(report.notes);
                }
                Err(failure)
                    if failure.kind != "on-hold" && matches!(failure.class, FailureClass::Failed | FailureClass::Refused) =>
                {
                    done.live_is_erased = false;
                    // A drop that comes to its end names them; the purge that follows takes what is known of them.
                    done.open.extend(self.drop.copies_of(plan, database).await?);
                    let or_accept = match is_elsewhere(&failure) {
                        true => format!(" If that server is gone for good, say --accept {}.", Word(&primary)),
                        false => String::new(),
                    };
                    done.open.push(OpenItem {
                        kind: "live",
                        object: format!("the live database of {tenant}"),
                        what: format!("{}. {}{or_accept}", failure.one_line(), failure.hint).trim().to_owned(),
                        until: None,
                    });
                }
                Err(failure) => return Err(failure),
            }
        }
        match done.live_is_erased {
            true => self.mark(plan, Step::Dropped, Found::default()).await,
            false => Ok(()),
        }
    }

    /// Between a drop and the end of an erasure there may be weeks, and in them somebody may put an old copy of a server back.
    async fn look_again(&self, tenant: &TenantName, plan: &Plan, done: &mut Done) -> Result<(), Failure> {
        for database in &plan.databases {
            // Whatever its cluster is called by now.
            for (node, target) in self.drop.servers.iter().flat_map(|server| self.drop.nodes(&server.name)) {
                let is_its = node.starts_with(&format!("{} ", database.cluster));
                let found = drop::database_name(target, &database.system_identifier, database.database_oid).await;
                match found {
                    Ok(Some(None)) => {}
                    Ok(Some(Some(_))) => {
                        done.live_is_erased = false;
                        done.open.push(OpenItem {
                            kind: "returned",
                            object: node,
                            what: format!(
                                "the database was gone there, and one with its number is there again: `tenure reconcile` says what is to be done with \
                                 it; then `tenure erase {}` goes on",
                                Word(tenant.as_str())
                            ),
                            until: None,
                        });
                    }
                    // It was asked when the database was dropped, and said that it is gone.
                    Ok(None) if is_its => done.notes.push(format!("{node} is another server now, and was not asked again")),
                    Err(failure) if is_its => {
                        done.notes.push(format!("{node} could not be asked again: {}", failure.one_line()));
                    }
                    Ok(None) | Err(_) => {}
                }
            }
        }
        Ok(())
    }

    async fn purge_all(&self, tenant: &TenantName, intent: &Intent, paper: &mut Paper, done: &mut Done) -> Result<(), Failure> {
        let purge = &self.purge;
        if self.is_purged(&intent.plan).await? {
            return self.remove_returned(tenant, &intent.plan, done).await;
        }
        let found = purge.look(tenant, What::All, false).await?;
        let is_planned = |locker| intent.plan.lockers.iter().any(|planned| planned.locker == locker);
        if let Some(other) = found.plan.lockers.iter().find(|found| !is_planned(found.locker)) {
            let message = format!("locker {} of tenant {tenant} is not in the plan {}", other.locker, intent.plan.id);
            return Err(Failure::new(FailureClass::Refused, "plan-changed", intent.plan.id, message).hint(format!(
                "It came after the plan was signed: find out how. `tenure purge {}` lets go of it, and then this command goes on.",
                Word(tenant.as_str())
            )));
        }
        self.certify_what_goes(paper, intent, done).await?;
        done.purged = Some(purge.carry_out(tenant, &found).await?);
        Ok(())
    }

    /// Whether a purge of everything that this plan names is closed.
    async fn is_purged(&self, plan: &Plan) -> Result<bool, Failure> {
        let vault = self.purge.vault;
        let is_whole = |other: &Plan| {
            let has = |locker| other.lockers.iter().any(|planned| planned.locker == locker);
            other.act == PlannedAct::PurgeAll && plan.lockers.iter().all(|planned| has(planned.locker))
        };
        let closed =
            |steps: &std::collections::BTreeSet<Step>| steps.contains(&Step::KeysDestroyed) && steps.contains(&Step::Closed);
        for planned in vault.plans(plan.name_tag, closed).await?.into_iter().filter(|planned| is_whole(&planned.plan)) {
            // By what the eraser signed, not by the names alone.
            let mark = vault.mark(planned.plan.id, Step::Closed).await?;
            if mark.is_some_and(|mark| mark.found.void.is_none()) && vault.keys_are_destroyed(planned.plan.id).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether the configuration does not lead to the server any more on which the database was.
fn is_elsewhere(failure: &Failure) -> bool {
    matches!(failure.kind, "another-server" | "no-such-cluster")
}

fn not_planned(tenant: &TenantName, plan: &Plan, other: &str) -> Failure {
    let message = format!("{other} of tenant {tenant} is not in the plan {}", plan.id);
    Failure::new(FailureClass::Refused, "plan-changed", plan.id, message).hint(format!(
        "Nothing was destroyed. Find out where that comes from. `tenure erase {0} --undo` gives everything back; after that `tenure erase {0}` makes \
         a new plan, with it.",
        Word(tenant.as_str())
    ))
}
