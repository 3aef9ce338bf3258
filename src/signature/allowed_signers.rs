//! OpenSSH's `allowed_signers` file: which key may sign what, and until when.

mod persons;

use chrono::{DateTime, NaiveDateTime, Utc};
use ssh_key::{Algorithm, PublicKey};

pub use persons::Person;

use super::{Namespace, SignatureError, SigningKey, fingerprint, key_digest, parse_signature};
use crate::id::Sha256Digest;

/// The parsed file. Every line must carry `namespaces=`: a key that may sign anything has no place here.
#[derive(Clone, Debug, Default)]
pub struct AllowedSigners {
    text: String,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    principal: String,
    namespaces: Vec<String>,
    valid_after: Option<DateTime<Utc>>,
    valid_before: Option<DateTime<Utc>>,
    key: PublicKey,
}

/// Who made a good signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The first field of the line: `worker@host`.
    pub principal: String,
    /// SHA-256 fingerprint of the key.
    pub fingerprint: String,
    /// The same, as bytes.
    pub key: Sha256Digest,
}

/// A line that this file may not hold.
#[derive(Debug, thiserror::Error)]
#[error("allowed signers, line {line}: {what}")]
pub struct AllowedSignersError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl AllowedSigners {
    /// Parses the file. Blank lines and comments are passed over; anything not understood is refused, since an option that is
    /// overlooked could be a restriction.
    ///
    /// # Errors
    /// The first bad line, and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, AllowedSignersError> {
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            lines.push(Line::parse(line).map_err(|what| AllowedSignersError { line: index + 1, what })?);
        }
        Ok(Self { text: text.to_owned(), lines })
    }

    /// The file as it was read.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The public keys (`ssh-ed25519 AAAA…`) and principals that may sign in `namespace`, in the file's order.
    #[must_use]
    pub fn keys_for(&self, namespace: Namespace) -> Vec<(String, String)> {
        let named = self.lines.iter().filter(|line| line.may(namespace));
        named.filter_map(|line| Some((line.principal.clone(), line.key.to_openssh().ok()?))).collect()
    }

    /// Whether whoever made a good signature may sign in this namespace, too.
    #[must_use]
    pub fn may(&self, signer: &Signer, namespace: Namespace) -> bool {
        self.lines.iter().any(|line| line.may(namespace) && fingerprint(&line.key) == signer.fingerprint)
    }

    /// Whether what `key` signs at `now` counts, by trying it.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check(&self, key: &SigningKey, namespace: Namespace, now: DateTime<Utc>) -> Result<(), SignatureError> {
        let document = b"tenure tries whether this key counts";
        let signature = key.sign(namespace, document)?;
        self.verify(namespace, document, signature.as_bytes(), now).map(drop)
    }

    /// Checks that `signature` (the content of a `.sig`) was made for `document` in `namespace`, by a key that may sign there and
    /// was valid at `at`: the store's creation time of the document.
    ///
    /// # Errors
    /// Why the signature does not count.
    pub fn verify(
        &self,
        namespace: Namespace,
        document: &[u8],
        signature: &[u8],
        at: DateTime<Utc>,
    ) -> Result<Signer, SignatureError> {
        let signature = parse_signature(namespace, signature)?;
        let key = PublicKey::from(signature.public_key().clone());
        let refuse = |reason| SignatureError::NotAllowed { fingerprint: fingerprint(&key), namespace, reason };
        let mut reason = None;
        for line in self.lines.iter().filter(|line| line.key.key_data() == key.key_data()) {
            if !line.may(namespace) {
                reason = Some("the key is known, but not for this");
            } else if !line.is_valid(at) {
                reason = Some("outside of the time in which the key is valid");
            } else {
                line.key.verify(namespace.as_str(), document, &signature).map_err(SignatureError::Mismatch)?;
                return Ok(line.signer());
            }
        }
        Err(refuse(reason))
    }
}

impl Line {
    fn is_valid(&self, at: DateTime<Utc>) -> bool {
        self.valid_after.is_none_or(|after| at >= after) && self.valid_before.is_none_or(|before| at < before)
    }

    fn signer(&self) -> Signer {
        Signer { principal: self.principal.clone(), fingerprint: fingerprint(&self.key), key: key_digest(&self.key) }
    }

    fn may(&self, namespace: Namespace) -> bool {
        self.namespaces.iter().any(|name| name == namespace.as_str())
    }

    fn parse(line: &str) -> Result<Self, String> {
        let (principal, rest) = line.split_once(char::is_whitespace).ok_or("expected: principal, options, key")?;
        if principal.contains(['*', '?', '!', ',', '"']) {
            return Err("patterns and lists of principals are not allowed: one name a line".into());
        }
        let at = rest.find("ssh-").filter(|at| *at == 0 || rest[..*at].ends_with(char::is_whitespace));
        let at = at.ok_or("no `ssh-ed25519` key")?;
        let key = PublicKey::from_openssh(rest[at..].trim()).map_err(|error| format!("not a public key: {error}"))?;
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(format!("the key is {}, expected ssh-ed25519", key.algorithm()));
        }
        let mut parsed =
            Self { principal: principal.to_owned(), namespaces: Vec::new(), valid_after: None, valid_before: None, key };
        let mut names = Vec::new();
        for option in split_options(rest[..at].trim()) {
            let (name, value) = option.split_once('=').ok_or_else(|| format!("option `{option}` is not known here"))?;
            let value = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'))
                .ok_or_else(|| format!("the value of `{name}` is not quoted"))?;
            // ssh-keygen refuses it too: whichever of the two we took, a reader might take the other.
            if names.contains(&name) {
                return Err(format!("option `{name}` stands there twice"));
            }
            names.push(name);
            match name {
                "namespaces" => parsed.namespaces = value.split(',').map(str::to_owned).collect(),
                "valid-after" => parsed.valid_after = Some(time(value)?),
                "valid-before" => parsed.valid_before = Some(time(value)?),
                _ => return Err(format!("option `{name}` is not known here")),
            }
        }
        if parsed.namespaces.is_empty() {
            return Err("no `namespaces=\"…\"`".into());
        }
        Ok(parsed)
    }
}

