//! `docs/threat-model.md`: every test that it names exists; and what it says of keepers, identities and keys that no other test shows.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use chrono::Utc;
use tenure::{
    id::Locker,
    keyring::Keyring,
    operation::{backup::Backup, failure::FailureClass, keys, progress::Silent},
    seal::{RecoveryIdentity, RecoveryRecipients},
    signature::{AllowedSigners, Namespace, SigningKey},
    signed,
    store::{Store, directory::DirectoryStore},
    vault::Vault,
};

use crate::harness::{
    postgres::shared,
    site::{Site, walk},
};

/// Where a test of this path (`policies::roles::name`) is, if it is one.
fn is_test(path: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration");
    let Some((module, name)) = path.rsplit_once("::") else { return false };
    let Ok(text) = std::fs::read_to_string(root.join(module.replace("::", "/")).with_extension("rs")) else { return false };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(number, line)| {
        let declared = [format!("fn {name}("), format!("async fn {name}(")].iter().any(|start| line.starts_with(start));
        declared && lines[..number].iter().rev().take_while(|line| line.starts_with("#[")).any(|line| line.contains("test"))
    })
}

#[test]
fn every_line_names_tests_that_exist() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/threat-model.md");
    let text = std::fs::read_to_string(file).unwrap();
    let tests: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|code| code.contains("::")).collect();
    for test in &tests {
        assert!(is_test(test), "docs/threat-model.md names {test}, and there is no such test");
    }
    assert!(tests.len() > 40, "{tests:?}");
    assert!(!is_test("threat_model::is_test"), "a function that is no test is none");
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---"));
    let mut tables = 0;
    for row in rows {
        if row.ends_with("| shown by |") {
            tables += 1;
        } else {
            assert!(row.contains("::"), "no test stands behind: {row}");
        }
    }
    assert!(tables >= 3, "{tables}");
}

/// Names and content of every file.
fn everything(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    walk(folder).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn holds(content: &BTreeMap<PathBuf, Vec<u8>>, word: &str) -> Option<PathBuf> {
    let in_bytes = |bytes: &[u8]| bytes.windows(word.len()).any(|part| part == word.as_bytes());
    content.iter().find(|(path, bytes)| path.to_string_lossy().contains(word) || in_bytes(bytes)).map(|(path, _)| path.clone())
}

const SECRET: &str =
    "CREATE TABLE wages_of_everybody (salary_of text); ALTER TABLE wages_of_everybody OWNER TO paymaster_general;
     INSERT INTO wages_of_everybody SELECT 'ninety thousand ' || n FROM generate_series(1, 2000) n";

#[tokio::test(flavor = "multi_thread")]
async fn the_vaults_keeper_learns_no_name_and_no_row_and_not_who_has_the_same_data() {
    let site = Site::new().await;
    shared().sql(
        "postgres",
        "DO $$ BEGIN CREATE ROLE paymaster_general; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
    );
    let tenants = ["zanzibarcorp", "timbuktultd"];
    for tenant in tenants {
        shared().sql(&site.database(tenant), SECRET);
    }
    assert_eq!(site.all().await.class, None);
    let (vault, keyring) = (everything(&site.folder().join("vault")), everything(&site.folder().join("keyring")));
    let words = ["zanzibarcorp", "timbuktultd", "wages_of", "salary_of", "paymaster_general", "ninety thousand"];
    for word in words {
        assert_eq!(holds(&vault, word), None, "{word}");
    }
    // The keyring's does learn who the tenants are, and nothing of what they have.
    assert!(tenants.iter().all(|tenant| holds(&keyring, tenant).is_some()));
    assert!(words[2..].iter().all(|word| holds(&keyring, word).is_none()));

    // The same rows twice, and nothing tells it: no name is shared, whatever it is the name of.
    let lockers = site.backup.vault.lockers().await.unwrap();
    let names = |locker: &Locker| -> BTreeSet<String> {
        let folder = site.folder().join(format!("vault/t/{locker}"));
        walk(&folder).iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    };
    let [one, other] = &lockers[..] else { panic!("{lockers:?}") };
    assert!(names(one).len() > 4 && names(one).is_disjoint(&names(other)));

    // Within a tenant it tells: an idle night adds a manifest and no chunk.
    assert!(site.all().await.results.iter().all(|result| result.chunks_stored == 0));
}

/// Sealed objects open to the tenant's own key alone: neither the recovery identity nor another tenant's key is one of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_recovery_identity_without_the_keyring_opens_nothing() {
    let site = Site::new().await;
    for tenant in ["acme", "globex"] {
        shared().sql(&site.database(tenant), SECRET.split("; ALTER").next().unwrap());
    }
    assert_eq!(site.all().await.class, None);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let kit = file("kit", &site.identity_text());
    let opens = |identity: &Path, chunk: &Path| {
        Command::new("age").args(["--decrypt", "--identity"]).arg(identity).arg(chunk).output().unwrap().status.success()
    };
    for (tenant, other) in [("acme", "globex"), ("globex", "acme")] {
        let keyring = &site.backup.keyring;
        let record = keyring.keys(&tenant.parse().unwrap()).await.unwrap().unwrap().records[0].clone();
        let half = site.folder().join(format!("keyring/k/{}.1.age", record.key_id));
        // Each half is opened by the recovery identity, and what it holds opens this tenant's chunks and nobody else's.
        let opened = Command::new("age").args(["--decrypt", "--identity"]).arg(&kit).arg(&half).output().unwrap();
        let key = file(tenant, &String::from_utf8(opened.stdout).unwrap());
        for (owner, may) in [(tenant, true), (other, false)] {
            let record = keyring.keys(&owner.parse().unwrap()).await.unwrap().unwrap().records[0].clone();
            let chunks = walk(&site.folder().join(format!("vault/t/{}/c", record.locker)));
            assert!(!chunks.is_empty());
            for chunk in chunks {
                assert_eq!(opens(&key, &chunk), may, "{tenant}'s key, {owner}'s chunk");
                assert!(!opens(&kit, &chunk), "the recovery identity alone");
            }
        }
    }
}

