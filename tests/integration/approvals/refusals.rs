//! What is no approval, and what is refused with everything as it was.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use tenure::{
    format::plan::{Milestone, Reached},
    operation::{
        failure::{Failure, FailureClass},
        progress::Silent,
        purge::{Purge, PurgeReport, What},
    },
    store::{
        StoreErrorKind,
        directory::DirectoryStore,
        fault::{Fault, FaultStore, Operation},
    },
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::purge::{Lock, lockers_store};

/// A purge of everything of acme that two must sign, at the given time; the first call that matches fails.
async fn purge_at(office: &Office, now: DateTime<Utc>, fault: Option<(Operation, &str)>) -> Result<PurgeReport, Failure> {
    let failing = async |name: &str| {
        let store = FaultStore::new(lockers_store(&office.lockers, name).await);
        if let Some((operation, part)) = fault {
            store.fail(operation, part, 1, Fault::Refused(StoreErrorKind::Unavailable));
        }
        store
    };
    purge_through(office, now, failing("vault").await, failing("keyring").await).await
}

/// The same, through these stores.
async fn purge_through(
    office: &Office,
    now: DateTime<Utc>,
    vault: FaultStore,
    keyring: FaultStore,
) -> Result<PurgeReport, Failure> {
    let lockers = &office.lockers;
    let mirrors = vec![lockers_store(lockers, "mirror").await];
    let (vault, keyring) = lockers.through(Arc::new(vault), Arc::new(keyring), mirrors).await;
    let tenant = "acme".parse().unwrap();
    let purge = Purge {
        vault: &vault,
        keyring: &keyring,
        locks: &Lock(true),
        operator: &lockers.key("operator"),
        eraser: &lockers.key("eraser"),
        approvals: 2,
        clock: &move || now,
        progress: &Silent,
        cancel: &CancellationToken::new(),
    };
    let intent = purge.look(&tenant, What::All, false).await?;
    purge.carry_out(&tenant, &intent).await
}

