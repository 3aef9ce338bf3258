//! How long it takes until nothing opens any more: as long for 1,800 nights as for one, and for a thousand tenants as for one.

use std::time::{Duration, Instant};

use tenure::store::{
    Store,
    directory::DirectoryStore,
    fault::{FaultStore, Operation},
};

use super::*;

/// Calls of all three stores until the last listing that shows no key.
async fn calls_until_the_keys_are_gone(nights: i64, others: usize) -> usize {
    let lockers = Lockers::new().await;
    let mut acme = lockers.tenant("acme", at("2026-11-01")).await;
    for night in 0..nights {
        lockers.night(&mut acme, at("2026-11-01") + TimeDelta::days(night), &[(night % 8) as usize]).await;
    }
    for other in 0..others {
        lockers.tenant(&format!("other-{other}"), at("2026-11-01")).await;
    }
    let mut stores = Vec::new();
    for name in ["vault", "keyring", "mirror"] {
        let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(&lockers.folder().join(name)).await.unwrap());
        stores.push(Arc::new(FaultStore::new(store)));
    }
    let (vault, keyring) = lockers.through(stores[0].clone(), stores[1].clone(), vec![stores[2].clone()]).await;
    let report = purge_in(&lockers, (&vault, &keyring), ("acme", What::All), true, Utc::now()).await.unwrap();
    assert_eq!(report.status, PurgeStatus::Closed);
    // What the vault was asked before the keys were gone, and all that the keyrings were asked. Manifests are read and removed later.
    let of_vault = stores[0].log();
    let removed = of_vault.iter().position(|(_, name)| name.contains("3-keys-destroyed")).unwrap();
    let first = of_vault.iter().position(|(operation, _)| *operation == Operation::Delete).unwrap();
    assert!(removed < first);
    removed + stores[1].log().len() + stores[2].log().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn how_many_nights_and_tenants_there_are_costs_no_call_before_the_keys_are_gone() {
    let one = calls_until_the_keys_are_gone(1, 0).await;
    assert_eq!(calls_until_the_keys_are_gone(12, 0).await, one, "nights");
    assert_eq!(calls_until_the_keys_are_gone(1, 12).await, one, "tenants");
}

/// With the program, in directories: `TENURE_TEST_MEASURE=1800 cargo test --test integration purge::measure -- --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr, reason = "what was measured")]
async fn the_time_until_nothing_opens_any_more() {
    let Some(most) = std::env::var("TENURE_TEST_MEASURE").ok().and_then(|most| most.parse::<i64>().ok()) else { return };
    for (nights, others) in [(1, 0), (180, 0), (1800, 0), (1, 1000)] {
        if nights > most {
            continue;
        }
        let mut lockers = Lockers::new().await;
        lockers.ranges = 4;
        let mut acme = lockers.tenant("acme", at("2020-11-01")).await;
        for night in 0..nights {
            let taken = at("2020-11-01") + TimeDelta::days(night);
            lockers.night_kept(&mut acme, taken, &[(night % 4) as usize], "9 years").await;
        }
        for other in 0..others {
            lockers.tenant(&format!("other-{other}"), at("2026-11-01")).await;
        }
        let objects = stored(&lockers).keys().filter(|name| of(&lockers, &acme)(name)).count();
        let (begin, started) = (Utc::now(), Instant::now());
        let (code, report, said) = program(&lockers, &["purge", "acme", "--confirm", "acme"]);
        let took = started.elapsed();
        // Nobody has the tenant's lock, and nobody can say so: its server is nowhere.
        assert_eq!((code, &report["status"]), (3, &"keys-destroyed".into()), "{report}{said}");
        let gone = report["key_copies"].as_array().unwrap().iter().map(|copy| copy["destroyed_at"].as_str().unwrap());
        let gone: DateTime<Utc> = gone.max().unwrap().parse().unwrap();
        let until_gone = (gone - begin).to_std().unwrap_or(Duration::ZERO);
        eprintln!(
            "purge: {nights} nights, {others} other tenants: {} ms from the command to the last key copy read back as absent, \
             {} ms until {objects} objects were removed",
            until_gone.as_millis(),
            took.as_millis()
        );
        assert!(until_gone < Duration::from_secs(2), "{until_gone:?}");
    }
}
