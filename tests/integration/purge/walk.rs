//! Every call of a purge fails, or is the last one: after each the next run finishes, and until something is destroyed nothing is.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tenure::store::{
    Store, StoreErrorKind,
    directory::DirectoryStore,
    fault::{Fault, FaultStore},
};

use super::*;
use crate::harness::postgres::run;

/// How a call goes wrong.
#[derive(Debug, Clone, Copy)]
enum How {
    Fails(Fault),
    /// The process is gone, in the middle of the call.
    IsTheLast,
}

const WAYS: [How; 4] = [
    How::Fails(Fault::Refused(StoreErrorKind::Unavailable)),
    How::Fails(Fault::Refused(StoreErrorKind::Denied)),
    How::Fails(Fault::Lost),
    How::IsTheLast,
];

/// A purge in a copy of the lockers' stores, of which the `nth` call of all stores goes wrong; gives its end, where it had one, and how
/// many calls there were.
async fn purge_with(
    lockers: &Lockers,
    copy: &Path,
    what: What,
    fault: Option<(usize, How)>,
) -> (Option<Result<PurgeReport, Failure>>, usize) {
    let (calls, dead) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    // Opening the stores is no part of a purge.
    let begun = Arc::new(AtomicBool::new(false));
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for name in ["vault", "keyring", "mirror"] {
        let store = FaultStore::new(Arc::new(DirectoryStore::open(&copy.join(name)).await.unwrap()));
        let (calls, dead, begun) = (calls.clone(), dead.clone(), begun.clone());
        let kind = match fault {
            Some((_, How::Fails(fault))) => fault,
            _ => Fault::Refused(StoreErrorKind::Unavailable),
        };
        let due = move |_, _: &str| {
            if !begun.load(Ordering::SeqCst) {
                return false;
            }
            let call = calls.fetch_add(1, Ordering::SeqCst);
            match fault {
                Some((nth, How::IsTheLast)) if call >= nth => {
                    dead.cancel();
                    false
                }
                Some((nth, How::Fails(_))) => call == nth,
                _ => false,
            }
        };
        store.fail_where(due, 1, kind);
        stores.push(Arc::new(store));
    }
    let mirror = stores.pop().unwrap();
    let (keyring, vault) = (stores.pop().unwrap(), stores.pop().unwrap());
    let (vault, keyring) = lockers.through(vault, keyring, vec![mirror]).await;
    begun.store(true, Ordering::SeqCst);
    let ended = tokio::select! {
        biased;
        () = dead.cancelled() => None,
        ended = purge_in(lockers, (&vault, &keyring), ("acme", what), true, Utc::now()) => Some(ended),
    };
    // What was begun in the kernel ends there, as after a kill.
    tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while Arc::strong_count(&calls) > 4 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .ok();
    (ended, calls.load(Ordering::SeqCst))
}

fn copied(lockers: &Lockers) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let stores: Vec<PathBuf> = ["vault", "keyring", "mirror"].iter().map(|name| lockers.folder().join(name)).collect();
    run(std::process::Command::new("cp")
        .args(["--recursive", "--preserve=all", "--target-directory"])
        .arg(copy.path())
        .args(stores));
    copy
}

/// Which calls go wrong, and how: each in every way when all are asked for, otherwise in one of them.
fn faults(calls: usize) -> Vec<(usize, How)> {
    let all = std::env::var_os("TENURE_TEST_WALK").is_some();
    let each = (0..calls).flat_map(|nth| WAYS.into_iter().enumerate().map(move |(way, how)| (nth, way, how)));
    each.filter(|(nth, way, _)| all || (nth + way) % 4 == 0).map(|(nth, _, how)| (nth, how)).collect()
}

