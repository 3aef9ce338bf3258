//! Installations of PostgreSQL beside Debian's, and copies that a test may add an extension to.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::postgres::run;

/// Where `scripts/lib/postgres` puts the programs of PostgreSQL 18.
///
/// # Panics
/// If they are not there.
pub fn postgres_18() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let link = target.join("tools/postgres-18");
    link.canonicalize().unwrap_or_else(|error| {
        panic!("there is no {} ({error}): scripts/test installs it, or `scripts/lib/postgres 18` alone", link.display())
    })
}

/// Copies the installation that `programs` is of below `into`, so that the server's user can read it wherever it lies, and adds the
/// files in `extension`. Gives the folder of the copy's programs. PostgreSQL finds its other files from where its programs are.
pub fn copy(programs: &Path, into: &Path, extension: Option<&Path>) -> PathBuf {
    let programs = programs.canonicalize().unwrap();
    let configured = |what: &str| {
        let said = run(Command::new(programs.join("pg_config")).arg(what)).stdout;
        PathBuf::from(String::from_utf8(said).unwrap().trim())
    };
    let share = configured("--sharedir");
    let mut folders = vec![programs.clone(), configured("--pkglibdir"), share.clone()];
    // Libraries that a wheel brings along lie beside its package.
    let beside = programs.ancestors().nth(3).into_iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten());
    folders.extend(
        beside
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "libs")),
    );
    let root = into.join("installation");
    std::fs::create_dir(&root).unwrap();
    run(Command::new("cp").args(["--recursive", "--parents", "--target-directory"]).arg(&root).args(&folders));
    let copied = |path: &Path| root.join(path.strip_prefix("/").unwrap());
    for file in extension.into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()) {
        let file = file.unwrap();
        std::fs::copy(file.path(), copied(&share).join("extension").join(file.file_name())).unwrap();
    }
    run(Command::new("chmod").args(["--recursive", "a+rX"]).arg(&root));
    copied(&programs)
}
