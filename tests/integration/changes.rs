//! Changes of the schema and of rows between every two steps of a backup: it is as of one moment, before or after the change, or it fails
//! and says so. Never a mixture, never a hang.
//!
//! A backup runs through a proxy, which stops it before one of its statements, whichever of its sessions sends it: the lock, the leader, a
//! reader, `pg_dump`. Then another session makes its change, in one transaction, as far as locks allow; what must wait, waits while the
//! backup goes on. A backup of the quiet database before and one after say what the two moments are: the backup in between must have the
//! very chunks of one of them, which are named by their plaintext.
//!
//! There are two databases, one with rows that hold names. Every moment of a backup, which is the first and the last statement of each
//! kind, meets changes until one has taken place there and did not wait for a lock, in one of the two databases, in turns. The changes
//! take turns too, in an order that gives neighbouring moments changes of every sort; and one that had to wait wherever it came meets
//! earlier moments, until it takes place. With `TENURE_TEST_DDL=5` every moment of each database meets five changes at least, with
//! `TENURE_TEST_DDL='DROP TABLE'` those in whose text that is, with `TENURE_TEST_DDL=all` all, which takes most of a day.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    time::Duration,
};

use chrono::{DateTime, Utc};
use tenure::{
    operation::backup::{Backup, BackupReport},
    postgres::{LibpqEnvironment, Target},
};
use tokio_postgres::types::ToSql;

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
    tally: Tally,
}

/// Reused after it is dropped.
const OID: u32 = 77_777;

