//! What is not dropped: with the reason, what to type, and everything as it was.

use std::{collections::BTreeMap, time::Duration};

use tenure::{
    id::InstallationId,
    postgres::{LibpqEnvironment, Target, lock::TenantLock},
};

use super::*;

#[test]
fn what_is_unknown_held_ambiguous_or_another_database_is_refused() {
    let site = Site::new(&Options::default(), &["acme", "globex", "initech", "umbrella"]);
    site.create("young");
    for (tenant, kind) in [("nobody", "unknown-tenant"), ("young", "unknown-tenant"), ("tenant_acme", "unknown-tenant")] {
        let error = site.program.refused(1, &["drop", tenant, "--confirm", tenant]);
        assert_eq!(error["kind"], kind, "{error:#}");
    }
    site.program.done(&["hold", "acme", "--reason", "a court"]);
    let error = site.program.refused(4, &["drop", "acme", "--confirm", "acme"]);
    assert!(error["kind"] == "on-hold" && error["hint"].as_str().unwrap().contains("tenure release acme"), "{error:#}");
    assert_eq!(site.program.refused(4, &["drop", "acme", "--dry-run"])["kind"], "on-hold");
    site.program.done(&["release", "acme"]);

    // Another database under the name.
    site.cluster.sql("postgres", "DROP DATABASE tenant_globex");
    assert_eq!(site.program.refused(1, &["drop", "globex", "--confirm", "globex"])["kind"], "tenant-missing");
    site.create("globex");
    let error = site.program.refused(4, &["drop", "globex", "--confirm", "globex"]);
    assert!(
        error["kind"] == "another-database" && error["hint"].as_str().unwrap().contains("tenure admit --source globex"),
        "{error:#}"
    );
    site.program.done(&["admit", "--source", "globex"]);
    // The one that was recorded has another name now.
    site.cluster.sql("postgres", "ALTER DATABASE tenant_initech RENAME TO tenant_else");
    assert_eq!(site.program.refused(1, &["drop", "initech", "--confirm", "initech"])["kind"], "tenant-missing");
    assert_eq!(site.program.refused(1, &["drop", "else", "--confirm", "else"])["kind"], "unknown-tenant");

    // The database that tenure is connected to.
    let line = format!("primary = \"{}\"", site.cluster.description());
    site.configure(&line, &format!("primary = \"{} dbname=tenant_acme\"", site.cluster.description()));
    assert_eq!(site.program.refused(4, &["drop", "acme", "--confirm", "acme"])["kind"], "maintenance-database");
    site.configure(" dbname=tenant_acme", "");

    // The same names on another server.
    let other = Cluster::start(&Options::default());
    other.create_database("tenant_acme");
    site.configure(&site.cluster.description(), &other.description());
    let error = site.program.refused(4, &["drop", "acme", "--confirm", "acme"]);
    assert_eq!(error["kind"], "another-database", "{error:#}");
    // A login that drops elsewhere than discovery looks.
    site.configure(
        &line.replace(&site.cluster.description(), &other.description()),
        &format!("{line}\nadmin = \"{}\"", other.description()),
    );
    let error = site.program.refused(4, &["drop", "acme", "--confirm", "acme"]);
    assert_eq!(error["kind"], "another-server", "{error:#}");
    site.configure(&format!("\nadmin = \"{}\"", other.description()), "");
    // Found on two clusters.
    site.configure(
        "[limits]",
        &format!("[cluster.there]\nprimary = \"{}\"\ndatabases = \"tenant_{{tenant}}\"\n[limits]", other.description()),
    );
    let error = site.program.refused(1, &["drop", "acme", "--confirm", "acme"]);
    assert_eq!(error["kind"], "ambiguous-tenant", "{error:#}");

    for tenant in ["acme", "globex", "else", "umbrella", "young"] {
        assert_eq!(site.state(tenant), Some(true), "{tenant}");
    }
    assert_eq!(other.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'tenant_acme'").trim(), "1");
    assert!(!site.program.path("vault/plans").exists());
}

#[test]
fn missing_rights_are_found_before_anything_is_done() {
    let site = Site::new(&Options::default(), &["acme"]);
    site.cluster.sql("postgres", "CREATE ROLE dropper LOGIN; CREATE ROLE \"its owner\" LOGIN; CREATE ROLE app LOGIN;");
    site.cluster.sql("postgres", "ALTER DATABASE tenant_acme OWNER TO \"its owner\"");
    let admin = format!("\nadmin = \"{}\"\n", site.cluster.description().replace("user=postgres", "user=dropper"));
    site.configure("\ndatabases =", &format!("{admin}databases ="));
    let mut session = site.cluster.program("psql", "tenant_acme");
    let mut session =
        session.env("PGUSER", "app").args(["-c", "SELECT pg_sleep(600)"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    crate::harness::postgres::eventually("a session", || {
        site.cluster.sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app'").trim() == "1"
    });
    for grant in [
        "GRANT \"its owner\" TO \"dropper\";",
        "GRANT pg_signal_backend TO \"dropper\";",
        "GRANT pg_read_all_stats TO \"dropper\";",
    ] {
        let (code, document) = site.run_drop("acme", &[]);
        let error = &document["error"];
        assert_eq!((code, &error["kind"]), (1, &"no-right".into()), "{document:#}");
        assert!(error["hint"].as_str().unwrap().contains(grant), "{document:#}");
        assert_eq!(site.state("acme"), Some(true));
        site.cluster.sql("postgres", grant);
    }
    assert!(!site.program.path("vault/plans").exists());
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, &document["status"], site.state("acme")), (0, &"closed".into(), None), "{document:#}");
    session.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_at_work_makes_it_busy() {
    let site = Site::new(&Options::default(), &["acme"]);
    let root: Value = serde_json::from_slice(&std::fs::read(site.program.path("vault/vault.json")).unwrap()).unwrap();
    let installation: InstallationId = root["installation"].as_str().unwrap().parse().unwrap();
    let environment = LibpqEnvironment { home: None, user: "nobody".to_owned(), variables: BTreeMap::new() };
    let target = Target::parse(&site.cluster.description(), &environment).unwrap();
    let lock = TenantLock::acquire(&target, &installation, &"acme".parse().unwrap(), &[], Duration::from_secs(5)).await.unwrap();
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, &document["error"]["kind"]), (6, &"busy".into()), "{document:#}");
    assert_eq!(site.state("acme"), Some(true));
    assert!(!site.program.path("vault/plans").exists());
    lock.release().await.unwrap();
    assert_eq!(site.run_drop("acme", &[]).0, 0);
}

