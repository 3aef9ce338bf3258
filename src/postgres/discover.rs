//! Discovery: which databases of a cluster are tenants.

mod pattern;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use tokio_postgres::Row;

pub use pattern::{Pattern, PatternError};

use super::{
    ConnectError, Session, Target,
    session_settings::{NO_TIME_LIMITS, statements},
    silence::Silent,
};
use crate::tenant::TenantName;

/// Databases that tenure makes begin with this, and are never tenants.
pub const OWN_PREFIX: &str = "tenure_";

/// What makes a database a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Its name matches.
    Databases(Pattern),
    /// A query, run read-only in the maintenance database, returns two columns: database, tenant.
    Query(String),
}

/// How tenants are found on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What makes a database a tenant.
    pub rule: Rule,
    /// Names of databases that are nobody's.
    pub ignore: Vec<String>,
}

/// A database that is a tenant's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The tenant.
    pub tenant: TenantName,
    /// Its database.
    pub database: String,
    /// OID of the database.
    pub oid: u32,
    /// Bytes on the server's disk; `None` where the role may not ask.
    pub bytes: Option<u64>,
}

/// Why a tenant's database cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClosedBecause {
    /// It is a template.
    Template,
    /// `ALLOW_CONNECTIONS false`.
    ConnectionsNotAllowed,
    /// Its DROP was interrupted; only another DROP helps.
    Invalid,
    /// The query names it, and there is no such database.
    Missing,
}

impl fmt::Display for ClosedBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Template => "it is a template",
            Self::ConnectionsNotAllowed => "connections to it are not allowed",
            Self::Invalid => "it is what an interrupted DROP DATABASE left",
            Self::Missing => "there is no such database",
        })
    }
}

/// A database that the rule maps to a tenant, and that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The tenant.
    pub tenant: TenantName,
    /// The database.
    pub database: String,
    /// Its OID; `None` where there is no such database.
    pub oid: Option<u32>,
    /// Why not.
    pub because: ClosedBecause,
}

/// What a cluster holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// `pg_control_system()`'s identifier.
    pub system_identifier: u64,
    /// `server_version_num`.
    pub version_num: u32,
    /// Whether the server is a standby.
    pub in_recovery: bool,
    /// Tenants, sorted by name.
    pub found: Vec<Found>,
    /// Databases that match no rule and are not ignored, sorted. Templates, closed databases and the maintenance database are not listed.
    pub unassigned: Vec<String>,
    /// Names that several databases answer to, sorted; none of them is in `found`.
    pub ambiguous: Vec<(TenantName, Vec<String>)>,
    /// Tenants whose database cannot be read, sorted by tenant.
    pub closed: Vec<Closed>,
    /// Databases that tenure made, sorted.
    pub copies: Vec<String>,
    /// OIDs of databases that the configuration ignores: nobody misses a tenant there.
    pub ignored: BTreeSet<u32>,
}

/// A cluster that could not be looked through.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// No connection. Its source names the server.
    #[error("cannot look for tenants")]
    Connect {
        /// The server.
        endpoint: String,
        /// Why.
        #[source]
        source: Box<ConnectError>,
    },
    /// The list of databases could not be read.
    #[error("cannot list the databases of {endpoint}")]
    List {
        /// The server.
        endpoint: String,
        /// What the server or the connection said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The server is connected and does not answer.
    #[error("cannot look for tenants on {endpoint}")]
    Silent {
        /// The server.
        endpoint: String,
        /// For how long.
        #[source]
        source: Silent,
    },
    /// The configured query failed.
    #[error("the query that finds tenants on {endpoint} failed")]
    Query {
        /// The server.
        endpoint: String,
        /// What the server or the connection said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The configured query returns something else than database and tenant.
    #[error("the query that finds tenants on {endpoint} returns {columns} columns, not two: database, tenant")]
    Columns {
        /// The server.
        endpoint: String,
        /// How many it returns.
        columns: usize,
    },
    /// The configured query gave a tenant a name that cannot be one.
    #[error("the query that finds tenants on {endpoint} gives database {database:?} a tenant name that cannot be one")]
    Name {
        /// The server.
        endpoint: String,
        /// The database.
        database: String,
        /// Why not.
        #[source]
        source: crate::tenant::TenantNameError,
    },
}

/// A database as the cluster lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    oid: u32,
    name: String,
    closed: Option<ClosedBecause>,
    bytes: Option<u64>,
}

