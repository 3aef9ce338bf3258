//! `keys rewrap`.

use tenure::{
    format::key_record::Rewrapped, id::Sha256Digest, operation::keys::repair::Repair, signature::Namespace, signed,
    store::fault::Operation,
};

use super::*;

/// The wrappings that a store lists of one key, and of which it has records.
fn wrappings(lockers: &Lockers, store: &str, key: KeyId) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let (mut halves, mut records) = (BTreeSet::new(), BTreeSet::new());
    let prefix = format!("{store}/");
    for name in content(lockers.folder()).keys().filter_map(|name| name.strip_prefix(&prefix)) {
        match name.parse() {
            Ok(ObjectName::SecretKey { key_id, wrapping }) if key_id == key => drop(halves.insert(wrapping)),
            Ok(
                ObjectName::Document(Document::Rewrapping(_, key_id, n))
                | ObjectName::Signature(Document::Rewrapping(_, key_id, n)),
            ) if key_id == key => drop(records.insert(n)),
            _ => {}
        }
    }
    (halves, records)
}

fn outcomes(report: &RewrapReport) -> Vec<&'static str> {
    report.results.iter().map(|result| result.outcome.as_str()).collect()
}

/// In every copy: one wrapping, the newest, which opens for those who are to have it and for nobody else.
fn only_newest(lockers: &Lockers, key: KeyId, may: &[&Person], may_not: &[&Person], case: &str) -> u32 {
    let mut newest = BTreeSet::new();
    for store in ["keyring", "mirror"] {
        let (halves, records) = wrappings(lockers, store, key);
        assert_eq!((halves.len(), &halves), (1, &records), "{case}: {store}");
        let number = *halves.first().unwrap();
        newest.insert(number);
        let name = ObjectName::SecretKey { key_id: key, wrapping: number };
        let half = std::fs::read(lockers.folder().join(store).join(name.to_string())).unwrap();
        assert!(may.iter().all(|person| person.identity().unwrap(&half).is_ok()), "{case}: {store}");
        assert!(may_not.iter().all(|person| person.identity().unwrap(&half).is_err()), "{case}: {store}");
    }
    assert_eq!(newest.len(), 1, "{case}");
    *newest.first().unwrap()
}

#[tokio::test]
async fn who_left_opens_nothing_any_more_and_who_came_opens_everything() {
    let (ann, bob, cleo) = (Person::new(), Person::new(), Person::new());
    let mut lockers = wrapped_to(&[&ann, &bob]).await;
    lockers.ranges = 2;
    let mut acme = lockers.tenant("acme", at("2026-05-01")).await;
    let globex = lockers.tenant("globex", at("2026-05-01")).await;
    let night = lockers.night(&mut acme, at("2026-05-02"), &[]).await;
    let ring = Ring::new(&lockers).await;
    // A superseded key is wrapped anew, too: its backups live on.
    ring.rotate(&Which::Named(vec!["acme".parse().unwrap()])).await.unwrap();
    let new = recipients(&[&cleo, &bob]);
    let before = content(lockers.folder());

    let report = ring.rewrap(&cleo, &new).await.unwrap();
    assert_eq!((class(report.class), outcomes(&report)), (1, vec!["failed"; 3]), "who does not open it yet cannot: {report:?}");
    assert_eq!(report.results[0].error.as_ref().unwrap().kind, "wrong-identity");
    assert_eq!(content(lockers.folder()), before);

    let report = ring.rewrap(&ann, &new).await.unwrap();
    assert_eq!((class(report.class), outcomes(&report)), (0, vec!["done"; 3]), "{report:?}");
    let act = ring.vault.act(report.run.as_ref().unwrap().parse().unwrap()).await.unwrap();
    assert_eq!(act.lockers.len(), 3);
    let keys = ring.keys("acme").await;
    for key in keys.records.iter().map(|record| record.key_id).chain([globex.record.key_id]) {
        assert_eq!(only_newest(&lockers, key, &[&bob, &cleo], &[&ann], "rewrapped"), 2);
    }
    let check = ring.check().await;
    assert!(check.problems.is_empty() && check.leftovers.is_empty(), "{check:?}");
    // What was sealed before opens with what only she has.
    let half = ring.keyring.secret_half(&acme.record).await.unwrap();
    let identity = cleo.identity().unwrap(&half).unwrap();
    let entry = &night.entries[0];
    let sealed = ring.vault.chunk(acme.record.locker, entry).await.unwrap();
    tenure::seal::open(&identity, &sealed, entry.length).unwrap();

    // Done is done: nothing is opened again, whoever asks.
    let before = content(lockers.folder());
    let again = ring.rewrap(&ann, &new).await.unwrap();
    assert_eq!((class(again.class), outcomes(&again), again.run), (0, vec!["unchanged"; 3], None));
    assert_eq!(content(lockers.folder()), before);

    // And back: a third wrapping.
    let report = ring.rewrap(&cleo, &recipients(&[&ann])).await.unwrap();
    assert_eq!((class(report.class), outcomes(&report)), (0, vec!["done"; 3]), "{report:?}");
    assert_eq!(only_newest(&lockers, acme.record.key_id, &[&ann], &[&bob, &cleo], "again"), 3);
}

