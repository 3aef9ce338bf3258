//! A walk: every store call, every statement and every child process of a backup, a verify and a restore fails, one at a time, in each of
//! its ways. After each: the exit code is not 0, what exists is whole, no key is lost, the next run succeeds, leftovers are found.
//!
//! A walk prints how many calls it made fail. With `TENURE_TEST_WALK=all` it makes every single call fail, which takes minutes; without,
//! every kind of call in each of its ways, where a call's kind is what is done with what sort of object, or a statement's text.

mod disks;
mod programs;
mod requests;
pub(crate) mod sessions;
mod stores;

use std::{collections::BTreeMap, io::Write as _, path::Path, sync::Arc, time::Duration};

use chrono::Utc;
use tenure::{
    keyring::Keyring,
    operation::{
        backup::{Backup, BackupReport, Which},
        budget::Budget,
        failure::Failure,
        keys,
        progress::{Progress, Silent},
        restore::{Destination, Report, Request, Restorer},
        verify::{self, Verify, VerifyReport},
    },
    signature::AllowedSigners,
    store::{Store, directory::DirectoryStore},
    vault::Vault,
};

use crate::harness::{
    postgres::{Cluster, quoted},
    site::{Site, walk as files},
};

/// Small, and of every kind: tables that share chunks, an index, a foreign key, a sequence, a large object, a view that is filled.
const ROWS: &str = "CREATE TABLE customer (id int PRIMARY KEY, name text);
    INSERT INTO customer SELECT n, md5(n::text) FROM generate_series(1, 300) n;
    CREATE TABLE invoice (id serial PRIMARY KEY, customer int REFERENCES customer, total int);
    INSERT INTO invoice (customer, total) SELECT n, n * 7 FROM generate_series(1, 300) n; CREATE INDEX ON invoice (total);
    CREATE MATERIALIZED VIEW turnover AS SELECT sum(total) FROM invoice; SELECT lo_from_bytea(7, 'a contract');";

/// No run of these small databases takes so long, on a busy machine either.
const PATIENT: Duration = Duration::from_secs(120);

/// Whether every single call is walked.
fn every() -> bool {
    std::env::var("TENURE_TEST_WALK").is_ok_and(|value| value == "all")
}

/// Says how many calls failed, whatever becomes of the standard output of tests that pass.
pub(crate) fn walked_through(count: usize, what: &str) {
    assert!(count > 0, "{what}");
    let text = format!("walk: {count} {what} failed, one at a time\n");
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

/// What vault and keyring hold: name and content.
pub(crate) type Content = BTreeMap<String, Vec<u8>>;

pub(crate) fn content(folder: &Path) -> Content {
    let name = |path: &Path| path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
    files(folder).into_iter().map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
}

/// Makes a folder hold exactly this.
pub(crate) fn set(folder: &Path, content: &Content) {
    for place in ["vault", "keyring"] {
        for entry in std::fs::read_dir(folder.join(place)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
    }
    for (name, bytes) in content {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// The site through other stores than its own.
async fn through(site: &Site, vault: Arc<dyn Store>, keyring: Arc<dyn Store>) -> Result<Backup, Failure> {
    let vault = Vault::open(vault, &AllowedSigners::parse(&site.signers).unwrap()).await?;
    let keyring = Keyring::open(keyring, Vec::new(), vault.root(), vault.signers().clone()).await?;
    Ok(Backup { vault, keyring, ..site.backup.clone() })
}

async fn directory(site: &Site, name: &str) -> Arc<dyn Store> {
    Arc::new(DirectoryStore::open(&site.folder().join(name)).await.unwrap())
}

/// Exit code 0, or why not.
fn outcome(report: &BackupReport) -> Result<(), String> {
    match report.class {
        None => Ok(()),
        Some(class) => Err(format!("{}: {:?} {:?}", class.code(), report.errors, report.results)),
    }
}

async fn back_up(backup: Backup) -> Result<BackupReport, Failure> {
    backup.run(&Which::All { accept_missing: false }).await
}

async fn verify(site: &Site, backup: &Backup) -> Result<VerifyReport, Failure> {
    let identity = site.identity();
    let verify = Verify {
        vault: &backup.vault,
        keyring: &backup.keyring,
        identity: Some(&identity),
        signer: Ok(&backup.signer),
        progress: &Silent,
        cancel: &backup.cancel,
    };
    verify.run(&verify::Which::All, Utc::now()).await
}

async fn restore(site: &Site, backup: &Backup, request: &Request) -> Result<Report, Failure> {
    restore_telling(site, backup, request, &Silent).await
}

async fn restore_telling(site: &Site, backup: &Backup, request: &Request, progress: &dyn Progress) -> Result<Report, Failure> {
    let admin = backup.clusters[0].target.clone();
    let destination = Destination { admin, ..crate::restore::here(site) };
    let clusters = BTreeMap::from([(destination.name.clone(), destination)]);
    let restorer = Restorer {
        vault: &backup.vault,
        keyring: &backup.keyring,
        clusters: &clusters,
        tools: &backup.tools,
        signer: &backup.signer,
        jobs: 2,
        budget: &Budget::new(6 * 1024 * 1024),
        progress,
        cancel: &backup.cancel,
    };
    restorer.restore(request, site.identity(), Utc::now()).await
}

/// Databases and roles that restores left.
fn left(server: &Cluster) -> String {
    let sql = "SELECT datname FROM pg_database WHERE datname LIKE 'tenure%' UNION ALL SELECT rolname FROM pg_roles WHERE rolname LIKE 'tenure%'";
    server.sql("postgres", sql).trim().to_owned()
}

/// The databases that are open, and what the tenant's holds.
fn live(site: &Site) -> String {
    let open = site.cluster.sql("postgres", "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1");
    open + &site.cluster.sql(&site.name("acme"), "SELECT count(*), sum(hashtext(c::text)) FROM customer c")
}

/// Removes what a restore made, or the database that it put aside.
fn tidy(site: &Site, report: &Report) {
    let database = report.replaced_as.as_ref().unwrap_or(&report.database);
    site.cluster.sql("postgres", &format!("DROP DATABASE {}", quoted(database)));
}

/// What is true of vault and keyring after any failure. Gives whether they are as they were.
async fn whole(site: &Site, before: &Content, case: &str) -> bool {
    let after = content(site.folder());
    for (name, bytes) in before {
        assert!(after.get(name) == Some(bytes), "{case}: {name} is not as it was");
    }
    if after == *before {
        return true;
    }
    let verified = site.verify(true).await;
    assert!(verified.problems.is_empty(), "{case}: {:?}", verified.problems);
    let Backup { vault, keyring, .. } = &site.backup;
    let keys = keys::check(vault, keyring, Some(&site.identity()), Utc::now(), &Silent).await.unwrap();
    assert!(keys.problems.is_empty(), "{case}: {:?}", keys.problems);
    // What a run began and did not end is named; of the records of acts by `audit`.
    let is_record = |name: &str| name.starts_with("vault/runs/");
    for (name, _) in after.iter().filter(|(name, _)| !before.contains_key(*name) && !is_record(name)) {
        let unfinished = name.strip_suffix(".json.sig").is_some_and(|stem| !after.contains_key(&format!("{stem}.json")));
        if unfinished {
            let bare = name.split_once('/').unwrap().1;
            let named = verified.leftovers.iter().chain(&keys.leftovers).any(|left| left.ends_with(bare));
            assert!(named, "{case}: {name} is not named: {verified:?} {keys:?}");
        }
    }
    false
}
