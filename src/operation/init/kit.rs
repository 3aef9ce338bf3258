//! `recovery-kit.txt`: a valid age identity file, everything else in comments. It is what a disaster leaves.

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};

use crate::id::InstallationId;

/// What a kit says beside the identity itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kit {
    /// The installation.
    pub installation: InstallationId,
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// Where it was made.
    pub host: String,
    /// Vault, keyring and mirrors.
    pub stores: Vec<KitStore>,
    /// The recovery recipients.
    pub recipients: Vec<String>,
    /// Lines of `allowed_signers`, as they were at the beginning. The operators' say who may change them.
    pub signers: Vec<String>,
}

/// One store as the kit names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KitStore {
    /// `vault`, `keyring` or `mirror`.
    pub what: String,
    /// Its address.
    pub url: String,
    /// Further settings of the configuration as they are written there: `region = "eu-central-1"`.
    pub settings: Vec<String>,
}

/// A file that is no kit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no recovery kit: it has no line `# {0}: …`")]
pub struct KitError(&'static str);

impl Kit {
    /// The file. `identity` is `None` when the recipients were made elsewhere.
    #[must_use]
    pub fn to_text(&self, identity: Option<&SecretString>) -> SecretString {
        let mut text = zeroize::Zeroizing::new(String::with_capacity(8192));
        let made = self.made_at.format("%Y-%m-%d %H:%M UTC");
        text.push_str(&format!("# Recovery kit of tenure, made {made} on {}\n#\n", crate::printable::Printable(&self.host)));
        let (what, who) = match identity {
            Some(_) => (HOLDS_IDENTITY, "recovery-kit.txt"),
            None => (NAMES_RECIPIENTS, "FILE-WITH-THE-IDENTITY"),
        };
        for line in what.lines().chain(STEPS.lines()) {
            text.push_str(format!("# {}", line.replace("IDENTITY_FILE", who)).trim_end());
            text.push('\n');
        }
        text.push_str("#\n");
        text.push_str(&format!("# installation: {}\n", self.installation));
        text.push_str(&format!("# made: {}\n", self.made_at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)));
        text.push_str(&format!("# host: {}\n", crate::printable::Printable(&self.host)));
        for store in &self.stores {
            text.push_str(&format!("# {}: {}\n", store.what, store.url));
            for setting in &store.settings {
                text.push_str(&format!("# {} setting: {setting}\n", store.what));
            }
        }
        for recipient in &self.recipients {
            text.push_str(&format!("# recipient: {recipient}\n"));
        }
        for signer in &self.signers {
            text.push_str(&format!("# signer: {signer}\n"));
        }
        if let Some(identity) = identity {
            text.push_str("#\n# The line below is the secret. age reads this file as it is: age -d -i recovery-kit.txt …\n");
            text.push_str(identity.expose_secret());
            text.push('\n');
        }
        SecretString::from(std::mem::take(&mut *text))
    }

    /// Reads the comments of a kit; the secret line is passed over.
    ///
    /// # Errors
    /// The first line that is missing.
    pub fn parse(text: &str) -> Result<Self, KitError> {
        let facts: Vec<(&str, &str)> =
            text.lines().filter_map(|line| line.strip_prefix("# ")).filter_map(|line| line.split_once(": ")).collect();
        let all = |key: &str| facts.iter().filter(|(k, _)| *k == key).map(|(_, value)| (*value).to_owned()).collect::<Vec<_>>();
        let one = |key: &'static str| all(key).into_iter().next().ok_or(KitError(key));
        let mut stores: Vec<KitStore> = Vec::new();
        for (key, value) in &facts {
            match key.split_once(' ') {
                None if matches!(*key, "vault" | "keyring" | "mirror") => {
                    stores.push(KitStore { what: (*key).to_owned(), url: (*value).to_owned(), settings: Vec::new() });
                }
                Some((what, "setting")) => {
                    if let Some(store) = stores.last_mut().filter(|store| store.what == what) {
                        store.settings.push((*value).to_owned());
                    }
                }
                _ => {}
            }
        }
        for what in ["vault", "keyring"] {
            if !stores.iter().any(|store| store.what == what) {
                return Err(KitError(what));
            }
        }
        let signers = all("signer");
        if signers.is_empty() {
            return Err(KitError("signer"));
        }
        Ok(Self {
            installation: one("installation")?.parse().map_err(|_| KitError("installation"))?,
            made_at: one("made")?.parse().map_err(|_| KitError("made"))?,
            host: one("host")?,
            stores,
            recipients: all("recipient"),
            signers,
        })
    }
}

const HOLDS_IDENTITY: &str = "\
WHAT THIS IS
Whoever has this file and the two stores named below can read every backup
in them. Whoever has lost it can read none: there is no other way in.

NOW
1. Copy it to two places that are offline and apart from each other (a
   printed page in a safe will do), together with keys/operator.
2. Try one of the copies: tenure verify --all --identity COPY
3. Remove it from this host. A host that backs up needs none of it.
";

const NAMES_RECIPIENTS: &str = "\
WHAT THIS IS
The addresses and public keys that a recovery needs beside the identities
of the recipients named below. Those were made elsewhere: only they open
backups, and this file does not hold them.

NOW
Copy it to where those identities are kept, together with keys/operator.
";

const STEPS: &str = "
AFTER A DISASTER
On a new host with tenure and credentials for the stores:
  tenure init --join --kit recovery-kit.txt --operator keys/operator \\
      --cluster NAME='host=… user=…' --databases 'tenant_{tenant}'
  tenure list
  tenure restore TENANT --identity IDENTITY_FILE
  tenure restore --all --identity IDENTITY_FILE
(Without --operator, it prints what an operator signs elsewhere.)
Without tenure: scripts/restore-without-tenure, or by hand what
docs/format.md describes; ssh-keygen, age, zstd, jq, psql and pg_restore
are enough.

IF IT WAS SEEN BY SOMEBODY
Backups made until now stay readable to whoever has this file and can
reach the stores. Take away their access to the stores first.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn kit() -> Kit {
        Kit {
            installation: InstallationId([7; 16]),
            made_at: "2026-11-21T22:00:00Z".parse().unwrap(),
            host: "db1".into(),
            stores: vec![
                KitStore { what: "vault".into(), url: "s3://v".into(), settings: vec!["region = \"eu\"".into()] },
                KitStore { what: "keyring".into(), url: "file:///k".into(), settings: vec![] },
                KitStore { what: "mirror".into(), url: "file:///m".into(), settings: vec![] },
            ],
            recipients: vec!["age1x".into()],
            signers: vec!["operator@db1 namespaces=\"tenure-root\" ssh-ed25519 AAAA".into()],
        }
    }

    #[test]
    fn a_kit_reads_what_it_writes() {
        let text = kit().to_text(Some(&SecretString::from("AGE-SECRET-KEY-1X")));
        let text = text.expose_secret();
        assert_eq!(Kit::parse(text), Ok(kit()));
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, ["AGE-SECRET-KEY-1X"], "everything but the secret is a comment");
    }

    #[test]
    fn other_files_are_no_kits() {
        assert_eq!(Kit::parse("AGE-SECRET-KEY-1X\n"), Err(KitError("vault")));
        assert_eq!(Kit::parse("# vault: s3://a\n"), Err(KitError("keyring")));
    }
}
