//! What an erasure did is certified: stage by stage, signed, checkable with `ssh-keygen` alone, and one changed byte is refused.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tenure::id::Sha256Digest;

use crate::{
    drop::Site,
    harness::{postgres::Options, site::walk},
};

impl Site {
    pub fn certificate(&self, id: &Value) -> Value {
        self.program.done(&["certificate", "show", id.as_str().unwrap()])["certificate"].clone()
    }

    /// Exit code, and everything that does not hold.
    fn verified(&self, what: &str) -> (i32, Vec<String>) {
        let (code, report) = self.program.run(&["certificate", "verify", what]);
        let Some(checks) = report["checks"].as_array() else { return (code, vec![report["error"]["kind"].to_string()]) };
        let bad = checks.iter().filter(|check| check["outcome"] == "does-not-hold");
        (code, bad.map(|check| check["what"].as_str().unwrap().to_owned()).collect())
    }

    fn untested(&self, what: &str) -> Vec<String> {
        let (_, report) = self.program.run(&["certificate", "verify", what]);
        let checks = report["checks"].as_array().unwrap_or_else(|| panic!("{report:#}"));
        checks.iter().filter(|check| check["outcome"] == "not-tested").map(|check| format!("{check}")).collect()
    }
}

/// The names of a certificate's documents, in their order.
fn documents(site: &Site) -> Vec<String> {
    let files = walk(&site.program.path("vault/certificates"));
    let names = files.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
    names.sort();
    names
}