#[tokio::test]
async fn a_dry_run_says_it_and_writes_nothing() {
    let (ann, bob) = (Person::new(), Person::new());
    let lockers = wrapped_to(&[&ann]).await;
    lockers.tenant("acme", at("2026-05-01")).await;
    let ring = Ring::new(&lockers).await;
    let before = content(lockers.folder());
    let (clock, cancel, new) = (|| ring.now, CancellationToken::new(), recipients(&[&bob]));
    let change = Change { dry_run: true, ..ring.change(&clock, &cancel) };
    let report = Rewrap { change, recipients: &new, identity: &ann.identity() }.run(&Which::All).await.unwrap();
    assert_eq!((outcomes(&report), report.results[0].removed, report.run), (vec!["planned"], 1, None));
    let change = Change { dry_run: true, ..ring.change(&clock, &cancel) };
    let report = Rotate { change, locks: &TestLocks::Taken, recipients: &new }.run(&Which::All).await.unwrap();
    assert_eq!((class(report.class), report.results[0].outcome.as_str()), (0, "planned"));
    cancel.cancel();
    let report = Rotate { change: ring.change(&clock, &cancel), locks: &ring.locks, recipients: &new }.run(&Which::All).await;
    assert_eq!(class(report.unwrap().class), 130);
    assert_eq!(content(lockers.folder()), before);
}

/// Whatever fails, wherever it is killed: each copy of the keyring opens alone, and the next run leaves one wrapping, for those of now.
#[tokio::test(flavor = "multi_thread")]
async fn every_store_call_may_fail() {
    let (ann, bob, cleo) = (Person::new(), Person::new(), Person::new());
    let lockers = wrapped_to(&[&ann, &bob]).await;
    let acme = lockers.tenant("acme", at("2026-05-01")).await;
    let new = recipients(&[&bob, &cleo]);
    let before = content(lockers.folder());
    let mut walked = 0;
    'walk: for nth in 1.. {
        for (way, countdown) in ways(nth) {
            let case = format!("call {nth} {way}");
            set(lockers.folder(), &before);
            let ring = Ring::counted(&lockers, &countdown).await;
            let ended = ring.rewrap(&ann, &new).await;
            if !countdown.is_reached() {
                break 'walk;
            }
            walked += 1;
            let ring = Ring::new(&lockers).await;
            // Who is in both lists opens every copy, at any moment.
            opens_in_each(&ring, "acme", &[&bob], &case).await;
            let problems = ring.check().await.problems;
            assert!(problems.is_empty() || way != "is the last of a killed run", "{case}: {problems:?}");
            if ended.is_ok_and(|report| class(report.class) == 0) {
                only_newest(&lockers, acme.record.key_id, &[&bob, &cleo], &[&ann], &case);
            }
            // The same command again, by the same person, who may have lost what he opened it with.
            let next = ring.rewrap(&ann, &new).await.unwrap();
            assert_eq!(class(next.class), 0, "{case}: {next:?}");
            only_newest(&lockers, acme.record.key_id, &[&bob, &cleo], &[&ann], &case);
            let check = ring.check().await;
            assert!(check.problems.is_empty() && check.leftovers.is_empty(), "{case}: {check:?}");
        }
    }
    walked_through(walked, "store calls of a rewrap");
    assert!(walked > 100, "{walked}");
}

