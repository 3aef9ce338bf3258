//! What is known of an erasure: by what was signed of its steps, and by what stores and servers say now.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;

use super::{Done, Erase, EraseStatus, certify::Paper, plan::binds};
use crate::{
    format::{
        certificate::{CopyState, GIVEN_UP, GONE, KeyCopy, Left, MadeCopy, Node, Reached},
        plan::{Mark, Plan, PlannedAct, Step},
    },
    id::KeyId,
    keyring::destroy,
    object_name::prefix,
    operation::{
        drop,
        failure::Failure,
        purge::{OpenItem, PurgedNode},
    },
    printable::{Printable, Word},
};

/// What the steps of the drop and the purge say, as they were signed.
#[derive(Default)]
pub(super) struct Evidence {
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) key_copies: BTreeMap<String, DateTime<Utc>>,
    pub(super) reached: Vec<Reached>,
}

impl Evidence {
    fn destroyed(&mut self, mark: Mark) {
        for copy in mark.found.key_copies {
            let at = self.key_copies.entry(copy.store).or_insert(copy.absent_at);
            *at = (*at).max(copy.absent_at);
        }
    }
}

impl Erase<'_> {
    /// What the eraser signed of the steps of this plan, and of the drop and the purge that carried it out.
    pub(super) async fn evidence(&self, plan: &Plan, stage: EraseStatus) -> Result<Evidence, Failure> {
        let vault = self.purge.vault;
        let mark = async |plan, step| {
            Ok::<Option<Mark>, Failure>(vault.mark(plan, step).await?.filter(|mark| mark.found.void.is_none()))
        };
        let mut at = BTreeMap::from([(EraseStatus::Requested, plan.created_at)]);
        if let PlannedAct::Erase { grace_until } = plan.act
            && grace_until > plan.created_at
            && let Some(noted) = mark(plan.id, Step::Noted).await?
        {
            at.insert(EraseStatus::Suspended, noted.at);
        }
        if let Some(dropped) = mark(plan.id, Step::Dropped).await? {
            at.insert(EraseStatus::LiveErased, dropped.at);
        }
        let mut evidence = Evidence::default();
        for planned in vault.plans(plan.name_tag, |_| true).await? {
            let other = &planned.plan;
            match other.act {
                PlannedAct::Drop if !other.databases.is_empty() && binds(plan, other) => {
                    for step in [Step::Dropped, Step::Closed] {
                        let marked = mark(other.id, step).await?.into_iter().flat_map(|mark| mark.found.nodes);
                        // What was asked before this was planned is evidence of something else.
                        for found in marked.filter(|found| found.at >= plan.created_at) {
                            let is_primary = found.node.ends_with(" primary");
                            let lsn = Some(found.lsn).filter(|lsn| !lsn.is_empty());
                            let (drop_lsn, replay_lsn) = if is_primary { (lsn, None) } else { (None, lsn) };
                            let node = Node {
                                node: found.node.clone(),
                                state: GONE.to_owned(),
                                drop_lsn,
                                replay_lsn,
                                at: Some(found.at),
                            };
                            // Of the primary it says when it was dropped, of a replica when it was last asked.
                            match is_primary {
                                true => _ = evidence.nodes.entry(found.node).or_insert(node),
                                false => _ = evidence.nodes.insert(found.node, node),
                            }
                        }
                    }
                }
                PlannedAct::PurgeAll if names_all(other, plan) => {
                    if let Some(destroyed) = mark(other.id, Step::KeysDestroyed).await? {
                        at.insert(EraseStatus::KeysDestroyed, destroyed.at);
                        evidence.destroyed(destroyed);
                    }
                }
                // What was put back, and destroyed again.
                PlannedAct::PurgeReturned if names_all(other, plan) => {
                    if let Some(destroyed) = mark(other.id, Step::KeysDestroyed).await? {
                        evidence.destroyed(destroyed);
                    }
                }
                _ => {}
            }
        }
        if matches!(stage, EraseStatus::Closed | EraseStatus::Withdrawn) {
            // What is through stays so: a later run says the same.
            let closed = vault.mark(plan.id, Step::Closed).await?;
            at.insert(stage, closed.map_or_else(|| self.now(), |mark| mark.at));
        }
        evidence.reached = at.into_iter().map(|(stage, at)| Reached { stage, at }).collect();
        evidence.reached.sort_by_key(|reached| reached.at);
        Ok(evidence)
    }

    /// Every store that has, or had, copies of the keys, by what it lists now.
    pub(super) async fn key_copies(&self, plan: &Plan, before: &[KeyCopy], evidence: &Evidence, done: &Done) -> Vec<KeyCopy> {
        let keys: BTreeSet<KeyId> = plan.keys().collect();
        let mut copies: Vec<KeyCopy> = Vec::new();
        for store in self.purge.keyring.stores() {
            let address = store.address();
            let listed = destroy::copies(&**store, plan.name_tag, &keys).await.ok();
            let left = listed.map(|listed| listed.into_iter().flatten().map(|object| object.name).collect::<Vec<_>>());
            let now = done.purged.iter().flat_map(|purged| &purged.key_copies).find(|copy| copy.store == address);
            let was = before.iter().find(|copy| copy.store == address);
            let destroyed_at = evidence.key_copies.get(address).copied();
            let destroyed_at =
                destroyed_at.or_else(|| now.and_then(|copy| copy.destroyed_at)).or(was.and_then(|was| was.destroyed_at));
            let destroyed_at = match &left {
                Some(left) if !left.is_empty() => None,
                // Somebody else emptied it.
                Some(_) if done.was_purged => destroyed_at.or_else(|| Some(self.now())),
                _ => destroyed_at,
            };
            copies.push(KeyCopy { store: address.to_owned(), destroyed_at, left });
        }
        // One that is not configured any more.
        let others = before.iter().filter(|was| !self.purge.keyring.stores().any(|store| store.address() == was.store));
        copies.extend(others.cloned());
        copies
    }

    /// What a listing of the lockers shows now.
    pub(super) async fn left(&self, plan: &Plan, done: &Done) -> Result<Left, Failure> {
        let mut left = Left { at: self.now(), objects: 0, bytes: 0, locked_until: None };
        for planned in &plan.lockers {
            let (all, gone) = (prefix::locker(planned.locker), prefix::in_locker(planned.locker, "gone"));
            let mut listing = self.purge.vault.store().list(&all);
            while let Some(listed) = listing.try_next().await? {
                if !listed.name.starts_with(&gone) {
                    left.objects += 1;
                    left.bytes += listed.size;
                }
            }
        }
        let locked = done.purged.iter().flat_map(|purged| &purged.open).filter(|item| item.kind == "locked");
        left.locked_until = locked.filter_map(|item| item.until).max();
        Ok(left)
    }

    /// Databases that restores made of the backups. What of them is still there when the purge begins was let pass by name.
    pub(super) async fn copies(&self, plan: &Plan) -> Result<Vec<MadeCopy>, Failure> {
        let mut copies = Vec::new();
        for planned in &plan.lockers {
            let (made, _) = self.purge.vault.made_copies(planned.locker).await?;
            for (copy, database_oid) in made {
                let mut made = MadeCopy {
                    backup: Some(copy.backup),
                    cluster: copy.cluster,
                    system_identifier: copy.system_identifier,
                    database_oid,
                    made_at: copy.created_at,
                    state: CopyState::Unknown,
                };
                self.ask_for(&mut made).await;
                copies.push(made);
            }
            for source in self.purge.vault.every_source(planned.locker).await? {
                let place = (source.system_identifier.as_str(), source.database_oid);
                let is_live = plan.databases.iter().any(|live| (live.system_identifier.as_str(), live.database_oid) == place);
                let is_made = |copy: &MadeCopy| (copy.system_identifier.as_str(), copy.database_oid) == (place.0, Some(place.1));
                if is_live || copies.iter().any(is_made) {
                    continue;
                }
                let mut before = MadeCopy {
                    backup: None,
                    cluster: source.cluster.clone(),
                    database_oid: Some(source.database_oid),
                    system_identifier: source.system_identifier,
                    made_at: source.created_at,
                    state: CopyState::Unknown,
                };
                self.ask_for(&mut before).await;
                copies.push(before);
            }
        }
        copies.sort_by_key(|copy| copy.made_at);
        Ok(copies)
    }

    /// What became of those that were not gone when they were certified: the purge took their records. Who is not gone, and of whom nobody
    /// said that he stays, keeps the erasure open.
    pub(super) async fn ask_for_copies(&self, paper: &Paper, done: &mut Done) {
        let Some((newest, _)) = &paper.newest else { return };
        let mut copies = newest.copies.clone();
        for copy in copies.iter_mut().filter(|copy| !matches!(copy.state, CopyState::Gone | CopyState::Stays)) {
            let name = self.ask_for(copy).await;
            if matches!(copy.state, CopyState::Gone | CopyState::Stays) {
                continue;
            }
            let cluster = Printable(&copy.cluster);
            let (object, what, accept) = match &name {
                Some(name) => {
                    let quoted = postgres_protocol::escape::escape_identifier(name);
                    let what = format!("holds its rows: DROP DATABASE {}", Printable(&quoted));
                    (format!("database {} on {cluster}", Printable(name)), what, name.clone())
                }
                None => {
                    let oid = copy.database_oid.map_or("an unknown OID".to_owned(), |oid| format!("OID {oid}"));
                    let what = format!("with {oid}, cannot be asked for: bring that server back");
                    (format!("a database on {cluster}"), what, by_number(copy))
                }
            };
            let made = match copy.backup {
                Some(backup) => format!("which a restore made of backup {backup}"),
                None => "which was its database before".to_owned(),
            };
            let what = format!("{made}, {what}, or say --accept {}; then run the same command again", Word(&accept));
            done.open.push(OpenItem { kind: "copy", object, what, until: None });
        }
        done.copies = Some(copies);
    }

    /// Asks what became of a copy, and gives what it is called where it is there.
    async fn ask_for(&self, copy: &mut MadeCopy) -> Option<String> {
        let accept = &self.drop.accept;
        let server = self.drop.servers.iter().find(|server| server.name == copy.cluster);
        let found = match (server, copy.database_oid) {
            (Some(server), Some(oid)) => drop::database_name(&server.admin, &copy.system_identifier, oid).await.ok().flatten(),
            _ => None,
        };
        let (state, name) = match found {
            Some(None) => (CopyState::Gone, None),
            Some(Some(name)) if accept.contains(&name) => (CopyState::Stays, Some(name)),
            Some(Some(name)) => (CopyState::There, Some(name)),
            None if accept.contains(&by_number(copy)) => (CopyState::Stays, None),
            None => (CopyState::Unknown, None),
        };
        copy.state = state;
        name
    }
}

