//! What only a bucket can get wrong: credentials, redirects, silence, lost answers, servers that know less.

use std::collections::HashMap;
use std::error::Error;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::TryStreamExt;
use tenure::store::s3::{Credentials, Limits, S3Settings, S3Store};
use tenure::store::{PutMode, PutOutcome, Store, StoreError, StoreErrorKind, Tampering, Versioning};

use crate::harness::http::{Action, Proxy, Request};
use crate::harness::s3::{self, OWNER, S3Server, WRITER};
use crate::store_conformance::{kind, names};

const CHILD: &str = "TENURE_TEST_S3_PROFILE";

/// Impatient.
fn limits() -> Limits {
    Limits {
        answer: Duration::from_millis(400),
        tries: 3,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(5),
        ..Limits::default()
    }
}

fn settings(endpoint: &str, bucket: &str) -> S3Settings {
    S3Settings {
        endpoint: Some(endpoint.into()),
        credentials: Credentials::Given(s3::credentials(OWNER)),
        limits: limits(),
        ..S3Settings::new(bucket)
    }
}

/// A store whose requests go through a proxy to the real server.
async fn behind(purpose: &str, decide: impl Fn(&Request, usize) -> Action + Send + Sync + 'static) -> (S3Store, Proxy) {
    let server = s3::shared();
    let bucket = server.bucket(purpose).await;
    let proxy = Proxy::start(Some(&server.endpoint), decide).await;
    // The real server may be busy with the other tests.
    let limits = Limits { answer: Duration::from_secs(20), ..limits() };
    (S3Store::connect(S3Settings { limits, ..settings(&proxy.endpoint, &bucket) }).await.unwrap(), proxy)
}

async fn alone(decide: impl Fn(&Request, usize) -> Action + Send + Sync + 'static) -> (S3Store, Proxy) {
    let proxy = Proxy::start(None, decide).await;
    (S3Store::connect(settings(&proxy.endpoint, "bucket")).await.unwrap(), proxy)
}

fn failed<T>(outcome: Result<T, StoreError>) -> StoreError {
    outcome.err().expect("this should have failed")
}

/// The whole chain as the edge prints it.
fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}

#[tokio::test]
async fn a_missing_bucket_is_no_missing_object() {
    let store = S3Store::connect(s3::shared().settings("there-is-none")).await.unwrap();
    assert_eq!(kind(store.get("a", 1).await), StoreErrorKind::NoSuchStore);
    assert_eq!(kind(store.head("a").await), StoreErrorKind::NoSuchStore);
    assert_eq!(kind(store.put("a", "x".into(), PutMode::CreateOnly).await), StoreErrorKind::NoSuchStore);
    assert_eq!(kind(store.put("a", "x".into(), PutMode::Replace).await), StoreErrorKind::NoSuchStore);
    assert_eq!(kind(store.list("").try_collect::<Vec<_>>().await), StoreErrorKind::NoSuchStore);
    assert_eq!(kind(store.list_folders("").await), StoreErrorKind::NoSuchStore);
    assert_eq!(kind(store.delete("a").await), StoreErrorKind::NoSuchStore);
    assert_eq!(kind(store.facts().await), StoreErrorKind::NoSuchStore);
}

