//! Objects on their way in: written whole and synced under a random name, then renamed.

use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::tree::{self, Problem};
use crate::store::StoreErrorKind;
use crate::store::probe::random_name;

/// The folder for them, in the root. No object can have this name.
pub(super) const FOLDER: &str = ".incoming~";

/// What is older was left by a process that died. A PUT takes seconds.
const LEFT_BEHIND_SECONDS: i64 = 6 * 3600;

/// A written and synced file without a name yet. Removed on drop unless it was given one.
pub(super) struct Incoming {
    folder: OwnedFd,
    temporary: String,
    named: bool,
}

impl Incoming {
    /// Writes and syncs `body` into `folder`, which is [`FOLDER`], opened.
    pub fn write(folder: OwnedFd, body: &Bytes) -> Result<Self, Problem> {
        let temporary = random_name();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let mut file = std::fs::File::from(rustix::fs::openat(&folder, &temporary, flags, mode)?);
        let incoming = Self { folder, temporary, named: false };
        tree::set_mode(&file, mode)?;
        std::io::Write::write_all(&mut file, body).map_err(tree::io)?;
        file.sync_all().map_err(tree::io)?;
        Ok(incoming)
    }

    /// Names it, in place of what may bear the name. [`Named::FolderGone`] leaves it as it was.
    pub fn replace(&mut self, folder: impl AsFd, name: &str) -> Result<Named, Problem> {
        self.outcome(rustix::fs::renameat(&self.folder, &self.temporary, folder, name))
    }

    /// Names it, unless the name is taken. [`Named::FolderGone`] and [`Named::Taken`] leave it as it was.
    pub fn create(&mut self, folder: impl AsFd, name: &str) -> Result<Named, Problem> {
        let renamed = rustix::fs::renameat_with(&self.folder, &self.temporary, &folder, name, RenameFlags::NOREPLACE);
        match renamed {
            // NFS and others cannot.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.create_by_link(folder, name),
            renamed => self.outcome(renamed),
        }
    }

    /// A link refuses a taken name too. The temporary name goes on drop.
    fn create_by_link(&mut self, folder: impl AsFd, name: &str) -> Result<Named, Problem> {
        match rustix::fs::linkat(&self.folder, &self.temporary, folder, name, AtFlags::empty()) {
            Ok(()) => Ok(Named::Done),
            failed => self.outcome(failed),
        }
    }

    fn outcome(&mut self, result: Result<(), Errno>) -> Result<Named, Problem> {
        match result {
            Ok(()) => {
                self.named = true;
                Ok(Named::Done)
            }
            Err(Errno::EXIST) => Ok(Named::Taken),
            Err(Errno::NOENT) => Ok(Named::FolderGone),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.named
            && let Err(errno) = rustix::fs::unlinkat(&self.folder, &self.temporary, AtFlags::empty())
        {
            tracing::debug!(error = %errno, "a temporary file was left in {FOLDER}; a later run removes it");
        }
    }
}

/// What became of naming.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    Done,
    Taken,
    /// Somebody removed the folder, or swept the temporary file.
    FolderGone,
}

/// Removes what dead processes left behind, by the file system's own clock: the time of `just_written`.
pub(super) fn sweep(just_written: &Incoming) -> Result<(), Problem> {
    let folder = &just_written.folder;
    let Some(now) = tree::stat_plain(folder, &just_written.temporary)? else { return Ok(()) };
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let stat = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if tree::require_object(&stat).is_ok() && now.st_mtime - stat.st_mtime > LEFT_BEHIND_SECONDS {
            match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(())
}

/// The opened folder below `root`, made where missing.
pub(super) fn open(root: impl AsFd) -> Result<OwnedFd, Problem> {
    if let Some(folder) = tree::open_folder(&root, FOLDER)? {
        return Ok(folder);
    }
    match rustix::fs::mkdirat(&root, FOLDER, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let folder = tree::open_folder(&root, FOLDER)?.ok_or(StoreErrorKind::Foreign)?;
    tree::set_mode(&folder, Mode::RWXU)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_creates_once_and_leaves_no_temporary_name() {
        let scratch = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(scratch.path()).unwrap();
        for (body, outcome) in [("first", Named::Done), ("second", Named::Taken)] {
            let folder = open(&root).unwrap();
            let mut incoming = Incoming::write(folder, &Bytes::from(body)).unwrap();
            assert_eq!(incoming.create_by_link(&root, "object").unwrap(), outcome);
        }
        assert_eq!(std::fs::read(scratch.path().join("object")).unwrap(), b"first");
        assert_eq!(std::fs::read_dir(scratch.path().join(FOLDER)).unwrap().count(), 0);
    }
}
