//! `/metrics`, `/healthz` and `/readyz`, over real sockets.

use std::{net::SocketAddr, time::Duration};

use chrono::Utc;
use tenure::{
    config::worker::Listen,
    observe::{board::Board, http::Server},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::sync::{CancellationToken, DropGuard};

fn anywhere() -> Listen {
    Listen(Some(SocketAddr::from(([127, 0, 0, 1], 0))))
}

async fn serve(board: &Board) -> (SocketAddr, DropGuard) {
    let server = Server::bind(Some(anywhere())).await.unwrap().unwrap();
    let (address, stop) = (server.address, CancellationToken::new());
    tokio::spawn(server.serve(board.clone(), true, stop.clone()));
    (address, stop.drop_guard())
}

/// Head and body of the answer.
pub async fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

pub async fn get(address: SocketAddr, path: &str) -> (String, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: worker\r\n\r\n")).await
}

#[tokio::test]
async fn each_path_says_what_it_is_for() {
    let board = Board::new(Utc::now());
    let (address, _stop) = serve(&board).await;
    let (head, body) = get(address, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: application/openmetrics-text"), "{head}");
    assert!(body.contains("tenure_worker_ready 0.0") && body.ends_with("# EOF\n"), "{body}");
    assert_eq!(get(address, "/healthz").await.1, "ok\n");
    let (head, body) = get(address, "/readyz").await;
    assert!(head.starts_with("HTTP/1.1 503"), "{head}");
    assert_eq!(body, "not ready: the worker is starting\n");
    board.ready(Ok(()));
    assert!(get(address, "/readyz").await.0.starts_with("HTTP/1.1 200"));
    board.ready(Err("it is stopping".into()));
    assert_eq!(get(address, "/readyz").await.1, "not ready: it is stopping\n");

    assert!(get(address, "/secret").await.0.starts_with("HTTP/1.1 404"));
    let (head, _) = ask(address, "POST /metrics HTTP/1.1\r\nHost: worker\r\nContent-Length: 0\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 405") && head.contains("allow: GET, HEAD"), "{head}");
    let (head, body) = ask(address, "HEAD /metrics HTTP/1.1\r\nHost: worker\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && body.is_empty(), "{head}");
    let (head, _) = ask(address, &format!("GET /{} HTTP/1.1\r\nHost: worker\r\n\r\n", "x".repeat(100_000))).await;
    assert!(head.starts_with("HTTP/1.1 4"), "{head}");
}

/// Sixteen who send nothing take all places; after the ten seconds that a head may take who comes next is answered.
#[tokio::test]
async fn clients_that_hang_hold_nobody_for_long() {
    let board = Board::new(Utc::now());
    let (address, _stop) = serve(&board).await;
    let mut hanging = Vec::new();
    for _ in 0..20 {
        hanging.push(TcpStream::connect(address).await.unwrap());
    }
    let (_, body) = tokio::time::timeout(Duration::from_secs(60), get(address, "/healthz")).await.expect("it is answered");
    assert_eq!(body, "ok\n");
}

#[tokio::test]
async fn where_it_listens_is_said_and_a_port_that_is_taken_is_named() {
    assert!(Server::bind(Some(Listen(None))).await.unwrap().is_none(), "none is none");
    let first = Server::bind(Some(anywhere())).await.unwrap().unwrap();
    let error = Server::bind(Some(Listen(Some(first.address)))).await.err().expect("it is taken");
    assert!(error.message.contains(&first.address.to_string()), "{error}");
    assert!(error.hint.contains("listen = \"none\""), "{}", error.hint);
}
