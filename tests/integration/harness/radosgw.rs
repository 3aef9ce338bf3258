//! Ceph's radosgw: strict about signatures, honours create-only PUTs in plain buckets and not in versioned ones.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::s3::S3Server;
use super::watchdog::Watchdog;

/// A running server.
pub struct Radosgw {
    endpoint: String,
    _watchdog: Watchdog,
}

impl S3Server for Radosgw {
    fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

/// The server that all tests share. Started by the first who asks, gone with the test process.
pub fn shared() -> &'static Radosgw {
    static SERVER: OnceLock<Radosgw> = OnceLock::new();
    SERVER.get_or_init(|| {
        // The ports may be taken between choosing and using them; then others are chosen.
        let mut said = String::new();
        for _ in 0..3 {
            match try_start() {
                Ok(server) => return server,
                Err(error) => said = error,
            }
        }
        panic!("radosgw does not start: {said}");
    })
}

fn try_start() -> Result<Radosgw, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/lib/radosgw").display().to_string();
    let folder = tempfile::Builder::new().prefix("tenure-ceph-").tempdir().unwrap().keep().display().to_string();
    let free: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<String> = free.iter().map(|listener| listener.local_addr().unwrap().port().to_string()).collect();
    drop(free);
    let watchdog = Watchdog::start(r#""$1" stop "$2""#, &[&script, &folder]);
    // The daemons live on: nothing of this process's may be theirs but what the script gave them.
    let started = Command::new(&script).args(["start", &folder, &ports[0], &ports[1]]).stdin(Stdio::null()).output().unwrap();
    if !started.status.success() {
        return Err(String::from_utf8_lossy(&started.stderr).into_owned());
    }
    Ok(Radosgw { endpoint: format!("http://127.0.0.1:{}", ports[0]), _watchdog: watchdog })
}
