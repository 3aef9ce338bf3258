//! Real PostgreSQL clusters: private, on free loopback ports and a Unix socket, with streaming replicas where asked for.
//!
//! Most tests take [`shared`] and make a database of their own with [`Cluster::database`]. A test that changes server settings, stops
//! the server, needs replicas or TLS starts a [`Cluster::start`] of its own, which is removed when dropped.

use super::{installation, watchdog::Watchdog};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The superuser's password over TCP. The socket trusts everybody who reaches it; its folder is private.
pub const PASSWORD: &str = "swordfish 'and\\quotes";

/// What a cluster should be like. The default is fast and forgets everything at a power cut.
#[derive(Clone, Default)]
pub struct Options {
    /// Streaming replicas, each with a slot of its own.
    pub replicas: usize,
    /// More replicas, each of the first replica and not of the primary. They come after the others.
    pub cascaded: usize,
    /// A server certificate for `localhost`, signed by a CA of its own: see [`Cluster::tls`].
    pub tls: bool,
    /// What kind of server certificate it is.
    pub certificate: Certificate,
    /// Real fsyncs and full page writes.
    pub durable: bool,
    /// Lines for `postgresql.conf`, the last word on everything.
    pub settings: Vec<String>,
    /// Lines put before all others in `pg_hba.conf`.
    pub hba: Vec<String>,
    /// Another installation than [`bin`]'s: the folder of its programs. The cluster runs on a copy of its own.
    pub programs: Option<PathBuf>,
    /// A folder with the files of an extension, which the cluster's own copy of the installation gets.
    pub extension: Option<PathBuf>,
}

/// Server certificates as people make them, all for `localhost`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Certificate {
    /// Version 3 with the name among the alternative names.
    #[default]
    Modern,
    /// For `*.example.test` and the address 127.0.0.1, and not for `localhost`.
    Wildcard,
    /// As PostgreSQL's documentation makes it: version 1, the name in the subject only.
    Version1,
    /// Signed by itself, the name in the subject only; its own root.
    SelfSigned,
}

/// Certificates of a cluster with TLS. The private keys are readable by this process only.
pub struct Tls {
    /// The CA that signed everything here.
    pub ca: PathBuf,
    /// A CA that signed nothing here.
    pub other_ca: PathBuf,
    /// A client certificate for the role `certified`, and its key.
    pub client: (PathBuf, PathBuf),
}

/// One running server and its replicas. Stopped and removed on drop, or when the process ends.
pub struct Cluster {
    folder: PathBuf,
    programs: PathBuf,
    port: u16,
    tls: Option<Tls>,
    /// Streaming replicas, in the order of their making.
    pub replicas: Vec<Replica>,
    _watchdog: Watchdog,
}

/// A streaming replica.
pub struct Replica {
    data: PathBuf,
    programs: PathBuf,
    sockets: PathBuf,
    port: u16,
}

/// The cluster that most tests share: no TLS, no replicas.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| Cluster::start(&Options::default()))
}

/// Where PostgreSQL's programs are: `TENURE_TEST_PG_BIN`, or the newest that Debian installed.
pub fn bin() -> &'static Path {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| {
        if let Some(configured) = std::env::var_os("TENURE_TEST_PG_BIN") {
            return PathBuf::from(configured);
        }
        let majors = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().filter_map(Result::ok);
        let newest = majors
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|major| Path::new(&format!("/usr/lib/postgresql/{major}/bin/initdb")).exists())
            .max();
        let Some(newest) = newest else {
            panic!(
                "no PostgreSQL server programs in /usr/lib/postgresql/*/bin: run scripts/test, which installs them, \
                 or set TENURE_TEST_PG_BIN"
            );
        };
        PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"))
    })
}

