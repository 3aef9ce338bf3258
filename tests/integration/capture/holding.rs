//! Nothing that happens beside a snapshot gets into it, and nothing waits for ever.

use std::{future::Future, pin::Pin, sync::Mutex, time::Duration};

use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use tenure::postgres::{
    ConnectCause,
    snapshot::{ReadError, Step, Steps},
};

use super::*;
use crate::harness::postgres::{Options, eventually, shared, unique};

type Act<'a> = Box<dyn FnMut(u32) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> + Send + 'a>;

/// Runs SQL when a step is reached, once per attempt in which there is some.
struct At<'a> {
    step: Step,
    act: tokio::sync::Mutex<Act<'a>>,
    attempts: Mutex<Vec<u32>>,
}

#[async_trait]
impl Steps for At<'_> {
    async fn reached(&self, step: Step, attempt: u32) {
        if step == self.step {
            self.attempts.lock().unwrap().push(attempt);
            let acting = (self.act.lock().await)(attempt);
            acting.await;
        }
    }
}

/// Opens a snapshot, running `sql(attempt)` in the database when `step` is reached.
async fn open_during(
    cluster: &Cluster,
    database: &str,
    step: Step,
    sql: impl Fn(u32) -> String + Send + Copy,
) -> (Result<Snapshot, SnapshotError>, Vec<u32>) {
    let client = cluster.client(database).await;
    let client = &client;
    let act: Act<'_> = Box::new(move |attempt| {
        let sql = sql(attempt);
        Box::pin(async move { client.batch_execute(&sql).await.unwrap() })
    });
    let steps = At { step, act: tokio::sync::Mutex::new(act), attempts: Mutex::new(Vec::new()) };
    let target = target(cluster);
    let opening = Opening { target: &target, database, expected_oid: oid_of(cluster, database), lock_timeout: PATIENT };
    let opened = opening.open_watched(&steps).await;
    let attempts = steps.attempts.lock().unwrap().clone();
    (opened, attempts)
}

