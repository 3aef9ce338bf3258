//! Vaults that earlier versions wrote, with their recovery kits: listed, verified and restored by this one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::harness::postgres::{bin, shared, unique};

/// A copy of a golden vault, in a folder with the modes that it had when it was written.
struct Golden {
    folder: tempfile::TempDir,
    expected: String,
}

impl Golden {
    fn new(version: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vaults").join(version);
        copy(&source, folder.path());
        let at = folder.path().display();
        let kit = fs::read_to_string(folder.path().join("recovery-kit.txt")).unwrap();
        let recipient = kit.lines().find_map(|line| line.strip_prefix("# recipient: ")).unwrap();
        let config = format!(
            "[vault]\nurl = \"file://{at}/vault\"\n[keyring]\nurl = \"file://{at}/keyring\"\nrecipients = [\"{recipient}\"]\n\
             [signing]\nallowed_signers = \"allowed_signers\"\nrestorer = \"keys/restorer\"\n\
             [cluster.golden]\nprimary = \"{}\"\ndatabases = \"golden_{{tenant}}\"\n",
            shared().description()
        );
        fs::write(folder.path().join("tenure.toml"), config).unwrap();
        let expected = fs::read_to_string(source.join("expected")).unwrap();
        Self { folder, expected }
    }

    fn run(&self, arguments: &[&str]) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_tenure"))
            .args(arguments)
            .arg("--json")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&said).unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}

fn sorted_digest(database: &str, table: &str) -> String {
    let sql = format!("COPY (SELECT * FROM {table}) TO STDOUT");
    let script = r#"set -o pipefail; "$1" -X -A -t -d "$2" -c "$3" | LC_ALL=C sort | sha256sum | cut -d ' ' -f 1"#;
    let output = Command::new("bash")
        .args(["-c", script, "bash", bin().join("psql").to_str().unwrap(), database, &sql])
        .env("PGHOST", shared().socket_folder())
        .env("PGPORT", shared().port().to_string())
        .env("PGUSER", "postgres")
        .env("PGTZ", "UTC")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_vault_of_format_1_is_listed_verified_and_restored() {
    let golden = Golden::new("v1");
    for tenant in ["acme", "globex"] {
        let listed = golden.run(&["list", tenant]);
        let backups = listed["backups"].as_array().unwrap();
        assert_eq!(backups.len(), 2, "{listed:#}");
        assert!(backups.iter().all(|backup| backup["state"] == "good"), "{listed:#}");
    }
    let verified = golden.run(&["verify", "--all", "--identity", "recovery-kit.txt"]);
    assert_eq!((verified["checked"]["manifests"].as_u64(), verified["problems"].as_array().unwrap().len()), (Some(4), 0));

    let database = unique("golden");
    let restored = golden.run(&["restore", "acme", "--into", &database, "--identity", "recovery-kit.txt"]);
    assert_eq!(restored["proven"], true);
    let mut tables = 0;
    for line in golden.expected.lines().filter(|line| line.contains(" shop.")) {
        let (digest, table) = line.split_once(' ').unwrap();
        assert_eq!(sorted_digest(&database, table), digest, "{table}");
        tables += 1;
    }
    assert_eq!(tables, 5);
    let rest = [
        shared().sql(&database, "SELECT last_value || '|' || CASE WHEN is_called THEN 't' ELSE 'f' END FROM shop.free"),
        shared().sql(&database, "SELECT md5(lo_get(4242))"),
    ];
    for line in rest {
        assert!(golden.expected.lines().any(|expected| expected == line.trim()), "{line}");
    }
}
