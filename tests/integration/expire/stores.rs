//! Every kind of store: no version is left, what is locked stays until its date, neighbours stay as they are.

use std::sync::Arc;

use tenure::{
    object_lock::Window,
    store::{
        PutMode, Store,
        directory::DirectoryStore,
        locked::LockedStore,
        s3::{Credentials, S3Settings, S3Store},
    },
};

use super::*;
use crate::harness::{
    http::{Action, Proxy},
    radosgw,
    s3::{self, S3Server, WRITER},
};

struct Place<S: S3Server + 'static> {
    server: &'static S,
    bucket: String,
    lockers: Lockers,
    _keyring: tempfile::TempDir,
}

impl<S: S3Server> Place<S> {
    async fn new(server: &'static S, bucket: String, window: Option<&str>) -> Self {
        Self::at(server, bucket, String::new(), window).await
    }

    async fn at(server: &'static S, bucket: String, prefix: String, window: Option<&str>) -> Self {
        let plain: Arc<dyn Store> = Arc::new(S3Store::connect(S3Settings { prefix, ..server.settings(&bucket) }).await.unwrap());
        let vault: Arc<dyn Store> = match window {
            Some(window) => Arc::new(LockedStore::new(plain, window.parse::<Window>().unwrap(), Utc::now)),
            None => plain,
        };
        let folder = tempfile::tempdir().unwrap();
        let keyring = Arc::new(DirectoryStore::create(&folder.path().join("keyring")).await.unwrap());
        let lockers = Lockers::within(vault, keyring, Vec::new()).await;
        Self { server, bucket, lockers, _keyring: folder }
    }

    /// Every version and every delete marker, asked of the server itself.
    async fn versions(&self, prefix: &str) -> BTreeSet<String> {
        let client = self.server.client();
        let mut found = BTreeSet::new();
        let (mut key, mut version) = (None, None);
        loop {
            let call = client.list_object_versions().bucket(&self.bucket).prefix(prefix);
            let page = call.set_key_marker(key.take()).set_version_id_marker(version.take()).send().await.unwrap();
            let mark = |key: Option<&str>, id: Option<&str>| format!("{} {}", key.unwrap_or_default(), id.unwrap_or_default());
            found.extend(page.versions().iter().map(|one| mark(one.key(), one.version_id())));
            found.extend(page.delete_markers().iter().map(|one| format!("marker {}", mark(one.key(), one.version_id()))));
            if page.is_truncated() != Some(true) {
                return found;
            }
            (key, version) = (page.next_key_marker().map(str::to_owned), page.next_version_id_marker().map(str::to_owned));
        }
    }

    /// Nights, the first of which was stored now, and which are over when six months have passed.
    async fn nights(&self) -> (Tenant, Vec<Night>) {
        nights(&self.lockers, "acme", &days_from(Utc::now(), 4)).await
    }
}

async fn as_user(server: &s3::Seaweed, bucket: &str, user: &str) -> Arc<dyn Store> {
    let credentials = Credentials::Given(s3::credentials(user));
    Arc::new(S3Store::connect(S3Settings { credentials, ..server.settings(bucket) }).await.unwrap())
}

fn days_from(first: DateTime<Utc>, count: i64) -> Vec<DateTime<Utc>> {
    (0..count).map(|day| first + TimeDelta::days(day)).collect()
}

