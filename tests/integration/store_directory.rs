//! What only a directory can get wrong: modes, links, dying processes, several processes.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use tenure::store::directory::DirectoryStore;
use tenure::store::{PutMode, PutOutcome, Store, StoreErrorKind};

use crate::store_conformance::{kind, names};

const JOB: &str = "TENURE_TEST_STORE_JOB";
const ROOT: &str = "TENURE_TEST_STORE_ROOT";

/// This test binary again, as another process that does one of the jobs of [`another_process`].
fn process(job: &str, root: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "store_directory::another_process", "--nocapture"]).env(JOB, job).env(ROOT, root);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Does nothing in an ordinary run.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "as a process of its own it has no other way to tell")]
async fn another_process() {
    let Ok(job) = std::env::var(JOB) else { return };
    let store: Arc<dyn Store> = Arc::new(DirectoryStore::open(Path::new(&std::env::var(ROOT).unwrap())).await.unwrap());
    match job.as_str() {
        "put one" => assert_eq!(store.put("a/b/c", "x".into(), PutMode::CreateOnly).await.unwrap(), PutOutcome::Stored),
        "put for ever" => {
            let puts = futures_util::stream::iter(0..).map(|n| {
                let store = Arc::clone(&store);
                async move {
                    let name = format!("ever/{}/{n}", n % 7);
                    store.put(&name, body_of(&name), PutMode::CreateOnly).await.unwrap();
                    println!("stored {name}");
                }
            });
            puts.buffer_unordered(8).collect::<()>().await;
        }
        "create and delete" => {
            for n in 0..300 {
                let name = format!("race/{n}/object");
                let body = Bytes::from(format!("{} {n}", std::process::id()));
                let outcome = store.put(&name, body, PutMode::CreateOnly).await.unwrap();
                println!("{outcome:?} {n}");
                // Takes away folders that the other process is about to use.
                let own = format!("shared/folder/{}", std::process::id());
                store.put(&own, "x".into(), PutMode::Replace).await.unwrap();
                assert_eq!(store.get(&own, 1).await.unwrap(), "x");
                store.delete(&own).await.unwrap();
            }
        }
        other => panic!("no such job: {other}"),
    }
}

/// 70 KB that only this name has.
fn body_of(name: &str) -> Bytes {
    name.bytes().cycle().take(70_000).collect()
}

async fn new_store(scratch: &Path) -> DirectoryStore {
    DirectoryStore::create(&scratch.join("vault")).await.unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

#[tokio::test]
async fn modes_are_private_whatever_the_umask() {
    for umask in ["000", "022", "777"] {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("made/with/parents");
        let store = DirectoryStore::create(&root).await.unwrap();
        for folder in ["made", "made/with", "made/with/parents"] {
            assert_eq!(mode(&scratch.path().join(folder)), 0o700, "{folder}");
        }
        drop(store);
        let child = process("put one", &root);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("umask {umask}; exec \"$@\""), "sh"]).arg(child.get_program()).args(child.get_args());
        shell.env(JOB, "put one").env(ROOT, &root).stdout(Stdio::null());
        assert!(shell.status().unwrap().success());
        assert_eq!(mode(&root.join("a")), 0o700, "umask {umask}");
        assert_eq!(mode(&root.join("a/b")), 0o700, "umask {umask}");
        assert_eq!(mode(&root.join("a/b/c")), 0o600, "umask {umask}");
        assert_eq!(mode(&root.join(".incoming~")), 0o700, "umask {umask}");
    }
}

#[tokio::test]
async fn an_operators_own_root_keeps_its_mode_and_may_be_reached_by_a_link() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o750)).unwrap();
    symlink(&root, scratch.path().join("link")).unwrap();
    let store = DirectoryStore::create(&scratch.path().join("link")).await.unwrap();
    store.put("a", "x".into(), PutMode::CreateOnly).await.unwrap();
    assert_eq!(mode(&root), 0o750);
    assert_eq!(std::fs::read(root.join("a")).unwrap(), b"x");
}