/// Longer than anything takes that does not wait for ever.
const FOR_EVER: Duration = Duration::from_secs(600);

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
        let mut this = Self {
            server,
            site,
            template,
            database,
            proxy,
            stores: Content::new(),
            before: Vec::new(),
            statements: Vec::new(),
            tally: Tally::default(),
        };
        this.make_anew().await;
        assert_eq!(said(&this.quiet().await), "", "the first backup");
        this.before = this.chunks().await.1;
        this.stores = content(this.site.folder());
        this.proxy.reset();
        assert_eq!(said(&this.backup().run(&every_tenant()).await.unwrap()), "", "through the proxy");
        assert!(this.before == this.chunks().await.1, "two backups of a quiet database differ");
        this.statements = this.proxy.statements();
        this
    }

    /// Two readers, little patience with locks, and much with a busy machine: a backup that fails for that would tell nothing.
    fn backup(&self) -> Backup {
        let mut backup = through_proxy(&self.site, &self.proxy);
        let environment = LibpqEnvironment { home: None, user: "nobody".into(), variables: BTreeMap::new() };
        let patient = format!("{} connect_timeout=60", self.proxy.description());
        backup.clusters[0].target = Target::parse(&patient, &environment).unwrap();
        Backup { jobs: 2, lock_timeout: Duration::from_millis(300), ..backup }
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

    /// The newest backup: the server's clock when its snapshot was taken, and names and parts of its chunks, which is every byte of it.
    async fn chunks(&self) -> (DateTime<Utc>, Vec<String>) {
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
        (manifest.server_time, chunks)
    }

    /// Backs up with a change before the `nth` of the statements `statement`. `None` when that statement did not come.
    async fn meet(&mut self, statement: &str, nth: usize, (how, sql, undo): (How, &str, &str)) -> Option<Met> {
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
        if let Some(ended) = ended {
            // Readers and pg_dump do not meet in the same way every time.
            assert_eq!(said(&ended.unwrap().unwrap()), "", "{case}: it did not come");
            self.proxy.reset();
            return None;
        }
        let changing = self.change(how, &sql).await;
        stopped.go_on();
        let report = tokio::time::timeout(FOR_EVER, running).await.unwrap_or_else(|_| panic!("{case}: it hangs"));
        let (begun, done) = (changing.begun, changing.done);
        changing.end().await;
        let found = match report.unwrap() {
            Ok(report) if report.class.is_none() => Ok(self.chunks().await),
            Ok(report) => {
                let [result] = &report.results[..] else { panic!("{case}: {report:?}") };
                let error = result.error.as_ref().unwrap();
                assert!(!error.hint.is_empty(), "{case}: {error:?}");
                Err(error.kind.to_string())
            }
            Err(failure) => {
                assert!(!failure.hint.is_empty(), "{case}: {failure:?}");
                Err(failure.kind.to_string())
            }
        };
        let next = self.quiet().await;
        assert_eq!(said(&next), "", "{case}: the next backup");
        let (_, after) = self.chunks().await;
        if !undo.is_empty() {
            let client = self.server.client("postgres").await;
            client.batch_execute(undo).await.ok();
        }
        let outcome = match found {
            Err(kind) => format!("failed with {kind}"),
            Ok((taken, found)) => {
                let is = [("before", &self.before), ("after", &after)].into_iter().filter(|(_, moment)| **moment == found);
                let is: Vec<&str> = is.map(|(moment, _)| moment).collect();
                // What had not begun is not in the snapshot, nor what ends after the backup; what was done is in it.
                let must = match () {
                    () if how == Open || taken < begun => Some("before"),
                    () if done.is_some_and(|done| done < taken) => Some("after"),
                    () => None,
                };
                let others = |moment: &[String]| found.iter().filter(|chunk| !moment.contains(chunk)).count();
                match must {
                    _ if is.is_empty() => {
                        let (of_before, of_after) = (others(&self.before), others(&after));
                        self.tally.wrong.push(format!(
                            "{case}: a mixture: {of_before} and {of_after} of its chunks are not of the two moments"
                        ));
                    }
                    Some(must) if !is.contains(&must) => {
                        self.tally.wrong.push(format!("{case}: it is as of {is:?}, and its time says {must:?}"));
                    }
                    _ => {}
                }
                is.join(" and ")
            }
        };
        Some(Met { outcome, took_place: done.is_some() })
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
        let watcher = self.server.client("postgres").await;
        let clock = async || watcher.query_one("SELECT clock_timestamp()", &[]).await.unwrap().get(0);
        let begun = clock().await;
        let (tell, mut told) = tokio::sync::oneshot::channel();
        let work = tokio::spawn(async move {
            let mut gave_up = false;
            for statement in statements {
                if let Err(error) = client.batch_execute(&statement).await {
                    // A lock that was not to be had.
                    assert!(error.code().is_some_and(|code| ["55P03", "40P01"].contains(&code.code())), "{statement}: {error:?}");
                    client.batch_execute("ROLLBACK").await.unwrap();
                    gave_up = true;
                }
            }
            tell.send(!gave_up).ok();
            client
        });
        let (waits, whose): (_, [&(dyn ToSql + Sync); 1]) =
            ("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock')", [&pid]);
        let done = loop {
            tokio::select! {
                done = &mut told => break done.unwrap_or(false),
                waits = watcher.query_one(waits, &whose) => if waits.unwrap().get(0) { break false },
            }
        };
        let done = if done { Some(clock().await) } else { None };
        Changing { work, begun, done }
    }

    /// Every moment's changes: as many as are asked for, and then others until one takes place.
    async fn walk(&mut self, moments: &[(usize, Moment)]) {
        for (turn, moment) in moments {
            let (asked, others) = asked_and_others(*turn);
            for change in asked {
                self.pair(moment, change).await;
            }
            // What waited once would most likely wait again.
            let (waited, others): (Vec<usize>, Vec<usize>) = others.into_iter().partition(|change| self.tally.waited(*change));
            for change in others.into_iter().chain(waited) {
                if self.tally.moments.contains(&moment.of) {
                    break;
                }
                self.pair(moment, change).await;
            }
        }
    }

    /// A change that waited wherever it came takes place where less is locked: at the beginning, and as late as halving finds, from where
    /// others took place last that must wait elsewhere.
    async fn earlier(&mut self, changes: &[usize]) {
        let firsts: Vec<Moment> = self.moments().into_iter().filter(|moment| !moment.of.1).collect();
        let may_wait = self.tally.pairs.iter().filter(|(_, change, took_place)| *took_place && self.tally.waited(*change));
        let places = may_wait.filter_map(|(of, ..)| firsts.iter().position(|moment| moment.of == *of));
        let latest = places.max().unwrap_or(firsts.len() / 2);
        for change in changes {
            let mut at = latest;
            while !self.pair(&firsts[at], *change).await && at > 0 {
                at /= 2;
            }
        }
    }

    /// Says whether the change took place.
    async fn pair(&mut self, moment: &Moment, change: usize) -> bool {
        let statement = &moment.of.0;
        let (mut tries, mut nth) = (0, moment.nth);
        let met = loop {
            tries += 1;
            match self.meet(statement, nth, CHANGES[change]).await {
                Some(met) => break met,
                None => assert!(tries < 12, "in {tries} backups there is no {nth}. {statement}"),
            }
            // What is asked again and again while something lasts is asked less often when it lasts less long.
            if nth > 2 {
                nth -= nth.div_ceil(4);
            }
        };
        let Met { outcome, took_place } = met;
        if asked_for().is_some() {
            say(&format!("{outcome}, took place {took_place}: {} before {}. {statement:.80}\n", CHANGES[change].1, moment.nth));
        }
        self.tally.pairs.push((moment.of.clone(), change, took_place));
        if took_place {
            self.tally.moments.insert(moment.of.clone());
        }
        *self.tally.outcomes.entry(outcome).or_default() += 1;
        took_place
    }

    /// Statements by kind: the first of each, and the last.
    fn moments(&self) -> Vec<Moment> {
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        let mut first = Vec::new();
        for statement in &self.statements {
            let count = count.entry(statement).or_default();
            *count += 1;
            if *count == 1 {
                first.push(statement);
            }
        }
        let moment = |statement: &String, nth| Moment { of: (statement.clone(), nth > 1), nth };
        let last = first.iter().filter(|statement| count[statement.as_str()] > 1);
        let last: Vec<Moment> = last.map(|statement| moment(statement, count[statement.as_str()])).collect();
        first.iter().map(|statement| moment(statement, 1)).chain(last).collect()
    }
}

