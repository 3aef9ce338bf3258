//! What a purge goes on from is what the eraser signed, and what is there now.

use tenure::{
    format::plan::{Found, Mark},
    signature::{Namespace, SigningKey},
    signed,
    store::{
        StoreErrorKind,
        fault::{Fault, FaultStore, Operation},
    },
};

use super::{refusals::lockers_store, *};

/// A purge that is stopped when it has its plan; then a hold.
async fn stopped_by_a_hold(lockers: &Lockers) -> tenure::id::RecordId {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let purge = Purge {
        vault: &lockers.vault,
        keyring: &lockers.keyring,
        locks: &Lock(true),
        operator: &lockers.key("operator"),
        eraser: &lockers.key("eraser"),
        approvals: 0,
        clock: &Utc::now,
        progress: &Silent,
        cancel: &cancel,
    };
    let tenant = "acme".parse().unwrap();
    let intent = purge.look(&tenant, What::All, false).await.unwrap();
    purge.carry_out(&tenant, &intent).await.unwrap_err();
    assert_eq!(program(lockers, &["hold", "acme", "--reason", "a law suit"]).0, 0);
    let plans = files(&lockers.folder().join("vault/plans"));
    let plan = plans.iter().find(|path| path.ends_with("plan.json")).unwrap();
    plan.parent().unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap()
}

