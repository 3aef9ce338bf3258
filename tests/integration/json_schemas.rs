//! The schemas in `docs/json/` are those of the report types, and nothing else lies there.

use std::{collections::BTreeSet, fs, path::Path};

/// Writes them anew with `UPDATE_SCHEMAS=1 cargo test json_schemas`.
#[test]
fn committed_schemas_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json");
    let mut names = BTreeSet::new();
    for (name, schema) in tenure::cli::schema::all() {
        let file = format!("{name}.schema.json");
        let current = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let path = folder.join(&file);
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            fs::write(&path, &current).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == current, "docs/json/{file} is not current: UPDATE_SCHEMAS=1 cargo test json_schemas");
        names.insert(file);
    }
    let there: BTreeSet<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, names, "docs/json holds these and no others");
}
