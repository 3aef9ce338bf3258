//! Whole parts that are gone: a tenant's key record, its locker, every locker; and what a killed first run leaves, which is no loss.

use tenure::{
    format::record::Source,
    id::RecordId,
    object_name::Document,
    operation::{backup::Backup, tenants::Tenants},
    store::{
        StoreErrorKind,
        fault::{Fault, Operation},
    },
};

use super::{ROWS, admit, back_up, backed_up, code, faulty, flip, list_of, objects, show_code, verify_one};
use crate::{
    harness::{
        postgres::{shared, unique},
        site::Site,
    },
    restore::{copy, restore},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_record_is_not_an_unknown_tenant() {
    let site = backed_up(&["acme", "globex"]).await;
    let into = unique("lost");
    let codes = async |tenant: &str| {
        let restored = restore(&site, &copy(tenant, &into)).await.err();
        [
            verify_one(&site, tenant).await.err().map(|failure| failure.class.code()),
            list_of(&site, tenant).await.err().map(|failure| failure.class.code()),
            show_code(&site, tenant).await,
            restored.map(|failure| failure.class.code()),
        ]
    };
    assert_eq!(codes("nobody").await, [Some(1); 4]);
    let tag = site.backup.keyring.tag(&"acme".parse().unwrap());
    std::fs::remove_dir_all(site.folder().join(format!("keyring/t/{tag}"))).unwrap();
    assert_eq!(codes("acme").await, [Some(5); 4]);
    let failure = list_of(&site, "acme").await.err().unwrap();
    assert!(failure.message.contains("acme") && failure.hint.contains("mirror"), "{failure:?}");
    assert!(list_of(&site, "globex").await.unwrap().problems.is_empty());
    let Backup { vault, keyring, clusters, .. } = &site.backup;
    let late_after = |_: &tenure::tenant::TenantName| std::time::Duration::from_secs(3600);
    let tenants = Tenants { vault, keyring, clusters, late_after: &late_after }.run(chrono::Utc::now()).await.unwrap();
    assert!(tenants.problems.iter().any(|problem| problem.contains("no key record")), "{tenants:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_locker_is_not_a_first_backup() {
    let site = backed_up(&["acme", "globex"]).await;
    let vault = site.folder().join("vault");
    let locker = site.backup.keyring.keys(&"acme".parse().unwrap()).await.unwrap().unwrap().lockers()[0];
    let away = site.folder().join("away");
    for gone in [format!("t/{locker}"), "t".to_owned()] {
        std::fs::rename(vault.join(&gone), &away).unwrap();
        let problems = site.verify(false).await.problems;
        assert!(problems.iter().any(|problem| problem.tenant.as_deref() == Some("acme")), "{gone}: {problems:?}");
        let report = site.all().await;
        assert_eq!(code(report.class), Some(5), "{report:?}");
        let error = report.results.iter().find(|result| result.tenant == "acme").unwrap().error.as_ref().unwrap();
        assert!(error.kind == "locker-lost" && error.hint.contains("admit --source"), "{error:?}");
        assert_eq!(objects(&site, &format!("vault/t/{locker}")).len(), 0, "nothing was written in its place");
        assert_eq!(list_of(&site, "acme").await.err().unwrap().kind, "locker-lost");
        assert_eq!(show_code(&site, "acme").await, Some(5));
        assert_eq!(restore(&site, &copy("acme", &unique("lost"))).await.unwrap_err().kind, "locker-lost");
        let _ = std::fs::remove_dir_all(vault.join(&gone));
        std::fs::rename(&away, vault.join(&gone)).unwrap();
        assert_eq!(site.all().await.class, None);
    }

    // There is no copy to put back: an operator says so, and the tenant begins anew.
    std::fs::remove_dir_all(vault.join(format!("t/{locker}"))).unwrap();
    let admitted = admit(&site, "acme").await.unwrap();
    assert!(admitted.admitted[0].changed && admitted.admitted[0].notes.len() == 1, "{admitted:?}");
    assert_eq!(site.all().await.class, None);
    assert!(site.verify(true).await.problems.is_empty());
    assert_eq!(list_of(&site, "acme").await.unwrap().backups.len(), 1);
}

/// Every write of a tenant's first run fails once, before and after it took place. What is left never stops the next run.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_run_that_is_killed_between_any_two_writes_leaves_no_loss() {
    let mut stopped = 0;
    for (store, part) in [("keyring", "k/"), ("vault", "/s/"), ("keyring", "t/"), ("vault", "/c/"), ("vault", "/b/")] {
        for nth in [1, 2] {
            for fault in [Fault::Refused(StoreErrorKind::Unavailable), Fault::Lost] {
                let site = Site::new().await;
                shared().sql(&site.database("acme"), ROWS);
                let (backup, vault_store, keyring_store) = faulty(&site).await;
                let failing = if store == "vault" { &vault_store } else { &keyring_store };
                failing.fail(Operation::Put, part, nth, fault);
                stopped += usize::from(back_up(&backup).await.class.is_some());
                let verified = site.verify(false).await;
                assert!(verified.problems.is_empty(), "{store} {part} {nth} {fault:?}: {:?}", verified.problems);
                let next = site.all().await;
                assert_eq!(next.class, None, "{store} {part} {nth} {fault:?}: {next:?}");
                assert!(site.verify(true).await.problems.is_empty());
            }
        }
    }
    assert!(stopped >= 12, "{stopped}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_source_stops_its_tenant_until_it_is_admitted_and_never_counts_again() {
    let site = backed_up(&["acme", "globex"]).await;
    let locker = site.backup.keyring.keys(&"acme".parse().unwrap()).await.unwrap().unwrap().lockers()[0];
    // A later one than the next would be, were it not for the damage.
    let vault = &site.backup.vault;
    let later = Source { id: RecordId::random(), sequence: 7, ..vault.source(locker).await.unwrap().unwrap() };
    vault.put_source(&later, &site.backup.signer).await.unwrap();
    let path = site.folder().join(format!("vault/{}", Document::Source(locker, later.id)));
    let before = flip(&path);
    let report = site.all().await;
    let outcome = |tenant: &str| report.results.iter().find(|result| result.tenant == tenant).unwrap();
    assert_eq!(code(report.class), Some(5));
    assert!(outcome("globex").error.is_none());
    let error = outcome("acme").error.as_ref().unwrap();
    assert!(error.kind == "untrusted-source" && error.hint.contains("admit --source"), "{error:?}");
    assert_eq!(code(list_of(&site, "acme").await.unwrap().class), Some(5));

    // A restore does without it where a cluster is named, and not otherwise.
    let into = unique("source");
    assert_eq!(restore(&site, &copy("acme", &into)).await.unwrap_err().kind, "untrusted-source");
    let named = tenure::operation::restore::Request { cluster: Some("eu-1".to_owned()), ..copy("acme", &into) };
    restore(&site, &named).await.unwrap();

    let admitted = admit(&site, "acme").await.unwrap();
    assert!(admitted.admitted[0].notes[0].contains("never counts again"), "{admitted:?}");
    assert_eq!(site.all().await.class, None);
    assert!(site.verify(false).await.problems.is_empty());
    let current = site.backup.vault.source(locker).await.unwrap().unwrap();
    // Whoever brings the old record back, whole and well signed as it is, changes nothing.
    std::fs::write(&path, before).unwrap();
    assert_eq!(site.backup.vault.source(locker).await.unwrap().unwrap(), current);
    assert_eq!((current.sequence, &current.passes_over[..]), (2, &[later.id][..]));

    // One that a newer version wrote is good, if not for this one.
    let newer = Source { format: 2, id: RecordId::random(), sequence: 9, ..current };
    site.backup.vault.put_source(&newer, &site.backup.signer).await.unwrap();
    assert_eq!(admit(&site, "acme").await.unwrap_err().kind, "newer-format");
}

/// Whether a database is a copy that a restore made is not guessed: what may say so and cannot be read stops who would have to know.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_of_a_copy_stops_an_admission_and_says_how_to_go_on() {
    let site = backed_up(&["acme"]).await;
    let into = unique("copied");
    restore(&site, &copy("acme", &into)).await.unwrap();
    let record = objects(&site, "/copies/").into_iter().find(|path| path.to_string_lossy().ends_with(".oid.json")).unwrap();
    flip(&record);
    let failure = admit(&site, "acme").await.unwrap_err();
    assert_eq!((failure.class.code(), failure.kind), (5, "untrusted-copy"), "{failure:?}");
    assert!(failure.object.ends_with(&*record.file_name().unwrap().to_string_lossy()), "{failure:?}");
    assert!(failure.hint.contains("`ignore`") && failure.hint.contains(".sig"), "{failure:?}");
    // A tenant that is known goes on; whoever is new does not.
    let report = site.all().await;
    assert_eq!((code(report.class), report.results[0].error.is_none()), (Some(5), true), "{report:?}");

    // As the hint says, where there is no copy of the vault: the database goes, then the record and its signature.
    site.cluster.sql("postgres", &format!("DROP DATABASE {into}"));
    let signature = record.with_extension("json.sig");
    std::fs::remove_file(&record).unwrap();
    std::fs::remove_file(&signature).unwrap();
    admit(&site, "acme").await.unwrap();
    assert_eq!(site.all().await.class, None);
}
