//! While nothing of a tenant is destroyed, a command gives everything back: whatever was lost, killed or turned up meanwhile. And nobody
//! destroys before the grace is over.

use std::{fs, path::PathBuf};

use serde_json::json;

use super::copy;
use crate::{
    drop::Site,
    harness::{postgres::Options, site::walk},
};

/// Moves files out of the way; what it gives puts them back.
fn set_aside(files: Vec<PathBuf>) -> impl FnOnce() {
    assert!(!files.is_empty());
    let kept: Vec<_> = files.into_iter().map(|file| (fs::read(&file).unwrap(), file)).collect();
    kept.iter().for_each(|(_, file)| fs::remove_file(file).unwrap());
    move || kept.iter().for_each(|(bytes, file)| fs::write(file, bytes).unwrap())
}

impl Site {
    fn below(&self, folder: &str, part: &str) -> Vec<PathBuf> {
        let mut files = walk(&self.program.path(folder));
        files.retain(|file| file.to_string_lossy().contains(part));
        files
    }

    fn begun(&self, tenant: &str) -> String {
        let (code, report) = self.erase(tenant, &[]);
        assert_eq!((code, &report["status"], self.state(tenant)), (3, &json!("suspended"), Some(false)), "{report:#}");
        report["plan"].as_str().unwrap().to_owned()
    }

    fn undone(&self, tenant: &str) {
        let (code, report) = self.erase(tenant, &["--undo"]);
        assert_eq!((code, &report["status"]), (0, &json!("withdrawn")), "{report:#}");
        assert_eq!(self.state(tenant), Some(true));
        assert_eq!(self.outcome(tenant).1, "done");
        self.program.done(&["reconcile"]);
        self.program.done(&["verify", "--all", "--identity", "recovery-kit.txt"]);
    }
}

#[test]
fn a_key_that_turns_up_keeps_the_plan_open() {
    let site = Site::new(&Options::default(), &["acme"]);
    let rotated = site.program.done(&["keys", "rotate", "acme"]);
    let key = rotated["results"][0]["key"].as_str().unwrap_or_else(|| panic!("{rotated:#}")).to_owned();
    let put_back = set_aside(site.below("keyring", &key));
    let plan = site.begun("acme");
    put_back();
    let refused = site.program.refused(4, &["erase", "acme", "--confirm", "acme"]);
    assert_eq!((&refused["kind"], &refused["object"]), (&json!("plan-changed"), &json!(plan)), "{refused:#}");
    assert_eq!(site.state("acme"), Some(false));
    // Nothing has come back: it waits.
    site.program.done(&["reconcile"]);
    site.undone("acme");
}

#[test]
fn an_older_vault_knows_of_no_plan_and_destroys_nothing_in_the_grace() {
    let site = Site::new(&Options::default(), &["acme"]);
    let program = &site.program;
    copy(&program.path("vault"), &program.path("vault.before"));
    site.begun("acme");
    fs::remove_dir_all(program.path("vault")).unwrap();
    fs::rename(program.path("vault.before"), program.path("vault")).unwrap();
    let (_, report) = program.run(&["reconcile"]);
    // The tombstone that the vault lost is put back; nothing is planned.
    assert_eq!(
        (report["problems"].as_array().unwrap().len(), &report["problems"][0]["put_back"]),
        (1, &json!(true)),
        "{report:#}"
    );
    assert_eq!((&report["found"], site.files("vault", &["plans"])), (&json!([]), 0), "{report:#}");
    assert_eq!(program.refused(4, &["erase", "acme", "--confirm", "acme"])["kind"], "tenant-erased");
    site.undone("acme");
}

#[test]
fn a_changed_plan_is_no_reason_to_act() {
    let site = Site::new(&Options::default(), &["acme"]);
    let plan = site.begun("acme");
    let file = site.program.path("vault").join(format!("plans/{plan}/plan.json"));
    let whole = fs::read(&file).unwrap();
    fs::write(&file, [&whole[..], b"\n"].concat()).unwrap();
    let (code, report) = site.program.run(&["reconcile"]);
    assert_eq!((code, report["problems"].as_array().unwrap().len(), &report["found"]), (5, 1, &json!([])), "{report:#}");
    fs::write(&file, whole).unwrap();
    site.undone("acme");
}

#[test]
fn a_key_that_one_copy_lost_is_nothing_destroyed() {
    let site = Site::new(&Options::default(), &["acme"]);
    let mirror = site.program.path("mirror");
    fs::create_dir(&mirror).unwrap();
    site.configure("[keyring]\n", &format!("[keyring]\nmirrors = [{{ url = \"file://{}\" }}]\n", mirror.display()));
    site.program.done(&["keys", "repair"]);
    site.begun("acme");
    let halves = site.below("keyring", "/k/");
    let lost = halves[0].strip_prefix(site.program.path("keyring")).unwrap().to_owned();
    fs::remove_file(&halves[0]).unwrap();
    // Nowhere at all is another matter.
    fs::rename(mirror.join(&lost), mirror.join("away")).unwrap();
    assert_eq!(site.program.refused(4, &["erase", "acme", "--undo", "--confirm", "acme"])["kind"], "too-late");
    fs::rename(mirror.join("away"), mirror.join(&lost)).unwrap();
    let (code, report) = site.erase("acme", &["--undo"]);
    assert_eq!((code, &report["status"], site.state("acme")), (0, &json!("withdrawn"), Some(true)), "{report:#}");
    site.program.done(&["keys", "repair"]);
    assert_eq!(site.outcome("acme").1, "done");
}

