//! A real Prometheus reads `/metrics`, and the alerts in `deploy/prometheus/`.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use serde_json::Value;
use tenure::{
    config::{schedule::Action, worker::Listen},
    observe::{board::Board, http::Server, metrics},
    operation::{
        alarm::{Alarm, AlarmKind},
        backup::Outcome,
        failure::FailureClass,
        status::{Counts, Onboarding, StatusReport, TenantStatus},
        tenants::TenantState,
    },
};
use tokio_util::sync::CancellationToken;

use super::http::ask;
use crate::harness::{postgres::run, watchdog::Watchdog};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn tenant(name: &str, state: TenantState, hours: i64) -> TenantStatus {
    TenantStatus {
        tenant: name.to_owned(),
        cluster: Some("eu-1".into()),
        state,
        newest_backup: None,
        newest_taken_at: Some(Utc::now() - TimeDelta::hours(hours)),
        age_seconds: Some(3600),
        backups: 7,
        duration_ms: Some(1500),
        bytes_stored: Some(4096),
        bytes_read: Some(1 << 20),
        expired: 0,
        on_hold: false,
        late_after_seconds: 93_600,
        failed: None,
    }
}

/// One on which every family has something.
fn full_board() -> Board {
    let now = Utc::now();
    let board = Board::new(now);
    board.schedules([("nightly", Action::Backup, Some(now))]);
    board.run_began("nightly");
    board.run_ended("nightly", None, now);
    board.run_began("nightly");
    board.run_ended("nightly", Some(FailureClass::SomeTenants), now);
    board.backup_ended("acme", Outcome::Done, Duration::from_secs(3), 100, 10);
    board.backup_ended("b \"quoted\" \\ \n", Outcome::Failed, Duration::from_secs(3), 0, 0);
    board.channel("email", Ok(()), now);
    // A database that is gone gets no other backup: it makes nothing old.
    let tenants = vec![
        tenant("acme", TenantState::Good, 1),
        tenant("b \"quoted\" \\ \n", TenantState::Late, 50),
        tenant("gone", TenantState::Dropped, 500),
    ];
    board.status(StatusReport {
        at: now,
        counts: Counts::of(tenants.iter().map(|tenant| tenant.state)),
        tenants,
        first_backups: Some(Onboarding { done: 80, waiting: 220, nights: Some(3) }),
        erasures_open: 2,
        retention_backlog: 3,
        holds: 1,
        alarms: vec![Alarm::new(AlarmKind::KeyLost, "a", "gone")],
        class: None,
    });
    board.ready(Ok(()));
    board
}

/// Its families, by the names of their series.
fn families() -> Vec<String> {
    let text = metrics::exposition(&full_board(), true, Utc::now()).unwrap();
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let name = |(name, kind): (&str, &str)| match kind {
        "counter" => format!("{name}_total"),
        "info" => format!("{name}_info"),
        _ => name.to_owned(),
    };
    kinds.map(name).collect()
}

#[test]
fn every_metric_is_documented_and_every_alert_is_on_a_metric() {
    let families = families();
    assert!(families.len() > 30, "{families:?}");
    let page = std::fs::read_to_string(root().join("docs/monitoring.md")).unwrap();
    let documented: Vec<&str> = page.split('`').filter(|word| word.starts_with("tenure_") && !word.contains('…')).collect();
    for family in &families {
        assert!(documented.contains(&family.as_str()), "docs/monitoring.md has no `{family}`");
    }
    for name in documented {
        assert!(families.iter().any(|family| family == name), "docs/monitoring.md has `{name}`, and /metrics has not");
    }
    let alerts = std::fs::read_to_string(root().join("deploy/prometheus/alerts.yml")).unwrap();
    let used = alerts.lines().filter(|line| line.contains("expr:"));
    let used = used.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    let used: Vec<&str> = used.filter(|word| word.starts_with("tenure_")).collect();
    assert!(used.len() > 9, "{used:?}");
    for name in used {
        assert!(families.iter().any(|family| family == name), "alerts.yml uses `{name}`, and /metrics has none");
    }
}

#[test]
fn the_alerts_go_on_when_they_should() {
    run(Command::new("promtool").args(["check", "rules", "deploy/prometheus/alerts.yml"]).current_dir(root()));
    run(Command::new("promtool").args(["test", "rules", "tests/prometheus/alerts_test.yml"]).current_dir(root()));
}

/// A Prometheus that scrapes one worker each second.
struct Prometheus {
    address: SocketAddr,
    child: Child,
    end: Option<Watchdog>,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It kills it; until it is waited for nobody else gets its number.
        drop(self.end.take());
        self.child.wait().ok();
    }
}