#[tokio::test]
async fn a_profile_goes_before_the_environment_and_is_named_when_it_fails() {
    let server = s3::shared();
    let bucket = server.bucket("profiles").await;
    for (profile, says) in [
        (OWNER, "stored"),
        ("wrong", "access denied: the server answers 403 SignatureDoesNotMatch"),
        ("wrong", "with the credentials of profile `wrong`"),
        ("nobody", "no credentials from profile `nobody`"),
        // Without a profile, the environment's.
        ("", "with the credentials of the environment"),
    ] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store_s3::a_process_with_a_profile", "--nocapture"])
            .env(CHILD, format!("{profile} {} {bucket}", server.endpoint))
            .env("AWS_SHARED_CREDENTIALS_FILE", &server.credentials_file)
            .env("AWS_CONFIG_FILE", "/dev/null")
            .envs([
                ("AWS_ACCESS_KEY_ID", "NOBODY"),
                ("AWS_SECRET_ACCESS_KEY", "environmentsecret"),
                ("AWS_EC2_METADATA_DISABLED", "true"),
            ])
            .env_remove("AWS_PROFILE")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(child.stdout).unwrap();
        assert!(said.contains(says), "{profile}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
}

#[tokio::test]
async fn the_proxy_of_the_environment_is_used() {
    let server = s3::shared();
    let bucket = server.bucket("proxied").await;
    for (no_proxy, through) in [("", true), ("127.0.0.1", false)] {
        let proxy = Proxy::start(Some(&server.endpoint), |_, _| Action::Forward).await;
        let mut child = Command::new(std::env::current_exe().unwrap());
        child
            .args(["--exact", "store_s3::a_process_with_a_profile", "--nocapture"])
            .env(CHILD, format!("{OWNER} {} {bucket}", server.endpoint))
            .env("AWS_SHARED_CREDENTIALS_FILE", &server.credentials_file)
            .envs([("AWS_CONFIG_FILE", "/dev/null"), ("AWS_EC2_METADATA_DISABLED", "true"), ("NO_PROXY", no_proxy)])
            .env("HTTP_PROXY", &proxy.endpoint)
            .stdin(Stdio::null());
        // The proxy is this process's: it must go on meanwhile.
        let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("stored"), "{output:?}");
        let requests = proxy.requests();
        assert_eq!(requests.iter().any(|request| request.path.starts_with(&server.endpoint)), through, "{no_proxy:?}");
        assert_eq!(requests.is_empty(), !through);
    }
}

/// Does nothing in an ordinary run.
#[tokio::test]
#[allow(clippy::print_stdout, reason = "as a process of its own it has no other way to tell")]
async fn a_process_with_a_profile() {
    let Ok(job) = std::env::var(CHILD) else { return };
    let (profile, place) = job.split_once(' ').unwrap();
    let (endpoint, bucket) = place.split_once(' ').unwrap();
    let credentials = if profile.is_empty() { Credentials::Usual } else { Credentials::Profile(profile.into()) };
    let settings = S3Settings { credentials, endpoint: Some(endpoint.into()), ..S3Settings::new(bucket) };
    let stored = match S3Store::connect(settings).await {
        Ok(store) => store.put("a", "x".into(), PutMode::Replace).await,
        Err(error) => Err(error),
    };
    match stored {
        Ok(_) => println!("stored"),
        Err(error) => {
            assert_eq!(error.kind, StoreErrorKind::Denied);
            println!("{}", chain(&error));
        }
    }
}

