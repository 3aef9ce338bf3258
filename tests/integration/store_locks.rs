//! Object lock as stores do it: what is locked stays, dates can be read and extended and not be shortened, on two servers and in both modes.

use std::sync::{Arc, Mutex};

use aws_sdk_s3::primitives::DateTime as SmithyTime;
use aws_sdk_s3::types::{ObjectLockRetention, ObjectLockRetentionMode};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use tenure::object_lock::{Lock, Mode, Window};
use tenure::store::directory::DirectoryStore;
use tenure::store::locked::LockedStore;
use tenure::store::s3::{Credentials, S3Settings, S3Store};
use tenure::store::{Listed, LockTrial, PutMode, PutOutcome, Store, StoreErrorKind, Tampering};

use crate::harness::http::{Action, Proxy, Request};
use crate::harness::{
    radosgw,
    s3::{self, S3Server, WRITER},
};
use crate::store_conformance::{kind, names};

fn window(text: &str) -> Window {
    text.parse().unwrap()
}

fn in_days(days: i64) -> DateTime<Utc> {
    Utc::now() + TimeDelta::days(days)
}

/// A bucket with object lock in which everything is locked.
async fn locked(server: &impl S3Server, bucket: &str, window: Window) -> LockedStore {
    LockedStore::new(Arc::new(S3Store::connect(server.settings(bucket)).await.unwrap()), window, Utc::now)
}

