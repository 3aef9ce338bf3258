//! `init --join`: a host of an installation that is there, with nothing but the recovery kit.

use std::{fs, process::Command};

use crate::harness::{
    postgres::{shared, unique},
    program::Program,
};

#[test]
fn a_new_host_reads_at_once_and_writes_when_an_operator_says_so() {
    let cluster = shared();
    let stem = unique("join");
    cluster.create_database(&format!("{stem}_acme"));
    cluster.sql(&format!("{stem}_acme"), "CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n");
    let pattern = format!("{stem}_{{tenant}}");
    let first = Program::set_up(cluster, &pattern);
    first.done(&["backup", "acme"]);

    let kit = first.path("recovery-kit.txt").display().to_string();
    let connection = format!("here={}", cluster.description());
    let words = ["init", "--join", "--kit", &kit, "--cluster", &connection, "--databases", &pattern];
    let second = Program::new();
    let report = second.done(&words);
    assert_eq!((&report["signed"], &report["signers_file"]), (&false.into(), &"signers-2".into()), "{report:#}");
    assert!(!second.path("keys/operator").exists() && !second.path("recovery-kit.txt").exists());
    assert_eq!(second.done(&["verify", "--all", "--identity", &kit])["checked"]["manifests"], 1);
    let refused = second.run(&["backup", "acme"]);
    assert_ne!(refused.0, 0, "its key does not count yet: {:#}", refused.1);
    assert_eq!(first.done(&["list", "acme"])["backups"].as_array().unwrap().len(), 1);

    // As it told the operator.
    let (vault, operator) = (first.path("vault/signers"), first.path("keys/operator"));
    let signed = Command::new("ssh-keygen")
        .args(["-Y", "sign", "-n", "tenure-root", "-f"])
        .arg(&operator)
        .arg(second.path("signers-2"))
        .output()
        .unwrap();
    assert!(signed.status.success(), "{signed:?}");
    fs::copy(second.path("signers-2.sig"), vault.join("2.sig")).unwrap();
    fs::copy(second.path("signers-2"), vault.join("2")).unwrap();
    second.done(&["backup", "acme"]);
    first.done(&["backup", "acme"]);
    assert_eq!(first.done(&["verify", "--all", "--identity", &kit])["checked"]["manifests"], 3);

    // With the operator's key at hand, at once.
    let third = Program::new();
    let operator = operator.display().to_string();
    let report = third.done(&[&words[..], &["--operator", &operator]].concat());
    assert_eq!(report["signed"], true);
    third.done(&["backup", "acme"]);
    let copy = format!("{stem}_copy");
    third.done(&["restore", "acme", "--identity", &kit, "--into", &copy]);
    assert_eq!(cluster.sql(&copy, "SELECT count(*) FROM t").trim(), "1000");
}

#[test]
fn anothers_operator_cannot_spoil_an_installation_and_the_kit_may_lie_in_place() {
    let (first, other, host) = (Program::new(), Program::new(), Program::new());
    for program in [&first, &other] {
        let words = program.init("host=/tmp", "tenant_{tenant}");
        program.done(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    // As after a disaster: the kit and the operator's key are all there is, and lie where `init` put them.
    fs::copy(first.path("recovery-kit.txt"), host.path("recovery-kit.txt")).unwrap();
    fs::create_dir(host.path("keys")).unwrap();
    fs::copy(first.path("keys/operator"), host.path("keys/operator")).unwrap();
    let join =
        ["init", "--join", "--kit", "recovery-kit.txt", "--cluster", "a=host=/tmp", "--databases", "x_{tenant}", "--operator"];
    let wrong = other.path("keys/operator").display().to_string();
    assert_eq!(host.refused(4, &[&join[..], &[&wrong]].concat())["kind"], "key-not-allowed");
    assert!(!first.path("vault/signers/2").exists() && !host.path("tenure.toml").exists());
    first.done(&["verify", "--all"]);
    assert_eq!(host.done(&[&join[..], &["keys/operator"]].concat())["signed"], true);
    first.done(&["verify", "--all"]);
}

#[test]
fn what_is_no_kit_and_what_is_another_ones() {
    let (first, other, third) = (Program::new(), Program::new(), Program::new());
    for program in [&first, &other] {
        let words = program.init("host=/tmp", "tenant_{tenant}");
        program.done(&words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let join =
        |kit: &str| ["init", "--join", "--kit", kit, "--cluster", "a=host=/tmp", "--databases", "x_{tenant}"].map(str::to_owned);
    let refused = |code, kit: &str| third.refused(code, &join(kit).iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(refused(2, "missing.txt")["kind"], "bad-kit");
    assert_eq!(refused(2, first.path("tenure.toml").to_str().unwrap())["kind"], "bad-kit");
    // The kit of one installation, and the stores of the other.
    let kit = fs::read_to_string(first.path("recovery-kit.txt")).unwrap();
    let crossed = kit.replace(first.folder().to_str().unwrap(), other.folder().to_str().unwrap());
    fs::write(first.path("crossed.txt"), crossed).unwrap();
    refused(5, first.path("crossed.txt").to_str().unwrap());
    assert_eq!(fs::read_dir(third.folder()).unwrap().count(), 0, "what was refused leaves nothing");
}
