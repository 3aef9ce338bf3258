//! How `pg_dump` and `pg_restore` reach the database that we mean.
//!
//! By environment only: names in arguments would be read as descriptions or options (a database may be called `host=x` or `-f`), and
//! a password in arguments would be seen by everybody on the machine.

use super::connect_error::ConnectError;
use super::silence;
use super::target::{Place, Target};
use super::tls::{Roots, TlsMode};
use crate::id::RecordId;
use secrecy::{ExposeSecret as _, SecretString};
use std::collections::BTreeMap;
use std::path::Path;

/// The whole environment of a child. `Debug` shows no password.
#[derive(Clone)]
pub struct ChildEnvironment {
    variables: BTreeMap<&'static str, String>,
    password: Option<SecretString>,
    /// The server that it leads to.
    target: Target,
}

impl ChildEnvironment {
    /// Clears the command's environment and sets this one.
    pub fn apply(&self, command: &mut tokio::process::Command) {
        command.env_clear().envs(&self.variables);
        if let Some(password) = &self.password {
            command.env("PGPASSWORD", password.expose_secret());
        }
    }

    /// Resolves, with why, when the server sees a child in this environment no longer at work. To be polled only while the child is waited
    /// for: one that waits for us is not at work either.
    pub(super) fn stalled(&self) -> impl Future<Output = String> + Send + 'static {
        silence::child_stalls(self.target.clone(), self.variables.get("PGAPPNAME").cloned().unwrap_or_default())
    }

    /// The same for a database whose sessions write nothing unless they say so.
    #[must_use]
    pub fn writable(mut self) -> Self {
        self.variables.entry("PGOPTIONS").or_default().push_str(" -c default_transaction_read_only=off");
        self
    }

    /// What the child's session calls itself: no other one does.
    #[must_use]
    pub fn application(&self) -> &str {
        self.variable("PGAPPNAME").unwrap_or_default()
    }

    /// A variable by name; never the password.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

impl std::fmt::Debug for ChildEnvironment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(&self.variables).finish()
    }
}

/// Where distributions keep the bundle that `sslrootcert=system` stands for; libpq before 16 does not know that word.
const SYSTEM_BUNDLES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"];

pub(super) async fn environment(target: &Target, database: &str) -> Result<ChildEnvironment, ConnectError> {
    let resolved = &*target.0;
    let failed = |cause| ConnectError {
        endpoint: target.endpoint(),
        database: database.into(),
        user: resolved.user.as_str().into(),
        cause,
        others: Box::default(),
        source: None,
    };
    let asked = resolved.asked_password().await.map_err(failed)?;
    let Some(host) = resolved.hosts.first() else { return Err(failed(super::ConnectCause::Unreachable)) };

    let mut variables = BTreeMap::from([
        ("PGPORT", host.port.to_string()),
        ("PGUSER", resolved.user.clone()),
        ("PGDATABASE", database.to_owned()),
        ("PGAPPNAME", name_of_child(resolved.application_name.as_deref().unwrap_or("tenure"))),
        // Kerberos tickets that happen to lie about must not change how the child connects.
        ("PGGSSENCMODE", "disable".to_owned()),
        // A password that we did not find, the child shall not find either.
        // (libpq warns about a file that is not a plain one, and says nothing about one that is missing.)
        ("PGPASSFILE", "/nonexistent/tenure-has-no-password-file".to_owned()),
        // Messages are read by us.
        ("LC_ALL", "C".to_owned()),
        // pg_dump writes constants of time types as the session's time zone has them.
        ("PGTZ", "UTC".to_owned()),
    ]);
    if let Some(home) = &resolved.home {
        variables.insert("HOME", home.display().to_string());
    }
    match &host.place {
        Place::Socket(folder) => {
            variables.insert("PGHOST", folder.display().to_string());
        }
        Place::Tcp { name, address } => {
            if let Some(name) = name {
                variables.insert("PGHOST", name.clone());
            }
            if let Some(address) = address {
                variables.insert("PGHOSTADDR", address.to_string());
            }
        }
    }
    if let Some(limit) = resolved.connect_timeout {
        variables.insert("PGCONNECT_TIMEOUT", limit.as_secs().to_string());
    }
    if let Some(options) = &resolved.options {
        variables.insert("PGOPTIONS", options.clone());
    }
    if let Some(peer) = &resolved.required_peer {
        variables.insert("PGREQUIREPEER", peer.clone());
    }
    tls_variables(target, resolved.tls.mode(&host.place), &mut variables);
    let password = resolved.password_for(host, database, asked.as_ref());
    Ok(ChildEnvironment { variables, password, target: target.clone() })
}

/// A name that no other child has: by it the server's connections of this one are found. A server cuts names to 63 bytes.
fn name_of_child(application: &str) -> String {
    let id = RecordId::random().to_string();
    let end = (0..=application.len()).rev().find(|end| end + 1 + id.len() <= 63 && application.is_char_boundary(*end));
    format!("{} {id}", &application[..end.unwrap_or(0)])
}

fn tls_variables(target: &Target, mode: TlsMode, variables: &mut BTreeMap<&'static str, String>) {
    let tls = &target.0.tls;
    let mut set = |name, path: &Path| variables.insert(name, path.display().to_string());
    match &tls.roots {
        Roots::System => {
            let bundle = SYSTEM_BUNDLES.iter().map(Path::new).find(|path| path.exists());
            set("PGSSLROOTCERT", bundle.unwrap_or(Path::new("system")));
        }
        Roots::File(_) | Roots::Default(_) => {
            if let Some(path) = tls.root_file() {
                set("PGSSLROOTCERT", path);
            }
        }
    }
    match &tls.certificate {
        Some(client) => {
            set("PGSSLCERT", &client.certificate);
            set("PGSSLKEY", &client.key);
        }
        // libpq before 16 has no other way to be told "none".
        None => {
            set("PGSSLCERT", Path::new("/nonexistent/tenure-sends-no-client-certificate"));
        }
    }
    if let Some(path) = &tls.crl_file {
        set("PGSSLCRL", path);
    }
    if let Some(path) = &tls.crl_folder {
        set("PGSSLCRLDIR", path);
    }
    variables.insert("PGSSLMODE", mode.as_str().to_owned());
    for (name, value) in tls.version_variables() {
        variables.insert(name, value.to_owned());
    }
    if !tls.sni {
        variables.insert("PGSSLSNI", "0".to_owned());
    }
    if tls.direct {
        variables.insert("PGSSLNEGOTIATION", "direct".to_owned());
    }
    let binding = match tls.channel_binding {
        tokio_postgres::config::ChannelBinding::Disable => "disable",
        tokio_postgres::config::ChannelBinding::Require => "require",
        _ => "prefer",
    };
    variables.insert("PGCHANNELBINDING", binding.to_owned());
}
