//! A database that is to be dropped: what it is, what is in the way, closing it, and the end of it.
//!
//! It is known by its OID. Each statement that needs a name takes the one that the OID has at that moment, and what can be undone is
//! undone when the name was another's by then.

use std::fmt;

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::{Client, error::SqlState};

use super::statement::{Failed, StatementError};

/// A database, and all that must be known of it before it is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doomed {
    /// Its OID.
    pub oid: u32,
    /// Its name, at that moment.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// Whether the connected role may drop it.
    pub may_drop: bool,
    /// Whether it lets anybody in.
    pub allows_connections: bool,
    /// Whether an earlier drop of it was interrupted: nobody can use it any more, and it can only be dropped.
    pub is_invalid: bool,
    /// Bytes on the server's disk; `None` where the role may not ask.
    pub bytes: Option<u64>,
    /// Sessions in it.
    pub sessions: u64,
    /// Roles that have sessions in it which the connected role may not end, and whether such a role is a superuser.
    pub not_to_end: Vec<(String, bool)>,
    /// What is in the way.
    pub obstacles: Vec<Obstacle>,
    /// Logical slots that nobody reads: they go with it.
    pub idle_slots: Vec<String>,
}

/// What keeps PostgreSQL from dropping a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// A prepared transaction: its global identifier.
    Prepared(String),
    /// A logical slot that somebody reads.
    Slot(String),
    /// A subscription, and the slot on the other side.
    Subscription {
        /// Its name.
        name: String,
        /// The slot that it reads, where it still has one.
        slot: Option<String>,
    },
    /// It is marked as a template.
    Template,
}

/// The kinds of [`Obstacle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Prepared transactions.
    Prepared,
    /// Logical slots that are read.
    Slots,
    /// Subscriptions.
    Subscriptions,
    /// The mark of a template.
    Template,
}

impl Obstacle {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Prepared(_) => Kind::Prepared,
            Self::Slot(_) => Kind::Slots,
            Self::Subscription { .. } => Kind::Subscriptions,
            Self::Template => Kind::Template,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = crate::printable::Printable;
        match self {
            Self::Prepared(gid) => write!(f, "prepared transaction {}", shown(gid)),
            Self::Slot(name) => write!(f, "logical slot {}, which somebody reads", shown(name)),
            Self::Subscription { name, slot: Some(slot) } => {
                write!(f, "subscription {}, which reads slot {} of its publisher", shown(name), shown(slot))
            }
            Self::Subscription { name, slot: None } => write!(f, "subscription {}", shown(name)),
            Self::Template => f.write_str("it is marked as a template"),
        }
    }
}

/// Looks at a database, from another one of the same server. `None` when there is none with this OID.
///
/// # Errors
/// What the server says.
pub async fn look(admin: &Client, oid: u32) -> Result<Option<Doomed>, StatementError> {
    let (what, whom) = ("looking at the database with OID", &oid.to_string());
    let row = admin
        .query_opt(
            "SELECT d.datname::text, pg_catalog.pg_get_userbyid(d.datdba)::text, pg_catalog.pg_has_role(d.datdba, 'USAGE'),
                    d.datallowconn, d.datconnlimit = -2, d.datistemplate,
                    pg_catalog.has_database_privilege(d.oid, 'CONNECT') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'),
                    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid AND a.usesysid IS NOT NULL)
               FROM pg_catalog.pg_database d WHERE d.oid = $1",
            &[&oid],
        )
        .await
        .failed(what, whom)?;
    let Some(row) = row else { return Ok(None) };
    let flag = |at: usize| row.try_get::<_, bool>(at).failed(what, whom);
    let (name, owner): (String, String) = (row.try_get(0).failed(what, whom)?, row.try_get(1).failed(what, whom)?);
    let is_invalid = flag(4)?;
    let sessions: i64 = row.try_get(7).failed(what, whom)?;
    let may_ask = !is_invalid && row.try_get::<_, Option<bool>>(6).failed(what, whom)?.unwrap_or(false);
    let bytes = if may_ask { size(admin, oid).await? } else { None };
    let mut doomed = Doomed {
        oid,
        owner,
        may_drop: flag(2)?,
        allows_connections: flag(3)?,
        is_invalid,
        bytes,
        sessions: sessions.unsigned_abs(),
        not_to_end: not_to_end(admin, oid).await?,
        obstacles: if flag(5)? { vec![Obstacle::Template] } else { Vec::new() },
        idle_slots: Vec::new(),
        name,
    };
    in_the_way(admin, &mut doomed).await?;
    Ok(Some(doomed))
}

/// One that goes away meanwhile has no size.
async fn size(admin: &Client, oid: u32) -> Result<Option<u64>, StatementError> {
    let (what, whom) = ("asking for the size of the database with OID", &oid.to_string());
    match admin.query_one("SELECT pg_catalog.pg_database_size($1::oid)", &[&oid]).await {
        Ok(row) => Ok(row.try_get::<_, Option<i64>>(0).failed(what, whom)?.and_then(|bytes| u64::try_from(bytes).ok())),
        Err(error) if error.code().is_some() => Ok(None),
        Err(error) => Err(error).failed(what, whom),
    }
}

