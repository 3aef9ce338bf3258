//! Access lists as the server writes them: `role=rw/grantor`.

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::Client;

use super::statement::{Failed, StatementError};

/// One privilege of one grantee.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// `SELECT`, `CONNECT`, …
    pub privilege: String,
    /// Whether it may be passed on.
    pub grantable: bool,
    /// Who gave it.
    pub grantor: String,
    /// Who has it, as SQL: a quoted name, or `PUBLIC`.
    pub to: String,
}

/// Reads recorded items, in their order: who passes a right on was given it by an earlier one. The server reads its own notation: names
/// in it are quoted in a way of its own. Items of roles that the server does not have are left out.
///
/// # Errors
/// What the server says, with `object` named.
pub async fn explode(client: &Client, items: &[String], object: &str) -> Result<Vec<Grant>, StatementError> {
    let what = "reading the recorded rights of";
    if items.is_empty() {
        // Nobody has any; the server does not take an empty list.
        return Ok(Vec::new());
    }
    let rows = client
        .query(
            "SELECT r.privilege_type, r.is_grantable, grantor.rolname::text, grantee.rolname::text, r.grantee = 0
               FROM pg_catalog.aclexplode($1::pg_catalog.text[]::pg_catalog.aclitem[])
                 WITH ORDINALITY AS r(grantor, grantee, privilege_type, is_grantable, position)
               JOIN pg_catalog.pg_roles AS grantor ON grantor.oid = r.grantor
               LEFT JOIN pg_catalog.pg_roles AS grantee ON grantee.oid = r.grantee
              ORDER BY r.position",
            &[&items],
        )
        .await
        .failed(what, object)?;
    let mut grants = Vec::with_capacity(rows.len());
    for row in rows {
        let grantee: Option<String> = row.try_get(3).failed(what, object)?;
        let to = match grantee {
            _ if row.try_get(4).failed(what, object)? => "PUBLIC".to_owned(),
            Some(role) => escape_identifier(&role),
            None => continue,
        };
        grants.push(Grant {
            privilege: row.try_get(0).failed(what, object)?,
            grantable: row.try_get(1).failed(what, object)?,
            grantor: row.try_get(2).failed(what, object)?,
            to,
        });
    }
    Ok(grants)
}
