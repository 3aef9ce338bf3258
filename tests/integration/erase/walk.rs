//! Every call of vault and keyring in an erasure fails, or is the last one: the next run finishes, and neighbours are as they were.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{TimeDelta, Utc};
use tenure::{
    format::plan::Step,
    keyring::Keyring,
    operation::{
        drop::{DropTenant, Server},
        erase::{Erase, EraseReport, EraseStatus, Told},
        erased,
        failure::Failure,
        held::FleetLocks,
        progress::Silent,
        purge::Purge,
    },
    postgres::{LibpqEnvironment, Target},
    signature::AllowedSigners,
    store::{
        Store, StoreErrorKind,
        directory::DirectoryStore,
        fault::{Countdown, Fault, FaultStore},
    },
    tenant::TenantName,
    vault::Vault,
};
use tokio_util::sync::CancellationToken;

use crate::{
    drop::walk::{fleet, name},
    harness::site::Site,
};

pub async fn stores(site: &Site, countdown: Option<&Arc<Countdown>>) -> (Vault, Keyring) {
    let trust = AllowedSigners::parse(&site.signers).unwrap();
    let open = async |name: &str| -> Arc<dyn Store> {
        let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(&site.folder().join(name)).await.unwrap());
        match countdown {
            Some(countdown) => Arc::new(FaultStore::counted(store, countdown)),
            None => store,
        }
    };
    let vault = Vault::open(open("vault").await, &trust).await.unwrap();
    let keyring = Keyring::open(open("keyring").await, Vec::new(), vault.root(), vault.signers().clone()).await.unwrap();
    (vault, keyring)
}

/// Does something with what an erasure works with.
pub async fn with<T>(
    site: &Site,
    (vault, keyring): (&Vault, &Keyring),
    grace: TimeDelta,
    what: impl AsyncFnOnce(&Erase<'_>) -> T,
) -> T {
    let environment = LibpqEnvironment { home: None, user: "nobody".to_owned(), variables: BTreeMap::new() };
    let target = Target::parse(&site.cluster.description(), &environment).unwrap();
    let clusters = site.backup.clusters.clone();
    let wait = Duration::from_secs(30);
    let servers = [Server { name: "eu-1".to_owned(), admin: target, replicas: Vec::new(), replica_wait: wait }];
    let locks = FleetLocks { clusters: &clusters, installation: vault.root().installation };
    let (signer, clock, cancel) = (&site.backup.signer, &Utc::now, &CancellationToken::new());
    let erase = Erase {
        drop: DropTenant {
            vault,
            keyring,
            clusters: &clusters,
            servers: &servers,
            locks: &locks,
            operator: signer,
            eraser: signer,
            approvals: 0,
            within_erasure: true,
            clear: Default::default(),
            accept: Vec::new(),
            clock,
            progress: &Silent,
            cancel,
            known: Default::default(),
        },
        purge: Purge {
            vault,
            keyring,
            locks: &locks,
            operator: signer,
            eraser: signer,
            approvals: 0,
            clock,
            progress: &Silent,
            cancel,
        },
        approvals: 0,
        grace,
        per_day: u32::MAX,
        told: Told::default(),
    };
    what(&erase).await
}

pub async fn erase(site: &Site, stores: (&Vault, &Keyring), tenant: &str) -> Result<EraseReport, Failure> {
    let tenant: TenantName = tenant.parse().unwrap();
    with(site, stores, TimeDelta::zero(), async |erase| {
        let intent = erase.look(&tenant).await?;
        erase.carry_out(&tenant, &intent).await
    })
    .await
}

pub fn databases(site: &Site) -> Vec<String> {
    let sql =
        format!("SELECT datname, datallowconn FROM pg_database WHERE starts_with(datname, '{}') ORDER BY 1", site.name("w"));
    site.cluster.sql("postgres", &sql).lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr, reason = "what a walk says it walked")]
