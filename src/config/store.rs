//! `[vault]` and `[keyring]`: where things are kept.

mod url;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::url::{StoreUrl, StoreUrlError};
use super::{
    error::ConfigError,
    place::{Places, Step},
};
use crate::object_lock::{Window, WindowError};

/// `[vault]`: where sealed backups go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table: [vault]")]
pub struct Vault {
    /// `s3://bucket`, `s3://bucket/prefix` or `file:///folder`.
    pub url: StoreUrl,
    /// Region of the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Another server than Amazon's: `https://s3.example.org`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Put the bucket into the path instead of the host name. Default: true where an endpoint is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// Certificates (PEM) to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Encryption by the store, on top of ours: `AES256` or `aws:kms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sse: Option<String>,
    /// Storage class of new objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// Credentials by role.
    #[serde(default)]
    pub profiles: Profiles,
    /// Object lock: for how long what the newest backups need cannot be removed. `governance 35 days`, `compliance 35 days`, or `none`.
    #[serde(default)]
    pub lock: ObjectLock,
}

/// `[keyring]`: where keys go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table: [keyring]")]
pub struct Keyring {
    /// As in `[vault]`, and apart from it.
    pub url: StoreUrl,
    /// As in `[vault]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// As in `[vault]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// As in `[vault]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// As in `[vault]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// As in `[vault]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sse: Option<String>,
    /// Credentials by role.
    #[serde(default)]
    pub profiles: Profiles,
    /// Further copies of every key, under other credentials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    /// age recipients that can open tenant keys: `age1…`. Two or more, so that one can lie in a safe.
    pub recipients: Vec<String>,
    /// Says that one copy of the keys is meant to be enough, so that `check` stops warning.
    #[serde(default)]
    pub accept_single_keyring: bool,
}

/// A further copy of the keyring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table, such as { url = \"s3://bucket\" }")]
pub struct Mirror {
    /// As in `[vault]`, and apart from vault, keyring and other mirrors.
    pub url: StoreUrl,
    /// As in `[vault]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// As in `[vault]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// As in `[vault]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// As in `[vault]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// As in `[vault]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sse: Option<String>,
    /// Profile of the credentials of every role that `profiles` does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Credentials by role.
    #[serde(default, skip_serializing_if = "Profiles::is_empty")]
    pub profiles: Profiles,
}

/// Names of credential profiles (`~/.aws/config`), one per role. A role without one uses the usual chain of credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    /// Creates in vault and keyring; deletes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<String>,
    /// Deletes what has expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub janitor: Option<String>,
    /// Deletes in vault and keyring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eraser: Option<String>,
    /// Reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restorer: Option<String>,
    /// Reads and creates in the keyring: `keys repair`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
}

/// Whose credentials a command uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Backs up.
    Writer,
    /// Expires.
    Janitor,
    /// Erases.
    Eraser,
    /// Restores, lists and verifies.
    Restorer,
    /// Repairs the keyring.
    Operator,
}

impl Profiles {
    /// The profile of a role. Where restores have none, a writer's will do for reading.
    #[must_use]
    pub fn of(&self, role: Role) -> Option<&str> {
        match role {
            Role::Writer => &self.writer,
            Role::Janitor => &self.janitor,
            Role::Eraser => &self.eraser,
            Role::Restorer if self.restorer.is_none() => &self.writer,
            Role::Restorer => &self.restorer,
            Role::Operator => &self.operator,
        }
        .as_deref()
    }

    /// Whether no role has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `none`, or a window of object lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ObjectLock(pub Option<Window>);

impl TryFrom<String> for ObjectLock {
    type Error = WindowError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Ok(Self(if text == "none" { None } else { Some(text.parse()?) }))
    }
}

impl From<ObjectLock> for String {
    fn from(ObjectLock(window): ObjectLock) -> Self {
        window.map_or_else(|| "none".to_owned(), |window| window.to_string())
    }
}

