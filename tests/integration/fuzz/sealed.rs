//! What is encrypted: chunks, wrapped keys, identity files.

use secrecy::ExposeSecret as _;
use tenure::{
    operation::init::kit::Kit,
    seal::{RecoveryIdentity, open},
};

use super::{GoldenChunk, golden, golden_all, golden_chunks, mutate::each};

#[test]
fn chunks() {
    let GoldenChunk { key, sealed, plain } = golden_chunks(b"PGDMP").remove(0);
    let length = plain.len() as u64;
    each("sealed::chunks", 2_000, std::slice::from_ref(&sealed), |bytes| {
        if let Ok(opened) = open(&key, bytes, length) {
            assert!(opened == plain, "it opens to something else");
        }
        let is_age = bytes.starts_with(b"age-encryption.org/v1\n-> ");
        // Whatever the index says of its length, nothing is allocated by it.
        assert!(open(&key, bytes, u64::from_le_bytes(bytes.first_chunk().copied().unwrap_or([255; 8])) | 1 << 40).is_err());
        is_age
    });
}

#[test]
fn wrapped_keys() {
    let recovery = RecoveryIdentity::parse(&golden("recovery-kit.txt"), age::NoCallbacks).unwrap();
    let wrapped = golden_all("/k/", ".age").remove(0);
    let expected = recovery.unwrap(&wrapped).unwrap().recipient().to_string();
    each("sealed::wrapped_keys", 2_000, &[wrapped], |bytes| {
        if let Ok(opened) = recovery.unwrap(bytes) {
            assert_eq!(opened.recipient().to_string(), expected, "it opens to another key");
        }
        bytes.starts_with(b"age-encryption.org/v1\n-> ")
    });
}

#[test]
fn identity_files_and_recovery_kits() {
    let mut corpus = golden_all("recovery-kit", ".txt");
    corpus.push(b"AGE-SECRET-KEY-1QQ\n".to_vec());
    corpus.push(golden_all("/k/", ".age").remove(0));
    each("sealed::identity_files_and_recovery_kits", 3_000, &corpus, |bytes| {
        let is_read = RecoveryIdentity::parse(bytes, age::NoCallbacks).is_ok();
        if let Ok(kit) = Kit::parse(&String::from_utf8_lossy(bytes)) {
            let printed = kit.to_text(None);
            let again = Kit::parse(printed.expose_secret()).unwrap();
            // Control characters are printed escaped, once.
            let host = tenure::printable::Printable(&kit.host).to_string();
            assert_eq!(again, Kit { host, ..kit });
            let secrets = printed.expose_secret().lines().filter(|line| !line.starts_with('#')).count();
            assert_eq!(secrets, 0, "everything is a comment");
        }
        is_read
    });
    assert!(Kit::parse(&String::from_utf8(golden("recovery-kit.txt")).unwrap()).is_ok());
}
