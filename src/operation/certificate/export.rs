//! `certificate export`: everything that somebody else needs to check a certificate with `ssh-keygen` and `sha256sum` alone.

use std::{fs::OpenOptions, io::Write as _, path::Path};

use schemars::JsonSchema;
use serde::Serialize;

use super::{certified, find, no_such};
use crate::{
    operation::failure::{Failure, FailureClass},
    vault::Vault,
};

/// The list of signers, as `ssh-keygen -Y verify -f` reads it.
const SIGNERS: &str = "allowed_signers";

/// What `certificate export` says.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ExportReport {
    /// The certificate.
    pub id: String,
    /// Where it was written.
    pub folder: String,
    /// The newest document.
    pub newest: String,
    /// Who signed it, as `ssh-keygen -I` takes it.
    pub principal: String,
    /// Every file that was written.
    pub files: Vec<String>,
}

/// Writes every document with its signature, the inventory, and the list of signers into a folder. Nothing is written over.
///
/// # Errors
/// As [`super::show`]; a file that is there already or cannot be written (1); an inventory that is not what the certificate says (5).
pub async fn export(vault: &Vault, text: &str, folder: &Path) -> Result<ExportReport, Failure> {
    let id = find(vault, text).await?;
    let certified = certified(vault, id).await?;
    let newest = certified.newest().ok_or_else(|| no_such(vault, text))?;
    let mut files = vec![(SIGNERS.to_owned(), vault.signers_text().await?)];
    for document in &certified.documents {
        let (file, whole) = (document.value.file(), vault.signed_certificate(&document.value).await?);
        files.push((format!("{file}.sig"), whole.signature));
        files.push((file, whole.bytes));
    }
    for file in newest.value.backups.inventory.iter().flat_map(|inventory| &inventory.files) {
        files.push((file.name.clone(), vault.inventory(id, file).await?));
    }
    std::fs::create_dir_all(folder).map_err(|error| cannot(folder, error))?;
    for (name, bytes) in &files {
        let path = folder.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(|error| cannot(&path, error))?;
        file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| cannot(&path, error))?;
    }
    Ok(ExportReport {
        id: id.to_string(),
        folder: folder.display().to_string(),
        newest: newest.value.file(),
        principal: newest.signer.principal.clone(),
        files: files.into_iter().map(|(name, _)| name).collect(),
    })
}

fn cannot(path: &Path, error: std::io::Error) -> Failure {
    let message = format!("cannot write {}", path.display());
    Failure::new(FailureClass::Failed, "cannot-write", path.display(), message)
        .hint("Name a folder that is not there yet, or is empty: nothing is written over.")
        .because(error)
}
