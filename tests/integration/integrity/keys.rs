//! The wrapped secret halves under `k/`: who cannot open one still sees whether it is the one that was written.

use chrono::Utc;
use tenure::{
    format::key_record::Rewrapping,
    id::Sha256Digest,
    object_name::{Document, ObjectName},
    operation::{failure::FailureClass, list},
    signature::Namespace,
    signed,
    store::{
        StoreErrorKind,
        fault::{Fault, Operation},
    },
};

use super::{backed_up, check_keys, faulty, flip, objects};
use crate::{
    harness::postgres::unique,
    restore::{copy, restore},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_or_exchanged_secret_half_is_seen_without_the_identity() {
    let site = backed_up(&["acme", "globex"]).await;
    assert!(check_keys(&site).await.problems.is_empty());
    let halves = objects(&site, "keyring/k/");
    assert_eq!(halves.len(), 2);
    let into = unique("half");
    let seen = async |wrong: usize| {
        let keys = check_keys(&site).await.problems;
        assert_eq!(keys.len(), wrong, "{keys:?}");
        assert!(keys.iter().all(|problem| problem.object.contains("/k/") && problem.problem.contains("mirror")), "{keys:?}");
        let verified = site.verify(false).await.problems;
        assert_eq!(verified.iter().filter(|problem| problem.object.ends_with(".1.age")).count(), wrong, "{verified:?}");
        let mut refused = 0;
        for tenant in ["acme", "globex"] {
            if let Err(failure) = restore(&site, &copy(tenant, &into)).await {
                // Never that the identity is wrong.
                assert_eq!((failure.class.code(), failure.kind), (5, "damaged-secret-half"), "{failure:?}");
                assert!(failure.object.ends_with(".1.age") && failure.hint.contains("mirror"), "{failure:?}");
                refused += 1;
            } else {
                site.cluster.sql("postgres", &format!("DROP DATABASE {into}"));
            }
        }
        assert_eq!(refused, wrong);
    };

    let before = flip(&halves[0]);
    seen(1).await;
    std::fs::remove_file(&halves[0]).unwrap();
    assert_eq!(check_keys(&site).await.problems.len(), 2, "its backups have no whole key, and it is missing");
    let mut listed = Vec::new();
    for tenant in ["acme", "globex"] {
        let (vault, keyring) = (&site.backup.vault, &site.backup.keyring);
        let report = list::list(vault, keyring, &tenant.parse().unwrap(), None, None, Utc::now()).await.unwrap();
        listed.push((report.backups[0].state.as_str(), report.problems.len(), report.class.map(FailureClass::code)));
    }
    listed.sort();
    assert_eq!(listed, [("good", 0, None), ("unreadable", 1, Some(5))], "what opens for nobody is not called good");
    std::fs::write(&halves[0], std::fs::read(&halves[1]).unwrap()).unwrap();
    seen(1).await;
    let other = std::fs::read(&halves[1]).unwrap();
    std::fs::write(&halves[1], &before).unwrap();
    seen(2).await;
    std::fs::write(&halves[0], before).unwrap();
    std::fs::write(&halves[1], other).unwrap();
    assert!(check_keys(&site).await.problems.is_empty());
    assert!(site.verify(false).await.problems.is_empty());

    // Without its record a half is still what opens the backups.
    objects(&site, "keyring/t/").iter().for_each(|record| std::fs::remove_file(record).unwrap());
    let lost = check_keys(&site).await;
    assert!(!lost.problems.is_empty() && lost.leftovers.is_empty(), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_neither_good_nor_bad() {
    let site = backed_up(&["acme"]).await;
    let (backup, _, keyring) = faulty(&site).await;
    keyring.fail(Operation::Get, "k/", 1, Fault::Refused(StoreErrorKind::Denied));
    let report =
        tenure::operation::keys::check(&backup.vault, &backup.keyring, None, Utc::now(), &tenure::operation::progress::Silent)
            .await
            .unwrap();
    assert_eq!((report.problems.len(), report.not_looked_at.len()), (0, 1), "{report:?}");
}

/// Wrapped anew, a key has a second object under `k/`, and a signed record of its digest. What no record names means nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_wrapped_anew_opens_and_an_unsigned_wrapping_is_passed_over() {
    let site = backed_up(&["acme"]).await;
    let keyring = &site.backup.keyring;
    let record = keyring.keys(&"acme".parse().unwrap()).await.unwrap().unwrap().records[0].clone();
    let first = keyring.secret_half(&record).await.unwrap();
    let again = site.backup.recipients.wrap(&site.identity().unwrap(&first).unwrap()).unwrap();
    let put = async |wrapping: u32, bytes: &[u8]| {
        let name = ObjectName::SecretKey { key_id: record.key_id, wrapping };
        signed::create_object(keyring.store(), &name, bytes.to_vec().into()).await.unwrap();
    };
    put(9, b"anything").await;
    assert_eq!(keyring.secret_half(&record).await.unwrap(), first);

    let rewrapping = Rewrapping {
        format: 1,
        installation: site.backup.vault.root().installation,
        key_id: record.key_id,
        name_tag: record.name_tag,
        wrapping: 2,
        sha256: Sha256Digest::of(&again),
        recipients: Vec::new(),
        created_at: Utc::now(),
    };
    let document = Document::Rewrapping(record.name_tag, record.key_id, 2);
    signed::create(keyring.store(), &document, &rewrapping, Namespace::Key, &site.backup.signer).await.unwrap();
    put(2, &again).await;
    std::fs::remove_file(
        objects(&site, "keyring/k/").into_iter().find(|path| path.to_string_lossy().ends_with(".1.age")).unwrap(),
    )
    .unwrap();
    assert_eq!(keyring.secret_half(&record).await.unwrap(), again);
    assert!(check_keys(&site).await.problems.is_empty());
    assert!(site.verify(true).await.problems.is_empty());
    assert_eq!(site.all().await.class, None);

    let second = objects(&site, ".2.age");
    flip(&second[0]);
    let failure = restore(&site, &copy("acme", &unique("rewrapped"))).await.unwrap_err();
    assert!(failure.object.ends_with(".2.age") && failure.class.code() == 5, "{failure:?}");
}
