//! A tenant is gone, live and in every backup, and does not come back; and while its grace lasts nothing is lost.

mod certificate;
mod evidence;
mod given_back;
mod locked;
mod numbers;
mod page;
mod together;
mod walk;

use std::fs;

use serde_json::{Value, json};

use crate::{
    drop::Site,
    harness::{
        postgres::{Cluster, Options},
        site::walk,
    },
};

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for path in walk(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    }
}

impl Site {
    fn erase(&self, tenant: &str, more: &[&str]) -> (i32, Value) {
        self.program.run(&[&["erase", tenant, "--confirm", tenant], more].concat())
    }

    /// What a command about the tenant is refused with.
    fn refused(&self, command: &[&str]) -> String {
        let (code, document) = self.program.run(command);
        assert_eq!(code, 4, "{command:?}: {document:#}");
        document["error"]["kind"].as_str().unwrap_or_default().to_owned()
    }

    /// What one tenant's outcome is refused with.
    fn refused_by_name(&self, command: &[&str]) -> String {
        let (_, document) = self.program.run(command);
        let kind = document["error"]["kind"].as_str().or(document["results"][0]["error"]["kind"].as_str());
        kind.unwrap_or_else(|| panic!("{command:?}: {document:#}")).to_owned()
    }

    /// Files of a store whose names contain all of these.
    fn files(&self, store: &str, parts: &[&str]) -> usize {
        let files = walk(&self.program.path(store));
        files.iter().filter(|path| parts.iter().all(|part| path.to_string_lossy().contains(part))).count()
    }

    fn outcome(&self, tenant: &str) -> (i32, String, String) {
        let (code, report) = self.program.run(&["backup", "--all"]);
        let results = report["results"].as_array().unwrap_or_else(|| panic!("{report:#}"));
        let Some(result) = results.iter().find(|result| result["tenant"] == tenant) else {
            return (code, "not there".to_owned(), String::new());
        };
        let kind = result["error"]["kind"].as_str().unwrap_or_default();
        (code, result["outcome"].as_str().unwrap().to_owned(), kind.to_owned())
    }
}

#[test]
fn while_the_grace_lasts_nothing_is_lost_and_everybody_refuses() {
    let site = Site::new(&Options::default(), &["acme", "acme_2"]);
    let program = &site.program;
    // Nobody is meant by accident.
    let (code, planned) = program.run(&["erase", "acme", "--dry-run"]);
    assert_eq!((code, &planned["dry_run"], &planned["plan"]), (0, &json!(true), &json!(null)), "{planned:#}");
    assert_eq!(site.refused(&["erase", "acme"]), "not-confirmed");
    assert_eq!(site.refused(&["erase", "acme", "--confirm", "acme_2"]), "not-confirmed");
    assert_eq!(program.refused(1, &["erase", "nobody", "--confirm", "nobody"])["kind"], "unknown-tenant");
    program.done(&["hold", "acme", "--reason", "a letter"]);
    assert_eq!(site.refused(&["erase", "acme", "--confirm", "acme"]), "on-hold");
    program.done(&["release", "acme"]);
    assert_eq!((site.state("acme"), site.files("vault", &["erased"])), (Some(true), 0));

    let (code, report) = site.erase("acme", &[]);
    assert_eq!((code, &report["status"]), (3, &json!("suspended")), "{report:#}");
    assert_eq!(report["open"][0]["kind"], "grace", "{report:#}");
    assert_eq!(site.state("acme"), Some(false), "it lets nobody in");
    assert_eq!((site.files("vault", &["erased"]), site.files("keyring", &["erased"])), (2, 2));
    let (code, outcome, _) = site.outcome("acme");
    assert_eq!((code, outcome.as_str()), (0, "not there"), "it keeps no night from being a good one");
    assert_eq!(site.outcome("acme_2").1, "done");
    assert_eq!(site.refused_by_name(&["backup", "acme"]), "tenant-erased");
    for command in [
        &["restore", "acme", "--into", "acme_copy", "--identity", "recovery-kit.txt"][..],
        &["admit", "--source", "acme"],
        &["admit", "--new", "acme"],
        &["drop", "acme", "--confirm", "acme"],
    ] {
        assert_eq!(site.refused(command), "tenant-erased", "{command:?}");
    }
    let (code, rotated) = program.run(&["keys", "rotate", "acme"]);
    assert_eq!((code, &rotated["results"][0]["error"]["kind"]), (4, &json!("tenant-erased")), "{rotated:#}");
    assert_eq!(site.tenant("acme"), "suspended");
    // Its grace was signed, and nobody ends it by typing more.
    assert_eq!(site.refused(&["erase", "acme", "--skip-grace", "--confirm", "acme"]), "grace-planned");
    // Once more is the same plan, and still nothing is lost.
    let (code, again) = site.erase("acme", &[]);
    assert_eq!((code, &again["plan"], &again["status"]), (3, &report["plan"], &json!("suspended")), "{again:#}");
    assert_eq!(again["grace_until"], report["grace_until"]);

    let (code, undone) = site.erase("acme", &["--undo"]);
    assert_eq!((code, &undone["status"]), (0, &json!("withdrawn")), "{undone:#}");
    assert_eq!(site.state("acme"), Some(true));
    assert_eq!(site.outcome("acme"), (0, "done".to_owned(), String::new()));
    assert_eq!(program.refused(1, &["erase", "acme", "--undo", "--confirm", "acme"])["kind"], "nothing-to-undo");
    program.done(&["verify", "--all", "--identity", "recovery-kit.txt"]);
    program.done(&["tenants"]);
}

