//! Every sentence of [`Store`]'s documentation, held against every store.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use futures_util::{StreamExt, TryStreamExt, future};
use tenure::store::directory::DirectoryStore;
use tenure::store::s3::{S3Settings, S3Store};
use tenure::store::{PutMode, PutOutcome, Store, StoreError, StoreErrorKind, Tampering, Versioning};

use crate::harness::{
    radosgw,
    s3::{self, S3Server},
};

/// Runs the whole suite in an empty store, and leaves it empty.
///
/// `many` is how many objects the listing is tried with: more than one page of the store.
pub async fn conforms(store: Arc<dyn Store>, many: usize) {
    objects_are_whole(&*store).await;
    create_only_creates_once(&store).await;
    replaces_are_never_torn(&store).await;
    limits_hold_before_reading(&*store).await;
    listings_are_complete(&*store, many).await;
    folders_are_found(&*store).await;
    deletes_remove(&store).await;
    bad_names_stay_outside(&*store).await;
    facts_leave_nothing(&*store).await;
    assert_eq!(own_names(&*store, "").await, [""; 0], "the suite cleans up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_conforms() {
    let scratch = tempfile::tempdir().unwrap();
    let store = DirectoryStore::create(&scratch.path().join("new/vault")).await.unwrap();
    conforms(Arc::new(store), 1100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_conforms() {
    let server = s3::shared();
    let store = S3Store::connect(server.settings(&server.bucket("plain").await)).await.unwrap();
    conforms(Arc::new(store), 1100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_keeps_versions_conforms() {
    let server = s3::shared();
    let bucket = server.bucket("versioned").await;
    s3::keep_versions(&server.client(), &bucket).await;
    let store = S3Store::connect(server.settings(&bucket)).await.unwrap();
    conforms(Arc::new(store), 1100).await;
    tells_tampering(server, &bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_another_server_conforms() {
    let server = radosgw::shared();
    let store = S3Store::connect(server.settings(&server.bucket("plain").await)).await.unwrap();
    conforms(Arc::new(store), 1100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_another_server_that_keeps_versions_conforms() {
    let server = radosgw::shared();
    let bucket = server.bucket("versioned").await;
    s3::keep_versions(&server.client(), &bucket).await;
    let store = S3Store::connect(server.settings(&bucket)).await.unwrap();
    conforms(Arc::new(store), 1100).await;
    tells_tampering(server, &bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_with_object_lock_conforms() {
    let server = s3::shared();
    let bucket = server.bucket_with_locks("lockable").await;
    conforms(Arc::new(S3Store::connect(server.settings(&bucket)).await.unwrap()), 1100).await;
    tells_tampering(server, &bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_another_server_with_object_lock_conforms() {
    let server = radosgw::shared();
    let bucket = server.bucket_with_locks("lockable").await;
    conforms(Arc::new(S3Store::connect(server.settings(&bucket)).await.unwrap()), 1100).await;
    tells_tampering(server, &bucket).await;
}

/// What somebody with the rights to write and to delete does behind our back.
async fn tells_tampering(server: &impl S3Server, bucket: &str) {
    let (store, client) = (S3Store::connect(server.settings(bucket)).await.unwrap(), server.client());
    let names = ["v/good", "v/hidden", "v/over", "v/same", "w/hidden"].map(str::to_owned);
    put_all(&store, &names).await;
    for name in ["v/hidden", "w/hidden"] {
        client.delete_object().bucket(bucket).key(name).send().await.unwrap();
    }
    for (name, body) in [("v/over", "something longer"), ("v/same", "v/same")] {
        client.put_object().bucket(bucket).key(name).body(body.as_bytes().to_vec().into()).send().await.unwrap();
    }
    let mut listed: Vec<_> =
        store.list("v/").map_ok(|object| (object.name, object.size, object.tampering)).try_collect().await.unwrap();
    listed.sort();
    let object = |name: &str, tampering| (name.to_owned(), name.len() as u64, tampering);
    let expected = [
        object("v/good", None),
        object("v/hidden", Some(Tampering::Hidden)),
        object("v/over", Some(Tampering::Overwritten)),
        object("v/same", None),
    ];
    assert_eq!(listed, expected);
    assert_eq!(store.list_folders("").await.unwrap().iter().filter(|name| *name != "probe").collect::<Vec<_>>(), ["v", "w"]);
    for name in &names {
        let versions = store.versions(name, 100).await.unwrap();
        assert_eq!(versions[0].bytes, name.as_bytes(), "the first version of {name} is the object");
        assert_eq!(store.head(name).await.unwrap().unwrap().size, name.len() as u64);
    }
    assert_eq!(kind(store.get("v/hidden", 100).await), StoreErrorKind::NotFound);
    assert!(store.versions("v", 100).await.unwrap().is_empty() && store.versions("v/goo", 100).await.unwrap().is_empty());
    for name in &names {
        store.delete(name).await.unwrap();
        assert_eq!(store.head(name).await.unwrap(), None);
    }
    let left = client.list_object_versions().bucket(bucket).prefix("v/").send().await.unwrap();
    assert!(left.versions().is_empty() && left.delete_markers().is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_of_a_bucket_conforms_over_tls() {
    let server = s3::shared();
    let bucket = server.bucket("shared").await;
    let settings = |prefix: &str| S3Settings {
        prefix: prefix.into(),
        endpoint: Some(server.tls_endpoint.clone()),
        ca_file: Some(server.ca.clone()),
        ..server.settings(&bucket)
    };
    let beside = S3Store::connect(settings("")).await.unwrap();
    let others = ["inner/v0/x", "inner/v10/x", "z"].map(str::to_owned);
    put_all(&beside, &others).await;
    let store = S3Store::connect(settings("inner/v1/")).await.unwrap();
    assert_eq!(store.address(), format!("s3://{bucket}/inner/v1"));
    conforms(Arc::new(store), 50).await;
    assert_eq!(own_names(&beside, "").await, ["inner/v0/x", "inner/v1/probe/create-only", "inner/v10/x", "z"]);
}

async fn objects_are_whole(store: &dyn Store) {
    let large: Vec<u8> = (0..20_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let objects = [
        ("whole/empty", Bytes::new()),
        ("whole/a.b-C_9", Bytes::from("text")),
        ("whole/large", large.into()),
        ("top", "1".into()),
    ];
    for (name, body) in &objects {
        let before = Utc::now();
        assert_eq!(store.put(name, body.clone(), PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
        assert_eq!(store.get(name, body.len() as u64).await.unwrap(), body, "{name}");
        let head = store.head(name).await.unwrap().unwrap();
        assert_eq!((head.name.as_str(), head.size), (*name, body.len() as u64));
        assert!((head.modified - before).num_seconds().abs() < 60, "{name} was modified at {}", head.modified);
    }
    // One name's being there says nothing about those around it.
    for absent in ["whole/emp", "whole/empty2", "who", "whole.empty"] {
        assert_eq!(kind(store.get(absent, 10).await), StoreErrorKind::NotFound, "{absent}");
        assert_eq!(store.head(absent).await.unwrap(), None, "{absent}");
    }
    for (name, _) in &objects {
        store.delete(name).await.unwrap();
    }
}

async fn create_only_creates_once(store: &Arc<dyn Store>) {
    // A server that does not decide by itself cannot tell two who write at the same moment apart.
    let decides = store.facts().await.unwrap().create_only == Some(true);
    for round in 0..4 {
        let name = format!("once/{round}/object");
        let writers = (0..if decides { 16 } else { 1 }).map(|writer| {
            let (store, name) = (Arc::clone(store), name.clone());
            tokio::spawn(async move {
                let body = Bytes::from(format!("writer {writer}").repeat(1000));
                (store.put(&name, body.clone(), PutMode::CreateOnly).await.unwrap(), body)
            })
        });
        let outcomes: Vec<_> = future::join_all(writers).await.into_iter().map(Result::unwrap).collect();
        let stored: Vec<_> = outcomes.iter().filter(|(outcome, _)| *outcome == PutOutcome::Stored).collect();
        assert_eq!(stored.len(), 1, "exactly one creates {name}");
        let body = &stored[0].1;
        assert_eq!(store.get(&name, 1 << 20).await.unwrap(), body);

        // The same bytes again are the same object; others are refused and change nothing, be they shorter or longer.
        assert_eq!(store.put(&name, body.clone(), PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
        for other in [Bytes::new(), Bytes::from("x"), Bytes::from([&body[..], b"x"].concat())] {
            assert_eq!(store.put(&name, other, PutMode::CreateOnly).await.unwrap(), PutOutcome::Exists);
        }
        assert_eq!(store.get(&name, 1 << 20).await.unwrap(), body);

        store.delete(&name).await.unwrap();
        assert_eq!(store.put(&name, "free".into(), PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
        store.delete(&name).await.unwrap();
    }
}

async fn replaces_are_never_torn(store: &Arc<dyn Store>) {
    let name = "torn/object";
    let version = |n: u8| Bytes::from(vec![n; 70_000 + usize::from(n)]);
    assert_eq!(store.put(name, version(0), PutMode::Replace).await.unwrap(), PutOutcome::Stored);
    let writers = (1..=4_u8).map(|writer| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for round in 0..8 {
                store.put(name, version(writer * 8 + round), PutMode::Replace).await.unwrap();
            }
        })
    });
    let writing = tokio::spawn(future::join_all(writers));
    while !writing.is_finished() {
        let seen = store.get(name, 1 << 20).await.unwrap();
        assert_eq!(seen, version(seen[0]), "a version whole, or none");
    }
    for outcome in writing.await.unwrap() {
        outcome.unwrap();
    }
    store.delete(name).await.unwrap();
}

async fn limits_hold_before_reading(store: &dyn Store) {
    store.put("limit/object", Bytes::from(vec![7; 1000]), PutMode::CreateOnly).await.unwrap();
    assert_eq!(kind(store.get("limit/object", 999).await), StoreErrorKind::TooLarge);
    assert_eq!(kind(store.get("limit/object", 0).await), StoreErrorKind::TooLarge);
    assert_eq!(store.get("limit/object", 1000).await.unwrap().len(), 1000);
    assert_eq!(store.get("limit/object", u64::MAX).await.unwrap().len(), 1000);
    store.delete("limit/object").await.unwrap();
}

async fn listings_are_complete(store: &dyn Store, many: usize) {
    let all: BTreeSet<String> = (0..many).map(|n| format!("many/{}/{n}", n % 3)).collect();
    put_all(store, &all).await;
    let mut beside = vec!["many2/x".to_owned(), "manyx/y".to_owned()];
    // SeaweedFS loses a name between a folder's and its content's from a listing of versions. No names of ours stand so.
    if !keeps_versions(store).await {
        beside.push("many.x".to_owned());
    }
    put_all(store, &beside).await;

    let listed: Vec<_> = store.list("many/").try_collect().await.unwrap();
    assert_eq!(listed.len(), many, "none twice");
    assert_eq!(listed.iter().map(|listed| listed.name.clone()).collect::<BTreeSet<_>>(), all);
    assert!(listed.iter().all(|listed| listed.size == listed.name.len() as u64));
    assert_eq!(names(store, "many/1/").await.len(), (many + 1) / 3);
    assert_eq!(names(store, "many2/").await, ["many2/x"]);
    assert_eq!(names(store, "man/").await, [""; 0]);
    assert_eq!(names(store, "many/1/1/").await, [""; 0], "an object is no folder");
    assert_eq!(own_names(store, "").await.len(), many + beside.len());
    // A reader may stop early.
    assert!(store.list("many/").next().await.unwrap().is_ok());

    future::join_all(all.iter().chain(&beside).map(|name| async move { store.delete(name).await.unwrap() })).await;
    assert_eq!(names(store, "many/").await, [""; 0]);
}

async fn folders_are_found(store: &dyn Store) {
    let objects = ["f/b/1", "f/b/2", "f/a/deep/er/3", "f/c", "f/bc/4", "fx/5"].map(str::to_owned);
    put_all(store, &objects).await;
    assert_eq!(store.list_folders("f/").await.unwrap(), ["a", "b", "bc"]);
    let top = own_folders(store).await;
    assert!(top.is_sorted() && ["f", "fx"].iter().all(|folder| top.iter().any(|name| name == folder)), "{top:?}");
    assert_eq!(store.list_folders("f/b/").await.unwrap(), [""; 0]);
    assert_eq!(store.list_folders("f/none/").await.unwrap(), [""; 0]);
    for name in &objects {
        store.delete(name).await.unwrap();
    }
    // What is empty is no folder, though a bucket may take a while to say so.
    let exact = store.address().starts_with("file:");
    assert!(!exact || own_folders(store).await.is_empty());
}

async fn deletes_remove(store: &Arc<dyn Store>) {
    store.delete("gone/never/was").await.unwrap();
    store.put("gone/a", "x".into(), PutMode::CreateOnly).await.unwrap();
    store.delete("gone/a").await.unwrap();
    store.delete("gone/a").await.unwrap();
    assert_eq!(kind(store.get("gone/a", 10).await), StoreErrorKind::NotFound);
    assert_eq!(store.head("gone/a").await.unwrap(), None);

    // Puts hold while others delete the last object beside them.
    let tasks = (0..8).map(|task| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for round in 0..8 {
                let name = format!("gone/same/folder/{task}-{round}");
                assert_eq!(store.put(&name, "x".into(), PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
                assert_eq!(store.get(&name, 1).await.unwrap(), "x");
                store.delete(&name).await.unwrap();
            }
        })
    });
    for task in future::join_all(tasks).await {
        task.unwrap();
    }
}

async fn bad_names_stay_outside(store: &dyn Store) {
    let long = "x".repeat(256);
    let longer = ["y".repeat(200), "y".repeat(200), "y".repeat(200)].join("/");
    let bad = [
        "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "a/.", "a b", "a\0b", "ä", "a\\b", "a%2fb", "a~", "*", &long,
        &longer,
    ];
    for name in bad {
        assert_eq!(kind(store.put(name, "x".into(), PutMode::Replace).await), StoreErrorKind::BadName, "{name:?}");
        assert_eq!(kind(store.get(name, 1).await), StoreErrorKind::BadName, "{name:?}");
        assert_eq!(kind(store.head(name).await), StoreErrorKind::BadName, "{name:?}");
        assert_eq!(kind(store.delete(name).await), StoreErrorKind::BadName, "{name:?}");
    }
    for prefix in ["a", "/", "a", "a//", "../", "a/../", "a b/"] {
        assert_eq!(kind(store.list(prefix).try_collect::<Vec<_>>().await), StoreErrorKind::BadName, "{prefix:?}");
        assert_eq!(kind(store.list_folders(prefix).await), StoreErrorKind::BadName, "{prefix:?}");
    }
    // SeaweedFS appends to the names of objects that have versions. Ours are shorter.
    let longest = if keeps_versions(store).await { 240 } else { 255 };
    let fine = ["x".repeat(longest), "...".to_owned(), ".hidden".to_owned()];
    put_all(store, &fine).await;
    for name in &fine {
        store.delete(name).await.unwrap();
    }
}

async fn facts_leave_nothing(store: &dyn Store) {
    let facts = store.facts().await.unwrap();
    assert!(facts.create_only.is_some());
    assert!(facts.object_lock.is_some());
    assert!(facts.clock_ahead_seconds.is_none_or(|seconds| seconds.abs() <= 60), "{facts:?}");
}

async fn keeps_versions(store: &dyn Store) -> bool {
    store.facts().await.unwrap().versioning != Some(Versioning::Off)
}

/// Writes objects that hold their own names.
async fn put_all(store: &dyn Store, names: impl IntoIterator<Item = &String>) {
    futures_util::stream::iter(names)
        .for_each_concurrent(16, |name| async move {
            store.put(name, name.clone().into(), PutMode::CreateOnly).await.unwrap();
        })
        .await;
}

/// The names below `prefix`, sorted.
pub async fn names(store: &dyn Store, prefix: &str) -> Vec<String> {
    let mut names: Vec<_> = store.list(prefix).map_ok(|listed| listed.name).try_collect().await.unwrap();
    names.sort_unstable();
    names
}

/// The same without what the store's own probing may leave.
async fn own_names(store: &dyn Store, prefix: &str) -> Vec<String> {
    names(store, prefix).await.into_iter().filter(|name| !name.starts_with("probe/")).collect()
}

async fn own_folders(store: &dyn Store) -> Vec<String> {
    store.list_folders("").await.unwrap().into_iter().filter(|name| name != "probe").collect()
}

/// What kind of failure it was.
pub fn kind<T>(outcome: Result<T, StoreError>) -> StoreErrorKind {
    match outcome {
        Ok(_) => panic!("this should have failed"),
        Err(error) => error.kind,
    }
}
