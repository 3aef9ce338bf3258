//! Several hosts, and hosts that are not there.

use super::{refusal, target, text};
use crate::harness::postgres::{Cluster, Options, shared};
use std::net::TcpListener;
use std::time::{Duration, Instant};
use tenure::postgres::ConnectCause;

#[tokio::test]
async fn nothing_listening_is_told_from_nobody_answering() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = target(&format!("host=127.0.0.1 port={port} user=u"));
    let error = refused.connect("d", "t").await.err().unwrap();
    assert_eq!(error.cause, ConnectCause::Unreachable);
    assert_eq!(error.to_string(), format!("127.0.0.1:{port}: database d as u: the server cannot be reached"));
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("refused"));
    assert_eq!(refusal(&target("host=/nonexistent user=u"), "d").await, ConnectCause::Unreachable);
    assert_eq!(refusal(&target("host=nowhere.invalid user=u"), "d").await, ConnectCause::Unreachable);

    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    for mode in ["disable", "prefer", "require"] {
        let started = Instant::now();
        let target = target(&format!("host=127.0.0.1 port={port} user=u connect_timeout=2 sslmode={mode}"));
        assert_eq!(refusal(&target, "d").await, ConnectCause::TimedOut { seconds: 2 });
        assert!(started.elapsed() < Duration::from_secs(4), "{mode}");
    }
}

#[tokio::test]
async fn something_else_that_listens_is_not_a_server() {
    use std::io::Write as _;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
        }
    });
    for mode in ["disable", "prefer", "require"] {
        let cause = refusal(&target(&format!("host=127.0.0.1 port={port} user=u sslmode={mode}")), "d").await;
        assert_eq!(cause, ConnectCause::BrokenOff, "{mode}");
    }
}

#[tokio::test]
async fn the_next_host_is_tried_and_the_session_remembers_which() {
    let cluster = shared();
    let folder = cluster.socket_folder().display();
    let list = target(&format!("host=/nonexistent,{folder} port=1,{} user=postgres", cluster.port()));
    let session = list.connect("postgres", "t").await.unwrap();
    assert_eq!(session.target().endpoint(), format!("{folder}:{}", cluster.port()));
    super::names::dump(&list.child_environment("postgres").await.unwrap()).await.unwrap();

    // A server that refuses us ends the search, as in libpq.
    let wrong = target(&format!("host=127.0.0.1,{folder} port={} user=postgres password=wrong", cluster.port()));
    assert_eq!(refusal(&wrong, "postgres").await, ConnectCause::WrongPassword);
    let error = target("host=/nonexistent,/missing user=u").connect("d", "t").await.err().unwrap();
    assert_eq!(
        error.to_string(),
        "/missing:5432: database d as u: the server cannot be reached; before that /nonexistent:5432: the server cannot be reached"
    );
}

#[tokio::test]
async fn primaries_and_standbys_are_told_apart() {
    let cluster = Cluster::start(&Options { replicas: 1, ..Options::default() });
    let folder = cluster.socket_folder().display();
    let (primary, standby) = (cluster.port(), cluster.replicas[0].port());
    for (attributes, expected) in [
        ("any", standby),
        ("primary", primary),
        ("read-write", primary),
        ("standby", standby),
        ("read-only", standby),
        ("prefer-standby", standby),
    ] {
        let list = format!("host={folder},{folder} port={standby},{primary} user=postgres target_session_attrs={attributes}");
        let session = target(&list).connect("postgres", "t").await.unwrap();
        assert_eq!(text(&session, "SELECT current_setting('port')").await, expected.to_string(), "{attributes}");
    }
    let only = |attributes: &str, port: u16| {
        target(&format!("host={folder} port={port} user=postgres target_session_attrs={attributes}"))
    };
    let cause = refusal(&only("primary", standby), "postgres").await;
    assert!(matches!(&cause, ConnectCause::Unsatisfied(why) if why.contains("a standby")), "{cause}");
    assert!(only("prefer-standby", primary).connect("postgres", "t").await.is_ok());
}

#[tokio::test]
async fn the_owner_of_the_socket_can_be_required() {
    let owner = if rustix::process::geteuid().is_root() { "postgres" } else { return };
    let description = shared().description();
    assert!(target(&format!("{description} requirepeer={owner}")).connect("postgres", "t").await.is_ok());
    let cause = refusal(&target(&format!("{description} requirepeer=daemon")), "postgres").await;
    assert!(matches!(&cause, ConnectCause::Unsatisfied(why) if why.contains("runs as postgres")), "{cause}");
}
