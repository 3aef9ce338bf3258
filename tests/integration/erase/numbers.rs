//! What is erased is known by its number: not by plans of earlier drops, not by who dropped it, and until the last word of the erasure.

use std::fs;

use serde_json::{Value, json};

use crate::{
    approvals,
    drop::Site,
    harness::{
        postgres::{Options, Replica},
        program::Program,
        site::walk,
    },
};

fn kinds(report: &Value) -> Vec<&str> {
    report["open"].as_array().unwrap().iter().map(|open| open["kind"].as_str().unwrap()).collect()
}

fn has(server: &Replica, database: &str) -> bool {
    !server.sql("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = '{database}'")).trim().is_empty()
}

/// The plan that `reconcile` made for the one database that came back.
fn planned(program: &Program) -> String {
    let (code, report) = program.run(&["reconcile"]);
    assert_eq!((code, report["found"].as_array().map(Vec::len)), (3, Some(1)), "{report:#}");
    assert_eq!(report["found"][0]["why"], "returned", "{report:#}");
    report["found"][0]["plan"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_put_back_before_the_end_keeps_an_erasure_open() {
    let site = Site::new(&Options::default(), &["acme", "globex"]);
    let program = &site.program;
    let (mirror, away) = (program.path("mirror"), program.path("mirror.away"));
    fs::create_dir(&mirror).unwrap();
    site.configure("[keyring]\n", &format!("[keyring]\nmirrors = [{{ url = \"file://{}\" }}]\n", mirror.display()));
    program.done(&["keys", "repair"]);
    let kept = site.cluster.base_backup("kept");
    fs::rename(&mirror, &away).unwrap();
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!((code, site.state("acme")), (3, None), "{report:#}");
    // A server from before, while a key copy cannot be reached.
    let old = site.put_in_place(kept);
    let plan = planned(program);
    assert_eq!(planned(program), plan, "it is named each time");
    fs::rename(&away, &mirror).unwrap();
    let (code, report) = site.erase("acme", &[]);
    assert!(code == 3 && kinds(&report).contains(&"returned"), "{report:#}");
    let certificate = report["certificate"].as_str().unwrap().to_owned();
    assert_ne!(program.done(&["certificate", "show", &certificate])["certificate"]["stage"], "closed");
    program.done(&["drop", "acme", "--plan", &plan, "--confirm", "acme"]);
    assert!(!has(&old, "tenant_acme") && has(&old, "tenant_globex"));
    let (code, report) = site.erase("acme", &[]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    program.done(&["certificate", "verify", &certificate]);
}

/// What came back of the old customer, and the new one with his name.
#[test]
fn a_new_customer_is_not_taken_for_what_came_back() {
    let site = Site::new(&Options::default(), &["acme"]);
    let program = &site.program;
    let kept = site.cluster.base_backup("kept");
    assert_eq!(site.erase("acme", &["--skip-grace"]).0, 0);
    program.done(&["admit", "--new", "acme"]);
    site.create("acme");
    program.done(&["backup", "--all"]);
    let (old, new) = (site.cluster.put_back(kept), site.oid("acme"));
    let there = format!("\n[cluster.there]\nprimary = \"{}\"\ndatabases = \"tenant_{{tenant}}\"\n", old.description());
    let file = program.path("tenure.toml");
    let alone = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{alone}{there}")).unwrap();
    let plan = planned(program);

    // The same line twice drops once.
    for _ in 0..2 {
        program.done(&["drop", "acme", "--plan", &plan, "--confirm", "acme"]);
        assert!(!has(&old, "tenant_acme"));
        assert_eq!((site.state("acme"), site.oid("acme")), (Some(true), new.clone()));
    }

    // A plan that waits is not what an erasure of the new one drops.
    old.stop("fast");
    fs::remove_dir_all(program.path(&format!("vault/plans/{plan}"))).unwrap();
    fs::write(&file, &alone).unwrap();
    let again = site.cluster.base_backup("again");
    assert_eq!(site.erase("acme", &["--skip-grace"]).0, 0);
    program.done(&["admit", "--new", "acme"]);
    site.create("acme");
    program.done(&["backup", "--all"]);
    let (old, newest) = (site.cluster.put_back(again), site.oid("acme"));
    let there = format!("\n[cluster.there]\nprimary = \"{}\"\ndatabases = \"tenant_{{tenant}}\"\n", old.description());
    fs::write(&file, format!("{alone}{there}")).unwrap();
    planned(program);
    fs::write(&file, &alone).unwrap();
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!((code, &report["status"], site.state("acme")), (0, &json!("closed"), None), "{report:#}");
    let certificate = program.done(&["certificate", "show", report["certificate"].as_str().unwrap()]);
    let databases = &certificate["certificate"]["live"]["databases"];
    assert_eq!((&databases[0]["database_oid"].to_string(), databases.as_array().unwrap().len()), (&newest, 1), "{databases:#}");
    assert!(has(&old, "tenant_acme"), "it was closed, and waits for its own plan");
}

#[test]
fn a_drop_that_waits_is_not_where_a_tenant_lives_since() {
    let site = Site::new(&Options::default(), &["acme"]);
    let program = &site.program;
    approvals::let_ann_in(program.folder());
    site.configure("[cluster.here]\n", "[approvals]\ndrop = 2\n\n[cluster.here]\n");
    assert_eq!(program.refused(4, &["drop", "acme", "--confirm", "acme"])["kind"], "approvals-wanting");
    program.done(&["restore", "acme", "--replace", "--identity", "recovery-kit.txt"]);
    program.done(&["backup", "--all"]);
    let aside = "SELECT datname FROM pg_database WHERE datname LIKE 'tenure_replaced_%'";
    let aside = site.cluster.sql("postgres", aside);
    site.cluster.sql("postgres", &format!("DROP DATABASE \"{}\"", aside.trim()));
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!((code, &report["status"], site.state("acme")), (0, &json!("closed"), None), "{report:#}");
}

/// Gone is gone, whoever dropped it; and the replicas are asked all the same.
#[test]
fn what_somebody_dropped_by_hand_is_erased_as_well() {
    let site = Site::new(&Options { replicas: 1, ..Options::default() }, &["acme", "globex"]);
    site.configure("replica_wait = \"30s\"", "replica_wait = \"1s\"");
    let drop = |tenant: &str| site.cluster.sql("postgres", &format!("DROP DATABASE tenant_{tenant}"));
    drop("acme");
    site.cluster.wait_for_replicas();
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    let states: Vec<&str> = report["nodes"].as_array().unwrap().iter().map(|node| node["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["absent", "absent"], "{report:#}");

    // While an erasure is open, and where a replica still has it.
    let replica = &site.cluster.replicas[0];
    site.cluster.stop("fast");
    assert_eq!(site.erase("globex", &["--skip-grace"]).0, 3);
    site.cluster.start_again();
    replica.sql("postgres", "SELECT pg_wal_replay_pause()");
    drop("globex");
    let (code, report) = site.erase("globex", &[]);
    assert!(code == 3 && kinds(&report).contains(&"paused"), "{report:#}");
    let primary = |report: &Value| {
        let shown = site.program.done(&["certificate", "show", report["certificate"].as_str().unwrap()]);
        shown["certificate"]["live"]["nodes"][0].clone()
    };
    let dropped = primary(&report);
    assert!(dropped["drop_lsn"].is_string(), "{dropped:#}");
    replica.sql("postgres", "SELECT pg_wal_replay_resume()");
    site.cluster.wait_for_replicas();
    let (code, report) = site.erase("globex", &[]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    assert_eq!(primary(&report), dropped, "it was dropped once, and asked twice");
    site.program.done(&["certificate", "verify", report["certificate"].as_str().unwrap()]);
}

/// An older vault says that nothing is destroyed yet.
#[test]
fn nobody_withdraws_what_has_destroyed_its_keys() {
    let site = Site::new(&Options::default(), &["acme"]);
    let program = &site.program;
    assert_eq!(site.erase("acme", &[]).0, 3);
    let keys = walk(&program.path("keyring/k"));
    let kept: Vec<_> = keys.iter().map(|path| (path, fs::read(path).unwrap())).collect();
    keys.iter().for_each(|path| fs::remove_file(path).unwrap());
    assert_eq!(site.refused(&["erase", "acme", "--undo", "--confirm", "acme"]), "too-late");
    kept.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
    assert_eq!((site.erase("acme", &["--undo"]).0, site.state("acme")), (0, Some(true)));
}

/// The keyring's tombstones say that nothing is lost.
#[test]
fn an_older_vault_with_backups_of_the_erased_stops_nobody_else() {
    let site = Site::new(&Options::default(), &["acme", "globex"]);
    let program = &site.program;
    let (vault, old) = (program.path("vault"), program.path("vault.old"));
    super::copy(&vault, &old);
    assert_eq!(site.erase("acme", &["--skip-grace"]).0, 0);
    fs::remove_dir_all(&vault).unwrap();
    fs::rename(&old, &vault).unwrap();
    // The tombstone that the vault lacks is an alarm, once.
    assert_eq!(program.run(&["reconcile"]).0, 5);
    let (code, outcome, _) = site.outcome("globex");
    assert_eq!((code, outcome.as_str()), (0, "done"));
    let (_, checked) = program.run(&["check"]);
    assert!(checked.to_string().contains("holds backups of an erased tenant"), "{checked:#}");
    for command in
        [&["restore", "acme", "--into", "acme_copy", "--identity", "recovery-kit.txt"][..], &["purge", "acme", "--dry-run"]]
    {
        assert_ne!(program.run(command).0, 0, "{command:?}");
    }
    program.done(&["keys", "repair"]);
    program.done(&["tenants"]);
}
