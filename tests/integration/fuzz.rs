//! Every parser is given what it should read, changed in a few places: it must refuse or understand, and never panic, hang or allocate
//! by a number that it was told (either ends the test). Where there is a printer, what is printed must read back as the same.
//!
//! The changes are drawn from a fixed seed, so that a run is the same everywhere. `FUZZ_CASES` and `FUZZ_SEED` try more, or others:
//! `FUZZ_CASES=1000000 FUZZ_SEED=2 cargo test --test integration fuzz::configuration`.

mod connection;
mod documents;
mod mutate;
mod rows;
mod schedules;
mod sealed;
mod settings;
mod signatures;

use std::path::Path;

use tenure::seal::{RecoveryIdentity, TenantIdentity, open};

/// A file of the golden vault, by its path.
fn golden(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vaults/v1").join(path)).unwrap()
}

/// Every file of the golden vault whose path contains `part` and ends in `end`.
fn golden_all(part: &str, end: &str) -> Vec<Vec<u8>> {
    fn walk(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut paths = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vaults/v1"), &mut paths);
    // Directories have no order; a seed needs one.
    paths.sort();
    let wanted = paths.iter().filter(|path| path.to_str().is_some_and(|path| path.contains(part) && path.ends_with(end)));
    let found: Vec<_> = wanted.map(|path| std::fs::read(path).unwrap()).collect();
    assert!(!found.is_empty(), "no file of the golden vault contains {part} and ends in {end}");
    found
}

/// The keys of the golden vault's tenants.
fn golden_keys() -> Vec<TenantIdentity> {
    let kit = RecoveryIdentity::parse(&golden("recovery-kit.txt"), age::NoCallbacks).unwrap();
    golden_all("/k/", ".age").iter().map(|wrapped| kit.unwrap(wrapped).unwrap()).collect()
}

/// A chunk of the golden vault, sealed and open.
struct GoldenChunk {
    key: TenantIdentity,
    sealed: Vec<u8>,
    plain: Vec<u8>,
}

/// The golden vault's chunks whose plaintext begins with `start`.
fn golden_chunks(start: &[u8]) -> Vec<GoldenChunk> {
    let mut lengths = std::collections::HashMap::new();
    for document in golden_all("/b/", ".json").iter().chain(&golden_all("/p/", "")) {
        let document: serde_json::Value = serde_json::from_slice(document).unwrap();
        let entries = ["description", "entries"].iter().filter_map(|list| document[list].as_array());
        for entry in entries.flatten() {
            lengths.insert(entry["sha256"].as_str().unwrap().to_owned(), entry["length"].as_u64().unwrap());
        }
    }
    let chunk = |sealed: Vec<u8>| {
        let length = lengths[&tenure::id::Sha256Digest::of(&sealed).to_string()];
        let opened = golden_keys().into_iter().find_map(|key| Some((open(&key, &sealed, length).ok()?, key)));
        let (plain, key) = opened.unwrap();
        GoldenChunk { key, sealed, plain }
    };
    let found: Vec<_> = golden_all("/c/", "").into_iter().map(chunk).filter(|chunk| chunk.plain.starts_with(start)).collect();
    assert!(!found.is_empty());
    found
}

/// What is in them.
fn golden_plaintexts(start: &[u8]) -> Vec<Vec<u8>> {
    golden_chunks(start).into_iter().map(|chunk| chunk.plain).collect()
}
