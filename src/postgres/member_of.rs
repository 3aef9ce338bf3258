//! Memberships between recorded roles: given back where they give no power over anything else, named where they might.
//!
//! A role of that name may stand for something else on another server. So a membership is given only to a role that was just made, and
//! only in a role that was just made too, or in one that is a mere group there: it can't log in, has no attribute, owns nothing in any
//! database, is none of PostgreSQL's own, and is a member of no role that is more than that. The right to make others members is given only
//! in a role that was just made.

use std::fmt;

use postgres_protocol::escape::escape_identifier;
use tokio_postgres::{Client, error::SqlState};

use super::{
    roles::KnownRoles,
    statement::{Failed, StatementError},
};
use crate::{
    format::description::{MembershipOptions, Role},
    printable::Printable,
};

/// The first version whose memberships have options of their own besides ADMIN.
const WITH_OPTIONS: u32 = 160_000;

/// A recorded membership that was not given, or not in full. Shows itself as a sentence with the statement that gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotGiven {
    /// Who is no member.
    pub member: String,
    /// Of which role.
    pub role: String,
    /// Why.
    pub why: Why,
    /// What follows `GRANT role TO member`, with a space before it.
    pub options: String,
}

/// Why a membership was not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The member was on the server before.
    MemberWasThere,
    /// The role was on the server before and is more than a group; or a role that it is a member of.
    Powerful(String),
    /// It is a member, and may not make others members of a role that was there before.
    NoAdmin,
    /// It is a member, in the plain way: this server knows no other.
    Plain,
    /// The backup only names the member: it has nothing in the database.
    NotOfBackup,
    /// The server has no such role.
    Missing,
    /// The server has no such member, of which the backup has nothing else.
    MemberMissing,
    /// The server refused, in its words.
    Refused(String),
}

impl fmt::Display for NotGiven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (member, role) = (Printable(&self.member), Printable(&self.role));
        let grant = format!("GRANT {} TO {}{}", escape_identifier(&self.role), escape_identifier(&self.member), self.options);
        match &self.why {
            Why::NoAdmin => {
                write!(
                    f,
                    "role {member} may not make others members of {role}, as it could when it was backed up: {role} was there before"
                )?;
            }
            Why::Plain => {
                return write!(
                    f,
                    "role {member} is a member of {role} in the plain way; when it was backed up, it was one by {}",
                    Printable(&grant)
                );
            }
            Why::NotOfBackup => {
                let (member, role) = (&member, &role);
                write!(
                    f,
                    "role {member} is no member of {role}, as it was when it was backed up: the backup has nothing else of it"
                )?;
            }
            why => {
                write!(f, "role {member} is no member of {role}, as it was when it was backed up: ")?;
                match why {
                    Why::MemberWasThere => write!(f, "it was there before")?,
                    Why::Powerful(power) => write!(f, "{role} was there before and {power}")?,
                    Why::Refused(said) => write!(f, "the server refused ({})", Printable(said))?,
                    Why::MemberMissing => return write!(f, "this server has no role {member}"),
                    _ => return write!(f, "this server has no role {role}"),
                }
            }
        }
        write!(f, "; if it shall be one, {}", Printable(&grant))
    }
}

