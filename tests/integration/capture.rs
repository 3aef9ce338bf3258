//! Reading a tenant's database: discovery, lock, snapshot, description, rows, archive.

mod archiving;
mod describing;
mod discovering;
mod holding;
mod large_objects;
mod locking;
mod reading;

use std::collections::BTreeMap;

use tenure::{
    chunk::ChunkNameKey,
    format::description::Description,
    postgres::{
        LibpqEnvironment, Target,
        describe::{Described, Describing},
        snapshot::{Opening, Snapshot, SnapshotError},
        source::Job,
        source_tag::SourceTagger,
    },
};

use crate::harness::postgres::Cluster;

/// A lock time limit that only a test that expects it reaches.
const PATIENT: std::time::Duration = std::time::Duration::from_secs(30);

fn target(cluster: &Cluster) -> Target {
    let environment = LibpqEnvironment { home: None, user: "nobody".to_owned(), variables: BTreeMap::new() };
    Target::parse(&cluster.description(), &environment).unwrap()
}

fn tagger() -> SourceTagger {
    let key: ChunkNameKey = serde_json::from_value(serde_json::Value::String("03".repeat(32))).unwrap();
    SourceTagger::new(&key)
}

fn oid_of(cluster: &Cluster, database: &str) -> u32 {
    let literal = database.replace('\'', "''");
    cluster.sql("postgres", &format!("SELECT oid FROM pg_database WHERE datname = '{literal}'")).trim().parse().unwrap()
}

async fn open(cluster: &Cluster, database: &str) -> Result<Snapshot, SnapshotError> {
    let target = target(cluster);
    Opening { target: &target, database, expected_oid: oid_of(cluster, database), lock_timeout: PATIENT }.open().await
}

async fn describe_without(snapshot: &Snapshot, exclude_data: &[String]) -> Described {
    let tenant = "acme".parse().unwrap();
    let describing =
        Describing { tenant: &tenant, cluster: "eu-1", pg_dump: "pg_dump (PostgreSQL) 0", exclude_data, tagger: &tagger() };
    describing.describe(snapshot).await.unwrap()
}

async fn describe(snapshot: &Snapshot) -> Described {
    describe_without(snapshot, &[]).await
}

/// Everything that the jobs give: the rows of each source, by label.
async fn read_all(snapshot: &Snapshot, described: &Described) -> BTreeMap<String, Vec<String>> {
    let mut reader = snapshot.reader().await.unwrap();
    let mut read = BTreeMap::new();
    for source in described.jobs.iter().flat_map(Job::sources) {
        let mut rows = reader.rows(source).await.unwrap();
        let mut lines = Vec::new();
        while let Some(row) = rows.next().await.unwrap() {
            assert_eq!(row.iter().filter(|byte| **byte == b'\n').count(), 1, "one row, one newline");
            assert_eq!(row.last(), Some(&b'\n'));
            lines.push(String::from_utf8_lossy(&row[..row.len() - 1]).into_owned());
        }
        assert!(read.insert(source.label(), lines).is_none(), "{} comes twice", source.label());
    }
    read
}

fn names(description: &Description) -> Vec<String> {
    description.tables.iter().map(|table| format!("{}.{}", table.schema, table.name)).collect()
}
