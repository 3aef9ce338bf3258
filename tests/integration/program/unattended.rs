//! What cron gets to see, and what a log may not hold.

use crate::harness::{
    postgres::{Cluster, Options},
    program::Program,
};

#[test]
fn a_good_night_is_silent_with_q_and_a_cluster_out_of_reach_is_an_error_with_a_hint() {
    let server = Cluster::start(&Options::default());
    server.create_database("tenant_acme");
    let program = Program::set_up(&server, "tenant_{tenant}");
    assert_eq!(program.say(&["-q", "backup", "--all"]), (0, String::new(), String::new()));
    assert_eq!(program.say(&["-q", "verify", "--all"]), (0, String::new(), String::new()));
    assert!(program.say(&["-q", "list", "acme"]).1.contains("good"), "what is asked for is still said");

    server.sql("postgres", "ALTER DATABASE tenant_acme ALLOW_CONNECTIONS false");
    let (code, _, stderr) = program.say(&["-q", "backup", "--all"]);
    assert!(code == 1 && stderr.contains("acme") && stderr.contains("connections to it are not allowed"), "{code}: {stderr}");
    let error = program.refused(1, &["backup", "acme"]);
    assert_eq!(error["kind"], "tenant-closed", "{error:#}");

    server.stop("immediate");
    let (code, stdout, stderr) = program.say(&["-q", "backup", "--all"]);
    assert_eq!((code, stdout.as_str()), (1, "no tenant was backed up\n"), "{stderr}");
    assert!(stderr.starts_with("error: here: cluster here could not be asked") && stderr.contains("\nhint: "), "{stderr}");
    let (code, document) = program.run(&["backup", "--all"]);
    assert_eq!((code, &document["results"]), (1, &serde_json::json!([])));
    assert!(document["errors"][0]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{document:#}");
}

#[test]
fn no_log_holds_what_makes_a_login_or_a_row() {
    let server = Cluster::start(&Options::default());
    server.create_database("tenant_acme");
    server.sql("tenant_acme", "CREATE TABLE t AS SELECT 'a secret row' AS s");
    let program = Program::set_up(&server, "tenant_{tenant}");
    program.done(&["backup", "--all"]);
    let restore = ["restore", "acme", "--identity", "recovery-kit.txt", "--into", "copy"];
    let said = program.command(&restore).env("TENURE_LOG", "trace,tokio_postgres::query=trace").output().unwrap();
    let log = String::from_utf8(said.stderr).unwrap();
    assert!(said.status.success() && log.contains("DEBUG"), "{log}");
    for secret in ["SCRAM-SHA-256$", "PASSWORD '", "a secret row", "AGE-SECRET-KEY-"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}