async fn rows_of(snapshot: &Snapshot, table: &str) -> Vec<String> {
    let described = describe(snapshot).await;
    let read = read_all(snapshot, &described).await;
    read.into_iter()
        .filter(|(label, _)| label.starts_with(&format!("\"public\".\"{table}\"")))
        .flat_map(|(_, rows)| rows)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_emptied_before_the_locks_is_seen_emptied() {
    let cluster = shared();
    let database = cluster.database("capture_truncate");
    cluster.sql(&database, "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2); CREATE TABLE log (rows int)");
    let sql = |_| "BEGIN; TRUNCATE t; INSERT INTO log VALUES (2); COMMIT".to_owned();
    let (snapshot, attempts) = open_during(cluster, &database, Step::Listed, sql).await;
    let snapshot = snapshot.unwrap();
    assert_eq!(attempts, [1]);
    // Both or neither: the moment is one.
    assert_eq!(rows_of(&snapshot, "t").await, [""; 0]);
    assert_eq!(rows_of(&snapshot, "log").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_table_cannot_be_emptied() {
    let cluster = shared();
    let database = cluster.database("capture_locked");
    cluster.sql(&database, "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)");
    let refused = |_| {
        "SET lock_timeout = '1ms';
         DO $$ BEGIN TRUNCATE t; RAISE 'the table was not locked'; EXCEPTION WHEN lock_not_available THEN NULL; END $$"
            .to_owned()
    };
    for step in [Step::Locked, Step::Taken] {
        let (snapshot, _) = open_during(cluster, &database, step, refused).await;
        assert_eq!(rows_of(&snapshot.unwrap(), "t").await, ["1", "2"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_come_and_go_while_others_are_locked_do_no_harm() {
    let cluster = shared();
    let database = cluster.database("capture_come_and_go");
    cluster.sql(&database, "CREATE TABLE goes (id int); CREATE TABLE stays (id int); INSERT INTO stays VALUES (1)");
    let sql = |_| "DROP TABLE goes; ALTER TABLE stays RENAME TO stayed; CREATE TABLE comes AS SELECT 7 AS id".to_owned();
    let (snapshot, attempts) = open_during(cluster, &database, Step::Listed, sql).await;
    let snapshot = snapshot.unwrap();
    assert_eq!(attempts, [1]);
    assert_eq!(names(&describe(&snapshot).await.description), ["public.comes", "public.stayed"]);
    assert_eq!(rows_of(&snapshot, "comes").await, ["7"]);
    assert_eq!(rows_of(&snapshot, "stayed").await, ["1"]);
}

/// A table that came after the listing is locked only after the snapshot: what befalls it in between must be noticed.
#[tokio::test(flavor = "multi_thread")]
async fn emptied_rewritten_or_replaced_between_snapshot_and_lock_is_noticed() {
    let cluster = shared();
    for change in [
        "TRUNCATE late",
        "ALTER TABLE late ALTER id TYPE bigint",
        "VACUUM FULL late",
        "ALTER TABLE late RENAME TO other; CREATE VIEW late AS SELECT 1/0 AS id",
        "DROP TABLE late; CREATE TABLE late (id int)",
        "DROP TABLE late",
        "DROP TABLE late; CREATE SEQUENCE late",
    ] {
        let database = cluster.database("capture_late");
        cluster.sql(&database, "CREATE TABLE t (id int)");
        let client = cluster.client(&database).await;
        let other = cluster.client(&database).await;
        // The table is made before the snapshot and changed after it, in the first attempt only.
        struct Change<'a>(&'a tokio_postgres::Client, &'a tokio_postgres::Client, &'a str, Mutex<u32>);
        #[async_trait]
        impl Steps for Change<'_> {
            async fn reached(&self, step: Step, attempt: u32) {
                *self.3.lock().unwrap() = attempt;
                match (step, attempt) {
                    (Step::Locked, 1) => self.0.batch_execute("CREATE TABLE late AS SELECT 5 AS id").await.unwrap(),
                    (Step::Taken, 1) => {
                        for statement in self.2.split("; ") {
                            self.1.batch_execute(statement).await.unwrap();
                        }
                    }
                    _ => {}
                }
            }
        }
        let steps = Change(&client, &other, change, Mutex::new(0));
        let target = target(cluster);
        let opening =
            Opening { target: &target, database: &database, expected_oid: oid_of(cluster, &database), lock_timeout: PATIENT };
        let snapshot = opening.open_watched(&steps).await.unwrap();
        assert_eq!(*steps.3.lock().unwrap(), 2, "{change}: started over once");
        let expected: &[&str] =
            if change.starts_with("ALTER TABLE late ALTER") || change.starts_with("VACUUM") { &["5"] } else { &[] };
        assert_eq!(rows_of(&snapshot, "late").await, expected, "{change}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_never_holds_still_is_given_up() {
    let cluster = shared();
    let database = cluster.database("capture_restless");
    struct Restless(tokio_postgres::Client);
    #[async_trait]
    impl Steps for Restless {
        async fn reached(&self, step: Step, attempt: u32) {
            match step {
                Step::Locked => self.0.batch_execute(&format!("CREATE TABLE \"a b{attempt}\" ()")).await.unwrap(),
                Step::Taken => self.0.batch_execute(&format!("DROP TABLE \"a b{attempt}\"")).await.unwrap(),
                _ => {}
            }
        }
    }
    let steps = Restless(cluster.client(&database).await);
    let target = target(cluster);
    let opening =
        Opening { target: &target, database: &database, expected_oid: oid_of(cluster, &database), lock_timeout: PATIENT };
    let error = opening.open_watched(&steps).await.err().unwrap();
    assert!(matches!(error, SnapshotError::Unsettled { attempts: 3, .. }), "{error}");
    assert!(error.to_string().contains("\"public\".\"a b3\" was dropped or replaced"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_utf_8_are_told_with_what_renames_them() {
    let cluster = shared();
    let database = crate::harness::postgres::unique("capture_bytes");
    cluster.sql("postgres", &format!("CREATE DATABASE {database} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"));
    let role = crate::harness::postgres::unique("capture_r");
    let latin = |sql: &str| {
        let bytes = sql.replace('é', "' || chr(233) || '");
        cluster.sql(&database, &format!("DO $$ BEGIN EXECUTE '{bytes}'; END $$"));
    };
    // UTF-8, and names that no backup needs, do no harm.
    latin("CREATE FUNCTION fé() RETURNS int LANGUAGE sql AS ''SELECT 1''");
    cluster.sql(&database, "CREATE TABLE \"größe\" AS SELECT 1 AS \"käse\"");
    assert_eq!(names(&describe(&open(cluster, &database).await.unwrap()).await.description), ["public.größe"]);
    for sql in [
        "CREATE SCHEMA sé",
        "CREATE SEQUENCE sé.qé",
        "CREATE TABLE public.té (a int, bé int)",
        &format!("CREATE ROLE {role}é"),
        &format!("ALTER TABLE public.té OWNER TO {role}é"),
    ] {
        latin(sql);
    }
    let mut told = Vec::new();
    loop {
        let error = match open(cluster, &database).await {
            Ok(snapshot) => {
                describe(&snapshot).await;
                break;
            }
            Err(error) => error,
        };
        assert!(error.to_string().starts_with(&format!("database {database:?} has names that are not UTF-8: ")), "{error}");
        told.push(error.to_string().split(": ").nth(1).unwrap().split(", ").next().unwrap().to_owned());
        // The statement does what it says.
        let rename = error.hint().split_once("OID: ").unwrap().1.to_owned();
        let new = if told.last().is_some_and(|told| told.starts_with("role")) {
            format!("{role}_renamed")
        } else {
            "renamed".to_owned()
        };
        cluster.sql(&database, &rename.replace('…', &new));
    }
    let role = format!("role {role}\\xe9");
    assert_eq!(
        told,
        ["schema s\\xe9", "sequence renamed.q\\xe9", "table public.t\\xe9", "column public.renamed.b\\xe9", &role]
            .map(str::to_owned)
    );
}

/// Planning a read of pages runs what is in an index's expression: it is asked for again before each.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_with_foreign_code_that_comes_meanwhile_runs_nothing() {
    let cluster = shared();
    let database = cluster.database("capture_code");
    let role = unique("capture_low");
    cluster.sql(
        &database,
        &format!(
            "CREATE ROLE {role}; CREATE SCHEMA s AUTHORIZATION {role}; SET SESSION AUTHORIZATION {role}; CREATE TABLE s.ran (); CREATE TABLE s.t (i int, v text);
             INSERT INTO s.t SELECT n, repeat('x', 300) FROM generate_series(1, 5000) n;
             CREATE FUNCTION s.f(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF current_user <> '{role}' THEN RAISE '% runs it', current_user; END IF; RETURN i; END $$"
        ),
    );
    let snapshot = open(cluster, &database).await.unwrap();
    let described = describe(&snapshot).await;
    cluster.sql(&database, &format!("SET SESSION AUTHORIZATION {role}; CREATE INDEX ON s.t ((i + s.f(1)))"));
    let plain = cluster.client(&database).await.simple_query("SELECT count(v) FROM s.t WHERE ctid < '(1,0)'").await.unwrap_err();
    assert!(plain.as_db_error().unwrap().message().contains("postgres runs it"), "{plain:?}");
    let mut reader = snapshot.reader().await.unwrap();
    let mut refused = 0;
    for source in described.jobs.iter().flat_map(Job::sources).filter(|source| source.label().contains("pages")) {
        match reader.rows(source).await.map(drop) {
            Err(ReadError::ForeignCode { .. }) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(refused > 3);
    // The next one reads it whole.
    let snapshot = open(cluster, &database).await.unwrap();
    let described = describe(&snapshot).await;
    let read = read_all(&snapshot, &described).await;
    assert_eq!(read["\"s\".\"t\""].len(), 5000);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_under_the_name_is_refused() {
    let cluster = shared();
    let database = cluster.database("capture_again");
    let expected_oid = oid_of(cluster, &database);
    cluster.sql("postgres", &format!("DROP DATABASE {database}"));
    let target = target(cluster);
    let opening = Opening { target: &target, database: &database, expected_oid, lock_timeout: PATIENT };
    let error = opening.open().await.err().unwrap();
    assert!(matches!(&error, SnapshotError::Connect { source, .. } if source.cause == ConnectCause::NoSuchDatabase), "{error}");
    cluster.create_database(&database);
    let error = opening.open().await.err().unwrap();
    assert!(matches!(error, SnapshotError::OtherDatabase { expected, .. } if expected == expected_oid), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_refused() {
    let cluster = Cluster::start(&Options { replicas: 1, ..Options::default() });
    let database = cluster.database("capture_standby");
    cluster.wait_for_replicas();
    let environment = LibpqEnvironment { home: None, user: "nobody".to_owned(), variables: BTreeMap::new() };
    let target = Target::parse(&cluster.replicas[0].description(), &environment).unwrap();
    let expected_oid = oid_of(&cluster, &database);
    let error = Opening { target: &target, database: &database, expected_oid, lock_timeout: PATIENT }.open().await.err().unwrap();
    assert!(matches!(error, SnapshotError::Standby { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_the_lock_is_named() {
    let cluster = shared();
    let database = cluster.database("capture_blocked");
    cluster.sql(&database, "CREATE TABLE a (); CREATE TABLE \"b\"\"b\" ()");
    let blocker = cluster.client(&database).await;
    blocker.batch_execute("SET application_name = 'migration'; BEGIN; LOCK TABLE \"b\"\"b\"").await.unwrap();
    let pid: i32 = blocker.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let target = target(cluster);
    let lock_timeout = Duration::from_millis(50);
    let expected_oid = oid_of(cluster, &database);
    let error = Opening { target: &target, database: &database, expected_oid, lock_timeout }.open().await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains(&format!("pid {pid} of role postgres (migration)")), "{text}");
    assert!(text.contains("within 50 ms"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_the_role_may_not_read_is_named() {
    let cluster = shared();
    let database = cluster.database("capture_denied");
    let role = crate::harness::postgres::unique("capture_reader");
    cluster.sql(
        &database,
        &format!("CREATE TABLE open (); CREATE TABLE closed (); CREATE ROLE {role} LOGIN; GRANT SELECT ON open TO {role}"),
    );
    let target = target(cluster).with_login(&role, "".to_owned().into());
    let expected_oid = oid_of(cluster, &database);
    let error = Opening { target: &target, database: &database, expected_oid, lock_timeout: PATIENT }.open().await.err().unwrap();
    assert_eq!(error.to_string(), format!("role {role:?} may not read \"public\".\"closed\" of database {database:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_lock_table_is_named() {
    let cluster = Cluster::start(&Options {
        settings: ["max_connections = 10", "max_locks_per_transaction = 10", "max_prepared_transactions = 0"]
            .map(str::to_owned)
            .to_vec(),
        ..Options::default()
    });
    let database = cluster.database("capture_many");
    for first in (0..4000).step_by(50) {
        cluster.sql(
            &database,
            &format!("DO $$ BEGIN FOR i IN {first}..{first}+49 LOOP EXECUTE 'CREATE TABLE t' || i || ' ()'; END LOOP; END $$"),
        );
    }
    let error = open(&cluster, &database).await.err().unwrap();
    assert!(matches!(error, SnapshotError::LockTableFull { tables: 4000, .. }), "{error}");
    assert!(error.hint().contains("max_locks_per_transaction"));
}

/// The leader holds the table, an ALTER waits for the leader, a reader would wait for the ALTER: nobody would ever move.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_behind_the_leader_does_not_hang_the_readers() {
    let cluster = shared();
    let database = cluster.database("capture_queue");
    cluster.sql(
        &database,
        "CREATE TABLE t AS SELECT g AS id, repeat('x', 500) FROM generate_series(1, 5000) g; CREATE TABLE u AS SELECT 1 AS id",
    );
    let snapshot = open(cluster, &database).await.unwrap();
    let described = describe(&snapshot).await;
    let altering = cluster.client(&database).await;
    let alter = tokio::spawn(async move { altering.batch_execute("ALTER TABLE t ADD COLUMN more int").await });
    eventually("the ALTER waits", || {
        cluster.sql(&database, "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND NOT granted").trim() == "1"
    });
    let read = read_all(&snapshot, &described).await;
    assert_eq!(read.values().map(Vec::len).sum::<usize>(), 5001);
    assert!(!alter.is_finished());
    drop(snapshot);
    alter.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_that_swap_names_while_they_are_read_are_noticed() {
    let cluster = shared();
    let database = cluster.database("capture_swap");
    cluster.sql(
        &database,
        "CREATE SCHEMA live; CREATE SCHEMA next; CREATE TABLE live.t AS SELECT 1 AS id; CREATE TABLE next.t AS SELECT 2 AS id",
    );
    let snapshot = open(cluster, &database).await.unwrap();
    let described = describe(&snapshot).await;
    cluster.sql(&database, "ALTER SCHEMA live RENAME TO old; ALTER SCHEMA next RENAME TO live");
    let mut reader = snapshot.reader().await.unwrap();
    let source = described.jobs.iter().flat_map(Job::sources).find(|source| source.label() == "\"live\".\"t\"").unwrap();
    let mut rows = reader.rows(source).await.unwrap();
    let error = loop {
        match rows.next().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("rows of another table passed for the table's"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ReadError::Replaced { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_given_up_end_the_query_on_the_server() {
    let cluster = shared();
    let database = cluster.database("capture_given_up");
    cluster.sql(&database, "CREATE TABLE t AS SELECT g AS id, repeat('x', 1000000) FROM generate_series(1, 100) g");
    let snapshot = open(cluster, &database).await.unwrap();
    let described = describe(&snapshot).await;
    let last = described.jobs.iter().flat_map(Job::sources).next().unwrap();
    let mut reader = snapshot.reader().await.unwrap();
    let mut rows = reader.rows(last).await.unwrap();
    rows.next().await.unwrap().unwrap();
    drop(rows);
    let running = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}' AND state = 'active' AND query LIKE 'COPY %'"
    );
    eventually("the query ends", || cluster.sql("postgres", &running).trim() == "0");
    let error = reader.rows(last).await.err().unwrap();
    assert!(matches!(error, ReadError::GivenUp { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_leader_is_told() {
    let cluster = shared();
    let database = cluster.database("capture_leader");
    let snapshot = open(cluster, &database).await.unwrap();
    cluster.sql("postgres", &format!("SELECT pg_terminate_backend({})", snapshot.facts().leader_pid));
    tokio::time::timeout(PATIENT, snapshot.lost()).await.unwrap();
    assert!(snapshot.reader().await.is_err());
}

/// Reading by page takes locks on indexes, and the application's writes wait behind a REINDEX.
#[tokio::test(flavor = "multi_thread")]
async fn an_index_can_be_rebuilt_while_a_backup_is_open_and_a_rebuild_is_waited_for() {
    let cluster = shared();
    let database = cluster.database("capture_reindex");
    cluster.sql(
        &database,
        "CREATE TABLE t AS SELECT g AS id, repeat('x', 500) FROM generate_series(1, 5000) g; CREATE INDEX i ON t (id)",
    );
    let target = target(cluster);
    let lock_timeout = Duration::from_millis(100);
    let opening = Opening { target: &target, database: &database, expected_oid: oid_of(cluster, &database), lock_timeout };
    let snapshot = opening.open().await.unwrap();
    let described = describe(&snapshot).await;
    let mut reader = snapshot.reader().await.unwrap();
    for source in described.jobs.iter().flat_map(Job::sources) {
        let mut rows = reader.rows(source).await.unwrap();
        while rows.next().await.unwrap().is_some() {}
    }
    cluster.sql(&database, "REINDEX TABLE t");

    let rebuilding = cluster.client(&database).await;
    rebuilding.batch_execute("BEGIN; REINDEX INDEX i").await.unwrap();
    let read = tokio::spawn(async move { read_all(&snapshot, &described).await });
    eventually("a reader waits for the index", || {
        cluster.sql(&database, "SELECT count(*) FROM pg_locks WHERE relation = 'i'::regclass AND NOT granted").trim() == "1"
    });
    rebuilding.batch_execute("COMMIT").await.unwrap();
    assert_eq!(read.await.unwrap().values().map(Vec::len).sum::<usize>(), 5000);
}

/// What a database's tables hold, which a snapshot's must equal at some moment.
async fn everything(client: &tokio_postgres::Client) -> BTreeMap<String, Vec<String>> {
    let sql = "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";
    let mut tables = BTreeMap::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let table: String = row.get(0);
        let stream = client.copy_out(&format!("COPY (SELECT * FROM ONLY {table}) TO STDOUT")).await.unwrap();
        let text: Vec<bytes::Bytes> = stream.try_collect().await.unwrap();
        let mut rows: Vec<String> = std::str::from_utf8(&text.concat()).unwrap().lines().map(str::to_owned).collect();
        rows.sort_unstable();
        tables.insert(table, rows);
    }
    tables
}

async fn captured(snapshot: &Snapshot) -> BTreeMap<String, Vec<String>> {
    let described = describe(snapshot).await;
    let mut tables: BTreeMap<String, Vec<String>> =
        names(&described.description).into_iter().map(|name| (name, Vec::new())).collect();
    for (label, rows) in read_all(snapshot, &described).await {
        let table = label.split(' ').next().unwrap().replace('"', "");
        tables.get_mut(&table).unwrap().extend(rows);
    }
    tables.values_mut().for_each(|rows| rows.sort_unstable());
    tables
}

/// Whatever is done to the tables, and whenever: the snapshot is what was before it or what was after it.
#[tokio::test(flavor = "multi_thread")]
async fn every_change_between_any_two_steps_is_all_in_or_all_out() {
    let cluster = shared();
    let tables = "CREATE TABLE t (id int, v text); INSERT INTO t VALUES (1, 'one'), (2, 'two'); CREATE TABLE u AS SELECT 7 AS id;
        CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE pair AS (a int, b text); CREATE TABLE typed (m mood, p pair);
        INSERT INTO typed VALUES ('sad', (1, 'x')); CREATE TABLE log (what text);
        CREATE TABLE parts (k int, v text) PARTITION BY LIST (k); CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1);
        CREATE TABLE part2 (k int, v text); INSERT INTO part1 VALUES (1, 'p'); INSERT INTO part2 VALUES (2, 'q')";
    for change in [
        "CREATE TABLE more AS SELECT 5 AS id",
        "DROP TABLE u",
        "TRUNCATE t",
        "TRUNCATE t; INSERT INTO t VALUES (3, 'three')",
        "ALTER TABLE t ALTER id TYPE numeric USING id + 0.5",
        "ALTER TABLE t ADD COLUMN late int DEFAULT 9",
        "ALTER TABLE t DROP COLUMN v",
        "ALTER TABLE t RENAME TO other; CREATE VIEW t AS SELECT 1/0 AS id",
        "ALTER TABLE t RENAME TO swapped; ALTER TABLE u RENAME TO t; ALTER TABLE swapped RENAME TO u",
        "DROP TABLE u; CREATE VIEW u AS SELECT 1/0 AS id",
        "DROP TABLE u; CREATE TABLE u (id text)",
        "ALTER TABLE parts ATTACH PARTITION part2 FOR VALUES IN (2)",
        "ALTER TABLE parts DETACH PARTITION part1",
        "DROP TABLE parts",
        "CREATE TABLE part3 PARTITION OF parts FOR VALUES IN (3); INSERT INTO parts VALUES (3, 'r')",
        "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'",
        "ALTER TYPE pair DROP ATTRIBUTE a",
        "ALTER TABLE t SET SCHEMA moved",
        "UPDATE t SET v = upper(v); DELETE FROM u",
    ] {
        for step in [Step::Listed, Step::Locked, Step::Taken] {
            let database = cluster.database("capture_change");
            cluster.sql(&database, &format!("{tables}; CREATE SCHEMA moved; CREATE TABLE moved.inner AS SELECT 8 AS id"));
            let client = &cluster.client(&database).await;
            let before = everything(client).await;
            // Together with a row that says that it happened, or not at all: what must wait for the backup gives up.
            let act = format!("BEGIN; SET LOCAL lock_timeout = '20ms'; INSERT INTO log VALUES ('changed'); {change}; COMMIT");
            let act: Act<'_> = Box::new(move |attempt| {
                let act = act.clone();
                Box::pin(async move {
                    if attempt > 1 {
                        return;
                    }
                    if let Err(error) = client.batch_execute(&act).await {
                        let code = error.code().unwrap().code();
                        assert_eq!(code, "55P03", "{error}");
                        client.batch_execute("ROLLBACK").await.unwrap();
                    }
                })
            });
            let steps = At { step, act: tokio::sync::Mutex::new(act), attempts: Mutex::new(Vec::new()) };
            let target = target(cluster);
            let opening =
                Opening { target: &target, database: &database, expected_oid: oid_of(cluster, &database), lock_timeout: PATIENT };
            let snapshot = opening.open_watched(&steps).await.unwrap();
            let captured = captured(&snapshot).await;
            let finished = snapshot.finish().await;
            let after = everything(client).await;
            let is_one = captured == before || captured == after;
            assert!(
                is_one || matches!(finished, Err(SnapshotError::Changed { .. })),
                "{change} at {step:?}: {captured:#?}\nbefore: {before:#?}\nafter: {after:#?}"
            );
        }
    }
}

/// No lock keeps a type as it is, so it is looked at again when everything was read.
#[tokio::test(flavor = "multi_thread")]
async fn types_that_change_while_rows_are_read_are_noticed() {
    let cluster = shared();
    for (change, noticed) in [
        ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", true),
        ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'; ALTER TYPE mood RENAME VALUE 'blue' TO 'sad'", true),
        ("ALTER TYPE pair ADD ATTRIBUTE c int", true),
        ("CREATE OR REPLACE VIEW seen AS SELECT 1 AS a, 2 AS b", true),
        ("ALTER TYPE mood ADD VALUE 'between' AFTER 'sad'", false),
        ("CREATE TYPE other AS (a int); CREATE TYPE more AS ENUM ('x')", false),
        ("CREATE OR REPLACE VIEW unused AS SELECT 1 AS a, 2 AS b; CREATE TEMP VIEW mine AS SELECT 1 AS a", false),
        ("INSERT INTO log VALUES ('x')", false),
    ] {
        let database = cluster.database("capture_types");
        cluster.sql(
            &database,
            "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TYPE pair AS (a int, b text); CREATE VIEW seen AS SELECT 1 AS a;
             CREATE VIEW unused AS SELECT 1 AS a; CREATE TABLE t (m mood, p pair[], s seen); CREATE TABLE log (what text)",
        );
        let snapshot = open(cluster, &database).await.unwrap();
        for statement in change.split("; ") {
            cluster.sql(&database, statement);
        }
        let finished = snapshot.finish().await;
        assert_eq!(matches!(finished, Err(SnapshotError::Changed { .. })), noticed, "{change}: {finished:?}");
    }
}

/// What `pg_dump` writes by is looked up in the present, and so is what `regclass` and its like are written by: as far as each is used.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_looked_up_in_the_present_is_compared() {
    let cluster = shared();
    let owner = crate::harness::postgres::unique("capture_named");
    cluster.sql("postgres", &format!("CREATE ROLE {owner}; CREATE ROLE {owner}_other"));
    let setup = format!(
        "CREATE SCHEMA app; CREATE FUNCTION f(i int) RETURNS int LANGUAGE sql IMMUTABLE RETURN i;
         CREATE DOMAIN dom AS int CHECK (VALUE > 0); CREATE SEQUENCE s; CREATE TABLE t (id int DEFAULT nextval('s'), d dom, v text);
         CREATE INDEX i ON t (f(id)); CREATE VIEW v AS SELECT f(id) AS more FROM t; CREATE MATERIALIZED VIEW m AS SELECT 1 AS one;
         CREATE FUNCTION fired() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN new; END $$;
         CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fired(); CREATE STATISTICS st ON id, v FROM t;
         ALTER TABLE t OWNER TO {owner}; CREATE TYPE bare AS (); CREATE TABLE log (what text)"
    );
    // What changes, whether the schema is written by it, and rows that hold no names.
    for (change, schema, rows) in [
        ("ALTER SCHEMA app RENAME TO app2", true, false),
        ("ALTER FUNCTION f(int) RENAME TO g", true, false),
        ("ALTER FUNCTION f(int) RENAME TO g; ALTER FUNCTION g(int) RENAME TO f", true, false),
        ("CREATE OR REPLACE FUNCTION f(i int) RETURNS int LANGUAGE sql IMMUTABLE RETURN i + 1", true, false),
        ("ALTER DOMAIN dom RENAME TO positive", true, false),
        ("ALTER SEQUENCE s RENAME TO s2", true, false),
        ("ALTER SEQUENCE s RESTART", true, false),
        ("ALTER INDEX i RENAME TO j", true, false),
        ("CREATE OR REPLACE VIEW v AS SELECT f(id) AS more, 1 AS extra FROM t", true, false),
        ("DROP VIEW v", true, false),
        ("ALTER MATERIALIZED VIEW m RENAME TO n", true, false),
        ("CREATE OR REPLACE TRIGGER tr AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION fired()", true, false),
        ("ALTER STATISTICS st RENAME TO st2", true, false),
        ("ALTER ROLE {owner} RENAME TO {owner}_2; ALTER ROLE {owner}_2 RENAME TO {owner}_3", true, false),
        ("ALTER TYPE bare ADD ATTRIBUTE a int", true, true),
        (
            "ALTER ROLE {owner}_other RENAME TO {owner}_stranger; ALTER ROLE {owner}_stranger RENAME TO {owner}_other_2",
            false,
            false,
        ),
        ("REFRESH MATERIALIZED VIEW m; REINDEX INDEX i; ANALYZE t; CREATE INDEX later ON t (v)", false, false),
        ("CREATE TABLE more (id int); CREATE FUNCTION more() RETURNS int LANGUAGE sql RETURN 1", false, false),
        ("CREATE TEMP TABLE mine (id int); INSERT INTO log VALUES ('x')", false, false),
    ] {
        for names in [false, true] {
            let database = cluster.database("capture_present");
            cluster.sql(&database, &setup);
            if names {
                cluster.sql(
                    &database,
                    "CREATE DOMAIN deep AS regclass[]; CREATE TYPE deeper AS (a deep); CREATE TABLE holds (x deeper[])",
                );
            }
            let other = cluster.client(&database).await;
            other.batch_execute("CREATE TEMP TABLE earlier (id int)").await.unwrap();
            let snapshot = open(cluster, &database).await.unwrap();
            other.batch_execute("ALTER TABLE earlier ADD COLUMN more int; DROP TABLE earlier").await.unwrap();
            for statement in change.split("; ") {
                other
                    .batch_execute(&statement.replace("{owner}", &owner))
                    .await
                    .unwrap_or_else(|error| panic!("{statement}: {error:?}"));
            }
            let compared = snapshot.compare_schema().await;
            // Rows that hold names hold any role's.
            let any_role = names && change.contains("{owner}_other");
            assert_eq!(matches!(compared, Err(SnapshotError::Changed { .. })), schema || any_role, "{change}: {compared:?}");
            if let Err(SnapshotError::Changed { what, .. }) = &compared {
                assert_eq!(what == "something in the schema", change.starts_with("DROP"), "{change}: {what}");
            }
            let finished = snapshot.finish().await;
            let expected = rows || names && (schema || any_role);
            assert_eq!(matches!(finished, Err(SnapshotError::Changed { .. })), expected, "{change}: names {names}: {finished:?}");
            for statement in
                [format!("ALTER ROLE {owner}_3 RENAME TO {owner}"), format!("ALTER ROLE {owner}_other_2 RENAME TO {owner}_other")]
            {
                other.batch_execute(&statement).await.ok();
            }
        }
    }
}
