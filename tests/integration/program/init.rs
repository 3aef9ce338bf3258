//! `init`: what it makes, and what it refuses.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use crate::harness::program::Program;

const CONNECTION: &str = "host=/run/postgresql user=postgres";

fn words(program: &Program) -> Vec<String> {
    program.init(CONNECTION, "tenant_{tenant}")
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn what_it_makes_is_private_and_complete() {
    let program = Program::new();
    let report = program.done(&strs(&words(&program)));
    assert_eq!(report["identity_made"], true);
    for file in [
        "tenure.toml",
        "recovery-kit.txt",
        "allowed_signers",
        "keys/worker",
        "keys/operator",
        "keys/eraser",
        "keys/janitor",
        "keys/restorer",
    ] {
        let mode = fs::metadata(program.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    for folder in ["keys", "vault", "keyring"] {
        assert_eq!(fs::metadata(program.path(folder)).unwrap().permissions().mode() & 0o777, 0o700, "{folder}");
    }
    let config = fs::read_to_string(program.path("tenure.toml")).unwrap();
    assert!(config.contains("\n[cluster.here]\nprimary = \"host=/run/postgresql user=postgres\"\n"), "{config}");
    program.done(&["config", "show"]);
    assert_eq!(program.done(&["list"])["tenants"], serde_json::json!([]));

    // age takes the kit for an identity file, and its recipient is the configured one.
    let recipient = Command::new("age-keygen").arg("-y").arg(program.path("recovery-kit.txt")).output().unwrap();
    let recipient = String::from_utf8(recipient.stdout).unwrap();
    assert!(recipient.starts_with("age1") && config.contains(recipient.trim()), "{recipient}");
    // ssh-keygen agrees that an operator signed the root.
    let verified = Command::new("sh")
        .current_dir(program.folder())
        .args(["-c", "ssh-keygen -Y verify -f allowed_signers -I $(cut -d' ' -f1 allowed_signers | grep operator) -n tenure-root -s vault/vault.json.sig < vault/vault.json"])
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

#[test]
fn nothing_is_ever_overwritten() {
    let program = Program::new();
    program.done(&strs(&words(&program)));
    let kit = fs::read(program.path("recovery-kit.txt")).unwrap();
    assert_eq!(program.refused(4, &strs(&words(&program)))["kind"], "already-there");
    // Another place, the same stores.
    let elsewhere = program.refused(4, &[&["--config", "other/tenure.toml"], &strs(&words(&program))[..]].concat());
    assert_eq!(elsewhere["kind"], "not-empty");
    assert!(!program.path("other").exists(), "what was refused leaves nothing");
    // Only the configuration is gone: the keys are still not overwritten.
    fs::remove_file(program.path("tenure.toml")).unwrap();
    let error = program.refused(4, &strs(&words(&program)));
    assert!(error["message"].as_str().unwrap().contains("recovery-kit.txt"), "{error}");
    assert_eq!(fs::read(program.path("recovery-kit.txt")).unwrap(), kit);
}

#[test]
fn contradictions_are_found_before_anything_is_made() {
    let program = Program::new();
    let nested = format!("file://{}/vault/keys", program.folder().display());
    let wrong = [
        ("--keyring", nested.as_str()),
        ("--databases", "tenant_"),
        ("--cluster", "here=hots=db1"),
        ("--cluster", "here=host=db1 password=swordfish"),
        ("--recipient", "age1nonsense"),
    ];
    for (option, value) in wrong {
        let mut words = words(&program);
        match words.iter().position(|word| word == option) {
            Some(at) => words[at + 1] = value.to_owned(),
            None => words.extend([option.to_owned(), value.to_owned()]),
        }
        let error = program.refused(2, &strs(&words));
        assert!(!error.to_string().contains("swordfish"), "{error}");
        assert_eq!(fs::read_dir(program.folder()).unwrap().count(), 0, "{option} {value} leaves nothing");
    }
}

#[test]
fn recipients_made_elsewhere_leave_no_identity_here() {
    let program = Program::new();
    let mut words = words(&program);
    words.extend(["--recipient", "age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z"].map(str::to_owned));
    assert_eq!(program.done(&strs(&words))["identity_made"], false);
    let kit = fs::read_to_string(program.path("recovery-kit.txt")).unwrap();
    assert!(kit.lines().all(|line| line.starts_with('#')), "{kit}");
    assert!(kit.contains("# recipient: age1lvyvwawkr0mcnnnncaghunadrqkmuf9e6507x9y920xxpp866cnql7dp2z"));
}

/// An init that was killed: what it left is named with the command that puts it aside, and nothing of it is lost by that.
#[test]
fn what_an_interrupted_init_left_is_put_aside_as_it_says() {
    let program = Program::new();
    program.done(&strs(&words(&program)));
    fs::remove_file(program.path("tenure.toml")).unwrap();
    let kit = fs::read(program.path("recovery-kit.txt")).unwrap();
    let error = program.refused(4, &strs(&words(&program)));
    let command = error["hint"].as_str().unwrap().split('`').nth(1).unwrap().to_owned();
    let shell = Command::new("sh").args(["-c", &command]).current_dir(program.folder()).output().unwrap();
    assert!(shell.status.success(), "{command}: {shell:?}");
    assert_eq!(fs::read(program.path("unfinished-init/recovery-kit.txt")).unwrap(), kit);

    let error = program.refused(4, &strs(&words(&program)));
    assert!(error["kind"] == "not-empty" && error["hint"].as_str().unwrap().contains("moved away"), "{error:#}");
    for store in ["vault", "keyring"] {
        fs::rename(program.path(store), program.path(&format!("unfinished-init/{store}"))).unwrap();
    }
    program.done(&strs(&words(&program)));
    program.done(&["list"]);
}
