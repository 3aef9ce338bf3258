//! What a backup cannot hold: it is said by the backup, counted by `list`, named by `show`.

use serde_json::Value;

use crate::harness::{
    postgres::{Cluster, Options},
    program::Program,
};

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn what_is_not_captured_is_shown_and_what_a_grant_would_have_saved_is_no_good_night() {
    let settings = vec!["allow_in_place_tablespaces = on".to_owned(), "allow_system_table_mods = on".to_owned()];
    let cluster = Cluster::start(&Options { settings, ..Options::default() });
    cluster.create_database("tenant_acme");
    for statement in [
        "CREATE ROLE backup LOGIN IN ROLE pg_read_all_data",
        "CREATE TABLESPACE \"fast disk\" LOCATION ''",
        "CREATE TABLE here (a int); CREATE TABLE left_out (a int); CREATE TABLE on_disk (a int) TABLESPACE \"fast disk\"",
        "INSERT INTO here VALUES (1); INSERT INTO left_out VALUES (1); INSERT INTO on_disk VALUES (1)",
        "CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere; CREATE FOREIGN TABLE far_rows (a int) SERVER far",
        "CREATE SUBSCRIPTION afar CONNECTION 'host=nowhere.invalid' PUBLICATION p WITH (connect = false, slot_name = NONE)",
        "CREATE TABLE information_schema.stray (a int)",
        "SELECT lo_from_bytea(20000, '\\x01'), lo_from_bytea(20001, '\\x02')",
        "GRANT SELECT ON LARGE OBJECT 20001 TO backup",
    ] {
        cluster.sql("tenant_acme", statement);
    }
    let program = Program::new();
    let connection = cluster.description().replace("user=postgres", "user=backup");
    assert!(connection.contains("user=backup"), "{connection}");
    program.done(&program.init(&connection, "tenant_{tenant}").iter().map(String::as_str).collect::<Vec<_>>());
    let configuration = std::fs::read_to_string(program.path("tenure.toml")).unwrap();
    let excluding = configuration.replace("[[policy]]\n", "[[policy]]\nexclude_data = [\"public.left_out\"]\n");
    assert_ne!(excluding, configuration);
    std::fs::write(program.path("tenure.toml"), excluding).unwrap();

    // The backup is there, and the night is not a good one.
    let (code, report) = program.run(&["backup", "--all"]);
    let result = &report["results"][0];
    assert_eq!((code, &result["outcome"], &result["error"]["kind"]), (3, &"done".into(), &"incomplete".into()), "{report:#}");
    let error = result["error"]["message"].as_str().unwrap();
    assert!(error.contains("is made, without the large objects that its role may not read: 1 of role postgres"), "{error}");
    let (code, stdout, stderr) = program.say(&["backup", "acme", "--quiet"]);
    assert_eq!(code, 3, "{stdout}{stderr}");
    assert!(
        stdout.contains("acme    done") && stdout.contains("note: acme: not captured: large objects 1 of role postgres"),
        "{stdout}"
    );
    assert!(stderr.contains("hint: `tenure check` says which GRANT"), "{stderr}");
    let (code, checked) = program.run(&["check"]);
    assert!(code == 1 && checked.to_string().contains("GRANT SELECT ON LARGE OBJECT"), "{checked:#}");

    // By name, and each with its reason.
    let shown = program.done(&["show", "acme", "latest", "--identity", "recovery-kit.txt"]);
    let missing = texts(&shown["description"]["not_captured"]);
    for (what, why) in [
        ("large objects 1 of role postgres", "may not read them"),
        ("rows of a foreign table public.far_rows", "another server"),
        ("rows of a table public.left_out", "exclude_data says so"),
        ("subscription afar", "comes back disabled"),
        ("table in a system schema information_schema.stray", "leaves schemas of the system out"),
        ("tablespace fast disk", "the default tablespace"),
    ] {
        assert!(missing.iter().any(|line| line.starts_with(what) && line.contains(why)), "{what}: {missing:#?}");
    }
    assert_eq!(missing.len(), 6, "{missing:#?}");
    assert_eq!(shown["backup"]["not_captured"], 6);
    let (_, text, _) = program.say(&["show", "acme", "latest", "--identity", "recovery-kit.txt"]);
    assert!(text.contains("tablespace fast disk") && text.contains("not captured  6\n"), "{text}");
    let (_, text, _) = program.say(&["list", "acme"]);
    assert!(text.contains("not complete: 6 things could not be captured in "), "{text}");

    // What no dump holds is a note, and no failure.
    cluster.sql("tenant_acme", "GRANT SELECT ON LARGE OBJECT 20000 TO backup");
    let good = program.done(&["backup", "--all"]);
    assert_eq!(good["results"][0]["error"], Value::Null, "{good:#}");
    assert_eq!(texts(&good["results"][0]["findings"]).iter().filter(|line| line.starts_with("not captured: ")).count(), 5);
}
