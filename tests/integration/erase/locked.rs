//! Ciphertext that a lock keeps: the certificate stays open, and a last document closes it when the lock has ended.

use std::sync::Arc;

use chrono::Utc;
use tenure::{
    format::{certificate::Certificate, inventory::InventoryLine},
    operation::{
        backup::{Backup, Which},
        certificate::verify::{Outcome, VerifyCertificate},
        erase::EraseStatus,
    },
    signature::AllowedSigners,
    store::{Store, locked::LockedStore, s3::S3Store},
    vault::{Vault, certificates::Certified},
};

use super::walk::erase;
use crate::{
    harness::{
        s3::{self, S3Server},
        site::Site,
    },
    purge::stores::{end_locks, versions},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_last_document_comes_when_the_last_lock_has_ended() {
    let (server, client) = (s3::shared(), s3::shared().client());
    let bucket = server.bucket_with_locks("erase-locked").await;
    let plain: Arc<dyn Store> = Arc::new(S3Store::connect(server.settings(&bucket)).await.unwrap());
    let site = Site::in_vault(plain.clone()).await;
    site.cluster.sql(&site.database("acme"), "CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n");
    let locked = LockedStore::new(plain.clone(), "governance 10 days".parse().unwrap(), Utc::now);
    let vault = Vault::open(Arc::new(locked), &AllowedSigners::parse(&site.signers).unwrap()).await.unwrap();
    let keyring = &site.backup.keyring;
    let backup = Backup { vault: vault.clone(), ..site.backup.clone() };
    assert_eq!(backup.run(&Which::All { accept_missing: false }).await.unwrap().class, None);

    let report = erase(&site, (&vault, keyring), "acme").await.unwrap();
    assert_eq!(report.status, EraseStatus::KeysDestroyed, "{report:?}");
    let id = report.certificate.unwrap().parse().unwrap();
    let certified = vault.certified(id).await.unwrap();
    let earlier = certified.newest().unwrap().sha256;
    let certificate = newest(&certified);
    assert_eq!(certificate.stage, EraseStatus::KeysDestroyed);
    let left = certificate.backups.left.unwrap();
    let days = (left.locked_until.unwrap() - Utc::now()).num_days();
    assert!(left.objects > 0 && (14..=15).contains(&days), "{left:?}");
    assert_eq!((certificate.open.len(), certificate.open[0].kind.as_str()), (1, "locked"), "{:?}", certificate.open);
    let inventory = certificate.backups.inventory.as_ref().unwrap();
    let lines = vault.inventory(id, &inventory.files[0]).await.unwrap();
    let lines: Vec<InventoryLine> =
        String::from_utf8_lossy(&lines).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len() as u64, left.objects);
    for line in &lines {
        assert!(line.version.is_some() && line.sha256.is_some() && line.locked_until.is_some(), "{line:?}");
    }
    for name in ["1.json", &certificate.file(), &inventory.files[0].name] {
        let listed = plain.head(&format!("certificates/{id}/{name}")).await.unwrap().unwrap();
        assert!(plain.lock_of(&listed).await.unwrap().is_some(), "{name} is locked like every other record");
    }
    verified(&vault, &site, id.to_string()).await;
    // Once more, while it is locked, says nothing new.
    erase(&site, (&vault, keyring), "acme").await.unwrap();
    assert_eq!(vault.certified(id).await.unwrap().newest().unwrap().sha256, earlier);

    let locker = certificate.backups.lockers[0].to_string();
    let its = |name: &str| name.starts_with(&format!("t/{locker}/")) && !name.contains("/gone/");
    let objects: Vec<_> = versions(&client, &bucket).await.into_iter().filter(|(name, _)| its(name)).collect();
    end_locks(&client, &bucket, &objects).await;
    let report = loop {
        let report = erase(&site, (&vault, keyring), "acme").await.unwrap();
        if report.status == EraseStatus::Closed {
            break report;
        }
        assert_eq!(report.status, EraseStatus::KeysDestroyed, "{report:?}");
        assert!(Utc::now() < left.locked_until.unwrap(), "it is not closed");
    };
    assert_eq!(report.certificate, Some(id.to_string()));
    let certified = vault.certified(id).await.unwrap();
    assert!(certified.problems.is_empty(), "{:?}", certified.problems);
    let closed = newest(&certified);
    assert_eq!((closed.stage, closed.open.len(), closed.backups.left.unwrap().objects), (EraseStatus::Closed, 0, 0));
    let before = &certified.documents[certified.documents.len() - 2];
    assert_eq!(closed.previous, Some(before.sha256));
    assert!(certified.documents.iter().any(|document| document.sha256 == earlier));
    assert_eq!(closed.backups.inventory.as_ref(), Some(inventory), "it is that of before");
    verified(&vault, &site, id.to_string()).await;
}

fn newest(certified: &Certified) -> Certificate {
    certified.newest().unwrap().value.clone()
}

/// Nothing is other than the certificate says.
async fn verified(vault: &Vault, site: &Site, id: String) {
    let verify = VerifyCertificate { vault, keyring: &site.backup.keyring, servers: &[], now: Utc::now() };
    let report = verify.by_id(&id).await.unwrap();
    assert!(report.checks.iter().all(|check| check.outcome != Outcome::DoesNotHold), "{report:?}");
    for what in ["signature", "plan", "inventory", "tombstone", "keys", "backups"] {
        assert!(report.checks.iter().any(|check| check.what == what && check.outcome == Outcome::Holds), "{what}: {report:?}");
    }
}