/// One store with everything that opening it takes.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// Where it is.
    pub url: &'a StoreUrl,
    /// Region.
    pub region: Option<&'a str>,
    /// Endpoint.
    pub endpoint: Option<&'a str>,
    /// Bucket in the path.
    pub path_style: Option<bool>,
    /// Certificates, relative to the configuration's folder.
    pub ca_file: Option<&'a Path>,
    /// Encryption by the store.
    pub sse: Option<&'a str>,
    /// Storage class.
    pub storage_class: Option<&'a str>,
    /// Profile of the credentials.
    pub profile: Option<&'a str>,
}

macro_rules! opening {
    ($from:expr, $storage_class:expr, $profile:expr) => {
        Opening {
            url: &$from.url,
            region: $from.region.as_deref(),
            endpoint: $from.endpoint.as_deref(),
            path_style: $from.path_style,
            ca_file: $from.ca_file.as_deref(),
            sse: $from.sse.as_deref(),
            storage_class: $storage_class,
            profile: $profile,
        }
    };
}

impl Vault {
    /// How to open it in a role.
    #[must_use]
    pub fn opening(&self, role: Role) -> Opening<'_> {
        opening!(self, self.storage_class.as_deref(), self.profiles.of(role))
    }
}

impl Keyring {
    /// How to open it in a role.
    #[must_use]
    pub fn opening(&self, role: Role) -> Opening<'_> {
        opening!(self, None, self.profiles.of(role))
    }
}

impl Mirror {
    /// How to open it in a role.
    #[must_use]
    pub fn opening(&self, role: Role) -> Opening<'_> {
        opening!(self, None, self.profiles.of(role).or(self.profile.as_deref()))
    }
}

pub(super) fn check(vault: &Vault, keyring: &Keyring, places: &Places<'_>) -> Result<(), ConfigError> {
    if let (Some(window), StoreUrl::Directory(_)) = (vault.lock.0, &vault.url) {
        let message = format!("`vault.lock` is \"{window}\", and the vault is a directory, which cannot lock what is in it");
        let hint = "use a bucket with object lock for the vault, or write lock = \"none\"";
        return Err(places.refuse(&["vault".into(), "lock".into()], message, hint));
    }
    let mut stores: Vec<(Vec<Step<'_>>, String, &StoreUrl, Option<&str>)> =
        vec![(vec!["vault".into(), "url".into()], "the vault".into(), &vault.url, vault.endpoint.as_deref())];
    stores.push((vec!["keyring".into(), "url".into()], "the keyring".into(), &keyring.url, keyring.endpoint.as_deref()));
    for (n, mirror) in keyring.mirrors.iter().enumerate() {
        let path = vec!["keyring".into(), "mirrors".into(), n.into(), "url".into()];
        stores.push((path, format!("mirror {}", n + 1), &mirror.url, mirror.endpoint.as_deref()));
    }
    for (path, _, _, endpoint) in &stores {
        let is_url =
            |text: &str| text.strip_prefix("https://").or(text.strip_prefix("http://")).is_some_and(|rest| !rest.is_empty());
        if let Some(endpoint) = endpoint.filter(|endpoint| !is_url(endpoint)) {
            let mut path = path.clone();
            path.pop();
            path.push("endpoint".into());
            let hint = format!("write it with its scheme, like https://{endpoint}");
            return Err(places.refuse(&path, format!("endpoint {endpoint:?} is no address"), &hint));
        }
    }
    for (n, (path, name, url, endpoint)) in stores.iter().enumerate() {
        if let Some((_, other, other_url, _)) = stores[..n].iter().find(|(_, _, other, at)| url.overlaps(other, endpoint == at)) {
            let relation = if url == other_url { "are the same place" } else { "lie one in the other" };
            let hint = "whoever can read or lose one must not have the other: use two buckets, or two directories side by side";
            return Err(places.refuse(path, format!("{other} and {name} {relation}: {url}"), hint));
        }
    }
    if keyring.recipients.is_empty() {
        let hint = "add the `age1…` line of a recovery identity; without one nobody could ever restore";
        return Err(places.refuse(&["keyring".into(), "recipients".into()], "keyring.recipients is empty", hint));
    }
    Ok(())
}
