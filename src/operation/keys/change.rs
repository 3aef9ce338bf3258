//! What the commands that change keys have in common: on whom they work, what forbids it, how their own writes are taken back, and the
//! record of what they did.

mod records;
mod signed_by_operators;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    format::{
        act::{ActOn, ActOutcome},
        key_record::KeyRecord,
    },
    id::{KeyId, Locker, NameTag},
    keyring::{Keyring, TenantKeys},
    object_name::ObjectName,
    operation::{
        erased,
        failure::{Failure, FailureClass},
        held::{Held, Locks},
        living, lost,
        progress::Progress,
    },
    printable::Word,
    signature::{Namespace, SigningKey},
    signed::{self},
    store::{Store, require_deletion},
    tenant::TenantName,
    vault::Vault,
};

/// Whose keys.
#[derive(Debug, Clone)]
pub enum Which {
    /// These tenants'.
    Named(Vec<TenantName>),
    /// Everybody's.
    All,
}

/// What became of a tenant's keys, or of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was changed.
    Done,
    /// It would be: nothing was written.
    Planned,
    /// There was nothing to change.
    Unchanged,
    /// It was changed, and something is left that another run goes on with.
    Open,
    /// Another run is at work on the tenant.
    Busy,
    /// A guard stopped it: erased, purged, on hold.
    Refused,
    /// It was not changed, or not wholly.
    Failed,
}

impl Outcome {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Planned => "planned",
            Self::Unchanged => "unchanged",
            Self::Open => "open",
            Self::Busy => "busy",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Why something was not done.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeysFailure {
    /// For scripts.
    pub kind: String,
    /// What it is about: a tenant, a key, an object.
    pub object: String,
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: String,
    #[serde(skip)]
    pub(super) class: FailureClass,
}

impl KeysFailure {
    /// What became of that which failed so.
    pub(super) fn outcome(&self) -> Outcome {
        match self.class {
            FailureClass::Busy => Outcome::Busy,
            FailureClass::Refused => Outcome::Refused,
            _ => Outcome::Failed,
        }
    }
}

impl From<Failure> for KeysFailure {
    fn from(failure: Failure) -> Self {
        Self {
            kind: failure.kind.to_owned(),
            message: failure.one_line(),
            class: failure.class,
            object: failure.object,
            hint: failure.hint,
        }
    }
}

/// What a command that changes keys works with.
pub struct Change<'a> {
    /// It says who was purged, where tenants live, and keeps the records of what was done.
    pub vault: &'a Vault,
    /// The keyring and its mirrors, with credentials that create.
    pub keyring: &'a Keyring,
    /// The same stores in the same order, with credentials that remove.
    pub removers: &'a [Arc<dyn Store>],
    /// Signs what is written.
    pub signer: &'a SigningKey,
    /// Whose signing key that is: `operator`, `eraser`.
    pub role: &'static str,
    /// The time.
    pub clock: &'a (dyn Fn() -> DateTime<Utc> + Send + Sync),
    /// Told of each tenant.
    pub progress: &'a dyn Progress,
    /// Looked at between one key and the next.
    pub cancel: &'a CancellationToken,
    /// Looks, and writes nothing.
    pub dry_run: bool,
    /// How many operators must sign the plan, and the key of the one who makes it; `None` where nobody is asked.
    pub approvals: Option<(u32, &'a SigningKey)>,
}

/// On whom a command works.
pub(super) struct Chosen {
    pub(super) tenants: Vec<TenantKeys>,
    /// Records that keep others from being looked at.
    pub(super) errors: Vec<KeysFailure>,
}

impl Change<'_> {
    /// The tenants, and whether the signing key counts.
    ///
    /// # Errors
    /// A signature that nobody would believe; a tenant that is not known; a store that cannot be reached.
    pub(super) async fn choose(&self, which: &Which, namespaces: &[Namespace]) -> Result<Chosen, Failure> {
        for namespace in namespaces {
            self.vault
                .check_signer(self.signer, *namespace, (self.clock)())
                .map_err(|error| Failure::key_not_allowed(self.role, error))?;
        }
        let mut chosen = Chosen { tenants: Vec::new(), errors: Vec::new() };
        match which {
            Which::Named(names) => {
                for (at, name) in names.iter().enumerate() {
                    if names[..at].contains(name) {
                        continue;
                    }
                    chosen.tenants.push(living::known(self.vault, self.keyring, name).await?);
                }
            }
            Which::All => {
                let census = self.keyring.census().await?;
                chosen.errors.extend(census.problems.into_iter().map(|error| Failure::from(error).into()));
                for mut keys in census.tenants.into_values() {
                    let unreadable = living::set_aside_dead(self.vault, &mut keys).await?;
                    chosen.errors.extend(unreadable.into_iter().map(|error| Failure::from(error).into()));
                    if !keys.lockers().is_empty() {
                        chosen.tenants.push(keys);
                    }
                }
            }
        }
        // Whoever goes on all the same is told that this report is not the whole.
        chosen.errors.extend(lost::incomplete(self.vault, self.keyring).await?.map(KeysFailure::from));
        Ok(chosen)
    }