/// Before a statement of a backup.
#[derive(Clone)]
struct Moment {
    /// The statement, and whether it is the last of its kind.
    of: (String, bool),
    /// The how manieth of its kind that is in its database.
    nth: usize,
}

/// What became of a change and a moment.
struct Met {
    outcome: String,
    /// It was done before the backup went on, and waited for nothing.
    took_place: bool,
}

/// What became of all of them.
#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<String, usize>,
    /// Those at which a change took place.
    moments: BTreeSet<(String, bool)>,
    /// Moment, change, whether it took place.
    pairs: Vec<((String, bool), usize, bool)>,
    /// Backups that are of no moment, or of another one than they say.
    wrong: Vec<String>,
}

impl Tally {
    /// Whether a change had to wait anywhere.
    fn waited(&self, change: usize) -> bool {
        self.pairs.iter().any(|(_, of, took_place)| *of == change && !took_place)
    }
}

struct Changing {
    work: tokio::task::JoinHandle<tokio_postgres::Client>,
    /// By the server's clock.
    begun: DateTime<Utc>,
    /// `None` while it waits for a lock, and when it gave up.
    done: Option<DateTime<Utc>>,
}

impl Changing {
    async fn end(self) {
        let client = tokio::time::timeout(FOR_EVER, self.work).await.expect("the change hangs").unwrap();
        // Of one that is open; otherwise it warns.
        client.batch_execute("COMMIT").await.unwrap();
    }
}

fn every_tenant() -> tenure::operation::backup::Which {
    tenure::operation::backup::Which::All { accept_missing: false }
}

/// Nothing, if it succeeded.
fn said(report: &BackupReport) -> String {
    if report.class.is_none() { String::new() } else { format!("{report:?}") }
}