impl Office {
    /// The vault as it is now, with the newest list of signers.
    async fn vault(&self) -> tenure::vault::Vault {
        let store = std::sync::Arc::new(DirectoryStore::open(&self.folder().join("vault")).await.unwrap());
        tenure::vault::Vault::open(store, &self.lockers.signers()).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_another_tenant_signs_nothing() {
    let office = Office::new().await;
    office.refused(4, "approvals-wanting", &PURGE);
    let (id, before) = (office.id(), office.stored());
    for tenant in ["acme2", "acm", "nobody", "ACME"] {
        office.refused(4, "another-tenant", &["approve", &id, "--tenant", tenant, "--key", "ann"]);
    }
    office.refused(4, "another-tenant", &["approve", &id, "--all", "--key", "ann"]);
    office.refused(2, "usage", &["approve", &id, "--key", "ann"]);
    office.refused(1, "no-such-plan", &["approve", "ffff", "--tenant", "acme", "--key", "ann"]);
    office.refused(2, "unreadable-file", &["approve", &id, "--tenant", "acme", "--key", "nobody"]);
    office.refused(2, "bad-key", &["approve", &id, "--tenant", "acme", "--key", "tenure.toml"]);
    assert_eq!(office.stored(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_for_other_things_are_refused() {
    let office = Office::new().await;
    office.refused(4, "approvals-wanting", &PURGE);
    let id = office.id();
    new_key(office.folder(), "stranger");
    let other = office.folder().join("other.json");
    std::fs::write(&other, std::fs::read_to_string(office.folder().join(format!("vault/plans/{id}/plan.json"))).unwrap() + "\n")
        .unwrap();
    let old = new_key(office.folder(), "old");
    let later = new_key(office.folder(), "later");
    let auditor = new_key(office.folder(), "auditor");
    let lines = [
        may_sign_plans("ann", "", &office.public("ann")),
        may_sign_plans("old", ",valid-before=\"20260101Z\"", &old),
        may_sign_plans("later", ",valid-after=\"20990101Z\"", &later),
        format!("auditor namespaces=\"tenure-run,tenure-hold\" {auditor}\n"),
    ];
    office.sign_list(3, &lines.concat()).await;
    let before = office.stored();
    for (why, signature) in [
        ("the signature is for tenure-run, expected tenure-plan", office.offline(&id, "ann", "tenure-run")),
        ("the signature is for file, expected tenure-plan", office.offline(&id, "ann", "file")),
        ("the signature does not fit the document", office.sign_file(&other, "ann", "tenure-plan")),
        ("which may not sign tenure-plan", office.offline(&id, "stranger", "tenure-plan")),
        ("outside of the time in which the key is valid", office.offline(&id, "old", "tenure-plan")),
        ("outside of the time in which the key is valid", office.offline(&id, "later", "tenure-plan")),
        ("the key is known, but not for this", office.offline(&id, "auditor", "tenure-plan")),
        ("not an SSH signature", other.display().to_string()),
    ] {
        let error = office.refused(4, "signature-refused", &["approve", &id, "--tenant", "acme", "--signature", &signature]);
        assert!(error["message"].as_str().unwrap().contains(why), "{why}: {error:#}");
    }
    for key in ["stranger", "old", "later", "auditor", "keys/eraser"] {
        office.refused(4, "signature-refused", &["approve", &id, "--tenant", "acme", "--key", key]);
    }
    assert_eq!(office.stored(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_lays_beside_a_plan_is_named_and_stops_it() {
    let office = Office::new().await;
    office.refused(4, "approvals-wanting", &PURGE);
    let id = office.id();
    let folder = office.folder().join(format!("vault/plans/{id}/approvals"));
    // A good one, to have its name.
    office.done(&["approve", &id, "--tenant", "acme", "--key", "ann"]);
    let good = files(&folder).remove(0);
    let bytes = std::fs::read(&good).unwrap();
    new_key(office.folder(), "stranger");
    let before: Vec<_> = office.stored();
    let lay = |path: &Path, what: &[u8]| {
        std::fs::write(path, what).unwrap();
        let error = office.refused(5, "bad-approval", &PURGE);
        assert!(
            error["object"].as_str().unwrap().ends_with(&*path.strip_prefix(office.folder()).unwrap().to_string_lossy()),
            "{error:#}"
        );
        let (code, listed) = office.run(&["plans", "list"]);
        assert!(code == 5 && listed["problems"][0].as_str().unwrap().contains("approvals/"), "{listed:#}");
        let (code, verified) = office.run(&["verify", "--all"]);
        assert!(code == 5 && verified["problems"][0]["object"].as_str().unwrap().contains("/approvals/"), "{verified:#}");
    };
    // Another's signature under a name that is not its key's; one for something else; one by nobody; one spoilt; none at all.
    let elsewhere = folder.join(format!("{}.sig", "0".repeat(64)));
    for what in [
        bytes.clone(),
        std::fs::read(office.offline(&id, "bob", "tenure-hold")).unwrap(),
        std::fs::read(office.offline(&id, "stranger", "tenure-plan")).unwrap(),
        b"approved".to_vec(),
        Vec::new(),
    ] {
        lay(&elsewhere, &what);
    }
    std::fs::remove_file(&elsewhere).unwrap();
    lay(&good, b"spoilt");
    office.refused(5, "bad-approval", &["approve", &id, "--tenant", "acme", "--key", "ann"]);
    std::fs::write(&good, &bytes).unwrap();
    assert_eq!(office.stored(), before, "nothing was begun");
    assert_eq!(office.run(&PURGE).0, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_plan_is_no_plan() {
    let office = Office::new().await;
    office.refused(4, "approvals-wanting", &PURGE);
    let id = office.id();
    office.done(&["approve", &id, "--tenant", "acme", "--key", "ann"]);
    let file = office.folder().join(format!("vault/plans/{id}/plan.json"));
    let signed = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, signed.replace("\"manifests\":2", "\"manifests\":3")).unwrap();
    office.refused(5, "untrusted-plan", &PURGE);
    office.refused(5, "untrusted-plan", &["approve", &id, "--tenant", "acme", "--key", "bob"]);
    // Signed anew by an operator, it is another plan: who approved the first did not approve this one.
    let changed = std::fs::read(&file).unwrap();
    let signature = office.lockers.key("operator").sign(Namespace::Plan, &changed).unwrap();
    std::fs::write(file.with_extension("json.sig"), signature).unwrap();
    let error = office.refused(5, "bad-approval", &PURGE);
    assert!(error["message"].as_str().unwrap().contains("does not fit the document"), "{error:#}");
}

/// An operator alone adds a neighbour to a plan of its own: nobody signs that, and nothing comes of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_names_another_tenants_locker_is_signed_by_nobody_and_destroys_nothing() {
    let office = Office::new().await;
    let purge = ["purge", "acme2", "--confirm", "acme2"];
    office.refused(4, "approvals-wanting", &purge);
    let id = office.id();
    let (locker, key) = (office.acme.locker(), office.acme.record.key_id);
    let file = office.folder().join(format!("vault/plans/{id}/plan.json"));
    let planned = std::fs::read_to_string(&file).unwrap();
    for (whose, keys) in [(locker.to_string(), format!("\"{key}\"")), (locker.to_string(), String::new())] {
        let more =
            format!(r#",{{"locker":"{whose}","cluster":"here","keys":[{keys}],"manifests":2,"backups":[]}}],"created_at""#);
        let changed = planned.replace("],\"created_at\"", &more);
        assert_ne!(changed, planned);
        std::fs::write(&file, &changed).unwrap();
        let signature = office.lockers.key("operator").sign(Namespace::Plan, changed.as_bytes()).unwrap();
        std::fs::write(file.with_extension("json.sig"), signature).unwrap();
        let before = office.stored();
        for arguments in [&["approve", &id, "--tenant", "acme2", "--key", "bob"][..], &purge, &["purge", "acme2", "--dry-run"]] {
            let error = office.refused(5, "plan-contradicted", arguments);
            let (message, hint) = (error["message"].as_str().unwrap(), error["hint"].as_str().unwrap());
            assert!(message.contains(&format!("locker {locker}, which is another tenant's")), "{error:#}");
            assert!(hint.contains(&format!("`tenure plans cancel {id}`")), "{error:#}");
        }
        let (code, shown) = office.run(&["plans", "show", &id]);
        assert!(code == 5 && shown["problems"][0].as_str().unwrap().contains("another tenant's"), "{shown:#}");
        assert_eq!(office.stored(), before, "nothing was signed, noted or destroyed");
    }
    office.done(&["plans", "cancel", &id]);
    assert_eq!(office.run(&["list", "acme"]).0, 0);
    office.refused(4, "approvals-wanting", &purge);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_revoked_counts_no_more_until_it_has_begun() {
    let office = Office::new().await;
    let now = Utc::now();
    assert_eq!(purge_at(&office, now, None).await.unwrap_err().kind, "approvals-wanting");
    let id = office.id();
    office.done(&["approve", &id, "--tenant", "acme", "--key", "ann"]);
    let revoked = may_sign_plans("ann", ",valid-before=\"20260101Z\"", &office.public("ann"));
    let bob = may_sign_plans("bob", "", &office.public("bob"));
    office.sign_list(3, &format!("{revoked}{bob}")).await;
    let error = purge_at(&office, now, None).await.unwrap_err();
    assert_eq!((error.class, error.kind), (FailureClass::Refused, "approvals-wanting"), "{error:?}");
    assert!(error.message.contains("not counted: ") && error.message.contains("outside of the time"), "{}", error.message);
    office.done(&["approve", &id, "--tenant", "acme", "--key", "bob"]);
    // What counts is the moment at which it begins, and not that at which it was signed.
    let until = (now + TimeDelta::days(1)).format("%Y%m%dZ");
    let leaves = may_sign_plans("bob", &format!(",valid-before=\"{until}\""), &office.public("bob"));
    office.sign_list(4, &format!("{revoked}{leaves}")).await;
    let error = purge_at(&office, now + TimeDelta::days(2), None).await.unwrap_err();
    assert_eq!(error.kind, "approvals-wanting", "{error:?}");
    // Interrupted when it has begun: from then on it is finished, whoever is revoked, and however late.
    assert_eq!(purge_at(&office, now, Some((Operation::Delete, ""))).await.unwrap_err().class, FailureClass::Failed);
    assert_eq!(office.plan()["state"], "begun");
    office.sign_list(5, &revoked).await;
    let report = purge_at(&office, now + TimeDelta::days(30), None).await.unwrap();
    assert_eq!(report.plan, Some(id), "the same plan");
}

#[tokio::test(flavor = "multi_thread")]
async fn that_it_began_is_believed_by_signature_alone() {
    let office = Office::new().await;
    office.refused(4, "approvals-wanting", &PURGE);
    let id = office.id();
    let folder = office.folder().join(format!("vault/plans/{id}"));
    for name in ["begun.json", "1-noted.json"] {
        std::fs::write(folder.join(name), "{}").unwrap();
        let (code, document) = office.run(&PURGE);
        assert_eq!((code, document["error"]["kind"].as_str()), (5, Some("untrusted-plan")), "{name}: {document:#}");
        std::fs::remove_file(folder.join(name)).unwrap();
    }
    // Of another plan, moved here.
    let milestone = Milestone {
        format: 1,
        installation: office.lockers.installation(),
        plan: tenure::id::RecordId::random(),
        what: Reached::Begun,
        at: Utc::now(),
    };
    office.lockers.vault.put_milestone(&milestone, &office.lockers.key("operator")).await.unwrap();
    for end in ["json", "json.sig"] {
        let from = office.folder().join(format!("vault/plans/{}/begun.{end}", milestone.plan));
        std::fs::copy(from, folder.join(format!("begun.{end}"))).unwrap();
    }
    office.refused(5, "untrusted-plan", &PURGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_plan_does_not_begin_and_a_cancelled_one_neither() {
    let office = Office::new().await;
    let now = Utc::now();
    let made = now - TimeDelta::days(7) - TimeDelta::seconds(1);
    assert_eq!(purge_at(&office, made, None).await.unwrap_err().kind, "approvals-wanting");
    let id = office.id();
    assert_eq!(office.plan()["state"], "stale");
    office.refused(4, "plan-stale", &["approve", &id, "--tenant", "acme", "--key", "ann"]);
    // Signed in time, and begun too late.
    let signature = std::fs::read(office.offline(&id, "ann", "tenure-plan")).unwrap();
    let signer = office.vault().await.signers().verify(
        Namespace::Plan,
        &std::fs::read(office.folder().join(format!("vault/plans/{id}/plan.json"))).unwrap(),
        &signature,
        now,
    );
    office.lockers.vault.put_approval(id.parse().unwrap(), signer.unwrap().key, signature.into()).await.unwrap();
    let error = purge_at(&office, now, None).await.unwrap_err();
    assert_eq!((error.class, error.kind), (FailureClass::Refused, "plan-stale"), "{error:?}");
    assert!(error.hint.contains(&format!("`tenure plans cancel {id}`")), "{error:?}");
    office.done(&["plans", "cancel", &id]);
    let listed = office.done(&["plans", "list"]);
    assert_eq!(listed["plans"][0]["state"], "void", "{listed:#}");
    office.refused(4, "plan-closed", &["plans", "cancel", &id]);
    office.refused(4, "plan-cancelled", &["approve", &id, "--tenant", "acme", "--key", "ann"]);
    // A new one, which is to be signed anew.
    office.refused(4, "approvals-wanting", &PURGE);
    let second = office.id();
    assert!(second != id && office.plan()["signatures"] == 1);
    // From a time to come, by which it would never get old.
    office.done(&["plans", "cancel", &second]);
    assert_eq!(purge_at(&office, now + TimeDelta::days(400), None).await.unwrap_err().kind, "approvals-wanting");
    let third = office.id();
    office.refused(4, "plan-stale", &["approve", &third, "--tenant", "acme", "--key", "ann"]);
    assert_eq!(purge_at(&office, now, None).await.unwrap_err().kind, "plan-stale");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_keys_make_another_plan_and_more_backups_do_not() {
    let mut office = Office::new().await;
    office.refused(4, "approvals-wanting", &PURGE);
    let id = office.id();
    office.done(&["approve", &id, "--tenant", "acme", "--key", "ann"]);
    let mut acme = office.acme.clone();
    office.lockers.night(&mut acme, at("2026-11-03"), &[2]).await;
    office.acme = acme;
    assert_eq!(office.plan()["state"], "ready");
    let record = &office.acme.record;
    let lockers = &office.lockers;
    let new = lockers.keyring.begin_key(&record.tenant, record.locker, 2, &lockers.recipients, Utc::now()).await.unwrap();
    lockers.keyring.publish_key(new, &lockers.key("operator")).await.unwrap();
    office.refused(4, "plan-void", &PURGE);
    assert_eq!(office.done(&["plans", "list"])["plans"][0]["state"], "void");
    office.refused(4, "approvals-wanting", &PURGE);
    assert_ne!(office.id(), id);
    let lines = office.done(&["approve", &office.id(), "--tenant", "acme", "--key", "ann"]);
    assert_eq!(lines["signatures"], 2);
    let (code, report) = office.run(&PURGE);
    assert_eq!((code, &report["backups"]), (3, &3.into()), "{report:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_signers_that_cannot_be_used_stops_everything_and_says_where() {
    let office = Office::new().await;
    office.refused(4, "approvals-wanting", &PURGE);
    let (id, before) = (office.id(), office.stored());
    let file = office.folder().join("allowed_signers");
    let good = std::fs::read_to_string(&file).unwrap();
    let lines = good.lines().count();
    for (line, why) in [
        (format!("ann {}\n", office.public("ann")), "no `namespaces=\"…\"`"),
        ("ann namespaces=\"tenure-plan\" ssh-ed25519 AAAA\n".to_owned(), "not a public key"),
        ("what\n".to_owned(), "expected: principal, options, key"),
    ] {
        std::fs::write(&file, format!("{good}{line}")).unwrap();
        for arguments in [&PURGE[..], &["approve", &id, "--tenant", "acme", "--key", "ann"], &["plans", "list"], &["audit"]] {
            let error = office.refused(2, "configuration", arguments);
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(&format!("line {}", lines + 1)) && message.contains(why), "{why}: {message}");
        }
    }
    std::fs::write(&file, &good).unwrap();
    assert_eq!(office.stored(), before);
    // The vault's own list.
    office.sign_list(3, &format!("ann {}\n", office.public("ann"))).await;
    for arguments in [&PURGE[..], &["approve", &id, "--tenant", "acme", "--key", "ann"], &["plans", "list"]] {
        let error = office.refused(5, "untrusted-signers", arguments);
        let message = error["message"].as_str().unwrap();
        assert!(
            message.contains("signers/3") && message.contains(&format!("line {}", lines + 1)) && message.contains("namespaces"),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_a_cancellation_and_a_beginning_wins() {
    let office = Office::new().await;
    office.refused(4, "approvals-wanting", &PURGE);
    let id = office.id();
    office.done(&["approve", &id, "--tenant", "acme", "--key", "ann"]);
    let before = office.stored();
    // The files that each writes.
    let folder = office.folder().join(format!("vault/plans/{id}"));
    let content =
        || files(&folder).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect::<BTreeMap<_, _>>();
    let planned = content();
    let only_new = |files: BTreeMap<PathBuf, Vec<u8>>| -> Vec<_> {
        files.into_iter().filter(|(path, _)| !planned.contains_key(path)).collect()
    };
    office.done(&["plans", "cancel", &id]);
    let cancelled = only_new(content());
    assert_eq!(cancelled.len(), 2);
    cancelled.iter().for_each(|(path, _)| std::fs::remove_file(path).unwrap());
    assert_eq!(office.stored(), before);

    // Cancelled while the notes are written: it goes on, and is listed as begun.
    let vault = FaultStore::new(lockers_store(&office.lockers, "vault").await);
    let late = cancelled.clone();
    vault.fail_where(
        move |operation, name| {
            if operation == Operation::Put && name.contains("1-noted") {
                late.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
            }
            false
        },
        1,
        Fault::Lost,
    );
    let keyring = FaultStore::new(lockers_store(&office.lockers, "keyring").await);
    keyring.fail(Operation::Delete, "", 1, Fault::Refused(StoreErrorKind::Unavailable));
    let failed = purge_through(&office, Utc::now(), vault, keyring).await.unwrap_err();
    assert_eq!(failed.class, FailureClass::Failed, "{failed:?}");
    assert_eq!((office.id(), office.plan()["state"].as_str()), (id.clone(), Some("begun")));
    office.refused(4, "plan-begun", &["plans", "cancel", &id]);
    assert_eq!(purge_at(&office, Utc::now(), None).await.unwrap().plan, Some(id));
}
