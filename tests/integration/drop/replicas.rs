//! Two streaming replicas and a cascaded one: each is waited for and asked, and who is not known is named.

use std::process::{Child, Stdio};

use super::*;
use crate::harness::postgres::eventually;

fn fleet() -> Site {
    Site::new(&Options { replicas: 2, cascaded: 1, ..Options::default() }, &["acme", "acme_2", "acmeology", "acm"])
}

#[test]
fn it_is_gone_from_every_server_and_neighbours_stay() {
    let site = fleet();
    let oid = site.oid("acme");
    let sizes = "SELECT datname FROM pg_database WHERE datname LIKE 'tenant%' ORDER BY 1";
    let (code, document) = site.program.run(&["drop", "acme", "--dry-run"]);
    assert_eq!((code, &document["status"], &document["plan"]), (0, &"requested".into(), &Value::Null), "{document:#}");
    for words in [&["drop", "acme"][..], &["drop", "acme", "--confirm", "acm"], &["drop", "acme", "--confirm", "tenant_acme"]] {
        let error = site.program.refused(4, words);
        assert_eq!(error["kind"], "not-confirmed", "{error:#}");
    }
    assert_eq!(site.state("acme"), Some(true));
    assert!(!site.program.path("vault/plans").exists(), "nothing is written before it is confirmed");

    let held =
        site.cluster.program("psql", "tenant_acme").args(["-c", "SELECT pg_sleep(600)"]).stderr(Stdio::null()).spawn().unwrap();
    let mut held = Kill(held);
    eventually("a session", || {
        site.cluster
            .sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE datname = 'tenant_acme' AND state = 'active'")
            .trim()
            == "1"
    });
    let (code, out, said) = site.program.say(&["drop", "acme", "--confirm", "acme"]);
    assert_eq!(code, 0, "{out}{said}");
    let first = said.lines().next().unwrap();
    assert!(
        first.starts_with("drop: the LIVE database tenant_acme on here (") && first.ends_with(", 1 session); backups stay"),
        "{first}"
    );
    assert!(!held.0.wait().unwrap().success(), "its session was ended");
    assert!(out.contains("acme: dropped, on the primary and every replica"), "{out}");
    assert!(out.contains("here replica 3: absent, replayed up to "), "{out}");
    assert_eq!(site.state("acme"), None);
    site.cluster.wait_for_replicas();
    for replica in &site.cluster.replicas {
        assert!(!has(replica, &oid));
        assert_eq!(replica.sql("postgres", sizes), "tenant_acm\ntenant_acme_2\ntenant_acmeology\n");
    }
    assert_eq!(site.acts()[3..], ["begun", "done"], "after three refusals: {:?}", site.acts());

    // Nobody misses it, its backups are there, and it is nothing to drop any more.
    assert_eq!(site.tenant("acme"), "dropped");
    let night = site.program.done(&["backup", "--all"]);
    assert_eq!(
        (night["results"].as_array().unwrap().len(), night["findings"].to_string().contains("acme")),
        (3, false),
        "{night:#}"
    );
    assert_eq!(site.program.refused(1, &["backup", "acme"])["kind"], "tenant-dropped");
    assert_eq!(site.program.done(&["list", "acme"])["backups"].as_array().unwrap().len(), 1);
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, &document["status"], &document["plan"]), (0, &"closed".into(), &Value::Null), "{document:#}");
    let (_, checked) = site.program.run(&["check"]);
    assert!(!checked.to_string().contains("is still open") && !checked.to_string().contains("not there any more"), "{checked:#}");

    // It can be restored, lives again, and is dropped again.
    site.program.done(&["restore", "acme", "--identity", "recovery-kit.txt"]);
    assert_eq!(site.cluster.sql("tenant_acme", "SELECT count(*) FROM t").trim(), "500");
    assert_ne!(site.tenant("acme"), "dropped");
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, &document["status"]), (0, &"closed".into()), "{document:#}");
    assert_eq!(
        states(&document),
        [("here primary", "dropped"), ("here replica 1", "absent"), ("here replica 2", "absent"), ("here replica 3", "absent")]
    );
    assert_eq!((site.state("acme_2"), site.acts().len()), (Some(true), 7));
}

