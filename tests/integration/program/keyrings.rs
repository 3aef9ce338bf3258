//! A keyring that was emptied, put back from an old copy, or is another one; and mirrors that are: what each command says of it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::harness::{
    postgres::{Cluster, shared, unique},
    program::Program,
    site::walk,
};

/// An installation with two tenants, and a copy of its keyring from before the second one came.
struct Fleet {
    program: Program,
    server: &'static Cluster,
    stem: String,
}

impl Fleet {
    fn new(mirrors: usize) -> Self {
        let (server, stem, program) = (shared(), unique("ring"), Program::new());
        let fleet = Self { program, server, stem };
        let mut init = fleet.program.init(&server.description(), &format!("{}_{{tenant}}", fleet.stem));
        for number in 0..mirrors {
            init.extend(["--mirror".to_owned(), format!("file://{}", fleet.path(&format!("mirror{number}")).display())]);
        }
        fleet.program.done(&init.iter().map(String::as_str).collect::<Vec<_>>());
        fleet.tenant("acme");
        fleet.program.done(&["backup", "--all"]);
        for store in ["keyring", "mirror0"].into_iter().take(1 + mirrors.min(1)) {
            copy(&fleet.path(store), &fleet.path(&format!("{store}.old")));
        }
        fleet.tenant("globex");
        fleet.program.done(&["backup", "--all"]);
        fleet
    }

    fn tenant(&self, name: &str) {
        let database = format!("{}_{name}", self.stem);
        self.server.create_database(&database);
        self.server.sql(&database, &format!("CREATE TABLE t AS SELECT n, '{name}' AS s FROM generate_series(1, 100) n"));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.program.path(name)
    }

    /// What is in a store, but for what it was tried out with.
    fn content(&self, store: &str) -> BTreeMap<String, Vec<u8>> {
        content(&self.path(store))
    }

    /// Puts another folder in a store's place for as long as `what` runs.
    fn instead(&self, store: &str, other: &Path, what: impl FnOnce()) {
        let (here, aside) = (self.path(store), self.path("aside"));
        fs::rename(&here, &aside).unwrap();
        copy(other, &here);
        what();
        fs::remove_dir_all(&here).unwrap();
        fs::rename(&aside, &here).unwrap();
    }
}

fn content(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &Path| path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
    let files = walk(folder).into_iter().filter(|path| !name(path).starts_with("probe/"));
    files.map(|path| (name(&path), fs::read(&path).unwrap())).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in walk(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    }
}

/// The one line that says it, and its hint: of the error, or of the report's problems.
fn said(document: &Value, words: &str) -> bool {
    let mut texts = Vec::new();
    fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
        match value {
            Value::String(text) => texts.push(text),
            Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
            Value::Object(fields) => fields.values().for_each(|value| collect(value, texts)),
            _ => {}
        }
    }
    collect(document, &mut texts);
    texts.iter().any(|text| text.contains(words) && !text.contains('\n'))
}

