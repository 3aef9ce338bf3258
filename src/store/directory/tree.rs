//! Walking below the root, one segment at a time, without following a symbolic link.
//!
//! Every step is an `openat` of one plain segment with `O_NOFOLLOW`. Names hold no `..`, so a walk cannot leave the root.

use std::os::fd::{AsFd, OwnedFd};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::store::StoreErrorKind;

/// Why a call failed, before the object's name is known.
#[derive(Debug)]
pub(super) struct Problem {
    pub kind: StoreErrorKind,
    pub source: Option<std::io::Error>,
}

impl From<Errno> for Problem {
    fn from(errno: Errno) -> Self {
        let kind = match errno {
            Errno::NOENT => StoreErrorKind::NotFound,
            Errno::NOSPC | Errno::DQUOT => StoreErrorKind::Full,
            Errno::ACCESS | Errno::PERM | Errno::ROFS => StoreErrorKind::Denied,
            Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NOTEMPTY => StoreErrorKind::Foreign,
            Errno::IO | Errno::STALE | Errno::TIMEDOUT | Errno::NXIO | Errno::NODEV => StoreErrorKind::Unavailable,
            _ => StoreErrorKind::Refused,
        };
        Self { kind, source: Some(errno.into()) }
    }
}

impl From<StoreErrorKind> for Problem {
    fn from(kind: StoreErrorKind) -> Self {
        Self { kind, source: None }
    }
}

/// Splits a valid name into its folder (empty for the root) and its last segment.
pub(super) fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

/// Opens the folder `segment` in `parent`. `None` if nothing is there, or a plain object, below which nothing can be.
pub(super) fn open_folder(parent: impl AsFd, segment: &str) -> Result<Option<OwnedFd>, Problem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&parent, segment, flags, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT) => Ok(None),
        // A symbolic link says the same as a plain file here.
        Err(Errno::NOTDIR | Errno::LOOP) => match kind_of(parent, segment)? {
            None | Some(FileType::RegularFile) => Ok(None),
            Some(_) => Err(StoreErrorKind::Foreign.into()),
        },
        Err(errno) => Err(errno.into()),
    }
}

/// Walks from `root` to the folder `path` (empty for the root itself). `None` if it is not there.
pub(super) fn walk(root: impl AsFd, path: &str) -> Result<Option<OwnedFd>, Problem> {
    let mut here = rustix::fs::openat(root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        match open_folder(&here, segment)? {
            Some(next) => here = next,
            None => return Ok(None),
        }
    }
    Ok(Some(here))
}

/// What lies at `segment`, links not followed. `None` if nothing does.
pub(super) fn kind_of(parent: impl AsFd, segment: &str) -> Result<Option<FileType>, Problem> {
    Ok(stat_plain(parent, segment)?.map(|stat| FileType::from_raw_mode(stat.st_mode)))
}

/// Like [`kind_of`], with everything else that is known.
pub(super) fn stat_plain(parent: impl AsFd, segment: &str) -> Result<Option<Stat>, Problem> {
    match rustix::fs::statat(parent, segment, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Refuses what is no regular file.
pub(super) fn require_object(stat: &Stat) -> Result<(), Problem> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        _ => Err(StoreErrorKind::Foreign.into()),
    }
}

/// Length in bytes.
pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Time of the last write, which for an object is its creation.
#[allow(clippy::useless_conversion, reason = "the field's type differs between architectures")]
pub(super) fn modified(stat: &Stat) -> DateTime<Utc> {
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    DateTime::from_timestamp(stat.st_mtime.into(), nanoseconds).unwrap_or_default()
}

/// Reads the object `segment` of `folder`, at most `limit` bytes. `None` if it is not there.
pub(super) fn read(folder: impl AsFd, segment: &str, limit: u64) -> Result<Option<Bytes>, Problem> {
    // Without NONBLOCK, opening somebody's named pipe would hang.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, segment, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::NXIO) => return Err(StoreErrorKind::Foreign.into()),
        Err(errno) => return Err(errno.into()),
    };
    let stat = rustix::fs::fstat(&file)?;
    require_object(&stat)?;
    if size(&stat) > limit {
        return Err(StoreErrorKind::TooLarge.into());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size(&stat)).unwrap_or(0));
    // We never write into an object that has its name. Somebody else's growing file must not grow past the limit here.
    std::io::Read::read_to_end(&mut std::io::Read::take(file, limit.saturating_add(1)), &mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit { Err(StoreErrorKind::TooLarge.into()) } else { Ok(Some(bytes.into())) }
}

/// The same classes for errors that come through the standard library.
pub(super) fn io(error: std::io::Error) -> Problem {
    Errno::from_io_error(&error).map_or(Problem { kind: StoreErrorKind::Refused, source: Some(error) }, Problem::from)
}

/// Gives a file or folder that we just created exactly `mode`, if the umask took bits away.
pub(super) fn set_mode(fd: impl AsFd, mode: Mode) -> Result<(), Problem> {
    let stat = rustix::fs::fstat(&fd)?;
    if Mode::from_raw_mode(stat.st_mode) & Mode::from_raw_mode(0o777) == mode {
        return Ok(());
    }
    match rustix::fs::fchmod(fd, mode) {
        // FAT and some network file systems have no modes of their own; the mount decides there.
        Ok(()) | Err(Errno::PERM | Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_say_what_to_do() {
        for (errno, kind) in [
            (Errno::NOSPC, StoreErrorKind::Full),
            (Errno::DQUOT, StoreErrorKind::Full),
            (Errno::ACCESS, StoreErrorKind::Denied),
            (Errno::ROFS, StoreErrorKind::Denied),
            (Errno::LOOP, StoreErrorKind::Foreign),
            (Errno::IO, StoreErrorKind::Unavailable),
            (Errno::STALE, StoreErrorKind::Unavailable),
            (Errno::MFILE, StoreErrorKind::Refused),
        ] {
            assert_eq!(Problem::from(errno).kind, kind, "{errno}");
            assert_eq!(io(errno.into()).kind, kind, "{errno}, through the standard library");
        }
    }

    #[test]
    fn a_name_is_a_folder_and_a_segment() {
        assert_eq!(split("a/b/c"), ("a/b", "c"));
        assert_eq!(split("c"), ("", "c"));
    }
}
