//! `[worker]`: the process that runs schedules.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{duration::Span, error::ConfigError, place::Places};

/// `[worker]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Worker {
    /// How long work at hand may go on after SIGTERM; what is not through by then is abandoned. 60 s by default.
    pub stop_within: Span,
    /// Where `/metrics`, `/healthz` and `/readyz` are served: an address with a port, or `none`. By default [`Listen::DEFAULT`], which only
    /// this host reaches, and done without where something else is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Listen>,
    /// Whether `/metrics` has series for each tenant. True by default; their label is the tenant's name.
    pub tenant_metrics: bool,
}

impl Default for Worker {
    fn default() -> Self {
        Self { stop_within: Span::from_secs(60), listen: None, tenant_metrics: true }
    }
}

/// An address with a port, or `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Listen(pub Option<SocketAddr>);

/// Text that is no [`Listen`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no address to listen on: expected an address of this host with a port, like `127.0.0.1:8368` or `[::1]:8368`, or `none`"
)]
pub struct ListenError(String);

impl Listen {
    /// Where nobody writes anything else.
    pub const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8368);
}

impl TryFrom<String> for Listen {
    type Error = ListenError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text == "none" {
            return Ok(Self(None));
        }
        text.parse().map(|address| Self(Some(address))).map_err(|_| ListenError(text))
    }
}

impl From<Listen> for String {
    fn from(Listen(address): Listen) -> Self {
        address.map_or_else(|| "none".to_owned(), |address| address.to_string())
    }
}

pub(super) fn check(worker: &Worker, places: &Places<'_>) -> Result<(), ConfigError> {
    if worker.stop_within.get().is_zero() {
        let message = "`worker.stop_within` is zero: nothing could end cleanly";
        return Err(places.refuse(&["worker".into(), "stop_within".into()], message, "use at least 1s; 60s is the default"));
    }
    Ok(())
}