/// Who may create in the vault can leave names there.
#[test]
fn a_signature_alone_takes_one_number_and_no_more() {
    let site = Site::new(&Options::default(), &["acme"]);
    let plan = site.begun("acme");
    let folder = site.program.path("vault").join(format!("certificates/{plan}"));
    fs::write(folder.join(format!("{}.json.sig", u32::MAX)), "nothing").unwrap();
    fs::write(folder.join("3.json.sig"), "nothing").unwrap();
    let (code, report) = site.erase("acme", &["--undo"]);
    assert_eq!((code, &report["status"]), (0, &json!("withdrawn")), "{report:#}");
    assert!(folder.join("4.json").exists());
    site.program.done(&["certificate", "verify", &plan]);
}

/// Prepared transactions keep a database from being dropped, and nobody from being kept out of it.
#[test]
fn what_cannot_be_dropped_lets_nobody_in() {
    let options = Options { settings: vec!["max_prepared_transactions = 4".to_owned()], ..Options::default() };
    let site = Site::new(&options, &["acme", "globex"]);
    for tenant in ["acme", "globex"] {
        let database = format!("tenant_{tenant}");
        site.cluster.sql(&database, &format!("BEGIN; CREATE TABLE p (a int); PREPARE TRANSACTION '{tenant}'"));
    }
    for _ in 0..2 {
        let (code, report) = site.erase("acme", &["--skip-grace"]);
        let hint = report["open"].to_string();
        assert!(code == 3 && hint.contains("tenure erase acme --clear prepared"), "{report:#}");
        assert_eq!(site.state("acme"), Some(false), "{report:#}");
    }
    let (code, report) = site.erase("acme", &["--clear", "prepared"]);
    assert_eq!((code, &report["status"], site.state("acme")), (0, &json!("closed"), None), "{report:#}");
    // By itself a drop opens again what it could not drop.
    assert_eq!(site.program.refused(4, &["drop", "globex", "--confirm", "globex"])["kind"], "blocked");
    assert_eq!(site.state("globex"), Some(true));
}

/// Killed between a withdrawal and what it gives back, or beside a run that closes.
#[test]
fn what_was_withdrawn_and_is_closed_is_opened() {
    let site = Site::new(&Options::default(), &["acme"]);
    site.begun("acme");
    site.cluster.stop("fast");
    let (code, report) = site.erase("acme", &["--undo"]);
    assert_eq!((code, &report["open"][0]["kind"]), (3, &json!("live")), "{report:#}");
    site.cluster.start_again();
    // Whoever goes on with it finds it withdrawn, and gives everything back.
    assert_eq!(site.program.refused(4, &["erase", "acme", "--confirm", "acme"])["kind"], "plan-void");
    assert_eq!(site.state("acme"), Some(true));
    site.cluster.sql("postgres", "ALTER DATABASE tenant_acme ALLOW_CONNECTIONS false");
    site.undone("acme");
    assert_eq!(site.program.refused(1, &["erase", "acme", "--undo", "--confirm", "acme"])["kind"], "nothing-to-undo");
}

/// A new customer has the name, and an old server brought back what an earlier one was erased with.
#[test]
fn what_was_erased_later_is_not_opened() {
    let site = Site::new(&Options::default(), &["acme"]);
    let kept = site.cluster.base_backup("kept");
    site.begun("acme");
    site.undone("acme");
    assert_eq!(site.erase("acme", &["--skip-grace"]).0, 0);
    site.program.done(&["admit", "--new", "acme"]);
    let old = site.put_in_place(kept);
    assert_eq!(site.program.run(&["reconcile"]).0, 3);
    let is_open = || old.sql("postgres", "SELECT datallowconn FROM pg_database WHERE datname = 'tenant_acme'");
    assert_eq!(is_open().trim(), "f");
    assert_eq!(site.program.refused(1, &["erase", "acme", "--undo", "--confirm", "acme"])["kind"], "nothing-to-undo");
    assert_eq!(is_open().trim(), "f");
}

/// Killed between the tombstone and the mark that says so.
#[test]
fn a_plan_with_a_tombstone_is_not_cancelled() {
    let site = Site::new(&Options::default(), &["acme"]);
    let (_, report) = site.erase("acme", &[]);
    let plan = report["plan"].as_str().unwrap();
    let noted = site.below(&format!("vault/plans/{plan}"), "noted");
    noted.iter().for_each(|file| fs::remove_file(file).unwrap());
    assert!(!noted.is_empty());
    assert_eq!(site.program.refused(4, &["plans", "cancel", plan])["kind"], "plan-begun");
    // Where it was cancelled in that very moment, the tombstone counts on; nothing has come back, and it can be withdrawn.
    let tombstones: Vec<_> = ["vault", "keyring"].iter().flat_map(|store| site.below(store, "/erased/")).collect();
    let put_back = set_aside(tombstones);
    site.program.done(&["plans", "cancel", plan]);
    put_back();
    let (code, report) = site.program.run(&["reconcile"]);
    assert!(code == 0 || report["found"][0]["plan"].is_null(), "{report:#}");
    site.undone("acme");
}

