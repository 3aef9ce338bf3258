//! An installation without servers: three places in memory, tenants that are rows and nothing else, and what must never happen to them.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use tenure::{
    backup_id::BackupId,
    chunk::cutter::Cutter,
    format::{
        description::{self, Description},
        hold::{Hold, HoldAct},
        index_page::{Entry, IndexPage},
        key_record::KeyRecord,
        manifest::{Manifest, Server},
        purge_note::{PurgeNote, Purged},
        root::{KeyringRoot, VaultRoot},
    },
    id::{InstallationId, KeyId, Locker, RecordId, Sha256Digest, SourceTag},
    keyring::Keyring,
    name_key::NameKey,
    object_lock::Window,
    object_name::{Document, ObjectName},
    operation::{
        backup::{
            BYTES_IN_FLIGHT, Backup, Promise,
            protocol::{Captured, Protocol},
        },
        budget::Budget,
        failure::Failure,
        fleet::{Cluster, Resident},
        held::Locks as _,
        progress::Silent,
    },
    postgres::{
        LibpqEnvironment, Target,
        discover::{Found, Rule, Rules},
        tools::Tools,
    },
    retention::Keep,
    seal::{self, RecoveryIdentity, RecoveryRecipients},
    signature::{AllowedSigners, Namespace, SigningKey},
    signed,
    store::{Store, locked::LockedStore},
    tenant::TenantName,
    vault::Vault,
};
use tokio_util::sync::CancellationToken;

use super::{
    actors::{self, Actor, Event, Fate},
    store::{Answer, Board, Disk, NOBODY, Object, Request, Shared, View, VirtualLocks, lock},
};

pub const PLACES: [&str; 3] = ["vault", "keyring", "mirror"];
const VAULT: usize = 0;
/// The description's own source.
const DESCRIPTION: SourceTag = SourceTag([0; 16]);

thread_local! {
    static NOW: Cell<DateTime<Utc>> = const { Cell::new(DateTime::UNIX_EPOCH) };
}

/// The time of the world on this thread.
pub fn clock() -> DateTime<Utc> {
    NOW.get()
}

/// A tenant's rows, by where they lie.
pub type Rows = BTreeMap<u8, Vec<u8>>;

/// A backup as it was begun: what must come back, if it ever counts.
#[derive(Clone)]
pub struct Begun {
    pub tenant: TenantName,
    pub rows: Rows,
}

/// A manifest that was written: what it needs.
#[derive(Clone)]
pub struct Written {
    pub expires_at: DateTime<Utc>,
    pub key_id: KeyId,
    pub names: BTreeSet<String>,
}

/// What lies in the vault, as the model knows it from each call that took place.
#[derive(Default, Clone)]
pub struct Model {
    pub begun: HashMap<BackupId, Begun>,
    pub written: BTreeMap<(Locker, BackupId), Written>,
    pub done: BTreeSet<(Locker, BackupId)>,
    pub void: BTreeSet<(Locker, BackupId)>,
    /// Backups that were purged by name.
    pub purged: BTreeSet<(Locker, BackupId)>,
    /// Lockers that were purged as a whole.
    pub gone: BTreeSet<Locker>,
    /// Keys that notes name.
    pub destroyed: BTreeSet<KeyId>,
    /// Lockers that a hold binds: `hold` said that it is placed, and nobody has begun to release it.
    pub held: BTreeSet<Locker>,
    /// Whose lockers, and which keys of each, by every record that there ever was.
    pub records: BTreeMap<Locker, (TenantName, BTreeSet<KeyId>)>,
    /// Calls that took place.
    pub events: u64,
    opened: HashMap<Sha256Digest, Arc<Vec<u8>>>,
    /// Chunks that outlived the backup that they were born in: seen needed by a backup that counts, with the birth removed.
    pub outlived: BTreeSet<String>,
}

/// One actor's view of vault and keyring.
pub struct Slot {
    pub vault: Vault,
    pub keyring: Keyring,
    /// The keyring and its mirrors.
    pub key_stores: Vec<Arc<dyn Store>>,
}

/// What its stores are like.
#[derive(Clone, Copy, Default)]
pub struct Kind {
    /// See [`Disk::page`].
    pub page: Option<usize>,
    pub mirrors: usize,
    /// What is created in the vault is locked.
    pub window: Option<Window>,
    /// They keep versions.
    pub versions: bool,
}

/// Which actor, and what it keeps.
pub type Forgets = Arc<Mutex<Vec<(usize, String)>>>;