async fn expires_to_the_last_version<S: S3Server>(server: &'static S, keep_versions: bool) {
    let bucket = server.bucket("expire").await;
    if keep_versions {
        s3::keep_versions(&server.client(), &bucket).await;
    }
    let place = Place::new(server, bucket, None).await;
    let (acme, nights) = place.nights().await;
    let (client, bucket) = (server.client(), &place.bucket);
    let left: Vec<&Night> = nights[2..].iter().collect();
    let going: Vec<String> = stored(&place.lockers, &acme)
        .await
        .difference(&needed(&acme, &left))
        .filter(|name| name.contains("/c/"))
        .cloned()
        .collect();
    assert!(going.len() >= 2, "{going:?}");
    if keep_versions {
        // What somebody hid or wrote over is garbage with all its versions.
        client.delete_object().bucket(bucket).key(&going[0]).send().await.unwrap();
        client.put_object().bucket(bucket).key(&going[1]).body(b"forged".to_vec().into()).send().await.unwrap();
    }
    let end = nights[1].backup.manifest.expires_at;
    let report = expire(&place.lockers, end).await;
    assert_eq!((code(&report), ids(&report.removed)), (0, texts(&nights[..2])), "{report:?}");
    let names = |versions: BTreeSet<String>| -> BTreeSet<String> {
        versions.iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    let prefix = format!("t/{}/", acme.locker());
    let there = names(place.versions(&prefix).await);
    let there: BTreeSet<String> = there.into_iter().filter(|name| !name.contains("/s/")).collect();
    assert_eq!(there, needed(&acme, &left), "no version of anything else, and no marker");
    for night in left {
        place.lockers.opens(&acme, night).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_version_is_left_of_what_expires() {
    for keep_versions in [false, true] {
        expires_to_the_last_version(s3::shared(), keep_versions).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_version_is_left_of_what_expires_on_another_server() {
    for keep_versions in [false, true] {
        expires_to_the_last_version(radosgw::shared(), keep_versions).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_stays_until_its_date_and_is_counted() {
    let server = s3::shared();
    for mode in ["governance", "compliance"] {
        let bucket = server.bucket_with_locks("expire").await;
        let place = Place::new(server, bucket, Some(&format!("{mode} 10 days"))).await;
        let mut acme = place.lockers.tenant("acme", Utc::now()).await;
        let now = Utc::now();
        let over = place.lockers.night_kept(&mut acme, now, &[], "5 days").await;
        let kept = place.lockers.night_kept(&mut acme, now + TimeDelta::seconds(1), &[1], "6 months").await;
        // Over, and locked for another ten days.
        let report = expire(&place.lockers, now + TimeDelta::days(5)).await;
        assert_eq!((code(&report), report.removed.len(), report.objects_removed), (0, 0, 0), "{mode}: {report:?}");
        assert_eq!(report.kept_by_lock.objects, 1, "its manifest: {report:?}");
        let until = report.kept_by_lock.until.unwrap();
        assert!((until - now - TimeDelta::days(15)).num_seconds().abs() < 120, "{until}");
        place.lockers.opens(&acme, &over).await.unwrap();
        place.lockers.opens(&acme, &kept).await.unwrap();
    }
}

/// `a/b` and `a/bc` in one bucket.
#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_whose_prefix_continues_ours_is_untouched() {
    let server = s3::shared();
    let bucket = server.bucket("expire").await;
    let (client, neighbour) = (server.client(), "a/bc/t/0a0a/c/x");
    client.put_object().bucket(&bucket).key(neighbour).body(b"theirs".to_vec().into()).send().await.unwrap();
    let place = Place::at(server, bucket.clone(), "a/b/".to_owned(), None).await;
    let other = Place::at(server, bucket, "a/bd/".to_owned(), None).await;
    let ((_, ours), _) = (place.nights().await, other.nights().await);
    let before = (place.versions("a/bc/").await, place.versions("a/bd/").await);
    let report = expire(&place.lockers, ours[1].backup.manifest.expires_at).await;
    assert_eq!((code(&report), report.removed.len()), (0, 2));
    assert_eq!((place.versions("a/bc/").await, place.versions("a/bd/").await), before);
}

/// With the policies in `docs/policies/`, and nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn the_janitors_credentials_are_enough_and_no_others_remove() {
    let server = s3::shared();
    for keep_versions in [false, true] {
        let (vault, keyring) = (server.bucket("expire").await, server.bucket("expire-keys").await);
        for (bucket, policy) in [(&vault, "vault"), (&keyring, "keyring")] {
            if keep_versions {
                s3::keep_versions(&server.client(), bucket).await;
            }
            s3::put_policy(&server.client(), bucket, policy).await;
        }
        let store = async |bucket: &str, user: &str| as_user(server, bucket, user).await;
        let lockers = Lockers::within(store(&vault, s3::OWNER).await, store(&keyring, s3::OWNER).await, Vec::new()).await;
        let now = Utc::now();
        let (acme, of_acme) = nights(&lockers, "acme", &days_from(now, 4)).await;
        let end = of_acme[1].backup.manifest.expires_at;
        let left: Vec<&Night> = of_acme[2..].iter().collect();
        for role in [WRITER, "restorer", "operator", "janitor"] {
            let (vault, keyring) = lockers.through(store(&vault, role).await, store(&keyring, role).await, Vec::new()).await;
            let report = run(&lockers, (&vault, &keyring), Request::default(), end).await.unwrap();
            let expected = if role == "janitor" { (0, 2) } else { (3, 0) };
            assert_eq!((code(&report), report.removed.len()), expected, "{role}: {report:?}");
        }
        assert_eq!(stored(&lockers, &acme).await, needed(&acme, &left));
    }
}

/// A delete there might only hide.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_tell_whether_it_keeps_versions_is_not_deleted_from() {
    let server = s3::shared();
    let bucket = server.bucket("expire").await;
    s3::keep_versions(&server.client(), &bucket).await;
    let place = Place::new(server, bucket.clone(), None).await;
    let (_, nights) = place.nights().await;
    let before = place.versions("t/").await;
    let may = ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"];
    s3::grant(&server.client(), &bucket, WRITER, &may).await;
    let settings = S3Settings { credentials: Credentials::Given(s3::credentials(WRITER)), ..server.settings(&bucket) };
    let store: Arc<dyn Store> = Arc::new(S3Store::connect(settings).await.unwrap());
    assert_eq!(store.delete("t/x").await.unwrap_err().kind, tenure::store::StoreErrorKind::VersionsUnknown);
    let keyring = Arc::new(DirectoryStore::open(&place._keyring.path().join("keyring")).await.unwrap());
    let (vault, keyring) = place.lockers.through(store, keyring, Vec::new()).await;
    let end = nights[1].backup.manifest.expires_at;
    let report = run(&place.lockers, (&vault, &keyring), Request::default(), end).await.unwrap();
    assert_eq!((code(&report), report.objects_removed), (3, 0), "{report:?}");
    assert!(report.problems[0].hint.contains("s3:GetBucketVersioning"), "{report:?}");
    assert_eq!(place.versions("t/").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ahead_of_the_stores_stops_before_anything_goes() {
    let server = s3::shared();
    let place = Place::new(server, server.bucket("expire").await, None).await;
    let (_, nights) = place.nights().await;
    let before = place.versions("").await;
    // A refusal tells the time as well.
    let proxy = Proxy::start(Some(server.endpoint()), |request, _| {
        let asks_for_time = request.path.contains("list-type=2") && request.path.contains("max-keys=1");
        if asks_for_time { Action::Answer(403, "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n", Vec::new()) } else { Action::Forward }
    })
    .await;
    let settings = S3Settings { endpoint: Some(proxy.endpoint.clone()), ..server.settings(&place.bucket) };
    let store: Arc<dyn Store> = Arc::new(S3Store::connect(settings).await.unwrap());
    let keyring = Arc::new(DirectoryStore::open(&place._keyring.path().join("keyring")).await.unwrap());
    let (vault, keyring) = place.lockers.through(store, keyring, Vec::new()).await;
    let end = nights[1].backup.manifest.expires_at;
    let refused = run(&place.lockers, (&vault, &keyring), Request::default(), end).await.unwrap_err();
    assert_eq!((refused.class.code(), refused.kind), (4, "clock-ahead"), "{refused:?}");
    assert_eq!(place.versions("").await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_probes_are_collected() {
    let lockers = Lockers::new().await;
    let name = |n: u8| format!("probe/{}", format!("{n:02x}").repeat(16));
    for n in [1, 2] {
        lockers.vault.store().put(&name(n), "x".into(), PutMode::CreateOnly).await.unwrap();
    }
    lockers.stamp(&name(1).parse().unwrap(), at("2026-11-01"));
    lockers.stamp(&name(2).parse().unwrap(), at("2026-11-20"));
    assert_eq!(expire(&lockers, at("2026-11-21")).await.objects_removed, 1);
    let probes: Vec<String> = lockers.objects().await.into_iter().filter(|name| name.starts_with("probe/")).collect();
    assert_eq!(probes, [name(2)]);
}
