//! Plans, and how far each has come.

mod listed;

use chrono::{DateTime, Utc};

use super::{Vault, records::Record};
pub(super) use listed::{ExpectedNote, ExpectedNotes};
pub use listed::{ListedPlan, Planned};

use crate::{
    format::plan::{Found, Mark, Milestone, Plan, Reached, Step},
    id::RecordId,
    object_name::{Document, ObjectName, Part},
    signature::{Namespace, SigningKey},
    signed::{self, DocumentError, Signed, Whole},
};

/// The name of the plan itself below `plans/<id>/`.
const PLAN: &str = "plan.json";

impl Vault {
    /// One plan.
    ///
    /// # Errors
    /// As [`Vault::record`].
    pub async fn plan(&self, id: RecordId) -> Result<Plan, DocumentError> {
        Ok(self.record::<Plan>(&Document::Plan(id, plan_part()), None).await?.value)
    }

    /// A plan as it was signed, with its signature.
    ///
    /// # Errors
    /// As [`signed::read_whole`].
    pub async fn signed_plan(&self, id: RecordId) -> Result<Whole, DocumentError> {
        signed::read_whole(self.store(), &Document::Plan(id, plan_part()), Namespace::Plan, self.signers(), None).await
    }

    /// Writes a plan.
    ///
    /// # Errors
    /// As [`signed::create`].
    pub async fn put_plan(&self, plan: &Plan, operator: &SigningKey) -> Result<(), DocumentError> {
        self.create(&plan.document(), plan, operator).await
    }

    /// What was found when a plan came past a step; `None` when it has not. Only what the eraser signed counts. Where somebody gave a plan up
    /// in the place in which it would say that it destroys, it never does.
    ///
    /// # Errors
    /// As [`Vault::record`].
    pub async fn mark(&self, plan: RecordId, step: Step) -> Result<Option<Mark>, DocumentError> {
        let written = self.written_mark(plan, step).await?;
        Ok(written.filter(|mark| step != Step::Destroying || mark.found.void.is_none()))
    }