async fn listed(store: &dyn Store, name: &str) -> Listed {
    store.head(name).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_hold() {
    for text in ["governance 2 days", "compliance 2 days"] {
        locks_hold_on(s3::shared(), window(text), true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_hold_on_another_server() {
    for text in ["governance 2 days", "compliance 2 days"] {
        // It cannot tell two creations apart where versions are kept.
        locks_hold_on(radosgw::shared(), window(text), false).await;
    }
}

async fn locks_hold_on(server: &impl S3Server, window: Window, decides: bool) {
    let (bucket, client) = (server.bucket_with_locks("locked").await, server.client());
    let store = locked(server, &bucket, window).await;
    assert_eq!(store.can_lock().await.unwrap(), Some(true));
    let before = Utc::now();
    let put = async |name: &str, body: &str| store.put(name, body.to_owned().into(), PutMode::CreateOnly).await.unwrap();
    for name in ["a/first", "a/hidden", "a/over", "a/late"] {
        assert_eq!(put(name, name).await, PutOutcome::Stored);
        let lock = store.lock_of(&listed(&store, name).await).await.unwrap().unwrap();
        assert!(lock.covers(&window.fresh(before)) && window.fresh(Utc::now()).covers(&lock), "{name}: {lock}");
    }
    // Creating it again changes nothing.
    assert_eq!(put("a/first", "a/first").await, PutOutcome::Stored);
    assert_eq!(put("a/first", "another").await, PutOutcome::Exists);
    assert_eq!(store.versions("a/first", 100).await.unwrap().len(), 1, "decides: {decides}");

    // Extended, and not shortened, by us or by anybody.
    let first = listed(&store, "a/first").await;
    let later = Lock { mode: window.mode, until: window.fresh(in_days(5)).until };
    assert_eq!(store.extend_lock(&first, later).await.unwrap(), later);
    assert_eq!(store.extend_lock(&first, window.fresh(Utc::now())).await.unwrap(), later, "what is longer stays");
    assert_eq!(store.lock_of(&first).await.unwrap(), Some(later));
    let shorter = ObjectLockRetention::builder()
        .mode(match window.mode {
            Mode::Governance => ObjectLockRetentionMode::Governance,
            Mode::Compliance => ObjectLockRetentionMode::Compliance,
        })
        .retain_until_date(SmithyTime::from_secs(in_days(1).timestamp()))
        .build();
    let shortened = client.put_object_retention().bucket(&bucket).key("a/first").retention(shorter).send().await;
    assert_eq!(shortened.unwrap_err().raw_response().unwrap().status().as_u16(), 403);
    assert_eq!(store.lock_of(&first).await.unwrap(), Some(later));
    // Its mode stays, whatever is asked for.
    let other = if window.mode == Mode::Governance { Mode::Compliance } else { Mode::Governance };
    let latest = Lock { until: later.until + TimeDelta::days(1), ..later };
    assert_eq!(store.extend_lock(&first, Lock { mode: other, ..latest }).await.unwrap(), latest);

    // Neither removed, nor hidden, nor written over without a trace.
    assert_eq!(kind(store.delete("a/first").await), StoreErrorKind::Denied);
    assert_eq!(store.get("a/first", 100).await.unwrap(), "a/first");
    client.delete_object().bucket(&bucket).key("a/hidden").send().await.unwrap();
    client.put_object().bucket(&bucket).key("a/over").body(b"other".to_vec().into()).send().await.unwrap();
    for (name, tampering) in [("a/hidden", Tampering::Hidden), ("a/over", Tampering::Overwritten)] {
        let listed = listed(&store, name).await;
        assert_eq!((listed.tampering, listed.size), (Some(tampering), name.len() as u64));
        assert_eq!(store.versions(name, 100).await.unwrap()[0].bytes, name.as_bytes());
        assert!(store.lock_of(&listed).await.unwrap().unwrap().covers(&window.fresh(before)), "{name} is still what is locked");
        assert_eq!(store.extend_lock(&listed, later).await.unwrap(), later);
        assert_eq!(store.lock_of(&listed).await.unwrap(), Some(later), "{name}");
        assert_eq!(kind(store.delete(name).await), StoreErrorKind::Denied);
    }

    // A lock that was lost when the object was stored is given again.
    let plain = S3Store::connect(server.settings(&bucket)).await.unwrap();
    assert_eq!(plain.put("a/lost", "lost".into(), PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
    assert_eq!(plain.lock_of(&listed(&plain, "a/lost").await).await.unwrap(), None);
    assert_eq!(put("a/lost", "lost").await, PutOutcome::Stored);
    assert!(store.lock_of(&listed(&store, "a/lost").await).await.unwrap().unwrap().covers(&window.fresh(before)));

    // Trials are not locked.
    store.put("probe/x", "x".into(), PutMode::CreateOnly).await.unwrap();
    store.delete("probe/x").await.unwrap();
    assert_eq!(kind(store.lock_of(&Listed { name: "a/none".to_owned(), ..first }).await), StoreErrorKind::NotFound);
    trials_lock_nothing_for_long(&store, server, &bucket, window).await;
}

/// Neither server knows the condition that limits dates; the owner may bypass governance on both.
async fn trials_lock_nothing_for_long(store: &LockedStore, server: &impl S3Server, bucket: &str, window: Window) {
    let bypassed = window.mode == Mode::Governance;
    let ten_years = ["governance", "compliance"]
        .into_iter()
        .flat_map(|mode| ["PutObject", "PutObjectRetention"].map(|request| format!("{request} in {mode} mode")))
        .collect();
    let expected = LockTrial { bypassed, ten_years: Some(ten_years), ..LockTrial::default() };
    for _ in 0..2 {
        assert_eq!(store.try_locks(window, Utc::now()).await.unwrap(), expected);
    }
    let listed = server.client().list_object_versions().bucket(bucket).prefix("probe/0").send().await.unwrap();
    assert_eq!(listed.versions().len(), usize::from(!bypassed), "one, however often it is tried: {listed:?}");
    for name in names(store, "probe/").await {
        let lock = store.lock_of(&self::listed(store, &name).await).await.unwrap();
        assert!(lock.is_none_or(|lock| lock.until < Utc::now() + TimeDelta::minutes(12)), "{name}: {lock:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_locked_nothing_is_written() {
    let scratch = tempfile::tempdir().unwrap();
    let server = s3::shared();
    let bucket = server.bucket("lockless").await;
    let untold = server.bucket_with_locks("untold").await;
    s3::grant(&server.client(), &untold, WRITER, &["s3:PutObject", "s3:PutObjectRetention", "s3:GetObject", "s3:ListBucket"])
        .await;
    let writer = S3Settings { credentials: Credentials::Given(s3::credentials(WRITER)), ..server.settings(&untold) };
    let directory: Arc<dyn Store> = Arc::new(DirectoryStore::open(scratch.path()).await.unwrap());
    let plain: Arc<dyn Store> = Arc::new(S3Store::connect(server.settings(&bucket)).await.unwrap());
    let unknown: Arc<dyn Store> = Arc::new(S3Store::connect(writer).await.unwrap());
    for (inner, says) in [(directory, Some(false)), (plain, Some(false)), (unknown, None)] {
        let store = LockedStore::new(inner, window("compliance 1 day"), Utc::now);
        assert_eq!(store.can_lock().await.unwrap(), says);
        let refused = store.put("a", "x".into(), PutMode::CreateOnly).await.unwrap_err();
        assert_eq!(refused.kind, StoreErrorKind::NoLocks, "{refused}");
        assert_eq!(names(&store, "").await, [""; 0], "{}", store.address());
    }
    let directory = DirectoryStore::open(scratch.path()).await.unwrap();
    directory.put("a", "x".into(), PutMode::CreateOnly).await.unwrap();
    let object = listed(&directory, "a").await;
    let lock = window("compliance 1 day").fresh(Utc::now());
    assert_eq!(kind(directory.lock_of(&object).await), StoreErrorKind::NoLocks);
    assert_eq!(kind(directory.extend_lock(&object, lock).await), StoreErrorKind::NoLocks);
    assert_eq!(kind(directory.create_locked("b", "x".into(), lock).await), StoreErrorKind::NoLocks);
    assert_eq!(directory.head("b").await.unwrap(), None);
    // The bucket without object lock tells of an object in it that it is not locked.
    let plain = S3Store::connect(server.settings(&bucket)).await.unwrap();
    plain.put("a", "x".into(), PutMode::CreateOnly).await.unwrap();
    assert_eq!(plain.lock_of(&listed(&plain, "a").await).await.unwrap(), None);
}

/// A locking store whose requests go through a proxy to the real server.
async fn behind(
    window: &str,
    decide: impl Fn(&Request, usize) -> Action + Send + Sync + 'static,
) -> (LockedStore, LockedStore, Proxy) {
    let server = s3::shared();
    let bucket = server.bucket_with_locks("behind").await;
    let proxy = Proxy::start(Some(&server.endpoint), decide).await;
    let settings = S3Settings { endpoint: Some(proxy.endpoint.clone()), ..server.settings(&bucket) };
    let window = self::window(window);
    let direct = locked(server, &bucket, window).await;
    (LockedStore::new(Arc::new(S3Store::connect(settings).await.unwrap()), window, Utc::now), direct, proxy)
}

fn asks_for(request: &Request, method: &str, what: &str) -> bool {
    request.method == method && request.path.contains(what)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_leaves_one_version_and_it_is_locked() {
    let lost = Mutex::new(0);
    let (store, direct, _proxy) = behind("compliance 1 day", move |request, _| {
        let mut lost = lost.lock().unwrap();
        // The object, and the lock that is extended later: each answer twice.
        let one = asks_for(request, "PUT", "/object?x-id") || asks_for(request, "PUT", "/object?retention");
        if one && (*lost < 2 || (request.path.contains("retention") && *lost < 4)) {
            *lost += 1;
            return Action::LoseAnswer;
        }
        Action::Forward
    })
    .await;
    let before = Utc::now();
    assert_eq!(store.put("t/object", "mine".into(), PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
    assert_eq!(direct.versions("t/object", 10).await.unwrap().len(), 1);
    let object = listed(&direct, "t/object").await;
    let window = store.window().unwrap();
    assert!(direct.lock_of(&object).await.unwrap().unwrap().covers(&window.fresh(before)));
    let later = window.fresh(in_days(3));
    assert_eq!(store.extend_lock(&object, later).await.unwrap(), later);
    assert_eq!(direct.lock_of(&object).await.unwrap(), Some(later));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_says_yes_and_does_not_lock_is_found_out() {
    // It takes the object without its lock, and every lock without keeping it.
    let (store, ..) = behind("governance 1 day", |request, _| match request {
        _ if asks_for(request, "PUT", "?retention") => Action::Answer(200, "", Vec::new()),
        _ if asks_for(request, "GET", "?retention") => {
            Action::Answer(404, "", b"<Error><Code>NoSuchObjectLockConfiguration</Code></Error>".to_vec())
        }
        _ => Action::Forward,
    })
    .await;
    let error = store.put("t/object", "mine".into(), PutMode::CreateOnly).await.unwrap_err();
    assert_eq!((error.kind, error.operation), (StoreErrorKind::NotLocked, "lock"));
    let source = error.source.unwrap().to_string();
    assert!(source.starts_with("not locked, instead of governance until "), "{source}");

    // A date that is a second short, and another mode.
    for (mode, short) in [("GOVERNANCE", 2), ("COMPLIANCE", 2), ("GOVERNANCE", 0)] {
        let window = self::window("compliance 1 day");
        let until = window.fresh(Utc::now()).until + TimeDelta::minutes(if short == 0 { 5 } else { -5 });
        let answer = format!(
            "<Retention><Mode>{mode}</Mode><RetainUntilDate>{}</RetainUntilDate></Retention>",
            until.format("%Y-%m-%dT%H:%M:%SZ")
        );
        let (store, ..) = behind("compliance 1 day", move |request, _| match request {
            _ if asks_for(request, "GET", "?retention") => Action::Answer(200, "", answer.clone().into_bytes()),
            _ if asks_for(request, "PUT", "?retention") => Action::Answer(200, "", Vec::new()),
            _ => Action::Forward,
        })
        .await;
        let error = store.put("t/object", "mine".into(), PutMode::CreateOnly).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::NotLocked, "{mode} {short}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_lock_or_not_read_locks_is_told_what_is_missing() {
    let server = s3::shared();
    let base = ["s3:PutObject", "s3:GetObject", "s3:ListBucket", "s3:GetBucketObjectLockConfiguration"];
    for (more, operation) in [(&["s3:GetObjectRetention"][..], "put and lock"), (&["s3:PutObjectRetention"], "read the lock of")]
    {
        let bucket = server.bucket_with_locks("denied").await;
        s3::grant(&server.client(), &bucket, WRITER, &[&base, more].concat()).await;
        let writer = S3Settings { credentials: Credentials::Given(s3::credentials(WRITER)), ..server.settings(&bucket) };
        let inner = Arc::new(S3Store::connect(writer).await.unwrap());
        let store = LockedStore::new(inner, window("compliance 1 day"), Utc::now);
        let error = store.put("t/object", Bytes::from("x"), PutMode::CreateOnly).await.unwrap_err();
        assert_eq!((error.kind, error.operation), (StoreErrorKind::Denied, operation));
    }
}

/// Until when a request asks to lock: by a header, or in its body.
fn asked_until(request: &Request) -> Option<DateTime<Utc>> {
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let in_body = || Some(body.split_once("<RetainUntilDate>")?.1.split_once('<')?.0.to_owned());
    let text = request.header("x-amz-object-lock-retain-until-date").map(str::to_owned).or_else(in_body)?;
    Some(text.parse().unwrap())
}

/// A server that limits dates as Amazon's does by a policy, which neither of the real ones here can.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_dates_is_seen() {
    let refuse = |days: i64| {
        move |request: &Request, _: usize| match asked_until(request) {
            Some(until) if until > in_days(days) => Action::Answer(403, "", b"<Error><Code>AccessDenied</Code></Error>".to_vec()),
            _ => Action::Forward,
        }
    };
    let (store, ..) = behind("compliance 35 days", refuse(54)).await;
    let trial = store.try_locks(store.window().unwrap(), Utc::now()).await.unwrap();
    assert_eq!(trial, LockTrial { ten_years: Some(Vec::new()), ..LockTrial::default() });
    let (store, ..) = behind("compliance 35 days", refuse(50)).await;
    let trial = store.try_locks(store.window().unwrap(), Utc::now()).await.unwrap();
    assert_eq!(trial.refused, ["PutObject in compliance mode", "PutObjectRetention in compliance mode"]);

    // One way is left open.
    let (store, ..) = behind("compliance 35 days", move |request, before| match request {
        _ if request.path.contains("?retention") => Action::Forward,
        _ => refuse(54)(request, before),
    })
    .await;
    let trial = store.try_locks(store.window().unwrap(), Utc::now()).await.unwrap();
    assert_eq!(trial.ten_years.unwrap(), ["PutObjectRetention in governance mode", "PutObjectRetention in compliance mode"]);

    // A server that takes a wrong digest is not asked.
    let (store, direct, proxy) = behind("compliance 35 days", |request, _| match request.header("content-md5") {
        Some(_) => Action::Answer(200, "", Vec::new()),
        None => Action::Forward,
    })
    .await;
    let trial = store.try_locks(store.window().unwrap(), Utc::now()).await.unwrap();
    assert_eq!(trial.ten_years, None);
    let longest = proxy.requests().iter().filter_map(asked_until).max().unwrap();
    assert!(longest < Utc::now() + TimeDelta::minutes(12));
    assert_eq!(names(&direct, "probe/").await.len(), 2, "create-only, and what is locked");
}

/// The documented policies let the writer do its work and no more, as far as this server knows what they say.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_policy_is_one() {
    let server = s3::shared();
    let (bucket, client) = (server.bucket_with_locks("policy").await, server.client());
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let mut policy = read(include_str!("../../docs/policies/vault.json"));
    let more = read(include_str!("../../docs/policies/object-lock.json"));
    policy["Statement"].as_array_mut().unwrap().extend(more["Statement"].as_array().unwrap().iter().cloned());
    let policy = policy
        .to_string()
        .replace("arn:aws:iam::111122223333:user/tenure-writer", &format!("arn:aws:iam::000000000000:user/{WRITER}"))
        .replace("acme-tenure", &bucket);
    client.put_bucket_policy().bucket(&bucket).policy(policy).send().await.unwrap();
    client.put_object().bucket(&bucket).key("vault.json").body(b"{}".to_vec().into()).send().await.unwrap();
    let writer = S3Settings { credentials: Credentials::Given(s3::credentials(WRITER)), ..server.settings(&bucket) };
    let store = LockedStore::new(Arc::new(S3Store::connect(writer).await.unwrap()), window("governance 35 days"), Utc::now);
    let name = "t/0123456789abcdef0123456789abcdef/c/object";
    assert_eq!(store.put(name, "x".into(), PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
    assert_eq!(kind(store.delete(name).await), StoreErrorKind::Denied);
    // What the owner stored without a lock.
    let root = listed(&store, "vault.json").await;
    let fresh = store.window().unwrap().fresh(Utc::now());
    assert_eq!(store.extend_lock(&root, fresh).await.unwrap(), fresh);
    let trial = store.try_locks(store.window().unwrap(), Utc::now()).await.unwrap();
    assert_eq!((trial.removed, trial.bypassed, trial.shortened, trial.refused), (false, false, false, Vec::new()));
    let facts = store.facts().await.unwrap();
    assert_eq!((facts.object_lock, facts.versioning.is_some()), (Some(true), true));
}
