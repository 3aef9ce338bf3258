//! Owners that may do more on a server than the backup says they could.
//!
//! A name proves nothing on another server. What a tenant's role owns, its code may come to act as; so a role that is powerful here, and
//! was not there, is an owner only if somebody says so.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use tokio_postgres::Client;

use super::statement::{Failed, StatementError};
use crate::{format::description::Role, printable::Printable};

/// Owners with power over more than what they own.
#[derive(Debug, Clone, Default)]
pub struct Powers {
    /// All of them, by name; nobody's code may run as a member of one.
    pub owners: HashSet<String>,
    /// What the backup does not record, in words: `role app may create roles`.
    pub unrecorded: Vec<String>,
}

/// Asks the server for the powers of `owners`, by themselves and by memberships, and compares them with what is `recorded`.
///
/// # Errors
/// What the server says.
pub async fn read(admin: &Client, owners: &BTreeSet<String>, recorded: &[Role]) -> Result<Powers, StatementError> {
    let (what, whom) = ("reading the powers of", "the owners");
    let names: Vec<&str> = owners.iter().map(String::as_str).collect();
    let rows = admin.query(POWERS, &[&names]).await.failed(what, whom)?;
    let recorded: BTreeMap<&str, &Role> = recorded.iter().map(|role| (role.name.as_str(), role)).collect();
    let mut powers = Powers::default();
    for row in rows {
        let (owner, via): (String, String) = (row.try_get(0).failed(what, whom)?, row.try_get(1).failed(what, whom)?);
        let (power, words): (String, String) = (row.try_get(2).failed(what, whom)?, row.try_get(3).failed(what, whom)?);
        if !is_recorded(&recorded, &owner, &via, &power) {
            let by = if via == owner { String::new() } else { format!("is a member of {}, which ", Printable(&via)) };
            powers.unrecorded.push(format!("role {} {by}{words}", Printable(&owner)));
        }
        powers.owners.insert(owner);
    }
    Ok(powers)
}

/// Whether the backup says that `owner` had `power` by `via`, or was a superuser, who has all.
fn is_recorded(recorded: &BTreeMap<&str, &Role>, owner: &str, via: &str, power: &str) -> bool {
    let mut reached = BTreeSet::from([owner]);
    let mut next = vec![owner];
    while let Some(role) = next.pop().and_then(|name| recorded.get(name)) {
        next.extend(role.member_of.iter().map(String::as_str).filter(|name| reached.insert(name)));
    }
    let had = |name: &str, power: &str| {
        recorded.get(name).is_some_and(|role| match power {
            "SUPERUSER" => role.superuser,
            "CREATEROLE" => role.create_role,
            "REPLICATION" => role.replication,
            "BYPASSRLS" => role.bypass_rls,
            _ => true,
        })
    };
    reached.iter().any(|name| had(name, "SUPERUSER")) || (reached.contains(via) && had(via, power))
}

const POWERS: &str = "
    WITH RECURSIVE reach(start, oid) AS (
        SELECT r.rolname::text, r.oid FROM pg_catalog.pg_roles r WHERE r.rolname::text = ANY ($1::text[])
         UNION
        SELECT reach.start, m.roleid FROM reach JOIN pg_catalog.pg_auth_members m ON m.member = reach.oid AND reach.oid >= 16384)
    SELECT reach.start, r.rolname::text, v.power, v.words
      FROM reach JOIN pg_catalog.pg_roles r ON r.oid = reach.oid
      CROSS JOIN LATERAL (VALUES
           (r.rolsuper, 'SUPERUSER', 'is a superuser'),
           (r.oid < 16384 AND NOT r.rolsuper, 'predefined', 'is one of PostgreSQL''s own'),
           (r.rolcreaterole AND NOT r.rolsuper, 'CREATEROLE', 'may create roles'),
           (r.rolreplication AND NOT r.rolsuper, 'REPLICATION', 'may replicate'),
           (r.rolbypassrls AND NOT r.rolsuper, 'BYPASSRLS', 'bypasses row security')) AS v(holds, power, words)
     WHERE v.holds
     ORDER BY 1, 2, 3";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::is_recorded;
    use crate::format::description::Role;

    #[test]
    fn what_was_recorded_is_no_news() {
        let role = |name: &str, create_role, superuser, member_of: &[&str]| Role {
            name: name.into(),
            superuser,
            inherit: true,
            create_role,
            create_db: false,
            login: false,
            replication: false,
            bypass_rls: false,
            member_of: member_of.iter().map(|name| (*name).to_owned()).collect(),
            options: Vec::new(),
            members: Vec::new(),
        };
        let roles = [
            role("maker", true, false, &[]),
            role("app", false, false, &["group"]),
            role("group", false, false, &["maker", "pg_monitor"]),
            role("pg_monitor", false, false, &[]),
            role("boss", false, true, &["app"]),
            role("plain", false, false, &[]),
        ];
        let recorded: BTreeMap<&str, &Role> = roles.iter().map(|role| (role.name.as_str(), role)).collect();
        for (owner, via, power, expected) in [
            ("maker", "maker", "CREATEROLE", true),
            ("maker", "maker", "BYPASSRLS", false),
            ("app", "maker", "CREATEROLE", true),
            ("app", "app", "CREATEROLE", false),
            ("app", "pg_monitor", "predefined", true),
            ("plain", "pg_monitor", "predefined", false),
            ("plain", "plain", "SUPERUSER", false),
            ("boss", "boss", "SUPERUSER", true),
            ("boss", "pg_read_server_files", "predefined", true),
            ("unknown", "unknown", "CREATEROLE", false),
        ] {
            assert_eq!(is_recorded(&recorded, owner, via, power), expected, "{owner} {via} {power}");
        }
    }
}
