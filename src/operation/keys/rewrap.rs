//! `keys rewrap`: every key wrapped to the recovery recipients of now, and what it was wrapped to before removed.
//!
//! For each key: the signed record of the new wrapping in every store, the mirrors before the keyring; then the wrapped half in every store;
//! both read back; then the older wrappings go, in each store that has the new one whole. So no store is ever without a whole one, and a
//! run that is killed anywhere leaves what the next one completes. Every write is create-only and under a number that was never used:
//! two runs at once end with the higher one's.

mod key;

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt as _;
use schemars::JsonSchema;
use serde::Serialize;

use super::change::{self, Change, KeysFailure, Outcome, Which};
use crate::{
    format::{
        act::{ActCommand, ActOn},
        plan::KeysChange,
    },
    id::{KeyId, RecordId},
    keyring::{SecretHalves, read_root, secret_halves},
    object_name::{Document, ObjectName, prefix},
    operation::{
        failure::{Failure, FailureClass},
        lost,
    },
    seal::{RecoveryIdentity, RecoveryRecipients},
    signature::Namespace,
    signed,
    store::{Store, StoreError, require_deletion},
};

/// What `keys rewrap` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RewrapReport {
    /// Id of the record under `runs/`; `null` where nothing was done.
    pub run: Option<String>,
    /// Whether it only looked.
    pub dry_run: bool,
    /// To whom the keys are wrapped now.
    pub recipients: Vec<String>,
    /// Each key's outcome.
    pub results: Vec<Rewrapped>,
    /// What is left for another run: stores that are away, older wrappings that could not be removed.
    pub open: Vec<String>,
    /// What concerns no single key that was looked at.
    pub errors: Vec<KeysFailure>,
    /// The gravest class among them, which decides the exit code.
    #[serde(skip)]
    pub class: Option<FailureClass>,
}

/// One key's outcome.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Rewrapped {
    /// The tenant.
    pub tenant: String,
    /// The key.
    pub key: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Number of the wrapping that counts now.
    pub wrapping: Option<u32>,
    /// Older wrappings that were removed, or with `dry_run` would be, in all stores together.
    pub removed: u64,
    /// Why it was not wrapped anew.
    pub error: Option<KeysFailure>,
}

/// What it works with. The signing key is an operator's.
pub struct Rewrap<'a> {
    /// What every change of keys works with.
    pub change: Change<'a>,
    /// To whom the keys are to be wrapped.
    pub recipients: &'a RecoveryRecipients,
    /// Opens them: once each, in memory.
    pub identity: &'a RecoveryIdentity,
}

/// The keyring or a mirror of it.
struct Place<'a> {
    store: &'a dyn Store,
    /// The same with credentials that remove.
    remover: &'a dyn Store,
    /// Why nothing is removed there: it might only be hidden.
    keeps: Option<String>,
    /// Its secret halves.
    halves: SecretHalves,
    is_keyring: bool,
    /// Whether it is not worked on any more.
    away: bool,
}

impl Place<'_> {
    /// Leaves a mirror that failed alone from now on: the rest of the fleet does not wait for it, key by key.
    ///
    /// # Errors
    /// The keyring's own failure: without it nothing goes on.
    fn give_up(&mut self, why: Failure, open: &mut Vec<String>) -> Result<(), Failure> {
        if self.is_keyring {
            return Err(why);
        }
        self.away = true;
        open.push(away(self.store, &why));
        Ok(())
    }
}

