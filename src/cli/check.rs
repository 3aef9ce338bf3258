//! `tenure check`.

use std::path::PathBuf;

use super::{
    clusters::{libpq_environment, rules, target, tools},
    edge::{Edge, Ended},
    stores,
    table::count,
};
use crate::{
    config::{
        Config,
        store::{Opening, Role},
    },
    operation::{
        check::{ClusterToCheck, Level, Report, Request, StoreToCheck, check},
        failure::{Failure, FailureClass},
    },
};

pub(super) async fn run(edge: &Edge) -> Result<Ended, Failure> {
    let config = edge.config()?;
    let report = check(&request(&config, edge).await).await;
    edge.output.report("check", &report, |report| text(report, edge.global.quiet))?;
    Ok(Ended { worst: (report.errors > 0).then_some(FailureClass::Failed) })
}

async fn request(config: &Config, edge: &Edge) -> Request {
    let mut mirrors = Vec::new();
    for mirror in &config.keyring.mirrors {
        mirrors.push(store(&mirror.opening(Role::Writer), config).await);
    }
    let signing = &config.signing;
    let keys = [
        ("worker", &signing.worker),
        ("operator", &signing.operator),
        ("eraser", &signing.eraser),
        ("janitor", &signing.janitor),
        ("restorer", &signing.restorer),
    ];
    Request {
        clusters: clusters(config),
        tools: tools(config),
        vault: StoreToCheck {
            store: stores::open_vault(config, Role::Writer).await,
            ..store(&config.vault.opening(Role::Writer), config).await
        },
        keyring: store(&config.keyring.opening(Role::Writer), config).await,
        mirrors,
        accept_single_keyring: config.keyring.accept_single_keyring,
        recipients: config.keyring.recipients.clone(),
        allowed_signers: config.path(&signing.allowed_signers),
        signing_keys: keys.into_iter().filter_map(|(role, path)| Some((role, config.path(path.as_ref()?)))).collect(),
        identity_places: identity_places(config),
        keeps: config.policy.iter().map(|policy| policy.keep).collect(),
        jobs: config.limits.jobs,
        approvals: config.approvals.0.clone(),
        now: edge.now(),
    }
}

fn clusters(config: &Config) -> Vec<ClusterToCheck> {
    let environment = libpq_environment();
    let clusters = config.cluster.iter().map(|(name, cluster)| {
        let resolve = |description: &String| target(cluster, &config.limits, description, &environment);
        ClusterToCheck {
            name: name.clone(),
            primary: resolve(&cluster.primary),
            rules: rules(name, cluster),
            replicas: cluster.replicas.iter().map(resolve).collect(),
            admin: cluster.admin.as_ref().map(resolve),
            loader: cluster.loader.as_ref().map(resolve),
            connections: cluster.connections,
        }
    });
    clusters.collect()
}

async fn store(opening: &Opening<'_>, config: &Config) -> StoreToCheck {
    StoreToCheck {
        url: opening.url.to_string(),
        location: stores::location(opening, &config.folder),
        store: stores::open(opening, &config.folder).await,
    }
}

/// Where an identity often lies by mistake: beside the configuration, and where age and its friends keep theirs.
fn identity_places(config: &Config) -> Vec<PathBuf> {
    let folder = if config.folder.as_os_str().is_empty() { PathBuf::from(".") } else { config.folder.clone() };
    let mut places = vec![folder.join("keys"), folder];
    if let Some(home) = std::env::var_os("HOME").map(PathBuf::from) {
        places.extend([".age", ".config/age", ".config/sops/age"].map(|name| home.join(name)));
        places.push(home);
    }
    places.extend(["SOPS_AGE_KEY_FILE", "AGE_IDENTITY"].iter().filter_map(std::env::var_os).map(PathBuf::from));
    places
}

fn text(report: &Report, quiet: bool) -> String {
    let mut text = String::new();
    for finding in report.findings.iter().filter(|finding| !quiet || finding.level != Level::Ok) {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        text.push_str(&format!("{level:<8} {}: {}\n", finding.object, finding.message));
        if let Some(hint) = &finding.hint {
            text.push_str(&format!("         hint: {hint}\n"));
        }
    }
    text.push_str(&match (report.errors, report.warnings) {
        (0, 0) => "ready for the night\n".to_owned(),
        (0, warnings) => format!("ready for the night, with {}\n", count(warnings.into(), "warning")),
        (errors, warnings) => {
            format!("not ready: {}, {}\n", count(errors.into(), "error"), count(warnings.into(), "warning"))
        }
    });
    text
}
