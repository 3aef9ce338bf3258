//! The program itself, killed at random moments and asked to stop.

use std::process::{Child, Stdio};

use crate::harness::{
    postgres::{Cluster, Options, eventually, unique},
    program::Program,
};

fn start(program: &Program, into: &str) -> Child {
    let mut command = program.command(&["restore", "acme", "--identity", "recovery-kit.txt", "--into", into]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Databases and roles of unfinished restores.
fn left(server: &Cluster) -> Vec<String> {
    let names = server.sql(
        "postgres",
        "SELECT 'DATABASE ' || datname FROM pg_database WHERE datname LIKE 'tenure%'
         UNION ALL SELECT 'ROLE ' || rolname FROM pg_roles WHERE rolname LIKE 'tenure%'",
    );
    names.lines().map(str::to_owned).collect()
}

#[test]
fn killed_at_any_moment_it_leaves_nothing_under_the_name_and_the_next_run_succeeds() {
    let server = Cluster::start(&Options::default());
    server.create_database("tenant_acme");
    server.sql(
        "tenant_acme",
        "CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t SELECT n, repeat(md5(n::text), 10) FROM generate_series(1, 20000) n;
         CREATE INDEX ON t (s); CREATE TABLE u AS SELECT * FROM t",
    );
    let program = Program::set_up(&server, "tenant_{tenant}");
    program.done(&["backup", "--all"]);
    let into = unique("killed");
    let started = std::time::Instant::now();
    program.done(&["restore", "acme", "--identity", "recovery-kit.txt", "--into", &unique("whole")]);
    let whole = started.elapsed();
    assert_eq!(left(&server), Vec::<String>::new());

    let exists = || server.sql("postgres", &format!("SELECT count(*) FROM pg_database WHERE datname = '{into}'")).trim() == "1";
    for tenth in 1..10_u32 {
        let mut child = start(&program, &into);
        // The moment is what is tested: one that comes early or late is as good.
        std::thread::sleep(whole * tenth / 10);
        child.kill().unwrap();
        child.wait().unwrap();
        // The server still works for a moment on what it was told.
        let busy =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tenure%' OR application_name LIKE 'pg_restore%'";
        eventually("the sessions of the killed run end", || server.sql("postgres", busy).trim() == "0");
        if exists() {
            // Killed after the rename: then it is all there.
            assert_eq!(server.sql(&into, "SELECT count(*) FROM t").trim(), "20000");
            server.sql("postgres", &format!("DROP DATABASE {into}"));
        }
    }
    let leftovers = left(&server);
    let restored = program.done(&["restore", "acme", "--identity", "recovery-kit.txt", "--into", &into]);
    assert_eq!(restored["proven"], true);
    let notes = restored["notes"].to_string();
    for name in &leftovers {
        assert!(notes.contains(name.split_once(' ').unwrap().1), "{name} in {notes}");
    }
    // `check` names it as well, with what removes it.
    let (_, checked) = program.run(&["check"]);
    let warnings = checked["findings"].as_array().unwrap();
    let left_behind = warnings.iter().find(|finding| finding["message"].to_string().contains("did not end"));
    assert_eq!(left_behind.is_some(), !leftovers.is_empty(), "{checked:#}");
    if let Some(finding) = left_behind {
        let removal = finding["hint"].as_str().unwrap().strip_prefix("Remove it: ").unwrap();
        assert!(leftovers.iter().all(|name| removal.contains(&format!("DROP {name};"))), "{leftovers:?} in {removal}");
    }
    // What is left is nobody's tenant and stops no backup.
    program.done(&["backup", "--all"]);
    for name in leftovers {
        server.sql("postgres", &format!("DROP {name}"));
    }

    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let into = unique("stopped");
        let mut child = start(&program, &into);
        eventually("it has begun to build", || left(&server).iter().any(|name| name.starts_with("DATABASE")));
        let sent = std::process::Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let status = child.wait().unwrap();
        let is_there =
            server.sql("postgres", &format!("SELECT count(*) FROM pg_database WHERE datname = '{into}'")).trim() == "1";
        if !is_there {
            assert_eq!(status.code(), Some(code));
        }
        assert_eq!(left(&server), Vec::<String>::new());
    }
}
