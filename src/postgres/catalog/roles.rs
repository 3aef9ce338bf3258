//! Roles that a database refers to.

use super::{Catalog, CatalogError};
use crate::format::description::{MembershipOptions, Role};

/// Catalogs whose objects have an owner: name, owner column, condition. Indexes, TOAST tables, row types and array types are left out:
/// they follow another object.
const OWNED: [(&str, &str, &str); 18] = [
    ("pg_class", "relowner", "o.relkind NOT IN ('i', 'I', 't')"),
    ("pg_proc", "proowner", "true"),
    ("pg_type", "typowner", "o.typelem = 0 AND o.typrelid = 0"),
    ("pg_namespace", "nspowner", "true"),
    ("pg_operator", "oprowner", "true"),
    ("pg_opclass", "opcowner", "true"),
    ("pg_opfamily", "opfowner", "true"),
    ("pg_conversion", "conowner", "true"),
    ("pg_collation", "collowner", "true"),
    ("pg_ts_dict", "dictowner", "true"),
    ("pg_ts_config", "cfgowner", "true"),
    ("pg_statistic_ext", "stxowner", "true"),
    ("pg_publication", "pubowner", "true"),
    ("pg_foreign_data_wrapper", "fdwowner", "true"),
    ("pg_foreign_server", "srvowner", "true"),
    ("pg_event_trigger", "evtowner", "true"),
    ("pg_language", "lanowner", "true"),
    ("pg_largeobject_metadata", "lomowner", "true"),
];

/// Catalogs with an access list: name, OID column of the object, list.
const GRANTED: [(&str, &str, &str); 10] = [
    ("pg_class", "oid", "relacl"),
    ("pg_attribute", "attrelid", "attacl"),
    ("pg_proc", "oid", "proacl"),
    ("pg_type", "oid", "typacl"),
    ("pg_namespace", "oid", "nspacl"),
    ("pg_language", "oid", "lanacl"),
    ("pg_foreign_data_wrapper", "oid", "fdwacl"),
    ("pg_foreign_server", "oid", "srvacl"),
    ("pg_default_acl", "oid", "defaclacl"),
    ("pg_largeobject_metadata", "oid", "lomacl"),
];

/// OIDs of the roles.
///
/// `pg_shdepend` names them, except for roles that cannot be dropped (the first superuser, `pg_…`): those are looked for in every
/// owner column and access list of objects that a user made. The owner of an extension's member is whoever installs it.
fn referenced() -> String {
    let database = "(SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())";
    let member = |catalog: &str, object: &str| {
        format!(
            "EXISTS (SELECT FROM pg_catalog.pg_depend m WHERE m.classid = {catalog} AND m.objid = {object} \
             AND m.refclassid = 'pg_catalog.pg_extension'::regclass AND m.deptype = 'e')"
        )
    };
    let mut parts = vec![
        format!(
            "SELECT s.refobjid FROM pg_catalog.pg_shdepend s WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass \
             AND (s.dbid = {database} OR (s.dbid = 0 AND s.classid = 'pg_catalog.pg_database'::regclass AND s.objid = {database})) \
             AND NOT (s.deptype = 'o' AND (s.classid = 'pg_catalog.pg_extension'::regclass OR {}))",
            member("s.classid", "s.objid")
        ),
        format!("SELECT s.setrole FROM pg_catalog.pg_db_role_setting s WHERE s.setdatabase = {database}"),
        format!("SELECT d.datdba FROM pg_catalog.pg_database d WHERE d.oid = {database}"),
        format!(
            "SELECT r.oid FROM pg_catalog.pg_database d CROSS JOIN LATERAL pg_catalog.aclexplode(d.datacl) a \
             CROSS JOIN LATERAL (VALUES (a.grantee), (a.grantor)) AS r(oid) WHERE d.oid = {database}"
        ),
        // From PostgreSQL 15 on the schema `public` belongs to a role of the system's, and another owner is dumped.
        "SELECT n.nspowner FROM pg_catalog.pg_namespace n WHERE n.nspname = 'public' \
         AND (n.nspowner <> 10 OR pg_catalog.current_setting('server_version_num')::int >= 150000)"
            .to_owned(),
        "SELECT u.umuser FROM pg_catalog.pg_user_mappings u".to_owned(),
        "SELECT d.defaclrole FROM pg_catalog.pg_default_acl d".to_owned(),
        "SELECT r.oid FROM pg_catalog.pg_policy p CROSS JOIN LATERAL pg_catalog.unnest(p.polroles) AS r(oid)".to_owned(),
        format!("SELECT s.subowner FROM pg_catalog.pg_subscription s WHERE s.subdbid = {database}"),
    ];
    for (catalog, owner, condition) in OWNED {
        let member = member(&format!("'pg_catalog.{catalog}'::regclass"), "o.oid");
        parts.push(format!(
            "SELECT o.{owner} FROM pg_catalog.{catalog} o WHERE o.oid >= 16384 AND o.{owner} < 16384 AND {condition} AND NOT {member}"
        ));
    }
    for (catalog, oid, list) in GRANTED {
        parts.push(format!(
            "SELECT r.oid FROM pg_catalog.{catalog} o CROSS JOIN LATERAL pg_catalog.aclexplode(o.{list}) a \
             CROSS JOIN LATERAL (VALUES (a.grantee), (a.grantor)) AS r(oid) WHERE o.{oid} >= 16384 AND o.{list} IS NOT NULL AND r.oid < 16384"
        ));
    }
    parts.join(" UNION ")
}

