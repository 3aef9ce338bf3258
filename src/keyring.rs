//! The keyring: tenants' keys, and nothing else.

pub mod claims;
pub mod create;
pub mod destroy;
mod wrapped;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};

pub use wrapped::{SecretHalves, read_wrapping, secret_halves};

use crate::{
    format::{
        key_record::KeyRecord,
        root::{KeyringRoot, VaultRoot},
    },
    id::{KeyId, Locker, NameTag},
    object_name::{Document, ObjectName, prefix},
    signature::{AllowedSigners, Namespace},
    signed::{self, DocumentError, Whole},
    store::{Store, StoreError, StoreErrorKind},
    tenant::TenantName,
    vault::list_named,
};

/// `keyring.json` is small.
const MAX_ROOT: u64 = 64 * 1024;
/// The sequence of a tenant's first key, which a worker makes. Later ones are an operator's.
const FIRST: u64 = 1;
/// Key records read at once.
const READERS: usize = 16;

/// A keyring that has been matched with its vault.
#[derive(Clone)]
pub struct Keyring {
    store: Arc<dyn Store>,
    mirrors: Vec<Arc<dyn Store>>,
    root: KeyringRoot,
    signers: AllowedSigners,
}

/// The keys of one tenant.
#[derive(Clone)]
pub struct TenantKeys {
    /// The tenant.
    pub tenant: TenantName,
    /// Its tag.
    pub tag: NameTag,
    /// Its keys whose secret half is there, by sequence; the last one seals.
    pub records: Vec<KeyRecord>,
    /// Records whose secret half is missing: never used.
    pub without_secret: Vec<KeyRecord>,
    /// The highest number under which each key's secret half is listed.
    pub wrappings: BTreeMap<KeyId, u32>,
    /// Those of [`TenantKeys::dead`] that were destroyed alone, because newer ones took their place: the tenant's locker lives.
    pub pruned: BTreeSet<KeyId>,
    /// Records of keys that were to be destroyed, where the vault was asked: never used.
    pub dead: Vec<KeyRecord>,
}

impl TenantKeys {
    /// The key that seals: the highest sequence, ties to the lowest id.
    #[must_use]
    pub fn sealing(&self) -> Option<&KeyRecord> {
        self.records.last()
    }

    /// The record of one key.
    #[must_use]
    pub fn get(&self, key_id: KeyId) -> Option<&KeyRecord> {
        self.records.iter().find(|record| record.key_id == key_id)
    }

    /// Every locker of the tenant, the sealing key's last, each once. What was destroyed has none.
    #[must_use]
    pub fn lockers(&self) -> Vec<Locker> {
        let mut lockers: Vec<Locker> = Vec::new();
        // A record whose secret half is missing still says where its tenant's backups lie.
        for record in self.without_secret.iter().chain(&self.records) {
            lockers.retain(|locker| *locker != record.locker);
            lockers.push(record.locker);
        }
        lockers
    }
}

/// What a listing of the whole keyring found.
#[derive(Default)]
pub struct Census {
    /// Every tenant with at least one record, by name.
    pub tenants: BTreeMap<TenantName, TenantKeys>,
    /// Records that cannot be read or trusted.
    pub problems: Vec<DocumentError>,
}

impl Keyring {
    /// Opens a keyring and checks that it belongs to the vault: same installation, same name key.
    ///
    /// # Errors
    /// [`DocumentError::Missing`] where no keyring is; [`DocumentError::Contradiction`] when it belongs to another installation or its
    /// name key was replaced. In each case nothing may go on: with another name key erased tenants would be new again.
    pub async fn open(
        store: Arc<dyn Store>,
        mirrors: Vec<Arc<dyn Store>>,
        vault: &VaultRoot,
        signers: AllowedSigners,
    ) -> Result<Self, DocumentError> {
        let root = read_root(&*store, vault).await?;
        Ok(Self::of(store, mirrors, root, signers))
    }