impl Rewrap<'_> {
    /// Wraps each key anew that is not wrapped to the recipients yet, and removes what is older. One that fails stops no other.
    ///
    /// # Errors
    /// Before anything is written: as [`Change::choose`]; a keyring that cannot be listed.
    pub async fn run(&self, which: &Which) -> Result<RewrapReport, Failure> {
        let change = &self.change;
        let started_at = (change.clock)();
        let mut chosen = change.choose(which, &[Namespace::Key, Namespace::Root, Namespace::Run]).await?;
        let plan = change.plan(which, (KeysChange::Rewrap, self.recipients.sorted()), &mut chosen).await?;
        let mut report = RewrapReport {
            run: None,
            dry_run: change.dry_run,
            recipients: self.recipients.sorted(),
            results: Vec::new(),
            open: Vec::new(),
            errors: chosen.errors,
            class: None,
        };
        let mut places = self.places(&mut report.open).await?;
        let (mut acts, mut newest): (Vec<ActOn>, BTreeMap<KeyId, u32>) = (Vec::new(), BTreeMap::new());
        change.progress.planned(chosen.tenants.len(), 0);
        for keys in &chosen.tenants {
            change.progress.tenant_started(&keys.tenant, 0);
            let before = report.results.len();
            for record in keys.without_secret.iter().chain(&keys.records) {
                let (tenant, key) = (keys.tenant.as_str().to_owned(), record.key_id.to_string());
                let mut result = Rewrapped { tenant, key, outcome: Outcome::Failed, wrapping: None, removed: 0, error: None };
                let open_before = report.open.len();
                let is_whole =
                    |places: &[Place<'_>]| places.len() == change.removers.len() && places.iter().all(|place| !place.away);
                match self.key(record, plan.as_ref(), &mut places, &mut report.open).await {
                    Ok(done) => {
                        result.wrapping = Some(done.wrapping);
                        result.removed = done.removed;
                        let all_is_done = report.open.len() == open_before && is_whole(&places);
                        result.outcome = match (all_is_done, done.wrapped || done.removed > 0) {
                            (_, true) if change.dry_run => Outcome::Planned,
                            (false, _) => Outcome::Open,
                            (true, true) => Outcome::Done,
                            (true, false) => Outcome::Unchanged,
                        };
                        newest.insert(record.key_id, done.wrapping);
                        if (done.wrapped || done.removed > 0) && !change.dry_run {
                            acts.push(change::act_on(record));
                        }
                    }
                    Err(failure) => {
                        let error = KeysFailure::from(change.or_purged(keys, failure).await);
                        result.outcome = error.outcome();
                        result.error = Some(error);
                    }
                }
                report.results.push(result);
            }
            let word =
                report.results[before..].iter().find(|result| result.error.is_some()).map_or("done", |r| r.outcome.as_str());
            change.progress.tenant_finished(&keys.tenant, word);
        }
        if !change.dry_run {
            still_there(&mut places, &newest, &mut report.open).await;
        }
        if !change.dry_run && report.errors.iter().any(|error| error.kind == lost::INCOMPLETE) {
            // What it was told to go on with may be mended by now.
            report.errors.retain(|error| error.kind != lost::INCOMPLETE);
            report.errors.extend(lost::incomplete(change.vault, change.keyring).await?.map(KeysFailure::from));
        }
        report.open.sort();
        report.open.dedup();
        let gravest = |report: &RewrapReport| {
            // Whose key a guard keeps from being wrapped anew, of him there may be a wrapping for somebody who left: that is never fine.
            let results = report.results.iter().map(|result| match result.outcome {
                Outcome::Refused => (Outcome::Failed, result.error.as_ref()),
                outcome => (outcome, result.error.as_ref()),
            });
            let open = (!report.open.is_empty()).then_some((Outcome::Open, None));
            change::gravest(which, results.chain(open), &report.errors)
        };
        if !acts.is_empty() {
            match change
                .record((ActCommand::KeysRewrap, plan.as_ref()), started_at, change::act_outcome(gravest(&report)), acts)
                .await
            {
                Ok(id) => report.run = Some(RecordId::to_string(&id)),
                Err(failure) => report.errors.push(failure.into()),
            }
        }
        let refused = report.results.iter().map(|result| (result.tenant.as_str(), result.error.as_ref()));
        if let Err(failure) = change.record_refused(ActCommand::KeysRewrap, started_at, refused).await {
            report.errors.push(failure.into());
        }
        report.class = gravest(&report);
        change.end_plan(plan.as_ref(), report.class).await?;
        Ok(report)
    }

    /// The keyring and those of its mirrors that are there and its own; of the others it is said why not.
    async fn places(&self, open: &mut Vec<String>) -> Result<Vec<Place<'_>>, Failure> {
        let change = &self.change;
        let mut places = Vec::new();
        for (number, (store, remover)) in change.keyring.stores().zip(change.removers).enumerate() {
            let (store, remover): (&dyn Store, &dyn Store) = (&**store, &**remover);
            let looked = async {
                read_root(store, change.vault.root()).await?;
                secret_halves(store).await
            };
            match looked.await {
                Ok(halves) => {
                    let keeps = require_deletion(remover).await.err().map(|error| Failure::from(error).one_line());
                    places.push(Place { store, remover, keeps, halves, is_keyring: number == 0, away: false });
                }
                Err(error) if number == 0 => return Err(error.into()),
                Err(error) => open.push(away(store, &error.into())),
            }
        }
        Ok(places)
    }
}

/// That a store could not be worked on: what is in it stays as it is.
fn away(store: &dyn Store, why: &Failure) -> String {
    format!("{}: what was wrapped before stays there: {}", store.address(), why.one_line())
}

/// Lists everything once more, and says what is older than the wrapping that counts.
async fn still_there(places: &mut [Place<'_>], newest: &BTreeMap<KeyId, u32>, open: &mut Vec<String>) {
    for place in places.iter_mut().filter(|place| !place.away) {
        let listed = async {
            let mut names = Vec::new();
            for prefix in [prefix::SECRET_KEYS, prefix::TENANTS] {
                let listed: Vec<String> = place.store.list(prefix).map_ok(|listed| listed.name).try_collect().await?;
                names.extend(listed);
            }
            Ok::<_, StoreError>(names)
        };
        match listed.await {
            Ok(names) => {
                let is_older = |name: &&String| {
                    wrapping_of(name).is_some_and(|(key_id, n)| newest.get(&key_id).is_some_and(|newest| n < *newest))
                };
                for object in names.iter().filter(is_older).map(|name| signed::locate(place.store, name)) {
                    if !open.iter().any(|said| said.starts_with(&object)) {
                        open.push(format!("{object}: an older wrapping, still there"));
                    }
                }
            }
            Err(error) => open.push(away(place.store, &error.into())),
        }
    }
}

/// Which wrapping of which key an object is, or is the record of.
pub(super) fn wrapping_of(name: &str) -> Option<(KeyId, u32)> {
    match name.parse().ok()? {
        ObjectName::SecretKey { key_id, wrapping } => Some((key_id, wrapping)),
        ObjectName::Document(Document::Rewrapping(_, key_id, n)) | ObjectName::Signature(Document::Rewrapping(_, key_id, n)) => {
            Some((key_id, n))
        }
        _ => None,
    }
}

/// What became of one key.
struct Done {
    wrapping: u32,
    /// Whether a new wrapping was made, or one completed in some store.
    wrapped: bool,
    removed: u64,
}

/// Numbers under which a store has anything of one key's wrappings.
type Numbers = BTreeSet<u32>;
