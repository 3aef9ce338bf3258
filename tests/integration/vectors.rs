//! One file per defect, named for it: each is signed by a key that may sign it, stored where it belongs, and refused with exactly the
//! error that `errors.txt` beside it says. `good.json` is what all of them were made from. `UPDATE_VECTORS=1` writes `errors.txt` anew.

use std::{
    collections::BTreeMap,
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use tenure::{
    format::{
        manifest::Page,
        root::{KeyringRoot, VaultRoot},
    },
    id::{Locker, RecordId, Sha256Digest},
    keyring::Keyring,
    object_name::{Document, ObjectName},
    operation::restore::content::Content,
    signature::{AllowedSigners, Namespace, SigningKey},
    signed,
    store::{Store, directory::DirectoryStore},
    vault::Vault,
};

const LOCKER: &str = "af448b054bbfcd597367ed7e45608961";
const BACKUP: &str = "20261122T021416Z-6eab308dc8b28005";
const TAG: &str = "6da54407ce192d441339ac07ccefb53d0533b02b4d9502221aca555c18377ad5";
const KEY: &str = "11d259abb54c98c6e6eeb5d2b248ed9d";

/// Two empty stores of the installation that the golden vault belongs to.
struct Place {
    folder: tempfile::TempDir,
    stores: [Arc<dyn Store>; 2],
    signer: SigningKey,
    trust: AllowedSigners,
    root: VaultRoot,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let vault: Arc<dyn Store> = Arc::new(DirectoryStore::create(&folder.path().join("vault")).await.unwrap());
        let keyring: Arc<dyn Store> = Arc::new(DirectoryStore::create(&folder.path().join("keyring")).await.unwrap());
        let signer = SigningKey::generate("worker");
        let line =
            format!("worker@a namespaces=\"tenure-manifest,tenure-key,tenure-root\" {}\n", signer.public_openssh().unwrap());
        let trust = AllowedSigners::parse(&line).unwrap();
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vaults/v1/keyring/keyring.json");
        let keyring_root: KeyringRoot = signed::parse(&std::fs::read(golden).unwrap(), "keyring.json").unwrap();
        let root = VaultRoot {
            format: 1,
            store_id: RecordId::random(),
            installation: keyring_root.installation,
            name_key_sha256: keyring_root.name_key.sha256(),
            max_run_seconds: 86_400,
            settle_seconds: 172_800,
            max_keep: "10 years".parse().unwrap(),
        };
        signed::create(&*vault, &Document::VaultRoot, &root, Namespace::Root, &signer).await.unwrap();
        signed::create_bytes(&*vault, &Document::Signers(1), line.into_bytes().into(), Namespace::Root, &signer).await.unwrap();
        let text = serde_json::to_vec(&keyring_root).unwrap();
        signed::create_object(&*keyring, &ObjectName::Document(Document::KeyringRoot), text.into()).await.unwrap();
        Self { folder, stores: [vault, keyring], signer, trust, root }
    }

    async fn vault(&self) -> Vault {
        Vault::open(self.stores[0].clone(), &self.trust).await.unwrap()
    }

    /// Without the folder, which has another name each time.
    fn shown(&self, error: &dyn Error) -> String {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text.replace(&self.folder.path().display().to_string(), "")
    }
}

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(kind)
}

/// Every file of a kind, by the defect that it is named for.
fn vectors(kind: &str) -> BTreeMap<String, Bytes> {
    let files = std::fs::read_dir(folder(kind)).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
    files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap().into())).collect()
}

fn compare(kind: &str, errors: &BTreeMap<String, String>) {
    assert!(errors.len() > 10 && errors["good"] == "accepted", "{errors:#?}");
    assert_eq!(errors.values().filter(|error| *error == "accepted").count(), 1, "{errors:#?}");
    let found: String = errors.iter().map(|(defect, error)| format!("{defect}: {error}\n")).collect();
    let file = folder(kind).join("errors.txt");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        std::fs::write(&file, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(file).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_defect_of_a_manifest_is_refused() {
    let mut errors = BTreeMap::new();
    let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
    for (defect, bytes) in vectors("manifest") {
        let place = Place::new().await;
        let document = Document::Manifest(LOCKER.parse().unwrap(), BACKUP.parse().unwrap());
        signed::create_bytes(&*place.stores[0], &document, bytes, Namespace::Manifest, &place.signer).await.unwrap();
        let history = place.vault().await.history(LOCKER.parse().unwrap(), now).await.unwrap();
        let error = history.problems.first().map_or("accepted", |problem| &problem.what);
        assert_eq!((history.problems.len(), history.backups.len()), if error == "accepted" { (0, 1) } else { (1, 0) });
        errors.insert(defect, error.to_owned());
    }
    compare("manifest", &errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_defect_of_an_index_page_is_refused() {
    let mut errors = BTreeMap::new();
    for (defect, bytes) in vectors("index_page") {
        let place = Place::new().await;
        let locker: Locker = LOCKER.parse().unwrap();
        let (birth, size) = (BACKUP.parse().unwrap(), bytes.len() as u64);
        let page = Page { sha256: Sha256Digest::of(&bytes), birth, size, entries: 2, locked_until: None };
        place.vault().await.put_page(locker, birth, bytes).await.unwrap();
        let error = match place.vault().await.page(locker, &page).await {
            Err(error) => place.shown(&error),
            // What only the whole index can show.
            Ok(page) => Content::new(page.entries).err().map_or("accepted".to_owned(), |error| place.shown(&error)),
        };
        errors.insert(defect, error.replace(&page.sha256.to_string(), "<sha256>"));
    }
    compare("index_page", &errors);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_defect_of_a_key_record_is_refused() {
    let mut errors = BTreeMap::new();
    for (defect, bytes) in vectors("key_record") {
        let place = Place::new().await;
        let document = Document::KeyRecord(TAG.parse().unwrap(), KEY.parse().unwrap());
        signed::create_bytes(&*place.stores[1], &document, bytes, Namespace::Key, &place.signer).await.unwrap();
        let keyring = Keyring::open(place.stores[1].clone(), Vec::new(), &place.root, place.trust.clone()).await.unwrap();
        let census = keyring.census().await.unwrap();
        let error = census.problems.first().map_or("accepted".to_owned(), signed::DocumentError::what);
        assert_eq!(census.tenants.len(), usize::from(error == "accepted"));
        // One tenant's record is refused for that tenant just as well.
        let alone = keyring.keys(&"acme".parse().unwrap()).await;
        assert_eq!(alone.map_or_else(|error| error.what(), |_| "accepted".to_owned()), error);
        errors.insert(defect, error);
    }
    compare("key_record", &errors);
}
