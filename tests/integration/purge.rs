//! A tenant's backups and keys before their time: gone from everywhere, for good, and nobody else's.

mod before;
mod beside;
mod live;
mod measure;
mod notes;
mod refusals;
mod seen;
pub mod stores;
mod trust;
mod untrusted;
mod walk;
mod whose;

pub(crate) use refusals::lockers_store;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tenure::{
    format::plan::Step,
    keyring::Keyring,
    operation::{
        failure::{Failure, FailureClass},
        held::{Held, Locks},
        keys::{
            Which,
            change::Change,
            rotate::{Rotate, RotateReport},
        },
        progress::Silent,
        purge::{Purge, PurgeReport, PurgeStatus, What},
    },
    tenant::TenantName,
    vault::Vault,
};
use tokio_util::sync::CancellationToken;

use crate::harness::{
    locker::{Lockers, Night, Tenant, at},
    site::walk as files,
};

/// Locks that are free, or taken.
pub(crate) struct Lock(pub(crate) bool);

struct Taken;

#[async_trait]
impl Held for Taken {
    async fn still_held(&self) -> Result<(), Failure> {
        Ok(())
    }
}

#[async_trait]
impl Locks for Lock {
    async fn take(&self, tenant: &TenantName, _: &str) -> Result<Box<dyn Held>, Failure> {
        match self.0 {
            true => Ok(Box::new(Taken)),
            false => Err(Failure::new(FailureClass::Busy, "busy", tenant, "a backup is at work")),
        }
    }
}

/// Purges in the given stores, at the given time.
pub(crate) async fn purge_in(
    lockers: &Lockers,
    (vault, keyring): (&Vault, &Keyring),
    (tenant, what): (&str, What),
    lock_is_free: bool,
    now: DateTime<Utc>,
) -> Result<PurgeReport, Failure> {
    let tenant = tenant.parse().unwrap();
    let purge = Purge {
        vault,
        keyring,
        locks: &Lock(lock_is_free),
        operator: &lockers.key("operator"),
        eraser: &lockers.key("eraser"),
        approvals: 0,
        clock: &move || now,
        progress: &Silent,
        cancel: &CancellationToken::new(),
    };
    let intent = purge.look(&tenant, what, false).await?;
    purge.carry_out(&tenant, &intent).await
}

/// A new key for a tenant, through these stores.
async fn rotate(lockers: &Lockers, (vault, keyring): (&Vault, &Keyring), tenant: &Tenant) -> RotateReport {
    let (operator, cancel) = (lockers.key("operator"), CancellationToken::new());
    let change = Change {
        vault,
        keyring,
        removers: &[],
        signer: &operator,
        role: "operator",
        clock: &Utc::now,
        progress: &Silent,
        cancel: &cancel,
        dry_run: false,
        approvals: None,
    };
    let rotate = Rotate { change, locks: &Lock(true), recipients: &lockers.recipients };
    rotate.run(&Which::Named(vec![tenant.record.tenant.clone()])).await.unwrap()
}

async fn purge(lockers: &Lockers, tenant: &str) -> Result<PurgeReport, Failure> {
    purge_in(lockers, (&lockers.vault, &lockers.keyring), (tenant, What::All), true, Utc::now()).await
}

pub(crate) type Files = BTreeMap<String, Content>;

/// A file's bytes, which nobody wants to see.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Content(Vec<u8>);

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Every file of the three stores, but for plans and records of acts.
pub(crate) fn stored(lockers: &Lockers) -> Files {
    stored_below(lockers.folder())
}

fn stored_below(folder: &Path) -> Files {
    let name = |path: &Path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
    let store = |name: &str| ["vault/", "keyring/", "mirror/"].iter().any(|store| name.starts_with(store));
    // What a killed program was writing lies beside the objects until the next one sweeps it up.
    let said =
        |name: &str| ["vault/plans/", "vault/runs/"].iter().any(|part| name.starts_with(part)) || name.contains("/.incoming~/");
    let all = files(folder).into_iter().map(|path| (name(&path), path));
    all.filter(|(name, _)| store(name) && !said(name)).map(|(name, path)| (name, Content(std::fs::read(path).unwrap()))).collect()
}

/// What belongs to a tenant: its locker, its tag, its keys.
fn of<'a>(lockers: &Lockers, tenant: &'a Tenant) -> impl Fn(&str) -> bool + 'a {
    let tag = lockers.keyring.tag(&tenant.record.tenant);
    let parts = [format!("/t/{}/", tenant.locker()), format!("/t/{tag}/"), format!("/k/{}.", tenant.record.key_id)];
    move |name| parts.iter().any(|part| name.contains(part))
}

