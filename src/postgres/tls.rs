//! `sslmode` and its companions, honoured with rustls as libpq honours them with OpenSSL.

mod certificate;
mod verifier;

use super::connect_error::ConnectCause;
use super::conninfo::{ConnInfoError, LibpqEnvironment, Settings};
use super::target::{Host, Place};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_postgres::config::ChannelBinding;

/// How a connection is protected: `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsMode {
    /// No TLS; always so on a Unix socket.
    Disable,
    /// TLS only if the server insists.
    Allow,
    /// TLS if the server has it.
    Prefer,
    /// TLS, whoever the server is; with a root certificate as `verify-ca`.
    Require,
    /// A certificate that the root certificate vouches for.
    VerifyCa,
    /// And with the name of the host.
    VerifyFull,
}

impl TlsMode {
    /// libpq's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// Everything about TLS in a description. Files are read at each connect, so that renewed certificates are seen.
#[derive(Clone)]
pub(super) struct TlsSettings {
    /// As given; `None` chooses by place.
    mode: Option<TlsMode>,
    pub direct: bool,
    pub roots: Roots,
    pub certificate: Option<ClientCertificate>,
    pub crl_file: Option<PathBuf>,
    pub crl_folder: Option<PathBuf>,
    pub sni: bool,
    only_1_2: bool,
    only_1_3: bool,
    pub channel_binding: ChannelBinding,
}

#[derive(Clone)]
pub(super) enum Roots {
    /// `~/.postgresql/root.crt`, if it is there.
    Default(Option<PathBuf>),
    /// This file; it must be there.
    File(PathBuf),
    /// What the operating system trusts.
    System,
}

#[derive(Clone)]
pub(super) struct ClientCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Whether it was named, and not only looked for where libpq does.
    named: bool,
}

impl TlsSettings {
    pub fn read(settings: &Settings, environment: &LibpqEnvironment, hosts: &[Host]) -> Result<Self, ConnInfoError> {
        let personal = |name: &str| environment.home.as_ref().map(|home| home.join(".postgresql").join(name));
        let mut mode = match settings.get("sslmode") {
            Some("disable") => Some(TlsMode::Disable),
            Some("allow") => Some(TlsMode::Allow),
            Some("prefer") => Some(TlsMode::Prefer),
            Some("require") => Some(TlsMode::Require),
            Some("verify-ca") => Some(TlsMode::VerifyCa),
            Some("verify-full") => Some(TlsMode::VerifyFull),
            _ => None,
        };
        let roots = match settings.get("sslrootcert") {
            Some("system") => {
                if mode.is_some_and(|mode| mode != TlsMode::VerifyFull) {
                    return Err(ConnInfoError::Contradiction("sslrootcert=system goes with sslmode=verify-full only".to_owned()));
                }
                mode = Some(TlsMode::VerifyFull);
                Roots::System
            }
            Some(path) => Roots::File(PathBuf::from(path)),
            None => Roots::Default(personal("root.crt")),
        };
        let certificate = match settings.get("sslcertmode") {
            Some("disable") => None,
            _ => {
                let named = settings.get("sslcert").map(PathBuf::from);
                let key = settings.get("sslkey").map(PathBuf::from).or_else(|| personal("postgresql.key"));
                let is_named = named.is_some();
                named.or_else(|| personal("postgresql.crt")).zip(key).map(|(certificate, key)| ClientCertificate {
                    certificate,
                    key,
                    named: is_named,
                })
            }
        };
        let tls = Self {
            mode,
            direct: settings.get("sslnegotiation") == Some("direct"),
            roots,
            certificate,
            crl_file: settings.get("sslcrl").map(PathBuf::from).or_else(|| personal("root.crl").filter(|path| path.exists())),
            crl_folder: settings.get("sslcrldir").map(PathBuf::from),
            sni: settings.get("sslsni") != Some("0"),
            only_1_2: settings.get("ssl_max_protocol_version") == Some("TLSv1.2"),
            only_1_3: settings.get("ssl_min_protocol_version") == Some("TLSv1.3"),
            channel_binding: match settings.get("channel_binding") {
                Some("disable") => ChannelBinding::Disable,
                Some("require") => ChannelBinding::Require,
                _ => ChannelBinding::Prefer,
            },
        };
        if tls.only_1_2 && tls.only_1_3 {
            return Err(ConnInfoError::Contradiction("ssl_min_protocol_version is above ssl_max_protocol_version".to_owned()));
        }
        let weak = |host: &Host| matches!(host.place, Place::Tcp { .. }) && tls.mode(&host.place) < TlsMode::Require;
        if tls.direct && hosts.iter().any(weak) {
            return Err(ConnInfoError::Contradiction(
                "sslnegotiation=direct goes with sslmode=require or stronger only".to_owned(),
            ));
        }
        Ok(tls)
    }

    /// The mode for a place. Over TCP to another host `verify-full` unless said otherwise: a backup is all that a company has.
    pub fn mode(&self, place: &Place) -> TlsMode {
        match place {
            Place::Socket(_) => TlsMode::Disable,
            Place::Tcp { .. } => self.mode.unwrap_or(if place.is_local() { TlsMode::Prefer } else { TlsMode::VerifyFull }),
        }
    }

