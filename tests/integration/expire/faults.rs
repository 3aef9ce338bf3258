//! Calls that fail, runs that are killed, two at once, and whoever comes between.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tenure::store::{
    Store, StoreErrorKind,
    directory::DirectoryStore,
    fault::{Fault, FaultStore, Operation},
};

use super::*;

async fn faulty(lockers: &Lockers) -> (Arc<FaultStore>, Vault, Keyring) {
    let open = async |name: &str| DirectoryStore::open(&lockers.folder().join(name)).await.unwrap();
    let (inner, keyring) = (open("vault").await, open("keyring").await);
    let store = Arc::new(FaultStore::new(Arc::new(inner)));
    let (vault, keyring) = lockers.through(store.clone(), Arc::new(keyring), Vec::new()).await;
    (store, vault, keyring)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_page_is_read_once_and_each_manifest_twice() {
    let lockers = Lockers::new().await;
    let (_, of_acme) = nights(&lockers, "acme", &days("2026-05-01", 20)).await;
    let (store, vault, keyring) = faulty(&lockers).await;
    let report = run(&lockers, (&vault, &keyring), Request::default(), at("2026-11-02")).await.unwrap();
    assert_eq!((code(&report), report.removed.len()), (0, 2));
    let pages: BTreeSet<_> =
        of_acme[2..].iter().flat_map(|night| night.backup.manifest.pages.iter().map(|page| page.sha256)).collect();
    assert!(pages.len() > 18);
    assert_eq!(store.calls(Operation::Get, "/p/"), pages.len());
    assert_eq!(store.calls(Operation::Get, "/c/"), 0);
    // A document and a signature each; those that went were read once. At the end the newest tells whether the keyring has its key.
    assert_eq!(store.calls(Operation::Get, "/b/"), 2 * (20 + 18 + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_that_cannot_be_recorded() {
    let lockers = Lockers::new().await;
    nights(&lockers, "acme", &days("2026-05-01", 6)).await;
    let before = lockers.objects().await;
    for nth in 1..=2 {
        let (store, vault, keyring) = faulty(&lockers).await;
        store.fail(Operation::Put, "runs/", nth, Fault::Refused(StoreErrorKind::Denied));
        let failure = run(&lockers, (&vault, &keyring), Request::default(), at("2026-11-02")).await.unwrap_err();
        assert_eq!(failure.class, FailureClass::Failed, "{failure:?}");
        assert!(failure.hint.starts_with("Nothing was removed."), "{failure:?}");
        let left: Vec<String> = lockers.objects().await.into_iter().filter(|name| !name.starts_with("runs/")).collect();
        assert_eq!(left, before);
    }
    // It says which backups are to go, before any does.
    let (store, vault, keyring) = faulty(&lockers).await;
    let report = run(&lockers, (&vault, &keyring), Request::default(), at("2026-11-02")).await.unwrap();
    assert_eq!(report.removed.len(), 2);
    let log = store.log();
    let first =
        |operation, part: &str| log.iter().position(|(called, name)| *called == operation && name.contains(part)).unwrap();
    assert!(first(Operation::Put, "runs/") < first(Operation::Delete, "/b/"), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_fails_is_said_and_stops_nobody_else() {
    let lockers = Lockers::new().await;
    let (acme, of_acme) = nights(&lockers, "acme", &days("2026-05-01", 6)).await;
    let (other, of_other) = nights(&lockers, "other", &days("2026-05-01", 6)).await;
    let prefix = format!("t/{}/", acme.locker());
    for (part, fault) in [
        ("b/", Fault::Refused(StoreErrorKind::Denied)),
        ("b/", Fault::Lost),
        ("p/", Fault::Refused(StoreErrorKind::Unavailable)),
        ("c/", Fault::Refused(StoreErrorKind::Denied)),
        ("c/", Fault::Lost),
    ] {
        let (store, vault, keyring) = faulty(&lockers).await;
        store.fail(Operation::Delete, &format!("{prefix}{part}"), 1, fault);
        let report = run(&lockers, (&vault, &keyring), Request::default(), at("2026-11-02")).await.unwrap();
        assert_eq!(code(&report), 3, "{part} {fault:?}: {report:?}");
        assert_eq!(report.problems.len(), 1, "{report:?}");
        assert_eq!(report.problems[0].tenant.as_deref(), Some("acme"));
        let left: Vec<&Night> = of_other[2..].iter().collect();
        assert_eq!(stored(&lockers, &other).await, needed(&other, &left));
        for night in &of_acme[2..] {
            lockers.opens(&acme, night).await.unwrap();
        }
    }
    assert_eq!(code(&expire(&lockers, at("2026-11-02")).await), 0);
    let left: Vec<&Night> = of_acme[2..].iter().collect();
    assert_eq!(stored(&lockers, &acme).await, needed(&acme, &left));
}

/// Before the first pass is through, nothing is removed; what cannot be listed is nobody's garbage.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_not_garbage() {
    let lockers = Lockers::new().await;
    let (acme, of_acme) = nights(&lockers, "acme", &days("2026-05-01", 4)).await;
    for (operation, part) in [
        (Operation::List, "/h/"),
        (Operation::List, "/gone/"),
        (Operation::List, "/b/"),
        (Operation::Get, "/b/"),
        (Operation::Get, "/p/"),
        (Operation::List, "/p/"),
        (Operation::List, "/c/"),
    ] {
        for (nth, fault) in (1..=3).flat_map(|nth| [(nth, Fault::Refused(StoreErrorKind::Unavailable)), (nth, Fault::Lost)]) {
            let (store, vault, keyring) = faulty(&lockers).await;
            store.fail(operation, part, nth, fault);
            // Lists of holds are looked at more than once; the fault may meet none.
            run(&lockers, (&vault, &keyring), Request::default(), at("2026-11-01")).await.unwrap();
            for night in &of_acme[1..] {
                lockers.opens(&acme, night).await.unwrap();
            }
        }
    }
    assert_eq!(code(&expire(&lockers, at("2026-11-01")).await), 0);
}

/// A copy of everything, before each run.
async fn again(from: &Lockers) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let copied =
        std::process::Command::new("cp").args(["-a", "--"]).arg(from.folder().join("vault")).arg(folder.path()).status().unwrap();
    assert!(copied.success());
    folder
}

/// Nothing takes place from the `nth` call on, or after it.
fn kill(store: &FaultStore, nth: usize, after: bool) -> Arc<AtomicBool> {
    let killed = Arc::new(AtomicBool::new(false));
    let (kills, calls) = (killed.clone(), AtomicUsize::new(0));
    let unavailable = Fault::Refused(StoreErrorKind::Unavailable);
    let is_it = move |_: Operation, _: &str| {
        let is_it = calls.fetch_add(1, Ordering::SeqCst) == nth;
        kills.fetch_or(is_it, Ordering::SeqCst);
        is_it
    };
    store.fail_where(is_it, 1, if after { Fault::Lost } else { unavailable });
    for _ in 0..500 {
        let killed = killed.clone();
        store.fail_where(move |_, _| killed.load(Ordering::SeqCst), 1, unavailable);
    }
    killed
}

/// Killed before each call and after it; nothing live is lost, and the next run finishes.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_at_any_call_is_finished_by_the_next() {
    let lockers = Lockers::new().await;
    let (mut acme, of_acme) = nights(&lockers, "acme", &days("2026-05-01", 3)).await;
    lockers.crashed(&mut acme, at("2026-05-04"), &[6]).await;
    let void = lockers.night(&mut acme, at("2026-05-05"), &[7]).await;
    lockers.void(acme.locker(), void.id(), at("2026-05-05")).await;
    let mut left = vec![of_acme[2].clone()];
    left.push(lockers.night(&mut acme, at("2026-05-06"), &[5]).await);
    left.push(lockers.night(&mut acme, at("2026-05-07"), &[4]).await);
    let now = at("2026-11-02");
    let keyring: Arc<dyn Store> = Arc::new(DirectoryStore::open(&lockers.folder().join("keyring")).await.unwrap());
    let mut calls = 0;
    'calls: loop {
        for after in [false, true] {
            let folder = again(&lockers).await;
            let inner: Arc<dyn Store> = Arc::new(DirectoryStore::open(&folder.path().join("vault")).await.unwrap());
            let store = Arc::new(FaultStore::new(inner.clone()));
            let (vault, ring) = lockers.through(store.clone(), keyring.clone(), Vec::new()).await;
            let killed = kill(&store, calls, after);
            drop(run(&lockers, (&vault, &ring), Request::default(), now).await);
            if !killed.load(Ordering::SeqCst) {
                break 'calls;
            }
            let (vault, ring) = lockers.through(inner, keyring.clone(), Vec::new()).await;
            let there = lockers.with(vault.clone(), ring.clone());
            for night in &left {
                there.opens(&acme, night).await.unwrap_or_else(|why| panic!("call {calls}, after: {after}: {why}"));
            }
            let report = run(&lockers, (&vault, &ring), Request::default(), now).await.unwrap();
            assert_eq!(code(&report), 0, "call {calls}, after: {after}: {report:?}");
            let nights: Vec<&Night> = left.iter().collect();
            assert_eq!(stored(&there, &acme).await, needed(&acme, &nights), "call {calls}, after: {after}");
        }
        calls += 1;
    }
    assert!(calls > 40, "{calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_do_together_what_one_does() {
    for _ in 0..5 {
        let lockers = Lockers::new().await;
        let (acme, of_acme) = nights(&lockers, "acme", &days("2026-05-01", 8)).await;
        let (one, two) = tokio::join!(expire(&lockers, at("2026-11-04")), expire(&lockers, at("2026-11-04")));
        assert_eq!((code(&one), code(&two)), (0, 0), "{one:?} {two:?}");
        let left: Vec<&Night> = of_acme[4..].iter().collect();
        assert_eq!(stored(&lockers, &acme).await, needed(&acme, &left));
    }
}

/// Another run removes a manifest and its page after this one read the manifest, and before it reads the page.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_went_with_its_manifest_is_missed_by_nobody() {
    let lockers = Lockers::new().await;
    let (acme, of_acme) = nights(&lockers, "acme", &days("2026-05-01", 4)).await;
    let (locker, second) = (acme.locker(), &of_acme[1]);
    let page = second.backup.manifest.pages.iter().find(|page| page.birth == second.id()).unwrap();
    let page = ObjectName::Page { locker, birth: page.birth, sha256: page.sha256 };
    let document = Document::Manifest(locker, second.id());
    let going = [ObjectName::Document(document.clone()), ObjectName::Signature(document), page.clone()];
    let (going, page) = (going.map(|name| lockers.path(&name)), page.to_string());
    let (store, vault, keyring) = faulty(&lockers).await;
    let other_run = move |operation: Operation, name: &str| {
        if operation == Operation::Get && name == page {
            going.iter().for_each(|path| drop(std::fs::remove_file(path)));
        }
        false
    };
    store.fail_where(other_run, 1, Fault::Lost);
    let report = run(&lockers, (&vault, &keyring), Request::default(), at("2026-11-01")).await.unwrap();
    assert_eq!((code(&report), report.removed.len()), (0, 1), "{report:?}");
    let left: Vec<&Night> = of_acme[2..].iter().collect();
    assert_eq!(stored(&lockers, &acme).await, needed(&acme, &left));
}

/// After the first look, and before the manifest is removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_comes_between_the_look_and_the_removal_wins() {
    let lockers = Lockers::new().await;
    let (acme, of_acme) = nights(&lockers, "acme", &days("2026-05-01", 4)).await;
    hold(&lockers, acme.locker(), placed()).await;
    let holds = lockers.folder().join("vault/t").join(acme.locker().to_string()).join("h");
    let aside = lockers.folder().join("aside");
    std::fs::rename(&holds, &aside).unwrap();
    let (store, vault, keyring) = faulty(&lockers).await;
    // It lies there from the second listing of manifests on, which is that of the removal.
    let mut lists = 0;
    let come = move |operation: Operation, name: &str| {
        lists += usize::from(operation == Operation::List && name.ends_with("/b/"));
        if lists == 2 && aside.is_dir() {
            std::fs::rename(&aside, &holds).unwrap();
        }
        false
    };
    let come = std::sync::Mutex::new(come);
    store.fail_where(move |operation, name| come.lock().unwrap()(operation, name), 1, Fault::Lost);
    let report = run(&lockers, (&vault, &keyring), Request::default(), at("2026-11-01")).await.unwrap();
    assert_eq!((report.removed.len(), report.objects_removed), (0, 0), "{report:?}");
    lockers.opens(&acme, &of_acme[0]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_not_sign_removes_nothing() {
    let lockers = Lockers::new().await;
    nights(&lockers, "acme", &days("2026-05-01", 4)).await;
    let before = lockers.objects().await;
    let (stranger, cancel) = (tenure::signature::SigningKey::generate("stranger"), CancellationToken::new());
    let (vault, keyring) = (&lockers.vault, &lockers.keyring);
    for signer in [None, Some(&stranger)] {
        let refused =
            Expire { vault, keyring, signer, at_once: 1, cancel: &cancel }.run(Request::default(), at("2026-11-01")).await;
        assert_eq!(refused.unwrap_err().kind, "cannot-sign");
    }
    // Stopped before it begins, it has done nothing, and says so.
    cancel.cancel();
    let signer = lockers.key("janitor");
    let expire = Expire { vault, keyring, signer: Some(&signer), at_once: 1, cancel: &cancel };
    let stopped = expire.run(Request::default(), at("2026-11-01")).await.unwrap();
    assert_eq!((code(&stopped), stopped.objects_removed), (130, 0));
    assert_eq!(
        lockers.objects().await.iter().filter(|name| !name.starts_with("runs/")).collect::<Vec<_>>(),
        before.iter().collect::<Vec<_>>()
    );
}
