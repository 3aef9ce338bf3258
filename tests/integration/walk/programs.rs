//! Every child process.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use tenure::postgres::{silence::Patience, tools::Tools};

use super::*;
use crate::{
    harness::postgres::{Options, unique},
    restore::copy,
};

/// A folder with a `program` that is the real one, but for what it does when it is run for the `nth` time; and where it counts.
fn fake(site: &Site, program: &str, nth: usize, instead: &str) -> (Arc<Tools>, PathBuf) {
    let (bin, count) = (site.folder().join("bin"), site.folder().join("count"));
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::remove_file(&count).ok();
    let real = site.cluster.programs().join(program);
    let instead = instead.replace("REAL", &format!("{} \"$@\"", real.display()));
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exec {real} --version\nprintf x >> {count}\n[ $(/usr/bin/wc -c < {count}) = {nth} ] && {{ {instead}\n}}\nexec {real} \"$@\"\n",
        real = real.display(),
        count = count.display(),
    );
    let path = bin.join(program);
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (Arc::new(Tools::new(Some(bin.display().to_string()), None)), count)
}

/// The site with these programs, and little patience for servers that see nobody at work.
fn impatient(site: &Site, tools: Arc<Tools>) -> Backup {
    let mut backup = Backup { tools, ..site.backup.clone() };
    let patience = Patience { silence: Duration::from_secs(1), ..Patience::default() };
    let target = &mut backup.clusters[0].target;
    *target = target.clone().with_patience(patience);
    backup
}

fn runs(count: &Path) -> usize {
    std::fs::read(count).map_or(0, |counted| counted.len())
}

/// Vault and keyring only: the programs lie beside them.
fn stored(site: &Site) -> Content {
    content(site.folder()).into_iter().filter(|(name, _)| name.starts_with("vault/") || name.starts_with("keyring/")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_backup() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    server.sql(&site.database("acme"), ROWS);
    let before = stored(&site);
    let mut walked = 0;
    for instead in [
        "exit 1",
        "REAL | /usr/bin/head -c 300; exit 1",
        "REAL; exit 1",
        "REAL | /usr/bin/head -c 300; kill -9 $$",
        "REAL; kill -TERM $$",
        "/usr/bin/head -c 5000 /dev/urandom; exit 0",
        "exit 0",
        // Behind its header, and of its very last byte: it says that all went well.
        "REAL | /usr/bin/head -c 1500; exit 0",
        "REAL | /usr/bin/head -c -1; exit 0",
        "exec /bin/sleep 1000",
        "REAL | /usr/bin/head -c 1500; exec /bin/sleep 1000",
    ] {
        let (tools, count) = fake(&site, "pg_dump", 1, instead);
        let report = tokio::time::timeout(PATIENT, back_up(impatient(&site, tools))).await.expect(instead).unwrap();
        assert!(report.class.is_some() && runs(&count) == 1, "{instead}: {report:?}");
        walked += 1;
        let after = stored(&site);
        assert!(!after.keys().any(|name| name.contains("/b/")), "{instead}");
        assert!(site.verify(true).await.problems.is_empty(), "{instead}");
        outcome(&site.all().await).unwrap_or_else(|said| panic!("{instead}: next: {said}"));
        set(site.folder(), &before);
    }
    walked_through(walked, "runs of pg_dump");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_restore() {
    let server: &'static Cluster = Box::leak(Box::new(Cluster::start(&Options::default())));
    let site = Site::on(server).await;
    server.sql(&site.database("acme"), ROWS);
    outcome(&site.all().await).unwrap();
    let request = copy("acme", &unique("walked"));
    let run = async |tools: Arc<Tools>| restore(&site, &impatient(&site, tools), &request).await;
    let (tools, count) = fake(&site, "pg_restore", 0, ":");
    tidy(&site, &run(tools).await.unwrap());
    let (all, live) = (runs(&count), live(&site));
    let ways =
        ["exit 1", "REAL; exit 1", "kill -9 $$", "REAL; kill -TERM $$", "echo \"$$ \\0377\" >&2; exit 3", "exec /bin/sleep 1000"];
    let mut walked = 0;
    for nth in 1..=all {
        for (which, instead) in ways.iter().enumerate() {
            if !every() && (which + nth) % 2 == 0 {
                continue;
            }
            let case = format!("run {nth} of {all}: {instead}");
            let (tools, count) = fake(&site, "pg_restore", nth, instead);
            let before = stored(&site);
            let ended = tokio::time::timeout(PATIENT, run(tools)).await.expect(&case);
            let failure = ended.err().unwrap_or_else(|| panic!("{case}: it went on"));
            assert!(runs(&count) >= nth, "{case}: {failure:?}");
            walked += 1;
            assert_eq!(left(server), "", "{case}: {failure:?}");
            assert_eq!(super::live(&site), live, "{case}");
            assert!(before.iter().all(|(name, bytes)| stored(&site).get(name) == Some(bytes)), "{case}");
        }
    }
    assert!(site.verify(true).await.problems.is_empty());
    tidy(&site, &run(site.backup.tools.clone()).await.unwrap());
    walked_through(walked, "runs of pg_restore");
}
