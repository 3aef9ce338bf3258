//! `[notify]`: who is told what is wrong, and that a night was good. Addresses that are secrets, and passwords, stand in files or in the
//! environment.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    duration::Span,
    error::ConfigError,
    place::{Places, Step},
};

/// `[notify]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Notify {
    /// How long after it was told an alarm that goes on is told again. 24 h by default.
    pub repeat: Span,
    /// A document by HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Hook>,
    /// E-mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
    /// A sign of life after each night that was good as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping: Option<Hook>,
}

impl Default for Notify {
    fn default() -> Self {
        Self { repeat: Span::from_secs(86_400), webhook: None, email: None, ping: None }
    }
}

/// `[notify.webhook]`: alarms are POSTed to this URL. `[notify.ping]`: it is asked for after each good night, as services do that miss a sign
/// of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table: [notify.webhook], [notify.ping]")]
pub struct Hook {
    /// File with the URL, alone on its line: `https://…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_file: Option<PathBuf>,
    /// Variable of the environment with the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_env: Option<String>,
    /// Certificates (PEM) to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// `[notify.email]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table: [notify.email]")]
pub struct Email {
    /// Name of the SMTP server.
    pub server: String,
    /// Its port. Default: 587, with `tls = "implicit"` 465, with `tls = "none"` 25.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How the connection is encrypted.
    #[serde(default)]
    pub tls: MailTls,
    /// Who logs in. Nobody does by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// File with the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Variable of the environment with the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
    /// Sender: `tenure@example.org` or `Tenure <tenure@example.org>`.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
    /// Certificates (PEM) to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// How a connection to an SMTP server is encrypted. Its certificate is always checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// STARTTLS, without which nothing is sent.
    #[default]
    Starttls,
    /// From the first byte.
    Implicit,
    /// Not at all: to a server on this host only.
    None,
}

/// Where a secret is, of the two places that it may be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretAt<'a> {
    /// A file.
    File(&'a PathBuf),
    /// A variable of the environment.
    Variable(&'a str),
}

impl<'a> SecretAt<'a> {
    /// Of two settings the one that is made; none where neither is, or both are.
    #[must_use]
    pub fn of(file: Option<&'a PathBuf>, variable: Option<&'a String>) -> Option<Self> {
        match (file, variable) {
            (Some(file), None) => Some(Self::File(file)),
            (None, Some(variable)) => Some(Self::Variable(variable)),
            _ => None,
        }
    }
}

impl Email {
    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            MailTls::Starttls => 587,
            MailTls::Implicit => 465,
            MailTls::None => 25,
        })
    }
}

/// Whether a name or address is this host itself.
#[must_use]
pub fn is_this_host(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

pub(super) fn check(notify: &Notify, places: &Places<'_>) -> Result<(), ConfigError> {
    let at = |channel: &'static str, key: &'static str| [Step::from("notify"), channel.into(), key.into()];
    if notify.repeat.get().is_zero() {
        let message = "`notify.repeat` is zero: every alarm would be told without end";
        return Err(places.refuse(&["notify".into(), "repeat".into()], message, "24h is the default"));
    }
    let webhook = notify.webhook.as_ref().map(|webhook| ("webhook", &webhook.url_file, &webhook.url_env));
    let ping = notify.ping.as_ref().map(|ping| ("ping", &ping.url_file, &ping.url_env));
    for (channel, file, variable) in webhook.into_iter().chain(ping) {
        if SecretAt::of(file.as_ref(), variable.as_ref()).is_none() {
            let message = match (file, variable) {
                (None, None) => format!("[notify.{channel}] has no URL"),
                _ => format!("[notify.{channel}] has both `url_file` and `url_env`"),
            };
            let hint =
                "give the URL by `url_file` or by `url_env`: who knows it can write there, so it does not stand in this file";
            return Err(places.refuse(&["notify".into(), channel.into()], message, hint));
        }
    }
    let Some(email) = &notify.email else { return Ok(()) };
    let secret = SecretAt::of(email.password_file.as_ref(), email.password_env.as_ref());
    let is_secret_given = email.password_file.is_some() || email.password_env.is_some();
    if email.user.is_some() != secret.is_some() || is_secret_given != secret.is_some() {
        let message = "[notify.email]: a login takes `user` and one of `password_file` and `password_env`";
        return Err(places.refuse(&at("email", "user"), message, "write both, or neither for a server that asks for none"));
    }
    if email.tls == MailTls::None && !is_this_host(&email.server) {
        let message = format!("`notify.email.tls`: mail to {} would go over the network in clear", email.server);
        return Err(places.refuse(&at("email", "tls"), message, "leave the line out: STARTTLS is the default"));
    }
    if email.to.is_empty() {
        return Err(places.refuse(&at("email", "to"), "`notify.email.to` is empty", "name at least one recipient"));
    }
    for (key, address) in [("from", &email.from)].into_iter().chain(email.to.iter().map(|to| ("to", to))) {
        if address.parse::<lettre::message::Mailbox>().is_err() {
            let message = format!("`notify.email.{key}`: {address:?} is no address");
            return Err(places.refuse(&at("email", key), message, "write ops@example.org, or Ops <ops@example.org>"));
        }
    }
    Ok(())
}
