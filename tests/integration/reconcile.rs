//! What was erased and is there again is closed and named, and never dropped by itself; and what was said of it is put back.

use std::{fs, path::PathBuf, process::Stdio};

use serde_json::{Value, json};

use crate::{
    drop::Site,
    harness::{
        postgres::{Cluster, Options, Replica, eventually},
        site::walk,
    },
};

impl Site {
    fn reconcile(&self, more: &[&str]) -> (i32, Value) {
        self.program.run(&[&["reconcile"], more].concat())
    }

    fn quiet(&self) {
        let (code, report) = self.reconcile(&[]);
        assert_eq!((code, &report["found"], &report["open"]), (0, &json!([]), &json!([])), "{report:#}");
    }

    fn erased_at_once(&self, tenant: &str) {
        let (code, report) = self.program.run(&["erase", tenant, "--skip-grace", "--confirm", tenant]);
        assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    }

    /// Files that `parts` are in the names of.
    fn named(&self, store: &str, parts: &[&str]) -> Vec<PathBuf> {
        let mut files = walk(&self.program.path(store));
        files.retain(|path| parts.iter().all(|part| path.to_string_lossy().contains(part)));
        files.sort();
        files
    }
}

fn whys(report: &Value) -> Vec<(&str, &str)> {
    let found = report["found"].as_array().unwrap();
    found.iter().map(|found| (found["why"].as_str().unwrap(), found["database"].as_str().unwrap())).collect()
}

/// Whether a server has a database, and lets anybody in.
fn state(server: &Replica, database: &str) -> Option<bool> {
    let said = server.sql("postgres", &format!("SELECT datallowconn FROM pg_database WHERE datname = '{database}'"));
    (!said.trim().is_empty()).then(|| said.trim() == "t")
}

#[test]
fn a_physical_restore_is_closed_and_goes_by_a_plan_alone() {
    let site = Site::new(&Options::default(), &["acme", "acme_2", "globex"]);
    let program = &site.program;
    let kept = site.cluster.base_backup("kept");
    site.quiet();
    site.erased_at_once("acme");
    site.quiet();
    assert_eq!(site.program.done(&["audit"])["bad"], 0);

    // In the place of the primary.
    let old = site.put_in_place(kept);
    let oid: u32 = old.sql("postgres", "SELECT oid FROM pg_database WHERE datname = 'tenant_acme'").trim().parse().unwrap();
    let held = old_session(&site, &old);
    let plans = || site.named("vault/plans", &["plan.json"]).len();
    let before = plans();

    let (code, report) = site.reconcile(&["--dry-run"]);
    assert_eq!((code, whys(&report)), (3, vec![("returned", "tenant_acme")]), "{report:#}");
    assert_eq!((state(&old, "tenant_acme"), plans(), &report["found"][0]["is_open"]), (Some(true), before, &json!(true)));

    let (code, report) = site.reconcile(&[]);
    let found = &report["found"][0];
    assert_eq!((code, whys(&report)), (3, vec![("returned", "tenant_acme")]), "{report:#}");
    assert_eq!((&found["tenant"], &found["database_oid"], &found["closed_now"]), (&json!("acme"), &json!(oid), &json!(true)));
    let plan = found["plan"].as_str().unwrap();
    let typed = format!("`tenure drop acme --plan {plan} --confirm acme`");
    assert!(found["what"].as_str().unwrap().contains(&typed), "{report:#}");
    assert_eq!((state(&old, "tenant_acme"), plans()), (Some(false), before + 2), "a plan and its signature");
    assert!(!held.wait_with_output().unwrap().status.success(), "its session was ended");
    for neighbour in ["tenant_acme_2", "tenant_globex"] {
        assert_eq!(state(&old, neighbour), Some(true), "{neighbour}");
    }

    // Once more is the same plan, and nothing is dropped by it; opened again it is closed again.
    old.sql("postgres", "ALTER DATABASE tenant_acme ALLOW_CONNECTIONS true");
    let (code, again) = site.reconcile(&[]);
    assert_eq!(
        (code, &again["found"][0]["plan"], &again["found"][0]["closed_now"]),
        (3, &found["plan"], &json!(true)),
        "{again:#}"
    );
    let (code, again) = site.reconcile(&[]);
    assert_eq!(
        (code, &again["found"][0]["plan"], &again["found"][0]["closed_now"]),
        (3, &found["plan"], &json!(false)),
        "{again:#}"
    );
    assert_eq!((state(&old, "tenant_acme"), plans()), (Some(false), before + 2));
    assert_eq!(program.refused(4, &["drop", "acme", "--plan", plan])["kind"], "not-confirmed");
    // Without it nobody means what has come back.
    let refused = program.refused(4, &["drop", "acme", "--confirm", "acme"]);
    assert_eq!(refused["kind"], "tenant-erased");
    assert!(refused["hint"].as_str().unwrap().contains(plan), "{refused:#}");
    assert_eq!(program.refused(4, &["admit", "--new", "acme"])["kind"], "database-erased");

    let (code, said, announced) = program.say(&["drop", "acme", "--plan", plan, "--confirm", "acme"]);
    assert_eq!(code, 0, "{said}{announced}");
    assert!(said.contains("what had come back is dropped") && !said.contains("backups"), "{said}");
    assert!(announced.contains("tenant_acme") && announced.contains("was erased, and is there again"), "{announced}");
    assert_eq!(state(&old, "tenant_acme"), None);
    for neighbour in ["tenant_acme_2", "tenant_globex"] {
        assert_eq!(state(&old, neighbour), Some(true), "{neighbour}");
    }
    site.quiet();
    let again = program.done(&["drop", "acme", "--plan", plan, "--confirm", "acme"]);
    assert_eq!((&again["status"], &again["nodes"]), (&json!("closed"), &json!([])), "{again:#}");
    let acts = program.done(&["audit"]);
    assert_eq!(acts["bad"], 0, "{acts:#}");
    let of = |command: &str| acts["entries"].as_array().unwrap().iter().filter(|entry| entry["what"] == command).count();
    assert!(of("reconcile") >= 6 && of("drop") >= 2, "{acts:#}");
}

