//! Alarms about the fleet: discovery, clocks, clusters out of reach.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use tenure::{
    operation::{alarm::AlarmKind, failure::FailureClass, tenants::TenantState},
    store::{
        Store,
        s3::{S3Settings, S3Store},
    },
};

use super::{Site, cluster, hours, identities, of, one};
use crate::harness::{
    http::{Action, Proxy},
    locker::at,
    s3::{self, S3Server as _},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_discovery_loses_leaves_over_and_finds_twice() {
    let mut site = Site::new().await;
    let night = at("2026-11-21");
    for name in ["a", "b", "c", "d"] {
        let mut tenant = site.tenant(name, night).await;
        site.lockers.night(&mut tenant, night, &[]).await;
    }
    let now = night + hours(1);
    site.quiet(now).await;
    let sql = |site: &Site, sql: &str| _ = site.server.sql("postgres", sql);

    // No rule covers it.
    sql(&site, "CREATE DATABASE stray");
    assert_eq!(site.alarms(now).await, one(AlarmKind::Unassigned, "here/stray"));
    sql(&site, "DROP DATABASE stray");
    site.quiet(now).await;

    // One that is gone is missing by himself; three of four are a loss, and nobody is named twice.
    sql(&site, "ALTER DATABASE lockers_a RENAME TO tenure_a");
    assert_eq!(site.alarms(now).await, one(AlarmKind::TenantMissing, "a"));
    for name in ["b", "c"] {
        sql(&site, &format!("ALTER DATABASE lockers_{name} RENAME TO tenure_{name}"));
    }
    let lost = site.status(now).await;
    assert_eq!((identities(&lost), lost.counts.missing), (one(AlarmKind::DiscoveryLoss, "here"), 3), "{lost:#?}");
    for name in ["a", "b", "c"] {
        sql(&site, &format!("ALTER DATABASE tenure_{name} RENAME TO lockers_{name}"));
    }
    site.quiet(now).await;

    // Two clusters have them.
    site.clusters.push(cluster("there", &site.server));
    let twice: Vec<_> = ["a", "b", "c", "d"].map(|name| (AlarmKind::Ambiguous, name.to_owned())).to_vec();
    assert_eq!(site.alarms(now).await, twice);
    site.clusters.pop();
    site.quiet(now).await;

    // It does not answer. What the vault has is known all the same.
    site.server.stop("fast");
    let away = site.status(now).await;
    assert_eq!((identities(&away), away.class), (one(AlarmKind::ClusterUnreachable, "here"), Some(FailureClass::Failed)));
    assert_eq!((away.counts.unknown, of(&away, "a").state, of(&away, "a").age_seconds), (4, TenantState::Unknown, Some(3600)));
    let late = site.status(night + hours(27)).await;
    assert_eq!(late.alarms.iter().filter(|alarm| alarm.kind == AlarmKind::TenantLate).count(), 4, "{late:#?}");
    site.server.start_again();
    site.quiet(now).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_do_not_agree() {
    let site = Site::new().await;
    let night = at("2026-11-21");
    let mut acme = site.tenant("acme", night).await;
    // The server's clock is eleven minutes ahead of the host's.
    let (mut manifest, entries) = site.lockers.stored(&mut acme, night, &[], site.keep).await;
    manifest.server_time = night + TimeDelta::minutes(11);
    site.lockers.commit(&mut acme, (manifest, entries)).await;
    let report = site.status(night + hours(1)).await;
    assert_eq!(identities(&report), one(AlarmKind::ClockSkew, "cluster here"));
    assert!(report.alarms[0].message.contains("660 s ahead"), "{report:#?}");
    let next = night + hours(24);
    site.lockers.night(&mut acme, next, &[]).await;
    site.quiet(next + hours(1)).await;
    // This host's clock was set back behind what is stored.
    assert_eq!(site.alarms(next - hours(1)).await, one(AlarmKind::ClockSkew, "this host"));
    site.quiet(next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_clock_is_elsewhere() {
    let server = s3::shared();
    let (vault, keyring) = (server.bucket("status").await, server.bucket("status-keys").await);
    let open = async |bucket: &str| Arc::new(S3Store::connect(server.settings(bucket)).await.unwrap()) as Arc<dyn Store>;
    let site = Site::within(open(&vault).await, open(&keyring).await).await;
    let now = Utc::now();
    let mut acme = site.tenant("acme", now).await;
    site.lockers.night(&mut acme, now, &[]).await;
    site.quiet(now).await;
    let proxy = Proxy::start(Some(server.endpoint()), |request, _| {
        let asks_for_time = request.path.contains("list-type=2") && request.path.contains("max-keys=1");
        if !asks_for_time {
            return Action::Forward;
        }
        // The client goes by what it is told, and the server allows a quarter of an hour.
        let behind = Utc::now() - TimeDelta::minutes(10);
        let date = behind.format("Date: %a, %d %b %Y %H:%M:%S GMT\r\n").to_string();
        Action::Answer(403, date.leak(), Vec::new())
    })
    .await;
    let settings = S3Settings { endpoint: Some(proxy.endpoint.clone()), ..server.settings(&vault) };
    let skewed: Arc<dyn Store> = Arc::new(S3Store::connect(settings).await.unwrap());
    let address = skewed.address().to_owned();
    let (vault, keyring) = site.lockers.through(skewed, open(&keyring).await, Vec::new()).await;
    let site = Site { lockers: site.lockers.with(vault, keyring), ..site };
    let report = site.status(now).await;
    assert_eq!(identities(&report), one(AlarmKind::ClockSkew, &address));
    assert!(report.alarms[0].message.contains("behind this host's"), "{report:#?}");
}
