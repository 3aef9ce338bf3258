//! Nights, restores and repairs with each role's own credentials, and what is left after a thief used them.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::Buckets;
use crate::harness::{
    postgres::{Cluster, shared, unique},
    s3::{self, S3Server, WRITER},
};

const RESTORER: &str = s3::OTHER_ROLES[0];

/// The program in a folder. Without `AWS_PROFILE` it has no credentials but those of the profiles in its configuration.
struct Site {
    folder: tempfile::TempDir,
    buckets: Buckets,
    mirror: String,
    server: &'static Cluster,
    database: String,
}

impl Site {
    async fn new(keep_versions: bool) -> Self {
        let (server, stem) = (shared(), unique("roles"));
        let buckets = Buckets::new(keep_versions).await;
        let mirror = buckets.server.bucket("roles-mirror").await;
        s3::put_policy(&buckets.server.client(), &mirror, "keyring").await;
        let database = format!("{stem}_acme");
        server.create_database(&database);
        server.sql(&database, "CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n");
        let site = Self { folder: tempfile::tempdir().unwrap(), buckets, mirror, server, database };
        // The owner of the buckets makes the installation; from then on each role has its own user.
        let [vault, keyring, mirror] =
            [&site.buckets.vault, &site.buckets.keyring, &site.mirror].map(|bucket| format!("s3://{bucket}"));
        let (here, pattern) = (format!("here={}", server.description()), format!("{stem}_{{tenant}}"));
        let stores = ["init", "--vault", &vault, "--keyring", &keyring, "--mirror", &mirror];
        let others = ["--endpoint", &site.buckets.server.endpoint, "--cluster", &here, "--databases", &pattern];
        let init = site.run_as(Some(s3::OWNER), &[&stores[..], &others].concat());
        assert_eq!(init.0, 0, "{:#}", init.1);
        site.set_profiles(&["writer", "restorer", "operator", "janitor", "eraser"]);
        site
    }

    /// Gives these roles a profile of their name in every store, and the others none.
    fn set_profiles(&self, roles: &[&str]) {
        let file = self.folder.path().join("tenure.toml");
        let mut config: toml::Table = toml::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let profiles: toml::Table = roles.iter().map(|role| ((*role).to_owned(), toml::Value::from(*role))).collect();
        let with_profiles = |store: &mut toml::Value| {
            store.as_table_mut().unwrap().insert("profiles".to_owned(), profiles.clone().into());
        };
        ["vault", "keyring"].iter().for_each(|store| with_profiles(&mut config[*store]));
        config["keyring"]["mirrors"].as_array_mut().unwrap().iter_mut().for_each(with_profiles);
        std::fs::write(file, toml::to_string(&config).unwrap()).unwrap();
    }

