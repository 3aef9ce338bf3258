//! Two writers of one name on a server that cannot refuse the second: whoever was overwritten is told, and nothing is said to be stored.

use std::sync::Arc;

use chrono::Utc;
use tenure::{
    operation::init::{Plan, Request, Stores},
    store::{
        Store,
        directory::DirectoryStore,
        fault::{Fault, FaultStore, Operation},
    },
};

use super::{ROWS, back_up, faulty};
use crate::harness::{postgres::shared, site::Site};

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_or_key_record_that_was_overwritten_is_no_backup() {
    for (store, part) in [("vault", "/b/"), ("keyring", "t/")] {
        for nth in [1, 2] {
            let site = Site::new().await;
            shared().sql(&site.database("acme"), ROWS);
            let (backup, vault, keyring) = faulty(&site).await;
            let store = if store == "vault" { vault } else { keyring };
            store.fail(Operation::Put, part, nth, Fault::Overwritten);
            let report = back_up(&backup).await;
            assert!(report.class.is_some() && report.results[0].backup.is_none(), "{part} {nth}: {report:?}");
        }
    }
}

#[tokio::test]
async fn an_init_that_was_overwritten_says_so() {
    for (part, nth) in [("keyring.json", 1), ("signers/", 1), ("signers/", 2), ("vault.json", 1), ("vault.json", 2)] {
        let folder = tempfile::tempdir().unwrap();
        let open = async |name: &str| {
            let store: Arc<dyn Store> = Arc::new(DirectoryStore::create(&folder.path().join(name)).await.unwrap());
            Arc::new(FaultStore::new(store))
        };
        let (vault, keyring) = (open("vault").await, open("keyring").await);
        for store in [&vault, &keyring] {
            store.fail(Operation::Put, part, nth, Fault::Overwritten);
        }
        let config_file = folder.path().join("tenure.toml");
        let request = Request {
            config_file: config_file.clone(),
            host: "test".to_owned(),
            recipients: Vec::new(),
            max_keep: "10 years".parse().unwrap(),
            stores: Vec::new(),
        };
        let stores = Stores { vault, keyring, mirrors: Vec::new() };
        let failure = Plan::new(request).unwrap().apply("", &stores, Utc::now()).await.unwrap_err();
        assert!(failure.object.contains(part), "{part} {nth}: {failure:?}");
        assert!(!config_file.exists(), "{part} {nth}");
    }
}
