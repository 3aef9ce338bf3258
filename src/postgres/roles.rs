//! Roles that a tenant's objects refer to, on the server that it is restored to.

use std::collections::{BTreeMap, HashSet};

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::Client;

use super::statement::{Failed, StatementError};
use crate::format::description::Role;

/// What the server has.
#[derive(Debug, Clone, Default)]
pub struct KnownRoles {
    /// Every role, and whether it is a superuser.
    pub superuser: BTreeMap<String, bool>,
}

impl KnownRoles {
    /// Reads them.
    ///
    /// # Errors
    /// What the server says.
    pub async fn read(admin: &Client) -> Result<Self, StatementError> {
        let what = "reading the roles of";
        let rows =
            admin.query("SELECT rolname::text, rolsuper FROM pg_catalog.pg_roles", &[]).await.failed(what, "the server")?;
        let mut superuser = BTreeMap::new();
        for row in rows {
            superuser.insert(row.try_get(0).failed(what, "the server")?, row.try_get(1).failed(what, "the server")?);
        }
        Ok(Self { superuser })
    }

    /// Whether there is such a role.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.superuser.contains_key(name)
    }

    /// The superusers.
    #[must_use]
    pub fn superusers(&self) -> HashSet<String> {
        self.superuser.iter().filter(|(_, superuser)| **superuser).map(|(name, _)| name.clone()).collect()
    }
}

/// The recorded roles that the server lacks.
#[must_use]
pub fn missing<'a>(recorded: &'a [Role], known: &KnownRoles) -> Vec<&'a Role> {
    recorded.iter().filter(|role| !known.has(&role.name) && !role.name.starts_with("pg_")).collect()
}

/// Creates the missing roles: NOLOGIN, without a password and without any right that reaches beyond the database, whatever the
/// record says. `created` gets their names as they are made.
///
/// Another restore may make the same role at the same time: it is then taken as it is.
///
/// # Errors
/// What the server says, with the role named.
pub async fn create_missing(admin: &Client, missing: &[&Role], created: &mut Vec<String>) -> Result<(), StatementError> {
    for role in missing {
        let inherit = if role.inherit { "INHERIT" } else { "NOINHERIT" };
        let statement = format!(
            "CREATE ROLE {} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS {inherit}",
            escape_identifier(&role.name)
        );
        // Noted first: who stops waiting in between must know of it.
        created.push(role.name.clone());
        match admin.batch_execute(&statement).await {
            Ok(()) => {}
            Err(error) if is_taken(&error) => drop(created.pop()),
            Err(error) => return Err(error).failed("CREATE ROLE", &role.name),
        }
    }
    Ok(())
}

/// Who is made a member.
#[derive(Debug, Clone, Copy)]
pub enum Member<'a> {
    /// The connected role.
    Current,
    /// Another one.
    Role(&'a str),
}

/// A membership that a restore began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The role that somebody was made a member of.
    pub role: String,
    /// The statement that makes it as it was.
    pub undo: String,
}

/// Makes `member` a member of `roles` that has their rights, as far as it is none. What was begun is noted in `joined`.
///
/// # Errors
/// What the server says, with the role named.
pub async fn join<'a>(
    admin: &Client,
    member: Member<'_>,
    roles: impl Iterator<Item = &'a String>,
    joined: &mut Vec<Joined>,
) -> Result<(), StatementError> {
    let (name, quoted) = match member {
        Member::Current => (None, "CURRENT_USER".to_owned()),
        Member::Role(name) => (Some(name), escape_identifier(name)),
    };
    for role in roles {
        let what = "asking for the members of";
        let row = admin
            .query_one(
                // From 16 on a membership may be there and give nothing, and there is one for each grantor, a superuser's being the first
                // superuser's; before, it is one row, which taking ours back would take.
                "SELECT pg_catalog.pg_has_role(m.oid, $2::text::name,
                        CASE WHEN pg_catalog.current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'USAGE' END),
                        EXISTS (SELECT FROM pg_catalog.pg_auth_members a, pg_catalog.pg_roles c
                                 WHERE a.roleid = r.oid AND a.member = m.oid AND c.rolname = current_user
                                   AND a.grantor = CASE WHEN c.rolsuper THEN 10 ELSE c.oid END)
                   FROM pg_catalog.pg_roles m, pg_catalog.pg_roles r
                  WHERE m.rolname = COALESCE($1::text::name, current_user) AND r.rolname = $2::text::name",
                &[&name, role],
            )
            .await
            .failed(what, role)?;
        if row.try_get(0).failed(what, role)? {
            continue;
        }
        let group = escape_identifier(role);
        let undo = if row.try_get(1).failed(what, role)? {
            format!("GRANT {group} TO {quoted} WITH INHERIT FALSE")
        } else {
            format!("REVOKE {group} FROM {quoted}")
        };
        let inherit = if undo.starts_with("GRANT") { " WITH INHERIT TRUE" } else { "" };
        joined.push(Joined { role: role.clone(), undo });
        let granted = admin.batch_execute(&format!("GRANT {group} TO {quoted}{inherit}")).await;
        if granted.as_ref().is_err_and(|error| error.as_db_error().is_some()) {
            // The server refused: there is nothing to end.
            joined.pop();
        }
        granted.failed("GRANT ROLE", role)?;
    }
    Ok(())
}

