//! Roles that a database refers to.

use super::{Catalog, CatalogError};
use crate::format::description::Role;

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
    /// Roles that the database refers to as owner, grantee, grantor, in a policy, a mapping or a setting, sorted by name.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn roles(&self) -> Result<Vec<Role>, CatalogError> {
        let sql = format!(
            "WITH referenced(oid) AS ({}) \
             SELECT r.rolname::text, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication, r.rolbypassrls, \
               ARRAY(SELECT DISTINCT g.rolname::text FROM pg_catalog.pg_auth_members m \
                 JOIN pg_catalog.pg_roles g ON g.oid = m.roleid JOIN referenced x ON x.oid = g.oid WHERE m.member = r.oid) \
             FROM referenced f JOIN pg_catalog.pg_roles r ON r.oid = f.oid",
            referenced()
        );
        let mut roles = self
            .rows("roles", &sql, &[], |row| {
                let mut member_of: Vec<String> = row.try_get(8)?;
                member_of.sort_unstable();
                Ok(Role {
                    name: row.try_get(0)?,
                    superuser: row.try_get(1)?,
                    inherit: row.try_get(2)?,
                    create_role: row.try_get(3)?,
                    create_db: row.try_get(4)?,
                    login: row.try_get(5)?,
                    replication: row.try_get(6)?,
                    bypass_rls: row.try_get(7)?,
                    member_of,
                })
            })
            .await?;
        roles.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(roles)
    }
}
