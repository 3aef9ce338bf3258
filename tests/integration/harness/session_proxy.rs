//! Between tenure and a PostgreSQL server: sees every statement, and breaks the connection or stops at the one that it is told.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::postgres::Cluster;

/// How a connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// Before the server sees the statement.
    Before,
    /// In the middle of the answer's first message.
    Within,
    /// The server has done it, and nobody hears of it.
    After,
    /// It does not break: the server never sees the statement, and nothing is heard any more.
    Silence,
    /// It does not break: the server has done it, and nothing is heard any more.
    Deaf,
    /// It does not break: the server sees the statement when the test lets it go on. See [`SessionProxy::stop_before`].
    Stop,
}

/// A statement that the server does not see yet.
#[derive(Default)]
pub struct Stopped {
    reached: Notify,
    go_on: Notify,
}

impl Stopped {
    /// Resolves when it came.
    pub async fn reached(&self) {
        self.reached.notified().await;
    }

    /// Lets it go on, now or when it comes.
    pub fn go_on(&self) {
        self.go_on.notify_one();
    }
}

/// The proxy, for as long as the test's runtime lives.
pub struct SessionProxy {
    folder: tempfile::TempDir,
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    server: PathBuf,
    statements: Mutex<Vec<String>>,
    plan: Mutex<Option<(String, usize, Break)>>,
    stopped: Mutex<Arc<Stopped>>,
}

impl SessionProxy {
    /// In front of a server's Unix socket.
    pub fn start(server: &Cluster) -> Self {
        let folder = tempfile::Builder::new().prefix("tenure-px-").tempdir_in("/tmp").unwrap();
        let socket = format!(".s.PGSQL.{}", server.port());
        let listener = UnixListener::bind(folder.path().join(&socket)).unwrap();
        let server_socket = server.socket_folder().join(&socket);
        let shared = Arc::new(Shared {
            server: server_socket,
            statements: Mutex::default(),
            plan: Mutex::default(),
            stopped: Mutex::default(),
        });
        let serving = shared.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, serving.clone()));
            }
        });
        Self { folder, port: server.port(), shared }
    }

    /// libpq's words for the superuser through the proxy, without a database.
    pub fn description(&self) -> String {
        format!("host={} port={} user=postgres connect_timeout=2", self.folder.path().display(), self.port)
    }

    /// Where its socket is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Every statement that came, as `application: text`, without numbers; connecting and rows of COPY count as statements.
    pub fn statements(&self) -> Vec<String> {
        self.shared.statements.lock().unwrap().clone()
    }

    /// Forgets what came, and breaks the connection at the `nth` statement that is `statement`.
    pub fn plan(&self, statement: &str, nth: usize, how: Break) {
        self.shared.statements.lock().unwrap().clear();
        *self.shared.plan.lock().unwrap() = Some((statement.to_owned(), nth, how));
    }

    /// As [`SessionProxy::plan`], to stop there.
    pub fn stop_before(&self, statement: &str, nth: usize) -> Arc<Stopped> {
        let stopped = Arc::<Stopped>::default();
        *self.shared.stopped.lock().unwrap() = stopped.clone();
        self.plan(statement, nth, Break::Stop);
        stopped
    }

    /// Forgets what came and what was planned. Gives whether it never happened.
    pub fn reset(&self) -> bool {
        self.shared.statements.lock().unwrap().clear();
        self.shared.plan.lock().unwrap().take().is_some()
    }
}

impl Shared {
    fn due(&self, statement: String) -> Option<Break> {
        let mut plan = self.plan.lock().unwrap();
        let due = match &mut *plan {
            Some((wanted, nth, how)) if *wanted == statement => {
                *nth -= 1;
                (*nth == 0).then_some(*how)
            }
            _ => None,
        };
        if due.is_some() {
            *plan = None;
        }
        self.statements.lock().unwrap().push(statement);
        due
    }
}

/// Without what is random or counted.
fn shape(statement: &str) -> String {
    let statement = statement.split(" PASSWORD ").next().unwrap_or_default();
    if let Some((before, (_, after))) =
        statement.split_once(" SNAPSHOT '").and_then(|(b, rest)| Some((b, rest.split_once('\'')?)))
    {
        return format!("{} SNAPSHOT{}", shape(before), shape(after));
    }
    let mut shape = String::new();
    for word in statement.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let (stem, end) = word.split_at(word.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(word.len()));
        let is_random = stem.len() >= 16 && stem.bytes().any(|byte| byte.is_ascii_digit());
        match is_random {
            true => shape.push('*'),
            false => stem.split_inclusive(|c: char| c.is_ascii_digit()).for_each(|part| {
                let letters = part.trim_end_matches(|c: char| c.is_ascii_digit());
                shape.push_str(letters);
                if letters.len() < part.len() && !shape.ends_with('#') {
                    shape.push('#');
                }
            }),
        }
        shape.push_str(end);
    }
    shape
}

