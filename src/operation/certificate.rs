//! `certificate`: what was certified of erasures, whether it can be trusted, and whether it still holds.

pub mod export;
pub mod verify;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use schemars::JsonSchema;
use serde::Serialize;

use super::failure::{Failure, FailureClass};
use crate::{
    format::certificate::{Certificate, Stage},
    id::{NameTag, RecordId},
    signed::{self, Signed},
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
    report.certificates.sort_by(|a, b| (a.planned_at, &a.id).cmp(&(b.planned_at, &b.id)));
    Ok(report)
}

/// One certificate.
///
/// # Errors
/// None of that name (1), several (2), none of its documents can be trusted (5); a store that cannot be reached.
pub async fn show(vault: &Vault, text: &str) -> Result<CertificateReport, Failure> {
    let mut certified = certified(vault, find(vault, text).await?).await?;
    let problems = problems(&certified).collect();
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
    let message =
        format!("{} has no certificate {text}", signed::locate(vault.store(), &crate::object_name::prefix::CERTIFICATES));
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
