//! The tenant's lock: a session advisory lock in the maintenance database of its primary.
//!
//! It is all the coordination between workers. It saves work; data safety rests on it only where a caller asks [`TenantLock::still_held`]
//! before each step.

use std::{fmt, time::Duration};

use sha2::{Digest as _, Sha256};
use tokio_postgres::{Row, error::SqlState};

use super::{
    ConnectError, Session, Target,
    session_settings::{NO_TIME_LIMITS, statements},
    silence::Silent,
    snapshot::Blocker,
};
use crate::{id::InstallationId, printable::Printable, tenant::TenantName};

/// How long a caller waits for somebody else's run to end.
pub const WAIT: Duration = Duration::from_secs(10);

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process on the server.
    pub pid: i32,
    /// Its role, where we may see it.
    pub role: Option<String>,
    /// Its address, where we may see it; local connections have none.
    pub address: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = self.role.as_deref().unwrap_or("(unknown)");
        let address = self.address.as_deref().unwrap_or("a local or hidden address");
        write!(f, "pid {} of role {} from {}", self.pid, Printable(role), Printable(address))
    }
}

/// A lock that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another run of ours works on this tenant.
    #[error("tenant {tenant} is being worked on by another run{}", by(.holder.as_ref()))]
    Busy {
        /// The tenant.
        tenant: TenantName,
        /// Who, when it still held the lock at the second look.
        holder: Option<Holder>,
    },
    /// Somebody who is not one of us holds the lock: any role that may connect can.
    #[error("the lock of tenant {tenant} on {endpoint} is held by a role that is not ours: {holder}")]
    HeldByForeign {
        /// The tenant.
        tenant: TenantName,
        /// The server.
        endpoint: String,
        /// Who.
        holder: Holder,
    },
    /// No connection.
    #[error("cannot connect to {endpoint} for the lock of tenant {tenant}")]
    Connect {
        /// The tenant.
        tenant: TenantName,
        /// The server.
        endpoint: String,
        /// Why.
        #[source]
        source: Box<ConnectError>,
    },
    /// The session that holds the lock ended, or cannot be asked.
    #[error("the lock of tenant {tenant} on {endpoint} is lost")]
    Lost {
        /// The tenant.
        tenant: TenantName,
        /// The server.
        endpoint: String,
        /// What the connection said, when it said something.
        #[source]
        source: Option<tokio_postgres::Error>,
    },
    /// The server is connected and does not answer.
    #[error("the lock of tenant {tenant} on {endpoint} cannot be seen to")]
    Silent {
        /// The tenant.
        tenant: TenantName,
        /// The server.
        endpoint: String,
        /// For how long.
        #[source]
        source: Silent,
    },
    /// Anything else that the server or the connection said.
    #[error("cannot take the lock of tenant {tenant} on {endpoint}")]
    Query {
        /// The tenant.
        tenant: TenantName,
        /// The server.
        endpoint: String,
        /// What the server or the connection said.
        #[source]
        source: tokio_postgres::Error,
    },
}

fn by(holder: Option<&Holder>) -> String {
    holder.map_or_else(String::new, |holder| format!(": {holder}"))
}

/// The first 64 bits of SHA-256(installation id, tenant name). The id has a fixed length, so the two cannot run together.
fn key(installation: &InstallationId, tenant: &TenantName) -> i64 {
    let digest: [u8; 32] = Sha256::new().chain_update(installation.0).chain_update(tenant.as_str()).finalize().into();
    i64::from_be_bytes(digest[..8].try_into().expect("eight of 32 bytes"))
}

/// A held lock. Dropping it ends its session, and the lock with it.
pub struct TenantLock {
    session: Session,
    key: i64,
    tenant: TenantName,
    endpoint: String,
}

/// Condition on `pg_locks l`: the advisory lock `$1` of the connected database. A key of 64 bits is shown as two halves, `objsubid` 1.
const OF_KEY: &str = "l.locktype = 'advisory' AND l.objsubid = 1 \
     AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
     AND l.classid::int8 = (($1::int8 >> 32) & 4294967295) AND l.objid::int8 = ($1::int8 & 4294967295)";

