//! Two people erase one tenant in the same moment, or one withdraws what another begins: each has a plan and a tombstone, and both end well.

use std::{io::Write as _, process::Stdio};

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use tenure::{
    format::plan::{Found, Step},
    operation::{
        erase::{EraseStatus, Intent},
        erased,
        failure::FailureClass,
    },
    tenant::TenantName,
};

use super::walk::{databases, erase, stores, with};
use crate::{
    drop::walk::{fleet, name},
    harness::{
        postgres::{Options, eventually},
        site::Site,
    },
};

/// Two plans of which neither knew of the other.
async fn two(site: &Site, tenant: &TenantName, grace: TimeDelta) -> [Intent; 2] {
    let (vault, keyring) = stores(site, None).await;
    with(site, (&vault, &keyring), grace, async |erase| [erase.look(tenant).await.unwrap(), erase.look(tenant).await.unwrap()])
        .await
}

async fn is_open(site: &Site, tenant: &TenantName) -> bool {
    let (vault, keyring) = stores(site, None).await;
    !vault.plans(keyring.tag(tenant), |steps| !steps.contains(&Step::Closed)).await.unwrap().is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_after_the_other_and_at_once_everything_is_gone_once() {
    let site = fleet(3).await;
    let after = |tenant: &TenantName| {
        let its = format!("{}|", site.name(tenant.as_str()));
        let mut left = databases(&site);
        left.retain(|database| !database.starts_with(&its));
        left
    };
    for (nth, at_once) in [(0, false), (1, true)] {
        let tenant: TenantName = name(nth).parse().unwrap();
        let wanted = after(&tenant);
        let [one, other] = two(&site, &tenant, TimeDelta::zero()).await;
        assert_ne!(one.plan.id, other.plan.id);
        let (vault, keyring) = stores(&site, None).await;
        let run = async |intent: &Intent| {
            with(&site, (&vault, &keyring), TimeDelta::zero(), async |erase| erase.carry_out(&tenant, intent).await).await
        };
        let ended = match at_once {
            true => <[_; 2]>::from(tokio::join!(run(&one), run(&other))),
            false => [run(&one).await, run(&other).await],
        };
        if !at_once {
            assert_eq!(ended[0].as_ref().unwrap().status, EraseStatus::Closed, "{ended:?}");
            assert_eq!(ended[1].as_ref().unwrap_err().kind, "tenant-erased", "{ended:?}");
        }
        // Who was kept waiting goes on.
        for _ in 0..3 {
            if is_open(&site, &tenant).await {
                erase(&site, (&vault, &keyring), tenant.as_str()).await.ok();
            }
        }
        assert!(!is_open(&site, &tenant).await, "{ended:?}");
        assert_eq!(databases(&site), wanted);
        assert!(keyring.keys(&tenant).await.unwrap().is_none());
        let again = erase(&site, (&vault, &keyring), tenant.as_str()).await.unwrap_err();
        assert_eq!((again.class, again.kind), (FailureClass::Refused, "tenant-erased"));
    }
    assert_eq!(site.all().await.class, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_planned_one_begins_and_one_undo_gives_it_back() {
    let site = fleet(2).await;
    let tenant: TenantName = name(0).parse().unwrap();
    let before = databases(&site);
    let grace = TimeDelta::days(7);
    let (vault, keyring) = stores(&site, None).await;
    let [one, other] = two(&site, &tenant, grace).await;
    let run = async |intent: &Intent| {
        with(&site, (&vault, &keyring), grace, async |erase| erase.carry_out(&tenant, intent).await).await
    };
    let (one, other) = (run(&one).await.unwrap(), run(&other).await.unwrap_err());
    assert_eq!((one.status, other.kind), (EraseStatus::Suspended, "tenant-erased"), "{one:?}");
    assert_ne!(databases(&site), before, "it lets nobody in");
    let undone = with(&site, (&vault, &keyring), grace, async |erase| erase.undo(&tenant).await).await.unwrap();
    assert_eq!((undone.status, undone.open.len()), (EraseStatus::Withdrawn, 0), "{undone:?}");
    assert_eq!(databases(&site), before);
    assert!(!is_open(&site, &tenant).await);
    assert!(!erased::read_both(&vault, &keyring, keyring.tag(&tenant)).await.unwrap().is_refused());
    assert_eq!(site.all().await.class, None);
}

/// An undo that was killed when it had taken the place of the mark that says that the erasure destroys; and an undo that comes when that mark
/// is there.
#[tokio::test(flavor = "multi_thread")]
async fn of_an_undo_and_an_erasure_one_finds_the_place_taken() {
    let site = fleet(2).await;
    let (vault, keyring) = stores(&site, None).await;
    let (zero, before) = (TimeDelta::zero(), databases(&site));
    let tenant: TenantName = name(0).parse().unwrap();
    let intent = with(&site, (&vault, &keyring), zero, async |erase| erase.look(&tenant).await.unwrap()).await;
    let void = || Found { void: Some("withdrawn".to_owned()), ..Found::default() };
    vault.put_mark(intent.plan.id, Step::Destroying, (Utc::now(), void()), &site.backup.signer).await.unwrap();
    let run = async || with(&site, (&vault, &keyring), zero, async |erase| erase.carry_out(&tenant, &intent).await).await;
    let refused = run().await.unwrap_err();
    assert_eq!((refused.class, refused.kind), (FailureClass::Refused, "plan-void"), "{refused:?}");
    let undo = async |tenant: &TenantName| with(&site, (&vault, &keyring), zero, async |erase| erase.undo(tenant).await).await;
    assert_eq!(undo(&tenant).await.unwrap().status, EraseStatus::Withdrawn);
    assert_eq!(databases(&site), before);

    // The other way round: it was planned and noted, and another run marks it in the middle of the undo.
    let tenant: TenantName = name(1).parse().unwrap();
    let grace = TimeDelta::days(7);
    let intent = with(&site, (&vault, &keyring), grace, async |erase| erase.look(&tenant).await.unwrap()).await;
    with(&site, (&vault, &keyring), grace, async |erase| erase.carry_out(&tenant, &intent).await).await.unwrap();
    vault.put_mark(intent.plan.id, Step::Destroying, (Utc::now(), Found::default()), &site.backup.signer).await.unwrap();
    vault.put_mark(intent.plan.id, Step::Destroying, (Utc::now(), void()), &site.backup.signer).await.unwrap();
    assert!(vault.mark(intent.plan.id, Step::Destroying).await.unwrap().is_some(), "who came first wins");
    let refused = undo(&tenant).await.unwrap_err();
    assert_eq!((refused.class, refused.kind), (FailureClass::Refused, "too-late"), "{refused:?}");
    assert!(!erased::read_both(&vault, &keyring, keyring.tag(&tenant)).await.unwrap().is_withdrawn(intent.plan.id));
}

/// The withdrawal comes between the last look at it and the closing: whoever withdrew found the database open, with nothing to give back.
#[test]
fn what_is_withdrawn_while_it_closes_is_opened_again() {
    let site = crate::drop::Site::new(&Options::default(), &["acme"]);
    let program = &site.program;
    // Somebody else is just changing the row of the database, so that closing it waits.
    let mut other = site.cluster.program("psql", "postgres").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut typed = other.stdin.take().unwrap();
    typed.write_all(b"BEGIN; ALTER DATABASE tenant_acme CONNECTION LIMIT 50;\n").unwrap();
    typed.flush().unwrap();
    let count =
        |what: &str| site.cluster.sql("postgres", &format!("SELECT count(*) FROM pg_stat_activity WHERE {what}")).trim() == "1";
    eventually("a change of the row", || count("state = 'idle in transaction' AND query LIKE '%CONNECTION LIMIT 50%'"));
    let mut erase = program.command(&["erase", "acme", "--confirm", "acme", "--json"]);
    let erase = erase.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the erasure's closing", || count("wait_event_type = 'Lock' AND query LIKE '%ALLOW_CONNECTIONS%'"));
    let undone = program.done(&["erase", "acme", "--undo", "--confirm", "acme"]);
    assert_eq!((&undone["status"], site.state("acme")), (&json!("withdrawn"), Some(true)), "{undone:#}");
    typed.write_all(b"ROLLBACK;\n").unwrap();
    drop(typed);
    other.wait().unwrap();
    let ended = erase.wait_with_output().unwrap();
    let said: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((ended.status.code(), &said["error"]["kind"]), (Some(4), &json!("plan-void")), "{said:#}");
    assert_eq!(site.state("acme"), Some(true), "it lets everybody in again");
    program.done(&["certificate", "verify", undone["certificate"].as_str().unwrap()]);
    program.done(&["backup", "--all"]);
    program.done(&["reconcile"]);
}
