//! Cleaning up after a test process, even one that was killed.
//!
//! Statics are not dropped at the end of a test binary, and a panic or `kill -9` runs nothing at all. So every server has a small
//! shell beside it that waits for its standard input to close, which happens whenever this process ends, and then tidies.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A shell that runs a script once this process is gone or the value is dropped, whichever is first.
pub struct Watchdog(Option<Child>);

impl Watchdog {
    /// Starts it. The script gets `arguments` as `$1`, `$2`, …; it runs exactly once.
    pub fn start(script: &str, arguments: &[&str]) -> Self {
        let waiting = format!("trap '' INT TERM HUP; while read -r line; do :; done; {script}");
        let child = Command::new("sh")
            .arg("-c")
            .arg(waiting)
            .arg("watchdog")
            .args(arguments)
            // Never a folder that is about to be removed; never the pipe that `cargo test | tee` waits for.
            .current_dir("/")
            // Who kills this process with its whole group, as `timeout -s KILL` does, does not mean the tidying.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh starts");
        Self(Some(child))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            if let Some(mut stdin) = child.stdin.take() {
                stdin.flush().ok();
            }
            child.wait().ok();
        }
    }
}
