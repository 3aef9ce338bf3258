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
/// record says. Then grants the recorded memberships among them. `created` gets their names as they are made.
///
/// Another restore may make the same role at the same time: it is then taken as it is.
///
/// # Errors
/// What the server says, with the role named.
pub async fn create_missing(
    admin: &Client,
    missing: &[&Role],
    known: &KnownRoles,
    created: &mut Vec<String>,
) -> Result<(), StatementError> {
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
    for role in missing.iter().filter(|role| created.contains(&role.name)) {
        for parent in &role.member_of {
            // Never a membership in something that the server had before and that may reach further than this tenant.
            if known.has(parent) || parent.starts_with("pg_") {
                continue;
            }
            let statement = format!("GRANT {} TO {}", escape_identifier(parent), escape_identifier(&role.name));
            admin.batch_execute(&statement).await.failed("GRANT ROLE", parent)?;
        }
    }
    Ok(())
}

/// Makes an administrator who is no superuser a member of `roles`, without which it may give nothing to them. Those that it was no
/// member of before are noted in `joined`.
///
/// # Errors
/// What the server says, with the role named.
pub async fn join<'a>(
    admin: &Client,
    roles: impl Iterator<Item = &'a String>,
    joined: &mut Vec<String>,
) -> Result<(), StatementError> {
    for role in roles {
        let what = "asking for the members of";
        let row = admin
            .query_one(
                // From 16 on a membership may be there and give nothing; before, it is one row, which taking ours back would take.
                "SELECT pg_catalog.pg_has_role(current_user, $1::text::name,
                        CASE WHEN pg_catalog.current_setting('server_version_num')::int < 160000 THEN 'MEMBER' ELSE 'USAGE' END)",
                &[role],
            )
            .await
            .failed(what, role)?;
        if row.try_get(0).failed(what, role)? {
            continue;
        }
        joined.push(role.clone());
        admin.batch_execute(&format!("GRANT {} TO CURRENT_USER", escape_identifier(role))).await.failed("GRANT ROLE", role)?;
    }
    Ok(())
}

/// Ends memberships that [`join`] began. Returns those that stayed.
pub async fn leave(admin: &Client, joined: &[String]) -> Vec<String> {
    let mut left = Vec::new();
    for role in joined {
        if let Err(error) = admin.batch_execute(&format!("REVOKE {} FROM CURRENT_USER", escape_identifier(role))).await {
            tracing::debug!(error = %error, "the administrator stays a member of {role:?}");
            left.push(role.clone());
        }
    }
    left
}

/// Drops roles that a failed restore made. Returns those that stayed: something else refers to them by now.
pub async fn drop_made(admin: &Client, made: &[String]) -> Vec<String> {
    let mut left = Vec::new();
    for role in made {
        if let Err(error) = admin.batch_execute(&format!("DROP ROLE IF EXISTS {}", escape_identifier(role))).await {
            tracing::debug!(error = %error, "role {role:?} stays");
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
