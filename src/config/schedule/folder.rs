//! The folder that schedules lie in, and those that tenure comes with.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::config::error::ConfigError;

/// The files that tenure comes with, by name.
pub const SHIPPED: [(&str, &str); 4] = [
    ("nightly.toml", include_str!("../../../schedules/nightly.toml")),
    ("retention.toml", include_str!("../../../schedules/retention.toml")),
    ("integrity.toml", include_str!("../../../schedules/integrity.toml")),
    ("drill.toml", include_str!("../../../schedules/drill.toml")),
];

/// Where the schedules of a configuration lie: in `schedules`, beside it.
#[must_use]
pub fn beside(config: &Path) -> PathBuf {
    config.with_file_name("schedules")
}

/// Every file of the folder that ends in `.toml`, by name; hidden ones are no schedules.
///
/// # Errors
/// There is no such folder, it cannot be read, or it has none.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable =
        |error| refuse(folder, "cannot read the folder of schedules", "is it a folder, and yours to read?", Some(error));
    let none = |what: &str| {
        let hint = "`tenure schedules --write` writes those that tenure comes with; nothing in them runs by itself";
        refuse(folder, what, hint, None)
    };
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(none("there are no schedules: no such folder")),
        entries => entries.map_err(unreadable)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "toml") && !is_hidden {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(none("there are no schedules in this folder: no file ends in .toml"));
    }
    files.sort();
    Ok(files)
}

/// The text of a schedule.
pub(super) fn read(file: &Path) -> Result<String, ConfigError> {
    let hint = "a schedule must be a readable text file in UTF-8";
    let cannot = |error| refuse(file, "cannot read the schedule", hint, Some(error));
    // What is no file, a pipe for instance, could be waited for without end.
    if !std::fs::metadata(file).map_err(cannot)?.is_file() {
        return Err(refuse(file, "cannot read the schedule: not a file", hint, None));
    }
    std::fs::read_to_string(file).map_err(cannot)
}

/// Writes each of [`SHIPPED`] that is not there, and the folder; gives what it wrote. What is there stays as it is.
///
/// # Errors
/// Something cannot be written.
pub fn write_shipped(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let cannot =
        |path: &Path, error| refuse(path, "cannot write", "choose a folder that you may write to with --config", Some(error));
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| cannot(folder, error))?;
    let mut written = Vec::new();
    for (name, text) in SHIPPED {
        let path = folder.join(name);
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            file => file.map_err(|error| cannot(&path, error))?,
        };
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| cannot(&path, error))?;
        written.push(path);
    }
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| cannot(folder, error))?;
    Ok(written)
}

fn refuse(path: &Path, message: &str, hint: &str, source: Option<std::io::Error>) -> ConfigError {
    let (message, hint) = (message.to_owned(), hint.to_owned());
    ConfigError { file: path.to_owned(), line: None, key: String::new(), message, hint, source }
}