/// Somebody in the database, on a server put back.
fn old_session(site: &Site, old: &Replica) -> std::process::Child {
    let held = site
        .cluster
        .program("psql", "tenant_acme")
        .env("PGPORT", old.port().to_string())
        .args(["-c", "SELECT pg_sleep(600)"])
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("a session", || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'tenant_acme' AND state = 'active'";
        old.sql("postgres", sql).trim() == "1"
    });
    held
}

#[test]
fn a_name_alone_is_never_closed_or_dropped() {
    let site = Site::new(&Options::default(), &["acme", "acme_2"]);
    let program = &site.program;
    site.erased_at_once("acme");
    site.create("acme");
    let (code, report) = site.reconcile(&[]);
    assert_eq!((code, whys(&report)), (3, vec![("name", "tenant_acme")]), "{report:#}");
    assert!(report["found"][0]["what"].as_str().unwrap().contains("`tenure admit --new acme`"), "{report:#}");
    assert_eq!((site.state("acme"), &report["found"][0]["plan"]), (Some(true), &json!(null)));
    assert_eq!(program.refused(4, &["drop", "acme", "--confirm", "acme"])["kind"], "tenant-erased");
    program.done(&["admit", "--new", "acme"]);
    site.quiet();
    assert_eq!(site.reconcile(&[]).1["tombstones"], 1, "what was said of it since is none");
    program.done(&["backup", "--all"]);
    site.quiet();
}