    fn run_as(&self, profile: Option<&str>, arguments: &[&str]) -> (i32, Value) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
        command.args(arguments).arg("--json").current_dir(self.folder.path()).stdin(Stdio::null());
        for variable in ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "TENURE_CONFIG"] {
            command.env_remove(variable);
        }
        let aws = [("AWS_CONFIG_FILE", "/dev/null"), ("AWS_EC2_METADATA_DISABLED", "true")];
        command.envs(aws).env("AWS_SHARED_CREDENTIALS_FILE", &self.buckets.server.credentials_file);
        command.envs(profile.map(|profile| ("AWS_PROFILE", profile)));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let document = serde_json::from_str(&said)
            .unwrap_or_else(|_| panic!("{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), document)
    }

    fn run(&self, arguments: &[&str]) -> (i32, Value) {
        self.run_as(None, arguments)
    }

    fn done(&self, arguments: &[&str]) -> Value {
        let (code, document) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {document:#}");
        document
    }

    /// Restores to a copy, and looks whether it is the tenant.
    fn restores(&self) -> Value {
        let copy = unique("roles_copy");
        let restored = self.done(&["restore", "acme", "--into", &copy, "--identity", "recovery-kit.txt"]);
        let sum = "SELECT count(*), md5(string_agg(t::text, '' ORDER BY n)) FROM t";
        assert_eq!(self.server.sql(&copy, sum), self.server.sql(&self.database, sum));
        restored
    }

    /// Names of what lies in a bucket, but for what it was tried out with.
    async fn names(&self, bucket: &str) -> Vec<String> {
        let listed = self.buckets.server.client().list_objects_v2().bucket(bucket).send().await.unwrap();
        let names = listed.contents().iter().map(|object| object.key().unwrap().to_owned());
        names.filter(|name| !name.starts_with("probe/")).collect()
    }

    /// Every version and delete marker in a bucket, by name.
    async fn versions(&self, bucket: &str) -> Vec<String> {
        let listed = self.buckets.server.client().list_object_versions().bucket(bucket).send().await.unwrap();
        let versions = listed.versions().iter().map(|version| version.key().unwrap().to_owned());
        versions.chain(listed.delete_markers().iter().map(|marker| marker.key().unwrap().to_owned())).collect()
    }

    /// Writes over everything in vault and keyring that the user may.
    async fn write_over(&self, user: &str) -> usize {
        let thief = self.buckets.server.client_of(user);
        let mut written = 0;
        for bucket in [&self.buckets.vault, &self.buckets.keyring] {
            for name in self.names(bucket).await {
                let put = thief.put_object().bucket(bucket).key(name).body(b"forged".to_vec().into()).send().await;
                written += usize::from(put.is_ok());
            }
        }
        written
    }
}

/// Whoever makes a plan, signs one, or goes on with one, needs no more than the role that acts.
#[tokio::test(flavor = "multi_thread")]
async fn plans_are_made_signed_and_carried_out_with_each_roles_credentials_alone() {
    let site = Site::new(false).await;
    site.done(&["backup", "--all"]);
    let file = site.folder.path().join("tenure.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{config}\n[approvals]\npurge = 2\nadmit = 2\nrelease = 2\nkeys = 2\n")).unwrap();
    // Ann comes: an operator signs her in, with an operator's credentials.
    let ssh = |arguments: &[&str]| {
        let output = Command::new("ssh-keygen").args(arguments).current_dir(site.folder.path()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    ssh(&["-q", "-t", "ed25519", "-N", "", "-f", "ann"]);
    let read = |name: &str| std::fs::read_to_string(site.folder.path().join(name)).unwrap();
    let list = format!("{}ann namespaces=\"tenure-plan\" {}", read("allowed_signers"), read("ann.pub"));
    std::fs::write(site.folder.path().join("2"), &list).unwrap();
    ssh(&["-q", "-Y", "sign", "-n", "tenure-root", "-f", "keys/operator", "2"]);
    let operator = site.buckets.server.client_of("operator");
    for (name, text) in [("signers/2.sig", read("2.sig")), ("signers/2", list)] {
        operator.put_object().bucket(&site.buckets.vault).key(name).body(text.into_bytes().into()).send().await.unwrap();
    }
    let approved = |arguments: &[&str]| {
        let (code, refused) = site.run(arguments);
        assert_eq!((code, refused["error"]["kind"].as_str()), (4, Some("approvals-wanting")), "{arguments:?}: {refused:#}");
        let plan = refused["error"]["object"].as_str().unwrap();
        let report = site.done(&["approve", plan, "--tenant", "acme", "--key", "ann"]);
        assert_eq!(report["signatures"], 2, "{report:#}");
        site.done(arguments)
    };
    approved(&["keys", "rotate", "acme"]);
    site.done(&["hold", "acme", "--reason", "a law suit"]);
    approved(&["release", "acme"]);
    site.server.sql("postgres", &format!("DROP DATABASE \"{}\"", site.database));
    site.server.create_database(&site.database);
    approved(&["admit", "--source", "acme"]);
    let (code, refused) = site.run(&["purge", "acme", "--confirm", "acme"]);
    assert_eq!(code, 4, "{refused:#}");
    let plan = refused["error"]["object"].as_str().unwrap();
    site.done(&["plans", "cancel", plan]);
    assert_eq!(approved(&["purge", "acme", "--confirm", "acme"])["status"], "closed");
    let states: Vec<String> = site.done(&["plans", "list"])["plans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|plan| format!("{} {}", plan["act"].as_str().unwrap(), plan["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, ["keys closed", "release closed", "admit closed", "purge void", "purge closed"]);
    assert_eq!(site.done(&["audit"])["bad"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_works_with_its_roles_credentials_alone() {
    for keep_versions in [false, true] {
        let site = Site::new(keep_versions).await;
        assert_eq!(site.done(&["backup", "--all"])["results"][0]["outcome"], "done");
        assert_eq!(site.done(&["backup", "acme"])["results"][0]["chunks_stored"], 0);
        assert_eq!(site.done(&["list", "acme"])["backups"].as_array().unwrap().len(), 2);
        site.done(&["show", "acme", "latest"]);
        site.done(&["tenants"]);
        for command in [&["verify", "--all"][..], &["keys", "check"]] {
            let report = site.done(&[command, &["--identity", "recovery-kit.txt"]].concat());
            assert_eq!((&report["problems"], &report["not_looked_at"]), (&json!([]), &json!([])), "{report:#}");
        }
        site.restores();
        site.done(&["admit", "--source", "acme"]);
        let expired = site.done(&["expire"]);
        assert_eq!((&expired["removed"], &expired["problems"]), (&json!([]), &json!([])), "{expired:#}");

        let (code, report) = site.run(&["check"]);
        assert_eq!(code, 0, "{report:#}");
        let about = |store: &str| -> String {
            let findings = report["findings"].as_array().unwrap().iter();
            findings.filter(|finding| finding["object"].as_str().unwrap().starts_with(store)).map(Value::to_string).collect()
        };
        // What this server cannot enforce is said, and what versions do instead.
        for store in ["vault s3:", "keyring s3:", "mirror 1 s3:"] {
            let kept = keep_versions && !store.starts_with("mirror");
            let words = if kept { "stays as an earlier version" } else { "credentials may replace" };
            assert!(about(store).contains(words), "{store}: {report:#}");
            assert!(!about(store).contains("may read k/"), "{store}: {report:#}");
        }

        // The mirror lost everything, then the keyring: an operator's credentials put it back, and no other role's.
        for bucket in [&site.mirror, &site.buckets.keyring] {
            let (owner, before) = (site.buckets.server.client(), site.names(bucket).await);
            assert_eq!(before.len(), 4, "{before:?}");
            for name in &before {
                owner.delete_object().bucket(bucket).key(name).send().await.unwrap();
            }
            site.set_profiles(&["writer", "restorer"]);
            for role in [WRITER, RESTORER] {
                let (code, refused) = site.run_as(Some(role), &["keys", "repair"]);
                assert_eq!((code, &refused["error"]["kind"]), (1, &json!("store-denied")), "{role}: {refused:#}");
                assert!(refused["error"]["hint"].as_str().unwrap().contains("operator"), "{refused:#}");
            }
            site.set_profiles(&["writer", "restorer", "operator"]);
            let report = site.done(&["keys", "repair"]);
            assert_eq!(report["put_back"].as_array().unwrap().len(), 4, "{report:#}");
            assert_eq!(site.names(bucket).await, before);
        }
        for command in [["keys", "check"], ["verify", "--all"]] {
            assert_eq!(site.done(&command)["problems"], json!([]));
        }
        site.restores();

        // An operator makes keys and wraps them anew; what is older goes with the eraser's credentials alone, every version of it.
        site.done(&["keys", "rotate", "acme"]);
        let rewrap = ["keys", "rewrap", "acme", "--identity", "recovery-kit.txt"];
        let (code, report) = site.run(&rewrap);
        assert_eq!((code, report["open"].as_array().unwrap().len()), (3, 4), "two keys, two stores: {report:#}");
        site.set_profiles(&["writer", "restorer", "operator", "eraser"]);
        let report = site.done(&rewrap);
        assert_eq!((&report["results"][0]["removed"], &report["open"]), (&json!(2), &json!([])), "{report:#}");
        for bucket in [&site.mirror, &site.buckets.keyring] {
            let listed = site.buckets.server.client().list_object_versions().bucket(bucket).prefix("k/").send().await.unwrap();
            let left: Vec<&str> = listed.versions().iter().map(|version| version.key().unwrap()).collect();
            assert!(left.len() == 2 && left.iter().all(|name| name.ends_with(".2.age")), "{left:?}");
            assert!(listed.delete_markers().is_empty());
        }
        site.done(&["backup", "acme"]);
        assert_eq!(site.done(&["keys", "check", "--identity", "recovery-kit.txt"])["problems"], json!([]));

        // Held by an operator's credentials, purged by an eraser's, in the stores and from every version.
        site.done(&["hold", "acme", "--reason", "a court asked for it"]);
        let purge = ["purge", "acme", "--confirm", "acme"];
        let (code, refused) = site.run(&purge);
        assert_eq!((code, &refused["error"]["kind"]), (4, &json!("on-hold")), "{refused:#}");
        site.done(&["release", "acme"]);
        let report = site.done(&purge);
        assert_eq!((&report["status"], &report["open"]), (&json!("closed"), &json!([])), "{report:#}");
        for bucket in [&site.buckets.vault, &site.buckets.keyring, &site.mirror] {
            let left = site.versions(bucket).await;
            let its = |name: &&String| name.starts_with("t/") || name.starts_with("k/");
            let left: Vec<&String> = left.iter().filter(its).filter(|name| !name.contains("/gone/")).collect();
            assert!(left.is_empty(), "{bucket}, versions kept: {keep_versions}: {left:?}");
        }
        assert_eq!(site.run(&["list", "acme"]).1["error"]["kind"], "tenant-purged");
        let begun = site.done(&["backup", "acme"]);
        assert_eq!(begun["results"][0]["chunks_reused"], 0, "a new history: {begun:#}");
        site.restores();
    }
}

/// Whoever may read k/ with the credentials of the night is told, before the night.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_may_read_secret_halves_is_told() {
    let site = Site::new(false).await;
    let owner = site.buckets.server.client();
    let actions = ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:GetBucketVersioning", "s3:GetLifecycleConfiguration"];
    s3::grant(&owner, &site.buckets.keyring, WRITER, &actions).await;
    let (_, report) = site.run(&["check"]);
    let told = |finding: &&Value| finding["message"].as_str().unwrap().contains("may read k/");
    let told: Vec<&Value> = report["findings"].as_array().unwrap().iter().filter(told).collect();
    assert_eq!(told.len(), 1, "{report:#}");
    assert!(told[0]["level"] == "warning" && told[0]["object"].as_str().unwrap().starts_with("keyring"), "{told:?}");
}

/// With versions kept, all that a thief of the writer's credentials writes over is seen and looked behind.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_thief_of_the_writer_writes_over_is_seen_and_still_restored() {
    let site = Site::new(true).await;
    site.done(&["backup", "acme"]);
    let written = site.write_over(WRITER).await;
    assert!(written >= 8, "{written}");
    let (code, report) = site.run(&["verify", "--all"]);
    assert_eq!(code, 5, "{report:#}");
    for bucket in [&site.buckets.vault, &site.buckets.keyring] {
        assert!(report["problems"].to_string().contains(&format!("s3://{bucket}/")), "{report:#}");
    }
    assert_eq!(site.run(&["keys", "check"]).0, 5);
    site.restores();
    // The next night leans on none of it.
    let next = site.done(&["backup", "acme"]);
    assert!(next["results"][0]["chunks_stored"].as_u64().unwrap() > 0, "{next:#}");
    assert_eq!(site.restores()["backup"], next["results"][0]["backup"]);
}

/// Without versions, and where the store has no condition for create-only, he destroys what he writes over; and that is seen.
#[tokio::test(flavor = "multi_thread")]
async fn without_versions_what_a_thief_writes_over_is_lost_and_that_is_seen() {
    let site = Site::new(false).await;
    site.done(&["backup", "acme"]);
    site.write_over(WRITER).await;
    for command in [
        &["verify", "--all"][..],
        &["keys", "check"],
        &["list"],
        &["backup", "acme"],
        &["restore", "acme", "--into", "nowhere", "--identity", "recovery-kit.txt"],
    ] {
        let (code, document) = site.run(command);
        assert_eq!(code, 5, "{command:?}: {document:#}");
    }
    assert_eq!(site.server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'nowhere'").trim(), "0");
}

/// A thief of the restorer's credentials makes no backup and hides none.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_thief_of_the_restorer_writes_over_harms_no_backup() {
    let site = Site::new(false).await;
    site.done(&["backup", "acme"]);
    assert_eq!(site.write_over(RESTORER).await, 2, "a tenant's source and its signature");
    assert_eq!(site.run(&["verify", "--all"]).0, 5);
    // The cluster is named, so that nothing is guessed from what he spoilt.
    let copy = unique("roles_copy");
    let restore = ["restore", "acme", "--into", &copy, "--cluster", "here", "--identity", "recovery-kit.txt"];
    assert_eq!(site.done(&restore)["proven"], true);
    assert_eq!(site.run(&["backup", "acme"]).0, 5);
    site.done(&["admit", "--source", "acme"]);
    site.done(&["backup", "acme"]);
}

/// The statement for stores that know the condition locks every writer out of one that does not; `check` finds that before a night does.
#[tokio::test(flavor = "multi_thread")]
async fn the_condition_for_create_only_is_not_for_this_server() {
    let site = Site::new(false).await;
    let policy = |file: &str| -> Value {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policies").join(file);
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
    };
    let mut whole = policy("vault.json");
    let more = policy("create-only.json")["Statement"].as_array().unwrap().clone();
    whole["Statement"].as_array_mut().unwrap().extend(more);
    let text = whole.to_string().replace("arn:aws:s3:::acme-tenure", &format!("arn:aws:s3:::{}", site.buckets.vault));
    let text = text.replace("arn:aws:iam::111122223333:user/tenure-", "arn:aws:iam::000000000000:user/");
    site.buckets.server.client().put_bucket_policy().bucket(&site.buckets.vault).policy(text).send().await.unwrap();
    let (code, report) = site.run(&["check"]);
    assert!(code == 1 && report.to_string().contains("access denied"), "{report:#}");
    let (code, document) = site.run(&["backup", "acme"]);
    assert_ne!(code, 0, "{document:#}");
}

/// A mirror whose bucket or credentials are gone keeps nobody from being backed up whose key is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_out_of_reach_stops_only_who_needs_a_new_key() {
    let site = Site::new(false).await;
    site.done(&["backup", "--all"]);
    let file = site.folder.path().join("tenure.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let url = format!("s3://{}", site.mirror);
    let newcomer = site.database.replace("_acme", "_initech");
    site.server.create_database(&newcomer);
    // Who does not own a bucket is not told whether there is one.
    let mut wrong: toml::Table = toml::from_str(&config).unwrap();
    wrong["keyring"]["mirrors"][0]["profiles"]["writer"] = "wrong".into();
    let wrong = toml::to_string(&wrong).unwrap();
    for changed in [config.replace(&url, "s3://there-is-none"), wrong] {
        std::fs::write(&file, &changed).unwrap();
        let (code, report) = site.run(&["backup", "--all"]);
        let results: Vec<&Value> = report["results"].as_array().unwrap().iter().map(|result| &result["outcome"]).collect();
        assert_eq!((code, results), (3, vec![&json!("done"), &json!("failed")]), "{report:#}");
        assert_eq!(report["results"][1]["error"]["kind"], "cannot-create-key", "{report:#}");
        let findings = report["findings"].to_string();
        assert!(findings.contains("mirror s3://") && findings.contains("denied"), "{report:#}");
        assert_eq!(site.run(&["check"]).0, 1);
        site.restores();
    }
    std::fs::write(&file, &config).unwrap();
    site.done(&["backup", "--all"]);
}
