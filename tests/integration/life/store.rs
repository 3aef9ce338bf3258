//! Stores in memory, in a time that is a variable, with somebody in between who decides when a call takes place, and whether.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use tenure::{
    object_lock::Lock,
    operation::{
        failure::{Failure, FailureClass},
        held::{Held, Locks},
    },
    store::{Listed, PutMode, PutOutcome, Store, StoreError, StoreErrorKind, StoreFacts, Stored, Tampering, Versioning},
    tenant::TenantName,
};

/// What an actor asks for.
#[derive(Debug, Clone)]
pub enum Request {
    Put(String, Bytes, PutMode, Option<Lock>),
    Get(String, u64),
    Versions(String),
    Head(String),
    /// Below a prefix, after a name.
    List(String, Option<String>),
    Folders(String),
    Delete(String),
    /// The versioning, the lock of the bucket, its clock.
    Facts,
    LockOf(String),
    ExtendLock(String, Lock),
    /// The lock of a tenant.
    Take(TenantName),
    StillHeld(TenantName),
}

impl Request {
    /// Whether it changes anything.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Put(..) | Self::Delete(_) | Self::ExtendLock(..) | Self::Take(_))
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Put(name, ..)
            | Self::Get(name, _)
            | Self::Versions(name)
            | Self::Head(name)
            | Self::List(name, _)
            | Self::Folders(name)
            | Self::Delete(name)
            | Self::LockOf(name)
            | Self::ExtendLock(name, _) => name,
            Self::Facts => "",
            Self::Take(tenant) | Self::StillHeld(tenant) => tenant.as_str(),
        }
    }

    pub fn verb(&self) -> &'static str {
        match self {
            Self::Put(..) => "put",
            Self::Get(..) => "get",
            Self::Versions(_) => "versions",
            Self::Head(_) => "head",
            Self::List(..) => "list",
            Self::Folders(_) => "folders",
            Self::Delete(_) => "delete",
            Self::Facts => "facts",
            Self::LockOf(_) => "lock of",
            Self::ExtendLock(..) => "extend lock",
            Self::Take(_) => "take",
            Self::StillHeld(_) => "still held",
        }
    }
}

/// What it is answered.
#[derive(Debug, Clone)]
pub enum Answer {
    Done,
    Exists,
    Bytes(Bytes),
    Versions(Vec<Stored>),
    Head(Option<Listed>),
    /// Objects, and the name after which there are more.
    Listed(Vec<Listed>, Option<String>),
    Folders(Vec<String>),
    Facts(bool),
    Lock(Option<Lock>),
    /// A tenant's lock is somebody else's.
    Busy,
    Failed(StoreErrorKind),
}

/// One object.
#[derive(Debug, Clone)]
pub struct Object {
    pub bytes: Bytes,
    pub created: DateTime<Utc>,
    pub lock: Option<Lock>,
    /// The so-manieth write of all.
    pub born: u64,
    /// Somebody deleted it without naming a version, and a marker hides it now.
    pub hidden: bool,
}

/// A place that objects are in.
#[derive(Debug, Default)]
pub struct Disk {
    pub objects: BTreeMap<String, Object>,
    pub births: u64,
    /// Whether objects can be locked here.
    pub locks: bool,
    /// Whether what is deleted without its version stays, hidden by a marker. Objects are written once: each has one version.
    pub versions: bool,
    /// Objects to one call of a listing; the calls of one listing do not see one moment then. `None`: all, in order of their writing.
    pub page: Option<usize>,
}

impl Disk {
    pub fn is_locked(&self, name: &str, now: DateTime<Utc>) -> bool {
        self.objects.get(name).and_then(|object| object.lock).is_some_and(|lock| lock.until > now)
    }