    /// Stops where a tombstone or a purge note names a tenant's locker or key. Anything there refuses, understood or not. Asked before
    /// anything is written, and again after every write below `k/`: one of the two always sees the other.
    ///
    /// # Errors
    /// [`FailureClass::Refused`]; any other class when it cannot be known.
    pub(super) async fn refuse_if_named(
        &self,
        tenant: &TenantName,
        tag: NameTag,
        locker: Locker,
        key_id: Option<KeyId>,
    ) -> Result<(), Failure> {
        if let Some(refusal) = erased::read_both(self.vault, self.keyring, tag).await?.refusal(tenant) {
            return Err(refusal);
        }
        let gone = self.vault.gone(locker).await?;
        if gone.is_purged() {
            let message = format!("backups of tenant {tenant} were purged");
            return Err(Failure::new(FailureClass::Refused, "tenant-purged", tenant, message).hint(format!(
                "Its keys are destroyed, not changed: `tenure purge {} --returned` goes on with it.",
                Word(tenant.as_str())
            )));
        }
        match key_id.filter(|key_id| gone.names_key(*key_id)) {
            Some(key_id) => {
                let message = format!("key {key_id} of tenant {tenant} was destroyed");
                Err(Failure::new(FailureClass::Refused, "key-destroyed", key_id, message)
                    .hint("A purge note names it: nothing uses it. `tenure keys prune` removes what there is of it."))
            }
            None => Ok(()),
        }
    }

    /// The tenant's lock, on the primary where it lives.
    ///
    /// # Errors
    /// [`FailureClass::Busy`]; a source that is not known.
    pub(super) async fn lock(&self, locks: &dyn Locks, tenant: &TenantName, locker: Locker) -> Result<Box<dyn Held>, Failure> {
        match self.vault.source(locker).await? {
            Some(source) => locks.take(tenant, &source.cluster).await,
            None => {
                // A purge that came meanwhile removes this too.
                self.refuse_if_named(tenant, self.keyring.tag(tenant), locker, None).await?;
                let history = self.vault.history(locker, (self.clock)()).await?;
                Err(lost::source_missing(self.vault, tenant, locker, &history))
            }
        }
    }

    /// What a failure is beside a purge: whatever is missing of a tenant that is being purged is no damage.
    pub(super) async fn or_purged(&self, keys: &TenantKeys, failure: Failure) -> Failure {
        if failure.class != FailureClass::Integrity || failure.kind == "key-left" {
            return failure;
        }
        for locker in keys.lockers() {
            match self.refuse_if_named(&keys.tenant, keys.tag, locker, None).await {
                Err(named) if named.class == FailureClass::Refused => return named,
                _ => {}
            }
        }
        failure
    }

    /// Removes what this run has just written and a note names: nothing uses it, and it must not stay.
    ///
    /// Gives `why`; or, where something cannot be removed, an integrity failure that names it.
    pub(super) async fn take_back(&self, names: &[ObjectName], why: Failure) -> Failure {
        let mut left = Vec::new();
        for store in self.removers {
            // Where a delete may only hide it, it is not gone.
            let deletes = require_deletion(&**store).await;
            if let Err(error) = deletes {
                left.push((store.address().to_owned(), error));
                continue;
            }
            for name in names {
                if let Err(error) = store.delete(&name.to_string()).await {
                    left.push((signed::locate(&**store, name), error));
                }
            }
        }
        let objects: Vec<&str> = left.iter().map(|(object, _)| object.as_str()).collect();
        let message =
            format!("{} meanwhile, and what was just written cannot be removed again: {}", why.message, objects.join(", "));
        match left.pop() {
            None => why,
            Some((object, error)) => Failure::new(FailureClass::Integrity, "key-left", object, message)
                .hint("A note names the key: nothing uses it. Remove it with credentials that may; `tenure keys check` names all that is left.")
                .because(error),
        }
    }

    /// Whether it was asked to stop.
    ///
    /// # Errors
    /// It was.
    pub(super) fn go_on(&self, tenant: &TenantName) -> Result<(), Failure> {
        if self.cancel.is_cancelled() {
            return Err(Failure::new(FailureClass::Interrupted, "interrupted", tenant, "stopped before its turn"));
        }
        Ok(())
    }
}

/// What was done to one key, for the record.
pub(super) fn act_on(record: &KeyRecord) -> ActOn {
    ActOn {
        locker: record.locker,
        name_tag: Some(record.name_tag),
        backups: Vec::new(),
        keys: vec![record.key_id],
        holds: Vec::new(),
        objects: 0,
        bytes: 0,
    }
}

/// The gravest class among results: each outcome, and why where it is no good one. Under [`Which::All`] another run's tenants are
/// left alone rightly.
pub(super) fn gravest<'r>(
    which: &Which,
    results: impl Iterator<Item = (Outcome, Option<&'r KeysFailure>)>,
    errors: &[KeysFailure],
) -> Option<FailureClass> {
    let mut classes: Vec<FailureClass> = errors.iter().map(|error| error.class).collect();
    let mut some_are_done = false;
    for (outcome, error) in results {
        match (outcome, error) {
            (Outcome::Open, _) => classes.push(FailureClass::SomeTenants),
            (Outcome::Busy, _) if matches!(which, Which::All) => {}
            (_, Some(error)) => classes.push(error.class),
            (_, None) => some_are_done = true,
        }
    }
    FailureClass::worst_of_many(classes, some_are_done)
}

/// How an act of this gravity ended.
pub(super) fn act_outcome(class: Option<FailureClass>) -> ActOutcome {
    match class {
        None => ActOutcome::Done,
        Some(FailureClass::SomeTenants) => ActOutcome::Open,
        Some(_) => ActOutcome::Failed,
    }
}
