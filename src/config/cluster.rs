//! `[cluster.NAME]`: a primary, its replicas, and which of its databases are tenants.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    duration::Span,
    error::ConfigError,
    place::{Places, Step},
};

/// One `[cluster.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a table: [cluster.NAME]")]
pub struct Cluster {
    /// libpq's description of a connection to the primary. A `dbname` in it is the maintenance database.
    pub primary: String,
    /// The same for each streaming replica.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<String>,
    /// Databases that are tenants: a name with `{tenant}` in it once, like `tenant_{tenant}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub databases: Option<String>,
    /// Schemas that are tenants. Not built yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemas: Option<String>,
    /// SQL that returns the columns `database` and `tenant`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Databases that are known not to be tenants, and so are not reported as unassigned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// Connections to this cluster at once. 8 by default; each tenant in work needs at least 4.
    #[serde(default = "connections")]
    pub connections: u32,
    /// Description of the connection that restores create databases and roles by. Default: `primary`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// Description of the connection that restores load rows by, a role without superuser. Default: a temporary role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loader: Option<String>,
    /// A program and its arguments that print a password, run before each connection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub password_command: Vec<String>,
    /// Which server backups are read from. Only `primary` is built.
    #[serde(default)]
    pub source: ReadFrom,
    /// How long a drop waits for a replica to replay it.
    #[serde(default = "replica_wait")]
    pub replica_wait: Span,
    /// Roles that tenure connects as anywhere; default: the one it connects as. A tenant lock held by another role is not ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// Which server backups are read from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReadFrom {
    /// The primary.
    #[default]
    Primary,
    /// A replica. Not built yet.
    Replica,
}

/// The lock's session, the snapshot's, a reader's and `pg_dump`'s.
pub const FEWEST_CONNECTIONS: u32 = 4;

fn connections() -> u32 {
    8
}

fn replica_wait() -> Span {
    Span::from_secs(20)
}

pub(super) fn check(clusters: &BTreeMap<String, Cluster>, places: &Places<'_>) -> Result<(), ConfigError> {
    let mut primaries = BTreeMap::new();
    for (name, cluster) in clusters {
        let at = |key| [Step::Key("cluster"), Step::Key(name), Step::Key(key)];
        if name.is_empty()
            || name.len() > 63
            || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        {
            return Err(places.refuse(
                &["cluster".into(), name.as_str().into()],
                format!("`{}` is not a name for a cluster", crate::printable::Printable(name)),
                "use up to 63 letters, digits, `-`, `_` and `.`",
            ));
        }
        one(name, cluster, places)?;
        if let Some(other) = primaries.insert(cluster.primary.as_str(), name) {
            let message = format!("clusters {other} and {name} have the same primary: each tenant would be there twice");
            return Err(places.refuse(&at("primary"), message, "keep one of the two"));
        }
    }
    Ok(())
}

fn one(name: &str, cluster: &Cluster, places: &Places<'_>) -> Result<(), ConfigError> {
    let at = |key| [Step::Key("cluster"), Step::Key(name), Step::Key(key)];
    let rules =
        [("databases", cluster.databases.is_some()), ("schemas", cluster.schemas.is_some()), ("query", cluster.query.is_some())];
    let given: Vec<&str> = rules.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    match given[..] {
        [] => {
            let message = format!("cluster {name} does not say which databases are tenants");
            return Err(places.refuse(&at("primary")[..2], message, "add `databases = \"tenant_{tenant}\"`, or a `query`"));
        }
        [_] => {}
        [first, second, ..] => {
            let message = format!("cluster {name} has both `{first}` and `{second}`");
            return Err(places.refuse(&at(second), message, "one rule says which databases are tenants: keep one of them"));
        }
    }
    if cluster.schemas.is_some() {
        return Err(places.not_built(&at("schemas"), "backing up schemas as tenants", "use `databases` or `query`"));
    }
    if let Some(pattern) = &cluster.databases
        && pattern.matches("{tenant}").count() != 1
    {
        let message = format!("`{pattern}` does not say where the tenant's name stands");
        return Err(places.refuse(&at("databases"), message, "write {tenant} in it exactly once, like \"tenant_{tenant}\""));
    }
    if cluster.source == ReadFrom::Replica {
        return Err(places.not_built(
            &at("source"),
            "reading backups from a replica",
            "remove the line: backups read from the primary",
        ));
    }
    if cluster.connections < FEWEST_CONNECTIONS {
        let message =
            format!("cluster {name} may have {} connections, and one tenant needs {FEWEST_CONNECTIONS}", cluster.connections);
        return Err(places.refuse(&at("connections"), message, format!("use {FEWEST_CONNECTIONS} or more; 8 is the default")));
    }
    if cluster.password_command.first().is_some_and(String::is_empty) {
        let message = format!("the password_command of cluster {name} has no program");
        return Err(places.refuse(&at("password_command"), message, "write a list of a program and its arguments"));
    }
    let descriptions =
        [("primary", Some(&cluster.primary)), ("admin", cluster.admin.as_ref()), ("loader", cluster.loader.as_ref())];
    let descriptions = descriptions.into_iter().filter_map(|(key, text)| Some((key, text?)));
    for (key, text) in descriptions.chain(cluster.replicas.iter().map(|text| ("replicas", text))) {
        if has_password(text) {
            return Err(places.refuse(
                &at(key),
                format!("`{key}` of cluster {name} holds a password"),
                "secrets stay out of this file: use ~/.pgpass, passfile=FILE, PGPASSWORD or password_command",
            ));
        }
    }
    Ok(())
}

/// Whether a libpq description has a password in it, in either of its two forms.
fn has_password(description: &str) -> bool {
    let key_value = description.match_indices("password").any(|(at, word)| {
        let starts = description[..at].chars().next_back().is_none_or(|c| c.is_whitespace() || matches!(c, '?' | '&'));
        starts && description[at + word.len()..].trim_start().starts_with('=')
    });
    let login = ["postgresql://", "postgres://"].iter().find_map(|scheme| description.strip_prefix(scheme)).and_then(|rest| {
        let authority = rest.split(['/', '?']).next()?;
        authority.rsplit_once('@').map(|(login, _)| login)
    });
    key_value || login.is_some_and(|login| login.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::has_password;

    #[test]
    fn passwords_are_seen_in_both_forms() {
        for with in ["host=a password=x", "password = 'x y'", "postgres://u:p@h/db", "postgresql://u@h/db?password=x"] {
            assert!(has_password(with), "{with}");
        }
        for without in
            ["host=a passfile=/x user=sslpassword", "postgres://u@h:5432/db", "service=eu1", "postgres:///db?host=/a:b@c"]
        {
            assert!(!has_password(without), "{without}");
        }
    }
}