/// How one is named that cannot be asked for: `eu-1/16414`.
fn by_number(copy: &MadeCopy) -> String {
    let oid = copy.database_oid.map_or("unknown".to_owned(), |oid| oid.to_string());
    format!("{}/{oid}", copy.cluster)
}

/// What is said of a server that an earlier document names, and that nobody asks now.
pub(super) const NOT_ASKED: &str = "not-asked";

/// Servers by what was signed of them, otherwise by what this run or an earlier one met.
pub(super) fn nodes(before: &[Node], evidence: &Evidence, met: &[PurgedNode]) -> Vec<Node> {
    let mut nodes: BTreeMap<String, Node> = before.iter().map(|node| (node.node.clone(), node.clone())).collect();
    for met in met {
        let (node, state, replay_lsn) = (met.node.clone(), met.state.clone(), met.replay_lsn.clone());
        nodes.insert(met.node.clone(), Node { node, state, drop_lsn: None, replay_lsn, at: None });
    }
    let is_not_asked = |node: &Node| [GIVEN_UP, NOT_ASKED].contains(&node.state.as_str());
    for (name, node) in &evidence.nodes {
        // Its number may have been another server's.
        if !nodes.get(name).is_some_and(is_not_asked) {
            nodes.insert(name.clone(), node.clone());
        }
    }
    nodes.into_values().collect()
}

fn names_all(purge: &Plan, plan: &Plan) -> bool {
    plan.lockers.iter().all(|planned| purge.lockers.iter().any(|other| other.locker == planned.locker))
}