/// A number alone is not enough: renamed it is named, and a person gives it its name back.
#[test]
fn renamed_it_is_named_and_goes_when_it_has_its_name_again() {
    let site = Site::new(&Options::default(), &["acme", "globex"]);
    let program = &site.program;
    let kept = site.cluster.base_backup("kept");
    site.erased_at_once("acme");
    let old = site.put_in_place(kept);
    let rename = |from: &str, to: &str| _ = old.sql("postgres", &format!("ALTER DATABASE {from} RENAME TO {to}"));
    let plans = || site.named("vault/plans", &["plan.json"]).len();
    let before = plans();
    rename("tenant_acme", "tenant_initech");
    // An old copy of a store as well: the other one is enough.
    fs::remove_dir_all(program.path("vault/erased")).unwrap();
    for (code, name, whose) in
        [(5, "tenant_initech", "it answers to tenant initech"), (3, "kept_for_later", "its name is nobody's")]
    {
        if name == "kept_for_later" {
            rename("tenant_initech", name);
        }
        let (ended, report) = site.reconcile(&[]);
        let found = &report["found"][0];
        assert_eq!((ended, whys(&report)), (code, vec![("number", name)]), "{report:#}");
        assert_eq!((state(&old, name), &found["tenant"], &found["plan"]), (Some(true), &json!(null), &json!(null)));
        let what = found["what"].as_str().unwrap();
        assert!(what.starts_with(whose) && what.contains("give it its old name back"), "{report:#}");
        assert_eq!(plans(), before);
    }
    // A plan that was made under its own name does not go on under another one.
    rename("kept_for_later", "tenant_acme");
    let (_, report) = site.reconcile(&[]);
    assert_eq!((whys(&report), state(&old, "tenant_acme")), (vec![("returned", "tenant_acme")], Some(false)), "{report:#}");
    let drop = told(&report);
    let drop: Vec<&str> = drop.iter().map(String::as_str).collect();
    let plan = report["found"][0]["plan"].as_str().unwrap();
    assert_eq!(program.refused(4, &["drop", "globex", "--plan", plan, "--confirm", "globex"])["kind"], "no-such-plan");
    for (from, to) in [("tenant_acme", "tenant_initech"), ("tenant_initech", "kept_for_later")] {
        rename(from, to);
        assert_eq!(program.refused(4, &drop)["kind"], "another-database");
        assert_eq!(state(&old, to), Some(false));
    }
    rename("kept_for_later", "tenant_acme");
    program.done(&drop);
    assert_eq!((state(&old, "tenant_acme"), state(&old, "tenant_globex")), (None, Some(true)));
    site.quiet();
}

/// A copy that was dropped before the erasure comes back with an old server, and its record went with the backups: the certificate has it.
#[test]
fn a_copy_that_comes_back_is_named_by_the_certificate() {
    let site = Site::new(&Options::default(), &["acme", "globex"]);
    let program = &site.program;
    program.done(&["restore", "acme", "--into", "acme_copy", "--identity", "recovery-kit.txt"]);
    let kept = site.cluster.base_backup("kept");
    site.cluster.sql("postgres", "DROP DATABASE acme_copy");
    site.erased_at_once("acme");
    site.quiet();
    let old = site.put_in_place(kept);
    let (code, report) = site.reconcile(&[]);
    assert_eq!((code, whys(&report)), (3, vec![("returned", "tenant_acme"), ("copy", "acme_copy")]), "{report:#}");
    let plan = report["found"][0]["plan"].as_str().unwrap();
    program.done(&["drop", "acme", "--plan", plan, "--confirm", "acme"]);
    assert_eq!(whys(&site.reconcile(&[]).1), [("copy", "acme_copy")]);
    old.sql("postgres", "DROP DATABASE acme_copy");
    site.quiet();
}

/// Under a living tenant's name it is no new place of his.
#[test]
fn what_was_erased_is_admitted_as_nobodys_place() {
    let site = Site::new(&Options::default(), &["acme", "globex"]);
    let kept = site.cluster.base_backup("kept");
    site.erased_at_once("acme");
    let old = site.put_in_place(kept);
    old.sql("postgres", "ALTER DATABASE tenant_globex RENAME TO globex_aside");
    old.sql("postgres", "ALTER DATABASE tenant_acme RENAME TO tenant_globex");
    assert_eq!(site.program.refused(4, &["admit", "--source", "globex"])["kind"], "database-erased");
}

/// What `reconcile` says that is to be typed.
fn told(report: &Value) -> Vec<String> {
    let what = report["found"][0]["what"].as_str().unwrap();
    let command = what.split('`').find_map(|part| part.strip_prefix("tenure ")).unwrap_or_else(|| panic!("{what}"));
    command.split_whitespace().map(str::to_owned).collect()
}