#[test]
fn names_are_names_whatever_they_look_like() {
    let names = ["host=x", "a\"b", "-f", "line\nbreak", "🦀", "it's", "%s $1 \\"];
    let site = Site::new(&Options::default(), &names);
    for (nth, name) in names.iter().enumerate() {
        let (code, document) = site.run_drop(name, &[]);
        assert_eq!((code, &document["status"], &document["tenant"]), (0, &"closed".into(), &(*name).into()), "{document:#}");
        let left = site.cluster.sql("postgres", "SELECT count(*) FROM pg_database WHERE starts_with(datname, 'tenant_')");
        assert_eq!((site.state(name), left.trim()), (None, (names.len() - nth - 1).to_string().as_str()), "{name}");
    }
}

#[test]
fn a_plan_of_another_installation_or_a_changed_one_stops_it() {
    let site = Site::new(&Options { replicas: 1, ..Options::default() }, &["acme", "globex"]);
    site.cluster.replicas[0].stop("fast");
    let (code, document) = site.run_drop("acme", &[]);
    assert_eq!((code, &document["status"]), (3, &"dropped".into()), "{document:#}");
    let folder = site.program.path("vault/plans").join(document["plan"].as_str().unwrap());
    let plan = std::fs::read_to_string(folder.join("plan.json")).unwrap();
    for name in ["acme", "tenant_acme"] {
        assert!(!plan.contains(name), "no name stands in the vault: {plan}");
    }
    std::fs::write(folder.join("plan.json"), plan.replace("\"database_oid\":", "\"database_oid\":1")).unwrap();
    for tenant in ["acme", "globex"] {
        assert_eq!(site.program.refused(5, &["drop", tenant, "--confirm", tenant])["code"], 5);
    }
    assert_eq!(site.state("globex"), Some(true));

    // One that somebody else signed is nobody's.
    let other = Site::new(&Options { replicas: 1, ..Options::default() }, &["acme"]);
    other.cluster.replicas[0].stop("fast");
    let (_, document) = other.run_drop("acme", &[]);
    let id = document["plan"].as_str().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    let copy = site.program.path("vault/plans").join(id);
    std::fs::create_dir_all(&copy).unwrap();
    for file in ["plan.json", "plan.json.sig"] {
        std::fs::copy(other.program.path("vault/plans").join(id).join(file), copy.join(file)).unwrap();
    }
    assert_eq!(site.program.refused(5, &["drop", "globex", "--confirm", "globex"])["code"], 5);
    assert_eq!(site.state("globex"), Some(true));
}
