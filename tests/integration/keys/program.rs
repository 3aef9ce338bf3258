//! The program: somebody leaves, somebody comes, and a tenant gets a new key.

use std::{collections::BTreeMap, process::Command};

use secrecy::ExposeSecret as _;
use serde_json::json;
use tenure::{
    postgres::{
        LibpqEnvironment, Target,
        lock::{self, TenantLock},
    },
    seal::RecoveryIdentity,
};

use crate::harness::{
    postgres::{shared, unique},
    program::Program,
    site::walk,
};

/// Somebody's identity file below the folder, and the recipient.
fn person(program: &Program, name: &str) -> String {
    let (secret, recipient) = RecoveryIdentity::generate();
    std::fs::write(program.path(name), format!("# {name}\n{}\n", secret.expose_secret())).unwrap();
    recipient
}

#[test]
fn somebody_leaves_and_somebody_comes() {
    let (server, stem, program) = (shared(), unique("leave"), Program::new());
    let (ann, bob, cleo) = (person(&program, "ann"), person(&program, "bob"), person(&program, "cleo"));
    let mut init = program.init(&server.description(), &format!("{stem}_{{tenant}}"));
    for words in
        [["--recipient", &ann], ["--recipient", &bob], ["--mirror", &format!("file://{}", program.path("mirror").display())]]
    {
        init.extend(words.map(str::to_owned));
    }
    program.done(&init.iter().map(String::as_str).collect::<Vec<_>>());
    let database = format!("{stem}_acme");
    server.create_database(&database);
    server.sql(&database, "CREATE TABLE t AS SELECT n, repeat(md5(n::text), 5) FROM generate_series(1, 5000) n");
    program.done(&["backup", "--all"]);
    let first = program.done(&["list", "acme"])["backups"][0]["id"].as_str().unwrap().to_owned();

    // Ann leaves, Cleo comes.
    let config = std::fs::read_to_string(program.path("tenure.toml")).unwrap();
    assert!(config.contains(&ann) && config.contains(&bob), "{config}");
    std::fs::write(program.path("tenure.toml"), config.replace(&ann, &cleo)).unwrap();
    let planned = program.done(&["keys", "rewrap", "--all", "--identity", "ann", "--dry-run"]);
    assert_eq!((&planned["results"][0]["outcome"], &planned["run"]), (&json!("planned"), &json!(null)), "{planned:#}");
    program.refused(2, &["keys", "rewrap", "--all", "--identity", "nobody"]);
    program.refused(1, &["keys", "rewrap", "nobody", "--identity", "ann"]);
    let (code, failed) = program.run(&["keys", "rewrap", "acme", "--identity", "cleo"]);
    assert_eq!((code, &failed["results"][0]["error"]["kind"]), (1, &json!("wrong-identity")), "{failed:#}");
    let done = program.done(&["keys", "rewrap", "acme", "--identity", "ann"]);
    assert_eq!(done["results"][0]["outcome"], "done", "{done:#}");
    let listed = program.done(&["keys", "list"]);
    assert_eq!(listed["keys"][0]["wrapping"], 2, "{listed:#}");
    let mut now = [bob.as_str(), cleo.as_str()];
    now.sort_unstable();
    assert_eq!(listed["keys"][0]["wrapped_to"], json!(now), "{listed:#}");
    let halves = || walk(program.folder()).into_iter().filter(|path| path.extension().is_some_and(|e| e == "age"));
    assert_eq!(halves().count(), 2);
    for half in halves() {
        for (who, opens) in [("ann", false), ("bob", true), ("cleo", true)] {
            // With age itself.
            let age = Command::new("age").arg("-d").arg("-i").arg(program.path(who)).arg(&half).output().unwrap();
            assert_eq!(age.status.success(), opens, "{who} {half:?}");
            assert_eq!(age.stdout.starts_with(b"AGE-SECRET-KEY-1"), opens);
        }
    }
    let restore = |who: &str, backup: &str, into: &str| {
        let into = format!("{stem}_{into}");
        let answer = program.run(&["restore", "acme", "--backup", backup, "--into", &into, "--identity", who]);
        if answer.0 == 0 {
            server.sql("postgres", &format!("DROP DATABASE \"{into}\""));
        }
        answer
    };
    assert_eq!(restore("ann", &first, "x1").0, 1);
    assert_eq!(restore("cleo", &first, "x2").0, 0);

    // A new key: the next backup is whole, and both can be read.
    let rotated = program.done(&["keys", "rotate", "acme"]);
    assert_eq!(rotated["results"][0]["replaces"], listed["keys"][0]["key_id"], "{rotated:#}");
    let (code, text, _) = program.say(&["keys", "rotate", "acme", "--dry-run"]);
    assert!(code == 0 && text.contains("planned"), "{text}");
    let night = program.done(&["backup", "acme"]);
    assert_eq!(night["results"][0]["chunks_reused"], 0, "{night:#}");
    let second = night["results"][0]["backup"].as_str().unwrap().to_owned();
    for (backup, into) in [(&first, "x3"), (&second, "x4")] {
        let (code, report) = restore("cleo", backup, into);
        assert_eq!((code, &report["proven"]), (0, &json!(true)), "{report:#}");
    }
    program.done(&["verify", "--all", "--identity", "cleo"]);
    let checked = program.done(&["keys", "check", "--identity", "cleo"]);
    assert_eq!((&checked["keys"], &checked["superseded"]), (&json!(2), &json!([])), "{checked:#}");

    // Somebody is at work on the tenant.
    let root: serde_json::Value = serde_json::from_slice(&std::fs::read(program.path("keyring/keyring.json")).unwrap()).unwrap();
    let installation = root["installation"].as_str().unwrap().parse().unwrap();
    let environment = LibpqEnvironment { home: None, user: "nobody".to_owned(), variables: BTreeMap::new() };
    let target = Target::parse(&server.description(), &environment).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let lock = runtime.block_on(TenantLock::acquire(&target, &installation, &"acme".parse().unwrap(), &[], lock::WAIT)).unwrap();
    let (code, busy) = program.run(&["keys", "rotate", "acme"]);
    assert_eq!((code, &busy["results"][0]["outcome"]), (6, &json!("busy")), "{busy:#}");
    drop((lock, runtime));

    // No keys, no fleet: said before anything is done.
    let config = std::fs::read_to_string(program.path("tenure.toml")).unwrap();
    let without: String =
        config.lines().filter(|line| !line.starts_with("operator = ")).map(|line| format!("{line}\n")).collect();
    assert_ne!(config, without);
    std::fs::write(program.path("tenure.toml"), without).unwrap();
    program.refused(2, &["keys", "rotate", "acme"]);
    program.refused(2, &["keys", "rewrap", "--all", "--identity", "cleo"]);
    program.refused(2, &["keys", "rotate"]);
}
