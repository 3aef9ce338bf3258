//! A hold beside a purge: one of the two wins, and says so.

use tenure::{
    format::{
        hold::{Hold, HoldAct},
        plan::{Bound, Plan, PlannedAct, PlannedLocker},
        purge_note::{PurgeNote, Purged},
    },
    id::RecordId,
    operation::hold::{HoldReport, Holding, ReleaseReport, Which},
    store::{directory::DirectoryStore, fault::FaultStore},
};

use super::{
    before::{expire, put_back},
    refusals::lockers_store,
    *,
};

async fn hold(lockers: &Lockers, tenant: &str) -> Result<HoldReport, Failure> {
    let operator = lockers.key("operator");
    let holding = Holding { vault: &lockers.vault, keyring: &lockers.keyring, operator: &operator, approvals: 0 };
    holding.hold(&tenant.parse().unwrap(), "a court asked for it", Utc::now()).await
}

async fn release(lockers: &Lockers, tenant: &str, which: Which) -> Result<ReleaseReport, Failure> {
    let operator = lockers.key("operator");
    let holding = Holding { vault: &lockers.vault, keyring: &lockers.keyring, operator: &operator, approvals: 0 };
    holding.release(&tenant.parse().unwrap(), which, Utc::now()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_stop_a_purge_until_the_last_is_released() {
    let (lockers, acme, neighbours) = three_nights().await;
    let before = stored(&lockers);
    let first = hold(&lockers, "acme").await.unwrap();
    let second = hold(&lockers, "acme").await.unwrap();
    assert_eq!(second.others, std::slice::from_ref(&first.hold));
    let held = stored(&lockers);
    for _ in 0..2 {
        let (code, document, said) = program(&lockers, &["purge", "acme", "--confirm", "acme"]);
        assert_eq!((code, &document["error"]["kind"]), (4, &"on-hold".into()), "{document}{said}");
        for id in [&first.hold, &second.hold] {
            assert!(document["error"]["message"].as_str().unwrap().contains(id.as_str()), "{document}");
        }
        assert_eq!(stored(&lockers), held);
    }
    assert!(!lockers.folder().join("vault/plans").exists(), "not even a plan");
    // Reasons are sealed: they stand nowhere in clear, and only who has the identity reads them.
    assert!(!held.values().any(|Content(bytes)| bytes.windows(5).any(|part| part == b"court")));
    let (_, listed, _) = program(&lockers, &["list", "acme"]);
    assert_eq!((listed["holds"].as_array().unwrap().len(), &listed["holds"][0]["reason"]), (2, &serde_json::Value::Null));
    assert_eq!(listed["holds"][0]["placed_by"], "operator@test", "{listed}");
    let (code, listed, said) = program(&lockers, &["list", "acme", "--identity", "recovery-kit.txt"]);
    let reason = |n: usize| listed["holds"][n]["reason"].as_str();
    assert_eq!((code, reason(0), reason(1)), (0, Some("a court asked for it"), Some("a court asked for it")), "{listed}{said}");
    let (code, shown, said) = program(&lockers, &["show", "acme", "latest"]);
    assert_eq!((code, &shown["holds"][0]["hold"]), (0, &first.hold.as_str().into()), "{shown}{said}");
    let keys = lockers.keyring.keys(&acme.record.tenant).await.unwrap().unwrap();
    let opened =
        tenure::operation::hold::held_by(&lockers.vault, &lockers.keyring, &keys, Some(&lockers.identity())).await.unwrap().0;
    assert_eq!(opened[1].reason.as_deref(), Some("a court asked for it"));
    assert!(opened.iter().all(|held| held.reason.is_some()));

    // Several: which one must be said.
    for (code, arguments) in [
        (2, &["release", "acme"][..]),
        (1, &["release", "acme", "--hold", "00112233445566778899aabbccddeeff"]),
        (1, &["release", "acme2"]),
        (1, &["release", "nobody"]),
        (2, &["hold", "acme"]),
    ] {
        let (found, document, said) = program(&lockers, arguments);
        assert_eq!(found, code, "{arguments:?}: {document}{said}");
        assert_eq!(stored(&lockers), held, "{arguments:?}");
    }
    let (code, document, said) = program(&lockers, &["release", "acme", "--hold", &first.hold]);
    assert_eq!((code, &document["remaining"][0]), (0, &second.hold.as_str().into()), "{document}{said}");
    assert_eq!(purge(&lockers, "acme").await.unwrap_err().kind, "on-hold");
    let (code, document, _) = program(&lockers, &["release", "acme"]);
    assert_eq!((code, document["released"].as_array().unwrap().len()), (0, 1), "{document}");
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
    only_notes_are_left(&lockers, &acme, &before);
    assert!(hold(&lockers, "acme").await.is_err_and(|error| error.class == FailureClass::Refused));
    let (tenant, night) = &neighbours[0];
    lockers.opens(tenant, night).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_nobody_can_read_holds_and_nobody_releases_it() {
    for is_back in [true, false] {
        unreadable_hold(is_back).await;
    }
}

async fn unreadable_hold(is_back: bool) {
    let (lockers, acme, _) = three_nights().await;
    hold(&lockers, "acme").await.unwrap();
    let readable = hold(&lockers, "acme").await.unwrap();
    let bad = stored(&lockers).into_keys().find(|name| {
        name.contains(&format!("t/{}/h/", acme.locker())) && name.ends_with(".json") && !name.contains(&readable.hold)
    });
    let bad = lockers.folder().join(bad.unwrap());
    let good = std::fs::read(&bad).unwrap();
    std::fs::write(&bad, "{}").unwrap();
    let (code, document, said) = program(&lockers, &["release", "acme", "--all"]);
    assert_eq!((code, document["unreadable"].as_array().unwrap().len()), (5, 1), "{document}{said}");
    assert_eq!(release(&lockers, "acme", Which::All).await.unwrap_err().class, FailureClass::Integrity);
    assert_eq!(purge(&lockers, "acme").await.unwrap_err().kind, "on-hold");
    let (code, listed, _) = program(&lockers, &["list", "acme"]);
    assert_eq!(code, 5, "{listed}");
    let id = bad.file_stem().unwrap().to_str().unwrap();
    let (code, document, said) = program(&lockers, &["release", "acme", "--all"]);
    assert_eq!((code, &document["error"]["kind"]), (5, &"unreadable-hold".into()), "{document}{said}");
    let hint = document["error"]["hint"].as_str().unwrap();
    assert!(hint.contains(bad.to_str().unwrap()) && hint.contains(&format!("`tenure release acme --hold {id}`")), "{hint}");
    if is_back {
        std::fs::write(&bad, good).unwrap();
        release(&lockers, "acme", Which::Only).await.unwrap();
    } else {
        // As the hint says: the owner takes the record alone away.
        std::fs::remove_file(&bad).unwrap();
        assert_eq!(purge(&lockers, "acme").await.unwrap_err().kind, "on-hold");
        assert_eq!(program(&lockers, &["release", "acme", "--hold", id]).0, 0);
    }
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
}

/// A plan and a note, as a purge leaves them that was killed right after its notes.
async fn noted(lockers: &Lockers, tenant: &Tenant) {
    let (id, created_at) = (RecordId::random(), Utc::now());
    let locker = PlannedLocker {
        locker: tenant.locker(),
        cluster: Some("here".to_owned()),
        keys: vec![tenant.record.key_id],
        manifests: 3,
        backups: Vec::new(),
    };
    let (installation, name_tag) = (lockers.installation(), tenant.record.name_tag);
    let (act, lockers_of, bound) = (PlannedAct::PurgeAll, vec![locker], Bound::default());
    let plan = Plan { format: 1, installation, id, name_tag, act, lockers: lockers_of, databases: Vec::new(), created_at, bound };
    lockers.vault.put_plan(&plan, &lockers.key("operator")).await.unwrap();
    let purged = Purged::All { keys: vec![tenant.record.key_id] };
    let note = PurgeNote { format: 1, installation, locker: tenant.locker(), id, name_tag, purged, created_at };
    lockers.vault.put_purge_note(&note, &lockers.key("eraser")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_after_the_note_comes_too_late() {
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    noted(&lockers, &acme).await;
    let noted = stored(&lockers);
    let (code, document, said) = program(&lockers, &["hold", "acme", "--reason", "too late"]);
    assert_eq!(code, 4, "{document}{said}");
    assert_eq!(stored(&lockers), noted);
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
    only_notes_are_left(&lockers, &acme, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_comes_while_a_hold_is_written_wins_and_the_hold_is_taken_back() {
    let (lockers, acme, _) = three_nights().await;
    let prepared = Arc::new(stores_with(&lockers, &acme, true).await);
    let vault = fault_once(&lockers, "/h/", prepared).await;
    let (vault, keyring) = lockers.through(vault, open(&lockers, "keyring").await, vec![open(&lockers, "mirror").await]).await;
    let operator = lockers.key("operator");
    let holding = Holding { vault: &vault, keyring: &keyring, operator: &operator, approvals: 0 };
    let late = holding.hold(&"acme".parse().unwrap(), "late", Utc::now()).await.unwrap_err();
    assert_eq!((late.class, late.kind), (FailureClass::Refused, "too-late"), "{late:?}");
    assert!(!vault.holds(acme.locker()).await.unwrap().is_held(), "it was taken back");
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_comes_while_the_note_is_written_stops_the_purge() {
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    let prepared = Arc::new(stores_with(&lockers, &acme, false).await);
    let vault = fault_once(&lockers, "1-noted", prepared).await;
    let (vault, keyring) = lockers.through(vault, open(&lockers, "keyring").await, vec![open(&lockers, "mirror").await]).await;
    let held = purge_in(&lockers, (&vault, &keyring), ("acme", What::All), true, Utc::now()).await.unwrap_err();
    assert_eq!((held.class, held.kind), (FailureClass::Refused, "on-hold"), "{held:?}");
    let left = stored(&lockers);
    assert!(before.iter().all(|(name, bytes)| left.get(name) == Some(bytes)), "nothing was destroyed");
    let (code, document, said) = program(&lockers, &["list", "acme"]);
    assert_eq!((code, &document["error"]["kind"]), (4, &"tenant-purged".into()), "{document}{said}");
    let report = release(&lockers, "acme", Which::Only).await.unwrap();
    assert!(report.notes[0].contains("tenure purge acme"), "{report:?}");
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
    only_notes_are_left(&lockers, &acme, &before);
}

async fn open(lockers: &Lockers, name: &str) -> Arc<dyn tenure::store::Store> {
    Arc::new(DirectoryStore::open(&lockers.folder().join(name)).await.unwrap())
}

/// The files of a note, or of a hold, by their place in the vault. Nothing of it is left there.
async fn stores_with(lockers: &Lockers, tenant: &Tenant, note: bool) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let before = stored(lockers);
    if note {
        let (id, created_at, purged) = (RecordId::random(), Utc::now(), Purged::All { keys: vec![tenant.record.key_id] });
        let (installation, name_tag, locker) = (lockers.installation(), tenant.record.name_tag, tenant.locker());
        let note = PurgeNote { format: 1, installation, locker, id, name_tag, purged, created_at };
        lockers.vault.put_purge_note(&note, &lockers.key("eraser")).await.unwrap();
    } else {
        let act = HoldAct::Placed { reason: "sealed".to_owned() };
        let (installation, locker) = (lockers.installation(), tenant.locker());
        let hold = Hold { format: 1, installation, locker, id: RecordId::random(), act, created_at: Utc::now() };
        lockers.vault.put_hold(&hold, &lockers.key("operator")).await.unwrap();
    }
    let new = stored(lockers).into_iter().filter(|(name, _)| !before.contains_key(name));
    let files: Vec<_> = new.map(|(name, Content(bytes))| (lockers.folder().join(name), bytes)).collect();
    files.iter().for_each(|(path, _)| std::fs::remove_file(path).unwrap());
    files
}

/// A vault in which these files appear right before the first call on a name with `part`.
async fn fault_once(lockers: &Lockers, part: &'static str, files: Arc<Vec<(std::path::PathBuf, Vec<u8>)>>) -> Arc<FaultStore> {
    let store = FaultStore::new(open(lockers, "vault").await);
    let appear = move |called, name: &str| {
        if called == tenure::store::fault::Operation::Put && name.contains(part) {
            for (path, bytes) in files.iter() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
        }
        false
    };
    store.fail_where(appear, 1, tenure::store::fault::Fault::Lost);
    Arc::new(store)
}

/// Who was first: a hold that came after a purge had begun to destroy keeps nothing from `expire`; one that was there before keeps all,
/// whatever became of the keys.
#[tokio::test(flavor = "multi_thread")]
async fn expire_goes_on_with_a_purge_that_won_and_with_no_other() {
    let placed = |tenant: &Tenant, installation| Hold {
        format: 1,
        installation,
        locker: tenant.locker(),
        id: RecordId::random(),
        act: HoldAct::Placed { reason: "sealed".to_owned() },
        created_at: Utc::now(),
    };
    // The purge was stopped by a hold after its note; then the keyring lost the tenant's keys.
    let (lockers, acme, _) = three_nights().await;
    noted(&lockers, &acme).await;
    lockers.vault.put_hold(&placed(&acme, lockers.installation()), &lockers.key("operator")).await.unwrap();
    let is_its = of(&lockers, &acme);
    for name in stored(&lockers).keys().filter(|name| !name.starts_with("vault/") && is_its(name)) {
        std::fs::remove_file(lockers.folder().join(name)).unwrap();
    }
    let before = stored(&lockers);
    expire(&lockers, Utc::now()).await;
    assert_eq!(stored(&lockers), before, "it is held");

    // The keys are destroyed, and nothing else could be removed yet; then somebody's hold was not taken back, because he was killed.
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    let vault = Arc::new(FaultStore::new(open(&lockers, "vault").await));
    (0..200).for_each(|nth| {
        let denied = tenure::store::StoreErrorKind::Denied;
        vault.fail(tenure::store::fault::Operation::Delete, "", nth + 1, tenure::store::fault::Fault::Refused(denied));
    });
    let (vault, keyring) = lockers.through(vault, open(&lockers, "keyring").await, vec![open(&lockers, "mirror").await]).await;
    let report = purge_in(&lockers, (&vault, &keyring), ("acme", What::All), true, Utc::now()).await.unwrap();
    assert_eq!(report.status, PurgeStatus::KeysDestroyed, "{report:?}");
    lockers.vault.put_hold(&placed(&acme, lockers.installation()), &lockers.key("operator")).await.unwrap();
    expire(&lockers, Utc::now()).await;
    only_notes_are_left(&lockers, &acme, &before);
}

/// What a purge removes between somebody's listing and his reading is no damage to him.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_purge_takes_away_while_it_is_read_is_no_damage() {
    for (store, part) in [("keyring", "t/"), ("vault", "/s/"), ("vault", "/b/")] {
        let (lockers, acme, _) = three_nights().await;
        let all = stored(&lockers);
        purge(&lockers, "acme").await.unwrap();
        let notes: Files = stored(&lockers).into_iter().filter(|(name, _)| name.contains("/gone/")).collect();
        let plans: Vec<_> = files(&lockers.folder().join("vault/plans"));
        let plans: Vec<_> = plans.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        put_back(&lockers, &all, |_| true);
        notes.keys().for_each(|name| std::fs::remove_file(lockers.folder().join(name)).unwrap());
        plans.iter().for_each(|(path, _)| std::fs::remove_file(path).unwrap());
        // The whole purge takes place right before this is read.
        let (folder, is_its) = (lockers.folder().to_owned(), {
            let its: Vec<String> = all.keys().filter(|name| of(&lockers, &acme)(name)).cloned().collect();
            its
        });
        let its_own = match store {
            "keyring" => lockers.keyring.tag(&acme.record.tenant).to_string(),
            _ => acme.locker().to_string(),
        };
        let faulty = FaultStore::new(lockers_store(&lockers, store).await);
        let purged = move |called, name: &str| {
            if called == tenure::store::fault::Operation::Get && name.contains(part) && name.contains(&its_own) {
                for (name, bytes) in &notes {
                    std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
                    std::fs::write(folder.join(name), &bytes.0).unwrap();
                }
                plans.iter().for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
                is_its.iter().for_each(|name| drop(std::fs::remove_file(folder.join(name))));
            }
            false
        };
        faulty.fail_where(purged, 1, tenure::store::fault::Fault::Lost);
        let (mut vault, mut keyring) = (open(&lockers, "vault").await, open(&lockers, "keyring").await);
        match store {
            "vault" => vault = Arc::new(faulty),
            _ => keyring = Arc::new(faulty),
        }
        let (vault, keyring) = lockers.through(vault, keyring, vec![open(&lockers, "mirror").await]).await;
        let operator = lockers.key("operator");
        let ended = match part {
            "/b/" => {
                let listed = tenure::operation::list::list(&vault, &keyring, &acme.record.tenant, None, None, Utc::now()).await;
                listed.map(|listed| assert!(listed.backups.is_empty() && listed.problems.is_empty(), "{listed:?}"))
            }
            "/s/" => {
                let report = rotate(&lockers, (&vault, &keyring), &acme).await;
                assert_eq!(report.class, Some(FailureClass::Refused), "{report:?}");
                assert_eq!(report.results[0].error.as_ref().unwrap().kind, "tenant-purged", "{report:?}");
                continue;
            }
            _ => {
                let holding = Holding { vault: &vault, keyring: &keyring, operator: &operator, approvals: 0 };
                holding.hold(&acme.record.tenant, "late", Utc::now()).await.map(drop)
            }
        };
        if let Err(failure) = ended {
            assert_eq!((failure.class, failure.kind), (FailureClass::Refused, "tenant-purged"), "{store} {part}: {failure:?}");
        }
    }
}