pub struct World {
    pub board: Shared,
    pub slots: Vec<Slot>,
    pub nobody: Slot,
    pub worker: Arc<SigningKey>,
    pub operator: Arc<SigningKey>,
    pub eraser: Arc<SigningKey>,
    pub janitor: Arc<SigningKey>,
    /// Recovery identities that there ever were, the newest last.
    pub identities: RefCell<Vec<(SecretString, String)>>,
    pub keeps: BTreeMap<TenantName, Keep>,
    pub model: RefCell<Model>,
    /// What an actor's future rests on alone from here on, whatever it was told before: ids with `/` between them.
    pub forgets: Forgets,
    cluster: Cluster,
    tools: Arc<Tools>,
}

pub fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

fn signers(keys: &[(&str, &SigningKey, &str)]) -> String {
    let line = |(who, key, spaces): &(&str, &SigningKey, &str)| {
        format!("{who}@life namespaces=\"{spaces}\" {}\n", key.public_openssh().unwrap())
    };
    keys.iter().map(line).collect()
}

impl World {
    /// A new installation at `now`, with as many actors as may work at once.
    pub async fn new(now: DateTime<Utc>, actors: usize, kind: Kind) -> Self {
        let Kind { page, mirrors, window, versions } = kind;
        let disk = || Disk { page, versions, ..Disk::default() };
        let vault = Disk { locks: window.is_some(), ..disk() };
        let board = Board { disks: vec![vault, disk(), disk()], excludes: true, now, ..Board::default() };
        let board: Shared = Arc::new(Mutex::new(board));
        NOW.set(now);
        let [worker, operator, eraser, janitor] = ["worker", "operator", "eraser", "janitor"].map(SigningKey::generate);
        let signers = signers(&[
            ("worker", &worker, "tenure-manifest,tenure-key,tenure-run"),
            ("operator", &operator, "tenure-key,tenure-run,tenure-plan,tenure-hold,tenure-root"),
            ("eraser", &eraser, "tenure-erasure,tenure-run"),
            ("janitor", &janitor, "tenure-run"),
        ]);
        let trust = AllowedSigners::parse(&signers).unwrap();
        let (installation, name_key) = (InstallationId::random(), NameKey::random());
        let root = VaultRoot {
            format: 1,
            store_id: RecordId::random(),
            installation,
            name_key_sha256: name_key.sha256(),
            max_run_seconds: 86_400,
            settle_seconds: 172_800,
            max_keep: "10 years".parse().unwrap(),
        };
        let vault = View::new(&board, VAULT, "mem://vault");
        signed::create(&vault, &Document::VaultRoot, &root, Namespace::Root, &operator).await.unwrap();
        let text = signers.into_bytes().into();
        signed::create_bytes(&vault, &Document::Signers(1), text, Namespace::Root, &operator).await.unwrap();
        let keyring_root = serde_json::to_vec(&KeyringRoot { format: 1, installation, name_key }).unwrap();
        for (place, name) in PLACES.iter().enumerate().skip(1) {
            let view = View::new(&board, place, name);
            let name = ObjectName::Document(Document::KeyringRoot);
            signed::create_object(&view, &name, keyring_root.clone().into()).await.unwrap();
        }
        let mut slots = Vec::new();
        for actor in (0..actors).chain([NOBODY]) {
            slots.push(Slot::open(&board, actor, mirrors, &trust, window).await);
        }
        let nobody = slots.pop().unwrap();
        let environment = LibpqEnvironment { home: None, user: "nobody".to_owned(), variables: BTreeMap::new() };
        let cluster = Cluster {
            name: "eu-1".to_owned(),
            target: Target::parse("host=/nowhere", &environment).unwrap(),
            rules: Rules { rule: Rule::Databases("tenant_{tenant}".parse().unwrap()), ignore: Vec::new() },
            roles: Vec::new(),
            connections: 8,
        };
        Self {
            board,
            slots,
            nobody,
            worker: Arc::new(worker),
            operator: Arc::new(operator),
            eraser: Arc::new(eraser),
            janitor: Arc::new(janitor),
            identities: RefCell::new(vec![RecoveryIdentity::generate()]),
            keeps: BTreeMap::new(),
            model: RefCell::default(),
            forgets: Forgets::default(),
            cluster,
            tools: Arc::new(Tools::new(None, None)),
        }
    }

    /// All recovery identities, as whoever keeps them has them in one file.
    pub fn identity(&self) -> RecoveryIdentity {
        let file: String = self.identities.borrow().iter().map(|(secret, _)| format!("{}\n", secret.expose_secret())).collect();
        RecoveryIdentity::parse(file.as_bytes(), age::NoCallbacks).unwrap()
    }

    /// Somebody leaves: there is a new recovery identity, and the old ones are to open nothing after the next `keys rewrap`.
    pub fn new_identity(&self) {
        self.identities.borrow_mut().push(RecoveryIdentity::generate());
    }

