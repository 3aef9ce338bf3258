//! What is certified of an erasure, from what it did and what was signed on the way.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};

use super::{
    Done, Erase, EraseStatus, Intent,
    evidence::{Evidence, NOT_ASKED, nodes},
    status,
};
use crate::{
    format::{
        certificate::{
            ALWAYS, Backups, Certificate, Database, Keys, Live, Open, Opened, Reached, Remains, Request, Signatory, Trace,
        },
        plan::{Plan, PlannedAct},
    },
    id::Sha256Digest,
    operation::{failure::Failure, plans::tally::Tally, purge::OpenItem},
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
const TRIES: usize = 10;

/// The certificate as far as it is written.
#[derive(Default)]
pub(super) struct Paper {
    pub(super) newest: Option<(Certificate, Sha256Digest)>,
    /// The number of the next one.
    next: u32,
    /// What earlier runs worked.
    seconds: u64,
}

impl Erase<'_> {
    /// Reads what is certified so far.
    ///
    /// # Errors
    /// What cannot be trusted of it: somebody changed it, and nothing goes on over that.
    pub(super) async fn paper(&self, plan: &Plan) -> Result<Paper, Failure> {
        let mut certified = self.purge.vault.certified(plan.id).await?;
        if let Some(problem) = certified.problems.drain(..).next() {
            let failure = Failure::from(problem);
            let hint = "A document of the certificate was changed or removed. Find out who did; put it back from a copy of the vault, and run it again.";
            return Err(failure.hint(hint));
        }
        let next = certified.next();
        let newest = certified.documents.pop().map(|signed| (signed.value, signed.sha256));
        let seconds = newest.as_ref().map_or(0, |(certificate, _)| certificate.working_seconds);
        Ok(Paper { newest, next, seconds })
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
        let mut taken = None;
        for _ in 0..TRIES {
            if paper.newest.as_ref().is_some_and(|(newest, _)| newest.says_the_same(&certificate)) {
                return Ok(());
            }
            certificate.sequence = paper.next;
            certificate.previous = paper.newest.as_ref().map(|(_, sha256)| *sha256);
            certificate.written_at = self.now();
            match self.purge.vault.put_certificate(&certificate, self.purge.eraser).await {
                // Who saw the signature without its document took the next number, and did not know what this one says.
                Ok(_) => taken = None,
                // Another run is at work as well.
                Err(error @ DocumentError::Exists { .. }) => taken = Some(error),
                Err(error) => return Err(error.into()),
            }
            let mut certified = self.purge.vault.certified(certificate.id).await?;
            paper.next = certified.next();
            let newest = certified.documents.pop().map(|signed| (signed.value, signed.sha256));
            if let Some((newest, _)) = newest.as_ref().filter(|(newest, _)| *newest != certificate) {
                certificate = certificate.after(newest);
                paper.seconds = newest.working_seconds;
                certificate.working_seconds = paper.seconds + self.seconds();
            }
            paper.newest = newest;
        }
        taken.map_or(Ok(()), |error| Err(error.into()))
    }

    /// How long this run is at work, each second that was begun.
    fn seconds(&self) -> u64 {
        let working = (self.told.working)();
        working.as_secs() + u64::from(working.subsec_nanos() > 0)
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
        certificate.working_seconds = paper.seconds + self.seconds();
        certificate.live.nodes = nodes(&certificate.live.nodes, &evidence, &done.nodes);
        match &done.last_look {
            Some((copies, left)) => (certificate.keys.copies, certificate.backups.left) = (copies.clone(), Some(*left)),
            None => certificate.keys.copies = self.key_copies(plan, &certificate.keys.copies, &evidence, done).await,
        }
        if let Some(copies) = &done.copies {
            certificate.copies.clone_from(copies);
        }
        let reached = reached(&certificate, evidence, done);
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
            taken_at.extend(vault.manifests(planned.locker).await?.into_keys().map(|backup| backup.time()));
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

/// When each stage came about. What is certified once stays so: a run that was killed before its last mark has nothing to add.
fn reached(certificate: &Certificate, evidence: Evidence, done: &Done) -> Vec<Reached> {
    let destroyed: Option<Vec<_>> = certificate.keys.copies.iter().map(|copy| copy.destroyed_at).collect();
    let is_asked = !done.open.iter().any(|item| item.kind == NOT_ASKED);
    let reached = evidence.reached.into_iter().filter_map(|Reached { stage, at }| {
        let at = match certificate.reached.iter().find(|was| was.stage == stage) {
            Some(was) => was.at,
            None if stage == EraseStatus::LiveErased && !is_asked => return None,
            // Those that were away, or put back, went later.
            None if stage == EraseStatus::KeysDestroyed => destroyed.as_ref()?.iter().fold(at, |at, other| at.max(*other)),
            None => at,
        };
        Some(Reached { stage, at })
    });
    let mut reached: Vec<Reached> = reached.collect();
    reached.sort_by_key(|reached| reached.at);
    reached
}