impl TenantLock {
    /// Takes the lock of `tenant` on its primary, waiting at most `wait`. `our_roles` are roles that run tenure besides the connecting one.
    ///
    /// # Errors
    /// See [`LockError`].
    pub async fn acquire(
        target: &Target,
        installation: &InstallationId,
        tenant: &TenantName,
        our_roles: &[String],
        wait: Duration,
    ) -> Result<Self, LockError> {
        let endpoint = target.endpoint();
        let session = target.connect(target.maintenance_database(), "tenure lock").await.map_err(|source| {
            LockError::Connect { tenant: tenant.clone(), endpoint: endpoint.clone(), source: Box::new(source) }
        })?;
        let lock = Self { session, key: key(installation, tenant), tenant: tenant.clone(), endpoint };
        lock.answer(wait, lock.take(our_roles, wait)).await??;
        Ok(lock)
    }

    async fn take(&self, our_roles: &[String], wait: Duration) -> Result<(), LockError> {
        let Self { session, key, tenant, endpoint } = self;
        let failed = |source| LockError::Query { tenant: tenant.clone(), endpoint: endpoint.clone(), source };
        // A time limit of 0 would mean none.
        let milliseconds = wait.as_millis().max(1).to_string();
        let settings = statements(&[&NO_TIME_LIMITS, &[("lock_timeout", &milliseconds)]]);
        session.batch_execute(&settings).await.map_err(failed)?;
        // The server queues us; nobody polls.
        match session.execute("SELECT pg_catalog.pg_advisory_lock($1)", &[key]).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                let holder = holder(session, *key).await.map_err(failed)?;
                match holder {
                    Some(holder) if !is_ours(session, &holder, our_roles).await.map_err(failed)? => {
                        Err(LockError::HeldByForeign { tenant: tenant.clone(), endpoint: endpoint.clone(), holder })
                    }
                    holder => Err(LockError::Busy { tenant: tenant.clone(), holder }),
                }
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// What the server answers within the limit, which is `wait` longer than for statements that have nothing to do.
    async fn answer<T>(&self, wait: Duration, statements: impl Future<Output = T>) -> Result<T, LockError> {
        let silent = |source| LockError::Silent { tenant: self.tenant.clone(), endpoint: self.endpoint.clone(), source };
        self.session.promptly(wait, statements).await.map_err(silent)
    }

    /// Asks the server whether the lock is still ours.
    ///
    /// # Errors
    /// [`LockError::Lost`] if it is not, or if the server cannot be asked.
    pub async fn still_held(&self) -> Result<(), LockError> {
        let lost = |source| LockError::Lost { tenant: self.tenant.clone(), endpoint: self.endpoint.clone(), source };
        let sql =
            format!("SELECT FROM pg_catalog.pg_locks l WHERE {OF_KEY} AND l.pid = pg_catalog.pg_backend_pid() AND l.granted");
        match self.answer(Duration::ZERO, self.session.query_opt(&sql, &[&self.key])).await? {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(lost(None)),
            Err(error) => Err(lost(Some(error))),
        }
    }

    /// Resolves, with why, when the session that holds the lock has ended: the run must stop.
    pub async fn lost(&self) -> String {
        self.session.closed().await;
        self.session.end_reason().unwrap_or_default()
    }

    /// Resolves when somebody has waited longer than `longer_than` for a lock that the snapshot whose leader is `leader_pid` is in the way
    /// of: the backup should give way. The leader holds every lock that a backup holds for long.
    ///
    /// Looks four times in `longer_than`, at most every 5 s and at least every 50 ms.
    ///
    /// # Errors
    /// [`LockError::Lost`] if the server cannot be asked.
    pub async fn somebody_waits(&self, leader_pid: i32, longer_than: Duration) -> Result<Blocker, LockError> {
        let seconds = longer_than.as_secs_f64();
        let sql = "SELECT l.pid, a.usename::text, a.application_name FROM pg_catalog.pg_locks l \
             LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
             WHERE NOT l.granted AND l.locktype = 'relation' \
               AND l.waitstart < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $2) \
               AND $1 = ANY (pg_catalog.pg_blocking_pids(l.pid)) \
             ORDER BY l.waitstart LIMIT 1";
        let lost =
            |source| LockError::Lost { tenant: self.tenant.clone(), endpoint: self.endpoint.clone(), source: Some(source) };
        loop {
            let found = self.answer(Duration::ZERO, self.session.query_opt(sql, &[&leader_pid, &seconds])).await?;
            if let Some(row) = found.map_err(lost)? {
                let waiting = || Ok(Blocker { pid: row.try_get(0)?, role: row.try_get(1)?, application: row.try_get(2)? });
                return waiting().map_err(lost);
            }
            tokio::time::sleep(between_looks(longer_than)).await;
        }
    }

