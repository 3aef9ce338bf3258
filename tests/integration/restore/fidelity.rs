//! What comes back is what was there.

use std::process::Command;

use super::*;
use crate::harness::{
    postgres::{Cluster, Options, bin, run, shared, unique},
    site::walk,
};

/// `pg_dump` as text, without what is random.
pub fn dump(server: &Cluster, database: &str) -> String {
    let mut command = Command::new(bin().join("pg_dump"));
    command.env_clear().env("PGHOST", server.socket_folder()).env("PGPORT", server.port().to_string()).env("PGUSER", "postgres");
    command.env("PGDATABASE", database).args(["--restrict-key=abc", "--no-sync"]);
    String::from_utf8(run(&mut command).stdout).unwrap()
}

/// A copy of a database by PostgreSQL's own tools.
pub fn plain_copy(server: &Cluster, database: &str, copy: &str) {
    server.create_database(copy);
    let file = tempfile::NamedTempFile::new().unwrap();
    let tool = |name: &str| {
        let mut command = Command::new(bin().join(name));
        command.env_clear().env("PGHOST", server.socket_folder()).env("PGPORT", server.port().to_string());
        command.env("PGUSER", "postgres").env("PGDATABASE", database);
        command
    };
    run(tool("pg_dump").arg("-Fc").arg("-f").arg(file.path()));
    run(tool("pg_restore").arg("-d").arg(copy).arg("--exit-on-error").arg(file.path()));
}

/// Rows of dumps come in another order when a table was loaded in parts.
pub fn sorted(dump: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = dump.lines().collect();
    lines.sort_unstable();
    lines
}

const EVERYTHING: &str = r#"
CREATE SCHEMA "sche ma" AUTHORIZATION "ow ner";
CREATE SCHEMA plain;
GRANT USAGE ON SCHEMA plain TO reader;
CREATE EXTENSION hstore SCHEMA plain;
CREATE TYPE mood AS ENUM ('sad', 'ok');
ALTER TYPE mood OWNER TO "ow ner";
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE "sche ma"."ta""ble" (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "a col" text COLLATE "C", b bytea, m mood, d positive,
  twice int GENERATED ALWAYS AS (id * 2) STORED, j jsonb, h plain.hstore, ts timestamptz, iv interval, f float8, money money,
  UNIQUE ("a col", id));
ALTER TABLE "sche ma"."ta""ble" OWNER TO "ow ner";
INSERT INTO "sche ma"."ta""ble" ("a col", b, m, d, j, h, ts, iv, f, money)
  SELECT E'line\n\t\\' || n, decode(md5(n::text), 'hex'), 'ok', n, jsonb_build_object('n', n), plain.hstore('k', n::text),
         '2026-01-01'::timestamptz + n * interval '1 minute', n * interval '-1 hour', n / 3.0, n::numeric::money
    FROM generate_series(1, 3000) n;
