//! `approve`: an operator's signature for somebody else's plan.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{find, is_begun, refuse_over, tally::Tally, words};
use crate::{
    format::plan::{EVERYBODY, Plan, Reached, Step},
    keyring::Keyring,
    operation::{
        failure::{Failure, FailureClass},
        whose,
    },
    printable::Word,
    signature::{Namespace, SignatureError},
    signed::{self, DocumentError},
    tenant::TenantName,
    vault::Vault,
};

/// What `approve` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ApproveReport {
    /// The plan.
    pub plan: String,
    /// What it would do: `purge`, `release`, `admit`, `keys`.
    pub act: String,
    /// Whose backups or keys it is about; null where it is about everybody's.
    pub tenant: Option<String>,
    /// Who signed.
    pub principal: String,
    /// SHA-256 fingerprint of the key.
    pub fingerprint: String,
    /// Whether the same key had approved before: then nothing was written.
    pub already: bool,
    /// How many persons have signed the plan now.
    pub signatures: u32,
    /// How many must, by this host's configuration.
    pub needed: u32,
}

/// A plan that may be signed, as somebody should see it before.
#[derive(Debug)]
pub struct ToApprove {
    /// The plan.
    pub plan: Plan,
    /// Whose; `None` for everybody's.
    tenant: Option<TenantName>,
    /// What is signed.
    pub bytes: bytes::Bytes,
    /// What it would do, in lines.
    pub lines: Vec<String>,
}

/// Whom an approver believes a plan to be about.
pub enum Whom {
    /// One tenant; and the keyring, which knows its tag.
    Tenant(TenantName, Box<Keyring>),
    /// Everybody.
    All,
}

/// Finds the plan, and compares whom it is about. Writes nothing.
///
/// # Errors
/// Another tenant's; one that has begun, is over, or is too old (4); one that is not to be trusted, or names what is another's (5).
pub async fn look(vault: &Vault, text: &str, whom: Whom, now: DateTime<Utc>) -> Result<ToApprove, Failure> {
    let id = find(vault, text).await?;
    let refuse = |kind, message: String, hint: &str| Err(Failure::new(FailureClass::Refused, kind, id, message).hint(hint));
    // As a record first: its place, its installation, its form.
    let plan = vault.plan(id).await?;
    let (tag, tenant, keyring) = match whom {
        Whom::Tenant(tenant, keyring) => (keyring.tag(&tenant), Some(tenant), Some(keyring)),
        Whom::All => (EVERYBODY, None, None),
    };
    if plan.name_tag != tag {
        let who = tenant.as_ref().map_or("every tenant".to_owned(), |tenant| format!("tenant {}", Word(tenant.as_str())));
        let message = format!("plan {id} is not about {who}");
        return refuse(
            "another-tenant",
            message,
            "Nothing was signed. Ask who made the plan whom it is about, by another way than the plan.",
        );
    }
    let has_ended = plan.act.is_operators() && vault.milestone(id, Reached::Ended).await?.is_some();
    if has_ended || vault.mark(id, Step::Closed).await?.is_some() {
        return refuse("plan-closed", format!("plan {id} is closed"), "Nothing was signed: nothing is left to do by it.");
    }
    if is_begun(vault, &plan).await? {
        return refuse(
            "plan-begun",
            format!("plan {id} has begun"),
            "Nothing was signed: it is finished whether or not more people sign it.",
        );
    }
    refuse_over(vault, &plan, now).await?;
    if let Some(keyring) = keyring {
        whose::refuse_others(vault, &keyring, &plan).await?;
    }
    let bytes = vault.signed_plan(id).await?.bytes;
    if signed::parse::<Plan>(&bytes, &id.to_string())? != plan {
        return refuse(
            "plan-changed",
            format!("plan {id} was changed meanwhile"),
            "Nothing was signed. Look who writes into the vault.",
        );
    }
    let mut lines = vec![format!("plan {id} of {}: {}", super::shown(plan.created_at), words::what(&plan, tenant.as_ref()))];
    lines.extend(words::details(&plan));
    Ok(ToApprove { plan, tenant, bytes, lines })
}

/// Stores a signature of what [`look`] gave, if it counts.
///
/// # Errors
/// One that does not (4); another object in its place (5).
pub async fn put(
    vault: &Vault,
    to: &ToApprove,
    signature: Vec<u8>,
    needed: u32,
    now: DateTime<Utc>,
) -> Result<ApproveReport, Failure> {
    let id = to.plan.id;
    let signer = vault.signers().verify(Namespace::Plan, &to.bytes, &signature, now).map_err(|error| refused(to, error))?;
    let there = vault.approvals(id, &to.bytes, Some(now)).await?;
    let already = there.iter().any(|approval| approval.key == signer.key && approval.signer.is_ok());
    let already = match vault.put_approval(id, signer.key, signature.into()).await {
        Ok(()) => already,
        Err(DocumentError::Exists { object }) => {
            let there = vault.approvals(id, &to.bytes, Some(now)).await?;
            let same = there.into_iter().find(|approval| approval.key == signer.key);
            if let Some(Err(error)) = same.map(|approval| approval.signer) {
                let message = format!("{object} lies where this approval belongs, and is none");
                return Err(Failure::new(FailureClass::Integrity, "bad-approval", object, message)
                    .hint("Nothing was written. Find out who put it there, and move it away; then approve again.")
                    .because(error));
            }
            true
        }
        Err(error) => return Err(error.into()),
    };
    let tally = Tally::of(vault, id, now).await?;
    tally.refuse_bad()?;
    Ok(ApproveReport {
        plan: id.to_string(),
        act: to.plan.act.verb().to_owned(),
        tenant: to.tenant.as_ref().map(|tenant| tenant.as_str().to_owned()),
        principal: signer.principal,
        fingerprint: signer.fingerprint,
        already,
        signatures: tally.have(),
        needed,
    })
}

fn refused(to: &ToApprove, error: SignatureError) -> Failure {
    let id = to.plan.id;
    Failure::new(FailureClass::Refused, "signature-refused", id, format!("this signature of plan {id} does not count"))
        .hint(format!(
            "Nothing was written. Sign the plan's very bytes with an operator's key: `tenure plans show {id} --raw > plan.json`, \
             `ssh-keygen -Y sign -n {} -f KEY plan.json`, and give plan.json.sig by --signature.",
            Namespace::Plan
        ))
        .because(error)
}
