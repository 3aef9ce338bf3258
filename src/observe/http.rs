//! The worker's own HTTP server: `/metrics`, `/healthz`, `/readyz`. It answers from the board alone, so that no question costs a look at a
//! store or a cluster.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use chrono::Utc;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{board::Board, metrics};
use crate::{
    config::worker::Listen,
    operation::failure::{Failure, FailureClass},
};

/// Open at once; who comes then waits until one ends.
const MOST_CONNECTIONS: usize = 16;

/// For a request's head to come.
const HEAD_WITHIN: Duration = Duration::from_secs(10);

/// For a whole connection, which carries one request: who reads slower is cut off.
const CONNECTION_WITHIN: Duration = Duration::from_secs(30);

/// The server, which is bound and does not answer yet.
pub struct Server {
    listener: TcpListener,
    /// Where it is.
    pub address: SocketAddr,
}

impl Server {
    /// Binds it. `None` where there is to be none, or where nobody configured an address and the default one is taken: that is said in the log.
    ///
    /// # Errors
    /// A configured address cannot be listened on.
    pub async fn bind(configured: Option<Listen>) -> Result<Option<Self>, Failure> {
        let Listen(address) = configured.unwrap_or(Listen(Some(Listen::DEFAULT)));
        let Some(address) = address else { return Ok(None) };
        let bound = match TcpListener::bind(address).await {
            Ok(listener) => listener.local_addr().map(|address| Self { listener, address }),
            Err(error) => Err(error),
        };
        match bound {
            Ok(server) => {
                tracing::info!(listen = %server.address, "serving /metrics, /healthz and /readyz on http://{}", server.address);
                Ok(Some(server))
            }
            Err(error) if configured.is_none() => {
                let hint = "write `listen` below [worker], with another port, or \"none\"";
                tracing::warn!(listen = %address, "nothing serves /metrics: cannot listen on {address}: {error} ({hint})");
                Ok(None)
            }
            Err(error) => Err(Failure::new(
                FailureClass::Failed,
                "cannot-listen",
                address,
                format!("cannot listen on {address}, which is `worker.listen`"),
            )
            .hint("another worker may be there: give each its own port, or write `listen = \"none\"`")
            .because(error)),
        }
    }

    /// Answers until it is stopped; connections at work are cut off then.
    pub async fn serve(self, board: Board, by_tenant: bool, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        loop {
            let accepted = async {
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return std::future::pending().await };
                (self.listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                accepted = accepted => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((socket, _)) => {
                    let (board, stop) = (board.clone(), stop.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            () = answer(socket, board, by_tenant) => {}
                            () = stop.cancelled() => {}
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, mostly. It passes, and nothing else stops for it.
                    tracing::warn!("cannot take a connection on {}: {error}", self.address);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }
}

/// One request, and no other on the same connection: then a time limit for the connection is one for the request.
async fn answer(socket: TcpStream, board: Board, by_tenant: bool) {
    let service = service_fn(move |request| {
        let answer = respond(&request, &board, by_tenant);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).keep_alive(false).max_buf_size(16 << 10);
    let connection = server.serve_connection(TokioIo::new(socket), service);
    // Whoever hung up, sent nonsense or was too slow is nobody's concern here.
    if let Ok(Err(error)) = timeout(CONNECTION_WITHIN, connection).await {
        tracing::debug!("a connection to /metrics ended: {error}");
    }
}

fn respond(request: &Request<Incoming>, board: &Board, by_tenant: bool) -> Response<Full<Bytes>> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return answer;
    }
    match request.uri().path() {
        "/metrics" => match metrics::exposition(board, by_tenant, Utc::now()) {
            Ok(exposition) => {
                let mut answer = text(StatusCode::OK, exposition);
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
                answer
            }
            Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"),
        },
        "/healthz" => match board.health() {
            Ok(()) => text(StatusCode::OK, "ok\n"),
            Err(silence) => {
                text(StatusCode::SERVICE_UNAVAILABLE, format!("the worker's loop has stood still for {} s\n", silence.as_secs()))
            }
        },
        "/readyz" => match board.readiness() {
            Ok(()) => text(StatusCode::OK, "ready\n"),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
        "/" => text(StatusCode::OK, "tenure worker: /metrics /healthz /readyz\n"),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
