//! A directory as a store: one machine's disk, a NAS, a removable disk.
//!
//! An object is a file of the same name below the root, mode 0600, in folders of mode 0700. It is written whole under a name that no
//! object can have, synced, and only then renamed, so no process ever sees a part of it. Folders without objects are no part of the
//! store; a delete takes them away, and a put that loses its folder that way makes it again.

mod folder;
mod incoming;
mod listing;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use self::folder::{Folder, Folders};
use self::incoming::{Incoming, Named};
use self::tree::Problem;
use super::{
    Listed, PutMode, PutOutcome, Store, StoreError, StoreErrorKind, StoreFacts, Stored, Versioning, is_valid_name,
    is_valid_prefix, probe,
};

/// How often a step is begun anew because another process removed an empty folder under it.
const ATTEMPTS: usize = 32;

/// Listed objects that wait for the reader.
const LIST_AHEAD: usize = 512;

/// Objects as files below a root directory.
///
/// It holds the root open, so a mount cannot be taken away under it, and a directory moved elsewhere meanwhile stays the store.
pub struct DirectoryStore {
    address: String,
    shared: Arc<Shared>,
}

struct Shared {
    folders: Folders,
    swept: AtomicBool,
}

impl DirectoryStore {
    /// Opens the directory at `root`, which must be there, and changes nothing.
    ///
    /// # Errors
    /// [`StoreErrorKind::NoSuchStore`] if it is not there or is no directory, [`StoreErrorKind::Denied`].
    pub async fn open(root: &Path) -> Result<Self, StoreError> {
        let address = format!("file://{}", root.display());
        let path = root.to_owned();
        let folders = blocking(move || open_root(&path)).await.map_err(|problem| problem.at("open", &address, ""))?;
        Ok(Self { address, shared: Arc::new(Shared { folders, swept: AtomicBool::new(false) }) })
    }

    /// Makes the directory at `root` and its missing parents, all 0700 and durable, and opens it. One that is there is left as it is.
    ///
    /// # Errors
    /// As [`DirectoryStore::open`].
    pub async fn create(root: &Path) -> Result<Self, StoreError> {
        let path = root.to_owned();
        let made = blocking(move || make_root(&path)).await;
        made.map_err(|problem| problem.at("create", &format!("file://{}", root.display()), ""))?;
        Self::open(root).await
    }

    async fn run<T, F>(&self, operation: &'static str, name: &str, valid: bool, call: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Shared, &str) -> Result<T, Problem> + Send + 'static,
    {
        if !valid {
            return Err(Problem::from(StoreErrorKind::BadName).at(operation, &self.address, name));
        }
        let (shared, owned) = (Arc::clone(&self.shared), name.to_owned());
        let done = blocking(move || call(&shared, &owned)).await;
        done.map_err(|problem| problem.at(operation, &self.address, name))
    }
}

#[async_trait::async_trait]
impl Store for DirectoryStore {
    fn address(&self) -> &str {
        &self.address
    }

    async fn put(&self, name: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome, StoreError> {
        self.run("put", name, is_valid_name(name), move |shared, name| shared.put(name, &body, mode)).await
    }

    async fn get(&self, name: &str, limit: u64) -> Result<Bytes, StoreError> {
        self.run("get", name, is_valid_name(name), move |shared, name| match shared.read(name, limit)? {
            Some(bytes) => Ok(bytes),
            None => Err(shared.absent()),
        })
        .await
    }

    async fn versions(&self, _: &str, _: u64) -> Result<Vec<Stored>, StoreError> {
        Ok(Vec::new())
    }

    async fn head(&self, name: &str) -> Result<Option<Listed>, StoreError> {
        self.run("head", name, is_valid_name(name), Shared::head).await
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
        let (sender, receiver) = tokio::sync::mpsc::channel(LIST_AHEAD);
        let walked = self.run("list", prefix, is_valid_prefix(prefix), move |shared, prefix| {
            shared.require_root()?;
            // A reader that went away ends the walk.
            listing::objects(&shared.folders.root().fd, prefix, &mut |listed| sender.blocking_send(listed).is_ok())
        });
        let found = stream::unfold(receiver, |mut receiver| async { Some((Ok(receiver.recv().await?), receiver)) });
        // The walk runs beside the reading; when the objects end, its outcome says whether they were all.
        let walk = stream::once(walked).filter_map(|outcome| async { outcome.err().map(Err) });
        stream::select(found, walk).boxed()
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.run("list", prefix, is_valid_prefix(prefix), |shared, prefix| {
            shared.require_root()?;
            listing::folders(&shared.folders.root().fd, prefix)
        })
        .await
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        self.run("delete", name, is_valid_name(name), Shared::delete).await
    }

    async fn facts(&self) -> Result<StoreFacts, StoreError> {
        Ok(StoreFacts {
            versioning: Some(Versioning::Off),
            object_lock: Some(false),
            default_retention: None,
            expiring_rules: Some(Vec::new()),
            create_only: probe::create_only(self).await?,
            clock_ahead_seconds: None,
        })
    }
}

impl Shared {
    fn put(&self, name: &str, body: &Bytes, mode: PutMode) -> Result<PutOutcome, Problem> {
        self.require_root()?;
        let (path, segment) = tree::split(name);
        for _ in 0..ATTEMPTS {
            let mut incoming = Incoming::write(incoming::open(&self.folders.root().fd)?, body)?;
            if !self.swept.swap(true, Ordering::Relaxed)
                && let Err(problem) = incoming::sweep(&incoming)
            {
                tracing::warn!(error = ?problem.source, "old temporary files in {} stay", incoming::FOLDER);
            }
            let folder = self.folders.make(path)?;
            let named = match mode {
                PutMode::CreateOnly => incoming.create(&folder.fd, segment)?,
                PutMode::Replace => {
                    // A rename would silently take the place of somebody's link.
                    if let Some(stat) = tree::stat_plain(&folder.fd, segment)? {
                        tree::require_object(&stat)?;
                    }
                    incoming.replace(&folder.fd, segment)?
                }
            };
            match named {
                Named::Done => {
                    folder.sync()?;
                    return Ok(PutOutcome::Stored);
                }
                Named::Taken => {
                    if let Some(outcome) = compare(&folder, segment, body)? {
                        return Ok(outcome);
                    }
                }
                Named::FolderGone => {}
            }
        }
        Err(StoreErrorKind::Unavailable.into())
    }

