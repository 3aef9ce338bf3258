//! Connecting to real servers.

mod hosts;
mod libpq;
mod names;
pub(crate) mod pooler;
mod sources;
mod tls;

use crate::harness::postgres::{Cluster, Options, PASSWORD, shared};
use std::collections::BTreeMap;
use tenure::postgres::{ConnectCause, LibpqEnvironment, Session, Target};

/// A target in surroundings without any file or variable.
fn target(description: &str) -> Target {
    let environment = LibpqEnvironment { home: None, user: "nobody".to_owned(), variables: BTreeMap::new() };
    Target::parse(description, &environment).unwrap()
}

async fn text(session: &Session, sql: &str) -> String {
    session.query_one(sql, &[]).await.unwrap().get(0)
}

/// Why it does not connect.
async fn refusal(target: &Target, database: &str) -> ConnectCause {
    target.connect(database, "tenure test").await.err().expect("must not connect").cause
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
async fn a_uri_is_as_good_as_words() {
    let cluster = shared();
    let password = percent_encoding::utf8_percent_encode(PASSWORD, percent_encoding::NON_ALPHANUMERIC);
    let uri = format!(
        "postgresql://postgres:{password}@127.0.0.1:{}/postgres?application_name=by%20uri&options=-c%20work_mem%3D5MB",
        cluster.port()
    );
    let session = target(&uri).connect("postgres", "tenure test").await.unwrap();
    assert_eq!(text(&session, "SELECT current_setting('application_name')").await, "by uri");
    assert_eq!(text(&session, "SELECT current_setting('work_mem')").await, "5MB");
}

#[tokio::test]
async fn refusals_name_the_place_and_the_cause() {
    let cluster = shared();
    let port = cluster.port();
    let wrong = target(&format!("host=127.0.0.1 port={port} user=postgres password=hunter2"));
    let error = wrong.connect("postgres", "t").await.err().unwrap();
    assert_eq!(error.cause, ConnectCause::WrongPassword);
    assert_eq!(
        error.to_string(),
        format!("127.0.0.1:{port}: database postgres as postgres: the password is wrong, or there is no such role")
    );
    assert!(!format!("{error:?}").contains("hunter2"));

    assert_eq!(
        refusal(&target(&format!("host=127.0.0.1 port={port} user=postgres")), "postgres").await,
        ConnectCause::NoPassword
    );
    assert_eq!(refusal(&target(&cluster.description()), "no\nwhere").await, ConnectCause::NoSuchDatabase);
    let missing_role = target(&cluster.description()).with_login("nobody_here", PASSWORD.into());
    assert_eq!(refusal(&missing_role, "postgres").await, ConnectCause::RoleRefused);
}

#[tokio::test]
async fn older_ways_of_giving_a_password_work_too() {
    let hba = ["host all by_md5 127.0.0.1/32 md5", "host all by_clear 127.0.0.1/32 password"];
    let options = Options { hba: hba.map(str::to_owned).to_vec(), ..Options::default() };
    let cluster = Cluster::start(&options);
    cluster.sql("postgres", "SET password_encryption = md5; CREATE ROLE by_md5 LOGIN PASSWORD 'pass:\\'");
    cluster.sql("postgres", "CREATE ROLE by_clear LOGIN PASSWORD 'pass:\\'");
    for role in ["by_md5", "by_clear"] {
        let description = |password: &str| format!("host=127.0.0.1 port={} user={role} password='{password}'", cluster.port());
        let session = target(&description("pass:\\\\")).connect("postgres", "t").await.unwrap();
        assert_eq!(text(&session, "SELECT current_user::text").await, role);
        assert_eq!(refusal(&target(&description("other")), "postgres").await, ConnectCause::WrongPassword);
        // The password must not be sent where it could be read, if that is asked for.
        let bound = target(&format!("{} channel_binding=require", description("pass:\\\\")));
        assert!(matches!(refusal(&bound, "postgres").await, ConnectCause::Tls(_)));
    }
}

#[tokio::test]
async fn databases_that_are_closed_say_how() {
    let cluster = shared();
    let private = cluster.database("private");
    let closed = cluster.database("closed");
    cluster.sql("postgres", &format!("REVOKE CONNECT ON DATABASE {private} FROM public; CREATE ROLE outsider LOGIN"));
    cluster.sql("postgres", &format!("ALTER DATABASE {closed} ALLOW_CONNECTIONS false"));
    let outsider = target(&cluster.description()).with_login("outsider", "x".into());
    let error = outsider.connect(&private, "t").await.err().unwrap();
    assert_eq!(error.cause, ConnectCause::DatabaseRefused);
    assert_eq!(error.hint(), format!("GRANT CONNECT ON DATABASE \"{private}\" TO \"outsider\"."));
    assert_eq!(refusal(&target(&cluster.description()), &closed).await, ConnectCause::DatabaseClosed);
    cluster.sql("postgres", "CREATE ROLE groups NOLOGIN");
    let group = target(&cluster.description()).with_login("groups", "x".into());
    assert_eq!(refusal(&group, "postgres").await, ConnectCause::RoleRefused);
    cluster.sql("postgres", "CREATE ROLE limited LOGIN CONNECTION LIMIT 0");
    let limited = target(&cluster.description()).with_login("limited", "x".into());
    assert_eq!(refusal(&limited, "postgres").await, ConnectCause::TooManyConnections);
}

#[tokio::test]
async fn the_end_of_a_session_is_noticed() {
    let cluster = shared();
    let session = target(&cluster.description()).connect("postgres", "tenure victim").await.unwrap();
    assert_eq!(session.end_reason(), None);
    let ended = session.ended();
    cluster.sql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tenure victim'");
    session.closed().await;
    ended.await;
    let reason = session.end_reason().unwrap();
    assert!(reason.starts_with("57P01: "), "{reason}");
}

#[tokio::test]
async fn a_dropped_session_leaves_the_server() {
    let cluster = shared();
    let session = target(&cluster.description()).connect("postgres", "tenure leaver").await.unwrap();
    drop(session);
    let watcher = cluster.client("postgres").await;
    loop {
        let count: i64 = watcher
            .query_one("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tenure leaver'", &[])
            .await
            .unwrap()
            .get(0);
        if count == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_a_session_does_can_be_cancelled() {
    for description in [shared().description(), shared().tcp_description()] {
        let session = target(&description).connect("postgres", "tenure test").await.unwrap();
        let query = session.batch_execute("SELECT pg_sleep(600)");
        let cancel = async {
            loop {
                session.cancel().await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        let ended = tokio::select! {
            ended = query => ended,
            never = cancel => never,
        };
        assert_eq!(ended.unwrap_err().code().unwrap().code(), "57014");
    }
}
