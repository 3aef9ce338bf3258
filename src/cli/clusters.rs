//! The configured PostgreSQL servers, as operations want them.

use std::collections::BTreeMap;

use crate::{
    config::{Config, cluster::Cluster as Configured, limits::Limits},
    operation::{
        drop::Server,
        failure::{Failure, FailureClass},
        fleet::Cluster,
        restore::Destination,
    },
    postgres::{
        ConnInfoError, Target,
        conninfo::LibpqEnvironment,
        discover::{Rule, Rules},
        silence::Patience,
        tools::Tools,
    },
};

/// What libpq would look at besides the description.
#[must_use]
pub fn libpq_environment() -> LibpqEnvironment {
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    LibpqEnvironment::new(std::env::var_os("HOME").map(Into::into), whoami::username(), variables)
}

/// Resolves one description of a cluster, with its password command. `limits` says how long silence is borne.
///
/// # Errors
/// What libpq would not understand, or what we cannot honour.
pub fn target(
    configured: &Configured,
    limits: &Limits,
    description: &str,
    environment: &LibpqEnvironment,
) -> Result<Target, ConnInfoError> {
    let patience = Patience { silence: limits.silence.get(), ..Patience::default() };
    let target = Target::parse(description, environment)?.with_patience(patience);
    Ok(match &configured.password_command[..] {
        [] => target,
        command => target.with_password_command(command.to_vec()),
    })
}

/// Every cluster, for backups and discovery.
///
/// # Errors
/// A description or a rule that is wrong.
pub fn fleet(config: &Config) -> Result<Vec<Cluster>, Failure> {
    let environment = libpq_environment();
    let clusters = config.cluster.iter().map(|(name, configured)| {
        Ok(Cluster {
            name: name.clone(),
            target: resolve(name, "primary", configured, &config.limits, &configured.primary, &environment)?,
            rules: rules(name, configured)?,
            roles: configured.roles.clone(),
            connections: configured.connections,
        })
    });
    let clusters: Vec<Cluster> = clusters.collect::<Result<_, Failure>>()?;
    if clusters.is_empty() {
        return Err(Failure::new(FailureClass::Usage, "configuration", "cluster", "the configuration names no cluster")
            .hint("add a [cluster.NAME] with `primary` and `databases`"));
    }
    Ok(clusters)
}

/// Every cluster, for restores.
///
/// # Errors
/// A description or a rule that is wrong.
pub fn destinations(config: &Config) -> Result<BTreeMap<String, Destination>, Failure> {
    let environment = libpq_environment();
    let destinations = config.cluster.iter().map(|(name, configured)| {
        let admin = configured.admin.as_ref().unwrap_or(&configured.primary);
        let loader = configured.loader.as_ref();
        let destination = Destination {
            name: name.clone(),
            admin: resolve(name, "admin", configured, &config.limits, admin, &environment)?,
            loader: loader.map(|loader| resolve(name, "loader", configured, &config.limits, loader, &environment)).transpose()?,
            rules: rules(name, configured)?,
            roles: configured.roles.clone(),
            connections: configured.connections,
        };
        Ok((name.clone(), destination))
    });
    destinations.collect()
}

/// Every cluster, for drops: by `admin`, or by `primary` where there is none.
///
/// # Errors
/// A description that is wrong.
pub fn servers(config: &Config) -> Result<Vec<Server>, Failure> {
    let environment = libpq_environment();
    let servers = config.cluster.iter().map(|(name, configured)| {
        let admin = configured.admin.as_ref().unwrap_or(&configured.primary);
        let resolve = |key: &str, text: &str| resolve(name, key, configured, &config.limits, text, &environment);
        Ok(Server {
            name: name.clone(),
            admin: resolve("admin", admin)?,
            replicas: configured.replicas.iter().map(|replica| resolve("replicas", replica)).collect::<Result<_, _>>()?,
            replica_wait: configured.replica_wait.get(),
        })
    });
    servers.collect()
}

/// Where PostgreSQL's programs are looked for.
#[must_use]
pub fn tools(config: &Config) -> Tools {
    let bin = config.postgres.bin.as_ref().map(|bin| config.path(bin.as_ref()).display().to_string());
    Tools::new(bin, std::env::var_os("PATH"))
}

/// A cluster's name that the configuration has.
///
/// # Errors
/// It has no such cluster.
pub fn named(config: &Config, name: String) -> Result<String, Failure> {
    if config.cluster.contains_key(&name) {
        return Ok(name);
    }
    let known: Vec<&str> = config.cluster.keys().map(String::as_str).collect();
    Err(Failure::new(FailureClass::Usage, "unknown-cluster", &name, format!("the configuration has no cluster `{name}`"))
        .hint(format!("it has {}", known.join(", "))))
}

fn resolve(
    name: &str,
    key: &str,
    configured: &Configured,
    limits: &Limits,
    description: &str,
    environment: &LibpqEnvironment,
) -> Result<Target, Failure> {
    target(configured, limits, description, environment).map_err(|error| {
        let key = format!("cluster.{name}.{key}");
        Failure::new(FailureClass::Usage, "configuration", &key, format!("`{key}` cannot be used"))
            .hint("it is a connection description as `psql` takes it: key=value words, or a postgresql:// address")
            .because(error)
    })
}

/// How a cluster's tenants are found.
///
/// # Errors
/// A pattern that is wrong.
pub fn rules(name: &str, configured: &Configured) -> Result<Rules, Failure> {
    let rule = match (&configured.databases, &configured.query) {
        (Some(pattern), _) => Rule::Databases(pattern.parse().map_err(|error| {
            let key = format!("cluster.{name}.databases");
            Failure::new(FailureClass::Usage, "configuration", &key, format!("`{key}` cannot be used")).because(error)
        })?),
        (None, query) => Rule::Query(query.clone().unwrap_or_default()),
    };
    Ok(Rules { rule, ignore: configured.ignore.clone() })
}
