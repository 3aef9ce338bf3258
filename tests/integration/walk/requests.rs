//! Every request to an S3 server, as it goes over the line.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard},
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tenure::store::{
    PutMode, is_valid_name,
    s3::{Limits, S3Settings, S3Store},
};

use super::{stores::shape, *};
use crate::{
    harness::{
        http::{Action, Proxy, Request as Sent},
        postgres::{Options, shared, unique},
        s3::{self, S3Server as _, Seaweed},
    },
    restore::copy,
};

/// What is asked of what: `PUT vault t/*/b/*.json`.
type Kind = String;

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Status(u16),
    Refused,
    CutRequest,
    CutAnswer,
    /// It is done, and the answer is lost.
    Lost,
    /// The answer is lost, and it is done later.
    Late,
}

/// Whether the same request may get through a moment later.
fn passes(way: Way) -> bool {
    way != Way::Status(403)
}

const WAYS: [Way; 7] =
    [Way::Lost, Way::Status(500), Way::CutAnswer, Way::Status(503), Way::CutRequest, Way::Refused, Way::Status(403)];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    kind: Kind,
    nth: usize,
}

#[derive(Default)]
struct Plan {
    log: Vec<Call>,
    /// Which one fails and how, and whether all that follow do.
    fault: Option<(Call, Way, bool)>,
    met: bool,
}

impl Plan {
    fn decide(&mut self, request: &Sent) -> Action {
        let kind = kind(request);
        let nth = 1 + self.log.iter().filter(|call| call.kind == kind).count();
        self.log.push(Call { kind, nth });
        let Some((call, way, lasting)) = &self.fault else { return Action::Forward };
        let due = self.log.last() == Some(call);
        if !(due || self.met && *lasting) {
            return Action::Forward;
        }
        self.met = true;
        match way {
            Way::Status(status) => Action::Answer(*status, "", Vec::new()),
            Way::Refused => Action::Refuse,
            Way::CutRequest => Action::CutRequest,
            Way::CutAnswer => Action::CutAnswer,
            Way::Lost => Action::LoseAnswer,
            Way::Late if request.method == "PUT" => Action::Hold,
            Way::Late => Action::Refuse,
        }
    }
}

/// Paths are `/BUCKET/CASE/NAME`, and the prefix of a listing is `CASE/NAME`.
fn kind(request: &Sent) -> Kind {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let mut segments = path.trim_start_matches('/').splitn(3, '/');
    let bucket = segments.next().unwrap_or_default().split('-').next().unwrap_or_default();
    let words: Vec<&str> = query.split('&').filter(|word| !word.is_empty() && !word.starts_with("x-id=")).collect();
    let method = if words.iter().any(|word| word.starts_with("list-type")) { "LIST" } else { &request.method };
    let listed = words.iter().find_map(|word| word.strip_prefix("prefix=")).map(|prefix| prefix.replace("%2F", "/"));
    let name = match &listed {
        Some(prefix) => prefix.split_once('/').map_or("", |(_, rest)| rest).to_owned(),
        None => segments.nth(1).unwrap_or_default().to_owned(),
    };
    let asks = words.iter().filter(|word| !word.contains('=') || word.starts_with("delimiter")).copied().collect::<Vec<_>>();
    format!("{method} {bucket} {} {}", shape(&name), asks.join(" ")).trim_end().to_owned()
}

