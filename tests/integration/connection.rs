//! Connecting to real servers.

use crate::harness::postgres::{Cluster, Options, PASSWORD, shared};
use std::collections::BTreeMap;
use tenure::postgres::{ConnectCause, LibpqEnvironment, Session, Target};

fn target(description: &str) -> Target {
    let environment = LibpqEnvironment { home: None, user: "nobody".to_owned(), variables: BTreeMap::new() };
    Target::parse(description, &environment).unwrap()
}

async fn text(session: &Session, sql: &str) -> String {
    session.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn socket_and_tcp_reach_the_same_server() {
    for description in [shared().description(), shared().tcp_description()] {
        let session = target(&description).connect("postgres", "tenure test").await.unwrap();
        assert_eq!(text(&session, "SELECT current_setting('port')").await, shared().port().to_string());
        assert_eq!(text(&session, "SELECT current_setting('application_name')").await, "tenure test");
        assert_eq!(session.server_version() / 10_000, crate::harness::postgres::major());
        assert!(!session.is_encrypted());
    }
}

#[tokio::test]
async fn refusals_name_the_place_and_the_cause() {
    let port = shared().port();
    let wrong = target(&format!("host=127.0.0.1 port={port} user=postgres password=hunter2"));
    let error = wrong.connect("postgres", "t").await.err().unwrap();
    assert_eq!(error.cause, ConnectCause::WrongPassword);
    assert_eq!(
        error.to_string(),
        format!("127.0.0.1:{port}: database postgres as postgres: the password is wrong, or there is no such role")
    );
    let none = target(&format!("host=127.0.0.1 port={port} user=postgres"));
    assert_eq!(none.connect("postgres", "t").await.err().unwrap().cause, ConnectCause::NoPassword);
    let missing = target(&shared().description()).connect("nowhere", "t").await.err().unwrap();
    assert_eq!(missing.cause, ConnectCause::NoSuchDatabase);
    let role = target(&shared().description()).with_login("nobody_here", PASSWORD.into()).connect("postgres", "t").await;
    assert_eq!(role.err().unwrap().cause, ConnectCause::RoleRefused);
}

#[test]
fn replicas_follow() {
    let cluster = Cluster::start(&Options { replicas: 2, ..Options::default() });
    cluster.create_database("host=x");
    cluster.wait_for_replicas();
    for replica in &cluster.replicas {
        assert_eq!(replica.sql("host=x", "SELECT pg_is_in_recovery()").trim(), "t");
    }
}