#[test]
fn a_hold_comes_too_late_when_it_destroys() {
    let site = Site::new(&Options::default(), &["acme"]);
    let copy = site.program.done(&["restore", "acme", "--into", "acme_copy", "--identity", "recovery-kit.txt"]);
    assert_eq!(copy["proven"], true);
    // A copy keeps it open, with everything that could be held still there.
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!(code, 3, "{report:#}");
    assert_eq!(site.program.refused(4, &["hold", "acme", "--reason", "a letter"])["kind"], "too-late");
    assert_eq!(site.below("vault", "/h/").len(), 0);
}

/// A drop that is refused asks for no copies; the purge would take what is known of them.
#[test]
fn a_copy_keeps_an_erasure_open_however_the_drop_ended() {
    let options = Options { settings: vec!["max_prepared_transactions = 4".to_owned()], ..Options::default() };
    let site = Site::new(&options, &["acme", "globex"]);
    for tenant in ["acme", "globex"] {
        let copy = format!("{tenant}_copy");
        site.program.done(&["restore", tenant, "--into", &copy, "--identity", "recovery-kit.txt"]);
    }
    site.cluster.sql("tenant_acme", "BEGIN; CREATE TABLE p (a int); PREPARE TRANSACTION 'p'");
    let halves = site.below("keyring", "/k/").len();
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    let open = report["open"].to_string();
    assert!(code == 3 && open.contains("acme_copy") && open.contains("prepared"), "{report:#}");
    assert_eq!(site.below("keyring", "/k/").len(), halves, "backups and keys stay until somebody decided about the copy");
    assert_eq!(site.erase("acme", &["--clear", "prepared"]).0, 3);
    site.cluster.sql("postgres", "DROP DATABASE acme_copy");
    assert_eq!(site.erase("acme", &[]).0, 0);

    // A server that is down keeps no backup; what it has of copies is asked when it is there again.
    site.cluster.stop("fast");
    assert_eq!(site.erase("globex", &["--skip-grace"]).0, 3);
    site.cluster.start_again();
    let (code, report) = site.erase("globex", &[]);
    let id = report["certificate"].as_str().unwrap();
    assert!(code == 3 && report["open"].to_string().contains("globex_copy"), "{report:#}");
    assert_ne!(site.program.done(&["certificate", "show", id])["certificate"]["stage"], "closed");
    let (code, report) = site.erase("globex", &["--accept", "globex_copy"]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    let shown = site.program.done(&["certificate", "show", id]);
    assert_eq!(shown["certificate"]["copies"][0]["state"], "stays", "{shown:#}");
}

/// What a restore put aside is no copy of a backup, and holds the rows all the same.
#[test]
fn a_database_that_was_put_aside_keeps_an_erasure_open() {
    let site = Site::new(&Options::default(), &["acme"]);
    let restored = site.program.done(&["restore", "acme", "--replace", "--identity", "recovery-kit.txt"]);
    let aside = restored["replaced_as"].as_str().unwrap();
    site.cluster.stop("fast");
    assert_eq!(site.erase("acme", &["--skip-grace"]).0, 3);
    site.cluster.start_again();
    for _ in 0..2 {
        let (code, report) = site.erase("acme", &[]);
        assert!(code == 3 && report["open"].to_string().contains(aside), "{report:#}");
    }
    site.cluster.sql("postgres", &format!("DROP DATABASE \"{aside}\""));
    let (code, report) = site.erase("acme", &[]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    site.program.done(&["certificate", "verify", report["certificate"].as_str().unwrap()]);
}

#[test]
fn a_server_that_is_gone_for_good_is_given_up_by_name() {
    let site = Site::new(&Options::default(), &["acme"]);
    site.cluster.stop("fast");
    assert_eq!(site.erase("acme", &["--skip-grace"]).0, 3);
    site.cluster.start_again();
    site.configure("[cluster.here]", "[cluster.there]");
    let (code, report) = site.erase("acme", &[]);
    assert!(code == 3 && report["open"].to_string().contains("--accept 'here primary'"), "{report:#}");
    let (code, report) = site.erase("acme", &["--accept", "here primary"]);
    // The very server is there, under another name.
    assert!(code == 3 && report["open"].to_string().contains("there primary"), "{report:#}");
    site.cluster.sql("postgres", "DROP DATABASE tenant_acme");
    let (code, report) = site.erase("acme", &["--accept", "here primary"]);
    // Where its lock cannot be had a backup from before may still write; a later run ends it.
    let kinds: Vec<_> = report["open"].as_array().unwrap().iter().map(|open| open["kind"].clone()).collect();
    assert_eq!((code, &report["status"], &kinds[..]), (3, &json!("keys-destroyed"), &[json!("last-look")][..]), "{report:#}");
}