#[test]
fn every_command_says_that_the_keyring_is_not_whole_or_anothers_and_stops() {
    let fleet = Fleet::new(0);
    let program = &fleet.program;
    let other = Program::set_up(fleet.server, "nobody_{tenant}");
    let root = fs::read_to_string(fleet.path("keyring/keyring.json")).unwrap();
    let name_key = serde_json::from_str::<Value>(&root).unwrap()["name_key"].as_str().unwrap().to_owned();
    let another: String = name_key.chars().map(|c| if c == '0' { '1' } else { '0' }).collect();
    let changed = |name: &str, change: &dyn Fn(&Path)| {
        let folder = fleet.path(name);
        copy(&fleet.path("keyring"), &folder);
        change(&folder);
        folder
    };
    let emptied = changed("emptied", &|folder| fs::remove_dir_all(folder).and_then(|()| fs::create_dir(folder)).unwrap());
    let bare = changed("bare", &|folder| ["t", "k"].iter().for_each(|part| fs::remove_dir_all(folder.join(part)).unwrap()));
    let rekeyed =
        changed("rekeyed", &|folder| fs::write(folder.join("keyring.json"), root.replace(&name_key, &another)).unwrap());
    let states = [
        ("emptied", emptied, "keyring.json is not there", "no-keyring"),
        ("emptied but for keyring.json", bare, "the keyring has no key record for it", "keyring-incomplete"),
        ("old", fleet.path("keyring.old"), "the keyring has no key record for it", "keyring-incomplete"),
        ("of another installation", other.path("keyring"), "it belongs to installation", "foreign-keyring"),
        ("with another name key", rekeyed, "its name key is not the one", "foreign-keyring"),
    ];
    let copy = format!("{}_copy", fleet.stem);
    let commands: [&[&str]; 23] = [
        &["check"],
        &["tenants"],
        &["backup", "--all"],
        &["backup", "acme"],
        &["backup", "globex"],
        &["list"],
        &["list", "globex"],
        &["show", "globex", "latest"],
        &["verify", "--all"],
        &["verify", "globex"],
        &["restore", "globex", "--into", &copy, "--identity", "recovery-kit.txt"],
        &["restore", "--all", "--identity", "recovery-kit.txt"],
        &["keys", "list"],
        &["keys", "check"],
        &["admit", "--source", "globex"],
        // Whose own key is there.
        &["list", "acme"],
        &["show", "acme", "latest"],
        &["verify", "acme"],
        &["restore", "acme", "--into", &copy, "--identity", "recovery-kit.txt"],
        &["purge", "globex", "--confirm", "globex"],
        &["keys", "rotate", "acme"],
        &["keys", "rewrap", "acme", "--identity", "recovery-kit.txt"],
        &["keys", "prune", "acme"],
    ];
    let mut tried = 0;
    for (state, keyring, words, kind) in &states {
        fleet.instead("keyring", keyring, || {
            let before = (fleet.content("vault"), fleet.content("keyring"));
            for command in commands {
                let (code, document) = program.run(command);
                // A check that finds errors ends with 1, whatever they are.
                let expected = if command == ["check"] { 1 } else { 5 };
                assert_eq!(code, expected, "{state}: {command:?}: {document:#}");
                assert!(
                    [
                        *words,
                        "no whole record",
                        "no key record in the keyring belongs to this locker: its backups cannot be opened; `tenure keys repair`"
                    ]
                    .iter()
                    .any(|words| said(&document, words)),
                    "{state}: {command:?}: {document:#}"
                );
                if let Some(error) = document.get("error") {
                    assert_eq!(error["kind"], *kind, "{state}: {command:?}: {document:#}");
                    assert!(!error["hint"].as_str().unwrap().is_empty(), "{state}: {command:?}");
                }
                tried += 1;
            }
            // Without a mirror there is nothing to repair it from, and that is said.
            let (code, document) = program.run(&["keys", "repair"]);
            assert_eq!(code, 5, "{state}: {document:#}");
            assert_eq!((fleet.content("vault"), fleet.content("keyring")), before, "{state}: something was written");
        });
    }
    assert_eq!(tried, 115);
    assert_eq!(fleet.server.sql("postgres", &format!("SELECT count(*) FROM pg_database WHERE datname = '{copy}'")).trim(), "0");

    // With an old copy an operator may say that the others are to be backed up; nobody gets a new key.
    fleet.instead("keyring", &fleet.path("keyring.old"), || {
        let (code, report) = program.run(&["backup", "--all", "--accept-lost-keys"]);
        assert_eq!(code, 5, "{report:#}");
        let outcome = |tenant: usize| (&report["results"][tenant]["tenant"], &report["results"][tenant]["outcome"]);
        assert_eq!(
            (outcome(0), outcome(1)),
            ((&json!("acme"), &json!("done")), (&json!("globex"), &json!("failed"))),
            "{report:#}"
        );
        assert_eq!(fleet.content("keyring"), content(&fleet.path("keyring.old")));

        // Who reads is answered, and told; on standard error where the answer is about another.
        for (command, answer) in [
            (&["list", "acme"][..], "acme: "),
            (&["show", "acme", "latest"], "good"),
            (&["keys", "list"], "acme"),
            (&["verify", "acme"], "checked "),
            (&["hold", "acme", "--reason", "a letter"], "on hold"),
            (&["release", "acme"], "released"),
            (&["purge", "acme", "--dry-run"], "nothing was done"),
        ] {
            let (code, stdout, stderr) = program.say(command);
            let whole = format!("{stdout}{stderr}");
            assert!(code == 5 && stdout.contains(answer), "{command:?}: {whole}");
            assert_eq!(whole.matches("the keyring has no key record for it").count(), 1, "{command:?}: {whole}");
            assert!(whole.contains("`tenure keys repair`"), "{command:?}: {whole}");
            assert_eq!(
                stderr.starts_with("error: locker "),
                ["list", "show", "hold", "release"].contains(&command[0]),
                "{command:?}: {whole}"
            );
        }
        // Who restores says that it is meant.
        let kit = ["--identity", "recovery-kit.txt"];
        let restore = [&["restore", "acme", "--into", &copy], &kit[..]].concat();
        let error = program.refused(5, &restore);
        assert!(error["hint"].as_str().unwrap().contains("`--accept-lost-keys`"), "{error:#}");
        assert_eq!(program.refused(5, &[&["restore", "--all"], &kit[..]].concat())["kind"], "keyring-incomplete");
        assert_eq!(program.done(&[&restore[..], &["--accept-lost-keys"]].concat())["proven"], true);
        let (code, report) = program.run(&[&["restore", "--all", "--accept-lost-keys"], &kit[..]].concat());
        assert!(code == 5 && said(&report["findings"], "the keyring has no key record for it"), "{report:#}");
        assert_eq!(report["results"][0]["tenant"], "acme", "{report:#}");
    });
    fleet.server.sql("postgres", &format!("DROP DATABASE {copy}"));
    program.done(&["backup", "--all"]);
}

