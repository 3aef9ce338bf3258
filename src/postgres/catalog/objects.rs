//! Extensions, and objects that a restore may refuse or must bring last.

use super::{Catalog, CatalogError, DUMPED_SCHEMA};
use crate::format::description::Extension;

/// Condition on an object `o` of the catalog named: it belongs to no extension.
fn no_extension_member(catalog: &str) -> String {
    format!(
        "NOT EXISTS (SELECT FROM pg_catalog.pg_depend m WHERE m.classid = 'pg_catalog.{catalog}'::regclass AND m.objid = o.oid \
         AND m.refclassid = 'pg_catalog.pg_extension'::regclass AND m.deptype = 'e')"
    )
}

impl Catalog<'_> {
    /// Installed extensions, sorted by name.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn extensions(&self) -> Result<Vec<Extension>, CatalogError> {
        let sql = "SELECT e.extname::text, e.extversion, n.nspname::text FROM pg_catalog.pg_extension e \
             JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace";
        let mut extensions = self
            .rows("extensions", sql, &[], |row| {
                Ok(Extension { name: row.try_get(0)?, version: row.try_get(1)?, schema: row.try_get(2)? })
            })
            .await?;
        extensions.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(extensions)
    }

    /// `schema.name(arguments)` of functions in a language that runs with the server's rights and that belong to no extension, sorted.
    /// Aggregates are made of other functions, and the constructors of a range type come with the type.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn untrusted_functions(&self) -> Result<Vec<String>, CatalogError> {
        let sql = format!(
            "SELECT n.nspname || '.' || o.proname || '(' || pg_catalog.pg_get_function_identity_arguments(o.oid) || ')' \
             FROM pg_catalog.pg_proc o JOIN pg_catalog.pg_namespace n ON n.oid = o.pronamespace \
             JOIN pg_catalog.pg_language l ON l.oid = o.prolang \
             WHERE NOT l.lanpltrusted AND o.prokind <> 'a' AND {DUMPED_SCHEMA} \
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend i WHERE i.classid = 'pg_catalog.pg_proc'::regclass AND i.objid = o.oid AND i.deptype = 'i') \
             AND {}",
            no_extension_member("pg_proc")
        );
        self.sorted_names("functions", &sql).await
    }

    /// Event triggers that belong to no extension, sorted.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn event_triggers(&self) -> Result<Vec<String>, CatalogError> {
        let sql = format!(
            "SELECT o.evtname::text FROM pg_catalog.pg_event_trigger o WHERE {}",
            no_extension_member("pg_event_trigger")
        );
        self.sorted_names("event triggers", &sql).await
    }

    /// Subscriptions of this database, sorted. Their connection strings are for superusers and not asked for.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn subscriptions(&self) -> Result<Vec<String>, CatalogError> {
        let sql = "SELECT s.subname::text FROM pg_catalog.pg_subscription s \
             JOIN pg_catalog.pg_database d ON d.oid = s.subdbid AND d.datname = pg_catalog.current_database()";
        self.sorted_names("subscriptions", sql).await
    }

    /// `schema.name` of tables that users put into schemas of the system, which `pg_dump` leaves out, sorted.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn tables_in_system_schemas(&self) -> Result<Vec<String>, CatalogError> {
        let sql = format!(
            "SELECT n.nspname || '.' || o.relname FROM pg_catalog.pg_class o JOIN pg_catalog.pg_namespace n ON n.oid = o.relnamespace \
             WHERE o.relkind = 'r' AND o.oid >= 16384 AND n.nspname IN ('pg_catalog', 'information_schema') AND {}",
            no_extension_member("pg_class")
        );
        self.sorted_names("tables in system schemas", &sql).await
    }

    async fn sorted_names(&self, what: &'static str, sql: &str) -> Result<Vec<String>, CatalogError> {
        let mut names: Vec<String> = self.rows(what, sql, &[], |row| row.try_get(0)).await?;
        names.sort_unstable();
        Ok(names)
    }
}
