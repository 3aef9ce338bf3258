//! What is lost, changed or exchanged in vault and keyring: noticed, named, and mended.

mod findings;
mod keys;
mod lost;
mod records;
mod repair;
mod together;

use std::{path::PathBuf, sync::Arc};

use chrono::Utc;
use tenure::{
    keyring::Keyring,
    operation::{
        admit::{self, Admit, AdmitReport},
        backup::{Backup, BackupReport, Which},
        failure::{Failure, FailureClass},
        keys::{KeysCheckReport, check},
        list::{ListReport, list},
        progress::Silent,
        show::show,
        verify::{self, Verify, VerifyReport},
    },
    signature::AllowedSigners,
    store::{Store, directory::DirectoryStore, fault::FaultStore},
    vault::Vault,
};

use crate::harness::{
    postgres::shared,
    site::{Site, walk},
};

const ROWS: &str =
    "CREATE TABLE t (n int, s text); INSERT INTO t SELECT n, repeat(md5(n::text), 5) FROM generate_series(1, 3000) n";

/// A site with these tenants, each with rows of its own, backed up once.
async fn backed_up(tenants: &[&str]) -> Site {
    let site = Site::new().await;
    for tenant in tenants {
        shared().sql(&site.database(tenant), &format!("{ROWS}; INSERT INTO t VALUES (0, '{tenant}')"));
    }
    assert_eq!(site.all().await.class, None);
    site
}

/// The same installation through stores that fail when told to.
async fn faulty(site: &Site) -> (Backup, Arc<FaultStore>, Arc<FaultStore>) {
    let open = async |name: &str| {
        let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(&site.folder().join(name)).await.unwrap());
        Arc::new(FaultStore::new(store))
    };
    let (vault_store, keyring_store) = (open("vault").await, open("keyring").await);
    let trust = AllowedSigners::parse(&site.signers).unwrap();
    let vault = Vault::open(vault_store.clone(), &trust).await.unwrap();
    let keyring = Keyring::open(keyring_store.clone(), Vec::new(), vault.root(), vault.signers().clone()).await.unwrap();
    (Backup { vault, keyring, ..site.backup.clone() }, vault_store, keyring_store)
}

fn objects(site: &Site, part: &str) -> Vec<PathBuf> {
    let all = walk(site.folder()).into_iter();
    all.filter(|path| path.strip_prefix(site.folder()).unwrap().to_string_lossy().contains(part)).collect()
}

fn flip(path: &PathBuf) -> Vec<u8> {
    let before = std::fs::read(path).unwrap();
    let mut bytes = before.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
    before
}

async fn list_of(site: &Site, tenant: &str) -> Result<ListReport, Failure> {
    list(&site.backup.vault, &site.backup.keyring, &tenant.parse().unwrap(), None, None, Utc::now()).await
}

async fn show_code(site: &Site, tenant: &str) -> Option<u8> {
    let Backup { vault, keyring, .. } = &site.backup;
    let shown = show(vault, keyring, &tenant.parse().unwrap(), "latest", None, None, Utc::now()).await;
    shown.err().map(|failure| failure.class.code())
}

async fn verify_one(site: &Site, tenant: &str) -> Result<VerifyReport, Failure> {
    let verify = Verify {
        vault: &site.backup.vault,
        keyring: &site.backup.keyring,
        identity: None,
        signer: Ok(&site.backup.signer),
        progress: &Silent,
        cancel: &site.backup.cancel,
    };
    verify.run(&verify::Which::Tenants(vec![tenant.parse().unwrap()]), Utc::now()).await
}

async fn check_keys(site: &Site) -> KeysCheckReport {
    check(&site.backup.vault, &site.backup.keyring, None, Utc::now(), &Silent).await.unwrap()
}

async fn admit(site: &Site, tenant: &str) -> Result<AdmitReport, Failure> {
    let Backup { vault, keyring, clusters, signer, .. } = &site.backup;
    Admit { vault, keyring, clusters, signer, approvals: 0 }
        .run(&admit::Which::Named(vec![tenant.parse().unwrap()]), Utc::now())
        .await
}

async fn back_up(backup: &Backup) -> BackupReport {
    backup.clone().run(&Which::All { accept_missing: true }).await.unwrap()
}

fn code(failure: Option<FailureClass>) -> Option<u8> {
    failure.map(FailureClass::code)
}
