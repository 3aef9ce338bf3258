//! The program on two buckets, from the first command to a proven restore.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::postgres::{shared, unique};
use crate::harness::s3::{self, S3Server};

struct Program<'a> {
    folder: &'a Path,
}

impl Program<'_> {
    /// Runs a command with `--json`, and gives its exit code and document.
    fn run(&self, arguments: &[&str]) -> (i32, serde_json::Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_tenure"))
            .args(arguments)
            .arg("--json")
            .current_dir(self.folder)
            .env("AWS_SHARED_CREDENTIALS_FILE", &s3::shared().credentials_file)
            .envs([("AWS_CONFIG_FILE", "/dev/null"), ("AWS_PROFILE", s3::OWNER), ("AWS_EC2_METADATA_DISABLED", "true")])
            .env_remove("AWS_ACCESS_KEY_ID")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let document = serde_json::from_str(&said)
            .unwrap_or_else(|_| panic!("{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), document)
    }

    fn done(&self, arguments: &[&str]) -> serde_json::Value {
        let (code, document) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {document:#}");
        document
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_and_back_on_buckets() {
    let (server, cluster) = (s3::shared(), shared());
    let (vault, keyring) = (server.bucket("vault").await, server.bucket("keyring").await);
    let stem = unique("buckets");
    let database = format!("{stem}_acme");
    cluster.create_database(&database);
    cluster.sql(
        &database,
        "CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 50000) n",
    );

    let scratch = tempfile::tempdir().unwrap();
    let tenure = Program { folder: scratch.path() };
    let ca = server.ca.display().to_string();
    tenure.done(&[
        "init",
        "--vault",
        &format!("s3://{vault}/some/where"),
        "--keyring",
        &format!("s3://{keyring}"),
        "--endpoint",
        &server.tls_endpoint,
        "--ca-file",
        &ca,
        "--cluster",
        &format!("here={}", cluster.description()),
        "--databases",
        &format!("{stem}_{{tenant}}"),
    ]);
    let (code, refused) = tenure.run(&[
        "--config",
        "other/tenure.toml",
        "init",
        "--vault",
        &format!("s3://{vault}/some/where"),
        "--keyring",
        &format!("s3://{keyring}"),
        "--endpoint",
        &server.tls_endpoint,
        "--ca-file",
        &ca,
        "--cluster",
        "here=host=/tmp",
        "--databases",
        "x_{tenant}",
    ]);
    assert_ne!(code, 0, "stores that are in use are not taken over: {refused:#}");

    let first = tenure.done(&["backup", "--all"]);
    assert_eq!(first["results"][0]["outcome"], "done", "{first:#}");
    assert!(first["results"][0]["chunks_stored"].as_u64().unwrap() > 1, "{first:#}");
    let second = tenure.done(&["backup", "acme"]);
    assert_eq!(second["results"][0]["chunks_stored"], 0, "{second:#}");
    assert_eq!(tenure.done(&["list", "acme"])["backups"].as_array().unwrap().len(), 2);
    assert_eq!(tenure.done(&["verify", "--all", "--identity", "recovery-kit.txt"])["problems"], serde_json::json!([]));

    let copy = unique("buckets_copy");
    let restored = tenure.done(&["restore", "acme", "--identity", "recovery-kit.txt", "--into", &copy]);
    assert_eq!(restored["proven"], true, "{restored:#}");
    let sum = "SELECT count(*), md5(string_agg(t::text, '' ORDER BY id)) FROM t";
    assert_eq!(cluster.sql(&copy, sum), cluster.sql(&database, sum));

    // Somebody removes a chunk.
    let client = server.client();
    let listed = client.list_objects_v2().bucket(&vault).send().await.unwrap();
    let chunk = listed.contents().iter().filter_map(|object| object.key()).find(|key| key.contains("/c/")).unwrap();
    client.delete_object().bucket(&vault).key(chunk).send().await.unwrap();
    let (code, damaged) = tenure.run(&["verify", "--all"]);
    assert_eq!(code, 5, "{damaged:#}");
    assert!(!damaged["problems"].as_array().unwrap().is_empty());
    // The next backup stores it again.
    let healed = &tenure.done(&["backup", "acme"])["results"][0];
    assert_eq!(healed["chunks_stored"], 1, "{healed:#}");
    let (_, still) = tenure.run(&["verify", "--all"]);
    assert!(still["problems"].as_array().unwrap().iter().all(|problem| problem["backup"] != healed["backup"]), "{still:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_hides_or_writes_over_in_versioned_buckets_is_reported_and_still_restored() {
    let (server, cluster) = (s3::shared(), shared());
    let (vault, keyring) = (server.bucket("kept-vault").await, server.bucket("kept-keyring").await);
    let client = server.client();
    for bucket in [&vault, &keyring] {
        s3::keep_versions(&client, bucket).await;
    }
    let stem = unique("kept");
    let database = format!("{stem}_acme");
    cluster.create_database(&database);
    cluster.sql(
        &database,
        "CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 20000) n",
    );
    let scratch = tempfile::tempdir().unwrap();
    let tenure = Program { folder: scratch.path() };
    let (vault_url, keyring_url) = (format!("s3://{vault}"), format!("s3://{keyring}"));
    let here = format!("here={}", cluster.description());
    let init = ["init", "--vault", &vault_url, "--keyring", &keyring_url, "--endpoint", &server.endpoint, "--cluster", &here];
    tenure.done(&[&init[..], &["--databases", &format!("{stem}_{{tenant}}")]].concat());
    tenure.done(&["backup", "acme"]);
    assert_eq!(tenure.done(&["verify", "--all"])["problems"], serde_json::json!([]));

    // A chunk, a manifest and a key record are deleted; a signature and a wrapped key are written over.
    let keys = async |bucket: &str, part: &str, end: &str| -> String {
        let listed = client.list_objects_v2().bucket(bucket).send().await.unwrap();
        let fits = |key: &&str| key.contains(part) && key.ends_with(end);
        listed.contents().iter().filter_map(|object| object.key()).find(fits).unwrap().to_owned()
    };
    let hidden = [
        (&vault, keys(&vault, "/c/", "").await),
        (&vault, keys(&vault, "/b/", ".json").await),
        (&keyring, keys(&keyring, "t/", ".json").await),
        (&keyring, "keyring.json".to_owned()),
    ];
    let overwritten = [(&vault, keys(&vault, "/b/", ".sig").await), (&keyring, keys(&keyring, "k/", ".age").await)];
    for (bucket, key) in &hidden {
        client.delete_object().bucket(*bucket).key(key).send().await.unwrap();
    }
    for (bucket, key) in &overwritten {
        client.put_object().bucket(*bucket).key(key).body(b"somebody was here".to_vec().into()).send().await.unwrap();
    }
    let (code, report) = tenure.run(&["verify", "--all", "--identity", "recovery-kit.txt"]);
    assert_eq!(code, 5, "{report:#}");
    let problems = report["problems"].as_array().unwrap();
    for (bucket, key) in hidden.iter().chain(&overwritten) {
        let object = format!("s3://{bucket}/{key}");
        assert!(problems.iter().any(|problem| problem["object"] == object.as_str()), "{object}: {report:#}");
    }
    assert_eq!(problems.len(), 6, "nothing else is wrong: {report:#}");
    assert_eq!(tenure.run(&["keys", "check"]).0, 5);
    assert_eq!(tenure.done(&["list", "acme"])["backups"][0]["state"], "damaged", "what is hidden may go any day");

    let copy = unique("kept_copy");
    let restored = tenure.done(&["restore", "acme", "--identity", "recovery-kit.txt", "--into", &copy]);
    assert_eq!(restored["proven"], true, "{restored:#}");
    // The next backup does not lean on it.
    let next = &tenure.done(&["backup", "acme"])["results"][0];
    assert_eq!(next["chunks_stored"], 1, "{next:#}");
    let list = tenure.done(&["list", "acme"]);
    assert_eq!((&list["backups"][0]["id"], &list["backups"][0]["state"]), (&next["backup"], &"good".into()), "{list:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_with_object_lock() {
    let (server, cluster) = (s3::shared(), shared());
    let (vault, keyring) = (server.bucket_with_locks("locked-vault").await, server.bucket("locked-keyring").await);
    let client = server.client();
    let stem = unique("locked");
    let database = format!("{stem}_acme");
    cluster.create_database(&database);
    cluster.sql(
        &database,
        "CREATE TABLE t (id int PRIMARY KEY, s text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 20000) n",
    );
    let scratch = tempfile::tempdir().unwrap();
    let tenure = Program { folder: scratch.path() };
    let (vault_url, keyring_url) = (format!("s3://{vault}"), format!("s3://{keyring}"));
    let here = format!("here={}", cluster.description());
    let init = ["init", "--vault", &vault_url, "--keyring", &keyring_url, "--endpoint", &server.endpoint, "--cluster", &here];
    tenure.done(&[&init[..], &["--databases", &format!("{stem}_{{tenant}}")]].concat());
    let file = scratch.path().join("tenure.toml");
    let configured = std::fs::read_to_string(&file).unwrap();
    assert!(configured.contains("lock = \"none\""), "{configured}");
    std::fs::write(&file, configured.replace("lock = \"none\"", "lock = \"compliance 2 days\"")).unwrap();

    let (_, check) = tenure.run(&["check"]);
    let says = |level: &str, words: &str| {
        let mut findings = check["findings"].as_array().unwrap().iter();
        findings.any(|finding| finding["level"] == level && finding["message"].as_str().unwrap().contains(words))
    };
    assert!(says("ok", "what is stored is locked, compliance 2 days"), "{check:#}");
    assert!(says("warning", "a lock of ten years is not refused"), "{check:#}");
    let first = &tenure.done(&["backup", "acme"])["results"][0];
    let shown = tenure.done(&["show", "acme", "latest"]);
    let until: chrono::DateTime<chrono::Utc> = shown["locked_until"].as_str().unwrap().parse().unwrap();
    let hours = (until - chrono::Utc::now()).num_minutes() as f64 / 60.0;
    assert!((71.5..72.1).contains(&hours), "{shown:#}");
    let second = &tenure.done(&["backup", "acme"])["results"][0];
    assert_eq!(second["chunks_stored"], 0, "{first:#} {second:#}");
    assert_eq!(tenure.done(&["verify", "--all", "--identity", "recovery-kit.txt"])["problems"], serde_json::json!([]));

    // Nobody removes a version; what hides one, or lies over it, is found.
    let listed = client.list_object_versions().bucket(&vault).send().await.unwrap();
    let version =
        |part: &str| listed.versions().iter().find(|version| version.key().is_some_and(|key| key.contains(part))).unwrap();
    let (chunk, manifest) = (version("/c/"), version("/b/"));
    for version in [chunk, manifest, version("vault.json"), version("/s/"), version("signers/1")] {
        let remove = client.delete_object().bucket(&vault).key(version.key().unwrap()).version_id(version.version_id().unwrap());
        assert_eq!(remove.send().await.unwrap_err().raw_response().unwrap().status().as_u16(), 403, "{version:?}");
    }
    client.delete_object().bucket(&vault).key(chunk.key().unwrap()).send().await.unwrap();
    client.put_object().bucket(&vault).key(manifest.key().unwrap()).body(b"x".to_vec().into()).send().await.unwrap();
    let (code, report) = tenure.run(&["verify", "--all"]);
    assert_eq!(code, 5, "{report:#}");
    for key in [chunk.key().unwrap(), manifest.key().unwrap()] {
        let object = format!("s3://{vault}/{key}");
        let mut problems = report["problems"].as_array().unwrap().iter();
        assert!(problems.any(|problem| problem["object"] == object.as_str()), "{object}: {report:#}");
    }
    let copy = unique("locked_copy");
    let restored = tenure.done(&["restore", "acme", "--identity", "recovery-kit.txt", "--into", &copy]);
    assert_eq!(restored["proven"], true, "{restored:#}");
}