/// Every tenant has a record in it, and a newer key has none.
#[test]
fn a_copy_from_before_a_rotation_is_told_and_no_key_is_changed_with_it() {
    let fleet = Fleet::new(0);
    let program = &fleet.program;
    let before = fleet.path("keyring.before");
    copy(&fleet.path("keyring"), &before);
    program.done(&["keys", "rotate", "acme"]);
    program.done(&["backup", "acme"]);
    fleet.instead("keyring", &before, || {
        let copy = unique("ring_copy");
        for (code, command) in [
            (1, &["check"][..]),
            (5, &["tenants"]),
            (5, &["list", "acme"]),
            (5, &["list", "globex"]),
            (5, &["show", "globex", "latest"]),
            (5, &["keys", "list"]),
            (5, &["keys", "rotate", "acme"]),
            (5, &["keys", "rewrap", "--all", "--identity", "recovery-kit.txt"]),
            (5, &["keys", "prune", "--all"]),
            (5, &["restore", "globex", "--into", &copy, "--identity", "recovery-kit.txt"]),
            (5, &["hold", "globex", "--reason", "a letter"]),
            (5, &["release", "globex"]),
            (5, &["purge", "acme", "--dry-run"]),
        ] {
            let (found, document) = program.run(command);
            assert_eq!(found, code, "{command:?}: {document:#}");
            assert!(said(&document, "the keyring has no key record for it"), "{command:?}: {document:#}");
        }
        assert_eq!(fleet.content("keyring"), content(&before));
    });
    program.done(&["backup", "--all"]);
}