fn say(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

/// Which changes each moment of each database meets at least: so many, `all`, or those in whose text this is. `None`: as usual, and nothing
/// is said of each.
fn asked_for() -> Option<String> {
    std::env::var("TENURE_TEST_DDL").ok()
}

/// The changes that a moment meets, and those that it meets until one takes place.
fn asked_and_others(turn: usize) -> (Vec<usize>, Vec<usize>) {
    let asked = asked_for().unwrap_or("1".to_owned());
    let least = if asked == "all" { Some(CHANGES.len()) } else { asked.parse().ok() };
    let numbered = turns(turn).enumerate();
    let (first, others): (Vec<_>, Vec<_>) =
        numbered.partition(|(n, change)| least.map_or_else(|| CHANGES[*change].1.contains(&asked), |least| *n < least));
    (first.into_iter().map(|(_, change)| change).collect(), others.into_iter().map(|(_, change)| change).collect())
}

/// All changes, in the order in which the `turn`th moment meets them. The steps are prime to their number, so that as many moments as there
/// are changes begin with different ones; the longer step is its golden section, which spreads neighbours best.
fn turns(turn: usize) -> impl Iterator<Item = usize> {
    let all = CHANGES.len();
    let step = |share: f64| {
        let least = (all as f64 * share) as usize;
        (least..).find(|step| (2..=*step).all(|part| !step.is_multiple_of(part) || !all.is_multiple_of(part))).unwrap()
    };
    let (first, next) = (step(0.618), step(0.382));
    (0..all).map(move |n| (turn * first + n * next) % all)
}

#[tokio::test(flavor = "multi_thread")]
async fn between_every_two_statements_are_all_in_or_all_out() {
    let (mut plain, mut names) = tokio::join!(Changed::new(&[TENANT]), Changed::new(&[TENANT, NAMES]));
    let databases = [plain.moments(), names.moments()];
    let [all, others] = databases.each_ref().map(|moments| moments.iter().map(|moment| &moment.of).collect::<Vec<_>>());
    let all: Vec<_> = all.iter().chain(others.iter().filter(|of| !all.contains(of))).collect();
    let mut work = [Vec::new(), Vec::new()];
    for (turn, of) in all.iter().enumerate() {
        let found = databases.each_ref().map(|moments| moments.iter().find(|moment| moment.of == ***of));
        // Round by round, so that each change meets both databases.
        let whose = (turn + turn / CHANGES.len()) % 2;
        let whose = if found[whose].is_some() { whose } else { 1 - whose };
        for (database, moment) in found.into_iter().enumerate() {
            match moment {
                Some(moment) if asked_for().is_some() => {
                    work[database].push((turn + database * CHANGES.len() / 2, moment.clone()));
                }
                Some(moment) if database == whose => work[database].push((turn, moment.clone())),
                _ => {}
            }
        }
    }
    tokio::join!(plain.walk(&work[0]), names.walk(&work[1]));
    let took_place = |pairs: &[((String, bool), usize, bool)], change: usize| {
        pairs.iter().filter(|(_, of, took_place)| *of == change && *took_place).count()
    };
    let both = [&plain.tally.pairs[..], &names.tally.pairs[..]].concat();
    let waited: Vec<usize> = (0..CHANGES.len()).filter(|change| took_place(&both, *change) == 0).collect();
    let (first, second) = waited.split_at(waited.len() / 2);
    tokio::join!(plain.earlier(first), names.earlier(second));

    let both = [&plain.tally.pairs[..], &names.tally.pairs[..]].concat();
    let met = |change: usize| both.iter().filter(|(_, of, _)| *of == change).map(|(of, ..)| of).collect::<BTreeSet<_>>().len();
    let fewest = (0..CHANGES.len()).map(met).min().unwrap();
    let mut outcomes = plain.tally.outcomes.clone();
    names.tally.outcomes.iter().for_each(|(outcome, count)| *outcomes.entry(outcome.clone()).or_default() += count);
    let text = format!(
        "changes: {} pairs of {} changes and {} moments; each moment saw one take place, each change met {fewest} moments at least, and {} \
         only where less is locked; as of {outcomes:?}\n",
        both.len(),
        CHANGES.len(),
        all.len(),
        waited.len()
    );
    say(&text);
    let wrong = [plain.tally.wrong, names.tally.wrong].concat();
    assert!(wrong.is_empty(), "{} are of no one moment:\n{}", wrong.len(), wrong.join("\n"));
    let unmet: Vec<_> =
        all.iter().filter(|of| !plain.tally.moments.contains(**of) && !names.tally.moments.contains(**of)).collect();
    assert!(unmet.is_empty(), "nothing took place before {unmet:?}");
    let never: Vec<_> =
        (0..CHANGES.len()).filter(|change| took_place(&both, *change) == 0).map(|change| CHANGES[change].1).collect();
    assert!(never.is_empty(), "these never took place: {never:?}");
    assert!(fewest > 1, "{text}");
    for must in ["before", "after"] {
        assert!(outcomes.contains_key(must), "{text}");
    }
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
