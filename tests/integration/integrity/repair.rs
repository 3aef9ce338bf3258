//! `keys repair`, object by object: killed anywhere, twice at once, and what it must never put back.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::Utc;
use tenure::{
    format::key_record::{KeyRecord, Rewrapping},
    id::{Locker, RecordId, Sha256Digest},
    keyring::Keyring,
    object_name::{Document, ObjectName},
    operation::{
        failure::Failure,
        keys::{
            self,
            repair::{Repair, RepairReport},
        },
        progress::Silent,
    },
    signature::{AllowedSigners, Namespace},
    signed,
    store::{
        Store, StoreErrorKind,
        directory::DirectoryStore,
        fault::{Fault, FaultStore, Operation},
    },
    vault::Vault,
};

use super::backed_up;
use crate::harness::site::{Site, walk};

/// Files of a store by name.
fn content(site: &Site, store: &str) -> BTreeMap<String, Vec<u8>> {
    let folder = site.folder().join(store);
    let name = |path: &PathBuf| path.strip_prefix(&folder).unwrap().to_string_lossy().into_owned();
    walk(&folder).iter().map(|path| (name(path), std::fs::read(path).unwrap())).collect()
}

/// A store with these files and no others.
fn fill(site: &Site, store: &str, content: &BTreeMap<String, Vec<u8>>) {
    let folder = site.folder().join(store);
    std::fs::create_dir_all(&folder).unwrap();
    // The folder itself stays: others have it open.
    for entry in std::fs::read_dir(&folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() { std::fs::remove_dir_all(entry.path()) } else { std::fs::remove_file(entry.path()) }.unwrap();
    }
    for (name, bytes) in content {
        write(&folder.join(name), bytes);
    }
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

async fn open(site: &Site, store: &str) -> Arc<dyn Store> {
    Arc::new(DirectoryStore::open(&site.folder().join(store)).await.unwrap())
}

async fn repair_through(site: &Site, keyring: Arc<dyn Store>) -> Result<RepairReport, Failure> {
    let mirrors = vec![open(site, "mirror").await];
    let trust = AllowedSigners::parse(&site.signers).unwrap();
    let vault = Vault::open(open(site, "vault").await, &trust).await.unwrap();
    Repair { vault: &vault, keyring, mirrors, dry_run: false, approvals: 0, operator: None }.run(Utc::now()).await
}

async fn repair(site: &Site) -> RepairReport {
    repair_through(site, open(site, "keyring").await).await.unwrap()
}

/// Two tenants; the mirror is a whole copy. Gives what a whole copy holds.
async fn mirrored() -> (Site, BTreeMap<String, Vec<u8>>) {
    let site = backed_up(&["acme", "globex"]).await;
    let whole = content(&site, "keyring");
    fill(&site, "mirror", &whole);
    (site, whole)
}

async fn record(site: &Site, tenant: &str) -> KeyRecord {
    site.backup.keyring.keys(&tenant.parse().unwrap()).await.unwrap().unwrap().records.remove(0)
}

/// The objects of one key: record, signature, secret half.
fn of_key(record: &KeyRecord) -> [String; 3] {
    let document = Document::KeyRecord(record.name_tag, record.key_id);
    let half = ObjectName::SecretKey { key_id: record.key_id, wrapping: 1 };
    [document.to_string(), format!("{document}.sig"), half.to_string()]
}

/// Lets the site's key sign what an eraser signs, too.
async fn with_eraser(site: &Site) {
    let key = site.backup.signer.public_openssh().unwrap();
    let text = format!("{}eraser@test namespaces=\"tenure-erasure\" {key}\n", site.signers);
    let (vault, signers) = (site.backup.vault.store(), Document::Signers(2));
    signed::create_bytes(vault, &signers, text.into_bytes().into(), Namespace::Root, &site.backup.signer).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_it_leaves_nothing_that_is_used_and_the_next_one_goes_on() {
    let (site, whole) = mirrored().await;
    let mut stopped = 0;
    for fault in [Fault::Refused(StoreErrorKind::Unavailable), Fault::Lost] {
        for nth in 1.. {
            fill(&site, "keyring", &BTreeMap::new());
            let failing = Arc::new(FaultStore::new(open(&site, "keyring").await));
            failing.fail(Operation::Put, "", nth, fault);
            let done = repair_through(&site, failing).await;
            let left = content(&site, "keyring");
            for name in left.keys().filter(|name| name.starts_with("t/") && name.ends_with(".json")) {
                let half = format!("k/{}.1.age", name.rsplit('/').next().unwrap().trim_end_matches(".json"));
                assert!(left.contains_key(&half) && left.contains_key(&format!("{name}.sig")), "{nth} {fault:?}: {left:?}");
            }
            // Until all is back no command takes it for a keyring.
            assert!(!left.contains_key("keyring.json") || left == whole, "{nth} {fault:?}");
            if done.is_ok() {
                break;
            }
            stopped += 1;
            let next = repair(&site).await;
            assert!(next.problems.is_empty(), "{next:?}");
            assert_eq!(content(&site, "keyring"), whole, "{nth} {fault:?}");
        }
    }
    assert_eq!(stopped, 2 * whole.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_and_a_backup_beside_them_do_no_harm() {
    let (site, whole) = mirrored().await;
    let globex = record(&site, "globex").await;
    for lost in [whole.keys().cloned().collect::<Vec<_>>(), of_key(&globex).to_vec()] {
        let left = whole.iter().filter(|(name, _)| !lost.contains(name)).map(|(name, bytes)| (name.clone(), bytes.clone()));
        fill(&site, "keyring", &left.collect());
        let (one, other) = tokio::join!(repair(&site), repair(&site));
        assert!(one.problems.is_empty() && other.problems.is_empty(), "{one:?} {other:?}");
        assert_eq!(content(&site, "keyring"), whole);
    }
    assert_eq!(site.all().await.class, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_erased_or_purged_never_comes_back() {
    let (site, whole) = mirrored().await;
    let acme = record(&site, "acme").await;
    let lost = of_key(&acme);
    let marks = [
        format!("vault/erased/{}/{}.json", acme.name_tag, RecordId::random()),
        format!("keyring/erased/{}/anything", acme.name_tag),
        format!("mirror/erased/{}/{}.json", acme.name_tag, RecordId::random()),
        format!("vault/t/{}/gone/{}.json", acme.locker, RecordId::random()),
    ];
    for mark in &marks {
        // Each of the three is lost alone, and all of them.
        for lost in lost.iter().map(std::slice::from_ref).chain([&lost[..]]) {
            let left = whole.iter().filter(|(name, _)| !lost.contains(name)).map(|(name, bytes)| (name.clone(), bytes.clone()));
            fill(&site, "keyring", &left.collect());
            write(&site.folder().join(mark), b"of a later version");
            let promised = promises(&site).await;
            assert!(promised.is_empty(), "{mark}: {lost:?}: {promised:?}");
            let report = repair(&site).await;
            assert!(report.put_back.iter().all(|put| put.tenant.as_deref() != Some("acme")), "{mark}: {report:?}");
            assert_eq!(report.left_alone, [&lost_record(&acme)[..]], "{mark}");
            let back = content(&site, "keyring");
            assert!(lost.iter().all(|name| !back.contains_key(name)), "{mark}");
            std::fs::remove_file(site.folder().join(mark)).unwrap();
        }
    }
    assert!(repair(&site).await.problems.is_empty());
    assert_eq!(content(&site, "keyring"), whole);

    // It is erased while a repair is at it: what that wrote is removed again.
    let left = whole.iter().filter(|(name, _)| !lost.contains(name)).map(|(name, bytes)| (name.clone(), bytes.clone()));
    fill(&site, "keyring", &left.collect());
    let failing = Arc::new(FaultStore::new(open(&site, "keyring").await));
    let (mark, half) = (site.folder().join(&marks[0]), lost[2].clone());
    failing.fail_where(
        move |operation, name| {
            if operation == Operation::Put && name == half {
                write(&mark, b"a tombstone");
            }
            false
        },
        1,
        Fault::Lost,
    );
    let report = repair_through(&site, failing.clone()).await.unwrap();
    assert_eq!((failing.calls(Operation::Put, "k/"), report.left_alone.len()), (1, 1), "{report:?}");
    let back = content(&site, "keyring");
    assert!(lost.iter().all(|name| !back.contains_key(name)), "{back:?}");
}

/// What `keys check` says that a repair puts back.
async fn promises(site: &Site) -> Vec<String> {
    let keyring = &site.backup.keyring;
    let mirrors = vec![open(site, "mirror").await];
    let keyring = Keyring::of(open(site, "keyring").await, mirrors, keyring.root().clone(), keyring.signers().clone());
    let report = keys::check(&site.backup.vault, &keyring, None, Utc::now(), &Silent).await.unwrap();
    assert!(!report.problems.is_empty());
    let problems = report.problems.into_iter().map(|problem| format!("{}: {}", problem.object, problem.problem));
    problems.filter(|problem| problem.contains("puts it back")).collect()
}

fn lost_record(record: &KeyRecord) -> String {
    Document::KeyRecord(record.name_tag, record.key_id).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_go_wherever_one_is_missing() {
    let (site, _) = mirrored().await;
    with_eraser(&site).await;
    let acme = record(&site, "acme").await;
    let document = Document::Tombstone(acme.name_tag, RecordId::random());
    let mirror = open(&site, "mirror").await;
    let bytes = b"{\"format\":1}".to_vec();
    signed::create_bytes(&*mirror, &document, bytes.into(), Namespace::Erasure, &site.backup.signer).await.unwrap();
    let report = repair(&site).await;
    assert_eq!((report.put_back.len(), report.problems.len()), (2, 0), "{report:?}");
    assert!(site.backup.keyring.store().head(&document.to_string()).await.unwrap().is_some());
}

/// What is forged, moved, or signed by a key that was revoked since is named and goes nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_vouches_for_is_never_used() {
    let (site, whole) = mirrored().await;
    let (acme, globex) = (record(&site, "acme").await, record(&site, "globex").await);
    let [json, sig, half] = of_key(&acme);
    let left: BTreeMap<_, _> =
        whole.iter().filter(|(name, _)| ![&json, &sig, &half].contains(name)).map(|(n, b)| (n.clone(), b.clone())).collect();
    let text = String::from_utf8(whole[&json].clone()).unwrap();
    let forged = [
        (json.clone(), text.replace("\"sequence\":1", "\"sequence\":9").into_bytes()),
        (json.clone(), whole[&of_key(&globex)[0]].clone()),
        (sig.clone(), whole[&of_key(&globex)[1]].clone()),
        (half.clone(), whole[&of_key(&globex)[2]].clone()),
    ];
    for (name, bytes) in forged {
        fill(&site, "keyring", &left);
        fill(&site, "mirror", &whole);
        write(&site.folder().join("mirror").join(&name), &bytes);
        let report = repair(&site).await;
        assert!(!report.problems.is_empty(), "{name}");
        assert!(!content(&site, "keyring").contains_key(&name), "{name}: {report:?}");
        assert_eq!(content(&site, "mirror")[&name], bytes, "nothing is overwritten");
    }
    // A whole record and signature, of another tenant: under this one's name it is nothing.
    fill(&site, "keyring", &left);
    fill(&site, "mirror", &whole);
    for (name, of) in [&json, &sig].into_iter().zip(of_key(&globex)) {
        write(&site.folder().join("mirror").join(name), &whole[&of]);
    }
    let report = repair(&site).await;
    assert!(report.problems.iter().any(|problem| problem.problem.contains("another tenant")), "{report:?}");
    assert!(!content(&site, "keyring").contains_key(&json));

    // Put back, the store would say that it was made today, when its signer no longer counted.
    fill(&site, "keyring", &left);
    fill(&site, "mirror", &whole);
    let key = site.backup.signer.public_openssh().unwrap();
    let namespaces = "tenure-manifest,tenure-key,tenure-run,tenure-root";
    let text = format!("worker@test namespaces=\"{namespaces}\",valid-before=\"20260601Z\" {key}\n");
    let (vault, signers) = (site.backup.vault.store(), Document::Signers(2));
    signed::create_bytes(vault, &signers, text.into_bytes().into(), Namespace::Root, &site.backup.signer).await.unwrap();
    let before = SystemTime::UNIX_EPOCH + Duration::from_secs(1_770_000_000);
    for path in walk(&site.folder().join("mirror")).into_iter().chain(walk(&site.folder().join("keyring"))) {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
    }
    let report = repair(&site).await;
    assert!(report.problems.iter().any(|problem| problem.problem.contains("would not count")), "{report:?}");
    assert!(!content(&site, "keyring").contains_key(&json), "{report:?}");
}

/// A record in a mirror that a first run left is no key of the tenant, which has another; a rotation that the keyring lost is.
#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_a_first_run_stay_where_they_are_and_a_lost_rotation_comes_back() {
    let (site, whole) = mirrored().await;
    let acme = record(&site, "acme").await;
    let mirror = open(&site, "mirror").await;
    let keyring = &site.backup.keyring;
    let only_there = Keyring::of(mirror, Vec::new(), keyring.root().clone(), keyring.signers().clone());
    let make = async |locker: Locker, sequence: u64| {
        let tenant = "acme".parse().unwrap();
        let key = only_there.begin_key(&tenant, locker, sequence, &site.backup.recipients, Utc::now()).await.unwrap();
        only_there.publish_key(key, &site.backup.signer).await.unwrap()
    };
    let left = make(Locker::random(), 1).await;
    let report = repair(&site).await;
    assert_eq!((&report.put_back[..], &report.leftovers[..]), (&[][..], &[lost_record(&left)][..]), "{report:?}");
    assert_eq!(content(&site, "keyring"), whole);

    let rotated = make(acme.locker, 2).await;
    let report = repair(&site).await;
    assert_eq!((report.put_back.len(), report.problems.len()), (3, 0), "{report:?}");
    let keys = site.backup.keyring.keys(&"acme".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(keys.sealing().unwrap().key_id, rotated.key_id);
}

/// Wrapped anew for other recipients: the wrapping that was taken away stays away.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_wrapping_is_put_back() {
    let (site, whole) = mirrored().await;
    let keyring = &site.backup.keyring;
    let acme = record(&site, "acme").await;
    let [_, _, first] = of_key(&acme);
    let identity = site.identity().unwrap(&keyring.secret_half(&acme).await.unwrap()).unwrap();
    let again = site.backup.recipients.wrap(&identity).unwrap();
    let rewrapping = Rewrapping {
        format: 1,
        installation: site.backup.vault.root().installation,
        key_id: acme.key_id,
        name_tag: acme.name_tag,
        wrapping: 2,
        sha256: Sha256Digest::of(&again),
        recipients: Vec::new(),
        created_at: Utc::now(),
    };
    let document = Document::Rewrapping(acme.name_tag, acme.key_id, 2);
    signed::create(keyring.store(), &document, &rewrapping, Namespace::Key, &site.backup.signer).await.unwrap();
    let second = ObjectName::SecretKey { key_id: acme.key_id, wrapping: 2 };
    signed::create_object(keyring.store(), &second, again).await.unwrap();
    std::fs::remove_file(site.folder().join("keyring").join(&first)).unwrap();
    let rewrapped = content(&site, "keyring");

    let report = repair(&site).await;
    let put: BTreeSet<&str> = report.put_back.iter().map(|put| put.object.rsplit_once("/mirror/").unwrap().1).collect();
    let names = [document.to_string(), format!("{document}.sig"), second.to_string()];
    assert_eq!(put, names.iter().map(String::as_str).collect(), "{report:?}");
    assert_eq!(content(&site, "keyring"), rewrapped, "the older one does not come back");

    // Its record without it means nothing: then the older one is the newest.
    std::fs::remove_file(site.folder().join("keyring").join(second.to_string())).unwrap();
    std::fs::remove_file(site.folder().join("mirror").join(second.to_string())).unwrap();
    assert!(repair(&site).await.problems.is_empty());
    assert_eq!(content(&site, "keyring")[&first], whole[&first]);
}
