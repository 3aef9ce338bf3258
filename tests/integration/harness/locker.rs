//! Lockers without PostgreSQL: tenants with real keys, and nights of real manifests, pages and chunks that open, at any time.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use tenure::{
    backup_id::BackupId,
    compress,
    format::{
        index_page::{Entry, IndexPage, Part},
        key_record::KeyRecord,
        manifest::{Manifest, Page, Previous, Server, Totals},
        record::{Source, SourceReason, Void},
    },
    id::{ChunkName, InstallationId, KeyId, Locker, RecordId, Sha256Digest, SourceTag},
    keyring::Keyring,
    object_name::{Document, ObjectName},
    operation::init::{self, Stores},
    retention::Keep,
    seal::{self, RecoveryIdentity, RecoveryRecipients, TenantRecipient},
    signature::{AllowedSigners, SigningKey},
    store::{Store, directory::DirectoryStore},
    vault::{Vault, history::Backup},
};

/// Where no test connects to.
pub const NOWHERE: &str = "host=/nonexistent user=nobody";

/// An installation whose tenants live nowhere but in its stores.
pub struct Lockers {
    folder: Arc<tempfile::TempDir>,
    /// Where backups are.
    pub vault: Vault,
    /// Where keys are.
    pub keyring: Keyring,
    /// Wraps new keys.
    pub recipients: RecoveryRecipients,
    /// How many ranges of rows a tenant has; four share a page.
    pub ranges: usize,
}

/// A tenant, and what was backed up of it last.
#[derive(Clone)]
pub struct Tenant {
    /// Its key. Put another one here, and it seals.
    pub record: KeyRecord,
    /// Which version of each range's rows lives now.
    pub versions: Vec<u64>,
    last: Option<Last>,
}

#[derive(Clone)]
struct Last {
    backup: Backup,
    chunks: HashMap<ChunkName, Entry>,
    pages: HashMap<Sha256Digest, Page>,
}

/// A backup, and what must come out of it.
#[derive(Clone)]
pub struct Night {
    /// It.
    pub backup: Backup,
    /// Its index.
    pub entries: Vec<Entry>,
    /// Which version of each range's rows it has.
    pub versions: Vec<u64>,
}

impl Night {
    /// Its id.
    pub fn id(&self) -> BackupId {
        self.backup.manifest.backup
    }
}

/// `2026-11-21` is three in the morning of that day.
pub fn at(day: &str) -> DateTime<Utc> {
    format!("{day}T03:00:00Z").parse().unwrap()
}

impl Lockers {
    /// In directories. The program can be run in [`Lockers::folder`].
    pub async fn new() -> Self {
        Self::connected(NOWHERE).await
    }

    /// In directories, with a cluster where the tenants' locks are taken.
    pub async fn connected(connection: &str) -> Self {
        Self::in_directories(tempfile::Builder::new().prefix("tenure-lockers-").tempdir().unwrap(), connection).await
    }

    /// In directories that stay, in a new folder below this one.
    pub async fn kept_below(folder: &Path) -> Self {
        Self::in_directories(new_below(folder), NOWHERE).await
    }

    /// In other stores, with its files in a new folder below this one, that stays. Its configuration names directories all the same.
    pub async fn kept_within(
        folder: &Path,
        vault: Arc<dyn Store>,
        keyring: Arc<dyn Store>,
        mirrors: Vec<Arc<dyn Store>>,
    ) -> Self {
        Self::made(new_below(folder), NOWHERE, vault, keyring, mirrors).await
    }

    async fn in_directories(folder: tempfile::TempDir, connection: &str) -> Self {
        let store = async |name: &str| directory(&folder.path().join(name)).await;
        let (vault, keyring, mirror) = (store("vault").await, store("keyring").await, store("mirror").await);
        Self::made(folder, connection, vault, keyring, vec![mirror]).await
    }

    /// In other stores; the program cannot be run.
    pub async fn within(vault: Arc<dyn Store>, keyring: Arc<dyn Store>, mirrors: Vec<Arc<dyn Store>>) -> Self {
        Self::made(tempfile::tempdir().unwrap(), NOWHERE, vault, keyring, mirrors).await
    }

