//! Every command once, from nothing to a restored fleet. Each document is checked against its schema on the way.

use crate::harness::{
    postgres::{Cluster, Options},
    program::Program,
};

#[test]
fn from_nothing_to_a_restored_fleet() {
    let cluster = Cluster::start(&Options::default());
    for tenant in ["acme", "globex"] {
        cluster.create_database(&format!("tenant_{tenant}"));
        cluster.sql(
            &format!("tenant_{tenant}"),
            "CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 20000) n",
        );
    }
    let program = Program::set_up(&cluster, "tenant_{tenant}");
    assert_eq!(program.refused(1, &["list", "acme"])["kind"], "unknown-tenant");
    let before = program.done(&["tenants"]);
    assert_eq!(before["tenants"][0]["state"], "new", "{before:#}");
    program.done(&["check"]);

    let first = program.done(&["backup", "--all"]);
    assert_eq!(first["results"].as_array().unwrap().len(), 2, "{first:#}");
    let second = program.done(&["backup", "acme"]);
    assert_eq!(second["results"][0]["chunks_stored"], 0, "{second:#}");
    let backup = second["results"][0]["backup"].as_str().unwrap();

    let tenants = program.done(&["tenants"]);
    assert_eq!((&tenants["tenants"][0]["state"], &tenants["tenants"][0]["backups"]), (&"good".into(), &2.into()), "{tenants:#}");
    assert_eq!(program.done(&["list", "acme"])["backups"][0]["id"], backup);
    assert_eq!(program.done(&["list"])["tenants"].as_array().unwrap().len(), 2);
    let shown = program.done(&["show", "acme", &backup[..20], "--identity", "recovery-kit.txt"]);
    assert_eq!(shown["description"]["tables"], serde_json::json!(["public.t"]), "{shown:#}");
    program.done(&["verify", "acme"]);
    assert_eq!(program.done(&["verify", "--all", "--identity", "recovery-kit.txt"])["problems"], serde_json::json!([]));
    program.done(&["keys", "list"]);
    assert_eq!(program.done(&["keys", "check", "--identity", "recovery-kit.txt"])["problems"], serde_json::json!([]));
    assert_eq!(program.done(&["admit", "--source", "acme"])["admitted"][0]["changed"], false);

    let sum = "SELECT count(*), md5(string_agg(t::text, '' ORDER BY id)) FROM t";
    let expected = cluster.sql("tenant_acme", sum);
    let restored = program.done(&["restore", "acme", "--identity", "recovery-kit.txt", "--replace"]);
    assert_eq!((&restored["proven"], &restored["rows"]), (&true.into(), &20000.into()), "{restored:#}");
    assert_eq!(cluster.sql("tenant_acme", sum), expected);

    for database in ["tenant_acme", "tenant_globex"] {
        cluster.sql("postgres", &format!("DROP DATABASE {database}"));
    }
    assert_eq!(program.done(&["tenants"])["tenants"][0]["state"], "missing");
    let fleet = program.done(&["restore", "--all", "--identity", "recovery-kit.txt"]);
    assert!(fleet["results"].as_array().unwrap().iter().all(|result| result["outcome"] == "done"), "{fleet:#}");
    assert_eq!(cluster.sql("tenant_acme", sum), expected);

    // For people: a table on standard output, the log on standard error.
    let (code, stdout, stderr) = program.say(&["backup", "--all"]);
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(stdout.starts_with("TENANT") && stdout.contains("\nacme "), "{stdout}");
    assert!(stderr.contains("acme: done in "), "{stderr}");
    let (_, stdout, stderr) = program.say(&["backup", "acme", "--log-format", "json"]);
    assert!(stdout.starts_with("TENANT"), "{stdout}");
    for line in stderr.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    assert_eq!(program.say(&["backup", "acme", "--quiet"]).2, "");
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let program = Program::new();
    let mut child =
        program.command(&["man"]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn completions_and_pages_for_every_command() {
    let program = Program::new();
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = program.say(&["completions", shell]);
        assert!(code == 0 && script.contains("recovery") | script.contains("identity"), "{shell}");
    }
    for page in [&["man"][..], &["man", "backup"], &["man", "keys", "check"]] {
        let (code, text, _) = program.say(page);
        assert!(code == 0 && text.contains(".TH"), "{page:?}");
    }
    assert_eq!(program.refused(2, &["man", "nobody"])["kind"], "usage");
}
