//! The program: one screen, three exit codes, and what only whole commands bring about.

use std::fs;

use serde_json::{Value, json};

use crate::{
    drop::Site,
    harness::{
        postgres::{Options, eventually},
        site::walk,
    },
};

fn alarms(document: &Value) -> Vec<(&str, &str)> {
    let alarms = document["alarms"].as_array().unwrap_or_else(|| panic!("{document:#}"));
    alarms.iter().map(|alarm| (alarm["kind"].as_str().unwrap(), alarm["object"].as_str().unwrap())).collect()
}

impl Site {
    fn calm(&self) {
        let report = self.program.done(&["status"]);
        assert_eq!(alarms(&report), [], "{report:#}");
    }

    fn alarmed(&self) -> Value {
        let (code, report) = self.program.run(&["status"]);
        assert_eq!(code, 3, "{report:#}");
        report
    }
}

#[test]
fn one_screen_and_three_exit_codes() {
    let site = Site::new(&Options::default(), &["acme", "globex", "initech"]);
    let program = &site.program;
    site.calm();
    let (code, said, errors) = program.say(&["status"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(said.starts_with("3 tenants: 3 good\nevery newest backup is of ") && said.lines().count() == 2, "{said}");
    assert_eq!(program.say(&["-q", "status"]), (0, String::new(), String::new()), "cron sends no mail");

    // Somebody is late: what to type is said.
    site.configure("late_after = \"26h\"", "late_after = \"0s\"");
    eventually("a second has passed for everybody", || program.run(&["status"]).1["counts"]["late"] == 3);
    let (code, said, errors) = program.say(&["status"]);
    assert_eq!((code, errors.as_str()), (3, ""));
    for expected in [
        "3 tenants: 0 good, 3 late\n",
        "TENANT   CLUSTER  STATE",
        "critical: tenant-late: the newest backup of tenant acme on",
        "; and 2 more\n",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(said.contains("\nnext: `tenure backup acme` backs it up now"), "{said}");
    assert!(said.lines().count() <= 12, "{said}");
    site.configure("late_after = \"0s\"", "late_after = \"26h\"");
    site.calm();

    // Nobody can tell.
    let vault = program.path("vault");
    fs::rename(&vault, program.path("away")).unwrap();
    program.refused(1, &["status"]);
    fs::rename(program.path("away"), &vault).unwrap();
    let root = vault.join("vault.json");
    let whole = fs::read(&root).unwrap();
    fs::write(&root, b"{}").unwrap();
    program.refused(1, &["status"]);
    fs::write(&root, whole).unwrap();
    site.cluster.stop("fast");
    let (code, report) = program.run(&["status"]);
    assert_eq!((code, alarms(&report)), (1, vec![("cluster-unreachable", "here")]));
    assert_eq!(report["counts"]["unknown"], 3);
    site.cluster.start_again();
    site.calm();
}

#[test]
fn four_restores_by_one_key_are_told() {
    let site = Site::new(&Options::default(), &["a", "b", "c", "d"]);
    for (n, tenant) in ["a", "b", "c", "d"].into_iter().enumerate() {
        site.calm();
        let into = format!("copied_{n}");
        site.program.done(&["restore", tenant, "--identity", "recovery-kit.txt", "--into", &into]);
    }
    let report = site.alarmed();
    let [("unusual-volume", who)] = alarms(&report)[..] else { panic!("{report:#}") };
    assert!(who.starts_with("restorer@"), "{report:#}");
}

#[test]
fn an_erasure_that_takes_too_long_and_what_comes_back_of_an_erased_tenant() {
    let site = Site::new(&Options::default(), &["acme", "globex", "initech"]);
    let program = &site.program;
    // While its grace lasts it is open, and no alarm.
    let (code, report) = program.run(&["erase", "acme", "--confirm", "acme"]);
    assert_eq!((code, &report["status"]), (3, &json!("suspended")), "{report:#}");
    let report = program.done(&["status"]);
    assert_eq!((&report["erasures_open"], &report["counts"]["suspended"], alarms(&report)), (&json!(1), &json!(1), vec![]));
    // Its database was opened again.
    site.cluster.sql("postgres", "ALTER DATABASE tenant_acme ALLOW_CONNECTIONS true");
    assert_eq!(alarms(&site.alarmed()), [("erased-returned", "acme")]);
    program.run(&["reconcile"]);
    site.calm();
    program.done(&["erase", "acme", "--undo", "--confirm", "acme"]);
    assert_eq!(site.program.done(&["status"])["erasures_open"], 0);

    // One of which nobody carries out the rest.
    site.configure("[cluster.here]\n", "[erasure]\ngrace = \"1s\"\noverdue_after = \"1s\"\n\n[cluster.here]\n");
    program.run(&["erase", "globex", "--confirm", "globex"]);
    eventually("it takes too long", || program.run(&["status"]).0 == 3);
    let report = site.alarmed();
    assert_eq!((alarms(&report), &report["erasures_open"]), (vec![("erasure-open", "globex")], &json!(1)), "{report:#}");
    let keys = program.path("kept");
    copy(&program.path("keyring"), &keys);
    program.done(&["erase", "globex", "--confirm", "globex"]);
    let report = program.done(&["status"]);
    assert_eq!((&report["erasures_open"], &report["counts"]["tenants"]), (&json!(0), &json!(2)), "{report:#}");

    // Its name, as a database; it may be a new customer's.
    site.create("globex");
    assert_eq!(alarms(&site.alarmed()), [("erased-returned", "globex")]);
    site.cluster.sql("postgres", "DROP DATABASE tenant_globex");
    site.calm();
    // Its keys, from an old copy.
    let there = walk(&program.path("keyring"));
    copy(&keys, &program.path("keyring"));
    assert_eq!(alarms(&site.alarmed()), [("erased-returned", "globex")]);
    for file in walk(&program.path("keyring")).iter().filter(|file| !there.contains(file)) {
        fs::remove_file(file).unwrap();
    }
    site.calm();
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for path in walk(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    }
}

/// What a worker signed is what is reported, and `status` knows how long it took.
#[test]
fn the_night_of_a_real_worker_is_reported() {
    let site = Site::new(&Options::default(), &["acme", "globex"]);
    let program = &site.program;
    site.configure("[cluster.here]\n", "[worker]\nlisten = \"none\"\n\n[cluster.here]\n");
    let due_at = chrono::Utc::now() - chrono::TimeDelta::minutes(1);
    fs::create_dir_all(program.path("schedules")).unwrap();
    let cron = due_at.format("%M %H * * *");
    let schedule = format!("name = \"mine\"\ncron = \"{cron}\"\ntime_zone = \"UTC\"\naction = \"backup\"\nwindow = \"12h\"\n");
    fs::write(program.path("schedules/mine.toml"), schedule).unwrap();
    site.create("initech");
    program.done(&["worker", "--once", "mine"]);
    let report = program.done(&["report", "--night", &due_at.date_naive().to_string(), "--html", "night.html"]);
    let slot = &report["slots"][0];
    assert_eq!((&slot["schedule"], slot["records"].as_array().unwrap().len()), (&json!("mine"), 1), "{report:#}");
    let tenants = slot["tenants"].as_array().unwrap();
    let initech = tenants.iter().find(|tenant| tenant["tenant"] == "initech").unwrap();
    assert_eq!((&initech["outcome"], &initech["manifest"]), (&json!("done"), &json!("same")), "{report:#}");
    assert!(tenants.iter().all(|tenant| tenant["manifest"] == "same"), "{report:#}");
    assert!(fs::read_to_string(program.path("night.html")).unwrap().contains("initech"));
    let status = program.done(&["status"]);
    let initech = status["tenants"].as_array().unwrap().iter().find(|tenant| tenant["tenant"] == "initech").cloned().unwrap();
    assert!(initech["duration_ms"].is_u64(), "{status:#}");
}
