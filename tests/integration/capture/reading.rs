//! Rows: all of them, once, as the database has them.

use super::*;
use crate::harness::postgres::{quoted, shared, unique};

/// Rows of a table over all its ranges, sorted.
fn rows_of(read: &BTreeMap<String, Vec<String>>, table: &str) -> Vec<String> {
    let of_table = |label: &str| label == table || label.starts_with(&format!("{table} pages "));
    let mut rows: Vec<String> = read.iter().filter(|(label, _)| of_table(label)).flat_map(|(_, rows)| rows.clone()).collect();
    rows.sort_unstable();
    rows
}

/// What one plain COPY gives, sorted.
fn copied(cluster: &Cluster, database: &str, copy: &str) -> Vec<String> {
    let printed = cluster.sql(database, &format!("COPY {copy} TO STDOUT"));
    let mut rows: Vec<String> = printed.lines().map(str::to_owned).collect();
    rows.sort_unstable();
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_database_gives_every_row_once() {
    let cluster = shared();
    let database = cluster.database("capture plain");
    cluster.sql(
        &database,
        "CREATE TABLE one (id int PRIMARY KEY, v text);
         INSERT INTO one VALUES (1, E'a\\tb'), (2, NULL), (3, E'line\\nbreak'), (4, '\\.');
         CREATE TABLE big AS SELECT g AS id, repeat(md5(g::text), 10) AS filler FROM generate_series(1, 10000) g;
         DELETE FROM big WHERE id BETWEEN 3000 AND 6000;
         CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS id;
         CREATE TEMPORARY TABLE temporary AS SELECT 1 AS id;
         CREATE TABLE empty (x int);
         CREATE TABLE \"no columns\" (); INSERT INTO \"no columns\" DEFAULT VALUES; INSERT INTO \"no columns\" DEFAULT VALUES;",
    );
    let snapshot = open(cluster, &database).await.unwrap();
    let described = describe(&snapshot).await;
    let read = read_all(&snapshot, &described).await;

    let expected = ["public.big", "public.empty", "public.no columns", "public.one", "public.unlogged"];
    assert_eq!(names(&described.description), expected);
    assert_eq!(read["\"public\".\"one\""], ["1\ta\\tb", "2\t\\N", "3\tline\\nbreak", "4\t\\\\."]);
    assert_eq!(read["\"public\".\"empty\""], [""; 0]);
    assert_eq!(read["\"public\".\"no columns\""], ["", ""]);
    assert_eq!(read["\"public\".\"unlogged\""], ["1"]);

    let big = &described.description.tables[0];
    assert!(big.ranges.len() > 5, "{} ranges", big.ranges.len());
    let mut next = Some(0);
    for range in &big.ranges {
        assert_eq!(Some(range.from), next);
        next = range.to;
    }
    assert_eq!(next, None);
    assert_eq!(rows_of(&read, "\"public\".\"big\""), copied(cluster, &database, "big"));
}

/// What was read in one snapshot is the same text when it is read in the next: that is what makes nights small.
#[tokio::test(flavor = "multi_thread")]
async fn unchanged_ranges_give_the_same_tag_and_text_and_a_change_stays_where_it_is() {
    let cluster = shared();
    let database = cluster.database("capture_ranges");
    cluster.sql(
        &database,
        "CREATE TABLE big (id int PRIMARY KEY, at timestamptz, filler text) WITH (autovacuum_enabled = off, fillfactor = 90);
         INSERT INTO big SELECT g, '2020-01-01'::timestamptz + g * '1 hour'::interval, repeat(md5(g::text), 10) FROM generate_series(1, 10000) g",
    );
    let mut nights = Vec::new();
    for change in [
        "ALTER ROLE postgres SET DateStyle = 'German'",
        "ALTER ROLE postgres RESET DateStyle; UPDATE big SET filler = 'x' WHERE id = 5000",
    ] {
        let snapshot = open(cluster, &database).await.unwrap();
        let described = describe(&snapshot).await;
        let read = read_all(&snapshot, &described).await;
        let sources = described.jobs.iter().flat_map(Job::sources);
        nights.push(sources.map(|source| (source.label(), source.tag, read[&source.label()].clone())).collect::<Vec<_>>());
        drop(snapshot);
        cluster.sql(&database, change);
    }
    assert!(nights[0] == nights[1], "another DateStyle of the role gives other rows");
    let snapshot = open(cluster, &database).await.unwrap();
    let described = describe(&snapshot).await;
    let read = read_all(&snapshot, &described).await;
    let changed = nights[0].iter().filter(|(label, _, rows)| read.get(label) != Some(rows)).count();
    assert_eq!(changed, 1, "one row changed in its page");
    let tags: Vec<_> = described.jobs.iter().flat_map(Job::sources).map(|source| (source.label(), source.tag)).collect();
    assert_eq!(tags, nights[0].iter().map(|(label, tag, _)| (label.clone(), *tag)).collect::<Vec<_>>());
    drop(snapshot);
    cluster.sql(&database, "VACUUM FULL big");
    let snapshot = open(cluster, &database).await.unwrap();
    let rewritten = describe(&snapshot).await;
    assert!(rewritten.jobs.iter().flat_map(Job::sources).all(|source| tags.iter().all(|(_, tag)| *tag != source.tag)));
}

#[tokio::test(flavor = "multi_thread")]
async fn toast_partitions_inheritance_and_generated_columns() {
    let cluster = shared();
    let database = cluster.database("capture_shapes");
    cluster.sql(
        &database,
        "CREATE TABLE toast (id int, v text); ALTER TABLE toast ALTER v SET STORAGE EXTERNAL;
         INSERT INTO toast SELECT g, repeat(md5(g::text), 20000) FROM generate_series(1, 30) g;
         CREATE TABLE parts (id int, region text) PARTITION BY LIST (region);
         CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu') PARTITION BY RANGE (id);
         CREATE TABLE parts_eu_1 PARTITION OF parts_eu FOR VALUES FROM (0) TO (100);
         CREATE TABLE parts_rest PARTITION OF parts DEFAULT;
         INSERT INTO parts SELECT g, CASE WHEN g % 2 = 0 THEN 'eu' ELSE 'us' END FROM generate_series(0, 99) g;
         CREATE TABLE parent (id int); CREATE TABLE child (more text) INHERITS (parent);
         INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 'x');
         CREATE TABLE made (id int GENERATED ALWAYS AS IDENTITY, a int, twice int GENERATED ALWAYS AS (a * 2) STORED, \"last one\" text);
         ALTER TABLE made DROP COLUMN a CASCADE; ALTER TABLE made ADD COLUMN a int DEFAULT 7;
         ALTER TABLE made ADD COLUMN twice int GENERATED ALWAYS AS (a * 2) STORED;
         INSERT INTO made (\"last one\") VALUES ('x');
         CREATE TABLE only_generated (one int GENERATED ALWAYS AS (1) STORED); INSERT INTO only_generated DEFAULT VALUES",
    );
    let snapshot = open(cluster, &database).await.unwrap();
    let described = describe(&snapshot).await;
    let read = read_all(&snapshot, &described).await;
    assert_eq!(
        names(&described.description),
        [
            "public.child",
            "public.made",
            "public.only_generated",
            "public.parent",
            "public.parts_eu_1",
            "public.parts_rest",
            "public.toast"
        ]
    );
    assert_eq!(rows_of(&read, "\"public\".\"toast\""), copied(cluster, &database, "toast"));
    assert_eq!(rows_of(&read, "\"public\".\"parts_eu_1\""), copied(cluster, &database, "parts_eu_1"));
    assert_eq!(read["\"public\".\"parts_rest\""].len(), 50);
    assert_eq!(read["\"public\".\"parent\""], ["1"]);
    assert_eq!(read["\"public\".\"child\""], ["2\tx"]);
    assert_eq!(read["\"public\".\"made\""], ["1\tx\t7"]);
    assert_eq!(read["\"public\".\"only_generated\""], [""]);
    let table = |name: &str| described.description.tables.iter().find(|table| table.name == name).unwrap();
    assert_eq!(table("made").columns, ["id", "last one", "a"]);
    assert_eq!(table("only_generated").columns, [""; 0]);
    // Little heap, much TOAST: not a tiny table, whose chunks others share.
    let toast = described.jobs.iter().find(|job| job.sources().iter().any(|source| source.label().contains("toast"))).unwrap();
    assert!(matches!(toast, Job::Single(source) if source.disk_bytes > 10_000_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_may_be_anything() {
    let cluster = shared();
    let longest = "é".repeat(31) + "x";
    for name in ["a\"b", "semi;colon -- x", "new\nline", "🦀 crab", "-f", "host=x port=1", "$$", "tab\t\\N", "Üpper", &longest]
    {
        let database = unique(name);
        let database: String = if name == longest { longest.clone() } else { database };
        cluster.create_database(&database);
        let name = quoted(name);
        cluster.sql(
            &database,
            &format!(
                "CREATE SCHEMA {name}; CREATE TABLE {name}.{name} ({name} int, plain int);
                 INSERT INTO {name}.{name} SELECT g, 1 FROM generate_series(1, 2000) g; CREATE SEQUENCE {name}.\"s\""
            ),
        );
        let snapshot = open(cluster, &database).await.unwrap();
        let described = describe(&snapshot).await;
        let read = read_all(&snapshot, &described).await;
        assert_eq!(read.values().map(Vec::len).sum::<usize>(), 2000, "{name}");
        assert_eq!(described.description.database.name, database);
        assert_eq!(described.description.tables[0].columns.len(), 2);
        assert_eq!(described.description.sequences.len(), 1);
        assert_eq!(snapshot.facts().database, database);
    }
}

/// The text is the database's own bytes, whatever the encoding.
#[tokio::test(flavor = "multi_thread")]
async fn the_encoding_is_the_databases() {
    let cluster = shared();
    for (encoding, expected) in
        [("LATIN1", b"\xfcber\n".as_slice()), ("UTF8", "über\n".as_bytes()), ("SQL_ASCII", b"\xff\xfe raw\n")]
    {
        let database = unique("capture_encoding");
        cluster.sql(
            "postgres",
            &format!("CREATE DATABASE {database} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"),
        );
        let (value, name) =
            if encoding == "SQL_ASCII" { ("E'\\xff\\xfe raw'", "plain") } else { ("U&'\\00fcber'", "U&\"\\00e9\"") };
        cluster.sql(&database, &format!("CREATE TABLE t AS SELECT {value}::text AS v; CREATE TABLE {name} ()"));
        let snapshot = open(cluster, &database).await.unwrap();
        let described = describe(&snapshot).await;
        let mut reader = snapshot.reader().await.unwrap();
        let source = described.jobs.iter().flat_map(Job::sources).find(|source| source.label() == "\"public\".\"t\"").unwrap();
        let mut rows = reader.rows(source).await.unwrap();
        assert_eq!(rows.next().await.unwrap().unwrap().as_ref(), expected, "{encoding}");
        assert_eq!(rows.next().await.unwrap(), None);
        assert_eq!(described.description.database.encoding, encoding);
        if encoding != "SQL_ASCII" {
            assert_eq!(names(&described.description), ["public.t", "public.\u{e9}"]);
        }
    }
}

/// A role that may read everything, and one that owns the table, but not past policies.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_policy_hides_are_an_error() {
    let cluster = shared();
    for policy in ["GRANT pg_read_all_data TO {role}", "ALTER TABLE t OWNER TO {role}; ALTER TABLE t FORCE ROW LEVEL SECURITY"] {
        let database = cluster.database("capture_policy");
        let role = unique("capture_hidden");
        cluster.sql(
            &database,
            &format!(
                "CREATE TABLE t AS SELECT 1 AS id; ALTER TABLE t ENABLE ROW LEVEL SECURITY;
                 CREATE ROLE {role} LOGIN; ALTER ROLE {role} SET row_security = on; {}",
                policy.replace("{role}", &role)
            ),
        );
        let target = target(cluster).with_login(&role, "".to_owned().into());
        let session = target.connect(&database, "t").await.unwrap();
        let ready = tenure::postgres::readiness::database(&session, &database).await.unwrap();
        assert_eq!((ready.guarded.count, ready.unreadable.count), (1, 0), "{policy}");
        assert_eq!(ready.guarded.examples, ["public.t"]);
        let expected_oid = oid_of(cluster, &database);
        let snapshot =
            Opening { target: &target, database: &database, expected_oid, lock_timeout: PATIENT }.open().await.unwrap();
        let described = describe(&snapshot).await;
        let source = &described.jobs[0].sources()[0];
        let mut reader = snapshot.reader().await.unwrap();
        let error = match reader.rows(source).await {
            Err(error) => error,
            Ok(mut rows) => rows.next().await.expect_err("hidden rows passed for none"),
        };
        assert!(error.to_string().contains("\"public\".\"t\""), "{error}");
        assert_eq!(
            error.hint(),
            format!("ALTER ROLE \"{role}\" BYPASSRLS (a superuser may): a policy hides rows of it from that role")
        );
    }
}

/// Values whose text depends on settings come back the same: the settings are ours, not the role's or the database's.
#[tokio::test(flavor = "multi_thread")]
async fn text_does_not_depend_on_settings_of_role_or_database() {
    let cluster = shared();
    let database = cluster.database("capture_settings");
    cluster.sql(
        &database,
        "CREATE TYPE mood AS ENUM ('ok');
         CREATE TABLE t AS SELECT '1.5 days'::interval AS i, 0.1::float8 AS f, '\\xdeadbeef'::bytea AS b, 1234.5::numeric::money AS m,
           '2020-06-01 12:00+00'::timestamptz AS z, 'pg_class'::regclass AS c, 'ok'::mood AS mood, '<a/>'::xml AS x, '[1,2)'::int4range AS r",
    );
    let mut texts = Vec::new();
    for settings in [
        "",
        "ALTER DATABASE d SET IntervalStyle = 'iso_8601'; ALTER DATABASE d SET extra_float_digits = -10; ALTER DATABASE d SET bytea_output = 'escape';
         ALTER DATABASE d SET TimeZone = 'Asia/Tokyo'; ALTER DATABASE d SET DateStyle = 'SQL, DMY'; ALTER DATABASE d SET search_path = 'public';
         ALTER DATABASE d SET statement_timeout = '100ms'; ALTER DATABASE d SET lock_timeout = '100ms'; ALTER DATABASE d SET client_encoding = 'LATIN1';
         ALTER DATABASE d SET default_transaction_isolation = 'serializable'; ALTER DATABASE d SET idle_in_transaction_session_timeout = '1ms'",
    ] {
        cluster.sql("postgres", &settings.replace("DATABASE d ", &format!("DATABASE {} ", quoted(&database))));
        let snapshot = open(cluster, &database).await.unwrap();
        let described = describe(&snapshot).await;
        texts.push(read_all(&snapshot, &described).await);
    }
    assert_eq!(texts[0], texts[1]);
    let row = &texts[0]["\"public\".\"t\""][0];
    assert_eq!(row, "1 day 12:00:00\t0.1\t\\\\xdeadbeef\t$1,234.50\t2020-06-01 12:00:00+00\tpg_class\tok\t<a/>\t[1,2)");
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_on_the_leaders_connection_take_turns() {
    let cluster = shared();
    let database = cluster.database("capture_turns");
    cluster.sql(&database, "CREATE TABLE a AS SELECT 1 AS id; CREATE TABLE b AS SELECT g FROM generate_series(1, 3000) g");
    let snapshot = open(cluster, &database).await.unwrap();
    let described = describe(&snapshot).await;
    let mut counts = Vec::new();
    for source in described.jobs.iter().flat_map(Job::sources) {
        let mut reader = snapshot.reader_on_leader();
        let mut rows = reader.rows(source).await.unwrap();
        let mut count = 0;
        while rows.next().await.unwrap().is_some() {
            count += 1;
        }
        counts.push(count);
    }
    counts.sort_unstable();
    assert_eq!(counts.iter().sum::<i32>(), 3001);
}
