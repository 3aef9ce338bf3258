//! Connecting to real servers.

use crate::harness::postgres::{Cluster, Options, shared};

#[test]
fn replicas_follow() {
    let cluster = Cluster::start(&Options { replicas: 2, ..Options::default() });
    cluster.create_database("host=x");
    cluster.wait_for_replicas();
    for replica in &cluster.replicas {
        assert_eq!(replica.sql("host=x", "SELECT pg_is_in_recovery()").trim(), "t");
    }
}

#[tokio::test]
async fn a_shared_cluster_answers() {
    let database = shared().database("answers");
    let client = shared().client(&database).await;
    let name: String = client.query_one("SELECT current_database()::text", &[]).await.unwrap().get(0);
    assert_eq!(name, database);
}

#[test]
fn tls_works_with_real_certificates() {
    let cluster = Cluster::start(&Options { tls: true, ..Options::default() });
    assert!(cluster.tls().ca.exists());
    assert_eq!(cluster.sql("postgres", "SHOW ssl").trim(), "on");
}
