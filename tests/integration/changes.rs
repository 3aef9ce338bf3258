//! Changes of the schema and of rows between every two steps of a backup: it is as of one moment, before or after the change, or it fails
//! and says so. Never a mixture, never a hang.
//!
//! A backup runs through a proxy, which stops it before one of its statements, whichever of its sessions sends it: the lock, the leader, a
//! reader, `pg_dump`. Then another session makes its change, in one transaction, as far as locks allow; what must wait, waits while the
//! backup goes on. A backup of the quiet database before and one after say what the two moments are: the backup in between must have the
//! very chunks of one of them, which are named by their plaintext.
//!
//! One pair of a change and a statement in [`SAMPLE`] is tried, always the same ones, other pairs for each of the two databases. With
//! `TENURE_TEST_DDL=20` it is one in 20, and with `TENURE_TEST_DDL=all` all of them, which takes most of a day.

use std::{
    collections::BTreeMap,
    io::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tenure::operation::backup::{Backup, BackupReport};

use crate::{
    harness::{
        postgres::{Cluster, Options},
        session_proxy::SessionProxy,
        site::Site,
    },
    walk::{Content, content, sessions::through_proxy, set},
};

const TENANT: &str = include_str!("changes/tenant.sql");
const NAMES: &str = include_str!("changes/names.sql");

/// How a change is made.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    /// In one transaction, with a row that says that it happened.
    Together,
    /// Its statements one by one: they refuse to be in a transaction.
    Alone,
    /// In a transaction that ends after the backup.
    Open,
}
use How::{Alone, Open, Together};

