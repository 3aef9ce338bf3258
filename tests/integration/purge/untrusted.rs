//! Key records that cannot be trusted stop a purge, until somebody says that they go by their names.

use tenure::object_name::{Document, ObjectName};

use super::*;

/// Files of a tenant's key records below a store, without their signatures.
fn records(lockers: &Lockers, store: &str, tenant: &Tenant) -> Vec<std::path::PathBuf> {
    let folder = lockers.folder().join(format!("{store}/t/{}", lockers.keyring.tag(&tenant.record.tenant)));
    files(&folder).into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect()
}

fn spoil(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_record_is_spoilt_goes_by_its_name_when_somebody_says_so() {
    for has_another in [false, true] {
        let (lockers, acme, neighbours) = three_nights().await;
        if has_another {
            assert_eq!(rotate(&lockers, (&lockers.vault, &lockers.keyring), &acme).await.class, None);
        }
        let before = stored(&lockers);
        let first = acme.record.key_id.to_string();
        for store in ["keyring", "mirror"] {
            records(&lockers, store, &acme)
                .iter()
                .filter(|path| path.to_str().unwrap().contains(&first))
                .for_each(|path| spoil(path));
        }
        let spoilt = stored(&lockers);
        for arguments in [&["purge", "acme", "--confirm", "acme"][..], &["purge", "acme", "--dry-run"]] {
            let (code, document, said) = program(&lockers, arguments);
            assert_eq!(code, 5, "{document}{said}");
            let hint = document["error"]["hint"].as_str().unwrap();
            assert!(hint.contains("tenure keys repair") && hint.contains("tenure purge acme --untrusted-keys"), "{hint}");
        }
        assert_eq!(program(&lockers, &["keys", "repair"]).0, 5);
        assert_eq!(stored(&lockers), spoilt, "nothing is done unasked");
        let (code, document, said) = program(&lockers, &["purge", "acme", "--untrusted-keys", "--dry-run"]);
        // Until then the keyring lacks the record of a key that backups are sealed with.
        assert!(code == 5 && said.contains(&format!("the record of key {first} cannot be trusted")), "{document}{said}");
        assert_eq!(said.contains(&acme.locker().to_string()), !has_another, "a locker that no record claims is named: {said}");
        assert_eq!(stored(&lockers), spoilt);

        let what = ("acme", What::AllUntrusted);
        let report = purge_in(&lockers, (&lockers.vault, &lockers.keyring), what, true, Utc::now()).await.unwrap();
        assert_eq!(report.status, PurgeStatus::Closed, "{report:?}");
        assert!(report.notes.iter().any(|note| note.contains(&first)), "{report:?}");
        assert!(!stored(&lockers).keys().any(|name| name.contains(&first)), "record and secret half are gone from every store");
        if !has_another {
            only_notes_are_left(&lockers, &acme, &before);
        }
        for (tenant, night) in &neighbours {
            lockers.opens(tenant, night).await.unwrap();
        }
        assert_eq!(program(&lockers, &["list", "acme"]).0, 4);
    }
}

/// Whoever may create in the keyring puts a neighbour's key id into the tenant's folder: the neighbour keeps its key.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_record_costs_no_neighbour_its_key() {
    let (lockers, acme, neighbours) = three_nights().await;
    let neighbour = &neighbours[0].0.record;
    let forged = records(&lockers, "keyring", &acme)[0].with_file_name(format!("{}.json", neighbour.key_id));
    std::fs::write(&forged, "{}").unwrap();
    let before = stored(&lockers);
    for arguments in [&["purge", "acme", "--confirm", "acme"][..], &["purge", "acme", "--untrusted-keys", "--confirm", "acme"]] {
        let (code, document, said) = program(&lockers, arguments);
        assert_eq!((code, stored(&lockers)), (5, before.clone()), "{arguments:?}: {document}{said}");
    }
    std::fs::remove_file(forged).unwrap();
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
    lockers.opens(&neighbours[0].0, &neighbours[0].1).await.unwrap();
}

/// A thief of a worker's key who may write: garbage in the tenant's folder, a neighbour's records spoilt or gone, and a backup of the neighbour's
/// that says to be sealed with the tenant's garbage.
#[tokio::test(flavor = "multi_thread")]
async fn forged_records_cost_no_neighbour_its_locker() {
    let (lockers, acme, neighbours) = three_nights().await;
    let mut beta = neighbours[0].0.clone();
    beta.record.key_id = tenure::id::KeyId::random();
    let own = records(&lockers, "keyring", &acme).remove(0);
    for end in ["json", "json.sig"] {
        std::fs::write(own.with_file_name(format!("{}.{end}", beta.record.key_id)), "garbage").unwrap();
    }
    let forged = lockers.night(&mut beta, at("2026-11-04"), &[1]).await;
    let purge = ["purge", "acme", "--untrusted-keys", "--confirm", "acme"];
    let refused = |why: &str| {
        let before = stored(&lockers);
        for arguments in [&purge[..], &["purge", "acme", "--untrusted-keys", "--dry-run"]] {
            let (code, document, said) = program(&lockers, arguments);
            assert_eq!((code, stored(&lockers)), (5, before.clone()), "{why} {arguments:?}: {document}{said}");
            assert!(document["error"]["hint"].as_str().unwrap().starts_with("Nothing was done"), "{why}: {document}");
        }
    };
    let whole = |store: &str| (store.to_owned(), records(&lockers, store, &beta).remove(0));
    let [(_, keyring), (_, mirror)] = ["keyring", "mirror"].map(whole);
    let bytes = std::fs::read(&keyring).unwrap();
    std::fs::write(&keyring, "garbage").unwrap();
    refused("the mirror has it whole");
    std::fs::write(&mirror, "garbage").unwrap();
    refused("no copy has it whole");
    for path in [&keyring, &mirror] {
        std::fs::remove_file(path).unwrap();
    }
    refused("only signatures are there");
    std::fs::write(&mirror, &bytes).unwrap();
    refused("only the mirror has it");
    let signature = |path: &Path| path.with_extension("json.sig");
    std::fs::rename(signature(&keyring), lockers.folder().join("aside")).unwrap();
    refused("the keyring knows nothing of it");
    std::fs::remove_file(&mirror).unwrap();
    std::fs::remove_file(signature(&mirror)).unwrap();
    refused("nobody knows anything of it");

    // With the neighbour's record the garbage goes, and the tenant, and nothing else.
    for path in [&keyring, &mirror] {
        std::fs::write(path, &bytes).unwrap();
        std::fs::copy(lockers.folder().join("aside"), signature(path)).unwrap();
    }
    refused("its newest backup names a key of which it has no record");
    let forged = Document::Manifest(beta.locker(), forged.id());
    for name in [ObjectName::Document(forged.clone()), ObjectName::Signature(forged)] {
        std::fs::remove_file(lockers.path(&name)).unwrap();
    }
    let (code, document, said) = program(&lockers, &purge);
    assert!([3, 5].contains(&code) && document["status"] == "keys-destroyed", "{document}{said}");
    for (tenant, night) in &neighbours {
        lockers.opens(tenant, night).await.unwrap();
    }
}
