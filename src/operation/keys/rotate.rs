//! `keys rotate`: a new key for a tenant. It seals from the next backup on, which is a full one; older backups stay readable with theirs.
//!
//! The secret half first, in the keyring and every mirror; the public half last, in the keyring after the mirrors. Until that is there the
//! old key seals, and from then on the new one: never neither.

use schemars::JsonSchema;
use serde::Serialize;

use super::change::{self, Change, KeysFailure, Outcome, Which};
use crate::{
    format::{
        act::{ActCommand, ActOn},
        key_record::KeyRecord,
        plan::{KeysChange, Plan},
    },
    id::RecordId,
    keyring::TenantKeys,
    object_name::{Document, ObjectName},
    operation::{
        failure::{Failure, FailureClass},
        held::Locks,
        living,
    },
    seal::RecoveryRecipients,
    signature::Namespace,
    tenant::TenantName,
};

/// What `keys rotate` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RotateReport {
    /// Id of the record under `runs/`; `null` where nothing was done.
    pub run: Option<String>,
    /// Whether it only looked.
    pub dry_run: bool,
    /// Each tenant's outcome.
    pub results: Vec<Rotated>,
    /// What concerns no single tenant that was looked at.
    pub errors: Vec<KeysFailure>,
    /// The gravest class among them, which decides the exit code.
    #[serde(skip)]
    pub class: Option<FailureClass>,
}

/// One tenant's outcome.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Rotated {
    /// The tenant.
    pub tenant: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The key that seals from now on.
    pub key: Option<String>,
    /// The one that sealed until now.
    pub replaces: Option<String>,
    /// Why there is no new key.
    pub error: Option<KeysFailure>,
}

/// What it works with. The signing key is an operator's.
pub struct Rotate<'a> {
    /// What every change of keys works with.
    pub change: Change<'a>,
    /// Where tenants' locks are taken.
    pub locks: &'a dyn Locks,
    /// Who can open the new keys.
    pub recipients: &'a RecoveryRecipients,
}

