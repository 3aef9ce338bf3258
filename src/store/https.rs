//! Connections to HTTP servers: TLS, whom to trust, proxies.

use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Duration,
};

use aws_smithy_http_client::{
    Connector, HttpClientError,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};
use rustls::pki_types::{CertificateDer, pem::PemObject};

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read, or what is in it is none.
    #[error("cannot read the certificates in {}", .path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The file has none.
    #[error("there is no certificate in {}", .path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
}

/// By the proxy that the environment names, but for whom `NO_PROXY` names.
///
/// # Errors
/// Whom to trust cannot be set up.
pub fn connector(trust: TrustStore, connect_timeout: Duration) -> Result<SharedHttpConnector, HttpClientError> {
    let connector = Connector::builder()
        .connector_settings(HttpConnectorSettings::builder().connect_timeout(connect_timeout).build())
        .proxy_config(ProxyConfig::from_env())
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(TlsContext::builder().with_trust_store(trust).build()?);
    Ok(SharedHttpConnector::new(connector.build()))
}

/// The certificates in a file, or the system's. `plain`: there is no TLS, and a machine without certificates will do.
///
/// # Errors
/// The file cannot be read or used: later the client would panic over it.
pub fn trust(ca_file: Option<&Path>, plain: bool) -> Result<TrustStore, TrustError> {
    match ca_file {
        Some(path) => Ok(TrustStore::empty().with_pem_certificate(certificates(path)?)),
        // Without TLS nothing is to be trusted.
        None if plain => Ok(TrustStore::empty()),
        None => Ok(TrustStore::default()),
    }
}

fn certificates(path: &Path) -> Result<Vec<u8>, TrustError> {
    let failed = |source| TrustError::Certificates { path: path.to_owned(), source };
    let pem = std::fs::read(path).map_err(|error| failed(error.into()))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.map_err(|error| failed(error.into()))?).map_err(|error| failed(error.into()))?;
    }
    if roots.is_empty() { Err(TrustError::NoCertificate { path: path.to_owned() }) } else { Ok(pem) }
}
