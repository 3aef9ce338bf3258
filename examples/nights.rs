//! Makes vaults of many tenants and nights without a server, for `scripts/bench`:
//!
//! - `nights FOLDER expire TENANTS NIGHTS`: each tenant is backed up once a night and changes a little; the first night of each is over by
//!   a few hours.
//! - `nights FOLDER purge OTHERS NIGHTS`: tenant `acme` with so many nights, and other tenants with one night each; nothing is over.
//! - `nights FOLDER purge OTHERS NIGHTS ENDPOINT VAULT KEYRING MIRROR`: the same in three buckets of an S3 server, as whom the environment says.
//!
//! Prints the folder of the installation below FOLDER. On tmpfs it takes minutes for a thousand tenants and half a year; elsewhere every object
//! is synced to the disk.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for measuring, run by hand")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "its numbers are small")]

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/integration/harness/locker.rs"]
mod locker;

use std::{path::Path, sync::Arc};

use chrono::{Months, TimeDelta, Utc};
use futures_util::{StreamExt as _, stream};
use locker::{Lockers, Tenant};
use tenure::store::{
    Store,
    s3::{S3Settings, S3Store},
};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let lockers = match arguments[..] {
        [folder, "expire", tenants, nights] => expire(folder.as_ref(), tenants.parse().unwrap(), nights.parse().unwrap()).await,
        [folder, "purge", others, nights] => {
            let lockers = Lockers::kept_below(folder.as_ref()).await;
            purge(lockers, others.parse().unwrap(), nights.parse().unwrap()).await
        }
        [folder, "purge", others, nights, endpoint, vault, keyring, mirror] => {
            let lockers = in_buckets(folder.as_ref(), endpoint, [vault, keyring, mirror]).await;
            purge(lockers, others.parse().unwrap(), nights.parse().unwrap()).await
        }
        _ => panic!(
            "usage: nights FOLDER expire TENANTS NIGHTS | nights FOLDER purge OTHERS NIGHTS [ENDPOINT VAULT KEYRING MIRROR]"
        ),
    };
    println!("{}", lockers.folder().display());
}

async fn expire(folder: &Path, tenants: usize, nights: i64) -> Lockers {
    let lockers = Lockers::kept_below(folder).await;
    let (of_all, first) = (&lockers, Utc::now() - Months::new(6) - TimeDelta::hours(12));
    stream::iter(0..tenants)
        .for_each_concurrent(8, |n| async move {
            let mut tenant = of_all.tenant(&format!("tenant{n}"), first).await;
            for night in 0..nights {
                back_up(of_all, &mut tenant, night, first + TimeDelta::days(night), "6 months").await;
            }
        })
        .await;
    lockers
}

async fn purge(mut lockers: Lockers, others: usize, nights: i64) -> Lockers {
    lockers.ranges = 4;
    let (of_all, first) = (&lockers, Utc::now() - TimeDelta::days(nights));
    let mut acme = of_all.tenant("acme", first).await;
    for night in 0..nights {
        back_up(of_all, &mut acme, night, first + TimeDelta::days(night), "9 years").await;
    }
    stream::iter(0..others)
        .for_each_concurrent(8, |n| async move {
            let mut other = of_all.tenant(&format!("other{n}"), first).await;
            back_up(of_all, &mut other, 0, Utc::now() - TimeDelta::hours(1), "9 years").await;
        })
        .await;
    lockers
}

async fn back_up(lockers: &Lockers, tenant: &mut Tenant, night: i64, at: chrono::DateTime<Utc>, keep: &str) {
    let changed = [night as usize % lockers.ranges];
    lockers.night_kept(tenant, at, &changed, keep).await;
}

/// An installation in buckets, whose configuration names them.
async fn in_buckets(folder: &Path, endpoint: &str, buckets: [&str; 3]) -> Lockers {
    let [vault, keyring, mirror] = buckets;
    let lockers = Lockers::kept_within(
        folder,
        bucket_at(endpoint, vault).await,
        bucket_at(endpoint, keyring).await,
        vec![bucket_at(endpoint, mirror).await],
    )
    .await;
    let file = lockers.folder().join("tenure.toml");
    let mut config = std::fs::read_to_string(&file).unwrap();
    for (name, bucket, end) in [("vault", vault, "\n"), ("keyring", keyring, "\n"), ("mirror", mirror, ", ")] {
        let directory = format!("url = \"file://{}\"", lockers.folder().join(name).display());
        assert!(config.contains(&directory), "{config}");
        config = config.replace(&directory, &format!("url = \"s3://{bucket}\"{end}endpoint = \"{endpoint}\""));
    }
    std::fs::write(&file, config).unwrap();
    lockers
}

async fn bucket_at(endpoint: &str, bucket: &str) -> Arc<dyn Store> {
    let settings = S3Settings { endpoint: Some(endpoint.to_owned()), ..S3Settings::new(bucket) };
    Arc::new(S3Store::connect(settings).await.unwrap())
}
