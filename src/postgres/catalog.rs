//! What the catalogs say about a database, read inside its snapshot.
//!
//! One query per kind of thing, whatever the number of tables.

pub mod database;
pub mod large_objects;
pub mod objects;
pub mod relations;
pub mod roles;
pub mod sequences;

use tokio_postgres::{Client, Row, types::ToSql};

/// A catalog that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the {what} of database {database:?}")]
pub struct CatalogError {
    /// What was asked for.
    pub what: &'static str,
    /// The database.
    pub database: String,
    /// What the server or the connection said.
    #[source]
    pub source: tokio_postgres::Error,
}

/// Condition on `pg_namespace n`: a schema that `pg_dump` carries. A user cannot make one that begins with `pg_`.
const DUMPED_SCHEMA: &str = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// The leader's connection, in its snapshot.
#[derive(Clone, Copy)]
pub struct Catalog<'a> {
    client: &'a Client,
    database: &'a str,
}

impl<'a> Catalog<'a> {
    /// The catalogs as `client`'s transaction sees them; `database` is for messages.
    #[must_use]
    pub fn new(client: &'a Client, database: &'a str) -> Self {
        Self { client, database }
    }

    async fn rows<T>(
        &self,
        what: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
        decode: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
    ) -> Result<Vec<T>, CatalogError> {
        let failed = |source| CatalogError { what, database: self.database.to_owned(), source };
        let rows = self.client.query(sql, parameters).await.map_err(failed)?;
        rows.iter().map(decode).collect::<Result<_, _>>().map_err(failed)
    }

    async fn row<T>(
        &self,
        what: &'static str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
        decode: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, CatalogError> {
        let failed = |source| CatalogError { what, database: self.database.to_owned(), source };
        self.client.query_one(sql, parameters).await.and_then(|row| decode(&row)).map_err(failed)
    }
}
