//! Signatures, keys, and the file that says who may sign.

use chrono::{DateTime, Utc};
use ssh_key::{LineEnding, SshSig};
use tenure::signature::{AllowedSigners, Namespace, SignatureError, SigningKey};

use super::{golden, golden_all, mutate::each};

fn now() -> DateTime<Utc> {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn key() -> SigningKey {
    SigningKey::parse(&golden("keys/worker")).unwrap()
}

fn signers() -> AllowedSigners {
    AllowedSigners::parse(&String::from_utf8(golden("allowed_signers")).unwrap()).unwrap()
}

#[test]
fn a_changed_document_never_verifies() {
    let (signers, document) = (signers(), golden_all("/b/", ".json").remove(0));
    let signature = key().sign(Namespace::Manifest, &document).unwrap();
    each("signatures::a_changed_document_never_verifies", 1_500, std::slice::from_ref(&document), |bytes| {
        let verified = signers.verify(Namespace::Manifest, bytes, signature.as_bytes(), now());
        assert_eq!(verified.is_ok(), bytes == document);
        // Every one is compared with the signature.
        matches!(verified, Ok(_) | Err(SignatureError::Mismatch(_)))
    });
}

#[test]
fn a_changed_signature_never_verifies() {
    let (signers, document) = (signers(), b"document");
    let signature = key().sign(Namespace::Manifest, document).unwrap().into_bytes();
    each("signatures::a_changed_signature_never_verifies", 3_000, std::slice::from_ref(&signature), |bytes| {
        let verified = signers.verify(Namespace::Manifest, document, bytes, now());
        assert_eq!(verified.is_ok(), bytes == signature);
        // Whatever is wrong with it, it is looked at only in its one spelling.
        let is_canonical = !matches!(verified, Err(SignatureError::Malformed(_) | SignatureError::NotCanonical));
        if is_canonical {
            assert_eq!(SshSig::from_pem(bytes).unwrap().to_pem(LineEnding::LF).unwrap().as_bytes(), bytes);
        }
        is_canonical
    });
}

#[test]
fn allowed_signers() {
    let mut corpus = golden_all("/signers/", "1");
    corpus.push(golden("allowed_signers"));
    let dated = String::from_utf8(golden("allowed_signers")).unwrap();
    corpus.push(
        dated.replace(" namespaces=", " valid-after=\"20200101Z\",valid-before=\"203001010000Z\",namespaces=").into_bytes(),
    );
    let signature = key().sign(Namespace::Manifest, b"document").unwrap();
    each("signatures::allowed_signers", 3_000, &corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let Ok(signers) = AllowedSigners::parse(&text) else { return false };
        assert_eq!(signers.text(), text);
        for (principal, key) in signers.keys_for(Namespace::Manifest) {
            assert!(!principal.contains(['*', '?', '!', ',']) && key.starts_with("ssh-ed25519 "), "{principal} {key}");
            assert!(text.contains("tenure-manifest"), "allowed only where it is said");
        }
        drop(signers.verify(Namespace::Manifest, b"document", signature.as_bytes(), now()));
        true
    });
}

#[test]
fn private_keys() {
    each("signatures::private_keys", 2_000, &golden_all("/keys/", "worker"), |bytes| {
        let key = SigningKey::parse(bytes);
        if let Ok(key) = &key {
            // A public half that does not fit the secret one would give the secret away with its first signature.
            let line = format!("x namespaces=\"tenure-run\" {}", key.public_openssh().unwrap());
            if let Ok(signers) = AllowedSigners::parse(&line) {
                assert!(signers.check(key, Namespace::Run, now()).is_ok());
            }
        }
        key.is_ok()
    });
}
