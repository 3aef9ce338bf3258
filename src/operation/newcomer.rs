//! `admit --new`: an operator says that a name which answers to a tombstone is a new customer's. What was erased stays erased.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    erased,
    failure::{Failure, FailureClass},
    fleet::{Cluster, Fleet, Known},
    plans::by_operator::{Planning, Wanted},
    purge::OpenItem,
};
use crate::{
    format::{
        act::{Act, ActCommand, ActOutcome},
        erasure_note::{ErasureNote, ErasureSays},
        plan::{Bound, PlannedAct, Step},
    },
    id::RecordId,
    keyring::Keyring,
    object_name::Document,
    printable::{Printable, Word},
    signature::{Namespace, SigningKey},
    signed::FORMAT,
    tenant::TenantName,
    vault::Vault,
};

/// What `admit --new` works with.
pub struct AdmitNew<'a> {
    /// Where tombstones are.
    pub vault: &'a Vault,
    /// And where they are as well.
    pub keyring: &'a Keyring,
    /// The fleet.
    pub clusters: &'a [Cluster],
    /// Signs the plan, where operators must sign one.
    pub operator: &'a SigningKey,
    /// Signs the admission.
    pub eraser: &'a SigningKey,
    /// How many operators must sign the plan; 0 where nobody is asked.
    pub approvals: u32,
}

/// A name that is a new customer's.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AdmittedNew {
    /// The name.
    pub tenant: String,
    /// The tombstones that it answered to: ids.
    pub tombstones: Vec<String>,
    /// The database that answers to it now, as `cluster/database`; null where none does yet.
    pub database: Option<String>,
    /// What is left to be done: mirrors of the keyring that do not know it yet.
    pub open: Vec<OpenItem>,
}

impl AdmitNew<'_> {
    /// Admits a name.
    ///
    /// # Errors
    /// No tombstone answers to it (1); its grace still lasts, or the database that answers to it is the erased one (4); a tombstone that
    /// cannot be trusted (5).
    pub async fn run(&self, tenant: &TenantName, now: DateTime<Utc>) -> Result<AdmittedNew, Failure> {
        let (vault, keyring) = (self.vault, self.keyring);
        for namespace in [Namespace::Erasure, Namespace::Run] {
            vault.check_signer(self.eraser, namespace, now).map_err(|error| Failure::key_not_allowed("eraser", error))?;
        }
        let (tag, name) = (keyring.tag(tenant), Word(tenant.as_str()));
        let erasures = erased::read_both(vault, keyring, tag).await?;
        if let Some((object, why)) = erasures.doubtful().next() {
            let message = format!("what is said of tenant {tenant} cannot be trusted: {object}: {why}");
            return Err(Failure::new(FailureClass::Integrity, "untrusted-tombstone", object, message)
                .hint("Nobody is admitted. Find out who changed it, and put it back from the other store."));
        }
        let tombstones: BTreeSet<RecordId> = erasures.counting().map(|note| note.id).collect();
        if tombstones.is_empty() {
            let message = format!("no tombstone answers to tenant {tenant}");
            return Err(Failure::new(FailureClass::Failed, "not-erased", tenant, message)
                .hint("Nothing keeps it out: the next `tenure backup` takes it in."));
        }
        if let Some(until) = erasures.grace_until().filter(|until| *until > now) {
            let message = format!(
                "the erasure of tenant {tenant} waits until {}",
                until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
            );
            return Err(Failure::new(FailureClass::Refused, "tenant-erased", tenant, message)
                .hint(format!("`tenure erase {name} --undo` gives the tenant back; a new customer comes after it is erased.")));
        }
        if !erased::lost::look(vault, std::iter::once(&erasures)).await?.withdrawn.is_empty() {
            let message = format!("the erasure of tenant {tenant} was withdrawn: it is no new customer");
            return Err(Failure::new(FailureClass::Refused, "tenant-erased", tenant, message)
                .hint(format!("Nobody is admitted. {}", erased::lost::hint(tenant.as_str()))));
        }
        for id in &tombstones {
            if vault.mark(*id, Step::Closed).await?.is_none() {
                let message = format!("the erasure of tenant {tenant} is not through");
                return Err(Failure::new(FailureClass::Refused, "erasure-open", tenant, message).hint(format!(
                    "What is left of the old tenant would come back with the name. `tenure erase {name}` finishes it."
                )));
            }
        }
        let known = Known::read(vault, keyring).await?;
        let fleet = Fleet::discover(self.clusters, &known).await;
        if let Some(places) = fleet.ambiguous().get(tenant) {
            return Err(super::backup::ambiguous_tenant(tenant, places));
        }
        let resident = fleet.residents().remove(tenant);
        if let Some((cluster, database)) = fleet
            .numbered(tenant)
            .find_map(|(cluster, system, oid, database)| known.is_erased(&system.to_string(), oid).then_some((cluster, database)))
        {
            let message = format!("database {} on {cluster} is, by its number, one that was erased", Printable(database));
            return Err(Failure::new(FailureClass::Refused, "database-erased", tenant, message).hint(
                "Nobody is admitted. Somebody put an old copy of the server back: `tenure reconcile` says what to do with it. A new customer's that got \
                 the number there goes into a new database by a dump.",
            ));
        }
        let planning = Planning { vault, keyring: Some(keyring), operator: self.operator, needed: self.approvals, now };
        let objects = tombstones.iter().map(|id| Document::Tombstone(tag, *id).to_string()).collect();
        let bound = Bound { objects, ..Bound::default() };
        let wanted = Wanted { tenant: Some(tenant.clone()), act: PlannedAct::Admit, lockers: Vec::new(), bound };
        let plan = planning.begin(&wanted).await?;
        let note = ErasureNote {
            format: FORMAT,
            installation: vault.root().installation,
            id: RecordId::random(),
            name_tag: tag,
            says: ErasureSays::Admitted { tombstones: tombstones.iter().copied().collect() },
            created_at: now,
        };
        self.record(&note, plan.as_ref().map(|plan| plan.id), ActOutcome::Begun).await?;
        let open = erased::put(vault, keyring, &note, self.eraser).await?;
        let outcome = if open.is_empty() { ActOutcome::Done } else { ActOutcome::Open };
        self.record(&note, plan.as_ref().map(|plan| plan.id), outcome).await?;
        planning.end(plan.as_ref()).await?;
        Ok(AdmittedNew {
            tenant: tenant.as_str().to_owned(),
            tombstones: tombstones.iter().map(ToString::to_string).collect(),
            database: resident.map(|at| format!("{}/{}", at.cluster.name, Printable(&at.found.database))),
            open,
        })
    }

    async fn record(&self, note: &ErasureNote, plan: Option<RecordId>, outcome: ActOutcome) -> Result<(), Failure> {
        let act = Act {
            plan,
            about: vec![note.name_tag],
            ..Act::new(note.installation, ActCommand::Admit, (note.created_at, note.created_at), outcome)
        };
        Ok(self.vault.put_act(&act, self.eraser).await?)
    }
}