async fn not_to_end(admin: &Client, oid: u32) -> Result<Vec<(String, bool)>, StatementError> {
    let (what, whom) = ("looking for the sessions in the database with OID", &oid.to_string());
    let rows = admin
        .query(
            "SELECT DISTINCT r.rolname::text, r.rolsuper
               FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid
               JOIN pg_catalog.pg_roles me ON me.rolname = current_user
              WHERE a.datid = $1 AND NOT me.rolsuper
                AND (r.rolsuper OR NOT (pg_catalog.pg_has_role(a.usesysid, 'USAGE') OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE')))
              ORDER BY 1",
            &[&oid],
        )
        .await
        .failed(what, whom)?;
    rows.iter().map(|row| Ok((row.try_get(0).failed(what, whom)?, row.try_get(1).failed(what, whom)?))).collect()
}

async fn in_the_way(admin: &Client, doomed: &mut Doomed) -> Result<(), StatementError> {
    let (what, whom) = ("looking for what is in the way of dropping", &doomed.name);
    let rows = admin
        .query(
            "SELECT 'prepared', p.gid, NULL FROM pg_catalog.pg_prepared_xacts p WHERE p.database::text = $1::text
             UNION ALL
             SELECT CASE WHEN s.active THEN 'slot' ELSE 'idle' END, s.slot_name::text, NULL FROM pg_catalog.pg_replication_slots s
              WHERE s.slot_type = 'logical' AND s.database::text = $1::text
             UNION ALL
             SELECT 'subscription', s.subname::text, s.subslotname::text FROM pg_catalog.pg_subscription s WHERE s.subdbid = $2
              ORDER BY 1, 2",
            &[&doomed.name, &doomed.oid],
        )
        .await
        .failed(what, whom)?;
    for row in rows {
        let (kind, name): (String, String) = (row.try_get(0).failed(what, whom)?, row.try_get(1).failed(what, whom)?);
        doomed.obstacles.push(match kind.as_str() {
            "prepared" => Obstacle::Prepared(name),
            "slot" => Obstacle::Slot(name),
            "subscription" => Obstacle::Subscription { name, slot: row.try_get(2).failed(what, whom)? },
            _ => {
                doomed.idle_slots.push(name);
                continue;
            }
        });
    }
    Ok(())
}

/// Roles that own or may do something in a database, and nothing anywhere else: nobody is a member of theirs, and they of nobody. Superusers
/// and PostgreSQL's own are none.
///
/// # Errors
/// What the server says.
pub async fn own_roles(admin: &Client, oid: u32) -> Result<Vec<String>, StatementError> {
    let (what, whom) = ("looking for the roles of the database with OID", &oid.to_string());
    let rows = admin
        .query(
            "SELECT r.rolname::text FROM pg_catalog.pg_roles r
              WHERE NOT r.rolsuper AND r.rolname !~ '^pg_' AND r.rolname NOT IN (current_user, session_user)
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE r.oid IN (m.roleid, m.member))
                AND (SELECT pg_catalog.bool_and(s.dbid = $1 OR (s.classid = 'pg_catalog.pg_database'::pg_catalog.regclass AND s.objid = $1))
                       FROM pg_catalog.pg_shdepend s
                      WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = r.oid)
              ORDER BY 1",
            &[&oid],
        )
        .await
        .failed(what, whom)?;
    rows.iter().map(|row| row.try_get(0).failed(what, whom)).collect()
}

/// Lets nobody into a database any more, or lets them in again. Gives whether the name was that database's: if not, nothing has changed.
///
/// # Errors
/// What the server says; then nothing has changed either.
pub async fn allow_connections(admin: &Client, oid: u32, name: &str, allowed: bool) -> Result<bool, StatementError> {
    let what = "ALTER DATABASE … ALLOW_CONNECTIONS";
    let begun = format!("BEGIN; ALTER DATABASE {} ALLOW_CONNECTIONS {allowed}", escape_identifier(name));
    let altered = async {
        admin.batch_execute(&begun).await.failed(what, name)?;
        // Whoever renames it now waits for this transaction.
        Ok(super::server_facts::database_oid(admin, name).await? == Some(oid))
    }
    .await;
    let end = if matches!(altered, Ok(true)) { "COMMIT" } else { "ROLLBACK" };
    let ended = admin.batch_execute(end).await.failed(what, name);
    let is_same = altered?;
    ended.map(|()| is_same)
}

/// Takes the mark of a template off.
///
/// # Errors
/// What the server says.
pub async fn no_template(admin: &Client, name: &str) -> Result<(), StatementError> {
    let statement = format!("ALTER DATABASE {} IS_TEMPLATE false", escape_identifier(name));
    admin.batch_execute(&statement).await.failed("ALTER DATABASE … IS_TEMPLATE", name)
}

/// Ends all sessions in a database, those that read logical slots among them, and waits until they are gone: at most five seconds for each.
///
/// # Errors
/// What the server says.
pub async fn end_sessions(admin: &Client, oid: u32) -> Result<(), StatementError> {
    admin
        .execute(
            "SELECT pg_catalog.pg_terminate_backend(a.pid, 5000) FROM pg_catalog.pg_stat_activity a
              WHERE a.datid = $1 AND a.usesysid IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid()",
            &[&oid],
        )
        .await
        .failed("ending the sessions in the database with OID", &oid.to_string())?;
    Ok(())
}

/// How many sessions a database has.
///
/// # Errors
/// What the server says.
pub async fn sessions(admin: &Client, oid: u32) -> Result<u64, StatementError> {
    let (what, whom) = ("counting the sessions in the database with OID", &oid.to_string());
    let sql = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a WHERE a.datid = $1 AND a.usesysid IS NOT NULL";
    let count: i64 = admin.query_one(sql, &[&oid]).await.failed(what, whom)?.try_get(0).failed(what, whom)?;
    Ok(count.unsigned_abs())
}

/// A database that a server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Present {
    /// Its OID.
    pub oid: u32,
    /// Its name, at that moment.
    pub name: String,
    /// Whether it lets anybody in.
    pub allows_connections: bool,
    /// Whether a drop of it was interrupted.
    pub is_invalid: bool,
}

