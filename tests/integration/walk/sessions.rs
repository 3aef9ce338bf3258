//! Every statement.

use std::{collections::BTreeMap, sync::Arc};

use tenure::postgres::{LibpqEnvironment, Target, silence::Patience, statement::Failed as _};

use super::*;
use crate::{
    harness::{
        postgres::{Options, eventually, unique},
        session_proxy::{Break, SessionProxy},
    },
    restore::{copy, latest},
};

/// The site through the proxy.
pub(crate) fn through_proxy(site: &Site, proxy: &SessionProxy) -> Backup {
    let environment = LibpqEnvironment { home: None, user: "nobody".into(), variables: BTreeMap::new() };
    let mut backup = site.backup.clone();
    backup.clusters[0].target = Target::parse(&proxy.description(), &environment).unwrap();
    backup
}

/// Which statements, the how manieth of their kind, and how: each in one way, the ways in turn; of those that `pg_dump` and `pg_restore`
/// send every sixteenth. Or all in all ways.
fn cases(statements: &[String]) -> Vec<(String, usize, Break)> {
    let ways = [Break::Before, Break::Within, Break::After];
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut cases = Vec::new();
    for statement in statements {
        let kinds = seen.len();
        let nth = seen.entry(statement).and_modify(|nth| *nth += 1).or_insert(1);
        if *nth > 1 {
            continue;
        }
        let of_child = is_of_child(statement);
        match every() {
            true => cases.extend(ways.map(|how| (statement.clone(), *nth, how))),
            false if of_child && !kinds.is_multiple_of(16) => {}
            false => cases.push((statement.clone(), *nth, ways[kinds % 3])),
        }
    }
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_backup() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    server.sql(&site.database("acme"), ROWS);
    let proxy = SessionProxy::start(server);
    let before = content(site.folder());
    outcome(&back_up(through_proxy(&site, &proxy)).await.unwrap()).unwrap();
    let statements = proxy.statements();
    set(site.folder(), &before);
    let mut walked = 0;
    for (statement, nth, how) in cases(&statements) {
        let case = format!("{nth}. {statement}, {how:?}");
        proxy.plan(&statement, nth, how);
        let ended = back_up(through_proxy(&site, &proxy)).await;
        // Readers do not meet in the same way every time.
        if !proxy.reset() {
            walked += 1;
            // Committed, and the lock's session ends by itself.
            let may_go_on = statement.contains("pg_advisory_unlock");
            assert!(may_go_on || !ended.is_ok_and(|report| report.class.is_none()), "{case}: it went on");
        }
        if !whole(&site, &before, &case).await {
            outcome(&site.all().await).unwrap_or_else(|said| panic!("{case}: next: {said}"));
            set(site.folder(), &before);
        }
    }
    walked_through(walked, "statements of a backup");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_restore() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    server.sql(&site.database("acme"), ROWS);
    outcome(&site.all().await).unwrap();
    let proxy = SessionProxy::start(server);
    let mut walked = 0;
    for request in [copy("acme", &unique("walked")), Request { replace: true, ..latest("acme") }] {
        let run = async || restore(&site, &through_proxy(&site, &proxy), &request).await;
        proxy.reset();
        tidy(&site, &run().await.unwrap());
        let live = live(&site);
        let mut cases = cases(&proxy.statements());
        if request.replace && !every() {
            // All else is as in the first, and how a swap breaks matters in every way.
            cases.retain(|(statement, ..)| statement.contains("ALTER DATABASE \"b_#"));
            let ways = [Break::Before, Break::Within, Break::After];
            cases = cases.iter().flat_map(|(statement, nth, _)| ways.map(|how| (statement.clone(), *nth, how))).collect();
        }
        for (statement, nth, how) in cases {
            let case = format!("replace {}, {nth}. {statement}, {how:?}", request.replace);
            let before = content(site.folder());
            proxy.plan(&statement, nth, how);
            let ended = run().await;
            let made = !proxy.reset();
            walked += usize::from(made);
            let said = match &ended {
                Ok(report) => {
                    // The loader has another way in; another session saw that the name is given; the rest comes after that.
                    let may_go_on = ["(loader): connect", "RENAME", "ALLOW_CONNECTIONS", "rolname", "DROP ROLE"];
                    assert!(!made || may_go_on.iter().any(|part| statement.contains(part)), "{case}: it went on");
                    tidy(&site, report);
                    report.notes.join(" ")
                }
                Err(failure) => failure.hint.clone(),
            };
            for name in left(server).lines() {
                assert!(said.contains(name), "{case}: {name} is not named: {said}");
                let kind = if name.starts_with("tenure_loader") { "ROLE" } else { "DATABASE" };
                server.sql("postgres", &format!("DROP {kind} {}", quoted(name)));
            }
            assert_eq!(super::live(&site), live, "{case}");
            if !whole(&site, &before, &case).await && (every() || walked.is_multiple_of(8)) {
                tidy(&site, &run().await.unwrap_or_else(|failure| panic!("{case}: next: {failure:?}")));
            }
        }
    }
    walked_through(walked, "statements of two restores");
}

