//! Names that look like something else: databases, schemas, roles, tables and all that is in them.

use std::fmt::Write as _;

use super::*;
use crate::harness::program::Program;

/// What a person, a shell, a terminal, libpq, `pg_dump`'s patterns or a path might make something of.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "host=127.0.0.254 port=1",
        "postgresql://x/y",
        "org_*",
        "a\"b",
        "a'b",
        "a\\b",
        "-f",
        "--help",
        "../x",
        "/etc/passwd",
        "$(touch x)`id`;|&",
        "new\nline",
        "tab\there\r\u{7}",
        "\u{1b}[31m\u{1b}]0;title\u{7}",
        "\u{9b}31m\u{7f}\u{202e}drow",
        " spaces ",
        "%s {} {tenant} \\n",
        "é\u{301}Ü",
        ".",
    ]
    .map(str::to_owned)
    .to_vec();
    // 63 bytes, which is all that PostgreSQL takes.
    names.push(format!("{}xyz", "🦀".repeat(15)));
    names
}

/// Everything that may have a name, by each of them.
fn contents(name: &str, number: usize) -> String {
    let (n, literal) = (quoted(name), format!("'{}'", name.replace('\'', "''")));
    format!(
        "CREATE ROLE {n}; CREATE SCHEMA {n}; CREATE TYPE {n}.{n} AS ENUM ({literal}); CREATE SEQUENCE {n}.\"s {number}\"; SELECT nextval('{sequence}');
         CREATE TABLE {n}.\"t {number}\" ({n} int, \"e {number}\" {n}.{n}, CONSTRAINT {n} CHECK ({n} > 0)); INSERT INTO {n}.\"t {number}\" VALUES (1, {literal}), (2, NULL);
         CREATE DOMAIN {n}.\"d {number}\" AS int CONSTRAINT {n} CHECK (VALUE > 0); CREATE UNIQUE INDEX \"i {number}\" ON {n}.\"t {number}\" ({n});
         CREATE FUNCTION {n}.{n}({n} int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE STATISTICS {n}.\"x {number}\" ON {n}, \"e {number}\" FROM {n}.\"t {number}\";
         CREATE POLICY {n} ON {n}.\"t {number}\" TO {n} USING (true); CREATE RULE {n} AS ON DELETE TO {n}.\"t {number}\" DO ALSO NOTIFY {n};
         CREATE MATERIALIZED VIEW {n}.\"m {number}\" AS SELECT {n} FROM {n}.\"t {number}\"; CREATE PUBLICATION {n} FOR TABLE {n}.\"t {number}\";
         CREATE COLLATION {n}.{n} (LOCALE = 'C'); CREATE TEXT SEARCH CONFIGURATION {n}.{n} (COPY = pg_catalog.simple);
         CREATE TABLE {n}.\"fk {number}\" ({n} int CONSTRAINT {n} REFERENCES {n}.\"t {number}\" ({n})); ALTER TABLE {n}.\"t {number}\" OWNER TO {n};
         GRANT USAGE, CREATE ON SCHEMA {n} TO {n}; GRANT SELECT ({n}) ON {n}.\"t {number}\" TO {n} WITH GRANT OPTION; COMMENT ON TABLE {n}.\"t {number}\" IS {literal};
         CREATE TABLE {n}.{n}2 ({n} int); INSERT INTO {n}.{n}2 VALUES ({number});",
        sequence = format!("{n}.\"s {number}\"").replace('\'', "''"),
    )
    // A table takes the name of a type of its schema.
    .replace(&format!("{n}.{n}2"), &format!("\"the tables\".{n}"))
}

/// Nothing that was printed drives a terminal or forges a line.
fn is_harmless(arguments: &[&str], printed: &str) {
    let bad = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{202a}'..='\u{202e}');
    assert!(!printed.contains(bad), "{arguments:?}: {printed:?}");
    assert!(!printed.lines().any(|line| line.starts_with("line")), "{arguments:?}: {printed}");
}

#[test]
fn names_are_names_in_every_command() {
    let server = own_server();
    let names = names();
    server.sql("postgres", "CREATE TABLE customers (database text, tenant text)");
    let mut everything = "CREATE SCHEMA \"the tables\";\n".to_owned();
    for (number, name) in names.iter().enumerate() {
        server.create_database(name);
        write!(everything, "{}", contents(name, number)).unwrap();
        server.sql(name, &format!("CREATE TABLE {} (i int); INSERT INTO {0} VALUES ({number})", quoted(name)));
        // Tenants are called as badly as their databases.
        let literal = format!("'{}'", name.replace('\'', "''"));
        server.sql("postgres", &format!("INSERT INTO customers VALUES ({literal}, {literal})"));
    }
    // What is in one database is in the worst of them.
    let worst = &names[13];
    for statement in everything.split(";\n").filter(|statement| !statement.trim().is_empty()) {
        server.sql(worst, statement);
    }
    let program = Program::set_up(server, "{tenant}");
    let config = std::fs::read_to_string(program.path("tenure.toml")).unwrap();
    let query = "query = \"SELECT database, tenant FROM customers\"";
    let config: Vec<&str> = config.lines().map(|line| if line.starts_with("databases") { query } else { line }).collect();
    std::fs::write(program.path("tenure.toml"), config.join("\n")).unwrap();

    let look = |arguments: &[&str]| {
        let (code, stdout, stderr) = program.say(arguments);
        is_harmless(arguments, &stdout);
        is_harmless(arguments, &stderr);
        assert_eq!(code, 0, "{arguments:?}: {stdout}{stderr}");
        let (code, stdout, stderr) = program.say(&[&["--json", "-v", "--log-format", "json"], arguments].concat());
        is_harmless(arguments, &stdout);
        is_harmless(arguments, &stderr);
        assert_eq!(code, 0, "{arguments:?}: {stdout}{stderr}");
        serde_json::from_str::<serde_json::Value>(&stdout).unwrap()
    };
    look(&["check"]);
    let found = look(&["tenants"]);
    let tenants: Vec<&str> =
        found["tenants"].as_array().unwrap().iter().map(|tenant| tenant["tenant"].as_str().unwrap()).collect();
    let mut expected: Vec<&str> = names.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(tenants, expected);
    look(&["-v", "backup", "--all"]);
    look(&["verify", "--all", "--identity", "recovery-kit.txt"]);
    look(&["list"]);
    let one = |number: usize, name: &str| {
        let identity = ["--identity", "recovery-kit.txt"];
        let into = if name.len() > 58 { format!("copy{}", &name[4..]) } else { format!("{name} copy") };
        look(&["list", "--", name]);
        look(&[&["show"], &identity[..], &["--", name, "latest"]].concat());
        let into_word = format!("--into={into}");
        let restore = [&["restore", into_word.as_str()], &identity[..], &["--", name]].concat();
        let (code, stdout, stderr) = program.say(&restore);
        is_harmless(&restore, &format!("{stdout}{stderr}"));
        assert_eq!(code, 0, "{name:?}: {stdout}{stderr}");
        assert_eq!(server.sql(&into, &format!("SELECT i FROM {}", quoted(name))).trim(), number.to_string());
        // Refused, with the name in the message.
        for (arguments, expected) in [(restore.clone(), 1), (vec!["show", "--", name, name], 1)] {
            let (code, stdout, stderr) = program.say(&arguments);
            is_harmless(&arguments, &format!("{stdout}{stderr}"));
            assert_eq!(code, expected, "{arguments:?}: {stdout}{stderr}");
        }
    };
    std::thread::scope(|scope| {
        for part in 0..4 {
            let (one, names) = (&one, &names);
            scope.spawn(move || names.iter().enumerate().skip(part).step_by(4).for_each(|(number, name)| one(number, name)));
        }
    });
    plain_copy(server, worst, server, "plain");
    let [ours, theirs] = [format!("{worst} copy"), "plain".to_owned()].map(|name| Picture::take(server, &name));
    assert_eq!(ours.differences(&theirs), [""; 0]);
    assert!(!program.path("x").exists());
}
