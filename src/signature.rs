//! Signatures: SSHSIG with Ed25519, so that `ssh-keygen -Y verify` checks them without us.

pub mod allowed_signers;

use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

pub use allowed_signers::AllowedSigners;

use crate::id::Sha256Digest;

/// What a signature may speak for. `allowed_signers` says which key may sign in which namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// Manifests and voids: the worker's host.
    Manifest,
    /// Tenant keys: the worker (a tenant's first), an operator (rotation).
    Key,
    /// Runs, acts, sources, copies, findings: every role with its own key.
    Run,
    /// Plans: operators.
    Plan,
    /// Holds: operators.
    Hold,
    /// `vault.json` and the signers: operators.
    Root,
    /// Tombstones, withdrawals, admissions, purge notes, certificates: the eraser.
    Erasure,
}

impl Namespace {
    /// The text inside the signature.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "tenure-manifest",
            Self::Key => "tenure-key",
            Self::Run => "tenure-run",
            Self::Plan => "tenure-plan",
            Self::Hold => "tenure-hold",
            Self::Root => "tenure-root",
            Self::Erasure => "tenure-erasure",
        }
    }
}

impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A key of one role on one host. Not printable; wiped on drop.
pub struct SigningKey(PrivateKey);

/// A signing key or a signature that is not good.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// A file that is no OpenSSH private key.
    #[error("not an OpenSSH private key")]
    Key(#[source] ssh_key::Error),
    /// A key under a passphrase, which cron could not type.
    #[error("the private key is protected by a passphrase")]
    Passphrase,
    /// A key of another kind.
    #[error("the key is {0}, expected ssh-ed25519")]
    Algorithm(String),
    /// Signing failed.
    #[error("cannot sign")]
    Sign(#[source] ssh_key::Error),
    /// Bytes that are no SSHSIG.
    #[error("not an SSH signature")]
    Malformed(#[source] ssh_key::Error),
    /// More than the signature itself, or another spelling of it.
    #[error("the signature file differs from its own re-encoding")]
    NotCanonical,
    /// Made for something else.
    #[error("the signature is for {found}, expected {expected}")]
    Namespace {
        /// What it must be for.
        expected: Namespace,
        /// What it says it is for.
        found: String,
    },
    /// A key that nobody allowed, or not for this, or not at that time.
    #[error("signed by {fingerprint}, which may not sign {namespace}{}", reason.map(|r| format!(" ({r})")).unwrap_or_default())]
    NotAllowed {
        /// SHA-256 fingerprint of the key, as `ssh-keygen -l` prints it.
        fingerprint: String,
        /// What it signed.
        namespace: Namespace,
        /// More, where there is more to say.
        reason: Option<&'static str>,
    },
    /// Listed, and not there.
    #[error("it is not there any more")]
    Gone,
    /// A good signature, and not of the key that its place says.
    #[error("signed by another key than its name says")]
    AnotherKey,
    /// The document is not what was signed.
    #[error("the signature does not fit the document")]
    Mismatch(#[source] ssh_key::Error),
}

impl SigningKey {
    /// A new Ed25519 key with a comment that says whose it is.
    ///
    /// # Panics
    /// If the kernel has no randomness to give.
    #[must_use]
    pub fn generate(comment: &str) -> Self {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        getrandom::fill(&mut *seed).expect("the kernel's random generator answers");
        let pair = ssh_key::private::Ed25519Keypair::from_seed(&seed);
        let mut key = PrivateKey::from(pair);
        key.set_comment(comment);
        Self(key)
    }

    /// Reads an OpenSSH private key file's content.
    ///
    /// # Errors
    /// Another kind of file or key, or one under a passphrase.
    pub fn parse(file: &[u8]) -> Result<Self, SignatureError> {
        let key = PrivateKey::from_openssh(file).map_err(SignatureError::Key)?;
        if key.is_encrypted() {
            return Err(SignatureError::Passphrase);
        }
        if key.algorithm() != Algorithm::Ed25519 {
            return Err(SignatureError::Algorithm(key.algorithm().to_string()));
        }
        Ok(Self(key))
    }

    /// The private key file.
    ///
    /// # Errors
    /// [`SignatureError::Key`] when it cannot be encoded.
    pub fn to_openssh(&self) -> Result<zeroize::Zeroizing<String>, SignatureError> {
        self.0.to_openssh(LineEnding::LF).map_err(SignatureError::Key)
    }

    /// The public key: `ssh-ed25519 AAAA… comment`.
    ///
    /// # Errors
    /// [`SignatureError::Key`] when it cannot be encoded.
    pub fn public_openssh(&self) -> Result<String, SignatureError> {
        self.0.public_key().to_openssh().map_err(SignatureError::Key)
    }

    /// SHA-256 fingerprint of the public key, as that of a [`allowed_signers::Signer`].
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(self.0.public_key())
    }

    /// Signs `document`: the content of its `.sig`.
    ///
    /// # Errors
    /// [`SignatureError::Sign`], which does not happen with an Ed25519 key.
    pub fn sign(&self, namespace: Namespace, document: &[u8]) -> Result<String, SignatureError> {
        let signature = self.0.sign(namespace.as_str(), HashAlg::Sha512, document).map_err(SignatureError::Sign)?;
        signature.to_pem(LineEnding::LF).map_err(SignatureError::Sign)
    }
}

/// Parses a `.sig`, refusing anything that is not byte for byte its own re-encoding, or for another namespace.
fn parse_signature(namespace: Namespace, pem: &[u8]) -> Result<SshSig, SignatureError> {
    let signature = SshSig::from_pem(pem).map_err(SignatureError::Malformed)?;
    // Made anew from what was read of it, because what is signed does not cover all of the file: not its version, for one.
    let (key, parts) = (signature.public_key().clone(), signature.signature().clone());
    let again = SshSig::new(key, signature.namespace(), signature.hash_alg(), parts).map_err(SignatureError::Malformed)?;
    let again = again.to_pem(LineEnding::LF).map_err(SignatureError::Malformed)?;
    if again.as_bytes() != pem {
        return Err(SignatureError::NotCanonical);
    }
    if signature.namespace() != namespace.as_str() {
        return Err(SignatureError::Namespace { expected: namespace, found: signature.namespace().to_owned() });
    }
    Ok(signature)
}

fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// The fingerprint of a public key as OpenSSH writes it, `ssh-ed25519 AAAA… comment`; `None` for a line that is none.
#[must_use]
pub fn fingerprint_of(openssh: &str) -> Option<String> {
    PublicKey::from_openssh(openssh.trim()).ok().map(|key| fingerprint(&key))
}

/// The fingerprint as bytes.
fn key_digest(key: &PublicKey) -> Sha256Digest {
    let mut digest = Sha256Digest([0; 32]);
    digest.0.copy_from_slice(key.fingerprint(HashAlg::Sha256).as_bytes());
    digest
}
