//! Every alarm is raised by what it is about, with real databases and stores, and ends when that does.

mod discovery;
mod keys;
mod nights;
mod report;
mod screen;
mod tenants;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tenure::{
    format::record::{Source, SourceReason},
    id::RecordId,
    operation::{
        alarm::AlarmKind,
        failure::Failure,
        fleet,
        status::{Status, StatusReport, TenantStatus},
    },
    postgres::{
        LibpqEnvironment, Target,
        discover::{Rule, Rules},
    },
    retention::Keep,
    store::Store,
};

use crate::harness::{
    locker::{Lockers, Night, Tenant},
    postgres::{Cluster, Options},
};

/// Lockers whose tenants have databases on a server of their own, at any time.
struct Site {
    server: Cluster,
    lockers: Lockers,
    clusters: Vec<fleet::Cluster>,
    keep: Keep,
}

/// What `here` leads to.
fn cluster(name: &str, server: &Cluster) -> fleet::Cluster {
    let environment = LibpqEnvironment { home: None, user: "nobody".to_owned(), variables: BTreeMap::new() };
    fleet::Cluster {
        name: name.to_owned(),
        target: Target::parse(&server.description(), &environment).unwrap(),
        rules: Rules { rule: Rule::Databases("lockers_{tenant}".parse().unwrap()), ignore: Vec::new() },
        roles: Vec::new(),
        connections: 8,
    }
}

impl Site {
    async fn new() -> Self {
        let server = Cluster::start(&Options::default());
        let lockers = Lockers::connected(&server.description()).await;
        Self::of(server, lockers)
    }

    async fn within(vault: Arc<dyn Store>, keyring: Arc<dyn Store>) -> Self {
        let server = Cluster::start(&Options::default());
        Self::of(server, Lockers::within(vault, keyring, Vec::new()).await)
    }

    fn of(server: Cluster, lockers: Lockers) -> Self {
        let clusters = vec![cluster("here", &server)];
        Self { server, lockers, clusters, keep: "6 months".parse().unwrap() }
    }

    fn database(name: &str) -> String {
        format!("lockers_{name}")
    }

    /// A tenant with a database, and a record of it.
    async fn tenant(&self, name: &str, at: DateTime<Utc>) -> Tenant {
        self.server.create_database(&Self::database(name));
        let tenant = self.lockers.tenant(name, at).await;
        self.moved_here(&tenant, name, 2, at).await;
        tenant
    }

    /// Records the database that has the tenant's name now.
    async fn moved_here(&self, tenant: &Tenant, name: &str, sequence: u64, at: DateTime<Utc>) {
        let sql = format!("SELECT oid FROM pg_database WHERE datname = '{}'", Self::database(name));
        let source = Source {
            format: 1,
            installation: self.lockers.installation(),
            locker: tenant.locker(),
            id: RecordId::random(),
            sequence,
            cluster: "here".to_owned(),
            system_identifier: self.server.sql("postgres", "SELECT system_identifier FROM pg_control_system()").trim().to_owned(),
            database_oid: self.server.sql("postgres", &sql).trim().parse().unwrap(),
            reason: SourceReason::Admitted,
            passes_over: Vec::new(),
            created_at: at,
        };
        self.lockers.vault.put_source(&source, &self.lockers.key("worker")).await.unwrap();
    }

    /// A backup that brings back so many bytes.
    async fn sized(&self, tenant: &mut Tenant, at: DateTime<Utc>, bytes: u64) -> Night {
        let (mut manifest, entries) = self.lockers.stored(tenant, at, &[], self.keep).await;
        manifest.totals.bytes_read = bytes;
        self.lockers.commit(tenant, (manifest, entries)).await
    }

    async fn run(&self, now: DateTime<Utc>) -> Result<StatusReport, Failure> {
        let keep = |_: &_| self.keep;
        let status = Status {
            vault: &self.lockers.vault,
            keyring: &self.lockers.keyring,
            clusters: &self.clusters,
            late_after: &|_| Duration::from_secs(26 * 3600),
            keep: &keep,
            overdue_after: TimeDelta::days(2),
        };
        status.run(now).await
    }

    async fn status(&self, now: DateTime<Utc>) -> StatusReport {
        self.run(now).await.unwrap()
    }

    /// Alarms, by kind and object.
    async fn alarms(&self, now: DateTime<Utc>) -> Vec<(AlarmKind, String)> {
        identities(&self.status(now).await)
    }

    async fn quiet(&self, now: DateTime<Utc>) {
        let report = self.status(now).await;
        assert_eq!((identities(&report), report.class), (vec![], None), "{report:#?}");
    }
}

fn identities(report: &StatusReport) -> Vec<(AlarmKind, String)> {
    report.alarms.iter().map(|alarm| (alarm.kind, alarm.object.clone())).collect()
}

fn one(kind: AlarmKind, object: &str) -> Vec<(AlarmKind, String)> {
    vec![(kind, object.to_owned())]
}

fn of<'r>(report: &'r StatusReport, tenant: &str) -> &'r TenantStatus {
    report.tenants.iter().find(|one| one.tenant == tenant).unwrap()
}

fn hours(n: i64) -> TimeDelta {
    TimeDelta::hours(n)
}
