//! This host.

use tenure::{
    operation::check::{Level, check},
    signature::SigningKey,
};

use super::{request, the};
use crate::harness::site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn identities_and_keys_that_lie_about_are_named() {
    let site = Site::new().await;
    let mut request = request(&site).await;
    std::fs::write(site.folder().join("recovery-kit.txt"), format!("# kit\n{}\n", site.identity_text())).unwrap();
    let worker = site.folder().join("worker");
    request.signing_keys = ["worker", "operator", "eraser", "janitor", "restorer"].map(|role| (role, worker.clone())).to_vec();
    let report = check(&request).await;
    the(&report, Level::Warning, "recovery-kit.txt holds an identity that this host can read");
    the(&report, Level::Warning, "the keys of all roles lie on this host");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workers_key_that_does_not_count_is_an_error() {
    let site = Site::new().await;
    let request = request(&site).await;
    let worker = site.folder().join("worker");
    std::fs::write(&worker, SigningKey::generate("stranger").to_openssh().unwrap().as_bytes()).unwrap();
    the(&check(&request).await, Level::Error, "may not sign manifests in this vault");
    std::fs::write(&worker, "not a key").unwrap();
    the(&check(&request).await, Level::Error, "cannot sign");
    std::fs::remove_file(&worker).unwrap();
    the(&check(&request).await, Level::Error, "worker is missing");
    std::fs::write(&request.allowed_signers, "worker@test ssh-rsa AAAA").unwrap();
    the(&check(&request).await, Level::Error, "allowed_signers cannot be used");
}
