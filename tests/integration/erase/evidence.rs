//! A certificate says that everything is gone when it is: by what stores list at its end, and by every server that was ever named.

use std::{fs, process::Child};

use serde_json::{Value, json};
use tenure::{format::certificate::Certificate, id::Sha256Digest, signature::Namespace};

use super::copy;
use crate::{
    drop::Site,
    harness::{
        postgres::{Cluster, Options, eventually},
        program::Program,
        site::walk,
    },
};

fn kinds(report: &Value) -> Vec<&str> {
    report["open"].as_array().unwrap_or_else(|| panic!("{report:#}")).iter().map(|item| item["kind"].as_str().unwrap()).collect()
}

fn stages(certificate: &Value) -> Vec<&str> {
    certificate["reached"].as_array().unwrap().iter().map(|reached| reached["stage"].as_str().unwrap()).collect()
}

impl Site {
    fn mirrored(tenants: &[&str]) -> Self {
        let (cluster, program) = (Cluster::start(&Options::default()), Program::new());
        let mut words = program.init(&cluster.description(), "tenant_{tenant}");
        words.extend(["--mirror".to_owned(), format!("file://{}", program.path("mirror").display())]);
        program.done(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let site = Self { cluster, program };
        tenants.iter().for_each(|tenant| site.create(tenant));
        site.program.done(&["backup", "--all"]);
        site
    }

    fn config_line(&self, starts: &str) -> String {
        let config = fs::read_to_string(self.program.path("tenure.toml")).unwrap();
        config.lines().find(|line| line.starts_with(starts)).unwrap().to_owned()
    }

    fn does_not_hold(&self, id: &str) -> (i32, Vec<String>) {
        let (code, report) = self.program.run(&["certificate", "verify", id]);
        let checks = report["checks"].as_array().unwrap_or_else(|| panic!("{report:#}"));
        let bad = checks.iter().filter(|check| check["outcome"] == "does-not-hold");
        (code, bad.map(|check| check["what"].as_str().unwrap().to_owned()).collect())
    }
}

#[test]
fn a_mirror_that_is_taken_out_of_the_configuration_still_has_its_keys() {
    let site = Site::mirrored(&["acme"]);
    let program = &site.program;
    fs::rename(program.path("mirror"), program.path("mirror.away")).unwrap();
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!((code, &report["status"]), (3, &json!("live-erased")), "{report:#}");
    fs::rename(program.path("mirror.away"), program.path("mirror")).unwrap();
    let line = site.config_line("mirrors");
    site.configure(&line, "");
    for _ in 0..2 {
        let (code, report) = site.erase("acme", &["--skip-grace"]);
        assert_eq!((code, &report["status"], kinds(&report)), (3, &json!("live-erased"), vec!["key-copy"]), "{report:#}");
        let what = report["open"][0]["what"].as_str().unwrap();
        assert!(what.contains("put it back into `mirrors`") && what.contains("tenure erase acme"), "{what}");
    }
    let certificate = site.certificate(&report["certificate"]);
    assert_eq!((&certificate["stage"], stages(&certificate)), (&json!("live-erased"), vec!["requested", "live-erased"]));
    let id = report["certificate"].as_str().unwrap();
    assert_eq!(site.does_not_hold(id), (0, Vec::new()));

    site.configure("[keyring]", &format!("[keyring]\n{line}"));
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    assert!(!walk(&program.path("mirror")).iter().any(|path| path.extension().is_some_and(|extension| extension == "age")));
    let certificate = site.certificate(&report["certificate"]);
    assert_eq!(stages(&certificate), ["requested", "live-erased", "keys-destroyed", "closed"]);
    for copy in certificate["keys"]["copies"].as_array().unwrap() {
        assert!(copy["destroyed_at"].is_string() && copy["left"] == json!([]), "{copy:#}");
    }
    assert_eq!(site.does_not_hold(id), (0, Vec::new()));

    // Whoever signs otherwise is not believed.
    let folder = program.path(&format!("vault/certificates/{id}"));
    let newest = fs::read(folder.join(format!("{}.json", certificate["sequence"]))).unwrap();
    let mut forged: Value = serde_json::from_slice(&newest).unwrap();
    let next = certificate["sequence"].as_u64().unwrap() + 1;
    forged["sequence"] = json!(next);
    forged["previous"] = json!(Sha256Digest::of(&newest).to_string());
    forged["keys"]["copies"][1]["destroyed_at"] = Value::Null;
    let bytes = serde_json::to_vec(&forged).unwrap();
    let eraser = tenure::signature::SigningKey::parse(&fs::read(program.path("keys/eraser")).unwrap()).unwrap();
    fs::write(folder.join(format!("{next}.json.sig")), eraser.sign(Namespace::Erasure, &bytes).unwrap()).unwrap();
    fs::write(folder.join(format!("{next}.json")), bytes).unwrap();
    assert_eq!(site.does_not_hold(id), (5, vec!["keys".to_owned()]));
}

#[test]
fn what_is_put_back_before_the_end_goes_again() {
    let site = Site::new(&Options { replicas: 1, ..Options::default() }, &["acme", "globex"]);
    let program = &site.program;
    for store in ["vault", "keyring"] {
        copy(&program.path(store), &program.path(&format!("{store}.old")));
    }
    let replica = &site.cluster.replicas[0];
    replica.stop("fast");
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!(code, 3, "{report:#}");
    let certificate = site.certificate(&report["certificate"]);
    assert!(stages(&certificate).contains(&"keys-destroyed"), "{certificate:#}");
    let key = certificate["keys"]["keys"][0].as_str().unwrap().to_owned();
    let locker = certificate["backups"]["lockers"][0].as_str().unwrap().to_owned();
    let its = |store: &str| {
        let mut files = walk(&program.path(store));
        files.retain(|path| {
            let path = path.to_string_lossy();
            path.contains(&key) || path.contains(&locker) && !path.contains("/gone/")
        });
        files.len()
    };
    assert_eq!((its("vault"), its("keyring")), (0, 0));
    copy(&program.path("keyring.old/k"), &program.path("keyring/k"));
    copy(&program.path("keyring.old/t"), &program.path("keyring/t"));
    copy(&program.path("vault.old/t").join(&locker), &program.path("vault/t").join(&locker));
    assert!(its("vault") > 0 && its("keyring") > 0);

    replica.start_again();
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    assert!(report["notes"].to_string().contains("destroyed once more"), "{report:#}");
    assert_eq!((its("vault"), its("keyring")), (0, 0));
    let certificate = site.certificate(&report["certificate"]);
    assert_eq!(certificate["backups"]["left"]["objects"], 0);
    assert_eq!(site.does_not_hold(report["certificate"].as_str().unwrap()), (0, Vec::new()));
    program.done(&["verify", "--all", "--identity", "recovery-kit.txt"]);
    let (_, checked) = program.run(&["check"]);
    assert!(!checked.to_string().contains("still open"), "{checked:#}");
}

#[test]
fn a_server_that_is_asked_no_more_is_given_up_by_name_or_stays_open() {
    let site = Site::new(&Options { replicas: 2, ..Options::default() }, &["acme"]);
    let [first, second] = &site.cluster.replicas[..] else { panic!("two replicas") };
    site.cluster.wait_for_replicas();
    site.configure("replica_wait = \"30s\"", "replica_wait = \"2s\"");
    first.sql("postgres", "SELECT pg_wal_replay_pause()");
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!((code, kinds(&report)), (3, vec!["paused"]), "{report:#}");

    // What was the second one is the first one now.
    let whole = site.config_line("replicas");
    let without = format!("replicas = [\"{}\"]", second.description());
    site.configure(&whole, &without);
    for _ in 0..2 {
        let (code, report) = site.erase("acme", &["--skip-grace", "--accept", "here replica 1", "--accept", "replica1"]);
        assert_eq!((code, kinds(&report), &report["open"][0]["object"]), (3, vec!["not-asked"], &json!("here replica 2")));
        assert_ne!(report["status"], "live-erased", "{report:#}");
    }
    let certificate = site.certificate(&report["certificate"]);
    assert!(!stages(&certificate).contains(&"live-erased"), "{certificate:#}");
    // Nobody is believed by his number.
    site.configure(&without, &whole);
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!((code, kinds(&report), &report["open"][0]["object"]), (3, vec!["not-asked"], &json!("here replica 1")));
    site.configure(&whole, &without);

    let (code, report) = site.erase("acme", &["--skip-grace", "--accept", "here replica 2", "--accept", "here replica 1"]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    let certificate = site.certificate(&report["certificate"]);
    let states: Vec<&str> =
        certificate["live"]["nodes"].as_array().unwrap().iter().map(|node| node["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["gone", "gone", "given-up"], "{certificate:#}");
    let id = report["certificate"].as_str().unwrap();
    assert_eq!(site.does_not_hold(id), (0, Vec::new()));
    let (_, verified) = site.program.run(&["certificate", "verify", id]);
    assert!(verified.to_string().contains("an operator said that it is not asked any more"), "{verified:#}");
}

/// An erasure that is killed with its test.
struct Run(Child);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Site {
    fn begin(&self, tenant: &str) -> Run {
        let mut command = self.program.command(&["erase", tenant, "--skip-grace", "--confirm", tenant]);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Run(command.spawn().unwrap())
    }

    fn marks(&self, before: usize) -> usize {
        self.files("vault", &["plans"]) + self.files("vault", &["certificates"]) - before
    }
}

#[test]
fn two_runs_at_once_write_one_certificate() {
    let tenants = ["one", "two", "three", "four", "five", "six"];
    let site = Site::new(&Options::default(), &tenants);
    for (nth, tenant) in tenants.into_iter().enumerate() {
        // Every other pair goes on with what was killed three times, each time a bit later.
        if nth % 2 == 1 {
            let before = site.files("vault", &["plans"]) + site.files("vault", &["certificates"]);
            for kill in 1..=3 {
                let mut run = site.begin(tenant);
                eventually("a few records", || site.marks(before) >= kill * (nth + 1) || run.0.try_wait().unwrap().is_some());
            }
        }
        let (mut one, mut other) = (site.begin(tenant), site.begin(tenant));
        let ended = [one.0.wait().unwrap().code(), other.0.wait().unwrap().code()];
        // A lock that is another's leaves something for later.
        let (code, report) = site.erase(tenant, &["--skip-grace"]);
        assert!(code == 0 || code == 4 && report["error"]["kind"] == "tenant-erased", "{ended:?}, {code}: {report:#}");
        assert_eq!(site.state(tenant), None);
        let listed = site.program.done(&["certificate", "list", "--tenant", tenant]);
        let listed = listed["certificates"].as_array().unwrap();
        for certificate in listed {
            assert_eq!(site.does_not_hold(certificate["id"].as_str().unwrap()), (0, Vec::new()), "{tenant}, {ended:?}");
        }
        // Two plans of one moment have a certificate each, and the second is given up when the first is through.
        let is_closed = |certificate: &&Value| (&certificate["stage"], &certificate["open"]) == (&json!("closed"), &json!(0));
        assert!(listed.iter().any(|certificate| is_closed(&certificate)), "{ended:?}: {listed:#?}");
        assert!(listed.len() == 1 || nth % 2 == 0, "{listed:#?}");
    }
    site.program.done(&["audit"]);
}

/// What a run that looked earlier would say, once another one certified the end.
fn whoever_was_slower_adds_nothing(closed: &Value) {
    let mut slower = closed.clone();
    slower["stage"] = json!("requested");
    slower["reached"] = json!([closed["reached"][0]]);
    slower["open"] = json!([{ "kind": "live", "object": null, "until": null }]);
    slower["live"]["nodes"][0]["state"] = json!("unreachable");
    slower["keys"]["copies"][0]["destroyed_at"] = Value::Null;
    slower["backups"]["inventory"] = Value::Null;
    let [closed, slower] = [closed, &slower].map(|value| serde_json::from_value::<Certificate>(value.clone()).unwrap());
    assert!(slower.clone().after(&closed).says_the_same(&closed));
    // And whoever knows more keeps what the other one knew.
    assert!(closed.clone().after(&slower).says_the_same(&closed));
}

#[test]
fn a_last_document_that_is_lost_is_noticed_and_written_again() {
    let site = Site::new(&Options::default(), &["acme", "globex"]);
    let program = &site.program;
    let (code, report) = site.erase("acme", &["--skip-grace"]);
    assert_eq!(code, 0, "{report:#}");
    let id = report["certificate"].as_str().unwrap();
    let folder = program.path(&format!("vault/certificates/{id}"));
    let before = site.certificate(&report["certificate"]);
    whoever_was_slower_adds_nothing(&before);
    for (nth, lost) in [&["3.json"][..], &["4.json", "4.json.sig"]].into_iter().enumerate() {
        lost.iter().for_each(|file| fs::remove_file(folder.join(file)).unwrap());
        assert_eq!(site.does_not_hold(id), (5, vec!["plan".to_owned()]));
        for command in [&["certificate", "list"][..], &["certificate", "show", id], &["audit"]] {
            let (code, said) = program.run(command);
            assert!(code == 5 && said.to_string().contains("last document is not there"), "{nth}, {command:?}: {said:#}");
        }
        assert_eq!(program.run(&["certificate", "list", "--tenant", "globex"]).0, 0);
        let (code, html, _) = program.say(&["certificate", "render", id]);
        assert_eq!((code, html.as_str()), (5, ""), "no page");
        let (code, report) = site.erase("acme", &[]);
        assert_eq!((code, &report["status"], &report["certificate"]), (0, &json!("closed"), &json!(id)), "{report:#}");
        let now = site.certificate(&report["certificate"]);
        for what in
            ["/stage", "/reached/0", "/reached/1", "/reached/2", "/reached/3/stage", "/live", "/backups/inventory", "/keys"]
        {
            assert_eq!(now.pointer(what), before.pointer(what), "{what}");
        }
        assert_eq!(site.does_not_hold(id), (0, Vec::new()));
        program.done(&["certificate", "list"]);
        let (code, again) = site.erase("acme", &[]);
        assert_eq!((code, &again["error"]["kind"]), (4, &json!("tenant-erased")), "{again:#}");
    }
    // All of it.
    fs::remove_dir_all(&folder).unwrap();
    for command in [&["certificate", "list"][..], &["certificate", "list", "--tenant", "acme"], &["audit"]] {
        let (code, said) = program.run(command);
        assert!(code == 5 && said.to_string().contains("the certificate is not there"), "{command:?}: {said:#}");
    }
    let (code, report) = site.erase("acme", &[]);
    assert_eq!((code, &report["status"]), (0, &json!("closed")), "{report:#}");
    let now = site.certificate(&report["certificate"]);
    assert_eq!((&now["reached"][2], stages(&now)), (&before["reached"][2], stages(&before)));
    assert_eq!(site.does_not_hold(id), (0, Vec::new()));
    program.done(&["audit"]);
}