impl Prometheus {
    fn start(worker: SocketAddr) -> Self {
        let folder = tempfile::Builder::new().prefix("tenure-prometheus-").tempdir().unwrap().keep();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let rules = root().join("deploy/prometheus/alerts.yml");
        let configuration = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{}]\nscrape_configs:\n  - job_name: tenure\n    \
             static_configs: [{{ targets: [\"{worker}\"] }}]\n",
            rules.display()
        );
        std::fs::write(folder.join("prometheus.yml"), configuration).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .expect("prometheus is installed by scripts/test");
        let end = "kill -9 \"$1\" 2>/dev/null; while ! rm -rf \"$2\" 2>/dev/null; do sleep 0.1; done";
        let end = Watchdog::start(end, &[&child.id().to_string(), folder.to_str().unwrap()]);
        Self { address, child, end: Some(end) }
    }

    /// What its API says; `None` while it does not.
    async fn says(&self, path: &str) -> Option<Value> {
        if tokio::net::TcpStream::connect(self.address).await.is_err() {
            return None;
        }
        let (_, body) = ask(self.address, &format!("GET /api/v1/{path} HTTP/1.0\r\n\r\n")).await;
        serde_json::from_str(&body).ok()
    }

    /// Waits for an answer that will do.
    async fn until(&self, path: &str, will_do: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                match self.says(path).await {
                    Some(answer) if will_do(&answer["data"]) => return answer["data"].clone(),
                    _ => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        };
        match tokio::time::timeout(Duration::from_secs(120), waiting).await {
            Ok(answer) => answer,
            Err(_) => panic!("in vain: {path}: {:#}", self.says(path).await.unwrap_or_default()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prometheus_takes_every_metric_and_raises_the_alerts() {
    let server = Server::bind(Some(Listen(Some(SocketAddr::from(([127, 0, 0, 1], 0)))))).await.unwrap().unwrap();
    let worker = server.address;
    let stop = CancellationToken::new();
    tokio::spawn(server.serve(full_board(), true, stop.clone()));
    let _stop = stop.drop_guard();
    let prometheus = Prometheus::start(worker);
    let targets = prometheus
        .until("targets", |data| data["activeTargets"][0]["health"] != "unknown" && data["activeTargets"][0].is_object())
        .await;
    let target = &targets["activeTargets"][0];
    assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{target:#}");

    let metadata = prometheus.until("targets/metadata", |data| data.as_array().is_some_and(|all| all.len() > 20)).await;
    for family in families() {
        let name = family.trim_end_matches("_total").trim_end_matches("_info");
        let about = metadata.as_array().unwrap().iter().find(|about| about["metric"] == name);
        let about = about.unwrap_or_else(|| panic!("{family} in {metadata:#}"));
        assert!(about["help"].as_str().is_some_and(|help| help.len() > 5) && about["type"] != "unknown", "{about}");
        if name.ends_with("_seconds") || name.ends_with("_bytes") {
            assert!(about["unit"] == "seconds" || about["unit"] == "bytes", "{about}");
        }
    }
    let value = async |query: &str| {
        let path =
            format!("query?query={}", query.replace('"', "%22").replace('{', "%7B").replace('}', "%7D").replace(' ', "%20"));
        let data = prometheus.until(&path, |data| data["result"][0].is_object()).await;
        data["result"][0]["value"][1].as_str().unwrap().parse::<f64>().unwrap()
    };
    assert!((value("tenure_tenants{state=\"good\"}").await - 1.0).abs() < 0.1);
    assert!((value("count(tenure_tenant_backups)").await - 3.0).abs() < 0.1, "whatever their names");
    let oldest = value("time() - tenure_oldest_newest_backup_timestamp_seconds").await;
    assert!((oldest - 50.0 * 3600.0).abs() < 600.0, "{oldest}: not the one that is gone");

    let state = |data: &Value, name: &str| {
        let all = data["alerts"].as_array().cloned().unwrap_or_default();
        all.iter().find(|alert| alert["labels"]["alertname"] == name).map(|alert| alert["state"].as_str().unwrap().to_owned())
    };
    let alerts = prometheus
        .until("alerts", |data| {
            ["TenureScheduleFailed", "TenureAlarm", "TenureBackupOld"].iter().all(|name| state(data, name).is_some())
        })
        .await;
    assert_eq!(state(&alerts, "TenureScheduleFailed").as_deref(), Some("firing"));
    assert_eq!(state(&alerts, "TenureAlarm").as_deref(), Some("pending"));
    for quiet in ["TenureWorkerGone", "TenureWorkerStandsStill", "TenureWorkerNotReady", "TenureNotificationsFail"] {
        assert_eq!(state(&alerts, quiet), None, "{alerts:#}");
    }
}