/// What is done; where it reaches beyond the database, the second text takes it back.
const CHANGES: &[(How, &str, &str)] = &[
    (Together, "CREATE TABLE more AS SELECT 5 AS id", ""),
    (Together, "DROP TABLE wide", ""),
    (Together, "TRUNCATE t, other, big", ""),
    (Together, "TRUNCATE counted RESTART IDENTITY; INSERT INTO counted (v) VALUES ('new')", ""),
    (Together, "ALTER TABLE big ALTER id TYPE numeric USING id + 0.5", ""),
    (Together, "ALTER TABLE t ADD COLUMN late int DEFAULT 9", ""),
    (Together, "ALTER TABLE big DROP COLUMN v", ""),
    (Together, "ALTER TABLE counted RENAME COLUMN v TO w", ""),
    (Together, "ALTER TABLE wide RENAME TO narrow; CREATE VIEW wide AS SELECT 1/0 AS id, 'x' AS v", ""),
    (Together, "ALTER TABLE wide RENAME TO swapped; ALTER TABLE quick RENAME TO wide; ALTER TABLE swapped RENAME TO quick", ""),
    (Together, "DROP TABLE wide; CREATE VIEW wide AS SELECT 1/0 AS id, 'x' AS v", ""),
    (Together, "DROP TABLE quick; CREATE TABLE quick (id text)", ""),
    (Together, "ALTER TABLE parts ATTACH PARTITION part2 FOR VALUES IN (2)", ""),
    (Together, "ALTER TABLE parts DETACH PARTITION part1", ""),
    (Together, "DROP TABLE parts", ""),
    (Together, "CREATE TABLE part3 PARTITION OF parts FOR VALUES IN (3); INSERT INTO parts VALUES (3, 'r')", ""),
    (Together, "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", ""),
    (Together, "ALTER TYPE mood ADD VALUE 'so so' BEFORE 'glad'", ""),
    (Together, "ALTER TYPE mood RENAME TO humour", ""),
    (Together, "ALTER TYPE pair ADD ATTRIBUTE c int", ""),
    (Together, "ALTER TYPE pair DROP ATTRIBUTE a", ""),
    (Together, "ALTER DOMAIN dom RENAME TO positive; ALTER DOMAIN positive ADD CHECK (VALUE < 1000)", ""),
    (Together, "ALTER TABLE u SET SCHEMA moved", ""),
    (Together, "ALTER SCHEMA app RENAME TO app2", ""),
    (Together, "ALTER SCHEMA app RENAME TO third; ALTER SCHEMA spare RENAME TO app; ALTER SCHEMA third RENAME TO spare", ""),
    (Together, "CREATE OR REPLACE FUNCTION f(i int) RETURNS int LANGUAGE sql IMMUTABLE RETURN i + 2", ""),
    (Together, "CREATE OR REPLACE FUNCTION g(i int, j int DEFAULT 4) RETURNS int LANGUAGE sql RETURN i + j", ""),
    (Together, "ALTER FUNCTION f(int) RENAME TO f2", ""),
    (Together, "ALTER FUNCTION g(int, int) SET SCHEMA moved; ALTER OPERATOR === (int, int) SET SCHEMA moved", ""),
    (Together, "CREATE OR REPLACE VIEW v AS SELECT id, f(id) AS more, g(id) AS most, id = 1 AS is_one, 1 AS extra FROM t", ""),
    (Together, "ALTER VIEW v RENAME COLUMN more TO less", ""),
    (Together, "ALTER VIEW v RENAME TO w; CREATE VIEW v AS SELECT 1 AS id", ""),
    (Together, "DROP VIEW of_view", ""),
    (Together, "ALTER SEQUENCE counted_id_seq RENAME TO counter", ""),
    (Together, "ALTER SEQUENCE free RESTART WITH 100", ""),
    (Together, "ALTER SEQUENCE free INCREMENT BY 5", ""),
    (Together, "DROP SEQUENCE free; CREATE VIEW free AS SELECT 1/0 AS last_value, true AS is_called", ""),
    (Together, "ALTER INDEX by_f RENAME TO by_g", ""),
    (Together, "DROP INDEX by_f", ""),
    (Together, "CREATE INDEX later ON t (v)", ""),
    (Together, "ALTER TABLE t ADD CONSTRAINT positive CHECK (id > 0)", ""),
    (Together, "ALTER TABLE big ADD PRIMARY KEY (id)", ""),
    (Together, "ALTER TABLE counted ADD FOREIGN KEY (id) REFERENCES t", ""),
    (Together, "CREATE OR REPLACE TRIGGER tr AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION fired()", ""),
    (Together, "ALTER TABLE t DISABLE TRIGGER tr", ""),
    (Together, "GRANT ALL ON t TO changes_reader WITH GRANT OPTION; GRANT SELECT ON v TO changes_reader", ""),
    (Together, "REVOKE SELECT ON t FROM changes_reader; REVOKE EXECUTE ON FUNCTION f FROM PUBLIC", ""),
    (Together, "ALTER TABLE u OWNER TO changes_reader; ALTER FUNCTION g OWNER TO postgres", ""),
    (Together, "ALTER ROLE changes_owner RENAME TO changes_boss", "ALTER ROLE changes_boss RENAME TO changes_owner"),
    (Together, "CREATE EXTENSION hstore", ""),
    (Together, "ALTER EXTENSION pg_trgm UPDATE", ""),
    (Together, "DROP EXTENSION pg_trgm", ""),
    (Together, "INSERT INTO t VALUES (3, 'three'); REFRESH MATERIALIZED VIEW filled", ""),
    (Together, "SELECT lo_unlink(4711)", ""),
    (Together, "SELECT lo_put(4711, 2, 'x'); SELECT lo_from_bytea(4712, 'another')", ""),
    (Together, "ALTER LARGE OBJECT 4711 OWNER TO changes_owner; COMMENT ON LARGE OBJECT 4711 IS 'x'", ""),
    (Together, "UPDATE t SET v = upper(v); DELETE FROM u; UPDATE wide SET v = reverse(v)", ""),
    (Together, "UPDATE big SET v = 'small'; INSERT INTO typed VALUES ('glad', NULL, NULL)", ""),
    (Together, "ALTER TABLE t SET (fillfactor = 50); ALTER STATISTICS st RENAME TO st2", ""),
    (Together, "ALTER TABLE quick SET LOGGED", ""),
    (Together, "ALTER TABLE wide SET UNLOGGED", ""),
    (Together, "CLUSTER big USING big_id", ""),
    (Together, "REINDEX TABLE t", ""),
    (Together, "ALTER TEXT SEARCH CONFIGURATION conf RENAME TO conf2", ""),
    (Together, "ALTER COLLATION byte RENAME TO octet", ""),
    (Together, "COMMENT ON TABLE t IS 'a table'; COMMENT ON SCHEMA app IS 'a schema'", ""),
    (
        Together,
        "ALTER DATABASE {database} SET work_mem = '5MB'; ALTER ROLE changes_reader IN DATABASE {database} SET jit = off",
        "",
    ),
    (Together, "ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER POLICY own ON u USING (id > 1)", ""),
    (Together, "CREATE RULE r AS ON INSERT TO wide DO ALSO NOTHING; ALTER PUBLICATION pub ADD TABLE u", ""),
    (Together, "ALTER TABLE t ALTER n SET DEFAULT f(2), ALTER v SET NOT NULL", ""),
    (Alone, "VACUUM FULL big", ""),
    (Alone, "REINDEX TABLE CONCURRENTLY t", ""),
    (Alone, "CREATE INDEX CONCURRENTLY later ON t (v)", ""),
    (Alone, "DROP INDEX CONCURRENTLY by_f", ""),
    (Alone, "REFRESH MATERIALIZED VIEW CONCURRENTLY filled", ""),
    (Alone, "ALTER TABLE parts DETACH PARTITION part1 CONCURRENTLY", ""),
    (Alone, "ALTER TYPE mood ADD VALUE 'so so' BEFORE 'glad'", ""),
    (Alone, "SET lock_timeout = '20ms'; ALTER TABLE t ADD COLUMN late int", ""),
    (Open, "ALTER TYPE mood ADD VALUE 'so so' BEFORE 'glad'", ""),
    (Open, "ALTER FUNCTION f(int) RENAME TO f2; DROP VIEW of_view", ""),
    (Open, "UPDATE t SET v = upper(v); SELECT lo_unlink(4711)", ""),
    (Open, "TRUNCATE wide", ""),
];