    /// What must be so after `keys rewrap` was done: in each store every key has one wrapping, which the newest identity opens.
    ///
    /// # Panics
    /// When it is not so.
    pub fn check_wrappings(&self, with_mirror: bool) {
        let newest = self.identities.borrow().last().unwrap().0.expose_secret().to_owned();
        let newest = RecoveryIdentity::parse(newest.as_bytes(), age::NoCallbacks).unwrap();
        let board = lock(&self.board);
        // What only a mirror has was never used: whoever made it died.
        let in_use = |name: &String| match name.parse() {
            Ok(ObjectName::Document(Document::KeyRecord(_, key_id))) => Some(key_id),
            _ => None,
        };
        let records: BTreeSet<KeyId> = board.disks[1].objects.keys().filter_map(in_use).collect();
        for (place, called) in PLACES.iter().enumerate().skip(1).take(1 + usize::from(with_mirror)) {
            let mut keys: BTreeMap<KeyId, Vec<Result<(), String>>> = BTreeMap::new();
            for (name, object) in &board.disks[place].objects {
                if let Ok(ObjectName::SecretKey { key_id, .. }) = name.parse() {
                    let opened = newest.unwrap(&object.bytes).map(drop).map_err(|error| error.to_string());
                    keys.entry(key_id).or_default().push(opened);
                }
            }
            for key in &records {
                let wrappings = &keys[key];
                assert!(matches!(&wrappings[..], [Ok(())]), "key {key} in the {called}: {wrappings:?}");
            }
        }
    }

    /// To whom keys are wrapped now.
    pub fn recipients(&self) -> RecoveryRecipients {
        RecoveryRecipients::parse(&[self.identities.borrow().last().unwrap().1.clone()]).unwrap()
    }

    /// All that lies in the places and is known of it, to come back to.
    pub fn save(&self) -> (Vec<BTreeMap<String, Object>>, Model) {
        (lock(&self.board).disks.iter().map(|disk| disk.objects.clone()).collect(), self.model.borrow().clone())
    }

    pub fn put_back(&self, (objects, model): &(Vec<BTreeMap<String, Object>>, Model)) {
        let mut board = lock(&self.board);
        for (disk, objects) in board.disks.iter_mut().zip(objects) {
            disk.objects = objects.clone();
        }
        *self.model.borrow_mut() = model.clone();
    }

    /// Deletes something of a backup without naming its version, where versions are kept. Gives its name.
    pub fn hide(&self, pick: impl FnOnce(usize) -> usize) -> Option<String> {
        let mut board = lock(&self.board);
        let vault = &mut board.disks[VAULT];
        let is_backup = |name: &str| ["/b/", "/c/", "/p/"].iter().any(|folder| name.contains(folder));
        let mut of_backups: Vec<_> = vault.objects.iter_mut().filter(|(name, _)| is_backup(name)).collect();
        let n = pick(of_backups.len());
        let (name, object) = of_backups.get_mut(n).filter(|_| vault.versions)?;
        object.hidden = true;
        Some((*name).clone())
    }

    pub fn set_clock(&self, now: DateTime<Utc>) {
        NOW.set(now);
        lock(&self.board).now = now;
    }

    pub fn locks(&self, actor: usize) -> VirtualLocks {
        VirtualLocks { board: self.board.clone(), actor }
    }

    fn backup(&self, actor: usize) -> Backup {
        let keeps = self.keeps.clone();
        let keep = move |tenant: &TenantName| keeps.get(tenant).copied().unwrap_or("6 months".parse().unwrap());
        Backup {
            vault: self.slots[actor].vault.clone(),
            keyring: self.slots[actor].keyring.clone(),
            recipients: Arc::new(self.recipients()),
            signer: self.worker.clone(),
            clusters: vec![self.cluster.clone()],
            tools: self.tools.clone(),
            jobs: 1,
            lock_timeout: Duration::from_secs(5),
            yield_after: None,
            max_snapshot_age: Duration::from_secs(3600),
            promise: Arc::new(move |tenant| Promise { keep: keep(tenant), exclude_data: Vec::new() }),
            budget: Budget::new(BYTES_IN_FLIGHT),
            room: None,
            clock,
            accept_lost_keys: false,
            progress: Arc::new(Silent),
            cancel: CancellationToken::new(),
            version: "life".to_owned(),
        }
    }

    fn forget(&self, actor: usize, but: &str) {
        self.forgets.lock().unwrap().push((actor, but.to_owned()));
    }

