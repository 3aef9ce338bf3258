//! What goes when its time is over, and nothing else.

use chrono::TimeDelta;

use crate::harness::locker::{Lockers, at};

#[tokio::test(flavor = "multi_thread")]
async fn lockers_made_without_a_server_are_as_good_as_those_of_one() {
    let lockers = Lockers::new().await;
    let mut acme = lockers.tenant("acme", at("2026-11-20")).await;
    let first = lockers.night(&mut acme, at("2026-11-20"), &[]).await;
    let second = lockers.night(&mut acme, at("2026-11-21"), &[0, 5]).await;
    assert_eq!((first.backup.manifest.totals.chunks_stored, second.backup.manifest.totals.chunks_stored), (9, 2));
    for night in [&first, &second] {
        lockers.opens(&acme, night).await.unwrap();
    }
    let crashed = lockers.crashed(&mut acme, at("2026-11-22"), &[1]).await;
    let third = lockers.night(&mut acme, at("2026-11-23"), &[2]).await;
    lockers.void(acme.locker(), third.id(), at("2026-11-23")).await;
    let fourth = lockers.night(&mut acme, at("2026-11-24"), &[3]).await;
    assert_eq!(fourth.backup.manifest.previous.as_ref().unwrap().backup, second.id());
    let history = lockers.vault.history(acme.locker(), at("2026-11-25")).await.unwrap();
    assert_eq!((history.backups.len(), history.problems.len()), (3, 0), "{history:?}");
    assert_eq!((history.unfinished().collect::<Vec<_>>(), &history.voids), (vec![crashed], &vec![third.id()]));

    let verified = std::process::Command::new(env!("CARGO_BIN_EXE_tenure"))
        .args(["verify", "--all", "--identity", "recovery-kit.txt", "--json"])
        .current_dir(lockers.folder())
        .output()
        .unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stdout));
    assert!(second.backup.manifest.expires_at > first.backup.manifest.expires_at + TimeDelta::hours(23));
}
