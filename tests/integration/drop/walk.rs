//! Every statement and every call of a store of a drop fails, or is the last one: after each the next run finishes, and until the last look
//! at the holds nothing is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::Utc;
use tenure::{
    format::plan::Step,
    operation::{
        drop::{DropReport, DropStatus, DropTenant, Server},
        failure::Failure,
        held::FleetLocks,
        progress::Silent,
    },
    postgres::{LibpqEnvironment, Target},
    signature::AllowedSigners,
    store::{
        Store, StoreErrorKind,
        directory::DirectoryStore,
        fault::{Fault, FaultStore, Operation},
    },
    tenant::TenantName,
    vault::Vault,
};
use tokio_util::sync::CancellationToken;

use crate::harness::{
    postgres::{Cluster, Options},
    session_proxy::{Break, SessionProxy},
    site::Site,
};

/// A site with so many tenants, each backed up once.
pub async fn fleet(tenants: usize) -> Site {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    for nth in 0..tenants {
        server.sql(&site.database(&name(nth)), "CREATE TABLE t AS SELECT 1 AS n");
    }
    assert_eq!(site.all().await.class, None);
    site
}

pub fn name(nth: usize) -> String {
    format!("w{nth}")
}

/// Drops a tenant's database through a vault and a description of its server.
async fn drop_through(site: &Site, vault: &Vault, description: &str, tenant: &str) -> Result<DropReport, Failure> {
    let environment = LibpqEnvironment { home: None, user: "nobody".to_owned(), variables: BTreeMap::new() };
    let target = Target::parse(description, &environment).unwrap();
    let mut clusters = site.backup.clusters.clone();
    clusters[0].target = target.clone();
    let server = Server { name: "eu-1".to_owned(), admin: target, replicas: Vec::new(), replica_wait: Duration::from_secs(30) };
    let drop = DropTenant {
        vault,
        keyring: &site.backup.keyring,
        clusters: &clusters,
        servers: &[server],
        locks: &FleetLocks { clusters: &clusters, installation: vault.root().installation },
        operator: &site.backup.signer,
        eraser: &site.backup.signer,
        approvals: 0,
        within_erasure: false,
        clear: Default::default(),
        accept: Vec::new(),
        clock: &Utc::now,
        progress: &Silent,
        cancel: &CancellationToken::new(),
        known: Default::default(),
    };
    let tenant: TenantName = tenant.parse().unwrap();
    match drop.look(&tenant).await? {
        Some(intent) => drop.carry_out(&tenant, &intent).await,
        None => Ok(DropTenant::nothing(&tenant)),
    }
}

/// Databases of tenants, those that let nobody in with a mark.
fn databases(site: &Site) -> Vec<String> {
    let sql = format!(
        "SELECT datname || CASE WHEN datallowconn THEN '' ELSE ' closed' END FROM pg_database WHERE starts_with(datname, '{}') ORDER BY 1",
        site.name("w")
    );
    site.cluster.sql("postgres", &sql).lines().map(str::to_owned).collect()
}

/// Whether any open plan has come to the step after which things are lost.
async fn is_destroying(site: &Site, tenant: &str) -> bool {
    let tag = site.backup.keyring.tag(&tenant.parse().unwrap());
    let plans = site.backup.vault.plans(tag, |_| true).await.unwrap();
    plans.iter().any(|planned| planned.steps.contains(&Step::Destroying))
}