#[tokio::test]
async fn links_below_the_root_are_never_followed() {
    let scratch = tempfile::tempdir().unwrap();
    let store = new_store(scratch.path()).await;
    let root = scratch.path().join("vault");
    let outside = scratch.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("object"), "secret").unwrap();
    store.put("real/folder/object", "x".into(), PutMode::CreateOnly).await.unwrap();

    symlink(outside.join("object"), root.join("real/leaf")).unwrap();
    symlink(outside.join("nothing"), root.join("real/dangling")).unwrap();
    symlink(&outside, root.join("linked")).unwrap();
    symlink(root.join("real"), root.join("inside")).unwrap();
    for name in ["real/leaf", "real/dangling", "linked/object", "linked/new", "inside/folder/object", "inside/folder/new"] {
        assert_eq!(kind(store.get(name, 100).await), StoreErrorKind::Foreign, "get {name}");
        assert_eq!(kind(store.head(name).await), StoreErrorKind::Foreign, "head {name}");
        for mode in [PutMode::CreateOnly, PutMode::Replace] {
            assert_eq!(kind(store.put(name, "y".into(), mode).await), StoreErrorKind::Foreign, "put {name}, {mode:?}");
        }
        assert_eq!(kind(store.delete(name).await), StoreErrorKind::Foreign, "delete {name}");
    }
    for prefix in ["linked/", "inside/folder/", "real/", ""] {
        assert_eq!(kind(store.list(prefix).try_collect::<Vec<_>>().await), StoreErrorKind::Foreign, "list {prefix}");
        assert_eq!(kind(store.list_folders(prefix).await), StoreErrorKind::Foreign, "list folders of {prefix}");
    }
    let error = store.list("real/").try_collect::<Vec<_>>().await.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("real/"), "the link is named");
    assert_eq!(names(&store, "real/folder/").await, ["real/folder/object"], "the rest is usable");

    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(std::fs::read(outside.join("object")).unwrap(), b"secret");
    assert!(root.join("real/leaf").is_symlink() && root.join("linked").is_symlink());
}

#[tokio::test]
async fn what_is_no_plain_file_is_foreign() {
    let scratch = tempfile::tempdir().unwrap();
    let store = new_store(scratch.path()).await;
    store.put("folder/object", "x".into(), PutMode::CreateOnly).await.unwrap();
    assert!(Command::new("mkfifo").arg(scratch.path().join("vault/pipe")).status().unwrap().success());
    for name in ["folder", "pipe"] {
        assert_eq!(kind(store.get(name, 100).await), StoreErrorKind::Foreign, "{name}");
        assert_eq!(kind(store.head(name).await), StoreErrorKind::Foreign, "{name}");
        assert_eq!(kind(store.put(name, "y".into(), PutMode::CreateOnly).await), StoreErrorKind::Foreign, "{name}");
        assert_eq!(kind(store.put(name, "y".into(), PutMode::Replace).await), StoreErrorKind::Foreign, "{name}");
        assert_eq!(kind(store.delete(name).await), StoreErrorKind::Foreign, "{name}");
    }
    // Below an object there is nothing, and nothing can be put.
    assert_eq!(store.head("folder/object/below").await.unwrap(), None);
    assert_eq!(kind(store.get("folder/object/below", 1).await), StoreErrorKind::NotFound);
    assert_eq!(kind(store.put("folder/object/below", "y".into(), PutMode::CreateOnly).await), StoreErrorKind::Foreign);
    assert_eq!(store.get("folder/object", 1).await.unwrap(), "x");
}

#[tokio::test]
async fn names_that_are_not_ours_are_passed_over() {
    let scratch = tempfile::tempdir().unwrap();
    let store = new_store(scratch.path()).await;
    store.put("a/object", "x".into(), PutMode::CreateOnly).await.unwrap();
    let root = scratch.path().join("vault");
    std::fs::create_dir(root.join("lost+found")).unwrap();
    std::fs::write(root.join("a/read me.txt"), "hello").unwrap();
    std::fs::create_dir(root.join("a/empty")).unwrap();
    assert_eq!(names(&store, "").await, ["a/object"]);
    assert_eq!(store.list_folders("").await.unwrap(), ["a"]);
    // A folder that holds more than ours stays.
    store.delete("a/object").await.unwrap();
    assert!(root.join("a/read me.txt").is_file());
}

