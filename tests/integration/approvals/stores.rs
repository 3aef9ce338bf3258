//! Approvals in a bucket that keeps versions.

use std::sync::Arc;

use chrono::Utc;
use tenure::{
    operation::plans::{self, approve},
    store::{Store, s3::S3Store},
};

use super::*;
use crate::harness::s3::{self, S3Server};

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_was_hidden_or_written_over_counts_and_garbage_does_not() {
    let (server, client) = (s3::shared(), s3::shared().client());
    let bucket = server.bucket("approvals").await;
    s3::keep_versions(&client, &bucket).await;
    let vault: Arc<dyn Store> = Arc::new(S3Store::connect(server.settings(&bucket)).await.unwrap());
    let keyring: Arc<dyn Store> =
        Arc::new(S3Store::connect(server.settings(&server.bucket("approvals-keys").await)).await.unwrap());
    let mut lockers = Lockers::within(vault.clone(), keyring.clone(), Vec::new()).await;
    let acme = lockers.tenant("acme", at("2026-11-01")).await;
    let ann = new_key(lockers.folder(), "ann");
    let list = format!("{}{}", lockers.signers().text(), may_sign_plans("ann", "", &ann));
    let operator = lockers.key("operator");
    signed::create_bytes(&*vault, &Document::Signers(2), list.into_bytes().into(), Namespace::Root, &operator).await.unwrap();
    let (opened, keys) = lockers.through(vault, keyring, Vec::new()).await;
    lockers.vault = opened;
    lockers.keyring = keys;

    let (vault, now) = (&lockers.vault, Utc::now());
    let planning = plans::by_operator::Planning { vault, keyring: Some(&lockers.keyring), operator: &operator, needed: 2, now };
    let wanted = plans::by_operator::Wanted {
        tenant: Some(acme.record.tenant.clone()),
        act: tenure::format::plan::PlannedAct::Keys { change: tenure::format::plan::KeysChange::Rotate },
        lockers: Vec::new(),
        bound: tenure::format::plan::Bound::default(),
    };
    let failure = planning.begin(&wanted).await.unwrap_err();
    assert_eq!(failure.kind, "approvals-wanting", "{failure:?}");
    let plan = failure.object.clone();
    let whom = || approve::Whom::Tenant("acme".parse().unwrap(), Box::new(lockers.keyring.clone()));
    let to = approve::look(vault, &plan, whom(), now).await.unwrap();
    let key = tenure::signature::SigningKey::parse(&std::fs::read(lockers.folder().join("ann")).unwrap()).unwrap();
    let signature = key.sign(Namespace::Plan, &to.bytes).unwrap().into_bytes();
    let first = approve::put(vault, &to, signature.clone(), 2, now).await.unwrap();
    assert_eq!((first.signatures, first.already), (2, false));
    let again = approve::put(vault, &to, signature, 2, now).await.unwrap();
    assert_eq!((again.signatures, again.already), (2, true));

    let listed = vault.approvals(plan.parse().unwrap(), &to.bytes, None).await.unwrap();
    let name = listed[0].object.split_once("plans/").map(|(_, name)| format!("plans/{name}")).unwrap();
    client.put_object().bucket(&bucket).key(&name).body(b"written over".to_vec().into()).send().await.unwrap();
    assert_eq!(plans::tally::Tally::of(vault, plan.parse().unwrap(), now).await.unwrap().have(), 2);
    client.delete_object().bucket(&bucket).key(&name).send().await.unwrap();
    assert_eq!(plans::tally::Tally::of(vault, plan.parse().unwrap(), now).await.unwrap().have(), 2);
    let garbage = format!("plans/{plan}/approvals/{}.sig", "0".repeat(64));
    client.put_object().bucket(&bucket).key(&garbage).body(b"garbage".to_vec().into()).send().await.unwrap();
    assert_eq!(planning.begin(&wanted).await.unwrap_err().kind, "bad-approval");
    let version = client.list_object_versions().bucket(&bucket).prefix(&garbage).send().await.unwrap();
    let version = version.versions()[0].version_id().unwrap().to_owned();
    client.delete_object().bucket(&bucket).key(&garbage).version_id(version).send().await.unwrap();
    let begun = planning.begin(&wanted).await.unwrap().unwrap();
    assert_eq!(begun.id.to_string(), plan);
    planning.end(Some(&begun)).await.unwrap();
    let next = planning.begin(&wanted).await.unwrap_err();
    assert!(next.kind == "approvals-wanting" && next.object != plan, "a plan is for once: {next:?}");
}