/// A worker's key makes a tenant's first key and no other: who takes it cannot replace a key by one of his own.
#[tokio::test(flavor = "multi_thread")]
async fn a_workers_key_replaces_no_tenants_key() {
    let site = Site::new().await;
    shared().sql(&site.database("acme"), "CREATE TABLE t AS SELECT n FROM generate_series(1, 100) n");
    assert_eq!(site.all().await.class, None);
    let tenant = "acme".parse().unwrap();
    // A host of its own: its key may sign what a worker's may.
    let worker = SigningKey::generate("worker");
    let line = format!("worker@two namespaces=\"tenure-manifest,tenure-key,tenure-run\" {}\n", worker.public_openssh().unwrap());
    let (store, document) = (site.backup.vault.store(), tenure::object_name::Document::Signers(2));
    let text = format!("{}{line}", site.signers).into_bytes();
    signed::create_bytes(store, &document, text.into(), Namespace::Root, &site.backup.signer).await.unwrap();
    let trust = AllowedSigners::parse(&site.signers).unwrap();
    let open = async |name: &str| {
        let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(&site.folder().join(name)).await.unwrap());
        store
    };
    let vault = Vault::open(open("vault").await, &trust).await.unwrap();
    let keyring = Keyring::open(open("keyring").await, Vec::new(), vault.root(), vault.signers().clone()).await.unwrap();
    let backup = Backup { vault: vault.clone(), keyring: keyring.clone(), signer: Arc::new(worker), ..site.backup.clone() };
    shared().sql(&site.database("globex"), "CREATE TABLE t ()");
    let which = tenure::operation::backup::Which::All { accept_missing: false };
    assert_eq!(backup.clone().run(&which).await.unwrap().class, None, "a first key it may make");

    let thief = RecoveryIdentity::generate().1;
    let recipients = RecoveryRecipients::parse(&[thief]).unwrap();
    let locker = keyring.keys(&tenant).await.unwrap().unwrap().lockers()[0];
    let key = keyring.begin_key(&tenant, locker, 2, &recipients, Utc::now()).await.unwrap();
    let forged = keyring.publish_key(key, &backup.signer).await.unwrap();
    let error = keyring.keys(&tenant).await.err().unwrap();
    assert!(error.is_integrity() && error.what().contains("no operator"), "{error:?}");
    let report = backup.clone().run(&which).await.unwrap();
    let result = report.results.iter().find(|result| result.tenant == "acme").unwrap();
    assert!(result.backup.is_none() && report.class.map(FailureClass::code) == Some(5), "{report:?}");
    let check = keys::check(&vault, &keyring, None, Utc::now(), &Silent).await.unwrap();
    assert!(check.problems.iter().any(|problem| problem.object.contains(&forged.key_id.to_string())), "{check:?}");

    // A first key beside the tenant's own he can make: then backups are sealed to him, and whoever tries the identity on it sees that.
    let is_his = |path: &PathBuf| path.to_string_lossy().contains(&forged.key_id.to_string());
    for path in walk(&site.folder().join("keyring")).into_iter().filter(is_his) {
        std::fs::remove_file(path).unwrap();
    }
    let key = keyring.begin_key(&tenant, locker, 1, &recipients, Utc::now()).await.unwrap();
    keyring.publish_key(key, &backup.signer).await.unwrap();
    let identity = site.identity();
    let check = keys::check(&vault, &keyring, Some(&identity), Utc::now(), &Silent).await.unwrap();
    assert!(check.problems.iter().any(|problem| problem.problem.contains("does not open it")), "{check:?}");
}