/// After a run that went wrong: nothing is lost too early, and the next run finishes.
async fn finish(site: &Site, tenant: &str, before: &[String], place: &str) {
    let its = site.name(tenant);
    let now = databases(site);
    let is_there = now.iter().any(|name| name.trim_end_matches(" closed") == its);
    assert!(is_there || is_destroying(site, tenant).await, "{place}: it is gone before anybody had the last word");
    let mut last = None;
    for _ in 0..3 {
        let report = drop_through(site, &site.backup.vault, &site.cluster.description(), tenant).await;
        let report = report.unwrap_or_else(|error| panic!("{place}: then {error:?}"));
        let closed = report.status == DropStatus::Closed;
        last = Some(report);
        if closed {
            break;
        }
    }
    assert_eq!(last.as_ref().map(|last| last.status), Some(DropStatus::Closed), "{place}: {last:?}");
    let wanted: Vec<String> = before.iter().filter(|name| **name != its).cloned().collect();
    assert_eq!(databases(site), wanted, "{place}: its neighbours are as they were");
    let tag = site.backup.keyring.tag(&tenant.parse().unwrap());
    let open = site.backup.vault.plans(tag, |steps| !steps.contains(&Step::Closed)).await.unwrap();
    assert!(open.is_empty(), "{place}: {open:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr, reason = "what a walk says it walked")]
async fn every_statement_breaks() {
    let all = std::env::var_os("TENURE_TEST_WALK").is_some();
    let site = fleet(if all { 160 } else { 70 }).await;
    let proxy = SessionProxy::start(site.cluster);
    let mut next = 0;
    let report = drop_through(&site, &site.backup.vault, &proxy.description(), &name(next)).await.unwrap();
    assert_eq!(report.status, DropStatus::Closed, "{report:?}");
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for statement in proxy.statements() {
        *kinds.entry(statement).or_default() += 1;
    }
    let ways = [Break::Before, Break::Within, Break::After];
    let mut cases = Vec::new();
    for (nth, (statement, count)) in kinds.iter().enumerate() {
        for time in BTreeSet::from([1, *count]) {
            for (way, how) in ways.into_iter().enumerate() {
                if all || (way + nth + time) % 3 == 0 {
                    cases.push((statement.clone(), time, how));
                }
            }
        }
    }
    let mut walked = 0;
    for (statement, time, how) in cases {
        next += 1;
        let (tenant, place) = (name(next), format!("{time}. {statement}, {how:?}"));
        let before = databases(&site);
        proxy.plan(&statement, time, how);
        let ended = drop_through(&site, &site.backup.vault, &proxy.description(), &tenant).await;
        walked += usize::from(!proxy.reset());
        let place = format!(
            "{place}: {:?}",
            ended.as_ref().map(|report| report.status).map_err(|failure| (&failure.message, &failure.hint))
        );
        let now = databases(&site);
        let closed = format!("{} closed", site.name(&tenant));
        if now.contains(&closed) && !is_destroying(&site, &tenant).await {
            let hint = ended.as_ref().err().map(|failure| failure.hint.clone()).unwrap_or_default();
            assert!(hint.contains("tenure drop"), "{place}: it is closed, and nobody says so");
        }
        finish(&site, &tenant, &before, &place).await;
    }
    eprintln!("walk: {walked} statements of a drop broke");
    assert!(walked >= 20);
}

/// How a call of the store goes wrong.
#[derive(Debug, Clone, Copy)]
enum How {
    Fails(Fault),
    /// The process is gone, in the middle of the call.
    IsTheLast,
}

const WAYS: [How; 4] = [
    How::Fails(Fault::Refused(StoreErrorKind::Unavailable)),
    How::Fails(Fault::Refused(StoreErrorKind::Denied)),
    How::Fails(Fault::Lost),
    How::IsTheLast,
];

/// A drop of which the `nth` call about this tenant goes wrong; gives its end, where it had one, and how many such calls there were.
async fn drop_with(site: &Site, tenant: &str, fault: Option<(usize, How)>) -> (Option<Result<DropReport, Failure>>, usize) {
    let (calls, dead, begun) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let locker = site.backup.keyring.keys(&tenant.parse().unwrap()).await.unwrap().unwrap().lockers()[0].to_string();
    let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(&site.folder().join("vault")).await.unwrap());
    let store = FaultStore::new(store);
    let kind = match fault {
        Some((_, How::Fails(fault))) => fault,
        _ => Fault::Refused(StoreErrorKind::Unavailable),
    };
    let due = {
        let (calls, dead, begun) = (calls.clone(), dead.clone(), begun.clone());
        move |_, object: &str| {
            let about = object.contains(&locker) || object.starts_with("plans") || object.starts_with("runs");
            if !about || !begun.load(Ordering::SeqCst) {
                return false;
            }
            let call = calls.fetch_add(1, Ordering::SeqCst);
            match fault {
                Some((nth, How::IsTheLast)) if call >= nth => {
                    dead.cancel();
                    false
                }
                Some((nth, How::Fails(_))) => call == nth,
                _ => false,
            }
        }
    };
    store.fail_where(due, 1, kind);
    let trust = AllowedSigners::parse(&site.signers).unwrap();
    let vault = Vault::open(Arc::new(store), &trust).await.unwrap();
    begun.store(true, Ordering::SeqCst);
    let description = site.cluster.description();
    let ended = tokio::select! {
        biased;
        () = dead.cancelled() => None,
        ended = drop_through(site, &vault, &description, tenant) => Some(ended),
    };
    (ended, calls.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stderr, reason = "what a walk says it walked")]
async fn every_call_fails_or_is_the_last() {
    let all = std::env::var_os("TENURE_TEST_WALK").is_some();
    let tenants = if all { 500 } else { 60 };
    let site = fleet(tenants).await;
    // The plans of earlier cases are read as well.
    let (ended, calls) = drop_with(&site, &name(0), None).await;
    assert_eq!(ended.unwrap().unwrap().status, DropStatus::Closed);
    assert!(calls > 20, "{calls} calls");
    let (mut next, mut walked) = (0, 0);
    let stride = if all { 1 } else { calls.div_ceil(tenants - 1) };
    for (round, nth) in (0..calls).step_by(stride).enumerate() {
        for (way, how) in WAYS.into_iter().enumerate() {
            if !all && (round + way) % 4 != 0 {
                continue;
            }
            next += 1;
            let tenant = name(next);
            let before = databases(&site);
            let (ended, _) = drop_with(&site, &tenant, Some((nth, how))).await;
            finish(&site, &tenant, &before, &format!("call {nth} of {calls}, {how:?}: {ended:?}")).await;
            walked += 1;
        }
    }
    eprintln!("walk: {walked} runs of a drop failed or ended, one call at a time, of {calls}");
    assert!(walked >= 20);
}

/// A step of which only the signature was written: the next run's has another name, and the plan comes to its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_signature_without_its_step_is_no_end() {
    let steps = [Step::Closing, Step::Destroying, Step::Dropped, Step::Closed];
    let site = fleet(steps.len()).await;
    for (nth, step) in steps.into_iter().enumerate() {
        let (tenant, before) = (name(nth), databases(&site));
        let store = FaultStore::new(Arc::new(DirectoryStore::open(&site.folder().join("vault")).await.unwrap()));
        let mark = format!("/{}", step.file());
        store.fail_where(
            move |operation, object: &str| operation == Operation::Put && object.ends_with(&mark),
            1,
            Fault::Refused(StoreErrorKind::Denied),
        );
        let vault = Vault::open(Arc::new(store), &AllowedSigners::parse(&site.signers).unwrap()).await.unwrap();
        let ended = drop_through(&site, &vault, &site.cluster.description(), &tenant).await;
        assert!(ended.is_err(), "{step:?}: {ended:?}");
        finish(&site, &tenant, &before, &format!("{step:?}")).await;
    }
}