pub fn file(site: &Site, part: &str) -> PathBuf {
    let mut files = walk(&site.program.path("vault/certificates"));
    files.retain(|path| path.to_string_lossy().ends_with(part));
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// Runs `probe` while one byte in the middle of a file is another one.
pub fn with_another_byte(path: &Path, probe: impl FnOnce()) {
    let whole = fs::read(path).unwrap();
    let mut changed = whole.clone();
    // Still JSON, and still a digit.
    let at = changed.iter().rposition(u8::is_ascii_digit).unwrap();
    changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
    fs::write(path, changed).unwrap();
    probe();
    fs::write(path, whole).unwrap();
}

/// Runs `probe` while the first line of an inventory names another object.
fn with_another_name(path: &Path, probe: impl FnOnce()) {
    let whole = fs::read(path).unwrap();
    fs::write(path, String::from_utf8_lossy(&whole).replacen("t/", "u/", 1)).unwrap();
    probe();
    fs::write(path, whole).unwrap();
}

/// What the vault has of the tenants' lockers: names, lengths and digests.
fn stored(site: &Site) -> BTreeMap<String, (u64, String)> {
    let vault = site.program.path("vault");
    let files = walk(&vault.join("t")).into_iter().map(|path| {
        let bytes = fs::read(&path).unwrap();
        let name = path.strip_prefix(&vault).unwrap().to_string_lossy().into_owned();
        (name, (bytes.len() as u64, Sha256Digest::of(&bytes).to_string()))
    });
    files.collect()
}

fn ssh_keygen_accepts(folder: &Path, newest: &str, principal: &str) -> bool {
    let document = fs::File::open(folder.join(newest)).unwrap();
    let verify =
        ["-Y", "verify", "-f", "allowed_signers", "-I", principal, "-n", "tenure-erasure", "-s", &format!("{newest}.sig")];
    let mut command = Command::new("ssh-keygen");
    command.args(verify).current_dir(folder).stdin(document).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap().success()
}

#[test]
fn an_erasure_is_certified_and_whoever_doubts_it_can_check() {
    let site = Site::new(&Options { replicas: 1, ..Options::default() }, &["acme"]);
    let program = &site.program;
    site.configure(
        "[cluster.here]\n",
        "[[elsewhere]]\nname = \"nightly snapshots\"\ngone_after = \"35 days\"\n\n[remains]\nlogs = \"30 days\"\n\n[cluster.here]\n",
    );
    program.done(&["backup", "--all"]);
    let before = stored(&site);
    for (reference, code, kind) in [("GDPR 2026", 2, "usage"), ("for-ACME-1", 4, "telling-reference")] {
        let refused = program.refused(code, &["erase", "acme", "--skip-grace", "--confirm", "acme", "--reference", reference]);
        assert_eq!(refused["kind"], kind, "{refused:#}");
    }
    let told = ["--skip-grace", "--reference", "GDPR-2026/117", "--identity", "recovery-kit.txt"];
    let (code, report) = site.erase("acme", &told);
    assert_eq!((code, &report["status"], &report["certificate"]), (0, &json!("closed"), &report["plan"]), "{report:#}");
    assert_eq!(documents(&site), ["1.json", "2.json", "3.json"]);

    // What it says.
    let certificate = site.certificate(&report["certificate"]);
    assert_eq!(certificate["stage"], "closed");
    assert_eq!(certificate["request"]["reference"], "GDPR-2026/117");
    assert!(certificate["request"]["planned_by"]["principal"].as_str().unwrap().starts_with("operator@"), "{certificate:#}");
    let reached: Vec<&str> =
        certificate["reached"].as_array().unwrap().iter().map(|reached| reached["stage"].as_str().unwrap()).collect();
    assert_eq!(reached, ["requested", "live-erased", "keys-destroyed", "closed"]);
    let nodes = certificate["live"]["nodes"].as_array().unwrap();
    assert!(nodes.len() == 2 && nodes.iter().all(|node| node["state"] == "gone" && node["at"].is_string()), "{nodes:?}");
    assert!(nodes[0]["drop_lsn"].is_string() && nodes[1]["replay_lsn"].is_string(), "{nodes:?}");
    assert_eq!(certificate["backups"]["count"], 2);
    assert!(certificate["backups"]["first"].as_str().unwrap() <= certificate["backups"]["last"].as_str().unwrap());
    assert_eq!(certificate["backups"]["left"]["objects"], 0);
    for copy in certificate["keys"]["copies"].as_array().unwrap() {
        assert!(copy["destroyed_at"].is_string() && copy["left"] == json!([]), "{copy:#}");
    }
    assert_eq!(certificate["keys"]["opened"]["what"], "opened", "{certificate:#}");
    assert!(certificate["remains"]["elsewhere"][0]["until"].is_string(), "{certificate:#}");
    let traces = certificate["remains"]["traces"].as_array().unwrap();
    let until: Vec<(&str, bool)> =
        traces.iter().map(|trace| (trace["what"].as_str().unwrap(), trace["until"].is_string())).collect();
    assert_eq!(until, [("wal", false), ("backups", false), ("logs", true)], "what is not configured is unknown");
    assert!(certificate["remains"]["always"].to_string().contains("could still open"), "{certificate:#}");
    assert!(certificate["open"] == json!([]) && certificate["working_seconds"].as_u64().unwrap() > 0, "{certificate:#}");

    // Every object that there was, with its digest; and nobody's name anywhere.
    let inventory = &certificate["backups"]["inventory"];
    let lines = fs::read_to_string(file(&site, ".jsonl")).unwrap();
    let listed: BTreeMap<String, (u64, String)> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| {
            (
                line["name"].as_str().unwrap().to_owned(),
                (line["size"].as_u64().unwrap(), line["sha256"].as_str().unwrap().to_owned()),
            )
        })
        .collect();
    // The drop's note is written, and no backup changes.
    assert_eq!(listed, before);
    assert_eq!(inventory["objects"].as_u64(), Some(before.len() as u64));
    assert_eq!(inventory["bytes"].as_u64(), Some(before.values().map(|(size, _)| size).sum()));
    for path in walk(&program.path("vault/certificates")) {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        assert!(!text.contains("acme"), "{}", path.display());
    }

    // What can be looked at again holds.
    let id = report["certificate"].as_str().unwrap();
    assert_eq!(site.verified(&id[..8]), (0, Vec::new()));
    assert_eq!(site.untested(id), Vec::<String>::new());
    let listed = program.done(&["certificate", "list", "--tenant", "acme"]);
    assert_eq!(listed["certificates"][0]["id"], *id, "{listed:#}");
    assert_eq!(program.done(&["certificate", "list", "--tenant", "globex"])["certificates"], json!([]));
    assert_eq!(program.refused(1, &["certificate", "show", "0123"])["kind"], "no-such-certificate");
    program.done(&["verify", "--all"]);
    program.done(&["expire"]);
    let audited = program.done(&["audit", "--tenant", "acme"]);
    let certified = audited["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "certificate").count();
    assert_eq!(certified, 3, "{audited:#}");
    assert_eq!(site.verified(id), (0, Vec::new()), "nobody sweeps it");

    // Without tenure.
    let exported = program.done(&["certificate", "export", id, "out"]);
    let (folder, newest) = (program.path("out"), exported["newest"].as_str().unwrap());
    let principal = exported["principal"].as_str().unwrap();
    for document in documents(&site) {
        assert!(ssh_keygen_accepts(&folder, &document, principal), "{document}");
    }
    let sums = &inventory["files"][0];
    let sum = Command::new("sha256sum").arg(sums["name"].as_str().unwrap()).current_dir(&folder).output().unwrap();
    assert!(String::from_utf8_lossy(&sum.stdout).starts_with(sums["sha256"].as_str().unwrap()));
    assert_eq!(program.refused(1, &["certificate", "export", id, "out"])["kind"], "cannot-write");
    let given = format!("out/{newest}");
    assert_eq!(site.verified(&given), (0, Vec::new()));
    assert_eq!(site.untested("out/1.json").len(), 6, "{:?}", site.untested("out/1.json"));
    with_another_byte(&folder.join(newest), || {
        assert!(!ssh_keygen_accepts(&folder, newest, principal));
        assert_eq!(site.verified(&given).0, 5);
    });
    with_another_byte(&folder.join(sums["name"].as_str().unwrap()), || {
        assert_eq!(site.verified(&given), (5, vec!["inventory".to_owned()]));
    });
    // As many objects with as many bytes, and another name among them.
    with_another_name(&folder.join(sums["name"].as_str().unwrap()), || {
        assert_eq!(site.verified(&given), (5, vec!["inventory".to_owned()]));
    });
    // A signature of another one of our documents, and one that the eraser made for something else.
    let sig = folder.join(format!("{newest}.sig"));
    let whole = fs::read(&sig).unwrap();
    fs::copy(folder.join("1.json.sig"), &sig).unwrap();
    assert!(!ssh_keygen_accepts(&folder, newest, principal));
    assert_eq!(site.verified(&given).0, 5);
    let eraser = tenure::signature::SigningKey::parse(&fs::read(program.path("keys/eraser")).unwrap()).unwrap();
    fs::write(&sig, eraser.sign(tenure::signature::Namespace::Run, &fs::read(folder.join(newest)).unwrap()).unwrap()).unwrap();
    assert_eq!(site.verified(&given).0, 5);
    fs::write(&sig, whole).unwrap();

    // In the vault.
    with_another_byte(&file(&site, "/3.json"), || {
        assert_eq!(site.verified(id).0, 5);
        assert_eq!(program.run(&["certificate", "list"]).0, 5);
        assert_eq!(program.run(&["certificate", "show", id]).0, 5);
        assert_eq!(program.run(&["audit"]).0, 5);
    });
    with_another_byte(&file(&site, "/1.json"), || {
        let (code, bad) = site.verified(id);
        assert!(code == 5 && bad.contains(&"signature".to_owned()) && bad.contains(&"chain".to_owned()), "{bad:?}");
    });
    with_another_byte(&file(&site, ".jsonl"), || assert_eq!(site.verified(id), (5, vec!["inventory".to_owned()])));
    with_another_name(&file(&site, ".jsonl"), || assert_eq!(site.verified(id), (5, vec!["inventory".to_owned()])));
    let aside = program.path("aside");
    fs::rename(file(&site, "/3.json"), &aside).unwrap();
    assert_eq!(site.verified(id), (5, vec!["plan".to_owned()]), "its end is missing");
    assert_eq!(site.verified(&given), (5, vec!["chain".to_owned()]));
    fs::rename(&aside, file(&site, "/3.json.sig").with_extension("")).unwrap();
    for (store, from, what) in [("keyring", "erased", "tombstone"), ("vault", "erased", "tombstone")] {
        let from = program.path(store).join(from);
        fs::rename(&from, &aside).unwrap();
        assert_eq!(site.verified(id), (5, vec![what.to_owned()]), "{store}");
        fs::rename(&aside, &from).unwrap();
    }
    let key = certificate["keys"]["keys"][0].as_str().unwrap();
    let copy = program.path(&format!("keyring/k/{key}.1.age"));
    fs::create_dir_all(copy.parent().unwrap()).unwrap();
    fs::write(&copy, "somebody's copy").unwrap();
    assert_eq!(site.verified(id), (5, vec!["keys".to_owned()]));
    fs::remove_file(&copy).unwrap();
    let chunk = before.keys().find(|name| name.contains("/c/")).unwrap();
    let chunk = program.path("vault").join(chunk);
    fs::create_dir_all(chunk.parent().unwrap()).unwrap();
    fs::write(&chunk, "x").unwrap();
    assert_eq!(site.verified(id), (5, vec!["backups".to_owned()]));
    fs::remove_file(&chunk).unwrap();
    site.cluster.replicas[0].stop("fast");
    let untested = site.untested(id);
    assert!(untested.len() == 1 && untested[0].contains("replica 1"), "{untested:?}");
}

#[test]
fn what_is_withdrawn_is_certified_as_withdrawn() {
    let site = Site::new(&Options::default(), &["acme"]);
    assert_eq!(site.erase("acme", &[]).0, 3);
    assert_eq!(documents(&site), ["1.json", "2.json"]);
    // The same once more says nothing new.
    let (_, report) = site.erase("acme", &[]);
    assert_eq!(documents(&site).len(), 2);
    let id = report["certificate"].as_str().unwrap();
    assert_eq!(site.verified(id), (0, Vec::new()));
    let certificate = site.certificate(&report["certificate"]);
    assert_eq!((&certificate["stage"], &certificate["open"][0]["kind"]), (&json!("suspended"), &json!("grace")));
    assert_eq!(
        (&certificate["keys"]["opened"]["what"], &certificate["remains"]["elsewhere"]),
        (&json!("not-tested"), &Value::Null)
    );
    assert_eq!(certificate["keys"]["copies"][0]["left"].as_array().unwrap().len(), 3, "{certificate:#}");
    assert_eq!(site.refused(&["erase", "acme", "--confirm", "acme", "--reference", "1"]), "another-reference");
    let (code, undone) = site.erase("acme", &["--undo"]);
    assert_eq!((code, &undone["certificate"]), (0, &report["certificate"]), "{undone:#}");
    assert_eq!(documents(&site)[2], "3.json");
    assert_eq!(site.verified(id), (0, Vec::new()));
    fs::remove_file(file(&site, "/3.json")).unwrap();
    assert_eq!(site.verified(id).0, 5);
}

#[test]
fn a_server_that_is_down_leaves_the_certificate_open() {
    let site = Site::new(&Options::default(), &["acme"]);
    site.cluster.stop("fast");
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!((code, &report["status"]), (3, &json!("requested")), "{report:#}");
    let certificate = site.certificate(&report["certificate"]);
    assert_eq!(certificate["stage"], "requested");
    assert!(certificate["open"].as_array().unwrap().iter().any(|open| open["kind"] == "live"), "{certificate:#}");
    assert!(!certificate.to_string().contains("acme"), "{certificate:#}");
    let id = report["certificate"].as_str().unwrap();
    assert_eq!(site.verified(id), (0, Vec::new()));
    assert!(site.untested(id).iter().any(|check| check.contains("live")));
    // Nobody goes on over a document that somebody changed.
    let newest = documents(&site).pop().unwrap();
    site.cluster.start_again();
    with_another_byte(&file(&site, &format!("/{newest}")), || {
        let (code, refused) = site.erase("acme", &[]);
        assert_eq!(code, 5, "{refused:#}");
    });
    let (code, report) = site.erase("acme", &[]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    let certificate = site.certificate(&report["certificate"]);
    let reached: Vec<&str> =
        certificate["reached"].as_array().unwrap().iter().map(|reached| reached["stage"].as_str().unwrap()).collect();
    assert_eq!(reached, ["requested", "keys-destroyed", "live-erased", "closed"]);
    assert_eq!(site.verified(id), (0, Vec::new()));
}

#[test]
fn copies_that_stay_are_certified() {
    let site = Site::new(&Options::default(), &["acme"]);
    let program = &site.program;
    for copy in ["acme_copy", "acme_other"] {
        program.done(&["restore", "acme", "--into", copy, "--identity", "recovery-kit.txt"]);
    }
    site.cluster.sql("postgres", "DROP DATABASE acme_other");
    let (code, report) = site.erase("acme", &["--skip-grace", "--accept", "acme_copy"]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    let certificate = site.certificate(&report["certificate"]);
    let states: Vec<&Value> = certificate["copies"].as_array().unwrap().iter().map(|copy| &copy["state"]).collect();
    assert_eq!(states, ["stays", "gone"], "{certificate:#}");
    assert!(!certificate.to_string().contains("acme"), "{certificate:#}");
    let id = report["certificate"].as_str().unwrap();
    assert_eq!(site.verified(id), (0, Vec::new()));
    assert_eq!(site.untested(id).len(), 1);
}