/// A process that ends with the test.
struct Kill(Child);

impl Drop for Kill {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn receivewal(site: &Site, folder: &tempfile::TempDir, more: &[&str]) -> Kill {
    let receiver = site
        .cluster
        .program("pg_receivewal", "")
        .args(["--no-sync", "-D"])
        .arg(folder.path())
        .args(more)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let receiver = Kill(receiver);
    eventually("a receiver", || {
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pg_receivewal' AND state = 'streaming'";
        site.cluster.sql("postgres", sql).trim() == "1"
    });
    receiver
}

fn gone(site: &Site) {
    eventually("its end", || {
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'pg_receivewal'";
        site.cluster.sql("postgres", sql).trim() == "0"
    });
}

#[test]
fn paused_stopped_and_unknown_ones_stay_open_until_a_later_run() {
    let site = fleet();
    let oid = site.oid("acme");
    let [first, second, third] = &site.cluster.replicas[..] else { panic!("three replicas") };
    site.cluster.wait_for_replicas();
    // The cascaded one keeps behind the paused one; so only those two wait for it.
    third.sql("postgres", "SELECT pg_wal_replay_pause()");
    second.stop("fast");
    let folder = tempfile::tempdir().unwrap();
    let receiver = receivewal(&site, &folder, &[]);

    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, &document["status"]), (3, &"dropped".into()), "{document:#}");
    assert_eq!(
        states(&document),
        [
            ("here primary", "dropped"),
            ("here replica 1", "absent"),
            ("here replica 2", "unreachable"),
            ("here replica 3", "paused")
        ]
    );
    // The slot of the stopped one, and who receives the log without being configured.
    assert_eq!(kinds(&document), ["paused", "unknown", "unknown", "unreachable"], "{document:#}");
    let open = document["open"].to_string();
    for part in ["pg_receivewal from a local or hidden address", "pg_wal_replay_resume()", "slot replica2 waits for a receiver"] {
        assert!(open.contains(part), "{part}: {document:#}");
    }
    assert!(!has(first, &oid) && has(third, &oid), "the paused one serves the rows");
    assert_eq!(third.sql("tenant_acme", "SELECT count(*) FROM t").trim(), "500");
    assert_eq!(site.tenant("acme"), "dropped");
    let (_, checked) = site.program.run(&["check"]);
    assert!(checked.to_string().contains("the drop of the live database of tenant acme"), "{checked:#}");

    // The name is somebody else's by now: it is not touched.
    site.create("acme");
    let newer = site.oid("acme");
    let plan = document["plan"].clone();
    third.sql("postgres", "SELECT pg_wal_replay_resume()");
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, &document["plan"]), (3, &plan), "{document:#}");
    assert_eq!(kinds(&document), ["unknown", "unknown", "unreachable"], "{document:#}");
    second.start_again();
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, kinds(&document)), (3, vec!["unknown"]), "{document:#}");
    drop(receiver);
    gone(&site);
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, &document["status"], &document["plan"]), (0, &"closed".into(), &plan), "{document:#}");
    assert!(!has(third, &oid) && !has(second, &oid));
    assert_eq!(site.oid("acme"), newer);
    // And is refused: it is not the one that was backed up.
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, &document["error"]["kind"]), (4, &"another-database".into()), "{document:#}");
    assert_eq!(site.oid("acme"), newer);
}

