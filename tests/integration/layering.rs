//! The folders are the architecture: each row of modules uses only itself and those below. Read from the code, every path in it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use syn::visit::{self, Visit};

/// From the top to the bottom.
const ROWS: [(&str, &[&str]); 7] = [
    ("the program", &["main"]),
    ("the edge", &["cli", "config", "observe", "worker"]),
    ("operations", &["operation"]),
    ("what the names and bytes mean", &["postgres", "vault", "keyring", "signed"]),
    ("objects by name", &["store"]),
    ("pure", &["chunk", "compress", "seal", "signature", "format", "retention", "object_lock", "object_name"]),
    ("types only", &["tenant", "backup_id", "id", "hex_id", "secret", "printable", "name_key"]),
];

/// What a row from this one down may not do, and how that is spelled.
const FORBIDDEN: [(usize, &str, &[&str]); 4] = [
    (2, "only the edge reads the clock", &["Utc::now", "Local::now", "SystemTime::now"]),
    (2, "only the edge reads the environment", &["env::var", "env::var_os", "env::vars", "env::args"]),
    (2, "only the edge ends the process", &["process::exit", "process::abort"]),
    (
        5,
        "the pure rows do no I/O",
        &["tokio", "std::fs", "std::net", "std::process", "fs::read", "fs::write", "aws_sdk_s3", "tokio_postgres"],
    ),
];

/// Files that may, and why.
const EXCEPTIONS: [(&str, &str, &str); 1] =
    [("store/s3/facts.rs", "SystemTime::now", "compares the server's clock with ours at the moment of its answer")];

#[test]
fn each_row_uses_only_itself_and_those_below() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for file in rust_files(&source) {
        let module = module_of(file.strip_prefix(&source).unwrap());
        let Some(top) = module.first().filter(|top| *top != "lib") else { continue };
        let Some(row) = row_of(top) else {
            wrong.push(format!("{}: `{top}` is in no row: add it to ROWS, in its place", file.display()));
            continue;
        };
        seen.insert(top.clone());
        let text = fs::read_to_string(&file).unwrap();
        let mut paths = Paths { module: module.clone(), found: BTreeSet::new() };
        paths.visit_file(&syn::parse_file(&text).unwrap());
        for path in &paths.found {
            let segments: Vec<&str> = path.split("::").collect();
            if segments[0] == "crate"
                && let Some(used) = segments.get(1)
                && let Some(below) = row_of(used)
                && below < row
            {
                wrong.push(format!("{}: {} ({}) uses {path} ({})", file.display(), top, ROWS[row].0, ROWS[below].0));
            }
            for (from, why, spellings) in FORBIDDEN {
                let spelled = |spelling: &str| {
                    let spelling: Vec<&str> = spelling.split("::").collect();
                    segments.windows(spelling.len()).any(|window| window == spelling)
                };
                let excepted =
                    EXCEPTIONS.iter().any(|(exception, spelling, _)| file.ends_with(exception) && path.ends_with(spelling));
                if row >= from && !excepted && spellings.iter().any(|spelling| spelled(spelling)) {
                    wrong.push(format!("{}: {path}: {why}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let named: BTreeSet<String> =
        ROWS.iter().flat_map(|(_, modules)| modules.iter().map(|module| (*module).to_owned())).collect();
    assert_eq!(seen, named, "every module that has a row exists");
}

#[test]
fn the_test_sees_what_it_should() {
    let code = "use crate::{cli::output, store}; use super::super::observe; fn f() { x!(crate::config::A); let b: crate::vault::B = tokio::spawn(); } \
                mod tests { use super::c; }";
    let mut paths = Paths { module: vec!["store".into(), "s3".into()], found: BTreeSet::new() };
    paths.visit_file(&syn::parse_file(code).unwrap());
    for expected in [
        "crate::cli::output",
        "crate::store",
        "crate::observe",
        "crate::config::A",
        "crate::vault::B",
        "tokio::spawn",
        "crate::store::s3::c",
    ] {
        assert!(paths.found.contains(expected), "{expected} in {:?}", paths.found);
    }
}

fn row_of(module: &str) -> Option<usize> {
    ROWS.iter().position(|(_, modules)| modules.contains(&module))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn module_of(file: &Path) -> Vec<String> {
    file.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect()
}

/// Every path of one file, from `crate` where it is one of ours.
struct Paths {
    module: Vec<String>,
    found: BTreeSet<String>,
}

impl Paths {
    fn note(&mut self, segments: &[String]) {
        let mut base = self.module.clone();
        let mut rest = segments;
        let mut ours = false;
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" | "tenure" => base.clear(),
                "super" => drop(base.pop()),
                "self" => {}
                _ => break,
            }
            ours = true;
            rest = others;
        }
        let full: Vec<String> = if ours {
            std::iter::once("crate".to_owned()).chain(base).chain(rest.iter().cloned()).collect()
        } else {
            rest.to_vec()
        };
        self.found.insert(full.join("::"));
    }

    fn note_use(&mut self, tree: &syn::UseTree, before: &[String]) {
        let with = |ident: &syn::Ident| [before, &[ident.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.note_use(&path.tree, &with(&path.ident)),
            syn::UseTree::Name(name) => self.note(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.note(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.note(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.note_use(item, before)),
        }
    }

    /// Macro arguments are tokens, not paths: `a :: b :: c` among them is taken for one.
    fn note_tokens(&mut self, tokens: &str) {
        let words: Vec<&str> = tokens.split_whitespace().collect();
        let is_name = |word: &str| word.chars().all(|c| c.is_alphanumeric() || c == '_');
        let mut at = 0;
        while at < words.len() {
            let mut path = vec![words[at].to_owned()];
            while at + 2 < words.len() && words[at + 1] == "::" && is_name(words[at + 2]) {
                path.push(words[at + 2].to_owned());
                at += 2;
            }
            if path.len() > 1 && is_name(&path[0]) {
                self.note(&path);
            }
            at += 1;
        }
    }
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_use(&item.tree, &[]);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&segments);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.note_tokens(&call.tokens.to_string());
        visit::visit_macro(self, call);
    }
}