#[tokio::test]
async fn a_mirror_that_is_away_and_what_may_not_be_removed_stay_open_until_the_next_run() {
    let (ann, bob) = (Person::new(), Person::new());
    let lockers = wrapped_to(&[&ann]).await;
    let acme = lockers.tenant("acme", at("2026-05-01")).await;
    lockers.tenant("globex", at("2026-05-01")).await;
    let new = recipients(&[&bob]);
    let before = content(lockers.folder());

    let report = Ring::without_mirror(&lockers).await.rewrap(&ann, &new).await.unwrap();
    let ring = Ring::new(&lockers).await;
    assert_eq!((class(report.class), outcomes(&report), report.open.len()), (3, vec!["open"; 2], 1), "{report:?}");
    assert!(report.open[0].contains("/mirror: what was wrapped before stays"), "{report:?}");
    assert_eq!(wrappings(&lockers, "keyring", acme.record.key_id).0, [2].into());
    assert_eq!(wrappings(&lockers, "mirror", acme.record.key_id).0, [1].into());
    // Its old wrapping is named, and a repair brings the newest there and not the old one back.
    let trust = ring.keyring.stores().cloned().collect::<Vec<_>>();
    let repair = Repair {
        vault: &ring.vault,
        keyring: trust[0].clone(),
        mirrors: vec![trust[1].clone()],
        dry_run: false,
        approvals: 0,
        operator: None,
    };
    let repaired = repair.run(ring.now).await.unwrap();
    assert!(repaired.problems.is_empty(), "{repaired:?}");
    assert_eq!(repaired.superseded.len(), 2, "{repaired:?}");
    assert_eq!(wrappings(&lockers, "keyring", acme.record.key_id).0, [2].into());
    assert_eq!(wrappings(&lockers, "mirror", acme.record.key_id).0, [1, 2].into());
    let check = ring.check().await;
    assert_eq!((check.problems.len(), check.superseded.len()), (0, 2), "{check:?}");
    // Nothing has to be opened for what is left.
    let report = ring.rewrap(&bob, &new).await.unwrap();
    assert_eq!((class(report.class), outcomes(&report)), (0, vec!["done"; 2]), "{report:?}");
    only_newest(&lockers, acme.record.key_id, &[&bob], &[&ann], "mirror");
    assert!(ring.check().await.superseded.is_empty());

    set(lockers.folder(), &before);
    let mut ring = Ring::new(&lockers).await;
    ring.removers = open(lockers.folder()).await.into_iter().skip(1).collect();
    let denied = Arc::new(FaultStore::new(ring.removers[1].clone()));
    for nth in [1, 2] {
        denied.fail(Operation::Delete, "k/", nth, Fault::Refused(StoreErrorKind::Denied));
    }
    ring.removers[1] = denied;
    let report = ring.rewrap(&ann, &new).await.unwrap();
    assert_eq!((class(report.class), report.open.len()), (3, 2), "{report:?}");
    assert!(report.open.iter().all(|open| open.contains("/k/") && open.contains("still there")), "{report:?}");
    assert_eq!(wrappings(&lockers, "mirror", acme.record.key_id).0, [1, 2].into());
    let ring = Ring::new(&lockers).await;
    assert_eq!(class(ring.rewrap(&ann, &new).await.unwrap().class), 0);
    only_newest(&lockers, acme.record.key_id, &[&bob], &[&ann], "denied");

    // A store that may keep versions and does not tell: what is only hidden is not called removed.
    set(lockers.folder(), &before);
    let mut ring = Ring::new(&lockers).await;
    let silent = Arc::new(FaultStore::new(ring.removers[0].clone()));
    silent.fail(Operation::Facts, "", 1, Fault::Refused(StoreErrorKind::Denied));
    ring.removers[0] = silent.clone();
    let report = ring.rewrap(&ann, &new).await.unwrap();
    assert_eq!((class(report.class), report.open.len(), silent.calls(Operation::Delete, "")), (3, 2, 0), "{report:?}");
}