impl Rotate<'_> {
    /// Makes a new key for each tenant. One that fails stops no other.
    ///
    /// # Errors
    /// Before anything is written: as [`Change::choose`].
    pub async fn run(&self, which: &Which) -> Result<RotateReport, Failure> {
        let change = &self.change;
        let started_at = (change.clock)();
        let mut chosen = change.choose(which, &[Namespace::Key, Namespace::Root, Namespace::Run]).await?;
        let plan = change.plan(which, (KeysChange::Rotate, self.recipients.sorted()), &mut chosen).await?;
        let mut report =
            RotateReport { run: None, dry_run: change.dry_run, results: Vec::new(), errors: chosen.errors, class: None };
        let mut acts: Vec<ActOn> = Vec::new();
        change.progress.planned(chosen.tenants.len(), 0);
        for keys in &chosen.tenants {
            let tenant = keys.tenant.as_str().to_owned();
            let mut result = Rotated { tenant, outcome: Outcome::Failed, key: None, replaces: None, error: None };
            change.progress.tenant_started(&keys.tenant, 0);
            match self.tenant(keys, plan.as_ref()).await {
                Ok((old, new)) => {
                    result.outcome = if new.is_some() { Outcome::Done } else { Outcome::Planned };
                    result.replaces = Some(old.key_id.to_string());
                    result.key = new.as_ref().map(|new| new.key_id.to_string());
                    acts.extend(new.iter().map(change::act_on));
                }
                Err(failure) => {
                    let error = KeysFailure::from(change.or_purged(keys, failure).await);
                    result.outcome = error.outcome();
                    result.error = Some(error);
                }
            }
            change.progress.tenant_finished(&keys.tenant, result.outcome.as_str());
            report.results.push(result);
        }
        let gravest = |report: &RotateReport| {
            let results = report.results.iter().map(|result| (result.outcome, result.error.as_ref()));
            change::gravest(which, results, &report.errors)
        };
        if !acts.is_empty() {
            match change
                .record((ActCommand::KeysRotate, plan.as_ref()), started_at, change::act_outcome(gravest(&report)), acts)
                .await
            {
                Ok(id) => report.run = Some(RecordId::to_string(&id)),
                Err(failure) => report.errors.push(failure.into()),
            }
        }
        let refused = report.results.iter().map(|result| (result.tenant.as_str(), result.error.as_ref()));
        if let Err(failure) = change.record_refused(ActCommand::KeysRotate, started_at, refused).await {
            report.errors.push(failure.into());
        }
        report.class = gravest(&report);
        change.end_plan(plan.as_ref(), report.class).await?;
        Ok(report)
    }

    /// The key that sealed, and the one that seals now.
    async fn tenant(&self, known: &TenantKeys, plan: Option<&Plan>) -> Result<(KeyRecord, Option<KeyRecord>), Failure> {
        let (change, tenant) = (&self.change, &known.tenant);
        change.go_on(tenant)?;
        let sealing = sealing(known)?;
        change.refuse_if_named(tenant, known.tag, sealing.locker, None).await?;
        if change.dry_run {
            return Ok((sealing.clone(), None));
        }
        let lock = change.lock(self.locks, tenant, sealing.locker).await?;
        // Again, now that no other run of ours makes one.
        let Some(keys) = living::keys(change.vault, change.keyring, tenant).await? else { return Err(vanished(tenant)) };
        let old = self::sealing(&keys)?.clone();
        if let Some(plan) = plan.filter(|plan| !plan.keys().any(|key| key == old.key_id)) {
            let message = format!("key {} of tenant {tenant} seals by now, and is not in the plan {}", old.key_id, plan.id);
            return Err(Failure::new(FailureClass::Refused, "plan-void", plan.id, message)
                .hint("Nothing was changed: somebody made a new key meanwhile. The same command makes a new plan."));
        }
        let sequence =
            keys.records.iter().chain(&keys.without_secret).chain(&keys.dead).map(|record| record.sequence).max().unwrap_or(0);
        let key = change
            .keyring
            .begin_key(tenant, old.locker, sequence.saturating_add(1), self.recipients, (change.clock)())
            .await
            .map_err(|error| no_new_key(tenant, error))?;
        let record = key.record().clone();
        lock.still_held().await?;
        self.confirm(&record).await?;
        change.start_plan(plan).await?;
        change.keyring.publish_key(key, change.signer).await.map_err(|error| in_doubt(tenant, &record, error))?;
        self.confirm(&record).await?;
        // Where the lock was lost, somebody else may have made one too: the same one seals for everybody.
        let Some(keys) = living::keys(change.vault, change.keyring, tenant).await? else { return Err(vanished(tenant)) };
        keys.get(record.key_id).ok_or_else(|| vanished(tenant))?;
        Ok((old, Some(self::sealing(&keys)?.clone())))
    }

    /// Looks whether a note names what was just written, and removes it if so. When that cannot be known it stays: somebody may count on
    /// it by now, and nobody uses what a note names.
    async fn confirm(&self, record: &KeyRecord) -> Result<(), Failure> {
        let named = self.change.refuse_if_named(&record.tenant, record.name_tag, record.locker, Some(record.key_id)).await;
        match named {
            Err(why) if why.class == FailureClass::Refused => {
                let document = Document::KeyRecord(record.name_tag, record.key_id);
                let names = [
                    ObjectName::SecretKey { key_id: record.key_id, wrapping: 1 },
                    ObjectName::Document(document.clone()),
                    ObjectName::Signature(document),
                ];
                Err(self.change.take_back(&names, why).await)
            }
            other => other,
        }
    }
}

fn sealing(keys: &TenantKeys) -> Result<&KeyRecord, Failure> {
    let tenant = &keys.tenant;
    keys.sealing().ok_or_else(|| {
        Failure::new(FailureClass::Integrity, "key-without-secret", tenant, format!("tenant {tenant} has no whole key"))
            .hint("`tenure keys check` says what is missing, `tenure keys repair` puts it back.")
    })
}

fn no_new_key(tenant: &TenantName, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    Failure::new(FailureClass::Failed, "cannot-create-key", tenant, format!("cannot make a new key for tenant {tenant}"))
        .hint("The old one goes on sealing: a key lies in the keyring and in every mirror, or is not made. `tenure check` shows what is wrong with them.")
        .because(error)
}

fn in_doubt(tenant: &TenantName, record: &KeyRecord, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Failure {
    let message = format!("the new key {} of tenant {tenant} may be in use, or not", record.key_id);
    Failure::new(FailureClass::Failed, "key-in-doubt", record.key_id, message)
        .hint(
            "`tenure keys list` shows which one seals. Either is whole, and nothing is lost: run it again if it is the old one.",
        )
        .because(error)
}

fn vanished(tenant: &TenantName) -> Failure {
    Failure::new(
        FailureClass::Integrity,
        "key-vanished",
        tenant,
        format!("the new key of tenant {tenant} is not to be found again"),
    )
    .hint("Something removes objects from the keyring. Look there before anything else.")
}