    /// What lies in the place of a step's mark, whatever it says.
    async fn written_mark(&self, plan: RecordId, step: Step) -> Result<Option<Mark>, DocumentError> {
        for part in step_parts(step) {
            let document = Document::Plan(plan, part);
            match signed::read::<Mark>(self.store(), &document, Mark::NAMESPACE, self.signers(), None).await {
                Ok(read) if (read.value.plan, read.value.step) == (plan, step) && read.value.belongs(self) => {
                    return Ok(Some(read.value));
                }
                Ok(_) => {
                    let what = "it belongs elsewhere: moved or copied from another place".to_owned();
                    return Err(DocumentError::Contradiction { object: signed::locate(self.store(), &document), what });
                }
                // A killed run may have left a signature here, and the next one its mark under the next name.
                Err(DocumentError::Missing { .. }) if self.has_signature(&document).await? => {}
                Err(DocumentError::Missing { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn has_signature(&self, document: &Document) -> Result<bool, DocumentError> {
        let name = ObjectName::Signature(document.clone());
        let found = self.store().head(&name.to_string()).await;
        Ok(found.map_err(|source| signed::store_error(self.store(), &name, source))?.is_some())
    }

    /// What an operator said of a plan; `None` when nobody did.
    ///
    /// # Errors
    /// As [`Vault::record`].
    pub async fn milestone(&self, plan: RecordId, what: Reached) -> Result<Option<Signed<Milestone>>, DocumentError> {
        match self.record::<Milestone>(&Document::Plan(plan, part(what.file())), None).await {
            Ok(signed) => Ok(Some(signed)),
            Err(DocumentError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes what became of a plan. Where another run was faster, its word stays.
    ///
    /// # Errors
    /// As [`signed::create`], but for [`DocumentError::Exists`].
    pub async fn put_milestone(&self, milestone: &Milestone, operator: &SigningKey) -> Result<(), DocumentError> {
        match self.create(&milestone.document(), milestone, operator).await {
            Err(DocumentError::Exists { .. }) => Ok(()),
            written => written,
        }
    }

    /// Whether every copy of the keys that a purge note's plan names was destroyed, and read back as absent.
    ///
    /// # Errors
    /// As [`Vault::mark`].
    pub async fn keys_are_destroyed(&self, plan: RecordId) -> Result<bool, DocumentError> {
        Ok(self.mark(plan, Step::KeysDestroyed).await?.is_some())
    }

    /// Writes that a plan has come past a step. Where another run was faster, its mark stays. Where one was killed between a signature and
    /// its mark, the name is taken for good: nobody may remove anything here. The mark takes the next one.
    ///
    /// # Errors
    /// As [`signed::create`]; [`DocumentError::Exists`] when every name is taken.
    pub async fn put_mark(
        &self,
        plan: RecordId,
        step: Step,
        (at, found): (DateTime<Utc>, Found),
        eraser: &SigningKey,
    ) -> Result<(), DocumentError> {
        self.ask_anew().await;
        let plan_sha256 = match self.record::<Plan>(&Document::Plan(plan, plan_part()), None).await {
            Ok(plan) => Some(plan.sha256),
            Err(DocumentError::Missing { .. }) => None,
            Err(error) => return Err(error),
        };
        let installation = self.root().installation;
        let mark = &Mark { format: signed::FORMAT, installation, plan, step, at, found, plan_sha256 };
        let mut taken = None;
        for part in step_parts(mark.step) {
            match self.create(&Document::Plan(mark.plan, part), mark, eraser).await {
                Err(error @ DocumentError::Exists { .. }) => taken = Some(error),
                written => return written,
            }
            if self.written_mark(mark.plan, mark.step).await?.is_some() {
                return Ok(());
            }
        }
        taken.map_or(Ok(()), Err)
    }
}

/// How many runs may be killed between the signature of a mark and the mark.
const NAMES: usize = 9;

/// The names of a step's mark: `closed.json`, then `closed.2.json`, …
fn step_parts(step: Step) -> impl Iterator<Item = Part> {
    let stem = step.file().trim_end_matches(".json");
    (1..=NAMES).map(move |nth| if nth == 1 { part(step.file()) } else { part(&format!("{stem}.{nth}.json")) })
}

fn plan_part() -> Part {
    part(PLAN)
}

fn part(name: &str) -> Part {
    Part::new(name).expect("names of plans and steps are parts")
}

impl Record for Plan {
    const NAMESPACE: Namespace = Namespace::Plan;
    fn is(document: &Document) -> bool {
        matches!(document, Document::Plan(_, part) if *part == plan_part())
    }
    fn document(&self) -> Document {
        Document::Plan(self.id, plan_part())
    }
    fn belongs(&self, vault: &Vault) -> bool {
        self.installation == vault.root().installation
    }
}

impl Record for Mark {
    const NAMESPACE: Namespace = Namespace::Erasure;
    fn is(document: &Document) -> bool {
        matches!(document, Document::Plan(_, part) if Step::ALL.iter().any(|step| step_parts(*step).any(|name| *part == name)))
    }
    fn document(&self) -> Document {
        Document::Plan(self.plan, part(self.step.file()))
    }
    fn belongs(&self, vault: &Vault) -> bool {
        self.installation == vault.root().installation
    }
}

impl Record for Milestone {
    const NAMESPACE: Namespace = Namespace::Plan;
    fn is(document: &Document) -> bool {
        matches!(document, Document::Plan(_, file) if Reached::ALL.iter().any(|what| *file == part(what.file())))
    }
    fn document(&self) -> Document {
        Document::Plan(self.plan, part(self.what.file()))
    }
    fn belongs(&self, vault: &Vault) -> bool {
        self.installation == vault.root().installation
    }
}