impl Catalog<'_> {
    /// Roles that the database refers to as owner, grantee, grantor, in a policy, a mapping or a setting, and those that they are members of,
    /// directly or not, sorted by name.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn roles(&self) -> Result<Vec<Role>, CatalogError> {
        let sql = format!("WITH RECURSIVE referenced(oid) AS ({}), {ROLES}", referenced());
        let rows = self.rows("roles", &sql, &[], |row| {
            let roles: Vec<String> = row.try_get(8)?;
            let (admin, inherit, set): (Vec<bool>, Vec<bool>, Vec<bool>) = (row.try_get(9)?, row.try_get(10)?, row.try_get(11)?);
            let of_itself: bool = row.try_get(2)?;
            let options = roles.iter().zip(admin).zip(inherit).zip(set);
            let options =
                options.map(|(((role, admin), inherit), set)| MembershipOptions { role: role.clone(), admin, inherit, set });
            let mut role = Role {
                name: row.try_get(0)?,
                superuser: row.try_get(1)?,
                inherit: of_itself,
                create_role: row.try_get(3)?,
                create_db: row.try_get(4)?,
                login: row.try_get(5)?,
                replication: row.try_get(6)?,
                bypass_rls: row.try_get(7)?,
                options: options.filter(|given| given.admin || given.inherit != of_itself || !given.set).collect(),
                member_of: roles,
                members: row.try_get(12)?,
            };
            role.member_of.sort_unstable();
            role.options.sort_unstable_by(|a, b| a.role.cmp(&b.role));
            role.members.sort_unstable();
            Ok(role)
        });
        let mut roles = rows.await?;
        roles.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(roles)
    }
}

/// From the roles that are referred to. What PostgreSQL's own roles are members of is the server's matter, and a restore's logins are gone soon.
const ROLES: &str = "
    listed(oid) AS (
        SELECT f.oid FROM referenced f JOIN pg_catalog.pg_roles r ON r.oid = f.oid
         UNION
        SELECT m.roleid FROM listed l JOIN pg_catalog.pg_auth_members m ON m.member = l.oid AND l.oid >= 16384)
    SELECT r.rolname::text, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication, r.rolbypassrls,
           COALESCE(o.roles, '{}'), COALESCE(o.admin, '{}'), COALESCE(o.inherit, '{}'), COALESCE(o.set, '{}'),
           ARRAY(SELECT u.rolname::text FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles u ON u.oid = m.member
                  WHERE m.roleid = r.oid AND r.oid >= 16384 AND NOT u.rolsuper AND u.rolname !~ '^tenure_loader_'
                    AND u.oid NOT IN (SELECT l.oid FROM listed l)
                    AND EXISTS (SELECT FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
                                 WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid = r.oid AND s.deptype = 'o'
                                   AND (s.dbid = d.oid OR (s.dbid = 0 AND s.objid = d.oid)))
                  GROUP BY u.rolname)
      FROM listed f JOIN pg_catalog.pg_roles r ON r.oid = f.oid
      LEFT JOIN LATERAL (
           SELECT pg_catalog.array_agg(g.name) AS roles, pg_catalog.array_agg(g.admin) AS admin, pg_catalog.array_agg(g.inherit) AS inherit,
                  pg_catalog.array_agg(g.set) AS set
             FROM (SELECT x.rolname::text AS name, pg_catalog.bool_or(m.admin_option) AS admin,
                          COALESCE(pg_catalog.bool_or((pg_catalog.to_jsonb(m) ->> 'inherit_option')::boolean), r.rolinherit) AS inherit,
                          COALESCE(pg_catalog.bool_or((pg_catalog.to_jsonb(m) ->> 'set_option')::boolean), true) AS set
                     FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles x ON x.oid = m.roleid JOIN listed l ON l.oid = x.oid
                    WHERE m.member = r.oid GROUP BY x.rolname) AS g) AS o ON true";
