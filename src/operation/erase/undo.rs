//! `erase --undo`: while nothing is destroyed the tenant gets everything back.

use super::{Done, Erase, EraseReport, EraseStatus, Intent, Live, report};
use crate::{
    format::{
        erasure_note::{ErasureNote, ErasureSays},
        plan::{Found, Plan, PlannedDatabase, Step},
    },
    id::RecordId,
    operation::{
        erased,
        failure::{Failure, FailureClass},
        purge::OpenItem,
    },
    printable::Word,
    signed::FORMAT,
    tenant::TenantName,
    vault::plans::Planned,
};

impl Erase<'_> {
    /// Withdraws an erasure, and opens the database again. Where one was withdrawn and no store has that any more, the same once more.
    ///
    /// # Errors
    /// There is none (1), or it destroys already (4).
    pub async fn undo(&self, tenant: &TenantName) -> Result<EraseReport, Failure> {
        let (vault, keyring) = (self.purge.vault, self.purge.keyring);
        let mut open = self.open(keyring.tag(tenant)).await?;
        if open.is_empty() {
            let erasures = erased::read_both(vault, keyring, keyring.tag(tenant)).await?;
            open = erased::lost::plans(vault, &erasures, tenant).await?;
        }
        if open.is_empty() {
            let message = format!("no erasure of tenant {tenant} is open");
            return Err(Failure::new(FailureClass::Failed, "nothing-to-undo", tenant, message).hint(
                "What is erased cannot be given back. If it was withdrawn and its database lets nobody in: ALTER DATABASE … ALLOW_CONNECTIONS true.",
            ));
        }
        // Two that began in one moment each have a tombstone.
        for Planned { plan, .. } in &open {
            if vault.mark(plan.id, Step::Destroying).await?.is_some() {
                let message = format!("the erasure of tenant {tenant} has begun to destroy");
                return Err(Failure::new(FailureClass::Refused, "too-late", tenant, message)
                    .hint(format!("It cannot be withdrawn any more: `tenure erase {}` finishes it.", Word(tenant.as_str()))));
            }
        }
        // One that ended withdrawn is from no older vault; its keys may have been pruned since.
        for Planned { plan, .. } in open.iter().filter(|planned| planned.is_open()) {
            self.refuse_destroyed(tenant, plan).await?;
        }
        let mut done = Done::default();
        for Planned { plan, .. } in &open {
            done.open.extend(self.withdraw(tenant, plan).await?);
        }
        // What one of them found closed the other one had closed.
        let mut databases: Vec<&PlannedDatabase> = Vec::new();
        for database in open.iter().flat_map(|planned| &planned.plan.databases).filter(|database| database.allowed_connections) {
            if !databases.contains(&database) {
                databases.push(database);
            }
        }
        for database in databases {
            if let Err(failure) = self.drop.resume(database).await {
                done.open.push(OpenItem {
                    kind: "live",
                    object: format!("the live database on {}", database.cluster),
                    what: format!("it may let nobody in: {}; run this again", failure.one_line()),
                    until: None,
                });
            }
        }
        let of =
            |Planned { plan, steps, .. }| Intent { plan, steps: Some(steps), live: Live::Known(None), backups: 0, taken: None };
        let intents: Vec<Intent> = open.into_iter().map(of).collect();
        for intent in &intents {
            self.certify_withdrawn(intent, &done).await?;
        }
        done.is_certified = true;
        if done.open.is_empty() {
            for intent in &intents {
                let void = Some(erased::lost::WITHDRAWN.to_owned());
                self.mark(&intent.plan, Step::Closed, Found { void, ..Found::default() }).await?;
            }
        }
        let intent = &intents[0];
        self.record(intent, &done, false, self.now()).await?;
        let mut said = report(tenant, intent, done);
        said.status = EraseStatus::Withdrawn;
        Ok(said)
    }

    /// Stops where keys that the plan names are gone: what was destroyed is not given back by an older vault that does not say so.
    async fn refuse_destroyed(&self, tenant: &TenantName, plan: &Plan) -> Result<(), Failure> {
        let halves = self.purge.keyring.secret_halves().await?;
        let Some(key) = plan.keys().find(|key| !halves.contains_key(key)) else { return Ok(()) };
        let message = format!(
            "key {key} of tenant {tenant}, which the erasure names, is not in the keyring: it may have destroyed already"
        );
        Err(Failure::new(FailureClass::Refused, "too-late", tenant, message).hint(
            "Nothing was done. If the vault was put back from an older copy, put the newest one back: it says how far the erasure came. If the keyring \
             lost something, `tenure keys repair` comes first.",
        ))
    }

    /// Signs that an erasure is given up. Gives the mirrors that do not have it.
    async fn withdraw(&self, tenant: &TenantName, plan: &Plan) -> Result<Vec<OpenItem>, Failure> {
        let (vault, keyring, eraser) = (self.purge.vault, self.purge.keyring, self.purge.eraser);
        let erasures = erased::read_both(vault, keyring, plan.name_tag).await?;
        let note = erasures.withdrawal(plan.id).cloned().unwrap_or_else(|| ErasureNote {
            format: FORMAT,
            installation: plan.installation,
            id: RecordId::random(),
            name_tag: plan.name_tag,
            says: ErasureSays::Withdrawn { tombstone: plan.id },
            created_at: self.now(),
        });
        // A second run writes it where it is missing.
        let open = erased::put(vault, keyring, &note, eraser).await?;
        // Whoever marked it before this look may not have seen the withdrawal; whoever marks it later sees it.
        if vault.mark(plan.id, Step::Destroying).await?.is_some() && vault.mark(plan.id, Step::Closed).await?.is_none() {
            let message = format!("the erasure of tenant {tenant} began in the same moment");
            return Err(Failure::new(FailureClass::Refused, "too-late", tenant, message)
                .hint("Whether it saw that it is withdrawn is not known: run this again in a minute."));
        }
        Ok(open)
    }
}