    pub fn apply(&mut self, request: &Request, now: DateTime<Utc>) -> Answer {
        let versions = self.versions;
        let listed = |name: &str, object: &Object| Listed {
            name: name.to_owned(),
            size: object.bytes.len() as u64,
            modified: object.created,
            tampering: object.hidden.then_some(Tampering::Hidden),
            version: versions.then(|| object.born.to_string()),
        };
        match request {
            Request::Put(name, bytes, mode, lock) => match self.objects.get(name) {
                Some(object) if *mode == PutMode::CreateOnly && object.bytes == *bytes => Answer::Done,
                Some(_) if *mode == PutMode::CreateOnly => Answer::Exists,
                _ => {
                    self.births += 1;
                    let object = Object { bytes: bytes.clone(), created: now, lock: *lock, born: self.births, hidden: false };
                    self.objects.insert(name.clone(), object);
                    Answer::Done
                }
            },
            Request::Get(name, limit) => match self.objects.get(name) {
                None | Some(Object { hidden: true, .. }) => Answer::Failed(StoreErrorKind::NotFound),
                Some(object) if object.bytes.len() as u64 > *limit => Answer::Failed(StoreErrorKind::TooLarge),
                Some(object) => Answer::Bytes(object.bytes.clone()),
            },
            Request::Versions(name) => {
                let stored = |object: &Object| Stored { bytes: object.bytes.clone(), modified: object.created };
                Answer::Versions(self.objects.get(name).filter(|_| versions).map(stored).into_iter().collect())
            }
            Request::Head(name) => Answer::Head(self.objects.get(name).map(|object| listed(name, object))),
            Request::List(prefix, after) => {
                let is_wanted = |name: &str| name.starts_with(prefix) && after.as_ref().is_none_or(|after| name > after.as_str());
                let mut found: Vec<_> = self.objects.iter().filter(|(name, _)| is_wanted(name)).collect();
                if self.page.is_none() {
                    found.sort_by_key(|(_, object)| object.born);
                }
                let page = self.page.unwrap_or(usize::MAX).min(found.len());
                let more = (page < found.len()).then(|| found[page - 1].0.clone());
                Answer::Listed(found.into_iter().take(page).map(|(name, object)| listed(name, object)).collect(), more)
            }
            Request::Folders(prefix) => {
                let mut folders: BTreeMap<&str, u64> = BTreeMap::new();
                for (name, object) in &self.objects {
                    if let Some((folder, _)) = name.strip_prefix(prefix.as_str()).and_then(|rest| rest.split_once('/')) {
                        let born = folders.entry(folder).or_insert(object.born);
                        *born = object.born.min(*born);
                    }
                }
                let mut folders: Vec<_> = folders.into_iter().collect();
                if self.page.is_none() {
                    folders.sort_by_key(|(_, born)| *born);
                }
                Answer::Folders(folders.into_iter().map(|(folder, _)| folder.to_owned()).collect())
            }
            Request::Delete(name) => {
                if self.is_locked(name, now) {
                    return Answer::Failed(StoreErrorKind::Denied);
                }
                self.objects.remove(name);
                Answer::Done
            }
            Request::Facts => Answer::Facts(self.locks),
            Request::LockOf(name) => match self.objects.get(name) {
                None => Answer::Failed(StoreErrorKind::NotFound),
                Some(object) => Answer::Lock(object.lock),
            },
            Request::ExtendLock(name, asked) => match self.objects.get_mut(name) {
                None => Answer::Failed(StoreErrorKind::NotFound),
                Some(object) => {
                    let until = object.lock.map_or(asked.until, |lock| lock.until.max(asked.until));
                    object.lock = Some(Lock { mode: asked.mode, until });
                    Answer::Lock(object.lock)
                }
            },
            Request::Take(_) | Request::StillHeld(_) => unreachable!("no disk has the locks of tenants"),
        }
    }
}

/// A call that waits to take place.
pub struct Waiting {
    pub ticket: u64,
    pub actor: usize,
    /// Which of the places; [`LOCKS`] for the locks of tenants.
    pub place: usize,
    pub request: Request,
    answer: Option<Answer>,
    waker: Option<Waker>,
}

/// The place of a tenant's lock.
pub const LOCKS: usize = usize::MAX;
/// Who sets up and looks: never waits.
pub const NOBODY: usize = usize::MAX;

/// All places, and all calls that wait.
#[derive(Default)]
pub struct Board {
    pub disks: Vec<Disk>,
    pub waiting: Vec<Waiting>,
    pub tickets: u64,
    /// Which actor has which tenant's lock.
    pub held: BTreeMap<TenantName, BTreeSet<usize>>,
    /// Whether a second one is kept out.
    pub excludes: bool,
    pub now: DateTime<Utc>,
}

/// A board that several actors share.
pub type Shared = Arc<Mutex<Board>>;

