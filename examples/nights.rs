//! Makes a vault of many tenants and nights without a server, for `scripts/bench`: `nights FOLDER TENANTS NIGHTS`.
//!
//! Prints the folder of the installation below FOLDER. Each tenant is backed up once a night and changes a little; the first night of each is
//! over by a few hours. On tmpfs it takes minutes for a thousand tenants and half a year; elsewhere every object is synced to the disk.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for measuring, run by hand")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "its numbers are small")]

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/integration/harness/locker.rs"]
mod locker;

use chrono::{Months, TimeDelta, Utc};
use futures_util::{StreamExt as _, stream};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, tenants, nights] = &arguments[..] else { panic!("usage: nights FOLDER TENANTS NIGHTS") };
    let (tenants, nights): (usize, i64) = (tenants.parse().unwrap(), nights.parse().unwrap());
    let lockers = &locker::Lockers::kept_below(folder.as_ref()).await;
    println!("{}", lockers.folder().display());
    let first = Utc::now() - Months::new(6) - TimeDelta::hours(12);
    stream::iter(0..tenants)
        .for_each_concurrent(8, |n| async move {
            let mut tenant = lockers.tenant(&format!("tenant{n}"), first).await;
            for night in 0..nights {
                let changed = [night as usize % lockers.ranges];
                lockers.night(&mut tenant, first + TimeDelta::days(night), &changed).await;
            }
        })
        .await;
}
