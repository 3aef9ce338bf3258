//! `keys rotate`.

use super::*;

#[tokio::test]
async fn the_next_backup_is_sealed_with_the_new_key_and_older_ones_open_with_theirs() {
    let mut lockers = Lockers::new().await;
    lockers.ranges = 4;
    let mut acme = lockers.tenant("acme", at("2026-05-01")).await;
    lockers.tenant("globex", at("2026-05-01")).await;
    let first = lockers.night(&mut acme, at("2026-05-02"), &[]).await;
    let ring = Ring::new(&lockers).await;
    let named = Which::Named(vec!["acme".parse().unwrap()]);
    let report = ring.rotate(&named).await.unwrap();
    assert_eq!((class(report.class), report.results.len()), (0, 1), "{report:?}");
    let keys = ring.keys("acme").await;
    let new = keys.sealing().unwrap().clone();
    assert_eq!((new.sequence, new.locker, keys.records.len()), (2, acme.record.locker, 2));
    assert_eq!(report.results[0].key, Some(new.key_id.to_string()));
    assert_eq!(report.results[0].replaces, Some(acme.record.key_id.to_string()));
    assert_eq!(ring.keys("globex").await.records.len(), 1);

    let old = std::mem::replace(&mut acme.record, new.clone());
    let second = lockers.night(&mut acme, at("2026-06-02"), &[0]).await;
    assert_eq!(second.backup.manifest.totals.chunks_reused, 0, "nothing is re-used under another key");
    for night in [&first, &second] {
        lockers.opens(&acme, night).await.unwrap();
    }
    assert_eq!(first.backup.manifest.key_id, old.key_id);
    let check = ring.check().await;
    assert!(check.problems.is_empty() && check.leftovers.is_empty(), "{check:?}");

    // Signed by an operator, and so is the record of it, which names no tenant.
    let act = ring.vault.act(report.run.unwrap().parse().unwrap()).await.unwrap();
    assert_eq!((act.lockers.len(), &act.lockers[0].keys[..]), (1, &[new.key_id][..]));
    assert!(act.certificate.is_none());
    let again = ring.rotate(&Which::All).await.unwrap();
    assert_eq!((class(again.class), again.results.len()), (0, 2), "{again:?}");
    assert_eq!(ring.keys("acme").await.sealing().unwrap().sequence, 3);
}

#[tokio::test]
async fn what_forbids_it_leaves_all_as_it_was() {
    let lockers = Lockers::new().await;
    let acme = lockers.tenant("acme", at("2026-05-01")).await;
    let globex = lockers.tenant("globex", at("2026-05-01")).await;
    let mut ring = Ring::new(&lockers).await;
    let before = content(lockers.folder());
    let named = |name: &str| Which::Named(vec![name.parse().unwrap()]);
    let of =
        |report: RotateReport| (class(report.class), report.results.into_iter().map(|r| r.outcome.as_str()).collect::<Vec<_>>());

    assert_eq!(ring.rotate(&named("nobody")).await.unwrap_err().kind, "unknown-tenant");
    ring.locks = TestLocks::Taken;
    assert_eq!(of(ring.rotate(&named("acme")).await.unwrap()), (6, vec!["busy"]));
    assert_eq!(of(ring.rotate(&Which::All).await.unwrap()), (0, vec!["busy", "busy"]), "another run has them");
    ring.locks = TestLocks::Free;
    // A worker's signature would count for nothing.
    ring.operator = lockers.key("worker");
    assert_eq!(ring.rotate(&named("acme")).await.unwrap_err().kind, "key-not-allowed");
    ring.operator = lockers.key("operator");
    assert_eq!(content(lockers.folder()), before);

    // No key that one of the mirrors does not have.
    let report = Ring::without_mirror(&lockers).await.rotate(&named("acme")).await.unwrap();
    assert_eq!(report.results[0].error.as_ref().unwrap().kind, "cannot-create-key", "{report:?}");
    assert_eq!(content(lockers.folder()), before);

    ring.purge(&acme.record, Purged::All { keys: vec![acme.record.key_id] }).await;
    let tombstone = format!("keyring/erased/{}/anything", globex.record.name_tag);
    std::fs::create_dir_all(lockers.folder().join(&tombstone).parent().unwrap()).unwrap();
    std::fs::write(lockers.folder().join(&tombstone), "of a later version").unwrap();
    let before = content(lockers.folder());
    let refused = ring.rotate(&named("acme")).await.unwrap_err();
    assert_eq!((refused.class.code(), refused.kind), (4, "tenant-purged"), "{refused:?}");
    assert_eq!(of(ring.rotate(&named("globex")).await.unwrap()), (4, vec!["refused"]));
    assert_eq!(of(ring.rotate(&Which::All).await.unwrap()), (4, vec!["refused"]), "the purged one has no key");
    assert_eq!(but_runs(lockers.folder()), before, "only that it was refused was written down");
}

