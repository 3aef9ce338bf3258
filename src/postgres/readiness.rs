//! What a coming night needs of a server and of a tenant's database, asked before the night.

use chrono::{DateTime, Utc};
use tokio_postgres::{Client, Row};

use super::{
    session_settings::{NO_TIME_LIMITS, statements},
    spelling::{self, Misspelt},
    statement::{Failed, StatementError},
};

/// How many names of each kind are told; the rest is counted.
const EXAMPLES: i32 = 3;

/// A server, and what the connecting role may do there.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "independent answers of the server")]
pub struct ServerReadiness {
    /// `server_version_num`.
    pub version_num: u32,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// `pg_control_system()`'s identifier.
    pub system_identifier: i64,
    /// The role.
    pub role: String,
    /// Its SUPERUSER.
    pub superuser: bool,
    /// Its BYPASSRLS, or SUPERUSER.
    pub bypass_rls: bool,
    /// Its CREATEDB, or SUPERUSER.
    pub create_db: bool,
    /// Its CREATEROLE, or SUPERUSER.
    pub create_role: bool,
    /// How many connections the role may have; `None` for as many as it likes.
    pub role_limit: Option<u32>,
    /// Connections that this role could have if nobody else had any.
    pub usable: u32,
    /// Connections that others have now.
    pub in_use: u32,
    /// Locks that the server's table of locks holds at least.
    pub lock_capacity: u64,
    /// Connections of standbys and other receivers of its log.
    pub receivers: u32,
    /// Its clock.
    pub clock: DateTime<Utc>,
}

/// Asks a server.
///
/// # Errors
/// What it says.
pub async fn server(client: &Client) -> Result<ServerReadiness, StatementError> {
    let (what, whom) = ("asking for the state of", "the server");
    client.batch_execute(&statements(&[&NO_TIME_LIMITS])).await.failed(what, whom)?;
    let sql = "WITH setting AS (SELECT name, setting::int8 AS value FROM pg_catalog.pg_settings
                  WHERE name IN ('server_version_num', 'max_connections', 'superuser_reserved_connections', 'reserved_connections',
                                 'max_locks_per_transaction', 'max_prepared_transactions'))
         SELECT (SELECT value FROM setting WHERE name = 'server_version_num'),
                pg_catalog.pg_is_in_recovery(),
                (SELECT s.system_identifier FROM pg_catalog.pg_control_system() s),
                r.rolname::text, r.rolsuper, r.rolbypassrls, r.rolcreatedb, r.rolcreaterole, r.rolconnlimit,
                (SELECT value FROM setting WHERE name = 'max_connections')
                  - CASE WHEN r.rolsuper THEN 0 ELSE
                      (SELECT pg_catalog.sum(value)::int8 FROM setting WHERE name IN ('superuser_reserved_connections', 'reserved_connections'))
                    END,
                (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity
                  WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()),
                (SELECT value FROM setting WHERE name = 'max_locks_per_transaction')
                  * ((SELECT value FROM setting WHERE name = 'max_connections')
                     + (SELECT value FROM setting WHERE name = 'max_prepared_transactions')),
                (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication),
                pg_catalog.clock_timestamp()
           FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";
    let row = client.query_one(sql, &[]).await.failed(what, whom)?;
    read_server(&row).failed(what, whom)
}

fn read_server(row: &Row) -> Result<ServerReadiness, tokio_postgres::Error> {
    let superuser: bool = row.try_get(4)?;
    let or_superuser = |index| row.try_get::<_, bool>(index).map(|is| is || superuser);
    Ok(ServerReadiness {
        version_num: count(row, 0)?,
        in_recovery: row.try_get(1)?,
        system_identifier: row.try_get(2)?,
        role: row.try_get(3)?,
        superuser,
        bypass_rls: or_superuser(5)?,
        create_db: or_superuser(6)?,
        create_role: or_superuser(7)?,
        role_limit: u32::try_from(row.try_get::<_, i32>(8)?).ok(),
        usable: count(row, 9)?,
        in_use: count(row, 10)?,
        lock_capacity: row.try_get::<_, i64>(11)?.unsigned_abs(),
        receivers: count(row, 12)?,
        clock: row.try_get(13)?,
    })
}

fn count(row: &Row, index: usize) -> Result<u32, tokio_postgres::Error> {
    Ok(u32::try_from(row.try_get::<_, i64>(index)?).unwrap_or(0))
}

/// Things of one kind: how many, and the first few by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Several {
    /// How many there are.
    pub count: u64,
    /// The first of them, quoted as SQL would.
    pub examples: Vec<String>,
}

