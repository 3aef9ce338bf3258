//! `scripts/restore-without-tenure`: everything in a vault opens without us.

use std::process::Command;

use crate::harness::{
    postgres::{Cluster, Options, bin},
    program::Program,
};

/// Names that must be quoted, text that must be escaped, numbers that JSON readers round, and what has no rows.
const CONTENT: &str = r#"
CREATE ROLE "o'wner ""x""";
CREATE SCHEMA "S p.a""ce" AUTHORIZATION "o'wner ""x""";
CREATE TABLE "S p.a""ce"."T'able" (id bigint GENERATED ALWAYS AS IDENTITY, "col ""umn" text, twice bigint GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO "S p.a""ce"."T'able" ("col ""umn") VALUES (E'back\\slash \\. tab\t line\nend\r é 🦀'), (NULL), ('\.'), ('');
ALTER TABLE "S p.a""ce"."T'able" OWNER TO "o'wner ""x""";
CREATE TABLE big AS SELECT n, md5(n::text) AS s FROM generate_series(1, 60000) n;
ALTER TABLE big ADD PRIMARY KEY (n);
CREATE TABLE nothing ();
INSERT INTO nothing DEFAULT VALUES;
INSERT INTO nothing DEFAULT VALUES;
CREATE TABLE empty (a int);
CREATE TABLE wide AS SELECT string_agg(md5(n::text), '') AS s FROM generate_series(1, 200000) n;
CREATE SEQUENCE far START 1152921504606846977;
SELECT nextval('far');
CREATE SEQUENCE unused;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM big;
SELECT lo_from_bytea(40000, decode(repeat('00ff', 300000), 'hex'));
SELECT lo_create(50000);
COMMENT ON LARGE OBJECT 40000 IS 'it''s large';
GRANT SELECT ON LARGE OBJECT 40000 TO PUBLIC;
ALTER DATABASE tenant_acme SET search_path TO "S p.a""ce", public;
"#;

#[test]
fn the_script_restores_what_tenure_stored() {
    let cluster = Cluster::start(&Options::default());
    cluster.create_database("tenant_acme");
    cluster.sql("tenant_acme", CONTENT);
    let program = Program::set_up(&cluster, "tenant_{tenant}");
    program.done(&["backup", "acme"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/restore-without-tenure");
    let run = |into: &str| {
        let output = Command::new(script)
            .args([
                "--vault",
                "vault",
                "--keyring",
                "keyring",
                "--identity",
                "recovery-kit.txt",
                "--tenant",
                "acme",
                "--into",
                into,
            ])
            .current_dir(program.folder())
            .env("PGHOST", cluster.socket_folder())
            .env("PGPORT", cluster.port().to_string())
            .env("PGUSER", "postgres")
            .env_remove("PGDATABASE")
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (good, said) = run("by hand's \"copy\"");
    assert!(good, "{said}");
    assert_eq!(dump(&cluster, "by hand's \"copy\""), dump(&cluster, "tenant_acme"), "{said}");

    // A changed byte is noticed before anything is made.
    let chunk = find_chunk(&program);
    let mut bytes = std::fs::read(&chunk).unwrap();
    bytes[200] ^= 1;
    std::fs::write(&chunk, bytes).unwrap();
    let (good, said) = run("second");
    assert!(!good && said.contains("is missing or damaged"), "{said}");
}

fn dump(cluster: &Cluster, database: &str) -> String {
    let output = Command::new(bin().join("pg_dump"))
        .env("PGHOST", cluster.socket_folder())
        .env("PGPORT", cluster.port().to_string())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", database)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    // The restrict lines are random.
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
}

fn find_chunk(program: &Program) -> std::path::PathBuf {
    let found = Command::new("find").arg(program.path("vault")).args(["-path", "*/c/*", "-type", "f"]).output().unwrap();
    String::from_utf8(found.stdout).unwrap().lines().next().unwrap().into()
}
