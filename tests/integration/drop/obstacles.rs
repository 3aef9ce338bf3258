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

#[test]
fn copies_and_roles_that_are_left_are_named() {
    let site = Site::new(&Options::default(), &["acme", "globex"]);
    site.cluster.sql(
        "postgres",
        "CREATE ROLE \"only acme's\"; CREATE ROLE shared; CREATE ROLE grouped; CREATE ROLE crowd; GRANT crowd TO grouped",
    );
    for (database, role) in [("acme", "shared"), ("globex", "shared"), ("acme", "grouped")] {
        site.cluster.sql(&format!("tenant_{database}"), &format!("GRANT SELECT ON t TO \"{role}\""));
    }
    let restore = ["restore", "acme", "--identity", "recovery-kit.txt"];
    site.program.done(&[&restore[..], &["--into", "acme_copy"]].concat());
    site.program.done(&[&restore[..], &["--into", "acme_other"]].concat());
    let aside = site.program.done(&[&restore[..], &["--replace"]].concat())["replaced_as"].as_str().unwrap().to_owned();
    // What a copy refers to as well is nobody's own.
    site.cluster.sql("tenant_acme", "GRANT SELECT ON t TO \"only acme's\"");
    site.cluster.sql("postgres", "ALTER DATABASE acme_other RENAME TO \"renamed \"\"by hand\"");
    let (code, document) = site.run_drop("acme", &["--accept", "acme_copy"]);
    assert_eq!((code, kinds(&document), site.state("acme")), (3, vec!["copy", "copy"], None), "{document:#}");
    let open = document["open"].to_string();
    assert!(open.contains(&aside) && open.contains("renamed") && !open.contains("acme_copy"), "{document:#}");
    let notes = document["notes"].to_string();
    assert!(notes.contains("DROP ROLE \\\"only acme's\\\";") && notes.contains("acme_copy"), "{document:#}");
    assert!(!notes.contains("shared") && !notes.contains("grouped"), "{document:#}");

    // They stay until somebody drops them; a later run closes it then.
    assert_eq!(site.run_drop("acme", &[]).0, 3);
    for name in ["acme_copy", "renamed \"by hand", &aside] {
        site.cluster.sql("postgres", &format!("DROP DATABASE {}", crate::harness::postgres::quoted(name)));
    }
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, &document["status"]), (0, &"closed".into()), "{document:#}");
    assert_eq!(site.state("globex"), Some(true));
}

#[test]
fn operators_sign_first_where_that_is_asked_for() {
    let site = Site::new(&Options::default(), &["acme", "globex"]);
    site.configure("[limits]", "[approvals]\ndrop = 2\n\n[limits]");
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, &document["error"]["kind"]), (4, &"approvals-wanting".into()), "{document:#}");
    assert_eq!((site.state("acme"), site.acts()), (Some(true), vec!["refused".to_owned()]));
    // The plan waits; it is the same one the next time, and nothing was touched.
    let plan = document["error"]["object"].clone();
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, &document["error"]["object"], site.state("acme")), (4, &plan, Some(true)), "{document:#}");
    site.program.done(&["plans", "cancel", plan.as_str().unwrap()]);
    let (_, document) = site.run_drop("acme", &[]);
    assert_ne!(document["error"]["object"], plan);
    assert_eq!(site.state("acme"), Some(true));
}
