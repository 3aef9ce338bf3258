//! Documents of the vault and the keyring, and the names that they lie under.

use serde::{Serialize, de::DeserializeOwned};
use tenure::{
    backup_id::BackupId,
    format::{
        act::Act,
        description::Description,
        index_page::IndexPage,
        key_record::{KeyRecord, Rewrapping},
        manifest::Manifest,
        plan::{Milestone, Plan},
        record::Source,
        root::{KeyringRoot, VaultRoot},
    },
    object_name::ObjectName,
    operation::restore::content::Content,
    signed,
};

use super::{golden, golden_all, golden_plaintexts, mutate::each};

/// Reads a document; what is read must be printed as something that reads the same.
fn stable<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<T> {
    let value: T = signed::parse(bytes, "x").ok()?;
    let printed = serde_json::to_vec(&value).unwrap();
    let again: T = signed::parse(&printed, "x").unwrap_or_else(|error| panic!("{:?}", std::error::Error::source(&error)));
    assert_eq!(serde_json::to_vec(&again).unwrap(), printed);
    Some(value)
}

#[test]
fn manifests() {
    each("documents::manifests", 1_000, &golden_all("/b/", ".json"), |bytes| {
        let manifest = stable::<Manifest>(bytes);
        if let Some(manifest) = &manifest {
            let _ = manifest.keep.expiry(manifest.taken_at) == manifest.expires_at;
            manifest.description.iter().for_each(|entry| drop(entry.check()));
        }
        manifest.is_some()
    });
}

#[test]
fn index_pages() {
    each("documents::index_pages", 1_000, &golden_all("/p/", ""), |bytes| {
        let Some(page) = stable::<IndexPage>(bytes) else { return false };
        let is_good = page.check().is_ok();
        let tags: Vec<_> = page.entries.iter().flat_map(|entry| &entry.parts).map(|part| part.source).collect();
        // What is accepted can be added up, and was looked at.
        if let Ok(content) = Content::new(page.entries) {
            assert!(is_good);
            tags.iter().for_each(|tag| assert!(content.recorded(*tag).is_ok()));
        }
        true
    });
}

#[test]
fn key_records() {
    each("documents::key_records", 1_000, &golden_all("keyring/t/", ".json"), |bytes| {
        let record = stable::<KeyRecord>(bytes);
        if let Some(record) = &record {
            drop(tenure::seal::TenantRecipient::parse(&record.recipient));
            assert!((1..=63).contains(&record.tenant.as_str().len()));
        }
        record.is_some()
    });
}

#[test]
fn small_documents() {
    let mut corpus = golden_all("/s/", ".json");
    corpus.extend([golden("vault/vault.json"), golden("keyring/keyring.json")]);
    corpus.push(br#"{"format":1,"installation":"fdf11d02db7cca539bf39eb7ee43f491","key_id":"11d259abb54c98c6e6eeb5d2b248ed9d","name_tag":"6da54407ce192d441339ac07ccefb53d0533b02b4d9502221aca555c18377ad5","wrapping":2,"sha256":"a7fb0d31b83e98d9b532e8f4b2850490a95f6efa1987b2f90a3cce5354754bd4","created_at":"2026-11-22T02:14:16Z"}"#.to_vec());
    for document in [
        r#"{"format":1,"installation":"fdf11d02db7cca539bf39eb7ee43f491","id":"11d259abb54c98c6e6eeb5d2b248ed9d","name_tag":"6da54407ce192d441339ac07ccefb53d0533b02b4d9502221aca555c18377ad5","act":{"act":"keys","change":"rewrap"},"lockers":[{"locker":"fdf11d02db7cca539bf39eb7ee43f491","cluster":null,"keys":["11d259abb54c98c6e6eeb5d2b248ed9d"],"manifests":0,"backups":[]}],"created_at":"2026-11-22T02:14:16Z","bound":{"recipients":["age1x"]}}"#,
        r#"{"format":1,"installation":"fdf11d02db7cca539bf39eb7ee43f491","plan":"11d259abb54c98c6e6eeb5d2b248ed9d","what":"cancelled","at":"2026-11-22T02:14:16Z"}"#,
        r#"{"format":1,"installation":"fdf11d02db7cca539bf39eb7ee43f491","id":"11d259abb54c98c6e6eeb5d2b248ed9d","command":"purge","plan":null,"started_at":"2026-11-22T02:14:16Z","ended_at":"2026-11-22T02:14:16Z","outcome":"refused","lockers":[],"certificate":null,"about":["6da54407ce192d441339ac07ccefb53d0533b02b4d9502221aca555c18377ad5"],"reason":"on-hold"}"#,
    ] {
        assert!(
            stable::<Plan>(document.as_bytes()).is_some()
                || stable::<Milestone>(document.as_bytes()).is_some()
                || stable::<Act>(document.as_bytes()).is_some()
        );
        corpus.push(document.as_bytes().to_vec());
    }
    each("documents::small_documents", 2_000, &corpus, |bytes| {
        let read = [
            stable::<Source>(bytes).is_some(),
            stable::<VaultRoot>(bytes).is_some(),
            stable::<KeyringRoot>(bytes).is_some(),
            stable::<Rewrapping>(bytes).is_some(),
            stable::<Plan>(bytes).is_some(),
            stable::<Milestone>(bytes).is_some(),
            stable::<Act>(bytes).is_some(),
        ];
        assert!(read.iter().filter(|read| **read).count() <= 1, "one document is never two things");
        read.contains(&true)
    });
}

#[test]
fn descriptions() {
    each("documents::descriptions", 1_000, &golden_plaintexts(br#"{"format""#), |bytes| stable::<Description>(bytes).is_some());
}

#[test]
fn object_names() {
    const ID: &str = "09553ac651fe7ae5b7205cf33be4b284";
    const TAG: &str = "6da54407ce192d441339ac07ccefb53d0533b02b4d9502221aca555c18377ad5";
    const BACKUP: &str = "20261122T021416Z-6dd4693d217e5f0c";
    let corpus = [
        "vault.json.sig".to_owned(),
        "signers/12".to_owned(),
        format!("t/{ID}/c/{BACKUP}/{TAG}"),
        format!("t/{ID}/p/{BACKUP}/{TAG}"),
        format!("t/{ID}/b/{BACKUP}.json"),
        format!("t/{ID}/b/{BACKUP}.void.sig"),
        format!("t/{ID}/copies/{ID}.oid.json"),
        format!("t/{TAG}/{ID}.2.json"),
        format!("erased/{TAG}/{ID}.json"),
        format!("k/{ID}.1.age"),
        format!("plans/{ID}/plan.json"),
        format!("plans/{ID}/approvals/{TAG}.sig"),
        format!("runs/2026/11/21/{ID}.json"),
        BACKUP.to_owned(),
    ]
    .map(String::into_bytes);
    each("documents::object_names", 2_000, &corpus, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let (name, id) = (text.parse::<ObjectName>(), text.parse::<BackupId>());
        let is_read = name.is_ok() || id.is_ok();
        if let Ok(name) = name {
            assert_eq!(name.to_string(), text, "one spelling only");
            let segments: Vec<&str> = text.split('/').collect();
            assert!(segments.iter().all(|segment| !["", ".", ".."].contains(segment)) && text.is_ascii(), "{text}");
        }
        if let Ok(id) = id {
            assert_eq!(id.to_string(), text);
        }
        is_read
    });
}
