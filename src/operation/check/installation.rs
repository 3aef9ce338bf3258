//! Vault and keyring as one installation: verified roots, signers, keys, recipients.

use std::{collections::BTreeSet, path::Path};

use chrono::{DateTime, Utc};

use super::{Report, Request};
use crate::{
    id::Sha256Digest,
    keyring::Keyring,
    operation::{
        erased::{Erasures, lacking},
        failure::{Failure, FailureClass},
        fleet::Known,
        lost, mirrors,
    },
    seal::RecoveryRecipients,
    signature::{AllowedSigners, Namespace, SigningKey},
    tenant::TenantName,
    vault::Vault,
};

/// What the rest of the check needs of it; empty where it could not be read.
#[derive(Default)]
pub(super) struct Installation {
    /// Tenants and their places.
    pub known: Known,
    /// The keyring, with its mirrors.
    pub keyring: Option<Keyring>,
    /// The vault, where the keyring could be read too.
    pub vault: Option<Vault>,
}

impl Installation {
    /// Until when nothing of an erased tenant is destroyed.
    pub fn grace_until(&self, tenant: &TenantName) -> Option<DateTime<Utc>> {
        self.known.erased.get(&self.keyring.as_ref()?.tag(tenant))?.grace_until()
    }

    /// Whether the name answers to a tombstone.
    pub fn is_erased(&self, tenant: &TenantName) -> bool {
        self.keyring.as_ref().is_some_and(|keyring| self.known.erased.get(&keyring.tag(tenant)).is_some_and(Erasures::is_refused))
    }
}

pub(super) async fn check(request: &Request) -> (Installation, Report) {
    let mut report = Report::default();
    recipients(request, &mut report);
    let mut installation = Installation::default();
    let Some(trust) = trusted(&request.allowed_signers, &mut report) else { return (installation, report) };
    // That a store could not be opened is said with the store.
    let Ok(store) = &request.vault.store else { return (installation, report) };
    let object = format!("vault {}", request.vault.url);
    let vault = match Vault::open(store.clone(), &trust).await {
        Ok(vault) => vault,
        Err(error) => {
            report.failure(&object, &error.into());
            return (installation, report);
        }
    };
    let root = vault.root();
    report.ok(&object, format!("verified, installation {}", root.installation));
    let too_long = request.keeps.iter().find(|keep| keep.expiry(request.now) > root.max_keep.expiry(request.now));
    if let Some(keep) = too_long {
        report.error(
            &object,
            format!("a policy keeps backups for {keep}, and this vault allows {} at most", root.max_keep),
            "Shorten `keep`: the vault's limit was set by `tenure init --max-keep` and stands in its signed root.",
        );
    }
    worker(request, &vault, &mut report);
    approvals(request, &vault, &mut report);

    let Ok(store) = &request.keyring.store else { return (installation, report) };
    let object = format!("keyring {}", request.keyring.url);
    let mirrors = request.mirrors.iter().filter_map(|mirror| mirror.store.as_ref().ok().cloned()).collect();
    let keyring = match Keyring::open(store.clone(), mirrors, root, vault.signers().clone()).await {
        Ok(keyring) => keyring,
        Err(error) => {
            report.failure(&object, &error.into());
            return (installation, report);
        }
    };
    match read(&object, &vault, keyring, &mut report).await {
        Ok(read) => installation = Installation { vault: Some(vault), ..read },
        Err(failure) => report.failure(&object, &failure),
    }
    (installation, report)
}

