//! `init --join`: another host for an installation that is there. It gets keys of its own; an operator says that they count.

use std::{path::PathBuf, sync::Arc};

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Stores, bug, kit::Kit, new_files::NewFiles, principal_part, signer_line};
use crate::{
    keyring::Keyring,
    object_name::{Document, ObjectName, prefix},
    operation::failure::{Failure, FailureClass},
    signature::{AllowedSigners, Namespace, SigningKey},
    signed,
    store::Store,
    vault::Vault,
};

/// Keys of a host that backs up and restores.
const ROLES: [&str; 2] = ["worker", "restorer"];

/// What is to be joined, and as what.
pub struct Join {
    /// Where the configuration is to be written. Everything else goes beside it.
    pub config_file: PathBuf,
    /// The installation's recovery kit: the trust begins with the operators that it names.
    pub kit: Kit,
    /// This host's name.
    pub host: String,
    /// An operator's key, where it is at hand; then the new keys count at once.
    pub operator: Option<SigningKey>,
}

/// What was made.
#[derive(Debug, Serialize, JsonSchema)]
pub struct JoinReport {
    /// Id of the installation.
    pub installation: String,
    /// The configuration.
    pub config: String,
    /// The new keys; the public half of each lies beside it as `.pub`.
    pub keys: Vec<String>,
    /// Who may sign what.
    pub allowed_signers: String,
    /// Address of the vault.
    pub vault: String,
    /// Address of the keyring.
    pub keyring: String,
    /// The object that says that the new keys count.
    pub signers: String,
    /// Whether it was signed and stored. If not, `signers_file` waits for an operator.
    pub signed: bool,
    /// What an operator is to sign and store.
    pub signers_file: Option<String>,
}

impl Join {
    /// Refuses when a file is in the way. Asks nobody.
    ///
    /// # Errors
    /// The file that is in the way.
    pub fn refuse_existing(&self) -> Result<(), Failure> {
        NewFiles::beside(&self.config_file).refuse_existing(&ROLES, false)
    }

    /// Verifies the installation, makes keys, and writes them; `config` (the text of the configuration) last.
    ///
    /// # Errors
    /// Stores that are not those of the kit, a key that is no operator's of this installation, or a file that cannot be written. What
    /// this call wrote locally is removed again.
    pub async fn apply(&self, config: &str, stores: &Stores, now: DateTime<Utc>) -> Result<JoinReport, Failure> {
        let trust = AllowedSigners::parse(&self.kit.signers.join("\n")).map_err(|error| {
            Failure::new(FailureClass::Usage, "bad-kit", "--kit", "the recovery kit's signers cannot be used").because(error)
        })?;
        // Signers that another key signed would be believed by nobody, and stop every host.
        if let Some(Err(error)) = self.operator.as_ref().map(|operator| trust.check(operator, Namespace::Root, now)) {
            let message = "the key given with --operator is not an operator's key of this installation";
            return Err(Failure::new(FailureClass::Refused, "key-not-allowed", "--operator", message)
                .hint("Nothing was made. The recovery kit names the operators' public keys; give one of theirs, or leave --operator out.")
                .because(error));
        }
        let vault = Vault::open(Arc::clone(&stores.vault), &trust).await?;
        if vault.root().installation != self.kit.installation {
            let (found, expected) = (vault.root().installation, self.kit.installation);
            let message = format!("{} holds installation {found}, and the kit is of {expected}", stores.vault.address());
            return Err(Failure::new(FailureClass::Integrity, "foreign-vault", stores.vault.address(), message)
                .hint("this kit is another installation's; nothing was made"));
        }
        Keyring::open(Arc::clone(&stores.keyring), stores.mirrors.clone(), vault.root(), vault.signers().clone()).await?;

        let next = newest(&*stores.vault).await? + 1;
        let mut signers = vault.signers().text().trim_end().to_owned() + "\n";
        let mut keys = Vec::new();
        for role in ROLES {
            let principal = free_principal(&signers, &format!("{role}@{}", principal_part(&self.host)));
            let key = SigningKey::generate(&principal);
            signers.push_str(&signer_line(&principal, namespaces(role), &key)?);
            keys.push((role, key));
        }

        let files = NewFiles::beside(&self.config_file);
        let waiting = files.beside_config(&format!("signers-{next}"));
        let written = async {
            files.make_folders()?;
            for (role, key) in &keys {
                files.write_key(role, key)?;
            }
            files.write(&files.allowed_signers(), vault.signers().text().as_bytes())?;
            match &self.operator {
                Some(operator) => {
                    let bytes = bytes::Bytes::copy_from_slice(signers.as_bytes());
                    signed::create_bytes(&*stores.vault, &Document::Signers(next), bytes, Namespace::Root, operator).await?;
                }
                None => files.write(&waiting, signers.as_bytes())?,
            }
            files.write(&self.config_file, config.as_bytes())
        };
        if let Err(failure) = written.await {
            files.remove_written();
            return Err(failure);
        }
        Ok(JoinReport {
            installation: self.kit.installation.to_string(),
            config: self.config_file.display().to_string(),
            keys: ROLES.iter().map(|role| files.key(role).display().to_string()).collect(),
            allowed_signers: files.allowed_signers().display().to_string(),
            vault: stores.vault.address().to_owned(),
            keyring: stores.keyring.address().to_owned(),
            signers: signed::locate(&*stores.vault, &Document::Signers(next)),
            signed: self.operator.is_some(),
            signers_file: self.operator.is_none().then(|| waiting.display().to_string()),
        })
    }
}

fn namespaces(role: &str) -> &'static [Namespace] {
    super::ROLES.iter().find(|(name, _)| *name == role).map_or(&[], |(_, namespaces)| namespaces)
}

/// A principal names one key: a host that joins again, or one of the same name, gets a number.
fn free_principal(signers: &str, wanted: &str) -> String {
    let taken = |principal: &str| signers.lines().any(|line| line.split_whitespace().next() == Some(principal));
    let numbered = (2..).map(|n| format!("{wanted}-{n}"));
    std::iter::once(wanted.to_owned()).chain(numbered).find(|principal| !taken(principal)).unwrap_or_default()
}

async fn newest(vault: &dyn Store) -> Result<u32, Failure> {
    let mut newest = None;
    let mut listing = vault.list(prefix::SIGNERS);
    while let Some(listed) = listing.try_next().await? {
        if let Ok(ObjectName::Document(Document::Signers(n))) = listed.name.parse() {
            newest = newest.max(Some(n));
        }
    }
    newest.ok_or_else(|| bug("the vault's signers disappeared while they were read"))
}

#[cfg(test)]
mod tests {
    use super::free_principal;

    #[test]
    fn each_key_has_a_principal_of_its_own() {
        let signers = "worker@db1 x\nworker@db1-2 x\n";
        assert_eq!(free_principal(signers, "worker@db2"), "worker@db2");
        assert_eq!(free_principal(signers, "worker@db1"), "worker@db1-3");
    }
}