    /// A keyring whose root was read from one of its copies: the store itself may have lost everything.
    #[must_use]
    pub fn of(store: Arc<dyn Store>, mirrors: Vec<Arc<dyn Store>>, root: KeyringRoot, signers: AllowedSigners) -> Self {
        Self { store, mirrors, root, signers }
    }

    /// What `keyring.json` says.
    #[must_use]
    pub fn root(&self) -> &KeyringRoot {
        &self.root
    }

    /// Whose signatures count.
    #[must_use]
    pub fn signers(&self) -> &AllowedSigners {
        &self.signers
    }

    /// The store underneath.
    #[must_use]
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Further copies.
    #[must_use]
    pub fn mirrors(&self) -> &[Arc<dyn Store>] {
        &self.mirrors
    }

    /// The keyring and every mirror, the keyring first.
    pub fn stores(&self) -> impl Iterator<Item = &Arc<dyn Store>> {
        std::iter::once(&self.store).chain(&self.mirrors)
    }

    /// The tenant's tag.
    #[must_use]
    pub fn tag(&self, tenant: &TenantName) -> NameTag {
        self.root.name_key.tag(tenant)
    }

    /// The keys of one tenant; `None` when it has no record at all.
    ///
    /// # Errors
    /// A record that cannot be read or trusted: a key that is not understood must not be passed over.
    pub async fn keys(&self, tenant: &TenantName) -> Result<Option<TenantKeys>, DocumentError> {
        let (keys, mut untrusted) = self.keys_and_untrusted(tenant).await?;
        match untrusted.pop_first() {
            Some((_, error)) => Err(error),
            None => Ok(keys),
        }
    }

    /// The keys of one tenant, and the ids under which records lie that cannot be read or trusted: for whoever lets go of them all.
    ///
    /// # Errors
    /// [`DocumentError::Store`] only.
    pub async fn keys_and_untrusted(
        &self,
        tenant: &TenantName,
    ) -> Result<(Option<TenantKeys>, BTreeMap<KeyId, DocumentError>), DocumentError> {
        let tag = self.tag(tenant);
        let (read, untrusted) = self.read_records(self.store(), tag).await?;
        if read.is_empty() {
            return Ok((None, untrusted));
        }
        let secrets = self.secret_halves().await?;
        Ok((Some(assemble(tenant.clone(), tag, read, &secrets)), untrusted))
    }

    /// Records of a tenant that a mirror has, each with the mirror. A crashed first run leaves some, and so does a keyring that lost them.
    ///
    /// # Errors
    /// A mirror that cannot be read, or a record there that cannot be trusted.
    pub async fn records_in_mirrors(&self, tenant: &TenantName) -> Result<Vec<(&dyn Store, KeyRecord)>, DocumentError> {
        let mut found = Vec::new();
        for mirror in &self.mirrors {
            let records = self.records_in(&**mirror, self.tag(tenant)).await?;
            found.extend(records.into_iter().map(|record| (&**mirror, record)));
        }
        Ok(found)
    }

    async fn records_in(&self, store: &dyn Store, tag: NameTag) -> Result<Vec<KeyRecord>, DocumentError> {
        let (read, mut untrusted) = self.read_records(store, tag).await?;
        untrusted.pop_first().map_or(Ok(read), |(_, error)| Err(error))
    }

    async fn read_records(
        &self,
        store: &dyn Store,
        tag: NameTag,
    ) -> Result<(Vec<KeyRecord>, BTreeMap<KeyId, DocumentError>), DocumentError> {
        let (mut read, mut untrusted) = (Vec::new(), BTreeMap::new());
        for (tag, key_id, stored_at) in record_names(store, &prefix::key_records(tag)).await? {
            match self.record(store, tag, key_id, stored_at).await {
                Ok(record) => read.push(record),
                Err(error @ DocumentError::Store { .. }) => return Err(error),
                Err(error) if went_meanwhile(store, tag, key_id, &error).await? => {}
                Err(error) => _ = untrusted.insert(key_id, error),
            }
        }
        Ok((read, untrusted))
    }