#[test]
fn receivers_are_counted_on_every_server_and_accepted_by_name_alone() {
    let site = Site::new(&Options { replicas: 1, cascaded: 1, ..Options::default() }, &["acme", "globex", "initech"]);
    // The cascaded one is not configured: its upstream tells.
    let config = std::fs::read_to_string(site.program.path("tenure.toml")).unwrap();
    let line = config.lines().find(|line| line.starts_with("replicas")).unwrap().to_owned();
    site.configure(&line, &format!("replicas = [\"{}\"]", site.cluster.replicas[0].description()));
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, kinds(&document)), (3, vec!["unknown"]), "{document:#}");
    let item = &document["open"][0];
    assert_eq!(item["object"], "here replica 1");
    assert!(item["what"].as_str().unwrap().contains("replica2 from a local or hidden address by slot replica2"), "{document:#}");

    // The middle one is not configured: the last one names a server that is not known, and so does the primary's log.
    site.configure(&site.cluster.replicas[0].description(), &site.cluster.replicas[1].description());
    let (code, document) = site.run_drop("globex", &[]);
    assert_eq!((code, kinds(&document)), (3, vec!["unknown", "unknown"]), "{document:#}");
    // With all of them listed, later runs close both.
    let now = std::fs::read_to_string(site.program.path("tenure.toml")).unwrap();
    let now = now.lines().find(|line| line.starts_with("replicas")).unwrap().to_owned();
    site.configure(&now, &line);
    for tenant in ["acme", "globex"] {
        let (code, document) = site.run_drop(tenant, &[]);
        assert_eq!((code, &document["status"]), (0, &"closed".into()), "{document:#}");
    }

    // What is no standby is accepted by name, and each time anew.
    site.cluster.sql("postgres", "SELECT pg_create_physical_replication_slot('archive')");
    let folder = tempfile::tempdir().unwrap();
    let receiver = receivewal(&site, &folder, &["--slot", "archive"]);
    let (code, document) = site.run_drop("initech", &["--accept", "archived"]);
    assert_eq!((code, kinds(&document)), (3, vec!["unknown"]), "{document:#}");
    drop(receiver);
    gone(&site);
    let (code, document) = site.run_drop("initech", &[]);
    assert_eq!((code, kinds(&document)), (3, vec!["unknown"]), "its slot is there: {document:#}");
    let (code, document) = site.run_drop("initech", &["--accept", "archive"]);
    assert_eq!((code, &document["status"]), (0, &"closed".into()), "{document:#}");
    assert!(document["notes"].to_string().contains("by what was said with --accept"), "{document:#}");
}

#[test]
fn one_that_lags_or_is_no_standby_is_said() {
    let site = Site::new(&Options { replicas: 2, ..Options::default() }, &["acme"]);
    let (oid, [first, second]) = (site.oid("acme"), &site.cluster.replicas[..]) else { panic!("two replicas") };
    site.cluster.wait_for_replicas();
    first.sql("postgres", "ALTER SYSTEM SET recovery_min_apply_delay = '1h'");
    first.sql("postgres", "SELECT pg_reload_conf()");
    eventually("the delay", || first.sql("postgres", "SHOW recovery_min_apply_delay").trim() == "1h");
    second.promote();
    site.configure("replica_wait = \"30s\"", "replica_wait = \"1s\"");
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, &document["status"]), (3, &"dropped".into()), "{document:#}");
    assert_eq!(kinds(&document), ["lagging", "not-a-standby", "unknown"], "{document:#}");
    assert!(document["open"].to_string().contains("recovery_min_apply_delay is 1h"), "{document:#}");
    assert!(has(first, &oid) && has(second, &oid));

    first.sql("postgres", "ALTER SYSTEM RESET recovery_min_apply_delay");
    first.sql("postgres", "SELECT pg_reload_conf()");
    site.configure("replica_wait = \"1s\"", "replica_wait = \"30s\"");
    site.configure(&format!(", \"{}\"", second.description()), "");
    site.cluster.sql("postgres", "SELECT pg_drop_replication_slot('replica2')");
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, &document["status"]), (0, &"closed".into()), "{document:#}");
    assert!(!has(first, &oid));
}
