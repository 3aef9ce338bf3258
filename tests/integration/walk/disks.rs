//! Disks that are full.

use std::process::{Command, Stdio};

use crate::harness::{
    postgres::{Cluster, Options, quoted},
    program::Program,
};

/// In a mount namespace of its own: what is in a folder of the installation moves to a disk of so many KiB, `tenure` runs, and what is there
/// then comes back. `$1` is the folder, `$2` the size; the rest is the command.
const ON_A_SMALL_DISK: &str = r#"set -e
    place=$1 size=$2; shift 2
    mv "$place" "$place.big"
    mkdir "$place"
    mount -t tmpfs -o "size=${size}k" none "$place"
    cp -a "$place.big/." "$place/"
    set +e; "$@"; code=$?; set -e
    rm -rf "$place.big"; cp -a "$place" "$place.big"; umount "$place"; rmdir "$place"; mv "$place.big" "$place"
    exit $code"#;

fn on_a_small_disk(program: &Program, place: &str, kilobytes: u32, arguments: &[&str]) -> (i32, serde_json::Value) {
    let tenure = program.command(arguments);
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", ON_A_SMALL_DISK, "sh"]);
    command.arg(program.path(place)).arg(kilobytes.to_string()).arg(tenure.get_program()).args(tenure.get_args());
    let output = command.current_dir(program.folder()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let document = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), document)
}

/// Vault and keyring on disks of every size: the backup is whole, or there is none and the disk is told.
#[test]
fn of_a_vault_and_a_keyring() {
    let server = Cluster::start(&Options::default());
    server.create_database("tenant_acme");
    server.sql("tenant_acme", "CREATE TABLE t AS SELECT n, gen_random_uuid() AS u FROM generate_series(1, 20000) n");
    let (mut full, mut done) = (0, 0);
    for (place, sizes) in [("vault", &[24, 64, 128, 256, 512, 768, 1024, 1100, 8192][..]), ("keyring", &[8, 12, 16, 24])] {
        for kilobytes in sizes {
            let case = format!("{place} of {kilobytes} KiB");
            let program = Program::set_up(&server, "tenant_{tenant}");
            let (code, document) = on_a_small_disk(&program, place, *kilobytes, &["backup", "--all", "--json"]);
            let listed = |document: &serde_json::Value| document["backups"].as_array().map_or(0, Vec::len);
            let (listed_code, list) = program.run(&["list", "acme"]);
            if code == 0 {
                done += 1;
                assert_eq!((listed_code, listed(&list)), (0, 1), "{case}: {document:#}");
            } else {
                full += 1;
                // Not so much as the folder for it fits: then the command fails as a whole.
                let error =
                    if document["results"][0].is_object() { &document["results"][0]["error"] } else { &document["error"] };
                assert_eq!((code, error["object"].is_string()), (1, true), "{case}: {document:#}");
                let message = error["message"].as_str().unwrap();
                assert!(message.contains("no space left") && message.contains(place), "{case}: {document:#}");
                assert_eq!(listed(&list), 0, "{case}: {list:#}");
            }
            program.done(&["verify", "--all", "--identity", "recovery-kit.txt"]);
            program.done(&["keys", "check", "--identity", "recovery-kit.txt"]);
            program.done(&["backup", "--all"]);
            program.done(&["verify", "--all", "--identity", "recovery-kit.txt"]);
        }
    }
    assert!(full >= 5 && done >= 5, "{full} were full, {done} were not");
    super::walked_through(full, "backups on a full disk");
}

/// The server cannot write any more while it is restored to: what is there is as it was, and nothing is left.
#[test]
fn of_a_server() {
    let server = Cluster::start(&Options::default());
    server.create_database("tenant_acme");
    server.sql(
        "tenant_acme",
        "CREATE TABLE t AS SELECT n, repeat(md5(n::text), 30) AS s FROM generate_series(1, 40000) n; CREATE INDEX ON t (s)",
    );
    let program = Program::set_up(&server, "tenant_{tenant}");
    program.done(&["backup", "--all"]);
    let postmaster = std::fs::read_to_string(server.data().join("postmaster.pid")).unwrap();
    let postmaster = postmaster.lines().next().unwrap();
    // By the server itself, whose user may.
    let largest_file = |bytes: &str| {
        server.sql(
            "postgres",
            &format!("COPY (SELECT 1) TO PROGRAM 'cat > /dev/null; prlimit --pid {postmaster} --fsize={bytes}:'"),
        );
    };
    let names = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database";
    let (before, restore) =
        (server.sql("postgres", names), ["restore", "acme", "--identity", "recovery-kit.txt", "--into", "copy"]);
    // Enough for a segment of the log, and not for the table.
    largest_file("20971520");
    let error = program.refused(1, &restore);
    largest_file("unlimited");
    assert_eq!(error["kind"], "server-refused", "{error:#}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("COPY public.t") && message.contains("could not extend file"), "{message}");
    assert!(error["hint"].as_str().unwrap().contains("The target is as it was."), "{error:#}");
    assert_eq!(server.sql("postgres", names), before);
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tenure%'").trim(), "0");
    program.done(&restore);
    server.sql("postgres", &format!("DROP DATABASE {}", quoted("copy")));
}