/// Nothing is left of a tenant but its purge notes, and everything else is as it was.
fn only_notes_are_left(lockers: &Lockers, tenant: &Tenant, before: &Files) {
    let (after, is_its) = (stored(lockers), of(lockers, tenant));
    for name in after.keys().filter(|name| is_its(name)) {
        assert!(name.contains("/gone/"), "{name} is left");
    }
    for name in before.keys().chain(after.keys()).filter(|name| !is_its(name)) {
        assert_eq!(after.get(name), before.get(name), "{name} of somebody else is as it was, to the byte");
    }
}

/// Runs the program where the lockers are.
fn program(lockers: &Lockers, arguments: &[&str]) -> (i32, serde_json::Value, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tenure"))
        .args(arguments)
        .arg("--json")
        .current_dir(lockers.folder())
        .stdin(std::process::Stdio::null())
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}{said}", String::from_utf8_lossy(&output.stdout)));
    crate::harness::program::check(&document);
    (output.status.code().unwrap(), document, said)
}

/// A tenant with three nights, beside others whose names begin alike.
async fn three_nights() -> (Lockers, Tenant, Vec<(Tenant, Night)>) {
    let lockers = Lockers::new().await;
    let mut acme = lockers.tenant("acme", at("2026-11-01")).await;
    for (day, changed) in [("2026-11-01", 0), ("2026-11-02", 1), ("2026-11-03", 2)] {
        lockers.night(&mut acme, at(day), &[changed]).await;
    }
    let mut neighbours = Vec::new();
    for name in ["acm", "acme2", "acme-2"] {
        let mut tenant = lockers.tenant(name, at("2026-11-01")).await;
        let night = lockers.night(&mut tenant, at("2026-11-02"), &[3]).await;
        neighbours.push((tenant, night));
    }
    (lockers, acme, neighbours)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_a_tenant_goes_and_neighbours_stay_to_the_byte() {
    let (lockers, acme, neighbours) = three_nights().await;
    let before = stored(&lockers);
    let report = purge(&lockers, "acme").await.unwrap();
    assert_eq!((report.status, report.backups, report.open.len()), (PurgeStatus::Closed, 3, 0), "{report:?}");
    assert_eq!(report.key_copies.len(), 2, "the keyring and its mirror");
    assert!(report.key_copies.iter().all(|copy| copy.destroyed_at.is_some() && copy.objects == 3), "{report:?}");
    let its = before.keys().filter(|name| name.starts_with("vault/") && of(&lockers, &acme)(name)).count();
    assert_eq!(report.objects_removed as usize, its);
    only_notes_are_left(&lockers, &acme, &before);
    for (tenant, night) in &neighbours {
        lockers.opens(tenant, night).await.unwrap();
    }
    // What was done is written down, step by step and as an act.
    let plan = report.plan.unwrap().parse().unwrap();
    for step in Step::ALL.into_iter().filter(|step| ![Step::Closing, Step::Dropped].contains(step)) {
        assert!(lockers.vault.mark(plan, step).await.unwrap().is_some(), "{step:?}");
    }
    let destroyed = lockers.vault.mark(plan, Step::KeysDestroyed).await.unwrap().unwrap();
    assert_eq!(destroyed.found.key_copies.len(), 2);
    assert!(files(&lockers.folder().join("vault/runs")).len() == 4, "that it began, how it ended, and their signatures");

    for arguments in [&["list", "acme"][..], &["show", "acme", "latest"], &["verify", "acme"]] {
        let (code, document, _) = program(&lockers, arguments);
        assert_eq!((code, &document["error"]["kind"]), (4, &"tenant-purged".into()), "{arguments:?}: {document}");
    }
    let (code, document, _) = program(&lockers, &["restore", "acme", "--identity", "recovery-kit.txt", "--into", "x"]);
    assert_eq!((code, &document["error"]["kind"]), (4, &"tenant-purged".into()), "{document}");
    for (code, arguments) in [
        (0, &["verify", "--all", "--identity", "recovery-kit.txt"][..]),
        (0, &["list"]),
        (0, &["keys", "check", "--identity", "recovery-kit.txt"]),
        (0, &["keys", "repair"]),
        (1, &["list", "nobody"]),
    ] {
        let (found, document, said) = program(&lockers, arguments);
        assert_eq!(found, code, "{arguments:?}: {document}{said}");
    }
    only_notes_are_left(&lockers, &acme, &before);

    // Once more: there is nothing to do, and that is no error.
    let again = purge(&lockers, "acme").await.unwrap();
    assert_eq!((again.status, again.backups, again.objects_removed), (PurgeStatus::Closed, 0, 0), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_bytes_that_are_put_back_stay_closed() {
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    purge(&lockers, "acme").await.unwrap();
    let put_back = |which: &dyn Fn(&str) -> bool| {
        for (name, bytes) in before.iter().filter(|(name, _)| which(name)) {
            let path = lockers.folder().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &bytes.0).unwrap();
        }
    };
    let is_its = of(&lockers, &acme);
    let closed = async || {
        for arguments in [
            &["list", "acme"][..],
            &["verify", "acme"],
            &["show", "acme", "latest"],
            &["hold", "acme", "--reason", "too late"],
            &["restore", "acme", "--identity", "recovery-kit.txt", "--into", "x"],
        ] {
            let (code, document, said) = program(&lockers, arguments);
            assert_eq!(code, 4, "{arguments:?}: {document}{said}");
        }
        let (code, document, said) = program(&lockers, &["verify", "--all"]);
        let problems = document["problems"].as_array().unwrap();
        assert_eq!(code, 5, "nobody reads it, and it is said: {document}{said}");
        assert!(
            problems.iter().any(|problem| problem["problem"].as_str().unwrap().contains("is not empty any more")),
            "{document}"
        );
    };
    // The whole vault as it was, then the keyring's copy of the key, then the mirror's.
    put_back(&|name| name.starts_with("vault/") && is_its(name));
    closed().await;
    put_back(&|name| name.starts_with("keyring/") && is_its(name));
    closed().await;
    put_back(&is_its);
    closed().await;
    let (_, document, said) = program(&lockers, &["check"]);
    let key = acme.record.key_id.to_string();
    assert!(document.to_string().contains(&key), "a key that came back is said: {document}{said}");
    // Neither does a repair bring a copy back that only the other one has.
    for name in before.keys().filter(|name| name.starts_with("mirror/") && is_its(name)) {
        std::fs::remove_file(lockers.folder().join(name)).unwrap();
    }
    program(&lockers, &["keys", "repair"]);
    assert!(!stored(&lockers).keys().any(|name| name.starts_with("mirror/") && is_its(name)), "repaired what was purged");

    let again = purge(&lockers, "acme").await.unwrap();
    assert_eq!(again.status, PurgeStatus::Closed, "{again:?}");
    assert!(again.objects_removed > 0 && again.key_copies[0].objects == 3, "{again:?}");
    only_notes_are_left(&lockers, &acme, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_lock_it_is_closed_when_everything_that_had_begun_is_over() {
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    let now = Utc::now();
    let run = |now| purge_in(&lockers, (&lockers.vault, &lockers.keyring), ("acme", What::All), false, now);
    let report = run(now).await.unwrap();
    assert_eq!((report.status, &report.open[0].kind), (PurgeStatus::KeysDestroyed, &"last-look"), "{report:?}");
    let until = report.open[0].until.unwrap();
    assert_eq!(until, now + TimeDelta::seconds(lockers.vault.root().settle_seconds as i64));
    only_notes_are_left(&lockers, &acme, &before);
    // A chunk of a backup that had begun before lands in between.
    let late = lockers.folder().join(format!("vault/t/{}/s/late", acme.locker()));
    std::fs::create_dir_all(late.parent().unwrap()).unwrap();
    std::fs::write(&late, "late").unwrap();
    assert_eq!(run(until - TimeDelta::seconds(1)).await.unwrap().status, PurgeStatus::KeysDestroyed);
    let plan = report.plan.clone();
    let report = run(until).await.unwrap();
    assert_eq!((report.status, &report.plan), (PurgeStatus::Closed, &plan), "the same plan: {report:?}");
    only_notes_are_left(&lockers, &acme, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_end_as_one() {
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    let (first, second) = tokio::join!(purge(&lockers, "acme"), purge(&lockers, "acme"));
    for report in [first.unwrap(), second.unwrap()] {
        assert_eq!(report.status, PurgeStatus::Closed, "{report:?}");
    }
    only_notes_are_left(&lockers, &acme, &before);
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
}
