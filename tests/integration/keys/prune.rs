//! `keys prune`.

use tenure::{
    format::hold::{Hold, HoldAct},
    id::InstallationId,
    operation::{
        backup::{self, Backup},
        held::FleetLocks,
        keys::{
            prune::{Prune, PruneReport},
            repair::Repair,
        },
        living, lost,
    },
    store::{fault::Operation, s3::S3Store},
};

use super::*;
use crate::harness::{
    locker::{Night, Tenant},
    postgres::shared,
    s3::{self, S3Server as _},
    site::Site,
};

/// A tenant with two keys, of which the first one's only backup has expired and was removed.
struct Old {
    tenant: Tenant,
    first: KeyRecord,
    /// Sealed with the second key.
    night: Night,
    /// The objects of the first one's backup.
    removed: Content,
}

impl Old {
    async fn new(lockers: &Lockers, name: &str) -> Self {
        let mut tenant = lockers.tenant(name, at("2026-01-01")).await;
        let expired = lockers.night(&mut tenant, at("2026-01-02"), &[]).await;
        let mut ring = Ring::new(lockers).await;
        ring.now = at("2026-02-01");
        let first = tenant.record.clone();
        assert_eq!(class(ring.rotate(&Which::Named(vec![name.parse().unwrap()])).await.unwrap().class), 0);
        tenant.record = ring.keys(name).await.sealing().unwrap().clone();
        let night = lockers.night(&mut tenant, at("2026-02-02"), &[]).await;
        let manifest = Document::Manifest(first.locker, expired.id());
        let before = content(lockers.folder());
        let removed = [format!("vault/{manifest}"), format!("vault/{manifest}.sig")].map(|name| {
            std::fs::remove_file(lockers.folder().join(&name)).unwrap();
            (name.clone(), before[&name].clone())
        });
        Self { tenant, first, night, removed: removed.into() }
    }

    /// What any store has of the first key.
    fn copies(&self, lockers: &Lockers) -> Content {
        let id = self.first.key_id.to_string();
        content(lockers.folder()).into_iter().filter(|(name, _)| name.contains(&id)).collect()
    }
}

/// When the first key's backup has expired, and the second one's has not.
async fn in_july(lockers: &Lockers) -> Ring<'_> {
    Ring { now: at("2026-07-15"), operator: lockers.key("eraser"), ..Ring::new(lockers).await }
}

impl Ring<'_> {
    async fn prune(&self, which: &Which, dry_run: bool) -> Result<PruneReport, Failure> {
        let (clock, cancel) = (|| self.now, CancellationToken::new());
        let change = Change { dry_run, role: "eraser", ..self.change(&clock, &cancel) };
        Prune { change, locks: &self.locks }.run(which).await
    }
}

fn outcomes(report: &PruneReport) -> Vec<&'static str> {
    report.results.iter().map(|result| result.outcome.as_str()).collect()
}

fn hold(locker: tenure::id::Locker, installation: InstallationId, act: HoldAct) -> Hold {
    Hold { format: 1, installation, locker, id: RecordId::random(), act, created_at: at("2026-07-01") }
}

fn named(name: &str) -> Which {
    Which::Named(vec![name.parse().unwrap()])
}

async fn small() -> Lockers {
    let mut lockers = Lockers::new().await;
    lockers.ranges = 2;
    lockers
}

