//! What keeps PostgreSQL from dropping a database: named, and cleared away when somebody says so.

use std::process::Stdio;

use super::*;
use crate::harness::postgres::eventually;

#[test]
fn each_obstacle_is_named_and_cleared_away_by_its_own_word() {
    let site = Site::new(&Options::default(), &["prepared", "slots", "subscribed", "template"]);
    let sql = |tenant: &str, sql: &str| site.cluster.sql(&format!("tenant_{tenant}"), sql);
    sql("slots", "CREATE PUBLICATION p FOR ALL TABLES");
    sql("slots", "SELECT pg_create_logical_replication_slot('idle', 'pgoutput')");
    sql("slots", "SELECT pg_create_logical_replication_slot('busy', 'pgoutput')");
    let words = ["--slot", "busy", "--start", "-f", "-", "-o", "proto_version=1", "-o", "publication_names=p", "-n"];
    let mut reader = site
        .cluster
        .program("pg_recvlogical", "tenant_slots")
        .args(["-d", "tenant_slots"])
        .args(words)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let busy = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'busy' AND active";
    eventually("a reader", || site.cluster.sql("postgres", busy).trim() == "1");
    site.cluster.sql("postgres", "SELECT pg_create_logical_replication_slot('remote', 'pgoutput')");
    let connection = format!("{} dbname=postgres", site.cluster.description());
    sql(
        "subscribed",
        &format!("CREATE SUBSCRIPTION s CONNECTION '{connection}' PUBLICATION p WITH (connect = false, slot_name = 'remote')"),
    );
    site.cluster.sql("postgres", "ALTER DATABASE tenant_template IS_TEMPLATE true");
    // Last: a logical slot is made only when no transaction from before is open.
    sql("prepared", "BEGIN; CREATE TABLE p (); PREPARE TRANSACTION 'left \"behind\"'''");

    let all = ["prepared", "slots", "subscriptions", "template"];
    for (tenant, kind, named) in [
        ("prepared", "prepared", "prepared transaction left \"behind\"'"),
        ("slots", "slots", "logical slot busy, which somebody reads"),
        ("subscribed", "subscriptions", "subscription s, which reads slot remote of its publisher"),
        ("template", "template", "it is marked as a template"),
    ] {
        let others: Vec<&str> = all.iter().filter(|other| **other != kind).copied().collect();
        for flags in [vec![], vec!["--clear".to_owned(), others.join(",")]] {
            let (code, document) = site.run_drop(tenant, &flags.iter().map(String::as_str).collect::<Vec<_>>());
            let error = &document["error"];
            assert_eq!((code, &error["kind"]), (4, &"blocked".into()), "{document:#}");
            assert!(error["message"].as_str().unwrap().contains(named), "{document:#}");
            assert!(error["hint"].as_str().unwrap().contains(&format!("--clear {kind}` does that")), "{document:#}");
            assert_eq!(site.state(tenant), Some(true), "{tenant} is as it was");
        }
    }
    assert!(!site.program.path("vault/plans").exists());
    assert_eq!(site.acts(), ["refused"; 8]);
    assert_eq!(site.cluster.sql("postgres", busy).trim(), "1");

    for (tenant, kind) in [("prepared", "prepared"), ("slots", "slots"), ("template", "template")] {
        let (_, _, said) = site.program.say(&["drop", tenant, "--dry-run", "--clear", kind]);
        assert!(said.starts_with("drop: the LIVE database"), "{said}");
        let (code, document) = site.run_drop(tenant, &["--clear", kind]);
        assert_eq!((code, &document["status"]), (0, &"closed".into()), "{document:#}");
        assert_eq!(site.state(tenant), None);
    }
    reader.wait().unwrap();
    assert_eq!(site.cluster.sql("postgres", "SELECT slot_name FROM pg_replication_slots").trim(), "remote");
    // What stays elsewhere is an item of the run that left it there.
    let (code, document) = site.run_drop("subscribed", &["--clear", "subscriptions"]);
    assert_eq!((code, kinds(&document)), (3, vec!["remote-slot"]), "{document:#}");
    assert!(document["open"].to_string().contains("pg_drop_replication_slot('remote')"), "{document:#}");
    assert_eq!(site.state("subscribed"), None);
    let (code, document) = site.run_drop("subscribed", &[]);
    assert_eq!((code, &document["status"]), (0, &"closed".into()), "{document:#}");
}

#[test]
fn slots_that_nobody_reads_are_named_before_they_go() {
    let site = Site::new(&Options::default(), &["acme"]);
    site.cluster.sql("tenant_acme", "SELECT pg_create_logical_replication_slot('idle', 'pgoutput')");
    let (code, out, _) = site.program.say(&["drop", "acme", "--dry-run"]);
    assert!(code == 0 && out.contains("logical slot idle, which nobody reads, goes with it"), "{out}");
    let (_, _, said) = site.program.say(&["drop", "acme", "--confirm", "acm"]);
    assert!(said.contains("logical slot idle, which nobody reads, goes with it"), "before anybody confirms: {said}");
    assert_eq!(site.run_drop("acme", &[]).0, 0);
    assert_eq!(site.cluster.sql("postgres", "SELECT count(*) FROM pg_replication_slots").trim(), "0");
}

#[test]
fn an_interrupted_drop_is_finished_and_a_closed_database_too() {
    let site = Site::new(&Options::default(), &["acme", "globex", "initech"]);
    // What a DROP DATABASE that was interrupted leaves.
    site.cluster.sql("postgres", "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'tenant_acme'");
    let (code, out, _) = site.program.say(&["drop", "acme", "--dry-run"]);
    assert!(code == 0 && out.contains("an earlier DROP DATABASE of it was interrupted"), "{out}");
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, &document["status"], site.state("acme")), (0, &"closed".into(), None), "{document:#}");

    // Closed by its owner, and held: it stays closed.
    site.cluster.sql("postgres", "ALTER DATABASE tenant_globex ALLOW_CONNECTIONS false");
    site.cluster.sql("tenant_initech", "BEGIN; CREATE TABLE p (); PREPARE TRANSACTION 'p'");
    site.cluster.sql("postgres", "ALTER DATABASE tenant_initech ALLOW_CONNECTIONS false");
    site.program.done(&["hold", "globex", "--reason", "a court"]);
    assert_eq!(site.run_drop("globex", &[]).0, 4);
    assert_eq!(site.state("globex"), Some(false));
    site.program.done(&["release", "globex"]);
    assert_eq!((site.run_drop("globex", &[]).0, site.state("globex")), (0, None));
    // What needs a session inside is done all the same.
    assert_eq!(site.run_drop("initech", &[]).0, 4);
    assert_eq!((site.run_drop("initech", &["--clear", "prepared"]).0, site.state("initech")), (0, None));
}
