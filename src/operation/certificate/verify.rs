//! `certificate verify`: the signatures, and everything that can be looked at once more.

mod again;

use std::{io::BufRead as _, path::PathBuf};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use super::{find, lacks_its_end};
use crate::{
    format::{
        certificate::{Certificate, Stage},
        inventory::{InventoryFile, InventoryLine},
        plan::Step,
    },
    id::{RecordId, Sha256Digest},
    keyring::Keyring,
    object_name::prefix,
    operation::{
        drop::Server,
        failure::{Failure, FailureClass},
    },
    printable::Printable,
    signature::Namespace,
    signed::{self, DocumentError},
    vault::{Vault, records::Record as _},
};

/// What `certificate verify` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CertificateVerifyReport {
    /// The certificate.
    pub id: String,
    /// The document that was looked at: the newest, or the file that was given.
    pub document: String,
    /// Its stage.
    pub stage: Stage,
    /// Everything that was looked at.
    pub checks: Vec<Check>,
}

/// Something that was looked at.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Check {
    /// `signature`, `chain`, `plan`, `inventory`, `tombstone`, `withdrawal`, `keys`, `backups`, `live`, `copy`.
    pub what: &'static str,
    /// The object, the store or the server.
    pub object: String,
    /// What was found.
    pub outcome: Outcome,
    /// Why, where it does not hold or was not tested.
    pub why: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is as the certificate says.
    Holds,
    /// It is not.
    DoesNotHold,
    /// It could not be looked at, or there is nothing yet to look at.
    NotTested,
}

/// A document in a file, with its signature beside it.
pub struct Given {
    /// The file.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Bytes,
    /// Those of its signature.
    pub signature: Bytes,
}

/// What it works with.
pub struct VerifyCertificate<'a> {
    /// Where certificates and backups are.
    pub vault: &'a Vault,
    /// Where the keys were.
    pub keyring: &'a Keyring,
    /// Where the databases were.
    pub servers: &'a [Server],
    /// The host's time.
    pub now: DateTime<Utc>,
}