#[tokio::test]
async fn a_key_goes_when_no_backup_needs_it_and_never_comes_back() {
    let lockers = small().await;
    let old = Old::new(&lockers, "acme").await;
    lockers.tenant("globex", at("2026-01-01")).await;
    let ring = in_july(&lockers).await;
    let pruned = content(lockers.folder());

    // Expired and not yet removed: it counts.
    let with: Content = pruned.iter().chain(&old.removed).map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
    set(lockers.folder(), &with);
    let report = ring.prune(&Which::All, false).await.unwrap();
    assert_eq!((class(report.class), outcomes(&report), report.run), (0, vec!["unchanged"; 2], None));
    assert!(report.results[0].kept[0].because.contains("1 backup is sealed"), "{:?}", report.results[0].kept);
    assert!(ring.check().await.prunable.is_empty());
    assert_eq!(content(lockers.folder()), with);

    set(lockers.folder(), &pruned);
    assert_eq!(ring.check().await.prunable, [format!("key {} of tenant acme", old.first.key_id)]);
    let report = ring.prune(&Which::All, true).await.unwrap();
    assert_eq!((outcomes(&report), report.results[0].keys.len()), (vec!["planned", "unchanged"], 1));
    assert_eq!(content(lockers.folder()), pruned);

    let kept = old.copies(&lockers);
    assert_eq!(kept.len(), 6);
    let report = ring.prune(&Which::All, false).await.unwrap();
    assert_eq!((class(report.class), outcomes(&report)), (0, vec!["done", "unchanged"]), "{report:?}");
    assert_eq!(report.results[0].keys, [old.first.key_id.to_string()]);
    assert_eq!(report.results[0].key_copies.len(), 2);
    assert!(old.copies(&lockers).is_empty());
    let act = ring.vault.act(report.run.unwrap().parse().unwrap()).await.unwrap();
    assert_eq!((&act.lockers[0].keys[..], act.lockers[0].objects), (&[old.first.key_id][..], 6));
    assert!(ring.vault.gone(old.first.locker).await.unwrap().names_key(old.first.key_id));
    lockers.opens(&old.tenant, &old.night).await.unwrap();
    let check = ring.check().await;
    assert!(check.problems.is_empty() && check.leftovers.is_empty() && check.prunable.is_empty(), "{check:?}");
    let done = content(lockers.folder());
    assert_eq!(outcomes(&ring.prune(&Which::All, false).await.unwrap()), ["unchanged"; 2]);
    assert_eq!(content(lockers.folder()), done);

    // Whoever removes the note, or died before it was whole: by the record that it was begun it says what it said.
    let gone = lockers.folder().join(format!("vault/t/{}/gone", old.first.locker));
    let note = std::fs::read_dir(&gone).unwrap().map(|entry| entry.unwrap().path());
    let note = note.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "json")).unwrap();
    let bytes = std::fs::read(&note).unwrap();
    std::fs::remove_file(&note).unwrap();
    let said = ring.vault.gone(old.first.locker).await.unwrap();
    assert!(!said.is_purged() && said.names_key(old.first.key_id), "{said:?}");
    let runs = (lockers.folder().join("vault/runs"), lockers.folder().join("vault/away"));
    std::fs::rename(&runs.0, &runs.1).unwrap();
    assert!(ring.vault.is_purged(old.first.locker).await.unwrap(), "nobody knows what it said");
    std::fs::rename(&runs.1, &runs.0).unwrap();
    std::fs::write(&note, bytes).unwrap();

    // Somebody puts an old copy back, whole or in part: nothing uses it, nothing spreads it, and it is destroyed again.
    for part in ["", "keyring/k/", "mirror/t/", "mirror/k/"] {
        let back = kept.iter().filter(|(name, _)| name.starts_with(part));
        let back: Content = done.iter().chain(back).map(|(name, bytes)| (name.clone(), bytes.clone())).collect();
        set(lockers.folder(), &back);
        let problems = ring.check().await.problems;
        assert!(!problems.is_empty() && problems.iter().all(|problem| problem.problem.contains("is destroyed")), "{problems:?}");
        let objects: BTreeSet<&str> = problems.iter().map(|problem| &*problem.object).collect();
        assert_eq!(objects.len(), problems.len(), "each is said once: {problems:?}");
        let stores: Vec<_> = ring.keyring.stores().cloned().collect();
        let repair = Repair {
            vault: &ring.vault,
            keyring: stores[0].clone(),
            mirrors: vec![stores[1].clone()],
            dry_run: false,
            approvals: 0,
            operator: None,
        };
        let repaired = repair.run(ring.now).await.unwrap();
        assert!(repaired.put_back.is_empty() && repaired.problems.is_empty(), "{part}: {repaired:?}");
        assert_eq!(content(lockers.folder()), back, "{part}");
        let report = ring.prune(&named("acme"), false).await.unwrap();
        assert_eq!((class(report.class), outcomes(&report)), (0, vec!["done"]), "{part}: {report:?}");
        assert!(old.copies(&lockers).is_empty(), "{part}");
        assert!(ring.check().await.problems.is_empty());
        lockers.opens(&old.tenant, &old.night).await.unwrap();
    }
}

