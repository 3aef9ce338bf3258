//! Plans that operators sign: whose signatures count, and what waits for them.

mod acts;
mod forged;
mod refusals;
mod stores;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tenure::{object_name::Document, signature::Namespace, signed};

use crate::harness::{
    locker::{Lockers, Tenant, at},
    program::run_in,
    site::walk as files,
};

/// An installation where two operators must sign nearly everything; Ann and Bob, who may; and a tenant with two nights and a neighbour.
struct Office {
    lockers: Lockers,
    acme: Tenant,
}

/// A key pair by OpenSSH itself; gives the public half as a line of its own.
pub(crate) fn new_key(folder: &Path, name: &str) -> String {
    let file = folder.join(name);
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&file).status().unwrap();
    assert!(made.success());
    std::fs::read_to_string(file.with_extension("pub")).unwrap().trim().to_owned()
}

/// A line of `allowed_signers`.
fn may_sign_plans(principal: &str, options: &str, key: &str) -> String {
    format!("{principal} namespaces=\"tenure-plan\"{options} {key}\n")
}

/// Ann's key, `ann`, in a folder where `init` was run with directories as stores; and a list of signers with her, signed by OpenSSH.
pub(crate) fn let_ann_in(folder: &Path) {
    let ann = new_key(folder, "ann");
    let signers = std::fs::read_to_string(folder.join("allowed_signers")).unwrap();
    std::fs::write(folder.join("list"), format!("{signers}{}", may_sign_plans("ann", "", &ann))).unwrap();
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-Y", "sign", "-n", "tenure-root", "-f", "keys/operator", "list"]).current_dir(folder);
    assert!(sign.status().unwrap().success());
    for (from, to) in [("list.sig", "2.sig"), ("list", "2")] {
        std::fs::rename(folder.join(from), folder.join("vault/signers").join(to)).unwrap();
    }
}

impl Office {
    async fn new() -> Self {
        Self::requiring("purge = 2\nrelease = 2\nkeys = 2\nadmit = 2\nerase = 2\n").await
    }