impl VerifyCertificate<'_> {
    /// Looks at a certificate of the vault, by its id or a beginning of it.
    ///
    /// # Errors
    /// None of that name (1), several (2); no document that can be read (5); a vault that cannot be reached.
    pub async fn by_id(&self, text: &str) -> Result<CertificateVerifyReport, Failure> {
        let id = find(self.vault, text).await?;
        let (mut checks, newest) = self.documents(id).await?;
        let Some(newest) = newest else {
            let what = checks.into_iter().find_map(|check| check.why).unwrap_or_default();
            let message = format!("no document of certificate {id} can be trusted: {what}");
            return Err(Failure::new(FailureClass::Integrity, "untrusted-certificate", id, message)
                .hint("Somebody changed it: put it back from a copy of the vault, or from an export."));
        };
        self.repeat(&newest, None, &mut checks).await?;
        let document = signed::locate(self.vault.store(), &newest.document());
        Ok(CertificateVerifyReport { id: id.to_string(), document, stage: newest.stage, checks })
    }

    /// Looks at a document in a file.
    ///
    /// # Errors
    /// One that is not signed by an eraser of this vault, or not a certificate (5); a vault that cannot be reached.
    pub async fn given(&self, given: &Given) -> Result<CertificateVerifyReport, Failure> {
        let file = given.path.display().to_string();
        let refused = |error: DocumentError| {
            Failure::from(error).hint("It is not what an eraser of this vault signed: believe nothing of it.")
        };
        let signer = self
            .vault
            .signers()
            .verify(Namespace::Erasure, &given.bytes, &given.signature, self.now)
            .map_err(|source| refused(DocumentError::Signature { object: file.clone(), source }))?;
        let certificate: Certificate = signed::parse(&given.bytes, &file).map_err(refused)?;
        if !certificate.belongs(self.vault) {
            let what = "it is a certificate of another installation".to_owned();
            return Err(refused(DocumentError::Contradiction { object: file, what }));
        }
        let mut checks = vec![holds("signature", format!("{file}, signed by {}", Printable(&signer.principal)))];
        let (in_vault, newest) = self.documents(certificate.id).await?;
        checks.extend(in_vault);
        let sha256 = Sha256Digest::of(&given.bytes);
        checks.push(match self.vault.signed_certificate(&certificate).await {
            Ok(whole) if Sha256Digest::of(&whole.bytes) == sha256 => {
                let newer = newest.filter(|newest| newest.sequence > certificate.sequence);
                match newer {
                    None => holds("chain", file.clone()),
                    Some(newer) => not_tested("chain", file.clone(), format!("the vault has a newer document: {}", newer.file())),
                }
            }
            Ok(_) => does_not("chain", file.clone(), "the vault has another document under its name".to_owned()),
            Err(DocumentError::Missing { .. }) => does_not("chain", file.clone(), "the vault does not have it".to_owned()),
            Err(error) => not_tested("chain", file.clone(), error.what()),
        });
        self.repeat(&certificate, Some(given), &mut checks).await?;
        Ok(CertificateVerifyReport { id: certificate.id.to_string(), document: file, stage: certificate.stage, checks })
    }

    /// Every document in the vault, and the newest that can be trusted.
    async fn documents(&self, id: RecordId) -> Result<(Vec<Check>, Option<Certificate>), Failure> {
        let certified = self.vault.certified(id).await?;
        let mut checks: Vec<Check> = certified
            .documents
            .iter()
            .map(|signed| {
                let object = signed::locate(self.vault.store(), &signed.value.document());
                holds("signature", format!("{object}, signed by {}", Printable(&signed.signer.principal)))
            })
            .collect();
        checks.extend(certified.problems.iter().map(|problem| {
            let what = if matches!(problem, DocumentError::Contradiction { .. }) { "chain" } else { "signature" };
            does_not(what, problem.object().to_owned(), problem.what())
        }));
        Ok((checks, certified.documents.into_iter().next_back().map(|signed| signed.value)))
    }

    async fn repeat(&self, certificate: &Certificate, given: Option<&Given>, checks: &mut Vec<Check>) -> Result<(), Failure> {
        checks.push(self.plan(certificate, given.is_none()).await);
        self.inventory(certificate, given, checks).await?;
        match certificate.stage {
            Stage::Withdrawn => self.withdrawal(certificate, checks).await,
            _ => self.tombstone(certificate, checks).await,
        }
        self.keys(certificate, checks).await;
        self.backups(certificate, checks).await;
        for database in &certificate.live.databases {
            self.live(certificate, database, checks).await;
        }
        for copy in &certificate.copies {
            checks.push(self.copy(copy).await);
        }
        Ok(())
    }

    /// The plan that it names, and whether that one has come further than the certificate says: then documents are missing at its end.
    async fn plan(&self, certificate: &Certificate, is_newest: bool) -> Check {
        let object = format!("plan {}", certificate.id);
        let signed = match self.vault.signed_plan(certificate.id).await {
            Ok(signed) => signed,
            Err(error @ DocumentError::Store { .. }) => return not_tested("plan", object, error.what()),
            Err(error) => return does_not("plan", object, error.what()),
        };
        if Sha256Digest::of(&signed.bytes) != certificate.request.plan_sha256 {
            return does_not("plan", object, "it is not the plan that the certificate names".to_owned());
        }
        if is_newest && !matches!(certificate.stage, Stage::Closed | Stage::Withdrawn) {
            match lacks_its_end(self.vault, certificate.id, Some(certificate.stage)).await {
                Ok(true) => {
                    let what = "it is closed, and the certificate's last document is not there".to_owned();
                    return does_not("plan", object, what);
                }
                Ok(false) => {}
                Err(error) => return does_not("plan", object, error.what()),
            }
            if let Ok(Some(void)) = self.vault.mark(certificate.id, Step::Closed).await.map(|mark| mark?.found.void) {
                return not_tested("plan", object, format!("it was given up: {void}"));
            }
        }
        holds("plan", object)
    }

    async fn inventory(&self, certificate: &Certificate, given: Option<&Given>, checks: &mut Vec<Check>) -> Result<(), Failure> {
        let Some(inventory) = &certificate.backups.inventory else {
            let what = match certificate.stage {
                Stage::Closed => "the document that named it was lost",
                _ => "there is none yet: nothing was removed",
            };
            checks.push(not_tested("inventory", "the inventory".to_owned(), what.to_owned()));
            return Ok(());
        };
        let (mut objects, mut bytes) = (0, 0);
        for file in &inventory.files {
            let (object, read) = self.file(certificate, file, given).await;
            match read.map(|read| totals(&read)) {
                Ok(Some(found)) => {
                    objects += found.0;
                    bytes += found.1;
                    checks.push(holds("inventory", object));
                }
                Ok(None) => checks.push(does_not("inventory", object, "its lines are not those of an inventory".to_owned())),
                Err((true, why)) => checks.push(does_not("inventory", object, why)),
                Err((false, why)) => checks.push(not_tested("inventory", object, why)),
            }
        }
        let is_whole = checks.iter().filter(|check| check.what == "inventory").all(|check| check.outcome == Outcome::Holds);
        if is_whole && (objects, bytes) != (inventory.objects, inventory.bytes) {
            let what =
                format!("it lists {objects} objects with {bytes} bytes, not {} with {}", inventory.objects, inventory.bytes);
            checks.push(does_not("inventory", "the inventory".to_owned(), what));
        }
        Ok(())
    }

    /// A file of the inventory, beside the document or in the vault; or whether it is wrong, and why.
    async fn file(
        &self,
        certificate: &Certificate,
        file: &InventoryFile,
        given: Option<&Given>,
    ) -> (String, Result<Bytes, (bool, String)>) {
        let beside = given.and_then(|given| Some(given.path.parent()?.join(&file.name))).filter(|path| path.exists());
        match beside {
            Some(path) => {
                let read = match std::fs::read(&path) {
                    Ok(read) if Sha256Digest::of(&read) == file.sha256 => Ok(Bytes::from(read)),
                    Ok(_) => Err((true, "its SHA-256 is not what the certificate says".to_owned())),
                    Err(error) => Err((false, error.to_string())),
                };
                (path.display().to_string(), read)
            }
            None => {
                let object = format!("{}/{}{}", self.vault.store().address(), prefix::certificate(certificate.id), file.name);
                let read = self.vault.inventory(certificate.id, file).await;
                (object, read.map_err(|error| (error.is_integrity(), error.to_string())))
            }
        }
    }
}

/// How many objects with how many bytes the lines of an inventory name; `None` where they are no such lines.
fn totals(bytes: &[u8]) -> Option<(u64, u64)> {
    let (mut objects, mut sum) = (0, 0);
    for line in bytes.lines() {
        let line: InventoryLine = serde_json::from_str(&line.ok()?).ok()?;
        objects += 1;
        sum += line.size;
    }
    Some((objects, sum))
}

fn holds(what: &'static str, object: String) -> Check {
    Check { what, object, outcome: Outcome::Holds, why: None }
}

fn does_not(what: &'static str, object: String, why: String) -> Check {
    Check { what, object, outcome: Outcome::DoesNotHold, why: Some(why) }
}

fn not_tested(what: &'static str, object: String, why: String) -> Check {
    Check { what, object, outcome: Outcome::NotTested, why: Some(why) }
}
