//! Webhook and ping: one request by HTTP, whose answer's status is all that counts. What the URL says after the host is secret.

use std::{error::Error, path::Path, time::Duration};

use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector as _, SharedHttpConnector},
        orchestrator::HttpRequest,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use hyper::Uri;
use zeroize::Zeroizing;

use super::{
    channels::SendError,
    secret::{self, refused},
};
use crate::{
    config::notify::{SecretAt, is_this_host},
    operation::failure::Failure,
    store::https,
};

/// For a connection, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Where requests go.
pub struct Target {
    url: Zeroizing<String>,
    /// Scheme, host and port, which are no secret.
    pub shown: String,
    connector: SharedHttpConnector,
}

impl Target {
    /// Reads the URL; asks nobody.
    ///
    /// # Errors
    /// It cannot be read, or is none that may be used; certificates that cannot be used.
    pub(super) fn open(channel: &str, at: SecretAt<'_>, ca_file: Option<&Path>, folder: &Path) -> Result<Self, Failure> {
        let setting = format!("notify.{channel}.url");
        let url = secret::read(at, &setting, folder)?;
        let no_url = || refused(&setting, format!("what `{setting}_…` names is no URL that can be used"));
        let parsed: Uri = url.parse().map_err(|_| no_url().hint("it looks like https://host/path"))?;
        let (Some(scheme), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else {
            return Err(no_url().hint("it looks like https://host/path"));
        };
        if authority.as_str().contains('@') {
            return Err(no_url().hint("a name and password before the host are not sent: use a URL whose path is the secret"));
        }
        let plain = match scheme {
            "https" => false,
            "http" if is_this_host(authority.host()) => true,
            _ => return Err(no_url().hint("use https; http is for a server on this host only: names of tenants are sent")),
        };
        let shown = format!("{scheme}://{authority}");
        let ca_file = ca_file.map(|path| folder.join(path));
        let cannot = |message: &str| refused(&format!("notify.{channel}"), message.to_owned());
        let trust = https::trust(ca_file.as_deref(), plain)
            .map_err(|error| cannot("whom to trust cannot be read").hint("`ca_file` names certificates in PEM").because(error))?;
        let connector = https::connector(trust, CONNECT_WITHIN).map_err(|error| cannot("TLS cannot be set up").because(error))?;
        Ok(Self { url, shown, connector })
    }

    /// The whole URL.
    pub(super) fn secret(&self) -> &[u8] {
        self.url.as_bytes()
    }

    /// POSTs a JSON document.
    ///
    /// # Errors
    /// No answer, or one that is not 2xx.
    pub(super) async fn post(&self, json: Vec<u8>) -> Result<(), SendError> {
        self.ask("POST", Some(json)).await
    }

    /// GETs.
    ///
    /// # Errors
    /// As [`post`](Self::post).
    pub(super) async fn get(&self) -> Result<(), SendError> {
        self.ask("GET", None).await
    }

    async fn ask(&self, method: &str, json: Option<Vec<u8>>) -> Result<(), SendError> {
        let unusable = || SendError::lasting("the request cannot be made".to_owned());
        let is_json = json.is_some();
        let mut request = HttpRequest::new(json.map_or_else(SdkBody::empty, SdkBody::from));
        request.set_method(method).map_err(|_| unusable())?;
        request.set_uri(self.url.as_str()).map_err(|_| unusable())?;
        let headers = request.headers_mut();
        headers.insert("user-agent", concat!("tenure/", env!("CARGO_PKG_VERSION")));
        if is_json {
            headers.insert("content-type", "application/json");
        }
        // Redirects are not followed: who could set one would be told the alarms.
        match self.connector.call(request).await {
            Ok(answer) => judge(&self.shown, answer.status()),
            Err(error) => Err(SendError::passing(format!("cannot reach {}: {}", self.shown, self.without_secret(&error)))),
        }
    }

    /// All causes in one line; one that names the URL would be left out.
    fn without_secret(&self, error: &(dyn Error + 'static)) -> String {
        let path = self.url.get(self.shown.len()..).unwrap_or_default();
        let mut causes: Vec<String> = Vec::new();
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            let is_secret = path.len() > 1 && text.contains(path);
            if !is_secret && causes.last().is_none_or(|last| !last.ends_with(&text)) {
                causes.push(text);
            }
            next = error.source();
        }
        causes.join(": ")
    }
}

fn judge(shown: &str, status: StatusCode) -> Result<(), SendError> {
    let said = || format!("{shown} answered {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Ok(()),
        408 | 425 | 429 | 500.. => Err(SendError::passing(said())),
        300..=399 => Err(SendError::lasting(format!("{}: redirects are not followed", said()))),
        _ => Err(SendError::lasting(said())),
    }
}
