//! The program itself, as a person or a script runs it. Every document that it prints is checked against its schema in `docs/json/`.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use super::postgres::Cluster;

/// A folder to run it in.
pub struct Program {
    folder: TempDir,
}

impl Program {
    /// In an empty folder.
    pub fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("tenure-program-").tempdir().unwrap() }
    }

    /// In a folder where `init` was run for a cluster's databases that match `pattern`, with directories as stores.
    pub fn set_up(cluster: &Cluster, pattern: &str) -> Self {
        let program = Self::new();
        program.done(&program.init(&cluster.description(), pattern).iter().map(String::as_str).collect::<Vec<_>>());
        program
    }

    /// The words of an `init` with directories below the folder as stores.
    pub fn init(&self, connection: &str, pattern: &str) -> Vec<String> {
        let url = |name: &str| format!("file://{}", self.path(name).display());
        let words = ["init", "--vault", &url("vault"), "--keyring", &url("keyring"), "--databases", pattern];
        let mut words: Vec<String> = words.map(str::to_owned).to_vec();
        words.extend(["--cluster".to_owned(), format!("here={connection}")]);
        words
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command, not yet run.
    pub fn command(&self, arguments: &[&str]) -> Command {
        command_in(self.folder(), arguments)
    }

    /// Runs it as a person does: exit code, standard output, standard error.
    pub fn say(&self, arguments: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    /// Runs it with `--json`: exit code and document, which is as its schema says.
    pub fn run(&self, arguments: &[&str]) -> (i32, Value) {
        run_in(self.folder(), arguments)
    }

    /// Runs it, and it must succeed.
    pub fn done(&self, arguments: &[&str]) -> Value {
        let (code, document) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {document:#}");
        document
    }

    /// Runs it, and it must fail with this code; gives the error.
    pub fn refused(&self, code: i32, arguments: &[&str]) -> Value {
        let (found, document) = self.run(arguments);
        assert_eq!(found, code, "{arguments:?}: {document:#}");
        assert_eq!(document["error"]["code"], code, "{arguments:?}: {document:#}");
        document["error"].clone()
    }
}

/// The command in a folder that has a configuration, not yet run.
pub fn command_in(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env("NO_COLOR", "1");
    for variable in ["TENURE_CONFIG", "TENURE_LOG", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE"] {
        command.env_remove(variable);
    }
    command
}

/// Runs it there with `--json`: exit code and document, which is as its schema says.
pub fn run_in(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let Output { status, stdout, stderr } = command_in(folder, arguments).arg("--json").output().unwrap();
    let document: Value = serde_json::from_slice(&stdout).unwrap_or_else(|error| {
        panic!("{arguments:?}: {error}: {}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
    });
    check(&document);
    (status.code().unwrap(), document)
}

/// Whether a document is as its schema says.
pub fn check(document: &Value) {
    let name = match document["command"].as_str() {
        None => "error".to_owned(),
        Some("init") if document.get("signers").is_some() => "init-join".to_owned(),
        Some("list") if document.get("tenants").is_some() => "list-all".to_owned(),
        Some("restore") if document.get("results").is_some() => "restore-all".to_owned(),
        Some(command) => command.replace(' ', "-"),
    };
    let file = format!("{}/docs/json/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
    let schema: Value = serde_json::from_slice(&std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"))).unwrap();
    if let Err(error) = jsonschema::validate(&schema, document) {
        panic!("a document of {name} is not as {file} says: {error}\n{document:#}");
    }
    assert_eq!(document["format"], 1);
}