/// Every record is in it, and who left since opens its secret halves.
#[test]
fn a_copy_from_before_keys_were_wrapped_anew_is_told_until_that_is_mended() {
    const WORDS: &str = "the keyring has only an old wrapping of key";
    let fleet = Fleet::new(1);
    let program = &fleet.program;
    let kit = ["--identity", "recovery-kit.txt"];
    let (before, before_mirror) = (fleet.path("keyring.before"), fleet.path("mirror0.before"));
    copy(&fleet.path("keyring"), &before);
    copy(&fleet.path("mirror0"), &before_mirror);
    program.done(&[&["keys", "rewrap", "--all"], &kit[..]].concat());
    program.done(&["check"]);
    program.done(&["tenants"]);
    let whole = fleet.content("keyring");
    let into = unique("ring_copy");
    let stop: [&[&str]; 11] = [
        &["check"],
        &["backup", "--all"],
        &["backup", "acme"],
        &["admit", "--source", "acme"],
        &["restore", "acme", "--into", &into, "--identity", "recovery-kit.txt"],
        &["restore", "--all", "--identity", "recovery-kit.txt"],
        &["keys", "check"],
        &["keys", "rotate", "acme"],
        &["keys", "rewrap", "--all", "--identity", "recovery-kit.txt"],
        &["keys", "prune", "--all"],
        &["expire", "--dry-run"],
    ];
    let say: [&[&str]; 10] = [
        &["tenants"],
        &["list"],
        &["list", "acme"],
        &["show", "acme", "latest"],
        &["verify", "--all"],
        &["verify", "acme"],
        &["keys", "list"],
        &["hold", "acme", "--reason", "a letter"],
        &["release", "acme"],
        &["purge", "acme", "--dry-run"],
    ];
    let said_by_all = |case: &str| {
        let keyring = fleet.content("keyring");
        for command in stop.iter().chain(&say) {
            let (code, document) = program.run(command);
            let expected = if *command == ["check"] { 1 } else { 5 };
            assert_eq!(code, expected, "{case}: {command:?}: {document:#}");
            let words = if *command == ["keys", "check"] { "it was wrapped anew since" } else { WORDS };
            assert!(said(&document, words), "{case}: {command:?}: {document:#}");
        }
        assert_eq!(fleet.content("keyring"), keyring, "{case}");
    };
    fleet.instead("keyring", &before, || {
        said_by_all("with a whole mirror");
        program.done(&["keys", "repair"]);
        program.done(&["backup", "--all"]);
        assert!(whole.iter().all(|(name, bytes)| fleet.content("keyring").get(name) == Some(bytes)));
        // What somebody put back goes again.
        program.done(&[&["keys", "rewrap", "--all"], &kit[..]].concat());
        assert_eq!(fleet.content("keyring"), whole);
    });
    // A mirror alone that is as old is named, and mended.
    fleet.instead("mirror0", &before_mirror, || {
        let (code, report) = program.run(&["check"]);
        assert!(code == 1 && said(&report, "it lacks 2 of the 2 keys"), "{report:#}");
        program.done(&["keys", "repair"]);
        program.done(&["check"]);
    });
    // No copy has the newer wrapping: the keys are wrapped anew once more, under numbers that were never used.
    let (keyring, mirror) = (fleet.path("keyring"), fleet.path("mirror0"));
    for (old, store) in [(&before, &keyring), (&before_mirror, &mirror)] {
        fs::remove_dir_all(store).unwrap();
        copy(old, store);
    }
    said_by_all("with an old mirror");
    let (code, report) = program.run(&["keys", "repair"]);
    assert!(code == 5 && said(&report["problems"], WORDS), "there is nothing to repair it from, and that is said: {report:#}");
    let hint = program.refused(5, &["backup", "--all"])["hint"].to_string();
    assert!(hint.contains("`tenure keys rewrap --all --identity FILE --accept-lost-keys`"), "{hint}");
    let (code, report) = program.run(&[&["keys", "rewrap", "--all", "--accept-lost-keys"], &kit[..]].concat());
    assert_eq!((code, &report["errors"]), (0, &json!([])), "what it was told to go on with is mended: {report:#}");
    for result in report["results"].as_array().unwrap() {
        assert_eq!((&result["outcome"], &result["wrapping"]), (&json!("done"), &json!(3)), "{report:#}");
    }
    for command in [&["check"][..], &["backup", "--all"], &["verify", "--all"], &["keys", "check"], &["tenants"]] {
        program.done(command);
    }
}