#[tokio::test]
async fn settings_show_no_secret() {
    let shown = format!("{:?}", s3::shared().settings("bucket"));
    assert!(shown.contains("bucket") && !shown.contains("ownersecret"), "{shown}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Proxy::start(None, |_, _| Action::Answer(200, "", b"x".to_vec())).await;
    let location: &'static str = format!("Location: {}/bucket/a\r\n", elsewhere.endpoint).leak();
    for status in [301, 302, 307, 308] {
        let (store, proxy) = alone(move |_, _| Action::Answer(status, location, Vec::new())).await;
        let error = failed(store.get("a", 1).await);
        assert_eq!((error.kind, error.attempts), (StoreErrorKind::Redirected, 1), "{status}");
        assert_eq!(kind(store.head("a").await), StoreErrorKind::Redirected, "{status}");
        assert_eq!(kind(store.put("a", "x".into(), PutMode::CreateOnly).await), StoreErrorKind::Redirected, "{status}");
        assert_eq!(proxy.requests().len(), 3);
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn silence_is_limited() {
    let (store, proxy) = alone(|_, _| Action::Hang).await;
    let begin = Instant::now();
    let error = failed(store.get("a", 1).await);
    assert_eq!((error.kind, error.attempts), (StoreErrorKind::Unavailable, 3));
    assert_eq!(proxy.requests().len(), 3);
    assert!((Duration::from_millis(1200)..Duration::from_secs(10)).contains(&begin.elapsed()));
    assert!(chain(&error).contains("the store does not answer (tried 3 times in 1."), "{}", chain(&error));
    assert!(chain(&error).contains("no answer within 400ms"), "{}", chain(&error));

    // Half a body is silence too.
    let (store, _) = alone(|_, _| Action::Stall(1000)).await;
    assert_eq!(kind(store.get("a", 2000).await), StoreErrorKind::Unavailable);
}

#[tokio::test]
async fn nobody_there_is_said_after_some_tries() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = S3Store::connect(settings(&format!("http://{closed}"), "bucket")).await.unwrap();
    let error = failed(store.put("a", "x".into(), PutMode::Replace).await);
    assert_eq!((error.kind, error.attempts), (StoreErrorKind::Unavailable, 3));
    assert!(chain(&error).contains("Connection refused"), "{}", chain(&error));
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    for status in [500, 502, 503, 504, 429] {
        let (store, proxy) = behind("passing", move |_, before| match before % 3 {
            0 | 1 => Action::Answer(status, "", Vec::new()),
            _ => Action::Forward,
        })
        .await;
        assert_eq!(store.put("a", "x".into(), PutMode::Replace).await.unwrap(), PutOutcome::Stored);
        assert_eq!(store.get("a", 1).await.unwrap(), "x");
        assert!(store.head("a").await.unwrap().is_some());
        assert_eq!(names(&store, "").await, ["a"]);
        store.delete("a").await.unwrap();
        // Five calls, and the question whether versions are kept.
        assert_eq!(proxy.requests().len(), 18, "{status}");
    }
    let (store, proxy) = alone(|_, _| Action::Answer(503, "", b"<Error><Code>SlowDown</Code></Error>".to_vec())).await;
    let error = failed(store.get("a", 1).await);
    assert_eq!((error.kind, error.attempts, proxy.requests().len()), (StoreErrorKind::Unavailable, 3, 3));
    assert!(chain(&error).contains("503 SlowDown"), "{}", chain(&error));
}

#[tokio::test]
async fn what_lasts_is_not() {
    for (status, kind) in [(403, StoreErrorKind::Denied), (400, StoreErrorKind::Refused), (507, StoreErrorKind::Full)] {
        let (store, proxy) = alone(move |_, _| Action::Answer(status, "", Vec::new())).await;
        assert_eq!(failed(store.put("a", "x".into(), PutMode::Replace).await).kind, kind);
        assert_eq!(proxy.requests().len(), 1);
    }
}

/// A PUT of this object.
fn creates(request: &Request, name: &str) -> bool {
    request.method == "PUT" && request.path.split('?').next().unwrap().ends_with(name)
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_is_a_success() {
    let lost = Mutex::new(0);
    let (store, proxy) = behind("lost", move |request, _| {
        let mut lost = lost.lock().unwrap();
        if creates(request, "/object") && *lost < 2 {
            *lost += 1;
            return Action::LoseAnswer;
        }
        Action::Forward
    })
    .await;
    assert_eq!(store.put("t/object", "mine".into(), PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
    let puts: Vec<_> = proxy.requests().into_iter().filter(|request| creates(request, "/object")).collect();
    assert_eq!(puts.len(), 3);
    assert!(puts.iter().all(|put| put.header("if-none-match") == Some("*")));
    assert_eq!(store.get("t/object", 10).await.unwrap(), "mine");
}

#[tokio::test]
async fn a_lost_answer_does_not_hide_that_another_was_first() {
    let (store, _) = behind("first", |request, _| match request.header("x-amz-checksum-sha256") {
        // The first PUT of `mine` never arrives; the one that is tried again finds the other's.
        Some(_) if creates(request, "/object") && request.body == b"lost" => Action::Answer(500, "", Vec::new()),
        _ => Action::Forward,
    })
    .await;
    assert_eq!(store.put("t/object", "other".into(), PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
    assert_eq!(kind(store.put("t/object", "lost".into(), PutMode::CreateOnly).await), StoreErrorKind::Unavailable);
    assert_eq!(store.put("t/object", "mine".into(), PutMode::CreateOnly).await.unwrap(), PutOutcome::Exists);
    assert_eq!(store.get("t/object", 10).await.unwrap(), "other");
}

#[tokio::test]
async fn a_conflict_of_two_creates_is_tried_again() {
    let (store, _) = behind("conflict", |request, before| {
        if creates(request, "/object") && before < 4 {
            return Action::Answer(409, "", b"<Error><Code>ConditionalRequestConflict</Code></Error>".to_vec());
        }
        Action::Forward
    })
    .await;
    assert_eq!(store.put("t/object", "x".into(), PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
}

/// A server without conditional writes, in a few lines.
struct Simple {
    objects: Mutex<HashMap<String, Vec<u8>>>,
    /// What a PUT with a condition is answered.
    conditional: u16,
}

impl Simple {
    fn answer(&self, request: &Request) -> Action {
        const HEAD: &str = "Last-Modified: Sat, 21 Nov 2026 03:00:00 GMT\r\n";
        let path = request.path.split('?').next().unwrap().to_owned();
        let mut objects = self.objects.lock().unwrap();
        match request.method.as_str() {
            "PUT" if request.header("if-none-match").is_some() && self.conditional != 200 => {
                Action::Answer(self.conditional, "", b"<Error><Code>NotImplemented</Code></Error>".to_vec())
            }
            "PUT" => {
                objects.insert(path, request.body.clone());
                Action::Answer(200, "", Vec::new())
            }
            _ if path == "/bucket" || path == "/bucket/" => Action::Answer(200, "", Vec::new()),
            _ => match objects.get(&path) {
                Some(body) => Action::Answer(200, HEAD, body.clone()),
                None => Action::Answer(404, "", b"<Error><Code>NoSuchKey</Code></Error>".to_vec()),
            },
        }
    }
}

#[tokio::test]
async fn a_server_without_conditions_is_asked_before_and_after() {
    for conditional in [200, 501] {
        let server = Simple { objects: Mutex::default(), conditional };
        let (store, proxy) = alone(move |request, _| server.answer(request)).await;
        assert_eq!(store.put("t/object", "mine".into(), PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
        assert_eq!(store.put("t/object", "other".into(), PutMode::CreateOnly).await.unwrap(), PutOutcome::Exists);
        assert_eq!(store.put("t/object", "mine".into(), PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored);
        assert_eq!(store.get("t/object", 10).await.unwrap(), "mine");
        let puts = proxy.requests().iter().filter(|request| creates(request, "/object")).count();
        assert_eq!(puts, 1, "what is there is not written again");
    }
}

#[tokio::test]
async fn every_put_says_its_digest_and_what_was_configured() {
    let server = s3::shared();
    let bucket = server.bucket("headers").await;
    let proxy = Proxy::start(Some(&server.endpoint), |_, _| Action::Forward).await;
    let settings = S3Settings { storage_class: Some("STANDARD_IA".into()), ..server.settings(&bucket) };
    let store = S3Store::connect(S3Settings { endpoint: Some(proxy.endpoint.clone()), ..settings }).await.unwrap();
    store.put("a", "hello".into(), PutMode::Replace).await.unwrap();
    let put = proxy.requests().pop().unwrap();
    assert_eq!(put.header("x-amz-checksum-sha256"), Some("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="));
    assert_eq!(put.header("x-amz-content-sha256"), Some("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"));
    assert_eq!(put.header("x-amz-storage-class"), Some("STANDARD_IA"));
    for absent in ["x-amz-trailer", "x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm", "content-encoding", "if-none-match"] {
        assert_eq!(put.header(absent), None, "{absent}");
    }
    assert_eq!(put.body, b"hello");

    let settings = S3Settings { sse: Some("AES256".into()), ..self::settings(&proxy.endpoint, &bucket) };
    // Whether this server can encrypt is its own business.
    S3Store::connect(settings).await.unwrap().put("b", "x".into(), PutMode::Replace).await.ok();
    let encrypted = proxy.requests().into_iter().find(|request| request.path.contains("/b")).unwrap();
    assert_eq!(encrypted.header("x-amz-server-side-encryption"), Some("AES256"));
}

#[tokio::test]
async fn a_certificate_of_an_unknown_ca_is_refused_at_once() {
    let server = s3::shared();
    let scratch = tempfile::tempdir().unwrap();
    let other = crate::harness::s3::make_ca(scratch.path());
    let settings = |ca: &std::path::Path| S3Settings {
        endpoint: Some(server.tls_endpoint.clone()),
        ca_file: Some(ca.to_owned()),
        ..server.settings("bucket")
    };
    let store = S3Store::connect(settings(&other)).await.unwrap();
    let error = failed(store.get("a", 1).await);
    assert_eq!((error.kind, error.attempts), (StoreErrorKind::Unavailable, 1));
    assert!(chain(&error).contains("certificate"), "{}", chain(&error));

    let rubbish = scratch.path().join("rubbish");
    std::fs::write(&rubbish, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let empty = scratch.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    for file in [&rubbish, &empty, &scratch.path().join("missing")] {
        let error = failed(S3Store::connect(settings(file)).await);
        assert_eq!(error.kind, StoreErrorKind::Refused);
        assert!(chain(&error).contains(&file.display().to_string()), "{}", chain(&error));
    }
}

#[tokio::test]
async fn a_bucket_tells_facts() {
    let server = s3::shared();
    let (client, bucket) = (server.client(), server.bucket("facts").await);
    let store = S3Store::connect(server.settings(&bucket)).await.unwrap();
    let facts = store.facts().await.unwrap();
    assert_eq!((facts.versioning, facts.object_lock, facts.create_only), (Some(Versioning::Off), Some(false), Some(true)));
    assert_eq!(facts.expiring_rules, Some(Vec::new()));
    assert!(facts.clock_ahead_seconds.unwrap().abs() < 30);

    s3::expire_after_days(&client, &bucket, "t/", 30).await;
    s3::keep_versions(&client, &bucket).await;
    let facts = store.facts().await.unwrap();
    assert_eq!(facts.versioning, Some(Versioning::On));
    assert_eq!(facts.expiring_rules.unwrap(), ["rule `30 days` expires objects below t/ 30 days after their creation"]);

    let locked = "facts-locked";
    client.create_bucket().bucket(locked).object_lock_enabled_for_bucket(true).send().await.unwrap();
    assert_eq!(S3Store::connect(server.settings(locked)).await.unwrap().facts().await.unwrap().object_lock, Some(true));
}

#[tokio::test]
async fn what_may_not_be_asked_is_unknown() {
    let server = s3::shared();
    let bucket = server.bucket("denied").await;
    let store =
        S3Store::connect(S3Settings { credentials: Credentials::Given(s3::credentials(WRITER)), ..server.settings(&bucket) });
    let facts = store.await.unwrap().facts().await.unwrap();
    assert_eq!((facts.versioning, facts.object_lock, facts.create_only, &facts.expiring_rules), (None, None, None, &None));
    assert!(facts.clock_ahead_seconds.is_some(), "a refusal has a date");
}

#[tokio::test]
async fn who_may_not_ask_for_versioning_still_sees_versions_if_allowed_to_list_them() {
    let server = s3::shared();
    let rights = ["s3:PutObject", "s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket", "s3:ListBucketVersions"];
    for (versions, seen) in [(true, Some(Tampering::Hidden)), (false, None)] {
        let (client, bucket) = (server.client(), server.bucket("unasked").await);
        if versions {
            s3::keep_versions(&client, &bucket).await;
        }
        s3::grant(&client, &bucket, WRITER, &rights).await;
        let settings = S3Settings { credentials: Credentials::Given(s3::credentials(WRITER)), ..server.settings(&bucket) };
        let store = S3Store::connect(settings).await.unwrap();
        store.put("t/object", "x".into(), PutMode::CreateOnly).await.unwrap();
        assert!(store.head("t/object").await.unwrap().is_some_and(|object| object.tampering.is_none()));
        assert_eq!(store.facts().await.unwrap().versioning, None);
        client.delete_object().bucket(&bucket).key("t/object").send().await.unwrap();
        assert_eq!(store.head("t/object").await.unwrap().and_then(|object| object.tampering), seen, "{bucket}");
        assert_eq!(store.list("t/").try_collect::<Vec<_>>().await.unwrap().len(), usize::from(versions));
    }
}

#[tokio::test]
async fn who_may_not_read_learns_that_a_name_is_taken_but_not_by_whom() {
    let server = s3::shared();
    let bucket = server.bucket("writeonly").await;
    s3::grant(&server.client(), &bucket, WRITER, &["s3:PutObject", "s3:ListBucket"]).await;
    let lost = Mutex::new(false);
    let proxy = Proxy::start(Some(&server.endpoint), move |request, _| {
        if creates(request, "/lost") && !std::mem::replace(&mut *lost.lock().unwrap(), true) {
            return Action::LoseAnswer;
        }
        Action::Forward
    })
    .await;
    let settings = S3Settings { endpoint: Some(proxy.endpoint.clone()), ..server.settings(&bucket) };
    let store =
        S3Store::connect(S3Settings { credentials: Credentials::Given(s3::credentials(WRITER)), ..settings }).await.unwrap();
    let put = async |name: &str| store.put(name, Bytes::from("x"), PutMode::CreateOnly).await.map_err(|error| error.kind);
    assert_eq!(put("k/new").await, Ok(PutOutcome::Stored));
    assert_eq!(put("k/new").await, Ok(PutOutcome::Exists));
    assert_eq!(put("k/lost").await, Err(StoreErrorKind::Unavailable), "it may be ours or another's");
    assert_eq!(kind(store.get("k/new", 1).await), StoreErrorKind::Denied);
}