    /// One tenant's backup, as the program makes it, but for where its rows come from.
    ///
    /// # Errors
    /// The program's.
    pub async fn back_up(&self, actor: usize, tenant: TenantName, oid: u32, rows: Rows) -> Result<(), Failure> {
        // Where it is asked decides nothing: a note that a plan has come past is listed ever after. It must not be forgotten which was asked.
        self.slots[actor].vault.ask_anew().await;
        self.slots[actor].vault.planned_lockers().await?;
        let backup = self.backup(actor);
        let resident = Resident {
            tenant: tenant.clone(),
            cluster: self.cluster.clone(),
            system_identifier: "7300000000000000001".to_owned(),
            found: Found { tenant: tenant.clone(), database: format!("tenant_{}", tenant.as_str()), oid, bytes: None },
        };
        let protocol = Protocol { backup: &backup, resident: &resident, started: tokio::time::Instant::now() };
        protocol.refuse_if_gone().await?;
        self.forget(actor, "not gone");
        let held = self.locks(actor).take(&tenant, "eu-1").await?;
        self.forget(actor, "locked");
        let (prepared, reuse) = protocol.prepare(None).await?;
        let taken_at = clock();
        let id = BackupId::new(taken_at);
        let locker = prepared.record.locker;
        let history = prepared.history().backups.iter().map(|backup| format!("/{}", backup.manifest.backup)).collect::<String>();
        let base = reuse.base.map(|base| base.to_string()).unwrap_or_default();
        let lost = reuse.lost.join("/").replace(' ', "/");
        self.forget(actor, &format!("prepared/{}/{locker}/{base}{history}/c/{lost}", prepared.record.key_id));
        self.model.borrow_mut().begun.insert(id, Begun { tenant: tenant.clone(), rows: rows.clone() });
        let sink = protocol.sink(&prepared.record, id, reuse)?;
        let hasher = prepared.record.chunk_name_key.row_hasher();
        let mut entries = Vec::new();
        for (range, text) in &rows {
            let mut cutter = Cutter::new(hasher);
            cutter.begin(source(*range));
            text.split_inclusive(|byte| *byte == b'\n').for_each(|row| cutter.row(row));
            cutter.end();
            cutter.flush();
            for cut in cutter.ready().collect::<Vec<_>>() {
                entries.push(sink.store(cut).await.map_err(Failure::from)?);
            }
        }
        let description = describe(&tenant, &rows);
        let mut cutter = Cutter::new(hasher);
        cutter.begin(DESCRIPTION);
        cutter.raw(&serde_json::to_vec(&description).unwrap());
        cutter.end();
        cutter.flush();
        let mut description_entries: Vec<Entry> = Vec::new();
        for cut in cutter.ready().collect::<Vec<_>>() {
            description_entries.push(sink.store(cut).await.map_err(Failure::from)?);
        }
        let server = Server {
            system_identifier: resident.system_identifier.clone(),
            database_oid: oid,
            timeline: 1,
            lsn: "0/1".to_owned(),
            version_num: 150_020,
        };
        let captured = Captured { id, taken_at, server_time: taken_at, server, description, description_entries, entries, sink };
        let ready = protocol.ready(prepared, captured).await?;
        let done = protocol.finish(&*held, ready).await?;
        self.model.borrow_mut().done.insert((locker, done.newest.backup));
        Ok(())
    }

    /// Takes note of a call, and says what is wrong with it.
    ///
    /// # Panics
    /// When something goes that must not.
    pub fn watch(&self, event: &Event<'_>) {
        let mut model = self.model.borrow_mut();
        model.events += 1;
        let took_place = matches!(event.fate, Fate::Done | Fate::Lost | Fate::DiesAfter) && matches!(event.answer, Answer::Done);
        if !took_place || event.place >= PLACES.len() {
            return;
        }
        let Ok(name) = event.request.name().parse::<ObjectName>() else { return };
        let bytes = match event.request {
            Request::Put(_, bytes, ..) => bytes,
            Request::Delete(_) => return self.removed(&model, event.place, &name),
            _ => return,
        };
        match (event.place, name) {
            (VAULT, ObjectName::Document(Document::Manifest(locker, id))) => {
                let written = self.needs(locker, id, bytes);
                model.written.insert((locker, id), written);
            }
            (VAULT, ObjectName::Document(Document::Void(locker, id))) => {
                model.void.insert((locker, id));
            }
            (VAULT, ObjectName::Document(Document::Gone(locker, _))) => {
                let note: PurgeNote = serde_json::from_slice(bytes).unwrap();
                match note.purged {
                    Purged::All { keys } => {
                        model.gone.insert(locker);
                        model.destroyed.extend(keys);
                    }
                    Purged::Backups { backups, .. } => {
                        model.purged.extend(backups.iter().map(|purged| (locker, purged.backup)));
                    }
                    Purged::Database { .. } => {}
                    Purged::Keys { keys } => {
                        for ((of, id), written) in &model.written {
                            let is_needed = *of == locker && keys.contains(&written.key_id) && model.done.contains(&(*of, *id));
                            let counts = is_needed && self.counts(&model, *of, *id);
                            assert!(!counts, "key {} is to be destroyed, and backup {id} needs it", written.key_id);
                        }
                        model.destroyed.extend(keys);
                    }
                }
            }
            (_, ObjectName::Document(Document::KeyRecord(_, key_id))) => {
                let record: KeyRecord = serde_json::from_slice(bytes).unwrap();
                model.records.entry(record.locker).or_insert((record.tenant, BTreeSet::new())).1.insert(key_id);
            }
            _ => {}
        }
    }

