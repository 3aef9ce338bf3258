//! A keyring with a mirror: the mirror is a whole copy, and knows whom the keyring forgot.

use std::{fs, path::Path};

use crate::harness::{
    postgres::{Cluster, Options},
    program::Program,
};

fn files(folder: &Path, files_in: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() { files(&entry.path(), files_in) } else { files_in.push(entry.path()) }
    }
}

#[test]
fn a_mirror_is_a_whole_copy_and_knows_whom_the_keyring_forgot() {
    let server = Cluster::start(&Options::default());
    server.create_database("tenant_acme");
    let program = Program::new();
    let mirror = format!("file://{}", program.path("mirror").display());
    let init = program.init(&server.description(), "tenant_{tenant}");
    program.done(&[&init.iter().map(String::as_str).collect::<Vec<_>>()[..], &["--mirror", &mirror]].concat());
    program.done(&["backup", "--all"]);
    program.done(&["keys", "check", "--identity", "recovery-kit.txt"]);

    // Each object of the mirror, lost and changed.
    let mut objects = Vec::new();
    files(&program.path("mirror"), &mut objects);
    objects.retain(|path| !path.to_string_lossy().contains("probe"));
    assert!(objects.len() >= 4, "{objects:?}");
    for path in &objects {
        let before = fs::read(path).unwrap();
        let object = path.strip_prefix(program.path("mirror")).unwrap().display().to_string();
        let bad = |how: &str| {
            let (code, report) = program.run(&["keys", "check"]);
            assert_eq!(code, 5, "{object} {how}: {report:#}");
            assert!(report["problems"].to_string().contains(&object), "{object} {how}: {report:#}");
        };
        fs::remove_file(path).unwrap();
        bad("lost");
        fs::write(path, [&before[..], b"\n"].concat()).unwrap();
        bad("longer");
        fs::write(path, before).unwrap();
    }
    program.done(&["keys", "check"]);

    // Keyring and vault lost everything of acme; the mirror still knows it.
    for (store, parts) in [("keyring", &["t", "k"][..]), ("vault", &["t"])] {
        for part in parts {
            fs::rename(program.path(store).join(part), program.path(&format!("{store}-{part}"))).unwrap();
        }
    }
    let (code, report) = program.run(&["backup", "--all", "--accept-missing"]);
    assert_eq!((code, &report["results"][0]["error"]["kind"]), (5, &"keyring-incomplete".into()), "{report:#}");
    assert_eq!(program.run(&["keys", "check"]).0, 5);
    assert!(!program.path("keyring/k").exists(), "no key was made");
}

#[test]
fn the_keyrings_root_is_as_it_was_written_or_refused() {
    let server = Cluster::start(&Options::default());
    let program = Program::set_up(&server, "tenant_{tenant}");
    let path = program.path("keyring/keyring.json");
    let before = fs::read(&path).unwrap();
    let letter = before.iter().rposition(u8::is_ascii_lowercase).unwrap();
    let mut spelled = before.clone();
    spelled[letter] = spelled[letter].to_ascii_uppercase();
    for changed in [spelled, [&before[..], b"\n"].concat(), before[..before.len() - 1].to_vec()] {
        fs::write(&path, changed).unwrap();
        assert_eq!(program.run(&["verify", "--all"]).0, 5);
        assert_eq!(program.run(&["keys", "check"]).0, 5);
    }
    fs::write(&path, before).unwrap();
    program.done(&["verify", "--all"]);
    fs::remove_file(program.path("vault/vault.json")).unwrap();
    assert_eq!(program.run(&["verify", "--all"]).0, 5, "a missing object is an integrity failure");
}