/// The major version of the programs in [`bin`].
pub fn major() -> u32 {
    let version = String::from_utf8(run(Command::new(bin().join("postgres")).arg("--version")).stdout).unwrap();
    let number = version.split_whitespace().nth(2).unwrap();
    number.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// A name that no other test in this process uses: `stem_17`.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{stem}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Cluster {
    /// Makes and starts a cluster, and its replicas. Takes about two seconds, and one more per replica.
    ///
    /// # Panics
    /// If PostgreSQL's programs are missing or anything fails, with what the program said.
    pub fn start(options: &Options) -> Self {
        let folder = private_folder();
        let data = folder.join("primary");
        let programs = match (&options.programs, &options.extension) {
            (None, None) => bin().to_owned(),
            (other, extension) => installation::copy(other.as_deref().unwrap_or(bin()), &folder, extension.as_deref()),
        };
        // `as_server` stands in $2 as words, empty for an ordinary user.
        let watchdog = Watchdog::start(
            r#"for data in "$1"/*/; do [ -f "$data/postmaster.pid" ] && $2 "$3/pg_ctl" stop -D "$data" -m immediate -s; done; for n in 1 2 3 4 5; do rm -rf "$1" && break; sleep 1; done"#,
            &[folder.to_str().unwrap(), if is_root() { "runuser -u postgres --" } else { "" }, programs.to_str().unwrap()],
        );
        let password_file = folder.join("password");
        write_as_server(&password_file, PASSWORD);
        run(as_server(&programs, "initdb")
            .arg("-D")
            .arg(&data)
            .args(["-U", "postgres", "--auth=trust", "--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C.UTF-8"])
            .arg(format!("--pwfile={}", password_file.display())));

        let tls = options.tls.then(|| make_certificates(&folder, &data, options.certificate));
        let mut settings = vec![
            "listen_addresses = '127.0.0.1'".to_owned(),
            format!("unix_socket_directories = '{}'", folder.display()),
            "max_connections = 100".to_owned(),
            "shared_buffers = 64MB".to_owned(),
            "wal_level = logical".to_owned(),
            "max_prepared_transactions = 4".to_owned(),
            "jit = off".to_owned(),
            "log_line_prefix = '%m [%p] %q%u@%d %a '".to_owned(),
            "lc_messages = 'C'".to_owned(),
        ];
        if !options.durable {
            settings.extend(["fsync = off", "synchronous_commit = off", "full_page_writes = off"].map(str::to_owned));
        }
        if tls.is_some() {
            settings.extend(["ssl = on", "ssl_ca_file = 'ca.crt'"].map(str::to_owned));
        }
        if options.cascaded > 0 {
            // No base backup is taken of a standby without.
            settings.push("full_page_writes = on".to_owned());
        }
        settings.extend(options.settings.iter().cloned());
        let mut hba = options.hba.clone();
        hba.extend(
            ["local all all trust", "local replication all trust", "host all all 127.0.0.1/32 scram-sha-256"].map(str::to_owned),
        );
        write_as_server(&data.join("pg_hba.conf"), &(hba.join("\n") + "\n"));
        let written = std::fs::read_to_string(data.join("postgresql.conf")).unwrap();
        write_as_server(&data.join("postgresql.conf"), &format!("{written}\n{}\n", settings.join("\n")));

        let port = start_on_free_port(&programs, &data);
        let mut cluster = Self { folder, programs, port, tls, replicas: Vec::new(), _watchdog: watchdog };
        for number in 1..=options.replicas {
            cluster.add_replica(number, port);
        }
        for number in 1..=options.cascaded {
            let first = cluster.replicas[0].port();
            cluster.add_replica(options.replicas + number, first);
        }
        cluster
    }

    /// A replica of the server on a port.
    fn add_replica(&mut self, number: usize, port: u16) {
        let data = self.folder.join(format!("replica{number}"));
        run(as_server(&self.programs, "pg_basebackup")
            .arg("-D")
            .arg(&data)
            .arg(format!("--dbname=host={} port={port} user=postgres application_name=replica{number}", self.folder.display()))
            .args(["-R", "-X", "stream", "--checkpoint=fast", "--no-sync", "-C", "-S"])
            .arg(format!("replica{number}")));
        let port = start_on_free_port(&self.programs, &data);
        self.replicas.push(Replica { data, programs: self.programs.clone(), sockets: self.folder.clone(), port });
    }

    /// A base backup, as somebody keeps it: a server by itself, that is not started yet. See [`Cluster::put_back`].
    pub fn base_backup(&self, name: &str) -> PathBuf {
        let data = self.folder.join(name);
        run(as_server(&self.programs, "pg_basebackup")
            .arg("-D")
            .arg(&data)
            .arg(format!("--dbname=host={} port={} user=postgres", self.folder.display(), self.port))
            .args(["-X", "stream", "--checkpoint=fast", "--no-sync"]));
        data
    }

    /// Starts a base backup on a port of its own.
    pub fn put_back(&self, data: PathBuf) -> Replica {
        let port = start_on_free_port(&self.programs, &data);
        Replica { data, programs: self.programs.clone(), sockets: self.folder.clone(), port }
    }

    /// libpq's words for the superuser on the Unix socket, without a database.
    pub fn description(&self) -> String {
        format!("host={} port={} user=postgres", self.folder.display(), self.port)
    }

    /// libpq's words for the superuser over TCP, without a database; the password is in them.
    pub fn tcp_description(&self) -> String {
        format!(
            "host=127.0.0.1 port={} user=postgres password='{}'",
            self.port,
            PASSWORD.replace('\\', "\\\\").replace('\'', "\\'")
        )
    }

    /// The folder of the Unix socket.
    pub fn socket_folder(&self) -> &Path {
        &self.folder
    }

    /// The port, over TCP and in the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data directory of the primary.
    pub fn data(&self) -> PathBuf {
        self.folder.join("primary")
    }

    /// The certificates, where [`Options::tls`] was set.
    pub fn tls(&self) -> &Tls {
        self.tls.as_ref().expect("started with tls")
    }

    /// Creates an empty database with a name of its own, and gives the name.
    pub fn database(&self, stem: &str) -> String {
        let name = unique(stem);
        self.create_database(&name);
        name
    }

    /// Creates an empty database. The name may be anything.
    pub fn create_database(&self, name: &str) {
        self.sql("postgres", &format!("CREATE DATABASE {}", quoted(name)));
    }

    /// Runs SQL as the superuser and gives what it returned: columns by `|`, rows by newlines.
    ///
    /// # Panics
    /// If any statement fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        psql(&self.programs, &self.folder, self.port, database, sql)
    }

    /// The folder of its programs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// One of its programs as the superuser's, pointed at a database.
    pub fn program(&self, name: &str, database: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.env_clear().env("PGHOST", &self.folder).env("PGPORT", self.port.to_string()).env("PGUSER", "postgres");
        command.env("PGDATABASE", database);
        command
    }

    /// A connection as the superuser over the socket.
    pub async fn client(&self, database: &str) -> tokio_postgres::Client {
        client(&self.folder, self.port, database).await
    }

    /// Stops the primary: `fast`, `immediate` or `smart`.
    pub fn stop(&self, mode: &str) {
        stop(&self.programs, &self.data(), mode);
    }

    /// Starts it again on the same port.
    pub fn restart(&self) {
        stop(&self.programs, &self.data(), "fast");
        start(&self.programs, &self.data(), self.port).unwrap();
    }

    /// Starts it again after [`Cluster::stop`].
    pub fn start_again(&self) {
        start(&self.programs, &self.data(), self.port).unwrap();
    }

    /// Waits until every replica has replayed what the primary has written so far.
    pub fn wait_for_replicas(&self) {
        // The insert position may lie behind the header of a page on which there is no record yet, where no replica ever gets.
        self.sql("postgres", "CHECKPOINT");
        let lsn = self.sql("postgres", "SELECT pg_current_wal_flush_lsn()");
        for replica in &self.replicas {
            eventually("replay", || {
                replica.sql("postgres", &format!("SELECT pg_last_wal_replay_lsn() >= '{}'", lsn.trim())).trim() == "t"
            });
        }
    }

    /// The server's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("primary.log")).unwrap_or_default()
    }
}

