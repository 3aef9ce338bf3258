//! Alarms about one tenant: its age, its size, its place, its retention.

use std::sync::Arc;

use chrono::{Days, TimeDelta};
use tenure::{
    operation::{alarm::AlarmKind, failure::FailureClass, tenants::TenantState},
    store::fault::{FaultStore, Operation},
};

use super::{Site, hours, of, one};
use crate::harness::locker::at;

#[tokio::test(flavor = "multi_thread")]
async fn late_never_missing_moved_and_closed() {
    let site = Site::new().await;
    let (first, night) = (at("2026-11-20"), at("2026-11-21"));
    let mut acme = site.tenant("acme", first).await;
    site.lockers.night(&mut acme, first, &[]).await;
    site.lockers.night(&mut acme, night, &[1]).await;
    site.quiet(night + hours(26)).await;
    let late = site.status(night + hours(27)).await;
    assert_eq!(super::identities(&late), one(AlarmKind::TenantLate, "acme"));
    assert_eq!((late.class, late.counts.late, of(&late, "acme").state), (Some(FailureClass::SomeTenants), 1, TenantState::Late));
    assert!(late.alarms[0].hint.contains("`tenure backup acme`"), "{late:#?}");
    let now = at("2026-11-22");
    site.lockers.night(&mut acme, now, &[2]).await;
    site.quiet(now + hours(1)).await;

    // A tenant that has a key, and never a backup.
    let mut globex = site.tenant("globex", night).await;
    let new = site.status(night + hours(25)).await;
    assert_eq!((super::identities(&new), of(&new, "globex").state), (vec![], TenantState::New));
    assert_eq!(new.first_backups.unwrap().in_words(), "first backup done 1, waiting 1, about 1 more night");
    assert_eq!(site.alarms(night + hours(27)).await, one(AlarmKind::TenantNever, "globex"));
    site.lockers.night(&mut globex, now, &[]).await;
    site.quiet(now + hours(1)).await;

    // Its database is gone, another one, closed.
    let sql = |sql: &str| _ = site.server.sql("postgres", sql);
    sql("ALTER DATABASE lockers_acme RENAME TO tenure_away");
    let missing = site.status(now + hours(1)).await;
    assert_eq!(
        (super::identities(&missing), of(&missing, "acme").state),
        (one(AlarmKind::TenantMissing, "acme"), TenantState::Missing)
    );
    // What nobody can be asked about any more, because its backups are over, is no alarm.
    let over = site.status(now.checked_add_days(Days::new(200)).unwrap()).await;
    assert!(!super::identities(&over).contains(&(AlarmKind::TenantMissing, "acme".to_owned())), "{over:#?}");
    assert_eq!(over.retention_backlog, 4);
    sql("CREATE DATABASE lockers_acme");
    assert_eq!(site.alarms(now + hours(1)).await, one(AlarmKind::TenantMoved, "acme"));
    sql("DROP DATABASE lockers_acme");
    sql("ALTER DATABASE tenure_away RENAME TO lockers_acme");
    site.quiet(now + hours(1)).await;
    sql("ALTER DATABASE lockers_acme ALLOW_CONNECTIONS false");
    assert_eq!(site.alarms(now + hours(1)).await, one(AlarmKind::TenantClosed, "acme"));
    sql("ALTER DATABASE lockers_acme ALLOW_CONNECTIONS true");
    site.quiet(now + hours(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_below_half_of_the_median_of_the_last_seven() {
    let site = Site::new().await;
    let first = at("2026-11-01");
    let mut acme = site.tenant("acme", first).await;
    let day = |n: u64| first + Days::new(n);
    for (n, bytes) in [1000, 1000, 900, 50_000, 1000, 1100, 1000, 1000].into_iter().enumerate() {
        site.sized(&mut acme, day(n as u64), bytes).await;
    }
    site.quiet(day(7) + hours(1)).await;
    site.sized(&mut acme, day(8), 499).await;
    let report = site.status(day(8) + hours(1)).await;
    assert_eq!(super::identities(&report), one(AlarmKind::BackupSmall, "acme"));
    assert!(report.alarms[0].message.contains("499 bytes, less than half of the 1000"), "{report:#?}");
    assert_eq!(of(&report, "acme").bytes_read, Some(499));
    site.sized(&mut acme, day(9), 500).await;
    site.quiet(day(9) + hours(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_retention_is_told_until_two_backups_have_it() {
    let mut site = Site::new().await;
    let first = at("2026-11-01");
    let (mut acme, mut globex) = (site.tenant("acme", first).await, site.tenant("globex", first).await);
    for (n, keep) in ["6 months", "6 months", "3 months", "3 months"].into_iter().enumerate() {
        let now = first + Days::new(n as u64);
        for tenant in [&mut acme, &mut globex] {
            site.lockers.night_kept(tenant, now, &[], keep).await;
        }
        let told = one(AlarmKind::RetentionChanged, "6 months to 3 months");
        match n {
            0 | 3 => site.quiet(now + hours(1)).await,
            1 => {
                site.quiet(now + hours(1)).await;
                site.keep = "3 months".parse().unwrap();
                let report = site.status(now + hours(1)).await;
                assert_eq!(super::identities(&report), told, "once, not for each tenant");
                assert!(report.alarms[0].message.contains("acme, globex"), "{report:#?}");
            }
            _ => assert_eq!(site.alarms(now + hours(1)).await, told),
        }
    }
}

/// What is asked of the stores does not grow with the nights.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_manifests_are_read() {
    let site = Site::new().await;
    let first = at("2026-05-30");
    let mut acme = site.tenant("acme", first).await;
    let mut last = first;
    for n in 0..180 {
        last = first + TimeDelta::days(n);
        site.sized(&mut acme, last, 1000).await;
    }
    // The first five are over, and nobody removed them: by their names alone.
    let now = at("2026-12-03") + hours(1);
    let asked = Arc::new(FaultStore::new(std::sync::Arc::new(
        tenure::store::directory::DirectoryStore::open(&site.lockers.folder().join("vault")).await.unwrap(),
    )));
    let (vault, keyring) = site.lockers.through(asked.clone(), keyring_of(&site).await, Vec::new()).await;
    let before = asked.log().len();
    let through = Site { lockers: site.lockers.with(vault, keyring), clusters: site.clusters.clone(), ..site };
    let report = through.status(now).await;
    assert_eq!(super::identities(&report), one(AlarmKind::TenantLate, "acme"), "what is not read is no hole");
    let log: Vec<_> = asked.log().split_off(before);
    let gets = log.iter().filter(|(operation, name)| *operation == Operation::Get && name.contains("/b/")).count();
    assert_eq!(gets, 18, "eight manifests and their signatures, and the newest once more for its key");
    assert!(!log.iter().any(|(_, name)| name.contains("/c/") || name.contains("/p/")), "no chunk and no page is listed: {log:?}");
    let acme = of(&report, "acme");
    assert_eq!((acme.backups, acme.expired, acme.newest_taken_at), (175, 5, Some(last)));
    assert_eq!(report.retention_backlog, 5);
}

async fn keyring_of(site: &Site) -> Arc<dyn tenure::store::Store> {
    Arc::new(tenure::store::directory::DirectoryStore::open(&site.lockers.folder().join("keyring")).await.unwrap())
}
