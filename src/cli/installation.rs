//! The configured vault and keyring, opened and verified.

use std::{path::Path, sync::Arc};

use super::{edge::Edge, stores};
use crate::{
    config::{Config, store::Role},
    keyring::Keyring,
    operation::{
        failure::{Failure, FailureClass},
        lost,
    },
    retention::Keep,
    seal::{RecoveryIdentity, RecoveryRecipients},
    signature::{AllowedSigners, SigningKey},
    store::Store,
    tenant::TenantName,
    vault::Vault,
};

/// The configured vault and keyring.
pub struct Installation {
    /// The configuration.
    pub config: Config,
    /// Where backups are.
    pub vault: Vault,
    /// Where keys are.
    pub keyring: Keyring,
}

impl Installation {
    /// Opens both with a role's credentials.
    ///
    /// # Errors
    /// A configuration that is wrong, stores that are not reached, or not those of one installation.
    pub async fn open(edge: &Edge, role: Role) -> Result<Self, Failure> {
        let (config, vault, keyring, mirrors) = open_vault(edge, role).await?;
        let keyring = Keyring::open(keyring, mirrors, vault.root(), vault.signers().clone()).await?;
        Ok(Self { config, vault, keyring })
    }

    /// What the keyring lost of other tenants. In a document it stands among `problems`; people read it on standard error, where
    /// [`Output::remark`](super::output::Output::remark) says it.
    ///
    /// # Errors
    /// A store that is not reached.
    pub async fn lost_keys(&self, edge: &Edge, problems: &mut Vec<String>) -> Result<Option<Failure>, Failure> {
        let lost = lost::old_copy(&self.vault, &self.keyring).await?;
        if edge.output.is_json() {
            problems.extend(lost.iter().map(|lost| format!("{} ({})", lost.message, lost.hint)));
        }
        Ok(lost)
    }

    /// The tenant's database by the configured rule, where a pattern is the rule.
    ///
    /// # Errors
    /// A store that is not reached.
    pub async fn database_of(&self, tenant: &TenantName) -> Result<Option<String>, Failure> {
        let mut patterns: Vec<&str> = self.config.cluster.values().map(|c| c.databases.as_deref().unwrap_or_default()).collect();
        patterns.sort_unstable();
        patterns.dedup();
        let pattern = match patterns[..] {
            [one] => one,
            _ => {
                // Clusters differ: the source record says which one it is.
                let Some(keys) = self.keyring.keys(tenant).await? else { return Ok(None) };
                let Some(record) = keys.sealing() else { return Ok(None) };
                let source = self.vault.sources(record.locker).await?.current;
                source.and_then(|source| self.config.cluster.get(&source.cluster)?.databases.as_deref()).unwrap_or_default()
            }
        };
        Ok((!pattern.is_empty()).then(|| pattern.replace("{tenant}", tenant.as_str())))
    }
}

/// The configuration, the vault, verified, and the stores of keyring and mirrors, in which nothing was looked at yet.
///
/// # Errors
/// As [`Installation::open`], but for what is wrong with the keyring.
pub async fn open_vault(edge: &Edge, role: Role) -> Result<(Config, Vault, Arc<dyn Store>, Vec<Arc<dyn Store>>), Failure> {
    let config = edge.config()?;
    let signers = read_signers(&config)?;
    let (vault, keyring, mirrors) = open_stores(&config, role).await?;
    let vault = Vault::open(vault, &signers).await?;
    refuse_longer_than(vault.root().max_keep, &config, edge)?;
    Ok((config, vault, keyring, mirrors))
}

/// Opens vault, keyring and mirrors, and looks at nothing in them.
///
/// # Errors
/// Vault or keyring are not there or not reached. A mirror that is not fails when something is asked of it.
pub async fn open_stores(config: &Config, role: Role) -> Result<(Arc<dyn Store>, Arc<dyn Store>, Vec<Arc<dyn Store>>), Failure> {
    let vault = stores::open_vault(config, role).await?;
    let keyring = stores::open_keyring(&config.keyring.opening(role), &config.folder).await?;
    let mut mirrors = Vec::new();
    for mirror in &config.keyring.mirrors {
        mirrors.push(stores::open_if_there(&mirror.opening(role), &config.folder).await);
    }
    Ok((vault, keyring, mirrors))
}

/// The keyring and its mirrors with the eraser's credentials, which may remove. One that is not there fails when something is asked of it.
pub async fn open_removers(config: &Config) -> Vec<Arc<dyn Store>> {
    let mut removers = vec![stores::open_if_there(&config.keyring.opening(Role::Eraser), &config.folder).await];
    for mirror in &config.keyring.mirrors {
        removers.push(stores::open_if_there(&mirror.opening(Role::Eraser), &config.folder).await);
    }
    removers
}

