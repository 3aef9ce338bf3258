//! The database itself: what `CREATE DATABASE` and `ALTER DATABASE` would make.

use super::{Catalog, CatalogError};
use crate::format::description::{Database, SecurityLabel, Setting};

impl Catalog<'_> {
    /// The properties of the connected database.
    ///
    /// Columns differ between major versions, so the row is read as JSON.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn database(&self) -> Result<Database, CatalogError> {
        let sql = "SELECT d.datname::text, pg_catalog.pg_get_userbyid(d.datdba)::text, pg_catalog.pg_encoding_to_char(d.encoding)::text, \
               COALESCE(j.row ->> 'datlocprovider', 'c'), d.datcollate::text, d.datctype::text, \
               COALESCE(j.row ->> 'datlocale', j.row ->> 'daticulocale'), j.row ->> 'daticurules', \
               NULLIF(s.spcname::text, 'pg_default'), d.datconnlimit, d.datistemplate, \
               pg_catalog.shobj_description(d.oid, 'pg_database'), d.datacl::text[] \
             FROM pg_catalog.pg_database d \
             CROSS JOIN LATERAL (SELECT pg_catalog.to_jsonb(d)) AS j(row) \
             LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = d.dattablespace \
             WHERE d.datname = pg_catalog.current_database()";
        let database = self
            .row("properties", sql, &[], |row| {
                Ok(Database {
                    name: row.try_get(0)?,
                    owner: row.try_get(1)?,
                    encoding: row.try_get(2)?,
                    locale_provider: row.try_get(3)?,
                    collate: row.try_get(4)?,
                    ctype: row.try_get(5)?,
                    locale: row.try_get(6)?,
                    icu_rules: row.try_get(7)?,
                    tablespace: row.try_get(8)?,
                    connection_limit: row.try_get(9)?,
                    is_template: row.try_get(10)?,
                    comment: row.try_get(11)?,
                    acl: row.try_get(12)?,
                    settings: Vec::new(),
                    security_labels: Vec::new(),
                })
            })
            .await?;
        Ok(Database { settings: self.settings().await?, security_labels: self.security_labels().await?, ..database })
    }

    /// Sorted by role and setting; those for everyone first.
    async fn settings(&self) -> Result<Vec<Setting>, CatalogError> {
        let sql = "SELECT r.rolname::text, u.item FROM pg_catalog.pg_db_role_setting s \
             JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase AND d.datname = pg_catalog.current_database() \
             LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole \
             CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS u(item) \
             WHERE s.setrole = 0 OR r.oid IS NOT NULL";
        let mut settings = self
            .rows("settings", sql, &[], |row| {
                let item: String = row.try_get(1)?;
                let (name, value) = item.split_once('=').unwrap_or((&item, ""));
                Ok(Setting { role: row.try_get(0)?, name: name.to_owned(), value: value.to_owned() })
            })
            .await?;
        settings.sort_unstable();
        Ok(settings)
    }

    async fn security_labels(&self) -> Result<Vec<SecurityLabel>, CatalogError> {
        let sql = "SELECT l.provider, l.label FROM pg_catalog.pg_shseclabel l \
             JOIN pg_catalog.pg_database d ON d.oid = l.objoid AND d.datname = pg_catalog.current_database() \
             WHERE l.classoid = 'pg_catalog.pg_database'::regclass";
        let mut labels = self
            .rows("security labels", sql, &[], |row| Ok(SecurityLabel { provider: row.try_get(0)?, label: row.try_get(1)? }))
            .await?;
        labels.sort_unstable();
        Ok(labels)
    }
}
