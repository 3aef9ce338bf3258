//! `check` finds what would go wrong at night.

mod clusters;
mod host;
mod stores;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::Utc;
use tenure::{
    operation::check::{ClusterToCheck, Finding, Level, Report, Request, StoreToCheck, check},
    postgres::tools::Tools,
    store::{Location, Store, directory::DirectoryStore},
};

use crate::harness::{
    postgres::{bin, shared},
    site::Site,
};

/// A check of a site in which all is well.
async fn request(site: &Site) -> Request {
    let folder = site.folder();
    std::fs::write(folder.join("allowed_signers"), site.backup.vault.signers().text()).unwrap();
    std::fs::write(folder.join("worker"), site.backup.signer.to_openssh().unwrap().as_bytes()).unwrap();
    let (_, second) = tenure::seal::RecoveryIdentity::generate();
    Request {
        clusters: site.backup.clusters.iter().map(cluster).collect(),
        tools: Tools::new(Some(bin().display().to_string()), None),
        vault: directory(&folder.join("vault")).await,
        keyring: directory(&folder.join("keyring")).await,
        mirrors: Vec::new(),
        accept_single_keyring: true,
        recipients: vec![second.clone(), second],
        allowed_signers: folder.join("allowed_signers"),
        signing_keys: vec![("worker", folder.join("worker"))],
        identity_places: vec![folder.to_owned()],
        keeps: vec!["6 months".parse().unwrap()],
        jobs: 4,
        approvals: std::collections::BTreeMap::new(),
        now: Utc::now(),
    }
}

fn cluster(cluster: &tenure::operation::fleet::Cluster) -> ClusterToCheck {
    ClusterToCheck {
        name: cluster.name.clone(),
        primary: Ok(cluster.target.clone()),
        rules: Ok(cluster.rules.clone()),
        replicas: Vec::new(),
        admin: None,
        loader: None,
        connections: cluster.connections,
    }
}

async fn directory(path: &Path) -> StoreToCheck {
    let store = DirectoryStore::open(path).await.unwrap();
    StoreToCheck {
        url: format!("file://{}", path.display()),
        location: Location::Directory(PathBuf::from(path)),
        store: Ok(Arc::new(store) as Arc<dyn Store>),
    }
}

/// The findings of a level, as `object: message`.
fn at(report: &Report, level: Level) -> Vec<String> {
    let findings = report.findings.iter().filter(|finding| finding.level == level);
    findings.map(|Finding { object, message, .. }| format!("{object}: {message}")).collect()
}

/// The one finding that says so. Every warning and error has a hint, which is looked at too.
#[track_caller]
fn the<'a>(report: &'a Report, level: Level, words: &str) -> &'a Finding {
    let said = |finding: &&Finding| {
        // How full the disk below the tests is says nothing about them.
        let of_the_host = finding.message.contains("are free on its disk") && !words.contains("free on its disk");
        finding.level == level
            && !of_the_host
            && format!("{}: {} ({})", finding.object, finding.message, finding.hint.as_deref().unwrap_or("")).contains(words)
    };
    let found: Vec<&Finding> = report.findings.iter().filter(said).collect();
    assert_eq!(found.len(), 1, "{level:?} {words:?} in {:#?}", report.findings);
    assert!(level == Level::Ok || found[0].hint.as_ref().is_some_and(|hint| !hint.is_empty()));
    found[0]
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_is_well_only_the_trial_setup_is_warned_of() {
    let site = Site::new().await;
    site.database("acme");
    let mut request = request(&site).await;
    request.clusters[0].rules.as_mut().unwrap().ignore = others(&site);
    let report = check(&request).await;
    assert_eq!(at(&report, Level::Error), Vec::<String>::new());
    // The programs here may be older than they should be, and another test may have made a database meanwhile.
    let elsewhere = |warning: &String| {
        ["CVE-", "databases that no rule makes a tenant", "restores that did not end", "are free on its disk"]
            .iter()
            .any(|words| warning.contains(words))
    };
    let warnings: Vec<_> = at(&report, Level::Warning).into_iter().filter(|warning| !elsewhere(warning)).collect();
    assert_eq!(warnings.len(), 4, "{warnings:#?}");
    the(&report, Level::Warning, "role postgres is a superuser");
    the(&report, Level::Warning, "are on the same disk");
    the(&report, Level::Warning, "a directory cannot keep the one who writes keys from");
    the(&report, Level::Warning, "a directory cannot keep the one who writes backups from");
    for words in [
        "answers as postgres, PostgreSQL",
        "1 tenant found",
        "may read everything in 1 of 1 databases",
        "may sign manifests",
        "recovery identity: none",
    ] {
        the(&report, Level::Ok, words);
    }
    // Nothing of it stays behind.
    for name in ["vault", "keyring"] {
        let store = DirectoryStore::open(&site.folder().join(name)).await.unwrap();
        let left: Vec<_> = futures_util::TryStreamExt::try_collect(store.list("probe/")).await.unwrap();
        assert_eq!(left, []);
    }
}

/// Databases of other tests.
fn others(site: &Site) -> Vec<String> {
    let all = shared().sql("postgres", "SELECT datname FROM pg_database WHERE NOT datistemplate");
    all.lines().filter(|name| *name != site.name("acme")).map(str::to_owned).collect()
}