    /// Tags under which the keyring or a mirror has a record of a key, by names alone.
    ///
    /// # Errors
    /// A store that cannot be listed.
    pub async fn tags_of(&self, key: KeyId) -> Result<BTreeSet<NameTag>, DocumentError> {
        let mut tags = BTreeSet::new();
        for store in self.stores() {
            let names = record_names(&**store, prefix::TENANTS).await?;
            tags.extend(names.into_iter().filter(|(_, key_id, _)| *key_id == key).map(|(tag, ..)| tag));
        }
        Ok(tags)
    }

    /// Every tenant's keys.
    ///
    /// # Errors
    /// [`DocumentError::Store`]; records that cannot be trusted are in [`Census::problems`].
    pub async fn census(&self) -> Result<Census, DocumentError> {
        let names = record_names(self.store(), prefix::TENANTS).await?;
        let secrets = self.secret_halves().await?;
        let mut read = stream::iter(names)
            .map(|(tag, key_id, stored_at)| async move {
                match self.record(self.store(), tag, key_id, stored_at).await {
                    Err(error) if went_meanwhile(self.store(), tag, key_id, &error).await? => Ok(None),
                    record => record.map(Some),
                }
            })
            .buffer_unordered(READERS);
        let mut census = Census::default();
        let mut by_tenant: BTreeMap<TenantName, Vec<KeyRecord>> = BTreeMap::new();
        while let Some(record) = read.next().await {
            match record {
                Ok(Some(record)) => by_tenant.entry(record.tenant.clone()).or_default().push(record),
                Ok(None) => {}
                Err(error @ DocumentError::Store { .. }) => return Err(error),
                Err(error) => census.problems.push(error),
            }
        }
        for (tenant, records) in by_tenant {
            let keys = assemble(tenant.clone(), self.tag(&tenant), records, &secrets);
            census.tenants.insert(tenant, keys);
        }
        Ok(census)
    }

    async fn record(
        &self,
        store: &dyn Store,
        tag: NameTag,
        key_id: KeyId,
        stored_at: chrono::DateTime<chrono::Utc>,
    ) -> Result<KeyRecord, DocumentError> {
        self.whole_record(store, tag, key_id, Some(stored_at)).await.map(|(_, record)| record)
    }

    /// A key record in one store (the keyring or a mirror), with its bytes and signature as they lie there.
    ///
    /// # Errors
    /// As [`signed::read`]; [`DocumentError::Contradiction`] for one that was moved here.
    pub async fn whole_record(
        &self,
        store: &dyn Store,
        tag: NameTag,
        key_id: KeyId,
        stored_at: Option<chrono::DateTime<chrono::Utc>>,
    ) -> Result<(Whole, KeyRecord), DocumentError> {
        let document = Document::KeyRecord(tag, key_id);
        let whole = signed::read_whole(store, &document, Namespace::Key, &self.signers, stored_at).await?;
        let record: KeyRecord = signed::parse(&whole.bytes, &signed::locate(store, &document))?;
        let wrong = if record.installation != self.root.installation {
            Some("it belongs to another installation")
        } else if record.name_tag != tag || self.tag(&record.tenant) != tag {
            Some("it belongs to another tenant")
        } else if record.key_id != key_id {
            Some("it is the record of another key")
        } else if record.sequence > FIRST && !self.signers.may(&whole.signer, Namespace::Root) {
            Some("it replaces a key, and who signed it is no operator")
        } else {
            None
        };
        match wrong {
            Some(what) => Err(DocumentError::Contradiction { object: signed::locate(store, &document), what: what.to_owned() }),
            None => Ok((whole, record)),
        }
    }
}

