//! `plans list` and `plans show`.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{PLAN_AGE, find, is_stale, tally::Tally, was_begun_by, words};
use crate::{
    format::plan::{EVERYBODY, Plan, Reached, Step},
    id::{NameTag, RecordId},
    keyring::Keyring,
    operation::{
        failure::{Failure, FailureClass},
        whose,
    },
    signed::DocumentError,
    tenant::TenantName,
    vault::{Vault, plans::ListedPlan},
};

/// What `plans list` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlansReport {
    /// The oldest first.
    pub plans: Vec<PlanLine>,
    /// Plans, steps and approvals that are not to be trusted, and names that the keyring could not tell.
    pub problems: Vec<String>,
}

/// A plan.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlanLine {
    /// Its id.
    pub plan: String,
    /// The verb that `[approvals]` knows it by.
    pub act: String,
    /// Whose, where the keyring says so; null where it does not, or where it is about everybody.
    pub tenant: Option<String>,
    /// Whose: a pseudonym; null where it is about everybody.
    pub name_tag: Option<String>,
    /// What it would do.
    pub what: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it may begin at the latest, where signatures must be had.
    pub begins_before: DateTime<Utc>,
    /// How many persons' signatures it has that count now.
    pub signatures: u32,
    /// How many it needs, by this host's configuration; 0 where none are asked for.
    pub needed: u32,
    /// How far it has come.
    pub state: PlanState,
}

/// How far a plan has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlanState {
    /// For signatures.
    Waiting,
    /// The command that made it would go on.
    Ready,
    /// It has begun, and another run finishes it.
    Begun,
    /// Nothing is left to do.
    Closed,
    /// It was given up.
    Void,
    /// It is too old to begin.
    Stale,
}

impl PlanState {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Begun => "begun",
            Self::Closed => "closed",
            Self::Void => "void",
            Self::Stale => "stale",
        }
    }
}

/// What `plans show` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlanReport {
    /// The plan.
    #[serde(flatten)]
    pub plan: PlanLine,
    /// All that it is bound to.
    pub details: Vec<String>,
    /// Who signed it, each signature that counts.
    pub signed: Vec<PlanSignature>,
    /// Signatures of known keys that do not count now, and why.
    pub not_counted: Vec<String>,
    /// What came of it: steps and when each was reached.
    pub steps: Vec<PlanStep>,
    /// SHA-256 of the bytes that are signed.
    pub sha256: String,
    /// What is not to be trusted.
    pub problems: Vec<String>,
}

/// A signature that counts.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlanSignature {
    /// Whose, as the vault's list has it.
    pub principal: String,
    /// SHA-256 fingerprint of the key.
    pub fingerprint: String,
    /// When the store got it.
    pub at: DateTime<Utc>,
}

/// A step of a plan.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PlanStep {
    /// Which.
    pub step: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// What both look with.
pub struct Plans<'a> {
    /// Where plans are.
    pub vault: &'a Vault,
    /// It translates tags, as far as it can.
    pub keyring: Option<&'a Keyring>,
    /// By verb, how many operators must sign.
    pub needed: &'a (dyn Fn(&str) -> u32 + Sync),
    /// The time.
    pub now: DateTime<Utc>,
}