/// Those of some databases that a server has, by OID.
///
/// # Errors
/// What the server says.
pub async fn present(admin: &Client, oids: &[u32]) -> Result<Vec<Present>, StatementError> {
    let (what, whom) = ("looking for databases by OID on", "the server");
    let sql = "SELECT d.oid, d.datname::text, d.datallowconn, d.datconnlimit = -2 FROM pg_catalog.pg_database d \
               WHERE d.oid = ANY ($1) ORDER BY 1";
    let rows = admin.query(sql, &[&oids]).await.failed(what, whom)?;
    let read = |row: &tokio_postgres::Row| {
        Ok(Present {
            oid: row.try_get(0).failed(what, whom)?,
            name: row.try_get(1).failed(what, whom)?,
            allows_connections: row.try_get(2).failed(what, whom)?,
            is_invalid: row.try_get(3).failed(what, whom)?,
        })
    };
    rows.iter().map(read).collect()
}

/// Rolls a prepared transaction back. `inside` is connected to its database.
///
/// # Errors
/// What the server says: only its owner and superusers may.
pub async fn roll_back(inside: &Client, gid: &str) -> Result<(), StatementError> {
    let statement = format!("ROLLBACK PREPARED {}", postgres_protocol::escape::escape_literal(gid));
    inside.batch_execute(&statement).await.failed("ROLLBACK PREPARED", gid)
}

/// Ends a subscription without asking its publisher, where its slot stays. `inside` is connected to its database.
///
/// # Errors
/// What the server says: only its owner and superusers may.
pub async fn unsubscribe(inside: &Client, name: &str) -> Result<(), StatementError> {
    let quoted = escape_identifier(name);
    for statement in [
        format!("ALTER SUBSCRIPTION {quoted} DISABLE"),
        format!("ALTER SUBSCRIPTION {quoted} SET (slot_name = NONE)"),
        format!("DROP SUBSCRIPTION {quoted}"),
    ] {
        inside.batch_execute(&statement).await.failed("ending subscription", name)?;
    }
    Ok(())
}

/// Drops a database, with whoever is in it. One that is not there any more was dropped.
///
/// # Errors
/// What the server says; the name belongs to another database by now.
pub async fn drop_database(admin: &Client, oid: u32, name: &str) -> Result<(), DropError> {
    let refused = |error: StatementError| DropError::Statement(error);
    let now = name_of(admin, oid).await.map_err(refused)?;
    match now {
        None => return Ok(()),
        Some(now) if now != name => return Err(DropError::Renamed { from: name.to_owned(), to: now }),
        Some(_) => {}
    }
    let statement = format!("DROP DATABASE {} WITH (FORCE)", escape_identifier(name));
    match admin.batch_execute(&statement).await {
        // Somebody else was faster.
        Err(error) if error.code() == Some(&SqlState::INVALID_CATALOG_NAME) => {}
        dropped => dropped.failed("DROP DATABASE", name).map_err(refused)?,
    }
    match name_of(admin, oid).await.map_err(refused)? {
        None => Ok(()),
        Some(now) => Err(DropError::Renamed { from: name.to_owned(), to: now }),
    }
}

/// A database that was not dropped.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    /// It has another name than it had a moment ago.
    #[error("database {} is called {} now", crate::printable::Printable(.from), crate::printable::Printable(.to))]
    Renamed {
        /// What it was called.
        from: String,
        /// What it is called.
        to: String,
    },
    /// What the server said.
    #[error(transparent)]
    Statement(StatementError),
}

/// What the database with an OID is called; `None` when there is none.
///
/// # Errors
/// What the server says.
pub async fn name_of(admin: &Client, oid: u32) -> Result<Option<String>, StatementError> {
    let (what, whom) = ("looking for the database with OID", &oid.to_string());
    let row =
        admin.query_opt("SELECT datname::text FROM pg_catalog.pg_database WHERE oid = $1", &[&oid]).await.failed(what, whom)?;
    row.map(|row| row.try_get(0).failed(what, whom)).transpose()
}
