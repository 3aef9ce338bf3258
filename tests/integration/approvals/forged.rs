//! Somebody who may write below `plans/`, or has one operator's key, and puts there what the eraser or another operator did not sign.

use super::*;

/// The only locker of a tenant by its backups, as files.
fn backups_of(office: &Office, locker: &str) -> Vec<PathBuf> {
    files(&office.folder().join(format!("vault/t/{locker}/b")))
}

fn backups_listed(office: &Office, tenant: &str) -> usize {
    office.done(&["list", tenant])["backups"].as_array().unwrap().len()
}

const STEPS: [&str; 3] = ["1-noted.json", "2-destroying.json", "3-keys-destroyed.json"];

/// Whoever looks at plans names the object.
fn is_named(office: &Office, name: &str) {
    for arguments in [&["verify", "--all"][..], &["check"], &["expire"], &["plans", "list"]] {
        let (code, document) = office.run(arguments);
        // `check` has other errors here, and one code for all of them.
        assert!(code == 5 || code == 1 && arguments == ["check"], "{arguments:?}: {code}: {document:#}");
        assert!(document.to_string().contains(name), "{arguments:?}: {document:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_nobody_signed_destroys_nothing_and_closes_nothing() {
    let before_2027 = ["purge", "acme", "--before", "2027-01-01T00:00:00Z", "--confirm", "acme"];
    for (arguments, is_cancelled) in
        [(&before_2027[..], false), (&before_2027[..], true), (&PURGE[..], false), (&PURGE[..], true)]
    {
        let office = Office::new().await;
        office.refused(4, "approvals-wanting", arguments);
        let id = office.id();
        if is_cancelled {
            office.done(&["plans", "cancel", &id]);
        }
        let locker = office.acme.locker().to_string();
        let before = backups_of(&office, &locker);
        for step in STEPS {
            let file = office.folder().join(format!("vault/plans/{id}/{step}"));
            std::fs::write(&file, "").unwrap();
            is_named(&office, step);
            assert_eq!(backups_of(&office, &locker), before, "{arguments:?}: {step}");
            assert_eq!(backups_listed(&office, "acme"), 2, "{arguments:?}: {step}");
            office.done(&["show", "acme", "latest"]);
            let hold = office.done(&["hold", "acme", "--reason", "a law suit"])["hold"].as_str().unwrap().to_owned();
            assert!(!hold.is_empty());
            // Nobody goes on with it, and nobody gives it up, before that is looked at.
            office.refused(5, "untrusted-plan", arguments);
            office.refused(5, "untrusted-plan", &["plans", "cancel", &id]);
            std::fs::remove_file(&file).unwrap();
        }
        assert_eq!(backups_of(&office, &locker), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lockers_that_one_operator_adds_to_a_plan_stay_whatever_step_lies_beside_it() {
    for is_signed in [false, true] {
        lockers_that_are_added_stay(is_signed).await;
    }
}

/// With a step that nobody signed, or with one that the eraser signed for the plan as it was.
async fn lockers_that_are_added_stay(is_signed: bool) {
    let office = Office::new().await;
    let before_2027 = ["purge", "acme", "--before", "2027-01-01T00:00:00Z", "--confirm", "acme"];
    office.refused(4, "approvals-wanting", &before_2027);
    let id = office.id();
    let file = office.folder().join(format!("vault/plans/{id}/plan.json"));
    if is_signed {
        let said = (chrono::Utc::now(), tenure::format::plan::Found::default());
        let (vault, eraser) = (&office.lockers.vault, office.lockers.key("eraser"));
        vault.put_mark(id.parse().unwrap(), tenure::format::plan::Step::Noted, said, &eraser).await.unwrap();
    }
    let mut plan: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let others: Vec<String> = std::fs::read_dir(office.folder().join("vault/t"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|locker| *locker != office.acme.locker().to_string())
        .collect();
    assert_eq!(others.len(), 1);
    let vault = &office.lockers.vault;
    for locker in &others {
        let history = vault.history(locker.parse().unwrap(), chrono::Utc::now()).await.unwrap();
        let backups: Vec<Value> = history
            .backups
            .iter()
            .map(|backup| {
                serde_json::json!({
                    "backup": backup.manifest.backup.to_string(),
                    "sha256": backup.sha256.to_string(),
                    "expires_at": backup.manifest.expires_at,
                })
            })
            .collect();
        assert!(!backups.is_empty());
        let planned = serde_json::json!({
            "locker": locker, "cluster": "eu-1", "keys": [], "manifests": backups.len(), "backups": backups,
        });
        plan["lockers"].as_array_mut().unwrap().push(planned);
    }
    std::fs::write(&file, serde_json::to_vec(&plan).unwrap()).unwrap();
    office.sign_file(&file, "keys/operator", "tenure-plan");
    if !is_signed {
        std::fs::write(file.with_file_name("1-noted.json"), "").unwrap();
    }
    let before = office.stored();
    let (code, document) = office.run(&["expire"]);
    assert_eq!((code, &document["removed"]), (5, &serde_json::json!([])), "{document:#}");
    let (left, there): (Vec<_>, Vec<_>) = (office.stored().into_iter().collect(), before.into_iter().collect());
    assert_eq!(left, there);
    assert_eq!((backups_listed(&office, "acme"), backups_listed(&office, "acme2")), (2, 1));
}

/// What one operator can write alone.
async fn say_it_began(office: &Office, id: &str) {
    let milestone = tenure::format::plan::Milestone {
        format: 1,
        installation: office.lockers.installation(),
        plan: id.parse().unwrap(),
        what: tenure::format::plan::Reached::Begun,
        at: chrono::Utc::now(),
    };
    office.lockers.vault.put_milestone(&milestone, &office.lockers.key("operator")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_operator_begins_nothing_alone() {
    let office = Office::new().await;
    office.done(&["hold", "acme2", "--reason", "a law suit"]);
    for (arguments, tenant) in [(&PURGE[..], "acme"), (&["release", "acme2"], "acme2")] {
        office.refused(4, "approvals-wanting", arguments);
        let id = office.id();
        say_it_began(&office, &id).await;
        let before = office.stored();
        office.refused(4, "approvals-wanting", arguments);
        assert_eq!((office.stored(), office.plan()["state"].as_str()), (before, Some("waiting")));
        office.done(&["approve", &id, "--tenant", tenant, "--key", "ann"]);
        let code = office.run(arguments).0;
        assert_eq!(code, if tenant == "acme" { 3 } else { 0 }, "signed by two it is carried out");
        if tenant == "acme" {
            assert_eq!(office.plan()["state"], "begun");
            office.lockers.vault.plan(id.parse().unwrap()).await.unwrap();
            // Out of the way of the next one.
            std::fs::remove_dir_all(office.folder().join(format!("vault/plans/{id}"))).unwrap();
        }
    }
}

/// A rewrap that was carried out but for its last word.
fn interrupted_rewrap(office: &Office) -> (String, PathBuf) {
    let rewrap = ["keys", "rewrap", "acme", "--identity", "recovery-kit.txt"];
    office.refused(4, "approvals-wanting", &rewrap);
    let id = office.id();
    office.done(&["approve", &id, "--tenant", "acme", "--key", "ann"]);
    office.done(&rewrap);
    let folder = office.folder().join(format!("vault/plans/{id}"));
    for file in ["ended.json", "ended.json.sig"] {
        std::fs::remove_file(folder.join(file)).unwrap();
    }
    assert_eq!(office.plan()["state"], "begun");
    (id, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_began_goes_on_with_its_signatures_and_with_the_keys_that_it_names() {
    let rewrap = ["keys", "rewrap", "acme", "--identity", "recovery-kit.txt"];
    let office = Office::new().await;
    let (id, folder) = interrupted_rewrap(&office);
    office.done(&rewrap);
    assert_eq!(office.done(&["plans", "show", &id])["state"], "closed");
    // Without those who signed it, nobody knows that it was theirs.
    for file in ["ended.json", "ended.json.sig"] {
        std::fs::remove_file(folder.join(file)).unwrap();
    }
    std::fs::rename(folder.join("approvals"), office.folder().join("approvals")).unwrap();
    office.refused(4, "approvals-wanting", &rewrap);
    std::fs::rename(office.folder().join("approvals"), folder.join("approvals")).unwrap();
    office.done(&rewrap);

    // A key that was made since is nothing that anybody signed for.
    let office = Office::new().await;
    let (id, _) = interrupted_rewrap(&office);
    office.lockers.tenant("acme", at("2026-11-10")).await;
    let before: Vec<_> = office.stored().into_iter().filter(|(path, _)| !path.to_str().unwrap().contains("/plans/")).collect();
    let error = office.refused(4, "approvals-wanting", &rewrap);
    assert_ne!(error["object"].as_str(), Some(&*id), "{error:#}");
    let left: Vec<_> = office.stored().into_iter().filter(|(path, _)| !path.to_str().unwrap().contains("/plans/")).collect();
    assert_eq!(left, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_nobody_signed_hides_no_plan() {
    let office = Office::new().await;
    office.refused(4, "approvals-wanting", &PURGE);
    let id = office.id();
    office.done(&["approve", &id, "--tenant", "acme", "--key", "ann"]);
    let folder = office.folder().join(format!("vault/plans/{id}"));
    let plans = || std::fs::read_dir(folder.parent().unwrap()).unwrap().count();
    for word in ["cancelled.json", "ended.json", "closed.json"] {
        std::fs::write(folder.join(word), "").unwrap();
        is_named(&office, word);
        office.refused(5, "untrusted-plan", &PURGE);
        assert_eq!((plans(), office.plan()["state"].as_str()), (1, Some("ready")), "{word}");
        std::fs::remove_file(folder.join(word)).unwrap();
    }
    assert_eq!(office.run(&PURGE).0, 3);
    for word in ["cancelled.json", "ended.json", "closed.json"] {
        std::fs::write(folder.join(word), "").unwrap();
        is_named(&office, word);
        assert_eq!(office.plan()["state"], "begun", "{word}");
        std::fs::remove_file(folder.join(word)).unwrap();
    }
}
