//! `/metrics`: what stands on the board, in the text format of OpenMetrics, which Prometheus reads.
//!
//! Names, labels and units never change once released; `docs/monitoring.md` lists them. Times are seconds since 1970, in UTC. Series are
//! bounded: states, outcomes and kinds are fixed sets, schedules and clusters are configured, and tenants are [`MOST_TENANTS`] at most.

use std::fmt;

use chrono::{DateTime, Utc};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use super::board::{BOUNDS, Board, OfSchedule, State};
use crate::operation::{
    status::{Counts, StatusReport, TenantStatus},
    tenants::TenantState,
};

/// What the text is, for the answer's `Content-Type`.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Tenants that get series of their own; the worst are first. Six series each: what one Prometheus takes from one target without notice.
pub const MOST_TENANTS: usize = 5_000;

/// The text. `by_tenant`: with series for each tenant.
///
/// # Errors
/// None that a correct program can have: what writes into memory does not fail.
pub fn exposition(board: &Board, by_tenant: bool, now: DateTime<Utc>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("tenure");
    registry.register_collector(Box::new(Moment { board: board.clone(), by_tenant, now }));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Moment {
    board: Board,
    by_tenant: bool,
    now: DateTime<Utc>,
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// A family to be, without its prefix: name, unit, what it is.
type About = (&'static str, Option<Unit>, &'static str);

struct Out<'a>(DescriptorEncoder<'a>);

impl Collector for Moment {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let state = self.board.lock();
        let mut out = Out(encoder);
        out.worker(&state)?;
        out.schedules(&state)?;
        out.backups(&state)?;
        out.channels(&state)?;
        if let Some(status) = &state.status {
            out.fleet(status)?;
            if self.by_tenant {
                out.tenants(status, &state, self.now)?;
            }
        }
        Ok(())
    }
}