    /// What a manifest needs, as it is written.
    fn needs(&self, locker: Locker, id: BackupId, bytes: &[u8]) -> Written {
        let manifest: Manifest = serde_json::from_slice(bytes).unwrap();
        let board = lock(&self.board);
        let vault = &board.disks[VAULT];
        let document = Document::Manifest(locker, id);
        let mut names =
            BTreeSet::from([ObjectName::Signature(document.clone()).to_string(), ObjectName::Document(document).to_string()]);
        let chunk = |entry: &Entry| ObjectName::Chunk { locker, birth: entry.birth, name: entry.name }.to_string();
        names.extend(manifest.description.iter().map(chunk));
        for page in &manifest.pages {
            let name = ObjectName::Page { locker, birth: page.birth, sha256: page.sha256 }.to_string();
            if let Some(object) = vault.objects.get(&name) {
                let page: IndexPage = serde_json::from_slice(&object.bytes).unwrap();
                names.extend(page.entries.iter().map(chunk));
            }
            names.insert(name);
        }
        Written { expires_at: manifest.expires_at, key_id: manifest.key_id, names }
    }

    /// Whether a purge was begun and is not closed.
    pub fn has_open_plan(&self) -> bool {
        let board = lock(&self.board);
        let plans = board.disks[VAULT].objects.keys().filter_map(|name| name.strip_prefix("plans/")?.strip_suffix("/plan.json"));
        plans.into_iter().any(|id| !board.disks[VAULT].objects.contains_key(&format!("plans/{id}/closed.json")))
    }

    /// A hold on a tenant begins, or ends. What was let go of before it binds nobody.
    pub fn is_held(&self, tenant: &TenantName, held: bool) {
        for locker in self.lockers(tenant) {
            let mut model = self.model.borrow_mut();
            match held && !model.gone.contains(&locker) {
                true => model.held.insert(locker),
                false => model.held.remove(&locker),
            };
        }
    }

    fn removed(&self, model: &Model, place: usize, name: &ObjectName) {
        let text = name.to_string();
        if place != VAULT {
            return self.key_removed(model, place, name);
        }
        let Some(locker) = text.strip_prefix("t/").and_then(|rest| rest.split('/').next()).and_then(|id| id.parse().ok()) else {
            return;
        };
        assert!(!text.contains("/gone/"), "a purge note was removed: {text}");
        let held = model.held.contains(&locker);
        let now = clock();
        for ((of, id), written) in model.written.range((locker, oldest())..).take_while(|((of, _), _)| *of == locker) {
            // One that has not said yet that it is done may look again, and call itself void; until then nobody counts on it.
            if !written.names.contains(&text) || model.void.contains(&(*of, *id)) || !model.done.contains(&(*of, *id)) {
                continue;
            }
            assert!(!held, "{text} of backup {id} was removed, and {locker} is on hold");
            let let_go = model.gone.contains(&locker) || model.purged.contains(&(locker, *id)) || written.expires_at <= now;
            assert!(let_go, "{text} was removed, and backup {id} needs it until {}", written.expires_at);
        }
        if matches!(name, ObjectName::Document(Document::Source(..) | Document::Hold(..) | Document::Copy(..))) {
            assert!(model.gone.contains(&locker), "{text} was removed, and its locker lives");
        }
    }

    fn key_removed(&self, model: &Model, place: usize, name: &ObjectName) {
        let (key_id, wrapping) = match name {
            ObjectName::SecretKey { key_id, wrapping } => (*key_id, Some(*wrapping)),
            ObjectName::Document(Document::KeyRecord(_, key_id)) => (*key_id, None),
            ObjectName::Document(Document::Rewrapping(_, key_id, wrapping)) => (*key_id, Some(*wrapping)),
            _ => return,
        };
        let is_purged = |(locker, (_, keys)): (&Locker, &(TenantName, BTreeSet<KeyId>))| {
            keys.contains(&key_id) && model.gone.contains(locker)
        };
        if model.destroyed.contains(&key_id) || model.records.iter().any(is_purged) {
            return;
        }
        let board = lock(&self.board);
        let disk = &board.disks[place];
        let is_used = disk
            .objects
            .keys()
            .any(|other| matches!(other.parse(), Ok(ObjectName::Document(Document::KeyRecord(_, other))) if other == key_id));
        let newer = disk.objects.keys().any(|other| {
            matches!(other.parse(), Ok(ObjectName::SecretKey { key_id: other, wrapping: n }) if other == key_id && Some(n) > wrapping)
        });
        let is_named = wrapping.is_some() && newer;
        assert!(!is_used || is_named, "{name} was removed from the {}, and no note names its key", PLACES[place]);
    }

