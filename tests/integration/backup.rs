//! Backups of real databases, through the library.

mod conditions;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use tenure::{
    id::RecordId,
    operation::{
        backup::{Backup, Outcome, Which},
        failure::FailureClass,
        progress::Progress,
    },
    tenant::TenantName,
};

use crate::harness::{
    postgres::{eventually, shared},
    site::{Site, walk},
};

const TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY, t text);
    INSERT INTO a SELECT n, repeat(md5(n::text), 5) FROM generate_series(1, 20000) n;
    CREATE TABLE tiny1 (x int); CREATE TABLE tiny2 (y text); INSERT INTO tiny2 VALUES ('one'), ('two');
    CREATE TABLE nothing ();
    CREATE VIEW v AS SELECT count(*) FROM a;";

#[tokio::test(flavor = "multi_thread")]
async fn a_second_night_stores_only_what_changed() {
    let site = Site::new().await;
    let database = site.database("acme");
    shared().sql(&database, TABLES);
    let first = site.all().await;
    assert_eq!(first.class, None, "{first:?}");
    let [result] = &first.results[..] else { panic!("{first:?}") };
    assert_eq!((result.tenant.as_str(), result.outcome), ("acme", Outcome::Done));
    assert_eq!(result.chunks_reused, 0);
    assert!(result.chunks_stored > 3 && result.bytes_read > 3_000_000, "{result:?}");

    let idle = site.all().await;
    let [result] = &idle.results[..] else { panic!("{idle:?}") };
    assert_eq!((result.chunks_stored, result.bytes_stored), (0, 0), "an idle night stores nothing but its manifest: {result:?}");

    shared().sql(&database, "UPDATE a SET t = 'changed' WHERE id = 5");
    let third = site.all().await;
    let [result] = &third.results[..] else { panic!("{third:?}") };
    assert!((1..=3).contains(&result.chunks_stored), "{result:?}");
    assert!(result.bytes_stored < result.bytes_read / 3, "{result:?}");

    for with_identity in [false, true] {
        let report = site.verify(with_identity).await;
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        assert_eq!(report.checked.manifests, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_flip_and_loss_is_found_and_the_next_backup_heals_a_lost_chunk() {
    let site = Site::new().await;
    shared().sql(&site.database("acme"), TABLES);
    shared().sql(&site.database("other"), TABLES);
    assert_eq!(site.all().await.class, None);
    let objects = walk(&site.folder().join("vault/t"));
    assert!(objects.len() > 10);
    for path in &objects {
        let bytes = std::fs::read(path).unwrap();
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            std::fs::write(path, &flipped).unwrap();
            assert!(!site.verify(false).await.problems.is_empty(), "{} byte {at}", path.display());
        }
        std::fs::remove_file(path).unwrap();
        let is_document = path.extension().is_some_and(|extension| extension == "json");
        let report = site.verify(false).await;
        // A manifest that is gone with no successor to miss it leaves a signature, which is what a crashed commit leaves.
        assert!(if is_document { !report.leftovers.is_empty() } else { !report.problems.is_empty() }, "{}", path.display());
        std::fs::write(path, &bytes).unwrap();
    }
    assert!(site.verify(true).await.problems.is_empty());

    let chunk = objects.iter().find(|path| path.to_string_lossy().contains("/c/")).unwrap();
    std::fs::remove_file(chunk).unwrap();
    let healed = site.all().await;
    assert_eq!(healed.class, None);
    assert_eq!(healed.results.iter().map(|result| result.chunks_stored).sum::<u64>(), 1, "{healed:?}");
    assert!(healed.results.iter().any(|result| result.findings.iter().any(|finding| finding.contains("stored again"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_never_becomes_a_new_tenant() {
    let site = Site::new().await;
    shared().sql(&site.database("acme"), TABLES);
    shared().sql(&site.database("other"), TABLES);
    assert_eq!(site.all().await.class, None);
    let tag = site.backup.keyring.tag(&"acme".parse::<TenantName>().unwrap());
    let records = site.folder().join(format!("keyring/t/{tag}"));
    std::fs::rename(&records, site.folder().join("away")).unwrap();
    let refused = site.backup.clone().run(&Which::All { accept_missing: true }).await.unwrap_err();
    assert_eq!((refused.class.code(), refused.kind), (5, "keyring-incomplete"), "{refused:?}");
    // Who says so goes on with those whose keys are there.
    let accepting = Backup { accept_lost_keys: true, ..site.backup.clone() };
    let report = accepting.run(&Which::All { accept_missing: false }).await.unwrap();
    assert_eq!(report.class.map(FailureClass::code), Some(5), "{report:?}");
    let outcome = |tenant: &str| report.results.iter().find(|result| result.tenant == tenant).map(|result| result.outcome);
    assert_eq!((outcome("acme"), outcome("other")), (Some(Outcome::Failed), Some(Outcome::Done)));
    std::fs::rename(site.folder().join("away"), &records).unwrap();
    assert_eq!(site.all().await.class, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_under_erased_or_gone_refuses() {
    let site = Site::new().await;
    shared().sql(&site.database("acme"), TABLES);
    assert_eq!(site.all().await.class, None);
    let acme: TenantName = "acme".parse().unwrap();
    let locker = site.backup.keyring.keys(&acme).await.unwrap().unwrap().lockers()[0];
    let tag = site.backup.keyring.tag(&acme);
    // A note that nobody can read may say that everything was purged, and somebody spoilt it.
    for (place, code) in
        [(format!("vault/erased/{tag}"), 4), (format!("keyring/erased/{tag}"), 4), (format!("vault/t/{locker}/gone"), 5)]
    {
        let place = site.folder().join(place);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join(format!("{}.json", RecordId::random())), b"not even JSON").unwrap();
        let report = site.all().await;
        assert_eq!(report.class.map(FailureClass::code), Some(code), "{report:?}");
        assert_eq!(report.results[0].outcome == Outcome::Refused, code == 4);
        std::fs::remove_dir_all(&place).unwrap();
    }
    assert_eq!(site.all().await.class, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_source_stops_its_tenant() {
    let site = Site::new().await;
    let database = site.database("acme");
    shared().sql(&database, TABLES);
    assert_eq!(site.all().await.class, None);
    shared().sql("postgres", &format!("DROP DATABASE \"{database}\""));
    shared().create_database(&database);
    let report = site.all().await;
    assert_eq!(report.results[0].outcome, Outcome::Refused, "{report:?}");
    assert!(report.results[0].error.as_ref().unwrap().hint.contains("admit --source"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_database_is_no_new_tenant_and_a_closed_one_is_a_failure() {
    let site = Site::new().await;
    let database = site.database("acme");
    shared().sql(&database, TABLES);
    assert_eq!(site.all().await.class, None);
    let renamed = format!("{database}2");
    shared().sql("postgres", &format!("ALTER DATABASE \"{database}\" RENAME TO \"{renamed}\""));
    let report = site.all().await;
    assert_eq!(report.results[0].outcome, Outcome::Refused, "{report:?}");
    assert_eq!(report.results[0].error.as_ref().unwrap().kind, "tenant-renamed");
    shared().sql("postgres", &format!("ALTER DATABASE \"{renamed}\" RENAME TO \"{database}\""));
    assert_eq!(site.all().await.class, None);

    site.database("other");
    shared().sql("postgres", &format!("ALTER DATABASE \"{database}\" ALLOW_CONNECTIONS false"));
    assert_eq!(site.all().await.class, Some(FailureClass::SomeTenants));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_of_a_backup_that_is_about_to_expire_are_not_built_upon() {
    fn later() -> DateTime<Utc> {
        Utc::now() + TimeDelta::days(182)
    }
    let mut site = Site::new().await;
    shared().sql(&site.database("acme"), TABLES);
    assert_eq!(site.all().await.class, None);
    site.backup.clock = later;
    let report = site.all().await;
    assert_eq!(report.results[0].chunks_reused, 0, "{report:?}");
    assert_eq!(report.class, None);
}

/// Alters a table as soon as rows are being copied, and waits until it waits for the backup.
struct AltersWhenCopying {
    database: String,
    altered: std::sync::Mutex<Option<std::thread::JoinHandle<String>>>,
}

impl tenure::operation::progress::Progress for AltersWhenCopying {
    fn tenant_started(&self, _: &TenantName, _: u64) {}
    fn advanced(&self, _: &TenantName, _: u64) {}
    fn stage(&self, _: &TenantName, stage: &'static str) {
        let mut altered = self.altered.lock().unwrap();
        if stage != "copying" || altered.is_some() {
            return;
        }
        let database = self.database.clone();
        *altered = Some(std::thread::spawn(move || shared().sql(&database, "ALTER TABLE a ADD COLUMN more int DEFAULT 7")));
        eventually("the ALTER waits", || {
            shared().sql(&self.database, "SELECT count(*) FROM pg_locks WHERE relation = 'a'::regclass AND NOT granted").trim()
                == "1"
        });
    }
    fn tenant_finished(&self, _: &TenantName, _: &str) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_gives_way_to_whoever_waits_behind_it_and_is_tried_again() {
    let mut site = Site::new().await;
    let database = site.database("acme");
    shared().sql(&database, TABLES);
    let progress = std::sync::Arc::new(AltersWhenCopying { database: database.clone(), altered: std::sync::Mutex::new(None) });
    site.backup.progress = progress.clone();
    // Without giving way, pg_dump would wait behind the ALTER until this is over, and fail.
    site.backup.lock_timeout = std::time::Duration::from_secs(600);
    site.backup.yield_after = Some(std::time::Duration::from_millis(1));
    let report = site.all().await;
    assert_eq!(report.class, None, "{report:?}");
    assert_eq!(report.results.len(), 1);
    assert_eq!(report.results[0].outcome, Outcome::Done);
    progress.altered.lock().unwrap().take().unwrap().join().unwrap();
}

/// Runs SQL when the rows begin to be read.
struct WhileCopying {
    database: String,
    sql: String,
}

impl Progress for WhileCopying {
    fn tenant_started(&self, _: &TenantName, _: u64) {}
    fn advanced(&self, _: &TenantName, _: u64) {}
    fn tenant_finished(&self, _: &TenantName, _: &str) {}

    fn stage(&self, _: &TenantName, stage: &'static str) {
        if stage == "copying" {
            shared().sql(&self.database, &self.sql);
        }
    }
}

/// The server would write the new label into rows, and `pg_dump` the old one into the schema. So it is tried again, a few times.
#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_changes_under_the_rows_fails_the_backup() {
    let rename = "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'";
    let back = "ALTER TYPE mood RENAME VALUE 'blue' TO 'sad'";
    for (otherwise, outcome) in [("NULL", Outcome::Done), (back, Outcome::Failed)] {
        let mut site = Site::new().await;
        let database = site.database("acme");
        shared().sql(&database, "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE t AS SELECT 'sad'::mood AS m");
        let sql = format!("DO $$ BEGIN {rename}; EXCEPTION WHEN invalid_parameter_value THEN {otherwise}; END $$");
        site.backup.progress = Arc::new(WhileCopying { database, sql });
        let report = site.all().await;
        let [result] = &report.results[..] else { panic!("{report:?}") };
        assert_eq!(result.outcome, outcome, "{report:?}");
        if let Some(error) = &result.error {
            assert!(error.kind == "schema-changed" && error.message.starts_with("type public.mood of database"), "{report:?}");
        }
    }
}