/// A database that is made anew for each change, the very same one: name, OID, files.
struct Changed {
    server: &'static Cluster,
    site: Site,
    template: String,
    database: String,
    proxy: SessionProxy,
    /// What vault and keyring hold after the first backup.
    stores: Content,
    /// The chunks of the first backup, when nothing changed.
    before: Vec<String>,
    /// Every statement of a backup, in order.
    statements: Vec<String>,
}

/// Reused after it is dropped.
const OID: u32 = 77_777;

/// Longer than anything takes that does not wait for ever.
const FOR_EVER: Duration = Duration::from_secs(120);

impl Changed {
    async fn new(setup: &[&str]) -> Self {
        // Nothing but the changes changes anything.
        let settings = vec!["autovacuum = off".to_owned()];
        let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options { settings, ..Options::default() })));
        server.sql("postgres", "CREATE ROLE changes_owner; CREATE ROLE changes_reader");
        let template = server.database("template");
        setup.iter().for_each(|sql| drop(server.sql(&template, sql)));
        let site = Site::on(server).await;
        let database = site.name("acme");
        let proxy = SessionProxy::start(server);
        let mut this =
            Self { server, site, template, database, proxy, stores: Content::new(), before: Vec::new(), statements: Vec::new() };
        this.make_anew().await;
        assert_eq!(said(&this.quiet().await), "", "the first backup");
        this.before = this.chunks().await;
        this.stores = content(this.site.folder());
        this.proxy.reset();
        assert_eq!(said(&this.backup().run(&every_tenant()).await.unwrap()), "", "through the proxy");
        assert!(this.before == this.chunks().await, "two backups of a quiet database differ");
        this.statements = this.proxy.statements();
        this
    }

    /// Two readers, and little patience with locks.
    fn backup(&self) -> Backup {
        Backup { jobs: 2, lock_timeout: Duration::from_millis(300), ..through_proxy(&self.site, &self.proxy) }
    }

    /// A backup that nothing disturbs.
    async fn quiet(&self) -> BackupReport {
        self.site.all().await
    }

    async fn make_anew(&mut self) {
        let (database, template) = (&self.database, &self.template);
        let admin = self.server.client("postgres").await;
        for sql in [
            format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"),
            format!("CREATE DATABASE {database} TEMPLATE {template} OID {OID}"),
        ] {
            admin.batch_execute(&sql).await.unwrap();
        }
        set(self.site.folder(), &self.stores_or_now());
    }

    fn stores_or_now(&self) -> Content {
        if self.stores.is_empty() { content(self.site.folder()) } else { self.stores.clone() }
    }

    /// Names and parts of the newest backup's chunks: what is in it, byte by byte.
    async fn chunks(&self) -> Vec<String> {
        let vault = &self.site.backup.vault;
        let lockers = vault.lockers().await.unwrap();
        let [locker] = lockers[..] else { panic!("{lockers:?}") };
        let history = vault.history(locker, chrono::Utc::now()).await.unwrap();
        assert!(history.problems.is_empty(), "{:?}", history.problems);
        let manifest = &history.newest().unwrap().manifest;
        let mut entries = manifest.description.clone();
        for page in &manifest.pages {
            entries.extend(vault.page(locker, page).await.unwrap().entries);
        }
        let mut chunks: Vec<String> = entries.iter().map(|entry| format!("{:?} {:?}", entry.name, entry.parts)).collect();
        chunks.sort_unstable();
        chunks
    }

    /// Backs up with a change before the `nth` of the statements `statement`, and says how it ended.
    async fn meet(&mut self, statement: &str, nth: usize, (how, sql, undo): (How, &str, &str)) -> Outcome {
        let case = format!("{how:?} {sql} before {nth}. {statement}");
        self.make_anew().await;
        let sql = sql.replace("{database}", &self.database);
        let stopped = self.proxy.stop_before(statement, nth);
        let backup = self.backup();
        let mut running = tokio::spawn(async move { backup.run(&every_tenant()).await });
        let ended = tokio::select! {
            () = stopped.reached() => None,
            ended = &mut running => Some(ended),
        };
        if ended.is_some() {
            // Readers and pg_dump do not meet in the same way every time.
            self.proxy.reset();
            return Outcome::Passed;
        }
        let changing = self.change(how, &sql).await;
        stopped.go_on();
        let report = tokio::time::timeout(FOR_EVER, running).await.unwrap_or_else(|_| panic!("{case}: it hangs"));
        changing.end().await;
        let found = match report.unwrap() {
            Ok(report) if report.class.is_none() => Ok(self.chunks().await),
            Ok(report) => {
                let [result] = &report.results[..] else { panic!("{case}: {report:?}") };
                let error = result.error.as_ref().unwrap();
                assert!(!error.hint.is_empty(), "{case}: {error:?}");
                Err(format!("{}: {}", error.kind, error.message))
            }
            Err(failure) => Err(format!("{}: {}", failure.kind, failure.one_line())),
        };
        let next = self.quiet().await;
        assert_eq!(said(&next), "", "{case}: the next backup");
        let after = self.chunks().await;
        if !undo.is_empty() {
            let client = self.server.client("postgres").await;
            client.batch_execute(undo).await.ok();
        }
        match found {
            Err(error) => Outcome::Failed(error),
            Ok(found) if found == after => Outcome::After,
            Ok(found) if found == self.before => Outcome::Before,
            Ok(found) => {
                let others = |moment: &[String]| found.iter().filter(|chunk| !moment.contains(chunk)).count();
                panic!(
                    "{case}: a mixture: {} and {} of its chunks are not of the two moments",
                    others(&self.before),
                    others(&after)
                )
            }
        }
    }

    /// Begins the change. It is done, or waits for a lock, when this returns.
    async fn change(&self, how: How, sql: &str) -> Changing {
        let client = self.server.client(&self.database).await;
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let statements: Vec<String> = match how {
            Together => vec![format!("BEGIN; INSERT INTO log VALUES ('changed'); {sql}; COMMIT")],
            Alone => sql.split("; ").map(str::to_owned).collect(),
            Open => vec![format!("BEGIN; INSERT INTO log VALUES ('changed'); {sql}")],
        };
        let done = std::sync::Arc::new(AtomicBool::new(false));
        let is_done = done.clone();
        let work = tokio::spawn(async move {
            for statement in statements {
                if let Err(error) = client.batch_execute(&statement).await {
                    // A lock that was not to be had.
                    assert!(error.code().is_some_and(|code| ["55P03", "40P01"].contains(&code.code())), "{statement}: {error:?}");
                    client.batch_execute("ROLLBACK").await.unwrap();
                }
            }
            is_done.store(true, Ordering::SeqCst);
            client
        });
        let watcher = self.server.client("postgres").await;
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock')";
        while !done.load(Ordering::SeqCst) && !work.is_finished() {
            if watcher.query_one(waits, &[&pid]).await.unwrap().get(0) {
                break;
            }
            tokio::task::yield_now().await;
        }
        Changing { work }
    }
}