#[tokio::test]
async fn a_missing_root_is_no_missing_object() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("vault");
    assert_eq!(kind(DirectoryStore::open(&root).await), StoreErrorKind::NoSuchStore);
    std::fs::write(scratch.path().join("file"), "").unwrap();
    assert_eq!(kind(DirectoryStore::open(&scratch.path().join("file")).await), StoreErrorKind::NoSuchStore);

    // Neither is one that was removed while it was in use.
    let store = new_store(scratch.path()).await;
    std::fs::remove_dir(&root).unwrap();
    assert_eq!(kind(store.get("a", 1).await), StoreErrorKind::NoSuchStore);
    assert_eq!(kind(store.head("a/b").await), StoreErrorKind::NoSuchStore);
    assert_eq!(kind(store.put("a/b", "x".into(), PutMode::CreateOnly).await), StoreErrorKind::NoSuchStore);
    assert_eq!(kind(store.delete("a/b").await), StoreErrorKind::NoSuchStore);
    assert_eq!(kind(store.list("").try_collect::<Vec<_>>().await), StoreErrorKind::NoSuchStore);
    assert_eq!(kind(store.list_folders("").await), StoreErrorKind::NoSuchStore);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_leaves_whole_objects_and_nothing_else() {
    let scratch = tempfile::tempdir().unwrap();
    let store = new_store(scratch.path()).await;
    for round in 0..12_usize {
        let mut child = process("put for ever", &scratch.path().join("vault")).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        // Eight puts are under way when it dies.
        let last_awaited = lines.by_ref().filter(|line| line.starts_with("stored ")).nth(round * 5).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let stored: Vec<_> = std::iter::once(last_awaited).chain(lines).collect();
        let listed = names(&store, "").await;
        for line in &stored {
            // The last line may be cut off.
            let Some(name) =
                line.strip_prefix("stored ").filter(|name| name.split('/').count() == 3 && line != stored.last().unwrap())
            else {
                continue;
            };
            assert!(listed.iter().any(|listed| listed == name), "{name} was stored");
        }
        for name in &listed {
            assert_eq!(store.get(name, 70_000).await.unwrap(), body_of(name), "{name} is whole");
            store.delete(name).await.unwrap();
        }
    }

    // What they were writing lies aside, and goes when it is old.
    let incoming = scratch.path().join("vault/.incoming~");
    std::fs::write(incoming.join("new"), "not old yet").unwrap();
    let week = SystemTime::now() - Duration::from_secs(7 * 24 * 3600);
    std::fs::File::create(incoming.join("old")).unwrap().set_modified(week).unwrap();
    for left in std::fs::read_dir(&incoming).unwrap().map(Result::unwrap).filter(|left| left.file_name() != "new") {
        std::fs::File::options().write(true).open(left.path()).unwrap().set_modified(week).unwrap();
    }
    drop(store);
    let store = new_store(scratch.path()).await;
    store.put("next", "x".into(), PutMode::CreateOnly).await.unwrap();
    let left: Vec<_> = std::fs::read_dir(&incoming).unwrap().map(|left| left.unwrap().file_name()).collect();
    assert_eq!(left, ["new"]);
    assert_eq!(names(&store, "").await, ["next"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_a_directory() {
    let scratch = tempfile::tempdir().unwrap();
    let store = new_store(scratch.path()).await;
    let children: Vec<_> = (0..3).map(|_| process("create and delete", &scratch.path().join("vault")).spawn().unwrap()).collect();
    let mut stored = Vec::new();
    for child in children {
        let id = child.id();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        stored.extend(text.lines().filter_map(|line| Some((line.strip_prefix("Stored ")?.parse::<u32>().unwrap(), id))));
    }
    stored.sort_unstable();
    assert_eq!(stored.iter().map(|(n, _)| *n).collect::<Vec<_>>(), (0..300).collect::<Vec<_>>(), "each is created once");
    for (n, id) in stored {
        assert_eq!(store.get(&format!("race/{n}/object"), 100).await.unwrap(), format!("{id} {n}"));
    }
    assert_eq!(store.list_folders("").await.unwrap(), ["race"]);
}
