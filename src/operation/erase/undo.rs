//! `erase --undo`: while nothing is destroyed the tenant gets everything back.

use super::{Done, Erase, EraseReport, EraseStatus, Intent, Live, report};
use crate::{
    format::{
        erasure_note::{ErasureNote, ErasureSays},
        plan::{Found, Step},
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
};

impl Erase<'_> {
    /// Withdraws an erasure, and opens the database again.
    ///
    /// # Errors
    /// There is none (1), or it destroys already (4).
    pub async fn undo(&self, tenant: &TenantName) -> Result<EraseReport, Failure> {
        let (vault, keyring, eraser) = (self.purge.vault, self.purge.keyring, self.purge.eraser);
        let Some(planned) = self.open(keyring.tag(tenant)).await? else {
            let message = format!("no erasure of tenant {tenant} is open");
            return Err(Failure::new(FailureClass::Failed, "nothing-to-undo", tenant, message).hint(
                "What is erased cannot be given back. If it was withdrawn and its database lets nobody in: ALTER DATABASE … ALLOW_CONNECTIONS true.",
            ));
        };
        let (plan, steps) = (planned.plan, Some(planned.steps));
        let intent = Intent { plan, steps, live: Live::Known(None), backups: 0, taken: None };
        let plan = &intent.plan;
        let destroys = async || Ok::<_, Failure>(vault.mark(plan.id, Step::Destroying).await?.is_some());
        if destroys().await? {
            let message = format!("the erasure of tenant {tenant} has begun to destroy");
            return Err(Failure::new(FailureClass::Refused, "too-late", tenant, message)
                .hint(format!("It cannot be withdrawn any more: `tenure erase {}` finishes it.", Word(tenant.as_str()))));
        }
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
        if destroys().await? && vault.mark(plan.id, Step::Closed).await?.is_none() {
            let message = format!("the erasure of tenant {tenant} began in the same moment");
            return Err(Failure::new(FailureClass::Refused, "too-late", tenant, message)
                .hint("Whether it saw that it is withdrawn is not known: run this again in a minute."));
        }
        let mut done = Done { open, ..Done::default() };
        for database in plan.databases.iter().filter(|database| database.allowed_connections) {
            if let Err(failure) = self.drop.resume(database).await {
                done.open.push(OpenItem {
                    kind: "live",
                    object: format!("the live database on {}", database.cluster),
                    what: format!("it may let nobody in: {}; run this again", failure.one_line()),
                    until: None,
                });
            }
        }
        self.certify_withdrawn(&intent, &done).await?;
        done.is_certified = true;
        if done.open.is_empty() {
            let void = Some("withdrawn".to_owned());
            self.mark(plan, Step::Closed, Found { void, ..Found::default() }).await?;
        }
        self.record(&intent, &done, false, self.now()).await?;
        let mut said = report(tenant, &intent, done);
        said.status = EraseStatus::Withdrawn;
        Ok(said)
    }
}
