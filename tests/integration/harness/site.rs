//! An installation in a folder, for one test's tenants.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use chrono::Utc;
use secrecy::{ExposeSecret as _, SecretString};
use tenure::{
    format::root::{KeyringRoot, VaultRoot},
    id::{InstallationId, RecordId},
    keyring::Keyring,
    name_key::NameKey,
    object_name::{Document, ObjectName},
    operation::{
        backup::{BYTES_IN_FLIGHT, Backup, BackupReport, Promise, Which},
        budget::Budget,
        fleet::Cluster,
        progress::Silent,
        verify::{self, Verify, VerifyReport},
    },
    postgres::{
        LibpqEnvironment, Target,
        discover::{Rule, Rules},
        tools::Tools,
    },
    seal::{RecoveryIdentity, RecoveryRecipients},
    signature::{AllowedSigners, Namespace, SigningKey},
    signed,
    store::{Store, directory::DirectoryStore},
    vault::Vault,
};
use tokio_util::sync::CancellationToken;

use super::postgres::{self, shared, unique};

/// An installation in a folder, for one test's tenants on the shared cluster.
pub struct Site {
    folder: tempfile::TempDir,
    /// The server its tenants live on.
    pub cluster: &'static postgres::Cluster,
    /// Backs up all of its tenants.
    pub backup: Backup,
    secret: SecretString,
    /// Its `allowed_signers`.
    pub signers: String,
    stem: String,
}

/// What its one key may sign.
const ALL: &str = "tenure-manifest,tenure-key,tenure-run,tenure-root,tenure-plan,tenure-hold,tenure-erasure";

impl Site {
    /// On the shared cluster.
    pub async fn new() -> Self {
        Self::on(shared()).await
    }

    /// On a cluster.
    pub async fn on(server: &'static postgres::Cluster) -> Self {
        Self::limited(server, 86_400).await
    }

    /// On a cluster, with a `max_run` of its own.
    pub async fn limited(server: &'static postgres::Cluster, max_run_seconds: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let vault = DirectoryStore::create(&folder.path().join("vault")).await.unwrap();
        Self::with(server, max_run_seconds, folder, Arc::new(vault)).await
    }

    /// On the shared cluster, with its vault in another place.
    pub async fn in_vault(vault: Arc<dyn Store>) -> Self {
        Self::with(shared(), 86_400, tempfile::tempdir().unwrap(), vault).await
    }

    async fn with(
        server: &'static postgres::Cluster,
        max_run_seconds: u64,
        folder: tempfile::TempDir,
        vault: Arc<dyn Store>,
    ) -> Self {
        let keyring: Arc<dyn Store> = Arc::new(DirectoryStore::create(&folder.path().join("keyring")).await.unwrap());
        let signer = SigningKey::generate("worker");
        let signers = format!("worker@test namespaces=\"{ALL}\" {}\n", signer.public_openssh().unwrap());
        let trust = AllowedSigners::parse(&signers).unwrap();
        let (installation, name_key) = (InstallationId::random(), NameKey::random());
        let keep = "6 months".parse().unwrap();
        let root = VaultRoot {
            format: 1,
            store_id: RecordId::random(),
            installation,
            name_key_sha256: name_key.sha256(),
            max_run_seconds,
            settle_seconds: 172_800,
            max_keep: "10 years".parse().unwrap(),
        };
        signed::create(&*vault, &Document::VaultRoot, &root, Namespace::Root, &signer).await.unwrap();
        signed::create_bytes(&*vault, &Document::Signers(1), signers.clone().into_bytes().into(), Namespace::Root, &signer)
            .await
            .unwrap();
        let keyring_root = serde_json::to_vec(&KeyringRoot { format: 1, installation, name_key }).unwrap();
        signed::create_object(&*keyring, &ObjectName::Document(Document::KeyringRoot), keyring_root.into()).await.unwrap();
        let vault = Vault::open(vault, &trust).await.unwrap();
        let keyring = Keyring::open(keyring, Vec::new(), vault.root(), vault.signers().clone()).await.unwrap();
        let (secret, recipient) = RecoveryIdentity::generate();
        let environment = LibpqEnvironment { home: None, user: "nobody".to_owned(), variables: BTreeMap::new() };
        let stem = unique("b");
        let cluster = Cluster {
            name: "eu-1".to_owned(),
            target: Target::parse(&server.description(), &environment).unwrap(),
            rules: Rules { rule: Rule::Databases(format!("{stem}_{{tenant}}").parse().unwrap()), ignore: Vec::new() },
            roles: Vec::new(),
            connections: 8,
        };
        let backup = Backup {
            vault,
            keyring,
            recipients: Arc::new(RecoveryRecipients::parse(&[recipient]).unwrap()),
            signer: Arc::new(signer),
            clusters: vec![cluster],
            tools: Arc::new(Tools::new(Some(server.programs().display().to_string()), None)),
            jobs: 4,
            lock_timeout: Duration::from_secs(5),
            yield_after: None,
            max_snapshot_age: Duration::from_secs(3600),
            promise: Arc::new(move |_| Promise { keep, exclude_data: Vec::new() }),
            budget: Budget::new(BYTES_IN_FLIGHT),
            room: None,
            clock: Utc::now,
            accept_lost_keys: false,
            progress: Arc::new(Silent),
            cancel: CancellationToken::new(),
            version: "test".to_owned(),
        };
        Self { folder, cluster: server, backup, secret, signers, stem }
    }

    /// What a tenant's database is called here.
    pub fn name(&self, tenant: &str) -> String {
        format!("{}_{tenant}", self.stem)
    }

    /// Creates a tenant's database, empty.
    pub fn database(&self, tenant: &str) -> String {
        let name = self.name(tenant);
        self.cluster.create_database(&name);
        name
    }

    /// Holds `vault` and `keyring`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The recovery identity.
    pub fn identity(&self) -> RecoveryIdentity {
        RecoveryIdentity::parse(self.secret.expose_secret().as_bytes(), age::NoCallbacks).unwrap()
    }

    /// The recovery identity as text.
    pub fn identity_text(&self) -> String {
        self.secret.expose_secret().to_owned()
    }

    /// Backs up every tenant.
    pub async fn all(&self) -> BackupReport {
        self.backup.clone().run(&Which::All { accept_missing: false }).await.unwrap()
    }

    /// Verifies everything.
    pub async fn verify(&self, with_identity: bool) -> VerifyReport {
        let identity = self.identity();
        let verify = Verify {
            vault: &self.backup.vault,
            keyring: &self.backup.keyring,
            identity: with_identity.then_some(&identity),
            signer: Err("the test does not ask for it".to_owned()),
            progress: &Silent,
            cancel: &self.backup.cancel,
        };
        verify.run(&verify::Which::All, Utc::now()).await.unwrap()
    }
}

/// Every file below a folder.
pub fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}