CREATE INDEX ON "sche ma"."ta""ble" (lower("a col"));
CREATE TABLE plain.super (a int PRIMARY KEY, b text);
INSERT INTO plain.super VALUES (1, 'x'), (2, NULL);
CREATE TABLE plain.owned (a int REFERENCES plain.super, t text);
ALTER TABLE plain.owned OWNER TO "ow ner";
INSERT INTO plain.owned SELECT 1 + n % 2, repeat('y', 10000) || n FROM generate_series(1, 50) n;
REVOKE INSERT ON plain.owned FROM "ow ner";
GRANT SELECT (t) ON plain.owned TO reader;
CREATE TABLE plain.nothing ();
INSERT INTO plain.nothing DEFAULT VALUES; INSERT INTO plain.nothing DEFAULT VALUES;
CREATE TABLE plain.empty (a int);
CREATE TABLE plain.part (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE plain.part1 PARTITION OF plain.part FOR VALUES FROM (0) TO (10);
CREATE TABLE plain.part2 (v text, k int);
ALTER TABLE plain.part ATTACH PARTITION plain.part2 FOR VALUES FROM (10) TO (20);
CREATE INDEX ON plain.part (v);
ALTER TABLE plain.part OWNER TO "ow ner"; ALTER TABLE plain.part1 OWNER TO "ow ner"; ALTER TABLE plain.part2 OWNER TO "ow ner";
INSERT INTO plain.part SELECT n, 'v' || n FROM generate_series(0, 19) n;
CREATE TABLE plain.parent (a int, b int); CREATE TABLE plain.child (c int) INHERITS (plain.parent);
INSERT INTO plain.parent VALUES (1, 2); INSERT INTO plain.child VALUES (3, 4, 5);
CREATE SEQUENCE plain.seq INCREMENT 5 START 7; SELECT nextval('plain.seq'); SELECT nextval('plain.seq');
CREATE SEQUENCE plain.unused OWNED BY plain.super.a;
CREATE VIEW plain.vi AS SELECT * FROM plain.owned; ALTER VIEW plain.vi OWNER TO "ow ner"; GRANT SELECT ON plain.super, plain.owned TO "ow ner";
CREATE MATERIALIZED VIEW plain.mv AS SELECT count(*) AS c FROM plain.owned; CREATE UNIQUE INDEX ON plain.mv (c);
ALTER MATERIALIZED VIEW plain.mv OWNER TO "ow ner";
CREATE FUNCTION plain.tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER tr BEFORE INSERT ON plain.owned FOR EACH ROW EXECUTE FUNCTION plain.tf();
ALTER TABLE plain.owned ENABLE ROW LEVEL SECURITY;
CREATE POLICY po ON plain.owned TO reader USING (a = 1);
CREATE STATISTICS plain.st ON a, b FROM plain.super;
COMMENT ON TABLE plain.super IS 'it''s'; COMMENT ON INDEX plain.super_pkey IS 'pk'; COMMENT ON EXTENSION hstore IS 'mine';
ALTER DEFAULT PRIVILEGES FOR ROLE "ow ner" IN SCHEMA plain GRANT SELECT ON TABLES TO reader;
CREATE PUBLICATION pub FOR TABLE plain.super;
CREATE RULE ru AS ON DELETE TO plain.super DO INSTEAD NOTHING;
SELECT lo_from_bytea(70001, decode(repeat('ab', 300000), 'hex')); SELECT lo_create(70002);
SELECT lo_put(70002, 600000, '\x01'); COMMENT ON LARGE OBJECT 70002 IS 'sparse'; SELECT lo_create(70003);
ALTER LARGE OBJECT 70001 OWNER TO "ow ner"; GRANT SELECT ON LARGE OBJECT 70001 TO reader;
"#;

fn roles(server: &Cluster) {
    server.sql(
        "postgres",
        r#"DO $$ BEGIN
             PERFORM pg_advisory_xact_lock(4711);
             IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ow ner') THEN CREATE ROLE "ow ner"; CREATE ROLE reader; END IF;
           END $$"#,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back() {
    let site = Site::new().await;
    let server = shared();
    roles(server);
    let database = site.database("acme");
    server.sql(&database, EVERYTHING);
    server.sql(
        "postgres",
        &format!(
            r#"ALTER DATABASE "{database}" OWNER TO "ow ner"; ALTER DATABASE "{database}" SET search_path TO plain, "$user";
               ALTER DATABASE "{database}" SET work_mem TO '8MB'; ALTER ROLE reader IN DATABASE "{database}" SET datestyle TO 'German';
               REVOKE CONNECT ON DATABASE "{database}" FROM PUBLIC; GRANT CONNECT ON DATABASE "{database}" TO reader;
               ALTER DATABASE "{database}" CONNECTION LIMIT 17; COMMENT ON DATABASE "{database}" IS 'a "comment"'"#
        ),
    );
    assert_eq!(site.all().await.class, None);
    let into = format!("{}copy", site.name("").trim_end_matches('_'));
    let report = restore(&site, &copy("acme", &into)).await.unwrap();
    assert!(report.proven);
    assert_eq!(report.database, into);
    assert_eq!(report.tables, 9, "{report:?}");
    assert_eq!(report.created_roles, Vec::<String>::new());

    let by_tools = format!("{into}_tools");
    plain_copy(server, &database, &by_tools);
    let (ours, theirs) = (dump(server, &into), dump(server, &by_tools));
    assert_eq!(sorted(&ours), sorted(&theirs));

    let properties = |name: &str| {
        server.sql(
            "postgres",
            &format!(
                "SELECT pg_get_userbyid(datdba), encoding, datcollate, datctype, to_jsonb(d) ->> 'datlocprovider', datconnlimit, datistemplate, datallowconn,
                        (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(datacl) x), shobj_description(d.oid, 'pg_database'),
                        (SELECT array_agg((setrole, setconfig)::text ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = d.oid)
                   FROM pg_database d WHERE datname = '{name}'"
            ),
        )
    };
    assert_eq!(properties(&into), properties(&database));
    assert_ne!(server.sql(&into, "SELECT count(*) FROM pg_stats WHERE schemaname = 'plain'").trim(), "0", "it was analysed");
    assert_eq!(
        server
            .sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenure_loader_%' AND rolvaliduntil IS NULL")
            .trim(),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_server_gets_roles_and_the_tenant_back() {
    let site = Site::new().await;
    roles(shared());
    let database = site.database("acme");
    shared().sql(&database, EVERYTHING);
    assert_eq!(site.all().await.class, None);
    // The socket refuses the loader there, so it comes over TCP.
    let server = Cluster::start(&Options {
        hba: vec!["local all postgres trust".into(), "local all all reject".into()],
        ..Options::default()
    });
    let report = restore_to(&site, there(&site, &server), &latest("acme")).await.unwrap();
    assert_eq!(report.database, database);
    assert_eq!(report.created_roles, ["ow ner", "reader"]);
    assert_eq!(
        server
            .sql(
                "postgres",
                "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenure%' OR rolcanlogin AND rolname <> 'postgres'"
            )
            .trim(),
        "0"
    );
    let by_tools = format!("{database}_tools");
    plain_copy(shared(), &database, &by_tools);
    assert_eq!(sorted(&dump(&server, &database)), sorted(&dump(shared(), &by_tools)));
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'tenure%'").trim(), "0");
}

/// Large tables are loaded in parts by several connections, and their indexes begin while others are still being loaded.
#[tokio::test(flavor = "multi_thread")]
async fn large_tables_with_many_indexes() {
    let site = Site::new().await;
    let server = shared();
    roles(server);
    let database = site.database("acme");
    let table = |name: &str, owner: &str, rows: u32| {
        format!(
            "CREATE TABLE {name} (id int PRIMARY KEY, s text, v tsvector, u text UNIQUE);
             INSERT INTO {name} SELECT n, repeat(md5(n::text), 20), to_tsvector('simple', md5(n::text)), n::text FROM generate_series(1, {rows}) n;
             CREATE INDEX {name}_v ON {name} USING gin (v); CREATE INDEX {name}_s ON {name} (left(s, 10)); CREATE INDEX ON {name} (id, u);
             COMMENT ON INDEX {name}_v IS 'gin'; COMMENT ON CONSTRAINT {name}_pkey ON {name} IS 'pk'; CLUSTER {name} USING {name}_pkey;
             ALTER TABLE {name} REPLICA IDENTITY USING INDEX {name}_pkey; ALTER TABLE {name} OWNER TO {owner};"
        )
    };
    server.sql(
        &database,
        &(table("one", "\"ow ner\"", 40_000) + &table("two", "postgres", 35_000) + &table("three", "reader", 300)),
    );
    server.sql(
        &database,
        "ALTER TABLE three ADD FOREIGN KEY (id) REFERENCES two; ALTER TABLE two ADD FOREIGN KEY (id) REFERENCES one",
    );
    assert_eq!(site.all().await.class, None);
    let into = unique("large");
    let report = restore(&site, &copy("acme", &into)).await.unwrap();
    assert_eq!((report.rows, report.tables), (75_300, 3));
    assert_eq!(sorted(&dump(server, &into)), sorted(&dump(server, &database)));
    let valid = "SELECT count(*), bool_and(indisvalid AND indisready) FROM pg_index WHERE indrelid IN ('one'::regclass, 'two'::regclass, 'three'::regclass)";
    assert_eq!(server.sql(&into, valid).trim(), "15|t");
}

/// `scripts/restore-without-tenure`, not started yet.
fn script(site: &Site, server: &Cluster, tenant: &str, into: &str) -> Command {
    let (identity, signers) = (site.folder().join("identity"), site.folder().join("allowed_signers"));
    std::fs::write(&identity, site.identity_text() + "\n").unwrap();
    std::fs::write(&signers, &site.signers).unwrap();
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/restore-without-tenure"));
    command.env("PGHOST", server.socket_folder()).env("PGPORT", server.port().to_string()).env("PGUSER", "postgres");
    // The script takes the newest pg_restore of the machine, but first the one on its path.
    command.env("PATH", format!("{}:{}", bin().display(), std::env::var("PATH").unwrap()));
    command.arg("--vault").arg(site.folder().join("vault")).arg("--keyring").arg(site.folder().join("keyring"));
    command.arg("--identity").arg(&identity).arg("--allowed-signers").arg(&signers);
    command.args(["--tenant", tenant, "--into", into]);
    command
}

/// Restores by `scripts/restore-without-tenure`, and gives what it said.
pub fn without_tenure(site: &Site, server: &Cluster, tenant: &str, into: &str) -> String {
    String::from_utf8(run(&mut script(site, server, tenant, into)).stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_without_tenure() {
    let site = Site::new().await;
    let server = shared();
    roles(server);
    let database = site.database("ac'me");
    server.sql(&database, EVERYTHING);
    assert_eq!(site.all().await.class, None);
    let into = unique("with out'");
    let script = |into: &str| script(&site, server, "ac'me", into);
    let said = String::from_utf8(run(&mut script(&into)).stdout).unwrap();
    assert!(said.contains("9 tables, 3076 rows"), "{said}");
    let by_tools = format!("{into}_tools");
    plain_copy(server, &database, &by_tools);
    assert_eq!(sorted(&dump(server, &into)), sorted(&dump(server, &by_tools)));

    // It trusts no more than tenure does.
    for path in walk(&site.folder().join("vault/t")) {
        let text = path.to_string_lossy().into_owned();
        if !["/b/", "/p/", "/c/"].iter().any(|folder| text.contains(folder)) {
            continue;
        }
        let before = std::fs::read(&path).unwrap();
        let mut bytes = before.clone();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let refused = unique("refused");
        let output = script(&refused).stdin(std::process::Stdio::null()).output().unwrap();
        assert!(!output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stdout));
        assert!(
            String::from_utf8_lossy(&output.stderr).starts_with("error: "),
            "{text}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        std::fs::write(&path, before).unwrap();
    }
}
