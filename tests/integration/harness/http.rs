//! An HTTP server that misbehaves as told, by itself or in front of a real one.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One request, its body included.
#[derive(Clone)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    raw: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// What to do with a request.
pub enum Action {
    /// Pass it on, and its answer back.
    Forward,
    /// Pass it on, and break the connection instead of answering.
    LoseAnswer,
    /// Status, further header lines, body. It is not passed on.
    Answer(u16, &'static str, Vec<u8>),
    /// A head that promises more bytes than come; then silence.
    Stall(usize),
    /// Silence.
    Hang,
    /// Break the connection; the request is not passed on.
    Refuse,
    /// Pass on half of it, and break both connections.
    CutRequest,
    /// Pass it on, and break the connection in the middle of the answer.
    CutAnswer,
    /// Break the connection, and pass the request on when [`Proxy::release`] is called.
    Hold,
}

/// The server, for as long as the test's runtime lives.
pub struct Proxy {
    /// `http://127.0.0.1:…`
    pub endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
    held: Held,
    upstream: Option<SocketAddr>,
}

type Held = Arc<Mutex<Vec<Request>>>;

impl Proxy {
    /// Starts it. `decide` is asked for each request, with how many came before it.
    pub async fn start(upstream: Option<&str>, decide: impl Fn(&Request, usize) -> Action + Send + Sync + 'static) -> Self {
        let upstream: Option<SocketAddr> = upstream.map(|endpoint| endpoint.strip_prefix("http://").unwrap().parse().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let held = Held::default();
        let (seen, decide, holding) = (Arc::clone(&requests), Arc::new(decide), held.clone());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let (seen, decide) = (Arc::clone(&seen), Arc::clone(&decide));
                tokio::spawn(serve(client, upstream, holding.clone(), move |request| {
                    let mut seen = seen.lock().unwrap();
                    seen.push(request.clone());
                    decide(request, seen.len() - 1)
                }));
            }
        });
        Self { endpoint, requests, held, upstream }
    }

    /// Passes on what was held, and gives the answers' first lines.
    pub async fn release(&self) -> Vec<String> {
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        let mut answers = Vec::new();
        for request in held {
            let answer = forward(self.upstream.unwrap(), &request).await;
            answers.push(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned());
        }
        answers
    }

    /// What came so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(mut client: TcpStream, upstream: Option<SocketAddr>, held: Held, decide: impl Fn(&Request) -> Action) {
    while let Some(request) = read(&mut client).await {
        match decide(&request) {
            Action::Forward => {
                let answer = forward(upstream.unwrap(), &request).await;
                // The answer says that the connection is closed after it.
                client.write_all(&answer).await.ok();
                return;
            }
            Action::LoseAnswer => {
                forward(upstream.unwrap(), &request).await;
                return;
            }
            Action::Answer(status, headers, body) => {
                let head = format!("HTTP/1.1 {status} Said\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
                let body = if request.method == "HEAD" { &[][..] } else { &body };
                if client.write_all(&[head.as_bytes(), body].concat()).await.is_err() {
                    return;
                }
            }
            Action::Stall(bytes) => {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes + 1);
                client.write_all(&[head.as_bytes(), &vec![0; bytes]].concat()).await.ok();
                std::future::pending::<()>().await;
            }
            Action::Hang => std::future::pending::<()>().await,
            Action::Refuse => return,
            Action::CutRequest => {
                let mut server = TcpStream::connect(upstream.unwrap()).await.unwrap();
                // In the middle of the body, where it has one.
                let sent = request.raw.len() - (request.body.len() / 2).max(5);
                server.write_all(&request.raw[..sent]).await.ok();
                return;
            }
            Action::CutAnswer => {
                let answer = forward(upstream.unwrap(), &request).await;
                let head = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(0, |end| end + 4);
                let sent = if answer.len() > head { usize::midpoint(head, answer.len()) } else { head / 2 };
                client.write_all(&answer[..sent]).await.ok();
                return;
            }
            Action::Hold => {
                held.lock().unwrap().push(request);
                return;
            }
        }
    }
}

async fn read(client: &mut TcpStream) -> Option<Request> {
    let mut raw = Vec::new();
    let end = loop {
        if let Some(end) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if client.read_buf(&mut raw).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(raw[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<_> =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let length: usize = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    while raw.len() < end + 4 + length {
        if client.read_buf(&mut raw).await.ok()? == 0 {
            return None;
        }
    }
    Some(Request { method, path, headers, body: raw[end + 4..].to_vec(), raw })
}

async fn forward(upstream: SocketAddr, request: &Request) -> Vec<u8> {
    let mut server = TcpStream::connect(upstream).await.unwrap();
    // Unsigned, so it may be added: then the end of the answer is the end of the connection.
    let line = request.raw.windows(2).position(|window| window == b"\r\n").unwrap();
    server.write_all(&[&request.raw[..line], b"\r\nConnection: close", &request.raw[line..]].concat()).await.unwrap();
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await.unwrap();
    answer
}
