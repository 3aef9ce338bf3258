//! Who did what, and who was refused, by the signed records of the vault.

use std::sync::Arc;

use serde_json::Value;
use tenure::store::{
    StoreErrorKind,
    fault::{Fault, FaultStore, Operation},
};

use crate::{
    harness::{
        locker::{Lockers, at},
        postgres::{shared, unique},
        program::{Program, run_in},
        site::walk as files,
    },
    purge::{lockers_store, purge_in, stored},
};

async fn two_tenants() -> Lockers {
    let lockers = Lockers::new().await;
    for name in ["acme", "acme2"] {
        let mut tenant = lockers.tenant(name, at("2026-11-01")).await;
        lockers.night(&mut tenant, at("2026-11-01"), &[]).await;
    }
    lockers
}

fn run(lockers: &Lockers, arguments: &[&str]) -> (i32, Value) {
    run_in(lockers.folder(), arguments)
}

/// The acts that the audit lists: command, outcome, reason, tenants.
fn acts(document: &Value) -> Vec<String> {
    let entries = document["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "act");
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let tenants = |entry: &Value| entry["tenants"].as_array().unwrap().iter().map(&text).collect::<Vec<_>>().join("+");
    entries
        .map(|entry| [text(&entry["what"]), text(&entry["outcome"]), text(&entry["reason"]), tenants(entry)].join(" "))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_act_and_every_refusal_is_listed_with_who_signed_it() {
    let lockers = two_tenants().await;
    for (code, arguments) in [
        (0, &["hold", "acme", "--reason", "a secret of acme"][..]),
        (4, &["purge", "acme", "--confirm", "acme"]),
        (4, &["purge", "acme", "--confirm", "acme", "--dry-run"]),
        (0, &["release", "acme"]),
        (1, &["release", "acme"]),
        (4, &["purge", "acme", "--confirm", "acme2"]),
        (4, &["purge", "acme"]),
        (3, &["purge", "acme", "--confirm", "acme"]),
        (4, &["hold", "acme", "--reason", "too late"]),
        (4, &["keys", "rotate", "acme"]),
        (4, &["purge", "acme2"]),
    ] {
        let (found, document) = run(&lockers, arguments);
        assert_eq!(found, code, "{arguments:?}: {document:#}");
    }
    let (code, audit) = run(&lockers, &["audit"]);
    assert_eq!((code, &audit["bad"], &audit["leftovers"]), (0, &0.into(), &serde_json::json!([])), "{audit:#}");
    // The keyring knows the purged tenant no more: only its tag is left.
    let found = acts(&audit);
    let expected = [
        "hold done - ",
        "purge refused on-hold ",
        "release done - ",
        "purge refused not-confirmed ",
        "purge refused not-confirmed ",
        "purge begun - ",
        "purge open - ",
        "hold refused tenant-purged ",
        "keys rotate refused tenant-purged ",
        "purge refused not-confirmed acme2",
    ];
    assert_eq!(found, expected, "{audit:#}");
    // Whoever knows the name can ask for it.
    let (_, acme) = run(&lockers, &["audit", "--tenant", "acme"]);
    let expected: Vec<String> = expected[..9].iter().map(|act| format!("{act}acme")).collect();
    assert_eq!(acts(&acme), expected, "{acme:#}");
    let kinds = |document: &Value, kind: &str| {
        let entries = document["entries"].as_array().unwrap().iter();
        entries
            .filter(|entry| entry["kind"] == kind)
            .map(|entry| entry["principal"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(&acme, "plan"), ["operator@test"], "{acme:#}");
    assert_eq!(kinds(&acme, "note"), ["eraser@test"], "{acme:#}");
    assert!(kinds(&acme, "step").iter().all(|who| who == "eraser@test") && !kinds(&acme, "step").is_empty());
    let (_, other) = run(&lockers, &["audit", "--tenant", "acme2"]);
    assert_eq!(acts(&other), ["purge refused not-confirmed acme2"], "{other:#}");
    assert_eq!(acts(&run(&lockers, &["audit", "--tenant", "nobody"]).1), Vec::<String>::new());
    // Since a time; and in no record a name or a word of anybody.
    let entries = audit["entries"].as_array().unwrap();
    let times: Vec<&str> = entries.iter().map(|entry| entry["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let last = entries.iter().rfind(|entry| entry["kind"] == "act").unwrap()["at"].as_str().unwrap();
    let (_, since) = run(&lockers, &["audit", "--since", last]);
    assert_eq!(acts(&since), [*expected.last().map(|_| &"purge refused not-confirmed acme2").unwrap()], "{since:#}");
    for file in files(&lockers.folder().join("vault/runs")) {
        let text = String::from_utf8(std::fs::read(&file).unwrap()).unwrap();
        assert!(!text.contains("acme") && !text.contains("secret") && !text.contains("too late"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_changed_is_named_and_a_lost_one_is_seen() {
    let lockers = two_tenants().await;
    run(&lockers, &["hold", "acme", "--reason", "x"]);
    run(&lockers, &["purge", "acme2"]);
    let records: Vec<_> = files(&lockers.folder().join("vault/runs"))
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    assert_eq!(records.len(), 2);
    let whole = std::fs::read_to_string(&records[0]).unwrap();
    for spoil in [
        &|| std::fs::write(&records[0], whole.replace("\"objects\":0", "\"objects\":1").replace("refused", "open")).unwrap() as _,
        &|| std::fs::write(&records[0], "{}").unwrap(),
        &|| std::fs::remove_file(format!("{}.sig", records[0].display())).unwrap(),
    ] as [&dyn Fn(); 3]
    {
        spoil();
        for arguments in [&["audit"][..], &["audit", "--tenant", "acme"], &["audit", "--tenant", "acme2"]] {
            let (code, audit) = run(&lockers, arguments);
            let bad: Vec<&Value> =
                audit["entries"].as_array().unwrap().iter().filter(|entry| !entry["problem"].is_null()).collect();
            assert_eq!(
                (code, bad.len(), &audit["bad"]),
                (5, 1, &1.into()),
                "whose it was is not known: {arguments:?}: {audit:#}"
            );
            assert!(bad[0]["object"].as_str().unwrap().contains("/runs/"), "{audit:#}");
        }
        assert_eq!(run(&lockers, &["audit", "--since", "2099-01-01T00:00:00Z"]).0, 0);
    }
    std::fs::remove_file(&records[1]).unwrap();
    let (_, audit) = run(&lockers, &["audit"]);
    assert_eq!(audit["leftovers"].as_array().unwrap().len(), 1, "{audit:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_destroyed_that_cannot_be_written_down() {
    let lockers = two_tenants().await;
    let before = stored(&lockers);
    let store = async |name: &str| lockers_store(&lockers, name).await;
    let vault = Arc::new(FaultStore::new(store("vault").await));
    vault.fail(Operation::Put, "runs/", 1, Fault::Refused(StoreErrorKind::Denied));
    let (vault, keyring) = lockers.through(vault, store("keyring").await, vec![store("mirror").await]).await;
    let failed =
        purge_in(&lockers, (&vault, &keyring), ("acme", tenure::operation::purge::What::All), true, chrono::Utc::now()).await;
    assert_eq!(failed.unwrap_err().kind, "store-denied");
    let after = stored(&lockers);
    for (name, bytes) in &before {
        assert_eq!(after.get(name), Some(bytes), "{name}");
    }
}

/// With a server: what was restored, whatever became of it; and one that nobody can write down is restored all the same.
#[test]
fn restores_are_recorded_and_go_on_where_they_cannot_be() {
    let (server, stem) = (shared(), unique("audit"));
    let program = Program::set_up(server, &format!("{stem}_{{tenant}}"));
    let database = format!("{stem}_acme");
    server.create_database(&database);
    server.sql(&database, "CREATE TABLE t AS SELECT generate_series(1, 10) n");
    program.done(&["backup", "--all"]);
    let backup = program.done(&["list", "acme"])["backups"][0]["id"].as_str().unwrap().to_owned();
    let restore = |into: &str| ["restore", "acme", "--identity", "recovery-kit.txt", "--into", into].map(str::to_owned);
    let copy = format!("{stem}_copy");
    let words = restore(&copy);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // A file lies where the records should go.
    std::fs::write(program.path("vault/runs"), "").unwrap();
    let restored = program.done(&words);
    let notes = restored["notes"].to_string();
    assert!(notes.contains("this restore could not be recorded under runs/"), "{notes}");
    std::fs::remove_file(program.path("vault/runs")).unwrap();
    program.refused(1, &words);
    server.sql("postgres", &format!("DROP DATABASE \"{copy}\""));
    program.done(&words);
    server.sql("postgres", &format!("DROP DATABASE \"{copy}\""));
    program.run(&["restore", "--all", "--identity", "recovery-kit.txt"]);
    program.run(&["purge", "acme", "--confirm", "acme"]);
    program.refused(4, &words);
    let audit = program.done(&["audit", "--tenant", "acme"]);
    let found: Vec<String> = acts(&audit).into_iter().filter(|act| act.starts_with("restore")).collect();
    let expected = [
        "restore failed name-taken acme",
        "restore done - acme",
        "restore failed name-taken acme",
        "restore refused tenant-purged acme",
    ];
    assert_eq!(found, expected, "{audit:#}");
    let records = files(&program.path("vault/runs")).into_iter().filter(|path| path.extension().is_some_and(|end| end == "json"));
    let naming = records.filter(|path| std::fs::read_to_string(path).unwrap().contains(&backup)).count();
    assert!(naming >= 3, "the record says which backup: {naming}");
}
