//! Listing: a walk over folders, nearest first.

use std::os::fd::OwnedFd;

use rustix::fs::{Dir, FileType};

use super::tree::{self, Problem};
use crate::store::{Listed, StoreErrorKind, is_valid_name};

/// One entry of a folder that bears a name we could have given.
enum Entry {
    Object(Listed),
    Folder(String),
}

/// Calls `found` for each object below `prefix` until it returns false. `prefix` is empty or ends in `/`.
pub(super) fn objects(root: &OwnedFd, prefix: &str, found: &mut dyn FnMut(Listed) -> bool) -> Result<(), Problem> {
    let mut to_visit = vec![prefix.to_owned()];
    while let Some(prefix) = to_visit.pop() {
        for entry in entries(root, &prefix)? {
            match entry {
                Entry::Folder(segment) => to_visit.push(format!("{prefix}{segment}/")),
                Entry::Object(listed) => {
                    if !found(listed) {
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}

/// The folders right below `prefix` that hold an object at any depth, sorted. A folder without one is no more than a leftover.
pub(super) fn folders(root: &OwnedFd, prefix: &str) -> Result<Vec<String>, Problem> {
    let mut names = Vec::new();
    for entry in entries(root, prefix)? {
        if let Entry::Folder(segment) = entry {
            let mut holds_objects = false;
            objects(root, &format!("{prefix}{segment}/"), &mut |_| {
                holds_objects = true;
                false
            })?;
            if holds_objects {
                names.push(segment);
            }
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn entries(root: &OwnedFd, prefix: &str) -> Result<Vec<Entry>, Problem> {
    let Some(folder) = tree::walk(root, prefix)? else { return Ok(Vec::new()) };
    let mut entries = Vec::new();
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        // What bears a name that no object can have is not ours: `lost+found`, our own folder of temporary files.
        let Some(segment) = entry.file_name().to_str().ok().filter(|name| is_valid_name(name)) else { continue };
        let kind = entry.file_type();
        if kind == FileType::Directory {
            entries.push(Entry::Folder(segment.to_owned()));
            continue;
        }
        let Some(stat) = tree::stat_plain(&folder, segment)? else { continue };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => entries.push(Entry::Object(Listed {
                name: format!("{prefix}{segment}"),
                size: tree::size(&stat),
                modified: tree::modified(&stat),
                tampering: None,
                version: None,
            })),
            // Some file systems do not say the kind in the entry itself.
            FileType::Directory => entries.push(Entry::Folder(segment.to_owned())),
            _ => {
                let what = std::io::Error::other(format!("{prefix}{segment} is neither a file nor a folder"));
                return Err(Problem { kind: StoreErrorKind::Foreign, source: Some(what) });
            }
        }
    }
    Ok(entries)
}