/// A server that is put back gives the numbers that it gave since away again: to databases that nobody erased.
#[test]
fn a_number_that_was_given_away_again_closes_and_drops_nobody() {
    let site = Site::new(&Options::default(), &["acme"]);
    let program = &site.program;
    let kept = site.cluster.base_backup("kept");
    // The next number is then the one after those that were set aside, here and on what is put back.
    site.cluster.stop("immediate");
    site.cluster.start_again();
    site.create("zed");
    program.done(&["backup", "--all"]);
    let number = site.oid("zed");
    site.erased_at_once("zed");
    let old = site.put_in_place(kept);
    old.sql("postgres", "CREATE DATABASE billing");
    let oid =
        |name: &str| old.sql("postgres", &format!("SELECT oid FROM pg_database WHERE datname = '{name}'")).trim().to_owned();
    assert_eq!(oid("billing"), number, "it has the number of the erased one");
    let plans = || site.named("vault/plans", &["plan.json"]).len();
    let before = plans();
    for name in ["billing", "tenant_newco"] {
        if name == "tenant_newco" {
            old.sql("postgres", "ALTER DATABASE billing RENAME TO tenant_newco");
        }
        for _ in 0..2 {
            let (code, report) = site.reconcile(&[]);
            assert_eq!((code, whys(&report)), (3, vec![("number", name)]), "{report:#}");
            let found = &report["found"][0];
            assert_eq!((&found["closed_now"], &found["is_open"], &found["plan"]), (&json!(false), &json!(true), &json!(null)));
            assert!(found["what"].as_str().unwrap().contains("dump it, restore the dump into a new database"), "{report:#}");
            assert_eq!((state(&old, name), plans()), (Some(true), before));
        }
        assert_eq!(program.refused(4, &["drop", "zed", "--confirm", "zed"])["kind"], "tenant-erased");
    }
    // Its backups are refused until it has a number of its own.
    let (code, report) = program.run(&["backup", "newco"]);
    let error = &report["results"][0]["error"];
    assert_eq!((code, &error["kind"]), (4, &json!("database-erased")), "{report:#}");
    assert!(error["hint"].as_str().unwrap().contains("a number of its own"), "{report:#}");
    old.sql("postgres", "ALTER DATABASE tenant_newco RENAME TO moved");
    old.sql("postgres", "CREATE DATABASE tenant_newco TEMPLATE moved");
    old.sql("postgres", "DROP DATABASE moved");
    site.quiet();
    program.done(&["backup", "newco"]);
    assert_eq!((state(&old, "tenant_newco"), state(&old, "tenant_acme")), (Some(true), Some(true)));
}