impl Replica {
    /// libpq's words for the superuser on the Unix socket, without a database.
    pub fn description(&self) -> String {
        format!("host={} port={} user=postgres", self.sockets.display(), self.port)
    }

    /// The port, over TCP and in the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As [`Cluster::sql`].
    pub fn sql(&self, database: &str, sql: &str) -> String {
        psql(&self.programs, &self.sockets, self.port, database, sql)
    }

    /// As [`Cluster::client`].
    pub async fn client(&self, database: &str) -> tokio_postgres::Client {
        client(&self.sockets, self.port, database).await
    }

    /// As [`Cluster::stop`].
    pub fn stop(&self, mode: &str) {
        stop(&self.programs, &self.data, mode);
    }

    /// Starts it again after [`Replica::stop`].
    pub fn start_again(&self) {
        start(&self.programs, &self.data, self.port).unwrap();
    }

    /// Makes it a primary.
    pub fn promote(&self) {
        run(as_server(&self.programs, "pg_ctl").args(["promote", "-s", "-w", "-D"]).arg(&self.data));
    }
}

/// `"name"`, as SQL wants it.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Asks until it is so.
///
/// # Panics
/// After 30 seconds.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited 30 seconds for: {what}");
        std::thread::yield_now();
    }
}

async fn client(sockets: &Path, port: u16, database: &str) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config.host_path(sockets).port(port).user("postgres").dbname(database);
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("the test cluster answers");
    tokio::spawn(connection);
    client
}

