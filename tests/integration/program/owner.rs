//! A role without superuser that owns the databases: backs up, restores, and is told what it lacks.

use crate::harness::{
    installation,
    postgres::{Cluster, Options, major},
    program::Program,
};

fn run(server: &Cluster, is_16: bool) {
    server.sql(
        "postgres",
        "CREATE ROLE own LOGIN NOSUPERUSER NOBYPASSRLS CREATEDB CREATEROLE; CREATE ROLE app; CREATE ROLE reader",
    );
    server.sql("postgres", "CREATE DATABASE tenant_acme OWNER own");
    server.sql(
        "tenant_acme",
        "SET SESSION AUTHORIZATION own; CREATE SCHEMA s; CREATE TABLE s.t (id serial PRIMARY KEY, v text, CHECK (v <> '')); INSERT INTO s.t (v) VALUES ('a'), ('b');
         CREATE FUNCTION s.f(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN $1; END'; CREATE INDEX ON s.t (s.f(id));
         CREATE TABLE s.fk (id int REFERENCES s.t); INSERT INTO s.fk VALUES (1); CREATE MATERIALIZED VIEW s.m AS SELECT id FROM s.t;
         ALTER TABLE s.fk ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON s.fk USING (id > 0); GRANT SELECT ON s.t TO reader; SELECT lo_from_bytea(70001, 'x')",
    );
    let program = Program::new();
    let description = server.description().replace(" user=postgres", " user=own dbname=postgres");
    program.done(&program.init(&description, "tenant_{tenant}").iter().map(String::as_str).collect::<Vec<_>>());
    let config = std::fs::read_to_string(program.path("tenure.toml")).unwrap();
    let programs = format!("\n[postgres]\nbin = \"{}\"\n", server.programs().display());
    std::fs::write(program.path("tenure.toml"), config + &programs).unwrap();
    let told = || {
        let report = program.done(&["check"]);
        let findings: Vec<serde_json::Value> = report["findings"].as_array().unwrap().clone();
        let of = |finding: &serde_json::Value| {
            format!("{} | {}", finding["message"].as_str().unwrap(), finding["hint"].as_str().unwrap_or_default())
        };
        findings
            .iter()
            .filter(|finding| finding["object"].as_str().unwrap().contains("admin"))
            .map(of)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert!(told().contains("so restores can run here") && !told().contains("GRANT"), "{}", told());
    program.done(&["backup", "--all"]);
    program.done(&["verify", "--all", "--identity", "recovery-kit.txt"]);
    let restore = ["restore", "acme", "--identity", "recovery-kit.txt"];
    program.done(&[&restore[..], &["--into", "copy"]].concat());
    program.done(&[&restore[..], &["--replace"]].concat());
    let state = "SELECT (SELECT count(*) FROM s.t) || ' ' || (SELECT count(*) FROM s.m) || ' ' || (SELECT string_agg(DISTINCT relowner::regrole::text, ',') FROM pg_class
                  WHERE relnamespace = 's'::regnamespace) || ' ' || has_table_privilege('reader', 's.t', 'SELECT') || ' ' || encode(lo_get(70001), 'escape')";
    for database in ["copy", "tenant_acme"] {
        assert_eq!(server.sql(database, state).trim(), "2 2 own true x");
    }

    // What is another's, and may not be handed to it, is found before the night and before anything is made.
    server.sql("tenant_acme", "CREATE SCHEMA a AUTHORIZATION app; SET SESSION AUTHORIZATION app; CREATE TABLE a.of_app (id int PRIMARY KEY); INSERT INTO a.of_app VALUES (1)");
    assert!(program.run(&["check"]).1.to_string().contains("GRANT"), "it may not even read it");
    server.sql("postgres", "GRANT pg_read_all_data TO own");
    program.done(&["backup", "--all"]);
    let into = [&restore[..], &["--into", "of_app"]].concat();
    if is_16 {
        let grant = "GRANT \"app\" TO \"own\" WITH ADMIN OPTION";
        assert!(told().contains(grant), "{}", told());
        let error = program.refused(1, &into);
        assert_eq!(error["kind"], "no-admin-option", "{error}");
        assert!(error["hint"].as_str().unwrap().to_lowercase().contains(&grant.to_lowercase()), "{error}");
        server.sql("postgres", grant);
    }
    assert!(!told().contains("GRANT"), "{}", told());
    program.done(&into);
    assert_eq!(server.sql("of_app", "SELECT relowner::regrole FROM pg_class WHERE relname = 'of_app'").trim(), "app");
}

#[test]
fn it_backs_up_and_restores_what_it_owns() {
    run(&Cluster::start(&Options::default()), major() >= 16);
}

#[test]
fn also_where_createrole_needs_the_admin_option() {
    run(&Cluster::start(&Options { programs: Some(installation::postgres_18()), ..Options::default() }), true);
}
