//! `[signing]`: who signs, and whose signatures count.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[signing]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signing {
    /// OpenSSH's `allowed_signers`, every line with `namespaces=`. Default: `allowed_signers` beside the configuration.
    #[serde(default = "allowed_signers")]
    pub allowed_signers: PathBuf,
    /// Private key (OpenSSH, Ed25519) that signs manifests on this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<PathBuf>,
    /// Private key that signs plans, holds and the vault's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<PathBuf>,
    /// Private key that signs tombstones and certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eraser: Option<PathBuf>,
    /// Private key that signs the runs of `expire`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub janitor: Option<PathBuf>,
    /// Private key that signs records of restored copies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restorer: Option<PathBuf>,
}

fn allowed_signers() -> PathBuf {
    "allowed_signers".into()
}

impl Default for Signing {
    fn default() -> Self {
        Self { allowed_signers: allowed_signers(), worker: None, operator: None, eraser: None, janitor: None, restorer: None }
    }
}
