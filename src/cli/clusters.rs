//! The configured clusters, as operations take them.

use std::{collections::BTreeMap, env, path::PathBuf};

use crate::{
    config::{Config, cluster},
    operation::{
        failure::{Failure, FailureClass},
        fleet::Cluster,
    },
    postgres::{
        LibpqEnvironment, Target,
        discover::{Rule, Rules},
        tools::Tools,
    },
};

/// Everything that libpq would take from the environment.
#[must_use]
pub fn libpq_environment() -> LibpqEnvironment {
    let variables: BTreeMap<String, String> = env::vars().filter(|(name, _)| name.starts_with("PG")).collect();
    LibpqEnvironment { home: env::var_os("HOME").map(PathBuf::from), user: whoami::username(), variables }
}

/// Resolves every cluster of the configuration.
///
/// # Errors
/// A description that libpq would not understand, or that asks for something that cannot be honoured.
pub fn clusters(config: &Config) -> Result<Vec<Cluster>, Failure> {
    let environment = libpq_environment();
    config.cluster.iter().map(|(name, cluster)| resolve(name, cluster, &environment)).collect()
}

/// PostgreSQL's own programs, where the configuration and the search path say.
#[must_use]
pub fn tools(config: &Config) -> Tools {
    Tools::new(config.postgres.bin.clone(), env::var_os("PATH"))
}

fn resolve(name: &str, cluster: &cluster::Cluster, environment: &LibpqEnvironment) -> Result<Cluster, Failure> {
    let rule = match (&cluster.databases, &cluster.query) {
        (Some(pattern), _) => Rule::Databases(pattern.parse().map_err(|error| {
            Failure::new(FailureClass::Usage, "configuration", name, format!("cluster.{name}.databases cannot be used"))
                .hint("Write {tenant} in it exactly once, like \"tenant_{tenant}\".")
                .because(error)
        })?),
        (None, query) => Rule::Query(query.clone().unwrap_or_default()),
    };
    Ok(Cluster {
        name: name.to_owned(),
        target: target(&format!("cluster.{name}.primary"), &cluster.primary, &cluster.password_command, environment)?,
        rules: Rules { rule, ignore: cluster.ignore.clone() },
        roles: cluster.roles.clone(),
        connections: cluster.connections,
    })
}

/// Resolves one description; `key` is where it stands.
///
/// # Errors
/// A description that libpq would not understand, or that asks for something that cannot be honoured.
pub fn target(
    key: &str,
    description: &str,
    password_command: &[String],
    environment: &LibpqEnvironment,
) -> Result<Target, Failure> {
    let target = Target::parse(description, environment).map_err(|error| {
        Failure::new(FailureClass::Usage, "configuration", key, format!("{key} cannot be used"))
            .hint("It is one libpq connection description, like `service=eu1` or `host=db1 user=tenure`.")
            .because(error)
    })?;
    Ok(if password_command.is_empty() { target } else { target.with_password_command(password_command.to_vec()) })
}
