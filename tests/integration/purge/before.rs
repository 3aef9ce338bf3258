//! Backups before a time: they go, what later ones need stays, and so do the keys.

use tenure::object_name::{Document, ObjectName};

use super::*;

async fn before(lockers: &Lockers, day: &str, now: DateTime<Utc>) -> Result<PurgeReport, Failure> {
    let what = What::Before(at(day));
    purge_in(lockers, (&lockers.vault, &lockers.keyring), ("acme", what), true, now).await
}

/// Five nights: two ranges never change, the others each night.
async fn five_nights() -> (Lockers, Tenant, Vec<Night>) {
    let lockers = Lockers::new().await;
    let mut acme = lockers.tenant("acme", at("2026-11-01")).await;
    let mut nights = Vec::new();
    for day in 1..=5 {
        nights.push(lockers.night(&mut acme, at(&format!("2026-11-0{day}")), &[2, 3, 4, 5, 6, 7]).await);
    }
    let mut other = lockers.tenant("acme2", at("2026-11-01")).await;
    lockers.night(&mut other, at("2026-11-01"), &[]).await;
    (lockers, acme, nights)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_before_goes_and_what_later_ones_need_stays() {
    let (lockers, acme, nights) = five_nights().await;
    let all = stored(&lockers);
    let (code, document, said) = program(&lockers, &["purge", "acme", "--before", "2026-11-03T03:00:00Z", "--dry-run"]);
    assert_eq!((code, &document["backups"]), (0, &2.into()), "{document}{said}");
    assert!(
        said.starts_with("purge: 2 backups of acme taken before 2026-11-03 03:00:00 UTC (2026-11-01 – 2026-11-02)"),
        "{said}"
    );
    assert!(said.contains("removed, not shredded"), "{said}");
    assert_eq!(stored(&lockers), all);

    let report = before(&lockers, "2026-11-03", Utc::now()).await.unwrap();
    assert_eq!((report.status, report.backups, report.key_copies.len()), (PurgeStatus::Closed, 2, 0), "{report:?}");
    let left = stored(&lockers);
    let gone: Vec<&String> = all.keys().filter(|name| !left.contains_key(*name)).collect();
    assert_eq!(report.objects_removed as usize, gone.len());
    assert!(gone.iter().all(|name| name.starts_with(&format!("vault/t/{}/", acme.locker()))), "{gone:?}");
    for night in &nights[..2] {
        let id = night.id().to_string();
        assert!(!left.keys().any(|name| name.contains(&format!("/b/{id}"))), "{id}");
        assert!(lockers.opens(&acme, night).await.is_err());
    }
    // The first night's chunks that never changed are still what the fifth is made of.
    assert!(left.keys().any(|name| name.contains(&format!("/c/{}/", nights[0].id()))));
    for night in &nights[2..] {
        lockers.opens(&acme, night).await.unwrap();
    }
    for (code, arguments) in [(0, &["verify", "--all", "--identity", "recovery-kit.txt"][..]), (0, &["keys", "check"])] {
        let (found, document, said) = program(&lockers, arguments);
        assert_eq!((found, document["problems"].as_array().unwrap().len()), (code, 0), "{arguments:?}: {document}{said}");
    }
    let (_, listed, _) = program(&lockers, &["list", "acme"]);
    assert_eq!(listed["backups"].as_array().unwrap().len(), 3);
    // Once more there is nothing, and nothing is written.
    let plans = files(&lockers.folder().join("vault/plans")).len();
    let arguments = ["purge", "acme", "--before", "2026-11-03T03:00:00Z", "--confirm", "acme"];
    let (code, document, said) = program(&lockers, &arguments);
    assert_eq!((code, &document["plan"], &document["backups"]), (0, &serde_json::Value::Null, &0.into()), "{document}{said}");
    assert_eq!(files(&lockers.folder().join("vault/plans")).len(), plans);
    // And then all.
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_young_stays_until_it_is_not() {
    let (lockers, acme, nights) = five_nights().await;
    let now = at("2026-11-03") + TimeDelta::hours(1);
    let report = before(&lockers, "2026-11-03", now).await.unwrap();
    assert_eq!((report.status, report.open[0].kind), (PurgeStatus::Requested, "too-young"), "{report:?}");
    let refused = before(&lockers, "2026-11-04", now).await.unwrap_err();
    assert_eq!((refused.class, refused.kind), (FailureClass::Refused, "plan-open"), "{refused:?}");
    assert!(refused.hint.contains("--before 2026-11-03T03:00:00Z"), "{refused:?}");
    let plan = report.plan;
    let report = before(&lockers, "2026-11-03", now + TimeDelta::hours(48)).await.unwrap();
    assert_eq!((report.status, report.plan), (PurgeStatus::Closed, plan), "{:?}", report.open);
    for night in &nights[2..] {
        lockers.opens(&acme, night).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_overtakes_a_part() {
    let (lockers, acme, _) = five_nights().await;
    let all = stored(&lockers);
    before(&lockers, "2026-11-03", at("2026-11-03")).await.unwrap();
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
    only_notes_are_left(&lockers, &acme, &all);
    let tag = acme.record.name_tag;
    let open = lockers.vault.plans(tag, |steps| !steps.contains(&Step::Closed)).await.unwrap();
    assert!(open.is_empty(), "{open:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_cannot_be_read_stops_a_part_and_not_everything() {
    let (lockers, acme, nights) = five_nights().await;
    let all = stored(&lockers);
    let manifest = lockers.path(&ObjectName::Document(Document::Manifest(acme.locker(), nights[0].id())));
    std::fs::write(&manifest, "{}").unwrap();
    let spoilt = stored(&lockers);
    let failed = before(&lockers, "2026-11-03", Utc::now()).await.unwrap_err();
    assert_eq!(failed.class, FailureClass::Integrity, "{failed:?}");
    assert!(failed.object.contains(&nights[0].id().to_string()) && failed.hint.contains("tenure purge acme"), "{failed:?}");
    assert_eq!(stored(&lockers), spoilt);
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
    only_notes_are_left(&lockers, &acme, &all);
}