fn psql(programs: &Path, sockets: &Path, port: u16, database: &str, sql: &str) -> String {
    let output = run(Command::new(programs.join("psql"))
        .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", sql])
        .env("PGHOST", sockets)
        .env("PGPORT", port.to_string())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", database));
    String::from_utf8(output.stdout).unwrap()
}

fn stop(programs: &Path, data: &Path, mode: &str) {
    run(as_server(programs, "pg_ctl").args(["stop", "-s", "-w", "-m", mode, "-D"]).arg(data));
}

/// The port may be taken between choosing and using it, by another test process; then another is chosen.
fn start_on_free_port(programs: &Path, data: &Path) -> u16 {
    for _ in 0..5 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if start(programs, data, port).is_ok() {
            return port;
        }
    }
    panic!("the server does not start: {}", std::fs::read_to_string(data.with_extension("log")).unwrap_or_default());
}

fn start(programs: &Path, data: &Path, port: u16) -> Result<(), String> {
    let mut command = as_server(programs, "pg_ctl");
    command
        .args(["start", "-s", "-w", "-t", "60", "-o"])
        .arg(format!("-p {port}"))
        .arg("-D")
        .arg(data)
        .arg("-l")
        .arg(data.with_extension("log"));
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    if output.success() { Ok(()) } else { Err(format!("pg_ctl start: {output}")) }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A server program, as a user who may run it.
fn as_server(programs: &Path, program: &str) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(programs.join(program));
        command
    } else {
        Command::new(programs.join(program))
    };
    // runuser keeps the working directory, which postgres may not enter.
    command.current_dir("/").env("LC_ALL", "C");
    command
}

/// A folder that only the server's user and we can enter. Its path is short: a socket's may have 107 bytes.
fn private_folder() -> PathBuf {
    let folder = tempfile::Builder::new().prefix("tenure-pg-").tempdir_in("/tmp").unwrap().keep();
    give_to_server(&folder);
    folder
}

fn write_as_server(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    give_to_server(path);
}

fn give_to_server(path: &Path) {
    if is_root() {
        run(Command::new("chown").arg("postgres:").arg(path));
    }
}

/// A CA, another one, a server certificate for `localhost` (not for 127.0.0.1) and a client certificate for the role `certified`.
fn make_certificates(folder: &Path, data: &Path, kind: Certificate) -> Tls {
    let tls = folder.join("tls");
    std::fs::create_dir(&tls).unwrap();
    let openssl = |arguments: &str| run(Command::new("openssl").args(arguments.split(' ')).current_dir(&tls));
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    for ca in ["ca", "other"] {
        openssl(&format!("req -x509 {new_key} -days 30 -subj /CN=tenure-test-{ca} -keyout {ca}.key -out {ca}.crt"));
    }
    let names = if kind == Certificate::Wildcard { "DNS:*.example.test,IP:127.0.0.1" } else { "DNS:localhost" };
    for (name, subject, extension) in [
        ("server", "localhost", format!("subjectAltName={names}")),
        ("client", "certified", "extendedKeyUsage=clientAuth".to_owned()),
    ] {
        openssl(&format!("req {new_key} -subj /CN={subject} -keyout {name}.key -out {name}.csr"));
        std::fs::write(tls.join(format!("{name}.ext")), extension).unwrap();
        let extensions =
            if name == "server" && kind == Certificate::Version1 { String::new() } else { format!("-extfile {name}.ext ") };
        openssl(&format!(
            "x509 -req -days 30 -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial {extensions}-out {name}.crt"
        ));
    }
    if kind == Certificate::SelfSigned {
        openssl(&format!("req -x509 {new_key} -days 30 -subj /CN=localhost -keyout server.key -out server.crt"));
        std::fs::copy(tls.join("server.crt"), tls.join("ca.crt")).unwrap();
    }
    for name in ["ca.crt", "server.crt", "server.key"] {
        std::fs::copy(tls.join(name), data.join(name)).unwrap();
        give_to_server(&data.join(name));
    }
    Tls { ca: tls.join("ca.crt"), other_ca: tls.join("other.crt"), client: (tls.join("client.crt"), tls.join("client.key")) }
}

/// Runs a program to its end.
///
/// # Panics
/// If it is missing or fails, with all that it said.
pub fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!("{command:?} does not start ({error}): run scripts/test, which installs what is missing");
    });
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
