//! Tenants that moved: to another server, back again, or out of the configuration.

use crate::harness::{
    postgres::{Cluster, Options},
    program::Program,
};

const RESTORE: [&str; 4] = ["restore", "acme", "--identity", "recovery-kit.txt"];

#[test]
fn a_restore_elsewhere_takes_over_says_so_and_either_side_can_be_admitted() {
    let (one, two) = (Cluster::start(&Options::default()), Cluster::start(&Options::default()));
    one.create_database("tenant_acme");
    one.sql("tenant_acme", "CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n");
    let program = Program::set_up(&one, "tenant_{tenant}");
    program.done(&["backup", "acme"]);
    let here = std::fs::read_to_string(program.path("tenure.toml")).unwrap();
    let there = here.replace(&one.description(), &two.description());
    assert_ne!(here, there);
    std::fs::write(program.path("there.toml"), there).unwrap();

    fn on_two<'a>(words: &[&'a str]) -> Vec<&'a str> {
        [&["--config", "there.toml"], words].concat()
    }
    let restored = program.done(&on_two(&RESTORE));
    assert!(restored["notes"].to_string().contains("admit --source acme"), "{restored:#}");
    program.done(&on_two(&["backup", "acme"]));
    let refused = |words: &[&str]| {
        let (code, document) = program.run(words);
        assert_eq!((code, &document["results"][0]["error"]["kind"]), (4, &"source-changed".into()), "{document:#}");
    };
    refused(&["backup", "acme"]);
    // Back to the first server, whose database was never tenure's, and to the second, whose database is a copy that tenure made.
    program.done(&["admit", "--source", "acme"]);
    program.done(&["backup", "acme"]);
    refused(&on_two(&["backup", "acme"]));
    program.done(&on_two(&["admit", "--source", "acme"]));
    program.done(&on_two(&["backup", "acme"]));
}

#[test]
fn nobody_misses_a_tenant_that_is_ignored_now() {
    let server = Cluster::start(&Options::default());
    for name in ["tenant_acme", "tenant_old"] {
        server.create_database(name);
    }
    let program = Program::set_up(&server, "tenant_{tenant}");
    program.done(&["backup", "--all"]);
    let text = std::fs::read_to_string(program.path("tenure.toml")).unwrap();
    let text = text.replace("databases = ", "ignore = [\"tenant_old\"]\ndatabases = ");
    std::fs::write(program.path("tenure.toml"), text).unwrap();
    let report = program.done(&["backup", "--all"]);
    assert_eq!((report["results"].as_array().unwrap().len(), &report["findings"]), (1, &serde_json::json!([])), "{report:#}");
    server.sql("postgres", "DROP DATABASE tenant_old");
    let report = program.done(&["backup", "--all"]);
    assert!(report["findings"].to_string().contains("old is missing"), "{report:#}");
}

#[test]
fn the_second_that_a_list_shows_is_that_backups() {
    let server = Cluster::start(&Options::default());
    server.create_database("tenant_acme");
    let program = Program::set_up(&server, "tenant_{tenant}");
    program.done(&["backup", "acme"]);
    let list = program.done(&["list", "acme"]);
    let shown: String = list["backups"][0]["taken_at"].as_str().unwrap().chars().take(19).collect::<String>() + "Z";
    let restored = program.done(&[&RESTORE[..], &["--into", "copy", "--at", &shown]].concat());
    assert_eq!(restored["backup"], list["backups"][0]["id"]);
}
