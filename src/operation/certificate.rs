//! `certificate`: what was certified of erasures, whether it can be trusted, and whether it still holds.

pub mod export;
pub mod verify;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    erased,
    failure::{Failure, FailureClass},
};
use crate::{
    format::{
        certificate::{Certificate, Stage},
        plan::{PlannedAct, Step},
    },
    id::{NameTag, RecordId},
    object_name::prefix,
    signed::{self, DocumentError, Signed},
    vault::{Vault, certificates::Certified},
};

/// Certificates read at once.
const READERS: usize = 16;

/// What `certificate list` says.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct CertificatesReport {
    /// Every certificate, the oldest request first.
    pub certificates: Vec<CertificateEntry>,
    /// What cannot be trusted.
    pub problems: Vec<String>,
}

/// One certificate.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CertificateEntry {
    /// Its id: that of the plan and of the tombstone.
    pub id: String,
    /// Who is erased: a pseudonym.
    pub name_tag: String,
    /// The last stage with nothing open before it.
    pub stage: Stage,
    /// When the erasure was planned.
    pub planned_at: DateTime<Utc>,
    /// When the newest document was written.
    pub written_at: DateTime<Utc>,
    /// Where the request is filed.
    pub reference: Option<String>,
    /// How many things are left to be done.
    pub open: u64,
}

/// What `certificate show` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CertificateReport {
    /// Its newest document.
    pub certificate: Certificate,
    /// How it is signed.
    pub signed: SignedDocument,
    /// The documents before it.
    pub earlier: Vec<SignedDocument>,
    /// What cannot be trusted.
    pub problems: Vec<String>,
}

/// A document and who signed it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SignedDocument {
    /// Its name below `certificates/<id>/`.
    pub file: String,
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// Who signed it, as the vault's list has him.
    pub principal: String,
    /// SHA-256 fingerprint of the key.
    pub fingerprint: String,
    /// When the store got it.
    pub stored_at: DateTime<Utc>,
}

/// Every certificate, or those about one tenant.
///
/// # Errors
/// A store that cannot be reached.
pub async fn list(vault: &Vault, about: Option<NameTag>) -> Result<CertificatesReport, Failure> {
    let ids = vault.certificate_ids().await?;
    let mut read = stream::iter(ids).map(|id| vault.certified(id)).buffered(READERS);
    let mut report = CertificatesReport::default();
    while let Some(certified) = read.try_next().await? {
        let newest = certified.newest().map(|signed| &signed.value);
        if newest.is_some_and(|newest| about.is_some_and(|about| about != newest.name_tag)) {
            continue;
        }
        report.problems.extend(problems(&certified));
        report.certificates.extend(newest.map(|newest| CertificateEntry {
            id: newest.id.to_string(),
            name_tag: newest.name_tag.to_string(),
            stage: newest.stage,
            planned_at: newest.request.planned_at,
            written_at: newest.written_at,
            reference: newest.request.reference.clone(),
            open: newest.open.len() as u64,
        }));
    }
    report.problems.extend(missing(vault, about).await?.into_iter().map(|missing| missing.to_string()));
    report.certificates.sort_by(|a, b| (a.planned_at, &a.id).cmp(&(b.planned_at, &b.id)));
    Ok(report)
}

/// A certificate that is not there, or lacks its end.
pub(super) struct MissingEnd {
    pub(super) id: RecordId,
    pub(super) name_tag: NameTag,
    /// Address and folder.
    pub(super) object: String,
    pub(super) what: &'static str,
}

impl std::fmt::Display for MissingEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.object, self.what)
    }
}

/// Erasures whose certificate is not there, or ends before its plan does. A plan that cannot be read is named by whoever reads plans.
///
/// # Errors
/// A vault that cannot be asked.
pub(super) async fn missing(vault: &Vault, about: Option<NameTag>) -> Result<Vec<MissingEnd>, Failure> {
    let listed = vault.listed_plans(|steps| steps.contains(&Step::Noted)).await?;
    let begun = listed
        .into_iter()
        .filter_map(|listed| listed.plan.ok())
        .filter(|plan| matches!(plan.act, PlannedAct::Erase { .. }) && about.is_none_or(|about| about == plan.name_tag));
    let looked = stream::iter(begun).map(async |plan| {
        let certified = vault.certified(plan.id).await?;
        let what = match certified.newest() {
            // What is there and cannot be trusted is named as such.
            None if certified.problems.is_empty() => Some(NOT_THERE),
            newest => lacks_its_end(vault, plan.id, newest.map(|newest| newest.value.stage)).await?.then_some(NO_END),
        };
        let object = signed::locate(vault.store(), &prefix::certificate(plan.id));
        Ok(what.map(|what| MissingEnd { id: plan.id, name_tag: plan.name_tag, object, what }))
    });
    let missing: Result<Vec<Option<MissingEnd>>, DocumentError> = looked.buffered(READERS).try_collect().await;
    Ok(missing?.into_iter().flatten().collect())
}

