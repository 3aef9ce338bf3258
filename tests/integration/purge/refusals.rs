//! What a purge refuses, with everything as it was.

use tenure::{
    object_name::{Document, ObjectName},
    store::{
        Store, StoreErrorKind,
        directory::DirectoryStore,
        fault::{Fault, FaultStore, Operation},
    },
};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_purged_who_was_not_named_twice() {
    let (lockers, ..) = three_nights().await;
    let before = stored(&lockers);
    for (code, kind, arguments) in [
        (4, "not-confirmed", &["purge", "acme"][..]),
        (4, "not-confirmed", &["purge", "acme", "--confirm", "acme2"]),
        (4, "not-confirmed", &["purge", "acme", "--confirm", ""]),
        (1, "unknown-tenant", &["purge", "acme3", "--confirm", "acme3"]),
        (2, "usage", &["purge"]),
        (2, "usage", &["purge", "acme", "--before", "2026-11-02"]),
    ] {
        let (found, document, said) = program(&lockers, arguments);
        assert_eq!((found, &document["error"]["kind"]), (code, &kind.into()), "{arguments:?}: {document}{said}");
        assert_eq!(stored(&lockers), before, "{arguments:?}");
    }
    let (code, document, said) = program(&lockers, &["purge", "acme", "--dry-run"]);
    assert_eq!((code, &document["backups"], &document["plan"]), (0, &3.into(), &serde_json::Value::Null), "{document}");
    assert!(said.starts_with("purge: all 3 backups of acme (2026-11-01 – 2026-11-03, "), "{said}");
    assert!(said.contains(") and its keys; the live database stays\n"), "{said}");
    assert_eq!(stored(&lockers), before);
    assert!(!lockers.folder().join("vault/plans").exists());
    assert_eq!(
        files(&lockers.folder().join("vault/runs")).len(),
        6,
        "who confirmed nothing was refused three times, and that is signed"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_typed_lets_go_of_no_more_than_was_asked_for() {
    let (lockers, ..) = three_nights().await;
    let all = stored(&lockers);
    let hint = |arguments: &[&str]| {
        let (code, document, said) = program(&lockers, arguments);
        assert_eq!(code, 4, "{arguments:?}: {document}{said}");
        document["error"]["hint"].as_str().unwrap().to_owned()
    };
    let before = ["purge", "acme", "--before", "2026-11-02T00:00:00Z"];
    assert!(hint(&before).contains("`tenure purge acme --before 2026-11-02T00:00:00Z --confirm acme`"));
    assert_eq!(program(&lockers, &["hold", "acme", "--reason", "a law suit"]).0, 0);
    let held = hint(&[&before[..], &["--confirm", "acme"]].concat());
    assert!(held.contains("run `tenure purge acme --before 2026-11-02T00:00:00Z` again"), "{held}");
    assert_eq!(program(&lockers, &["release", "acme"]).0, 0);
    program(&lockers, &["purge", "acme", "--confirm", "acme"]);
    assert!(before::put_back(&lockers, &all, |_| true) > 0);
    assert!(hint(&["purge", "acme", "--returned"]).contains("`tenure purge acme --returned --confirm acme`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_not_to_be_trusted_stops_it() {
    let (lockers, ..) = three_nights().await;
    let other = Lockers::new().await;
    let mut theirs = other.tenant("acme", at("2026-11-01")).await;
    other.night(&mut theirs, at("2026-11-01"), &[]).await;
    // Left open by them.
    let report = purge_in(&other, (&other.vault, &other.keyring), ("acme", What::All), false, Utc::now()).await.unwrap();
    let plan = format!("vault/plans/{}", report.plan.unwrap());
    std::fs::create_dir_all(lockers.folder().join(&plan)).unwrap();
    for file in ["plan.json", "plan.json.sig"] {
        std::fs::copy(other.folder().join(&plan).join(file), lockers.folder().join(&plan).join(file)).unwrap();
    }
    let before = stored(&lockers);
    let (code, document, said) = program(&lockers, &["purge", "acme", "--confirm", "acme"]);
    assert_eq!(code, 5, "{document}{said}");
    assert!(document["error"]["object"].as_str().unwrap().contains("/plans/"), "{document}");
    assert_eq!(stored(&lockers), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoilt_note_or_manifest_keeps_nothing_from_going() {
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    let manifest =
        before.keys().find(|name| name.contains("/b/") && name.ends_with(".json") && of(&lockers, &acme)(name)).unwrap();
    std::fs::write(lockers.folder().join(manifest), "{}").unwrap();
    let vault: Arc<dyn Store> = Arc::new(DirectoryStore::open(&lockers.folder().join("vault")).await.unwrap());
    let vault = Arc::new(FaultStore::new(vault));
    vault.fail(Operation::Put, "2-destroying", 1, Fault::Refused(StoreErrorKind::Unavailable));
    let (faulty, keyring) = lockers.through(vault, lockers_store(&lockers, "keyring").await, Vec::new()).await;
    let failed = purge_in(&lockers, (&faulty, &keyring), ("acme", What::All), true, Utc::now()).await.unwrap_err();
    assert_eq!(failed.class, FailureClass::Failed, "{failed:?}");
    let note = stored(&lockers).into_keys().find(|name| name.contains("/gone/") && name.ends_with(".json")).unwrap();
    std::fs::write(lockers.folder().join(&note), "{}").unwrap();
    // Nobody knows what it said: everybody stops, and says where.
    for arguments in [&["list", "acme"][..], &["restore", "acme", "--identity", "recovery-kit.txt", "--into", "x"]] {
        let (code, document, said) = program(&lockers, arguments);
        assert_eq!(code, 5, "{arguments:?}: {document}{said}");
        assert!(document["error"]["object"].as_str().unwrap().contains("/gone/"), "{document}");
    }
    let (code, document, _) = program(&lockers, &["verify", "--all"]);
    assert_eq!(code, 5, "{document}");
    let failed = purge(&lockers, "acme").await.unwrap_err();
    assert!(failed.object.contains("/gone/"), "what was changed is not written over: {failed:?}");
    std::fs::remove_file(lockers.folder().join(&note)).unwrap();
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
    only_notes_are_left(&lockers, &acme, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_delete_is_told_so_and_the_next_one_finishes() {
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    let denied = async |name: &str| {
        let store = Arc::new(FaultStore::new(lockers_store(&lockers, name).await));
        (0..200).for_each(|nth| store.fail(Operation::Delete, "", nth + 1, Fault::Refused(StoreErrorKind::Denied)));
        store
    };
    let run = async |vault: Arc<dyn Store>, keyring: Arc<dyn Store>, mirror: Arc<dyn Store>| {
        let (vault, keyring) = lockers.through(vault, keyring, vec![mirror]).await;
        purge_in(&lockers, (&vault, &keyring), ("acme", What::All), true, Utc::now()).await
    };
    let open = async |name| lockers_store(&lockers, name).await;
    let failed = run(open("vault").await, denied("keyring").await, denied("mirror").await).await.unwrap_err();
    assert_eq!((failed.class, failed.kind), (FailureClass::Failed, "keys-not-destroyed"), "{failed:?}");
    assert!(stored(&lockers).keys().any(|name| name.contains("/b/") && of(&lockers, &acme)(name)), "nothing else was removed");
    let report = run(denied("vault").await, open("keyring").await, denied("mirror").await).await.unwrap();
    let kinds: Vec<_> = report.open.iter().map(|item| item.kind).collect();
    assert_eq!((report.status, kinds), (PurgeStatus::Requested, vec!["key-copy", "not-removed"]), "{report:?}");
    let report = run(denied("vault").await, open("keyring").await, open("mirror").await).await.unwrap();
    assert_eq!(report.status, PurgeStatus::KeysDestroyed, "{report:?}");
    let report = run(open("vault").await, open("keyring").await, open("mirror").await).await.unwrap();
    assert_eq!(report.status, PurgeStatus::Closed, "{report:?}");
    only_notes_are_left(&lockers, &acme, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_away_is_an_open_item_and_everything_else_goes() {
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    let (mirror, away) = (lockers.folder().join("mirror"), lockers.folder().join("away"));
    std::fs::rename(&mirror, &away).unwrap();
    let (code, document, said) = program(&lockers, &["purge", "acme", "--confirm", "acme"]);
    assert_eq!((code, &document["status"]), (3, &"requested".into()), "{document}{said}");
    let open: Vec<&str> = document["open"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap()).collect();
    assert_eq!(open, ["key-copy", "last-look"], "{document}");
    assert_eq!(document["key_copies"][1]["destroyed_at"], serde_json::Value::Null, "{document}");
    let left = stored(&lockers);
    assert!(left.keys().filter(|name| of(&lockers, &acme)(name)).all(|name| name.contains("/gone/")), "{:?}", left.keys());
    // Nothing new begins while a copy of the old key may be anywhere.
    std::fs::rename(&away, &mirror).unwrap();
    let report = purge(&lockers, "acme").await.unwrap();
    assert_eq!((report.status, report.plan), (PurgeStatus::Closed, document["plan"].as_str().map(str::to_owned)));
    only_notes_are_left(&lockers, &acme, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_lacks_a_key_is_given_up() {
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    let vault = Arc::new(FaultStore::new(lockers_store(&lockers, "vault").await));
    vault.fail(Operation::Put, "/gone/", 1, Fault::Refused(StoreErrorKind::Unavailable));
    let stores = (lockers_store(&lockers, "keyring").await, lockers_store(&lockers, "mirror").await);
    let (faulty, keyring) = lockers.through(vault, stores.0, vec![stores.1]).await;
    purge_in(&lockers, (&faulty, &keyring), ("acme", What::All), true, Utc::now()).await.unwrap_err();
    let new = lockers.keyring.begin_key(&acme.record.tenant, acme.locker(), 2, &lockers.recipients, Utc::now()).await.unwrap();
    let newer = lockers.keyring.publish_key(new, &lockers.key("operator")).await.unwrap();
    let void = purge(&lockers, "acme").await.unwrap_err();
    assert_eq!((void.class, void.kind), (FailureClass::Refused, "plan-void"), "{void:?}");
    assert!(lockers.key_ids("acme").await.contains(&newer.key_id), "nothing was destroyed");
    let name = ObjectName::Document(Document::KeyRecord(newer.name_tag, newer.key_id)).to_string();
    let report = purge(&lockers, "acme").await.unwrap();
    assert_eq!(report.status, PurgeStatus::Closed, "{report:?}");
    assert!(!stored(&lockers).keys().any(|left| left.ends_with(&name) || left.contains(&newer.key_id.to_string())));
    only_notes_are_left(&lockers, &acme, &before);
}

pub async fn lockers_store(lockers: &Lockers, name: &str) -> Arc<dyn Store> {
    Arc::new(DirectoryStore::open(&lockers.folder().join(name)).await.unwrap())
}

/// At a terminal: the name is typed, and nothing else will do.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_at_a_terminal_is_asked() {
    use std::io::Write as _;
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    for (typed, code) in [("yes\n", 4), ("acme2\n", 4), ("\n", 4), ("acme\n", 3)] {
        let mut child = std::process::Command::new("script")
            .args(["--quiet", "--return", "--command", &format!("{} purge acme", env!("CARGO_BIN_EXE_tenure")), "/dev/null"])
            .current_dir(lockers.folder())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{typed:?}: {said}");
        assert!(said.contains("purge: all 3 backups of acme (2026-11-01 – 2026-11-03, "), "{said}");
        assert!(said.contains("type the name of the tenant to go on (acme): "), "{said}");
        if code == 4 {
            assert_eq!(stored(&lockers), before, "{typed:?}");
        }
    }
    only_notes_are_left(&lockers, &acme, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_that_restores_made_of_it_are_named_and_stay() {
    use tenure::format::record::{Copy, CopyOid};
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    let (installation, locker, restorer) = (lockers.installation(), acme.locker(), lockers.key("restorer"));
    let ids = [tenure::id::RecordId::random(), tenure::id::RecordId::random()];
    let backup = tenure::backup_id::BackupId::new(at("2026-11-02"));
    for id in ids {
        let copy = Copy {
            format: 1,
            installation,
            locker,
            id,
            backup,
            cluster: "here".to_owned(),
            system_identifier: "7".to_owned(),
            built_as: "tenure_0a0a".to_owned(),
            created_at: at("2026-11-03"),
        };
        lockers.vault.put_copy(&copy, &restorer).await.unwrap();
    }
    let oid = CopyOid { format: 1, installation, locker, id: ids[0], system_identifier: "7".to_owned(), database_oid: 70_001 };
    lockers.vault.put_copy_oid(&oid, &restorer).await.unwrap();
    let (code, document, said) = program(&lockers, &["purge", "acme", "--confirm", "acme"]);
    assert_eq!(code, 3, "no server has its lock: {document}{said}");
    let notes: Vec<&str> = document["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap()).collect();
    let named = |part: &str| notes.iter().filter(|note| note.contains(&backup.to_string()) && note.contains(part)).count();
    assert_eq!((named("on cluster here"), named("with OID 70001")), (2, 1), "{notes:?}");
    only_notes_are_left(&lockers, &acme, &before);
}