/// Gives the memberships that `recorded` names, as far as that is safe, on a server of `version_num`. `known` are the roles that it had
/// before this restore made `made`. Returns those that are missing now.
///
/// # Errors
/// What the server says, with the role named.
pub async fn give(
    admin: &Client,
    recorded: &[Role],
    known: &KnownRoles,
    made: &[String],
    version_num: u32,
) -> Result<Vec<NotGiven>, StatementError> {
    let pairs = || recorded.iter().flat_map(|role| role.member_of.iter().map(move |of| (role, of.as_str(), role.options_in(of))));
    let strangers = recorded.iter().flat_map(|role| role.members.iter().map(move |member| (member.as_str(), role.name.as_str())));
    let (missing, strangers): (Vec<_>, Vec<_>) = strangers.partition(|(member, _)| !known.has(member));
    let of_backup = pairs().map(|(member, of, _)| (member.name.as_str(), of));
    let (members, roles): (Vec<&str>, Vec<&str>) = of_backup.chain(strangers).unzip();
    let options: Vec<Option<&MembershipOptions>> = pairs().map(|(.., options)| options).collect();
    let (what, whom) = ("reading the memberships of", "the recorded roles");
    let rows = admin.query(STATE, &[&members, &roles]).await.failed(what, whom)?;
    let mut not_given = Vec::new();
    for row in rows {
        let (member, role): (String, String) = (row.try_get(0).failed(what, whom)?, row.try_get(1).failed(what, whom)?);
        let (is_role, is_member): (bool, bool) = (row.try_get(2).failed(what, whom)?, row.try_get(3).failed(what, whom)?);
        let powers: Vec<String> = row.try_get(4).failed(what, whom)?;
        let at: i64 = row.try_get(5).failed(what, whom)?;
        if is_member {
            continue;
        }
        let pair = usize::try_from(at - 1).ok().and_then(|at| options.get(at));
        let recorded = pair.copied().flatten();
        let wanted = recorded.map(|options| clause(options, version_num, true)).unwrap_or_default();
        // Another restore may have made the member, or the role, since `known` was read: that gives the member no rights from before.
        let why = if !is_role {
            Why::Missing
        } else if pair.is_none() {
            Why::NotOfBackup
        } else if known.has(&member) {
            Why::MemberWasThere
        } else if !made.contains(&role) && !powers.is_empty() {
            Why::Powerful(powers.join(", "))
        } else {
            let may_admin = made.contains(&role);
            let given = recorded.map(|options| clause(options, version_num, may_admin)).unwrap_or_default();
            match grant(admin, &member, &role, &given).await? {
                None if given != wanted => Why::NoAdmin,
                None if version_num < WITH_OPTIONS && recorded.is_some_and(|options| !options.set || !options.inherit) => {
                    Why::Plain
                }
                None => continue,
                Some(said) => Why::Refused(said),
            }
        };
        let options = if why == Why::Plain { recorded.map(|options| clause(options, WITH_OPTIONS, true)) } else { Some(wanted) };
        not_given.push(NotGiven { member, role, why, options: options.unwrap_or_default() });
    }
    not_given.extend(missing.into_iter().map(|(member, role)| NotGiven {
        member: member.to_owned(),
        role: role.to_owned(),
        why: Why::MemberMissing,
        options: String::new(),
    }));
    Ok(not_given)
}

/// What follows `GRANT role TO member` on a server of `version_num`.
fn clause(options: &MembershipOptions, version_num: u32, may_admin: bool) -> String {
    let admin = options.admin && may_admin;
    if version_num < WITH_OPTIONS {
        return if admin { " WITH ADMIN OPTION".to_owned() } else { String::new() };
    }
    let word = |is: bool| if is { "TRUE" } else { "FALSE" };
    format!(" WITH ADMIN {}, INHERIT {}, SET {}", word(admin), word(options.inherit), word(options.set))
}

/// What the server said when it refused.
async fn grant(admin: &Client, member: &str, role: &str, options: &str) -> Result<Option<String>, StatementError> {
    let statement = format!("GRANT {} TO {}{options}", escape_identifier(role), escape_identifier(member));
    let Err(error) = admin.batch_execute(&statement).await else { return Ok(None) };
    // From PostgreSQL 16 on an administrator who is no superuser needs ADMIN OPTION.
    match error.as_db_error().filter(|said| *said.code() == SqlState::INSUFFICIENT_PRIVILEGE) {
        Some(said) => Ok(Some(said.message().to_owned())),
        None => Err(error).failed("GRANT ROLE", role),
    }
}

/// For each pair of member and role, in order: whether there is such a role, whether the member is one, directly, by another role, or as a
/// superuser, what makes the role more than a group, and the pair's position from 1. A pair whose member is not there is left out.
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
           ARRAY(SELECT power.words FROM power WHERE power.start = r.oid ORDER BY 1), p.at
      FROM pair p JOIN pg_catalog.pg_roles m ON m.rolname::text = p.member
      LEFT JOIN pg_catalog.pg_roles r ON r.rolname::text = p.role
     ORDER BY p.at";
