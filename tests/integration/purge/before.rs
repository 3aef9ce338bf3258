//! Backups before a time: they go, what later ones need stays, and so do the keys.

use tenure::{
    object_name::{Document, ObjectName},
    operation::expire::{Expire, Request, report::ExpireReport},
    retention::Keep,
    store::fault::{Fault, FaultStore, Operation},
};

use super::{refusals::lockers_store, *};

pub async fn expire(lockers: &Lockers, now: DateTime<Utc>) -> ExpireReport {
    let (signer, cancel) = (lockers.key("janitor"), CancellationToken::new());
    let (vault, keyring) = (&lockers.vault, &lockers.keyring);
    Expire { vault, keyring, signer: Some(&signer), at_once: 2, cancel: &cancel }.run(Request::default(), now).await.unwrap()
}

/// Writes files as they were.
pub fn put_back(lockers: &Lockers, from: &Files, which: impl Fn(&str) -> bool) -> usize {
    let files: Vec<_> = from.iter().filter(|(name, _)| which(name)).collect();
    for (name, bytes) in &files {
        let path = lockers.folder().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &bytes.0).unwrap();
    }
    files.len()
}

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
    let (code, document, said) = program(&lockers, &["list", "acme"]);
    assert_eq!(
        (code, document["problems"].as_array().unwrap().len()),
        (5, 2),
        "unreadable, and missing to its successor: {document}{said}"
    );
    for name in [manifest.clone(), manifest.with_extension("json.sig")] {
        std::fs::remove_file(name).unwrap();
    }
    let (code, document, said) = program(&lockers, &["list", "acme"]);
    assert_eq!((code, document["problems"].as_array().unwrap().len()), (5, 1), "a hole: {document}{said}");
    assert_eq!(program(&lockers, &["list"]).0, 5);
    std::fs::write(&manifest, "{}").unwrap();
    let report = purge(&lockers, "acme").await.unwrap();
    assert_eq!(report.status, PurgeStatus::Closed);
    let named: Vec<&String> = report.notes.iter().filter(|note| note.contains(&nights[0].id().to_string())).collect();
    assert!(named.len() == 1 && named[0].contains("goes all the same"), "{report:?}");
    only_notes_are_left(&lockers, &acme, &all);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_purged_by_name_and_is_put_back_counts_no_more() {
    let (lockers, mut acme, nights) = five_nights().await;
    let all = stored(&lockers);
    let report = before(&lockers, "2026-11-03", Utc::now()).await.unwrap();
    assert_eq!(report.status, PurgeStatus::Closed);
    let left = stored(&lockers);
    let put = put_back(&lockers, &all, |name| !left.contains_key(name));
    assert!(put > 4, "{put}");

    let first = nights[0].id().to_string();
    let (code, listed, said) = program(&lockers, &["list", "acme"]);
    assert_eq!((code, listed["backups"].as_array().unwrap().len()), (0, 3), "{listed}{said}");
    assert_eq!(listed["purged"], serde_json::json!([nights[0].id().to_string(), nights[1].id().to_string()]), "{listed}");
    let restore = ["restore", "acme", "--backup", &first, "--identity", "recovery-kit.txt", "--into", "x", "--cluster", "here"];
    let (code, document, said) = program(&lockers, &restore);
    assert_eq!((code, &document["error"]["kind"]), (4, &"backup-purged".into()), "{document}{said}");
    assert!(document["error"]["message"].as_str().unwrap().contains(report.plan.as_ref().unwrap()), "{document}");
    let (code, document, said) = program(&lockers, &["show", "acme", &first]);
    assert_eq!((code, &document["error"]["kind"]), (1, &"no-such-backup".into()), "{document}{said}");
    let (code, document, said) = program(&lockers, &["verify", "acme"]);
    let bad: Vec<&str> =
        document["problems"].as_array().unwrap().iter().map(|problem| problem["backup"].as_str().unwrap()).collect();
    assert_eq!((code, bad), (5, vec![first.as_str(), &nights[1].id().to_string()]), "{document}{said}");
    // A hold is no longer too late for it, and keeps the bytes; nobody reads them all the same.
    assert_eq!(program(&lockers, &["hold", "acme", "--reason", "a law suit"]).0, 0);
    assert!(expire(&lockers, Utc::now()).await.removed.is_empty());
    assert_eq!(program(&lockers, &restore).0, 4);
    assert_eq!(program(&lockers, &["release", "acme"]).0, 0);

    // The next night builds upon what counts, and `expire` removes the rest: at once the manifests, and by age what they needed.
    let sixth = lockers.night(&mut acme, at("2026-11-06"), &[]).await;
    let removed = expire(&lockers, Utc::now()).await;
    let removed: Vec<&str> = removed.removed.iter().map(|backup| &*backup.backup).collect();
    assert_eq!(removed, [first.as_str(), &nights[1].id().to_string()]);
    expire(&lockers, Utc::now() + TimeDelta::days(3)).await;
    let after = stored(&lockers);
    assert_eq!(left.keys().find(|name| !after.contains_key(*name)), None);
    assert_eq!(
        after.keys().find(|name| !left.contains_key(*name) && !name.contains(&sixth.id().to_string()) && !name.contains("/h/")),
        None
    );
    assert_eq!(program(&lockers, &["verify", "acme"]).0, 0);
    let (code, document, said) = program(&lockers, &restore);
    assert_eq!((code, &document["error"]["kind"]), (4, &"backup-purged".into()), "not there: {document}{said}");
    for night in nights[2..].iter().chain([&sixth]) {
        lockers.opens(&acme, night).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_purge_removes_again_what_was_put_back() {
    let (lockers, acme, nights) = five_nights().await;
    let all = stored(&lockers);
    before(&lockers, "2026-11-03", Utc::now()).await.unwrap();
    let left = stored(&lockers);
    // The manifest alone, without what signs it: nobody needs to understand it.
    put_back(&lockers, &all, |name| !left.contains_key(name) && !name.ends_with(".sig"));
    let report = before(&lockers, "2026-11-03", Utc::now() + TimeDelta::days(3)).await.unwrap();
    assert_eq!((report.status, report.backups), (PurgeStatus::Closed, 2), "{report:?}");
    let after = stored(&lockers);
    assert!(after.keys().all(|name| left.contains_key(name) || name.contains("/gone/")), "{:?}", after.keys());
    for night in &nights[2..] {
        lockers.opens(&acme, night).await.unwrap();
    }
}

/// A night that is stored but for its manifest, all of it made of chunks of earlier nights; and the files of its manifest.
async fn almost_a_night(lockers: &Lockers, acme: &mut Tenant) -> (Night, Files) {
    let keep: Keep = "6 months".parse().unwrap();
    let before = stored(lockers);
    let ready = lockers.stored(acme, at("2026-11-08"), &[], keep).await;
    let night = lockers.commit(acme, ready).await;
    let manifest = Document::Manifest(acme.locker(), night.id()).to_string();
    let mut files = stored(lockers);
    files.retain(|name, _| !before.contains_key(name) && name.contains(&manifest));
    assert_eq!(files.len(), 2);
    files.keys().for_each(|name| std::fs::remove_file(lockers.folder().join(name)).unwrap());
    (night, files)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_backup_may_be_at_work_what_it_builds_upon_stays() {
    let (lockers, mut acme, _) = five_nights().await;
    let (late, manifest) = almost_a_night(&lockers, &mut acme).await;
    // Somebody has the tenant's lock: a run that read the history before.
    let now = Utc::now();
    let run =
        |free, now| purge_in(&lockers, (&lockers.vault, &lockers.keyring), ("acme", What::Before(at("2026-11-06"))), free, now);
    let report = run(false, now).await.unwrap();
    assert_eq!((report.status, report.open[0].kind), (PurgeStatus::Requested, "too-young"), "{report:?}");
    assert!(report.open[0].what.contains("a backup is at work"), "{report:?}");
    // Neither does `expire` sweep, nor the same purge before that run is over.
    assert!(expire(&lockers, now + TimeDelta::hours(1)).await.settling > 0);
    run(false, now + TimeDelta::hours(47)).await.unwrap();
    // It ends right after its manifest, before it could look again.
    put_back(&lockers, &manifest, |_| true);
    lockers.opens(&acme, &late).await.unwrap();
    let after = now + TimeDelta::hours(49);
    assert_eq!(run(false, after).await.unwrap().status, PurgeStatus::Closed);
    expire(&lockers, after).await;
    lockers.opens(&acme, &late).await.unwrap();
    let (code, document, said) = program(&lockers, &["verify", "acme"]);
    assert_eq!(code, 0, "{document}{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_comes_in_the_middle_of_the_sweep_is_named() {
    let (lockers, mut acme, _) = five_nights().await;
    let (late, manifest) = almost_a_night(&lockers, &mut acme).await;
    let folder = lockers.folder().to_owned();
    let vault = FaultStore::new(lockers_store(&lockers, "vault").await);
    let appear = move |called, name: &str| {
        if called == Operation::Delete && name.contains("/c/") {
            for (name, bytes) in &manifest {
                std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
                std::fs::write(folder.join(name), &bytes.0).unwrap();
            }
        }
        false
    };
    vault.fail_where(appear, 1, Fault::Lost);
    let (keyring, mirror) = (lockers_store(&lockers, "keyring").await, lockers_store(&lockers, "mirror").await);
    let (vault, keyring) = lockers.through(Arc::new(vault), keyring, vec![mirror]).await;
    let what = What::Before(at("2026-11-06"));
    let torn = purge_in(&lockers, (&vault, &keyring), ("acme", what), true, Utc::now()).await.unwrap_err();
    assert_eq!((torn.class, torn.kind), (FailureClass::Integrity, "backup-torn"), "{torn:?}");
    assert!(torn.object.contains(&late.id().to_string()), "{torn:?}");
    assert_eq!(program(&lockers, &["list", "acme"]).1["backups"][0]["state"], "damaged");
}
