//! Which plans there are, and how far each has come. Names tell what there is to read; what is done goes by what was signed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{part, plan_part, step_parts};
use crate::{
    format::{
        plan::{Mark, Plan, PlannedAct, Reached, Step},
        purge_note::PurgeNote,
    },
    id::{Locker, NameTag, RecordId, Sha256Digest},
    object_name::{Document, ObjectName, prefix},
    signed::{self, DocumentError},
    vault::{Vault, list_named},
};

/// Plans read at once.
const READERS: usize = 16;

/// A plan, and the steps that it has come past.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The steps that the eraser signed; [`Step::Closed`] also where an operator's word closes it.
    pub steps: BTreeSet<Step>,
    /// What an operator said of it, and signed.
    pub reached: BTreeSet<Reached>,
}

/// A plan as it is listed, good or not.
#[derive(Debug)]
pub struct ListedPlan {
    /// Its id, by its name.
    pub id: RecordId,
    /// As [`Planned::steps`].
    pub steps: BTreeSet<Step>,
    /// As [`Planned::reached`].
    pub reached: BTreeSet<Reached>,
    /// When the store got it.
    pub stored_at: DateTime<Utc>,
    /// The plan, or why it is not to be trusted.
    pub plan: Result<Plan, DocumentError>,
    /// What lies beside it under the name of a step or of an operator's word, and is none: nobody goes on with the plan while it is there.
    pub wrong: Vec<DocumentError>,
}

/// What a note must say, by the plan that wrote it.
#[derive(Debug, Clone)]
pub(in crate::vault) struct ExpectedNote {
    /// The note.
    pub(in crate::vault) note: PurgeNote,
    /// What its plan does.
    pub(in crate::vault) act: PlannedAct,
    /// When the store was told that the notes are there, by the name of a step.
    pub(in crate::vault) noted_at: DateTime<Utc>,
}

/// What the notes of each locker must say.
#[derive(Debug, Default)]
pub(in crate::vault) struct ExpectedNotes {
    /// By the plans that wrote them.
    pub(in crate::vault) notes: HashMap<Locker, Vec<ExpectedNote>>,
    /// Purges of which the plan is gone: by what the eraser wrote down of them there was a note.
    pub(in crate::vault) without_plan: HashMap<Locker, Vec<RecordId>>,
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
        is_begun(self.plan.act, &self.steps, &self.reached)
    }
}

impl ListedPlan {
    /// As [`Planned::is_begun`]. One that is not to be trusted has not begun.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.plan.as_ref().is_ok_and(|plan| is_begun(plan.act, &self.steps, &self.reached))
    }
}

/// What is written of a purge before it destroys anything closes it against everybody: from then on it goes on. An operator's word counts for
/// what operators carry out, and for nothing else.
fn is_begun(act: PlannedAct, steps: &BTreeSet<Step>, reached: &BTreeSet<Reached>) -> bool {
    if act.is_operators() { reached.contains(&Reached::Begun) } else { steps.iter().any(|step| *step != Step::Closed) }
}

/// The names in a plan's folder.
#[derive(Debug, Default)]
struct Folder {
    /// When the store got the plan itself.
    stored_at: Option<DateTime<Utc>>,
    /// Steps, and when the store got the last mark of that name.
    steps: BTreeMap<Step, DateTime<Utc>>,
    /// An operator's words.
    reached: BTreeSet<Reached>,
    /// When the store got something that nobody writes before the plan is there.
    after_plan: Option<DateTime<Utc>>,
}

impl Folder {
    /// Whether `wanted` may say yes to it once its marks are read.
    fn may_be(&self, wanted: &impl Fn(&BTreeSet<Step>) -> bool) -> bool {
        let mut steps: BTreeSet<Step> = self.steps.keys().copied().collect();
        steps.remove(&Step::Closed);
        let when_open = wanted(&steps);
        steps.insert(Step::Closed);
        when_open || wanted(&steps)
    }

    fn has_noted(&self) -> bool {
        self.steps.keys().any(|step| *step != Step::Closed)
    }
}

impl Vault {
    /// Every plan for a tenant that `wanted` says yes to, by the steps that it has come past; the oldest first.
    ///
    /// # Errors
    /// [`DocumentError::Store`]; and any plan that is wanted and cannot be read or trusted, or is another installation's: whether it is
    /// this tenant's, and what it would destroy, is not known. Of this tenant's also what lies beside one and is no step of it.
    pub async fn plans(&self, tag: NameTag, wanted: impl Fn(&BTreeSet<Step>) -> bool) -> Result<Vec<Planned>, DocumentError> {
        let mut plans = Vec::new();
        for ListedPlan { steps, reached, plan, wrong, .. } in self.listed(Some(tag), wanted).await? {
            let plan = plan?;
            if let Some(error) = wrong.into_iter().next() {
                return Err(error);
            }
            plans.push(Planned { plan, steps, reached });
        }
        plans.sort_by_key(|planned| (planned.plan.created_at, planned.plan.id));
        Ok(plans)
    }