struct Changing {
    work: tokio::task::JoinHandle<tokio_postgres::Client>,
}

impl Changing {
    async fn end(self) {
        let client = tokio::time::timeout(FOR_EVER, self.work).await.expect("the change hangs").unwrap();
        // Of one that is open; otherwise it warns.
        client.batch_execute("COMMIT").await.unwrap();
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    /// The statement did not come.
    Passed,
    Before,
    After,
    Failed(String),
}

fn every_tenant() -> tenure::operation::backup::Which {
    tenure::operation::backup::Which::All { accept_missing: false }
}

/// Nothing, if it succeeded.
fn said(report: &BackupReport) -> String {
    if report.class.is_none() { String::new() } else { format!("{report:?}") }
}

/// One pair in so many is tried. `None`: as many as usual, and nothing is said of each.
fn asked_for() -> Option<usize> {
    let value = std::env::var("TENURE_TEST_DDL").ok()?;
    Some(if value == "all" { 1 } else { value.parse().expect("TENURE_TEST_DDL is a number or `all`") })
}

/// Statements by kind: the first of each, and the last.
fn moments(statements: &[String]) -> Vec<(&str, usize)> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    let mut first = Vec::new();
    for statement in statements {
        let count = count.entry(statement).or_default();
        *count += 1;
        if *count == 1 {
            first.push((statement.as_str(), 1));
        }
    }
    let last = first.iter().filter(|(statement, _)| count[statement] > 1).map(|(statement, _)| (*statement, count[statement]));
    let last: Vec<_> = last.collect();
    [first, last].concat()
}