/// A tenant's database, and what the connecting role may not do in it.
#[derive(Debug, Clone)]
pub struct DatabaseReadiness {
    /// Tables that a backup locks, partitions and their parents included.
    pub tables: u64,
    /// `datconnlimit`; `None` for no limit, or for a superuser.
    pub connection_limit: Option<u32>,
    /// Tables and sequences that the role may not read.
    pub unreadable: Several,
    /// Tables whose row security applies to the role.
    pub guarded: Several,
    /// Large objects that the role may not read.
    pub unreadable_large_objects: u64,
    /// Subscriptions that `pg_dump` would leave out.
    pub skipped_subscriptions: Several,
    /// What has a name that is not UTF-8.
    pub misspelt: Vec<Misspelt>,
}

/// Asks a tenant's database.
///
/// # Errors
/// What the server says.
pub async fn database(client: &Client, name: &str) -> Result<DatabaseReadiness, StatementError> {
    let what = "asking for what a backup needs in database";
    client.batch_execute(&statements(&[&NO_TIME_LIMITS])).await.failed(what, name)?;
    // Members of extensions are left out, but for tables whose rows the extension wants dumped.
    let relations =
        "SELECT c.oid, c.relkind, c.relrowsecurity, n.oid AS schema, pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
           FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'
            AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                 WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e'
                   AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
                   AND (e.extconfig IS NULL OR NOT c.oid = ANY (e.extconfig)))";
    let some = "pg_catalog.count(*), (pg_catalog.array_agg(name ORDER BY name))[1:$1]";
    let unreadable = format!(
        "SELECT {some} FROM ({relations}) AS r
          WHERE NOT (pg_catalog.has_schema_privilege(schema, 'USAGE') AND pg_catalog.has_table_privilege(oid, 'SELECT'))"
    );
    let guarded = format!("SELECT {some} FROM ({relations}) AS r WHERE relrowsecurity AND pg_catalog.row_security_active(oid)");
    let skipped = format!(
        "SELECT {some} FROM (SELECT pg_catalog.quote_ident(s.subname) AS name FROM pg_catalog.pg_subscription s
           JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
          WHERE d.datname = pg_catalog.current_database()
            AND NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user)) AS s"
    );
    let rest = format!(
        "SELECT (SELECT pg_catalog.count(*) FROM ({relations}) AS r WHERE relkind <> 'S'),
                (SELECT CASE WHEN r.rolsuper THEN -1 ELSE d.datconnlimit END FROM pg_catalog.pg_database d, pg_catalog.pg_roles r
                  WHERE d.datname = pg_catalog.current_database() AND r.rolname = current_user),
                (SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata m
                  WHERE pg_catalog.current_setting('lo_compat_privileges') <> 'on'
                    AND NOT pg_catalog.pg_has_role(m.lomowner, 'USAGE')
                    AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT'
                          AND CASE WHEN a.grantee = 0 THEN true ELSE pg_catalog.pg_has_role(a.grantee, 'USAGE') END))"
    );
    let misspelt = spelling::misspelt(client).await.failed(what, name)?;
    if !misspelt.is_empty() {
        // Nothing else can be asked: the answers have those names in them.
        let (tables, unreadable_large_objects) = (0, 0);
        let [unreadable, guarded, skipped_subscriptions] = [(); 3].map(|()| Several::default());
        let connection_limit = None;
        return Ok(DatabaseReadiness {
            tables,
            connection_limit,
            unreadable,
            guarded,
            unreadable_large_objects,
            skipped_subscriptions,
            misspelt,
        });
    }
    let unreadable = client.query_one(&unreadable, &[&EXAMPLES]).await.failed(what, name)?;
    let guarded = client.query_one(&guarded, &[&EXAMPLES]).await.failed(what, name)?;
    let skipped = client.query_one(&skipped, &[&EXAMPLES]).await.failed(what, name)?;
    let rest = client.query_one(&rest, &[]).await.failed(what, name)?;
    let read = move || -> Result<DatabaseReadiness, tokio_postgres::Error> {
        Ok(DatabaseReadiness {
            tables: rest.try_get::<_, i64>(0)?.unsigned_abs(),
            connection_limit: u32::try_from(rest.try_get::<_, i32>(1)?).ok(),
            unreadable: several(&unreadable)?,
            guarded: several(&guarded)?,
            unreadable_large_objects: rest.try_get::<_, i64>(2)?.unsigned_abs(),
            skipped_subscriptions: several(&skipped)?,
            misspelt,
        })
    };
    read().failed(what, name)
}

fn several(row: &Row) -> Result<Several, tokio_postgres::Error> {
    let examples: Option<Vec<String>> = row.try_get(1)?;
    Ok(Several { count: row.try_get::<_, i64>(0)?.unsigned_abs(), examples: examples.unwrap_or_default() })
}