    async fn made(
        folder: tempfile::TempDir,
        connection: &str,
        vault: Arc<dyn Store>,
        keyring: Arc<dyn Store>,
        mirrors: Vec<Arc<dyn Store>>,
    ) -> Self {
        let config_file = folder.path().join("tenure.toml");
        let plan = init::Plan::new(init::Request {
            config_file,
            host: "test".to_owned(),
            recipients: Vec::new(),
            max_keep: "10 years".parse().unwrap(),
            stores: Vec::new(),
        })
        .unwrap();
        let recipient = plan.recipients()[0].clone();
        let url = |name: &str| format!("file://{}", folder.path().join(name).display());
        let keys: String = init::ROLES.iter().map(|(role, _)| format!("{role} = \"keys/{role}\"\n")).collect();
        let config = format!(
            "[vault]\nurl = \"{}\"\n[keyring]\nurl = \"{}\"\nmirrors = [{{ url = \"{}\" }}]\nrecipients = [\"{recipient}\"]\n\
             [signing]\nallowed_signers = \"allowed_signers\"\n{keys}\
             [cluster.here]\nprimary = \"{connection}\"\ndatabases = \"lockers_{{tenant}}\"\n[[policy]]\nkeep = \"6 months\"\n",
            url("vault"),
            url("keyring"),
            url("mirror"),
        );
        let stores = Stores { vault: vault.clone(), keyring: keyring.clone(), mirrors: mirrors.clone() };
        plan.apply(&config, &stores, Utc::now()).await.unwrap();
        let signers = std::fs::read_to_string(folder.path().join("allowed_signers")).unwrap();
        let signers = AllowedSigners::parse(&signers).unwrap();
        let vault = Vault::open(vault, &signers).await.unwrap();
        let keyring = Keyring::open(keyring, mirrors, vault.root(), vault.signers().clone()).await.unwrap();
        let recipients = RecoveryRecipients::parse(&[recipient]).unwrap();
        let folder = Arc::new(folder);
        Self { folder, vault, keyring, recipients, ranges: 8 }
    }

    /// The same installation through other stores, that fail for instance.
    pub async fn through(
        &self,
        vault: Arc<dyn Store>,
        keyring: Arc<dyn Store>,
        mirrors: Vec<Arc<dyn Store>>,
    ) -> (Vault, Keyring) {
        let vault = Vault::open(vault, &self.signers()).await.unwrap();
        let keyring = Keyring::open(keyring, mirrors, vault.root(), vault.signers().clone()).await.unwrap();
        (vault, keyring)
    }

    /// The same tenants, in copies of its stores.
    pub fn with(&self, vault: Vault, keyring: Keyring) -> Self {
        let kit = std::fs::read_to_string(self.folder().join("recovery-kit.txt")).unwrap();
        let recipient = kit.lines().find_map(|line| line.strip_prefix("# recipient: ")).unwrap().to_owned();
        let recipients = RecoveryRecipients::parse(&[recipient]).unwrap();
        Self { folder: self.folder.clone(), vault, keyring, recipients, ranges: self.ranges }
    }

    /// Holds `tenure.toml`, `keys/`, `allowed_signers` and `recovery-kit.txt`, and where they are directories the stores `vault`,
    /// `keyring` and `mirror`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Who may sign what.
    pub fn signers(&self) -> AllowedSigners {
        AllowedSigners::parse(&std::fs::read_to_string(self.folder().join("allowed_signers")).unwrap()).unwrap()
    }

    /// The signing key of a role.
    pub fn key(&self, role: &str) -> SigningKey {
        SigningKey::parse(&std::fs::read(self.folder().join("keys").join(role)).unwrap()).unwrap()
    }

    /// The recovery identity.
    pub fn identity(&self) -> RecoveryIdentity {
        RecoveryIdentity::parse(&std::fs::read(self.folder().join("recovery-kit.txt")).unwrap(), age::NoCallbacks).unwrap()
    }

    /// The installation's id.
    pub fn installation(&self) -> InstallationId {
        self.vault.root().installation
    }