impl Plans<'_> {
    /// Every plan.
    ///
    /// # Errors
    /// A store that cannot be reached. What is not to be trusted is in the report.
    pub async fn list(&self) -> Result<PlansReport, Failure> {
        let mut report = PlansReport { plans: Vec::new(), problems: Vec::new() };
        let names = self.names(&mut report.problems).await?;
        for listed in self.vault.listed_plans(|_| true).await? {
            report.problems.extend(listed.wrong.iter().map(|error| format!("{}: {}", error.object(), error.what())));
            match &listed.plan {
                Err(error) => report.problems.push(format!("{}: {}", error.object(), error.what())),
                Ok(plan) => {
                    // Whose signatures count is asked before it begins, and never again.
                    let is_over = listed.is_begun() || listed.steps.contains(&Step::Closed);
                    let mut bad = Vec::new();
                    let tally = self.tally(plan.id, if is_over { &mut bad } else { &mut report.problems }).await?;
                    report.plans.push(self.line(plan, &listed, tally.as_ref(), &names, &mut report.problems).await?);
                }
            }
        }
        report.plans.sort_by_key(|line| (line.created_at, line.plan.clone()));
        Ok(report)
    }

    /// One plan, by its id or a beginning of it.
    ///
    /// # Errors
    /// As [`find`]; a plan that is not to be trusted (5).
    pub async fn show(&self, text: &str) -> Result<PlanReport, Failure> {
        let id = find(self.vault, text).await?;
        let mut problems = Vec::new();
        let names = self.names(&mut problems).await?;
        let Some(listed) = self.vault.listed_plan(id).await? else { return Err(gone(id)) };
        problems.extend(listed.wrong.iter().map(|error| format!("{}: {}", error.object(), error.what())));
        let plan = self.vault.plan(id).await?;
        let tally = Tally::of(self.vault, id, self.now).await?;
        problems.extend(tally.bad.iter().map(|(object, what)| format!("{object}: {what}")));
        let line = self.line(&plan, &listed, Some(&tally), &names, &mut problems).await?;
        if let (Some(keyring), false) = (self.keyring, matches!(line.state, PlanState::Closed | PlanState::Void)) {
            match whose::refuse_others(self.vault, keyring, &plan).await {
                Err(failure) if failure.class == FailureClass::Integrity => problems.push(failure.one_line()),
                looked => looked?,
            }
        }
        let mut steps = Vec::new();
        for step in &listed.steps {
            match self.vault.mark(id, *step).await {
                Ok(mark) => steps.extend(mark.map(|mark| PlanStep { step: stem(step.file()), at: mark.at })),
                Err(error @ DocumentError::Store { .. }) => return Err(error.into()),
                Err(error) => problems.push(format!("{}: {}", error.object(), error.what())),
            }
        }
        for what in &listed.reached {
            match self.vault.milestone(id, *what).await {
                Ok(milestone) => steps.extend(milestone.map(|m| PlanStep { step: stem(what.file()), at: m.value.at })),
                Err(error @ DocumentError::Store { .. }) => return Err(error.into()),
                Err(error) => problems.push(format!("{}: {}", error.object(), error.what())),
            }
        }
        steps.sort_by_key(|step| step.at);
        let signed = tally.signers.iter().map(|(signer, at)| PlanSignature {
            principal: signer.principal.clone(),
            fingerprint: signer.fingerprint.clone(),
            at: *at,
        });
        Ok(PlanReport {
            plan: line,
            details: words::details(&plan),
            signed: signed.collect(),
            not_counted: tally.not_counted.clone(),
            steps,
            sha256: crate::id::Sha256Digest::of(&tally.plan.bytes).to_string(),
            problems,
        })
    }

    /// The bytes that are signed, as they lie in the vault, when their own signature counts.
    ///
    /// # Errors
    /// As [`Plans::show`].
    pub async fn raw(&self, text: &str) -> Result<bytes::Bytes, Failure> {
        let id = find(self.vault, text).await?;
        self.vault.plan(id).await?;
        Ok(self.vault.signed_plan(id).await?.bytes)
    }

    async fn names(&self, problems: &mut Vec<String>) -> Result<BTreeMap<NameTag, TenantName>, Failure> {
        let Some(keyring) = self.keyring else {
            problems.push("the keyring cannot be opened: names are not translated".to_owned());
            return Ok(BTreeMap::new());
        };
        let census = keyring.census().await?;
        Ok(census.tenants.into_keys().map(|tenant| (keyring.tag(&tenant), tenant)).collect())
    }

    async fn tally(&self, plan: RecordId, problems: &mut Vec<String>) -> Result<Option<Tally>, Failure> {
        match Tally::of(self.vault, plan, self.now).await {
            Ok(tally) => {
                problems.extend(tally.bad.iter().map(|(object, what)| format!("{object}: {what}")));
                Ok(Some(tally))
            }
            Err(failure) if failure.class == FailureClass::Integrity => {
                problems.push(failure.one_line());
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn line(
        &self,
        plan: &Plan,
        listed: &ListedPlan,
        tally: Option<&Tally>,
        names: &BTreeMap<NameTag, TenantName>,
        problems: &mut Vec<String>,
    ) -> Result<PlanLine, Failure> {
        let tenant = names.get(&plan.name_tag);
        let (signatures, needed) = (tally.map_or(0, Tally::have), (self.needed)(plan.act.verb()));
        let has_begun = match plan.act.is_operators() && listed.is_begun() {
            true => was_begun_by(self.vault, plan, needed, self.now).await?,
            false => listed.is_begun(),
        };
        let state = match self.is_void(listed).await {
            Ok(true) => PlanState::Void,
            Ok(false) if listed.steps.contains(&Step::Closed) => PlanState::Closed,
            Ok(false) if has_begun => PlanState::Begun,
            Ok(false) if needed > 0 && is_stale(plan, self.now) => PlanState::Stale,
            Ok(false) if signatures < needed => PlanState::Waiting,
            Ok(false) => PlanState::Ready,
            Err(error @ DocumentError::Store { .. }) => return Err(error.into()),
            Err(error) => {
                problems.push(format!("{}: {}", error.object(), error.what()));
                PlanState::Begun
            }
        };
        Ok(PlanLine {
            plan: plan.id.to_string(),
            act: plan.act.verb().to_owned(),
            tenant: tenant.map(|tenant| tenant.as_str().to_owned()),
            name_tag: (plan.name_tag != EVERYBODY).then(|| plan.name_tag.to_string()),
            what: words::what(plan, tenant),
            created_at: plan.created_at,
            begins_before: plan.created_at + PLAN_AGE,
            signatures,
            needed,
            state,
        })
    }

    /// Whether it was given up, by what was signed of it.
    async fn is_void(&self, listed: &ListedPlan) -> Result<bool, DocumentError> {
        if !listed.steps.contains(&Step::Closed) {
            return Ok(false);
        }
        if listed.reached.contains(&Reached::Cancelled) && !listed.is_begun() {
            return Ok(self.vault.milestone(listed.id, Reached::Cancelled).await?.is_some());
        }
        Ok(self.vault.mark(listed.id, Step::Closed).await?.is_some_and(|mark| mark.found.void.is_some()))
    }
}

fn stem(file: &str) -> String {
    let stem = file.strip_suffix(".json").unwrap_or(file);
    stem.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches('-').to_owned()
}

fn gone(id: RecordId) -> Failure {
    Failure::new(FailureClass::Integrity, "plan-vanished", id, format!("plan {id} was there a moment ago, and is not any more"))
        .hint("Somebody removes objects from the vault. Look there.")
}
