//! Settings that a database gives every session in it.

use super::*;
use crate::harness::postgres::run;

/// All that its owner, or a superuser who set it up, may have set.
const SETTINGS: &[(&str, &str)] = &[
    ("role", "low"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_deferrable", "on"),
    ("statement_timeout", "1s"),
    ("lock_timeout", "1"),
    ("idle_in_transaction_session_timeout", "1"),
    ("idle_session_timeout", "1min"),
    ("row_security", "on"),
    ("lo_compat_privileges", "on"),
    ("search_path", "evil, pg_catalog"),
    ("DateStyle", "SQL, DMY"),
    ("IntervalStyle", "iso_8601"),
    ("TimeZone", "Asia/Tokyo"),
    ("extra_float_digits", "-15"),
    ("bytea_output", "escape"),
    ("standard_conforming_strings", "off"),
    ("escape_string_warning", "off"),
    ("backslash_quote", "on"),
    ("client_encoding", "LATIN1"),
    ("array_nulls", "off"),
    ("xmloption", "document"),
    ("session_replication_role", "replica"),
    ("quote_all_identifiers", "on"),
    ("transform_null_equals", "on"),
    ("check_function_bodies", "on"),
    ("zero_damaged_pages", "on"),
    ("ignore_checksum_failure", "on"),
    ("enable_tidscan", "off"),
    ("synchronize_seqscans", "on"),
    ("max_parallel_workers_per_gather", "8"),
    ("parallel_setup_cost", "0"),
    ("constraint_exclusion", "on"),
    ("default_tablespace", "pg_default"),
    ("client_min_messages", "error"),
    ("commit_delay", "1000"),
    ("synchronous_commit", "off"),
];

const CONTENTS: &str = r#"
CREATE SCHEMA evil;
CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
CREATE TABLE t (id int PRIMARY KEY, z timestamptz DEFAULT '2020-06-01 12:00+00', d date, i interval, f float8, b bytea DEFAULT '\x00ff5c', m money,
  a text[] DEFAULT '{NULL,a}', s text DEFAULT 'back\slash''s', x xml, CHECK (s <> 'a\b'));
INSERT INTO t SELECT n, '2020-06-01 12:00+00', '2020-02-01', '1 day 2 hours', 0.1 + n, '\x005c27', 12.5, ARRAY[NULL, 'NULL', 'a\b'], E'\\', '<a/>'
  FROM generate_series(1, 3000) n;
CREATE FUNCTION f(text) RETURNS text LANGUAGE sql AS $$ SELECT $1 || '\n' $$;
CREATE TABLE fk (id int REFERENCES t); INSERT INTO fk VALUES (1);
SELECT lo_from_bytea(70001, '\x005c');
"#;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_database_sets_for_its_sessions_changes_nothing() {
    let server = own_server();
    server.sql("postgres", "CREATE ROLE low");
    for in_role in [false, true] {
        let site = Site::on(server).await;
        let database = site.database("acme");
        server.sql(&database, CONTENTS);
        let plain = format!("plain_{in_role}");
        plain_copy(server, &database, server, &plain);
        server.sql("postgres", &format!("ALTER DATABASE {} OWNER TO low", quoted(&database)));
        let whom = if in_role {
            format!("ROLE postgres IN DATABASE {}", quoted(&database))
        } else {
            format!("DATABASE {}", quoted(&database))
        };
        for (name, value) in SETTINGS {
            let value = if *name == "search_path" { (*value).to_owned() } else { format!("'{value}'") };
            server.sql("postgres", &format!("ALTER {whom} SET {name} TO {value}"));
        }
        // It is as an ordinary session has it.
        let mut ordinary = server.program("psql", &database);
        ordinary.env("PGOPTIONS", "-c statement_timeout=0").args(["-XAtc", "SELECT current_user"]);
        assert_eq!(run(&mut ordinary).stdout, b"low\n");
        let report = site.all().await;
        assert_eq!(report.class, None, "{report:?}");
        let into = format!("copy_{in_role}");
        let report = restore(&site, &copy("acme", &into)).await.unwrap();
        assert!(report.proven);
        assert_eq!(properties(server, &into), properties(server, &database));
        for name in [&database, &into] {
            server.sql(
                "postgres",
                &format!("ALTER DATABASE {0} RESET ALL; ALTER ROLE postgres IN DATABASE {0} RESET ALL", quoted(name)),
            );
        }
        let [ours, theirs] = [&into, &plain].map(|name| Picture::take(server, name));
        assert_eq!(ours.differences(&theirs), [""; 0]);
    }
}