#[test]
fn a_mirror_that_is_away_or_not_whole_stops_only_who_needs_a_new_key() {
    let fleet = Fleet::new(1);
    let program = &fleet.program;
    let other = Program::set_up(fleet.server, "nobody_{tenant}");
    let mirror = fleet.path("mirror0");
    let (empty, bare) = (fleet.path("empty"), fleet.path("bare"));
    fs::create_dir(&empty).unwrap();
    fs::create_dir(&bare).unwrap();
    fs::copy(mirror.join("keyring.json"), bare.join("keyring.json")).unwrap();
    let backup = |words: &str| {
        let report = program.done(&["backup", "--all"]);
        let all_done = report["results"].as_array().unwrap().iter().all(|result| result["outcome"] == "done");
        assert!(all_done && report["findings"].to_string().contains(words), "{words}: {report:#}");
        // Reading needs no mirror.
        program.done(&["list", "acme"]);
        program.done(&["verify", "acme", "--identity", "recovery-kit.txt"]);
    };
    let check = |words: &str| {
        let (code, report) = program.run(&["check"]);
        let findings = report["findings"].as_array().unwrap();
        let said = findings.iter().any(|finding| finding["level"] == "error" && finding.to_string().contains(words));
        assert!(code == 1 && said, "{words}: {report:#}");
    };
    let newcomer = |name: &str, may: bool| {
        let database = format!("{}_{name}", fleet.stem);
        fleet.tenant(name);
        let (code, report) = program.run(&["backup", "--all"]);
        let result = report["results"].as_array().unwrap().iter().find(|result| result["tenant"] == name).unwrap();
        let expected = if may { (0, "done") } else { (3, "failed") };
        assert_eq!((code, result["outcome"].as_str().unwrap()), expected, "{report:#}");
        assert!(may || result["error"]["kind"] == "cannot-create-key", "{report:#}");
        fleet.server.sql("postgres", &format!("DROP DATABASE \"{database}\""));
    };

    // Not there.
    let aside = fleet.path("aside");
    fs::rename(&mirror, &aside).unwrap();
    backup("does not exist");
    check("mirror0");
    newcomer("initech", false);
    let (code, report) = program.run(&["keys", "repair"]);
    assert!(code == 1 && report["not_reached"].to_string().contains("mirror0"), "{report:#}");
    let (code, report) = program.run(&["keys", "check"]);
    let why = report["not_reached"][0].as_str().unwrap();
    assert_eq!((code, &report["keys"], &report["problems"]), (1, &json!(2), &json!([])), "the keyring is looked at: {report:#}");
    assert!(why.contains(&format!("`mkdir {}`", mirror.display())) && why.matches("does not exist").count() == 1, "{why}");
    fs::rename(&aside, &mirror).unwrap();
    // The keyring's own directory.
    let keyring = fleet.path("keyring");
    fs::rename(&keyring, &aside).unwrap();
    let hint = program.refused(1, &["keys", "repair"])["hint"].to_string();
    assert!(hint.contains(&format!("`mkdir {}`", keyring.display())), "{hint}");
    fs::create_dir(&keyring).unwrap();
    program.done(&["keys", "repair"]);
    assert_eq!(fleet.content("keyring"), content(&aside));
    fs::remove_dir_all(&aside).unwrap();

    for (state, folder, words, may) in [
        ("emptied", empty, "it has no keyring.json", false),
        ("another keyring's", other.path("keyring"), "it is not this keyring's", false),
        ("old", fleet.path("mirror0.old"), "it lacks 1 of the 2 keys", true),
        ("emptied but for keyring.json", bare, "it lacks 2 of the 2 keys", true),
    ] {
        fleet.instead("mirror0", &folder, || {
            backup(words);
            check(words);
            let (code, report) = program.run(&["keys", "check"]);
            let promises = report["problems"].to_string().contains("puts it back");
            assert_eq!((code, promises), (5, state != "another keyring's"), "{state}: {report:#}");
            if !may {
                newcomer("hooli", may);
            }
            let before = fleet.content("mirror0");
            let (code, report) = program.run(&["keys", "repair"]);
            if state == "another keyring's" {
                assert_eq!(code, 5, "{report:#}");
                assert_eq!(fleet.content("mirror0"), before, "nothing is written into it");
            } else {
                assert_eq!((code, &report["problems"]), (0, &json!([])), "{report:#}");
                assert_eq!(fleet.content("mirror0"), fleet.content("keyring"));
                program.done(&["keys", "check", "--identity", "recovery-kit.txt"]);
            }
        });
    }
    let old = fleet.path("mirror0.old");
    fleet.instead("mirror0", &old, || newcomer("vandelay", true));
}

