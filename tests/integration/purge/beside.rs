//! A hold beside a purge: one of the two wins, and says so.

use tenure::{
    format::{
        hold::{Hold, HoldAct},
        plan::{Plan, PlannedAct, PlannedLocker},
        purge_note::{PurgeNote, Purged},
    },
    id::RecordId,
    operation::hold::{HoldReport, Holding, ReleaseReport, Which},
    store::{directory::DirectoryStore, fault::FaultStore},
};

use super::*;

async fn hold(lockers: &Lockers, tenant: &str) -> Result<HoldReport, Failure> {
    let operator = lockers.key("operator");
    let holding = Holding { vault: &lockers.vault, keyring: &lockers.keyring, operator: &operator };
    holding.hold(&tenant.parse().unwrap(), "a court asked for it", Utc::now()).await
}

async fn release(lockers: &Lockers, tenant: &str, which: Which) -> Result<ReleaseReport, Failure> {
    let operator = lockers.key("operator");
    let holding = Holding { vault: &lockers.vault, keyring: &lockers.keyring, operator: &operator };
    holding.release(&tenant.parse().unwrap(), which, Utc::now()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_stop_a_purge_until_the_last_is_released() {
    let (lockers, acme, neighbours) = three_nights().await;
    let before = stored(&lockers);
    let first = hold(&lockers, "acme").await.unwrap();
    let second = hold(&lockers, "acme").await.unwrap();
    assert_eq!(second.others, std::slice::from_ref(&first.hold));
    let held = stored(&lockers);
    for _ in 0..2 {
        let (code, document, said) = program(&lockers, &["purge", "acme", "--confirm", "acme"]);
        assert_eq!((code, &document["error"]["kind"]), (4, &"on-hold".into()), "{document}{said}");
        for id in [&first.hold, &second.hold] {
            assert!(document["error"]["message"].as_str().unwrap().contains(id.as_str()), "{document}");
        }
        assert_eq!(stored(&lockers), held);
    }
    assert!(!lockers.folder().join("vault/plans").exists(), "not even a plan");
    // Reasons are sealed: they stand nowhere in clear, and only who has the identity reads them.
    assert!(!held.values().any(|Content(bytes)| bytes.windows(5).any(|part| part == b"court")));
    let (_, listed, _) = program(&lockers, &["list", "acme"]);
    assert_eq!((listed["holds"].as_array().unwrap().len(), &listed["holds"][0]["reason"]), (2, &serde_json::Value::Null));
    let (code, shown, said) = program(&lockers, &["show", "acme", "latest"]);
    assert_eq!((code, &shown["holds"][0]["hold"]), (0, &first.hold.as_str().into()), "{shown}{said}");
    let keys = lockers.keyring.keys(&acme.record.tenant).await.unwrap().unwrap();
    let opened =
        tenure::operation::hold::held_by(&lockers.vault, &lockers.keyring, &keys, Some(&lockers.identity())).await.unwrap().0;
    assert_eq!(opened[1].reason.as_deref(), Some("a court asked for it"));
    assert!(opened.iter().all(|held| held.reason.is_some()));

    // Several: which one must be said.
    for (code, arguments) in [
        (2, &["release", "acme"][..]),
        (1, &["release", "acme", "--hold", "00112233445566778899aabbccddeeff"]),
        (1, &["release", "acme2"]),
        (1, &["release", "nobody"]),
        (2, &["hold", "acme"]),
    ] {
        let (found, document, said) = program(&lockers, arguments);
        assert_eq!(found, code, "{arguments:?}: {document}{said}");
        assert_eq!(stored(&lockers), held, "{arguments:?}");
    }
    let (code, document, said) = program(&lockers, &["release", "acme", "--hold", &first.hold]);
    assert_eq!((code, &document["remaining"][0]), (0, &second.hold.as_str().into()), "{document}{said}");
    assert_eq!(purge(&lockers, "acme").await.unwrap_err().kind, "on-hold");
    let (code, document, _) = program(&lockers, &["release", "acme"]);
    assert_eq!((code, document["released"].as_array().unwrap().len()), (0, 1), "{document}");
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
    only_notes_are_left(&lockers, &acme, &before);
    assert!(hold(&lockers, "acme").await.is_err_and(|error| error.class == FailureClass::Refused));
    let (tenant, night) = &neighbours[0];
    lockers.opens(tenant, night).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_nobody_can_read_holds_and_nobody_releases_it() {
    let (lockers, acme, _) = three_nights().await;
    hold(&lockers, "acme").await.unwrap();
    let readable = hold(&lockers, "acme").await.unwrap();
    let bad = stored(&lockers).into_keys().find(|name| {
        name.contains(&format!("t/{}/h/", acme.locker())) && name.ends_with(".json") && !name.contains(&readable.hold)
    });
    let bad = lockers.folder().join(bad.unwrap());
    let good = std::fs::read(&bad).unwrap();
    std::fs::write(&bad, "{}").unwrap();
    let (code, document, said) = program(&lockers, &["release", "acme", "--all"]);
    assert_eq!((code, document["unreadable"].as_array().unwrap().len()), (5, 1), "{document}{said}");
    assert_eq!(release(&lockers, "acme", Which::All).await.unwrap_err().class, FailureClass::Integrity);
    assert_eq!(purge(&lockers, "acme").await.unwrap_err().kind, "on-hold");
    let (code, listed, _) = program(&lockers, &["list", "acme"]);
    assert_eq!(code, 5, "{listed}");
    std::fs::write(&bad, good).unwrap();
    release(&lockers, "acme", Which::Only).await.unwrap();
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
}

/// A plan and a note, as a purge leaves them that was killed right after its notes.
async fn noted(lockers: &Lockers, tenant: &Tenant) {
    let (id, created_at) = (RecordId::random(), Utc::now());
    let locker = PlannedLocker {
        locker: tenant.locker(),
        cluster: Some("here".to_owned()),
        keys: vec![tenant.record.key_id],
        manifests: 3,
        backups: Vec::new(),
    };
    let (installation, name_tag) = (lockers.installation(), tenant.record.name_tag);
    let plan = Plan { format: 1, installation, id, name_tag, act: PlannedAct::PurgeAll, lockers: vec![locker], created_at };
    lockers.vault.put_plan(&plan, &lockers.key("operator")).await.unwrap();
    let purged = Purged::All { keys: vec![tenant.record.key_id] };
    let note = PurgeNote { format: 1, installation, locker: tenant.locker(), id, name_tag, purged, created_at };
    lockers.vault.put_purge_note(&note, &lockers.key("eraser")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_after_the_note_comes_too_late() {
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    noted(&lockers, &acme).await;
    let noted = stored(&lockers);
    let (code, document, said) = program(&lockers, &["hold", "acme", "--reason", "too late"]);
    assert_eq!(code, 4, "{document}{said}");
    assert_eq!(stored(&lockers), noted);
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
    only_notes_are_left(&lockers, &acme, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_comes_while_a_hold_is_written_wins_and_the_hold_is_taken_back() {
    let (lockers, acme, _) = three_nights().await;
    let prepared = Arc::new(stores_with(&lockers, &acme, true).await);
    let vault = fault_once(&lockers, "/h/", prepared).await;
    let (vault, keyring) = lockers.through(vault, open(&lockers, "keyring").await, vec![open(&lockers, "mirror").await]).await;
    let operator = lockers.key("operator");
    let holding = Holding { vault: &vault, keyring: &keyring, operator: &operator };
    let late = holding.hold(&"acme".parse().unwrap(), "late", Utc::now()).await.unwrap_err();
    assert_eq!((late.class, late.kind), (FailureClass::Refused, "too-late"), "{late:?}");
    assert!(!vault.holds(acme.locker()).await.unwrap().is_held(), "it was taken back");
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_comes_while_the_note_is_written_stops_the_purge() {
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    let prepared = Arc::new(stores_with(&lockers, &acme, false).await);
    let vault = fault_once(&lockers, "1-noted", prepared).await;
    let (vault, keyring) = lockers.through(vault, open(&lockers, "keyring").await, vec![open(&lockers, "mirror").await]).await;
    let held = purge_in(&lockers, (&vault, &keyring), ("acme", What::All), true, Utc::now()).await.unwrap_err();
    assert_eq!((held.class, held.kind), (FailureClass::Refused, "on-hold"), "{held:?}");
    let left = stored(&lockers);
    assert!(before.iter().all(|(name, bytes)| left.get(name) == Some(bytes)), "nothing was destroyed");
    let (code, document, said) = program(&lockers, &["list", "acme"]);
    assert_eq!((code, &document["error"]["kind"]), (4, &"tenant-purged".into()), "{document}{said}");
    let report = release(&lockers, "acme", Which::Only).await.unwrap();
    assert!(report.notes[0].contains("tenure purge acme"), "{report:?}");
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
    only_notes_are_left(&lockers, &acme, &before);
}

async fn open(lockers: &Lockers, name: &str) -> Arc<dyn tenure::store::Store> {
    Arc::new(DirectoryStore::open(&lockers.folder().join(name)).await.unwrap())
}

/// The files of a note, or of a hold, by their place in the vault. Nothing of it is left there.
async fn stores_with(lockers: &Lockers, tenant: &Tenant, note: bool) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let before = stored(lockers);
    if note {
        let (id, created_at, purged) = (RecordId::random(), Utc::now(), Purged::All { keys: vec![tenant.record.key_id] });
        let (installation, name_tag, locker) = (lockers.installation(), tenant.record.name_tag, tenant.locker());
        let note = PurgeNote { format: 1, installation, locker, id, name_tag, purged, created_at };
        lockers.vault.put_purge_note(&note, &lockers.key("eraser")).await.unwrap();
    } else {
        let act = HoldAct::Placed { reason: "sealed".to_owned() };
        let (installation, locker) = (lockers.installation(), tenant.locker());
        let hold = Hold { format: 1, installation, locker, id: RecordId::random(), act, created_at: Utc::now() };
        lockers.vault.put_hold(&hold, &lockers.key("operator")).await.unwrap();
    }
    let new = stored(lockers).into_iter().filter(|(name, _)| !before.contains_key(name));
    let files: Vec<_> = new.map(|(name, Content(bytes))| (lockers.folder().join(name), bytes)).collect();
    files.iter().for_each(|(path, _)| std::fs::remove_file(path).unwrap());
    files
}

/// A vault in which these files appear right before the first call on a name with `part`.
async fn fault_once(lockers: &Lockers, part: &'static str, files: Arc<Vec<(std::path::PathBuf, Vec<u8>)>>) -> Arc<FaultStore> {
    let store = FaultStore::new(open(lockers, "vault").await);
    let appear = move |called, name: &str| {
        if called == tenure::store::fault::Operation::Put && name.contains(part) {
            for (path, bytes) in files.iter() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
        }
        false
    };
    store.fail_where(appear, 1, tenure::store::fault::Fault::Lost);
    Arc::new(store)
}