#[tokio::test]
async fn what_forbids_it_keeps_the_key() {
    let lockers = small().await;
    let (acme, globex) = (Old::new(&lockers, "acme").await, Old::new(&lockers, "globex").await);
    let before = content(lockers.folder());
    let ring = in_july(&lockers).await;
    let kept = |report: &PruneReport| report.results[0].kept.first().map(|kept| kept.because.clone()).unwrap_or_default();

    // A backup that began with the old key may still be at it.
    let first = lockers.tenant("initech", at("2026-07-01")).await.record.key_id;
    let rotating = Ring { now: at("2026-07-14"), ..Ring::new(&lockers).await };
    rotating.rotate(&named("initech")).await.unwrap();
    let report = ring.prune(&named("initech"), false).await.unwrap();
    assert!(kept(&report).contains("the key after it was made"), "{report:?}");
    let later = Ring { now: at("2026-07-17"), ..in_july(&lockers).await };
    assert_eq!(later.prune(&named("initech"), false).await.unwrap().results[0].keys, [first.to_string()]);
    set(lockers.folder(), &before);
    // No lock, no prune; no eraser, no prune.
    let busy = Ring { locks: TestLocks::Taken, ..in_july(&lockers).await };
    assert_eq!(class(busy.prune(&named("acme"), false).await.unwrap().class), 6);
    let operator = Ring { operator: lockers.key("operator"), ..in_july(&lockers).await };
    assert_eq!(operator.prune(&named("acme"), false).await.unwrap_err().kind, "key-not-allowed");
    assert_eq!(content(lockers.folder()), before);

    let (locker, installation) = (acme.first.locker, lockers.installation());
    let placed = hold(locker, installation, HoldAct::Placed { reason: "sealed".to_owned() });
    ring.vault.put_hold(&placed, &lockers.key("operator")).await.unwrap();
    let held = content(lockers.folder());
    let report = ring.prune(&named("acme"), false).await.unwrap();
    assert_eq!((class(report.class), outcomes(&report), kept(&report).as_str()), (4, vec!["refused"], "it is on hold"));
    assert!(ring.check().await.prunable.iter().all(|key| key.contains("globex")));
    assert!(but_for_records(&content(lockers.folder())) == but_for_records(&held));
    // The others are done all the same.
    let report = ring.prune(&Which::All, false).await.unwrap();
    assert_eq!((class(report.class), outcomes(&report)), (4, vec!["refused", "done"]), "{report:?}");
    assert!(globex.copies(&lockers).is_empty() && acme.copies(&lockers).len() == 6);

    // A hold that comes in while the note is written: the key stays, until it is released.
    let hold_files: Content =
        held.iter().filter(|(name, _)| !before.contains_key(*name)).map(|(n, b)| (n.clone(), b.clone())).collect();
    set(lockers.folder(), &before);
    let folder = lockers.folder().to_owned();
    let meanwhile = Ring::through(&lockers, |store| {
        let (store, folder, files) = (FaultStore::new(store), folder.clone(), hold_files.clone());
        store.fail_where(
            move |operation, name| {
                if operation == Operation::Put && name.contains("/gone/") {
                    write(&folder, &files);
                }
                false
            },
            1,
            Fault::Lost,
        );
        Arc::new(store)
    })
    .await;
    let meanwhile = Ring { now: ring.now, operator: lockers.key("eraser"), ..meanwhile };
    let report = meanwhile.prune(&named("acme"), false).await.unwrap();
    assert_eq!((class(report.class), acme.copies(&lockers).len()), (4, 6), "{report:?}");
    assert_eq!(class(ring.prune(&named("acme"), false).await.unwrap().class), 4, "the note alone destroys nothing");
    assert_eq!(acme.copies(&lockers).len(), 6);
    let release = hold(locker, installation, HoldAct::Released { hold: placed.id });
    ring.vault.put_hold(&release, &lockers.key("operator")).await.unwrap();
    assert_eq!(class(ring.prune(&named("acme"), false).await.unwrap().class), 0);
    assert!(acme.copies(&lockers).is_empty());

    // What cannot be read may need it: that tenant stops, and no other.
    set(lockers.folder(), &before);
    let manifest = Document::Manifest(locker, acme.night.id()).to_string();
    std::fs::write(lockers.folder().join("vault").join(&manifest), "{}").unwrap();
    let report = ring.prune(&Which::All, false).await.unwrap();
    assert_eq!((class(report.class), outcomes(&report)), (5, vec!["failed", "done"]), "{report:?}");
    assert!(report.results[0].error.as_ref().unwrap().object.contains(&manifest), "{report:?}");
    assert!(acme.copies(&lockers).len() == 6 && globex.copies(&lockers).is_empty());
}