async fn read(object: &str, vault: &Vault, keyring: Keyring, report: &mut Report) -> Result<Installation, Failure> {
    let known = Known::read(vault, &keyring).await?;
    match mirrors::look(vault, &keyring, &known.dead).await {
        // That one cannot be reached is said with the store.
        Ok(wrong) => wrong
            .iter()
            .filter(|(_, failure)| failure.class == FailureClass::Integrity)
            .for_each(|(mirror, failure)| report.failure(&format!("mirror {mirror}"), failure)),
        Err(failure) => report.failure(object, &failure),
    }
    for problem in &known.census.problems {
        report.error(problem.object(), problem.to_string(), "See `tenure keys check`.");
    }
    for returned in &known.returned {
        report.error(
            object,
            returned.said.clone(),
            "A purge was stopped, or somebody put an old copy back: find out who. What was backed up since is not touched by that command.",
        );
    }
    for (tenant, error) in known.untrusted() {
        report.error(
            format!("tenant {tenant}"),
            error.to_string(),
            "`tenure verify` says what is wrong; put it back from a copy of the vault. No new tenant is taken in until then.",
        );
    }
    if let Some(lost) = lost::lost(vault, &keyring, &known.census, ": no new tenant is taken in").await? {
        report.failure(object, &lost);
    }
    let mut lost = Vec::new();
    for (tenant, keys) in &known.census.tenants {
        if !keys.without_secret.is_empty() {
            lost.push(tenant.to_string());
        }
    }
    if lost.is_empty() {
        report.ok(object, format!("verified, keys of {} tenants", known.census.tenants.len()));
    } else {
        report.error(
            object,
            format!("key records without their secret half, so what they sealed cannot be opened: {}", lost.join(", ")),
            "`tenure keys repair` puts them back from a mirror; `tenure keys check` says which stores have them whole.",
        );
    }
    let survey = lacking::survey(vault, &keyring).await?;
    for (object, why) in &survey.doubtful {
        report.error(
            object,
            format!("a tombstone, or what may be one: {why}"),
            "Its tenant is refused by every command, and nobody new is taken in. Find out who changed it; put it back from the other store.",
        );
    }
    for lacking in &survey.lacking {
        report.error(lacking.object(), lacking.problem(), "`tenure reconcile` puts it back from there.");
    }
    Ok(Installation { known, keyring: Some(keyring), vault: None })
}

fn trusted(path: &Path, report: &mut Report) -> Option<AllowedSigners> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string());
    match text.and_then(|text| AllowedSigners::parse(&text).map_err(|error| error.to_string())) {
        Ok(trust) => Some(trust),
        Err(why) => {
            report.error(
                "allowed_signers",
                format!("{} cannot be used: {why}", path.display()),
                "`tenure init` writes it; on another host copy it from the first.",
            );
            None
        }
    }
}

fn recipients(request: &Request, report: &mut Report) {
    let object = "recovery recipients";
    match RecoveryRecipients::parse(&request.recipients) {
        Err(error) => {
            report.error(object, format!("a recovery recipient cannot be used: {error}"), "Correct [keyring] recipients.");
        }
        Ok(_) if request.recipients.len() < 2 => report.warning(
            object,
            "there is one: if its identity is lost, so is every backup",
            "Add a second recipient to [keyring] recipients, whose identity lies in another safe.",
        ),
        Ok(_) => report.ok(object, format!("{} can each open every key", request.recipients.len())),
    }
}

/// Plans that can never begin, because fewer persons may sign than must.
fn approvals(request: &Request, vault: &Vault, report: &mut Report) {
    let may: BTreeSet<Sha256Digest> =
        vault.signers().who_may(Namespace::Plan, request.now).into_iter().map(|signer| signer.key).collect();
    let persons = vault.signers().persons().into_iter().filter(|person| !person.keys.is_disjoint(&may)).count();
    for (verb, needed) in request.approvals.iter().filter(|(_, needed)| usize::try_from(**needed).unwrap_or(usize::MAX) > persons)
    {
        report.warning(
            format!("approvals.{verb}"),
            format!("{needed} operators must sign, and {persons} may: no such plan can begin"),
            "An operator adds others to the vault's signers, with namespaces=\"tenure-plan\": a name and a key of their own for each.",
        );
    }
}

/// Signs something with the worker's key, and asks the vault's own list whether it counts.
fn worker(request: &Request, vault: &Vault, report: &mut Report) {
    let Some((role, path)) = request.signing_keys.iter().find(|(role, _)| *role == "worker") else {
        report.error("signing key of the worker", "none is configured", "Set [signing] worker: backups are signed with it.");
        return;
    };
    let object = format!("signing key of the {role}");
    // That it is missing is said with this host.
    let Ok(file) = std::fs::read(path).map(zeroize::Zeroizing::new) else { return };
    let document = b"tenure check";
    let signed = SigningKey::parse(&file).and_then(|key| key.sign(Namespace::Manifest, document));
    match signed {
        Err(error) => report.error(
            object,
            format!("{} cannot sign: {error}", path.display()),
            "It must be an Ed25519 key without a passphrase.",
        ),
        Ok(signature) => match vault.signers().verify(Namespace::Manifest, document, signature.as_bytes(), request.now) {
            Ok(_) => report.ok(object, "may sign manifests"),
            Err(error) => report.error(
                object,
                format!("{} may not sign manifests in this vault: {error}", path.display()),
                "An operator adds it to the vault's signers.",
            ),
        },
    }
}
