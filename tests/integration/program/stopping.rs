//! Signals: a clean stop with the code that shells expect, and nothing half done.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use crate::harness::{
    postgres::{Cluster, Options},
    program::Program,
};

/// Waits until the program is at work on a tenant, then stops it: exit code, standard output, standard error until then.
fn stop_at_work(mut child: Child, signal: &str) -> (Option<i32>, String, String) {
    let mut said = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    while !said.contains("acme: begins") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it ended before it began: {said}");
    }
    let killed = std::process::Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    // Read to the end, or a full pipe would hold it up.
    std::io::copy(&mut stderr, &mut std::io::sink()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), said)
}

#[test]
fn a_signal_stops_a_backup_cleanly() {
    let cluster = Cluster::start(&Options::default());
    cluster.create_database("tenant_acme");
    cluster.create_database("tenant_later");
    // 130 MB of text: seconds of work.
    cluster.sql("tenant_acme", "CREATE TABLE t AS SELECT n, repeat(md5(n::text), 20) AS s FROM generate_series(1, 200000) n");
    let program = Program::set_up(&cluster, "tenant_{tenant}");
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let mut command = program.command(&["-v", "backup", "--all", "--jobs", "1"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (found, told, said) = stop_at_work(child, signal);
        assert_eq!(found, Some(code), "{signal}: {said}");
        // Neither the one at work nor the one whose turn never came has failed.
        assert!(told.contains("acme    interrupted") && told.contains("later   interrupted"), "{told}");
        assert!(told.contains("2 tenants: 2 interrupted") && !told.contains("failed"), "{told}");
    }
    assert_eq!(program.run(&["list", "acme"]).1.get("backups").map_or(0, |backups| backups.as_array().unwrap().len()), 0);
    program.done(&["backup", "acme"]);
    assert_eq!(program.done(&["verify", "--all", "--identity", "recovery-kit.txt"])["problems"], serde_json::json!([]));
}