/// Looks through the databases of `target`. `copies` are the OIDs of databases that tenure made on this cluster, by its records, and the
/// tenant that each was made from: it is never another tenant, whatever it is called by now, and this one only by its name. They are
/// asked for by system identifier, because an OID means nothing without it.
///
/// # Errors
/// See [`DiscoverError`].
pub async fn discover(
    target: &Target,
    rules: &Rules,
    copies: impl Fn(u64) -> BTreeMap<u32, TenantName>,
) -> Result<Discovery, DiscoverError> {
    let endpoint = target.endpoint();
    let refused = |source| DiscoverError::Connect { endpoint: endpoint.clone(), source: Box::new(source) };
    let session = target.connect(target.maintenance_database(), "tenure").await.map_err(refused)?;
    // Everything that follows, here and by whoever asked, needs sessions that stay what they are.
    let asking = Asking { session: &session, endpoint: &endpoint };
    asking.promptly(session.refuse_pooler()).await?.map_err(refused)?;
    let failed = |source| DiscoverError::List { endpoint: endpoint.clone(), source };
    asking.list(session.batch_execute(&statements(&[&NO_TIME_LIMITS]))).await?;

    let sql = "SELECT (SELECT s.system_identifier FROM pg_catalog.pg_control_system() s), \
         pg_catalog.current_setting('server_version_num')::int4, pg_catalog.pg_is_in_recovery()";
    let row = asking.list(session.query_one(sql, &[])).await?;
    let system_identifier = row.try_get::<_, i64>(0).map_err(failed)?.cast_unsigned();
    let version_num = row.try_get::<_, i32>(1).map_err(failed)?.unsigned_abs();
    let in_recovery = row.try_get(2).map_err(failed)?;

    let listed = list(&asking).await?;
    let mapped = match &rules.rule {
        Rule::Databases(pattern) => listed
            .iter()
            // A part of a database's name is as short as a tenant's name may be, and has no NUL.
            .filter_map(|database| Some((database.name.clone(), pattern.tenant(&database.name)?.parse().ok()?)))
            .collect(),
        Rule::Query(query) => ask(&asking, query).await?,
    };
    let copies = copies(system_identifier);
    let answers_to = |database: &Listed, tenant: &TenantName| mapped.contains(&(database.name.clone(), tenant.clone()));
    let is_own = |database: &Listed| {
        database.name.starts_with(OWN_PREFIX) || copies.get(&database.oid).is_some_and(|tenant| !answers_to(database, tenant))
    };
    let (own, listed): (Vec<_>, Vec<_>) = listed.into_iter().partition(is_own);
    let ignored = listed.iter().filter(|database| rules.ignore.contains(&database.name)).map(|database| database.oid).collect();
    let own = own.into_iter().map(|database| database.name).collect::<Vec<_>>();
    let mut discovery = Discovery {
        system_identifier,
        version_num,
        in_recovery,
        found: Vec::new(),
        unassigned: Vec::new(),
        ambiguous: Vec::new(),
        closed: Vec::new(),
        copies: own,
        ignored,
    };
    discovery.assign(listed, mapped, target.maintenance_database(), &rules.ignore);
    Ok(discovery)
}

/// The session that looks. Every statement has a limit of its own: a fleet may be large, but no one of them takes long.
struct Asking<'a> {
    session: &'a Session,
    endpoint: &'a str,
}

