//! Whose the lockers and keys of a plan are, by what is there besides the plan: what a plan names is the word of one operator.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::failure::{Failure, FailureClass};
use crate::{
    format::{
        plan::{EVERYBODY, Plan, PlannedDatabase, PlannedLocker, Step},
        purge_note::{PurgeNote, Purged},
    },
    id::{KeyId, Locker, NameTag},
    keyring::{Keyring, claims::Claim},
    printable::Printable,
    signed::{self, DocumentError},
    vault::{Vault, manifests::Manifests},
};

/// Lockers asked at once.
const READERS: usize = 16;

/// Stops at a plan that names what another tenant has, or what nothing but the plan says to be its tenant's. Reads every tenant's records.
///
/// # Errors
/// That (5); a store that cannot be asked. A mirror that is away has no say.
pub(super) async fn refuse_others(vault: &Vault, keyring: &Keyring, plan: &Plan) -> Result<(), Failure> {
    // Everybody's keys are everybody's.
    if plan.name_tag == EVERYBODY {
        return Ok(());
    }
    let claims = keyring.claims(|_, _| true).await?;
    let look = Look { vault, plan, claims: &claims };
    look.refuse_others_databases().await?;
    let mut unproven = Vec::new();
    for planned in &plan.lockers {
        unproven.extend(look.unproven(planned).await?);
        look.refuse_doubtful(planned.locker).await?;
    }
    if unproven.is_empty() {
        return Ok(());
    }
    // Nothing names them any more but what began to destroy them; or their records are there and cannot be trusted.
    let begun = look.begun().await?;
    for (locker, keys) in unproven {
        let earlier = || begun.iter().filter(|planned| planned.locker == locker);
        if let Some(key) = keys.iter().find(|key| !earlier().any(|planned| planned.keys.contains(key))) {
            return Err(look.failure(key, &format!("key {key}, {UNPROVEN}")));
        }
        if earlier().next().is_none() && !look.is_sealed_with_its_keys(locker).await? {
            return Err(look.failure(locker, &format!("locker {locker}, {UNPROVEN}")));
        }
        if let Some(doubtful) = look.doubtful() {
            return Err(look.may_be_anothers(locker, doubtful));
        }
    }
    Ok(())
}

/// The same for a plan that this run made, as quickly: keys are not kept for as long as it takes to read every tenant's records. Of others it
/// goes by the names of their records, and by the key of each locker's newest backup, among those that were listed for the plan.
///
/// # Errors
/// As [`refuse_others`].
pub(super) async fn refuse_others_at_once(
    vault: &Vault,
    keyring: &Keyring,
    plan: &Plan,
    listed: &BTreeMap<Locker, Manifests>,
) -> Result<(), Failure> {
    let claims = keyring.claims(|tag, _| tag == plan.name_tag).await?;
    let look = Look { vault, plan, claims: &claims };
    let mut is_proven = true;
    for planned in &plan.lockers {
        is_proven &= look.unproven(planned).await?.is_none();
        let newest = match listed.get(&planned.locker) {
            Some(manifests) => vault.newest_key_of(planned.locker, manifests).await?,
            None => vault.newest_key(planned.locker).await?,
        };
        is_proven &= match newest {
            Some(key) => !claims.iter().any(|claim| claim.tag != plan.name_tag && claim.key_id == key),
            None => true,
        };
    }
    match is_proven {
        true => Ok(()),
        false => refuse_others(vault, keyring, plan).await,
    }
}

/// What nothing vouches for.
const UNPROVEN: &str = "and nothing else says that it is this tenant's: no key record and no purge note";

struct Look<'a> {
    vault: &'a Vault,
    plan: &'a Plan,
    claims: &'a [Claim],
}