/// Two at once, for the same people and for others, end with one whole wrapping; so does a rewrap that meets a number that is taken.
#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_end_with_one() {
    let (ann, bob, cleo) = (Person::new(), Person::new(), Person::new());
    let lockers = wrapped_to(&[&ann, &bob]).await;
    let acme = lockers.tenant("acme", at("2026-05-01")).await;
    let before = content(lockers.folder());
    let (new, other) = (recipients(&[&bob, &cleo]), recipients(&[&bob]));
    for round in 0..20 {
        set(lockers.folder(), &before);
        let (one, two) = (Ring::new(&lockers).await, Ring::new(&lockers).await);
        let (left, right) = tokio::join!(async { one.rewrap(&ann, &new).await.unwrap() }, async {
            two.rewrap(&bob, if round % 2 == 0 { &new } else { &other }).await.unwrap()
        },);
        for report in [&left, &right] {
            // Who is not among those whom the other one wraps to, and comes second, opens nothing.
            let too_late = report.results[0].error.as_ref().is_some_and(|error| error.kind == "wrong-identity");
            assert!([0, 3, 6].contains(&class(report.class)) || round % 2 == 1 && too_late, "{report:?}");
        }
        opens_in_each(&one, "acme", &[&bob], &format!("round {round}")).await;
        assert!(one.check().await.problems.is_empty());
        assert_eq!(class(one.rewrap(&bob, &new).await.unwrap().class), 0);
        only_newest(&lockers, acme.record.key_id, &[&bob, &cleo], &[&ann], &format!("round {round}"));
    }
    // Somebody else's record lies under the next number in one store, and a half that nobody signed for in the other.
    for name in ["keyring/t", "mirror/k"] {
        set(lockers.folder(), &before);
        let path = match name {
            "keyring/t" => Document::Rewrapping(acme.record.name_tag, acme.record.key_id, 2).to_string(),
            _ => ObjectName::SecretKey { key_id: acme.record.key_id, wrapping: 2 }.to_string(),
        };
        std::fs::write(lockers.folder().join(&name[..name.len() - 2]).join(path), "anything").unwrap();
        let ring = Ring::new(&lockers).await;
        let report = ring.rewrap(&ann, &new).await.unwrap();
        assert_eq!(class(report.class), 0, "{name}: {report:?}");
        assert_eq!(only_newest(&lockers, acme.record.key_id, &[&bob, &cleo], &[&ann], name), 3);
    }
}

/// What a store says that it took is read before anything older goes: another writer may have replaced it at that moment.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_older_goes_before_the_new_one_was_read_back() {
    let (ann, bob) = (Person::new(), Person::new());
    let lockers = wrapped_to(&[&ann, &bob]).await;
    let acme = lockers.tenant("acme", at("2026-05-01")).await;
    let new = recipients(&[&bob]);
    let before = content(lockers.folder());
    for store in ["/keyring", "/mirror"] {
        for part in [".age", ".json", ".sig"] {
            let case = format!("{store} {part}");
            set(lockers.folder(), &before);
            let ring = Ring::through(&lockers, |inner| {
                let replaced = inner.address().ends_with(store);
                let inner = FaultStore::new(inner);
                if replaced {
                    let is_part = move |called, name: &str| called == Operation::Put && name.ends_with(part);
                    inner.fail_where(is_part, 1, Fault::Overwritten);
                }
                Arc::new(inner)
            });
            let ring = ring.await;
            let report = ring.rewrap(&bob, &new).await.unwrap();
            assert_eq!(class(report.class), 0, "{case}: {report:?}");
            assert_eq!(only_newest(&lockers, acme.record.key_id, &[&bob], &[&ann], &case), 3);
            opens_in_each(&ring, "acme", &[&bob], &case).await;
        }
    }
}