    /// Resolves when a session that calls itself `application` has waited longer than `longer_than` for a lock: who has it, or waits before
    /// that session. `pg_dump` limits its waiting for tables, and for nothing else: views, sequences and indexes.
    ///
    /// Looks as often as [`TenantLock::somebody_waits`].
    ///
    /// # Errors
    /// [`LockError::Lost`] if the server cannot be asked.
    pub async fn waits_for(&self, application: &str, longer_than: Duration) -> Result<Vec<Blocker>, LockError> {
        let sql = "SELECT b.pid, a.usename::text, a.application_name FROM pg_catalog.pg_locks l \
             JOIN pg_catalog.pg_stat_activity w ON w.pid = l.pid AND w.application_name = $1 \
             CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(l.pid)) AS b(pid) \
             LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid \
             WHERE NOT l.granted AND l.waitstart < pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => $2)";
        let seconds = longer_than.as_secs_f64();
        let lost =
            |source| LockError::Lost { tenant: self.tenant.clone(), endpoint: self.endpoint.clone(), source: Some(source) };
        loop {
            let rows = self.answer(Duration::ZERO, self.session.query(sql, &[&application, &seconds])).await?.map_err(lost)?;
            if !rows.is_empty() {
                let blocker =
                    |row: &Row| Ok(Blocker { pid: row.try_get(0)?, role: row.try_get(1)?, application: row.try_get(2)? });
                return rows.iter().map(blocker).collect::<Result<_, _>>().map_err(lost);
            }
            tokio::time::sleep(between_looks(longer_than)).await;
        }
    }

    /// Gives the lock back and waits until the server has it.
    ///
    /// # Errors
    /// [`LockError::Lost`] if it was gone before.
    pub async fn release(self) -> Result<(), LockError> {
        let lost = |source| LockError::Lost { tenant: self.tenant.clone(), endpoint: self.endpoint.clone(), source };
        let unlock = async { self.session.query_one("SELECT pg_catalog.pg_advisory_unlock($1)", &[&self.key]).await };
        let row = self.answer(Duration::ZERO, unlock).await?;
        match row.and_then(|row| row.try_get(0)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(lost(None)),
            Err(error) => Err(lost(Some(error))),
        }
    }
}

fn between_looks(longer_than: Duration) -> Duration {
    (longer_than / 4).clamp(Duration::from_millis(50), Duration::from_secs(5))
}

async fn holder(session: &Session, key: i64) -> Result<Option<Holder>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT l.pid, a.usename::text, pg_catalog.host(a.client_addr) FROM pg_catalog.pg_locks l \
         LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid WHERE {OF_KEY} AND l.granted LIMIT 1"
    );
    let row = session.query_opt(&sql, &[&key]).await?;
    row.map(|row| Ok(Holder { pid: row.try_get(0)?, role: row.try_get(1)?, address: row.try_get(2)? })).transpose()
}

async fn is_ours(session: &Session, holder: &Holder, our_roles: &[String]) -> Result<bool, tokio_postgres::Error> {
    let Some(role) = &holder.role else { return Ok(false) };
    if our_roles.contains(role) {
        return Ok(true);
    }
    let row = session.query_one("SELECT session_user::text", &[]).await?;
    Ok(row.try_get::<_, String>(0)? == *role)
}

#[cfg(test)]
mod tests {
    use super::key;
    use crate::id::InstallationId;

    #[test]
    fn the_key_depends_on_installation_and_tenant() {
        let one = InstallationId([1; 16]);
        let acme = "acme".parse().unwrap();
        assert_eq!(key(&one, &acme), key(&one, &acme));
        assert_ne!(key(&one, &acme), key(&InstallationId([2; 16]), &acme));
        assert_ne!(key(&one, &acme), key(&one, &"acmf".parse().unwrap()));
    }
}
