//! What a verify found is stored anew by the next backup, and told by `list` and `show` until a verify finds it good.

use std::path::Path;

use chrono::Utc;
use tenure::{
    operation::{
        list::State,
        progress::Silent,
        restore::{Request, Which},
        show::show,
        verify::{self, Verify, VerifyReport},
    },
    signature::SigningKey,
    store::{
        StoreErrorKind,
        fault::{Fault, Operation},
    },
};

use super::{backed_up, faulty, flip, list_of, objects};
use crate::{
    harness::{postgres::unique, site::Site},
    restore::{copy, restore},
};

async fn verified(site: &Site, deep: bool, signer: Result<&SigningKey, String>) -> VerifyReport {
    let identity = site.identity();
    let verify = Verify {
        vault: &site.backup.vault,
        keyring: &site.backup.keyring,
        identity: deep.then_some(&identity),
        signer,
        progress: &Silent,
        cancel: &site.backup.cancel,
    };
    verify.run(&verify::Which::All, Utc::now()).await.unwrap()
}

async fn states(site: &Site) -> Vec<State> {
    list_of(site, "acme").await.unwrap().backups.iter().map(|backup| backup.state).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backup_after_a_verify_depends_on_nothing_that_is_damaged() {
    for folder in ["/c/", "/p/"] {
        let site = backed_up(&["acme"]).await;
        let signer = || Ok(&*site.backup.signer);
        let damaged: Vec<_> = objects(&site, folder).into_iter().map(|path| (flip(&path), path)).collect();
        let report = verified(&site, false, signer()).await;
        assert!(!report.problems.is_empty() && report.findings.len() == 1, "{report:?}");
        assert_eq!(states(&site).await, [State::Damaged]);
        let again = verified(&site, false, signer()).await;
        assert_eq!((again.problems.len(), again.findings.len()), (report.problems.len(), 0), "what is known is not said again");

        let backup = site.all().await;
        assert_eq!(backup.class, None, "{backup:?}");
        assert!(backup.results[0].findings.iter().any(|finding| finding.contains("stored again")), "{backup:?}");
        let new = backup.results[0].backup.clone().unwrap();
        assert_eq!(states(&site).await, [State::Good, State::Damaged]);
        let after = verified(&site, true, signer()).await;
        assert!(after.problems.iter().all(|problem| problem.backup.as_deref() != Some(&new)), "{:?}", after.problems);
        assert!(!after.problems.is_empty(), "the older one stays as damaged as it was");
        let into = unique("healed");
        restore(&site, &copy("acme", &into)).await.unwrap();
        let older =
            Request { which: Which::Backup(report.problems[0].backup.clone().unwrap()), ..copy("acme", &unique("older")) };
        assert_eq!(restore(&site, &older).await.unwrap_err().class.code(), 5);

        // Put back from a copy: the next verify says so, and a backup depends on neither.
        for (before, path) in damaged {
            std::fs::write(path, before).unwrap();
        }
        assert_eq!(states(&site).await, [State::Good, State::Damaged]);
        let clean = verified(&site, true, signer()).await;
        assert_eq!((clean.problems.len(), clean.findings.len()), (0, 1), "{clean:?}");
        assert_eq!(states(&site).await, [State::Good, State::Good]);
        let idle = site.all().await;
        assert_eq!(idle.results[0].chunks_stored, 0, "{idle:?}");
    }
}

/// A finding without a good signature says nothing, and stops nobody; without a key of its own a verify says that it wrote none.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_finding_harms_nobody_and_a_missing_key_is_said() {
    let site = backed_up(&["acme"]).await;
    let chunk = objects(&site, "/c/").remove(0);
    let before = flip(&chunk);
    let silent = verified(&site, false, Err("no key here".to_owned())).await;
    assert!(silent.findings.is_empty() && silent.notes.iter().any(|note| note.contains("no key here")), "{silent:?}");
    let other = SigningKey::generate("somebody");
    let foreign = verified(&site, false, Ok(&other)).await;
    assert!(foreign.findings.is_empty() && foreign.notes.len() == 1, "{foreign:?}");

    let (backup, vault, _) = faulty(&site).await;
    vault.fail(Operation::Put, "/v/", 1, Fault::Refused(StoreErrorKind::Denied));
    let denied = Verify {
        vault: &backup.vault,
        keyring: &backup.keyring,
        identity: None,
        signer: Ok(&site.backup.signer),
        progress: &Silent,
        cancel: &site.backup.cancel,
    };
    let denied = denied.run(&verify::Which::All, Utc::now()).await.unwrap();
    assert!(denied.problems.len() == 1 && denied.notes.iter().any(|note| note.contains("denied")), "{denied:?}");

    let report = verified(&site, false, Ok(&site.backup.signer)).await;
    assert_eq!(report.findings.len(), 1);
    let finding = objects(&site, "/v/").into_iter().find(|path| path.extension().unwrap() == "json").unwrap();
    let written = flip(&finding);
    std::fs::write(&chunk, &before).unwrap();
    let forged = verified(&site, false, Ok(&site.backup.signer)).await;
    assert!(forged.problems.iter().any(|problem| problem.object.ends_with(&name(&finding))), "{forged:?}");
    assert_eq!(states(&site).await, [State::Good], "it says nothing");
    let backup = site.all().await;
    assert_eq!((backup.class, backup.results[0].chunks_stored), (None, 0), "{backup:?}");
    assert!(backup.results[0].findings.iter().any(|finding| finding.contains("tenure verify")), "{backup:?}");

    // A wrong one costs room, once: the chunk is as it was written.
    std::fs::write(&finding, written).unwrap();
    let stored = site.all().await;
    assert_eq!((stored.class, stored.results[0].chunks_stored), (None, 1), "{stored:?}");
    assert_eq!(site.all().await.results[0].chunks_stored, 0);
    let shown = show(&site.backup.vault, &site.backup.keyring, &"acme".parse().unwrap(), "latest", None, None, Utc::now()).await;
    assert_eq!(shown.unwrap().backup.state, State::Good);
}