    /// The range of versions, as libpq's variables say it.
    pub fn version_variables(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let highest = self.only_1_2.then_some(("PGSSLMAXPROTOCOLVERSION", "TLSv1.2"));
        let lowest = ("PGSSLMINPROTOCOLVERSION", if self.only_1_3 { "TLSv1.3" } else { "TLSv1.2" });
        highest.into_iter().chain([lowest])
    }

    /// Reads the files and sets rustls up.
    pub fn client_config(&self, mode: TlsMode) -> Result<ClientConfig, ConnectCause> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[&rustls::SupportedProtocolVersion] = match (self.only_1_2, self.only_1_3) {
            (true, _) => &[&rustls::version::TLS12],
            (_, true) => &[&rustls::version::TLS13],
            _ => &[&rustls::version::TLS13, &rustls::version::TLS12],
        };
        let roots = self.root_store(mode)?;
        let verifier = verifier::Verifier::new(roots, self.revocations()?, mode == TlsMode::VerifyFull, &provider)
            .map_err(|error| ConnectCause::Tls(error.to_string()))?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| ConnectCause::Tls(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match self.client_certificate()? {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| ConnectCause::Tls(format!("client certificate: {error}")))?,
            None => builder.with_no_client_auth(),
        };
        config.enable_sni = self.sni;
        if self.direct {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(config)
    }

    /// The file of root certificates, if one counts.
    pub fn root_file(&self) -> Option<&Path> {
        match &self.roots {
            Roots::File(path) => Some(path),
            Roots::Default(path) => path.as_deref().filter(|path| path.exists()),
            Roots::System => None,
        }
    }

    fn root_store(&self, mode: TlsMode) -> Result<Option<verifier::Roots>, ConnectCause> {
        let mut store = RootCertStore::empty();
        if matches!(self.roots, Roots::System) {
            let native = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(native.certs);
            if store.is_empty() {
                return Err(ConnectCause::Tls(
                    "the operating system has no root certificates: install ca-certificates".to_owned(),
                ));
            }
            return Ok(Some(verifier::Roots { store, certificates: Vec::new() }));
        }
        let Some(path) = self.root_file() else {
            if mode >= TlsMode::VerifyCa {
                let missing = match &self.roots {
                    Roots::Default(Some(path)) => format!(" ({} does not exist)", path.display()),
                    _ => String::new(),
                };
                return Err(ConnectCause::Tls(format!(
                    "sslmode={} needs a root certificate and none is configured{missing}",
                    mode.as_str()
                )));
            }
            return Ok(None);
        };
        let certificates = certificates("sslrootcert", path)?;
        for certificate in &certificates {
            let added = store.add(certificate.clone());
            added.map_err(|error| ConnectCause::Tls(format!("sslrootcert {}: {error}", path.display())))?;
        }
        Ok(Some(verifier::Roots { store, certificates }))
    }

    fn revocations(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, ConnectCause> {
        let mut files: Vec<PathBuf> = self.crl_file.iter().cloned().collect();
        if let Some(folder) = &self.crl_folder {
            let entries = std::fs::read_dir(folder).map_err(|error| unreadable("sslcrldir", folder, &error))?;
            for entry in entries {
                let entry = entry.map_err(|error| unreadable("sslcrldir", folder, &error))?;
                files.push(entry.path());
            }
        }
        let mut lists = Vec::new();
        for file in files {
            let found = CertificateRevocationListDer::pem_file_iter(&file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            lists.extend(found.map_err(|error| unreadable("sslcrl", &file, &error))?);
        }
        Ok(lists)
    }

    fn client_certificate(&self) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>, ConnectCause> {
        let Some(client) = &self.certificate else { return Ok(None) };
        if !client.certificate.exists() {
            // libpq sends none then; the server decides.
            if client.named {
                let path = client.certificate.display();
                tracing::warn!(file.path = %path, "sslcert {path} does not exist: no client certificate is sent");
            }
            return Ok(None);
        }
        let chain = certificates("sslcert", &client.certificate)?;
        let metadata = std::fs::metadata(&client.key).map_err(|error| unreadable("sslkey", &client.key, &error))?;
        // libpq's rule: 0600, or 0640 if root owns it.
        let allowed = if metadata.uid() == 0 { 0o640 } else { 0o600 };
        if metadata.mode() & 0o777 & !allowed != 0 {
            return Err(ConnectCause::Tls(format!("sslkey {} can be read by others: chmod 0600", client.key.display())));
        }
        let pem =
            std::fs::read(&client.key).map(zeroize::Zeroizing::new).map_err(|error| unreadable("sslkey", &client.key, &error))?;
        if pem.windows(9).any(|window| window == b"ENCRYPTED") {
            return Err(ConnectCause::Tls(format!(
                "sslkey {} is encrypted, which is not supported: keep an unencrypted one with mode 0600",
                client.key.display()
            )));
        }
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| unreadable("sslkey", &client.key, &error))?;
        Ok(Some((chain, key)))
    }
}

fn certificates(keyword: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectCause> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let found = found.map_err(|error| unreadable(keyword, path, &error))?;
    if found.is_empty() {
        return Err(ConnectCause::Tls(format!("{keyword} {} holds no certificate", path.display())));
    }
    Ok(found)
}

fn unreadable(keyword: &str, path: &Path, error: &dyn std::fmt::Display) -> ConnectCause {
    ConnectCause::Tls(format!("{keyword} {}: {error}", path.display()))
}
