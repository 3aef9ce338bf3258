//! Addresses of stores.

use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The address of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum StoreUrl {
    /// `file:///srv/vault`: an absolute path without `..`.
    Directory(PathBuf),
    /// `s3://bucket/prefix`; the prefix is empty or ends in `/`.
    S3 {
        /// Bucket.
        bucket: String,
        /// What every object's name begins with.
        prefix: String,
    },
}

/// An address that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{url}` is not a store: {why}")]
pub struct StoreUrlError {
    url: String,
    why: &'static str,
}

impl TryFrom<String> for StoreUrl {
    type Error = StoreUrlError;
    fn try_from(url: String) -> Result<Self, Self::Error> {
        match parse_url(&url) {
            Ok(parsed) => Ok(parsed),
            Err(why) => Err(StoreUrlError { url, why }),
        }
    }
}

impl std::str::FromStr for StoreUrl {
    type Err = StoreUrlError;
    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Self::try_from(url.to_owned())
    }
}

fn parse_url(url: &str) -> Result<StoreUrl, &'static str> {
    if let Some(path) = url.strip_prefix("file://") {
        let path = Path::new(path);
        if !path.is_absolute() {
            return Err("a directory is written file:// and a path that begins with a slash, like file:///srv/vault");
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return Err("the path goes up with `..`");
        }
        let path: PathBuf = path.components().collect();
        if path == Path::new("/") {
            return Err("the root directory cannot be a store");
        }
        return Ok(StoreUrl::Directory(path));
    }
    let Some(rest) = url.strip_prefix("s3://") else { return Err("it begins with neither s3:// nor file:///") };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() || !bucket.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) {
        return Err(
            "a bucket's name has letters, digits, dots and dashes only; credentials come from a profile or the environment",
        );
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if !prefix.is_empty() && !crate::store::is_valid_name(prefix) {
        return Err("its prefix may hold letters, digits, `.`, `-` and `_` between slashes");
    }
    let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    Ok(StoreUrl::S3 { bucket: bucket.to_owned(), prefix })
}

impl std::fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "file://{}", path.display()),
            Self::S3 { bucket, prefix } => {
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                write!(f, "s3://{bucket}{}{prefix}", if prefix.is_empty() { "" } else { "/" })
            }
        }
    }
}

impl From<StoreUrl> for String {
    fn from(url: StoreUrl) -> Self {
        url.to_string()
    }
}

impl StoreUrl {
    /// Whether one of the two lies in the other, or is it. `endpoints` says whether they are on the same S3 server.
    #[must_use]
    pub fn overlaps(&self, other: &Self, same_endpoint: bool) -> bool {
        match (self, other) {
            (Self::Directory(a), Self::Directory(b)) => {
                let (a, b) = (real(a), real(b));
                a.starts_with(&b) || b.starts_with(&a)
            }
            (Self::S3 { bucket: a, prefix: p }, Self::S3 { bucket: b, prefix: q }) => {
                same_endpoint && a == b && (p.starts_with(q.as_str()) || q.starts_with(p.as_str()))
            }
            _ => false,
        }
    }
}

/// The path with symbolic links resolved as far as it exists.
fn real(path: &Path) -> PathBuf {
    let mut missing = Vec::new();
    for existing in path.ancestors() {
        if let Ok(real) = existing.canonicalize() {
            return missing.into_iter().rev().fold(real, |path, part| path.join(part));
        }
        missing.extend(existing.file_name());
    }
    path.to_owned()
}
