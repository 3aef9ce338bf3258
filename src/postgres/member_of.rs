//! Memberships between recorded roles: given back where they give no power over anything else, named where they might.
//!
//! A role of that name may stand for something else on another server. So a membership is given only to a role that was just made, and
//! only in a role that was just made too, or in one that is a mere group there: it can't log in, has no attribute, owns nothing in any
//! database, is none of PostgreSQL's own, and is a member of no role that is more than that.

use std::fmt;

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::{Client, error::SqlState};

use super::{
    roles::KnownRoles,
    statement::{Failed, StatementError},
};
use crate::{format::description::Role, printable::Printable};

/// A recorded membership that was not given. Shows itself as a sentence with the statement that gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotGiven {
    /// Who is no member.
    pub member: String,
    /// Of which role.
    pub role: String,
    /// Why.
    pub why: Why,
}

/// Why a membership was not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The member was on the server before.
    MemberWasThere,
    /// The role was on the server before and is more than a group; or a role that it is a member of.
    Powerful(String),
    /// The server has no such role.
    Missing,
    /// The server refused, in its words.
    Refused(String),
}

impl fmt::Display for NotGiven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (member, role) = (Printable(&self.member), Printable(&self.role));
        write!(f, "role {member} is no member of {role}, as it was when it was backed up: ")?;
        match &self.why {
            Why::MemberWasThere => write!(f, "it was there before")?,
            Why::Powerful(power) => write!(f, "{role} was there before and {power}")?,
            Why::Missing => return write!(f, "this server has no role {role}"),
            Why::Refused(said) => write!(f, "the server refused ({})", Printable(said))?,
        }
        let grant = format!("GRANT {} TO {}", escape_identifier(&self.role), escape_identifier(&self.member));
        write!(f, "; if it shall be one, {}", Printable(&grant))
    }
}

/// Gives the memberships that `recorded` names, as far as that is safe. `known` are the roles that the server had before this restore made
/// `made`. Returns those that are missing now.
///
/// # Errors
/// What the server says, with the role named.
pub async fn give(
    admin: &Client,
    recorded: &[Role],
    known: &KnownRoles,
    made: &[String],
) -> Result<Vec<NotGiven>, StatementError> {
    let pairs = || recorded.iter().flat_map(|role| role.member_of.iter().map(move |of| (role.name.as_str(), of.as_str())));
    let (members, roles): (Vec<&str>, Vec<&str>) = pairs().unzip();
    let (what, whom) = ("reading the memberships of", "the recorded roles");
    let rows = admin.query(STATE, &[&members, &roles]).await.failed(what, whom)?;
    let mut not_given = Vec::new();
    for row in rows {
        let (member, role): (String, String) = (row.try_get(0).failed(what, whom)?, row.try_get(1).failed(what, whom)?);
        let (is_role, is_member): (bool, bool) = (row.try_get(2).failed(what, whom)?, row.try_get(3).failed(what, whom)?);
        let powers: Vec<String> = row.try_get(4).failed(what, whom)?;
        if is_member {
            continue;
        }
        // Another restore may have made the member, or the role, since `known` was read: that gives the member no rights from before.
        let why = if !is_role {
            Why::Missing
        } else if known.has(&member) {
            Why::MemberWasThere
        } else if !made.contains(&role) && !powers.is_empty() {
            Why::Powerful(powers.join(", "))
        } else {
            match grant(admin, &member, &role).await? {
                None => continue,
                Some(said) => Why::Refused(said),
            }
        };
        not_given.push(NotGiven { member, role, why });
    }
    Ok(not_given)
}

/// What the server said when it refused.
async fn grant(admin: &Client, member: &str, role: &str) -> Result<Option<String>, StatementError> {
    let statement = format!("GRANT {} TO {}", escape_identifier(role), escape_identifier(member));
    let Err(error) = admin.batch_execute(&statement).await else { return Ok(None) };
    // From PostgreSQL 16 on an administrator who is no superuser needs ADMIN OPTION.
    match error.as_db_error().filter(|said| *said.code() == SqlState::INSUFFICIENT_PRIVILEGE) {
        Some(said) => Ok(Some(said.message().to_owned())),
        None => Err(error).failed("GRANT ROLE", role),
    }
}

/// For each pair of member and role, in order: whether there is such a role, whether the member is one, directly, by another role, or as a
/// superuser, and what makes the role more than a group. A pair whose member is not there is left out.
const STATE: &str = "
    WITH RECURSIVE pair AS (SELECT * FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS p(member, role, at)),
    reach(start, oid) AS (
        SELECT r.oid, r.oid FROM pg_catalog.pg_roles r WHERE r.rolname::text IN (SELECT role FROM pair)
         UNION
        SELECT reach.start, m.roleid FROM reach JOIN pg_catalog.pg_auth_members m ON m.member = reach.oid),
    power(start, words) AS (
        SELECT reach.start, CASE WHEN reach.oid = reach.start THEN '' ELSE 'is a member of ' || r.rolname || ', which ' END || v.words
          FROM reach JOIN pg_catalog.pg_roles r ON r.oid = reach.oid
          CROSS JOIN LATERAL (VALUES
               (r.rolsuper, 'is a superuser'),
               (r.oid < 16384 AND NOT r.rolsuper, 'is one of PostgreSQL''s own'),
               (r.rolcreaterole AND NOT r.rolsuper, 'may create roles'),
               (r.rolcreatedb AND NOT r.rolsuper, 'may create databases'),
               (r.rolreplication AND NOT r.rolsuper, 'may replicate'),
               (r.rolbypassrls AND NOT r.rolsuper, 'bypasses row security'),
               (r.rolcanlogin AND NOT r.rolsuper, 'can log in'),
               (NOT r.rolsuper AND EXISTS (
                    SELECT FROM pg_catalog.pg_shdepend s
                     WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = r.oid AND s.deptype = 'o'),
                'owns something')) AS v(holds, words)
         WHERE v.holds)
    SELECT p.member, p.role, r.oid IS NOT NULL,
           CASE WHEN r.oid IS NULL THEN false ELSE pg_catalog.pg_has_role(m.oid, r.oid, 'MEMBER') END,
           ARRAY(SELECT power.words FROM power WHERE power.start = r.oid ORDER BY 1)
      FROM pair p JOIN pg_catalog.pg_roles m ON m.rolname::text = p.member
      LEFT JOIN pg_catalog.pg_roles r ON r.rolname::text = p.role
     ORDER BY p.at";
