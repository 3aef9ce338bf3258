//! Whether a server's certificate is good enough for the `sslmode`.

use super::certificate::Parsed;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;

/// Checks chain and name as far as the mode asks. The handshake's own signature is always checked, because SCRAM's channel
/// binding rests on it.
#[derive(Debug)]
pub(super) struct Verifier {
    /// `None`: any certificate will do.
    trust: Option<Trust>,
    check_name: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
struct Trust {
    chain: Arc<WebPkiServerVerifier>,
    /// The certificates of the file, for what webpki does not know; none of the operating system's.
    roots: Vec<CertificateDer<'static>>,
    has_revocations: bool,
}

/// Root certificates, ready and as they came.
pub(super) struct Roots {
    pub store: RootCertStore,
    pub certificates: Vec<CertificateDer<'static>>,
}

impl Verifier {
    pub fn new(
        roots: Option<Roots>,
        revocations: Vec<CertificateRevocationListDer<'static>>,
        check_name: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let has_revocations = !revocations.is_empty();
        let build = |roots: Roots| -> Result<Trust, VerifierBuilderError> {
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots.store), Arc::clone(provider));
            // As in libpq, a list that is out of date says nothing of today.
            let builder = builder.with_crls(revocations).enforce_revocation_expiration();
            Ok(Trust { chain: builder.build()?, roots: roots.certificates, has_revocations })
        };
        let trust = roots.map(build).transpose()?;
        Ok(Self { trust, check_name, algorithms: provider.signature_verification_algorithms })
    }

    /// A certificate without extensions, issued by a root of the file; webpki knows version 3 only.
    fn check_version_1(&self, trust: &Trust, certificate: &Parsed, now: UnixTime) -> Result<(), CertificateError> {
        if trust.has_revocations {
            return Err(CertificateError::UnknownRevocationStatus);
        }
        let roots = trust.roots.iter().filter_map(|root| Parsed::read(root).ok());
        let mut issuers = roots.filter(|root| certificate.is_issued_by(root, &self.algorithms));
        let Some(issuer) = issuers.next() else { return Err(CertificateError::UnknownIssuer) };
        issuer.check_time(now)?;
        certificate.check_time(now)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(trust) = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        let parsed = Parsed::read(end_entity)?;
        // Nothing but the name remains to be checked where this is Ok.
        let named = if parsed.is_self_issued() && trust.roots.iter().any(|root| root == end_entity) {
            // The very certificate is in the file.
            parsed.check_time(now)?;
            ParsedCertificate::try_from(end_entity).and_then(|certificate| verify_server_name(&certificate, server_name))
        } else if parsed.is_version_1() {
            self.check_version_1(trust, &parsed, now)?;
            Err(CertificateError::NotValidForName.into())
        } else {
            // The chain is checked before the name.
            let verdict = trust.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
            match verdict {
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                ))
                | Ok(_) => {}
                // webpki says at length that a CA's certificate is no server's.
                Err(_) if parsed.is_self_issued() => return Err(CertificateError::UnknownIssuer.into()),
                Err(error) => return Err(error),
            }
            verdict.map(|_| ())
        };
        match named {
            Ok(()) => {}
            Err(_) if !self.check_name => {}
            // An error that says which names it has is worth more than one that does not.
            Err(error) => parsed.check_common_name(server_name).map_err(|_| error)?,
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let parsed = Parsed::read(cert)?;
        if !parsed.is_version_1() {
            return verify_tls13_signature(message, cert, dss, &self.algorithms);
        }
        let key = parsed.public_key_info().ok_or(CertificateError::BadEncoding)?;
        verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(key), dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
