//! What is certified of an erasure, from what it did and what was signed on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;

use super::{Done, Erase, EraseStatus, Intent, plan::binds, status};
use crate::{
    format::{
        certificate::{
            ALWAYS, Backups, Certificate, CopyState, Database, KeyCopy, Keys, Left, Live, MadeCopy, Node, Open, Opened, Reached,
            Remains, Request, Signatory, Trace,
        },
        plan::{Mark, Plan, PlannedAct, Step},
        record::Copy,
    },
    id::{KeyId, Sha256Digest},
    keyring::destroy,
    object_name::prefix,
    operation::{
        drop,
        failure::Failure,
        plans::tally::Tally,
        purge::{OpenItem, PurgedNode},
    },
    retention::Keep,
    seal::RecoveryIdentity,
    signature::allowed_signers::Signer,
    signed::{DocumentError, FORMAT},
};

/// What nobody but its operator can tell of an erasure.
pub struct Told<'a> {
    /// Where the request is filed, in another system.
    pub reference: Option<String>,
    /// Opens one chunk before the keys are destroyed.
    pub identity: Option<&'a RecoveryIdentity>,
    /// Copies that somebody else keeps, and for how long.
    pub elsewhere: Vec<(String, Keep)>,
    /// Traces outside of databases and backups, by kind.
    pub remains: BTreeMap<String, Keep>,
    /// How long this run is at work, by a clock that nobody sets.
    pub working: &'a (dyn Fn() -> Duration + Sync),
}

impl Default for Told<'_> {
    fn default() -> Self {
        let working = &(no_time as fn() -> Duration);
        Self { reference: None, identity: None, elsewhere: Vec::new(), remains: BTreeMap::new(), working }
    }
}

fn no_time() -> Duration {
    Duration::ZERO
}

/// Traces that every certificate names, configured or not.
const TRACES: [&str; 3] = ["wal", "backups", "logs"];
/// How often a number is looked for that no other run took.
const TRIES: usize = 3;

/// The certificate as far as it is written.
#[derive(Default)]
pub(super) struct Paper {
    newest: Option<(Certificate, Sha256Digest)>,
    /// The highest number that is taken.
    taken: u32,
    /// What earlier runs worked.
    seconds: u64,
}

/// What the steps of the drop and the purge say, as they were signed.
#[derive(Default)]
struct Evidence {
    nodes: BTreeMap<String, Node>,
    key_copies: BTreeMap<String, DateTime<Utc>>,
    reached: Vec<Reached>,
}

