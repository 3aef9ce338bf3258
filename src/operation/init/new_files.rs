//! The files that `init` makes: each new, 0600 by the process's umask, durable, and never in another one's place.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use super::bug;
use crate::{
    operation::failure::{Failure, FailureClass},
    printable::Word,
    signature::{SignatureError, SigningKey},
};

/// The files beside one configuration.
pub(super) struct NewFiles {
    config: PathBuf,
    folder: PathBuf,
    written: Mutex<Vec<PathBuf>>,
}

impl NewFiles {
    pub(super) fn beside(config: &Path) -> Self {
        let folder = config.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { config: config.to_owned(), folder: folder.to_owned(), written: Mutex::default() }
    }

    pub(super) fn kit(&self) -> PathBuf {
        self.beside_config("recovery-kit.txt")
    }

    pub(super) fn allowed_signers(&self) -> PathBuf {
        self.beside_config("allowed_signers")
    }

    pub(super) fn key(&self, name: &str) -> PathBuf {
        self.beside_config("keys").join(name)
    }

    pub(super) fn beside_config(&self, name: &str) -> PathBuf {
        self.config.with_file_name(name)
    }

    /// Refuses when anything is where something is to be written: the keys of `roles`, and the kit where one is made.
    pub(super) fn refuse_existing(&self, roles: &[&str], with_kit: bool) -> Result<(), Failure> {
        let keys = roles.iter().flat_map(|role| [self.key(role), self.key(&format!("{role}.pub"))]);
        let others = with_kit.then(|| self.kit()).into_iter().chain([self.allowed_signers()]).chain(keys);
        let in_the_way: Vec<String> =
            others.filter(|path| path.symlink_metadata().is_ok()).map(|path| path.display().to_string()).collect();
        if self.config.symlink_metadata().is_ok() {
            let config = self.config.display().to_string();
            return Err(Failure::new(FailureClass::Refused, "already-there", &config, format!("{config} is already there"))
                .hint("init never overwrites; to make another installation, name another file with --config"));
        }
        if in_the_way.is_empty() {
            return Ok(());
        }
        // Not to be removed: if the configuration was only moved elsewhere, the kit is all that opens its backups.
        let aside = self.beside_config("unfinished-init").display().to_string();
        let words: Vec<String> = in_the_way.iter().map(|file| Word(file).to_string()).collect();
        let hint = format!(
            "init never overwrites. If an earlier init was interrupted, nothing was backed up with these files yet: {} comes last, and is \
             not there. Then put them aside and run init again: `mkdir {aside} && mv -- {} {aside}`",
            self.config.display(),
            words.join(" "),
            aside = Word(&aside),
        );
        let message = format!("already there: {}", in_the_way.join(", "));
        Err(Failure::new(FailureClass::Refused, "already-there", &in_the_way[0], message).hint(hint))
    }

    pub(super) fn make_folders(&self) -> Result<(), Failure> {
        for folder in [self.folder.clone(), self.beside_config("keys")] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(|error| cannot_write(&folder, error))?;
        }
        Ok(())
    }

    /// Both halves of a signing key.
    pub(super) fn write_key(&self, role: &str, key: &SigningKey) -> Result<(), Failure> {
        let encoded = |error: SignatureError| bug("a signing key cannot be encoded").because(error);
        self.write(&self.key(role), key.to_openssh().map_err(encoded)?.as_bytes())?;
        let public = key.public_openssh().map_err(encoded)? + "\n";
        self.write(&self.key(&format!("{role}.pub")), public.as_bytes())
    }

    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            self.written.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
            file.write_all(bytes)?;
            file.sync_all()?;
            match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                Some(folder) => File::open(folder)?.sync_all(),
                None => File::open(".")?.sync_all(),
            }
        };
        write().map_err(|error| cannot_write(path, error))
    }

    /// Removes what this run wrote: no backup exists that any of it could belong to.
    pub(super) fn remove_written(&self) {
        for path in self.written.lock().unwrap_or_else(PoisonError::into_inner).drain(..).rev() {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(file.path = %path.display(), %error, "cannot remove {} again", path.display());
            }
        }
    }
}

fn cannot_write(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(FailureClass::Failed, "cannot-write", path.display(), format!("cannot write {}", path.display()))
        .hint("choose a folder that you may write to with --config")
        .because(error)
}