pub fn lock(board: &Shared) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// What a call does, now.
    pub fn take_place(&mut self, actor: usize, place: usize, request: &Request) -> Answer {
        match request {
            Request::Take(tenant) => {
                let holders = self.held.entry(tenant.clone()).or_default();
                if self.excludes && !holders.is_empty() {
                    return Answer::Busy;
                }
                holders.insert(actor);
                Answer::Done
            }
            Request::StillHeld(tenant) => {
                let is_held = self.held.get(tenant).is_some_and(|holders| holders.contains(&actor));
                if is_held { Answer::Done } else { Answer::Busy }
            }
            request => {
                let now = self.now;
                self.disks[place].apply(request, now)
            }
        }
    }

    /// Answers a call that waits, and wakes who made it.
    pub fn answer(&mut self, ticket: u64, answer: Answer) {
        let waiting = self.waiting.iter_mut().find(|waiting| waiting.ticket == ticket).expect("it waits");
        waiting.answer = Some(answer);
        if let Some(waker) = waiting.waker.take() {
            waker.wake();
        }
    }

    /// Those that nobody answered yet.
    pub fn open(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter().filter(|waiting| waiting.answer.is_none())
    }
}

/// Makes a call and waits for its answer.
async fn ask(board: &Shared, actor: usize, place: usize, request: Request) -> Answer {
    if actor == NOBODY {
        return lock(board).take_place(actor, place, &request);
    }
    let ticket = {
        let mut board = lock(board);
        board.tickets += 1;
        let ticket = board.tickets;
        board.waiting.push(Waiting { ticket, actor, place, request, answer: None, waker: None });
        ticket
    };
    /// Takes the call back when nobody waits for it any more.
    struct Ticket<'a>(&'a Shared, u64);
    impl Drop for Ticket<'_> {
        fn drop(&mut self) {
            lock(self.0).waiting.retain(|waiting| waiting.ticket != self.1);
        }
    }
    let ticket = Ticket(board, ticket);
    std::future::poll_fn(|context| {
        let mut board = lock(ticket.0);
        let waiting = board.waiting.iter_mut().find(|waiting| waiting.ticket == ticket.1).expect("it waits");
        match waiting.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                waiting.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .await
}

/// A place as one actor sees it.
pub struct View {
    pub board: Shared,
    pub place: usize,
    address: String,
    actor: AtomicUsize,
}

impl View {
    /// Nobody's, until [`View::belongs_to`].
    pub fn new(board: &Shared, place: usize, address: &str) -> Self {
        Self { board: board.clone(), place, address: address.to_owned(), actor: AtomicUsize::new(NOBODY) }
    }

    pub fn belongs_to(&self, actor: usize) {
        self.actor.store(actor, Ordering::Relaxed);
    }

    async fn ask(&self, request: Request) -> Result<Answer, StoreError> {
        let (operation, name) = (request.verb(), request.name().to_owned());
        match ask(&self.board, self.actor.load(Ordering::Relaxed), self.place, request).await {
            Answer::Failed(kind) => {
                let (address, elapsed) = (self.address.clone(), Duration::ZERO);
                Err(StoreError { operation, address, name, kind, attempts: 1, elapsed, source: None })
            }
            answer => Ok(answer),
        }
    }

    async fn create(&self, name: &str, body: Bytes, mode: PutMode, lock: Option<Lock>) -> Result<PutOutcome, StoreError> {
        match self.ask(Request::Put(name.to_owned(), body, mode, lock)).await? {
            Answer::Exists => Ok(PutOutcome::Exists),
            _ => Ok(PutOutcome::Stored),
        }
    }
}

#[async_trait]
impl Store for View {
    fn address(&self) -> &str {
        &self.address
    }

    async fn put(&self, name: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        self.create(name, body, mode, None).await
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        match self.ask(Request::Get(name.to_owned(), limit)).await? {
            Answer::Bytes(bytes) => Ok(bytes),
            other => unreachable!("{other:?}"),
        }
    }

    async fn versions(&self, name: &str, _: u64) -> Result<Vec<Stored>, StoreError> {
        match self.ask(Request::Versions(name.to_owned())).await? {
            Answer::Versions(versions) => Ok(versions),
            other => unreachable!("{other:?}"),
        }
    }

    async fn head(&self, name: &str) -> Result<Option<Listed>, StoreError> {
        match self.ask(Request::Head(name.to_owned())).await? {
            Answer::Head(listed) => Ok(listed),
            other => unreachable!("{other:?}"),
        }
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
        let pages = stream::try_unfold(Some(None), move |after| async move {
            let Some(after) = after else { return Ok(None) };
            match self.ask(Request::List(prefix.to_owned(), after)).await? {
                Answer::Listed(listed, more) => Ok(Some((listed, more.map(Some)))),
                other => unreachable!("{other:?}"),
            }
        });
        pages
            .flat_map(|page: Result<Vec<Listed>, StoreError>| match page {
                Ok(listed) => stream::iter(listed.into_iter().map(Ok).collect::<Vec<_>>()),
                Err(error) => stream::iter(vec![Err(error)]),
            })
            .boxed()
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        match self.ask(Request::Folders(prefix.to_owned())).await? {
            Answer::Folders(folders) => Ok(folders),
            other => unreachable!("{other:?}"),
        }
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        let versions = lock(&self.board).disks[self.place].versions;
        while versions && !self.versions(name, u64::MAX).await?.is_empty() {
            self.ask(Request::Delete(name.to_owned())).await?;
        }
        if versions { Ok(()) } else { self.ask(Request::Delete(name.to_owned())).await.map(drop) }
    }

    async fn facts(&self) -> Result<StoreFacts, StoreError> {
        let Answer::Facts(locks) = self.ask(Request::Facts).await? else { unreachable!() };
        let versions = lock(&self.board).disks[self.place].versions;
        Ok(StoreFacts {
            versioning: Some(if versions { Versioning::On } else { Versioning::Off }),
            object_lock: Some(locks),
            create_only: Some(true),
            ..StoreFacts::default()
        })
    }

    async fn can_lock(&self) -> Result<Option<bool>, StoreError> {
        match self.ask(Request::Facts).await? {
            Answer::Facts(locks) => Ok(Some(locks)),
            other => unreachable!("{other:?}"),
        }
    }

    async fn create_locked(&self, name: &str, body: Bytes, lock: Lock) -> Result<PutOutcome, StoreError> {
        self.create(name, body, PutMode::CreateOnly, Some(lock)).await
    }

    async fn lock_of(&self, object: &Listed) -> Result<Option<Lock>, StoreError> {
        match self.ask(Request::LockOf(object.name.clone())).await? {
            Answer::Lock(lock) => Ok(lock),
            other => unreachable!("{other:?}"),
        }
    }

    async fn extend_lock(&self, object: &Listed, lock: Lock) -> Result<Lock, StoreError> {
        match self.ask(Request::ExtendLock(object.name.clone(), lock)).await? {
            Answer::Lock(Some(lock)) => Ok(lock),
            other => unreachable!("{other:?}"),
        }
    }
}

/// The tenants' locks, as one actor takes them.
pub struct VirtualLocks {
    pub board: Shared,
    pub actor: usize,
}

struct VirtualLock {
    board: Shared,
    actor: usize,
    tenant: TenantName,
}

#[async_trait]
impl Locks for VirtualLocks {
    async fn take(&self, tenant: &TenantName, _: &str) -> Result<Box<dyn Held>, Failure> {
        match ask(&self.board, self.actor, LOCKS, Request::Take(tenant.clone())).await {
            Answer::Done => Ok(Box::new(VirtualLock { board: self.board.clone(), actor: self.actor, tenant: tenant.clone() })),
            Answer::Busy => Err(Failure::new(FailureClass::Busy, "busy", tenant, format!("somebody else works on {tenant}"))),
            _ => Err(Failure::new(FailureClass::Failed, "no-server", tenant, "its server does not answer")),
        }
    }
}

#[async_trait]
impl Held for VirtualLock {
    async fn still_held(&self) -> Result<(), Failure> {
        match ask(&self.board, self.actor, LOCKS, Request::StillHeld(self.tenant.clone())).await {
            Answer::Done => Ok(()),
            _ => Err(Failure::new(FailureClass::Failed, "lock-lost", &self.tenant, "its lock is lost")),
        }
    }
}

impl Drop for VirtualLock {
    fn drop(&mut self) {
        let mut board = lock(&self.board);
        if let Some(holders) = board.held.get_mut(&self.tenant) {
            holders.remove(&self.actor);
        }
    }
}
