//! What is left of a damaged backup: exactly the rows that can be had, and an exact list of the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::*;
use crate::harness::{
    postgres::{Cluster, Options, shared, unique},
    program::Program,
    site::walk,
};

/// `big` has several ranges, `huge` a row that is longer than two chunks; the others share chunks. What refers to `big` cannot hold
/// without all of it.
const DAMAGED: &str = "
    CREATE TABLE big (id int PRIMARY KEY, t text);
    INSERT INTO big SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 1500) n;
    CREATE TABLE huge (id int, t text);
    INSERT INTO huge SELECT n, md5(n::text) FROM generate_series(1, 20) n;
    INSERT INTO huge SELECT 21, string_agg(md5(g::text), '') FROM generate_series(1, 290000) g;
    INSERT INTO huge SELECT n, md5(n::text) FROM generate_series(22, 40) n;
    CREATE TABLE child (big_id int CONSTRAINT to_big REFERENCES big, note text);
    COMMENT ON CONSTRAINT to_big ON child IS 'said of it';
    INSERT INTO child SELECT n, 'x' FROM generate_series(1, 1500) n;
    CREATE TABLE parted (big_id int, CONSTRAINT parted_to_big FOREIGN KEY (big_id) REFERENCES big) PARTITION BY LIST (big_id);
    COMMENT ON CONSTRAINT parted_to_big ON parted IS 'said of it';
    CREATE TABLE parted_all PARTITION OF parted DEFAULT;
    INSERT INTO parted SELECT n FROM generate_series(1, 1500) n;
    CREATE TABLE empty (a int); CREATE TABLE small (a int); INSERT INTO small VALUES (1), (2), (2);
    CREATE MATERIALIZED VIEW counted AS SELECT 1 / (CASE WHEN count(*) = 1500 THEN 1 ELSE 0 END) AS x FROM big;
    CREATE SEQUENCE counter; SELECT setval('counter', 7);
    SELECT lo_from_bytea(70000 + n, decode(repeat(md5(n::text), 2000), 'hex')) FROM generate_series(1, 3) n;";

const TABLES: [&str; 6] = ["big", "huge", "child", "parted_all", "empty", "small"];

fn salvage(tenant: &str, into: &str) -> Request {
    Request { salvage: true, ..copy(tenant, into) }
}

fn objects(folder: &Path, kind: &str) -> Vec<PathBuf> {
    walk(&folder.join("vault/t")).into_iter().filter(|path| path.to_string_lossy().contains(kind)).collect()
}

/// Rows as text, with the page that each lies on.
fn rows(server: &Cluster, database: &str, table: &str) -> BTreeMap<u32, Vec<String>> {
    let query = format!("SELECT (ctid::text::point)[0]::int, md5(t::text) FROM {table} AS t ORDER BY 2");
    let mut pages: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for line in server.sql(database, &query).lines() {
        let (page, row) = line.split_once('|').unwrap();
        pages.entry(page.parse().unwrap()).or_default().push(row.to_owned());
    }
    pages
}

fn sorted_rows<'a>(pages: impl Iterator<Item = &'a Vec<String>>) -> Vec<&'a String> {
    let mut all: Vec<&String> = pages.flatten().collect();
    all.sort();
    all
}

/// The copy holds what the report says, and nothing else.
fn holds_the_rest(server: &Cluster, live: &str, into: &str, report: &Report) {
    let salvage = report.salvage.as_ref().unwrap();
    let mut whole = 0;
    for table in TABLES {
        let name = format!("public.{table}");
        let (was, is) = (rows(server, live, table), rows(server, into, table));
        let absent: Vec<_> = salvage.absent.iter().filter(|absent| absent.table == name).collect();
        whole += u64::from(absent.is_empty());
        let inside = |page: u32| absent.iter().find(|a| a.from_page <= page && a.to_page.is_none_or(|to| page < to));
        let kept = sorted_rows(was.iter().filter(|(page, _)| inside(**page).is_none()).map(|(_, rows)| rows));
        let is = sorted_rows(is.values());
        let in_part: u64 = absent.iter().map(|absent| absent.rows_restored).sum();
        assert_eq!(is.len() as u64, kept.len() as u64 + in_part, "{table}: {salvage:#?}");
        let (all, is): (BTreeSet<_>, BTreeSet<_>) = (was.values().flatten().collect(), is.into_iter().collect());
        assert!(kept.iter().all(|row| is.contains(row)) && is.is_subset(&all), "{table}: {salvage:#?}");
        let lost: u64 = absent.iter().map(|absent| absent.rows_lost.unwrap()).sum();
        assert_eq!(lost + in_part + kept.len() as u64, was.values().flatten().count() as u64, "{table}: {salvage:#?}");
    }
    assert_eq!(salvage.whole_tables, whole, "{salvage:#?}");
    assert_eq!(server.sql(into, "SELECT last_value FROM counter").trim(), "7");
}

