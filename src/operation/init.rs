//! `init`: makes an installation: keys, recovery kit, vault and keyring.
//!
//! The order is such that a crash leaves nothing that is used: local files first, then the keyring's root, then the vault's, and the
//! configuration last. Without a configuration there is no installation, and what lies around may be removed. No file and no object is
//! ever overwritten.

pub mod join;
pub mod kit;
mod new_files;
mod stores;

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

pub use self::stores::Stores;
use self::{
    kit::{Kit, KitStore},
    new_files::NewFiles,
};
use crate::{
    id::InstallationId,
    operation::failure::{Failure, FailureClass},
    retention::Keep,
    seal::{RecoveryIdentity, RecoveryRecipients},
    signature::{Namespace, SigningKey},
};

/// The roles that have a signing key, and what each may sign. See the design's table: a key signs what its role writes and no more.
pub const ROLES: [(&str, &[Namespace]); 5] = [
    ("worker", &[Namespace::Manifest, Namespace::Key, Namespace::Run]),
    ("operator", &[Namespace::Plan, Namespace::Hold, Namespace::Root, Namespace::Key, Namespace::Run]),
    ("eraser", &[Namespace::Erasure, Namespace::Run]),
    ("janitor", &[Namespace::Run]),
    ("restorer", &[Namespace::Run]),
];

/// What is to be made.
pub struct Request {
    /// Where the configuration is to be written. Everything else goes beside it.
    pub config_file: PathBuf,
    /// This host's name, for the principals of its keys.
    pub host: String,
    /// Recovery recipients made elsewhere. When there are none, an identity is made and put into the kit.
    pub recipients: Vec<String>,
    /// No backup may ever be kept longer.
    pub max_keep: Keep,
    /// The stores, as the kit describes them.
    pub stores: Vec<KitStore>,
}

/// Everything that is about to be written, in memory.
pub struct Plan {
    request: Request,
    installation: InstallationId,
    recipients: Vec<String>,
    identity: Option<SecretString>,
    keys: Vec<(&'static str, SigningKey)>,
    signers: String,
}

/// What was made.
#[derive(Debug, Serialize, JsonSchema)]
pub struct InitReport {
    /// Id of the installation, in vault and keyring.
    pub installation: String,
    /// The configuration.
    pub config: String,
    /// The recovery kit. It must leave this host.
    pub recovery_kit: String,
    /// Whether the kit holds an identity that was made now, or names those given.
    pub identity_made: bool,
    /// The recovery recipients.
    pub recipients: Vec<String>,
    /// The signing keys; the public half of each lies beside it as `.pub`.
    pub keys: Vec<String>,
    /// Who may sign what.
    pub allowed_signers: String,
    /// Address of the vault.
    pub vault: String,
    /// Address of the keyring.
    pub keyring: String,
    /// Addresses of its mirrors.
    pub mirrors: Vec<String>,
}

impl Plan {
    /// Checks the request, and makes all keys in memory. Writes nothing.
    ///
    /// # Errors
    /// A file that is in the way, or a recipient that is none.
    pub fn new(request: Request) -> Result<Self, Failure> {
        let plan = Self::prepare(request)?;
        plan.new_files().refuse_existing(&ROLES.map(|(role, _)| role), true)?;
        Ok(plan)
    }

    fn prepare(request: Request) -> Result<Self, Failure> {
        let (identity, recipients) = if request.recipients.is_empty() {
            let (identity, recipient) = RecoveryIdentity::generate();
            (Some(identity), vec![recipient])
        } else {
            (None, request.recipients.clone())
        };
        RecoveryRecipients::parse(&recipients).map_err(|error| {
            Failure::new(FailureClass::Usage, "bad-recipient", "--recipient", "a recovery recipient cannot be used")
                .hint("give the public key of an age identity, `age1…`: `age-keygen -y FILE` prints it")
                .because(error)
        })?;
        let host = principal_part(&request.host);
        let mut keys = Vec::new();
        let mut signers = String::from("# Who may sign what in the vault. OpenSSH's format; every line names its namespaces.\n");
        for (role, namespaces) in ROLES {
            let principal = format!("{role}@{host}");
            let key = SigningKey::generate(&principal);
            signers.push_str(&signer_line(&principal, namespaces, &key)?);
            keys.push((role, key));
        }
        Ok(Self { request, installation: InstallationId::random(), recipients, identity, keys, signers })
    }

    /// The recovery recipients, for the configuration.
    #[must_use]
    pub fn recipients(&self) -> &[String] {
        &self.recipients
    }

    /// Writes everything: local files, stores, and `config` (the text of the configuration) last.
    ///
    /// # Errors
    /// A store that is not empty or does not answer; a file that cannot be written. What this call wrote locally is removed again.
    pub async fn apply(&self, config: &str, stores: &Stores, now: DateTime<Utc>) -> Result<InitReport, Failure> {
        stores.refuse_used().await?;
        let files = self.new_files();
        let written = async {
            self.write_files(&files, now)?;
            let (_, operator) = self.keys.iter().find(|(role, _)| *role == "operator").ok_or_else(|| bug("no operator key"))?;
            stores.write_roots(self.installation, self.request.max_keep, &self.signers, operator).await?;
            files.write(&self.request.config_file, config.as_bytes())
        };
        if let Err(failure) = written.await {
            files.remove_written();
            return Err(failure);
        }
        let show = |path: &Path| path.display().to_string();
        Ok(InitReport {
            installation: self.installation.to_string(),
            config: show(&self.request.config_file),
            recovery_kit: show(&files.kit()),
            identity_made: self.identity.is_some(),
            recipients: self.recipients.clone(),
            keys: self.keys.iter().map(|(role, _)| show(&files.key(role))).collect(),
            allowed_signers: show(&files.allowed_signers()),
            vault: stores.vault.address().to_owned(),
            keyring: stores.keyring.address().to_owned(),
            mirrors: stores.mirrors.iter().map(|mirror| mirror.address().to_owned()).collect(),
        })
    }

    fn new_files(&self) -> NewFiles {
        NewFiles::beside(&self.request.config_file)
    }

    fn write_files(&self, files: &NewFiles, now: DateTime<Utc>) -> Result<(), Failure> {
        let kit = Kit {
            installation: self.installation,
            made_at: now,
            host: self.request.host.clone(),
            stores: self.request.stores.clone(),
            recipients: self.recipients.clone(),
            signers: self.signers.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect(),
        };
        files.make_folders()?;
        files.write(&files.kit(), kit.to_text(self.identity.as_ref()).expose_secret().as_bytes())?;
        for (role, key) in &self.keys {
            files.write_key(role, key)?;
        }
        files.write(&files.allowed_signers(), self.signers.as_bytes())
    }
}

/// One line of `allowed_signers`.
pub(crate) fn signer_line(principal: &str, namespaces: &[Namespace], key: &SigningKey) -> Result<String, Failure> {
    let public = key.public_openssh().map_err(|error| bug("a signing key cannot be encoded").because(error))?;
    let names: Vec<&str> = namespaces.iter().map(|namespace| namespace.as_str()).collect();
    Ok(format!("{principal} namespaces=\"{}\" {public}\n", names.join(",")))
}

/// A host's name as part of a principal: nothing that OpenSSH would take for a pattern or a separator.
pub(crate) fn principal_part(host: &str) -> String {
    let kept: String =
        host.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') { c } else { '-' }).take(64).collect();
    if kept.is_empty() { "host".to_owned() } else { kept }
}

fn bug(what: &str) -> Failure {
    Failure::new(FailureClass::Failed, "internal", "init", what).hint("this is a fault of tenure: please report it")
}