/// Whether a key record that was listed, and was not there or had no signature when it was read, is not there any more: a purge destroys the
/// record before its signature.
async fn went_meanwhile(store: &dyn Store, tag: NameTag, key_id: KeyId, error: &DocumentError) -> Result<bool, DocumentError> {
    if !matches!(error, DocumentError::Missing { .. } | DocumentError::Unsigned { .. }) {
        return Ok(false);
    }
    let document = Document::KeyRecord(tag, key_id);
    let found = store.head(&document.to_string()).await;
    found.map(|found| found.is_none()).map_err(|source| signed::store_error(store, &document, source))
}

async fn record_names(
    store: &dyn Store,
    prefix: &str,
) -> Result<Vec<(NameTag, KeyId, chrono::DateTime<chrono::Utc>)>, DocumentError> {
    let failed = |source: StoreError| DocumentError::Store { object: signed::locate(store, &prefix), source: source.into() };
    let (named, _) = list_named(store, prefix).await.map_err(failed)?;
    let records = named.into_iter().filter_map(|(name, listed)| match name {
        ObjectName::Document(Document::KeyRecord(tag, key_id)) => Some((tag, key_id, listed.modified)),
        _ => None,
    });
    Ok(records.collect())
}

/// Reads `keyring.json`, of the keyring or a mirror. It bears no signature; `vault.json`, which does, binds it by installation and digest.
///
/// # Errors
/// As [`Keyring::open`].
pub async fn read_root(store: &dyn Store, vault: &VaultRoot) -> Result<KeyringRoot, DocumentError> {
    let name = ObjectName::Document(Document::KeyringRoot);
    let object = signed::locate(store, &name);
    let current = match store.get(&name.to_string(), MAX_ROOT).await {
        Ok(bytes) => check_root(&bytes, &object, vault),
        Err(error) if error.kind == StoreErrorKind::NotFound => Err(DocumentError::Missing { object }),
        Err(source) => return Err(DocumentError::Store { object, source: source.into() }),
    };
    match current {
        Err(error) if error.is_integrity() => {
            let failed = |source| signed::store_error(store, &name, source);
            signed::earlier(store, &name, MAX_ROOT, |bytes| check_root(bytes, "", vault).ok()).await.map_err(failed)?.ok_or(error)
        }
        outcome => outcome,
    }
}

fn check_root(bytes: &[u8], object: &str, vault: &VaultRoot) -> Result<KeyringRoot, DocumentError> {
    let contradiction = |what: String| DocumentError::Contradiction { object: object.to_owned(), what };
    let root: KeyringRoot = signed::parse(bytes, object)?;
    if root.installation != vault.installation {
        let what = format!("it belongs to installation {}, the vault to {}", root.installation, vault.installation);
        return Err(contradiction(what));
    }
    if root.name_key.sha256() != vault.name_key_sha256 {
        return Err(contradiction("its name key is not the one that the vault was made with".to_owned()));
    }
    if !serde_json::to_vec(&root).is_ok_and(|written| written == bytes) {
        return Err(contradiction("it is not as it was written".to_owned()));
    }
    Ok(root)
}

fn assemble(tenant: TenantName, tag: NameTag, records: Vec<KeyRecord>, secrets: &SecretHalves) -> TenantKeys {
    let newest = |record: &KeyRecord| Some((record.key_id, *secrets.get(&record.key_id)?.last()?));
    let wrappings = records.iter().filter_map(newest).collect();
    let (mut records, without): (Vec<_>, Vec<_>) = records.into_iter().partition(|record| secrets.contains_key(&record.key_id));
    // Ascending, so that the last one seals: the highest sequence, and among equals the lowest id.
    records.sort_by(|a, b| a.sequence.cmp(&b.sequence).then(b.key_id.cmp(&a.key_id)));
    TenantKeys { tenant, tag, records, without_secret: without, wrappings, pruned: BTreeSet::new(), dead: Vec::new() }
}