impl Asking<'_> {
    async fn promptly<T>(&self, statement: impl Future<Output = T>) -> Result<T, DiscoverError> {
        let silent = |source| DiscoverError::Silent { endpoint: self.endpoint.to_owned(), source };
        self.session.promptly(Duration::ZERO, statement).await.map_err(silent)
    }

    async fn list<T>(&self, statement: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, DiscoverError> {
        self.promptly(statement).await?.map_err(|source| DiscoverError::List { endpoint: self.endpoint.to_owned(), source })
    }

    async fn query<T>(&self, statement: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, DiscoverError> {
        self.promptly(statement).await?.map_err(|source| DiscoverError::Query { endpoint: self.endpoint.to_owned(), source })
    }
}

async fn list(asking: &Asking<'_>) -> Result<Vec<Listed>, DiscoverError> {
    let Asking { session, endpoint } = *asking;
    let failed = |source| DiscoverError::List { endpoint: endpoint.to_owned(), source };
    // A database may be dropped between the list and the question for its size, which then fails as a whole: ask each by itself.
    let sql = "SELECT d.oid, d.datname::text, d.datistemplate, d.datallowconn, d.datconnlimit = -2, \
           pg_catalog.has_database_privilege(d.oid, 'CONNECT') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') \
         FROM pg_catalog.pg_database d ORDER BY d.datname COLLATE \"C\"";
    let size = asking.list(session.prepare("SELECT pg_catalog.pg_database_size($1::oid)")).await?;
    let mut listed = Vec::new();
    for row in asking.list(session.query(sql, &[])).await? {
        let flag = |at| row.try_get::<_, bool>(at).map_err(failed);
        let (template, open, invalid) = (flag(2)?, flag(3)?, flag(4)?);
        let closed = match (invalid, template, open) {
            (true, _, _) => Some(ClosedBecause::Invalid),
            (_, true, _) => Some(ClosedBecause::Template),
            (_, _, false) => Some(ClosedBecause::ConnectionsNotAllowed),
            _ => None,
        };
        let oid: u32 = row.try_get(0).map_err(failed)?;
        let may_ask = closed.is_none() && row.try_get::<_, Option<bool>>(5).map_err(failed)?.unwrap_or(false);
        let bytes = match may_ask {
            true => size_of(asking.promptly(session.query_opt(&size, &[&oid])).await?).map_err(failed)?,
            false => None,
        };
        listed.push(Listed { oid, name: row.try_get(1).map_err(failed)?, closed, bytes });
    }
    Ok(listed)
}

/// A database that went away meanwhile has no size.
fn size_of(answer: Result<Option<Row>, tokio_postgres::Error>) -> Result<Option<u64>, tokio_postgres::Error> {
    match answer {
        Ok(row) => {
            let bytes: Option<i64> = row.map(|row| row.try_get(0)).transpose()?.flatten();
            Ok(bytes.and_then(|bytes| u64::try_from(bytes).ok()))
        }
        Err(error) if error.code().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs the configured query. It is one statement that returns two columns, or it fails.
async fn ask(asking: &Asking<'_>, query: &str) -> Result<BTreeSet<(String, TenantName)>, DiscoverError> {
    let Asking { session, endpoint } = *asking;
    let failed = |source| DiscoverError::Query { endpoint: endpoint.to_owned(), source };
    let query = query.trim().trim_end_matches(';');
    let shape = format!("SELECT q.* FROM (\n{query}\n) AS q(database, tenant)");
    let sql = format!("SELECT q.database::text, q.tenant::text FROM (\n{query}\n) AS q(database, tenant)");
    // The query is the operator's own, written for a session as they know it.
    asking.query(session.batch_execute("BEGIN READ ONLY; SET LOCAL search_path TO DEFAULT")).await?;
    let columns = asking.query(session.prepare(&shape)).await?.columns().len();
    if columns != 2 {
        return Err(DiscoverError::Columns { endpoint: endpoint.to_owned(), columns });
    }
    let rows = asking.query(session.query(&sql, &[])).await?;
    asking.query(session.batch_execute("ROLLBACK")).await?;
    let mut mapped = BTreeSet::new();
    for row in rows {
        let (database, tenant): (Option<String>, Option<String>) =
            (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
        let (Some(database), Some(tenant)) = (database, tenant) else { continue };
        let tenant = TenantName::try_from(tenant).map_err(|source| DiscoverError::Name {
            endpoint: endpoint.to_owned(),
            database: database.clone(),
            source,
        })?;
        mapped.insert((database, tenant));
    }
    Ok(mapped)
}

impl Discovery {
    /// Every tenant that a database answers to by its name, closed or not.
    #[must_use]
    pub fn answers_to(&self, database: &str) -> Vec<TenantName> {
        let by_name = self.by_name().filter(|(_, name)| *name == database);
        by_name.map(|(tenant, _)| tenant.clone()).collect()
    }

    /// Every database that answers to a tenant, closed or not, by its name. What is not there is not among them.
    pub fn by_name(&self) -> impl Iterator<Item = (&TenantName, &str)> {
        let found = self.found.iter().map(|found| (&found.tenant, found.database.as_str()));
        let several = self.ambiguous.iter().flat_map(|(tenant, names)| names.iter().map(move |name| (tenant, name.as_str())));
        let closed = self.closed.iter().filter(|closed| closed.because != ClosedBecause::Missing);
        found.chain(several).chain(closed.map(|closed| (&closed.tenant, closed.database.as_str())))
    }

    /// Sorts `listed` into the lists. A database that the rule maps to two tenants makes both names ambiguous.
    fn assign(&mut self, listed: Vec<Listed>, mapped: BTreeSet<(String, TenantName)>, maintenance: &str, ignore: &[String]) {
        let listed: BTreeMap<String, Listed> = listed.into_iter().map(|database| (database.name.clone(), database)).collect();
        let mut tenants_of: BTreeMap<&str, usize> = BTreeMap::new();
        let mut databases_of: BTreeMap<&TenantName, Vec<&str>> = BTreeMap::new();
        for (database, tenant) in
            mapped.iter().filter(|(database, _)| !ignore.contains(database) && !self.copies.contains(database))
        {
            *tenants_of.entry(database).or_default() += 1;
            databases_of.entry(tenant).or_default().push(database);
        }
        for (name, database) in &listed {
            let nobodys = !tenants_of.contains_key(name.as_str()) && database.closed.is_none();
            if nobodys && name != maintenance && !ignore.contains(name) {
                self.unassigned.push(name.clone());
            }
        }
        for (tenant, databases) in databases_of {
            let [name] = databases[..] else {
                self.ambiguous.push((tenant.clone(), databases.into_iter().map(str::to_owned).collect()));
                continue;
            };
            if tenants_of[name] > 1 {
                self.ambiguous.push((tenant.clone(), vec![name.to_owned()]));
                continue;
            }
            let because = listed.get(name).map_or(Some(ClosedBecause::Missing), |database| database.closed);
            match (listed.get(name), because) {
                (Some(database), None) => self.found.push(Found {
                    tenant: tenant.clone(),
                    database: name.to_owned(),
                    oid: database.oid,
                    bytes: database.bytes,
                }),
                (listed, because) => {
                    let (oid, because) = (listed.map(|database| database.oid), because.unwrap_or(ClosedBecause::Missing));
                    self.closed.push(Closed { tenant: tenant.clone(), database: name.to_owned(), oid, because });
                }
            }
        }
    }
}
