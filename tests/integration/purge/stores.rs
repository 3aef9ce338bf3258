//! A purge in buckets: no version is left, and what is locked stays until its date.

use aws_sdk_s3::types::{ObjectLockRetention, ObjectLockRetentionMode};
use tenure::store::{
    Store,
    locked::LockedStore,
    s3::{S3Settings, S3Store},
};

use super::*;
use crate::harness::{
    http::{Action, Proxy},
    s3::{self, S3Server, Seaweed},
};

async fn open(server: &Seaweed, bucket: &str) -> Arc<dyn Store> {
    Arc::new(S3Store::connect(server.settings(bucket)).await.unwrap())
}

/// Every version and delete marker in a bucket: name and version.
pub async fn versions(client: &aws_sdk_s3::Client, bucket: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut pages = client.list_object_versions().bucket(bucket).max_keys(1000).send().await.unwrap();
    loop {
        let versions = pages.versions().iter().map(|version| (version.key(), version.version_id()));
        let markers = pages.delete_markers().iter().map(|marker| (marker.key(), marker.version_id()));
        found.extend(versions.chain(markers).map(|(key, id)| (key.unwrap().to_owned(), id.unwrap().to_owned())));
        if pages.is_truncated() != Some(true) {
            return found;
        }
        let (key, id) = (pages.next_key_marker().map(str::to_owned), pages.next_version_id_marker().map(str::to_owned));
        pages = client.list_object_versions().bucket(bucket).set_key_marker(key).set_version_id_marker(id).send().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_goes_of_what_was_hidden_or_written_over_too() {
    let (server, client) = (s3::shared(), s3::shared().client());
    let mut buckets = Vec::new();
    for purpose in ["purge-vault", "purge-keyring", "purge-mirror"] {
        let bucket = server.bucket(purpose).await;
        s3::keep_versions(&client, &bucket).await;
        buckets.push(bucket);
    }
    let stores = (open(server, &buckets[0]).await, open(server, &buckets[1]).await, vec![open(server, &buckets[2]).await]);
    let lockers = Lockers::within(stores.0, stores.1, stores.2).await;
    let mut acme = lockers.tenant("acme", at("2026-11-01")).await;
    lockers.night(&mut acme, at("2026-11-01"), &[]).await;
    lockers.night(&mut acme, at("2026-11-02"), &[1]).await;
    let mut other = lockers.tenant("acme2", at("2026-11-01")).await;
    let night = lockers.night(&mut other, at("2026-11-01"), &[]).await;
    let is_its = of(&lockers, &acme);
    // Somebody hid a third of it, and wrote over another third.
    let mut before = Vec::new();
    for bucket in &buckets {
        for (number, (name, _)) in versions(&client, bucket).await.into_iter().enumerate() {
            match number % 3 {
                0 if is_its(&format!("/{name}")) => {
                    client.delete_object().bucket(bucket).key(&name).send().await.unwrap();
                }
                1 if is_its(&format!("/{name}")) => {
                    client.put_object().bucket(bucket).key(&name).body(b"written over".to_vec().into()).send().await.unwrap();
                }
                _ if is_its(&format!("/{name}")) => {}
                _ => before.push(name),
            }
        }
    }
    let report = purge(&lockers, "acme").await.unwrap();
    assert_eq!(report.status, PurgeStatus::Closed, "{report:?}");
    let mut left = Vec::new();
    for bucket in &buckets {
        for (name, _) in versions(&client, bucket).await {
            assert!(!is_its(&format!("/{name}")) || name.contains("/gone/"), "{bucket}/{name} is left");
            if !is_its(&format!("/{name}")) && !name.starts_with("plans/") && !name.starts_with("runs/") {
                left.push(name);
            }
        }
    }
    assert_eq!(left, before, "of others every version is as it was");
    lockers.opens(&other, &night).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_cannot_be_read_any_more_and_goes_when_its_lock_ends() {
    let (server, client) = (s3::shared(), s3::shared().client());
    let (vault, keyring) = (server.bucket_with_locks("purge-locked").await, server.bucket("purge-locked-keys").await);
    let locked = LockedStore::new(open(server, &vault).await, "governance 10 days".parse().unwrap(), Utc::now);
    let lockers = Lockers::within(Arc::new(locked), open(server, &keyring).await, Vec::new()).await;
    let mut acme = lockers.tenant("acme", Utc::now()).await;
    let night = lockers.night(&mut acme, Utc::now(), &[]).await;
    let is_its = of(&lockers, &acme);
    let its = versions(&client, &vault).await.into_iter().filter(|(name, _)| is_its(&format!("/{name}"))).collect::<Vec<_>>();

    let report = purge(&lockers, "acme").await.unwrap();
    assert_eq!((report.status, report.open.len(), report.open[0].kind), (PurgeStatus::KeysDestroyed, 1, "locked"), "{report:?}");
    let until = report.open[0].until.unwrap();
    let days = (until - Utc::now()).num_days();
    assert!((14..=15).contains(&days), "{until}");
    assert!(report.open[0].what.starts_with(&format!("{} objects", its.len())), "{report:?}");
    let keys: Vec<_> = versions(&client, &keyring).await.into_iter().filter(|(name, _)| is_its(&format!("/{name}"))).collect();
    assert!(keys.is_empty(), "the keyring is never locked: {keys:?}");
    assert!(lockers.opens(&acme, &night).await.is_err());

    end_locks(&client, &vault, &its).await;
    let plan = report.plan;
    let report = loop {
        let report = purge(&lockers, "acme").await.unwrap();
        match report.status {
            PurgeStatus::Closed => break report,
            status => assert_eq!(status, PurgeStatus::KeysDestroyed, "{report:?}"),
        }
        assert!(Utc::now() < until, "it is not closed");
    };
    assert_eq!(report.plan, plan);
    let left = versions(&client, &vault).await;
    assert!(left.iter().filter(|(name, _)| is_its(&format!("/{name}"))).all(|(name, _)| name.contains("/gone/")), "{left:?}");
}

/// The locks end: who owns the bucket may say so sooner than the calendar does.
pub async fn end_locks(client: &aws_sdk_s3::Client, bucket: &str, objects: &[(String, String)]) {
    for (name, version) in objects {
        // The server takes no time that has passed when it looks: then a later one.
        for tries_left in (0..10).rev() {
            let soon = aws_sdk_s3::primitives::DateTime::from_secs(Utc::now().timestamp() + 2);
            let retention =
                ObjectLockRetention::builder().mode(ObjectLockRetentionMode::Governance).retain_until_date(soon).build();
            let shorten = client.put_object_retention().bucket(bucket).key(name).version_id(version);
            match shorten.bypass_governance_retention(true).retention(retention).send().await {
                Ok(_) => break,
                Err(error) => assert!(tries_left > 0, "{error:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expire_finishes_a_purge_when_the_locks_end() {
    let (server, client) = (s3::shared(), s3::shared().client());
    let (vault, keyring) = (server.bucket_with_locks("purge-expire").await, server.bucket("purge-expire-keys").await);
    let locked = LockedStore::new(open(server, &vault).await, "governance 10 days".parse().unwrap(), Utc::now);
    let lockers = Lockers::within(Arc::new(locked), open(server, &keyring).await, Vec::new()).await;
    let mut acme = lockers.tenant("acme", Utc::now()).await;
    lockers.night(&mut acme, Utc::now(), &[]).await;
    let mut other = lockers.tenant("acme2", Utc::now()).await;
    let night = lockers.night(&mut other, Utc::now(), &[]).await;
    let is_its = of(&lockers, &acme);
    let its = versions(&client, &vault).await.into_iter().filter(|(name, _)| is_its(&format!("/{name}"))).collect::<Vec<_>>();
    let report = purge(&lockers, "acme").await.unwrap();
    assert_eq!((report.status, report.open[0].kind), (PurgeStatus::KeysDestroyed, "locked"), "{report:?}");

    // While they are locked nothing goes, and that is said with the date.
    let kept = before::expire(&lockers, Utc::now()).await;
    assert_eq!((kept.objects_removed, kept.kept_by_lock.objects as usize), (0, its.len()), "{kept:?}");
    assert_eq!(kept.kept_by_lock.until, report.open[0].until);
    assert_eq!(kept.class(), None, "{kept:?}");
    let verified = verified(&lockers).await;
    assert!(verified.problems.is_empty(), "what is locked is no failure: {verified:?}");
    assert!(verified.notes.iter().any(|note| note.contains(&acme.locker().to_string())), "{verified:?}");

    end_locks(&client, &vault, &its).await;
    let mut removed = 0;
    let run = loop {
        let report = before::expire(&lockers, Utc::now()).await;
        assert_eq!(report.class(), None, "{report:?}");
        removed += report.objects_removed;
        if report.kept_by_lock.objects == 0 {
            break report.run.unwrap();
        }
        assert!(Utc::now() < report.kept_by_lock.until.unwrap() + TimeDelta::minutes(5), "{report:?}");
    };
    assert_eq!(removed as usize, its.len());
    let act = lockers.vault.act(run.parse().unwrap()).await.unwrap();
    assert!(act.lockers.iter().any(|on| on.locker == acme.locker() && on.objects > 0), "{act:?}");
    let left = versions(&client, &vault).await;
    let mut left = left.iter().filter(|(name, _)| is_its(&format!("/{name}")));
    assert!(left.all(|(name, _)| name.contains("/gone/")), "every version is gone");
    lockers.opens(&other, &night).await.unwrap();
    // Purged once more it is closed: there is nothing left to do.
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
}

async fn verified(lockers: &Lockers) -> tenure::operation::verify::VerifyReport {
    let verify = tenure::operation::verify::Verify {
        vault: &lockers.vault,
        keyring: &lockers.keyring,
        identity: None,
        signer: Err("none".to_owned()),
        progress: &Silent,
        cancel: &CancellationToken::new(),
    };
    verify.run(&tenure::operation::verify::Which::All, Utc::now()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_ahead_of_the_stores_stops_what_goes_by_age() {
    let server = s3::shared();
    let (vault, keyring) = (server.bucket("purge-clock").await, server.bucket("purge-clock-keys").await);
    let lockers = Lockers::within(open(server, &vault).await, open(server, &keyring).await, Vec::new()).await;
    let mut acme = lockers.tenant("acme", at("2026-11-01")).await;
    let night = lockers.night(&mut acme, at("2026-11-01"), &[]).await;
    let before = versions(&server.client(), &vault).await;
    // A refusal tells the time as well.
    let proxy = Proxy::start(Some(server.endpoint()), |request, _| {
        let asks_for_time = request.path.contains("list-type=2") && request.path.contains("max-keys=1");
        if asks_for_time { Action::Answer(403, "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n", Vec::new()) } else { Action::Forward }
    })
    .await;
    let settings = S3Settings { endpoint: Some(proxy.endpoint.clone()), ..server.settings(&vault) };
    let skewed: Arc<dyn Store> = Arc::new(S3Store::connect(settings).await.unwrap());
    let (skewed, keys) = lockers.through(skewed, open(server, &keyring).await, Vec::new()).await;
    let what = What::Before(at("2026-11-02"));
    let refused = purge_in(&lockers, (&skewed, &keys), ("acme", what), true, Utc::now()).await.unwrap_err();
    assert_eq!((refused.class, refused.kind), (FailureClass::Refused, "clock-ahead"), "{refused:?}");
    assert_eq!(versions(&server.client(), &vault).await, before);
    lockers.opens(&acme, &night).await.unwrap();
}