#[test]
fn everything_goes_from_everywhere_and_does_not_come_back() {
    let site = Site::new(&Options { replicas: 1, ..Options::default() }, &["acme", "acme_2", "acmeology"]);
    let program = &site.program;
    for store in ["vault", "keyring"] {
        copy(&program.path(store), &program.path(&format!("{store}.old")));
    }
    let oid = site.oid("acme");
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!((code, &report["status"], &report["open"]), (0, &json!("closed"), &json!([])), "{report:#}");
    assert!(report["objects_removed"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!(report["nodes"].as_array().unwrap().len(), 2, "{report:#}");
    assert!(report["key_copies"].as_array().unwrap().iter().all(|copy| !copy["destroyed_at"].is_null()), "{report:#}");
    assert_eq!(site.state("acme"), None);
    assert!(!crate::drop::has(&site.cluster.replicas[0], &oid));
    // Nothing but the notes and tombstones; the neighbours have all that they had.
    let (code, again) = site.erase("acme", &[]);
    assert_eq!((code, &again["error"]["kind"]), (4, &json!("tenant-erased")), "{again:#}");
    program.done(&["backup", "--all"]);
    program.done(&["verify", "--all", "--identity", "recovery-kit.txt"]);
    assert_eq!((site.state("acme_2"), site.state("acmeology")), (Some(true), Some(true)));

    // Old copies of both stores put back beside the tombstones: nobody opens anything.
    for store in ["vault", "keyring"] {
        copy(&program.path(&format!("{store}.old")), &program.path(store));
    }
    let restore = ["restore", "acme", "--into", "acme_copy", "--identity", "recovery-kit.txt"];
    assert_eq!(site.refused(&restore), "tenant-erased");
    // In one store alone the tombstone is enough.
    for store in ["vault", "keyring"] {
        let (erased, aside) = (program.path(store).join("erased"), program.path("aside"));
        fs::rename(&erased, &aside).unwrap();
        assert_eq!(site.refused(&restore), "tenant-erased", "{store}");
        fs::rename(&aside, &erased).unwrap();
    }
    let (_, purged) = program.run(&["purge", "acme", "--returned", "--confirm", "acme"]);
    assert_eq!(purged["status"], "closed", "{purged:#}");

    // A database with the old name: alarmed, not backed up, never dropped, until somebody says that it is a new customer's.
    site.create("acme");
    assert_eq!(site.outcome("acme"), (4, "refused".to_owned(), "tenant-erased".to_owned()));
    assert_eq!(site.refused(&["erase", "acme", "--confirm", "acme"]), "tenant-erased");
    assert_eq!(site.refused(&["drop", "acme", "--confirm", "acme"]), "tenant-erased");
    assert_eq!(site.state("acme"), Some(true));
    assert_eq!(program.refused(1, &["admit", "--new", "acme_2"])["kind"], "not-erased");
    let admitted = program.done(&["admit", "--new", "acme"]);
    assert_eq!(admitted["new"][0]["database"], "here/tenant_acme", "{admitted:#}");
    assert_eq!(site.outcome("acme"), (0, "done".to_owned(), String::new()));
    assert_eq!(program.done(&["list", "acme"])["backups"].as_array().unwrap().len(), 1);
    program.done(&["keys", "check", "--identity", "recovery-kit.txt"]);
}

#[test]
fn a_server_that_is_down_keeps_no_backup() {
    let site = Site::on(Cluster::start(&Options::default()), &["acme"]);
    site.cluster.stop("fast");
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!(code, 3, "{report:#}");
    let open = report["open"].as_array().unwrap();
    assert!(open.iter().any(|item| item["kind"] == "live"), "{report:#}");
    assert_eq!(report["status"], "requested", "the last stage with nothing open before it: {report:#}");
    assert!(report["key_copies"].as_array().unwrap().iter().all(|copy| !copy["destroyed_at"].is_null()), "{report:#}");
    assert_eq!(site.files("keyring", &["/k/"]), 0);
    site.cluster.start_again();
    let (code, report) = site.erase("acme", &[]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    assert_eq!(site.state("acme"), None);
}

#[test]
fn too_many_a_day_are_an_accident() {
    let site = Site::new(&Options::default(), &["acme", "globex"]);
    let file = site.program.path("tenure.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n[erasure]\nper_day = 1\n")).unwrap();
    assert_eq!(site.erase("acme", &[]).0, 3);
    assert_eq!(site.refused(&["erase", "globex", "--confirm", "globex"]), "too-many-erasures");
    // What was begun may be finished, and what was given back is none.
    assert_eq!(site.erase("acme", &["--undo"]).0, 0);
    assert_eq!(site.erase("globex", &[]).0, 3);
    assert_eq!(site.refused(&["erase", "acme", "--confirm", "acme"]), "too-many-erasures");
}

/// An operator alone adds a neighbour's locker or database to the plan of an erasure that waits: nothing goes on by it.
#[test]
fn a_plan_that_names_a_neighbours_locker_or_database_erases_nothing() {
    let site = Site::new(&Options::default(), &["acme", "acme_2"]);
    let program = &site.program;
    assert_eq!(site.erase("acme", &[]).0, 3);
    let plan = walk(&program.path("vault/plans")).into_iter().find(|path| path.ends_with("plan.json")).unwrap();
    let signed = fs::read_to_string(&plan).unwrap();
    let planned: Value = serde_json::from_str(&signed).unwrap();
    let operator = tenure::signature::SigningKey::parse(&fs::read(program.path("keys/operator")).unwrap()).unwrap();
    let lockers = fs::read_dir(program.path("vault/t")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let theirs = lockers.into_iter().find(|locker| !signed.contains(locker)).unwrap();
    let source = walk(&program.path(&format!("vault/t/{theirs}/s"))).into_iter().find(|path| path.extension().unwrap() == "json");
    let source: Value = serde_json::from_slice(&fs::read(source.unwrap()).unwrap()).unwrap();
    let (old, new) = (planned["databases"][0]["database_oid"].to_string(), source["database_oid"].to_string());
    assert_ne!(old, new);
    let locker = format!(r#""lockers":[{{"locker":"{theirs}","cluster":null,"keys":[],"manifests":1,"backups":[]}},"#);
    for changed in [
        signed.replacen("\"lockers\":[", &locker, 1),
        signed.replacen(&format!("\"database_oid\":{old}"), &format!("\"database_oid\":{new}"), 1),
    ] {
        assert_ne!(changed, signed);
        fs::write(&plan, &changed).unwrap();
        let signature = operator.sign(tenure::signature::Namespace::Plan, changed.as_bytes()).unwrap();
        fs::write(plan.with_extension("json.sig"), signature).unwrap();
        let before = (site.files("vault", &["/t/"]), site.files("keyring", &[""]), site.state("acme_2"));
        assert_eq!(program.refused(5, &["erase", "acme", "--confirm", "acme"])["kind"], "untrusted-plan");
        assert_eq!(program.refused(5, &["erase", "acme", "--dry-run"])["kind"], "untrusted-plan");
        let after = (site.files("vault", &["/t/"]), site.files("keyring", &[""]), site.state("acme_2"));
        assert_eq!(after, before);
    }
    assert_eq!(site.outcome("acme_2").0, 0);
}

#[test]
fn nobody_is_closed_before_enough_operators_signed() {
    let site = Site::new(&Options::default(), &["acme"]);
    crate::approvals::let_ann_in(site.program.folder());
    site.configure("[cluster.here]\n", "[approvals]\nerase = 2\n\n[cluster.here]\n");
    let (code, refused) = site.erase("acme", &[]);
    assert_eq!((code, &refused["error"]["kind"]), (4, &json!("approvals-wanting")), "{refused:#}");
    assert_eq!((site.state("acme"), site.files("vault", &["erased"])), (Some(true), 0));
    let plan = refused["error"]["object"].as_str().unwrap();
    let shown = site.program.done(&["plans", "show", plan]);
    assert!(shown["details"].to_string().contains(&format!("OID {} ", site.oid("acme"))), "{shown:#}");
    site.program.done(&["approve", plan, "--tenant", "acme", "--key", "ann"]);
    let (code, report) = site.erase("acme", &[]);
    assert_eq!((code, &report["plan"], &report["status"]), (3, &json!(plan), &json!("suspended")), "{report:#}");
    let certificate = site.certificate(&report["certificate"]);
    let request = &certificate["request"];
    assert_eq!(
        (&request["approvals_needed"], &request["approved_by"][0]["principal"]),
        (&json!(2), &json!("ann")),
        "{request:#}"
    );
    assert_ne!(request["planned_by"]["fingerprint"], request["approved_by"][0]["fingerprint"]);
    // Who signed a grace signed no other one.
    assert_eq!(site.refused(&["erase", "acme", "--skip-grace", "--confirm", "acme"]), "grace-planned");
    assert_eq!(site.state("acme"), Some(false));
}

/// What keeps an erasure from its end keeps the name from anybody else, and its records from going.
#[test]
fn copies_keep_an_erasure_open_and_nobody_has_the_name_meanwhile() {
    let site = Site::new(&Options::default(), &["acme", "acme_2"]);
    let program = &site.program;
    program.done(&["restore", "acme", "--into", "acme_copy", "--identity", "recovery-kit.txt"]);
    for _ in 0..2 {
        let (code, report) = site.erase("acme", &["--skip-grace"]);
        assert_eq!((code, &report["status"]), (3, &json!("requested")), "{report:#}");
        let open = report["open"].as_array().unwrap();
        assert!(open.iter().any(|item| item["kind"] == "copy"), "{report:#}");
        assert!(site.files("keyring", &["/k/"]) == 2, "which copies there are is not known without it");
    }
    assert_eq!(site.refused(&["admit", "--new", "acme"]), "erasure-open");
    let (code, report) = program.run(&["check"]);
    assert!(code == 1 && report.to_string().contains("`tenure erase acme` goes on with it"), "{report:#}");
    let (code, report) = program.run(&["expire"]);
    assert!(code == 3 && report["problems"].to_string().contains("`tenure erase acme`"), "{report:#}");
    site.cluster.sql("postgres", "DROP DATABASE acme_copy");
    let (code, report) = site.erase("acme", &[]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    program.done(&["admit", "--new", "acme"]);
}

#[test]
fn nothing_is_destroyed_in_the_grace_by_another_command_and_no_grace_is_cut_short() {
    let site = Site::new(&Options::default(), &["acme"]);
    let program = &site.program;
    assert_eq!(site.erase("acme", &[]).0, 3);
    for more in [&[][..], &["--before", "2100-01-01T00:00:00Z"]] {
        assert_eq!(site.refused(&[&["purge", "acme", "--confirm", "acme"], more].concat()), "tenant-erased");
    }
    assert_eq!(site.erase("acme", &["--undo"]).0, 0);
    assert_eq!(program.done(&["list", "acme"])["backups"].as_array().unwrap().len(), 1);
    // A plan without grace that waits is not what a plain `erase` means.
    crate::approvals::let_ann_in(program.folder());
    site.configure("[cluster.here]\n", "[approvals]\nerase = 2\n\n[cluster.here]\n");
    let (_, waits) = site.erase("acme", &["--skip-grace"]);
    let plan = waits["error"]["object"].as_str().unwrap();
    assert!(waits["error"]["message"].as_str().unwrap().contains("AT ONCE"), "{waits:#}");
    program.done(&["approve", plan, "--tenant", "acme", "--key", "ann"]);
    assert_eq!(site.refused(&["erase", "acme", "--confirm", "acme"]), "another-grace");
    assert_eq!(site.state("acme"), Some(true));
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    // Killed before its own last mark, it ends when it is run again.
    let mark =
        walk(&program.path(&format!("vault/plans/{plan}"))).into_iter().find(|path| path.ends_with("closed.json")).unwrap();
    fs::remove_file(mark.with_extension("json.sig")).unwrap();
    fs::remove_file(mark).unwrap();
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
}
