//! Alarms about what is damaged, lost, or signed by nobody who may.

use std::fs;

use chrono::Utc;
use tenure::{object_name::Document, operation::alarm::AlarmKind};

use super::{Site, hours, identities, one};
use crate::harness::{locker::at, program::run_in, site::walk};

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_and_what_verify_found() {
    let site = Site::new().await;
    let now = Utc::now();
    let mut acme = site.tenant("acme", now - hours(48)).await;
    let first = site.lockers.night(&mut acme, now - hours(24), &[]).await;
    site.lockers.night(&mut acme, now - hours(1), &[1]).await;
    site.quiet(now).await;

    let document = Document::Manifest(acme.locker(), first.id());
    let file = site.lockers.folder().join("vault").join(document.to_string());
    let whole = fs::read(&file).unwrap();
    fs::write(&file, b"{}").unwrap();
    let damaged = site.alarms(now).await;
    assert!(damaged.iter().all(|(kind, object)| *kind == AlarmKind::Integrity && object.ends_with(&document.to_string())));
    assert!(!damaged.is_empty());
    fs::write(&file, whole).unwrap();
    site.quiet(now).await;

    // Every chunk of the last night is gone: `verify` says so, and then everybody is told until it says otherwise.
    let (vault, away) = (site.lockers.folder().join("vault"), site.lockers.folder().join("away"));
    let chunks = vault.join(format!("t/{}/c/{}", acme.locker(), first.id()));
    fs::rename(&chunks, &away).unwrap();
    site.quiet(now).await;
    assert_eq!(run_in(site.lockers.folder(), &["verify", "--all"]).0, 5);
    let report = site.status(now).await;
    assert_eq!(identities(&report), one(AlarmKind::Integrity, "acme"));
    assert!(report.alarms[0].message.contains("2 of 2 backups"), "{report:#?}");
    fs::rename(&away, &chunks).unwrap();
    assert_eq!(run_in(site.lockers.folder(), &["verify", "--all"]).0, 0);
    site.quiet(now).await;
    // Those backups are over: nobody needs to be told any more.
    fs::rename(&chunks, &away).unwrap();
    assert_eq!(run_in(site.lockers.folder(), &["verify", "--all"]).0, 5);
    let later = first.backup.manifest.expires_at + hours(48);
    assert!(!site.alarms(later).await.iter().any(|(kind, _)| *kind == AlarmKind::Integrity));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_lost_and_one_that_nobody_wrote() {
    let site = Site::new().await;
    let night = at("2026-11-21");
    let (mut acme, mut globex) = (site.tenant("acme", night).await, site.tenant("globex", night).await);
    site.lockers.night(&mut acme, night, &[]).await;
    site.lockers.night(&mut globex, night, &[]).await;
    let now = night + hours(1);
    site.quiet(now).await;
    let (keyring, away) = (site.lockers.folder().join("keyring"), site.lockers.folder().join("away"));

    // Its secret half.
    let secret = keyring.join(format!("k/{}.1.age", acme.record.key_id));
    fs::rename(&secret, &away).unwrap();
    let lost = site.alarms(now).await;
    assert!(lost.contains(&(AlarmKind::KeyLost, "acme".to_owned())), "{lost:?}");
    fs::rename(&away, &secret).unwrap();
    site.quiet(now).await;

    // Its record: its backups are somebody's of whom nothing is known.
    let records = keyring.join(format!("t/{}", acme.record.name_tag));
    fs::rename(&records, &away).unwrap();
    let lost = site.alarms(now).await;
    assert!(lost.contains(&(AlarmKind::KeyLost, acme.locker().to_string())), "{lost:?}");
    fs::rename(&away, &records).unwrap();
    site.quiet(now).await;

    // One that somebody changed, or made.
    let record = walk(&records).into_iter().find(|path| path.extension().is_some_and(|extension| extension == "json")).unwrap();
    let whole = fs::read_to_string(&record).unwrap();
    fs::write(&record, whole.replace("acme", "acm3")).unwrap();
    let foreign = site.alarms(now).await;
    assert!(foreign.iter().any(|(kind, object)| *kind == AlarmKind::KeyForeign && object.contains("/t/")), "{foreign:?}");
    fs::write(&record, whole).unwrap();
    site.quiet(now).await;
}
