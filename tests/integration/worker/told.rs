//! Whom a worker tells what is wrong, and what it shows: the program, real servers, and a server that records.

use std::{fs, net::SocketAddr, time::Duration};

use serde_json::Value;

use super::program::{Running, fleet, minutes_ago, names, write_schedule};
use crate::{
    harness::{
        http::{Action, Proxy},
        postgres::shared,
        program::Program,
    },
    observe::http::get,
};

/// Adds a webhook and a ping to its configuration.
fn notify(program: &Program, server: &Proxy) {
    let file = program.path("tenure.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}[notify.webhook]\nurl_file = \"webhook\"\n[notify.ping]\nurl_file = \"ping\"\n")).unwrap();
    fs::write(program.path("webhook"), format!("{}/webhook", server.endpoint)).unwrap();
    fs::write(program.path("ping"), format!("{}/ping", server.endpoint)).unwrap();
}

async fn recorder() -> Proxy {
    Proxy::start(None, |_, _| Action::Answer(200, "", Vec::new())).await
}

fn pings(server: &Proxy) -> usize {
    server.requests().iter().filter(|request| request.path == "/ping").count()
}

/// What was told, like `firing tenant-closed acme`.
fn told(server: &Proxy) -> Vec<String> {
    let documents = server.requests().into_iter().filter(|request| request.path == "/webhook");
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    documents
        .flat_map(|request| {
            let document: Value = serde_json::from_slice(&request.body).unwrap();
            assert_eq!(word(&document["installation"]).len(), 32, "{document:#}");
            let alarms = document["alarms"].as_array().unwrap().clone();
            let line =
                move |alarm: Value| format!("{} {} {}", word(&document["event"]), word(&alarm["kind"]), word(&alarm["object"]));
            alarms.into_iter().map(line).collect::<Vec<_>>()
        })
        .collect()
}

async fn until(what: &str, worker: &Running, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(180), waiting).await;
    assert!(waited.is_ok(), "in vain: {what}: {}", worker.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ends_pings_when_all_is_well_and_else_says_what_is_wrong() {
    let server = recorder().await;
    let (program, stem) = fleet(&names(&["acme", "globex"]));
    notify(&program, &server);
    write_schedule(&program, "nightly", &minutes_ago(3), "backup", "");
    let (code, _, log) = program.say(&["worker", "--once"]);
    assert_eq!((code, pings(&server)), (0, 1), "{log}");

    shared().sql("postgres", &format!("ALTER DATABASE {stem}_acme ALLOW_CONNECTIONS false"));
    let (_, _, log) = program.say(&["worker", "--once"]);
    assert_eq!(pings(&server), 1, "nobody says that this night was good: {log}");
    assert!(told(&server).contains(&"firing tenant-closed acme".to_owned()), "{:?}{log}", told(&server));

    // A channel that is away fails the run, after everything was done, and is named.
    fs::write(program.path("webhook"), "http://127.0.0.1:1/webhook").unwrap();
    let (code, said, log) = program.say(&["worker", "--once"]);
    assert!(code != 0 && log.contains("webhook: cannot reach http://127.0.0.1:1"), "{code} {said}{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_shows_the_fleet_and_tells_what_is_wrong_while_it_runs() {
    let server = recorder().await;
    let (program, _) = fleet(&names(&["acme", "globex"]));
    notify(&program, &server);
    write_schedule(&program, "nightly", &minutes_ago(3), "backup", "");
    let mut worker = Running::of(&program);
    until("where it serves", &worker, async || worker.has_said("serving /metrics")).await;
    let log = worker.all();
    let address = log.split("on http://").nth(1).unwrap().split_whitespace().next().unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let shows = async |line: &str| get(address, "/metrics").await.1.lines().any(|shown| shown == line);
    until("both backed up", &worker, async || shows("tenure_tenants{state=\"good\"} 2.0").await).await;
    assert!(shows("tenure_backups_total{outcome=\"done\"} 2").await);
    assert!(shows("tenure_schedule_last_run_good{schedule=\"nightly\",action=\"backup\"} 1.0").await);
    assert!(get(address, "/readyz").await.0.starts_with("HTTP/1.1 200"));
    assert_eq!(get(address, "/healthz").await.1, "ok\n");
    until("the ping", &worker, async || pings(&server) == 1).await;

    fs::write(program.path("schedules/broken.toml"), "name = 1").unwrap();
    worker.signal("HUP");
    until("that a schedule is broken", &worker, async || {
        told(&server).iter().any(|line| line.starts_with("firing schedule-broken ") && line.ends_with("schedules/broken.toml"))
    })
    .await;
    assert_eq!(worker.stop(), 0, "{}", worker.all());
}