    /// Lockers of a tenant.
    pub fn lockers(&self, tenant: &TenantName) -> Vec<Locker> {
        let model = self.model.borrow();
        model.records.iter().filter(|(_, (of, _))| of == tenant).map(|(locker, _)| *locker).collect()
    }

    /// What must be so when `expire` was through and nobody else was at work: nothing is left whose time is over, but for held tenants,
    /// and nothing that nobody needs and that is older than `settle`.
    ///
    /// # Panics
    /// When it is not so.
    pub fn check_expired(&self) {
        let (model, board, now) = (self.model.borrow(), lock(&self.board), clock());
        let is_locked = |name: &String| board.disks[VAULT].is_locked(name, now);
        let settled = now - TimeDelta::days(2);
        // Of a locker with backups that were lately purged by name nothing is swept without the tenant's lock.
        let lately: BTreeSet<Locker> = board.disks[VAULT]
            .objects
            .iter()
            .filter(|(_, object)| object.created >= settled)
            .filter_map(|(name, _)| match name.parse() {
                Ok(ObjectName::Document(Document::Gone(locker, _))) => Some(locker),
                _ => None,
            })
            .collect();
        // Also by whoever died before it could say so.
        let (mut placed, mut released) = (BTreeMap::new(), BTreeSet::new());
        for (name, object) in &board.disks[VAULT].objects {
            if let Ok(ObjectName::Document(Document::Hold(locker, id))) = name.parse() {
                let hold: Hold = serde_json::from_slice(&object.bytes).unwrap();
                match hold.act {
                    HoldAct::Placed { .. } => _ = placed.insert((locker, id), ()),
                    HoldAct::Released { hold } => _ = released.insert((locker, hold)),
                }
            }
        }
        let held = |locker: &Locker| placed.keys().any(|hold| hold.0 == *locker && !released.contains(hold));
        let needed: BTreeSet<&String> = model
            .written
            .iter()
            .filter(|((locker, id), _)| {
                // What a purge by age let go of, and a lock kept, is there until the same purge is run again; and so is what it needs.
                let manifest = Document::Manifest(*locker, *id).to_string();
                let is_left = model.purged.contains(&(*locker, *id)) && board.disks[VAULT].objects.contains_key(&manifest);
                self.counts(&model, *locker, *id) || held(locker) || is_left
            })
            .flat_map(|(_, written)| &written.names)
            .collect();
        for ((locker, id), written) in &model.written {
            let document = Document::Manifest(*locker, *id).to_string();
            let is_there = board.disks[VAULT].objects.contains_key(&document);
            let let_go = model.gone.contains(locker) || model.purged.contains(&(*locker, *id)) || is_locked(&document);
            assert!(
                !is_there || written.expires_at > now || held(locker) || let_go,
                "the time of backup {id} was over at {}, and expire left it",
                written.expires_at
            );
        }
        for (name, object) in board.disks[VAULT].objects.iter().filter(|(name, _)| !is_locked(name)) {
            let (locker, birth) = match name.parse() {
                Ok(ObjectName::Chunk { locker, birth, .. } | ObjectName::Page { locker, birth, .. }) => (locker, birth),
                _ => continue,
            };
            let is_old = object.created < settled && birth.time() < settled && !lately.contains(&locker);
            let is_left = is_old && !held(&locker) && !model.gone.contains(&locker) && !needed.contains(name);
            let named = || {
                let by = model.written.iter().filter(|(_, written)| written.names.contains(name));
                by.map(|((locker, id), written)| {
                    let there = board.disks[VAULT].objects.contains_key(&Document::Manifest(*locker, *id).to_string());
                    format!("{id} void {} there {there} {}", model.void.contains(&(*locker, *id)), written.expires_at)
                })
                .collect::<Vec<_>>()
            };
            assert!(!is_left, "{:?} nobody needs {name} of {}, and expire left it", named(), object.created);
        }
    }

    /// What must be so when a purge of everything says that it is closed: of what it named nothing is left but the notes. `holds`: and what
    /// somebody wrote who came too late with a hold.
    ///
    /// # Panics
    /// When it is not so.
    pub fn check_purged(&self, tenant: &TenantName, holds: bool) {
        let model = self.model.borrow();
        let board = lock(&self.board);
        for locker in self.lockers(tenant).into_iter().filter(|locker| model.gone.contains(locker)) {
            let own = format!("t/{locker}/");
            let may_be = |name: &str| name.contains("/gone/") || (holds && name.contains("/h/"));
            let is_left =
                |name: &&String| name.starts_with(&own) && !may_be(name) && !board.disks[VAULT].is_locked(name, clock());
            let left = board.disks[VAULT].objects.keys().find(is_left);
            assert!(left.is_none(), "of the purged tenant {tenant} there is {left:?} in the vault");
            for (place, called) in PLACES.iter().enumerate().skip(1) {
                let is_left = |name: &&String| model.records[&locker].1.iter().any(|key| name.contains(&key.to_string()));
                let left = board.disks[place].objects.keys().find(is_left);
                assert!(left.is_none(), "of the purged tenant {tenant} there is {left:?} in the {called}");
            }
        }
    }