async fn put_mark(lockers: &Lockers, plan: tenure::id::RecordId, key: &SigningKey) {
    let (installation, at) = (lockers.vault.root().installation, Utc::now());
    let mark = Mark { format: 1, installation, plan, step: Step::Destroying, at, found: Found::default(), plan_sha256: None };
    let name = tenure::object_name::Part::new(Step::Destroying.file()).unwrap();
    let document = tenure::object_name::Document::Plan(plan, name);
    signed::create(lockers.vault.store(), &document, &mark, Namespace::Erasure, key).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_the_eraser_did_not_sign_destroys_nothing() {
    for signer in [None, Some("worker"), Some("janitor"), Some("operator")] {
        let (lockers, _, _) = three_nights().await;
        let plan = stopped_by_a_hold(&lockers).await;
        let before = stored(&lockers);
        match signer {
            Some(role) => put_mark(&lockers, plan, &lockers.key(role)).await,
            None => {
                let file = lockers.folder().join(format!("vault/plans/{plan}/{}", Step::Destroying.file()));
                std::fs::write(file, "").unwrap();
            }
        }
        let failure = purge(&lockers, "acme").await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Integrity, "{signer:?}: {failure}");
        assert_eq!(stored(&lockers), before, "{signer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_whose_record_is_gone_still_holds_until_it_is_released() {
    let (lockers, acme, _) = three_nights().await;
    assert_eq!(program(&lockers, &["hold", "acme", "--reason", "a law suit"]).0, 0);
    for path in files(&lockers.folder().join(format!("vault/t/{}/h", acme.locker()))) {
        if path.extension().is_some_and(|extension| extension == "json") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let failure = purge(&lockers, "acme").await.unwrap_err();
    assert_eq!((failure.class, failure.kind), (FailureClass::Refused, "on-hold"));
    let (_, listed, _) = program(&lockers, &["list", "acme"]);
    assert!(listed["problems"][0].as_str().unwrap().contains("tenure release --hold"), "{listed}");
    assert_eq!(program(&lockers, &["release", "acme", "--all"]).0, 0);
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_is_gone_is_written_again() {
    let (lockers, acme, _) = three_nights().await;
    let both = (&lockers.vault, &lockers.keyring);
    let report = purge_in(&lockers, both, ("acme", What::All), false, Utc::now()).await.unwrap();
    assert_eq!(report.open[0].kind, "last-look");
    std::fs::remove_dir_all(lockers.folder().join(format!("vault/t/{}/gone", acme.locker()))).unwrap();
    assert!(lockers.vault.is_purged(acme.locker()).await.unwrap(), "its plan says so");
    assert_eq!(lockers.vault.lost_notes().await.unwrap().len(), 1);
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
    assert!(lockers.vault.is_purged(acme.locker()).await.unwrap());
    assert!(lockers.vault.lost_notes().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_backed_up_since_never_passes_for_purged() {
    let (lockers, _, _) = three_nights().await;
    let both = (&lockers.vault, &lockers.keyring);
    purge_in(&lockers, both, ("acme", What::All), false, Utc::now()).await.unwrap();
    let mut anew = lockers.tenant("acme", at("2026-11-05")).await;
    let night = lockers.night(&mut anew, at("2026-11-05"), &[]).await;
    let report = purge(&lockers, "acme").await.unwrap();
    assert!(report.newer_history && report.open.iter().any(|item| item.kind == "new-history"), "{report:?}");
    lockers.opens(&anew, &night).await.unwrap();
    let report = purge(&lockers, "acme").await.unwrap();
    assert!(!report.newer_history && report.open.is_empty() && report.status == PurgeStatus::Closed, "{report:?}");
    assert!(lockers.opens(&anew, &night).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_stops_what_a_purge_before_a_time_has_left_to_do() {
    let (lockers, _, _) = three_nights().await;
    let both = (&lockers.vault, &lockers.keyring);
    let what = What::Before(at("2026-11-03"));
    // What is stored now is too young to be swept.
    let report = purge_in(&lockers, both, ("acme", what), true, at("2026-11-04")).await.unwrap();
    assert!(report.open.iter().any(|item| item.kind == "too-young"), "{report:?}");
    let (code, document, said) = program(&lockers, &["hold", "acme", "--reason", "a law suit"]);
    assert_eq!((code, document["notes"].as_array().unwrap().len()), (0, 1), "{document}{said}");
    let note = document["notes"][0].as_str().unwrap();
    for words in
        ["2 backups that it names are let go of", "the hold keeps everything else", "--before 2026-11-03T03:00:00Z` goes on"]
    {
        assert!(note.contains(words), "{words}: {note}");
    }
    let before = stored(&lockers);
    let failure = purge_in(&lockers, both, ("acme", what), true, Utc::now() + TimeDelta::days(4)).await.unwrap_err();
    assert_eq!((failure.class, failure.kind), (FailureClass::Refused, "on-hold"));
    assert_eq!(stored(&lockers), before);
    let (code, document, said) = program(&lockers, &["hold", "acme2", "--reason", "another"]);
    assert_eq!((code, document["notes"].as_array().unwrap().len()), (0, 0), "{document}{said}");
}

/// A hold that comes when the manifests are gone keeps what they needed, and the purge that is at work says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_comes_before_the_sweep_stops_it() {
    let (lockers, acme, _) = three_nights().await;
    let folder = lockers.folder().to_owned();
    let is_held = std::sync::atomic::AtomicBool::new(false);
    let vault = Arc::new(FaultStore::new(lockers_store(&lockers, "vault").await));
    let hold = move |operation, name: &str| {
        // All manifests go before the first signature.
        let is_time = operation == Operation::Delete && name.contains("/b/") && name.ends_with(".sig");
        if is_time && !is_held.swap(true, std::sync::atomic::Ordering::SeqCst) {
            let mut hold = std::process::Command::new(env!("CARGO_BIN_EXE_tenure"));
            let output = hold.args(["hold", "acme", "--reason", "a law suit"]).current_dir(&folder).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        false
    };
    vault.fail_where(hold, 1, Fault::Lost);
    let (keyring, mirror) = (lockers_store(&lockers, "keyring").await, lockers_store(&lockers, "mirror").await);
    let (vault, keyring) = lockers.through(vault, keyring, vec![mirror]).await;
    let chunks = || stored(&lockers).into_keys().filter(|name| name.contains("/c/") && of(&lockers, &acme)(name)).count();
    let (before, what) = (chunks(), What::Before(at("2026-11-03")));
    let now = Utc::now() + TimeDelta::days(4);
    let failure = purge_in(&lockers, (&vault, &keyring), ("acme", what), true, now).await.unwrap_err();
    assert_eq!((failure.class, failure.kind, chunks()), (FailureClass::Refused, "on-hold", before), "{failure:?}");
    assert_eq!(program(&lockers, &["release", "acme"]).0, 0);
    let report = purge_in(&lockers, (&vault, &keyring), ("acme", what), true, now).await.unwrap();
    assert!(report.status == PurgeStatus::Closed && chunks() < before, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_backed_up_since_is_purged_anew_while_the_first_purge_is_open() {
    let (lockers, ..) = three_nights().await;
    let both = (&lockers.vault, &lockers.keyring);
    let first = purge_in(&lockers, both, ("acme", What::All), false, Utc::now()).await.unwrap();
    assert_eq!((first.status, first.open[0].kind), (PurgeStatus::KeysDestroyed, "last-look"), "{first:?}");
    // Nothing new has begun: there is one purge to go on with.
    let before = stored(&lockers);
    let anew = purge_in(&lockers, both, ("acme", What::Anew), false, Utc::now()).await.unwrap_err();
    assert_eq!((anew.class, anew.kind), (FailureClass::Failed, "nothing-new"), "{anew:?}");
    assert_eq!(stored(&lockers), before);
    let mut since = lockers.tenant("acme", at("2026-11-05")).await;
    let night = lockers.night(&mut since, at("2026-11-05"), &[]).await;
    let (before, is_its) = (stored(&lockers), of(&lockers, &since));
    let (code, document, said) = program(&lockers, &["purge", "acme", "--anew", "--confirm", "acme2"]);
    assert_eq!((code, stored(&lockers)), (4, before), "{document}{said}");
    let anew = purge_in(&lockers, both, ("acme", What::Anew), true, Utc::now()).await.unwrap();
    assert_ne!(anew.plan, first.plan);
    assert_eq!((anew.status, anew.backups, anew.newer_history), (PurgeStatus::Closed, 1, false), "{anew:?}");
    assert!(anew.notes.iter().any(|note| note.contains(first.plan.as_ref().unwrap())), "the first one is still open: {anew:?}");
    assert!(lockers.opens(&since, &night).await.is_err());
    assert!(stored(&lockers).keys().filter(|name| is_its(name)).all(|name| name.contains("/gone/")));
    let last = purge(&lockers, "acme").await.unwrap();
    assert_eq!((last.status, &last.plan), (PurgeStatus::Closed, &first.plan), "{last:?}");
}

/// Whatever became of its plan: the notes say that the tenant was purged, and are enough to finish it.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_whose_plan_is_lost_is_finished_from_its_notes() {
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    let both = (&lockers.vault, &lockers.keyring);
    purge_in(&lockers, both, ("acme", What::All), false, Utc::now()).await.unwrap();
    let late = lockers.folder().join(format!("vault/t/{}/s/late", acme.locker()));
    std::fs::create_dir_all(late.parent().unwrap()).unwrap();
    std::fs::write(&late, "late").unwrap();
    for path in files(&lockers.folder().join("vault/plans")) {
        if path.to_str().unwrap().contains("plan.json") {
            std::fs::remove_file(path).unwrap();
        }
    }
    for arguments in [&["list", "acme"][..], &["hold", "acme", "--reason", "late"], &["verify", "acme"]] {
        let (code, document, said) = program(&lockers, arguments);
        assert_eq!((code, &document["error"]["kind"]), (4, &"tenant-purged".into()), "{arguments:?}: {document}{said}");
    }
    assert_eq!(program(&lockers, &["list", "acme3"]).1["error"]["kind"], "unknown-tenant");
    // Where its lock was is not known any more: it is closed when everything is over that had begun before.
    let report = purge(&lockers, "acme").await.unwrap();
    assert_eq!((report.status, report.open[0].kind), (PurgeStatus::KeysDestroyed, "last-look"), "{report:?}");
    only_notes_are_left(&lockers, &acme, &before);
    let report = purge_in(&lockers, both, ("acme", What::All), true, Utc::now() + TimeDelta::days(3)).await.unwrap();
    assert_eq!(report.status, PurgeStatus::Closed, "{report:?}");
    only_notes_are_left(&lockers, &acme, &before);
}

/// A keyring that lost a key's record still has what opens old ciphertext; and a forged backup costs no neighbour its key.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_only_backups_name_is_destroyed_as_well_and_no_neighbours() {
    let (lockers, mut acme, neighbours) = three_nights().await;
    assert_eq!(rotate(&lockers, (&lockers.vault, &lockers.keyring), &acme).await.class, None);
    let key = acme.record.key_id;
    let halves = |key| stored(&lockers).into_keys().filter(|name| name.contains(&format!("/k/{key}."))).count();
    for name in stored(&lockers).into_keys().filter(|name| name.contains("/t/") && name.contains(&format!("/{key}.json"))) {
        std::fs::remove_file(lockers.folder().join(name)).unwrap();
    }
    let neighbour = neighbours[0].0.record.key_id;
    acme.record.key_id = neighbour;
    lockers.night(&mut acme, at("2026-11-04"), &[1]).await;
    let before = (halves(key), halves(neighbour));
    assert!(before.0 > 1 && before.1 > 1, "{before:?}");

    // As long as a mirror keeps it, nobody says that no key is left, and what alone names it stays.
    let mirror = Arc::new(FaultStore::new(lockers_store(&lockers, "mirror").await));
    mirror.fail(Operation::Delete, &format!("k/{key}"), 1, Fault::Refused(StoreErrorKind::Denied));
    let (vault, keyring) = (lockers_store(&lockers, "vault").await, lockers_store(&lockers, "keyring").await);
    let (vault, keyring) = lockers.through(vault, keyring, vec![mirror]).await;
    let report = purge_in(&lockers, (&vault, &keyring), ("acme", What::All), true, Utc::now()).await.unwrap();
    let kinds: Vec<_> = report.open.iter().map(|item| item.kind).collect();
    assert_eq!((report.status, kinds), (PurgeStatus::Requested, vec!["key-copy"]), "{report:?}");
    assert!(halves(key) > 0 && stored(&lockers).keys().any(|name| name.contains("/b/") && of(&lockers, &acme)(name)));

    let report = purge(&lockers, "acme").await.unwrap();
    assert_eq!(report.status, PurgeStatus::Closed, "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains(&format!("{neighbour}, which is another tenant's"))), "{report:?}");
    assert_eq!((halves(key), halves(neighbour)), (0, before.1));
    for (tenant, night) in &neighbours {
        lockers.opens(tenant, night).await.unwrap();
    }
}
