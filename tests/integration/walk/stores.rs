//! Every store call.

use std::{collections::BTreeSet, sync::Arc};

use tenure::{
    operation::admit::{self, Admit},
    store::{
        StoreErrorKind,
        fault::{Fault, FaultStore, Operation},
    },
};

use super::*;
use crate::{
    harness::postgres::{Options, shared, unique},
    restore::{copy, latest},
};

/// A call, and which of its kind it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    place: &'static str,
    operation: Operation,
    shape: String,
    nth: usize,
}

/// The name without what is random or a time in it.
pub(super) fn shape(name: &str) -> String {
    let segment = |segment: &str| {
        let (stem, rest) = segment.split_at(segment.find('.').unwrap_or(segment.len()));
        if stem.len() >= 16 { format!("*{rest}") } else { segment.to_owned() }
    };
    name.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// Vault and keyring through stores that fail when told to.
struct Faulty {
    stores: [(&'static str, Arc<FaultStore>); 2],
}

impl Faulty {
    async fn new(site: &Site) -> Self {
        let store = async |place| (place, Arc::new(FaultStore::new(directory(site, place).await)));
        Self { stores: [store("vault").await, store("keyring").await] }
    }

    async fn open(&self, site: &Site) -> Result<Backup, Failure> {
        through(site, self.stores[0].1.clone(), self.stores[1].1.clone()).await
    }

    fn calls(&self) -> Vec<Call> {
        let mut calls = Vec::new();
        for (place, store) in &self.stores {
            for (operation, name) in store.log() {
                let shape = shape(&name);
                let nth = 1 + calls
                    .iter()
                    .filter(|call: &&Call| (call.operation, &call.shape) == (operation, &shape) && call.place == *place)
                    .count();
                calls.push(Call { place, operation, shape, nth });
            }
        }
        calls
    }

    fn fail(&self, call: &Call, fault: Fault) {
        let (operation, wanted) = (call.operation, call.shape.clone());
        let store = self.stores.iter().find(|(place, _)| *place == call.place).unwrap();
        store.1.fail_where(move |called, name| called == operation && shape(name) == wanted, call.nth, fault);
    }
}

/// 503, 500 and no connection are one to those above a store; so are an answer that is cut and one that never came.
fn faults(operation: Operation) -> &'static [Fault] {
    use Fault::{Lost, Refused};
    use StoreErrorKind::{Denied, Full, Unavailable};
    match operation {
        Operation::Put => &[Refused(Unavailable), Refused(Denied), Refused(Full), Lost],
        Operation::List => &[Refused(Unavailable), Refused(Denied), Lost],
        _ => &[Refused(Unavailable), Refused(Denied)],
    }
}

/// Which calls fail, and how: all, or of each kind the first in all ways, and the last write of each kind.
fn cases(calls: &[Call]) -> Vec<(Call, Fault)> {
    let is_last = |call: &Call| !calls.contains(&Call { nth: call.nth + 1, ..call.clone() });
    let mut cases = Vec::new();
    for call in calls {
        let faults = match faults(call.operation) {
            all if every() || call.nth == 1 => all,
            [first, .., last] if call.operation == Operation::Put && is_last(call) => &[*first, *last][..],
            _ => &[],
        };
        cases.extend(faults.iter().map(|fault| (call.clone(), *fault)));
    }
    cases
}

/// Whether a run may go on: credentials that may write and not read cannot read back what they wrote.
fn is_read_back(calls: &[Call], call: &Call, fault: Fault) -> bool {
    let written = calls.iter().position(|other| {
        other.operation == Operation::Put && (other.place, &other.shape, other.nth) == (call.place, &call.shape, 1)
    });
    let read = calls.iter().position(|other| other == call);
    call.operation == Operation::Get && fault == Fault::Refused(StoreErrorKind::Denied) && written.is_some() && written < read
}

fn manifests(content: &Content) -> usize {
    content.keys().filter(|name| name.contains("/b/") && name.ends_with(".json")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_backup() {
    let site = Site::new().await;
    let database = site.database("acme");
    shared().sql(&database, ROWS);
    let mut walked = 0;
    for night in ["first", "second"] {
        let before = content(site.folder());
        let clean = Faulty::new(&site).await;
        outcome(&back_up(clean.open(&site).await.unwrap()).await.unwrap()).unwrap();
        for (call, fault) in cases(&clean.calls()) {
            let case = format!("{night} night, {call:?}, {fault:?}");
            set(site.folder(), &before);
            let faulty = Faulty::new(&site).await;
            faulty.fail(&call, fault);
            let ended = async { back_up(faulty.open(&site).await?).await }.await;
            let calls = faulty.calls();
            if !calls.contains(&call) {
                // On a busy machine two readers meet otherwise, and one write more or less is made. The first of a kind always is.
                assert!(call.nth > 1, "{case}: it was not made");
                continue;
            }
            walked += 1;
            if ended.is_ok_and(|report| report.class.is_none()) {
                // A key whose secret half may or may not be there is thrown away, and another one made.
                let another_key = call.operation == Operation::Put && call.shape.starts_with("k/");
                assert!(another_key || is_read_back(&calls, &call, fault), "{case}: it went on");
                assert_eq!(manifests(&content(site.folder())), manifests(&before) + 1, "{case}");
            }
            // A run that changed nothing leaves the next one as it was.
            if !whole(&site, &before, &case).await {
                outcome(&site.all().await).unwrap_or_else(|said| panic!("{case}: next: {said}"));
                let verified = site.verify(true).await;
                assert!(verified.problems.is_empty(), "{case}: {:?}", verified.problems);
            }
        }
        set(site.folder(), &before);
        outcome(&site.all().await).unwrap();
        shared().sql(&database, "UPDATE customer SET name = name || 'x' WHERE id = 7");
    }
    walked_through(walked, "store calls of two backups");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_verify() {
    let site = Site::new().await;
    let database = site.database("acme");
    shared().sql(&database, ROWS);
    outcome(&site.all().await).unwrap();
    shared().sql(&database, "UPDATE customer SET name = name || 'x' WHERE id = 7");
    outcome(&site.all().await).unwrap();
    let before = content(site.folder());
    let clean = Faulty::new(&site).await;
    assert!(verify(&site, &clean.open(&site).await.unwrap()).await.unwrap().problems.is_empty());
    let mut walked = 0;
    for (call, fault) in cases(&clean.calls()) {
        let case = format!("{call:?}, {fault:?}");
        let faulty = Faulty::new(&site).await;
        faulty.fail(&call, fault);
        let ended = async { verify(&site, &faulty.open(&site).await?).await }.await;
        assert!(faulty.calls().contains(&call), "{case}: it was not made");
        walked += 1;
        if let Ok(report) = ended {
            // What these credentials may not list was not looked at, which is said.
            let is_said = call.operation == Operation::List && fault == Fault::Refused(StoreErrorKind::Denied);
            assert!(!report.problems.is_empty() || is_said && !report.not_looked_at.is_empty(), "{case}: {report:?}");
        }
        // A store that does not answer is no damage: nothing is written down.
        assert!(content(site.folder()) == before, "{case}");
    }
    walked_through(walked, "store calls of a verify");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_restore() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    let database = site.database("acme");
    server.sql(&database, ROWS);
    outcome(&site.all().await).unwrap();
    let mut before = content(site.folder());
    let replace = Request { replace: true, ..latest("acme") };
    let (mut walked, mut kinds) = (0, BTreeSet::new());
    for request in [copy("acme", &unique("walked")), replace] {
        let run = async |faulty: &Faulty| restore(&site, &faulty.open(&site).await?, &request).await;
        let clean = Faulty::new(&site).await;
        tidy(&site, &run(&clean).await.unwrap());
        if request.replace {
            before = content(site.folder());
        }
        let live = live(&site);
        for (call, fault) in cases(&clean.calls()) {
            let case = format!("replace {}, {call:?}, {fault:?}", request.replace);
            // The second restore has only a few calls of its own.
            if !kinds.insert((request.replace && every(), call.clone(), format!("{fault:?}"))) {
                continue;
            }
            set(site.folder(), &before);
            let faulty = Faulty::new(&site).await;
            faulty.fail(&call, fault);
            let ended = run(&faulty).await;
            let calls = faulty.calls();
            assert!(calls.contains(&call), "{case}: it was not made");
            walked += 1;
            match &ended {
                Ok(report) => {
                    // What cannot be written down of a restore is said, and it goes on.
                    let is_record = call.shape.starts_with("runs/");
                    assert!(is_record || is_read_back(&calls, &call, fault), "{case}: it went on");
                    tidy(&site, report);
                }
                Err(failure) if failure.kind == "source-not-recorded" => {
                    // It is in its place, and the one before is named.
                    let aside = left(server);
                    assert!(failure.hint.contains(&aside), "{case}: {aside} is not named: {failure:?}");
                    server.sql("postgres", &format!("DROP DATABASE {}", quoted(&aside)));
                    let Backup { vault, keyring, clusters, signer, .. } = &site.backup;
                    let which = admit::Which::Named(vec!["acme".parse().unwrap()]);
                    Admit { vault, keyring, clusters, signer, approvals: 0 }.run(&which, Utc::now()).await.unwrap();
                }
                Err(_) => {}
            }
            assert_eq!(left(server), "", "{case}");
            assert_eq!(super::live(&site), live, "{case}");
            if !whole(&site, &before, &case).await {
                let next = run(&Faulty::new(&site).await).await;
                tidy(&site, &next.unwrap_or_else(|failure| panic!("{case}: next: {failure:?}")));
            }
            if request.replace {
                before = content(site.folder());
            }
        }
    }
    walked_through(walked, "store calls of two restores");
}