#[derive(Clone)]
struct Connection {
    shared: Arc<Shared>,
    /// Breaks it.
    broken: CancellationToken,
    /// What happens to the answer.
    answer: Arc<Mutex<Option<Break>>>,
}

async fn serve(mut client: UnixStream, shared: Arc<Shared>) {
    let Ok(mut server) = UnixStream::connect(&shared.server).await else { return };
    let connection = Connection { shared, broken: CancellationToken::new(), answer: Arc::default() };
    let Ok(length) = client.read_u32().await else { return };
    let mut startup = vec![0; length as usize - 4];
    if client.read_exact(&mut startup).await.is_err() {
        return;
    }
    let words: Vec<String> =
        startup[4..].split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let application =
        words.iter().position(|word| word == "application_name").map(|at| shape(&words[at + 1])).unwrap_or_default();
    if words.iter().any(|word| word == "user") && connection.meet(format!("{application}: connect")).await.is_err() {
        if !connection.broken.is_cancelled() {
            while client.read_u8().await.is_ok() {}
        }
        return;
    }
    if server.write_all(&[&length.to_be_bytes()[..], &startup].concat()).await.is_err() {
        return;
    }
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! {
        () = connection.ask(&application, from_client, to_server) => {}
        () = connection.answer(from_server, to_client) => {}
        () = connection.broken.cancelled() => {}
    }
}

impl Connection {
    /// Looks whether a statement is the one; `Err` means that it goes no further.
    async fn meet(&self, statement: String) -> Result<(), ()> {
        match self.shared.due(statement) {
            None => Ok(()),
            Some(Break::Before) => {
                self.broken.cancel();
                Err(())
            }
            Some(Break::Silence) => Err(()),
            Some(Break::Stop) => {
                let stopped = self.shared.stopped.lock().unwrap().clone();
                stopped.reached.notify_one();
                stopped.go_on.notified().await;
                Ok(())
            }
            Some(how) => {
                *self.answer.lock().unwrap() = Some(how);
                Ok(())
            }
        }
    }

    async fn ask(&self, application: &str, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut prepared: HashMap<Vec<u8>, String> = HashMap::new();
        let (mut bound, mut copying) = (String::new(), false);
        while let Some((kind, message)) = message(&mut from).await {
            let mut words = message[5..].split(|byte| *byte == 0);
            let mut next = || words.next().unwrap_or_default().to_vec();
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            let statement = match kind {
                b'Q' => Some(text(next())),
                b'P' => {
                    let name = next();
                    prepared.insert(name, text(next()));
                    None
                }
                b'B' => {
                    next();
                    bound = prepared.get(&next()).cloned().unwrap_or_default();
                    None
                }
                b'E' => Some(bound.clone()),
                b'd' if !copying => Some("a row".to_owned()),
                b'c' => Some("the end of the rows".to_owned()),
                _ => None,
            };
            copying = kind == b'd';
            if let Some(statement) = statement
                && self.meet(shape(&format!("{application}: {statement}"))).await.is_err()
            {
                // Where it is not broken, everything is swallowed, until the client gives it up.
                while from.read_u8().await.is_ok() {}
                return;
            }
            if to.write_all(&message).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        while let Some((kind, message)) = message(&mut from).await {
            let how = *self.answer.lock().unwrap();
            match how {
                None => {
                    if to.write_all(&message).await.is_err() {
                        return;
                    }
                }
                Some(Break::Within) => {
                    to.write_all(&message[..3]).await.ok();
                    return;
                }
                Some(Break::Deaf) => {}
                // Until the server waits for something else.
                Some(_) if matches!(kind, b'Z' | b'G') => return,
                Some(_) => {}
            }
        }
    }
}

/// The next message: its type, and all of it.
async fn message(from: &mut OwnedReadHalf) -> Option<(u8, Vec<u8>)> {
    let kind = from.read_u8().await.ok()?;
    let length = from.read_u32().await.ok()?;
    let mut message = vec![0; length as usize + 1];
    message[0] = kind;
    message[1..5].copy_from_slice(&length.to_be_bytes());
    from.read_exact(&mut message[5..]).await.ok()?;
    Some((kind, message))
}