/// A purge, or a prune of this key, that comes in between wins.
#[tokio::test]
async fn a_purge_meanwhile_wins() {
    let (ann, bob) = (Person::new(), Person::new());
    let lockers = wrapped_to(&[&ann]).await;
    let acme = lockers.tenant("acme", at("2026-05-01")).await;
    let before = content(lockers.folder());
    let keys = vec![acme.record.key_id];
    for (purged, kind) in [(Purged::All { keys: keys.clone() }, "tenant-purged"), (Purged::Keys { keys }, "key-destroyed")] {
        set(lockers.folder(), &before);
        Ring::new(&lockers).await.purge(&acme.record, purged).await;
        let purged = content(lockers.folder());
        let note: Content =
            purged.iter().filter(|(name, _)| !before.contains_key(*name)).map(|(n, b)| (n.clone(), b.clone())).collect();
        set(lockers.folder(), &before);
        let folder = lockers.folder().to_owned();
        let ring = Ring::through(&lockers, |store| {
            let (store, folder, note) = (FaultStore::new(store), folder.clone(), note.clone());
            store.fail_where(
                move |operation, name| {
                    if operation == Operation::Put && name.starts_with("k/") {
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
            Arc::new(store)
        })
        .await;
        let report = ring.rewrap(&ann, &recipients(&[&bob])).await.unwrap();
        assert_eq!(report.results[0].error.as_ref().unwrap().kind, kind, "{report:?}");
        assert_eq!(class(report.class), 4, "somebody who left may open it yet: {report:?}");
        let is_as_purged = || but_for_records(&content(lockers.folder())) == but_for_records(&purged);
        assert!(is_as_purged(), "what it wrote is gone again, and nothing else");
        let report = ring.rewrap(&ann, &recipients(&[&bob])).await.unwrap();
        assert!(report.results.is_empty(), "{report:?}");
        assert!(is_as_purged());
    }
}

/// A worker signs keys. Were its word enough for a new wrapping, it could put one that nobody opens in the good one's place.
#[tokio::test]
async fn a_workers_wrapping_counts_for_nothing() {
    let ann = Person::new();
    let lockers = wrapped_to(&[&ann]).await;
    let acme = lockers.tenant("acme", at("2026-05-01")).await;
    let ring = Ring::new(&lockers).await;
    let garbage = b"nobody opens this".to_vec();
    let rewrapping = tenure::format::key_record::Rewrapping {
        format: 1,
        installation: lockers.installation(),
        key_id: acme.record.key_id,
        name_tag: acme.record.name_tag,
        wrapping: 2,
        sha256: Sha256Digest::of(&garbage),
        recipients: vec![ann.1.clone()],
        created_at: ring.now,
    };
    let document = Document::Rewrapping(acme.record.name_tag, acme.record.key_id, 2);
    signed::create(ring.keyring.store(), &document, &rewrapping, Namespace::Key, &lockers.key("worker")).await.unwrap();
    let name = ObjectName::SecretKey { key_id: acme.record.key_id, wrapping: 2 };
    signed::create_object(ring.keyring.store(), &name, garbage.into()).await.unwrap();
    let half = ring.keyring.secret_half(&acme.record).await.unwrap();
    ann.identity().unwrap(&half).unwrap();
    let problems = ring.check().await.problems;
    assert!(problems.iter().any(|problem| problem.problem.contains("no operator")), "{problems:?}");
    let report = ring.rewrap(&ann, &recipients(&[&ann])).await.unwrap();
    assert_eq!(class(report.class), 0, "{report:?}");
    assert_eq!(only_newest(&lockers, acme.record.key_id, &[&ann], &[], "forged"), 3);
}

/// A worker's key makes records of keys: by saying that one was wrapped anew it would stop everybody.
#[tokio::test]
async fn only_an_operator_says_that_a_key_was_wrapped_anew() {
    let ann = Person::new();
    let lockers = wrapped_to(&[&ann]).await;
    let acme = lockers.tenant("acme", at("2026-05-01")).await;
    let ring = Ring::new(&lockers).await;
    let record = |wrapping| Rewrapped {
        format: 1,
        installation: lockers.installation(),
        locker: acme.record.locker,
        key_id: acme.record.key_id,
        wrapping,
        id: RecordId::random(),
        created_at: ring.now,
    };
    for (signer, wrapping, believed) in [("worker", 9, false), ("operator", u32::MAX, false), ("operator", 8, true)] {
        let record = record(wrapping);
        ring.vault.put_rewrapped(&record, &lockers.key(signer)).await.unwrap();
        let wrappings = ring.vault.wrappings(record.locker).await.unwrap();
        assert!(wrappings.of(record.key_id).contains(&wrapping));
        assert_eq!(ring.vault.is_replaced(&wrappings, record.key_id, 1).await.unwrap(), believed, "{signer}");
        assert!(!ring.vault.is_replaced(&wrappings, record.key_id, wrapping).await.unwrap(), "{signer}");
        let document = Document::Rewrapped(record.locker, record.key_id, wrapping, record.id);
        assert_eq!(ring.vault.rewrapped(&document).await.is_ok(), signer == "operator", "{signer}");
        let check = ring.check().await;
        assert_eq!(check.problems.is_empty(), !believed, "{signer}: {check:?}");
    }
    // Somebody removes what the operator signed: its signature still says it.
    let folder = lockers.folder().join(format!("vault/t/{}/w", acme.record.locker));
    for path in files(&folder).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")) {
        std::fs::remove_file(path).unwrap();
    }
    let wrappings = ring.vault.wrappings(acme.record.locker).await.unwrap();
    assert!(ring.vault.is_replaced(&wrappings, acme.record.key_id, 1).await.unwrap());
    assert!(!ring.vault.is_replaced(&wrappings, acme.record.key_id, 9).await.unwrap());
}
