//! What a restore makes before it is proven, and which of it no restore is at work on.
//!
//! A restore has a random id. Its database and its temporary login are named by it, and so is its session in the maintenance database, for
//! as long as it lives: everybody may see that, from whichever host the restore runs.

use tokio_postgres::Client;

use super::{
    discover, loader,
    statement::{Failed, StatementError},
};
use crate::id::RecordId;

/// How the session in the maintenance database is called; the restore's id follows.
const AT_WORK: &str = "tenure restore ";

/// What stands before the restore's id in the name of the login that only fills tables.
const FILLER: &str = "rows_";

/// The name of a restore's session in the maintenance database.
#[must_use]
pub fn session_name(restore: RecordId) -> String {
    format!("{AT_WORK}{restore}")
}

/// The name of a restore's database until it is proven.
#[must_use]
pub fn database_name(restore: RecordId) -> String {
    format!("{}{restore}", discover::OWN_PREFIX)
}

/// The name of a restore's temporary login: it has one for each owner, by number.
#[must_use]
pub fn login_name(restore: RecordId, number: usize) -> String {
    format!("{}{number}_{restore}", loader::PREFIX)
}

/// The name of the temporary login that only fills tables.
#[must_use]
pub fn filler_name(restore: RecordId) -> String {
    format!("{}{FILLER}{restore}", loader::PREFIX)
}

/// What restores left that are no longer at work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leftovers {
    /// Databases with their OIDs.
    pub databases: Vec<(String, u32)>,
    /// Temporary logins.
    pub logins: Vec<String>,
}

impl Leftovers {
    /// Looks for them.
    ///
    /// # Errors
    /// What the server says.
    pub async fn read(admin: &Client) -> Result<Self, StatementError> {
        let (what, whom) = ("looking for what earlier restores left on", "the server");
        let rows = admin
            .query(
                "SELECT l.name, l.oid FROM (
                     SELECT datname::text, oid FROM pg_catalog.pg_database WHERE datname ~ ('^' || $1 || '[0-9a-f]{32}$')
                      UNION ALL
                     SELECT rolname::text, NULL FROM pg_catalog.pg_roles WHERE rolname ~ ('^' || $2 || '(' || $4 || '|[0-9]+_)?[0-9a-f]{32}$')) AS l(name, oid)
                  WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a
                                     WHERE a.application_name = $3 || pg_catalog.right(l.name, 32)
                                        OR a.datname = l.name OR a.usename = l.name)
                  ORDER BY 1",
                &[&discover::OWN_PREFIX, &loader::PREFIX, &AT_WORK, &FILLER],
            )
            .await
            .failed(what, whom)?;
        let mut left = Self::default();
        for row in rows {
            let name = row.try_get(0).failed(what, whom)?;
            match row.try_get(1).failed(what, whom)? {
                Some(oid) => left.databases.push((name, oid)),
                None => left.logins.push(name),
            }
        }
        Ok(left)
    }

    /// Whether there are any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.databases.is_empty() && self.logins.is_empty()
    }

    /// The statements that remove them: the databases first, which hold the logins' rights.
    #[must_use]
    pub fn removal(&self) -> String {
        let databases = self.databases.iter().map(|(name, _)| format!("DROP DATABASE {name};"));
        databases.chain(self.logins.iter().map(|name| format!("DROP ROLE {name};"))).collect::<Vec<_>>().join(" ")
    }
}

/// Whether a restore other than this one is at work on the server.
///
/// # Errors
/// What the server says.
pub async fn others_at_work(admin: &Client, restore: RecordId) -> Result<bool, StatementError> {
    let (what, whom) = ("looking for other restores on", "the server");
    let row = admin
        .query_one(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_activity
              WHERE application_name ~ ('^' || $1 || '[0-9a-f]{32}$') AND application_name <> $2)",
            &[&AT_WORK, &session_name(restore)],
        )
        .await
        .failed(what, whom)?;
    row.try_get(0).failed(what, whom)
}