    /// Makes a tenant: its key, in the keyring and the mirrors, and the record of where it lives.
    pub async fn tenant(&self, name: &str, at: DateTime<Utc>) -> Tenant {
        let worker = self.key("worker");
        let locker = Locker::random();
        let new = self.keyring.begin_key(&name.parse().unwrap(), locker, 1, &self.recipients, at).await.unwrap();
        let source = Source {
            format: 1,
            installation: self.installation(),
            locker,
            id: RecordId::random(),
            sequence: 1,
            cluster: "here".to_owned(),
            system_identifier: "7".to_owned(),
            database_oid: 16_384,
            reason: SourceReason::First,
            passes_over: Vec::new(),
            created_at: at,
        };
        self.vault.put_source(&source, &worker).await.unwrap();
        let record = self.keyring.publish_key(new, &worker).await.unwrap();
        Tenant { record, versions: vec![0; self.ranges], last: None }
    }

    /// Backs a tenant up, for six months.
    pub async fn night(&self, tenant: &mut Tenant, at: DateTime<Utc>, changed: &[usize]) -> Night {
        self.night_kept(tenant, at, changed, "6 months").await
    }

    /// Backs a tenant up after these ranges changed. What the last night stored is used again, if that lives long enough, as backups do.
    pub async fn night_kept(&self, tenant: &mut Tenant, at: DateTime<Utc>, changed: &[usize], keep: &str) -> Night {
        let manifest = self.stored(tenant, at, changed, keep.parse().unwrap()).await;
        self.commit(tenant, manifest).await
    }

    /// A run that is killed before its manifest is there: chunks and pages, and the signature of a manifest.
    pub async fn crashed(&self, tenant: &mut Tenant, at: DateTime<Utc>, changed: &[usize]) -> BackupId {
        let before = tenant.clone();
        let night = self.night(tenant, at, changed).await;
        let name = Document::Manifest(tenant.record.locker, night.id()).to_string();
        self.vault.store().delete(&name).await.unwrap();
        *tenant = before;
        night.id()
    }

    /// Declares a backup void.
    pub async fn void(&self, locker: Locker, backup: BackupId, at: DateTime<Utc>) {
        let void = Void { format: 1, installation: self.installation(), locker, backup, reason: "test".to_owned() };
        self.vault.put_void(&void, &self.key("worker")).await.unwrap();
        self.stamp(&ObjectName::Document(Document::Void(locker, backup)), at);
        self.stamp(&ObjectName::Signature(Document::Void(locker, backup)), at);
    }

    /// Commits a manifest as it is.
    pub async fn commit(&self, tenant: &mut Tenant, (manifest, entries): (Manifest, Vec<Entry>)) -> Night {
        let (locker, id, at) = (manifest.locker, manifest.backup, manifest.taken_at);
        let sha256 = self.vault.put_manifest(&manifest, &self.key("worker")).await.unwrap();
        self.stamp(&ObjectName::Document(Document::Manifest(locker, id)), at);
        self.stamp(&ObjectName::Signature(Document::Manifest(locker, id)), at);
        let chunks = entries.iter().chain(&manifest.description).map(|entry| (entry.name, entry.clone())).collect();
        let pages = manifest.pages.iter().map(|page| (page.sha256, page.clone())).collect();
        let backup = Backup { manifest, sha256 };
        tenant.last = Some(Last { backup: backup.clone(), chunks, pages });
        Night { backup, entries, versions: tenant.versions.clone() }
    }