fn broken(path: &Path, how: usize) -> &'static str {
    let mut bytes = std::fs::read(path).unwrap();
    match how % 3 {
        0 => {
            std::fs::remove_file(path).unwrap();
            return "missing";
        }
        1 => {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        _ => bytes.truncate(bytes.len() * 2 / 3),
    }
    std::fs::write(path, bytes).unwrap();
    if how % 3 == 1 { "SHA-256" } else { "bytes instead of" }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_damaged_chunk_costs_its_own_rows_and_no_others() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    let live = site.database("acme");
    server.sql(&live, DAMAGED);
    assert_eq!(site.all().await.class, None);
    let into = unique("salvaged");
    let mut seen = BTreeSet::new();
    let restore = async |path: &Path, how: usize| {
        let before = std::fs::read(path).unwrap();
        let problem = broken(path, how);
        let result = restore(&site, &salvage("acme", &into)).await;
        std::fs::write(path, before).unwrap();
        (result, problem)
    };
    for (how, path) in objects(site.folder(), "/c/").into_iter().enumerate() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (result, problem) = restore(&path, how).await;
        let report = match result {
            Ok(report) => report,
            Err(failure) => {
                let text = format!("{} | {}", failure.one_line(), failure.hint);
                assert_eq!((failure.class.code(), failure.kind), (5, "damaged-object"), "{text}");
                assert!(text.contains("without it nothing can be built") && text.contains(&name), "{text}");
                assert_eq!(
                    server.sql("postgres", &format!("SELECT count(*) FROM pg_database WHERE datname = '{into}'")).trim(),
                    "0"
                );
                seen.insert(if text.contains("it holds the schema") { "schema" } else { "description" });
                continue;
            }
        };
        assert!(!report.proven);
        let lacks = report.salvage.clone().unwrap();
        assert_eq!(lacks.damaged.len(), 1, "{lacks:#?}");
        assert!(lacks.damaged[0].object.ends_with(&name) && lacks.damaged[0].problem.contains(problem), "{lacks:#?}");
        for needs in
            lacks.absent.iter().map(|absent| &absent.needs).chain(lacks.absent_large_objects.iter().map(|lost| &lost.needs))
        {
            assert_eq!(needs[..], [lacks.damaged[0].object.clone()], "{lacks:#?}");
        }
        holds_the_rest(server, &live, &into, &report);
        let large = server.sql(&into, "SELECT count(*) FROM pg_largeobject_metadata");
        if lacks.absent_large_objects.is_empty() {
            assert_eq!(large.trim(), "3");
        } else {
            seen.insert("large objects");
            assert_eq!((large.trim(), &lacks.absent_large_objects[0].oids[..]), ("0", &[(70001, 70003)][..]), "{lacks:#?}");
        }
        let keys = server
            .sql(&into, "SELECT conname, convalidated FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 ORDER BY 1");
        let said = server.sql(&into, "SELECT count(*) FROM pg_description WHERE classoid = 'pg_constraint'::regclass");
        let weakened: Vec<(&str, &str)> =
            lacks.weakened.iter().map(|weakened| (weakened.object.as_str(), weakened.state.as_str())).collect();
        if lacks.absent.iter().any(|absent| absent.table == "public.big") {
            seen.insert("big");
            assert_eq!((keys.trim(), said.trim()), ("to_big|f", "1"), "{lacks:#?}");
            let mut expected = vec![
                ("public.child to_big", "not-valid"),
                ("public.parted parted_to_big", "left-out"),
                ("public.counted", "not-filled"),
            ];
            expected
                .retain(|(_, state)| *state != "not-valid" || lacks.absent.iter().all(|absent| absent.table != "public.child"));
            let same: BTreeSet<_> = weakened.into_iter().collect();
            assert_eq!(same, expected.into_iter().collect(), "{lacks:#?}");
        } else {
            assert_eq!((keys.trim(), said.trim()), ("parted_to_big|t\nto_big|t", "2"), "{lacks:#?}");
            assert_eq!(weakened, [], "{lacks:#?}");
        }
        if let Some(huge) = lacks.absent.iter().find(|absent| absent.table == "public.huge") {
            seen.insert(if huge.rows_restored > 0 { "huge in part" } else { "huge" });
        }
        server.sql("postgres", &format!("DROP DATABASE {into}"));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["big", "description", "huge in part", "large objects", "schema"]);

    // Nothing damaged: a restore like any other.
    let report = super::restore(&site, &salvage("acme", &into)).await.unwrap();
    assert!(report.proven && report.salvage.as_ref().unwrap().is_whole(), "{report:?}");
    holds_the_rest(server, &live, &into, &report);
    let left = "SELECT datname FROM pg_database WHERE datname LIKE 'tenure%' UNION ALL SELECT rolname FROM pg_roles WHERE rolname LIKE 'tenure%'";
    assert_eq!(server.sql("postgres", left).trim(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_page_of_the_index_costs_its_tables_and_a_number_that_nobody_knows_is_not_guessed() {
    let site = Site::new().await;
    let live = site.database("acme");
    // From 256 ranges on a table has pages of the index to itself.
    shared().sql(
        &live,
        "CREATE TABLE wide (id int, t text) WITH (fillfactor = 10);
         INSERT INTO wide SELECT n, repeat(md5(n::text), 22) FROM generate_series(1, 16500) n;
         CREATE TABLE small (a int); INSERT INTO small VALUES (1), (2), (2)",
    );
    assert_eq!(site.all().await.class, None);
    let into = unique("page");
    let (mut whole, mut nothing) = (0, 0);
    let pages = objects(site.folder(), "/p/");
    assert_eq!(pages.len(), 2);
    for (how, path) in pages.iter().enumerate() {
        let before = std::fs::read(path).unwrap();
        broken(path, how);
        let plain = restore(&site, &copy("acme", &into)).await.unwrap_err();
        assert!(plain.hint.contains("--salvage --into NAME, unless it is the schema that the page leads to"), "{}", plain.hint);
        match restore(&site, &salvage("acme", &into)).await {
            Ok(report) => {
                whole += 1;
                let lacks = report.salvage.unwrap();
                assert!(!report.proven && lacks.whole_tables == 1, "{lacks:#?}");
                let absent = &lacks.absent[..];
                assert_eq!(absent.len(), 1, "{absent:#?}");
                assert_eq!((absent[0].table.as_str(), absent[0].from_page, absent[0].to_page), ("public.wide", 0, None));
                assert_eq!((absent[0].rows_restored, absent[0].rows_lost), (0, None));
                assert!(absent[0].needs.len() == 1 && absent[0].needs[0].contains("/p/"), "{absent:#?}");
                assert_eq!(shared().sql(&into, "SELECT count(*) FROM wide").trim(), "0");
                assert_eq!(shared().sql(&into, "SELECT count(*) FROM small").trim(), "3");
                shared().sql("postgres", &format!("DROP DATABASE {into}"));
            }
            Err(failure) => {
                nothing += 1;
                assert_eq!((failure.class.code(), failure.kind), (5, "damaged-object"), "{}", failure.one_line());
                assert!(failure.one_line().contains("without it nothing can be built"), "{}", failure.one_line());
            }
        }
        std::fs::write(path, before).unwrap();
    }
    assert_eq!((whole, nothing), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_a_later_backup_stored_anew_is_taken_from_there() {
    let site = Site::new().await;
    let live = site.database("acme");
    shared().sql(&live, "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 5000)");
    let first = site.all().await.results[0].backup.clone().unwrap();
    // It is offered where something would come back: not without the description or the schema.
    let mut offered = Vec::new();
    for path in objects(site.folder(), "/c/") {
        let before = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let into = unique("offered");
        let hint = restore(&site, &copy("acme", &into)).await.unwrap_err().hint;
        let comes_back = restore(&site, &salvage("acme", &into)).await.is_ok();
        assert_eq!(hint.contains("--salvage"), comes_back, "{hint}");
        offered.push(comes_back);
        std::fs::write(&path, before).unwrap();
    }
    assert!(offered.contains(&true) && offered.contains(&false), "{offered:?}");
    let lost = objects(site.folder(), "/c/").into_iter().max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    std::fs::remove_file(&lost).unwrap();
    assert_eq!(site.all().await.class, None);
    let into = unique("anew");
    let request = Request { which: Which::Backup(first.clone()), ..salvage("acme", &into) };
    let plain = restore(&site, &Request { salvage: false, ..request.clone() }).await.unwrap_err();
    assert!(plain.hint.contains("--salvage"), "{}", plain.hint);
    let report = restore(&site, &request).await.unwrap();
    assert!(report.proven && report.backup.to_string() == first, "{report:?}");
    assert_eq!(shared().sql(&into, "SELECT count(*) FROM t").trim(), "5000");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_salvaged_never_takes_the_tenants_place_and_what_is_out_of_reach_is_not_taken_for_lost() {
    let site = Site::new().await;
    let live = site.database("acme");
    shared().sql(&live, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    assert_eq!(site.all().await.class, None);
    shared().sql("postgres", &format!("DROP DATABASE {live}"));
    let failure = restore(&site, &salvage("acme", &live)).await.unwrap_err();
    assert_eq!((failure.class.code(), failure.kind), (4, "own-place"), "{}", failure.one_line());

    // A folder where the file was: the store cannot tell, and so nobody knows that the rows are lost.
    let into = unique("reach");
    for path in objects(site.folder(), "/c/") {
        let before = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let failure = restore(&site, &salvage("acme", &into)).await.unwrap_err();
        assert_ne!(failure.kind, "damaged-object", "{}", failure.one_line());
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, before).unwrap();
    }
}

#[test]
fn the_program_ends_with_5_and_names_every_range() {
    let cluster = Cluster::start(&Options::default());
    cluster.create_database("tenant_acme");
    cluster.sql(
        "tenant_acme",
        "CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 20000) n;
         CREATE TABLE refers (id int REFERENCES t); INSERT INTO refers SELECT generate_series(1, 20000)",
    );
    let program = Program::set_up(&cluster, "tenant_{tenant}");
    program.done(&["backup", "--all"]);
    let mut said = 0;
    for path in objects(program.folder(), "/c/") {
        let before = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let arguments = ["restore", "acme", "--salvage", "--into", "saved", "--identity", "recovery-kit.txt"];
        let (code, document) = program.run(&arguments);
        assert_eq!(code, 5, "{document:#}");
        if document["salvage"]["absent"][0]["table"] == "public.t" {
            said += 1;
            assert_eq!((&document["proven"], &document["tables"]), (&false.into(), &2.into()), "{document:#}");
            cluster.sql("postgres", "DROP DATABASE saved");
            let (code, text, _) = program.say(&arguments);
            assert_eq!(code, 5);
            assert!(text.starts_with("acme is PARTLY restored as database saved on here"), "{text}");
            assert!(text.contains("absent: table public.t, pages ") && text.contains("what is there is proven"), "{text}");
            assert!(text.contains("foreign key public.refers refers_id_fkey is there as NOT VALID"), "{text}");
            assert!(text.contains("1 of 2 tables are whole") && text.contains(": it is missing"), "{text}");
        }
        if document.get("error").is_none() {
            cluster.sql("postgres", "DROP DATABASE saved");
        }
        std::fs::write(&path, before).unwrap();
    }
    assert!(said > 0);
}