impl Look<'_> {
    fn tag(&self) -> NameTag {
        self.plan.name_tag
    }

    /// Stops at a database that the vault has as another tenant's.
    async fn refuse_others_databases(&self) -> Result<(), Failure> {
        if self.plan.databases.is_empty() {
            return Ok(());
        }
        let others: BTreeSet<Locker> =
            self.claims.iter().filter(|claim| claim.tag != self.tag()).filter_map(|claim| claim.locker).collect();
        let mut sources = stream::iter(others)
            .map(async |locker| Ok::<_, DocumentError>((locker, self.vault.sources(locker).await?.current)))
            .buffer_unordered(READERS);
        while let Some((locker, source)) = sources.try_next().await? {
            let is_theirs = |planned: &&PlannedDatabase| {
                source.as_ref().is_some_and(|source| {
                    (&source.system_identifier, source.database_oid) == (&planned.system_identifier, planned.database_oid)
                })
            };
            if let Some(database) = self.plan.databases.iter().find(is_theirs) {
                let (oid, cluster) = (database.database_oid, Printable(&database.cluster));
                let what = format!(
                    "the database with OID {oid} on {cluster}, which is another tenant's, as the records of locker {locker} say"
                );
                return Err(self.failure(locker, &what));
            }
        }
        Ok(())
    }

    /// A locker with the keys of it that no record and no note says to be the tenant's; `None` where all is said.
    async fn unproven(&self, planned: &PlannedLocker) -> Result<Option<(Locker, Vec<KeyId>)>, Failure> {
        let locker = planned.locker;
        if let Some(theirs) = self.claims.iter().find(|claim| claim.tag != self.tag() && claim.locker == Some(locker)) {
            return Err(self.failure(locker, &format!("locker {locker}, which is another tenant's, as {} says", theirs.object)));
        }
        for key in &planned.keys {
            if let Some(theirs) = self.claims.iter().find(|claim| claim.tag != self.tag() && claim.key_id == *key) {
                return Err(self.failure(key, &format!("key {key}, which is another tenant's, as {} says", theirs.object)));
            }
        }
        // The notes as they lie there, and not what plans say of them.
        let (mut is_its, mut named) = (false, BTreeSet::new());
        for (document, _, read) in self.vault.records::<PurgeNote>(locker, "gone").await? {
            match read {
                Ok(note) if note.value.name_tag == self.tag() => {
                    is_its = true;
                    if let Purged::All { keys } | Purged::Keys { keys } = note.value.purged {
                        named.extend(keys);
                    }
                }
                Ok(_) => {
                    let object = signed::locate(self.vault.store(), &document);
                    return Err(self.failure(locker, &format!("locker {locker}, which was another tenant's, as {object} says")));
                }
                Err(error @ DocumentError::Store { .. }) => return Err(error.into()),
                // It says nothing.
                Err(_) => {}
            }
        }
        is_its |= self.its().any(|claim| claim.locker == Some(locker));
        let is_named = |key: &KeyId| named.contains(key) || self.its().any(|claim| claim.key_id == *key);
        let keys: Vec<KeyId> = planned.keys.iter().copied().filter(|key| !is_named(key)).collect();
        Ok((!is_its || !keys.is_empty()).then_some((locker, keys)))
    }

    /// Stops where the newest backup is sealed with a key that is another tenant's by its name, and no copy of its record says of which locker.
    async fn refuse_doubtful(&self, locker: Locker) -> Result<(), Failure> {
        let Some(key) = self.vault.newest_key(locker).await? else { return Ok(()) };
        let theirs = || self.claims.iter().filter(|claim| claim.tag != self.tag() && claim.key_id == key);
        match theirs().next().filter(|_| theirs().all(|claim| claim.locker.is_none())) {
            Some(claim) => Err(self.may_be_anothers(locker, claim)),
            None => Ok(()),
        }
    }

    fn may_be_anothers(&self, locker: Locker, doubtful: &Claim) -> Failure {
        let what = format!("locker {locker}, which may be another tenant's: {} cannot be trusted", doubtful.object);
        self.failure(locker, &what)
    }

    fn its(&self) -> impl Iterator<Item = &Claim> {
        self.claims.iter().filter(|claim| claim.tag == self.tag())
    }

    /// The lockers of the tenant's plans of which the eraser signed that they destroy.
    async fn begun(&self) -> Result<Vec<PlannedLocker>, Failure> {
        let mut begun = Vec::new();
        for planned in self.vault.plans(self.tag(), |steps| steps.contains(&Step::Destroying)).await? {
            if self.vault.mark(planned.plan.id, Step::Destroying).await?.is_some() {
                begun.extend(planned.plan.lockers);
            }
        }
        Ok(begun)
    }

    /// Whether a locker has backups, and each of them is sealed with a key of the plan.
    async fn is_sealed_with_its_keys(&self, locker: Locker) -> Result<bool, Failure> {
        let keys: BTreeSet<KeyId> = self.plan.keys().collect();
        let history = self.vault.history(locker, self.plan.created_at).await?;
        let is_known = history.problems.iter().all(|problem| problem.is_hole || problem.counts);
        let mut backups = history.backups.iter();
        Ok(is_known && !history.backups.is_empty() && backups.all(|backup| keys.contains(&backup.manifest.key_id)))
    }

    /// A record of another tenant's that no copy of the keyring has whole: whose locker it is about is not known.
    fn doubtful(&self) -> Option<&Claim> {
        let is_whole = |of: &Claim| {
            self.claims.iter().any(|claim| (claim.tag, claim.key_id) == (of.tag, of.key_id) && claim.locker.is_some())
        };
        self.claims.iter().find(|claim| claim.tag != self.tag() && !is_whole(claim))
    }

    fn failure(&self, object: impl std::fmt::Display, what: &str) -> Failure {
        let id = self.plan.id;
        let message = format!("plan {id} names {what}");
        Failure::new(FailureClass::Integrity, "plan-contradicted", object, message).hint(format!(
            "Nothing was done by this run. Find out who signed that plan, and who wrote what says otherwise. A plan that has not begun is given up by \
             `tenure plans cancel {id}`; a forged key record is moved out of the keyring, with its .sig, with the rights of its owner."
        ))
    }
}
