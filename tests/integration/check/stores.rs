//! Vault, keyring and mirrors.

use std::sync::Arc;

use chrono::Utc;
use tenure::{
    object_lock::Window,
    operation::{
        check::{Level, StoreToCheck, check},
        failure::{Failure, FailureClass},
    },
    store::{
        Location, Store,
        locked::LockedStore,
        s3::{Credentials, S3Settings, S3Store},
    },
};

use super::{at, directory, request, the};
use crate::harness::{
    s3::{self, S3Server},
    site::Site,
};

async fn bucket(settings: S3Settings) -> StoreToCheck {
    let store = S3Store::connect(settings.clone()).await.unwrap();
    StoreToCheck {
        url: format!("s3://{}", settings.bucket),
        location: Location::S3(Box::new(settings)),
        store: Ok(Arc::new(store) as Arc<dyn Store>),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_must_be_apart_there_and_each_others() {
    let site = Site::new().await;
    let mut request = request(&site).await;
    request.keyring = directory(&site.folder().join("vault")).await;
    request.accept_single_keyring = false;
    request.recipients.truncate(1);
    request.keeps = vec!["11 years".parse().unwrap()];
    let report = check(&request).await;
    the(&report, Level::Error, "vault and keyring: ");
    the(&report, Level::Error, "keyring.json");
    the(&report, Level::Warning, "there is one copy of the keys");
    the(&report, Level::Warning, "recovery recipients: there is one");
    the(&report, Level::Error, "a policy keeps backups for 11 years, and this vault allows 10 years at most");

    let other = Site::new().await;
    request.keyring = directory(&other.folder().join("keyring")).await;
    request.mirrors = vec![directory(&site.folder().join("keyring")).await];
    let report = check(&request).await;
    the(&report, Level::Error, "it belongs to installation");

    let failure =
        Failure::new(FailureClass::Failed, "store", "file:///away", "cannot open file:///away").hint("Is the disk mounted?");
    request.vault =
        StoreToCheck { url: "file:///away".to_owned(), location: Location::Directory("/away".into()), store: Err(failure) };
    let report = check(&request).await;
    the(&report, Level::Error, "vault file:///away: cannot open file:///away (Is the disk mounted?)");
    the(&report, Level::Warning, "mirror 1 file://");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_forged_keys_are_found() {
    let site = Site::new().await;
    site.database("acme");
    site.all().await;
    let request = request(&site).await;
    let secrets = site.folder().join("keyring/k");
    for entry in std::fs::read_dir(&secrets).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let report = check(&request).await;
    the(&report, Level::Error, "key records without their secret half, so what they sealed cannot be opened: acme");

    let tag = std::fs::read_dir(site.folder().join("keyring/t")).unwrap().next().unwrap().unwrap();
    let mut records = std::fs::read_dir(tag.path()).unwrap().map(|entry| entry.unwrap().path());
    let record = records.find(|path| path.extension().is_some_and(|e| e == "json")).unwrap();
    std::fs::write(&record, std::fs::read_to_string(&record).unwrap().replace("acme", "acne")).unwrap();
    let report = check(&request).await;
    the(&report, Level::Error, &record.file_name().unwrap().to_string_lossy());

    // A record that is gone leaves a locker that nobody has a key for; a locker that is gone, a key that belongs nowhere.
    std::fs::remove_dir_all(tag.path()).unwrap();
    let report = check(&request).await;
    the(&report, Level::Error, "holds backups, and the keyring has no key record for it");
    std::fs::remove_dir_all(site.folder().join("vault/t")).unwrap();
    site.database("globex");
    site.all().await;
    std::fs::remove_dir_all(site.folder().join("vault/t")).unwrap();
    let report = check(&request).await;
    the(&report, Level::Error, "tenant globex: ");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_is_seen() {
    let site = Site::new().await;
    site.database("acme");
    let tag = site.backup.keyring.tag(&"acme".parse().unwrap());
    let folder = site.folder().join("vault/erased").join(tag.to_string());
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("anything"), "x").unwrap();
    let report = check(&request(&site).await).await;
    the(&report, Level::Error, "tenant acme: its name answers to a tombstone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buckets_settings_are_read() {
    let site = Site::new().await;
    let server = s3::shared();
    let client = server.client();
    let mut request = request(&site).await;
    let (vault, keyring) = (server.bucket("check-vault").await, "check-locked-keyring".to_owned());
    client.create_bucket().bucket(&keyring).object_lock_enabled_for_bucket(true).send().await.unwrap();
    s3::expire_after_days(&client, &vault, "", 30).await;
    request.vault = bucket(server.settings(&vault)).await;
    request.keyring = bucket(server.settings(&keyring)).await;
    request.mirrors = vec![bucket(server.settings(&vault)).await];
    let report = check(&request).await;
    the(&report, Level::Error, &format!("vault s3://{vault}: the bucket's lifecycle rule `30 days` expires all objects"));
    the(&report, Level::Error, "object lock is on: keys in it could not be destroyed");
    the(&report, Level::Warning, "old versions are kept: a destroyed key can be brought back");
    the(&report, Level::Error, "vault and mirror 1: both are in the bucket");
    let may = at(&report, Level::Warning).into_iter().filter(|finding| finding.contains("may replace and remove")).count();
    assert_eq!(may, 3, "{:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn object_lock_is_looked_at_and_tried() {
    let site = Site::new().await;
    let server = s3::shared();
    let client = server.client();
    let mut request = request(&site).await;
    let window: Window = "governance 35 days".parse().unwrap();
    let locking = async |settings: S3Settings| {
        let opened = bucket(settings).await;
        let store: Arc<dyn Store> = Arc::new(LockedStore::new(opened.store.unwrap(), window, Utc::now));
        StoreToCheck { store: Ok(store), ..opened }
    };
    // Not on.
    let plain = server.bucket("check-lockless").await;
    request.vault = locking(server.settings(&plain)).await;
    let report = check(&request).await;
    the(&report, Level::Error, "`vault.lock` is \"governance 35 days\", and object lock is not on: no backup will begin");

    // On, and nobody asks for it.
    let name = server.bucket_with_locks("check-locks").await;
    request.vault = bucket(server.settings(&name)).await;
    let report = check(&request).await;
    the(&report, Level::Warning, "object lock is on, and `vault.lock` is \"none\"");

    // On, and asked for, by the bucket's owner, with a default retention.
    use aws_sdk_s3::types::{
        DefaultRetention, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockRetentionMode, ObjectLockRule,
    };
    let retention = DefaultRetention::builder().mode(ObjectLockRetentionMode::Governance).days(7).build();
    let configuration = ObjectLockConfiguration::builder()
        .object_lock_enabled(ObjectLockEnabled::Enabled)
        .rule(ObjectLockRule::builder().default_retention(retention).build())
        .build();
    let put = client.put_object_lock_configuration().bucket(&name).object_lock_configuration(configuration);
    put.send().await.unwrap();
    request.vault = locking(server.settings(&name)).await;
    let report = check(&request).await;
    the(&report, Level::Ok, "what is stored is locked, governance 35 days");
    the(&report, Level::Warning, "these credentials may bypass locks in governance mode");
    the(&report, Level::Warning, "a lock of ten years is not refused (PutObject in governance mode, ");
    the(&report, Level::Warning, "stored in it by default, governance 7 days");

    // A writer with no more rights than it needs, and one that may not renew.
    let rights = [
        "s3:PutObject",
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:ListBucket",
        "s3:ListBucketVersions",
        "s3:GetBucketVersioning",
        "s3:GetBucketObjectLockConfiguration",
        "s3:GetObjectRetention",
        "s3:PutObjectRetention",
    ];
    let name = server.bucket_with_locks("check-lock-writer").await;
    let settings = S3Settings { credentials: Credentials::Given(s3::credentials(s3::WRITER)), ..server.settings(&name) };
    s3::grant(&client, &name, s3::WRITER, &rights).await;
    request.vault = locking(settings.clone()).await;
    let report = check(&request).await;
    the(&report, Level::Ok, "what is stored is locked, governance 35 days");
    the(&report, Level::Ok, &format!("vault s3://{name}: writable; what is written over stays as an earlier version"));
    assert!(!at(&report, Level::Warning).iter().any(|warning| warning.contains("bypass")), "{:#?}", report.findings);
    s3::grant(&client, &name, s3::WRITER, &rights[..8]).await;
    let report = check(&request).await;
    let refused = "are refused: PutObject in governance mode, PutObjectRetention in governance mode (Allow s3:PutObjectRetention";
    the(&report, Level::Error, refused);
    // It does not tell, and then nothing begins.
    s3::grant(&client, &name, s3::WRITER, &rights[..4]).await;
    request.vault = locking(settings).await;
    let report = check(&request).await;
    the(&report, Level::Error, "it does not tell whether object lock is on: no backup will begin");
    the(&report, Level::Warning, "it does not tell whether old versions are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_cannot_delete_are_recognised() {
    let site = Site::new().await;
    let server = s3::shared();
    let name = server.bucket("check-writer").await;
    s3::grant(&server.client(), &name, s3::WRITER, &["s3:PutObject", "s3:GetObject", "s3:ListBucket"]).await;
    let settings = S3Settings { credentials: Credentials::Given(s3::credentials(s3::WRITER)), ..server.settings(&name) };
    let mut request = request(&site).await;
    request.keyring = bucket(settings.clone()).await;
    for _ in 0..2 {
        let report = check(&request).await;
        the(&report, Level::Warning, "the writer's credentials may replace keys");
    }
    // One canary stays where it cannot be removed, however often one looks.
    let left = server.client().list_objects_v2().bucket(&name).prefix("probe/0").send().await.unwrap();
    assert_eq!(left.key_count(), Some(1));
    s3::grant(&server.client(), &name, s3::WRITER, &["s3:GetObject", "s3:ListBucket"]).await;
    request.keyring = bucket(settings).await;
    let report = check(&request).await;
    the(&report, Level::Error, "access denied");
}
