//! Acts that an operator carries out at once, and by a plan where others must sign.

use serde_json::json;

use super::*;
use crate::harness::{
    postgres::{shared, unique},
    program::Program,
};

impl Office {
    /// Tries, has the plan approved by Ann, and tries again; gives the last answer and the plan.
    fn approved(&self, arguments: &[&str], whom: &[&str], what: &str) -> (i32, Value, String) {
        self.refused(4, "approvals-wanting", arguments);
        let plan = self.plan();
        let id = plan["plan"].as_str().unwrap().to_owned();
        assert!(plan["what"].as_str().unwrap().contains(what), "{plan:#}");
        let mut words = vec!["approve", &id];
        words.extend(whom);
        words.extend(["--key", "ann"]);
        self.done(&words);
        let (code, document) = self.run(arguments);
        let shown = self.done(&["plans", "show", &id]);
        assert_eq!(shown["state"], if code == 0 { "closed" } else { "begun" }, "{shown:#}");
        (code, document, id)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_waits_and_ends_the_holds_that_were_signed() {
    let office = Office::new().await;
    let hold = |reason| office.done(&["hold", "acme", "--reason", reason])["hold"].as_str().unwrap().to_owned();
    let first = hold("a law suit");
    let (code, released, plan) = office.approved(&["release", "acme"], &["--tenant", "acme"], "release holds of tenant acme");
    assert_eq!((code, &released["released"]), (0, &json!([first])), "{released:#}");
    assert!(office.folder().join(format!("vault/plans/{plan}/ended.json.sig")).exists());
    // A plan of one hold is none of two.
    let second = hold("another");
    office.refused(4, "approvals-wanting", &["release", "acme"]);
    let plan = office.id();
    office.done(&["approve", &plan, "--tenant", "acme", "--key", "ann"]);
    hold("a third");
    office.refused(4, "approvals-wanting", &["release", "acme", "--all"]);
    let (code, released) = office.run(&["release", "acme", "--hold", &second]);
    assert_eq!((code, &released["released"]), (0, &json!([second])), "the plan of that one is signed: {released:#}");
    office.refused(4, "on-hold", &PURGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_was_interrupted_is_finished() {
    let office = Office::new().await;
    office.done(&["hold", "acme", "--reason", "a law suit"]);
    office.done(&["hold", "acme", "--reason", "another"]);
    office.refused(4, "approvals-wanting", &["release", "acme", "--all"]);
    let id = office.id();
    office.done(&["approve", &id, "--tenant", "acme", "--key", "ann"]);
    // The first release is written, the second one not.
    let holds = || office.folder().join(format!("vault/t/{}/h", office.acme.locker()));
    let before = files(&holds());
    office.done(&["release", "acme", "--all"]);
    let new: Vec<_> = files(&holds()).into_iter().filter(|path| !before.contains(path)).collect();
    assert_eq!(new.len(), 4, "two releases and their signatures");
    let stem = |path: &Path| path.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
    let lost = stem(&new[0]);
    new.iter().filter(|path| stem(path) == lost).for_each(|path| std::fs::remove_file(path).unwrap());
    for end in ["ended.json", "ended.json.sig"] {
        std::fs::remove_file(office.folder().join(format!("vault/plans/{id}/{end}"))).unwrap();
    }
    // Whoever signed is not asked again, even when that signature counts no more: it did when the release began.
    let now = std::time::SystemTime::now();
    let minutes_ago = |n: u64| now - std::time::Duration::from_secs(n * 60);
    for path in files(&office.folder().join(format!("vault/plans/{id}"))) {
        std::fs::File::options().write(true).open(path).unwrap().set_modified(minutes_ago(4)).unwrap();
    }
    let revoked = chrono::DateTime::<chrono::Utc>::from(minutes_ago(2)).format(",valid-before=\"%Y%m%d%H%M%SZ\"").to_string();
    office.sign_list(3, &may_sign_plans("ann", &revoked, &office.public("ann"))).await;
    let released = office.done(&["release", "acme", "--all"]);
    assert_eq!(released["released"].as_array().unwrap().len(), 1, "{released:#}");
    assert_eq!(office.done(&["plans", "show", &id])["state"], "closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_keys_wait_and_are_of_the_keys_that_were_signed() {
    let office = Office::new().await;
    let repair = ["keys", "repair"];
    let rewrap = ["keys", "rewrap", "--all", "--identity", "recovery-kit.txt"];
    let before = office.stored();
    office.refused(2, "usage", &["keys", "rewrap", "acme", "acme2", "--identity", "recovery-kit.txt"]);
    assert_eq!(office.stored(), before);
    // To whom they are wrapped is a part of the plan.
    let config = std::fs::read_to_string(office.folder().join("tenure.toml")).unwrap();
    let recipients = |more: &str| {
        std::fs::write(office.folder().join("tenure.toml"), config.replace("recipients = [", &format!("recipients = [{more}")))
            .unwrap();
    };
    let (_, cleo) = tenure::seal::RecoveryIdentity::generate();
    recipients(&format!("\"{cleo}\", "));
    office.refused(4, "approvals-wanting", &rewrap);
    let plan = office.id();
    let shown = office.done(&["plans", "show", &plan]);
    assert!(shown["details"].to_string().contains(&cleo) && shown["tenant"].is_null(), "{shown:#}");
    office.refused(4, "another-tenant", &["approve", &plan, "--tenant", "acme", "--key", "ann"]);
    office.done(&["approve", &plan, "--all", "--key", "ann"]);
    let (_, dave) = tenure::seal::RecoveryIdentity::generate();
    recipients(&format!("\"{dave}\", "));
    office.refused(4, "approvals-wanting", &rewrap);
    recipients(&format!("\"{cleo}\", "));
    // A tenant that came since is no part of it; the others are.
    office.lockers.tenant("late", at("2026-11-05")).await;
    let done = office.done(&rewrap);
    let whose: Vec<&str> = done["results"].as_array().unwrap().iter().map(|result| result["tenant"].as_str().unwrap()).collect();
    assert_eq!(whose, ["acme", "acme2"], "{done:#}");
    assert_eq!(office.done(&["plans", "show", &plan])["state"], "closed");
    for plan in office.done(&["plans", "list"])["plans"].as_array().unwrap() {
        if plan["state"] == "waiting" {
            office.done(&["plans", "cancel", plan["plan"].as_str().unwrap()]);
        }
    }
    // What is put back, object by object.
    let (_, nothing) = office.run(&repair);
    assert_eq!(nothing["put_back"], json!([]), "{nothing:#}");
    let lost: Vec<_> = files(&office.folder().join("keyring/k")).into_iter().take(1).collect();
    let bytes = std::fs::read(&lost[0]).unwrap();
    std::fs::remove_file(&lost[0]).unwrap();
    let (_, repaired, _) = office.approved(&repair, &["--all"], "put lost copies of keys back");
    assert_eq!(repaired["put_back"].as_array().unwrap().len(), 1, "{repaired:#}");
    assert_eq!(std::fs::read(&lost[0]).unwrap(), bytes);
}

/// With a server, because new keys are made under its lock, and databases are admitted that it has.
#[test]
fn a_rotation_and_an_admission_wait_as_well() {
    let (server, program) = (shared(), Program::set_up(shared(), &format!("{}_{{tenant}}", unique("approve"))));
    let config = std::fs::read_to_string(program.path("tenure.toml")).unwrap();
    let pattern = config.lines().find_map(|line| line.strip_prefix("databases = \"")).unwrap().trim_end_matches('"').to_owned();
    let database = pattern.replace("{tenant}", "acme");
    server.create_database(&database);
    server.sql(&database, "CREATE TABLE t AS SELECT generate_series(1, 10) n");
    program.done(&["backup", "--all"]);
    std::fs::write(program.path("tenure.toml"), format!("{config}\n[approvals]\nadmit = 2\nkeys = 2\n")).unwrap();
    let_ann_in(program.folder());

    let approve = |arguments: &[&str]| {
        let error = program.refused(4, arguments);
        assert_eq!(error["kind"], "approvals-wanting", "{error:#}");
        let id = error["object"].as_str().unwrap().to_owned();
        program.done(&["approve", &id, "--tenant", "acme", "--key", "ann"]);
        id
    };
    let key = |program: &Program| {
        let listed = program.done(&["keys", "list"]);
        listed["keys"].as_array().unwrap().iter().find(|key| key["seals"] == true).unwrap()["key_id"].as_str().unwrap().to_owned()
    };
    let old = key(&program);
    program.done(&["keys", "rotate", "acme", "--dry-run"]);
    approve(&["keys", "rotate", "acme"]);
    assert_eq!(key(&program), old);
    program.done(&["keys", "rotate", "acme"]);
    let new = key(&program);
    assert_ne!(new, old);
    // The plan was of the key that sealed; another rotation is another plan.
    program.refused(4, &["keys", "rotate", "acme"]);
    assert_eq!(key(&program), new);

    // The database is another one now, and then yet another one.
    let another = || {
        server.sql("postgres", &format!("DROP DATABASE \"{database}\""));
        server.create_database(&database);
    };
    another();
    let admit = ["admit", "--source", "acme"];
    let first = approve(&admit);
    another();
    let second = approve(&admit);
    assert_ne!(first, second, "another database is another plan");
    let admitted = program.done(&admit);
    assert_eq!(admitted["admitted"][0]["changed"], true, "{admitted:#}");
    let again = program.done(&admit);
    assert_eq!(again["admitted"][0]["changed"], false, "nothing to sign where nothing changes");
    let state = |id: &str| program.done(&["plans", "show", id])["state"].as_str().unwrap().to_owned();
    assert_eq!((state(&first), state(&second)), ("ready".to_owned(), "closed".to_owned()));
    let audit = program.done(&["audit", "--tenant", "acme"]);
    let acts: Vec<(&str, &str)> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["kind"] == "act")
        .map(|entry| (entry["what"].as_str().unwrap(), entry["outcome"].as_str().unwrap()))
        .collect();
    let expected = [
        ("keys rotate", "refused"),
        ("keys rotate", "done"),
        ("keys rotate", "refused"),
        ("admit", "refused"),
        ("admit", "refused"),
        ("admit", "done"),
    ];
    assert_eq!(acts, expected, "{audit:#}");
}