#[test]
fn a_keyring_that_lost_something_is_repaired_from_its_mirror() {
    let fleet = Fleet::new(2);
    let program = &fleet.program;
    let whole = fleet.content("keyring");
    let nothing = |report: &Value| assert_eq!((&report["put_back"], &report["problems"]), (&json!([]), &json!([])), "{report:#}");
    nothing(&program.done(&["keys", "repair"]));

    // Each object of each store, and each store as a whole.
    let stores = ["keyring", "mirror0", "mirror1"];
    for store in stores {
        for name in whole.keys() {
            fs::remove_file(fleet.path(store).join(name)).unwrap();
            let object = format!("file://{}/{name}", fleet.path(store).display());
            let (code, would) = program.run(&["keys", "repair", "--dry-run"]);
            assert_eq!((code, &would["put_back"][0]["object"]), (0, &json!(object)), "{would:#}");
            assert!(!fleet.path(store).join(name).exists(), "a dry run writes nothing");
            let report = program.done(&["keys", "repair"]);
            assert_eq!(report["put_back"], would["put_back"]);
            assert_eq!(fleet.content(store), whole, "{object}");
        }
        fs::remove_dir_all(fleet.path(store)).unwrap();
        fs::create_dir(fleet.path(store)).unwrap();
        assert_eq!(program.done(&["keys", "repair"])["put_back"].as_array().unwrap().len(), whole.len());
        assert_eq!(fleet.content(store), whole);
    }
    // One that has everything is enough for all others; tenants who came since the old copy too.
    for store in ["keyring", "mirror0"] {
        fs::remove_dir_all(fleet.path(store)).unwrap();
        copy(&fleet.path("keyring.old"), &fleet.path(store));
    }
    let text = program.say(&["keys", "repair"]);
    assert!(text.0 == 0 && text.1.contains("put back: file://") && text.1.ends_with("objects put back\n"), "{text:?}");
    assert_eq!([fleet.content("keyring"), fleet.content("mirror0")], [whole.clone(), whole.clone()]);
    program.done(&["keys", "check", "--identity", "recovery-kit.txt"]);
    program.done(&["backup", "--all"]);

    // A copy that differs is named, never used and never overwritten.
    for name in whole.keys() {
        let path = fleet.path("mirror0").join(name);
        let bytes = fs::read(&path).unwrap();
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        fs::write(&path, &changed).unwrap();
        let kept = fleet.path("keyring").join(name);
        if name != "keyring.json" {
            fs::remove_file(&kept).unwrap();
        }
        let (code, report) = program.run(&["keys", "repair"]);
        assert_eq!(code, 5, "{name}: {report:#}");
        assert!(report["problems"][0]["object"].as_str().unwrap().ends_with(&format!("mirror0/{name}")), "{name}: {report:#}");
        assert_eq!(fs::read(&path).unwrap(), changed, "{name}");
        assert_eq!(fs::read(&kept).unwrap(), bytes, "{name}: the other mirror has it whole");
        // Moved away, as it said.
        fs::remove_file(&path).unwrap();
        program.done(&["keys", "repair"]);
        assert_eq!(fleet.content("mirror0"), whole, "{name}");
    }
}