/// Runs a purge until it is closed: one that meets no fault needs no third run.
async fn until_closed(lockers: &Lockers, stores: (&Vault, &Keyring), what: What, place: &str) {
    let mut last = None;
    for _ in 0..3 {
        let report = purge_in(lockers, stores, ("acme", what), true, Utc::now()).await;
        let report = report.unwrap_or_else(|error| panic!("{place}: then {error:?}"));
        if report.status == PurgeStatus::Closed {
            return;
        }
        last = Some(report);
    }
    panic!("{place}: {last:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr, reason = "what a walk says it walked")]
async fn every_call_fails_or_is_the_last() {
    let mut lockers = Lockers::new().await;
    lockers.ranges = 1;
    let mut acme = lockers.tenant("acme", at("2026-11-01")).await;
    let night = lockers.night(&mut acme, at("2026-11-01"), &[]).await;
    let mut neighbour = lockers.tenant("acme2", at("2026-11-01")).await;
    lockers.night(&mut neighbour, at("2026-11-01"), &[]).await;

    let copy = copied(&lockers);
    let (ended, calls) = purge_with(&lockers, copy.path(), What::All, None).await;
    assert_eq!(ended.unwrap().unwrap().status, PurgeStatus::Closed);
    assert!(calls > 50, "{calls} calls");
    let faults = faults(calls);
    let walked = faults.len();
    for (nth, how) in faults {
        let copy = copied(&lockers);
        let before = stored_below(copy.path());
        let (ended, _) = purge_with(&lockers, copy.path(), What::All, Some((nth, how))).await;
        let place = format!("call {nth} of {calls}, {how:?}: {ended:?}");
        let (vault, keyring) =
            lockers.through(open(&copy, "vault").await, open(&copy, "keyring").await, vec![open(&copy, "mirror").await]).await;
        let began = before_destroying(&vault, &lockers).await;
        let its = of(&lockers, &acme);
        let left = stored_below(copy.path());
        if began {
            let lost = before.keys().find(|name| its(name) && !left.contains_key(*name));
            assert_eq!(lost, None, "{place}: something is gone before anybody had the last word");
        }
        until_closed(&lockers, (&vault, &keyring), What::All, &place).await;
        let left = stored_below(copy.path());
        for (name, bytes) in &before {
            assert!(its(name) || left.get(name) == Some(bytes), "{place}: {name} of a neighbour");
        }
        for name in left.keys() {
            assert!(before.contains_key(name) || its(name), "{place}: {name} was left");
            assert!(!its(name) || name.contains("/gone/"), "{place}: {name} is left");
        }
    }
    eprintln!("walk: {walked} runs of a purge failed or ended, one call at a time, of {calls}");
    assert!(walked >= 20);
    drop(night);
}

/// The same of a purge of what was taken before a time: what stays opens after each, and in the end it is as if nothing had gone wrong.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr, reason = "what a walk says it walked")]
async fn every_call_of_a_purge_before_a_time_fails_or_is_the_last() {
    let mut lockers = Lockers::new().await;
    lockers.ranges = 2;
    let mut acme = lockers.tenant("acme", at("2026-11-01")).await;
    lockers.night(&mut acme, at("2026-11-01"), &[]).await;
    let second = lockers.night(&mut acme, at("2026-11-02"), &[1]).await;
    let mut neighbour = lockers.tenant("acme2", at("2026-11-01")).await;
    lockers.night(&mut neighbour, at("2026-11-01"), &[]).await;

    let what = What::Before(at("2026-11-02"));
    let (first, copy) = (stored(&lockers), copied(&lockers));
    let (ended, calls) = purge_with(&lockers, copy.path(), what, None).await;
    assert_eq!(ended.unwrap().unwrap().status, PurgeStatus::Closed);
    let without_notes = |mut files: Files| {
        files.retain(|name, _| !name.contains("/gone/"));
        files
    };
    let wanted = without_notes(stored_below(copy.path()));
    assert!(wanted.len() + 4 <= first.len() && calls > 40, "{} of {}, {calls} calls", wanted.len(), first.len());
    let faults = faults(calls);
    let walked = faults.len();
    for (nth, how) in faults {
        let copy = copied(&lockers);
        let (ended, _) = purge_with(&lockers, copy.path(), what, Some((nth, how))).await;
        let place = format!("call {nth} of {calls}, {how:?}: {ended:?}");
        let (vault, keyring) =
            lockers.through(open(&copy, "vault").await, open(&copy, "keyring").await, vec![open(&copy, "mirror").await]).await;
        if before_destroying(&vault, &lockers).await {
            let left = stored_below(copy.path());
            let lost = first.keys().find(|name| !left.contains_key(*name));
            assert_eq!(lost, None, "{place}: something is gone before anybody had the last word");
        }
        let here = lockers.with(vault.clone(), keyring);
        here.opens(&acme, &second).await.unwrap_or_else(|error| panic!("{place}: {error}"));
        until_closed(&lockers, (&vault, &here.keyring), what, &place).await;
        assert_eq!(without_notes(stored_below(copy.path())), wanted, "{place}");
        here.opens(&acme, &second).await.unwrap_or_else(|error| panic!("{place}: {error}"));
    }
    eprintln!("walk: {walked} runs of a purge --before failed or ended, one call at a time, of {calls}");
    assert!(walked >= 20);
}

async fn open(copy: &tempfile::TempDir, name: &str) -> Arc<dyn Store> {
    Arc::new(DirectoryStore::open(&copy.path().join(name)).await.unwrap())
}

/// Whether no plan has come to the step after which things are destroyed.
async fn before_destroying(vault: &Vault, lockers: &Lockers) -> bool {
    let tag = lockers.keyring.tag(&"acme".parse().unwrap());
    let plans = vault.plans(tag, |_| true).await.unwrap();
    !plans.iter().any(|planned| planned.steps.contains(&Step::Destroying))
}

/// The program, killed at any moment while it works, and run again until it is through.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr, reason = "what a walk says it walked")]
async fn the_program_is_killed_and_finishes_the_next_time() {
    let mut killed = 0;
    for wait in [20, 35, 50, 70, 100, 140] {
        let (lockers, acme, _) = three_nights().await;
        let before = stored(&lockers);
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_tenure"))
            .args(["purge", "acme", "--confirm", "acme"])
            .current_dir(lockers.folder())
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().code().is_none());
        let report = purge(&lockers, "acme").await.unwrap();
        assert_eq!(report.status, PurgeStatus::Closed, "{report:?}");
        only_notes_are_left(&lockers, &acme, &before);
    }
    eprintln!("walk: {killed} of 6 programs were killed in the middle");
}