/// Whether `pg_dump` or `pg_restore` sent it.
fn is_of_child(statement: &str) -> bool {
    statement.starts_with("tenure *: ")
}

/// So impatient that a test is short, and patient enough for a busy machine.
const IMPATIENT: Patience = Patience { silence: Duration::from_millis(500), longest: Duration::from_secs(30) };

/// The site through the proxy, with little patience.
fn impatient(site: &Site, proxy: &SessionProxy) -> Backup {
    let mut backup = through_proxy(site, proxy);
    let target = &mut backup.clusters[0].target;
    *target = target.clone().with_patience(IMPATIENT);
    backup
}

/// Of the statements of each kind the first, in both ways; or some of them, each in one way.
fn swallowed(statements: &[String], some: usize) -> Vec<(String, Break)> {
    let mut seen = std::collections::BTreeSet::new();
    let kinds: Vec<&String> = statements.iter().filter(|statement| seen.insert(*statement)).collect();
    let ways = [Break::Silence, Break::Deaf];
    if every() {
        return kinds.iter().flat_map(|kind| ways.map(|way| ((*kind).clone(), way))).collect();
    }
    let step = (kinds.len() / some).max(1);
    kinds.iter().step_by(step).zip(ways.into_iter().cycle()).map(|(kind, way)| ((*kind).clone(), way)).collect()
}

/// A server that says nothing any more, wherever in a backup, ends it within the time that silence is borne.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_backup_that_are_never_answered() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    server.sql(&site.database("acme"), ROWS);
    let proxy = SessionProxy::start(server);
    let before = content(site.folder());
    outcome(&back_up(through_proxy(&site, &proxy)).await.unwrap()).unwrap();
    let statements = proxy.statements();
    set(site.folder(), &before);
    let mut walked = 0;
    for (statement, way) in swallowed(&statements, 10) {
        let case = format!("{statement}, {way:?}");
        proxy.plan(&statement, 1, way);
        let ended =
            tokio::time::timeout(PATIENT, back_up(impatient(&site, &proxy))).await.unwrap_or_else(|_| panic!("{case}: it hangs"));
        if !proxy.reset() {
            walked += 1;
            // The backup is there by then.
            let may_go_on = statement.contains("pg_advisory_unlock");
            assert!(may_go_on || !ended.is_ok_and(|report| report.class.is_none()), "{case}: it went on");
        }
        if !whole(&site, &before, &case).await {
            outcome(&site.all().await).unwrap_or_else(|said| panic!("{case}: next: {said}"));
            set(site.folder(), &before);
        }
    }
    walked_through(walked, "statements of a backup that were never answered");
}

/// The same in a restore.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_restore_that_are_never_answered() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    server.sql(&site.database("acme"), ROWS);
    outcome(&site.all().await).unwrap();
    let live = live(&site);
    let proxy = SessionProxy::start(server);
    let request = copy("acme", &unique("walked"));
    tidy(&site, &restore(&site, &through_proxy(&site, &proxy), &request).await.unwrap());
    let mut walked = 0;
    for (statement, way) in swallowed(&proxy.statements(), 12) {
        let case = format!("{statement}, {way:?}");
        proxy.plan(&statement, 1, way);
        let backup = impatient(&site, &proxy);
        let ended =
            tokio::time::timeout(PATIENT, restore(&site, &backup, &request)).await.unwrap_or_else(|_| panic!("{case}: it hangs"));
        let made = !proxy.reset();
        walked += usize::from(made);
        let said = match &ended {
            Ok(report) => {
                // The loader has another way in; what comes after the name is given is seen to by another session, or said.
                let may_go_on = ["(loader): connect", "RENAME", "ALLOW_CONNECTIONS", "rolname", "DROP ROLE"];
                assert!(!made || may_go_on.iter().any(|part| statement.contains(part)), "{case}: it went on");
                tidy(&site, report);
                report.notes.join(" ")
            }
            Err(failure) => failure.hint.clone(),
        };
        name_and_remove(server, &said, &case);
        assert_eq!(super::live(&site), live, "{case}");
    }
    tidy(&site, &restore(&site, &site.backup, &request).await.unwrap());
    walked_through(walked, "statements of a restore that were never answered");
}