/// Everything but the records of what was done and refused.
fn but_runs(folder: &std::path::Path) -> Content {
    content(folder).into_iter().filter(|(name, _)| !name.starts_with("vault/runs/")).collect()
}

/// A purge that comes in between wins: what was written is removed again, or it is said loudly that it is still there.
#[tokio::test]
async fn a_purge_meanwhile_wins() {
    let lockers = Lockers::new().await;
    let acme = lockers.tenant("acme", at("2026-05-01")).await;
    let ring = Ring::new(&lockers).await;
    let before = content(lockers.folder());
    let note = ring.purge(&acme.record, Purged::All { keys: vec![acme.record.key_id] }).await;
    let names = [format!("vault/{note}"), format!("vault/{note}.sig")];
    let note: Content = content(lockers.folder()).into_iter().filter(|(name, _)| names.contains(name)).collect();
    assert_eq!(note.len(), 2);
    let purged: Content = before.iter().chain(&note).map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
    // It is written while the secret half is put, and while the public half is.
    for (part, denied) in [("k/", false), ("k/", true), ("t/", false), ("t/", true)] {
        set(lockers.folder(), &before);
        let (folder, note) = (lockers.folder().to_owned(), note.clone());
        let ring = Ring::through(&lockers, |store| {
            let (store, folder, note) = (FaultStore::new(store), folder.clone(), note.clone());
            let in_mirror = store.address().ends_with("mirror");
            store.fail_where(
                move |operation, name| {
                    if in_mirror && operation == tenure::store::fault::Operation::Put && name.starts_with(part) {
                        for (name, bytes) in &note {
                            std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
                            std::fs::write(folder.join(name), bytes).unwrap();
                        }
                    }
                    false
                },
                1,
                Fault::Lost,
            );
            if denied {
                store.fail(tenure::store::fault::Operation::Delete, "", 1, Fault::Refused(StoreErrorKind::Denied));
            }
            Arc::new(store)
        })
        .await;
        let report = ring.rotate(&Which::Named(vec!["acme".parse().unwrap()])).await.unwrap();
        let error = report.results[0].error.as_ref().unwrap();
        if denied {
            assert_eq!((class(report.class), error.kind.as_str()), (5, "key-left"), "{part}: {report:?}");
            assert!(error.message.contains("/k/"), "{error:?}");
        } else {
            assert_eq!((class(report.class), error.kind.as_str()), (4, "tenant-purged"), "{part}: {report:?}");
            assert_eq!(but_runs(lockers.folder()), purged, "{part}");
        }
    }
}

/// Whatever fails, wherever it is killed: the old key seals or the new one, each opens in every copy of the keyring, and the next one ends well.
#[tokio::test(flavor = "multi_thread")]
async fn every_store_call_may_fail() {
    let kit = Person::new();
    let mut lockers = wrapped_to(&[&kit]).await;
    lockers.ranges = 1;
    let mut acme = lockers.tenant("acme", at("2026-05-01")).await;
    lockers.night(&mut acme, at("2026-05-02"), &[]).await;
    let old = acme.record.key_id;
    let before = content(lockers.folder());
    let named = Which::Named(vec!["acme".parse().unwrap()]);
    let mut walked = 0;
    'walk: for nth in 1.. {
        for (way, countdown) in ways(nth) {
            let case = format!("call {nth} {way}");
            set(lockers.folder(), &before);
            let ring = Ring::counted(&lockers, &countdown).await;
            let ended = ring.rotate(&named).await;
            if !countdown.is_reached() {
                break 'walk;
            }
            walked += 1;
            let after = content(lockers.folder());
            assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)), "{case}: something old is gone");
            let ring = Ring::new(&lockers).await;
            let sealing = opens_in_each(&ring, "acme", &[&kit], &case).await[0];
            let done = ended.as_ref().is_ok_and(|report| report.results.iter().any(|result| result.outcome.as_str() == "done"));
            assert!(!done || sealing != old, "{case}: {ended:?}");
            let problems = ring.check().await.problems;
            assert!(problems.is_empty(), "{case}: {problems:?}");
            let next = ring.rotate(&named).await.unwrap();
            assert_eq!(class(next.class), 0, "{case}: {next:?}");
            let keys = ring.keys("acme").await;
            assert!(![old, sealing].contains(&keys.sealing().unwrap().key_id), "{case}");
            opens_in_each(&ring, "acme", &[&kit], &case).await;
            assert!(ring.check().await.problems.is_empty(), "{case}");
        }
    }
    walked_through(walked, "store calls of a rotation");
    assert!(walked > 100, "{walked}");
}