    /// What must be so when `keys prune` was done and nobody else was at work: of what it noted, nothing is left.
    ///
    /// # Panics
    /// When it is not so.
    pub fn check_pruned(&self, tenant: &TenantName) {
        let model = self.model.borrow();
        let board = lock(&self.board);
        for locker in self.lockers(tenant).into_iter().filter(|locker| !model.gone.contains(locker)) {
            for key in model.records[&locker].1.iter().filter(|key| model.destroyed.contains(key)).map(ToString::to_string) {
                for (place, called) in PLACES.iter().enumerate().skip(1) {
                    let left = board.disks[place].objects.keys().find(|name| name.contains(&key));
                    assert!(left.is_none(), "of the destroyed key {key} of {tenant} there is {left:?} in the {called}");
                }
            }
        }
    }

    /// Whether a backup counts: it was written, is neither void, purged nor past its time.
    fn counts(&self, model: &Model, locker: Locker, id: BackupId) -> bool {
        let written = &model.written[&(locker, id)];
        !model.void.contains(&(locker, id))
            && !model.gone.contains(&locker)
            && !model.purged.contains(&(locker, id))
            && written.expires_at > clock()
    }

    /// Lets programs end, the first one first.
    pub fn finish(&self, actors: &mut [Actor<'_>]) {
        let first = |_: &[Actor<'_>]| Some((lock(&self.board).open().next()?.ticket, Fate::Done));
        actors::run(&self.board, actors, first, |event| self.watch(event));
    }

    /// What must be so whenever nobody is at work: what was done is listed, and what is listed can be restored. `thorough`: every backup
    /// is opened; otherwise the newest of each tenant.
    ///
    /// # Panics
    /// When it is not so.
    pub async fn check(&self, thorough: bool) {
        self.nobody.vault.ask_anew().await;
        let now = clock();
        let lockers: BTreeSet<Locker> = self.model.borrow().written.keys().map(|(locker, _)| *locker).collect();
        for locker in lockers {
            if self.model.borrow().gone.contains(&locker) {
                assert!(self.nobody.vault.is_purged(locker).await.unwrap(), "the purge note of {locker} does not count");
                continue;
            }
            let history = self.nobody.vault.history(locker, now).await.unwrap();
            assert!(history.problems.is_empty(), "{locker}: {:?}", history.problems);
            let listed: BTreeSet<BackupId> = history.live(now).map(|backup| backup.manifest.backup).collect();
            let expected: BTreeSet<BackupId> = {
                let model = self.model.borrow();
                let of = model.written.keys().filter(|(of, _)| *of == locker);
                of.filter(|(_, id)| self.counts(&model, locker, *id)).map(|(_, id)| *id).collect()
            };
            // One that was purged by name may still be there: its note says that it is no more.
            let purged = self.model.borrow().purged.clone();
            let listed: BTreeSet<_> = listed.into_iter().filter(|id| !purged.contains(&(locker, *id))).collect();
            assert_eq!(listed, expected, "{locker}: what is listed is not what there must be");
            for (n, backup) in history.live(now).filter(|backup| listed.contains(&backup.manifest.backup)).enumerate() {
                if thorough || n == 0 {
                    self.restores(&backup.manifest).await;
                }
            }
        }
    }

    /// Opens everything of a backup, as a restore does, and compares it with the rows of its night.
    async fn restores(&self, manifest: &Manifest) {
        let (locker, id) = (manifest.locker, manifest.backup);
        let Slot { vault, keyring, .. } = &self.nobody;
        let (tenant, expected) = {
            let model = self.model.borrow();
            let begun = model.begun.get(&id).unwrap_or_else(|| panic!("nobody began backup {id}"));
            (begun.tenant.clone(), begun.rows.clone())
        };
        let keys = keyring.keys(&tenant).await.unwrap().unwrap_or_else(|| panic!("{tenant} has no key, and backup {id}"));
        let record = keys.get(manifest.key_id).unwrap_or_else(|| panic!("key {} of backup {id} is not there", manifest.key_id));
        let wrapped = keyring.secret_half(record).await.unwrap_or_else(|error| panic!("backup {id}: {error}"));
        let key = self.identity().unwrap(&wrapped).unwrap_or_else(|error| panic!("the key of backup {id}: {error}"));
        let mut entries = manifest.description.clone();
        for page in &manifest.pages {
            entries.extend(vault.page(locker, page).await.unwrap_or_else(|error| panic!("backup {id}: {error}")).entries);
        }
        let mut rows: BTreeMap<SourceTag, Vec<u8>> = BTreeMap::new();
        for entry in entries {
            let sealed = vault.chunk(locker, &entry).await.unwrap_or_else(|error| panic!("backup {id}: {error}"));
            let known = self.model.borrow().opened.get(&entry.sha256).cloned();
            let plain = known.unwrap_or_else(|| Arc::new(seal::open(&key, &sealed, entry.length).unwrap()));
            self.model.borrow_mut().opened.insert(entry.sha256, plain.clone());
            let birth = Document::Manifest(locker, entry.birth).to_string();
            if entry.birth != id && !lock(&self.board).disks[VAULT].objects.contains_key(&birth) {
                self.model.borrow_mut().outlived.insert(entry.name.to_string());
            }
            for part in &entry.parts {
                let text = &plain[part.offset as usize..(part.offset + part.length) as usize];
                rows.entry(part.source).or_default().extend_from_slice(text);
            }
        }
        let description = rows.remove(&DESCRIPTION).unwrap_or_else(|| panic!("backup {id} has no description"));
        let description: Description = serde_json::from_slice(&description).unwrap();
        assert_eq!(description, describe(&tenant, &expected), "backup {id}");
        let expected: BTreeMap<SourceTag, Vec<u8>> = expected.into_iter().map(|(range, text)| (source(range), text)).collect();
        assert_eq!(rows, expected, "backup {id} of {tenant} is not what was there");
    }
}

/// Before every backup.
fn oldest() -> BackupId {
    "00010101T000000Z-0000000000000000".parse().unwrap()
}

fn source(range: u8) -> SourceTag {
    let mut tag = [7; 16];
    tag[0] = range;
    SourceTag(tag)
}

fn describe(tenant: &TenantName, rows: &Rows) -> Description {
    let ranges = rows.keys().enumerate().map(|(n, range)| {
        let n = u32::try_from(n).unwrap();
        description::Range { source: source(*range), from: n, to: Some(n + 1) }
    });
    let table = description::Table {
        schema: "public".to_owned(),
        name: "customer".to_owned(),
        owner: "owner".to_owned(),
        columns: vec!["line".to_owned()],
        extension_member: false,
        filter: None,
        ranges: ranges.collect(),
    };
    let database = description::Database {
        name: format!("tenant_{}", tenant.as_str()),
        owner: "owner".to_owned(),
        encoding: "UTF8".to_owned(),
        locale_provider: "c".to_owned(),
        collate: "C".to_owned(),
        ctype: "C".to_owned(),
        locale: None,
        icu_rules: None,
        tablespace: None,
        connection_limit: -1,
        is_template: false,
        comment: None,
        acl: None,
        settings: Vec::new(),
        security_labels: Vec::new(),
    };
    Description {
        format: 1,
        tenant: tenant.clone(),
        cluster: "eu-1".to_owned(),
        database,
        server_version_num: 150_020,
        pg_dump: "pg_dump (PostgreSQL) 15.20".to_owned(),
        roles: Vec::new(),
        extensions: Vec::new(),
        untrusted_functions: Vec::new(),
        event_triggers: Vec::new(),
        subscriptions: Vec::new(),
        schema_archive: source(255),
        tables: vec![table],
        sequences: Vec::new(),
        large_objects: Vec::new(),
        not_captured: Vec::new(),
        warnings: Vec::new(),
    }
}

impl Slot {
    async fn open(board: &Shared, actor: usize, mirrors: usize, trust: &AllowedSigners, window: Option<Window>) -> Self {
        let views: Vec<Arc<View>> =
            (0..PLACES.len()).map(|place| Arc::new(View::new(board, place, &format!("mem://{}", PLACES[place])))).collect();
        let store = |place: usize| -> Arc<dyn Store> { views[place].clone() };
        let vault = match window {
            Some(window) => Arc::new(LockedStore::new(store(VAULT), window, clock)),
            None => store(VAULT),
        };
        let vault = Vault::open(vault, trust).await.unwrap();
        let mirrors = (2..2 + mirrors).map(store).collect();
        let keyring = Keyring::open(store(1), mirrors, vault.root(), vault.signers().clone()).await.unwrap();
        views.iter().for_each(|view| view.belongs_to(actor));
        let key_stores = keyring.stores().cloned().collect();
        Self { vault, keyring, key_stores }
    }
}

/// Some days later.
pub fn days(days: i64) -> TimeDelta {
    TimeDelta::days(days)
}