/// The configured recovery recipients.
///
/// # Errors
/// One that cannot be used.
pub fn read_recipients(config: &Config) -> Result<RecoveryRecipients, Failure> {
    RecoveryRecipients::parse(&config.keyring.recipients).map_err(|error| {
        Failure::new(FailureClass::Usage, "configuration", "keyring.recipients", "a recovery recipient cannot be used")
            .hint("give the public key of an age identity, `age1…`: `age-keygen -y FILE` prints it")
            .because(error)
    })
}

fn refuse_longer_than(max_keep: Keep, config: &Config, edge: &Edge) -> Result<(), Failure> {
    let now = edge.now();
    match config.policy.iter().find(|policy| policy.keep.expiry(now) > max_keep.expiry(now)) {
        Some(policy) => Err(Failure::new(
            FailureClass::Usage,
            "configuration",
            "policy.keep",
            format!("a policy keeps backups for {}, and this vault allows {max_keep} at most", policy.keep),
        )
        .hint("shorten `keep`; the vault's limit was set by `tenure init --max-keep` and stands in its signed root")),
        None => Ok(()),
    }
}

/// Reads this host's `allowed_signers`.
///
/// # Errors
/// A file that is not there or has another form.
pub fn read_signers(config: &Config) -> Result<AllowedSigners, Failure> {
    let path = config.path(&config.signing.allowed_signers);
    let text = read(&path, "signing.allowed_signers", "`tenure init` writes it; on another host copy it from the first")?;
    AllowedSigners::parse(&String::from_utf8_lossy(&text)).map_err(|error| {
        Failure::new(FailureClass::Usage, "configuration", path.display(), format!("{} cannot be used", path.display()))
            .hint("it has the form that `man ssh-keygen` describes, with namespaces=\"…\" on every line")
            .because(error)
    })
}

/// Reads a role's signing key.
///
/// # Errors
/// None configured, or a file that is not there or holds none.
pub fn read_signing_key(config: &Config, role: &'static str) -> Result<SigningKey, Failure> {
    let signing = &config.signing;
    let path = match role {
        "worker" => &signing.worker,
        "operator" => &signing.operator,
        "eraser" => &signing.eraser,
        "janitor" => &signing.janitor,
        _ => &signing.restorer,
    };
    let key = format!("signing.{role}");
    let Some(path) = path else {
        return Err(Failure::new(FailureClass::Usage, "configuration", &key, format!("the configuration has no `{key}`"))
            .hint(format!("add `{role} = \"keys/{role}\"` below [signing]: this command signs what it writes")));
    };
    let path = config.path(path);
    let file = zeroize::Zeroizing::new(read(
        &path,
        &key,
        &format!("{key} names it: the key belongs on the host that signs with it; `tenure init` made it"),
    )?);
    SigningKey::parse(&file).map_err(|error| {
        Failure::new(FailureClass::Usage, "configuration", &key, format!("{} is no key to sign with", path.display()))
            .hint("it must be an Ed25519 key without a passphrase: `ssh-keygen -t ed25519 -N '' -f FILE`")
            .because(error)
    })
}

/// Reads the recovery identity that a command was given.
///
/// # Errors
/// A file that is not there or holds none.
pub fn read_identity(path: &Path) -> Result<RecoveryIdentity, Failure> {
    let file = zeroize::Zeroizing::new(read(path, "--identity", "name the recovery kit, or an age identity file")?);
    RecoveryIdentity::parse(&file, Terminal).map_err(|error| {
        Failure::new(
            FailureClass::Usage,
            "bad-identity",
            path.display(),
            format!("{} cannot be used as an identity", path.display()),
        )
        .hint("name the recovery kit (recovery-kit.txt), or an age identity file: a line AGE-SECRET-KEY-1… or AGE-PLUGIN-…")
        .because(error)
    })
}

fn read(path: &Path, object: &str, hint: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| {
        Failure::new(FailureClass::Usage, "unreadable-file", object, format!("cannot read {}", path.display()))
            .hint(hint)
            .because(error)
    })
}

/// Tells what a plugin wants done: touch the key, plug it in. Secrets are not asked for here: a plugin that needs a PIN has its own way.
#[derive(Clone)]
struct Terminal;

impl age::Callbacks for Terminal {
    fn display_message(&self, message: &str) {
        tracing::warn!("{message}");
    }
    fn confirm(&self, message: &str, _: &str, _: Option<&str>) -> Option<bool> {
        tracing::warn!("{message}");
        None
    }
    fn request_public_string(&self, _: &str) -> Option<String> {
        None
    }
    fn request_passphrase(&self, _: &str) -> Option<secrecy::SecretString> {
        None
    }
}