    fn read(&self, name: &str, limit: u64) -> Result<Option<Bytes>, Problem> {
        let (path, segment) = tree::split(name);
        match tree::walk(&self.folders.root().fd, path)? {
            Some(folder) => tree::read(&folder, segment, limit),
            None => Ok(None),
        }
    }

    fn head(&self, name: &str) -> Result<Option<Listed>, Problem> {
        let (path, segment) = tree::split(name);
        let stat = match tree::walk(&self.folders.root().fd, path)? {
            Some(folder) => tree::stat_plain(&folder, segment)?,
            None => None,
        };
        let Some(stat) = stat else {
            self.require_root()?;
            return Ok(None);
        };
        tree::require_object(&stat)?;
        Ok(Some(Listed {
            name: name.to_owned(),
            size: tree::size(&stat),
            modified: tree::modified(&stat),
            tampering: None,
            version: None,
        }))
    }

    fn delete(&self, name: &str) -> Result<(), Problem> {
        self.require_root()?;
        let (path, segment) = tree::split(name);
        let Some(folder) = self.folders.find(path)? else { return Ok(()) };
        let Some(stat) = tree::stat_plain(&folder.fd, segment)? else { return Ok(()) };
        tree::require_object(&stat)?;
        match rustix::fs::unlinkat(&folder.fd, segment, AtFlags::empty()) {
            Ok(()) => folder.sync()?,
            // Another process was faster; its sync may not have come yet.
            Err(Errno::NOENT) => return folder.sync(),
            Err(errno) => return Err(errno.into()),
        }
        self.remove_empty(path)
    }

    /// Removes `path` and its parents as far as they are empty. The kernel refuses if anything is in them.
    fn remove_empty(&self, mut path: &str) -> Result<(), Problem> {
        while !path.is_empty() {
            let (parent, segment) = tree::split(path);
            let Some(folder) = tree::walk(&self.folders.root().fd, parent)? else { return Ok(()) };
            if rustix::fs::unlinkat(&folder, segment, AtFlags::REMOVEDIR).is_err() {
                return Ok(());
            }
            path = parent;
        }
        Ok(())
    }

    /// Why something was not found: it, or the whole store.
    fn absent(&self) -> Problem {
        self.require_root().err().unwrap_or_else(|| StoreErrorKind::NotFound.into())
    }

    /// A root that was removed while we held it is empty for ever, which is no definite "not found" of anything.
    fn require_root(&self) -> Result<(), Problem> {
        let stat = rustix::fs::fstat(&self.folders.root().fd)?;
        if stat.st_nlink == 0 { Err(StoreErrorKind::NoSuchStore.into()) } else { Ok(()) }
    }
}

/// What a taken name means for who wanted to create it. `None` if it is free by now.
fn compare(folder: &Folder, segment: &str, body: &Bytes) -> Result<Option<PutOutcome>, Problem> {
    match tree::read(&folder.fd, segment, body.len() as u64) {
        Ok(None) => Ok(None),
        Ok(Some(present)) if present == body => {
            // Who wrote it may not have come to the sync.
            folder.sync()?;
            Ok(Some(PutOutcome::Stored))
        }
        Ok(Some(_)) | Err(Problem { kind: StoreErrorKind::TooLarge, .. }) => Ok(Some(PutOutcome::Exists)),
        Err(problem) => Err(problem),
    }
}

fn open_root(path: &Path) -> Result<Folders, Problem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(root) => Folders::new(root),
        Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => {
            Err(Problem { kind: StoreErrorKind::NoSuchStore, source: Some(errno.into()) })
        }
        Err(errno) => Err(errno.into()),
    }
}

fn make_root(path: &Path) -> Result<(), Problem> {
    let mut missing: Vec<PathBuf> = Vec::new();
    let mut present = path;
    while !present.try_exists().map_err(tree::io)? {
        missing.push(present.to_owned());
        // The path is absolute, so this ends at `/`.
        present = present.parent().ok_or(StoreErrorKind::NoSuchStore)?;
    }
    for folder in missing.iter().rev() {
        match rustix::fs::mkdir(folder, Mode::RWXU) {
            Ok(()) => tree::set_mode(std::fs::File::open(folder).map_err(tree::io)?, Mode::RWXU)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let parent = folder.parent().ok_or(StoreErrorKind::NoSuchStore)?;
        std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(tree::io)?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(call).await {
        Ok(outcome) => outcome,
        Err(stopped) => Err(Problem { kind: StoreErrorKind::Unavailable, source: Some(std::io::Error::other(stopped)) }),
    }
}

impl Problem {
    fn at(self, operation: &'static str, address: &str, name: &str) -> StoreError {
        let source = self.source.map(Into::into);
        StoreError { source, ..StoreError::at_once(operation, address, name, self.kind) }
    }
}