async fn between_every_two_statements(setup: &[&str], what: &str, offset: usize) {
    let mut database = Changed::new(setup).await;
    let statements = database.statements.clone();
    let moments = moments(&statements);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let (mut tried, step) = (0, asked_for().unwrap_or(SAMPLE));
    for (m, (statement, nth)) in moments.iter().enumerate() {
        for (c, change) in CHANGES.iter().enumerate() {
            if (m * 7 + c * 3) % step != offset % step {
                continue;
            }
            let outcome = database.meet(statement, *nth, *change).await;
            if asked_for().is_some() {
                std::io::stderr()
                    .write_all(format!("{outcome:?}: {} before {nth}. {statement:.80}\n", change.1).as_bytes())
                    .unwrap();
            }
            tried += usize::from(outcome != Outcome::Passed);
            let key = match outcome {
                Outcome::Failed(why) => format!("failed with {}", why.split(':').next().unwrap_or_default()),
                outcome => format!("{outcome:?}").to_lowercase(),
            };
            *outcomes.entry(key).or_default() += 1;
        }
    }
    let text = format!(
        "changes: {tried} of {} pairs of {} changes and {} statements of a backup {what}: {outcomes:?}\n",
        CHANGES.len() * moments.len(),
        CHANGES.len(),
        moments.len()
    );
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    for must in ["before", "after"] {
        assert!(outcomes.contains_key(must), "{text}");
    }
}

/// A prime, so that the pairs are spread over changes and statements.
const SAMPLE: usize = 173;

#[tokio::test(flavor = "multi_thread")]
async fn of_a_plain_database_are_all_in_or_all_out() {
    between_every_two_statements(&[TENANT], "of a plain database", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_database_whose_rows_hold_names_are_all_in_or_all_out() {
    between_every_two_statements(&[TENANT, NAMES], "of a database whose rows hold names", SAMPLE / 2).await;
}

/// A database that is being backed up keeps its name; dropped by force, its backup fails.
#[tokio::test(flavor = "multi_thread")]
async fn of_the_database_itself() {
    let mut changed = Changed::new(&["CREATE TABLE t AS SELECT 1 AS id"]).await;
    let copy = changed.statements.iter().find(|statement| statement.contains("COPY \"public\".\"t\"")).unwrap().clone();
    let stopped = changed.proxy.stop_before(&copy, 1);
    let backup = changed.backup();
    let running = tokio::spawn(async move { backup.run(&every_tenant()).await });
    stopped.reached().await;
    let admin = changed.server.client("postgres").await;
    let database = &changed.database;
    let error = admin.batch_execute(&format!("ALTER DATABASE {database} RENAME TO other")).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "55006", "{error}");
    admin.batch_execute(&format!("DROP DATABASE {database} WITH (FORCE)")).await.unwrap();
    stopped.go_on();
    let report = tokio::time::timeout(FOR_EVER, running).await.expect("it hangs").unwrap().unwrap();
    let error = report.results[0].error.as_ref().unwrap();
    assert!(!error.hint.is_empty(), "{error:?}");
    changed.make_anew().await;
    assert_eq!(said(&changed.quiet().await), "", "the next backup");
}
