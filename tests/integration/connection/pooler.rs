//! Poolers, by the one that everybody uses.

use super::target;
use crate::harness::postgres::{shared, unique};
use crate::harness::watchdog::Watchdog;
use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use tenure::postgres::discover::{DiscoverError, Rule, Rules, discover};
use tenure::postgres::pooler::Pooling;
use tenure::postgres::{ConnectCause, Target};

/// A pgbouncer before the shared cluster; gone when dropped.
pub(crate) struct Bouncer {
    pub(crate) target: Target,
    _folder: tempfile::TempDir,
    _watchdog: Watchdog,
}

pub(crate) fn bouncer(settings: &str) -> Bouncer {
    let folder = tempfile::Builder::new().prefix("tenure-pgbouncer-").tempdir_in("/tmp").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let configuration = folder.path().join("pgbouncer.ini");
    let text = format!(
        "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
         auth_type = any\n{settings}\n",
        shared().socket_folder().display(),
        shared().port()
    );
    // `any` logs everybody in as the one user that the database line names.
    std::fs::write(&configuration, text.replace("\n[pgbouncer]", " user=postgres\n[pgbouncer]")).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        crate::harness::postgres::run(Command::new("chown").arg("-R").arg("postgres:").arg(folder.path()));
    }
    // Not on the PATH of ordinary users.
    let program = "/usr/sbin/pgbouncer";
    let mut command = if root { Command::new("runuser") } else { Command::new(program) };
    if root {
        command.args(["-u", "postgres", "--", program]);
    }
    let mut child = command
        .arg(&configuration)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("pgbouncer starts: scripts/test installs it");
    let watchdog = Watchdog::start("kill \"$1\"", &[&child.id().to_string()]);
    crate::harness::postgres::eventually("pgbouncer", || {
        assert_eq!(child.try_wait().unwrap(), None, "pgbouncer runs: scripts/test installs it");
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    std::thread::spawn(move || child.wait());
    let target = target(&format!("host=127.0.0.1 port={port} user=postgres sslmode=disable"));
    Bouncer { target, _folder: folder, _watchdog: watchdog }
}

async fn pooling(target: &Target, database: &str) -> Pooling {
    target.connect(database, "tenure test").await.unwrap().pooling().await.unwrap()
}

#[tokio::test]
async fn a_direct_connection_is_one() {
    for description in [shared().description(), shared().tcp_description()] {
        let session = target(&description).connect("postgres", "t").await.unwrap();
        assert_eq!(session.pooling().await.unwrap(), Pooling::Direct);
        session.refuse_pooler().await.unwrap();
    }
}

#[tokio::test]
async fn pools_in_transaction_and_statement_mode_are_refused() {
    for settings in [
        "pool_mode = transaction",
        "pool_mode = transaction\ndefault_pool_size = 1",
        "pool_mode = transaction\nserver_round_robin = 1\nmin_pool_size = 3",
        "pool_mode = statement",
    ] {
        let bouncer = bouncer(settings);
        let database = shared().database(&unique("pooled"));
        assert_eq!(pooling(&bouncer.target, &database).await, Pooling::Transaction, "{settings}");
        let session = bouncer.target.connect(&database, "t").await.unwrap();
        let error = session.refuse_pooler().await.unwrap_err();
        assert_eq!(error.cause, ConnectCause::Pooler);
        assert!(error.hint().contains("session mode"));
        let rules = Rules { rule: Rule::Databases("{tenant}".parse().unwrap()), ignore: Vec::new() };
        let error = discover(&bouncer.target, &rules, |_| BTreeMap::new()).await.unwrap_err();
        assert!(matches!(&error, DiscoverError::Connect { source, .. } if source.cause == ConnectCause::Pooler), "{error}");
    }
}

#[tokio::test]
async fn a_pool_in_session_mode_is_fine() {
    for settings in ["pool_mode = session", "pool_mode = session\ndefault_pool_size = 1"] {
        let bouncer = bouncer(settings);
        assert_eq!(pooling(&bouncer.target, "postgres").await, Pooling::Session, "{settings}");
    }
}