/// Commas separate options, but not inside quotes.
fn split_options(options: &str) -> Vec<&str> {
    let mut quoted = false;
    let split = options.split(|c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    split.filter(|option| !option.is_empty()).collect()
}

/// `YYYYMMDDZ` or `YYYYMMDDHHMM[SS]Z`. OpenSSH also takes local times, which mean something else on every host.
fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let wrong = || format!("`{text}` is not a time in UTC like 20261121Z or 202611210300Z");
    let digits = text.strip_suffix('Z').ok_or_else(wrong)?;
    let padded = match digits.len() {
        8 => format!("{digits}000000"),
        12 => format!("{digits}00"),
        14 => digits.to_owned(),
        _ => return Err(wrong()),
    };
    NaiveDateTime::parse_from_str(&padded, "%Y%m%d%H%M%S").map(|time| time.and_utc()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::SigningKey;

    fn now() -> DateTime<Utc> {
        "2026-11-21T03:00:00Z".parse().unwrap()
    }

    fn line(key: &SigningKey, options: &str) -> String {
        format!("worker@a {options} {}\n", key.public_openssh().unwrap())
    }

    #[test]
    fn only_the_allowed_namespace_key_and_document() {
        let (key, other) = (SigningKey::generate("worker"), SigningKey::generate("other"));
        let signers = AllowedSigners::parse(&line(&key, "namespaces=\"tenure-manifest,tenure-key\"")).unwrap();
        let signature = key.sign(Namespace::Manifest, b"doc").unwrap();
        assert_eq!(signers.verify(Namespace::Manifest, b"doc", signature.as_bytes(), now()).unwrap().principal, "worker@a");
        assert!(matches!(
            signers.verify(Namespace::Manifest, b"dog", signature.as_bytes(), now()),
            Err(SignatureError::Mismatch(_))
        ));
        assert!(matches!(
            signers.verify(Namespace::Key, b"doc", signature.as_bytes(), now()),
            Err(SignatureError::Namespace { .. })
        ));
        let root = key.sign(Namespace::Root, b"doc").unwrap();
        assert!(matches!(
            signers.verify(Namespace::Root, b"doc", root.as_bytes(), now()),
            Err(SignatureError::NotAllowed { .. })
        ));
        let foreign = other.sign(Namespace::Manifest, b"doc").unwrap();
        assert!(matches!(
            signers.verify(Namespace::Manifest, b"doc", foreign.as_bytes(), now()),
            Err(SignatureError::NotAllowed { .. })
        ));
    }

    #[test]
    fn every_other_spelling_of_a_signature_is_bad() {
        let key = SigningKey::generate("worker");
        let signers = AllowedSigners::parse(&line(&key, "namespaces=\"tenure-manifest\"")).unwrap();
        let good = key.sign(Namespace::Manifest, b"doc").unwrap();
        for bad in
            [format!("{good}\n"), format!(" {good}"), good.replace('\n', "\r\n"), good.trim_end().to_owned(), String::new()]
        {
            assert!(signers.verify(Namespace::Manifest, b"doc", bad.as_bytes(), now()).is_err());
        }
        // An SSHSIG of version 0, which nothing in it contradicts.
        let older = good.replacen("\nU1NIU0lHAAAAAQ", "\nU1NIU0lHAAAAAA", 1);
        assert_ne!(older, good);
        assert!(matches!(
            signers.verify(Namespace::Manifest, b"doc", older.as_bytes(), now()),
            Err(SignatureError::NotCanonical)
        ));
        for at in 0..good.len() {
            let mut bad = good.clone().into_bytes();
            bad[at] ^= 1;
            assert!(signers.verify(Namespace::Manifest, b"doc", &bad, now()).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_revoked_key_counts_for_what_is_older() {
        let key = SigningKey::generate("worker");
        let signers = AllowedSigners::parse(&line(&key, "namespaces=\"tenure-manifest\",valid-before=\"20261121Z\"")).unwrap();
        let good = key.sign(Namespace::Manifest, b"doc").unwrap();
        assert!(signers.verify(Namespace::Manifest, b"doc", good.as_bytes(), now()).is_err());
        assert!(signers.verify(Namespace::Manifest, b"doc", good.as_bytes(), "2026-11-20T23:59:59Z".parse().unwrap()).is_ok());
    }

    #[test]
    fn lines_that_allow_too_much_or_are_not_understood() {
        let key = SigningKey::generate("worker");
        for options in [
            "",
            "cert-authority,namespaces=\"tenure-manifest\"",
            "namespaces=tenure-manifest",
            "unknown=\"x\",namespaces=\"a\"",
            "valid-before=\"20261121\",namespaces=\"a\"",
            "valid-before=\"20261121Z\",namespaces=\"a\",valid-before=\"20991121Z\"",
        ] {
            let error = AllowedSigners::parse(&format!("# comment\n\n{}", line(&key, options))).unwrap_err();
            assert_eq!(error.line, 3, "{options}");
        }
        assert!(AllowedSigners::parse(&line(&key, "namespaces=\"a\"").replace("worker@a", "*")).is_err());
    }
}