    /// Stores the chunks and pages of a backup, and gives its manifest, which is not stored.
    pub async fn stored(&self, tenant: &mut Tenant, at: DateTime<Utc>, changed: &[usize], keep: Keep) -> (Manifest, Vec<Entry>) {
        changed.iter().for_each(|range| tenant.versions[*range] += 1);
        let (locker, id) = (tenant.record.locker, BackupId::new(at));
        let last = self.last(tenant, at).await;
        let settle = TimeDelta::seconds(self.vault.root().settle_seconds as i64);
        let usable = |last: &Last| {
            let manifest = &last.backup.manifest;
            manifest.key_id == tenant.record.key_id && manifest.expires_at > at + settle
        };
        let base = last.as_ref().filter(|last| usable(last));
        let mut totals = Totals { tables: 1, ..Totals::default() };
        let mut entries = Vec::new();
        for range in 0..tenant.versions.len() {
            let text = tenant.rows(range, tenant.versions[range]);
            entries.push(self.entry(tenant, id, source_of(range), text, base, &mut totals).await);
        }
        let description = format!("{{\"tenant\":\"{}\"}}", tenant.record.tenant).into_bytes();
        let description = vec![self.entry(tenant, id, SourceTag([0; 16]), description, base, &mut totals).await];
        let mut pages = Vec::new();
        for part in entries.chunks(4) {
            let bytes = serde_json::to_vec(&IndexPage { format: 1, entries: part.to_vec() }).unwrap();
            let (sha256, size) = (Sha256Digest::of(&bytes), bytes.len() as u64);
            let stored = base.and_then(|base| base.pages.get(&sha256));
            pages.push(match stored {
                Some(page) => page.clone(),
                None => {
                    self.vault.put_page(locker, id, bytes.into()).await.unwrap();
                    self.stamp(&ObjectName::Page { locker, birth: id, sha256 }, at);
                    Page { sha256, birth: id, size, entries: part.len() as u32, locked_until: None }
                }
            });
        }
        let manifest = Manifest {
            format: 1,
            installation: self.installation(),
            locker,
            backup: id,
            sequence: last.as_ref().map_or(1, |last| last.backup.manifest.sequence + 1),
            previous: last.as_ref().map(|last| Previous {
                backup: last.backup.manifest.backup,
                sha256: last.backup.sha256,
                expires_at: last.backup.manifest.expires_at,
            }),
            taken_at: at,
            server_time: at,
            keep,
            expires_at: keep.expiry(at),
            key_id: tenant.record.key_id,
            server: Server {
                system_identifier: "7".to_owned(),
                database_oid: 16_384,
                timeline: 1,
                lsn: "0/1".to_owned(),
                version_num: 150_000,
            },
            description,
            pages,
            description_locked_until: None,
            not_captured: 0,
            totals,
            written_by: "test".to_owned(),
        };
        (manifest, entries)
    }

    /// The newest backup that is still listed. One that went meanwhile is not built upon.
    async fn last(&self, tenant: &Tenant, now: DateTime<Utc>) -> Option<Last> {
        let last = tenant.last.as_ref()?;
        let is_there = async |document: Document| self.vault.store().head(&document.to_string()).await.unwrap().is_some();
        let (locker, id) = (tenant.record.locker, last.backup.manifest.backup);
        if is_there(Document::Manifest(locker, id)).await && !is_there(Document::Void(locker, id)).await {
            return Some(last.clone());
        }
        let history = self.vault.history(locker, now).await.unwrap();
        history.newest().map(|backup| Last { backup: backup.clone(), chunks: HashMap::new(), pages: HashMap::new() })
    }

    async fn entry(
        &self,
        tenant: &Tenant,
        birth: BackupId,
        source: SourceTag,
        text: Vec<u8>,
        base: Option<&Last>,
        totals: &mut Totals,
    ) -> Entry {
        let key = &tenant.record.chunk_name_key;
        let name = key.name(&text);
        totals.bytes_read += text.len() as u64;
        if let Some(stored) = base.and_then(|base| base.chunks.get(&name)) {
            totals.chunks_reused += 1;
            totals.bytes_reused += stored.size;
            return stored.clone();
        }
        let length = text.len() as u64;
        let (mut rows, mut digest) = (0, Default::default());
        if source != SourceTag([0; 16]) {
            for row in text.split_inclusive(|byte| *byte == b'\n') {
                rows += 1;
                digest += key.row_hasher().row(row);
            }
        }
        let recipient = TenantRecipient::parse(&tenant.record.recipient).unwrap();
        let sealed = seal::seal(compress::pack(key.plain_chunk(text)).unwrap(), &recipient).unwrap();
        self.vault.put_chunk(tenant.record.locker, birth, &sealed).await.unwrap();
        self.stamp(&ObjectName::Chunk { locker: tenant.record.locker, birth, name }, birth.time());
        totals.rows += rows;
        totals.chunks_stored += 1;
        totals.bytes_stored += sealed.bytes().len() as u64;
        let part = Part { source, position: 0, last: true, offset: 0, length, rows, digest };
        Entry { name, birth, size: sealed.bytes().len() as u64, sha256: sealed.sha256(), length, parts: vec![part] }
    }