impl Out<'_> {
    fn gauges<'a>(&mut self, (name, unit, help): About, rows: impl IntoIterator<Item = (Labels<'a>, f64)>) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in rows {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn gauge(&mut self, about: About, value: f64) -> fmt::Result {
        self.gauges(about, [(Vec::new(), value)])
    }

    fn counters<'a>(&mut self, (name, unit, help): About, rows: impl IntoIterator<Item = (Labels<'a>, u64)>) -> fmt::Result {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in rows {
            if labels.is_empty() {
                family.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            } else {
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
            }
        }
        Ok(())
    }

    fn worker(&mut self, state: &State) -> fmt::Result {
        let mut build = self.0.encode_descriptor("build", "The running version.", None, MetricType::Info)?;
        build.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        self.gauge(("worker_start_timestamp", Some(Unit::Seconds), "When the worker began."), seconds(state.started))?;
        let help = "When the worker's loop last turned: at least every minute.";
        self.gauge(("worker_heartbeat_timestamp", Some(Unit::Seconds), help), seconds(state.beat.1))?;
        let help = "Whether the worker runs what is due: 1, or 0 while it starts, stops, or cannot.";
        self.gauge(("worker_ready", None, help), bool(state.unready.is_none()))
    }

    fn schedules(&mut self, state: &State) -> fmt::Result {
        let rows = |of: fn(&OfSchedule) -> Option<f64>| {
            state.schedules.iter().filter_map(move |(name, schedule)| Some((labels(name, schedule), of(schedule)?)))
        };
        let help = "When the schedule is next due, before jitter.";
        self.gauges(("schedule_next_timestamp", Some(Unit::Seconds), help), rows(|schedule| schedule.next.map(seconds)))?;
        let help = "Whether a run of the schedule is at work here.";
        self.gauges(("schedule_running", None, help), rows(|schedule| Some(bool(schedule.running_since.is_some()))))?;
        let help = "When the schedule's last run here ended, however it ended.";
        let ended = rows(|schedule| schedule.last.as_ref().map(|run| seconds(run.ended)));
        self.gauges(("schedule_last_run_timestamp", Some(Unit::Seconds), help), ended)?;
        let help = "How long that run took.";
        let took = rows(|schedule| schedule.last.as_ref().map(|run| run.took.as_secs_f64()));
        self.gauges(("schedule_last_run_duration", Some(Unit::Seconds), help), took)?;
        let help = "Whether that run ended well.";
        let good = rows(|schedule| schedule.last.as_ref().map(|run| bool(run.outcome == "done")));
        self.gauges(("schedule_last_run_good", None, help), good)?;
        let help = "When a run of the schedule last ended well here.";
        self.gauges(
            ("schedule_last_good_timestamp", Some(Unit::Seconds), help),
            rows(|schedule| schedule.last_good.map(seconds)),
        )?;
        let runs = state.schedules.iter().flat_map(|(name, schedule)| {
            schedule.runs.iter().map(move |(outcome, count)| {
                let mut labels = labels(name, schedule);
                labels.push(("outcome", outcome));
                (labels, *count)
            })
        });
        self.counters(("schedule_runs", None, "Runs of the schedule here, by how they ended."), runs)
    }

    fn backups(&mut self, state: &State) -> fmt::Result {
        let backups = &state.backups;
        // All of them from the beginning: a series that begins at one is no increase to Prometheus.
        let outcomes = ["done", "failed", "busy", "refused"];
        let rows =
            outcomes.map(|outcome| (vec![("outcome", outcome)], backups.by_outcome.get(outcome).copied().unwrap_or_default()));
        self.counters(("backups", None, "Backups of single tenants here, by how they ended."), rows)?;
        let help = "Plaintext read by backups here.";
        self.counters(("backup_read", Some(Unit::Bytes), help), [(Vec::new(), backups.bytes_read)])?;
        let help = "Sealed bytes that backups here stored.";
        self.counters(("backup_stored", Some(Unit::Bytes), help), [(Vec::new(), backups.bytes_stored)])?;
        let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(backups.took).collect();
        let (help, unit) = ("How long good backups of single tenants took here.", Some(Unit::Seconds));
        let mut family = self.0.encode_descriptor("backup_duration", help, unit.as_ref(), MetricType::Histogram)?;
        family.encode_histogram::<NoLabelSet>(backups.seconds, backups.took.iter().sum(), &buckets, None)
    }

    fn channels(&mut self, state: &State) -> fmt::Result {
        let sent = state.channels.iter().flat_map(|(name, channel)| {
            [("sent", channel.sent), ("failed", channel.failed)]
                .map(|(outcome, count)| (vec![("channel", *name), ("outcome", outcome)], count))
        });
        self.counters(("notifications", None, "Messages through each channel, by whether they were taken."), sent)?;
        let failing = state.channels.iter().map(|(name, channel)| (vec![("channel", *name)], bool(channel.failing.is_some())));
        let help = "Whether the channel's last message was not taken, after every try.";
        self.gauges(("notification_failing", None, help), failing)?;
        let last = state.channels.iter();
        let last = last.filter_map(|(name, channel)| Some((vec![("channel", *name)], seconds(channel.last_sent?))));
        self.gauges(("notification_last_timestamp", Some(Unit::Seconds), "When the channel last took a message."), last)
    }

    fn fleet(&mut self, status: &StatusReport) -> fmt::Result {
        let help = "When the worker last looked at the whole fleet, which is what the series of fleet and tenants say.";
        self.gauge(("status_timestamp", Some(Unit::Seconds), help), seconds(status.at))?;
        let rows = states(&status.counts).map(|(state, count)| (vec![("state", state)], number(count)));
        self.gauges(("tenants", None, "Tenants by state."), rows)?;
        let oldest = status
            .tenants
            .iter()
            .filter(|tenant| lives(tenant.state))
            .filter_map(|tenant| tenant.newest_taken_at)
            .min()
            .map(|time| (Vec::new(), seconds(time)));
        let help = "The oldest among the newest good backups of tenants that live.";
        self.gauges(("oldest_newest_backup_timestamp", Some(Unit::Seconds), help), oldest)?;
        let waiting = status.first_backups.map_or(0, |first| first.waiting);
        self.gauge(("first_backups_waiting", None, "Living tenants that wait for their first backup."), number(waiting))?;
        let help = "Backups whose time is over, and that still lie in the vault.";
        self.gauge(("retention_backlog_backups", None, help), number(status.retention_backlog))?;
        let help = "Erasures that were begun and are not through, their grace included.";
        self.gauge(("erasures_open", None, help), number(status.erasures_open))?;
        self.gauge(("holds", None, "Tenants on hold."), number(status.holds))?;
        let mut alarms = std::collections::BTreeMap::<_, u64>::new();
        for alarm in &status.alarms {
            *alarms.entry((alarm.kind.as_str(), alarm.severity.as_str())).or_default() += 1;
        }
        let rows =
            alarms.into_iter().map(|((kind, severity), count)| (vec![("kind", kind), ("severity", severity)], number(count)));
        self.gauges(("alarms", None, "Alarms that are on, by kind."), rows)
    }

    fn tenants(&mut self, status: &StatusReport, state: &State, now: DateTime<Utc>) -> fmt::Result {
        let shown = &status.tenants[..status.tenants.len().min(MOST_TENANTS)];
        let left_out = status.tenants.len() - shown.len();
        let help = "Tenants beyond the most that get series of their own.";
        self.gauge(("tenants_without_series", None, help), number(left_out as u64))?;
        let rows = |of: &dyn Fn(&TenantStatus) -> Option<f64>| -> Vec<_> {
            shown.iter().filter_map(|tenant| Some((of_tenant(tenant), of(tenant)?))).collect()
        };
        let taken = rows(&|tenant| tenant.newest_taken_at.map(seconds));
        self.gauges(("tenant_newest_backup_timestamp", Some(Unit::Seconds), "When the newest good backup was taken."), taken)?;
        let age = rows(&|tenant| Some((seconds(now) - seconds(tenant.newest_taken_at?)).max(0.0)));
        self.gauges(("tenant_newest_backup_age", Some(Unit::Seconds), "How old it is."), age)?;
        let took = rows(&|tenant| Some(number(tenant.duration_ms?) / 1000.0));
        self.gauges(("tenant_newest_backup_duration", Some(Unit::Seconds), "How long it took."), took)?;
        let stored = rows(&|tenant| tenant.bytes_stored.map(number));
        self.gauges(("tenant_newest_backup_stored", Some(Unit::Bytes), "Sealed bytes that it added."), stored)?;
        let count = rows(&|tenant| Some(number(tenant.backups)));
        self.gauges(("tenant_backups", None, "Backups that the vault lists."), count)?;
        let failing = rows(&|tenant| state.failing.get(&tenant.tenant).map(|count| number(*count)));
        self.gauges(("tenant_failures", None, "Tries here that failed since the last good one."), failing)
    }
}