    /// Every tenant's plans that `wanted` says yes to, by the steps that each has come past, and what of them is not to be trusted.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn listed_plans(&self, wanted: impl Fn(&BTreeSet<Step>) -> bool) -> Result<Vec<ListedPlan>, DocumentError> {
        self.listed(None, wanted).await
    }

    /// One plan of those that are listed; `None` where there is none.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn listed_plan(&self, id: RecordId) -> Result<Option<ListedPlan>, DocumentError> {
        match self.folders().await?.remove_entry(&id) {
            Some(folder) => self.prove(folder, None, false).await,
            None => Ok(None),
        }
    }

    /// The ids of all plans.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn plan_ids(&self) -> Result<Vec<RecordId>, DocumentError> {
        let folders = self.folders().await?.into_iter();
        Ok(folders.filter_map(|(id, folder)| folder.stored_at.map(|_| id)).collect())
    }

    async fn listed(
        &self,
        tag: Option<NameTag>,
        wanted: impl Fn(&BTreeSet<Step>) -> bool,
    ) -> Result<Vec<ListedPlan>, DocumentError> {
        let folders: Vec<_> = self.folders().await?.into_iter().filter(|(_, folder)| folder.may_be(&wanted)).collect();
        let open_alone = !wanted(&BTreeSet::from(Step::ALL));
        let mut read = stream::iter(folders).map(|folder| self.prove(folder, tag, open_alone)).buffered(READERS);
        let mut listed = Vec::new();
        while let Some(plan) = read.try_next().await? {
            listed.extend(plan.filter(|plan| plan.plan.is_err() || !plan.wrong.is_empty() || wanted(&plan.steps)));
        }
        Ok(listed)
    }

    async fn folders(&self) -> Result<BTreeMap<RecordId, Folder>, DocumentError> {
        let failed = |source| signed::store_error(self.store(), &prefix::PLANS, source);
        let (named, _) = list_named(self.store(), prefix::PLANS).await.map_err(failed)?;
        let mut folders: BTreeMap<RecordId, Folder> = BTreeMap::new();
        for (name, object) in named {
            let (id, file) = match name {
                ObjectName::Document(Document::Plan(id, file)) => (id, file),
                // Its document may be gone.
                ObjectName::Signature(Document::Plan(id, file)) if file == plan_part() => {
                    folders.entry(id).or_default();
                    continue;
                }
                ObjectName::Signature(Document::Plan(id, _)) | ObjectName::Approval { plan: id, .. } => {
                    folders.entry(id).or_default().after_plan = Some(object.modified);
                    continue;
                }
                _ => continue,
            };
            let folder = folders.entry(id).or_default();
            folder.steps.extend(
                Step::ALL.into_iter().find(|step| step_parts(*step).any(|name| file == name)).map(|step| (step, object.modified)),
            );
            folder.reached.extend(Reached::ALL.into_iter().find(|what| file == part(what.file())));
            match file == plan_part() {
                true => folder.stored_at = Some(object.modified),
                false => folder.after_plan = Some(object.modified),
            }
        }
        Ok(folders)
    }

    /// Reads a plan and all that is written of it; `None` where the plan is not there, is another tenant's than `tag`'s, or was closed by the
    /// eraser and `open_alone` are wanted.
    async fn prove(
        &self,
        (id, folder): (RecordId, Folder),
        tag: Option<NameTag>,
        open_alone: bool,
    ) -> Result<Option<ListedPlan>, DocumentError> {
        let Some(stored_at) = folder.stored_at else { return self.without_plan(id, folder, tag).await };
        if open_alone && folder.steps.contains_key(&Step::Closed) && matches!(self.mark(id, Step::Closed).await, Ok(Some(_))) {
            return Ok(None);
        }
        let (plan, sha256) = match self.record::<Plan>(&Document::Plan(id, plan_part()), None).await {
            Err(error @ DocumentError::Store { .. }) => return Err(error),
            Err(error) => (Err(error), None),
            Ok(signed) => (Ok(signed.value), Some(signed.sha256)),
        };
        if plan.as_ref().is_ok_and(|plan| tag.is_some_and(|tag| plan.name_tag != tag)) {
            return Ok(None);
        }
        let (mut steps, mut reached, mut wrong) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for step in folder.steps.into_keys() {
            match self.mark(id, step).await {
                Ok(Some(mark)) if is_of_another(&mark, sha256) => wrong.push(self.exchanged(id)),
                Ok(mark) => steps.extend(mark.map(|_| step)),
                Err(error @ DocumentError::Store { .. }) => return Err(error),
                Err(error) => wrong.push(error),
            }
        }
        for what in folder.reached {
            match self.milestone(id, what).await {
                Ok(milestone) => reached.extend(milestone.map(|_| what)),
                Err(error @ DocumentError::Store { .. }) => return Err(error),
                Err(error) => wrong.push(error),
            }
        }
        if let Ok(Plan { act, .. }) = plan {
            // A plan that has begun is never given up: who cancelled it came too late.
            let is_over = act.is_operators() && reached.contains(&Reached::Ended)
                || reached.contains(&Reached::Cancelled) && !is_begun(act, &steps, &reached);
            steps.extend(is_over.then_some(Step::Closed));
        }
        Ok(Some(ListedPlan { id, steps, reached, stored_at, plan, wrong }))
    }

    /// Somebody removed a plan: whose it was nobody knows, unless the eraser wrote down what it was about to destroy, and then its lockers miss
    /// their notes. A signature of the plan alone is a crashed write.
    async fn without_plan(
        &self,
        id: RecordId,
        folder: Folder,
        tag: Option<NameTag>,
    ) -> Result<Option<ListedPlan>, DocumentError> {
        let Some(stored_at) = folder.after_plan.filter(|_| tag.is_none()) else { return Ok(None) };
        if self.begun_purge(id).await?.is_some() {
            return Ok(None);
        }
        let object = signed::locate(self.store(), &Document::Plan(id, plan_part()));
        let (steps, reached, plan) = (BTreeSet::new(), BTreeSet::new(), Err(DocumentError::Missing { object }));
        Ok(Some(ListedPlan { id, steps, reached, stored_at, plan, wrong: Vec::new() }))
    }

    fn exchanged(&self, id: RecordId) -> DocumentError {
        let object = signed::locate(self.store(), &Document::Plan(id, plan_part()));
        DocumentError::Contradiction { object, what: "it is not the plan whose steps the eraser signed".to_owned() }
    }

    /// What the notes of each locker must say, where names say that a plan has come past writing them: plans are never removed, and each says
    /// what its notes say. Whoever misses one asks [`Vault::has_noted`]. Asked once: what is planned later has its notes before it destroys
    /// anything. A plan that is not to be trusted says nothing: `verify`, `check`, `expire` and every purge name it.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub(in crate::vault) async fn expected_notes(&self) -> Result<Arc<ExpectedNotes>, DocumentError> {
        let mut asked = self.expected_notes.lock().await;
        if let Some(expected) = &*asked {
            return Ok(Arc::clone(expected));
        }
        let folders = self.folders().await?;
        // Where the names of steps are gone, or the plan is, the eraser's own record of the act has the plan's id.
        let is_noted = |folder: &Folder| folder.stored_at.is_some() && folder.has_noted();
        let acts = if folders.values().all(is_noted) { HashSet::new() } else { self.act_ids().await? };
        let mut expected = ExpectedNotes::default();
        for id in folders.iter().filter(|(id, folder)| folder.stored_at.is_none() && acts.contains(id)).map(|(id, _)| *id) {
            for on in self.begun_purge(id).await?.into_iter().flat_map(|act| act.lockers) {
                if !(on.keys.is_empty() && on.backups.is_empty()) {
                    expected.without_plan.entry(on.locker).or_default().push(id);
                }
            }
        }
        let folders = folders.into_iter();
        let noted = folders.filter(|(id, folder)| is_noted(folder) || folder.stored_at.is_some() && acts.contains(id));
        let mut read = stream::iter(noted).map(async |(id, folder)| (folder, self.plan(id).await)).buffered(READERS);
        while let Some((folder, plan)) = read.next().await {
            let plan = match plan {
                Err(error @ DocumentError::Store { .. }) => return Err(error),
                Err(_) => continue,
                Ok(plan) => plan,
            };
            // What is noted when it is done may never come to be done.
            if plan.act == PlannedAct::Drop && !folder.steps.contains_key(&plan.act.noted()) {
                continue;
            }
            let Some(noted_at) = folder.steps.values().next().copied().or(folder.stored_at) else { continue };
            for note in plan.lockers.iter().filter_map(|planned| plan.note(planned)) {
                expected.notes.entry(note.locker).or_default().push(ExpectedNote { note, act: plan.act, noted_at });
            }
        }
        let expected = Arc::new(expected);
        *asked = Some(Arc::clone(&expected));
        Ok(expected)
    }

    /// Whether the eraser signed that a plan has come past writing its notes.
    ///
    /// # Errors
    /// As [`Vault::mark`], where no step counts and one is not to be trusted.
    pub(in crate::vault) async fn has_noted(&self, plan: RecordId, act: PlannedAct) -> Result<bool, DocumentError> {
        let sha256 = match self.record::<Plan>(&Document::Plan(plan, plan_part()), None).await {
            Err(error @ DocumentError::Store { .. }) => return Err(error),
            signed => signed.ok().map(|signed| signed.sha256),
        };
        let mut wrong = None;
        for step in
            Step::ALL.into_iter().filter(|step| *step != Step::Closed && (act != PlannedAct::Drop || *step == act.noted()))
        {
            match self.mark(plan, step).await {
                Ok(Some(mark)) if is_of_another(&mark, sha256) => wrong = Some(self.exchanged(plan)),
                Ok(Some(_)) => return Ok(true),
                Ok(None) => {}
                Err(error @ DocumentError::Store { .. }) => return Err(error),
                Err(error) => wrong = Some(error),
            }
        }
        wrong.map_or(Ok(false), Err)
    }
}

/// Whether a mark was written for another plan than the one that has its name now.
fn is_of_another(mark: &Mark, plan: Option<Sha256Digest>) -> bool {
    mark.plan_sha256.is_some_and(|was| plan.is_some_and(|is| is != was))
}