fn write(folder: &Path, files: &Content) {
    for (name, bytes) in files {
        std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

#[tokio::test]
async fn a_mirror_that_is_away_is_finished_by_the_next_run() {
    let lockers = small().await;
    let old = Old::new(&lockers, "acme").await;
    let away = Ring { now: at("2026-07-15"), operator: lockers.key("eraser"), ..Ring::without_mirror(&lockers).await };
    for _ in 0..2 {
        let report = away.prune(&Which::All, false).await.unwrap();
        assert_eq!((class(report.class), outcomes(&report)), (3, vec!["open"]), "{report:?}");
        assert!(report.results[0].open[0].starts_with("file:///mirror: "), "{report:?}");
        assert_eq!((old.copies(&lockers).len(), report.results[0].key_copies.len()), (3, 1));
    }
    let ring = in_july(&lockers).await;
    assert!(!ring.check().await.problems.is_empty(), "what is left there is named");
    let report = ring.prune(&Which::All, false).await.unwrap();
    assert_eq!((class(report.class), outcomes(&report)), (0, vec!["done"]), "{report:?}");
    assert!(old.copies(&lockers).is_empty());
}

/// Whatever fails, wherever it is killed: nothing goes before its note, no other key goes at all, and the next run ends it.
#[tokio::test(flavor = "multi_thread")]
async fn every_store_call_may_fail() {
    let kit = Person::new();
    let mut lockers = wrapped_to(&[&kit]).await;
    lockers.ranges = 1;
    let old = Old::new(&lockers, "acme").await;
    let before = content(lockers.folder());
    let mut walked = 0;
    'walk: for nth in 1.. {
        for (way, countdown) in ways(nth) {
            let case = format!("call {nth} {way}");
            set(lockers.folder(), &before);
            let (now, operator) = (at("2026-07-15"), lockers.key("eraser"));
            let ring = Ring { now, operator, ..Ring::counted(&lockers, &countdown).await };
            let ended = ring.prune(&Which::All, false).await;
            if !countdown.is_reached() {
                break 'walk;
            }
            walked += 1;
            let ring = in_july(&lockers).await;
            let noted = ring.vault.gone(old.first.locker).await.unwrap().names_key(old.first.key_id);
            let left = old.copies(&lockers).len();
            assert!(noted || left == 6, "{case}: something went before the note");
            if ended.is_ok_and(|report| class(report.class) == 0) {
                assert_eq!(left, 0, "{case}");
            }
            let second = old.tenant.record.key_id.to_string();
            let after = content(lockers.folder());
            assert!(before.iter().all(|(name, bytes)| !name.contains(&second) || after.get(name) == Some(bytes)), "{case}");
            let next = ring.prune(&Which::All, false).await.unwrap();
            assert_eq!((class(next.class), old.copies(&lockers).len()), (0, 0), "{case}: {next:?}");
            opens_in_each(&ring, "acme", &[&kit], &case).await;
            let problems = ring.check().await.problems;
            assert!(problems.is_empty(), "{case}: {problems:?}");
        }
    }
    walked_through(walked, "store calls of a prune");
    assert!(walked > 100, "{walked}");
}

/// An old copy of the keyring, put back, knows a key that was destroyed and not the one that came after it: its tenant is not a new one.
#[tokio::test(flavor = "multi_thread")]
async fn with_an_old_keyring_nobody_is_taken_for_new() {
    let site = Site::new().await;
    shared().sql(&site.database("acme"), "CREATE TABLE t AS SELECT n FROM generate_series(1, 100) n");
    assert_eq!(site.all().await.class, None);
    let whole = |store: &str| -> Content {
        let folder = site.folder().join(store);
        let name = |path: &Path| path.strip_prefix(&folder).unwrap().to_string_lossy().into_owned();
        files(&folder).iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
    };
    let old = whole("keyring");
    let Backup { vault, keyring, clusters, signer, recipients, cancel, .. } = &site.backup;
    let removers: Vec<_> = keyring.stores().cloned().collect();
    let change = Change {
        vault,
        keyring,
        removers: &removers,
        signer,
        role: "operator",
        clock: &Utc::now,
        progress: &Silent,
        cancel,
        dry_run: false,
        approvals: None,
    };
    let locks = FleetLocks { clusters, installation: vault.root().installation };
    let report = Rotate { change, locks: &locks, recipients }.run(&Which::All).await.unwrap();
    assert_eq!(class(report.class), 0, "{report:?}");
    assert_eq!(site.all().await.class, None);
    // The first backup is let go of, then the key.
    let keys = keyring.keys(&"acme".parse().unwrap()).await.unwrap().unwrap();
    let first = keys.records[0].clone();
    let history = vault.history(first.locker, Utc::now()).await.unwrap();
    let expired = history.backups.iter().find(|backup| backup.manifest.key_id == first.key_id).unwrap();
    vault.store().delete(&Document::Manifest(first.locker, expired.manifest.backup).to_string()).await.unwrap();
    let note = PurgeNote {
        format: 1,
        installation: vault.root().installation,
        locker: first.locker,
        id: RecordId::random(),
        name_tag: first.name_tag,
        purged: Purged::Keys { keys: vec![first.key_id] },
        created_at: Utc::now(),
    };
    vault.put_purge_note(&note, signer).await.unwrap();
    for lost in ["k/", ""] {
        for name in whole("keyring").keys().filter(|name| name.starts_with(lost) && *name != "keyring.json") {
            std::fs::remove_file(site.folder().join("keyring").join(name)).unwrap();
        }
        write(&site.folder().join("keyring"), &old);
        let before = whole("keyring");
        let ended = site.backup.clone().run(&backup::Which::All { accept_missing: false }).await;
        let refused = ended.map_or_else(|failure| failure.class.code(), |report| class(report.class));
        assert_eq!(refused, 5, "{lost}");
        assert_eq!(whole("keyring"), before, "{lost}: no key is made");
    }
}

/// Buckets for vault, keyring and a mirror; no version of a pruned key is left in any.
#[tokio::test(flavor = "multi_thread")]
async fn no_version_of_a_pruned_key_is_left_in_a_bucket() {
    let (server, client) = (s3::shared(), s3::shared().client());
    for keeps_versions in [false, true] {
        let (mut buckets, mut stores) = (Vec::new(), Vec::<Arc<dyn Store>>::new());
        for purpose in ["prune-vault", "prune-keyring", "prune-mirror"] {
            let bucket = server.bucket(purpose).await;
            if keeps_versions {
                s3::keep_versions(&client, &bucket).await;
            }
            stores.push(Arc::new(S3Store::connect(server.settings(&bucket)).await.unwrap()));
            buckets.push(bucket);
        }
        let mut lockers = Lockers::within(stores[0].clone(), stores[1].clone(), vec![stores[2].clone()]).await;
        lockers.ranges = 2;
        let mut acme = lockers.tenant("acme", at("2026-01-01")).await;
        let first = acme.record.clone();
        let (vault, keyring) = lockers.through(stores[0].clone(), stores[1].clone(), vec![stores[2].clone()]).await;
        let ring = |operator: &str, now: &str| Ring {
            lockers: &lockers,
            vault: vault.clone(),
            keyring: Keyring::of(stores[1].clone(), vec![stores[2].clone()], keyring.root().clone(), keyring.signers().clone()),
            removers: stores[1..].to_vec(),
            operator: lockers.key(operator),
            locks: TestLocks::Free,
            now: at(now),
        };
        assert_eq!(class(ring("operator", "2026-02-01").rotate(&named("acme")).await.unwrap().class), 0);
        acme.record = ring("operator", "2026-02-01").keys("acme").await.sealing().unwrap().clone();
        let night = lockers.night(&mut acme, at("2026-02-02"), &[]).await;
        let its = async |bucket: &str| {
            let listed = client.list_object_versions().bucket(bucket).send().await.unwrap();
            let names = listed.versions().iter().map(|version| version.key().unwrap().to_owned());
            let hidden = listed.delete_markers().iter().map(|marker| marker.key().unwrap().to_owned());
            names.chain(hidden).filter(|name| name.contains(&first.key_id.to_string())).collect::<Vec<_>>()
        };
        for bucket in &buckets[1..] {
            let names = its(bucket).await;
            assert_eq!(names.len(), 3, "{names:?}");
            if keeps_versions {
                // Hidden by somebody, and written over.
                client.delete_object().bucket(bucket).key(&names[0]).send().await.unwrap();
                client.put_object().bucket(bucket).key(&names[1]).body(b"forged".to_vec().into()).send().await.unwrap();
            }
        }
        let report = ring("eraser", "2026-07-15").prune(&named("acme"), false).await.unwrap();
        if keeps_versions {
            // What is hidden is said to be so, and it is whole all the same.
            assert!(report.class.is_none() || report.class == Some(FailureClass::Integrity), "{report:?}");
        } else {
            assert_eq!((class(report.class), outcomes(&report)), (0, vec!["done"]), "{report:?}");
        }
        assert_eq!(report.results[0].key_copies.len(), 2, "{report:?}");
        for bucket in &buckets[1..] {
            assert_eq!(its(bucket).await, Vec::<String>::new(), "{bucket}, versions kept: {keeps_versions}");
        }
        lockers.opens(&acme, &night).await.unwrap();
    }
}

/// What took its place is not there, and of the destroyed key there is a record again.
#[tokio::test]
async fn a_copy_from_before_a_key_was_destroyed_is_an_old_copy_and_no_purge() {
    let lockers = small().await;
    let old = Old::new(&lockers, "acme").await;
    let copies = old.copies(&lockers);
    let report = in_july(&lockers).await.prune(&named("acme"), false).await.unwrap();
    assert_eq!(outcomes(&report), ["done"], "{report:?}");
    // Put back beside the one that took its place: nothing is lost, and it is said.
    let ring = Ring::new(&lockers).await;
    assert!(lost::old_copy(&ring.vault, &ring.keyring).await.unwrap().is_none());
    let pruned = content(lockers.folder());
    set(lockers.folder(), &pruned.iter().chain(&copies).map(|(name, bytes)| (name.clone(), bytes.clone())).collect());
    let said = lost::old_copy(&ring.vault, &ring.keyring).await.unwrap().unwrap();
    assert!(said.class.code() == 5 && said.hint.contains("`tenure keys prune acme`"), "{said:?}");
    assert!(lost::incomplete(&ring.vault, &ring.keyring).await.unwrap().is_none());
    set(lockers.folder(), &pruned);

    let mut before = content(lockers.folder());
    let newer = old.tenant.record.key_id.to_string();
    before.retain(|name, _| name.starts_with("vault/") || !name.contains(&newer));
    before.extend(copies);
    set(lockers.folder(), &before);

    let ring = Ring::new(&lockers).await;
    let failure = living::known(&ring.vault, &ring.keyring, &old.tenant.record.tenant).await.err().unwrap();
    assert_eq!((failure.class.code(), failure.kind), (5, "keyring-incomplete"), "{failure:?}");
}

/// While a guard stands against it nothing has begun: what was signed is not there for later.
#[tokio::test]
async fn a_plan_that_a_guard_refuses_does_not_begin() {
    let lockers = small().await;
    let acme = Old::new(&lockers, "acme").await;
    let operator = lockers.key("operator");
    let begun = || content(lockers.folder()).into_keys().filter(|name| name.ends_with("/begun.json")).count();
    let ring = in_july(&lockers).await;
    let (locker, installation) = (acme.first.locker, lockers.installation());
    let placed = hold(locker, installation, HoldAct::Placed { reason: "sealed".to_owned() });
    ring.vault.put_hold(&placed, &operator).await.unwrap();
    let (clock, cancel) = (|| ring.now, CancellationToken::new());
    let prune = async || {
        let change = Change { role: "eraser", approvals: Some((1, &operator)), ..ring.change(&clock, &cancel) };
        Prune { change, locks: &ring.locks }.run(&named("acme")).await.unwrap()
    };
    assert_eq!((class(prune().await.class), begun()), (4, 0));
    let released = hold(locker, installation, HoldAct::Released { hold: placed.id });
    ring.vault.put_hold(&released, &operator).await.unwrap();
    assert_eq!((class(prune().await.class), begun()), (0, 1));
    assert!(acme.copies(&lockers).is_empty());
}
