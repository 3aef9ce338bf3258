//! Types that rows are written by.
//!
//! A table's lock keeps the table as it is, and not the types of its columns: the server writes an enum's value by the label that it
//! has now, and a composite value with the attributes that its type has now, whatever the snapshot sees. No lock can be taken on a
//! type, so what the snapshot sees is compared with what there is when everything has been read.

use tokio_postgres::{Client, Error};

/// What of the types that the snapshot sees must not have changed at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Types {
    /// OIDs of enum labels.
    labels: Vec<u32>,
    /// Composite types, and views and the like whose rows may be values.
    composites: Vec<u32>,
    /// Of the versions of their rows in the catalogs.
    digest: String,
}

impl Types {
    /// As the transaction's snapshot sees them.
    pub async fn seen(client: &Client) -> Result<Self, Error> {
        // Tables are locked; what changes no value may change: other views, labels that are added.
        let sql = "SELECT ARRAY(SELECT e.oid FROM pg_catalog.pg_enum e ORDER BY e.oid), \
             ARRAY(SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_type t ON t.oid = c.reltype \
               WHERE c.relkind = 'c' OR c.relkind IN ('v', 'm', 'f') AND c.oid >= 16384 \
                 AND EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_type'::regclass \
                   AND d.refobjid IN (t.oid, t.typarray) AND d.classid IN ('pg_catalog.pg_class'::regclass, 'pg_catalog.pg_type'::regclass) \
                   AND d.deptype = 'n') \
               ORDER BY c.oid)";
        let row = client.query_one(sql, &[]).await?;
        let (labels, composites) = (row.try_get(0)?, row.try_get(1)?);
        let digest = digest(client, &labels, &composites).await?;
        Ok(Self { labels, composites, digest })
    }

    /// Whether they are the same to a session outside the snapshot's transaction.
    pub async fn are_the_same(&self, client: &Client) -> Result<bool, Error> {
        Ok(digest(client, &self.labels, &self.composites).await? == self.digest)
    }
}

/// A changed row is a new row with another `xmin`, even when it was changed back.
async fn digest(client: &Client, labels: &Vec<u32>, composites: &Vec<u32>) -> Result<String, Error> {
    if labels.is_empty() && composites.is_empty() {
        return Ok(String::new());
    }
    let sql = "SELECT pg_catalog.md5(COALESCE(pg_catalog.string_agg(v.version, ',' ORDER BY v.version COLLATE \"C\"), '')) FROM ( \
           SELECT e.oid::text || ' ' || e.xmin::text FROM pg_catalog.pg_enum e WHERE e.oid = ANY ($1) \
           UNION ALL SELECT a.attrelid::text || '.' || a.attnum || ' ' || a.xmin::text FROM pg_catalog.pg_attribute a \
             WHERE a.attrelid = ANY ($2) AND a.attnum > 0) AS v(version)";
    client.query_one(sql, &[labels, composites]).await?.try_get(0)
}
