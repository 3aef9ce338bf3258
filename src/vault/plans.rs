//! Plans, and how far each has come.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{Vault, list_named, records::Record};
use crate::{
    format::{
        plan::{Mark, Milestone, Plan, PlannedAct, Reached, Step},
        purge_note::PurgeNote,
    },
    id::{Locker, NameTag, RecordId},
    object_name::{Document, ObjectName, Part, prefix},
    signature::{Namespace, SigningKey},
    signed::{self, DocumentError, Signed, Whole},
};

/// Plans read at once.
const READERS: usize = 16;

/// The name of the plan itself below `plans/<id>/`.
const PLAN: &str = "plan.json";

/// A plan, and the steps that it has come past.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The steps, by their names alone: see [`Vault::mark`] for what one says.
    pub steps: BTreeSet<Step>,
    /// What an operator said of it, by the names alone.
    pub reached: BTreeSet<Reached>,
}

/// What the notes of each locker must say, by the plans that have come past writing them, and when the store was told that they have.
pub(super) type ExpectedNotes = HashMap<Locker, Vec<(PurgeNote, DateTime<Utc>)>>;

/// A plan as it is listed, good or not.
#[derive(Debug)]
pub struct ListedPlan {
    /// Its id, by its name.
    pub id: RecordId,
    /// The steps that it has come past, by their names alone.
    pub steps: BTreeSet<Step>,
    /// When the store was told of the first of them.
    pub noted_at: Option<DateTime<Utc>>,
    /// What an operator said of it, by the names alone.
    pub reached: BTreeSet<Reached>,
    /// When the store got it.
    pub stored_at: DateTime<Utc>,
    /// The plan, or why it is not to be trusted.
    pub plan: Result<Plan, DocumentError>,
}

impl Planned {
    /// Whether something is left to do.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.steps.contains(&Step::Closed)
    }

    /// Whether it may be finished, whatever becomes of its signatures.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        is_begun(&self.steps, &self.reached)
    }
}

impl ListedPlan {
    /// As [`Planned::is_begun`].
    #[must_use]
    pub fn is_begun(&self) -> bool {
        is_begun(&self.steps, &self.reached)
    }
}

/// What is written of a purge before it destroys anything closes it against everybody: from then on it goes on.
fn is_begun(steps: &BTreeSet<Step>, reached: &BTreeSet<Reached>) -> bool {
    reached.contains(&Reached::Begun) || steps.iter().any(|step| *step != Step::Closed)
}

impl Vault {
    /// Every plan for a tenant that `wanted` says yes to, by the steps that it has come past; the oldest first.
    ///
    /// # Errors
    /// [`DocumentError::Store`]; and any plan that is wanted and cannot be read or trusted, or is another installation's: whether it is
    /// this tenant's, and what it would destroy, is not known.
    pub async fn plans(&self, tag: NameTag, wanted: impl Fn(&BTreeSet<Step>) -> bool) -> Result<Vec<Planned>, DocumentError> {
        let mut plans = Vec::new();
        for ListedPlan { steps, reached, plan, .. } in self.listed_plans(wanted).await? {
            let plan = plan?;
            if plan.name_tag == tag {
                plans.push(Planned { plan, steps, reached });
            }
        }
        plans.sort_by_key(|planned| (planned.plan.created_at, planned.plan.id));
        Ok(plans)
    }

    /// Every tenant's plans that `wanted` says yes to, by the steps that each has come past, and what of them is not to be trusted.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn listed_plans(&self, wanted: impl Fn(&BTreeSet<Step>) -> bool) -> Result<Vec<ListedPlan>, DocumentError> {
        let failed = |source| signed::store_error(self.store(), &prefix::PLANS, source);
        let (named, _) = list_named(self.store(), prefix::PLANS).await.map_err(failed)?;
        type Folder = (Option<DateTime<Utc>>, BTreeMap<Step, DateTime<Utc>>, BTreeSet<Reached>);
        let mut listed: BTreeMap<RecordId, Folder> = BTreeMap::new();
        for (name, object) in named {
            let ObjectName::Document(Document::Plan(id, file)) = name else { continue };
            let (stored_at, steps, reached) = listed.entry(id).or_default();
            steps.extend(
                Step::ALL.into_iter().find(|step| step_parts(*step).any(|name| file == name)).map(|step| (step, object.modified)),
            );
            reached.extend(Reached::ALL.into_iter().find(|what| file == part(what.file())));
            if file == plan_part() {
                *stored_at = Some(object.modified);
            }
        }
        let listed = listed.into_iter().filter_map(|(id, (stored_at, at, reached))| {
            let (noted_at, mut steps) = (at.values().next().copied(), at.into_keys().collect::<BTreeSet<Step>>());
            // A plan that has begun is never given up: who cancelled it came too late.
            let is_over =
                reached.contains(&Reached::Ended) || reached.contains(&Reached::Cancelled) && !is_begun(&steps, &reached);
            steps.extend(is_over.then_some(Step::Closed));
            stored_at.filter(|_| wanted(&steps)).map(|stored_at| (id, stored_at, noted_at, steps, reached))
        });
        stream::iter(listed)
            .map(async |(id, stored_at, noted_at, steps, reached)| match self.plan(id).await {
                Err(error @ DocumentError::Store { .. }) => Err(error),
                plan => Ok(ListedPlan { id, steps, noted_at, reached, stored_at, plan }),
            })
            .buffered(READERS)
            .try_collect()
            .await
    }

    /// What the notes of each locker must say: plans are never removed, and each says what its notes say. Asked once: what is planned later
    /// has its notes before it destroys anything. A plan that is not to be trusted says nothing: `verify`, `check`, `expire` and every purge
    /// name it.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub(super) async fn expected_notes(&self) -> Result<Arc<ExpectedNotes>, DocumentError> {
        let mut asked = self.expected_notes.lock().await;
        if let Some(expected) = &*asked {
            return Ok(Arc::clone(expected));
        }
        let is_noted = |steps: &BTreeSet<Step>| steps.iter().any(|step| *step != Step::Closed);
        let mut expected = ExpectedNotes::new();
        for ListedPlan { plan, noted_at, steps, .. } in self.listed_plans(is_noted).await? {
            let (Ok(plan), Some(noted_at)) = (plan, noted_at) else { continue };
            // What is noted when it is done may never come to be done.
            if plan.act == PlannedAct::Drop && !steps.contains(&plan.act.noted()) {
                continue;
            }
            for note in plan.lockers.iter().filter_map(|planned| plan.note(planned)) {
                expected.entry(note.locker).or_default().push((note, noted_at));
            }
        }
        let expected = Arc::new(expected);
        *asked = Some(Arc::clone(&expected));
        Ok(expected)
    }

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

    /// What was found when a plan came past a step; `None` when it has not. Only what the eraser signed counts.
    ///
    /// # Errors
    /// As [`Vault::record`].
    pub async fn mark(&self, plan: RecordId, step: Step) -> Result<Option<Mark>, DocumentError> {
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
    pub async fn put_mark(&self, mark: &Mark, eraser: &SigningKey) -> Result<(), DocumentError> {
        self.ask_anew().await;
        let mut taken = None;
        for part in step_parts(mark.step) {
            match self.create(&Document::Plan(mark.plan, part), mark, eraser).await {
                Err(error @ DocumentError::Exists { .. }) => taken = Some(error),
                written => return written,
            }
            if self.mark(mark.plan, mark.step).await?.is_some() {
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
