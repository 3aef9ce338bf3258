//! Everything that is signed in a locker is verified, and what bears no name of the format is named.

use chrono::Utc;
use tenure::{
    format::{
        hold::{Hold, HoldAct},
        purge_note::{PurgeNote, Purged},
        record::{Copy, CopyOid},
    },
    id::{NameTag, RecordId},
    object_name::Document,
    signature::Namespace,
    signed,
};

use super::{backed_up, flip, objects, verify_one};
use crate::harness::postgres::unique;

#[tokio::test(flavor = "multi_thread")]
async fn a_flip_in_any_signed_object_is_named_and_an_unknown_one_is_no_damage() {
    let site = backed_up(&["acme"]).await;
    let (vault, signer) = (&site.backup.vault, &site.backup.signer);
    let locker = vault.lockers().await.unwrap()[0];
    let (installation, id) = (vault.root().installation, RecordId::random());
    let backup = vault.history(locker, Utc::now()).await.unwrap().backups[0].manifest.backup;
    let (system_identifier, built_as) = ("1".to_owned(), unique("tenure"));
    let cluster = "eu-1".to_owned();
    let copy = Copy { format: 1, installation, locker, id, backup, cluster, system_identifier, built_as, created_at: Utc::now() };
    vault.put_copy(&copy, signer).await.unwrap();
    let oid = CopyOid { format: 1, installation, locker, id, system_identifier: "1".to_owned(), database_oid: 1 };
    vault.put_copy_oid(&oid, signer).await.unwrap();
    let (id, hold, created_at) = (RecordId::random(), RecordId::random(), Utc::now());
    let act = HoldAct::Released { hold };
    let hold = serde_json::to_vec(&Hold { format: 1, installation, locker, id, act, created_at }).unwrap();
    let (name_tag, purged) = (NameTag::random(), Purged::Keys { keys: Vec::new() });
    let note = serde_json::to_vec(&PurgeNote { format: 1, installation, locker, id, name_tag, purged, created_at }).unwrap();
    for (document, namespace, bytes) in
        [(Document::Hold(locker, id), Namespace::Hold, hold), (Document::Gone(locker, id), Namespace::Erasure, note)]
    {
        let allowed = format!("worker@test namespaces=\"{}\" {}\n", namespace.as_str(), signer.public_openssh().unwrap());
        let newer = site.signers.clone() + &allowed.replace("worker@test", "operator@test");
        let next = if namespace == Namespace::Hold { 2 } else { 3 };
        let text = if next == 3 { newer.clone() + &allowed.replace("erasure", "hold").replace("worker@", "old@") } else { newer };
        signed::create_bytes(vault.store(), &Document::Signers(next), text.into_bytes().into(), Namespace::Root, signer)
            .await
            .unwrap();
        signed::create_bytes(vault.store(), &document, bytes.into(), namespace, signer).await.unwrap();
    }
    let trust = tenure::signature::AllowedSigners::parse(&site.signers).unwrap();
    let store = tenure::store::directory::DirectoryStore::open(&site.folder().join("vault")).await.unwrap();
    let mut site = site;
    site.backup.vault = tenure::vault::Vault::open(std::sync::Arc::new(store), &trust).await.unwrap();
    let report = site.verify(false).await;
    assert!(report.problems.is_empty() && report.unknown.is_empty(), "{report:?}");

    let mut flipped = 0;
    for path in objects(&site, "vault/") {
        let name = path.strip_prefix(site.folder().join("vault")).unwrap().to_str().unwrap().to_owned();
        let small = ["/s/", "/copies/", "/h/", "/gone/"].iter().any(|folder| name.contains(folder));
        // Without vault.json or the newest signers nothing is opened at all.
        if !small && !["signers/1", "signers/1.sig", "signers/2"].contains(&name.as_str()) {
            continue;
        }
        let before = flip(&path);
        let problems = site.verify(false).await.problems;
        let document = name.trim_end_matches(".sig");
        assert!(problems.iter().any(|problem| problem.object.ends_with(document)), "{name}: {problems:?}");
        if small {
            let one = verify_one(&site, "acme").await.unwrap().problems;
            assert!(one.iter().any(|problem| problem.object.ends_with(document)), "{name}: {one:?}");
        }
        std::fs::write(&path, before).unwrap();
        flipped += 1;
    }
    assert_eq!(flipped, 13);

    let locker = format!("vault/t/{locker}");
    for (n, name) in [
        "vault/notes.txt".to_owned(),
        format!("{locker}/b/README"),
        format!("{locker}/x/y"),
        format!("vault/k/{}.1.age", RecordId::random()),
    ]
    .iter()
    .enumerate()
    {
        let path = site.folder().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"anything").unwrap();
        let report = site.verify(false).await;
        assert_eq!((report.problems.len(), report.unknown.len()), (0, n + 1), "{report:?}");
    }
    assert!(super::list_of(&site, "acme").await.unwrap().problems.is_empty());
}
