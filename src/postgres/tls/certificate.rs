//! What webpki leaves out and servers still present: certificates of version 1, names in the subject only, and a self-signed
//! certificate that is its own root. PostgreSQL's documentation makes such ones, and libpq accepts them.

use rustls::CertificateError;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _, Reader as _, SliceReader};
use x509_cert::ext::pkix::BasicConstraints;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ALTERNATIVE_NAMES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

/// A certificate that parses.
pub(super) struct Parsed {
    certificate: Certificate,
    /// The signed part, as it came.
    signed: Vec<u8>,
}

impl Parsed {
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let bad = |_| CertificateError::BadEncoding;
        let certificate = Certificate::from_der(der).map_err(bad)?;
        let outer = AnyRef::from_der(der).map_err(bad)?;
        let mut reader = SliceReader::new(outer.value()).map_err(bad)?;
        let signed = reader.tlv_bytes().map_err(bad)?.to_vec();
        Ok(Self { certificate, signed })
    }

    /// Whether it is from before there were extensions.
    pub fn is_version_1(&self) -> bool {
        self.certificate.tbs_certificate.version == Version::V1
    }

    /// Whether it names itself as its issuer.
    pub fn is_self_issued(&self) -> bool {
        self.certificate.tbs_certificate.issuer == self.certificate.tbs_certificate.subject
    }

    /// Its public key, whole.
    pub fn public_key_info(&self) -> Option<Vec<u8>> {
        self.certificate.tbs_certificate.subject_public_key_info.to_der().ok()
    }

    pub fn check_time(&self, now: UnixTime) -> Result<(), CertificateError> {
        let validity = &self.certificate.tbs_certificate.validity;
        if now.as_secs() < validity.not_before.to_unix_duration().as_secs() {
            Err(CertificateError::NotValidYet)
        } else if now.as_secs() > validity.not_after.to_unix_duration().as_secs() {
            Err(CertificateError::Expired)
        } else {
            Ok(())
        }
    }

    /// libpq's rule for a certificate without alternative names: its common name counts, and may begin with `*.`.
    pub fn check_common_name(&self, server_name: &ServerName<'_>) -> Result<(), CertificateError> {
        let host = server_name.to_str();
        let matches = |name: &str| match name.strip_prefix('*') {
            Some(domain) if domain.starts_with('.') => host.split_once('.').is_some_and(|(label, _)| {
                !label.is_empty() && host.get(label.len()..).is_some_and(|rest| rest.eq_ignore_ascii_case(domain))
            }),
            _ => name.eq_ignore_ascii_case(&host),
        };
        if !self.has_alternative_names() && self.common_names().any(|name| matches(&name)) {
            Ok(())
        } else {
            Err(CertificateError::NotValidForName)
        }
    }

    fn has_alternative_names(&self) -> bool {
        let extensions = self.certificate.tbs_certificate.extensions.iter().flatten();
        extensions.into_iter().any(|extension| extension.extn_id == ALTERNATIVE_NAMES)
    }

    fn common_names(&self) -> impl Iterator<Item = String> {
        let attributes = self.certificate.tbs_certificate.subject.0.iter().flat_map(|names| names.0.iter());
        attributes
            .filter(|attribute| attribute.oid == COMMON_NAME)
            .filter_map(|attribute| String::from_utf8(attribute.value.value().to_vec()).ok())
    }

    /// Whether this root certificate issued it. Only a direct issuer counts: what needs a longer chain has extensions.
    pub fn is_issued_by(&self, root: &Self, algorithms: &WebPkiSupportedAlgorithms) -> bool {
        let issuer = &root.certificate.tbs_certificate;
        if self.certificate.tbs_certificate.issuer != issuer.subject || !root.may_issue() {
            return false;
        }
        let key = &issuer.subject_public_key_info;
        let (Some(key_algorithm), Some(signature_algorithm)) =
            (contents(&key.algorithm), contents(&self.certificate.signature_algorithm))
        else {
            return false;
        };
        // The algorithm stands twice; only the inner one is signed.
        if self.certificate.signature_algorithm != self.certificate.tbs_certificate.signature {
            return false;
        }
        algorithms.all.iter().any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == key_algorithm
                && algorithm.signature_alg_id().as_ref() == signature_algorithm
                && algorithm
                    .verify_signature(key.subject_public_key.raw_bytes(), &self.signed, self.certificate.signature.raw_bytes())
                    .is_ok()
        })
    }

    fn may_issue(&self) -> bool {
        let constraints = self.certificate.tbs_certificate.get::<BasicConstraints>();
        self.is_version_1() || matches!(constraints, Ok(Some((_, BasicConstraints { ca: true, .. }))))
    }
}

/// An `AlgorithmIdentifier` without its outer tag and length, which is how rustls names algorithms.
fn contents(algorithm: &x509_cert::spki::AlgorithmIdentifierOwned) -> Option<Vec<u8>> {
    let der = algorithm.to_der().ok()?;
    Some(AnyRef::from_der(&der).ok()?.value().to_vec())
}