/// Vault and keyring in buckets, behind a proxy; each case under a prefix of its own.
struct Buckets {
    server: &'static Seaweed,
    names: [(&'static str, String); 2],
    proxy: Proxy,
    plan: Arc<Mutex<Plan>>,
}

impl Buckets {
    async fn new() -> Self {
        let server = s3::shared();
        let names = [("vault", server.bucket("vault").await), ("keyring", server.bucket("keyring").await)];
        let plan = Arc::new(Mutex::new(Plan::default()));
        let planned = plan.clone();
        let proxy = Proxy::start(Some(&server.endpoint), move |request, _| planned.lock().unwrap().decide(request)).await;
        Self { server, names, proxy, plan }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap()
    }

    async fn stores(&self, case: &str, endpoint: &str) -> [(&'static str, Arc<dyn Store>); 2] {
        let limits = Limits {
            answer: Duration::from_secs(20),
            tries: 3,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(5),
            ..Limits::default()
        };
        let store = async |(place, bucket): &(&'static str, String)| {
            let settings = S3Settings {
                endpoint: Some(endpoint.to_owned()),
                prefix: format!("{case}/"),
                limits: limits.clone(),
                ..self.server.settings(bucket)
            };
            (*place, Arc::new(S3Store::connect(settings).await.unwrap()) as Arc<dyn Store>)
        };
        [store(&self.names[0]).await, store(&self.names[1]).await]
    }

    /// Vault and keyring of a case as they are now.
    async fn content(&self, case: &str) -> Content {
        let mut content = Content::new();
        for (place, store) in self.stores(case, &self.server.endpoint).await {
            let listed: Vec<_> = store.list("").try_collect().await.unwrap();
            let store = &store;
            let read = stream::iter(listed.into_iter().filter(|listed| !listed.name.starts_with("probe/"))).map(async |listed| {
                (format!("{place}/{}", listed.name), store.get(&listed.name, u64::MAX).await.unwrap().to_vec())
            });
            content.extend(read.buffer_unordered(8).collect::<Vec<_>>().await);
        }
        content
    }

    async fn fill(&self, case: &str, content: &Content) {
        for (place, store) in self.stores(case, &self.server.endpoint).await {
            let mine = content.iter().filter_map(|(name, bytes)| Some((name.strip_prefix(place)?.strip_prefix('/')?, bytes)));
            let store = &store;
            stream::iter(mine.filter(|(name, _)| is_valid_name(name)))
                .for_each_concurrent(8, async |(name, bytes)| {
                    store.put(name, bytes.clone().into(), PutMode::Replace).await.unwrap();
                })
                .await;
        }
    }

    /// The site on the buckets, through the proxy or past it.
    async fn site(&self, site: &Site, case: &str, proxied: bool) -> Result<Backup, Failure> {
        let endpoint = if proxied { &self.proxy.endpoint } else { &self.server.endpoint };
        let [(_, vault), (_, keyring)] = self.stores(case, endpoint).await;
        through(site, vault, keyring).await
    }

    /// The requests since the plan was made.
    fn begin(&self, fault: Option<(Call, Way, bool)>) {
        *self.plan() = Plan { fault, ..Plan::default() };
    }
}

/// Which requests fail, how, and whether all after them do: of each kind the first, once or for good, the ways in turn; of each kind of write
/// the first with its answer lost, and the last. Or every request in every way, once and for good.
fn cases(calls: &[Call]) -> Vec<(Call, Way, bool)> {
    let mut cases = Vec::new();
    let mut turn = 0;
    for call in calls {
        let is_last = !calls.contains(&Call { nth: call.nth + 1, ..call.clone() });
        if every() {
            cases.extend(WAYS.iter().flat_map(|way| [(call.clone(), *way, false), (call.clone(), *way, true)]));
            continue;
        }
        if call.nth == 1 {
            if call.kind.starts_with("PUT") {
                cases.push((call.clone(), Way::Lost, false));
            } else {
                cases.push((call.clone(), WAYS[1 + turn % 6], turn % 3 == 0));
            }
        }
        if is_last && call.kind.starts_with("PUT") {
            cases.push((call.clone(), WAYS[turn % 7], turn % 2 == 0));
        }
        turn += 1;
    }
    cases
}

/// Says how many requests failed, of which sort, and that each sort that was made was among them.
fn walked(cases: &[(Call, Way, bool)], calls: &[Call], what: &str) {
    let method = |call: &Call| call.kind.split(' ').next().unwrap_or_default().to_owned();
    let made: BTreeSet<String> = calls.iter().map(method).collect();
    let mut failed: BTreeMap<String, usize> = BTreeMap::new();
    for (call, ..) in cases {
        *failed.entry(method(call)).or_default() += 1;
    }
    assert!(made.iter().all(|method| failed.get(method).is_some_and(|count| *count > 0)), "{made:?} {failed:?}");
    assert!(["GET", "LIST"].iter().all(|method| made.contains(*method)), "{made:?}");
    let each: Vec<String> = failed.iter().map(|(method, count)| format!("{count} {method}")).collect();
    walked_through(cases.len(), &format!("requests of {what} ({})", each.join(", ")));
}

fn manifests(content: &Content) -> usize {
    content.keys().filter(|name| name.contains("/b/") && name.ends_with(".json")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_backup() {
    let site = Site::new().await;
    let database = site.database("acme");
    shared().sql(&database, ROWS);
    let buckets = Buckets::new().await;
    for night in ["first", "second"] {
        let before = content(site.folder());
        let clean = format!("{night}-clean");
        buckets.fill(&clean, &before).await;
        buckets.begin(None);
        outcome(&back_up(buckets.site(&site, &clean, true).await.unwrap()).await.unwrap()).unwrap();
        let calls = buckets.plan().log.clone();
        let mut cases = cases(&calls);
        if night == "second" && !every() {
            // Most is as on the first.
            cases = cases.into_iter().step_by(3).collect();
        }
        for (number, (call, way, lasting)) in cases.iter().enumerate() {
            let case = format!("{night} night, {call:?}, {way:?}, lasting {lasting}");
            let place = format!("{night}-{number}");
            buckets.fill(&place, &before).await;
            buckets.begin(Some((call.clone(), *way, *lasting)));
            let ended = async { back_up(buckets.site(&site, &place, true).await?).await }.await;
            assert!(buckets.plan().met, "{case}: it was not made");
            let after = buckets.content(&place).await;
            let done = ended.as_ref().is_ok_and(|report| report.class.is_none());
            match (lasting, passes(*way)) {
                (true, _) => assert!(!done, "{case}: it went on"),
                (false, true) => assert!(done, "{case}: it did not try again: {ended:?}"),
                // Who may not read what it wrote may go on.
                (false, false) => {}
            }
            let new = manifests(&after) - manifests(&before);
            assert!(new == 1 || !done && new == 0, "{case}: {new} manifests");
            set(site.folder(), &after);
            if !whole(&site, &before, &case).await && !done {
                let next = back_up(buckets.site(&site, &place, false).await.unwrap()).await.unwrap();
                outcome(&next).unwrap_or_else(|said| panic!("{case}: next: {said}"));
                set(site.folder(), &buckets.content(&place).await);
                let verified = site.verify(true).await;
                assert!(verified.problems.is_empty(), "{case}: {:?}", verified.problems);
            }
        }
        walked(&cases, &calls, &format!("a backup on the {night} night"));
        set(site.folder(), &before);
        outcome(&site.all().await).unwrap();
        shared().sql(&database, "UPDATE customer SET name = name || 'x' WHERE id = 7");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_verify() {
    let site = Site::new().await;
    shared().sql(&site.database("acme"), ROWS);
    outcome(&site.all().await).unwrap();
    let before = content(site.folder());
    let buckets = Buckets::new().await;
    buckets.fill("verify", &before).await;
    buckets.begin(None);
    let run = async || verify(&site, &buckets.site(&site, "verify", true).await?).await;
    assert!(run().await.unwrap().problems.is_empty());
    let calls = buckets.plan().log.clone();
    let cases = cases(&calls);
    for (call, way, lasting) in &cases {
        let case = format!("{call:?}, {way:?}, lasting {lasting}");
        buckets.begin(Some((call.clone(), *way, *lasting)));
        let ended = run().await;
        assert!(buckets.plan().met, "{case}: it was not made");
        let sound = ended.as_ref().is_ok_and(|report| report.problems.is_empty() && report.not_looked_at.is_empty());
        match (lasting, passes(*way)) {
            (true, _) => assert!(!sound, "{case}: it found nothing"),
            (false, true) => assert!(sound, "{case}: it did not try again: {ended:?}"),
            (false, false) => {}
        }
        // A store that does not answer is no damage: nothing is written down.
        assert!(buckets.content("verify").await == before, "{case}");
    }
    walked(&cases, &calls, "a verify");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_restore() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    server.sql(&site.database("acme"), ROWS);
    outcome(&site.all().await).unwrap();
    let (before, live) = (content(site.folder()), live(&site));
    let buckets = Buckets::new().await;
    let request = copy("acme", &unique("walked"));
    let run = async |place: &str, proxied| restore(&site, &buckets.site(&site, place, proxied).await?, &request).await;
    buckets.fill("clean", &before).await;
    buckets.begin(None);
    tidy(&site, &run("clean", true).await.unwrap());
    let calls = buckets.plan().log.clone();
    let cases = cases(&calls);
    for (number, (call, way, lasting)) in cases.iter().enumerate() {
        let case = format!("{call:?}, {way:?}, lasting {lasting}");
        let place = format!("restore-{number}");
        buckets.fill(&place, &before).await;
        buckets.begin(Some((call.clone(), *way, *lasting)));
        let ended = run(&place, true).await;
        assert!(buckets.plan().met, "{case}: it was not made");
        match (lasting, passes(*way)) {
            // What cannot be written down of a restore is said, and it goes on.
            (true, _) if call.kind.contains("runs/") => assert!(ended.is_ok(), "{case}: {ended:?}"),
            (true, _) => assert!(ended.is_err(), "{case}: it went on"),
            (false, true) => assert!(ended.is_ok(), "{case}: it did not try again: {ended:?}"),
            (false, false) => {}
        }
        let done = ended.is_ok();
        if let Ok(report) = ended {
            tidy(&site, &report);
        }
        assert_eq!(left(server), "", "{case}");
        assert_eq!(super::live(&site), live, "{case}");
        set(site.folder(), &buckets.content(&place).await);
        if !whole(&site, &before, &case).await && !done && (every() || number.is_multiple_of(8)) {
            tidy(&site, &run(&place, false).await.unwrap_or_else(|failure| panic!("{case}: next: {failure:?}")));
        }
    }
    walked(&cases, &calls, "a restore");
}

/// A write that seemed to fail lands after all: while its run tries it again, after that has failed, or after the next run is through.
#[tokio::test(flavor = "multi_thread")]
async fn that_land_late() {
    let site = Site::new().await;
    shared().sql(&site.database("acme"), ROWS);
    let buckets = Buckets::new().await;
    let before = content(site.folder());
    buckets.fill("clean", &before).await;
    buckets.begin(None);
    outcome(&back_up(buckets.site(&site, "clean", true).await.unwrap()).await.unwrap()).unwrap();
    let calls = buckets.plan().log.clone();
    let first = |call: &&Call| call.kind.starts_with("PUT") && !call.kind.contains("probe") && (call.nth == 1 || every());
    let mut walked = 0;
    for (number, call) in calls.iter().filter(first).enumerate() {
        for (way, lasting) in [("tried again", false), ("before the next", true), ("after the next", true)] {
            let case = format!("{call:?}, {way}");
            let place = format!("late-{number}-{}", way.replace(' ', "-"));
            buckets.fill(&place, &before).await;
            buckets.begin(Some((call.clone(), Way::Late, lasting)));
            let ended = async { back_up(buckets.site(&site, &place, true).await?).await }.await;
            let done = ended.as_ref().is_ok_and(|report| report.class.is_none());
            assert_eq!(done, !lasting, "{case}: {ended:?}");
            let as_it_was = buckets.content(&place).await;
            let next = async || {
                let next = back_up(buckets.site(&site, &place, false).await.unwrap()).await.unwrap();
                outcome(&next).unwrap_or_else(|said| panic!("{case}: next: {said}"));
            };
            if way == "after the next" {
                next().await;
            }
            let earlier = buckets.content(&place).await;
            let answers = buckets.proxy.release().await;
            assert!(!answers.is_empty(), "{case}");
            walked += 1;
            let after = buckets.content(&place).await;
            // Nothing that was there is another one now.
            for (name, bytes) in earlier.iter().chain(&as_it_was) {
                assert!(after.get(name) == Some(bytes), "{case}: {name} was replaced");
            }
            if way == "tried again" {
                assert!(after == earlier, "{case}: {answers:?}");
            }
            if way == "before the next" {
                next().await;
            }
            set(site.folder(), &buckets.content(&place).await);
            let verified = site.verify(true).await;
            assert!(verified.problems.is_empty(), "{case}: {:?}", verified.problems);
            let keys =
                keys::check(&site.backup.vault, &site.backup.keyring, Some(&site.identity()), Utc::now(), &Silent).await.unwrap();
            assert!(keys.problems.is_empty(), "{case}: {:?}", keys.problems);
            outcome(&site.all().await).unwrap_or_else(|said| panic!("{case}: the one after: {said}"));
        }
    }
    walked_through(walked, "writes of a backup that landed late");
}