    /// Makes a directory say that it stored an object then. Other stores have a clock of their own.
    pub fn stamp(&self, name: &ObjectName, at: DateTime<Utc>) {
        let path = self.path(name);
        if path.is_file() {
            std::fs::File::options().write(true).open(path).unwrap().set_modified(at.into()).unwrap();
        }
    }

    /// Where an object of the vault lies, when that is a directory.
    pub fn path(&self, name: &ObjectName) -> PathBuf {
        self.folder().join("vault").join(name.to_string())
    }

    /// Opens everything that a backup needs, with the keys of the keyring, and compares it with what was there that night.
    ///
    /// # Errors
    /// What does not open, in words.
    pub async fn opens(&self, tenant: &Tenant, night: &Night) -> Result<(), String> {
        let said = |error: &dyn std::error::Error| error.to_string();
        let manifest = &night.backup.manifest;
        let keys = self.keyring.keys(&tenant.record.tenant).await.map_err(|error| said(&error))?;
        let record = keys.as_ref().and_then(|keys| keys.get(manifest.key_id)).ok_or("no key")?;
        let wrapped = self.keyring.secret_half(record).await.map_err(|error| said(&error))?;
        let identity = self.identity().unwrap(&wrapped).map_err(|error| said(&error))?;
        let history = self.vault.history(manifest.locker, manifest.taken_at).await.map_err(|error| said(&error))?;
        let is_listed = history.backups.iter().any(|backup| backup.sha256 == night.backup.sha256);
        if !is_listed {
            return Err(format!("backup {} is not listed", manifest.backup));
        }
        let mut entries = manifest.description.clone();
        for page in &manifest.pages {
            entries.extend(self.vault.page(manifest.locker, page).await.map_err(|error| said(&error))?.entries);
        }
        let rows = |(range, version): (usize, &u64)| (source_of(range), tenant.rows(range, *version));
        let mut expected: HashMap<SourceTag, Vec<u8>> = night.versions.iter().enumerate().map(rows).collect();
        for entry in entries {
            let sealed = self.vault.chunk(manifest.locker, &entry).await.map_err(|error| said(&error))?;
            let plain = seal::open(&identity, &sealed, entry.length).map_err(|error| said(&error))?;
            let rows = expected.remove(&entry.parts[0].source);
            if rows.is_some_and(|rows| rows != plain) {
                return Err(format!("chunk {} holds other rows", entry.name));
            }
        }
        if expected.is_empty() { Ok(()) } else { Err(format!("{} ranges are missing", expected.len())) }
    }

    /// Everything that lies in the vault.
    pub async fn objects(&self) -> Vec<String> {
        use futures_util::TryStreamExt as _;
        let mut names: Vec<String> = self.vault.store().list("").map_ok(|listed| listed.name).try_collect().await.unwrap();
        names.sort();
        names
    }

    /// The tenant's keys as the keyring has them.
    pub async fn key_ids(&self, name: &str) -> Vec<KeyId> {
        let keys = self.keyring.keys(&name.parse().unwrap()).await.unwrap();
        keys.map(|keys| keys.records.iter().map(|record| record.key_id).collect()).unwrap_or_default()
    }
}

impl Tenant {
    /// Where its backups lie.
    pub fn locker(&self) -> Locker {
        self.record.locker
    }

    fn rows(&self, range: usize, version: u64) -> Vec<u8> {
        (0..3).map(|row| format!("{}\t{range}\t{version}\t{row}\n", self.record.tenant)).collect::<String>().into_bytes()
    }
}

/// A folder that stays.
fn new_below(folder: &Path) -> tempfile::TempDir {
    tempfile::Builder::new().prefix("installation-").disable_cleanup(true).tempdir_in(folder).unwrap()
}

async fn directory(path: &Path) -> Arc<dyn Store> {
    Arc::new(DirectoryStore::create(path).await.unwrap())
}

fn source_of(range: usize) -> SourceTag {
    let digest = Sha256Digest::of(&range.to_be_bytes());
    SourceTag(*digest.0.first_chunk().unwrap())
}
