//! Every statement.

use std::collections::BTreeMap;

use tenure::postgres::{LibpqEnvironment, Target};

use super::*;
use crate::{
    harness::{
        postgres::{Options, unique},
        session_proxy::{Break, SessionProxy},
    },
    restore::{copy, latest},
};

/// The site through the proxy.
fn through_proxy(site: &Site, proxy: &SessionProxy) -> Backup {
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
        let of_child = statement.starts_with("tenure: ");
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

/// A server that says nothing any more: a backup's time limit ends it.
#[tokio::test(flavor = "multi_thread")]
async fn that_are_never_answered() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    server.sql(&site.database("acme"), ROWS);
    let proxy = SessionProxy::start(server);
    let before = content(site.folder());
    outcome(&back_up(through_proxy(&site, &proxy)).await.unwrap()).unwrap();
    let statements = proxy.statements();
    let within_snapshot = statements.iter().filter(|statement| statement.contains("LOCK TABLE") || statement.contains("COPY"));
    let mut walked = 0;
    for statement in within_snapshot.collect::<std::collections::BTreeSet<_>>().into_iter().take(if every() { 99 } else { 3 }) {
        set(site.folder(), &before);
        proxy.plan(statement, 1, Break::Silence);
        let backup = Backup { max_snapshot_age: std::time::Duration::from_millis(700), ..through_proxy(&site, &proxy) };
        let report = back_up(backup).await.unwrap();
        assert!(report.class.is_some(), "{statement}");
        walked += usize::from(!proxy.reset());
        whole(&site, &before, statement).await;
        outcome(&site.all().await).unwrap();
    }
    walked_through(walked, "statements of a backup that were never answered");
}
