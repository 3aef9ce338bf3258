//! Who is due by the vault, in which order, and what many runs at once make of one night.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use tenure::{
    format::act::{Act, ActCommand, ActOutcome, NightOutcome},
    id::RecordId,
    operation::{
        backup::{Backup, Promise, Which},
        failure::FailureClass,
        night::{NightReport, NightShift, Turn},
        progress::Progress,
    },
    tenant::TenantName,
};

use crate::harness::{
    postgres::{eventually, shared},
    site::Site,
};

/// The names of those whose turn began, in order.
#[derive(Default)]
struct Begun(Mutex<Vec<String>>);

impl Progress for Begun {
    fn tenant_started(&self, tenant: &TenantName, _: u64) {
        self.0.lock().unwrap().push(tenant.to_string());
    }
    fn advanced(&self, _: &TenantName, _: u64) {}
    fn stage(&self, _: &TenantName, _: &'static str) {}
    fn tenant_finished(&self, _: &TenantName, _: &str) {}
}

fn shift(backup: Backup, due_at: DateTime<Utc>) -> NightShift {
    NightShift {
        backup,
        turn: Turn {
            schedule: "nightly".to_owned(),
            due_at,
            until: due_at + TimeDelta::days(1),
            worker: RecordId::random(),
            run: RecordId::random(),
        },
        covers: Arc::new(|_| true),
        retries: 0,
        pause: Duration::from_millis(10),
        look_again: Duration::from_millis(50),
    }
}

fn outcomes(report: &NightReport) -> BTreeMap<&str, NightOutcome> {
    report.stood.iter().map(|(tenant, stood)| (tenant.as_str(), stood.outcome)).collect()
}

async fn backups_of(site: &Site, tenant: &str) -> usize {
    let backup = &site.backup;
    let Some(keys) = backup.keyring.keys(&tenant.parse().unwrap()).await.unwrap() else { return 0 };
    backup.vault.history(keys.lockers()[0], Utc::now()).await.unwrap().backups.len()
}

async fn nights(site: &Site) -> Vec<Act> {
    let mut acts = site.backup.vault.acts_since(Utc::now()).await.unwrap();
    acts.retain(|act| act.night.is_some());
    acts.sort_by_key(|act| act.started_at);
    acts
}

async fn only(site: &Site, tenant: &str) {
    let report = site.backup.clone().run(&Which::Named(vec![tenant.parse().unwrap()])).await.unwrap();
    assert_eq!(report.class, None, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_never_backed_up_is_first_then_the_longest_overdue_and_nobody_twice() {
    let site = Site::new().await;
    for tenant in ["d", "c", "b", "a", "z"] {
        site.database(tenant);
    }
    for tenant in ["c", "a", "b"] {
        only(&site, tenant).await;
    }
    let due_at = Utc::now();
    let begun = Arc::new(Begun::default());
    let backup = Backup { jobs: 1, progress: begun.clone(), ..site.backup.clone() };
    // Backed up since it was due, by hand.
    only(&site, "d").await;
    let report = shift(backup.clone(), due_at).run().await;
    assert_eq!(report.class, None, "{report:?}");
    assert_eq!(*begun.0.lock().unwrap(), ["z", "c", "a", "b"]);
    let all = outcomes(&report);
    assert_eq!(all["d"], NightOutcome::Current);
    assert!(["z", "c", "a", "b"].iter().all(|tenant| all[tenant] == NightOutcome::Done), "{all:?}");

    let [act] = &nights(&site).await[..] else { panic!("one record a run") };
    assert_eq!((act.command, act.outcome), (ActCommand::Backup, ActOutcome::Done));
    let night = act.night.as_ref().unwrap();
    assert_eq!((night.schedule.as_str(), night.due_at, night.waiting), ("nightly", due_at, 0));
    for (tenant, stood) in &report.stood {
        let of = night.tenants.iter().find(|of| of.name_tag == backup.keyring.tag(tenant)).unwrap();
        assert_eq!(of, stood);
        let newest = of.newest.as_ref().unwrap();
        let history = backup.vault.history(newest.locker, Utc::now()).await.unwrap();
        let last = history.newest().unwrap();
        assert_eq!((last.manifest.backup, last.sha256, last.manifest.taken_at), (newest.backup, newest.sha256, newest.taken_at));
    }

    // A restart: nobody is due, nobody is begun, and there is nothing to add to the record.
    let again = shift(backup, due_at).run().await;
    assert!(outcomes(&again).values().all(|outcome| *outcome == NightOutcome::Current), "{again:?}");
    assert_eq!(begun.0.lock().unwrap().len(), 4);
    assert_eq!(nights(&site).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn four_runs_share_sixty_tenants_and_each_is_backed_up_once() {
    let site = Site::new().await;
    let tenants: Vec<String> = (0..60).map(|n| format!("t{n:02}")).collect();
    tenants.iter().for_each(|tenant| _ = site.database(tenant));
    let due_at = Utc::now();
    let runs = (0..4).map(|_| {
        let backup = Backup { jobs: 2, ..site.backup.clone() };
        tokio::spawn(async move { shift(backup, due_at).run().await })
    });
    let mut shares = Vec::new();
    for report in futures_util::future::join_all(runs).await {
        let report = report.unwrap();
        assert_eq!(report.class, None, "{report:?}");
        assert_eq!(report.stood.len(), 60);
        assert_eq!(report.count(NightOutcome::Done) + report.count(NightOutcome::Current), 60, "{report:?}");
        shares.push(report.count(NightOutcome::Done));
    }
    assert_eq!(shares.iter().sum::<u64>(), 60, "{shares:?}");
    assert!(shares.iter().all(|share| *share >= 5), "evenly spread: {shares:?}");
    for tenant in &tenants {
        assert_eq!(backups_of(&site, tenant).await, 1, "{tenant}");
    }
    let acts = nights(&site).await;
    assert_eq!(acts.len(), 4);
    let done = acts.iter().flat_map(|act| &act.night.as_ref().unwrap().tenants);
    assert_eq!(done.filter(|of| of.outcome == NightOutcome::Done).count(), 60);
}

static AFTER_TWO: AtomicU32 = AtomicU32::new(0);

/// The window ends when two are begun.
fn until_two_began() -> DateTime<Utc> {
    if AFTER_TWO.load(Ordering::SeqCst) >= 2 { Utc::now() + TimeDelta::hours(1) } else { Utc::now() }
}

struct Counts;

impl Progress for Counts {
    fn tenant_started(&self, _: &TenantName, _: u64) {
        AFTER_TWO.fetch_add(1, Ordering::SeqCst);
    }
    fn advanced(&self, _: &TenantName, _: u64) {}
    fn stage(&self, _: &TenantName, _: &'static str) {}
    fn tenant_finished(&self, _: &TenantName, _: &str) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_window_ends_who_waits_is_first_the_next_time() {
    let site = Site::new().await;
    let tenants = ["a", "b", "c", "d", "e"];
    tenants.iter().for_each(|tenant| _ = site.database(tenant));
    let due_at = Utc::now();
    let backup = Backup { jobs: 1, clock: until_two_began, progress: Arc::new(Counts), ..site.backup.clone() };
    let mut short = shift(backup, due_at);
    short.turn.until = due_at + TimeDelta::minutes(30);
    let report = short.run().await;
    assert_eq!(report.class, None, "that some wait is no failure: {report:?}");
    assert_eq!((report.count(NightOutcome::Done), report.count(NightOutcome::Waiting)), (2, 3));
    let [act] = &nights(&site).await[..] else { panic!("one record") };
    assert_eq!((act.outcome, act.night.as_ref().unwrap().waiting), (ActOutcome::Open, 3));

    let begun = Arc::new(Begun::default());
    let next = Backup { jobs: 1, progress: begun.clone(), ..site.backup.clone() };
    // An hour ahead, as the clock was: what was taken then is no younger than the next slot.
    let report = shift(next, Utc::now() + TimeDelta::hours(2)).run().await;
    let waited: Vec<&str> = report
        .stood
        .iter()
        .filter(|(tenant, _)| begun.0.lock().unwrap()[..3].contains(&tenant.to_string()))
        .map(|(tenant, _)| tenant.as_str())
        .collect();
    assert_eq!(waited.len(), 3);
    for tenant in waited {
        assert_eq!(backups_of(&site, tenant).await, 1, "{tenant} had none before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_is_tried_again_after_the_others_and_a_panic_is_that_tenants_failure() {
    let site = Site::new().await;
    ["a", "b", "c"].iter().for_each(|tenant| _ = site.database(tenant));
    let keep = "6 months".parse().unwrap();
    let left = Arc::new(AtomicU32::new(1));
    let panics = left.clone();
    let promise = move |tenant: &TenantName| {
        let more = |left: u32| left.checked_sub(1);
        assert!(
            tenant.as_str() != "a" || panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_err(),
            "a bug in what is promised to {tenant}"
        );
        Promise { keep, exclude_data: Vec::new() }
    };
    let begun = Arc::new(Begun::default());
    let backup = Backup { jobs: 1, progress: begun.clone(), promise: Arc::new(promise), ..site.backup.clone() };
    let due_at = Utc::now();
    let report = shift(backup.clone(), due_at).run().await;
    assert_eq!(report.class, Some(FailureClass::SomeTenants), "{report:?}");
    let a: TenantName = "a".parse().unwrap();
    assert_eq!((report.stood[&a].outcome, report.stood[&a].reason.as_deref()), (NightOutcome::Failed, Some("panicked")));
    assert_eq!(report.count(NightOutcome::Done), 2);
    assert_eq!(nights(&site).await[0].outcome, ActOutcome::Failed);

    left.store(1, Ordering::SeqCst);
    begun.0.lock().unwrap().clear();
    let twice = NightShift { retries: 1, ..shift(backup, Utc::now()) };
    let report = twice.run().await;
    assert_eq!(report.class, None, "{report:?}");
    assert_eq!(*begun.0.lock().unwrap(), ["a", "b", "c", "a"]);
    assert_eq!((report.stood[&a].outcome, report.stood[&a].attempts), (NightOutcome::Done, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_busy_is_waited_for_and_a_stop_leaves_the_rest() {
    let site = Site::new().await;
    ["a", "b"].iter().for_each(|tenant| _ = site.database(tenant));
    let due_at = Utc::now();
    // Somebody has a's lock, and does nothing with it.
    let cluster = &site.backup.clusters[0];
    let installation = site.backup.vault.root().installation;
    let held = tenure::postgres::lock::TenantLock::acquire(
        &cluster.target,
        &installation,
        &"a".parse().unwrap(),
        &[],
        Duration::from_secs(5),
    )
    .await
    .unwrap();
    let backup = site.backup.clone();
    let run = tokio::spawn(async move { shift(backup, due_at).run().await });
    let vault = site.folder().join("vault/t");
    eventually("b is backed up", || {
        vault.is_dir() && crate::harness::site::walk(&vault).iter().any(|path| path.to_string_lossy().contains("/b/"))
    });
    assert!(!run.is_finished(), "it looks at a again");
    held.release().await.unwrap();
    let report = run.await.unwrap();
    assert_eq!(report.class, None, "{report:?}");
    assert_eq!(report.count(NightOutcome::Done), 2);

    let stopped = site.backup.clone();
    let stopped = Backup { cancel: tokio_util::sync::CancellationToken::new(), ..stopped };
    stopped.cancel.cancel();
    let report = shift(stopped, Utc::now()).run().await;
    assert_eq!(report.class, Some(FailureClass::Interrupted));
    assert_eq!(report.count(NightOutcome::Interrupted), 2, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_schedules_at_once_hold_no_more_connections_than_one() {
    let site = Site::new().await;
    let tenants: Vec<String> = (0..6).map(|n| format!("t{n}")).collect();
    tenants.iter().for_each(|tenant| _ = site.database(tenant));
    let mut backup = site.backup.clone();
    // Room for one tenant at a time.
    backup.clusters[0].connections = 4;
    let room = tenure::operation::backup::Room::new(4, &backup.clusters);
    let watch = Arc::new(Watch { room: room.clone(), free: Mutex::default() });
    let backup = Backup { room: Some(room.clone()), progress: watch.clone(), ..backup };
    let due_at = Utc::now();
    let half = |even: bool| {
        let covers = move |tenant: &TenantName| tenant.as_str().bytes().last().is_some_and(|byte| (byte % 2 == 0) == even);
        NightShift { covers: Arc::new(covers), ..shift(backup.clone(), due_at) }
    };
    let (one, other) = (half(true), half(false));
    let (one, other) = tokio::join!(tokio::spawn(async move { one.run().await }), tokio::spawn(async move { other.run().await }));
    assert_eq!((one.unwrap().count(NightOutcome::Done), other.unwrap().count(NightOutcome::Done)), (3, 3));
    // Whoever is at work has all of it, but for a reader's that is through.
    let free = watch.free.lock().unwrap();
    assert!(free.len() > 20 && free.iter().all(|free| *free <= 1), "{free:?}");
    assert_eq!(room.free_connections("eu-1"), Some(4));
}

/// How much of a room was free at each stage of somebody's work.
struct Watch {
    room: tenure::operation::backup::Room,
    free: Mutex<Vec<usize>>,
}

impl Progress for Watch {
    fn tenant_started(&self, _: &TenantName, _: u64) {}
    fn advanced(&self, _: &TenantName, _: u64) {}
    fn stage(&self, _: &TenantName, _: &'static str) {
        self.free.lock().unwrap().extend(self.room.free_connections("eu-1"));
    }
    fn tenant_finished(&self, _: &TenantName, _: &str) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_from_the_future_keeps_nobody_from_being_backed_up() {
    fn next_week() -> DateTime<Utc> {
        Utc::now() + TimeDelta::days(7)
    }
    fn in_an_hour() -> DateTime<Utc> {
        Utc::now() + TimeDelta::hours(1)
    }
    let site = Site::new().await;
    site.database("a");
    let ahead = Backup { clock: next_week, ..site.backup.clone() };
    assert_eq!(ahead.run(&Which::All { accept_missing: false }).await.unwrap().class, None);
    let report = shift(site.backup.clone(), Utc::now()).run().await;
    assert_eq!(report.count(NightOutcome::Done), 1, "{report:?}");
    // An hour, as a clock that is set back has it, is a backup as good.
    let due_at = Utc::now() + TimeDelta::minutes(5);
    let ahead = Backup { clock: in_an_hour, ..site.backup.clone() };
    assert_eq!(ahead.run(&Which::All { accept_missing: false }).await.unwrap().class, None);
    let report = shift(site.backup.clone(), due_at).run().await;
    assert_eq!(report.count(NightOutcome::Current), 1, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_of_a_cluster_out_of_reach_fail_by_name_and_the_others_are_done() {
    let site = Site::new().await;
    ["a", "b"].iter().for_each(|tenant| _ = site.database(tenant));
    assert_eq!(site.all().await.class, None);
    let due_at = Utc::now();
    let environment = tenure::postgres::LibpqEnvironment { home: None, user: "nobody".to_owned(), variables: BTreeMap::new() };
    let mut away = site.backup.clone();
    // The same name, and nobody answers there.
    away.clusters[0].target = tenure::postgres::Target::parse("host=127.0.0.1 port=1 user=postgres", &environment).unwrap();
    let report = NightShift { retries: 1, ..shift(away, due_at) }.run().await;
    assert_eq!(report.class, Some(FailureClass::Failed), "{report:?}");
    assert_eq!(report.count(NightOutcome::Failed), 2, "{report:?}");
    assert!(report.stood.values().all(|stood| stood.newest.is_some() && stood.reason.is_some()), "{report:?}");
    // It is back: the same slot is gone on with.
    let report = shift(site.backup.clone(), due_at).run().await;
    assert_eq!((report.class, report.count(NightOutcome::Done)), (None, 2), "{report:?}");
    let _ = shared();
}