/// What a restore left is named in what it said; then it is removed.
fn name_and_remove(server: &Cluster, said: &str, case: &str) {
    for name in left(server).lines() {
        assert!(said.contains(name), "{case}: {name} is not named: {said}");
        let kind = if name.starts_with("tenure_loader") || name.starts_with("tenure_filler") { "ROLE" } else { "DATABASE" };
        server.sql("postgres", &format!("DROP {kind} {}", quoted(name)));
    }
}

/// Does something when a stage begins.
struct At<F> {
    stage: &'static str,
    act: F,
}

impl<F: Fn() + Send + Sync> tenure::operation::progress::Progress for At<F> {
    fn tenant_started(&self, _: &tenure::tenant::TenantName, _: u64) {}
    fn advanced(&self, _: &tenure::tenant::TenantName, _: u64) {}
    fn tenant_finished(&self, _: &tenure::tenant::TenantName, _: &str) {}

    fn stage(&self, _: &tenure::tenant::TenantName, stage: &'static str) {
        if stage == self.stage {
            (self.act)();
        }
    }
}

fn signal(processes: &[i32], signal: rustix::process::Signal) {
    for process in processes {
        rustix::process::kill_process(rustix::process::Pid::from_raw(*process).unwrap(), signal).ok();
    }
}

/// The server's host stands still, its network does not: connections stay, and nothing answers on any. Then it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_server_that_stands_still() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    server.sql(&site.database("acme"), ROWS);
    outcome(&site.all().await).unwrap();
    let live = live(&site);
    let target = |patience| {
        let mut backup = site.backup.clone();
        let environment = LibpqEnvironment { home: None, user: "nobody".into(), variables: BTreeMap::new() };
        let description = format!("{} connect_timeout=2", server.description());
        backup.clusters[0].target = Target::parse(&description, &environment).unwrap().with_patience(patience);
        backup
    };
    for stage in ["loading", "indexes", "proving"] {
        let postmaster = std::fs::read_to_string(server.data().join("postmaster.pid")).unwrap();
        let stopped = Arc::new(std::sync::Mutex::new(vec![postmaster.lines().next().unwrap().parse::<i32>().unwrap()]));
        let stopping = stopped.clone();
        let at = At {
            stage,
            act: move || {
                let others = server.sql("postgres", "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()");
                let mut stopped = stopping.lock().unwrap();
                stopped.extend(others.lines().map(|pid| pid.parse::<i32>().unwrap()));
                signal(&stopped, rustix::process::Signal::STOP);
            },
        };
        let request = copy("acme", &unique("still"));
        let ended = tokio::time::timeout(PATIENT, restore_telling(&site, &target(IMPATIENT), &request, &at)).await;
        signal(&stopped.lock().unwrap(), rustix::process::Signal::CONT);
        let failure =
            ended.unwrap_or_else(|_| panic!("{stage}: it hangs")).err().unwrap_or_else(|| panic!("{stage}: it went on"));
        eventually("the server has noticed", || {
            let busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^(tenure|pg_restore)'";
            server.sql("postgres", busy).trim() == "0"
        });
        assert!(!left(server).is_empty() && failure.hint.contains("Left behind"), "{stage}: {failure:?}");
        name_and_remove(server, &failure.hint, stage);
        assert_eq!(super::live(&site), live, "{stage}");
    }
    tidy(&site, &restore(&site, &site.backup, &copy("acme", &unique("still"))).await.unwrap());
}

/// A statement that is at work is waited for, however long it says nothing; but not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn that_take_long_are_waited_for() {
    let server = crate::harness::postgres::shared();
    let environment = LibpqEnvironment { home: None, user: "nobody".into(), variables: BTreeMap::new() };
    let target = Target::parse(&server.description(), &environment).unwrap();
    let silence = Duration::from_millis(50);
    let patient = target.clone().with_patience(Patience { silence, ..Patience::default() });
    let session = patient.connect("postgres", "tenure sleeper").await.unwrap();
    session.batch_execute("SELECT pg_sleep(2)").await.unwrap();
    assert_eq!(session.end_reason(), None);
    let impatient = target.with_patience(Patience { silence, longest: Duration::from_secs(1) });
    let session = impatient.connect("postgres", "tenure sleeper").await.unwrap();
    let ended = session.batch_execute("SELECT pg_sleep(600)").await.failed("asking", "the server").unwrap_err();
    assert!(ended.source.to_string().contains("limits.silence"), "{}", ended.source);
    let reason = session.end_reason().unwrap();
    assert!(reason.contains("at one statement for too long"), "{reason}");
    server.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tenure sleeper'");
}
