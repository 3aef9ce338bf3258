//! What must be so before it is certified that everything is gone: by listings of now, and by every server that earlier documents name.

use std::collections::BTreeSet;

use super::{Done, Erase, certify::Paper, evidence::NOT_ASKED, status};
use crate::{
    format::{
        certificate::{GIVEN_UP, GONE, KeyCopy, Node},
        plan::{Plan, PlannedAct, PlannedDatabase, Step},
    },
    keyring::destroy,
    operation::{
        drop,
        failure::Failure,
        purge::{OpenItem, PurgeStatus, PurgedNode, What},
    },
    printable::Word,
    tenant::TenantName,
};

/// What becomes of a server that was asked before and is not asked now.
pub(super) enum Missing {
    GivenUp,
    Open(&'static str, String),
    Gone,
}

impl Erase<'_> {
    /// Servers that an earlier document names, on which nobody saw that the database was gone, and which this run does not ask. They are counted:
    /// who takes one out of `replicas` gives others its number.
    pub(super) async fn ask_who_was_named(&self, plan: &Plan, paper: &Paper, done: &mut Done) {
        let Some((newest, _)) = &paper.newest else { return };
        let nodes = newest.live.nodes.clone();
        let mut seen = BTreeSet::new();
        for database in plan.databases.iter().filter(|database| seen.insert(&database.cluster)) {
            let prefix = format!("{} replica ", database.cluster);
            let number = |node: &Node| node.node.strip_prefix(&prefix)?.parse::<usize>().ok();
            let replicas = self.drop.servers.iter().find(|server| server.name == database.cluster).map(|server| &server.replicas);
            let configured = replicas.map_or(0, Vec::len);
            let named = nodes.iter().filter_map(|node| Some((number(node)?, node)));
            let unsettled = named.clone().filter(|(_, node)| !is_settled(node)).count();
            let mut beyond: Vec<(usize, &Node)> =
                named.clone().filter(|(number, node)| *number > configured && node.state != GIVEN_UP).collect();
            beyond.sort_by_key(|(number, node)| (is_settled(node), *number));
            for (_, node) in beyond.into_iter().take(unsettled) {
                let what = match self.drop.accept.contains(&node.node) {
                    true => Missing::GivenUp,
                    false => Missing::Open(NOT_ASKED, not_asked(&node.node)),
                };
                missed(&node.node, what, done);
            }
            if !named.clone().any(|(_, node)| node.state == NOT_ASKED) {
                continue;
            }
            // It may be configured again, under whatever number, and a drop that is closed asks nobody any more.
            for (nth, target) in replicas.into_iter().flatten().enumerate() {
                let node = format!("{prefix}{}", nth + 1);
                let asked = drop::database_name(target, &database.system_identifier, database.database_oid).await;
                missed(&node, by_answer(asked, database), done);
            }
        }
    }

    /// What is there of keys and backups that an earlier run's purge had removed goes again.
    ///
    /// # Errors
    /// As [`crate::operation::purge::Purge::carry_out`].
    pub(super) async fn remove_returned(&self, tenant: &TenantName, plan: &Plan, done: &mut Done) -> Result<(), Failure> {
        let (purge, keys) = (&self.purge, plan.keys().collect());
        let mut is_there = self.left(plan, done).await?.objects > 0;
        for store in purge.keyring.stores() {
            // One that does not answer is an open item.
            let copies = destroy::copies(&**store, plan.name_tag, &keys).await;
            is_there |= copies.is_ok_and(|copies| copies.iter().any(|copies| !copies.is_empty()));
        }
        let open = purge.vault.plans(plan.name_tag, |steps| !steps.contains(&Step::Closed)).await?;
        if !is_there && !open.iter().any(|planned| planned.plan.act == PlannedAct::PurgeReturned) {
            return Ok(());
        }
        done.notes.push("keys or backups that had been destroyed were there again: they are destroyed once more".to_owned());
        let found = purge.look(tenant, What::Returned, false).await?;
        done.purged = Some(purge.carry_out(tenant, &found).await?);
        Ok(())
    }