fn labels<'a>(name: &'a str, schedule: &OfSchedule) -> Labels<'a> {
    vec![("schedule", name), ("action", schedule.action.name())]
}

fn of_tenant(tenant: &TenantStatus) -> Labels<'_> {
    vec![("tenant", &tenant.tenant), ("cluster", tenant.cluster.as_deref().unwrap_or_default())]
}

/// Whether its newest backup should be young: a database that is gone, or is being erased, gets no other.
fn lives(state: TenantState) -> bool {
    match state {
        TenantState::Missing | TenantState::Dropped | TenantState::Suspended | TenantState::Erased => false,
        TenantState::Good
        | TenantState::Late
        | TenantState::New
        | TenantState::Moved
        | TenantState::Ambiguous
        | TenantState::Closed
        | TenantState::Unknown => true,
    }
}

/// All states, those without a tenant too.
fn states(counts: &Counts) -> [(&'static str, u64); 11] {
    [
        ("good", counts.good),
        ("late", counts.late),
        ("new", counts.new),
        ("missing", counts.missing),
        ("dropped", counts.dropped),
        ("moved", counts.moved),
        ("ambiguous", counts.ambiguous),
        ("closed", counts.closed),
        ("suspended", counts.suspended),
        ("erased", counts.erased),
        ("unknown", counts.unknown),
    ]
}

/// Seconds since 1970, to the millisecond: what a float holds without loss.
fn seconds(time: DateTime<Utc>) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "exact for the next 280,000 years")]
    let milliseconds = time.timestamp_millis() as f64;
    milliseconds / 1000.0
}

fn number(count: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "exact up to 9 * 10^15, which no count here reaches")]
    let number = count as f64;
    number
}

