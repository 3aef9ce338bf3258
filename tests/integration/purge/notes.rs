//! Purge notes that somebody removed or changed: they count as they were.

use tenure::{
    format::purge_note::{PurgeNote, Purged},
    signature::Namespace,
    signed,
};

use super::{before::put_back, *};

/// The note of a tenant's only purge, and its file.
async fn note_of(lockers: &Lockers, tenant: &Tenant) -> (PurgeNote, std::path::PathBuf) {
    let note = lockers.vault.gone(tenant.locker()).await.unwrap().notes.pop().unwrap();
    let file = lockers.folder().join(format!("vault/t/{}/gone/{}.json", note.locker, note.id));
    (note, file)
}

fn remove(file: &Path, with_signature: bool) {
    std::fs::remove_file(file).unwrap();
    if with_signature {
        std::fs::remove_file(file.with_extension("json.sig")).unwrap();
    }
}

/// Nothing of acme is read, held, listed or repaired, and `verify` and `check` name the note.
fn stays_closed(lockers: &Lockers, file: &Path, code: i32) {
    let name = file.strip_prefix(lockers.folder()).unwrap().to_str().unwrap();
    for arguments in [
        &["list", "acme"][..],
        &["show", "acme", "latest"],
        &["hold", "acme", "--reason", "too late"],
        &["restore", "acme", "--identity", "recovery-kit.txt", "--into", "x"],
    ] {
        let (found, document, said) = program(lockers, arguments);
        assert_eq!(found, code, "{arguments:?}: {document}{said}");
    }
    let (code, document, said) = program(lockers, &["verify", "--all"]);
    assert_eq!(code, 5, "{document}{said}");
    assert!(document["problems"].as_array().unwrap().iter().any(|problem| problem["object"].as_str().unwrap().ends_with(name)));
    let (_, document, _) = program(lockers, &["check"]);
    let found =
        document["findings"].as_array().unwrap().iter().any(|finding| finding["object"].as_str().unwrap().ends_with(name));
    assert!(found, "{document}");
    program(lockers, &["keys", "repair"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_somebody_removed_or_changed_counts_as_it_was() {
    for how in ["the note", "both", "changed"] {
        let (lockers, acme, _) = three_nights().await;
        let (before, is_its) = (stored(&lockers), of(&lockers, &acme));
        purge(&lockers, "acme").await.unwrap();
        let (note, file) = note_of(&lockers, &acme).await;
        // Old copies of vault and keyring; the mirror's is what a repair would put back.
        put_back(&lockers, &before, |name| !name.starts_with("mirror/") && is_its(name));
        remove(&file, how != "the note");
        if how == "changed" {
            let less = PurgeNote { purged: Purged::Keys { keys: Vec::new() }, ..note };
            let document = tenure::object_name::Document::Gone(less.locker, less.id);
            signed::create(lockers.vault.store(), &document, &less, Namespace::Erasure, &lockers.key("eraser")).await.unwrap();
        }
        stays_closed(&lockers, &file, 4);
        let mirrored = stored(&lockers).into_keys().find(|name| name.starts_with("mirror/") && is_its(name));
        assert_eq!(mirrored, None, "{how}: repaired what was purged");

        let report =
            purge_in(&lockers, (&lockers.vault, &lockers.keyring), ("acme", What::Returned), true, Utc::now()).await.unwrap();
        assert_eq!(report.status, PurgeStatus::Closed, "{how}: {report:?}");
        only_notes_are_left(&lockers, &acme, &before);
        let (code, document, said) = program(&lockers, &["verify", "--all"]);
        assert_eq!(code, if how == "changed" { 5 } else { 0 }, "{how}: it is written again: {document}{said}");
        // Where nothing of the locker is left at all, it is missed just the same.
        std::fs::remove_dir_all(lockers.folder().join(format!("vault/t/{}", acme.locker()))).unwrap();
        assert_eq!(program(&lockers, &["verify", "--all"]).0, 5, "{how}");
    }
}

/// Nobody knows what it said: it may have said that everything is purged.
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_whose_note_and_plan_are_gone_stands_for_all_that_the_note_might_have_said() {
    let (lockers, acme, _) = three_nights().await;
    let (before, is_its) = (stored(&lockers), of(&lockers, &acme));
    purge(&lockers, "acme").await.unwrap();
    let (_, file) = note_of(&lockers, &acme).await;
    put_back(&lockers, &before, |name| !name.starts_with("mirror/") && is_its(name));
    remove(&file, false);
    std::fs::remove_dir_all(lockers.folder().join("vault/plans")).unwrap();
    stays_closed(&lockers, &file, 5);
    assert!(!stored(&lockers).keys().any(|name| name.starts_with("mirror/") && is_its(name)));
}

/// A purge that was killed between the two writes of its note has destroyed nothing, and stops nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_is_being_written_says_nothing() {
    let (lockers, acme, _) = three_nights().await;
    let vault = Arc::new(tenure::store::fault::FaultStore::new(super::refusals::lockers_store(&lockers, "vault").await));
    vault.fail(
        tenure::store::fault::Operation::Put,
        "/gone/",
        2,
        tenure::store::fault::Fault::Refused(tenure::store::StoreErrorKind::Unavailable),
    );
    let (keyring, mirror) =
        (super::refusals::lockers_store(&lockers, "keyring").await, super::refusals::lockers_store(&lockers, "mirror").await);
    let (faulty, keyring) = lockers.through(vault, keyring, vec![mirror]).await;
    purge_in(&lockers, (&faulty, &keyring), ("acme", What::All), true, Utc::now()).await.unwrap_err();
    let gone = files(&lockers.folder().join(format!("vault/t/{}/gone", acme.locker())));
    assert!(gone.len() == 1 && gone[0].extension().is_some_and(|extension| extension == "sig"), "{gone:?}");
    let (code, document, said) = program(&lockers, &["list", "acme"]);
    assert_eq!((code, document["backups"].as_array().map(Vec::len)), (0, Some(3)), "{document}{said}");
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn older_backups_stay_purged_when_their_note_is_removed() {
    for with_signature in [false, true] {
        let (lockers, acme, _) = three_nights().await;
        let (before, is_its) = (stored(&lockers), of(&lockers, &acme));
        let both = (&lockers.vault, &lockers.keyring);
        purge_in(&lockers, both, ("acme", What::Before(at("2026-11-03"))), true, Utc::now()).await.unwrap();
        let (_, file) = note_of(&lockers, &acme).await;
        put_back(&lockers, &before, |name| name.contains("/b/") && is_its(name));
        remove(&file, with_signature);
        let (_, document, said) = program(&lockers, &["list", "acme"]);
        let counts = (document["backups"].as_array().unwrap().len(), document["purged"].as_array().unwrap().len());
        assert_eq!(counts, (1, 2), "{document}{said}");
        let (code, document, _) = program(&lockers, &["verify", "--all"]);
        assert!(code == 5 && document.to_string().contains("past writing it"), "{document}");
    }
}

/// What the eraser wrote down before it destroyed anything says the same as the marks and the plan did.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_whose_note_and_marks_or_plan_are_gone_stays_one() {
    for how in ["plan.json", "marks", "marks and their signatures"] {
        let (lockers, acme, _) = three_nights().await;
        let (before, is_its) = (stored(&lockers), of(&lockers, &acme));
        purge(&lockers, "acme").await.unwrap();
        let (_, file) = note_of(&lockers, &acme).await;
        put_back(&lockers, &before, |name| !name.starts_with("mirror/") && is_its(name));
        remove(&file, true);
        for path in files(&lockers.folder().join("vault/plans")) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let goes = match how {
                "plan.json" => name == "plan.json",
                "marks" => name.ends_with(".json") && name != "plan.json",
                _ => !name.starts_with("plan.json"),
            };
            if goes {
                std::fs::remove_file(path).unwrap();
            }
        }
        stays_closed(&lockers, &file, if how == "plan.json" { 5 } else { 4 });
        let there = stored(&lockers);
        let (code, document, said) = program(&lockers, &["expire"]);
        assert!(code != 0, "{how}: {document}{said}");
        let its = |objects: &Files| objects.keys().filter(|name| is_its(name)).count();
        assert_eq!(its(&stored(&lockers)), its(&there), "{how}: nothing is removed while the keyring has a key");
        assert!(!stored(&lockers).keys().any(|name| name.starts_with("mirror/") && is_its(name)), "{how}");
    }
}

/// A record of a purge that the worker signed is none.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_than_the_eraser_wrote_down_lets_go_of_nothing() {
    let (lockers, acme, _) = three_nights().await;
    let vault = &lockers.vault;
    let id = tenure::id::RecordId::random();
    let act: tenure::format::act::Act = serde_json::from_value(serde_json::json!({
        "format": 1, "installation": lockers.installation(), "id": id, "command": "purge", "plan": id,
        "started_at": Utc::now(), "ended_at": Utc::now(), "outcome": "begun", "certificate": null,
        "lockers": [{
            "locker": acme.locker(), "name_tag": null, "backups": [], "keys": [acme.record.key_id], "holds": [], "objects": 0, "bytes": 0,
        }],
    }))
    .unwrap();
    vault.put_act(&act, &lockers.key("worker")).await.unwrap();
    let folder = lockers.folder().join(format!("vault/plans/{id}"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("plan.json.sig"), "").unwrap();
    let (code, document, said) = program(&lockers, &["list", "acme"]);
    assert_eq!((code, document["backups"].as_array().map(Vec::len)), (0, Some(3)), "{document}{said}");
    // Something that is written after a plan, and no plan: somebody removed it.
    std::fs::write(folder.join("1-noted.json.sig"), "").unwrap();
    for arguments in [&["verify", "--all"][..], &["expire"]] {
        let (code, document, said) = program(&lockers, arguments);
        assert!(code == 5 && document.to_string().contains(&format!("{id}/plan.json")), "{arguments:?}: {document}{said}");
    }
    assert_eq!(program(&lockers, &["list", "acme"]).0, 0);
}