    async fn requiring(approvals: &str) -> Self {
        let lockers = Lockers::new().await;
        let mut acme = lockers.tenant("acme", at("2026-11-01")).await;
        lockers.night(&mut acme, at("2026-11-01"), &[]).await;
        lockers.night(&mut acme, at("2026-11-02"), &[1]).await;
        let mut other = lockers.tenant("acme2", at("2026-11-01")).await;
        lockers.night(&mut other, at("2026-11-01"), &[]).await;
        let office = Self { lockers, acme };
        let lines = ["ann", "bob"].map(|name| may_sign_plans(name, "", &new_key(office.folder(), name)));
        office.sign_list(2, &lines.concat()).await;
        let file = office.folder().join("tenure.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, format!("{config}[approvals]\n{approvals}")).unwrap();
        office
    }

    fn folder(&self) -> &Path {
        self.lockers.folder()
    }

    /// The next list of signers: those of the beginning, and these.
    async fn sign_list(&self, n: u32, lines: &str) {
        let text = format!("{}{lines}", self.lockers.signers().text());
        let (store, operator) = (self.lockers.vault.store(), self.lockers.key("operator"));
        signed::create_bytes(store, &Document::Signers(n), text.into_bytes().into(), Namespace::Root, &operator).await.unwrap();
    }

    fn public(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder().join(format!("{name}.pub"))).unwrap().trim().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> (i32, Value) {
        run_in(self.folder(), arguments)
    }

    fn done(&self, arguments: &[&str]) -> Value {
        let (code, document) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {document:#}");
        document
    }

    /// Refused with this code and kind.
    fn refused(&self, code: i32, kind: &str, arguments: &[&str]) -> Value {
        let (found, document) = self.run(arguments);
        assert_eq!((found, document["error"]["kind"].as_str()), (code, Some(kind)), "{arguments:?}: {document:#}");
        document["error"].clone()
    }

    /// The only plan that is not closed or void.
    fn plan(&self) -> Value {
        let listed = self.run(&["plans", "list"]).1;
        let open = |plan: &&Value| !["closed", "void"].contains(&plan["state"].as_str().unwrap());
        let plans: Vec<Value> = listed["plans"].as_array().unwrap().iter().filter(open).cloned().collect();
        assert_eq!(plans.len(), 1, "{listed:#}");
        plans[0].clone()
    }

    fn id(&self) -> String {
        self.plan()["plan"].as_str().unwrap().to_owned()
    }

    /// Everything but `runs/`, byte for byte.
    fn stored(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let is_stored = |path: &PathBuf| {
            let name = path.strip_prefix(self.folder()).unwrap().to_str().unwrap();
            ["vault/", "keyring/", "mirror/"].iter().any(|store| name.starts_with(store)) && !name.starts_with("vault/runs/")
        };
        files(self.folder()).into_iter().filter(is_stored).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    /// The raw bytes of a plan, signed by OpenSSH with a key in a namespace; gives the signature's file.
    fn offline(&self, plan: &str, key: &str, namespace: &str) -> String {
        let raw = self.command(&["plans", "show", plan, "--raw"]).output().unwrap();
        assert!(raw.status.success());
        let file = self.folder().join(format!("{key}.{namespace}.json"));
        std::fs::write(&file, raw.stdout).unwrap();
        self.sign_file(&file, key, namespace)
    }

    fn sign_file(&self, file: &Path, key: &str, namespace: &str) -> String {
        let signature = format!("{}.sig", file.display());
        std::fs::remove_file(&signature).ok();
        let sign = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
            .arg(self.folder().join(key))
            .arg(file)
            .output()
            .unwrap();
        assert!(sign.status.success(), "{}", String::from_utf8_lossy(&sign.stderr));
        signature
    }

    fn command(&self, arguments: &[&str]) -> Command {
        crate::harness::program::command_in(self.folder(), arguments)
    }
}

const PURGE: [&str; 4] = ["purge", "acme", "--confirm", "acme"];

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_waits_for_a_second_operator_and_goes_on_with_the_same_plan() {
    let office = Office::new().await;
    let before = office.stored();
    let error = office.refused(4, "approvals-wanting", &PURGE);
    let plan = office.plan();
    let id = plan["plan"].as_str().unwrap();
    assert_eq!(
        (
            plan["act"].as_str(),
            plan["tenant"].as_str(),
            plan["signatures"].as_u64(),
            plan["needed"].as_u64(),
            plan["state"].as_str()
        ),
        (Some("purge"), Some("acme"), Some(1), Some(2), Some("waiting")),
        "{plan:#}"
    );
    assert!(error["message"].as_str().unwrap().contains("needs 2 signatures, and has 1: operator@test"), "{error:#}");
    let hint = error["hint"].as_str().unwrap();
    assert!(hint.contains(&format!("`tenure approve {id} --tenant acme`")) && hint.contains("ann, bob"), "{hint}");
    // Nothing was written but the plan, however often it is tried.
    office.refused(4, "approvals-wanting", &PURGE);
    assert_eq!(office.id(), id);
    let not_plans: Vec<_> =
        office.stored().into_iter().filter(|(path, _)| !path.display().to_string().contains("/plans/")).collect();
    assert_eq!(not_plans, before);

    // Who makes the plan has signed it, and cannot sign it twice.
    let again = office.done(&["approve", id, "--tenant", "acme", "--key", "keys/operator"]);
    assert_eq!(again["signatures"], 1, "{again:#}");
    office.refused(4, "approvals-wanting", &PURGE);
    // The approver sees what is signed before it is.
    let said = office.command(&["approve", &id[..6], "--tenant", "acme", "--key", "ann"]).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let seen = String::from_utf8(said.stderr).unwrap();
    for part in ["purge all backups of tenant acme", "every copy of 1 keys is destroyed", &office.acme.locker().to_string()] {
        assert!(seen.contains(part), "{seen}");
    }
    let once_more = office.done(&["approve", id, "--tenant", "acme", "--key", "ann"]);
    assert_eq!(
        (&once_more["already"], &once_more["signatures"], &once_more["principal"]),
        (&true.into(), &2.into(), &"ann".into())
    );
    assert_eq!(office.plan()["state"], "ready");
    let shown = office.done(&["plans", "show", id]);
    assert_eq!(shown["signed"].as_array().unwrap().len(), 3, "{shown:#}");

    let (code, report) = office.run(&PURGE);
    assert_eq!((code, report["plan"].as_str(), &report["status"]), (3, Some(id), &"keys-destroyed".into()), "{report:#}");
    assert_eq!(office.plan()["state"], "begun");
    office.refused(4, "plan-begun", &["approve", id, "--tenant", "acme", "--key", "bob"]);
    office.refused(4, "plan-begun", &["plans", "cancel", id]);
    let shown = office.done(&["plans", "show", id]);
    let steps: Vec<&str> = shown["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert!(steps.starts_with(&["noted", "destroying", "keys-destroyed"]), "{steps:?}");
    // Whatever lies beside plans is known to whoever looks at the vault.
    let (_, verified) = office.run(&["verify", "--all"]);
    assert_eq!(verified["unknown"], serde_json::json!([]), "{verified:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn works_offline_with_ssh_keygen_alone() {
    let office = Office::new().await;
    office.refused(4, "approvals-wanting", &PURGE);
    let id = office.id();
    let signature = office.offline(&id, "ann", "tenure-plan");
    let stored = std::fs::read(office.folder().join(format!("vault/plans/{id}/plan.json"))).unwrap();
    assert_eq!(
        std::fs::read(office.folder().join("ann.tenure-plan.json")).unwrap(),
        stored,
        "--raw gives the bytes that are signed"
    );
    let approved = office.done(&["approve", &id, "--tenant", "acme", "--signature", &signature]);
    assert_eq!((&approved["signatures"], &approved["principal"]), (&2.into(), &"ann".into()), "{approved:#}");
    // What lies in the vault is that signature, and OpenSSH takes it.
    let stored: Vec<_> = files(&office.folder().join(format!("vault/plans/{id}/approvals"))).into_iter().collect();
    assert_eq!(stored.len(), 1);
    assert!(!stored[0].display().to_string().contains("ann"), "its name says nothing of a person");
    let verify = Command::new("sh")
        .arg("-c")
        .arg("ssh-keygen -Y verify -n tenure-plan -I ann -f vault/signers/2 -s \"$0\" < \"$1\"")
        .arg(&stored[0])
        .arg(office.folder().join(format!("vault/plans/{id}/plan.json")))
        .current_dir(office.folder())
        .output()
        .unwrap();
    assert!(verify.status.success(), "{}", String::from_utf8_lossy(&verify.stderr));
    assert_eq!(office.run(&PURGE).0, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ssh_agent_signs() {
    let office = Office::new().await;
    office.refused(4, "approvals-wanting", &PURGE);
    let id = office.id();
    let socket = office.folder().join("agent");
    let mut agent =
        Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(std::process::Stdio::null()).spawn().unwrap();
    while !socket.exists() {
        assert!(agent.try_wait().unwrap().is_none(), "the agent ended");
        std::thread::yield_now();
    }
    let approve = |more: &[&str]| {
        let mut words = vec!["approve", &id, "--tenant", "acme", "--json"];
        words.extend(more);
        let output = office.command(&words).env("SSH_AUTH_SOCK", &socket).output().unwrap();
        (output.status.code().unwrap(), serde_json::from_slice::<Value>(&output.stdout).unwrap())
    };
    let add = |key: &str| {
        let added =
            Command::new("ssh-add").arg("-q").arg(office.folder().join(key)).env("SSH_AUTH_SOCK", &socket).status().unwrap();
        assert!(added.success());
    };
    let outcomes = {
        new_key(office.folder(), "stranger");
        let empty = approve(&[]);
        add("stranger");
        let foreign = approve(&[]);
        add("ann");
        let named = approve(&["--key", "bob.pub"]);
        let only = approve(&[]);
        add("bob");
        let several = approve(&[]);
        let bob = approve(&["--key", "bob.pub"]);
        [empty, foreign, named, only, several, bob]
    };
    agent.kill().unwrap();
    agent.wait().unwrap();
    let without = approve(&[]);
    let found: Vec<(i32, String)> = outcomes
        .iter()
        .chain([&without])
        .map(|(code, document)| {
            let word = document["error"]["kind"].as_str().or(document["principal"].as_str());
            (*code, word.unwrap().to_owned())
        })
        .collect();
    let expected =
        [(1, "not-signed"), (2, "no-key"), (1, "not-signed"), (0, "ann"), (2, "several-keys"), (0, "bob"), (1, "not-signed")];
    assert_eq!(found, expected.map(|(code, word)| (code, word.to_owned())), "{outcomes:#?}");
    assert_eq!(office.plan()["signatures"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_or_person_counts_once() {
    let office = Office::requiring("purge = 3\n").await;
    // Ann has a second key; her first one is somebody else's too, by name; and Bob is Bob.
    let second = new_key(office.folder(), "ann-at-home");
    let lines = [
        may_sign_plans("ann", "", &office.public("ann")),
        may_sign_plans("Ann", "", &second),
        may_sign_plans("carol", "", &office.public("ann")),
        may_sign_plans("bob", "", &office.public("bob")),
    ];
    office.sign_list(3, &lines.concat()).await;
    office.refused(4, "approvals-wanting", &PURGE);
    let id = office.id();
    for (key, signatures) in [("ann", 2), ("ann-at-home", 2), ("keys/operator", 2)] {
        let approved = office.done(&["approve", &id, "--tenant", "acme", "--key", key]);
        assert_eq!(approved["signatures"], signatures, "{key}: {approved:#}");
    }
    let error = office.refused(4, "approvals-wanting", &PURGE);
    assert!(error["message"].as_str().unwrap().contains("has 2: "), "{error:#}");
    office.done(&["approve", &id, "--tenant", "acme", "--key", "bob"]);
    assert_eq!(office.run(&PURGE).0, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_approvals_nobody_is_asked_and_one_is_who_makes_the_plan() {
    for approvals in ["", "purge = 1\nrelease = 1\n"] {
        let office = Office::requiring(approvals).await;
        office.done(&["hold", "acme", "--reason", "a law suit"]);
        office.done(&["release", "acme"]);
        assert_eq!(office.folder().join("vault/plans").exists(), !approvals.is_empty());
        assert_eq!(office.run(&PURGE).0, 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_where_nobody_could_ever_sign_enough() {
    let office = Office::requiring("purge = 3\nrelease = 4\n").await;
    let (_, checked) = office.run(&["check"]);
    let findings: Vec<&Value> = checked["findings"].as_array().unwrap().iter().collect();
    let about = |object: &str| findings.iter().filter(|finding| finding["object"] == object).count();
    assert_eq!((about("approvals.purge"), about("approvals.release")), (0, 1), "three may sign: {checked:#}");
}