impl Erase<'_> {
    /// Reads what is certified so far.
    ///
    /// # Errors
    /// What cannot be trusted of it: somebody changed it, and nothing goes on over that.
    pub(super) async fn paper(&self, plan: &Plan) -> Result<Paper, Failure> {
        let mut certified = self.purge.vault.certified(plan.id).await?;
        if let Some(problem) = certified.problems.into_iter().next() {
            let failure = Failure::from(problem);
            let hint = "A document of the certificate was changed or removed. Find out who did; put it back from a copy of the vault, and run it again.";
            return Err(failure.hint(hint));
        }
        let newest = certified.documents.pop().map(|signed| (signed.value, signed.sha256));
        let seconds = newest.as_ref().map_or(0, |(certificate, _)| certificate.working_seconds);
        Ok(Paper { newest, taken: certified.taken, seconds })
    }

    /// Writes what is known now, unless it is written already.
    ///
    /// # Errors
    /// A store that cannot be asked or written to.
    pub(super) async fn certify(
        &self,
        paper: &mut Paper,
        intent: &Intent,
        done: &Done,
        stage: EraseStatus,
    ) -> Result<(), Failure> {
        let now = self.as_of_now(paper, intent, done, stage).await?;
        self.write(paper, now).await
    }

    /// The same where nothing was certified yet: before anything is done.
    ///
    /// # Errors
    /// As [`Erase::certify`].
    pub(super) async fn certify_request(&self, paper: &mut Paper, intent: &Intent, done: &Done) -> Result<(), Failure> {
        match paper.newest {
            Some(_) => Ok(()),
            None => self.certify(paper, intent, done, EraseStatus::Requested).await,
        }
    }

    /// That nothing was destroyed and nothing will be.
    ///
    /// # Errors
    /// As [`Erase::certify`].
    pub(super) async fn certify_withdrawn(&self, intent: &Intent, done: &Done) -> Result<(), Failure> {
        let mut paper = self.paper(&intent.plan).await?;
        self.certify(&mut paper, intent, done, EraseStatus::Withdrawn).await
    }

    /// What is there, before the first of it is removed: every object, every copy that was made, and whether a key opens anything.
    ///
    /// # Errors
    /// As [`Erase::certify`]; an identity that opens nothing.
    pub(super) async fn certify_what_goes(&self, paper: &mut Paper, intent: &Intent, done: &mut Done) -> Result<(), Failure> {
        let is_listed = paper.newest.as_ref().is_some_and(|(newest, _)| newest.backups.inventory.is_some());
        // Before the keys go is before anything of the backups goes.
        let opened = match (&paper.newest, self.told.identity) {
            (Some((newest, _)), Some(identity)) if newest.keys.opened == Opened::NotTested => {
                self.open_one(&intent.plan, identity).await?
            }
            _ => Opened::NotTested,
        };
        let is_tested = paper.newest.as_ref().is_some_and(|(newest, _)| newest.keys.opened != Opened::NotTested);
        if self.told.identity.is_some() && opened == Opened::NotTested && !is_tested {
            let what = "no chunk was opened: there is no backup with its key any more, or these credentials may not read k/ of the keyring";
            done.notes.push(what.to_owned());
        }
        if is_listed && opened == Opened::NotTested {
            return Ok(());
        }
        let inventory = match is_listed {
            true => None,
            false => Some((self.copies(&intent.plan).await?, self.inventory(&intent.plan).await?)),
        };
        let mut now = self.as_of_now(paper, intent, done, status(done)).await?;
        if let Some((copies, inventory)) = inventory {
            (now.copies, now.backups.inventory) = (copies, Some(inventory));
        }
        if opened != Opened::NotTested {
            now.keys.opened = opened;
        }
        self.write(paper, now).await
    }

    async fn write(&self, paper: &mut Paper, mut certificate: Certificate) -> Result<(), Failure> {
        if paper.newest.as_ref().is_some_and(|(newest, _)| newest.says_the_same(&certificate)) {
            return Ok(());
        }
        let mut taken = None;
        for _ in 0..TRIES {
            certificate.sequence = paper.taken + 1;
            certificate.previous = paper.newest.as_ref().map(|(_, sha256)| *sha256);
            certificate.written_at = self.now();
            match self.purge.vault.put_certificate(&certificate, self.purge.eraser).await {
                Ok(sha256) => {
                    paper.taken = certificate.sequence;
                    paper.newest = Some((certificate, sha256));
                    return Ok(());
                }
                // Another run is at work as well.
                Err(error @ DocumentError::Exists { .. }) => taken = Some(error),
                Err(error) => return Err(error.into()),
            }
            let seconds = paper.seconds;
            *paper = Paper { seconds, ..self.paper_of(&certificate).await? };
        }
        taken.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn paper_of(&self, certificate: &Certificate) -> Result<Paper, Failure> {
        let mut certified = self.purge.vault.certified(certificate.id).await?;
        let newest = certified.documents.pop().map(|signed| (signed.value, signed.sha256));
        Ok(Paper { newest, taken: certified.taken, seconds: 0 })
    }

    /// The document as it would be now. Its number and what it follows are filled in when it is written.
    async fn as_of_now(&self, paper: &Paper, intent: &Intent, done: &Done, stage: EraseStatus) -> Result<Certificate, Failure> {
        let plan = &intent.plan;
        let mut certificate = match &paper.newest {
            Some((newest, _)) => newest.clone(),
            None => self.first(plan).await?,
        };
        let evidence = self.evidence(plan, stage).await?;
        certificate.stage = stage;
        let working = (self.told.working)();
        certificate.working_seconds = paper.seconds + working.as_secs() + u64::from(working.subsec_nanos() > 0);
        certificate.live.nodes = nodes(&certificate.live.nodes, &evidence, &done.nodes);
        certificate.keys.copies = self.key_copies(plan, &certificate.keys.copies, &evidence, done).await;
        if done.was_purged {
            certificate.backups.left = Some(self.left(plan, done).await?);
        }
        let mut reached = evidence.reached;
        for reached in &mut reached {
            // What is certified once stays so: a run that was killed before its last mark has nothing to add.
            let was = certificate.reached.iter().find(|was| was.stage == reached.stage);
            reached.at = was.map_or(reached.at, |was| was.at);
        }
        let gone_at = reached.iter().find(|reached| reached.stage == EraseStatus::LiveErased).map(|reached| reached.at);
        certificate.remains = self.remains(gone_at);
        certificate.reached = reached;
        certificate.open = self.open_items(plan, done);
        Ok(certificate)
    }

    async fn first(&self, plan: &Plan) -> Result<Certificate, Failure> {
        let vault = self.purge.vault;
        let signed = vault.signed_plan(plan.id).await?;
        let signatory =
            |signer: &Signer, at| Signatory { principal: signer.principal.clone(), fingerprint: signer.fingerprint.clone(), at };
        let tally = Tally::of(vault, plan.id, self.now()).await?;
        let others = tally.signers.iter().filter(|(signer, _)| signer.key != signed.signer.key);
        let mut taken_at = Vec::new();
        for planned in &plan.lockers {
            taken_at.extend(self.purge.manifests(planned.locker).await?.into_values());
        }
        let planned: u64 = plan.lockers.iter().map(|planned| planned.manifests).sum();
        let grace_until = match plan.act {
            PlannedAct::Erase { grace_until } => grace_until,
            _ => plan.created_at,
        };
        let databases = plan.databases.iter().map(|planned| Database {
            cluster: planned.cluster.clone(),
            system_identifier: planned.system_identifier.clone(),
            database_oid: planned.database_oid,
        });
        Ok(Certificate {
            format: FORMAT,
            installation: plan.installation,
            id: plan.id,
            sequence: 0,
            previous: None,
            written_at: self.now(),
            name_tag: plan.name_tag,
            stage: EraseStatus::Requested,
            request: Request {
                reference: plan.bound.reference.clone(),
                plan_sha256: Sha256Digest::of(&signed.bytes),
                planned_at: plan.created_at,
                planned_by: signatory(&signed.signer, signed.stored_at),
                approved_by: others.map(|(signer, at)| signatory(signer, *at)).collect(),
                approvals_needed: self.approvals,
                grace_until,
            },
            reached: Vec::new(),
            working_seconds: 0,
            live: Live { databases: databases.collect(), nodes: Vec::new() },
            backups: Backups {
                lockers: plan.lockers.iter().map(|planned| planned.locker).collect(),
                count: planned.max(taken_at.len() as u64),
                first: taken_at.iter().min().copied(),
                last: taken_at.iter().max().copied(),
                inventory: None,
                left: None,
            },
            keys: Keys { keys: plan.keys().collect(), opened: Opened::NotTested, copies: Vec::new() },
            copies: self.copies(plan).await?,
            remains: self.remains(None),
            open: Vec::new(),
        })
    }

    /// What the eraser signed of the steps of this plan, and of the drop and the purge that carried it out.
    async fn evidence(&self, plan: &Plan, stage: EraseStatus) -> Result<Evidence, Failure> {
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
                        for found in mark(other.id, step).await?.into_iter().flat_map(|mark| mark.found.nodes) {
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
                            evidence.nodes.insert(found.node, node);
                        }
                    }
                }
                PlannedAct::PurgeAll if names_all(other, plan) => {
                    if let Some(destroyed) = mark(other.id, Step::KeysDestroyed).await? {
                        at.insert(EraseStatus::KeysDestroyed, destroyed.at);
                        evidence
                            .key_copies
                            .extend(destroyed.found.key_copies.into_iter().map(|copy| (copy.store, copy.absent_at)));
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
    async fn key_copies(&self, plan: &Plan, before: &[KeyCopy], evidence: &Evidence, done: &Done) -> Vec<KeyCopy> {
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
            copies.push(KeyCopy { store: address.to_owned(), destroyed_at, left });
        }
        // One that is not configured any more.
        let others = before.iter().filter(|was| !self.purge.keyring.stores().any(|store| store.address() == was.store));
        copies.extend(others.cloned());
        copies
    }

    /// What a listing of the lockers shows now.
    async fn left(&self, plan: &Plan, done: &Done) -> Result<Left, Failure> {
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
    async fn copies(&self, plan: &Plan) -> Result<Vec<MadeCopy>, Failure> {
        let mut copies = Vec::new();
        for planned in &plan.lockers {
            let (made, _) = self.purge.vault.made_copies(planned.locker).await?;
            for (copy, database_oid) in made {
                let state = match database_oid {
                    Some(oid) => self.copy_state(&copy, oid).await.unwrap_or(CopyState::Unknown),
                    None => CopyState::Unknown,
                };
                copies.push(MadeCopy {
                    backup: copy.backup,
                    cluster: copy.cluster,
                    system_identifier: copy.system_identifier,
                    database_oid,
                    made_at: copy.created_at,
                    state,
                });
            }
        }
        copies.sort_by_key(|copy| copy.made_at);
        Ok(copies)
    }

    async fn copy_state(&self, copy: &Copy, oid: u32) -> Result<CopyState, Failure> {
        let Some(server) = self.drop.servers.iter().find(|server| server.name == copy.cluster) else {
            return Ok(CopyState::Unknown);
        };
        Ok(match drop::database_name(&server.admin, &copy.system_identifier, oid).await? {
            Some(None) => CopyState::Gone,
            Some(Some(_)) => CopyState::Stays,
            None => CopyState::Unknown,
        })
    }

    fn remains(&self, gone_at: Option<DateTime<Utc>>) -> Remains {
        let trace = |what: &str, keep: Option<Keep>| Trace {
            what: what.to_owned(),
            gone_after: keep.map(|keep| keep.to_string()),
            until: keep.zip(gone_at).map(|(keep, at)| keep.expiry(at)),
        };
        let elsewhere: Vec<Trace> = self.told.elsewhere.iter().map(|(name, keep)| trace(name, Some(*keep))).collect();
        let known = TRACES.iter().map(|kind| trace(kind, self.told.remains.get(*kind).copied()));
        let others = self.told.remains.iter().filter(|(kind, _)| !TRACES.contains(&kind.as_str()));
        Remains {
            elsewhere: Some(elsewhere).filter(|elsewhere| !elsewhere.is_empty()),
            traces: known.chain(others.map(|(kind, keep)| trace(kind, Some(*keep)))).collect(),
            always: ALWAYS.map(str::to_owned).to_vec(),
        }
    }

    /// Open items without anybody's name: what they say in words is for who runs the erasure.
    fn open_items(&self, plan: &Plan, done: &Done) -> Vec<Open> {
        let vault = self.purge.vault.store().address();
        let is_store = |object: &str| object == vault || self.purge.keyring.stores().any(|store| store.address() == object);
        let is_node = |object: &str| {
            let of = |cluster: &str| {
                object.strip_prefix(cluster).is_some_and(|rest| rest.starts_with(" replica ") || rest == " primary")
            };
            plan.databases.iter().any(|database| of(&database.cluster))
        };
        let open = |item: &OpenItem| {
            let object = item.object.split(" (").next().unwrap_or_default();
            let object = [item.object.as_str(), object].into_iter().find(|object| is_store(object) || is_node(object));
            Open { kind: item.kind.to_owned(), object: object.map(str::to_owned), until: item.until }
        };
        let purged = done.purged.iter().flat_map(|purged| &purged.open);
        done.open.iter().chain(purged).map(open).collect()
    }
}

/// What is said of a server that does not have the database any more.
const GONE: &str = "gone";

/// Servers by what was signed of them, otherwise by what this run or an earlier one met.
fn nodes(before: &[Node], evidence: &Evidence, met: &[PurgedNode]) -> Vec<Node> {
    let mut nodes: BTreeMap<String, Node> = before.iter().map(|node| (node.node.clone(), node.clone())).collect();
    for met in met {
        let (node, state, replay_lsn) = (met.node.clone(), met.state.clone(), met.replay_lsn.clone());
        nodes.insert(met.node.clone(), Node { node, state, drop_lsn: None, replay_lsn, at: None });
    }
    nodes.extend(evidence.nodes.clone());
    nodes.into_values().collect()
}

fn names_all(purge: &Plan, plan: &Plan) -> bool {
    plan.lockers.iter().all(|planned| purge.lockers.iter().any(|other| other.locker == planned.locker))
}
