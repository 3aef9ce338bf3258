//! A tenant's live database: gone from the primary and from every replica, or it is said where it is not; and nobody else's.

mod approvals;
mod obstacles;
mod refusals;
mod replicas;
pub mod walk;

use serde_json::Value;

use crate::harness::{
    postgres::{Cluster, Options, Replica},
    program::Program,
};

/// A server with its replicas, and an installation for its tenants.
pub struct Site {
    pub cluster: Cluster,
    pub program: Program,
}

/// What a tenant has.
const ROWS: &str = "CREATE TABLE t (n int, s text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 500) n";

impl Site {
    /// With a database for each tenant, backed up once.
    pub fn new(options: &Options, tenants: &[&str]) -> Self {
        Self::on(Cluster::start(options), tenants)
    }

    pub fn on(cluster: Cluster, tenants: &[&str]) -> Self {
        let program = Program::new();
        let mut words = program.init(&cluster.description(), "tenant_{tenant}");
        for replica in &cluster.replicas {
            words.extend(["--replica".to_owned(), replica.description()]);
        }
        program.done(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let site = Self { cluster, program };
        site.configure("[cluster.here]\n", "[cluster.here]\nreplica_wait = \"30s\"\n");
        for tenant in tenants {
            site.create(tenant);
        }
        site.program.done(&["backup", "--all"]);
        site
    }

    pub fn create(&self, tenant: &str) {
        let name = format!("tenant_{tenant}");
        self.cluster.create_database(&name);
        self.cluster.sql(&name, ROWS);
    }

    /// A base backup runs in the place of the primary.
    pub fn put_in_place(&self, kept: std::path::PathBuf) -> Replica {
        self.cluster.stop("fast");
        let old = self.cluster.put_back(kept);
        self.configure(&self.cluster.description(), &old.description());
        old
    }

    /// Puts one text for another in the configuration.
    pub fn configure(&self, from: &str, to: &str) {
        let file = self.program.path("tenure.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
    }

    /// Drops a tenant's database: exit code and document.
    pub fn run_drop(&self, tenant: &str, more: &[&str]) -> (i32, Value) {
        let confirm = format!("--confirm={tenant}");
        let mut words = vec!["drop", &confirm];
        words.extend(more);
        words.extend(["--", tenant]);
        // `--json` stands before what may begin with a dash.
        words.insert(0, "--json");
        let output = self.program.command(&words).output().unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{error}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        });
        crate::harness::program::check(&document);
        (output.status.code().unwrap(), document)
    }

    /// Whether the primary has the database, and lets anybody in.
    pub fn state(&self, tenant: &str) -> Option<bool> {
        let name = format!("tenant_{tenant}").replace('\'', "''");
        let said = self
            .cluster
            .sql("postgres", &format!("SELECT datallowconn FROM pg_database WHERE datname = E'{}'", name.replace('\\', "\\\\")));
        match said.trim() {
            "" => None,
            said => Some(said == "t"),
        }
    }

    pub fn oid(&self, tenant: &str) -> String {
        self.cluster.sql("postgres", &format!("SELECT oid FROM pg_database WHERE datname = 'tenant_{tenant}'")).trim().to_owned()
    }

    /// How a tenant is, by `tenants`.
    pub fn tenant(&self, tenant: &str) -> String {
        let said = self.program.done(&["tenants"]);
        let one = said["tenants"].as_array().unwrap().iter().find(|one| one["tenant"] == tenant).cloned();
        one.map_or_else(|| "not listed".to_owned(), |one| one["state"].as_str().unwrap().to_owned())
    }

    /// How the acts of dropping ended that are recorded, by time.
    pub fn acts(&self) -> Vec<String> {
        let runs = self.program.path("vault/runs");
        let files = if runs.exists() { crate::harness::site::walk(&runs) } else { Vec::new() };
        let mut acts: Vec<Value> = files
            .iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
            .map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
            .filter(|act: &Value| act["command"] == "drop")
            .collect();
        acts.sort_by_key(|act| act["ended_at"].as_str().unwrap().to_owned());
        acts.iter().map(|act| act["outcome"].as_str().unwrap().to_owned()).collect()
    }
}

pub fn has(replica: &Replica, oid: &str) -> bool {
    replica.sql("postgres", &format!("SELECT count(*) FROM pg_database WHERE oid = {oid}")).trim() == "1"
}

fn kinds(document: &Value) -> Vec<&str> {
    let mut kinds: Vec<&str> = document["open"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    kinds
}

fn states(document: &Value) -> Vec<(&str, &str)> {
    let nodes = document["nodes"].as_array().unwrap();
    nodes.iter().map(|node| (node["node"].as_str().unwrap(), node["state"].as_str().unwrap())).collect()
}