    /// What every store lists of the keys, and the vault of the backups. Whatever is there, or cannot be known, is left open.
    ///
    /// # Errors
    /// A vault that cannot be listed.
    pub(super) async fn look_last(
        &self,
        tenant: &TenantName,
        plan: &Plan,
        paper: &Paper,
        done: &mut Done,
    ) -> Result<(), Failure> {
        let evidence = self.evidence(plan, status(done)).await?;
        let before = paper.newest.as_ref().map(|(newest, _)| newest.keys.copies.clone()).unwrap_or_default();
        let copies = self.key_copies(plan, &before, &evidence, done).await;
        let left = self.left(plan, done).await?;
        let is_said = |kind: &str, object: &str, done: &Done| {
            let purged = done.purged.iter().flat_map(|purged| &purged.open);
            done.open.iter().chain(purged).any(|item| item.kind == kind && item.object == object)
        };
        let again = format!("run `tenure erase {}` again", Word(tenant.as_str()));
        for copy in &copies {
            let Some(what) = self.may_be_left(copy, &again) else { continue };
            if !is_said("key-copy", &copy.store, done) {
                done.open.push(OpenItem { kind: "key-copy", object: copy.store.clone(), what, until: None });
            }
        }
        if left.objects > 0 && done.purged.as_ref().is_none_or(|purged| purged.status == PurgeStatus::Closed) {
            let what = format!("{} objects of its backups are there again: {again}, which removes them", left.objects);
            let object = self.purge.vault.store().address().to_owned();
            done.open.push(OpenItem { kind: "returned-backups", object, what, until: None });
        }
        done.last_look = Some((copies, left));
        Ok(())
    }

    fn may_be_left(&self, copy: &KeyCopy, again: &str) -> Option<String> {
        let is_configured = self.purge.keyring.stores().any(|store| store.address() == copy.store);
        match (&copy.left, copy.destroyed_at) {
            (Some(left), _) if is_configured && !left.is_empty() => {
                Some(format!("{} objects of its keys are there: {again}, which destroys them", left.len()))
            }
            (None, _) if is_configured => {
                Some(format!("it does not answer, and whether its copies of the keys are gone is not known: {again}"))
            }
            (_, None) => Some(format!(
                "its copies of the keys were never destroyed, and the configuration does not have it any more: put it back into `mirrors`, and {again}"
            )),
            _ => None,
        }
    }
}

/// Whether the database was gone there, or nobody waits for that.
fn is_settled(node: &Node) -> bool {
    [GONE, "absent", GIVEN_UP].contains(&node.state.as_str())
}

fn not_asked(node: &str) -> String {
    format!(
        "it had the database when it was asked last, or could not be asked, and the configuration does not have it any more: put it back into \
         `replicas`, or, if it is gone for good, say --accept '{node}', and the certificate names it; then run the same command again"
    )
}

fn by_answer(asked: Result<Option<Option<String>>, Failure>, database: &PlannedDatabase) -> Missing {
    let again = "run the same command again";
    match asked {
        Ok(Some(None)) => Missing::Gone,
        Ok(Some(Some(_))) => Missing::Open(
            NOT_ASKED,
            format!("it has the database with OID {}: when it has replayed the drop, {again}", database.database_oid),
        ),
        Ok(None) => Missing::Open(NOT_ASKED, format!("it is no copy of the primary: correct `replicas`, and {again}")),
        Err(failure) => Missing::Open(NOT_ASKED, format!("it cannot be asked: {}; start it, and {again}", failure.one_line())),
    }
}

pub(super) fn missed(node: &str, what: Missing, done: &mut Done) {
    let state = match what {
        Missing::GivenUp => {
            done.notes.push(format!("{node} is not asked any more: --accept said so, and the certificate names it"));
            GIVEN_UP
        }
        Missing::Gone => GONE,
        Missing::Open(kind, what) => {
            // It did not come back: it never was gone.
            done.open.retain(|item| (item.kind, item.object.as_str()) != ("returned", node));
            done.open.push(OpenItem { kind, object: node.to_owned(), what, until: None });
            done.live_is_erased = false;
            NOT_ASKED
        }
    };
    done.nodes.push(PurgedNode { node: node.to_owned(), state: state.to_owned(), replay_lsn: None });
}