/// All stores put back to a time in the grace: the plan says that it was withdrawn, and that keeps a living customer.
#[test]
fn a_withdrawal_that_is_lost_closes_nobody_and_is_written_again() {
    let site = Site::new(&Options::default(), &["acme", "globex"]);
    let program = &site.program;
    assert_eq!(program.run(&["erase", "globex", "--confirm", "globex"]).0, 3);
    let tombstones: Vec<_> = ["vault", "keyring"].iter().flat_map(|store| site.named(store, &["/erased/"])).collect();
    let undo = ["erase", "globex", "--undo", "--confirm", "globex"];
    let undone = program.done(&undo);
    let verify = ["certificate", "verify", undone["certificate"].as_str().unwrap()];
    program.done(&verify);
    program.done(&["backup", "globex"]);
    let said = || -> Vec<String> {
        let audit = program.done(&["audit", "--tenant", "globex"]);
        assert_eq!((&audit["bad"], &audit["leftovers"]), (&json!(0), &json!([])), "{audit:#}");
        let entries = audit["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "tombstone");
        entries.map(|entry| format!("{} by {}", entry["what"].as_str().unwrap(), entry["principal"].as_str().unwrap())).collect()
    };
    let both = said();
    assert!(both.len() == 2 && both[0].starts_with("erased by ") && both[1].starts_with("withdrawn by "), "{both:?}");
    for store in ["vault", "keyring"] {
        let lost = site.named(store, &["/erased/"]).into_iter().filter(|path| !tombstones.contains(path));
        assert_eq!(lost.map(|path| fs::remove_file(path).unwrap()).count(), 2);
    }
    assert_eq!(said(), both[..1]);

    let plans = || site.named("vault/plans", &["plan.json"]).len();
    let before = plans();
    let (code, report) = site.reconcile(&[]);
    assert_eq!((code, &report["found"], &report["open"]), (5, &json!([]), &json!([])), "{report:#}");
    let problem = report["problems"][0]["problem"].as_str().unwrap();
    assert!(problem.starts_with("its withdrawal is missing") && problem.contains("`tenure erase globex --undo`"), "{report:#}");
    assert_eq!((site.state("globex"), plans()), (Some(true), before));
    // Nothing fails open; and what is typed is said.
    for command in
        [&["erase", "globex", "--confirm", "globex"][..], &["admit", "--new", "globex"], &["admit", "--source", "globex"]]
    {
        let refused = program.refused(4, command);
        assert_eq!(refused["kind"], "tenant-erased", "{command:?}");
        assert!(refused["hint"].as_str().unwrap().contains("`tenure erase globex --undo`"), "{command:?}: {refused:#}");
    }
    let (_, report) = program.run(&["backup", "globex"]);
    assert_eq!(report["results"][0]["error"]["kind"], "tenant-erased", "{report:#}");
    let (code, verified) = program.run(&verify);
    let failed = |check: &&Value| check["what"] == "withdrawal" && check["outcome"] == "does-not-hold";
    assert_eq!((code, verified["checks"].as_array().unwrap().iter().filter(failed).count()), (5, 2), "{verified:#}");

    // Closed by an earlier run, say.
    site.cluster.sql("postgres", "ALTER DATABASE tenant_globex ALLOW_CONNECTIONS false");
    let again = program.done(&undo);
    assert_eq!((&again["status"], &again["certificate"]), (&json!("withdrawn"), &undone["certificate"]), "{again:#}");
    assert_eq!((site.state("globex"), said()), (Some(true), both));
    site.quiet();
    program.done(&verify);
    program.done(&["backup", "--all"]);
    assert_eq!(program.refused(1, &undo)["kind"], "nothing-to-undo");
}

#[test]
fn what_cannot_be_asked_is_not_done() {
    let site = Site::new(&Options { replicas: 1, ..Options::default() }, &["acme"]);
    site.erased_at_once("acme");
    site.cluster.replicas[0].stop("fast");
    let (code, report) = site.reconcile(&[]);
    assert_eq!(
        (code, &report["open"][0]["kind"], &report["open"][0]["object"]),
        (3, &json!("unreachable"), &json!("here replica 1"))
    );
    site.cluster.stop("fast");
    let (code, report) = site.reconcile(&[]);
    assert_eq!((code, report["open"].as_array().unwrap().len()), (3, 2), "{report:#}");
}

#[test]
fn copies_and_what_replicas_keep_are_named() {
    let site = Site::new(&Options { replicas: 2, ..Options::default() }, &["acme", "acme_2"]);
    let program = &site.program;
    program.done(&["restore", "acme", "--into", "acme_copy", "--identity", "recovery-kit.txt"]);
    site.configure("replica_wait = \"30s\"", "replica_wait = \"1s\"");
    site.cluster.wait_for_replicas();
    let [first, second] = &site.cluster.replicas[..] else { panic!("two replicas") };
    first.sql("postgres", "SELECT pg_wal_replay_pause()");
    second.promote();
    assert_eq!(program.run(&["erase", "acme", "--skip-grace", "--confirm", "acme"]).0, 3);
    let (code, report) = site.reconcile(&[]);
    let expected = [("on-replica", "tenant_acme"), ("on-replica", "tenant_acme"), ("copy", "acme_copy")];
    assert_eq!((code, whys(&report)), (3, expected.to_vec()), "{report:#}");
    assert_eq!((&report["found"][0]["closed_now"], &report["found"][1]["closed_now"]), (&json!(false), &json!(true)));
    assert_eq!((state(first, "tenant_acme"), state(second, "tenant_acme")), (Some(true), Some(false)));
    assert_eq!(state(second, "tenant_acme_2"), Some(true));
}

/// An operators' number guards the drop, not the closing.
#[test]
fn operators_sign_the_plan_that_it_prepared() {
    let site = Site::new(&Options::default(), &["acme"]);
    let program = &site.program;
    let kept = site.cluster.base_backup("kept");
    site.erased_at_once("acme");
    let old = site.put_in_place(kept);
    crate::approvals::let_ann_in(program.folder());
    site.configure("[cluster.here]\n", "[approvals]\ndrop = 2\n\n[cluster.here]\n");
    let (code, report) = site.reconcile(&[]);
    let plan = report["found"][0]["plan"].as_str().unwrap().to_owned();
    assert_eq!((code, state(&old, "tenant_acme")), (3, Some(false)), "{report:#}");
    assert!(
        report["found"][0]["what"].as_str().unwrap().contains(&format!("`tenure approve {plan} --tenant acme`")),
        "{report:#}"
    );
    let refused = program.refused(4, &["drop", "acme", "--plan", &plan, "--confirm", "acme"]);
    assert_eq!((&refused["kind"], &refused["object"]), (&json!("approvals-wanting"), &json!(plan)), "{refused:#}");
    program.done(&["approve", &plan, "--tenant", "acme", "--key", "ann"]);
    program.done(&["drop", "acme", "--plan", &plan, "--confirm", "acme"]);
    assert_eq!(state(&old, "tenant_acme"), None);
}

/// An operator alone names another database: no tombstone has it, and nothing is dropped.
#[test]
fn a_plan_without_a_tombstone_drops_nothing() {
    let site = Site::new(&Options::default(), &["acme", "globex"]);
    let program = &site.program;
    let kept = site.cluster.base_backup("kept");
    site.erased_at_once("acme");
    let old = site.put_in_place(kept);
    old.sql("postgres", "CREATE DATABASE ledger");
    let plan = site.reconcile(&[]).1["found"][0]["plan"].as_str().unwrap().to_owned();
    let file = program.path(&format!("vault/plans/{plan}/plan.json"));
    let signed = fs::read_to_string(&file).unwrap();
    let oid =
        |name: &str| old.sql("postgres", &format!("SELECT oid FROM pg_database WHERE datname = '{name}'")).trim().to_owned();
    let changed =
        signed.replace(&format!("\"database_oid\":{}", oid("tenant_acme")), &format!("\"database_oid\":{}", oid("ledger")));
    assert_ne!(changed, signed);
    let operator = tenure::signature::SigningKey::parse(&fs::read(program.path("keys/operator")).unwrap()).unwrap();
    fs::write(&file, &changed).unwrap();
    fs::write(file.with_extension("json.sig"), operator.sign(tenure::signature::Namespace::Plan, changed.as_bytes()).unwrap())
        .unwrap();
    assert_eq!(program.refused(5, &["drop", "acme", "--plan", &plan, "--confirm", "acme"])["kind"], "plan-contradicted");
    assert_eq!(state(&old, "ledger"), Some(true));
}

#[test]
fn in_the_grace_it_stays_closed() {
    let site = Site::on(Cluster::start(&Options::default()), &["acme"]);
    assert_eq!(site.program.run(&["erase", "acme", "--confirm", "acme"]).0, 3);
    site.quiet();
    site.cluster.sql("postgres", "ALTER DATABASE tenant_acme ALLOW_CONNECTIONS true");
    let (code, report) = site.reconcile(&[]);
    assert_eq!((code, whys(&report)), (3, vec![("reopened", "tenant_acme")]), "{report:#}");
    assert_eq!((site.state("acme"), &report["found"][0]["plan"]), (Some(false), &json!(null)), "{report:#}");
    site.quiet();
    let (code, report) = site.program.run(&["erase", "acme", "--undo", "--confirm", "acme"]);
    assert_eq!((code, site.state("acme")), (0, Some(true)), "{report:#}");
    site.quiet();
}

/// The same bytes under the same signature come back; what is forged or spoilt moves nobody.
#[test]
fn a_removed_tombstone_is_put_back_and_a_spoilt_one_is_an_alarm() {
    let site = Site::new(&Options::default(), &["acme", "globex"]);
    let program = &site.program;
    site.erased_at_once("acme");
    let all = |store: &str| -> Vec<(PathBuf, Vec<u8>)> {
        site.named(store, &["/erased/"]).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    };
    for store in ["vault", "keyring"] {
        let whole = all(store);
        assert_eq!(whole.len(), 2);
        // All of it, or the document alone.
        for lost in [&whole[..], &whole[..1]] {
            lost.iter().for_each(|(path, _)| fs::remove_file(path).unwrap());
            let checked = program.run(&["check"]).1;
            assert!(checked.to_string().contains("somebody removed it"), "{checked:#}");
            let (code, keys) = program.run(&["keys", "check"]);
            assert!(code == 5 && keys.to_string().contains("somebody removed it"), "{keys:#}");
            let (code, report) = site.reconcile(&["--dry-run"]);
            assert_eq!((code, &report["problems"][0]["put_back"]), (5, &json!(false)), "{report:#}");
            assert_ne!(all(store), whole);
            let (code, report) = site.reconcile(&[]);
            assert_eq!((code, &report["problems"][0]["put_back"]), (5, &json!(true)), "{report:#}");
            assert_eq!(all(store), whole);
            site.quiet();
        }
        // Spoilt: named, refused, and left as it is.
        let (path, bytes) = &whole[0];
        fs::write(path, b"{}").unwrap();
        let (code, report) = site.reconcile(&[]);
        assert_eq!((code, &report["problems"][0]["put_back"], &report["found"]), (5, &json!(false), &json!([])), "{report:#}");
        assert_eq!(fs::read(path).unwrap(), b"{}");
        let (code, audit) = program.run(&["audit"]);
        let bad = audit["entries"].as_array().unwrap().iter().find(|entry| !entry["problem"].is_null()).unwrap();
        assert_eq!((code, &audit["bad"], &bad["kind"]), (5, &json!(1), &json!("unknown")), "{audit:#}");
        assert!(bad["object"].as_str().unwrap().contains("/erased/"), "{audit:#}");
        fs::write(path, bytes).unwrap();
    }
    // One that a worker's key signed, in both: an alarm, and no reason to touch anybody's database.
    let forged = forge(&site, "globex");
    let (code, report) = site.reconcile(&[]);
    assert_eq!((code, &report["found"]), (5, &json!([])), "{report:#}");
    assert_eq!(report["problems"].as_array().unwrap().len(), 2, "{report:#}");
    assert_eq!(site.state("globex"), Some(true));
    forged.iter().for_each(|path| fs::remove_file(path).unwrap());
    site.quiet();
}

/// In the grace nobody is left in the database anywhere; where that cannot be said, it is noted.
#[test]
fn the_grace_ends_sessions_on_replicas() {
    let site = Site::new(&Options { replicas: 1, ..Options::default() }, &["acme", "globex"]);
    site.cluster.wait_for_replicas();
    let replica = &site.cluster.replicas[0];
    let held = old_session(&site, replica);
    let (code, report) = site.program.run(&["erase", "acme", "--confirm", "acme"]);
    assert_eq!((code, &report["status"], &report["notes"]), (3, &json!("suspended"), &json!([])), "{report:#}");
    assert!(!held.wait_with_output().unwrap().status.success(), "its session was ended");
    assert_eq!(state(replica, "tenant_acme"), Some(false));
    assert_eq!(site.tenant("acme"), "suspended");
    let (_, said, _) = site.program.say(&["tenants"]);
    assert!(said.contains("suspended until 20"), "{said}");
    let checked = site.program.run(&["check"]).1;
    assert!(
        checked
            .to_string()
            .contains("database tenant_acme is closed: it is being erased, and nothing of it is destroyed before 20"),
        "{checked:#}"
    );
    replica.stop("fast");
    let (code, report) = site.program.run(&["erase", "globex", "--confirm", "globex"]);
    assert_eq!((code, &report["status"]), (3, &json!("suspended")), "{report:#}");
    assert!(report["notes"][0].as_str().unwrap().starts_with("sessions on here replica 1 ("), "{report:#}");
}

/// A mirror that is away keeps nothing from counting; it gets what it lacks later.
#[test]
fn a_mirror_that_is_away_gets_its_tombstones_later() {
    let cluster = Cluster::start(&Options::default());
    let program = crate::harness::program::Program::new();
    let mut words = program.init(&cluster.description(), "tenant_{tenant}");
    words.extend(["--mirror".to_owned(), format!("file://{}", program.path("mirror").display())]);
    program.done(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let site = Site { cluster, program };
    let program = &site.program;
    site.create("acme");
    program.done(&["backup", "--all"]);
    let (mirror, aside) = (program.path("mirror"), program.path("aside"));
    let away = |is_away: bool| if is_away { fs::rename(&mirror, &aside).unwrap() } else { fs::rename(&aside, &mirror).unwrap() };
    let kinds = |report: &Value| -> Vec<String> {
        report["open"].as_array().unwrap().iter().map(|item| item["kind"].as_str().unwrap().to_owned()).collect()
    };
    let erased = |store: &str| -> Vec<(PathBuf, Vec<u8>)> {
        let folder = program.path(store);
        let files = site.named(store, &["/erased/"]).into_iter();
        files.map(|path| (path.strip_prefix(&folder).unwrap().to_owned(), fs::read(&path).unwrap())).collect()
    };

    away(true);
    let (code, report) = program.run(&["erase", "acme", "--confirm", "acme"]);
    assert_eq!(
        (code, &report["status"], kinds(&report)),
        (3, &json!("suspended"), vec!["tombstone".into(), "grace".into()]),
        "{report:#}"
    );
    assert_eq!(site.state("acme"), Some(false));
    let (code, report) = program.run(&["erase", "acme", "--undo", "--confirm", "acme"]);
    assert_eq!((code, &report["status"], kinds(&report)), (3, &json!("withdrawn"), vec!["tombstone".into()]), "{report:#}");
    assert_eq!(site.state("acme"), Some(true));
    let (code, report) = site.reconcile(&[]);
    assert_eq!((code, kinds(&report)), (3, vec!["tombstone".to_owned()]), "{report:#}");
    away(false);
    let (code, report) = program.run(&["erase", "acme", "--undo", "--confirm", "acme"]);
    assert_eq!((code, &report["open"]), (0, &json!([])), "{report:#}");
    let (code, report) = site.reconcile(&[]);
    assert_eq!((code, &report["problems"][0]["put_back"]), (0, &json!(true)), "a mirror may have been away: {report:#}");
    assert_eq!(erased("mirror"), erased("keyring"));

    site.erased_at_once("acme");
    away(true);
    let (code, report) = program.run(&["admit", "--new", "acme"]);
    assert_eq!((code, kinds(&report["new"][0])), (3, vec!["tombstone".to_owned()]), "{report:#}");
    away(false);
    // From a mirror alone everything comes back.
    for store in ["vault", "keyring"] {
        fs::remove_dir_all(program.path(store).join("erased")).unwrap();
    }
    assert_eq!(site.reconcile(&[]).0, 5);
    assert_eq!(erased("vault"), erased("mirror"));
    site.quiet();
}

/// Without the key of names nobody knows who was erased: nothing goes on.
#[test]
fn a_lost_or_foreign_name_key_stops_everything() {
    let site = Site::new(&Options::default(), &["acme", "globex"]);
    let program = &site.program;
    site.erased_at_once("acme");
    site.create("acme");
    let file = program.path("keyring/keyring.json");
    let root = fs::read_to_string(&file).unwrap();
    let key = serde_json::from_str::<Value>(&root).unwrap()["name_key"].as_str().unwrap().to_owned();
    let another: String = key.chars().map(|c| if c == '0' { '1' } else { '0' }).collect();
    let commands = [
        &["backup", "--all"][..],
        &["backup", "acme"],
        &["reconcile"],
        &["admit", "--new", "acme"],
        &["erase", "globex", "--confirm", "globex"],
    ];
    for lost in [Some(root.replace(&key, &another)), None] {
        match &lost {
            Some(text) => fs::write(&file, text).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        for command in commands {
            program.refused(5, command);
        }
    }
    fs::write(&file, root).unwrap();
    assert_eq!((site.state("acme"), site.state("globex")), (Some(true), Some(true)));
    assert_eq!(whys(&site.reconcile(&[]).1), [("name", "tenant_acme")]);
}

/// A tombstone of a tenant's database that no eraser signed.
fn forge(site: &Site, tenant: &str) -> Vec<PathBuf> {
    let program = &site.program;
    let signed = site.named("vault", &["/erased/"]).remove(0);
    let text = fs::read_to_string(&signed).unwrap();
    let root: Value = serde_json::from_slice(&fs::read(program.path("keyring/keyring.json")).unwrap()).unwrap();
    let key: tenure::name_key::NameKey = serde_json::from_value(root["name_key"].clone()).unwrap();
    let tag = key.tag(&tenant.parse().unwrap()).to_string();
    let note: Value = serde_json::from_str(&text).unwrap();
    let (was, id) = (note["name_tag"].as_str().unwrap(), note["id"].as_str().unwrap());
    let forged_id = tenure::id::RecordId::random().to_string();
    let oid = note["databases"][0]["database_oid"].to_string();
    let text = text.replace(was, &tag).replace(id, &forged_id).replace(&format!(":{oid}"), &format!(":{}", site.oid(tenant)));
    let worker = tenure::signature::SigningKey::parse(&fs::read(program.path("keys/worker")).unwrap()).unwrap();
    let signature = worker.sign(tenure::signature::Namespace::Erasure, text.as_bytes()).unwrap();
    let mut written = Vec::new();
    for store in ["vault", "keyring"] {
        let path = program.path(&format!("{store}/erased/{tag}/{forged_id}.json"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &text).unwrap();
        fs::write(path.with_extension("json.sig"), &signature).unwrap();
        written.extend([path.with_extension("json.sig"), path]);
    }
    written
}