/// A hold that comes after the first look, and before the last: the database is open again, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_hold_in_the_last_moment_gives_it_back() {
    let site = super::Site::new(&Options::default(), &["acme", "acme_2"]);
    let proxy = SessionProxy::start(&site.cluster);
    let line = format!("primary = \"{}\"", site.cluster.description());
    site.configure(&line, &format!("{line}\nadmin = \"{}\"", proxy.description()));
    let seen = {
        let site = super::Site::new(&Options::default(), &["acme"]);
        let proxy = SessionProxy::start(&site.cluster);
        let line = format!("primary = \"{}\"", site.cluster.description());
        site.configure(&line, &format!("{line}\nadmin = \"{}\"", proxy.description()));
        tokio::task::block_in_place(|| assert_eq!(site.run_drop("acme", &[]).0, 0));
        proxy.statements()
    };
    let ends = seen.iter().find(|statement| statement.contains("pg_terminate_backend")).unwrap();
    let stopped = proxy.stop_before(ends, 1);
    let site = Arc::new(site);
    let dropping = tokio::task::spawn_blocking({
        let site = site.clone();
        move || site.run_drop("acme", &[])
    });
    stopped.reached().await;
    assert_eq!(site.state("acme"), Some(false), "nobody comes in any more");
    tokio::task::block_in_place(|| site.program.done(&["hold", "acme", "--reason", "a court"]));
    stopped.go_on();
    let (code, document) = dropping.await.unwrap();
    assert_eq!((code, &document["error"]["kind"]), (4, &"on-hold".into()), "{document:#}");
    assert!(document["error"]["hint"].as_str().unwrap().contains("The plan is given up"), "{document:#}");
    assert_eq!(
        (site.state("acme"), site.acts()),
        (Some(true), vec!["refused".to_owned()]),
        "it was refused, and that is written down"
    );
    tokio::task::block_in_place(|| {
        site.program.done(&["release", "acme"]);
        assert_eq!((site.run_drop("acme", &[]).0, site.state("acme"), site.state("acme_2")), (0, None, Some(true)));
    });
}

/// The program, killed at any moment while it works, and run again until it is through.
#[test]
#[allow(clippy::print_stderr, reason = "what a walk says it walked")]
fn the_program_is_killed_and_finishes_the_next_time() {
    let waits = [40, 80, 120, 160, 200, 250, 300, 400];
    let tenants: Vec<String> = (0..waits.len()).map(|nth| format!("k{nth}")).collect();
    let site = super::Site::new(&Options::default(), &tenants.iter().map(String::as_str).collect::<Vec<_>>());
    let mut killed = 0;
    for (tenant, wait) in tenants.iter().zip(waits) {
        let mut child = site.program.command(&["drop", tenant, "--confirm", tenant]);
        let mut child = child.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(wait));
        child.kill().unwrap();
        killed += usize::from(child.wait().unwrap().code().is_none());
        let (code, document) = site.run_drop(tenant, &[]);
        assert_eq!((code, &document["status"], site.state(tenant)), (0, &"closed".into(), None), "{document:#}");
    }
    eprintln!("walk: {killed} of {} programs were killed in the middle", waits.len());
}