async fn every_store_call_fails_or_is_the_last() {
    let all = std::env::var_os("TENURE_TEST_WALK").is_some();
    let tenants = if all { 1_200 } else { 36 };
    // One of them stays.
    let site = fleet(tenants + 1).await;
    // How many calls there are.
    const MANY: usize = 1_000_000;
    let countdown = Countdown::once(MANY, Fault::Lost);
    let (vault, keyring) = stores(&site, Some(&countdown)).await;
    countdown.begin();
    let report = erase(&site, (&vault, &keyring), &name(0)).await.unwrap();
    assert_eq!(report.status, EraseStatus::Closed, "{report:?}");
    let calls = MANY - countdown.left();
    let (mut next, mut walked) = (0, 0);
    let step = if all { 1 } else { calls.div_ceil(tenants - 1).max(1) };
    for (round, nth) in (1..=calls).step_by(step).enumerate() {
        let ways = [
            Countdown::once(nth, Fault::Refused(StoreErrorKind::Unavailable)),
            Countdown::once(nth, Fault::Refused(StoreErrorKind::Denied)),
            Countdown::once(nth, Fault::Lost),
            Countdown::dead(nth),
        ];
        let chosen = if all { 0..4 } else { round % 4..round % 4 + 1 };
        for countdown in &ways[chosen] {
            next += 1;
            if next >= tenants {
                break;
            }
            let (tenant, place) = (name(next), format!("call {nth} of {calls}, {countdown:?}"));
            let tag = site.backup.keyring.tag(&tenant.parse().unwrap());
            let before = databases(&site);
            let (vault, keyring) = stores(&site, Some(countdown)).await;
            countdown.begin();
            let ended = erase(&site, (&vault, &keyring), &tenant).await;
            walked += usize::from(countdown.is_reached());
            let (vault, keyring) = stores(&site, None).await;
            let is_there = databases(&site).iter().any(|database| database.starts_with(&format!("{}|", site.name(&tenant))));
            let entombed = erased::read_both(&vault, &keyring, tag).await.unwrap().is_refused();
            assert!(is_there || entombed, "{place}: it went before its tombstone was there");
            let mut last = ended.ok();
            for _ in 0..3 {
                if last.as_ref().is_some_and(|report| report.status == EraseStatus::Closed) {
                    break;
                }
                let again = erase(&site, (&vault, &keyring), &tenant).await;
                last = Some(again.unwrap_or_else(|error| panic!("{place}: then {error:?}")));
            }
            assert_eq!(last.as_ref().map(|report| report.status), Some(EraseStatus::Closed), "{place}: {last:?}");
            let its = format!("{}|", site.name(&tenant));
            let wanted: Vec<String> = before.iter().filter(|database| !database.starts_with(&its)).cloned().collect();
            assert_eq!(databases(&site), wanted, "{place}: its neighbours are as they were");
            let open = vault.plans(tag, |steps| !steps.contains(&Step::Closed)).await.unwrap();
            assert!(open.is_empty(), "{place}: {open:?}");
            let plan = last.unwrap().certificate.unwrap().parse().unwrap();
            let certified = vault.certified(plan).await.unwrap();
            assert!(certified.problems.is_empty(), "{place}: {:?}", certified.problems);
            let newest = &certified.newest().unwrap().value;
            assert_eq!((newest.stage, newest.open.len()), (EraseStatus::Closed, 0), "{place}: {newest:?}");
            let inventory = newest.backups.inventory.as_ref().unwrap();
            assert!(inventory.objects > 0, "{place}: it was made before anything was removed");
            for file in &inventory.files {
                vault.inventory(plan, file).await.unwrap();
            }
            assert!(keyring.keys(&tenant.parse().unwrap()).await.unwrap().is_none(), "{place}: a key is left");
        }
    }
    eprintln!("walk: {walked} store calls of an erasure failed, of {calls}");
    assert!(walked >= 25, "{walked}");
    assert_eq!(site.all().await.class, None);
}