fn bool(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::TimeDelta;

    use super::*;
    use crate::{
        config::schedule::Action,
        operation::{
            alarm::{Alarm, AlarmKind},
            backup::Outcome,
            failure::FailureClass,
        },
    };

    fn now() -> DateTime<Utc> {
        "2026-11-22T02:30:00.500Z".parse().unwrap()
    }

    fn tenant(name: &str) -> TenantStatus {
        TenantStatus {
            tenant: name.to_owned(),
            cluster: Some("eu-1".into()),
            state: TenantState::Good,
            newest_backup: None,
            newest_taken_at: Some(now() - TimeDelta::hours(1)),
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

    fn status(tenants: Vec<TenantStatus>) -> StatusReport {
        StatusReport {
            at: now(),
            counts: Counts::of(tenants.iter().map(|tenant| tenant.state)),
            tenants,
            first_backups: None,
            erasures_open: 2,
            retention_backlog: 3,
            holds: 1,
            alarms: vec![Alarm::new(AlarmKind::KeyLost, "a", "gone"), Alarm::new(AlarmKind::KeyLost, "b", "gone")],
            class: None,
        }
    }

    fn told(board: &Board, by_tenant: bool) -> String {
        exposition(board, by_tenant, now()).unwrap()
    }

    #[test]
    fn what_is_on_the_board_is_told() {
        let board = Board::new(now());
        board.schedules([("nightly", Action::Backup, Some(now()))]);
        board.run_began("nightly");
        board.backup_ended("acme", Outcome::Done, Duration::from_secs(3), 100, 10);
        board.backup_ended("b", Outcome::Failed, Duration::from_secs(3), 0, 0);
        assert!(told(&board, true).contains("tenure_schedule_running{schedule=\"nightly\",action=\"backup\"} 1.0\n"));
        board.run_ended("nightly", Some(FailureClass::SomeTenants), now());
        board.channel("webhook", Err("it is away".into()), now());
        board.status(status(vec![tenant("acme"), tenant("b")]));
        board.ready(Ok(()));
        let text = told(&board, true);
        for line in [
            "tenure_build_info{version=\"0.1.0\"} 1",
            "tenure_worker_ready 1.0",
            "# TYPE tenure_worker_heartbeat_timestamp_seconds gauge",
            "# UNIT tenure_worker_heartbeat_timestamp_seconds seconds",
            "tenure_worker_heartbeat_timestamp_seconds 1795314600.5",
            "tenure_schedule_running{schedule=\"nightly\",action=\"backup\"} 0.0",
            "tenure_schedule_last_run_good{schedule=\"nightly\",action=\"backup\"} 0.0",
            "tenure_schedule_runs_total{schedule=\"nightly\",action=\"backup\",outcome=\"partial\"} 1",
            "tenure_backups_total{outcome=\"done\"} 1",
            "tenure_backups_total{outcome=\"busy\"} 0",
            "tenure_backup_read_bytes_total 100",
            "tenure_backup_duration_seconds_sum 3.0",
            "tenure_backup_duration_seconds_bucket{le=\"1.0\"} 0",
            "tenure_backup_duration_seconds_bucket{le=\"5.0\"} 1",
            "tenure_backup_duration_seconds_bucket{le=\"+Inf\"} 1",
            "tenure_notifications_total{channel=\"webhook\",outcome=\"failed\"} 1",
            "tenure_notification_failing{channel=\"webhook\"} 1.0",
            "tenure_tenants{state=\"good\"} 2.0",
            "tenure_tenants{state=\"late\"} 0.0",
            "tenure_retention_backlog_backups 3.0",
            "tenure_erasures_open 2.0",
            "tenure_alarms{kind=\"key-lost\",severity=\"critical\"} 2.0",
            "tenure_tenant_newest_backup_age_seconds{tenant=\"acme\",cluster=\"eu-1\"} 3600.0",
            "tenure_tenant_newest_backup_duration_seconds{tenant=\"acme\",cluster=\"eu-1\"} 1.5",
            "tenure_tenant_newest_backup_stored_bytes{tenant=\"acme\",cluster=\"eu-1\"} 4096.0",
            "tenure_tenant_failures{tenant=\"b\",cluster=\"eu-1\"} 1.0",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert!(!text.contains("it is away"), "why is for people");
    }

    #[test]
    fn series_are_bounded_and_those_of_tenants_can_be_off() {
        let board = Board::new(now());
        let many = (0..=MOST_TENANTS).map(|n| tenant(&format!("t{n}"))).collect();
        board.status(status(many));
        let text = told(&board, true);
        assert_eq!(text.matches("tenure_tenant_backups{").count(), MOST_TENANTS);
        assert!(text.contains("tenure_tenants_without_series 1.0\n"), "and it is said how many there are beyond");
        let text = told(&board, false);
        assert!(!text.contains("t17") && text.contains("tenure_tenants{state=\"good\"} 5001.0"), "{text}");
    }

    #[test]
    fn who_is_gone_leaves_no_series() {
        let board = Board::new(now());
        board.schedules([("a", Action::Backup, None), ("b", Action::Expire, None)]);
        board.run_began("a");
        board.run_ended("a", None, now());
        board.backup_ended("gone", Outcome::Failed, Duration::ZERO, 0, 0);
        board.status(status(vec![tenant("acme")]));
        board.schedules([("b", Action::Expire, None)]);
        let text = told(&board, true);
        assert!(!text.contains("schedule=\"a\"") && text.contains("schedule=\"b\"") && !text.contains("gone"), "{text}");
    }

    #[test]
    fn names_cannot_forge_series() {
        let board = Board::new(now());
        board.status(status(vec![tenant("a\"} 1\nx{b=\"\\")]));
        let text = told(&board, true);
        assert!(text.contains(r#"tenure_tenant_backups{tenant="a\"} 1\nx{b=\"\\",cluster="eu-1"} 7.0"#), "{text}");
    }
}
