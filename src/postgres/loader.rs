//! The logins without superuser: one that fills tables and is a member of nobody, and for each owner one that is a member of that owner
//! alone. All are gone afterwards.
//!
//! Loading rows, building indexes and checking constraints run the tenant's own functions. `SET ROLE` in an administrator's session
//! does not hold them: they can reset it. Only another login does. And what a login is a member of, they can take on: so rows come through
//! one that has no role but its own, and what is one owner's is made by a login that can be no other owner.
//!
//! A configured login does all of that in turns: see [`Loader::join`].

use std::collections::BTreeSet;

use postgres_protocol::escape::{escape_identifier, escape_literal};
use secrecy::SecretString;
use tokio_postgres::Client;
use zeroize::Zeroizing;

use super::{
    ConnectError, Session, Target, powers,
    roles::{self, Joined, Member},
    statement::{Failed, StatementError},
};
use crate::id::RecordId;

/// Temporary loaders are called this and random digits.
pub const PREFIX: &str = "tenure_loader_";
/// How long a temporary login can be used: as long as a run may take.
const VALID_HOURS: u32 = 24;

/// Objects of one GRANT.
const GRANT_BATCH: i64 = 200;

/// The statements that let a login fill a database: $1 is its quoted name, $2 the most objects of one statement.
const FILLING: &str = "
    WITH object AS (
        SELECT 'USAGE ON SCHEMA' AS grants, pg_catalog.format('%I', nspname) AS name, oid, nspowner AS owner FROM pg_catalog.pg_namespace
         UNION ALL
        SELECT CASE WHEN c.relkind = 'S' THEN 'USAGE, SELECT ON SEQUENCE' WHEN c.relkind IN ('r', 'p') THEN 'SELECT, INSERT ON TABLE'
                    ELSE 'SELECT ON TABLE' END,
               pg_catalog.format('%I.%I', n.nspname, c.relname), n.oid, c.relowner
          FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'),
    numbered AS (
        SELECT o.*, (pg_catalog.row_number() OVER (PARTITION BY o.grants ORDER BY o.name) - 1) / $2::bigint AS batch
          FROM object o JOIN pg_catalog.pg_namespace n ON n.oid = o.oid
         WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND pg_catalog.pg_has_role(o.owner, 'USAGE'))
    SELECT pg_catalog.format('GRANT %s %s TO %s', grants, pg_catalog.string_agg(name, ', '), $1::text) FROM numbered
     GROUP BY grants, batch";

/// A login that loads rows.
#[derive(Debug, Clone)]
pub struct Loader {
    target: Target,
    role: String,
    temporary: bool,
}

/// Why there is no loader.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// The administrator may not make one, or another statement failed.
    #[error(transparent)]
    Statement(StatementError),
    /// The server lets it in by no way that was tried.
    #[error("the server refuses the temporary login {role} at {}", every_try(.tried))]
    Refused {
        /// The role, already dropped.
        role: String,
        /// Addresses and what came back.
        tried: Vec<(String, ConnectError)>,
    },
    /// The configured loader does not get in.
    #[error("the configured loader cannot connect")]
    Connect(#[source] ConnectError),
    /// The configured loader has power, in these words.
    #[error("the configured loader has power that a tenant's code would get: {0}")]
    Powerful(String),
}

fn every_try(tried: &[(String, ConnectError)]) -> String {
    use std::error::Error as _;
    let one = |(endpoint, error): &(String, ConnectError)| {
        let mut text = format!("{endpoint} ({error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text.push(')');
        text
    };
    tried.iter().map(one).collect::<Vec<_>>().join(" and at ")
}

impl Loader {
    /// Makes a temporary login called `role`, see [`login_name`](super::leftovers::login_name), and finds an address at which the server takes it: the administrator's, then, when that is a socket,
    /// loopback TCP. It is dropped again when there is none.
    ///
    /// The server gets a SCRAM verifier, never the password, so that none can turn up in its log.
    ///
    /// # Errors
    /// [`LoaderError`].
    pub async fn temporary(admin: &Client, admin_target: &Target, role: String) -> Result<Self, LoaderError> {
        let password = create(admin, &role).await.map_err(LoaderError::Statement)?;
        let secret = || SecretString::from(password.as_str().to_owned());
        let mut ways = vec![admin_target.clone().with_login(&role, secret())];
        if admin_target.endpoint().starts_with('/') {
            ways.push(admin_target.on_loopback().with_login(&role, secret()));
        }
        let mut tried = Vec::new();
        for target in ways {
            let loader = Self { target, role: role.clone(), temporary: true };
            match loader.connect(admin_target.maintenance_database()).await {
                Ok(_) => return Ok(loader),
                Err(error) => tried.push((loader.target.endpoint(), error)),
            }
        }
        drop_role(admin, &role).await.map_err(LoaderError::Statement)?;
        Err(LoaderError::Refused { role, tried })
    }

    /// Another temporary login, which the server lets in as this one. A configured one stands for itself.
    ///
    /// # Errors
    /// What the server says.
    pub async fn another(&self, admin: &Client, role: String) -> Result<Self, StatementError> {
        if !self.temporary {
            return Ok(self.clone());
        }
        let password = create(admin, &role).await?;
        let target = self.target.with_login(&role, SecretString::from(password.as_str().to_owned()));
        Ok(Self { target, role, temporary: true })
    }

    /// Takes the configured login, and checks that it has no power that a tenant's code would get with it.
    ///
    /// # Errors
    /// [`LoaderError`].
    pub async fn configured(admin: &Client, target: &Target) -> Result<Self, LoaderError> {
        let mut loader = Self { target: target.clone(), role: target.user().to_owned(), temporary: false };
        let session = loader.connect(target.maintenance_database()).await.map_err(LoaderError::Connect)?;
        let what = "asking for the rights of";
        let row = session.query_one("SELECT session_user::text", &[]).await.failed(what, &loader.role);
        loader.role = row.and_then(|row| row.try_get(0).failed(what, &loader.role)).map_err(LoaderError::Statement)?;
        let powers = powers::read(admin, &[loader.role.clone()].into(), &[]).await.map_err(LoaderError::Statement)?;
        if !powers.unrecorded.is_empty() {
            return Err(LoaderError::Powerful(powers.unrecorded.join(", ")));
        }
        Ok(loader)
    }

    /// The roles that it can take on besides itself.
    ///
    /// # Errors
    /// What the server says.
    pub async fn member_of(&self, admin: &Client) -> Result<BTreeSet<String>, StatementError> {
        let what = "asking for the memberships of";
        let sql = "SELECT rolname::text FROM pg_catalog.pg_roles
                    WHERE rolname <> $1::text::name AND pg_catalog.pg_has_role($1::text::name, oid, 'MEMBER')";
        let rows = admin.query(sql, &[&self.role]).await.failed(what, &self.role)?;
        rows.iter().map(|row| row.try_get(0).failed(what, &self.role)).collect()
    }

    /// Its name.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Whether it was made for one restore.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// Where and how it connects.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Connects to a database.
    ///
    /// # Errors
    /// As [`Target::connect`].
    pub async fn connect(&self, database: &str) -> Result<Session, ConnectError> {
        self.target.connect(database, "tenure restore (loader)").await
    }

    /// Makes it a member of `owners`, none of which may have power, as far as it is none. A temporary one stays that until it goes away; what
    /// a configured one became is noted in `joined`, for [`roles::leave`].
    ///
    /// # Errors
    /// What the server says, with the role named.
    pub async fn join(&self, admin: &Client, owners: &BTreeSet<String>, joined: &mut Vec<Joined>) -> Result<(), StatementError> {
        roles::join(admin, Member::Role(&self.role), owners.iter().filter(|owner| **owner != self.role), joined).await
    }

    /// Lets it use every schema, and create in some, as far as it may not already. `admin` is connected to the database.
    ///
    /// CREATE is what `CREATE INDEX` asks of whoever runs it, whoever owns the table.
    ///
    /// # Errors
    /// What the server says, with the schema named.
    pub async fn open_schemas(&self, admin: &Client, create_in: &BTreeSet<String>) -> Result<(), StatementError> {
        let what = "reading the schemas for";
        let create_in: Vec<&str> = create_in.iter().map(String::as_str).collect();
        let rows = admin
            .query(
                "SELECT n.nspname::text, r.name FROM pg_catalog.pg_namespace n
                  CROSS JOIN LATERAL (VALUES ('USAGE', true), ('CREATE', n.nspname::text = ANY ($2::text[]))) AS r(name, wanted)
                  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND r.wanted
                    AND NOT pg_catalog.has_schema_privilege($1::text::name, n.oid, r.name)",
                &[&self.role, &create_in],
            )
            .await
            .failed(what, &self.role)?;
        let loader = escape_identifier(&self.role);
        for row in rows {
            let (schema, right): (String, String) =
                (row.try_get(0).failed(what, &self.role)?, row.try_get(1).failed(what, &self.role)?);
            let statement = format!("GRANT {right} ON SCHEMA {} TO {loader}", escape_identifier(&schema));
            admin.batch_execute(&statement).await.failed("GRANT ON SCHEMA", &schema)?;
        }
        Ok(())
    }

    /// Lets owners have things in schemas where they may create nothing: handing a table over to them asks for that. Returns the
    /// statements that take it back. `places` are pairs of schema and owner; schemas that are not there yet are passed over.
    ///
    /// # Errors
    /// What the server says, with the schema named.
    pub async fn open_schemas_for(
        &self,
        admin: &Client,
        places: &BTreeSet<(String, String)>,
    ) -> Result<Vec<String>, StatementError> {
        let what = "reading the schemas for";
        let schemas: Vec<&str> = places.iter().map(|(schema, _)| schema.as_str()).collect();
        let owners: Vec<&str> = places.iter().map(|(_, owner)| owner.as_str()).collect();
        let rows = admin
            .query(
                "SELECT p.schema, p.owner FROM unnest($1::text[], $2::text[]) AS p(schema, owner)
                   JOIN pg_catalog.pg_namespace n ON n.nspname = p.schema
                  WHERE NOT pg_catalog.has_schema_privilege(p.owner::name, n.oid, 'CREATE')",
                &[&schemas, &owners],
            )
            .await
            .failed(what, &self.role)?;
        let mut back = Vec::new();
        for row in rows {
            let schema: String = row.try_get(0).failed(what, &self.role)?;
            let owner: String = row.try_get(1).failed(what, &self.role)?;
            let (quoted, owner) = (escape_identifier(&schema), escape_identifier(&owner));
            let statement = format!("GRANT CREATE ON SCHEMA {quoted} TO {owner}");
            admin.batch_execute(&statement).await.failed("GRANT ON SCHEMA", &schema)?;
            back.push(format!("REVOKE CREATE ON SCHEMA {quoted} FROM {owner}"));
        }
        Ok(back)
    }

    /// Lets one that is a member of nobody fill the database that `admin` is connected to: use its schemas and sequences, read its tables,
    /// which functions in constraints may look into, and add to them. Functions and types are everybody's until the recorded grants come.
    ///
    /// # Errors
    /// What the server says.
    pub async fn open_rows(&self, admin: &Client) -> Result<(), StatementError> {
        let (what, loader) = ("reading what is to be filled by", escape_identifier(&self.role));
        let rows = admin.query(FILLING, &[&loader, &GRANT_BATCH]).await.failed(what, &self.role)?;
        for row in rows {
            let statement: String = row.try_get(0).failed(what, &self.role)?;
            admin.batch_execute(&statement).await.failed("GRANT TO", &self.role)?;
        }
        Ok(())
    }

    /// Lets it refer to tables of others: a foreign key is checked by whoever makes it, and by the table's owner, who may have no right to
    /// it yet, where that one may not read it. `tables` are schemas and names.
    ///
    /// # Errors
    /// What the server says, with the table named.
    pub async fn open_tables(&self, admin: &Client, tables: &BTreeSet<(String, String)>) -> Result<(), StatementError> {
        let loader = escape_identifier(&self.role);
        for (schema, name) in tables {
            let table = format!("{}.{}", escape_identifier(schema), escape_identifier(name));
            let statement = format!("GRANT SELECT, REFERENCES, TRIGGER ON TABLE {table} TO {loader}");
            admin.batch_execute(&statement).await.failed("GRANT ON TABLE", name)?;
        }
        Ok(())
    }

    /// Takes back every right that it has in the database that `admin` is connected to, and removes what a tenant's function may
    /// have made in its name.
    ///
    /// # Errors
    /// What the server says.
    pub async fn leave_database(&self, admin: &Client) -> Result<(), StatementError> {
        if self.temporary {
            return drop_owned(admin, &self.role).await;
        }
        // A configured login may own things of its own here: only what we gave is taken.
        let loader = escape_identifier(&self.role);
        let what = "reading the rights of";
        let rows = admin
            .query(
                "SELECT DISTINCT pg_catalog.format('REVOKE ALL ON SCHEMA %I FROM %s', nspname, $2::text)
                   FROM pg_catalog.pg_namespace, pg_catalog.aclexplode(nspacl) AS a, pg_catalog.pg_roles AS r
                  WHERE r.oid = a.grantee AND r.rolname = $1::text
                 UNION ALL
                 SELECT DISTINCT pg_catalog.format('REVOKE %s %I.%I FROM %s', CASE c.relkind WHEN 'S' THEN 'USAGE, SELECT ON SEQUENCE'
                                     ELSE 'SELECT, INSERT, REFERENCES, TRIGGER ON TABLE' END, nspname, relname, $2::text)
                   FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace,
                        pg_catalog.aclexplode(relacl) AS a, pg_catalog.pg_roles AS r
                  WHERE r.oid = a.grantee AND r.rolname = $1::text AND c.relowner <> r.oid",
                &[&self.role, &loader],
            )
            .await
            .failed(what, &self.role)?;
        for row in rows {
            let statement: String = row.try_get(0).failed(what, &self.role)?;
            admin.batch_execute(&statement).await.failed("REVOKE FROM", &self.role)?;
        }
        Ok(())
    }

    /// Drops a temporary login. `admin` is connected to the maintenance database; the login must have left every database.
    ///
    /// # Errors
    /// What the server says.
    pub async fn remove(&self, admin: &Client) -> Result<(), StatementError> {
        if self.temporary { drop_role(admin, &self.role).await } else { Ok(()) }
    }
}

/// Makes a temporary login, and gives its password.
async fn create(admin: &Client, role: &str) -> Result<Zeroizing<String>, StatementError> {
    let password = Zeroizing::new(format!("{}{}", RecordId::random(), RecordId::random()));
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let what = "preparing the temporary login";
    let hours = i32::try_from(VALID_HOURS).unwrap_or(24);
    let sql = "SELECT (pg_catalog.now() + pg_catalog.make_interval(hours => $1))::text";
    let row = admin.query_one(sql, &[&hours]).await.failed(what, role)?;
    let until: String = row.try_get(0).failed(what, role)?;
    let create = format!(
        "CREATE ROLE {} LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {} VALID UNTIL {}",
        escape_identifier(role),
        escape_literal(&verifier),
        escape_literal(&until),
    );
    admin.batch_execute(&create).await.failed("CREATE ROLE", role)?;
    Ok(password)
}

/// Takes back all that a role has in the database that `admin` is connected to, and drops what it owns there.
///
/// # Errors
/// What the server says.
pub async fn drop_owned(admin: &Client, role: &str) -> Result<(), StatementError> {
    admin.batch_execute(&format!("DROP OWNED BY {} CASCADE", escape_identifier(role))).await.failed("DROP OWNED BY", role)
}

/// Drops a temporary login, if it is there. It must have left every database.
///
/// # Errors
/// What the server says.
pub async fn drop_role(admin: &Client, role: &str) -> Result<(), StatementError> {
    // Asked first: without CREATEROLE even `IF EXISTS` is refused, for a role that was never made.
    if !roles::exists(admin, role).await? {
        return Ok(());
    }
    admin.batch_execute(&format!("DROP ROLE IF EXISTS {}", escape_identifier(role))).await.failed("DROP ROLE", role)
}
