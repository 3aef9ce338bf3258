//! Damage, deceit and interruption: what is said, and that the target is as it was.

use std::path::PathBuf;

use chrono::TimeDelta;
use tenure::chunk::RowDigest;

use super::*;
use crate::harness::{
    postgres::{Cluster, Options, shared, unique},
    site::walk,
};

const ROWS: &str = "CREATE TABLE big (id int PRIMARY KEY, t text);
    INSERT INTO big SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 4000) n;
    CREATE TABLE small (a int); INSERT INTO small VALUES (1), (2), (2);";

fn failed(result: Result<Report, Failure>) -> (u8, &'static str, String) {
    let failure = result.unwrap_err();
    (failure.class.code(), failure.kind, format!("{} | {}", failure.one_line(), failure.hint))
}

fn chunks(site: &Site) -> Vec<PathBuf> {
    walk(&site.folder().join("vault/t")).into_iter().filter(|path| path.to_string_lossy().contains("/c/")).collect()
}

async fn exists(name: &str) -> bool {
    shared().sql("postgres", &format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'")).trim() == "1"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_chunk_names_what_is_hurt_and_what_is_not() {
    let site = Site::new().await;
    let database = site.database("acme");
    shared().sql(&database, ROWS);
    assert_eq!(site.all().await.class, None);
    let first = chunks(&site);
    shared().sql(&database, "UPDATE big SET t = t || 'x'; UPDATE small SET a = a + 1");
    assert_eq!(site.all().await.class, None);
    let histories = site.backup.vault.lockers().await.unwrap();
    let history = site.backup.vault.history(histories[0], Utc::now()).await.unwrap();
    let (oldest, newest) = (history.backups[0].manifest.backup, history.newest().unwrap().manifest.backup);

    let into = unique("hurt");
    let (mut of_tables, mut named_other) = (0, 0);
    for path in chunks(&site) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_old = first.contains(&path);
        let before = std::fs::read(&path).unwrap();
        for damage in ["flip", "cut", "gone"] {
            match damage {
                "flip" => {
                    let mut bytes = before.clone();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    std::fs::write(&path, bytes).unwrap();
                }
                "cut" => std::fs::write(&path, &before[..(before.len() - 1) / 65_536 * 65_536]).unwrap(),
                _ => std::fs::remove_file(&path).unwrap(),
            }
            match restore(&site, &copy("acme", &into)).await {
                // The newest backup does not need it.
                Ok(_) => {
                    assert!(is_old, "{name}");
                    shared().sql("postgres", &format!("DROP DATABASE {into}"));
                }
                Err(failure) => {
                    let (exit, kind, text) = failed(Err(failure));
                    assert_eq!((exit, kind), (5, "damaged-object"), "{damage}: {text}");
                    assert!(text.contains(&name), "{text}");
                    assert!(text.contains("backups hurt") && text.contains(&newest.to_string()), "{text}");
                    of_tables += usize::from(text.contains("holds rows of table public."));
                    named_other += usize::from(text.contains(&format!("--backup {oldest}")));
                    assert!(!exists(&into).await);
                }
            }
        }
        std::fs::write(&path, &before).unwrap();
    }
    assert!(of_tables > 0 && named_other > 0, "{of_tables} {named_other}");
    restore(&site, &copy("acme", &into)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_stored_a_lost_chunk_anew_is_named_as_the_way_out() {
    let site = Site::new().await;
    shared().sql(&site.database("acme"), ROWS);
    assert_eq!(site.all().await.class, None);
    let lost = chunks(&site).into_iter().max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    std::fs::remove_file(&lost).unwrap();
    let healed = site.all().await.results[0].backup.clone().unwrap();
    let locker = site.backup.vault.lockers().await.unwrap()[0];
    let oldest = site.backup.vault.history(locker, Utc::now()).await.unwrap().backups[0].manifest.backup.to_string();
    let of_oldest = Request { which: Which::Backup(oldest.clone()), ..copy("acme", &unique("anew")) };
    let (exit, _, text) = failed(restore(&site, &of_oldest).await);
    assert_eq!(exit, 5, "{text}");
    assert!(text.contains(&format!("backups hurt: {oldest} |")) && text.contains(&format!("--backup {healed}")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_manifest_or_signature_stops() {
    let site = Site::new().await;
    shared().sql(&site.database("acme"), ROWS);
    assert_eq!(site.all().await.class, None);
    let into = unique("page");
    for path in walk(&site.folder().join("vault/t")) {
        let text = path.to_string_lossy().into_owned();
        if !text.contains("/p/") && !text.contains("/b/") {
            continue;
        }
        let before = std::fs::read(&path).unwrap();
        let mut bytes = before.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (exit, _, said) = failed(restore(&site, &copy("acme", &into)).await);
        assert_eq!(exit, 5, "{text}: {said}");
        std::fs::write(&path, before).unwrap();
    }
    assert!(!exists(&into).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn which_backup() {
    let site = Site::new().await;
    let database = site.database("acme");
    shared().sql(&database, ROWS);
    let before = Utc::now();
    let first = site.all().await.results[0].backup.clone().unwrap();
    let between = Utc::now();
    shared().sql(&database, "INSERT INTO small VALUES (9)");
    let second = site.all().await.results[0].backup.clone().unwrap();
    let into = unique("which");
    let at = |which: Which| Request { which, ..copy("acme", &into) };

    let (exit, kind, text) = failed(restore(&site, &at(Which::At(before - TimeDelta::hours(1)))).await);
    assert_eq!((exit, kind), (1, "before-first-backup"), "{text}");
    assert!(text.contains(&first), "{text}");
    let (exit, kind, _) = failed(restore(&site, &at(Which::Backup("2031".into()))).await);
    assert_eq!((exit, kind), (1, "no-such-backup"));
    let (exit, kind, _) = failed(restore(&site, &at(Which::Backup("20".into()))).await);
    assert_eq!((exit, kind), (1, "ambiguous-backup"));
    let (exit, kind, _) = failed(restore(&site, &Request { tenant: "nobody".parse().unwrap(), ..latest("acme") }).await);
    assert_eq!((exit, kind), (1, "unknown-tenant"));

    for (which, expected, rows) in [
        (Which::At(between), &first, "3"),
        (Which::Backup(first.clone()), &first, "3"),
        (Which::Backup("latest".into()), &second, "4"),
    ] {
        let report = restore(&site, &at(which)).await.unwrap();
        assert_eq!(report.backup.to_string(), *expected);
        assert_eq!(shared().sql(&into, "SELECT count(*) FROM small").trim(), rows);
        shared().sql("postgres", &format!("DROP DATABASE {into}"));
    }

    // A manifest that disappears, with a later one that names it, is a hole; it stops what asks for the newest only where it may be newer.
    let locker = site.backup.vault.lockers().await.unwrap()[0];
    let manifest = |id: &str| site.folder().join(format!("vault/t/{locker}/b/{id}.json"));
    let third = site.all().await.results[0].backup.clone().unwrap();
    std::fs::rename(manifest(&second), site.folder().join("hidden")).unwrap();
    let report = restore(&site, &at(Which::Latest)).await.unwrap();
    assert_eq!(report.backup.to_string(), third);
    assert!(report.notes.iter().any(|note| note.contains(&second)), "the hole is said: {:?}", report.notes);
    shared().sql("postgres", &format!("DROP DATABASE {into}"));
    let hidden = Which::At(second.parse::<tenure::backup_id::BackupId>().unwrap().time() + TimeDelta::milliseconds(999));
    let hidden = if third.starts_with(&second[..16]) { Which::Backup(second.clone()) } else { hidden };
    let (exit, _, text) = failed(restore(&site, &at(hidden.clone())).await);
    assert_eq!(exit, 5, "{text}");
    if let Which::At(_) = hidden {
        assert!(text.contains("--accept-gap"), "{text}");
        let report = restore(&site, &Request { accept_gap: true, ..at(hidden) }).await.unwrap();
        assert_eq!(report.backup.to_string(), first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_erased_and_another_identity_are_refused() {
    let site = Site::new().await;
    shared().sql(&site.database("acme"), ROWS);
    assert_eq!(site.all().await.class, None);
    let into = unique("refused");
    let clusters = BTreeMap::from([("eu-1".to_owned(), here(&site))]);
    let restorer = Restorer {
        vault: &site.backup.vault,
        keyring: &site.backup.keyring,
        clusters: &clusters,
        tools: &site.backup.tools,
        signer: &site.backup.signer,
        jobs: 2,
        budget: &Budget::new(1),
        progress: &Silent,
        cancel: &site.backup.cancel,
    };
    let later = Utc::now() + TimeDelta::days(200);
    let (exit, kind, _) = failed(restorer.restore(&copy("acme", &into), site.identity(), later).await);
    assert_eq!((exit, kind), (4, "expired"));

    let other = tenure::seal::RecoveryIdentity::generate().0;
    let other =
        tenure::seal::RecoveryIdentity::parse(secrecy::ExposeSecret::expose_secret(&other).as_bytes(), age::NoCallbacks).unwrap();
    let (exit, kind, _) = failed(restorer.restore(&copy("acme", &into), other, Utc::now()).await);
    assert_eq!((exit, kind), (1, "wrong-identity"));

    let tag = site.backup.keyring.tag(&"acme".parse().unwrap());
    let locker = site.backup.vault.lockers().await.unwrap()[0];
    // A note that nobody signed may say anything, and stops as what it is.
    let places =
        [(format!("vault/erased/{tag}"), 4), (format!("keyring/erased/{tag}"), 4), (format!("vault/t/{locker}/gone"), 5)];
    for (place, code) in places {
        let place = site.folder().join(place);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join(format!("{}.json", tenure::id::RecordId::random())), b"anything").unwrap();
        let (exit, _, text) = failed(restore(&site, &copy("acme", &into)).await);
        assert_eq!(exit, code, "{text}");
        std::fs::remove_dir_all(&place).unwrap();
    }
}

/// What a tenant's function changes behind the restore's back is found by the proof: a row changed, one of two equal ones lost, a table
/// emptied, a sequence moved. It runs when a materialized view is filled, after everything was loaded.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_what_was_captured_is_not_proven() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    server.sql("postgres", "CREATE ROLE app");
    for (harm, words) in [
        ("UPDATE public.small SET a = 7 WHERE a = 1", "table public.small: 3 rows, but not the ones"),
        ("DELETE FROM public.small WHERE ctid = (SELECT max(ctid) FROM public.small WHERE a = 2)", "2 rows instead of 3"),
        ("TRUNCATE public.small", "0 rows instead of 3"),
        ("PERFORM setval('public.counter', 99)", "public.counter stands at 99, not at 5"),
        ("PERFORM lo_put(7, 0, 'x')", "large objects"),
    ] {
        let site = Site::on(server).await;
        let database = site.database("acme");
        server.sql(
            &database,
            &format!(
                "CREATE TABLE small (a int); INSERT INTO small VALUES (1), (2), (2); ALTER TABLE small OWNER TO app;
                 CREATE SEQUENCE counter; SELECT setval('counter', 5); ALTER SEQUENCE counter OWNER TO app;
                 SELECT lo_from_bytea(7, 'abc'); ALTER LARGE OBJECT 7 OWNER TO app;
                 CREATE FUNCTION harm() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
                 CREATE MATERIALIZED VIEW m AS SELECT harm(); ALTER MATERIALIZED VIEW m OWNER TO app;
                 CREATE OR REPLACE FUNCTION harm() RETURNS int LANGUAGE plpgsql AS $$ BEGIN {harm}; RETURN 1; END $$;"
            ),
        );
        assert_eq!(site.all().await.class, None);
        let into = unique("unproven");
        let (exit, kind, text) = failed(restore(&site, &copy("acme", &into)).await);
        assert_eq!((exit, kind), (5, "not-proven"), "{harm}: {text}");
        assert!(text.contains(words), "{text}");
        let left = "SELECT datname FROM pg_database WHERE datname LIKE 'tenure%' UNION ALL SELECT rolname FROM pg_roles WHERE rolname LIKE 'tenure%'";
        assert_eq!(server.sql("postgres", left).trim(), "");

        let kept = failed(restore(&site, &Request { keep_failed: true, ..copy("acme", &into) }).await).2;
        let databases = server.sql("postgres", left);
        assert!(databases.trim().starts_with("tenure_") && databases.lines().count() == 1, "{databases}");
        assert!(kept.contains(databases.trim()), "{kept}");
        server.sql("postgres", &format!("DROP DATABASE {}", databases.trim()));
    }
}

/// Wherever a restore is stopped, nothing has the target's name and nothing is left; killed outright, it leaves what the next one names.
#[tokio::test(flavor = "multi_thread")]
async fn stopped_anywhere_it_leaves_nothing() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let mut site = Site::on(server).await;
    server.sql(&site.database("acme"), ROWS);
    assert_eq!(site.all().await.class, None);
    let left = "SELECT datname FROM pg_database WHERE datname LIKE 'tenure%' UNION ALL SELECT rolname FROM pg_roles WHERE rolname LIKE 'tenure%'";
    let mut stopped = 0;
    for stage in ["reading", "checking", "schema", "loading", "indexes", "proving"] {
        site.backup.cancel = tokio_util::sync::CancellationToken::new();
        let clusters = BTreeMap::from([("eu-1".to_owned(), here(&site))]);
        let stop = StopAt { stage, cancel: site.backup.cancel.clone() };
        let restorer = Restorer {
            vault: &site.backup.vault,
            keyring: &site.backup.keyring,
            clusters: &clusters,
            tools: &site.backup.tools,
            signer: &site.backup.signer,
            jobs: 2,
            budget: &Budget::new(1),
            progress: &stop,
            cancel: &site.backup.cancel,
        };
        let into = unique("stopped");
        let (exit, kind, _) = failed(restorer.restore(&copy("acme", &into), site.identity(), Utc::now()).await);
        assert_eq!((exit, kind), (130, "interrupted"), "{stage}");
        stopped += 1;
        assert_eq!(server.sql("postgres", left).trim(), "", "{stage}");
        assert_eq!(server.sql("postgres", &format!("SELECT count(*) FROM pg_database WHERE datname = '{into}'")).trim(), "0");
    }
    assert_eq!(stopped, 6);
    site.backup.cancel = tokio_util::sync::CancellationToken::new();
    let hex = "0123456789abcdef0123456789abcdef";
    server.create_database(&format!("tenure_{hex}"));
    server.sql("postgres", &format!("CREATE ROLE tenure_loader_{hex} LOGIN VALID UNTIL '2020-01-01'"));
    let oid = server.sql("postgres", &format!("SELECT oid FROM pg_database WHERE datname = 'tenure_{hex}'"));
    let record = tenure::format::record::CopyOid {
        format: 1,
        installation: site.backup.vault.root().installation,
        locker: site.backup.vault.lockers().await.unwrap()[0],
        id: tenure::id::RecordId::random(),
        system_identifier: server.sql("postgres", "SELECT system_identifier FROM pg_control_system()").trim().to_owned(),
        database_oid: oid.trim().parse().unwrap(),
    };
    site.backup.vault.put_copy_oid(&record, &site.backup.signer).await.unwrap();
    let note = |report: &Report| report.notes.iter().find(|note| note.contains(hex)).cloned();
    let said = note(&restore(&site, &copy("acme", &unique("next"))).await.unwrap()).unwrap();
    assert!(said.contains(&format!("this tenant's database tenure_{hex}, role tenure_loader_{hex};")), "{said}");
    // What it says to type is what removes them.
    let (_, statements) = said.split_once("remove it: ").unwrap();
    statements.split_inclusive(';').for_each(|statement| drop(server.sql("postgres", statement)));
    assert_eq!(server.sql("postgres", left).trim(), "");
    // What another restore is at work on is not named.
    server.create_database(&format!("tenure_{hex}"));
    let other = server.client("postgres").await;
    other.batch_execute(&format!("SET application_name TO 'tenure restore {hex}'")).await.unwrap();
    let report = restore(&site, &copy("acme", &unique("next"))).await.unwrap();
    assert_eq!(note(&report), None);
}

/// The newest manifest can be taken away unseen by any later one; its signature, or that of a run that crashed, is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_backup_without_a_manifest_is_said() {
    let site = Site::new().await;
    let database = site.database("acme");
    shared().sql(&database, ROWS);
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(site.all().await.results[0].backup.clone().unwrap());
        shared().sql(&database, "INSERT INTO small VALUES (9)");
    }
    let locker = site.backup.vault.lockers().await.unwrap()[0];
    let manifest = site.folder().join(format!("vault/t/{locker}/b/{}.json", ids[1]));
    let said = |report: &Report| report.notes.iter().any(|note| note.contains(&ids[1]) && note.contains("no manifest"));
    let into = unique("begun");
    let report = restore(&site, &Request { which: Which::Backup(ids[0].clone()), ..copy("acme", &into) }).await.unwrap();
    assert!(report.notes.is_empty(), "{report:?}");
    std::fs::remove_file(manifest).unwrap();
    let report = restore(&site, &copy("acme", &unique("begun"))).await.unwrap();
    assert!(report.backup.to_string() == ids[0] && said(&report), "{report:?}");
    // One that came before the backup that is restored is nobody's concern.
    let third = site.all().await.results[0].backup.clone().unwrap();
    let report = restore(&site, &copy("acme", &unique("begun"))).await.unwrap();
    assert!(report.backup.to_string() == third && (third[..16] == ids[1][..16] || !said(&report)), "{report:?}");
}

/// Stops when a stage begins.
struct StopAt {
    stage: &'static str,
    cancel: tokio_util::sync::CancellationToken,
}

impl tenure::operation::progress::Progress for StopAt {
    fn tenant_started(&self, _: &tenure::tenant::TenantName, _: u64) {}
    fn advanced(&self, _: &tenure::tenant::TenantName, _: u64) {}
    fn stage(&self, _: &tenure::tenant::TenantName, stage: &'static str) {
        if stage == self.stage {
            self.cancel.cancel();
        }
    }
    fn tenant_finished(&self, _: &tenure::tenant::TenantName, _: &str) {}
}

/// The sums that the proof rests on.
#[test]
fn digests_tell_orders_apart_from_losses() {
    let key = tenure::chunk::ChunkNameKey::random();
    let hasher = key.row_hasher();
    let sum = |rows: &[&str]| {
        let mut sum = RowDigest::default();
        rows.iter().for_each(|row| sum += hasher.row(row.as_bytes()));
        sum
    };
    assert_eq!(sum(&["1\n", "2\n", "2\n"]), sum(&["2\n", "1\n", "2\n"]));
    assert_ne!(sum(&["1\n", "2\n", "2\n"]), sum(&["1\n", "1\n", "2\n"]));
    assert_ne!(sum(&["1\n", "2\n", "2\n"]), sum(&["1\n", "2\n"]));
}