const NOT_THERE: &str = "its erasure was begun, and the certificate is not there: somebody removed it";
const NO_END: &str = "its plan is closed, and the certificate's last document is not there: somebody removed it";

/// Whether an erasure is closed, and its certificate does not say so.
///
/// # Errors
/// As [`Vault::mark`].
pub(super) async fn lacks_its_end(vault: &Vault, id: RecordId, newest: Option<Stage>) -> Result<bool, DocumentError> {
    if matches!(newest, Some(Stage::Closed | Stage::Withdrawn)) {
        return Ok(false);
    }
    // One that was given up for another reason was certified no further.
    let closed = vault.mark(id, Step::Closed).await?;
    Ok(closed.is_some_and(|mark| mark.found.void.is_none_or(|void| void == erased::lost::WITHDRAWN)))
}

/// One certificate.
///
/// # Errors
/// None of that name (1), several (2), none of its documents can be trusted (5); a store that cannot be reached.
pub async fn show(vault: &Vault, text: &str) -> Result<CertificateReport, Failure> {
    let id = find(vault, text).await?;
    let mut certified = certified(vault, id).await?;
    let mut problems: Vec<String> = problems(&certified).collect();
    if lacks_its_end(vault, id, certified.newest().map(|newest| newest.value.stage)).await? {
        problems.push(format!("{}: {NO_END}", signed::locate(vault.store(), &prefix::certificate(id))));
    }
    let newest = certified.documents.pop().ok_or_else(|| no_such(vault, text))?;
    let earlier = certified.documents.iter().map(SignedDocument::of).collect();
    Ok(CertificateReport { signed: SignedDocument::of(&newest), certificate: newest.value, earlier, problems })
}

/// The very bytes of the newest document.
///
/// # Errors
/// As [`show`].
pub async fn raw(vault: &Vault, text: &str) -> Result<bytes::Bytes, Failure> {
    let certified = certified(vault, find(vault, text).await?).await?;
    let newest = certified.newest().ok_or_else(|| no_such(vault, text))?;
    Ok(vault.signed_certificate(&newest.value).await?.bytes)
}

/// What can be trusted of a certificate: one document at least.
pub(super) async fn certified(vault: &Vault, id: RecordId) -> Result<Certified, Failure> {
    let mut certified = vault.certified(id).await?;
    match certified.problems.pop() {
        Some(problem) if certified.documents.is_empty() => {
            Err(Failure::from(problem).hint("Somebody changed it: put it back from a copy of the vault, or from an export."))
        }
        problem => {
            certified.problems.extend(problem);
            Ok(certified)
        }
    }
}

/// The certificate that somebody means: its id, or a beginning of it that no other has.
///
/// # Errors
/// None (1), or several (2); a store that cannot be reached.
pub async fn find(vault: &Vault, text: &str) -> Result<RecordId, Failure> {
    let mut found = vault.certificate_ids().await?;
    found.retain(|id| id.to_string().starts_with(text));
    match found[..] {
        [id] if !text.is_empty() => Ok(id),
        [] => Err(no_such(vault, text)),
        _ => {
            let message = format!("{} certificates begin with {text}", found.len());
            Err(Failure::new(FailureClass::Usage, "several-certificates", text, message).hint(LISTED))
        }
    }
}

const LISTED: &str = "`tenure certificate list` shows every certificate with its id.";

fn no_such(vault: &Vault, text: &str) -> Failure {
    let message = format!("{} has no certificate {text}", signed::locate(vault.store(), &prefix::CERTIFICATES));
    Failure::new(FailureClass::Failed, "no-such-certificate", text, message).hint(LISTED)
}

fn problems(certified: &Certified) -> impl Iterator<Item = String> {
    certified.problems.iter().map(|problem| format!("{}: {}", problem.object(), problem.what()))
}

impl SignedDocument {
    fn of(signed: &Signed<Certificate>) -> Self {
        Self {
            file: signed.value.file(),
            sha256: signed.sha256.to_string(),
            principal: signed.signer.principal.clone(),
            fingerprint: signed.signer.fingerprint.clone(),
            stored_at: signed.stored_at,
        }
    }
}
