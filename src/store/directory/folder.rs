//! Folders that objects are put into, and how their entries become durable.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::fs::Mode;
use rustix::io::Errno;

use super::tree::{self, Problem};
use crate::store::StoreErrorKind;

/// How many folders are kept open between calls: far below the usual limit of 1,024 open files.
const KEPT_OPEN: usize = 128;

/// An open folder.
pub(super) struct Folder {
    pub fd: OwnedFd,
    /// Device and inode. No other folder can have them while `fd` is open.
    identity: (u64, u64),
    /// Whether the parent was synced after this folder was seen in it. Another process may have made it and not come so far.
    anchored: Mutex<bool>,
    syncs: GroupSync,
}

impl Folder {
    fn new(fd: OwnedFd) -> Result<Self, Problem> {
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Self { fd, identity: (stat.st_dev, stat.st_ino), anchored: Mutex::new(false), syncs: GroupSync::default() })
    }

    /// Makes every change of this folder's entries that was done before the call durable.
    pub fn sync(&self) -> Result<(), Problem> {
        self.syncs.run(|| rustix::fs::fsync(&self.fd)).map_err(Problem::from)
    }

    fn anchor(&self, parent: &Folder) -> Result<(), Problem> {
        let mut anchored = lock(&self.anchored);
        if !*anchored {
            parent.sync()?;
            *anchored = true;
        }
        Ok(())
    }
}

/// The root and the folders below it that were used last.
pub(super) struct Folders {
    root: Arc<Folder>,
    known: Mutex<HashMap<String, Arc<Folder>>>,
}

impl Folders {
    pub fn new(root: OwnedFd) -> Result<Self, Problem> {
        Ok(Self { root: Arc::new(Folder::new(root)?), known: Mutex::default() })
    }

    pub fn root(&self) -> &Arc<Folder> {
        &self.root
    }

    /// The folder `path` with all its parents, made where missing, each durable in its parent.
    pub fn make(&self, path: &str) -> Result<Arc<Folder>, Problem> {
        // Somebody else may remove an empty folder between our making and our opening it.
        for _ in 0..super::ATTEMPTS {
            if let Some(folder) = self.resolve(path, true)? {
                return Ok(folder);
            }
        }
        Err(StoreErrorKind::Unavailable.into())
    }

    /// The folder `path` if it is there.
    pub fn find(&self, path: &str) -> Result<Option<Arc<Folder>>, Problem> {
        self.resolve(path, false)
    }

    /// Always walks from the root, so that what is returned is in the tree now; what is kept only shares syncs and says what is durable.
    fn resolve(&self, path: &str, make: bool) -> Result<Option<Arc<Folder>>, Problem> {
        let mut here = Arc::clone(&self.root);
        let mut end = 0;
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            end += segment.len() + usize::from(end > 0);
            let mut opened = tree::open_folder(&here.fd, segment)?;
            if opened.is_none() && make {
                opened = make_folder(&here.fd, segment)?;
            }
            let Some(fd) = opened else { return Ok(None) };
            let next = self.adopt(&path[..end], Folder::new(fd)?);
            if make {
                next.anchor(&here)?;
            }
            here = next;
        }
        Ok(Some(here))
    }

    fn adopt(&self, path: &str, fresh: Folder) -> Arc<Folder> {
        let mut known = lock(&self.known);
        if let Some(folder) = known.get(path).filter(|folder| folder.identity == fresh.identity) {
            return Arc::clone(folder);
        }
        if known.len() >= KEPT_OPEN {
            known.clear();
        }
        let fresh = Arc::new(fresh);
        known.insert(path.to_owned(), Arc::clone(&fresh));
        fresh
    }
}

fn make_folder(parent: &OwnedFd, segment: &str) -> Result<Option<OwnedFd>, Problem> {
    let made = match rustix::fs::mkdirat(parent, segment, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        // The parent itself is gone: start over from the root.
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let folder = tree::open_folder(parent, segment)?;
    match &folder {
        Some(fd) if made => tree::set_mode(fd, Mode::RWXU)?,
        // A plain object bears the name that is to be a folder.
        None if tree::kind_of(parent, segment)?.is_some_and(rustix::fs::FileType::is_file) => {
            return Err(StoreErrorKind::Foreign.into());
        }
        _ => {}
    }
    Ok(folder)
}

/// Shares one slow call among all who asked before it began.
#[derive(Default)]
struct GroupSync {
    state: Mutex<Group>,
    finished: Condvar,
}

#[derive(Default)]
struct Group {
    running: bool,
    /// Those who wait for the next call share its outcome.
    next: Arc<OnceLock<Result<(), Errno>>>,
}

impl GroupSync {
    fn run(&self, call: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
        let mut state = lock(&self.state);
        let mine = Arc::clone(&state.next);
        loop {
            if let Some(outcome) = mine.get() {
                return *outcome;
            }
            if !state.running {
                break;
            }
            state = self.finished.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // Nobody has begun the call that we wait for, so we do. Later askers wait for the one after.
        state.running = true;
        state.next = Arc::default();
        drop(state);
        let outcome = *mine.get_or_init(call);
        lock(&self.state).running = false;
        self.finished.notify_all();
        outcome
    }
}

/// What these locks guard is whole at every step, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn who_asks_during_a_sync_waits_for_the_next_one_and_shares_it() {
        let group = GroupSync::default();
        let calls = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let (begun, has_begun) = mpsc::channel();
            let (go_on, may_end) = mpsc::channel();
            let first = &group;
            scope.spawn(move || {
                first.run(|| {
                    begun.send(()).unwrap();
                    may_end.recv().unwrap();
                    Ok(())
                })
            });
            has_begun.recv().unwrap();
            let next = Arc::clone(&lock(&group.state).next);
            let followers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        group.run(|| {
                            calls.fetch_add(1, Ordering::SeqCst);
                            Err(Errno::NOSPC)
                        })
                    })
                })
                .collect();
            // All eight hold the next outcome before the first call is let go.
            while Arc::strong_count(&next) < 10 {
                std::thread::yield_now();
            }
            go_on.send(()).unwrap();
            for follower in followers {
                assert_eq!(follower.join().unwrap(), Err(Errno::NOSPC));
            }
        });
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }
}
