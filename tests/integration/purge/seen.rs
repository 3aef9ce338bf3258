//! What purges left is said by those who look at everybody: `expire`, `check`, `verify --all`, `keys check`.

use super::{
    before::{expire, put_back},
    *,
};

/// The findings of `check` with these words, each with its object and hint.
fn checked(lockers: &Lockers, words: &str) -> Vec<String> {
    let (_, document, _) = program(lockers, &["check"]);
    let findings = document["findings"].as_array().unwrap().iter();
    let shown = findings
        .map(|finding| format!("{} {}: {} ({})", finding["level"], finding["object"], finding["message"], finding["hint"]));
    shown.filter(|finding| finding.contains(words)).collect()
}

#[track_caller]
fn one(found: Vec<String>, words: &[&str]) {
    assert_eq!(found.len(), 1, "{found:#?}");
    for words in words {
        assert!(found[0].contains(words), "{words:?} in {found:#?}");
    }
}

/// What `expire` says of open purges: problem and hint of each.
async fn expired(lockers: &Lockers) -> (Option<FailureClass>, Vec<String>) {
    let report = expire(lockers, at("2026-11-06")).await;
    let said = report.problems.iter().filter(|problem| problem.object.contains("/plans/"));
    (
        report.class(),
        said.map(|problem| format!("{:?} {}: {} ({})", problem.tenant, problem.object, problem.problem, problem.hint)).collect(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_is_open_is_named_until_it_is_closed() {
    let (lockers, ..) = three_nights().await;
    assert_eq!(expired(&lockers).await, (None, vec![]));
    assert_eq!(checked(&lockers, "is still open"), Vec::<String>::new());
    let (mirror, away) = (lockers.folder().join("mirror"), lockers.folder().join("away"));
    std::fs::rename(&mirror, &away).unwrap();
    let (code, document, said) = program(&lockers, &["purge", "acme", "--confirm", "acme"]);
    assert_eq!(code, 3, "{document}{said}");
    let plan = document["plan"].as_str().unwrap();
    // No key record says its name any more: what to type is said all the same.
    let (code, document, said) = program(&lockers, &["expire", "--as-of", "2026-11-06T00:00:00Z"]);
    assert_eq!((code, &document["problems"][0]["tenant"]), (3, &serde_json::Value::Null), "{document}{said}");
    let said = document["problems"].as_array().unwrap().iter().map(ToString::to_string).collect();
    one(
        said,
        &[plan, "is still open: a copy of its keys may still be there", "`tenure purge TENANT` goes on with it: TENANT is"],
    );
    std::fs::rename(&away, &mirror).unwrap();
    let (class, said) = expired(&lockers).await;
    assert_eq!(class, Some(FailureClass::SomeTenants), "{said:#?}");
    one(said, &["Some(\"acme\")", plan, "of tenant acme, planned at", "`tenure purge acme` goes on with it"]);
    one(
        checked(&lockers, "is still open"),
        &["error", plan, "of tenant acme, planned at", "`tenure purge acme` goes on with it"],
    );
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
    assert_eq!(expired(&lockers).await, (None, vec![]));
    assert_eq!(checked(&lockers, "is still open"), Vec::<String>::new());

    // So is one of the older backups alone.
    let both = (&lockers.vault, &lockers.keyring);
    let what = ("acme2", What::Before(at("2026-11-03")));
    let young = purge_in(&lockers, both, what, true, at("2026-11-02") + TimeDelta::hours(1)).await.unwrap();
    assert_eq!(young.open[0].kind, "too-young", "{young:?}");
    let words = [
        "taken before 2026-11-03T03:00:00Z of tenant acme2",
        "`tenure purge acme2 --before 2026-11-03T03:00:00Z` goes on with it",
    ];
    let (class, said) = expired(&lockers).await;
    assert_eq!(class, Some(FailureClass::SomeTenants), "{said:#?}");
    one(said, &words);
    one(checked(&lockers, "is still open"), &words);
    purge_in(&lockers, both, what, true, Utc::now() + TimeDelta::days(3)).await.unwrap();
    assert_eq!(expired(&lockers).await.1, Vec::<String>::new());
    assert_eq!(checked(&lockers, "is still open"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_destroyed_keys_that_come_back_are_named_store_by_store() {
    let (lockers, acme, _) = three_nights().await;
    let before = stored(&lockers);
    assert_eq!(purge(&lockers, "acme").await.unwrap().status, PurgeStatus::Closed);
    let (is_its, key) = (of(&lockers, &acme), acme.record.key_id.to_string());
    let named = "`tenure purge acme --returned` destroys it".to_owned();
    // Where no record came back, nothing says the name.
    let unnamed = "`tenure purge TENANT --returned` destroys it: TENANT is the name that was purged at".to_owned();
    for (store, part, hint) in
        [("mirror", "/", &named), ("mirror", "/k/", &unnamed), ("keyring", "/k/", &unnamed), ("keyring", "/", &named)]
    {
        assert_eq!(checked(&lockers, "was to be destroyed"), Vec::<String>::new());
        let whose = |name: &str| name.starts_with(&format!("{store}{part}")) && is_its(name);
        assert!(put_back(&lockers, &before, whose) > 0);
        let said = checked(&lockers, "was to be destroyed");
        one(said, &["error", store, &key, hint]);
        let (code, document, _) = program(&lockers, &["keys", "check"]);
        let problems = document["problems"].as_array().unwrap();
        assert_eq!(code, 5, "{store}{part}: {document}");
        assert!(
            problems.iter().all(|problem| problem["problem"].as_str().unwrap().contains(hint.as_str())),
            "{store}{part}: {document}"
        );
        let both = (&lockers.vault, &lockers.keyring);
        let again = purge_in(&lockers, both, ("acme", What::Returned), true, Utc::now() + TimeDelta::days(3)).await.unwrap();
        assert_eq!(again.status, PurgeStatus::Closed, "{again:?}");
        only_notes_are_left(&lockers, &acme, &before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_is_not_to_be_trusted_is_named_with_what_to_do() {
    for how in ["foreign", "changed", "unsigned"] {
        let (lockers, ..) = three_nights().await;
        let other = Lockers::new().await;
        let theirs = if how == "foreign" { &other } else { &lockers };
        if how == "foreign" {
            let mut tenant = other.tenant("acme", at("2026-11-01")).await;
            other.night(&mut tenant, at("2026-11-01"), &[]).await;
        }
        // Left open.
        let report = purge_in(theirs, (&theirs.vault, &theirs.keyring), ("acme", What::All), false, Utc::now()).await.unwrap();
        let plan = format!("vault/plans/{}", report.plan.unwrap());
        let folder = lockers.folder().join(&plan);
        match how {
            "foreign" => {
                std::fs::create_dir_all(&folder).unwrap();
                for file in ["plan.json", "plan.json.sig"] {
                    std::fs::copy(other.folder().join(&plan).join(file), folder.join(file)).unwrap();
                }
            }
            "changed" => {
                let text = std::fs::read_to_string(folder.join("plan.json")).unwrap();
                std::fs::write(folder.join("plan.json"), text.replace("\"here\"", "\"hero\"")).unwrap();
            }
            _ => std::fs::remove_file(folder.join("plan.json.sig")).unwrap(),
        }
        let (named, what) = (format!("{plan}/plan.json"), format!("{plan}/ away"));
        let (code, document, _) = program(&lockers, &["verify", "--all"]);
        let said: Vec<String> = document["problems"].as_array().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(code, 5, "{how}: {document}");
        one(said, &[&named, "while it is there no tenant is purged", &what]);
        one(checked(&lockers, &named), &["error", &what]);
        let (class, said) = expired(&lockers).await;
        assert_eq!(class, Some(FailureClass::Integrity), "{how}: {said:#?}");
        one(said, &[&named, &what]);
        let stopped = purge(&lockers, "acme2").await.unwrap_err();
        assert_eq!((stopped.class, stopped.kind), (FailureClass::Integrity, "untrusted-plan"), "{how}: {stopped:?}");
        assert!(stopped.hint.contains(&what) && stopped.hint.contains("the purge notes are enough to finish"), "{stopped:?}");

        // Moved away as the hint says, and each purge goes on.
        std::fs::rename(&folder, lockers.folder().join("away")).unwrap();
        assert_eq!(purge(&lockers, "acme2").await.unwrap().status, PurgeStatus::Closed);
        let both = (&lockers.vault, &lockers.keyring);
        purge(&lockers, "acme").await.unwrap();
        let report = purge_in(&lockers, both, ("acme", What::All), true, Utc::now() + TimeDelta::days(3)).await.unwrap();
        assert_eq!(report.status, PurgeStatus::Closed, "{how}: {report:?}");
        assert_eq!(program(&lockers, &["verify", "--all"]).0, 0, "{how}");
        assert_eq!(checked(&lockers, "/plans/"), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_the_eraser_did_not_sign_is_named() {
    let (lockers, ..) = three_nights().await;
    let both = (&lockers.vault, &lockers.keyring);
    let report = purge_in(&lockers, both, ("acme", What::All), false, Utc::now()).await.unwrap();
    let mark = format!("vault/plans/{}/{}", report.plan.unwrap(), Step::Closed.file());
    std::fs::write(lockers.folder().join(&mark), "{}").unwrap();
    let (code, document, _) = program(&lockers, &["verify", "--all"]);
    let said: Vec<String> = document["problems"].as_array().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(code, 5, "{document}");
    one(said, &[&mark, "move both away"]);
}