/// Those of `roles` that are there and that the connected role, no superuser, may not make anybody a member of: from PostgreSQL 16 on
/// CREATEROLE alone does not let it.
///
/// # Errors
/// What the server says.
pub async fn not_to_grant(admin: &Client, roles: &[&str]) -> Result<Vec<String>, StatementError> {
    let (what, whom) = ("asking for the right to grant", "the owners");
    let sql = "SELECT r.rolname::text FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_roles c ON c.rolname = current_user
                WHERE r.rolname::text = ANY ($1::text[]) AND NOT r.rolsuper AND NOT c.rolsuper AND r.oid <> c.oid
                  AND pg_catalog.current_setting('server_version_num')::int >= 160000
                  AND NOT pg_catalog.pg_has_role(c.oid, r.oid, 'MEMBER WITH ADMIN OPTION')
                ORDER BY 1";
    let rows = admin.query(sql, &[&roles]).await.failed(what, whom)?;
    rows.iter().map(|row| row.try_get(0).failed(what, whom)).collect()
}

/// Roles that own something in these databases, or one of them. PostgreSQL keeps no list of what belongs to its first superuser.
///
/// # Errors
/// What the server says.
pub async fn owners_in(client: &Client, databases: &[u32]) -> Result<Vec<String>, StatementError> {
    let (what, whom) = ("listing the owners in", "the tenants' databases");
    let sql = "SELECT rolname::text FROM pg_catalog.pg_roles WHERE oid IN (
                 SELECT s.refobjid FROM pg_catalog.pg_shdepend s
                  WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.deptype = 'o' AND s.dbid = ANY ($1::oid[])
                  UNION SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.oid = ANY ($1::oid[]))";
    let rows = client.query(sql, &[&databases]).await.failed(what, whom)?;
    rows.iter().map(|row| row.try_get(0).failed(what, whom)).collect()
}

/// Ends memberships that [`join`] began. Returns those that stayed.
pub async fn leave(admin: &Client, joined: Vec<Joined>) -> Vec<Joined> {
    let mut left = Vec::new();
    for membership in joined {
        if let Err(error) = admin.batch_execute(&membership.undo).await {
            tracing::debug!(error = %error, "the membership in {:?} stays", membership.role);
            left.push(membership);
        }
    }
    left
}

/// Whether there is such a role now.
///
/// # Errors
/// What the server says.
pub async fn exists(admin: &Client, name: &str) -> Result<bool, StatementError> {
    let what = "looking for role";
    let row = admin
        .query_one("SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1::text::name)", &[&name])
        .await
        .failed(what, name)?;
    row.try_get(0).failed(what, name)
}

/// Drops roles that a failed restore made. Returns those that stayed: something else refers to them by now.
pub async fn drop_made(admin: &Client, made: &[String]) -> Vec<String> {
    let mut left = Vec::new();
    for role in made {
        if let Err(error) = super::loader::drop_role(admin, role).await {
            tracing::debug!(error = %error.source, "role {role:?} stays");
            left.push(role.clone());
        }
    }
    left
}

/// What the record gives a role and a restore does not.
#[must_use]
pub fn withheld(role: &Role) -> Vec<&'static str> {
    [
        (role.superuser, "SUPERUSER"),
        (role.login, "LOGIN"),
        (role.create_db, "CREATEDB"),
        (role.create_role, "CREATEROLE"),
        (role.replication, "REPLICATION"),
        (role.bypass_rls, "BYPASSRLS"),
    ]
    .into_iter()
    .filter_map(|(had, name)| had.then_some(name))
    .collect()
}

/// `duplicate_object`, or the race that ends in `unique_violation`.
fn is_taken(error: &tokio_postgres::Error) -> bool {
    use tokio_postgres::error::SqlState;
    matches!(error.code(), Some(code) if *code == SqlState::DUPLICATE_OBJECT || *code == SqlState::UNIQUE_VIOLATION)
}
